//! Linear layers of MASE: each operand through its quantizer, then the product.

use rayon::prelude::*;

use super::{binary, block, check_shape, elementwise, mxfp, mxint, residual_sign, ternary};
use crate::error::{Result, invalid};
use crate::format::element::{Element, residual_mean};

/// What a linear layer takes: `y = x W^T + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// `[..., inputs]`.
    pub x: &'a [f32],
    /// Shape of `x`.
    pub shape: &'a [usize],
    /// `[outputs, inputs]`.
    pub weight: &'a [f32],
    /// Rows of the weight.
    pub outputs: usize,
    /// `[outputs]`.
    pub bias: Option<&'a [f32]>,
}

/// What a linear layer returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Row-major values.
    pub y: Vec<f32>,
    /// `[..., outputs]`.
    pub shape: Vec<usize>,
}

impl Operands<'_> {
    /// Checks the lengths; rows and columns of the weight.
    pub(super) fn check(&self) -> Result<(usize, usize)> {
        let inputs = check_shape(self.x, self.shape)?;
        let (outputs, weights) = (self.outputs, self.weight.len());
        if outputs.checked_mul(inputs) != Some(weights) || weights == 0 {
            invalid!(
                "x of shape {:?} on a weight [{outputs}, {inputs}] of {weights} values; check the shapes",
                self.shape
            );
        }
        if let Some(bias) = self.bias.filter(|bias| bias.len() != outputs) {
            invalid!("bias of {} values on {outputs} outputs: want one per output", bias.len());
        }
        Ok((outputs, inputs))
    }

    /// `x W^T + bias` with f64 sums; the original sums in f32, in an order of its own.
    pub(super) fn product(&self, x: &[f32], shape: &[usize], weight: &[f32], bias: Option<&[f32]>) -> Output {
        let inputs = self.weight.len() / self.outputs;
        let row = |x: &[f32]| -> Vec<f32> {
            let dot = |w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
            let biased =
                |(i, w): (usize, &[f32])| (dot(w) + bias.map_or(0.0, |bias| f64::from(bias[i]))) as f32;
            weight.chunks(inputs).enumerate().map(biased).collect()
        };
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.outputs;
        }
        Output { y: x.par_chunks(inputs).flat_map_iter(row).collect(), shape }
    }
}

/// How one operand of a layer is quantized.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// Not at all.
    Pass,
    /// Into -1..=1, as the inference modes of the binary layers do in place.
    Clamp,
    /// [`elementwise`].
    Element(Element),
    /// [`block`](super::block()).
    Block {
        /// The format.
        element: Element,
        /// Right-aligned; -1 for a whole dimension.
        block_size: Vec<i32>,
        /// Blocks of 1 along the first dimension.
        skip_first_dim: bool,
    },
    /// [`mxint`](super::mxint()) along `block_dim`.
    MxInt {
        /// Bits of a code.
        width: u8,
        /// Values per scale.
        block_size: usize,
        /// From the end if negative.
        block_dim: i32,
        /// Clipping by the best of eleven quantiles.
        quantile_search: bool,
    },
    /// [`mxfp`](super::mxfp()) along `block_dim`.
    MxFp {
        /// Exponent bits.
        exponent_width: u8,
        /// Fraction bits.
        fraction_width: u8,
        /// Values per scale.
        block_size: usize,
        /// From the end if negative.
        block_dim: i32,
    },
    /// [`binary`].
    Binary {
        /// ±1.
        bipolar: bool,
    },
    /// [`ternary`].
    Ternary {
        /// Times the mean of the large magnitudes.
        scaled: bool,
    },
    /// The sum of the [`residual_sign`] levels with means `(L - l) / (L (L + 1) / 2)`. A single level is not
    /// stacked there, and its sum indexes the tensor itself: three dimensions become the first batch element,
    /// two raise.
    ResidualSign {
        /// 1, 2 or 3.
        levels: u8,
    },
}

impl Quantizer {
    /// The quantized tensor with its shape.
    fn apply(&self, x: &[f32], shape: &[usize]) -> Result<Output> {
        let y = match self {
            Self::Pass => x.to_vec(),
            Self::Clamp => x.iter().map(|x| x.clamp(-1.0, 1.0)).collect(),
            Self::Element(element) => elementwise(*element, x)?,
            Self::Block { element, block_size, skip_first_dim } => {
                block(*element, x, shape, block_size, *skip_first_dim)?
            }
            &Self::MxInt { width, block_size, block_dim, quantile_search } => {
                mxint(x, shape, width, block_size, block_dim, quantile_search)?.y
            }
            &Self::MxFp { exponent_width, fraction_width, block_size, block_dim } => {
                mxfp(x, shape, exponent_width, fraction_width, block_size, block_dim)?.y
            }
            Self::Binary { bipolar } => binary(x, shape, *bipolar)?,
            Self::Ternary { scaled } => ternary(x, shape, *scaled)?,
            Self::ResidualSign { levels } => return residual_sum(x, shape, *levels),
        };
        Ok(Output { y, shape: shape.to_vec() })
    }
}

fn residual_sum(x: &[f32], shape: &[usize], levels: u8) -> Result<Output> {
    let means: Vec<f32> = (0..levels.into()).map(|level| residual_mean(level, levels.into())).collect();
    let stacked = residual_sign(x, &means)?;
    if levels == 1 {
        let &[batch, tokens, inputs] = shape else {
            invalid!(
                "residual sign with one level on shape {shape:?}: upstream takes its first index for the level, so \
                 want 3 dimensions; use 2 levels"
            );
        };
        let first = if batch == 0 { &[] } else { &stacked[..tokens * inputs] };
        return Ok(Output { y: first.to_vec(), shape: vec![tokens, inputs] });
    }
    let mut y = vec![0.0; x.len()];
    for level in stacked.chunks(x.len().max(1)) {
        y.iter_mut().zip(level).for_each(|(y, level)| *y += level);
    }
    Ok(Output { y, shape: shape.to_vec() })
}

/// A linear layer of MASE as the quantizers of its operands; [`Layer::from_config`] makes one from the name
/// and the configuration that MASE takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Of `x`.
    pub x: Quantizer,
    /// Of the weight `[outputs, inputs]`.
    pub weight: Quantizer,
    /// Of the bias.
    pub bias: Quantizer,
    /// Of the result.
    pub output: Quantizer,
}

impl Layer {
    /// Quantizes the operands and multiplies them, with f64 sums where the original has f32 ones.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for shapes that do not fit each other or a quantizer.
    pub fn forward(&self, operands: &Operands<'_>) -> Result<Output> {
        let (rows, cols) = operands.check()?;
        let x = self.x.apply(operands.x, operands.shape)?;
        let weight = self.weight.apply(operands.weight, &[rows, cols])?;
        let bias = operands.bias.map(|bias| self.bias.apply(bias, &[rows])).transpose()?;
        let bias = bias.as_ref().map(|bias| bias.y.as_slice());
        let product = operands.product(&x.y, &x.shape, &weight.y, bias);
        self.output.apply(&product.y, &product.shape)
    }
}
