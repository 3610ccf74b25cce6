//! Where the bits of a block are: codes in the order of the weights on one side, ggml's bytes on the other.
//!
//! A code is an `i8`: the integer `n` of an integer type, the index of a table type. The bytes of a block that
//! hold no codes are its *scale bytes*, kept in their order.

use std::ops::Range;

use super::{GgmlType, MAX_BLOCK};

/// One type; [`GgmlType`] documents the public values.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) id: u32,
    /// Weights per block.
    pub(super) weights: usize,
    /// Bytes per block.
    pub(super) bytes: usize,
    /// Bits of a code.
    pub(super) bits: u32,
    /// Smallest code; they are `low .. low + 2^bits`.
    pub(super) low: i8,
    codes: Codes,
    /// The bytes that hold no codes: first and number.
    scales: &'static [(usize, usize)],
}

enum Codes {
    /// `code - low`, in pieces.
    Planes(&'static [Plane]),
    /// Two's complement, from this byte on.
    Bytes(usize),
    /// `code - low` as base-3 fractions.
    Trits,
}

/// Some bits of every code. A chunk of `run` bytes holds those of `run * 8 / bits` consecutive weights: of the
/// first `run` weights in the lowest `bits` of the bytes, of the next `run` in the bits above, and so on.
struct Plane {
    bytes: Range<usize>,
    run: usize,
    /// 1, 2 or 4.
    bits: u32,
    /// Place of these bits in the code.
    shift: u32,
}

const fn plane(bytes: Range<usize>, run: usize, bits: u32, shift: u32) -> Plane {
    Plane { bytes, run, bits, shift }
}

/// Trits of `tq1_0`: first byte, bytes, trits per byte. Trit `p` of byte `r` of such a range belongs to weight
/// `p * bytes + r` of the range's weights. A byte is a fraction of five trits (see
/// [`digits`](crate::format::digits)); the last range uses four of them.
const TRITS: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

const NIBBLES_2: Codes = Codes::Planes(&[plane(2..18, 16, 4, 0)]);

/// In the order of [`GgmlType::ALL`].
static LAYOUTS: [Layout; 16] = {
    use Codes::{Bytes, Planes, Trits};
    const Q4_1: Codes = Planes(&[plane(4..20, 16, 4, 0)]);
    const Q5_0: Codes = Planes(&[plane(6..22, 16, 4, 0), plane(2..6, 1, 1, 4)]);
    const Q5_1: Codes = Planes(&[plane(8..24, 16, 4, 0), plane(4..8, 1, 1, 4)]);
    const Q2K: Codes = Planes(&[plane(16..80, 32, 2, 0)]);
    const Q3K: Codes = Planes(&[plane(32..96, 32, 2, 0), plane(0..32, 32, 1, 2)]);
    const Q4K: Codes = Planes(&[plane(16..144, 32, 4, 0)]);
    const Q5K: Codes = Planes(&[plane(48..176, 32, 4, 0), plane(16..48, 32, 1, 4)]);
    const Q6K: Codes = Planes(&[plane(0..128, 64, 4, 0), plane(128..192, 32, 2, 4)]);
    const IQ4_XS: Codes = Planes(&[plane(8..136, 16, 4, 0)]);
    const TQ2_0: Codes = Planes(&[plane(0..64, 32, 2, 0)]);
    const MXFP4: Codes = Planes(&[plane(1..17, 16, 4, 0)]);
    const NVFP4: Codes = Planes(&[plane(4..36, 8, 4, 0)]);
    [
        row("q4_0", 2, (32, 18), (4, -8), NIBBLES_2, &[(0, 2)]),
        row("q4_1", 3, (32, 20), (4, 0), Q4_1, &[(0, 4)]),
        row("q5_0", 6, (32, 22), (5, -16), Q5_0, &[(0, 2)]),
        row("q5_1", 7, (32, 24), (5, 0), Q5_1, &[(0, 4)]),
        row("q8_0", 8, (32, 34), (8, -128), Bytes(2), &[(0, 2)]),
        row("q2_k", 10, (256, 84), (2, 0), Q2K, &[(0, 16), (80, 4)]),
        row("q3_k", 11, (256, 110), (3, -4), Q3K, &[(96, 14)]),
        row("q4_k", 12, (256, 144), (4, 0), Q4K, &[(0, 16)]),
        row("q5_k", 13, (256, 176), (5, 0), Q5K, &[(0, 16)]),
        row("q6_k", 14, (256, 210), (6, -32), Q6K, &[(192, 18)]),
        row("iq4_nl", 20, (32, 18), (4, 0), NIBBLES_2, &[(0, 2)]),
        row("iq4_xs", 23, (256, 136), (4, 0), IQ4_XS, &[(0, 8)]),
        row("tq1_0", 34, (256, 54), (2, -1), Trits, &[(52, 2)]),
        row("tq2_0", 35, (256, 66), (2, -1), TQ2_0, &[(64, 2)]),
        row("mxfp4", 39, (32, 17), (4, 0), MXFP4, &[(0, 1)]),
        row("nvfp4", 40, (64, 36), (4, 0), NVFP4, &[(0, 4)]),
    ]
};

const fn row(
    name: &'static str,
    id: u32,
    (weights, bytes): (usize, usize),
    (bits, low): (u32, i8),
    codes: Codes,
    scales: &'static [(usize, usize)],
) -> Layout {
    Layout { name, id, weights, bytes, bits, low, codes, scales }
}

impl GgmlType {
    pub(super) fn layout(self) -> &'static Layout {
        &LAYOUTS[self as usize]
    }

