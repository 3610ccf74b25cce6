//! OCP formats and NVFP4, against microxcaling, ml_dtypes and an independent encoder.

use anybit::format::element::{Element, OcpElement, OcpRounding, OcpScale};
use anybit::format::upstream;

use super::golden::Case;

fn element(name: &str) -> OcpElement {
    match name {
        "fp8_e5m2" | "float8_e5m2" => OcpElement::Fp8E5m2,
        "fp8_e4m3" | "float8_e4m3fn" => OcpElement::Fp8E4m3,
        "fp6_e3m2" | "float6_e3m2fn" => OcpElement::Fp6E3m2,
        "fp6_e2m3" | "float6_e2m3fn" => OcpElement::Fp6E2m3,
        "fp4_e2m1" | "float4_e2m1fn" => OcpElement::Fp4E2m1,
        "int8" => OcpElement::Int8,
        "int4" => OcpElement::Int4,
        _ => panic!("no OCP element {name}"),
    }
}

pub(crate) fn microxcaling(case: &Case<'_>) {
    let x = case.input();
    let element = element(case.param("elem_format").as_str().unwrap());
    let rounding = match case.param("round").as_str().unwrap() {
        "even" => OcpRounding::Even,
        "nearest" => OcpRounding::AwayFromZero,
        "floor" => OcpRounding::Floor,
        other => panic!("no rounding {other}"),
    };
    assert_eq!((case.int::<i32>("axes"), case.int::<u32>("scale_bits")), (-1, 8));
    let y = upstream::microxcaling(&x.floats(), &x.shape, element, rounding, case.int("block_size"));
    case.assert_floats("y", &y.unwrap());
}

pub(crate) fn ocp_codes(case: &Case<'_>) {
    let x = case.input();
    let element = element(case.format().trim_start_matches("ocp_codes_"));
    let result = upstream::ocp_codes(&x.floats(), &x.shape, element, case.int("block_size")).unwrap();
    case.assert_integers("codes", &result.codes);
    case.assert_integers("scale", &result.scales);
    case.assert_floats("y", &result.y);
}

pub(crate) fn decode_table(case: &Case<'_>) {
    let name = case.value["function"].as_str().unwrap().trim_start_matches("ml_dtypes.");
    let format = |element| Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor };
    let values: Vec<f32> = if name == "float8_e8m0fnu" {
        // The code of 1 in a block of each scale.
        let format = format(OcpElement::Int8);
        (0..=255).map(|scale| format.value(64, scale)).collect()
    } else {
        let format = format(element(name));
        (0..1 << format.bits()).map(|code| format.unit(code) as f32).collect()
    };
    assert_eq!(values.len(), case.int::<usize>("codes"));
    case.assert_floats("value_f32", &values);
}

pub(crate) fn nvfp4(case: &Case<'_>) {
    let x = case.input();
    let (size, two_level) = (case.int("block_size"), case.flag("two_level", true));
    let result = upstream::nvfp4(&x.floats(), &x.shape, size, two_level).unwrap();
    case.assert_floats("tensor_scale", &[result.tensor_scale]);
    case.assert_integers("scale", &result.scales);
    case.assert_integers("codes", &result.codes);
    case.assert_floats("y", &result.y);
}
