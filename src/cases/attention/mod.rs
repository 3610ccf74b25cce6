//! Rotary embedding, the KV cache, and attention in one pass and in three.

pub(super) mod parts;

use super::compare::to_words;
use super::data::{self, sequences, strided, token_rows};
use super::launch::{Device, Launch, POISON, STRAY};
use super::{ONE_OP, Outcome, Table, Tolerance};
use crate::error::Result;
use crate::graph::{Mask, Token};
use crate::reference::{self, Heads};
use crate::shader::{Kernel, Tile, Variant};

/// What a masked score holds.
const MASKED: f32 = -3.0e38;

/// A batch over caches of earlier tokens.
#[derive(Clone, Copy)]
struct Setting {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
    mask: Mask,
    /// Per sequence: first position and number of tokens in the batch.
    parts: &'static [(u32, u32)],
}

const fn setting(
    (heads, kv_heads, head_dim): (usize, usize, usize),
    context: usize,
    mask: Mask,
    parts: &'static [(u32, u32)],
) -> Setting {
    Setting { heads, kv_heads, head_dim, context, mask, parts }
}

/// Several sequences of different lengths, prefill and decode, positions beyond a workgroup, grouped heads; windows of
/// one position, of as many as a block has, odd ones and one longer than any sequence; whole sequences.
const SETTINGS: [Setting; 23] = [
    setting((4, 2, 8), 40, Mask::Causal, &[(0, 5), (11, 1), (3, 3)]),
    setting((4, 4, 32), 300, Mask::Causal, &[(299, 1), (0, 1), (126, 3)]),
    setting((6, 2, 80), 70, Mask::Causal, &[(30, 4), (64, 1)]),
    setting((3, 1, 128), 33, Mask::Causal, &[(31, 2), (0, 2)]),
    setting((1, 1, 8), 1, Mask::Causal, &[(0, 1)]),
    setting((8, 1, 8), 520, Mask::Causal, &[(255, 3), (510, 2), (127, 1)]),
    setting((2, 2, 32), 140, Mask::Causal, &[(0, 131)]),
    setting((4, 2, 10), 30, Mask::Causal, &[(2, 3), (25, 1)]),
    setting((5, 5, 8), 9, Mask::Causal, &[(1, 2), (0, 9), (8, 1), (4, 4)]),
    setting((4, 1, 64), 50, Mask::Causal, &[(0, 19), (40, 1), (7, 12)]),
    setting((1, 1, 232), 20, Mask::Causal, &[(9, 1), (0, 11)]),
    setting((2, 1, 32), 20, Mask::Causal, &[(19, 1), (0, 1), (7, 1), (3, 14)]),
    setting((4, 2, 8), 40, Mask::Window(3), &[(0, 5), (11, 1), (3, 3)]),
    setting((4, 4, 32), 300, Mask::Window(64), &[(299, 1), (0, 1), (126, 3)]),
    setting((6, 2, 80), 70, Mask::Window(7), &[(30, 4), (64, 1), (0, 13)]),
    setting((2, 2, 32), 140, Mask::Window(11), &[(0, 131)]),
    setting((3, 1, 10), 30, Mask::Window(1), &[(2, 3), (25, 1), (0, 7)]),
    setting((5, 5, 8), 9, Mask::Window(8), &[(1, 2), (0, 9), (8, 1), (4, 4)]),
    setting((2, 1, 64), 50, Mask::Window(500), &[(0, 19), (40, 1), (7, 12)]),
    setting((4, 4, 8), 40, Mask::Full, &[(0, 5), (0, 1), (0, 13)]),
    setting((3, 3, 32), 300, Mask::Full, &[(0, 131), (0, 7)]),
    setting((2, 1, 10), 20, Mask::Full, &[(0, 11), (0, 20)]),
    setting((1, 1, 128), 1, Mask::Full, &[(0, 1), (0, 1), (0, 1)]),
];

impl Setting {
    fn shape(&self) -> String {
        let Self { heads, kv_heads, head_dim, context, mask, .. } = self;
        let mask = match mask {
            Mask::Causal => String::new(),
            Mask::Window(window) => format!(", window {window}"),
            Mask::Full => ", whole sequences".into(),
        };
        let tokens: Vec<String> =
            self.parts.iter().map(|(first, count)| format!("{first}+{count}")).collect();
        format!(
            "{heads}/{kv_heads} heads of {head_dim}, context {context}{mask}, positions {}",
            tokens.join(" ")
        )
    }

