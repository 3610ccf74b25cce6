//! A ggml matrix as the two streams of a packed matrix, and back.
//!
//! The [module documentation](super) describes the streams.

use rayon::prelude::*;

use super::{GgmlType, MAX_SCALE_BYTES, MAX_SUBS};
use crate::error::{Error, Result, invalid};
use crate::format::bits;
use crate::format::digits::DigitLayout;

/// Sizes of the two streams of a ggml matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLayout {
    /// Words of codes per row.
    pub row_words: usize,
    /// Words of all codes.
    pub code_words: usize,
    /// Scale bytes per block.
    pub block_scale_bytes: usize,
    /// Scale bytes per row.
    pub row_scale_bytes: usize,
    /// Words of all scales.
    pub scale_words: usize,
}

impl GgmlType {
    /// Sizes of the streams of a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty matrix, for `cols` that are no whole blocks, and for a size that
    /// overflows.
    pub fn stream_layout(self, rows: usize, cols: usize) -> Result<StreamLayout> {
        let block = self.block();
        if rows == 0 || cols == 0 {
            invalid!("matrix [{rows}, {cols}] is empty: want at least one row and one column");
        }
        if !cols.is_multiple_of(block) {
            invalid!(
                "matrix [{rows}, {cols}] in {self}: rows of {cols} weights are not whole blocks; want a \
                 multiple of {block}, or choose a format with shorter blocks"
            );
        }
        // Streams and blocks have at most 16 bits per weight.
        rows.checked_mul(cols).and_then(|count| count.checked_mul(16)).ok_or_else(|| {
            Error::Invalid(format!("matrix [{rows}, {cols}] in {self}: its size overflows; check the shape"))
        })?;
        let row_words = match self {
            Self::Tq1_0 => DigitLayout::TERNARY.row_words(cols),
            _ => cols * self.layout().bits as usize / 32,
        };
        let block_scale_bytes = self.scale_bytes();
        let row_scale_bytes = cols / block * block_scale_bytes;
        Ok(StreamLayout {
            row_words,
            code_words: rows * row_words,
            block_scale_bytes,
            row_scale_bytes,
            scale_words: (rows * row_scale_bytes).div_ceil(4),
        })
    }

