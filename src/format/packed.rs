//! A matrix in its packed words, and the exact map back to f32.

use half::f16;
use rayon::prelude::*;

use super::digits::DigitLayout;
use super::{Codes, Format, Groups, Layout, Scale, bits, codebook, float, mxint, radix};
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
    /// The stream of scales; empty for formats without.
    pub scales: Vec<u32>,
    /// Weights that are not what their code says, in row-major order.
    pub exceptions: Vec<Exception>,
}

/// A weight that the format lets pass, though it has no code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Row of the matrix.
    pub row: u32,
    /// Column of the matrix.
    pub col: u32,
    /// Its value as binary32 bits.
    pub bits: u32,
}

/// What decoding needs besides the words of a row.
struct Decoder<'a> {
    packed: &'a Packed,
    layout: Layout,
    table: Vec<f32>,
}

impl Packed {
    /// A packed matrix from stored words. The words themselves are not checked: every bit pattern decodes
    /// to something. `mxint_cuda` codes of -128, which its encoder never writes, become the 0 that the original
    /// decodes them to.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where [`Format::layout`] fails, a stream has the wrong
    /// length, or the exceptions are out of order, out of range or NaN.
    pub fn from_parts(
        format: Format,
        rows: usize,
        cols: usize,
        mut codes: Vec<u32>,
        scales: Vec<u32>,
        exceptions: Vec<Exception>,
    ) -> Result<Self> {
        let layout = format.layout(rows, cols)?;
        for (what, got, want) in
            [("code", codes.len(), layout.code_words), ("scale", scales.len(), layout.scale_words)]
        {
            if got != want {
                invalid!("{format} matrix [{rows}, {cols}]: got {got} {what} words, want {want}");
            }
        }
        if layout.scheme.codes == Codes::Stream8 {
            for word in &mut codes {
                let bytes = word.to_le_bytes().map(|byte| if byte == 0x80 { 0 } else { byte });
                *word = u32::from_le_bytes(bytes);
            }
        }
        let position = |e: &Exception| (e.row, e.col);
        let outside = |e: &Exception| e.row as usize >= rows || e.col as usize >= cols;
        if exceptions.iter().any(|e| outside(e) || f32::from_bits(e.bits).is_infinite())
            || !exceptions.is_sorted_by(|a, b| position(a) < position(b))
        {
            invalid!("{format} matrix [{rows}, {cols}]: the list of exceptions is damaged");
        }
        Ok(Self { format, rows, cols, codes, scales, exceptions })
    }

    /// All values, row-major; rows in parallel.
    pub fn decode(&self) -> Vec<f32> {
        let decoder = self.decoder();
        let mut out = vec![0.0; self.rows * self.cols];
        out.par_chunks_mut(self.cols).enumerate().for_each(|(row, out)| decoder.row(row, out));
        out
    }

