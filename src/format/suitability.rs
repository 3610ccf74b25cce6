//! Whether a format can hold the weights of a tensor at all, decided from a few numbers and before any work.
//!
//! Formats with real scales fit themselves to the data, and [`check`] finds nothing wrong with them. Formats
//! whose values are fixed, and block formats whose shared exponent is clamped, may miss the data altogether: a
//! step above the largest weight, or a range below most of them. A search that tries them wastes its trials.

use std::fmt;

use super::element::Element;
use super::element::number::exp2;
use super::{Format, short_number};

/// More than this share of weights that become 0 is worth a warning.
const ZEROED: f64 = 0.5;
/// More than this share of weights beyond the range is worth a warning.
const SATURATED: f64 = 0.01;
/// Bits of a magnitude that tell its histogram bin: the exponent and four more, a sixteenth of a binade.
const BIN_SHIFT: u32 = 19;
/// Magnitudes up to this pass some formats unquantized, which is not to become 0.
const NEAR_ZERO: f32 = 1e-8;

/// What [`check`] wants to know of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorStatistics {
    /// Number of weights.
    pub count: u64,
    /// Largest magnitude.
    pub max: f32,
    /// Median magnitude; the mean of the middle two of an even number.
    pub median: f32,
    /// Mean magnitude.
    pub mean: f32,
    /// Index of the first bin of `bins`.
    first: usize,
    /// Numbers of weights by magnitude.
    bins: Vec<u64>,
}

impl TensorStatistics {
    /// The statistics of the finite ones of `weights`; all zero where there are none.
    pub fn new(weights: &[f32]) -> Self {
        let mut magnitudes: Vec<f32> = weights.iter().map(|w| w.abs()).filter(|w| w.is_finite()).collect();
        let count = magnitudes.len();
        if count == 0 {
            return Self { count: 0, max: 0.0, median: 0.0, mean: 0.0, first: 0, bins: Vec::new() };
        }
        let (below, &mut upper, _) = magnitudes.select_nth_unstable_by(count / 2, f32::total_cmp);
        let lower = below.iter().copied().max_by(f32::total_cmp).filter(|_| count.is_multiple_of(2));
        let median = ((f64::from(lower.unwrap_or(upper)) + f64::from(upper)) / 2.0) as f32;
        let bin = |magnitude: f32| (magnitude.to_bits() >> BIN_SHIFT) as usize;
        let min = magnitudes.iter().copied().fold(f32::INFINITY, f32::min);
        let max = magnitudes.iter().copied().fold(0.0, f32::max);
        let mean = magnitudes.iter().map(|&m| f64::from(m)).sum::<f64>() / count as f64;
        let first = bin(min);
        let mut bins = vec![0; bin(max) - first + 1];
        for &magnitude in &magnitudes {
            bins[bin(magnitude) - first] += 1;
        }
        Self { count: count as u64, max, median, mean: mean as f32, first, bins }
    }

    /// About the share of weights with a magnitude above `low` and below `high`: counts are kept by
    /// sixteenths of a binade, and a bin that a bound cuts is taken to be evenly filled.
    pub fn share(&self, low: f32, high: f32) -> f64 {
        let mut sum = 0.0;
        for (index, &count) in self.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let edge = |index: usize| f64::from(f32::from_bits((index as u32) << BIN_SHIFT));
            // No magnitude is above the maximum, so the last bin ends there.
            let begin = edge(self.first + index);
            let end = edge(self.first + index + 1).min(self.max.into());
            let (low, high) = (f64::from(low), f64::from(high));
            let covered = if begin < end {
                ((end.min(high) - begin.max(low)) / (end - begin)).clamp(0.0, 1.0)
            } else {
                f64::from(u8::from(low < begin && begin < high))
            };
            sum += count as f64 * covered;
        }
        sum / (self.count.max(1) as f64)
    }
}

