//! What is measured on logits: cross-entropy, divergence, the most probable token.

use super::compare::to_words;
use super::data::{Random, strided, values};
use super::launch::{Device, Launch, POISON, STRAY};
use super::{Outcome, Table, Tolerance};
use crate::error::Result;
use crate::reference;
use crate::shader::Kernel;

/// (rows, vocabulary)
const SHAPES: [(usize, usize); 6] = [(3, 172), (1, 1), (5, 7), (13, 128), (2, 1003), (65, 37)];

fn logits(rows: usize, cols: usize, factor: f32) -> Vec<f32> {
    let mut x = values(rows * cols, rows * cols);
    x.iter_mut().for_each(|v| *v *= factor);
    x
}

/// One number per row of x (and z).
fn run(
    gpu: &Device,
    kernel: Kernel,
    cols: usize,
    x: &[f32],
    z: Option<&[f32]>,
    targets: Option<&[u32]>,
) -> Result<Vec<u32>> {
    let (rows, x_stride, z_stride) = (x.len() / cols, cols + 3, cols + 5);
    let mut launch = Launch::new(gpu);
    launch.input("x", &strided(x, cols, x_stride, STRAY))?;
    if let Some(z) = z {
        launch.input("z", &strided(z, cols, z_stride, STRAY))?;
    }
    if let Some(targets) = targets {
        launch.input("targets", targets)?;
    }
    launch.output("y", rows)?;
    let params = [
        ("m", rows as u32),
        ("cols", cols as u32),
        ("x_stride", x_stride as u32),
        ("z_stride", z_stride as u32),
    ];
    launch.rowwise(kernel, &params, rows)?.single()
}

pub(super) fn cross_entropy(table: &mut Table) {
    // A confident row has a loss near 0, known to an absolute error only.
    let close = Tolerance::Close { absolute: 2e-6, relative: 1e-6 };
    for (rows, cols) in SHAPES {
        for (name, factor) in [("", 2.0), (", confident", 40.0), (", equal", 0.0), (", huge", 1e30)] {
            table.add("", format!("[{rows}, {cols}]{name}"), close, move |gpu| {
                let x = logits(rows, cols, factor);
                let mut random = Random::new(rows as u64);
                let targets: Vec<u32> = (0..rows).map(|_| random.word() % cols as u32).collect();
                let got = run(gpu, Kernel::CrossEntropy, cols, &x, None, Some(&targets))?;
                let want = reference::cross_entropy(&x, cols, &targets);
                Ok(Outcome::floats(got, to_words(&want), 0))
            });
        }
    }
}

/// (name, spread of the first logits, spread of the difference, absolute error): where the divergence may be large, sums
/// hold numbers near 1, and near 100 where the logits are. WGSL's log is off by up to 2^-21 near 1.
const KINDS: [(&str, f32, f32, f64); 6] = [
    ("", 2.0, 0.3, 1e-6),
    (", tiny", 2.0, 4e-4, 1e-12),
    (", vanishing", 2.0, 1e-6, 1e-14),
    (", none", 2.0, 0.0, 0.0),
    (", large", 3.0, 4.0, 1e-6),
    (", huge", 30.0, 30.0, 1e-5),
];

pub(super) fn kl(table: &mut Table) {
    for (rows, cols) in SHAPES {
        for (name, spread, difference, absolute) in KINDS {
            let close = Tolerance::Close { absolute, relative: 1e-5 };
            table.add("", format!("[{rows}, {cols}]{name}"), close, move |gpu| {
                let x = logits(rows, cols, spread);
                let d = values(x.len(), 77);
                let z: Vec<f32> = x.iter().zip(d).map(|(x, d)| x + d * difference).collect();
                let got = run(gpu, Kernel::Kl, cols, &x, Some(&z), None)?;
                let want = reference::kl_divergence(&x, &z, cols);
                Ok(Outcome::floats(got, to_words(&want), 0))
            });
        }
    }
    table.add("", "[3, 172], shifted logits", Tolerance::Close { absolute: 1e-9, relative: 0.0 }, |gpu| {
        let x = logits(3, 172, 2.0);
        let z: Vec<f32> = x.iter().map(|v| v + 100.0).collect();
        let got = run(gpu, Kernel::Kl, 172, &x, Some(&z), None)?;
        Ok(Outcome::floats(got, to_words(&reference::kl_divergence(&x, &z, 172)), 0))
    });
}

/// Logits among which to choose.
fn unusual(name: &str, rows: usize, cols: usize) -> Vec<f32> {
    let mut x = logits(rows, cols, 1.0);
    match name {
        ", ties" => x.iter_mut().for_each(|v| *v = v.round().min(1.0)),
        ", equal" => x.fill(-7.5),
        ", minus infinity" => x.fill(f32::NEG_INFINITY),
        ", lowest numbers" => {
            x.fill(f32::MIN);
            x[cols - 1] = -3.3e38;
        }
        _ => {}
    }
    x
}