    /// Bytes of a block that hold no codes.
    pub(super) fn scale_bytes(self) -> usize {
        self.layout().scales.iter().map(|&(_, count)| count).sum()
    }

    /// Splits a block into codes, in the order of the weights, and scale bytes.
    pub(super) fn unpack(self, block: &[u8], codes: &mut [i8], scales: &mut [u8]) {
        let layout = self.layout();
        let mut at = 0;
        for &(first, count) in layout.scales {
            scales[at..at + count].copy_from_slice(&block[first..first + count]);
            at += count;
        }
        match layout.codes {
            Codes::Bytes(first) => {
                for (code, &byte) in codes.iter_mut().zip(&block[first..]) {
                    *code = byte as i8;
                }
            }
            Codes::Planes(planes) => {
                let mut raw = [0u8; MAX_BLOCK];
                for plane in planes {
                    plane.read(block, &mut raw[..layout.weights]);
                }
                for (code, &raw) in codes.iter_mut().zip(&raw) {
                    *code = raw as i8 + layout.low;
                }
            }
            Codes::Trits => {
                let mut codes = codes.iter_mut();
                for (first, count, trits) in TRITS {
                    for place in 0..trits as u32 {
                        for (&byte, code) in block[first..first + count].iter().zip(&mut codes) {
                            *code = trit(byte, place) as i8 + layout.low;
                        }
                    }
                }
            }
        }
    }

    /// The inverse of [`GgmlType::unpack`]. Codes are in the range of the type.
    pub(super) fn repack(self, codes: &[i8], scales: &[u8], block: &mut [u8]) {
        let layout = self.layout();
        let mut at = 0;
        for &(first, count) in layout.scales {
            block[first..first + count].copy_from_slice(&scales[at..at + count]);
            at += count;
        }
        match layout.codes {
            Codes::Bytes(first) => {
                for (&code, byte) in codes.iter().zip(&mut block[first..]) {
                    *byte = code as u8;
                }
            }
            Codes::Planes(planes) => {
                let mut raw = [0u8; MAX_BLOCK];
                for (raw, &code) in raw.iter_mut().zip(codes) {
                    *raw = code.wrapping_sub(layout.low) as u8;
                }
                for plane in planes {
                    plane.write(&raw[..layout.weights], block);
                }
            }
            Codes::Trits => {
                let mut codes = codes;
                for (first, count, trits) in TRITS {
                    for (r, byte) in block[first..first + count].iter_mut().enumerate() {
                        let digits = (0..5).map(|place| match codes.get(place * count + r) {
                            Some(&code) if place < trits => u32::from(code.wrapping_sub(layout.low) as u8),
                            _ => 0,
                        });
                        // Five trits as a fraction of 256, rounded up.
                        *byte = (digits.fold(0, |v, digit| v * 3 + digit) * 256).div_ceil(243) as u8;
                    }
                    codes = &codes[count * trits..];
                }
            }
        }
    }
}

