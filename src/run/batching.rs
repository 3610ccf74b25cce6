//! Examples as batches, and what a model makes of them.

use super::Runner;
use crate::error::Result;
use crate::graph::{Batch, Graph, Token};
use crate::model::Example;

/// How examples are batched.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Examples that run together; the runner has as many KV-cache slots.
    pub sequences: usize,
    /// Most tokens per step; an example longer than it runs in several steps over its KV cache.
    pub tokens: usize,
}

/// Most rows of a step.
const ROWS: u64 = 1024;

impl Batching {
    /// For `examples` and logits that must fit `max_bytes`.
    pub fn new(graph: &Graph, examples: &[Example], max_bytes: u64) -> Self {
        let longest = longest(examples) as u64;
        let rows = (max_bytes / (graph.output_width().next_multiple_of(32) as u64 * 4)).clamp(1, ROWS);
        let most = examples.len().max(1) as u64;
        // Where tokens see what follows them, an example must stand in one step as a whole. It has few outputs.
        let (sequences, tokens) = match graph.is_bidirectional() {
            true => {
                let sequences = (ROWS / longest).clamp(1, 64).min(most);
                (sequences, sequences * longest)
            }
            false => ((rows / longest).clamp(1, 8).min(most), rows),
        };
        Self { sequences: sequences as usize, tokens: tokens as usize }
    }
}

/// Tokens of the longest example, at least 1.
pub fn longest(examples: &[Example]) -> usize {
    examples.iter().map(|example| example.inputs.len()).max().unwrap_or(0).max(1)
}

/// Batches of at most `limit` tokens, each with its targets: all examples of the group together where they fit, else
/// one after another in pieces, which share KV caches.
pub fn batches(group: &[Example], limit: usize) -> Vec<(Batch, Vec<u32>)> {
    let limit = limit.max(1);
    let total: usize = group.iter().map(|example| example.inputs.len()).sum();
    let mut result = Vec::new();
    let mut current = (Batch::default(), Vec::new());
    for (sequence, example) in group.iter().enumerate() {
        let mut expected = example.outputs.iter().zip(&example.targets).peekable();
        for (position, &id) in example.inputs.iter().enumerate() {
            let row = current.0.tokens.len();
            if total > limit && row == limit {
                result.push(std::mem::take(&mut current));
            }
            if let Some((_, &target)) = expected.next_if(|(output, _)| **output as usize == position) {
                current.0.outputs.push(current.0.tokens.len() as u32);
                current.1.push(target);
            }
            let segment = example.segment(position);
            current.0.tokens.push(Token { segment, ..Token::new(id, sequence as u32, position as u32) });
        }
        if total > limit {
            result.push(std::mem::take(&mut current));
        }
    }
    result.push(current);
    result.retain(|(batch, _)| !batch.tokens.is_empty());
    result
}

/// Runs `examples`; `take` gets the number of each and its rows, `[outputs, width]`, in order.
///
/// # Errors
/// When an example does not fit, the executor fails, or `take` does.
pub fn outputs(
    runner: &mut Runner<'_>,
    examples: &[Example],
    batching: Batching,
    take: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let sequences = batching.sequences.max(1);
    for (number, group) in examples.chunks(sequences).enumerate() {
        let mut rows: Vec<Vec<f32>> = vec![Vec::new(); group.len()];
        for (batch, _) in batches(group, batching.tokens) {
            runner.step(&batch)?;
            let values = runner.logits()?;
            let width = values.len() / batch.outputs.len();
            for (&output, row) in batch.outputs.iter().zip(values.chunks(width)) {
                rows[batch.tokens[output as usize].sequence as usize].extend_from_slice(row);
            }
        }
        for (i, rows) in rows.iter().enumerate() {
            take(number * sequences + i, rows)?;
        }
    }
    Ok(())
}

/// `exp(x) / sum(exp(x))`, in f64.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&x| (f64::from(x) - f64::from(most)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The mean of rows of `width`, summed in f64.
pub fn mean_row(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = (rows.len() / width.max(1)).max(1) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// Divides a vector by its Euclidean length, or by 1e-12 where that is less (as PyTorch's `normalize`).
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(len: u32, outputs: &[u32]) -> Example {
        Example {
            inputs: (0..len).collect(),
            segments: (0..len).map(|i| u32::from(i > 1)).collect(),
            outputs: outputs.to_vec(),
            targets: outputs.iter().map(|output| output + 7).collect(),
        }
    }

    #[test]
    fn outputs_and_segments_follow_their_tokens() {
        let all = batches(&[example(3, &[0]), example(2, &[0, 1])], 100);
        let [(batch, targets)] = &all[..] else { panic!("{} batches", all.len()) };
        assert_eq!((batch.outputs.as_slice(), targets.as_slice()), (&[0, 3, 4][..], &[7, 7, 8][..]));
        let tokens: Vec<_> = batch.tokens.iter().map(|t| (t.id, t.sequence, t.position, t.segment)).collect();
        assert_eq!(tokens, [(0, 0, 0, 0), (1, 0, 1, 0), (2, 0, 2, 1), (0, 1, 0, 0), (1, 1, 1, 0)]);
    }

    #[test]
    fn long_examples_run_in_pieces() {
        let all =
            batches(&[Example::window(vec![1, 2, 3], vec![2, 3, 4]), Example::window(vec![9], vec![8])], 2);
        let shape: Vec<_> = all.iter().map(|(b, t)| (b.tokens.len(), b.outputs.clone(), t.clone())).collect();
        assert_eq!(shape, [(2, vec![0, 1], vec![2, 3]), (1, vec![0], vec![4]), (1, vec![0], vec![8])]);
    }

    #[test]
    fn vectors() {
        assert_eq!(softmax(&[0.0, 0.0]), [0.5, 0.5]);
        // 1 / (1 + e^-1), and no overflow far from zero.
        let sure = softmax(&[1000.0, 999.0]);
        assert!((sure[0] - 0.731_058_578_630_004_9).abs() < 1e-15 && (sure[0] + sure[1] - 1.0).abs() < 1e-15);
        assert_eq!(mean_row(&[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut none = [0.0, 0.0];
        normalize(&mut none);
        assert_eq!(none, [0.0, 0.0]);
    }
}
