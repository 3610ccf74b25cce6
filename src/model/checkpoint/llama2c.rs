//! `.bin` files of [llama2.c](https://github.com/karpathy/llama2.c) by its `export.py`: version 0 (f32, no magic) and
//! version 1 (f32, 256 bytes of header). Version 2 holds q8_0 groups of a layout of its own and is refused.
//!
//! Both hold the tensors of a Llama model without names, one kind after another over all layers. Queries and keys are
//! rotated in neighbouring pairs there; the rows of their matrices are put in the order of Hugging Face's convention
//! (pairs half a head apart), which changes no value.

use super::{Dtype, Element, Order, Parts, Source, TensorInfo};
use crate::error::{Result, invalid};
use serde_json::{Map, Value, json};

/// `ak42`, the first word of versions 1 and up.
const MAGIC: u32 = 0x616b_3432;
/// Bytes of the header of versions 1 and up.
const LONG_HEADER: usize = 256;
/// Larger sizes are no sizes of a model.
const MAX_SIZE: usize = 1 << 24;

/// Sizes of the model.
pub(super) struct Header {
    version: u32,
    dim: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    context: usize,
    shared_head: bool,
    plausible: bool,
}

impl Header {
    fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Names, shapes and row orders in the order of the file; without a name what is not needed.
    fn tensors(&self) -> Vec<(Option<String>, Vec<usize>, Order)> {
        let &Self { dim, hidden, layers, heads, kv_heads, vocabulary, .. } = self;
        let kv = kv_heads * self.head_dim();
        let layer = |n: usize, what: &str| Some(format!("model.layers.{n}.{what}.weight"));
        let rotated = |heads: usize| Order::Rows(half_rotated(heads, self.head_dim()));
        let all = |what: &str, shape: &[usize], order: Order| -> Vec<_> {
            (0..layers).map(|n| (layer(n, what), shape.to_vec(), order.clone())).collect()
        };
        let embedding = (Some("model.embed_tokens.weight".to_owned()), vec![vocabulary, dim], Order::Whole);
        let norms = [
            all("input_layernorm", &[dim], Order::Whole),
            all("post_attention_layernorm", &[dim], Order::Whole),
        ];
        let attention = [
            all("self_attn.q_proj", &[dim, dim], rotated(heads)),
            all("self_attn.k_proj", &[kv, dim], rotated(kv_heads)),
            all("self_attn.v_proj", &[kv, dim], Order::Whole),
            all("self_attn.o_proj", &[dim, dim], Order::Whole),
        ];
        let mlp = [
            all("mlp.gate_proj", &[hidden, dim], Order::Whole),
            all("mlp.down_proj", &[dim, hidden], Order::Whole),
            all("mlp.up_proj", &[hidden, dim], Order::Whole),
        ];
        let norm = (Some("model.norm.weight".to_owned()), vec![dim], Order::Whole);
        let [input_norms, mlp_norms] = norms;
        let mut tensors = Vec::new();
        if self.version == 0 {
            tensors.push(embedding);
            tensors.extend(input_norms);
            tensors.extend(attention.into_iter().flatten());
            tensors.extend(mlp_norms);
            tensors.extend(mlp.into_iter().flatten());
            tensors.push(norm);
            // Cosines and sines of all positions.
            for _ in 0..2 {
                tensors.push((None, vec![self.context, self.head_dim() / 2], Order::Whole));
            }
        } else {
            tensors.extend(input_norms);
            tensors.extend(mlp_norms);
            tensors.push(norm);
            tensors.push(embedding);
            tensors.extend(attention.into_iter().flatten());
            tensors.extend(mlp.into_iter().flatten());
        }
        if !self.shared_head {
            tensors.push((Some("lm_head.weight".to_owned()), vec![vocabulary, dim], Order::Whole));
        }
        tensors
    }
}

