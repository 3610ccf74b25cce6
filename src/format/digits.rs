//! Digit packing: base-`b` digits, `k` of them in a field of `m` bits.
//!
//! A format with `b` levels wastes part of a bit per weight unless `b` is a power of two. `k` digits together
//! need `k * log2(b)` bits, so a good pair `(k, m)` wastes next to nothing: five ternary digits fit 8 bits
//! (1.6 bits each), two base-11 digits fit 7 bits (3.5 bits each).
//!
//! A row of digits is a little-endian stream of `m`-bit fields in `u32` words: field `j` holds digits
//! `j * k .. (j + 1) * k` in bits `j * m .. (j + 1) * m`, the first digit least significant. A last field that
//! is not full has digits 0 above, and a row ends at a word. Two codes of a field exist:
//!
//! * *integer* ([`DigitLayout::pack`]): `v = sum d_i * b^i`, and `d_i = v / b^i % b`. The weights' layout.
//! * *fraction* ([`DigitLayout::pack_fraction`]): `f = ceil(v' * 2^m / b^k)` with `v' = sum d_i * b^(k-1-i)`,
//!   and `d_i` is the integer part of `b * frac(f * b^i / 2^m)`: every digit costs two multiplications and no
//!   division. The ternary format TQ1_0 of ggml stores its bytes this way
//!   ([fixed-point digit extraction](https://compilade.net/blog/ternary-packing)). It is exact because rounding
//!   up adds less than one unit, and a unit of `f` is at most `2^m / b^k` of a step of `v'`.

use super::bits;
use crate::error::{Result, invalid};

/// Base, digits per field and bits per field; see the [module documentation](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DigitLayout {
    /// Levels of a digit, 2..=256.
    pub base: u32,
    /// Digits per field, at least 1.
    pub digits: u32,
    /// Bits per field, 1..=32; `base^digits <= 2^bits`.
    pub bits: u32,
}

impl DigitLayout {
    /// Five ternary digits in 8 bits: 1.6 bits each.
    pub const TERNARY: Self = Self { base: 3, digits: 5, bits: 8 };

    /// The layout with the fewest bits per digit among fields of at most 16 bits (the shortest field among
    /// equals), in which a digit is found with 32-bit products. `None` for a base outside 2..=256.
    pub fn densest(base: u32) -> Option<Self> {
        if !(2..=256).contains(&base) {
            return None;
        }
        let layouts = (1..=16).filter_map(|bits| {
            let digits = (1..).take_while(|&k| u64::from(base).pow(k) <= 1 << bits).last()?;
            Some(Self { base, digits, bits })
        });
        layouts.reduce(|best, next| {
            // next.bits / next.digits < best.bits / best.digits
            if next.bits * best.digits < best.bits * next.digits { next } else { best }
        })
    }

    /// Checks the three numbers. The other methods ask for a layout that passes.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) names the number that is out of range.
    pub fn check(self) -> Result<()> {
        let Self { base, digits, bits } = self;
        if !(2..=256).contains(&base) {
            invalid!("digits of base {base}: want a base between 2 and 256");
        }
        if !(1..=32).contains(&bits) {
            invalid!("digit fields of {bits} bits: want 1 to 32 bits");
        }
        let values = u64::from(base).checked_pow(digits);
        if digits == 0 || values.is_none_or(|values| values > 1 << bits) {
            invalid!(
                "{digits} digits of base {base} in {bits} bits: want at least one digit, and base^digits at \
                 most 2^bits; use fewer digits or more bits"
            );
        }
        Ok(())
    }

    /// Words of a row of `cols` digits.
    pub fn row_words(self, cols: usize) -> usize {
        (cols.div_ceil(self.digits as usize) * self.bits as usize).div_ceil(32)
    }

    /// Bits per digit of a full field.
    pub fn bits_per_digit(self) -> f64 {
        f64::from(self.bits) / f64::from(self.digits)
    }

