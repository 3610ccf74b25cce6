//! ggml block formats against the bytes and values of ggml's own package, and the streams they become.

use std::path::PathBuf;

use anybit::format::ggml::{GgmlType, IQ4_TABLE};
use half::f16;
use safetensors::SafeTensors;

/// Cases of the golden file: type, and whether it has weights next to the blocks. The others are random blocks.
const GOLDEN: [(GgmlType, &str, bool); 15] = [
    (GgmlType::Q4_0, "Q4_0", true),
    (GgmlType::Q4_1, "Q4_1", true),
    (GgmlType::Q5_0, "Q5_0", true),
    (GgmlType::Q8_0, "Q8_0", true),
    (GgmlType::Tq1_0, "TQ1_0", true),
    (GgmlType::Tq2_0, "TQ2_0", true),
    (GgmlType::Mxfp4, "MXFP4", true),
    (GgmlType::Q2K, "Q2_K", false),
    (GgmlType::Q3K, "Q3_K", false),
    (GgmlType::Q4K, "Q4_K", false),
    (GgmlType::Q5K, "Q5_K", false),
    (GgmlType::Q6K, "Q6_K", false),
    (GgmlType::Iq4Nl, "IQ4_NL", false),
    (GgmlType::Iq4Xs, "IQ4_XS", false),
    (GgmlType::Nvfp4, "NVFP4", false),
];

/// `what` of a golden case as bytes.
fn golden(name: &str, what: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(&format!("gguf_{name}.001.{what}")).unwrap().data().to_vec()
}

fn golden_f32(name: &str, what: &str) -> Vec<f32> {
    golden(name, what).chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Equal bits, any NaN equal to any other.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

fn decode(ty: GgmlType, blocks: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; blocks.len() / ty.bytes() * ty.block()];
    ty.decode(blocks, &mut out).unwrap();
    out
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// In (0, 1).
    fn uniform(&mut self) -> f64 {
        (f64::from(self.bits()) + 0.5) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }

    /// Blocks of any bytes; of `tq1_0` with bytes that encode trits.
    fn blocks(&mut self, ty: GgmlType, count: usize) -> Vec<u8> {
        let mut blocks = self.bytes(count * ty.bytes());
        if ty == GgmlType::Tq1_0 {
            for block in blocks.chunks_mut(54) {
                for (at, byte) in block[..52].iter_mut().enumerate() {
                    let trits = if at < 48 { self.bits() % 243 } else { self.bits() % 81 * 3 };
                    *byte = (trits * 256).div_ceil(243) as u8;
                }
            }
        }
        blocks
    }
}

#[test]
fn decoding_equals_the_golden_values() {
    for (ty, name, _) in GOLDEN {
        let (got, want) = (decode(ty, &golden(name, "blocks")), golden_f32(name, "y"));
        assert_eq!(got.len(), want.len(), "{ty}");
        for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
            assert!(same(got, want), "{ty} weight {i}: {got:e}, want {want:e}");
        }
    }
}

#[test]
fn reference_encoding_equals_the_golden_bytes() {
    for (ty, name, has_weights) in GOLDEN {
        if has_weights {
            assert!(ty.encode(&golden_f32(name, "x")).unwrap() == golden(name, "blocks"), "{ty}");
        }
    }
}

#[test]
fn streams_round_trip_and_decode_to_the_same_bits() {
    let mut random = Random(1);
    for ty in GgmlType::ALL {
        for (rows, row_blocks) in [(1, 1), (3, 1), (5, 3), (64, 4)] {
            let cols = row_blocks * ty.block();
            let blocks = random.blocks(ty, rows * row_blocks);
            let layout = ty.stream_layout(rows, cols).unwrap();
            let (codes, scales) = ty.to_streams(rows, cols, &blocks).unwrap();
            assert_eq!((codes.len(), scales.len()), (layout.code_words, layout.scale_words));
            assert!(ty.from_streams(rows, cols, &codes, &scales).unwrap() == blocks, "{ty} [{rows}, {cols}]");
            let mut got = vec![0.0; cols];
            for (row, want) in decode(ty, &blocks).chunks(cols).enumerate() {
                ty.decode_row(&codes, &scales, row, &mut got);
                for (col, (&got, &want)) in got.iter().zip(want).enumerate() {
                    let element = ty.decode_element(&codes, &scales, cols, row, col);
                    let at = format!("{ty} ({row}, {col}): {want:e}, row {got:e}, element {element:e}");
                    assert!(same(got, want) && same(element, want), "{at}");
                }
            }
        }
    }
}

