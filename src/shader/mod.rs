//! WGSL text: the catalog of kernels, format fragments and epilogues, and the linker that joins them.
//!
//! A module is `constants + bindings + contract + format + epilogue + kernel + entry`, concatenated (WGSL
//! module scope does not depend on order). Nothing here talks to a device.

mod access;
mod catalog;
mod epilogue;
mod format;
mod probe;
mod tile;
mod tuning;
mod variants;

use std::fmt::Write as _;

pub use catalog::{Access, Binding, Kernel, KernelRow};
pub use epilogue::Epilogue;
pub use format::FormatVariant;
pub use probe::Probe;
pub use tile::{DeviceClass, Tile};
pub(crate) use tuning::GEMV_ROWS;
pub use tuning::{Choice, Method, Product, Tuning};
pub use variants::all_variants;

use crate::graph::Function;

/// Vectors of 16 bytes that a uniform window shows, as many as every WebGPU device binds.
pub const WINDOW_QUADS: u32 = 4096;

/// Texels to a line of a texture of code words.
pub const TEXELS: u32 = 1024;

/// What a kernel needs from a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// No packed matrix.
    None,
    /// `weights_at` / `bits_at`: f32 values of a chunk.
    Float,
    /// `codes_at` / `scale_at`: integer codes of a chunk and their scale.
    Integer,
}

/// Everything that distinguishes one pipeline from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Which kernel.
    pub kernel: Kernel,
    /// The packed operand, for kernels with a contract.
    pub format: Option<FormatVariant>,
    /// The epilogue, for kernels that have one.
    pub epilogue: Option<Epilogue>,
    /// Partition.
    pub tile: Tile,
    /// Uses subgroup reductions.
    pub subgroup: bool,
    /// Reads and stores y, residual and bias four columns at a time; for direct products
    /// ([`KernelRow::direct`]) of matrices whose rows, part and y all lie in whole vec4.
    pub quads: bool,
    /// Reads x through a uniform window, see [`KernelRow::window`].
    pub window: bool,
    /// Moves [`KernelRow::pairs`], [`KernelRow::quads`] and, where they are vec4, y and residual as 64-bit words.
    pub long: bool,
    /// [`KernelRow::codes`] are texels.
    pub texels: bool,
    /// Kernel constants, e.g. `HEAD_DIM`.
    pub constants: Vec<(&'static str, u32)>,
}

impl Variant {
    /// A kernel without packed operand or epilogue.
    pub fn plain(kernel: Kernel, tile: Tile) -> Self {
        Self {
            kernel,
            format: None,
            epilogue: None,
            tile,
            subgroup: false,
            quads: false,
            window: false,
            long: false,
            texels: false,
            constants: Vec::new(),
        }
    }

    /// Sets a kernel constant.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// Short name for labels and reports, e.g. `gemm<int4> bias`.
    pub fn name(&self) -> String {
        let mut name = self.kernel.row().name.to_string();
        if let Some(format) = &self.format {
            let _ = write!(name, "<{}>", format.name());
        }
        if let Some(epilogue) = self.epilogue {
            let _ = write!(name, " {}", epilogue.name());
        }
        name
    }

    /// Whether x can be read through windows.
    pub fn takes_window(&self) -> bool {
        self.kernel.row().window && self.format.is_none_or(|format| !format.is_patched())
    }

    /// Whether it moves something that may travel as 64-bit words.
    pub fn takes_long(&self) -> bool {
        let row = self.kernel.row();
        !row.pairs.is_empty() || !row.quads.is_empty() || (self.epilogue.is_some() && self.quads)
    }

    /// Whether codes of x can be texels.
    pub fn takes_texels(&self) -> bool {
        self.kernel.row().codes.is_some()
    }

    /// Whether `binding` is texels of codes of x.
    fn is_texels(&self, binding: &Binding) -> bool {
        self.texels && self.kernel.row().codes == Some(binding.name)
    }

    /// Whether `binding` is read or stored by a function, one element at a time.
    fn is_single(&self, binding: &Binding) -> bool {
        let ends = self.epilogue.is_some() && ["y", "residual"].contains(&binding.name);
        ends || self.kernel.row().quads.contains(&binding.name)
    }

