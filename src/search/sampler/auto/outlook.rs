//! What an unmeasured point promises.

use super::super::nsga2::Parents;
use super::super::space::{Rng, Space};
use super::super::{pareto, sensitivity};
use super::model::Model;
use super::prior::median;
use super::sums::Sums;
use crate::search::{Metric, Objective, Point, Problem, Quality, Size, Trial, TrialState};

/// Trials that models are fitted to, at most: two thirds of them the best, the others the latest.
const MOST_POINTS: usize = 200;
/// Trials without which there is nothing to fit.
const FEWEST_POINTS: usize = 3;
/// Points that others measure right now and that count, at most.
const MOST_RUNNING: usize = 64;
/// Parents of crossed points.
const PARENTS: usize = 30;

/// How a value of the objective is known for a point that was not measured.
enum Term {
    /// By the model.
    Quality,
    /// Another quality: by the model, and what it has more in the median.
    Offset(f64),
    /// Exactly.
    Bytes,
    /// By regression.
    Sums(Sums),
}

/// The models, and what there is to improve on.
pub(super) struct Outlook<'a> {
    pub(super) problem: &'a Problem,
    pub(super) model: Model,
    terms: Vec<Term>,
    /// Candidates that have failed more than once and never succeeded, `[dimension][candidate]`.
    pub(super) banned: Vec<Vec<bool>>,
    pub(super) parents: Parents<'a>,
    /// Measured points that fit, with their values, and points taken for measured.
    pub(super) measured: Vec<(&'a Point, &'a [f64])>,
    believed: Vec<Vec<f64>>,
    /// Whether volumes are those of the logarithm of the harm.
    log: bool,
    /// What no other dominates, and the corner that volumes are counted from.
    front: Vec<Vec<f64>>,
    reference: Vec<f64>,
}

impl<'a> Outlook<'a> {
    /// `None` where too little is known.
    pub(super) fn new(space: &Space<'a>, history: &'a [Trial]) -> Option<Self> {
        let problem = space.problem;
        let is_finite = |t: &&Trial| t.values.iter().all(|value| value.is_finite());
        let known =
            history.iter().filter(is_finite).filter_map(|t| Some((t, sensitivity::quality(space, t)?)));
        let known: Vec<(&Trial, f64)> = known.collect();
        let fitting: Vec<&Trial> = known.iter().map(|(t, _)| *t).filter(|t| problem.fits(&t.point)).collect();
        if known.len() < FEWEST_POINTS || fitting.is_empty() {
            return None;
        }
        let chosen = telling(&known);
        let points: Vec<&[usize]> = chosen.iter().map(|(t, _)| t.point.as_slice()).collect();
        let qualities: Vec<f64> = chosen.iter().map(|(_, quality)| *quality).collect();
        let mut model = Model::fit(&problem.noise, &points, &qualities, base(problem, &known));
        let running = |t: &&Trial| matches!(t.state, TrialState::Running | TrialState::Waiting);
        let running = history.iter().rev().filter(running).filter(|t| space.holds(&t.point));
        running.take(MOST_RUNNING).for_each(|t| model.believe(&t.point));
        let mut outlook = Self {
            problem,
            model,
            terms: terms(problem, &chosen),
            banned: banned(space, history),
            measured: fitting.iter().map(|t| (&t.point, t.values.as_slice())).collect(),
            parents: Parents::survivors(fitting, PARENTS),
            believed: Vec::new(),
            log: false,
            front: Vec::new(),
            reference: Vec::new(),
        };
        outlook.count_volumes(false);
        Some(outlook)
    }

    /// Counts volumes by the harm itself, where the points of few bytes differ most, or by its logarithm, where all
    /// widths are alike.
    pub(super) fn count_volumes(&mut self, log: bool) {
        self.log = log && self.is_front();
        let values =
            self.measured.iter().map(|(_, values)| *values).chain(self.believed.iter().map(Vec::as_slice));
        let values: Vec<Vec<f64>> = values.map(|values| self.scaled(values)).collect();
        self.front = pareto::front(&values).into_iter().map(|i| values[i].clone()).collect();
        let corner = |m: usize| {
            let (least, most) = self.range(m);
            most + 0.05 * (most - least) + 1e-9 * most.abs()
        };
        self.reference = (0..self.problem.objective.count()).map(corner).collect();
    }

    /// Values on the axes of the volume.
    fn scaled(&self, values: &[f64]) -> Vec<f64> {
        let is_quality = |at: &usize| self.log && matches!(self.terms[*at], Term::Quality);
        // The base of a loss is an estimate, and no harm is below its error.
        let (base, least) = match self.problem.objective.quality() {
            Quality::Kl => (0.0, 1e-12),
            Quality::Loss | Quality::Error => (self.model.base(), 1e-4),
        };
        let scale = |(at, &value): (usize, &f64)| {
            if is_quality(&at) { (value - base).max(least).ln() } else { value }
        };
        values.iter().enumerate().map(scale).collect()
    }

