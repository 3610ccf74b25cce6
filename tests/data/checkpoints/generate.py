"""State dicts as PyTorch writes them, with their values in safetensors, for `tests/files/checkpoints.rs`.

    pip install torch safetensors numpy
    python tests/data/checkpoints/generate.py

Made with PyTorch 2.4.1. Every file holds the tensors of `values.safetensors`, or those whose names it lists there.
"""

import collections
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent


class Foreign:
    """Something that runs code where a reader lets it."""

    def __reduce__(self):
        return os.mkdir, ("pickles-must-not-run",)


def main():
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(6, 4, generator=generator)
    values = collections.OrderedDict(
        whole=base,
        transposed=base.t(),
        part=base[1:5, 1:3],
        column=base[:, 2],
        cube=torch.arange(24, dtype=torch.float32).view(2, 3, 4).permute(2, 0, 1),
        half=torch.randn(3, 5, generator=generator).half(),
        brain=torch.randn(5, generator=generator).bfloat16(),
        double=torch.randn(2, 2, generator=generator).double(),
        long=torch.tensor([-1, 0, 2**40]),
        byte=torch.tensor([0, 255], dtype=torch.uint8),
        flag=torch.tensor([True, False, True]),
        scalar=torch.tensor(1.5),
        empty=torch.zeros(0, 3),
        one=torch.randn(1, 1, 3, generator=generator),
    )
    save_file({name: value.contiguous().clone() for name, value in values.items()}, FOLDER / "values.safetensors")
    torch.save(values, FOLDER / "zip.pt")
    torch.save(dict(values), FOLDER / "protocol4.pt", pickle_protocol=4)
    torch.save(values, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    floats = {name: value for name, value in values.items() if value.is_floating_point()}
    parameters = {name: torch.nn.Parameter(value) for name, value in floats.items()}
    wrapped = collections.OrderedDict((f"module.{name}", value) for name, value in parameters.items())
    torch.save({"epoch": 3, "args": {"lr": 0.1}, "state_dict": wrapped, "foreign": Foreign()}, FOLDER / "wrapped.pt")
    names = list(values)
    shards = {"one.bin": names[::2], "two.bin": names[1::2]}
    for file, part in shards.items():
        torch.save({name: values[name] for name in part}, FOLDER / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (FOLDER / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")
    torch.save({"a": torch.zeros(1).expand(1000)}, FOLDER / "expanded.pt")
    torch.save(torch.nn.Linear(2, 2), FOLDER / "module.pt")
    torch.save({"a": {"x": torch.zeros(1)}, "b": {"x": torch.zeros(1)}}, FOLDER / "two.pt")


if __name__ == "__main__":
    main()
