//! One linear layer as dispatches: GEMV or GEMM, fused or naive, float or integer.

use std::sync::Arc;

use super::resident::{DeviceMatrix, Part};
use crate::error::{Result, invalid};
use crate::gpu::{Binder, Buffer, Gpu, Pipeline};
use crate::graph::Function;
use crate::shader::{
    Choice, DeviceClass, Epilogue, FormatVariant, GEMV_ROWS, Kernel, Method, Product, Tile, Variant,
};

/// Longest dot product of two i8 vectors that cannot overflow an i32 sum.
const MAX_INTEGER_K: usize = (i32::MAX / (128 * 128)) as usize;

/// Rows of x from which a pipeline for each epilogue pays for its compilation on software drivers.
const OWN_EPILOGUE: usize = 256;

/// The left operand.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// f32 `[m, stride]`, padded with zeros to whole chunks.
    Float { x: &'a Buffer, stride: usize },
    /// Words `[m, stride]` of codes in fields of `bits` bits, and one scale per row, or per row and chunk.
    Codes { x: &'a Buffer, scales: &'a Buffer, stride: usize, per_chunk: bool, bits: u8 },
}

/// Where the result goes and what is added to it.
pub(super) struct Target<'a> {
    pub(super) y: &'a Buffer,
    pub(super) stride: usize,
    pub(super) epilogue: Epilogue,
    pub(super) bias: Option<&'a Buffer>,
    pub(super) residual: Option<&'a Buffer>,
    /// One pipeline for all epilogues of few rows, of a model with this function: for drivers that compile long.
    pub(super) shared: Option<Function>,
}

/// Whether `matrix` can run on integer kernels.
pub(super) fn integer_capable(matrix: &DeviceMatrix) -> bool {
    matrix.variant.has_chunk_codes() && matrix.cols <= MAX_INTEGER_K
}

/// Bits of the fields in which `matrix` wants codes of x of `bits` bits and one scale per row. Fields of less than 8 bits are
/// for software drivers, where a product costs what its operands do; a GPU multiplies bytes as fast as it loads them.
pub(super) fn field_bits(matrix: &DeviceMatrix, bits: u8) -> u8 {
    let fits = |field: &u8| bits <= *field && matrix.variant.takes_codes_of(*field);
    [2, 4].into_iter().find(fits).unwrap_or(8)
}

/// Whether products of `m` rows of codes of x in fields of `bits` bits, which have a scale per row, read them as texels.
pub(super) fn reads_texels(gpu: &Gpu, matrix: &DeviceMatrix, bits: u8, m: usize) -> bool {
    let direct = |part: &Part| {
        let choice = choice(gpu, matrix.variant, m, part.rows, matrix.cols, Some((bits, false)));
        choice.method == Method::Direct
    };
    let bytes = m * matrix.cols.next_multiple_of(128);
    gpu.keeps_texels() && bytes as u64 <= Gpu::MAX_TEXELS && matrix.parts.iter().all(direct)
}

/// Appends the naive pass: `scratch[rows, cols rounded up to 32] = W` of one part.
pub(super) fn dequantize(
    gpu: &Gpu,
    binder: &mut Binder,
    matrix: &DeviceMatrix,
    part: &Part,
    scratch: &Buffer,
) -> Result<()> {
    let stride = matrix.cols.next_multiple_of(32);
    let tile = Tile::elementwise();
    let variant = Variant { format: Some(matrix.variant), ..Variant::plain(Kernel::Dequantize, tile) };
    let mut params = matrix.params(part);
    params.push(("y_stride", stride as u32));
    let chunks = (part.rows * stride / 32) as u64;
    binder.dispatch(
        gpu.pipeline(&variant)?,
        &[("y", scratch), ("codes", &part.codes), ("scales", &part.scales)],
        &params,
        chunks.div_ceil(u64::from(tile.workgroup)),
    )
}

