//! The model families: names in `config.json`, and what builds their graphs.

use super::config::Config;
use super::reader::Reader;
use super::task::Task;
use super::{bert, bignet, gpt2, llama};
use crate::error::{Result, invalid};
use crate::graph::Graph;
use serde_json::Value;

/// Builds the graph of a family.
pub(super) type Build = fn(&Config, &Reader) -> Result<Graph>;

/// What `architectures` of a config.json may name, the `model_type` that stands for it where it is missing, what the
/// model is for, and what builds its graph.
const FAMILIES: [(&str, Option<&str>, Task, Build); 10] = [
    ("LlamaForCausalLM", Some("llama"), Task::Generation, llama::llama),
    ("MistralForCausalLM", Some("mistral"), Task::Generation, llama::mistral),
    ("Qwen2ForCausalLM", Some("qwen2"), Task::Generation, llama::qwen2),
    ("Qwen3ForCausalLM", Some("qwen3"), Task::Generation, llama::qwen3),
    ("SmolLM3ForCausalLM", Some("smollm3"), Task::Generation, llama::smollm3),
    ("GPT2LMHeadModel", Some("gpt2"), Task::Generation, gpt2::graph),
    ("BertForSequenceClassification", None, Task::Classification, |config, reader| {
        bert::graph(config, reader, Task::Classification, None)
    }),
    ("BertForMaskedLM", None, Task::MaskedText, |config, reader| {
        bert::graph(config, reader, Task::MaskedText, None)
    }),
    ("BertModel", Some("bert"), Task::Encoding, |config, reader| {
        bert::graph(config, reader, Task::Encoding, None)
    }),
    ("BigNet", None, Task::Rows, bignet::graph),
];

/// The class that a config names, or else its kind of model.
pub(crate) fn architecture_name(config: &Value) -> Option<String> {
    let stated = config["architectures"].as_array().and_then(|list| list.first()?.as_str());
    stated.or_else(|| config["model_type"].as_str()).map(str::to_owned)
}

/// What the model of a config is for, and what builds its graph.
///
/// # Errors
/// When it is of no family here.
pub(super) fn family(config: &Config) -> Result<(Task, Build)> {
    let first = |value: &Value| value.as_array().and_then(|list| list.first()?.as_str().map(str::to_owned));
    let stated = config.get("architectures").and_then(first);
    let model_type = config.get("model_type").and_then(Value::as_str);
    let is_meant = |(architecture, of_type, ..): &&(&str, Option<&str>, Task, Build)| match &stated {
        Some(stated) => stated == architecture,
        None => model_type.is_some() && model_type == *of_type,
    };
    match FAMILIES.iter().find(is_meant) {
        Some((_, _, task, build)) => Ok((*task, *build)),
        None => invalid!(
            "{}: architecture {} is not supported; supported are {}",
            config.label(),
            stated.as_deref().or(model_type).unwrap_or("missing"),
            FAMILIES.map(|(architecture, ..)| architecture).join(", ")
        ),
    }
}
