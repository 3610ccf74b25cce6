//! What single choices do: the harm of each candidate of each layer, and how much of the variance a layer explains.
//!
//! Trials are few and samplers do not choose at random, so means over the trials that have a choice mix its effect with
//! that of the choices that came along with it. An additive model takes them apart:
//!
//! `t(y) = mean + sum over layers of effect[layer][choice]`
//!
//! fitted by ridge regression on one-hot choices, with the penalty that leaves the least squared error on trials not
//! seen (five folds). `t` is the identity or the logarithm, whichever predicts the order of such trials better. Under the
//! identity a trial weighs `1 / (|y| + median |y|)^2`: what is wrong with the model, and noise, grows with the value, and
//! good trials are those that matter. What an additive model cannot say is left out: where it explains less than a fifth
//! of the variance of unseen trials there is no result. Standard errors are those of a jackknife over ten groups of trials,
//! which knows about trials that chose alike.
//!
//! Importance is the variance of a layer's effect over its candidates, each equally likely, over the sum of all layers':
//! the main effects of a functional analysis of variance, as in fANOVA (Hutter, Hoos and Leyton-Brown 2014), whose random
//! forest is replaced by the additive model.

use std::collections::HashSet;

use rayon::prelude::*;

use super::statistics::quantile;

/// Fewest different points that anything is said about.
const FEWEST: usize = 16;
/// Least share of the variance of unseen trials that the model must explain.
const LEAST_EXPLAINED: f64 = 0.2;
/// Most choices, points times dimensions, that are fitted; of more points, so many evenly spread ones.
const MOST: usize = 400_000;
/// What logarithms take 0 for, over the median: a layer mix without any loss is no outlier without end.
const LEAST_OF_MEDIAN: f64 = 1e-3;
const FOLDS: usize = 5;
/// Groups of the jackknife.
const GROUPS: usize = 10;
/// Penalties tried, in trials: an effect seen in `n` trials is shrunk by about `n / (n + penalty)`.
const PENALTIES: [f64; 4] = [30.0, 3.0, 0.3, 0.01];
/// Steps of a fit at most, and the relative gradient that ends it.
const STEPS: usize = 400;
const GRADIENT: f64 = 1e-7;
/// The same where penalties are compared.
const ROUGH_STEPS: usize = 100;
const ROUGH_GRADIENT: f64 = 1e-3;

/// What is additive in the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The value.
    Identity,
    /// Its logarithm: effects are factors. Values below a thousandth of the median count as that.
    Log,
}

/// What one candidate does in one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Over the layer's least harmful candidate, on the scale of the transform; not negative.
    pub harm: f64,
    /// Its standard error.
    pub error: f64,
    /// Trials that have it.
    pub trials: usize,
}

/// The additive model of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    /// What is additive.
    pub transform: Transform,
    /// `[dimension][candidate]`; `None` for what no trial has.
    pub effects: Vec<Vec<Option<Effect>>>,
    /// Share of each dimension in the variance that choices cause; they add up to 1, or are all 0.
    pub importance: Vec<f64>,
    /// Share of the variance of unseen trials that the model explains.
    pub explained: f64,
    /// Different points it was fitted to.
    pub trials: usize,
}

