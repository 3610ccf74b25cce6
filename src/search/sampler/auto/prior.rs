//! What is known of harm before anything is measured, and points seen through it.

/// Deviations of `theta`: of the mean of all, of the power of the noise, of a dimension.
pub(super) const MEAN: f64 = 3.0;
pub(super) const POWER: f64 = 0.2;
pub(super) const DIMENSION: f64 = 1.2;

/// Logarithms of harm as the noise has them.
pub(super) struct Prior {
    /// Deviation of the quality without harm from 0.
    pub(super) base_deviation: f64,
    /// Logarithms of the noise, `[dimension][candidate]`, and their mean.
    pub(super) noise: Vec<Vec<f64>>,
    pub(super) center: f64,
    /// What the logarithm of the noise lacks to that of the harm.
    scale: f64,
}

/// A point at which the sum of harms is linearised.
pub(super) struct Observed {
    pub(super) point: Vec<usize>,
    /// Harm of each dimension.
    pub(super) harm: Vec<f64>,
    /// Square roots of the harms and the choices, in fours for the vector units, padded with zeros.
    pub(super) root: Vec<[f64; 4]>,
    pub(super) choice: Vec<[f64; 4]>,
    /// Sum of the harms, and of the harms times the logarithms of the noise.
    pub(super) sum: f64,
    pub(super) power: f64,
    /// What its deviation from the sum is in proportion to.
    pub(super) size: f64,
}

impl Prior {
    /// For these measured points; the scale is that of the median.
    pub(super) fn new(noise: &[Vec<f64>], points: &[&[usize]], values: &[f64], base_deviation: f64) -> Self {
        let finite = noise.iter().flatten().filter(|noise| noise.is_finite() && **noise > 0.0);
        let most = finite.copied().fold(f64::MIN_POSITIVE, f64::max).ln();
        // No candidate is perfect: one without noise does as much harm as 16 more bits would leave.
        let log = |noise: &f64| match noise.is_finite() {
            true => noise.max(f64::MIN_POSITIVE).ln().clamp(most - 22.0, most),
            false => most,
        };
        let noise: Vec<Vec<f64>> = noise.iter().map(|row| row.iter().map(log).collect()).collect();
        let count = noise.iter().map(Vec::len).sum::<usize>().max(1);
        let center = noise.iter().flatten().sum::<f64>() / count as f64;
        let scale = |(point, value): (&&[usize], &f64)| {
            let sum: f64 = noise.iter().zip(*point).map(|(row, &c)| row[c].exp()).sum();
            value.max(1e-9).ln() - sum.ln()
        };
        let scale = median(points.iter().zip(values).map(scale).collect());
        let scale = scale.filter(|scale| scale.is_finite()).unwrap_or(0.0);
        Self { base_deviation, noise, center, scale }
    }

    /// Logarithms of harm, `[dimension][candidate]`.
    pub(super) fn theta(&self) -> Vec<Vec<f64>> {
        self.noise.iter().map(|row| row.iter().map(|noise| noise + self.scale).collect()).collect()
    }

    /// `point` at `theta`; without a `size` that of the sum.
    pub(super) fn observe(&self, theta: &[Vec<f64>], point: &[usize], size: Option<f64>) -> Observed {
        let harm: Vec<f64> = theta.iter().zip(point).map(|(row, &c)| row[c].exp()).collect();
        let logs = self.noise.iter().zip(point).map(|(row, &c)| row[c] - self.center);
        let power = harm.iter().zip(logs).map(|(harm, log)| harm * log).sum();
        let sum = harm.iter().sum();
        let root = fours(harm.iter().map(|harm| harm.sqrt()));
        let choice = fours(point.iter().map(|&c| c as f64));
        Observed { point: point.to_vec(), harm, root, choice, sum, power, size: size.unwrap_or(sum) }
    }
}

fn fours(values: impl Iterator<Item = f64>) -> Vec<[f64; 4]> {
    let values: Vec<f64> = values.collect();
    values.chunks(4).map(|chunk| std::array::from_fn(|k| chunk.get(k).copied().unwrap_or(0.0))).collect()
}

/// The upper median.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
