//! Constants and fragments of WGSL that fulfil the contract of a kernel.

use std::fmt::Write as _;

use super::{CodeKind, FormatVariant, Runs, ScaleKind};
use crate::shader::{Contract, KernelRow, lib};

macro_rules! fragment {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/format/", $name, ".wgsl"))
    };
}

impl FormatVariant {
    /// Appends constants and fragments that fulfil the contract of a kernel.
    pub(in crate::shader) fn append(self, kernel: &KernelRow, text: &mut String) {
        text.push_str(if self.wide_scales(kernel) { lib!("scales_wide") } else { lib!("scales_narrow") });
        text.push_str(match (self.texels, self.wide) {
            (true, _) => lib!("codes_texels"),
            (false, true) => lib!("codes_wide"),
            (false, false) => lib!("codes_narrow"),
        });
        let mut constant = |name: &str, value: u32| {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        };
        for (scale, name) in [
            (ScaleKind::Fixed, "SCALE_FIXED"),
            (ScaleKind::F32, "SCALE_F32"),
            (ScaleKind::F16, "SCALE_F16"),
            (ScaleKind::Exponent, "SCALE_EXPONENT"),
            (ScaleKind::F16Zero, "SCALE_F16_ZERO"),
            (ScaleKind::E4m3, "SCALE_E4M3"),
        ] {
            constant(name, scale as u32);
        }
        constant("SCALE", self.scale as u32);
        constant("GROUPS", self.groups as u32);
        constant("SCALE_QUADS", self.scale_quads.into());
        constant("HEAD", if let CodeKind::Table(bits) = self.codes { 1 << bits } else { 0 });
        let _ = writeln!(text, "const ROW_SCALE: bool = {};", self.row_scale);
        let _ = writeln!(
            text,
            "const FOUR_BIT_CODES: bool = {};",
            self.largest_code() <= 7 || self.codes == CodeKind::Signed(4)
        );
        let _ = writeln!(text, "const SIGNED_NIBBLES: bool = {};", self.codes == CodeKind::Signed(4));
        text.push_str(if kernel.direct { lib!("half_converted") } else { lib!("half") });
        text.push_str(lib!("scale"));
        self.append_codes(text);
        text.push_str(match self.codes {
            CodeKind::Table(..=4) if kernel.direct => lib!("table_held"),
            CodeKind::Table(_) => lib!("table_loaded"),
            _ if kernel.direct => lib!("unprepared"),
            _ => "",
        });
        let integers = !matches!(
            self.codes,
            CodeKind::Float(_) | CodeKind::Table(_) | CodeKind::Radix9In32 { .. } | CodeKind::KQuant { .. }
        );
        debug_assert!(kernel.contract != Contract::Integer || integers && !self.scale_per_element());
        text.push_str(if matches!(self.codes, CodeKind::Unsigned(_)) {
            lib!("zero")
        } else {
            lib!("no_zero")
        });
        if self.floats_by_quads() {
            text.push_str(lib!("float_quads"));
        }
        if integers {
            if !self.floats_by_quads() {
                text.push_str(lib!("float_converted"));
            }
            text.push_str(lib!("scaled"));
            text.push_str(lib!("lift"));
        }
        text.push_str(if self.patched { lib!("patched") } else { lib!("unpatched") });
        if kernel.epilogue {
            text.push_str(if self.patched { lib!("patched_product") } else { lib!("unpatched_product") });
        }
        if kernel.runs {
            self.append_runs(text);
        }
    }

