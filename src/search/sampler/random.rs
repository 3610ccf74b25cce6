//! Random search.

use super::space::{Rng, Space};
use super::{Proposal, Sampler};
use crate::error::Result;
use crate::search::{Problem, Trial};

/// Uniform over the candidates of every dimension; a point over the budget is made smaller at random.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Sampler for Random {
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let points = (first..first.saturating_add(count))
            .map_while(|number| space.take_any(&mut Rng::new(problem.seed, number)));
        Ok(points.map(|point| Proposal { point, origin: "random" }).collect())
    }
}
