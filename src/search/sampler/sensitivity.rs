//! How much harm each candidate does, measured one at a time.

use std::collections::HashMap;

use super::space::Space;
use super::{Proposal, Sampler, knapsack};
use crate::error::Result;
use crate::search::{Metric, Objective, Point, Problem, Trial, TrialState};

/// Budgets tried for a front before a search ends.
const MOST_BUDGETS: u32 = 256;

/// Changes one dimension at a time, adds up the harm, and measures what the sums say is best.
///
/// First the base, then points that differ from it in one dimension, the last dimension first, so that trials that
/// follow one another share long prefixes. The base has the least noise in each dimension; where that is over the
/// budget, it is the knapsack solution by noise alone with room for any one dimension to grow. Where the trials do not
/// suffice for every candidate and a tenth of them for what follows, one candidate per dimension is measured and the
/// others are taken to do harm in proportion to their squared error, as a second-order expansion of the loss has it
/// (HAWQ: Dong et al. 2019).
///
/// Then the exact knapsack ([`knapsack::solve`]) over the sums: at the budget, or for a front at budgets that halve the
/// range again and again. These points are measured like any other; the search ends when the sums have no new ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sensitivity;

impl Sampler for Sensitivity {
    fn ask(
        &self,
        problem: &Problem,
        history: &[Trial],
        _first: usize,
        count: usize,
    ) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let sweep = Sweep::new(problem, problem.trials.saturating_sub(1 + problem.trials / 10))?;
        let mut points = Vec::new();
        for point in &sweep.points {
            if points.len() < count && space.take(point) {
                points.push(Proposal { point: point.clone(), origin: "sensitivity" });
            }
        }
        if points.len() == count {
            return Ok(points);
        }
        let costs = costs(problem, &sweep.harms(&space, history));
        for budget in budgets(problem, &costs)? {
            let best = cheapest(problem, &costs, budget)?;
            if let Some(point) = best.filter(|point| points.len() < count && space.take(point)) {
                points.push(Proposal { point, origin: "knapsack" });
            }
        }
        Ok(points)
    }
}

/// The plan of a sweep.
pub(super) struct Sweep {
    base: Point,
    /// The base, then its variations.
    pub(super) points: Vec<Point>,
}

impl Sweep {
    /// With every candidate of every dimension if these are not more than `most`, else with one per dimension, of at
    /// most `most` dimensions with the most bytes.
    pub(super) fn new(problem: &Problem, most: usize) -> Result<Self> {
        let base = base(problem)?;
        let dimensions = (0..base.len()).rev();
        let others: usize = problem.bytes.iter().map(|bytes| bytes.len() - 1).sum();
        let mut probes: Vec<(usize, usize)> = if others <= most {
            dimensions.flat_map(|d| (0..problem.bytes[d].len()).map(move |c| (d, c))).collect()
        } else {
            dimensions.map(|d| (d, telling(&problem.noise[d], base[d]))).collect()
        };
        probes.retain(|&(d, c)| c != base[d]);
        if probes.len() > most {
            let mut sizes: Vec<u64> =
                problem.bytes.iter().map(|b| b.iter().max().copied().unwrap_or(0)).collect();
            let size = sizes.clone();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            probes.retain(|&(d, _)| size[d] >= sizes[most.min(sizes.len() - 1)]);
            probes.truncate(most);
        }
        let probe = |(d, c)| {
            let mut point = base.clone();
            point[d] = c;
            point
        };
        let points = std::iter::once(base.clone()).chain(probes.into_iter().map(probe));
        Ok(Self { points: points.filter(|point| problem.fits(point)).collect(), base })
    }

