//! Lowering: a graph, its resident weights and a batch shape become one recording.

use std::collections::HashMap;
use std::sync::Arc;

use super::activation::{CodesKey, Quantized, fields, runs_on_codes};
use super::fusion::{self, Step};
use super::matmul::{self, Operand, Target};
use super::resident::DeviceMatrix;
use super::rounding::Rounding;
use super::stack::Stack;
use super::values::{Pool, Value, stride, whole_quads};
use crate::error::{Error, Result, invalid};
use crate::format::ActivationFormat;
use crate::gpu::{Binder, Buffer, Gpu, Recording};
use crate::graph::{Assignment, Function, Graph, NodeId, Op, WeightId};
use crate::shader::{DeviceClass, Epilogue, Kernel, Tile, Variant, function_code};

/// What a plan reads besides its own buffers.
pub(super) struct Context<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) graph: &'a Graph,
    pub(super) assignment: &'a Assignment,
    pub(super) matrices: &'a [Option<Arc<DeviceMatrix>>],
    pub(super) vectors: &'a [Option<Buffer>],
    /// Quantized and stacked biases, by the weight they belong to.
    pub(super) biases: &'a HashMap<WeightId, Buffer>,
    /// Linears that run as one: the matrix and the bias of every member are those of all.
    pub(super) stacks: &'a [Stack],
    pub(super) rotations: &'a HashMap<NodeId, Buffer>,
    /// Tables of activation formats, for values or codes.
    pub(super) roundings: &'a HashMap<(ActivationFormat, bool), Arc<Rounding>>,
    pub(super) caches: &'a [(Buffer, Buffer)],
    pub(super) tokens: &'a Buffer,
    /// The tokens of the output rows, for nodes after the selection.
    pub(super) output_tokens: &'a Buffer,
    pub(super) selected: &'a [bool],
    pub(super) outputs: &'a Buffer,
    /// Rows of numbers, in the place of the value of an [`Op::Input`].
    pub(super) inputs: Option<&'a Buffer>,
    pub(super) context: usize,
    pub(super) fused: bool,
    pub(super) keep: bool,
}

/// A lowered graph for one batch shape.
pub(super) struct Plan {
    pub(super) recording: Recording,
    pub(super) logits: Value,
    /// With `keep`: the value of every node that has one.
    pub(super) values: Vec<Option<Value>>,
}

pub(super) struct Lowering<'a> {
    pub(super) c: &'a Context<'a>,
    pub(super) binder: Binder,
    pub(super) pool: Pool,
    /// Values of nodes; one that exists before its step is lowered is written in place.
    pub(super) values: Vec<Option<Value>>,
    /// What the values of stacks are columns of, by their first node.
    pub(super) stacked: HashMap<NodeId, Value>,
    pub(super) quantized: HashMap<CodesKey, Quantized>,
    pub(super) fake_quantized: HashMap<(NodeId, ActivationFormat), Value>,
    /// Largest magnitudes of the rows of values whose kernel finds them on the way.
    pub(super) maxima: HashMap<NodeId, Buffer>,
    pub(super) scratch: Option<Buffer>,
    /// Scores and weights of the naive attention, by size; layers run one after another and share them.
    pub(super) scores: HashMap<usize, (Buffer, Buffer)>,
    pub(super) tokens: usize,
    pub(super) outputs: usize,
}

/// For every step the index of the last one that reads the buffer of a node; a slice shares its input's buffer, so its
/// readers count as the input's, and those of a stack as its first node's. Also the node that owns each node's buffer.
pub(super) fn lifetimes(graph: &Graph, steps: &[Step]) -> Result<(Vec<NodeId>, Vec<usize>)> {
    let mut root: Vec<NodeId> = (0..graph.nodes.len()).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Slice { .. }) {
            root[id] = root[node.inputs[0]];
        }
    }
    for step in steps {
        for &other in &step.also {
            root[other] = step.node;
        }
    }
    let mut last_use = vec![0; graph.nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        for input in step.reads(graph) {
            last_use[root[input]] = at;
        }
    }
    let logits = graph.nodes.len().checked_sub(1).ok_or_else(|| Error::invalid("an empty graph"))?;
    last_use[root[logits]] = usize::MAX;
    Ok((root, last_use))
}

