//! Turning packed files back into plain f32 ones.

use super::checkpoint::{Dtype, TensorInfo};
use super::quantize::{Progress, Report, TensorReport};
use super::reader::{Reader, exceptions_name, scales_name};
use super::strips::strip_rows;
use super::transpose;
use super::writer::{Planned, Writer, f32_bytes};
use crate::error::{Result, invalid};
use crate::format::Packed;
use std::borrow::Cow;
use std::path::Path;

/// Writes the tensors of the packed file `input` to `output`: packed ones decoded by `decode` (e.g.
/// [`Packed::decode`], or a device) in the names, shapes and orientation they had in the checkpoint,
/// other f16 and bf16 tensors widened to f32, the rest copied. A decoded NaN is written as 0x7fc00000,
/// whatever its payload.
///
/// # Errors
/// When `input` was not written by quantize or is corrupt, `decode` fails or returns another number of
/// values than `rows * cols`, or the output cannot be written.
pub fn dequantize_file(
    input: &Path,
    output: &Path,
    decode: &mut dyn FnMut(&Packed) -> Result<Vec<f32>>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let reader = Reader::open(input)?;
    let file = reader.file();
    if !reader.is_packed() {
        invalid!("{} was not written by `anybit quantize`: there is nothing to dequantize", file.label());
    }
    let copied: Vec<&TensorInfo> = reader.unpacked().collect();
    // Packed files are safetensors files, whose elements are plain.
    let dtype_out = |tensor: &TensorInfo| match tensor.element.plain() {
        Some(dtype) if !tensor.element.is_readable_float() => dtype,
        _ => Dtype::F32,
    };
    let mut planned: Vec<Planned> = Vec::new();
    for entry in reader.entries() {
        planned.push(Planned { name: entry.name.clone(), dtype: Dtype::F32, shape: entry.shape.clone() });
    }
    for tensor in &copied {
        let dtype = dtype_out(tensor);
        planned.push(Planned { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() });
    }
    // The marker Hugging Face's loaders ask for.
    let metadata = [("format".to_owned(), "pt".to_owned())];
    let mut writer = Writer::create(output, &planned, &metadata)?;

    let total = file.tensors().iter().map(TensorInfo::byte_len).sum();
    let stored = |name: &str| file.get(name).map_or(0, TensorInfo::byte_len);
    let mut done = 0;
    let mut report = Report::default();
    for (index, entry) in reader.entries().iter().enumerate() {
        progress(Progress { done, total, tensor: &entry.name });
        let packed = reader.packed(entry)?;
        let alignment = entry.spec.weight.row_alignment(entry.rows, entry.cols);
        let step = if entry.transposed { entry.rows } else { strip_rows(entry.rows, entry.cols, alignment) };
        let mut written = 0;
        for first in (0..entry.rows).step_by(step) {
            let count = step.min(entry.rows - first);
            let strip = match count == entry.rows {
                true => Cow::Borrowed(&packed),
                false => Cow::Owned(packed.slice_rows(first..first + count)),
            };
            let mut values = decode(&strip)?;
            if values.len() != count * entry.cols {
                invalid!(
                    "tensor `{}`: decoded {} values, want {count} x {}",
                    entry.name,
                    values.len(),
                    entry.cols
                );
            }
            // Several bit patterns are NaN, and which one comes out of an operation depends on the machine.
            values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = f32::NAN);
            if entry.transposed {
                values = transpose(&values, entry.rows, entry.cols);
            }
            let bytes = f32_bytes(&values);
            writer.write_part(index, written, &bytes)?;
            written += bytes.len();
        }
        let mut input_bytes = stored(&entry.name);
        if !packed.scales.is_empty() {
            input_bytes += stored(&scales_name(&entry.name));
        }
        if !packed.exceptions.is_empty() {
            input_bytes += stored(&exceptions_name(&entry.name));
        }
        done += input_bytes;
        report.tensors.push(TensorReport {
            name: entry.name.clone(),
            spec: Some(entry.spec),
            elements: entry.rows * entry.cols,
            input_bytes,
            output_bytes: written,
            scale_overflows: packed.scale_overflows(),
        });
    }
    for (tensor, index) in copied.iter().zip(reader.entries().len()..) {
        progress(Progress { done, total, tensor: &tensor.name });
        done += tensor.byte_len();
        let mut output_bytes = tensor.byte_len();
        if tensor.element.plain() == Some(dtype_out(tensor)) {
            file.for_each_piece(tensor, &mut |offset, piece| writer.write_part(index, offset, piece))?;
        } else {
            output_bytes = 0;
            file.for_each_widened(tensor, &mut |values| {
                let bytes = f32_bytes(values);
                writer.write_part(index, output_bytes, &bytes)?;
                output_bytes += bytes.len();
                Ok(())
            })?;
        }
        report.tensors.push(TensorReport {
            name: tensor.name.clone(),
            spec: None,
            elements: tensor.elements(),
            input_bytes: tensor.byte_len(),
            output_bytes,
            scale_overflows: 0,
        });
    }
    report.file_bytes = writer.finish()?;
    progress(Progress { done, total, tensor: "" });
    Ok(report)
}
