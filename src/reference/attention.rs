//! Attention of one sequence over its KV cache, in one function and as the three passes that the
//! naive plan runs (scores, softmax, values).

use rayon::prelude::*;

use super::ops::softmax_f64;
use crate::graph::Mask;

/// The shape of an attention op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`. Query head h reads KV head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Factor on the scores, usually `1/sqrt(head_dim)`.
    pub scale: f32,
    /// Which positions a query sees.
    pub mask: Mask,
}

impl Heads {
    /// Columns of q and of the result.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of keys and values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The elements of the KV head that query head `head` reads, in row `position` of a cache.
    fn kv<'a>(&self, cache: &'a [f32], position: usize, head: usize) -> &'a [f32] {
        let begin = position * self.kv_width() + head / (self.heads / self.kv_heads) * self.head_dim;
        &cache[begin..begin + self.head_dim]
    }

    /// `scale * q.k` of one query head with the keys from `first` on.
    fn scores(&self, q: &[f32], keys: &[f32], head: usize, first: usize, scores: &mut [f64]) {
        for (position, score) in (first..).zip(scores) {
            let products = q.iter().zip(self.kv(keys, position, head));
            let dot: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            *score = dot * f64::from(self.scale);
        }
    }

    /// `sum weights[p] * v[first + p]` of one head.
    fn values(&self, weights: &[f64], values: &[f32], head: usize, first: usize, sum: &mut [f64]) {
        sum.fill(0.0);
        for (position, &weight) in (first..).zip(weights) {
            for (s, &v) in sum.iter_mut().zip(self.kv(values, position, head)) {
                *s += weight * f64::from(v);
            }
        }
    }
}

/// Scaled dot-product attention (Vaswani et al. 2017, eq. 1) of one sequence: `[T, heads * head_dim]`.
///
/// `q` `[T, heads * head_dim]` are the queries of positions `first .. first + T`; `keys` and `values`
/// `[>= first + T, kv_heads * head_dim]` the sequence's cache, which holds these positions already.
/// The query at position p reads the positions that [`Mask::seen`] gives for a sequence of `first + T` tokens.
pub fn attention(q: &[f32], keys: &[f32], values: &[f32], shape: Heads, first: usize) -> Vec<f32> {
    let mut y = vec![0.0; q.len()];
    let length = q.len() / shape.width();
    let rows = q.par_chunks_exact(shape.width()).zip(y.par_chunks_exact_mut(shape.width()));
    rows.enumerate().for_each(|(t, (q, y))| {
        let seen = shape.mask.seen(first + t, first + length);
        let mut weights = vec![0.0; seen.len()];
        let mut sum = vec![0.0; shape.head_dim];
        let heads = q.chunks_exact(shape.head_dim).zip(y.chunks_exact_mut(shape.head_dim));
        for (head, (q, y)) in heads.enumerate() {
            shape.scores(q, keys, head, seen.start, &mut weights);
            softmax_f64(&mut weights);
            shape.values(&weights, values, head, seen.start, &mut sum);
            y.iter_mut().zip(&sum).for_each(|(y, &s)| *y = s as f32);
        }
    });
    y
}

/// First pass of naive attention: `scale * q.k`, `[T, heads, positions]` with `positions = first + T`;
/// minus infinity where the query does not see the position. Arguments as in [`attention`].
pub fn attention_scores(q: &[f32], keys: &[f32], shape: Heads, first: usize) -> Vec<f32> {
    let rows = q.len() / shape.width();
    let positions = first + rows;
    let mut y = vec![f32::NEG_INFINITY; rows * shape.heads * positions];
    let mut scores = vec![0.0; positions];
    let heads = q.chunks_exact(shape.head_dim).zip(y.chunks_exact_mut(positions.max(1)));
    for (index, (q, y)) in heads.enumerate() {
        let seen = shape.mask.seen(first + index / shape.heads, positions);
        let scores = &mut scores[seen.clone()];
        shape.scores(q, keys, index % shape.heads, seen.start, scores);
        y[seen].iter_mut().zip(scores).for_each(|(y, s)| *y = *s as f32);
    }
    y
}

/// Last pass of naive attention: probabilities `[T, heads, positions]` times `values`
/// `[>= positions, kv_heads * head_dim]`: `[T, heads * head_dim]`.
pub fn attention_values(probabilities: &[f32], values: &[f32], shape: Heads, positions: usize) -> Vec<f32> {
    let mut y = Vec::with_capacity(probabilities.len() / positions.max(1) * shape.head_dim);
    let mut sum = vec![0.0; shape.head_dim];
    for (index, row) in probabilities.chunks_exact(positions.max(1)).enumerate() {
        let weights: Vec<f64> = row.iter().map(|&p| f64::from(p)).collect();
        shape.values(&weights, values, index % shape.heads, 0, &mut sum);
        y.extend(sum.iter().map(|&s| s as f32));
    }
    y
}
