//! Memory accounting: where the bytes of a model under an assignment go.
//!
//! Every stored bit of a tensor is one of three kinds, and the three add up to the stored words exactly:
//! * *code bits* hold weights;
//! * *scale bits* hold scales and minima, one field per group;
//! * *padding bits* fill rows, groups and streams up to whole words.
//!
//! A field of `d` digits counts as the fewest bits that hold `base^d` values: for base 11 32 for the nine digits of
//! a full word, 7 for a pair, 4 for a single digit; what a field has beyond that, because a group or a row ended,
//! is padding.

use std::collections::HashMap;

use serde::Serialize;

use crate::error::Result;
use crate::format::{Codes, Format, Layout};
use crate::graph::{Assignment, Graph, Op, Role};

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorKind {
    /// A block linear, the only kind `--format` quantizes in a model.
    Linear,
    /// An embedding table, perhaps also the head.
    Embedding,
    /// A language-model head of its own.
    Head,
    /// A norm weight or bias.
    Vector,
    /// A tensor of a file that is no model.
    Other,
}

/// Bits of one tensor as stored.
#[derive(Clone, Debug, Serialize)]
pub struct TensorMemory {
    /// Tensor name.
    pub name: String,
    /// Format spec, `f32` for the vectors of a model; the type of tensors that are no floats.
    pub spec: String,
    /// What it is for.
    pub kind: TensorKind,
    /// Whether it is a block linear, the only kind `--format` quantizes.
    pub linear: bool,
    /// Whether its format rounds to fewer bits than f16 and bf16 have.
    pub quantized: bool,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Bits of codes that carry weights.
    pub code_bits: u64,
    /// Bits of scales and minima.
    pub scale_bits: u64,
    /// Bits that only fill words.
    pub padding_bits: u64,
    /// All of them, in bytes.
    pub bytes: u64,
}

impl TensorMemory {
    /// Accounts for a matrix `[rows, cols]` in `format`; `spec` is the text shown for it.
    ///
    /// # Errors
    /// As [`Format::layout`].
    pub fn new(
        name: &str,
        kind: TensorKind,
        spec: String,
        format: Format,
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let layout = format.layout(rows, cols)?;
        let code_bits = code_bits(&layout, rows, cols);
        let scale_bits =
            layout.groups as u64 * layout.scale_bits as u64 + 32 * layout.scheme.scale.head_words() as u64;
        let bytes = (layout.code_words as u64 + layout.scale_words as u64) * 4;
        Ok(Self {
            name: name.to_owned(),
            spec,
            kind,
            linear: kind == TensorKind::Linear,
            quantized: !matches!(format, Format::F32 | Format::F16 | Format::Bf16),
            rows,
            cols,
            code_bits,
            scale_bits,
            padding_bits: bytes * 8 - code_bits - scale_bits,
            bytes,
        })
    }

    /// A tensor that is copied as it is: `bytes` bytes of data of type `dtype`.
    pub fn raw(name: &str, dtype: String, rows: usize, cols: usize, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            spec: dtype,
            kind: TensorKind::Other,
            linear: false,
            quantized: false,
            rows,
            cols,
            code_bits: bytes * 8,
            scale_bits: 0,
            padding_bits: 0,
            bytes,
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// Stored bits per weight; 0 for an empty tensor.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.weights().max(1) as f64
    }
}

/// Bytes of a model while it runs.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// Every weight.
    pub tensors: Vec<TensorMemory>,
    /// All weights, packed.
    pub bytes: u64,
    /// The same weights in f32.
    pub f32_bytes: u64,
    /// Stored bits per weight of the block linears; of the quantized tensors where there is no model.
    pub bits_per_weight: f64,
    /// Stored bits per weight of the whole model.
    pub model_bits_per_weight: f64,
    /// KV caches.
    pub kv_cache_bytes: u64,
    /// Activation buffers of one step, each reused once its last reader has run; without the fused kernels,
    /// which need fewer.
    pub activation_bytes: u64,
}

/// Bits that hold weights, see the module documentation. The shape has been checked by [`Format::layout`].
fn code_bits(layout: &Layout, rows: usize, cols: usize) -> u64 {
    let (rows, cols) = (rows as u64, cols as u64);
    match layout.scheme.codes {
        Codes::Digits { base, digits, .. } => rows * digit_bits(base.into(), cols, digits.into()),
        Codes::Digits9 => {
            let group = layout.group as u64;
            rows * (cols / group * digit_bits(11, group, 9) + digit_bits(11, cols % group, 9))
        }
        codes => rows * cols * u64::from(codes.bits()),
    }
}

