//! NSGA-II.

use super::space::{Rng, Space};
use super::{Proposal, Sampler, pareto};
use crate::error::{Result, invalid};
use crate::search::{Point, Problem, Trial};

/// The genetic algorithm of Deb et al. 2002 with uniform crossover and mutation of one dimension in the mean.
///
/// Generation `k` is the trials `k * population..(k + 1) * population`. Its parents survive from the trials before
/// those: of the parents of the generation before and its children the best, by rank, then by crowding. So it does
/// not matter in which order the trials of a generation end. Parents are picked by binary tournament; a child over the
/// budget is made smaller at random. Works with one objective too: there the ranks are the order of the values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nsga2 {
    population: Option<usize>,
}

impl Nsga2 {
    /// A sampler with generations of `population`; `None`: 50, or a tenth of the trials where that is less, but at
    /// least 10.
    ///
    /// # Errors
    /// When the population is smaller than 2.
    pub fn new(population: Option<usize>) -> Result<Self> {
        if let Some(size @ 0..2) = population {
            invalid!("nsga2 has a population of {size}; want at least 2 (50 is usual)");
        }
        Ok(Self { population })
    }
}

/// Trials that may become parents, with their rank and crowding.
pub(super) struct Parents<'a> {
    trials: Vec<&'a Trial>,
    ranks: Vec<usize>,
    crowding: Vec<f64>,
}

impl<'a> Parents<'a> {
    /// The best `size` of `trials`.
    pub(super) fn survivors(trials: Vec<&'a Trial>, size: usize) -> Self {
        let values: Vec<Vec<f64>> = trials.iter().map(|trial| trial.values.clone()).collect();
        let ranks = pareto::ranks(&values);
        let mut crowding = vec![0.0; trials.len()];
        for rank in 0..=ranks.iter().max().copied().unwrap_or(0) {
            let members: Vec<usize> = (0..trials.len()).filter(|&i| ranks[i] == rank).collect();
            let points: Vec<Vec<f64>> = members.iter().map(|&i| values[i].clone()).collect();
            members.iter().zip(pareto::crowding(&points)).for_each(|(&i, distance)| crowding[i] = distance);
        }
        let mut order: Vec<usize> = (0..trials.len()).collect();
        order.sort_by(|&a, &b| ranks[a].cmp(&ranks[b]).then(crowding[b].total_cmp(&crowding[a])));
        order.truncate(size);
        Self {
            trials: order.iter().map(|&i| trials[i]).collect(),
            ranks: order.iter().map(|&i| ranks[i]).collect(),
            crowding: order.iter().map(|&i| crowding[i]).collect(),
        }
    }

    /// Whether there are two to cross.
    pub(super) fn is_pair(&self) -> bool {
        self.trials.len() >= 2
    }

    /// The better of two random parents.
    pub(super) fn tournament(&self, rng: &mut Rng) -> &'a Trial {
        let (a, b) = (rng.below(self.trials.len()), rng.below(self.trials.len()));
        let second_wins = self.ranks[b] < self.ranks[a]
            || self.ranks[b] == self.ranks[a] && self.crowding[b] > self.crowding[a];
        self.trials[if second_wins { b } else { a }]
    }

    /// A child of two parents that fits the budget.
    pub(super) fn child(&self, space: &Space, rng: &mut Rng) -> Point {
        let (a, b) = (self.tournament(rng), self.tournament(rng));
        let dimensions = space.dimensions();
        let gene = |d: usize| match (rng.below(dimensions), rng.unit() < 0.5) {
            (0, _) => rng.below(space.choices(d)),
            (_, true) => a.point[d],
            (_, false) => b.point[d],
        };
        let mut child = (0..dimensions).map(gene).collect();
        space.repair(rng, &mut child);
        child
    }
}

impl Sampler for Nsga2 {
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let size = self.population.unwrap_or((problem.trials / 10).clamp(10, 50));
        let is_parent = |trial: &&Trial| space.is_measured(trial) && problem.fits(&trial.point);
        let measured: Vec<&Trial> = history.iter().filter(is_parent).collect();
        // Survivors of all generations before `generation`.
        let (mut generation, mut parents) = (0, Parents::survivors(Vec::new(), size));
        let mut proposals = Vec::new();
        for number in first..first.saturating_add(count) {
            while generation < number / size {
                let children = measured.iter().filter(|trial| trial.number / size == generation);
                let both = parents.trials.iter().chain(children).copied().collect();
                parents = Parents::survivors(both, size);
                generation += 1;
            }
            let mut rng = Rng::new(problem.seed, number);
            let (point, origin) = if parents.is_pair() {
                let child = parents.child(&space, &mut rng);
                let child = if space.take(&child) { Some(child) } else { space.take_near(&mut rng, &child) };
                (child, "nsga2")
            } else {
                (space.take_any(&mut rng), "random")
            };
            let Some(point) = point else { break };
            proposals.push(Proposal { point, origin });
        }
        Ok(proposals)
    }
}
