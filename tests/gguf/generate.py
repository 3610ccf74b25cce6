"""Makes tests/data/gguf: GGUF files as the Python package `gguf` writes them.

    python tests/gguf/generate.py            (gguf 0.19.0, torch 2.4.1, transformers 4.57.6)

FAMILY.gguf       the checkpoint of tests/data/families/FAMILY with the names of gguf's own table, and one of the tokenizers
                  of tests/data/tokenizers; the results are those of the family.
llama-mixed.gguf  a Llama whose matrices are in every block format of ggml that runs here, embedding and head included. Formats that gguf
                  can quantize are quantized; of the others the blocks are random bits with small scales.
gpt2-q8_0.gguf    a GPT-2 in q8_0.
NAME.safetensors  for these two `logits.N` of transformers with weights that gguf has dequantized, for the prompts of
                  tests/data/families.
"""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

DATA = Path(__file__).parent.parent / "data"
ROOT = DATA / "gguf"
FAMILIES = DATA / "families"
TOKENIZERS = DATA / "tokenizers"
PROMPTS = json.loads((FAMILIES / "llama" / "golden.json").read_text())["prompts"]
Q = gguf.GGMLQuantizationType
ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "bert": gguf.MODEL_ARCH.BERT,
}


def pairs(weights, heads):
    """Rows of q and k from halves of a head to neighbouring pairs, as llama.cpp wants them."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def halves(weights, heads):
    return weights.reshape(heads, weights.shape[0] // heads // 2, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def sizes(writer, config, arch):
    get = lambda *names: next(config[n] for n in names if config.get(n) is not None)
    hidden, heads = get("hidden_size", "n_embd"), get("num_attention_heads", "n_head")
    writer.add_context_length(get("max_position_embeddings", "n_positions"))
    writer.add_embedding_length(hidden)
    writer.add_block_count(get("num_hidden_layers", "n_layer"))
    writer.add_feed_forward_length(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    writer.add_head_count(heads)
    if arch in ("gpt2", "bert"):
        writer.add_layer_norm_eps(get("layer_norm_epsilon", "layer_norm_eps"))
        if arch == "bert":
            writer.add_causal_attention(False)
            writer.add_pooling_type(gguf.PoolingType.CLS)
        return
    head_dim = config.get("head_dim") or hidden // heads
    writer.add_head_count_kv(get("num_key_value_heads"))
    writer.add_layer_norm_rms_eps(get("rms_norm_eps"))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        # llama.cpp multiplies the attention factor of the paper by this.
        length = lambda scale: 1 + 0.1 * scale * float(np.log(scaling["factor"]))
        attention = scaling.get("attention_factor")
        if attention is None and "mscale" in scaling:
            attention = length(scaling["mscale"]) / length(scaling["mscale_all_dim"])
        attention = attention or length(1)
        writer.add_rope_scaling_attn_factors(attention / length(1))
        if "beta_fast" in scaling:
            writer.add_rope_scaling_yarn_beta_fast(scaling["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(scaling["beta_slow"])
    if kind == "llama3":
        base, factor = config["rope_theta"], scaling["factor"]
        low, high, old = (scaling[k] for k in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings"))
        factors = []
        for i in range(0, head_dim, 2):
            wave = 2 * np.pi * base ** (i / head_dim)
            smooth = (old / wave - low) / (high - low)
            between = 1 / ((1 - smooth) / factor + smooth)
            factors.append(1 if wave < old / high else factor if wave > old / low else between)
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))


def tokens(writer, kind):
    folder = TOKENIZERS / kind
    if kind == "sentencepiece":
        import sentencepiece as spm

        sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        ids = range(sp.vocab_size())
        kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in ids]
        kinds[sp.piece_to_id("<|im_start|>")] = 4
        writer.add_tokenizer_model("llama")
        writer.add_token_list([sp.id_to_piece(i) for i in ids])
        writer.add_token_scores([sp.get_score(i) for i in ids])
        writer.add_token_types(kinds)
        writer.add_bos_token_id(sp.bos_id())
        writer.add_eos_token_id(sp.eos_id())
        writer.add_add_space_prefix(True)
        return
    if kind == "bert":
        words = (folder / "vocab.txt").read_text().split("\n")[:-1]
        bracket = lambda w: w.startswith("[") and w.endswith("]")
        writer.add_tokenizer_model("bert")
        writer.add_token_list([w if bracket(w) else w[2:] if w.startswith("##") else "\u2581" + w for w in words])
        writer.add_token_types([3 if bracket(w) else 1 for w in words])
        writer.add_token_type_count(2)
        writer.add_bos_token_id(words.index("[CLS]"))
        writer.add_sep_token_id(words.index("[SEP]"))
        writer.add_unk_token_id(words.index("[UNK]"))
        return
    if kind == "llama3":
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        vocab, merges = model["vocab"], [" ".join(pair) for pair in model["merges"]]
        control, pre = ["<|begin_of_text|>", "<|end_of_text|>"], "llama-bpe"
    else:
        vocab = json.loads((folder / "vocab.json").read_text())
        merges = (folder / "merges.txt").read_text().split("\n")[1:-1]
        control, pre = ["<|endoftext|>"], {"gpt2": "gpt-2", "qwen2": "qwen2"}[kind]
        if kind == "qwen2":
            vocab |= {"<|im_start|>": 1024, "<|im_end|>": 1025}
            control += ["<|im_start|>", "<|im_end|>"]
    names = sorted(vocab, key=vocab.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(names)
    writer.add_token_types([3 if n in control else 1 for n in names])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(names.index(control[0]))
    writer.add_eos_token_id(names.index(control[-1]))


def start(name, config, kind=None):
    arch = config["model_type"]
    writer = gguf.GGUFWriter(ROOT / f"{name}.gguf", arch)
    sizes(writer, config, arch)
    if kind:
        tokens(writer, kind)
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def renamed(state, config):
    """Names and matrices as llama.cpp has them; what is equal to something else is left out."""
    arch = config["model_type"]
    table = gguf.get_tensor_name_map(ARCHITECTURES[arch], config.get("num_hidden_layers") or config["n_layer"])
    for name, tensor in state.items():
        if arch == "bert":
            own = {"bert.pooler.dense": "cls", "classifier": "cls.output"}.get(name.rsplit(".", 1)[0])
            bare = name.removeprefix("bert.")
            target = own + "." + name.rsplit(".", 1)[1] if own else table.get_name(bare, (".weight", ".bias"))
        else:
            target = table.get_name(name, (".weight", ".bias"))
        assert target, name
        if arch == "llama" and (".q_proj" in name or ".k_proj" in name):
            tensor = pairs(tensor, config["num_attention_heads" if ".q_proj" in name else "num_key_value_heads"])
        if arch == "gpt2" and tensor.ndim == 2 and (".attn.c_" in name or ".mlp.c_" in name):
            tensor = tensor.T.contiguous()
        yield target, tensor


def family(name, kind):
    config = json.loads((FAMILIES / name / "config.json").read_text())
    writer = start(name, config, kind)
    for target, tensor in renamed(load_file(FAMILIES / name / "model.safetensors"), config):
        if tensor.ndim == 1:
            tensor = tensor.float()
        if tensor.dtype == torch.bfloat16:
            data = gguf.quants.quantize(tensor.float().numpy(), Q.BF16)
            writer.add_tensor(target, data, raw_dtype=Q.BF16)
        else:
            writer.add_tensor(target, tensor.contiguous().numpy())
    finish(writer)


def random_blocks(shape, kind, rng):
    """Blocks of any bits whose f16 scales are small."""
    scales = {Q.Q2_K: (80, 82), Q.Q3_K: (108,), Q.Q4_K: (0, 2), Q.Q5_K: (0, 2), Q.Q6_K: (208,), Q.IQ4_NL: (0,), Q.IQ4_XS: (0,)}
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (shape[0], shape[1] // block, size), dtype=np.uint8)
    step = {Q.Q6_K: 2e-5, Q.IQ4_NL: 1e-3, Q.IQ4_XS: 4e-5}.get(kind, 2e-4)
    for at in scales[kind]:
        values = rng.uniform(0.5, 1.5, data.shape[:2]).astype(np.float32) * step
        data[..., at : at + 2] = values.astype(np.float16)[..., None].view(np.uint8)
    return data.reshape(shape[0], -1)


@torch.no_grad()
def quantized(name, config, kinds, seed):
    """Writes a model whose matrix number i has the type kinds[i % len(kinds)]."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 2 else 0.2) + (parameter.ndim == 1))
    description = config.to_dict()
    writer = start(name, description)
    used, index, back = {}, 0, {}
    state = {k: v for k, v in model.state_dict().items() if not (config.tie_word_embeddings and k == "lm_head.weight")}
    for (source, _), (target, tensor) in zip(state.items(), renamed(state, description)):
        values = tensor.float().contiguous().numpy()
        if values.ndim == 1:
            writer.add_tensor(target, values)
            continue
        kind = kinds[index % len(kinds)]
        index += 1
        try:
            data = gguf.quants.quantize(values, kind)
        except NotImplementedError:
            data = random_blocks(values.shape, kind, rng)
        writer.add_tensor(target, data, raw_dtype=kind)
        used.setdefault(kind.name, target)
        exact = torch.from_numpy(gguf.quants.dequantize(data, kind).astype(np.float32))
        if description["model_type"] == "llama" and (".q_proj" in source or ".k_proj" in source):
            exact = halves(exact, config.num_attention_heads if ".q_proj" in source else config.num_key_value_heads)
        if target.split(".")[-2] in ("attn_qkv", "attn_output", "ffn_up", "ffn_down") and description["model_type"] == "gpt2":
            exact = exact.T
        back[source] = exact.contiguous()
    finish(writer)
    assert len(used) == len(set(kinds)), used
    model.load_state_dict(back, strict=False)
    logits = {f"logits.{i}": model(torch.tensor([ids])).logits[0] for i, ids in enumerate(PROMPTS)}
    save_file({k: v.contiguous() for k, v in logits.items()}, ROOT / f"{name}.safetensors")


def main():
    kept = (ROOT / "stories260K.gguf").read_bytes() if (ROOT / "stories260K.gguf").exists() else None
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    if kept:
        (ROOT / "stories260K.gguf").write_bytes(kept)
    for name, kind in [("llama", "sentencepiece"), ("llama3", "llama3"), ("qwen2", "qwen2"), ("qwen3", None),
                       ("gpt2", "gpt2"), ("llama-linear", None), ("llama-yarn", None), ("bert-classify", "bert")]:  # fmt: skip
        family(name, kind)
    kinds = [Q.Q8_0, Q.Q4_0, Q.Q5_0, Q.Q4_K, Q.Q6_K, Q.Q5_K, Q.IQ4_NL, Q.TQ1_0, Q.TQ2_0, Q.MXFP4, Q.BF16]
    sizes = {"vocab_size": 61, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
             "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False}  # fmt: skip
    quantized("llama-mixed", hf.LlamaConfig(**sizes), kinds, 3)
    quantized("gpt2-q8_0", hf.GPT2Config(vocab_size=61, n_positions=64, n_embd=64, n_layer=2, n_head=4), [Q.Q8_0, Q.Q4_0], 4)


if __name__ == "__main__":
    main()
