//! Packing one tensor of a file, a strip of rows in memory at a time.

use super::checkpoint::{Element, TensorFile, TensorInfo};
use super::reader::{format_of, natural};
use super::transpose;
use super::writer::{Writer, word_bytes};
use crate::error::{Error, Result, invalid};
use crate::format::{Codes, Encoder, Exception, Format, Groups, Packed, Scale, Spec};

/// Weights of a strip: 64 MiB in f32.
const STRIP: usize = 1 << 24;

/// A tensor to pack.
pub(super) struct Job {
    pub(super) spec: Spec,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) transposed: bool,
}

/// Rows of so large a matrix that are in memory at a time, multiples of `alignment`.
pub(super) fn strip_rows(rows: usize, cols: usize, alignment: usize) -> usize {
    let fit = (STRIP / cols.max(1)).max(1);
    if rows <= fit { rows } else { fit.next_multiple_of(alignment.max(1)).min(rows) }
}

/// Writes the packed tensor as the planned tensors from number `index` on: codes, then scales and exceptions where there
/// are some. Returns how many tensors were written, their bytes, and how many scales do not fit.
pub(super) fn write_packed(
    file: &TensorFile,
    tensor: &TensorInfo,
    job: &Job,
    writer: &mut Writer,
    index: usize,
) -> Result<(usize, usize, usize)> {
    let mut written = [0; 3];
    let mut overflows = 0;
    for_each_strip(file, tensor, job, &mut |first_row, packed, values| {
        overflows += overflows_of(first_row, &packed, values)?;
        let (codes, scales) = stored_bytes(&packed)?;
        let own = if first_row == 0 { 0 } else { shared_bytes(&packed)?.min(scales.len()) };
        let exceptions = exception_bytes(first_row, &packed);
        let mut at = index;
        for (bytes, written) in [&codes[..], &scales[own..], &exceptions].into_iter().zip(&mut written) {
            if bytes.is_empty() && *written == 0 {
                continue;
            }
            writer.write_part(at, *written, bytes)?;
            *written += bytes.len();
            at += 1;
        }
        Ok(())
    })?;
    Ok((written.iter().filter(|bytes| **bytes > 0).count(), written.iter().sum(), overflows))
}

/// The packed tensor, and how many of its scales do not fit. Only the packed words are in memory as a whole.
pub(super) fn pack(file: &TensorFile, tensor: &TensorInfo, job: &Job) -> Result<(Packed, usize)> {
    let mut whole: Option<Packed> = None;
    let mut overflows = 0;
    for_each_strip(file, tensor, job, &mut |first_row, strip, values| {
        overflows += overflows_of(first_row, &strip, values)?;
        let Some(whole) = &mut whole else {
            whole = Some(strip);
            return Ok(());
        };
        let own = (shared_bytes(&strip)? / 4).min(strip.scales.len());
        whole.rows += strip.rows;
        whole.codes.extend(strip.codes);
        whole.scales.extend(&strip.scales[own..]);
        let moved = |e: Exception| Exception { row: e.row + first_row as u32, ..e };
        whole.exceptions.extend(strip.exceptions.into_iter().map(moved));
        Ok(())
    })?;
    match whole {
        Some(packed) => Ok((packed, overflows)),
        None => invalid!("{}: tensor `{}` has no rows", file.label_of(tensor), tensor.name),
    }
}

/// How many weights have no code.
pub(super) fn count_exceptions(file: &TensorFile, tensor: &TensorInfo, job: &Job) -> Result<usize> {
    let mut count = 0;
    for_each_strip(file, tensor, job, &mut |_, packed, _| {
        count += packed.exceptions.len();
        Ok(())
    })?;
    Ok(count)
}

/// Takes the first row, a strip and its values.
type OnStrip<'a> = dyn FnMut(usize, Packed, &[f32]) -> Result<()> + 'a;

