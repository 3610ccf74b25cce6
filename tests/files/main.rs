//! Files nobody should trust: every defect is one clear error, never a panic, and no half-written output.

mod checkpoints;
#[path = "../support/mod.rs"]
mod support;

use anybit::Error;
use anybit::format::Spec;
use anybit::graph::{Role, Weights};
use anybit::model::{Model, TensorFile, Tokenizer, quantize_file};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::{assert_contains, assert_only, safetensors, split};
use tempfile::TempDir;

fn stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stories260k")
}

fn sort() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sort-gpt2")
}

/// Error of opening `bytes` as a tensor file.
fn open_error(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, bytes).unwrap();
    TensorFile::open(&path).unwrap_err().to_string()
}

/// A copy of a model folder with another config.
fn with_config(source: &Path, change: impl Fn(&mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(source.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

/// A copy of a model folder with other weights.
fn with_weights(source: &Path, change: impl Fn(&mut Value, &mut Vec<u8>)) -> TempDir {
    let folder = with_config(source, |_| ());
    let path = folder.path().join("model.safetensors");
    let (mut header, mut data) = split(&std::fs::read(&path).unwrap());
    change(&mut header, &mut data);
    std::fs::write(path, safetensors(&header, &data)).unwrap();
    folder
}

fn load_error(folder: &TempDir) -> String {
    Model::load(folder.path()).unwrap_err().to_string()
}

#[test]
fn what_is_no_safetensors_file() {
    assert_contains(&open_error(b""), &["is empty"]);
    assert_contains(&open_error(b"abc"), &["truncated", "3 bytes"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5270208\n";
    assert_contains(&open_error(pointer.as_bytes()), &["git-lfs pointer", "git lfs pull"]);
    assert_contains(&open_error(b"GGUF\x03\0\0\0\0\0\0\0"), &["GGUF"]);
    assert_contains(&open_error(b"PK\x03\x04\0\0\0\0\0\0\0\0"), &["zip", "PyTorch"]);
    let folder = tempfile::tempdir().unwrap();
    assert_contains(&TensorFile::open(folder.path()).unwrap_err().to_string(), &["is not a file"]);
    let missing = TensorFile::open(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }));
    assert_contains(&missing.to_string(), &["cannot read", "none"]);
}

#[test]
fn truncated_files() {
    let bytes = std::fs::read(stories().join("model.safetensors")).unwrap();
    for len in [1, 7, 8, 9, 100, 4863, 4864, 5000, bytes.len() - 1] {
        assert_contains(&open_error(&bytes[..len]), &["truncated"]);
    }
    assert_contains(&open_error(&[bytes.as_slice(), b"x"].concat()), &["1 bytes follow the last tensor"]);
}

#[test]
fn lying_headers() {
    let tensor = |dtype: &str, shape: Value, offsets: [u64; 2]| json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
    let one = |entry: Value| open_error(&safetensors(&json!({"w": entry}), &[0; 16]));
    for length in [17, 1 << 40, u64::MAX, u64::MAX - 7] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([b' '; 16]);
        assert_contains(&open_error(&bytes), &[&length.to_string(), "16 follow"]);
    }
    assert_contains(&one(tensor("F32", json!([2, 3]), [0, 16])), &["`w`", "[2, 3]", "0..16"]);
    assert_contains(&one(tensor("F32", json!([4]), [16, 0])), &["`w`", "16..0"]);
    assert_contains(&one(tensor("F32", json!([1u64 << 40, 1u64 << 40]), [0, 16])), &["`w`", "do not fit"]);
    assert_contains(&one(tensor("F32", json!([4]), [4, 20])), &["gaps or overlaps"]);
    assert_contains(&one(tensor("F32", json!([8]), [0, 32])), &["truncated", "32 bytes", "16"]);
    assert_contains(&one(tensor("F32", json!([u64::MAX / 32]), [0, u64::MAX / 32 * 4])), &["truncated"]);
    assert_contains(&one(tensor("Q4", json!([4]), [0, 16])), &["`w`", "Q4"]);
    assert_contains(&one(tensor("F4", json!([3]), [0, 1])), &["`w`"]);
    assert_contains(&one(tensor("F32", json!([-4]), [0, 16])), &["`w`"]);
    assert_contains(&one(json!("nonsense")), &["`w`"]);
    let overlap = json!({"a": tensor("F32", json!([3]), [0, 12]), "b": tensor("F32", json!([2]), [8, 16])});
    assert_contains(&open_error(&safetensors(&overlap, &[0; 16])), &["gaps or overlaps"]);
    let many: serde_json::Map<String, Value> = (0..8u64)
        .map(|i| {
            (
                i.to_string(),
                tensor("U8", json!([u64::MAX / 8]), [i * (u64::MAX / 8), (i + 1) * (u64::MAX / 8)]),
            )
        })
        .collect();
    assert!(!open_error(&safetensors(&Value::Object(many), &[0; 16])).is_empty());
    assert_contains(&open_error(&safetensors(&json!([1]), &[])), &["header is not valid JSON"]);
    assert_contains(&open_error(&safetensors(&json!({"__metadata__": {"a": 1}}), &[])), &["__metadata__"]);
    assert_contains(
        &open_error(&[&4u64.to_le_bytes(), &b"\xff\xff\xff\xff"[..]].concat()),
        &["not valid JSON"],
    );
    assert_contains(&open_error(&safetensors(&json!("x"), &[])), &["not valid JSON"]);
}

#[test]
fn configs_that_cannot_be_run() {
    let llama =
        |key: &str, value: Value| load_error(&with_config(&stories(), |config| config[key] = value.clone()));
    let gpt2 =
        |key: &str, value: Value| load_error(&with_config(&sort(), |config| config[key] = value.clone()));
    assert_contains(
        &llama("architectures", json!(["MambaForCausalLM"])),
        &["MambaForCausalLM", "LlamaForCausalLM", "GPT2LMHeadModel"],
    );
    assert_contains(&llama("hidden_act", json!("mish")), &["hidden_act", "mish", "silu"]);
    assert_contains(
        &llama("rope_scaling", json!({"type": "su", "factor": 2.0})),
        &["rope_scaling", "`su`", "llama3"],
    );
    assert_contains(&llama("rope_parameters", json!({"rope_type": "yarn"})), &["rope_parameters.factor"]);
    assert_contains(&llama("partial_rotary_factor", json!(0.5)), &["partial_rotary_factor"]);
    let harmless = with_config(&stories(), |config| {
        config["rope_scaling"] = json!({"rope_type": "default"});
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 10000.0});
        config["partial_rotary_factor"] = json!(1);
        config["architectures"] = json!(null);
    });
    assert!(Model::load(harmless.path()).is_ok());
    assert_contains(&llama("sliding_window", json!(64)), &["sliding_window"]);
    assert_contains(&llama("quantization_config", json!({"bits": 4})), &["quantization_config"]);
    assert_contains(&llama("num_attention_heads", json!(0)), &["num_attention_heads", "0"]);
    assert_contains(&llama("num_attention_heads", json!(6)), &["6", "num_key_value_heads"]);
    assert_contains(&llama("num_key_value_heads", json!(3)), &["8", "3"]);
    assert_contains(&llama("head_dim", json!(7)), &["7", "even"]);
    assert_contains(&llama("head_dim", json!(16)), &["q_proj", "[64, 64]", "[128, 64]"]);
    assert_contains(&llama("hidden_size", json!(-1)), &["hidden_size", "-1"]);
    assert_contains(&llama("hidden_size", json!(64.5)), &["hidden_size", "64.5"]);
    assert_contains(&llama("hidden_size", json!(null)), &["hidden_size", "missing"]);
    assert_contains(&llama("vocab_size", json!(1_000_000)), &["embed_tokens", "[512, 64]", "[1000000, 64]"]);
    assert_contains(&llama("max_position_embeddings", json!(1u64 << 50)), &["max_position_embeddings"]);
    assert_contains(&llama("num_hidden_layers", json!(1_000_000_000)), &["num_hidden_layers"]);
    assert_contains(&llama("num_hidden_layers", json!(16_000_000)), &["layers.5.", "missing"]);
    assert_contains(&llama("rope_theta", json!("big")), &["rope_theta"]);
    assert_contains(&llama("rms_norm_eps", json!(-1e-5)), &["rms_norm_eps"]);
    assert_contains(&llama("tie_word_embeddings", json!(false)), &["lm_head.weight", "missing"]);
    assert_contains(&llama("tie_word_embeddings", json!(1)), &["tie_word_embeddings"]);
    assert_contains(&llama("attention_bias", json!(true)), &["q_proj.bias", "missing"]);
    assert_contains(&llama("eos_token_id", json!("</s>")), &["eos_token_id"]);
    assert_contains(
        &gpt2("scale_attn_by_inverse_layer_idx", json!(1)),
        &["scale_attn_by_inverse_layer_idx", "want true or false"],
    );
    assert_contains(&gpt2("add_cross_attention", json!(true)), &["add_cross_attention"]);
    assert_contains(&gpt2("n_head", json!(5)), &["n_embd", "48", "5"]);
    assert_contains(
        &gpt2("activation_function", json!("tanhshrink")),
        &["activation_function", "tanhshrink"],
    );
    assert_contains(&gpt2("n_positions", json!(12)), &["wpe", "[11, 48]", "[12, 48]"]);
}

