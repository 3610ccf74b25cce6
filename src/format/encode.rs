//! From f32 weights to packed words: checks, then the encoder of the family, whole or strip by strip.

use rayon::prelude::*;

use super::digits::DigitLayout;
use super::element::{Blocks, Element};
use super::signs::{self, Levels};
use super::{Exception, Format, Groups, Layout, Packed, Scale, bits, codebook, custom, float, int, mxint};
use super::{element, radix, rows};
use crate::error::{Result, invalid};

/// Packs a matrix strip by strip, so that it need not be in memory as a whole. The strips one after another are, word for
/// word, what [`Format::encode`] makes of the matrix.
///
/// ```
/// use anybit::format::{Encoder, Format};
/// # fn main() -> anybit::Result<()> {
/// let format: Format = "int4".parse()?; // one scale for the matrix
/// let weights: Vec<f32> = (0..12).map(|i| i as f32).collect();
/// let mut encoder = Encoder::new(format, 3, 4)?;
/// weights.chunks(4).for_each(|row| encoder.survey(row));
/// let strips: Vec<u32> =
///     (0..3).map(|row| encoder.pack(row, &weights[row * 4..][..4]).map(|strip| strip.codes[0])).collect::<Result<_, _>>()?;
/// assert_eq!(strips, format.encode(&weights, 3, 4)?.codes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    format: Format,
    rows: usize,
    cols: usize,
    layout: Layout,
    whole: Whole,
}

/// What some formats take from the whole matrix.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    /// `max |w|`.
    largest: f32,
    /// The smallest `max |w|` of a tile that is not 0.
    smallest_tile: Option<f32>,
}

impl Encoder {
    /// For a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// As [`Format::layout`].
    pub fn new(format: Format, rows: usize, cols: usize) -> Result<Self> {
        let layout = format.layout(rows, cols)?;
        Ok(Self { format, rows, cols, layout, whole: Whole::default() })
    }

    /// Strips have a multiple of this many rows, but for the last one. It is the number of rows of the matrix where the
    /// format cannot be packed in parts: where rows share a scale that is more than a maximum.
    pub fn alignment(&self) -> usize {
        let is_mean = matches!(self.format, Format::BinaryMean { .. } | Format::TernaryMean { .. });
        let whole = match self.layout.scheme.groups {
            Groups::Tensor => is_mean && self.layout.groups > 0,
            Groups::Tiles { rows, .. } => rows > 1 && rows >= self.rows,
            Groups::Flat(_) => false,
        };
        match whole {
            true => self.rows,
            false => self.format.row_alignment(self.rows, self.cols).min(self.rows),
        }
    }

    /// Whether every strip is to be shown to [`Encoder::survey`] before the first is packed.
    pub fn wants_survey(&self) -> bool {
        match self.format {
            Format::TorchDynamic | Format::NvFp4 => true,
            Format::Int { .. } | Format::Custom(_) => self.layout.scheme.groups == Groups::Tensor,
            Format::Element { element, .. } => element.shares_maxima(),
            _ => false,
        }
    }

    /// Looks at a strip of whole rows, which begins at a multiple of [`Encoder::alignment`] rows.
    pub fn survey(&mut self, strip: &[f32]) {
        match (self.format, self.blocks(strip.len())) {
            (Format::Element { .. }, Some(blocks)) => {
                let maxima = blocks.maxima(&strip[..blocks.rows * blocks.cols]);
                let both: Vec<f32> =
                    element::smallest_maximum(&maxima).into_iter().chain(self.whole.smallest_tile).collect();
                self.whole.smallest_tile = element::smallest_maximum(&both);
            }
            _ => self.whole.largest = self.whole.largest.max(rows::max_abs_parallel(strip)),
        }
    }

    /// The tiles of so many weights; the flattened matrix counts as one row.
    fn blocks(&self, len: usize) -> Option<Blocks> {
        let cols = self.cols;
        match self.layout.scheme.groups {
            Groups::Tensor => None,
            Groups::Tiles { rows, cols: tile_cols } => {
                Some(Blocks { rows: len / cols, cols, tile_rows: rows, tile_cols })
            }
            Groups::Flat(group) => Some(Blocks { rows: 1, cols: len, tile_rows: 1, tile_cols: group }),
        }
    }

