//! Benchmarks of what runs: kernels, attention, whole models, pipelines; and the comparison of their results.
//!
//! What is timed is what the engine lowers: a [`kernels`] case is a graph of one op in a
//! [`Session`](crate::engine::Session), fused and naive, so which kernel runs is the engine's choice and the row only
//! names it. Outputs are poisoned before and compared with f64 sums after; what fails has no time. Matrices rotate
//! through copies that exceed the last-level cache, the two plans take turns so that both see the same drift of the
//! machine, and rates stand beside [`Ceilings`] measured on the same device in the same run.

pub mod attention;
mod ceilings;
mod check;
pub mod compare;
mod data;
mod document;
mod host;
pub mod kernels;
pub mod model;
mod op;
mod rotation;
mod sampling;
pub mod startup;
mod stats;
mod subject;
pub mod tune;

pub use ceilings::Ceilings;
pub use check::Verdict;
pub use document::{Document, VERSION};
pub use host::{cache_bytes, peak_host_bytes, reset_host_peak};
pub use kernels::Rates;
pub use op::{Op, Shape};
pub use rotation::Side;
pub use sampling::Sampling;
pub use stats::{Measurement, Summary, Unit};