    /// Least and most of value `m` on the front.
    fn range(&self, m: usize) -> (f64, f64) {
        let values = || self.front.iter().map(|values| values[m]);
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
    }

    /// Whether several things are minimised.
    pub(super) fn is_front(&self) -> bool {
        self.problem.objective.count() > 1
    }

    /// The value that stands for quality next to bytes, where bytes are minimised too.
    pub(super) fn against_bytes(&self) -> Option<usize> {
        let is_bytes = |term: &Term| matches!(term, Term::Bytes);
        let other = self.terms.iter().position(|term| !is_bytes(term));
        other.filter(|_| self.is_front() && self.terms.iter().any(is_bytes))
    }

    /// Value `m` of the terms of `point`, were its quality `quality`.
    fn term(&self, m: usize, point: &[usize], quality: f64) -> f64 {
        match &self.terms[m] {
            Term::Quality => quality,
            Term::Offset(more) => quality + more,
            Term::Bytes => self.problem.bytes_of(point) as f64,
            Term::Sums(sums) => sums.of(point),
        }
    }

    /// Values of the objective at `point`, were its quality `quality`.
    fn values(&self, point: &[usize], quality: f64) -> Vec<f64> {
        let terms: Vec<f64> = (0..self.terms.len()).map(|m| self.term(m, point, quality)).collect();
        match &self.problem.objective {
            Objective::Scalar { alpha, .. } => vec![alpha * terms[0] + (1.0 - alpha) * terms[1] / MEBIBYTE],
            Objective::Metrics(_) => terms,
        }
    }

    /// What each term weighs in a cost to minimise: that of the objective; for a front the quality and, for every
    /// second draw, random shares of the terms that have no budget.
    pub(super) fn weights(&self, rng: &mut Rng) -> Vec<f64> {
        if let Objective::Scalar { alpha, .. } = self.problem.objective {
            return vec![alpha, (1.0 - alpha) / MEBIBYTE];
        }
        if !self.is_front() {
            return vec![1.0];
        }
        let has_budget = self.against_bytes().is_some();
        let quality_only = rng.unit() < 0.5 && has_budget;
        let mut weight = |m: usize| {
            let values = || self.measured.iter().map(|(_, values)| values[m]);
            let range = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
            let unit = if range > 0.0 { 1.0 / range } else { 1.0 };
            match &self.terms[m] {
                Term::Quality => unit,
                Term::Offset(_) => 0.0,
                Term::Bytes if has_budget => 0.0,
                _ if quality_only => 0.0,
                _ => unit * (1.5 * rng.normal() - 1.0).exp(),
            }
        };
        (0..self.terms.len()).map(&mut weight).collect()
    }

    /// The weighted sum of the terms for each candidate, were its harm that of `harms`; infinite for banned ones.
    pub(super) fn costs(&self, harms: &[Vec<f64>], weights: &[f64]) -> Vec<Vec<f64>> {
        let cost = |d: usize, c: usize| {
            let term = |(term, weight): (&Term, &f64)| match term {
                Term::Quality => weight * harms[d][c],
                Term::Offset(_) => 0.0,
                Term::Bytes => weight * self.problem.bytes[d][c] as f64,
                Term::Sums(sums) => weight * sums.table[d][c],
            };
            let sum: f64 = self.terms.iter().zip(weights).map(term).sum();
            if self.banned[d][c] || sum.is_nan() { f64::INFINITY } else { sum }
        };
        (0..harms.len()).map(|d| (0..harms[d].len()).map(|c| cost(d, c)).collect()).collect()
    }

    /// The expected improvement at `point`, of the best value (Jones et al. 1998) or of the hypervolume (Emmerich
    /// 2005; by Gauss-Hermite quadrature); then what decides between equal ones.
    pub(super) fn promise(&self, point: &[usize]) -> (f64, f64) {
        // Nodes for a standard normal, and their weights.
        const NODES: [(f64, f64); 5] = [
            (-2.856_970_013_872_806, 0.011_257_411_327_720_69),
            (-1.355_626_179_974_266, 0.222_075_922_005_612_7),
            (0.0, 0.533_333_333_333_333_3),
            (1.355_626_179_974_266, 0.222_075_922_005_612_7),
            (2.856_970_013_872_806, 0.011_257_411_327_720_69),
        ];
        let (mean, deviation) = self.model.predict(point);
        if !self.is_front() {
            let value = self.values(point, mean)[0];
            let slope = self.values(point, mean + deviation)[0] - value;
            return (improvement(self.best() - value, slope.abs()), -value);
        }
        let gain = |z: f64| {
            let values = self.scaled(&self.values(point, mean + z * deviation));
            pareto::exclusive(&values, &self.front, &self.reference)
        };
        (NODES.iter().map(|&(z, weight)| weight * gain(z)).sum(), 0.0)
    }

    /// The best value of one objective.
    fn best(&self) -> f64 {
        self.front.iter().map(|values| values[0]).fold(f64::INFINITY, f64::min)
    }

