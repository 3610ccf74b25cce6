//! A model on the device under one assignment: KV caches, plans, steps.

use std::collections::HashMap;
use std::sync::Arc;

use super::activation::runs_on_codes;
use super::plan::{Context, Plan};
use super::resident::{DeviceMatrix, Resident};
use super::rounding::Rounding;
use super::stack::{Stack, stacks};
use super::values::{Value, stride};
use crate::error::{Error, Result, invalid};
use crate::format::ActivationFormat;
use crate::gpu::{Buffer, Gpu, Recording};
use crate::graph::{Assignment, Batch, Graph, NodeId, Op, Role, WeightId, Weights};

/// Plans kept per session; a generation needs two (prefill and decode), an evaluation two.
const MAX_PLANS: usize = 8;

/// How a session runs.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// KV-cache slots.
    pub sequences: usize,
    /// Positions per slot; at most the graph's context.
    pub context: usize,
    /// Fused kernels and epilogues; `false` dequantizes first and runs every op by itself.
    pub fused: bool,
    /// Keeps the value of every node readable.
    pub keep: bool,
}

/// One graph, one assignment, on one device.
pub struct Session {
    gpu: Arc<Gpu>,
    graph: Arc<Graph>,
    assignment: Assignment,
    options: SessionOptions,
    matrices: Vec<Option<Arc<DeviceMatrix>>>,
    vectors: Vec<Option<Buffer>>,
    biases: HashMap<WeightId, Buffer>,
    stacks: Vec<Stack>,
    roundings: HashMap<(ActivationFormat, bool), Arc<Rounding>>,
    rotations: HashMap<NodeId, Buffer>,
    caches: Vec<(Buffer, Buffer)>,
    tokens: Buffer,
    output_tokens: Buffer,
    outputs: Buffer,
    /// Rows of numbers, for graphs that read some.
    inputs: Option<Buffer>,
    /// Per node: whether its rows are the output rows.
    selected: Vec<bool>,
    /// Tokens that each sequence slot holds.
    lengths: Vec<usize>,
    capacity: usize,
    plans: HashMap<(usize, usize), (Plan, u64)>,
    clock: u64,
    current: (usize, usize),
}

