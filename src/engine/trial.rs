//! Many assignments over one fixed text: a trial rebinds resident weights and runs; nothing is loaded, quantized or
//! uploaded, and 16 bytes per batch come back.
//!
//! Every value of the graph keeps a buffer of its own, so what a trial has in common with the one before is still there,
//! and values that end a block are kept aside for later trials that begin as this one did ([`super::history`]). Only
//! steps that the loss depends on beyond those run. That is exact: the same kernels on the same bits.

use std::collections::HashMap;
use std::sync::Arc;

use super::activation::runs_on_codes;
use super::fusion::{self, Step};
use super::history::{Content, Fate, History, contents};
use super::plan::{Context, lifetimes};
use super::resident::{DeviceMatrix, Resident};
use super::rounding::Rounding;
use super::session::{caches, rotations};
use super::state::{Places, State};
use super::timing::Timing;
use crate::error::{Error, Result, invalid};
use crate::format::{ActivationFormat, Format};
use crate::gpu::{Buffer, Gpu, Recording};
use crate::graph::{Assignment, Batch, Graph, NodeId, Op, Role, WeightId, Weights};

/// Activation buffers up to this many bytes are kept from trial to trial; beyond it they are shared between steps and
/// every trial runs in full.
const KEPT_BYTES: u64 = 2 << 30;
/// Most bytes of values kept aside for later trials.
const HISTORY_BYTES: u64 = 512 << 20;

/// A batch and what it is to predict, a token or class per output row.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// What is fed.
    pub batch: Batch,
    /// As many ids as output rows.
    pub targets: Vec<u32>,
}

/// Sums over all predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Cross-entropy, nats.
    pub loss: f64,
    /// Divergence from the baseline, nats.
    pub kl: f64,
    /// Predictions whose most probable outcome is the target.
    pub correct: f64,
    /// Predictions whose most probable outcome is the baseline's.
    pub agreeing: f64,
    /// Predicted tokens or classes.
    pub predictions: usize,
}

/// How a [`Trials`] runs.
#[derive(Clone, Copy, Debug)]
pub struct TrialOptions {
    /// KV-cache slots.
    pub sequences: usize,
    /// Positions per slot.
    pub context: usize,
    /// Fused kernels and epilogues.
    pub fused: bool,
    /// Most trials submitted before results are read.
    pub in_flight: usize,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrialCounters {
    /// Trials run.
    pub trials: u64,
    /// Steps of the graph that ran.
    pub steps: u64,
    /// Steps whose values were still there, kept from an earlier trial, or not needed because later ones were.
    pub reused: u64,
    /// Values copied back from those kept of earlier trials.
    pub restored: u64,
}

/// One graph and one text on one device, run under one assignment after another.
pub struct Trials {
    resident: Resident,
    pub(super) graph: Arc<Graph>,
    pub(super) options: TrialOptions,
    pub(super) steps: Vec<Step>,
    vectors: Vec<Option<Buffer>>,
    matrices: Vec<Option<Arc<DeviceMatrix>>>,
    biases: HashMap<WeightId, Buffer>,
    roundings: HashMap<(ActivationFormat, bool), Arc<Rounding>>,
    rotations: HashMap<NodeId, Buffer>,
    selected: Vec<bool>,
    states: Vec<State>,
    history: History,
    /// What the last trial did and made, while the history has not kept its share of it.
    pending: Option<(Vec<Fate>, Vec<Option<Content>>)>,
    /// Whether a value outlives its trial.
    keeps: bool,
    /// `[in flight][state]` tallies of 4 numbers.
    results: Buffer,
    has_baseline: bool,
    /// When each resident matrix was last wanted.
    used: HashMap<(WeightId, Format), u64>,
    clock: u64,
    counters: TrialCounters,
    pub(super) timing: Option<Timing>,
}

impl Trials {
    /// Allocates the activations of all batches. `groups` are batches in order; those of one group share KV caches
    /// (a window longer than a batch), and each group begins with empty ones.
    ///
    /// # Errors
    /// When a batch does not fit the graph or the device cannot hold it all.
    pub fn new(
        mut resident: Resident,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        groups: &[Vec<Prediction>],
        options: TrialOptions,
    ) -> Result<Self> {
        if options.context == 0 || options.context > graph.context || options.in_flight == 0 {
            let (context, most) = (options.context, graph.context);
            invalid!(
                "trials with a context of {context} tokens, this model has 1 to {most}, and at least 1 in flight"
            );
        }
        let selected = graph.check()?;
        let gpu = resident.gpu().clone();
        let steps = fusion::steps(&graph, options.fused, &[]);
        let mut vectors = vec![None; graph.weights.len()];
        for (id, weight) in graph.weights.iter().enumerate().filter(|(_, w)| w.role == Role::Vector) {
            vectors[id] = Some(resident.vector(weights, &weight.tensor, id, None)?);
        }
        let rotations = rotations(&gpu, &graph, options.context)?;
        let largest = groups.iter().flatten().map(|p| p.batch.tokens.len()).max().unwrap_or(0);
        let per_token: usize = graph.nodes.iter().map(|node| node.width.next_multiple_of(32) * 4).sum();
        let batches = groups.iter().flatten().count();
        let keeps = (per_token * largest * batches) as u64 <= KEPT_BYTES;
        let lifetimes = lifetimes(&graph, &steps)?;
        let mut states = Vec::with_capacity(batches);
        for group in groups {
            let caches = caches(&gpu, &graph, options.sequences, options.context)?;
            let mut lengths = vec![0; options.sequences];
            for prediction in group {
                prediction.batch.check(&graph, options.context, &lengths)?;
                for token in &prediction.batch.tokens {
                    lengths[token.sequence as usize] = token.position as usize + 1;
                }
                let places = Places { steps: &steps, root: &lifetimes.0, last_use: &lifetimes.1, keeps };
                states.push(State::new(&gpu, &graph, prediction, caches.clone(), &places)?);
            }
        }
        // Values that share buffers with others are gone when the trial ends.
        let history = History::new(&graph, &steps, lifetimes, if keeps { HISTORY_BYTES } else { 0 });
        let results = gpu.buffer("tallies", (options.in_flight * states.len() * 16) as u64)?;
        Ok(Self {
            matrices: vec![None; graph.weights.len()],
            resident,
            graph,
            options,
            steps,
            vectors,
            biases: HashMap::new(),
            roundings: HashMap::new(),
            rotations,
            selected,
            states,
            history,
            pending: None,
            keeps,
            results,
            has_baseline: false,
            used: HashMap::new(),
            clock: 0,
            counters: TrialCounters::default(),
            timing: None,
        })
    }

