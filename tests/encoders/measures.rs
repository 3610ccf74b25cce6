//! Accuracy, loss and divergence on labelled texts: `eval`, `sweep`, `evaluate`, `search`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::support::Place;
use super::{folder, golden, numbers};

/// The golden texts with labels that are right for some.
fn labelled() -> (String, Vec<usize>) {
    let mut table = String::from("label\tsentence1\tsentence2\n");
    let texts = golden()["texts"].as_array().unwrap();
    let classes: Vec<usize> = (0..texts.len()).map(|i| i * 5 % 3).collect();
    for (text, class) in texts.iter().zip(&classes) {
        if let Some(pair) = text["pair"].as_str() {
            table += &format!("{class}\t{}\t{pair}\n", text["text"].as_str().unwrap());
        }
    }
    let classes = classes.iter().zip(texts).filter(|(_, text)| text["pair"].is_string()).map(|(c, _)| *c);
    (table, classes.collect())
}

/// Loss and accuracy of the golden logits of pairs.
fn expected(classes: &[usize]) -> (f64, f64) {
    let logits = numbers(&golden()["classifier"]["logits"]);
    let texts = golden()["texts"].as_array().unwrap();
    let rows = logits.chunks(3).zip(texts).filter(|(_, text)| text["pair"].is_string()).map(|(row, _)| row);
    let (mut loss, mut right) = (0.0, 0.0);
    for (row, &class) in rows.zip(classes) {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        loss += sum.ln() - f64::from(row[class]);
        right += f64::from(u8::from(row.iter().all(|&x| x <= row[class])));
    }
    (loss / classes.len() as f64, right / classes.len() as f64)
}

fn place() -> (Place, String) {
    let place = Place::new();
    std::fs::write(place.path("data.tsv"), labelled().0).unwrap();
    (place, folder("classifier").display().to_string())
}

#[test]
fn eval_on_every_executor() {
    let (place, model) = place();
    let (loss, accuracy) = expected(&labelled().1);
    for more in [&[][..], &["--naive"], &["--backend", "reference"]] {
        let line = ["eval", "--model", &model, "--data", "data.tsv", "--json", "--format"];
        let eval = |spec: &str| -> Value {
            serde_json::from_str(&place.ok(&[&line[..], &[spec], more].concat())).unwrap()
        };
        let f32 = eval("f32");
        assert!((f32["loss"].as_f64().unwrap() - loss).abs() < 1e-4, "{more:?}: {f32:#}");
        assert_eq!(f32["accuracy"].as_f64().unwrap(), accuracy);
        assert_eq!((&f32["examples"], &f32["cut"]), (&json!(4), &json!(2)));
        assert_eq!((f32["kl"].as_f64(), f32["top1_agreement"].as_f64()), (Some(0.0), Some(1.0)));
        let int3 = eval("int3");
        assert!(int3["kl"].as_f64().unwrap() > 1e-4, "{int3:#}");
        assert!((int3["baseline_loss"].as_f64().unwrap() - loss).abs() < 1e-4);
        assert!(int3["bytes"].as_u64().unwrap() < f32["bytes"].as_u64().unwrap());
    }
    let text = place.ok(&["eval", "--model", &model, "--data", "data.tsv", "--format", "f32"]);
    assert!(text.contains("nats per example") && text.contains("2 of them CUT to 24 tokens"), "{text}");
    assert!(!text.contains("perplexity"), "{text}");
}

