//! Packed files of encoders, configs that mean something else, and node by node verification.

use std::path::Path;

use anybit::model::TensorFile;

use serde_json::{Value, json};

use super::folder;
use super::support::Place;

/// A copy of a model folder with a changed config.
fn changed(place: &Place, model: &str, name: &str, change: impl Fn(&mut Value)) -> String {
    let to = place.path(name);
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(folder(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let config = to.join("config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&config, json.to_string()).unwrap();
    to.display().to_string()
}

fn set(key: &'static str, value: Value) -> impl Fn(&mut Value) {
    move |config| config[key] = value.clone()
}

#[test]
fn a_packed_classifier_classifies_and_embeds_as_its_checkpoint() {
    let place = Place::new();
    let model = folder("classifier").display().to_string();
    let line =
        ["quantize", "--model", &model, "--format", "int4(group=32)", "--output", "packed.safetensors"];
    place.ok(&line);
    std::fs::write(place.path("data.tsv"), "the film is good\tgood\na bad play\t0\nfilms\tso so\n").unwrap();
    for verb in [
        &["classify", "--tsv", "--file", "data.tsv"][..],
        &["embed", "--pooling", "pooler", "--file", "data.tsv"],
        &["eval", "--data", "data.tsv"],
    ] {
        let run = |model: &str, more: &[&str]| {
            let text = place.ok(&[verb, &["--model", model], more].concat());
            // The file itself has no f32 model to compare with.
            let lines = text.lines().filter(|line| !line.starts_with("uploaded"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let baseline: &[&str] = if verb[0] == "eval" { &["--baseline", &model] } else { &[] };
        assert_eq!(
            run("packed.safetensors", baseline),
            run(&model, &["--format", "int4(group=32)"]),
            "{verb:?}"
        );
    }
    let inspect = place.json(&["inspect", "--model", "packed.safetensors", "--json"]);
    let tensors = inspect["tensors"].as_array().unwrap();
    let kind = |name: &str| {
        let tensor = tensors.iter().find(|tensor| tensor["name"] == name).unwrap();
        (tensor["kind"].as_str().unwrap(), tensor["spec"].as_str().unwrap())
    };
    assert_eq!(kind("bert.encoder.layer.1.output.dense.weight"), ("linear", "int4(group=32)"));
    assert_eq!(kind("bert.pooler.dense.weight"), ("head", "f32"));
    assert_eq!(kind("classifier.weight"), ("head", "f32"));
    assert_eq!(kind("bert.embeddings.word_embeddings.weight"), ("embedding", "f32"));
}

#[test]
fn verify_checks_every_node() {
    let place = Place::new();
    for model in ["classifier", "encoder", "masked", "bignet"] {
        let path = folder(model).display().to_string();
        let json = place.json(&["verify", "--model", &path, "--model-only", "--unchecked", "--json"]);
        assert_eq!(json["pass"], true, "{model}");
        let nodes = json["results"]["unchecked"]["nodes"].as_array().unwrap();
        assert!(nodes.len() > 20, "{model}: {} nodes", nodes.len());
        let text = place.ok(&["verify", "--model", &path, "--model-only", "--unchecked"]);
        assert!(text.contains(&format!("{} of {} results", nodes.len(), nodes.len())), "{text}");
    }
}

#[test]
fn configs_that_change_results_are_refused() {
    let place = Place::new();
    for (i, (key, value, wanted)) in [
        ("position_embedding_type", json!("relative_key"), "position_embedding_type"),
        ("is_decoder", json!(true), "is_decoder"),
        ("hidden_act", json!("mish"), "mish"),
        ("problem_type", json!("multi_label_classification"), "problem_type"),
        ("num_attention_heads", json!(3), "not a multiple"),
        ("max_position_embeddings", json!(25), "position_embeddings"),
        ("type_vocab_size", json!(3), "token_type"),
        ("num_hidden_layers", json!(3), "encoder.layer.2"),
        ("id2label", json!({"0": "a", "1": "b"}), "id2label"),
        ("id2label", json!({"0": "a", "1": "b", "3": "c"}), "id2label"),
        ("id2label", json!({"0": "a", "1": "b", "2": 3}), "id2label"),
        ("id2label", json!(["a", "b", "c"]), "id2label"),
        ("quantization_config", json!({"bits": 4}), "quantization_config"),
    ]
    .into_iter()
    .enumerate()
    {
        let model = changed(&place, "classifier", &format!("model{i}"), set(key, value));
        place.fails(&["classify", "--model", &model, "--text", "x"], &[wanted]);
    }
    let model = changed(&place, "classifier", "unnamed", |config| {
        config.as_object_mut().unwrap().remove("id2label");
    });
    let tsv = place.ok(&["classify", "--model", &model, "--text", "x", "--tsv"]);
    assert!(tsv.starts_with("LABEL_"), "{tsv}");
}

/// One output is a number, and a softmax of it would be sure of everything.
#[test]
fn regression_is_no_classification() {
    let place = Place::new();
    let model = changed(&place, "classifier", "regression", |config| {
        config.as_object_mut().unwrap().remove("id2label");
    });
    let file = TensorFile::open(&folder("classifier").join("model.safetensors")).unwrap();
    let values: Vec<_> = file.tensors().iter().map(|tensor| (tensor, file.widen(tensor).unwrap())).collect();
    let cut: Vec<(&str, Vec<usize>, &[f32])> = values
        .iter()
        .map(|(tensor, values)| match tensor.name.starts_with("classifier.") {
            true => {
                let shape: Vec<usize> = std::iter::once(1).chain(tensor.shape[1..].iter().copied()).collect();
                (tensor.name.as_str(), shape.clone(), &values[..shape.iter().product()])
            }
            false => (tensor.name.as_str(), tensor.shape.clone(), values.as_slice()),
        })
        .collect();
    let cut: Vec<(&str, &[usize], &[f32])> =
        cut.iter().map(|(name, shape, values)| (*name, shape.as_slice(), *values)).collect();
    place.write("regression/model.safetensors", &cut);
    std::fs::write(place.path("data.tsv"), "a\t0\n").unwrap();
    place.fails(&["classify", "--model", &model, "--text", "x"], &["one output", "regression"]);
    place.fails(&["eval", "--model", &model, "--data", "data.tsv"], &["one output", "regression"]);
    place.ok(&["embed", "--model", &model, "--text", "x"]);
}

#[test]
fn a_folder_without_a_tokenizer_says_so() {
    let place = Place::new();
    let model = changed(&place, "classifier", "bare", |_| ());
    std::fs::remove_file(Path::new(&model).join("tokenizer.json")).unwrap();
    std::fs::write(place.path("data.tsv"), "a\t0\n").unwrap();
    place.fails(&["classify", "--model", &model, "--text", "x"], &["tokenizer"]);
    place.fails(&["eval", "--model", &model, "--data", "data.tsv"], &["tokenizer"]);
}
