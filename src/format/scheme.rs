//! How the words of a packed matrix are read: formats that agree here share decoders, layouts and kernels.

use super::element::Element;
use super::ggml::GgmlType;
use super::{Format, Scope, custom};
use crate::error::{Result, invalid};

/// Everything that reading a packed matrix takes, apart from its table of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// How one weight is stored.
    pub codes: Codes,
    /// What a weight is multiplied with.
    pub scale: Scale,
    /// What shares a scale.
    pub groups: Groups,
}

/// How one weight is stored in the stream of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codes {
    /// binary32.
    F32,
    /// binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
    /// Two's-complement fields of 2 to 8 bits.
    Signed(u8),
    /// One bit: 0 is -1, 1 is +1.
    Sign,
    /// Fields of 2 to 8 bits with a zero point per group.
    Unsigned(u8),
    /// Fields of 1 to 8 bits that index a table of values.
    Table(u8),
    /// Base-`base` digits, `digits` of them in a field of `bits` bits, the first one the least significant;
    /// value `digit - (base - 1) / 2`.
    Digits {
        /// Odd, 3 to 255.
        base: u16,
        /// Digits per field.
        digits: u8,
        /// Bits per field, 1 to 32.
        bits: u8,
    },
    /// Nine base-11 digits in a word, every group in words of its own; value `digit / 10`.
    Digits9,
    /// int8, one stream over the whole matrix.
    Stream8,
    /// Fields of 9 to 32 bits; they run from f32 storage.
    Wide(u8),
}

/// What a weight is multiplied with, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// Nothing is stored: the factor `2^-fraction` is part of the format (0 for floats and tables).
    Fixed(i16),
    /// binary32.
    F32,
    /// binary16.
    F16,
    /// A byte: the factor is `2^(byte - offset - fraction)`, NaN where `byte - offset` is 128.
    Exponent {
        /// Bias of the stored byte.
        offset: i16,
        /// Fraction bits of the codes.
        fraction: i16,
    },
    /// A word: binary16 factor in the low half, zero point in the high half.
    F16Zero,
    /// A word: binary16 minimum in the low half, binary16 range in the high half.
    MinimumRange,
    /// A byte in E4M3 without a sign; the factor is its value times a binary32 scale of the matrix, which is
    /// the first word of the stream.
    E4m3,
    /// Per 256 weights four words: binary16 d and dmin, then twelve bytes with eight 6-bit factors and eight
    /// 6-bit minimums (ggml's q4_k and q5_k): `(d * factor) * code - dmin * minimum`.
    K4,
    /// Per 256 weights sixteen int8 factors and a binary16 d (ggml's q6_k): `d * factor * code`.
    K6,
}

/// What shares one record of the scale stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Groups {
    /// The matrix, or there is nothing to share.
    Tensor,
    /// Tiles of `rows` x `cols`, from the upper left; a last one may be smaller. Sizes are at least 1.
    Tiles {
        /// Rows of a tile.
        rows: usize,
        /// Columns of a tile.
        cols: usize,
    },
    /// So many weights of the flattened matrix.
    Flat(usize),
}

impl Codes {
    /// Bits of one code where a code is a field; bits per digit field for digits.
    pub fn bits(self) -> u32 {
        match self {
            Self::F32 | Self::Digits9 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::Sign => 1,
            Self::Stream8 => 8,
            Self::Signed(bits) | Self::Unsigned(bits) | Self::Table(bits) | Self::Wide(bits) => bits.into(),
            Self::Digits { bits, .. } => bits.into(),
        }
    }
}

impl Scale {
    /// Bits of one record.
    pub fn bits(self) -> usize {
        match self {
            Self::Fixed(_) => 0,
            Self::Exponent { .. } | Self::E4m3 => 8,
            Self::F16 => 16,
            Self::F32 | Self::F16Zero | Self::MinimumRange => 32,
            Self::K4 => 128,
            Self::K6 => 144,
        }
    }

    /// Words before the first record.
    pub fn head_words(self) -> usize {
        usize::from(self == Self::E4m3)
    }
}

impl Scheme {
    fn per_row(codes: Codes, scale: Scale, group: usize) -> Self {
        Self { codes, scale, groups: Groups::Tiles { rows: 1, cols: group } }
    }

