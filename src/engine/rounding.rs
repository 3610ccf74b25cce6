//! Rounding of activations to element formats: their tables on the device, and which kernel reads them.

use crate::error::Result;
use crate::format::element::{Element, OcpElement, OcpRounding, OcpScale};
use crate::format::steps::{StepTable, tables};
use crate::format::{ActivationFormat, Block, block_tile};
use crate::gpu::{Buffer, Gpu};
use crate::shader::Kernel;

/// Stands for a block that is not a number, where exponents below 128 are.
const NAN_EXPONENT: i32 = 1 << 20;

/// What a table depends on: blocks are parameters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RoundingKey {
    /// Values, or (true) integer codes.
    Element(Element, bool),
    NvFp4,
}

impl RoundingKey {
    /// `None` for formats that the device rounds without tables.
    pub(super) fn new(format: ActivationFormat, codes: bool) -> Option<Self> {
        match format {
            ActivationFormat::Element { element, .. } => Some(Self::Element(element, codes)),
            ActivationFormat::NvFp4 => Some(Self::NvFp4),
            ActivationFormat::Int { .. } | ActivationFormat::TorchDynamic => None,
        }
    }

    pub(super) fn upload(self, gpu: &Gpu) -> Result<Rounding> {
        match self {
            Self::Element(element, codes) => Rounding::element(gpu, element, codes),
            Self::NvFp4 => Rounding::nvfp4(gpu),
        }
    }
}

/// A format as data for the rounding kernels.
pub struct Rounding {
    /// Which of them rounds with it.
    pub kernel: Kernel,
    /// See `shaders/lib/blocks.wgsl` and `shaders/lib/steps.wgsl`.
    pub table: Buffer,
    scales: usize,
    steps: usize,
    zero_shares: bool,
    wide: Wide,
}

impl Rounding {
    /// Computes the tables of `element` and uploads them; `codes` asks for integer codes in place of values.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn element(gpu: &Gpu, element: Element, codes: bool) -> Result<Self> {
        let scales = element.scale_steps();
        let few = element.has_few_values();
        let kernel = match (codes, few) {
            (true, _) => Kernel::QuantizeSteps,
            (false, true) => Kernel::RoundSteps,
            (false, false) => Kernel::RoundWide,
        };
        let from = scales.iter().map(|scale| scale.from).collect();
        let words = scales.iter().map(|scale| match codes {
            true => element.integer_scale(scale.code).to_bits(),
            false => exponent(element, scale.code) as u32,
        });
        let tables = if few { tables(element, codes) } else { Vec::new() };
        let rounding = Self::upload(gpu, kernel, from, words.collect(), &tables)?;
        Ok(Self { zero_shares: element.zero_blocks_share(), wide: Wide::new(element), ..rounding })
    }

    /// The two step functions of NVFP4, E4M3 and E2M1.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn nvfp4(gpu: &Gpu) -> Result<Self> {
        /// Scale code of factor 1.
        const ONE: u8 = 127;
        let of = |element| Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor };
        let tables = [OcpElement::Fp8E4m3, OcpElement::Fp4E2m1].map(|element| of(element).value_steps(ONE));
        Self::upload(gpu, Kernel::RoundNvfp4, vec![0; 2], vec![0; 2], &tables)
    }

    fn upload(
        gpu: &Gpu,
        kernel: Kernel,
        from: Vec<u32>,
        scales: Vec<u32>,
        tables: &[StepTable],
    ) -> Result<Self> {
        let total = |tables: &[StepTable]| tables.iter().map(|table| table.starts.len()).sum::<usize>();
        let mut words = [from, scales.clone()].concat();
        if !tables.is_empty() {
            words.extend((0..=tables.len()).map(|scale| total(&tables[..scale]) as u32));
            words.extend(tables.iter().flat_map(|table| &table.starts));
            words.extend(tables.iter().flat_map(|table| &table.values));
        }
        let table = gpu.buffer("rounding table", (words.len() * 4) as u64)?;
        gpu.upload(&table, bytemuck::cast_slice(&words))?;
        let (scales, steps) = (scales.len(), total(tables));
        Ok(Self { kernel, table, scales, steps, zero_shares: false, wide: Wide::default() })
    }

    /// Whether blocks have scales of their own, so that their maxima are needed.
    pub fn has_scales(&self) -> bool {
        self.scales > 1
    }

    /// Whether [`Kernel::TileAbsmax`] is needed: blocks of several rows, or blocks of zeros that look at others.
    pub fn has_tiles(&self, block: Block, cols: usize) -> bool {
        self.has_scales() && (block_tile(block, cols).0 != 1 || self.zero_shares)
    }

    /// Parameters of [`Kernel::BlockAbsmax`], [`Kernel::TileAbsmax`] and of the kernel that rounds, for rows of `cols`;
    /// those of the matrices aside.
    pub fn params(&self, block: Block, cols: usize) -> Vec<(&'static str, u32)> {
        let (tile_rows, width) = match self.has_scales() {
            true => block_tile(block, cols),
            false => (1, cols),
        };
        vec![
            ("cols", cols as u32),
            ("block", width as u32),
            ("blocks", cols.div_ceil(width) as u32),
            ("tile_rows", u32::try_from(tile_rows).unwrap_or(u32::MAX)),
            ("zero_shares", u32::from(self.zero_shares)),
            ("scales", self.scales as u32),
            ("steps", self.steps as u32),
            ("kind", self.wide.kind),
            ("mantissa", self.wide.mantissa),
            ("span", self.wide.span),
            ("floor", u32::from(self.wide.floor)),
            ("low", self.wide.low.to_bits()),
            ("high", self.wide.high.to_bits()),
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
#[derive(Default)]
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
