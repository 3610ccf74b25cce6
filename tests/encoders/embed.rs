//! `anybit embed`.

use anybit::model::MatrixFile;
use serde_json::Value;

use super::support::Place;
use super::{difference, folder, golden, numbers};

#[test]
fn every_pooling_on_both_backends() {
    let place = Place::new();
    let model = folder("classifier").display().to_string();
    let texts: Vec<&Value> =
        golden()["texts"].as_array().unwrap().iter().filter(|text| text["pair"].is_null()).collect();
    let rows: Vec<usize> = (0..golden()["texts"].as_array().unwrap().len())
        .filter(|&i| golden()["texts"][i]["pair"].is_null())
        .collect();
    let want = |name: &str| {
        let all = numbers(&golden()["classifier"][name]);
        rows.iter().flat_map(|&row| all[row * 20..][..20].to_vec()).collect::<Vec<f32>>()
    };
    for (backend, output) in [("gpu", "e.npy"), ("reference", "e.safetensors")] {
        for (name, more) in [
            ("mean", &[][..]),
            ("mean_normalized", &["--normalize"]),
            ("cls", &["--pooling", "cls"]),
            ("pooler", &["--pooling", "pooler"]),
        ] {
            let mut line = vec!["embed", "--model", &model, "--format", "f32", "--backend", backend];
            line.extend(["--output", output]);
            line.extend(more);
            texts.iter().for_each(|text| line.extend(["--text", text["text"].as_str().unwrap()]));
            place.ok(&line);
            let got = MatrixFile::read(&place.path(output), Some("embeddings")).unwrap();
            assert_eq!((got.rows, got.cols), (texts.len(), 20));
            let d = difference(&got.values, &want(name));
            assert!(d <= 1e-4, "{name} on {backend}: {d}");
        }
    }
}

#[test]
fn lines_of_json() {
    let place = Place::new();
    let model = folder("encoder").display().to_string();
    std::fs::write(place.path("t.tsv"), "The film is good.\tlabels are not read\nplays\t7\n").unwrap();
    let out = place.ok(&["embed", "--model", &model, "--file", "t.tsv", "--format", "f32"]);
    let want = numbers(&golden()["encoder"]["mean"]);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, (text, row)) in lines.iter().zip([("The film is good.", 0), ("plays", 3)]) {
        assert_eq!(line["text"], text);
        assert!(difference(&numbers(&line["embedding"]), &want[row * 20..][..20]) <= 1e-4, "{text}");
    }
}

#[test]
fn wrong_models_and_names() {
    let place = Place::new();
    let encoder = folder("encoder").display().to_string();
    place.fails(&["embed", "--text", "x"], &["language model", "encoder"]);
    place.fails(&["embed", "--model", &encoder, "--text", "x", "--output", "e.csv"], &["e.csv", ".npy"]);
    let line = ["embed", "--model", &encoder, "--text", "x", "--pooling", "pooler"];
    place.fails(&line, &["pooler.dense.weight", "missing"]);
}
