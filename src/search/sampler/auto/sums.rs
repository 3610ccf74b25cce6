//! Costs that add up over the dimensions and are known only by measurement: latency, nominal sizes.

use super::linear::Cholesky;

/// `constant + sum of table[d][c]`.
pub(super) struct Sums {
    constant: f64,
    /// `[dimension][candidate]`.
    pub(super) table: Vec<Vec<f64>>,
}

/// Deviations: of the constant and of the cost per byte, in units of their means; of what a candidate deviates from
/// that, as a share; of a measurement.
const CONSTANT: f64 = 1.0;
const SLOPE: f64 = 1.0;
const CANDIDATE: f64 = 0.5;
const MEASUREMENT: f64 = 1e-3;

impl Sums {
    /// The likeliest ones, if a priori costs are in proportion to `bytes` but for normal deviations (ridge regression
    /// in its dual form).
    pub(super) fn fit(bytes: &[Vec<u64>], points: &[&[usize]], values: &[f64]) -> Self {
        let size = |point: &[usize]| bytes.iter().zip(point).map(|(row, &c)| row[c] as f64).sum::<f64>();
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let mean = values.sum::<f64>() / points.len().max(1) as f64;
            if mean > 0.0 { mean } else { 1.0 }
        };
        let (unit, value) = (mean(&mut points.iter().map(|p| size(p))), mean(&mut values.iter().copied()));
        let sizes: Vec<f64> = points.iter().map(|point| size(point) / unit).collect();
        let least = 0.01 / bytes.len().max(1) as f64;
        let own = |d: usize, c: usize| (CANDIDATE * bytes[d][c] as f64 / unit + least).powi(2);
        let covariance = |i: usize, j: usize| {
            let common = points[i].iter().zip(points[j]).enumerate().filter(|(_, (a, b))| a == b);
            let own: f64 = common.map(|(d, (&c, _))| own(d, c)).sum();
            let measurement = if i == j { MEASUREMENT * MEASUREMENT } else { 0.0 };
            CONSTANT * CONSTANT + SLOPE * SLOPE * sizes[i] * sizes[j] + own + measurement
        };
        let gaps: Vec<f64> = values.iter().zip(&sizes).map(|(v, size)| v / value - size).collect();
        let weights = Cholesky::new(points.len(), covariance).solve(&gaps);
        let slope = 1.0 + SLOPE * SLOPE * weights.iter().zip(&sizes).map(|(w, size)| w * size).sum::<f64>();
        let mut table: Vec<Vec<f64>> = bytes.iter().map(|row| vec![0.0; row.len()]).collect();
        for (point, weight) in points.iter().zip(&weights) {
            point.iter().enumerate().for_each(|(d, &c)| table[d][c] += weight);
        }
        for (d, row) in table.iter_mut().enumerate() {
            for (c, cost) in row.iter_mut().enumerate() {
                *cost = value * (slope * bytes[d][c] as f64 / unit + own(d, c) * *cost);
            }
        }
        Self { constant: value * CONSTANT * CONSTANT * weights.iter().sum::<f64>(), table }
    }

    pub(super) fn of(&self, point: &[usize]) -> f64 {
        self.constant + self.table.iter().zip(point).map(|(row, &c)| row[c]).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::space::Rng;
    use super::*;

    #[test]
    fn sums_are_found() {
        let mut rng = Rng::new(1, 1);
        let bytes = vec![vec![1000, 2000, 4000]; 12];
        let truth: Vec<Vec<f64>> =
            bytes.iter().map(|row| row.iter().map(|&b| b as f64 * (0.5 + rng.unit())).collect()).collect();
        let of = |point: &[usize]| 3000.0 + truth.iter().zip(point).map(|(row, &c)| row[c]).sum::<f64>();
        let mut point = || -> Vec<usize> { (0..12).map(|_| rng.below(3)).collect() };
        let points: Vec<Vec<usize>> = (0..60).map(|_| point()).collect();
        let slices: Vec<&[usize]> = points.iter().map(Vec::as_slice).collect();
        let values: Vec<f64> = points.iter().map(|p| of(p)).collect();
        let sums = Sums::fit(&bytes, &slices, &values);
        for _ in 0..20 {
            let other = point();
            assert!((sums.of(&other) / of(&other) - 1.0).abs() < 0.01, "{} {}", sums.of(&other), of(&other));
        }
        assert!(Sums::fit(&bytes, &[], &[]).of(&[0; 12]).is_finite());
    }
}