    /// Packs the strip of whole rows that begins at row `first_row`. Exceptions are numbered within the strip.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when the strip is empty, is no whole number of rows, begins or ends at another place than
    /// [`Encoder::alignment`] wants, or reaches past the matrix, and when a weight is not finite or beyond the range of
    /// `f16` or `bf16`; the message names its index in the matrix.
    pub fn pack(&self, first_row: usize, strip: &[f32]) -> Result<Packed> {
        let Self { format, rows: all_rows, cols, whole: Whole { largest, smallest_tile }, .. } = *self;
        let rows = self.check(first_row, strip)?;
        if let Some(index) = rows::first(strip, |w| !w.is_finite()) {
            let (value, index) = (strip[index], first_row * cols + index);
            invalid!(
                "weight {index} (row {}, column {}) is {value}; {format} wants finite weights",
                index / cols,
                index % cols
            );
        }
        let layout = if rows == all_rows { self.layout } else { format.layout(rows, cols)? };
        let mut codes = vec![0; layout.code_words];
        let mut fields = vec![0; layout.groups];
        let mut exceptions = Vec::new();
        let mut head = None;
        let (c, f) = (&mut codes, &mut fields);
        match format {
            Format::F32 | Format::F16 | Format::Bf16 => {
                float::encode(format, first_row, strip, cols, layout.row_words, c)?
            }
            Format::Int { bits, scope } => int::encode((bits, scope), largest, strip, cols, &layout, c, f),
            Format::Uint { bits, .. } => int::encode_unsigned(bits, strip, cols, &layout, c, f),
            Format::TorchDynamic => int::encode_torch_dynamic(largest, strip, cols, &layout, c, f),
            Format::BinaryMean { scope } => {
                signs::encode(Levels::Binary, Some(scope), strip, cols, &layout, c, f);
            }
            Format::TernaryMean { scope } => {
                signs::encode(Levels::Ternary, Some(scope), strip, cols, &layout, c, f);
            }
            Format::Ternary => signs::encode(Levels::Ternary, None, strip, cols, &layout, c, f),
            Format::MxInt { bits } => mxint::encode(bits, strip, cols, &layout, c, f),
            Format::MxIntCuda { group } => mxint::cuda_encode(group as usize, strip, c, f),
            Format::Radix { base, digits, bits, .. } => {
                let digits = DigitLayout { base: base.into(), digits: digits.into(), bits: bits.into() };
                radix::encode(digits, strip, cols, &layout, c, f);
            }
            Format::Base11Nine32 { .. } => radix::encode_9in32(strip, cols, &layout, c, f),
            Format::Nf4 { .. } => codebook::encode((&codebook::NF4, 4), largest, strip, cols, &layout, c, f),
            Format::NvFp4 => {
                head = Some(codebook::encode_nvfp4(largest, strip, cols, &layout, c, f).to_bits());
            }
            Format::Custom(id) => {
                let format = custom::get(id);
                let table = (&format.values[..], format.bits().into());
                codebook::encode(table, largest, strip, cols, &layout, c, f);
            }
            Format::Element { element, .. } => {
                if let Some(blocks) = self.blocks(strip.len()) {
                    let scale_codes = element::scale_codes_within(element, strip, blocks, smallest_tile);
                    fields = scale_codes.into_iter().map(u32::from).collect();
                }
                exceptions = encode_elements(element, strip, cols, &layout, &fields, &mut codes);
            }
            Format::Ggml(kind) => {
                let blocks = kind.encode(strip)?;
                let (codes, scales) = kind.to_streams(rows, cols, &blocks)?;
                return Ok(Packed { format, rows, cols, codes, scales, exceptions });
            }
        }
        let mut scales: Vec<u32> = head.into_iter().collect();
        scales.extend(bits::pack_fields(fields, layout.scale_bits));
        Ok(Packed { format, rows, cols, codes, scales, exceptions })
    }

    /// Rows of a strip.
    fn check(&self, first_row: usize, strip: &[f32]) -> Result<usize> {
        let Self { rows, cols, .. } = *self;
        let count = strip.len() / cols;
        let end = first_row.saturating_add(count);
        let alignment = self.alignment();
        let fits = strip.len() == count * cols && count > 0 && end <= rows;
        if !fits || !first_row.is_multiple_of(alignment) || (end < rows && !end.is_multiple_of(alignment)) {
            invalid!(
                "matrix [{rows}, {cols}] in {}: got {} weights from row {first_row} on; want whole rows up to the last \
                 one, or to a multiple of {alignment} rows",
                self.format,
                strip.len()
            );
        }
        Ok(count)
    }
}

