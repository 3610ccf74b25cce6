//! Signal-to-quantization-noise ratio: how far the weights of a format are from the weights they stand for.

use rayon::prelude::*;

use crate::error::{Error, Result, invalid};
use crate::format::Format;
use crate::graph::{Role, Weights};
use crate::model::{Model, TensorFile, matrices};

/// Sums over weights `w` and what a format makes of them, `q`, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sqnr {
    /// Number of weights.
    pub weights: u64,
    /// `sum of w^2`.
    pub signal: f64,
    /// `sum of (w - q)^2`; not finite where a `q` is not.
    pub noise: f64,
    /// Bytes that hold the `q`, exceptions included.
    pub bytes: u64,
}

impl Sqnr {
    /// Rounds a row-major matrix `[rows, cols]` and compares.
    ///
    /// # Errors
    /// As [`Format::encode`].
    pub fn of_matrix(format: Format, weights: &[f32], rows: usize, cols: usize) -> Result<Self> {
        let packed = format.encode(weights, rows, cols)?;
        let decoded = packed.decode();
        // Rows are summed by themselves and then in order, so that the result does not depend on the number of threads.
        let of_row = |(weights, decoded): (&[f32], &[f32])| {
            let pairs = weights.iter().zip(decoded).map(|(&w, &q)| (f64::from(w), f64::from(q)));
            pairs.fold((0.0, 0.0), |(signal, noise), (w, q)| (signal + w * w, noise + (w - q) * (w - q)))
        };
        let rows: Vec<(f64, f64)> =
            weights.par_chunks(cols).zip(decoded.par_chunks(cols)).map(of_row).collect();
        let (signal, noise) = rows.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Ok(Self { weights: weights.len() as u64, signal, noise, bytes: packed.bytes() as u64 })
    }

    /// Adds the sums of other weights.
    pub fn add(&mut self, other: Self) {
        self.weights += other.weights;
        self.signal += other.signal;
        self.noise += other.noise;
        self.bytes += other.bytes;
    }

    /// `10 log10(signal / noise)`; infinite where nothing is lost, NaN where values are not finite. Below 0 the
    /// weights would be better off as zeros.
    pub fn decibels(&self) -> f64 {
        match self.noise {
            0.0 => f64::INFINITY,
            noise if noise.is_finite() => 10.0 * (self.signal / noise).log10(),
            _ => f64::NAN,
        }
    }

    /// Mean squared error per weight.
    pub fn mse(&self) -> f64 {
        self.noise / self.weights.max(1) as f64
    }

    /// Stored bits per weight, exceptions included.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.weights.max(1) as f64
    }
}