    /// Whether every weight is an integer in `i8` range times a factor.
    pub fn has_integer_codes(self) -> bool {
        let integers = match self.codes {
            Codes::Signed(_) | Codes::Sign | Codes::Digits { .. } | Codes::Stream8 => true,
            // The difference to a zero point has a bit more than the code.
            Codes::Unsigned(bits) => bits < 8,
            _ => false,
        };
        integers && !matches!(self.scale, Scale::K4 | Scale::K6)
    }
}

impl Format {
    /// How a matrix `[rows, cols]` of this format is read.
    ///
    /// # Errors
    /// Where the format cannot be applied to the shape.
    pub fn scheme(&self, rows: usize, cols: usize) -> Result<Scheme> {
        let scoped = |scope: Scope| match scope {
            Scope::Tensor => (Scale::F32, Groups::Tensor),
            Scope::Row => (Scale::F32, Groups::Tiles { rows: 1, cols }),
            Scope::Group(group) => (Scale::F16, Groups::Tiles { rows: 1, cols: group as usize }),
        };
        let plain = |codes| Scheme { codes, scale: Scale::Fixed(0), groups: Groups::Tensor };
        Ok(match *self {
            Self::F32 => plain(Codes::F32),
            Self::F16 => plain(Codes::F16),
            Self::Bf16 => plain(Codes::Bf16),
            Self::Int { bits, scope } => {
                let (scale, groups) = scoped(scope);
                Scheme { codes: Codes::Signed(bits), scale, groups }
            }
            Self::Uint { bits, group } => {
                Scheme::per_row(Codes::Unsigned(bits), Scale::F16Zero, group as usize)
            }
            Self::BinaryMean { scope } => {
                let (scale, groups) = scoped(scope);
                Scheme { codes: Codes::Sign, scale, groups }
            }
            Self::TernaryMean { scope } => {
                let (scale, groups) = scoped(scope);
                Scheme { codes: Codes::Signed(2), scale, groups }
            }
            Self::Ternary => plain(Codes::Signed(2)),
            Self::TorchDynamic => {
                Scheme { codes: Codes::Signed(8), scale: Scale::F32, groups: Groups::Tensor }
            }
            Self::MxInt { bits } => {
                let scale = Scale::Exponent { offset: 127, fraction: i16::from(bits) - 2 };
                Scheme::per_row(Codes::Signed(bits), scale, super::MX_BLOCK)
            }
            Self::MxIntCuda { group } => {
                flat_divides(self, rows, cols, group as usize)?;
                let scale = Scale::Exponent { offset: 127, fraction: 6 };
                Scheme { codes: Codes::Stream8, scale, groups: Groups::Flat(group as usize) }
            }
            Self::Radix { base, digits, bits, group } => {
                Scheme::per_row(Codes::Digits { base, digits, bits }, Scale::F16, group as usize)
            }
            Self::Base11Nine32 { group } => {
                Scheme::per_row(Codes::Digits9, Scale::MinimumRange, group as usize)
            }
            Self::Nf4 { group } => Scheme::per_row(Codes::Table(4), Scale::F16, group as usize),
            Self::NvFp4 => Scheme::per_row(Codes::Table(4), Scale::E4m3, super::NVFP4_BLOCK),
            Self::Element { element, block } => element_scheme(self, element, block, rows, cols)?,
            Self::Ggml(kind) => {
                if !cols.is_multiple_of(kind.block()) {
                    invalid!(
                        "matrix [{rows}, {cols}] in {self}: rows are not a multiple of {} weights; choose a format \
                         without fixed blocks, e.g. int4(group=32)",
                        kind.block()
                    );
                }
                let block = kind.block();
                match kind {
                    GgmlType::Q4_0 => Scheme::per_row(Codes::Signed(4), Scale::F16, block),
                    GgmlType::Q8_0 => Scheme::per_row(Codes::Signed(8), Scale::F16, block),
                    GgmlType::Iq4Nl => Scheme::per_row(Codes::Table(4), Scale::F16, block),
                    GgmlType::Tq1_0 => {
                        let codes = Codes::Digits { base: 3, digits: 5, bits: 8 };
                        Scheme::per_row(codes, Scale::F16, block)
                    }
                    GgmlType::Tq2_0 => Scheme::per_row(Codes::Signed(2), Scale::F16, block),
                    GgmlType::Q4K => Scheme::per_row(Codes::Unsigned(4), Scale::K4, block),
                    GgmlType::Q5K => Scheme::per_row(Codes::Unsigned(5), Scale::K4, block),
                    GgmlType::Q6K => Scheme::per_row(Codes::Signed(6), Scale::K6, block),
                    other => invalid!("ggml type {} can be decoded only, not run", other.name()),
                }
            }
            Self::Custom(id) => {
                let format = custom::get(id);
                let groups = match format.scope {
                    Scope::Tensor => Groups::Tensor,
                    Scope::Row => Groups::Tiles { rows: 1, cols },
                    Scope::Group(group) => Groups::Tiles { rows: 1, cols: group as usize },
                };
                Scheme { codes: Codes::Table(format.bits()), scale: Scale::F16, groups }
            }
        })
    }

