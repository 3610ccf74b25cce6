//! Measuring points: over resident weights on a device, or on the CPU reference.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::packing::{Packer, VariantFacts};
use super::{Measurement, Point, Space};
use crate::engine::{Prediction, Resident, Tally, TrialOptions, Trials};
use crate::error::{Error, Result, invalid};
use crate::eval::{Batching, TensorKind, TensorMemory, batches, evaluate};
use crate::format::Format;
use crate::gpu::Gpu;
use crate::graph::{Assignment, Graph, Role, WeightId};
use crate::model::Model;
use crate::model::text::Window;
use crate::run::Runner;

/// What became of a point: a measurement, or why there is none (its loss is not a number).
pub type Outcome = std::result::Result<Measurement, String>;

/// Measures points of a space.
pub trait Evaluator {
    /// The outcomes of `points`, in their order.
    ///
    /// # Errors
    /// When nothing can be measured any more, e.g. because the device is lost.
    fn evaluate(&mut self, points: &[Point]) -> Result<Vec<Outcome>>;

    /// What it did so far.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// Where the effort of an evaluator went.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Usage {
    /// Weight bytes uploaded since the first trial.
    pub uploaded_bytes: u64,
    /// Weight bytes uploaded since the last variant was seen for the first time.
    pub uploaded_after_warm_up: u64,
    /// Variants dropped to stay within the device memory.
    pub evictions: u64,
    /// Share of the steps of the graph whose values were still there from the trial before.
    pub reused: f64,
    /// Seconds spent running and waiting for the device.
    pub device_seconds: f64,
}

/// What points cost, known before anything runs.
#[derive(Clone, Debug)]
pub struct Costs {
    facts: HashMap<(WeightId, Format), VariantFacts>,
    /// Bytes of everything that is not searched.
    pub fixed_bytes: u64,
    linears: Vec<WeightId>,
    linear_weights: u64,
    tensors: Vec<(Role, usize, usize)>,
}

impl Costs {
    /// `facts` has every variant of the space.
    ///
    /// # Errors
    /// When a format of a layer that is not searched cannot hold it.
    pub fn new(
        graph: &Graph,
        space: &Space,
        facts: HashMap<(WeightId, Format), VariantFacts>,
    ) -> Result<Self> {
        let searched: Vec<WeightId> =
            space.dimensions.iter().flat_map(|d| d.weights.iter().copied()).collect();
        let mut fixed_bytes = 0;
        for (id, weight) in graph.weights.iter().enumerate().filter(|(id, _)| !searched.contains(id)) {
            let format = if weight.role == Role::Vector { Format::F32 } else { space.base.specs[id].weight };
            let layout = format.layout(weight.rows, weight.cols)?;
            fixed_bytes += (layout.code_words + layout.scale_words) as u64 * 4;
        }
        let is_linear = |id: &WeightId| graph.weights[*id].role == Role::Linear;
        let linears: Vec<WeightId> = (0..graph.weights.len()).filter(is_linear).collect();
        let linear_weights =
            linears.iter().map(|&id| (graph.weights[id].rows * graph.weights[id].cols) as u64).sum();
        let tensors = graph.weights.iter().map(|w| (w.role, w.rows, w.cols)).collect();
        Ok(Self { facts, fixed_bytes, linears, linear_weights, tensors })
    }

    /// Packed bytes of a dimension of `space` with one of its candidates.
    pub fn bytes(&self, space: &Space, dimension: usize, choice: usize) -> u64 {
        let dimension = &space.dimensions[dimension];
        let format = dimension.candidates[choice].weight;
        dimension
            .weights
            .iter()
            .filter_map(|&id| self.facts.get(&(id, format)))
            .map(|facts| facts.bytes)
            .sum()
    }

    /// Squared error of the weights of a dimension over their squared sum, the mean over tied layers.
    pub fn noise(&self, space: &Space, dimension: usize, choice: usize) -> f64 {
        let dimension = &space.dimensions[dimension];
        let format = dimension.candidates[choice].weight;
        let noise: f64 = dimension
            .weights
            .iter()
            .filter_map(|&id| self.facts.get(&(id, format)))
            .map(|facts| facts.noise)
            .sum();
        noise / dimension.weights.len() as f64
    }

    fn weight_bytes(&self, id: WeightId, format: Format) -> u64 {
        if let Some(facts) = self.facts.get(&(id, format)) {
            return facts.bytes;
        }
        let (_, rows, cols) = self.tensors[id];
        format.layout(rows, cols).map_or(0, |layout| (layout.code_words + layout.scale_words) as u64 * 4)
    }

    /// Bytes of the whole model, and bits per weight of its block linears.
    pub fn size(&self, assignment: &Assignment) -> (u64, f64) {
        let of = |id: WeightId| {
            let vector = self.tensors[id].0 == Role::Vector;
            self.weight_bytes(id, if vector { Format::F32 } else { assignment.specs[id].weight })
        };
        let bytes = (0..self.tensors.len()).map(of).sum();
        let linear: u64 = self.linears.iter().map(|&id| of(id)).sum();
        (bytes, linear as f64 * 8.0 / self.linear_weights.max(1) as f64)
    }

