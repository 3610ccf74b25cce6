//! Cholesky factors that grow by a row.

/// The lower triangular `l` of a positive definite `a = l lᵀ`, row after row without the zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Cholesky {
    rows: usize,
    l: Vec<f64>,
}

impl Cholesky {
    /// Of the symmetric matrix with the elements `a(i, j)`, `j <= i`.
    pub(super) fn new(n: usize, a: impl Fn(usize, usize) -> f64) -> Self {
        let mut factor = Self { rows: 0, l: Vec::with_capacity(n * (n + 1) / 2) };
        for i in 0..n {
            let row: Vec<f64> = (0..=i).map(|j| a(i, j)).collect();
            factor.push(&row[..i], row[i]);
        }
        factor
    }

    /// One more row of the matrix: its elements left of the diagonal, and that on it. What rounding makes of a
    /// singular matrix stays positive.
    pub(super) fn push(&mut self, left: &[f64], diagonal: f64) {
        let row = self.forward(left);
        let rest = diagonal - row.iter().map(|x| x * x).sum::<f64>();
        self.l.extend(row);
        self.l.push(rest.max(diagonal.abs() * 1e-12).max(f64::MIN_POSITIVE).sqrt());
        self.rows += 1;
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.l[i * (i + 1) / 2..(i + 1) * (i + 2) / 2]
    }

    /// `x` with `l x = b`.
    pub(super) fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x = Vec::with_capacity(self.rows);
        for (i, b) in b.iter().enumerate() {
            let row = self.row(i);
            x.push((b - dot(&row[..i], &x)) / row[i]);
        }
        x
    }

    /// `x` with `a x = b`.
    pub(super) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..self.rows).rev() {
            let row = self.row(i);
            x[i] /= row[i];
            let known = x[i];
            x[..i].iter_mut().zip(row).for_each(|(x, l)| *x -= l * known);
        }
        x
    }

    /// Logarithm of the determinant of `a`.
    pub(super) fn log_determinant(&self) -> f64 {
        (0..self.rows).map(|i| 2.0 * self.row(i)[i].ln()).sum()
    }

    /// `l x`: a normal vector with covariance `a` out of a standard one.
    pub(super) fn times(&self, x: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|i| dot(self.row(i), x)).collect()
    }
}

/// Four sums side by side, which the compiler turns into vector instructions.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let (a, b) = (a[..n].chunks_exact(4), b[..n].chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in a.zip(b) {
        for k in 0..4 {
            sums[k] += a[k] * b[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_solve() {
        let n = 9;
        let a = |i: usize, j: usize| 0.5f64.powi(i.abs_diff(j) as i32) + if i == j { i as f64 } else { 0.0 };
        let factor = Cholesky::new(n, a);
        let b: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let x = factor.solve(&b);
        for (i, b) in b.iter().enumerate() {
            let product: f64 = (0..n).map(|j| a(i, j) * x[j]).sum();
            assert!((product - b).abs() < 1e-12, "{product} against {b}");
        }
        // l of l x = b.
        let again = factor.times(&factor.forward(&b));
        assert!(again.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
