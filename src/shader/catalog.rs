//! The table of kernels: their WGSL text, bindings and parameters. One row each.

use super::{Contract, lib};

/// How a kernel sees a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read-only storage.
    Read,
    /// Read-write storage.
    Write,
    /// A uniform block of [`WINDOW_QUADS`](super::WINDOW_QUADS) vectors.
    Window,
    /// Texels of four words, [`TEXELS`](super::TEXELS) to a line.
    Texels,
    /// Such texels, stored.
    TexelsOut,
}

/// One operand of a kernel, declared under `name` with the WGSL type `ty`.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// WGSL variable name.
    pub name: &'static str,
    /// WGSL store type.
    pub ty: &'static str,
    /// How it is bound.
    pub access: Access,
}

pub(super) const fn read(name: &'static str, ty: &'static str) -> Binding {
    Binding { name, ty, access: Access::Read }
}

const fn write(name: &'static str, ty: &'static str) -> Binding {
    Binding { name, ty, access: Access::Write }
}

/// One row of the kernel table.
#[derive(Debug)]
pub struct KernelRow {
    /// Name in reports; also the file `shaders/kernel/<name>.wgsl`.
    pub name: &'static str,
    /// WGSL text of the kernel.
    pub source: &'static str,
    /// What it needs from a format.
    pub contract: Contract,
    /// Ends its sums in an epilogue.
    pub epilogue: bool,
    /// Uses workgroup reductions (with a subgroup variant).
    pub reduces: bool,
    /// Uses `activation()`.
    pub function: bool,
    /// Hands values round by subgroup broadcasts and converts f16; needs subgroups of at least 8 and that conversion.
    pub direct: bool,
    /// Computes in f16; needs a device that has those.
    pub half: bool,
    /// Advances over runs of chunks whose scales are loaded at once.
    pub runs: bool,
    /// Texts of `shaders/lib` that it calls besides.
    pub libraries: &'static [&'static str],
    /// Storage buffers besides codes, scales and those of the epilogue.
    pub bindings: &'static [Binding],
    /// A windowed variant reads x, vec4, through a uniform window: of the rows from `m_first` to `m`, in a block that
    /// shows the buffer from vec4 `x_base` on. Where nothing is windowed both are 0.
    pub window: bool,
    /// Bindings of vec4, all of f32 or all of u32, that it reads or stores two at a time, by `NAME_pair(i)` and
    /// `NAME_put(i, pair)`: on a device that moves 64-bit words as one, as such words.
    pub pairs: &'static [&'static str],
    /// Bindings of vec4 that it reads or stores one at a time, by `NAME_at(i)` and `NAME_put(i, quad)`: likewise.
    pub quads: &'static [&'static str],
    /// The binding of integer codes of x, of vec4, that can be texels.
    pub codes: Option<&'static str>,
    /// Fields of the uniform block, in order, all u32 (f32 as bit patterns).
    pub params: &'static [&'static str],
}

/// A kernel of the catalog.
#[allow(missing_docs)] // every name is the kernel's own; its file opens with what it computes
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    Dequantize,
    Embed,
    Gemv,
    GemvDirect,
    Gemm,
    GemmF16,
    GemmDirect,
    GemvI8,
    GemmI8,
    GemmI8Direct,
    GemmPairedDirect,
    GemmPlanesDirect,
    Absmax,
    AbsmaxDirect,
    Quantize,
    QuantizeDirect,
    RowRange,
    QuantizeAffine,
    BlockAbsmax,
    TileAbsmax,
    QuantizeSteps,
    RoundSteps,
    RoundWide,
    RoundNvfp4,
    DequantizeRows,
    RmsNorm,
    RmsNormDirect,
    RmsNormQuantize,
    LayerNorm,
    Rope,
    RopeWide,
    KvWrite,
    KvWriteQuads,
    RopeQkvWide,
    AttentionScores,
    Softmax,
    AttentionValues,
    Attention,
    AttentionPart,
    AttentionJoin,
    AttentionDirect,
    Activate,
    Add,
    Mul,
    MulQuads,
    GateQuads,
    AddBias,
    GatherRows,
    CrossEntropy,
    Kl,
    Argmax,
    CompareDirect,
    Tally,
}

