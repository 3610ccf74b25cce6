//! Packed matrices: words, scales, slices, errors, activations.

use anybit::format::{ActivationFormat, ActivationScope, Block, Format, Packed, Scope, quantize_activations};
use half::{bf16, f16};

use super::golden::Golden;
use super::{assert_same, int, integer_codes, message, weights};

#[test]
fn mxint_equals_microxcaling() {
    let golden = Golden::load();
    for (name, bits) in [("mx_int8", 8), ("mx_int4", 4)] {
        let mut compared = 0;
        for case in golden.of(name, 13) {
            let tensor = case.input();
            let (w, (rows, cols)) = (tensor.floats(), tensor.rows_cols());
            if case.param("round") != "even" || w.iter().any(|w| !w.is_finite()) {
                continue;
            }
            let packed = Format::MxInt { bits }.encode(&w, rows, cols).unwrap();
            case.assert_floats("y", &packed.decode());
            compared += 1;
        }
        assert_eq!(compared, 4);
    }
}

#[test]
fn mxint8_codes_and_scale_bytes_are_ocp() {
    let golden = Golden::load();
    for case in golden.of("ocp_codes_int8", 3) {
        let tensor = case.input();
        let (w, (rows, cols)) = (tensor.floats(), tensor.rows_cols());
        let packed = Format::MxInt { bits: 8 }.encode(&w, rows, cols).unwrap();
        case.assert_integers("codes", &integer_codes(&packed).iter().map(|&q| q as u8).collect::<Vec<u8>>());
        let scales = packed.scales.iter().flat_map(|word| word.to_le_bytes());
        for (block, (got, want)) in scales.zip(case.output("scale").integers()).enumerate() {
            // Any byte is valid for a block of zeros; here it is 0.
            let zero = w[block * 32..][..32].iter().all(|&w| w == 0.0);
            assert_eq!(i64::from(got), if zero { 0 } else { want }, "{}: block {block}", case.id());
        }
        case.assert_floats("y", &packed.decode());
    }
}

#[test]
fn two_digits_in_seven_bits_pack_as_the_golden_stream() {
    let golden = Golden::load();
    let cases = golden.of("pack", 12);
    let case = cases.iter().find(|case| case.id() == "pack.base11.2in7").unwrap();
    let digits = case.output("digits").integers();
    let words: Vec<u32> = case.output("words_int").integers().iter().map(|&word| word as u32).collect();
    let format = Format::Radix { base: 11, digits: 2, bits: 7, group: 128 };
    let one = u32::from(f16::from_f32(1.0).to_bits());
    let packed = Packed::from_parts(format, 1, digits.len(), words, vec![one], vec![]).unwrap();
    let codes: Vec<i8> = digits.iter().map(|&digit| digit as i8 - 5).collect();
    assert_eq!(integer_codes(&packed), codes);
    assert!(codes.iter().any(|q| q.abs() == 5), "the scale of the re-encoded matrix is 1");
    assert_eq!(format.encode(&packed.decode(), 1, digits.len()).unwrap(), packed);
}

/// Shapes around word and group borders.
const SHAPES: [(usize, usize); 8] = [(1, 1), (3, 7), (5, 31), (4, 32), (7, 33), (2, 255), (6, 256), (3, 401)];

