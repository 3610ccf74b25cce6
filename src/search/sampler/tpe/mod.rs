//! The tree-structured Parzen estimator (Bergstra et al. 2011) for categorical dimensions.

mod parzen;
mod split;
#[cfg(test)]
mod tests;

use parzen::{Parzen, ramp};
use split::{Classes, Split, contributions};

use super::space::{Rng, Space};
use super::{Proposal, Sampler};
use crate::error::{Result, invalid};
use crate::search::{Point, Problem, Trial};

/// How many of `n` finished trials are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gamma {
    /// A tenth, rounded up; with one objective at most 25.
    Optuna,
    /// A quarter of the square root, rounded up, at most 25.
    Hyperopt,
}

/// Draws until one fits, and points to choose from where each dimension is for itself.
const ATTEMPTS: usize = 8;

/// Options of [`Tpe`]; the defaults are Optuna's, but for `hypervolume`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TpeOptions {
    /// Dimensions drawn together from one kernel, or each for itself; `None`: together where there is one objective.
    pub multivariate: Option<bool>,
    /// Random trials at the beginning: Optuna has 10, hyperopt 20.
    pub startup: usize,
    /// How many trials are good.
    pub gamma: Gamma,
    /// Draws from the good ones, of which the best is proposed.
    pub candidates: usize,
    /// Weight of the uniform kernel, in observations.
    pub prior: f64,
    /// With several objectives: good trials weigh what they add to the hypervolume (Ozaki et al. 2022; Optuna up to
    /// version 4), else the same (Optuna from version 5).
    pub hypervolume: bool,
}

impl Default for TpeOptions {
    fn default() -> Self {
        Self {
            multivariate: None,
            startup: 10,
            gamma: Gamma::Optuna,
            candidates: 24,
            prior: 1.0,
            hypervolume: true,
        }
    }
}

/// Draws from the estimate `l` of the good trials, proposes the draw with the most `l / g`, `g` the estimate of the
/// others; with several objectives good is what is nondominated (Ozaki et al. 2022). Trials that run count as bad
/// (constant liar), those over the budget and failed ones as worse than all measured ones.
///
/// A draw over the budget is drawn again, up to 8 times, then made smaller where that costs least `log l - log g` per
/// byte. A point that was tried gives way to the next best draw, and when there is none, to a neighbour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tpe(TpeOptions);

impl Tpe {
    /// A sampler with these options.
    ///
    /// # Errors
    /// When there are no candidates, or the prior's weight is not a positive number.
    pub fn new(options: TpeOptions) -> Result<Self> {
        if options.candidates == 0 {
            invalid!("tpe draws 0 candidates; want at least 1 (24 is usual)");
        }
        if !(options.prior > 0.0 && options.prior.is_finite()) {
            invalid!("tpe has a prior weight of {}; want a positive number (1 is usual)", options.prior);
        }
        Ok(Self(options))
    }
}

impl Sampler for Tpe {
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let classes = Classes::new(&space, history);
        let finished = classes.finished();
        let mut proposals = Vec::new();
        if finished < self.0.startup {
            for number in first..first.saturating_add(count) {
                let Some(point) = space.take_any(&mut Rng::new(problem.seed, number)) else { break };
                proposals.push(Proposal { point, origin: "random" });
            }
            return Ok(proposals);
        }
        let choices = problem.choices();
        let Split { below, above } = classes.split(self.0.good(finished, problem.objective.count()));
        let weights = self.0.weights(&space, &below);
        let points = below.iter().map(|trial| trial.point.as_slice()).collect();
        let good = Parzen::new(&choices, points, weights, self.0.prior);
        let mut batch: Vec<Point> = Vec::new();
        for number in first..first.saturating_add(count) {
            let points = above.iter().map(|trial| trial.point.as_slice());
            // From now on the trials of this batch run.
            let points: Vec<&[usize]> = points.chain(batch.iter().map(Vec::as_slice)).collect();
            let weights = ramp(points.len());
            let bad = Parzen::new(&choices, points, weights, self.0.prior);
            let estimates = Estimates::new(choices.len(), &good, &bad);
            let mut rng = Rng::new(problem.seed, number);
            let draws = if self.0.multivariate.unwrap_or(problem.objective.count() == 1) {
                estimates.joint(&space, self.0.candidates, &mut rng)
            } else {
                estimates.single(&space, self.0.candidates, &mut rng)
            };
            let taken = draws.iter().position(|point| space.take(point));
            let point = match taken {
                Some(at) => Some(draws[at].clone()),
                None => space.take_near(&mut rng, &draws[0]),
            };
            let Some(point) = point else { break };
            batch.push(point);
        }
        proposals.extend(batch.into_iter().map(|point| Proposal { point, origin: "tpe" }));
        Ok(proposals)
    }
}

