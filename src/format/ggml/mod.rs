//! Block formats of [ggml](https://github.com/ggml-org/llama.cpp), the formats of GGUF files.
//!
//! A ggml tensor is rows of blocks: [`GgmlType::block`] weights of a row in [`GgmlType::bytes`] bytes. Every
//! type here is affine in sub-blocks of 16 to 256 weights,
//!
//! `y = scale * n - min`
//!
//! in f32 and in this order, where `n` is the code of the weight as an integer (or its entry in a table of
//! integers) and `scale` and `min` belong to the sub-block. `d`, `m`, `dmin` are f16 and widened exactly;
//! products are rounded once to f32. Subtracting a minimum of +0 changes nothing, not even the sign of a zero.
//!
//! | type | block | bytes | `n` | sub-block | `scale` | `min` |
//! |---|---|---|---|---|---|---|
//! | `q4_0` | 32 | 18 | 4 bits - 8 | 32 | `d` | 0 |
//! | `q4_1` | 32 | 20 | 4 bits | 32 | `d` | `-m` |
//! | `q5_0` | 32 | 22 | 5 bits - 16 | 32 | `d` | 0 |
//! | `q5_1` | 32 | 24 | 5 bits | 32 | `d` | `-m` |
//! | `q8_0` | 32 | 34 | int8 | 32 | `d` | 0 |
//! | `q2_k` | 256 | 84 | 2 bits | 16 | `d * u4` | `dmin * u4` |
//! | `q3_k` | 256 | 110 | 3 bits - 4 | 16 | `d * (u6 - 32)` | 0 |
//! | `q4_k` | 256 | 144 | 4 bits | 32 | `d * u6` | `dmin * u6` |
//! | `q5_k` | 256 | 176 | 5 bits | 32 | `d * u6` | `dmin * u6` |
//! | `q6_k` | 256 | 210 | 6 bits - 32 | 16 | `d * int8` | 0 |
//! | `iq4_nl` | 32 | 18 | [`IQ4_TABLE`] of 4 bits | 32 | `d` | 0 |
//! | `iq4_xs` | 256 | 136 | [`IQ4_TABLE`] of 4 bits | 32 | `d * (u6 - 32)` | 0 |
//! | `tq1_0` | 256 | 54 | trit - 1 | 256 | `d` | 0 |
//! | `tq2_0` | 256 | 66 | 2 bits - 1 | 256 | `d` | 0 |
//! | `mxfp4` | 32 | 17 | [`E2M1_TABLE`] of 4 bits | 32 | E8M0 / 2 | 0 |
//! | `nvfp4` | 64 | 36 | [`E2M1_TABLE`] of 4 bits | 16 | unsigned E4M3 / 2 | 0 |
//!
//! [`GgmlType::decode`] equals ggml's dequantization (and that of its Python package `gguf`) bit for bit.
//! [`GgmlType::encode`] gives the bytes of ggml's reference quantizers where these leave nothing to choose, and
//! searches for scales elsewhere. [`GgmlType::to_streams`] and its neighbours move a matrix between ggml's blocks
//! and the two streams of a packed matrix, without rounding:
//!
//! * Codes: fields of a few bits in the order of the weights, each row padded to words. Integer types have
//!   two's-complement fields of `n` if `n` can be negative, table types the index. `tq1_0` has base-3 digits
//!   `n + 1`, five in 8 bits ([`DigitLayout::TERNARY`](super::digits::DigitLayout::TERNARY)).
//! * Scales: the bytes of all blocks that hold no codes, one block after another, padded to words at the end of
//!   the matrix. They keep ggml's order within a block:
//!
//! | type | field | scale bytes of a block |
//! |---|---|---|
//! | `q4_0`, `iq4_nl` | 4 bits | f16 `d` |
//! | `q4_1` | 4 bits, unsigned | f16 `d`, f16 `m` |
//! | `q5_0` | 5 bits | f16 `d` |
//! | `q5_1` | 5 bits, unsigned | f16 `d`, f16 `m` |
//! | `q8_0` | 8 bits | f16 `d` |
//! | `q2_k` | 2 bits, unsigned | 16 bytes (scale in the low nibble, minimum in the high), f16 `d`, f16 `dmin` |
//! | `q3_k` | 3 bits | 12 bytes with 16 6-bit scales, f16 `d` |
//! | `q4_k`, `q5_k` | 4 and 5 bits, unsigned | f16 `d`, f16 `dmin`, 12 bytes with 8 6-bit scales and minima |
//! | `q6_k` | 6 bits | 16 int8, f16 `d` |
//! | `iq4_xs` | 4 bits | f16 `d`, 6 bytes with 8 6-bit scales |
//! | `tq1_0` | 5 digits in 8 bits | f16 `d` |
//! | `tq2_0` | 2 bits | f16 `d` |
//! | `mxfp4` | 4 bits | E8M0 |
//! | `nvfp4` | 4 bits | 4 unsigned E4M3 |
//!
//! Two corners that no quantizer reaches: a block of `tq2_0` can hold `n = 2`, whose field `0b10` is 2 here too,
//! **not** -2. And some bytes of `tq1_0` are not the rounded fraction of any trits: 13 of 256, in its last four
//! bytes, which hold four trits, 175. They decode as ggml decodes them, but [`GgmlType::from_streams`] writes the
//! rounded fraction of the same trits instead.

