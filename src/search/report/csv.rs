//! `trials.csv`: one row per trial.

use std::borrow::Cow;

use super::{Summary, state_name};

/// All trials as CSV (RFC 4180, LF at line ends): number, state, origin, `objective_…` values, what was measured, and
/// the spec of each dimension under its name. What was not measured is an empty field.
pub fn csv(summary: &Summary) -> String {
    const MEASURED: [&str; 8] =
        ["loss", "kl", "agreement", "accuracy", "bytes", "nominal_bytes", "bits_per_weight", "latency"];
    let mut text = String::new();
    let objectives = summary.objective.names();
    let head = ["number", "state", "origin"].map(str::to_owned).into_iter();
    let head = head.chain(objectives.iter().map(|name| format!("objective_{name}")));
    let head = head.chain(MEASURED.map(str::to_owned));
    row(&mut text, head.chain(summary.dimensions.iter().map(|d| d.name.clone())));
    for trial in &summary.trials {
        let mut cells =
            vec![trial.number.to_string(), state_name(trial.state).to_owned(), trial.origin.clone()];
        let value = |i: usize| trial.values.get(i).map_or_else(String::new, |value| real(*value));
        cells.extend((0..objectives.len()).map(value));
        match &trial.measurement {
            Some(m) => cells.extend([
                real(m.loss),
                real(m.kl),
                real(m.agreement),
                real(m.accuracy),
                m.bytes.to_string(),
                m.nominal_bytes.to_string(),
                real(m.bits_per_weight),
                m.latency.map_or_else(String::new, real),
            ]),
            None => cells.extend(MEASURED.map(|_| String::new())),
        }
        cells.extend((0..summary.dimensions.len()).map(|d| summary.spec(trial, d).to_owned()));
        row(&mut text, cells.into_iter());
    }
    text
}

/// The shortest text that is read back as the same number.
fn real(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

/// A field of a CSV file, quoted where it must be (RFC 4180).
pub fn csv_field(text: &str) -> Cow<'_, str> {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        false => text.into(),
    }
}

fn row(text: &mut String, cells: impl Iterator<Item = String>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            text.push(',');
        }
        *text += &csv_field(&cell);
    }
    text.push('\n');
}