#[test]
fn streams_are_as_large_as_the_blocks() {
    for ty in GgmlType::ALL {
        let (rows, cols) = (16, 2560);
        let layout = ty.stream_layout(rows, cols).unwrap();
        let words = layout.code_words + layout.scale_words;
        let blocks = rows * cols / ty.block() * ty.bytes();
        // The trits of ggml take 52 bytes per 256, digits in a row 51.2.
        let small = if ty == GgmlType::Tq1_0 { blocks * 53 / 54 } else { blocks };
        assert!((small..=blocks).contains(&(words * 4)), "{ty}: {} and {blocks} bytes", words * 4);
    }
}

#[test]
fn fields_lie_where_the_documentation_says() {
    let mut random = Random(2);
    let field = |words: &[u32], width: usize, k: usize| -> u32 {
        (0..width).map(|bit| (words[(k * width + bit) / 32] >> ((k * width + bit) % 32) & 1) << bit).sum()
    };
    for (ty, width) in [
        (GgmlType::Q4_0, 4),
        (GgmlType::Q8_0, 8),
        (GgmlType::Iq4Nl, 4),
        (GgmlType::Tq2_0, 2),
        (GgmlType::Mxfp4, 4),
        (GgmlType::Q4K, 4),
        (GgmlType::Q5K, 5),
        (GgmlType::Q6K, 6),
    ] {
        let (blocks, cols) = (random.blocks(ty, 2), 2 * ty.block());
        let (codes, scales) = ty.to_streams(1, cols, &blocks).unwrap();
        for (index, block) in blocks.chunks(ty.bytes()).enumerate() {
            for k in 0..ty.block() {
                let half = block.get(2 + k % 16).map_or(0, |byte| u32::from(byte >> (k / 16 % 2 * 4) & 15));
                let nibble = |at: usize| u32::from(block[at + k / 64 * 32 + k % 32] >> (k / 32 % 2 * 4) & 15);
                let want = match ty {
                    GgmlType::Q4_0 => half.wrapping_sub(8) & 15,
                    GgmlType::Iq4Nl => half,
                    GgmlType::Mxfp4 => u32::from(block[1 + k % 16] >> (k / 16 * 4) & 15),
                    GgmlType::Q8_0 => u32::from(block[2 + k]),
                    GgmlType::Tq2_0 => {
                        let code = block[k / 128 * 32 + k % 32] >> (k % 128 / 32 * 2) & 3;
                        u32::from(code.wrapping_sub(1) & 3)
                    }
                    GgmlType::Q4K => nibble(16),
                    GgmlType::Q5K => nibble(48) | u32::from(block[16 + k % 32] >> (k / 32) & 1) << 4,
                    _ => {
                        let low = block[k / 128 * 64 + k % 64] >> (k % 128 / 64 * 4) & 15;
                        let high = block[128 + k / 128 * 32 + k % 32] >> (k % 128 / 32 * 2) & 3;
                        (u32::from(low) | u32::from(high) << 4).wrapping_sub(32) & 63
                    }
                };
                assert_eq!(
                    field(&codes, width, index * ty.block() + k),
                    want,
                    "{ty} block {index} weight {k}"
                );
            }
            let stored: &[u8] = match ty {
                GgmlType::Q4_0 | GgmlType::Q8_0 | GgmlType::Iq4Nl => &block[..2],
                GgmlType::Mxfp4 => &block[..1],
                GgmlType::Tq2_0 => &block[64..],
                GgmlType::Q6K => &block[192..],
                _ => &block[..16],
            };
            for (at, &byte) in stored.iter().enumerate() {
                assert_eq!(
                    field(&scales, 8, index * stored.len() + at),
                    u32::from(byte),
                    "{ty} scale byte {at}"
                );
            }
        }
    }
    // tq1_0: digit of code + 1, five in a byte.
    let ty = GgmlType::Tq1_0;
    let blocks = random.blocks(ty, 2);
    let (codes, _) = ty.to_streams(1, 512, &blocks).unwrap();
    for k in 0..512 {
        let digit = field(&codes, 8, k / 5) / 3u32.pow(k as u32 % 5) % 3;
        assert_eq!(digit as i8 - 1, ty.integer(&codes, 512, 0, k));
    }
}

#[test]
fn ternary_bytes_that_encode_no_trits_keep_their_values() {
    let ty = GgmlType::Tq1_0;
    let mut blocks: Vec<u8> = (0..5 * 54).map(|i| i as u8).collect();
    blocks.chunks_mut(54).for_each(|block| block[52..].copy_from_slice(&f16::ONE.to_le_bytes()));
    let (codes, scales) = ty.to_streams(1, 5 * 256, &blocks).unwrap();
    let back = ty.from_streams(1, 5 * 256, &codes, &scales).unwrap();
    assert_ne!(back, blocks);
    assert_eq!(decode(ty, &back), decode(ty, &blocks));
}