impl Session {
    /// Makes every weight of `graph` resident in its assigned format and allocates the KV caches.
    ///
    /// # Errors
    /// When weights are missing or unfit, the context is out of range, or the device cannot hold it all.
    pub fn new(
        resident: &mut Resident,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        assignment: Assignment,
        options: SessionOptions,
    ) -> Result<Self> {
        if options.context == 0 || options.context > graph.context {
            invalid!(
                "a context of {} tokens was asked for; this model has 1 to {}",
                options.context,
                graph.context
            );
        }
        if options.sequences == 0 {
            invalid!("a session needs at least one sequence");
        }
        let selected = graph.check()?;
        if assignment.specs.len() != graph.weights.len() {
            let (got, want) = (assignment.specs.len(), graph.weights.len());
            invalid!("the assignment has {got} entries; this graph has {want} weights");
        }
        let gpu = resident.gpu().clone();
        let stacks = match options.fused && resident.has_stacks() {
            true => stacks(&graph, &assignment),
            false => Vec::new(),
        };
        let mut matrices = vec![None; graph.weights.len()];
        let (mut biases, mut roundings) = (HashMap::new(), HashMap::new());
        for stack in &stacks {
            let [first, ..] = stack.weights[..] else { continue };
            let name = |&weight: &WeightId| graph.weights[weight].tensor.as_str();
            let names = stack.weights.iter().map(name).collect::<Vec<_>>().join(", ");
            let spec = assignment.specs[first];
            let matrix = resident.stack(weights, &names, &stack.weights, spec.weight)?;
            for &weight in &stack.weights {
                matrices[weight] = Some(matrix.clone());
            }
            if !stack.biases.is_empty() {
                biases.insert(first, resident.vectors(weights, &names, &stack.biases, spec.bias)?);
            }
        }
        let mut vectors = vec![None; graph.weights.len()];
        for (id, weight) in graph.weights.iter().enumerate() {
            if weight.role == Role::Vector {
                vectors[id] = Some(resident.vector(weights, &weight.tensor, id, None)?);
            } else if matrices[id].is_none() {
                let format = assignment.specs[id].weight;
                matrices[id] = Some(resident.matrix(weights, &weight.tensor, id, format)?);
            }
        }
        for node in &graph.nodes {
            let Op::Linear { weight, bias } = node.op else { continue };
            let spec = assignment.specs[weight];
            if let Some(activation) = spec.activation {
                let wrong = |error| Error::Invalid(format!("{}: {error}", graph.weights[weight].tensor));
                activation.check_width(graph.weights[weight].cols).map_err(wrong)?;
                if let Some(matrix) = &matrices[weight] {
                    let codes = runs_on_codes(options.fused, matrix, activation);
                    let rounding = resident.rounding(activation, codes)?;
                    roundings.extend(rounding.map(|rounding| ((activation, codes), rounding)));
                }
            }
            let stacked = || stacks.iter().any(|stack| stack.weights.contains(&weight));
            if let (Some(bias), Some(format), false) = (bias, spec.bias, stacked()) {
                let name = &graph.weights[bias].tensor;
                biases.insert(weight, resident.vector(weights, name, bias, Some(format))?);
            }
        }
        let caches = caches(&gpu, &graph, options.sequences, options.context)?;
        let rotations = rotations(&gpu, &graph, options.context)?;
        let (tokens, output_tokens) = (gpu.buffer("tokens", 32)?, gpu.buffer("output tokens", 32)?);
        let outputs = gpu.buffer("outputs", 4)?;
        Ok(Self {
            gpu,
            graph,
            assignment,
            options,
            matrices,
            vectors,
            biases,
            stacks,
            roundings,
            rotations,
            caches,
            tokens,
            output_tokens,
            outputs,
            inputs: None,
            selected,
            lengths: vec![0; options.sequences],
            capacity: 0,
            plans: HashMap::new(),
            clock: 0,
            current: (0, 0),
        })
    }

    /// The assignment this session runs.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Bytes of the KV caches.
    pub fn cache_bytes(&self) -> u64 {
        self.caches.iter().map(|(k, v)| k.bytes() + v.bytes()).sum()
    }

