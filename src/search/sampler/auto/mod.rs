//! The default sampler.

mod linear;
mod model;
mod outlook;
mod pool;
mod prior;
mod sums;
#[cfg(test)]
mod tests;

use super::sensitivity::Sweep;
use super::space::{Rng, Space};
use super::{Proposal, Sampler};
use crate::error::Result;
use crate::search::{Problem, Trial};
use outlook::Outlook;
use pool::Pool;

/// Share of the trials that a sweep may have.
const SWEEP: usize = 4;

/// Measures baselines, learns what each candidate does to the quality, and solves for the best points.
///
/// 1. The uniform assignments that fit.
/// 2. A sweep as that of [`Sensitivity`](super::Sensitivity), of as many dimensions, the biggest first, as a quarter of
///    the trials allows; every candidate where there is room.
/// 3. Then, for each trial, candidates from all sides: exact knapsack solutions for the likeliest harms and for harms
///    drawn from their posterior (a Gaussian process over sums of positive harms), at the budget, or for a front at
///    budgets within its widest gaps; good points with one or two dimensions changed; children of good points as
///    NSGA-II has them. The one with the greatest expected improvement is measured, of the value or, on a front, of
///    the hypervolume, in turns by the harm and by its logarithm. Within a batch the predictions for the points
///    before are taken for measured.
///
/// A model proposes but never decides: what counts is what was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl Sampler for Auto {
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let mut proposals = Vec::new();
        let sweep = Sweep::new(problem, problem.trials / SWEEP)?;
        let uniform =
            problem.uniform.iter().filter(|point| space.holds(point)).map(|point| (point, "uniform"));
        let plan: Vec<_> = uniform.chain(sweep.points.iter().map(|point| (point, "sensitivity"))).collect();
        for (point, origin) in plan {
            if proposals.len() < count && space.take(point) {
                proposals.push(Proposal { point: point.clone(), origin });
            }
        }
        if proposals.len() == count {
            return Ok(proposals);
        }
        let mut outlook = Outlook::new(&space, history);
        if let Some(outlook) = &mut outlook {
            proposals.iter().for_each(|proposal| outlook.believe(&proposal.point));
        }
        while proposals.len() < count {
            let number = first.saturating_add(proposals.len());
            let mut rng = Rng::new(problem.seed, number);
            let best = match &mut outlook {
                Some(outlook) => {
                    outlook.count_volumes(number % 2 == 1);
                    Pool::new(&space, outlook, &mut rng)?.best(outlook)
                }
                None => None,
            };
            let (point, origin) = match best {
                Some((point, origin)) if space.take(&point) => (point, origin),
                _ => match space.take_any(&mut rng) {
                    Some(point) => (point, "random"),
                    None => break,
                },
            };
            if let Some(outlook) = &mut outlook {
                outlook.believe(&point);
            }
            proposals.push(Proposal { point, origin });
        }
        Ok(proposals)
    }
}
