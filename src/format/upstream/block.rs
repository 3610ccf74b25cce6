//! The block formats of MASE: block floating point, block minifloat, block logarithm.

use rayon::prelude::*;

use super::check_shape;
use crate::error::{Result, invalid};
use crate::format::element::{Blocks, Element, replace_zero_maxima};

/// `block_fp_quantizer`, `block_minifloat_quantizer` and `block_log_quantizer`: a scale per block of
/// `block_size`.
///
/// `block_size` is right-aligned with the shape: a missing leading dimension and -1 mean the whole dimension,
/// and what is longer than the dimension is cut to it. So `[16]` on a weight `[O, I]` is blocks of `O x 16`:
/// one exponent for all output rows; a group of a row is `[1, 16]`. `skip_first_dim` makes the first
/// dimension of a block 1, as for activations: `[16]` on `[B, T, C]` is blocks of `T x 16` per batch element,
/// shared by its tokens.
///
/// NaN and infinity spread over their blocks as far as the format lets them.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for parameters out of range, a format that has no scale, and the
/// shapes that MASE refuses: a vector with `skip_first_dim`, three dimensions without it, more than three.
pub fn block(
    element: Element,
    x: &[f32],
    shape: &[usize],
    block_size: &[i32],
    skip_first_dim: bool,
) -> Result<Vec<f32>> {
    element.check()?;
    if element.scale_bits() == 0 {
        invalid!("{element:?} has no scale per block; use the function without blocks");
    }
    check_shape(x, shape)?;
    if x.is_empty() {
        return Ok(Vec::new());
    }
    let blocks = blocks(shape, block_size, skip_first_dim)?;
    // Three dimensions are matrices one after another; only the rule for zeros spans them.
    let matrix = blocks.rows * blocks.cols;
    let mut maxima: Vec<f32> = x.chunks(matrix).flat_map(|x| blocks.maxima(x)).collect();
    replace_zero_maxima(&mut maxima);
    let mut y = x.to_vec();
    y.par_chunks_mut(blocks.cols).enumerate().for_each(|(index, row)| {
        let (matrix, row_index) = (index / blocks.rows, index % blocks.rows);
        let first = matrix * blocks.count() + blocks.index(row_index, 0);
        for (tile, max) in row.chunks_mut(blocks.tile_cols).zip(&maxima[first..]) {
            let scale = element.scale_code(*max);
            for x in tile {
                *x = if max.is_nan() { f32::NAN } else { element.quantize(*x, scale) };
            }
        }
    });
    Ok(y)
}

/// The tiles of one matrix of the tensor.
fn blocks(shape: &[usize], block_size: &[i32], skip_first_dim: bool) -> Result<Blocks> {
    let (rows, cols) = match (shape, skip_first_dim) {
        ([_], true) => {
            invalid!("skip_first_dim on shape {shape:?}: a vector has no dimension to skip; pass false")
        }
        (&[cols], false) => (1, cols),
        (&[rows, cols], _) => (rows, cols),
        ([_, _, _], false) => {
            invalid!("blocks on shape {shape:?} without skip_first_dim: want at most 2 dimensions; pass true")
        }
        (&[_, rows, cols], true) => (rows, cols),
        _ => invalid!("blocks on shape {shape:?}: want 1, 2 or 3 dimensions"),
    };
    // The size along the dimension that is `from_end` dimensions before the last one.
    let size = |from_end: usize, dim: usize| {
        let size = block_size.len().checked_sub(from_end + 1).map_or(-1, |index| block_size[index]);
        match usize::try_from(size) {
            Err(_) if size == -1 => Ok(dim),
            Ok(size) if size > 0 => Ok(size.min(dim)),
            _ => invalid!(
                "block_size {block_size:?}: {size} is no size; want at least 1, or -1 for the dimension"
            ),
        }
    };
    let tile_cols = size(0, cols)?;
    let tile_rows = if shape.len() == 2 && skip_first_dim || shape.len() == 1 { 1 } else { size(1, rows)? };
    Ok(Blocks { rows, cols, tile_rows, tile_cols })
}
