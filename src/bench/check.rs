//! Results against f64.

use rayon::prelude::*;
use serde::Serialize;

use crate::cases::{IN_F16, ONE_OP};
use crate::error::Result;
use crate::format::Packed;
use crate::gpu::{Buffer, Gpu};
use crate::graph::Mask;
use crate::reference::{self, Heads};

/// What outputs hold before a kernel runs: a NaN that no kernel computes.
const POISON: u32 = 0x7fc0_dead;
/// Multiplications of the check of one case; what is more is sampled.
const WORK: usize = 1 << 25;
/// Sampled rows and columns at most.
const SAMPLE: (usize, usize) = (32, 128);
/// Terms of a sum up to which an f32 result keeps [`ONE_OP`].
const TERMS: f64 = 1024.0;

/// What should come out, in f64, at some rows and columns of the result `[m, width]`.
pub(super) struct Expectation {
    pub(super) m: usize,
    pub(super) width: usize,
    rows: Vec<usize>,
    cols: Vec<usize>,
    /// `[rows, cols]`
    pub(super) want: Vec<f64>,
    tolerance: f64,
}

/// Whether a result is right, and how it was told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Nothing unstored, nothing stored outside, and the error within the tolerance.
    pub pass: bool,
    /// Elements compared with f64; all are checked for having been stored.
    pub checked: usize,
    /// Elements of the result.
    pub of: usize,
    /// `sum (got - want)^2 / sum want^2` of the compared; `None` where it is no number.
    pub nmse: Option<f64>,
    /// Largest NMSE that passes.
    pub tolerance: f64,
    /// What is wrong and where.
    pub at: Option<String>,
}

/// `count` of `0 .. n` spread evenly, the first and the last among them.
fn spread(n: usize, count: usize) -> Vec<usize> {
    if n <= count {
        return (0..n).collect();
    }
    (0..count).map(|i| i * (n - 1) / (count - 1)).collect()
}

/// Of a sum of so many random terms, whose rounding grows with their number.
fn tolerance(terms: usize) -> f64 {
    ONE_OP * (terms as f64 / TERMS).max(1.0)
}

