//! The Llama family: RMSNorm, rotary positions, grouped KV heads, SwiGLU. One graph; what tells Llama (Touvron et al.
//! 2023), Mistral (Jiang et al. 2023), Qwen2, Qwen3 and SmolLM3 apart is in [`Sizes`].

mod rope;

use super::builder::Builder;
use super::config::Config;
use super::reader::Reader;
use crate::error::{Result, invalid};
use crate::graph::{Function, Graph, Mask, NodeId, Op, Role};
use rope::Rotation;
use serde_json::{Value, json};

struct Sizes {
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f32,
    rotation: Rotation,
    activation: Function,
    /// Biases of q, k and v, of o, and of the three linears of the MLP.
    biases: [bool; 3],
    /// A norm per head of q and k before they are turned.
    head_norms: bool,
    tied: bool,
    /// Per layer.
    layers: Vec<Layer>,
}

#[derive(Clone, Copy)]
struct Layer {
    mask: Mask,
    /// Turns q and k by their positions.
    turns: bool,
}

/// `LlamaForCausalLM`: Llama 1 to 3, TinyLlama, SmolLM and SmolLM2.
pub(crate) fn llama(config: &Config, reader: &Reader) -> Result<Graph> {
    config.require_neutral("sliding_window", &Value::Null)?;
    let bias = config.flag("attention_bias", false)?;
    let mut sizes = Sizes::new(config, reader, 10000.0)?;
    sizes.biases = [bias, bias, config.flag("mlp_bias", false)?];
    graph(sizes, config, reader)
}

/// `MistralForCausalLM`: every layer sees a window where there is one.
pub(crate) fn mistral(config: &Config, reader: &Reader) -> Result<Graph> {
    require_no_biases(config)?;
    require_kv_heads(config)?;
    let mut sizes = Sizes::new(config, reader, 10000.0)?;
    // Without the key the window is that of the first Mistral, with null there is none.
    let window = match config.stated("sliding_window") {
        None => Some(4096),
        Some(_) => config.optional_size("sliding_window")?,
    };
    sizes.layers.iter_mut().for_each(|layer| layer.mask = window.map_or(Mask::Causal, Mask::Window));
    graph(sizes, config, reader)
}

/// `Qwen2ForCausalLM`, Qwen2.5 included: biases of q, k and v.
pub(crate) fn qwen2(config: &Config, reader: &Reader) -> Result<Graph> {
    require_no_biases(config)?;
    require_kv_heads(config)?;
    let mut sizes = Sizes::new(config, reader, 10000.0)?;
    sizes.biases = [true, false, false];
    windows_of_late_layers(config, &mut sizes)?;
    graph(sizes, config, reader)
}

/// `Qwen3ForCausalLM`: a norm per head of q and k.
pub(crate) fn qwen3(config: &Config, reader: &Reader) -> Result<Graph> {
    config.require_neutral("mlp_bias", &json!(false))?;
    require_kv_heads(config)?;
    let bias = config.flag("attention_bias", false)?;
    let mut sizes = Sizes::new(config, reader, 10000.0)?;
    // Not hidden / heads, even where the key is missing.
    sizes.head_dim = config.optional_size("head_dim")?.unwrap_or(128);
    sizes.biases = [bias, bias, false];
    sizes.head_norms = true;
    windows_of_late_layers(config, &mut sizes)?;
    graph(sizes, config, reader)
}

/// `SmolLM3ForCausalLM`: some layers without positions.
pub(crate) fn smollm3(config: &Config, reader: &Reader) -> Result<Graph> {
    require_kv_heads(config)?;
    let bias = config.flag("attention_bias", false)?;
    let mut sizes = Sizes::new(config, reader, 2_000_000.0)?;
    sizes.tied = config.flag("tie_word_embeddings", true)?;
    sizes.biases = [bias, bias, config.flag("mlp_bias", false)?];
    let interval = config.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    let stated = config.per_layer("no_rope_layers", sizes.layers.len())?;
    for (index, layer) in sizes.layers.iter_mut().enumerate() {
        layer.turns = match stated.map(|list| &list[index]) {
            None => !(index + 1).is_multiple_of(interval),
            // The name notwithstanding, 1 stands for a layer with positions.
            Some(value) => match value.as_u64() {
                Some(turns @ 0..=1) => turns == 1,
                _ => invalid!("{}: `no_rope_layers` holds {value}; want 0 or 1", config.label()),
            },
        };
    }
    // Read by nothing in this family.
    for key in ["max_window_layers", "pretraining_tp"] {
        config.get(key);
    }
    windows(config, &mut sizes, None, &|_, layer| !layer.turns)?;
    graph(sizes, config, reader)
}