/// Appends `y = epilogue(x W^T)` for `m` rows of x, part by part.
pub(super) fn multiply(
    gpu: &Gpu,
    binder: &mut Binder,
    matrix: &DeviceMatrix,
    m: usize,
    operand: Operand,
    target: &Target,
    scratch: Option<&Buffer>,
) -> Result<()> {
    for part in &matrix.parts {
        let (format, mut params, codes) = match scratch {
            Some(scratch) => {
                dequantize(gpu, binder, matrix, part, scratch)?;
                let stride = matrix.cols.next_multiple_of(32);
                (FormatVariant::dense(), matrix.dense_params(part, stride), scratch)
            }
            None => (matrix.variant, matrix.params(part), &part.codes),
        };
        let codes_of_x = match operand {
            Operand::Float { .. } => None,
            Operand::Codes { bits, per_chunk, .. } => Some((bits, per_chunk)),
        };
        let mut choice = choice(gpu, format, m, part.rows, matrix.cols, codes_of_x);
        if matches!(target.epilogue, Epilogue::Gated { .. }) {
            choice.tile = choice.tile.gated();
        }
        let quads = [part.rows, part.first_row, target.stride].iter().all(|n| n.is_multiple_of(4));
        let leaves_open = match choice.method {
            Method::Gemv => true,
            Method::Direct => m < OWN_EPILOGUE,
            Method::Tiled => false,
        };
        let shared = target.shared.filter(|_| leaves_open);
        let ending = shared.and_then(|function| Some((function, target.epilogue.ending(function)?)));
        let epilogue = match ending {
            Some((function, _)) => Epilogue::Any { bias: target.epilogue.has_bias(), function },
            None => target.epilogue,
        };
        let pipeline = pipeline(gpu, choice, format, operand, epilogue, quads)?;
        let tile = pipeline.tile;
        let groups = if tile.tile_n == 1 {
            (part.rows as u64).div_ceil(u64::from(tile.workgroup / tile.lanes * tile.thread_n))
        } else {
            (m as u64).div_ceil(tile.tile_m.into()) * (part.rows as u64).div_ceil(tile.tile_n.into())
        };
        let mut buffers = vec![("y", target.y), ("codes", codes), ("scales", &part.scales)];
        let x_stride = match operand {
            Operand::Float { x, stride } => {
                buffers.push(("x", x));
                stride
            }
            Operand::Codes { x, scales, stride, .. } => {
                buffers.extend([("x", x), ("x_scale", scales)]);
                stride
            }
        };
        buffers.extend(target.bias.map(|b| ("bias", b)));
        // What is bound where nothing is added is not read.
        buffers.push(("residual", target.residual.unwrap_or(&part.scales)));
        params.extend([
            ("m", m as u32),
            ("x_stride", x_stride as u32),
            ("y_stride", target.stride as u32),
            ("y_offset", part.first_row as u32),
            ("ending", ending.map_or(0, |(_, ending)| ending)),
        ]);
        binder.dispatch(pipeline, &buffers, &params, groups)?;
    }
    Ok(())
}

/// Whether the gate and up of an MLP, the rows of `matrix`, are multiplied and joined by one dispatch
/// ([`Epilogue::Gated`]) for `m` rows of x. `codes`: as for [`choice`].
pub(super) fn joins_gate(gpu: &Gpu, matrix: &DeviceMatrix, m: usize, codes: Option<(u8, bool)>) -> bool {
    let [part] = &matrix.parts[..] else { return false };
    let choice = choice(gpu, matrix.variant, m, part.rows, matrix.cols, codes);
    choice.tile.tile_n == 1
}

/// How the product of `m` rows of x is partitioned: as was measured on this device, or by default. `codes`: bits of the
/// fields of integer codes of x, and whether those have a scale per chunk.
fn choice(
    gpu: &Gpu,
    format: FormatVariant,
    m: usize,
    n: usize,
    k: usize,
    codes: Option<(u8, bool)>,
) -> Choice {
    let (integer, narrow) = (codes.is_some(), codes.is_some_and(|(bits, _)| bits < 8));
    let half = gpu.half() && !integer && m > GEMV_ROWS;
    // Only one kernel reads narrow fields.
    let tuned = (!narrow).then(|| gpu.tuned(&Product::new(format.name(), integer, m, n, k))).flatten();
    let runs = |choice: &Choice| {
        let fits = match choice.method {
            Method::Gemv => !half,
            Method::Tiled => true,
            Method::Direct => gpu.direct() && !half,
        };
        fits && choice.serves(m, integer)
    };
    let by_chunks = codes.is_some_and(|(_, per_chunk)| per_chunk || !format.row_scale());
    tuned.filter(runs).unwrap_or_else(|| {
        let choice = Choice::default_for(gpu.class(), gpu.direct(), m, k, integer);
        match choice.method {
            _ if half => Choice { method: Method::Tiled, tile: Tile::gemm() },
            Method::Direct if integer && by_chunks => Choice { tile: Tile::direct(m, true), ..choice },
            _ => choice,
        }
    })
}