/// Bits of `digits` digits in fields of `per_field`.
fn digit_bits(base: u64, digits: u64, per_field: u64) -> u64 {
    let field = |d: u64| u64::from((base.pow(d as u32) - 1).checked_ilog2().map_or(0, |log| log + 1));
    digits / per_field * field(per_field) + field(digits % per_field)
}

impl MemoryReport {
    /// Accounts for `graph` under `assignment` with KV caches for `sequences` of `context` tokens and steps of
    /// `tokens` tokens, one row of logits per sequence.
    ///
    /// # Errors
    /// When a format cannot hold a tensor's shape.
    pub fn new(
        graph: &Graph,
        assignment: &Assignment,
        sequences: usize,
        context: usize,
        tokens: usize,
    ) -> Result<Self> {
        let mut tensors = Vec::with_capacity(graph.weights.len());
        for (weight, spec) in graph.weights.iter().zip(&assignment.specs) {
            let (kind, format, spec) = match weight.role {
                Role::Vector => (TensorKind::Vector, Format::F32, Format::F32.to_string()),
                Role::Linear => (TensorKind::Linear, spec.weight, spec.to_string()),
                Role::Embedding => (TensorKind::Embedding, spec.weight, spec.to_string()),
                Role::Head => (TensorKind::Head, spec.weight, spec.to_string()),
            };
            tensors.push(TensorMemory::new(&weight.tensor, kind, spec, format, weight.rows, weight.cols)?);
        }
        let kv: u64 = graph.kv_widths.iter().map(|&width| width as u64 * 2 * 4).sum();
        Ok(Self {
            kv_cache_bytes: kv * sequences as u64 * context as u64,
            activation_bytes: activation_bytes(graph, tokens, sequences.min(tokens)),
            ..Self::of_tensors(tensors, |tensor| tensor.linear)
        })
    }

    /// Accounts for the tensors of a file that is no model: no KV caches, no activations.
    pub fn of_file(tensors: Vec<TensorMemory>) -> Self {
        Self::of_tensors(tensors, |tensor| tensor.quantized)
    }

    fn of_tensors(tensors: Vec<TensorMemory>, counts: impl Fn(&TensorMemory) -> bool) -> Self {
        let bytes = tensors.iter().map(|t| t.bytes).sum::<u64>();
        let weights = tensors.iter().map(TensorMemory::weights).sum::<u64>();
        let counted = || tensors.iter().filter(|t| counts(t));
        let counted_bytes = counted().map(|t| t.bytes).sum::<u64>();
        let counted_weights = counted().map(TensorMemory::weights).sum::<u64>();
        Self {
            bytes,
            f32_bytes: weights * 4,
            bits_per_weight: counted_bytes as f64 * 8.0 / counted_weights.max(1) as f64,
            model_bits_per_weight: bytes as f64 * 8.0 / weights.max(1) as f64,
            kv_cache_bytes: 0,
            activation_bytes: 0,
            tensors,
        }
    }
}

