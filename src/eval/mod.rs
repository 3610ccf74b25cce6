//! Measures of a model: loss, perplexity, divergence from the f32 model, agreement, noise of its weights, memory.

mod memory;
mod sqnr;

pub use memory::{MemoryReport, TensorKind, TensorMemory, activation_bytes};
pub use sqnr::{Sqnr, sqnr_of, sqnr_of_file, sqnr_of_linears};

use serde::Serialize;

use crate::error::Result;
use crate::graph::{Batch, Token};
use crate::model::text::Window;
use crate::run::Runner;

/// Means over the predicted tokens of a text.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Cross-entropy, nats per token.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Mean KL(f32 model || this model), nats per token; `None` without a baseline.
    pub kl: Option<f64>,
    /// Share of tokens whose most probable prediction is the f32 model's; `None` without a baseline.
    pub top1_agreement: Option<f64>,
    /// Cross-entropy of the f32 model on the same tokens; `None` without a baseline.
    pub baseline_loss: Option<f64>,
    /// Share of tokens whose most probable prediction is the text's next token.
    pub accuracy: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// Windows they stand in.
    pub windows: usize,
}

/// How windows are batched.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Windows that run together; the runner has as many KV-cache slots.
    pub sequences: usize,
    /// Most tokens per step; a window longer than it runs in several steps over its KV cache.
    pub tokens: usize,
}

impl Batching {
    /// For windows of up to `context` tokens and logits of `vocabulary` columns that must fit `max_bytes`.
    pub fn new(context: usize, vocabulary: usize, max_bytes: u64) -> Self {
        let rows = (max_bytes / (vocabulary.next_multiple_of(32) as u64 * 4)).clamp(1, 1024) as usize;
        Self { sequences: (rows / context.max(1)).clamp(1, 8), tokens: rows }
    }
}

/// Runs `windows` through `runner`, and through `baseline` for the divergence. `progress` is told the number of
/// tokens done after each step.
///
/// # Errors
/// When a window does not fit or the executor fails.
pub fn evaluate(
    runner: &mut Runner<'_>,
    baseline: Option<&mut Runner<'_>>,
    windows: &[Window],
    batching: Batching,
    progress: &mut dyn FnMut(usize),
) -> Result<EvalReport> {
    let mut reports = evaluate_all(std::slice::from_mut(runner), baseline, windows, batching, progress)?;
    Ok(reports.remove(0))
}

/// Sums over the tokens of one runner.
#[derive(Clone, Default)]
struct Sums {
    loss: f64,
    kl: f64,
    correct: usize,
    agreeing: usize,
}

/// [`evaluate`] for several runners side by side, so that the baseline runs once for all of them.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_all(
    runners: &mut [Runner<'_>],
    mut baseline: Option<&mut Runner<'_>>,
    windows: &[Window],
    batching: Batching,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<EvalReport>> {
    let mut sums = vec![Sums::default(); runners.len()];
    let (mut baseline_loss, mut tokens) = (0.0, 0);
    for group in windows.chunks(batching.sequences.max(1)) {
        for (batch, targets) in batches(group, batching.tokens) {
            if let Some(other) = baseline.as_deref_mut() {
                other.step(&batch)?;
                baseline_loss += sum(&other.losses(None, &targets)?.cross_entropy);
            }
            for (runner, sums) in runners.iter_mut().zip(&mut sums) {
                runner.step(&batch)?;
                let report = runner.losses(baseline.as_deref(), &targets)?;
                let agreeing = report.argmax.iter().zip(&report.baseline_argmax).filter(|(a, b)| a == b);
                sums.loss += sum(&report.cross_entropy);
                sums.kl += sum(&report.kl);
                sums.correct += report.argmax.iter().zip(&targets).filter(|(a, b)| a == b).count();
                sums.agreeing += agreeing.count();
            }
            tokens += targets.len();
            progress(tokens);
        }
    }
    let n = tokens.max(1) as f64;
    let compared = baseline.is_some();
    let report = |sums: Sums| EvalReport {
        loss: sums.loss / n,
        perplexity: (sums.loss / n).exp(),
        kl: compared.then_some(sums.kl / n),
        top1_agreement: compared.then_some(sums.agreeing as f64 / n),
        baseline_loss: compared.then_some(baseline_loss / n),
        accuracy: sums.correct as f64 / n,
        tokens,
        windows: windows.len(),
    };
    Ok(sums.into_iter().map(report).collect())
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}

/// Batches of at most `limit` tokens, each with its targets: all windows of the group together where they fit, else one
/// after another in pieces, which share KV caches.
pub fn batches(group: &[Window], limit: usize) -> Vec<(Batch, Vec<u32>)> {
    let limit = limit.max(1);
    let total: usize = group.iter().map(|w| w.inputs.len()).sum();
    let mut result = Vec::new();
    let mut current = (Batch::default(), Vec::new());
    for (sequence, window) in group.iter().enumerate() {
        for (position, (&id, &target)) in window.inputs.iter().zip(&window.targets).enumerate() {
            if total > limit && current.1.len() == limit {
                result.push(std::mem::take(&mut current));
            }
            current.0.outputs.push(current.1.len() as u32);
            current.0.tokens.push(Token::new(id, sequence as u32, position as u32));
            current.1.push(target);
        }
        if total > limit {
            result.push(std::mem::take(&mut current));
        }
    }
    result.push(current);
    result.retain(|(batch, _)| !batch.tokens.is_empty());
    result
}
