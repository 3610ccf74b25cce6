//! A model as a Hugging Face folder with decoded weights.

use super::{Exported, Report};
use crate::error::{Error, Result, invalid};
use crate::format::Format;
use crate::graph::{Assignment, Role, Weights};
use crate::model::checkpoint::{Dtype, Element};
use crate::model::quantize::Progress;
use crate::model::strips::stored_bytes;
use crate::model::writer::{Planned, Writer, f32_bytes};
use crate::model::{Model, atomic, transpose};
use serde_json::Value;
use std::path::Path;

/// Writes `model` under `assignment` to the new folder `output`: `config.json`, `model.safetensors` and, where the model
/// has them, `tokenizer.json` and `generation_config.json`. Matrices are decoded and rounded to f16, in the shapes of
/// the checkpoint; vectors are f32, since they are small and nothing is gained by rounding them.
///
/// # Errors
/// When `output` exists, a value is beyond f16, a weight is damaged, or the folder cannot be written.
pub fn export_folder(
    model: &Model,
    assignment: &Assignment,
    output: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    if output.exists() {
        invalid!("{} exists; name a new folder", output.display());
    }
    let io = |source| Error::io("cannot write", output, source);
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Renamed when it is complete.
    let temporary = tempfile::Builder::new().prefix(".anybit-").tempdir_in(parent).map_err(io)?;
    let report = write(model, assignment, temporary.path(), progress)?;
    #[cfg(unix)]
    std::fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(io)?;
    std::fs::rename(temporary.path(), output).map_err(io)?;
    // Nothing is left at the temporary path to remove.
    let _ = temporary.keep();
    Ok(report)
}

fn write(
    model: &Model,
    assignment: &Assignment,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let graph = model.graph();
    let plan = |weight: &crate::graph::Weight| {
        let &crate::graph::Weight { rows, cols, role, transposed, .. } = weight;
        let (dtype, shape) = match (role, transposed) {
            (Role::Vector, _) => (Dtype::F32, vec![cols]),
            (_, false) => (Dtype::F16, vec![rows, cols]),
            (_, true) => (Dtype::F16, vec![cols, rows]),
        };
        Planned { name: weight.tensor.clone(), dtype, shape }
    };
    let planned: Vec<Planned> = graph.weights.iter().map(plan).collect();
    // The marker Hugging Face's loaders ask for.
    let metadata = [("format".to_owned(), "pt".to_owned())];
    let mut writer = Writer::create(&folder.join("model.safetensors"), &planned, &metadata)?;
    let mut report = Report::default();
    for (id, weight) in graph.weights.iter().enumerate() {
        progress(Progress { done: id, total: graph.weights.len(), tensor: &weight.tensor });
        let spec = assignment.specs[id];
        let (bytes, changed) = if weight.role == Role::Vector {
            (f32_bytes(&model.vector(id)?), false)
        } else {
            let (values, rows, cols) = {
                let packed = model.packed(id, spec.weight)?;
                let values = packed.decode();
                match weight.transposed {
                    true => (transpose(&values, packed.rows, packed.cols), packed.cols, packed.rows),
                    false => (values, packed.rows, packed.cols),
                }
            };
            let in_tensor = |error| Error::Invalid(format!("tensor `{}`: {error}", weight.tensor));
            let half = Format::F16.encode(&values, rows, cols).map_err(in_tensor)?;
            (stored_bytes(&half)?.0, half.decode() != values)
        };
        report.tensors.push(Exported {
            name: weight.tensor.clone(),
            spec: (weight.role != Role::Vector).then_some(spec),
            stored: Element::Plain(planned[id].dtype),
            bytes: bytes.len(),
            fell_back: changed,
        });
        writer.write(id, &bytes)?;
    }
    report.file_bytes = writer.finish()?;
    let mut config: Value = serde_json::from_str(model.config_text())
        .map_err(|error| Error::Invalid(format!("config.json: {error}")))?;
    if let Some(config) = config.as_object_mut() {
        config.shift_remove("dtype");
        config.insert("torch_dtype".to_owned(), Value::from("float16"));
    }
    let pretty = serde_json::to_string_pretty(&config).map_err(|error| Error::Invalid(error.to_string()))?;
    let texts = [
        ("config.json", Some(pretty.as_str())),
        ("tokenizer.json", model.tokenizer_text()),
        ("generation_config.json", model.generation_text()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            atomic::write(&folder.join(name), text.as_bytes())?;
            report.file_bytes += text.len() as u64;
        }
    }
    Ok(report)
}
