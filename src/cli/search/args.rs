//! What a search is asked for, on the command line and in the settings of a study.

use std::path::PathBuf;

use anybit::search::sampler::SamplerSpec;
use anybit::search::{Objective, SpaceText};
use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::super::common::{self, DeviceArgs, ModelArgs};
use super::super::examples::{Asked, ExampleArgs};
use super::super::hub;
use super::super::meter::{MeterArgs, byte_count};

/// The space without --space: the formats that lie on the front of uniform assignments of the default model.
pub(crate) const SPACE: &str = "int2|3|4|5|6|8(group=32),base11,nf4";

/// The problem: model, text, space, objective.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ProblemArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Formats to choose from, for all block linears or for those a pattern matches; repeatable, later ones win
    /// [default: int2|3|4|5|6|8(group=32),base11,nf4]
    #[arg(long, value_name = "[PATTERN=]LIST")]
    pub(crate) space: Vec<String>,
    /// Activation formats to combine with weight formats: specs, none, or same (as the weights)
    #[arg(long, value_name = "LIST")]
    pub(crate) activation: Vec<String>,
    /// Layers that share one choice; {} in the pattern: a group for each text it stands for, e.g. 'model.layers.{}.*'
    #[arg(long, value_name = "PATTERN")]
    pub(crate) tie: Vec<String>,
    /// Layers that stay in f32
    #[arg(long, value_name = "PATTERN")]
    pub(crate) keep_f32: Vec<String>,
    /// What to minimise: loss, kl, accuracy (of labelled texts; what is minimised is the error, 1 - accuracy), bytes,
    /// nominal_bytes, latency, several of them separated by commas (a Pareto front), or
    /// scalar(alpha=0.5,quality=loss|kl|accuracy,size=bytes|nominal_bytes): alpha * quality + (1 - alpha) * MiB
    /// [default: kl,bytes; kl with a budget]
    #[arg(long, value_name = "LIST")]
    pub(crate) objective: Option<Objective>,
    /// Most packed bytes of the whole model, e.g. 1.5e6, 1.5MB, 1.4MiB
    #[arg(long, value_name = "BYTES", value_parser = byte_count, conflicts_with = "max_bits_per_weight")]
    pub(crate) max_bytes: Option<u64>,
    /// Most stored bits per weight of the searched layers
    #[arg(long, value_name = "BITS", value_parser = bits)]
    pub(crate) max_bits_per_weight: Option<f64>,
    #[command(flatten)]
    pub(crate) examples: ExampleArgs,
    /// Tokens of the pass whose latency is measured (1: a step of decoding) [default: 1]
    #[arg(long, value_name = "N", value_parser = common::positive)]
    pub(crate) latency_tokens: Option<usize>,
    #[command(flatten)]
    pub(crate) meter: MeterArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

fn bits(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bits) if bits > 0.0 && bits.is_finite() => Ok(bits),
        _ => Err("want a number above 0, e.g. 3.5".to_owned()),
    }
}

/// How the space is searched.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Trials [default: 200]
    #[arg(long, value_name = "N", value_parser = common::positive)]
    pub(crate) trials: Option<usize>,
    /// Seed of all randomness [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Trials proposed together and in flight on the device [default: 8; 1 for tpe]
    #[arg(long, value_name = "N", value_parser = common::positive)]
    pub(crate) batch: Option<usize>,
}

/// Everything a study depends on, as it is kept in the journal.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Settings {
    pub(crate) model: Option<PathBuf>,
    pub(crate) model_hash: String,
    #[serde(flatten)]
    pub(crate) asked: Asked,
    pub(crate) text_hash: String,
    pub(crate) space: Vec<String>,
    pub(crate) activation: Vec<String>,
    pub(crate) tie: Vec<String>,
    pub(crate) keep_f32: Vec<String>,
    pub(crate) objective: String,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_bits_per_weight: Option<f64>,
    pub(crate) latency_tokens: usize,
    pub(crate) sampler: String,
    pub(crate) seed: u64,
    pub(crate) batch: usize,
    pub(crate) trials: usize,
    pub(crate) naive: bool,
    #[serde(default)]
    pub(crate) f16: bool,
    pub(crate) version: String,
}

