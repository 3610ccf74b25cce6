//! What the measured points say about the harm of each candidate.
//!
//! The quality of a point is taken to be `base + sum of exp(theta[d][c])`: harm is positive, and of widely different
//! size. A priori `theta` is normal around the logarithm of the noise, since harm grows with the squared error (HAWQ:
//! Dong et al. 2019), with deviations that all candidates share (the mean, the power of the noise), that the candidates
//! of one dimension share (how sensitive it is), and its own. Measured qualities deviate from the sum by the cross terms
//! of the second order, `a sqrt(harm_d harm_e)` for each pair of choices with an unknown `a`, by something that points
//! with common choices have in common, and by something of their own. Linearised in `theta` all of this is normal (a
//! Gaussian process: Rasmussen and Williams 2006), so that the posterior is a Gauss-Newton iteration with systems as
//! large as the number of points; it comes with its uncertainty, and a draw from it is one solution more (Matheron's
//! rule: Wilson et al. 2020). How large the deviations are is read off the points (likelihood).

use super::super::space::Rng;
use super::linear::Cholesky;
use super::prior::{DIMENSION, MEAN, Observed, POWER, Prior, median};

/// Deviation of the factors of cross terms.
const CROSS: f64 = 0.1;
/// Deviation that points have in common, as a share of the quality.
const COMMON: f64 = 0.03;
/// Changed dimensions, as a share of all, over which that falls by e.
const REACH: f64 = 0.25;

const ITERATIONS: usize = 4;
/// Steps of `theta` that end the iteration.
const SMALL: f64 = 0.05;
/// The iteration before which the scales are chosen, and of how many points.
const CHOICE: usize = 2;
const CHOICE_POINTS: usize = 100;

/// Greatest quality that is fitted to, in medians; what is worse is bad enough.
const MOST: f64 = 1000.0;

/// Quality as a function of the point.
pub(super) struct Model {
    /// The base a priori, and the median of what the qualities have more: everything else is in this unit.
    origin: f64,
    unit: f64,
    prior: Prior,
    /// What the base differs by.
    base: f64,
    /// Logarithms of the harms, `[dimension][candidate]`.
    theta: Vec<Vec<f64>>,
    scales: Scales,
    observed: Vec<Observed>,
    /// Of the covariance of the observed, and of what in it does not add up.
    factor: Cholesky,
    rest: Cholesky,
    /// The inverse covariance times what the prior leaves unexplained.
    weights: Vec<f64>,
}

/// Variances.
#[derive(Clone, Copy)]
struct Scales {
    /// Of `theta`, what each candidate has for itself.
    candidate: f64,
    /// Of what does not add up, as a factor.
    rest: f64,
    /// Of what each point has for itself, as a share of its squared size.
    own: f64,
}

/// A covariance in parts.
#[derive(Clone, Copy)]
struct Covariance {
    /// Of the sums, but for what each candidate has for itself.
    shared: f64,
    /// Of that, of the rest, of each point's own, before they are scaled.
    candidate: f64,
    rest: f64,
    own: f64,
}

impl Scales {
    fn total(&self, parts: &Covariance) -> f64 {
        parts.shared + self.candidate * parts.candidate + self.unsummed(parts)
    }

    fn unsummed(&self, parts: &Covariance) -> f64 {
        self.rest * parts.rest + self.own * parts.own
    }

    /// The likeliest of some that differ in one variance after the other, given what the prior leaves unexplained.
    fn likeliest(self, gaps: &[f64], table: &[Vec<Covariance>]) -> Self {
        let step = gaps.len().div_ceil(CHOICE_POINTS).max(1);
        let chosen: Vec<usize> = (0..gaps.len()).step_by(step).collect();
        let gaps: Vec<f64> = chosen.iter().map(|&i| gaps[i]).collect();
        let unlikely = |scales: Self| {
            let factor = Cholesky::new(gaps.len(), |i, j| scales.total(&table[chosen[i]][chosen[j]]));
            factor.forward(&gaps).iter().map(|x| x * x).sum::<f64>() + factor.log_determinant()
        };
        let (mut best, mut least) = (self, unlikely(self));
        let mut attempt = |scales: Self| {
            let score = unlikely(scales);
            if score < least {
                (best, least) = (scales, score);
            }
            best
        };
        let mut now = self;
        for factor in [0.5, 2.0, 4.0, 16.0] {
            now = attempt(Self { candidate: factor * self.candidate, ..self });
        }
        let usual = now;
        for factor in [0.1, 0.3, 4.0, 16.0] {
            now = attempt(Self { rest: factor * self.rest, ..usual });
        }
        let usual = now;
        for factor in [16.0, 64.0, 256.0, 4096.0] {
            now = attempt(Self { own: factor * self.own, ..usual });
        }
        now
    }
}

