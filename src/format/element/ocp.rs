//! OCP Microscaling Formats v1.0, and the roundings of
//! [microxcaling](https://github.com/microsoft/microxcaling).

use super::fixed::Fixed;
use super::float::{Float, Grid};
use super::number::{exp2, floor_log2};
use super::{Coding, default_bias};

/// Element formats of OCP Microscaling v1.0; `Int6` and `Int4` are `Int8` with fewer fraction bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OcpElement {
    /// Bias 15, largest 57344; infinities and NaNs as in IEEE 754.
    Fp8E5m2,
    /// Bias 7, largest 448; one NaN per sign, no infinity.
    Fp8E4m3,
    /// Bias 3, largest 28.
    Fp6E3m2,
    /// Bias 1, largest 7.5.
    Fp6E2m3,
    /// Bias 1, largest 6.
    Fp4E2m1,
    /// 6 fraction bits, -127/64..=127/64.
    Int8,
    /// 4 fraction bits, -31/16..=31/16.
    Int6,
    /// 2 fraction bits, -7/4..=7/4.
    Int4,
}

/// How an element is rounded to its grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OcpRounding {
    /// Half to even: the OCP conversion.
    Even,
    /// Half away from zero, microxcaling's `nearest` (its default).
    AwayFromZero,
    /// Toward zero, microxcaling's `floor`.
    Floor,
}

/// How the scale `2^X` follows from the largest magnitude of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OcpScale {
    /// `X = floor(log2 max) - emax`, the OCP conversion; the top of the last binade is clipped.
    Floor,
    /// `X = ceil(log2(max / largest element))` (RCEIL): nothing is clipped, but for the integers with a
    /// maximum above their largest element times 2^127.
    Ceil,
}

impl OcpElement {
    /// Exponent and mantissa bits; exponent bits 0 for integers.
    fn widths(self) -> (u8, u8) {
        match self {
            Self::Fp8E5m2 => (5, 2),
            Self::Fp8E4m3 => (4, 3),
            Self::Fp6E3m2 => (3, 2),
            Self::Fp6E2m3 => (2, 3),
            Self::Fp4E2m1 => (2, 1),
            Self::Int8 => (0, 6),
            Self::Int6 => (0, 4),
            Self::Int4 => (0, 2),
        }
    }

    /// The largest finite magnitude.
    pub fn max(self) -> f64 {
        match self {
            Self::Fp8E5m2 => 57344.0,
            Self::Fp8E4m3 => 448.0,
            Self::Fp6E3m2 => 28.0,
            Self::Fp6E2m3 => 7.5,
            Self::Fp4E2m1 => 6.0,
            Self::Int8 => 127.0 / 64.0,
            Self::Int6 => 31.0 / 16.0,
            Self::Int4 => 7.0 / 4.0,
        }
    }

    pub(super) fn coding(self) -> Coding {
        match self.widths() {
            (0, fraction) => Coding::Fixed(Fixed {
                bits: u32::from(fraction) + 2,
                fraction: fraction.into(),
                signed: true,
            }),
            (exponent_width, mantissa) => Coding::Float(Float {
                exponent_width: exponent_width.into(),
                mantissa: mantissa.into(),
                bias: default_bias(exponent_width),
                implicit: true,
            }),
        }
    }

    /// Infinities and NaNs.
    pub(super) fn special(self, code: u32) -> Option<f64> {
        let magnitude = code & 0x7f;
        match self {
            Self::Fp8E5m2 if magnitude == 0x7c => {
                Some(if code & 0x80 == 0 { f64::INFINITY } else { f64::NEG_INFINITY })
            }
            Self::Fp8E5m2 if magnitude > 0x7c => Some(f64::NAN),
            Self::Fp8E4m3 if magnitude == 0x7f => Some(f64::NAN),
            _ => None,
        }
    }

    /// E8M0: `X + 127`, `X` in -127..=127; 0 for a zero block, 255 (NaN) for a maximum that is not finite.
    pub(super) fn scale_code(self, max: f32, scale: OcpScale) -> u8 {
        if !max.is_finite() {
            return 255;
        }
        if max == 0.0 {
            return 0;
        }
        let emax = floor_log2(self.max());
        let exponent = floor_log2(max);
        // Up by one where the mantissa of the maximum is beyond that of the largest element.
        let beyond = f64::from(max) * exp2(-exponent) > self.max() * exp2(-emax);
        let up = scale == OcpScale::Ceil && beyond;
        (exponent - emax + i32::from(up) + 127).clamp(0, 254) as u8
    }

    pub(super) fn quantize(self, x: f32, rounding: OcpRounding, exponent: i32) -> f32 {
        if !x.is_finite() {
            return f32::NAN;
        }
        let (exponent_width, mantissa) = self.widths();
        let min_exponent = if exponent_width == 0 { 0 } else { 1 - default_bias(exponent_width) };
        let grid = Grid { mantissa: mantissa.into(), min_exponent, max: self.max() };
        // One step throughout for integers: they stay below 2, but for what is clipped anyway.
        let scaled = f64::from(x) * exp2(-exponent);
        let y = match rounding {
            OcpRounding::Even => grid.round(scaled, f64::round_ties_even),
            OcpRounding::AwayFromZero => grid.round(scaled, f64::round),
            OcpRounding::Floor => grid.round(scaled, f64::floor),
        };
        (y * exp2(exponent)) as f32
    }
}
