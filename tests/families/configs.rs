//! Keys of config.json: those of well-known models are understood, unknown ones are refused by name.

use std::path::Path;

use anybit::graph::{Mask, Op};
use anybit::model::Model;
use serde_json::{Map, Value, json};

use super::folder;

/// Keys that say how large a checkpoint is and which tensors it has.
const SIZES: [&str; 16] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "tie_word_embeddings",
    "no_rope_layers",
    "n_positions",
    "n_embd",
    "n_layer",
    "n_head",
    "n_inner",
    "attention_bias",
];

fn config_of(name: &str) -> Map<String, Value> {
    let text = std::fs::read_to_string(folder(name).join("config.json")).expect("config.json");
    serde_json::from_str(&text).expect("an object")
}

/// The checkpoint of a family under another config.
fn load(family: &str, config: &Map<String, Value>) -> anybit::Result<Model> {
    let place = tempfile::tempdir().expect("a folder");
    let weights = folder(family).join("model.safetensors");
    std::fs::copy(weights, place.path().join("model.safetensors")).expect("weights");
    let text = Value::Object(config.clone()).to_string();
    std::fs::write(place.path().join("config.json"), text).expect("config");
    Model::load(place.path())
}

#[test]
fn configs_of_well_known_models_are_understood() {
    let text = std::fs::read_to_string(Path::new("tests/families/configs.json")).expect("configs.json");
    let entries: Vec<Value> = serde_json::from_str(&text).expect("a list");
    assert_eq!(entries.len(), 17);
    for entry in entries {
        let family = entry["folder"].as_str().expect("folder");
        let mut config: Map<String, Value> = entry["config"].as_object().expect("config").clone();
        let small = config_of(family);
        for key in SIZES {
            match small.get(key) {
                Some(value) => config.insert(key.into(), value.clone()),
                None => config.remove(key),
            };
        }
        if let (Some(types), Some(layers)) =
            (config.get_mut("layer_types"), small.get("num_hidden_layers").and_then(Value::as_u64))
        {
            types.as_array_mut().expect("a list").truncate(layers as usize);
        }
        if let Err(error) = load(family, &config) {
            panic!("{}: {error}", entry["name"]);
        }
    }
}

/// `changes` to the config of `family`: null removes a key.
fn changed(family: &str, changes: Value) -> Map<String, Value> {
    let mut config = config_of(family);
    for (key, value) in changes.as_object().expect("changes") {
        match value {
            Value::String(text) if text == "absent" => config.remove(key),
            value => config.insert(key.clone(), value.clone()),
        };
    }
    config
}

#[test]
fn keys_that_may_change_the_results_are_named() {
    let layers = ["full_attention", "chunked_attention", "full_attention"];
    for (family, changes, want) in [
        ("llama", json!({"final_logit_softcapping": 30.0}), "`final_logit_softcapping` is not understood"),
        (
            "llama",
            json!({"embedding_multiplier": 12}),
            "`embedding_multiplier` is not understood (its value is 12)",
        ),
        ("llama", json!({"auto_map": {"AutoModel": "x.Y"}}), "remove the key from config.json"),
        ("llama", json!({"pretraining_tp": 2}), "`pretraining_tp` is 2"),
        ("llama", json!({"quantization_config": {"bits": 4}}), "`quantization_config`"),
        ("llama", json!({"sliding_window": 7}), "`sliding_window` is 7"),
        ("llama", json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor` is 0.5"),
        (
            "llama",
            json!({"layer_types": ["full_attention", "full_attention"]}),
            "`layer_types` is not understood",
        ),
        (
            "llama",
            json!({"architectures": ["MixtralForCausalLM"]}),
            "supported are LlamaForCausalLM, Mistral",
        ),
        ("llama", json!({"rope_scaling": {"rope_type": "longrope"}}), "`longrope`"),
        ("llama", json!({"head_dim": 7}), "head dimension is 7"),
        ("mistral", json!({"attention_bias": true}), "`attention_bias` is true"),
        ("mistral", json!({"num_key_value_heads": "absent"}), "`num_key_value_heads` is missing"),
        ("mistral", json!({"sliding_window": 0}), "`sliding_window` is 0"),
        ("qwen2", json!({"layer_types": ["full_attention"]}), "`layer_types` has 1 entries; want 3"),
        ("qwen2", json!({"layer_types": layers}), "holds \"chunked_attention\""),
        ("qwen2", json!({"sliding_window": null}), "layer 1 is of the type sliding_attention"),
        ("qwen2", json!({"max_window_layers": -1}), "`max_window_layers` is -1"),
        ("smollm3", json!({"no_rope_layers": [1, 2, 0]}), "`no_rope_layers` holds 2"),
        ("gpt2", json!({"add_cross_attention": true}), "`add_cross_attention` is true"),
        ("gpt2", json!({"is_decoder": true}), "`is_decoder` is true"),
        ("gpt2", json!({"rope_theta": 10000.0}), "`rope_theta` is not understood"),
        ("gpt2", json!({"activation_function": "quick_gelu"}), "supported are relu"),
    ] {
        let error = load(family, &changed(family, changes)).expect_err(want).to_string();
        assert!(error.contains(want), "{error}\nwant {want}");
    }
}

#[test]
fn keys_without_effect_are_not_in_the_way() {
    for changes in [
        json!({"use_cache": "whatever", "torch_dtype": "float8", "initializer_range": 7}),
        json!({"some_new_feature": null}),
        json!({"partial_rotary_factor": 1, "pretraining_tp": 1.0, "pruned_heads": {}}),
    ] {
        load("llama", &changed("llama", changes)).expect("understood");
    }
}

fn windows(family: &str, changes: Value) -> Vec<Option<usize>> {
    let model = load(family, &changed(family, changes)).expect("a model");
    let of = |op: &Op| match op {
        Op::Attention { mask: Mask::Window(window), .. } => Some(Some(*window)),
        Op::Attention { .. } => Some(None),
        _ => None,
    };
    model.graph().nodes.iter().filter_map(|node| of(&node.op)).collect()
}

#[test]
fn windows_follow_the_defaults_of_the_family() {
    assert_eq!(windows("mistral", json!({"sliding_window": null})), [None, None]);
    assert_eq!(windows("mistral", json!({"sliding_window": "absent"})), [Some(4096), Some(4096)]);
    // Without layer_types, as older files are, the later layers slide.
    let older = |changes: Value| {
        let mut all = json!({"layer_types": "absent"});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        windows("qwen2", all)
    };
    assert_eq!(older(json!({})), [None, Some(5), Some(5)]);
    assert_eq!(older(json!({"max_window_layers": 2})), [None, None, Some(5)]);
    assert_eq!(older(json!({"use_sliding_window": false})), [None; 3]);
    assert_eq!(older(json!({"max_window_layers": 0, "sliding_window": "absent"})), [Some(4096); 3]);
    let smol = json!({"layer_types": "absent", "use_sliding_window": true, "sliding_window": 4});
    assert_eq!(windows("smollm3", smol), [None, Some(4), None]);
}