    /// Takes the prediction at `point` for measured.
    pub(super) fn believe(&mut self, point: &[usize]) {
        let (mean, _) = self.model.predict(point);
        self.model.believe(point);
        if self.is_front() {
            self.believed.push(self.values(point, mean));
        }
    }
}

const MEBIBYTE: f64 = (1u64 << 20) as f64;

/// `E[max(0, x)]` of a normal `x`.
fn improvement(mean: f64, deviation: f64) -> f64 {
    if deviation <= 0.0 {
        return mean.max(0.0);
    }
    let z = mean / deviation;
    let below = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    (mean * below + deviation * density).max(0.0)
}

/// The trials to fit to, in their order.
fn telling<'a>(known: &[(&'a Trial, f64)]) -> Vec<(&'a Trial, f64)> {
    let values: Vec<Vec<f64>> = known.iter().map(|(t, _)| t.values.clone()).collect();
    let ranks = pareto::ranks(&values);
    let mut order: Vec<usize> = (0..known.len()).rev().collect();
    order.sort_by_key(|&i| ranks[i]);
    let mut late = order.split_off(order.len().min(MOST_POINTS * 2 / 3));
    late.sort_unstable_by(|a, b| b.cmp(a));
    late.truncate(MOST_POINTS / 3);
    order.extend(late);
    order.sort_unstable();
    order.into_iter().map(|i| known[i]).collect()
}

/// How the values of the objective are known; of a scalar one its quality and its size.
fn terms(problem: &Problem, trials: &[(&Trial, f64)]) -> Vec<Term> {
    let sums = |value: &dyn Fn(&Trial) -> Option<f64>| {
        let known = trials.iter().filter_map(|(t, _)| Some((t.point.as_slice(), value(t)?)));
        let (points, values): (Vec<&[usize]>, Vec<f64>) =
            known.filter(|(_, value)| value.is_finite()).unzip();
        Term::Sums(Sums::fit(&problem.bytes, &points, &values))
    };
    let nominal = |t: &Trial| t.measurement.as_ref().map(|m| m.nominal_bytes as f64);
    let metrics = match &problem.objective {
        Objective::Scalar { size: Size::Packed, .. } => return vec![Term::Quality, Term::Bytes],
        Objective::Scalar { size: Size::Nominal, .. } => return vec![Term::Quality, sums(&nominal)],
        Objective::Metrics(metrics) => metrics,
    };
    let main = problem.objective.quality();
    let term = |(at, metric): (usize, &Metric)| match metric {
        Metric::Quality(quality) if *quality == main => Term::Quality,
        Metric::Quality(_) => {
            Term::Offset(median(trials.iter().map(|(t, y)| t.values[at] - y).collect()).unwrap_or(0.0))
        }
        Metric::Size(Size::Packed) => Term::Bytes,
        Metric::Size(Size::Nominal) | Metric::Latency => sums(&|t: &Trial| t.values.get(at).copied()),
    };
    metrics.iter().enumerate().map(term).collect()
}

/// Candidates that only ever failed, as long as their dimension has others.
fn banned(space: &Space, history: &[Trial]) -> Vec<Vec<bool>> {
    let mut counts: Vec<Vec<(usize, usize)>> =
        space.problem.bytes.iter().map(|row| vec![(0, 0); row.len()]).collect();
    for trial in history.iter().filter(|trial| space.holds(&trial.point)) {
        let works = space.is_measured(trial) && trial.values.iter().all(|value| value.is_finite());
        let fails = !works && matches!(trial.state, TrialState::Failed | TrialState::Complete);
        for (counts, &c) in counts.iter_mut().zip(&trial.point) {
            counts[c].0 += usize::from(works);
            counts[c].1 += usize::from(fails);
        }
    }
    let row = |counts: Vec<(usize, usize)>| -> Vec<bool> {
        let row: Vec<bool> = counts.iter().map(|&(works, fails)| works == 0 && fails > 1).collect();
        if row.contains(&false) { row } else { vec![false; row.len()] }
    };
    counts.into_iter().map(row).collect()
}

/// Mean and deviation of the quality of a model without harm.
fn base(problem: &Problem, trials: &[(&Trial, f64)]) -> (f64, f64) {
    let qualities = || trials.iter().map(|(_, quality)| *quality);
    let (least, most) =
        (qualities().fold(f64::INFINITY, f64::min), qualities().fold(f64::NEG_INFINITY, f64::max));
    if problem.objective.quality() == Quality::Kl {
        return (0.0, 0.02 * least.abs());
    }
    if problem.objective.quality() == Quality::Error {
        // The best seen: quantization may as well correct a few predictions as spoil them.
        return (least, 0.05 * (most - least) + 1e-3);
    }
    // The divergence is about what the loss has more than that of the f32 model.
    let more = trials.iter().filter_map(|(t, loss)| Some(loss - t.measurement.as_ref()?.kl));
    let middle = median(more.filter(|base| base.is_finite()).collect()).unwrap_or(least);
    (middle.min(least), 0.05 * (most - least) + 1e-3 * least.abs())
}
