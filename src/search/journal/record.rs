//! The lines of a journal: JSON as Python reads and writes it.

use crate::error::{self, Error};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// Nothing, or what is wrong with a line.
pub(super) type Checked = Result<(), String>;

/// What a record does; the numbers are Optuna's.
pub(super) mod op {
    pub(crate) const CREATE_STUDY: i64 = 0;
    pub(crate) const DELETE_STUDY: i64 = 1;
    pub(crate) const SET_STUDY_USER_ATTR: i64 = 2;
    pub(crate) const SET_STUDY_SYSTEM_ATTR: i64 = 3;
    pub(crate) const CREATE_TRIAL: i64 = 4;
    pub(crate) const SET_TRIAL_PARAM: i64 = 5;
    pub(crate) const SET_TRIAL_STATE_VALUES: i64 = 6;
    pub(crate) const SET_TRIAL_INTERMEDIATE_VALUE: i64 = 7;
    pub(crate) const SET_TRIAL_USER_ATTR: i64 = 8;
    pub(crate) const SET_TRIAL_SYSTEM_ATTR: i64 = 9;
    /// Of another program that shares the format; Optuna passes over it.
    pub(crate) const DISCARD_TRIALS: i64 = 10;
}

/// Any record. Which fields there are depends on the operation; distributions stay text, because most are alike.
#[derive(Debug, Deserialize)]
pub(super) struct Record<'a> {
    pub(super) op_code: i64,
    pub(super) study_id: Option<i64>,
    pub(super) study_name: Option<String>,
    pub(super) directions: Option<Vec<i64>>,
    pub(super) user_attr: Option<Map<String, Value>>,
    pub(super) system_attr: Option<Map<String, Value>>,
    pub(super) trial_id: Option<i64>,
    pub(super) state: Option<i64>,
    pub(super) value: Option<Float>,
    pub(super) values: Option<Vec<Float>>,
    #[serde(borrow)]
    pub(super) datetime_start: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) datetime_complete: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) distributions: Option<Pairs<'a, &'a RawValue>>,
    #[serde(borrow)]
    pub(super) params: Option<Pairs<'a, Float>>,
    pub(super) user_attrs: Option<Map<String, Value>>,
    pub(super) system_attrs: Option<Map<String, Value>>,
    #[serde(borrow)]
    pub(super) intermediate_values: Option<Pairs<'a, Float>>,
    #[serde(borrow)]
    pub(super) param_name: Option<Cow<'a, str>>,
    pub(super) param_value_internal: Option<Float>,
    #[serde(borrow)]
    pub(super) distribution: Option<&'a RawValue>,
    pub(super) step: Option<i64>,
    pub(super) intermediate_value: Option<Float>,
}

/// The one field that every record has.
#[derive(Deserialize)]
struct Head {
    op_code: i64,
}

/// Calls `apply` with the record of `line`, or not at all where the operation is one to pass over.
///
/// # Errors
/// What is wrong with the line, and what `apply` returns.
pub(super) fn with_record(line: &[u8], apply: impl FnOnce(Record<'_>) -> Checked) -> Checked {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is not a JSON object".to_owned()); // a list would do for a structure
    }
    let strict;
    let mut line = line;
    let record = match serde_json::from_slice(line) {
        Err(error) => match without_python(line) {
            Some(changed) => {
                strict = changed;
                line = &strict;
                serde_json::from_slice(line)
            }
            None => Err(error),
        },
        record => record,
    };
    match record {
        Ok(record) => apply(record),
        Err(error) => match serde_json::from_slice::<Head>(line) {
            Ok(head) if head.op_code == op::DISCARD_TRIALS => Ok(()),
            Ok(head) if !(0..op::DISCARD_TRIALS).contains(&head.op_code) => Err(unknown(head.op_code)),
            _ => Err(reason(&error)),
        },
    }
}

/// Why an operation is refused that no version of the format had when this was written.
pub(super) fn unknown(op_code: i64) -> String {
    format!("operation {op_code} is unknown, want 0 to 10; it may be of a newer version of the format")
}

/// The message of an error in one line, without the line number that the parser sees.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    match error.column() {
        0 => what.to_owned(), // at the end
        column => format!("{what} (column {column})"),
    }
}

/// Parses JSON that Python may have written.
pub(super) fn parse_python(text: &str) -> Option<Value> {
    let strict = |text: &[u8]| serde_json::from_slice(text).ok();
    strict(text.as_bytes()).or_else(|| strict(&without_python(text.as_bytes())?))
}