fn require_no_biases(config: &Config) -> Result<()> {
    for key in ["attention_bias", "mlp_bias"] {
        config.require_neutral(key, &json!(false))?;
    }
    Ok(())
}

/// These families have defaults of their own in place of as many KV heads as heads.
fn require_kv_heads(config: &Config) -> Result<()> {
    match config.stated("num_key_value_heads") {
        Some(_) => Ok(()),
        None => invalid!(
            "{}: `num_key_value_heads` is missing; want a positive integer, or null for as many as heads",
            config.label()
        ),
    }
}

/// Windows of the layers from `max_window_layers` on.
fn windows_of_late_layers(config: &Config, sizes: &mut Sizes) -> Result<()> {
    let first = match config.get("max_window_layers") {
        None => 28,
        Some(value) => match value.as_u64() {
            Some(first) => first,
            None => {
                invalid!("{}: `max_window_layers` is {value}; want a number of layers", config.label())
            }
        },
    };
    windows(config, sizes, Some(4096), &|index, _| index as u64 >= first)
}

/// Gives a window to the layers that `layer_types` lists or else `slides` tells; `default` is its size where it is used
/// and not stated.
fn windows(
    config: &Config,
    sizes: &mut Sizes,
    default: Option<usize>,
    slides: &dyn Fn(usize, &Layer) -> bool,
) -> Result<()> {
    let label = config.label();
    let window = match (config.flag("use_sliding_window", false)?, config.stated("sliding_window")) {
        (false, _) => None,
        (true, None) => default,
        (true, Some(_)) => config.optional_size("sliding_window")?,
    };
    let types = config.per_layer("layer_types", sizes.layers.len())?;
    for (index, layer) in sizes.layers.iter_mut().enumerate() {
        let slides = match types.map(|types| &types[index]) {
            None => window.is_some() && slides(index, layer),
            Some(kind) => match kind.as_str() {
                Some("full_attention") => false,
                Some("sliding_attention") => true,
                _ => invalid!(
                    "{label}: `layer_types` holds {kind}; supported are full_attention and sliding_attention"
                ),
            },
        };
        layer.mask = match (slides, window) {
            (false, _) => Mask::Causal,
            (true, Some(window)) => Mask::Window(window),
            (true, None) => invalid!(
                "{label}: layer {index} is of the type sliding_attention, but `use_sliding_window` and \
                 `sliding_window` give no window"
            ),
        };
    }
    Ok(())
}

fn graph(sizes: Sizes, config: &Config, reader: &Reader) -> Result<Graph> {
    if !sizes.head_dim.is_multiple_of(2) {
        invalid!(
            "{}: the head dimension is {}; rotary positions want an even one",
            config.label(),
            sizes.head_dim
        );
    }
    let vocabulary = config.size("vocab_size")?;
    let mut b = Builder::new(reader);
    let table = b.matrix("model.embed_tokens.weight".into(), vocabulary, sizes.hidden, Role::Embedding)?;
    let mut x = b.graph.push("embed", Op::Embed { table }, &[], sizes.hidden);
    for layer in 0..sizes.layers.len() {
        x = block(&mut b, &sizes, layer, x)?;
    }
    let norm = b.vector("model.norm.weight".into(), sizes.hidden)?;
    // A tied head reads the embedding even where the file has a head as well.
    let head = match sizes.tied {
        true => table,
        false => b.matrix("lm_head.weight".into(), vocabulary, sizes.hidden, Role::Head)?,
    };
    // Norm and head are the costliest per row and most rows of a prompt do not need them.
    x = b.same_width("output_rows".into(), Op::OutputRows, &[x]);
    x = b.same_width("norm".into(), Op::RmsNorm { weight: norm, eps: sizes.eps }, &[x]);
    b.linear("lm_head".into(), x, head, None);
    b.graph.context = sizes.rotation.context;
    Ok(b.graph)
}