/// Fits `values` of `points`, each point a choice per dimension out of as many as `choices` says.
///
/// # Errors
/// A sentence that says why there is nothing to say.
pub fn effects(points: &[&[usize]], values: &[f64], choices: &[usize]) -> Result<Effects, String> {
    let mut seen = HashSet::new();
    // A point measured twice would be its own prediction.
    let mut sound: Vec<(&[usize], f64)> = points
        .iter()
        .zip(values)
        .filter(|(point, value)| value.is_finite() && is_point(point, choices) && seen.insert(**point))
        .map(|(point, value)| (*point, *value))
        .collect();
    let most = (MOST / choices.len().max(1)).max(FEWEST);
    if sound.len() > most {
        sound = (0..most).map(|i| sound[i * sound.len() / most]).collect();
    }
    let count = sound.len();
    if count < FEWEST {
        return Err(format!("too few trials: {count} different ones, {FEWEST} are wanted"));
    }
    let all: Vec<f64> = sound.iter().map(|d| d.1).collect();
    let floor = quantile(&all, 0.5) * LEAST_OF_MEDIAN;
    let positive = floor > 0.0 && all.iter().all(|value| *value >= 0.0);
    let transforms = [Transform::Identity, Transform::Log].into_iter();
    let mut best: Option<(f64, Fit)> = None;
    for transform in transforms.filter(|t| positive || *t == Transform::Identity) {
        let data = Data::new(&sound, choices, transform, floor);
        let total = data.spread();
        if squares(&data.values) <= 1e-24 * data.values.iter().map(|v| v * v).sum::<f64>() {
            return Err("all trials are equally good".to_owned());
        }
        for (penalty, predicted) in validate(&data) {
            let missed = data.distance(|i| predicted[i]);
            let order = correlation(&ranks(&predicted), &ranks(&data.values));
            let fit = Fit { transform, penalty, explained: 1.0 - missed / total };
            let is_better = |(most, other): &(f64, Fit)| match other.transform == transform {
                true => fit.explained > other.explained,
                false => order > most + 1e-9,
            };
            if best.as_ref().is_none_or(is_better) {
                best = Some((order, fit));
            }
        }
    }
    let (_, fit) = best.ok_or("nothing was measured")?;
    if fit.explained < LEAST_EXPLAINED {
        return Err(format!(
            "{count} trials do not tell single choices apart: an additive model explains {:.0} % of the variance of trials \
             it has not seen",
            fit.explained.max(0.0) * 100.0
        ));
    }
    let data = Data::new(&sound, choices, fit.transform, floor);
    let model = Model::new(&data).fitted(&data, fit.penalty, STEPS, GRADIENT);
    Ok(model.effects(&data, &fit))
}

/// How the trials are fitted, and how well that went on unseen ones.
struct Fit {
    transform: Transform,
    penalty: f64,
    explained: f64,
}

/// Trials by columns, which are what a fit runs along.
struct Data {
    /// `[dimension][trial]`: which effect of the model holds.
    choices: Vec<Vec<u32>>,
    values: Vec<f64>,
    /// Square roots of the weights, whose mean square is 1.
    weights: Vec<f64>,
    /// Where the effects of each dimension begin, and how many there are.
    begins: Vec<usize>,
}

impl Data {
    fn new(points: &[(&[usize], f64)], choices: &[usize], transform: Transform, floor: f64) -> Self {
        let mut begins = vec![0];
        for count in choices {
            begins.push(begins[begins.len() - 1] + count);
        }
        let column = |d: usize| points.iter().map(|(point, _)| (begins[d] + point[d]) as u32).collect();
        let sizes: Vec<f64> = points.iter().map(|(_, value)| value.abs()).collect();
        let median = quantile(&sizes, 0.5);
        let weight = |size: &f64| match transform {
            Transform::Identity if median > 0.0 => median / (size + median),
            _ => 1.0,
        };
        let weights: Vec<f64> = sizes.iter().map(weight).collect();
        let scale = (weights.iter().map(|w| w * w).sum::<f64>() / weights.len().max(1) as f64).sqrt();
        Self {
            choices: (0..choices.len()).map(column).collect(),
            values: points.iter().map(|(_, value)| transform.apply(*value, floor)).collect(),
            weights: weights.iter().map(|weight| weight / scale).collect(),
            begins,
        }
    }

    /// The trials that are not of a group out of `groups`.
    fn without(&self, group: usize, groups: usize) -> Self {
        let is_kept = |i: &usize| i % groups != group;
        let kept: Vec<usize> = (0..self.values.len()).filter(is_kept).collect();
        Self {
            choices: self.choices.iter().map(|column| kept.iter().map(|&i| column[i]).collect()).collect(),
            values: kept.iter().map(|&i| self.values[i]).collect(),
            weights: kept.iter().map(|&i| self.weights[i]).collect(),
            begins: self.begins.clone(),
        }
    }

    fn effects(&self) -> usize {
        self.begins[self.begins.len() - 1]
    }

