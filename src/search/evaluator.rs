//! Measuring assignments: over resident weights on a device, or on the CPU reference.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Costs, Measurement, Packer};
use crate::engine::{PassTime, Prediction, Resident, Tally, TrialOptions, Trials};
use crate::error::{Error, Result, invalid};
use crate::eval::{Batching, batches, evaluate, longest};
use crate::format::{Format, Spec};
use crate::gpu::Gpu;
use crate::graph::{Assignment, Role, WeightId};
use crate::model::{Example, Model};
use crate::run::Runner;

/// What became of an assignment: a measurement, or why there is none (its loss is not a number, a layer cannot have it).
pub type Outcome = std::result::Result<Measurement, String>;

/// Measures assignments of one model on fixed examples.
pub trait Evaluator {
    /// The outcomes of `assignments`, in their order.
    ///
    /// # Errors
    /// When nothing can be measured any more, e.g. because the device is lost.
    fn evaluate(&mut self, assignments: &[Assignment]) -> Result<Vec<Outcome>>;

    /// What it did so far.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// Where the effort of an evaluator went.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Usage {
    /// Weight bytes uploaded in all.
    pub uploaded_bytes: u64,
    /// Weight bytes uploaded again, of variants that had been dropped: 0 within the device memory.
    pub reloaded_bytes: u64,
    /// Variants dropped to stay within the device memory.
    pub evictions: u64,
    /// Share of the steps of the graph whose values were there from earlier trials.
    pub reused: f64,
    /// Seconds spent running and waiting for the device.
    pub device_seconds: f64,
}

/// The assignment whose predictions all others are compared with: block linears in f32.
pub fn baseline(model: &Model) -> Assignment {
    Assignment::uniform(model.graph(), &model.native_formats(), Format::F32.into())
}

fn outcome(tally: Tally, costs: &Costs, assignment: &Assignment, latency: Option<f64>) -> Result<Outcome> {
    let n = tally.predictions.max(1) as f64;
    let (loss, kl) = (tally.loss / n, tally.kl / n);
    if !loss.is_finite() || !kl.is_finite() {
        return Ok(Err(format!(
            "the loss is {loss}, the divergence {kl}: values overflowed in these formats"
        )));
    }
    let (bytes, bits_per_weight) = costs.size(assignment)?;
    Ok(Ok(Measurement {
        loss,
        kl,
        agreement: tally.agreeing / n,
        accuracy: tally.correct / n,
        bytes,
        nominal_bytes: costs.nominal_bytes(assignment)?,
        bits_per_weight,
        latency,
    }))
}

/// Packs what `assignment` needs and has not been packed yet; why it cannot be had, where a layer cannot hold it.
fn prepare(packer: &Packer, costs: &mut Costs, assignment: &Assignment) -> Result<Option<String>> {
    let missing = costs.missing(assignment);
    if missing.is_empty() {
        return Ok(None);
    }
    match packer.prepare(&missing, &|| ()) {
        Ok(facts) => costs.extend(facts),
        Err(Error::Invalid(why)) => return Ok(Some(why)),
        Err(error) => return Err(error),
    }
    Ok(None)
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
    /// Tokens of the pass that is timed for the latency; `None` does not time.
    pub latency_tokens: Option<usize>,
}

/// Measures over weights resident on a device.
pub struct DeviceEvaluator<'a> {
    trials: Trials,
    packer: &'a Packer<'a>,
    costs: Costs,
    baseline: Tally,
    latency_tokens: Option<usize>,
    spent: Duration,
}

impl<'a> DeviceEvaluator<'a> {
    /// Runs the f32 model over `examples` and keeps its predictions. `costs` may know variants already.
    ///
    /// # Errors
    /// When the device cannot hold what a trial needs.
    pub fn new(
        gpu: Arc<Gpu>,
        model: &Model,
        packer: &'a Packer<'a>,
        costs: Costs,
        examples: &[Example],
        options: DeviceOptions,
    ) -> Result<Self> {
        Self::with(Resident::new(gpu, options.memory), model, packer, costs, examples, options)
    }

