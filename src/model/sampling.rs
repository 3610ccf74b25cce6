//! Choosing the next token from logits.

use crate::error::{Result, invalid};
use std::collections::BTreeSet;

/// How tokens are drawn. What is not at its neutral value is applied in the order of the fields, as Hugging Face's
/// `generate` does: penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Logits of tokens that came before are divided by it where they are positive and multiplied where they are
    /// negative (Keskar et al. 2019, CTRL); 1 for none. Applies to the likeliest token too.
    pub repetition_penalty: f32,
    /// How many of the last tokens, prompt included, count for the penalty; 0 for all.
    pub repeat_last_n: usize,
    /// Logits are divided by it; 0 takes the largest logit always.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens that together have at least this probability are drawn from
    /// (Holtzman et al. 2020); 1 for all.
    pub top_p: f32,
    /// Only tokens with at least this share of the probability of the likeliest one are drawn from
    /// (Nguyen et al. 2024); 0 for all.
    pub min_p: f32,
    /// Same seed, options and logits: same tokens.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            repeat_last_n: 0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Whether the likeliest token of the model is taken, whatever came before.
    pub fn is_argmax(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }
}

/// Draws tokens; one per sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: SplitMix64,
}

impl Sampler {
    /// A sampler at the beginning of its random sequence.
    ///
    /// # Errors
    /// When the temperature is negative or not finite, the penalty is not positive and finite, `top_p` is not within
    /// `(0, 1]` or `min_p` not within `[0, 1)`.
    pub fn new(options: SamplingOptions) -> Result<Self> {
        let SamplingOptions { temperature, top_p, min_p, repetition_penalty, seed, .. } = options;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            invalid!(
                "temperature is {temperature}; want a number of at least 0 (0 takes the likeliest token)"
            );
        }
        if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
            invalid!(
                "repetition-penalty is {repetition_penalty}; want a number above 0 (1 for none, 1.1 is usual)"
            );
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            invalid!("top-p is {top_p}; want a probability above 0 and up to 1");
        }
        if !(0.0..1.0).contains(&min_p) {
            invalid!("min-p is {min_p}; want a share from 0 (none is left out) to below 1");
        }
        Ok(Self { options, random: SplitMix64(seed) })
    }

    /// The next token for one row of logits; `before` are the tokens before it, prompt included.
    ///
    /// # Errors
    /// When there are no logits or one is NaN or infinite.
    pub fn sample(&mut self, logits: &[f32], before: &[u32]) -> Result<u32> {
        if self.options.is_argmax() {
            return argmax(logits);
        }
        let logits = self.penalized(logits, before)?;
        if self.options.temperature == 0.0 {
            return argmax(&logits);
        }
        let candidates = self.candidates(&logits)?;
        let mut target = self.random.uniform() * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
        for (id, weight) in &candidates {
            if target < *weight {
                return Ok(*id);
            }
            target -= weight;
        }
        // Rounding can leave a target of zero behind the last weight.
        Ok(candidates[candidates.len() - 1].0)
    }

    /// What a token is drawn from: ids and probabilities that add up to 1, the likeliest first.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(&self, logits: &[f32], before: &[u32]) -> Result<Vec<(u32, f64)>> {
        let logits = self.penalized(logits, before)?;
        if self.options.temperature == 0.0 {
            return Ok(vec![(argmax(&logits)?, 1.0)]);
        }
        let mut candidates = self.candidates(&logits)?;
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        candidates.iter_mut().for_each(|(_, weight)| *weight /= total);
        Ok(candidates)
    }

    /// Logits after the penalty on what came before, each token once however often it came.
    fn penalized(&self, logits: &[f32], before: &[u32]) -> Result<Vec<f32>> {
        argmax(logits)?;
        let SamplingOptions { repetition_penalty, repeat_last_n, .. } = self.options;
        let mut logits = logits.to_vec();
        if repetition_penalty != 1.0 {
            let first = if repeat_last_n == 0 { 0 } else { before.len().saturating_sub(repeat_last_n) };
            let seen: BTreeSet<u32> = before[first..].iter().copied().collect();
            for id in seen {
                let Some(logit) = logits.get_mut(id as usize) else { continue };
                *logit = if *logit < 0.0 { *logit * repetition_penalty } else { *logit / repetition_penalty };
            }
        }
        Ok(logits)
    }

    /// Ids and unnormalized probabilities of what remains after all filters, the likeliest first.
    fn candidates(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>> {
        let SamplingOptions { temperature, top_k, top_p, min_p, .. } = self.options;
        let best = argmax(logits)?;
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        // Equal logits keep the order of their ids, so the result does not depend on the sort.
        let likeliest_first =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if top_k > 0 && top_k < ids.len() {
            ids.select_nth_unstable_by(top_k - 1, likeliest_first);
            ids.truncate(top_k);
        }
        ids.sort_unstable_by(likeliest_first);
        let peak = f64::from(logits[best as usize]);
        let weight = |id: u32| ((f64::from(logits[id as usize]) - peak) / f64::from(temperature)).exp();
        let mut candidates: Vec<(u32, f64)> = ids.into_iter().map(|id| (id, weight(id))).collect();
        if top_p < 1.0 {
            let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
            let mut sum = 0.0;
            let reaches = |(_, weight): &(u32, f64)| {
                sum += weight;
                sum >= f64::from(top_p) * total
            };
            let count = candidates.iter().position(reaches).map_or(candidates.len(), |last| last + 1);
            candidates.truncate(count);
        }
        // The likeliest has weight 1.
        candidates.retain(|(_, weight)| *weight >= f64::from(min_p));
        Ok(candidates)
    }
}

