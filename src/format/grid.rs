//! The values a format can hold: range, step and, up to 16 bits, all of them.

use half::{bf16, f16};

use super::element::Element;
use super::element::number::exp2;
use super::ggml::{E2M1_TABLE, GgmlType, IQ4_TABLE};
use super::{Format, int};

/// Widest codes whose values are listed one by one.
const LISTED_BITS: u32 = 16;

/// How the values of a grid become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factor {
    /// The values are the weights.
    One,
    /// Times a real scale of the tensor, row or group.
    Scale,
    /// Times a power of two of the block.
    PowerOfTwo,
    /// Times a real scale of the group, plus an offset of the group: a zero point or a minimum.
    ScaleAndOffset,
}

/// The values that the encoder of a format produces, relative to the [`Factor`].
#[derive(Clone, Debug, PartialEq)]
pub struct ValueGrid {
    /// What the values are relative to.
    pub factor: Factor,
    /// All finite values, ascending, each once; empty for formats whose codes are wider than 16 bits.
    pub values: Vec<f64>,
    /// Smallest value.
    pub low: f64,
    /// Largest value.
    pub high: f64,
    /// Smallest difference between two values; `None` where there is but one.
    pub step: Option<f64>,
    /// Smallest positive value; `None` where there is none.
    pub least: Option<f64>,
}

impl ValueGrid {
    fn of_list(factor: Factor, values: impl IntoIterator<Item = f64>) -> Self {
        // -0 + 0 is 0, so that the two zeros are one value.
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).map(|v| v + 0.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let steps = values.windows(2).map(|pair| pair[1] - pair[0]);
        Self {
            factor,
            low: values.first().copied().unwrap_or(0.0),
            high: values.last().copied().unwrap_or(0.0),
            step: steps.min_by(f64::total_cmp),
            least: values.iter().copied().find(|&v| v > 0.0),
            values,
        }
    }

    /// The integers of a range times `unit`.
    fn of_integers(factor: Factor, range: std::ops::RangeInclusive<i32>, unit: f64) -> Self {
        Self::of_list(factor, range.map(|q| f64::from(q) * unit))
    }

    /// Too many values to list, the smallest positive one being the smallest difference too.
    fn of_range(factor: Factor, low: f64, high: f64, step: f64) -> Self {
        let step = Some(step).filter(|&step| step > 0.0);
        Self { factor, values: Vec::new(), low, high, step, least: step }
    }

    /// Largest magnitude.
    pub fn largest(&self) -> f64 {
        self.high.max(-self.low)
    }
}

impl Format {
    /// The values this format can hold. Codes that no encoder writes, such as the -8 of `int4` or the lowest
    /// subnormals of `mase_mxfp`, do not count.
    ///
    /// Values with a [`Factor::PowerOfTwo`] are those at exponent 0 of the element's definition
    /// ([`Element::unit`]): `127/64` is the largest of `mxint8`.
    pub fn value_grid(&self) -> ValueGrid {
        use Factor::{One, PowerOfTwo, Scale, ScaleAndOffset};
        let integers = ValueGrid::of_integers;
        match *self {
            Self::F32 => ValueGrid::of_range(One, f32::MIN.into(), f32::MAX.into(), exp2(-149)),
            Self::F16 => ValueGrid::of_list(One, (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f64())),
            Self::Bf16 => ValueGrid::of_list(One, (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f64())),
            Self::Int { bits, .. } => {
                let qmax = int::qmax(bits);
                integers(Scale, -qmax..=qmax, 1.0)
            }
            Self::Uint { bits, .. } => integers(ScaleAndOffset, 0..=(1 << bits) - 1, 1.0),
            Self::BinaryMean { .. } => ValueGrid::of_list(Scale, [-1.0, 1.0]),
            Self::TernaryMean { .. } => integers(Scale, -1..=1, 1.0),
            Self::Ternary => integers(One, -1..=1, 1.0),
            // `max / 127.5` puts a negative maximum half-way between -127 and -128, and even is -128.
            Self::TorchDynamic => integers(Scale, -128..=127, 1.0),
            Self::MxInt { bits } => {
                let qmax = int::qmax(bits);
                integers(PowerOfTwo, -qmax..=qmax, exp2(2 - i32::from(bits)))
            }
            Self::MxIntCuda { .. } => integers(PowerOfTwo, -127..=127, exp2(-6)),
            Self::Radix { base, .. } => {
                let qmax = i32::from(base / 2);
                integers(Scale, -qmax..=qmax, 1.0)
            }
            Self::Base11Nine32 { .. } => {
                ValueGrid::of_list(ScaleAndOffset, (0..=10).map(|digit| f64::from(digit) / 10.0))
            }
            Self::Nf4 { .. } | Self::NvFp4 | Self::Custom(_) => {
                ValueGrid::of_list(Scale, self.table().into_iter().map(f64::from))
            }
            Self::Element { element, .. } => element_grid(element),
            Self::Ggml(kind) => ggml_grid(kind),
        }
    }
}

