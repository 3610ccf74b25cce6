//! Binary, ternary and residual-sign quantizers of MASE.

use super::statistics::torch_sum;
use super::{check_shape, elementwise};
use crate::error::{Result, invalid};
use crate::format::element::Element;

/// `binary_quantizer` without `stochastic`. Bipolar: 1 where `x >= 0`, else -1. Otherwise the mean magnitude
/// of the sample where `x > 0`, else 0, for four dimensions only.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a shape that does not fit, and without `bipolar` for any
/// number of dimensions but 4.
pub fn binary(x: &[f32], shape: &[usize], bipolar: bool) -> Result<Vec<f32>> {
    check_shape(x, shape)?;
    if bipolar {
        return elementwise(Element::Binary, x);
    }
    by_sample(x, shape, "binary quantization that is not bipolar", |sample| {
        let mean = torch_sum(sample.iter().map(|x| x.abs())) / sample.len() as f32;
        sample.iter().map(|&x| if x > 0.0 { mean } else { 0.0 * mean }).collect()
    })
}

/// `ternary_quantizer`: `delta = 0.75 * mean|x|` of the sample (its threshold and statistics arguments are
/// ignored there); -1, 0 or 1, `scaled` by the mean of the magnitudes above `delta`; for four dimensions
/// only.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a shape that does not fit or has other than 4 dimensions.
pub fn ternary(x: &[f32], shape: &[usize], scaled: bool) -> Result<Vec<f32>> {
    check_shape(x, shape)?;
    by_sample(x, shape, "ternary quantization", |sample| {
        let delta = 0.75 * torch_sum(sample.iter().map(|x| x.abs())) / sample.len() as f32;
        let large = || sample.iter().map(|x| if x.abs() > delta { x.abs() } else { 0.0 * x.abs() });
        let count = sample.iter().filter(|x| x.abs() > delta).count();
        let scale = if scaled { torch_sum(large()) / count as f32 } else { 1.0 };
        let sign = |x: f32| f32::from(i8::from(x > delta) - i8::from(x < -delta));
        sample.iter().map(|&x| sign(x) * scale).collect()
    })
}

fn by_sample(x: &[f32], shape: &[usize], what: &str, f: impl Fn(&[f32]) -> Vec<f32>) -> Result<Vec<f32>> {
    if shape.len() != 4 {
        invalid!(
            "{what} of shape {shape:?}: want 4 dimensions, of which the last three share a scale; for matrices use \
             the bipolar one"
        );
    }
    let sample = (x.len() / shape[0].max(1)).max(1);
    Ok(x.chunks(sample).flat_map(f).collect())
}

/// `residual_sign_quantizer`: the levels `o_l = sign(r_l) * |means_l|`, `r_0 = x`, `r_{l+1} = r_l - o_l`, one
/// after another, `means.len()` tensors of the shape of `x`. The layer adds them up.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for other than 1, 2 or 3 levels.
pub fn residual_sign(x: &[f32], means: &[f32]) -> Result<Vec<f32>> {
    if !(1..=3).contains(&means.len()) {
        invalid!("residual sign of {} levels: want 1, 2 or 3", means.len());
    }
    let mut residual = x.to_vec();
    let mut levels = Vec::with_capacity(x.len() * means.len());
    for mean in means {
        for r in &mut residual {
            // Through `torch.clamp(r, -1, 1)` and back, which leaves exactly the sign.
            let step = if *r == 0.0 || r.is_nan() { *r } else { r.signum() } * mean.abs();
            levels.push(step);
            *r -= step;
        }
    }
    Ok(levels)
}
