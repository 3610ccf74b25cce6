//! Numeric formats: what a weight matrix looks like in memory, in a file and in a kernel.
//!
//! A [`Format`] is a name with parameters. [`Format::encode`] rounds an f32 matrix to a [`Packed`] one (the
//! host does all weight rounding), [`Packed::decode`] is the exact inverse map from codes to f32, and a WGSL
//! fragment decodes the same words on the device. How words are to be read is a [`Scheme`]: many formats, few
//! schemes. A [`Spec`] is the text people write: `W`, `W@A` or `W@A@bias=B`.
//!
//! # Word layout
//!
//! A packed matrix `[rows, cols]` is two streams of `u32` words, little-endian: bit `j` of a stream is bit
//! `j % 32` of word `j / 32`. Padding is zero bits.
//!
//! * **Codes** ([`Codes`]): fields of a fixed width, or fields of several digits; each row is padded to words.
//!   `mxint_cuda` is one stream over the matrix, padded at its end.
//! * **Scales** ([`Scale`]): one record per group ([`Groups`]), in the order of the groups (row by row), padded to
//!   words at the end of the stream. `nvfp4` has an f32 for the matrix before them.
//! * **Exceptions**: the formats taken from MASE let weights of magnitude up to 1e-8 pass unquantized. Such a
//!   weight has no code; [`Packed::exceptions`] lists it with its value.
//!
//! # Adding a format
//!
//! 1. From outside the crate: [`CustomFormat`], a table of up to 256 values with a scale per group. Once
//!    registered it has a name like any other (`examples/custom_format.rs`).
//! 2. An element-wise format, or one with power-of-two block scales: a variant of [`element::Element`] with the value
//!    of a code and the rounding of a number; its text form in `names.rs` and `display.rs`. Up to 8 bits the device side is its
//!    table of values, and nothing else has to be written.
//! 3. Another family: a variant of [`Format`] with its [`Scheme`], its encoder, its text form. If the scheme has a
//!    new part, that part is decoded in `packed.rs` and in a fragment under `shaders/format/` or `shaders/lib/`.
//! 4. A line in `catalog.rs`. Tests, tables and the command line take their formats from there.
//!
//! Compare a format that exists elsewhere with output of the original program (`tests/golden`).

mod activation;
mod bits;
mod block;
pub(crate) mod call;
mod catalog;
mod codebook;
mod custom;
pub mod digits;
mod display;
pub mod element;
mod encode;
mod float;
pub mod ggml;
mod grid;
mod int;
pub mod mxint;
mod names;
mod packed;
mod radix;
mod rows;
mod scheme;
mod signs;
mod slices;
mod spec;
pub mod steps;
pub mod suitability;
pub mod upstream;

pub use activation::{
    ActivationFormat, ActivationScope, QuantizedActivations, fake_quantize, quantize_activations,
    tile as block_tile,
};
pub use block::Block;
pub use custom::{CustomFormat, CustomId};
pub use encode::Encoder;
pub use grid::{Factor, ValueGrid, short_number};
pub use packed::{Exception, Packed};
pub use scheme::{Codes, Groups, Scale, Scheme};
pub use spec::Spec;

use crate::error::{Error, Result, invalid};
use element::{Element, OcpElement, OcpRounding, OcpScale};
use ggml::GgmlType;

/// Elements per block of the OCP MX formats.
const MX_BLOCK: usize = 32;
/// A size that blocks of every usual length divide, for questions that do not depend on the shape.
const ANY: usize = 1 << 12;
/// Elements per block of NVFP4.
const NVFP4_BLOCK: usize = 16;

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
    /// Asymmetric integers `0..2^bits` with a scale and a zero point per group; zero is exact.
    Uint {
        /// 2..=8.
        bits: u8,
        /// Elements per group, a multiple of 32 in 32..=65536.
        group: u32,
    },
    /// `-1` and `+1` times the mean magnitude of the scope.
    BinaryMean {
        /// What shares a scale.
        scope: Scope,
    },
    /// `-1`, `0` and `+1` times the mean magnitude of what is not rounded to 0.
    TernaryMean {
        /// What shares a scale.
        scope: Scope,
    },
    /// `-1`, `0` and `+1` without a scale.
    Ternary,
    /// PyTorch's dynamic quantization: int8 per tensor, `scale = max|w| / 127.5`.
    TorchDynamic,
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
    /// An odd number of symmetric levels, packed as digits.
    Radix {
        /// Levels per weight, odd, 3..=255.
        base: u16,
        /// Digits per field.
        digits: u8,
        /// Bits per field, up to 32.
        bits: u8,
        /// Elements per scale: a multiple of 32 in 32..=65536.
        group: u32,
    },
    /// 11 levels between the minimum and the maximum of a group, nine digits in a word.
    Base11Nine32 {
        /// Elements per minimum and range, 1..=65536.
        group: u32,
    },
    /// The 16 quantiles of a normal distribution of QLoRA, times the largest magnitude of the group.
    Nf4 {
        /// Elements per scale: a multiple of 32 in 32..=65536.
        group: u32,
    },
    /// NVIDIA's FP4: E2M1 in blocks of 16 with an E4M3 scale, and an f32 scale for the matrix.
    NvFp4,
    /// An element-wise format, or one with a power-of-two scale per block.
    Element {
        /// How an element is rounded and stored.
        element: Element,
        /// What shares a scale; without meaning where the element has none.
        block: Block,
    },
    /// A block format of ggml.
    Ggml(GgmlType),
    /// A format registered by the program, see [`CustomFormat`].
    Custom(CustomId),
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