    /// Bytes by nominal widths: searched and other block linears at the width of their codes, everything else at 32 bits.
    pub fn nominal_bytes(&self, assignment: &Assignment) -> u64 {
        let of = |(id, &(role, rows, cols)): (WeightId, &(Role, usize, usize))| {
            let dense = (rows * cols) as u64 * 32;
            if role != Role::Linear {
                return dense;
            }
            let format = assignment.specs[id].weight;
            TensorMemory::new("", TensorKind::Linear, String::new(), format, rows, cols)
                .map_or(dense, |memory| memory.code_bits)
        };
        self.tensors.iter().enumerate().map(of).sum::<u64>() / 8
    }
}

/// Seconds that parts of a forward pass take.
#[derive(Clone, Debug, Default)]
pub struct LatencyTable {
    /// Everything that is not searched.
    pub fixed: f64,
    /// `[dimension][candidate]`
    pub layers: Vec<Vec<f64>>,
}

impl LatencyTable {
    /// The sum over the layers of `point`.
    pub fn seconds(&self, point: &[usize]) -> f64 {
        self.fixed + self.layers.iter().zip(point).map(|(layer, &choice)| layer[choice]).sum::<f64>()
    }
}

/// The measurement of `point` from sums over tokens.
fn outcome(
    tally: Tally,
    space: &Space,
    costs: &Costs,
    latency: Option<&LatencyTable>,
    point: &[usize],
) -> Outcome {
    let n = tally.tokens.max(1) as f64;
    let (loss, kl) = (tally.loss / n, tally.kl / n);
    if !loss.is_finite() || !kl.is_finite() {
        return Err(format!("the loss is {loss}, the divergence {kl}: values overflowed in these formats"));
    }
    let assignment = space.assignment(point);
    let (bytes, bits_per_weight) = costs.size(&assignment);
    Ok(Measurement {
        loss,
        kl,
        agreement: tally.agreeing / n,
        accuracy: tally.correct / n,
        bytes,
        nominal_bytes: costs.nominal_bytes(&assignment),
        bits_per_weight,
        latency: latency.map(|table| table.seconds(point)),
    })
}

/// The assignment whose predictions all others are compared with: block linears in f32.
pub fn baseline(model: &Model) -> Assignment {
    Assignment::uniform(model.graph(), &model.native_formats(), Format::F32.into())
}

/// Measures over weights resident on a device.
pub struct DeviceEvaluator<'a> {
    trials: Trials,
    packer: &'a Packer<'a>,
    space: &'a Space,
    costs: &'a Costs,
    latency: Option<LatencyTable>,
    baseline: Tally,
    seen: usize,
    uploaded_at_start: u64,
    uploaded_when_seen: u64,
    spent: Duration,
}

/// How a [`DeviceEvaluator`] runs.
#[derive(Clone, Copy, Debug)]
pub struct DeviceOptions {
    /// Most packed bytes kept on the device.
    pub memory: Option<u64>,
    /// Trials submitted before results are read.
    pub in_flight: usize,
    /// Fused kernels.
    pub fused: bool,
}

impl<'a> DeviceEvaluator<'a> {
    /// Runs the f32 model over `windows` and keeps its predictions.
    ///
    /// # Errors
    /// When the device cannot hold what a trial needs.
    pub fn new(
        gpu: Arc<Gpu>,
        model: &Model,
        packer: &'a Packer<'a>,
        space: &'a Space,
        costs: &'a Costs,
        windows: &[Window],
        options: DeviceOptions,
    ) -> Result<Self> {
        let longest = windows.iter().map(|window| window.inputs.len()).max().unwrap_or(1);
        let mut batching = Batching::new(longest, model.graph().vocabulary, gpu.max_binding());
        batching.sequences = batching.sequences.min(windows.len().max(1));
        let group = |group: &[Window]| {
            let predictions = batches(group, batching.tokens).into_iter();
            predictions.map(|(batch, targets)| Prediction { batch, targets }).collect()
        };
        let groups: Vec<Vec<Prediction>> = windows.chunks(batching.sequences).map(group).collect();
        let trial_options = TrialOptions {
            sequences: batching.sequences,
            context: longest,
            fused: options.fused,
            in_flight: options.in_flight,
        };
        let graph = Arc::new(model.graph().clone());
        let mut trials =
            Trials::new(Resident::new(gpu, options.memory), graph, packer, &groups, trial_options)?;
        let wanted = space.variants();
        let is_wanted = |id: WeightId, format: Format| {
            wanted.contains(&(id, format)) || space.base.specs[id].weight == format
        };
        let baseline = trials.set_baseline(packer, &baseline(model), &is_wanted)?;
        if !(baseline.loss / baseline.tokens.max(1) as f64).is_finite() {
            invalid!("the loss of the f32 model is not a number on this text; the checkpoint is damaged");
        }
        let uploaded = trials.resident().uploaded_bytes();
        Ok(Self {
            trials,
            packer,
            space,
            costs,
            latency: None,
            baseline,
            seen: 0,
            uploaded_at_start: uploaded,
            uploaded_when_seen: uploaded,
            spent: Duration::ZERO,
        })
    }

