//! The multiple-choice knapsack: one candidate per dimension, least summed cost within a budget of bytes.
//!
//! Exact, by dynamic programming over lists of states that no other dominates (Nemhauser and Ullmann 1969), cut by
//! the Lagrangian bound of the linear relaxation (Sinha and Zoltners 1979; Dyer, Kayal and Walker 1984): with the
//! multiplier `l` of the relaxation, a candidate that is `r = cost + l bytes` worse than the best one of its dimension
//! makes every solution `r` worse than the bound, so what adds up to more than the gap between the bound and a known
//! solution is dropped.

use crate::error::{Result, invalid};

/// States of one dimension beyond which sizes are rounded.
const MOST_STATES: usize = 100_000;

/// A solution.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Candidate of each dimension.
    pub point: Vec<usize>,
    /// Sum of their bytes, within the budget.
    pub bytes: u64,
    /// Sum of their costs.
    pub cost: f64,
    /// Whether no other selection costs less (but for the rounding of sums of f64).
    pub exact: bool,
}

/// The selection of least cost whose bytes add up to at most `budget`, `None` where none does; `[dimension][candidate]`
/// both. Candidates of infinite cost are never selected.
///
/// Where the lists of states outgrow 100,000, sizes are rounded up to a 50,000th of the budget: the selection fits for
/// certain but another might be better, and it says so.
///
/// # Errors
/// When the tables have different shapes, or a cost is NaN or negatively infinite.
pub fn solve(bytes: &[Vec<u64>], cost: &[Vec<f64>], budget: Option<u64>) -> Result<Option<Selection>> {
    if bytes.len() != cost.len() || bytes.iter().zip(cost).any(|(b, c)| b.len() != c.len()) {
        invalid!("a knapsack has sizes and costs of different shapes; want one of each per candidate");
    }
    if cost.iter().flatten().any(|cost| cost.is_nan() || *cost == f64::NEG_INFINITY) {
        invalid!(
            "a knapsack has a cost that is not a number; want finite ones, or infinity for what cannot be"
        );
    }
    let budget = budget.unwrap_or(u64::MAX);
    let classes: Vec<Class> =
        bytes.iter().zip(cost).map(|(bytes, cost)| undominated(bytes, cost, 1)).collect();
    let Some(greedy) = Relaxation::new(&classes, budget) else { return Ok(None) };
    let (point, exact) = match greedy.improve(&classes, budget, MOST_STATES) {
        Ok(better) => (better.unwrap_or(greedy.point), true),
        Err(TooMany) => {
            let unit = (budget / (MOST_STATES as u64 / 2)).max(1);
            let rounded = bytes.iter().zip(cost).map(|(bytes, cost)| undominated(bytes, cost, unit));
            let rounded: Vec<Class> = rounded.collect();
            let coarse = Relaxation::new(&rounded, budget);
            let coarse =
                coarse.map(|c| c.improve(&rounded, budget, usize::MAX).ok().flatten().unwrap_or(c.point));
            let total = |point: &Vec<usize>| sum(cost, point);
            let best = coarse.into_iter().chain([greedy.point]).min_by(|a, b| total(a).total_cmp(&total(b)));
            (best.unwrap_or_default(), false)
        }
    };
    let total = bytes.iter().zip(&point).map(|(bytes, &choice)| bytes[choice]).sum();
    Ok(Some(Selection { bytes: total, cost: sum(cost, &point), point, exact }))
}

fn sum(cost: &[Vec<f64>], point: &[usize]) -> f64 {
    cost.iter().zip(point).map(|(cost, &choice)| cost[choice]).sum()
}

/// A candidate worth considering.
#[derive(Clone, Copy)]
struct Item {
    bytes: u64,
    cost: f64,
    choice: usize,
}

/// Candidates of one dimension, the bytes growing and the costs falling.
type Class = Vec<Item>;

/// The states became too many.
struct TooMany;

