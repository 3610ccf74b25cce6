//! One product `epilogue(x W^T)` on the device, by a kernel given by name or as the engine picks it, and the truth.

use super::Outcome;
use super::data::{strided, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::matrix::packed;
use crate::engine::{DeviceMatrix, MatMul};
use crate::error::{Error, Result, invalid};
use crate::format::{
    ActivationFormat, ActivationScope, Codes, Format, Packed, QuantizedActivations, Scale,
    quantize_activations,
};
use crate::graph::Function;
use crate::reference;
use crate::shader::{Contract, Epilogue, Kernel, Tile, Variant};

/// Whether `kernel` is made for products of `m` tokens.
pub(super) fn serves(kernel: Kernel, m: usize) -> bool {
    match kernel {
        Kernel::Gemv | Kernel::GemvI8 => m <= 8,
        Kernel::GemvDirect => m == 1,
        _ if kernel.row().direct => m >= 2,
        _ => m >= 9,
    }
}

/// The partition of `kernel` on this device.
/// Sums that are scaled by chunks run in either register tile, as plans and as a search over tiles choose.
fn tile(gpu: &Device, kernel: Kernel, (m, cols): (usize, usize), by_chunks: bool) -> Tile {
    match kernel {
        Kernel::Gemv | Kernel::GemvI8 => Tile::gemv(gpu.class(), m, cols),
        Kernel::GemvDirect => Tile::gemv_direct(cols),
        Kernel::GemmPairedDirect | Kernel::GemmPlanesDirect => Tile::narrow(),
        _ if kernel.row().direct => Tile::direct(m, by_chunks && m % 2 == 1),
        _ => Tile::gemm(),
    }
}

/// The left operand.
enum Operand<'a> {
    Float(&'a [f32]),
    Codes(&'a QuantizedActivations),
}

/// One product.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) kernel: Kernel,
    pub(super) format: Format,
    pub(super) m: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) epilogue: Epilogue,
}

impl Product {
    /// Columns of y.
    fn width(&self) -> usize {
        if matches!(self.epilogue, Epilogue::Gated { .. }) { self.rows / 2 } else { self.rows }
    }

    pub(super) fn shape(&self) -> String {
        let mut text = format!("{} [{}, {}] x {}", self.format, self.rows, self.cols, self.m);
        match self.epilogue {
            Epilogue::Store => {}
            Epilogue::Gated { bias, function } => {
                text += &format!(" gated by {function:?}{}", if bias { " bias" } else { "" });
            }
            Epilogue::Activation { bias, function } => {
                text += &format!(" {function:?}{}", if bias { " bias" } else { "" });
            }
            other if other.has_residual() && other.has_bias() => text += &format!(" {} bias", other.name()),
            other => text += &format!(" {}", other.name()),
        }
        text
    }

    pub(super) fn weights(&self) -> Result<Packed> {
        packed(self.format, self.rows, self.cols, 1.0)
    }

    fn x(&self) -> Vec<f32> {
        values(self.m * self.cols, 7 + self.m)
    }

    fn bias(&self) -> Option<Vec<f32>> {
        self.epilogue.has_bias().then(|| values(self.rows, 11))
    }

    fn residual(&self) -> Option<Vec<f32>> {
        self.epilogue.has_residual().then(|| values(self.m * self.rows, 13))
    }

    /// The reference's end of the sums, which hold the bias already.
    fn end(&self, sums: Vec<f32>) -> Vec<f32> {
        match self.epilogue {
            Epilogue::Activation { function, .. } => reference::activate(function, &sums),
            Epilogue::Residual { .. } => self.residual().map_or(sums.clone(), |r| reference::add(&sums, &r)),
            Epilogue::Product { .. } => self.residual().map_or(sums.clone(), |r| reference::mul(&sums, &r)),
            Epilogue::Gated { function, .. } => {
                let half = self.rows / 2;
                let of_row =
                    |row: &[f32]| reference::mul(&reference::activate(function, &row[..half]), &row[half..]);
                sums.chunks(self.rows).flat_map(of_row).collect()
            }
            Epilogue::Store | Epilogue::Bias | Epilogue::Any { .. } | Epilogue::Accumulator => sums,
        }
    }