    /// The weights on the device.
    pub fn resident(&self) -> &Resident {
        &self.resident
    }

    /// The weights, to go on with on another text.
    pub fn into_resident(self) -> Resident {
        self.resident
    }

    /// Whether steps are fused.
    pub fn is_fused(&self) -> bool {
        self.options.fused
    }

    /// What has been done so far.
    pub fn counters(&self) -> TrialCounters {
        self.counters
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        self.resident.gpu()
    }

    /// Runs `assignment`, keeps its logits as what later trials are compared with, and drops its weights again where
    /// `keep` does not want them. Returns its tally; its divergence from itself is 0.
    ///
    /// # Errors
    /// As [`Trials::run`].
    pub fn set_baseline(
        &mut self,
        weights: &dyn Weights,
        assignment: &Assignment,
        keep: &dyn Fn(WeightId, Format) -> bool,
    ) -> Result<Tally> {
        let gpu = self.gpu().clone();
        self.forget();
        self.compute(weights, assignment, |_, _| Ok(None))?;
        self.states.iter_mut().try_for_each(|state| state.keep_as_baseline(&gpu))?;
        gpu.wait()?;
        self.has_baseline = true;
        let tally = self.run(weights, std::slice::from_ref(assignment))?.remove(0);
        self.counters = TrialCounters::default();
        let unwanted: Vec<_> =
            self.used.keys().filter(|(weight, format)| !keep(*weight, *format)).copied().collect();
        for key in unwanted {
            self.let_go(key);
            self.resident.release(key.0, key.1);
        }
        Ok(tally)
    }

    /// The tallies of `assignments`, in their order. All are submitted, as many at a time as may be in flight, before
    /// the results of the first are read.
    ///
    /// # Errors
    /// When no baseline has been set, weights are missing or unfit, or the device fails. Nothing is known of any of the
    /// assignments then.
    pub fn run(&mut self, weights: &dyn Weights, assignments: &[Assignment]) -> Result<Vec<Tally>> {
        if !self.has_baseline {
            invalid!("trials want a baseline to be compared with; set one first");
        }
        let mut tallies = Vec::with_capacity(assignments.len());
        for group in assignments.chunks(self.options.in_flight) {
            for (slot, assignment) in group.iter().enumerate() {
                if let Err(error) = self.submit(weights, assignment, slot) {
                    self.forget();
                    return Err(error);
                }
            }
            let numbers = self.gpu().read::<f32>(&self.results, group.len() * self.states.len() * 4)?;
            // The device copies while the caller decides what comes next.
            self.settle()?;
            let of_slot = numbers.chunks((self.states.len() * 4).max(1));
            tallies.extend(of_slot.take(group.len()).map(|numbers| self.tally(numbers)));
        }
        Ok(tallies)
    }

