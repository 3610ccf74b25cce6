//! Results against the truth, and when they agree.

use std::fmt;

use serde::{Serialize, Serializer};

use super::launch::POISON;

/// How far a result may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Bit for bit; any NaN equals any other.
    Exact,
    /// `sum (got - want)^2 / sum want^2` over the whole result.
    Nmse(f64),
    /// `|got - want| <= absolute + relative * |want|` for every element.
    Close {
        /// In the unit of the result.
        absolute: f64,
        /// Part of the element.
        relative: f64,
    },
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Nmse(limit) => write!(f, "NMSE {limit:.0e}"),
            Self::Close { absolute, relative } if *relative == 0.0 => write!(f, "abs {absolute:.0e}"),
            Self::Close { absolute, relative } => write!(f, "abs {absolute:.0e} + {relative:.0e} rel"),
        }
    }
}

impl Serialize for Tolerance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a case computed and what is right, as words. A [`POISON`] in `want` means: must not have been stored.
pub(super) struct Outcome {
    pub(super) got: Vec<u32>,
    pub(super) want: Vec<u32>,
    /// Elements per row, for the place of an error.
    pub(super) stride: usize,
    /// Words are i32 numbers instead of f32.
    pub(super) integers: bool,
}

impl Outcome {
    pub(super) fn floats(got: Vec<u32>, want: Vec<u32>, stride: usize) -> Self {
        Self { got, want, stride, integers: false }
    }

    /// f32 results without padding.
    pub(super) fn dense(got: &[f32], want: &[f32], stride: usize) -> Self {
        Self::floats(to_words(got), to_words(want), stride)
    }

    pub(super) fn integers(got: Vec<u32>, want: Vec<u32>, stride: usize) -> Self {
        Self { got, want, stride, integers: true }
    }
}

pub(super) fn to_words(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// An [`Outcome`] in numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) max_error: f64,
    pub(super) at: Option<String>,
    pub(super) nmse: f64,
    pub(super) pass: bool,
}

/// Compares element by element; `at` is the first element with the largest error (for [`Tolerance::Close`] the
/// one that uses up most of its allowance).
pub(super) fn compare(outcome: &Outcome, tolerance: Tolerance) -> Difference {
    let Outcome { got, want, stride, integers } = outcome;
    if got.len() != want.len() {
        let at = Some(format!("{} elements, want {}", got.len(), want.len()));
        return Difference { max_error: f64::INFINITY, at, nmse: f64::INFINITY, pass: false };
    }
    let number = |word: u32| {
        if *integers { f64::from(word as i32) } else { f64::from(f32::from_bits(word)) }
    };
    let (mut error, mut power, mut max_error) = (0.0f64, 0.0f64, 0.0f64);
    let (mut worst, mut place) = (0.0f64, None);
    let mut exact = true;
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let (a, b) = (number(g), number(w));
        let untouched = g == POISON || w == POISON;
        let same = g == w || (!untouched && a.is_nan() && b.is_nan());
        let equal = same || (!untouched && a == b);
        let difference = match (equal, untouched || !a.is_finite() || !b.is_finite()) {
            (true, _) => 0.0,
            (false, true) => f64::INFINITY,
            (false, false) => (a - b).abs(),
        };
        exact &= same;
        // -0 for 0 is no number apart, but not the same bits: the smallest step there is.
        let weight = match tolerance {
            Tolerance::Exact if !same => difference.max(f64::MIN_POSITIVE),
            Tolerance::Close { absolute, relative } if difference > 0.0 => {
                difference / (absolute + relative * b.abs())
            }
            _ => difference,
        };
        if weight > worst || (weight.is_nan() && place.is_none()) {
            (worst, place) = (weight, Some(i));
        }
        max_error = max_error.max(difference);
        error += difference * difference;
        if b.is_finite() {
            power += b * b;
        }
    }
    let nmse = if error == 0.0 { 0.0 } else { error / power };
    let pass = match tolerance {
        Tolerance::Exact => exact,
        Tolerance::Nmse(limit) => nmse <= limit,
        Tolerance::Close { .. } => worst <= 1.0,
    };
    let show = |word: u32| match (word, integers) {
        (POISON, _) => "nothing stored".to_string(),
        (_, true) => (word as i32).to_string(),
        (_, false) => format!("{:e}", f32::from_bits(word)),
    };
    let at = place.map(|i| {
        let place = if *stride > 0 && *stride < got.len() {
            format!("[{}, {}]", i / stride, i % stride)
        } else {
            format!("[{i}]")
        };
        format!("{place}: {}, want {}", show(got[i]), show(want[i]))
    });
    Difference { max_error, at, nmse, pass }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(got: &[f32], want: &[f32], tolerance: Tolerance) -> Difference {
        compare(&Outcome::dense(got, want, 2), tolerance)
    }

    #[test]
    fn exact_means_bits_except_for_the_payload_of_nan() {
        assert!(run(&[1.0, f32::NAN], &[1.0, -f32::NAN], Tolerance::Exact).pass);
        let zero = run(&[1.0, 2.0, -0.0], &[1.0, 2.0, 0.0], Tolerance::Exact);
        assert!(!zero.pass);
        assert_eq!(zero.at.as_deref(), Some("[1, 0]: -0e0, want 0e0"));
    }

    #[test]
    fn unstored_and_overwritten_elements_fail_every_tolerance() {
        let loose = Tolerance::Close { absolute: 1e30, relative: 1.0 };
        for (got, want) in [(POISON, 0), (0, POISON), (POISON, f32::NAN.to_bits())] {
            for tolerance in [Tolerance::Exact, Tolerance::Nmse(1e30), loose] {
                let difference = compare(&Outcome::floats(vec![0, got], vec![0, want], 2), tolerance);
                assert!(!difference.pass, "{got:x} for {want:x} passes {tolerance}");
            }
        }
    }

    #[test]
    fn nan_and_infinity_fail_where_a_number_is_wanted() {
        for bad in [f32::NAN, f32::INFINITY] {
            for tolerance in [Tolerance::Nmse(1.0), Tolerance::Close { absolute: 1.0, relative: 1.0 }] {
                assert!(!run(&[bad], &[1.0], tolerance).pass);
            }
        }
        assert!(run(&[f32::INFINITY], &[f32::INFINITY], Tolerance::Nmse(0.0)).pass);
    }

    #[test]
    fn the_place_is_that_of_the_largest_excess() {
        let tolerance = Tolerance::Close { absolute: 0.1, relative: 0.1 };
        let difference = run(&[1.0, 100.0, 105.0, 0.05], &[1.0, 100.0, 100.0, 0.0], tolerance);
        assert!(difference.pass);
        assert_eq!(difference.at.as_deref(), Some("[1, 1]: 5e-2, want 0e0"));
        assert_eq!(difference.max_error, 5.0);
    }
}
