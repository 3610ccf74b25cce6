//! Sums and quantiles in the order torch evaluates them.

const LANES: usize = 8;
const ROWS: usize = 4;
/// One vector register per accumulator.
type Accumulators = [[f32; LANES]; ROWS];

/// `torch.sum` of contiguous f32 on a CPU with 256-bit vectors: eight lanes, four accumulators of each,
/// partial sums over four levels (`aten/src/ATen/native/cpu/SumKernel.cpp`).
pub(super) fn torch_sum(values: impl Iterator<Item = f32>) -> f32 {
    let values: Vec<f32> = values.collect();
    let (vectors, tail) = values.as_chunks::<LANES>();
    let (blocks, rest) = vectors.as_chunks::<ROWS>();
    let [mut total, others @ ..] = cascade(blocks);
    let mut add = |b: &[f32; LANES]| total.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    rest.iter().chain(&others).for_each(&mut add);
    let tail = tail.iter().fold(0.0, |sum, x| sum + x);
    total.iter().fold(tail, |sum, x| sum + x)
}

/// Sums of `2^power` blocks, then sums of `2^power` of those, and so on.
fn cascade(blocks: &[Accumulators]) -> Accumulators {
    const LEVELS: usize = 4;
    let add = |a: &mut Accumulators, b: &Accumulators| {
        a.as_flattened_mut().iter_mut().zip(b.as_flattened()).for_each(|(a, b)| *a += b);
    };
    let power = (blocks.len().max(2).next_power_of_two().ilog2() as usize / LEVELS).max(4);
    let mut sums = [Accumulators::default(); LEVELS];
    let (steps, rest) = blocks.split_at(blocks.len() >> power << power);
    for (index, step) in steps.chunks(1 << power).enumerate() {
        step.iter().for_each(|block| add(&mut sums[0], block));
        for level in 1..LEVELS {
            let lower = std::mem::take(&mut sums[level - 1]);
            add(&mut sums[level], &lower);
            let done = (index + 1) << power;
            if done >> (level * power) & ((1 << power) - 1) != 0 {
                break;
            }
        }
    }
    rest.iter().for_each(|block| add(&mut sums[0], block));
    let [mut total, upper @ ..] = sums;
    upper.iter().for_each(|sum| add(&mut total, sum));
    total
}

/// `torch.quantile(values, q)`, linear: the values between ranks are interpolated in f32. NaN if any value
/// is.
pub(super) fn quantile(values: &mut [f32], q: f32) -> f32 {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    values.sort_unstable_by(f32::total_cmp);
    let rank = q * (values.len() - 1) as f32;
    let below = values[(rank.floor() as usize).min(values.len() - 1)];
    let above = values[(rank.ceil() as usize).min(values.len() - 1)];
    lerp(below, above, rank - rank.floor())
}

/// `torch.lerp`: counted from the nearer end. (Its vector loop fuses the multiplication, an ulp at most.)
fn lerp(start: f32, end: f32, weight: f32) -> f32 {
    if weight < 0.5 { start + weight * (end - start) } else { end - (end - start) * (1.0 - weight) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_any_length_are_sums() {
        for count in [0, 1, 7, 8, 31, 32, 33, 511, 512, 513, 20_000, 70_001] {
            let values = || (0..count).map(|i| (i % 5) as f32);
            assert_eq!(torch_sum(values()), values().sum::<f32>(), "{count}");
        }
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.0), 1.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 1.0), 3.0);
        assert_eq!(quantile(&mut [4.0, 1.0, 2.0, 8.0], 0.5), 3.0);
        assert!(quantile(&mut [1.0, f32::NAN], 0.0).is_nan() && quantile(&mut [], 0.5).is_nan());
    }
}
