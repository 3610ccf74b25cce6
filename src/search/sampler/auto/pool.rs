//! Points to choose the next trial from.

use super::super::sensitivity::cheapest;
use super::super::space::{Rng, Space};
use super::outlook::Outlook;
use crate::error::Result;
use crate::search::Point;

/// Draws from the model, each solved for a budget of its own.
const DRAWS: usize = 6;
/// Changes of one or two dimensions of each good point.
const SWAPS: usize = 16;
/// Children of two good points.
const CHILDREN: usize = 10;
/// Of the best points, from how many the one is that is changed besides the first two.
const BEST: usize = 8;

/// Untried points, with what proposed them.
pub(super) struct Pool {
    points: Vec<(Point, &'static str)>,
}

impl Pool {
    pub(super) fn new(space: &Space, outlook: &Outlook, rng: &mut Rng) -> Result<Self> {
        let mut pool = Self { points: Vec::new() };
        let likeliest = outlook.model.harms();
        for draw in 0..=DRAWS {
            let weights = outlook.weights(rng);
            let drawn = if draw == 0 { &likeliest } else { &outlook.model.draw(rng) };
            let budget = budget(outlook, rng);
            if let Some(point) = cheapest(space.problem, &outlook.costs(drawn, &weights), budget)? {
                pool.add(space, outlook, point, "knapsack");
            }
        }
        let costs = outlook.costs(&likeliest, &outlook.weights(rng));
        for start in starts(outlook, rng) {
            // On a front a better point has no more bytes.
            let most = if outlook.is_front() {
                Some(space.problem.bytes_of(start))
            } else {
                space.problem.max_bytes
            };
            for point in swaps(space, &costs, start, most) {
                pool.add(space, outlook, point, "swap");
            }
        }
        for _ in 0..CHILDREN {
            if outlook.parents.is_pair() {
                pool.add(space, outlook, outlook.parents.child(space, rng), "nsga2");
            }
        }
        Ok(pool)
    }

    fn add(&mut self, space: &Space, outlook: &Outlook, point: Point, origin: &'static str) {
        let is_banned = point.iter().zip(&outlook.banned).any(|(&c, banned)| banned[c]);
        if !is_banned && space.is_new(&point) && self.points.iter().all(|(other, _)| *other != point) {
            self.points.push((point, origin));
        }
    }

    /// The most promising one.
    pub(super) fn best(self, outlook: &Outlook) -> Option<(Point, &'static str)> {
        let promises: Vec<(f64, f64)> = self.points.iter().map(|(point, _)| outlook.promise(point)).collect();
        let better =
            |a: usize, b: usize| promises[a].partial_cmp(&promises[b]).is_some_and(|order| order.is_gt());
        let best = (0..self.points.len()).reduce(|best, i| if better(i, best) { i } else { best })?;
        self.points.into_iter().nth(best)
    }
}

/// The budget; for a front one within a gap between measured points, in proportion to the area of the gap between
/// bytes and quality or its logarithm, which is what a point there can add at most.
fn budget(outlook: &Outlook, rng: &mut Rng) -> Option<u64> {
    let problem = outlook.problem;
    let Some(quality) = outlook.against_bytes() else { return problem.max_bytes };
    let size = |(point, values): &(&Point, &[f64])| (problem.bytes_of(point), values[quality]);
    let mut sorted: Vec<(u64, f64)> = outlook.measured.iter().map(size).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best = f64::INFINITY;
    sorted.retain(|&(_, quality)| {
        quality < best && {
            best = quality;
            true
        }
    });
    let log = rng.unit() < 0.5;
    let scale = |quality: f64| if log { quality.max(1e-12).ln() } else { quality };
    let area = |w: &[(u64, f64)]| (w[1].0 - w[0].0) as f64 * (scale(w[0].1) - scale(w[1].1));
    let areas: Vec<f64> = sorted.windows(2).map(area).collect();
    let at = rng.weighted(&areas);
    match sorted.get(at..at + 2) {
        Some([from, to]) => Some(from.0 + 1 + rng.below((to.0 - from.0) as usize) as u64),
        _ => sorted.first().map(|first| first.0),
    }
}

/// Good points: winners of tournaments on a front, else the best two and another good one.
fn starts<'a>(outlook: &Outlook<'a>, rng: &mut Rng) -> Vec<&'a Point> {
    if outlook.is_front() {
        return (0..3).map(|_| &outlook.parents.tournament(rng).point).collect();
    }
    let mut order: Vec<usize> = (0..outlook.measured.len()).collect();
    order.sort_by(|&a, &b| outlook.measured[a].1[0].total_cmp(&outlook.measured[b].1[0]));
    let chosen = [Some(&0), Some(&1), Some(&(2 + rng.below(BEST)))];
    chosen.into_iter().flatten().filter_map(|&at| Some(outlook.measured[*order.get(at)?].0)).collect()
}

/// The candidate `choice` of dimension `d` instead of another, by what that adds.
struct Change {
    d: usize,
    choice: usize,
    cost: f64,
    bytes: i128,
}

/// The best changes of one or two dimensions of `start` within `most` bytes, by summed cost, that are untried.
fn swaps(space: &Space, costs: &[Vec<f64>], start: &Point, most: Option<u64>) -> Vec<Point> {
    let bytes = &space.problem.bytes;
    let room = most.map_or(i128::MAX, |most| i128::from(most) - i128::from(space.problem.bytes_of(start)));
    let mut changes: Vec<Change> = Vec::new();
    for (d, &now) in start.iter().enumerate() {
        for choice in (0..bytes[d].len()).filter(|&c| c != now && costs[d][c].is_finite()) {
            let cost = costs[d][choice] - costs[d][now];
            let bytes = i128::from(bytes[d][choice]) - i128::from(bytes[d][now]);
            changes.push(Change { d, choice, cost, bytes });
        }
    }
    let mut found: Vec<(f64, usize, usize)> = Vec::new();
    for (i, a) in changes.iter().enumerate() {
        if a.bytes <= room {
            found.push((a.cost, i, i));
        }
        for (j, b) in changes.iter().enumerate().skip(i + 1) {
            if a.d != b.d && a.bytes + b.bytes <= room {
                found.push((a.cost + b.cost, i, j));
            }
        }
    }
    let by_cost = |a: &(f64, usize, usize), b: &(f64, usize, usize)| {
        a.0.total_cmp(&b.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
    };
    // Few of them are tried already, so the best ones are among few.
    let few = SWAPS * 8;
    if found.len() > few {
        found.select_nth_unstable_by(few, by_cost);
        found.truncate(few);
    }
    found.sort_by(by_cost);
    let point = |(_, i, j): (f64, usize, usize)| {
        let mut point = start.clone();
        [i, j].into_iter().for_each(|k| point[changes[k].d] = changes[k].choice);
        point
    };
    found.into_iter().map(point).filter(|point| space.is_new(point)).take(SWAPS).collect()
}
