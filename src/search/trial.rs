//! Trials: a point of the space and what was measured of it.

use serde::{Deserialize, Serialize};

/// A choice per dimension of the space: indices into the candidates of each.
pub type Point = Vec<usize>;

/// What was measured of one point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Cross-entropy, nats per prediction.
    pub loss: f64,
    /// KL(f32 model || this assignment), nats per prediction.
    pub kl: f64,
    /// Share of predictions whose most probable outcome is the f32 model's.
    pub agreement: f64,
    /// Share of predictions whose most probable outcome is the target: the text's next token, the label.
    pub accuracy: f64,
    /// Packed bytes of all weights of the model.
    pub bytes: u64,
    /// Bytes by nominal widths: weights at the width of their format, everything else at 32 bits.
    pub nominal_bytes: u64,
    /// Stored bits per weight of the block linears.
    pub bits_per_weight: f64,
    /// Seconds of one forward pass, summed over separately timed layers; `None` where latency is not measured.
    pub latency: Option<f64>,
}

/// Where a trial stands; numbers and meaning are Optuna's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialState {
    /// Being evaluated, or left behind by a process that died.
    Running = 0,
    /// Measured.
    Complete = 1,
    /// Given up early; never made here, but other programs make them.
    Pruned = 2,
    /// Its loss was not a number, or the device refused it.
    Failed = 3,
    /// Queued by another program, not begun.
    Waiting = 4,
}

/// One trial of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Position in the study, from 0.
    pub number: usize,
    /// The assignment that was tried.
    pub point: Point,
    /// Where it stands.
    pub state: TrialState,
    /// Objective values, all minimised; empty unless complete.
    pub values: Vec<f64>,
    /// What was measured; `None` unless complete.
    pub measurement: Option<Measurement>,
    /// What proposed it, e.g. `uniform`, `sensitivity`, `tpe`.
    pub origin: String,
}