/// Sizes of the two streams of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How the words are read.
    pub scheme: Scheme,
    /// Words of codes per row; 0 for `mxint_cuda`, whose codes are one stream over the matrix.
    pub row_words: usize,
    /// Words of all codes.
    pub code_words: usize,
    /// Columns that share a scale, or weights of the flattened matrix where groups are flat; `cols` where a row
    /// or more shares it.
    pub group: usize,
    /// Rows that share a scale.
    pub group_rows: usize,
    /// Scales per row of groups; 0 where rows do not have scales of their own.
    pub groups_per_row: usize,
    /// Scales of the matrix.
    pub groups: usize,
    /// Bits per scale.
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
        let width = |name: &str, bits: u8| match bits {
            2..=8 => Ok(()),
            _ => invalid!("{name}{bits}: want 2 to 8 bits"),
        };
        let grouped = |scope: Scope| match scope {
            Scope::Group(group) => multiple_of_32(group),
            Scope::Tensor | Scope::Row => Ok(()),
        };
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::Ternary | Self::TorchDynamic | Self::NvFp4 => Ok(()),
            Self::Ggml(_) | Self::Custom(_) => Ok(()),
            Self::Int { bits, scope } => width("int", bits).and_then(|()| grouped(scope)),
            Self::Uint { bits, group } => width("uint", bits).and_then(|()| multiple_of_32(group)),
            Self::BinaryMean { scope } | Self::TernaryMean { scope } => grouped(scope),
            Self::MxInt { bits } => match bits {
                4 | 6 | 8 => Ok(()),
                _ => invalid!("mxint{bits}: want 4, 6 or 8 bits"),
            },
            Self::MxIntCuda { group: 0 } => invalid!("group = 0: want at least 1"),
            Self::MxIntCuda { .. } => Ok(()),
            Self::Radix { base, digits, bits, group } => {
                if base % 2 == 0 || !(3..=255).contains(&base) {
                    invalid!("base = {base}: want an odd number from 3 to 255, so that zero is a level");
                }
                digits::DigitLayout { base: base.into(), digits: digits.into(), bits: bits.into() }
                    .check()?;
                multiple_of_32(group)
            }
            Self::Base11Nine32 { group } => match group {
                1..=65536 => Ok(()),
                _ => invalid!("group = {group}: want 1 to 65536"),
            },
            Self::Nf4 { group } => multiple_of_32(group),
            Self::Element { element, block } => element.check().and_then(|()| block.check(element)),
        }
    }

    /// Sizes of the streams of a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for parameters out of range, an empty matrix, a size that overflows, and where the
    /// format has blocks that the shape is no multiple of.
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
        let scheme = self.scheme(rows, cols)?;
        let (group, group_rows, groups_per_row, groups) = match scheme.groups {
            Groups::Tensor if scheme.scale.bits() == 0 => (cols, 1, 0, 0),
            Groups::Tensor => (count, rows, 0, 1),
            Groups::Tiles { rows: tile_rows, cols: tile_cols } => {
                let per_row = cols.div_ceil(tile_cols);
                (tile_cols, tile_rows, per_row, rows.div_ceil(tile_rows) * per_row)
            }
            Groups::Flat(group) => {
                let per_row = if cols.is_multiple_of(group) { cols / group } else { 0 };
                (group, 1, per_row, count / group)
            }
        };
        let row_words = match scheme.codes {
            Codes::Stream8 => 0,
            Codes::Digits { digits, bits, .. } => {
                (cols.div_ceil(digits.into()) * usize::from(bits)).div_ceil(32)
            }
            Codes::Digits9 => {
                let digits = radix::DIGITS_PER_WORD;
                cols / group * group.div_ceil(digits) + (cols % group).div_ceil(digits)
            }
            codes => (cols * codes.bits() as usize).div_ceil(32),
        };
        let code_words = if scheme.codes == Codes::Stream8 { count.div_ceil(4) } else { rows * row_words };
        let scale_bits = scheme.scale.bits();
        let scale_words = scheme.scale.head_words() + (groups * scale_bits).div_ceil(32);
        let sizes = Layout {
            scheme,
            row_words,
            code_words,
            group,
            group_rows,
            groups_per_row,
            groups,
            scale_bits,
            scale_words,
        };
        Ok(sizes)
    }

    /// Rounds a row-major matrix `[rows, cols]` to this format; rows in parallel.
    ///
    /// # Errors
    /// [`Error::Invalid`] where [`Format::layout`] fails, when `weights` has another length, and when a
    /// weight is not finite or beyond the range of `f16` or `bf16`; the message names its index.
    ///
    /// [`Encoder`] does the same strip by strip.
    pub fn encode(&self, weights: &[f32], rows: usize, cols: usize) -> Result<Packed> {
        let mut encoder = Encoder::new(*self, rows, cols)?;
        if weights.len() != rows * cols {
            invalid!("matrix [{rows}, {cols}] wants {} weights, got {}", rows * cols, weights.len());
        }
        if encoder.wants_survey() {
            encoder.survey(weights);
        }
        encoder.pack(0, weights)
    }

    /// Bits per weight as stored: all words of codes and scales, padding included, over `rows * cols`.
    /// [`Packed::bytes`] also counts exceptions, which only the values tell.
    ///
    /// # Errors
    /// As [`Format::layout`].
    pub fn bits_per_weight(&self, rows: usize, cols: usize) -> Result<f64> {
        let layout = self.layout(rows, cols)?;
        Ok((layout.code_words + layout.scale_words) as f64 * 32.0 / (rows * cols) as f64)
    }

    /// Whether every element is an integer in `i8` range times a scale (see [`Packed::integer_codes`]).
    pub fn has_integer_codes(&self) -> bool {
        match *self {
            Self::Element { element, .. } => {
                matches!(scheme::element_codes(element), Codes::Signed(_) | Codes::Sign)
            }
            Self::MxIntCuda { .. } => true,
            // The shape decides about groups only.
            _ => self.scheme(ANY, ANY).is_ok_and(Scheme::has_integer_codes),
        }
    }

    /// Whether the device runs it from f32 storage, because its codes are wider than 8 bits.
    pub fn is_wide(&self) -> bool {
        matches!(self, Self::Element { element, .. } if matches!(scheme::element_codes(*element), Codes::Wide(_)))
    }

    /// Smallest R such that a slice of a matrix `[rows, cols]` that begins at a multiple of R rows begins at a
    /// word of both streams and at a group.
    pub fn row_alignment(&self, rows: usize, cols: usize) -> usize {
        let Ok(layout) = self.layout(rows.max(1), cols.max(1)) else { return 1 };
        let whole_words = |bits_per_step: usize| {
            let steps = 32 / gcd(32, bits_per_step.max(1));
            if bits_per_step == 0 { 1 } else { steps }
        };
        match layout.scheme.groups {
            Groups::Tensor => 1,
            // All rows share a row of groups; every slice keeps it.
            Groups::Tiles { rows: tile_rows, .. } if tile_rows >= rows => 1,
            Groups::Tiles { rows: tile_rows, .. } => {
                tile_rows * whole_words(layout.groups_per_row * layout.scale_bits)
            }
            // Four groups fill a word of scales, and a multiple of four codes fills words.
            Groups::Flat(group) => {
                let span = group * (32 / layout.scale_bits.max(1)).max(1);
                span / gcd(span, cols)
            }
        }
    }

    /// Every format with its usual parameters, for tables and tests.
    pub fn catalog() -> Vec<Self> {
        catalog::catalog()
    }

    /// An OCP MX format: `element` in blocks of 32 along the inputs, nearest even, scales by `scale`.
    pub fn mx(element: OcpElement, scale: OcpScale) -> Self {
        let element = Element::Ocp { element, rounding: OcpRounding::Even, scale };
        Self::Element { element, block: Block::dims(&[1, MX_BLOCK as i32]) }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
