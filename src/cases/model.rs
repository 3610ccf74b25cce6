//! Every node of a model, on the device and by the reference.
//!
//! A node is judged twice. *Alone*: the reference recomputes it from the device's own inputs, so that the tolerance
//! is that of one operation however deep the node lies. *Chained*: the reference runs the whole graph by itself, and
//! what differs adds up from node to node. With quantized activations a difference of one unit in the last place
//! may move a code at a tie by a whole step; alone, only inputs next to a tie are allowed such a step, and chained,
//! the tolerance is that of the quantization itself.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::ONE_OP;
use super::compare::{Difference, Outcome, Tolerance, compare};
use super::data::{sequences, values};
use crate::engine::{Resident, Session, SessionOptions};
use crate::error::{Error, Result, invalid};
use crate::format::{ActivationFormat, Packed, quantize_activations};
use crate::gpu::Gpu;
use crate::graph::{Assignment, Batch, Graph, Node, NodeId, Op, Role, WeightId, Weights};
use crate::reference::{self, Executor, Heads};

/// NMSE allowed to a node of a chain of f32 operations.
const CHAINED: f64 = 1e-9;
/// Distance from a tie, in steps, at which a device may round either way: the accuracy of a division of two
/// numbers whose quotient is at most 127, one of which is itself a quotient.
const TIE: f64 = 5e-5;
/// Sums of magnitudes from which on the rounding of attention scores shows.
const STEEP: f32 = 64.0;
/// Half a unit in the last place of 1.
const EPSILON: f64 = 0.5 / (1 << 23) as f64;

/// What is to be compared.
#[derive(Clone, Copy)]
pub struct ModelCheck<'a> {
    /// The model.
    pub graph: &'a Arc<Graph>,
    /// Its weights.
    pub weights: &'a dyn Weights,
    /// Their formats.
    pub assignment: &'a Assignment,
    /// Fused kernels and epilogues, or every operation by itself.
    pub fused: bool,
}

/// One node in one step.
#[derive(Clone, Debug, Serialize)]
pub struct NodeResult {
    /// `fused` or `naive`.
    pub plan: &'static str,
    /// `prefill` or `decode`; `again` in place of the latter where a sequence cannot be continued.
    pub step: &'static str,
    /// Name of the node.
    pub node: String,
    /// Largest `|got - want|`, computed from the device's own inputs.
    pub max_error: f64,
    /// Where it is.
    pub at: Option<String>,
    /// `sum (got - want)^2 / sum want^2`, computed from the device's own inputs.
    pub nmse: f64,
    /// Limit of `nmse`.
    pub tolerance: f64,
    /// The same against a reference that computed all nodes itself.
    pub chained_nmse: f64,
    /// Limit of `chained_nmse`.
    pub chained_tolerance: f64,
    /// Whether both hold.
    pub pass: bool,
}

/// Runs two sequences of different lengths, prefill and one decode step, and compares every node that the plan
/// computes, in execution order: the first that fails is where the device goes wrong.
///
/// # Errors
/// When the model does not fit the device, or the device fails.
pub fn verify_model(gpu: &Arc<Gpu>, check: &ModelCheck) -> Result<Vec<NodeResult>> {
    let ModelCheck { graph, weights, assignment, fused } = *check;
    let longest = (graph.context as u32).saturating_sub(1).min(13);
    if longest == 0 {
        invalid!("a context of {} tokens is too short for a prompt and one more token", graph.context);
    }
    let lengths = [longest, longest.div_ceil(3)];
    let options = SessionOptions { sequences: 2, context: graph.context.min(64), fused, keep: true };
    let mut resident = Resident::new(gpu.clone(), None).with_stacks();
    let mut session = Session::new(&mut resident, graph.clone(), weights, assignment.clone(), options)?;
    let mut executor = Executor::new(graph, weights, assignment, 2)?;
    let mut alone = Alone::new(check)?;
    let mut results = Vec::new();
    let prefill = lengths.map(|length| (0, length));
    let second = match graph.is_bidirectional() {
        // Whole sequences again, of which the caches know nothing.
        true => ("again", lengths.map(|length| (0, length.div_ceil(2)))),
        false => ("decode", lengths.map(|length| (length, 1))),
    };
    for (step, parts) in [("prefill", prefill), second] {
        let batch = batch(graph, &parts);
        session.step(&batch)?;
        let got = session.node_values()?;
        let chained = executor.run_nodes(&batch)?;
        alone.step(&batch, &got, &chained, step, &mut results)?;
    }
    Ok(results)
}

