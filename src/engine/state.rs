//! The values of one batch, kept from trial to trial, and the recordings that compute them.

use std::collections::HashMap;
use std::sync::Arc;

use super::activation::{CodesKey, Fields, Quantized, fields, runs_on_codes};
use super::fusion::Step;
use super::history::Content;
use super::loss::{Measures, measure};
use super::plan::{Context, Lowering, input_value};
use super::session::{input_rows, output_batch, token_rows};
use super::trial::Prediction;
use super::values::{Pool, Value};
use crate::error::{Error, Result, invalid};
use crate::format::{ActivationFormat, Format, Spec};
use crate::gpu::{Binder, Buffer, Gpu, Recording};
use crate::graph::{Graph, NodeId, Op};
use crate::shader::{Kernel, Tile, Variant};

/// Where values live and for how long, see [`super::plan::lifetimes`].
pub(super) struct Places<'a> {
    pub(super) steps: &'a [Step],
    pub(super) root: &'a [NodeId],
    pub(super) last_use: &'a [usize],
    /// Every value has a buffer of its own.
    pub(super) keeps: bool,
}

/// An input rounded for linears, and what it was made from.
struct Rounded {
    recording: Arc<Recording>,
    of: Option<Content>,
}

/// One batch on the device.
pub(super) struct State {
    pub(super) tokens: Buffer,
    pub(super) output_tokens: Buffer,
    pub(super) outputs: Buffer,
    /// Rows of numbers, for graphs that read some.
    pub(super) inputs: Option<Buffer>,
    pub(super) caches: Vec<(Buffer, Buffer)>,
    size: (usize, usize),
    values: Vec<Option<Value>>,
    quantized: HashMap<CodesKey, Quantized>,
    fake_quantized: HashMap<(NodeId, ActivationFormat), Value>,
    maxima: HashMap<NodeId, Buffer>,
    scratch: Option<Buffer>,
    scores: HashMap<usize, (Buffer, Buffer)>,
    recordings: HashMap<(usize, Option<Spec>), Arc<Recording>>,
    /// By node, format, and kind of fields where codes were made.
    rounded: HashMap<(NodeId, ActivationFormat, Option<Fields>), Rounded>,
    reductions: HashMap<usize, Arc<Recording>>,
    targets: Buffer,
    cross_entropy: Buffer,
    kl: Buffer,
    best: Buffer,
    baseline_best: Buffer,
    baseline: Buffer,
}

impl State {
    pub(super) fn new(
        gpu: &Gpu,
        graph: &Graph,
        prediction: &Prediction,
        caches: Vec<(Buffer, Buffer)>,
        places: &Places,
    ) -> Result<Self> {
        let Prediction { batch, targets } = prediction;
        let size = (batch.tokens.len(), batch.outputs.len());
        if targets.len() != size.1 || size.1 == 0 {
            invalid!(
                "{} targets for a batch with {} rows of logits; want as many, at least 1",
                targets.len(),
                size.1
            );
        }
        let classes = graph.output_width();
        if let Some(target) = targets.iter().find(|&&target| target as usize >= classes) {
            invalid!("target {target}; the model tells {classes} apart, from 0");
        }
        let upload = |label: &str, words: &[u32]| -> Result<Buffer> {
            let buffer = gpu.buffer(label, size_of_val(words) as u64)?;
            gpu.upload(&buffer, bytemuck::cast_slice(words))?;
            Ok(buffer)
        };
        let per_row = |label: &str| gpu.buffer(label, (size.1 * 4) as u64);
        let inputs = match graph.input_width() {
            Some(width) => Some(upload("inputs", bytemuck::cast_slice(&input_rows(batch, width)))?),
            None => None,
        };
        let values = values(gpu, graph, size, places, inputs.as_ref())?;
        let Some(Some(logits)) = values.last() else { invalid!("an empty graph") };
        Ok(Self {
            tokens: upload("tokens", &token_rows(batch))?,
            output_tokens: upload("output tokens", &token_rows(&output_batch(batch)))?,
            outputs: upload("outputs", &batch.outputs)?,
            inputs,
            caches,
            size,
            baseline: gpu.buffer("baseline logits", logits.buffer.bytes())?,
            values,
            quantized: HashMap::new(),
            fake_quantized: HashMap::new(),
            maxima: HashMap::new(),
            scratch: None,
            scores: HashMap::new(),
            recordings: HashMap::new(),
            rounded: HashMap::new(),
            reductions: HashMap::new(),
            targets: upload("targets", targets)?,
            cross_entropy: per_row("cross-entropy")?,
            kl: per_row("divergence")?,
            best: per_row("argmax")?,
            baseline_best: per_row("baseline argmax")?,
        })
    }

