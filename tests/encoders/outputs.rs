//! Logits and hidden states of each head on every executor.

use anybit::model::{Encoding, Example, Model, TensorFile};
use anybit::run::{Batching, longest, mean_row, normalize, outputs};

use super::{difference, folder, golden, ids, load, numbers, on_every_executor};

/// The golden texts, of which the rows of all tokens are wanted, or that of the first.
fn examples(all: bool) -> Vec<Example> {
    let texts = golden()["texts"].as_array().unwrap();
    let example = |text: &serde_json::Value| {
        let inputs = ids(&text["ids"]);
        let outputs: Vec<u32> = if all { (0..inputs.len() as u32).collect() } else { vec![0] };
        let targets = vec![0; outputs.len()];
        Example { inputs, segments: ids(&text["segments"]), outputs, targets }
    };
    texts.iter().map(example).collect()
}

/// The rows of every example.
fn run(
    model: &Model,
    runner: &mut anybit::run::Runner<'_>,
    examples: &[Example],
    sequences: usize,
) -> Vec<Vec<f32>> {
    let batching = Batching { sequences, tokens: sequences * longest(examples) };
    assert!(model.graph().is_bidirectional());
    let mut rows = Vec::new();
    outputs(runner, examples, batching, &mut |i, values| {
        assert_eq!(i, rows.len());
        rows.push(values.to_vec());
        Ok(())
    })
    .unwrap();
    rows
}

#[test]
fn classifier_logits() {
    let model = load("classifier");
    let want = numbers(&golden()["classifier"]["logits"]);
    assert_eq!(model.labels(), ["bad", "so so", "good"]);
    let mut different = 0.0f32;
    on_every_executor(&model, "f32", 4, &mut |name, runner| {
        // Alone, and several of different lengths in one batch.
        for sequences in [1, 4] {
            let got = run(&model, runner, &examples(false), sequences).concat();
            let d = difference(&got, &want);
            assert!(d <= 1e-4, "{name}, {sequences} at a time: {d}");
            different = different.max((got[0] - got[3]).abs());
        }
    });
    // Texts are told apart, so the comparison is not one of constants.
    assert!(different > 0.1, "{different}");
}

#[test]
fn hidden_states_without_prefix_and_pooler_and_with_old_names() {
    let model = load("encoder");
    let want: Vec<f32> = golden()["encoder"]["states"].as_array().unwrap().iter().flat_map(numbers).collect();
    on_every_executor(&model, "f32", 3, &mut |name, runner| {
        let rows = run(&model, runner, &examples(true), 3);
        let d = difference(&rows.concat(), &want);
        assert!(d <= 1e-4, "{name}: {d}");
        let pooled: Vec<f32> = rows.iter().flat_map(|rows| mean_row(rows, 20)).collect();
        assert!(difference(&pooled, &numbers(&golden()["encoder"]["mean"])) <= 1e-4, "{name}");
    });
    let error = load("encoder").with_encoding(Encoding::Pooler).unwrap_err().to_string();
    assert!(error.contains("pooler.dense.weight") && error.contains("missing"), "{error}");
}

#[test]
fn masked_language_model_logits_with_a_tied_decoder() {
    let model = load("masked");
    let want: Vec<f32> = golden()["masked"]["logits"].as_array().unwrap().iter().flat_map(numbers).collect();
    on_every_executor(&model, "f32", 3, &mut |name, runner| {
        let got = run(&model, runner, &examples(true)[..3], 3).concat();
        let d = difference(&got, &want);
        assert!(d <= 1e-4, "{name}: {d}");
    });
}

