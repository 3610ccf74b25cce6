//! Formats and layers of other programs: mase-cuda, the QLinear notebook, the base-11 module, torch, pruning.

use anybit::format::upstream::{self, Operands};
use anybit::format::{ActivationFormat, ActivationScope, Format, Packed, Scope, mxint, quantize_activations};
use anybit::reference::linear_quantized;
use half::f16;

use super::golden::{Case, Tensor};
use super::{assert_same, int, integer_codes};

/// The little-endian bytes of words.
fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn prune(case: &Case<'_>) {
    let x = case.input().floats();
    let sparsity = case.param("sparsity").as_f64().unwrap() as f32;
    let mask = match case.param("tensors").as_array() {
        None => upstream::prune_l1(&x, sparsity),
        Some(names) => {
            let all: Vec<Vec<f32>> =
                names.iter().map(|name| case.golden.input(name.as_str().unwrap()).floats()).collect();
            let all: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
            upstream::prune_global_l1(&x, &all, sparsity)
        }
    };
    let mask: Vec<u8> = mask.unwrap().into_iter().map(u8::from).collect();
    case.assert_integers("mask", &mask);
}

pub(crate) fn mase_cuda(case: &Case<'_>) {
    let group: u32 = case.int("group_size");
    let encode = |tensor: &Tensor| {
        let (rows, cols) = tensor.rows_cols();
        Format::MxIntCuda { group }.encode(&tensor.floats(), rows, cols).unwrap()
    };
    let codes =
        |packed: &Packed| bytes(&packed.codes).into_iter().map(|byte| byte as i8).collect::<Vec<i8>>();
    if case.has("mantissa_i8") {
        let x = case.input();
        let result = upstream::mase_cuda_mxint8(&x.floats(), group as usize).unwrap();
        case.assert_integers("mantissa_i8", &result.mantissas);
        case.assert_integers("scale_u8", &result.scales);
        case.assert_floats("y_bf16", &result.y);
        if x.floats().iter().all(|x| x.is_finite()) {
            let packed = encode(&x);
            assert_eq!((codes(&packed), bytes(&packed.scales)), (result.mantissas, result.scales));
            assert_same(&packed.decode(), &result.y, case.id());
        }
    } else if case.has("w_mantissa") {
        let (x, bias) = (case.input(), encode(&case.named("bias")).decode());
        let weight = encode(&case.named("weight"));
        case.assert_integers("w_mantissa", &codes(&weight));
        case.assert_integers("w_scale", &bytes(&weight.scales));
        case.assert_floats("w_dequant", &weight.decode());
        case.assert_floats("b_dequant", &bias);
        let (x_values, weights) = (x.floats(), weight.decode());
        let y = anybit::reference::linear(&x_values, x.shape[0], &weights, weight.cols, Some(&bias));
        case.assert_near("y", &y, &[x.shape[0], weight.rows], 1e-5);
    } else {
        let (codes, scales) = (case.named("mantissa").integers(), case.named("scale").integers());
        let decode =
            |(i, &code): (usize, &i64)| mxint::cuda_decode(code as i8, scales[i / group as usize] as u8);
        case.assert_floats("y_bf16", &codes.iter().enumerate().map(decode).collect::<Vec<f32>>());
    }
}

pub(crate) fn base11(case: &Case<'_>) {
    let function = case.value["function"].as_str().unwrap();
    if function.ends_with("_pack") {
        return base11_pack(case);
    }
    let group: u32 = case.int("group_size");
    if function.ends_with("forward") {
        let weight = case.named("weight");
        let (x, shape, bias) = match case.value["input"].as_str().unwrap() {
            "ones(2,37)" => (vec![1.0; 2 * 37], vec![2, 37], None),
            _ => {
                assert_eq!(case.param("bias"), "linspace(-1,1,64)");
                let bias = (0..64).map(|i| -1.0 + 2.0 * i as f32 / 63.0).collect();
                (case.input().floats(), case.input().shape, Some::<Vec<f32>>(bias))
            }
        };
        let (weights, outputs) = (weight.floats(), weight.shape[0]);
        let operands = Operands { x: &x, shape: &shape, weight: &weights, outputs, bias: bias.as_deref() };
        let result = upstream::base11_linear(&operands, group);
        if case.raises() {
            return case.assert_refused(result);
        }
        let result = result.unwrap();
        return case.assert_near("y", &result.y, &result.shape, 1e-5);
    }
    let weight = case.input();
    let (rows, cols) = weight.rows_cols();
    let result = upstream::base11_quantize(&weight.floats(), rows, cols, group);
    if case.raises() {
        return case.assert_refused(result);
    }
    let packed = result.unwrap();
    case.assert_integers("packed_u8", &bytes(&packed.codes));
    let halves = |shift: u32| -> Vec<f32> {
        packed.scales.iter().map(|field| f16::from_bits((field >> shift) as u16).to_f32()).collect()
    };
    case.assert_floats("min_f16", &halves(0));
    case.assert_floats("scale_f16", &halves(16));
    case.assert_floats("y", &packed.decode());
    let words_per_group = (group as usize).div_ceil(9);
    let digits = packed.codes.chunks(words_per_group).flat_map(|words| {
        let digits = words.iter().flat_map(|&word| (0..9).map(move |i| (word / 11u32.pow(i) % 11) as u8));
        digits.take(group as usize).collect::<Vec<u8>>()
    });
    case.assert_integers("indices_u8", &digits.collect::<Vec<u8>>());
    // The format keeps what upstream drops, and has the same words for the rest.
    let format = Format::Base11Nine32 { group };
    let whole = format.encode(&weight.floats(), rows, cols).unwrap().decode();
    let kept: Vec<f32> = whole.chunks(cols).flat_map(|row| row[..packed.cols].to_vec()).collect();
    assert_same(&kept, &packed.decode(), case.id());
}

