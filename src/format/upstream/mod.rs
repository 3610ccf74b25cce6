//! Whole-tensor quantizers of other programs, bit for bit, quirks included.
//!
//! Here are the programs that numbers in papers, notebooks and course material come from, so that results can
//! be compared; what to use for a model is in [`Format`](super::Format). Every function takes a row-major f32
//! tensor with its shape, and returns what the original returns. Where the original raises an exception,
//! there is an error that says why. The one difference: exponents come from the bits of a float and are
//! exact, where the originals take `log2` in f32 (see [`element`](super::element)). `tests/golden` holds
//! outputs of the originals.
//!
//! | functions | program |
//! |---|---|
//! | [`elementwise`], [`binary`], [`ternary`], [`residual_sign`], [`scale_integer`], [`block()`], [`mxint()`], [`mxfp()`], [`mxint_hardware`], [`prune_l1`], [`prune_global_l1`], [`Layer`] | `chop` of [DeepWok/mase](https://github.com/DeepWok/mase) at `6ff398cf` |
//! | [`microxcaling`], [`ocp_codes`] | [microsoft/microxcaling](https://github.com/microsoft/microxcaling) at `7bc41952`, `_quantize_mx` |
//! | [`nvfp4()`] | NVIDIA's two-level FP4 recipe |
//! | [`mase_cuda_mxint8`] | [DeepWok/mase-cuda](https://github.com/DeepWok/mase-cuda) at `422ea09b`, simulated kernels |
//! | [`dynamic_int8`] | `torch.ao.quantization.quantize_dynamic(nn.Linear, qint8)`, fbgemm, torch 2.4 |
//! | [`base11_quantize`], [`base11_linear`] | `Base11Quantizer` and `Linear11Bit` of a 3.5-bit quantization module |
//!
//! One more program *is* a format: `QLinear` of a per-tensor post-training quantization notebook is
//! `qlinear(bits=…)`.

mod base11;
mod block;
mod dynamic;
mod integer;
mod layer;
mod layer_config;
mod mase_cuda;
mod mx;
mod mxint;
mod nvfp4;
mod ocp;
mod prune;
mod sign;
mod statistics;

pub use base11::{base11_linear, base11_quantize};
pub use block::block;
pub use dynamic::{DynamicInt8, dynamic_int8};
pub use integer::{elementwise, scale_integer};
pub use layer::{Layer, Operands, Output, Quantizer};
pub use mase_cuda::{MaseCudaMxInt8, mase_cuda_mxint8};
pub use mx::{MxFp, mxfp, mxint_hardware};
pub use mxint::{MxInt, mxint};
pub use nvfp4::{Nvfp4, nvfp4};
pub use ocp::{OcpCodes, microxcaling, ocp_codes};
pub use prune::{prune_global_l1, prune_l1};
pub use sign::{binary, residual_sign, ternary};

use crate::error::{Error, Result, invalid};

/// Checks that `x` has the shape `shape` of at least one dimension; the length of the last one.
fn check_shape(x: &[f32], shape: &[usize]) -> Result<usize> {
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let Some(&last) = shape.last() else {
        invalid!("a tensor without dimensions: want at least one");
    };
    match count {
        Some(count) if count == x.len() => Ok(last),
        _ => {
            Err(Error::Invalid(format!("shape {shape:?} does not hold {} values; check the shape", x.len())))
        }
    }
}
