//! Times of steps and of whole passes, on weights that are resident.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::{Fate, contents};
use super::plan::lifetimes;
use super::session::caches;
use super::state::{Places, State};
use super::trial::{Prediction, Trials, weight_of};
use crate::error::{Result, invalid};
use crate::format::{ActivationFormat, Spec};
use crate::gpu::{Gpu, Recording};
use crate::graph::{Assignment, Batch, NodeId, Op, Token, Weights};
use crate::shader::Epilogue;

/// Samples of which the median counts.
const SAMPLES: usize = 5;
/// Shortest sample: a recording is repeated within a submission until it takes as long.
const SAMPLE: Duration = Duration::from_millis(2);
/// Most repetitions in one submission.
const MAX_REPEATS: u32 = 64;

/// What the time of a step depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Linear layers of one shape and spec take equally long.
    Linear { rows: usize, cols: usize, spec: Spec, epilogue: Epilogue },
    /// Rounding of inputs of one width.
    Rounding { cols: usize, spec: Spec },
    /// Another step, which may read an embedding.
    Other(usize, Option<Spec>),
}

/// Seconds of one pass, by layer.
#[derive(Clone, Debug, Default)]
pub struct PassTime {
    /// Seconds of every weight that a linear layer or a lookup reads, rounding of its input included; 0 for others.
    /// Indexed by [`crate::graph::WeightId`].
    pub weights: Vec<f64>,
    /// Seconds of all other steps.
    pub rest: f64,
}

impl PassTime {
    /// Seconds of the whole pass.
    pub fn total(&self) -> f64 {
        self.rest + self.weights.iter().sum::<f64>()
    }
}

/// A batch to time, and what is known already.
pub(super) struct Timing {
    tokens: usize,
    state: State,
    known: HashMap<Kind, f64>,
}

impl Trials {
    /// The time of a pass of `tokens` tokens at the end of one sequence (1: a step of decoding) under `assignment`, step by
    /// step: each kind of step is timed once, submission not counted, and remembered.
    ///
    /// # Errors
    /// When `tokens` does not fit the context, weights are missing, or the device fails.
    pub fn time_steps(
        &mut self,
        weights: &dyn Weights,
        assignment: &Assignment,
        tokens: usize,
    ) -> Result<PassTime> {
        let mut timing = self.take_timing(tokens)?;
        let result = self.time_with(&mut timing, weights, assignment);
        self.timing = Some(timing);
        result
    }

    /// The time of the same pass as a whole: the median of several, one submission each.
    ///
    /// # Errors
    /// As [`Trials::time_steps`].
    pub fn time_whole(
        &mut self,
        weights: &dyn Weights,
        assignment: &Assignment,
        tokens: usize,
    ) -> Result<f64> {
        let mut timing = self.take_timing(tokens)?;
        let result = self.bind(weights, assignment).and_then(|()| {
            timing.state.forget();
            let contents = contents(&self.graph, &self.steps, assignment);
            let fates = vec![Fate::Runs; self.steps.len()];
            let recordings = self.lower(&mut timing.state, assignment, &contents, &fates)?;
            let parts: Vec<&Recording> = recordings.iter().map(Arc::as_ref).collect();
            median_time(self.gpu(), &parts)
        });
        self.timing = Some(timing);
        result
    }

    fn take_timing(&mut self, tokens: usize) -> Result<Timing> {
        let context = self.options.context;
        if tokens == 0 || tokens > context {
            invalid!("a pass of {tokens} tokens; this text has windows of {context}: want 1 to {context}");
        }
        if let Some(timing) = self.timing.take().filter(|timing| timing.tokens == tokens) {
            return Ok(timing);
        }
        let gpu = self.gpu().clone();
        // A bidirectional model has no earlier tokens to continue.
        let first = if self.graph.is_bidirectional() { 0 } else { context - tokens };
        let token = |i: usize| Token::new(0, 0, (first + i) as u32);
        let batch = Batch {
            tokens: (0..tokens).map(token).collect(),
            outputs: vec![tokens as u32 - 1],
            inputs: vec![0.0; tokens * self.graph.input_width().unwrap_or(0)],
        };
        let (root, last_use) = lifetimes(&self.graph, &self.steps)?;
        let places = Places { steps: &self.steps, root: &root, last_use: &last_use, keeps: true };
        let caches = caches(&gpu, &self.graph, 1, context)?;
        let state = State::new(&gpu, &self.graph, &Prediction { batch, targets: vec![0] }, caches, &places)?;
        Ok(Timing { tokens, state, known: HashMap::new() })
    }