fn base11_pack(case: &Case<'_>) {
    let groups = case.param("indices")[0].as_array().unwrap();
    let digits = groups.iter().flat_map(|group| group.as_array().unwrap());
    let digits: Vec<f32> = digits.map(|digit| digit.as_f64().unwrap() as f32).collect();
    let want = case.output("packed_u8").integers();
    let words: Vec<u32> = want
        .chunks(4)
        .map(|b| u32::from_le_bytes([b[0] as u8, b[1] as u8, b[2] as u8, b[3] as u8]))
        .collect();
    // One group of minimum 0 and range 10: every value decodes to its digit, up to rounding.
    let field = u32::from(f16::from_f32(10.0).to_bits()) << 16;
    let format = Format::Base11Nine32 { group: 45 };
    let packed = Packed::from_parts(format, 1, 45, words.clone(), vec![field], vec![]).unwrap();
    let decoded: Vec<f32> = packed.decode().iter().map(|y| y.round()).collect();
    assert_eq!(decoded, digits);
    assert_eq!(format.encode(&digits, 1, 45).unwrap().codes, words);
}

pub(crate) fn qlinear_tensor(case: &Case<'_>) {
    let tensor = case.input();
    let (w, (rows, cols)) = (tensor.floats(), tensor.rows_cols());
    if let Some(measured) = case.value["measured"].as_object() {
        for (bits, want) in measured {
            let y = int(bits.parse().unwrap()).encode(&w, rows, cols).unwrap().decode();
            let error = w.iter().zip(&y).map(|(w, y)| f64::from((w - y).abs())).sum::<f64>();
            let (mean, want) = (error / w.len() as f64, want.as_f64().unwrap());
            assert!((mean - want).abs() <= 1e-6 * want, "{bits} bits: {mean}, want {want}");
        }
        return;
    }
    let bits = case.int("bitwidth");
    let packed = int(bits).encode(&w, rows, cols).unwrap();
    let codes = integer_codes(&packed);
    case.assert_integers("q", &codes);
    let scale = packed.scale(rows - 1, cols - 1);
    case.assert_floats("scale", &[scale]);
    let want: Vec<f32> = codes.iter().map(|&q| f32::from(q) * scale).collect();
    assert_same(&packed.decode(), &want, case.id());
    // One sequence of activations is quantized by the same rule.
    let spans = vec![(0, rows as u32); rows];
    let activation = ActivationFormat::Int { bits, scope: ActivationScope::Tensor };
    let x = quantize_activations(&w, cols, &spans, activation).unwrap();
    assert_eq!((x.codes, x.scales), (codes, vec![scale; rows]), "{}", case.id());
}

pub(crate) fn qlinear_layer(case: &Case<'_>) {
    let (x, weight, bias) = (case.input(), case.named("weight"), case.named("bias").floats());
    let (rows, cols) = weight.rows_cols();
    let format = Format::Int { bits: case.int("weight_bitwidth"), scope: Scope::Tensor };
    let packed = format.encode(&weight.floats(), rows, cols).unwrap();
    let activation = ActivationFormat::Int { bits: case.int("act_bitwidth"), scope: ActivationScope::Tensor };
    let tokens = x.shape[0];
    let spans = vec![(0, tokens as u32); tokens];
    let y = linear_quantized(&x.floats(), &spans, activation, &packed, Some(&bias)).unwrap();
    case.assert_near("y", &y, &[tokens, rows], 1e-5);
}

pub(crate) fn dynamic_int8(case: &Case<'_>) {
    let (x, weight, bias) = (case.input(), case.named("weight"), case.named("bias").floats());
    assert!(case.flag("reduce_range", false));
    let (values, weights) = (x.floats(), weight.floats());
    let operands = Operands {
        x: &values,
        shape: &x.shape,
        weight: &weights,
        outputs: weight.shape[0],
        bias: Some(&bias),
    };
    let result = upstream::dynamic_int8(&operands).unwrap();
    case.assert_integers("wq", &result.weight);
    case.assert_floats("wscale", &[result.weight_scale]);
    case.assert_near("y", &result.output.y, &result.output.shape, 1e-5);
}