/// Row `r` of a matrix whose heads are rotated in halves, as a row of one whose heads are rotated in pairs.
pub(crate) fn half_rotated(heads: usize, head_dim: usize) -> Vec<u32> {
    let half = head_dim / 2;
    let row = |r: usize| (r / head_dim * head_dim + r % half * 2 + r % head_dim / half) as u32;
    (0..heads * head_dim).map(row).collect()
}

/// The header, if `bytes` begin with one: the magic, or seven plausible sizes.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let word = |i: usize| Some(i32::from_le_bytes(*bytes.get(4 * i..)?.first_chunk()?));
    let (version, first) = match word(0)? as u32 {
        MAGIC => (word(1)? as u32, 2),
        _ => (0, 0),
    };
    let mut sizes = [0; 7];
    for (i, size) in sizes.iter_mut().enumerate() {
        *size = word(first + i)?;
    }
    let shared_head = match version {
        0 => sizes[5] > 0,
        _ => bytes.get(36).is_some_and(|&flag| flag != 0),
    };
    let sizes = sizes.map(|size| size.unsigned_abs() as usize);
    let [dim, hidden, layers, heads, kv_heads, vocabulary, context] = sizes;
    let plausible = sizes.iter().all(|size| (1..=MAX_SIZE).contains(size))
        && layers <= 1 << 12
        && dim.is_multiple_of(heads)
        && (dim / heads).is_multiple_of(2)
        && heads.is_multiple_of(kv_heads);
    let header =
        Header { version, dim, hidden, layers, heads, kv_heads, vocabulary, context, shared_head, plausible };
    (plausible || version > 0).then_some(header)
}

pub(super) fn parts(source: &Source, header: &Header) -> Result<Parts> {
    let (label, have) = (&source.label, source.bytes().len());
    let &Header { dim, hidden, layers, heads, kv_heads, vocabulary, context, .. } = header;
    if header.version > 1 {
        invalid!(
            "{label} is a llama2.c file of version {}; versions 0 and 1 (f32) can be read: export the model again with \
             --version 1",
            header.version
        );
    }
    let mut at = if header.version == 0 { 28 } else { LONG_HEADER };
    let sizes = || {
        format!(
            "dim {dim}, hidden {hidden}, {layers} layers, {heads} heads, {kv_heads} KV heads, vocabulary {vocabulary}, \
             context {context}"
        )
    };
    // Before anything is allocated by these sizes: the smallest tensor of each kind alone must fit.
    let least = [dim.checked_mul(dim), hidden.checked_mul(dim), vocabulary.checked_mul(dim)]
        .into_iter()
        .try_fold(0usize, |sum, size| sum.checked_add(size?));
    if !header.plausible || least.is_none_or(|least| least > have / 4) {
        invalid!(
            "{label} has {have} bytes and states sizes that do not fit it ({}); it is truncated or damaged",
            sizes()
        );
    }
    let mut tensors = Vec::new();
    for (name, shape, order) in header.tensors() {
        let len = super::byte_len(&shape, Dtype::F32);
        let Some(end) = len.and_then(|len| at.checked_add(len)).filter(|&end| end <= have) else {
            invalid!(
                "{label} is truncated or not a llama2.c file: {} of shape {shape:?} begins at byte {at} of {have} ({})",
                name.as_deref().unwrap_or("the rotation table"),
                sizes()
            );
        };
        let element = Element::Plain(Dtype::F32);
        tensors.extend(name.map(|name| TensorInfo {
            name,
            element,
            shape,
            source: 0,
            range: at..end,
            order,
        }));
        at = end;
    }
    if at != have {
        invalid!("{label} is not a llama2.c file: {} bytes follow the last tensor ({})", have - at, sizes());
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": header.shared_head,
        "bos_token_id": 1,
        "eos_token_id": [1, 2],
    });
    let metadata = Map::from_iter([("anybit.config".to_owned(), Value::String(config.to_string()))]);
    Ok(Parts { tensors, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves() {
        // Two heads of 6: pairs (0, 1), (2, 3), (4, 5) become (0, 3), (1, 4), (2, 5).
        assert_eq!(half_rotated(2, 6), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
