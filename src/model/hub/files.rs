//! Which files of a repository make up a model.

use crate::error::{Error, Result, invalid};
use crate::model::folder::{WEIGHT_FILES, is_other_weights};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Texts that belong to a model wherever they are.
const TEXTS: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];
/// Tokenizers, each the files it consists of, best first.
const TOKENIZERS: [&[&str]; 4] =
    [&["tokenizer.json"], &["vocab.json", "merges.txt"], &["tokenizer.model"], &["vocab.txt"]];

/// What of a repository a model needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One file that is a model by itself.
    File(String),
    /// The files of a model folder. Those of the weights may be missing in the listing: an index names them.
    Folder { files: Vec<String>, has_tokenizer: bool },
}

impl Wanted {
    /// Chooses among the files `here` of the repository `name`; `read` gives the content of an index.
    ///
    /// # Errors
    /// When the files are not those of one model, with what is missing.
    pub(super) fn among(
        here: &BTreeSet<String>,
        name: &str,
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let has = |file: &str| here.contains(file);
        if !has("config.json") {
            return only_gguf(here, name);
        }
        let mut files = vec!["config.json".to_owned()];
        files.extend(TEXTS.into_iter().filter(|file| has(file)).map(str::to_owned));
        let tokenizer = TOKENIZERS.into_iter().find(|files| files.iter().all(|file| has(file)));
        files.extend(tokenizer.into_iter().flatten().map(|file| (*file).to_owned()));
        match WEIGHT_FILES.into_iter().find(|file| has(file)) {
            Some(index) if index.ends_with(".json") => {
                files.push(index.to_owned());
                files.extend(shards(&read(index)?, index, name)?);
            }
            Some(file) => files.push(file.to_owned()),
            None => {
                let others: Vec<&String> = here.iter().filter(|file| is_other_weights(file)).collect();
                match &others[..] {
                    [only] => files.push((*only).clone()),
                    [] => match only_gguf(here, name) {
                        Ok(file) => return Ok(file),
                        Err(_) => invalid!(
                            "{name} has config.json but no weights: none of {} is there",
                            WEIGHT_FILES.join(", ")
                        ),
                    },
                    several => invalid!(
                        "{name} has several files with weights ({}) and none is named {}",
                        list(several),
                        WEIGHT_FILES[0]
                    ),
                }
            }
        }
        Ok(Self::Folder { files, has_tokenizer: tokenizer.is_some() })
    }
}

/// The only GGUF file of a repository without a model folder.
fn only_gguf(here: &BTreeSet<String>, name: &str) -> Result<Wanted> {
    let files: Vec<&String> =
        here.iter().filter(|file| file.to_ascii_lowercase().ends_with(".gguf")).collect();
    match &files[..] {
        [only] => Ok(Wanted::File((*only).clone())),
        [] => invalid!("{name} has no config.json; want the repository of a model"),
        several => invalid!(
            "{name} has several models ({}); choose one, as in {}:{}",
            list(several),
            name,
            several[0]
        ),
    }
}

fn list(files: &[&String]) -> String {
    let shown: Vec<&str> = files.iter().take(8).map(|file| file.as_str()).collect();
    let more = if files.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// The files that an index names.
fn shards(text: &[u8], index: &str, name: &str) -> Result<BTreeSet<String>> {
    let index_json: Value = serde_json::from_slice(text)
        .map_err(|error| Error::Invalid(format!("{index} of {name} is not valid JSON: {error}")))?;
    let map = index_json.get("weight_map").and_then(Value::as_object);
    let mut files = BTreeSet::new();
    for file in map.into_iter().flat_map(|map| map.values()) {
        match file.as_str().filter(|file| super::is_relative(file) && !file.contains('/')) {
            Some(file) => files.insert(file.to_owned()),
            None => invalid!("{index} of {name} names {file}; want the name of a file beside it"),
        };
    }
    if files.is_empty() {
        invalid!("{index} of {name} has no `weight_map` with files");
    }
    Ok(files)
}

/// Names of the files of a snapshot that are really there: links to blobs that were deleted are not.
pub(super) fn present(snapshot: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let entries = match snapshot.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(Error::io("cannot read", snapshot, error)),
    };
    for entry in entries {
        let path = entry.map_err(|cause| Error::io("cannot read", snapshot, cause))?.path();
        if path.is_file() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// Whether a name ends as files with weights do.
pub(super) fn has_weight_ending(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["safetensors", "bin", "pt", "pth", "gguf", "json"]
        .iter()
        .any(|ending| name.ends_with(&format!(".{ending}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str], index: &str) -> Result<Wanted> {
        let here = names.iter().map(|name| (*name).to_owned()).collect();
        Wanted::among(&here, "a/b", &mut |_| Ok(index.as_bytes().to_vec()))
    }

    fn files(names: &[&str], index: &str) -> Vec<String> {
        match wanted(names, index).unwrap() {
            Wanted::Folder { files, .. } => files,
            Wanted::File(file) => panic!("{file} alone"),
        }
    }

    #[test]
    fn only_what_a_model_needs_is_wanted() {
        let plain = [
            "README.md",
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer.model",
            "vocab.json",
            "merges.txt",
            "tf_model.h5",
            "generation_config.json",
            "onnx/model.onnx",
        ];
        assert_eq!(
            files(&plain, ""),
            ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]
        );
        let slow = ["config.json", "vocab.json", "merges.txt", "pytorch_model.bin"];
        assert_eq!(files(&slow, ""), ["config.json", "vocab.json", "merges.txt", "pytorch_model.bin"]);
        let index =
            r#"{"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}}"#;
        assert_eq!(
            files(&["config.json", "model.safetensors.index.json", "m-1.safetensors"], index),
            ["config.json", "model.safetensors.index.json", "m-1.safetensors", "m-2.safetensors"]
        );
        assert_eq!(
            files(&["config.json", "weights.pth", "optimizer.pt"], ""),
            ["config.json", "weights.pth"]
        );
        assert_eq!(wanted(&["README.md", "q4.gguf"], "").unwrap(), Wanted::File("q4.gguf".to_owned()));
        assert_eq!(wanted(&["config.json", "q4.gguf"], "").unwrap(), Wanted::File("q4.gguf".to_owned()));
    }

    #[test]
    fn what_is_no_model_is_said() {
        let error = |names: &[&str], index: &str| wanted(names, index).unwrap_err().to_string();
        assert!(error(&["README.md"], "").contains("no config.json"));
        assert!(error(&["config.json"], "").contains("model.safetensors"));
        assert!(error(&["a.gguf", "b.gguf"], "").contains("a/b:a.gguf"));
        assert!(error(&["config.json", "a.bin", "b.bin"], "").contains("a.bin, b.bin"));
        let sharded = ["config.json", "model.safetensors.index.json"];
        for index in ["", "[]", "{}", r#"{"weight_map": {}}"#] {
            assert!(error(&sharded, index).contains("model.safetensors.index.json"), "{index}");
        }
        for file in ["../x", "/x", "a/b", "", ".."] {
            let index = serde_json::json!({ "weight_map": { "w": file } }).to_string();
            assert!(error(&sharded, &index).contains("beside it"), "{file}");
        }
        assert!(error(&sharded, r#"{"weight_map": {"w": 1}}"#).contains("names 1"));
    }
}
