//! `anybit evaluate --stdin` and `anybit sweep`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::program::Place;
use super::refused;

fn answers(place: &Place, options: &[&str], lines: &str) -> Vec<Value> {
    let line: Vec<&str> =
        ["evaluate", "--stdin", "--windows", "2", "--no-cache"].iter().chain(options).copied().collect();
    let mut child = place
        .command(&line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_line_has_its_answer_and_wrong_ones_stop_nothing() {
    let place = Place::new();
    let lines = r#"{"*": "mxint8"}

{"id": [1, "a"], "qconfig": {"*": "qlinear(bits=4)", "model.layers.0.mlp.up_proj": "int8"}}
not json
[1]
{"*.nothing": "int4"}
{"qconfig": {"*": "int4"}, "more": 1}
{"id": 2, "qconfig": {"*": "q4_k"}}
{"id": 3, "qconfig": {"*": "int99"}}
{"*": "mxint8"}
{}
"#;
    let got = answers(&place, &["--latency"], lines);
    assert_eq!(got.len(), 10);
    assert_eq!(got[1]["id"], json!([1, "a"]));
    for (i, want) in
        [(2, "not JSON"), (3, "no JSON object"), (4, "matches none"), (5, "more"), (6, "256"), (7, "int99")]
    {
        let error = got[i]["error"].as_str().unwrap_or_else(|| panic!("{}", got[i]));
        assert!(error.contains(want), "{error}");
    }
    // The same again is the same, and the checkpoint as it is diverges by nothing.
    for key in ["loss", "kl", "bytes", "top1_agreement", "latency"] {
        assert_eq!(got[8][key], got[0][key], "{key}");
    }
    assert!(got[0]["latency"].as_f64().unwrap() > 0.0);
    assert_eq!(got[9]["kl"], json!(0.0));

    // `eval` agrees: the same kernels, one by one.
    for (answer, qconfig) in
        [(&got[0], json!({"*": "mxint8"})), (&got[1], json!({"*": 4, "model.layers.0.mlp.up_proj": "int8"}))]
    {
        std::fs::write(place.path("q.json"), qconfig.to_string()).unwrap();
        let text = place.ok(&["eval", "--qconfig", "q.json", "--windows", "2", "--json"]);
        let eval: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["bytes"], eval["bytes"]);
        for key in ["loss", "kl", "top1_agreement", "accuracy", "bits_per_weight"] {
            let (got, want) = (answer[key].as_f64().unwrap(), eval[key].as_f64().unwrap());
            assert!((got - want).abs() <= want.abs() * 1e-6, "{key}: {got} not {want}");
        }
    }
}

#[test]
fn an_engine_with_little_memory_evicts_and_answers_the_same() {
    let place = Place::new();
    let lines = "{\"*\": \"int8\"}\n{\"*\": \"mxint8\"}\n{\"*\": \"int8\"}\n";
    let (all, little) = (answers(&place, &[], lines), answers(&place, &["--device-memory", "3.5MB"], lines));
    for (a, b) in all.iter().zip(&little) {
        assert_eq!((&a["loss"], &a["kl"], &a["bytes"]), (&b["loss"], &b["kl"], &b["bytes"]));
    }
}

#[test]
fn a_sweep_is_a_table_a_csv_and_a_chart() {
    let place = Place::new();
    let text = place.ok(&[
        "sweep",
        "--formats",
        "int2..4,mxint8,q4_k|int8",
        "--windows",
        "1",
        "--no-cache",
        "--csv",
        "s.csv",
        "--svg",
        "s.svg",
        "--plot",
        "loss",
    ]);
    assert!(text.contains("int3") && text.contains("loss in f32"), "{text}");
    let csv = std::fs::read_to_string(place.path("s.csv")).unwrap();
    assert_eq!(csv.lines().count(), 6, "{csv}");
    let eval = place.ok(&["eval", "--format", "int3", "--windows", "1", "--json"]);
    let eval: Value = serde_json::from_str(&eval).unwrap();
    let row = csv.lines().find(|line| line.starts_with("int3,")).unwrap();
    let loss: f64 = row.split(',').nth(4).unwrap().parse().unwrap();
    assert!((loss - eval["loss"].as_f64().unwrap()).abs() < 1e-5);
    let svg = std::fs::read_to_string(place.path("s.svg")).unwrap();
    assert!(roxmltree::Document::parse(&svg).is_ok());
    let json =
        place.ok(&["sweep", "--formats", "int4", "--activation", "none,same", "--windows", "1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let formats: Vec<&str> =
        json["formats"].as_array().unwrap().iter().map(|row| row["format"].as_str().unwrap()).collect();
    assert_eq!(formats, ["int4", "qlinear(bits=4)"]);
    refused(&place, &["sweep", "--formats", "int99"], &["int99"]);
    refused(&place, &["sweep", "--formats", ""], &["empty entry"]);
    refused(
        &place,
        &["sweep", "--formats", "int4", "--windows", "1", "--csv", "no/such/folder.csv"],
        &["no/such"],
    );
}
