//! What single choices do: the harm of each candidate of each layer, and how much of the variance a layer explains.
//!
//! Trials are few and samplers do not choose at random, so means over the trials that have a choice mix its effect with
//! that of the choices that came along with it. An additive model takes them apart:
//!
//! `t(y) = mean + sum over layers of effect[layer][choice]`
//!
//! fitted by ridge regression on one-hot choices. `t` is the identity or the logarithm, whichever predicts the order of
//! trials it has not seen better (rank correlation, five folds); so is the penalty chosen. What an additive model
//! cannot say is left out: where it explains less than a fifth of the variance of unseen trials there is no result.
//!
//! Importance is the variance of a layer's effect over its candidates, each equally likely, over the sum of all layers':
//! the main effects of a functional analysis of variance, as in fANOVA (Hutter, Hoos and Leyton-Brown 2014), whose random
//! forest is replaced by the additive model.

use std::collections::HashSet;

/// Fewest different points that anything is said about.
const FEWEST: usize = 16;
/// Least share of the variance of unseen trials that the model must explain.
const LEAST_EXPLAINED: f64 = 0.2;
/// Most points that are fitted; of more, so many evenly spread ones.
const MOST: usize = 4000;
const FOLDS: usize = 5;
/// Penalties tried, in trials: an effect seen in `n` trials is shrunk by `n / (n + penalty)`.
const PENALTIES: [f64; 4] = [30.0, 3.0, 0.3, 0.01];
/// Passes over all layers at most, and the relative change that ends them.
const PASSES: usize = 300;
const CHANGE: f64 = 1e-7;

/// What is additive in the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The value.
    Identity,
    /// Its logarithm: effects are factors.
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
    let mut data: Vec<(&[usize], f64)> = points
        .iter()
        .zip(values)
        .filter(|(point, value)| value.is_finite() && is_point(point, choices) && seen.insert(**point))
        .map(|(point, value)| (*point, *value))
        .collect();
    if data.len() > MOST {
        let (all, count) = (data, MOST);
        data = (0..count).map(|i| all[i * all.len() / count]).collect();
    }
    if data.len() < FEWEST {
        return Err(format!("too few trials: {} different ones, {FEWEST} are wanted", data.len()));
    }
    let least = data.iter().map(|d| d.1).fold(f64::INFINITY, f64::min);
    let transforms =
        if least > 0.0 { &[Transform::Identity, Transform::Log][..] } else { &[Transform::Identity] };
    let mut best: Option<(f64, f64, f64, Transform)> = None;
    for &transform in transforms {
        let scaled: Vec<(&[usize], f64)> = data.iter().map(|&(p, v)| (p, transform.apply(v))).collect();
        let truth: Vec<f64> = scaled.iter().map(|d| d.1).collect();
        if squares(&truth) <= 1e-24 * truth.iter().map(|v| v * v).sum::<f64>() {
            return Err("all trials are equally good".to_owned());
        }
        for (penalty, predicted) in validate(&scaled, choices) {
            let order = correlation(&ranks(&predicted), &ranks(&truth));
            let residual: f64 = predicted.iter().zip(&truth).map(|(p, t)| (p - t) * (p - t)).sum();
            let explained = 1.0 - residual / squares(&truth);
            if best.is_none_or(|(most, ..)| order > most + 1e-9) {
                best = Some((order, explained, penalty, transform));
            }
        }
    }
    let (_, explained, penalty, transform) = best.ok_or("nothing was measured")?;
    if explained < LEAST_EXPLAINED {
        return Err(format!(
            "{} trials do not tell single choices apart: an additive model explains {:.0} % of the variance of trials it \
             has not seen",
            data.len(),
            explained.max(0.0) * 100.0
        ));
    }
    let scaled: Vec<(&[usize], f64)> = data.iter().map(|&(p, v)| (p, transform.apply(v))).collect();
    let mut model = Model::new(choices);
    model.fit(&scaled, penalty);
    Ok(model.effects(&scaled, penalty, transform, explained))
}

fn is_point(point: &[usize], choices: &[usize]) -> bool {
    point.len() == choices.len() && point.iter().zip(choices).all(|(choice, count)| choice < count)
}

impl Transform {
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Identity => value,
            Self::Log => value.ln(),
        }
    }
}

