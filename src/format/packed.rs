//! A matrix in its packed words, and the exact map back to f32.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::{Base11Layout, Format, Layout, Scope, bits, float, mxint, radix};
use crate::error::{Result, invalid};

/// A matrix `[rows, cols]` in a [`Format`]; the words are described in the [module documentation](super).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The format of both streams.
    pub format: Format,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// The stream of codes.
    pub codes: Vec<u32>,
    /// The stream of scales; empty for float formats.
    pub scales: Vec<u32>,
}

impl Packed {
    /// A packed matrix from stored words. The words themselves are not checked: every bit pattern decodes
    /// to something. `mxint_cuda` codes of -128, which its encoder never writes, become the 0 that the original
    /// decodes them to.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where [`Format::layout`] fails or a stream has the wrong
    /// length.
    pub fn from_parts(
        format: Format,
        rows: usize,
        cols: usize,
        mut codes: Vec<u32>,
        scales: Vec<u32>,
    ) -> Result<Self> {
        let layout = format.layout(rows, cols)?;
        for (what, got, want) in
            [("code", codes.len(), layout.code_words), ("scale", scales.len(), layout.scale_words)]
        {
            if got != want {
                invalid!("{format} matrix [{rows}, {cols}]: got {got} {what} words, want {want}");
            }
        }
        if let Format::MxIntCuda { .. } = format {
            for word in &mut codes {
                let bytes = word.to_le_bytes().map(|byte| if byte == 0x80 { 0 } else { byte });
                *word = u32::from_le_bytes(bytes);
            }
        }
        Ok(Self { format, rows, cols, codes, scales })
    }

    /// All values, row-major; rows in parallel.
    pub fn decode(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        out.par_chunks_mut(self.cols).enumerate().for_each(|(row, out)| self.decode_row(row, out));
        out
    }

