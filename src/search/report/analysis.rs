//! What single choices do: the harm of each candidate of each layer, and how much of the variance a layer explains.
//!
//! Trials are few and samplers do not choose at random, so means over the trials that have a choice mix its effect with
//! that of the choices that came along with it. An additive model takes them apart:
//!
//! `t(y) = mean + sum over layers of effect[layer][choice]`
//!
//! fitted by ridge regression on one-hot choices, with the penalty that leaves the least squared error on trials not
//! seen (five folds). `t` is the identity or the logarithm, whichever predicts the order of such trials better. What an additive model
//! cannot say is left out: where it explains less than a fifth of the variance of unseen trials there is no result.
//!
//! Importance is the variance of a layer's effect over its candidates, each equally likely, over the sum of all layers':
//! the main effects of a functional analysis of variance, as in fANOVA (Hutter, Hoos and Leyton-Brown 2014), whose random
//! forest is replaced by the additive model.

use std::collections::HashSet;

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
/// Penalties tried, in trials: an effect seen in `n` trials is shrunk by `n / (n + penalty)`.
const PENALTIES: [f64; 4] = [30.0, 3.0, 0.3, 0.01];
/// Passes over all layers at most, and the relative change that ends them.
const PASSES: usize = 300;
const CHANGE: f64 = 1e-7;
/// The same where penalties are compared.
const ROUGH_PASSES: usize = 50;
const ROUGH_CHANGE: f64 = 1e-3;

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
    /// Standard error of the effect, as if the choices of layers were independent.
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
        let data = Data::new(&sound, choices.len(), |value| transform.apply(value, floor));
        let total = squares(&data.values);
        if total <= 1e-24 * data.values.iter().map(|v| v * v).sum::<f64>() {
            return Err("all trials are equally good".to_owned());
        }
        for (penalty, predicted) in validate(&data, choices) {
            let missed: f64 = predicted.iter().zip(&data.values).map(|(p, t)| (p - t) * (p - t)).sum();
            let order = correlation(&ranks(&predicted), &ranks(&data.values));
            let fit =
                Fit { transform, penalty, explained: 1.0 - missed / total, noise: missed / count as f64 };
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
    let data = Data::new(&sound, choices.len(), |value| fit.transform.apply(value, floor));
    let mut model = Model::new(choices);
    model.fit(&data, fit.penalty, PASSES, CHANGE);
    Ok(model.effects(&data, &fit))
}

/// How the trials are fitted, and how well that went on unseen ones.
struct Fit {
    transform: Transform,
    penalty: f64,
    explained: f64,
    /// Mean squared error.
    noise: f64,
}

/// Trials by columns, which are what a fit runs along.
struct Data {
    /// `[dimension][trial]`
    choices: Vec<Vec<u32>>,
    values: Vec<f64>,
}

impl Data {
    fn new(points: &[(&[usize], f64)], dimensions: usize, scale: impl Fn(f64) -> f64) -> Self {
        let column = |d: usize| points.iter().map(|(point, _)| point[d] as u32).collect();
        Self {
            choices: (0..dimensions).map(column).collect(),
            values: points.iter().map(|(_, value)| scale(*value)).collect(),
        }
    }

