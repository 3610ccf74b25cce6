//! Formats against the output of the programs that define them, and against brute force in f64.

use std::path::PathBuf;

use anybit::format::{
    ActivationFormat, ActivationScope, Base11Layout, Format, Packed, Scope, Spec, mxint, quantize_activations,
};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The golden cases and their tensors.
struct Golden {
    cases: Vec<Value>,
    bytes: Vec<u8>,
}

impl Golden {
    fn load() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let text = std::fs::read_to_string(folder.join("formats.json")).unwrap();
        let mut list: Value = serde_json::from_str(&text).unwrap();
        let cases = list["cases"].as_array_mut().unwrap().drain(..).collect();
        Self { cases, bytes: std::fs::read(folder.join("formats.safetensors")).unwrap() }
    }

    /// The cases of a format; the count guards against a filter that matches nothing.
    fn cases(&self, format: &str, count: usize) -> Vec<&Value> {
        let cases: Vec<&Value> = self.cases.iter().filter(|case| case["format"] == format).collect();
        assert_eq!(cases.len(), count, "{format}");
        cases
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> (Vec<u8>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), dtype, "{name}");
        (tensor.data().to_vec(), tensor.shape().to_vec())
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        let (bytes, _) = self.bytes(name, Dtype::F32);
        bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn u32(&self, name: &str) -> Vec<u32> {
        let (bytes, _) = self.bytes(name, Dtype::U32);
        bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn f16(&self, name: &str) -> Vec<f32> {
        let (bytes, _) = self.bytes(name, Dtype::F16);
        bytes.chunks(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
    }

    fn bf16(&self, name: &str) -> Vec<f32> {
        let (bytes, _) = self.bytes(name, Dtype::BF16);
        bytes.chunks(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
    }

    fn i8(&self, name: &str) -> Vec<i8> {
        self.bytes(name, Dtype::I8).0.into_iter().map(|b| b as i8).collect()
    }

    fn u8(&self, name: &str) -> Vec<u8> {
        self.bytes(name, Dtype::U8).0
    }

    /// The input of a case with its shape as a matrix.
    fn input(&self, case: &Value) -> (Vec<f32>, usize, usize) {
        let name = format!("input.{}", case["input"].as_str().unwrap());
        let shape = self.bytes(&name, Dtype::F32).1;
        let cols = *shape.last().unwrap();
        let values = self.f32(&name);
        let rows = values.len() / cols;
        (values, rows, cols)
    }
}

fn output<'a>(case: &'a Value, what: &str) -> &'a str {
    case["outputs"][what].as_str().unwrap()
}

/// Bit-exact, with NaN == NaN and -0 == +0.
fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(g == w || (g.is_nan() && w.is_nan()), "{what}: element {i}: got {g:e}, want {w:e}");
    }
}

fn integer_codes(packed: &Packed) -> Vec<i8> {
    let mut codes = vec![0; packed.rows * packed.cols];
    for (row, out) in codes.chunks_mut(packed.cols).enumerate() {
        packed.integer_codes(row, out);
    }
    codes
}

fn int(bits: u8) -> Format {
    Format::Int { bits, scope: Scope::Tensor }
}

#[test]
fn int_per_tensor_equals_qlinear() {
    let golden = Golden::load();
    for case in golden.cases("qlinear_tensor", 13) {
        let (w, rows, cols) = golden.input(case);
        let what = case["id"].as_str().unwrap();
        if what == "qlinear_sanity" {
            for (bits, want) in case["measured"].as_object().unwrap() {
                let y = int(bits.parse().unwrap()).encode(&w, rows, cols).unwrap().decode();
                let error = w.iter().zip(&y).map(|(w, y)| f64::from((w - y).abs())).sum::<f64>();
                let (mean, want) = (error / w.len() as f64, want.as_f64().unwrap());
                assert!((mean - want).abs() <= 1e-6 * want, "{bits} bits: {mean}, want {want}");
            }
            continue;
        }
        let bits = case["params"]["bitwidth"].as_u64().unwrap() as u8;
        let packed = int(bits).encode(&w, rows, cols).unwrap();
        assert_eq!(integer_codes(&packed), golden.i8(output(case, "q")), "{what}");
        let scale = golden.f32(output(case, "scale"))[0];
        assert_eq!(packed.scale(rows - 1, cols - 1).to_bits(), scale.to_bits(), "{what}");
        let want: Vec<f32> = golden.i8(output(case, "q")).iter().map(|&q| f32::from(q) * scale).collect();
        assert_same(&packed.decode(), &want, what);
        // One sequence of activations is quantized by the same rule.
        let spans = vec![(0, rows as u32); rows];
        let activation = ActivationFormat { bits, scope: ActivationScope::Tensor };
        let x = quantize_activations(&w, cols, &spans, activation);
        assert_eq!(x.codes, golden.i8(output(case, "q")), "{what}");
        assert_eq!(x.scales, vec![scale; rows], "{what}");
    }
}

