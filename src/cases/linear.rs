//! Linear layers: every format through every matrix kernel, in floating point and in integer codes, and as the
//! engine picks the kernel, fused and naive.

use super::data::{strided, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::matrix::{formats, matrix_params, packed, variant_name};
use super::{ONE_OP, Outcome, Table, Tolerance};
use crate::engine::{DeviceMatrix, MatMul};
use crate::error::Result;
use crate::format::{
    ActivationFormat, ActivationScope, Base11Layout, Format, Packed, QuantizedActivations, Scope,
    quantize_activations,
};
use crate::graph::Function;
use crate::reference;
use crate::shader::{Contract, Epilogue, FormatVariant, Kernel, Tile, Variant};

/// (rows of x, rows of W, columns): one to nine tokens around the switch from GEMV to GEMM, matrices smaller and
/// larger than a tile, K that is no multiple of a chunk or a group, and rows of whole vec4 words (512).
const SHAPES: [(usize, usize, usize); 16] = [
    (1, 37, 172),
    (1, 1021, 512),
    (8, 37, 172),
    (1, 5, 7),
    (1, 130, 300),
    (1, 7, 1100),
    (2, 7, 37),
    (3, 13, 172),
    (4, 11, 13),
    (5, 5, 45),
    (6, 3, 5),
    (7, 37, 77),
    (9, 70, 172),
    (37, 517, 512),
    (9, 5, 7),
    (65, 130, 172),
];

/// Whether `kernel` is made for products of `m` tokens.
fn serves(kernel: Kernel, m: usize) -> bool {
    match kernel {
        Kernel::Gemv | Kernel::GemvI8 => m <= 8,
        Kernel::GemmDirect | Kernel::GemmI8Direct => m >= 2,
        _ => m >= 9,
    }
}

/// The partition of `kernel` on this device.
fn tile(gpu: &Device, kernel: Kernel, m: usize, cols: usize) -> Tile {
    match kernel {
        Kernel::Gemv | Kernel::GemvI8 => Tile::gemv(gpu.class(), m, cols),
        Kernel::GemmDirect | Kernel::GemmI8Direct => Tile::direct(),
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
struct Product {
    kernel: Kernel,
    format: Format,
    m: usize,
    rows: usize,
    cols: usize,
    epilogue: Epilogue,
}

impl Product {
    fn shape(&self) -> String {
        let mut text = format!("{} [{}, {}] x {}", self.format, self.rows, self.cols, self.m);
        match self.epilogue {
            Epilogue::Store => {}
            Epilogue::Activation { bias, function } => {
                text += &format!(" {function:?}{}", if bias { " bias" } else { "" });
            }
            Epilogue::Residual { bias: true } => text += " residual bias",
            other => text += &format!(" {}", other.name()),
        }
        text
    }

    fn weights(&self) -> Result<Packed> {
        packed(self.format, self.rows, self.cols, 1.0)
    }

    fn x(&self) -> Vec<f32> {
        values(self.m * self.cols, 7 + self.m)
    }

    fn bias(&self) -> Option<Vec<f32>> {
        self.epilogue.has_bias().then(|| values(self.rows, 11))
    }

    fn residual(&self) -> Option<Vec<f32>> {
        matches!(self.epilogue, Epilogue::Residual { .. }).then(|| values(self.m * self.rows, 13))
    }

    /// The reference's end of the sums, which hold the bias already.
    fn end(&self, sums: Vec<f32>) -> Vec<f32> {
        match self.epilogue {
            Epilogue::Activation { function, .. } => reference::activate(function, &sums),
            Epilogue::Residual { .. } => self.residual().map_or(sums.clone(), |r| reference::add(&sums, &r)),
            Epilogue::Store | Epilogue::Bias | Epilogue::Accumulator => sums,
        }
    }

    /// Codes of x, one scale per token.
    fn quantized(&self, bits: u8) -> QuantizedActivations {
        let spans: Vec<_> = (0..self.m as u32).map(|row| (row, row + 1)).collect();
        let format = ActivationFormat { bits, scope: ActivationScope::Row };
        quantize_activations(&self.x(), self.cols, &spans, format)
    }

    /// Elements between rows of y.
    fn stride(&self) -> usize {
        self.rows + 3
    }

    /// Runs the kernel part by part: y, `stride` elements between its rows. Rows of x are padded with zeros to
    /// whole chunks, as the kernels want them, and stray values follow.
    fn dispatch(&self, gpu: &Device, w: &Packed, operand: Operand) -> Result<Vec<u32>> {
        let matrix = DeviceMatrix::upload(gpu, "case", w)?;
        let (stride, chunked) = (self.stride(), self.cols.next_multiple_of(32));
        let mut launch = Launch::new(gpu);
        let x_stride = match operand {
            Operand::Float(x) => {
                let padded: Vec<f32> =
                    strided(x, self.cols, chunked, 0).into_iter().map(f32::from_bits).collect();
                launch.input("x", &strided(&padded, chunked, chunked + 32, STRAY))?;
                chunked + 32
            }
            Operand::Codes(q) => {
                let mut codes = vec![0x55i8; self.m * (chunked + 32)];
                for (to, from) in codes.chunks_mut(chunked + 32).zip(q.codes.chunks(self.cols)) {
                    to[..chunked].fill(0);
                    to[..self.cols].copy_from_slice(from);
                }
                launch.input("x", &codes)?.input("x_scale", &q.scales)?;
                chunked / 4 + 8
            }
        };
        if let Some(bias) = self.bias() {
            launch.input("bias", &bias)?;
        }
        if let Some(residual) = self.residual() {
            launch.input("residual", &strided(&residual, self.rows, stride, STRAY))?;
        }
        launch.output("y", self.m * stride)?;
        let tile = tile(gpu, self.kernel, self.m, self.cols);
        let variant = Variant {
            format: Some(FormatVariant::new(self.format, self.cols)),
            epilogue: Some(self.epilogue),
            ..Variant::plain(self.kernel, tile)
        };
        for part in &matrix.parts {
            let rows = part.rows as u64;
            let groups = if matches!(self.kernel, Kernel::Gemv | Kernel::GemvI8) {
                rows.div_ceil(u64::from(tile.workgroup / tile.lanes * tile.thread_n))
            } else {
                (self.m as u64).div_ceil(tile.tile_m.into()) * rows.div_ceil(tile.tile_n.into())
            };
            let mut params = matrix_params(&matrix, part);
            params.extend([
                ("m", self.m as u32),
                ("x_stride", x_stride as u32),
                ("y_stride", stride as u32),
                ("y_offset", part.first_row as u32),
            ]);
            launch.dispatch(
                &variant,
                &[("codes", &part.codes), ("scales", &part.scales)],
                &params,
                groups,
            )?;
        }
        launch.single()
    }

    /// `got` against `want` `[m, rows]`; what lies between the rows must not have been stored.
    fn outcome(&self, got: Vec<u32>, want: &[f32]) -> Outcome {
        Outcome::floats(got, strided(want, self.rows, self.stride(), POISON), self.stride())
    }

    fn float(&self, gpu: &Device) -> Result<Outcome> {
        let w = self.weights()?;
        self.float_with(gpu, &w, &w)
    }

    /// The device multiplies by `w`, the reference by `truth`.
    fn float_with(&self, gpu: &Device, w: &Packed, truth: &Packed) -> Result<Outcome> {
        let x = self.x();
        let got = self.dispatch(gpu, w, Operand::Float(&x))?;
        let sums = reference::linear(&x, self.m, &truth.decode(), self.cols, self.bias().as_deref());
        Ok(self.outcome(got, &self.end(sums)))
    }

    fn integer(&self, gpu: &Device, bits: u8) -> Result<Outcome> {
        let (w, q) = (self.weights()?, self.quantized(bits));
        let got = self.dispatch(gpu, &w, Operand::Codes(&q))?;
        let sums = reference::linear_integer(&q, &w, self.bias().as_deref())?;
        Ok(self.outcome(got, &self.end(sums)))
    }

    /// The i32 sums themselves, where one runs over all of K.
    fn accumulators(&self, gpu: &Device, w: &Packed, q: &QuantizedActivations) -> Result<Outcome> {
        let got = self.dispatch(gpu, w, Operand::Codes(q))?;
        let mut want = vec![POISON; got.len()];
        let sums = reference::integer_accumulators(q, w)?;
        for (to, from) in want.chunks_mut(self.stride()).zip(sums.chunks(self.rows)) {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as u32);
        }
        Ok(Outcome::integers(got, want, self.stride()))
    }

    /// With every scale set to 1 the sums of a grouped format are integers too, and exact below 2^24.
    fn unit_scales(&self, gpu: &Device) -> Result<Outcome> {
        let (mut w, mut q) = (self.weights()?, self.quantized(8));
        let Some(one) = unit_scale(self.format) else { return self.integer(gpu, 8) };
        w.scales.fill(one);
        q.scales.fill(1.0);
        let got = self.dispatch(gpu, &w, Operand::Codes(&q))?;
        let want: Vec<f32> = reference::integer_accumulators(&q, &w)?.into_iter().map(|v| v as f32).collect();
        Ok(self.outcome(got, &want))
    }

    /// Through [`MatMul`]: the kernel and the grid that a plan would use.
    fn engine(&self, gpu: &Device, naive: bool) -> Result<Outcome> {
        let (w, x) = (self.weights()?, self.x());
        let matrix = DeviceMatrix::upload(gpu, "case", &w)?;
        let product = MatMul { matrix: &matrix, m: self.m, epilogue: self.epilogue, naive };
        if self.kernel.row().contract == Contract::Integer {
            let q = self.quantized(8);
            let got = product.run_integer(gpu, &q.codes, &q.scales, None, None)?;
            return Ok(Outcome::dense(&got, &reference::linear_integer(&q, &w, None)?, self.rows));
        }
        let got = product.run(gpu, &x, None, None)?;
        Ok(Outcome::dense(&got, &reference::linear(&x, self.m, &w.decode(), self.cols, None), self.rows))
    }
}

/// A word of scales that all are 1.
fn unit_scale(format: Format) -> Option<u32> {
    match format {
        Format::Int { scope: Scope::Group(_), .. } | Format::Base11 { layout: Base11Layout::Two7, .. } => {
            Some(0x3c00_3c00)
        }
        // E8M0 bytes; an element of MXINT has bits - 2 fraction bits.
        Format::MxInt { bits } => Some(0x0101_0101 * (127 + u32::from(bits) - 2)),
        Format::MxIntCuda { .. } => Some(0x0101_0101 * (127 + 6)),
        _ => None,
    }
}

fn epilogues() -> Vec<Epilogue> {
    let mut all = vec![Epilogue::Bias];
    for bias in [false, true] {
        all.push(Epilogue::Residual { bias });
        let functions = [Function::Relu, Function::Silu, Function::Gelu, Function::GeluTanh];
        all.extend(functions.map(|function| Epilogue::Activation { bias, function }));
    }
    all
}

/// Calls `each` with every product of the kernel under test. What is orthogonal in the code is so here, because a
/// software driver takes a second to compile a variant: every format meets every kernel, but further partitions,
/// rows of whole vec4 words in GEMM and stored integer sums are left to formats that stand for the others.
fn products(table: &mut Table, mut each: impl FnMut(&mut Table, Product)) {
    let kernel = table.kernel;
    for (m, rows, cols) in SHAPES {
        if !serves(kernel, m) {
            continue;
        }
        for format in formats(rows, cols) {
            let another_partition = (2..=4).contains(&m) && serves(kernel, 1);
            let skip = match format {
                Format::F32 | Format::Int { bits: 4, .. } => false,
                // All other odd groups run the same code.
                Format::Base11 { group: 1 | 5, .. } => true,
                Format::MxIntCuda { .. } => another_partition,
                _ => another_partition || cols == 512 && !stands_for_others(format),
            };
            if skip {
                continue;
            }
            let integer = kernel.row().contract == Contract::Integer;
            if integer && !FormatVariant::new(format, cols).has_chunk_codes() {
                continue;
            }
            each(table, Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store });
            if cols == 512 && stands_for_others(format) {
                table.cover();
            }
        }
    }
}

fn stands_for_others(format: Format) -> bool {
    match format {
        Format::F32 | Format::F16 | Format::Int { bits: 4, .. } | Format::MxInt { bits: 6 } => true,
        Format::Base11 { group, .. } => group == 128,
        _ => false,
    }
}

fn with_epilogues(table: &mut Table, mut each: impl FnMut(&mut Table, Product)) {
    let kernel = table.kernel;
    let integer = kernel.row().contract == Contract::Integer;
    let formats =
        [Format::Int { bits: 4, scope: Scope::Group(32) }, Format::Int { bits: 8, scope: Scope::Row }];
    let gemv = serves(kernel, 1);
    let (m, rows, cols) = if gemv { (1, 37, 172) } else { (9, 70, 45) };
    for (i, format) in formats.into_iter().enumerate() {
        for epilogue in epilogues() {
            // A row scale ends its sums in its own function; that calls the same epilogue.
            let simple = matches!(epilogue, Epilogue::Bias | Epilogue::Residual { bias: true });
            let typical = Epilogue::Activation { bias: true, function: Function::Gelu };
            if (i == 0 && (gemv || simple || epilogue == typical)) || (integer && simple) {
                each(table, Product { kernel, format, m, rows, cols, epilogue });
            }
        }
    }
}

/// What a plan would run at every shape, for formats that stand for the others.
fn picked_by_engine(table: &mut Table, naive: bool) {
    let kernel = table.kernel;
    if !serves(kernel, 1) {
        return;
    }
    let formats = [Format::Int { bits: 4, scope: Scope::Group(32) }, Format::F16];
    for (m, rows, cols) in SHAPES {
        for format in formats {
            if kernel == Kernel::GemvI8 && !format.has_integer_codes() {
                continue;
            }
            let product = Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store };
            let name = if naive { "naive, as the engine picks" } else { "as the engine picks" };
            let run = move |gpu: &Device| product.engine(gpu, naive);
            table.add(name, product.shape(), Tolerance::Nmse(ONE_OP), run);
        }
    }
}

