//! Linear layers: every format through GEMV and GEMM, in floating point and in integer codes, fused and naive.

use super::compare::to_words;
use super::data::values;
use super::matrix::{formats, packed, variant_name};
use super::{ONE_OP, Outcome, Table, Tolerance};
use crate::engine::{DeviceMatrix, MatMul};
use crate::error::Result;
use crate::format::{
    ActivationFormat, ActivationScope, Base11Layout, Format, Packed, QuantizedActivations, Scope,
    quantize_activations,
};
use crate::gpu::Gpu;
use crate::graph::Function;
use crate::reference;
use crate::shader::{Epilogue, FormatVariant, Kernel};

/// (rows of x, rows of W, columns): one to nine tokens around the switch from GEMV to GEMM, matrices smaller and
/// larger than a tile, K that is no multiple of a chunk or a group.
const SHAPES: [(usize, usize, usize); 15] = [
    (1, 37, 172),
    (8, 37, 172),
    (1, 5, 7),
    (1, 130, 300),
    (1, 7, 1100),
    (2, 7, 37),
    (3, 13, 172),
    (4, 11, 13),
    (5, 5, 45),
    (6, 3, 5),
    (7, 37, 64),
    (9, 70, 172),
    (9, 5, 7),
    (12, 70, 64),
    (65, 130, 172),
];

/// The kernel that a product of `m` tokens runs on.
fn kernel(m: usize, integer: bool) -> Kernel {
    match (m <= 8, integer) {
        (true, false) => Kernel::Gemv,
        (false, false) => Kernel::Gemm,
        (true, true) => Kernel::GemvI8,
        (false, true) => Kernel::GemmI8,
    }
}