    /// The values of one row.
    ///
    /// # Panics
    /// When `row` is out of range or `out` is not `cols` long.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.check_row(row, out.len());
        self.decoder().row(row, out);
    }

    /// Whether every element is an integer code times a scale.
    pub fn has_integer_codes(&self) -> bool {
        self.format.has_integer_codes() && self.exceptions.is_empty()
    }

    /// The integer codes of one row: `y = code * scale` with [`Packed::scale`], exactly for power-of-two scales and
    /// rounded once to f32 otherwise.
    ///
    /// # Panics
    /// When the matrix has no integer codes, `row` is out of range or `out` is not `cols` long.
    pub fn integer_codes(&self, row: usize, out: &mut [i8]) {
        assert!(self.has_integer_codes(), "{} has no integer codes", self.format);
        self.check_row(row, out.len());
        let layout = self.layout();
        let words = self.row_words(&layout, row);
        for (k, code) in out.iter_mut().enumerate() {
            *code = self.integer(&layout, words, row, k) as i8;
        }
    }

    /// The scale of an element: the factor of its code, or of its value in the table. 1 where nothing is stored
    /// and nothing is implied; the range of the group for `base11(layout=9in32)`, the factor of the 32 or 16
    /// weights around it for ggml's k-quants.
    ///
    /// # Panics
    /// When `row` or `col` is out of range.
    pub fn scale(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows && col < self.cols, "({row}, {col}) of [{}, {}]", self.rows, self.cols);
        let layout = self.layout();
        match layout.scheme.scale {
            Scale::K4 | Scale::K6 => match self.format {
                Format::Ggml(kind) => kind.scale(&self.scales, self.cols, row, col).0,
                _ => 1.0,
            },
            _ => self.factor(&layout, self.group(&layout, row, col)),
        }
    }

    /// End of the run of columns of `row` that share the scale of column `begin`.
    pub(crate) fn run_end(&self, layout: &Layout, row: usize, begin: usize) -> usize {
        let length = match layout.scheme.groups {
            Groups::Tensor => self.cols,
            // Groups follow the flattened matrix, so a run may start in the middle of one.
            Groups::Flat(group) => group - (row * self.cols + begin) % group,
            Groups::Tiles { cols, .. } => cols - begin % cols,
        };
        self.cols.min(begin + length)
    }

    /// Size of both streams and of the exceptions in bytes.
    pub fn bytes(&self) -> usize {
        (self.codes.len() + self.scales.len()) * 4 + size_of_val(self.exceptions.as_slice())
    }

    /// Number of groups whose stored scale (or minimum) is not finite; their values are not finite either.
    pub fn scale_overflows(&self) -> usize {
        let layout = self.layout();
        let finite_f16 = |bits: u32| f16::from_bits(bits as u16).is_finite();
        let head = layout.scheme.scale.head_words();
        let finite = |index: usize| {
            let field =
                || bits::get(&self.scales[head..], index * layout.scale_bits, layout.scale_bits as u32);
            match layout.scheme.scale {
                Scale::Fixed(_) | Scale::E4m3 => true,
                Scale::F32 => f32::from_bits(field()).is_finite(),
                Scale::F16 | Scale::F16Zero => finite_f16(field() & 0xffff),
                Scale::MinimumRange => finite_f16(field() & 0xffff) && finite_f16(field() >> 16),
                Scale::Exponent { offset, .. } => field() as i32 - i32::from(offset) < 128,
                Scale::K4 => {
                    let word = self.scales[index * 4];
                    finite_f16(word & 0xffff) && finite_f16(word >> 16)
                }
                Scale::K6 => finite_f16(bits::get(&self.scales, (index * 18 + 16) * 8, 16)),
            }
        };
        let overflows = (0..layout.groups).filter(|&index| !finite(index)).count();
        overflows + usize::from(head > 0 && !f32::from_bits(self.scales[0]).is_finite())
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder { packed: self, layout: self.layout(), table: self.format.table() }
    }

    fn check_row(&self, row: usize, len: usize) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(len, self.cols, "length of a row");
    }

    /// Sizes of this matrix. The constructors have checked them; fields changed by hand may panic.
    pub(crate) fn layout(&self) -> Layout {
        match self.format.layout(self.rows, self.cols) {
            Ok(layout) => layout,
            Err(error) => panic!("{error}"),
        }
    }

    fn row_words(&self, layout: &Layout, row: usize) -> &[u32] {
        match layout.scheme.codes {
            Codes::Stream8 => &self.codes,
            _ => &self.codes[row * layout.row_words..][..layout.row_words],
        }
    }

    /// The integer of column `k`, zero point removed. A `mxint_cuda` code of -128 is 0: so the original decodes it.
    fn integer(&self, layout: &Layout, words: &[u32], row: usize, k: usize) -> i32 {
        match layout.scheme.codes {
            Codes::Signed(width) => bits::get_signed(words, k * usize::from(width), width.into()).into(),
            Codes::Sign => 2 * bits::get(words, k, 1) as i32 - 1,
            Codes::Unsigned(width) => {
                let field = bits::get(words, k * usize::from(width), width.into()) as i32;
                match layout.scheme.scale {
                    Scale::F16Zero => {
                        let zero = self.field(layout, self.group(layout, row, k)) >> 16;
                        field - (zero & ((1 << width) - 1)) as i32
                    }
                    _ => field,
                }
            }
            Codes::Digits { base, digits, bits } => {
                let layout = DigitLayout { base: base.into(), digits: digits.into(), bits: bits.into() };
                radix::code(layout, words, k).into()
            }
            Codes::Stream8 => match bits::get_signed(words, (row * self.cols + k) * 8, 8) {
                i8::MIN => 0,
                code => code.into(),
            },
            _ => 0,
        }
    }

    /// Index of the scale record of an element.
    fn group(&self, layout: &Layout, row: usize, k: usize) -> usize {
        match layout.scheme.groups {
            Groups::Tensor => 0,
            Groups::Tiles { rows, cols } => row / rows * layout.groups_per_row + k / cols,
            Groups::Flat(group) => (row * self.cols + k) / group,
        }
    }

    /// The stored record of a group, as raw bits; for records of at most 32 bits.
    fn field(&self, layout: &Layout, group: usize) -> u32 {
        let head = layout.scheme.scale.head_words();
        bits::get(&self.scales[head..], group * layout.scale_bits, layout.scale_bits as u32)
    }

    /// The factor that the record of a group stands for.
    fn factor(&self, layout: &Layout, group: usize) -> f32 {
        match layout.scheme.scale {
            Scale::Fixed(fraction) => mxint::power_of_two((-i32::from(fraction)).clamp(-1022, 1023)) as f32,
            Scale::F32 => f32::from_bits(self.field(layout, group)),
            Scale::F16 | Scale::F16Zero => f16::from_bits(self.field(layout, group) as u16).to_f32(),
            Scale::MinimumRange => f16::from_bits((self.field(layout, group) >> 16) as u16).to_f32(),
            Scale::Exponent { offset, fraction } => {
                match self.field(layout, group) as i32 - i32::from(offset) {
                    128.. => f32::NAN,
                    exponent => mxint::power_of_two(exponent - i32::from(fraction)) as f32,
                }
            }
            Scale::E4m3 => {
                codebook::nvfp4_scale(self.field(layout, group) as u8, f32::from_bits(self.scales[0]))
            }
            Scale::K4 | Scale::K6 => 1.0,
        }
    }
}

