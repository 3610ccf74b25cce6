//! Llama (Touvron et al. 2023): RMSNorm, rotary positions, grouped KV heads, SwiGLU.

use super::builder::Builder;
use super::config::{Config, positive};
use super::reader::Reader;
use crate::error::{Result, invalid};
use crate::graph::{Function, Graph, Mask, NodeId, Op, Role, WeightId};
use serde_json::{Value, json};

struct Sizes {
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f32,
    theta: f64,
    activation: Function,
    attention_bias: bool,
    mlp_bias: bool,
}

/// The graph of a `LlamaForCausalLM` whose tensors are in `reader`.
pub(crate) fn graph(config: &Config, reader: &Reader) -> Result<Graph> {
    let sizes = sizes(config)?;
    let vocabulary = config.size("vocab_size")?;
    let layers = config.size("num_hidden_layers")?;
    let context = config.size("max_position_embeddings")?;

    let mut b = Builder::new(reader);
    let table = b.matrix("model.embed_tokens.weight".into(), vocabulary, sizes.hidden, Role::Embedding)?;
    let mut x = b.graph.push("embed", Op::Embed { table }, &[], sizes.hidden);
    for layer in 0..layers {
        x = block(&mut b, &sizes, layer, x)?;
    }
    let norm = b.vector("model.norm.weight".into(), sizes.hidden)?;
    let head = match config.flag("tie_word_embeddings", false)? {
        true => table,
        false => b.matrix("lm_head.weight".into(), vocabulary, sizes.hidden, Role::Head)?,
    };
    // Norm and head are the costliest per row and most rows of a prompt do not need them.
    x = b.same_width("output_rows".into(), Op::OutputRows, &[x]);
    x = b.same_width("norm".into(), Op::RmsNorm { weight: norm, eps: sizes.eps }, &[x]);
    b.linear("lm_head".into(), x, head, None);
    b.graph.context = context;
    Ok(b.graph)
}

fn sizes(config: &Config) -> Result<Sizes> {
    for key in ["sliding_window", "quantization_config"] {
        config.require_neutral(key, &Value::Null)?;
    }
    config.require_neutral("partial_rotary_factor", &json!(1.0))?;
    let label = config.label();
    let hidden = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.optional_size("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        invalid!(
            "{label}: `num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {kv_heads}"
        );
    }
    let head_dim = match config.optional_size("head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            invalid!("{label}: `hidden_size` {hidden} is not a multiple of `num_attention_heads` {heads}")
        }
    };
    if !head_dim.is_multiple_of(2) {
        invalid!("{label}: the head dimension is {head_dim}; rotary positions want an even one");
    }
    Ok(Sizes {
        hidden,
        intermediate: config.size("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        eps: config.positive("rms_norm_eps", 1e-6)? as f32,
        theta: rope_theta(config)?,
        activation: config.function("hidden_act", Function::Silu)?,
        attention_bias: config.flag("attention_bias", false)?,
        mlp_bias: config.flag("mlp_bias", false)?,
    })
}

/// The base of the rotary frequencies. `rope_scaling` (and its successor `rope_parameters`) may be
/// there, but only to say that nothing is scaled.
fn rope_theta(config: &Config) -> Result<f64> {
    let mut theta = config.positive("rope_theta", 10000.0)?;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = config.get(key) else { continue };
        let kind = value.get("rope_type").or_else(|| value.get("type")).and_then(Value::as_str);
        if !(kind == Some("default") || (kind.is_none() && key == "rope_parameters" && value.is_object())) {
            invalid!(
                "{}: `{key}` is {value}; scaled rotary positions change the results and are not supported (want null)",
                config.label()
            );
        }
        if let Some(value) = value.get("rope_theta") {
            match positive(value) {
                Some(value) => theta = value,
                None => invalid!("{}: `{key}.rope_theta` is {value}; want a positive number", config.label()),
            }
        }
    }
    Ok(theta)
}