impl Settings {
    /// What the command line asks for, with defaults; the hashes are filled in once model and text have been read.
    pub(crate) fn new(problem: &ProblemArgs, sampler: &SamplerSpec, run: &RunArgs) -> Self {
        let has_budget = problem.max_bytes.is_some() || problem.max_bits_per_weight.is_some();
        let default = if has_budget { "kl" } else { "kl,bytes" };
        let batch = if matches!(sampler, SamplerSpec::Tpe(_)) { 1 } else { 8 };
        let asked = problem.examples.asked();
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self {
            model: problem
                .model
                .model
                .as_ref()
                .map(|path| if hub::is_id(path) { path.clone() } else { absolute(path) }),
            model_hash: String::new(),
            asked: Asked {
                text: asked.text.as_ref().map(absolute),
                data: asked.data.as_ref().map(absolute),
                ..asked
            },
            text_hash: String::new(),
            space: if problem.space.is_empty() { vec![SPACE.to_owned()] } else { problem.space.clone() },
            activation: problem.activation.clone(),
            tie: problem.tie.clone(),
            keep_f32: problem.keep_f32.clone(),
            objective: problem.objective.as_ref().map_or(default.to_owned(), ToString::to_string),
            max_bytes: problem.max_bytes,
            max_bits_per_weight: problem.max_bits_per_weight,
            latency_tokens: problem.latency_tokens.unwrap_or(1),
            sampler: sampler.to_string(),
            seed: run.seed.unwrap_or(0),
            batch: run.batch.unwrap_or(batch),
            trials: run.trials.unwrap_or(200),
            naive: problem.device.naive,
            f16: problem.device.f16,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Makes the command line ask for what this study was begun with. What it names itself must be the same, except
    /// for the number of trials, which may be another one.
    pub(crate) fn restore(
        &self,
        problem: &mut ProblemArgs,
        sampler: &mut Option<SamplerSpec>,
        run: &mut RunArgs,
    ) -> Result<()> {
        let given = problem.examples.asked();
        let given = [
            ("--model", problem.model.model.is_some()),
            ("--text", given.text.is_some()),
            ("--data", given.data.is_some()),
            ("--windows", given.windows.is_some()),
            ("--examples", given.examples.is_some()),
            ("--context", given.context.is_some()),
            ("--space", !problem.space.is_empty()),
            ("--activation", !problem.activation.is_empty()),
            ("--tie", !problem.tie.is_empty()),
            ("--keep-f32", !problem.keep_f32.is_empty()),
            ("--objective", problem.objective.is_some()),
            ("--max-bytes", problem.max_bytes.is_some()),
            ("--max-bits-per-weight", problem.max_bits_per_weight.is_some()),
            ("--latency-tokens", problem.latency_tokens.is_some()),
            ("--sampler", sampler.is_some()),
            ("--seed", run.seed.is_some()),
            ("--batch", run.batch.is_some()),
            // Flags: what is not given is not asked for.
            ("--naive", problem.device.naive),
            ("--f16", problem.device.f16),
        ];
        let spec: SamplerSpec = self.sampler.parse()?;
        let asked = Self::new(problem, sampler.as_ref().unwrap_or(&spec), run).map();
        let mine = self.map();
        for (option, _) in given.into_iter().filter(|(_, given)| *given) {
            let key = option.trim_start_matches('-').replace('-', "_");
            if asked.get(&key) != mine.get(&key) {
                let show = |map: &Map<String, Value>| map.get(&key).cloned().unwrap_or_default();
                // The same file under another name is the same file: contents are compared later.
                if !matches!(option, "--model" | "--text" | "--data") {
                    bail!(
                        "{option} is {}, this study was begun with {}; leave it out, or begin another study",
                        show(&asked),
                        show(&mine)
                    );
                }
            }
        }
        problem.model.model = problem.model.model.take().or_else(|| self.model.clone());
        problem.examples.restore(&self.asked);
        problem.space.clone_from(&self.space);
        problem.activation.clone_from(&self.activation);
        problem.tie.clone_from(&self.tie);
        problem.keep_f32.clone_from(&self.keep_f32);
        problem.objective = Some(self.objective.parse()?);
        problem.max_bytes = self.max_bytes;
        problem.max_bits_per_weight = self.max_bits_per_weight;
        problem.latency_tokens = Some(self.latency_tokens);
        problem.device.naive = self.naive;
        problem.device.f16 = self.f16;
        *sampler = Some(spec);
        run.seed = Some(self.seed);
        run.batch = Some(self.batch);
        run.trials = run.trials.or(Some(self.trials));
        Ok(())
    }

    pub(crate) fn map(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    pub(crate) fn space_text(&self) -> SpaceText {
        SpaceText {
            entries: self.space.clone(),
            activations: self.activation.clone(),
            tie: self.tie.clone(),
            keep_f32: self.keep_f32.clone(),
        }
    }
}