impl Decoder<'_> {
    fn row(&self, row: usize, out: &mut [f32]) {
        let Self { packed, layout, .. } = self;
        let words = packed.row_words(layout, row);
        let scheme = layout.scheme;
        match (scheme.codes, scheme.scale) {
            (Codes::F32 | Codes::F16 | Codes::Bf16, _) => {
                for (k, y) in out.iter_mut().enumerate() {
                    *y = float::decode(packed.format, words, k);
                }
            }
            (_, Scale::K4 | Scale::K6) => {
                if let Format::Ggml(kind) = packed.format {
                    kind.decode_row(&packed.codes, &packed.scales, row, out);
                }
            }
            _ => self.runs(row, words, out),
        }
        let first = packed.exceptions.partition_point(|e| (e.row as usize) < row);
        for exception in packed.exceptions[first..].iter().take_while(|e| e.row as usize == row) {
            out[exception.col as usize] = f32::from_bits(exception.bits);
        }
    }

    /// Runs of columns that share a scale.
    fn runs(&self, row: usize, words: &[u32], out: &mut [f32]) {
        let Self { packed, layout, table } = self;
        let scheme = layout.scheme;
        let mut begin = 0;
        while begin < packed.cols {
            let end = packed.run_end(layout, row, begin);
            let group = packed.group(layout, row, begin);
            let run = &mut out[begin..end];
            match (scheme.codes, packed.format) {
                (Codes::Digits9, _) => {
                    let field = packed.field(layout, group);
                    for (k, y) in (begin..).zip(run) {
                        *y = radix::decode_9in32(words, field, layout.group, k);
                    }
                }
                (Codes::Stream8, _) => {
                    let byte = packed.field(layout, group) as u8;
                    let scale = packed.factor(layout, group);
                    for (k, y) in (begin..).zip(run) {
                        let code = packed.integer(layout, words, row, k);
                        *y = match byte {
                            1..=254 => mxint::cuda_decode(code as i8, byte),
                            _ => code as f32 * scale,
                        };
                    }
                }
                (Codes::Table(width) | Codes::Wide(width), Format::Element { element, .. }) => {
                    let byte = if layout.scale_bits > 0 { packed.field(layout, group) as u8 } else { 0 };
                    for (k, y) in (begin..).zip(run) {
                        let code = bits::get(words, k * usize::from(width), width.into());
                        *y = element.value(code, byte);
                    }
                }
                (Codes::Table(width), _) => {
                    let scale = packed.factor(layout, group);
                    for (k, y) in (begin..).zip(run) {
                        let code = bits::get(words, k * usize::from(width), width.into());
                        *y = table[code as usize] * scale;
                    }
                }
                _ => {
                    let scale = packed.factor(layout, group);
                    for (k, y) in (begin..).zip(run) {
                        *y = packed.integer(layout, words, row, k) as f32 * scale;
                    }
                }
            }
            begin = end;
        }
    }
}