impl Plan {
    /// Lowers the graph for `tokens` rows, of which `outputs` reach the logits.
    pub(super) fn new(c: &Context, tokens: usize, outputs: usize) -> Result<Self> {
        let graph = c.graph;
        let steps = fusion::steps(graph, c.fused, c.stacks);
        let (root, last_use) = lifetimes(graph, &steps)?;
        let logits_node = graph.nodes.len() - 1;
        let mut lowering = Lowering {
            c,
            binder: Binder::default(),
            pool: Pool::default(),
            values: vec![None; graph.nodes.len()],
            stacked: HashMap::new(),
            quantized: HashMap::new(),
            fake_quantized: HashMap::new(),
            maxima: HashMap::new(),
            scratch: None,
            scores: HashMap::new(),
            tokens,
            outputs,
        };
        if !c.fused {
            let parts =
                c.matrices.iter().flatten().flat_map(|m| m.parts.iter().map(|p| p.rows * stride(m.cols)));
            let largest = parts.max().unwrap_or(0);
            lowering.scratch = Some(c.gpu.buffer("dequantized weights", (largest * 4) as u64)?);
        }
        for (at, step) in steps.iter().enumerate() {
            lowering.step(step)?;
            if !c.keep {
                for id in 0..=step.output {
                    if root[id] == id
                        && last_use[id] == at
                        && let Some(value) = lowering.values[id].take()
                    {
                        // The batch's own rows are not for other values to overwrite.
                        if graph.nodes[id].op != Op::Input {
                            let whole = lowering.stacked.remove(&id).unwrap_or(value);
                            lowering.pool.give(whole);
                        }
                        lowering.release(id);
                    }
                }
            }
        }
        let logits = lowering.value(logits_node)?.clone();
        Ok(Self { recording: lowering.binder.finish(c.gpu)?, logits, values: lowering.values })
    }
}

