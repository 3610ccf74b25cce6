//! Several things to minimise at once: dominance, ranks, crowding, hypervolume.
//!
//! A value that is not a number counts as infinite.

use std::cmp::Ordering;

/// Whether `a` is at least as good as `b` in everything and better in something.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (&a, &b) in a.iter().zip(b) {
        match order(a, b) {
            Ordering::Greater => return false,
            Ordering::Less => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// The rank of each point: 0 where no other dominates it, else one more than the highest rank among those that do
/// (nondominated sorting of Deb et al. 2002, by the binary search of Zhang et al. 2015).
pub fn ranks(values: &[Vec<f64>]) -> Vec<usize> {
    let mut fronts: Vec<Vec<usize>> = Vec::new();
    let mut ranks = vec![0; values.len()];
    // In lexicographic order no point dominates an earlier one.
    for i in lexicographic(values) {
        let is_dominated = |front: &Vec<usize>| {
            // The latest ones are nearest, and of two values the last one has the least second value.
            let members = front.iter().rev().take(if values[i].len() <= 2 { 1 } else { front.len() });
            members.into_iter().any(|&j| dominates(&values[j], &values[i]))
        };
        let rank = fronts.partition_point(is_dominated);
        if rank == fronts.len() {
            fronts.push(Vec::new());
        }
        fronts[rank].push(i);
        ranks[i] = rank;
    }
    ranks
}

/// Indices of the points that no other dominates, in their order; equal points are all kept.
pub fn front(values: &[Vec<f64>]) -> Vec<usize> {
    ranks(values).iter().enumerate().filter(|&(_, &rank)| rank == 0).map(|(i, _)| i).collect()
}

/// Crowding distances of the points of one front (Deb et al. 2002): per value the distance between the neighbours
/// over the range, summed; infinite for the ends.
pub fn crowding(values: &[Vec<f64>]) -> Vec<f64> {
    let mut distances = vec![0.0; values.len()];
    for m in 0..values.first().map_or(0, Vec::len) {
        let mut sorted: Vec<usize> = (0..values.len()).collect();
        sorted.sort_by(|&a, &b| order(values[a][m], values[b][m]));
        let at = |i: usize| values[sorted[i]][m];
        let range = at(sorted.len() - 1) - at(0);
        for (i, &point) in sorted.iter().enumerate() {
            if i == 0 || i + 1 == sorted.len() {
                distances[point] = f64::INFINITY;
            } else if range > 0.0 && range.is_finite() {
                distances[point] += (at(i + 1) - at(i - 1)) / range;
            }
        }
    }
    distances
}

/// The volume that `values` dominate within `reference` (smaller is better in each); points that are not below it in
/// everything add nothing. Exact: a sweep for two values, for more by slices of the last one (While et al. 2006).
pub fn hypervolume(values: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = |v: &&[f64]| v.iter().zip(reference).all(|(a, r)| a < r);
    let points: Vec<&[f64]> = values.iter().map(Vec::as_slice).filter(inside).collect();
    if reference.is_empty() { 0.0 } else { volume(points, reference) }
}

/// What `point` adds to the hypervolume of `others`: its own volume less what of it they share (While et al. 2012).
pub fn exclusive(point: &[f64], others: &[Vec<f64>], reference: &[f64]) -> f64 {
    let is_inside = point.iter().zip(reference).all(|(p, r)| p < r);
    let covers = |other: &Vec<f64>| other.iter().zip(point).all(|(o, p)| o <= p);
    if !is_inside || others.iter().any(covers) {
        return 0.0;
    }
    let join = |other: &Vec<f64>| other.iter().zip(point).map(|(o, p)| o.max(*p)).collect();
    let shared: Vec<Vec<f64>> = others.iter().map(join).collect();
    let own: f64 = point.iter().zip(reference).map(|(p, r)| r - p).product();
    (own - hypervolume(&shared, reference)).max(0.0)
}

/// Of points below the reference; only the first `reference.len()` values count.
fn volume(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let (Some((&end, others)), false) = (reference.split_last(), points.is_empty()) else { return 0.0 };
    let last = others.len();
    if others.is_empty() {
        return end - points.iter().map(|p| p[0]).fold(f64::INFINITY, f64::min);
    }
    points.sort_by(|a, b| order(a[last], b[last]));
    if last == 1 {
        // From the least second value on, the first values that improve.
        let (mut area, mut best) = (0.0, others[0]);
        for p in points.iter().filter(|p| p[0].is_finite() && p[1].is_finite()) {
            if p[0] < best {
                area += (best - p[0]) * (end - p[1]);
                best = p[0];
            }
        }
        return area;
    }
    let mut total = 0.0;
    // Those of the slices so far that no other one covers.
    let mut kept: Vec<&[f64]> = Vec::new();
    for (i, &point) in points.iter().enumerate() {
        let covers = |a: &[f64], b: &[f64]| a[..last].iter().zip(b).all(|(a, b)| a <= b);
        if !kept.iter().any(|&k| covers(k, point)) {
            kept.retain(|k| !covers(point, k));
            kept.push(point);
        }
        let top = points.get(i + 1).map_or(end, |next| next[last]);
        if top > point[last] {
            total += (top - point[last]) * volume(kept.clone(), others);
        }
    }
    total
}

/// Indices in lexicographic order of the values; equal ones in their order.
pub(super) fn lexicographic(values: &[Vec<f64>]) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..values.len()).collect();
    sorted.sort_by(|&a, &b| {
        let orders = values[a].iter().zip(&values[b]).map(|(&a, &b)| order(a, b));
        orders.into_iter().find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    });
    sorted
}

