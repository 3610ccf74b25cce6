//! Which WGSL fragments and constants decode a format: the device side of the format table.

use std::fmt::Write as _;

use super::{Contract, lib};
use crate::format::{Base11Layout, Format, Scope};

/// The part of a format that a pipeline is compiled for. Group lengths and shapes stay run-time
/// parameters, so formats that differ only in them share a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatVariant {
    kind: Kind,
    /// Code words are bound as `vec4<u32>`: every row is a multiple of four words.
    wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// f32 (0), f16 (1), bf16 (2).
    Float(u32),
    /// Symmetric integers; f32 scales (32) or f16 scales (16).
    Int {
        /// Bits per code.
        bits: u32,
        /// Bits per scale.
        scale_bits: u32,
        /// One scale per row (or tensor), so that an i32 sum may run over all of K.
        row_scale: bool,
    },
    /// Shared power-of-two exponent.
    MxInt {
        /// Bits per code.
        bits: u32,
        /// One int8 stream over the whole matrix.
        flat: bool,
        /// Groups do not align with chunks.
        per_element: bool,
    },
    /// Two base-11 digits in seven bits.
    Radix2In7,
    /// Nine base-11 digits in 32 bits.
    Radix9In32 {
        /// The group is a multiple of the chunk.
        aligned: bool,
    },
}

macro_rules! fragment {
    ($name:literal) => {
        include_str!(concat!("../../shaders/format/", $name, ".wgsl"))
    };
}

impl FormatVariant {
    /// The variant that decodes `format` for rows of `cols` weights.
    pub fn new(format: Format, cols: usize) -> Self {
        let row_words = format.layout(1, cols).map_or(0, |layout| layout.row_words);
        Self { kind: Kind::new(format, cols), wide: row_words > 0 && row_words.is_multiple_of(4) }
    }

    /// f32 rows of any multiple of four weights, as the naive pass leaves them.
    pub fn dense() -> Self {
        Self { kind: Kind::Float(0), wide: true }
    }

    /// WGSL store type of the code words.
    pub(super) fn codes_type(self) -> &'static str {
        if self.wide { "array<vec4<u32>>" } else { "array<u32>" }
    }
    /// Whether integer kernels can run on it: integer codes with one scale per chunk.
    pub fn has_chunk_codes(self) -> bool {
        match self.kind {
            Kind::Int { .. } | Kind::Radix2In7 => true,
            Kind::MxInt { per_element, .. } => !per_element,
            Kind::Float(_) | Kind::Radix9In32 { .. } => false,
        }
    }

    /// Whether chunks straddle groups, so that every element looks its scale up.
    pub fn scale_per_element(self) -> bool {
        matches!(self.kind, Kind::MxInt { per_element: true, .. } | Kind::Radix9In32 { aligned: false })
    }

    /// Whether one i32 sum may run over all of K.
    pub fn row_scale(self) -> bool {
        matches!(self.kind, Kind::Int { row_scale: true, .. })
    }

    /// Name in reports.
    pub fn name(self) -> String {
        match self.kind {
            Kind::Float(kind) => ["f32", "f16", "bf16"][kind.min(2) as usize].to_string(),
            Kind::Int { bits, row_scale: true, .. } => format!("int{bits}"),
            Kind::Int { bits, .. } => format!("int{bits} group"),
            Kind::MxInt { flat: true, .. } => "mxint_cuda".to_string(),
            Kind::MxInt { bits, .. } => format!("mxint{bits}"),
            Kind::Radix2In7 => "base11 2in7".to_string(),
            Kind::Radix9In32 { .. } => "base11 9in32".to_string(),
        }
    }

    /// Every variant there is, for tests that link all of them.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Kind> = (0..3).map(Kind::Float).collect();
        for bits in 2..=8 {
            all.push(Kind::Int { bits, scale_bits: 32, row_scale: true });
            all.push(Kind::Int { bits, scale_bits: 16, row_scale: false });
        }
        for bits in [4, 6, 8] {
            all.push(Kind::MxInt { bits, flat: false, per_element: false });
        }
        for per_element in [false, true] {
            all.push(Kind::MxInt { bits: 8, flat: true, per_element });
        }
        all.extend([
            Kind::Radix2In7,
            Kind::Radix9In32 { aligned: true },
            Kind::Radix9In32 { aligned: false },
        ]);
        let both = [false, true];
        let wide = |kind: Kind| both.into_iter().map(move |wide| Self { kind, wide });
        all.into_iter().flat_map(wide).collect()
    }

    /// Appends constants and fragments that fulfil `contract`.
    pub(super) fn append(self, contract: Contract, text: &mut String) {
        text.push_str(if self.wide { lib!("codes_wide") } else { lib!("codes_narrow") });
        let _ = writeln!(text, "const ROW_SCALE: bool = {};", self.row_scale());
        match self.kind {
            Kind::Float(kind) => {
                let _ = writeln!(text, "const FLOAT_KIND: u32 = {kind}u;");
                text.push_str(lib!("half"));
                text.push_str(fragment!("float"));
                text.push_str(lib!("float"));
            }
            Kind::Int { bits, scale_bits, .. } => {
                let _ = writeln!(text, "const BITS: u32 = {bits}u;\nconst SCALE_BITS: u32 = {scale_bits}u;");
                text.push_str(lib!("half"));
                text.push_str(lib!("field"));
                text.push_str(fragment!("int"));
            }
            Kind::MxInt { bits, flat, .. } => {
                let _ = writeln!(
                    text,
                    "const BITS: u32 = {bits}u;\nconst FRACTION: u32 = {}u;\nconst FLAT: bool = {flat};",
                    bits - 2
                );
                text.push_str(lib!("field"));
                text.push_str(fragment!("mxint"));
            }
            Kind::Radix2In7 => {
                text.push_str(lib!("half"));
                text.push_str(fragment!("radix_2in7"));
            }
            Kind::Radix9In32 { aligned } => {
                let _ = writeln!(text, "const GROUP_OF_CHUNKS: bool = {aligned};");
                text.push_str(lib!("half"));
                text.push_str(fragment!("radix_9in32"));
                text.push_str(lib!("float"));
            }
        }
        if !matches!(self.kind, Kind::Float(_) | Kind::Radix9In32 { .. }) {
            let per_element = matches!(self.kind, Kind::MxInt { per_element: true, .. });
            debug_assert!(contract != Contract::Integer || !per_element);
            let _ = writeln!(text, "const SCALE_PER_ELEMENT: bool = {per_element};");
            text.push_str(lib!("scaled"));
            text.push_str(lib!("lift"));
        }
    }
}

impl Kind {
    fn new(format: Format, cols: usize) -> Self {
        match format {
            Format::F32 => Self::Float(0),
            Format::F16 => Self::Float(1),
            Format::Bf16 => Self::Float(2),
            Format::Int { bits, scope } => {
                let grouped = matches!(scope, Scope::Group(_));
                Self::Int {
                    bits: bits.into(),
                    scale_bits: if grouped { 16 } else { 32 },
                    row_scale: !grouped,
                }
            }
            Format::MxInt { bits } => Self::MxInt { bits: bits.into(), flat: false, per_element: false },
            Format::MxIntCuda { group } => {
                let aligned = group % 32 == 0 && cols.is_multiple_of(32);
                Self::MxInt { bits: 8, flat: true, per_element: !aligned }
            }
            Format::Base11 { layout: Base11Layout::Two7, .. } => Self::Radix2In7,
            Format::Base11 { layout: Base11Layout::Nine32, group } => {
                Self::Radix9In32 { aligned: group % 32 == 0 }
            }
        }
    }
}