/// Mean squared error of a plain asymmetric group quantizer of `bits`: f16 scale, integer zero point.
fn plain_asymmetric(weights: &[f32], group: usize, bits: u32) -> f64 {
    let top = ((1 << bits) - 1) as f32;
    mean_square(weights.chunks(group).flat_map(|values| {
        let low = values.iter().copied().fold(0.0, f32::min);
        let high = values.iter().copied().fold(0.0, f32::max);
        let scale = f16::from_f32((high - low) / top).to_f32();
        let zero = (-low / scale).round_ties_even().clamp(0.0, top);
        values
            .iter()
            .map(move |w| ((w / scale).round_ties_even() + zero).clamp(0.0, top) * scale - zero * scale - w)
    }))
}

/// The same of a symmetric one.
fn plain_symmetric(weights: &[f32], group: usize, bits: u32) -> f64 {
    let top = ((1 << (bits - 1)) - 1) as f32;
    mean_square(weights.chunks(group).flat_map(|values| {
        let max = values.iter().fold(0.0, |max, w| f32::max(max, w.abs()));
        let scale = f16::from_f32(max / top).to_f32();
        values.iter().map(move |w| (w / scale).round_ties_even().clamp(-top, top) * scale - w)
    }))
}

fn mean_square(errors: impl Iterator<Item = f32>) -> f64 {
    let (sum, count) = errors.fold((0.0, 0), |(sum, n), e| (sum + f64::from(e) * f64::from(e), n + 1));
    sum / f64::from(count)
}

fn encoded(ty: GgmlType, weights: &[f32]) -> f64 {
    let got = decode(ty, &ty.encode(weights).unwrap());
    mean_square(got.iter().zip(weights).map(|(y, w)| y - w))
}