    /// Harm of each candidate compared with the base's: what was measured; for others the harm measured in their
    /// dimension times the ratio of the differences in noise; where nothing was, the median of such ratios.
    fn harms(&self, space: &Space, history: &[Trial]) -> Vec<Vec<f64>> {
        let problem = space.problem;
        // What failed does infinite harm.
        let value = |t: &Trial| match t.state {
            TrialState::Complete => quality(space, t),
            TrialState::Failed => Some(f64::INFINITY),
            _ => None,
        };
        let measured: HashMap<&[usize], f64> =
            history.iter().filter_map(|t| Some((t.point.as_slice(), value(t)?))).collect();
        let reference = measured.get(self.base.as_slice()).copied().filter(|value| value.is_finite());
        // Per dimension: harm per candidate, and harm per noise.
        let mut known: Vec<Vec<Option<f64>>> =
            problem.bytes.iter().map(|bytes| vec![None; bytes.len()]).collect();
        let mut slopes: Vec<Option<f64>> = vec![None; known.len()];
        for point in self.points.iter().skip(1) {
            let Some(d) = (0..point.len()).find(|&d| point[d] != self.base[d]) else { continue };
            if let (Some(&value), Some(reference)) = (measured.get(point.as_slice()), reference) {
                known[d][point[d]] = Some(value - reference);
                let noise = problem.noise[d][point[d]] - problem.noise[d][self.base[d]];
                let slope = (value - reference) / noise;
                // The greatest difference tells the most.
                slopes[d] = Some(slope).filter(|s| s.is_finite() && *s > 0.0).or(slopes[d]);
            }
        }
        let mut sorted: Vec<f64> = slopes.iter().flatten().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
        let harm = |d: usize, c: usize| {
            let noise = problem.noise[d][c] - problem.noise[d][self.base[d]];
            let noise = if noise.is_nan() { f64::INFINITY } else { noise };
            known[d][c].unwrap_or(slopes[d].unwrap_or(median) * noise)
        };
        (0..known.len())
            .map(|d| (0..known[d].len()).map(|c| if c == self.base[d] { 0.0 } else { harm(d, c) }).collect())
            .collect()
    }
}

/// Where a sweep starts.
fn base(problem: &Problem) -> Result<Point> {
    let quietest = |(noise, bytes): (&Vec<f64>, &Vec<u64>)| {
        let better = |a: usize, b: usize| noise[b].total_cmp(&noise[a]).then(bytes[a].cmp(&bytes[b])).is_gt();
        (0..noise.len()).reduce(|best, c| if better(c, best) { c } else { best }).unwrap_or(0)
    };
    let best: Point = problem.noise.iter().zip(&problem.bytes).map(quietest).collect();
    let Some(most) = problem.max_bytes.filter(|_| !problem.fits(&best)) else { return Ok(best) };
    let finite = |noise: &f64| if noise.is_finite() { *noise } else { f64::MAX / 1e6 };
    let noise: Vec<Vec<f64>> = problem.noise.iter().map(|row| row.iter().map(finite).collect()).collect();
    let mut point = Vec::new();
    // Room for the largest step from the solution to the best candidate of one dimension.
    let mut room = 0;
    for _ in 0..2 {
        let budget = most.saturating_sub(room).max(problem.least_bytes());
        point = cheapest(problem, &noise, Some(budget))?.unwrap_or_default();
        let steps =
            (0..point.len()).map(|d| problem.bytes[d][best[d]].saturating_sub(problem.bytes[d][point[d]]));
        room = steps.max().unwrap_or(0);
    }
    Ok(point)
}

/// The candidate that tells most about a dimension: the middle one of those noisier than the base's, the noisier one
/// of two; where there are none, the nearest.
fn telling(noise: &[f64], base: usize) -> usize {
    let mut others: Vec<usize> = (0..noise.len()).filter(|&c| c != base).collect();
    others.sort_by(|&a, &b| noise[a].total_cmp(&noise[b]));
    let first = others.partition_point(|&c| noise[c] <= noise[base]);
    let noisier = &others[first..];
    noisier.get(noisier.len() / 2).or(others.last()).copied().unwrap_or(base)
}

/// The quality that the objective of `space` is about.
pub(super) fn quality(space: &Space, trial: &Trial) -> Option<f64> {
    let objective = &space.problem.objective;
    let of_values = || {
        let Objective::Metrics(metrics) = objective else { return None };
        let at = metrics.iter().position(|metric| matches!(metric, Metric::Quality(_)))?;
        trial.values.get(at).copied()
    };
    let value = match &trial.measurement {
        _ if !space.is_measured(trial) => None,
        Some(measurement) => Some(objective.quality().value(measurement)),
        None => of_values(),
    };
    value.filter(|value| value.is_finite())
}