    /// Loss of the f32 model, nats per token.
    pub fn baseline_loss(&self) -> f64 {
        self.baseline.loss / self.baseline.tokens.max(1) as f64
    }

    /// Predicted tokens per trial.
    pub fn tokens(&self) -> usize {
        self.baseline.tokens
    }

    /// Uploads every variant, as far as the memory allows, and has the driver compile every kernel.
    ///
    /// # Errors
    /// When the device fails.
    pub fn warm_up(&mut self) -> Result<()> {
        let most = self.space.dimensions.iter().map(|d| d.candidates.len()).max().unwrap_or(0);
        for n in 0..most {
            let point: Point = self.space.dimensions.iter().map(|d| n.min(d.candidates.len() - 1)).collect();
            self.trials.run(self.packer, &[self.space.assignment(&point)])?;
        }
        self.note_variants();
        Ok(())
    }

    /// Adds the latency of `table` to all measurements.
    pub fn set_latency(&mut self, table: LatencyTable) {
        self.latency = Some(table);
    }

    /// Where the weights are.
    pub fn trials(&mut self) -> &mut Trials {
        &mut self.trials
    }

    fn note_variants(&mut self) {
        let resident = self.trials.resident();
        if resident.variants_seen() > self.seen {
            self.seen = resident.variants_seen();
            self.uploaded_when_seen = resident.uploaded_bytes();
        }
    }
}

impl Evaluator for DeviceEvaluator<'_> {
    fn evaluate(&mut self, points: &[Point]) -> Result<Vec<Outcome>> {
        // Neighbours in this order share most of what was computed before.
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| points[a].cmp(&points[b]));
        let assignments: Vec<Assignment> = order.iter().map(|&i| self.space.assignment(&points[i])).collect();
        let start = Instant::now();
        let tallies = self.trials.run(self.packer, &assignments)?;
        self.spent += start.elapsed();
        self.note_variants();
        let mut outcomes = vec![Err(String::new()); points.len()];
        for (i, tally) in order.into_iter().zip(tallies) {
            outcomes[i] = outcome(tally, self.space, self.costs, self.latency.as_ref(), &points[i]);
        }
        Ok(outcomes)
    }

    fn usage(&self) -> Usage {
        let (resident, counters) = (self.trials.resident(), self.trials.counters());
        Usage {
            uploaded_bytes: resident.uploaded_bytes() - self.uploaded_at_start,
            uploaded_after_warm_up: resident.uploaded_bytes() - self.uploaded_when_seen,
            evictions: resident.evictions(),
            reused: counters.reused as f64 / (counters.reused + counters.steps).max(1) as f64,
            device_seconds: self.spent.as_secs_f64(),
        }
    }
}

/// Measures on the CPU reference: slow, for machines without an adapter.
pub struct ReferenceEvaluator<'a> {
    model: &'a Model,
    packer: &'a Packer<'a>,
    space: &'a Space,
    costs: &'a Costs,
    windows: Vec<Window>,
    batching: Batching,
    baseline: Runner<'a>,
    spent: Duration,
}

impl<'a> ReferenceEvaluator<'a> {
    /// # Errors
    /// When the weights cannot be read.
    pub fn new(
        model: &'a Model,
        packer: &'a Packer<'a>,
        space: &'a Space,
        costs: &'a Costs,
        windows: &[Window],
    ) -> Result<Self> {
        let longest = windows.iter().map(|window| window.inputs.len()).max().unwrap_or(1);
        let mut batching = Batching::new(longest, model.graph().vocabulary, 64 << 20);
        batching.sequences = batching.sequences.min(windows.len().max(1));
        let baseline = Runner::reference(model.graph(), packer, &baseline(model), batching.sequences)?;
        Ok(Self {
            model,
            packer,
            space,
            costs,
            windows: windows.to_vec(),
            batching,
            baseline,
            spent: Duration::ZERO,
        })
    }
}

impl Evaluator for ReferenceEvaluator<'_> {
    fn evaluate(&mut self, points: &[Point]) -> Result<Vec<Outcome>> {
        let start = Instant::now();
        let mut outcomes = Vec::with_capacity(points.len());
        for point in points {
            let assignment = self.space.assignment(point);
            let mut runner =
                Runner::reference(self.model.graph(), self.packer, &assignment, self.batching.sequences)?;
            let report =
                evaluate(&mut runner, Some(&mut self.baseline), &self.windows, self.batching, &mut |_| ())?;
            let n = report.tokens as f64;
            let share = |value: Option<f64>| value.ok_or_else(|| Error::invalid("nothing was compared"));
            let tally = Tally {
                loss: report.loss * n,
                kl: share(report.kl)? * n,
                correct: report.accuracy * n,
                agreeing: share(report.top1_agreement)? * n,
                tokens: report.tokens,
            };
            outcomes.push(outcome(tally, self.space, self.costs, None, point));
        }
        self.spent += start.elapsed();
        Ok(outcomes)
    }

    fn usage(&self) -> Usage {
        Usage { device_seconds: self.spent.as_secs_f64(), ..Usage::default() }
    }
}