/// Finite candidates that no other dominates, bytes rounded up to multiples of `unit`.
fn undominated(bytes: &[u64], cost: &[f64], unit: u64) -> Class {
    let item = |choice: usize| {
        let bytes = bytes[choice].div_ceil(unit).saturating_mul(unit);
        Item { bytes, cost: cost[choice], choice }
    };
    let mut items: Vec<Item> = (0..bytes.len()).map(item).collect();
    items.retain(|item| item.cost.is_finite());
    items.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.cost.total_cmp(&b.cost)));
    let mut least = f64::INFINITY;
    items.retain(|item| {
        item.cost < least && {
            least = item.cost;
            true
        }
    });
    items
}

/// The linear relaxation, and the selection that its greedy solution yields.
struct Relaxation {
    point: Vec<usize>,
    cost: f64,
    /// Cost of a byte at the optimum of the relaxation; 0 where every dimension has its best.
    multiplier: f64,
}

impl Relaxation {
    /// `None` where nothing fits. Steps along the lower convex hulls, those that save most per byte first: the first
    /// one that does not fit gives the multiplier, later ones that do fit improve the selection.
    fn new(classes: &[Class], budget: u64) -> Option<Self> {
        let mut at: Vec<usize> = vec![0; classes.len()];
        let mut left = budget;
        let mut steps: Vec<(f64, usize, usize, usize)> = Vec::new();
        for (d, class) in classes.iter().enumerate() {
            left = left.checked_sub(class.first()?.bytes)?;
            let mut from = 0;
            while from + 1 < class.len() {
                let slope = |to: usize| {
                    (class[from].cost - class[to].cost) / (class[to].bytes - class[from].bytes) as f64
                };
                let to = (from + 1..class.len()).max_by(|&a, &b| slope(a).total_cmp(&slope(b)))?;
                steps.push((slope(to), d, from, to));
                from = to;
            }
        }
        steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut multiplier = 0.0;
        for (slope, d, from, to) in steps {
            let more = classes[d][to].bytes - classes[d][from].bytes;
            if at[d] == from && more <= left {
                left -= more;
                at[d] = to;
            } else if multiplier == 0.0 {
                multiplier = slope;
            }
        }
        let point = classes.iter().zip(&at).map(|(class, &i)| class[i].choice).collect();
        let cost = classes.iter().zip(&at).map(|(class, &i)| class[i].cost).sum();
        Some(Self { point, cost, multiplier })
    }

