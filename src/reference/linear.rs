//! `x W^T + bias`, in floating point and in integer codes.

use rayon::prelude::*;

use crate::error::{Result, invalid};
use crate::format::{ActivationFormat, Packed, QuantizedActivations, fake_quantize, quantize_activations};

/// Independent partial sums of a dot product, so that the loop vectorises; a dot product is always summed
/// in this order, whatever else is in the batch.
const LANES: usize = 4;
/// Rows of x that share one pass over a row of W.
const TOKENS: usize = 4;
/// Rows of W that make a unit of parallel work.
const ROWS: usize = 16;
/// Terms of an integer dot product that cannot overflow i32: 2^16 * 127 * 127 < 2^31.
const INTEGER_BLOCK: usize = 1 << 16;

/// `x W^T + bias`: `[T, rows]` from `x` `[T, cols]`, `w` `[rows, cols]` and `bias` `[rows]`. Every product
/// and sum is f64; one rounding at the end.
///
/// # Panics
/// When a length does not fit `cols` (the length of `x` must be `tokens * cols`).
pub fn linear(x: &[f32], tokens: usize, w: &[f32], cols: usize, bias: Option<&[f32]>) -> Vec<f32> {
    assert_eq!(x.len(), tokens * cols, "linear: x is not [tokens, cols]");
    assert_eq!(w.len() % cols, 0, "linear: w is not [rows, cols]");
    let rows = w.len() / cols;
    assert!(bias.is_none_or(|b| b.len() == rows), "linear: bias is not [rows]");
    let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    by_rows(tokens, rows, |first, y| {
        let mut wide = vec![0.0; cols];
        for (i, y) in y.chunks_exact_mut(tokens).enumerate() {
            let row = first + i;
            wide.iter_mut().zip(&w[row * cols..][..cols]).for_each(|(d, &v)| *d = f64::from(v));
            let bias = bias.map_or(0.0, |b| f64::from(b[row]));
            for (x, y) in x.chunks(TOKENS * cols).zip(y.chunks_mut(TOKENS)) {
                dot_tokens(x, &wide, y, bias);
            }
        }
    })
}

/// `y[t] = bias + x[t] . w` for up to [`TOKENS`] rows of x.
fn dot_tokens(x: &[f64], w: &[f64], y: &mut [f32], bias: f64) {
    let cols = w.len();
    if y.len() == TOKENS {
        let x: [&[f64]; TOKENS] = std::array::from_fn(|t| &x[t * cols..][..cols]);
        y.copy_from_slice(&dots(x, w).map(|d| (d + bias) as f32));
    } else {
        for (x, y) in x.chunks_exact(cols).zip(y) {
            *y = (dots([x], w)[0] + bias) as f32;
        }
    }
}

fn dots<const N: usize>(x: [&[f64]; N], w: &[f64]) -> [f64; N] {
    let mut sums = [[0.0; LANES]; N];
    let whole = w.len() / LANES * LANES;
    for k in (0..whole).step_by(LANES) {
        let w: &[f64] = &w[k..k + LANES];
        for (sums, x) in sums.iter_mut().zip(&x) {
            let x = &x[k..k + LANES];
            for lane in 0..LANES {
                sums[lane] += x[lane] * w[lane];
            }
        }
    }
    for k in whole..w.len() {
        for (sums, x) in sums.iter_mut().zip(&x) {
            sums[k - whole] += x[k] * w[k];
        }
    }
    sums.map(|s| (s[0] + s[2]) + (s[1] + s[3]))
}

/// Fills `[rows, tokens]` in parallel, blocks of rows at a time, and returns it as `[tokens, rows]`.
fn by_rows<T: Copy + Default + Send + Sync>(
    tokens: usize,
    rows: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T> {
    if tokens == 0 || rows == 0 {
        return Vec::new();
    }
    let mut transposed = vec![T::default(); rows * tokens];
    transposed.par_chunks_mut(ROWS * tokens).enumerate().for_each(|(block, y)| fill(block * ROWS, y));
    if tokens == 1 {
        return transposed;
    }
    let mut y = vec![T::default(); rows * tokens];
    y.par_chunks_exact_mut(rows).enumerate().for_each(|(t, y)| {
        y.iter_mut().enumerate().for_each(|(row, y)| *y = transposed[row * tokens + t]);
    });
    y
}

/// The integer codes of a packed matrix with the runs of columns that share a scale.
#[derive(Clone, Debug)]
pub struct IntegerMatrix {
    rows: usize,
    cols: usize,
    /// `[rows, cols]`
    codes: Vec<i8>,
    /// Per row: (end of the run, its scale), in order.
    runs: Vec<Vec<(usize, f32)>>,
}

impl IntegerMatrix {
    /// Takes the codes and scales out of `w`.
    ///
    /// # Errors
    /// When the format has no integer codes.
    pub fn new(w: &Packed) -> Result<Self> {
        if !w.has_integer_codes() {
            invalid!(
                "format {} has no integer codes; dequantize it, or choose int, uint, mxint, mxint_cuda, radix, \
                 binary or ternary",
                w.format
            );
        }
        let layout = w.layout();
        let (rows, cols) = (w.rows, w.cols);
        let mut codes = vec![0; rows * cols];
        let mut runs = Vec::with_capacity(rows);
        for (row, codes) in codes.chunks_exact_mut(cols.max(1)).enumerate() {
            w.integer_codes(row, codes);
            let mut of_row = Vec::new();
            let mut begin = 0;
            while begin < cols {
                let end = w.run_end(&layout, row, begin);
                of_row.push((end, w.scale(row, begin)));
                begin = end;
            }
            runs.push(of_row);
        }
        Ok(Self { rows, cols, codes, runs })
    }
}

/// Exact sum of products of i8 codes.
fn integer_dot(a: &[i8], b: &[i8]) -> i64 {
    let block = |(a, b): (&[i8], &[i8])| -> i32 {
        a.iter().zip(b).map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b))).sum()
    };
    a.chunks(INTEGER_BLOCK).zip(b.chunks(INTEGER_BLOCK)).map(|pair| i64::from(block(pair))).sum()
}

