//! Quantization of activations: the text of formats, and what they do on the CPU.

use std::fmt;
use std::str::FromStr;

use super::element::{Element, OcpElement, OcpScale};
use super::{Block, Format, Scope, display, int};
use crate::error::{Error, Result, invalid};

/// How the input of a linear layer is quantized. Text: that of a weight format; `int8`, `int8(scale=row)`,
/// `torch_dynamic`, `integer(8,4)`, `mxfp8_e4m3`, `block_fp(8,8,none,[1,16])`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationFormat {
    /// Symmetric integers with a dynamic scale.
    Int {
        /// 2..=8.
        bits: u8,
        /// What shares a scale.
        scope: ActivationScope,
    },
    /// PyTorch's dynamic quantization: asymmetric 7-bit integers (`reduce_range`), scale and zero point per sequence.
    TorchDynamic,
    /// An element-wise format, or one with a power-of-two scale per block. Blocks follow MASE's rule for
    /// activations `[sequences, tokens, width]`: a sequence never shares a block with another one.
    Element {
        /// How an element is rounded.
        element: Element,
        /// What shares a scale.
        block: Block,
    },
    /// NVFP4: E2M1 with an E4M3 scale per 16 columns and an f32 scale per sequence.
    NvFp4,
}

impl fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Int { bits, scope: ActivationScope::Tensor } => format!("int{bits}"),
            Self::Int { bits, scope: ActivationScope::Row } => format!("int{bits}(scale=row)"),
            Self::TorchDynamic => "torch_dynamic".to_owned(),
            Self::Element { element, block } => display::element_text(element, block),
            Self::NvFp4 => "nvfp4".to_owned(),
        };
        f.pad(&text)
    }
}

impl FromStr for ActivationFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse::<Format>()? {
            Format::Int { bits, scope: Scope::Tensor } => {
                Ok(Self::Int { bits, scope: ActivationScope::Tensor })
            }
            Format::Int { bits, scope: Scope::Row } => Ok(Self::Int { bits, scope: ActivationScope::Row }),
            Format::TorchDynamic => Ok(Self::TorchDynamic),
            Format::NvFp4 => Ok(Self::NvFp4),
            Format::Element { element, block } => Ok(Self::Element { element, block }),
            Format::MxInt { bits } => {
                let element = match bits {
                    8 => OcpElement::Int8,
                    6 => OcpElement::Int6,
                    _ => OcpElement::Int4,
                };
                match Format::mx(element, OcpScale::Floor) {
                    Format::Element { element, block } => Ok(Self::Element { element, block }),
                    _ => unreachable!("mx formats are elements"),
                }
            }
            other => invalid!(
                "`{other}` is not defined for activations; use intN, intN(scale=row), torch_dynamic, \
                 integer, minifloat_*, log, block_*, mxint*, mxfp*, nvfp4, binary or residual_sign"
            ),
        }
    }
}

/// What shares one activation scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationScope {
    /// All rows of one sequence.
    Tensor,
    /// One row.
    Row,
}

/// Activations as integers: `x ~ code * scale` of the row and group.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedActivations {
    /// `[rows, cols]`.
    pub codes: Vec<i8>,
    /// `[rows, ceil(cols / group)]`.
    pub scales: Vec<f32>,
    /// Columns that share a scale; `cols` for one scale per row.
    pub group: usize,
}

impl ActivationFormat {
    /// Columns that share a scale where the format has integer codes that integer kernels take, for rows of `cols`:
    /// `cols` for one scale per row, else a multiple of 32. `None` where it runs dequantized.
    pub fn integer_group(self, cols: usize) -> Option<usize> {
        match self {
            Self::Int { .. } | Self::TorchDynamic => Some(cols),
            Self::Element { element, block } => {
                let fraction = element.integer_fraction()?;
                if element.scale_bits() == 0 {
                    return (-100..=100).contains(&fraction).then_some(cols);
                }
                match tile(block, cols) {
                    (1, width) if width >= cols => Some(cols),
                    (1, width) if width.is_multiple_of(32) => Some(width),
                    _ => None,
                }
            }
            Self::NvFp4 => None,
        }
    }

