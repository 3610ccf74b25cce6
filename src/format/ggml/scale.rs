//! Scales and minima of the sub-blocks of a block, from its scale bytes.

use half::f16;

use super::GgmlType;

impl GgmlType {
    /// Weights that share a scale and a minimum.
    pub(super) fn sub_block(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K | Self::Nvfp4 => 16,
            Self::Tq1_0 | Self::Tq2_0 => 256,
            _ => 32,
        }
    }

    /// `(scale, min)` of every sub-block. Products are rounded once, in the order of ggml's code:
    /// `d * sub-scale` first, then times the code.
    pub(super) fn affine(self, bytes: &[u8], out: &mut [(f32, f32)]) {
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Iq4Nl | Self::Tq1_0 | Self::Tq2_0 => {
                out[0] = (half(0), 0.0);
            }
            // Subtracting -m adds m.
            Self::Q4_1 | Self::Q5_1 => out[0] = (half(0), -half(2)),
            Self::Mxfp4 => out[0] = (e8m0_half(bytes[0]), 0.0),
            Self::Nvfp4 => {
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = (e4m3_half(byte), 0.0);
                }
            }
            Self::Q2K => {
                let (d, dmin) = (half(16), half(18));
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = (d * f32::from(byte & 15), dmin * f32::from(byte >> 4));
                }
            }
            Self::Q4K | Self::Q5K => {
                let (d, dmin) = (half(0), half(2));
                for (out, (scale, min)) in out.iter_mut().zip(unpack_pairs(&bytes[4..16])) {
                    *out = (d * f32::from(scale), dmin * f32::from(min));
                }
            }
            Self::Q3K => {
                let d = half(12);
                for (out, scale) in out.iter_mut().zip(unpack_q3k(&bytes[..12])) {
                    *out = (d * f32::from(scale), 0.0);
                }
            }
            Self::Q6K => {
                let d = half(16);
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = (d * f32::from(byte as i8), 0.0);
                }
            }
            Self::Iq4Xs => {
                let d = half(0);
                for (out, scale) in out.iter_mut().zip(unpack_iq4xs(&bytes[2..8])) {
                    *out = (d * f32::from(scale), 0.0);
                }
            }
        }
    }
}

/// Eight 6-bit (scale, minimum) pairs in 12 bytes (`q4_k`, `q5_k`). Bytes 0..4 and 4..8 hold scales and minima
/// 0..4 in their low 6 bits; bytes 8..12 the low 4 bits of pairs 4..8, a scale in the low nibble; the top 2
/// bits of bytes 0..8 the rest of these.
pub(super) fn unpack_pairs(bytes: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|j| {
        let (scale, min) = (bytes[j % 4], bytes[j % 4 + 4]);
        if j < 4 {
            (scale & 63, min & 63)
        } else {
            (bytes[j + 4] & 15 | scale >> 6 << 4, bytes[j + 4] >> 4 | min >> 6 << 4)
        }
    })
}

/// The inverse of [`unpack_pairs`].
pub(super) fn pack_pairs(pairs: &[(u8, u8); 8], bytes: &mut [u8]) {
    for j in 0..4 {
        let ((scale, min), (high_scale, high_min)) = (pairs[j], pairs[j + 4]);
        bytes[j] = scale | high_scale >> 4 << 6;
        bytes[j + 4] = min | high_min >> 4 << 6;
        bytes[j + 8] = high_scale & 15 | high_min << 4;
    }
}

/// Sixteen 6-bit scales in 12 bytes, stored plus 32 (`q3_k`): the low 4 bits of scales 0..8 and 8..16 in the
/// low and high nibbles of bytes 0..8, the top 2 bits of scale `j` in bits `j / 4 * 2` of byte `8 + j % 4`.
pub(super) fn unpack_q3k(bytes: &[u8]) -> [i8; 16] {
    std::array::from_fn(|j| {
        let low = bytes[j % 8] >> (j / 8 * 4) & 15;
        let high = bytes[8 + j % 4] >> (j / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// The inverse of [`unpack_q3k`].
pub(super) fn pack_q3k(scales: &[i8; 16], bytes: &mut [u8]) {
    bytes.fill(0);
    for (j, &scale) in scales.iter().enumerate() {
        let stored = (scale + 32) as u8;
        bytes[j % 8] |= (stored & 15) << (j / 8 * 4);
        bytes[8 + j % 4] |= (stored >> 4) << (j / 4 * 2);
    }
}

/// Eight 6-bit scales in 6 bytes, stored plus 32 (`iq4_xs`): the top 2 bits of scale `j` in bits `2 * j` of a
/// u16, then the low 4 bits as nibbles.
pub(super) fn unpack_iq4xs(bytes: &[u8]) -> [i8; 8] {
    std::array::from_fn(|j| {
        let low = bytes[2 + j / 2] >> (j % 2 * 4) & 15;
        let high = bytes[j / 4] >> (j % 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// The inverse of [`unpack_iq4xs`].
pub(super) fn pack_iq4xs(scales: &[i8; 8], bytes: &mut [u8]) {
    bytes.fill(0);
    for (j, &scale) in scales.iter().enumerate() {
        let stored = (scale + 32) as u8;
        bytes[2 + j / 2] |= (stored & 15) << (j % 2 * 4);
        bytes[j / 4] |= (stored >> 4) << (j % 4 * 2);
    }
}

/// Half of an E8M0 scale: `2^(byte - 128)`, exact as an f32 (bytes 0 and 1 are subnormal). ggml gives byte 255,
/// NaN in OCP MX, the value `2^127`.
pub(super) fn e8m0_half(byte: u8) -> f32 {
    let bits = match byte {
        0 | 1 => 0x0020_0000 << byte,
        _ => (u32::from(byte) - 1) << 23,
    };
    f32::from_bits(bits)
}

/// Half of an unsigned E4M3 scale. Bytes 0 and 127 are 0; the top bit does not count otherwise.
pub(super) fn e4m3_half(byte: u8) -> f32 {
    if byte == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (byte >> 3 & 15, byte & 7);
    let (significand, power) = match exponent {
        0 => (mantissa, 1),
        _ => (mantissa | 8, exponent),
    };
    // significand / 8 * 2^(power - 7) / 2 = significand * 2^(power - 11)
    f32::from(significand) * f32::from_bits((u32::from(power) + 127 - 11) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_scales_round_trip() {
        let bytes: Vec<u8> = (0..24u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        for bytes in bytes.windows(12) {
            let mut packed = [0; 12];
            pack_pairs(&unpack_pairs(bytes), &mut packed);
            assert_eq!(packed, bytes);
            pack_q3k(&unpack_q3k(bytes), &mut packed);
            assert_eq!(packed, bytes);
            let mut packed = [0; 6];
            pack_iq4xs(&unpack_iq4xs(&bytes[..6]), &mut packed);
            assert_eq!(packed, bytes[..6]);
        }
    }

    #[test]
    fn small_floats_are_halved() {
        for byte in 0..=255u8 {
            assert_eq!(f64::from(e8m0_half(byte)), 2f64.powi(i32::from(byte) - 128));
        }
        assert_eq!([0, 0x7f, 0x80].map(e4m3_half), [0.0; 3]);
        assert_eq!([1, 8, 0x38, 0x7e].map(e4m3_half), [0.5f32.powi(10), 0.5f32.powi(7), 0.5, 224.0]);
    }
}