impl Lowering<'_> {
    pub(super) fn value(&self, node: NodeId) -> Result<&Value> {
        self.values[node]
            .as_ref()
            .ok_or_else(|| Error::invalid(format!("node {} has no value", self.c.graph.nodes[node].name)))
    }

    /// A value whose rows begin at column 0, as elementwise and matrix kernels need it.
    pub(super) fn whole(&self, node: NodeId) -> Result<Value> {
        let value = self.value(node)?.clone();
        if value.offset != 0 || value.stride != stride(value.width) {
            invalid!("node {} is a slice where a whole value is needed", self.c.graph.nodes[node].name);
        }
        Ok(value)
    }

    pub(super) fn matrix(&self, weight: WeightId) -> Result<Arc<DeviceMatrix>> {
        self.c.matrices[weight].clone().ok_or_else(|| Error::invalid("a matrix is not resident"))
    }

    fn vector(&self, weight: WeightId) -> Result<Buffer> {
        self.c.vectors[weight].clone().ok_or_else(|| Error::invalid("a vector is not resident"))
    }

    pub(super) fn dispatch(
        &mut self,
        variant: &Variant,
        buffers: &[(&str, &Buffer)],
        params: &[(&str, u32)],
        groups: u64,
    ) -> Result<()> {
        self.binder.dispatch(self.c.gpu.pipeline(variant)?, buffers, params, groups)
    }

    /// One invocation per element.
    pub(super) fn elementwise(
        &mut self,
        variant: Variant,
        buffers: &[(&str, &Buffer)],
        params: &[(&str, u32)],
        n: usize,
    ) -> Result<()> {
        let groups = (n as u64).div_ceil(variant.tile.workgroup.into());
        self.dispatch(&variant, buffers, params, groups)
    }

    /// One workgroup per row, or one invocation, see [`matmul::row_variant`].
    pub(super) fn rowwise(
        &mut self,
        kernel: Kernel,
        buffers: &[(&str, &Buffer)],
        params: &[(&str, u32)],
        rows: usize,
    ) -> Result<()> {
        let variant = matmul::row_variant(self.c.gpu, kernel, params, rows);
        self.dispatch(&variant, buffers, params, (rows as u64).div_ceil(variant.tile.tile_m.into()))
    }

    /// Rows of what `step` computes.
    pub(super) fn rows(&self, step: &Step) -> Result<usize> {
        let node = &self.c.graph.nodes[step.node];
        Ok(match (&node.op, step.rotated.iter().flatten().chain(&node.inputs).next()) {
            (Op::OutputRows, _) => self.outputs,
            (_, Some(&id)) => self.value(id)?.rows,
            (_, None) => self.tokens,
        })
    }

    /// Rounds the input of a linear step as its spec asks; does nothing for other steps and where that has been done.
    pub(super) fn round_input(&mut self, step: &Step) -> Result<()> {
        let node = &self.c.graph.nodes[step.node];
        let (&Op::Linear { weight, .. }, Some(&input)) = (&node.op, node.inputs.first()) else {
            return Ok(());
        };
        let Some(format) = self.c.assignment.specs[weight].activation else { return Ok(()) };
        let matrix = self.matrix(weight)?;
        match runs_on_codes(self.c.fused, &matrix, format) {
            true => {
                let fields = fields(self.c.gpu, &matrix, format, self.value(input)?.rows);
                self.quantize(input, format, fields)
            }
            false => self.fake_quantize(input, format).map(drop),
        }
    }

    /// Appends the dispatches of `step`.
    pub(super) fn step(&mut self, step: &Step) -> Result<()> {
        let node = &self.c.graph.nodes[step.node];
        let first = node.inputs.first().copied();
        let input = || first.ok_or_else(|| Error::invalid(format!("node {} has no input", node.name)));
        if let Op::Slice { offset } = node.op {
            let mut view = self.value(input()?)?.clone();
            view.offset += offset;
            view.width = node.width;
            self.values[step.output] = Some(view);
            return Ok(());
        }
        let rows = self.rows(step)?;
        if !step.also.is_empty() {
            return self.stack(step, input()?);
        }
        let y = match (self.values[step.output].clone(), &node.op) {
            (Some(value), _) => value,
            (None, Op::Input) => input_value(self.c.inputs, rows, node.width)?,
            (None, _) => self.pool.take(self.c.gpu, &node.name, rows, node.width)?,
        };
        match &node.op {
            Op::Embed { table } => self.embed(*table, 0, &y)?,
            Op::EmbedPosition { table } => self.embed(*table, 1, &y)?,
            Op::EmbedSegment { table } => self.embed(*table, 2, &y)?,
            Op::RmsNorm { weight, eps } => {
                let x = self.whole(input()?)?;
                let cols = self.c.graph.weights[*weight].cols;
                let heads = x.width / cols;
                let weight = self.vector(*weight)?;
                if heads == 1 && self.normalize_to_codes(step.output, &x, &weight, *eps)? {
                    // What the codes were made of is nowhere, but its shape is asked for.
                    self.values[step.output] = Some(y);
                    return Ok(());
                }
                let maxima = self.c.gpu.buffer("row maxima", (rows * heads * 4) as u64)?;
                let buffers = [("x", &x.buffer), ("weight", &weight), ("y", &y.buffer), ("maxima", &maxima)];
                let params = [
                    ("m", rows as u32),
                    ("heads", heads as u32),
                    ("cols", cols as u32),
                    ("x_stride", x.stride as u32),
                    ("y_stride", y.stride as u32),
                    ("eps", eps.to_bits()),
                ];
                self.rowwise(Kernel::RmsNorm, &buffers, &params, rows * heads)?;
                if heads == 1 {
                    self.maxima.insert(step.output, maxima);
                }
            }
            Op::LayerNorm { weight, bias, eps } => {
                let x = self.whole(input()?)?;
                let (weight, bias) = (self.vector(*weight)?, self.vector(*bias)?);
                let buffers = [("x", &x.buffer), ("weight", &weight), ("bias", &bias), ("y", &y.buffer)];
                let mut params = shape(&x, &y).to_vec();
                params.push(("eps", eps.to_bits()));
                self.rowwise(Kernel::LayerNorm, &buffers, &params, rows)?;
            }
            Op::Linear { weight, bias } => self.linear(step, *weight, *bias, input()?, &y)?,
            Op::Rope { heads, head_dim, .. } => {
                let x = self.value(input()?)?.clone();
                self.rope(step.node, (*heads, *head_dim), &x, &y)?;
            }
            Op::Attention { .. } => self.attention(step, &y)?,
            Op::Activate(function) => {
                let x = self.whole(input()?)?;
                self.activate(*function, &x, &y)?;
            }
            Op::Add | Op::Mul => {
                let (Some(&a), Some(&b)) = (node.inputs.first(), node.inputs.get(1)) else {
                    invalid!("node {} needs two inputs", node.name);
                };
                let (x, z) = (self.whole(a)?, self.whole(b)?);
                let (kernel, share) = match node.op {
                    Op::Add => (Kernel::Add, 1),
                    _ if whole_quads(&[y.width]) => (Kernel::MulQuads, 4),
                    _ => (Kernel::Mul, 1),
                };
                let buffers = [("x", &x.buffer), ("z", &z.buffer), ("y", &y.buffer)];
                let mut params = shape(&x, &y).to_vec();
                params.push(("z_stride", z.stride as u32));
                let variant = Variant::plain(kernel, Tile::elementwise());
                self.elementwise(variant, &buffers, &params, rows * y.width / share)?;
            }
            Op::OutputRows => {
                let x = self.whole(input()?)?;
                let buffers = [("x", &x.buffer), ("outputs", self.c.outputs), ("y", &y.buffer)];
                let variant = Variant::plain(Kernel::GatherRows, Tile::elementwise());
                self.elementwise(variant, &buffers, &shape(&y, &y), rows * y.width.div_ceil(4))?;
            }
            // Nothing to compute.
            Op::Slice { .. } | Op::Input => {}
        }
        self.values[step.output] = Some(y);
        Ok(())
    }

    fn embed(&mut self, table: WeightId, source: u32, y: &Value) -> Result<()> {
        let matrix = self.matrix(table)?;
        for part in &matrix.parts {
            let variant = Variant {
                format: Some(matrix.variant),
                ..Variant::plain(Kernel::Embed, Tile::elementwise())
            }
            .constant("SOURCE", source);
            let buffers = [
                ("tokens", self.c.tokens),
                ("y", &y.buffer),
                ("codes", &part.codes),
                ("scales", &part.scales),
            ];
            let mut params = matrix.params(part);
            params.extend([
                ("m", y.rows as u32),
                ("first_row", part.first_row as u32),
                ("y_stride", y.stride as u32),
            ]);
            self.elementwise(variant, &buffers, &params, y.rows * y.stride / 32)?;
        }
        Ok(())
    }

    fn activate(&mut self, function: Function, x: &Value, y: &Value) -> Result<()> {
        let variant = Variant::plain(Kernel::Activate, Tile::elementwise())
            .constant("FUNCTION", function_code(function));
        self.elementwise(variant, &[("x", &x.buffer), ("y", &y.buffer)], &shape(x, y), x.rows * x.width)
    }

    /// The products of a stack, and their values as columns of the result.
    fn stack(&mut self, step: &Step, input: NodeId) -> Result<()> {
        let nodes = &self.c.graph.nodes;
        let Op::Linear { weight, bias } = nodes[step.node].op else {
            invalid!("node {} is no product", nodes[step.node].name);
        };
        let members: Vec<NodeId> = [step.node].iter().chain(&step.also).copied().collect();
        let width = members.iter().map(|&node| nodes[node].width).sum();
        let whole = self.pool.take(self.c.gpu, &nodes[step.node].name, self.value(input)?.rows, width)?;
        self.linear(step, weight, bias, input, &whole)?;
        let mut offset = 0;
        for node in members {
            let width = nodes[node].width;
            self.values[node] = Some(Value { width, offset, ..whole.clone() });
            offset += width;
        }
        self.stacked.insert(step.node, whole);
        Ok(())
    }

    fn linear(
        &mut self,
        step: &Step,
        weight: WeightId,
        bias: Option<WeightId>,
        input: NodeId,
        y: &Value,
    ) -> Result<()> {
        let gpu = self.c.gpu;
        let matrix = self.matrix(weight)?;
        let quantized = self.c.biases.get(&weight).cloned();
        let bias = bias.map(|b| quantized.map_or_else(|| self.vector(b), Ok)).transpose()?;
        let residual = step.residual.map(|r| self.whole(r)).transpose()?;
        let activation = self.c.assignment.specs[weight].activation;
        let integer = activation.filter(|&format| runs_on_codes(self.c.fused, &matrix, format));
        // A fused bias belongs to the epilogue; without fusion it is a dispatch of its own.
        let separate_bias = bias.as_ref().filter(|_| !self.c.fused);
        let codes = integer.map(|format| {
            let per_chunk = format.integer_group(matrix.cols).is_some_and(|group| group < matrix.cols);
            (fields(gpu, &matrix, format, y.rows).bits, per_chunk)
        });
        // Gate and up side by side, where their product is too wide for one invocation to own both.
        let apart = match step.epilogue {
            Epilogue::Gated { function, .. } if !matmul::joins_gate(gpu, &matrix, y.rows, codes) => {
                Some(function)
            }
            _ => None,
        };
        let product = match (apart, separate_bias) {
            (Some(_), _) => self.pool.take(gpu, "gate and up", y.rows, 2 * y.width)?,
            (None, Some(_)) => self.pool.take(gpu, "product", y.rows, y.width)?,
            (None, None) => y.clone(),
        };
        let target = Target {
            y: &product.buffer,
            stride: product.stride,
            epilogue: match apart {
                Some(_) if bias.is_some() => Epilogue::Bias,
                Some(_) => Epilogue::Store,
                None => step.epilogue,
            },
            bias: bias.as_ref().filter(|_| self.c.fused),
            residual: residual.as_ref().map(|r| &r.buffer),
            shared: shared_function(gpu, self.c.graph).filter(|_| self.c.fused),
        };
        debug_assert!(residual.as_ref().is_none_or(|r| r.stride == y.stride));
        let scratch = self.scratch.clone();
        if let Some(format) = integer {
            let fields = fields(gpu, &matrix, format, y.rows);
            self.quantize(input, format, fields)?;
            let Some(q) = self.quantized.get(&(input, format, fields)) else {
                invalid!("activations were not quantized");
            };
            let (x, scales, stride, per_chunk) = (&q.words, &q.scales, q.stride, q.per_chunk);
            let operand = Operand::Codes { x, scales, stride, per_chunk, bits: fields.bits };
            matmul::multiply(gpu, &mut self.binder, &matrix, y.rows, operand, &target, None)?;
        } else {
            let x = match activation {
                Some(format) => self.fake_quantize(input, format)?,
                None => self.whole(input)?,
            };
            let operand = Operand::Float { x: &x.buffer, stride: x.stride };
            matmul::multiply(gpu, &mut self.binder, &matrix, y.rows, operand, &target, scratch.as_ref())?;
        }
        if let Some(function) = apart {
            let buffers = [("x", &product.buffer), ("y", &y.buffer)];
            let variant = Variant::plain(Kernel::GateQuads, Tile::elementwise())
                .constant("FUNCTION", function_code(function));
            let params = [
                ("m", y.rows as u32),
                ("cols", y.width as u32),
                ("x_stride", product.stride as u32),
                ("y_stride", y.stride as u32),
            ];
            self.elementwise(variant, &buffers, &params, y.rows * y.width / 4)?;
            if !self.c.keep {
                self.pool.give(product);
            }
            return Ok(());
        }
        if let Some(bias) = separate_bias {
            let buffers = [("x", &product.buffer), ("bias", bias), ("y", &y.buffer)];
            let variant = Variant::plain(Kernel::AddBias, Tile::elementwise());
            self.elementwise(variant, &buffers, &shape(&product, y), y.rows * y.width)?;
            if !self.c.keep {
                self.pool.give(product);
            }
        }
        debug_assert!(self.c.fused || step.epilogue == Epilogue::Store);
        Ok(())
    }
}

/// The function of the graph where its products share pipelines: on software drivers, which take up to half a second for
/// each.
fn shared_function(gpu: &Gpu, graph: &Graph) -> Option<Function> {
    let function = graph.nodes.iter().find_map(|node| match node.op {
        Op::Activate(function) => Some(function),
        _ => None,
    });
    (gpu.class() == DeviceClass::Cpu).then(|| function.unwrap_or(Function::Silu))
}

/// The rows of numbers of a batch as the value of a node.
pub(super) fn input_value(inputs: Option<&Buffer>, rows: usize, width: usize) -> Result<Value> {
    match inputs {
        Some(buffer) => Ok(Value { buffer: buffer.clone(), rows, width, stride: stride(width), offset: 0 }),
        None => invalid!("the batch has no rows of numbers"),
    }
}

/// The four shape parameters of elementwise and row kernels.
fn shape(x: &Value, y: &Value) -> [(&'static str, u32); 4] {
    [
        ("m", y.rows as u32),
        ("cols", x.width as u32),
        ("x_stride", x.stride as u32),
        ("y_stride", y.stride as u32),
    ]
}
