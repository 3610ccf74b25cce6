//! Memory accounting: where the bytes of a model under an assignment go.

use serde::Serialize;

use crate::error::Result;
use crate::format::Format;
use crate::graph::{Assignment, Graph, Op, Role};

/// Bits of one tensor as stored.
#[derive(Clone, Debug, Serialize)]
pub struct TensorMemory {
    /// Tensor name.
    pub name: String,
    /// Format spec, `f32` for vectors.
    pub spec: String,
    /// Whether it is a block linear, the only kind `--format` quantizes.
    pub linear: bool,
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
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// Stored bits per weight.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.weights() as f64
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
    /// Stored bits per weight of the block linears.
    pub bits_per_weight: f64,
    /// Stored bits per weight of the whole model.
    pub model_bits_per_weight: f64,
    /// KV caches.
    pub kv_cache_bytes: u64,
    /// Activation values of one step, each node counted once.
    pub activation_bytes: u64,
}

/// Bits per weight that carry the code itself.
fn payload_bits(format: Format, rows: usize, cols: usize) -> Result<u64> {
    use crate::format::Base11Layout::{Nine32, Two7};
    let weights = rows as u64 * cols as u64;
    Ok(match format {
        Format::F32 => weights * 32,
        Format::F16 | Format::Bf16 => weights * 16,
        Format::Int { bits, .. } | Format::MxInt { bits } => weights * u64::from(bits),
        Format::MxIntCuda { .. } => weights * 8,
        // 3.5 bits per digit; the last digit of an odd row takes a whole field.
        Format::Base11 { layout: Two7, .. } => rows as u64 * (cols as u64).div_ceil(2) * 7,
        // A word holds nine digits; digits missing from the last word of a group are padding.
        Format::Base11 { layout: Nine32, .. } => weights * 32 / 9,
    })
}

impl MemoryReport {
    /// Accounts for `graph` under `assignment` with KV caches for `sequences` of `context` tokens and steps of
    /// `tokens` tokens.
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
            let vector = weight.role == Role::Vector;
            let format = if vector { Format::F32 } else { spec.weight };
            let layout = format.layout(weight.rows, weight.cols)?;
            let code_bits = payload_bits(format, weight.rows, weight.cols)?;
            let scale_bits = (layout.groups * layout.scale_bits) as u64;
            let bytes = (layout.code_words + layout.scale_words) as u64 * 4;
            tensors.push(TensorMemory {
                name: weight.tensor.clone(),
                spec: if vector { "f32".to_string() } else { spec.to_string() },
                linear: weight.role == Role::Linear,
                rows: weight.rows,
                cols: weight.cols,
                code_bits,
                scale_bits,
                padding_bits: (bytes * 8).saturating_sub(code_bits + scale_bits),
                bytes,
            });
        }
        let sum = |f: &dyn Fn(&TensorMemory) -> u64| tensors.iter().map(f).sum::<u64>();
        let bytes = sum(&|t| t.bytes);
        let weights = sum(&|t| t.weights());
        let linear_bytes = sum(&|t| if t.linear { t.bytes } else { 0 });
        let linear_weights = sum(&|t| if t.linear { t.weights() } else { 0 });
        let per_token: usize = graph
            .nodes
            .iter()
            .filter(|node| !matches!(node.op, Op::Slice { .. }))
            .map(|node| node.width.next_multiple_of(32) * 4)
            .sum();
        let kv: usize = graph.kv_widths.iter().map(|width| width * 2 * 4).sum();
        Ok(Self {
            bytes,
            f32_bytes: weights * 4,
            bits_per_weight: linear_bytes as f64 * 8.0 / linear_weights.max(1) as f64,
            model_bits_per_weight: bytes as f64 * 8.0 / weights.max(1) as f64,
            kv_cache_bytes: (kv * sequences * context) as u64,
            activation_bytes: (per_token * tokens) as u64,
            tensors,
        })
    }
}
