//! Quantiles, best values so far, and hypervolumes.

use crate::search::sampler::pareto;

/// The least value up to each place; infinite before the first number. What is not a number counts for nothing.
pub fn best_so_far(values: &[f64]) -> Vec<f64> {
    let least = |best: &mut f64, value: &f64| {
        *best = best.min(*value);
        Some(*best)
    };
    values.iter().scan(f64::INFINITY, least).collect()
}

/// The `q`-quantile, 0 to 1, interpolated between the two nearest of the sorted values; infinite for no values.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::INFINITY };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    // Where both are infinite their difference is no number.
    if low == high { low } else { low + (high - low) * place.fract() }
}

/// Those of `points` that no other one is as good as in both coordinates, by the first one.
pub(super) fn staircase(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<(f64, f64)> = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut least = f64::INFINITY;
    sorted.retain(|point| {
        let is_better = point.1 < least;
        least = least.min(point.1);
        is_better
    });
    sorted
}

/// A coordinate between its extremes: 0 at the least value, 1 at the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    low: f64,
    high: f64,
    pub(super) log: bool,
}

impl Span {
    /// Over all finite `values`; by the logarithm where they are positive and span more than `binades` binades.
    pub(super) fn new(values: impl Iterator<Item = f64>, binades: f64) -> Option<Self> {
        let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = values.filter(|value| value.is_finite()).fold(none, ends);
        let log = low > 0.0 && high / low > binades.exp2();
        (low <= high).then_some(Self { low, high, log })
    }

    pub(super) fn share(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.max(self.low).ln() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        if high > low { (scale(value) - low) / (high - low) } else { 0.0 }
    }
}

/// Reference of relative hypervolumes: beyond the greatest value, so that the extremes of a front count too.
const BEYOND: f64 = 1.1;

/// Hypervolume as a share of the box from the least to a tenth beyond the greatest value of each coordinate.
pub(super) fn relative_hypervolume(points: &[Vec<f64>], spans: &[Span]) -> f64 {
    let scaled = |point: &Vec<f64>| point.iter().zip(spans).map(|(&value, span)| span.share(value)).collect();
    let scaled: Vec<Vec<f64>> = points.iter().map(scaled).collect();
    pareto::hypervolume(&scaled, &vec![BEYOND; spans.len()]) / BEYOND.powi(spans.len() as i32)
}

/// After each of `values` the [`relative_hypervolume`] of it and those before it; `None` adds nothing.
pub(super) fn volumes_so_far<'a>(
    values: impl Iterator<Item = Option<&'a Vec<f64>>>,
    spans: &[Span],
) -> Vec<f64> {
    let covers = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a <= b);
    let (mut front, mut volume): (Vec<Vec<f64>>, f64) = (Vec::new(), 0.0);
    let after = |value: Option<&Vec<f64>>| {
        if let Some(value) = value.filter(|value| !front.iter().any(|other| covers(other, value))) {
            front.retain(|other| !covers(value, other));
            front.push(value.clone());
            volume = relative_hypervolume(&front, spans);
        }
        volume
    };
    values.map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_best() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.25), 1.25);
        assert_eq!(quantile(&[f64::INFINITY, f64::INFINITY], 0.5), f64::INFINITY);
        assert_eq!(quantile(&[], 0.5), f64::INFINITY);
        assert_eq!(best_so_far(&[f64::NAN, 2.0, 3.0, 1.0]), [f64::INFINITY, 2.0, 2.0, 1.0]);
        assert_eq!(
            staircase(&[(2.0, 1.0), (1.0, 3.0), (1.0, 2.0), (3.0, 1.0), (4.0, 0.5)]),
            [(1.0, 2.0), (2.0, 1.0), (4.0, 0.5)]
        );
    }

    #[test]
    fn volumes_grow_with_the_front_only() {
        let spans = [Span::new([0.0, 10.0].into_iter(), 3.0).unwrap(); 2];
        let values = [None, Some(vec![5.0, 5.0]), Some(vec![6.0, 5.0]), None, Some(vec![0.0, 10.0])];
        let got = volumes_so_far(values.iter().map(Option::as_ref), &spans);
        // 0.6 x 0.6 of 1.1 x 1.1, then another 0.5 x 0.1.
        let want = [0.0, 0.36, 0.36, 0.36, 0.41].map(|area| area / 1.21);
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{got:?}");
    }

    #[test]
    fn spans() {
        let span = Span::new([1.0, 100.0, f64::NAN].into_iter(), 3.0).unwrap();
        assert!(span.log);
        assert!((span.share(10.0) - 0.5).abs() < 1e-12);
        let flat = Span::new([2.0, 2.0].into_iter(), 3.0).unwrap();
        assert_eq!(flat.share(2.0), 0.0);
        assert_eq!(Span::new(std::iter::empty(), 3.0), None);
        let spans = [Span::new([0.0, 1.0].into_iter(), 3.0).unwrap(); 2];
        assert!((relative_hypervolume(&[vec![0.0, 0.0]], &spans) - 1.0).abs() < 1e-12);
    }
}
