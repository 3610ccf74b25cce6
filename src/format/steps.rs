//! Rounding as data: an element format is a step function for every scale of a block, and the scale itself a step
//! function of the largest magnitude of the block.
//!
//! The device rounds activations by searching these tables. They are found by bisection over the bits of f32, with the
//! definition of the format ([`Element::quantize`], [`Element::scale_code`]) as the only source, so its quirks are
//! in them; a format with other parameters is other data for the same shader.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::element::{Element, OcpElement, scale_codes};
use super::mxint;

/// Elements up to this magnitude pass some formats of MASE unchanged.
const NEAR_ZERO: f32 = 1e-8;
/// What those formats add before they take an exponent.
const NUDGE: f32 = 1e-9;
/// Widest code of the formats that are tables whatever their values.
const TABLE_BITS: u32 = 8;

/// In place of a value: `x` itself. A NaN, of which the formats have but one.
pub const PASS: u32 = 0x7fc0_0001;
/// The NaN of a [`StepTable`].
const NAN: u32 = 0x7fc0_0000;

/// A number that orders floats as their values do, -0 below 0; from the bits of a float.
pub fn order(bits: u32) -> u32 {
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn from_order(order: u32) -> f32 {
    f32::from_bits(if order >> 31 == 1 { order & !(1 << 31) } else { !order })
}

/// A function of f32 that is constant between its breakpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepTable {
    /// [`order`] of the first x of every step, ascending; the first one is 0.
    pub starts: Vec<u32>,
    /// What x becomes: bits of an f32 without a sign for 0, [`PASS`], or an integer.
    pub values: Vec<u32>,
}

impl StepTable {
    /// The value of the step that `x` lies on.
    pub fn at(&self, x: f32) -> u32 {
        let order = order(x.to_bits());
        let after = self.starts.partition_point(|&start| start <= order);
        self.values[after.saturating_sub(1)]
    }

    fn push(&mut self, start: u32, value: u32) {
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// Other values on the same steps.
    fn map(&self, value: impl Fn(u32) -> u32) -> Self {
        let mut mapped = Self::default();
        for (&start, &old) in self.starts.iter().zip(&self.values) {
            mapped.push(start, value(old));
        }
        mapped
    }
}

/// One scale that a block may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleStep {
    /// Bits of the smallest maximum that has it; the first one is 0.
    pub from: u32,
    /// Scale code.
    pub code: u8,
}

impl Element {
    /// The scales in the order of the block maximum; one for all in formats without scales.
    pub fn scale_steps(self) -> Vec<ScaleStep> {
        let of = |bits: u32| u32::from(self.scale_code(f32::from_bits(bits)));
        let mut steps = StepTable::default();
        steps.push(0, of(0));
        refine((0, of(0)), (f32::MAX.to_bits(), of(f32::MAX.to_bits())), &of, &mut steps);
        let pairs = steps.starts.into_iter().zip(steps.values);
        pairs.map(|(from, code)| ScaleStep { from, code: code as u8 }).collect()
    }

    /// Whether a block of zeros takes the smallest non-zero maximum of its sequence (or 1) in place of its own.
    pub fn zero_blocks_share(self) -> bool {
        // The rule has one source, which is asked here: a zero beside the block with the largest scale.
        let beside = scale_codes(self, &[0.0, f32::MAX], 1, 2, 1, 1);
        beside.first().is_some_and(|&code| code != self.scale_code(0.0))
    }

    /// Whether [`Element::value_steps`] serve: codes of at most 8 bits, and wider ones with few values. The other formats
    /// are fixed or floating point with mantissa bits to spare.
    pub fn has_few_values(self) -> bool {
        let crossed = match self {
            Self::MinifloatDenorm { width, exponent_width, .. }
            | Self::MinifloatIeee { width, exponent_width, .. }
            | Self::BlockMinifloat { width, exponent_width, .. } => width <= exponent_width,
            Self::Log { .. } | Self::BlockLog { .. } | Self::ResidualSign { .. } => true,
            _ => false,
        };
        crossed || self.bits() <= TABLE_BITS
    }

    /// [`Element::quantize`] at one scale, for finite x.
    pub fn value_steps(self, scale_code: u8) -> StepTable {
        let passes = self.passes_near_zero();
        let of = |order: u32| {
            let x = from_order(order);
            let y = self.quantize(x, scale_code);
            match y {
                _ if y.is_nan() => NAN,
                _ if y == 0.0 => 0,
                _ if passes && x.abs() <= NEAR_ZERO => PASS,
                _ => y.to_bits(),
            }
        };
        let mut steps = StepTable::default();
        let cuts = self.cuts();
        let Some(&first) = cuts.first() else { return steps };
        let mut left = (first, of(first));
        steps.push(0, left.1);
        for &cut in &cuts[1..] {
            let right = (cut, of(cut));
            refine(left, right, &of, &mut steps);
            left = right;
        }
        steps
    }

