//! The model graph: a model family is written once, as nodes; executors run it.
//!
//! Every value is a matrix `[T, width]`: one row per token of the batch, sequences one after another.
//! Nodes are stored in execution order; the last node holds the result: logits over a vocabulary or over classes, or
//! hidden states.

mod assignment;
mod check;

pub use assignment::{Assignment, matches_pattern};

use crate::error::{Result, invalid};
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
    /// Hyperbolic tangent.
    Tanh,
}

impl Function {
    /// All functions.
    pub const ALL: [Function; 5] =
        [Function::Relu, Function::Silu, Function::Gelu, Function::GeluTanh, Function::Tanh];
}

/// Which positions of its own sequence a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Position p sees `0 ..= p`.
    Causal,
    /// Position p sees the last w positions up to its own, `max(0, p - w + 1) ..= p`: the `sliding_window` of
    /// Mistral (Jiang et al. 2023) as Hugging Face counts it. Not 0.
    Window(usize),
    /// Every token sees the whole sequence, which stands in one batch as a whole and begins at position 0 (encoders).
    /// Sequences are ragged, so this is what a padding mask gives elsewhere.
    Full,
}

impl Mask {
    /// The positions that the token at `position` sees in a sequence of `length` tokens.
    pub fn seen(self, position: usize, length: usize) -> std::ops::Range<usize> {
        match self {
            Mask::Causal => 0..position + 1,
            Mask::Window(window) => (position + 1).saturating_sub(window)..position + 1,
            Mask::Full => 0..length,
        }
    }
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
    /// Row `token.segment` of the table (BERT's token types): `[T, cols]`.
    EmbedSegment {
        /// Table `[segments, cols]`.
        table: WeightId,
    },
    /// [`Batch::inputs`] as they are: `[T, width]`. At most one in a graph.
    Input,
    /// `x * weight / sqrt(mean(x^2) + eps)` (Zhang & Sennrich 2019). A weight that is shorter than a row divides it:
    /// every run of as many columns is normalized by itself (a norm per head).
    RmsNorm {
        /// Vector `[n]`; the width is a multiple of n.
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
    /// Attention over the KV cache of `layer`; inputs q `[T, heads * head_dim]`, k and v
    /// `[T, kv_heads * head_dim]`. Writes k and v of this batch to the cache first; query head h uses
    /// KV head `h / (heads / kv_heads)`; scores are `scale * q.k`.
    Attention {
        /// Index of the KV cache. Nothing outlives a batch under [`Mask::Full`], so such layers may share one.
        layer: usize,
        /// Query heads.
        heads: usize,
        /// Key/value heads; divides `heads`.
        kv_heads: usize,
        /// Elements per head.
        head_dim: usize,
        /// Factor on the scores, usually `1/sqrt(head_dim)`.
        scale: f32,
        /// Which positions a token sees.
        mask: Mask,
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
    /// Operations in execution order; the last one holds the result.
    pub nodes: Vec<Node>,
    /// All weights, each once (a tied head refers to the embedding's entry).
    pub weights: Vec<Weight>,
    /// Number of KV caches, and the widths `kv_heads * head_dim` of each.
    pub kv_widths: Vec<usize>,
    /// Longest sequence, in tokens.
    pub context: usize,
}

impl Graph {
    /// Columns of the result: the vocabulary of a language model, the classes of a classifier, the width of hidden
    /// states; 0 without nodes.
    pub fn output_width(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.width)
    }

    /// How many token ids the model can be fed, `0 .. token_count`: entries of its token embedding, 0 without one.
    pub fn token_count(&self) -> usize {
        self.entries(|op| if let Op::Embed { table } = op { Some(*table) } else { None }).unwrap_or(0)
    }

    /// How many segments a token may be of; `None` where the model has no segments.
    pub fn segment_count(&self) -> Option<usize> {
        self.entries(|op| if let Op::EmbedSegment { table } = op { Some(*table) } else { None })
    }

    /// Columns of [`Op::Input`]; `None` where the model reads tokens alone.
    pub fn input_width(&self) -> Option<usize> {
        self.nodes.iter().find(|node| node.op == Op::Input).map(|node| node.width)
    }

    /// Whether tokens see what follows them, so that a sequence cannot be continued.
    pub fn is_bidirectional(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.op, Op::Attention { mask: Mask::Full, .. }))
    }

    /// Rows of the smallest table that `of` picks.
    fn entries(&self, of: impl Fn(&Op) -> Option<WeightId>) -> Option<usize> {
        let tables = self.nodes.iter().filter_map(|node| of(&node.op));
        tables.filter_map(|table| self.weights.get(table)).map(|weight| weight.rows).min()
    }

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Vocabulary index.
    pub id: u32,
    /// KV-cache slot; the tokens of one sequence stand next to each other in a batch.
    pub sequence: u32,
    /// Position within the sequence, 0-based; earlier positions must already be in the cache or
    /// stand before it in this batch.
    pub position: u32,
    /// Segment of the text, BERT's token type; 0 where there is only one.
    pub segment: u32,
}

impl Token {
    /// A token of segment 0.
    pub const fn new(id: u32, sequence: u32, position: u32) -> Self {
        Self { id, sequence, position, segment: 0 }
    }
}

/// What one step of a model runs on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// T tokens.
    pub tokens: Vec<Token>,
    /// Rows whose results are wanted, ascending indices into `tokens`.
    pub outputs: Vec<u32>,
    /// `[T, width]` for a graph with an [`Op::Input`] of that width, else empty.
    pub inputs: Vec<f32>,
}

impl Batch {
    /// A batch of tokens alone.
    pub fn new(tokens: Vec<Token>, outputs: Vec<u32>) -> Self {
        Self { tokens, outputs, inputs: Vec::new() }
    }

    /// Rows of numbers for a graph that reads no tokens: one sequence, every row an output.
    ///
    /// # Errors
    /// When `inputs` is not a multiple of `width`.
    pub fn of_inputs(inputs: Vec<f32>, width: usize) -> Result<Self> {
        if width == 0 || !inputs.len().is_multiple_of(width) {
            invalid!("{} input values do not make rows of {width}", inputs.len());
        }
        let rows = (inputs.len() / width) as u32;
        let tokens = (0..rows).map(|row| Token::new(0, 0, row)).collect();
        Ok(Self { tokens, outputs: (0..rows).collect(), inputs })
    }

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
