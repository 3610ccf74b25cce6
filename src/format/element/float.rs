//! Minifloat codes: sign, exponent field, mantissa field.

use super::number::{ceil_log2, clamp, exp2, exp2_f32, floor_log2, sign, unless_near_zero};

/// A code of `1 + exponent_width + max(mantissa, 0)` bits, sign bit on top; with a negative `mantissa` one
/// bit stands for the mantissa, 0 for the value 0 and 1 for the only mantissa that crossed clamp bounds
/// leave.
pub(super) struct Float {
    /// 1..=8.
    pub exponent_width: u32,
    /// `mb`; may be negative.
    pub mantissa: i32,
    pub bias: i32,
    /// An implicit one, and subnormals at exponent field 0.
    pub implicit: bool,
}

impl Float {
    fn mantissa_bits(&self) -> u32 {
        if self.mantissa < 0 { 1 } else { self.mantissa as u32 }
    }

    pub(super) fn bits(&self) -> u32 {
        1 + self.exponent_width + self.mantissa_bits()
    }

    pub(super) fn unit(&self, code: u32) -> f64 {
        let mantissa_bits = self.mantissa_bits();
        let field = code >> mantissa_bits & ((1 << self.exponent_width) - 1);
        let q = f64::from(code & ((1 << mantissa_bits) - 1));
        let sign = if code >> (self.bits() - 1) == 0 { 1.0 } else { -1.0 };
        let exponent = field as i32 - self.bias;
        let mantissa = if self.mantissa < 0 {
            // `q` is 0 or 1: the clamp to an upper bound of S - 1, below 0, leaves nothing else.
            q * match (self.implicit, field) {
                (false, _) => self.crossed(),
                (true, 0) => 2.0 * self.crossed(),
                (true, _) => 1.0 + self.crossed(),
            }
        } else {
            let fraction = q * exp2(-self.mantissa);
            match (self.implicit, field) {
                (false, _) => fraction,
                (true, 0) => 2.0 * fraction,
                (true, _) => 1.0 + fraction,
            }
        };
        sign * exp2(exponent) * mantissa
    }

    /// `(S - 1) / S` of a negative `mb`: -1, -3, -7 ….
    fn crossed(&self) -> f64 {
        1.0 - exp2(-self.mantissa)
    }

    /// The code of a value of the format; any code for other values.
    pub(super) fn code(&self, unit: f64) -> u32 {
        if unit == 0.0 || !unit.is_finite() {
            return 0;
        }
        let top = (1 << self.exponent_width) - 1;
        let mantissa_bits = self.mantissa_bits();
        let pack = |negative: bool, field: i32, q: u32| {
            u32::from(negative) << (self.bits() - 1) | (field as u32) << mantissa_bits | q
        };
        let magnitude = unit.abs();
        if self.mantissa < 0 {
            // The mantissa is negative, so the sign of the code is opposite to that of the value.
            let field = |mantissa: f64| floor_log2(magnitude) - floor_log2(mantissa.abs()) + self.bias;
            if self.implicit && magnitude == 2.0 * self.crossed().abs() * exp2(-self.bias) {
                return pack(unit > 0.0, 0, 1);
            }
            let mantissa = if self.implicit { 1.0 + self.crossed() } else { self.crossed() };
            return pack(unit > 0.0, field(mantissa).clamp(0, top), 1);
        }
        // Exponent of the binade, then the mantissa in steps of it. A value that f32 rounded up to the
        // next power of two above the largest one is the largest one.
        let exponent = floor_log2(magnitude) + i32::from(!self.implicit);
        let field = (exponent + self.bias).clamp(0, top);
        let subnormal = self.implicit && field == 0;
        let steps = magnitude * exp2(self.mantissa - (field - self.bias) - i32::from(subnormal));
        let q = if self.implicit && !subnormal { steps - exp2(self.mantissa) } else { steps };
        pack(unit < 0.0, field, q.clamp(0.0, exp2(self.mantissa) - 1.0) as u32)
    }
}

/// The mantissa bits, `S` and `S - 1` in f32.
fn steps(width: u8, exponent_width: u8) -> (f32, f32) {
    let steps = exp2(i32::from(width) - i32::from(exponent_width) - 1);
    (steps as f32, (steps - 1.0) as f32)
}

pub(super) fn denorm(x: f32, width: u8, exponent_width: u8, bias: i32) -> f32 {
    let (shift, largest) = steps(width, exponent_width);
    let value = x.abs();
    let exponent = ceil_log2(value + 1e-9).clamp(-bias, (1 << exponent_width) - 1 - bias);
    let power = exp2_f32(exponent);
    let q = clamp((value / power * shift).round_ties_even(), 0.0, largest);
    unless_near_zero(x, sign(x + 1e-9) * power * (q / shift))
}

pub(super) fn ieee(x: f32, width: u8, exponent_width: u8, bias: i32) -> f32 {
    let (shift, largest) = steps(width, exponent_width);
    let value = x.abs();
    let exponent = floor_log2(value + 1e-9).clamp(-bias, (1 << exponent_width) - 1 - bias);
    let power = exp2_f32(exponent);
    let scaled = value / power * shift;
    let mantissa = if exponent == -bias {
        clamp((scaled / 2.0).round_ties_even(), 0.0, largest) / shift * 2.0
    } else {
        1.0 + clamp((scaled - shift).round_ties_even(), 0.0, largest) / shift
    };
    unless_near_zero(x, sign(x + 1e-9) * power * mantissa)
}

/// A binary floating-point grid at exponent 0: steps of `2^(e - mantissa)` in the binade `e`, none finer than
/// that of `min_exponent`, up to `max`.
pub(super) struct Grid {
    pub mantissa: i32,
    pub min_exponent: i32,
    pub max: f64,
}

impl Grid {
    /// The grid point that `round` chooses, saturated; `x` finite.
    pub(super) fn round(&self, x: f64, round: impl Fn(f64) -> f64) -> f64 {
        let step = exp2(floor_log2(x.abs()).max(self.min_exponent) - self.mantissa);
        (round(x.abs() / step) * step).min(self.max).copysign(x)
    }
}

pub(super) fn corrected(x: f32, width: u8, exponent_width: u8, exponent: i32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    let mantissa = i32::from(width) - i32::from(exponent_width) - 1;
    let max = exp2((1 << exponent_width) - 1) * (2.0 - exp2(-mantissa));
    let grid = Grid { mantissa, min_exponent: 1, max };
    (grid.round(f64::from(x) * exp2(-exponent), f64::round_ties_even) * exp2(exponent)) as f32
}
