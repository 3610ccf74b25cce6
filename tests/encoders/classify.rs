//! `anybit classify`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use super::support::Place;
use super::{difference, folder, golden, numbers};

fn model(name: &str) -> String {
    folder(name).display().to_string()
}

/// Softmax of the golden logits, `[texts][classes]`.
fn probabilities() -> Vec<Vec<f64>> {
    let logits = numbers(&golden()["classifier"]["logits"]);
    let softmax = |row: &[f32]| {
        let powers: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
        powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
    };
    logits.chunks(3).map(softmax).collect()
}

#[test]
fn labels_and_probabilities_of_texts_and_pairs() {
    let place = Place::new();
    let mut table = String::from("sentence1\tsentence2\tlabel\n");
    let texts = golden()["texts"].as_array().unwrap();
    for text in texts.iter().filter(|text| text["pair"].is_string()) {
        table += &format!("{}\t{}\tgood\n", text["text"].as_str().unwrap(), text["pair"].as_str().unwrap());
    }
    std::fs::write(place.path("pairs.tsv"), table).unwrap();
    let want = probabilities();
    let model = model("classifier");
    for backend in ["gpu", "reference"] {
        let mut line = vec!["classify", "--model", &model, "--format", "f32", "--json", "--backend", backend];
        let alone: Vec<usize> = (0..texts.len()).filter(|&i| texts[i]["pair"].is_null()).collect();
        for &i in &alone {
            line.extend(["--text", texts[i]["text"].as_str().unwrap()]);
        }
        let json: Value = serde_json::from_str(&place.ok(&line)).unwrap();
        assert_eq!((json["cut"].as_u64(), &json["accuracy"]), (Some(1), &Value::Null));
        let mut results = json["results"].as_array().unwrap().clone();
        let line = ["classify", "--model", &model, "--format", "f32", "--json", "--file", "pairs.tsv"];
        let json: Value =
            serde_json::from_str(&place.ok(&[&line[..], &["--backend", backend]].concat())).unwrap();
        let pairs = json["results"].as_array().unwrap();
        let good = pairs.iter().filter(|result| result["label"] == "good").count();
        assert_eq!(json["accuracy"].as_f64().unwrap(), good as f64 / pairs.len() as f64);
        assert!(pairs.iter().all(|result| result["expected"] == "good" && result["pair"].is_string()));
        results.extend(pairs.iter().cloned());
        let order = alone.iter().copied().chain((0..texts.len()).filter(|&i| texts[i]["pair"].is_string()));
        for (i, result) in order.zip(&results) {
            let got: Vec<f32> = ["bad", "so so", "good"]
                .iter()
                .map(|label| result["probabilities"][label].as_f64().unwrap() as f32)
                .collect();
            let want: Vec<f32> = want[i].iter().map(|&p| p as f32).collect();
            assert!(difference(&got, &want) < 1e-4, "{backend}, text {i}");
            let most = (0..3).max_by(|&a, &b| want[a].total_cmp(&want[b])).unwrap();
            assert_eq!(result["label"], ["bad", "so so", "good"][most]);
            assert_eq!(result["probability"].as_f64().unwrap() as f32, got[most]);
        }
    }
}

#[test]
fn standard_input_and_lines_of_fields() {
    let place = Place::new();
    let model = model("classifier");
    let mut child = place
        .command(&["classify", "--model", &model, "--format", "f32", "--tsv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"The film is good.\r\n\nplays\n").unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    let want = probabilities();
    assert_eq!(lines.len(), 2, "{out}");
    for (line, (text, want)) in lines.iter().zip([("The film is good.", &want[0]), ("plays", &want[3])]) {
        let probability: f64 = line[1].parse().unwrap();
        let most = want.iter().copied().fold(0.0, f64::max);
        assert!((probability - most).abs() < 1e-4 && line[2] == text, "{line:?}");
    }
}

#[test]
fn what_is_cut_is_said() {
    let place = Place::new();
    let (model, long) = (model("classifier"), "good ".repeat(40));
    let output = place.run(&["classify", "--model", &model, "--text", &long, "--text", "good"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.contains("1 of 2 texts are longer"), "{error}");
}

#[test]
fn wrong_models_and_files() {
    let place = Place::new();
    let (classifier, encoder, masked) = (model("classifier"), model("encoder"), model("masked"));
    place.fails(&["classify", "--text", "x"], &["language model", "anybit generate"]);
    place.fails(&["classify", "--model", &encoder, "--text", "x"], &["without a head", "anybit embed"]);
    place.fails(&["classify", "--model", &masked, "--text", "x"], &["masked language model"]);
    place.fails(&["generate", "--model", &classifier, "--prompt", "x"], &["classifier", "anybit classify"]);
    std::fs::write(place.path("bad.tsv"), "a\tgood\nb\tgreat\n").unwrap();
    place.fails(&["classify", "--model", &classifier, "--file", "bad.tsv"], &["line 2", "`great`", "so so"]);
    std::fs::write(place.path("bytes.txt"), b"a\nb\xff\n").unwrap();
    place.fails(&["classify", "--model", &classifier, "--file", "bytes.txt"], &["line 2", "UTF-8"]);
    std::fs::write(place.path("empty.txt"), "\n \n").unwrap();
    place.fails(&["classify", "--model", &classifier, "--file", "empty.txt"], &["no text"]);
    place.fails(&["classify", "--model", &classifier, "--file", "none.txt"], &["none.txt"]);
}
