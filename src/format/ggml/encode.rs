//! ggml's reference quantizers, and the way into the searched types.
//!
//! Bytes equal those of the `quantize_row_*_ref` functions of ggml and of its Python package `gguf`. All
//! arithmetic is f32 in the order written; `id` is the reciprocal of the unrounded scale, 0 for a scale of 0.

use half::f16;

use super::scale::{e4m3_half, e8m0_half};
use super::{E2M1_TABLE, GgmlType, MAX_BLOCK, MAX_SCALE_BYTES, MAX_SUBS, search};

impl GgmlType {
    /// Rounds finite weights to one block. False when a scale or minimum is beyond f16: the block is not
    /// finite then.
    pub(super) fn encode_block(self, weights: &[f32], block: &mut [u8]) -> bool {
        let mut codes = [0; MAX_BLOCK];
        let mut scales = [0; MAX_SCALE_BYTES];
        let (codes, scales) = (&mut codes[..weights.len()], &mut scales[..self.scale_bytes()]);
        match self {
            Self::Q4_0 => symmetric(weights, 8, codes, scales),
            Self::Q5_0 => symmetric(weights, 16, codes, scales),
            Self::Q4_1 => asymmetric(weights, 15, codes, scales),
            Self::Q5_1 => asymmetric(weights, 31, codes, scales),
            Self::Q8_0 => rounded(weights, 127.0, codes, scales),
            Self::Tq1_0 | Self::Tq2_0 => rounded(weights, 1.0, codes, scales),
            Self::Mxfp4 => {
                scales[0] = mxfp4_scale(max_abs(weights));
                nearest_e2m1(weights, e8m0_half(scales[0]), codes);
            }
            Self::Nvfp4 => {
                let subs = weights.chunks(self.sub_block()).zip(codes.chunks_mut(self.sub_block()));
                for ((weights, codes), scale) in subs.zip(scales.iter_mut()) {
                    *scale = e4m3(max_abs(weights) / 6.0);
                    nearest_e2m1(weights, e4m3_half(*scale), codes);
                }
            }
            Self::Q2K | Self::Q4K | Self::Q5K => search::with_minima(self, weights, codes, scales),
            Self::Q3K | Self::Q6K | Self::Iq4Nl | Self::Iq4Xs => {
                search::without_minima(self, weights, codes, scales);
            }
        }
        self.repack(codes, scales, block);
        let mut affine = [(0.0, 0.0); MAX_SUBS];
        let affine = &mut affine[..weights.len() / self.sub_block()];
        self.affine(scales, affine);
        affine.iter().all(|(scale, min)| scale.is_finite() && min.is_finite())
    }
}

fn max_abs(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |max, w| f32::max(max, w.abs()))
}

fn reciprocal(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn put_f16(value: f32, bytes: &mut [u8]) {
    bytes.copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// `q4_0`, `q5_0`: the weight of largest magnitude (the first of them) becomes `-half`; the others round half
/// up and saturate at `half - 1`.
fn symmetric(weights: &[f32], half: u8, codes: &mut [i8], scales: &mut [u8]) {
    let mut extreme = 0.0f32;
    for &w in weights {
        if w.abs() > extreme.abs() {
            extreme = w;
        }
    }
    let d = extreme / -f32::from(half);
    let id = reciprocal(d);
    put_f16(d, scales);
    for (code, &w) in codes.iter_mut().zip(weights) {
        // The conversion truncates and saturates.
        let stored = ((w * id + (f32::from(half) + 0.5)) as u8).min(2 * half - 1);
        *code = stored as i8 - half as i8;
    }
}

/// `q4_1`, `q5_1`: the minimum is code 0, the maximum code `top`; round half up.
fn asymmetric(weights: &[f32], top: u8, codes: &mut [i8], scales: &mut [u8]) {
    let min = weights.iter().copied().fold(f32::INFINITY, f32::min);
    let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (max - min) / f32::from(top);
    let id = reciprocal(d);
    put_f16(d, &mut scales[..2]);
    put_f16(min, &mut scales[2..]);
    for (code, &w) in codes.iter_mut().zip(weights) {
        *code = (((w - min) * id + 0.5) as u8).min(top) as i8;
    }
}

/// `q8_0`, `tq1_0`, `tq2_0`: the largest magnitude becomes `top`; ties round away from zero.
fn rounded(weights: &[f32], top: f32, codes: &mut [i8], scales: &mut [u8]) {
    let d = max_abs(weights) / top;
    let id = reciprocal(d);
    put_f16(d, scales);
    for (code, &w) in codes.iter_mut().zip(weights) {
        // The bound matters only where the reciprocal of a subnormal scale overflows.
        *code = (w * id).round().clamp(-top, top) as i8;
    }
}

/// E8M0 byte of the largest magnitude: `floor(log2(max)) - 2`, 2 being the exponent of the largest E2M1 value.
/// The logarithm is rounded to f32 as in ggml, so that a maximum just below a power of two can count as it.
fn mxfp4_scale(max: f32) -> u8 {
    if max == 0.0 {
        return 0;
    }
    let log = libm::log2(f64::from(max)) as f32;
    (log.floor() - 2.0 + 127.0) as u8
}

/// The unsigned E4M3 byte of a number that is not negative, as ggml rounds it: half up; below `2^-6` to
/// multiples of `2^-9`, of which 7 is the largest; from 248 on to 448.
fn e4m3(value: f32) -> u8 {
    let bits = value.min(448.0).to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    match exponent {
        ..=0 => ((value * 512.0 + 0.5) as u8).min(7),
        15.. => 0x7e,
        _ => {
            // A mantissa that rounds up to 8 carries into the exponent.
            let mantissa = (bits >> 20 & 7) + (bits >> 19 & 1);
            let byte = ((exponent as u32) << 3) + mantissa;
            if byte >= 15 << 3 { 0x7e } else { byte as u8 }
        }
    }
}

/// The code with the least `|table * scale - w|`, the first of equals: ties go to the smaller magnitude.
fn nearest_e2m1(weights: &[f32], scale: f32, codes: &mut [i8]) {
    for (code, &w) in codes.iter_mut().zip(weights) {
        let mut least = f32::INFINITY;
        for (index, &value) in E2M1_TABLE.iter().enumerate() {
            let distance = (f32::from(value) * scale - w).abs();
            if distance < least {
                (*code, least) = (index as i8, distance);
            }
        }
    }
}