#[test]
fn mxint_equals_microxcaling() {
    let golden = Golden::load();
    for (name, bits) in [("mx_int8", 8), ("mx_int4", 4)] {
        for case in golden.cases(name, 4) {
            let (w, rows, cols) = golden.input(case);
            let packed = Format::MxInt { bits }.encode(&w, rows, cols).unwrap();
            assert_same(&packed.decode(), &golden.f32(output(case, "y")), case["id"].as_str().unwrap());
        }
    }
}

#[test]
fn mxint8_codes_and_scale_bytes_are_ocp() {
    let golden = Golden::load();
    for case in golden.cases("ocp_codes_int8", 3) {
        let (w, rows, cols) = golden.input(case);
        let packed = Format::MxInt { bits: 8 }.encode(&w, rows, cols).unwrap();
        let codes: Vec<u8> = integer_codes(&packed).into_iter().map(|q| q as u8).collect();
        assert_eq!(codes, golden.u8(output(case, "codes")), "{case}");
        let scales: Vec<u8> = packed.scales.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (block, (got, want)) in scales.iter().zip(golden.u8(output(case, "scale"))).enumerate() {
            let zero = w[block * 32..][..32].iter().all(|&w| w == 0.0);
            assert_eq!(*got, if zero { 0 } else { want }, "{case}: block {block}");
        }
        assert_same(&packed.decode(), &golden.f32(output(case, "y")), case["id"].as_str().unwrap());
    }
}

#[test]
fn mxint_cuda_equals_mase_cuda() {
    let golden = Golden::load();
    let mut compared = 0;
    for case in golden.cases("mase_cuda_mxint8", 10) {
        if case["outputs"].get("mantissa_i8").is_none() {
            continue;
        }
        let (w, rows, cols) = golden.input(case);
        let group = case["params"]["group_size"].as_u64().unwrap() as u32;
        let packed = Format::MxIntCuda { group }.encode(&w, rows, cols).unwrap();
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let codes: Vec<i8> = bytes(&packed.codes).into_iter().map(|b| b as i8).collect();
        assert_eq!(codes, golden.i8(output(case, "mantissa_i8")), "{case}");
        assert_eq!(bytes(&packed.scales), golden.u8(output(case, "scale_u8")), "{case}");
        assert_same(&packed.decode(), &golden.bf16(output(case, "y_bf16")), case["id"].as_str().unwrap());
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn cuda_decode_equals_the_exhaustive_table() {
    let golden = Golden::load();
    let codes = golden.i8("input.i8_all_x16");
    let scales = golden.u8("input.u8_scales16");
    let want = golden.bf16("mase_cuda_mxint8.011.y");
    let got: Vec<f32> =
        codes.iter().enumerate().map(|(i, &q)| mxint::cuda_decode(q, scales[i / 256])).collect();
    assert_same(&got, &want, "mase_cuda_mxint8.011");
}

#[test]
fn base11_9in32_equals_the_quantizer() {
    let golden = Golden::load();
    let mut not_finite = 0;
    for case in golden.cases("base11", 11) {
        let what = case["id"].as_str().unwrap();
        if case["function"].as_str().unwrap().ends_with("_pack") {
            continue;
        }
        let (w, rows, cols) = golden.input(case);
        let group = case["params"]["group_size"].as_u64().unwrap() as usize;
        let format = Format::Base11 { layout: Base11Layout::Nine32, group: group as u32 };
        let packed = format.encode(&w, rows, cols).unwrap();
        let layout = format.layout(rows, cols).unwrap();
        // Upstream drops a short last group; only complete groups are there to compare.
        let (complete, words) = (cols / group, group.div_ceil(9));
        let (mut codes, mut mins, mut scales, mut y) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (row, values) in packed.decode().chunks(cols).enumerate() {
            codes.extend_from_slice(&packed.codes[row * layout.row_words..][..complete * words]);
            for field in &packed.scales[row * layout.groups_per_row..][..complete] {
                mins.push(f16::from_bits(*field as u16).to_f32());
                scales.push(f16::from_bits((field >> 16) as u16).to_f32());
            }
            y.extend_from_slice(&values[..complete * group]);
        }
        let codes: Vec<u8> = codes.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(codes == golden.u8(output(case, "packed_u8")), "{what}: packed words differ");
        assert_same(&mins, &golden.f16(output(case, "min_f16")), what);
        assert_same(&scales, &golden.f16(output(case, "scale_f16")), what);
        assert_same(&y, &golden.f32(output(case, "y")), what);
        not_finite += packed.scale_overflows();
    }
    assert!(not_finite > 0, "a case with values beyond f16 belongs to the set");
}

#[test]
fn nine_digits_pack_as_upstream_packs_them() {
    let golden = Golden::load();
    let case = golden.cases("base11", 11).into_iter().find(|case| case["id"] == "base11.014").unwrap();
    let digits: Vec<f32> = case["params"]["indices"][0]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group.as_array().unwrap())
        .map(|digit| digit.as_f64().unwrap() as f32)
        .collect();
    let words: Vec<u32> = golden
        .u8(output(case, "packed_u8"))
        .chunks(4)
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    // One group of minimum 0 and range 10: every value decodes to its digit, up to rounding.
    let field = u32::from(f16::from_f32(10.0).to_bits()) << 16;
    let format = Format::Base11 { layout: Base11Layout::Nine32, group: 45 };
    let packed = Packed::from_parts(format, 1, 45, words.clone(), vec![field]).unwrap();
    let decoded: Vec<f32> = packed.decode().iter().map(|y| y.round()).collect();
    assert_eq!(decoded, digits);
    assert_eq!(format.encode(&digits, 1, 45).unwrap().codes, words);
}

#[test]
fn two_digits_in_seven_bits_pack_as_the_golden_stream() {
    let golden = Golden::load();
    let case = golden.cases("pack", 1)[0];
    let digits = golden.u8(output(case, "digits"));
    let words = golden.u32(output(case, "words_int"));
    let format = Format::Base11 { layout: Base11Layout::Two7, group: 128 };
    let one = u32::from(f16::from_f32(1.0).to_bits());
    let packed = Packed::from_parts(format, 1, digits.len(), words.clone(), vec![one]).unwrap();
    let codes: Vec<i8> = digits.iter().map(|&digit| digit as i8 - 5).collect();
    assert_eq!(integer_codes(&packed), codes);
    assert!(codes.iter().any(|q| q.abs() == 5), "the scale of the re-encoded matrix is 1");
    assert_eq!(format.encode(&packed.decode(), 1, digits.len()).unwrap(), packed);
}

/// A deterministic matrix with a wide range of magnitudes, zeros and a zero group.
fn weights(rows: usize, cols: usize) -> Vec<f32> {
    let mut state = 7u64;
    (0..rows * cols)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let size = [1.0, 0.02, 3.0, 1e-3][(state >> 30) as usize % 4];
            if i % 17 == 0 || (64..96).contains(&i) { 0.0 } else { uniform * size }
        })
        .collect()
}