    /// The integer codes of `x` on the steps of [`Element::value_steps`], as i32. For formats with
    /// [integer codes](Element::integer_codes) that no value passes.
    pub fn code_steps(self, scale_code: u8) -> StepTable {
        let code =
            |bits: u32| self.code(f32::from_bits(bits), scale_code).or_else(|| self.code(0.0, scale_code));
        self.value_steps(scale_code).map(|bits| i32::from(self.integer_code(code(bits).unwrap_or(0))) as u32)
    }

    /// A stored code as a number, for formats with integer codes.
    pub fn integer_code(self, code: u32) -> i8 {
        match self {
            Self::Binary => 2 * code as i8 - 1,
            _ => {
                let shift = 8u32.saturating_sub(self.bits());
                ((code << shift) as u8 as i8) >> shift
            }
        }
    }

    /// Whether every value has an integer code: `integer_codes` without the formats that let small values pass.
    pub fn integer_fraction(self) -> Option<i32> {
        let integers = match self {
            Self::Integer { .. } | Self::Binary | Self::MxInt { .. } | Self::MxIntHardware { .. } => true,
            Self::Ocp { element, .. } => {
                matches!(element, OcpElement::Int8 | OcpElement::Int6 | OcpElement::Int4)
            }
            _ => false,
        };
        self.integer_codes().filter(|_| integers)
    }

    /// The scale of integer codes; NaN for a NaN block.
    pub fn integer_scale(self, scale_code: u8) -> f32 {
        let fraction = self.integer_codes().unwrap_or(0);
        self.exponent(scale_code).map_or(f32::NAN, |e| mxint::power_of_two(e - fraction) as f32)
    }

    /// Places, as [`order`], between which the format is monotone at every scale: where an exponent changes, and what
    /// single formats add.
    fn cuts(self) -> Vec<u32> {
        let mut at: Vec<u32> = exponent_cuts().to_vec();
        let mut both_signs = |x: f32| at.extend([x, -x].map(|x| order(x.to_bits())));
        match self {
            // The mantissa that rounds to 2 loses its carry: 15 bits of it are rounded to `fraction_width`.
            Self::MaseMxFp { fraction_width, .. } => {
                let carry = ((1 << 15) - (1 << (14 - fraction_width))) << 8;
                (0..255).for_each(|exponent| both_signs(f32::from_bits(exponent << 23 | carry)));
            }
            // The residual of a level changes its sign at the sum of the levels before.
            Self::ResidualSign { levels } => {
                let mut sums = vec![0.0f32];
                for level in 0..u32::from(levels) {
                    let mean = super::element::residual_mean(level, levels.into());
                    sums = sums.iter().flat_map(|sum| [sum - mean, sum + mean]).collect();
                    sums.iter().for_each(|&sum| both_signs(sum));
                }
            }
            _ => {}
        }
        // A step may begin at a cut: what precedes it belongs to the piece on the left.
        let (lowest, highest) = (order((-f32::MAX).to_bits()), order(f32::MAX.to_bits()));
        at = at.into_iter().flat_map(|cut| [cut.saturating_sub(1), cut, cut.saturating_add(1)]).collect();
        at.retain(|cut| (lowest..=highest).contains(cut));
        at.extend([lowest, highest]);
        at.sort_unstable();
        at.dedup();
        at
    }
}

/// Powers of two, the numbers that reach one when [`NUDGE`] is added, and the ends of what passes near zero.
fn exponent_cuts() -> &'static [u32] {
    static CUTS: OnceLock<Vec<u32>> = OnceLock::new();
    CUTS.get_or_init(|| {
        let mut magnitudes = vec![0, NEAR_ZERO.to_bits(), NUDGE.to_bits()];
        magnitudes.extend((0..255).map(|exponent| exponent << 23));
        magnitudes.extend((0..23).map(|bit| 1 << bit));
        let ends = (NUDGE.to_bits() / 2, 1.0f32.to_bits());
        // Floor and ceiling of the exponent; the sums are normal numbers.
        for below in [0, 1] {
            let of = |bits: u32| ((f32::from_bits(bits) + NUDGE).to_bits() - below) >> 23;
            let mut nudged = StepTable::default();
            refine((ends.0, of(ends.0)), (ends.1, of(ends.1)), &of, &mut nudged);
            magnitudes.extend(nudged.starts);
        }
        magnitudes.into_iter().flat_map(|bits| [order(bits), order(bits | 1 << 31)]).collect()
    })
}

