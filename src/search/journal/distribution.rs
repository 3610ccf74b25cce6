//! What a parameter could have been.

use super::record::parse_python;
use serde_json::value::RawValue;
use serde_json::{Number, Value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The range of a parameter. Only as much of it is understood as replaying needs; the text has the rest.
#[derive(Debug)]
pub struct Distribution {
    text: String,
    kind: String,
    log: bool,
    choices: Option<Vec<Value>>,
}

/// One parameter of a trial.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: Arc<str>,
    /// Its value as Optuna stores it: the number itself, or the index of the choice.
    pub internal: f64,
    /// What it was chosen from; trials share it.
    pub distribution: Arc<Distribution>,
}

impl Param {
    /// The index of the choice; `None` where this is no categorical parameter.
    pub fn index(&self) -> Option<usize> {
        let count = self.distribution.choices()?.len();
        let index = self.internal as usize; // towards zero, as Optuna does
        (self.internal >= 0.0 && index < count).then_some(index)
    }

    /// The value that the objective saw; the number itself for distributions of other kinds than Optuna's.
    pub fn value(&self) -> Value {
        if let Some(choices) = self.distribution.choices() {
            return self.index().map_or(Value::Null, |index| choices[index].clone());
        }
        if self.distribution.kind.starts_with("Int") {
            return Value::from(self.internal as i64);
        }
        let special = if self.internal.is_nan() {
            "NaN"
        } else if self.internal > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        Number::from_f64(self.internal).map_or_else(|| Value::from(special), Value::Number)
    }
}

impl Distribution {
    /// Of the JSON text of a distribution. One that cannot be understood is kept: it is of another study, or newer.
    fn new(text: String) -> Self {
        let value = parse_python(&text).unwrap_or(Value::Null);
        let (kind, attributes) = match value.get("name").and_then(Value::as_str) {
            Some(name) => (name, value.get("attributes").unwrap_or(&Value::Null)),
            // The short form, which says the same in one object.
            None => match value.get("type").and_then(Value::as_str) {
                Some("categorical") => ("CategoricalDistribution", &value),
                Some("float") => ("FloatDistribution", &value),
                Some("int") => ("IntDistribution", &value),
                other => (other.unwrap_or_default(), &value),
            },
        };
        let choices = attributes.get("choices").and_then(Value::as_array);
        Self {
            choices: choices.filter(|_| kind == "CategoricalDistribution").cloned(),
            log: attributes.get("log").and_then(Value::as_bool).unwrap_or(false),
            kind: kind.to_owned(),
            text,
        }
    }

    /// Optuna's name of its class, e.g. `CategoricalDistribution`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// All of it, as JSON.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The choices of a categorical distribution.
    pub fn choices(&self) -> Option<&[Value]> {
        self.choices.as_deref()
    }

    /// Whether Optuna lets one parameter have both in one study: bounds may move, kinds and choices may not.
    pub(super) fn is_compatible(&self, other: &Self) -> bool {
        let same_choices = match (&self.choices, &other.choices) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b)),
            (None, None) => true,
            _ => false,
        };
        self.kind == other.kind && self.log == other.log && same_choices
    }
}

/// Equality of Python, where `True == 1 == 1.0`.
fn is_equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        value => value.as_f64(),
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The JSON text of a categorical distribution over `choices`, spaced as Python does.
pub(super) fn categorical(choices: &[String]) -> String {
    let choices: Vec<String> =
        choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
    format!(r#"{{"name": "CategoricalDistribution", "attributes": {{"choices": [{}]}}}}"#, choices.join(", "))
}

/// Names and distributions that were seen, each once: a study repeats the same few in thousands of trials.
#[derive(Debug, Default)]
pub(super) struct Interner {
    names: HashSet<Arc<str>>,
    /// By the text in the file, so that it is unescaped and parsed once.
    distributions: HashMap<Box<str>, Arc<Distribution>>,
}

impl Interner {
    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }

    pub(super) fn distribution(&mut self, raw: &RawValue) -> Arc<Distribution> {
        if let Some(known) = self.distributions.get(raw.get()) {
            return known.clone();
        }
        let text = serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
        let new = Arc::new(Distribution::new(text));
        self.distributions.insert(raw.get().into(), new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(text: &str) -> Distribution {
        Distribution::new(text.to_owned())
    }

    #[test]
    fn compatibility_is_optunas() {
        let float = |attributes: &str| {
            distribution(&format!(r#"{{"name": "FloatDistribution", "attributes": {attributes}}}"#))
        };
        let linear = float(r#"{"step": null, "low": 0.0, "high": 1.0, "log": false}"#);
        assert!(linear.is_compatible(&float(r#"{"step": 0.5, "low": -5, "high": 2.0, "log": false}"#)));
        assert!(linear.is_compatible(&distribution(r#"{"type": "float", "low": 0, "high": 1}"#)));
        assert!(!linear.is_compatible(&float(r#"{"step": null, "low": 1e-5, "high": 1.0, "log": true}"#)));
        assert!(!linear.is_compatible(&distribution(r#"{"type": "int", "low": 0, "high": 1}"#)));
        let choices = |list: &str| distribution(&format!(r#"{{"type": "categorical", "choices": {list}}}"#));
        assert!(choices("[1, true, NaN, \"a\"]").is_compatible(&choices("[true, 1.0, NaN, \"a\"]")));
        for other in ["[1, 2]", "[1, \"2\", 3]", "[\"2\", 1]", "[null, \"2\"]"] {
            assert!(!choices("[1, \"2\"]").is_compatible(&choices(other)), "{other}");
        }
        for odd in ["", "[]", "3", "{}", r#"{"name": 3}"#, r#"{"name": "Newest", "attributes": 3}"#] {
            assert_eq!(distribution(odd).text(), odd);
            assert!(!distribution(odd).is_compatible(&linear));
        }
    }

    #[test]
    fn our_text_reads_back() {
        let choices: Vec<String> = ["int4(group=32)", "a \"b\" \\ é"].map(String::from).to_vec();
        let text = categorical(&choices);
        assert!(text.starts_with(
            r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["int4(group=32)", "#
        ));
        assert_eq!(distribution(&text).choices().unwrap(), choices);
    }
}
