//! Rounding of activations to element formats: their tables on the device, and which kernel reads them.

use crate::error::Result;
use crate::format::element::Element;
use crate::format::steps::{StepTable, tables};
use crate::format::{Block, block_tile};
use crate::gpu::{Buffer, Gpu};
use crate::shader::Kernel;

/// Stands for a block that is not a number, where exponents below 128 are.
const NAN_EXPONENT: i32 = 1 << 20;

/// An element format as data for the rounding kernels.
pub struct Rounding {
    element: Element,
    codes: bool,
    /// See `shaders/lib/blocks.wgsl` and `shaders/lib/steps.wgsl`.
    pub table: Buffer,
    scales: usize,
    steps: usize,
}

impl Rounding {
    /// Computes the tables of `element` and uploads them; `codes` asks for integer codes in place of values.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn upload(gpu: &Gpu, element: Element, codes: bool) -> Result<Self> {
        let scales = element.scale_steps();
        let mut words: Vec<u32> = scales.iter().map(|scale| scale.from).collect();
        words.extend(scales.iter().map(|scale| match codes {
            true => element.integer_scale(scale.code).to_bits(),
            false => exponent(element, scale.code) as u32,
        }));
        let mut steps = 0;
        if element.has_few_values() {
            let tables = tables(element, codes);
            let total = |tables: &[StepTable]| tables.iter().map(|table| table.starts.len()).sum::<usize>();
            words.extend((0..=tables.len()).map(|scale| total(&tables[..scale]) as u32));
            words.extend(tables.iter().flat_map(|table| &table.starts));
            words.extend(tables.iter().flat_map(|table| &table.values));
            steps = total(&tables);
        }
        let table = gpu.buffer("rounding table", (words.len() * 4) as u64)?;
        gpu.upload(&table, bytemuck::cast_slice(&words))?;
        Ok(Self { element, codes, table, scales: scales.len(), steps })
    }

    /// The kernel that rounds with it.
    pub fn kernel(&self) -> Kernel {
        match (self.codes, self.element.has_few_values()) {
            (true, _) => Kernel::QuantizeSteps,
            (false, true) => Kernel::RoundSteps,
            (false, false) => Kernel::RoundWide,
        }
    }

    /// Whether blocks have scales of their own, so that their maxima are needed.
    pub fn has_scales(&self) -> bool {
        self.scales > 1
    }

    /// Whether [`Kernel::TileAbsmax`] is needed: blocks of several rows, or blocks of zeros that look at others.
    pub fn has_tiles(&self, block: Block, cols: usize) -> bool {
        self.has_scales() && (block_tile(block, cols).0 != 1 || self.element.zero_blocks_share())
    }

    /// Parameters of [`Kernel::BlockAbsmax`], [`Kernel::TileAbsmax`] and of the kernel that rounds, for rows of `cols`;
    /// those of the matrices aside.
    pub fn params(&self, block: Block, cols: usize) -> Vec<(&'static str, u32)> {
        let (tile_rows, width) = match self.has_scales() {
            true => block_tile(block, cols),
            false => (1, cols),
        };
        let wide = Wide::new(self.element);
        vec![
            ("cols", cols as u32),
            ("block", width as u32),
            ("blocks", cols.div_ceil(width) as u32),
            ("tile_rows", u32::try_from(tile_rows).unwrap_or(u32::MAX)),
            ("zero_shares", u32::from(self.element.zero_blocks_share())),
            ("scales", self.scales as u32),
            ("steps", self.steps as u32),
            ("kind", wide.kind),
            ("mantissa", wide.mantissa),
            ("span", wide.span),
            ("floor", u32::from(wide.floor)),
            ("low", wide.low.to_bits()),
            ("high", wide.high.to_bits()),
        ]
    }
}

/// The exponent that the definition of a wide format works with.
fn exponent(element: Element, scale_code: u8) -> i32 {
    match element {
        Element::Integer { frac_width, .. } => -i32::from(frac_width),
        // The lowest one.
        Element::MinifloatDenorm { exponent_bias, .. } | Element::MinifloatIeee { exponent_bias, .. } => {
            -exponent_bias
        }
        _ => element.exponent(scale_code).unwrap_or(NAN_EXPONENT),
    }
}

/// Parameters of `shaders/kernel/round_wide.wgsl`.
struct Wide {
    kind: u32,
    mantissa: u32,
    span: u32,
    floor: bool,
    low: f32,
    high: f32,
}

impl Wide {
    fn new(element: Element) -> Self {
        let power = |exponent: u32| f64::from(exponent).exp2();
        let signed =
            |width: u8| (power(u32::from(width) - 1) as f32, (power(u32::from(width) - 1) - 1.0) as f32);
        let fixed = |mantissa: u32, floor: bool, (low, high): (f32, f32)| Self {
            kind: 0,
            mantissa,
            span: 0,
            floor,
            low,
            high,
        };
        let float = |kind: u32, width: u8, exponent_width: u8| {
            let mantissa = u32::from(width).saturating_sub(u32::from(exponent_width) + 1);
            let high = (power(mantissa) - 1.0) as f32;
            Self { kind, mantissa, span: (1 << exponent_width) - 1, floor: false, low: 0.0, high }
        };
        match element {
            Element::Integer { width, signed: true, floor, .. } => fixed(0, floor, signed(width)),
            Element::Integer { width, floor, .. } => {
                fixed(0, floor, (0.0, (power(width.into()) - 1.0) as f32))
            }
            Element::MxInt { width } => fixed(u32::from(width) - 1, false, signed(width)),
            Element::MxIntHardware { width, .. } => fixed(0, true, signed(width)),
            Element::BlockFp { width, .. } => {
                let high = signed(width).1;
                Self { kind: 1, ..fixed(u32::from(width) - 1, false, (high, high)) }
            }
            Element::MinifloatDenorm { width, exponent_width, .. } => float(2, width, exponent_width),
            Element::MinifloatIeee { width, exponent_width, .. }
            | Element::BlockMinifloat { width, exponent_width, .. } => float(3, width, exponent_width),
            Element::BlockMinifloatCorrected { width, exponent_width, .. } => {
                let minifloat = float(4, width, exponent_width);
                // The largest mantissa.
                Self { high: (2.0 - (-f64::from(minifloat.mantissa)).exp2()) as f32, ..minifloat }
            }
            _ => fixed(0, false, (0.0, 0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_f32() {
        let integer = |width, signed| Element::Integer { width, frac_width: 3, signed, floor: true };
        let wide = Wide::new(integer(16, true));
        assert_eq!((wide.low, wide.high, wide.floor), (32768.0, 32767.0, true));
        let wide = Wide::new(integer(32, false));
        assert_eq!((wide.low, wide.high), (0.0, 4294967296.0));
        let float = Element::MinifloatIeee { width: 16, exponent_width: 5, exponent_bias: 15 };
        let wide = Wide::new(float);
        assert_eq!((wide.mantissa, wide.span, wide.high), (10, 31, 1023.0));
        assert_eq!(exponent(float, 0), -15);
    }
}
