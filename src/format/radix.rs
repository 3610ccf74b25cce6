//! Radix family: an odd number of levels per weight, packed as digits.
//!
//! * `radix`: symmetric, `qmax = (base - 1) / 2`, `s = f16(max|w| / qmax)`, `q = clamp(rne(w / s), -qmax, qmax)`,
//!   digit `q + qmax`; several digits `v = d0 + base * d1 + ...` in a field of a bit stream per row. `y = q * s`.
//!   `base11` is two base-11 digits in 7 bits: 3.5 bits plus the scale.
//! * `9in32`: the asymmetric scheme of the Base11Quantizer program, reproduced bit for bit: minimum and range
//!   per group in f16, nearest of the 11 points of `linspace(-1, 1)`, nine digits in a word. Groups whose
//!   minimum, maximum or range overflows f16 decode to NaN or infinity there, and so they do here.

use half::f16;

use super::digits::DigitLayout;
use super::rows::{for_rows, max_abs};
use super::{Layout, bits, int};

/// Levels per weight of `9in32`.
const BASE: u32 = 11;
/// Digits in a word of the `9in32` layout: `11^9 < 2^32`.
pub(super) const DIGITS_PER_WORD: usize = 9;

pub(super) fn encode(
    layout_of_digits: DigitLayout,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let qmax = (layout_of_digits.base as i32 - 1) / 2;
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        let mut digits = Vec::with_capacity(cols);
        for (group, values) in row.chunks(layout.group).enumerate() {
            let scale = int::scale_f16(max_abs(values), qmax);
            fields[group] = u32::from(scale.to_bits());
            let scale = scale.to_f32();
            digits.extend(values.iter().map(|&w| (int::code(w, scale, qmax) + qmax) as u8));
        }
        layout_of_digits.pack(&digits, words);
    });
}

/// Code of column `k`. A last digit beyond the base, which no encoder writes, stays what it is in the
/// two-digit layout: so the device reads it without a division.
pub(super) fn code(layout: DigitLayout, words: &[u32], k: usize) -> i8 {
    let qmax = (layout.base as i32 - 1) / 2;
    let digit = match layout {
        TWO_IN_SEVEN if k % 2 == 1 => bits::get(words, k / 2 * 7, 7) / BASE,
        _ => layout.digit(words, k).into(),
    };
    (digit as i32 - qmax) as i8
}

/// The layout of `base11`.
pub(super) const TWO_IN_SEVEN: DigitLayout = DigitLayout { base: BASE, digits: 2, bits: 7 };

/// `torch.linspace(-1, 1, 11)` in f32: counted from the near end.
fn codebook(i: u32) -> f32 {
    const STEP: f32 = 0.2;
    if i < 5 { -1.0 + STEP * i as f32 } else { 1.0 - STEP * (BASE - 1 - i) as f32 }
}

pub(super) fn encode_9in32(
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let book: [f32; BASE as usize] = std::array::from_fn(|i| codebook(i as u32));
    let group_words = layout.group.div_ceil(DIGITS_PER_WORD);
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        let groups = row.chunks(layout.group).zip(words.chunks_mut(group_words));
        for ((values, words), field) in groups.zip(fields) {
            let min = f16::from_f32(values.iter().copied().fold(f32::INFINITY, f32::min));
            let max = f16::from_f32(values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let scale = range(min, max);
            *field = u32::from(min.to_bits()) | u32::from(scale.to_bits()) << 16;
            let (min, scale) = (min.to_f32(), scale.to_f32());
            for (word, values) in words.iter_mut().zip(values.chunks(DIGITS_PER_WORD)) {
                *word = values.iter().rev().fold(0, |word, &w| {
                    let centered = (w - min) / scale * 2.0 - 1.0;
                    word * BASE + nearest(&book, centered)
                });
            }
        }
    });
}

/// `f16(max - min)`, at least `f16(1e-5)`, NaN kept. The f32 difference of two f16 rounds to the f16 one:
/// 24 bits are at least `2 * 11 + 2`.
fn range(min: f16, max: f16) -> f16 {
    let range = f16::from_f32(max.to_f32() - min.to_f32());
    let least = f16::from_f32(1e-5);
    if range < least { least } else { range }
}

/// Index of the least `|c - book[i]|`, the first of equals; like torch's argmin, the first NaN wins.
fn nearest(book: &[f32; BASE as usize], c: f32) -> u32 {
    // Far outside the book the f32 distances tie, so the full scan is the definition; inside it the three
    // neighbours decide.
    let (from, to) = if c.abs() <= 2.0 {
        let middle = ((c + 1.0) * 5.0).round().clamp(0.0, 10.0) as usize;
        (middle.saturating_sub(1), (middle + 1).min(10))
    } else {
        (0, 10)
    };
    let mut best = from;
    let mut least = (c - book[from]).abs();
    for (i, value) in book.iter().enumerate().take(to + 1).skip(from + 1) {
        let distance = (c - value).abs();
        if distance < least {
            (best, least) = (i, distance);
        }
    }
    best as u32
}

/// Digit of column `k` of a row.
fn digit_9in32(words: &[u32], group: usize, k: usize) -> u32 {
    let within = k % group;
    let word = words[k / group * group.div_ceil(DIGITS_PER_WORD) + within / DIGITS_PER_WORD];
    word / BASE.pow((within % DIGITS_PER_WORD) as u32) % BASE
}

/// `(book[i] + 1) / 2 * scale + min` in f32; `field` holds the minimum (low half) and the scale (high half).
pub(super) fn decode_9in32(words: &[u32], field: u32, group: usize, k: usize) -> f32 {
    let min = f16::from_bits(field as u16).to_f32();
    let scale = f16::from_bits((field >> 16) as u16).to_f32();
    (codebook(digit_9in32(words, group, k)) + 1.0) / 2.0 * scale + min
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbour_search_equals_the_full_scan() {
        let book: [f32; 11] = std::array::from_fn(|i| codebook(i as u32));
        let full = |c: f32| {
            (1..11).fold(0, |best, i| if (c - book[i]).abs() < (c - book[best]).abs() { i } else { best })
        };
        let mut state = 1u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let c = (state >> 8) as f32 / (1 << 22) as f32 - 2.0;
            assert_eq!(nearest(&book, c) as usize, full(c), "{c}");
        }
        for i in 0..20 {
            let middle = -1.0 + 0.1 * i as f32;
            for c in [middle, middle.next_up(), middle.next_down()] {
                assert_eq!(nearest(&book, c) as usize, full(c), "{c}");
            }
        }
        for c in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -3.0] {
            assert_eq!(nearest(&book, c), 0, "{c}");
        }
        assert_eq!(nearest(&book, 1e4), 10);
        // Where distances tie in f32, the first of them wins: a weight far above a rounded f16 minimum.
        for c in [3.2e6, 5.5e6, 1.7e7, 1e8] {
            assert_eq!(nearest(&book, c) as usize, full(c), "{c}");
        }
        assert_eq!(nearest(&book, 1e8), 0);
    }

    #[test]
    fn range_of_an_overflowing_group_stays_nan() {
        assert!(range(f16::INFINITY, f16::INFINITY).is_nan());
        assert_eq!(range(f16::ONE, f16::INFINITY), f16::INFINITY);
        assert_eq!(range(f16::ONE, f16::ONE), f16::from_f32(1e-5));
    }
}
