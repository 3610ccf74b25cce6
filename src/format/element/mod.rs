//! Element formats: what one number may be, where the scale is a power of two per block, or absent.
//!
//! An [`Element`] maps a float to a value ([`Element::quantize`]) given the scale code of its block
//! ([`Element::scale_code`]), and values to codes of a few bits and back. It knows nothing of tensors: which
//! elements form a block is the caller's choice.
//!
//! # Definitions
//!
//! All f32, in the order written; `rne` rounds half to even, `clamp` is `min(max(x, low), high)`. The MASE
//! formats are those of `chop.nn.quantizers` in [DeepWok/mase](https://github.com/DeepWok/mase) at commit
//! `6ff398cf`, quirks included; [`Element::BlockMinifloatCorrected`] and [`Element::Ocp`] are what to use
//! instead of the two whose formula defeats its purpose. One thing differs from MASE: exponents come from the
//! bits of a float and are exact, where it takes `torch.log2` in f32, which is wrong within an ulp or so of a
//! power of two.
//!
//! `mb` is the number of mantissa bits, `S = 2^mb`, `e` an exponent. *Near zero* is `|x| <= 1e-8`: the
//! minifloat and block floating-point formats of MASE return such an element unchanged, so a tiny value need
//! not be one of the format. Exactly 0 always is one, except in the logarithmic formats and
//! [`Element::Binary`].
//!
//! # Scale codes
//!
//! A block has one byte. Its decode exponent is `code - exponent_offset()`; the value of an element is
//! `unit(code) * 2^exponent`, rounded once. An exponent of 128 or more means that the power of two overflowed
//! in the original program and the whole block is NaN.

mod blocks;
mod check;
mod fixed;
mod float;
mod mxfp;
pub(super) mod number;
mod ocp;
mod power;
mod scale;
mod sign;

use fixed::Fixed;
use float::Float;

pub use blocks::{Blocks, scale_codes};
pub(crate) use blocks::{max_or_nan, replace_zero_maxima, scale_codes_within, smallest_maximum};
pub(crate) use mxfp::code as mxfp_code;
pub(crate) use number::{exp2, exp2_f32};
pub use ocp::{OcpElement, OcpRounding, OcpScale};
pub(crate) use sign::mean as residual_mean;