    /// A selection that costs less, `None` where there is none.
    fn improve(
        &self,
        classes: &[Class],
        budget: u64,
        most_states: usize,
    ) -> std::result::Result<Option<Vec<usize>>, TooMany> {
        if self.multiplier == 0.0 {
            return Ok(None);
        }
        let price = |item: &Item| item.cost + self.multiplier * item.bytes as f64;
        let least: Vec<f64> =
            classes.iter().map(|class| class.iter().map(price).fold(f64::INFINITY, f64::min)).collect();
        let gap = self.cost - (least.iter().sum::<f64>() - self.multiplier * budget as f64);
        // What is left of each class within the gap, and the bytes all classes from one on can have.
        let within = |(class, least): (&Class, &f64)| -> Class {
            class.iter().filter(|item| price(item) - least < gap).copied().collect()
        };
        let classes: Vec<Class> = classes.iter().zip(&least).map(within).collect();
        let mut range = vec![(0u64, 0u64); classes.len() + 1];
        for (d, class) in classes.iter().enumerate().rev() {
            let (Some(first), Some(last)) = (class.first(), class.last()) else { return Ok(None) };
            range[d] = (range[d + 1].0 + first.bytes, range[d + 1].1.saturating_add(last.bytes));
        }
        // Of every class the states after it: bytes, cost, worse than the bound by, state before and item.
        let mut stages: Vec<Vec<(u32, u32)>> = Vec::new();
        let mut states = vec![State { bytes: 0, cost: 0.0, worse: 0.0, from: (0, 0) }];
        for (d, class) in classes.iter().enumerate() {
            let (fewest, most) = range[d + 1];
            let mut next: Vec<State> = Vec::with_capacity(states.len() * class.len());
            for (i, item) in class.iter().enumerate() {
                let worse = price(item) - least[d];
                next.extend(states.iter().enumerate().filter_map(|(s, state)| {
                    let (bytes, worse) = (state.bytes + item.bytes, state.worse + worse);
                    let unused = budget.saturating_sub(most.saturating_add(bytes)) as f64 * self.multiplier;
                    let can_win = bytes + fewest <= budget && worse + unused < gap;
                    can_win.then_some(State {
                        bytes,
                        cost: state.cost + item.cost,
                        worse,
                        from: (s as u32, i as u32),
                    })
                }));
            }
            next.sort_unstable_by(|a, b| {
                a.bytes.cmp(&b.bytes).then(a.cost.total_cmp(&b.cost)).then(a.from.cmp(&b.from))
            });
            let mut cheapest = f64::INFINITY;
            next.retain(|state| {
                state.cost < cheapest && {
                    cheapest = state.cost;
                    true
                }
            });
            if next.len() > most_states {
                return Err(TooMany);
            }
            stages.push(next.iter().map(|state| state.from).collect());
            states = next;
        }
        // The last state is the cheapest.
        let Some(mut at) = states.len().checked_sub(1).filter(|&last| states[last].cost < self.cost) else {
            return Ok(None);
        };
        let mut point = vec![0; classes.len()];
        for (d, stage) in stages.iter().enumerate().rev() {
            let (from, item) = stage[at];
            point[d] = classes[d][item as usize].choice;
            at = from as usize;
        }
        Ok(Some(point))
    }
}

/// The first dimensions, decided.
struct State {
    bytes: u64,
    cost: f64,
    /// How much more than the bound it costs at least.
    worse: f64,
    /// State before and item of this dimension.
    from: (u32, u32),
}

#[cfg(test)]
mod tests {
    use super::super::space::Rng;
    use super::*;
    use proptest::prelude::*;

    type Table = (Vec<Vec<u64>>, Vec<Vec<f64>>);

    fn table() -> impl Strategy<Value = Table> {
        let candidate = (0u64..30, prop_oneof![5 => -10i32..40, 1 => Just(1000)]);
        let row = proptest::collection::vec(candidate, 1..5);
        proptest::collection::vec(row, 0..6).prop_map(|rows| {
            let cost = |&(_, c): &(u64, i32)| if c == 1000 { f64::INFINITY } else { f64::from(c) / 8.0 };
            let bytes = rows.iter().map(|row| row.iter().map(|c| c.0).collect()).collect();
            (bytes, rows.iter().map(|row| row.iter().map(cost).collect()).collect())
        })
    }

    /// The least cost of all selections.
    fn brute_force(bytes: &[Vec<u64>], cost: &[Vec<f64>], budget: u64) -> Option<f64> {
        let mut all = vec![(0u64, 0.0f64)];
        for (bytes, cost) in bytes.iter().zip(cost) {
            let with = |&(b, c): &(u64, f64)| -> Vec<(u64, f64)> {
                bytes.iter().zip(cost).map(|(x, y)| (b + x, c + y)).collect()
            };
            all = all.iter().flat_map(with).collect();
        }
        let fitting = all.into_iter().filter(|&(b, c)| b <= budget && c.is_finite()).map(|(_, c)| c);
        fitting.min_by(f64::total_cmp)
    }