impl Model {
    /// Of `values` at `points`; mean and deviation of the base are known.
    pub(super) fn fit(noise: &[Vec<f64>], points: &[&[usize]], values: &[f64], base: (f64, f64)) -> Self {
        let unit = median(values.to_vec()).map_or(1.0, |value| (value - base.0).abs()).clamp(1e-12, 1e12);
        let values: Vec<f64> = values.iter().map(|value| ((value - base.0) / unit).min(MOST)).collect();
        let prior = Prior::new(noise, points, &values, base.1 / unit);
        let start = prior.theta();
        let mut model = Self {
            origin: base.0,
            unit,
            base: 0.0,
            theta: start.clone(),
            scales: Scales { candidate: 0.35 * 0.35, rest: 1.0, own: 0.003 * 0.003 },
            observed: Vec::new(),
            factor: Cholesky::default(),
            rest: Cholesky::default(),
            weights: Vec::new(),
            prior,
        };
        let mut table: Vec<Vec<Covariance>> = Vec::new();
        for iteration in 0..ITERATIONS {
            let size = |value: &f64| Some((value - model.base).max(0.01));
            let observe =
                |(point, value): (&&[usize], &f64)| model.prior.observe(&model.theta, point, size(value));
            model.observed = points.iter().zip(&values).map(observe).collect();
            let row = |i: usize| -> Vec<Covariance> {
                let seen = &model.observed;
                (0..=i).map(|j| model.covariance(&seen[i], &seen[j], i == j)).collect()
            };
            table = (0..points.len()).map(row).collect();
            // What the prior says, linearised here.
            let expected = |o: &Observed| {
                let back =
                    o.point.iter().enumerate().map(|(d, &c)| o.harm[d] * (start[d][c] - model.theta[d][c]));
                o.sum + back.sum::<f64>()
            };
            let gaps: Vec<f64> = values.iter().zip(&model.observed).map(|(y, o)| y - expected(o)).collect();
            if iteration == CHOICE {
                model.scales = model.scales.likeliest(&gaps, &table);
            }
            model.factor = Cholesky::new(points.len(), |i, j| model.scales.total(&table[i][j]));
            model.weights = model.factor.solve(&gaps);
            let (base, changes) = model.explain(&model.weights);
            model.base = base;
            let mut largest = 0.0f64;
            for (theta, (start, change)) in model.theta.iter_mut().zip(start.iter().zip(&changes)) {
                for (theta, (start, change)) in theta.iter_mut().zip(start.iter().zip(change)) {
                    let step = (start + change - *theta).clamp(-1.0, 1.0);
                    *theta += step;
                    largest = largest.max(step.abs());
                }
            }
            if largest < SMALL && iteration >= CHOICE {
                break;
            }
        }
        model.rest = Cholesky::new(points.len(), |i, j| model.scales.unsummed(&table[i][j]));
        model
    }