/// An element format. See the [module](self) for the notation of the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Fixed point (MASE LinearInteger): `clamp(rne(x * 2^f), low, high) / 2^f` with `low = -2^(w-1)`,
    /// `high = 2^(w-1) - 1`, or `0` and `2^w - 1` when unsigned. Infinity saturates. A `high` of more than
    /// 24 bits rounds up to the power of two in f32; its code is the largest one all the same.
    Integer {
        /// `w`, 1..=32.
        width: u8,
        /// `f`, -126..=126; may be negative or larger than the width.
        frac_width: i16,
        /// Two's complement, or from 0 on.
        signed: bool,
        /// `floor` in place of `rne`.
        floor: bool,
    },
    /// Minifloat without an implicit one (MASE): `±2^e * q / S`, `e` in `-bias..=2^ew - 1 - bias`, `q` in
    /// `0..S`. A power of two becomes `1 - 1/S` of itself, and a mantissa never carries into the exponent.
    /// With `w <= ew` (`mb` below 0) the clamp bounds are crossed and every value changes its sign.
    MinifloatDenorm {
        /// `w`, 1..=32; `mb = w - ew - 1`.
        width: u8,
        /// `ew`, 1..=8.
        exponent_width: u8,
        /// -118..=2^ew + 148; see [`default_bias`].
        exponent_bias: i32,
    },
    /// Minifloat with an implicit one and subnormals (MASE). All exponent codes are finite. A mantissa that
    /// would round to 2 stays in its binade: there is no carry.
    MinifloatIeee {
        /// `w`, 1..=32; `mb = w - ew - 1`.
        width: u8,
        /// `ew`, 1..=8.
        exponent_width: u8,
        /// -118..=2^ew + 148; see [`default_bias`].
        exponent_bias: i32,
    },
    /// Powers of two (MASE LinearLog): `±2^e`, `e = clamp(rne(log2(|x| + o)))` in
    /// `-bias..=2^(w-1) - 1 - bias`, `o = 2^-bias / 10`. There is no zero: 0 becomes `2^-bias` (unless that
    /// underflows).
    Log {
        /// `w`, 2..=16.
        width: u8,
        /// -118..=2^(w-1) + 148; see [`default_bias`] of `w - 1`.
        exponent_bias: i32,
    },
    /// `1` where `x >= 0`, else `-1` (MASE `binary_quantizer`, bipolar).
    Binary,
    /// Sum of `levels` signs of the residual, `±m_1 ±m_2 …` with `m_l = (L - l + 1) / (L (L + 1) / 2)` for
    /// `l` from 1 (MASE LinearBinaryResidualSign with its initial means). A residual of exactly 0 ends the
    /// sum.
    ResidualSign {
        /// `L`, 1..=8.
        levels: u8,
    },
    /// Block floating point (MASE, MSFP): `q * 2^(e_b - mb)`, `mb = w - 1`,
    /// `e_b = clamp(ceil(log2 max), -bias, 2^ew - 1 - bias)`, `|q|` at most `S - 1`.
    BlockFp {
        /// `w`, 2..=32.
        width: u8,
        /// `ew`, 1..=8.
        exponent_width: u8,
        /// -118..=2^ew + 148; see [`default_bias`].
        exponent_bias: i32,
    },
    /// Block minifloat by the formula of MASE: [`Element::MinifloatIeee`] with the bias
    /// `b = clamp(floor(log2 max), 0, 2^bw - 1)`, which *shrinks* the range as data grow, so that everything
    /// below 2 lies on one fixed grid.
    BlockMinifloat {
        /// `w`, 1..=32; `mb = w - ew - 1`.
        width: u8,
        /// `ew`, 1..=8.
        exponent_width: u8,
        /// `bw`, 1..=8.
        exponent_bias_width: u8,
    },
    /// Block minifloat with the bias that puts the block maximum into the top binade: `b = 2^ew - 1 - t`,
    /// `t = clamp(floor(log2 max), -2^(bw-1), 2^(bw-1) - 1)`, `t` stored as `t + 2^(bw-1)` so that blocks
    /// below and above 1 are served alike. Nearest even with carry, saturating.
    BlockMinifloatCorrected {
        /// `w`, `ew + 1..=32`.
        width: u8,
        /// `ew`, 1..=8.
        exponent_width: u8,
        /// `bw`, 1..=8.
        exponent_bias_width: u8,
    },
    /// [`Element::Log`] with the bias `b = clamp(2^(w-1) - 1 - ceil(log2 max), 0, 2^bw - 1)` of its block
    /// (MASE).
    BlockLog {
        /// `w`, 2..=16.
        width: u8,
        /// `bw`, 1..=8.
        exponent_bias_width: u8,
    },
    /// MXINT of MASE: `q * 2^(s - w + 1)`, `s = ceil(log2 max)`, the most negative code included. It halves
    /// the step of the OCP format where the maximum is a power of two, and clips it.
    MxInt {
        /// `w`, 2..=16.
        width: u8,
    },
    /// The hardware MXINT of MASE: `q * 2^e`, `e = clamp(ceil(log2 max) - b, -b, b - 1)`, `b = 2^(ew-1)`,
    /// rounded down. Accurate where `b = w - 1` only.
    MxIntHardware {
        /// `w`, 2..=32.
        width: u8,
        /// `ew`, 1..=8.
        exponent_width: u8,
    },
    /// MXFP of MASE, which is not OCP's: the top exponent code is a number, and a mantissa that rounds up to
    /// 2 loses its carry where the exponent code is odd, so that the value is halved.
    MaseMxFp {
        /// `E`, at least 1.
        exponent_width: u8,
        /// `F`, at least 1; `E + F` is at most 7.
        fraction_width: u8,
    },
    /// OCP Microscaling v1.0 elements with an E8M0 scale.
    Ocp {
        /// The element.
        element: OcpElement,
        /// How elements are rounded.
        rounding: OcpRounding,
        /// How the scale follows from the maximum.
        scale: OcpScale,
    },
}

/// `2^(width-1) - 1`, the exponent bias where none is given: of `exponent_width`, and for
/// [`Element::Log`] of `width - 1`.
pub fn default_bias(exponent_width: u8) -> i32 {
    (1 << (exponent_width.clamp(1, 31) - 1)) - 1
}

/// How codes and values correspond, given the scale: all the formats come to these five.
enum Coding {
    Fixed(Fixed),
    Float(Float),
    /// Sign bit above an exponent field: `±2^(field - bias)`.
    Power {
        exponent_bits: u32,
        bias: i32,
    },
    Binary,
    Residual {
        levels: u32,
    },
}

