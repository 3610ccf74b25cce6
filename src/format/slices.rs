//! Matrices cut into horizontal slices, and stacked from them.

use std::ops::Range;

use super::{Codes, Exception, Format, Groups, Packed};
use crate::error::{Result, invalid};

impl Format {
    /// Whether packed matrices of `rows` rows each, in this order, are the words of one matrix `[sum of rows, cols]`, one
    /// after another: none shares a word or a group with the next, and nothing is stored once per matrix.
    pub fn stacks(&self, rows: &[usize], cols: usize) -> bool {
        let total = rows.iter().sum();
        let Ok(whole) = self.layout(total, cols) else { return false };
        let alignment = self.row_alignment(total, cols);
        let (mut first, mut code_words, mut scale_words) = (0usize, 0, 0);
        for &rows in rows {
            let Ok(part) = self.layout(rows, cols) else { return false };
            if !first.is_multiple_of(alignment) {
                return false;
            }
            first += rows;
            code_words += part.code_words;
            scale_words += part.scale_words;
        }
        let shared = whole.scheme.scale.head_words() > 0
            || (whole.scheme.groups == Groups::Tensor && whole.scale_words > 0);
        !shared && (code_words, scale_words) == (whole.code_words, whole.scale_words)
    }
}

impl Packed {
    /// The matrix of the rows of `parts`, one after another, word for word as they are.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where parts differ in format or columns, or [`Format::stacks`] does not
    /// hold for them.
    pub fn stack(parts: &[Packed]) -> Result<Packed> {
        let Some(first) = parts.first() else { invalid!("a stack of no matrices") };
        let (format, cols) = (first.format, first.cols);
        if let Some(other) = parts.iter().find(|part| (part.format, part.cols) != (format, cols)) {
            let (got, of) = (other.format, other.cols);
            invalid!(
                "a stack of {format} with {cols} columns and of {got} with {of}: want one format and width"
            );
        }
        let rows: Vec<usize> = parts.iter().map(|part| part.rows).collect();
        if !format.stacks(&rows, cols) {
            invalid!(
                "{format} matrices of {rows:?} rows and {cols} columns do not stack: they share words or a scale"
            );
        }
        let mut whole = Self {
            format,
            rows: 0,
            cols,
            codes: Vec::with_capacity(parts.iter().map(|part| part.codes.len()).sum()),
            scales: Vec::with_capacity(parts.iter().map(|part| part.scales.len()).sum()),
            exceptions: Vec::new(),
        };
        for part in parts {
            let begin = whole.rows as u32;
            whole.exceptions.extend(part.exceptions.iter().map(|e| Exception { row: e.row + begin, ..*e }));
            whole.codes.extend(&part.codes);
            whole.scales.extend(&part.scales);
            whole.rows += part.rows;
        }
        Ok(whole)
    }

    /// The rows of `range` as a matrix of their own.
    ///
    /// # Panics
    /// When the range is empty or out of range, begins at a row that is no multiple of
    /// [`Format::row_alignment`], or (where groups are flat) ends within a group.
    pub fn slice_rows(&self, range: Range<usize>) -> Self {
        let (rows, cols) = (range.end.saturating_sub(range.start), self.cols);
        assert!(rows > 0 && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let alignment = self.format.row_alignment(self.rows, cols);
        assert!(range.start.is_multiple_of(alignment), "rows {range:?}: want a multiple of {alignment}");
        let layout = match self.format.layout(rows, cols) {
            Ok(layout) => layout,
            Err(error) => panic!("rows {range:?}: {error}"),
        };
        let whole = self.layout();
        let first_word = match whole.scheme.codes {
            Codes::Stream8 => range.start * cols / 4,
            _ => range.start * whole.row_words,
        };
        let first_group = match whole.scheme.groups {
            Groups::Tensor => 0,
            Groups::Tiles { rows, .. } => range.start / rows * whole.groups_per_row,
            Groups::Flat(group) => range.start * cols / group,
        };
        let mut codes = self.codes[first_word..][..layout.code_words].to_vec();
        let head = whole.scheme.scale.head_words();
        let first_scale = head + first_group * layout.scale_bits / 32;
        let mut scales = self.scales[..head].to_vec();
        scales.extend(&self.scales[first_scale..][..layout.scale_words - head]);
        // The last words of the slice may hold fields of the rows after it.
        clear_tail(&mut scales[head..], layout.groups * layout.scale_bits);
        if whole.scheme.codes == Codes::Stream8 {
            clear_tail(&mut codes, rows * cols * 8);
        }
        let within = self.exceptions.iter().filter(|e| range.contains(&(e.row as usize)));
        let exceptions = within.map(|e| Exception { row: e.row - range.start as u32, ..*e }).collect();
        Self { format: self.format, rows, cols, codes, scales, exceptions }
    }
}

/// Zeroes the bits of the last word from stream position `bit` on.
fn clear_tail(words: &mut [u32], bit: usize) {
    if let (Some(last), 1..) = (words.last_mut(), bit % 32) {
        *last &= (1 << (bit % 32)) - 1;
    }
}