    /// Predicted tokens.
    pub(super) fn rows(&self) -> usize {
        self.size.1
    }

    /// The buffer of the value of `node`.
    pub(super) fn buffer(&self, node: NodeId) -> Result<&Buffer> {
        let value = self.values[node].as_ref().map(|value| &value.buffer);
        value.ok_or_else(|| Error::invalid("a node has no value"))
    }

    /// Takes no rounded input for granted any more.
    pub(super) fn forget(&mut self) {
        self.rounded.values_mut().for_each(|rounded| rounded.of = None);
    }

    /// Forgets recordings of `steps` that read a matrix in `format`, so that its memory can go.
    pub(super) fn drop_recordings(&mut self, steps: &[usize], format: Format) {
        let reads = |(step, spec): &(usize, Option<Spec>)| {
            steps.contains(step) && spec.is_some_and(|spec| spec.weight == format)
        };
        self.recordings.retain(|key, _| !reads(key));
    }

    /// What rounds the input of a linear step, by node of `contents`, unless that has been done.
    pub(super) fn rounded(
        &mut self,
        c: &Context,
        step: &Step,
        format: ActivationFormat,
        contents: &[Option<Content>],
    ) -> Result<Option<Arc<Recording>>> {
        let node = &c.graph.nodes[step.node];
        let (&Op::Linear { weight, .. }, Some(&input)) = (&node.op, node.inputs.first()) else {
            return Ok(None);
        };
        let Some(matrix) = &c.matrices[weight] else { invalid!("a matrix is not resident") };
        let rows = self.values[input].as_ref().map_or(0, |value| value.rows);
        let fields = || fields(c.gpu, matrix, format, rows);
        let key = (input, format, runs_on_codes(c.fused, matrix, format).then(fields));
        let of = contents[input];
        if let Some(rounded) = self.rounded.get_mut(&key) {
            let current = std::mem::replace(&mut rounded.of, of) == of && of.is_some();
            return Ok((!current).then(|| rounded.recording.clone()));
        }
        // With nothing rounded yet, so that the recording holds all it needs.
        let known = (std::mem::take(&mut self.quantized), std::mem::take(&mut self.fake_quantized));
        let recording = self.lower(c, |lowering| lowering.round_input(step));
        let made = (
            std::mem::replace(&mut self.quantized, known.0),
            std::mem::replace(&mut self.fake_quantized, known.1),
        );
        let recording = recording?;
        match key.2 {
            Some(_) => self.quantized.extend(made.0),
            None => self.fake_quantized.extend(made.1),
        }
        self.rounded.insert(key, Rounded { recording: recording.clone(), of });
        Ok(Some(recording))
    }

    /// What computes `step`, whose input has been rounded.
    pub(super) fn recording(
        &mut self,
        c: &Context,
        at: usize,
        step: &Step,
        spec: Option<Spec>,
    ) -> Result<Arc<Recording>> {
        if let Some(recording) = self.recordings.get(&(at, spec)) {
            return Ok(recording.clone());
        }
        if !c.fused && self.scratch.is_none() {
            let padded = |w: &crate::graph::Weight| w.rows * w.cols.next_multiple_of(32) * 4;
            let most = c.graph.weights.iter().map(padded).max().unwrap_or(0) as u64;
            self.scratch = Some(c.gpu.buffer("dequantized weights", most.min(c.gpu.max_binding()))?);
        }
        let recording = self.lower(c, |lowering| lowering.step(step))?;
        self.recordings.insert((at, spec), recording.clone());
        Ok(recording)
    }

