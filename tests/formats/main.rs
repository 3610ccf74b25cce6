//! Formats against the output of the programs that define them, and against brute force in f64.

mod blocks;
mod cases;
mod elementwise;
mod ggml;
mod golden;
mod layers;
mod microscaling;
mod packed;
mod programs;
mod spec;
mod upstream;

use anybit::format::{Format, Packed, Scope};

/// Bit-exact, with NaN == NaN and -0 == +0.
fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(g == w || (g.is_nan() && w.is_nan()), "{what}: element {i}: got {g:e}, want {w:e}");
    }
}

fn integer_codes(packed: &Packed) -> Vec<i8> {
    let mut codes = vec![0; packed.rows * packed.cols];
    for (row, out) in codes.chunks_mut(packed.cols).enumerate() {
        packed.integer_codes(row, out);
    }
    codes
}

fn int(bits: u8) -> Format {
    Format::Int { bits, scope: Scope::Tensor }
}

/// A deterministic matrix with a wide range of magnitudes, zeros and a zero group.
fn weights(rows: usize, cols: usize) -> Vec<f32> {
    let mut state = 7u64;
    (0..rows * cols)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let size = [1.0, 0.02, 3.0, 1e-3][(state >> 30) as usize % 4];
            if i % 17 == 0 || (64..96).contains(&i) { 0.0 } else { uniform * size }
        })
        .collect()
}

fn message(result: anybit::Result<impl Sized>) -> String {
    match result {
        Ok(_) => panic!("want an error"),
        Err(error) => error.to_string(),
    }
}
