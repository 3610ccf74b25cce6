//! BigNet on rows of numbers.

use anybit::graph::{Batch, Role};
use anybit::model::MatrixFile;
use serde_json::Value;

use super::support::Place;
use super::{difference, folder, golden, load, numbers, on_every_executor};

#[test]
fn outputs_in_f32_and_in_base_11() {
    let model = load("bignet");
    assert_eq!(model.graph().input_width(), Some(64));
    let inputs = numbers(&golden()["bignet"]["inputs"]);
    for (spec, name) in [("f32", "f32"), ("base11(layout=9in32,group=64)", "base11")] {
        let want = numbers(&golden()["bignet"][name]);
        on_every_executor(&model, spec, 1, &mut |executor, runner| {
            runner.step(&Batch::of_inputs(inputs.clone(), 64).unwrap()).unwrap();
            let d = difference(&runner.logits().unwrap(), &want);
            assert!(d <= 1e-4, "{spec} {executor}: {d}");
        });
    }
    assert!(difference(&numbers(&golden()["bignet"]["f32"]), &numbers(&golden()["bignet"]["base11"])) > 1e-2);
}

/// The loading rule: an f32 checkpoint is quantized to base 11 as it is loaded.
#[test]
fn run_quantizes_as_it_loads() {
    let place = Place::new();
    let (model, inputs) =
        (folder("bignet").display().to_string(), folder("bignet/inputs.npy").display().to_string());
    for backend in ["gpu", "reference"] {
        let line = ["run", "--model", &model, "--inputs", &inputs, "--backend", backend];
        for (name, more) in [("base11", &[][..]), ("f32", &["--format", "f32"])] {
            let want = numbers(&golden()["bignet"][name]);
            place.ok(&[&line[..], more, &["--output", "y.npy"]].concat());
            let got = MatrixFile::read(&place.path("y.npy"), None).unwrap();
            assert_eq!((got.rows, got.cols), (5, 64));
            assert!(difference(&got.values, &want) <= 1e-4, "{name} on {backend}");
            let printed = place.ok(&[&line[..], more].concat());
            let rows: Vec<f32> = printed
                .lines()
                .flat_map(|line| numbers(&serde_json::from_str::<Value>(line).unwrap()))
                .collect();
            assert_eq!(rows, got.values, "{name} on {backend}");
        }
    }
    place.ok(&[
        "quantize",
        "--model",
        &model,
        "--format",
        "base11(layout=9in32,group=64)",
        "--output",
        "p.safetensors",
    ]);
    place.ok(&["run", "--model", "p.safetensors", "--inputs", &inputs, "--output", "y.safetensors"]);
    let got = MatrixFile::read(&place.path("y.safetensors"), Some("outputs")).unwrap();
    assert!(difference(&got.values, &numbers(&golden()["bignet"]["base11"])) <= 1e-4);
}

/// Bytes as the original accounts for them: 4-byte words of 9 digits, an f16 minimum and an f16 range per group.
#[test]
fn memory() {
    let place = Place::new();
    let model = folder("bignet").display().to_string();
    let inspect =
        place.json(&["inspect", "--model", &model, "--format", "base11(layout=9in32,group=64)", "--json"]);
    let linears = 9u64;
    let per_linear = 64 * (64u64.div_ceil(9) * 4 + 4);
    let vectors = 9 * 64 * 4 + 2 * 2 * 64 * 4;
    assert_eq!(inspect["bytes"].as_u64().unwrap(), linears * per_linear + vectors);
    assert_eq!(inspect["f32_bytes"].as_u64().unwrap(), linears * 64 * 64 * 4 + vectors);
    assert_eq!(inspect["kv_cache_bytes"], 0);
}

#[test]
fn groups_divide_the_rows() {
    let graph = |dim: usize| -> String {
        let place = Place::new();
        let folder = place.path("net");
        std::fs::create_dir(&folder).unwrap();
        let config = format!("{{\"architectures\": [\"BigNet\"], \"dim\": {dim}, \"blocks\": 1}}");
        std::fs::write(folder.join("config.json"), config).unwrap();
        let (matrix, vector) = (vec![0.5; dim * dim], vec![0.0; dim]);
        let names: Vec<String> = [0, 2, 4].iter().map(|at| format!("model.0.model.{at}")).collect();
        let tensors: Vec<(String, Vec<usize>, &[f32])> = names
            .iter()
            .flat_map(|name| {
                [
                    (format!("{name}.weight"), vec![dim, dim], matrix.as_slice()),
                    (format!("{name}.bias"), vec![dim], vector.as_slice()),
                ]
            })
            .collect();
        let tensors: Vec<(&str, &[usize], &[f32])> =
            tensors.iter().map(|(name, shape, values)| (name.as_str(), shape.as_slice(), *values)).collect();
        place.write("net/model.safetensors", &tensors);
        let model = anybit::model::Model::load(&folder).unwrap();
        assert_eq!(model.graph().weights.iter().filter(|weight| weight.role == Role::Linear).count(), 3);
        model.default_spec().to_string()
    };
    for (dim, want) in [
        (256, "base11(layout=9in32,group=256)"),
        (384, "base11(layout=9in32)"),
        (40, "base11(layout=9in32,group=32)"),
    ] {
        assert_eq!(graph(dim), want, "{dim}");
    }
}

#[test]
fn wrong_inputs() {
    let place = Place::new();
    let model = folder("bignet").display().to_string();
    let rows = |rows: usize, cols: usize| MatrixFile { rows, cols, values: vec![0.25; rows * cols] };
    rows(2, 63).write(&place.path("narrow.npy"), "x").unwrap();
    place.fails(&["run", "--model", &model, "--inputs", "narrow.npy"], &["rows of 63", "rows of 64"]);
    rows(0, 64).write(&place.path("none.npy"), "x").unwrap();
    place.fails(&["run", "--model", &model, "--inputs", "none.npy"], &["0 rows"]);
    let mut nan = rows(1, 64);
    nan.values[3] = f32::NAN;
    nan.write(&place.path("nan.npy"), "x").unwrap();
    place.fails(&["run", "--model", &model, "--inputs", "nan.npy"], &["column 3", "finite"]);
    place.fails(&["run", "--model", &model, "--inputs", "x.csv"], &["x.csv", ".npy"]);
    place.fails(&["run", "--inputs", "nan.npy"], &["language model", "anybit generate"]);
    place.fails(&["generate", "--model", &model, "--prompt", "x"], &["rows of numbers", "anybit run"]);
    place.fails(&["eval", "--model", &model], &["tokenizer"]);
}
