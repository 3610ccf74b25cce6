//! A study: trials begun, measured and recorded until there are enough, by one process or several.
//!
//! Trials come in batches: those numbered `kB..(k+1)B` are proposed together, from the trials before `kB` alone. So what
//! is proposed depends on nothing but the numbers and the trials before, and a study that was killed goes on as if
//! nothing had happened.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::journal::{Axis, Finished, Journal, NewTrial, Outcome as Ending, TrialRecord};
use super::sampler::{Sampler, pareto};
use super::{Evaluator, Measurement, Outcome, Point, Problem, Space, Trial, TrialState};
use crate::error::{Result, invalid};

/// The user attribute of a study that says how it was begun.
pub const SETTINGS: &str = "anybit:settings";
/// The system attribute in which Optuna looks for constraints; a trial is feasible where all are at most 0.
const CONSTRAINTS: &str = "constraints";

/// A study in a journal, and the space it is about.
pub struct Study<'a> {
    journal: Journal,
    space: &'a Space,
    problem: &'a Problem,
    axes: Vec<Axis>,
}

/// How far a study is.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Trials the study is to have, those of earlier runs included.
    pub trials: usize,
    /// Trials proposed together.
    pub batch: usize,
    /// Trials measured before their results are recorded.
    pub in_flight: usize,
}

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunTimes {
    /// Proposing points.
    pub sampler: Duration,
    /// Writing and reading the journal.
    pub journal: Duration,
    /// Measuring, host and device.
    pub evaluator: Duration,
    /// Trials measured.
    pub trials: usize,
}

/// The settings of a study in a journal; an error where anybit did not begin it.
///
/// # Errors
/// As [`Journal::open`].
pub fn settings(path: &Path, name: Option<&str>) -> Result<(String, Map<String, Value>)> {
    let journal = Journal::open(path, name)?;
    let study = journal.study();
    match study.user_attrs.get(SETTINGS) {
        Some(Value::Object(settings)) => Ok((study.name.clone(), settings.clone())),
        _ => invalid!(
            "{}: study `{}` was not begun by `anybit search`, so its space is not known; begin one of another name in \
             the same file",
            path.display(),
            study.name
        ),
    }
}