/// The groups of one row overflow f16 and decode to NaN, as upstream; the other rows must not notice.
fn overflowing_row(table: &mut Table) {
    let (kernel, m) = (table.kernel, if serves(table.kernel, 1) { 1 } else { 9 });
    for group in [128, 13] {
        let format = Format::Base11 { layout: Base11Layout::Nine32, group };
        let product = Product { kernel, format, m, rows: 7, cols: 37, epilogue: Epilogue::Store };
        let shape = format!("{}, one row overflows", product.shape());
        table.add(variant_name(format, 37), shape, Tolerance::Nmse(ONE_OP), move |gpu| {
            let mut w = values(7 * 37, 3);
            w[3 * 37..4 * 37].iter_mut().for_each(|v| *v *= 1e6);
            let w = format.encode(&w, 7, 37)?;
            product.float_with(gpu, &w, &w)
        });
    }
}

/// `m` rows through GEMV or tiled GEMM by one given matrix, see [`super::of_matrix`].
pub(super) fn of_matrix(table: &mut Table, m: usize, device: &Packed, truth: &Packed) {
    let (format, rows, cols) = (device.format, device.rows, device.cols);
    let product = Product { kernel: table.kernel, format, m, rows, cols, epilogue: Epilogue::Store };
    let (device, truth) = (device.clone(), truth.clone());
    table.add(variant_name(format, cols), product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| {
        product.float_with(gpu, &device, &truth)
    });
}