    /// Codes of x, every token a sequence of its own.
    pub(super) fn quantized(&self, format: ActivationFormat) -> Result<QuantizedActivations> {
        let spans: Vec<_> = (0..self.m as u32).map(|row| (row, row + 1)).collect();
        let q = quantize_activations(&self.x(), self.cols, &spans, format);
        q.ok_or_else(|| Error::invalid(format!("{format} has no integer codes at K = {}", self.cols)))
    }

    /// Elements between rows of y.
    fn stride(&self) -> usize {
        self.width() + if self.width().is_multiple_of(4) { 4 } else { 3 }
    }

    /// Runs the kernel part by part: y, `stride` elements between its rows. Rows of x are padded with zeros to
    /// whole chunks, as the kernels want them, and stray values follow.
    fn dispatch(&self, gpu: &Device, w: &Packed, operand: Operand) -> Result<Vec<u32>> {
        let got = self.dispatch_with(gpu, w, &operand, self.epilogue, 0)?;
        // The pipeline that leaves the end open must give the same bits.
        let function = self.epilogue.function().unwrap_or(Function::Silu);
        let opens = matches!(self.kernel, Kernel::Gemv | Kernel::GemvI8) || self.kernel.row().direct;
        let ending = self.epilogue.ending(function).filter(|_| opens && self.epilogue != Epilogue::Store);
        if let Some(ending) = ending {
            let any = Epilogue::Any { bias: self.epilogue.has_bias(), function };
            if self.dispatch_with(gpu, w, &operand, any, ending)? != got {
                invalid!("{} ends otherwise in the pipeline for any end", self.shape());
            }
        }
        Ok(got)
    }

    fn dispatch_with(
        &self,
        gpu: &Device,
        w: &Packed,
        operand: &Operand,
        epilogue: Epilogue,
        ending: u32,
    ) -> Result<Vec<u32>> {
        let matrix = DeviceMatrix::upload(gpu, "case", w)?;
        let (stride, chunked) = (self.stride(), self.cols.next_multiple_of(32));
        let mut launch = Launch::new(gpu);
        let (mut per_chunk, mut texels) = (false, false);
        let x_stride = match operand {
            Operand::Float(x) => {
                let padded: Vec<f32> =
                    strided(x, self.cols, chunked, 0).into_iter().map(f32::from_bits).collect();
                launch.input("x", &strided(&padded, chunked, chunked + 32, STRAY))?;
                chunked + 32
            }
            Operand::Codes(q) => {
                per_chunk = q.group < self.cols;
                let bits = self.kernel.x_bits();
                let (words, filled) = fields(&q.codes, self.cols, bits);
                let stride = filled + 8;
                let mut codes = vec![0x5555_5555u32; self.m * stride];
                for (to, from) in codes.chunks_mut(stride).zip(words.chunks(filled)) {
                    to[..filled].copy_from_slice(from);
                }
                texels = launch.input_codes("x", self.kernel, &codes)?;
                launch.input("x_scale", &chunk_scales(q, self.cols))?;
                stride
            }
        };
        if let Some(bias) = self.bias() {
            launch.input("bias", &bias)?;
        }
        if let Some(residual) = self.residual() {
            launch.input("residual", &strided(&residual, self.rows, stride, STRAY))?;
        }
        launch.output("y", self.m * stride)?;
        let integer = self.kernel.row().contract == Contract::Integer;
        let by_chunks = integer && (per_chunk || !matrix.variant.row_scale());
        let mut tile = tile(gpu, self.kernel, (self.m, self.cols), by_chunks);
        if matches!(epilogue, Epilogue::Gated { .. }) {
            tile = tile.gated();
        }
        let mut variant = Variant {
            format: Some(matrix.variant),
            epilogue: Some(epilogue),
            quads: self.kernel.row().direct && self.width().is_multiple_of(4) && stride.is_multiple_of(4),
            ..Variant::plain(self.kernel, tile)
        };
        if integer {
            variant = variant.constant("X_PER_CHUNK", per_chunk.into());
            variant.texels = texels;
        }
        for part in &matrix.parts {
            let rows = part.rows as u64;
            let groups = if tile.tile_n == 1 {
                rows.div_ceil(u64::from(tile.workgroup / tile.lanes * tile.thread_n))
            } else {
                (self.m as u64).div_ceil(tile.tile_m.into()) * rows.div_ceil(tile.tile_n.into())
            };
            let mut params = matrix.params(part);
            params.extend([
                ("m", self.m as u32),
                ("x_stride", x_stride as u32),
                ("y_stride", stride as u32),
                ("y_offset", part.first_row as u32),
                ("ending", ending),
            ]);
            launch.dispatch(
                &variant,
                &[("codes", &part.codes), ("scales", &part.scales), ("residual", &part.scales)],
                &params,
                groups,
            )?;
        }
        launch.single()
    }

