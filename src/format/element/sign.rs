//! Codes of signs: one, or one per residual level.

use super::number::sign;

pub(super) fn binary(x: f32) -> f32 {
    if x >= 0.0 { 1.0 } else { -1.0 }
}

/// Weight of level `l`, counted from 0: `(L - l) / (L (L + 1) / 2)` in f64, rounded.
pub(crate) fn mean(level: u32, levels: u32) -> f32 {
    (f64::from(levels - level) / f64::from(levels * (levels + 1) / 2)) as f32
}

pub(super) fn residual(x: f32, levels: u8) -> f32 {
    walk(x, levels.into()).1
}

/// The code of `residual(x)`; of NaN that of 0.
pub(super) fn residual_code(x: f32, levels: u32) -> u32 {
    walk(x, levels).0
}

/// The signs of the residuals of `x`, and their sum.
fn walk(x: f32, levels: u32) -> (u32, f32) {
    let (mut code, mut residual, mut sum) = (1, x, 0.0);
    for level in 0..levels {
        // Inputs are clipped to -1..=1 first there, which leaves the sign.
        let step = sign(residual) * mean(level, levels);
        sum += step;
        if step.abs() > 0.0 {
            code = code << 1 | u32::from(step < 0.0);
        }
        residual -= step;
    }
    (code, sum)
}

/// A code is the signs in order, 1 for minus, below a leading one; a sum that ended early has fewer. Code 0
/// is 0 too.
pub(super) fn unit(code: u32, levels: u32) -> f64 {
    let signs = code.checked_ilog2().unwrap_or(0);
    let mut sum = 0.0f32;
    for level in 0..signs.min(levels) {
        let mean = mean(level, levels);
        sum += if code >> (signs - 1 - level) & 1 == 0 { mean } else { -mean };
    }
    sum.into()
}

/// The code of a sum of signs.
pub(super) fn code(y: f32, levels: u32) -> u32 {
    // The signs that `y` itself has, for few levels; else a search. Two sums may agree; any of them serves.
    let code = walk(y, levels).0;
    if unit(code, levels) == f64::from(y) {
        return code;
    }
    (1..2 << levels).find(|&code| unit(code, levels) == f64::from(y)).unwrap_or(0)
}