/// Whether rows are reduced by an invocation each: where workgroups are slow, rows are many and consist of pairs of vec4.
pub(super) fn row_per_invocation(gpu: &Gpu, kernel: Kernel, params: &[(&str, u32)], rows: usize) -> bool {
    let unit = |name: &str| match name {
        "cols" | "x_stride" | "z_stride" => 8,
        "y_stride" if kernel.row().pairs.contains(&"y") => 8,
        "y_stride" => 4,
        _ => 1,
    };
    rows >= 2 * Tile::rows().tile_m as usize
        && params.iter().all(|(name, value)| value.is_multiple_of(unit(name)))
        && gpu.class() == DeviceClass::Cpu
        && gpu.direct()
}

/// How rows are reduced: a workgroup for each, or an invocation.
pub(super) fn row_variant(gpu: &Gpu, kernel: Kernel, params: &[(&str, u32)], rows: usize) -> Variant {
    let direct = match kernel {
        Kernel::Absmax => Some(Kernel::AbsmaxDirect),
        Kernel::Quantize => Some(Kernel::QuantizeDirect),
        Kernel::RmsNorm => Some(Kernel::RmsNormDirect),
        _ => None,
    };
    match direct.filter(|&direct| row_per_invocation(gpu, direct, params, rows)) {
        Some(direct) => Variant::plain(direct, Tile::rows()),
        None => Variant::plain(kernel, Tile::reduction(gpu.class())),
    }
}

fn pipeline(
    gpu: &Gpu,
    choice: Choice,
    format: FormatVariant,
    operand: Operand,
    epilogue: Epilogue,
    quads: bool,
) -> Result<Arc<Pipeline>> {
    let (kernel, tile) = match (choice.method, operand) {
        (Method::Tiled, Operand::Float { .. }) if gpu.half() => (Kernel::GemmF16, choice.tile),
        (Method::Direct, Operand::Codes { bits: 4, .. }) => (Kernel::GemmPairedDirect, Tile::narrow()),
        (Method::Direct, Operand::Codes { bits: 2, .. }) => (Kernel::GemmPlanesDirect, Tile::narrow()),
        (_, operand) => (choice.kernel(matches!(operand, Operand::Codes { .. })), choice.tile),
    };
    let mut variant = Variant {
        format: Some(format),
        epilogue: Some(epilogue),
        quads: quads && kernel.row().direct,
        ..Variant::plain(kernel, tile)
    };
    if let Operand::Codes { x, per_chunk, .. } = operand {
        variant = variant.constant("X_PER_CHUNK", per_chunk.into());
        variant.texels = x.is_texels();
    }
    gpu.pipeline(&variant)
}

/// A single product `y = epilogue(x W^T)`, for verification and benchmarks: the same dispatches a plan uses.
pub struct MatMul<'a> {
    /// The packed operand.
    pub matrix: &'a DeviceMatrix,
    /// Rows of x.
    pub m: usize,
    /// How sums end.
    pub epilogue: Epilogue,
    /// Dequantizes to f32 first.
    pub naive: bool,
}