    fn tokens(&self) -> Vec<Token> {
        sequences(self.parts)
    }

    fn heads(&self) -> Heads {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let &Self { heads, kv_heads, head_dim, mask, .. } = self;
        Heads { heads, kv_heads, head_dim, scale, mask }
    }

    fn queries(&self) -> Vec<f32> {
        let mut q = data::values(self.tokens().len() * self.heads().width(), 31);
        q.iter_mut().for_each(|v| *v *= 2.0);
        q
    }

    /// A cache `[sequences, context, kv_width]`; slots that are not filled yet hold stray values.
    fn cache(&self, seed: usize) -> Vec<f32> {
        let (rows, width) = (self.context, self.heads().kv_width());
        let mut cache = data::values(self.parts.len() * rows * width, seed);
        for ((first, count), slot) in self.parts.iter().zip(cache.chunks_mut(rows * width)) {
            slot[(first + count) as usize * width..].fill(f32::from_bits(STRAY));
        }
        cache
    }

    /// The same cache as the device holds it: heads padded with zeros to whole vec4.
    fn on_device(&self, cache: &[f32]) -> Vec<u32> {
        strided(cache, self.head_dim, self.head_dim.next_multiple_of(4), 0)
    }

    /// The mask as `lib/mask.wgsl` reads it.
    fn window(&self) -> u32 {
        match self.mask {
            Mask::Full => 0,
            Mask::Causal => u32::MAX,
            Mask::Window(window) => window as u32,
        }
    }

    fn params(&self, x_stride: usize, x_offset: usize, y_stride: usize) -> [(&'static str, u32); 11] {
        [
            ("m", self.tokens().len() as u32),
            ("heads", self.heads as u32),
            ("kv_heads", self.kv_heads as u32),
            ("head_dim", self.head_dim as u32),
            ("context", self.context as u32),
            ("span", self.context as u32),
            ("window", self.window()),
            ("scale", self.heads().scale.to_bits()),
            ("x_stride", x_stride as u32),
            ("x_offset", x_offset as u32),
            ("y_stride", y_stride as u32),
        ]
    }

    /// For every sequence: its index, the rows of the batch, the first position and its slot of a cache.
    fn each<'a>(&self, cache: &'a [f32], mut f: impl FnMut(std::ops::Range<usize>, usize, &'a [f32])) {
        let slot = self.context * self.heads().kv_width();
        let mut begin = 0;
        for ((first, count), cache) in self.parts.iter().zip(cache.chunks(slot)) {
            f(begin..begin + *count as usize, *first as usize, cache);
            begin += *count as usize;
        }
    }

    /// The operands of a kernel that attends: queries `x_stride` apart from column `offset` on.
    fn launch<'a>(
        &self,
        gpu: &'a Device<'a>,
        (q, keys, values): (&[f32], &[f32], &[f32]),
        offset: usize,
        x_stride: usize,
    ) -> Result<Launch<'a>> {
        let mut launch = Launch::new(gpu);
        launch
            .input("x", &shifted(q, self.heads().width(), offset, x_stride))?
            .input("tokens", &token_rows(&self.tokens()))?
            .input("k_cache", &self.on_device(keys))?
            .input("v_cache", &self.on_device(values))?;
        Ok(launch)
    }

    /// Attention of the whole batch `[T, heads * head_dim]` by the reference.
    fn attention(&self, q: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let (width, slot) = (self.heads().width(), self.context * self.heads().kv_width());
        let mut slots = values.chunks(slot);
        let mut all = Vec::new();
        self.each(keys, |rows, first, keys| {
            let q = &q[rows.start * width..rows.end * width];
            let values = slots.next().unwrap_or_default();
            all.extend(reference::attention(q, keys, values, self.heads(), first));
        });
        all
    }

    /// Scores `[T * heads, context]`; masked and unfilled positions as the kernel leaves them.
    fn scores(&self, q: &[f32], keys: &[f32]) -> Vec<f32> {
        let (shape, width) = (self.heads(), self.heads().width());
        let mut all = Vec::new();
        self.each(keys, |rows, first, keys| {
            let positions = first + rows.len();
            let q = &q[rows.start * width..rows.end * width];
            for row in reference::attention_scores(q, keys, shape, first).chunks(positions) {
                all.extend(row.iter().map(|&s| if s == f32::NEG_INFINITY { MASKED } else { s }));
                all.extend(std::iter::repeat_n(MASKED, self.context - positions));
            }
        });
        all
    }
}

