//! Lowering of attention: one fused kernel, or scores, softmax and values.

use super::fusion::Step;
use super::plan::Lowering;
use super::values::{Value, whole_pairs, whole_quads};
use crate::error::{Error, Result, invalid};
use crate::gpu::Buffer;
use crate::graph::{Mask, NodeId, Op};
use crate::shader::{DeviceClass, Kernel, Tile, Variant};

// Chosen by what such devices have, not measured on one yet.
/// Workgroups that occupy a large GPU.
const MANY_WORKGROUPS: usize = 512;
/// Positions of the context for each part: fewer would not pay for joining them.
const POSITIONS_PER_PART: usize = 256;
/// Rows from which two heads that share keys are one tile on software drivers: its kernel takes longer to compile.
const ROWS_OF_TWO_HEADS: usize = 256;
/// Rows up to which queries and keys are rotated by one dispatch on software drivers.
const ROWS_ROTATED_TOGETHER: usize = 8;
/// Largest heads of which two are one tile, as its kernel writes them out.
const LARGEST_OF_TWO: usize = 128;
/// Largest head of a tile, likewise.
const LARGEST_HEAD: usize = 256;
/// More parts would take longer to join than they save.
const MOST_PARTS: usize = 32;

/// Into how many parts the positions are divided where `rows` (token, head) pairs are too few workgroups for a GPU.
fn parts(class: DeviceClass, rows: usize, context: usize) -> usize {
    match class {
        DeviceClass::Gpu => {
            (MANY_WORKGROUPS / rows.max(1)).min(context / POSITIONS_PER_PART).clamp(1, MOST_PARTS)
        }
        DeviceClass::Cpu => 1,
    }
}

