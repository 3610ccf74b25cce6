"""Makes tests/data/families: small random checkpoints of every model family, with what Hugging Face computes on them.

    python tests/families/generate.py        (torch 2.4.1, transformers 4.57.6, safetensors; CPU)

Each folder holds config.json and model.safetensors as `save_pretrained` writes them, golden.json with the prompts, and
golden.safetensors with the results in f32:

    logits.N   [tokens, vocabulary]   of prompt N (causal models)
    logits     [sequences, classes]   bert-classify
    logits     [tokens, vocabulary]   bert-mlm; the rows of all sequences one after another
    hidden, pooled, mean              bert-embed: last hidden state, pooler output, mean of the hidden states

The BERT models run on one padded batch with an attention mask. Weights are drawn far from the usual initial values, so
that every bias, norm and position shows in the results, and rounded to the type they are stored in first.
"""

import copy
import json
import shutil
from pathlib import Path

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parent.parent / "data" / "families"
VOCABULARY = 61
CONTEXT = 64
# Shorter and longer than every sliding window and original context below.
PROMPTS = [[7, 1, 60, 13, 2], [(i * i * 3 + 5 * i + 11) % VOCABULARY for i in range(29)]]


def randomize(model, seed, dtype):
    """Draws all weights and rounds them to `dtype`; the model goes on in f32."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() == 1:
            value = noise * 0.2 + (1.0 if "norm" in name.lower() or "ln_" in name else 0.0)
            value = noise * 0.2 if name.endswith("bias") else value
        elif "wte" in name or "wpe" in name or "embed" in name:
            value = noise * 0.7
        else:
            fan_in = weight.shape[0] if type(model).__name__.startswith("GPT2") else weight.shape[1]
            value = noise * 1.3 / fan_in**0.5
        weight.data.copy_(value.to(dtype).float())
    return model.eval()


def store(model, name, dtype, shard=None):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    # A copy, because the frequencies of rotary positions would lose their precision with the weights.
    copy.deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=shard or "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def finish(folder, golden, tensors):
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, folder / "golden.safetensors")


@torch.no_grad()
def causal(name, config, seed, dtype, generate=False, shard=None):
    config._attn_implementation = "eager"
    model = randomize(hf.AutoModelForCausalLM.from_config(config), seed, dtype)
    folder = store(model, name, dtype, shard)
    logits = {f"logits.{i}": model(torch.tensor([ids])).logits[0] for i, ids in enumerate(PROMPTS)}
    golden = {"prompts": PROMPTS}
    if generate:
        prompt = torch.tensor([PROMPTS[0]])
        out = model.generate(prompt, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
        golden["continuation"] = out[0, prompt.shape[1] :].tolist()
    finish(folder, golden, logits)
    return folder


def llama_sizes(**changes):
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return {**sizes, **changes}


def llamas():
    f32, f16, bf16 = torch.float32, torch.float16, torch.bfloat16
    config = lambda **c: hf.LlamaConfig(**llama_sizes(**c))
    causal("llama", config(), 1, f32, generate=True)
    causal("llama-sharded", config(), 1, bf16, shard="20KB")
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = {"rope_type": "llama3", "original_max_position_embeddings": 16, **scaling}
    causal(
        "llama3",
        config(rope_scaling=scaling, rope_theta=500.0, tie_word_embeddings=True, num_attention_heads=3,
               num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-5),
        2, bf16,
    )
    causal(
        "llama-linear",
        config(rope_scaling={"type": "linear", "factor": 4.0}, attention_bias=True, mlp_bias=True, hidden_size=40,
               num_key_value_heads=4),
        3, f16,
    )
    causal("llama-dynamic", config(rope_scaling={"rope_type": "dynamic", "factor": 2.0}, hidden_act="gelu"), 4, bf16)
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8.0, "beta_slow": 0.5}
    causal("llama-yarn", config(rope_scaling={**scaling, "mscale": 0.7, "mscale_all_dim": 1.3}, head_dim=16), 5, bf16)
    causal(
        "mistral",
        hf.MistralConfig(**llama_sizes(sliding_window=7, head_dim=10, num_attention_heads=3, num_key_value_heads=3)),
        6, bf16, generate=True,
    )
    causal(
        "qwen2",
        hf.Qwen2Config(**llama_sizes(use_sliding_window=True, sliding_window=5, max_window_layers=1,
                                     num_hidden_layers=3, rope_theta=1000000.0)),
        7, bf16,
    )
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    causal(
        "qwen3",
        hf.Qwen3Config(**llama_sizes(head_dim=10, tie_word_embeddings=True, rope_scaling=scaling, rope_theta=1000.0)),
        8, bf16,
    )
    causal("qwen3-bias", hf.Qwen3Config(**llama_sizes(head_dim=12, attention_bias=True)), 9, f16)
    causal(
        "smollm3",
        hf.SmolLM3Config(**llama_sizes(no_rope_layers=[1, 0, 1], num_hidden_layers=3, tie_word_embeddings=True)),
        10, bf16,
    )


def gpts():
    sizes = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 30, "n_layer": 2, "n_head": 3}
    config = lambda **c: hf.GPT2Config(**{**sizes, "bos_token_id": 0, "eos_token_id": 0, **c})
    causal("gpt2", config(), 11, torch.float32, generate=True)
    causal(
        "gpt2-untied",
        config(tie_word_embeddings=False, n_inner=44, scale_attn_by_inverse_layer_idx=True, n_layer=3,
               activation_function="relu"),
        12, torch.bfloat16,
    )
    # As the first GPT-2 files are: names without `transformer.`, and the causal mask stored as `attn.bias`.
    folder = causal("gpt2-plain", config(n_head=5, scale_attn_weights=False), 13, torch.float16)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    mask = torch.tril(torch.ones(CONTEXT, CONTEXT, dtype=torch.uint8)).view(1, 1, CONTEXT, CONTEXT)
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = mask.clone()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def berts():
    lengths = [9, 1, 17, 4]
    sequences = [
        {"ids": [(i * 11 + 3 * n + 1) % VOCABULARY for i in range(n)], "types": [int(i > n // 2) for i in range(n)]}
        for n in lengths
    ]
    pad = lambda key: torch.tensor([s[key] + [0] * (max(lengths) - len(s[key])) for s in sequences])
    mask = torch.tensor([[1] * n + [0] * (max(lengths) - n) for n in lengths])
    batch = {"input_ids": pad("ids"), "token_type_ids": pad("types"), "attention_mask": mask}
    real = lambda rows: torch.cat([row[:n] for row, n in zip(rows, lengths)])

    def make(kind, name, seed, dtype, **changes):
        sizes = {
            "vocab_size": VOCABULARY,
            "hidden_size": 30,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 44,
            "max_position_embeddings": CONTEXT,
            "type_vocab_size": 2,
        }
        config = hf.BertConfig(**{**sizes, **changes})
        config._attn_implementation = "eager"
        model = randomize(kind(config), seed, dtype)
        return store(model, name, dtype), model(**batch)

    golden = {"sequences": sequences}
    labels = {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
    folder, out = make(hf.BertForSequenceClassification, "bert-classify", 21, torch.float32, **labels)
    finish(folder, golden, {"logits": out.logits})
    folder, out = make(hf.BertModel, "bert-embed", 22, torch.float16, hidden_act="gelu_new", num_attention_heads=5)
    hidden = out.last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    finish(folder, golden, {"hidden": real(hidden), "pooled": out.pooler_output, "mean": mean})
    folder, out = make(hf.BertForMaskedLM, "bert-mlm", 23, torch.bfloat16, hidden_act="relu", layer_norm_eps=1e-5)
    finish(folder, golden, {"logits": real(out.logits)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    llamas()
    gpts()
    berts()