impl MatMul<'_> {
    fn scratch(&self, gpu: &Gpu) -> Result<Option<Buffer>> {
        let rows = self.matrix.parts.iter().map(|p| p.rows).max().unwrap_or(0);
        let bytes = (rows * self.matrix.cols.next_multiple_of(32) * 4) as u64;
        self.naive.then(|| gpu.buffer("dequantized weights", bytes)).transpose()
    }

    /// Runs it once on f32 `x` `[m, cols]`; returns `[m, rows]`. A residual operand and a bias are read where the
    /// epilogue names them.
    ///
    /// # Errors
    /// When a length does not fit or the device fails.
    pub fn run(
        &self,
        gpu: &Gpu,
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) -> Result<Vec<f32>> {
        let stride = self.matrix.cols.next_multiple_of(32);
        let padded = pad(x, self.m, self.matrix.cols, stride)?;
        let buffer = gpu.buffer("x", (padded.len() * 4) as u64)?;
        gpu.upload(&buffer, bytemuck::cast_slice(&padded))?;
        self.finish(gpu, Operand::Float { x: &buffer, stride }, bias, residual)
    }

    /// Runs it once on integer codes `[m, cols]` with one scale per row, or per row and chunk of 32.
    ///
    /// # Errors
    /// As [`MatMul::run`], when the format has no integer codes, and for any other number of scales.
    pub fn run_integer(
        &self,
        gpu: &Gpu,
        codes: &[i8],
        scales: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) -> Result<Vec<f32>> {
        if !integer_capable(self.matrix) {
            invalid!("{} at K = {} has no integer kernel", self.matrix.format, self.matrix.cols);
        }
        let chunks = self.matrix.cols.div_ceil(32);
        let per_chunk = scales.len() != self.m;
        if per_chunk && scales.len() != self.m * chunks {
            let (got, m) = (scales.len(), self.m);
            invalid!("{got} scales of x: want {m}, one per row, or {}, one per chunk of 32", m * chunks);
        }
        let stride = chunks * 32;
        let padded = pad(codes, self.m, self.matrix.cols, stride)?;
        let x = if !per_chunk && reads_texels(gpu, self.matrix, 8, self.m) {
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&padded);
            gpu.texels("x", &words, padded.len() as u64)?
        } else {
            let x = gpu.buffer("x", padded.len() as u64)?;
            gpu.upload(&x, bytemuck::cast_slice(&padded))?;
            x
        };
        let scale_buffer = gpu.buffer("x scales", (scales.len() * 4) as u64)?;
        gpu.upload(&scale_buffer, bytemuck::cast_slice(scales))?;
        let operand = Operand::Codes { x: &x, scales: &scale_buffer, stride: stride / 4, per_chunk, bits: 8 };
        self.finish(gpu, operand, bias, residual)
    }

    fn finish(
        &self,
        gpu: &Gpu,
        operand: Operand,
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) -> Result<Vec<f32>> {
        let rows = self.matrix.rows;
        let count = self.m * rows;
        // Guard words after the result: a stray store shows.
        let guard = [0xdead_beefu32; 16];
        let y = gpu.buffer("y", (count * 4 + size_of_val(&guard)) as u64)?;
        let mut poison = vec![0x7fc0_dead_u32; count];
        poison.extend(guard);
        gpu.upload(&y, bytemuck::cast_slice(&poison))?;
        let upload = |data: &[f32]| -> Result<Buffer> {
            let buffer = gpu.buffer("operand", size_of_val(data) as u64)?;
            gpu.upload(&buffer, bytemuck::cast_slice(data))?;
            Ok(buffer)
        };
        let bias = bias.map(upload).transpose()?;
        let residual = residual.map(upload).transpose()?;
        let scratch = self.scratch(gpu)?;
        let mut binder = Binder::default();
        let target = Target {
            y: &y,
            stride: rows,
            epilogue: self.epilogue,
            bias: bias.as_ref(),
            residual: residual.as_ref(),
            shared: None,
        };
        multiply(gpu, &mut binder, self.matrix, self.m, operand, &target, scratch.as_ref())?;
        gpu.run(&[&binder.finish(gpu)?])?;
        let mut words = gpu.read::<u32>(&y, count + guard.len())?;
        if words[count..] != guard {
            invalid!("{} wrote past the end of its result", self.matrix.format);
        }
        words.truncate(count);
        Ok(words.into_iter().map(f32::from_bits).collect())
    }
}

/// `[m, cols]` to `[m, stride]`, zero-filled.
fn pad<T: Copy + Default>(x: &[T], m: usize, cols: usize, stride: usize) -> Result<Vec<T>> {
    if x.len() != m * cols {
        invalid!("x has {} elements; {m} rows of {cols} are {}", x.len(), m * cols);
    }
    let mut padded = vec![T::default(); m * stride];
    for (to, from) in padded.chunks_mut(stride).zip(x.chunks(cols)) {
        to[..cols].copy_from_slice(from);
    }
    Ok(padded)
}
