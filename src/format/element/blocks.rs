//! Tiles of a matrix that share a scale, and their scale codes.

use rayon::prelude::*;

use super::Element;

/// A row-major matrix `[rows, cols]` cut into tiles; tiles at the right and the bottom may be smaller. Tiles
/// are numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a tile, at least 1.
    pub tile_rows: usize,
    /// Columns of a tile, at least 1.
    pub tile_cols: usize,
}

impl Blocks {
    /// Tiles beside one another.
    pub fn per_row(&self) -> usize {
        self.cols.div_ceil(self.tile_cols)
    }

    /// Tiles of the matrix.
    pub fn count(&self) -> usize {
        self.rows.div_ceil(self.tile_rows) * self.per_row()
    }

    /// The tile of an element.
    pub fn index(&self, row: usize, col: usize) -> usize {
        row / self.tile_rows * self.per_row() + col / self.tile_cols
    }

    /// `max |x|` of every tile, in parallel; NaN where a tile has one.
    ///
    /// # Panics
    /// When `x` is not `rows * cols` long or a tile is empty.
    pub fn maxima(&self, x: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), self.rows * self.cols, "matrix [{}, {}]", self.rows, self.cols);
        let mut maxima = vec![0.0; self.count()];
        if maxima.is_empty() {
            return maxima;
        }
        maxima.par_chunks_mut(self.per_row()).zip(x.par_chunks(self.tile_rows * self.cols)).for_each(
            |(maxima, strip)| {
                for row in strip.chunks(self.cols) {
                    for (max, tile) in maxima.iter_mut().zip(row.chunks(self.tile_cols)) {
                        *max = tile.iter().fold(*max, |max, x| max_or_nan(max, x.abs()));
                    }
                }
            },
        );
        maxima
    }
}

/// The larger number, or NaN if either is, unlike `f32::max`.
pub(crate) fn max_or_nan(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

impl Element {
    /// Whether blocks of zeros take the smallest non-zero maximum of the tensor, as in the block formats of
    /// MASE.
    pub(crate) fn shares_maxima(self) -> bool {
        matches!(self, Self::BlockFp { .. } | Self::BlockMinifloat { .. } | Self::BlockLog { .. })
    }
}

/// Puts the smallest non-zero maximum in the place of zeros; ones where all are zero. This couples every
/// block of zeros to the whole tensor, but shows only where a format has no zero, or in NaNs, which spread.
pub(crate) fn replace_zero_maxima(maxima: &mut [f32]) {
    let smallest = smallest_maximum(maxima).unwrap_or(1.0);
    put_for_zeros(maxima, smallest);
}

/// The smallest of the maxima that are not zero; NaN counts as such and wins.
pub(crate) fn smallest_maximum(maxima: &[f32]) -> Option<f32> {
    let smaller = |a: f32, b: f32| if a <= b || a.is_nan() { a } else { b };
    maxima.iter().copied().filter(|&max| max != 0.0).reduce(smaller)
}

fn put_for_zeros(maxima: &mut [f32], smallest: f32) {
    maxima.iter_mut().filter(|max| **max == 0.0).for_each(|max| *max = smallest);
}

/// Scale code of every tile `[tile_rows, tile_cols]` of the matrix `x` `[rows, cols]`, tiles row by row, in
/// parallel. Tiles of zeros follow the rule of the format: the smallest non-zero maximum of the matrix in the
/// block formats of MASE, else [`Element::scale_code`] of 0.
///
/// # Panics
/// When `x` is not `rows * cols` long or a tile is empty.
pub fn scale_codes(
    element: Element,
    x: &[f32],
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
) -> Vec<u8> {
    let blocks = Blocks { rows, cols, tile_rows, tile_cols };
    let maxima = blocks.maxima(x);
    let smallest = smallest_maximum(&maxima);
    codes_of(element, maxima, smallest)
}

/// [`scale_codes`] of some rows of a matrix whose smallest non-zero maximum of a tile is `smallest`.
pub(crate) fn scale_codes_within(
    element: Element,
    x: &[f32],
    blocks: Blocks,
    smallest: Option<f32>,
) -> Vec<u8> {
    codes_of(element, blocks.maxima(x), smallest)
}

fn codes_of(element: Element, mut maxima: Vec<f32>, smallest: Option<f32>) -> Vec<u8> {
    if element.shares_maxima() {
        put_for_zeros(&mut maxima, smallest.unwrap_or(1.0));
    }
    maxima.into_iter().map(|max| element.scale_code(max)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_tiles_are_numbered_row_by_row() {
        let blocks = Blocks { rows: 3, cols: 5, tile_rows: 2, tile_cols: 3 };
        let x: Vec<f32> = (0..15).map(|i| -(i as f32)).collect();
        assert_eq!((blocks.per_row(), blocks.count()), (2, 4));
        assert_eq!(blocks.maxima(&x), [7.0, 9.0, 12.0, 14.0]);
        for row in 0..3 {
            for col in 0..5 {
                assert!(blocks.maxima(&x)[blocks.index(row, col)] >= x[row * 5 + col].abs());
            }
        }
        assert!(blocks.maxima(&[f32::NAN; 15]).iter().all(|max| max.is_nan()));
        assert!(Blocks { rows: 0, cols: 0, tile_rows: 1, tile_cols: 1 }.maxima(&[]).is_empty());
    }

    #[test]
    fn zero_blocks_take_the_smallest_maximum() {
        let element = Element::BlockFp { width: 4, exponent_width: 8, exponent_bias: 127 };
        assert_eq!(scale_codes(element, &[0.0, 8.0, 2.0, 0.0], 2, 2, 1, 1), [128, 130, 128, 128]);
        assert_eq!(scale_codes(element, &[0.0; 4], 2, 2, 2, 1), [127, 127]);
        assert_eq!(scale_codes(Element::MxInt { width: 8 }, &[0.0, 8.0], 1, 2, 1, 1), [1, 130]);
    }
}
