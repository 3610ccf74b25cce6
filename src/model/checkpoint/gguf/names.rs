//! Tensors by the names of GGUF and by those of Hugging Face, and how their bytes differ.

use super::Architecture;

/// What has to be done to a tensor of a GGUF file to have that of a Hugging Face checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// The rows of queries and keys are in pairs that turn together; Hugging Face has them half a head apart.
    /// `true` for queries, `false` for keys.
    Rotated { queries: bool },
    /// Rows and columns change places.
    Transposed,
}

/// One tensor in both worlds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) gguf: String,
    pub(crate) hugging_face: String,
    pub(crate) change: Change,
}

/// Every tensor that a model of `layers` layers may have.
pub(crate) fn names(architecture: Architecture, layers: usize) -> Vec<Name> {
    match architecture {
        Architecture::Llama => llama(layers, true),
        Architecture::Qwen2 | Architecture::Qwen3 => llama(layers, false),
        Architecture::Gpt2 => gpt2(layers),
        Architecture::Bert => bert(layers),
    }
}

fn with(parts: &[&str], gguf: &str, hugging_face: &str, change: Change, out: &mut Vec<Name>) {
    out.extend(parts.iter().map(|part| Name {
        gguf: format!("{gguf}.{part}"),
        hugging_face: format!("{hugging_face}.{part}"),
        // A bias of a transposed matrix is a vector like any other.
        change: if change == Change::Transposed && *part == "bias" { Change::None } else { change },
    }));
}

const WEIGHT: &[&str] = &["weight"];
const BOTH: &[&str] = &["weight", "bias"];

fn llama(layers: usize, rotated: bool) -> Vec<Name> {
    let mut names = Vec::new();
    let rotated = |queries: bool| if rotated { Change::Rotated { queries } } else { Change::None };
    with(WEIGHT, "token_embd", "model.embed_tokens", Change::None, &mut names);
    for n in 0..layers {
        let mut layer = |gguf: &str, hugging_face: &str, parts: &[&str], change: Change| {
            with(
                parts,
                &format!("blk.{n}.{gguf}"),
                &format!("model.layers.{n}.{hugging_face}"),
                change,
                &mut names,
            );
        };
        layer("attn_norm", "input_layernorm", WEIGHT, Change::None);
        layer("attn_q", "self_attn.q_proj", BOTH, rotated(true));
        layer("attn_k", "self_attn.k_proj", BOTH, rotated(false));
        layer("attn_v", "self_attn.v_proj", BOTH, Change::None);
        layer("attn_q_norm", "self_attn.q_norm", WEIGHT, Change::None);
        layer("attn_k_norm", "self_attn.k_norm", WEIGHT, Change::None);
        layer("attn_output", "self_attn.o_proj", BOTH, Change::None);
        layer("ffn_norm", "post_attention_layernorm", WEIGHT, Change::None);
        layer("ffn_gate", "mlp.gate_proj", BOTH, Change::None);
        layer("ffn_up", "mlp.up_proj", BOTH, Change::None);
        layer("ffn_down", "mlp.down_proj", BOTH, Change::None);
    }
    with(WEIGHT, "output_norm", "model.norm", Change::None, &mut names);
    with(WEIGHT, "output", "lm_head", Change::None, &mut names);
    names
}

fn gpt2(layers: usize) -> Vec<Name> {
    let mut names = Vec::new();
    with(WEIGHT, "token_embd", "transformer.wte", Change::None, &mut names);
    with(WEIGHT, "position_embd", "transformer.wpe", Change::None, &mut names);
    for n in 0..layers {
        let mut layer = |gguf: &str, hugging_face: &str, change: Change| {
            with(
                BOTH,
                &format!("blk.{n}.{gguf}"),
                &format!("transformer.h.{n}.{hugging_face}"),
                change,
                &mut names,
            );
        };
        layer("attn_norm", "ln_1", Change::None);
        layer("attn_qkv", "attn.c_attn", Change::Transposed);
        layer("attn_output", "attn.c_proj", Change::Transposed);
        layer("ffn_norm", "ln_2", Change::None);
        layer("ffn_up", "mlp.c_fc", Change::Transposed);
        layer("ffn_down", "mlp.c_proj", Change::Transposed);
    }
    with(BOTH, "output_norm", "transformer.ln_f", Change::None, &mut names);
    with(WEIGHT, "output", "lm_head", Change::None, &mut names);
    names
}

fn bert(layers: usize) -> Vec<Name> {
    let mut names = Vec::new();
    let none = Change::None;
    with(WEIGHT, "token_embd", "bert.embeddings.word_embeddings", none, &mut names);
    with(WEIGHT, "token_types", "bert.embeddings.token_type_embeddings", none, &mut names);
    with(WEIGHT, "position_embd", "bert.embeddings.position_embeddings", none, &mut names);
    with(BOTH, "token_embd_norm", "bert.embeddings.LayerNorm", none, &mut names);
    for n in 0..layers {
        let pairs = [
            ("attn_q", "attention.self.query"),
            ("attn_k", "attention.self.key"),
            ("attn_v", "attention.self.value"),
            ("attn_output", "attention.output.dense"),
            ("attn_output_norm", "attention.output.LayerNorm"),
            ("ffn_up", "intermediate.dense"),
            ("ffn_down", "output.dense"),
            ("layer_output_norm", "output.LayerNorm"),
        ];
        for (gguf, hugging_face) in pairs {
            let hugging_face = format!("bert.encoder.layer.{n}.{hugging_face}");
            with(BOTH, &format!("blk.{n}.{gguf}"), &hugging_face, none, &mut names);
        }
    }
    // The first token through a linear and tanh, then another linear: BERT's pooler and classifier.
    with(BOTH, "cls", "bert.pooler.dense", none, &mut names);
    with(BOTH, "cls.output", "classifier", none, &mut names);
    names
}