/// Numbers in their order, what is none with infinity.
fn order(a: f64, b: f64) -> Ordering {
    let number = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
    number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small whole numbers, so that ties are common.
    fn points(values: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let point = proptest::collection::vec((0u8..7).prop_map(f64::from), values);
        proptest::collection::vec(point, 0..14)
    }

    /// Unit cells of `[0, 7)^n` with a point at or below their lower corner.
    fn cells(points: &[Vec<f64>], values: usize) -> f64 {
        let cell = |mut i: u32| -> Vec<f64> { (0..values).map(|_| (f64::from(i % 7), i /= 7).0).collect() };
        let covered = |c: &Vec<f64>| points.iter().any(|p| p.iter().zip(c).all(|(p, c)| p <= c));
        (0..7u32.pow(values as u32)).map(cell).filter(covered).count() as f64
    }

    fn check(points: &[Vec<f64>], values: usize) {
        let ranks = ranks(points);
        for (i, p) in points.iter().enumerate() {
            let above = (0..points.len()).filter(|&j| dominates(&points[j], p)).map(|j| ranks[j] + 1).max();
            assert_eq!(ranks[i], above.unwrap_or(0), "{points:?}");
        }
        let reference = vec![7.0; values];
        assert_eq!(hypervolume(points, &reference), cells(points, values), "{points:?}");
        if let Some((last, others)) = points.split_last() {
            let adds = cells(points, values) - cells(others, values);
            assert_eq!(exclusive(last, others, &reference), adds, "{points:?}");
        }
    }

    proptest! {
        #[test]
        fn ranks_and_volumes_are_those_of_the_definition(
            one in points(1), two in points(2), three in points(3), four in points(4),
        ) {
            check(&one, 1);
            check(&two, 2);
            check(&three, 3);
            check(&four, 4);
        }
    }

    #[test]
    fn numbers_by_hand() {
        let points = [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0]].map(|p| p.to_vec());
        assert_eq!(hypervolume(&points, &[4.0, 4.0]), 6.0);
        assert_eq!(hypervolume(&points, &[1.0, 9.0]), 0.0);
        assert_eq!(front(&points), [0, 1, 2]);
        assert_eq!(crowding(&points[..3]), [f64::INFINITY, 2.0, f64::INFINITY]);
        let odd = [vec![f64::NAN, 1.0], vec![2.0, f64::INFINITY], vec![2.0, 2.0]];
        assert_eq!(ranks(&odd), [0, 1, 0]);
        assert_eq!(hypervolume(&odd, &[3.0, 3.0]), 1.0);
        assert!(crowding(&[]).is_empty() && ranks(&[]).is_empty() && hypervolume(&[], &[]) == 0.0);
    }
}
