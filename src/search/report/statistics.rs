//! Quantiles, best values so far, and hypervolumes.

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

/// Volume that `points` dominate within the box up to `reference`, all coordinates minimised (Zitzler & Thiele
/// 1998), by slices along one coordinate after the other (While et al. 2006). Points beyond the box, or not finite,
/// count for nothing.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let is_inside = |point: &&Vec<f64>| {
        point.len() == reference.len()
            && point.iter().zip(reference).all(|(value, end)| value.is_finite() && value < end)
    };
    let inside: Vec<&[f64]> = points.iter().filter(is_inside).map(Vec::as_slice).collect();
    volume(inside, reference)
}

fn volume(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let Some((&end, rest)) = reference.split_last() else { return 0.0 };
    let last = rest.len();
    if last == 0 {
        return points.iter().map(|point| end - point[0]).fold(0.0, f64::max);
    }
    points.sort_by(|a, b| a[last].total_cmp(&b[last]));
    let mut sum = 0.0;
    let mut slice: Vec<&[f64]> = Vec::new();
    for (i, &point) in points.iter().enumerate() {
        // What another point of the slice dominates adds nothing to it.
        if !slice.iter().any(|other| dominates(&other[..last], &point[..last])) {
            slice.retain(|other| !dominates(&point[..last], &other[..last]));
            slice.push(point);
        }
        let height = points.get(i + 1).map_or(end, |next| next[last]) - point[last];
        if height > 0.0 {
            sum += height * volume(slice.clone(), rest);
        }
    }
    sum
}

/// Whether `a` is nowhere worse than `b`.
pub(super) fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
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
    hypervolume(&scaled, &vec![BEYOND; spans.len()]) / BEYOND.powi(spans.len() as i32)
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
    fn hypervolumes_are_counted_cells() {
        assert_eq!(hypervolume(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[3.0, 3.0]), 3.0);
        assert_eq!(hypervolume(&[vec![3.0, 0.0], vec![4.0, -1.0]], &[3.0, 3.0]), 0.0);
        assert_eq!(hypervolume(&[], &[3.0]), 0.0);
        assert_eq!(hypervolume(&[vec![1.0], vec![2.0]], &[3.0]), 2.0);
        // Against a count of unit cells.
        let points: Vec<Vec<f64>> =
            (0..12u32).map(|i| [i * 7 % 11, i * 5 % 11, i * 3 % 11].map(f64::from).to_vec()).collect();
        let mut cells = 0;
        for cell in 0..1000u32 {
            let cell = [cell % 10, cell / 10 % 10, cell / 100].map(f64::from);
            cells += u32::from(points.iter().any(|point| dominates(point, &cell)));
        }
        assert_eq!(hypervolume(&points, &[10.0; 3]), f64::from(cells));
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
