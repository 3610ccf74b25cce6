//! Typed access to a `config.json` whose content nobody has checked.

use super::checkpoint::reject_other_formats;
use super::config_keys;
use crate::error::{Error, Result, invalid};
use crate::graph::Function;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashSet;

/// Largest size of any kind a config may state: token positions and columns stay exact in f32, and
/// products of two sizes cannot overflow.
const MAX_SIZE: u64 = 1 << 24;

/// A JSON object with a name for messages, which remembers what has been asked of it.
pub(crate) struct Config {
    label: String,
    entries: Map<String, Value>,
    read: RefCell<HashSet<String>>,
}

impl Config {
    /// Parses `text`; `label` names the file in messages.
    pub(crate) fn parse(text: &[u8], label: &str) -> Result<Self> {
        reject_other_formats(text, label)?;
        match serde_json::from_slice(text) {
            Ok(Value::Object(entries)) => {
                Ok(Self { label: label.to_owned(), entries, read: RefCell::default() })
            }
            Ok(_) => invalid!("{label}: want a JSON object"),
            Err(error) => Err(Error::Invalid(format!("{label} is not valid JSON: {error}"))),
        }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The value of `key`; an explicit null counts as absent, as in Hugging Face's configs.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.stated(key).filter(|value| !value.is_null())
    }

    /// The value of `key`, for keys of which null says something else than nothing.
    pub(crate) fn stated(&self, key: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.entries.get(key)
    }

    /// Refuses keys that nothing has read, unless they are known to leave the results alone.
    pub(crate) fn refuse_unread(&self) -> Result<()> {
        let read = self.read.borrow().clone();
        for (key, value) in &self.entries {
            if read.contains(key) || value.is_null() || config_keys::is_without_effect(key) {
                continue;
            }
            match config_keys::off(key) {
                Some(off) => {
                    let off: Value = serde_json::from_str(off).unwrap_or_default();
                    self.require_neutral(key, &off)?;
                }
                None => invalid!(
                    "{}: `{key}` is not understood (its value is {value}) and might change the results; if you know \
                     that this model computes the same without it, remove the key from config.json",
                    self.label
                ),
            }
        }
        Ok(())
    }

    /// A size, `1 ..= 2^24`.
    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        match self.optional_size(key)? {
            Some(size) => Ok(size),
            None => invalid!("{}: `{key}` is missing; want a positive integer", self.label),
        }
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            // Depth is bounded by the tensors in the file, which are looked up layer by layer.
            Some(size @ 1..=MAX_SIZE) => Ok(Some(size as usize)),
            _ => invalid!("{}: `{key}` is {value}; want an integer from 1 to {MAX_SIZE}", self.label),
        }
    }

    /// A list of as many entries as the model has layers.
    pub(crate) fn per_layer(&self, key: &str, layers: usize) -> Result<Option<&[Value]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() == layers => Ok(Some(list)),
            Some(Value::Array(list)) => {
                invalid!("{}: `{key}` has {} entries; want {layers}, one per layer", self.label, list.len())
            }
            Some(value) => {
                invalid!("{}: `{key}` is {value}; want a list with an entry per layer", self.label)
            }
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(value) => invalid!("{}: `{key}` is {value}; want true or false", self.label),
        }
    }

    /// A positive finite number.
    pub(crate) fn positive(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        positive(value).ok_or_else(|| {
            Error::Invalid(format!("{}: `{key}` is {value}; want a positive number", self.label))
        })
    }

    pub(crate) fn function(&self, key: &str, default: Function) -> Result<Function> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_str() {
            Some("relu") => Ok(Function::Relu),
            Some("silu" | "swish") => Ok(Function::Silu),
            Some("gelu") => Ok(Function::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Function::GeluTanh),
            Some("tanh") => Ok(Function::Tanh),
            _ => invalid!(
                "{}: activation `{key}` is {value}; supported are relu, silu, swish, gelu, gelu_new, gelu_pytorch_tanh, \
                 tanh",
                self.label
            ),
        }
    }

    /// Refuses a key whose effect on the results is not implemented, unless it is absent, null or `neutral`.
    pub(crate) fn require_neutral(&self, key: &str, neutral: &Value) -> Result<()> {
        match self.get(key) {
            // 1 and 1.0 are the same number, but not the same JSON value.
            Some(value) if value != neutral && value.as_f64().is_none_or(|x| Some(x) != neutral.as_f64()) => {
                invalid!(
                    "{}: `{key}` is {value}; this changes the results and is not supported (want {neutral} or nothing)",
                    self.label
                )
            }
            _ => Ok(()),
        }
    }

    /// One token id, or the ids of a list.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let ids = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.clone(),
            Some(value) => vec![value.clone()],
        };
        let id = |value: &Value| match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(id),
            None => invalid!("{}: `{key}` holds {value}; want token ids", self.label),
        };
        ids.iter().map(id).collect()
    }
}

/// The number in `value` if it is positive and finite.
pub(crate) fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
}
