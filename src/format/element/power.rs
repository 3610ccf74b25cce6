//! Logarithmic codes: sign and exponent.

use super::number::{exp2, exp2_f32, floor_log2, round_log2, sign};

/// `±2^(field - bias)`, the sign bit above the field.
pub(super) fn unit(code: u32, exponent_bits: u32, bias: i32) -> f64 {
    let field = code & ((1 << exponent_bits) - 1);
    let magnitude = exp2(field as i32 - bias);
    if code >> exponent_bits == 0 { magnitude } else { -magnitude }
}

/// The code of a power of two; of 0 and infinity that whose power of two under- or overflows f32, if any.
pub(super) fn code(unit: f64, exponent_bits: u32, bias: i32) -> u32 {
    let field = floor_log2(unit.abs()).saturating_add(bias).clamp(0, (1 << exponent_bits) - 1);
    u32::from(unit < 0.0) << exponent_bits | field as u32
}

fn quantize(x: f32, width: u8, bias: i32, offset: f32) -> f32 {
    let exponent = round_log2(x.abs() + offset).clamp(-bias, (1 << (width - 1)) - 1 - bias);
    sign(x + offset) * exp2_f32(exponent)
}

/// The offset, a tenth of the smallest magnitude, is an f64 product there.
pub(super) fn log(x: f32, width: u8, bias: i32) -> f32 {
    quantize(x, width, bias, (exp2(-bias) * 0.1) as f32)
}

/// With a bias per block the offset is an f32 product.
pub(super) fn block_log(x: f32, width: u8, bias: i32) -> f32 {
    quantize(x, width, bias, exp2_f32(-bias) * 0.1)
}
