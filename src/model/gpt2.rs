//! GPT-2 (Radford et al. 2019): LayerNorm, learned positions, one matrix for q, k and v.

use super::builder::Builder;
use super::config::Config;
use super::reader::Reader;
use crate::error::{Result, invalid};
use crate::graph::{Function, Graph, Mask, NodeId, Op, Role};

struct Sizes {
    /// `transformer.` or nothing: both ways of naming tensors are around.
    prefix: &'static str,
    hidden: usize,
    inner: usize,
    heads: usize,
    eps: f32,
    scale: f64,
    /// Divides the scores of layer i by i + 1 besides.
    scale_by_layer: bool,
    activation: Function,
}

/// The graph of a `GPT2LMHeadModel` whose tensors are in `reader`.
pub(crate) fn graph(config: &Config, reader: &Reader) -> Result<Graph> {
    let sizes = sizes(config, reader)?;
    let prefix = sizes.prefix;
    let hidden = sizes.hidden;
    let vocabulary = config.size("vocab_size")?;
    let context = config.size("n_positions")?;
    let layers = config.size("n_layer")?;

    let mut b = Builder::new(reader);
    let table = b.matrix(format!("{prefix}wte.weight"), vocabulary, hidden, Role::Embedding)?;
    let positions = b.matrix(format!("{prefix}wpe.weight"), context, hidden, Role::Embedding)?;
    let token = b.graph.push("embed", Op::Embed { table }, &[], hidden);
    let position = b.graph.push("embed_position", Op::EmbedPosition { table: positions }, &[], hidden);
    let mut x = b.same_width("embed_sum".into(), Op::Add, &[token, position]);
    for layer in 0..layers {
        x = block(&mut b, &sizes, layer, x)?;
    }
    x = b.same_width("output_rows".into(), Op::OutputRows, &[x]);
    x = norm(&mut b, &sizes, "norm".into(), &format!("{prefix}ln_f"), x)?;
    let head = match config.flag("tie_word_embeddings", true)? {
        true => table,
        false => b.matrix("lm_head.weight".into(), vocabulary, hidden, Role::Head)?,
    };
    b.linear("lm_head".into(), x, head, None);
    b.graph.context = context;
    Ok(b.graph)
}

fn sizes(config: &Config, reader: &Reader) -> Result<Sizes> {
    // A left-over of the first files; the positions are `n_positions`.
    config.get("n_ctx");
    let hidden = config.size("n_embd")?;
    let heads = config.size("n_head")?;
    if !hidden.is_multiple_of(heads) {
        invalid!("{}: `n_embd` {hidden} is not a multiple of `n_head` {heads}", config.label());
    }
    let scale = match config.flag("scale_attn_weights", true)? {
        true => 1.0 / ((hidden / heads) as f64).sqrt(),
        false => 1.0,
    };
    let prefix = if reader.shape("wte.weight").is_some() { "" } else { "transformer." };
    Ok(Sizes {
        prefix,
        hidden,
        inner: config.optional_size("n_inner")?.unwrap_or(4 * hidden),
        heads,
        eps: config.positive("layer_norm_epsilon", 1e-5)? as f32,
        scale,
        scale_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
        activation: config.function("activation_function", Function::GeluTanh)?,
    })
}

fn norm(b: &mut Builder<'_>, sizes: &Sizes, name: String, tensor: &str, x: NodeId) -> Result<NodeId> {
    let weight = b.vector(format!("{tensor}.weight"), sizes.hidden)?;
    let bias = b.vector(format!("{tensor}.bias"), sizes.hidden)?;
    Ok(b.same_width(name, Op::LayerNorm { weight, bias, eps: sizes.eps }, &[x]))
}

fn block(b: &mut Builder<'_>, sizes: &Sizes, layer: usize, x: NodeId) -> Result<NodeId> {
    let &Sizes { prefix, hidden, inner, heads, .. } = sizes;
    let tensor = |suffix: &str| format!("{prefix}h.{layer}.{suffix}");
    let name = |suffix: &str| format!("layers.{layer}.{suffix}");
    let conv1d = |b: &mut Builder<'_>, which: &str, input: NodeId, rows: usize, cols: usize| {
        let weight = b.transposed(tensor(&format!("{which}.weight")), rows, cols)?;
        let bias = b.vector(tensor(&format!("{which}.bias")), rows)?;
        Ok(b.linear(name(which), input, weight, Some(bias)))
    };

    let normed = norm(b, sizes, name("ln_1"), &tensor("ln_1"), x)?;
    let qkv = conv1d(b, "attn.c_attn", normed, 3 * hidden, hidden)?;
    let part = |b: &mut Builder<'_>, which: &str, index: usize| {
        b.graph.push(name(which), Op::Slice { offset: index * hidden }, &[qkv], hidden)
    };
    let q = part(b, "attn.q", 0);
    let k = part(b, "attn.k", 1);
    let v = part(b, "attn.v", 2);
    let scale = if sizes.scale_by_layer { sizes.scale / (layer + 1) as f64 } else { sizes.scale } as f32;
    let attention =
        Op::Attention { layer, heads, kv_heads: heads, head_dim: hidden / heads, scale, mask: Mask::Causal };
    let attended = b.same_width(name("attn.attention"), attention, &[q, k, v]);
    b.graph.kv_widths.push(hidden);
    let o = conv1d(b, "attn.c_proj", attended, hidden, hidden)?;
    let x = b.same_width(name("attention_residual"), Op::Add, &[x, o]);

    let normed = norm(b, sizes, name("ln_2"), &tensor("ln_2"), x)?;
    let up = conv1d(b, "mlp.c_fc", normed, inner, hidden)?;
    let active = b.same_width(name("mlp.activation"), Op::Activate(sizes.activation), &[up]);
    let down = conv1d(b, "mlp.c_proj", active, hidden, inner)?;
    Ok(b.same_width(name("mlp_residual"), Op::Add, &[x, down]))
}
