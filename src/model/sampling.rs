//! Choosing the next token from logits.

use crate::error::{Result, invalid};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Logits are divided by it; 0 takes the largest logit always.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens that together have at least this probability are drawn from
    /// (Holtzman et al. 2020); 1 for all.
    pub top_p: f32,
    /// Same seed, options and logits: same tokens.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
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
    /// When the temperature is negative or not finite, or `top_p` is not within `(0, 1]`.
    pub fn new(options: SamplingOptions) -> Result<Self> {
        let SamplingOptions { temperature, top_p, seed, .. } = options;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            invalid!(
                "temperature is {temperature}; want a number of at least 0 (0 takes the likeliest token)"
            );
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            invalid!("top-p is {top_p}; want a probability above 0 and up to 1");
        }
        Ok(Self { options, random: SplitMix64(seed) })
    }

    /// The next token for one row of logits.
    ///
    /// # Errors
    /// When there are no logits or one is NaN or infinite.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let SamplingOptions { temperature, top_k, top_p, .. } = self.options;
        let best = argmax(logits)?;
        if temperature == 0.0 {
            return Ok(best);
        }
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
        let weight = |id: &u32| ((f64::from(logits[*id as usize]) - peak) / f64::from(temperature)).exp();
        let mut weights: Vec<f64> = ids.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        if top_p < 1.0 {
            let mut sum = 0.0;
            let reaches = |weight: &f64| {
                sum += weight;
                sum >= f64::from(top_p) * total
            };
            let count = weights.iter().position(reaches).map_or(weights.len(), |last| last + 1);
            weights.truncate(count);
        }
        let mut target = self.random.uniform() * weights.iter().sum::<f64>();
        for (id, weight) in ids.iter().zip(&weights) {
            if target < *weight {
                return Ok(*id);
            }
            target -= weight;
        }
        // Rounding can leave a target of zero behind the last weight.
        Ok(ids[weights.len() - 1])
    }
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
            counts[sampler.sample(logits).unwrap() as usize] += 1;
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
    fn extreme_options_and_bad_logits() {
        let cold = SamplingOptions { temperature: 1e-30, top_k: 9, ..Default::default() };
        assert_eq!(counts(cold, &[1.0, 1e30, -1e30], 10), [0, 10, 0]);
        for (temperature, top_p) in
            [(-1.0, 1.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, 0.0), (1.0, 1.5)]
        {
            assert!(Sampler::new(SamplingOptions { temperature, top_p, ..Default::default() }).is_err());
        }
        for logits in [&[][..], &[f32::NAN], &[0.0, f32::INFINITY], &[f32::NEG_INFINITY, 0.0]] {
            assert!(argmax(logits).is_err());
        }
    }
}
