//! Writing packed files: from a model, or from any safetensors file with matrices.

use super::Model;
use super::checkpoint::{Dtype, Element, TensorFile, TensorInfo};
use super::reader::{Description, FORMAT, Reader, VERSION, exceptions_name, flatten, scales_name, stored_as};
use super::strips::{Job, count_exceptions, write_packed};
use super::writer::{Planned, Writer};
use crate::error::{Error, Result, invalid};
use crate::format::Spec;
use crate::graph::{Assignment, Role};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// How far a conversion is, reported before each tensor and once at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Input bytes converted.
    pub done: usize,
    /// Input bytes in all.
    pub total: usize,
    /// The tensor that comes next; empty at the end.
    pub tensor: &'a str,
}

/// One tensor of a conversion.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorReport {
    /// Name in both files.
    pub name: String,
    /// Its spec where it is packed (quantize) or was (dequantize).
    pub spec: Option<Spec>,
    /// Number of values.
    pub elements: usize,
    /// Bytes of data in the input, scales included.
    pub input_bytes: usize,
    /// Bytes of data in the output, scales included.
    pub output_bytes: usize,
    /// Groups whose scale does not fit its type, so that they decode to far less than they held, or to infinity
    /// or NaN.
    pub scale_overflows: usize,
}

/// What a conversion did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every tensor of the output, scales counted with their tensor.
    pub tensors: Vec<TensorReport>,
    /// Size of the output file in bytes.
    pub file_bytes: u64,
}

/// A tensor of a plain file that may be packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Shape in the file.
    pub shape: &'a [usize],
    /// Product of the leading dimensions; 1 for a vector.
    pub rows: usize,
    /// Last dimension.
    pub cols: usize,
}

/// Writes `model` to the packed file `output`. Matrices whose spec in `assignment` differs from their format in
/// the checkpoint are packed; everything else is copied. What a GGUF file holds in blocks stays in their format, bit for
/// bit.
///
/// # Errors
/// When the model is packed already, a weight is not finite, or the output cannot be written.
pub fn quantize_model(
    model: &Model,
    assignment: &Assignment,
    output: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let file = model.reader().file();
    if file.metadata("format") == Some(FORMAT) {
        plain(model.reader())?;
    }
    let is_block =
        |tensor: Option<&TensorInfo>| tensor.is_some_and(|tensor| tensor.element.plain().is_none());
    let mut jobs = HashMap::new();
    let native = model.native_formats();
    for ((weight, &spec), native) in model.graph().weights.iter().zip(&assignment.specs).zip(native) {
        let tensor = file.get(&weight.tensor);
        if weight.role == Role::Vector {
            // Copied unseen otherwise; a file that cannot run should not be written.
            tensor.map_or(Ok(()), |tensor| file.check_finite(tensor))?;
        } else if spec != Spec::from(native) || is_block(tensor) {
            let job = Job { spec, rows: weight.rows, cols: weight.cols, transposed: weight.transposed };
            jobs.insert(weight.tensor.as_str(), job);
        } else if let Some(tensor) = tensor {
            file.check_finite(tensor)?;
        }
    }
    write(file, &jobs, &model.texts.entries(), output, progress)
}

/// Packs the matrices of the safetensors file `input`: float tensors (F32, F16, BF16) of at least two
/// dimensions, the leading ones taken as rows; with `vectors`, float tensors of one dimension too, as
/// one row. `choose` gives each its spec, or `None` to copy it. All other tensors are copied.
///
/// # Errors
/// When the input is packed already or holds nothing to pack, a value is not finite, `choose` fails, or
/// the output cannot be written.
pub fn quantize_file(
    input: &Path,
    output: &Path,
    vectors: bool,
    choose: &mut dyn FnMut(&Matrix<'_>) -> Result<Option<Spec>>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let reader = Reader::open(input)?;
    let file = plain(&reader)?;
    let mut jobs = HashMap::new();
    for matrix in matrices(file, vectors) {
        let Some(spec) = choose(&matrix)? else { continue };
        if let Some(tensor) = file.get(matrix.name) {
            if !tensor.element.is_readable_float() {
                // Says which types can be read.
                file.widen(tensor)?;
            }
            let Matrix { rows, cols, .. } = matrix;
            jobs.insert(tensor.name.as_str(), Job { spec, rows, cols, transposed: false });
        }
    }
    if jobs.is_empty() {
        invalid!(
            "{}: nothing to quantize: none of its {} tensors is a float matrix that a spec was given for",
            file.label(),
            file.tensors().len()
        );
    }
    write(file, &jobs, &[], output, progress)
}

/// The tensors of a plain file that [`quantize_file`] offers to its `choose`: floats of any width with at least
/// two dimensions (one with `vectors`) and one element.
pub fn matrices<'a>(file: &'a TensorFile, vectors: bool) -> Vec<Matrix<'a>> {
    let least = if vectors { 1 } else { 2 };
    let fits = |tensor: &&TensorInfo| {
        tensor.shape.len() >= least && tensor.elements() > 0 && is_float(tensor.element)
    };
    let matrix = |tensor: &'a TensorInfo| {
        let (rows, cols) = flatten(&tensor.shape, false)?;
        Some(Matrix { name: &tensor.name, shape: &tensor.shape, rows, cols })
    };
    file.tensors().iter().filter(fits).filter_map(matrix).collect()
}