/// Shapes around word and group borders.
const SHAPES: [(usize, usize); 8] = [(1, 1), (3, 7), (5, 31), (4, 32), (7, 33), (2, 255), (6, 256), (3, 401)];

#[test]
fn every_value_is_the_nearest_point_of_its_grid() {
    for format in Format::catalog().into_iter().filter(Format::has_integer_codes) {
        for (rows, cols) in SHAPES {
            let w = weights(rows, cols);
            let Ok(packed) = format.encode(&w, rows, cols) else {
                assert!(matches!(format, Format::MxIntCuda { .. }), "{format} [{rows}, {cols}]");
                continue;
            };
            let qmax = match format {
                Format::Int { bits, .. } | Format::MxInt { bits } => (1 << (bits - 1)) - 1,
                Format::MxIntCuda { .. } => 127,
                _ => 5,
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
    let format = Format::Base11 { layout: Base11Layout::Two7, group: 32 };
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
            if let Format::MxIntCuda { group } = &mut format {
                *group = if cols % 16 == 0 { 16 } else { cols as u32 };
            }
            let w = weights(rows, cols);
            let packed = format.encode(&w, rows, cols).unwrap();
            let y = packed.decode();
            let step = format.row_alignment(cols);
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
                    );
                    assert_eq!(again.unwrap(), slice, "{what}");
                    // Encoding the rows alone gives the same words, unless the scale spans the matrix.
                    if !matches!(format, Format::Int { scope: Scope::Tensor, .. }) {
                        let alone = format.encode(&w[begin * cols..end * cols], end - begin, cols).unwrap();
                        assert_eq!(slice, alone, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn alignment_is_the_smallest() {
    let alignment = |format: &str, cols| format.parse::<Format>().unwrap().row_alignment(cols);
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

fn message(result: anybit::Result<impl Sized>) -> String {
    match result {
        Ok(_) => panic!("want an error"),
        Err(error) => error.to_string(),
    }
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
            assert!(Packed::from_parts(format, rows, cols, vec![0], vec![]).is_err());
        }
        if let Format::MxIntCuda { .. } = format {
            assert!(message(format.encode(&[0.0; 17], 1, 17)).contains("group = 16"));
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
        assert!(message(Packed::from_parts(format, 2, 3, codes, packed.scales)).contains("code words"));
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
        let (rows, cols) = if let Format::MxIntCuda { .. } = format { (16, 5) } else { (1, 5) };
        let w = w.repeat(rows);
        match format {
            Format::F16 | Format::Bf16 => assert!(format.encode(&w, rows, cols).is_err()),
            // The reference programs overflow here, and these formats follow them.
            Format::MxIntCuda { .. } | Format::Base11 { layout: Base11Layout::Nine32, .. } => {
                assert!(format.encode(&w, rows, cols).unwrap().scale_overflows() > 0, "{format}");
            }
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
        let format = ActivationFormat { bits: 8, scope };
        let all = quantize_activations(&x, cols, &spans, format);
        for (begin, end) in [(0, 2), (2, 3), (3, 6)] {
            let alone = quantize_activations(
                &x[begin * cols..end * cols],
                cols,
                &vec![(0, (end - begin) as u32); end - begin],
                format,
            );
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
        ActivationFormat { bits: 4, scope: ActivationScope::Row },
    );
    assert_eq!((zero.codes, zero.scales), (vec![0; 4], vec![1.0]));
}

#[test]
fn specs_print_as_they_are_written() {
    for (text, canonical) in [
        ("f16", "f16"),
        (" int4 ( scale = tensor ) ", "int4"),
        ("int4(scale=row)", "int4(scale=row)"),
        ("int4( group = 64 )", "int4(group=64)"),
        ("mxint_cuda(group=16)", "mxint_cuda"),
        ("mxint_cuda( group=8 )", "mxint_cuda(group=8)"),
        ("base11(layout=2in7,group=128)", "base11"),
        ("base11( group=256, layout=9in32 )", "base11(layout=9in32,group=256)"),
        ("base11()", "base11"),
        ("int4@int4", "qlinear(bits=4)"),
        ("qlinear( bits = 8 )", "qlinear(bits=8)"),
        ("int4 @ int8", "int4@int8"),
        ("mxint8@int8(scale=row)", "mxint8@int8(scale=row)"),
        ("int4(scale=row)@int4(scale=tensor)", "int4(scale=row)@int4"),
    ] {
        let spec: Spec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(spec.to_string(), canonical, "{text}");
        assert_eq!(canonical.parse::<Spec>().unwrap(), spec);
    }
    assert_eq!(format!("{:>6}|{:6}", Format::F16, Spec::from(Format::F32)), "   f16|f32   ");
    for format in Format::catalog() {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        assert_eq!(format.to_string().parse::<Spec>().unwrap(), Spec::from(format));
    }
}

#[test]
fn spec_errors_say_what_got_and_want() {
    for (text, parts) in [
        ("int44", &["unknown format `int44`", "known: int4"][..]),
        ("mxint5", &["unknown format", "known: mxint8, mxint6, mxint4"]),
        ("BF16", &["unknown format `BF16`", "known: bf16"]),
        ("qlinaer(bits=4)", &["unknown format", "known: qlinear"]),
        ("", &["no name"]),
        ("(group=32)", &["no name"]),
        ("int4(groups=32)", &["no parameter `groups`", "scale, group"]),
        ("f32(group=32)", &["no parameter `group`", "none"]),
        ("int4(group=32,group=64)", &["`group` is given twice"]),
        ("int4(group=)", &["`group` has no value"]),
        ("int4(group)", &["`group` has no value"]),
        ("int4(=3)", &["no key"]),
        ("int4(group=33)", &["group = 33", "multiple of 32"]),
        ("int4(group=65568)", &["65568", "65536"]),
        ("int4(group=0)", &["group = 0"]),
        ("int4(group=abc)", &["`abc`", "whole number"]),
        ("int4(group=-32)", &["`-32`"]),
        ("int4(scale=col)", &["`col`", "tensor or row"]),
        ("int4(scale=row,group=32)", &["exclude"]),
        ("mxint_cuda(group=0)", &["group = 0", "at least 1"]),
        ("base11(layout=3in9)", &["`3in9`", "2in7 or 9in32"]),
        ("base11(group=100)", &["100", "multiple of 32"]),
        ("base11(layout=9in32,group=0)", &["1 to 65536"]),
        ("int4(group=32", &["unbalanced"]),
        ("int4)", &["unbalanced"]),
        ("int4((group=32))", &["unbalanced"]),
        ("int4(group=32)x", &["unbalanced"]),
        ("qlinear", &["bits=2"]),
        ("qlinear(bits=9)", &["`9`", "2 to 8"]),
        ("qlinear(bits=4)@int8", &["remove `@"]),
        ("int4@", &["no name"]),
        ("int4@mxint8", &["unknown activation format `mxint8`", "known: int8"]),
        ("int4@int8@int8", &["`int8@int8`"]),
        ("int4@int8(group=32)", &["no parameter `group`"]),
        ("int4@int8(scale=col)", &["tensor or row"]),
    ] {
        let got = message(text.parse::<Spec>());
        for part in parts {
            assert!(got.contains(part), "`{text}`: {got}: wants {part}");
        }
    }
    assert!(!message("nope".parse::<Format>()).contains("qlinear"), "a Format is no Spec");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn any_group() -> impl Strategy<Value = u32> {
        (1u32..=2048).prop_map(|n| n * 32)
    }

    fn any_format() -> impl Strategy<Value = Format> {
        prop_oneof![
            Just(Format::F32),
            Just(Format::F16),
            Just(Format::Bf16),
            (2u8..=8, prop_oneof![Just(Scope::Tensor), Just(Scope::Row), any_group().prop_map(Scope::Group)])
                .prop_map(|(bits, scope)| Format::Int { bits, scope }),
            prop_oneof![Just(4u8), Just(6), Just(8)].prop_map(|bits| Format::MxInt { bits }),
            (1u32..=200).prop_map(|group| Format::MxIntCuda { group }),
            any_group().prop_map(|group| Format::Base11 { layout: Base11Layout::Two7, group }),
            (1u32..=65536).prop_map(|group| Format::Base11 { layout: Base11Layout::Nine32, group }),
        ]
    }

    fn any_activation() -> impl Strategy<Value = ActivationFormat> {
        (2u8..=8, prop_oneof![Just(ActivationScope::Tensor), Just(ActivationScope::Row)])
            .prop_map(|(bits, scope)| ActivationFormat { bits, scope })
    }

    proptest! {
        #[test]
        fn display_parses_back(weight in any_format(), activation in proptest::option::of(any_activation())) {
            let spec = Spec { weight, activation };
            prop_assert_eq!(spec.to_string().parse::<Spec>().unwrap(), spec);
            prop_assert_eq!(weight.to_string().parse::<Format>().unwrap(), weight);
            if let Some(activation) = activation {
                prop_assert_eq!(activation.to_string().parse::<ActivationFormat>().unwrap(), activation);
            }
        }

        #[test]
        fn parsers_never_panic(
            text in prop_oneof![
                any::<String>(),
                "(int4|base11|qlinear|mxint_cuda|x)?[ @(),=a-z0-9]{0,24}",
            ],
        ) {
            if let Ok(spec) = text.parse::<Spec>() {
                prop_assert_eq!(spec.to_string().parse::<Spec>().unwrap(), spec);
            }
            let _ = text.parse::<Format>();
            let _ = text.parse::<ActivationFormat>();
        }

        #[test]
        fn any_words_decode(
            format in any_format(), rows in 1usize..6, cols in 1usize..300, seed in any::<u64>(),
        ) {
            let Ok(layout) = format.layout(rows, cols) else {
                return Ok(());
            };
            let mut state = seed;
            let mut word = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 32) as u32
            };
            let codes = (0..layout.code_words).map(|_| word()).collect();
            let scales = (0..layout.scale_words).map(|_| word()).collect();
            let packed = Packed::from_parts(format, rows, cols, codes, scales).unwrap();
            let y = packed.decode();
            packed.scale_overflows();
            packed.slice_rows(0..rows);
            if format.has_integer_codes() {
                let codes = integer_codes(&packed);
                for (i, y) in y.iter().enumerate() {
                    let product = f32::from(codes[i]) * packed.scale(i / cols, i % cols);
                    prop_assert!(*y == product || (y.is_nan() && product.is_nan()), "{}: {} {}", format, y, product);
                }
            }
        }

        #[test]
        fn encoding_is_idempotent_where_the_grid_is_kept(rows in 1usize..5, cols in 1usize..200) {
            let w = weights(rows, cols);
            for format in [Format::F32, Format::F16, Format::Bf16, Format::MxInt { bits: 8 }] {
                let once = format.encode(&w, rows, cols).unwrap().decode();
                let twice = format.encode(&once, rows, cols).unwrap().decode();
                prop_assert_eq!(once, twice);
            }
        }
    }
}
