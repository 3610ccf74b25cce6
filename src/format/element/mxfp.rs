//! MXFP as MASE has it (`chop/nn/quantizers/mxfp`, `_minifloat_mx`).

use super::default_bias;
use super::number::{exp2_f32, floor_log2};

/// Code `X + 127`, `X = floor(log2 max) - (2^E - 1 - bias)`; 0 where f32 flushes the maximum to zero, 255
/// (NaN) where it is not finite.
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
pub(crate) fn code(x: f32, exponent_width: u8, fraction_width: u8, exponent: i32) -> u32 {
    let flush = |x: f32| if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x };
    let scaled = flush(x) / exp2_f32(exponent);
    let v = flush(scaled).abs();
    let field = match v {
        0.0 => i32::MIN,
        // `frexp` of NaN has the exponent 0 there, that of 0.5.
        v if v.is_nan() => default_bias(exponent_width) - 1,
        v => floor_log2(v) + default_bias(exponent_width),
    };
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
    // A negative number that became 0 keeps its sign.
    u32::from(scaled < 0.0) << (exponent_width + fraction_width) | magnitude
}