    /// Weighted sum of the squared differences to a prediction.
    fn distance(&self, predicted: impl Fn(usize) -> f64) -> f64 {
        let weighted = self.values.iter().zip(&self.weights).enumerate();
        weighted.map(|(i, (value, weight))| (weight * (value - predicted(i))).powi(2)).sum()
    }

    /// The same to the weighted mean.
    fn spread(&self) -> f64 {
        let weighted = self.values.iter().zip(&self.weights).map(|(value, weight)| value * weight * weight);
        let mean = weighted.sum::<f64>() / self.weights.iter().map(|weight| weight * weight).sum::<f64>();
        self.distance(|_| mean)
    }

    /// Trials that have each choice, over all dimensions.
    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.effects()];
        self.choices.iter().flatten().for_each(|&choice| counts[choice as usize] += 1);
        counts
    }
}

fn is_point(point: &[usize], choices: &[usize]) -> bool {
    point.len() == choices.len() && point.iter().zip(choices).all(|(choice, count)| choice < count)
}

impl Transform {
    fn apply(self, value: f64, floor: f64) -> f64 {
        match self {
            Self::Identity => value,
            Self::Log => value.max(floor).ln(),
        }
    }
}

/// Predictions of every trial by models that have not seen it, for each penalty.
fn validate(data: &Data) -> Vec<(f64, Vec<f64>)> {
    let count = data.values.len();
    let of_fold = |fold: usize| {
        let rest = data.without(fold, FOLDS);
        // From the largest penalty on, each fit begins where the one before ended.
        let mut model = Model::new(data);
        let of_penalty = |&penalty: &f64| {
            model = model.fitted(&rest, penalty, ROUGH_STEPS, ROUGH_GRADIENT);
            model.predict(data)
        };
        PENALTIES.iter().map(of_penalty).collect()
    };
    let folds: Vec<Vec<Vec<f64>>> = (0..FOLDS).into_par_iter().map(of_fold).collect();
    let unseen = |p: usize| (0..count).map(|i| folds[i % FOLDS][p][i]).collect();
    PENALTIES.iter().enumerate().map(|(p, &penalty)| (penalty, unseen(p))).collect()
}

/// Effects of all choices of all dimensions, then the mean.
#[derive(Clone)]
struct Model(Vec<f64>);

impl Model {
    fn new(data: &Data) -> Self {
        Self(vec![0.0; data.effects() + 1])
    }

    fn predict(&self, data: &Data) -> Vec<f64> {
        let mut predicted = vec![self.0[data.effects()]; data.values.len()];
        for column in &data.choices {
            for (predicted, &choice) in predicted.iter_mut().zip(column) {
                *predicted += self.0[choice as usize];
            }
        }
        predicted
    }

    /// Half the gradient of the squared error and the penalty, downwards, given the weighted residuals.
    fn descent(&self, data: &Data, residuals: &[f64], penalty: f64) -> Vec<f64> {
        let mut descent: Vec<f64> = self.0.iter().map(|effect| -penalty * effect).collect();
        descent[data.effects()] = 0.0;
        let weighted: Vec<f64> = residuals.iter().zip(&data.weights).map(|(r, w)| r * w).collect();
        for column in &data.choices {
            for (&choice, residual) in column.iter().zip(&weighted) {
                descent[choice as usize] += residual;
            }
        }
        descent[data.effects()] += weighted.iter().sum::<f64>();
        descent
    }

