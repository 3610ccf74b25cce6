//! What a model folder holds: texts, and the file with the weights.

use crate::error::{Error, Result, invalid};
use std::path::{Path, PathBuf};

/// The JSON files of a model folder.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) config: String,
    pub(super) generation: Option<String>,
    pub(super) tokenizer: Option<String>,
    pub(super) tokenizer_config: Option<String>,
    pub(super) chat_template: Option<String>,
    /// The file that the tokenizer is from, where it is one of its own.
    pub(super) tokenizer_file: Option<PathBuf>,
}

impl Texts {
    /// Metadata that make a packed file a model.
    pub(super) fn entries(&self) -> Vec<(String, String)> {
        let Texts { config, generation, tokenizer, tokenizer_config, chat_template, .. } = self;
        let mut texts = vec![("anybit.config".to_owned(), config.clone())];
        let optional = [
            ("anybit.generation_config", generation),
            ("anybit.tokenizer", tokenizer),
            ("anybit.tokenizer_config", tokenizer_config),
            ("anybit.chat_template", chat_template),
        ];
        for (key, text) in optional {
            texts.extend(text.iter().map(|text| (key.to_owned(), text.clone())));
        }
        texts
    }
}

/// Names of the weights of a folder, in the order in which they are looked for.
pub(super) const WEIGHT_FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Endings of files that may hold weights under another name.
const WEIGHT_ENDINGS: [&str; 4] = ["safetensors", "bin", "pt", "pth"];

/// The file with the weights of a model folder, see [`Model::load`].
pub(super) fn weights_of(folder: &Path) -> Result<PathBuf> {
    if let Some(path) = WEIGHT_FILES.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        return Ok(path);
    }
    let io = |source| Error::io("cannot read", folder, source);
    let mut others = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.file_name().is_some_and(|name| is_other_weights(&name.to_string_lossy())) {
            others.push(path);
        }
    }
    others.sort();
    match &others[..] {
        [only] => Ok(only.clone()),
        [] => invalid!(
            "{} has no weights; want one of {}, or one file that ends in .{}",
            folder.display(),
            WEIGHT_FILES.join(", "),
            WEIGHT_ENDINGS.join(", .")
        ),
        several => {
            let names = several.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
            invalid!(
                "{} has several files with weights ({}) and none is named {}; name the right one so",
                folder.display(),
                names.collect::<Vec<_>>().join(", "),
                WEIGHT_FILES[0]
            )
        }
    }
}

/// Whether a file name is one that weights may have beside [`WEIGHT_FILES`].
pub(super) fn is_other_weights(name: &str) -> bool {
    // What training programs leave beside the weights.
    let is_state = ["training_args", "optimizer", "scheduler", "rng_state", "tokenizer"]
        .iter()
        .any(|state| name.starts_with(state));
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    WEIGHT_ENDINGS.contains(&ending) && !is_state && !name.contains('/')
}

/// The text of a file, `None` where there is none.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("cannot read", path, error)),
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => invalid!("{} is not UTF-8 text: {}", path.display(), error.utf8_error()),
    }
}
