//! The device against independent figures and against the CPU: needs an adapter and fails without one.

mod activations;
mod attention;
mod half;
mod inputs;
mod limits;
mod models;
mod residency;
mod stacks;
mod tiles;
mod trials;
mod windows;

use std::sync::{Arc, OnceLock};

use anybit::engine::{Dequantizer, Resident, SessionOptions};
use anybit::format::{Format, Spec};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Graph};
use anybit::model::Model;
use anybit::run::Runner;

/// One device for all tests of this process.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| open(OpenOptions::default())).clone()
}

fn open(options: OpenOptions) -> Arc<Gpu> {
    Arc::new(Gpu::open(options).expect(
        "these tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one where it can",
    ))
}

fn spec(text: &str) -> Spec {
    text.parse().expect("a format spec")
}

fn uniform(model: &Model, text: &str) -> Assignment {
    Assignment::uniform(model.graph(), &model.native_formats(), spec(text))
}

/// A model on a device, with room for `sequences` of the model's context.
fn runner(
    resident: &mut Resident,
    model: &Model,
    assignment: &Assignment,
    sequences: usize,
    fused: bool,
) -> Runner<'static> {
    let graph: Arc<Graph> = Arc::new(model.graph().clone());
    let options = SessionOptions { sequences, context: graph.context, fused, keep: false };
    Runner::gpu(resident, graph, model, assignment, options).expect("a session")
}

/// Deterministic values around 0, roughly normal.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| next()).sum::<f32>()).collect()
}

fn first_difference(got: &[f32], want: &[f32]) -> Option<usize> {
    assert_eq!(got.len(), want.len());
    (0..got.len()).find(|&i| {
        let (g, w) = (got[i], want[i]);
        !(g.to_bits() == w.to_bits() || (g == 0.0 && w == 0.0) || (g.is_nan() && w.is_nan()))
    })
}

#[test]
fn dequantize_is_bit_exact_for_every_format_odd_shapes_and_subnormal_scales() {
    let dequantizer = Dequantizer::new(gpu());
    for format in Format::catalog() {
        for (rows, cols) in [(1, 1), (3, 5), (5, 37), (7, 128), (13, 172), (64, 192), (2, 300), (3, 256)] {
            if format.layout(rows, cols).is_err() {
                continue; // blocks that the shape is no multiple of
            }
            for scale in [1.0, 1e-3, 2e-38, 3e-41, 1e30] {
                let mut w = values(rows * cols, (rows * 31 + cols) as u64);
                w.iter_mut().for_each(|v| *v *= scale);
                let packed = match format.encode(&w, rows, cols) {
                    Ok(packed) => packed,
                    // f16 cannot hold 1e30, nor can the scales of ggml.
                    Err(_) if matches!(format, Format::Ggml(_) | Format::F16) => continue,
                    Err(e) => panic!("{format} {rows}x{cols}: {e}"),
                };
                let want = packed.decode();
                let got = dequantizer.decode(&packed).expect("the device decodes");
                if let Some(i) = first_difference(&got, &want) {
                    panic!("{format} {rows}x{cols} x{scale}: element {i}: {:e} not {:e}", got[i], want[i]);
                }
            }
        }
    }
}
