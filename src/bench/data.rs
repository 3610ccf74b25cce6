//! Random data: the same in every run, made in parallel.

use rayon::prelude::*;

/// Values of one stream.
const BLOCK: usize = 4096;

/// SplitMix64 (Steele et al. 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `n` bell-shaped values of about unit spread: sums of four uniform ones.
pub(super) fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0f32; n];
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (block as u64).rotate_left(32);
        for value in values {
            let bits = next(&mut state);
            let sum: u32 = (0..4).map(|part| (bits >> (16 * part)) as u32 & 0xffff).sum();
            *value = (sum as f32 - 2.0 * 65535.0) / 65535.0 * 1.732;
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_no_mean_and_unit_spread_and_differ_by_seed() {
        let v = values(100_000, 1);
        let mean = v.iter().sum::<f32>() / 1e5;
        let square = v.iter().map(|v| v * v).sum::<f32>() / 1e5;
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.03, "{mean} {square}");
        assert_eq!(v, values(100_000, 1));
        assert_ne!(v[..8], values(8, 2)[..]);
    }
}
