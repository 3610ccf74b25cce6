//! Linear layers: every format through every matrix kernel, in floating point and in integer codes, and as the
//! engine picks the kernel, fused and naive.

use super::data::values;
use super::launch::Device;
use super::matrix::{formats, one_per_variant, passing, patched_name, variant_name};
use super::product::{Product, int, serves};
use super::{IN_F16, ONE_OP, Table, Tolerance};
use crate::format::element::{Element, OcpElement, OcpRounding, OcpScale};
use crate::format::{ActivationFormat, Block, Format, Packed, QuantizedActivations, Scope};
use crate::graph::Function;
use crate::shader::{Contract, Epilogue, FormatVariant, Kernel};

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

fn epilogues() -> Vec<Epilogue> {
    let mut all = vec![Epilogue::Bias];
    for bias in [false, true] {
        all.extend([Epilogue::Residual { bias }, Epilogue::Product { bias }]);
        let functions = Function::ALL;
        all.extend(functions.map(|function| Epilogue::Activation { bias, function }));
    }
    all
}

/// Calls `each` with every product of the kernel under test. What is orthogonal in the code is so here, because a
/// software driver takes a second to compile a variant: every format meets every kernel, but further partitions,
/// rows of whole vec4 words in GEMM and stored integer sums are left to formats that stand for the others.
fn products(table: &mut Table, mut each: impl FnMut(&mut Table, Product)) {
    let kernel = table.kernel;
    let mut shapes = SHAPES.into_iter().filter(|&(m, ..)| serves(kernel, m));
    // Every format once; after that formats that share a pipeline stand for each other.
    let first = shapes.next();
    for (m, rows, cols) in first.into_iter().chain(shapes) {
        let all =
            if first == Some((m, rows, cols)) { formats(rows, cols) } else { one_per_variant(rows, cols) };
        for format in all {
            let another_partition = (2..=4).contains(&m) && serves(kernel, 1);
            let skip = match format {
                Format::F32 | Format::Int { bits: 4, .. } => false,
                // All other odd groups run the same code.
                Format::Base11Nine32 { group: 1 | 5 } => true,
                Format::MxIntCuda { .. } => another_partition,
                // Tables before scales that are read by four words.
                _ if kernel.row().runs && cols == 512 && is_table(format) => false,
                // Their blocks fit no other width.
                Format::Ggml(_) => another_partition,
                // Long rows have a partition of their own.
                _ => another_partition || (cols == 512 || cols > 1024) && !stands_for_others(format),
            };
            if skip {
                continue;
            }
            let integer = kernel.row().contract == Contract::Integer;
            if integer && !takes(kernel, format, rows, cols) {
                continue;
            }
            each(table, Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store });
            if cols == 512 && stands_for_others(format) {
                table.cover();
            }
        }
    }
}

/// Whether codes of `format` index a table, with real scales or with exponents.
fn is_table(format: Format) -> bool {
    ["nf4", "mxfp4"].iter().any(|name| name.parse::<Format>().is_ok_and(|table| table == format))
}

/// Whether an integer kernel runs on matrices of `format`.
fn takes(kernel: Kernel, format: Format, rows: usize, cols: usize) -> bool {
    FormatVariant::of(format, rows, cols).is_ok_and(|variant| variant.takes_codes_of(kernel.x_bits()))
}

fn stands_for_others(format: Format) -> bool {
    let base11 =
        matches!(format, Format::Radix { base: 11, group: 128, .. } | Format::Base11Nine32 { group: 128 });
    base11
        || matches!(
            format,
            Format::F32 | Format::F16 | Format::Int { bits: 4, .. } | Format::MxInt { bits: 6 }
        )
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
            let simple = matches!(
                epilogue,
                Epilogue::Bias | Epilogue::Residual { bias: true } | Epilogue::Product { bias: true }
            );
            let typical = Epilogue::Activation { bias: true, function: Function::Gelu };
            if (i == 0 && (gemv || simple || epilogue == typical)) || (integer && simple) {
                each(table, Product { kernel, format, m, rows, cols, epilogue });
                if i == 0 && simple && kernel.row().direct {
                    // The same, stored by four.
                    each(table, Product { kernel, format, m, rows: 68, cols, epilogue });
                }
            }
        }
    }
    if gemv {
        gated(table, each);
    }
}