/// The text with what Python adds to JSON replaced: `NaN`, `Infinity` and `-Infinity` become strings, halves of a
/// surrogate pair, which stand for undecodable bytes, become U+FFFD. `None` where there is nothing of that.
fn without_python(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let (mut rest, mut in_string, mut changed) = (text, false, false);
    while let Some(&byte) = rest.first() {
        let mut taken = 1;
        let mut replacement: Option<&[u8]> = None;
        if in_string && byte == b'\\' {
            taken = match (surrogate(rest), rest.get(6..).and_then(surrogate)) {
                (Some(Half::High), Some(Half::Low)) => 12,
                (Some(_), _) => {
                    replacement = Some(b"\\ufffd");
                    6
                }
                (None, _) => rest.len().min(2),
            };
        } else if byte == b'"' {
            in_string = !in_string;
        } else if !in_string {
            for (word, quoted) in [
                (&b"NaN"[..], &b"\"NaN\""[..]),
                (b"Infinity", b"\"Infinity\""),
                (b"-Infinity", b"\"-Infinity\""),
            ] {
                if rest.starts_with(word) {
                    (taken, replacement) = (word.len(), Some(quoted));
                }
            }
        }
        changed |= replacement.is_some();
        out.extend_from_slice(replacement.unwrap_or(&rest[..taken]));
        rest = &rest[taken..];
    }
    changed.then_some(out)
}

enum Half {
    High,
    Low,
}

/// Which half of a surrogate pair the escape at the beginning of `text` is.
fn surrogate(text: &[u8]) -> Option<Half> {
    let digits = std::str::from_utf8(text.strip_prefix(b"\\u")?.get(..4)?).ok()?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

/// A number of Python: also an infinity or NaN, which arrive as strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float(pub(super) f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;
        impl Visitor<'_> for AnyNumber {
            type Value = Float;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Float, E> {
                Ok(Float(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Float, E> {
                Ok(Float(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Float, E> {
                Ok(Float(value as f64))
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Float, E> {
                match value {
                    "NaN" => Ok(Float(f64::NAN)),
                    "Infinity" => Ok(Float(f64::INFINITY)),
                    "-Infinity" => Ok(Float(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_type(serde::de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}

/// The entries of an object in their order, names borrowed where they have no escapes.
#[derive(Debug)]
pub(super) struct Pairs<'a, T>(pub(super) Vec<(Cow<'a, str>, T)>);

/// A key that is borrowed where it can be; a bare `Cow` never is.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Pairs<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<'a, T>(std::marker::PhantomData<(&'a (), T)>);
        impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for Entries<'a, T> {
            type Value = Pairs<'a, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(Cow<'a, str>, T)> = Vec::new();
                while let Some(Key(name)) = map.next_key()? {
                    entries.push((name, map.next_value()?));
                }
                Ok(Pairs(entries))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

/// Lines to be appended together.
#[derive(Debug)]
pub(super) struct Batch {
    worker: String,
    bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn new(worker: &str) -> Self {
        Self { worker: worker.to_owned(), bytes: Vec::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds one record.
    ///
    /// # Errors
    /// When `fields` is not an object, which no caller does.
    pub(super) fn push(&mut self, op_code: i64, fields: &impl Serialize) -> error::Result<()> {
        #[derive(Serialize)]
        struct Line<'a, T> {
            op_code: i64,
            worker_id: &'a str,
            #[serde(flatten)]
            fields: &'a T,
        }
        let line = Line { op_code, worker_id: &self.worker, fields };
        serde_json::to_writer(&mut self.bytes, &line)
            .map_err(|error| Error::invalid(format!("cannot write a record: {error}")))?;
        self.bytes.push(b'\n');
        Ok(())
    }
}

/// What `CREATE_TRIAL` records of a trial that knows its parameters from the start.
#[derive(Serialize)]
pub(super) struct Template<'a> {
    pub(super) study_id: usize,
    pub(super) datetime_start: &'a str,
    pub(super) state: i64,
    pub(super) value: Option<f64>,
    pub(super) values: Option<&'a [f64]>,
    pub(super) distributions: &'a RawValue,
    #[serde(serialize_with = "as_map")]
    pub(super) params: Vec<(&'a str, usize)>,
    pub(super) user_attrs: &'a Map<String, Value>,
    pub(super) system_attrs: &'a Map<String, Value>,
    pub(super) intermediate_values: Map<String, Value>,
}

fn as_map<S: Serializer>(pairs: &[(&str, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

/// The time now, as Optuna writes it: UTC to the microsecond, with its offset.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_adds_is_replaced_outside_strings_only() {
        for (text, want) in [
            (
                r#"{"a":NaN,"b":[Infinity,-Infinity,1]}"#,
                Some(r#"{"a":"NaN","b":["Infinity","-Infinity",1]}"#),
            ),
            (r#"{"a":"NaN \" Infinity","b":NaN}"#, Some(r#"{"a":"NaN \" Infinity","b":"NaN"}"#)),
            (r#"{"a\\":NaN}"#, Some(r#"{"a\\":"NaN"}"#)),
            (r#"{"a":"NaN\\\" -Infinity"}"#, None),
            (r#""\ud83d\ude00 \\ud83d""#, None),
            (r#""\ud83d\ude00\udc80\ud83dx\ud83d""#, Some(r#""\ud83d\ude00\ufffd\ufffdx\ufffd""#)),
            (r#""\ud83d\n\"NaN""#, Some(r#""\ufffd\n\"NaN""#)),
            (r#""\"#, None),
            (r#""\ud8"#, None),
        ] {
            let got = without_python(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn times_are_those_of_python() {
        let text = now();
        assert_eq!(text.len(), "2026-01-02T03:04:05.000006+00:00".len(), "{text}");
        text.parse::<jiff::Timestamp>().unwrap();
    }
}
