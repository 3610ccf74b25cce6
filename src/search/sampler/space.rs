//! The points of a problem: random ones, repaired ones, ones that nobody has tried.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::super::{Point, Problem, Trial, TrialState};
use crate::error::{Result, invalid};

/// Rng draws before an untried point is looked for systematically.
const DRAWS: usize = 64;

/// The randomness of one trial.
pub(super) struct Rng(ChaCha8Rng);

impl Rng {
    /// Of trial `number` of a study with `seed`.
    pub(super) fn new(seed: u64, number: usize) -> Self {
        let mut inner = ChaCha8Rng::seed_from_u64(seed);
        inner.set_stream(number as u64);
        Self(inner)
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `n` (Lemire 2019, the bias of at most n / 2^64 left in); 0 where `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// An index, `weights[i]` its probability times their sum.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (i, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return i;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// The numbers below `n` in random order (Fisher and Yates).
    pub(super) fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// A problem with the points that were tried.
pub(super) struct Space<'a> {
    pub(super) problem: &'a Problem,
    seen: HashSet<Point>,
    /// Fewest bytes of all dimensions from one on, and of what is not searched.
    rest: Vec<u64>,
}

impl<'a> Space<'a> {
    pub(super) fn new(problem: &'a Problem, history: &[Trial]) -> Result<Self> {
        let (bytes, noise) = (&problem.bytes, &problem.noise);
        let shapes = |rows: usize, row: fn(usize, &Problem) -> usize| -> Vec<usize> {
            (0..rows).map(|d| row(d, problem)).collect()
        };
        let of_bytes = shapes(bytes.len(), |d, p| p.bytes[d].len());
        if of_bytes != shapes(noise.len(), |d, p| p.noise[d].len()) || of_bytes.contains(&0) {
            invalid!(
                "a search problem has {} rows of bytes and {} of noise; want both for the same candidates, at least one \
                 in each dimension",
                bytes.len(),
                noise.len()
            );
        }
        let least = problem.least_bytes();
        if let Some(most) = problem.max_bytes.filter(|&most| most < least) {
            invalid!(
                "no assignment fits into {most} bytes: the smallest one has {least}; allow at least that many or add \
                 smaller formats"
            );
        }
        let mut rest = vec![0; bytes.len() + 1];
        for (d, candidates) in bytes.iter().enumerate().rev() {
            rest[d] = rest[d + 1] + candidates.iter().min().copied().unwrap_or(0);
        }
        let mut space = Self { problem, seen: HashSet::new(), rest };
        space.seen = history.iter().filter(|t| space.holds(&t.point)).map(|t| t.point.clone()).collect();
        Ok(space)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.problem.bytes.len()
    }

    /// Candidates of dimension `d`.
    pub(super) fn choices(&self, d: usize) -> usize {
        self.problem.bytes[d].len()
    }

    /// Whether `point` is one of the space.
    pub(super) fn holds(&self, point: &[usize]) -> bool {
        point.len() == self.dimensions() && point.iter().zip(&self.problem.bytes).all(|(&c, b)| c < b.len())
    }

    /// Whether `trial` is of the space and has a number for every objective.
    pub(super) fn is_measured(&self, trial: &Trial) -> bool {
        let is_whole = trial.values.len() == self.problem.objective.count();
        let has_numbers = is_whole && !trial.values.iter().any(|value| value.is_nan());
        trial.state == TrialState::Complete && has_numbers && self.holds(&trial.point)
    }

    pub(super) fn is_new(&self, point: &[usize]) -> bool {
        !self.seen.contains(point)
    }

    /// Notes `point` as tried. False, and nothing noted, where it was or where it does not fit.
    pub(super) fn take(&mut self, point: &[usize]) -> bool {
        self.problem.fits(point) && self.seen.insert(point.to_vec())
    }

    /// Uniform over all points, then repaired.
    pub(super) fn uniform(&self, rng: &mut Rng) -> Point {
        let mut point = (0..self.dimensions()).map(|d| rng.below(self.choices(d))).collect();
        self.repair(rng, &mut point);
        point
    }

    /// Makes `point` fit: as long as it is too big, a random dimension gets a random smaller candidate. Every step
    /// saves bytes and the smallest point fits, so it ends; a point that fits is left alone, so whatever proposed
    /// `point` still reaches every point that fits.
    pub(super) fn repair(&self, rng: &mut Rng, point: &mut Point) {
        let Some(most) = self.problem.max_bytes else { return };
        let bytes = &self.problem.bytes;
        let mut total = self.problem.bytes_of(point);
        while total > most {
            let smaller = |d: usize| -> Vec<usize> {
                (0..bytes[d].len()).filter(|&c| bytes[d][c] < bytes[d][point[d]]).collect()
            };
            let movable: Vec<usize> = (0..point.len()).filter(|&d| !smaller(d).is_empty()).collect();
            if movable.is_empty() {
                return;
            }
            let d = movable[rng.below(movable.len())];
            let choices = smaller(d);
            let choice = choices[rng.below(choices.len())];
            total -= bytes[d][point[d]] - bytes[d][choice];
            point[d] = choice;
        }
    }

    /// Makes `point` fit by the steps that cost least per byte saved, `cost(dimension, candidate)`.
    pub(super) fn repair_by(&self, point: &mut [usize], cost: impl Fn(usize, usize) -> f64) {
        let Some(most) = self.problem.max_bytes else { return };
        let bytes = &self.problem.bytes;
        let mut total = self.problem.bytes_of(point);
        while total > most {
            let mut best: Option<(f64, usize, usize)> = None;
            for (d, &now) in point.iter().enumerate() {
                for (c, &size) in bytes[d].iter().enumerate().filter(|&(_, &size)| size < bytes[d][now]) {
                    // A step that saves more than needed is worth no more for it.
                    let saved = (bytes[d][now] - size).min(total - most);
                    let price = (cost(d, c) - cost(d, now)) / saved as f64;
                    if best.is_none_or(|(least, ..)| price < least) {
                        best = Some((price, d, c));
                    }
                }
            }
            let Some((_, d, c)) = best else { return };
            total -= bytes[d][point[d]] - bytes[d][c];
            point[d] = c;
        }
    }

    /// Takes an untried point like `point`: one random dimension changed, more after some attempts, any in the end.
    pub(super) fn take_near(&mut self, rng: &mut Rng, point: &[usize]) -> Option<Point> {
        for attempt in 0..DRAWS {
            let mut other = point.to_vec();
            for _ in 0..=attempt / 16 {
                let d = rng.below(self.dimensions());
                if let Some(choice) = other.get_mut(d) {
                    *choice = rng.below(self.problem.bytes[d].len());
                }
            }
            self.repair(rng, &mut other);
            if self.take(&other) {
                return Some(other);
            }
        }
        self.take_any(rng)
    }

    /// Takes a random untried point; `None` where all that fit were tried.
    pub(super) fn take_any(&mut self, rng: &mut Rng) -> Option<Point> {
        for _ in 0..DRAWS {
            let point = self.uniform(rng);
            if self.take(&point) {
                return Some(point);
            }
        }
        let orders: Vec<Vec<usize>> = (0..self.dimensions()).map(|d| rng.order(self.choices(d))).collect();
        self.take_in_order(&orders)
    }

    /// Takes the first untried point in mixed-radix order, the last dimension fastest, candidates in `orders`.
    /// Prefixes that cannot fit are cut, so the time is linear in the number of tried points.
    pub(super) fn take_in_order(&mut self, orders: &[Vec<usize>]) -> Option<Point> {
        let (bytes, dimensions) = (&self.problem.bytes, orders.len());
        let most = self.problem.max_bytes.unwrap_or(u64::MAX);
        // Position within `orders` of each dimension so far, and bytes before it.
        let (mut next, mut before) = (vec![0], vec![self.problem.fixed_bytes]);
        let mut point: Point = Vec::with_capacity(dimensions);
        loop {
            let d = point.len();
            if d == dimensions {
                if self.take(&point) {
                    return Some(point);
                }
            } else {
                let fits = |&&c: &&usize| before[d] + bytes[d][c] + self.rest[d + 1] <= most;
                let at = next[d];
                if let Some((skipped, &c)) = orders[d][at..].iter().enumerate().find(|(_, c)| fits(c)) {
                    next[d] = at + skipped + 1;
                    point.push(c);
                    before.push(before[d] + bytes[d][c]);
                    next.push(0);
                    continue;
                }
            }
            next.pop();
            before.pop();
            point.pop()?;
        }
    }
}
