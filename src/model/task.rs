//! What a model is for, and what may be asked of it.

use super::config::Config;
use super::example::TextTokens;
use super::{Model, bert};
use crate::error::{Result, invalid};
use crate::format::{Format, Spec};
use crate::graph::Role;
use serde_json::Value;

/// What a model's output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Logits of the next token at every position.
    Generation,
    /// Logits of the classes of a text, at its first position.
    Classification,
    /// Logits of the token that stands at a position.
    MaskedText,
    /// A vector for every token of a text.
    Encoding,
    /// A row of numbers for a row of numbers.
    Rows,
}

impl Task {
    /// What a model with this task is, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generation => "a language model",
            Self::Classification => "a classifier",
            Self::MaskedText => "a masked language model",
            Self::Encoding => "a text encoder without a head",
            Self::Rows => "a network from rows of numbers to rows of numbers",
        }
    }

    /// The verb that runs it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Generation => "generate",
            Self::Classification => "classify",
            Self::MaskedText | Self::Encoding => "embed",
            Self::Rows => "run",
        }
    }
}

/// What is wanted of a text encoder instead of what its head makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The last hidden states: a row per token.
    Hidden,
    /// `tanh(W h + b)` of the first hidden state, as the model's pooler makes it.
    Pooler,
}

impl Model {
    /// What its output means.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Names of its classes, in the order of the logits; empty unless it is a classifier.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The same checkpoint ending in its hidden states or its pooler, whatever head it has.
    ///
    /// # Errors
    /// When it is no text encoder, or has no pooler and that is wanted.
    pub fn with_encoding(mut self, encoding: Encoding) -> Result<Self> {
        if !matches!(self.task, Task::Classification | Task::MaskedText | Task::Encoding) {
            invalid!("model `{}` is {}; want a text encoder such as BERT", self.name, self.task.name());
        }
        let label = format!("{}: config.json", self.reader.file().label());
        let config = Config::parse(self.texts.config.as_bytes(), &label)?;
        self.graph = bert::graph(&config, &self.reader, self.task, Some(encoding))?;
        (self.task, self.labels) = (Task::Encoding, Vec::new());
        Ok(self)
    }

    /// The tokens of a text or a pair of texts, see [`super::Tokenizer::encode_text`]; at most `most`.
    ///
    /// # Errors
    /// When there is no tokenizer, it yields ids the model does not know, or the model has no second segment for a pair.
    pub fn encode_text(&self, text: &str, pair: Option<&str>, most: usize) -> Result<TextTokens> {
        let Some(tokenizer) = &self.tokenizer else {
            invalid!("model `{}` has no tokenizer, so it cannot read text", self.name);
        };
        let tokens = tokenizer.encode_text(text, pair, most)?;
        self.check_ids(&tokens.ids)?;
        let segments = self.graph.segment_count().unwrap_or(1) as u32;
        if let Some(segment) = tokens.segments.iter().find(|&&segment| segment >= segments) {
            invalid!(
                "model `{}` knows {segments} segments, the tokenizer gives number {segment}; this model reads no pairs",
                self.name
            );
        }
        Ok(tokens)
    }

    /// Checks that the model knows all of `ids`.
    ///
    /// # Errors
    /// When the tokenizer belongs to another model.
    pub fn check_ids<'a>(&self, ids: impl IntoIterator<Item = &'a u32>) -> Result<()> {
        let known = self.graph.token_count();
        if let Some(id) = ids.into_iter().find(|&&id| id as usize >= known) {
            invalid!(
                "model `{}`: the tokenizer gives token id {id}, the model knows {known} ids; tokenizer.json belongs to \
                 another model",
                self.name
            );
        }
        Ok(())
    }

    /// The spec its block linears get where nobody says: 4 bits in groups of 32, the best loss per bit of the formats
    /// with 4 to 5 bits on the default model. A BigNet is quantized to base 11 as it is loaded, as the program it comes
    /// from does.
    pub fn default_spec(&self) -> Spec {
        if self.task != Task::Rows {
            return Spec::from(Format::Int { bits: 4, scope: crate::format::Scope::Group(32) });
        }
        let linears = || self.graph.weights.iter().filter(|weight| weight.role == Role::Linear);
        let fits = |group: &u32| linears().all(|weight| weight.cols.is_multiple_of(*group as usize));
        let group = [256, 128, 64].into_iter().find(fits).unwrap_or(32);
        Spec::from(Format::Base11Nine32 { group })
    }
}

/// The names of `count` classes by the `id2label` of a config; `LABEL_0` … where it has none.
pub(super) fn labels(config: &Config, count: usize) -> Result<Vec<String>> {
    let mut labels: Vec<String> = (0..count).map(|class| format!("LABEL_{class}")).collect();
    let Some(value) = config.get("id2label") else { return Ok(labels) };
    let Value::Object(names) = value else {
        invalid!("{}: `id2label` is {value}; want an object from class to name", config.label());
    };
    if names.len() != count {
        invalid!(
            "{}: `id2label` names {} classes, the classifier of the checkpoint has {count}",
            config.label(),
            names.len()
        );
    }
    for (key, name) in names {
        let class = key.parse::<usize>().ok().filter(|&class| class < count);
        match (class, name.as_str()) {
            (Some(class), Some(name)) => name.clone_into(&mut labels[class]),
            _ => invalid!(
                "{}: `id2label` has the entry {key}: {name}; want class numbers below {count} and names",
                config.label()
            ),
        }
    }
    Ok(labels)
}
