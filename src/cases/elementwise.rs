//! Kernels with one invocation per element.

use super::data::{strided, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::{ONE_OP, Outcome, Table, Tolerance};
use crate::error::Result;
use crate::graph::Function;
use crate::reference;
use crate::shader::{Kernel, Tile, Variant, function_code};

/// (rows, columns); the last one needs more workgroups than one dimension of a dispatch holds.
const SHAPES: [(usize, usize); 6] = [(3, 37), (1, 1), (5, 7), (13, 172), (65, 64), (32_800, 130)];

/// Rows of x and y lie further apart than they are long, with stray values between the rows of x.
fn strides(cols: usize) -> (usize, usize) {
    (cols + 3, cols + 5)
}

fn label(rows: usize, cols: usize) -> String {
    format!("[{rows}, {cols}]{}", if rows * cols > 65_535 * 64 { " folded" } else { "" })
}

/// Runs `variant` on x and further operands of the same shape.
fn run(
    gpu: &Device,
    variant: &Variant,
    (rows, cols): (usize, usize),
    x: &[f32],
    z: Option<&[f32]>,
    bias: Option<&[f32]>,
    want: &[f32],
) -> Result<Outcome> {
    let (x_stride, y_stride) = strides(cols);
    let mut launch = Launch::new(gpu);
    launch.input("x", &strided(x, cols, x_stride, STRAY))?;
    // Operands have strides of their own.
    let z_stride = cols + 1;
    if let Some(z) = z {
        launch.input("z", &strided(z, cols, z_stride, STRAY))?;
    }
    if let Some(bias) = bias {
        launch.input("bias", bias)?;
    }
    launch.output("y", rows * y_stride)?;
    let params = [
        ("m", rows as u32),
        ("cols", cols as u32),
        ("x_stride", x_stride as u32),
        ("z_stride", z_stride as u32),
        ("y_stride", y_stride as u32),
    ];
    let got = launch.elementwise(variant, &params, rows * cols)?.single()?;
    Ok(Outcome::floats(got, strided(want, cols, y_stride, POISON), y_stride))
}

fn plain(kernel: Kernel) -> Variant {
    Variant::plain(kernel, Tile::elementwise())
}

pub(super) fn add(table: &mut Table) {
    for (rows, cols) in SHAPES {
        table.add("", label(rows, cols), Tolerance::Exact, move |gpu| {
            let (x, z) = (values(rows * cols, 1), values(rows * cols, 2));
            let want = reference::add(&x, &z);
            run(gpu, &plain(Kernel::Add), (rows, cols), &x, Some(&z), None, &want)
        });
    }
}

pub(super) fn mul(table: &mut Table) {
    if table.kernel == Kernel::MulQuads {
        return mul_quads(table);
    }
    for (rows, cols) in SHAPES {
        table.add("", label(rows, cols), Tolerance::Exact, move |gpu| {
            let (x, z) = (values(rows * cols, 1), values(rows * cols, 2));
            let want = reference::mul(&x, &z);
            run(gpu, &plain(Kernel::Mul), (rows, cols), &x, Some(&z), None, &want)
        });
    }
}

fn mul_quads(table: &mut Table) {
    for (rows, cols) in [(3, 36), (1, 4), (5, 8), (13, 172), (65, 64), (130_000, 132)] {
        let folded = if rows > 65_535 { " folded" } else { "" };
        table.add("", format!("[{rows}, {cols}]{folded}"), Tolerance::Exact, move |gpu| {
            let (x, z) = (values(rows * cols, 1), values(rows * cols, 2));
            let (x_stride, z_stride, y_stride) = (cols + 4, cols + 12, cols + 8);
            let mut launch = Launch::new(gpu);
            launch
                .input("x", &strided(&x, cols, x_stride, STRAY))?
                .input("z", &strided(&z, cols, z_stride, STRAY))?
                .output("y", rows * y_stride)?;
            let params = [
                ("m", rows as u32),
                ("cols", cols as u32),
                ("x_stride", x_stride as u32),
                ("z_stride", z_stride as u32),
                ("y_stride", y_stride as u32),
            ];
            let got = launch.elementwise(&plain(Kernel::MulQuads), &params, rows * cols / 4)?.single()?;
            Ok(Outcome::floats(got, strided(&reference::mul(&x, &z), cols, y_stride, POISON), y_stride))
        });
    }
}

pub(super) fn gate(table: &mut Table) {
    for function in Function::ALL {
        for (rows, cols) in [(3, 36), (1, 4), (13, 172)] {
            let shape = format!("[{rows}, {cols}]");
            table.add(format!("{function:?}"), shape, Tolerance::Nmse(ONE_OP), move |gpu| {
                let (gate, up) = (values(rows * cols, 1), values(rows * cols, 2));
                let of_row = |(gate, up): (&[f32], &[f32])| [gate, up].concat();
                let x: Vec<f32> = gate.chunks(cols).zip(up.chunks(cols)).flat_map(of_row).collect();
                let (x_stride, y_stride) = (2 * cols + 4, cols + 8);
                let mut launch = Launch::new(gpu);
                launch.input("x", &strided(&x, 2 * cols, x_stride, STRAY))?.output("y", rows * y_stride)?;
                let params = [
                    ("m", rows as u32),
                    ("cols", cols as u32),
                    ("x_stride", x_stride as u32),
                    ("y_stride", y_stride as u32),
                ];
                let variant = plain(Kernel::GateQuads).constant("FUNCTION", function_code(function));
                let got = launch.elementwise(&variant, &params, rows * cols / 4)?.single()?;
                let want = reference::mul(&reference::activate(function, &gate), &up);
                Ok(Outcome::floats(got, strided(&want, cols, y_stride, POISON), y_stride))
            });
        }
    }
}

pub(super) fn add_bias(table: &mut Table) {
    for (rows, cols) in SHAPES {
        table.add("", label(rows, cols), Tolerance::Exact, move |gpu| {
            let (x, bias) = (values(rows * cols, 1), values(cols, 2));
            let want = reference::add(&x, &bias.repeat(rows));
            run(gpu, &plain(Kernel::AddBias), (rows, cols), &x, None, Some(&bias), &want)
        });
    }
}

/// Arguments at which an intermediate result overflows, underflows or saturates.
fn extremes() -> Vec<f32> {
    let mut x = vec![0.0, 1e-30, 1e-12, 3e-5];
    x.extend([6.0, 9.5, 10.5, 20.0, 87.0, 89.0, 104.0, 1e3, 1e7, 2e12, 1e13, 1e19, 1e20, 1e30, 3.4e38]);
    let negative: Vec<f32> = x.iter().map(|v| -v).collect();
    x.extend(negative);
    x
}

pub(super) fn activate(table: &mut Table) {
    for function in Function::ALL {
        let variant = move || plain(Kernel::Activate).constant("FUNCTION", function_code(function));
        let name = format!("{function:?}");
        for (rows, cols) in SHAPES {
            if rows * cols > 65_535 * 64 && function != Function::Relu {
                continue;
            }
            table.add(&name, label(rows, cols), Tolerance::Nmse(ONE_OP), move |gpu| {
                let mut x = values(rows * cols, 3);
                x.iter_mut().for_each(|v| *v *= 3.0);
                let want = reference::activate(function, &x);
                run(gpu, &variant(), (rows, cols), &x, None, None, &want)
            });
        }
        // The tails of GELU are differences of numbers near 1: an absolute error, of 3e-7 times x.
        let close = Tolerance::Close { absolute: 3e-6, relative: 1e-6 };
        table.add(&name, "large and small arguments", close, move |gpu| {
            let x = extremes();
            let want = reference::activate(function, &x);
            run(gpu, &variant(), (1, x.len()), &x, None, None, &want)
        });
    }
}

pub(super) fn gather_rows(table: &mut Table) {
    let picks: [(usize, usize, &[u32]); 4] =
        [(7, 37, &[0, 3, 6]), (1, 1, &[0]), (9, 172, &[8]), (5, 64, &[0, 1, 2, 3, 4])];
    for (rows, cols, outputs) in picks {
        table.add("", format!("{} of [{rows}, {cols}]", outputs.len()), Tolerance::Exact, move |gpu| {
            // Padded to whole vec4 with zeros, which are gathered too.
            let padded = cols.next_multiple_of(4);
            let (x_stride, y_stride) = (padded + 4, padded + 8);
            let mut x = values(rows * padded, 4);
            x.chunks_mut(padded).for_each(|row| row[cols..].fill(0.0));
            let mut launch = Launch::new(gpu);
            launch.input("x", &strided(&x, padded, x_stride, STRAY))?.input("outputs", outputs)?;
            launch.output("y", outputs.len() * y_stride)?;
            let params = [
                ("m", outputs.len() as u32),
                ("cols", cols as u32),
                ("x_stride", x_stride as u32),
                ("y_stride", y_stride as u32),
            ];
            let variant = plain(Kernel::GatherRows);
            let got = launch.elementwise(&variant, &params, outputs.len() * padded / 4)?.single()?;
            let want = reference::embed(&x, padded, outputs.iter().map(|&row| row as usize));
            Ok(Outcome::floats(got, strided(&want, padded, y_stride, POISON), y_stride))
        });
    }
}
