//! What a search writes: a table for the terminal, `trials.csv`, a page to look at, and a cost file for other programs.
//!
//! Everything here is a pure function from plain data to text; a [`Summary`] is all there is to know of a study,
//! finished or still running. [`html`] is one file without references to anything outside it.

pub mod analysis;
mod axis;
mod bars;
mod compare;
pub mod cost;
mod csv;
mod heat;
mod html;
mod maps;
mod palette;
mod progress;
mod scatter;
mod sections;
mod statistics;
mod svg;
mod table;
mod text;

pub use compare::{Comparison, Contestant, Group, Study, compare_svg, groups, html_compare};
pub use cost::cost_file;
pub use csv::{csv, csv_field};
pub use html::html;
pub use progress::progress_svg;
pub use scatter::scatter_svg;
pub use statistics::{best_so_far, quantile};
pub use table::table;

use super::{Measurement, Metric, Objective, Quality, Size, Space, Trial, TrialState};
use crate::eval::{TensorKind, TensorMemory};
use crate::format::Spec;
use crate::graph::Graph;
use crate::model::Unit;

/// A study as plain data.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Heading, e.g. the name of the model.
    pub title: String,
    /// What was searched: label and value of model, text, adapter, settings, in the order they are shown.
    pub facts: Vec<(String, String)>,
    /// The command line that makes the study again.
    pub command: String,
    /// What is minimised.
    pub objective: Objective,
    /// The choices, in the order of [`Trial::point`].
    pub dimensions: Vec<Searched>,
    /// All trials so far.
    pub trials: Vec<Trial>,
    /// One spec everywhere, tried or measured beside the trials.
    pub uniform: Vec<Uniform>,
    /// What one prediction is about.
    pub unit: Unit,
    /// Loss of the f32 model on the examples of the trials, nats per prediction.
    pub baseline_loss: Option<f64>,
    /// Share of right predictions of the f32 model on them.
    pub baseline_accuracy: Option<f64>,
    /// Numbers of the trials that no other one is better than in every objective.
    pub front: Vec<usize>,
    /// Number of the best trial; `None` where several objectives leave that open, or nothing was measured.
    pub best: Option<usize>,
    /// What became of front and best on other examples.
    pub finals: Vec<Final>,
    /// Where the time went.
    pub times: Times,
    /// What the trials cost beside time.
    pub effort: Effort,
}

/// A choice: layers that always have the same spec, and the specs they may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Searched {
    /// Name of the layer, or of the first of several tied ones with `(+N)`.
    pub name: String,
    /// The weights that share the choice.
    pub layers: Vec<Layer>,
    /// Specs, as text.
    pub candidates: Vec<String>,
}

/// A weight matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name in the checkpoint.
    pub tensor: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
}

/// One spec everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Uniform {
    /// The spec.
    pub spec: String,
    /// Number of the trial, where it was one.
    pub trial: Option<usize>,
    /// What was measured beside the trials, where it was none.
    pub measurement: Option<Measurement>,
}

/// A trial measured again, together with others, on other examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    /// Number of the trial.
    pub trial: usize,
    /// Name of the file with its qconfig; empty where none was written.
    pub file: String,
    /// Cross-entropy, nats per prediction.
    pub loss: f64,
    /// Divergence from the f32 model, nats per prediction.
    pub kl: f64,
    /// Share of predictions whose most probable outcome is the f32 model's.
    pub agreement: f64,
    /// Share of predictions whose most probable outcome is the target.
    pub accuracy: f64,
    /// Packed bytes of all weights of the model.
    pub bytes: u64,
    /// Stored bits per weight of the block linears.
    pub bits_per_weight: f64,
    /// Seconds of a pass, summed over separately timed layers.
    pub latency_sum: Option<f64>,
    /// Seconds of the same pass timed as a whole.
    pub latency_whole: Option<f64>,
}

/// Wall-clock seconds of a study, by what they were spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Rounding and packing weights.
    pub packing: f64,
    /// Uploads and compilation before the first trial.
    pub warm_up: f64,
    /// Proposing points.
    pub sampler: f64,
    /// Writing and syncing the journal.
    pub journal: f64,
    /// Running trials and waiting for the device.
    pub device: f64,
    /// Everything else.
    pub rest: f64,
}

/// What the trials cost beside time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effort {
    /// Trials per second of the whole loop; 0 where nothing ran.
    pub trials_per_second: f64,
    /// Bytes uploaded per trial once every variant had been on the device.
    pub uploaded_per_trial: f64,
    /// Variants dropped to stay within the device memory.
    pub evictions: u64,
    /// Share of the steps of the graph whose values were there from earlier trials.
    pub reused: f64,
}

impl Times {
    /// Labels and seconds, in the order of the fields; what is not a positive number counts as 0.
    pub fn parts(&self) -> [(&'static str, f64); 6] {
        let seconds = |value: f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
        [
            ("packing", seconds(self.packing)),
            ("warm-up", seconds(self.warm_up)),
            ("sampler", seconds(self.sampler)),
            ("journal", seconds(self.journal)),
            ("device", seconds(self.device)),
            ("other host work", seconds(self.rest)),
        ]
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.parts().iter().map(|part| part.1).sum()
    }
}

impl Searched {
    /// The choices of `space` over the layers of `graph`.
    pub fn of(graph: &Graph, space: &Space) -> Vec<Self> {
        let layer = |&id: &usize| {
            let weight = &graph.weights[id];
            Layer { tensor: weight.tensor.clone(), rows: weight.rows, cols: weight.cols }
        };
        let dimensions = space.dimensions.iter().map(|dimension| Self {
            name: dimension.name.clone(),
            layers: dimension.weights.iter().map(layer).collect(),
            candidates: dimension.candidates.iter().map(Spec::to_string).collect(),
        });
        dimensions.collect()
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.layers.iter().map(|layer| layer.rows as u64 * layer.cols as u64).sum()
    }