/// The ratio of each of `formats` over all block linears of a model; see [`sqnr_of`].
///
/// # Errors
/// When a weight cannot be read, is not finite, or is packed already.
pub fn sqnr_of_linears(
    model: &Model,
    formats: &[Format],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Result<Sqnr>>> {
    let weights = model.graph().weights.iter().enumerate().filter(|(_, w)| w.role == Role::Linear);
    let shapes: Vec<_> = weights.clone().map(|(_, w)| (w.tensor.as_str(), w.rows, w.cols)).collect();
    let ids: Vec<_> = weights.map(|(id, _)| id).collect();
    sqnr_of(&shapes, &|index| Ok(model.packed(ids[index], Format::F32)?.decode()), formats, progress)
}

/// The ratio of each of `formats` over all float matrices of a file; see [`sqnr_of`].
///
/// # Errors
/// When a weight cannot be read, is not finite, or the file is packed.
pub fn sqnr_of_file(
    file: &TensorFile,
    formats: &[Format],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Result<Sqnr>>> {
    let shapes: Vec<_> = matrices(file, false).iter().map(|m| (m.name, m.rows, m.cols)).collect();
    let read = |index: usize| match file.get(shapes[index].0) {
        Some(tensor) => file.widen_finite(tensor),
        None => invalid!("{}: tensor `{}` is missing", file.label(), shapes[index].0),
    };
    sqnr_of(&shapes, &read, formats, progress)
}

/// The ratio of each of `formats` over matrices given by name, rows and columns. `read` gives the weights of one of
/// them, and is asked once for each. `progress` is told the number of weights done, counted once per format.
///
/// A format that cannot take some matrix has an error in its place, which names the matrix.
///
/// # Errors
/// When `read` fails.
pub fn sqnr_of(
    matrices: &[(&str, usize, usize)],
    read: &dyn Fn(usize) -> Result<Vec<f32>>,
    formats: &[Format],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Result<Sqnr>>> {
    let mut results: Vec<Result<Sqnr>> = formats.iter().map(|_| Ok(Sqnr::default())).collect();
    let mut done = 0;
    for (index, &(name, rows, cols)) in matrices.iter().enumerate() {
        let values = read(index)?;
        for (&format, result) in formats.iter().zip(&mut results) {
            if let Ok(sum) = result {
                match Sqnr::of_matrix(format, &values, rows, cols) {
                    Ok(of_matrix) => sum.add(of_matrix),
                    Err(error) => *result = Err(Error::Invalid(format!("`{name}`: {error}"))),
                }
            }
            done += values.len() as u64;
            progress(done);
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of `int4`, written down a second time: `s = max|w| / 7`.
    #[test]
    fn int4_as_a_formula() {
        let weights: Vec<f32> = (0..6 * 40).map(|i| ((i as f32 * 0.37).sin() * 0.2).powi(3)).collect();
        let max = weights.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let scale = max / 7.0;
        let mut noise = 0.0;
        let mut signal = 0.0;
        for &w in &weights {
            let q = (w / scale).round_ties_even() * scale;
            noise += (f64::from(w) - f64::from(q)).powi(2);
            signal += f64::from(w).powi(2);
        }
        let sqnr = Sqnr::of_matrix("int4".parse().unwrap(), &weights, 6, 40).unwrap();
        assert!((sqnr.decibels() - 10.0 * (signal / noise).log10()).abs() < 1e-9);
        assert!((sqnr.mse() - noise / 240.0).abs() < 1e-12 * noise);
        // 40 codes of 4 bits are 5 words per row, and the scale is one more.
        assert_eq!((sqnr.weights, sqnr.bytes), (240, (6 * 5 + 1) * 4));
    }

    #[test]
    fn known_ratios() {
        let of = |spec: &str, weights: &[f32]| {
            Sqnr::of_matrix(spec.parse().unwrap(), weights, 1, weights.len()).unwrap()
        };
        // Zeros: all of the signal is noise, 0 dB.
        assert_eq!(of("integer(8,2)", &[0.01, -0.02]).decibels(), 0.0);
        // 0.5 becomes 1: noise 0.25 of a signal of 0.25.
        assert_eq!(of("binary", &[0.5, -0.5]).decibels(), 0.0);
        // 0.1 becomes 1: 20 log10(0.1 / 0.9).
        assert!((of("binary", &[0.1, -0.1]).decibels() - 20.0 * (0.1f64 / 0.9).log10()).abs() < 1e-5);
        assert_eq!(of("f32", &[0.1, -0.1]).decibels(), f64::INFINITY);
        // The block maximum overflows the scale.
        assert!(of("mxint(8,2)", &[3e38, 1.0]).decibels().is_nan());
    }

    #[test]
    fn shapes_that_do_not_fit_are_said_per_format() {
        let model = Model::embedded().unwrap();
        let formats = ["f16", "q4_k", "int8(scale=row)"].map(|spec| spec.parse().unwrap());
        let mut last = 0;
        let results = sqnr_of_linears(&model, &formats, &mut |done| last = done).unwrap();
        let weights = results[2].as_ref().unwrap().weights;
        assert_eq!(last, 3 * weights);
        // The checkpoint is f16 itself.
        assert_eq!(results[0].as_ref().unwrap().noise, 0.0);
        let error = results[1].as_ref().unwrap_err().to_string();
        assert!(error.contains("q4_k") && error.contains("`model.layers.0."), "{error}");
        assert!((40.0..60.0).contains(&results[2].as_ref().unwrap().decibels()), "{:?}", results[2]);
    }
}