#[test]
fn every_value_is_the_nearest_point_of_its_grid() {
    for format in Format::catalog() {
        let qmax = match format {
            Format::Int { bits, .. } | Format::MxInt { bits } => (1 << (bits - 1)) - 1,
            Format::MxIntCuda { .. } => 127,
            Format::Radix { base, .. } => i32::from(base) / 2,
            _ => continue,
        };
        for (rows, cols) in SHAPES {
            let w = weights(rows, cols);
            let Ok(packed) = format.encode(&w, rows, cols) else {
                assert!(matches!(format, Format::MxIntCuda { .. }), "{format} [{rows}, {cols}]");
                continue;
            };
            let (y, codes) = (packed.decode(), integer_codes(&packed));
            for (i, &w) in w.iter().enumerate() {
                let scale = f64::from(packed.scale(i / cols, i % cols));
                // mase-cuda rounds to bf16 first.
                let w = match format {
                    Format::MxIntCuda { .. } => f64::from(bf16::from_f32(w).to_f32()),
                    _ => f64::from(w),
                };
                let code = i32::from(codes[i]);
                assert!(code.abs() <= qmax, "{format} [{rows}, {cols}] {i}: code {code}");
                let best = (-qmax..=qmax).map(|q| (w - f64::from(q) * scale).abs()).fold(f64::MAX, f64::min);
                let error = (w - f64::from(code) * scale).abs();
                // w / s is rounded to f32 before it is rounded to an integer: half an ulp of slack at ties.
                let slack = if scale.log2().fract() == 0.0 { 0.0 } else { 1e-5 * scale };
                assert!(error <= best + slack, "{format} [{rows}, {cols}] {i}: {w} -> {code}, scale {scale}");
                assert_eq!(y[i], (f64::from(code) * scale) as f32, "{format} [{rows}, {cols}] {i}");
            }
        }
    }
}

/// `uint` against its definition in f64: the grid of the group reaches from its minimum to its maximum, 0 is exact,
/// and no point of it is nearer.
#[test]
fn unsigned_integers_are_the_nearest_points_and_keep_zero() {
    for bits in 2..=8u8 {
        for (rows, cols) in SHAPES {
            let mut w = weights(rows, cols);
            // Groups above zero, below zero and around it.
            w.iter_mut()
                .enumerate()
                .for_each(|(i, w)| *w = if i / 40 % 3 == 0 { w.abs() } else { *w - 0.01 });
            let format = Format::Uint { bits, group: 64 };
            let packed = format.encode(&w, rows, cols).unwrap();
            let y = packed.decode();
            for (row, values) in w.chunks(cols).enumerate() {
                for (group, values) in values.chunks(64).enumerate() {
                    let low = values.iter().copied().fold(0.0, f32::min);
                    let high = values.iter().copied().fold(0.0, f32::max);
                    let scale = f64::from(packed.scale(row, group * 64));
                    let levels = f64::from((1u32 << bits) - 1);
                    let range = f64::from(high) - f64::from(low);
                    assert!(range == 0.0 || (scale * levels / range - 1.0).abs() < 1e-3, "uint{bits}");
                    for (k, &w) in values.iter().enumerate() {
                        let y = f64::from(y[row * cols + group * 64 + k]);
                        let point = y / scale;
                        assert!((point - point.round()).abs() < 1e-4, "uint{bits}: {y} of steps {scale}");
                        // At the ends the rounded zero point may cost another half step.
                        assert!(
                            (y - f64::from(w)).abs() <= scale * 1.01 + range * 1e-3,
                            "uint{bits}: {w} -> {y}"
                        );
                        assert!(w != 0.0 || y == 0.0, "uint{bits}: 0 -> {y}");
                    }
                }
            }
        }
    }
    let format = Format::Uint { bits: 4, group: 32 };
    // Range 15, scale 1, zero point 5.
    let packed = format.encode(&[-5.0, 10.0, 0.4, 2.6, -0.5, 1.5], 1, 6).unwrap();
    assert_eq!(packed.decode(), [-5.0, 10.0, 0.0, 3.0, 0.0, 2.0]);
    assert_eq!((packed.codes[0], packed.scales[0]), (0x75_85f0, 0x0005_3c00));
}

#[test]
fn nf4_takes_the_nearest_published_quantile() {
    // Dettmers et al. 2023, appendix E.
    let table = [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0f64,
    ];
    let format: Format = "nf4(group=64)".parse().unwrap();
    assert_eq!(format.table().iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), table);
    for (rows, cols) in SHAPES {
        let w = weights(rows, cols);
        let packed = format.encode(&w, rows, cols).unwrap();
        for (i, (&w, y)) in w.iter().zip(packed.decode()).enumerate() {
            let (row, col) = (i / cols, i % cols);
            let scale = f64::from(packed.scale(row, col));
            let error = |v: f64| (f64::from(w) - v * scale).abs();
            let best = table.iter().map(|&v| error(v)).fold(f64::MAX, f64::min);
            assert!(error(f64::from(y) / scale) <= best + 1e-6 * scale, "{w} -> {y}, scale {scale}");
        }
    }
}

