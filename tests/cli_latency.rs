//! `eval --latency`: what is printed follows from what is measured; no time is judged.

#[path = "support/program.rs"]
mod program;

use anybit::model::TensorFile;
use program::{Place, ROOT};
use serde_json::Value;
use std::path::Path;

fn folder() -> String {
    format!("{ROOT}/tests/data/stories260k")
}

/// JSON over several lines.
fn json(place: &Place, line: &[&str]) -> Value {
    serde_json::from_str(&place.ok(line)).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Mean, median, smallest, largest and standard deviation of three numbers, written down for three.
fn of_three(values: &[f64]) -> [f64; 5] {
    let mut v: [f64; 3] = values.try_into().unwrap();
    v.sort_by(f64::total_cmp);
    let mean = (v[0] + v[1] + v[2]) / 3.0;
    let squares = (v[0] - mean).powi(2) + (v[1] - mean).powi(2) + (v[2] - mean).powi(2);
    [mean, v[1], v[0], v[2], (squares / 2.0).sqrt()]
}

fn assert_summary(summary: &Value, values: &[f64]) {
    let names = ["mean", "median", "min", "max", "standard_deviation"];
    for (name, want) in names.into_iter().zip(of_three(values)) {
        let got = summary[name].as_f64().unwrap();
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1e-6), "{name}: {got} {want}");
    }
}

#[test]
fn statistics_sizes_and_texts_are_those_of_the_runs() {
    let place = Place::new();
    std::fs::write(place.path("prompts"), "Once upon a time\n\nLily and Tom went\n").unwrap();
    let line = [
        "eval",
        "--latency",
        "--model",
        &folder(),
        "--prompts",
        "prompts",
        "--runs",
        "3",
        "--max-tokens",
        "9",
        "--json",
    ];
    let report = json(&place, &line);
    let file = TensorFile::open(&Path::new(&folder()).join("model.safetensors")).unwrap();
    // The head is the embedding, stored once.
    let parameters: usize = file.tensors().iter().map(|tensor| tensor.elements()).sum();
    assert_eq!(report["parameters"], parameters);
    assert_eq!(report["prompts"], serde_json::json!(["Once upon a time", "Lily and Tom went"]));
    let formats = report["formats"].as_array().unwrap();
    let names: Vec<_> = formats.iter().map(|format| format["format"].as_str().unwrap()).collect();
    assert_eq!(names, ["f32", "f16", "int8", "int4(group=32)"]);
    for (format, bits) in formats.iter().zip([32, 16, 8, 4]) {
        let name = format["format"].as_str().unwrap();
        let runs: Vec<Vec<f64>> = format["runs"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        let seconds: Vec<f64> = runs.iter().map(|run| run.iter().sum()).collect();
        let texts = format["texts"].as_array().unwrap();
        let tokens: usize = texts.iter().map(|text| text["ids"].as_array().unwrap().len()).sum();
        assert_eq!(format["tokens"], tokens);
        assert_summary(&format["seconds"], &seconds);
        let speeds: Vec<f64> = seconds.iter().map(|seconds| tokens as f64 / seconds).collect();
        assert_summary(&format["tokens_per_second"], &speeds);
        assert_eq!(format["estimated_bytes"], parameters * bits / 8, "{name}");
        let inspected = json(&place, &["inspect", "--model", &folder(), "--format", name, "--json"]);
        assert_eq!(format["bytes"], inspected["bytes"], "{name}");
        let generated = json(
            &place,
            &[
                "generate",
                "--model",
                &folder(),
                "--format",
                name,
                "--temperature",
                "0",
                "--max-tokens",
                "9",
                "--prompt",
                "Once upon a time",
                "--json",
            ],
        );
        let (got, want) = (&texts[0], &generated["texts"][0]);
        assert_eq!((&got["ids"], &got["text"]), (&want["ids"], &want["text"]), "{name}");
        let same = |i: usize| {
            let ids = |format: &Value| format["texts"][i]["ids"].as_array().unwrap().clone();
            ids(format).iter().zip(&ids(&formats[0])).take_while(|(a, b)| a == b).count()
        };
        assert_eq!(texts[0]["tokens_as_first_format"], same(0));
        assert_eq!(texts[1]["tokens_as_first_format"], same(1));
    }
}

#[test]
fn a_table_names_every_format_and_the_texts_follow() {
    let place = Place::new();
    let line = ["eval", "--latency", "--formats", "f32, base11", "--runs", "1", "--max-tokens", "3"];
    let text = place.ok(&[&line[..], &["--backend", "reference", "--model", &folder()]].concat());
    for wanted in
        ["mean s", "median", "tokens/s", "estimated", "packed", "--- 1 of 2 ---", "[f32] ", "[base11"]
    {
        assert!(text.contains(wanted), "{wanted} is missing in {text}");
    }
}

#[test]
fn what_cannot_be_measured_is_said() {
    let place = Place::new();
    std::fs::write(place.path("empty"), "\n \n").unwrap();
    std::fs::write(place.path("latin"), b"caf\xe9\n").unwrap();
    std::fs::write(place.path("long"), "word ".repeat(3000)).unwrap();
    let fails = |line: &[&str], wanted: &[&str]| {
        place.fails(&[&["eval", "--latency", "--model", &folder()], line].concat(), wanted);
    };
    fails(&["--prompts", "empty"], &["empty has no prompts", "one per line"]);
    fails(&["--prompts", "latin"], &["latin is not UTF-8"]);
    fails(&["--prompts", "gone"], &["gone", "No such file"]);
    fails(&["--prompts", "long"], &["prompt 1 has", "context has 512"]);
    fails(&["--formats", "f32,int9"], &["int9"]);
    fails(&["--formats", "f32,f16,f32"], &["f32 twice"]);
    fails(&["--formats", ""], &["error"]);
    let sorter = format!("{ROOT}/tests/data/sort-gpt2");
    place.fails(&["eval", "--latency", "--model", &sorter], &["no tokenizer"]);
    let classifier = format!("{ROOT}/tests/data/families/bert-classify");
    place.fails(&["eval", "--latency", "--model", &classifier], &["classifier"]);
    place.ok(&["quantize", "--model", &folder(), "--format", "int4(group=32)", "--output", "packed"]);
    place.fails(&["eval", "--latency", "--model", "packed"], &["quantized already", "original"]);
    for line in [
        &["eval", "--runs", "3"][..],
        &["eval", "--latency", "--runs", "0"],
        &["eval", "--latency", "--text", "empty"],
        &["eval", "--latency", "--format", "int4"],
    ] {
        place.fails(line, &[line[line.len() - 2]]);
    }
}