    /// Stored bits per weight with a candidate; `None` where its text is no spec that the layers can hold.
    pub fn bits(&self, choice: usize) -> Option<f64> {
        Some(self.size(choice, Size::Packed)? * 8.0 / self.weights().max(1) as f64)
    }

    /// Bytes with a candidate, as [`Measurement`] counts them but for exceptions.
    fn size(&self, choice: usize, size: Size) -> Option<f64> {
        let format = self.candidates.get(choice)?.parse::<Spec>().ok()?.weight;
        let bytes = |layer: &Layer| {
            let (kind, spec) = (TensorKind::Linear, String::new());
            let memory = TensorMemory::new("", kind, spec, format, layer.rows, layer.cols).ok()?;
            Some(match size {
                Size::Packed => memory.bytes as f64,
                Size::Nominal => memory.code_bits as f64 / 8.0,
            })
        };
        self.layers.iter().map(bytes).sum()
    }
}

impl Summary {
    /// The trial with a number.
    pub fn trial(&self, number: usize) -> Option<&Trial> {
        // Trials stand at their number unless the caller left some out.
        let at_place = self.trials.get(number).filter(|trial| trial.number == number);
        at_place.or_else(|| self.trials.iter().find(|trial| trial.number == number))
    }

    /// Complete trials with finite loss and divergence, and what was measured of them.
    pub fn measured(&self) -> impl Iterator<Item = (&Trial, &Measurement)> {
        self.trials.iter().filter_map(measurement)
    }

    /// A trial with what was measured of it.
    fn measured_trial(&self, number: usize) -> Option<(&Trial, &Measurement)> {
        self.trial(number).and_then(measurement)
    }

    /// Uniform baselines that were measured.
    fn baselines(&self) -> Vec<(&Uniform, &Measurement)> {
        let measured = |uniform| {
            let uniform: &Uniform = uniform;
            let tried = uniform.trial.and_then(|trial| Some(self.measured_trial(trial)?.1));
            let beside = || uniform.measurement.as_ref().filter(|m| m.loss.is_finite() && m.kl.is_finite());
            Some((uniform, tried.or_else(beside)?))
        };
        self.uniform.iter().filter_map(measured).collect()
    }

    /// Front and best, or the best alone, by size.
    fn chosen(&self) -> Vec<(&Trial, &Measurement)> {
        let mut numbers = self.front.clone();
        numbers.extend(self.best);
        numbers.sort_unstable();
        numbers.dedup();
        let mut chosen: Vec<_> = numbers.into_iter().filter_map(|n| self.measured_trial(n)).collect();
        chosen.sort_by_key(|(trial, m)| (self.size().bytes(m), trial.number));
        chosen
    }

    /// The spec of a dimension in a trial; empty where the point is not of this space.
    fn spec(&self, trial: &Trial, dimension: usize) -> &str {
        let spec = |choice: &usize| self.dimensions[dimension].candidates.get(*choice);
        trial.point.get(dimension).and_then(spec).map_or("", String::as_str)
    }

    fn quality(&self) -> Quality {
        self.objective.quality()
    }

    /// How size is counted: as the objective does, else in packed bytes.
    fn size(&self) -> Size {
        match &self.objective {
            Objective::Scalar { size, .. } => *size,
            Objective::Metrics(metrics) => {
                let size = metrics.iter().find_map(|metric| match metric {
                    Metric::Size(size) => Some(*size),
                    _ => None,
                });
                size.unwrap_or(Size::Packed)
            }
        }
    }

    fn count(&self, state: TrialState) -> usize {
        self.trials.iter().filter(|trial| trial.state == state).count()
    }
}

fn measurement(trial: &Trial) -> Option<(&Trial, &Measurement)> {
    let m = trial.measurement.as_ref().filter(|m| m.loss.is_finite() && m.kl.is_finite())?;
    (trial.state == TrialState::Complete).then_some((trial, m))
}

/// Unit of an objective value; empty for sums of unlike things.
fn units(objective: &Objective, unit: Unit) -> Vec<&'static str> {
    let nats = match unit {
        Unit::Token => "nats/token",
        Unit::Example => "nats/example",
    };
    let unit = |metric: &Metric| match metric {
        Metric::Quality(Quality::Error) => "wrong",
        Metric::Quality(_) => nats,
        Metric::Size(_) => "bytes",
        Metric::Latency => "s",
    };
    match objective {
        Objective::Scalar { .. } => vec![""],
        Objective::Metrics(metrics) => metrics.iter().map(unit).collect(),
    }
}

fn state_name(state: TrialState) -> &'static str {
    match state {
        TrialState::Running => "running",
        TrialState::Complete => "complete",
        TrialState::Pruned => "pruned",
        TrialState::Failed => "failed",
        TrialState::Waiting => "waiting",
    }
}

#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
