//! `search`, `evaluate` and `sweep` as a user runs them; they need an adapter, and Python with Optuna.

#[path = "../support/program.rs"]
mod program;

mod bad_input;
mod evaluate;
mod kill;
mod optuna;
mod outputs;

use std::path::Path;

use anybit::search::TrialState;
use anybit::search::journal::Journal;
use program::Place;
use serde_json::Value;

/// A small search: one window of 32 tokens.
const SMALL: [&str; 11] = [
    "search",
    "--windows",
    "1",
    "--context",
    "32",
    "--space",
    "int2,int4,int8",
    "--batch",
    "4",
    "--cache",
    "cache",
];

fn line<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().chain(more).copied().collect()
}

/// The run fails with exit code 2 and one error that holds all of `wanted`, and leaves nothing behind.
fn refused(place: &Place, line: &[&str], wanted: &[&str]) {
    let files = || {
        let mut names: Vec<_> = place.0.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    let output = place.run(line);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line:?}: {error}");
    assert_eq!(error.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{line:?}: {error}");
    assert!(output.stdout.is_empty() && !error.contains("panicked"), "{line:?}: {error}");
    for wanted in wanted {
        assert!(error.contains(wanted), "{line:?}: {error:?} lacks {wanted:?}");
    }
    assert_eq!(files(), before, "{line:?}");
}

/// What a study adds up to, without times and workers.
fn state(journal: &Path, study: &str) -> Vec<(usize, TrialState, Vec<Option<usize>>, Vec<u64>, String)> {
    let journal = Journal::open(journal, Some(study)).unwrap();
    let trial = |t: &anybit::search::journal::TrialRecord| {
        let values = t.values.clone().unwrap_or_default();
        (
            t.number,
            t.state,
            t.params.iter().map(anybit::search::journal::Param::index).collect(),
            values.into_iter().map(f64::to_bits).collect(),
            Value::Object(t.user_attrs.clone()).to_string(),
        )
    };
    journal.study().trials.iter().map(trial).collect()
}

fn read_json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(place.path(name)).unwrap()).unwrap()
}
