//! NVFP4: E2M1 elements, an E4M3 scale per block, optionally an f32 scale per tensor.

use super::check_shape;
use crate::error::{Result, invalid};
use crate::format::element::{Blocks, Element, OcpElement, OcpRounding, OcpScale};

/// What [`nvfp4`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Nvfp4 {
    /// E2M1 codes in the order of the tensor; the sign bit is that of the value, also for 0.
    pub codes: Vec<u8>,
    /// E4M3 code per block, blocks of a row beside one another.
    pub scales: Vec<u8>,
    /// 1 with one level.
    pub tensor_scale: f32,
    /// The values.
    pub y: Vec<f32>,
}

/// NVFP4 in blocks of `block_size` (16) along the last dimension. With `two_level` the tensor scale is
/// `t = max|x| / (448 * 6)`, else 1; a block has `s = E4M3(max|x| / 6 / t)`, an element `E2M1(x / (t * s))`,
/// both nearest even and saturating. A block whose scale is 0 is all 0, and so is a tensor of zeros.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a shape that does not fit, a `block_size` of 0, and values
/// that are not finite; the message names the index.
pub fn nvfp4(x: &[f32], shape: &[usize], block_size: usize, two_level: bool) -> Result<Nvfp4> {
    let cols = check_shape(x, shape)?;
    if block_size == 0 {
        invalid!("block_size = 0: want at least 1");
    }
    if let Some(index) = x.iter().position(|x| !x.is_finite()) {
        invalid!("value {index} is {}: want finite values", x[index]);
    }
    let format = |element| Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor };
    let (scale_format, format) = (format(OcpElement::Fp8E4m3), format(OcpElement::Fp4E2m1));
    /// E8M0 code of 1.
    const ONE: u8 = 127;
    let blocks = Blocks { rows: x.len() / cols.max(1), cols, tile_rows: 1, tile_cols: block_size };
    let maxima = blocks.maxima(x);
    let max = maxima.iter().copied().fold(0.0, f32::max);
    let tensor_scale = if two_level && max > 0.0 { max / (448.0 * 6.0) } else { 1.0 };
    let scales: Vec<u8> =
        maxima.iter().map(|max| scale_format.encode(max / 6.0 / tensor_scale, ONE) as u8).collect();
    let (mut codes, mut y) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for (i, &x) in x.iter().enumerate() {
        let block_scale = scale_format.value(scales[blocks.index(i / cols, i % cols)].into(), ONE);
        let scale = tensor_scale * block_scale;
        let code = if scale == 0.0 { 0 } else { format.encode(x / scale, ONE) };
        codes.push(code as u8 | if x.is_sign_negative() { 8 } else { 0 });
        y.push(format.value(code, ONE) * scale);
    }
    Ok(Nvfp4 { codes, scales, tensor_scale, y })
}
