//! Search for the best mix of formats: a space of assignments, samplers that propose points of it, an evaluator that
//! measures them over resident weights, and a journal that survives anything.

mod evaluator;
mod objective;
mod packing;
mod problem;
pub mod report;
mod space;
mod trial;

pub use evaluator::{
    Costs, DeviceEvaluator, DeviceOptions, Evaluator, LatencyTable, Outcome, ReferenceEvaluator, Usage,
    baseline,
};
pub use objective::{Metric, Objective, Quality, Size};
pub use packing::{Packer, Variant, VariantFacts};
pub use problem::Problem;
pub use space::{Dimension, FAMILIES, Space, SpaceText};
pub use trial::{Measurement, Point, Trial, TrialState};
