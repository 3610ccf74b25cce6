"""Peak memory of conversions of a checkpoint that is larger than the memory they may take.

    pip install numpy
    python benches/peak_memory.py --anybit target/release/anybit [--layers 6] [--limit 1.5] [--folder DIR] [--only TEXT]
        [--json FILE]

Writes a Llama checkpoint with the shapes of an 8B model (hidden 4096, FFN 14336, vocabulary 128256, untied head) in bf16,
random values, as two safetensors files with an index, and runs conversions on it, each in a process of its own. Six
layers make 4.4 GiB. Needs 16 GB of disk in the temporary folder, which it removes, or in --folder, which stays and is not
written again when it holds the checkpoint.

Peak memory is the largest resident set of the process (`ru_maxrss` of wait4), which counts the touched pages of mapped
files. It is an error when one exceeds the limit, given in GiB.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

HIDDEN, FFN, VOCABULARY, HEADS, KV_HEADS = 4096, 14336, 128256, 32, 8
GIB = 1 << 30


def shapes(layers):
    """Names and shapes, in two parts of about the same size."""
    kv = HIDDEN // HEADS * KV_HEADS
    first = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN]}
    second = {"lm_head.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(layers):
        part = first if layer < layers // 2 else second
        name = f"model.layers.{layer}."
        for norm in ["input_layernorm", "post_attention_layernorm"]:
            part[f"{name}{norm}.weight"] = [HIDDEN]
        for linear, shape in {"self_attn.q_proj": [HIDDEN, HIDDEN], "self_attn.k_proj": [kv, HIDDEN],
                              "self_attn.v_proj": [kv, HIDDEN], "self_attn.o_proj": [HIDDEN, HIDDEN],
                              "mlp.gate_proj": [FFN, HIDDEN], "mlp.up_proj": [FFN, HIDDEN],
                              "mlp.down_proj": [HIDDEN, FFN]}.items():
            part[f"{name}{linear}.weight"] = shape
    return first, second


def write_part(path, tensors, random):
    """A safetensors file of bf16 values with magnitudes between 2^-7 and 2^-3."""
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = end // 2
        while left:
            count = min(left, 1 << 22)
            bits = random.integers(0, 1 << 16, count, dtype=numpy.uint16)
            # Sign, the two low bits of the exponent and the fraction are random.
            file.write(((bits & 0x81FF) | 0x3C00).tobytes())
            left -= count


def write_model(folder, layers):
    random = numpy.random.default_rng(1)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    parts = shapes(layers)
    for name, part in zip(names, parts):
        write_part(folder / name, part, random)
    weight_map = {tensor: name for name, part in zip(names, parts) for tensor in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
              "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
              "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
              "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    # Last, so that a folder with this file is complete.
    (folder / "config.json").write_text(json.dumps(config))


def peak(command):
    """Peak resident bytes and seconds of a command, which must succeed."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{error}")
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit, time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--anybit", default="target/release/anybit")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--limit", type=float, default=1.5, help="GiB")
    parser.add_argument("--folder", help="of the checkpoint and the outputs")
    parser.add_argument("--only", default="", help="run the conversions whose name contains this text")
    parser.add_argument("--json", help="write the figures")
    args = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / "config.json").exists():
            write_model(folder, args.layers)
        total = sum(path.stat().st_size for path in folder.glob("model-*.safetensors"))
        print(f"checkpoint: {total / GIB:.2f} GiB, largest tensor {VOCABULARY * HIDDEN * 2 / GIB:.2f} GiB", flush=True)
        index, output = folder / "model.safetensors.index.json", folder / "output.safetensors"

        def quantize(model, format):
            return ["quantize", "--model", model, "--format", format, "--output", output]

        # A model copies embedding and head; of a tensor file every matrix is packed.
        runs = {f"{what}, {format}": quantize(path, format)
                for what, path in {"quantize model": folder, "quantize file": index}.items()
                for format in ["int4(group=128)", "int8", "nvfp4", "base11", "q4_k"]}
        runs["inspect"] = ["inspect", "--model", index]
        packed = folder / "packed.safetensors"
        if not packed.exists():
            runs["quantize file for dequantize"] = [*quantize(index, "int4(group=128)")[:-1], packed]
        runs["dequantize"] = ["dequantize", packed, "--output", output, "--backend", "reference"]
        for name, command in runs.items():
            if args.only not in name:
                continue
            size, seconds = peak([args.anybit, *command])
            figures[name] = {"peak_bytes": size, "seconds": round(seconds, 1)}
            print(f"{name:<32} {size / GIB:5.2f} GiB peak {seconds:7.1f} s", flush=True)
            output.unlink(missing_ok=True)
    if args.json:
        Path(args.json).write_text(json.dumps({"checkpoint_bytes": total, "runs": figures}, indent=2))
    over = [name for name, figure in figures.items() if figure["peak_bytes"] > args.limit * GIB]
    if over:
        sys.exit(f"more than {args.limit} GiB: {', '.join(over)}")


if __name__ == "__main__":
    main()