    fn tally(&self, numbers: &[f32]) -> Tally {
        let mut tally = Tally::default();
        for (sums, state) in numbers.chunks(4).zip(&self.states) {
            tally.loss += f64::from(sums[0]);
            tally.kl += f64::from(sums[1]);
            tally.correct += f64::from(sums[2]);
            tally.agreeing += f64::from(sums[3]);
            tally.predictions += state.rows();
        }
        tally
    }

    fn submit(&mut self, weights: &dyn Weights, assignment: &Assignment, slot: usize) -> Result<()> {
        let gpu = self.gpu().clone();
        let (results, count) = (self.results.clone(), self.states.len());
        self.compute(weights, assignment, |at, state| {
            state.reduction(&gpu, &results, slot * count + at).map(Some)
        })?;
        self.counters.trials += 1;
        Ok(())
    }

    /// Brings the logits of every batch to `assignment` and runs what `then` makes of its number and state.
    fn compute(
        &mut self,
        weights: &dyn Weights,
        assignment: &Assignment,
        mut then: impl FnMut(usize, &mut State) -> Result<Option<Arc<Recording>>>,
    ) -> Result<()> {
        self.settle()?;
        self.bind(weights, assignment)?;
        let gpu = self.gpu().clone();
        let contents = contents(&self.graph, &self.steps, assignment);
        if !self.keeps {
            self.history.forget_held();
        }
        let fates = self.history.plan(&self.graph, &self.steps, &contents);
        self.counters.restored += self.history.restore(&gpu, &self.states, &self.steps, &fates, &contents)?;
        let runs = fates.iter().filter(|&&fate| fate == Fate::Runs).count();
        self.counters.steps += (runs * self.states.len()) as u64;
        self.counters.reused += ((fates.len() - runs) * self.states.len()) as u64;
        let mut states = std::mem::take(&mut self.states);
        let result = states.iter_mut().enumerate().try_for_each(|(at, state)| {
            let mut recordings = self.lower(state, assignment, &contents, &fates)?;
            recordings.extend(then(at, state)?);
            gpu.run(&recordings.iter().map(Arc::as_ref).collect::<Vec<_>>())
        });
        self.states = states;
        result?;
        self.pending = Some((fates, contents));
        Ok(())
    }

    /// Puts aside what later trials may begin with of what the last one left.
    fn settle(&mut self) -> Result<()> {
        let Some((fates, contents)) = self.pending.take() else { return Ok(()) };
        let gpu = self.gpu().clone();
        let kept = self.history.keep(&gpu, &self.states, &self.steps, &fates, &contents);
        if kept.is_err() {
            // What it holds to be in the buffers is of the trial before.
            self.forget();
        }
        kept
    }

    /// Takes no value for granted any more.
    fn forget(&mut self) {
        self.pending = None;
        self.history.forget();
        self.states.iter_mut().for_each(State::forget);
    }

    /// Makes everything `assignment` reads resident, within the budget.
    pub(super) fn bind(&mut self, weights: &dyn Weights, assignment: &Assignment) -> Result<()> {
        let graph = self.graph.clone();
        if assignment.specs.len() != graph.weights.len() {
            let (got, want) = (assignment.specs.len(), graph.weights.len());
            invalid!("the assignment has {got} entries; this graph has {want} weights");
        }
        self.clock += 1;
        let clock = self.clock;
        let wanted = || (0..graph.weights.len()).filter(|&id| graph.weights[id].role != Role::Vector);
        for id in wanted() {
            self.used.insert((id, assignment.specs[id].weight), clock);
        }
        for id in wanted() {
            let format = assignment.specs[id].weight;
            if self.matrices[id].as_ref().is_some_and(|matrix| matrix.format == format) {
                continue;
            }
            self.matrices[id] = None;
            let weight = &graph.weights[id];
            if !self.resident.has(id, format) {
                let layout = format.layout(weight.rows, weight.cols)?;
                self.make_room((layout.code_words + layout.scale_words) as u64 * 4, clock);
            }
            self.matrices[id] = Some(self.resident.matrix(weights, &weight.tensor, id, format)?);
        }
        for node in &graph.nodes {
            let Op::Linear { weight, bias } = node.op else { continue };
            let spec = assignment.specs[weight];
            if let (Some(activation), Some(matrix)) = (spec.activation, &self.matrices[weight]) {
                let wrong = |error| Error::Invalid(format!("{}: {error}", graph.weights[weight].tensor));
                activation.check_width(graph.weights[weight].cols).map_err(wrong)?;
                let codes = runs_on_codes(self.options.fused, matrix, activation);
                if !self.roundings.contains_key(&(activation, codes))
                    && let Some(rounding) = self.resident.rounding(activation, codes)?
                {
                    self.roundings.insert((activation, codes), rounding);
                }
            }
            if let (Some(bias), Some(format)) = (bias, spec.bias) {
                let name = &graph.weights[bias].tensor;
                self.biases.insert(weight, self.resident.vector(weights, name, bias, Some(format))?);
            } else {
                self.biases.remove(&weight);
            }
        }
        Ok(())
    }

