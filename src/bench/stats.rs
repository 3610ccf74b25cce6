//! Median and spread of samples.

use serde::{Deserialize, Serialize};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds; fewer are better.
    Seconds,
    /// Tokens per second; more are better.
    TokensPerSecond,
}

impl Unit {
    /// Whether a larger number is the better one.
    pub fn more_is_better(self) -> bool {
        self == Self::TokensPerSecond
    }
}

/// Order statistics of samples. Quartiles lie between samples where they must.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub samples: usize,
    /// Half lie below.
    pub median: f64,
    /// A quarter lies below.
    pub low: f64,
    /// A quarter lies above.
    pub high: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of `values`; `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let at = |part: f64| {
            let place = part * (sorted.len() - 1) as f64;
            let (below, rest) = (place.floor() as usize, place.fract());
            let above = sorted[(below + 1).min(sorted.len() - 1)];
            sorted[below] + (above - sorted[below]) * rest
        };
        Some(Self { samples: sorted.len(), median: at(0.5), low: at(0.25), high: at(0.75), min, max })
    }

    /// Distance of the quartiles as a part of the median.
    pub fn spread(&self) -> f64 {
        if self.median > 0.0 { (self.high - self.low) / self.median } else { 0.0 }
    }
}

/// Samples of something with a unit, as result files hold it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What is counted.
    pub unit: Unit,
    /// The samples.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Measurement {
    /// Of `values`; `None` of nothing.
    pub fn of(unit: Unit, values: &[f64]) -> Option<Self> {
        Summary::of(values).map(|summary| Self { unit, summary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_known_samples() {
        let s = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!((s.samples, s.min, s.low, s.median, s.high, s.max), (5, 1.0, 2.0, 3.0, 4.0, 5.0));
        let s = Summary::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((s.low, s.median, s.high), (1.75, 2.5, 3.25));
        assert!((s.spread() - 0.6).abs() < 1e-12);
        let s = Summary::of(&[7.0]).unwrap();
        assert_eq!((s.low, s.median, s.high, s.spread()), (7.0, 7.0, 7.0, 0.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