    /// The values of one row.
    ///
    /// # Panics
    /// When `row` is out of range or `out` is not `cols` long.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.check_row(row, out.len());
        let layout = self.layout();
        let words = self.row_words(&layout, row);
        for (k, y) in out.iter_mut().enumerate() {
            *y = match self.format {
                Format::F32 | Format::F16 | Format::Bf16 => float::decode(self.format, words, k),
                Format::Base11 { layout: Base11Layout::Nine32, .. } => {
                    radix::decode_9in32(words, self.field(&layout, row, k), layout.group, k)
                }
                Format::MxIntCuda { .. } => match self.field(&layout, row, k) as u8 {
                    byte @ 1..=254 => mxint::cuda_decode(self.code(words, row, k), byte),
                    byte => f32::from(self.code(words, row, k)) * mxint::cuda_scale(byte),
                },
                _ => f32::from(self.code(words, row, k)) * self.field_scale(self.field(&layout, row, k)),
            };
        }
    }

    /// The integer codes of one row: `y = code * scale` with [`Packed::scale`], exactly for MXINT and
    /// rounded once to f32 otherwise.
    ///
    /// # Panics
    /// When the format has no integer codes, `row` is out of range or `out` is not `cols` long.
    pub fn integer_codes(&self, row: usize, out: &mut [i8]) {
        assert!(self.format.has_integer_codes(), "{} has no integer codes", self.format);
        self.check_row(row, out.len());
        let layout = self.layout();
        let words = self.row_words(&layout, row);
        for (k, code) in out.iter_mut().enumerate() {
            *code = self.code(words, row, k);
        }
    }

    /// The scale of an element: the factor of its integer code. 1 for float formats; the range of the group
    /// for `base11(layout=9in32)`.
    ///
    /// # Panics
    /// When `row` or `col` is out of range.
    pub fn scale(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows && col < self.cols, "({row}, {col}) of [{}, {}]", self.rows, self.cols);
        let layout = self.layout();
        if layout.scale_bits == 0 { 1.0 } else { self.field_scale(self.field(&layout, row, col)) }
    }

    /// Size of both streams in bytes.
    pub fn bytes(&self) -> usize {
        (self.codes.len() + self.scales.len()) * 4
    }

    /// The rows of `range` as a matrix of their own.
    ///
    /// # Panics
    /// When the range is empty or out of range, begins at a row that is no multiple of
    /// [`Format::row_alignment`], or (`mxint_cuda`) ends within a group.
    pub fn slice_rows(&self, range: Range<usize>) -> Self {
        let (rows, cols) = (range.end.saturating_sub(range.start), self.cols);
        assert!(rows > 0 && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let alignment = self.format.row_alignment(cols);
        assert!(range.start.is_multiple_of(alignment), "rows {range:?}: want a multiple of {alignment}");
        let layout = match self.format.layout(rows, cols) {
            Ok(layout) => layout,
            Err(error) => panic!("rows {range:?}: {error}"),
        };
        let whole = self.layout();
        let (first_word, first_field) = match self.format {
            Format::MxIntCuda { .. } => (range.start * cols / 4, range.start * cols / whole.group),
            _ => (range.start * whole.row_words, range.start * whole.groups_per_row),
        };
        let mut codes = self.codes[first_word..][..layout.code_words].to_vec();
        let mut scales = self.scales[first_field * layout.scale_bits / 32..][..layout.scale_words].to_vec();
        // The last words of the slice may hold fields of the rows after it.
        clear_tail(&mut scales, layout.groups * layout.scale_bits);
        if let Format::MxIntCuda { .. } = self.format {
            clear_tail(&mut codes, rows * cols * 8);
        }
        Self { format: self.format, rows, cols, codes, scales }
    }

    /// Number of groups whose stored scale (or minimum) is not finite; their values are not finite either.
    pub fn scale_overflows(&self) -> usize {
        let layout = self.layout();
        let finite_f16 = |bits: u32| f16::from_bits(bits as u16).is_finite();
        (0..layout.groups)
            .filter(|index| {
                let field = bits::get(&self.scales, index * layout.scale_bits, layout.scale_bits as u32);
                !match (layout.scale_bits, self.format) {
                    (8, _) => field != 255,
                    (16, _) => finite_f16(field),
                    (_, Format::Base11 { .. }) => finite_f16(field) && finite_f16(field >> 16),
                    _ => f32::from_bits(field).is_finite(),
                }
            })
            .count()
    }

    fn check_row(&self, row: usize, len: usize) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(len, self.cols, "length of a row");
    }

    /// Sizes of this matrix. The constructors have checked them; fields changed by hand may panic.
    fn layout(&self) -> Layout {
        match self.format.layout(self.rows, self.cols) {
            Ok(layout) => layout,
            Err(error) => panic!("{error}"),
        }
    }

    fn row_words(&self, layout: &Layout, row: usize) -> &[u32] {
        match self.format {
            Format::MxIntCuda { .. } => &self.codes,
            _ => &self.codes[row * layout.row_words..][..layout.row_words],
        }
    }

    /// The integer code of column `k`. A `mxint_cuda` code of -128 is 0: so the original decodes it.
    fn code(&self, words: &[u32], row: usize, k: usize) -> i8 {
        match self.format {
            Format::Int { bits, .. } | Format::MxInt { bits } => {
                bits::get_signed(words, k * usize::from(bits), u32::from(bits))
            }
            Format::MxIntCuda { .. } => match bits::get_signed(words, (row * self.cols + k) * 8, 8) {
                i8::MIN => 0,
                code => code,
            },
            _ => radix::code_2in7(words, k),
        }
    }

    /// The stored scale of an element, as raw bits.
    fn field(&self, layout: &Layout, row: usize, k: usize) -> u32 {
        let index = match self.format {
            Format::MxIntCuda { .. } => (row * self.cols + k) / layout.group,
            _ => row * layout.groups_per_row + k / layout.group,
        };
        bits::get(&self.scales, index * layout.scale_bits, layout.scale_bits as u32)
    }

    /// The scale that the raw bits stand for.
    fn field_scale(&self, field: u32) -> f32 {
        match self.format {
            Format::Int { scope: Scope::Tensor | Scope::Row, .. } => f32::from_bits(field),
            Format::MxInt { bits } => mxint::ocp_scale(field as u8, bits),
            Format::MxIntCuda { .. } => mxint::cuda_scale(field as u8),
            Format::Base11 { layout: Base11Layout::Nine32, .. } => {
                f16::from_bits((field >> 16) as u16).to_f32()
            }
            _ => f16::from_bits(field as u16).to_f32(),
        }
    }
}

/// Zeroes the bits of the last word from stream position `bit` on.
fn clear_tail(words: &mut [u32], bit: usize) {
    if let (Some(last), 1..) = (words.last_mut(), bit % 32) {
        *last &= (1 << (bit % 32)) - 1;
    }
}