    /// Packs a row in the integer code. Every digit must be below the base.
    ///
    /// # Panics
    /// When `out` is not [`DigitLayout::row_words`] long.
    pub fn pack(self, digits: &[u8], out: &mut [u32]) {
        self.pack_fields(digits, out, |field| {
            field.iter().rev().fold(0, |v, &digit| v * u64::from(self.base) + u64::from(digit)) as u32
        });
    }

    /// Digit `k` of a row in the integer code; below the base whatever the words are.
    ///
    /// # Panics
    /// When `k` lies beyond the words.
    pub fn digit(self, words: &[u32], k: usize) -> u8 {
        let (field, place) = self.place(words, k);
        // base^place divides base^digits / base, which is below 2^32.
        (field / self.base.pow(place) % self.base) as u8
    }

    /// Packs a row in the fraction code. Every digit must be below the base.
    ///
    /// # Panics
    /// When `out` is not [`DigitLayout::row_words`] long.
    pub fn pack_fraction(self, digits: &[u8], out: &mut [u32]) {
        let whole = u64::from(self.base).pow(self.digits);
        self.pack_fields(digits, out, |field| {
            let digits = field.iter().copied().chain(std::iter::repeat(0)).take(self.digits as usize);
            let v = digits.fold(0, |v, digit| v * u64::from(self.base) + u64::from(digit));
            (v << self.bits).div_ceil(whole) as u32
        });
    }

    /// Digit `k` of a row in the fraction code; below the base whatever the words are.
    ///
    /// # Panics
    /// When `k` lies beyond the words.
    pub fn digit_fraction(self, words: &[u32], k: usize) -> u8 {
        let (field, place) = self.place(words, k);
        let fraction = (u64::from(field) * u64::from(self.base).pow(place)) & ((1 << self.bits) - 1);
        ((fraction * u64::from(self.base)) >> self.bits) as u8
    }

    fn pack_fields(self, digits: &[u8], out: &mut [u32], code: impl Fn(&[u8]) -> u32) {
        assert_eq!(out.len(), self.row_words(digits.len()), "words of a row of {} digits", digits.len());
        out.fill(0);
        for (j, field) in digits.chunks(self.digits as usize).enumerate() {
            bits::put(out, j * self.bits as usize, self.bits, code(field));
        }
    }