/// Tokens all over the vocabulary and its segments, numbers for graphs that read some; the first and the last row of the first sequence and the last of the second.
fn batch(graph: &Graph, parts: &[(u32, u32)]) -> Batch {
    let mut tokens = sequences(parts);
    for token in &mut tokens {
        token.id = (token.id * 2_654_435 + 12_345) % graph.token_count().max(1) as u32;
        token.segment %= graph.segment_count().unwrap_or(1) as u32;
    }
    let last = tokens.len() as u32 - 1;
    let mut outputs = vec![0, parts[0].1 - 1, last];
    outputs.dedup();
    let inputs = values(tokens.len() * graph.input_width().unwrap_or(0), 7);
    Batch { tokens, outputs, inputs }
}

/// A value with, per row, how far a moved activation code may take its elements.
#[derive(Clone, Default)]
struct Truth {
    values: Vec<f32>,
    slack: Vec<f64>,
}

/// Keys and values of one sequence in one layer.
type Cache = (Vec<f32>, Vec<f32>);

/// Recomputes nodes from given inputs.
struct Alone<'a> {
    check: ModelCheck<'a>,
    packed: HashMap<WeightId, Packed>,
    vectors: HashMap<WeightId, Vec<f32>>,
    caches: Vec<[Cache; 2]>,
    chained_tolerance: f64,
}

impl<'a> Alone<'a> {
    fn new(check: &ModelCheck<'a>) -> Result<Self> {
        let (mut packed, mut vectors) = (HashMap::new(), HashMap::new());
        for (id, weight) in check.graph.weights.iter().enumerate() {
            if weight.role == Role::Vector {
                vectors.insert(id, check.weights.vector(id)?);
            } else {
                packed.insert(id, check.weights.packed(id, check.assignment.specs[id].weight)?);
            }
        }
        let bits =
            check.assignment.specs.iter().filter_map(|s| s.activation).map(ActivationFormat::bits).min();
        // One step is 2^(1 - bits) of the largest element, and its rounding error a twelfth of its square.
        let chained_tolerance = bits.map_or(CHAINED, |bits| 256.0 * 0.25f64.powi(bits.into()));
        let caches = vec![<[Cache; 2]>::default(); check.graph.kv_widths.len()];
        Ok(Self { check: *check, packed, vectors, caches, chained_tolerance })
    }

    fn step(
        &mut self,
        batch: &Batch,
        got: &[Option<Vec<f32>>],
        chained: &[Vec<f32>],
        step: &'static str,
        results: &mut Vec<NodeResult>,
    ) -> Result<()> {
        let graph = self.check.graph.clone();
        let mut truths: Vec<Truth> = Vec::with_capacity(graph.nodes.len());
        let spans = Spans::new(&graph, batch)?;
        for (id, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<&Truth> = node.inputs.iter().map(|&input| &truths[input]).collect();
            let truth = self.node(node, &inputs, batch, spans.of(id))?;
            let Some(got) = &got[id] else {
                truths.push(truth);
                continue;
            };
            let difference = judge(got, &truth, node.width);
            let chain =
                compare(&Outcome::dense(got, &chained[id], node.width), Tolerance::Nmse(f64::INFINITY));
            let chain_holds = chain.nmse <= self.chained_tolerance;
            let failed_chain = (difference.pass && !chain_holds).then(|| chain.at.clone()).flatten();
            results.push(NodeResult {
                plan: if self.check.fused { "fused" } else { "naive" },
                step,
                node: node.name.clone(),
                max_error: difference.max_error,
                at: failed_chain.map(|at| format!("chained {at}")).or(difference.at),
                nmse: difference.nmse,
                tolerance: ONE_OP,
                chained_nmse: chain.nmse,
                chained_tolerance: self.chained_tolerance,
                pass: difference.pass && chain_holds,
            });
            // What follows is judged by what the device went on with.
            let rows = got.len() / node.width.max(1);
            truths.push(Truth { values: got.clone(), slack: vec![0.0; rows] });
        }
        Ok(())
    }