/// The integers or the table `n` of the table in [`super::ggml`].
fn ggml_grid(kind: GgmlType) -> ValueGrid {
    use Factor::{PowerOfTwo, Scale, ScaleAndOffset};
    let (factor, range) = match kind {
        GgmlType::Q4_0 => (Scale, -8..=7),
        GgmlType::Q4_1 | GgmlType::Q4K => (ScaleAndOffset, 0..=15),
        GgmlType::Q5_0 => (Scale, -16..=15),
        GgmlType::Q5_1 | GgmlType::Q5K => (ScaleAndOffset, 0..=31),
        GgmlType::Q8_0 => (Scale, -127..=127),
        GgmlType::Q2K => (ScaleAndOffset, 0..=3),
        GgmlType::Q3K => (Scale, -4..=3),
        GgmlType::Q6K => (Scale, -32..=31),
        GgmlType::Tq1_0 | GgmlType::Tq2_0 => (Scale, -1..=1),
        GgmlType::Iq4Nl | GgmlType::Iq4Xs => {
            return ValueGrid::of_list(Scale, IQ4_TABLE.iter().map(|&n| f64::from(n)));
        }
        GgmlType::Mxfp4 | GgmlType::Nvfp4 => {
            // The table has twice the values of E2M1.
            let factor = if kind == GgmlType::Mxfp4 { PowerOfTwo } else { Scale };
            return ValueGrid::of_list(factor, E2M1_TABLE.iter().map(|&n| f64::from(n) / 2.0));
        }
    };
    ValueGrid::of_integers(factor, range, 1.0)
}

fn element_grid(element: Element) -> ValueGrid {
    let factor = if element.scale_bits() == 0 { Factor::One } else { Factor::PowerOfTwo };
    if element.bits() <= LISTED_BITS {
        return ValueGrid::of_list(factor, produced(element));
    }
    let (high, least) = element.range();
    let low = match element {
        Element::Integer { signed: false, .. } => 0.0,
        // Two's complement, and these encoders use the most negative code.
        Element::Integer { .. } | Element::MxIntHardware { .. } => -high - least,
        _ => -high,
    };
    ValueGrid::of_range(factor, low, high, least)
}

/// Values at exponent 0 that the quantizer gives for some number: it is asked at every value, an ulp beside it, and
/// half-way to the next one.
fn produced(element: Element) -> Vec<f64> {
    let codes = || 0..1u32 << element.bits();
    // Exponent 0 may lie outside of what a block can have; any exponent will do.
    let scale_code = element.exponent_offset().clamp(0, 255) as u8;
    if element.exponent(scale_code).is_none() {
        return codes().map(|code| element.unit(code)).collect();
    }
    let mut values: Vec<f32> =
        codes().map(|code| element.value(code, scale_code) + 0.0).filter(|v| v.is_finite()).collect();
    values.sort_by(f32::total_cmp);
    values.dedup();
    let between = values.windows(2).map(|pair| ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32);
    let beside = values.iter().flat_map(|&v| [v.next_down(), v, v.next_up()]);
    let images = beside.chain(between).flat_map(|x| [x, -x]).map(|x| element.quantize(x, scale_code));
    // What passes unquantized is no value of the format.
    let coded = images.filter_map(|y| Some((y, element.code(y, scale_code)?)));
    // Of a format without scales the f32 counts, which may have underflowed.
    let is_absolute = element.scale_bits() == 0;
    coded.map(|(y, code)| if is_absolute { y.into() } else { element.unit(code) }).collect()
}

/// A number for people: all of its digits where they are few, else four of them.
pub fn short_number(value: f64) -> String {
    let text = value.to_string();
    if text.len() <= 12 {
        return text;
    }
    match value.abs() {
        1e-4..1e6 => {
            let decimals = (3 - value.abs().log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
        }
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests;