    /// Bits of information per element, as far as they are not more than 8.
    pub fn bits(self) -> u8 {
        match self {
            Self::Int { bits, .. } => bits,
            Self::TorchDynamic => 7,
            Self::Element { element, .. } => element.bits().min(8) as u8,
            Self::NvFp4 => 4,
        }
    }

    /// Checks that rows of `cols` columns can be quantized.
    ///
    /// # Errors
    /// When the format has groups along the flattened tensor that would cross rows.
    pub fn check_width(self, cols: usize) -> Result<()> {
        if let Self::Element { block: Block::Flat(group), .. } = self
            && !cols.is_multiple_of(group as usize)
        {
            invalid!(
                "activations of width {cols} in {self}: groups of {group} would cross tokens; choose a group that \
                 divides {cols}"
            );
        }
        Ok(())
    }
}

/// Rows (0: the whole sequence) and columns that share a scale.
pub fn tile(block: Block, cols: usize) -> (usize, usize) {
    match block {
        Block::Flat(group) => (1, group as usize),
        Block::Dims { dims, .. } => {
            let (_, width) = block.tile(1, cols);
            (usize::try_from(dims[1]).unwrap_or(0), width)
        }
        Block::None => (1, cols),
    }
}

/// Quantizes `x`, a matrix `[rows, cols]` with one entry of `spans` per row: the rows `begin..end` of the
/// same sequence. `None` where the format has no integer codes (see [`ActivationFormat::integer_group`]).
///
/// `int`: `scale = absmax / qmax` in f32 (1 when absmax is 0), `code = clamp(rne(x / scale), -qmax, qmax)`. What
/// is per tensor is per sequence here, so that a result never depends on what else is in the batch.
///
/// # Panics
/// When `x` is not `spans.len() * cols` long or a span is out of range.
pub fn quantize_activations(
    x: &[f32],
    cols: usize,
    spans: &[(u32, u32)],
    format: ActivationFormat,
) -> Option<QuantizedActivations> {
    assert_eq!(x.len(), spans.len() * cols, "activations [{}, {cols}]", spans.len());
    let group = format.integer_group(cols)?;
    let rows = |span: (u32, u32)| &x[span.0 as usize * cols..span.1 as usize * cols];
    // The rows of a sequence stand next to each other: what they share is computed once.
    let mut codes: Vec<i8> = Vec::with_capacity(x.len());
    let mut scales: Vec<f32> = Vec::with_capacity(spans.len());
    let mut first = 0;
    while first < spans.len() {
        let last = (first..spans.len()).take_while(|&row| spans[row] == spans[first]).count() + first;
        let part = &x[first * cols..last * cols];
        match format {
            ActivationFormat::Int { bits, scope } => {
                let qmax = int::qmax(bits);
                let shared = int::scale_f32(super::rows::max_abs(rows(spans[first])), qmax);
                for row in part.chunks(cols) {
                    let scale = match scope {
                        ActivationScope::Row => int::scale_f32(super::rows::max_abs(row), qmax),
                        ActivationScope::Tensor => shared,
                    };
                    codes.extend(row.iter().map(|&x| int::code(x, scale, qmax) as i8));
                    scales.push(scale);
                }
            }
            ActivationFormat::TorchDynamic => {
                let (scale, zero) = torch_parameters(rows(spans[first]));
                codes.extend(part.iter().map(|&x| torch_code(x, scale, zero)));
                scales.resize(scales.len() + last - first, scale);
            }
            ActivationFormat::Element { element, block } => {
                let scale_codes = sequence_scale_codes(element, block, part, cols);
                let per_row = scale_codes.len() / (last - first);
                for (row, values) in part.chunks(cols).enumerate() {
                    let of_row = &scale_codes[row * per_row..][..per_row];
                    for (k, &x) in values.iter().enumerate() {
                        let scale_code = of_row.get(k / group).copied().unwrap_or(0);
                        codes.push(element.integer_code(element.encode(x, scale_code)));
                    }
                    scales.extend(of_row.iter().map(|&scale_code| element.integer_scale(scale_code)));
                    if per_row == 0 {
                        scales.push(element.integer_scale(0));
                    }
                }
            }
            ActivationFormat::NvFp4 => return None,
        }
        first = last;
    }
    Some(QuantizedActivations { codes, scales, group })
}