/// Something that makes a format unfit for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warning {
    /// The format.
    pub format: Format,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong, with its numbers. Shares are of all weights of the tensor, and approximate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// `width - exponent_width - 1` is 0 or less.
    MantissaBits {
        /// That difference.
        bits: i32,
        /// What is left of the values.
        effect: MantissaEffect,
    },
    /// The largest value is below the median magnitude.
    RangeBelowMedian {
        /// Largest magnitude the format has for this tensor.
        largest: f64,
        /// Median magnitude of the tensor.
        median: f32,
        /// Share of weights beyond the range.
        saturated: f64,
    },
    /// The smallest positive value is above the largest magnitude.
    StepAboveMaximum {
        /// Smallest positive value the format has for this tensor.
        step: f64,
        /// Largest magnitude of the tensor.
        max: f32,
        /// Share of weights that become 0; the others become `step` or its negative, if not more.
        zeroed: f64,
    },
    /// More than 1 % of the weights lie beyond the range.
    Saturates {
        /// Largest magnitude the format has for this tensor.
        largest: f64,
        /// Share of weights beyond it.
        saturated: f64,
    },
    /// More than half of the weights become 0.
    Zeroes {
        /// Smallest positive value the format has for this tensor.
        step: f64,
        /// Share of weights that become 0.
        zeroed: f64,
    },
}

/// What minifloats without mantissa bits are left with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MantissaEffect {
    /// Every weight becomes 0.
    AllZero,
    /// Weights become 0 or change their sign.
    SignFlips,
    /// Powers of two, and 0.
    PowersOfTwo,
}

impl Reason {
    /// One word for machines: `mantissa_bits`, `range_below_median`, `step_above_maximum`, `saturates` or `zeroes`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MantissaBits { .. } => "mantissa_bits",
            Self::RangeBelowMedian { .. } => "range_below_median",
            Self::StepAboveMaximum { .. } => "step_above_maximum",
            Self::Saturates { .. } => "saturates",
            Self::Zeroes { .. } => "zeroes",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MantissaBits { bits, effect } => {
                let effect = match effect {
                    MantissaEffect::AllZero => "every weight becomes 0",
                    MantissaEffect::SignFlips => "weights become 0 or change their sign",
                    MantissaEffect::PowersOfTwo => "only powers of two and 0 are left",
                };
                write!(f, "width - exponent_width - 1 leaves {bits} mantissa bits: {effect}")
            }
            Self::RangeBelowMedian { largest, median, saturated } => write!(
                f,
                "the largest value {} is below the median magnitude {}; {:.1} % of the weights saturate",
                short_number(largest),
                short_number(median.into()),
                saturated * 100.0
            ),
            Self::StepAboveMaximum { step, max, zeroed } => write!(
                f,
                "the smallest positive value {} is above the largest magnitude {}; {:.1} % of the weights become 0",
                short_number(step),
                short_number(max.into()),
                zeroed * 100.0
            ),
            Self::Saturates { largest, saturated } => write!(
                f,
                "{:.1} % of the weights lie beyond the largest value {} and saturate",
                saturated * 100.0,
                short_number(largest)
            ),
            Self::Zeroes { step, zeroed } => write!(
                f,
                "{:.1} % of the weights become 0; the smallest positive value is {}",
                zeroed * 100.0,
                short_number(step)
            ),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.format, self.reason)
    }
}

/// Whether [`check`] may find something, so that the statistics of a tensor are worth computing.
pub fn may_warn(format: Format) -> bool {
    matches!(format, Format::Element { .. } | Format::Ternary)
}

/// What makes `format` unfit for a tensor; empty where nothing does. Costs microseconds: a search can ask it for
/// every spec and tensor before it loads anything onto a device.
///
/// For block formats the tensor counts as one block: an exponent that does not fit the largest weight fits none.
pub fn check(format: Format, statistics: &TensorStatistics) -> Vec<Warning> {
    let reasons = match format {
        Format::Element { element, .. } => check_element(format, element, statistics),
        Format::Ternary if 0.0 < statistics.max && statistics.max < 1.0 => {
            // Its threshold follows the data, its values do not.
            let zeroed = statistics.share(0.0, 0.75 * statistics.mean);
            vec![Reason::StepAboveMaximum { step: 1.0, max: statistics.max, zeroed }]
        }
        _ => Vec::new(),
    };
    reasons.into_iter().map(|reason| Warning { format, reason }).collect()
}