impl<'a> Study<'a> {
    /// Begins a study in a new journal, or beside others in an existing one.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn create(
        path: &Path,
        name: &str,
        space: &'a Space,
        problem: &'a Problem,
        settings: Map<String, Value>,
    ) -> Result<Self> {
        let mut attrs = Map::new();
        attrs.insert(SETTINGS.to_owned(), Value::Object(settings));
        let mut journal = Journal::create(path, name, problem.objective.count(), &attrs)?;
        journal.set_metric_names(&problem.objective.names())?;
        Ok(Self { journal, axes: axes(space), space, problem })
    }

    /// Opens the study `name` to go on with it.
    ///
    /// # Errors
    /// As [`Journal::open`], and when its objectives are others.
    pub fn open(path: &Path, name: &str, space: &'a Space, problem: &'a Problem) -> Result<Self> {
        let journal = Journal::open(path, Some(name))?;
        let (got, want) = (journal.study().directions.len(), problem.objective.count());
        if got != want {
            invalid!("{}: study `{name}` has {got} objectives, want {want}", path.display());
        }
        Ok(Self { journal, axes: axes(space), space, problem })
    }

    /// All trials, in order of number. Those of other programs whose parameters are not of this space have an empty
    /// point.
    pub fn trials(&self) -> Vec<Trial> {
        self.journal.study().trials.iter().map(|record| self.trial(record)).collect()
    }

    fn trial(&self, record: &TrialRecord) -> Trial {
        let choice = |axis: &Axis| {
            let value = record.param(&axis.name)?.value();
            axis.choices.iter().position(|choice| value.as_str() == Some(choice))
        };
        let point: Option<Point> = self.axes.iter().map(choice).collect();
        let measurement = measurement(&record.user_attrs);
        let origin = record.user_attrs.get("origin").and_then(Value::as_str).unwrap_or("other");
        Trial {
            number: record.number,
            point: point.unwrap_or_default(),
            state: record.state,
            values: record.values.clone().unwrap_or_default(),
            measurement: measurement.filter(|_| record.state == TrialState::Complete),
            origin: origin.to_owned(),
        }
    }

    /// Runs until the study has as many trials as asked for, or there is nothing left to try. `progress` is called with
    /// all trials after each group; `false` stops.
    ///
    /// # Errors
    /// When the journal cannot be written or nothing can be measured any more. What was recorded stays; trials that were
    /// under way are taken up by the next run.
    pub fn run(
        &mut self,
        evaluator: &mut dyn Evaluator,
        sampler: &dyn Sampler,
        options: RunOptions,
        progress: &mut dyn FnMut(&[Trial], &RunTimes) -> bool,
    ) -> Result<RunTimes> {
        let mut times = RunTimes::default();
        let batch = options.batch.max(1);
        let start = Instant::now();
        let orphans = self.journal.orphans()?;
        times.journal += start.elapsed();
        let trials = self.trials();
        let known: Vec<(usize, Point)> = orphans
            .into_iter()
            .filter_map(|number| Some((number, trials.get(number)?.point.clone())))
            .filter(|(_, point)| point.len() == self.axes.len())
            .collect();
        if !self.measure(evaluator, &known, options, &mut times, progress)? {
            return Ok(times);
        }
        loop {
            let trials = self.trials();
            let count = trials.len();
            if count >= options.trials {
                return Ok(times);
            }
            let first = count - count % batch;
            let wanted = batch.min(options.trials - first);
            let start = Instant::now();
            let proposals = sampler.ask(self.problem, &trials[..first], first, wanted)?;
            times.sampler += start.elapsed();
            let new: Vec<NewTrial> =
                proposals.iter().skip(count - first).map(|p| self.new_trial(&p.point, p.origin)).collect();
            if new.is_empty() {
                return Ok(times);
            }
            let start = Instant::now();
            let numbers = self.journal.begin_at(&self.axes, &new, count)?;
            times.journal += start.elapsed();
            // Another process was faster; what it began is known now.
            let Some(numbers) = numbers else { continue };
            let begun: Vec<(usize, Point)> =
                numbers.into_iter().zip(new.into_iter().map(|trial| trial.point)).collect();
            if !self.measure(evaluator, &begun, options, &mut times, progress)? {
                return Ok(times);
            }
        }
    }

    fn new_trial(&self, point: &[usize], origin: &str) -> NewTrial {
        let mut trial = NewTrial { point: point.to_vec(), ..NewTrial::default() };
        trial.user_attrs.insert("origin".to_owned(), json!(origin));
        if let Some(most) = self.problem.max_bytes {
            let over = self.problem.bytes_of(point) as f64 - most as f64;
            trial.system_attrs.insert(CONSTRAINTS.to_owned(), json!([over]));
        }
        trial
    }

    /// Measures trials and records the results, group by group.
    fn measure(
        &mut self,
        evaluator: &mut dyn Evaluator,
        begun: &[(usize, Point)],
        options: RunOptions,
        times: &mut RunTimes,
        progress: &mut dyn FnMut(&[Trial], &RunTimes) -> bool,
    ) -> Result<bool> {
        // In the order of points, neighbours share what was computed; groups are then as cheap as they can be.
        let mut order: Vec<&(usize, Point)> = begun.iter().collect();
        order.sort_by(|a, b| a.1.cmp(&b.1));
        for group in order.chunks(options.in_flight.max(1)) {
            let assignments: Vec<_> = group.iter().map(|(_, point)| self.space.assignment(point)).collect();
            let start = Instant::now();
            let outcomes = evaluator.evaluate(&assignments)?;
            times.evaluator += start.elapsed();
            times.trials += group.len();
            let results: Vec<Finished> = group
                .iter()
                .zip(outcomes)
                .map(|((number, _), outcome)| self.finished(*number, outcome))
                .collect();
            let start = Instant::now();
            self.journal.finish(&results)?;
            times.journal += start.elapsed();
            if !progress(&self.trials(), times) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finished(&self, number: usize, outcome: Outcome) -> Finished {
        let (outcome, user_attrs) = match outcome {
            Ok(measurement) => {
                let values = self.problem.objective.values(&measurement);
                match values.iter().all(|value| value.is_finite()) {
                    true => (Ending::Complete(values), attributes(&measurement)),
                    false => (Ending::Failed, error("the objective is not a number")),
                }
            }
            Err(why) => (Ending::Failed, error(&why)),
        };
        Finished { number, outcome, user_attrs, system_attrs: Map::new() }
    }
}

fn error(why: &str) -> Map<String, Value> {
    Map::from_iter([("error".to_owned(), json!(why))])
}

fn axes(space: &Space) -> Vec<Axis> {
    let axis = |dimension: &super::Dimension| Axis {
        name: dimension.name.clone(),
        choices: dimension.candidates.iter().map(ToString::to_string).collect(),
    };
    space.dimensions.iter().map(axis).collect()
}

/// A measurement as attributes of its trial.
fn attributes(m: &Measurement) -> Map<String, Value> {
    match serde_json::to_value(m) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn measurement(attrs: &Map<String, Value>) -> Option<Measurement> {
    serde_json::from_value(Value::Object(attrs.clone())).ok()
}

/// The trials that count: complete, of this space, and within the budget.
pub fn complete<'t>(problem: &Problem, trials: &'t [Trial]) -> Vec<&'t Trial> {
    let counts = |trial: &&Trial| {
        trial.state == TrialState::Complete
            && trial.point.len() == problem.bytes.len()
            && trial.values.len() == problem.objective.count()
            && problem.fits(&trial.point)
    };
    trials.iter().filter(counts).collect()
}

