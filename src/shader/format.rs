//! Which WGSL fragments and constants decode a format: the device side of the format table.

mod all;
mod fragments;

use super::{Access, KernelRow};
use crate::error::Result;
use crate::format::{Codes, Format, Groups, Layout, Scale};

/// The part of a format that a pipeline is compiled for. Group lengths, exponent biases, tables and shapes stay
/// run-time data, so formats that differ only in them share a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatVariant {
    codes: CodeKind,
    scale: ScaleKind,
    groups: GroupKind,
    /// Quads (of the 8 of a chunk) that surely share a scale; 0 where a quad does not.
    scale_quads: u8,
    /// One scale per row or matrix, so that an i32 sum may run over all of K.
    row_scale: bool,
    /// Code words are bound as `vec4<u32>`: every row is a multiple of four words.
    wide: bool,
    /// Code words are bound as texels of four; only where `wide`.
    texels: bool,
    /// The matrix has exceptions.
    patched: bool,
    /// Chunks whose scales come at once.
    runs: Runs,
}

/// Runs of chunks whose scales are loaded at once, by kernels that want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Runs {
    /// A row: scales are part of the values.
    Whole,
    /// A group, or a row where it has one scale.
    Groups,
    /// The groups whose records fill four words.
    Quads,
    /// The weights that share a record of a k-quant.
    Records,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CodeKind {
    /// f32 (0), f16 (1), bf16 (2).
    Float(u8),
    /// Two's complement.
    Signed(u8),
    /// One bit for -1 and +1.
    Sign,
    /// With a zero point.
    Unsigned(u8),
    /// Index of a table at the head of the scales.
    Table(u8),
    /// Two base-11 digits in seven bits.
    Radix2In7,
    /// Digits in fields.
    Radix { base: u16, digits: u8, bits: u8 },
    /// Nine base-11 digits in 32 bits.
    Radix9In32 {
        /// The group is a multiple of the chunk.
        aligned: bool,
    },
    /// int8 over the whole matrix.
    Stream8,
    /// ggml's k-quants: bits per code, and 4 (q4_k, q5_k) or 6 (q6_k).
    KQuant { bits: u8, record: u8 },
}

/// `SCALE` in WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ScaleKind {
    Fixed = 0,
    F32 = 1,
    F16 = 2,
    Exponent = 3,
    F16Zero = 4,
    E4m3 = 5,
}

/// `GROUPS` in WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum GroupKind {
    Row = 0,
    Tile = 1,
    Flat = 2,
}