/// Parameters of every kernel that reads a packed matrix.
const MATRIX: [&str; 12] = [
    "rows",
    "cols",
    "row_words",
    "groups_per_row",
    "group",
    "zero",
    "group_rows",
    "offset",
    "fraction",
    "fixed",
    "patches",
    "patch_at",
];

macro_rules! matrix_params {
    ($($more:literal),*) => {
        &[
            MATRIX[0], MATRIX[1], MATRIX[2], MATRIX[3], MATRIX[4], MATRIX[5], MATRIX[6], MATRIX[7], MATRIX[8],
            MATRIX[9], MATRIX[10], MATRIX[11], $($more),*
        ]
    };
}

/// Parameters of every kernel that rounds by blocks.
macro_rules! rounding_params {
    ($($more:literal),*) => {
        &["m", "cols", "x_stride", "y_stride", "block", "blocks", "zero_shares", "scales", $($more),*]
    };
}

macro_rules! source {
    ($name:literal) => {
        include_str!(concat!("../../shaders/kernel/", $name, ".wgsl"))
    };
}

macro_rules! row {
    ($name:literal, [$($binding:expr),*], $params:expr $(, $field:ident: $value:expr)*) => {{
        #[allow(clippy::needless_update)]
        const ROW: KernelRow = KernelRow {
            $($field: $value,)*
            ..KernelRow {
                name: $name, source: source!($name), contract: Contract::None, epilogue: false, reduces: false,
                function: false, direct: false, half: false, runs: false, libraries: &[], window: false, pairs: &[], quads: &[], codes: None,
                bindings: &[$($binding),*], params: $params,
            }
        };
        &ROW
    }};
}

/// Register tiles of i32.
const I32: &[&str] = &[lib!("x_scale"), lib!("direct_i32")];
/// Sums of chunks, scaled one by one.
const CHUNKS: &[&str] = &[lib!("x_scale"), lib!("finish_chunks")];
/// Attention of one head of one token.
const ATTEND: &[&str] = &[lib!("mask"), lib!("attend")];
/// Rounding by a search in steps.
const STEPS: &[&str] = &[lib!("blocks"), lib!("steps")];
/// Symmetric rounding with a real scale.
const SYMMETRIC: &[&str] = &[lib!("symmetric")];
const X: Binding = read("x", "array<f32>");
const Y: Binding = write("y", "array<f32>");
/// The same in quads.
const X4: Binding = read("x", "array<vec4<f32>>");
const Z4: Binding = read("z", "array<vec4<f32>>");
const Y4: Binding = write("y", "array<vec4<f32>>");
const TOKENS: Binding = read("tokens", "array<Token>");
/// x, y and scales as bits, for kernels that must not flush them.
const X_BITS: Binding = read("x", "array<u32>");
const Y_BITS: Binding = write("y", "array<u32>");
const MAXIMA: Binding = read("maxima", "array<u32>");
const LEAST: Binding = read("least", "array<u32>");
const TABLE: Binding = read("table", "array<u32>");

