//! What an unmeasured point promises.

use super::super::nsga2::Parents;
use super::super::space::Space;
use super::super::{pareto, sensitivity};
use super::model::Model;
use crate::search::{Metric, Objective, Point, Problem, Quality, Trial};

/// Trials that a model is fitted to, at most.
const MOST_POINTS: usize = 240;

/// The model, and what there is to improve on.
pub(super) struct Outlook<'a> {
    pub(super) problem: &'a Problem,
    pub(super) model: Model,
    pub(super) parents: Parents<'a>,
    /// Measured points with their values.
    pub(super) measured: Vec<(&'a Point, Vec<f64>)>,
    /// Of those that no other dominates.
    front: Vec<Vec<f64>>,
    reference: Vec<f64>,
    log: bool,
    believed: Vec<Vec<f64>>,
}

impl<'a> Outlook<'a> {
    /// `None` where too little is known.
    pub(super) fn new(space: &Space<'a>, history: &'a [Trial]) -> Option<Self> {
        let problem = space.problem;
        let trials: Vec<(&Trial, f64)> = history
            .iter()
            .filter(|t| t.values.iter().all(|v| v.is_finite()))
            .filter_map(|t| Some((t, sensitivity::quality(space, t)?)))
            .collect();
        if trials.len() < 3 {
            return None;
        }
        // The best ones and the latest ones.
        let values: Vec<Vec<f64>> = trials.iter().map(|(t, _)| t.values.clone()).collect();
        let ranks = pareto::ranks(&values);
        let mut order: Vec<usize> = (0..trials.len()).collect();
        order.sort_by_key(|&i| (ranks[i], trials.len() - i));
        let late = order.split_off(order.len().min(MOST_POINTS * 2 / 3));
        let mut late = late;
        late.sort_unstable_by(|a, b| b.cmp(a));
        late.truncate(MOST_POINTS / 3);
        order.extend(late);
        order.sort_unstable();
        let points: Vec<&[usize]> = order.iter().map(|&i| trials[i].0.point.as_slice()).collect();
        let qualities: Vec<f64> = order.iter().map(|&i| trials[i].1).collect();
        let (base, deviation) = base(problem, &trials);
        let model = Model::fit(&problem.noise, &points, &qualities, base, deviation);
        let measured: Vec<(&Point, Vec<f64>)> = trials
            .iter()
            .filter(|(t, _)| problem.fits(&t.point))
            .map(|(t, _)| (&t.point, t.values.clone()))
            .collect();
        let is_parent = |(t, _): &&(&Trial, f64)| problem.fits(&t.point);
        let parents = Parents::survivors(trials.iter().filter(is_parent).map(|(t, _)| *t).collect(), 30);
        let mut outlook = Self {
            problem,
            model,
            parents,
            measured,
            front: Vec::new(),
            reference: Vec::new(),
            log: false,
            believed: vec![],
        };
        outlook.refresh();
        (!outlook.measured.is_empty()).then_some(outlook)
    }

    pub(super) fn turn(&mut self, log: bool) {
        if log != self.log {
            self.log = log;
            self.refresh();
        }
    }
    fn refresh(&mut self) {
        let values: Vec<Vec<f64>> = self
            .measured
            .iter()
            .map(|(_, values)| values)
            .chain(&self.believed)
            .map(|v| self.scaled(v))
            .collect();
        self.front = pareto::front(&values).into_iter().map(|i| values[i].clone()).collect();
        let count = self.problem.objective.count();
        let worst = |m: usize| {
            let all = || self.front.iter().map(|v| v[m]);
            let (least, most) =
                (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
            most + 0.05 * (most - least) + 1e-9 * most.abs()
        };
        self.reference = (0..count).map(worst).collect();
    }

    /// Values on the axes in which volume is counted.
    fn scaled(&self, values: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        if self.log && self.is_front() {
            values[0] = values[0].max(1e-9).ln();
        }
        values
    }

    /// Whether several things are minimised.
    pub(super) fn is_front(&self) -> bool {
        self.problem.objective.count() > 1
    }

    /// Values of `point`, were its quality `quality`.
    fn values(&self, point: &[usize], quality: f64) -> Vec<f64> {
        let bytes = self.problem.bytes_of(point) as f64;
        match &self.problem.objective {
            Objective::Scalar { alpha, .. } => {
                vec![alpha * quality + (1.0 - alpha) * bytes / f64::from(1 << 20)]
            }
            Objective::Metrics(metrics) => metrics
                .iter()
                .map(|metric| match metric {
                    Metric::Quality(_) => quality,
                    Metric::Size(_) | Metric::Latency => bytes,
                })
                .collect(),
        }
    }

    /// The expected improvement at `point`: of the best value (Jones et al. 1998), or of the hypervolume, by
    /// Gauss-Hermite quadrature.
    pub(super) fn promise(&self, point: &[usize]) -> (f64, f64) {
        let (mean, deviation) = self.model.predict(point);
        if !self.is_front() {
            let value = self.values(point, mean)[0];
            let slope = self.values(point, mean + 1.0)[0] - value;
            let best = self.front.iter().map(|v| v[0]).fold(f64::INFINITY, f64::min);
            return (improvement(best - value, deviation * slope.abs()), -value);
        }
        const NODES: [(f64, f64); 5] = [
            (-2.856970013872806, 0.011257411327720689),
            (-1.355626179974266, 0.22207592200561266),
            (0.0, 0.5333333333333333),
            (1.355626179974266, 0.22207592200561266),
            (2.856970013872806, 0.011257411327720689),
        ];
        let before = pareto::hypervolume(&self.front, &self.reference);
        let gain = |z: f64| {
            let mut with = self.front.clone();
            with.push(self.scaled(&self.values(point, mean + z * deviation)));
            pareto::hypervolume(&with, &self.reference) - before
        };
        (NODES.iter().map(|&(z, weight)| weight * gain(z)).sum(), 0.0)
    }

    /// Takes the prediction at `point` for measured.
    pub(super) fn believe(&mut self, point: &[usize]) {
        let (mean, _) = self.model.predict(point);
        self.model.believe(point);
        if self.is_front() {
            self.believed.push(self.values(point, mean));
            let values = self.scaled(&self.values(point, mean));
            self.front.push(values);
        }
    }
}

/// `E[max(0, x)]` of a normal `x`.
fn improvement(mean: f64, deviation: f64) -> f64 {
    if deviation <= 0.0 {
        return mean.max(0.0);
    }
    let z = mean / deviation;
    let below = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    mean * below + deviation * density
}

/// Mean and deviation of the quality of a model without harm.
fn base(problem: &Problem, trials: &[(&Trial, f64)]) -> (f64, f64) {
    let least = trials.iter().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    if problem.objective.quality() == Quality::Kl {
        return (0.0, 0.02 * least.abs());
    }
    // Divergence is about what the loss has more than that of the f32 model.
    let mut bases: Vec<f64> = trials
        .iter()
        .filter_map(|(t, y)| Some(y - t.measurement.as_ref()?.kl))
        .filter(|b| b.is_finite())
        .collect();
    bases.sort_by(f64::total_cmp);
    let most = trials.iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
    let deviation = 0.05 * (most - least) + 1e-3 * least.abs();
    let middle = bases.get(bases.len() / 2).copied().unwrap_or(least);
    (middle.min(least), deviation)
}