/// The trials that no other one beats in all objectives, by their first value; of equal ones the first.
pub fn front<'t>(problem: &Problem, trials: &'t [Trial]) -> Vec<&'t Trial> {
    let complete = complete(problem, trials);
    let values: Vec<Vec<f64>> = complete.iter().map(|trial| trial.values.clone()).collect();
    let mut front: Vec<&Trial> = Vec::new();
    for (i, trial) in complete.iter().enumerate() {
        let beaten = values
            .iter()
            .enumerate()
            .any(|(j, other)| pareto::dominates(other, &values[i]) || (j < i && *other == values[i]));
        if !beaten {
            front.push(trial);
        }
    }
    front.sort_by(|a, b| a.values[0].total_cmp(&b.values[0]));
    front
}

/// The best trial: the least value, or with several objectives the member of the front that is nearest to having the
/// least of each, every objective scaled to its range on the front (those that differ by more than a factor of 100 by
/// their logarithm).
pub fn best<'t>(problem: &Problem, trials: &'t [Trial]) -> Option<&'t Trial> {
    let front = front(problem, trials);
    let scaled = |n: usize| -> Vec<f64> {
        let raw = || front.iter().map(|trial| trial.values[n]);
        let (low, high) = raw().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let floor = high * 1e-9;
        let log = low >= 0.0 && high > 100.0 * low.max(floor);
        let scale = |v: f64| if log { v.max(floor).ln() } else { v };
        let (low, high) = (scale(low), scale(high));
        raw().map(|v| if high > low { (scale(v) - low) / (high - low) } else { 0.0 }).collect()
    };
    let objectives: Vec<Vec<f64>> = (0..problem.objective.count()).map(scaled).collect();
    let distance = |i: usize| objectives.iter().map(|values| values[i] * values[i]).sum::<f64>();
    (0..front.len()).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).map(|i| front[i])
}

#[cfg(test)]
#[path = "study_tests.rs"]
mod tests;