/// Queries behind a few columns of something else, as in a slice of a fused projection.
fn shifted(x: &[f32], width: usize, offset: usize, stride: usize) -> Vec<u32> {
    let mut words = vec![STRAY; offset];
    words.extend(strided(x, width, stride, STRAY));
    words
}

fn flat(kernel: Kernel) -> Variant {
    Variant::plain(kernel, Tile::elementwise())
}

/// Pairs of cosine and sine of the first `positions` positions of heads of `2 * frequency.len()`.
fn rotation_table(frequency: &[f32], positions: u32) -> Vec<f32> {
    let angles = (0..positions).flat_map(|p| frequency.iter().map(move |f| f64::from(p) * f64::from(*f)));
    angles.flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect()
}

fn frequencies(half: usize) -> Vec<f32> {
    (0..half).map(|i| 10_000f32.powf(-(i as f32) / half as f32)).collect()
}

pub(super) fn rope_to_caches(table: &mut Table) {
    for (setting, queries) in SETTINGS.iter().flat_map(|setting| [(*setting, 1), (*setting, 0)]) {
        if setting.head_dim % 16 != 0 {
            continue;
        }
        let name = if queries == 0 { "keys alone" } else { "" };
        table.add(name, setting.shape(), Tolerance::Nmse(ONE_OP), move |gpu| {
            let (tokens, half) = (setting.tokens(), setting.head_dim / 2);
            let (q_width, width) = (setting.heads * setting.head_dim, setting.heads().kv_width());
            let frequency = frequencies(half);
            let of = |width: usize, seed| data::values(tokens.len() * width, seed);
            let (q, k, v) = (of(q_width, 50), of(width, 51), of(width, 52));
            let (x_stride, k_stride, v_stride, y_stride) =
                (q_width + 24, width + 24, width + 32, q_width + 8);
            let words = setting.parts.len() * setting.context * width;
            let mut launch = Launch::new(gpu);
            launch
                .input("x", &shifted(&q, q_width, 16, x_stride))?
                .input("k", &shifted(&k, width, 8, k_stride))?
                .input("v", &shifted(&v, width, 24, v_stride))?
                .input("tokens", &token_rows(&tokens))?
                .input("rotation", &rotation_table(&frequency, setting.context as u32))?
                .output("y", tokens.len() * y_stride)?
                .output("k_cache", words)?
                .output("v_cache", words)?;
            let params = [
                ("m", tokens.len() as u32),
                ("heads", setting.heads as u32),
                ("kv_heads", setting.kv_heads as u32),
                ("half_dim", half as u32),
                ("context", setting.context as u32),
                ("x_stride", x_stride as u32),
                ("x_offset", 16),
                ("k_stride", k_stride as u32),
                ("k_offset", 8),
                ("v_stride", v_stride as u32),
                ("v_offset", 24),
                ("y_stride", y_stride as u32),
            ];
            let variant = flat(Kernel::RopeQkvWide).constant("QUERIES", queries);
            let elements = queries as usize * q.len() + k.len();
            let got = launch.elementwise(&variant, &params, elements / 16)?.finish()?.concat();
            let positions: Vec<u32> = tokens.iter().map(|t| t.position).collect();
            let mut want = match queries {
                0 => vec![POISON; tokens.len() * y_stride],
                _ => {
                    let rotated = reference::rope(&q, &positions, setting.heads, &frequency);
                    strided(&rotated, q_width, y_stride, POISON)
                }
            };
            let keys = reference::rope(&k, &positions, setting.kv_heads, &frequency);
            for rows in [&keys, &v] {
                let mut cache = vec![POISON; words];
                for (token, row) in tokens.iter().zip(rows.chunks(width)) {
                    let slot = token.sequence as usize * setting.context + token.position as usize;
                    cache[slot * width..][..width].iter_mut().zip(row).for_each(|(to, v)| *to = v.to_bits());
                }
                want.extend(cache);
            }
            Ok(Outcome::floats(got, want, width))
        });
    }
}

