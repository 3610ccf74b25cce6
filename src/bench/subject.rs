//! A graph of one op with its data, which the engine lowers as it lowers a model.

use std::sync::Arc;

use super::check::Expectation;
use super::data;
use super::op::Shape;
use crate::engine::{Resident, Session, SessionOptions};
use crate::error::{Result, invalid};
use crate::format::{Format, Packed, Spec, fake_quantize};
use crate::gpu::Gpu;
use crate::graph::{Assignment, Batch, Graph, Mask, Op, Role, Token, WeightId, Weights};
use crate::reference::Heads;

/// One op, its operands and what comes out.
pub(super) struct Subject {
    graph: Arc<Graph>,
    assignment: Assignment,
    source: Source,
    /// Tokens that are in the KV cache before.
    prefix: Option<Batch>,
    batch: Batch,
    /// Sampled results in f64.
    pub(super) expectation: Expectation,
}

/// The weights of a graph of one op.
#[derive(Default)]
struct Source {
    packed: Option<Packed>,
    vector: Vec<f32>,
}

impl Weights for Source {
    fn packed(&self, _: WeightId, format: Format) -> Result<Packed> {
        match &self.packed {
            Some(packed) if packed.format == format => Ok(packed.clone()),
            _ => invalid!("the benchmark has no matrix in {format}"),
        }
    }

    fn vector(&self, _: WeightId) -> Result<Vec<f32>> {
        Ok(self.vector.clone())
    }
}

impl Subject {
    /// `y = x W^T` with random x `[m, k]` and W `[n, k]`.
    pub(super) fn linear(spec: Spec, shape: Shape) -> Result<Self> {
        let Shape { m, n, k } = shape;
        let packed = spec.weight.encode(&data::values(n * k, 1), n, k)?;
        let mut graph = Graph { context: m, ..Graph::default() };
        let weight = graph.weight("weight", n, k, Role::Linear, false);
        let input = graph.push("input", Op::Input, &[], k);
        graph.push("linear", Op::Linear { weight, bias: None }, &[input], n);
        let mut batch = Batch::of_inputs(data::values(m * k, 2), k)?;
        if let Some(format) = spec.activation {
            format.check_width(k)?;
            // Values that lie on codes: where one lies on the tie between two, the device may choose the other.
            batch.inputs = fake_quantize(&batch.inputs, k, &batch.spans(), format);
        }
        let x = match spec.activation {
            Some(format) => fake_quantize(&batch.inputs, k, &batch.spans(), format),
            None => batch.inputs.clone(),
        };
        let expectation = Expectation::linear(&x, &packed, m);
        Ok(Self {
            graph: Arc::new(graph),
            assignment: Assignment { specs: vec![spec] },
            source: Source { packed: Some(packed), ..Source::default() },
            prefix: None,
            batch,
            expectation,
        })
    }

    /// RMSNorm of m rows of k elements.
    pub(super) fn norm(shape: Shape) -> Result<Self> {
        let Shape { m, k, .. } = shape;
        let mut graph = Graph { context: m, ..Graph::default() };
        let weight = graph.weight("weight", 1, k, Role::Vector, false);
        let input = graph.push("input", Op::Input, &[], k);
        graph.push("norm", Op::RmsNorm { weight, eps: 1e-5 }, &[input], k);
        let vector = data::values(k, 1);
        let batch = Batch::of_inputs(data::values(m * k, 2), k)?;
        let expectation = Expectation::norm(&batch.inputs, &vector);
        Ok(Self {
            graph: Arc::new(graph),
            assignment: Assignment { specs: vec![Spec::from(Format::F32)] },
            source: Source { packed: None, vector },
            prefix: None,
            batch,
            expectation,
        })
    }

    /// Attention of the last m of n tokens.
    pub(super) fn attention(m: usize, n: usize, heads: Heads) -> Result<Self> {
        if m > n || (heads.mask == Mask::Full && m != n) {
            let want = if heads.mask == Mask::Full { "as many" } else { "no more than that" };
            invalid!("attention of {m} queries (M) over {n} positions (N); want {want}");
        }
        let Heads { heads: count, kv_heads, head_dim, scale, mask } = heads;
        let (width, kv_width) = (heads.width(), heads.kv_width());
        let mut graph = Graph { context: n, kv_widths: vec![kv_width], ..Graph::default() };
        let input = graph.push("input", Op::Input, &[], width + 2 * kv_width);
        let mut slice = |name, offset, width| graph.push(name, Op::Slice { offset }, &[input], width);
        let parts =
            [slice("q", 0, width), slice("k", width, kv_width), slice("v", width + kv_width, kv_width)];
        let op = Op::Attention { layer: 0, heads: count, kv_heads, head_dim, scale, mask };
        graph.push("attention", op, &parts, width);
        let columns = width + 2 * kv_width;
        let all = data::values(n * columns, 2);
        let tokens = |range: std::ops::Range<usize>| Batch {
            tokens: range.clone().map(|at| Token::new(0, 0, at as u32)).collect(),
            outputs: (0..range.len() as u32).collect(),
            inputs: all[range.start * columns..range.end * columns].to_vec(),
        };
        let prefix = (m < n).then(|| tokens(0..n - m));
        let batch = tokens(n - m..n);
        let expectation = Expectation::attention(&all, m, n, heads);
        Ok(Self {
            graph: Arc::new(graph),
            assignment: Assignment { specs: Vec::new() },
            source: Source::default(),
            prefix,
            batch,
            expectation,
        })
    }

    /// Bytes of the packed matrix.
    pub(super) fn packed_bytes(&self) -> u64 {
        self.source.packed.as_ref().map_or(0, |packed| packed.bytes() as u64)
    }

    /// The packed matrix.
    pub(super) fn packed(&self) -> Option<&Packed> {
        self.source.packed.as_ref()
    }

    /// A session that has run the op once, on buffers of its own.
    pub(super) fn session(&self, gpu: &Arc<Gpu>, fused: bool) -> Result<Session> {
        self.session_on(&mut Resident::new(gpu.clone(), None), fused)
    }

    /// The same over the matrix that `resident` holds.
    pub(super) fn session_on(&self, resident: &mut Resident, fused: bool) -> Result<Session> {
        let options = SessionOptions { sequences: 1, context: self.graph.context, fused, keep: false };
        let (graph, assignment) = (self.graph.clone(), self.assignment.clone());
        let mut session = Session::new(resident, graph, &self.source, assignment, options)?;
        if let Some(prefix) = &self.prefix {
            session.step(prefix)?;
        }
        session.step(&self.batch)?;
        Ok(session)
    }
}