    fn lower(
        &mut self,
        c: &Context,
        f: impl FnOnce(&mut Lowering<'_>) -> Result<()>,
    ) -> Result<Arc<Recording>> {
        let mut lowering = Lowering {
            c,
            binder: Binder::default(),
            pool: Pool::default(),
            values: std::mem::take(&mut self.values),
            stacked: HashMap::new(),
            quantized: std::mem::take(&mut self.quantized),
            fake_quantized: std::mem::take(&mut self.fake_quantized),
            maxima: std::mem::take(&mut self.maxima),
            scratch: self.scratch.clone(),
            scores: std::mem::take(&mut self.scores),
            tokens: self.size.0,
            outputs: self.size.1,
        };
        let result = f(&mut lowering);
        let Lowering { binder, values, quantized, fake_quantized, maxima, scores, .. } = lowering;
        (self.values, self.quantized, self.fake_quantized, self.scores) =
            (values, quantized, fake_quantized, scores);
        self.maxima = maxima;
        result?;
        Ok(Arc::new(binder.finish(c.gpu)?))
    }

    fn logits(&self) -> Result<&Value> {
        let logits = self.values.last().and_then(Option::as_ref);
        logits.ok_or_else(|| Error::invalid("the logits have no value"))
    }

    /// Keeps the present logits as what later ones are compared with.
    pub(super) fn keep_as_baseline(&self, gpu: &Gpu) -> Result<()> {
        let logits = self.logits()?;
        gpu.copy(&logits.buffer, &self.baseline)?;
        let mut binder = Binder::default();
        binder.dispatch(
            gpu.pipeline(&Variant::plain(Kernel::Argmax, Tile::reduction(gpu.class())))?,
            &[("x", &self.baseline), ("y", &self.baseline_best)],
            &[("m", logits.rows as u32), ("cols", logits.width as u32), ("x_stride", logits.stride as u32)],
            logits.rows as u64,
        )?;
        gpu.run(&[&binder.finish(gpu)?])
    }

    /// What reduces the logits to four numbers in `results[slot]`.
    pub(super) fn reduction(&mut self, gpu: &Gpu, results: &Buffer, slot: usize) -> Result<Arc<Recording>> {
        if let Some(recording) = self.reductions.get(&slot) {
            return Ok(recording.clone());
        }
        let logits = self.logits()?;
        let mut binder = Binder::default();
        let to = Measures {
            targets: &self.targets,
            cross_entropy: &self.cross_entropy,
            kl: &self.kl,
            best: &self.best,
        };
        measure(gpu, &mut binder, logits, (&self.baseline, logits.stride), &to)?;
        let buffers = [
            ("cross_entropy", &self.cross_entropy),
            ("kl", &self.kl),
            ("best", &self.best),
            ("targets", &self.targets),
            ("other_best", &self.baseline_best),
            ("y", results),
        ];
        let variant = Variant::plain(Kernel::Tally, Tile::reduction(gpu.class()));
        let params = [("m", logits.rows as u32), ("slot", slot as u32)];
        binder.dispatch(gpu.pipeline(&variant)?, &buffers, &params, 1)?;
        let recording = Arc::new(binder.finish(gpu)?);
        self.reductions.insert(slot, recording.clone());
        Ok(recording)
    }
}

/// A buffer for the value of every step; without `keeps` one buffer serves again once its last reader has run.
fn values(
    gpu: &Gpu,
    graph: &Graph,
    size: (usize, usize),
    places: &Places,
    inputs: Option<&Buffer>,
) -> Result<Vec<Option<Value>>> {
    let mut pool = Pool::default();
    let mut values: Vec<Option<Value>> = vec![None; graph.nodes.len()];
    let mut owned: Vec<Option<Value>> = vec![None; graph.nodes.len()];
    for (at, step) in places.steps.iter().enumerate() {
        let node = &graph.nodes[step.node];
        let input = node.inputs.first().and_then(|&id| values[id].clone());
        let value = match (&node.op, input) {
            (Op::Slice { offset }, Some(input)) => {
                Value { offset: input.offset + offset, width: node.width, ..input }
            }
            (Op::Input, _) => input_value(inputs, size.0, node.width)?,
            (op, input) => {
                let rows = match (op, &input) {
                    (Op::OutputRows, _) => size.1,
                    (_, Some(input)) => input.rows,
                    (_, None) => size.0,
                };
                let value = pool.take(gpu, &node.name, rows, node.width)?;
                owned[step.output] = Some(value.clone());
                value
            }
        };
        values[step.output] = Some(value);
        if !places.keeps {
            for id in (0..=step.output).filter(|&id| places.root[id] == id && places.last_use[id] == at) {
                owned[id].take().into_iter().for_each(|value| pool.give(value));
            }
        }
    }
    Ok(values)
}
