"""A small random masked language model whose decoder is not the embedding, and whose two biases differ.

    pip install torch 'transformers>=5' safetensors
    python tests/data/encoders/generate_untied.py

Writes untied/ beside this file: checkpoint, config.json and golden.json (token ids, and the logits of every token in f32).
Versions before 5 of transformers tie the biases whatever the config says.
"""

import json
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM

torch.manual_seed(3)
folder = Path(__file__).parent / "untied"
config = BertConfig(hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, vocab_size=23,
                    max_position_embeddings=12, tie_word_embeddings=False)
model = BertForMaskedLM(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.2
    assert (model.cls.predictions.bias - model.cls.predictions.decoder.bias).abs().max() > 0.1
    ids = torch.randint(0, config.vocab_size, (1, 9))
    logits = model(ids).logits[0]
model.save_pretrained(folder)
golden = {"ids": ids[0].tolist(), "logits": logits.flatten().tolist()}
(folder / "golden.json").write_text(json.dumps(golden))
