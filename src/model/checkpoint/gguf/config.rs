//! The `config.json` that Hugging Face would have for the model of a GGUF file.

use super::Architecture;
use super::header::Tensor;
use super::meta::Meta;
use crate::error::{Result, invalid};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What the config says, and what else is needed to read the tensors.
pub(super) struct Described {
    pub(super) config: Value,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

/// Tensors by name.
pub(super) type Tensors<'a> = HashMap<&'a str, &'a Tensor>;

/// Reads all keys of the architecture; one that is left is an error.
///
/// # Errors
/// When a key is missing, of another type, or asks for something that is not supported.
pub(super) fn describe(
    architecture: Architecture,
    meta: &Meta<'_>,
    tensors: &Tensors<'_>,
) -> Result<Described> {
    let label = meta.label();
    let name = architecture.name();
    let key = |suffix: &str| format!("{name}.{suffix}");
    let size = |suffix: &str| meta.required_number(&key(suffix));
    let layers = size("block_count")?;
    // Every layer has tensors of its own.
    if layers > tensors.len() as u64 {
        invalid!(
            "{label}: `{}` is {layers}, the file holds only {} tensors",
            key("block_count"),
            tensors.len()
        );
    }
    let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let kv_heads = meta.number(&key("attention.head_count_kv"))?.unwrap_or(heads);
    let head_dim = head_dim(meta, &key, hidden, heads)?;
    let Some(&embedding) = tensors.get("token_embd.weight") else {
        invalid!("{label}: tensor `token_embd.weight` is missing");
    };
    // Known, and said by the tensors better.
    for suffix in ["vocab_size", "attention.value_length", "rope.dimension_count"] {
        meta.get(&key(suffix));
    }
    for suffix in ["expert_count", "expert_used_count"] {
        if let Some(count) = meta.number(&key(suffix))?.filter(|&count| count > 0) {
            invalid!("{label}: `{}` is {count}; mixtures of experts are not supported", key(suffix));
        }
    }
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| drop(config.insert(key.to_owned(), value));
    set("vocab_size", json!(embedding.shape.first().copied().unwrap_or(0)));
    if architecture != Architecture::Bert {
        set("tie_word_embeddings", json!(!tensors.contains_key("output.weight")));
    }
    set("bos_token_id", json!(meta.token("tokenizer.ggml.bos_token_id")?));
    let mut ends: Vec<u32> = Vec::new();
    for which in ["eos", "eot", "eom"] {
        let id = meta.token(&format!("tokenizer.ggml.{which}_token_id"))?;
        ends.extend(id.filter(|id| !ends.contains(id)));
    }
    set("eos_token_id", json!(ends));
    let bias = |tensor: &str| tensors.contains_key(format!("blk.0.{tensor}.bias").as_str());
    match architecture {
        Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => {
            let window = meta.number(&key("attention.sliding_window"))?.filter(|&window| window > 0);
            let class = match architecture {
                Architecture::Llama if window.is_some() => ("MistralForCausalLM", "mistral"),
                Architecture::Llama => ("LlamaForCausalLM", "llama"),
                Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
                _ => ("Qwen3ForCausalLM", "qwen3"),
            };
            set("architectures", json!([class.0]));
            set("model_type", json!(class.1));
            set("hidden_size", json!(hidden));
            set("intermediate_size", json!(size("feed_forward_length")?));
            set("num_hidden_layers", json!(layers));
            set("num_attention_heads", json!(heads));
            set("num_key_value_heads", json!(kv_heads));
            set("head_dim", json!(head_dim));
            set("hidden_act", json!("silu"));
            set("max_position_embeddings", json!(size("context_length")?));
            set("rms_norm_eps", json!(meta.required_float(&key("attention.layer_norm_rms_epsilon"))?));
            let theta = meta.float(&key("rope.freq_base"))?.unwrap_or(10000.0);
            set("rope_theta", json!(theta));
            let scaling = super::rope::scaling(meta, &key, tensors, head_dim as usize)?;
            set("rope_scaling", scaling);
            if let Some(window) = window {
                if architecture != Architecture::Llama {
                    invalid!("{label}: `{}` is {window}; want none", key("attention.sliding_window"));
                }
                set("sliding_window", json!(window));
            }
            let biases = [bias("attn_q"), bias("attn_k"), bias("attn_v"), bias("attn_output")];
            match (architecture, biases) {
                (Architecture::Qwen2, [true, true, true, false]) => {}
                (Architecture::Llama | Architecture::Qwen3, [q, k, v, o]) if q == k && q == v && q == o => {
                    if q {
                        set("attention_bias", json!(true));
                    }
                }
                _ => invalid!(
                    "{label}: biases of attn_q, attn_k, attn_v and attn_output are there: {biases:?}; this mix is not \
                     supported for {name}"
                ),
            }
            if bias("ffn_up") {
                set("mlp_bias", json!(true));
            }
        }
        Architecture::Gpt2 => {
            set("architectures", json!(["GPT2LMHeadModel"]));
            set("model_type", json!("gpt2"));
            set("n_embd", json!(hidden));
            set("n_head", json!(heads));
            set("n_layer", json!(layers));
            set("n_positions", json!(size("context_length")?));
            set("n_inner", json!(size("feed_forward_length")?));
            set("layer_norm_epsilon", json!(meta.required_float(&key("attention.layer_norm_epsilon"))?));
            set("activation_function", json!("gelu_new"));
        }
        Architecture::Bert => {
            if meta.flag(&key("attention.causal"))? == Some(true) {
                invalid!("{label}: `{}` is true; want an encoder", key("attention.causal"));
            }
            // How an embedding is formed is chosen when it is asked for.
            meta.get(&key("pooling_type"));
            let classifies = tensors.contains_key("cls.output.weight");
            set(
                "architectures",
                json!([if classifies { "BertForSequenceClassification" } else { "BertModel" }]),
            );
            set("model_type", json!("bert"));
            set("hidden_size", json!(hidden));
            set("intermediate_size", json!(size("feed_forward_length")?));
            set("num_hidden_layers", json!(layers));
            set("num_attention_heads", json!(heads));
            set("hidden_act", json!("gelu"));
            set("max_position_embeddings", json!(size("context_length")?));
            set("layer_norm_eps", json!(meta.required_float(&key("attention.layer_norm_epsilon"))?));
            let segments = tensors.get("token_types.weight").and_then(|tensor| tensor.shape.first());
            set("type_vocab_size", json!(segments.copied().unwrap_or(0)));
            if let Some(labels) = meta.texts(&key("classifier.output_labels"))? {
                let names = labels.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name)));
                set("id2label", Value::Object(names.collect()));
                let ids = labels.iter().enumerate().map(|(id, name)| ((*name).to_owned(), json!(id)));
                set("label2id", Value::Object(ids.collect()));
            }
        }
    }
    meta.refuse_unread(&format!("{name}."))?;
    let (heads, kv_heads, head_dim) = (heads as usize, kv_heads as usize, head_dim as usize);
    Ok(Described { config: Value::Object(config), layers: layers as usize, heads, kv_heads, head_dim })
}

/// Width of a head: that of the keys, which values and rotary positions must share.
fn head_dim(meta: &Meta<'_>, key: &dyn Fn(&str) -> String, hidden: u64, heads: u64) -> Result<u64> {
    let label = meta.label();
    let head_dim = match meta.number(&key("attention.key_length"))? {
        Some(length) => length,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => invalid!("{label}: the width {hidden} is not a multiple of the {heads} heads"),
    };
    for suffix in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = meta.number(&key(suffix))?.filter(|&other| other != head_dim) {
            invalid!(
                "{label}: `{}` is {other} where a head has {head_dim} dimensions; this is not supported",
                key(suffix)
            );
        }
    }
    Ok(head_dim)
}