pub(super) fn rope(table: &mut Table) {
    let (kernel, share) = (table.kernel, if table.kernel == Kernel::RopeWide { 8 } else { 1 });
    for (heads, head_dim) in [(3, 8), (1, 2), (5, 32), (2, 80), (1, 24), (3, 16)] {
        if head_dim / 2 % share != 0 {
            continue;
        }
        let shape = format!("{heads} heads of {head_dim}");
        table.add("", shape, Tolerance::Nmse(ONE_OP), move |gpu| {
            let tokens = sequences(&[(0, 3), (126, 4), (9, 1)]);
            let (half, width) = (head_dim / 2, heads * head_dim);
            let frequency = frequencies(half);
            let rotation = rotation_table(&frequency, 130);
            let x = data::values(tokens.len() * width, 41);
            let (offset, x_stride, y_stride) = match share {
                1 => (4, width + 7, width + 5),
                _ => (8, width + 16, width + 24),
            };
            let mut launch = Launch::new(gpu);
            launch
                .input("x", &shifted(&x, width, offset, x_stride))?
                .input("tokens", &token_rows(&tokens))?
                .input("rotation", &rotation)?
                .output("y", tokens.len() * y_stride)?;
            let params = [
                ("m", tokens.len() as u32),
                ("heads", heads as u32),
                ("half_dim", half as u32),
                ("x_stride", x_stride as u32),
                ("x_offset", offset as u32),
                ("y_stride", y_stride as u32),
            ];
            let got = launch.elementwise(&flat(kernel), &params, x.len() / 2 / share)?.single()?;
            let positions: Vec<u32> = tokens.iter().map(|t| t.position).collect();
            let want = reference::rope(&x, &positions, heads, &frequency);
            Ok(Outcome::floats(got, strided(&want, width, y_stride, POISON), y_stride))
        });
    }
}

pub(super) fn kv_write(table: &mut Table) {
    let (kernel, share) = (table.kernel, if table.kernel == Kernel::KvWriteQuads { 4 } else { 1 });
    for setting in SETTINGS {
        if setting.head_dim % share != 0 {
            continue;
        }
        table.add("", setting.shape(), Tolerance::Exact, move |gpu| {
            let (tokens, width) = (setting.tokens(), setting.heads().kv_width());
            let x = data::values(tokens.len() * width, 51);
            let (offset, x_stride) = if share == 1 { (3, width + 7) } else { (8, width + 12) };
            let stride = setting.head_dim.next_multiple_of(4);
            let mut launch = Launch::new(gpu);
            launch
                .input("x", &shifted(&x, width, offset, x_stride))?
                .input("tokens", &token_rows(&tokens))?
                .output("cache", setting.parts.len() * setting.context * setting.kv_heads * stride)?;
            let params = [
                ("m", tokens.len() as u32),
                ("width", width as u32),
                ("head_dim", setting.head_dim as u32),
                ("context", setting.context as u32),
                ("x_stride", x_stride as u32),
                ("x_offset", offset as u32),
            ];
            let got = launch.elementwise(&flat(kernel), &params, x.len() / share)?.single()?;
            let mut want = vec![POISON; got.len()];
            for (token, row) in tokens.iter().zip(x.chunks(width)) {
                let slot = token.sequence as usize * setting.context + token.position as usize;
                let heads = want.chunks_mut(stride).skip(slot * setting.kv_heads);
                for (to, head) in heads.zip(row.chunks(setting.head_dim)) {
                    to.iter_mut().zip(head).for_each(|(to, v)| *to = v.to_bits());
                }
            }
            Ok(Outcome::floats(got, want, setting.kv_heads * stride))
        });
    }
}

pub(super) fn scores(table: &mut Table) {
    for setting in SETTINGS {
        table.add("", setting.shape(), Tolerance::Nmse(ONE_OP), move |gpu| {
            let (q, keys, width) = (setting.queries(), setting.cache(32), setting.heads().width());
            let (tokens, offset, stride) = (setting.tokens(), 4, width + 7);
            let elements = tokens.len() * setting.heads * setting.context;
            let mut launch = Launch::new(gpu);
            launch
                .input("x", &shifted(&q, width, offset, stride))?
                .input("tokens", &token_rows(&tokens))?
                .input("k_cache", &setting.on_device(&keys))?
                .output("scores", elements)?;
            let params = setting.params(stride, offset, 0);
            let mut got = launch.elementwise(&flat(Kernel::AttentionScores), &params, elements)?.single()?;
            let mut want = to_words(&setting.scores(&q, &keys));
            // A mask that is right must not swamp the mean over the others.
            for (got, want) in got.iter_mut().zip(&mut want) {
                if *got == MASKED.to_bits() && *want == MASKED.to_bits() {
                    (*got, *want) = (0, 0);
                }
            }
            Ok(Outcome::floats(got, want, setting.context))
        });
    }
}