    proptest! {
        #[test]
        fn selections_are_the_best((bytes, cost) in table(), budget in 0u64..100) {
            for limit in [Some(budget), None] {
                let got = solve(&bytes, &cost, limit).unwrap();
                let want = brute_force(&bytes, &cost, limit.unwrap_or(u64::MAX));
                prop_assert_eq!(got.as_ref().map(|s| s.cost), want);
                if let Some(s) = got {
                    prop_assert!(s.exact && limit.is_none_or(|most| s.bytes <= most));
                    prop_assert_eq!(s.bytes, bytes.iter().zip(&s.point).map(|(b, &c)| b[c]).sum::<u64>());
                }
            }
        }
    }

    /// Dimensions with bytes of `n` to `width * n`, costs that fall by about a factor of four per step.
    fn layers(seed: u64, dimensions: usize, candidates: usize, unit: impl Fn(&mut Rng) -> u64) -> Table {
        let mut rng = Rng::new(seed, 0);
        let (mut bytes, mut cost) = (vec![], vec![]);
        for _ in 0..dimensions {
            let (unit, harm) = (unit(&mut rng), (1.5 * rng.normal()).exp());
            bytes.push((0..candidates as u64).map(|c| (c + 2) * unit).collect());
            cost.push(
                (0..candidates).map(|c| harm * 0.25f64.powi(c as i32) * (0.3 * rng.normal()).exp()).collect(),
            );
        }
        (bytes, cost)
    }

    /// Against the table over all bytes.
    #[test]
    fn many_dimensions() {
        for seed in 0..20 {
            let (bytes, cost) = layers(seed, 42, 5, |rng| 1 + rng.below(9) as u64);
            let (least, most) =
                (bytes.iter().map(|b| b[0]).sum::<u64>(), bytes.iter().map(|b| b[4]).sum::<u64>());
            for share in 0..=6 {
                let budget = least + (most - least) * share / 6;
                let mut table = vec![0.0; budget as usize + 1];
                for (bytes, cost) in bytes.iter().zip(&cost) {
                    let best = |at: usize| {
                        let fits = bytes.iter().zip(cost).filter(|&(&b, _)| b as usize <= at);
                        fits.map(|(&b, c)| table[at - b as usize] + c).fold(f64::INFINITY, f64::min)
                    };
                    table = (0..=budget as usize).map(best).collect();
                }
                let got = solve(&bytes, &cost, Some(budget)).unwrap().unwrap();
                let want = table[budget as usize];
                assert!(got.exact && (got.cost - want).abs() < 1e-9 * want, "{} against {want}", got.cost);
            }
        }
    }

    /// Sizes without a common divisor, and costs that leave the bound no hold.
    #[test]
    fn rounded_sizes_still_fit() {
        let (bytes, mut cost) = layers(3, 60, 4, |rng| (1 << 32) + rng.below(1 << 31) as u64);
        let mut rng = Rng::new(9, 9);
        for (bytes, cost) in bytes.iter().zip(&mut cost) {
            *cost = bytes.iter().map(|&b| -(b as f64) * (1.0 + 1e-3 * rng.unit())).collect();
        }
        let budget = bytes.iter().map(|b| b[1]).sum::<u64>() + 12345;
        let got = solve(&bytes, &cost, Some(budget)).unwrap().unwrap();
        assert!(got.bytes <= budget, "{got:?}");
        println!("{} of {budget} bytes, exact: {}", got.bytes, got.exact);
        // Nothing costs less than 1.001 per byte.
        assert!(got.cost < -0.999 * budget as f64, "{got:?}");
    }

    #[test]
    fn wrong_tables_are_errors() {
        assert!(solve(&[vec![1]], &[], None).is_err());
        assert!(solve(&[vec![1]], &[vec![f64::NAN]], None).is_err());
        assert_eq!(solve(&[vec![1]], &[vec![f64::INFINITY]], None).unwrap(), None);
        assert_eq!(solve(&[vec![5]], &[vec![1.0]], Some(4)).unwrap(), None);
        assert_eq!(solve(&[], &[], Some(0)).unwrap().unwrap().point, Vec::<usize>::new());
    }
}