    /// The trials that are not of a fold.
    fn without(&self, fold: usize) -> Self {
        fn kept<T: Copy>(all: &[T], fold: usize) -> Vec<T> {
            all.iter().enumerate().filter(|(i, _)| i % FOLDS != fold).map(|(_, value)| *value).collect()
        }
        Self {
            choices: self.choices.iter().map(|column| kept(column, fold)).collect(),
            values: kept(&self.values, fold),
        }
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
fn validate(data: &Data, choices: &[usize]) -> Vec<(f64, Vec<f64>)> {
    let count = data.values.len();
    let mut predictions: Vec<(f64, Vec<f64>)> = PENALTIES.iter().map(|&p| (p, vec![0.0; count])).collect();
    for fold in 0..FOLDS {
        let rest = data.without(fold);
        // From the largest penalty on, each fit begins where the one before ended.
        let mut model = Model::new(choices);
        for (penalty, predicted) in &mut predictions {
            model.fit(&rest, *penalty, ROUGH_PASSES, ROUGH_CHANGE);
            for i in (fold..count).step_by(FOLDS) {
                predicted[i] = model.predict(data, i);
            }
        }
    }
    predictions
}

struct Model {
    mean: f64,
    /// `[dimension][candidate]`
    effects: Vec<Vec<f64>>,
}

impl Model {
    fn new(choices: &[usize]) -> Self {
        Self { mean: 0.0, effects: choices.iter().map(|&count| vec![0.0; count]).collect() }
    }

    fn predict(&self, data: &Data, trial: usize) -> f64 {
        let effects = self.effects.iter().zip(&data.choices);
        self.mean + effects.map(|(effects, column)| effects[column[trial] as usize]).sum::<f64>()
    }

    fn residuals(&self, data: &Data) -> Vec<f64> {
        data.values.iter().enumerate().map(|(i, value)| value - self.predict(data, i)).collect()
    }

    /// Minimises `sum (t - prediction)^2 + penalty * sum effects^2`. The normal equations of one layer are diagonal, so
    /// they are solved layer after layer until nothing moves (Gauss-Seidel), or for so many passes.
    fn fit(&mut self, data: &Data, penalty: f64, passes: usize, change: f64) {
        let mut residuals = self.residuals(data);
        let count = residuals.len().max(1) as f64;
        let counts = self.counts(data);
        let still = change * (squares(&data.values) / count).sqrt();
        let mut shifts = vec![0.0; self.effects.iter().map(Vec::len).max().unwrap_or(0)];
        for _ in 0..passes {
            let shift = residuals.iter().sum::<f64>() / count;
            self.mean += shift;
            residuals.iter_mut().for_each(|residual| *residual -= shift);
            let mut largest = shift.abs();
            for ((effects, column), counts) in self.effects.iter_mut().zip(&data.choices).zip(&counts) {
                shifts.fill(0.0);
                for (residual, &choice) in residuals.iter().zip(column) {
                    shifts[choice as usize] += residual;
                }
                for ((effect, shift), &count) in effects.iter_mut().zip(&mut shifts).zip(counts) {
                    let target = (*shift + count as f64 * *effect) / (count as f64 + penalty);
                    *shift = target - *effect;
                    *effect = target;
                    largest = largest.max(shift.abs());
                }
                for (residual, &choice) in residuals.iter_mut().zip(column) {
                    *residual -= shifts[choice as usize];
                }
            }
            if largest <= still {
                break;
            }
        }
    }

    /// Trials that have each choice.
    fn counts(&self, data: &Data) -> Vec<Vec<usize>> {
        let of_column = |(effects, column): (&Vec<f64>, &Vec<u32>)| {
            let mut counts = vec![0; effects.len()];
            column.iter().for_each(|&choice| counts[choice as usize] += 1);
            counts
        };
        self.effects.iter().zip(&data.choices).map(of_column).collect()
    }

    fn effects(&self, data: &Data, fit: &Fit) -> Effects {
        let of_dimension = |(effects, counts): (&Vec<f64>, Vec<usize>)| {
            let tried = || effects.iter().zip(&counts).filter(|(_, count)| **count > 0);
            let least = tried().map(|(effect, _)| *effect).fold(f64::INFINITY, f64::min);
            let effect = |(&effect, &count): (&f64, &usize)| Effect {
                harm: effect - least,
                error: (fit.noise / (count as f64 + fit.penalty)).sqrt(),
                trials: count,
            };
            effects.iter().zip(&counts).map(|pair| (*pair.1 > 0).then(|| effect(pair))).collect()
        };
        let effects: Vec<Vec<Option<Effect>>> =
            self.effects.iter().zip(self.counts(data)).map(of_dimension).collect();
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
    let of_dimension = |effects: &Vec<Option<Effect>>| {
        let tried: Vec<f64> = effects.iter().flatten().map(|effect| effect.harm).collect();
        squares(&tried) / tried.len().max(1) as f64
    };
    let variances: Vec<f64> = effects.iter().map(of_dimension).collect();
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