impl Element {
    fn coding(self) -> Coding {
        let float = |width: u8, exponent_width: u8, bias: i32, implicit: bool| {
            let mantissa = i32::from(width) - i32::from(exponent_width) - 1;
            Coding::Float(Float { exponent_width: exponent_width.into(), mantissa, bias, implicit })
        };
        match self {
            Self::Integer { width, frac_width, signed, .. } => {
                Coding::Fixed(Fixed { bits: width.into(), fraction: frac_width.into(), signed })
            }
            Self::BlockFp { width, .. } | Self::MxInt { width } => {
                Coding::Fixed(Fixed { bits: width.into(), fraction: i32::from(width) - 1, signed: true })
            }
            Self::MxIntHardware { width, .. } => {
                Coding::Fixed(Fixed { bits: width.into(), fraction: 0, signed: true })
            }
            Self::MinifloatDenorm { width, exponent_width, exponent_bias } => {
                float(width, exponent_width, exponent_bias, false)
            }
            Self::MinifloatIeee { width, exponent_width, exponent_bias } => {
                float(width, exponent_width, exponent_bias, true)
            }
            Self::BlockMinifloat { width, exponent_width, .. }
            | Self::BlockMinifloatCorrected { width, exponent_width, .. } => {
                float(width, exponent_width, 0, true)
            }
            Self::MaseMxFp { exponent_width, fraction_width } => {
                let width = 1 + exponent_width + fraction_width;
                float(width, exponent_width, default_bias(exponent_width), true)
            }
            Self::Log { width, exponent_bias } => {
                Coding::Power { exponent_bits: u32::from(width) - 1, bias: exponent_bias }
            }
            Self::BlockLog { width, .. } => Coding::Power { exponent_bits: u32::from(width) - 1, bias: 0 },
            Self::Binary => Coding::Binary,
            Self::ResidualSign { levels } => Coding::Residual { levels: levels.into() },
            Self::Ocp { element, .. } => element.coding(),
        }
    }

    /// Bits of a code, 1..=32: the width, with two exceptions whose values need more. A minifloat without
    /// mantissa bits to speak of (`w <= ew`) takes one, which tells 0 from the only magnitude of an exponent:
    /// `ew + 2`; and [`Element::ResidualSign`] takes `levels + 1`, because its sum may end early.
    pub fn bits(self) -> u32 {
        match self.coding() {
            Coding::Fixed(fixed) => fixed.bits,
            Coding::Float(float) => float.bits(),
            Coding::Power { exponent_bits, .. } => exponent_bits + 1,
            Coding::Binary => 1,
            Coding::Residual { levels } => levels + 1,
        }
    }

    /// The value that `x` becomes in a block of scale code `scale_code`, exactly as the original program has
    /// it: near-zero elements unchanged, NaN where it gives NaN.
    pub fn quantize(self, x: f32, scale_code: u8) -> f32 {
        let Some(exponent) = self.exponent(scale_code) else {
            return f32::NAN;
        };
        match self {
            Self::Integer { width, frac_width, signed, floor } => {
                fixed::integer(x, width, frac_width.into(), signed, floor)
            }
            Self::MinifloatDenorm { width, exponent_width, exponent_bias } => {
                float::denorm(x, width, exponent_width, exponent_bias)
            }
            Self::MinifloatIeee { width, exponent_width, exponent_bias } => {
                float::ieee(x, width, exponent_width, exponent_bias)
            }
            Self::Log { width, exponent_bias } => power::log(x, width, exponent_bias),
            Self::Binary => sign::binary(x),
            Self::ResidualSign { levels } => sign::residual(x, levels),
            Self::BlockFp { width, .. } => fixed::block_fp(x, width, exponent),
            Self::BlockMinifloat { width, exponent_width, .. } => {
                float::ieee(x, width, exponent_width, -exponent)
            }
            Self::BlockMinifloatCorrected { width, exponent_width, .. } => {
                float::corrected(x, width, exponent_width, exponent)
            }
            Self::BlockLog { width, .. } => power::block_log(x, width, -exponent),
            Self::MxInt { width } => fixed::mxint(x, width, exponent),
            Self::MxIntHardware { width, .. } => fixed::hardware(x, width, exponent),
            Self::MaseMxFp { exponent_width, fraction_width } => {
                self.value(mxfp::code(x, exponent_width, fraction_width, exponent), scale_code)
            }
            Self::Ocp { element, rounding, .. } => element.quantize(x, rounding, exponent),
        }
    }

    /// The code whose value is `y`, -0 being 0; `None` if there is none (a near-zero element that passed
    /// unchanged, NaN, 0 in a format without zero).
    pub fn code(self, y: f32, scale_code: u8) -> Option<u32> {
        let exponent = self.exponent(scale_code)?;
        // A value that overflowed f32 decodes from the first power of two beyond. In f64, where scaling by a
        // power of two is exact.
        let finite = if y.is_infinite() { exp2(128).copysign(y.into()) } else { y.into() };
        let unit = finite * exp2(-exponent);
        let code = match self.coding() {
            Coding::Fixed(fixed) => fixed.code(unit),
            Coding::Float(float) => float.code(unit),
            Coding::Power { exponent_bits, bias } => power::code(unit, exponent_bits, bias),
            Coding::Binary => u32::from(y > 0.0),
            Coding::Residual { levels } => sign::code(y, levels),
        };
        (self.value(code, scale_code) == y).then_some(code)
    }

