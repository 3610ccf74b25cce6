"""Makes tests/families/configs.json: configs with the keys that files of well-known models have.

    python tests/families/configs.py         (transformers 4.57.6)

`full` is what `to_dict` of the config class says with all defaults; `published` has the keys of the files on the hub,
which older versions wrote. The test replaces the sizes by those of a small checkpoint: it is about the keys.
"""

import json
from pathlib import Path

import transformers as hf

LLAMA = {
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "initializer_range": 0.02, "model_type": "llama", "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "torch_dtype": "float16", "transformers_version": "4.31.0.dev0",
    "use_cache": True,
}
LLAMA3_SCALING = {
    "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "initializer_range": 0.02, "model_type": "mistral", "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": True,
}
QWEN = {
    "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
    "initializer_range": 0.02, "max_window_layers": 21, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_cache": True,
    "use_sliding_window": False,
}
GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}
PUBLISHED = {
    "Llama-2-7b": ("llama", LLAMA),
    "Llama-3.2-1B": ("llama", {
        **LLAMA, "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
        "mlp_bias": False, "rope_scaling": LLAMA3_SCALING, "rope_theta": 500000.0, "torch_dtype": "bfloat16",
    }),
    "Llama-3.1-8B-Instruct": ("llama", {
        **LLAMA, "attention_bias": False, "attention_dropout": 0.0, "eos_token_id": [128001, 128008, 128009],
        "mlp_bias": False, "rope_scaling": {**LLAMA3_SCALING, "factor": 8.0}, "rope_theta": 500000.0,
    }),
    "TinyLlama-1.1B": ("llama", {**LLAMA, "attention_bias": False, "rope_theta": 10000.0, "torch_dtype": "float32"}),
    "SmolLM2-135M": ("llama", {
        **LLAMA, "attention_bias": False, "attention_dropout": 0.0, "is_llama_config": True, "mlp_bias": False,
        "pad_token_id": 2, "rope_interleaved": False, "rope_theta": 100000,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    }),
    "Mistral-7B-v0.1": ("mistral", {**MISTRAL, "sliding_window": 4096}),
    "Mistral-7B-v0.3": ("mistral", {
        **MISTRAL, "attention_dropout": 0.0, "rope_theta": 1000000.0, "sliding_window": None,
    }),
    "Qwen2.5-0.5B-Instruct": ("qwen2", {**QWEN, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}),
    "Qwen3-0.6B": ("qwen3", {
        **QWEN, "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "max_window_layers": 28,
        "model_type": "qwen3", "rope_scaling": None, "sliding_window": None,
    }),
    "gpt2": ("gpt2", GPT2),
    "distilgpt2": ("gpt2", {**GPT2, "_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}),
}
CLASSES = {
    "llama": hf.LlamaConfig,
    "mistral": hf.MistralConfig,
    "qwen2": hf.Qwen2Config,
    "qwen3": hf.Qwen3Config,
    "smollm3": hf.SmolLM3Config,
    "gpt2": hf.GPT2Config,
}

entries = [{"name": name, "folder": folder, "config": config} for name, (folder, config) in PUBLISHED.items()]
for folder, kind in CLASSES.items():
    name = "GPT2LMHeadModel" if folder == "gpt2" else kind.__name__.replace("Config", "ForCausalLM")
    config = {**kind().to_dict(), "architectures": [name]}
    entries.append({"name": f"all defaults of {kind.__name__}", "folder": folder, "config": config})
path = Path(__file__).parent / "configs.json"
path.write_text(json.dumps(entries, indent=1) + "\n")
