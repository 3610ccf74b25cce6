//! The study journal against real Optuna, damaged files, and processes that die.
//!
//! Optuna is a Python package; `./test.sh` installs it into `target/python`.

mod children;
mod damage;
mod optuna;
mod processes;
mod usage;

use anybit::search::journal::{Attrs, Axis, Finished, Journal, NewTrial, Outcome, TrialRecord};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// No trials.
const NONE: [usize; 0] = [];

/// A folder that goes away, and the path of a journal in it that does not exist.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.journal");
    (folder, path)
}

fn attrs(value: Value) -> Attrs {
    value.as_object().unwrap().clone()
}

fn axes(count: usize) -> Vec<Axis> {
    let choices = ["int4", "fp8", "f32"].map(String::from).to_vec();
    (0..count).map(|i| Axis { name: format!("layer {i}"), choices: choices.clone() }).collect()
}

fn new_trials(axes: &[Axis], count: usize) -> Vec<NewTrial> {
    let point = |i: usize| (0..axes.len()).map(|j| (i + j) % axes[j].choices.len()).collect();
    (0..count).map(|i| NewTrial { point: point(i), ..NewTrial::default() }).collect()
}

fn complete(number: usize, values: &[f64]) -> Finished {
    let user_attrs = attrs(json!({ "number": number, "text": "é \" \\ \n" }));
    Finished { number, outcome: Outcome::Complete(values.to_vec()), user_attrs, system_attrs: Attrs::new() }
}

/// A journal with one study `s` of two axes and `count` finished trials.
fn with_trials(path: &Path, count: usize) -> Journal {
    let mut journal = Journal::create(path, "s", 1, &attrs(json!({ "model": "m" }))).unwrap();
    let axes = axes(2);
    for i in 0..count {
        let numbers = journal.begin(&axes, &new_trials(&axes, 1)).unwrap();
        assert_eq!(numbers, [i]);
        journal.finish(&[complete(i, &[i as f64 / 7.0])]).unwrap();
    }
    journal
}

/// Python with Optuna.
fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let local = if cfg!(windows) { "target/python/Scripts/python.exe" } else { "target/python/bin/python" };
    let interpreter = std::env::var_os("ANYBIT_PYTHON").map_or_else(|| root.join(local), PathBuf::from);
    let works = Command::new(&interpreter).args(["-c", "import optuna"]).stderr(Stdio::null()).status();
    assert!(
        works.is_ok_and(|status| status.success()),
        "{} is no Python with Optuna: run ./test.sh, which installs it, or set ANYBIT_PYTHON",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command
        .arg(root.join("tests/journal").join(script))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONWARNINGS", "ignore");
    command
}

/// Runs a command to its end and returns what it printed.
fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Everything of a trial in comparable form, the one of `dump.py`.
fn trial_json(trial: &TrialRecord) -> Value {
    let time = |time: Option<std::time::SystemTime>| {
        time.map(|time| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64)
    };
    let float = |value: f64| match value {
        value if value.is_finite() => json!(value),
        value if value.is_nan() => json!("NaN"),
        value => json!(if value > 0.0 { "Infinity" } else { "-Infinity" }),
    };
    json!({
        "number": trial.number,
        "state": trial.state as i64,
        "params": trial.params.iter().map(|p| json!([&*p.name, p.value()])).collect::<Vec<_>>(),
        "kinds": trial.params.iter().map(|p| p.distribution.kind()).collect::<Vec<_>>(),
        "values": trial.values.as_ref().map(|values| values.iter().copied().map(float).collect::<Vec<_>>()),
        "intermediate_values":
            trial.intermediate_values.iter().map(|&(step, v)| json!([step, float(v)])).collect::<Vec<_>>(),
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "datetime_start": time(trial.datetime_start),
        "datetime_complete": time(trial.datetime_complete),
    })
}

/// All studies of a journal in the form of `dump.py`.
fn studies_json(journal: &Journal) -> Vec<Value> {
    let study = |study: &anybit::search::journal::Study| {
        json!({
            "name": study.name,
            "directions": study.directions.iter().map(|&d| d as i64).collect::<Vec<_>>(),
            "user_attrs": study.user_attrs,
            "system_attrs": study.system_attrs,
            "trials": study.trials.iter().map(trial_json).collect::<Vec<_>>(),
        })
    };
    journal.studies().map(study).collect()
}

/// What Optuna makes of a journal, less its best trials, and those.
fn optuna_json(path: &Path) -> (Vec<Value>, Vec<Vec<u64>>) {
    let mut studies: Vec<Value> = serde_json::from_str(&output(python("dump.py").arg(path))).unwrap();
    let best = studies.iter_mut().map(|study| study.as_object_mut().unwrap().shift_remove("best").unwrap());
    let best = best.map(|best| serde_json::from_value(best).unwrap()).collect();
    (studies, best)
}

/// The value with all numbers as floats: Python does not tell `1` from `1.0` where either may stand.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(list) => list.iter().map(floats).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), floats(value))).collect(),
        other => other.clone(),
    }
}

/// Asserts that anybit and Optuna read the same from a journal, and returns Optuna's best trials of each study.
fn assert_as_optuna(journal: &Journal) -> Vec<Vec<u64>> {
    let (theirs, best) = optuna_json(journal.path());
    let ours = studies_json(journal);
    let names = |studies: &[Value]| studies.iter().map(|s| s["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for (ours, theirs) in
            ours["trials"].as_array().unwrap().iter().zip(theirs["trials"].as_array().unwrap())
        {
            assert_eq!(floats(ours), floats(theirs), "a trial: anybit (left), Optuna (right)");
        }
        assert_eq!(floats(ours), floats(theirs), "a study: anybit (left), Optuna (right)");
    }
    best
}

/// The lines of a file; each of them must be a JSON object, as Python writes it.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    text.lines().map(String::from).collect()
}
