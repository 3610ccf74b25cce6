//! Runs a graph on the CPU, node by node, with the functions of this module.

use std::collections::HashMap;

use super::linear::{IntegerMatrix, integer_matrix_product, linear};
use super::{Heads, activate, add, attention, embed, layer_norm, mul, rms_norm, rope, slice};
use crate::error::{Error, Result, invalid};
use crate::format::{ActivationFormat, fake_quantize, quantize_activations};
use crate::graph::{Assignment, Batch, Graph, Node, Op, Role, WeightId, Weights};

/// A weight as the ops read it.
enum Loaded {
    /// A vector.
    Vector(Vec<f32>),
    /// A matrix, decoded; for activations in full precision and for embeddings.
    Decoded { values: Vec<f32>, cols: usize, activation: Option<ActivationFormat> },
    /// A matrix in integer codes, for quantized activations.
    Integer { matrix: IntegerMatrix, cols: usize, activation: ActivationFormat },
}

/// Keys and values of one sequence in one layer, `[tokens, kv_width]` each.
#[derive(Clone, Default)]
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// CPU executor of one graph with one assignment of formats: decoded weights and the KV caches of a number
/// of sequence slots.
///
/// A batch may continue a sequence (its first position is the number of cached tokens) or rewind it (a
/// smaller position; what was cached from there on is dropped). A batch that is refused changes nothing.
pub struct Executor<'a> {
    graph: &'a Graph,
    weights: Vec<Loaded>,
    /// Quantized biases, by the weight they belong to.
    biases: HashMap<WeightId, Vec<f32>>,
    /// Per node: whether its rows are the batch's outputs.
    selected: Vec<bool>,
    /// `[layers][sequences]`
    caches: Vec<Vec<Cache>>,
    /// Cached tokens per sequence.
    lengths: Vec<usize>,
}

impl<'a> Executor<'a> {
    /// Loads the weights of `graph` in the formats of `assignment`, with `sequences` empty slots.
    ///
    /// # Errors
    /// When the graph is inconsistent, the assignment belongs to another graph, an embedding is to have
    /// quantized activations, or a weight cannot be had in its format.
    pub fn new(
        graph: &'a Graph,
        weights: &dyn Weights,
        assignment: &Assignment,
        sequences: usize,
    ) -> Result<Self> {
        let selected = graph.check()?;
        if assignment.specs.len() != graph.weights.len() {
            let (got, want) = (assignment.specs.len(), graph.weights.len());
            invalid!("the assignment has {got} entries, want {want}, one per weight of the graph");
        }
        let loaded = (0..graph.weights.len()).map(|id| load(graph, weights, assignment, id));
        let mut biases = HashMap::new();
        for node in &graph.nodes {
            if let Op::Linear { weight, bias: Some(bias) } = node.op
                && assignment.specs[weight].bias.is_some()
            {
                let values = assignment
                    .bias(weight, &weights.vector(bias)?)
                    .map_err(|error| Error::Invalid(format!("{}: {error}", graph.weights[bias].tensor)))?;
                biases.insert(weight, values);
            }
        }
        Ok(Self {
            biases,
            graph,
            weights: loaded.collect::<Result<_>>()?,
            selected,
            caches: vec![vec![Cache::default(); sequences]; graph.kv_widths.len()],
            lengths: vec![0; sequences],
        })
    }

    /// Runs one step: the last node, `[outputs, width]`. The keys and values of the batch stay in the caches.
    ///
    /// # Errors
    /// When a token id, position or sequence is out of range, the tokens of a sequence are not contiguous,
    /// or an output row does not exist.
    pub fn run(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        Ok(self.run_nodes(batch)?.pop().unwrap_or_default())
    }