/// Weights as models have them: normal, heavy-tailed, skewed, and with outliers.
fn distributions() -> [(&'static str, Vec<f32>); 4] {
    let mut random = Random(3);
    let mut draw = |f: &mut dyn FnMut(&mut Random) -> f64| -> Vec<f32> {
        (0..64 * 1024).map(|_| f(&mut random) as f32).collect()
    };
    [
        ("normal", draw(&mut |r| r.normal() * 0.02)),
        ("laplace", draw(&mut |r| -r.uniform().ln() * if r.bits() & 1 == 0 { 0.02 } else { -0.02 })),
        ("skewed", draw(&mut |r| 0.03 - r.uniform().ln() * 0.02)),
        ("outliers", draw(&mut |r| r.normal() * if r.bits() % 100 == 0 { 0.2 } else { 0.02 })),
    ]
}

#[test]
fn searched_types_err_less_than_plain_groups_of_their_bits() {
    for (name, weights) in distributions() {
        let line = |ty: GgmlType, plain: f64| {
            let error = encoded(ty, &weights);
            let ratio = (error / plain).sqrt();
            println!("{name:9} {ty:7} {:.4e}, plain {:.4e}, ratio {ratio:.3}", error.sqrt(), plain.sqrt());
            assert!(ratio < 1.0, "{name}: {ty} errs {ratio} times as much as plain groups");
        };
        line(GgmlType::Q2K, plain_asymmetric(&weights, 16, 2));
        line(GgmlType::Q4K, plain_asymmetric(&weights, 32, 4));
        line(GgmlType::Q5K, plain_asymmetric(&weights, 32, 5));
        line(GgmlType::Q3K, plain_symmetric(&weights, 16, 3));
        line(GgmlType::Q6K, plain_symmetric(&weights, 16, 6));
        line(GgmlType::Iq4Nl, plain_symmetric(&weights, 32, 4));
        line(GgmlType::Iq4Xs, plain_symmetric(&weights, 32, 4));
    }
}

#[test]
fn what_a_type_can_hold_comes_back() {
    let mut random = Random(4);
    for ty in GgmlType::ALL {
        let step = match ty {
            GgmlType::Nvfp4 => 0.04,                   // E4M3 scales have 3 bits
            GgmlType::Iq4Nl | GgmlType::Iq4Xs => 0.02, // the table has 1/127 and no 0
            _ => 5e-3,
        };
        let check = |weights: &[f32]| {
            let got = decode(ty, &ty.encode(weights).unwrap());
            for (y, w) in got.iter().zip(weights) {
                assert!((y - w).abs() <= step * w.abs().max(0.5), "{ty}: {w} became {y}");
            }
        };
        for value in [0.0f32, 1.0, -1.0, 0.5] {
            check(&vec![value; ty.block()]);
        }
        // Others have no two points around zero that are as far from it.
        let ternary_types =
            [GgmlType::Tq1_0, GgmlType::Tq2_0, GgmlType::Q8_0, GgmlType::Q6K, GgmlType::Mxfp4];
        let top = if ternary_types.contains(&ty) { 1.0 } else { 0.0 };
        let ternary: Vec<f32> = (0..ty.block()).map(|_| (random.bits() % 3) as f32 - 1.0).collect();
        check(&ternary.iter().map(|w| w.min(top)).collect::<Vec<_>>());
    }
}

#[test]
fn encoding_is_deterministic_and_a_power_of_two_moves_into_the_scales() {
    let mut random = Random(5);
    for ty in GgmlType::ALL {
        let weights: Vec<f32> = (0..ty.block() * 8).map(|_| random.normal() as f32).collect();
        let blocks = ty.encode(&weights).unwrap();
        assert_eq!(ty.encode(&weights).unwrap(), blocks);
        let larger: Vec<f32> = weights.iter().map(|w| w * 4.0).collect();
        let (got, want) = (decode(ty, &ty.encode(&larger).unwrap()), decode(ty, &blocks));
        assert!(got.iter().zip(&want).all(|(y, w)| *y == w * 4.0), "{ty}");
    }
}

#[test]
fn extreme_weights_neither_panic_nor_pass_silently() {
    for ty in GgmlType::ALL {
        let block = ty.block();
        let mut weights = vec![0.0; block * 2];
        for tiny in [f32::from_bits(1), f32::MIN_POSITIVE, 1e-30, 6e-8] {
            weights[block] = tiny;
            weights[block + 1] = -tiny;
            let got = decode(ty, &ty.encode(&weights).unwrap());
            assert!(got.iter().all(|y| y.abs() <= 1e-6), "{ty} {tiny:e}: {:?}", &got[block..block + 2]);
        }
        // Scales of mxfp4 reach that far, those of nvfp4 saturate.
        for huge in [1e9, f32::MAX] {
            weights[block] = huge;
            weights[block + 1] = -huge;
            let result = ty.encode(&weights);
            match ty {
                GgmlType::Mxfp4 | GgmlType::Nvfp4 => {
                    assert!(decode(ty, &result.unwrap()).iter().all(|y| y.is_finite()))
                }
                _ => {
                    let message = result.unwrap_err().to_string();
                    assert!(message.contains(&format!("weights {block}..{}", 2 * block)), "{message}");
                }
            }
        }
        weights[block + 3] = f32::NAN;
        let message = ty.encode(&weights).unwrap_err().to_string();
        assert!(message.contains(&format!("weight {} is NaN", block + 3)), "{message}");
        weights[block + 3] = f32::NEG_INFINITY;
        assert!(ty.encode(&weights).is_err());
    }
}

#[test]
fn wrong_sizes_are_refused_with_what_is_wanted() {
    let message = |result: anybit::Result<_>| -> String {
        let error: anybit::Error = result.map(|_: ()| ()).unwrap_err();
        error.to_string()
    };
    let ty = GgmlType::Q4K;
    let text = message(ty.encode(&[0.0; 100]).map(drop));
    assert!(text.contains("100 weights") && text.contains("multiple of 256"), "{text}");
    let text = message(ty.decode(&[0; 143], &mut [0.0; 256]));
    assert!(text.contains("143 bytes") && text.contains("144 bytes"), "{text}");
    let text = message(ty.stream_layout(4, 384).map(drop));
    assert!(text.contains("[4, 384]") && text.contains("multiple of 256"), "{text}");
    assert!(ty.stream_layout(0, 256).is_err() && ty.stream_layout(4, 0).is_err());
    assert!(ty.stream_layout(usize::MAX / 2, 256).is_err());
    let text = message(ty.to_streams(2, 256, &[0; 144]).map(drop));
    assert!(text.contains("got 144 bytes") && text.contains("want 288"), "{text}");
    let text = message(ty.from_streams(1, 256, &[0; 31], &[0; 4]).map(drop));
    assert!(text.contains("31 code words, want 32"), "{text}");
    let text = message(ty.from_streams(1, 256, &[0; 32], &[0; 5]).map(drop));
    assert!(text.contains("5 scale words, want 4"), "{text}");
}

#[test]
fn names_and_numbers_find_their_type() {
    for ty in GgmlType::ALL {
        assert_eq!(GgmlType::from_name(ty.name()), Some(ty));
        assert_eq!(GgmlType::from_ggml_id(ty.ggml_id()), Some(ty));
        assert_eq!(ty.to_string().parse::<GgmlType>().unwrap(), ty);
    }
    assert_eq!((GgmlType::from_name("q9_k"), GgmlType::from_ggml_id(9)), (None, None));
    let message = "q9_k".parse::<GgmlType>().unwrap_err().to_string();
    assert!(message.contains("q9_k") && message.contains("q4_k, q5_k"), "{message}");
    assert!(IQ4_TABLE.is_sorted());
}
