//! A model as a GGUF file.

use super::blocks::{self, Tensor};
use super::writer::{Entry, GgufWriter, Item};
use super::{Exported, Report, tokenizer};
use crate::error::{Error, Result, invalid};
use crate::format::{Format, Packed};
use crate::graph::{Assignment, Role, Weights};
use crate::model::Model;
use crate::model::checkpoint::gguf::Architecture;
use crate::model::checkpoint::gguf::names::{Change, Name, names};
use crate::model::checkpoint::gguf::rope::{FACTORS, Llama3};
use crate::model::checkpoint::{Dtype, Element, half_rotated};
use crate::model::family::architecture_name;
use crate::model::quantize::Progress;
use crate::model::writer::f32_bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Writes `model` under `assignment` to the GGUF file `output`: every matrix in the type of ggml that holds exactly what
/// its format holds, vectors in f32, sizes and tokenizer as metadata.
///
/// A matrix whose format has no such type is an error, or is rounded again to `fallback` (f16, q8_0, …) and reported.
///
/// # Errors
/// When a format has no equal type and there is no fallback, GGUF cannot describe the model or its tokenizer, a weight
/// is damaged, or the output cannot be written.
pub fn export_gguf(
    model: &Model,
    assignment: &Assignment,
    fallback: Option<Format>,
    output: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let config = Description::new(model)?;
    let mut metadata = config.entries(model)?;
    let graph = model.graph();
    if let Some(text) = model.tokenizer_text() {
        metadata.extend(tokenizer::entries(text, graph.token_count(), model.bos(), &model.eos())?);
        let template = model.chat_template()?;
        metadata.extend(
            template.map(|template| {
                Entry::new("tokenizer.chat_template", Item::Text(template.source().to_owned()))
            }),
        );
    }
    let all = names(config.architecture, config.layers);
    let by_name: HashMap<&str, &Name> = all.iter().map(|name| (name.hugging_face.as_str(), name)).collect();
    let mut planned = Vec::with_capacity(graph.weights.len());
    let mut found = Vec::with_capacity(graph.weights.len());
    for weight in &graph.weights {
        let Some(name) = find(&by_name, &weight.tensor) else {
            invalid!("tensor `{}` has no name in GGUF for {}", weight.tensor, config.architecture.name());
        };
        let shape =
            if weight.role == Role::Vector { vec![weight.cols] } else { vec![weight.rows, weight.cols] };
        planned.push((name.gguf.clone(), shape));
        found.push(name);
    }
    let divisors = config.divisors()?;
    if let Some(divisors) = &divisors {
        planned.push((FACTORS.to_owned(), vec![divisors.len()]));
    }
    let mut writer = GgufWriter::create(output, metadata, planned)?;
    let mut report = Report::default();
    for (id, (weight, name)) in graph.weights.iter().zip(found).enumerate() {
        progress(Progress { done: id, total: graph.weights.len(), tensor: &weight.tensor });
        let spec = assignment.specs[id];
        let mut fell_back = false;
        let mut tensor = if weight.role == Role::Vector {
            Tensor { element: Element::Plain(Dtype::F32), bytes: f32_bytes(&model.vector(id)?) }
        } else {
            let packed = model.packed(id, spec.weight)?;
            match blocks::exact(&packed)? {
                Some(tensor) => tensor,
                None => {
                    fell_back = true;
                    rounded_again(&packed, fallback, &weight.tensor)?
                }
            }
        };
        if let Change::Rotated { queries } = name.change {
            let heads = if queries { config.heads } else { config.kv_heads };
            tensor.bytes = in_pairs(&tensor.bytes, heads, config.head_dim);
        }
        report.tensors.push(Exported {
            name: name.gguf.clone(),
            spec: (weight.role != Role::Vector).then_some(spec),
            stored: tensor.element,
            bytes: tensor.bytes.len(),
            fell_back,
        });
        writer.write(tensor.element, &tensor.bytes)?;
    }
    if let Some(divisors) = &divisors {
        writer.write(Element::Plain(Dtype::F32), &f32_bytes(divisors))?;
    }
    report.file_bytes = writer.finish()?;
    Ok(report)
}

/// The matrix in the format that was chosen for what ggml does not have.
fn rounded_again(packed: &Packed, fallback: Option<Format>, tensor: &str) -> Result<Tensor> {
    let Some(format) = fallback else {
        invalid!(
            "tensor `{tensor}` is in {}, of which ggml has no equal; choose a format that it has (f16, q8_0, q4_k, \
             int4(group=32), …), or allow another rounding with --fallback f16 or --fallback q8_0",
            packed.format
        );
    };
    let in_tensor = |error| Error::Invalid(format!("tensor `{tensor}`: {error}"));
    let again = format.encode(&packed.decode(), packed.rows, packed.cols).map_err(in_tensor)?;
    match blocks::exact(&again)? {
        Some(tensor) => Ok(tensor),
        None => invalid!("the fallback {format} has no equal in ggml; want one such as f16 or q8_0"),
    }
}