impl Sizes {
    /// What all families have in common; no biases, no norms per head, every layer causal and turned.
    fn new(config: &Config, reader: &Reader, theta: f64) -> Result<Self> {
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
        let layers = config.size("num_hidden_layers")?;
        // Nothing is allocated per layer before the file has been seen to hold as many.
        let norm = |layer: usize| format!("model.layers.{layer}.input_layernorm.weight");
        let held = (0..layers).take_while(|&layer| reader.shape(&norm(layer)).is_some()).count();
        if held < layers {
            Builder::new(reader).vector(norm(held), hidden)?;
        }
        Ok(Self {
            hidden,
            intermediate: config.size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            eps: config.positive("rms_norm_eps", 1e-6)? as f32,
            rotation: Rotation::new(config, theta)?,
            activation: config.function("hidden_act", Function::Silu)?,
            biases: [false; 3],
            head_norms: false,
            tied: config.flag("tie_word_embeddings", false)?,
            layers: vec![Layer { mask: Mask::Causal, turns: true }; layers],
        })
    }
}

fn block(b: &mut Builder<'_>, sizes: &Sizes, layer: usize, x: NodeId) -> Result<NodeId> {
    let &Sizes { hidden, intermediate, heads, kv_heads, head_dim, eps, .. } = sizes;
    let Layer { mask, turns } = sizes.layers[layer];
    let [qkv_bias, o_bias, mlp_bias] = sizes.biases;
    let tensor = |suffix: &str| format!("model.layers.{layer}.{suffix}.weight");
    let name = |suffix: &str| format!("layers.{layer}.{suffix}");
    let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);

    let weight = b.vector(tensor("input_layernorm"), hidden)?;
    let normed = b.same_width(name("input_norm"), Op::RmsNorm { weight, eps }, &[x]);
    let mut q = linear(b, layer, "self_attn.q_proj", normed, (q_width, hidden), qkv_bias)?;
    let mut k = linear(b, layer, "self_attn.k_proj", normed, (kv_width, hidden), qkv_bias)?;
    let v = linear(b, layer, "self_attn.v_proj", normed, (kv_width, hidden), qkv_bias)?;
    for (x, which) in [(&mut q, "q"), (&mut k, "k")] {
        if sizes.head_norms {
            let weight = b.vector(tensor(&format!("self_attn.{which}_norm")), head_dim)?;
            *x = b.same_width(name(&format!("self_attn.{which}_norm")), Op::RmsNorm { weight, eps }, &[*x]);
        }
    }
    if turns {
        // Allocated only now that the file has been seen to hold heads of this size.
        let inverse_frequency = sizes.rotation.inverse_frequency(head_dim);
        let rope = |heads| Op::Rope { heads, head_dim, inverse_frequency: inverse_frequency.clone() };
        q = b.same_width(name("self_attn.q_rope"), rope(heads), &[q]);
        k = b.same_width(name("self_attn.k_rope"), rope(kv_heads), &[k]);
    }
    let factor = if turns { sizes.rotation.score_factor() } else { 1.0 };
    let scale = (factor / (head_dim as f64).sqrt()) as f32;
    let attention = Op::Attention { layer, heads, kv_heads, head_dim, scale, mask };
    let attended = b.same_width(name("self_attn.attention"), attention, &[q, k, v]);
    b.graph.kv_widths.push(kv_width);
    let o = linear(b, layer, "self_attn.o_proj", attended, (hidden, q_width), o_bias)?;
    let x = b.same_width(name("attention_residual"), Op::Add, &[x, o]);

    let weight = b.vector(tensor("post_attention_layernorm"), hidden)?;
    let normed = b.same_width(name("post_attention_norm"), Op::RmsNorm { weight, eps }, &[x]);
    let gate = linear(b, layer, "mlp.gate_proj", normed, (intermediate, hidden), mlp_bias)?;
    let up = linear(b, layer, "mlp.up_proj", normed, (intermediate, hidden), mlp_bias)?;
    let active = b.same_width(name("mlp.activation"), Op::Activate(sizes.activation), &[gate]);
    let product = b.same_width(name("mlp.product"), Op::Mul, &[active, up]);
    let down = linear(b, layer, "mlp.down_proj", product, (hidden, intermediate), mlp_bias)?;
    Ok(b.same_width(name("mlp_residual"), Op::Add, &[x, down]))
}

fn linear(
    b: &mut Builder<'_>,
    layer: usize,
    which: &str,
    input: NodeId,
    (rows, cols): (usize, usize),
    has_bias: bool,
) -> Result<NodeId> {
    let tensor = format!("model.layers.{layer}.{which}");
    let weight = b.matrix(format!("{tensor}.weight"), rows, cols, Role::Linear)?;
    let bias = match has_bias {
        true => Some(b.vector(format!("{tensor}.bias"), rows)?),
        false => None,
    };
    Ok(b.linear(format!("layers.{layer}.{which}"), input, weight, bias))
}
