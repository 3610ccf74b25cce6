//! Running a model on either executor: the device, or the CPU reference where that was asked for.

mod batching;
mod generation;

use std::sync::Arc;

pub use batching::{Batching, batches, longest, mean_row, normalize, outputs, softmax};
pub use generation::{Generated, GenerationOptions, GenerationReport, Next, Overflow, StopReason, generate};

use crate::engine::{LossReport, Losses, Resident, Session, SessionOptions};
use crate::error::{Result, invalid};
use crate::graph::{Assignment, Batch, Graph, Weights};
use crate::reference::{self, Executor};

/// A model under one assignment, on one executor. Steps leave logits behind, which the other methods read.
pub enum Runner<'a> {
    /// On the device.
    Gpu {
        /// The session.
        session: Box<Session>,
        /// Reductions of its logits.
        losses: Losses,
    },
    /// On the CPU reference.
    Reference {
        /// The executor.
        executor: Box<Executor<'a>>,
        /// Logits of the last step.
        logits: Vec<f32>,
        /// Columns of the logits.
        vocabulary: usize,
    },
}

impl<'a> Runner<'a> {
    /// On the device of `resident`.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn gpu(
        resident: &mut Resident,
        graph: Arc<Graph>,
        weights: &dyn Weights,
        assignment: &Assignment,
        options: SessionOptions,
    ) -> Result<Self> {
        let losses = Losses::new(resident.gpu().clone());
        let session = Box::new(Session::new(resident, graph, weights, assignment.clone(), options)?);
        Ok(Self::Gpu { session, losses })
    }

    /// On the CPU.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn reference(
        graph: &'a Graph,
        weights: &dyn Weights,
        assignment: &Assignment,
        sequences: usize,
    ) -> Result<Self> {
        let executor = Box::new(Executor::new(graph, weights, assignment, sequences)?);
        Ok(Self::Reference { executor, logits: Vec::new(), vocabulary: graph.output_width() })
    }

    /// Gets ready for batches of `tokens` rows and `outputs` logits, see [`Session::prepare`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn prepare(&mut self, tokens: usize, outputs: usize) -> Result<()> {
        match self {
            Self::Gpu { session, .. } => session.prepare(tokens, outputs),
            Self::Reference { .. } => Ok(()),
        }
    }

    /// Runs one batch.
    ///
    /// # Errors
    /// When the batch does not fit or the device fails.
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        match self {
            Self::Gpu { session, .. } => session.step(batch),
            Self::Reference { executor, logits, .. } => {
                *logits = executor.run(batch)?;
                Ok(())
            }
        }
    }

    /// Logits of the last step, `[outputs, vocabulary]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(&self) -> Result<Vec<f32>> {
        match self {
            Self::Gpu { session, .. } => session.logits(),
            Self::Reference { logits, .. } => Ok(logits.clone()),
        }
    }

    /// Most probable token of every output row of the last step, the lowest id on ties.
    ///
    /// # Errors
    /// When the device fails.
    pub fn argmax(&self) -> Result<Vec<u32>> {
        match self {
            Self::Gpu { session, losses } => losses.argmax(session),
            Self::Reference { logits, vocabulary, .. } => Ok(argmax_rows(logits, *vocabulary)),
        }
    }

    /// Cross-entropy of the last step against `targets`, and KL divergence and choices against the last step of
    /// `baseline`, reduced where the logits are.
    ///
    /// # Errors
    /// When shapes differ, the two run on different executors, or the device fails.
    pub fn losses(&self, baseline: Option<&Runner<'_>>, targets: &[u32]) -> Result<LossReport> {
        match (self, baseline) {
            (Self::Gpu { session, losses }, None) => losses.reduce(session, None, targets),
            (Self::Gpu { session, losses }, Some(Runner::Gpu { session: other, .. })) => {
                losses.reduce(session, Some(other), targets)
            }
            (Self::Reference { logits, vocabulary, .. }, None) => Ok(LossReport {
                cross_entropy: reference::cross_entropy(logits, *vocabulary, targets),
                argmax: argmax_rows(logits, *vocabulary),
                ..LossReport::default()
            }),
            (Self::Reference { logits, vocabulary, .. }, Some(Runner::Reference { logits: other, .. })) => {
                Ok(LossReport {
                    cross_entropy: reference::cross_entropy(logits, *vocabulary, targets),
                    argmax: argmax_rows(logits, *vocabulary),
                    kl: reference::kl_divergence(other, logits, *vocabulary),
                    baseline_argmax: argmax_rows(other, *vocabulary),
                })
            }
            _ => invalid!("the model and its baseline run on different executors; run both on one"),
        }
    }
}

fn argmax_rows(logits: &[f32], vocabulary: usize) -> Vec<u32> {
    logits.chunks(vocabulary).map(|row| reference::argmax(row) as u32).collect()
}
