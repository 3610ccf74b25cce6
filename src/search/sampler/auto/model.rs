//! What the measured points say about the harm of each candidate.
//!
//! The quality of a point is taken to be `base + sum of exp(theta[d][c])`: harm is positive, and of widely different
//! size. A priori `theta` is normal around `mean + log noise`, with deviations that all candidates share (the mean and
//! the power of the noise), that the candidates of one dimension share (how sensitive it is), and its own. Measured
//! qualities deviate from the sum by cross terms of second order, `a_de sqrt(harm_d harm_e)` for each pair of choices
//! with an unknown `a`, and by a share of their own size that points with common choices have in common. Under
//! linearisation in `theta` all of this is normal (a Gaussian process, Rasmussen and Williams 2006), so the
//! posterior is a Gauss-Newton iteration over systems as large as the number of measured points, uncertainty comes with
//! it, and a draw from it is one solution more (Matheron's rule).

use super::super::space::Rng;
use super::linear::Cholesky;

/// A priori deviations: of the mean of all `theta`, of the power of the noise, of a dimension, of a candidate.
const MEAN: f64 = 3.0;
const POWER: f64 = 0.2;
const DIMENSION: f64 = 1.2;
const CANDIDATE: f64 = 0.35;
/// Deviation of the factors of cross terms.
const CROSS: f64 = 0.1;
/// Deviation from the sum, as a share of the quality: common to points that are alike, and of each point.
const COMMON: f64 = 0.03;
const OWN: f64 = 0.003;
/// Changed dimensions, as a share of all, over which likeness falls by e.
const REACH: f64 = 0.25;
/// The iteration after which the deviations are scaled to what was observed, and points that are used for that.
const SCALE_AT: usize = 2;
const SUBSET: usize = 100;
const ITERATIONS: usize = 6;

/// Quality as a function of the point.
pub(super) struct Model {
    prior: Prior,
    base: f64,
    /// Logarithms of the harms, `[dimension][candidate]`.
    theta: Vec<Vec<f64>>,
    observed: Vec<Observed>,
    factor: Cholesky,
    /// Factor of the covariance of what does not add up.
    rest: Cholesky,
    /// The inverse covariance times what the prior leaves unexplained.
    weights: Vec<f64>,
    /// Variance of a candidate, and factor of that of the rest.
    candidate: f64,
    rest_scale: f64,
}

/// What is known before.
struct Prior {
    base: f64,
    base_deviation: f64,
    /// Logarithms of the noise, `[dimension][candidate]`, and their mean.
    noise: Vec<Vec<f64>>,
    center: f64,
    /// What the logarithm of the noise lacks to that of the harm.
    scale: f64,
}

/// A covariance in parts.
struct Covariance {
    /// Of the sums, but for what each candidate has for itself.
    shared: f64,
    /// Of that, before it is scaled.
    candidates: f64,
    /// Of what does not add up, before it is scaled.
    rest: f64,
}

/// A point with its linearisation.
#[derive(Clone)]
struct Observed {
    point: Vec<usize>,
    /// Harm of each dimension; its square root and the choice once more in fours, padded with zeros; the sum, and the
    /// sum times the logarithm of the noise.
    harm: Vec<f64>,
    root: Vec<[f64; 4]>,
    choice: Vec<[f64; 4]>,
    sum: f64,
    power: f64,
    /// What its deviation from the sum is in proportion to.
    size: f64,
}

impl Prior {
    fn new(noise: &[Vec<f64>], points: &[&[usize]], values: &[f64], base: f64, base_deviation: f64) -> Self {
        let finite = |x: &&f64| x.is_finite() && **x > 0.0;
        let most = noise.iter().flatten().filter(finite).copied().fold(f64::MIN_POSITIVE, f64::max).ln();
        // No candidate is perfect: what has no noise does about as much harm as 16 bits more would leave.
        let log = |x: &f64| {
            if x.is_finite() { x.max(f64::MIN_POSITIVE).ln().clamp(most - 22.0, most) } else { most }
        };
        let noise: Vec<Vec<f64>> = noise.iter().map(|row| row.iter().map(log).collect()).collect();
        let count = noise.iter().map(Vec::len).sum::<usize>().max(1);
        let center = noise.iter().flatten().sum::<f64>() / count as f64;
        let mut prior = Self { base, base_deviation, noise, center, scale: 0.0 };
        let mut scales: Vec<f64> = points
            .iter()
            .zip(values)
            .map(|(point, value)| {
                let sum: f64 = prior.noise.iter().zip(*point).map(|(row, &c)| row[c].exp()).sum();
                ((value - base).max(1e-9) / sum).ln()
            })
            .collect();
        scales.sort_by(f64::total_cmp);
        prior.scale = scales.get(scales.len() / 2).copied().unwrap_or(0.0);
        prior
    }

