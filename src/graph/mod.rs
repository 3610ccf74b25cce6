//! The model graph: a model family is written once, as nodes; executors run it.
//!
//! Every value is a matrix `[T, width]`: one row per token of the batch, sequences one after another.
//! Nodes are stored in execution order; the last node holds the logits.

mod assignment;
mod check;

pub use assignment::{Assignment, matches_pattern};

use crate::error::Result;
use crate::format::{Format, Packed};

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;
/// Index of a weight in [`Graph::weights`].
pub type WeightId = usize;

/// What a weight is for; only `Linear` weights take part in `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A block linear, `[rows = out, cols = in]`.
    Linear,
    /// The language-model head, `[vocabulary, width]`, when it is not tied to the embedding.
    Head,
    /// An embedding table, `[entries, width]`; a tied head reads it too.
    Embedding,
    /// A vector (norm weight or bias), `rows = 1`; kept in f32.
    Vector,
}

/// A weight the graph refers to. The data comes from a [`Weights`] source.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Tensor name in the checkpoint, e.g. `model.layers.0.self_attn.q_proj.weight`.
    pub tensor: String,
    /// Output features (matrices) or 1 (vectors).
    pub rows: usize,
    /// Input features (matrices) or the length (vectors).
    pub cols: usize,
    /// What it is for.
    pub role: Role,
    /// The checkpoint stores `[cols, rows]` (GPT-2's Conv1D).
    pub transposed: bool,
}

impl Weight {
    /// Layer name: the tensor name without its `.weight` suffix. This is the key of a qconfig.
    pub fn layer(&self) -> &str {
        self.tensor.strip_suffix(".weight").unwrap_or(&self.tensor)
    }
}

/// Elementwise functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `max(x, 0)`
    Relu,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
}

/// What a node computes; shapes in terms of T tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Row `token.id` of the table: `[T, cols]`.
    Embed {
        /// Table `[vocabulary, cols]`.
        table: WeightId,
    },
    /// Row `token.position` of the table: `[T, cols]`.
    EmbedPosition {
        /// Table `[context, cols]`.
        table: WeightId,
    },
    /// `x * weight / sqrt(mean(x^2) + eps)` (Zhang & Sennrich 2019).
    RmsNorm {
        /// Vector `[width]`.
        weight: WeightId,
        /// Added to the mean square.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias`, biased variance (Ba et al. 2016).
    LayerNorm {
        /// Vector `[width]`.
        weight: WeightId,
        /// Vector `[width]`.
        bias: WeightId,
        /// Added to the variance.
        eps: f32,
    },
    /// `x W^T + bias`: `[T, cols] -> [T, rows]`.
    Linear {
        /// Matrix `[rows, cols]`.
        weight: WeightId,
        /// Vector `[rows]`.
        bias: Option<WeightId>,
    },
    /// Columns `offset .. offset + width` of the input.
    Slice {
        /// First column.
        offset: usize,
    },
    /// Rotary embedding of `[T, heads * head_dim]`, half-rotated convention of Hugging Face:
    /// pairs are `(i, i + head_dim/2)`, angle `position * inverse_frequency[i]`.
    Rope {
        /// Heads in the row.
        heads: usize,
        /// Elements per head; even.
        head_dim: usize,
        /// `head_dim / 2` values.
        inverse_frequency: Vec<f32>,
    },
    /// Causal attention over the KV cache of `layer`; inputs q `[T, heads * head_dim]`, k and v
    /// `[T, kv_heads * head_dim]`. Writes k and v of this batch to the cache first; query head h uses
    /// KV head `h / (heads / kv_heads)`; scores are `scale * q.k`.
    Attention {
        /// Index of the KV cache.
        layer: usize,
        /// Query heads.
        heads: usize,
        /// Key/value heads; divides `heads`.
        kv_heads: usize,
        /// Elements per head.
        head_dim: usize,
        /// Factor on the scores, usually `1/sqrt(head_dim)`.
        scale: f32,
    },
    /// Elementwise function.
    Activate(Function),
    /// Elementwise sum of two inputs.
    Add,
    /// Elementwise product of two inputs.
    Mul,
    /// The rows listed in [`Batch::outputs`]: `[T, width] -> [outputs, width]`.
    OutputRows,
}

/// One operation with its inputs.
#[derive(Clone, Debug)]
pub struct Node {
    /// Dotted name, e.g. `layers.0.self_attn.q_proj`; unique in the graph.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// Producers of the inputs, in the order the op names them.
    pub inputs: Vec<NodeId>,
    /// Columns of the result.
    pub width: usize,
}

/// A model as a list of operations.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Operations in execution order; the last one holds the logits.
    pub nodes: Vec<Node>,
    /// All weights, each once (a tied head refers to the embedding's entry).
    pub weights: Vec<Weight>,
    /// Number of KV caches, and the widths `kv_heads * head_dim` of each.
    pub kv_widths: Vec<usize>,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Columns of the logits.
    pub vocabulary: usize,
}

impl Graph {
    /// Appends a node and returns its id.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId], width: usize) -> NodeId {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), width });
        self.nodes.len() - 1
    }

    /// Appends a weight and returns its id.
    pub fn weight(
        &mut self,
        tensor: impl Into<String>,
        rows: usize,
        cols: usize,
        role: Role,
        transposed: bool,
    ) -> WeightId {
        self.weights.push(Weight { tensor: tensor.into(), rows, cols, role, transposed });
        self.weights.len() - 1
    }
}

/// One row of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Vocabulary index.
    pub id: u32,
    /// KV-cache slot; the tokens of one sequence stand next to each other in a batch.
    pub sequence: u32,
    /// Position within the sequence, 0-based; earlier positions must already be in the cache or
    /// stand before it in this batch.
    pub position: u32,
}

/// What one step of a model runs on.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// T tokens.
    pub tokens: Vec<Token>,
    /// Rows whose logits are wanted, ascending indices into `tokens`.
    pub outputs: Vec<u32>,
}

impl Batch {
    /// For each token the half-open range of rows `[begin, end)` that its sequence occupies.
    pub fn spans(&self) -> Vec<(u32, u32)> {
        let mut spans = vec![(0, 0); self.tokens.len()];
        let mut begin = 0;
        while begin < self.tokens.len() {
            let sequence = self.tokens[begin].sequence;
            let mut end = begin + 1;
            while end < self.tokens.len() && self.tokens[end].sequence == sequence {
                end += 1;
            }
            spans[begin..end].fill((begin as u32, end as u32));
            begin = end;
        }
        spans
    }
}

/// Where an executor gets weight data from.
pub trait Weights: Sync {
    /// The matrix `weight` packed in `format`.
    ///
    /// # Errors
    /// When the data is missing, not finite, or stored in another packed format.
    fn packed(&self, weight: WeightId, format: Format) -> Result<Packed>;
    /// The vector `weight` in f32.
    ///
    /// # Errors
    /// When the data is missing or has another length.
    fn vector(&self, weight: WeightId) -> Result<Vec<f32>>;
}
