//! The default model, compiled into the library; `assets/shakespeare/README.md` says where it comes from.

pub(super) const CONFIG: &str = include_str!("../../assets/shakespeare/config.json");
pub(super) const GENERATION_CONFIG: &str = include_str!("../../assets/shakespeare/generation_config.json");
pub(super) const TOKENIZER: &str = include_str!("../../assets/shakespeare/tokenizer.json");
pub(super) const WEIGHTS: &[u8] = include_bytes!("../../assets/shakespeare/model.safetensors");

/// The 10 % of the training text that the default model has not seen.
pub fn heldout_text() -> &'static str {
    include_str!("../../assets/shakespeare/heldout.txt")
}