impl Expectation {
    /// Of `x W^T` with x `[m, cols]`.
    pub(super) fn linear(x: &[f32], w: &Packed, m: usize) -> Self {
        let (n, k) = (w.rows, w.cols);
        let all = m.saturating_mul(n).saturating_mul(k) <= WORK;
        let (rows, cols) = match all {
            true => (spread(m, m), spread(n, n)),
            false => (spread(m, SAMPLE.0), spread(n, SAMPLE.1)),
        };
        let columns: Vec<Vec<f64>> = cols
            .par_iter()
            .map(|&column| {
                let mut weights = vec![0.0; k];
                w.decode_row(column, &mut weights);
                let dot = |row: usize| -> f64 {
                    let x = &x[row * k..(row + 1) * k];
                    x.iter().zip(&weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
                };
                rows.iter().map(|&row| dot(row)).collect()
            })
            .collect();
        let want = (0..rows.len()).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
        Self { m, width: n, rows, cols, want, tolerance: tolerance(k) }
    }

    /// Of RMSNorm with an epsilon of 1e-5.
    pub(super) fn norm(x: &[f32], weight: &[f32]) -> Self {
        let width = weight.len();
        let m = x.len() / width;
        let rows = spread(m, (WORK / width).max(1));
        let of = |&row: &usize| {
            let x = &x[row * width..(row + 1) * width];
            let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / width as f64;
            let root = (mean + f64::from(1e-5f32)).sqrt();
            x.iter().zip(weight).map(|(&x, &w)| f64::from(x) * f64::from(w) / root).collect::<Vec<_>>()
        };
        let want = rows.iter().flat_map(of).collect();
        Self { m, width, rows, cols: spread(width, width), want, tolerance: ONE_OP }
    }

    /// Of attention of the last m of n tokens; `all` holds q, k and v of each beside one another.
    pub(super) fn attention(all: &[f32], m: usize, n: usize, heads: Heads) -> Self {
        let (width, kv) = (heads.width(), heads.kv_width());
        let columns = |from: usize, count: usize| -> Vec<f32> {
            all.chunks(width + 2 * kv).flat_map(|row| &row[from..from + count]).copied().collect()
        };
        let (q, keys, values) = (columns(0, width), columns(width, kv), columns(width + kv, kv));
        let cost = n.saturating_mul(width).saturating_mul(2);
        let rows = spread(m, (WORK / cost).max(8));
        let of = |&row: &usize| {
            let at = n - m + row;
            // One query at a time: the reference takes it for the last token of its sequence.
            let first = if heads.mask == Mask::Full { n - 1 } else { at };
            reference::attention(&q[at * width..(at + 1) * width], &keys, &values, heads, first)
        };
        let want = rows.par_iter().flat_map_iter(of).map(f64::from).collect();
        let tolerance = tolerance(heads.head_dim.max(n));
        Self { m, width, rows, cols: spread(width, width), want, tolerance }
    }

    /// Lets products be rounded as those in f16 are.
    pub(super) fn allow_f16(&mut self) {
        self.tolerance = self.tolerance.max(IN_F16);
    }

    /// Fills the result with poison.
    pub(super) fn poison(&self, gpu: &Gpu, (y, _): (&Buffer, usize)) -> Result<()> {
        gpu.upload(y, bytemuck::cast_slice(&vec![POISON; (y.bytes() / 4) as usize]))
    }

    /// Reads the result back and compares it.
    pub(super) fn check(&self, gpu: &Gpu, (y, stride): (&Buffer, usize)) -> Result<Verdict> {
        Ok(self.verdict(&gpu.read::<u32>(y, (y.bytes() / 4) as usize)?, stride))
    }

    /// Compares the words of the result, rows `stride` apart and whatever lies behind them.
    pub(super) fn verdict(&self, words: &[u32], stride: usize) -> Verdict {
        let inside = |i: usize| i % stride < self.width && i / stride < self.m;
        let wrong = words.iter().enumerate().find(|&(i, &word)| (word == POISON) == inside(i));
        let place = |i: usize| format!("[{}, {}]", i / stride, i % stride);
        let mut at = wrong.map(|(i, _)| match inside(i) {
            true => format!("{}: nothing stored", place(i)),
            false => format!("{}: a store outside of the result", place(i)),
        });
        let (mut error, mut power, mut worst) = (0.0f64, 0.0f64, (-1.0, 0, 0.0, 0.0));
        for (r, &row) in self.rows.iter().enumerate() {
            for (c, &col) in self.cols.iter().enumerate() {
                let i = row * stride + col;
                let got = words.get(i).map_or(f64::NAN, |&word| f64::from(f32::from_bits(word)));
                let want = self.want[r * self.cols.len() + c];
                let square = (got - want) * (got - want);
                error += square;
                power += want * want;
                if square.is_nan() || square > worst.0 {
                    worst = (square, i, got, want);
                }
            }
        }
        let nmse = if error == 0.0 { 0.0 } else { error / power };
        let close = nmse <= self.tolerance;
        if at.is_none() && !close {
            at = Some(format!("{}: {:e}, want {:e}", place(worst.1), worst.2 as f32, worst.3));
        }
        Verdict {
            pass: at.is_none() && close,
            checked: self.want.len(),
            of: self.m * self.width,
            nmse: nmse.is_finite().then_some(nmse),
            tolerance: self.tolerance,
            at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 2 x 2 result [[1, 2], [3, 4]] in rows of 4.
    fn expectation() -> Expectation {
        let (rows, cols) = (vec![0, 1], vec![0, 1]);
        Expectation { m: 2, width: 2, rows, cols, want: vec![1.0, 2.0, 3.0, 4.0], tolerance: 1e-12 }
    }

    fn words(values: [f32; 4]) -> Vec<u32> {
        let [a, b, c, d] = values.map(f32::to_bits);
        vec![a, b, POISON, POISON, c, d, POISON, POISON, POISON]
    }

    #[test]
    fn a_right_result_passes() {
        let verdict = expectation().verdict(&words([1.0, 2.0, 3.0, 4.0]), 4);
        assert_eq!((verdict.pass, verdict.checked, verdict.of, verdict.nmse), (true, 4, 4, Some(0.0)));
        assert_eq!(verdict.at, None);
    }

    #[test]
    fn a_wrong_an_unstored_and_a_stray_element_fail() {
        let wrong = expectation().verdict(&words([1.0, 2.0, 3.0, 4.1]), 4);
        assert!(!wrong.pass && wrong.at.unwrap().starts_with("[1, 1]: 4.1"));
        let mut unstored = words([1.0, 2.0, 3.0, 4.0]);
        unstored[1] = POISON;
        let verdict = expectation().verdict(&unstored, 4);
        assert!(!verdict.pass && verdict.nmse.is_none());
        assert_eq!(verdict.at.as_deref(), Some("[0, 1]: nothing stored"));
        for stray in [2, 8] {
            let mut words = words([1.0, 2.0, 3.0, 4.0]);
            words[stray] = 0;
            let verdict = expectation().verdict(&words, 4);
            assert!(!verdict.pass && verdict.at.unwrap().ends_with("outside of the result"));
        }
        let nan = expectation().verdict(&words([f32::NAN, 2.0, 3.0, 4.0]), 4);
        assert!(!nan.pass && nan.nmse.is_none());
    }

    #[test]
    fn samples_hold_the_first_and_the_last() {
        assert_eq!(spread(3, 8), [0, 1, 2]);
        let some = spread(1000, 7);
        assert_eq!((some.len(), some[0], some[6]), (7, 0, 999));
    }
}