    /// The code of `quantize(x)`, and where that is no value of the format, of a near one: 0, or the smallest
    /// magnitude where the format has no 0. Codes of a NaN block are 0.
    pub fn encode(self, x: f32, scale_code: u8) -> u32 {
        self.coded(x, scale_code).unwrap_or_else(|_| self.fallback(scale_code))
    }

    /// The code of `quantize(x)`, or that value where it has none.
    pub(super) fn coded(self, x: f32, scale_code: u8) -> Result<u32, f32> {
        if let Self::ResidualSign { levels } = self {
            return Ok(sign::residual_code(x, levels.into()));
        }
        let y = self.quantize(x, scale_code);
        self.code(y, scale_code).ok_or(y)
    }

    /// What [`Element::encode`] gives where there is no code.
    pub(super) fn fallback(self, scale_code: u8) -> u32 {
        // Code 0 is the smallest positive power in the logarithmic formats.
        self.code(0.0, scale_code).unwrap_or(0)
    }

    /// Whether magnitudes up to 1e-8 stay what they are.
    pub(super) fn passes_near_zero(self) -> bool {
        matches!(
            self,
            Self::MinifloatDenorm { .. }
                | Self::MinifloatIeee { .. }
                | Self::BlockFp { .. }
                | Self::BlockMinifloat { .. }
        )
    }

    /// Whether there are finite numbers whose rounded value has no code: those that pass, and those that the
    /// offset of the logarithmic formats takes to the 0 they do not have.
    pub(super) fn has_uncoded_values(self) -> bool {
        self.passes_near_zero() || matches!(self, Self::Log { .. } | Self::BlockLog { .. })
    }

    /// Value of a code at exponent 0. Every code below `2^bits` has one, also those that no quantizer
    /// produces; OCP codes may be NaN or infinity. Higher bits are ignored.
    pub fn unit(self, code: u32) -> f64 {
        let code = code & (u32::MAX >> (32 - self.bits().clamp(1, 32)));
        match self.coding() {
            Coding::Fixed(fixed) => fixed.unit(code),
            Coding::Float(float) => match self {
                Self::Ocp { element, .. } => element.special(code).unwrap_or_else(|| float.unit(code)),
                _ => float.unit(code),
            },
            Coding::Power { exponent_bits, bias } => power::unit(code, exponent_bits, bias),
            Coding::Binary => f64::from(code) * 2.0 - 1.0,
            Coding::Residual { levels } => sign::unit(code, levels),
        }
    }

    /// `unit(code) * 2^exponent(scale_code)`, rounded once to f32; NaN for a NaN block.
    pub fn value(self, code: u32, scale_code: u8) -> f32 {
        match self.exponent(scale_code) {
            Some(exponent) => (self.unit(code) * exp2(exponent)) as f32,
            None => f32::NAN,
        }
    }

    /// `Some(f)` when codes are two's-complement fields of `bits()` bits in i8 range with `f` fraction bits:
    /// `unit(code) = q * 2^-f`; `f` may be negative. Also `Some(0)` for [`Element::Binary`], whose field is
    /// one bit, 0 for -1 and 1 for +1.
    pub fn integer_codes(self) -> Option<i32> {
        match self.coding() {
            Coding::Fixed(Fixed { bits: ..=8, fraction, signed: true }) => Some(fraction),
            Coding::Binary => Some(0),
            _ => None,
        }
    }

    /// Largest finite and smallest positive magnitude at exponent 0.
    pub fn range(self) -> (f64, f64) {
        let bits = self.bits();
        let unit = |code: u32| self.unit(code).abs();
        let magnitude_mask = u32::MAX >> (33 - bits.clamp(2, 32));
        // Wide formats have their extremes at the ends of the magnitude field.
        let codes = if bits <= 12 {
            0..1 << bits
        } else {
            return match self.coding() {
                Coding::Fixed(Fixed { signed: false, .. }) => (unit(u32::MAX), unit(1)),
                // Powers beyond f64 are those at its ends.
                Coding::Power { .. } => (unit(magnitude_mask).min(exp2(1023)), unit(0).max(exp2(-1074))),
                _ => (unit(magnitude_mask), unit(1)),
            };
        };
        let positive = codes.map(unit).filter(|unit| unit.is_finite() && *unit > 0.0);
        let (max, min) = positive
            .fold((0.0, f64::INFINITY), |(max, min), unit| (f64::max(max, unit), f64::min(min, unit)));
        // A format of zeros alone, such as a denormal minifloat without mantissa bits.
        if max == 0.0 { (0.0, 0.0) } else { (max, min) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
