//! Typed access to the metadata of a GGUF file, which remembers what was read.

use super::header::Value;
use crate::error::{Result, invalid};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// The metadata; `label` names the file in messages.
pub(super) struct Meta<'a> {
    entries: &'a HashMap<String, Value>,
    label: &'a str,
    read: RefCell<HashSet<String>>,
}

impl<'a> Meta<'a> {
    pub(super) fn new(entries: &'a HashMap<String, Value>, label: &'a str) -> Self {
        Self { entries, label, read: RefCell::default() }
    }

    pub(super) fn label(&self) -> &'a str {
        self.label
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.entries.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(value) => invalid!("{}: `{key}` is {value}; want a text", self.label),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(value) => invalid!("{}: `{key}` is {value}; want true or false", self.label),
        }
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() => Ok(Some(*value)),
            Some(value) => invalid!("{}: `{key}` is {value}; want a finite number", self.label),
        }
    }

    /// A whole number, or a list with one for every layer if they are all the same.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>> {
        let whole = |value: &Value| match value {
            Value::Unsigned(value) => Some(*value),
            Value::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        };
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => match items.first().and_then(whole) {
                Some(first) if items.iter().all(|item| whole(item) == Some(first)) => Ok(Some(first)),
                _ => {
                    invalid!("{}: `{key}` differs between layers, which is not supported", self.label)
                }
            },
            Some(value) => match whole(value) {
                Some(value) => Ok(Some(value)),
                None => invalid!("{}: `{key}` is {value}; want a whole number", self.label),
            },
        }
    }

    pub(super) fn required_number(&self, key: &str) -> Result<u64> {
        match self.number(key)? {
            Some(value) => Ok(value),
            None => invalid!("{}: the metadata key `{key}` is missing", self.label),
        }
    }

    pub(super) fn required_float(&self, key: &str) -> Result<f64> {
        match self.float(key)? {
            Some(value) => Ok(value),
            None => invalid!("{}: the metadata key `{key}` is missing", self.label),
        }
    }

    /// A token id; the largest u32 stands for none.
    pub(super) fn token(&self, key: &str) -> Result<Option<u32>> {
        match self.number(key)? {
            None => Ok(None),
            Some(id) if id == u64::from(u32::MAX) => Ok(None),
            Some(id) => match u32::try_from(id) {
                Ok(id) => Ok(Some(id)),
                Err(_) => invalid!("{}: `{key}` is {id}; want a token id", self.label),
            },
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<&'a [Value]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(value) => invalid!("{}: `{key}` is {value}; want a list", self.label),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        let text = |item: &'a Value| match item {
            Value::Text(text) => Ok(text.as_str()),
            other => invalid!("{}: `{key}` holds {other}; want texts", self.label),
        };
        items.iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// Refuses keys that begin with `prefix` and that nobody has read: they may change the results.
    pub(super) fn refuse_unread(&self, prefix: &str) -> Result<()> {
        let read = self.read.borrow();
        let mut unread: Vec<&String> =
            self.entries.keys().filter(|key| key.starts_with(prefix) && !read.contains(*key)).collect();
        unread.sort();
        match unread.first() {
            None => Ok(()),
            Some(key) => invalid!(
                "{}: the metadata key `{key}` ({}) is not understood and may change the results",
                self.label,
                self.entries[*key]
            ),
        }
    }
}