impl FormatVariant {
    /// The variant that decodes a matrix of this layout with rows of `cols` weights. Wide codes are decoded
    /// on the host, see [`FormatVariant::dense`].
    pub fn new(layout: &Layout, cols: usize, patched: bool) -> Self {
        let scheme = layout.scheme;
        let codes = match (scheme.codes, scheme.scale) {
            (Codes::F32, _) => CodeKind::Float(0),
            (Codes::F16, _) => CodeKind::Float(1),
            (Codes::Bf16, _) => CodeKind::Float(2),
            (Codes::Wide(_), _) => return Self::dense(),
            (codes, Scale::K4) => CodeKind::KQuant { bits: codes.bits() as u8, record: 4 },
            (codes, Scale::K6) => CodeKind::KQuant { bits: codes.bits() as u8, record: 6 },
            (Codes::Signed(bits), _) => CodeKind::Signed(bits),
            (Codes::Sign, _) => CodeKind::Sign,
            (Codes::Unsigned(bits), _) => CodeKind::Unsigned(bits),
            (Codes::Table(bits), _) => CodeKind::Table(bits),
            (Codes::Digits { base: 11, digits: 2, bits: 7 }, _) => CodeKind::Radix2In7,
            (Codes::Digits { base, digits, bits }, _) => CodeKind::Radix { base, digits, bits },
            (Codes::Digits9, _) => CodeKind::Radix9In32 { aligned: layout.group.is_multiple_of(32) },
            (Codes::Stream8, _) => CodeKind::Stream8,
        };
        let scale = match scheme.scale {
            Scale::F32 => ScaleKind::F32,
            Scale::F16 => ScaleKind::F16,
            Scale::Exponent { .. } => ScaleKind::Exponent,
            Scale::F16Zero => ScaleKind::F16Zero,
            Scale::E4m3 => ScaleKind::E4m3,
            Scale::Fixed(_) | Scale::MinimumRange | Scale::K4 | Scale::K6 => ScaleKind::Fixed,
        };
        let quads_of = |length: usize| match length {
            _ if length.is_multiple_of(32) => 8,
            _ if length.is_multiple_of(16) => 4,
            _ if length.is_multiple_of(8) => 2,
            _ if length.is_multiple_of(4) => 1,
            _ => 0,
        };
        let (groups, scale_quads) = match scheme.groups {
            Groups::Tensor => (GroupKind::Row, 8),
            Groups::Tiles { rows, cols: tile } => {
                let kind = if rows == 1 { GroupKind::Row } else { GroupKind::Tile };
                (kind, if tile >= cols { 8 } else { quads_of(tile) })
            }
            Groups::Flat(group) => (GroupKind::Flat, quads_of(group).min(quads_of(cols))),
        };
        let own_fragment = matches!(codes, CodeKind::Radix9In32 { .. } | CodeKind::KQuant { .. });
        let row_scale = match scheme.groups {
            Groups::Tensor => true,
            Groups::Tiles { cols: tile, .. } => tile >= cols && scale == ScaleKind::F32,
            Groups::Flat(_) => false,
        };
        let variant = Self {
            codes,
            scale,
            groups: if own_fragment { GroupKind::Row } else { groups },
            scale_quads: if own_fragment { 8 } else { scale_quads },
            row_scale: row_scale && scheme.has_integer_codes(),
            wide: layout.row_words > 0 && layout.row_words.is_multiple_of(4),
            texels: false,
            patched,
            runs: Runs::Whole,
        };
        let in_quad = match scale {
            ScaleKind::F32 | ScaleKind::F16Zero => 4,
            ScaleKind::F16 => 8,
            ScaleKind::Exponent => 16,
            ScaleKind::Fixed | ScaleKind::E4m3 => usize::MAX,
        };
        variant.with_runs(layout.groups_per_row > 0 && layout.groups_per_row.is_multiple_of(in_quad))
    }

    /// The same with runs of chunks, where it has them; `quads` says that the records of a row fill whole vec4.
    fn with_runs(self, quads: bool) -> Self {
        let table_of_quads = !matches!(self.codes, CodeKind::Table(1));
        let runs = match self.codes {
            _ if self.scale_per_element() || self.groups == GroupKind::Flat => Runs::Whole,
            CodeKind::Float(_) | CodeKind::Radix9In32 { .. } => Runs::Whole,
            CodeKind::KQuant { .. } => Runs::Records,
            _ if quads && table_of_quads && self.groups == GroupKind::Row => Runs::Quads,
            _ => Runs::Groups,
        };
        Self { runs, ..self }
    }

    /// The variant for a matrix `[rows, cols]` of `format` without exceptions.
    ///
    /// # Errors
    /// As [`Format::layout`].
    pub fn of(format: Format, rows: usize, cols: usize) -> Result<Self> {
        Ok(Self::new(&format.layout(rows, cols)?, cols, false))
    }

    /// f32 rows of any multiple of four weights, as the naive pass leaves them.
    pub fn dense() -> Self {
        Self {
            codes: CodeKind::Float(0),
            scale: ScaleKind::Fixed,
            groups: GroupKind::Row,
            scale_quads: 8,
            row_scale: false,
            wide: true,
            texels: false,
            patched: false,
            runs: Runs::Whole,
        }
    }

    /// The same with code words as texels, where rows are a multiple of four words.
    #[must_use]
    pub fn with_texels(self) -> Self {
        Self { texels: self.wide, ..self }
    }

    /// Whether code words are texels.
    pub fn has_texels(self) -> bool {
        self.texels
    }