    fn with(
        resident: Resident,
        model: &Model,
        packer: &'a Packer<'a>,
        costs: Costs,
        examples: &[Example],
        options: DeviceOptions,
    ) -> Result<Self> {
        let gpu = resident.gpu();
        let batching = Batching::new(model.graph(), examples, gpu.max_binding());
        let group = |group: &[Example]| {
            let predictions = batches(group, batching.tokens).into_iter();
            predictions.map(|(batch, targets)| Prediction { batch, targets }).collect()
        };
        let mut groups: Vec<Vec<Prediction>> = examples.chunks(batching.sequences).map(group).collect();
        if model.graph().is_bidirectional() {
            // Nothing outlives a batch, so all of them can share KV caches.
            groups = vec![groups.concat()];
        }
        let trial_options = TrialOptions {
            sequences: batching.sequences,
            context: longest(examples),
            fused: options.fused,
            in_flight: options.in_flight.max(1),
        };
        let graph = Arc::new(model.graph().clone());
        let mut trials = Trials::new(resident, graph, packer, &groups, trial_options)?;
        let f32 = baseline(model);
        let linear = |id: WeightId| model.graph().weights[id].role == Role::Linear;
        let tally =
            trials.set_baseline(packer, &f32, &|id, format| !linear(id) || costs.knows((id, format)))?;
        if !(tally.loss / tally.predictions.max(1) as f64).is_finite() {
            invalid!(
                "the loss of the f32 model is not a number on these examples; the checkpoint is damaged"
            );
        }
        Ok(Self {
            trials,
            packer,
            costs,
            baseline: tally,
            latency_tokens: options.latency_tokens,
            spent: Duration::ZERO,
        })
    }

    /// Loss of the f32 model, nats per prediction.
    pub fn baseline_loss(&self) -> f64 {
        self.baseline.loss / self.baseline.predictions.max(1) as f64
    }

    /// Share of right predictions of the f32 model.
    pub fn baseline_accuracy(&self) -> f64 {
        self.baseline.correct / self.baseline.predictions.max(1) as f64
    }

    /// Predictions per trial.
    pub fn predictions(&self) -> usize {
        self.baseline.predictions
    }

    /// Runs `assignments` once, so that what they read is resident and the driver has compiled every kernel.
    ///
    /// # Errors
    /// When the device fails.
    pub fn warm_up(&mut self, assignments: &[Assignment]) -> Result<()> {
        for assignment in assignments {
            if prepare(self.packer, &mut self.costs, assignment)?.is_none() {
                self.trials.run(self.packer, std::slice::from_ref(assignment))?;
                if let Some(tokens) = self.latency_tokens {
                    self.trials.time_steps(self.packer, assignment, tokens)?;
                }
            }
        }
        Ok(())
    }

    /// Seconds of a whole pass of `tokens` tokens under `assignment`, and of the sum of its layers timed one by one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn latency(&mut self, assignment: &Assignment, tokens: usize) -> Result<(f64, f64)> {
        let sum = self.trials.time_steps(self.packer, assignment, tokens)?.total();
        Ok((self.trials.time_whole(self.packer, assignment, tokens)?, sum))
    }

    /// Seconds of every weight in a pass of `tokens` tokens.
    ///
    /// # Errors
    /// When the device fails.
    pub fn layer_times(&mut self, assignment: &Assignment, tokens: usize) -> Result<PassTime> {
        self.trials.time_steps(self.packer, assignment, tokens)
    }

    /// The same weights on other examples: nothing is uploaded again but the f32 model.
    ///
    /// # Errors
    /// As [`DeviceEvaluator::new`].
    pub fn on(self, model: &Model, examples: &[Example], in_flight: usize) -> Result<Self> {
        let options = DeviceOptions {
            memory: None,
            in_flight,
            fused: self.trials.is_fused(),
            latency_tokens: self.latency_tokens,
        };
        let (packer, costs) = (self.packer, self.costs);
        Self::with(self.trials.into_resident(), model, packer, costs, examples, options)
    }

    /// What assignments cost.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        self.trials.gpu()
    }
}

/// Indices of `assignments` in an order in which neighbours have many first layers in common: what a trial shares with
/// the one before it need not run again.
fn by_prefix(assignments: &[Assignment]) -> Vec<usize> {
    let mut rank: HashMap<Spec, usize> = HashMap::new();
    let mut keys = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let mut key = Vec::with_capacity(assignment.specs.len());
        for &spec in &assignment.specs {
            let next = rank.len();
            key.push(*rank.entry(spec).or_insert(next));
        }
        keys.push(key);
    }
    let mut order: Vec<usize> = (0..assignments.len()).collect();
    order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
    order
}