pub(super) fn float(table: &mut Table) {
    products(table, |table, product| {
        let variant = variant_name(product.format, product.cols);
        let run = move |gpu: &Device| product.float(gpu);
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), run);
    });
    overflowing_row(table);
    with_epilogues(table, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| product.float(gpu));
    });
    picked_by_engine(table, false);
    picked_by_engine(table, true);
}

pub(super) fn integer(table: &mut Table) {
    products(table, |table, product| {
        let variant = variant_name(product.format, product.cols);
        let row_scale = FormatVariant::new(product.format, product.cols).row_scale();
        if row_scale {
            let product = Product { epilogue: Epilogue::Accumulator, ..product };
            table.add(&variant, product.shape(), Tolerance::Exact, move |gpu| {
                product.accumulators(gpu, &product.weights()?, &product.quantized(8))
            });
        } else {
            let shape = format!("{}, unit scales", product.shape());
            table.add(&variant, shape, Tolerance::Exact, move |gpu| product.unit_scales(gpu));
        }
        if row_scale && !serves(product.kernel, 1) && !stands_for_others(product.format) {
            return;
        }
        let run = move |gpu: &Device| product.integer(gpu, 8);
        table.add(&variant, format!("{}, int8 x", product.shape()), Tolerance::Nmse(ONE_OP), run);
        if product.m == 1 {
            let run = move |gpu: &Device| product.integer(gpu, 4);
            table.add(&variant, format!("{}, int4 x", product.shape()), Tolerance::Nmse(ONE_OP), run);
        }
    });
    with_epilogues(table, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| product.integer(gpu, 8));
    });
    picked_by_engine(table, false);
    let (kernel, m) = (table.kernel, if serves(table.kernel, 1) { 1 } else { 9 });
    let format = Format::Int { bits: 8, scope: Scope::Tensor };
    let product = Product { kernel, format, m, rows: 3, cols: 5000, epilogue: Epilogue::Accumulator };
    table.add("int8", format!("{} largest codes", product.shape()), Tolerance::Exact, move |gpu| {
        let signs: Vec<f32> = (0..3 * 5000).map(|i| if i / 5000 == 1 { -1.0 } else { 1.0 }).collect();
        let q = QuantizedActivations { codes: vec![127; m * 5000], scales: vec![1.0; m] };
        product.accumulators(gpu, &format.encode(&signs, 3, 5000)?, &q)
    });
}
