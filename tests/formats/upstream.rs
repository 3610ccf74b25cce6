//! What the golden cases do not reach: refusals, empty tensors, single values with an unusual result.

use anybit::format::element::{Element, OcpElement, OcpRounding, OcpScale, default_bias};
use anybit::format::upstream::{self, Operands};

use super::message;

#[test]
fn shapes_and_parameters_that_do_not_fit_are_refused() {
    let x = [1.0; 12];
    let fp = Element::BlockFp { width: 4, exponent_width: 8, exponent_bias: 127 };
    let int = Element::Integer { width: 8, frac_width: 4, signed: true, floor: false };
    let wide = Element::MxInt { width: 40 };
    for (message, parts) in [
        (message(upstream::elementwise(fp, &x)), &["scale per block"][..]),
        (message(upstream::elementwise(wide, &x)), &["width = 40", "2 to 16"]),
        (message(upstream::block(int, &x, &[12], &[4], false)), &["no scale per block"]),
        (message(upstream::block(fp, &x, &[3, 5], &[4], false)), &["[3, 5]", "12 values"]),
        (message(upstream::block(fp, &x, &[3, 4], &[0], false)), &["block_size [0]", "-1 for the dimension"]),
        (message(upstream::block(fp, &x, &[12], &[4], true)), &["skip_first_dim", "pass false"]),
        (message(upstream::block(fp, &x, &[3, 2, 2], &[4], false)), &["[3, 2, 2]", "pass true"]),
        (message(upstream::block(fp, &x, &[3, 2, 2, 1], &[4], true)), &["1, 2 or 3"]),
        (message(upstream::ternary(&x, &[3, 4], true)), &["[3, 4]", "4 dimensions"]),
        (message(upstream::residual_sign(&x, &[])), &["0 levels", "1, 2 or 3"]),
        (message(upstream::scale_integer(&x, &[12], 0, true)), &["width = 0"]),
        (message(upstream::mxint(&x, &[3, 4], 8, 5, -1, false)), &["block_size = 5", "12 values"]),
        (message(upstream::mxint(&x, &[3, 4], 8, 4, 2, false)), &["block_dim = 2", "-2 to 1"]),
        (message(upstream::mxfp(&x, &[3, 4], 4, 4, 4, -1)), &["fraction_width = 4", "1 to 3"]),
        (message(upstream::mxint_hardware(&x, &[3, 4], 8, 4, [2, 2])), &["[2, 2] on [3, 4]", "divide"]),
        (message(upstream::mxint_hardware(&x, &[3, 4], 8, 4, [0, 2])), &["[0, 2]"]),
        (message(upstream::nvfp4(&[1.0, f32::NAN], &[2], 16, true)), &["value 1 is NaN"]),
        (message(upstream::nvfp4(&x, &[12], 0, true)), &["block_size = 0"]),
        (message(upstream::ocp_codes(&[f32::INFINITY], &[1], OcpElement::Int8, 32)), &["value 0 is inf"]),
        (message(upstream::mase_cuda_mxint8(&x, 5)), &["12 values", "group = 5"]),
        (message(upstream::prune_l1(&x, 1.5)), &["sparsity = 1.5", "0 to 1"]),
        (message(upstream::prune_l1(&[], 0.5)), &["without values"]),
        (message(upstream::base11_quantize(&x, 3, 5, 4)), &["[3, 5]", "got 12"]),
        (message(upstream::base11_quantize(&x, 3, 4, 0)), &["group = 0"]),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}: wants {parts:?}");
    }
    let operands = Operands { x: &[f32::NAN], shape: &[1, 1], weight: &[1.0], outputs: 1, bias: None };
    assert!(message(upstream::dynamic_int8(&operands)).contains("x 0 is not finite"));
}

#[test]
fn empty_tensors_stay_empty() {
    let fp = Element::BlockFp { width: 4, exponent_width: 8, exponent_bias: 127 };
    assert!(upstream::block(fp, &[], &[0, 4], &[1, 4], false).unwrap().is_empty());
    assert!(upstream::scale_integer(&[], &[3, 0], 8, true).unwrap().is_empty());
    assert!(upstream::mxint(&[], &[0, 8], 8, 4, 0, false).unwrap().y.is_empty());
    assert!(upstream::mxfp(&[], &[2, 0], 4, 3, 4, -1).unwrap().y.is_empty());
    assert!(upstream::mxint_hardware(&[], &[0, 4], 8, 4, [1, 4]).unwrap().is_empty());
    assert!(upstream::microxcaling(&[], &[0], OcpElement::Int8, OcpRounding::Even, 32).unwrap().is_empty());
    assert!(upstream::nvfp4(&[], &[4, 0], 16, true).unwrap().y.is_empty());
    assert!(upstream::ternary(&[], &[0, 1, 1, 1], true).unwrap().is_empty());
    assert!(upstream::mase_cuda_mxint8(&[], 16).unwrap().y.is_empty());
}

/// microxcaling rounds by adding 0.5 in f32, and the f32 below 0.5 plus 0.5 is 1.
#[test]
fn just_below_half_a_step_microxcaling_rounds_up() {
    for (element, step) in
        [(OcpElement::Int8, 1.0 / 64.0), (OcpElement::Fp4E2m1, 0.5), (OcpElement::Fp8E4m3, exp2(-9))]
    {
        let max = element.max() as f32;
        let x = [max, (step * 0.5f32).next_down(), -(step * 0.5f32).next_down().next_down()];
        for (rounding, want) in
            [(OcpRounding::Even, step), (OcpRounding::AwayFromZero, step), (OcpRounding::Floor, 0.0)]
        {
            let y = upstream::microxcaling(&x, &[3], element, rounding, 32).unwrap();
            assert_eq!(y, [max, want, 0.0], "{element:?} {rounding:?}");
        }
        let format = Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor };
        assert_eq!(format.quantize(x[1], format.scale_code(max)), 0.0, "the OCP element rounds to nearest");
    }
}

fn exp2(exponent: i32) -> f32 {
    2f32.powi(exponent)
}

/// Blocks of a whole dimension: one exponent for all rows, against one per row.
#[test]
fn a_block_size_of_one_dimension_spans_the_others() {
    let fp = Element::BlockFp { width: 8, exponent_width: 8, exponent_bias: default_bias(8) };
    let x = [100.0, 1.0, 1.0, 0.01, 0.02, 0.03];
    let spanning = upstream::block(fp, &x, &[2, 3], &[16], false).unwrap();
    let rows = upstream::block(fp, &x, &[2, 3], &[1, 16], false).unwrap();
    assert_eq!(spanning[3..], [0.0; 3]);
    assert!(rows[3..].iter().zip(&x[3..]).all(|(y, x)| (y - x).abs() < 2e-4), "{rows:?}");
    assert_eq!(upstream::block(fp, &x, &[2, 3], &[-1, 16], false).unwrap(), spanning);
    assert_eq!(upstream::block(fp, &x, &[2, 3], &[16], true).unwrap(), rows);
    assert_eq!(upstream::block(fp, &x, &[1, 2, 3], &[16], true).unwrap(), spanning, "tokens share a scale");
}

#[test]
fn a_tensor_of_zeros_is_zero_in_nvfp4() {
    let result = upstream::nvfp4(&[0.0, -0.0, 0.0], &[3], 2, true).unwrap();
    assert_eq!((result.tensor_scale, &*result.scales, &*result.codes), (1.0, &[0, 0][..], &[0, 8, 0][..]));
    assert_eq!(result.y, [0.0; 3]);
}