/// Predictions of every trial by models that have not seen it, for each penalty.
fn validate(data: &[(&[usize], f64)], choices: &[usize]) -> Vec<(f64, Vec<f64>)> {
    let mut predictions: Vec<(f64, Vec<f64>)> =
        PENALTIES.iter().map(|&penalty| (penalty, vec![0.0; data.len()])).collect();
    for fold in 0..FOLDS {
        let rest = data.iter().enumerate().filter(|(i, _)| i % FOLDS != fold);
        let rest: Vec<(&[usize], f64)> = rest.map(|(_, d)| *d).collect();
        // From the largest penalty on, each fit begins where the one before ended.
        let mut model = Model::new(choices);
        for (penalty, predicted) in &mut predictions {
            model.fit(&rest, *penalty);
            for i in (fold..data.len()).step_by(FOLDS) {
                predicted[i] = model.predict(data[i].0);
            }
        }
    }
    predictions
}

struct Model {
    mean: f64,
    effects: Vec<Vec<f64>>,
}

impl Model {
    fn new(choices: &[usize]) -> Self {
        Self { mean: 0.0, effects: choices.iter().map(|&count| vec![0.0; count]).collect() }
    }

    fn predict(&self, point: &[usize]) -> f64 {
        self.mean + self.effects.iter().zip(point).map(|(effects, &choice)| effects[choice]).sum::<f64>()
    }

    /// Minimises `sum (t - prediction)^2 + penalty * sum effects^2`. The normal equations of one layer are diagonal, so
    /// they are solved layer after layer until nothing moves (Gauss-Seidel).
    fn fit(&mut self, data: &[(&[usize], f64)], penalty: f64) {
        let mut residuals: Vec<f64> = data.iter().map(|(point, value)| value - self.predict(point)).collect();
        let counts = self.counts(data);
        let spread = squares(&data.iter().map(|d| d.1).collect::<Vec<_>>()) / data.len().max(1) as f64;
        let still = CHANGE * spread.sqrt();
        let mut shifts = vec![0.0; self.effects.iter().map(Vec::len).max().unwrap_or(0)];
        for _ in 0..PASSES {
            let shift = residuals.iter().sum::<f64>() / residuals.len().max(1) as f64;
            self.mean += shift;
            residuals.iter_mut().for_each(|residual| *residual -= shift);
            let mut largest = shift.abs();
            for (dimension, effects) in self.effects.iter_mut().enumerate() {
                shifts.fill(0.0);
                for (residual, (point, _)) in residuals.iter().zip(data) {
                    shifts[point[dimension]] += residual;
                }
                for ((effect, shift), &count) in effects.iter_mut().zip(&mut shifts).zip(&counts[dimension]) {
                    let target = (*shift + count as f64 * *effect) / (count as f64 + penalty);
                    *shift = target - *effect;
                    *effect = target;
                    largest = largest.max(shift.abs());
                }
                for (residual, (point, _)) in residuals.iter_mut().zip(data) {
                    *residual -= shifts[point[dimension]];
                }
            }
            if largest <= still {
                break;
            }
        }
    }

    fn counts(&self, data: &[(&[usize], f64)]) -> Vec<Vec<usize>> {
        let mut counts: Vec<Vec<usize>> = self.effects.iter().map(|effects| vec![0; effects.len()]).collect();
        for (point, _) in data {
            for (counts, &choice) in counts.iter_mut().zip(*point) {
                counts[choice] += 1;
            }
        }
        counts
    }

    fn effects(
        &self,
        data: &[(&[usize], f64)],
        penalty: f64,
        transform: Transform,
        explained: f64,
    ) -> Effects {
        let counts = self.counts(data);
        let residuals: Vec<f64> = data.iter().map(|(point, value)| value - self.predict(point)).collect();
        // Each layer whose candidates differ takes about its number of candidates less one.
        let freedom: usize =
            counts.iter().map(|c| c.iter().filter(|&&n| n > 0).count().saturating_sub(1)).sum();
        let left = data.len().saturating_sub(freedom + 1).max(data.len() / 10).max(1);
        let noise = residuals.iter().map(|r| r * r).sum::<f64>() / left as f64;
        let of_dimension = |(effects, counts): (&Vec<f64>, &Vec<usize>)| {
            let tried = || effects.iter().zip(counts).filter(|(_, count)| **count > 0);
            let least = tried().map(|(effect, _)| *effect).fold(f64::INFINITY, f64::min);
            let effect = |(&effect, &count): (&f64, &usize)| Effect {
                harm: effect - least,
                error: (noise / (count as f64 + penalty)).sqrt(),
                trials: count,
            };
            effects.iter().zip(counts).map(|pair| (*pair.1 > 0).then(|| effect(pair))).collect()
        };
        let effects: Vec<Vec<Option<Effect>>> = self.effects.iter().zip(&counts).map(of_dimension).collect();
        let importance = importance(&effects);
        Effects { transform, effects, importance, explained, trials: data.len() }
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