    /// `got` against `want` `[m, width]`; what lies between the rows must not have been stored.
    fn outcome(&self, got: Vec<u32>, want: &[f32]) -> Outcome {
        Outcome::floats(got, strided(want, self.width(), self.stride(), POISON), self.stride())
    }

    pub(super) fn float(&self, gpu: &Device) -> Result<Outcome> {
        let w = self.weights()?;
        self.float_with(gpu, &w, &w)
    }

    /// The device multiplies by `w`, the reference by `truth`.
    pub(super) fn float_with(&self, gpu: &Device, w: &Packed, truth: &Packed) -> Result<Outcome> {
        let x = self.x();
        let got = self.dispatch(gpu, w, Operand::Float(&x))?;
        let sums = reference::linear(&x, self.m, &truth.decode(), self.cols, self.bias().as_deref());
        Ok(self.outcome(got, &self.end(sums)))
    }

    /// x and W of whole numbers up to 4, of which every sum of a chunk is exact in f16.
    pub(super) fn whole_numbers(&self, gpu: &Device) -> Result<Outcome> {
        let number = |i: usize| ((i * 2_654_435_761) >> 7) % 9;
        let x: Vec<f32> = (0..self.m * self.cols).map(|i| number(i) as f32 - 4.0).collect();
        // The largest code of a scale that becomes 1.
        let most = if self.format == Format::F32 { 4.0 } else { 127.0 };
        let mut w: Vec<f32> = (0..self.rows * self.cols).map(|i| number(i + 5) as f32 - 4.0).collect();
        w[0] = most;
        let w = self.format.encode(&w, self.rows, self.cols)?;
        let got = self.dispatch(gpu, &w, Operand::Float(&x))?;
        Ok(self.outcome(got, &reference::linear(&x, self.m, &w.decode(), self.cols, None)))
    }

    pub(super) fn integer(&self, gpu: &Device, format: ActivationFormat) -> Result<Outcome> {
        let (w, q) = (self.weights()?, self.quantized(format)?);
        let got = self.dispatch(gpu, &w, Operand::Codes(&q))?;
        let sums = reference::linear_integer(&q, &w, self.bias().as_deref())?;
        Ok(self.outcome(got, &self.end(sums)))
    }

