"""Small random encoders and what PyTorch makes of them.

    python tests/data/encoders/generate.py

writes the folders beside this file and golden.json. Made with torch 2.4.1, transformers 4.57.6, tokenizers 0.22 and
numpy. Everything is random or made up for this project.
"""

import json
import pathlib

import numpy
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["a", "the", "film", "play", "good", "bad", "very", "is", "was", "not", "and", "but", ",", "."]
PIECES = ["##s", "##ed", "##ing", "##ly", "##er"]
TEXTS = [
    ["The film is good.", None],
    ["a bad play, and very bad acting", None],
    ["Not good but not bad", None],
    ["plays", None],
    ["", None],
    ["it was a Très Bon film \u4e2d 123", None],
    ["the play was good", "the film was bad"],
    ["filmed", "a very very very very very very very very very very very very very good play"],
    ["the " * 30, None],
    ["the " * 9, "a " * 25],
    ["good " * 25, "bad " * 24],
]


def randomize(model, seed):
    """Weights that make every part of the model count: larger than usual, biases and norms not neutral."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "LayerNorm.weight" in name or "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.1 * noise)
            elif "embeddings" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * 1.5 / parameter.shape[1] ** 0.5)
    return model.eval()


def tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*WORDS, *LETTERS])]
    vocabulary += dict.fromkeys([*PIECES, *(f"##{letter}" for letter in LETTERS)])
    path = HERE / "vocab.txt"
    path.write_text("\n".join(vocabulary) + "\n")
    made = transformers.BertTokenizerFast(vocab_file=str(path), do_lower_case=True)
    path.unlink()
    return made, len(vocabulary)


def config(vocabulary, **more):
    return transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=20, num_hidden_layers=2, num_attention_heads=4, intermediate_size=28,
        max_position_embeddings=24, type_vocab_size=2, attn_implementation="eager", **more,
    )


def save(model, name, tokens, rename=lambda name: name):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    state = {rename(key): value.contiguous() for key, value in model.state_dict().items() if "position_ids" not in key}
    # The decoder of a masked language model is tied to the embeddings and stored once.
    state = {key: value for key, value in state.items() if not key.startswith("cls.predictions.decoder")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    text = model.config.to_json_string(use_diff=True)
    (folder / "config.json").write_text(text)
    tokens.backend_tokenizer.save(str(folder / "tokenizer.json"))


def numbers(tensor):
    # Nine digits tell every f32 from its neighbours.
    return [float(f"{value:.9g}") for value in tensor.flatten()]


def encoded(tokens, most):
    entries = []
    for text, pair in TEXTS:
        kept = tokens(text, pair, truncation=True, max_length=most)
        whole = tokens(text, pair)
        entries.append({
            "text": text, "pair": pair, "ids": kept["input_ids"], "segments": kept["token_type_ids"],
            "cut": len(whole["input_ids"]) - len(kept["input_ids"]),
        })
    return entries


def padded(entries):
    """All texts in one batch with a padding mask, as other programs run them."""
    longest = max(len(entry["ids"]) for entry in entries)
    pad = lambda values: values + [0] * (longest - len(values))
    return {
        "input_ids": torch.tensor([pad(entry["ids"]) for entry in entries]),
        "token_type_ids": torch.tensor([pad(entry["segments"]) for entry in entries]),
        "attention_mask": torch.tensor([pad([1] * len(entry["ids"])) for entry in entries]),
    }


def mean_pooled(states, mask):
    """The mean pooling of sentence-transformers."""
    mask = mask.unsqueeze(-1).float()
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


def base11(weight, group):
    """Quantized and decoded as Base11Quantizer does: 11 levels between minimum and maximum of a group, both f16."""
    rows, cols = weight.shape
    groups = weight.reshape(rows, cols // group, group)
    low = groups.min(-1, keepdims=True).astype(numpy.float16)
    high = groups.max(-1, keepdims=True).astype(numpy.float16)
    scale = numpy.maximum(high - low, numpy.float16(1e-5)).astype(numpy.float32)
    low = low.astype(numpy.float32)
    levels = torch.linspace(-1, 1, 11).numpy()
    centered = (groups - low) / scale * numpy.float32(2) - numpy.float32(1)
    index = numpy.abs(centered[..., None] - levels).argmin(-1)
    return (((levels[index] + 1) / 2) * scale + low).reshape(rows, cols).astype(numpy.float32)


class Block(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        layers = [torch.nn.Linear(dim, dim), torch.nn.ReLU(), torch.nn.Linear(dim, dim), torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(dim, dim))

    def forward(self, x):
        return self.model(x) + x


class BigNet(torch.nn.Module):
    def __init__(self, dim, blocks):
        super().__init__()
        layers = [Block(dim)]
        for _ in range(blocks - 1):
            layers += [torch.nn.LayerNorm(dim), Block(dim)]
        self.model = torch.nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


def bignet(golden):
    dim, blocks = 64, 3
    model = BigNet(dim, blocks)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and name.count(".") == 2
            spread = 0.1 if parameter.dim() == 1 else 1 / dim**0.5
            parameter.copy_(noise * spread + (1 if is_norm and name.endswith("weight") else 0))
    folder = HERE / "bignet"
    folder.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    text = {"architectures": ["BigNet"], "dim": dim, "blocks": blocks, "layer_norm_eps": 1e-05}
    (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")
    inputs = torch.randn(5, dim, generator=generator)
    numpy.save(folder / "inputs.npy", inputs.numpy())
    golden["bignet"] = {"inputs": numbers(inputs), "f32": numbers(model(inputs))}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(torch.from_numpy(base11(module.weight.numpy(), 64)))
    golden["bignet"]["base11"] = numbers(model(inputs))


@torch.no_grad()
def main():
    tokens, vocabulary = tokenizer()
    texts = encoded(tokens, 24)
    golden = {"texts": texts}
    batch = padded(texts)

    labels = {0: "bad", 1: "so so", 2: "good"}
    made = config(vocabulary, num_labels=3, id2label=labels, label2id={v: k for k, v in labels.items()})
    model = randomize(transformers.BertForSequenceClassification(made), 1)
    model.config.architectures = ["BertForSequenceClassification"]
    save(model, "classifier", tokens)
    states = model.bert(**batch)
    pooled = mean_pooled(states.last_hidden_state, batch["attention_mask"])
    golden["classifier"] = {
        "logits": numbers(model(**batch).logits),
        "mean": numbers(pooled),
        "mean_normalized": numbers(torch.nn.functional.normalize(pooled)),
        "cls": numbers(states.last_hidden_state[:, 0]),
        "pooler": numbers(states.pooler_output),
    }

    # As sentence-transformers publishes: no prefix, no pooler; and the names of norms of the first checkpoints.
    made = config(vocabulary, hidden_act="gelu_new", layer_norm_eps=1e-5)
    model = randomize(transformers.BertModel(made, add_pooling_layer=False), 2)
    model.config.architectures = ["BertModel"]
    old = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    save(model, "encoder", tokens, old)
    states = model(**batch).last_hidden_state
    golden["encoder"] = {
        "mean": numbers(mean_pooled(states, batch["attention_mask"])),
        "states": [numbers(row[: len(entry["ids"])]) for row, entry in zip(states, texts)],
    }

    made = config(vocabulary, hidden_act="relu")
    model = randomize(transformers.BertForMaskedLM(made), 3)
    model.tie_weights()
    model.config.architectures = ["BertForMaskedLM"]
    save(model, "masked", tokens)
    logits = model(**batch).logits
    golden["masked"] = {"logits": [numbers(row[: len(entry["ids"])]) for row, entry in zip(logits[:3], texts)]}

    bignet(golden)
    (HERE / "golden.json").write_text(json.dumps(golden))


main()