    /// Minimises `sum weight * (t - prediction)^2 + penalty * sum effects^2` from here on, by conjugate gradients on the
    /// normal equations (Hestenes and Stiefel 1952), scaled by their diagonal.
    fn fitted(&self, data: &Data, penalty: f64, steps: usize, gradient: f64) -> Self {
        let mut model = self.clone();
        let mut scale = vec![penalty; model.0.len()];
        scale[data.effects()] = 0.0;
        for column in &data.choices {
            column.iter().zip(&data.weights).for_each(|(&choice, w)| scale[choice as usize] += w * w);
        }
        scale[data.effects()] += data.weights.iter().map(|w| w * w).sum::<f64>();
        let scaled = |values: &[f64]| -> Vec<f64> { values.iter().zip(&scale).map(|(v, s)| v / s).collect() };
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let predicted = model.predict(data);
        let weighted = data.values.iter().zip(&data.weights).zip(&predicted);
        let mut residuals: Vec<f64> = weighted.map(|((value, w), p)| w * (value - p)).collect();
        let mut descent = model.descent(data, &residuals, penalty);
        let mut direction = Self(scaled(&descent));
        let mut size = product(&descent, &direction.0);
        let goal = gradient * gradient * data.spread();
        for _ in 0..steps {
            if size <= goal {
                break;
            }
            let change: Vec<f64> =
                direction.predict(data).iter().zip(&data.weights).map(|(p, w)| p * w).collect();
            let effects = &direction.0[..data.effects()];
            let curvature = product(&change, &change) + penalty * product(effects, effects);
            if curvature <= 0.0 {
                break;
            }
            let length = size / curvature;
            model.0.iter_mut().zip(&direction.0).for_each(|(effect, d)| *effect += length * d);
            residuals.iter_mut().zip(&change).for_each(|(residual, c)| *residual -= length * c);
            descent = model.descent(data, &residuals, penalty);
            let next = scaled(&descent);
            let before = size;
            size = product(&descent, &next);
            direction.0 = next.iter().zip(&direction.0).map(|(n, d)| n + size / before * d).collect();
        }
        model
    }

    fn effects(&self, data: &Data, fit: &Fit) -> Effects {
        let counts = data.counts();
        let without: Vec<Self> = (0..GROUPS)
            .into_par_iter()
            .map(|group| self.fitted(&data.without(group, GROUPS), fit.penalty, STEPS, GRADIENT))
            .collect();
        let of_dimension = |(begin, end): (usize, usize)| {
            let tried = (begin..end).filter(|&i| counts[i] > 0);
            let Some(least) = tried.min_by(|&a, &b| self.0[a].total_cmp(&self.0[b])) else {
                return vec![None; end - begin];
            };
            let effect = |i: usize| {
                let harms: Vec<f64> = without.iter().map(|model| model.0[i] - model.0[least]).collect();
                let error = (squares(&harms) * (GROUPS - 1) as f64 / GROUPS as f64).sqrt();
                Effect { harm: self.0[i] - self.0[least], error, trials: counts[i] }
            };
            (begin..end).map(|i| (counts[i] > 0).then(|| effect(i))).collect()
        };
        let dimensions = data.begins.windows(2).map(|pair| (pair[0], pair[1]));
        let effects: Vec<Vec<Option<Effect>>> = dimensions.map(of_dimension).collect();
        Effects {
            transform: fit.transform,
            importance: importance(&effects),
            effects,
            explained: fit.explained,
            trials: data.values.len(),
        }
    }
}

/// Variance of the effects of each dimension, as shares.
fn importance(effects: &[Vec<Option<Effect>>]) -> Vec<f64> {
    let harms = |effects: &Vec<Option<Effect>>| effects.iter().flatten().map(|effect| effect.harm).collect();
    shares(&effects.iter().map(harms).collect::<Vec<Vec<f64>>>())
}

/// The variance of each list over the sum of all; 0 where nothing varies.
pub(super) fn shares(lists: &[Vec<f64>]) -> Vec<f64> {
    let variances: Vec<f64> = lists.iter().map(|list| squares(list) / list.len().max(1) as f64).collect();
    let total: f64 = variances.iter().sum();
    variances.iter().map(|variance| if total > 0.0 { variance / total } else { 0.0 }).collect()
}

/// Sum of the squared differences from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| (value - mean) * (value - mean)).sum()
}

/// Places in the sorted order; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut begin = 0;
    while begin < order.len() {
        let same = |&&i: &&usize| values[i] == values[order[begin]];
        let end = begin + order[begin..].iter().take_while(same).count().max(1);
        for &i in &order[begin..end] {
            ranks[i] = (begin + end - 1) as f64 / 2.0;
        }
        begin = end;
    }
    ranks
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product: f64 = a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum();
    let scale = (squares(a) * squares(b)).sqrt();
    if scale > 0.0 { product / scale } else { 0.0 }
}

#[cfg(test)]
#[path = "analysis_tests.rs"]
mod tests;
