//! The paragraph of `anybit inspect`: why a model is not simply bits/32 of its f32 size.

use anybit::eval::{TensorKind, TensorMemory};

use super::common::bytes;
use super::inspect::Subject;

/// One paragraph computed from the accounting.
pub(crate) fn explain(subject: &Subject) -> String {
    let memory = &subject.memory;
    let f32_bits = memory.f32_bytes as f64 * 8.0;
    let percent = |bits: u64| bits as f64 / f32_bits * 100.0;
    let total = format!(
        "The weights take {} of {} in f32: {:.2} %, {:.3} bits per weight.",
        bytes(memory.bytes),
        bytes(memory.f32_bytes),
        percent(memory.bytes * 8),
        memory.model_bits_per_weight
    );
    let mut text = vec![total];
    let quantized = || memory.tensors.iter().filter(|t| t.quantized);
    let weights: u64 = quantized().map(TensorMemory::weights).sum();
    let sum = |f: fn(&TensorMemory) -> u64| quantized().map(f).sum::<u64>();
    let (codes, scales, padding) = (sum(|t| t.code_bits), sum(|t| t.scale_bits), sum(|t| t.padding_bits));
    if weights == 0 {
        text.push(
            "Nothing is quantized: every tensor keeps a float format; give --format to see what one saves."
                .into(),
        );
    } else {
        let per_weight = |bits: u64| bits as f64 / weights as f64;
        text.push(format!(
            "The codes of the {} quantized tensors alone, {:.3} bits per weight, would be {:.2} % of their f32 size.",
            quantized().count(),
            per_weight(codes),
            per_weight(codes) / 32.0 * 100.0
        ));
        let mut more = Vec::new();
        if scales > 0 {
            more.push(format!("scales add {:.4} bits to each of their weights", per_weight(scales)));
        }
        if padding > 0 {
            more.push(format!("padding to whole words adds {:.4}", per_weight(padding)));
        } else {
            more.push("no bit is lost to padding".to_owned());
        }
        text.push(format!(
            "{}, so that they are stored in {:.4} bits per weight.",
            capitalized(&more.join(" and ")),
            per_weight(codes + scales + padding)
        ));
        text.extend(unquantized(subject));
    }
    if let Some((sequences, context)) = subject.run {
        let running = memory.bytes + memory.kv_cache_bytes + memory.activation_bytes;
        let many = if sequences == 1 { "one sequence" } else { "the sequences" };
        text.push(format!(
            "At run time the KV cache of {} ({many} of {context} tokens) and activations of up to {} stay in f32 \
             whatever the weights are: with them the total is {}, of which weights are {:.1} %.",
            bytes(memory.kv_cache_bytes),
            bytes(memory.activation_bytes),
            bytes(running),
            memory.bytes as f64 / running.max(1) as f64 * 100.0
        ));
    }
    text.join(" ")
}

/// What is left in a float format, and what share of the weights and of the bytes it has.
fn unquantized(subject: &Subject) -> Option<String> {
    let memory = &subject.memory;
    let kinds = [
        (TensorKind::Embedding, "embeddings"),
        (TensorKind::Head, "the head"),
        (TensorKind::Vector, "norms and biases"),
        (TensorKind::Linear, "linears"),
        (TensorKind::Other, "other tensors"),
    ];
    let left = || memory.tensors.iter().filter(|t| !t.quantized);
    let mut parts = Vec::new();
    for (kind, name) in kinds {
        let of_kind = || left().filter(move |t| t.kind == kind);
        let mut specs: Vec<_> = of_kind().map(|t| t.spec.as_str()).collect();
        specs.sort_unstable();
        specs.dedup();
        if !specs.is_empty() {
            let size: u64 = of_kind().map(|t| t.bytes).sum();
            parts.push(format!("{name} ({}, {})", specs.join(" and "), bytes(size)));
        }
    }
    let last = parts.pop()?;
    let list = if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) };
    let weights: u64 = left().map(TensorMemory::weights).sum();
    let size: u64 = left().map(|t| t.bytes).sum();
    Some(format!(
        "Not quantized: {list}; they hold {:.1} % of the weights and {:.1} % of the stored bytes.",
        weights as f64 / (memory.f32_bytes.max(1) as f64 / 4.0) * 100.0,
        size as f64 / memory.bytes.max(1) as f64 * 100.0
    ))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
