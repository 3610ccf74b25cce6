//! Quantizers without blocks.

use rayon::prelude::*;

use super::check_shape;
use crate::error::{Result, invalid};
use crate::format::element::{Element, max_or_nan};

/// `integer_quantizer`, `integer_floor_quantizer`, `minifloat_denorm_quantizer`, `minifloat_ieee_quantizer`,
/// `log_quantizer` and the bipolar `binary_quantizer` of MASE: [`Element::quantize`] of every value, in
/// parallel.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for parameters out of range and for formats with a scale per
/// block.
pub fn elementwise(element: Element, x: &[f32]) -> Result<Vec<f32>> {
    element.check()?;
    if element.scale_bits() != 0 {
        invalid!("{element:?} has a scale per block; use the function of its blocks");
    }
    Ok(x.par_iter().map(|&x| element.quantize(x, 0)).collect())
}

/// `scale_integer_quantizer`: per row of the last dimension `s = 1 / (max|x| + 1e-9) * 2^(w-1)` and
/// `y = clamp(rne(x * s), -2^(w-1), 2^(w-1) - 1) / s`, so that the positive maximum saturates by one step;
/// unsigned `2^w` and `0..=2^w - 1`.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a width outside 1..=32 and a shape that does not fit.
pub fn scale_integer(x: &[f32], shape: &[usize], width: u8, signed: bool) -> Result<Vec<f32>> {
    let cols = check_shape(x, shape)?;
    if !(1..=32).contains(&width) {
        invalid!("width = {width}: want 1 to 32");
    }
    let levels = 2f64.powi(i32::from(width) - i32::from(signed));
    let (low, high) = (if signed { -levels } else { 0.0 } as f32, (levels - 1.0) as f32);
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols.max(1)) {
        let max = row.iter().fold(0.0, |max, x| max_or_nan(max, x.abs()));
        // torch evaluates `number / tensor` as reciprocal times number.
        let scale = (max + 1e-9).recip() * levels as f32;
        y.extend(row.iter().map(|x| {
            let q = (x * scale).round_ties_even();
            if q.is_nan() { q } else { q.max(low).min(high) / scale }
        }));
    }
    Ok(y)
}