/// The values that `x` becomes, `[rows, cols]`: exactly what the format defines, with what passes unquantized.
///
/// # Panics
/// As [`quantize_activations`].
pub fn fake_quantize(x: &[f32], cols: usize, spans: &[(u32, u32)], format: ActivationFormat) -> Vec<f32> {
    if format.integer_group(cols).is_some() && !matches!(format, ActivationFormat::Element { .. }) {
        let q = quantize_activations(x, cols, spans, format);
        return q.map_or_else(|| x.to_vec(), |q| q.values(cols));
    }
    let mut y = Vec::with_capacity(x.len());
    let mut first = 0;
    while first < spans.len() {
        let last = (first..spans.len()).take_while(|&row| spans[row] == spans[first]).count() + first;
        let part = &x[first * cols..last * cols];
        match format {
            ActivationFormat::Element { element, block } => {
                let (_, width) = tile(block, cols);
                let scale_codes = sequence_scale_codes(element, block, part, cols);
                let per_row = scale_codes.len() / (last - first);
                for (row, values) in part.chunks(cols).enumerate() {
                    let of_row = &scale_codes[row * per_row..][..per_row];
                    let code = |k: usize| of_row.get(k / width).copied().unwrap_or(0);
                    y.extend(values.iter().enumerate().map(|(k, &x)| element.quantize(x, code(k))));
                }
            }
            // The sequence is a matrix to the format of weights. Nothing that is not finite is encoded.
            _ => match Format::NvFp4.encode(part, last - first, cols) {
                Ok(packed) => y.extend(packed.decode()),
                Err(_) => y.resize(y.len() + part.len(), f32::NAN),
            },
        }
        first = last;
    }
    y
}

impl QuantizedActivations {
    /// `code * scale`, `[rows, cols]`.
    pub fn values(&self, cols: usize) -> Vec<f32> {
        let per_row = cols.div_ceil(self.group);
        let rows = self.codes.chunks_exact(cols).zip(self.scales.chunks_exact(per_row));
        rows.flat_map(|(codes, scales)| {
            codes.iter().enumerate().map(|(k, &code)| f32::from(code) * scales[k / self.group])
        })
        .collect()
    }
}

/// Scale codes `[rows, groups]` of the rows of one sequence; empty where the format has no scales.
fn sequence_scale_codes(element: Element, block: Block, x: &[f32], cols: usize) -> Vec<u8> {
    if element.scale_bits() == 0 {
        return Vec::new();
    }
    let rows = x.len() / cols;
    let (tile_rows, tile_cols) = tile(block, cols);
    let tile_rows = if tile_rows == 0 { rows } else { tile_rows.min(rows) };
    let tiles = super::element::scale_codes(element, x, rows, cols, tile_rows, tile_cols);
    let per_row = cols.div_ceil(tile_cols);
    (0..rows).flat_map(|row| tiles[row / tile_rows * per_row..][..per_row].to_vec()).collect()
}

/// Scale and zero point of PyTorch's dynamic quantization with `reduce_range`, codes 0..=127, whose range includes 0
/// (`ChooseQuantizationParams`).
pub(super) fn torch_parameters(x: &[f32]) -> (f32, i32) {
    let low = x.iter().copied().fold(0.0, f32::min);
    let high = x.iter().copied().fold(0.0, f32::max);
    let scale = ((f64::from(high) - f64::from(low)) / 127.0) as f32;
    let scale = if scale == 0.0 || (1.0 / scale).is_infinite() { 0.1 } else { scale };
    let zero = (-f64::from(low) / f64::from(scale)).round_ties_even().clamp(0.0, 127.0);
    (scale, zero as i32)
}

/// `clamp(rne(x / scale) + zero, 0, 127) - zero`.
pub(super) fn torch_code(x: f32, scale: f32, zero: i32) -> i8 {
    (((x / scale).round_ties_even() as i32).saturating_add(zero).clamp(0, 127) - zero) as i8
}