    /// Bindings in binding order; binding 0 is the uniform block, these follow from 1.
    pub fn bindings(&self) -> Vec<Binding> {
        let row = self.kernel.row();
        let mut bindings = row.bindings.to_vec();
        if let Some(format) = &self.format {
            bindings.extend(catalog::packed(
                format.codes_type(),
                format.codes_access(),
                format.scales_type(row),
            ));
        }
        if let Some(epilogue) = self.epilogue {
            bindings.extend(epilogue.bindings());
        }
        for binding in &mut bindings {
            if self.quads && ["y", "residual", "bias"].contains(&binding.name) {
                binding.ty = "array<vec4<f32>>";
            }
            if self.long {
                if row.pairs.contains(&binding.name) {
                    binding.ty = LONG_PAIRS;
                } else if self.is_single(binding) && binding.ty.starts_with("array<vec4<") {
                    binding.ty = "array<vec2<u64>>";
                }
            }
            if self.is_texels(binding) {
                (binding.ty, binding.access) = match binding.access {
                    Access::Write => ("texture_storage_2d<rgba32uint, write>", Access::TexelsOut),
                    _ => ("texture_storage_2d<rgba32uint, read>", Access::Texels),
                };
            }
            if self.window && binding.name == "x" {
                binding.access = Access::Window;
            }
        }
        bindings
    }
}

/// Number used for a function in WGSL (`FUNCTION`).
pub fn function_code(function: Function) -> u32 {
    match function {
        Function::Relu => 0,
        Function::Silu => 1,
        Function::Gelu => 2,
        Function::GeluTanh => 3,
        Function::Tanh => 4,
    }
}

/// The type of pairs of vec4 as 64-bit words.
const LONG_PAIRS: &str = "array<vec4<u64>>";

macro_rules! lib {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/", $name, ".wgsl"))
    };
}
pub(crate) use lib;

/// Joins the fragments of a variant to one WGSL module with the entry point `main`.
pub fn link(variant: &Variant) -> String {
    let row = variant.kernel.row();
    let mut text = String::with_capacity(8192);
    if row.half {
        text.push_str("enable f16;\n");
    }
    for (name, value) in variant.tile.constants().iter().chain(&variant.constants) {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    text.push_str("struct Params {\n");
    let padded = row.params.len().next_multiple_of(4);
    for i in 0..padded {
        match row.params.get(i) {
            Some(name) => {
                let _ = writeln!(text, "    {name}: u32,");
            }
            None => {
                let _ = writeln!(text, "    padding_{i}: u32,");
            }
        }
    }
    text.push_str("}\n@group(0) @binding(0) var<uniform> params: Params;\n");
    for (i, binding) in variant.bindings().iter().enumerate() {
        let Binding { name, ty, access } = *binding;
        let i = i + 1;
        let _ = match access {
            Access::Read => writeln!(text, "@group(0) @binding({i}) var<storage, read> {name}: {ty};"),
            Access::Write => writeln!(text, "@group(0) @binding({i}) var<storage, read_write> {name}: {ty};"),
            Access::Texels | Access::TexelsOut => writeln!(text, "@group(0) @binding({i}) var {name}: {ty};"),
            Access::Window => {
                let element = ty.strip_prefix("array<").and_then(|ty| ty.strip_suffix('>')).unwrap_or(ty);
                writeln!(
                    text,
                    "@group(0) @binding({i}) var<uniform> {name}: array<{element}, {WINDOW_QUADS}>;"
                )
            }
        };
    }
    text.push_str(lib!("contract"));
    if variant.texels || variant.format.is_some_and(FormatVariant::has_texels) {
        let _ = writeln!(text, "const TEXELS: u32 = {TEXELS}u;");
        text.push_str(lib!("texels"));
    }
    if row.reduces {
        text.push_str(if variant.subgroup { lib!("reduce_subgroup") } else { lib!("reduce") });
    }
    if let Some(format) = &variant.format {
        format.append(row, &mut text);
    }
    let mut function = row.function;
    if let Some(epilogue) = variant.epilogue {
        if let Some(f) = epilogue.function() {
            function = true;
            let _ = writeln!(text, "const FUNCTION: u32 = {}u;", function_code(f));
            text.push_str(if variant.quads { lib!("activated_quads") } else { lib!("activated") });
        }
        text.push_str(if variant.quads { lib!("sum_quads") } else { lib!("sum") });
        if row.direct {
            text.push_str(if variant.quads { lib!("columns_quads") } else { lib!("columns") });
        }
        text.push_str(if epilogue.has_bias() { lib!("biased") } else { lib!("unbiased") });
        text.push_str(epilogue.source());
        if !matches!(epilogue, Epilogue::Gated { .. }) {
            text.push_str(lib!("ungated"));
        }
        if epilogue != Epilogue::Accumulator {
            text.push_str(lib!("finish_i32"));
        }
    }
    if function {
        text.push_str(lib!("functions"));
    }
    access::append(variant, &mut text);
    row.libraries.iter().for_each(|library| text.push_str(library));
    text.push_str(row.source);
    text.push_str(if variant.subgroup { lib!("entry_subgroup") } else { lib!("entry") });
    text
}
