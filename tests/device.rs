//! The device against the CPU: needs an adapter and fails without one.

use std::sync::{Arc, OnceLock};

use anybit::engine::{Dequantizer, Losses, Resident, Session, SessionOptions};
use anybit::format::{Format, Spec};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Batch, Token};
use anybit::model::Model;

/// One device for all tests of this process.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        Arc::new(Gpu::open(OpenOptions::default()).expect(
            "these tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one where it can",
        ))
    })
    .clone()
}

/// Deterministic normal-ish values with some tiny, huge and zero ones.
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

fn same_bits(got: &[f32], want: &[f32]) -> Option<usize> {
    assert_eq!(got.len(), want.len());
    (0..got.len()).find(|&i| {
        let (g, w) = (got[i], want[i]);
        !(g.to_bits() == w.to_bits() || (g == 0.0 && w == 0.0) || (g.is_nan() && w.is_nan()))
    })
}

#[test]
fn dequantize_is_bit_exact_for_every_format_and_odd_shape() {
    let gpu = gpu();
    let dequantizer = Dequantizer::new(gpu);
    for format in Format::catalog() {
        for (rows, cols) in [(1, 1), (3, 5), (5, 37), (7, 128), (13, 172), (64, 192), (2, 300)] {
            for scale in [1.0, 1e-3, 2e-38, 3e-41] {
                let mut w = values(rows * cols, (rows * 31 + cols) as u64);
                w.iter_mut().for_each(|v| *v *= scale);
                let packed = match format.encode(&w, rows, cols) {
                    Ok(packed) => packed,
                    Err(e) => {
                        assert!(matches!(format, Format::MxIntCuda { .. }), "{format} {rows}x{cols}: {e}");
                        continue;
                    }
                };
                let want = packed.decode();
                let got = dequantizer.decode(&packed).unwrap();
                if let Some(i) = same_bits(&got, &want) {
                    panic!(
                        "{format} {rows}x{cols} scale {scale}: element {i}: {:e} on the device, {:e}",
                        got[i], want[i]
                    );
                }
            }
        }
    }
}

fn prompt_batch(ids: &[u32]) -> Batch {
    let tokens = ids
        .iter()
        .enumerate()
        .map(|(i, &id)| Token { id, sequence: 0, position: i as u32 })
        .collect::<Vec<_>>();
    Batch { outputs: vec![tokens.len() as u32 - 1], tokens }
}

#[test]
fn greedy_generation_reproduces_the_reference_ids() {
    let gpu = gpu();
    let model = Model::embedded().unwrap();
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read("tests/data/shakespeare/golden.json").unwrap()).unwrap();
    println!("{}", serde_json::to_string(&golden).unwrap().chars().take(600).collect::<String>());
    let graph = Arc::new(model.graph().clone());
    for fused in [true, false] {
        let mut resident = Resident::new(gpu.clone(), None);
        let assignment = Assignment::uniform(&graph, &model.native_formats(), Spec::from(Format::F32));
        let options = SessionOptions { sequences: 1, context: graph.context, fused, keep: false };
        let mut session = Session::new(&mut resident, graph.clone(), &model, assignment, options).unwrap();
        let losses = Losses::new(gpu.clone());
        let _ = (&mut session, &losses, prompt_batch(&[1, 2, 3]));
        let start = std::time::Instant::now();
        session.step(&prompt_batch(&[1, 2, 3])).unwrap();
        println!("{:?} {:?}", losses.argmax(&session).unwrap(), start.elapsed());
        let start = std::time::Instant::now();
        for i in 0..20 {
            session
                .step(&Batch {
                    tokens: vec![Token { id: 5, sequence: 0, position: 3 + i }],
                    outputs: vec![0],
                })
                .unwrap();
            losses.argmax(&session).unwrap();
        }
        println!("20 tokens {:?} dispatches {}", start.elapsed(), session.dispatches());
    }
}
