//! Parallel loops over the rows of a matrix.

use rayon::prelude::*;

/// Calls `f(weights of a row, words of its codes, its scale fields)` for every row, in parallel.
/// Without `groups_per_row` the fields are empty.
pub(super) fn for_rows(
    weights: &[f32],
    cols: usize,
    codes: &mut [u32],
    row_words: usize,
    fields: &mut [u32],
    groups_per_row: usize,
    f: impl Fn(&[f32], &mut [u32], &mut [u32]) + Sync,
) {
    let rows = codes.par_chunks_mut(row_words).zip(weights.par_chunks(cols));
    if groups_per_row == 0 {
        rows.for_each(|(words, row)| f(row, words, &mut []));
    } else {
        rows.zip(fields.par_chunks_mut(groups_per_row))
            .for_each(|((words, row), fields)| f(row, words, fields));
    }
}

/// Index of the first weight that `bad` holds for.
pub(super) fn first(weights: &[f32], bad: impl Fn(f32) -> bool + Sync) -> Option<usize> {
    const CHUNK: usize = 1 << 14;
    let chunk =
        weights.par_chunks(CHUNK).position_first(|chunk| chunk.iter().fold(false, |any, &w| any | bad(w)))?;
    let begin = chunk * CHUNK;
    weights[begin..].iter().position(|&w| bad(w)).map(|offset| begin + offset)
}

/// `max |w|`.
pub(super) fn max_abs(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |max, w| f32::max(max, w.abs()))
}

/// `max |w|` over many weights, in parallel.
pub(super) fn max_abs_parallel(weights: &[f32]) -> f32 {
    weights.par_chunks(1 << 14).map(max_abs).reduce(|| 0.0, f32::max)
}