/// Floats of every width: a matrix of a type that cannot be read is an error and not silently copied.
fn is_float(element: Element) -> bool {
    let Element::Plain(dtype) = element else { return true };
    let is_integer = matches!(
        dtype,
        Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::U16
            | Dtype::I16
            | Dtype::U32
            | Dtype::I32
            | Dtype::U64
            | Dtype::I64
    );
    !is_integer && dtype != Dtype::C64
}

fn plain(reader: &Reader) -> Result<&TensorFile> {
    if reader.is_packed() {
        invalid!("{} is packed already; quantize from the original checkpoint", reader.file().label());
    }
    Ok(reader.file())
}

fn write(
    file: &TensorFile,
    jobs: &HashMap<&str, Job>,
    texts: &[(String, String)],
    output: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let (planned, descriptions) = plan(file, jobs)?;
    let mut metadata = vec![
        ("format".to_owned(), FORMAT.to_owned()),
        ("anybit.version".to_owned(), VERSION.to_owned()),
        ("anybit.tensors".to_owned(), descriptions.to_string()),
    ];
    metadata.extend_from_slice(texts);
    let foreign = file.metadata_entries().filter(|(key, _)| *key != "format" && !key.starts_with("anybit."));
    metadata.extend(foreign.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut writer = Writer::create(output, &planned, &metadata)?;

    let total = file.tensors().iter().map(TensorInfo::byte_len).sum();
    let mut done = 0;
    let mut report = Report::default();
    let mut index = 0;
    for tensor in file.tensors() {
        progress(Progress { done, total, tensor: &tensor.name });
        done += tensor.byte_len();
        let mut entry = TensorReport {
            name: tensor.name.clone(),
            spec: None,
            elements: tensor.elements(),
            input_bytes: tensor.byte_len(),
            output_bytes: tensor.byte_len(),
            scale_overflows: 0,
        };
        match jobs.get(tensor.name.as_str()) {
            None => {
                file.for_each_piece(tensor, &mut |offset, piece| writer.write_part(index, offset, piece))?
            }
            Some(job) => {
                let (tensors, bytes, overflows) = write_packed(file, tensor, job, &mut writer, index)?;
                entry.spec = Some(job.spec);
                entry.output_bytes = bytes;
                entry.scale_overflows = overflows;
                index += tensors - 1;
            }
        }
        index += 1;
        report.tensors.push(entry);
    }
    report.file_bytes = writer.finish()?;
    progress(Progress { done, total, tensor: "" });
    Ok(report)
}

/// The tensors of the output, and the text of `anybit.tensors`.
fn plan(file: &TensorFile, jobs: &HashMap<&str, Job>) -> Result<(Vec<Planned>, Value)> {
    let mut planned = Vec::new();
    let mut descriptions = Map::new();
    for tensor in file.tensors() {
        let name = tensor.name.clone();
        let Some(job) = jobs.get(name.as_str()) else {
            let Some(dtype) = tensor.element.plain() else {
                invalid!(
                    "{}: tensor `{name}` of type {} cannot be copied to a safetensors file; give it a format",
                    file.label_of(tensor),
                    tensor.element
                );
            };
            planned.push(Planned { name, dtype, shape: tensor.shape.clone() });
            continue;
        };
        let in_tensor =
            |error| Error::Invalid(format!("{}: tensor `{name}`: {error}", file.label_of(tensor)));
        let description = Description {
            format: job.spec.to_string(),
            shape: tensor.shape.clone(),
            dtype: tensor.element.plain().unwrap_or(Dtype::F32),
            transposed: job.transposed,
        };
        let description = serde_json::to_value(description).map_err(|error| in_tensor(error.to_string()))?;
        let layout =
            job.spec.weight.layout(job.rows, job.cols).map_err(|error| in_tensor(error.to_string()))?;
        let ((dtype, shape), scales) = stored_as(job.spec.weight, &layout, job.rows, job.cols);
        descriptions.insert(name.clone(), description);
        let scales = scales.map(|(dtype, shape)| Planned { name: scales_name(&name), dtype, shape });
        // The header says how many exceptions follow, so the formats that may have some are encoded twice.
        let exceptions = match job.spec.weight.may_have_exceptions() {
            true => count_exceptions(file, tensor, job)?,
            false => 0,
        };
        let exceptions = (exceptions > 0).then(|| Planned {
            name: exceptions_name(&name),
            dtype: Dtype::U32,
            shape: vec![exceptions, 3],
        });
        planned.push(Planned { name, dtype, shape });
        planned.extend(scales);
        planned.extend(exceptions);
    }
    Ok((planned, Value::Object(descriptions)))
}
