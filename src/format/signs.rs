//! Binary and ternary weights.
//!
//! * `binary_mean` (XNOR-Net, Rastegari et al. 2016): `s = mean|w|` of the scope, `q = +1` for `w >= 0`, else -1.
//! * `ternary` and `ternary_mean` (Ternary Weight Networks, Li et al. 2016): `d = 0.75 mean|w|`, `q = sign(w)` where
//!   `|w| > d`, else 0; `ternary` has no scale and takes `d` per row, `ternary_mean` has `s = mean of |w| > d`.
//!
//! Means are summed in f64. A scale of 0 becomes the smallest number of its type, for an all-zero scope 1.

use rayon::prelude::*;

use super::rows::for_rows;
use super::{Layout, Scope, bits, int};

/// Threshold of the ternary formats over the mean magnitude.
const THRESHOLD: f64 = 0.75;

/// How weights become codes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Levels {
    Binary,
    Ternary,
}

/// Sums of a scope that give scale and threshold.
fn sum(values: &[f32], keep: impl Fn(f64) -> bool + Sync) -> (f64, usize) {
    values.iter().map(|w| f64::from(w.abs())).filter(|w| keep(*w)).fold((0.0, 0), |(s, n), w| (s + w, n + 1))
}

/// The same in blocks of fixed length, so that the result does not depend on the number of threads.
fn sum_parallel(values: &[f32], keep: impl Fn(f64) -> bool + Sync) -> (f64, usize) {
    let parts: Vec<(f64, usize)> = values.par_chunks(1 << 14).map(|part| sum(part, &keep)).collect();
    parts.into_iter().fold((0.0, 0), |(s, n), (t, m)| (s + t, n + m))
}

fn mean((sum, count): (f64, usize)) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Scale and threshold of a scope.
fn statistics(levels: Levels, values: &[f32], parallel: bool) -> (f32, f64) {
    let over = |limit: f64| match parallel {
        true => mean(sum_parallel(values, |w| w > limit)),
        false => mean(sum(values, |w| w > limit)),
    };
    let all = match parallel {
        true => mean(sum_parallel(values, |_| true)),
        false => mean(sum(values, |_| true)),
    };
    match levels {
        Levels::Binary => (all as f32, 0.0),
        Levels::Ternary => (over(THRESHOLD * all) as f32, THRESHOLD * all),
    }
}

fn code(levels: Levels, w: f32, threshold: f64) -> i32 {
    match levels {
        Levels::Binary => i32::from(w >= 0.0),
        Levels::Ternary if f64::from(w.abs()) > threshold => w.signum() as i32,
        Levels::Ternary => 0,
    }
}

/// Codes with a scale per `scope`; without one ([`None`]) thresholds are per row and there are no scales.
pub(super) fn encode(
    levels: Levels,
    scope: Option<Scope>,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let width = layout.scheme.codes.bits();
    let of_tensor = (scope == Some(Scope::Tensor)).then(|| statistics(levels, weights, true));
    if let Some((scale, _)) = of_tensor {
        fields[0] = int::scale_or_one(scale).to_bits();
    }
    let group = if let Some(Scope::Group(group)) = scope { group as usize } else { cols };
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        let mut bit = 0;
        for (index, values) in row.chunks(group).enumerate() {
            let (scale, threshold) = of_tensor.unwrap_or_else(|| statistics(levels, values, false));
            match scope {
                Some(Scope::Row) => fields[index] = int::scale_or_one(scale).to_bits(),
                Some(Scope::Group(_)) => {
                    let scale = int::f16_at_most_max(int::scale_or_one(scale));
                    fields[index] = u32::from(scale.to_bits());
                }
                Some(Scope::Tensor) | None => {}
            }
            for &w in values {
                bits::put(words, bit, width, code(levels, w, threshold) as u32);
                bit += width as usize;
            }
        }
    });
}
