//! GGUF, the files of llama.cpp: tensors in ggml's formats, the sizes of the model and its tokenizer in one file.
//!
//! A model of a known architecture gets the names, shapes and row order that Hugging Face's checkpoints have, a
//! `config.json` and a `tokenizer.json`; no value is rounded on the way. A file that is no such model keeps its own
//! names and says in the metadata `anybit.refused` why it cannot run.

mod config;
pub(crate) mod header;
mod meta;
pub(crate) mod names;
pub(crate) mod rope;
mod tokenizer;

use super::{Element, Order, Parts, Source, TensorInfo, half_rotated};
use crate::error::{Error, Result, invalid};
use config::Tensors;
use header::Tensor;
use meta::Meta;
use names::{Change, Name};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Metadata key for why a file is not a model that runs.
pub(crate) const REFUSED: &str = "anybit.refused";

/// Values of `general.architecture` that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gpt2,
    Bert,
}

impl Architecture {
    const ALL: [Self; 5] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gpt2, Self::Bert];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
            Self::Bert => "bert",
        }
    }
}

pub(super) fn parts(source: &Source) -> Result<Parts> {
    let label = source.label.as_str();
    let header = header::read(source.bytes(), label)?;
    match model(source, &header) {
        Ok(parts) => Ok(parts),
        Err(Error::Invalid(reason)) => {
            let tensors = header.tensors.into_iter().map(|tensor| info(tensor, Order::Whole)).collect();
            let metadata = Map::from_iter([(REFUSED.to_owned(), Value::String(reason))]);
            Ok(Parts { tensors, metadata })
        }
        Err(error) => Err(error),
    }
}

fn info(tensor: Tensor, order: Order) -> TensorInfo {
    let Tensor { name, element, shape, range } = tensor;
    TensorInfo { name, element, shape, source: 0, range, order }
}

/// The file as a Hugging Face checkpoint.
fn model(source: &Source, header: &header::Header) -> Result<Parts> {
    let label = source.label.as_str();
    let meta = Meta::new(&header.metadata, label);
    if let Some(count) = meta.number("split.count")?.filter(|&count| count > 1) {
        invalid!("{label} is one of {count} parts of a model; join them with llama-gguf-split --merge");
    }
    let name = meta.text("general.architecture")?.unwrap_or("missing");
    let Some(architecture) = Architecture::ALL.into_iter().find(|known| known.name() == name) else {
        let known: Vec<&str> = Architecture::ALL.iter().map(|known| known.name()).collect();
        invalid!("{label}: the architecture {name} is not supported; supported are {}", known.join(", "));
    };
    let tensors: Tensors<'_> = header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut described = config::describe(architecture, &meta, &tensors)?;
    if let Some(tensor) = tensors.get(rope::FACTORS) {
        let bytes = &source.bytes()[tensor.range.clone()];
        let divisors = super::values::widened(bytes, tensor.element);
        let theta = described.config["rope_theta"].as_f64().unwrap_or(10000.0);
        described.config["rope_scaling"] = rope::llama3(&divisors, theta, described.head_dim, label)?;
    }
    let names = names::names(architecture, described.layers);
    let by_gguf: HashMap<&str, &Name> = names.iter().map(|name| (name.gguf.as_str(), name)).collect();
    let mut infos = Vec::with_capacity(header.tensors.len());
    for tensor in &header.tensors {
        if tensor.name == rope::FACTORS {
            continue;
        }
        let Some(name) = by_gguf.get(tensor.name.as_str()) else {
            invalid!(
                "{label}: tensor `{}` belongs to no {name} model known here, and may change its results",
                tensor.name
            );
        };
        infos.push(renamed(tensor, name, &described, label)?);
    }
    let mut metadata = Map::new();
    metadata.insert("anybit.config".to_owned(), Value::String(described.config.to_string()));
    if let Some(text) = tokenizer::text(&meta)? {
        metadata.insert("anybit.tokenizer".to_owned(), Value::String(text));
    }
    if let Some(text) = meta.text("tokenizer.chat_template")? {
        metadata.insert("anybit.chat_template".to_owned(), Value::String(text.to_owned()));
        metadata
            .insert("anybit.tokenizer_config".to_owned(), Value::String(tokenizer::special_texts(&meta)?));
    }
    Ok(Parts { tensors: infos, metadata })
}

/// The tensor with its name and shape at Hugging Face.
fn renamed(tensor: &Tensor, name: &Name, described: &config::Described, label: &str) -> Result<TensorInfo> {
    let mut info = info(tensor.clone(), Order::Whole);
    info.name.clone_from(&name.hugging_face);
    match name.change {
        Change::None => {}
        Change::Rotated { queries } => {
            let heads = if queries { described.heads } else { described.kv_heads };
            let rows = info.shape.first().copied().unwrap_or(0);
            // The permutation has an entry for every row, so the rows must be there.
            if heads.checked_mul(described.head_dim) != Some(rows) || !described.head_dim.is_multiple_of(2) {
                invalid!(
                    "{label}: tensor `{}` has {rows} rows; want {heads} heads of {}",
                    tensor.name,
                    described.head_dim
                );
            }
            info.order = Order::Rows(half_rotated(heads, described.head_dim));
        }
        Change::Transposed => {
            let &[rows, cols] = &info.shape[..] else {
                invalid!("{label}: tensor `{}` has the shape {:?}; want a matrix", tensor.name, info.shape);
            };
            info.shape = vec![cols, rows];
            info.order = match info.element {
                Element::Plain(_) => Order::Strided(vec![1, cols]),
                Element::Ggml(_) => Order::Transposed,
            };
        }
    }
    Ok(info)
}
