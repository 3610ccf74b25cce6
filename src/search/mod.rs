//! Search for the best mix of formats: a space of assignments, samplers that propose points of it, an evaluator that
//! measures them over resident weights, and a journal that survives anything.

mod costs;
mod evaluator;
pub mod journal;
mod objective;
mod packing;
mod problem;
pub mod report;
pub mod sampler;
mod space;
mod study;
mod trial;

pub use costs::Costs;
pub use evaluator::{
    DeviceEvaluator, DeviceOptions, Evaluator, Outcome, ReferenceEvaluator, Usage, baseline,
};
pub use objective::{Metric, Objective, Quality, Size};
pub use packing::{Packer, Variant, VariantFacts};
pub use problem::Problem;
pub use space::{Dimension, FAMILIES, Space, SpaceText, split_list};
pub use study::{RunOptions, RunTimes, SETTINGS, Study, best, complete, front, settings};
pub use trial::{Measurement, Point, Trial, TrialState};

/// Identifies bytes: their hash (BLAKE3) in hexadecimal digits.
pub fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
