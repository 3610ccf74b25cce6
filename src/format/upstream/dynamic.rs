//! Dynamic int8 quantization of torch.

use super::layer::{Operands, Output};
use crate::error::{Result, invalid};
use crate::format::Format;
use crate::format::activation::{torch_code, torch_parameters};

/// What [`dynamic_int8`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicInt8 {
    /// Weight codes, `[outputs, inputs]`.
    pub weight: Vec<i8>,
    /// Weight scale.
    pub weight_scale: f32,
    /// The product with its shape.
    pub output: Output,
}

/// `quantize_dynamic(nn.Linear, qint8)` with the fbgemm backend. The weight is symmetric per tensor,
/// `s = max|W| / 127.5`, `q = clamp(rne(W / s), -128, 127)`; x is affine per tensor with reduced range, codes
/// 0..=127; i32 sums, then `y = sum * s_x * s + bias`.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for shapes that do not fit and values that are not finite.
pub fn dynamic_int8(operands: &Operands<'_>) -> Result<DynamicInt8> {
    operands.check()?;
    let Operands { x, weight, .. } = *operands;
    if let Some(index) = x.iter().chain(weight).position(|value| !value.is_finite()) {
        let (name, index) = if index < x.len() { ("x", index) } else { ("weight", index - x.len()) };
        invalid!("{name} {index} is not finite: want finite values");
    }
    let (outputs, inputs) = (operands.outputs, weight.len() / operands.outputs.max(1));
    let packed = Format::TorchDynamic.encode(weight, outputs, inputs)?;
    let weight_scale = packed.scale(0, 0);
    let mut codes = vec![0; weight.len()];
    codes.chunks_mut(inputs).enumerate().for_each(|(row, codes)| packed.integer_codes(row, codes));

    let (scale, zero) = torch_parameters(x);
    // Differences to the zero point are integers, exact in f32; so are their sums in f64.
    let centred: Vec<f32> = x.iter().map(|&x| torch_code(x, scale, zero).into()).collect();
    let wide: Vec<f32> = codes.iter().map(|&q| f32::from(q)).collect();
    let mut output = operands.product(&centred, operands.shape, &wide, None);
    let outputs = operands.outputs;
    for (i, y) in output.y.iter_mut().enumerate() {
        *y = *y * (scale * weight_scale) + operands.bias.map_or(0.0, |bias| bias[i % outputs]);
    }
    Ok(DynamicInt8 { weight: codes, weight_scale, output })
}
