//! Codebook formats with a real scale: NF4, NVFP4 and custom tables. A code is the index of the nearest value.
//!
//! * `nf4` (Dettmers et al. 2023, QLoRA, appendix E): the table below times `s = f16(max|w|)` of the group.
//! * `nvfp4` (NVIDIA): E2M1 in blocks of 16; `t = max|w| / (448 * 6)` for the matrix,
//!   `s = E4M3(max|w| / 6 / t)` for a block, `q = E2M1(w / (t * s))`, both nearest even and saturating.

use half::f16;

use super::element::{Element, OcpElement, OcpRounding, OcpScale};
use super::rows::{for_rows, max_abs};
use super::{Layout, bits, int};

/// Table of NF4.
pub(super) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// E4M3 and E2M1 as OCP defines them.
const fn ocp(element: OcpElement) -> Element {
    Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor }
}
/// Values of E2M1 by code.
pub(super) fn e2m1() -> Vec<f32> {
    (0..16).map(|code| ocp(OcpElement::Fp4E2m1).unit(code) as f32).collect()
}

/// Scale byte of factor 1.
const ONE: u8 = 127;

/// Smallest scale of a matrix in NVFP4, 2^-100: below it products of scales would leave the normal numbers.
const LEAST_TENSOR_SCALE: f32 = 7.888_609e-31;

/// A table with a scale per group: indices of the nearest values to `w / s`, `s = f16(max|w| / largest)`, the lower
/// index at a tie. `max` is the largest magnitude of the matrix, for a scale per tensor.
pub(super) fn encode(
    (table, width): (&[f32], u32),
    max: f32,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) {
    let mut order: Vec<usize> = (0..table.len()).collect();
    order.sort_by(|&a, &b| table[a].total_cmp(&table[b]));
    let sorted: Vec<f32> = order.iter().map(|&index| table[index]).collect();
    let largest = max_abs(table);
    let tensor_scale = match layout.groups_per_row {
        0 => {
            let scale = scale_of(max, largest);
            fields[0] = u32::from(scale.to_bits());
            scale.to_f32()
        }
        _ => 0.0,
    };
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        let mut bit = 0;
        for (group, values) in row.chunks(layout.group.min(cols)).enumerate() {
            let scale = match fields.get_mut(group) {
                None => tensor_scale,
                Some(field) => {
                    let scale = scale_of(max_abs(values), largest);
                    *field = u32::from(scale.to_bits());
                    scale.to_f32()
                }
            };
            for &w in values {
                bits::put(words, bit, width, order[nearest(&sorted, w / scale)] as u32);
                bit += width as usize;
            }
        }
    });
}

/// `f16(max / largest)`, never 0.
fn scale_of(max: f32, largest: f32) -> f16 {
    if max == 0.0 { f16::ONE } else { int::f16_at_most_max(max / largest) }
}

/// Index of the nearest of ascending values, the lower one at a tie.
fn nearest(sorted: &[f32], x: f32) -> usize {
    let above = sorted.partition_point(|&value| value < x);
    match above {
        0 => 0,
        _ if above == sorted.len() => above - 1,
        _ if f64::from(x) - f64::from(sorted[above - 1]) <= f64::from(sorted[above]) - f64::from(x) => {
            above - 1
        }
        _ => above,
    }
}

/// Encodes NVFP4; returns the scale of the matrix, whose largest magnitude is `max`; one E4M3 byte per block goes to
/// `fields`.
pub(super) fn encode_nvfp4(
    max: f32,
    weights: &[f32],
    cols: usize,
    layout: &Layout,
    codes: &mut [u32],
    fields: &mut [u32],
) -> f32 {
    let tensor = if max == 0.0 { 1.0 } else { (max / (448.0 * 6.0)).max(LEAST_TENSOR_SCALE) };
    let (e4m3, e2m1) = (ocp(OcpElement::Fp8E4m3), ocp(OcpElement::Fp4E2m1));
    for_rows(weights, cols, codes, layout.row_words, fields, layout.groups_per_row, |row, words, fields| {
        for (group, values) in row.chunks(layout.group).enumerate() {
            let byte = e4m3.code(e4m3.quantize(max_abs(values) / 6.0 / tensor, ONE), ONE).unwrap_or(0);
            fields[group] = byte;
            let scale = nvfp4_scale(byte as u8, tensor);
            if scale == 0.0 {
                continue;
            }
            for (k, &w) in values.iter().enumerate() {
                let code = e2m1.code(e2m1.quantize(w / scale, ONE), ONE).unwrap_or(0);
                bits::put(words, (group * layout.group + k) * 4, 4, code);
            }
        }
    });
    tensor
}

/// `tensor * E4M3(byte)`, one rounding.
pub(super) fn nvfp4_scale(byte: u8, tensor: f32) -> f32 {
    tensor * ocp(OcpElement::Fp8E4m3).unit(u32::from(byte & 0x7f)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_takes_the_lower_index_at_a_tie() {
        let sorted = [-1.0, 0.0, 2.0];
        for (x, want) in [(-9.0, 0), (-0.5, 0), (-0.4, 1), (1.0, 1), (1.1, 2), (9.0, 2)] {
            assert_eq!(nearest(&sorted, x), want, "{x}");
        }
    }

    #[test]
    fn e2m1_has_the_published_values() {
        let positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let negative = positive.map(|value: f32| -value);
        assert_eq!(e2m1(), [positive, negative].concat());
    }
}