/// `1 / theta^(2i / d)` for `i < d/2`, rounded to f32 where Hugging Face's f32 arithmetic rounds.
fn inverse_frequency(theta: f64, head_dim: usize) -> Vec<f32> {
    let frequency = |i: usize| {
        let exponent = (2 * i) as f32 / head_dim as f32;
        1.0 / (theta.powf(f64::from(exponent)) as f32)
    };
    (0..head_dim / 2).map(frequency).collect()
}

fn block(b: &mut Builder<'_>, sizes: &Sizes, layer: usize, x: NodeId) -> Result<NodeId> {
    let &Sizes { hidden, intermediate, heads, kv_heads, head_dim, eps, .. } = sizes;
    let tensor = |suffix: &str| format!("model.layers.{layer}.{suffix}.weight");
    let name = |suffix: &str| format!("layers.{layer}.{suffix}");
    let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);

    let weight = b.vector(tensor("input_layernorm"), hidden)?;
    let normed = b.same_width(name("input_norm"), Op::RmsNorm { weight, eps }, &[x]);
    let bias = sizes.attention_bias;
    let project = |b: &mut Builder<'_>, which: &str, input: NodeId, rows: usize, cols: usize| {
        linear(b, layer, &format!("self_attn.{which}"), input, rows, cols, bias)
    };
    let q = project(b, "q_proj", normed, q_width, hidden)?;
    let k = project(b, "k_proj", normed, kv_width, hidden)?;
    let v = project(b, "v_proj", normed, kv_width, hidden)?;
    // Allocated only now that the file has been seen to hold heads of this size.
    let inverse_frequency = inverse_frequency(sizes.theta, head_dim);
    let rope = |heads| Op::Rope { heads, head_dim, inverse_frequency: inverse_frequency.clone() };
    let q = b.same_width(name("self_attn.q_rope"), rope(heads), &[q]);
    let k = b.same_width(name("self_attn.k_rope"), rope(kv_heads), &[k]);
    let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
    let attention = Op::Attention { layer, heads, kv_heads, head_dim, scale, mask: Mask::Causal };
    let attended = b.same_width(name("self_attn.attention"), attention, &[q, k, v]);
    b.graph.kv_widths.push(kv_width);
    let o = project(b, "o_proj", attended, hidden, q_width)?;
    let x = b.same_width(name("attention_residual"), Op::Add, &[x, o]);

    let weight = b.vector(tensor("post_attention_layernorm"), hidden)?;
    let normed = b.same_width(name("post_attention_norm"), Op::RmsNorm { weight, eps }, &[x]);
    let bias = sizes.mlp_bias;
    let gate = linear(b, layer, "mlp.gate_proj", normed, intermediate, hidden, bias)?;
    let up = linear(b, layer, "mlp.up_proj", normed, intermediate, hidden, bias)?;
    let active = b.same_width(name("mlp.activation"), Op::Activate(sizes.activation), &[gate]);
    let product = b.same_width(name("mlp.product"), Op::Mul, &[active, up]);
    let down = linear(b, layer, "mlp.down_proj", product, hidden, intermediate, bias)?;
    Ok(b.same_width(name("mlp_residual"), Op::Add, &[x, down]))
}

fn linear(
    b: &mut Builder<'_>,
    layer: usize,
    which: &str,
    input: NodeId,
    rows: usize,
    cols: usize,
    has_bias: bool,
) -> Result<NodeId> {
    let tensor = format!("model.layers.{layer}.{which}");
    let weight = b.matrix(format!("{tensor}.weight"), rows, cols, Role::Linear)?;
    let bias: Option<WeightId> = match has_bias {
        true => Some(b.vector(format!("{tensor}.bias"), rows)?),
        false => None,
    };
    Ok(b.linear(format!("layers.{layer}.{which}"), input, weight, bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_frequencies_of_torch() {
        // torch: 1.0 / (10000.0 ** (torch.arange(0, 8, 2).float() / 8))
        assert_eq!(inverse_frequency(10000.0, 8), [1.0, 0.1, 0.01, 0.001]);
    }
}