#[test]
fn model_folders_with_missing_or_broken_parts() {
    let folder = with_config(&stories(), |_| ());
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", b"{}");
    assert_contains(&load_error(&folder), &["tokenizer.json is not a tokenizer"]);
    write("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\n");
    assert_contains(&load_error(&folder), &["tokenizer.json", "git-lfs"]);
    write("config.json", b"{\"a\": ");
    assert_contains(&load_error(&folder), &["config.json is not valid JSON"]);
    write("config.json", b"\xff\xfe");
    assert_contains(&load_error(&folder), &["config.json", "not UTF-8"]);
    write("config.json", b"[]");
    assert_contains(&load_error(&folder), &["want a JSON object"]);
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_contains(&load_error(&folder), &["has no weights", "model.safetensors", "pytorch_model.bin"]);
    write("model.safetensors.index.json", b"{}");
    assert_contains(&load_error(&folder), &["model.safetensors.index.json", "no `weight_map`"]);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_contains(&load_error(&folder), &["no config.json"]);
    assert!(matches!(Model::load(&folder.path().join("nowhere")), Err(Error::Io { .. })));
    let plain = Model::load(&stories().join("model.safetensors")).unwrap_err().to_string();
    assert_contains(&plain, &["plain tensor file", "config.json"]);
    assert!(Tokenizer::open(&folder.path().join("none.json")).is_err());
}