    /// Drops the matrices that were wanted longest ago until `incoming` bytes fit the budget.
    fn make_room(&mut self, incoming: u64, now: u64) {
        let Some(budget) = self.resident.budget() else { return };
        while self.resident.resident_bytes() + incoming > budget {
            let idle = self.used.iter().filter(|(key, used)| **used < now && self.resident.has(key.0, key.1));
            let Some((&key, _)) = idle.min_by_key(|(key, used)| (**used, key.0)) else { return };
            self.let_go(key);
            self.resident.evict(key.0, key.1);
        }
    }

    /// Forgets everything that holds a matrix.
    fn let_go(&mut self, key: (WeightId, Format)) {
        self.used.remove(&key);
        if self.matrices[key.0].as_ref().is_some_and(|matrix| matrix.format == key.1) {
            self.matrices[key.0] = None;
        }
        let reads = |step: &Step| weight_of(&self.graph, step) == Some(key.0);
        let steps: Vec<usize> = (0..self.steps.len()).filter(|&at| reads(&self.steps[at])).collect();
        self.states.iter_mut().for_each(|state| state.drop_recordings(&steps, key.1));
        self.timing = None;
    }

    /// The recordings of the steps that run for `assignment`, which must have been bound and makes `contents`.
    pub(super) fn lower(
        &self,
        state: &mut State,
        assignment: &Assignment,
        contents: &[Option<Content>],
        fates: &[Fate],
    ) -> Result<Vec<Arc<Recording>>> {
        let mut recordings = Vec::with_capacity(fates.len());
        for (i, _) in fates.iter().enumerate().filter(|&(_, &fate)| fate == Fate::Runs) {
            let (rounds, computes) = self.lower_step(state, i, assignment, contents)?;
            recordings.extend(rounds);
            recordings.push(computes);
        }
        Ok(recordings)
    }

    /// What rounds the input of step `i`, where that has not been done yet, and what computes it.
    pub(super) fn lower_step(
        &self,
        state: &mut State,
        i: usize,
        assignment: &Assignment,
        contents: &[Option<Content>],
    ) -> Result<(Option<Arc<Recording>>, Arc<Recording>)> {
        let (caches, tokens) = (state.caches.clone(), state.tokens.clone());
        let (output_tokens, outputs) = (state.output_tokens.clone(), state.outputs.clone());
        let inputs = state.inputs.clone();
        let context = Context {
            gpu: self.resident.gpu(),
            graph: &self.graph,
            assignment,
            matrices: &self.matrices,
            vectors: &self.vectors,
            biases: &self.biases,
            stacks: &[],
            roundings: &self.roundings,
            rotations: &self.rotations,
            caches: &caches,
            tokens: &tokens,
            output_tokens: &output_tokens,
            selected: &self.selected,
            outputs: &outputs,
            inputs: inputs.as_ref(),
            context: self.options.context,
            fused: self.options.fused,
            // A step does not know what later ones read, nor in which format.
            keep: true,
        };
        let step = &self.steps[i];
        let spec = weight_of(&self.graph, step).map(|weight| assignment.specs[weight]);
        let is_linear = matches!(self.graph.nodes[step.node].op, Op::Linear { .. });
        let rounds = match spec.and_then(|spec| spec.activation).filter(|_| is_linear) {
            Some(format) => state.rounded(&context, step, format, contents)?,
            None => None,
        };
        Ok((rounds, state.recording(&context, i, step, spec)?))
    }
}

/// The matrix a step reads.
pub(super) fn weight_of(graph: &Graph, step: &Step) -> Option<WeightId> {
    match graph.nodes[step.node].op {
        Op::Linear { weight, .. } => Some(weight),
        Op::Embed { table } | Op::EmbedPosition { table } | Op::EmbedSegment { table } => Some(table),
        _ => None,
    }
}