    /// Streams (codes, scales) of a matrix `[rows, cols]` of row-major blocks; rows in parallel.
    ///
    /// # Errors
    /// [`Error::Invalid`] where [`GgmlType::stream_layout`] fails, and when `blocks` is not
    /// `rows * cols / block` blocks long.
    pub fn to_streams(self, rows: usize, cols: usize, blocks: &[u8]) -> Result<(Vec<u32>, Vec<u32>)> {
        let layout = self.stream_layout(rows, cols)?;
        let row_bytes = cols / self.block() * self.bytes();
        if blocks.len() != rows * row_bytes {
            invalid!(
                "{self} matrix [{rows}, {cols}]: got {} bytes of blocks, want {}; check the shape",
                blocks.len(),
                rows * row_bytes
            );
        }
        let mut words = vec![0; layout.code_words];
        let mut bytes = vec![0; rows * layout.row_scale_bytes];
        let targets =
            words.par_chunks_mut(layout.row_words).zip(bytes.par_chunks_mut(layout.row_scale_bytes));
        blocks.par_chunks(row_bytes).zip(targets).for_each_init(
            || vec![0; cols],
            |codes, (blocks, (words, scales))| {
                let parts = codes.chunks_mut(self.block()).zip(scales.chunks_mut(layout.block_scale_bytes));
                for (block, (codes, scales)) in blocks.chunks(self.bytes()).zip(parts) {
                    self.unpack(block, codes, scales);
                }
                self.pack_row(codes, words);
            },
        );
        let scales = bytes.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        });
        Ok((words, scales.collect()))
    }

    /// Row-major blocks of a matrix `[rows, cols]` from its streams, the inverse of
    /// [`GgmlType::to_streams`]; rows in parallel.
    ///
    /// # Errors
    /// [`Error::Invalid`] where [`GgmlType::stream_layout`] fails, and when a stream has another length.
    pub fn from_streams(self, rows: usize, cols: usize, codes: &[u32], scales: &[u32]) -> Result<Vec<u8>> {
        let layout = self.stream_layout(rows, cols)?;
        for (what, got, want) in
            [("code", codes.len(), layout.code_words), ("scale", scales.len(), layout.scale_words)]
        {
            if got != want {
                invalid!("{self} matrix [{rows}, {cols}]: got {got} {what} words, want {want}");
            }
        }
        let row_blocks = cols / self.block();
        let row_bytes = row_blocks * self.bytes();
        let mut blocks = vec![0; rows * row_bytes];
        let rows = blocks.par_chunks_mut(row_bytes).zip(codes.par_chunks(layout.row_words)).enumerate();
        rows.for_each_init(
            || vec![0; cols],
            |codes, (row, (blocks, words))| {
                self.unpack_row(words, codes);
                let parts = blocks.chunks_mut(self.bytes()).zip(codes.chunks(self.block())).enumerate();
                for (index, (block, codes)) in parts {
                    self.repack(codes, &self.stored(scales, row * row_blocks + index), block);
                }
            },
        );
        Ok(blocks)
    }

    /// Values of one row of `out.len()` weights from the streams of its matrix: the bits that
    /// [`GgmlType::decode`] gives for its blocks.
    ///
    /// # Panics
    /// When `out` is not whole blocks, or the streams do not reach to `row`.
    pub fn decode_row(self, codes: &[u32], scales: &[u32], row: usize, out: &mut [f32]) {
        let (cols, block) = (out.len(), self.block());
        let row_words = self.row_words(cols);
        let mut numbers = vec![0; cols];
        self.unpack_row(&codes[row * row_words..][..row_words], &mut numbers);
        for (index, (codes, out)) in numbers.chunks(block).zip(out.chunks_mut(block)).enumerate() {
            let scales = self.stored(scales, row * (cols / block) + index);
            self.values(codes, &scales[..self.scale_bytes()], out);
        }
    }

    /// Value of weight `(row, col)` of a matrix of `cols` columns: `scale * n - min` of
    /// [`GgmlType::integer`] and [`GgmlType::scale`], the bits of [`GgmlType::decode_row`].
    ///
    /// # Panics
    /// When `cols` is not whole blocks, `col` is not below `cols`, or the streams do not reach to `row`.
    pub fn decode_element(self, codes: &[u32], scales: &[u32], cols: usize, row: usize, col: usize) -> f32 {
        let (scale, min) = self.scale(scales, cols, row, col);
        scale * f32::from(self.integer(codes, cols, row, col)) - min
    }

    /// The integer `n` of weight `(row, col)`: its code, or the entry of the table that its code names.
    ///
    /// # Panics
    /// As [`GgmlType::decode_element`].
    pub fn integer(self, codes: &[u32], cols: usize, row: usize, col: usize) -> i8 {
        assert!(col < cols, "column {col} of {cols}");
        let row_words = self.row_words(cols);
        let code = self.code(&codes[row * row_words..][..row_words], col);
        self.table().map_or(code, |table| table[code as usize & 15])
    }

    /// Scale and minimum of weight `(row, col)`.
    ///
    /// # Panics
    /// As [`GgmlType::decode_element`].
    pub fn scale(self, scales: &[u32], cols: usize, row: usize, col: usize) -> (f32, f32) {
        assert!(col < cols, "column {col} of {cols}");
        let block = self.block();
        let bytes = self.stored(scales, row * (cols / block) + col / block);
        let mut affine = [(0.0, 0.0); MAX_SUBS];
        let affine = &mut affine[..block / self.sub_block()];
        self.affine(&bytes[..self.scale_bytes()], affine);
        affine[col % block / self.sub_block()]
    }

    /// Words of a row of whole blocks.
    fn row_words(self, cols: usize) -> usize {
        match self.stream_layout(1, cols) {
            Ok(layout) => layout.row_words,
            Err(error) => panic!("{error}"),
        }
    }

    /// Scale bytes of a block of the matrix, then zeros.
    fn stored(self, scales: &[u32], block: usize) -> [u8; MAX_SCALE_BYTES] {
        let count = self.scale_bytes();
        let mut bytes = [0; MAX_SCALE_BYTES];
        for (at, byte) in (block * count..).zip(&mut bytes[..count]) {
            *byte = (scales[at / 4] >> (at % 4 * 8)) as u8;
        }
        bytes
    }

    /// Packs the codes of a row, which are multiples of 32 in number.
    fn pack_row(self, codes: &[i8], words: &mut [u32]) {
        let layout = self.layout();
        if let Self::Tq1_0 = self {
            let digits: Vec<u8> = codes.iter().map(|&code| code.wrapping_sub(layout.low) as u8).collect();
            DigitLayout::TERNARY.pack(&digits, words);
            return;
        }
        // 32 fields fill `bits` words.
        let (width, mask) = (layout.bits, self.mask());
        for (codes, words) in codes.chunks(32).zip(words.chunks_mut(width as usize)) {
            let (mut buffer, mut filled, mut words) = (0u64, 0, words.iter_mut());
            for &code in codes {
                buffer |= u64::from(code as u32 & mask) << filled;
                filled += width;
                if filled >= 32 {
                    if let Some(word) = words.next() {
                        *word = buffer as u32;
                    }
                    buffer >>= 32;
                    filled -= 32;
                }
            }
        }
    }

    /// The codes of a row, which are multiples of 32 in number.
    fn unpack_row(self, words: &[u32], codes: &mut [i8]) {
        if let Self::Tq1_0 = self {
            for (col, code) in codes.iter_mut().enumerate() {
                *code = self.code(words, col);
            }
            return;
        }
        let width = self.layout().bits;
        for (codes, words) in codes.chunks_mut(32).zip(words.chunks(width as usize)) {
            let (mut buffer, mut filled, mut words) = (0u64, 0, words.iter());
            for code in codes {
                if filled < width {
                    buffer |= u64::from(words.next().copied().unwrap_or(0)) << filled;
                    filled += 32;
                }
                *code = self.field_code(buffer as u32);
                buffer >>= width;
                filled -= width;
            }
        }
    }

    /// The code of a column of a row.
    fn code(self, words: &[u32], col: usize) -> i8 {
        let layout = self.layout();
        match self {
            Self::Tq1_0 => DigitLayout::TERNARY.digit(words, col) as i8 + layout.low,
            _ => self.field_code(bits::get(words, col * layout.bits as usize, layout.bits)),
        }
    }

    /// The code of a field, the lowest bits of `field`: the number from `low` on that has these low bits.
    fn field_code(self, field: u32) -> i8 {
        let low = i32::from(self.layout().low);
        (low + (field.wrapping_sub(low as u32) & self.mask()) as i32) as i8
    }

    fn mask(self) -> u32 {
        (1 << self.layout().bits) - 1
    }
}
