//! What a model is measured on: windows of a text, or labelled texts for a classifier.

use std::path::{Path, PathBuf};

use anybit::model::embedded::heldout_text;
use anybit::model::text::windows;
use anybit::model::{Example, Model, Task, Unit, labelled};
use anyhow::{Context as _, Result, bail};

use super::common;

/// Longest window without --context: loss changes little beyond it, and KV caches grow with it.
const WINDOW: usize = 2048;

/// What a model is to predict.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ExampleArgs {
    /// UTF-8 text to predict [default: text that the embedded model was not trained on]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Labelled texts for a classifier: lines of text<TAB>label or text<TAB>text<TAB>label, perhaps with a header
    #[arg(long, value_name = "FILE.tsv", conflicts_with_all = ["text", "windows"])]
    data: Option<PathBuf>,
    /// Evaluate only the first N windows of the text
    #[arg(long, value_name = "N", value_parser = common::positive)]
    windows: Option<usize>,
    /// Evaluate only N of the labelled texts, taken evenly from the whole file
    #[arg(long, value_name = "N", value_parser = common::positive, conflicts_with_all = ["text", "windows"])]
    examples: Option<usize>,
    /// Tokens per window [default: the model's context, at most 2048]; longer labelled texts are cut to it
    #[arg(long, value_name = "N", value_parser = common::positive)]
    context: Option<usize>,
}

/// What was asked for, to be kept with a study.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Asked {
    pub(crate) text: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    pub(crate) windows: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) examples: Option<usize>,
    pub(crate) context: Option<usize>,
}

/// How much to take where the command line does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// Everything.
    All,
    /// So many windows, so many labelled texts.
    Most(usize, usize),
}

/// Windows and labelled texts of a trial: a batch that takes a fraction of a second even on a software driver.
pub(crate) const OF_A_TRIAL: Amount = Amount::Most(6, 128);

/// Examples to measure on.
pub(crate) struct ExampleSet {
    /// Those asked for.
    pub(crate) examples: Vec<Example>,
    /// All others of the file.
    pub(crate) rest: Vec<Example>,
    /// What one prediction is about.
    pub(crate) unit: Unit,
    /// Where they come from.
    pub(crate) label: String,
    /// How many of the examples asked for were cut to the context.
    pub(crate) cut: usize,
    /// Tokens per example at most.
    context: usize,
}

impl ExampleSet {
    /// `windows` or `examples`.
    pub(crate) fn noun(&self) -> &'static str {
        match self.unit {
            Unit::Token => "windows",
            Unit::Example => "examples",
        }
    }

    /// How many the file has.
    pub(crate) fn available(&self) -> usize {
        self.examples.len() + self.rest.len()
    }

    /// What they are, for a banner: `256 of 872 examples, 3 of them cut to 128 tokens`.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{} of {} {}", self.examples.len(), self.available(), self.noun());
        if self.cut > 0 {
            line += &format!(", {} of them CUT to {} tokens", self.cut, self.context);
        }
        line
    }

    /// Predictions in all.
    pub(crate) fn predictions(&self) -> usize {
        self.examples.iter().map(|example| example.targets.len()).sum()
    }
}

