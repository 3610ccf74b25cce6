//! Float family: f32, f16 and bf16 as raw bits; no scales.

use half::{bf16, f16};

use super::Format;
use super::bits;
use super::rows::for_rows;
use crate::error::{Result, invalid};

/// Largest finite f16.
pub(super) const F16_MAX: f32 = f16::MAX.to_f32_const();

/// Rounds to nearest even. A 16-bit format refuses a weight beyond its largest finite value: infinity
/// in a weight would spread over every output. `weights` begin at row `first_row` of the matrix, for messages.
pub(super) fn encode(
    format: Format,
    first_row: usize,
    weights: &[f32],
    cols: usize,
    row_words: usize,
    codes: &mut [u32],
) -> Result<()> {
    let largest = match format {
        Format::F16 => F16_MAX,
        Format::Bf16 => bf16::MAX.to_f32_const(),
        _ => f32::MAX,
    };
    if let Some(index) = super::rows::first(weights, |w| w.abs() > largest) {
        let (value, index) = (weights[index], first_row * cols + index);
        invalid!(
            "weight {index} (row {}, column {}) is {value:e}, beyond the largest {format} value {largest:e}; \
             choose another format",
            index / cols,
            index % cols
        );
    }
    for_rows(weights, cols, codes, row_words, &mut [], 0, |row, words, _| match format {
        Format::F32 => {
            for (word, w) in words.iter_mut().zip(row) {
                *word = w.to_bits();
            }
        }
        _ => {
            for (k, &w) in row.iter().enumerate() {
                let raw = if format == Format::F16 {
                    f16::from_f32(w).to_bits()
                } else {
                    bf16::from_f32(w).to_bits()
                };
                bits::put(words, k * 16, 16, u32::from(raw));
            }
        }
    });
    Ok(())
}

/// The element at column `k` of a row.
pub(super) fn decode(format: Format, words: &[u32], k: usize) -> f32 {
    match format {
        Format::F32 => f32::from_bits(words[k]),
        Format::F16 => f16::from_bits(bits::get(words, k * 16, 16) as u16).to_f32(),
        _ => bf16::from_bits(bits::get(words, k * 16, 16) as u16).to_f32(),
    }
}
