//! MXFP and the hardware MXINT of MASE, and how its MX formats cut a tensor into groups.

use super::check_shape;
use crate::error::{Result, invalid};
use crate::format::element::{Blocks, Element, exp2_f32, mxfp_code};

/// Groups of a flattened tensor whose dimension `block_dim` has been moved last.
pub(super) struct Groups {
    /// Values per step of the moved dimension, and its length.
    inner: usize,
    length: usize,
}

impl Groups {
    pub(super) fn new(x: &[f32], shape: &[usize], block_size: usize, block_dim: i32) -> Result<Self> {
        check_shape(x, shape)?;
        let rank = shape.len() as i32;
        if !(-rank..rank).contains(&block_dim) {
            invalid!("block_dim = {block_dim} of shape {shape:?}: want {} to {}", -rank, rank - 1);
        }
        if block_size == 0 || !x.len().is_multiple_of(block_size) {
            invalid!(
                "shape {shape:?} has {} values, not a multiple of block_size = {block_size}; choose a size that \
                 divides it",
                x.len()
            );
        }
        let dim = block_dim.rem_euclid(rank) as usize;
        Ok(Self { inner: shape[dim + 1..].iter().product(), length: shape[dim] })
    }

    /// The place in the tensor of each value of the groups, in order.
    fn places(&self, count: usize) -> impl Iterator<Item = usize> {
        let (inner, length) = (self.inner, self.length);
        (0..count).map(move |i| {
            let (outer, rest) = (i / (inner * length), i % (inner * length));
            let (column, step) = (rest / length, rest % length);
            outer * inner * length + step * inner + column
        })
    }

    pub(super) fn take(&self, x: &[f32]) -> Vec<f32> {
        self.places(x.len()).map(|place| x[place]).collect()
    }

    pub(super) fn put_back(&self, moved: &[f32]) -> Vec<f32> {
        let mut x = vec![0.0; moved.len()];
        for (place, value) in self.places(moved.len()).zip(moved) {
            x[place] = *value;
        }
        x
    }
}

/// What [`mxfp`] returns: values in the order of the tensor, codes and scales in the order of the groups.
#[derive(Clone, Debug, PartialEq)]
pub struct MxFp {
    /// The quantized tensor.
    pub y: Vec<f32>,
    /// Sign, exponent and fraction of each element, groups one after another.
    pub elements: Vec<u8>,
    /// `X + 127` per group, 255 for a group with infinity or NaN.
    pub scales: Vec<u8>,
}

/// `mxfp_quantizer`: [`Element::MaseMxFp`] in groups of `block_size` along `block_dim`, cut as in
/// [`mxint`](super::mxint()). In a group that is not finite the scale is infinite, and what was infinite or
/// NaN becomes infinity, the rest NaN.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) as [`mxint`](super::mxint()).
pub fn mxfp(
    x: &[f32],
    shape: &[usize],
    exponent_width: u8,
    fraction_width: u8,
    block_size: usize,
    block_dim: i32,
) -> Result<MxFp> {
    let element = Element::MaseMxFp { exponent_width, fraction_width };
    element.check()?;
    let groups = Groups::new(x, shape, block_size, block_dim)?;
    let moved = groups.take(x);
    let blocks = Blocks { rows: 1, cols: moved.len(), tile_rows: 1, tile_cols: block_size };
    let scales: Vec<u8> = blocks.maxima(&moved).into_iter().map(|max| element.scale_code(max)).collect();
    let (mut y, mut elements) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for (group, &scale) in moved.chunks(block_size).zip(&scales) {
        let exponent = i32::from(scale) - 127;
        let power = exp2_f32(exponent);
        for &x in group {
            let code = mxfp_code(x, exponent_width, fraction_width, exponent);
            elements.push(code as u8);
            y.push(element.unit(code) as f32 * power);
        }
    }
    Ok(MxFp { y: groups.put_back(&y), elements, scales })
}

/// `mxint_hardware`: [`Element::MxIntHardware`] in tiles `parallelism` of the last two dimensions, which it
/// must divide; a vector is one row.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for parameters out of range, and when a tile does not divide the
/// tensor.
pub fn mxint_hardware(
    x: &[f32],
    shape: &[usize],
    width: u8,
    exponent_width: u8,
    parallelism: [usize; 2],
) -> Result<Vec<f32>> {
    let element = Element::MxIntHardware { width, exponent_width };
    element.check()?;
    let cols = check_shape(x, shape)?;
    let rows = shape.len().checked_sub(2).map_or(1, |dim| shape[dim]);
    let [tile_rows, tile_cols] = parallelism;
    if tile_rows == 0 || tile_cols == 0 || !rows.is_multiple_of(tile_rows) || !cols.is_multiple_of(tile_cols)
    {
        invalid!(
            "tiles of [{tile_rows}, {tile_cols}] on [{rows}, {cols}]: want sizes that divide the matrix; choose others"
        );
    }
    if x.is_empty() {
        return Ok(Vec::new());
    }
    // Rows of all matrices: tiles divide a matrix, so they never span two.
    let blocks = Blocks { rows: x.len() / cols, cols, tile_rows, tile_cols };
    let maxima = blocks.maxima(x);
    let quantize = |(i, &x): (usize, &f32)| {
        let max = maxima[blocks.index(i / cols, i % cols)];
        if max.is_nan() { f32::NAN } else { element.quantize(x, element.scale_code(max)) }
    };
    Ok(x.iter().enumerate().map(quantize).collect())
}
