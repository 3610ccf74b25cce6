//! MXINT of MASE.

use super::mx::Groups;
use super::statistics::quantile;
use crate::error::Result;
use crate::format::element::Element;

/// What [`mxint`] returns: values in the order of the tensor, codes and scales in the order of the groups.
#[derive(Clone, Debug, PartialEq)]
pub struct MxInt {
    /// The quantized tensor.
    pub y: Vec<f32>,
    /// Integers, groups one after another.
    pub mantissas: Vec<i32>,
    /// `s + 127` per group, 255 for a NaN group.
    pub scales: Vec<u8>,
}

/// `mxint_quantizer`: [`Element::MxInt`] in groups of `block_size` along `block_dim`, which is moved last;
/// groups run over the flattened result and may straddle its rows. `quantile_search` replaces the maximum of
/// a group by that quantile of its magnitudes, of eleven from 1 to 0.5, which has the least squared error; as
/// upstream does, it compares with the values *before* `block_dim` is moved.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a width outside 2..=16, a shape that does not fit, a
/// dimension out of range, and when the number of values is no multiple of `block_size`.
pub fn mxint(
    x: &[f32],
    shape: &[usize],
    width: u8,
    block_size: usize,
    block_dim: i32,
    quantile_search: bool,
) -> Result<MxInt> {
    let element = Element::MxInt { width };
    element.check()?;
    let groups = Groups::new(x, shape, block_size, block_dim)?;
    let moved = groups.take(x);
    let (mut y, mut mantissas, mut scales) = (Vec::new(), Vec::new(), Vec::new());
    for (group, compared) in moved.chunks(block_size).zip(x.chunks(block_size)) {
        let quantiles: &[f32] = if quantile_search { &QUANTILES } else { &QUANTILES[..1] };
        let mut magnitudes: Vec<f32> = group.iter().map(|x| x.abs()).collect();
        let candidates = quantiles.iter().map(|&q| element.scale_code(quantile(&mut magnitudes, q)));
        let error = |scale: u8| {
            let square = |(x, compared): (&f32, &f32)| (element.quantize(*x, scale) - compared).powi(2);
            group.iter().zip(compared).map(square).sum::<f32>().sqrt()
        };
        // The first of the smallest errors; NaN counts as smallest.
        let scale = candidates
            .map(|scale| (scale, if quantile_search { error(scale) } else { 0.0 }))
            .reduce(|a, b| if a.1 <= b.1 || a.1.is_nan() { a } else { b })
            .map_or(0, |(scale, _)| scale);
        let bits = element.bits();
        mantissas.extend(group.iter().map(|&x| {
            let code = element.code(element.quantize(x, scale), scale).unwrap_or(0);
            (code << (32 - bits)) as i32 >> (32 - bits)
        }));
        y.extend(group.iter().map(|&x| element.quantize(x, scale)));
        scales.push(scale);
    }
    Ok(MxInt { y: groups.put_back(&y), mantissas, scales })
}

const QUANTILES: [f32; 11] = [1.0, 0.995, 0.99, 0.97, 0.95, 0.93, 0.90, 0.80, 0.70, 0.60, 0.50];