impl ExampleArgs {
    /// What was asked for.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            text: self.text.clone(),
            data: self.data.clone(),
            windows: self.windows,
            examples: self.examples,
            context: self.context,
        }
    }

    /// Asks for what another command line asked for; a file that is named stays.
    pub(crate) fn restore(&mut self, asked: &Asked) {
        if self.text.is_none() && self.data.is_none() {
            (self.text, self.data) = (asked.text.clone(), asked.data.clone());
        }
        (self.windows, self.examples, self.context) = (asked.windows, asked.examples, asked.context);
    }

    /// The examples. `is_embedded` says that the default text is the model's own.
    pub(crate) fn read(&self, model: &Model, is_embedded: bool, amount: Amount) -> Result<ExampleSet> {
        let (windows, examples) = match amount {
            Amount::All => (usize::MAX, usize::MAX),
            Amount::Most(windows, examples) => (windows, examples),
        };
        if model.tokenizer().is_none() {
            bail!(
                "model `{}` has no tokenizer.json, so it cannot read a text; put the model's tokenizer.json beside its \
                 config.json",
                model.name()
            );
        }
        let task = model.task();
        match (&self.data, task) {
            (Some(path), Task::Classification) => {
                self.labelled(model, path, self.examples.unwrap_or(examples))
            }
            (Some(_), _) => bail!(
                "--data wants a classifier, and model `{}` is {}{}",
                model.name(),
                task.name(),
                if task == Task::Generation { "; give a text with --text" } else { "" }
            ),
            (None, Task::Generation) if self.examples.is_some() => {
                bail!("--examples belongs to --data; say how much of a text to take with --windows")
            }
            (None, Task::Generation) => self.windows(model, is_embedded, self.windows.unwrap_or(windows)),
            (None, Task::Classification) => bail!(
                "model `{}` is {}, it predicts labels and not the next token; give labelled texts with --data FILE.tsv",
                model.name(),
                task.name()
            ),
            (None, _) => bail!(
                "model `{}` is {}; loss and accuracy want a language model with --text or a classifier with --data",
                model.name(),
                task.name()
            ),
        }
    }

    /// Most tokens of an example.
    fn context(&self, model: &Model) -> Result<usize> {
        let most = model.graph().context;
        match self.context {
            Some(n) if n > most => bail!("--context {n}, the model has {most}; give at most that"),
            Some(n) => Ok(n),
            None => Ok(most.min(WINDOW)),
        }
    }

    fn windows(&self, model: &Model, is_embedded: bool, most: usize) -> Result<ExampleSet> {
        let (label, bytes) = match &self.text {
            Some(path) => (path.display().to_string(), read(path, "cannot read the text")?),
            None => {
                if !is_embedded {
                    eprintln!(
                        "NOTE: no --text given: this is the embedded model's held-out text, from Shakespeare"
                    );
                }
                ("held-out text of the embedded model".to_string(), heldout_text().as_bytes().to_vec())
            }
        };
        let context = self.context(model)?;
        let Some(tokenizer) = model.tokenizer() else { bail!("a model without a tokenizer") };
        let mut examples = windows(&bytes, tokenizer, model.bos(), context).with_context(|| label.clone())?;
        for example in &examples {
            model.check_ids(example.inputs.iter().chain(&example.targets))?;
        }
        let rest = examples.split_off(most.min(examples.len()));
        Ok(ExampleSet { examples, rest, unit: Unit::Token, label, cut: 0, context })
    }

    fn labelled(&self, model: &Model, path: &Path, most: usize) -> Result<ExampleSet> {
        common::require_classes(model)?;
        let name = path.display().to_string();
        let context = self.context(model)?;
        let rows =
            labelled::parse(&read(path, "cannot read the labelled texts")?, &name, Some(model.labels()))?;
        let (mut examples, mut rest, mut cut) = (Vec::new(), Vec::new(), 0);
        let total = rows.len();
        for (i, row) in rows.into_iter().enumerate() {
            let line = row.line;
            let Some(class) = row.class else {
                bail!("{name}, line {line} has no label; want lines of text<TAB>label");
            };
            let text = model
                .encode_text(&row.text, row.pair.as_deref(), context)
                .with_context(|| format!("{name}, line {line}"))?;
            let is_cut = text.cut > 0;
            let example = Example::classified(text, class);
            // Files may be sorted by label: what is taken is spread over all of it.
            let is_taken = most >= total || (i + 1) * most / total > i * most / total;
            match is_taken {
                true => {
                    examples.push(example);
                    cut += usize::from(is_cut);
                }
                false => rest.push(example),
            }
        }
        Ok(ExampleSet { examples, rest, unit: Unit::Example, label: name, cut, context })
    }
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| anybit::Error::io(what, path, error).into())
}
