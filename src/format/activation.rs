//! Dynamic quantization of activations to symmetric integers.

use std::fmt;
use std::str::FromStr;

use super::element::{Element, OcpElement, OcpScale};
use super::{Block, Format, Scope, int, names};
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
}

impl fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Int { bits, scope: ActivationScope::Tensor } => format!("int{bits}"),
            Self::Int { bits, scope: ActivationScope::Row } => format!("int{bits}(scale=row)"),
            Self::TorchDynamic => "torch_dynamic".to_owned(),
            Self::Element { element, block } => names::element_text(element, block),
        };
        f.pad(&text)
    }
}

impl FromStr for ActivationFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse::<Format>()? {
            Format::Int { bits, scope: Scope::Tensor } => Ok(Self::Int { bits, scope: ActivationScope::Tensor }),
            Format::Int { bits, scope: Scope::Row } => Ok(Self::Int { bits, scope: ActivationScope::Row }),
            Format::TorchDynamic => Ok(Self::TorchDynamic),
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
                "activation format `{other}`: not defined for activations; use intN, intN(scale=row), torch_dynamic,                  integer, minifloat_*, log, block_*, mxint*, mxfp*, binary or residual_sign"
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

/// Activations as integers: `x ~ code * scale` of the row.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedActivations {
    /// `[rows, cols]`.
    pub codes: Vec<i8>,
    /// `[rows]`.
    pub scales: Vec<f32>,
}

/// Quantizes `x`, a matrix `[rows, cols]` with one entry of `spans` per row: the rows `begin..end` of the
/// same sequence.
///
/// `scale = absmax / qmax` in f32 (1 when absmax is 0), `code = clamp(rne(x / scale), -qmax, qmax)`. In the
/// scope tensor the "tensor" is one sequence, so that a result never depends on what else is in the batch.
///
/// # Panics
/// When `x` is not `spans.len() * cols` long or a span is out of range.
pub fn quantize_activations(
    x: &[f32],
    cols: usize,
    spans: &[(u32, u32)],
    format: ActivationFormat,
) -> QuantizedActivations {
    assert_eq!(x.len(), spans.len() * cols, "activations [{}, {cols}]", spans.len());
    let qmax = int::qmax(format.bits);
    let absmax = |rows: std::ops::Range<usize>| super::rows::max_abs(&x[rows.start * cols..rows.end * cols]);
    let mut scales: Vec<f32> = Vec::with_capacity(spans.len());
    for (row, &(begin, end)) in spans.iter().enumerate() {
        let scale = match format.scope {
            ActivationScope::Row => int::scale_f32(absmax(row..row + 1), qmax),
            // The rows of a sequence stand next to each other: its scale is computed once.
            ActivationScope::Tensor if row > 0 && spans[row - 1] == (begin, end) => scales[row - 1],
            ActivationScope::Tensor => int::scale_f32(absmax(begin as usize..end as usize), qmax),
        };
        scales.push(scale);
    }
    let codes = (0..x.len()).map(|i| int::code(x[i], scales[i / cols], qmax) as i8).collect();
    QuantizedActivations { codes, scales }
}