impl Lowering<'_> {
    /// Writes the keys and values of the batch to the caches, with the rotation of queries and keys where the step says so,
    /// then attends.
    pub(super) fn attention(&mut self, step: &Step, y: &Value) -> Result<()> {
        let node = &self.c.graph.nodes[step.node];
        let Op::Attention { layer, head_dim, .. } = node.op else { invalid!("not an attention node") };
        let &[q, k, v] = &node.inputs[..] else { invalid!("attention needs q, k and v") };
        let caches = self.c.caches[layer].clone();
        let v = self.value(v)?.clone();
        let Some(sources) = step.rotated else {
            let (q, k) = (self.value(q)?.clone(), self.value(k)?.clone());
            self.cache(&k, head_dim, &caches.0)?;
            self.cache(&v, head_dim, &caches.1)?;
            return self.attend(step, &q, &caches, y);
        };
        let [x, keys] = [self.value(sources[0])?.clone(), self.value(sources[1])?.clone()];
        let queries = self.pool.take(self.c.gpu, &self.c.graph.nodes[q].name, x.rows, x.width)?;
        self.rotate([&x, &keys, &v], k, head_dim, &queries, &caches)?;
        self.attend(step, &queries, &caches, y)?;
        self.pool.give(queries);
        Ok(())
    }

    /// Attention of the queries `q` over the caches of keys and values.
    fn attend(&mut self, step: &Step, q: &Value, caches: &(Buffer, Buffer), y: &Value) -> Result<()> {
        let Op::Attention { heads, kv_heads, head_dim, scale, mask, .. } = self.c.graph.nodes[step.node].op
        else {
            invalid!("not an attention node");
        };
        let (gpu, (k_cache, v_cache)) = (self.c.gpu, caches);
        let span = self.c.context;
        // As `lib/mask.wgsl` reads it.
        let window = match mask {
            Mask::Full => 0,
            Mask::Causal => u32::MAX,
            Mask::Window(window) => u32::try_from(window).unwrap_or(u32::MAX),
        };
        let params = [
            ("m", q.rows as u32),
            ("heads", heads as u32),
            ("kv_heads", kv_heads as u32),
            ("head_dim", head_dim as u32),
            ("context", self.c.context as u32),
            ("span", span as u32),
            ("window", window),
            ("scale", scale.to_bits()),
            ("x_stride", q.stride as u32),
            ("x_offset", q.offset as u32),
            ("y_stride", y.stride as u32),
        ];
        let rows = q.rows * heads;
        if self.c.fused {
            // Rows of one sequence share keys; where sequences bring a row each, tiles would work on one row at a time.
            let sequences =
                k_cache.bytes() as usize / (self.c.context * kv_heads * head_dim.next_multiple_of(4) * 4);
            let shared = q.rows >= 4 * sequences;
            let fits = head_dim.is_multiple_of(8) && head_dim <= LARGEST_HEAD && q.offset.is_multiple_of(4);
            let direct = gpu.class() == DeviceClass::Cpu && gpu.direct() && shared && fits;
            let (kernel, tile) = match direct {
                true => (Kernel::AttentionDirect, Tile::attention_direct()),
                false => (Kernel::Attention, Tile::attention(gpu.class())),
            };
            let mut variant = Variant::plain(kernel, tile).constant("HEAD_DIM", head_dim as u32);
            let pairs = (heads / kv_heads).is_multiple_of(2) && head_dim <= LARGEST_OF_TWO;
            let heads_of_tile = if direct && pairs && q.rows >= ROWS_OF_TWO_HEADS { 2 } else { 1 };
            if direct {
                variant = variant.constant("HEADS", heads_of_tile);
            }
            let buffers = [
                ("x", &q.buffer),
                ("tokens", self.c.tokens),
                ("k_cache", k_cache),
                ("v_cache", v_cache),
                ("y", &y.buffer),
            ];
            let parts = if direct { 1 } else { parts(gpu.class(), rows, self.c.context) };
            if parts > 1 {
                return self.attention_in_parts(parts, head_dim, &buffers, &params, y);
            }
            let groups = q.rows.div_ceil(tile.tile_m as usize) * (heads / heads_of_tile as usize);
            return self.dispatch(&variant, &buffers, &params, groups as u64);
        }
        let (scores, weights) = match self.scores.get(&(rows * span)) {
            Some(pair) => pair.clone(),
            None => {
                let bytes = (rows * span * 4) as u64;
                let pair = (gpu.buffer("attention scores", bytes)?, gpu.buffer("attention weights", bytes)?);
                self.scores.insert(rows * span, pair.clone());
                pair
            }
        };
        let flat = |kernel| Variant::plain(kernel, Tile::elementwise());
        let buffers =
            [("x", &q.buffer), ("tokens", self.c.tokens), ("k_cache", k_cache), ("scores", &scores)];
        self.elementwise(flat(Kernel::AttentionScores), &buffers, &params, rows * span)?;
        let softmax =
            [("m", rows as u32), ("cols", span as u32), ("x_stride", span as u32), ("y_stride", span as u32)];
        self.rowwise(Kernel::Softmax, &[("x", &scores), ("y", &weights)], &softmax, rows)?;
        let buffers =
            [("scores", &weights), ("tokens", self.c.tokens), ("v_cache", v_cache), ("y", &y.buffer)];
        self.elementwise(flat(Kernel::AttentionValues), &buffers, &params, q.rows * heads * head_dim)
    }

    /// Attention over parts of the cache, a workgroup for each, and their sum.
    fn attention_in_parts(
        &mut self,
        parts: usize,
        head_dim: usize,
        buffers: &[(&str, &Buffer)],
        params: &[(&str, u32)],
        y: &Value,
    ) -> Result<()> {
        let heads = y.width / head_dim;
        // The quads of a head and one of (largest score, sum of weights).
        let width = head_dim.next_multiple_of(4) + 4;
        let partial = self.pool.take(self.c.gpu, "attention parts", y.rows * heads * parts, width)?;
        let variant = |kernel, tile| Variant::plain(kernel, tile).constant("HEAD_DIM", head_dim as u32);
        let mut buffers = buffers.to_vec();
        buffers.push(("partial", &partial.buffer));
        let mut params = params.to_vec();
        params.extend([("parts", parts as u32), ("partial_stride", partial.stride as u32)]);
        let part = variant(Kernel::AttentionPart, Tile::attention(self.c.gpu.class()));
        self.dispatch(&part, &buffers, &params, (y.rows * heads * parts) as u64)?;
        let join = variant(Kernel::AttentionJoin, Tile::elementwise());
        self.elementwise(join, &buffers, &params, y.rows * heads * head_dim.div_ceil(4))?;
        self.pool.give(partial);
        Ok(())
    }

    /// Writes rows of keys or values to their places in `cache`.
    fn cache(&mut self, x: &Value, head_dim: usize, cache: &Buffer) -> Result<()> {
        let buffers = [("x", &x.buffer), ("tokens", self.c.tokens), ("cache", cache)];
        let params = [
            ("m", x.rows as u32),
            ("width", x.width as u32),
            ("head_dim", head_dim as u32),
            ("context", self.c.context as u32),
            ("x_stride", x.stride as u32),
            ("x_offset", x.offset as u32),
        ];
        let (kernel, share) = match whole_quads(&[head_dim, x.offset]) {
            true => (Kernel::KvWriteQuads, 4),
            false => (Kernel::KvWrite, 1),
        };
        let variant = Variant::plain(kernel, Tile::elementwise());
        self.elementwise(variant, &buffers, &params, x.rows * x.width / share)
    }

    /// Rotates rows of queries, to `y`, and of keys as node `rope` says, and writes keys and values to their places in the
    /// caches.
    fn rotate(
        &mut self,
        [x, k, v]: [&Value; 3],
        rope: NodeId,
        head_dim: usize,
        y: &Value,
        (k_cache, v_cache): &(Buffer, Buffer),
    ) -> Result<()> {
        let rotation = self.rotation(rope)?;
        let buffers = [
            ("x", &x.buffer),
            ("k", &k.buffer),
            ("v", &v.buffer),
            ("tokens", self.c.tokens),
            ("rotation", &rotation),
            ("y", &y.buffer),
            ("k_cache", k_cache),
            ("v_cache", v_cache),
        ];
        let params = [
            ("m", x.rows as u32),
            ("heads", (x.width / head_dim) as u32),
            ("kv_heads", (k.width / head_dim) as u32),
            ("half_dim", (head_dim / 2) as u32),
            ("context", self.c.context as u32),
            ("x_stride", x.stride as u32),
            ("x_offset", x.offset as u32),
            ("k_stride", k.stride as u32),
            ("k_offset", k.offset as u32),
            ("v_stride", v.stride as u32),
            ("v_offset", v.offset as u32),
            ("y_stride", y.stride as u32),
        ];
        // A software driver would run the code of queries and that of keys for either; few rows do not show it.
        let together = self.c.gpu.class() == DeviceClass::Gpu || x.rows <= ROWS_ROTATED_TOGETHER;
        let queries = if together { x.width } else { 0 };
        if !together {
            self.rope(rope, (x.width / head_dim, head_dim), x, y)?;
        }
        let variant =
            Variant::plain(Kernel::RopeQkvWide, Tile::elementwise()).constant("QUERIES", together.into());
        self.elementwise(variant, &buffers, &params, x.rows * (queries + k.width) / 16)
    }

    /// Rotates the heads of `x` as node `rope` says.
    pub(super) fn rope(
        &mut self,
        rope: NodeId,
        (heads, head_dim): (usize, usize),
        x: &Value,
        y: &Value,
    ) -> Result<()> {
        let rotation = self.rotation(rope)?;
        let buffers =
            [("x", &x.buffer), ("tokens", self.c.tokens), ("rotation", &rotation), ("y", &y.buffer)];
        let params = [
            ("m", x.rows as u32),
            ("heads", heads as u32),
            ("half_dim", (head_dim / 2) as u32),
            ("x_stride", x.stride as u32),
            ("x_offset", x.offset as u32),
            ("y_stride", y.stride as u32),
        ];
        let (kernel, pairs) = match whole_pairs(&[head_dim / 2, x.offset]) {
            true => (Kernel::RopeWide, 8),
            false => (Kernel::Rope, 1),
        };
        let variant = Variant::plain(kernel, Tile::elementwise());
        self.elementwise(variant, &buffers, &params, x.rows * heads * (head_dim / 2) / pairs)
    }

    fn rotation(&self, rope: NodeId) -> Result<Buffer> {
        let rotation = self.c.rotations.get(&rope).cloned();
        rotation.ok_or_else(|| Error::invalid("a rotation table is missing"))
    }
}
