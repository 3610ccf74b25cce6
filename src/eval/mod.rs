//! Measures of a model: loss, perplexity, accuracy, divergence from the f32 model, agreement, noise of its weights, memory.

mod memory;
mod sqnr;

pub use memory::{MemoryReport, TensorKind, TensorMemory, activation_bytes};
pub use sqnr::{Sqnr, sqnr_of, sqnr_of_file, sqnr_of_linears};

use serde::Serialize;

use crate::error::Result;
use crate::model::Example;
use crate::run::Runner;

pub use crate::run::{Batching, batches, longest};

/// Means over what is predicted: the tokens of a text, or the classes of labelled examples.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Cross-entropy, nats per prediction.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Mean KL(f32 model || this model), nats per prediction; `None` without a baseline.
    pub kl: Option<f64>,
    /// Share of predictions whose most probable outcome is the f32 model's; `None` without a baseline.
    pub top1_agreement: Option<f64>,
    /// Cross-entropy of the f32 model on the same examples; `None` without a baseline.
    pub baseline_loss: Option<f64>,
    /// Share of predictions whose most probable outcome is the target.
    pub accuracy: f64,
    /// Predicted tokens or classes.
    pub predictions: usize,
    /// Windows of text or labelled texts they stand in.
    pub examples: usize,
}

/// Runs `examples` through `runner`, and through `baseline` for the divergence. `progress` is told the number of
/// predictions done after each step.
///
/// # Errors
/// When an example does not fit or the executor fails.
pub fn evaluate(
    runner: &mut Runner<'_>,
    baseline: Option<&mut Runner<'_>>,
    examples: &[Example],
    batching: Batching,
    progress: &mut dyn FnMut(usize),
) -> Result<EvalReport> {
    let mut reports = evaluate_all(std::slice::from_mut(runner), baseline, examples, batching, progress)?;
    Ok(reports.remove(0))
}

/// Sums over the predictions of one runner.
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
    examples: &[Example],
    batching: Batching,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<EvalReport>> {
    let mut sums = vec![Sums::default(); runners.len()];
    let (mut baseline_loss, mut predictions) = (0.0, 0);
    for group in examples.chunks(batching.sequences.max(1)) {
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
            predictions += targets.len();
            progress(predictions);
        }
    }
    let n = predictions.max(1) as f64;
    let compared = baseline.is_some();
    let report = |sums: Sums| EvalReport {
        loss: sums.loss / n,
        perplexity: (sums.loss / n).exp(),
        kl: compared.then_some(sums.kl / n),
        top1_agreement: compared.then_some(sums.agreeing as f64 / n),
        baseline_loss: compared.then_some(baseline_loss / n),
        accuracy: sums.correct as f64 / n,
        predictions,
        examples: examples.len(),
    };
    Ok(sums.into_iter().map(report).collect())
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}
