//! BERT (Devlin et al. 2018): an encoder with normalization behind its sublayers, learned positions and segments.
//!
//! The block linears are those of the encoder layers. Pooler, classifier and the transform before a masked language
//! model's decoder are heads: they stay as they are stored.

use super::builder::Builder;
use super::config::Config;
use super::reader::Reader;
use super::task::{Encoding, Task};
use crate::error::{Result, invalid};
use crate::graph::{Function, Graph, Mask, NodeId, Op, Role};
use serde_json::{Value, json};

struct Sizes {
    /// `bert.` or nothing: encoders are published both ways.
    prefix: &'static str,
    hidden: usize,
    inner: usize,
    heads: usize,
    layers: usize,
    vocabulary: usize,
    eps: f32,
    activation: Function,
}

/// The graph of a BERT whose tensors are in `reader`, ending as `task` wants, or in `encoding` instead.
pub(crate) fn graph(
    config: &Config,
    reader: &Reader,
    task: Task,
    encoding: Option<Encoding>,
) -> Result<Graph> {
    let sizes = sizes(config, reader)?;
    let context = config.size("max_position_embeddings")?;
    let mut b = Builder::new(reader);
    let mut x = embeddings(&mut b, &sizes, context, config.optional_size("type_vocab_size")?.unwrap_or(2))?;
    // Nothing outlives a batch, so that all layers can use one cache.
    b.graph.kv_widths.push(sizes.hidden);
    for layer in 0..sizes.layers {
        x = block(&mut b, &sizes, layer, x)?;
    }
    x = b.same_width("output_rows".into(), Op::OutputRows, &[x]);
    // Matters to the decoder alone; other models have the key too.
    config.flag("tie_word_embeddings", true)?;
    match (encoding, task) {
        (Some(Encoding::Hidden), _) | (None, Task::Encoding) => {}
        (Some(Encoding::Pooler), _) => drop(pooler(&mut b, &sizes, x)?),
        (None, Task::MaskedText) => decoder(&mut b, &sizes, config, x)?,
        (None, _) => {
            let pooled = pooler(&mut b, &sizes, x)?;
            let classes = match reader.shape("classifier.weight") {
                Some((shape, _)) => shape.first().copied().unwrap_or(0),
                // Says what is missing.
                None => 2,
            };
            let weight = b.matrix("classifier.weight".into(), classes, sizes.hidden, Role::Head)?;
            let bias = b.vector("classifier.bias".into(), classes)?;
            b.linear("classifier".into(), pooled, weight, Some(bias));
        }
    }
    b.graph.context = context;
    Ok(b.graph)
}

fn sizes(config: &Config, reader: &Reader) -> Result<Sizes> {
    for key in ["is_decoder", "add_cross_attention"] {
        config.require_neutral(key, &json!(false))?;
    }
    config.require_neutral("position_embedding_type", &json!("absolute"))?;
    config.require_neutral("pruned_heads", &json!({}))?;
    config.require_neutral("problem_type", &json!("single_label_classification"))?;
    config.require_neutral("quantization_config", &Value::Null)?;
    let hidden = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    if !hidden.is_multiple_of(heads) {
        invalid!(
            "{}: `hidden_size` {hidden} is not a multiple of `num_attention_heads` {heads}",
            config.label()
        );
    }
    let bare = reader.shape("embeddings.word_embeddings.weight").is_some();
    Ok(Sizes {
        prefix: if bare { "" } else { "bert." },
        hidden,
        inner: config.size("intermediate_size")?,
        heads,
        layers: config.size("num_hidden_layers")?,
        vocabulary: config.size("vocab_size")?,
        eps: config.positive("layer_norm_eps", 1e-12)? as f32,
        activation: config.function("hidden_act", Function::Gelu)?,
    })
}

/// The sum of token, segment and position, normalized.
fn embeddings(b: &mut Builder<'_>, sizes: &Sizes, context: usize, segments: usize) -> Result<NodeId> {
    let &Sizes { prefix, hidden, vocabulary, .. } = sizes;
    let table = |b: &mut Builder<'_>, which: &str, rows: usize| {
        let tensor = format!("{prefix}embeddings.{which}_embeddings.weight");
        b.matrix(tensor, rows, hidden, Role::Embedding)
    };
    let words = table(b, "word", vocabulary)?;
    let kinds = table(b, "token_type", segments)?;
    let positions = table(b, "position", context)?;
    let word = b.graph.push("embed", Op::Embed { table: words }, &[], hidden);
    let kind = b.graph.push("embed_segment", Op::EmbedSegment { table: kinds }, &[], hidden);
    let position = b.graph.push("embed_position", Op::EmbedPosition { table: positions }, &[], hidden);
    let sum = b.same_width("embed_sum".into(), Op::Add, &[word, kind]);
    let sum = b.same_width("embed_position_sum".into(), Op::Add, &[sum, position]);
    norm(b, sizes, "embed_norm".into(), &format!("{prefix}embeddings.LayerNorm"), sum)
}