/// Natural logarithms of the probabilities that the model itself gives to the next token, before any option changes
/// them: that of `chosen`, and the `top` likeliest ids with theirs.
pub fn log_probabilities(logits: &[f32], chosen: u32, top: usize) -> (f64, Vec<(u32, f64)>) {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(peak)).exp()).sum();
    let log = |id: u32| f64::from(logits[id as usize]) - f64::from(peak) - sum.ln();
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    ids.truncate(top);
    (log(chosen), ids.into_iter().map(|id| (id, log(id))).collect())
}

/// Index of the largest logit, the lowest one among equals.
///
/// # Errors
/// When there are no logits or one is NaN or infinite.
pub fn argmax(logits: &[f32]) -> Result<u32> {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if !logit.is_finite() {
            invalid!("logit {id} is {logit}; the model's numbers overflowed, try a format with more bits");
        }
        if *logit > logits[best] {
            best = id;
        }
    }
    if logits.is_empty() {
        invalid!("no logits to choose a token from");
    }
    Ok(best as u32)
}

/// SplitMix64 (Steele, Lea and Flood 2014): 64 bits of state, every seed is good.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(options: SamplingOptions, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits, &[]).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn published_values_of_the_generator() {
        // First outputs of the authors' splitmix64.c for seed 1234567.
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        assert_eq!(argmax(&[0.0, 3.0, 3.0, -1.0]).unwrap(), 1);
        assert_eq!(counts(SamplingOptions::default(), &[0.0, 3.0, 3.0], 5), [0, 5, 0]);
    }

    #[test]
    fn draws_follow_the_softmax() {
        // Probabilities 0.1, 0.2, 0.7; at temperature 2 their square roots, normalized.
        let logits = [0.1f32, 0.2, 0.7].map(f32::ln);
        let options = SamplingOptions { temperature: 1.0, seed: 7, ..Default::default() };
        let near = |got: &[usize], want: &[f64]| {
            got.iter().zip(want).all(|(got, want)| (*got as f64 / 20000.0 - want).abs() < 0.015)
        };
        assert!(near(&counts(options, &logits, 20000), &[0.1, 0.2, 0.7]));
        let warm = SamplingOptions { temperature: 2.0, ..options };
        assert!(near(&counts(warm, &logits, 20000), &[0.198, 0.279, 0.523]));
        let cut = SamplingOptions { top_k: 2, ..options };
        assert!(near(&counts(cut, &logits, 20000), &[0.0, 2.0 / 9.0, 7.0 / 9.0]));
        let nucleus = SamplingOptions { top_p: 0.75, ..options };
        assert!(near(&counts(nucleus, &logits, 20000), &[0.0, 2.0 / 9.0, 7.0 / 9.0]));
        let narrow = SamplingOptions { top_p: 0.5, ..options };
        assert_eq!(counts(narrow, &logits, 100), [0, 0, 100]);
        assert_eq!(counts(options, &logits, 50), counts(options, &logits, 50));
    }

    #[test]
    fn penalties_and_shares_leave_the_distributions_of_transformers() {
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("testdata/sampling.json")).expect("the file is JSON");
        for case in cases["cases"].as_array().expect("a list") {
            let numbers = |key: &str| -> Vec<f64> {
                case[key]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|value| value.as_f64().expect("a number"))
                    .collect()
            };
            let number = |key: &str| case[key].as_f64().expect("a number");
            let options = SamplingOptions {
                repetition_penalty: number("repetition_penalty") as f32,
                temperature: number("temperature") as f32,
                top_k: number("top_k") as usize,
                top_p: number("top_p") as f32,
                min_p: number("min_p") as f32,
                ..Default::default()
            };
            let logits: Vec<f32> = numbers("logits").iter().map(|&logit| logit as f32).collect();
            let before: Vec<u32> = numbers("before").iter().map(|&id| id as u32).collect();
            let got = Sampler::new(options).unwrap().distribution(&logits, &before).unwrap();
            let want = numbers("probabilities");
            assert_eq!(got.len(), want.iter().filter(|p| **p > 0.0).count(), "{options:?}");
            for (id, probability) in got {
                assert!((probability - want[id as usize]).abs() < 1e-5, "{options:?}: {id} {probability}");
            }
        }
    }

    #[test]
    fn penalties_forget_and_change_the_likeliest() {
        let options = SamplingOptions { repetition_penalty: 2.0, repeat_last_n: 2, ..Default::default() };
        let mut sampler = Sampler::new(options).unwrap();
        let logits = [3.0, 2.0, -1.0];
        assert_eq!(sampler.sample(&logits, &[0, 1, 2]).unwrap(), 0);
        assert_eq!(sampler.sample(&logits, &[2, 0, 0, 7]).unwrap(), 1);
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [0.1f32, 0.2, 0.7].map(f32::ln);
        let (chosen, top) = log_probabilities(&logits, 1, 2);
        assert!((chosen - 0.2f64.ln()).abs() < 1e-6);
        assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 1]);
        assert!((top[0].1 - 0.7f64.ln()).abs() < 1e-6);
        assert_eq!(log_probabilities(&logits, 0, 9).1.len(), 3);
    }

    #[test]
    fn extreme_options_and_bad_logits() {
        let cold = SamplingOptions { temperature: 1e-30, top_k: 9, ..Default::default() };
        assert_eq!(counts(cold, &[1.0, 1e30, -1e30], 10), [0, 10, 0]);
        for (temperature, top_p) in
            [(-1.0, 1.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, 0.0), (1.0, 1.5)]
        {
            assert!(Sampler::new(SamplingOptions { temperature, top_p, ..Default::default() }).is_err());
        }
        for (repetition_penalty, min_p) in [(0.0, 0.0), (-1.0, 0.0), (f32::NAN, 0.0), (1.0, 1.0), (1.0, -0.1)]
        {
            assert!(
                Sampler::new(SamplingOptions { repetition_penalty, min_p, ..Default::default() }).is_err()
            );
        }
        for logits in [&[][..], &[f32::NAN], &[0.0, f32::INFINITY], &[f32::NEG_INFINITY, 0.0]] {
            assert!(argmax(logits).is_err());
        }
    }
}