    /// Appends what kernels that advance over runs want.
    fn append_runs(self, text: &mut String) {
        let minimum = matches!(self.codes, CodeKind::KQuant { record: 4, .. });
        let half_chunks = matches!(self.codes, CodeKind::KQuant { record: 6, .. });
        let records = matches!(self.runs, Runs::Quads | Runs::Records);
        for (name, value) in [("HAS_MINIMUM", minimum), ("HALF_CHUNKS", half_chunks), ("RECORDS", records)] {
            let _ = writeln!(text, "const {name}: bool = {value};");
        }
        text.push_str(match (self.runs, self.codes) {
            (Runs::Whole, _) => lib!("values_whole"),
            (_, CodeKind::Table(_)) => lib!("values_table"),
            _ => lib!("values_codes"),
        });
        text.push_str(match self.runs {
            Runs::Whole => lib!("run_whole"),
            Runs::Groups => lib!("run_groups"),
            Runs::Quads => lib!("run_quads"),
            Runs::Records => lib!("run_k"),
        });
        if self.runs != Runs::Records {
            text.push_str(lib!("no_minimum"));
        }
        text.push_str(match self.codes {
            _ if self.runs == Runs::Whole => lib!("held_values"),
            CodeKind::Table(..=4) => lib!("held_table"),
            _ if self.floats_by_quads() => lib!("held_fields"),
            _ => lib!("held_values"),
        });
    }

    fn append_codes(self, text: &mut String) {
        let fields = |text: &mut String, bits: u8, signed: bool| {
            let _ = writeln!(text, "const BITS: u32 = {bits}u;\nconst FIELD_SIGNED: bool = {signed};");
            text.push_str(lib!("field"));
            text.push_str(if 32 % bits == 0 { lib!("field_words") } else { lib!("field_straddling") });
            text.push_str(lib!("chunk_codes"));
        };
        let integer = |text: &mut String, bits: u8, code: u32| {
            for (value, name) in ["CODE_SIGNED", "CODE_SIGN", "CODE_UNSIGNED"].iter().enumerate() {
                let _ = writeln!(text, "const {name}: u32 = {value}u;");
            }
            let _ = writeln!(text, "const CODE: u32 = {code}u;");
            text.push_str(lib!("in_place"));
            text.push_str(lib!("chunk_fields"));
            text.push_str(if 32 % bits == 0 { lib!("float_words") } else { lib!("float_straddling") });
        };
        match self.codes {
            CodeKind::Float(kind) => {
                let _ = writeln!(text, "const FLOAT_KIND: u32 = {kind}u;");
                text.push_str(fragment!("float"));
                text.push_str(lib!("float"));
            }
            CodeKind::Signed(bits) => {
                fields(text, bits, true);
                integer(text, bits, 0);
                text.push_str(fragment!("int"));
            }
            CodeKind::Sign => {
                fields(text, 1, false);
                integer(text, 1, 1);
                text.push_str(fragment!("int"));
            }
            CodeKind::Unsigned(bits) => {
                fields(text, bits, false);
                integer(text, bits, 2);
                text.push_str(fragment!("int"));
            }
            CodeKind::Table(bits) => {
                fields(text, bits, false);
                text.push_str(fragment!("codebook"));
            }
            CodeKind::Radix2In7 => {
                text.push_str(fragment!("radix_2in7"));
                text.push_str(lib!("in_place"));
            }
            CodeKind::Radix { base, digits, bits } => {
                let _ = writeln!(
                    text,
                    "const BASE: u32 = {base}u;\nconst DIGITS: u32 = {digits}u;\nconst BITS: u32 = {bits}u;"
                );
                text.push_str(fragment!("radix"));
            }
            CodeKind::Radix9In32 { aligned } => {
                let _ = writeln!(text, "const GROUP_OF_CHUNKS: bool = {aligned};");
                text.push_str(fragment!("radix_9in32"));
                text.push_str(lib!("float"));
            }
            CodeKind::Stream8 => text.push_str(fragment!("int8_stream")),
            CodeKind::KQuant { bits, record } => {
                fields(text, bits, record == 6);
                integer(text, bits, if record == 6 { 0 } else { 2 });
                let group = if record == 6 { 16 } else { 32 };
                let _ = writeln!(text, "const K_RECORD: u32 = {record}u;\nconst K_GROUP: u32 = {group}u;");
                text.push_str(fragment!("k_quant"));
            }
        }
    }
}
