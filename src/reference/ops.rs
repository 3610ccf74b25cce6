//! Norms, rotary embedding, softmax and elementwise ops.

use crate::graph::Function;

/// Rows `ids` of `table` `[entries, cols]`: `[ids, cols]`.
///
/// # Panics
/// When an id is not below `entries`.
pub fn embed(table: &[f32], cols: usize, ids: impl IntoIterator<Item = usize>) -> Vec<f32> {
    let mut y = Vec::new();
    for id in ids {
        y.extend_from_slice(&table[id * cols..(id + 1) * cols]);
    }
    y
}

/// `x * weight / sqrt(mean(x^2) + eps)` of every row of `x` `[T, weight]` (Zhang & Sennrich 2019, eq. 4), or of every
/// head of `[T, heads * weight]`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let mean_square = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / width as f64;
        let factor = 1.0 / (mean_square + f64::from(eps)).sqrt();
        y.extend(row.iter().zip(weight).map(|(&v, &w)| (f64::from(v) * factor * f64::from(w)) as f32));
    }
    y
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` of every row of `x` `[T, weight]`, with the biased
/// variance (Ba et al. 2016).
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    assert_eq!(bias.len(), width, "layer_norm: bias has another length than weight");
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
        let factor = 1.0 / (variance + f64::from(eps)).sqrt();
        for ((&v, &w), &b) in row.iter().zip(weight).zip(bias) {
            y.push(((f64::from(v) - mean) * factor * f64::from(w) + f64::from(b)) as f32);
        }
    }
    y
}

/// Rotary embedding of `x` `[T, heads * head_dim]` (Su et al. 2021, in the half-rotated pairing of Hugging
/// Face): elements `i` and `i + head_dim/2` of a head are turned by `positions[t] * inverse_frequency[i]`
/// radians. `inverse_frequency` has `head_dim / 2` values.
///
/// The angle is formed in f64; implementations that form it in f32 differ by up to half an ulp of the
/// angle, about 4e-6 at position 128.
pub fn rope(x: &[f32], positions: &[u32], heads: usize, inverse_frequency: &[f32]) -> Vec<f32> {
    let half = inverse_frequency.len();
    assert_eq!(x.len(), positions.len() * heads * half * 2, "rope: x is not [positions, heads * head_dim]");
    let mut y = vec![0.0; x.len()];
    let rows = x.chunks_exact(heads * half * 2).zip(y.chunks_exact_mut(heads * half * 2));
    for ((x_row, y_row), &position) in rows.zip(positions) {
        for (i, &frequency) in inverse_frequency.iter().enumerate() {
            let (sin, cos) = (f64::from(position) * f64::from(frequency)).sin_cos();
            for head in 0..heads {
                let (low, high) = (head * half * 2 + i, head * half * 2 + half + i);
                let (a, b) = (f64::from(x_row[low]), f64::from(x_row[high]));
                y_row[low] = (a * cos - b * sin) as f32;
                y_row[high] = (b * cos + a * sin) as f32;
            }
        }
    }
    y
}

/// `exp(x - max) / sum(exp(x - max))` of every row of `x` `[rows, width]`. Entries of minus infinity get 0.
pub fn softmax(x: &[f32], width: usize) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    let mut row = Vec::with_capacity(width);
    for values in x.chunks_exact(width) {
        row.clear();
        row.extend(values.iter().map(|&v| f64::from(v)));
        softmax_f64(&mut row);
        y.extend(row.iter().map(|&p| p as f32));
    }
    y
}

/// Replaces one row of scores by its softmax.
pub(super) fn softmax_f64(row: &mut [f64]) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - max).exp();
        sum += *v;
    }
    for v in row.iter_mut() {
        *v /= sum;
    }
}

/// Applies `function` to every element.
///
/// GELU: Hendrycks & Gimpel 2016, `x/2 * (1 + erf(x / sqrt 2))` and its approximation
/// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`; SiLU: `x / (1 + exp(-x))`.
pub fn activate(function: Function, x: &[f32]) -> Vec<f32> {
    x.iter().map(|&v| activate_f64(function, f64::from(v)) as f32).collect()
}

fn activate_f64(function: Function, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};
    match function {
        // `max` would turn NaN into 0 and hide it.
        Function::Relu if x < 0.0 => 0.0,
        Function::Relu => x,
        Function::Silu => x / (1.0 + (-x).exp()),
        // erfc keeps the tail of negative x, where 1 + erf cancels.
        Function::Gelu => 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2),
        Function::GeluTanh => {
            let inner = FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x);
            // 1 + tanh(a) = 2 / (1 + exp(-2a)), without cancellation.
            x / (1.0 + (-2.0 * inner).exp())
        }
        Function::Tanh => x.tanh(),
    }
}

/// Elementwise `a + b`, one f32 rounding.
pub fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "add: lengths differ");
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

/// Elementwise `a * b`, one f32 rounding.
pub fn mul(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "mul: lengths differ");
    a.iter().zip(b).map(|(x, y)| x * y).collect()
}

/// Columns `offset .. offset + width` of `x` `[T, columns]`: `[T, width]`.
pub fn slice(x: &[f32], columns: usize, offset: usize, width: usize) -> Vec<f32> {
    x.chunks_exact(columns).flat_map(|row| &row[offset..offset + width]).copied().collect()
}