#[test]
fn binary_and_ternary_by_hand() {
    let w = [3.0, -1.0, 0.5, -0.5, 0.0, 1.0];
    let decoded = |text: &str| text.parse::<Format>().unwrap().encode(&w, 2, 3).unwrap().decode();
    assert_eq!(decoded("binary"), [1.0, -1.0, 1.0, -1.0, 1.0, 1.0]);
    // Mean magnitudes: 6 / 6; 4.5 / 3 and 1.5 / 3.
    assert_eq!(decoded("binary_mean"), [1.0, -1.0, 1.0, -1.0, 1.0, 1.0]);
    assert_eq!(decoded("binary_mean(scale=row)"), [1.5, -1.5, 1.5, -0.5, 0.5, 0.5]);
    assert_eq!(decoded("binary_mean(group=32)"), [1.5, -1.5, 1.5, -0.5, 0.5, 0.5]);
    // Thresholds 0.75 of them: 1.125 and 0.375 by row, 0.75 over the matrix, where 3, 1 and 1 remain.
    assert_eq!(decoded("ternary"), [1.0, 0.0, 0.0, -1.0, 0.0, 1.0]);
    assert_eq!(decoded("ternary_mean(scale=row)"), [3.0, 0.0, 0.0, -0.75, 0.0, 0.75]);
    let third = 5.0 / 3.0;
    assert_eq!(decoded("ternary_mean"), [third, -third, 0.0, 0.0, 0.0, third]);
}

#[test]
fn scales_are_the_maximum_over_the_largest_code() {
    let (rows, cols) = (5, 161);
    let w = weights(rows, cols);
    let max = |w: &[f32]| w.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
    for format in Format::catalog() {
        let packed = match format {
            Format::Int { .. } | Format::MxInt { .. } => format.encode(&w, rows, cols).unwrap(),
            _ => continue,
        };
        for (row, values) in w.chunks(cols).enumerate() {
            for col in 0..cols {
                let scale = f64::from(packed.scale(row, col));
                let group = |size: usize| &values[col / size * size..(col / size * size + size).min(cols)];
                let (max, bits) = match format {
                    Format::Int { bits, scope: Scope::Tensor } => (max(&w), bits),
                    Format::Int { bits, scope: Scope::Row } => (max(values), bits),
                    Format::Int { bits, scope: Scope::Group(size) } => (max(group(size as usize)), bits),
                    Format::MxInt { bits } => (max(group(32)), bits),
                    _ => unreachable!(),
                };
                let want = match format {
                    Format::MxInt { .. } if max == 0.0 => scale,
                    Format::MxInt { .. } => (max.log2().floor() - f64::from(bits) + 2.0).exp2(),
                    _ if max == 0.0 => 1.0,
                    _ => max / f64::from((1 << (bits - 1)) - 1),
                };
                assert!((scale / want - 1.0).abs() < 1e-3, "{format} ({row}, {col}): {scale}, want {want}");
            }
        }
    }
}

#[test]
fn float_formats_round_to_nearest_even() {
    let w = [1.0, -0.0, 1.000_488_3, 65504.0, 1e-8, -3.140_625, 0.333_333_34];
    for (format, want) in [
        (Format::F32, w.to_vec()),
        (Format::F16, w.iter().map(|&w| f16::from_f32(w).to_f32()).collect()),
        (Format::Bf16, w.iter().map(|&w| bf16::from_f32(w).to_f32()).collect()),
    ] {
        let packed = format.encode(&w, 1, 7).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&packed.decode()), bits(&want), "{format}");
    }
    let packed = Format::F16.encode(&[1.0, -2.0, 0.5], 1, 3).unwrap();
    assert_eq!(packed.codes, [0xc000_3c00, 0x3800]);
}