    fn vector(&self, id: WeightId) -> Result<&[f32]> {
        self.vectors
            .get(&id)
            .map(Vec::as_slice)
            .ok_or_else(|| Error::invalid("a matrix where a vector is read"))
    }

    fn matrix(&self, id: WeightId) -> Result<&Packed> {
        self.packed.get(&id).ok_or_else(|| Error::invalid("a vector where a matrix is read"))
    }

    /// What `node` gives for `inputs`.
    fn node(&mut self, node: &Node, inputs: &[&Truth], batch: &Batch, spans: &[(u32, u32)]) -> Result<Truth> {
        let graph = self.check.graph.clone();
        let x = inputs.first().map_or(&[][..], |t| &t.values);
        let mut slack = vec![0.0f64; spans.len()];
        for input in inputs {
            slack.iter_mut().zip(&input.slack).for_each(|(s, more)| *s += more);
        }
        let rows = |table: &Packed, ids: Vec<usize>| {
            let mut y = vec![0.0; ids.len() * table.cols];
            ids.iter().zip(y.chunks_mut(table.cols)).for_each(|(&id, y)| table.decode_row(id, y));
            y
        };
        let values = match &node.op {
            Op::Embed { table } => {
                rows(self.matrix(*table)?, batch.tokens.iter().map(|t| t.id as usize).collect())
            }
            Op::EmbedPosition { table } => {
                rows(self.matrix(*table)?, batch.tokens.iter().map(|t| t.position as usize).collect())
            }
            Op::EmbedSegment { table } => {
                rows(self.matrix(*table)?, batch.tokens.iter().map(|t| t.segment as usize).collect())
            }
            Op::Input => batch.inputs.clone(),
            Op::RmsNorm { weight, eps } => reference::rms_norm(x, self.vector(*weight)?, *eps),
            Op::LayerNorm { weight, bias, eps } => {
                reference::layer_norm(x, self.vector(*weight)?, self.vector(*bias)?, *eps)
            }
            Op::Linear { weight, bias } => {
                let assignment = self.check.assignment;
                let bias = bias.map(|b| assignment.bias(*weight, self.vector(b)?)).transpose()?;
                return self.linear(*weight, bias.as_deref(), x, spans);
            }
            Op::Slice { offset } => {
                reference::slice(x, graph.nodes[node.inputs[0]].width, *offset, node.width)
            }
            Op::Rope { heads, inverse_frequency, .. } => {
                let positions: Vec<u32> = batch.tokens.iter().map(|t| t.position).collect();
                reference::rope(x, &positions, *heads, inverse_frequency)
            }
            &Op::Attention { layer, heads, kv_heads, head_dim, scale, mask } => {
                let shape = Heads { heads, kv_heads, head_dim, scale, mask };
                return Ok(self.attention(layer, shape, inputs, batch, spans, slack));
            }
            Op::Activate(function) => {
                // No function here is steeper than 1.2.
                slack.iter_mut().for_each(|s| *s *= 1.2);
                reference::activate(*function, x)
            }
            Op::Add => reference::add(x, &inputs[1].values),
            Op::Mul => reference::mul(x, &inputs[1].values),
            Op::OutputRows => reference::embed(x, node.width, batch.outputs.iter().map(|&row| row as usize)),
        };
        Ok(Truth { values, slack })
    }

    fn linear(
        &self,
        weight: WeightId,
        bias: Option<&[f32]>,
        x: &[f32],
        spans: &[(u32, u32)],
    ) -> Result<Truth> {
        let w = self.matrix(weight)?;
        let Some(format) = self.check.assignment.specs[weight].activation else {
            let values = reference::linear(x, spans.len(), &w.decode(), w.cols, bias);
            return Ok(Truth { values, slack: vec![0.0; spans.len()] });
        };
        let largest = w.decode().iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // Only these divide on the device; the other formats round by comparisons, which are exact.
        let divides = matches!(format, ActivationFormat::Int { .. } | ActivationFormat::TorchDynamic);
        let q = quantize_activations(x, w.cols, spans, format).filter(|_| divides);
        let of_row = |(row, &scale): (&[f32], &f32)| {
            let near = |v: &&f32| {
                let steps = (f64::from(**v) / f64::from(scale)).abs();
                (steps.fract() - 0.5).abs() < TIE
            };
            row.iter().filter(near).count() as f64 * f64::from(scale) * f64::from(largest)
        };
        let slack = match q {
            Some(q) => x.chunks(w.cols).zip(&q.scales).map(of_row).collect(),
            None => vec![0.0; spans.len()],
        };
        Ok(Truth { values: reference::linear_quantized(x, spans, format, w, bias)?, slack })
    }

