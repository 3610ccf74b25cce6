//! Candidates for the next trial.

use super::super::sensitivity::cheapest;
use super::super::space::{Rng, Space};
use super::target::Outlook;
use crate::error::Result;
use crate::search::{Objective, Point};

/// Draws from the model, each solved for its own budget.
const DRAWS: usize = 6;
/// Changes of good points, for each of them.
const SWAPS: usize = 16;
/// Children of good points.
const CHILDREN: usize = 8;

/// Untried points with what proposed them.
pub(super) struct Pool {
    points: Vec<(Point, &'static str)>,
}

impl Pool {
    pub(super) fn new(space: &Space, outlook: &Outlook, rng: &mut Rng) -> Result<Self> {
        let mut pool = Self { points: Vec::new() };
        let likeliest = outlook.model.harms();
        for draw in 0..=DRAWS {
            let harms = if draw == 0 { likeliest.clone() } else { outlook.model.draw(rng) };
            let budget = if outlook.is_front() { Some(gap(outlook, rng)) } else { space.problem.max_bytes };
            if let Some(point) = cheapest(space.problem, &costs(outlook, &harms), budget)? {
                pool.add(space, point, "knapsack");
            }
        }
        let costs = costs(outlook, &likeliest);
        let mut starts: Vec<&Point> = Vec::new();
        if outlook.is_front() {
            starts.extend((0..3).map(|_| &outlook.parents.tournament(rng).point));
        } else {
            let mut order: Vec<usize> = (0..outlook.measured.len()).collect();
            order.sort_by(|&a, &b| outlook.measured[a].1[0].total_cmp(&outlook.measured[b].1[0]));
            starts.extend(order.iter().take(2).map(|&i| outlook.measured[i].0));
            starts.extend(order.get(2 + rng.below(8)).map(|&i| outlook.measured[i].0));
        }
        for start in starts {
            let most = if outlook.is_front() {
                Some(space.problem.bytes_of(start))
            } else {
                space.problem.max_bytes
            };
            for point in swaps(space, &costs, start, most) {
                pool.add(space, point, "swap");
            }
        }
        if outlook.parents.is_pair() {
            for _ in 0..CHILDREN {
                pool.add(space, outlook.parents.child(space, rng), "nsga2");
            }
        }
        Ok(pool)
    }

    fn add(&mut self, space: &Space, point: Point, origin: &'static str) {
        if space.is_new(&point) && self.points.iter().all(|(other, _)| *other != point) {
            self.points.push((point, origin));
        }
    }

    /// The most promising one.
    pub(super) fn best(self, outlook: &Outlook) -> Option<(Point, &'static str)> {
        let promises: Vec<(f64, f64)> = self.points.iter().map(|(point, _)| outlook.promise(point)).collect();
        let better = |a: usize, b: usize| promises[a].partial_cmp(&promises[b]).is_some_and(|o| o.is_gt());
        let best = (0..self.points.len()).reduce(|best, i| if better(i, best) { i } else { best })?;
        self.points.into_iter().nth(best)
    }
}

/// What the objective makes of harms; harm alone for a front, which has its budgets.
fn costs(outlook: &Outlook, harms: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let cost = |harm: f64, bytes: u64| match &outlook.problem.objective {
        Objective::Scalar { alpha, .. } => alpha * harm + (1.0 - alpha) * bytes as f64 / f64::from(1 << 20),
        Objective::Metrics(_) => harm,
    };
    let row = |(harms, bytes): (&Vec<f64>, &Vec<u64>)| {
        harms.iter().zip(bytes).map(|(&harm, &bytes)| cost(harm, bytes)).collect()
    };
    harms.iter().zip(&outlook.problem.bytes).map(row).collect()
}

/// A budget within a gap of the front between size and quality, gaps by their areas.
fn gap(outlook: &Outlook, rng: &mut Rng) -> u64 {
    let problem = outlook.problem;
    let objective = &problem.objective;
    let at = match objective {
        Objective::Metrics(metrics) => {
            metrics.iter().position(|m| matches!(m, crate::search::Metric::Quality(_)))
        }
        Objective::Scalar { .. } => None,
    };
    let quality = |values: &[f64]| at.map_or(0.0, |at| values[at]);
    let mut sorted: Vec<(u64, f64)> =
        outlook.measured.iter().map(|(point, values)| (problem.bytes_of(point), quality(values))).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best = f64::INFINITY;
    sorted.retain(|&(_, quality)| {
        quality < best && {
            best = quality;
            true
        }
    });
    let log = rng.unit() < 0.5;
    let scale = |q: f64| if log { q.max(1e-12).ln() } else { q };
    let areas: Vec<f64> =
        sorted.windows(2).map(|w| (w[1].0 - w[0].0) as f64 * (scale(w[0].1) - scale(w[1].1))).collect();
    if areas.is_empty() {
        return sorted.first().map_or(problem.least_bytes(), |s| s.0);
    }
    let i = rng.weighted(&areas);
    let (from, to) = (sorted[i].0, sorted[i + 1].0);
    from + 1 + rng.below((to - from) as usize) as u64
}

/// The best changes of one or two dimensions of `start` within `most` bytes, by summed cost.
fn swaps(space: &Space, costs: &[Vec<f64>], start: &Point, most: Option<u64>) -> Vec<Point> {
    let bytes = &space.problem.bytes;
    let now = space.problem.bytes_of(start);
    let room = most.map_or(i64::MAX, |most| most as i64 - now as i64);
    let mut moves: Vec<(usize, usize, f64, i64)> = Vec::new();
    for (d, &at) in start.iter().enumerate() {
        for c in (0..bytes[d].len()).filter(|&c| c != at) {
            moves.push((d, c, costs[d][c] - costs[d][at], bytes[d][c] as i64 - bytes[d][at] as i64));
        }
    }
    let mut found: Vec<(f64, usize, usize)> = Vec::new();
    for (i, a) in moves.iter().enumerate() {
        if a.3 <= room {
            found.push((a.2, i, i));
        }
        for (j, b) in moves.iter().enumerate().skip(i + 1) {
            if a.0 != b.0 && a.3 + b.3 <= room {
                found.push((a.2 + b.2, i, j));
            }
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut points = Vec::new();
    for (_, i, j) in found {
        let mut point = start.clone();
        for (d, c, ..) in [moves[i], moves[j]] {
            point[d] = c;
        }
        if space.is_new(&point) {
            points.push(point);
        }
        if points.len() == SWAPS {
            break;
        }
    }
    points
}