/// The gate and up of an MLP by one product: whole vec4 of y and others, short and long rows, one row of x and more.
fn gated(table: &mut Table, mut each: impl FnMut(&mut Table, Product)) {
    let kernel = table.kernel;
    let integer = kernel.row().contract == Contract::Integer;
    let formats = [
        Format::F32,
        Format::Int { bits: 4, scope: Scope::Group(32) },
        Format::Int { bits: 8, scope: Scope::Row },
        Format::MxInt { bits: 8 },
    ];
    for (m, rows, cols) in [(1, 74, 172), (1, 136, 1100), (3, 22, 45), (8, 88, 96)] {
        for (i, format) in formats.into_iter().enumerate() {
            if !serves(kernel, m) || integer && !takes(kernel, format, rows, cols) {
                continue;
            }
            let epilogue = Epilogue::Gated { bias: i % 2 == 0, function: Function::Silu };
            each(table, Product { kernel, format, m, rows, cols, epilogue });
        }
    }
}

/// What a plan would run at every shape, for formats that stand for the others.
fn picked_by_engine(table: &mut Table, naive: bool) {
    let kernel = table.kernel;
    if !serves(kernel, 1) {
        return;
    }
    let formats = [Format::Int { bits: 4, scope: Scope::Group(32) }, Format::F16, wide()];
    for (m, rows, cols) in SHAPES {
        for format in formats {
            if kernel == Kernel::GemvI8 && !format.has_integer_codes() {
                continue;
            }
            let product = Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store };
            let name = if naive { "naive, as the engine picks" } else { "as the engine picks" };
            let run = move |gpu: &Device| product.engine(gpu, naive, int(8));
            table.add(name, product.shape(), Tolerance::Nmse(ONE_OP), run);
        }
    }
}

/// Sixteen-bit fixed point, which runs from f32 storage.
fn wide() -> Format {
    let element = Element::Integer { width: 16, frac_width: 8, signed: true, floor: false };
    Format::Element { element, block: Block::None }
}

/// Weights small enough for these formats to let them pass unquantized: every one of them is an exception.
fn exceptions(table: &mut Table) {
    for (m, rows, cols) in [(1, 13, 172), (5, 7, 37), (9, 70, 45)] {
        if !serves(table.kernel, m) {
            continue;
        }
        for format in passing() {
            let product = Product { kernel: table.kernel, format, m, rows, cols, epilogue: Epilogue::Store };
            let shape = format!("{}, all of them exceptions", product.shape());
            table.add(patched_name(format, rows, cols), shape, Tolerance::Nmse(ONE_OP), move |gpu| {
                let w: Vec<f32> = values(rows * cols, 5).iter().map(|v| v * 1e-9).collect();
                let w = format.encode(&w, rows, cols)?;
                debug_assert!(w.exceptions.len() > rows * cols / 2);
                product.float_with(gpu, &w, &w)
            });
        }
    }
}

/// The groups of one row overflow f16 and decode to NaN, as upstream; the other rows must not notice.
fn overflowing_row(table: &mut Table) {
    let (kernel, m) = (table.kernel, if serves(table.kernel, 1) { 1 } else { 9 });
    for group in [128, 13] {
        let format = Format::Base11Nine32 { group };
        let product = Product { kernel, format, m, rows: 7, cols: 37, epilogue: Epilogue::Store };
        let shape = format!("{}, one row overflows", product.shape());
        table.add(variant_name(format, 7, 37), shape, Tolerance::Nmse(ONE_OP), move |gpu| {
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
    table.add(variant_name(format, rows, cols), product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| {
        product.float_with(gpu, &device, &truth)
    });
}

pub(super) fn float(table: &mut Table) {
    products(table, |table, product| {
        let variant = variant_name(product.format, product.rows, product.cols);
        let run = move |gpu: &Device| product.float(gpu);
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), run);
    });
    overflowing_row(table);
    exceptions(table);
    with_epilogues(table, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.rows, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| product.float(gpu));
    });
    picked_by_engine(table, false);
    picked_by_engine(table, true);
}