    /// As [`Executor::run`], but returns the value of every node, in node order: `[T, width]`, or
    /// `[outputs, width]` from the [`Op::OutputRows`] node on.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn run_nodes(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        batch.check(self.graph, self.graph.context, &self.lengths)?;
        let spans = batch.spans();
        let selected_spans = selected_spans(batch, &spans);
        let graph = self.graph;
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(graph.nodes.len());
        for (index, node) in graph.nodes.iter().enumerate() {
            let spans = if self.selected[index] { &selected_spans } else { &spans };
            let inputs: Vec<&[f32]> = node.inputs.iter().map(|&input| values[input].as_slice()).collect();
            let value = self.evaluate(node, &inputs, batch, spans);
            values.push(value);
        }
        for token in &batch.tokens {
            self.lengths[token.sequence as usize] = token.position as usize + 1;
        }
        Ok(values)
    }

    /// Number of cached tokens of slot `sequence`; 0 for a slot that does not exist.
    pub fn length(&self, sequence: u32) -> usize {
        self.lengths.get(sequence as usize).copied().unwrap_or(0)
    }

    /// Empties slot `sequence`; nothing happens when it does not exist.
    pub fn reset(&mut self, sequence: u32) {
        if let Some(length) = self.lengths.get_mut(sequence as usize) {
            *length = 0;
        }
    }

    fn vector(&self, id: WeightId) -> &[f32] {
        match &self.weights[id] {
            Loaded::Vector(values) => values,
            _ => unreachable!("check_graph lets only vectors stand where a vector is read"),
        }
    }

    fn evaluate(&mut self, node: &Node, inputs: &[&[f32]], batch: &Batch, spans: &[(u32, u32)]) -> Vec<f32> {
        let width = node.width;
        match &node.op {
            Op::Embed { table } => self.rows(*table, batch.tokens.iter().map(|t| t.id as usize)),
            Op::EmbedPosition { table } => {
                self.rows(*table, batch.tokens.iter().map(|t| t.position as usize))
            }
            Op::EmbedSegment { table } => self.rows(*table, batch.tokens.iter().map(|t| t.segment as usize)),
            Op::Input => batch.inputs.clone(),
            Op::RmsNorm { weight, eps } => rms_norm(inputs[0], self.vector(*weight), *eps),
            Op::LayerNorm { weight, bias, eps } => {
                layer_norm(inputs[0], self.vector(*weight), self.vector(*bias), *eps)
            }
            Op::Linear { weight, bias } => {
                let quantized = self.biases.get(weight).map(Vec::as_slice);
                let bias = bias.map(|id| quantized.unwrap_or_else(|| self.vector(id)));
                self.linear(inputs[0], *weight, bias, spans)
            }
            Op::Slice { offset } => slice(inputs[0], self.graph.nodes[node.inputs[0]].width, *offset, width),
            Op::Rope { heads, inverse_frequency, .. } => {
                let positions: Vec<u32> = batch.tokens.iter().map(|t| t.position).collect();
                rope(inputs[0], &positions, *heads, inverse_frequency)
            }
            &Op::Attention { layer, heads, kv_heads, head_dim, scale, mask } => {
                let shape = Heads { heads, kv_heads, head_dim, scale, mask };
                self.attention(layer, shape, inputs, batch, spans)
            }
            Op::Activate(function) => activate(*function, inputs[0]),
            Op::Add => add(inputs[0], inputs[1]),
            Op::Mul => mul(inputs[0], inputs[1]),
            Op::OutputRows => embed(inputs[0], width, batch.outputs.iter().map(|&row| row as usize)),
        }
    }

    fn rows(&self, table: WeightId, ids: impl Iterator<Item = usize>) -> Vec<f32> {
        match &self.weights[table] {
            Loaded::Decoded { values, cols, .. } => embed(values, *cols, ids),
            _ => unreachable!("load decodes every table that an embedding reads"),
        }
    }

    fn linear(&self, x: &[f32], weight: WeightId, bias: Option<&[f32]>, spans: &[(u32, u32)]) -> Vec<f32> {
        match &self.weights[weight] {
            Loaded::Decoded { values, cols, activation: None } => linear(x, spans.len(), values, *cols, bias),
            Loaded::Decoded { values, cols, activation: Some(format) } => {
                linear(&fake_quantize(x, *cols, spans, *format), spans.len(), values, *cols, bias)
            }
            Loaded::Integer { matrix, cols, activation } => {
                match quantize_activations(x, *cols, spans, *activation) {
                    Some(q) => integer_matrix_product(&q, matrix, bias),
                    None => unreachable!("load keeps integers for activations with integer codes"),
                }
            }
            Loaded::Vector(_) => unreachable!("check_graph lets only matrices stand where a matrix is read"),
        }
    }

    /// Writes k and v of the batch to the caches, then attends, one sequence after another.
    fn attention(
        &mut self,
        layer: usize,
        shape: Heads,
        inputs: &[&[f32]],
        batch: &Batch,
        spans: &[(u32, u32)],
    ) -> Vec<f32> {
        let (width, kv_width) = (shape.width(), shape.kv_width());
        let mut y = Vec::with_capacity(batch.tokens.len() * width);
        let mut begin = 0;
        while begin < batch.tokens.len() {
            let end = spans[begin].1 as usize;
            let token = batch.tokens[begin];
            let first = token.position as usize;
            let cache = &mut self.caches[layer][token.sequence as usize];
            cache.keys.truncate(first * kv_width);
            cache.values.truncate(first * kv_width);
            cache.keys.extend_from_slice(&inputs[1][begin * kv_width..end * kv_width]);
            cache.values.extend_from_slice(&inputs[2][begin * kv_width..end * kv_width]);
            let q = &inputs[0][begin * width..end * width];
            y.extend(attention(q, &cache.keys, &cache.values, shape, first));
            begin = end;
        }
        y
    }
}