fn values_pass(setting: Setting, gpu: &Device) -> Result<Outcome> {
    let (q, keys, cache, width) =
        (setting.queries(), setting.cache(32), setting.cache(33), setting.heads().width());
    let weights = reference::softmax(&setting.scores(&q, &keys), setting.context);
    let (tokens, y_stride) = (setting.tokens(), width + 5);
    let mut launch = Launch::new(gpu);
    launch
        .input("scores", &weights)?
        .input("tokens", &token_rows(&tokens))?
        .input("v_cache", &setting.on_device(&cache))?
        .output("y", tokens.len() * y_stride)?;
    let params = setting.params(0, 0, y_stride);
    let got = launch.elementwise(&flat(Kernel::AttentionValues), &params, tokens.len() * width)?.single()?;
    let mut want = Vec::new();
    setting.each(&cache, |rows, first, cache| {
        let positions = first + rows.len();
        let heads = rows.start * setting.heads..rows.end * setting.heads;
        let seen = weights.chunks(setting.context).skip(heads.start).take(heads.len());
        let weights: Vec<f32> = seen.flat_map(|row| &row[..positions]).copied().collect();
        want.extend(reference::attention_values(&weights, cache, setting.heads(), positions));
    });
    Ok(Outcome::floats(got, strided(&want, width, y_stride, POISON), y_stride))
}

pub(super) fn values(table: &mut Table) {
    for setting in SETTINGS {
        table.add("", setting.shape(), Tolerance::Nmse(ONE_OP), move |gpu| values_pass(setting, gpu));
    }
}

pub(super) fn fused(table: &mut Table) {
    let kernel = table.kernel;
    let direct = kernel == Kernel::AttentionDirect;
    for setting in SETTINGS {
        if direct && !setting.head_dim.is_multiple_of(8) {
            continue;
        }
        fused_case(table, setting, 1);
        if direct && (setting.heads / setting.kv_heads).is_multiple_of(2) {
            fused_case(table, setting, 2);
        }
    }
}

/// `heads` of one tile, which only the kernel of tiles asks for.
fn fused_case(table: &mut Table, setting: Setting, heads: usize) {
    let kernel = table.kernel;
    let direct = kernel == Kernel::AttentionDirect;
    let of_two = if heads == 2 { " two heads" } else { "" };
    let variant = format!("head_dim {}{of_two}", setting.head_dim);
    table.add(variant, setting.shape(), Tolerance::Nmse(ONE_OP), move |gpu| {
        let (q, width) = (setting.queries(), setting.heads().width());
        let (keys, cache) = (setting.cache(32), setting.cache(33));
        // The kernel of tiles wants multiples of four.
        let (x_stride, y_stride) = if direct { (width + 12, width + 8) } else { (width + 7, width + 5) };
        let (tokens, offset) = (setting.tokens(), 4);
        let mut launch = setting.launch(gpu, (&q, &keys, &cache), offset, x_stride)?;
        launch.output("y", tokens.len() * y_stride)?;
        let tile = if direct { Tile::attention_direct() } else { Tile::attention(gpu.class()) };
        let mut variant = Variant::plain(kernel, tile).constant("HEAD_DIM", setting.head_dim as u32);
        if direct {
            variant = variant.constant("HEADS", heads as u32);
        }
        let params = setting.params(x_stride, offset, y_stride);
        let groups = (tokens.len().div_ceil(tile.tile_m as usize) * (setting.heads / heads)) as u64;
        let got = launch.dispatch(&variant, &[], &params, groups)?.single()?;
        let want = setting.attention(&q, &keys, &cache);
        Ok(Outcome::floats(got, strided(&want, width, y_stride, POISON), y_stride))
    });
}