    fn theta(&self) -> Vec<Vec<f64>> {
        self.noise.iter().map(|row| row.iter().map(|noise| noise + self.scale).collect()).collect()
    }

    fn observe(&self, theta: &[Vec<f64>], point: &[usize], size: f64) -> Observed {
        let harm: Vec<f64> = theta.iter().zip(point).map(|(row, &c)| row[c].exp()).collect();
        let power =
            harm.iter().zip(&self.noise).zip(point).map(|((h, row), &c)| h * (row[c] - self.center)).sum();
        let fours = |values: &mut dyn Iterator<Item = f64>| -> Vec<[f64; 4]> {
            let values: Vec<f64> = values.collect();
            let four = |chunk: &[f64]| std::array::from_fn(|k| chunk.get(k).copied().unwrap_or(0.0));
            values.chunks(4).map(four).collect()
        };
        let root = fours(&mut harm.iter().map(|h| h.sqrt()));
        let choice = fours(&mut point.iter().map(|&c| c as f64));
        Observed { point: point.to_vec(), root, choice, sum: harm.iter().sum(), power, harm, size }
    }
}

impl Model {
    /// Of `values` at `points`; the base is normal.
    pub(super) fn fit(
        noise: &[Vec<f64>],
        points: &[&[usize]],
        values: &[f64],
        base: f64,
        base_deviation: f64,
    ) -> Self {
        let prior = Prior::new(noise, points, values, base, base_deviation);
        let start = prior.theta();
        let mut model = Self {
            base,
            theta: start.clone(),
            observed: Vec::new(),
            factor: Cholesky::default(),
            rest: Cholesky::default(),
            weights: Vec::new(),
            candidate: CANDIDATE.powi(2),
            rest_scale: 1.0,
            prior,
        };
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).map_or(1.0, |y| y - base).abs().max(1e-9);
        for iteration in 0..ITERATIONS {
            let size = |y: &f64| (y - model.base).max(0.01 * middle);
            let observed =
                points.iter().zip(values).map(|(p, y)| model.prior.observe(&model.theta, p, size(y)));
            model.observed = observed.collect();
            let covariance = |i: usize, j: usize| {
                let (a, b) = (&model.observed[i], &model.observed[j]);
                let own = if i == j { (OWN * a.size).powi(2) } else { 0.0 };
                let parts = model.covariance(a, b);
                model.total(&parts) + model.rest_scale * own
            };
            model.factor = Cholesky::new(points.len(), covariance);
            // What the prior says, linearised here.
            let expected = |o: &Observed| {
                let back =
                    o.point.iter().enumerate().map(|(d, &c)| o.harm[d] * (start[d][c] - model.theta[d][c]));
                model.prior.base + o.sum + back.sum::<f64>()
            };
            let gaps: Vec<f64> = values.iter().zip(&model.observed).map(|(y, o)| y - expected(o)).collect();
            if iteration == SCALE_AT {
                model.scale(&gaps);
                model.factor = Cholesky::new(points.len(), |i, j| {
                    let (a, b) = (&model.observed[i], &model.observed[j]);
                    let own = if i == j { (OWN * a.size).powi(2) } else { 0.0 };
                    let parts = model.covariance(a, b);
                    model.total(&parts) + model.rest_scale * own
                });
            }
            model.weights = model.factor.solve(&gaps);
            let (base, change) = model.explain(&model.weights);
            let mut largest: f64 = 0.0;
            for (d, row) in change.iter().enumerate() {
                for (c, change) in row.iter().enumerate() {
                    let step = (start[d][c] + change - model.theta[d][c]).clamp(-1.0, 1.0);
                    model.theta[d][c] += step;
                    largest = largest.max(step.abs());
                }
            }
            model.base = model.prior.base + base;
            if largest < 0.02 {
                break;
            }
        }
        let rest = |i: usize, j: usize| {
            let (a, b) = (&model.observed[i], &model.observed[j]);
            model.rest_scale
                * (model.covariance(a, b).rest + if i == j { (OWN * a.size).powi(2) } else { 0.0 })
        };
        model.rest = Cholesky::new(points.len(), rest);
        model
    }

    /// Covariance of two qualities.
    fn covariance(&self, a: &Observed, b: &Observed) -> Covariance {
        let mut sums = [[0.0f64; 4]; 4];
        let [dimensions, candidates, cross, alike] = &mut sums;
        let lanes = a.root.iter().zip(&b.root).zip(a.choice.iter().zip(&b.choice));
        for ((x, y), (c, e)) in lanes {
            for k in 0..4 {
                let product = x[k] * y[k];
                let same = if c[k] == e[k] { 1.0 } else { 0.0 };
                dimensions[k] += product * product;
                candidates[k] += same * product * product;
                cross[k] += same * product;
                alike[k] += same;
            }
        }
        let [dimensions, candidates, cross, alike] = sums.map(|lanes| lanes.iter().sum::<f64>());
        // Padding is alike.
        let differ = (4 * a.root.len()) as f64 - alike;
        let likeness = (-differ / (REACH * a.point.len() as f64)).exp();
        Covariance {
            shared: self.prior.base_deviation.powi(2)
                + MEAN.powi(2) * a.sum * b.sum
                + POWER.powi(2) * a.power * b.power
                + DIMENSION.powi(2) * dimensions,
            candidates,
            rest: CROSS.powi(2) * 0.5 * (cross * cross - candidates)
                + COMMON.powi(2) * a.size * b.size * likeness,
        }
    }

    fn total(&self, parts: &Covariance) -> f64 {
        parts.shared + self.candidate * parts.candidates + self.rest_scale * parts.rest
    }

    /// Sets the scales of candidates and rest to the likeliest ones of a few.
    fn scale(&mut self, gaps: &[f64]) {
        let step = gaps.len().div_ceil(SUBSET).max(1);
        let chosen: Vec<usize> = (0..gaps.len()).step_by(step).collect();
        let mut table: Vec<Vec<Covariance>> = Vec::new();
        for &i in &chosen {
            let row = chosen.iter().take_while(|&&j| j <= i).map(|&j| {
                let mut parts = self.covariance(&self.observed[i], &self.observed[j]);
                if i == j {
                    parts.rest += (OWN * self.observed[i].size).powi(2);
                }
                parts
            });
            table.push(row.collect());
        }
        let gaps: Vec<f64> = chosen.iter().map(|&i| gaps[i]).collect();
        let unlikely = |candidate: f64, rest: f64| {
            let total = |i: usize, j: usize| {
                let p = &table[i][j];
                p.shared + candidate * p.candidates + rest * p.rest
            };
            let factor = Cholesky::new(gaps.len(), total);
            factor.forward(&gaps).iter().map(|x| x * x).sum::<f64>() + factor.log_determinant()
        };
        let usual = self.candidate;
        for _ in 0..1 {
            let rest = self.rest_scale;
            let best = |options: &[f64], f: &dyn Fn(f64) -> f64| {
                let scores: Vec<f64> = options.iter().map(|&o| f(o)).collect();
                let i =
                    (0..options.len()).reduce(|b, i| if scores[i] < scores[b] { i } else { b }).unwrap_or(0);
                options[i]
            };
            self.candidate = best(&[usual, usual * 0.25, usual * 4.0, usual * 16.0], &|c| unlikely(c, rest));
            let candidate = self.candidate;
            self.rest_scale = best(&[1.0, 0.1, 4.0, 16.0], &|r| unlikely(candidate, r));
        }
    }

    /// What the base and each `theta` differ from the prior by, given weights of the points.
    fn explain(&self, weights: &[f64]) -> (f64, Vec<Vec<f64>>) {
        let (mut base, mut mean, mut power) = (0.0, 0.0, 0.0);
        let mut own: Vec<Vec<f64>> = self.theta.iter().map(|row| vec![0.0; row.len()]).collect();
        for (o, weight) in self.observed.iter().zip(weights) {
            base += weight;
            mean += weight * o.sum;
            power += weight * o.power;
            o.point.iter().enumerate().for_each(|(d, &c)| own[d][c] += weight * o.harm[d]);
        }
        for (row, noise) in own.iter_mut().zip(&self.prior.noise) {
            let dimension: f64 = DIMENSION * DIMENSION * row.iter().sum::<f64>();
            for (change, noise) in row.iter_mut().zip(noise) {
                let shared = MEAN * MEAN * mean + POWER * POWER * power * (noise - self.prior.center);
                *change = shared + dimension + self.candidate * *change;
            }
        }
        (base * self.prior.base_deviation.powi(2), own)
    }

    /// Harm of each candidate, the likeliest.
    pub(super) fn harms(&self) -> Vec<Vec<f64>> {
        self.theta.iter().map(|row| row.iter().map(|theta| theta.exp()).collect()).collect()
    }

    /// Harms drawn from the posterior.
    pub(super) fn draw(&self, rng: &mut Rng) -> Vec<Vec<f64>> {
        let (base, mean, power) =
            (self.prior.base_deviation * rng.normal(), MEAN * rng.normal(), POWER * rng.normal());
        let change: Vec<Vec<f64>> = self
            .prior
            .noise
            .iter()
            .map(|row| {
                let dimension = mean + DIMENSION * rng.normal();
                row.iter()
                    .map(|noise| {
                        dimension + power * (noise - self.prior.center) + self.candidate.sqrt() * rng.normal()
                    })
                    .collect()
            })
            .collect();
        let normal: Vec<f64> = self.observed.iter().map(|_| rng.normal()).collect();
        let drawn: Vec<f64> = self
            .rest
            .times(&normal)
            .iter()
            .zip(&self.observed)
            .map(|(rest, o)| {
                let harm = o.point.iter().enumerate().map(|(d, &c)| o.harm[d] * change[d][c]);
                base + rest + harm.sum::<f64>()
            })
            .collect();
        let (_, explained) = self.explain(&self.factor.solve(&drawn));
        let theta = self.theta.iter().zip(change.iter().zip(&explained));
        let row = |(theta, (change, known)): (&Vec<f64>, (&Vec<f64>, &Vec<f64>))| {
            let both = theta.iter().zip(change.iter().zip(known));
            both.map(|(theta, (change, known))| (theta + (change - known).clamp(-3.0, 3.0)).exp()).collect()
        };
        theta.map(row).collect()
    }

    /// Mean and deviation of the quality at `point`.
    pub(super) fn predict(&self, point: &[usize]) -> (f64, f64) {
        let (o, row) = self.relate(point);
        let rest: f64 =
            row.iter().zip(&self.weights).map(|(parts, weight)| self.rest_scale * parts.rest * weight).sum();
        let known = self.factor.forward(&row.iter().map(|parts| self.total(parts)).collect::<Vec<f64>>());
        let variance = self.total(&self.covariance(&o, &o)) - known.iter().map(|x| x * x).sum::<f64>();
        (self.base + o.sum + rest, variance.max((OWN * o.size).powi(2)).sqrt())
    }

    /// `point` and its covariances with all observed ones.
    fn relate(&self, point: &[usize]) -> (Observed, Vec<Covariance>) {
        let mut o = self.prior.observe(&self.theta, point, 0.0);
        o.size = o.sum;
        let row = self.observed.iter().map(|other| self.covariance(&o, other)).collect();
        (o, row)
    }

    /// Takes the prediction at `point` for measured: it stays, the uncertainty around it goes.
    pub(super) fn believe(&mut self, point: &[usize]) {
        let (o, row) = self.relate(point);
        let left: Vec<f64> = row.iter().map(|parts| self.total(parts)).collect();
        let here = self.covariance(&o, &o);
        let own = (OWN * o.size).powi(2);
        self.factor.push(&left, self.total(&here) + self.rest_scale * own);
        let left: Vec<f64> = row.iter().map(|parts| self.rest_scale * parts.rest).collect();
        self.rest.push(&left, self.rest_scale * (here.rest + own));
        self.observed.push(o);
        self.weights.push(0.0);
    }
}
