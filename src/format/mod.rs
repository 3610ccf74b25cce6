//! Numeric formats: what a weight matrix looks like in memory, in a file and in a kernel.
//!
//! A [`Format`] is one row of a family (`float`, `int`, `mxint`, `radix`). [`Format::encode`] rounds an f32
//! matrix to a [`Packed`] one (the host does all weight rounding), [`Packed::decode`] is the exact
//! inverse map from codes to f32, and the WGSL fragment of the family decodes the same words on the
//! device. A [`Spec`] is the text people write: `W` or `W@A`.
//!
//! # Word layout
//!
//! A packed matrix `[rows, cols]` is two streams of `u32` words, little-endian: bit `j` of a stream is bit
//! `j % 32` of word `j / 32`. Padding is zero bits.
//!
//! | format | codes | scales |
//! |---|---|---|
//! | `f32`, `f16`, `bf16` | raw bits, each row padded to words | none |
//! | `int2`…`int8` | two's-complement fields, each row padded to words | f32 per tensor or row, f16 per group |
//! | `mxint8/6/4` | two's-complement fields, each row padded to words | E8M0 byte per 32 of a row |
//! | `mxint_cuda` | int8, one stream over the matrix, padded at its end | E8M0 byte per group of the flat matrix |
//! | `base11` | 2 digits in 7 bits, each row padded to words | f16 per group |
//! | `base11(layout=9in32)` | per group `ceil(len / 9)` words of 9 digits | per group f16 minimum, f16 range << 16 |
//!
//! The scale of element `(row, col)` is field `row * groups_per_row + col / group` of the scale stream
//! (`mxint_cuda`: `(row * cols + col) / group`), which is padded to words only at its end.
//!
//! # Adding a format
//!
//! 1. Another parameter of a family (a width, a group): extend the range in [`Format::check`] and a line in
//!    [`Format::catalog`]. Nothing else.
//! 2. Another family: a Rust file here with `encode` (weights to fields) and the decoding of one element; a
//!    variant of [`Format`]; its arms in `check`, `layout`, `encode` and in `packed.rs`; its text form and
//!    its name in `spec.rs` (`NAMES`); a line in `catalog`.
//! 3. The WGSL side: a fragment in `shaders/format/` that decodes the same words, and its row in the shader
//!    catalog.
//!
//! Tests, tables and the command line take their formats from `catalog` and need no edit. Compare a format
//! that exists elsewhere with output of the original program (`tests/golden`).

mod activation;
mod bits;
pub mod element;
mod float;
mod int;
pub mod mxint;
mod packed;
mod radix;
mod rows;
mod spec;
pub mod upstream;

pub use activation::{ActivationFormat, ActivationScope, QuantizedActivations, quantize_activations};
pub use packed::Packed;
pub use spec::Spec;

use crate::error::{Error, Result, invalid};

/// Elements per block of the OCP MX formats.
const MX_BLOCK: usize = 32;

/// A numeric format of a weight matrix. The text form is [`Display`](std::fmt::Display) and
/// [`FromStr`](std::str::FromStr): `f16`, `int4(group=128)`, `base11(layout=9in32,group=256)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
    /// Symmetric integers `-qmax..=qmax`, `qmax = 2^(bits-1) - 1`, with a real scale.
    Int {
        /// 2..=8.
        bits: u8,
        /// What shares a scale.
        scope: Scope,
    },
    /// OCP MXINT: symmetric integers with a power-of-two scale per 32 inputs.
    MxInt {
        /// 4, 6 or 8.
        bits: u8,
    },
    /// mase-cuda's MXINT8: as `MxInt { bits: 8 }` after bf16 rounding, groups along the flattened matrix.
    MxIntCuda {
        /// Elements per scale, at least 1; divides `rows * cols`.
        group: u32,
    },
    /// 11 levels per weight.
    Base11 {
        /// How digits are packed, and with it the grid.
        layout: Base11Layout,
        /// Elements per scale: a multiple of 32 in 32..=65536 (`2in7`), any of 1..=65536 (`9in32`).
        group: u32,
    },
}

/// What shares one scale of an integer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The matrix; f32.
    Tensor,
    /// A row; f32.
    Row,
    /// So many inputs of a row, a multiple of 32 in 32..=65536; f16. A shorter last group is a group.
    Group(u32),
}

/// Packings of base-11 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base11Layout {
    /// Nine digits in 32 bits; asymmetric grid between the minimum and the maximum of the group.
    Nine32,
    /// Two digits in 7 bits; symmetric grid with an exact zero.
    Two7,
}