fn check_element(format: Format, element: Element, statistics: &TensorStatistics) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = mantissa(element).into_iter().collect();
    let scale_code = element.scale_code(statistics.max);
    // A NaN block has no values to compare.
    let Some(exponent) = element.exponent(scale_code).filter(|_| statistics.max > 0.0) else {
        return reasons;
    };
    let (largest, least) = match element.bits() {
        ..=8 => {
            let grid = format.value_grid();
            (grid.largest(), grid.least.unwrap_or(0.0))
        }
        // Without its list, which would take milliseconds; unused codes at the ends matter little here.
        _ => element.range(),
    };
    let (largest, step) = (largest * exp2(exponent), least * exp2(exponent));
    let saturated = statistics.share(largest as f32, f32::INFINITY);
    if 0.0 < largest && largest < statistics.median.into() {
        reasons.push(Reason::RangeBelowMedian { largest, median: statistics.median, saturated });
    } else if largest > 0.0 && saturated > SATURATED {
        reasons.push(Reason::Saturates { largest, saturated });
    }
    if step > 0.0 {
        let zeroed = zeroed(element, scale_code, step as f32, statistics);
        if step > statistics.max.into() {
            reasons.push(Reason::StepAboveMaximum { step, max: statistics.max, zeroed });
        } else if zeroed > ZEROED {
            reasons.push(Reason::Zeroes { step, zeroed });
        }
    }
    reasons
}

fn mantissa(element: Element) -> Option<Reason> {
    let (width, exponent_width, implicit) = match element {
        Element::MinifloatDenorm { width, exponent_width, .. } => (width, exponent_width, false),
        Element::MinifloatIeee { width, exponent_width, .. }
        | Element::BlockMinifloat { width, exponent_width, .. }
        | Element::BlockMinifloatCorrected { width, exponent_width, .. } => (width, exponent_width, true),
        _ => return None,
    };
    let bits = i32::from(width) - i32::from(exponent_width) - 1;
    let effect = match (bits, implicit) {
        (1.., _) => return None,
        (0, false) => MantissaEffect::AllZero,
        (0, true) => MantissaEffect::PowersOfTwo,
        _ => MantissaEffect::SignFlips,
    };
    Some(Reason::MantissaBits { bits, effect })
}

/// The share of weights that are not 0 and become 0, taking both signs to be equally frequent.
fn zeroed(element: Element, scale_code: u8, step: f32, statistics: &TensorStatistics) -> f64 {
    let of_sign = |sign: f32| {
        let is_zero = |magnitude: f32| element.quantize(sign * magnitude, scale_code) == 0.0;
        let low = if is_zero(f32::MIN_POSITIVE) { 0.0 } else { NEAR_ZERO };
        let mut below = low.next_up();
        if !is_zero(below) {
            return 0.0;
        }
        // Some step need not survive, and unsigned formats send all negative numbers to 0.
        let mut above = step.max(below);
        while is_zero(above) && above <= statistics.max {
            above *= 2.0;
        }
        if is_zero(above) {
            return statistics.share(low, f32::INFINITY);
        }
        // Bit patterns of positive floats are in the order of their values.
        while above.to_bits() - below.to_bits() > 1 {
            let middle = f32::from_bits(below.to_bits().midpoint(above.to_bits()));
            if is_zero(middle) { below = middle } else { above = middle }
        }
        statistics.share(low, above)
    };
    (of_sign(1.0) + of_sign(-1.0)) / 2.0
}

#[cfg(test)]
mod tests;
