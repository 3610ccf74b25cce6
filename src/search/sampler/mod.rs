//! Samplers: which points a search tries next.
//!
//! A sampler is a pure function of the problem (its seed included) and of the trials before: it keeps no state, so a
//! study that was killed goes on with the proposals it would have had. All randomness of trial `n` comes from
//! ChaCha8 keyed by the seed, stream `n`. No proposal is over [`Problem::max_bytes`], and none repeats a trial or
//! another proposal of its batch while there are points left to try.

use super::{Point, Problem, Trial};
use crate::error::Result;

mod auto;
mod grid;
pub mod knapsack;
#[cfg(test)]
mod mock;
mod nsga2;
pub mod pareto;
mod random;
mod sensitivity;
mod space;
mod spec;
#[cfg(test)]
mod tests;
pub mod tpe;

pub use auto::Auto;
pub use grid::Grid;
pub use nsga2::Nsga2;
pub use random::Random;
pub use sensitivity::Sensitivity;
pub use spec::{NAMES, SamplerSpec};
pub use tpe::Tpe;

/// A point to try, and what proposed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The assignment.
    pub point: Point,
    /// The rule it comes from, e.g. `uniform`, `tpe`, `knapsack`.
    pub origin: &'static str,
}

/// A rule that proposes points.
pub trait Sampler: Send + Sync {
    /// Points for the trials `first..first + count`. `history` holds every trial with a smaller number, in order of
    /// number and in whatever state; trials that do not belong to the space are ignored. The same arguments give the
    /// same proposals. Fewer than `count` mean that there is nothing left to try.
    ///
    /// # Errors
    /// When the problem contradicts itself, or not even its smallest point is within the budget.
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>>;
}
