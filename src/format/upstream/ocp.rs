//! OCP MX quantizers: microxcaling, and codes.

use super::check_shape;
use crate::error::{Result, invalid};
use crate::format::element::{Blocks, Element, OcpElement, OcpRounding, OcpScale};

/// microxcaling gives a block of zeros the exponent of the smallest normal f32.
fn maxima(x: &[f32], cols: usize, block_size: usize) -> (Blocks, Vec<f32>) {
    let blocks = Blocks { rows: x.len() / cols.max(1), cols, tile_rows: 1, tile_cols: block_size };
    let mut maxima = blocks.maxima(x);
    maxima.iter_mut().filter(|max| **max == 0.0).for_each(|max| *max = f32::MIN_POSITIVE);
    (blocks, maxima)
}

fn check_blocks(x: &[f32], shape: &[usize], block_size: usize) -> Result<usize> {
    let cols = check_shape(x, shape)?;
    if block_size == 0 {
        invalid!("block_size = 0: want at least 1");
    }
    Ok(cols)
}

/// `_quantize_mx` with `scale_bits = 8`, `axes = -1`, `shared_exp_method = "max"`: blocks of `block_size`
/// along the last dimension, the last one padded with zeros. A block with infinity or NaN is NaN.
///
/// It differs from [`Element::Ocp`] in one place: there a value is rounded by adding 0.5 in f32, which takes
/// the largest f32 below half of the smallest step up to one step; so do `Even` and `AwayFromZero` here.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a shape that does not fit and a `block_size` of 0.
pub fn microxcaling(
    x: &[f32],
    shape: &[usize],
    element: OcpElement,
    rounding: OcpRounding,
    block_size: usize,
) -> Result<Vec<f32>> {
    let cols = check_blocks(x, shape, block_size)?;
    let format = Element::Ocp { element, rounding, scale: OcpScale::Floor };
    let (blocks, maxima) = maxima(x, cols, block_size);
    let (_, step) = format.range();
    let quantize = |(i, &x): (usize, &f32)| {
        let scale = format.scale_code(maxima[blocks.index(i / cols, i % cols)]);
        let step = (step * 2f64.powi(i32::from(scale) - 127)) as f32;
        let below_half = x.abs() == (0.5 * step).next_down() && step > f32::MIN_POSITIVE * 2.0;
        if scale != 255 && below_half && rounding != OcpRounding::Floor {
            return step.copysign(x);
        }
        format.quantize(x, scale)
    };
    Ok(x.iter().enumerate().map(quantize).collect())
}

/// What [`ocp_codes`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct OcpCodes {
    /// Element codes in the order of the tensor, in the low bits.
    pub codes: Vec<u8>,
    /// E8M0 byte per block, blocks of a row beside one another.
    pub scales: Vec<u8>,
    /// The values.
    pub y: Vec<f32>,
}

/// The OCP conversion with its codes: blocks of `block_size` along the last dimension, floor scale, nearest
/// even, saturating; a negative value that becomes 0 keeps its sign bit, and a block of zeros has the scale
/// of the smallest normal f32.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a shape that does not fit, a `block_size` of 0, and values
/// that are not finite; the message names the index.
pub fn ocp_codes(x: &[f32], shape: &[usize], element: OcpElement, block_size: usize) -> Result<OcpCodes> {
    let cols = check_blocks(x, shape, block_size)?;
    if let Some(index) = x.iter().position(|x| !x.is_finite()) {
        invalid!("value {index} is {}: want finite values", x[index]);
    }
    let format = Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor };
    let (blocks, maxima) = maxima(x, cols, block_size);
    let scales: Vec<u8> = maxima.into_iter().map(|max| format.scale_code(max)).collect();
    let sign = if format.integer_codes().is_some() { 0 } else { 1 << (format.bits() - 1) };
    let (mut codes, mut y) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for (i, &x) in x.iter().enumerate() {
        let scale = scales[blocks.index(i / cols, i % cols)];
        let code = format.encode(x, scale);
        codes.push(code as u8 | if x.is_sign_negative() { sign } else { 0 });
        y.push(format.value(code, scale));
    }
    Ok(OcpCodes { codes, scales, y })
}