/// Sizes of the two streams of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Words of codes per row; 0 for `mxint_cuda`, whose codes are one stream over the matrix.
    pub row_words: usize,
    /// Words of all codes.
    pub code_words: usize,
    /// Elements per scale: `cols` for the scope row (and for float formats, which have no scales),
    /// `rows * cols` for the scope tensor.
    pub group: usize,
    /// Scales per row. 0 where rows do not have scales of their own: float formats, the scope tensor, and
    /// `mxint_cuda` when `cols` is not a multiple of the group.
    pub groups_per_row: usize,
    /// Scales of the matrix.
    pub groups: usize,
    /// Bits per scale: 0, 8, 16 or 32.
    pub scale_bits: usize,
    /// Words of all scales.
    pub scale_words: usize,
}

impl Format {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the parameter, its value and its range.
    pub fn check(self) -> Result<()> {
        let multiple_of_32 = |group: u32| {
            if !group.is_multiple_of(32) || !(32..=65536).contains(&group) {
                invalid!("group = {group}: want a multiple of 32 between 32 and 65536");
            }
            Ok(())
        };
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => {}
            Self::Int { bits, scope } => {
                if !(2..=8).contains(&bits) {
                    invalid!("int{bits}: want 2 to 8 bits");
                }
                if let Scope::Group(group) = scope {
                    multiple_of_32(group)?;
                }
            }
            Self::MxInt { bits } => {
                if ![4, 6, 8].contains(&bits) {
                    invalid!("mxint{bits}: want 4, 6 or 8 bits");
                }
            }
            Self::MxIntCuda { group } => {
                if group == 0 {
                    invalid!("group = 0: want at least 1");
                }
            }
            Self::Base11 { layout: Base11Layout::Two7, group } => multiple_of_32(group)?,
            Self::Base11 { layout: Base11Layout::Nine32, group } => {
                if !(1..=65536).contains(&group) {
                    invalid!("group = {group}: want 1 to 65536");
                }
            }
        }
        Ok(())
    }

    /// Sizes of the streams of a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for parameters out of range, an empty matrix, a size that overflows, and for
    /// `mxint_cuda` when the group does not divide `rows * cols`.
    pub fn layout(&self, rows: usize, cols: usize) -> Result<Layout> {
        self.check()?;
        if rows == 0 || cols == 0 {
            invalid!("matrix [{rows}, {cols}] is empty: want at least one row and one column");
        }
        let too_large = || {
            Error::Invalid(format!("matrix [{rows}, {cols}] in {self}: its size overflows; check the shape"))
        };
        // Every size below is at most 33 bits per element.
        rows.checked_mul(cols).and_then(|count| count.checked_mul(64)).ok_or_else(too_large)?;
        let count = rows * cols;
        let per_row = |group: u32| (group as usize, cols.div_ceil(group as usize));
        let ((group, groups_per_row), scale_bits) = match *self {
            Self::F32 | Self::F16 | Self::Bf16 => ((cols, 0), 0),
            Self::Int { scope: Scope::Tensor, .. } => ((count, 0), 32),
            Self::Int { scope: Scope::Row, .. } => ((cols, 1), 32),
            Self::Int { scope: Scope::Group(group), .. } => (per_row(group), 16),
            Self::MxInt { .. } => (per_row(MX_BLOCK as u32), 8),
            Self::MxIntCuda { group } => {
                let group = group as usize;
                if !count.is_multiple_of(group) {
                    invalid!(
                        "matrix [{rows}, {cols}] has {count} weights, not a multiple of group = {group} of \
                         {self}; choose a group that divides it"
                    );
                }
                ((group, if cols.is_multiple_of(group) { cols / group } else { 0 }), 8)
            }
            Self::Base11 { layout: Base11Layout::Two7, group } => (per_row(group), 16),
            Self::Base11 { layout: Base11Layout::Nine32, group } => (per_row(group), 32),
        };
        let groups = match *self {
            _ if scale_bits == 0 => 0,
            Self::Int { scope: Scope::Tensor, .. } => 1,
            Self::MxIntCuda { .. } => count / group,
            _ => rows * groups_per_row,
        };
        let row_words = match *self {
            Self::F32 => cols,
            Self::F16 | Self::Bf16 => cols.div_ceil(2),
            Self::Int { bits, .. } | Self::MxInt { bits } => (cols * usize::from(bits)).div_ceil(32),
            Self::MxIntCuda { .. } => 0,
            Self::Base11 { layout: Base11Layout::Two7, .. } => (cols.div_ceil(2) * 7).div_ceil(32),
            Self::Base11 { layout: Base11Layout::Nine32, .. } => {
                let digits = radix::DIGITS_PER_WORD;
                cols / group * group.div_ceil(digits) + (cols % group).div_ceil(digits)
            }
        };
        let code_words = if let Self::MxIntCuda { .. } = self { count.div_ceil(4) } else { rows * row_words };
        let scale_words = (groups * scale_bits).div_ceil(32);
        Ok(Layout { row_words, code_words, group, groups_per_row, groups, scale_bits, scale_words })
    }

    /// Rounds a row-major matrix `[rows, cols]` to this format; rows in parallel.
    ///
    /// # Errors
    /// [`Error::Invalid`] where [`Format::layout`] fails, when `weights` has another length, and when a
    /// weight is not finite or beyond the range of `f16` or `bf16`; the message names its index.
    pub fn encode(&self, weights: &[f32], rows: usize, cols: usize) -> Result<Packed> {
        let layout = self.layout(rows, cols)?;
        if weights.len() != rows * cols {
            invalid!("matrix [{rows}, {cols}] wants {} weights, got {}", rows * cols, weights.len());
        }
        if let Some(index) = rows::first(weights, |w| !w.is_finite()) {
            invalid!(
                "weight {index} (row {}, column {}) is {}; {self} wants finite weights",
                index / cols,
                index % cols,
                weights[index]
            );
        }
        let mut codes = vec![0; layout.code_words];
        let mut fields = vec![0; layout.groups];
        match *self {
            Self::F32 | Self::F16 | Self::Bf16 => {
                float::encode(*self, weights, cols, layout.row_words, &mut codes)?;
            }
            Self::Int { bits, scope } => {
                int::encode(bits, scope, weights, cols, &layout, &mut codes, &mut fields);
            }
            Self::MxInt { bits } => mxint::encode(bits, weights, cols, &layout, &mut codes, &mut fields),
            Self::MxIntCuda { group } => {
                mxint::cuda_encode(group as usize, weights, &mut codes, &mut fields);
            }
            Self::Base11 { layout: Base11Layout::Two7, .. } => {
                radix::encode_2in7(weights, cols, &layout, &mut codes, &mut fields);
            }
            Self::Base11 { layout: Base11Layout::Nine32, .. } => {
                radix::encode_9in32(weights, cols, &layout, &mut codes, &mut fields);
            }
        }
        let scales = bits::pack_fields(fields, layout.scale_bits);
        Ok(Packed { format: *self, rows, cols, codes, scales })
    }

    /// Bits per weight as stored: all words of codes and scales, padding included, over `rows * cols`.
    ///
    /// # Errors
    /// As [`Format::layout`].
    pub fn bits_per_weight(&self, rows: usize, cols: usize) -> Result<f64> {
        let layout = self.layout(rows, cols)?;
        Ok((layout.code_words + layout.scale_words) as f64 * 32.0 / (rows * cols) as f64)
    }

    /// Whether every element is an integer in `i8` range times a scale (see [`Packed::integer_codes`]).
    pub fn has_integer_codes(&self) -> bool {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::Base11 { layout: Base11Layout::Nine32, .. } => false,
            Self::Int { .. } | Self::MxInt { .. } | Self::MxIntCuda { .. } => true,
            Self::Base11 { layout: Base11Layout::Two7, .. } => true,
        }
    }

    /// Smallest R such that a slice beginning at a multiple of R rows begins at a word of both streams and
    /// at a group; `cols` is at least 1.
    pub fn row_alignment(&self, cols: usize) -> usize {
        let scales_per_word = |bits: usize, group: usize| {
            let fields = 32 / bits;
            fields / gcd(fields, cols.div_ceil(group))
        };
        match *self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Int { scope: Scope::Tensor | Scope::Row, .. } => 1,
            Self::Base11 { layout: Base11Layout::Nine32, .. } => 1,
            Self::Int { scope: Scope::Group(group), .. }
            | Self::Base11 { layout: Base11Layout::Two7, group } => {
                scales_per_word(16, group.max(1) as usize)
            }
            Self::MxInt { .. } => scales_per_word(8, MX_BLOCK),
            // Four groups fill a word of scales, and a multiple of four codes fills words.
            Self::MxIntCuda { group } => {
                let span = group.max(1) as usize * 4;
                span / gcd(span, cols)
            }
        }
    }

    /// Every format with its usual parameters, for tables and tests.
    pub fn catalog() -> Vec<Self> {
        let mut all = vec![Self::F32, Self::F16, Self::Bf16];
        all.extend((2..=8).rev().map(|bits| Self::Int { bits, scope: Scope::Tensor }));
        all.extend([8, 4].map(|bits| Self::Int { bits, scope: Scope::Row }));
        all.extend([8, 6, 4, 3, 2].map(|bits| Self::Int { bits, scope: Scope::Group(128) }));
        all.push(Self::Int { bits: 4, scope: Scope::Group(32) });
        all.extend([8, 6, 4].map(|bits| Self::MxInt { bits }));
        all.push(Self::MxIntCuda { group: 16 });
        all.extend([32, 128].map(|group| Self::Base11 { layout: Base11Layout::Two7, group }));
        all.extend([128, 256].map(|group| Self::Base11 { layout: Base11Layout::Nine32, group }));
        all
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