/// One product.
#[derive(Clone, Copy)]
struct Product {
    format: Format,
    m: usize,
    rows: usize,
    cols: usize,
    epilogue: Epilogue,
    naive: bool,
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
        if self.naive {
            text += " naive";
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

    fn float(&self, gpu: &Gpu) -> Result<Outcome> {
        let w = self.weights()?;
        let matrix = DeviceMatrix::upload(gpu, "case", &w)?;
        let (x, bias, residual) = (self.x(), self.bias(), self.residual());
        let product = MatMul { matrix: &matrix, m: self.m, epilogue: self.epilogue, naive: self.naive };
        let got = product.run(gpu, &x, bias.as_deref(), residual.as_deref())?;
        let sums = reference::linear(&x, self.m, &w.decode(), self.cols, bias.as_deref());
        Ok(Outcome::dense(&got, &self.end(sums), self.rows))
    }

    fn integer(&self, gpu: &Gpu, bits: u8) -> Result<Outcome> {
        let w = self.weights()?;
        let (q, bias, residual) = (self.quantized(bits), self.bias(), self.residual());
        let got = self.run_integer(gpu, &w, &q, bias.as_deref(), residual.as_deref())?;
        let sums = reference::linear_integer(&q, &w, bias.as_deref())?;
        Ok(Outcome::dense(&got, &self.end(sums), self.rows))
    }

    fn run_integer(
        &self,
        gpu: &Gpu,
        w: &Packed,
        q: &QuantizedActivations,
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) -> Result<Vec<f32>> {
        let matrix = DeviceMatrix::upload(gpu, "case", w)?;
        let product = MatMul { matrix: &matrix, m: self.m, epilogue: self.epilogue, naive: false };
        product.run_integer(gpu, &q.codes, &q.scales, bias, residual)
    }

    /// The i32 sums themselves, where one runs over all of K.
    fn accumulators(&self, gpu: &Gpu, w: &Packed, q: &QuantizedActivations) -> Result<Outcome> {
        let got = self.run_integer(gpu, w, q, None, None)?;
        let want = reference::integer_accumulators(q, w)?.into_iter().map(|v| v as u32).collect();
        Ok(Outcome::integers(to_words(&got), want, self.rows))
    }

    /// With every scale set to 1 the sums of a grouped format are integers too, and exact below 2^24.
    fn unit_scales(&self, gpu: &Gpu) -> Result<Outcome> {
        let mut w = self.weights()?;
        let Some(one) = unit_scale(self.format) else { return self.integer(gpu, 8) };
        w.scales.fill(one);
        let mut q = self.quantized(8);
        q.scales.fill(1.0);
        let got = self.run_integer(gpu, &w, &q, None, None)?;
        let want: Vec<f32> = reference::integer_accumulators(&q, &w)?.into_iter().map(|v| v as f32).collect();
        Ok(Outcome::dense(&got, &want, self.rows))
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

/// Calls `each` with every product of the kernel under test.
fn products(table: &mut Table, integer: bool, mut each: impl FnMut(&mut Table, Product)) {
    for (m, rows, cols) in SHAPES {
        if kernel(m, integer) != table.kernel {
            continue;
        }
        for format in formats(rows, cols) {
            // Partitions for two and for four tokens are the same code with another constant.
            if (2..=4).contains(&m) && !has_all_partitions(format) {
                continue;
            }
            each(table, Product { format, m, rows, cols, epilogue: Epilogue::Store, naive: false });
        }
    }
}

fn has_all_partitions(format: Format) -> bool {
    matches!(
        format,
        Format::F32 | Format::Int { bits: 4, .. } | Format::MxInt { bits: 6 } | Format::Base11 { .. }
    )
}

fn with_epilogues(table: &mut Table, integer: bool, mut each: impl FnMut(&mut Table, Product)) {
    let formats =
        [Format::Int { bits: 4, scope: Scope::Group(32) }, Format::Int { bits: 8, scope: Scope::Row }];
    for (m, rows, cols) in [(1, 37, 172), (9, 70, 45)] {
        if kernel(m, integer) != table.kernel {
            continue;
        }
        for (i, format) in formats.into_iter().enumerate() {
            for epilogue in epilogues() {
                // A row scale ends its sums in its own function; that calls the same epilogue.
                let simple = matches!(epilogue, Epilogue::Bias | Epilogue::Residual { bias: true });
                if i == 0 || (integer && simple) {
                    each(table, Product { format, m, rows, cols, epilogue, naive: false });
                }
            }
        }
    }
}

pub(super) fn float(table: &mut Table) {
    products(table, false, |table, product| {
        let variant = variant_name(product.format, product.cols);
        let run = move |gpu: &Gpu| product.float(gpu);
        table.add(&variant, product.shape(), Tolerance::Nmse(ONE_OP), run);
        if matches!((product.m, product.cols), (1 | 65, 172)) {
            let naive = Product { naive: true, ..product };
            table.add(&variant, naive.shape(), Tolerance::Nmse(ONE_OP), move |gpu| naive.float(gpu));
        }
    });
    with_epilogues(table, false, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| product.float(gpu));
    });
}

pub(super) fn integer(table: &mut Table) {
    products(table, true, |table, product| {
        let device_format = FormatVariant::new(product.format, product.cols);
        if !device_format.has_chunk_codes() {
            return;
        }
        let variant = variant_name(product.format, product.cols);
        let run = move |gpu: &Gpu| product.integer(gpu, 8);
        table.add(&variant, format!("{}, int8 x", product.shape()), Tolerance::Nmse(ONE_OP), run);
        if product.m == 1 {
            let run = move |gpu: &Gpu| product.integer(gpu, 4);
            table.add(&variant, format!("{}, int4 x", product.shape()), Tolerance::Nmse(ONE_OP), run);
        }
        if device_format.row_scale() {
            let product = Product { epilogue: Epilogue::Accumulator, ..product };
            table.add(&variant, product.shape(), Tolerance::Exact, move |gpu| {
                product.accumulators(gpu, &product.weights()?, &product.quantized(8))
            });
        } else {
            let shape = format!("{}, unit scales", product.shape());
            table.add(&variant, shape, Tolerance::Exact, move |gpu| product.unit_scales(gpu));
        }
    });
    with_epilogues(table, true, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| product.integer(gpu, 8));
    });
    let m = if table.kernel == Kernel::GemvI8 { 1 } else { 9 };
    let format = Format::Int { bits: 8, scope: Scope::Tensor };
    let product = Product { format, m, rows: 3, cols: 5000, epilogue: Epilogue::Accumulator, naive: false };
    table.add("int8", format!("{} largest codes", product.shape()), Tolerance::Exact, move |gpu| {
        let signs: Vec<f32> = (0..3 * 5000).map(|i| if i / 5000 == 1 { -1.0 } else { 1.0 }).collect();
        let codes = vec![127; m * 5000];
        let q = QuantizedActivations { codes, scales: vec![1.0; m] };
        product.accumulators(gpu, &format.encode(&signs, 3, 5000)?, &q)
    });
}
