//! Linear layers with quantized activations.

use anybit::format::{ActivationFormat, ActivationScope, Format, QuantizedActivations, quantize_activations};
use anybit::reference::{
    IntegerMatrix, integer_accumulators, linear, linear_integer, linear_quantized,
    nmse,
};
use safetensors::SafeTensors;

use super::noise;

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).expect(name).data();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn tensor_scope(bits: u8) -> ActivationFormat {
    ActivationFormat::Int { bits, scope: ActivationScope::Tensor }
}

#[test]
fn qlinear_layer_of_the_original_experiment() {
    let bytes = include_bytes!("../golden/qlinear_layer.safetensors");
    let file = SafeTensors::deserialize(bytes).expect("golden file");
    let (x, w, bias) = (floats(&file, "a_6x48"), floats(&file, "lw_24x48"), floats(&file, "lb_24"));
    for weight_bits in [2, 4, 8] {
        let format: Format = format!("int{weight_bits}").parse().expect("format");
        let packed = format.encode(&w, 24, 48).expect("encode");
        for bits in [2, 4, 8] {
            let want = floats(&file, &format!("y_w{weight_bits}_a{bits}"));
            let got =
                linear_quantized(&x, &[(0, 6); 6], tensor_scope(bits), &packed, Some(&bias)).expect("linear");
            let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (g, w) in got.iter().zip(&want) {
                assert!(
                    (g - w).abs() <= 1e-5 * w.abs() + 1e-6 * largest,
                    "w{weight_bits} a{bits}: {g}, want {w}"
                );
            }
            assert_eq!(got.len(), want.len());
        }
    }
}

#[test]
fn integer_linear_by_hand() {
    // Row scales 7/7 = 1 and 14/7 = 2; codes 7 -3 1 and 7 0 -3.
    let format: Format = "int4(scale=row)".parse().expect("format");
    let w = format.encode(&[7.0, -3.0, 1.0, 14.0, 0.0, -6.0], 2, 3).expect("encode");
    let q = QuantizedActivations { codes: vec![127, 64, -1, 1, 1, 1], scales: vec![0.5, 2.0], group: 3 };
    assert_eq!(integer_accumulators(&q, &w).expect("int"), [696, 892, 5, 4]);
    assert_eq!(linear_integer(&q, &w, None).expect("int"), [348.0, 892.0, 10.0, 16.0]);
    assert_eq!(linear_integer(&q, &w, Some(&[1.0, -2.0])).expect("int"), [349.0, 890.0, 11.0, 14.0]);
    assert_eq!(q.values(3), [63.5, 32.0, -0.5, 2.0, 2.0, 2.0]);
}

#[test]
fn integer_linear_is_the_product_of_the_decoded_operands() {
    for (tokens, rows, cols) in [(1, 1, 32), (3, 4, 96), (5, 19, 64), (2, 16, 256), (2, 7, 130)] {
        let (x, w, bias) = (noise(1, tokens * cols), noise(2, rows * cols), noise(3, rows));
        for format in Format::catalog().into_iter().filter(Format::has_integer_codes) {
            let Ok(w) = format.encode(&w, rows, cols) else {
                assert_ne!(cols, 256, "every format suits 256 columns");
                continue;
            };
            let q = quantize_activations(&x, cols, &vec![(0, tokens as u32); tokens], tensor_scope(8)).expect("int");
            let got = linear_integer(&q, &w, Some(&bias)).expect("integer");
            let want = linear(&q.values(cols), tokens, &w.decode(), cols, Some(&bias));
            let error = nmse(&got, &want);
            assert!(error < 1e-13, "{format} {tokens} x {rows} x {cols}: NMSE {error}");
        }
    }
}

#[test]
fn flat_groups_cross_rows() {
    let format = Format::MxIntCuda { group: 16 };
    // Rows of 24: groups begin at columns 0, 16 of even rows and at column 8 of odd rows.
    let w: Vec<f32> =
        (0..96).map(|i| [1.0, 100.0, 0.01, 7.0, 0.3, 55.0][i / 16] * (1.0 + i as f32 / 96.0)).collect();
    let packed = format.encode(&w, 4, 24).expect("encode");
    let q = QuantizedActivations { codes: (0..24).map(|k| k - 12).collect(), scales: vec![0.25], group: 24 };
    let got = linear_integer(&q, &packed, None).expect("integer");
    let want = linear(&q.values(24), 1, &packed.decode(), 24, None);
    assert!(nmse(&got, &want) < 1e-14, "{got:?} {want:?}");
}

#[test]
fn accumulators_are_exact_where_f32_is_not() {
    // 4000 products of 127 * 127 exceed 2^24.
    let cols = 4000;
    let w = Format::Int { bits: 8, scope: anybit::format::Scope::Tensor };
    let w = w.encode(&vec![1.0; cols], 1, cols).expect("encode");
    let mut codes = vec![127; cols];
    codes[0] = 126;
    let group = codes.len();
    let q = QuantizedActivations { codes, scales: vec![1.0], group };
    assert_eq!(integer_accumulators(&q, &w).expect("int"), [127 * 127 * 4000 - 127]);
}

#[test]
fn formats_without_integer_codes_say_so() {
    let packed = Format::F16.encode(&[1.0; 4], 2, 2).expect("encode");
    let error = IntegerMatrix::new(&packed).expect_err("f16 has no codes").to_string();
    assert!(error.contains("f16 has no integer codes"), "{error}");
    // They run with dequantized activations instead: 2 codes of 1.0 each.
    let y = linear_quantized(&[1.0, -1.0, 3.0, 3.0], &[(0, 1), (1, 2)], tensor_scope(8), &packed, None);
    assert_eq!(y.expect("linear"), [0.0, 0.0, 6.0, 6.0]);
}