/// Integer linear: `[T, rows]`, `y = sum over groups of (sum qx * qw) * sx * sw, + bias`, with exact integer
/// sums per run that shares both scales, the rest in f64, and one rounding.
///
/// # Errors
/// When the format of `w` has no integer codes.
pub fn linear_integer(q: &QuantizedActivations, w: &Packed, bias: Option<&[f32]>) -> Result<Vec<f32>> {
    Ok(integer_matrix_product(q, &IntegerMatrix::new(w)?, bias))
}

pub(super) fn integer_matrix_product(
    q: &QuantizedActivations,
    w: &IntegerMatrix,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let cols = w.cols;
    let per_row = cols.div_ceil(q.group);
    let tokens = q.codes.len() / cols;
    assert_eq!(q.codes.len(), tokens * cols, "linear_integer: activations are not [T, cols]");
    assert_eq!(q.scales.len(), tokens * per_row, "linear_integer: scales are not [T, groups]");
    by_rows(tokens, w.rows, |first, y| {
        for (i, y) in y.chunks_exact_mut(tokens).enumerate() {
            let row = first + i;
            let codes = &w.codes[row * cols..][..cols];
            let bias = bias.map_or(0.0, |b| f64::from(b[row]));
            for ((x, scales), y) in q.codes.chunks_exact(cols).zip(q.scales.chunks_exact(per_row)).zip(y) {
                let (mut sum, mut begin) = (0.0, 0);
                for &(run_end, run_scale) in &w.runs[row] {
                    while begin < run_end {
                        let group = begin / q.group;
                        let end = run_end.min((group + 1) * q.group);
                        let dot = integer_dot(&x[begin..end], &codes[begin..end]);
                        sum += dot as f64 * f64::from(run_scale) * f64::from(scales[group]);
                        begin = end;
                    }
                }
                *y = (sum + bias) as f32;
            }
        }
    })
}

/// The i32 accumulators `[T, rows]` of an integer linear whose weight has one scale per tensor or per row:
/// sums over all columns. Like a device's, they wrap when `cols * 127 * 127` exceeds 2^31.
///
/// # Errors
/// When the format of `w` has no integer codes.
pub fn integer_accumulators(q: &QuantizedActivations, w: &Packed) -> Result<Vec<i32>> {
    let w = IntegerMatrix::new(w)?;
    let cols = w.cols;
    let tokens = q.codes.len() / cols;
    assert_eq!(q.codes.len(), tokens * cols, "integer_accumulators: activations are not [T, cols]");
    Ok(by_rows(tokens, w.rows, |first, y| {
        for (i, y) in y.chunks_exact_mut(tokens).enumerate() {
            let codes = &w.codes[(first + i) * cols..][..cols];
            for (x, y) in q.codes.chunks_exact(cols).zip(y) {
                *y = integer_dot(x, codes) as i32;
            }
        }
    }))
}

/// Linear with activations quantized on the fly: [`linear_integer`] where both sides have integer codes, else
/// [`linear`] with the dequantized activations and the decoded weight. `spans` as in
/// [`quantize_activations`].
///
/// # Errors
/// Never for a well-formed `w`; see [`linear_integer`].
pub fn linear_quantized(
    x: &[f32],
    spans: &[(u32, u32)],
    format: ActivationFormat,
    w: &Packed,
    bias: Option<&[f32]>,
) -> Result<Vec<f32>> {
    if w.has_integer_codes()
        && let Some(q) = quantize_activations(x, w.cols, spans, format)
    {
        return linear_integer(&q, w, bias);
    }
    Ok(linear(&fake_quantize(x, w.cols, spans, format), spans.len(), &w.decode(), w.cols, bias))
}