/// Rows from halves of a head to neighbouring pairs.
fn in_pairs(bytes: &[u8], heads: usize, head_dim: usize) -> Vec<u8> {
    let order = half_rotated(heads, head_dim);
    let len = bytes.len() / order.len().max(1);
    let mut out = vec![0; bytes.len()];
    for (row, &pair) in bytes.chunks(len.max(1)).zip(&order) {
        out[pair as usize * len..][..len].copy_from_slice(row);
    }
    out
}

/// The name of a tensor, with or without the prefix of the family, or in the words of the first BERT files.
fn find<'a>(names: &HashMap<&str, &'a Name>, tensor: &str) -> Option<&'a Name> {
    let new =
        tensor.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
    ["", "transformer.", "bert."]
        .iter()
        .find_map(|prefix| names.get(format!("{prefix}{new}").as_str()).copied())
}

/// What the config says.
struct Description {
    config: Value,
    architecture: Architecture,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Description {
    fn new(model: &Model) -> Result<Self> {
        let config: Value = serde_json::from_str(model.config_text())
            .map_err(|error| Error::Invalid(format!("config.json: {error}")))?;
        let name = architecture_name(&config).unwrap_or_default();
        let architecture = match name.as_str() {
            "LlamaForCausalLM" | "MistralForCausalLM" | "llama" | "mistral" => Architecture::Llama,
            "Qwen2ForCausalLM" | "qwen2" => Architecture::Qwen2,
            "Qwen3ForCausalLM" | "qwen3" => Architecture::Qwen3,
            "GPT2LMHeadModel" | "gpt2" => Architecture::Gpt2,
            name if name.starts_with("Bert") && name != "BertForMaskedLM" => Architecture::Bert,
            "bert" => Architecture::Bert,
            _ => invalid!(
                "{name} cannot be exported to GGUF; exported are Llama, Mistral, Qwen2, Qwen3, GPT-2 and BERT without a \
                 masked language model's head"
            ),
        };
        let activation = match architecture {
            Architecture::Gpt2 => ("activation_function", ["gelu_new", "gelu_pytorch_tanh"]),
            Architecture::Bert => ("hidden_act", ["gelu", "gelu"]),
            _ => ("hidden_act", ["silu", "swish"]),
        };
        if let Some(value) = config[activation.0].as_str().filter(|value| !activation.1.contains(value)) {
            invalid!("`{}` is {value}; readers of GGUF take {} for granted", activation.0, activation.1[0]);
        }
        // What readers of GGUF take for granted about the scores of GPT-2.
        for (key, wanted) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)] {
            if config[key].as_bool().is_some_and(|value| value != wanted) {
                invalid!("`{key}` is {}; readers of GGUF take {wanted} for granted", !wanted);
            }
        }
        let is_windowed =
            architecture != Architecture::Llama && config["use_sliding_window"] == Value::Bool(true);
        let types = config["layer_types"].as_array();
        if is_windowed || types.is_some_and(|types| types.iter().any(|kind| kind != "full_attention")) {
            invalid!("windows of some layers cannot be said in a GGUF file of {}", architecture.name());
        }
        let size = |names: [&str; 2]| {
            let value = names.iter().find_map(|name| config[*name].as_u64());
            value.map(|value| value as usize)
        };
        let required = |names: [&str; 2]| {
            size(names).ok_or_else(|| Error::Invalid(format!("config.json: `{}` is missing", names[0])))
        };
        let heads = required(["num_attention_heads", "n_head"])?;
        let hidden = required(["hidden_size", "n_embd"])?;
        let head_dim = size(["head_dim", "head_dim"]);
        // Where Qwen3's config is silent, a head has 128 dimensions.
        let usual = if architecture == Architecture::Qwen3 { 128 } else { hidden / heads.max(1) };
        Ok(Self {
            layers: required(["num_hidden_layers", "n_layer"])?,
            heads,
            kv_heads: size(["num_key_value_heads", "num_key_value_heads"]).unwrap_or(heads),
            head_dim: head_dim.unwrap_or(usual),
            architecture,
            config,
        })
    }

    fn number(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.config[*name].as_f64())
    }

    fn scaling(&self) -> (&Value, &str) {
        let value = ["rope_scaling", "rope_parameters"].iter().map(|key| &self.config[*key]);
        let value = value.into_iter().find(|value| value.is_object()).unwrap_or(&Value::Null);
        let kind = value["rope_type"].as_str().or_else(|| value["type"].as_str());
        (value, kind.unwrap_or("default"))
    }

    fn theta(&self) -> f64 {
        self.scaling().0["rope_theta"].as_f64().or_else(|| self.number(&["rope_theta"])).unwrap_or(10000.0)
    }

    /// Divisors of the frequencies of Llama 3.1.
    fn divisors(&self) -> Result<Option<Vec<f32>>> {
        let (value, kind) = self.scaling();
        if kind != "llama3" {
            return Ok(None);
        }
        let number = |key: &str| match value[key].as_f64() {
            Some(number) => Ok(number),
            None => invalid!("config.json: `rope_scaling.{key}` is missing"),
        };
        let llama3 = Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        };
        Ok(Some(llama3.divisors(self.theta(), self.head_dim)))
    }

    fn entries(&self, model: &Model) -> Result<Vec<Entry>> {
        let name = self.architecture.name();
        let mut entries = vec![
            Entry::new("general.architecture", Item::Text(name.to_owned())),
            Entry::new("general.name", Item::Text(model.name().to_owned())),
            Entry::new("general.quantization_version", Item::U32(2)),
        ];
        let mut size = |key: &str, value: usize| {
            entries.push(Entry::new(&format!("{name}.{key}"), Item::U32(value as u32)));
        };
        let hidden = self.number(&["hidden_size", "n_embd"]).unwrap_or(0.0) as usize;
        let inner = self.number(&["intermediate_size", "n_inner"]).map_or(4 * hidden, |inner| inner as usize);
        size("context_length", model.graph().context);
        size("embedding_length", hidden);
        size("block_count", self.layers);
        size("feed_forward_length", inner);
        size("attention.head_count", self.heads);
        let float = |entries: &mut Vec<Entry>, key: &str, value: f64| {
            entries.push(Entry::new(&format!("{name}.{key}"), Item::F32(value as f32)));
        };
        match self.architecture {
            Architecture::Gpt2 | Architecture::Bert => {
                let usual = if self.architecture == Architecture::Bert { 1e-12 } else { 1e-5 };
                let eps = self.number(&["layer_norm_epsilon", "layer_norm_eps"]).unwrap_or(usual);
                float(&mut entries, "attention.layer_norm_epsilon", eps);
                if self.architecture == Architecture::Bert {
                    entries.push(Entry::new("bert.attention.causal", Item::Bool(false)));
                    self.labels(model, &mut entries);
                }
            }
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => {
                size("attention.head_count_kv", self.kv_heads);
                size("attention.key_length", self.head_dim);
                size("attention.value_length", self.head_dim);
                size("rope.dimension_count", self.head_dim);
                let window = self.config["sliding_window"].as_u64();
                if let Some(window) = window.filter(|_| self.architecture == Architecture::Llama) {
                    size("attention.sliding_window", window as usize);
                }
                float(
                    &mut entries,
                    "attention.layer_norm_rms_epsilon",
                    self.number(&["rms_norm_eps"]).unwrap_or(1e-6),
                );
                float(&mut entries, "rope.freq_base", self.theta());
                self.scaling_entries(&mut entries)?;
            }
        }
        Ok(entries)
    }

    /// How a classifier is pooled and what its classes are called.
    fn labels(&self, model: &Model, entries: &mut Vec<Entry>) {
        let classifies = model.graph().weights.iter().any(|weight| weight.tensor == "classifier.weight");
        // 4: the first token through the classifier; 2: the first token as it is.
        entries.push(Entry::new("bert.pooling_type", Item::U32(if classifies { 4 } else { 2 })));
        let Some(labels) = self.config["id2label"].as_object().filter(|_| classifies) else { return };
        let mut labels: Vec<(usize, &str)> =
            labels.iter().filter_map(|(id, name)| Some((id.parse().ok()?, name.as_str()?))).collect();
        labels.sort_unstable();
        let labels = labels.into_iter().map(|(_, name)| name.to_owned()).collect();
        entries.push(Entry::new("bert.classifier.output_labels", Item::Texts(labels)));
    }

    fn scaling_entries(&self, entries: &mut Vec<Entry>) -> Result<()> {
        let name = self.architecture.name();
        let (value, kind) = self.scaling();
        let mut put =
            |key: &str, item: Item| entries.push(Entry::new(&format!("{name}.rope.scaling.{key}"), item));
        match (kind, value["factor"].as_f64()) {
            ("default" | "llama3", _) => {}
            ("linear", Some(factor)) => {
                put("type", Item::Text("linear".to_owned()));
                put("factor", Item::F32(factor as f32));
            }
            ("yarn", Some(factor)) => {
                let usual = 1.0 + 0.1 * factor.ln();
                if value["truncate"] == Value::Bool(false) {
                    invalid!("config.json: `rope_scaling` is {value}, which GGUF cannot say");
                }
                let some = |key: &str| value[key].as_f64().filter(|number| *number != 0.0);
                let length = |scale: f64| 1.0 + 0.1 * scale * factor.ln();
                let attention = match (some("attention_factor"), some("mscale"), some("mscale_all_dim")) {
                    (Some(attention), ..) => attention,
                    (None, Some(one), Some(all)) => length(one) / length(all),
                    _ => usual,
                };
                let original = value["original_max_position_embeddings"].as_u64();
                let original = original.or_else(|| self.config["max_position_embeddings"].as_u64());
                put("type", Item::Text("yarn".to_owned()));
                put("factor", Item::F32(factor as f32));
                put("original_context_length", Item::U32(original.unwrap_or(0) as u32));
                if attention != usual {
                    put("attn_factor", Item::F32((attention / usual) as f32));
                }
                for (key, own) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                    if let Some(value) = value[own].as_f64() {
                        put(key, Item::F32(value as f32));
                    }
                }
            }
            _ => invalid!("config.json: `rope_scaling` is {value}, which GGUF cannot say"),
        }
        Ok(())
    }
}