/// Trit `place` of a fraction, the most significant first. The 13 bytes that no five trits encode to give
/// trits as well.
fn trit(byte: u8, place: u32) -> u8 {
    let fraction = byte.wrapping_mul(3u8.pow(place));
    ((u16::from(fraction) * 3) >> 8) as u8
}

impl Plane {
    fn read(&self, block: &[u8], raw: &mut [u8]) {
        let mask = (1u8 << self.bits) - 1;
        let runs = 8 / self.bits as usize;
        let chunks = block[self.bytes.clone()].chunks(self.run);
        for (bytes, raw) in chunks.zip(raw.chunks_mut(self.run * runs)) {
            for (part, raw) in raw.chunks_mut(self.run).enumerate() {
                let place = part as u32 * self.bits;
                for (raw, &byte) in raw.iter_mut().zip(bytes) {
                    *raw |= (byte >> place & mask) << self.shift;
                }
            }
        }
    }

    fn write(&self, raw: &[u8], block: &mut [u8]) {
        let mask = (1u8 << self.bits) - 1;
        let runs = 8 / self.bits as usize;
        let chunks = block[self.bytes.clone()].chunks_mut(self.run);
        for (bytes, raw) in chunks.zip(raw.chunks(self.run * runs)) {
            bytes.fill(0);
            for (part, raw) in raw.chunks(self.run).enumerate() {
                let place = part as u32 * self.bits;
                for (&raw, byte) in raw.iter().zip(bytes.iter_mut()) {
                    *byte |= (raw >> self.shift & mask) << place;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_scale_bytes_fill_the_block() {
        for ty in GgmlType::ALL {
            let layout = ty.layout();
            let mut owners = vec![0; layout.bytes];
            let code_bytes: Vec<Range<usize>> = match &layout.codes {
                Codes::Planes(planes) => planes.iter().map(|plane| plane.bytes.clone()).collect(),
                Codes::Bytes(first) => std::iter::once(*first..layout.bytes).collect(),
                Codes::Trits => TRITS.iter().map(|&(first, count, _)| first..first + count).collect(),
            };
            let scale_bytes = layout.scales.iter().map(|&(first, count)| first..first + count);
            for range in code_bytes.into_iter().chain(scale_bytes) {
                owners[range].iter_mut().for_each(|owner| *owner += 1);
            }
            assert!(owners.iter().all(|&owner| owner == 1), "{ty}: {owners:?}");
            assert!(layout.weights <= MAX_BLOCK && ty.scale_bytes() <= super::super::MAX_SCALE_BYTES);
            if let Codes::Planes(planes) = layout.codes {
                let bits: usize = planes.iter().map(|plane| plane.bytes.len() * 8).sum();
                assert_eq!(bits, layout.weights * layout.bits as usize, "{ty}");
            }
        }
    }

    #[test]
    fn names_and_variants_agree() {
        for ty in GgmlType::ALL {
            let letters = |text: &str| text.to_lowercase().replace('_', "");
            assert_eq!(letters(&format!("{ty:?}")), letters(ty.name()));
            assert_eq!(GgmlType::ALL[ty as usize], ty);
        }
    }
}
