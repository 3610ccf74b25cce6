//! The Parzen estimator of categorical dimensions.

use super::super::space::Rng;

/// A mixture of kernels over points, one for each observation and a uniform one as prior. In a kernel the dimensions
/// are independent; with `n` kernels, prior weight `p` and `c` candidates the observed one has `(1 + p/n) / (1 + c p/n)`
/// and every other one `(p/n) / (1 + c p/n)` (as Optuna has it, where Bergstra et al. 2011 count observations).
pub(super) struct Parzen<'a> {
    observed: Vec<&'a [usize]>,
    /// Of the kernels, the prior's last; they sum to 1.
    weights: Vec<f64>,
    /// Probabilities of the observed candidate and of another one, per dimension.
    hit_miss: Vec<(f64, f64)>,
    choices: &'a [usize],
}

/// Weights of `n` observations, the latest last: 1 for the latest 25, a ramp from 1/n for those before (Bergstra et
/// al. 2013, in Optuna's numbers).
pub(super) fn ramp(n: usize) -> Vec<f64> {
    let old = n.saturating_sub(25);
    let first = 1.0 / n as f64;
    let step = (1.0 - first) / (old.saturating_sub(1)).max(1) as f64;
    (0..n).map(|i| if i < old { first + step * i as f64 } else { 1.0 }).collect()
}

impl<'a> Parzen<'a> {
    /// Over `choices` candidates per dimension; `weights` of the observations are relative to `prior`'s.
    pub(super) fn new(
        choices: &'a [usize],
        observed: Vec<&'a [usize]>,
        mut weights: Vec<f64>,
        prior: f64,
    ) -> Self {
        let kernels = observed.len() + 1;
        weights.push(if observed.is_empty() { 1.0 } else { prior });
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let share = prior / kernels as f64;
        let rows = choices.iter().map(|&c| 1.0 + c as f64 * share);
        let hit_miss = rows.map(|row| ((1.0 + share) / row, share / row)).collect();
        Self { observed, weights, hit_miss, choices }
    }

    /// Probability of each candidate of dimension `d`, the others summed out.
    pub(super) fn marginal(&self, d: usize) -> Vec<f64> {
        let (hit, miss) = self.hit_miss[d];
        let prior = self.weights[self.observed.len()];
        let mut counts = vec![0.0; self.choices[d]];
        self.observed.iter().zip(&self.weights).for_each(|(point, weight)| counts[point[d]] += weight);
        let uniform = prior / self.choices[d] as f64;
        counts.iter().map(|&count| count * hit + (1.0 - prior - count) * miss + uniform).collect()
    }

    /// Logarithms of the probabilities of whole points.
    pub(super) fn log_probabilities(&self, points: &[Vec<usize>]) -> Vec<f64> {
        let base: f64 = self.hit_miss.iter().map(|(_, miss)| miss.ln()).sum();
        let gains: Vec<f64> = self.hit_miss.iter().map(|(hit, miss)| (hit / miss).ln()).collect();
        let prior: f64 = self.choices.iter().map(|&c| -(c as f64).ln()).sum();
        let logs: Vec<f64> = self.weights.iter().map(|weight| weight.ln()).collect();
        let mut terms = Vec::with_capacity(logs.len());
        let of_point = |point: &Vec<usize>| {
            terms.clear();
            terms.extend(self.observed.iter().zip(&logs).map(|(observed, weight)| {
                let both = observed.iter().zip(point).zip(&gains);
                let gain: f64 = both.map(|((a, b), gain)| if a == b { *gain } else { 0.0 }).sum();
                weight + base + gain
            }));
            terms.push(logs[self.observed.len()] + prior);
            let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            most + terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln()
        };
        points.iter().map(of_point).collect()
    }

    /// A random point.
    pub(super) fn draw(&self, rng: &mut Rng) -> Vec<usize> {
        let observed = self.observed.get(rng.weighted(&self.weights)).copied();
        let draw = |(d, &(hit, miss)): (usize, &(f64, f64))| {
            let other = rng.below(self.choices[d]);
            match observed {
                // A kernel is the observed candidate with the excess over the others, else uniform.
                Some(point) if rng.unit() < hit - miss => point[d],
                _ => other,
            }
        };
        self.hit_miss.iter().enumerate().map(draw).collect()
    }
}
