//! Grid search.

use super::space::{Rng, Space};
use super::{Proposal, Sampler};
use crate::error::Result;
use crate::search::{Point, Problem, Trial};

/// Grid points looked at in search of one that fits.
const MOST_MISSES: usize = 4096;

/// All points that fit, each once.
///
/// A grid no bigger than the number of trials is walked in mixed-radix order, the last dimension fastest. Of a bigger
/// one only a part is ever seen, and it must not be a corner: numbered in that order, point `i` of the walk is
/// `start + i * stride` modulo the number of points, start and stride drawn from the seed and the stride prime to
/// every radix. So all points come once, and any few of them spread over all dimensions (Optuna shuffles its grid for
/// the same reason, but for that holds all of it in memory). Where fewer than 1 point in 4096 fits, random ones do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grid;

impl Sampler for Grid {
    fn ask(&self, problem: &Problem, history: &[Trial], first: usize, count: usize) -> Result<Vec<Proposal>> {
        let mut space = Space::new(problem, history)?;
        let radices = problem.choices();
        let all = radices.iter().fold(1usize, |all, &n| all.saturating_mul(n));
        let mut points = Vec::new();
        if all <= problem.trials {
            let orders: Vec<Vec<usize>> = radices.iter().map(|&n| (0..n).collect()).collect();
            while points.len() < count {
                let Some(point) = space.take_in_order(&orders) else { break };
                points.push(point);
            }
        } else {
            let mut walk = Walk::new(problem.seed, &radices);
            let mut misses = 0;
            for _ in 0..all {
                if points.len() == count || misses == MOST_MISSES {
                    break;
                }
                let point = walk.step();
                misses = if problem.fits(&point) { 0 } else { misses + 1 };
                if space.take(&point) {
                    points.push(point);
                }
            }
            while points.len() < count {
                let mut rng = Rng::new(problem.seed, first + points.len());
                let Some(point) = space.take_any(&mut rng) else { break };
                points.push(point);
            }
        }
        Ok(points.into_iter().map(|point| Proposal { point, origin: "grid" }).collect())
    }
}

/// `start + i * stride` in mixed radix, the last digit lowest.
struct Walk<'a> {
    radices: &'a [usize],
    at: Point,
    stride: Point,
}

impl<'a> Walk<'a> {
    fn new(seed: u64, radices: &'a [usize]) -> Self {
        let mut rng = Rng::new(seed, 0);
        let at = radices.iter().map(|&n| rng.below(n)).collect();
        let stride = radices.iter().map(|&n| rng.below(n)).collect();
        let mut walk = Self { radices, at, stride };
        let mut one = vec![0; radices.len()];
        if let Some(lowest) = one.last_mut() {
            *lowest = 1;
        }
        // Some number within reach is prime to all radices: 1 is, after one turn.
        while !walk.is_prime() {
            add(radices, &mut walk.stride, &one);
        }
        walk
    }

    /// Whether the stride has no divisor in common with a radix.
    fn is_prime(&self) -> bool {
        self.radices.iter().all(|&n| {
            let digits = self.radices.iter().zip(&self.stride);
            let rest = digits.fold(0, |rest, (&radix, &digit)| (rest * (radix % n) + digit % n) % n);
            gcd(rest, n) == 1
        })
    }

    fn step(&mut self) -> Point {
        let point = self.at.clone();
        add(self.radices, &mut self.at, &self.stride);
        point
    }
}

fn add(radices: &[usize], a: &mut [usize], b: &[usize]) {
    let mut carry = 0;
    for d in (0..radices.len()).rev() {
        let sum = a[d] + b[d] + carry;
        (a[d], carry) = (sum % radices[d], sum / radices[d]);
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_sees_every_point_once() {
        for radices in [vec![3, 4, 6], vec![2], vec![5, 1, 5], vec![2, 2, 2, 2]] {
            let all: usize = radices.iter().product();
            for seed in 0..5 {
                let mut walk = Walk::new(seed, &radices);
                let points: std::collections::HashSet<Point> = (0..all).map(|_| walk.step()).collect();
                assert_eq!(points.len(), all, "{radices:?}");
            }
        }
    }

    #[test]
    fn few_points_of_a_big_walk_are_spread() {
        let radices = vec![3; 42];
        let mut walk = Walk::new(0, &radices);
        let mut counts = vec![[0; 3]; 42];
        for _ in 0..200 {
            walk.step().iter().zip(&mut counts).for_each(|(&c, counts)| counts[c] += 1);
        }
        assert!(counts.iter().flatten().all(|&count| count > 40), "{counts:?}");
    }
}
