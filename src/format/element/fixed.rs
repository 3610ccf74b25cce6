//! Fixed-point codes: integers times a power of two.

use super::number::{ceil_log2, clamp, exp2, exp2_f32, sign, unless_near_zero};

/// Fields of `bits` bits that hold `q * 2^-fraction`.
pub(super) struct Fixed {
    /// 1..=32.
    pub bits: u32,
    /// May be negative.
    pub fraction: i32,
    /// Two's complement.
    pub signed: bool,
}

impl Fixed {
    pub(super) fn unit(&self, code: u32) -> f64 {
        let shift = 32 - self.bits;
        let q = if self.signed { f64::from((code << shift) as i32 >> shift) } else { f64::from(code) };
        q * exp2(-self.fraction)
    }

    /// The nearest code; of a maximum that f32 rounded up to the power of two, the largest one.
    pub(super) fn code(&self, unit: f64) -> u32 {
        let (low, high) = match self.signed {
            true => (-exp2(self.bits as i32 - 1), exp2(self.bits as i32 - 1) - 1.0),
            false => (0.0, exp2(self.bits as i32) - 1.0),
        };
        let q = (unit * exp2(self.fraction)).clamp(low, high);
        (q as i64) as u32 & (u32::MAX >> (32 - self.bits))
    }
}

pub(super) fn integer(x: f32, width: u8, fraction: i32, signed: bool, floor: bool) -> f32 {
    let (low, high) = match signed {
        true => (-exp2(i32::from(width) - 1), exp2(i32::from(width) - 1) - 1.0),
        false => (0.0, exp2(i32::from(width)) - 1.0),
    };
    let scale = exp2_f32(fraction);
    let scaled = x * scale;
    let q = if floor { scaled.floor() } else { scaled.round_ties_even() };
    clamp(q, low as f32, high as f32) / scale
}

/// Code `e_b + bias`.
pub(super) fn block_fp_scale(max: f32, exponent_width: u8, bias: i32) -> u8 {
    let exponent = ceil_log2(max);
    (exponent + bias).clamp(0, (1 << exponent_width) - 1) as u8
}

pub(super) fn block_fp(x: f32, width: u8, exponent: i32) -> f32 {
    let steps = exp2(i32::from(width) - 1);
    let (power, shift) = (exp2_f32(exponent), steps as f32);
    let q = clamp(((x.abs() + 1e-9) / power * shift).round_ties_even(), 0.0, (steps - 1.0) as f32);
    unless_near_zero(x, sign(x + 1e-9) * power * (q / shift))
}

/// Code `s + 127`; 255, a NaN block, for `s = 128` and for maxima that are not finite.
pub(super) fn mxint_scale(max: f32) -> u8 {
    (ceil_log2(max).max(-126) + 127).min(255) as u8
}

pub(super) fn mxint(x: f32, width: u8, exponent: i32) -> f32 {
    let (power, half) = (exp2_f32(exponent), exp2_f32(i32::from(width) - 1));
    let q = clamp((x / power * half).round_ties_even(), -half, half - 1.0);
    q / half * power
}

/// Code `e + b`, `b = 2^(ew-1)`.
pub(super) fn hardware_scale(max: f32, exponent_width: u8) -> u8 {
    ceil_log2(max).clamp(0, (1 << exponent_width) - 1) as u8
}

pub(super) fn hardware(x: f32, width: u8, exponent: i32) -> f32 {
    let (power, half) = (exp2_f32(exponent), exp2(i32::from(width) - 1));
    power * clamp((x / power).floor(), -half as f32, (half - 1.0) as f32)
}