#[test]
fn weights_that_do_not_fit() {
    let name = "model.layers.2.mlp.down_proj.weight";
    let missing = with_weights(&stories(), |header, _| {
        let entry = header.as_object_mut().unwrap().shift_remove(name).unwrap();
        header["model.layers.2.mlp.down_porj.weight"] = entry;
    });
    assert_contains(&load_error(&missing), &[name, "missing", "near names", "[64, 172]"]);
    let turned = with_weights(&stories(), |header, _| header[name]["shape"] = json!([172, 64]));
    assert_contains(&load_error(&turned), &[name, "[172, 64]", "[64, 172]"]);
    let integer = with_weights(&stories(), |header, _| header[name]["dtype"] = json!("I32"));
    assert_contains(&load_error(&integer), &[name, "I32", "F32, F16 or BF16"]);
}

#[test]
fn values_that_are_no_numbers() {
    for (tensor, bad) in [
        ("model.layers.2.mlp.down_proj.weight", f32::NAN),
        ("model.norm.weight", f32::INFINITY),
        ("model.embed_tokens.weight", f32::NEG_INFINITY),
    ] {
        let folder = with_weights(&stories(), |header, data| {
            let begin = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
            data[begin + 4 * 63..][..4].copy_from_slice(&bad.to_le_bytes());
        });
        let model = Model::load(folder.path()).unwrap();
        let id = model.graph().weights.iter().position(|weight| weight.tensor == tensor).unwrap();
        let message = match model.graph().weights[id].role {
            Role::Vector => model.vector(id).unwrap_err().to_string(),
            _ => model.packed(id, "int8".parse().unwrap()).unwrap_err().to_string(),
        };
        assert_contains(&message, &[tensor, &bad.to_string(), "index ["]);
        let output = folder.path().join("out.safetensors");
        let spec: Spec = "int4".parse().unwrap();
        let input = folder.path().join("model.safetensors");
        if tensor != "model.norm.weight" {
            let result = quantize_file(&input, &output, false, &mut |_| Ok(Some(spec)), &mut |_| ());
            assert_contains(&result.unwrap_err().to_string(), &[tensor, "finite"]);
        }
        assert_only(folder.path(), &["config.json", "model.safetensors"]);
    }
}