    /// Covariance of two qualities; a point has its own with itself only.
    fn covariance(&self, a: &Observed, b: &Observed, is_same: bool) -> Covariance {
        let mut sums = [[0.0f64; 4]; 4];
        let [dimensions, candidates, cross, alike] = &mut sums;
        for ((x, y), (c, e)) in a.root.iter().zip(&b.root).zip(a.choice.iter().zip(&b.choice)) {
            for k in 0..4 {
                let product = x[k] * y[k];
                let same = if c[k] == e[k] { 1.0 } else { 0.0 };
                dimensions[k] += product * product;
                candidates[k] += same * product * product;
                cross[k] += same * product;
                alike[k] += same;
            }
        }
        let [dimensions, candidate, cross, alike] = sums.map(|lanes| lanes.iter().sum::<f64>());
        // The padding is alike.
        let differ = (4 * a.root.len()) as f64 - alike;
        let common = a.size * b.size * (-differ / (REACH * a.point.len() as f64)).exp();
        Covariance {
            shared: self.prior.base_deviation.powi(2)
                + MEAN * MEAN * a.sum * b.sum
                + POWER * POWER * a.power * b.power
                + DIMENSION * DIMENSION * dimensions,
            candidate,
            // All pairs of common choices: half of the squared sum less the squares.
            rest: CROSS * CROSS * 0.5 * (cross * cross - candidate) + COMMON * COMMON * common,
            own: if is_same { a.size * a.size } else { 0.0 },
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
            let dimension = DIMENSION * DIMENSION * row.iter().sum::<f64>();
            for (change, noise) in row.iter_mut().zip(noise) {
                let shared = MEAN * MEAN * mean + POWER * POWER * power * (noise - self.prior.center);
                *change = shared + dimension + self.scales.candidate * *change;
            }
        }
        (base * self.prior.base_deviation.powi(2), own)
    }

    /// Quality without harm, the likeliest.
    pub(super) fn base(&self) -> f64 {
        self.origin + self.unit * self.base
    }

    /// Harm of each candidate, the likeliest.
    pub(super) fn harms(&self) -> Vec<Vec<f64>> {
        self.theta.iter().map(|row| row.iter().map(|theta| self.unit * theta.exp()).collect()).collect()
    }

    /// Harms drawn from the posterior.
    pub(super) fn draw(&self, rng: &mut Rng) -> Vec<Vec<f64>> {
        let base = self.prior.base_deviation * rng.normal();
        let (mean, power, own) = (MEAN * rng.normal(), POWER * rng.normal(), self.scales.candidate.sqrt());
        let mut changes = Vec::new();
        for row in &self.prior.noise {
            let dimension = mean + DIMENSION * rng.normal();
            let change = |noise: &f64| dimension + power * (noise - self.prior.center) + own * rng.normal();
            changes.push(row.iter().map(change).collect::<Vec<f64>>());
        }
        let normal: Vec<f64> = self.observed.iter().map(|_| rng.normal()).collect();
        let quality = |(rest, o): (f64, &Observed)| {
            let harm = o.point.iter().enumerate().map(|(d, &c)| o.harm[d] * changes[d][c]);
            base + rest + harm.sum::<f64>()
        };
        let drawn: Vec<f64> = self.rest.times(&normal).into_iter().zip(&self.observed).map(quality).collect();
        // What the points would have said about these harms is taken off.
        let (_, known) = self.explain(&self.factor.solve(&drawn));
        let row = |(theta, (change, known)): (&Vec<f64>, (&Vec<f64>, &Vec<f64>))| {
            let all = theta.iter().zip(change.iter().zip(known));
            all.map(|(theta, (change, known))| self.unit * (theta + (change - known).clamp(-3.0, 3.0)).exp())
                .collect()
        };
        self.theta.iter().zip(changes.iter().zip(&known)).map(row).collect()
    }

    /// Mean and deviation of the quality at `point`.
    pub(super) fn predict(&self, point: &[usize]) -> (f64, f64) {
        let (o, row) = self.relate(point);
        let rest: f64 =
            row.iter().zip(&self.weights).map(|(parts, w)| self.scales.rest * parts.rest * w).sum();
        let known =
            self.factor.forward(&row.iter().map(|parts| self.scales.total(parts)).collect::<Vec<f64>>());
        let variance =
            self.scales.total(&self.covariance(&o, &o, false)) - known.iter().map(|x| x * x).sum::<f64>();
        let deviation = variance.max(1e-6 * o.size * o.size).sqrt();
        (self.base() + self.unit * (o.sum + rest), self.unit * deviation)
    }

    /// `point` and its covariances with all observed ones.
    fn relate(&self, point: &[usize]) -> (Observed, Vec<Covariance>) {
        let o = self.prior.observe(&self.theta, point, None);
        let row = self.observed.iter().map(|other| self.covariance(&o, other, false)).collect();
        (o, row)
    }