/// Bytes of the activation buffers of a step of `tokens` tokens with `outputs` rows of logits, f32 with rows
/// padded to 32 columns. A buffer serves again for a value of the same shape once its last reader has run.
pub fn activation_bytes(graph: &Graph, tokens: usize, outputs: usize) -> u64 {
    let count = graph.nodes.len();
    // A slice shares its input's buffer, so its readers count as the input's.
    let mut root: Vec<usize> = (0..count).collect();
    let mut rows = vec![tokens; count];
    let mut last_use = vec![0; count];
    for (id, node) in graph.nodes.iter().enumerate() {
        let input = node.inputs.first().copied();
        match (&node.op, input) {
            (Op::Slice { .. }, Some(input)) => root[id] = root[input],
            _ => last_use[id] = id,
        }
        rows[id] = match (&node.op, input) {
            (Op::OutputRows, _) => outputs,
            (_, Some(input)) => rows[input],
            (_, None) => tokens,
        };
        for &input in &node.inputs {
            last_use[root[input]] = id;
        }
    }
    let mut ends: Vec<Vec<usize>> = vec![Vec::new(); count];
    // The rows a batch brings are nobody else's to overwrite.
    let ends_early = |id: &usize| root[*id] == *id && id + 1 != count && graph.nodes[*id].op != Op::Input;
    for id in (0..count).filter(ends_early) {
        ends[last_use[id]].push(id);
    }
    let mut free: HashMap<(usize, usize), usize> = HashMap::new();
    let mut bytes = 0;
    for (id, node) in graph.nodes.iter().enumerate() {
        if root[id] == id {
            match free.get_mut(&(rows[id], node.width)) {
                Some(left @ 1..) => *left -= 1,
                _ => bytes += rows[id] as u64 * node.width.next_multiple_of(32) as u64 * 4,
            }
        }
        for &done in &ends[id] {
            *free.entry((rows[done], graph.nodes[done].width)).or_default() += 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Block, Scope};

    #[test]
    fn codes_scales_and_padding_are_the_stored_bits() {
        let mut formats = Format::catalog();
        formats.extend([1, 2, 7, 9, 10, 18, 31].map(|group| Format::Base11Nine32 { group }));
        formats.extend([1, 3].map(|group| Format::MxIntCuda { group }));
        formats.extend((2..=8).map(|bits| Format::Int { bits, scope: Scope::Group(64) }));
        let mut tested = 0;
        for format in formats {
            for rows in [1, 2, 3, 5, 48] {
                for cols in [1, 2, 3, 8, 9, 10, 31, 32, 33, 48, 100, 127, 128, 129, 255, 256, 300] {
                    let weights: Vec<f32> = (0..rows * cols).map(|i| (i % 30) as f32 - 7.0).collect();
                    let Ok(packed) = format.encode(&weights, rows, cols) else {
                        // Those with blocks of a fixed size that cross rows, or that rows must be a multiple of.
                        let block = match format {
                            Format::MxIntCuda { group } => group as usize,
                            Format::Element { block: Block::Flat(group), .. } => group as usize,
                            Format::Ggml(kind) => kind.block(),
                            _ => panic!("{format} [{rows}, {cols}]"),
                        };
                        assert!(!cols.is_multiple_of(block), "{format} [{rows}, {cols}]");
                        continue;
                    };
                    let name = format!("{format} [{rows}, {cols}]");
                    let kind = TensorKind::Other;
                    let t = TensorMemory::new("w", kind, String::new(), format, rows, cols).unwrap();
                    assert_eq!(
                        t.code_bits + t.scale_bits + t.padding_bits,
                        packed.bytes() as u64 * 8,
                        "{name}"
                    );
                    assert_eq!(t.bytes, packed.bytes() as u64, "{name}");
                    assert_eq!(t.bits_per_weight(), format.bits_per_weight(rows, cols).unwrap(), "{name}");
                    tested += 1;
                }
            }
        }
        assert!(tested > 2000, "{tested}");
    }

    /// Padding bits are zero in every encoded stream, so the highest one a code ever sets bounds the code bits.
    #[test]
    fn digit_code_bits_are_those_the_largest_digits_reach() {
        for (base, per_field, width) in [(11, 2, 7), (11, 9, 32), (3, 5, 8), (45, 2, 11)] {
            for digits in 1..=per_field {
                let largest = u64::pow(base, digits as u32) - 1;
                let bits = 64 - largest.leading_zeros();
                assert_eq!(digit_bits(base, digits, per_field), u64::from(bits), "base {base}, {digits}");
                assert!(bits <= width);
            }
            assert_eq!(digit_bits(base, per_field, per_field), u64::from(width));
        }
        let nine = |group, cols| {
            let layout = Format::Base11Nine32 { group }.layout(2, cols).unwrap();
            code_bits(&layout, 2, cols)
        };
        // 256 = 28 words and 4 digits, twice; then 44 = 4 words and 8 digits.
        assert_eq!(nine(256, 300), 2 * ((28 * 32 + 14) + (4 * 32 + 28)));
        assert_eq!(nine(1, 5), 2 * 5 * 4);
    }

    #[test]
    fn activation_buffers_are_reused() {
        let mut graph = Graph { context: 8, ..Graph::default() };
        let x = graph.push("x", Op::Embed { table: 0 }, &[], 32);
        let a = graph.push("a", Op::Activate(crate::graph::Function::Relu), &[x], 32);
        let b = graph.push("b", Op::Activate(crate::graph::Function::Relu), &[a], 32);
        let c = graph.push("c", Op::Add, &[x, b], 32);
        let o = graph.push("o", Op::OutputRows, &[c], 32);
        graph.push("y", Op::Linear { weight: 0, bias: None }, &[o], 40);
        // x lives until c, a and b alternate with it: three buffers; c reuses a's.
        assert_eq!(activation_bytes(&graph, 10, 1), 3 * 10 * 32 * 4 + 32 * 4 + 64 * 4);
    }
}