    /// Runs one batch; the logits of its output rows stay on the device. Does not wait.
    ///
    /// # Errors
    /// When the batch does not fit the session or the device fails.
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        batch.check(&self.graph, self.options.context, &self.lengths)?;
        let shape = (batch.tokens.len(), batch.outputs.len());
        self.grow(shape.0)?;
        self.gpu.upload(&self.tokens, bytemuck::cast_slice(&token_rows(batch)))?;
        self.gpu.upload(&self.outputs, bytemuck::cast_slice(&batch.outputs))?;
        if let (Some(inputs), Some(width)) = (&self.inputs, self.graph.input_width()) {
            self.gpu.upload(inputs, bytemuck::cast_slice(&input_rows(batch, width)))?;
        }
        self.gpu.upload(&self.output_tokens, bytemuck::cast_slice(&token_rows(&output_batch(batch))))?;
        self.plan(shape)?;
        if let Some((plan, used)) = self.plans.get_mut(&shape) {
            *used = self.clock;
            self.gpu.run(&[&plan.recording])?;
        }
        for token in &batch.tokens {
            self.lengths[token.sequence as usize] = token.position as usize + 1;
        }
        self.current = shape;
        Ok(())
    }

    /// Builds the plan for batches of `tokens` rows and `outputs` logits ahead of its first use, and has the driver
    /// compile its shaders. Does nothing once a batch has run: the trial run would write to the KV caches.
    ///
    /// # Errors
    /// When the device fails.
    pub fn prepare(&mut self, tokens: usize, outputs: usize) -> Result<()> {
        if tokens == 0 || outputs == 0 || self.lengths.iter().any(|&length| length > 0) {
            return Ok(());
        }
        self.grow(tokens)?;
        self.plan((tokens, outputs))?;
        match self.plans.get(&(tokens, outputs)) {
            Some((plan, _)) => self.gpu.warm(&plan.recording),
            None => Ok(()),
        }
    }

    /// Makes room for batches of `tokens` rows.
    fn grow(&mut self, tokens: usize) -> Result<()> {
        if tokens > self.capacity {
            self.capacity = tokens.next_power_of_two();
            self.tokens = self.gpu.buffer("tokens", (self.capacity * 32) as u64)?;
            self.output_tokens = self.gpu.buffer("output tokens", (self.capacity * 32) as u64)?;
            self.outputs = self.gpu.buffer("outputs", (self.capacity * 4) as u64)?;
            if let Some(width) = self.graph.input_width() {
                let bytes = (self.capacity * stride(width) * 4) as u64;
                self.inputs = Some(self.gpu.buffer("inputs", bytes)?);
            }
            self.plans.clear();
        }
        Ok(())
    }

    /// Makes sure that the plan for `shape` exists.
    fn plan(&mut self, shape: (usize, usize)) -> Result<()> {
        self.clock += 1;
        if !self.plans.contains_key(&shape) {
            if self.plans.len() >= MAX_PLANS {
                let oldest = self.plans.iter().min_by_key(|(_, (_, used))| *used).map(|(shape, _)| *shape);
                oldest.and_then(|shape| self.plans.remove(&shape));
            }
            let plan = Plan::new(&self.context(), shape.0, shape.1)?;
            self.plans.insert(shape, (plan, self.clock));
        }
        Ok(())
    }

    fn context(&self) -> Context<'_> {
        Context {
            gpu: &self.gpu,
            graph: &self.graph,
            assignment: &self.assignment,
            matrices: &self.matrices,
            vectors: &self.vectors,
            biases: &self.biases,
            stacks: &self.stacks,
            roundings: &self.roundings,
            rotations: &self.rotations,
            caches: &self.caches,
            tokens: &self.tokens,
            output_tokens: &self.output_tokens,
            selected: &self.selected,
            outputs: &self.outputs,
            inputs: self.inputs.as_ref(),
            context: self.options.context,
            fused: self.options.fused,
            keep: self.options.keep,
        }
    }

    /// Logits of the last step on the device.
    pub(super) fn logits_value(&self) -> Result<&Value> {
        match self.plans.get(&self.current) {
            Some((plan, _)) => Ok(&plan.logits),
            None => invalid!("no step has run yet"),
        }
    }

    /// Result of the last step, `[outputs, width of the last node]`.
    ///
    /// # Errors
    /// When no step has run or the device fails.
    pub fn logits(&self) -> Result<Vec<f32>> {
        read(&self.gpu, self.logits_value()?)
    }

    /// Value of every node in the last step, `None` where it was fused away.
    ///
    /// # Errors
    /// As [`Session::logits`]; the session must have been made with `keep`.
    pub fn node_values(&self) -> Result<Vec<Option<Vec<f32>>>> {
        if !self.options.keep {
            invalid!("node values are not kept; open the session with keep");
        }
        let Some((plan, _)) = self.plans.get(&self.current) else { invalid!("no step has run yet") };
        plan.values.iter().map(|v| v.as_ref().map(|v| read(&self.gpu, v)).transpose()).collect()
    }

    /// Dispatches of the last step.
    pub fn dispatches(&self) -> usize {
        self.plans.get(&self.current).map_or(0, |(plan, _)| plan.recording.len())
    }

    /// The dispatches of the last step, to be run again: a benchmark times what runs.
    pub fn recording(&self) -> Option<&Recording> {
        self.plans.get(&self.current).map(|(plan, _)| &plan.recording)
    }

    /// Where the dispatches of the last step leave their result, `[outputs, stride]` f32, and the stride.
    pub fn output(&self) -> Option<(&Buffer, usize)> {
        self.plans.get(&self.current).map(|(plan, _)| (&plan.logits.buffer, plan.logits.stride))
    }

    /// Name and seconds of every dispatch of the last step, run again one by one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn profile(&self) -> Result<Vec<(String, f64)>> {
        match self.plans.get(&self.current) {
            Some((plan, _)) => self.gpu.time_dispatches(&plan.recording),
            None => Ok(Vec::new()),
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

/// Empty KV caches of every layer, keys and values.
pub(super) fn caches(
    gpu: &Gpu,
    graph: &Graph,
    sequences: usize,
    context: usize,
) -> Result<Vec<(Buffer, Buffer)>> {
    let mut caches = Vec::with_capacity(graph.kv_widths.len());
    for (layer, width) in graph.kv_widths.iter().enumerate() {
        // Heads are padded to whole vec4 in the caches.
        let head_dim = graph.nodes.iter().find_map(|node| match node.op {
            Op::Attention { layer: l, head_dim, .. } if l == layer => Some(head_dim),
            _ => None,
        });
        let head_dim = head_dim.unwrap_or(1).max(1);
        let padded = width / head_dim * head_dim.next_multiple_of(4);
        let bytes = (sequences * context * padded * 4) as u64;
        caches.push((
            gpu.buffer(&format!("key cache of layer {layer}"), bytes)?,
            gpu.buffer(&format!("value cache of layer {layer}"), bytes)?,
        ));
    }
    Ok(caches)
}

/// The tokens of the output rows, for nodes behind the selection.
pub(super) fn output_batch(batch: &Batch) -> Batch {
    let tokens = batch.outputs.iter().map(|&row| batch.tokens[row as usize]).collect();
    Batch::new(tokens, Vec::new())
}

/// The rows of numbers of a batch, padded as values are.
pub(super) fn input_rows(batch: &Batch, width: usize) -> Vec<f32> {
    let mut rows = vec![0.0; batch.tokens.len() * stride(width)];
    for (to, from) in rows.chunks_mut(stride(width)).zip(batch.inputs.chunks(width)) {
        to[..width].copy_from_slice(from);
    }
    rows
}

/// The rows that kernels see as `Token`.
pub(super) fn token_rows(batch: &Batch) -> Vec<u32> {
    let mut rows = Vec::with_capacity(batch.tokens.len() * 8);
    for (token, (begin, end)) in batch.tokens.iter().zip(batch.spans()) {
        rows.extend([token.id, token.sequence, token.position, begin, end, token.segment, 0, 0]);
    }
    rows
}

/// Reads a value back without its padding.
fn read(gpu: &Gpu, value: &Value) -> Result<Vec<f32>> {
    let all = gpu.read::<f32>(&value.buffer, value.rows * value.stride)?;
    let mut out = Vec::with_capacity(value.rows * value.width);
    for row in all.chunks(value.stride) {
        out.extend_from_slice(&row[value.offset..value.offset + value.width]);
    }
    Ok(out)
}

/// (cos, sin) per position and pair for every rope node. The angle is rounded to f32 as Hugging Face does; its
/// cosine and sine are then computed in f64, because WGSL's own are too coarse for large angles.
pub(super) fn rotations(gpu: &Gpu, graph: &Graph, context: usize) -> Result<HashMap<NodeId, Buffer>> {
    let mut by_frequency: Vec<(&[f32], Buffer)> = Vec::new();
    let mut rotations = HashMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let Op::Rope { inverse_frequency, .. } = &node.op else { continue };
        let known = by_frequency.iter().find(|(f, _)| *f == inverse_frequency.as_slice());
        let buffer = match known {
            Some((_, buffer)) => buffer.clone(),
            None => {
                let mut table = Vec::with_capacity(context * inverse_frequency.len() * 2);
                for position in 0..context {
                    for frequency in inverse_frequency {
                        let angle = f64::from(position as f32 * frequency);
                        table.extend([angle.cos() as f32, angle.sin() as f32]);
                    }
                }
                let buffer = gpu.buffer("rotation table", (table.len() * 4) as u64)?;
                gpu.upload(&buffer, bytemuck::cast_slice(&table))?;
                by_frequency.push((inverse_frequency, buffer.clone()));
                buffer
            }
        };
        rotations.insert(id, buffer);
    }
    Ok(rotations)
}
