//! How far a result is from the truth.

/// Two vectors of f32 compared: `got` with `want`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// All elements equal; NaN equals NaN and -0 equals +0.
    pub exact: bool,
    /// Largest `|got - want|`; infinite where exactly one side is not finite or the infinities differ.
    pub max_abs: f64,
    /// Where it is (the first such element; 0 when all are equal).
    pub index: usize,
    /// `sum (got - want)^2 / sum want^2`; infinite with `max_abs`, or where `want` is 0 and `got` is not.
    pub nmse: f64,
}

impl Comparison {
    /// Compares element by element. Vectors of different lengths are infinitely far apart, at the end of
    /// the shorter one.
    pub fn new(got: &[f32], want: &[f32]) -> Self {
        if got.len() != want.len() {
            let index = got.len().min(want.len());
            return Self { exact: false, max_abs: f64::INFINITY, index, nmse: f64::INFINITY };
        }
        let mut comparison = Self { exact: true, max_abs: 0.0, index: 0, nmse: 0.0 };
        let (mut error, mut power) = (0.0, 0.0);
        for (index, (&g, &w)) in got.iter().zip(want).enumerate() {
            let same = g == w || (g.is_nan() && w.is_nan());
            let difference = match (same, g.is_finite() && w.is_finite()) {
                (true, _) => 0.0,
                (false, true) => (f64::from(g) - f64::from(w)).abs(),
                (false, false) => f64::INFINITY,
            };
            comparison.exact &= same;
            if difference > comparison.max_abs {
                (comparison.max_abs, comparison.index) = (difference, index);
            }
            error += difference * difference;
            if w.is_finite() {
                power += f64::from(w) * f64::from(w);
            }
        }
        comparison.nmse = if error == 0.0 { 0.0 } else { error / power };
        comparison
    }
}

/// `sum (got - want)^2 / sum want^2`, see [`Comparison::nmse`].
pub fn nmse(got: &[f32], want: &[f32]) -> f64 {
    Comparison::new(got, want).nmse
}