/// Products in f16: rounded, and exact where all factors and sums are small whole numbers. They decode as those in f32 do,
/// so that some formats stand for the others.
pub(super) fn half(table: &mut Table) {
    let kernel = table.kernel;
    let formats = [
        Format::F32,
        Format::Int { bits: 4, scope: Scope::Group(32) },
        Format::F16,
        Format::Int { bits: 8, scope: Scope::Row },
        Format::MxInt { bits: 6 },
        Format::Nf4 { group: 64 },
        Format::Base11Nine32 { group: 13 },
    ];
    for (m, rows, cols) in [(9, 70, 172), (37, 517, 512), (9, 5, 7), (65, 130, 172)] {
        let few = if cols == 512 { 3 } else { 1 };
        for &format in if m == 9 { &formats } else { &formats[..few] } {
            let product = Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store };
            let variant = variant_name(format, rows, cols);
            table.add(variant, product.shape(), Tolerance::Nmse(IN_F16), move |gpu| product.float(gpu));
        }
    }
    for format in passing() {
        let product = Product { kernel, format, m: 9, rows: 70, cols: 45, epilogue: Epilogue::Store };
        let shape = format!("{}, one of them an exception", product.shape());
        table.add(patched_name(format, 70, 45), shape, Tolerance::Nmse(IN_F16), move |gpu| {
            let mut w = values(70 * 45, 5);
            w[69 * 45 + 44] = 1e-9;
            let w = format.encode(&w, 70, 45)?;
            debug_assert!(!w.exceptions.is_empty());
            product.float_with(gpu, &w, &w)
        });
    }
    with_epilogues(table, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.rows, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(IN_F16), move |gpu| product.float(gpu));
    });
    for (m, rows, cols) in [(9, 5, 7), (37, 130, 172), (65, 70, 300)] {
        for format in [Format::F32, Format::Int { bits: 8, scope: Scope::Tensor }] {
            let product = Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store };
            let shape = format!("{}, whole numbers", product.shape());
            let variant = variant_name(format, rows, cols);
            table.add(variant, shape, Tolerance::Exact, move |gpu| product.whole_numbers(gpu));
        }
    }
}

/// x with a scale per 32 columns: formats of W with one scale per row, per chunk, and per several chunks.
fn scales_per_chunk(table: &mut Table) {
    let kernel = table.kernel;
    let x = ActivationFormat::Element {
        element: Element::Ocp {
            element: OcpElement::Int8,
            rounding: OcpRounding::Even,
            scale: OcpScale::Floor,
        },
        block: Block::dims(&[1, 32]),
    };
    let formats = [
        Format::Int { bits: 4, scope: Scope::Group(32) },
        Format::Int { bits: 8, scope: Scope::Row },
        Format::MxInt { bits: 8 },
        Format::Int { bits: 6, scope: Scope::Group(128) },
    ];
    for (m, rows, cols) in SHAPES.into_iter().filter(|&(m, _, cols)| serves(kernel, m) && cols > 32) {
        for (i, format) in formats.into_iter().enumerate() {
            if i > 0 && cols != 172 {
                continue;
            }
            let product = Product { kernel, format, m, rows, cols, epilogue: Epilogue::Store };
            let shape = format!("{}, {x} x", product.shape());
            let run = move |gpu: &Device| product.integer(gpu, x);
            table.add("x scales per chunk", &shape, Tolerance::Nmse(ONE_OP), run);
            if cols == 172 {
                let run = move |gpu: &Device| product.unit_scales(gpu, x);
                table.add("x scales per chunk", format!("{shape}, unit scales"), Tolerance::Exact, run);
            }
            if serves(kernel, 1) && i < 2 {
                let run = move |gpu: &Device| product.engine(gpu, false, x);
                table.add("x scales per chunk, as the engine picks", shape, Tolerance::Nmse(ONE_OP), run);
            }
        }
    }
}

pub(super) fn integer(table: &mut Table) {
    products(table, |table, product| {
        let variant = variant_name(product.format, product.rows, product.cols);
        let row_scale =
            FormatVariant::of(product.format, product.rows, product.cols).is_ok_and(FormatVariant::row_scale);
        if row_scale {
            let product = Product { epilogue: Epilogue::Accumulator, ..product };
            table.add(&variant, product.shape(), Tolerance::Exact, move |gpu| {
                product.accumulators(gpu, &product.weights()?, &product.quantized(int(8))?)
            });
        } else {
            let shape = format!("{}, unit scales", product.shape());
            table.add(&variant, shape, Tolerance::Exact, move |gpu| product.unit_scales(gpu, int(8)));
        }
        if row_scale && !serves(product.kernel, 1) && !stands_for_others(product.format) {
            return;
        }
        let run = move |gpu: &Device| product.integer(gpu, int(8));
        table.add(&variant, format!("{}, int8 x", product.shape()), Tolerance::Nmse(ONE_OP), run);
        if product.m == 1 {
            let run = move |gpu: &Device| product.integer(gpu, int(4));
            table.add(&variant, format!("{}, int4 x", product.shape()), Tolerance::Nmse(ONE_OP), run);
        }
    });
    with_epilogues(table, |table, product| {
        let variant = format!("{} epilogues", variant_name(product.format, product.rows, product.cols));
        table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), move |gpu| product.integer(gpu, int(8)));
    });
    picked_by_engine(table, false);
    scales_per_chunk(table);
    let (kernel, m) = (table.kernel, if serves(table.kernel, 1) { 1 } else { 9 });
    let format = Format::Int { bits: 8, scope: Scope::Tensor };
    let product = Product { kernel, format, m, rows: 3, cols: 5000, epilogue: Epilogue::Accumulator };
    table.add("int8", format!("{} largest codes", product.shape()), Tolerance::Exact, move |gpu| {
        let signs: Vec<f32> = (0..3 * 5000).map(|i| if i / 5000 == 1 { -1.0 } else { 1.0 }).collect();
        let q = QuantizedActivations { codes: vec![127; m * 5000], scales: vec![1.0; m], group: 5000 };
        product.accumulators(gpu, &format.encode(&signs, 3, 5000)?, &q)
    });
}

