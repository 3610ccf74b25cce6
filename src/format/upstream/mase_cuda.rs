//! MXINT8 of mase-cuda.

use crate::error::{Result, invalid};
use crate::format::element::exp2;
use crate::format::mxint::{cuda_decode, flushed};

/// What [`mase_cuda_mxint8`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct MaseCudaMxInt8 {
    /// One int8 per value; -128 is not among them.
    pub mantissas: Vec<i8>,
    /// Largest biased exponent of each group; 255 with infinity or NaN in it.
    pub scales: Vec<u8>,
    /// The bf16 values, widened.
    pub y: Vec<f32>,
}

/// `quantize1d_simulated`, then `dequantize1d_simulated`: values to bf16, magnitudes below 2^-126 to 0, then
/// groups of the flattened tensor with the scale code `S` = largest biased exponent and
/// `q = ±clamp(rne(|x| / 2^(S - 127) * 64), 0, 127)`. A group that is not finite has codes of 0 and is NaN.
/// On finite values this is the format `mxint_cuda`.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) when `group` does not divide the number of values.
pub fn mase_cuda_mxint8(x: &[f32], group: usize) -> Result<MaseCudaMxInt8> {
    if group == 0 || !x.len().is_multiple_of(group) {
        invalid!(
            "{} values are not a multiple of group = {group}; choose a group that divides them",
            x.len()
        );
    }
    let mut mantissas = Vec::with_capacity(x.len());
    let mut scales = Vec::with_capacity(x.len() / group);
    for values in x.chunks(group) {
        let biased = values.iter().map(|&x| (flushed(x).abs().to_bits() >> 23) as u8);
        let scale = biased.max().unwrap_or(0);
        scales.push(scale);
        mantissas.extend(values.iter().map(|&x| match scale {
            0 | 255 => 0,
            _ => {
                let scaled = f64::from(flushed(x)) * exp2(127 + 6 - i32::from(scale));
                scaled.round_ties_even().clamp(-127.0, 127.0) as i8
            }
        }));
    }
    let y = mantissas.iter().enumerate().map(|(i, &q)| cuda_decode(q, scales[i / group])).collect();
    Ok(MaseCudaMxInt8 { mantissas, scales, y })
}