impl Kernel {
    /// All kernels, in the order of the table.
    pub const ALL: [Kernel; 53] = [
        Kernel::Dequantize,
        Kernel::Embed,
        Kernel::Gemv,
        Kernel::GemvDirect,
        Kernel::Gemm,
        Kernel::GemmF16,
        Kernel::GemmDirect,
        Kernel::GemvI8,
        Kernel::GemmI8,
        Kernel::GemmI8Direct,
        Kernel::GemmPairedDirect,
        Kernel::GemmPlanesDirect,
        Kernel::Absmax,
        Kernel::AbsmaxDirect,
        Kernel::Quantize,
        Kernel::QuantizeDirect,
        Kernel::RowRange,
        Kernel::QuantizeAffine,
        Kernel::BlockAbsmax,
        Kernel::TileAbsmax,
        Kernel::QuantizeSteps,
        Kernel::RoundSteps,
        Kernel::RoundWide,
        Kernel::RoundNvfp4,
        Kernel::DequantizeRows,
        Kernel::RmsNorm,
        Kernel::RmsNormDirect,
        Kernel::RmsNormQuantize,
        Kernel::LayerNorm,
        Kernel::Rope,
        Kernel::RopeWide,
        Kernel::KvWrite,
        Kernel::KvWriteQuads,
        Kernel::RopeQkvWide,
        Kernel::AttentionScores,
        Kernel::Softmax,
        Kernel::AttentionValues,
        Kernel::Attention,
        Kernel::AttentionPart,
        Kernel::AttentionJoin,
        Kernel::AttentionDirect,
        Kernel::Activate,
        Kernel::Add,
        Kernel::Mul,
        Kernel::MulQuads,
        Kernel::GateQuads,
        Kernel::AddBias,
        Kernel::GatherRows,
        Kernel::CrossEntropy,
        Kernel::Kl,
        Kernel::Argmax,
        Kernel::CompareDirect,
        Kernel::Tally,
    ];

    /// Bits of the fields in which integer products read codes of x.
    pub fn x_bits(self) -> u8 {
        match self {
            Kernel::GemmPairedDirect => 4,
            Kernel::GemmPlanesDirect => 2,
            _ => 8,
        }
    }