mod encode;
mod layout;
mod scale;
mod search;
mod streams;

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

pub use streams::StreamLayout;

use crate::error::{Error, Result, invalid};

/// Values of the codes of `iq4_nl` and `iq4_xs`: ggml's table, dense around zero as weights are.
pub const IQ4_TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of the codes of OCP FP4 (E2M1), so that they are integers; scales are halved to match.
/// Code 8, the negative zero, is 0 as in ggml.
pub const E2M1_TABLE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Most weights in a block.
const MAX_BLOCK: usize = 256;
/// Most bytes of a block that are not codes.
const MAX_SCALE_BYTES: usize = 20;
/// Most sub-blocks of a block.
const MAX_SUBS: usize = 16;
/// Blocks that one task of a parallel loop handles: enough to outweigh handing it out.
const BLOCKS_PER_TASK: usize = 64;

/// A ggml block format; the table is in the [module documentation](self). The text form is
/// [`Display`](fmt::Display) and [`FromStr`]: `q4_0`, `q4_k`, `iq4_nl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GgmlType {
    /// 4-bit integers, a scale per 32.
    Q4_0,
    /// 4-bit integers, a scale and a minimum per 32.
    Q4_1,
    /// 5-bit integers, a scale per 32.
    Q5_0,
    /// 5-bit integers, a scale and a minimum per 32.
    Q5_1,
    /// 8-bit integers, a scale per 32.
    Q8_0,
    /// 2-bit integers, 4-bit scales and minima per 16.
    Q2K,
    /// 3-bit integers, 6-bit scales per 16.
    Q3K,
    /// 4-bit integers, 6-bit scales and minima per 32.
    Q4K,
    /// 5-bit integers, 6-bit scales and minima per 32.
    Q5K,
    /// 6-bit integers, 8-bit scales per 16.
    Q6K,
    /// A table of 16 values, a scale per 32.
    Iq4Nl,
    /// A table of 16 values, 6-bit scales per 32.
    Iq4Xs,
    /// Ternary, 5 digits in a byte, a scale per 256.
    Tq1_0,
    /// Ternary in 2 bits, a scale per 256.
    Tq2_0,
    /// OCP MXFP4: E2M1 values, a power of two per 32.
    Mxfp4,
    /// NVFP4: E2M1 values, an unsigned E4M3 scale per 16.
    Nvfp4,
}

