"""Trials per second of the usual search loop: hyperopt proposes a width per layer, PyTorch reloads the model from disk,
quantizes it and evaluates one batch. The model, the batch (6 windows of 128 tokens) and the space (weights and
activations of each block linear at 2, 4 or 8 bits, symmetric, one scale per tensor) are those of

    anybit search --space 'qlinear(bits=2),qlinear(bits=4),qlinear(bits=8)' --windows 6

    pip install torch hyperopt safetensors tokenizers
    python benches/hyperopt_loop.py --model FOLDER --text FILE [--trials 50] [--threads N] [--device cpu|cuda]

FOLDER is a Hugging Face folder of a small Llama. Prints one JSON object: trials per second and, in seconds per trial,
where they went (reload, quantize, forward, sampler).
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn


class QLinear(nn.Module):
    """y = (codes of x) (codes of W)^T scaled back; codes are kept in f32, as such labs do."""

    def __init__(self, weight, bits):
        super().__init__()
        self.bits = bits
        codes, self.scale = self.quantize(weight)
        self.register_buffer("codes", codes)

    def quantize(self, x):
        limit = 2 ** (self.bits - 1) - 1
        largest = x.abs().max()
        scale = largest / limit if largest > 0 else torch.ones((), device=x.device)
        return torch.clamp(torch.round(x / scale), -limit, limit), scale

    def forward(self, x):
        codes, scale = self.quantize(x)
        return F.linear(codes, self.codes) * (scale * self.scale)


class Plain(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        return F.linear(x, self.weight)


class Llama(nn.Module):
    NAMES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]

    def __init__(self, folder, device):
        super().__init__()
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text())
        tensors = {k: v.float().to(device) for k, v in load_file(folder / "model.safetensors").items()}
        self.heads, self.kv = config["num_attention_heads"], config["num_key_value_heads"]
        self.eps, self.layers = config["rms_norm_eps"], config["num_hidden_layers"]
        self.tensors = tensors
        self.linears = nn.ModuleDict()
        for layer in range(self.layers):
            for name in self.NAMES:
                full = f"model.layers.{layer}.{name}"
                self.linears[full.replace(".", "/")] = Plain(tensors[f"{full}.weight"])
        size = config["hidden_size"] // self.heads
        theta = config.get("rope_theta", 10000.0)
        frequency = theta ** (-torch.arange(0, size, 2, device=device).float() / size)
        angles = torch.arange(config["max_position_embeddings"], device=device)[:, None] * frequency[None]
        self.cos, self.sin = angles.cos(), angles.sin()

    def names(self):
        return [name.replace("/", ".") for name in self.linears]

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.tensors[name]

    def rope(self, x):
        n, half = x.shape[-2], x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        cos, sin = self.cos[:n], self.sin[:n]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, ids):
        x = self.tensors["model.embed_tokens.weight"][ids]
        batch, n, width = x.shape
        for layer in range(self.layers):
            at = f"model.layers.{layer}"
            linear = lambda name: self.linears[f"{at}.{name}".replace(".", "/")]
            y = self.norm(x, f"{at}.input_layernorm.weight")
            split = lambda t, h: t.view(batch, n, h, -1).transpose(1, 2)
            q = self.rope(split(linear("self_attn.q_proj")(y), self.heads))
            k = self.rope(split(linear("self_attn.k_proj")(y), self.kv))
            v = split(linear("self_attn.v_proj")(y), self.kv)
            k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + linear("self_attn.o_proj")(y.transpose(1, 2).reshape(batch, n, width))
            y = self.norm(x, f"{at}.post_attention_layernorm.weight")
            x = x + linear("mlp.down_proj")(F.silu(linear("mlp.gate_proj")(y)) * linear("mlp.up_proj")(y))
        x = self.norm(x, "model.norm.weight")
        return x @ self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"]).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    from hyperopt import Trials, fmin, hp, tpe

    if args.threads:
        torch.set_num_threads(args.threads)
    ids = Tokenizer.from_file(f"{args.model}/tokenizer.json").encode(Path(args.text).read_text()).ids
    windows, context = 6, 128
    ids = torch.tensor(ids[: windows * context + 1], device=args.device)
    x, y = ids[:-1].view(windows, context), ids[1:].view(windows, context)
    spent = {"reload": 0.0, "quantize": 0.0, "forward": 0.0}

    def clock():
        if args.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    @torch.no_grad()
    def objective(widths):
        start = clock()
        model = Llama(args.model, args.device)
        loaded = clock()
        bits = 0
        for name, width in widths.items():
            weight = model.linears[name.replace(".", "/")].weight
            model.linears[name.replace(".", "/")] = QLinear(weight, width)
            bits += weight.numel() * width
        rest = sum(t.numel() for n, t in model.tensors.items() if n.removesuffix(".weight") not in widths)
        quantized = clock()
        logits = model(x)
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1)).item()
        end = clock()
        spent["reload"] += loaded - start
        spent["quantize"] += quantized - loaded
        spent["forward"] += end - quantized
        size = (bits + rest * 32) / 8 / 2**20
        value = 0.5 * loss + 0.5 * size
        return value if math.isfinite(value) else 1e9

    names = Llama(args.model, args.device).names()
    first = objective({name: 8 for name in names})  # warm
    for key in spent:
        spent[key] = 0.0
    space = {name: hp.choice(name, [2, 4, 8]) for name in names}
    start = time.perf_counter()
    trials = Trials()
    fmin(objective, space, algo=tpe.suggest, max_evals=args.trials, trials=trials, show_progressbar=False,
         verbose=False)
    seconds = time.perf_counter() - start
    report = {name: value / args.trials for name, value in spent.items()}
    report["sampler"] = (seconds - sum(spent.values())) / args.trials
    best = min(trials.losses())
    json.dump({"trials_per_second": args.trials / seconds, "seconds_per_trial": report, "trials": args.trials,
               "threads": torch.get_num_threads(), "torch": torch.__version__, "device": args.device,
               "best": best, "uniform_8_bits": first}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
