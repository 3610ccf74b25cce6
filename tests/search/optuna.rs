//! The real Optuna reads what a search writes, and drives the engine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::line;
use super::program::{Place, ROOT};

fn python() -> PathBuf {
    let local = if cfg!(windows) { "target/python/Scripts/python.exe" } else { "target/python/bin/python" };
    let interpreter =
        std::env::var_os("ANYBIT_PYTHON").map_or_else(|| Path::new(ROOT).join(local), PathBuf::from);
    let works = Command::new(&interpreter).args(["-c", "import optuna"]).stderr(Stdio::null()).status();
    assert!(
        works.is_ok_and(|status| status.success()),
        "{} is no Python with Optuna: run ./test.sh, which installs it, or set ANYBIT_PYTHON",
        interpreter.display()
    );
    interpreter
}

const LOAD: &str = r#"
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(sys.argv[1]))
study = optuna.load_study(study_name=sys.argv[2], storage=storage)
one = len(study.directions) == 1
best = [study.best_trial] if one else study.best_trials
print(json.dumps({
    "names": study.metric_names,
    "states": [t.state.name for t in study.trials],
    "best": [{"number": t.number, "values": t.values, "params": t.params, "attrs": t.user_attrs} for t in best],
}))
"#;

fn load(place: &Place, journal: &str, study: &str) -> Value {
    let output = Command::new(python())
        .args(["-c", LOAD])
        .arg(place.path(journal))
        .arg(study)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn optuna_sees_the_same_trials_and_the_same_best_one() {
    let place = Place::new();
    let report = place.ok(&line(&[
        "--trials",
        "24",
        "--out",
        "one",
        "--max-bytes",
        "1.5MB",
        "--sampler",
        "random",
        "--json",
    ]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let seen = load(&place, "one/journal.log", "anybit");
    assert_eq!(seen["states"].as_array().unwrap().len(), 24);
    assert_eq!(seen["names"], serde_json::json!(["kl"]));
    let best = &seen["best"][0];
    assert_eq!(best["number"], report["best"]["trial"]);
    assert_eq!(best["values"], report["best"]["values"]);
    assert_eq!(best["attrs"]["bytes"], report["best"]["bytes"]);
    assert!(best["attrs"]["bytes"].as_u64().unwrap() <= 1_500_000);
    // Its parameters are the specs of best.json.
    let qconfig = super::read_json(&place, "one/best.json");
    for (layer, spec) in best["params"].as_object().unwrap() {
        assert_eq!(qconfig[layer], *spec, "{layer}");
    }

    let report = place.ok(&line(&["--trials", "24", "--out", "two", "--sampler", "nsga2", "--json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let seen = load(&place, "two/journal.log", "anybit");
    assert_eq!(seen["names"], serde_json::json!(["kl", "bytes"]));
    let numbers = |list: &Value, key: &str| {
        let mut numbers: Vec<u64> =
            list.as_array().unwrap().iter().map(|t| t[key].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(&seen["best"], "number"), numbers(&report["front"], "trial"));
}

#[test]
fn the_example_drives_the_engine() {
    let script = Path::new(ROOT).join("examples/optuna_search.py");
    let output = Command::new(python())
        .arg(script)
        .args([env!("CARGO_BIN_EXE_anybit"), "6", "--windows", "1", "--context", "16", "--no-cache"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.lines().count() >= 1 && text.lines().all(|line| line.contains(" MB  KL 0.")), "{text}");
}