    /// The field of digit `k` and the digit's place in it.
    fn place(self, words: &[u32], k: usize) -> (u32, u32) {
        let digits = self.digits as usize;
        (bits::get(words, k / digits * self.bits as usize, self.bits), (k % digits) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn layout(base: u32, digits: u32, bits: u32) -> DigitLayout {
        DigitLayout { base, digits, bits }
    }

    const GOLDEN: [(u32, u32, u32); 12] = [
        (3, 5, 8),
        (5, 3, 7),
        (6, 5, 13),
        (9, 5, 16),
        (10, 3, 10),
        (11, 2, 7),
        (11, 4, 14),
        (11, 8, 28),
        (20, 3, 13),
        (22, 2, 9),
        (40, 3, 16),
        (45, 2, 11),
    ];

    #[test]
    fn both_codes_equal_the_golden_words() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/packing.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (base, digits, bits) in GOLDEN {
            let layout = layout(base, digits, bits);
            layout.check().unwrap();
            let tensor =
                |what: &str| file.tensor(&format!("pack.base{base}.{digits}in{bits}.{what}")).unwrap().data();
            let words = |what: &str| -> Vec<u32> {
                tensor(what).chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
            };
            let want = tensor("digits");
            let mut out = vec![0; layout.row_words(want.len())];
            layout.pack(want, &mut out);
            assert_eq!(out, words("words_int"), "{layout:?}");
            let got: Vec<u8> = (0..want.len()).map(|k| layout.digit(&out, k)).collect();
            assert_eq!(got, want, "{layout:?}");
            layout.pack_fraction(want, &mut out);
            assert_eq!(out, words("words_frac"), "{layout:?}");
            let got: Vec<u8> = (0..want.len()).map(|k| layout.digit_fraction(&out, k)).collect();
            assert_eq!(got, want, "{layout:?}");
        }
    }

    #[test]
    fn every_value_of_a_field_round_trips_in_both_codes() {
        for base in 2..=256 {
            let layout = DigitLayout::densest(base).unwrap();
            layout.check().unwrap();
            let mut words = [0];
            for v in 0..base.pow(layout.digits) {
                let digits: Vec<u8> =
                    (0..layout.digits).map(|place| (v / base.pow(place) % base) as u8).collect();
                layout.pack(&digits, &mut words);
                assert_eq!(words, [v]);
                assert!((0..digits.len()).all(|k| layout.digit(&words, k) == digits[k]), "{layout:?} {v}");
                layout.pack_fraction(&digits, &mut words);
                let same = (0..digits.len()).all(|k| layout.digit_fraction(&words, k) == digits[k]);
                assert!(same, "{layout:?} {v}");
            }
        }
    }

    #[test]
    fn fields_of_32_bits_and_ragged_rows_round_trip() {
        for layout in [layout(2, 32, 32), layout(3, 20, 32), layout(16, 8, 32), layout(256, 4, 32)] {
            layout.check().unwrap();
            for cols in [1, 3, 31, 67] {
                let digits: Vec<u8> = (0..cols).map(|k| ((k * 97 + 5) as u32 % layout.base) as u8).collect();
                let largest = vec![(layout.base - 1) as u8; cols];
                let mut words = vec![0; layout.row_words(cols)];
                for row in [&digits, &largest] {
                    layout.pack(row, &mut words);
                    assert!((0..cols).all(|k| layout.digit(&words, k) == row[k]), "{layout:?}");
                    layout.pack_fraction(row, &mut words);
                    assert!((0..cols).all(|k| layout.digit_fraction(&words, k) == row[k]), "{layout:?}");
                }
            }
        }
    }

    #[test]
    fn unused_places_hold_zero() {
        let layout = DigitLayout::TERNARY;
        let mut words = vec![u32::MAX; layout.row_words(7)];
        layout.pack(&[2, 2, 2, 2, 2, 1, 2], &mut words);
        assert_eq!(words, [242 | 7 << 8]);
    }

    #[test]
    fn any_word_decodes_to_digits_below_the_base() {
        for layout in [DigitLayout::TERNARY, layout(11, 9, 32), layout(45, 2, 11)] {
            for word in [0, u32::MAX, 0xdead_beef, 0x8000_0001] {
                for k in 0..layout.digits as usize {
                    assert!(u32::from(layout.digit(&[word, word], k)) < layout.base);
                    assert!(u32::from(layout.digit_fraction(&[word, word], k)) < layout.base);
                }
            }
        }
    }

    #[test]
    fn densest_layouts_are_the_known_ones() {
        let known = [(3, 5, 8), (5, 3, 7), (6, 5, 13), (7, 1, 3), (9, 5, 16), (10, 3, 10), (11, 2, 7)];
        for (base, digits, bits) in known.into_iter().chain([(13, 4, 15), (19, 3, 13), (45, 2, 11)]) {
            assert_eq!(DigitLayout::densest(base), Some(layout(base, digits, bits)));
        }
        assert_eq!(DigitLayout::densest(16), Some(layout(16, 1, 4)));
        assert_eq!((DigitLayout::densest(1), DigitLayout::densest(257)), (None, None));
    }

    #[test]
    fn bad_layouts_are_refused() {
        for bad in [layout(1, 1, 8), layout(257, 1, 16), layout(3, 5, 7), layout(3, 0, 8), layout(3, 1, 33)] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(layout(2, u32::MAX, 32).check().is_err());
        assert!(layout(256, 17, 32).check().is_err());
    }
}
