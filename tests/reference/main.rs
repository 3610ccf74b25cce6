//! The CPU reference against independent truth: hand-computed cases, closed forms, outputs of the QLinear
//! layer in PyTorch, and logits and texts of real checkpoints computed with PyTorch.

mod executor;
mod models;
mod ops;
mod quantized;

/// Values in (-1, 1) that look random and are the same everywhere (a linear congruential generator).
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Asserts `|got - want| <= tolerance * (1 + |want|)` for every element.
fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= tolerance * (1.0 + w.abs()), "element {i}: got {g}, want {w}");
    }
}
