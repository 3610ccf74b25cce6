//! Keys of a `config.json` that leave what a model computes alone. What is neither here nor read by the model's family
//! may change the results and is refused by name.

/// Training, storage, defaults of text generation, and outputs that other programs may be asked for.
const WITHOUT_EFFECT: &[&str] = &[
    // Where it comes from and what wrote it.
    "_name_or_path",
    "_commit_hash",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_num_labels",
    "attn_implementation",
    "architectures",
    "model_type",
    "finetuning_task",
    "language",
    "name",
    "tokenizer_class",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    // Storage and speed. All sums are f32 or wider here, which `reorder_and_upcast_attn` asks for.
    "chunk_size_feed_forward",
    "dtype",
    "is_llama_config",
    "reorder_and_upcast_attn",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
    // Training.
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "dropout",
    "embd_pdrop",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "initializer_factor",
    "initializer_range",
    "keys_to_ignore_at_inference",
    "problem_type",
    "resid_pdrop",
    "tf_legacy_loss",
    // Heads for other tasks, and left-overs of the first BERT files.
    "directionality",
    "id2label",
    "label2id",
    "num_labels",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    // Special tokens; those that matter are read with the tokenizer.
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "mask_token_id",
    "pad_token_id",
    "prefix",
    "sep_token_id",
    "unk_token_id",
    // Defaults of text generation, which is not the model.
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Keys of features that no family here has, with the values that switch them off.
const OFF: &[(&str, &str)] = &[
    ("add_cross_attention", "false"),
    ("cross_attention_hidden_size", "null"),
    ("is_decoder", "false"),
    ("is_encoder_decoder", "false"),
    ("partial_rotary_factor", "1.0"),
    ("pretraining_tp", "1"),
    ("pruned_heads", "{}"),
    ("quantization_config", "null"),
    ("rope_interleaved", "false"),
    ("tie_encoder_decoder", "false"),
];

/// Whether the key changes nothing, whatever its value.
pub(super) fn is_without_effect(key: &str) -> bool {
    WITHOUT_EFFECT.contains(&key)
}

/// The JSON text of the value that switches the feature of `key` off.
pub(super) fn off(key: &str) -> Option<&'static str> {
    OFF.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
}
