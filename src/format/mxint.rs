//! MXINT family: integers that share a power-of-two scale per group, stored as an E8M0 byte.
//!
//! * `mxint8/6/4` (OCP Microscaling v1.0, blocks of 32 along the inputs): `X = floor(log2 max|w|)`, at least
//!   -127, `f = b - 2` fraction bits, `q = clamp(rne(w * 2^(f - X)), -qmax, qmax)`, `y = q * 2^(X - f)`, byte
//!   `X + 127`. An all-zero block stores byte 0. Exponents come from the bits, never from a logarithm.
//! * `mxint_cuda` (mase-cuda): groups along the flattened tensor, bf16 rounding first.

use half::bf16;
use rayon::prelude::*;

use super::rows::{for_rows, max_abs};
use super::{Layout, bits, int};

/// Fraction bits of `mxint_cuda`, as of `mxint8`.
const CUDA_FRACTION: i32 = 6;

/// `2^exponent` for `-1022 <= exponent <= 1023`.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `floor(log2 value)` of a positive value; exact for f32 subnormals too, which are normal in f64.
fn floor_log2(value: f32) -> i32 {
    ((f64::from(value).to_bits() >> 52) & 0x7ff) as i32 - 1023
}

pub(super) fn encode(
    width: u8,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let qmax = int::qmax(width);
    let fraction = i32::from(width) - 2;
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        for (group, values) in row.chunks(layout.group).enumerate() {
            let max = max_abs(values);
            if max == 0.0 {
                continue;
            }
            let exponent = floor_log2(max).max(-127);
            fields[group] = (exponent + 127) as u32;
            // In f64, because 2^(f - X) reaches 2^133 and the product must be exact.
            let factor = power_of_two(fraction - exponent);
            let mut bit = group * layout.group * usize::from(width);
            for &w in values {
                let q = ((f64::from(w) * factor).round_ties_even() as i32).clamp(-qmax, qmax);
                bits::put(words, bit, u32::from(width), q as u32);
                bit += usize::from(width);
            }
        }
    });
}

/// Encodes as mase-cuda's `quantize1d_simulated` does: each weight to bf16 (nearest even), magnitudes below
/// 2^-126 to 0, scale byte `S` = largest biased exponent of the group, `q = +-clamp(rne(|x| / 2^(S - 127) *
/// 64), 0, 127)`. `codes` is one int8 stream over the whole matrix. A weight that bf16 rounds to infinity
/// gives `S = 255` and zero codes, upstream's result, which decodes to NaN.
pub(super) fn cuda_encode(group: usize, weights: &[f32], codes: &mut [u32], fields: &mut [u32]) {
    // Four groups of int8 fill `group` words, so that every chunk begins at a word.
    codes.par_chunks_mut(group).zip(weights.par_chunks(group * 4)).zip(fields.par_chunks_mut(4)).for_each(
        |((words, weights), fields)| {
            for ((index, values), field) in weights.chunks(group).enumerate().zip(fields) {
                let max = values.iter().fold(0.0, |max, &w| f32::max(max, flushed(w).abs()));
                *field = max.to_bits() >> 23;
                if *field == 0 || *field == 255 {
                    continue;
                }
                let factor = power_of_two(CUDA_FRACTION + 127 - *field as i32);
                for (k, &w) in values.iter().enumerate() {
                    let q = (f64::from(flushed(w)) * factor).round_ties_even().clamp(-127.0, 127.0);
                    bits::put(words, (index * group + k) * 8, 8, q as i32 as u32);
                }
            }
        },
    );
}

/// bf16 rounding, then magnitudes below the smallest normal to 0.
pub(super) fn flushed(w: f32) -> f32 {
    let rounded = bf16::from_f32(w).to_f32();
    if rounded.abs() < f32::MIN_POSITIVE { 0.0 } else { rounded }
}

/// Decodes one element exactly as mase-cuda's `dequantize1d_simulated` does, quirks included.
///
/// The bf16 `sign | S << 7 | (|q| & 0x3f) << 1` has an implicit leading one, which MXINT lacks: it is genuine
/// when bit 6 of `|q|` is set and is subtracted otherwise. For `1 <= S <= 254` and `q != -128` the result is
/// `q * 2^(S - 133)`. The quirks are codes that encoding never produces: `q = -128` gives 0, `S = 0` has no
/// implicit one (non-zero codes come out wrong), `S = 255` gives infinity or NaN.
pub fn cuda_decode(code: i8, scale: u8) -> f32 {
    let sign = if code < 0 { 0x8000 } else { 0 };
    let exponent = u16::from(scale) << 7;
    let magnitude = u16::from(code.unsigned_abs());
    let out = bf16::from_bits(sign | exponent | (magnitude & 0x3f) << 1);
    if magnitude & 0x40 != 0 {
        return out.to_f32();
    }
    let bias = bf16::from_bits(sign | exponent);
    bf16::from_f32(out.to_f32() - bias.to_f32()).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponent_is_exact_next_to_powers_of_two_and_in_subnormals() {
        for exponent in -126..=127 {
            let power = power_of_two(exponent) as f32;
            assert_eq!(floor_log2(power), exponent);
            assert_eq!(floor_log2(power.next_down()), exponent - 1);
        }
        assert_eq!(floor_log2(f32::from_bits(1)), -149);
        assert_eq!(floor_log2(f32::from_bits(5)), -147);
    }

    #[test]
    fn cuda_decode_is_the_plain_product_for_codes_that_encoding_produces() {
        for scale in 1..=254u8 {
            for code in -127..=127i8 {
                let factor = power_of_two(i32::from(scale) - 127 - CUDA_FRACTION) as f32;
                assert_eq!(cuda_decode(code, scale), f32::from(code) * factor, "{code} {scale}");
            }
            assert_eq!(cuda_decode(-128, scale), 0.0);
        }
    }
}