/// A LayerNorm; checkpoints converted from the original TensorFlow ones call its vectors gamma and beta.
fn norm(b: &mut Builder<'_>, sizes: &Sizes, name: String, tensor: &str, x: NodeId) -> Result<NodeId> {
    let old = b.has(&format!("{tensor}.gamma"));
    let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
    let weight = b.vector(format!("{tensor}.{weight}"), sizes.hidden)?;
    let bias = b.vector(format!("{tensor}.{bias}"), sizes.hidden)?;
    Ok(b.same_width(name, Op::LayerNorm { weight, bias, eps: sizes.eps }, &[x]))
}

fn block(b: &mut Builder<'_>, sizes: &Sizes, layer: usize, x: NodeId) -> Result<NodeId> {
    let &Sizes { prefix, hidden, inner, heads, .. } = sizes;
    let tensor = |suffix: &str| format!("{prefix}encoder.layer.{layer}.{suffix}");
    let name = |suffix: &str| format!("layers.{layer}.{suffix}");
    let dense = |b: &mut Builder<'_>, which: &str, input: NodeId, rows: usize, cols: usize| {
        let weight = b.matrix(tensor(&format!("{which}.weight")), rows, cols, Role::Linear)?;
        let bias = b.vector(tensor(&format!("{which}.bias")), rows)?;
        Ok(b.linear(name(which), input, weight, Some(bias)))
    };

    let q = dense(b, "attention.self.query", x, hidden, hidden)?;
    let k = dense(b, "attention.self.key", x, hidden, hidden)?;
    let v = dense(b, "attention.self.value", x, hidden, hidden)?;
    let head_dim = hidden / heads;
    let attention = Op::Attention {
        layer: 0,
        heads,
        kv_heads: heads,
        head_dim,
        scale: (1.0 / (head_dim as f64).sqrt()) as f32,
        mask: Mask::Full,
    };
    let attended = b.same_width(name("attention.attention"), attention, &[q, k, v]);
    let o = dense(b, "attention.output.dense", attended, hidden, hidden)?;
    let sum = b.same_width(name("attention_residual"), Op::Add, &[x, o]);
    let x = norm(b, sizes, name("attention.norm"), &tensor("attention.output.LayerNorm"), sum)?;

    let up = dense(b, "intermediate.dense", x, inner, hidden)?;
    let active = b.same_width(name("activation"), Op::Activate(sizes.activation), &[up]);
    let down = dense(b, "output.dense", active, hidden, inner)?;
    let sum = b.same_width(name("mlp_residual"), Op::Add, &[x, down]);
    norm(b, sizes, name("norm"), &tensor("output.LayerNorm"), sum)
}

fn pooler(b: &mut Builder<'_>, sizes: &Sizes, x: NodeId) -> Result<NodeId> {
    let &Sizes { prefix, hidden, .. } = sizes;
    let weight = b.matrix(format!("{prefix}pooler.dense.weight"), hidden, hidden, Role::Head)?;
    let bias = b.vector(format!("{prefix}pooler.dense.bias"), hidden)?;
    let dense = b.linear("pooler.dense".into(), x, weight, Some(bias));
    Ok(b.same_width("pooler".into(), Op::Activate(Function::Tanh), &[dense]))
}

/// `norm(act(W x + b))`, then the word embeddings as a matrix and a bias.
fn decoder(b: &mut Builder<'_>, sizes: &Sizes, config: &Config, x: NodeId) -> Result<()> {
    let &Sizes { hidden, vocabulary, .. } = sizes;
    let tensor = |suffix: &str| format!("cls.predictions.{suffix}");
    let weight = b.matrix(tensor("transform.dense.weight"), hidden, hidden, Role::Head)?;
    let bias = b.vector(tensor("transform.dense.bias"), hidden)?;
    let dense = b.linear("transform.dense".into(), x, weight, Some(bias));
    let active = b.same_width("transform.activation".into(), Op::Activate(sizes.activation), &[dense]);
    let x = norm(b, sizes, "transform.norm".into(), &tensor("transform.LayerNorm"), active)?;
    let words = format!("{}embeddings.word_embeddings.weight", sizes.prefix);
    let tied = config.flag("tie_word_embeddings", true)?;
    let table = b.graph.weights.iter().position(|weight| weight.tensor == words);
    let weight = match table.filter(|_| tied) {
        Some(table) => table,
        None => b.matrix(tensor("decoder.weight"), vocabulary, hidden, Role::Head)?,
    };
    // Both names are those of one vector where the decoder is tied, and some files keep only one.
    let second = b.has(&tensor("decoder.bias")) && !(tied && b.has(&tensor("bias")));
    let bias = b.vector(tensor(if second { "decoder.bias" } else { "bias" }), vocabulary)?;
    b.linear("decoder".into(), x, weight, Some(bias));
    Ok(())
}
