//! Dynamic quantization of activations to symmetric integers.

use super::int;

/// How the input of a linear layer is quantized before an integer product. Text: `int8`, `int8(scale=row)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationFormat {
    /// 2..=8.
    pub bits: u8,
    /// What shares a scale.
    pub scope: ActivationScope,
}

/// What shares one activation scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationScope {
    /// All rows of one sequence.
    Tensor,
    /// One row.
    Row,
}

/// Activations as integers: `x ~ code * scale` of the row.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedActivations {
    /// `[rows, cols]`.
    pub codes: Vec<i8>,
    /// `[rows]`.
    pub scales: Vec<f32>,
}

/// Quantizes `x`, a matrix `[rows, cols]` with one entry of `spans` per row: the rows `begin..end` of the
/// same sequence.
///
/// `scale = absmax / qmax` in f32 (1 when absmax is 0), `code = clamp(rne(x / scale), -qmax, qmax)`. In the
/// scope tensor the "tensor" is one sequence, so that a result never depends on what else is in the batch.
///
/// # Panics
/// When `x` is not `spans.len() * cols` long or a span is out of range.
pub fn quantize_activations(
    x: &[f32],
    cols: usize,
    spans: &[(u32, u32)],
    format: ActivationFormat,
) -> QuantizedActivations {
    assert_eq!(x.len(), spans.len() * cols, "activations [{}, {cols}]", spans.len());
    let qmax = int::qmax(format.bits);
    let absmax = |rows: std::ops::Range<usize>| super::rows::max_abs(&x[rows.start * cols..rows.end * cols]);
    let mut scales: Vec<f32> = Vec::with_capacity(spans.len());
    for (row, &(begin, end)) in spans.iter().enumerate() {
        let scale = match format.scope {
            ActivationScope::Row => int::scale_f32(absmax(row..row + 1), qmax),
            // The rows of a sequence stand next to each other: its scale is computed once.
            ActivationScope::Tensor if row > 0 && spans[row - 1] == (begin, end) => scales[row - 1],
            ActivationScope::Tensor => int::scale_f32(absmax(begin as usize..end as usize), qmax),
        };
        scales.push(scale);
    }
    let codes = (0..x.len()).map(|i| int::code(x[i], scales[i / cols], qmax) as i8).collect();
    QuantizedActivations { codes, scales }
}