    /// WGSL type of the code words.
    pub(super) fn codes_type(self) -> &'static str {
        match (self.texels, self.wide) {
            (true, _) => "texture_storage_2d<rgba32uint, read>",
            (false, true) => "array<vec4<u32>>",
            (false, false) => "array<u32>",
        }
    }

    /// Whether `kernel` reads table, scales and exceptions by four words.
    fn wide_scales(self, kernel: &KernelRow) -> bool {
        let records = matches!(self.codes, CodeKind::KQuant { record: 4, .. });
        kernel.runs && (self.runs == Runs::Quads || records)
    }

    /// WGSL type of table, scales and exceptions.
    pub(super) fn scales_type(self, kernel: &KernelRow) -> &'static str {
        if self.wide_scales(kernel) { "array<vec4<u32>>" } else { "array<u32>" }
    }

    /// How the code words are bound.
    pub(super) fn codes_access(self) -> Access {
        if self.texels { Access::Texels } else { Access::Read }
    }

    /// Whether exceptions follow its scales.
    pub(super) fn is_patched(self) -> bool {
        self.patched
    }

    /// Whether integer kernels can run on it: integer codes with one scale per chunk.
    pub fn has_chunk_codes(self) -> bool {
        let integers = match self.codes {
            CodeKind::Signed(_) | CodeKind::Sign | CodeKind::Radix2In7 | CodeKind::Stream8 => true,
            CodeKind::Radix { .. } => true,
            CodeKind::Unsigned(bits) => bits < 8,
            CodeKind::Float(_)
            | CodeKind::Table(_)
            | CodeKind::Radix9In32 { .. }
            | CodeKind::KQuant { .. } => false,
        };
        integers && !self.scale_per_element() && !self.patched
    }

    /// Whether floats are made of its integer codes quad by quad and without a conversion.
    fn floats_by_quads(self) -> bool {
        matches!(
            self.codes,
            CodeKind::Signed(_)
                | CodeKind::Sign
                | CodeKind::Unsigned(_)
                | CodeKind::KQuant { .. }
                | CodeKind::Radix2In7
        )
    }

    /// Largest magnitude of an integer code.
    fn largest_code(self) -> u32 {
        match self.codes {
            CodeKind::Signed(bits) => 1 << (bits - 1),
            CodeKind::Sign => 1,
            CodeKind::Unsigned(bits) => (1 << bits) - 1,
            CodeKind::Radix2In7 | CodeKind::Radix9In32 { .. } => 5,
            CodeKind::Radix { base, .. } => u32::from(base) / 2,
            CodeKind::Float(_) | CodeKind::Table(_) | CodeKind::Stream8 | CodeKind::KQuant { .. } => u32::MAX,
        }
    }

    /// Whether integer kernels that write codes of x in fields of so many bits (8, 4 or 2) can run on it: 4 bits take
    /// codes of W up to 9, so that two rows of x fit a float, 2 bits take -1, 0 and +1 with one scale per row.
    pub fn takes_codes_of(self, bits: u8) -> bool {
        self.has_chunk_codes()
            && match bits {
                // A real scale tells symmetric integers, whose lowest code no encoder writes, from fixed point.
                2 => self.row_scale && self.codes == CodeKind::Signed(2) && self.scale == ScaleKind::F32,
                4 => self.largest_code() <= 9,
                _ => true,
            }
    }

    /// Whether groups are shorter than chunks or straddle them.
    pub fn scale_per_element(self) -> bool {
        self.scale_quads < 8 || self.codes == (CodeKind::Radix9In32 { aligned: false })
    }

    /// Whether one i32 sum may run over all of K.
    pub fn row_scale(self) -> bool {
        self.row_scale
    }

    /// Name in reports.
    pub fn name(self) -> String {
        let scale = match (self.scale, self.row_scale) {
            (ScaleKind::Fixed, _) => "",
            (_, true) => " row",
            (ScaleKind::F32, _) => " f32",
            (ScaleKind::F16 | ScaleKind::F16Zero, _) => " group",
            (ScaleKind::Exponent, _) => " exponent",
            (ScaleKind::E4m3, _) => " e4m3",
        };
        let codes = match self.codes {
            CodeKind::Float(kind) => return ["f32", "f16", "bf16"][usize::from(kind.min(2))].to_string(),
            CodeKind::Signed(bits) => format!("int{bits}"),
            CodeKind::Sign => "sign".to_string(),
            CodeKind::Unsigned(bits) => format!("uint{bits}"),
            CodeKind::Table(bits) => format!("codebook{bits}"),
            CodeKind::Radix2In7 => "radix 2 in 7".to_string(),
            CodeKind::Radix { digits, bits, .. } => format!("radix {digits} in {bits}"),
            CodeKind::Radix9In32 { .. } => return "base11 9in32".to_string(),
            CodeKind::Stream8 => "int8 stream".to_string(),
            CodeKind::KQuant { bits, .. } => return format!("q{bits}_k"),
        };
        let tile = match self.groups {
            GroupKind::Row => "",
            GroupKind::Tile => " tiles",
            GroupKind::Flat => " flat",
        };
        let patched = if self.patched { " patched" } else { "" };
        format!("{codes}{scale}{tile}{patched}")
    }
}
