//! GGUF files and foreign tokenizers against the programs that made them: see `generate.py` and `vocabularies.py`.

mod damage;
mod export;
mod tokenizers;

use std::path::{Path, PathBuf};

use anybit::format::{Format, Spec};
use anybit::graph::{Assignment, Batch, Token, Weights};
use anybit::model::{Model, TensorFile};
use anybit::run::Runner;
use serde_json::Value;

/// Largest difference of a logit.
const TOLERANCE: f32 = 1e-4;

fn data(name: &str) -> PathBuf {
    Path::new("tests/data").join(name)
}

fn load(name: &str) -> Model {
    let path = data(&format!("gguf/{name}.gguf"));
    Model::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(data(path)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every weight as it is stored.
fn native(model: &Model) -> Assignment {
    Assignment { specs: model.native_formats().into_iter().map(Spec::from).collect() }
}

/// Logits of every token of `ids`, on the CPU.
fn logits(model: &Model, ids: &[u32]) -> Vec<f32> {
    let tokens: Vec<Token> = ids.iter().enumerate().map(|(i, &id)| Token::new(id, 0, i as u32)).collect();
    let outputs = (0..tokens.len() as u32).collect();
    let mut runner = Runner::reference(model.graph(), model, &native(model), 1).unwrap();
    runner.step(&Batch::new(tokens, outputs)).unwrap();
    runner.logits().unwrap()
}

/// Compares with `logits.N` of a file for the prompts of the families.
fn check(name: &str, golden: &Path) {
    let model = load(name);
    let file = TensorFile::open(golden).unwrap();
    let prompts = json("families/llama/golden.json")["prompts"].clone();
    for (index, prompt) in prompts.as_array().unwrap().iter().enumerate() {
        let want = file.widen(file.get(&format!("logits.{index}")).unwrap()).unwrap();
        let got = logits(&model, &ids(prompt));
        assert_eq!(got.len(), want.len(), "{name}");
        let largest = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}, prompt {index}: {largest:e}");
        assert!(largest <= TOLERANCE, "{name}, prompt {index}: a logit differs by {largest}");
    }
}

#[test]
fn families_give_the_logits_of_their_checkpoints() {
    for name in FAMILIES {
        check(name, &data(&format!("families/{name}/golden.safetensors")));
    }
}

// Not qwen2: that checkpoint has windows on some layers, which GGUF does not say.
const FAMILIES: [&str; 6] = ["llama", "llama3", "llama-linear", "llama-yarn", "qwen3", "gpt2"];

/// All block formats run as they are stored; the results are those of weights that ggml's own package has decoded.
#[test]
fn quantized_files_give_the_logits_of_their_decoded_weights() {
    for name in ["llama-mixed", "gpt2-q8_0"] {
        check(name, &data(&format!("gguf/{name}.safetensors")));
    }
    let model = load("llama-mixed");
    let formats: Vec<String> = model.native_formats().iter().map(Format::to_string).collect();
    let names = [
        "q4_0",
        "q8_0",
        "q4_k",
        "q5_k",
        "q6_k",
        "iq4_nl",
        "tq1_0",
        "tq2_0",
        "bf16",
        "int5(group=32)",
        "mxfp4",
    ];
    for name in names {
        assert!(formats.iter().any(|format| format == name), "{name} is not among {formats:?}");
    }
    assert!(model.stored_assignment().is_some());
    let packed = model.native_formats().iter().position(|format| format.to_string() == "q4_0").unwrap();
    let error = model.packed(packed, Format::F16).unwrap_err().to_string();
    assert!(error.contains("packed as") && error.contains("f16"), "{error}");
}

/// The file of another program, with queries and keys in pairs: bit for bit the model of the Hugging Face folder.
#[test]
fn stories_are_those_of_the_folder() {
    let gguf = load("stories260K");
    let folder = Model::load(&data("stories260k")).unwrap();
    let golden = json("stories260k/golden.json");
    let (a, b) = (gguf.graph(), folder.graph());
    assert_eq!(gguf.eos(), folder.eos());
    assert_eq!(gguf.bos(), folder.bos());
    assert_eq!(a.context, 128, "the file states its own context");
    for weight in &a.weights {
        let other = b.weights.iter().position(|w| w.tensor == weight.tensor);
        let own = a.weights.iter().position(|w| w.tensor == weight.tensor).unwrap();
        // The head of this file is a copy of the embedding.
        let other = other.unwrap_or(0);
        let same = match weight.rows {
            1 => gguf.vector(own).unwrap() == folder.vector(other).unwrap(),
            _ => gguf.packed(own, Format::F32).unwrap() == folder.packed(other, Format::F32).unwrap(),
        };
        assert!(same, "{}", weight.tensor);
    }
    let prompts = golden.as_object().unwrap();
    println!("{:?}", prompts.keys().collect::<Vec<_>>());
    let text = std::fs::read_to_string(data("tinystories_sample.txt")).unwrap();
    let stories: Vec<&str> = text.split("<|endoftext|>").map(str::trim).filter(|s| !s.is_empty()).collect();
    assert!(stories.len() > 1);
    for story in stories {
        let ids = gguf.encode_prompt(story).unwrap();
        assert_eq!(ids, folder.encode_prompt(story).unwrap());
        let ids = &ids[..ids.len().min(100)];
        assert_eq!(logits(&gguf, ids), logits(&folder, ids));
    }
}