impl GgmlType {
    /// Every type.
    pub const ALL: [Self; 16] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Tq1_0,
        Self::Tq2_0,
        Self::Mxfp4,
        Self::Nvfp4,
    ];

    /// Lower-case name: `q4_0`, `q4_k`, `iq4_nl`.
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// The type of a [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }

    /// Number of the type in a GGUF tensor header (`enum ggml_type` of `ggml.h`).
    pub fn ggml_id(self) -> u32 {
        self.layout().id
    }

    /// The type of a [`ggml_id`](Self::ggml_id).
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.ggml_id() == id)
    }

    /// Weights per block; divides the length of a row.
    pub fn block(self) -> usize {
        self.layout().weights
    }

    /// Bytes per block.
    pub fn bytes(self) -> usize {
        self.layout().bytes
    }

    /// Values of `blocks`, as ggml computes them; blocks in parallel. Every byte pattern decodes to
    /// something; an infinite or NaN `d` to values that are not finite.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `blocks` is not whole blocks, or not as many as `out` holds.
    pub fn decode(self, blocks: &[u8], out: &mut [f32]) -> Result<()> {
        let (weights, bytes) = (self.block(), self.bytes());
        if !blocks.len().is_multiple_of(bytes) || out.len() != blocks.len() / bytes * weights {
            invalid!(
                "{self}: got {} bytes for {} weights; want {bytes} bytes for every {weights}",
                blocks.len(),
                out.len()
            );
        }
        let tasks =
            blocks.par_chunks(bytes * BLOCKS_PER_TASK).zip(out.par_chunks_mut(weights * BLOCKS_PER_TASK));
        tasks.for_each(|(blocks, out)| {
            let mut codes = [0; MAX_BLOCK];
            let mut scales = [0; MAX_SCALE_BYTES];
            for (block, out) in blocks.chunks(bytes).zip(out.chunks_mut(weights)) {
                let (codes, scales) = (&mut codes[..weights], &mut scales[..self.scale_bytes()]);
                self.unpack(block, codes, scales);
                self.values(codes, scales, out);
            }
        });
        Ok(())
    }

    /// Rounds weights to blocks; blocks in parallel.
    ///
    /// `q4_0`, `q4_1`, `q5_0`, `q5_1`, `q8_0`, `tq1_0`, `tq2_0`, `mxfp4` and `nvfp4` give the bytes of ggml's
    /// reference quantizers. The ternary types take the largest magnitude as scale: they are meant for weights
    /// that are ternary already. `nvfp4` blocks have no scale of the tensor, so the caller has to bring weights
    /// into range: magnitudes above 2688 saturate, and sub-blocks that stay below 0.006 become 0.
    ///
    /// The others (`q2_k` to `q6_k`, `iq4_nl`, `iq4_xs`) have scales to choose, and ggml's choice depends on
    /// its version. anybit has a search of its own for the least squared error, which alternates
    /// between codes for given scales and scales for given codes. It is deterministic, and the result is an
    /// ordinary block that ggml reads.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `weights` is not whole blocks, when a weight is not finite (the message has its
    /// index), and when a block needs a scale beyond f16.
    pub fn encode(self, weights: &[f32]) -> Result<Vec<u8>> {
        let (len, bytes) = (self.block(), self.bytes());
        if !weights.len().is_multiple_of(len) {
            invalid!(
                "{self}: got {} weights; want a multiple of {len}, the block of {self}; choose a format with \
                 shorter blocks",
                weights.len()
            );
        }
        if let Some(index) = super::rows::first(weights, |w| !w.is_finite()) {
            invalid!("weight {index} is {}; {self} wants finite weights", weights[index]);
        }
        let mut blocks = vec![0; weights.len() / len * bytes];
        let overflow = blocks
            .par_chunks_mut(bytes)
            .zip(weights.par_chunks(len))
            .position_first(|(block, weights)| !self.encode_block(weights, block));
        if let Some(index) = overflow {
            let largest = super::rows::max_abs(&weights[index * len..][..len]);
            invalid!(
                "weights {}..{}: their largest magnitude {largest:e} needs a scale beyond f16; {self} cannot \
                 hold it, use f32 or bf16",
                index * len,
                (index + 1) * len
            );
        }
        Ok(blocks)
    }

    /// `y = scale * n - min` of one block; see the [module documentation](self).
    fn values(self, codes: &[i8], scales: &[u8], out: &mut [f32]) {
        let sub = self.sub_block();
        let mut affine = [(0.0, 0.0); MAX_SUBS];
        let affine = &mut affine[..codes.len() / sub];
        self.affine(scales, affine);
        for ((codes, out), &(scale, min)) in codes.chunks(sub).zip(out.chunks_mut(sub)).zip(&*affine) {
            match self.table() {
                None => {
                    for (y, &n) in out.iter_mut().zip(codes) {
                        *y = scale * f32::from(n) - min;
                    }
                }
                Some(table) => {
                    for (y, &code) in out.iter_mut().zip(codes) {
                        *y = scale * f32::from(table[code as usize & 15]) - min;
                    }
                }
            }
        }
    }

    /// The table that the codes index, if they are not integers themselves.
    fn table(self) -> Option<&'static [i8; 16]> {
        match self {
            Self::Iq4Nl | Self::Iq4Xs => Some(&IQ4_TABLE),
            Self::Mxfp4 | Self::Nvfp4 => Some(&E2M1_TABLE),
            _ => None,
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GgmlType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_name(text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|ty| ty.name()).collect();
            Error::Invalid(format!("unknown ggml type {text}: want one of {}", names.join(", ")))
        })
    }
}