/// Codes of every element; `fields` are the scale codes. Returns what has no code.
fn encode_elements(
    element: Element,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    fields: &[u32],
    codes: &mut [u32],
) -> Vec<Exception> {
    let width = layout.scheme.codes.bits();
    let exponents = matches!(layout.scheme.scale, Scale::Exponent { .. });
    debug_assert!(exponents || fields.is_empty());
    let of_row = |row: usize, words: &mut [u32], values: &[f32]| -> Vec<Exception> {
        let mut exceptions = Vec::new();
        for (k, &w) in values.iter().enumerate() {
            let scale_code = match layout.scheme.groups {
                Groups::Tensor => 0,
                Groups::Tiles { rows, cols } => fields[row / rows * layout.groups_per_row + k / cols] as u8,
                Groups::Flat(group) => fields[(row * cols + k) / group] as u8,
            };
            let code = element.coded(w, scale_code).unwrap_or_else(|y| {
                // A block that overflows is NaN as a whole, which its scale says.
                if element.exponent(scale_code).is_some() {
                    exceptions.push(Exception { row: row as u32, col: k as u32, bits: y.to_bits() });
                }
                element.fallback(scale_code)
            });
            bits::put(words, k * width as usize, width, code);
        }
        exceptions
    };
    let rows = codes.par_chunks_mut(layout.row_words).zip(weights.par_chunks(cols)).enumerate();
    let lists: Vec<Vec<Exception>> = rows.map(|(row, (words, values))| of_row(row, words, values)).collect();
    lists.concat()
}

impl Format {
    /// Whether encoding may leave weights that have no code (see [`Packed::exceptions`]).
    pub fn may_have_exceptions(&self) -> bool {
        matches!(self, Self::Element { element, .. } if element.has_uncoded_values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights with rows, tiles and groups of zeros, magnitudes that have no code, and a largest one near the end.
    fn weights(rows: usize, cols: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut weights: Vec<f32> = (0..rows * cols)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * ((state >> 20 & 7) as f32 * 0.3).exp2()
            })
            .collect();
        weights[..2 * cols + 40].fill(0.0);
        weights[rows * cols / 2..][..3 * cols].fill(0.0);
        (0..rows * cols).step_by(97).for_each(|i| weights[i] = 3e-9);
        weights[rows * cols - 3] = -9.5;
        weights
    }

    #[test]
    fn strips_are_the_matrix_word_for_word() {
        let mut in_parts = 0;
        for format in Format::catalog() {
            for (rows, cols) in [(70, 512), (67, 256), (65, 100), (9, 36)] {
                let Ok(mut encoder) = Encoder::new(format, rows, cols) else { continue };
                let weights = weights(rows, cols);
                let whole = format.encode(&weights, rows, cols).unwrap();
                let alignment = encoder.alignment();
                in_parts += usize::from(alignment < rows);
                let step = alignment * 5_usize.div_ceil(alignment);
                let strips: Vec<&[f32]> = weights.chunks(step * cols).collect();
                if encoder.wants_survey() {
                    strips.iter().for_each(|strip| encoder.survey(strip));
                }
                let head = encoder.layout.scheme.scale.head_words();
                let is_shared = encoder.layout.scheme.groups == Groups::Tensor;
                let (mut codes, mut scales, mut exceptions) = (Vec::new(), Vec::new(), Vec::new());
                for (index, strip) in strips.iter().enumerate() {
                    let packed = encoder.pack(index * step, strip).unwrap();
                    let first = (index * step) as u32;
                    codes.extend(packed.codes);
                    match index {
                        0 => scales.extend(packed.scales),
                        _ if is_shared => assert_eq!(packed.scales, scales, "{format}"),
                        _ => scales.extend(&packed.scales[head..]),
                    }
                    exceptions
                        .extend(packed.exceptions.iter().map(|e| Exception { row: e.row + first, ..*e }));
                }
                let got = Packed { format, rows, cols, codes, scales, exceptions };
                assert_eq!(got, whole, "{format} [{rows}, {cols}]");
            }
        }
        assert!(in_parts > 150, "{in_parts}");
    }

    #[test]
    fn strips_that_do_not_fit_are_refused() {
        let encoder = Encoder::new("f16".parse().unwrap(), 4, 3).unwrap();
        assert_eq!(encoder.alignment(), 1);
        for (first, len) in [(0, 0), (0, 4), (3, 6), (4, 3), (usize::MAX, 3), (0, 15)] {
            let error = encoder.pack(first, &vec![0.0; len]).unwrap_err().to_string();
            assert!(error.contains("want whole rows"), "{first} {len}: {error}");
        }
        let error = encoder.pack(2, &[0.0, 1.0, 1e9]).unwrap_err().to_string();
        assert!(error.starts_with("weight 8 (row 2, column 2) is 1e9"), "{error}");
        let error = encoder.pack(3, &[0.0, f32::NAN, 1e9]).unwrap_err().to_string();
        assert!(error.starts_with("weight 10 (row 3, column 1) is NaN"), "{error}");
        let tiles = Encoder::new("block_minifloat_corrected(6,3,8,[4,8])".parse().unwrap(), 12, 64).unwrap();
        assert_eq!(tiles.alignment(), 4);
        assert!(tiles.pack(4, &[0.0; 256]).is_ok());
        for (first, rows) in [(2, 4), (0, 5), (8, 8)] {
            assert!(tiles.pack(first, &vec![0.0; rows * 64]).is_err(), "{first} {rows}");
        }
    }
}