/// The spans of the output rows: which of them belong to the same sequence.
fn selected_spans(batch: &Batch, spans: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let before = |row: u32| batch.outputs.partition_point(|&output| output < row) as u32;
    let of = |&output: &u32| {
        let (begin, end) = spans[output as usize];
        (before(begin), before(end))
    };
    batch.outputs.iter().map(of).collect()
}

fn load(graph: &Graph, weights: &dyn Weights, assignment: &Assignment, id: WeightId) -> Result<Loaded> {
    let (weight, spec) = (&graph.weights[id], assignment.specs[id]);
    let wrong = |got: String| -> Result<Loaded> {
        invalid!("weight {}: the source has {got}, want {} x {}", weight.tensor, weight.rows, weight.cols)
    };
    if weight.role == Role::Vector {
        let values = weights.vector(id)?;
        if values.len() != weight.cols {
            return wrong(format!("{} elements", values.len()));
        }
        return Ok(Loaded::Vector(values));
    }
    let embeds = |node: &Node| match node.op {
        Op::Embed { table } | Op::EmbedPosition { table } | Op::EmbedSegment { table } => table == id,
        _ => false,
    };
    if spec.activation.is_some() && graph.nodes.iter().any(embeds) {
        invalid!("weight {}: {spec} quantizes activations, and an embedding has none", weight.tensor);
    }
    let packed = weights.packed(id, spec.weight)?;
    let cols = packed.cols;
    if (packed.rows, cols) != (weight.rows, weight.cols) {
        return wrong(format!("{} x {cols}", packed.rows));
    }
    if let Some(activation) = spec.activation {
        activation
            .check_width(cols)
            .map_err(|error| Error::Invalid(format!("{}: {error}", weight.tensor)))?;
    }
    Ok(match spec.activation {
        Some(activation) if packed.has_integer_codes() && activation.integer_group(cols).is_some() => {
            Loaded::Integer { matrix: IntegerMatrix::new(&packed)?, cols, activation }
        }
        activation => Loaded::Decoded { values: packed.decode(), cols, activation },
    })
}
