//! The default sampler.

mod linear;
mod model;
mod pool;
mod target;

use super::sensitivity::Sweep;
use super::space::{Rng, Space};
use super::{Proposal, Sampler};
use crate::error::Result;
use crate::search::{Problem, Trial};
use pool::Pool;
use target::Outlook;

/// One trial in so many tells how sensitive dimensions are.
const SWEEP_SHARE: usize = 3;

/// Measures baselines, then how sensitive each dimension is, then what a model of these says is best, and refits the
/// model after each batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl Sampler for Auto {
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let mut proposals = Vec::new();
        let uniform =
            problem.uniform.iter().filter(|point| space.holds(point)).map(|point| ("uniform", point.clone()));
        let sweep = Sweep::new(problem, problem.trials / SWEEP_SHARE)?;
        let plan: Vec<_> =
            uniform.chain(sweep.points.iter().map(|point| ("sensitivity", point.clone()))).collect();
        for (origin, point) in plan {
            if proposals.len() < count && space.take(&point) {
                proposals.push(Proposal { point, origin });
            }
        }
        if proposals.len() == count {
            return Ok(proposals);
        }
        let mut outlook = Outlook::new(&space, history);
        while proposals.len() < count {
            let mut rng = Rng::new(problem.seed, first + proposals.len());
            if let Some(o) = &mut outlook {
                o.turn((first + proposals.len()).is_multiple_of(2));
            }
            let best = match &mut outlook {
                Some(outlook) => Pool::new(&space, outlook, &mut rng)?.best(outlook),
                None => None,
            };
            let proposal = match best {
                Some((point, origin)) if space.take(&point) => Some(Proposal { point, origin }),
                _ => space.take_any(&mut rng).map(|point| Proposal { point, origin: "random" }),
            };
            let Some(proposal) = proposal else { break };
            if let Some(outlook) = &mut outlook {
                outlook.believe(&proposal.point);
            }
            proposals.push(proposal);
        }
        Ok(proposals)
    }
}