/// What the objective makes of harm and size; harm alone for a front, which has its budgets.
fn costs(problem: &Problem, harms: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let cost = |harm: f64, bytes: u64| match &problem.objective {
        _ if harm == f64::INFINITY => harm,
        Objective::Scalar { alpha, .. } => alpha * harm + (1.0 - alpha) * bytes as f64 / f64::from(1 << 20),
        Objective::Metrics(metrics) if metrics.iter().any(|m| matches!(m, Metric::Quality(_))) => harm,
        Objective::Metrics(_) => bytes as f64,
    };
    let row = |(harms, bytes): (&Vec<f64>, &Vec<u64>)| {
        harms.iter().zip(bytes).map(|(&harm, &bytes)| cost(harm, bytes)).collect()
    };
    harms.iter().zip(&problem.bytes).map(row).collect()
}

/// The point of least summed cost within `most` bytes of the whole model.
pub(super) fn cheapest(problem: &Problem, costs: &[Vec<f64>], most: Option<u64>) -> Result<Option<Point>> {
    let budget = most.map(|most| most.saturating_sub(problem.fixed_bytes));
    Ok(knapsack::solve(&problem.bytes, costs, budget)?.map(|selection| selection.point))
}

/// The one budget, or for a front budgets from the most bytes that are of use down to the fewest, in the order of
/// van der Corput.
fn budgets(problem: &Problem, costs: &[Vec<f64>]) -> Result<Vec<Option<u64>>> {
    let is_front = matches!(&problem.objective, Objective::Metrics(metrics) if metrics.len() > 1);
    let Some(best) = cheapest(problem, costs, problem.max_bytes)?.filter(|_| is_front) else {
        return Ok(vec![problem.max_bytes]);
    };
    let (least, most) = (problem.least_bytes(), problem.bytes_of(&best));
    let below = |i: u32| ((most - least) as f64 * f64::from(i.reverse_bits()) / 2f64.powi(32)) as u64;
    Ok((0..MOST_BUDGETS).map(|i| Some(most - below(i))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::mock::{Mock, best, bytes_at, problem, transformer};
    use super::*;

    /// Harm that adds up exactly, the same for each error: the first joint point is the best of all.
    #[test]
    fn additive_harm_is_solved() {
        let mut problem = problem(&[3, 4, 2, 3], "kl", 20);
        problem.max_bytes = Some(100 + 92);
        let noise = problem.noise.clone();
        let harm = move |(d, &c): (usize, &usize)| (d as f64 - 1.6).powi(2) * noise[d][c];
        let mock = Mock::new(move |point| point.iter().enumerate().map(&harm).sum());
        let history = mock.study(&Sensitivity, &problem, 3);
        let all = (0..72).map(|i| vec![i / 24, i / 6 % 4, i / 3 % 2, i % 3]);
        let want = all.filter(|p| problem.fits(p)).map(|p| mock.kl(&p)).fold(f64::INFINITY, f64::min);
        assert!((best(&history) - want).abs() < 1e-12);
        assert_eq!(history.last().unwrap().origin, "knapsack");
        assert_eq!(history.last().unwrap().values[0], best(&history));
    }

    #[test]
    fn neighbours_in_time_share_prefixes() {
        let problem = problem(&[3, 2, 3], "kl,bytes", 100);
        let sweep = Sweep::new(&problem, 10).unwrap();
        let want = [[2, 1, 2], [2, 1, 0], [2, 1, 1], [2, 0, 2], [0, 1, 2], [1, 1, 2]];
        assert_eq!(sweep.points, want.map(|point| point.to_vec()));
        // The noisier of the two in the middle, and dimensions with the most bytes.
        assert_eq!(Sweep::new(&problem, 3).unwrap().points, [0, 1, 3, 4].map(|i| want[i].to_vec()));
        assert_eq!(Sweep::new(&problem, 2).unwrap().points.len(), 3);
    }

    /// Under a budget that the quietest point breaks, and on a front.
    #[test]
    fn beats_uniform_assignments() {
        for model in 0..3 {
            let (mut problem, mock) = transformer(model, 0.1);
            problem.max_bytes = Some(bytes_at(&problem, 4.25));
            let uniform = mock.kl(&problem.uniform[2]);
            let found = best(&mock.study(&Sensitivity, &problem, 8));
            println!("model {model}: {found:.5}, uniform {uniform:.5}");
            assert!(found < 0.7 * uniform, "{found} against {uniform}");
        }
    }
}
