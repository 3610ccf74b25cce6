//! Packed matrices as tensors of ggml, without rounding anything again.

use crate::error::Result;
use crate::format::ggml::GgmlType;
use crate::format::{Format, Packed};
use crate::model::checkpoint::{Dtype, Element};
use crate::model::strips::stored_bytes;
use half::f16;

/// Row-major bytes of a tensor and their type.
pub(super) struct Tensor {
    pub(super) element: Element,
    pub(super) bytes: Vec<u8>,
}

/// `packed` in a type of ggml that holds exactly its values; `None` where there is none.
///
/// The formats of ggml and floats are what they are. A format of integer codes with scales goes into `q4_0`, `q5_0` or
/// `q8_0` if its codes fit, every block of 32 has one scale, and the scale is an f16. MXFP4 is ggml's where all its
/// blocks are.
///
/// # Errors
/// When the packed matrix is damaged.
pub(super) fn exact(packed: &Packed) -> Result<Option<Tensor>> {
    let plain = |dtype| -> Result<Option<Tensor>> {
        Ok(Some(Tensor { element: Element::Plain(dtype), bytes: stored_bytes(packed)?.0 }))
    };
    match packed.format {
        Format::F32 => plain(Dtype::F32),
        Format::F16 => plain(Dtype::F16),
        Format::Bf16 => plain(Dtype::BF16),
        Format::Ggml(kind) => {
            let bytes = kind.from_streams(packed.rows, packed.cols, &packed.codes, &packed.scales)?;
            Ok(Some(Tensor { element: Element::Ggml(kind), bytes }))
        }
        _ if !packed.cols.is_multiple_of(32) => Ok(None),
        _ if packed.has_integer_codes() => Ok(integers(packed)),
        _ => Ok(mxfp4(packed)),
    }
}

/// Integer codes times f16 scales as `q4_0`, `q5_0` or `q8_0`, whichever is the smallest.
fn integers(packed: &Packed) -> Option<Tensor> {
    let (rows, cols) = (packed.rows, packed.cols);
    let mut codes = vec![0; rows * cols];
    for (row, codes) in codes.chunks_mut(cols).enumerate() {
        packed.integer_codes(row, codes);
    }
    let fits = |low: i8, high: i8| codes.iter().all(|code| (low..=high).contains(code));
    let kind = match () {
        () if fits(-8, 7) => GgmlType::Q4_0,
        () if fits(-16, 15) => GgmlType::Q5_0,
        () => GgmlType::Q8_0,
    };
    let mut bytes = Vec::with_capacity(rows * cols / 32 * kind.bytes());
    for (index, codes) in codes.chunks(32).enumerate() {
        let (row, col) = (index * 32 / cols, index * 32 % cols);
        let scale = packed.scale(row, col);
        if (1..32).any(|i| packed.scale(row, col + i) != scale) {
            return None;
        }
        let half = f16::from_f32(scale);
        if half.to_f32() != scale {
            return None;
        }
        bytes.extend(half.to_le_bytes());
        match kind {
            GgmlType::Q8_0 => bytes.extend(codes.iter().map(|&code| code as u8)),
            GgmlType::Q4_0 => {
                bytes.extend((0..16).map(|i| nibble(codes[i], 8) | nibble(codes[i + 16], 8) << 4))
            }
            _ => {
                let high = codes
                    .iter()
                    .enumerate()
                    .fold(0u32, |bits, (i, &code)| bits | u32::from((code + 16) as u8 >> 4) << i);
                bytes.extend(high.to_le_bytes());
                bytes.extend((0..16).map(|i| nibble(codes[i], 16) | nibble(codes[i + 16], 16) << 4));
            }
        }
    }
    Some(Tensor { element: Element::Ggml(kind), bytes })
}

/// The lower half of a code that is stored from 0 on.
fn nibble(code: i8, zero: i8) -> u8 {
    (code + zero) as u8 & 15
}

/// The same codes and scales as ggml's MXFP4, if they mean the same there.
fn mxfp4(packed: &Packed) -> Option<Tensor> {
    let bytes = GgmlType::Mxfp4.from_streams(packed.rows, packed.cols, &packed.codes, &packed.scales).ok()?;
    let values = packed.decode();
    let mut again = vec![0.0; values.len()];
    GgmlType::Mxfp4.decode(&bytes, &mut again).ok()?;
    (again == values).then_some(Tensor { element: Element::Ggml(GgmlType::Mxfp4), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 700.0).collect()
    }

    /// Values that ggml's own decoder gives for what was written.
    fn decoded(tensor: &Tensor, count: usize) -> Vec<f32> {
        let Element::Ggml(kind) = tensor.element else { panic!("{}", tensor.element) };
        let mut values = vec![0.0; count];
        kind.decode(&tensor.bytes, &mut values).unwrap();
        values
    }

    #[test]
    fn formats_with_an_equal_type_keep_every_value() {
        let (rows, cols) = (3, 512);
        let cases = [
            ("int4(group=32)", "q4_0"),
            ("int4(group=128)", "q4_0"),
            ("int2(group=64)", "q4_0"),
            ("int5(group=32)", "q5_0"),
            ("int8(group=64)", "q8_0"),
            ("mxint8", "q8_0"),
            ("mxfp4", "mxfp4"),
            ("q4_k", "q4_k"),
            ("tq2_0", "tq2_0"),
            ("iq4_nl", "iq4_nl"),
        ];
        for (name, kind) in cases {
            let format: Format = name.parse().unwrap();
            let packed = format.encode(&weights(rows * cols), rows, cols).unwrap();
            let tensor = exact(&packed).unwrap().unwrap_or_else(|| panic!("{name} has an equal type"));
            assert_eq!(tensor.element.to_string(), kind, "{name}");
            assert!(decoded(&tensor, rows * cols) == packed.decode(), "{name}");
        }
    }

    #[test]
    fn other_formats_have_none() {
        for name in ["int4(scale=row)", "nf4", "base11(layout=9in32,group=256)"] {
            let format: Format = name.parse().unwrap();
            let packed = format.encode(&weights(2 * 256), 2, 256).unwrap();
            assert!(exact(&packed).unwrap().is_none(), "{name}");
        }
        // Rows that are no whole blocks.
        let packed = "int4(group=32)".parse::<Format>().unwrap().encode(&weights(80), 2, 40).unwrap();
        assert!(exact(&packed).unwrap().is_none());
    }
}