pub(super) fn argmax(table: &mut Table) {
    for (rows, cols) in SHAPES {
        for name in ["", ", ties", ", equal", ", minus infinity", ", lowest numbers"] {
            table.add("", format!("[{rows}, {cols}]{name}"), Tolerance::Exact, move |gpu| {
                let x = unusual(name, rows, cols);
                let got = run(gpu, Kernel::Argmax, cols, &x, None, None)?;
                let want = x.chunks(cols).map(|row| reference::argmax(row) as u32).collect();
                Ok(Outcome::integers(got, want, 0))
            });
        }
    }
    // More rows than one dimension of a dispatch holds.
    table.add("", "[65600, 5] folded", Tolerance::Exact, |gpu| {
        let x = logits(65_600, 5, 1.0);
        let got = run(gpu, Kernel::Argmax, 5, &x, None, None)?;
        let want = x.chunks(5).map(|row| reference::argmax(row) as u32).collect();
        Ok(Outcome::integers(got, want, 0))
    });
}

/// Losses, divergences and choices, in this order, of rows of z against those of x.
fn compare(gpu: &Device, cols: usize, x: &[f32], z: &[f32], targets: &[u32]) -> Result<Vec<Vec<u32>>> {
    let (rows, x_stride, z_stride) = (x.len() / cols, cols + 4, cols + 8);
    let mut launch = Launch::new(gpu);
    launch
        .input("x", &strided(x, cols, x_stride, STRAY))?
        .input("z", &strided(z, cols, z_stride, STRAY))?
        .input("targets", targets)?
        .output("cross_entropy", rows)?
        .output("kl", rows)?
        .output("best", rows)?;
    let params = [
        ("m", rows as u32),
        ("cols", cols as u32),
        ("x_stride", x_stride as u32),
        ("z_stride", z_stride as u32),
    ];
    launch.rowwise(Kernel::CompareDirect, &params, rows)?.finish()
}

pub(super) fn compared(table: &mut Table) {
    for (rows, cols) in [(3, 172), (1, 4), (5, 8), (13, 128), (2, 1004), (65, 36)] {
        for (name, spread, difference, absolute) in KINDS {
            let operands = move || {
                let x = logits(rows, cols, spread);
                let d = values(x.len(), 77);
                let z: Vec<f32> = x.iter().zip(d).map(|(x, d)| x + d * difference).collect();
                let mut random = Random::new(rows as u64);
                let targets: Vec<u32> = (0..rows).map(|_| random.word() % cols as u32).collect();
                (x, z, targets)
            };
            let shape = format!("[{rows}, {cols}]{name}");
            let close = Tolerance::Close { absolute: 2e-6, relative: 1e-6 };
            table.add("loss", &shape, close, move |gpu| {
                let (x, z, targets) = operands();
                let got = compare(gpu, cols, &x, &z, &targets)?.swap_remove(0);
                Ok(Outcome::floats(got, to_words(&reference::cross_entropy(&z, cols, &targets)), 0))
            });
            let close = Tolerance::Close { absolute, relative: 1e-5 };
            table.add("divergence", &shape, close, move |gpu| {
                let (x, z, targets) = operands();
                let got = compare(gpu, cols, &x, &z, &targets)?.swap_remove(1);
                Ok(Outcome::floats(got, to_words(&reference::kl_divergence(&x, &z, cols)), 0))
            });
        }
        for name in ["", ", ties", ", equal", ", minus infinity", ", lowest numbers"] {
            table.add("choice", format!("[{rows}, {cols}]{name}"), Tolerance::Exact, move |gpu| {
                let z = unusual(name, rows, cols);
                let got = compare(gpu, cols, &logits(rows, cols, 2.0), &z, &vec![0; rows])?.swap_remove(2);
                let want = z.chunks(cols).map(|row| reference::argmax(row) as u32).collect();
                Ok(Outcome::integers(got, want, 0))
            });
        }
    }
}

pub(super) fn tally(table: &mut Table) {
    for rows in [1, 5, 31, 32, 33, 127, 768, 4099] {
        for slot in [0, 3] {
            let close = Tolerance::Close { absolute: 0.0, relative: 1e-6 };
            table.add("", format!("[{rows}], slot {slot}"), close, move |gpu| {
                let mut random = Random::new(rows as u64);
                let mut choices = || (0..rows).map(|_| random.word() % 3).collect::<Vec<u32>>();
                let (best, targets, other) = (choices(), choices(), choices());
                let losses: Vec<f32> = values(rows, 5).into_iter().map(f32::abs).collect();
                let divergences: Vec<f32> = values(rows, 6).into_iter().map(|v| v * v * 1e-3).collect();
                let mut launch = Launch::new(gpu);
                launch.input("cross_entropy", &losses)?.input("kl", &divergences)?;
                launch.input("best", &best)?.input("targets", &targets)?.input("other_best", &other)?;
                launch.output("y", 4 * slot + 4)?;
                let got = launch
                    .rowwise(Kernel::Tally, &[("m", rows as u32), ("slot", slot as u32)], 1)?
                    .single()?;
                let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
                let equal = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f32;
                let mut want = vec![POISON; 4 * slot];
                let sums = [sum(&losses), sum(&divergences), equal(&best, &targets), equal(&best, &other)];
                want.extend(to_words(&sums));
                Ok(Outcome::floats(got, want, 0))
            });
        }
    }
}
