//! From f32 weights to packed words: checks, then the encoder of the family.

use rayon::prelude::*;

use super::digits::DigitLayout;
use super::element::Element;
use super::signs::{self, Levels};
use super::{Exception, Format, Groups, Layout, Packed, Scale, bits, codebook, custom, float, int, mxint};
use super::{element, radix, rows};
use crate::error::{Result, invalid};

pub(super) fn encode(format: Format, weights: &[f32], rows: usize, cols: usize) -> Result<Packed> {
    let layout = format.layout(rows, cols)?;
    if weights.len() != rows * cols {
        invalid!("matrix [{rows}, {cols}] wants {} weights, got {}", rows * cols, weights.len());
    }
    if let Some(index) = rows::first(weights, |w| !w.is_finite()) {
        invalid!(
            "weight {index} (row {}, column {}) is {}; {format} wants finite weights",
            index / cols,
            index % cols,
            weights[index]
        );
    }
    let mut codes = vec![0; layout.code_words];
    let mut fields = vec![0; layout.groups];
    let mut exceptions = Vec::new();
    let mut head = None;
    let (c, f) = (&mut codes, &mut fields);
    match format {
        Format::F32 | Format::F16 | Format::Bf16 => {
            float::encode(format, weights, cols, layout.row_words, c)?
        }
        Format::Int { bits, scope } => int::encode(bits, scope, weights, cols, &layout, c, f),
        Format::Uint { bits, .. } => int::encode_unsigned(bits, weights, cols, &layout, c, f),
        Format::TorchDynamic => int::encode_torch_dynamic(weights, cols, &layout, c, f),
        Format::BinaryMean { scope } => {
            signs::encode(Levels::Binary, Some(scope), weights, cols, &layout, c, f);
        }
        Format::TernaryMean { scope } => {
            signs::encode(Levels::Ternary, Some(scope), weights, cols, &layout, c, f);
        }
        Format::Ternary => signs::encode(Levels::Ternary, None, weights, cols, &layout, c, f),
        Format::MxInt { bits } => mxint::encode(bits, weights, cols, &layout, c, f),
        Format::MxIntCuda { group } => mxint::cuda_encode(group as usize, weights, c, f),
        Format::Radix { base, digits, bits, .. } => {
            let digits = DigitLayout { base: base.into(), digits: digits.into(), bits: bits.into() };
            radix::encode(digits, weights, cols, &layout, c, f);
        }
        Format::Base11Nine32 { .. } => radix::encode_9in32(weights, cols, &layout, c, f),
        Format::Nf4 { .. } => codebook::encode(&codebook::NF4, weights, cols, 4, &layout, c, f),
        Format::NvFp4 => head = Some(codebook::encode_nvfp4(weights, cols, &layout, c, f).to_bits()),
        Format::Custom(id) => {
            let format = custom::get(id);
            codebook::encode(&format.values, weights, cols, format.bits().into(), &layout, c, f);
        }
        Format::Element { element, .. } => {
            let tile = match layout.scheme.groups {
                Groups::Tensor => None,
                Groups::Tiles { rows, cols } => Some((rows, cols)),
                // The flattened matrix as one row.
                Groups::Flat(group) => Some((0, group)),
            };
            if let Some((tile_rows, tile_cols)) = tile {
                let scale_codes = match tile_rows {
                    0 => element::scale_codes(element, weights, 1, weights.len(), 1, tile_cols),
                    _ => element::scale_codes(element, weights, rows, cols, tile_rows, tile_cols),
                };
                fields = scale_codes.into_iter().map(u32::from).collect();
            }
            exceptions = encode_elements(element, weights, cols, &layout, &fields, &mut codes);
        }
        Format::Ggml(kind) => {
            let blocks = kind.encode(weights)?;
            let (codes, scales) = kind.to_streams(rows, cols, &blocks)?;
            return Ok(Packed { format, rows, cols, codes, scales, exceptions });
        }
    }
    let mut scales: Vec<u32> = head.into_iter().collect();
    scales.extend(bits::pack_fields(fields, layout.scale_bits));
    Ok(Packed { format, rows, cols, codes, scales, exceptions })
}

/// Codes of every element; `fields` are the scale codes. Returns what has no code.
fn encode_elements(
    element: Element,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    fields: &[u32],
    codes: &mut [u32],
) -> Vec<Exception> {
    let width = layout.scheme.codes.bits();
    let exponents = matches!(layout.scheme.scale, Scale::Exponent { .. });
    debug_assert!(exponents || fields.is_empty());
    let of_row = |row: usize, words: &mut [u32], values: &[f32]| -> Vec<Exception> {
        let mut exceptions = Vec::new();
        for (k, &w) in values.iter().enumerate() {
            let scale_code = match layout.scheme.groups {
                Groups::Tensor => 0,
                Groups::Tiles { rows, cols } => fields[row / rows * layout.groups_per_row + k / cols] as u8,
                Groups::Flat(group) => fields[(row * cols + k) / group] as u8,
            };
            let code = element.coded(w, scale_code).unwrap_or_else(|y| {
                // A block that overflows is NaN as a whole, which its scale says.
                if element.exponent(scale_code).is_some() {
                    exceptions.push(Exception { row: row as u32, col: k as u32, bits: y.to_bits() });
                }
                element.fallback(scale_code)
            });
            bits::put(words, k * width as usize, width, code);
        }
        exceptions
    };
    let rows = codes.par_chunks_mut(layout.row_words).zip(weights.par_chunks(cols)).enumerate();
    let lists: Vec<Vec<Exception>> = rows.map(|(row, (words, values))| of_row(row, words, values)).collect();
    lists.concat()
}

impl Format {
    /// Whether encoding may leave weights that have no code (see [`Packed::exceptions`]).
    pub fn may_have_exceptions(&self) -> bool {
        matches!(self, Self::Element { element, .. } if element.has_uncoded_values())
    }
}
