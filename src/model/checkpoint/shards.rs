//! Checkpoints of several files: Hugging Face's `model.safetensors.index.json` and `pytorch_model.bin.index.json`, whose
//! `weight_map` says which file holds which tensor.

use super::{Parts, Source, TensorFile, parts, reject_other_formats};
use crate::error::{Error, Result, invalid};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

pub(super) fn open(path: &Path) -> Result<TensorFile> {
    let label = path.display().to_string();
    let text = std::fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
    reject_other_formats(&text, &label)?;
    let index: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::Invalid(format!("{label} is not valid JSON: {error}")))?;
    let Some(Value::Object(map)) = index.get("weight_map") else {
        invalid!("{label} has no `weight_map`; want a map from tensor names to file names");
    };
    // By file, so that every file is opened once and errors do not depend on the order of the map.
    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str().filter(|file| is_plain_name(file)) else {
            invalid!(
                "{label}: `weight_map` of `{tensor}` is {file}; want the name of a file in the same folder"
            );
        };
        files.entry(file).or_default().insert(tensor);
    }
    if files.is_empty() {
        invalid!("{label}: `weight_map` is empty; want a map from tensor names to file names");
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut sources, mut tensors, mut metadata) = (Vec::new(), Vec::new(), Map::new());
    for (number, (file, wanted)) in files.into_iter().enumerate() {
        let path = folder.join(file);
        if !path.exists() {
            let first = wanted.first().copied().unwrap_or_default();
            invalid!(
                "{} is missing: {label} says it holds {} tensors, `{first}` among them; download it too",
                path.display(),
                wanted.len()
            );
        }
        let source = Source::open(&path)?;
        let Parts { tensors: found, metadata: more } = parts(&source)?;
        for name in &wanted {
            if !found.iter().any(|tensor| tensor.name == *name) {
                invalid!("{}: tensor `{name}` is missing although {label} says it is there", source.label);
            }
        }
        // What the index does not name is not part of the checkpoint.
        let named = found.into_iter().filter(|tensor| wanted.contains(tensor.name.as_str()));
        tensors.extend(named.map(|mut tensor| {
            tensor.source = number;
            tensor
        }));
        metadata.extend(more);
        sources.push(source);
    }
    Ok(TensorFile::assemble(sources, label, Parts { tensors, metadata }))
}

/// Whether `name` is that of a file in the same folder, wherever the program runs.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\', ':'])
}