    /// The kernel's row in the table.
    pub fn row(self) -> &'static KernelRow {
        const F: Contract = Contract::Float;
        const I: Contract = Contract::Integer;
        const ELEMENTWISE: &[&str] = &["m", "cols", "x_stride", "y_stride"];
        const HEADS: &[&str] = &["m", "heads", "cols", "x_stride", "y_stride", "eps"];
        const TWO: &[&str] = &["m", "cols", "x_stride", "z_stride", "y_stride"];
        const PRODUCT: &[&str] = matrix_params!("m", "x_stride", "y_stride", "y_offset");
        const FEW_ROWS: &[&str] = matrix_params!("m", "x_stride", "y_stride", "y_offset", "x_base", "ending");
        const TILES: &[&str] =
            matrix_params!("m", "x_stride", "y_stride", "y_offset", "m_first", "x_base", "ending");
        const OPEN: &[&str] = matrix_params!("m", "x_stride", "y_stride", "y_offset", "ending");
        const CACHE: &[&str] = &[
            "m", "heads", "kv_heads", "head_dim", "context", "span", "window", "scale", "x_stride",
            "x_offset", "y_stride",
        ];
        match self {
            Kernel::Dequantize => {
                row!("dequantize", [write("y", "array<u32>")], matrix_params!("y_stride"), contract: F)
            }
            Kernel::Embed => {
                row!("embed", [TOKENS, Y], matrix_params!("m", "first_row", "y_stride"), contract: F)
            }
            Kernel::Gemv => {
                row!(
                    "gemv", [X4, Y], FEW_ROWS,
                    contract: F, epilogue: true, window: true
                )
            }
            Kernel::GemvDirect => {
                row!(
                    "gemv_direct", [X4, Y], OPEN,
                    contract: F, epilogue: true, direct: true, runs: true
                )
            }
            Kernel::Gemm => {
                row!("gemm", [read("x", "array<vec4<f32>>"), Y], PRODUCT, contract: F, epilogue: true)
            }
            Kernel::GemmF16 => {
                row!("gemm_f16", [X4, Y], PRODUCT, contract: F, epilogue: true, half: true)
            }
            Kernel::GemmDirect => {
                row!(
                    "gemm_direct", [read("x", "array<vec4<f32>>"), Y], TILES,
                    contract: F, epilogue: true, direct: true, window: true, libraries: &[lib!("direct")]
                )
            }
            Kernel::GemvI8 => row!(
                "gemv_i8", [read("x", "array<vec4<u32>>"), read("x_scale", "array<f32>"), Y], FEW_ROWS,
                contract: I, epilogue: true, window: true, libraries: CHUNKS
            ),
            Kernel::GemmI8 => row!(
                "gemm_i8", [read("x", "array<u32>"), read("x_scale", "array<f32>"), Y], PRODUCT,
                contract: I, epilogue: true, libraries: CHUNKS
            ),
            Kernel::GemmI8Direct => row!(
                "gemm_i8_direct", [read("x", "array<vec4<u32>>"), read("x_scale", "array<f32>"), Y], OPEN,
                contract: I, epilogue: true, direct: true, libraries: I32, pairs: &["x"], codes: Some("x")
            ),
            Kernel::GemmPairedDirect => row!(
                "gemm_paired_direct", [read("x", "array<vec4<u32>>"), read("x_scale", "array<f32>"), Y], OPEN,
                contract: I, epilogue: true, direct: true, libraries: I32, quads: &["x"], codes: Some("x")
            ),
            Kernel::GemmPlanesDirect => row!(
                "gemm_planes_direct", [read("x", "array<vec4<u32>>"), read("x_scale", "array<f32>"), Y], OPEN,
                contract: I, epilogue: true, direct: true, quads: &["x"], codes: Some("x")
            ),
            Kernel::Absmax => {
                row!("absmax", [X, write("maxima", "array<f32>")], &["m", "cols", "x_stride"], reduces: true)
            }
            Kernel::AbsmaxDirect => row!(
                "absmax_direct",
                [read("x", "array<vec4<f32>>"), write("maxima", "array<f32>")],
                &["m", "cols", "x_stride"],
                direct: true, pairs: &["x"]
            ),
            Kernel::QuantizeDirect => row!(
                "quantize_direct",
                [
                    read("x", "array<vec4<f32>>"),
                    read("maxima", "array<f32>"),
                    TOKENS,
                    write("y", "array<vec4<u32>>"),
                    write("x_scale", "array<f32>")
                ],
                &["m", "cols", "x_stride", "y_stride", "q_max"],
                direct: true, libraries: SYMMETRIC, pairs: &["x"], quads: &["y"], codes: Some("y")
            ),
            Kernel::Quantize => row!(
                "quantize",
                [X, read("maxima", "array<f32>"), TOKENS, write("y", "array<u32>"), write("x_scale", "array<f32>")],
                &["m", "cols", "x_stride", "y_stride", "q_max"],
                reduces: true, libraries: SYMMETRIC
            ),
            Kernel::RowRange => row!(
                "row_range", [X, write("ranges", "array<vec2<f32>>")], &["m", "cols", "x_stride"], reduces: true
            ),
            Kernel::QuantizeAffine => row!(
                "quantize_affine",
                [X, read("ranges", "array<vec2<f32>>"), TOKENS, Y_BITS, write("x_scale", "array<f32>")],
                &["m", "cols", "x_stride", "y_stride"],
                reduces: true
            ),
            Kernel::BlockAbsmax => row!(
                "block_absmax",
                [X_BITS, write("maxima", "array<u32>"), write("least", "array<u32>")],
                &["m", "cols", "x_stride", "block", "blocks"]
            ),
            Kernel::TileAbsmax => row!(
                "tile_absmax",
                [TOKENS, write("maxima", "array<u32>"), write("least", "array<atomic<u32>>")],
                &["m", "blocks", "tile_rows"]
            ),
            Kernel::QuantizeSteps => row!(
                "quantize_steps",
                [X_BITS, TOKENS, MAXIMA, LEAST, TABLE, Y_BITS, write("x_scale", "array<u32>")],
                rounding_params!("steps", "scale_stride"),
                libraries: STEPS
            ),
            Kernel::RoundSteps => row!(
                "round_steps",
                [X_BITS, TOKENS, MAXIMA, LEAST, TABLE, Y_BITS],
                rounding_params!("steps"),
                libraries: STEPS
            ),
            Kernel::RoundWide => row!(
                "round_wide",
                [X_BITS, TOKENS, MAXIMA, LEAST, TABLE, Y_BITS],
                rounding_params!("kind", "mantissa", "span", "floor", "low", "high"),
                libraries: &[lib!("blocks")]
            ),
            Kernel::RoundNvfp4 => row!(
                "round_nvfp4",
                [X_BITS, TOKENS, read("maxima", "array<f32>"), TABLE, Y_BITS],
                &["m", "cols", "x_stride", "y_stride", "scales", "steps"],
                reduces: true, libraries: &[lib!("steps"), lib!("quotient")]
            ),
            Kernel::DequantizeRows => {
                row!(
                    "dequantize_rows",
                    [read("x", "array<u32>"), read("x_scale", "array<f32>"), Y],
                    ELEMENTWISE
                )
            }
            Kernel::RmsNormDirect => row!(
                "rms_norm_direct",
                [
                    read("x", "array<vec4<f32>>"),
                    read("weight", "array<vec4<f32>>"),
                    write("y", "array<vec4<f32>>"),
                    write("maxima", "array<f32>")
                ],
                HEADS,
                direct: true, pairs: &["x", "y"]
            ),
            Kernel::RmsNorm => {
                row!(
                    "rms_norm", [X, read("weight", "array<f32>"), Y, write("maxima", "array<f32>")], HEADS,
                    reduces: true
                )
            }
            Kernel::RmsNormQuantize => row!(
                "rms_norm_quantize",
                [X, read("weight", "array<f32>"), write("y", "array<u32>"), write("x_scale", "array<f32>")],
                &["m", "cols", "x_stride", "y_stride", "eps", "q_max"],
                reduces: true, libraries: SYMMETRIC
            ),
            Kernel::LayerNorm => row!(
                "layer_norm", [X, read("weight", "array<f32>"), read("bias", "array<f32>"), Y],
                &["m", "cols", "x_stride", "y_stride", "eps"],
                reduces: true
            ),
            Kernel::Rope => row!(
                "rope",
                [X, TOKENS, read("rotation", "array<vec2<f32>>"), Y],
                &["m", "heads", "half_dim", "x_stride", "x_offset", "y_stride"]
            ),
            Kernel::RopeWide => row!(
                "rope_wide",
                [X4, TOKENS, read("rotation", "array<vec4<f32>>"), Y4],
                &["m", "heads", "half_dim", "x_stride", "x_offset", "y_stride"],
                libraries: &[lib!("rotated")], pairs: &["x", "rotation", "y"]
            ),
            Kernel::KvWriteQuads => row!(
                "kv_write_quads",
                [X4, TOKENS, write("cache", "array<vec4<f32>>")],
                &["m", "width", "context", "x_stride", "x_offset"],
                quads: &["x", "cache"]
            ),
            Kernel::RopeQkvWide => row!(
                "rope_qkv_wide",
                [
                    X4, read("k", "array<vec4<f32>>"), read("v", "array<vec4<f32>>"), TOKENS,
                    read("rotation", "array<vec4<f32>>"), Y4,
                    write("k_cache", "array<vec4<f32>>"), write("v_cache", "array<vec4<f32>>")
                ],
                &[
                    "m", "heads", "kv_heads", "half_dim", "context",
                    "x_stride", "x_offset", "k_stride", "k_offset", "v_stride", "v_offset", "y_stride"
                ],
                libraries: &[lib!("rotated")], pairs: &["x", "k", "v", "rotation", "y", "k_cache", "v_cache"]
            ),
            Kernel::KvWrite => row!(
                "kv_write",
                [X, TOKENS, write("cache", "array<f32>")],
                &["m", "width", "head_dim", "context", "x_stride", "x_offset"]
            ),
            Kernel::AttentionScores => row!(
                "attention_scores",
                [X, TOKENS, read("k_cache", "array<f32>"), write("scores", "array<f32>")],
                CACHE,
                libraries: &[lib!("mask")]
            ),
            Kernel::Softmax => row!("softmax", [X, Y], ELEMENTWISE, reduces: true),
            Kernel::AttentionValues => row!(
                "attention_values",
                [read("scores", "array<f32>"), TOKENS, read("v_cache", "array<f32>"), Y],
                CACHE,
                libraries: &[lib!("mask")]
            ),
            Kernel::Attention => row!(
                "attention",
                [X, TOKENS, read("k_cache", "array<vec4<f32>>"), read("v_cache", "array<vec4<f32>>"), Y],
                CACHE,
                reduces: true, libraries: ATTEND
            ),
            Kernel::AttentionPart => row!(
                "attention_part",
                [
                    X, TOKENS, read("k_cache", "array<vec4<f32>>"), read("v_cache", "array<vec4<f32>>"),
                    write("partial", "array<vec4<f32>>")
                ],
                &[
                    "m", "heads", "kv_heads", "context", "window", "scale", "x_stride", "x_offset", "parts",
                    "partial_stride",
                ],
                reduces: true, libraries: ATTEND
            ),
            Kernel::AttentionJoin => row!(
                "attention_join",
                [read("partial", "array<vec4<f32>>"), Y],
                &["m", "heads", "parts", "partial_stride", "y_stride"]
            ),
            Kernel::AttentionDirect => row!(
                "attention_direct",
                [
                    read("x", "array<vec4<f32>>"),
                    TOKENS,
                    read("k_cache", "array<vec4<f32>>"),
                    read("v_cache", "array<vec4<f32>>"),
                    write("y", "array<vec4<f32>>")
                ],
                CACHE,
                direct: true, libraries: &[lib!("mask")], pairs: &["k_cache", "v_cache"],
                quads: &["x", "y"]
            ),
            Kernel::Activate => row!("activate", [X, Y], ELEMENTWISE, function: true),
            Kernel::Add => row!("add", [X, read("z", "array<f32>"), Y], TWO),
            Kernel::Mul => row!("mul", [X, read("z", "array<f32>"), Y], TWO),
            Kernel::MulQuads => row!("mul_quads", [X4, Z4, Y4], TWO, quads: &["x", "z", "y"]),
            Kernel::GateQuads => {
                row!(
                    "gate_quads", [X4, Y4], ELEMENTWISE,
                    function: true, libraries: &[lib!("activated_quads")], quads: &["x", "y"]
                )
            }
            Kernel::AddBias => row!("add_bias", [X, read("bias", "array<f32>"), Y], ELEMENTWISE),
            Kernel::GatherRows => {
                row!(
                    "gather_rows", [X4, read("outputs", "array<u32>"), Y4], ELEMENTWISE,
                    quads: &["x", "y"]
                )
            }
            Kernel::CrossEntropy => row!(
                "cross_entropy", [X, read("targets", "array<u32>"), Y], &["m", "cols", "x_stride"], reduces: true
            ),
            Kernel::Kl => {
                row!("kl", [X, read("z", "array<f32>"), Y], &["m", "cols", "x_stride", "z_stride"], reduces: true)
            }
            Kernel::Argmax => row!("argmax", [X, write("y", "array<u32>")], &["m", "cols", "x_stride"]),
            Kernel::CompareDirect => row!(
                "compare_direct",
                [
                    X4, Z4, read("targets", "array<u32>"), write("cross_entropy", "array<f32>"),
                    write("kl", "array<f32>"), write("best", "array<u32>")
                ],
                &["m", "cols", "x_stride", "z_stride"],
                direct: true, quads: &["x", "z"]
            ),
            Kernel::Tally => row!(
                "tally",
                [
                    read("cross_entropy", "array<f32>"), read("kl", "array<f32>"), read("best", "array<u32>"),
                    read("targets", "array<u32>"), read("other_best", "array<u32>"), Y
                ],
                &["m", "slot"],
                reduces: true
            ),
        }
    }
}

/// Bindings of a packed matrix.
pub(super) fn packed(codes_type: &'static str, access: Access, scales_type: &'static str) -> [Binding; 2] {
    [Binding { name: "codes", ty: codes_type, access }, read("scales", scales_type)]
}
