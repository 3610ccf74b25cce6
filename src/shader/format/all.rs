//! The variants that stand for all.

use super::{CodeKind, FormatVariant, GroupKind, Runs, ScaleKind};

impl FormatVariant {
    /// Variants for tests that link all of them: every kind of codes with every kind of scale it occurs with, and
    /// every kind of group once.
    pub fn all() -> Vec<Self> {
        let plain = |codes, scale| Self {
            codes,
            scale,
            groups: GroupKind::Row,
            scale_quads: 8,
            row_scale: false,
            wide: false,
            texels: false,
            patched: false,
            runs: Runs::Whole,
        };
        let mut all: Vec<Self> = (0..3).map(|kind| plain(CodeKind::Float(kind), ScaleKind::Fixed)).collect();
        for bits in 2..=8 {
            let codes = CodeKind::Signed(bits);
            all.push(Self { row_scale: true, ..plain(codes, ScaleKind::F32) });
            all.push(Self { row_scale: true, ..plain(codes, ScaleKind::Fixed) });
            all.extend([ScaleKind::F16, ScaleKind::Exponent].map(|scale| plain(codes, scale)));
            all.push(plain(CodeKind::Unsigned(bits), ScaleKind::F16Zero));
        }
        for scale in [ScaleKind::Fixed, ScaleKind::F32, ScaleKind::F16] {
            all.push(Self { row_scale: scale != ScaleKind::F16, ..plain(CodeKind::Sign, scale) });
        }
        for bits in 1..=8 {
            all.extend([ScaleKind::Fixed, ScaleKind::F16].map(|scale| plain(CodeKind::Table(bits), scale)));
            if bits > 1 {
                all.push(plain(CodeKind::Table(bits), ScaleKind::Exponent));
            }
        }
        all.push(Self { scale_quads: 4, ..plain(CodeKind::Table(4), ScaleKind::E4m3) });
        for (base, digits, bits) in [(3, 5, 8), (5, 3, 7), (9, 5, 16), (45, 2, 11), (11, 9, 32)] {
            all.push(plain(CodeKind::Radix { base, digits, bits }, ScaleKind::F16));
        }
        all.push(plain(CodeKind::Radix2In7, ScaleKind::F16));
        all.extend([true, false].map(|aligned| plain(CodeKind::Radix9In32 { aligned }, ScaleKind::Fixed)));
        for (bits, record) in [(4, 4), (5, 4), (6, 6)] {
            all.push(plain(CodeKind::KQuant { bits, record }, ScaleKind::Fixed));
        }
        for scale_quads in [8, 4, 0] {
            let flat = plain(CodeKind::Stream8, ScaleKind::Exponent);
            all.push(Self { groups: GroupKind::Flat, scale_quads, ..flat });
            for codes in [CodeKind::Signed(8), CodeKind::Table(8)] {
                for groups in [GroupKind::Row, GroupKind::Tile, GroupKind::Flat] {
                    // Runs of the flattened matrix that align with chunks are runs of rows, but for odd ones.
                    if scale_quads == 8 && groups == GroupKind::Flat {
                        continue;
                    }
                    all.push(Self { groups, scale_quads, ..plain(codes, ScaleKind::Exponent) });
                }
            }
        }
        for codes in [CodeKind::Signed(8), CodeKind::Table(8)] {
            all.push(Self { patched: true, ..plain(codes, ScaleKind::Exponent) });
        }
        let both = [false, true];
        let mut all: Vec<Self> =
            all.into_iter().flat_map(|variant| both.map(|wide| Self { wide, ..variant })).collect();
        // Kernels that advance over runs read the scales of long rows by four words.
        let long = |scale| !matches!(scale, ScaleKind::Fixed | ScaleKind::E4m3);
        all = all.into_iter().map(|variant| variant.with_runs(variant.wide && long(variant.scale))).collect();
        // How words are read does not depend on what is made of them: each way of reading once.
        let texels = [
            plain(CodeKind::Float(0), ScaleKind::Fixed),
            plain(CodeKind::Signed(4), ScaleKind::F16),
            Self { row_scale: true, ..plain(CodeKind::Signed(2), ScaleKind::F32) },
            plain(CodeKind::Radix2In7, ScaleKind::F16),
        ];
        all.extend(texels.map(|variant| Self { wide: true, ..variant }.with_texels().with_runs(false)));
        all
    }
}