#[test]
fn part_of_the_file_is_spread_over_it() {
    let (place, model) = place();
    let sorted: String = (0..30).map(|i| format!("good\t{}\n", i / 10)).collect();
    std::fs::write(place.path("sorted.tsv"), sorted).unwrap();
    let eval = |more: &[&str]| -> Value {
        let line = ["eval", "--model", &model, "--data", "sorted.tsv", "--json", "--format", "f32"];
        serde_json::from_str(&place.ok(&[&line[..], more].concat())).unwrap()
    };
    // The same text with each of three labels: one in three is right, in any fair part of the file.
    let part = eval(&["--examples", "6"]);
    assert_eq!((part["examples"].as_u64(), part["examples_available"].as_u64()), (Some(6), Some(30)));
    assert!((part["accuracy"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12, "{part:#}");
    assert_eq!(eval(&["--examples", "99"])["examples"], 30);
}

#[test]
fn sweep_and_evaluate_measure_what_eval_measures() {
    let (place, model) = place();
    let line = ["sweep", "--model", &model, "--data", "data.tsv", "--formats", "int3,int8", "--no-cache"];
    let outputs = ["--json", "--csv", "s.csv", "--svg", "s.svg"];
    let sweep: Value = serde_json::from_str(&place.ok(&[&line[..], &outputs].concat())).unwrap();
    assert_eq!(sweep["baseline_accuracy"].as_f64().unwrap(), expected(&labelled().1).1);
    let svg = String::from_utf8(place.read("s.svg")).unwrap();
    assert!(svg.contains("accuracy, %"), "the chart of a classifier shows its accuracy");
    assert_eq!(String::from_utf8(place.read("s.csv")).unwrap().lines().count(), 3);
    let mut child = place
        .command(&["evaluate", "--stdin", "--model", &model, "--data", "data.tsv", "--no-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"*\": \"int3\"}\n{\"*\": \"int8\"}\n").unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (i, spec) in ["int3", "int8"].into_iter().enumerate() {
        let line = ["eval", "--model", &model, "--data", "data.tsv", "--json", "--format", spec];
        let eval: Value = serde_json::from_str(&place.ok(&line)).unwrap();
        for other in [&sweep["formats"][i], &answers[i]] {
            for (key, limit) in [("loss", 1e-5), ("kl", 1e-5), ("accuracy", 1e-9), ("top1_agreement", 1e-9)] {
                let (a, b) = (eval[key].as_f64().unwrap(), other[key].as_f64().unwrap());
                assert!((a - b).abs() <= limit, "{spec} {key}: {a} and {b}");
            }
            assert_eq!(eval["bytes"], other["bytes"]);
        }
    }
}

#[test]
fn a_search_for_accuracy_resumes_and_measures_again_on_other_texts() {
    let (place, model) = place();
    let texts: String = (0..24)
        .map(|i| {
            let words = ["the film is good", "bad", "a very good play", "not bad but not good, and"];
            format!("{} {}\t{}\n", words[i % 4], "very ".repeat(i / 4), i % 3)
        })
        .collect();
    std::fs::write(place.path("many.tsv"), &texts).unwrap();
    let line =
        ["search", "--model", &model, "--data", "many.tsv", "--examples", "8", "--space", "int2,int4,int8"];
    let more = ["--objective", "accuracy,bytes", "--trials", "6", "--no-cache", "--out", "study", "--json"];
    let first: Value = serde_json::from_str(&place.ok(&[&line[..], &more].concat())).unwrap();
    assert_eq!(first["objective"], json!(["error", "bytes"]));
    assert_eq!((first["trials"].as_u64(), first["failed"].as_u64()), (Some(6), Some(0)));
    for trial in first["front"].as_array().unwrap() {
        let (value, accuracy) = (trial["values"][0].as_f64().unwrap(), trial["accuracy"].as_f64().unwrap());
        assert!((value + accuracy - 1.0).abs() < 1e-12, "{trial}");
    }
    // The best trial on the texts it has not seen, by `eval` on a file of just those.
    let unseen: String = (0..24)
        .filter(|i| (i + 1) * 8 / 24 == i * 8 / 24)
        .map(|i| texts.lines().nth(i).unwrap().to_owned() + "\n")
        .collect();
    std::fs::write(place.path("unseen.tsv"), unseen).unwrap();
    let line = ["eval", "--model", &model, "--data", "unseen.tsv", "--qconfig", "study/best.json", "--json"];
    let eval: Value = serde_json::from_str(&place.ok(&line)).unwrap();
    let finals = first["finals"].as_array().unwrap();
    let best = finals.iter().find(|last| last["file"] == "best.json").expect("the best is measured again");
    assert_eq!(eval["examples"], 16);
    for (key, limit) in [("loss", 1e-5), ("kl", 1e-5), ("accuracy", 1e-9)] {
        assert!((eval[key].as_f64().unwrap() - best[key].as_f64().unwrap()).abs() <= limit, "{key}");
    }
    let report = String::from_utf8(place.read("study/report.html")).unwrap();
    assert!(report.contains("nats/example") && report.contains("accuracy"), "units are those of examples");

    let resume = ["search", "--resume", "--out", "study", "--no-cache", "--trials", "8", "--json"];
    let second: Value = serde_json::from_str(&place.ok(&resume)).unwrap();
    assert_eq!((second["trials"].as_u64(), second["run"]["trials"].as_u64()), (Some(8), Some(2)));
    // Other labels are other data.
    std::fs::write(place.path("many.tsv"), texts.replace("\t2\n", "\t0\n")).unwrap();
    let output = place.run(&resume);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("text is not the one"), "{error}");
}

#[test]
fn texts_for_language_models_and_labels_for_classifiers() {
    let (place, model) = place();
    std::fs::write(place.path("plain.txt"), "just text").unwrap();
    place.fails(&["eval", "--model", &model, "--text", "plain.txt"], &["classifier", "--data"]);
    place.fails(&["eval", "--model", &model], &["classifier", "--data"]);
    place.fails(&["eval", "--data", "data.tsv"], &["language model", "--text"]);
    let masked = folder("masked").display().to_string();
    place.fails(&["sweep", "--model", &masked, "--text", "plain.txt"], &["masked language model"]);
    place.fails(&["eval", "--model", &model, "--data", "plain.txt"], &["line 1", "no label"]);
    place.fails(&["search", "--objective", "accuracy,bytes", "--out", "study"], &["accuracy", "--data"]);
    let line = ["eval", "--model", &model, "--data", "data.tsv", "--context", "25"];
    place.fails(&line, &["--context 25", "24"]);
}
