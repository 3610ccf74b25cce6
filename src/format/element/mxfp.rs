//! MXFP as MASE has it (`chop/nn/quantizers/mxfp`, `_minifloat_mx`).

use super::default_bias;
use super::number::{exp2_f32, floor_log2};

/// Code `X + 127`, `X = floor(log2 max) - (2^E - 1 - bias)`; 0 where f32 flushes the maximum to zero, 255 (NaN)
/// where it is not finite.
pub(super) fn scale(max: f32, exponent_width: u8) -> u8 {
    if max < f32::MIN_POSITIVE {
        return 0;
    }
    if !max.is_finite() {
        return 255;
    }
    let top = (1 << exponent_width) - 1 - default_bias(exponent_width);
    (floor_log2(max) - top + 127).clamp(0, 255) as u8
}

/// The code of `x`: 15 bits of the fraction, rounded to `F` half to even, then packed with *or*.
pub(super) fn code(x: f32, exponent_width: u8, fraction_width: u8, exponent: i32) -> u32 {
    if !x.is_finite() {
        return 0;
    }
    let v = if x.abs() < f32::MIN_POSITIVE { 0.0 } else { (x / exp2_f32(exponent)).abs() };
    if v < f32::MIN_POSITIVE {
        return 0;
    }
    let field = floor_log2(v) + default_bias(exponent_width);
    let (top, one) = ((1i32 << exponent_width) - 1, 1u32 << fraction_width);
    let fraction = (v.to_bits() & 0x7f_ffff) >> 8;
    let q = (fraction as f32 / exp2_f32(15 - i32::from(fraction_width))).round_ties_even() as u32;
    let magnitude = match field {
        ..0 => 0,
        0 if q == 0 => 0,
        0 => (q | one) >> 1,
        _ if field > top => (top as u32) << fraction_width | (one - 1),
        // `q` may be 2^F, and then this carries into even fields only.
        _ => (field as u32) << fraction_width | q,
    };
    // Minus zero counts as positive there, but a negative number that became 0 keeps its sign.
    u32::from(x < 0.0) << (exponent_width + fraction_width) | magnitude
}