    /// The i32 sums themselves, where one runs over all of K.
    pub(super) fn accumulators(&self, gpu: &Device, w: &Packed, q: &QuantizedActivations) -> Result<Outcome> {
        let got = self.dispatch(gpu, w, Operand::Codes(q))?;
        let mut want = vec![POISON; got.len()];
        let sums = reference::integer_accumulators(q, w)?;
        for (to, from) in want.chunks_mut(self.stride()).zip(sums.chunks(self.rows)) {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as u32);
        }
        Ok(Outcome::integers(got, want, self.stride()))
    }

    /// With every scale set to 1 the sums of a grouped format are integers too, and exact below 2^24.
    pub(super) fn unit_scales(&self, gpu: &Device, format: ActivationFormat) -> Result<Outcome> {
        let (mut w, mut q) = (self.weights()?, self.quantized(format)?);
        let Some(scales) = unit_scales(&w) else { return self.integer(gpu, format) };
        w.scales = scales;
        q.scales.fill(1.0);
        let got = self.dispatch(gpu, &w, Operand::Codes(&q))?;
        let want: Vec<f32> = reference::integer_accumulators(&q, &w)?.into_iter().map(|v| v as f32).collect();
        Ok(self.outcome(got, &want))
    }

    /// Through [`MatMul`]: the kernel and the grid that a plan would use. `format` is that of x in integer kernels.
    pub(super) fn engine(&self, gpu: &Device, naive: bool, format: ActivationFormat) -> Result<Outcome> {
        let (w, x) = (self.weights()?, self.x());
        let matrix = DeviceMatrix::upload(gpu, "case", &w)?;
        let product = MatMul { matrix: &matrix, m: self.m, epilogue: self.epilogue, naive };
        if self.kernel.row().contract == Contract::Integer {
            let q = self.quantized(format)?;
            let scales = chunk_scales(&q, self.cols);
            let got = product.run_integer(gpu, &q.codes, &scales, None, None)?;
            return Ok(Outcome::dense(&got, &reference::linear_integer(&q, &w, None)?, self.rows));
        }
        let got = product.run(gpu, &x, None, None)?;
        Ok(Outcome::dense(&got, &reference::linear(&x, self.m, &w.decode(), self.cols, None), self.rows))
    }
}

/// Rows of codes as fields of `bits` bits, and the words of a row: whole chunks, narrow ones whole vec4.
fn fields(codes: &[i8], cols: usize, bits: u8) -> (Vec<u32>, usize) {
    let in_word = 32 / usize::from(bits);
    let words = cols.next_multiple_of(if bits == 8 { 32 } else { 4 * in_word }) / in_word;
    let word = |row: &[i8], word: usize| {
        let of = |i: usize| row.get(word * in_word + i).map_or(0, |&code| code as u32 & ((1 << bits) - 1));
        (0..in_word).fold(0, |all, i| all | of(i) << (i * usize::from(bits)))
    };
    (codes.chunks(cols).flat_map(|row| (0..words).map(move |i| word(row, i))).collect(), words)
}

/// Integers of `bits` with a scale per token.
pub(super) fn int(bits: u8) -> ActivationFormat {
    ActivationFormat::Int { bits, scope: ActivationScope::Row }
}

/// Scales as the kernels read them: per token, or per token and chunk.
pub(super) fn chunk_scales(q: &QuantizedActivations, cols: usize) -> Vec<f32> {
    if q.group >= cols {
        return q.scales.clone();
    }
    let of_row = |scales: &[f32]| (0..cols.div_ceil(32)).map(|chunk| scales[chunk * 32 / q.group]).collect();
    q.scales.chunks(cols.div_ceil(q.group)).flat_map(|scales| -> Vec<f32> { of_row(scales) }).collect()
}

/// Scales that all are 1, where a word of scales is nothing else or a zero point.
fn unit_scales(w: &Packed) -> Option<Vec<u32>> {
    let scheme = w.format.scheme(w.rows, w.cols).ok()?;
    let all = |one: u32| Some(vec![one; w.scales.len()]);
    match scheme.scale {
        Scale::F32 => all(1.0f32.to_bits()),
        Scale::F16 if scheme.codes != Codes::Sign => all(0x3c00_3c00),
        Scale::F16Zero => Some(w.scales.iter().map(|word| word & 0xffff_0000 | 0x3c00).collect()),
        Scale::Exponent { offset, fraction } => {
            u8::try_from(offset + fraction).ok().and_then(|byte| all(0x0101_0101 * u32::from(byte)))
        }
        _ => None,
    }
}