/// Codes of x in fields of less than eight bits: tiles of rows that are not full, rows that end within a step.
pub(super) fn narrow_integer(table: &mut Table) {
    let kernel = table.kernel;
    let widths: &[u8] = if kernel.x_bits() == 2 { &[2] } else { &[4, 3, 2] };
    products(table, |table, product| {
        let variant = variant_name(product.format, product.rows, product.cols);
        let row_scale =
            FormatVariant::of(product.format, product.rows, product.cols).is_ok_and(FormatVariant::row_scale);
        for &bits in widths {
            let shape = format!("{}, int{bits} x", product.shape());
            if row_scale {
                let product = Product { epilogue: Epilogue::Accumulator, ..product };
                table.add(&variant, format!("{shape}, sums"), Tolerance::Exact, move |gpu| {
                    product.accumulators(gpu, &product.weights()?, &product.quantized(int(bits))?)
                });
            } else {
                let shape = format!("{shape}, unit scales");
                table.add(&variant, shape, Tolerance::Exact, move |gpu| product.unit_scales(gpu, int(bits)));
            }
            if bits == widths[0] {
                let run = move |gpu: &Device| product.integer(gpu, int(bits));
                table.add(&variant, shape, Tolerance::Nmse(ONE_OP), run);
            }
        }
    });
    let row = |bits| Format::Int { bits, scope: Scope::Row };
    for epilogue in epilogues() {
        // Sums that end one by one; some of them also by four.
        let by_four = matches!(
            epilogue,
            Epilogue::Bias | Epilogue::Residual { bias: false } | Epilogue::Product { bias: true }
        );
        for &rows in if by_four { &[70, 68][..] } else { &[70] } {
            let format = row(if kernel.x_bits() == 2 { 2 } else { 4 });
            let product = Product { kernel, format, m: 9, rows, cols: 45, epilogue };
            let variant = format!("{} epilogues", variant_name(format, rows, 45));
            let run = move |gpu: &Device| product.integer(gpu, int(widths[0]));
            table.add(variant, product.shape(), Tolerance::Nmse(ONE_OP), run);
        }
    }
    // The largest sums: all products alike, and W at its lowest code, which fixed point has.
    let fixed = Element::Integer { width: 4, frac_width: 1, signed: true, floor: false };
    let most = match kernel.x_bits() {
        2 => vec![(Format::Int { bits: 2, scope: Scope::Tensor }, 1)],
        _ => vec![
            (Format::Int { bits: 4, scope: Scope::Tensor }, 7),
            (Format::Element { element: fixed, block: Block::None }, 7),
        ],
    };
    for (format, code) in most {
        let (m, rows, cols) = (19, 3, 5000);
        let product = Product { kernel, format, m, rows, cols, epilogue: Epilogue::Accumulator };
        let variant = variant_name(format, rows, cols);
        table.add(variant, format!("{} largest codes", product.shape()), Tolerance::Exact, move |gpu| {
            let signs: Vec<f32> =
                (0..rows * cols).map(|i| if i / cols == 1 { 100.0 } else { -100.0 }).collect();
            let codes = (0..m * cols).map(|i| if i / cols % 3 == 0 { -code } else { code }).collect();
            let q = QuantizedActivations { codes, scales: vec![1.0; m], group: cols };
            product.accumulators(gpu, &format.encode(&signs, rows, cols)?, &q)
        });
    }
}
