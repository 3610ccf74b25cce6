//! Dynamic int8 quantization of torch.

use super::layer::{Operands, Output};
use crate::error::{Result, invalid};

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
    let max = weight.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    let weight_scale = (max / 127.5).max(f32::EPSILON);
    let codes: Vec<i8> =
        weight.iter().map(|w| (w / weight_scale).round_ties_even().clamp(-128.0, 127.0) as i8).collect();

    let (scale, zero_point) = affine(x, 127);
    // Differences to the zero point are integers, exact in f32; so are their sums in f64.
    let centred: Vec<f32> = x
        .iter()
        .map(|x| {
            let code = (x / scale).round_ties_even() + zero_point as f32;
            code.clamp(0.0, 127.0) - zero_point as f32
        })
        .collect();
    let wide: Vec<f32> = codes.iter().map(|&q| f32::from(q)).collect();
    let mut output = operands.product(&centred, operands.shape, &wide, None);
    let outputs = operands.outputs;
    for (i, y) in output.y.iter_mut().enumerate() {
        *y = *y * (scale * weight_scale) + operands.bias.map_or(0.0, |bias| bias[i % outputs]);
    }
    Ok(DynamicInt8 { weight: codes, weight_scale, output })
}

/// Scale and zero point of codes `0..=qmax` whose range includes 0 (`ChooseQuantizationParams`).
fn affine(x: &[f32], qmax: i32) -> (f32, i32) {
    let min = f64::from(x.iter().copied().fold(0.0, f32::min));
    let max = f64::from(x.iter().copied().fold(0.0, f32::max));
    let qmax = f64::from(qmax);
    let mut scale = (max - min) / qmax;
    if scale as f32 == 0.0 || (1.0 / scale).is_infinite() {
        scale = 0.1;
    }
    let (from_min, from_max) = (-min / scale, qmax - max / scale);
    // The end of the range with the smaller rounding error decides.
    let zero_point = if (min / scale).abs() < qmax + (max / scale).abs() { from_min } else { from_max };
    (scale as f32, zero_point.clamp(0.0, qmax).round_ties_even() as i32)
}
