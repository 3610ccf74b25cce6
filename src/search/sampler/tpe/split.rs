//! Which trials are good and which are not.

use super::super::pareto;
use super::super::space::Space;
use crate::search::{Trial, TrialState};

/// Trials in two sets, both in order of number.
pub(super) struct Split<'a> {
    pub(super) below: Vec<&'a Trial>,
    pub(super) above: Vec<&'a Trial>,
}

/// Finished trials of the space, best kind first, and unfinished ones.
pub(super) struct Classes<'a> {
    complete: Vec<&'a Trial>,
    /// Over the budget (other programs measure such), the least excess first.
    over: Vec<&'a Trial>,
    failed: Vec<&'a Trial>,
    /// Someone measures them: taken for bad, so that others look elsewhere (constant liar).
    running: Vec<&'a Trial>,
}

impl<'a> Classes<'a> {
    pub(super) fn new(space: &Space, history: &'a [Trial]) -> Self {
        let mut classes = Self { complete: vec![], over: vec![], failed: vec![], running: vec![] };
        for trial in history.iter().filter(|trial| space.holds(&trial.point)) {
            let (measured, fits) = (space.is_measured(trial), space.problem.fits(&trial.point));
            let class = match trial.state {
                TrialState::Running | TrialState::Waiting => &mut classes.running,
                _ if measured && fits => &mut classes.complete,
                _ if measured => &mut classes.over,
                _ => &mut classes.failed,
            };
            class.push(trial);
        }
        classes.over.sort_by_key(|trial| space.problem.bytes_of(&trial.point));
        classes
    }

    /// How many are finished.
    pub(super) fn finished(&self) -> usize {
        self.complete.len() + self.over.len() + self.failed.len()
    }

    /// The best `good` finished trials and the others: by value, or by rank among several values, ties within a rank
    /// for the most hypervolume.
    pub(super) fn split(self, good: usize) -> Split<'a> {
        let mut sorted: Vec<&Trial> = if self.complete.iter().all(|trial| trial.values.len() == 1) {
            let mut sorted = self.complete;
            sorted.sort_by(|a, b| a.values[0].total_cmp(&b.values[0]));
            sorted
        } else {
            let values: Vec<Vec<f64>> = self.complete.iter().map(|trial| trial.values.clone()).collect();
            let is_good = best(&values, good);
            let part = |want: bool| is_good.iter().zip(&self.complete).filter(move |(is, _)| **is == want);
            part(true).chain(part(false)).map(|(_, &trial)| trial).collect()
        };
        sorted.extend(self.over);
        sorted.extend(self.failed);
        let mut above = sorted.split_off(good.min(sorted.len()));
        above.extend(self.running);
        above.sort_by_key(|trial| trial.number);
        sorted.sort_by_key(|trial| trial.number);
        Split { below: sorted, above }
    }
}

/// Marks `count` of the points: ranks as long as they fit whole, of the next one the subset of most hypervolume.
fn best(values: &[Vec<f64>], count: usize) -> Vec<bool> {
    let ranks = pareto::ranks(values);
    let mut chosen = vec![false; values.len()];
    let (mut rank, mut left) = (0, count.min(values.len()));
    while left > 0 {
        let members: Vec<usize> = (0..values.len()).filter(|&i| ranks[i] == rank).collect();
        let points: Vec<Vec<f64>> = members.iter().map(|&i| values[i].clone()).collect();
        let whole = members.len() <= left;
        let taken = if whole { (0..members.len()).collect() } else { subset(&points, left) };
        left -= taken.len();
        taken.into_iter().for_each(|i| chosen[members[i]] = true);
        rank += 1;
    }
    chosen
}

/// The point that the hypervolume is counted from: the worst values, a tenth worse.
pub(super) fn reference(values: &[Vec<f64>]) -> Vec<f64> {
    let worst = |m: usize| values.iter().map(|v| v[m]).fold(f64::NEG_INFINITY, f64::max);
    let away = |x: f64| f64::max(1.1 * x, 0.9 * x);
    let count = values.first().map_or(0, Vec::len);
    (0..count).map(|m| away(worst(m))).map(|x| if x == 0.0 { 1e-12 } else { x }).collect()
}

/// `count` of the points with about the most hypervolume: always the one that adds most (within 1 - 1/e of the best
/// subset; Guerreiro et al. 2016). Equal points count once as long as there are others.
fn subset(points: &[Vec<f64>], count: usize) -> Vec<usize> {
    let mut unique = pareto::lexicographic(points);
    unique.dedup_by(|a, b| points[*a] == points[*b]);
    if unique.len() <= count {
        let others = (0..points.len()).filter(|i| !unique.contains(i));
        let mut taken = unique.clone();
        taken.extend(others.take(count - unique.len()));
        return taken;
    }
    let reference = reference(points);
    if reference.iter().any(|r| !r.is_finite()) {
        unique.truncate(count);
        return unique;
    }
    // What a point adds only shrinks as others are taken, so the last known additions bound the present ones.
    let volume = |p: &[f64]| -> f64 { p.iter().zip(&reference).map(|(p, r)| r - p).product() };
    let mut left: Vec<(usize, f64)> = unique.iter().map(|&i| (i, volume(&points[i]))).collect();
    let mut taken: Vec<usize> = Vec::new();
    while taken.len() < count {
        let mut best: Option<(usize, f64)> = None;
        let mut order: Vec<usize> = (0..left.len()).collect();
        order.sort_by(|&a, &b| left[b].1.total_cmp(&left[a].1));
        for at in order {
            let (i, bound) = left[at];
            if best.is_some_and(|(_, most)| bound < most) {
                break;
            }
            // Its own volume less what those taken share with it.
            let join = |&j: &usize| points[i].iter().zip(&points[j]).map(|(a, b)| a.max(*b)).collect();
            let shared: Vec<Vec<f64>> = taken.iter().map(join).collect();
            let adds = volume(&points[i]) - pareto::hypervolume(&shared, &reference);
            left[at].1 = adds;
            if best.is_none_or(|(other, most)| adds > most || adds == most && at < other) {
                best = Some((at, adds));
            }
        }
        let Some((at, _)) = best else { break };
        taken.push(left.remove(at).0);
    }
    taken
}

/// What each point alone adds to the hypervolume of all, over the most any adds; at least 1e-12 (Ozaki et al. 2022).
pub(super) fn contributions(values: &[Vec<f64>]) -> Vec<f64> {
    const LEAST: f64 = 1e-12;
    let reference = reference(values);
    if values.len() <= 1 || reference.iter().any(|r| !r.is_finite()) {
        return vec![1.0; values.len()];
    }
    let front = pareto::front(values);
    let points: Vec<Vec<f64>> = front.iter().map(|&i| values[i].clone()).collect();
    let all = pareto::hypervolume(&points, &reference);
    let mut adds = vec![0.0; values.len()];
    for (at, &i) in front.iter().enumerate() {
        let mut others = points.clone();
        others.swap_remove(at);
        adds[i] = all - pareto::hypervolume(&others, &reference);
    }
    let most = adds.iter().copied().fold(LEAST, f64::max);
    adds.iter().map(|&add| (add / most).max(LEAST)).collect()
}