/// Appends where `of` changes in `left..=right`, given its values there. It must be monotone in some order of values.
fn refine(left: (u32, u32), right: (u32, u32), of: &impl Fn(u32) -> u32, steps: &mut StepTable) {
    if left.1 == right.1 {
        return;
    }
    if right.0 - left.0 <= 1 {
        steps.push(right.0, right.1);
        return;
    }
    let at = left.0 + (right.0 - left.0) / 2;
    let middle = (at, of(at));
    refine(left, middle, of, steps);
    refine(middle, right, of, steps);
}

/// The tables of all scales, in the order of [`Element::scale_steps`].
pub fn tables(element: Element, codes: bool) -> Vec<StepTable> {
    let of = |step: &ScaleStep| match codes {
        true => element.code_steps(step.code),
        false => element.value_steps(step.code),
    };
    element.scale_steps().par_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::element::tests::{elements, values};
    use super::*;

    /// Numbers with all exponents and signs.
    fn random(seed: u32, n: usize) -> impl Iterator<Item = f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f32::from_bits(state)
        })
        .filter(|x| x.is_finite())
        .take(n)
    }

    fn check(element: Element, code: u8, steps: &StepTable, x: f32) {
        if !x.is_finite() {
            return;
        }
        let want = element.quantize(x, code);
        let got = match steps.at(x) {
            PASS => x,
            bits => f32::from_bits(bits),
        };
        let same = got == want || (got.is_nan() && want.is_nan());
        assert!(same, "{element:?} scale {code}: {x:e} ({:#x}) becomes {got:e}, want {want:e}", x.to_bits());
    }

    #[test]
    fn steps_are_the_definition_at_every_breakpoint_and_at_random() {
        let values = values();
        elements().into_par_iter().filter(|element| element.has_few_values()).for_each(|element| {
            let scales = element.scale_steps();
            // Every eleventh scale, and both ends, where exponents leave the range of f32.
            let near_end = |i: usize| i < 3 || i + 3 >= scales.len();
            for (i, scale) in scales.iter().enumerate().filter(|(i, _)| i % 11 == 0 || near_end(*i)) {
                let steps = element.value_steps(scale.code);
                assert!(steps.starts.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(steps.starts.len() <= 1600, "{element:?}: {} steps", steps.starts.len());
                for &start in &steps.starts[1..] {
                    for order in start.saturating_sub(2)..=start.saturating_add(2) {
                        check(element, scale.code, &steps, from_order(order));
                    }
                }
                // Midway between steps too: a step that was missed lies there.
                for pair in steps.starts.windows(2) {
                    check(element, scale.code, &steps, from_order(pair[0] / 2 + pair[1] / 2));
                }
                values.iter().for_each(|&x| check(element, scale.code, &steps, x));
                random(i as u32 + 1, 500).for_each(|x| check(element, scale.code, &steps, x));
            }
        });
    }

    #[test]
    fn scale_steps_are_the_definition() {
        let values = values();
        for element in elements() {
            let scales = element.scale_steps();
            assert_eq!(scales[0].from, 0);
            let code = |max: f32| scales[scales.partition_point(|s| s.from <= max.to_bits()) - 1].code;
            let ends = scales.iter().flat_map(|s| [s.from.saturating_sub(1), s.from, s.from + 1]);
            let maxima = ends.map(f32::from_bits).chain(values.iter().copied()).chain(random(7, 300));
            for max in maxima.map(f32::abs).filter(|max| max.is_finite()) {
                assert_eq!(code(max), element.scale_code(max), "{element:?}: {max:e}");
            }
        }
    }

    #[test]
    fn code_steps_are_the_codes_of_the_definition() {
        for element in elements().into_iter().filter(|e| e.integer_fraction().is_some() && e.has_few_values())
        {
            let scales = element.scale_steps();
            for scale in scales.iter().step_by(scales.len().div_ceil(5)) {
                let steps = element.code_steps(scale.code);
                let of = |x: f32| i32::from(element.integer_code(element.encode(x, scale.code)));
                for x in values().into_iter().chain(random(3, 500)) {
                    assert_eq!(steps.at(x) as i32, of(x), "{element:?} scale {}: {x:e}", scale.code);
                }
            }
        }
    }

    #[test]
    fn order_is_that_of_values() {
        let ascending = [f32::MIN, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, f32::MAX];
        assert!(ascending.windows(2).all(|pair| order(pair[0].to_bits()) < order(pair[1].to_bits())));
        assert!(ascending.iter().all(|x| from_order(order(x.to_bits())).to_bits() == x.to_bits()));
    }
}
