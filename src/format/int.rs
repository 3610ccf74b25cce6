//! Integers with real scales.
//!
//! `int`: symmetric `b`-bit integers, `y = q * s`, with one scale per tensor, row or group.
//!
//! `s = max|w| / qmax` over the scope (1 when that maximum is 0), `qmax = 2^(b-1) - 1`,
//! `q = clamp(rne(w / s), -qmax, qmax)`; the code `-2^(b-1)` is never produced. With the scope `tensor`
//! this equals, bit for bit, the QLinear program the golden vectors come from; a maximum within an ulp or so
//! of `f32::MAX` therefore may decode to infinity.
//!
//! `uint`: `lo = min(0, min w)`, `hi = max(0, max w)` of the group, `s = f16((hi - lo) / (2^b - 1))`,
//! `z = clamp(rne(-lo / s), 0, 2^b - 1)`, `q = clamp(rne(w / s) + z, 0, 2^b - 1)`, `y = (q - z) * s`.
//!
//! `torch_dynamic`: the weight side of PyTorch's dynamic quantization with its default observer,
//! `s = max(max|w| / 127.5, 2^-23)`, `q = clamp(rne(w / s), -128, 127)`.

use half::f16;

use super::float::F16_MAX;
use super::rows::{for_rows, max_abs};
use super::{Layout, Scope, bits};

/// Largest code of a symmetric `bits`-wide integer.
pub(super) fn qmax(bits: u8) -> i32 {
    (1 << (bits - 1)) - 1
}

/// `max / qmax` in f32, 1 for an all-zero scope. A quotient that underflows to 0 becomes the smallest
/// positive f32: a scale of 0 would divide by zero.
pub(super) fn scale_f32(max: f32, qmax: i32) -> f32 {
    if max == 0.0 { 1.0 } else { f32::max(max / qmax as f32, f32::from_bits(1)) }
}

/// [`scale_f32`] rounded to f16 before any code is computed, so that encoding uses exactly the scale that
/// decoding reads. Overflow saturates to 65504; underflow becomes the smallest positive f16.
pub(super) fn scale_f16(max: f32, qmax: i32) -> f16 {
    f16_at_most_max(scale_f32(max, qmax))
}

/// A positive number as f16: overflow saturates to 65504, underflow becomes the smallest positive f16.
pub(super) fn f16_at_most_max(value: f32) -> f16 {
    let rounded = f16::from_f32(f32::min(value, F16_MAX));
    if rounded.to_bits() == 0 { f16::from_bits(1) } else { rounded }
}

/// A scale that was computed as a mean: 1 for an all-zero scope.
pub(super) fn scale_or_one(scale: f32) -> f32 {
    if scale == 0.0 { 1.0 } else { scale }
}

/// `clamp(rne(w / s), -qmax, qmax)`.
pub(super) fn code(w: f32, scale: f32, qmax: i32) -> i32 {
    ((w / scale).round_ties_even() as i32).clamp(-qmax, qmax)
}

/// `largest` is the largest magnitude of the matrix, for a scale per tensor.
pub(super) fn encode(
    (width, scope): (u8, Scope),
    largest: f32,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let qmax = qmax(width);
    let tensor_scale = match scope {
        Scope::Tensor => {
            let scale = scale_f32(largest, qmax);
            fields[0] = scale.to_bits();
            scale
        }
        _ => 0.0,
    };
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        for (group, values) in row.chunks(layout.group).enumerate() {
            let scale = match scope {
                Scope::Tensor => tensor_scale,
                Scope::Row => {
                    let scale = scale_f32(max_abs(values), qmax);
                    fields[group] = scale.to_bits();
                    scale
                }
                Scope::Group(_) => {
                    let scale = scale_f16(max_abs(values), qmax);
                    fields[group] = u32::from(scale.to_bits());
                    scale.to_f32()
                }
            };
            let mut bit = group * layout.group * usize::from(width);
            for &w in values {
                bits::put(words, bit, u32::from(width), code(w, scale, qmax) as u32);
                bit += usize::from(width);
            }
        }
    });
}

/// The uint family; a record is the f16 scale and the zero point.
pub(super) fn encode_unsigned(
    width: u8,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let largest = (1 << width) - 1;
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        for (group, values) in row.chunks(layout.group).enumerate() {
            let low = values.iter().copied().fold(0.0, f32::min);
            let high = values.iter().copied().fold(0.0, f32::max);
            // Halves first: the range of finite weights may not be finite.
            let range = (high * 0.5 - low * 0.5).min(f32::MAX * 0.5) * 2.0;
            let scale = scale_f16(range, largest);
            let step = scale.to_f32();
            let zero = ((-low / step).round_ties_even() as i32).clamp(0, largest);
            fields[group] = u32::from(scale.to_bits()) | (zero as u32) << 16;
            let mut bit = group * layout.group * usize::from(width);
            for &w in values {
                let q = ((w / step).round_ties_even() as i32).saturating_add(zero).clamp(0, largest);
                bits::put(words, bit, u32::from(width), q as u32);
                bit += usize::from(width);
            }
        }
    });
}

/// Weights of `torch_dynamic`; `largest` is the largest magnitude of the matrix.
pub(super) fn encode_torch_dynamic(
    largest: f32,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let scale = (largest / 127.5).max(f32::EPSILON);
    fields[0] = scale.to_bits();
    for_rows(weights, cols, codes, layout.row_words, &mut [], 0, |row, words, _| {
        for (k, &w) in row.iter().enumerate() {
            bits::put(words, k * 8, 8, ((w / scale).round_ties_even() as i32).clamp(-128, 127) as u32);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_scale_saturates_and_never_underflows_to_zero() {
        assert_eq!(scale_f16(1e30, 7).to_f32(), 65504.0);
        assert_eq!(scale_f16(65510.0 * 7.0, 7).to_f32(), 65504.0);
        assert_eq!(scale_f16(1e-30, 7).to_bits(), 1);
        assert_eq!(scale_f16(0.0, 7).to_f32(), 1.0);
    }

    #[test]
    fn f32_scale_of_the_smallest_weights_is_positive() {
        let tiny = f32::from_bits(3);
        assert_eq!(scale_f32(tiny, 127).to_bits(), 1);
        assert_eq!(code(-tiny, scale_f32(tiny, 127), 127), -3);
    }
}
