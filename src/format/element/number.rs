//! Exponents and powers of two from the bits of a float, and the small f32 operations that the original
//! programs spell out.

/// `2^exponent`, infinity or 0 beyond the range of f64, subnormals included.
pub(crate) fn exp2(exponent: i32) -> f64 {
    match exponent {
        1024.. => f64::INFINITY,
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        -1074..=-1023 => f64::from_bits(1 << (exponent + 1074)),
        _ => 0.0,
    }
}

/// `2^exponent` in f32: infinity from 2^128 on, 0 below 2^-149.
pub(crate) fn exp2_f32(exponent: i32) -> f32 {
    exp2(exponent) as f32
}

/// `floor(log2 value)` of a positive f32, subnormals included, or of a positive normal f64; -1023 for 0, 1024
/// for infinity and NaN.
pub(crate) fn floor_log2(value: impl Into<f64>) -> i32 {
    ((value.into().to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// `ceil(log2 value)`, as [`floor_log2`].
pub(crate) fn ceil_log2(value: f32) -> i32 {
    let value = f64::from(value);
    let fraction = value.to_bits() << 12;
    floor_log2(value) + i32::from(fraction != 0 && value.is_finite())
}

/// `log2 value` rounded to the nearest integer, as [`floor_log2`]. There are no ties: sqrt 2 is irrational.
pub(crate) fn round_log2(value: f32) -> i32 {
    let value = f64::from(value);
    let fraction = value.to_bits() << 12;
    floor_log2(value) + i32::from(fraction > std::f64::consts::SQRT_2.to_bits() << 12 && value.is_finite())
}

/// -1, 0 or 1; NaN stays. Unlike `f32::signum`, 0 for zeros.
pub(crate) fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// `min(max(x, low), high)`: `high` when the bounds are crossed; NaN stays.
pub(crate) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    if x.is_nan() { x } else { x.max(low).min(high) }
}

/// Elements up to this magnitude pass the minifloat and block formats of MASE unchanged
/// (`torch.isclose(x, 0)`).
const NEAR_ZERO: f32 = 1e-8;

/// `y`, or `x` where `x` is near zero, evaluated as `!near * y + near * x`: where either is not finite and
/// takes no part, 0 times it is NaN.
pub(crate) fn unless_near_zero(x: f32, y: f32) -> f32 {
    if x.abs() <= NEAR_ZERO {
        if y.is_finite() { x } else { f32::NAN }
    } else if x.is_finite() {
        y
    } else {
        f32::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_exact_next_to_powers_of_two_and_in_subnormals() {
        for exponent in -126..=127 {
            let power = exp2_f32(exponent);
            assert_eq!(floor_log2(power), exponent);
            assert_eq!(ceil_log2(power), exponent);
            assert_eq!(floor_log2(power.next_down()), exponent - 1);
            assert_eq!(ceil_log2(power.next_up()), exponent + 1);
            assert_eq!(round_log2(power * std::f32::consts::SQRT_2), exponent);
            assert_eq!(round_log2((power * std::f32::consts::SQRT_2).next_up()), exponent + 1);
        }
        assert_eq!(floor_log2(f32::from_bits(1)), -149);
        assert_eq!(ceil_log2(f32::from_bits(5)), -146);
        assert_eq!(
            (floor_log2(f32::INFINITY), ceil_log2(f32::INFINITY), floor_log2(0.0f32)),
            (1024, 1024, -1023)
        );
    }

    #[test]
    fn powers_of_two_reach_zero_and_infinity() {
        assert_eq!(exp2(-1074), f64::from_bits(1));
        assert_eq!((exp2(-1075), exp2(1023), exp2(1024)), (0.0, 2f64.powi(1023), f64::INFINITY));
        assert_eq!(exp2_f32(-149), f32::from_bits(1));
        assert_eq!((exp2_f32(-150), exp2_f32(128)), (0.0, f32::INFINITY));
    }
}
