//! What a sampler knows of a space before anything is measured.

use super::{Objective, Point};

/// The space as numbers: how many candidates each dimension has, what they cost, and where to begin.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Packed bytes, `[dimension][candidate]`; at least one candidate each. Bytes add up exactly.
    pub bytes: Vec<Vec<u64>>,
    /// Squared error of the weights over their squared sum, `[dimension][candidate]`: a first guess of the harm
    /// a candidate does.
    pub noise: Vec<Vec<f64>>,
    /// Bytes of everything that is not searched.
    pub fixed_bytes: u64,
    /// Most bytes of the whole model.
    pub max_bytes: Option<u64>,
    /// What is minimised.
    pub objective: Objective,
    /// The same candidate in all dimensions that have it: the baselines of every search.
    pub uniform: Vec<Point>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Trials the whole study is meant to have.
    pub trials: usize,
}

impl Problem {
    /// Candidates of each dimension.
    pub fn choices(&self) -> Vec<usize> {
        self.bytes.iter().map(Vec::len).collect()
    }

    /// Packed bytes of the model at `point`.
    pub fn bytes_of(&self, point: &[usize]) -> u64 {
        let searched = self.bytes.iter().zip(point).map(|(bytes, &choice)| bytes[choice]);
        self.fixed_bytes + searched.sum::<u64>()
    }

    /// Whether `point` is within the budget.
    pub fn fits(&self, point: &[usize]) -> bool {
        self.max_bytes.is_none_or(|most| self.bytes_of(point) <= most)
    }

    /// The fewest bytes any point has.
    pub fn least_bytes(&self) -> u64 {
        let least = self.bytes.iter().map(|bytes| bytes.iter().min().copied().unwrap_or(0));
        self.fixed_bytes + least.sum::<u64>()
    }
}