#[test]
fn words_of_small_matrices() {
    let packed = int(4).encode(&[7.0, -7.0, 1.0, 0.0, 2.0, 3.0, -1.0, 4.0, 5.0], 1, 9).unwrap();
    assert_eq!(
        (packed.codes.as_slice(), packed.scales.as_slice()),
        (&[0x4f32_0197, 5][..], &[1.0f32.to_bits()][..])
    );
    let packed = int(3).encode(&[3.0, -3.0, 0.0, 1.0], 2, 2).unwrap();
    assert_eq!(packed.codes, [0b101_011, 0b001_000]);
    let format = Format::Radix { base: 11, digits: 2, bits: 7, group: 32 };
    let packed = format.encode(&[5.0, -5.0, 1.0], 1, 3).unwrap();
    assert_eq!((packed.codes, packed.scales), (vec![10 | (6 << 7)], vec![0x3c00]));
    // Rows of one scale byte each share a word of scales.
    let packed = Format::MxInt { bits: 8 }.encode(&[1.0, 2.0, -4.0, 0.0, 0.5], 5, 1).unwrap();
    assert_eq!(packed.codes, [64, 64, 0xc0, 0, 64]);
    assert_eq!(packed.scales, [0x0081_807f, 126]);
    let packed = Format::MxIntCuda { group: 3 }.encode(&[1.0, -1.0, 0.5, 0.0, 0.0, 0.0], 2, 3).unwrap();
    assert_eq!((packed.codes, packed.scales), (vec![0x0020_c040, 0], vec![127]));
}

#[test]
fn bits_per_weight_as_stored() {
    for (format, rows, cols, want) in [
        ("f32", 3, 5, 32.0),
        ("f16", 2, 4, 16.0),
        ("bf16", 1, 3, 2.0 * 32.0 / 3.0),
        ("int4", 64, 256, 4.0 + 32.0 / 16384.0),
        ("int4(scale=row)", 64, 256, 4.0 + 32.0 / 256.0),
        ("int4(group=128)", 64, 256, 4.125),
        ("int3(group=32)", 2, 64, 3.5),
        ("int5", 1, 7, 3.0 * 32.0 / 7.0),
        ("mxint8", 4, 32, 8.25),
        ("mxint6", 4, 64, 6.25),
        ("mxint4", 8, 128, 4.25),
        ("mxint8", 1, 33, (9.0 + 1.0) * 32.0 / 33.0),
        ("mxint_cuda", 4, 16, 8.5),
        ("mxint_cuda(group=32)", 8, 32, 8.25),
        ("base11", 2, 128, 3.625),
        ("base11", 6, 768, 3.625),
        ("base11(group=64)", 2, 64, 3.75),
        ("base11(layout=9in32)", 1, 128, 4.0),
        ("base11(layout=9in32,group=256)", 3, 512, 3.75),
        ("base11(layout=9in32,group=9)", 1, 10, (2.0 + 2.0) * 32.0 / 10.0),
        ("uint4", 2, 256, 4.0 + 32.0 / 128.0),
        ("nf4", 2, 128, 4.0 + 16.0 / 64.0),
        ("nvfp4", 4, 64, 4.0 + 8.0 / 16.0 + 32.0 / 256.0),
        ("mxfp4", 4, 128, 4.25),
        ("mxfp6_e3m2", 4, 128, 6.25),
        ("mxfp8_e4m3", 4, 128, 8.25),
        ("radix(base=3)", 2, 640, 1.6 + 16.0 / 128.0),
        ("radix(base=5)", 32, 384, 7.0 / 3.0 + 16.0 / 128.0),
        ("radix(base=45)", 2, 256, 5.5 + 16.0 / 128.0),
        ("q4_0", 2, 64, 18.0 * 8.0 / 32.0),
        ("q8_0", 2, 64, 34.0 * 8.0 / 32.0),
        ("q4_k", 3, 256, 144.0 * 8.0 / 256.0),
        ("q5_k", 3, 256, 176.0 * 8.0 / 256.0),
        ("q6_k", 2, 512, 210.0 * 8.0 / 256.0),
        ("tq1_0", 2, 256, 54.0 * 8.0 / 256.0),
        ("tq2_0", 2, 256, 66.0 * 8.0 / 256.0),
        ("iq4_nl", 2, 64, 18.0 * 8.0 / 32.0),
        ("integer(8,4)", 3, 8, 8.0),
        ("integer(12,4)", 3, 8, 12.0),
        ("block_fp(8,8,none,[1,16])", 4, 16, 8.5),
        ("block_fp(8,8,none,[16])", 64, 64, 8.0 + 32.0 / 4096.0),
        ("binary", 2, 64, 1.0),
        ("binary_mean(scale=row)", 2, 64, 1.0 + 32.0 / 64.0),
        ("ternary", 2, 64, 2.0),
        ("log(4,7)", 2, 8, 4.0),
    ] {
        let format: Format = format.parse().unwrap();
        let got = format.bits_per_weight(rows, cols).unwrap();
        assert!((got - want).abs() < 1e-12, "{format} [{rows}, {cols}]: {got}, want {want}");
        let packed = format.encode(&weights(rows, cols), rows, cols).unwrap();
        assert_eq!(packed.bytes() as f64 * 8.0 / (rows * cols) as f64, got, "{format}");
    }
}