    fn attention(
        &mut self,
        layer: usize,
        shape: Heads,
        inputs: &[&Truth],
        batch: &Batch,
        spans: &[(u32, u32)],
        mut slack: Vec<f64>,
    ) -> Truth {
        let (width, kv_width) = (shape.width(), shape.kv_width());
        let mut y = Vec::with_capacity(spans.len() * width);
        let mut begin = 0;
        while begin < spans.len() {
            let end = spans[begin].1 as usize;
            let token = batch.tokens[begin];
            let (keys, values) = &mut self.caches[layer][token.sequence as usize];
            let first = token.position as usize;
            keys.truncate(first * kv_width);
            values.truncate(first * kv_width);
            keys.extend_from_slice(&inputs[1].values[begin * kv_width..end * kv_width]);
            values.extend_from_slice(&inputs[2].values[begin * kv_width..end * kv_width]);
            let q = &inputs[0].values[begin * width..end * width];
            y.extend(reference::attention(q, keys, values, shape, first));
            let steep = score_slack(q, keys, values, shape, first);
            slack[begin..end].iter_mut().zip(steep).for_each(|(slack, more)| *slack += more);
            begin = end;
        }
        Truth { values: y, slack }
    }
}

/// How far the rounding of large scores may move a row: softmax turns the error of a score into a relative error of
/// its weight. 0 for scores of usual size.
fn score_slack(q: &[f32], keys: &[f32], values: &[f32], shape: Heads, first: usize) -> Vec<f64> {
    let magnitudes = |x: &[f32]| -> Vec<f32> { x.iter().map(|v| v.abs()).collect() };
    let sums = reference::attention_scores(&magnitudes(q), &magnitudes(keys), shape, first);
    let rows = q.len() / shape.width();
    let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let of_row = |sums: &[f32]| {
        let score = sums.iter().fold(0.0f32, |m, &v| m.max(v));
        // A few units in the last place of the sum of magnitudes, in two directions.
        if score > STEEP { f64::from(score) * f64::from(largest) * 8.0 * EPSILON } else { 0.0 }
    };
    sums.chunks(sums.len() / rows.max(1)).map(of_row).collect()
}

/// NMSE over the rows without slack; the others element by element.
fn judge(got: &[f32], truth: &Truth, width: usize) -> Difference {
    let mut want = truth.values.clone();
    if got.len() == want.len() {
        let rows = want.chunks_mut(width).zip(got.chunks(width)).zip(&truth.slack);
        for ((want, got), slack) in rows.filter(|(_, slack)| **slack > 0.0) {
            for (w, &g) in want.iter_mut().zip(got) {
                if f64::from(*w - g).abs() <= slack + 1e-5 * f64::from(w.abs()) {
                    *w = g;
                }
            }
        }
    }
    compare(&Outcome::dense(got, &want, width), Tolerance::Nmse(ONE_OP))
}

/// Which rows belong to the same sequence, for the nodes before and after the choice of output rows.
struct Spans {
    all: Vec<(u32, u32)>,
    outputs: Vec<(u32, u32)>,
    chosen: Vec<bool>,
}

impl Spans {
    fn new(graph: &Graph, batch: &Batch) -> Result<Self> {
        let all = batch.spans();
        let before = |row: u32| batch.outputs.partition_point(|&output| output < row) as u32;
        let of = |&row: &u32| (before(all[row as usize].0), before(all[row as usize].1));
        let outputs = batch.outputs.iter().map(of).collect();
        Ok(Self { all, outputs, chosen: graph.check()? })
    }

    fn of(&self, node: NodeId) -> &[(u32, u32)] {
        if self.chosen[node] { &self.outputs } else { &self.all }
    }
}
