//! Search for the best mix of formats: a space of assignments, samplers that propose points of it, an evaluator that
//! measures them over resident weights, and a journal that survives anything.

mod objective;
mod problem;
pub mod sampler;
mod trial;

pub use objective::{Metric, Objective, Quality, Size};
pub use problem::Problem;
pub use trial::{Measurement, Point, Trial, TrialState};
