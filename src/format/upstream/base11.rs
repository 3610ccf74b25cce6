//! `Base11Quantizer` and `Linear11Bit` of a 3.5-bit quantization module.

use super::layer::{Operands, Output};
use crate::error::{Result, invalid};
use crate::format::{Format, Packed};

/// `Base11Quantizer.quantize`: the complete groups of `group` inputs of each row of `weight` `[rows, cols]`.
/// The inputs after the last complete group are dropped, so the result is `[rows, cols / group * group]`.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) when a row has no complete group, and as [`Format::encode`].
pub fn base11_quantize(weight: &[f32], rows: usize, cols: usize, group: u32) -> Result<Packed> {
    let size = group as usize;
    let format = Format::Base11Nine32 { group };
    format.check()?;
    if cols < size {
        invalid!("weight [{rows}, {cols}]: rows of {cols} hold no group of {group}; choose a smaller group");
    }
    if rows.checked_mul(cols) != Some(weight.len()) {
        invalid!(
            "weight [{rows}, {cols}] wants {rows} x {cols} values, got {}; check the shape",
            weight.len()
        );
    }
    let complete = cols / size * size;
    let kept: Vec<f32> = weight.chunks(cols).flat_map(|row| &row[..complete]).copied().collect();
    format.encode(&kept, rows, complete)
}

/// `Linear11Bit.forward`: `x W^T + bias` with `weight` through [`base11_quantize`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) as [`base11_quantize`], and when the inputs are no multiple of
/// the group: the quantized weight has fewer columns then, and upstream fails in the product.
pub fn base11_linear(operands: &Operands<'_>, group: u32) -> Result<Output> {
    let (rows, cols) = operands.check()?;
    let packed = base11_quantize(operands.weight, rows, cols, group)?;
    if packed.cols != cols {
        invalid!(
            "{cols} inputs on a weight of {} after its last complete group of {group}: want a multiple of the \
             group; pad the weight or choose another group",
            packed.cols
        );
    }
    Ok(operands.product(operands.x, operands.shape, &packed.decode(), operands.bias))
}
