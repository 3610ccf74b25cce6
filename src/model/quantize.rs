//! Writing packed files: from a model, or from any safetensors file with matrices.

use super::checkpoint::{Dtype, Element, TensorFile, TensorInfo};
use super::reader::{
    Description, FORMAT, Reader, VERSION, exceptions_name, flatten, format_of, natural, scales_name,
    stored_as,
};
use super::writer::{Planned, Writer, word_bytes};
use super::{Model, transpose};
use crate::error::{Error, Result, invalid};
use crate::format::{Codes, Format, Packed, Scale, Spec};
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

/// A tensor to pack.
struct Job {
    spec: Spec,
    rows: usize,
    cols: usize,
    transposed: bool,
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
    write(file, &jobs, &model.texts(), output, progress)
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
            Some(job) if tensor.element.plain().is_some() && rows_at_once(job)? < job.rows => {
                entry.spec = Some(job.spec);
                (entry.output_bytes, entry.scale_overflows) =
                    encode_rows(file, tensor, job, &mut writer, &mut index)?;
            }
            Some(job) => {
                let (packed, overflows) = encode(file, tensor, job)?;
                file.release(tensor);
                let (codes, scales) = stored_bytes(&packed)?;
                entry.spec = Some(job.spec);
                entry.output_bytes = codes.len() + scales.len();
                entry.scale_overflows = overflows;
                writer.write(index, &codes)?;
                if !scales.is_empty() {
                    index += 1;
                    writer.write(index, &scales)?;
                }
                if !packed.exceptions.is_empty() {
                    index += 1;
                    let exceptions = exception_bytes(&packed);
                    entry.output_bytes += exceptions.len();
                    writer.write(index, &exceptions)?;
                }
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
            true => encode(file, tensor, job)?.0.exceptions.len(),
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

/// The packed tensor, and how many of its scales do not fit.
fn encode(file: &TensorFile, tensor: &TensorInfo, job: &Job) -> Result<(Packed, usize)> {
    if let Element::Ggml(kind) = tensor.element {
        let Some(stored) = format_of(kind).filter(|stored| *stored == job.spec.weight) else {
            return Err(packed_already(file.label_of(tensor), &tensor.name, kind.name(), job.spec.weight));
        };
        let (codes, scales) = kind.to_streams(job.rows, job.cols, &file.bytes(tensor))?;
        return Ok((Packed::from_parts(stored, job.rows, job.cols, codes, scales, Vec::new())?, 0));
    }
    let mut values = file.widen_finite(tensor)?;
    if job.transposed {
        values = transpose(&values, job.cols, job.rows);
    }
    let in_tensor =
        |error| Error::Invalid(format!("{}: tensor `{}`: {error}", file.label_of(tensor), tensor.name));
    let packed = job.spec.weight.encode(&values, job.rows, job.cols).map_err(in_tensor)?;
    let overflows = packed.scale_overflows() + saturations(&packed, &values)?;
    Ok((packed, overflows))
}

/// What is said of a matrix that is packed and wanted in another format.
pub(super) fn packed_already(file: &str, tensor: &str, stored: &str, asked: Format) -> Error {
    Error::Invalid(format!(
        "{file}: tensor `{tensor}` is packed as {stored}, asked for {asked}; quantize to {asked} from the original \
         checkpoint"
    ))
}

/// Weights that are encoded at a time where rows do not depend on each other.
const AT_ONCE: usize = 1 << 26;

/// Rows of a matrix that are encoded at a time: all of them unless it is very large and its format packs every row by
/// itself.
fn rows_at_once(job: &Job) -> Result<usize> {
    let &Job { spec, rows, cols, transposed } = job;
    if transposed || rows.saturating_mul(cols) <= AT_ONCE || !packs_rows(spec.weight, rows, cols)? {
        return Ok(rows);
    }
    Ok((AT_ONCE / cols).max(1))
}

/// Whether the packed matrix is the packed rows one after another, in codes and in scales.
fn packs_rows(format: Format, rows: usize, cols: usize) -> Result<bool> {
    let layout = format.layout(rows, cols)?;
    let codes = layout.row_words.checked_mul(rows) == Some(layout.code_words);
    let scales = layout.groups_per_row.checked_mul(rows) == Some(layout.groups) && layout.group_rows <= 1;
    let is_plain = natural(format).is_none() && layout.scheme.scale.head_words() == 0;
    // Blocks of zeros take their scale from all other blocks in some of these.
    let is_element = matches!(format, Format::Element { .. });
    let alone = is_plain && !is_element && !format.may_have_exceptions();
    Ok(codes && scales && alone && layout.scale_bits.is_multiple_of(8))
}

/// Encodes and writes a matrix some rows at a time; the bytes written, and how many scales do not fit.
fn encode_rows(
    file: &TensorFile,
    tensor: &TensorInfo,
    job: &Job,
    writer: &mut Writer,
    index: &mut usize,
) -> Result<(usize, usize)> {
    let in_tensor =
        |error| Error::Invalid(format!("{}: tensor `{}`: {error}", file.label_of(tensor), tensor.name));
    let step = rows_at_once(job)?;
    let codes_at = *index;
    let (mut code_bytes, mut scale_bytes, mut overflows) = (0, 0, 0);
    for first in (0..job.rows).step_by(step) {
        let rows = first..(first + step).min(job.rows);
        let values = file.widen_rows(tensor, rows.clone(), job.cols)?;
        let packed = job.spec.weight.encode(&values, rows.len(), job.cols).map_err(in_tensor)?;
        overflows += packed.scale_overflows() + saturations(&packed, &values)?;
        drop(values);
        let (codes, scales) = stored_bytes(&packed)?;
        writer.write_part(codes_at, code_bytes, &codes)?;
        code_bytes += codes.len();
        if !scales.is_empty() {
            *index = codes_at + 1;
            writer.write_part(codes_at + 1, scale_bytes, &scales)?;
            scale_bytes += scales.len();
        }
    }
    Ok((code_bytes + scale_bytes, overflows))
}

/// Groups whose scale is finite and yet too small: an f16 scale that was cut to the largest f16, or a
/// scale whose largest code decodes to infinity.
pub(super) fn saturations(packed: &Packed, values: &[f32]) -> Result<usize> {
    let (format, cols) = (packed.format, packed.cols);
    let layout = format.layout(packed.rows, cols)?;
    let qmax = match layout.scheme.codes {
        // ggml chooses scales in its own way, and refuses what does not fit.
        _ if matches!(format, Format::Ggml(_)) => return Ok(0),
        Codes::Signed(bits) => (1u32 << (bits - 1)) - 1,
        Codes::Digits { base, .. } => u32::from(base) / 2,
        _ => return Ok(0),
    };
    let qmax = qmax as f32;
    if !matches!(layout.scheme.scale, Scale::F32 | Scale::F16) {
        return Ok(0);
    }
    if layout.scale_bits == 32 {
        let is_over =
            |bits: &&u32| f32::from_bits(**bits).is_finite() && (f32::from_bits(**bits) * qmax).is_infinite();
        return Ok(packed.scales.iter().filter(is_over).count());
    }
    let largest = u32::from(half::f16::MAX.to_bits());
    if !packed.scales.iter().any(|word| word & 0xffff == largest || word >> 16 == largest) {
        return Ok(0);
    }
    // From here on the quotient rounds to infinity (half of a step of 32 above the largest f16).
    let limit = (half::f16::MAX.to_f32() + 16.0) * qmax;
    let groups = values.chunks(cols).flat_map(|row| row.chunks(layout.group));
    Ok(groups.filter(|group| group.iter().any(|value| value.abs() >= limit)).count())
}

/// Codes and scales as the file holds them: the words without the padding at the end of the scales and,
/// for plain float formats, at the end of the rows.
pub(super) fn stored_bytes(packed: &Packed) -> Result<(Vec<u8>, Vec<u8>)> {
    let layout = packed.format.layout(packed.rows, packed.cols)?;
    let mut codes = word_bytes(&packed.codes);
    if let Some(dtype) = natural(packed.format) {
        let (row, stride) = (packed.cols * dtype.bitsize() / 8, layout.row_words * 4);
        if row != stride {
            codes = codes.chunks(stride).flat_map(|padded| &padded[..row]).copied().collect();
        }
    }
    let mut scales = word_bytes(&packed.scales);
    scales.truncate(layout.scheme.scale.head_words() * 4 + layout.groups * layout.scale_bits / 8);
    Ok((codes, scales))
}

/// Exceptions as the file holds them: row, column and value of each.
fn exception_bytes(packed: &Packed) -> Vec<u8> {
    let words: Vec<u32> = packed.exceptions.iter().flat_map(|e| [e.row, e.col, e.bits]).collect();
    word_bytes(&words)
}