/// Calls `f` for the strips in order; there are no values where the file holds the blocks of the format.
fn for_each_strip(file: &TensorFile, tensor: &TensorInfo, job: &Job, f: &mut OnStrip<'_>) -> Result<()> {
    let &Job { spec, rows, cols, transposed } = job;
    if let Element::Ggml(kind) = tensor.element {
        let Some(stored) = format_of(kind).filter(|stored| *stored == spec.weight) else {
            return Err(packed_already(file.label_of(tensor), &tensor.name, kind.name(), spec.weight));
        };
        let (codes, scales) = kind.to_streams(rows, cols, &file.bytes(tensor))?;
        file.release(tensor);
        return f(0, Packed::from_parts(stored, rows, cols, codes, scales, Vec::new())?, &[]);
    }
    let in_tensor =
        |error| Error::Invalid(format!("{}: tensor `{}`: {error}", file.label_of(tensor), tensor.name));
    let mut encoder = Encoder::new(spec.weight, rows, cols).map_err(in_tensor)?;
    let step = strip_rows(rows, cols, encoder.alignment());
    if transposed || step == rows || !file.has_rows(tensor, rows) {
        let mut values = file.widen_finite(tensor)?;
        file.release(tensor);
        if transposed {
            values = transpose(&values, cols, rows);
        }
        let packed = spec.weight.encode(&values, rows, cols).map_err(in_tensor)?;
        return f(0, packed, &values);
    }
    let strips = || (0..rows).step_by(step).map(|first| first..(first + step).min(rows));
    if encoder.wants_survey() {
        for rows in strips() {
            encoder.survey(&file.widen_rows(tensor, rows, cols)?);
        }
    }
    for rows in strips() {
        let values = file.widen_rows(tensor, rows.clone(), cols)?;
        f(rows.start, encoder.pack(rows.start, &values).map_err(in_tensor)?, &values)?;
    }
    Ok(())
}

/// What is said of a matrix that is packed and wanted in another format.
pub(super) fn packed_already(file: &str, tensor: &str, stored: &str, asked: Format) -> Error {
    Error::Invalid(format!(
        "{file}: tensor `{tensor}` is packed as {stored}, asked for {asked}; quantize to {asked} from the original \
         checkpoint"
    ))
}

/// Groups of a strip whose scale does not fit its type. A scale of the matrix counts with the first strip.
fn overflows_of(first_row: usize, packed: &Packed, values: &[f32]) -> Result<usize> {
    let layout = packed.format.layout(packed.rows, packed.cols)?;
    if first_row > 0 && layout.scheme.groups == Groups::Tensor {
        return Ok(0);
    }
    Ok(packed.scale_overflows() + saturations(packed, values)?)
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

/// Bytes at the beginning of the scales that every strip has, for the whole matrix.
fn shared_bytes(packed: &Packed) -> Result<usize> {
    let layout = packed.format.layout(packed.rows, packed.cols)?;
    Ok(match layout.scheme.groups {
        Groups::Tensor => usize::MAX,
        _ => layout.scheme.scale.head_words() * 4,
    })
}

/// Exceptions as the file holds them: row, column and value of each.
fn exception_bytes(first_row: usize, packed: &Packed) -> Vec<u8> {
    let words: Vec<u32> =
        packed.exceptions.iter().flat_map(|e| [e.row + first_row as u32, e.col, e.bits]).collect();
    word_bytes(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_of_large_matrices_are_aligned() {
        assert_eq!(strip_rows(4096, 4096, 1), 4096);
        assert_eq!(strip_rows(4097, 4096, 1), 4096);
        assert_eq!(strip_rows(128256, 4096, 3), 4098);
        assert_eq!(strip_rows(9, 1 << 25, 4), 4);
        assert_eq!(strip_rows(3, 1 << 25, 4), 3);
        assert_eq!(strip_rows(128256, 4096, 128256), 128256);
    }
}