impl Evaluator for DeviceEvaluator<'_> {
    fn evaluate(&mut self, assignments: &[Assignment]) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = vec![Err("it was not measured".to_owned()); assignments.len()];
        let mut sound = Vec::with_capacity(assignments.len());
        for (i, assignment) in assignments.iter().enumerate() {
            match prepare(self.packer, &mut self.costs, assignment)? {
                Some(why) => outcomes[i] = Err(why),
                None => sound.push(i),
            }
        }
        let wanted: Vec<Assignment> = sound.iter().map(|&i| assignments[i].clone()).collect();
        let order = by_prefix(&wanted);
        let ordered: Vec<Assignment> = order.iter().map(|&i| wanted[i].clone()).collect();
        let start = Instant::now();
        let tallies = self.trials.run(self.packer, &ordered)?;
        for (&i, tally) in order.iter().zip(tallies) {
            let latency = match self.latency_tokens {
                Some(tokens) => Some(self.trials.time_steps(self.packer, &wanted[i], tokens)?.total()),
                None => None,
            };
            outcomes[sound[i]] = outcome(tally, &self.costs, &wanted[i], latency)?;
        }
        self.spent += start.elapsed();
        Ok(outcomes)
    }

    fn usage(&self) -> Usage {
        let (resident, counters) = (self.trials.resident(), self.trials.counters());
        Usage {
            uploaded_bytes: resident.uploaded_bytes(),
            reloaded_bytes: resident.reloaded_bytes(),
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
    costs: Costs,
    examples: Vec<Example>,
    batching: Batching,
    baseline: Runner<'a>,
    baseline_loss: f64,
    baseline_accuracy: f64,
    spent: Duration,
}

impl<'a> ReferenceEvaluator<'a> {
    /// For `model` on `examples`.
    ///
    /// # Errors
    /// When the weights cannot be read.
    pub fn new(model: &'a Model, packer: &'a Packer<'a>, costs: Costs, examples: &[Example]) -> Result<Self> {
        let batching = Batching::new(model.graph(), examples, 64 << 20);
        let f32 = baseline(model);
        let mut runner = Runner::reference(model.graph(), packer, &f32, batching.sequences)?;
        let report = evaluate(&mut runner, None, examples, batching, &mut |_| ())?;
        Ok(Self {
            model,
            packer,
            costs,
            examples: examples.to_vec(),
            batching,
            baseline: Runner::reference(model.graph(), packer, &f32, batching.sequences)?,
            baseline_loss: report.loss,
            baseline_accuracy: report.accuracy,
            spent: Duration::ZERO,
        })
    }

    /// Loss of the f32 model, nats per prediction.
    pub fn baseline_loss(&self) -> f64 {
        self.baseline_loss
    }

    /// Share of right predictions of the f32 model.
    pub fn baseline_accuracy(&self) -> f64 {
        self.baseline_accuracy
    }

    /// The same model on other examples.
    ///
    /// # Errors
    /// As [`ReferenceEvaluator::new`].
    pub fn on(self, examples: &[Example]) -> Result<Self> {
        Self::new(self.model, self.packer, self.costs, examples)
    }

    fn measure(&mut self, assignment: &Assignment) -> Result<Outcome> {
        if let Some(why) = prepare(self.packer, &mut self.costs, assignment)? {
            return Ok(Err(why));
        }
        let sequences = self.batching.sequences;
        let mut runner = Runner::reference(self.model.graph(), self.packer, assignment, sequences)?;
        let examples = &self.examples;
        let report = evaluate(&mut runner, Some(&mut self.baseline), examples, self.batching, &mut |_| ())?;
        let n = report.predictions as f64;
        let tally = Tally {
            loss: report.loss * n,
            kl: report.kl.unwrap_or(f64::NAN) * n,
            correct: report.accuracy * n,
            agreeing: report.top1_agreement.unwrap_or(f64::NAN) * n,
            predictions: report.predictions,
        };
        outcome(tally, &self.costs, assignment, None)
    }
}

impl Evaluator for ReferenceEvaluator<'_> {
    fn evaluate(&mut self, assignments: &[Assignment]) -> Result<Vec<Outcome>> {
        let start = Instant::now();
        let outcomes = assignments.iter().map(|assignment| self.measure(assignment)).collect();
        self.spent += start.elapsed();
        outcomes
    }

    fn usage(&self) -> Usage {
        Usage { device_seconds: self.spent.as_secs_f64(), ..Usage::default() }
    }
}
