//! Models as files of other programs: GGUF, and Hugging Face folders in f16.

mod blocks;
mod folder;
mod gguf;
mod tokenizer;
mod writer;

pub use folder::export_folder;
pub use gguf::export_gguf;

use super::checkpoint::Element;
use crate::format::Spec;

/// One tensor of an export.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Name in the output.
    pub name: String,
    /// Its spec in the model; `None` for vectors.
    pub spec: Option<Spec>,
    /// How the output stores it.
    pub stored: Element,
    /// Bytes of data in the output.
    pub bytes: usize,
    /// The output has no equal of its format, so that it was rounded again.
    pub fell_back: bool,
}

/// What an export did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every tensor of the model.
    pub tensors: Vec<Exported>,
    /// Size of the output in bytes.
    pub file_bytes: u64,
}