    fn time_with(
        &mut self,
        timing: &mut Timing,
        weights: &dyn Weights,
        assignment: &Assignment,
    ) -> Result<PassTime> {
        self.bind(weights, assignment)?;
        timing.state.forget();
        let contents = contents(&self.graph, &self.steps, assignment);
        let gpu = self.gpu().clone();
        let mut time = PassTime { weights: vec![0.0; self.graph.weights.len()], rest: 0.0 };
        let mut rounded: Vec<(NodeId, ActivationFormat)> = Vec::new();
        for (i, step) in self.steps.clone().iter().enumerate() {
            let node = &self.graph.nodes[step.node];
            let weight = weight_of(&self.graph, step);
            let spec = weight.map(|weight| assignment.specs[weight]);
            let kind = match (&node.op, weight, spec) {
                (Op::Linear { .. }, Some(weight), Some(spec)) => {
                    let shape = &self.graph.weights[weight];
                    Kind::Linear { rows: shape.rows, cols: shape.cols, spec, epilogue: step.epilogue }
                }
                _ => Kind::Other(i, spec),
            };
            let linear = matches!(node.op, Op::Linear { .. });
            let rounding = spec.and_then(|spec| spec.activation).filter(|_| linear);
            // q, k and v round their common input once.
            let input = node.inputs.first().copied().unwrap_or_default();
            let rounds = rounding.is_some_and(|format| !rounded.contains(&(input, format)));
            rounded.extend(rounding.map(|format| (input, format)));
            let rounding = spec.filter(|_| rounds).map(|spec| Kind::Rounding {
                cols: self.graph.weights[weight.unwrap_or_default()].cols,
                spec,
            });
            let unknown = |kind: &Kind| !timing.known.contains_key(kind);
            let (times_step, times_rounding) = (unknown(&kind), rounding.as_ref().is_some_and(unknown));
            if times_step || times_rounding {
                let (rounds, computes) = self.lower_step(&mut timing.state, i, assignment, &contents)?;
                if times_step {
                    timing.known.insert(kind.clone(), median_time(&gpu, &[&computes])?);
                }
                if let (true, Some(kind), Some(rounds)) = (times_rounding, &rounding, rounds) {
                    timing.known.insert(kind.clone(), median_time(&gpu, &[&rounds])?);
                }
            }
            let of = |kind: &Kind| timing.known.get(kind).copied().unwrap_or_default();
            let seconds = of(&kind) + rounding.as_ref().map_or(0.0, of);
            match weight {
                Some(weight) => time.weights[weight] += seconds,
                None => time.rest += seconds,
            }
        }
        Ok(time)
    }
}

/// Median seconds of one run of `parts`, after one to warm up.
fn median_time(gpu: &Gpu, parts: &[&Recording]) -> Result<f64> {
    if parts.iter().all(|part| part.is_empty()) {
        return Ok(0.0);
    }
    let time = |repeats: u32| -> Result<Duration> {
        let all: Vec<&Recording> = (0..repeats).flat_map(|_| parts.iter().copied()).collect();
        gpu.wait()?;
        let start = Instant::now();
        gpu.run(&all)?;
        gpu.wait()?;
        Ok(start.elapsed())
    };
    time(1)?;
    let once = time(1)?;
    let repeats = (SAMPLE.as_secs_f64() / once.as_secs_f64().max(1e-7)).ceil() as u32;
    let repeats = repeats.clamp(1, MAX_REPEATS);
    let mut samples = (0..SAMPLES).map(|_| time(repeats)).collect::<Result<Vec<_>>>()?;
    samples.sort_unstable();
    Ok(samples[SAMPLES / 2].as_secs_f64() / f64::from(repeats))
}
