//! Bytes and values of tensors, whole, by pieces and by rows.

use super::{Dtype, Element, Order, TensorFile, TensorInfo};
use crate::error::{Error, Result, invalid};
use std::borrow::Cow;
use std::ops::Range;

/// Bytes of a tensor that are looked at before the pages are given back.
const STEP: usize = 1 << 24;

impl TensorFile {
    /// Little-endian bytes of a tensor of this file, in the order of its shape: borrowed from the file where they lie in
    /// that order.
    pub fn bytes(&self, tensor: &TensorInfo) -> Cow<'_, [u8]> {
        let stored = self.stored(tensor);
        match (&tensor.order, tensor.element) {
            (Order::Rows(rows), _) if !rows.is_empty() => {
                let len = stored.len() / rows.len();
                let row = |&row: &u32| &stored[row as usize * len..][..len];
                rows.iter().flat_map(row).copied().collect()
            }
            (Order::Strided(strides), Element::Plain(dtype)) => {
                gather(stored, &tensor.shape, strides, dtype.bitsize() / 8).into()
            }
            _ => stored.into(),
        }
    }

    fn stored(&self, tensor: &TensorInfo) -> &[u8] {
        &self.sources[tensor.source].bytes()[tensor.range.clone()]
    }

    /// Says that the bytes of `tensor` are not needed for now, so that they need not stay in memory.
    pub fn release(&self, tensor: &TensorInfo) {
        self.sources[tensor.source].release(&tensor.range);
    }

    /// Calls `f` with the bytes of `tensor` piece by piece, in order, a few megabytes in memory at a time where they lie
    /// in order in the file.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn for_each_piece(
        &self,
        tensor: &TensorInfo,
        f: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if tensor.order != Order::Whole {
            f(0, &self.bytes(tensor))?;
            self.release(tensor);
            return Ok(());
        }
        let stored = self.stored(tensor);
        for (i, piece) in stored.chunks(STEP).enumerate() {
            f(i * STEP, piece)?;
            let begin = tensor.range.start + i * STEP;
            self.sources[tensor.source].release(&(begin..begin + piece.len()));
        }
        Ok(())
    }

    /// The values of a float tensor in f32; f16 and bf16 are widened exactly.
    ///
    /// # Errors
    /// When the element type is none of the three.
    pub fn widen(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        self.check_float(tensor)?;
        Ok(widened(&self.bytes(tensor), tensor.element))
    }

    /// Like [`TensorFile::widen`], but the values must be finite.
    ///
    /// # Errors
    /// Also when a value is NaN or infinite; its index is named.
    pub fn widen_finite(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let values = self.widen(tensor)?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.not_finite(tensor, at, values[at])),
            None => Ok(values),
        }
    }

    /// Checks that all values of a float tensor are finite, without holding them.
    ///
    /// # Errors
    /// As [`TensorFile::widen_finite`].
    pub fn check_finite(&self, tensor: &TensorInfo) -> Result<()> {
        self.check_float(tensor)?;
        let width = tensor.element.plain().map_or(1, |dtype| dtype.bitsize() / 8);
        self.for_each_piece(tensor, &mut |begin, piece| {
            let values = widened(piece, tensor.element);
            match values.iter().position(|value| !value.is_finite()) {
                Some(at) => Err(self.not_finite(tensor, begin / width + at, values[at])),
                None => Ok(()),
            }
        })
    }

    /// Calls `f` with the values of a float tensor piece by piece, as [`TensorFile::for_each_piece`].
    ///
    /// # Errors
    /// As [`TensorFile::widen`], and those of `f`.
    pub fn for_each_widened(
        &self,
        tensor: &TensorInfo,
        f: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check_float(tensor)?;
        self.for_each_piece(tensor, &mut |_, piece| f(&widened(piece, tensor.element)))
    }

    /// Whether [`TensorFile::widen_rows`] finds the rows of the matrix of so many rows without reading all of it.
    pub(crate) fn has_rows(&self, tensor: &TensorInfo, rows: usize) -> bool {
        match &tensor.order {
            Order::Whole => true,
            Order::Rows(order) => order.len() == rows,
            Order::Transposed | Order::Strided(_) => false,
        }
    }

    /// Rows `rows` of a float matrix `[_, cols]` in f32.
    ///
    /// # Errors
    /// As [`TensorFile::widen_finite`].
    pub(crate) fn widen_rows(
        &self,
        tensor: &TensorInfo,
        rows: Range<usize>,
        cols: usize,
    ) -> Result<Vec<f32>> {
        self.check_float(tensor)?;
        let width = tensor.element.plain().map_or(1, |dtype| dtype.bitsize() / 8) * cols;
        let bytes = match &tensor.order {
            Order::Whole => Cow::Borrowed(&self.stored(tensor)[rows.start * width..rows.end * width]),
            Order::Rows(order) if order.len() * width == tensor.range.len() => {
                let row = |&row: &u32| &self.stored(tensor)[row as usize * width..][..width];
                Cow::Owned(order[rows.clone()].iter().flat_map(row).copied().collect())
            }
            _ => Cow::Owned(self.bytes(tensor)[rows.start * width..rows.end * width].to_vec()),
        };
        let values = widened(&bytes, tensor.element);
        match tensor.order {
            Order::Whole => {
                let begin = tensor.range.start + rows.start * width;
                self.sources[tensor.source].release(&(begin..begin + bytes.len()));
            }
            // Their rows lie anywhere.
            _ => self.release(tensor),
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.not_finite(tensor, rows.start * cols + at, values[at])),
            None => Ok(values),
        }
    }

    fn check_float(&self, tensor: &TensorInfo) -> Result<()> {
        if tensor.element.is_readable_float() {
            return Ok(());
        }
        invalid!(
            "{}: tensor `{}` has type {}; want F32, F16 or BF16, convert it first",
            self.label_of(tensor),
            tensor.name,
            tensor.element
        )
    }

    fn not_finite(&self, tensor: &TensorInfo, at: usize, value: f32) -> Error {
        let mut index = Vec::new();
        let mut rest = at;
        for &dimension in tensor.shape.iter().rev() {
            index.insert(0, rest % dimension);
            rest /= dimension;
        }
        Error::Invalid(format!(
            "{}: tensor `{}` holds {value} at index {index:?}; weights must be finite numbers, repair or re-export \
             the checkpoint",
            self.label_of(tensor),
            tensor.name
        ))
    }
}

/// Values of plain floats, three types of which can be widened exactly; nothing for other types.
pub(super) fn widened(bytes: &[u8], element: Element) -> Vec<f32> {
    match element.plain() {
        Some(Dtype::F32) => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Some(Dtype::F16) => {
            bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
        }
        Some(Dtype::BF16) => {
            bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => Vec::new(),
    }
}

/// Elements of `width` bytes in the order of `shape`.
fn gather(stored: &[u8], shape: &[usize], strides: &[usize], width: usize) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * width);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..count {
        out.extend_from_slice(&stored[at * width..][..width]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= index[d] * strides[d];
            index[d] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_elements_come_in_the_order_of_the_shape() {
        let stored: Vec<u8> = (0..24).collect();
        // [2, 3, 4] read as [4, 2, 3].
        let got = gather(&stored, &[4, 2, 3], &[1, 12, 4], 1);
        let want: Vec<u8> =
            (0..4).flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| 12 * i + 4 * j + k))).collect();
        assert_eq!(got, want);
        assert_eq!(gather(&stored, &[], &[], 2), [0, 1]);
        assert!(gather(&stored, &[0, 3], &[3, 1], 1).is_empty());
    }
}