impl TpeOptions {
    /// How many of `n` finished trials are good.
    fn good(&self, n: usize, objectives: usize) -> usize {
        let n = n as f64;
        match self.gamma {
            Gamma::Optuna if objectives > 1 => (0.1 * n).ceil() as usize,
            Gamma::Optuna => ((0.1 * n).ceil() as usize).min(25),
            Gamma::Hyperopt => ((0.25 * n.sqrt()).ceil() as usize).min(25),
        }
    }

    /// Weights of the good trials.
    fn weights(&self, space: &Space, below: &[&Trial]) -> Vec<f64> {
        if space.problem.objective.count() == 1 {
            return ramp(below.len());
        }
        if !self.hypervolume {
            return vec![1.0; below.len()];
        }
        let counts = |trial: &Trial| space.is_measured(trial) && space.problem.fits(&trial.point);
        let values: Vec<Vec<f64>> = below.iter().filter(|t| counts(t)).map(|t| t.values.clone()).collect();
        let mut weights = contributions(&values).into_iter();
        below.iter().map(|t| if counts(t) { weights.next().unwrap_or(1.0) } else { 1e-12 }).collect()
    }
}

/// Both estimates, and what follows from them for single dimensions.
struct Estimates<'a> {
    good: &'a Parzen<'a>,
    bad: &'a Parzen<'a>,
    /// Probabilities among the good, `[dimension][candidate]`.
    likely: Vec<Vec<f64>>,
    /// `log l - log g`, `[dimension][candidate]`.
    gains: Vec<Vec<f64>>,
}

impl<'a> Estimates<'a> {
    fn new(dimensions: usize, good: &'a Parzen<'a>, bad: &'a Parzen<'a>) -> Self {
        let likely: Vec<Vec<f64>> = (0..dimensions).map(|d| good.marginal(d)).collect();
        let gains = likely.iter().enumerate().map(|(d, l)| {
            let g = bad.marginal(d);
            l.iter().zip(&g).map(|(l, g)| l.ln() - g.ln()).collect()
        });
        Self { good, bad, gains: gains.collect(), likely }
    }

    /// Draws of whole points, best first.
    fn joint(&self, space: &Space, candidates: usize, rng: &mut Rng) -> Vec<Point> {
        let draws = (0..candidates).map(|_| self.fitting(space, rng, |rng| self.good.draw(rng)));
        let draws: Vec<Point> = draws.collect();
        let (l, g) = (self.good.log_probabilities(&draws), self.bad.log_probabilities(&draws));
        let gains: Vec<f64> = l.iter().zip(&g).map(|(l, g)| l - g).collect();
        let mut order: Vec<usize> = (0..draws.len()).collect();
        order.sort_by(|&a, &b| gains[b].total_cmp(&gains[a]));
        order.into_iter().map(|i| draws[i].clone()).collect()
    }

    /// Points of which every dimension is the best of its own draws.
    fn single(&self, space: &Space, candidates: usize, rng: &mut Rng) -> Vec<Point> {
        let best = |rng: &mut Rng| -> Point {
            let of = |(likely, gains): (&Vec<f64>, &Vec<f64>)| {
                let draws = (0..candidates).map(|_| rng.weighted(likely));
                draws.reduce(|best, c| if gains[c] > gains[best] { c } else { best }).unwrap_or(0)
            };
            self.likely.iter().zip(&self.gains).map(of).collect()
        };
        (0..ATTEMPTS).map(|_| self.fitting(space, rng, best)).collect()
    }

    /// A draw that fits, or one made to fit.
    fn fitting(&self, space: &Space, rng: &mut Rng, draw: impl Fn(&mut Rng) -> Point) -> Point {
        let mut point = draw(rng);
        for _ in 1..ATTEMPTS {
            if space.problem.fits(&point) {
                break;
            }
            point = draw(rng);
        }
        space.repair_by(&mut point, |d, c| -self.gains[d][c]);
        point
    }
}