/// The encoder below a classifier, as sentence-transformers pools.
#[test]
fn masked_language_model_logits_with_a_decoder_and_a_bias_of_its_own() {
    let golden = std::fs::read_to_string(folder("untied").join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let inputs = ids(&golden["ids"]);
    let count = inputs.len();
    let example = Example {
        inputs,
        segments: vec![0; count],
        outputs: (0..count as u32).collect(),
        targets: vec![0; count],
    };
    let model = load("untied");
    on_every_executor(&model, "f32", 1, &mut |name, runner| {
        let got = run(&model, runner, std::slice::from_ref(&example), 1).concat();
        let d = difference(&got, &numbers(&golden["logits"]));
        assert!(d <= 1e-4, "{name}: {d}");
    });
}

/// The config of a classifier as transformers 5 writes it.
#[test]
fn classifiers_may_say_what_only_decoders_do() {
    let place = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(folder("classifier").join(name), place.path().join(name)).unwrap();
    }
    let text = std::fs::read_to_string(folder("classifier").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [("tie_word_embeddings", true), ("is_decoder", false), ("add_cross_attention", false)]
    {
        config[key] = value.into();
    }
    std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
    assert_eq!(Model::load(place.path()).unwrap().labels(), ["bad", "so so", "good"]);
}

#[test]
fn encodings_of_a_classifier() {
    let want = &golden()["classifier"];
    let hidden = load("classifier").with_encoding(Encoding::Hidden).unwrap();
    on_every_executor(&hidden, "f32", 2, &mut |name, runner| {
        let rows = run(&hidden, runner, &examples(true), 2);
        let first: Vec<f32> = rows.iter().flat_map(|rows| rows[..20].to_vec()).collect();
        assert!(difference(&first, &numbers(&want["cls"])) <= 1e-4, "{name}");
        let mut means: Vec<Vec<f32>> = rows.iter().map(|rows| mean_row(rows, 20)).collect();
        assert!(difference(&means.concat(), &numbers(&want["mean"])) <= 1e-4, "{name}");
        means.iter_mut().for_each(|mean| normalize(mean));
        assert!(difference(&means.concat(), &numbers(&want["mean_normalized"])) <= 1e-4, "{name}");
    });
    let pooler = load("classifier").with_encoding(Encoding::Pooler).unwrap();
    on_every_executor(&pooler, "f32", 2, &mut |name, runner| {
        let rows = run(&pooler, runner, &examples(false), 2);
        assert!(difference(&rows.concat(), &numbers(&want["pooler"])) <= 1e-4, "{name}");
    });
}

/// Quantized linears on the device are those of the reference.
#[test]
fn quantized_classifiers_agree() {
    let model = load("classifier");
    for spec in ["int4(group=32)", "mxint8@mxint8", "qlinear(bits=8)", "base11"] {
        let mut first: Option<Vec<f32>> = None;
        on_every_executor(&model, spec, 4, &mut |name, runner| {
            let got = run(&model, runner, &examples(false), 4).concat();
            let want = first.get_or_insert_with(|| got.clone());
            // An activation may round to the next code at a tie.
            let limit = if spec.contains("qlinear") { 2e-2 } else { 1e-4 };
            let d = difference(&got, want);
            assert!(d <= limit, "{spec} {name}: {d}");
        });
        let unquantized = numbers(&golden()["classifier"]["logits"]);
        assert!(difference(&first.unwrap(), &unquantized) > 1e-4, "{spec} quantizes nothing");
    }
}

/// The BERTs among the checkpoints of every family: other shapes, weights stored as f16 and bf16, a pooler.
#[test]
fn families() {
    let root = std::path::Path::new(super::support::ROOT).join("tests/data/families");
    for (name, encoding, tensor, all) in [
        ("bert-classify", None, "logits", false),
        ("bert-embed", None, "hidden", true),
        ("bert-embed", Some(Encoding::Pooler), "pooled", false),
        ("bert-mlm", None, "logits", true),
    ] {
        let folder = root.join(name);
        let model = Model::load(&folder).unwrap();
        let model = match encoding {
            Some(encoding) => model.with_encoding(encoding).unwrap(),
            None => model,
        };
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let example = |sequence: &serde_json::Value| {
            let inputs = ids(&sequence["ids"]);
            let outputs: Vec<u32> = if all { (0..inputs.len() as u32).collect() } else { vec![0] };
            let targets = vec![0; outputs.len()];
            Example { inputs, segments: ids(&sequence["types"]), outputs, targets }
        };
        let examples: Vec<Example> = json["sequences"].as_array().unwrap().iter().map(example).collect();
        let file = TensorFile::open(&folder.join("golden.safetensors")).unwrap();
        let want = file.widen(file.get(tensor).unwrap()).unwrap();
        on_every_executor(&model, "f32", 4, &mut |executor, runner| {
            let d = difference(&run(&model, runner, &examples, 4).concat(), &want);
            assert!(d <= 1e-4, "{name} {tensor} {executor}: {d}");
        });
    }
}