    /// The values that the fields of [`Codes::Table`] index, `2^bits` of them; empty for other codes.
    pub fn table(&self) -> Vec<f32> {
        match *self {
            Self::Nf4 { .. } => super::codebook::NF4.to_vec(),
            Self::NvFp4 => super::codebook::e2m1(),
            Self::Ggml(GgmlType::Iq4Nl) => super::ggml::IQ4_TABLE.map(f32::from).to_vec(),
            Self::Custom(id) => custom::get(id).table(),
            Self::Element { element, .. } => match element_codes(element) {
                Codes::Table(bits) => (0..1 << bits).map(|code| element.unit(code) as f32).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

/// Fraction bits up to which `2^-fraction`, and its product with a code, is a normal f32.
const FIXED_FRACTIONS: std::ops::RangeInclusive<i32> = -100..=100;

fn is_integer(element: Element) -> bool {
    element == Element::Binary
        || element
            .integer_codes()
            .is_some_and(|fraction| element.scale_bits() > 0 || FIXED_FRACTIONS.contains(&fraction))
}

/// How an element is stored, whatever the shape of the matrix.
pub(super) fn element_codes(element: Element) -> Codes {
    let bits = element.bits() as u8;
    match bits {
        1 if element == Element::Binary => Codes::Sign,
        9.. => Codes::Wide(bits),
        // Its table spans more binades than f32 has.
        _ if matches!(element, Element::BlockMinifloat { exponent_width: 8, .. }) => Codes::Wide(bits),
        _ if is_integer(element) => Codes::Signed(bits),
        _ => Codes::Table(bits),
    }
}

fn element_scheme(
    format: &Format,
    element: Element,
    block: super::Block,
    rows: usize,
    cols: usize,
) -> Result<Scheme> {
    let codes = element_codes(element);
    let fraction = if is_integer(element) { element.integer_codes().unwrap_or(0) as i16 } else { 0 };
    if element.scale_bits() == 0 {
        return Ok(Scheme { codes, scale: Scale::Fixed(fraction), groups: Groups::Tensor });
    }
    let scale = Scale::Exponent { offset: element.exponent_offset() as i16, fraction };
    let groups = match block.flat() {
        Some(group) => {
            flat_divides(format, rows, cols, group)?;
            Groups::Flat(group)
        }
        None => {
            let (tile_rows, tile_cols) = block.tile(rows, cols);
            Groups::Tiles { rows: tile_rows, cols: tile_cols }
        }
    };
    // Groups that divide rows are tiles, whose kernels know more.
    let groups = match groups {
        Groups::Flat(group) if cols.is_multiple_of(group) => Groups::Tiles { rows: 1, cols: group },
        other => other,
    };
    Ok(Scheme { codes, scale, groups })
}

fn flat_divides(format: &Format, rows: usize, cols: usize, group: usize) -> Result<()> {
    let count = rows * cols;
    if !count.is_multiple_of(group) {
        invalid!(
            "matrix [{rows}, {cols}] has {count} weights, not a multiple of group = {group} of {format}; choose \
             a group that divides it"
        );
    }
    Ok(())
}
