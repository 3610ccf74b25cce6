//! Norms and softmax: kernels with one workgroup per row that give a row.

use super::data::{strided, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::{ONE_OP, Outcome, Table, Tolerance};
use crate::error::Result;
use crate::reference;
use crate::shader::Kernel;

/// (rows, columns): fewer, as many and more columns than a workgroup has invocations.
const SHAPES: [(usize, usize); 7] = [(3, 172), (1, 1), (5, 7), (7, 37), (2, 128), (65, 129), (3, 1000)];

/// (rows, heads, elements per head) of a norm per head.
const HEADS: [(usize, usize, usize); 6] =
    [(1, 1, 8), (5, 3, 10), (9, 2, 64), (3, 7, 128), (7, 5, 4), (13, 1, 37)];

const EPS: f32 = 1e-5;

/// Runs `kernel` over the rows of `x`, of `heads` parts each, with stray values between them.
fn run(
    gpu: &Device,
    kernel: Kernel,
    (heads, cols): (usize, usize),
    x: &[f32],
    vectors: &[(&'static str, &[f32])],
    want: &[f32],
) -> Result<Outcome> {
    let rows = x.len() / cols;
    let (x_stride, y_stride) = if kernel.row().direct { (cols + 8, cols + 16) } else { (cols + 3, cols + 5) };
    let mut launch = Launch::new(gpu);
    launch.input("x", &strided(x, cols, x_stride, STRAY))?;
    for (name, vector) in vectors {
        launch.input(name, vector)?;
    }
    launch.output("y", rows * y_stride)?;
    let norms = matches!(kernel, Kernel::RmsNorm | Kernel::RmsNormDirect);
    if norms {
        launch.output("maxima", rows * heads)?;
    }
    let params = [
        ("m", rows as u32),
        ("heads", heads as u32),
        ("cols", (cols / heads) as u32),
        ("x_stride", x_stride as u32),
        ("y_stride", y_stride as u32),
        ("eps", EPS.to_bits()),
    ];
    let mut out = launch.rowwise(kernel, &params, rows * heads)?.finish()?;
    let (mut got, mut all) = (out.remove(0), strided(want, cols, y_stride, POISON));
    if norms {
        // Rows of the maxima, as wide as those of y so that they are compared as one.
        let found: Vec<f32> = out.remove(0).into_iter().map(f32::from_bits).collect();
        got.extend(strided(&found, heads, y_stride, POISON));
        let most = |head: &[f32]| head.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let maxima: Vec<f32> = want.chunks(cols / heads).map(most).collect();
        all.extend(strided(&maxima, heads, y_stride, POISON));
    }
    Ok(Outcome::floats(got, all, y_stride))
}

/// What a norm may be given: (name, factor, offset).
const INPUTS: [(&str, f32, f32); 4] =
    [("", 1.0, 0.0), (", tiny", 1e-4, 0.0), (", large", 1e6, 0.0), (", zeros", 0.0, 0.0)];

fn inputs(rows: usize, cols: usize, factor: f32, offset: f32) -> Vec<f32> {
    let mut x = values(rows * cols, rows + cols);
    x.iter_mut().for_each(|v| *v = *v * factor + offset);
    x
}

pub(super) fn rms_norm(table: &mut Table) {
    let kernel = table.kernel;
    for (rows, cols) in SHAPES {
        if kernel.row().direct && cols % 8 != 0 {
            continue;
        }
        for (name, factor, offset) in INPUTS {
            table.add("", format!("[{rows}, {cols}]{name}"), Tolerance::Nmse(ONE_OP), move |gpu| {
                let (x, weight) = (inputs(rows, cols, factor, offset), values(cols, 5));
                let want = reference::rms_norm(&x, &weight, EPS);
                run(gpu, kernel, (1, cols), &x, &[("weight", &weight)], &want)
            });
        }
    }
    for (rows, heads, head_dim) in HEADS {
        if kernel.row().direct && head_dim % 8 != 0 {
            continue;
        }
        let shape = format!("[{rows}, {heads} heads of {head_dim}]");
        table.add("", shape, Tolerance::Nmse(ONE_OP), move |gpu| {
            let (x, weight) = (inputs(rows, heads * head_dim, 1.0, 0.0), values(head_dim, 5));
            let want = reference::rms_norm(&x, &weight, EPS);
            run(gpu, kernel, (heads, heads * head_dim), &x, &[("weight", &weight)], &want)
        });
    }
}

pub(super) fn layer_norm(table: &mut Table) {
    for (rows, cols) in SHAPES {
        for (name, factor, offset) in INPUTS {
            let shape = format!("[{rows}, {cols}]{name}");
            table.add("", shape, Tolerance::Nmse(ONE_OP), move |gpu| {
                normalize(gpu, rows, cols, factor, offset)
            });
        }
    }
    // The mean has an error of a few 2^-24 of itself, which is ten times as much of the spread.
    let shape = "[3, 172], mean ten times the spread";
    table.add("", shape, Tolerance::Nmse(100.0 * ONE_OP), |gpu| normalize(gpu, 3, 172, 1.0, 10.0));
}

fn normalize(gpu: &Device, rows: usize, cols: usize, factor: f32, offset: f32) -> Result<Outcome> {
    let (x, weight, bias) = (inputs(rows, cols, factor, offset), values(cols, 5), values(cols, 6));
    let want = reference::layer_norm(&x, &weight, &bias, EPS);
    run(gpu, Kernel::LayerNorm, (1, cols), &x, &[("weight", &weight), ("bias", &bias)], &want)
}

pub(super) fn softmax(table: &mut Table) {
    for (rows, cols) in SHAPES {
        for (name, factor, offset) in [("", 2.0, 0.0), (", far from 0", 20.0, -300.0), (", equal", 0.0, 3e38)]
        {
            table.add("", format!("[{rows}, {cols}]{name}"), Tolerance::Nmse(ONE_OP), move |gpu| {
                let x = inputs(rows, cols, factor, offset);
                run(gpu, Kernel::Softmax, (1, cols), &x, &[], &reference::softmax(&x, cols))
            });
        }
    }
    table.add("", "[4, 300], causal mask", Tolerance::Nmse(ONE_OP), |gpu| {
        let mut x = inputs(4, 300, 3.0, 0.0);
        for (row, seen) in [(0, 1), (1, 2), (2, 150), (3, 299)] {
            x[row * 300 + seen..(row + 1) * 300].fill(-3.0e38);
        }
        run(gpu, Kernel::Softmax, (1, 300), &x, &[], &reference::softmax(&x, 300))
    });
}