#[test]
fn slices_equal_the_encoded_rows() {
    for mut format in Format::catalog() {
        for (rows, cols) in [(13, 7), (12, 33), (9, 96), (8, 160), (16, 401)] {
            let fitting = if cols % 16 == 0 { 16 } else { cols as u32 };
            match &mut format {
                Format::MxIntCuda { group } => *group = fitting,
                Format::Element { block: Block::Flat(group), .. } => *group = fitting,
                _ => {}
            }
            let w = weights(rows, cols);
            let Ok(packed) = format.encode(&w, rows, cols) else {
                assert!(matches!(format, Format::Ggml(_)), "{format} [{rows}, {cols}]");
                continue;
            };
            let y = packed.decode();
            let step = format.row_alignment(rows, cols);
            for begin in (0..rows).step_by(step) {
                for end in begin + 1..=rows {
                    let slice = packed.slice_rows(begin..end);
                    let what = format!("{format} [{rows}, {cols}] {begin}..{end}");
                    assert_same(&slice.decode(), &y[begin * cols..end * cols], &what);
                    let again = Packed::from_parts(
                        format,
                        end - begin,
                        cols,
                        slice.codes.clone(),
                        slice.scales.clone(),
                        slice.exceptions.clone(),
                    );
                    assert_eq!(again.unwrap(), slice, "{what}");
                    // Encoding the rows alone gives the same words, unless the scale spans the matrix.
                    let spans = match format {
                        Format::Int { scope, .. } | Format::BinaryMean { scope } => scope == Scope::Tensor,
                        Format::TorchDynamic | Format::NvFp4 => true,
                        // A block of zeros has the scale of some other block.
                        Format::Element { element, .. } => element.scale_bits() > 0,
                        _ => false,
                    };
                    if !spans {
                        let alone = format.encode(&w[begin * cols..end * cols], end - begin, cols).unwrap();
                        assert_eq!(slice, alone, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn stacks_hold_the_rows_of_their_parts_where_nothing_is_shared() {
    let mut stacked = 0;
    for mut format in Format::catalog() {
        for (rows, cols) in [(vec![8, 4, 4], 96), (vec![4, 8], 100), (vec![3, 5, 1], 7), (vec![1, 2], 256)] {
            match &mut format {
                Format::MxIntCuda { group } => *group = if cols % 16 == 0 { 16 } else { cols as u32 },
                Format::Element { block: Block::Flat(group), .. } => *group = 3,
                _ => {}
            }
            let parts: Result<Vec<Packed>, _> =
                rows.iter().map(|&rows| format.encode(&weights(rows, cols), rows, cols)).collect();
            let Ok(parts) = parts else { continue };
            let whole = match (Packed::stack(&parts), format.stacks(&rows, cols)) {
                (Ok(whole), true) => whole,
                (Err(error), false) => {
                    assert!(error.to_string().contains("do not stack"), "{error}");
                    continue;
                }
                (got, says) => panic!("{format} {rows:?} x {cols}: {got:?}, but stacks says {says}"),
            };
            let want: Vec<f32> = parts.iter().flat_map(Packed::decode).collect();
            assert_same(&whole.decode(), &want, &format!("{format} {rows:?} x {cols}"));
            let Packed { codes, scales, exceptions, .. } = whole.clone();
            let again = Packed::from_parts(format, rows.iter().sum(), cols, codes, scales, exceptions);
            assert_eq!(again.expect("whole"), whole, "{format} {rows:?} x {cols}");
            stacked += 1;
        }
    }
    assert!(stacked > 100, "{stacked}");
    let stacks = |format: &str, cols| format.parse::<Format>().unwrap().stacks(&[8, 4, 4], cols);
    for format in ["f32", "f16", "bf16", "int4(group=32)", "mxint8", "nf4", "base11", "integer(8,4)", "q8_0"]
    {
        assert!(stacks(format, 96), "{format}");
    }
    assert!(stacks("q4_k", 256) && stacks("int8(scale=row)", 100));
    // One scale for the matrix; a part that ends within a word of scales.
    assert!(!stacks("int8", 96) && !stacks("nvfp4", 96));
    assert!(!Format::MxInt { bits: 8 }.stacks(&[3, 5], 32));
}

#[test]
fn parts_of_different_kinds_do_not_stack() {
    let of = |format: &str, cols: usize| {
        format.parse::<Format>().unwrap().encode(&weights(4, cols), 4, cols).unwrap()
    };
    for (parts, part_of_message) in [
        (vec![], "no matrices"),
        (vec![of("f16", 32), of("bf16", 32)], "one format and width"),
        (vec![of("f16", 32), of("f16", 64)], "one format and width"),
    ] {
        let error = Packed::stack(&parts).unwrap_err().to_string();
        assert!(error.contains(part_of_message), "{error}");
    }
}

#[test]
fn alignment_is_the_smallest() {
    let alignment = |format: &str, cols| format.parse::<Format>().unwrap().row_alignment(320, cols);
    assert_eq!(alignment("int4", 5), 1);
    assert_eq!(alignment("int4(group=128)", 128), 2);
    assert_eq!(alignment("int4(group=128)", 256), 1);
    assert_eq!(alignment("mxint8", 32), 4);
    assert_eq!(alignment("mxint8", 64), 2);
    assert_eq!(alignment("mxint8", 128), 1);
    assert_eq!(alignment("mxint_cuda", 64), 1);
    assert_eq!(alignment("mxint_cuda", 16), 4);
    assert_eq!(alignment("mxint_cuda", 5), 64);
    assert_eq!(alignment("base11(layout=9in32)", 5), 1);
}

#[test]
fn bad_matrices_are_refused() {
    for format in Format::catalog() {
        for (rows, cols) in [(0, 4), (4, 0)] {
            let text = message(format.encode(&[], rows, cols));
            assert!(text.contains("empty"), "{text}");
        }
        for (rows, cols) in [(usize::MAX, 2), (1 << 40, 1 << 40), (1, usize::MAX), (1 << 30, 1 << 29)] {
            assert!(format.encode(&[1.0], rows, cols).is_err());
            assert!(Packed::from_parts(format, rows, cols, vec![0], vec![], vec![]).is_err());
        }
        if let Format::MxIntCuda { .. } = format {
            assert!(message(format.encode(&[0.0; 17], 1, 17)).contains("group = 16"));
            continue;
        }
        if matches!(format, Format::Ggml(_) | Format::Element { block: Block::Flat(_), .. }) {
            assert!(message(format.encode(&[0.0; 17], 1, 17)).contains("multiple of"), "{format}");
            continue;
        }
        let text = message(format.encode(&[0.0; 5], 2, 3));
        assert!(text.contains("[2, 3]") && text.contains('6') && text.contains('5'), "{text}");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let text = message(format.encode(&[0.0, 1.0, 2.0, 3.0, bad, bad], 2, 3));
            assert!(text.contains("weight 4 (row 1, column 1)"), "{text}");
        }
        let packed = format.encode(&[1.0; 6], 2, 3).unwrap();
        let mut codes = packed.codes.clone();
        codes.push(0);
        assert!(
            message(Packed::from_parts(format, 2, 3, codes, packed.scales, vec![])).contains("code words")
        );
    }
    assert!(
        message(Format::F16.encode(&[1.0, 65536.0], 1, 2)).contains("weight 1 (row 0, column 1) is 6.5536e4")
    );
    assert!(message(Format::Bf16.encode(&[f32::MAX], 1, 1)).contains("beyond the largest bf16"));
    assert!(Format::F32.encode(&[f32::MAX], 1, 1).is_ok());
    assert!(message(Format::Int { bits: 9, scope: Scope::Row }.encode(&[1.0], 1, 1)).contains("2 to 8"));
}

#[test]
fn extreme_weights_keep_finite_scales() {
    let w = [f32::MAX, -f32::MAX, f32::from_bits(1), 0.0, f32::MIN_POSITIVE];
    for format in Format::catalog() {
        let (rows, cols) = match format {
            Format::MxIntCuda { .. } | Format::Element { block: Block::Flat(_), .. } => (32, 5),
            Format::Ggml(_) => continue,
            _ => (1, 5),
        };
        let w = w.repeat(rows);
        match format {
            Format::F16 | Format::Bf16 => assert!(format.encode(&w, rows, cols).is_err()),
            // The reference programs overflow here, and these formats follow them.
            Format::MxIntCuda { .. } | Format::Base11Nine32 { .. } => {
                assert!(format.encode(&w, rows, cols).unwrap().scale_overflows() > 0, "{format}");
            }
            Format::Element { .. } => {}
            // 128 steps of max / 127.5.
            Format::TorchDynamic => {}
            _ => {
                // At f32::MAX itself, `q * (max / qmax)` can round to infinity.
                let w: Vec<f32> = w.iter().map(|w| w.clamp(-3.4e38, 3.4e38)).collect();
                let packed = format.encode(&w, rows, cols).unwrap();
                assert_eq!(packed.scale_overflows(), 0, "{format}");
                assert!(packed.decode().iter().all(|y| y.is_finite()), "{format}");
            }
        }
        let tiny = vec![f32::from_bits(1); rows * cols];
        let y = format.encode(&tiny, rows, cols).unwrap().decode();
        assert!(y.iter().all(|y| y.is_finite()), "{format}");
    }
}

#[test]
fn activations_of_a_sequence_do_not_depend_on_the_batch() {
    let (rows, cols) = (6, 11);
    let x = weights(rows, cols);
    let spans = [(0, 2), (0, 2), (2, 3), (3, 6), (3, 6), (3, 6)];
    for scope in [ActivationScope::Tensor, ActivationScope::Row] {
        let format = ActivationFormat::Int { bits: 8, scope };
        let all = quantize_activations(&x, cols, &spans, format).unwrap();
        for (begin, end) in [(0, 2), (2, 3), (3, 6)] {
            let alone = quantize_activations(
                &x[begin * cols..end * cols],
                cols,
                &vec![(0, (end - begin) as u32); end - begin],
                format,
            )
            .unwrap();
            assert_eq!(all.codes[begin * cols..end * cols], alone.codes);
            assert_eq!(all.scales[begin..end], alone.scales);
        }
        for (row, x) in x.chunks(cols).enumerate() {
            let (begin, end) = match scope {
                ActivationScope::Row => (row, row + 1),
                ActivationScope::Tensor => (spans[row].0 as usize, spans[row].1 as usize),
            };
            let max =
                weights(rows, cols)[begin * cols..end * cols].iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert_eq!(all.scales[row], max / 127.0);
            for (k, &x) in x.iter().enumerate() {
                let y = f32::from(all.codes[row * cols + k]) * all.scales[row];
                assert!((x - y).abs() <= all.scales[row] * 0.5001, "{x} {y}");
            }
        }
    }
    let zero = quantize_activations(
        &[0.0; 4],
        4,
        &[(0, 1)],
        ActivationFormat::Int { bits: 4, scope: ActivationScope::Row },
    )
    .unwrap();
    assert_eq!((zero.codes, zero.scales), (vec![0; 4], vec![1.0]));
}