    /// Takes the prediction at `point` for measured: it stays, the uncertainty around it goes.
    pub(super) fn believe(&mut self, point: &[usize]) {
        let (o, row) = self.relate(point);
        let here = self.covariance(&o, &o, true);
        let part = |part: fn(&Scales, &Covariance) -> f64| -> Vec<f64> {
            row.iter().map(|parts| part(&self.scales, parts)).collect()
        };
        let (left, rest) = (part(Scales::total), part(Scales::unsummed));
        self.factor.push(&left, self.scales.total(&here));
        self.rest.push(&rest, self.scales.unsummed(&here));
        self.observed.push(o);
        self.weights.push(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::mock::transformer;
    use super::*;

    /// Sums that follow the prior are known after few points, as well as the model says.
    #[test]
    fn harms_are_found() {
        for model in 0..3 {
            let (problem, mock) = transformer(model, 0.05);
            let mut rng = Rng::new(model, 1);
            // Half of the dimensions at 3 bits, the others at 4.
            let mut point = || -> Vec<usize> { (0..42).map(|_| 1 + rng.below(2)).collect() };
            let points: Vec<Vec<usize>> = (0..90).map(|_| point()).collect();
            let slices: Vec<&[usize]> = points.iter().map(Vec::as_slice).collect();
            let values: Vec<f64> = points.iter().map(|point| mock.kl(point)).collect();
            let fitted = Model::fit(&problem.noise, &slices, &values, (0.0, 1e-3));
            let (mut off, mut spread, mut apart) = (0.0, 0.0, 0.0);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            for _ in 0..50 {
                let other = point();
                let (value, deviation) = fitted.predict(&other);
                let kl = mock.kl(&other);
                off += (value - kl).powi(2);
                spread += ((value - kl) / deviation).powi(2) / 50.0;
                apart += (kl - mean).powi(2);
            }
            println!("explained {:.4}, squared errors over variances {spread:.2}", 1.0 - off / apart);
            assert!(off < 0.05 * apart && (0.1..5.0).contains(&spread), "{off}, {apart}, {spread}");
            // What is measured is known, and what is believed stays.
            let (value, deviation) = fitted.predict(&points[7]);
            assert!((value - values[7]).abs() < 0.02 * values[7] && deviation < 0.02 * values[7]);
            let (other, mut believing) = (point(), fitted);
            let before = believing.predict(&other);
            believing.believe(&other);
            let after = believing.predict(&other);
            assert!((after.0 - before.0).abs() < 1e-12 && after.1 < 0.5 * before.1, "{before:?} {after:?}");
        }
    }

    /// Draws vary as much as the model is uncertain.
    #[test]
    fn draws_have_the_deviation() {
        let (problem, mock) = transformer(5, 0.1);
        let mut rng = Rng::new(5, 1);
        let points: Vec<Vec<usize>> = (0..30).map(|_| (0..42).map(|_| rng.below(5)).collect()).collect();
        let slices: Vec<&[usize]> = points.iter().map(Vec::as_slice).collect();
        let values: Vec<f64> = points.iter().map(|point| mock.kl(point)).collect();
        let model = Model::fit(&problem.noise, &slices, &values, (0.0, 1e-3));
        let point = vec![2; 42];
        let (_, deviation) = model.predict(&point);
        let sum = |harms: &[Vec<f64>]| harms.iter().zip(&point).map(|(row, &c)| row[c]).sum::<f64>();
        let likeliest = sum(&model.harms());
        let far = (0..200).map(|_| (sum(&model.draw(&mut rng)) - likeliest).abs());
        // Harms are drawn as logarithms, and without what does not add up.
        let far = median(far.collect()).unwrap();
        assert!(far > 0.1 * deviation && far < 3.0 * deviation, "{far} against {deviation}");
    }

    #[test]
    fn degenerate_data_is_no_trouble() {
        for noise in [0.0, f64::NAN, f64::INFINITY, 1.0] {
            let (a, b) = ([0, 1], [1, 0]);
            let model = Model::fit(&vec![vec![noise, 0.5]; 2], &[&a, &a, &b], &[0.0, 0.0, 1e300], (0.0, 0.0));
            let (value, deviation) = model.predict(&[1, 1]);
            assert!(!value.is_nan() && !deviation.is_nan(), "{value} {deviation}");
            let drawn = model.draw(&mut Rng::new(0, 0));
            assert!(drawn.iter().flatten().all(|harm| !harm.is_nan()), "{drawn:?}");
        }
    }
}
