//! Quantizers without blocks, against MASE.

use anybit::format::element::{Element, default_bias};
use anybit::format::upstream;

use super::golden::Case;

pub(crate) fn element(case: &Case<'_>) {
    let bias = |exponent_width: u8| match case.param("exponent_bias") {
        value if value.is_null() => default_bias(exponent_width),
        _ => case.int("exponent_bias"),
    };
    let width = case.int("width");
    let exponent_width = || case.int("exponent_width");
    let element = match case.format() {
        "integer" | "integer_floor" => Element::Integer {
            width,
            frac_width: case.int("frac_width"),
            signed: case.flag("is_signed", true),
            floor: case.format() == "integer_floor",
        },
        "minifloat_denorm" => Element::MinifloatDenorm {
            width,
            exponent_width: exponent_width(),
            exponent_bias: bias(exponent_width()),
        },
        "minifloat_ieee" => Element::MinifloatIeee {
            width,
            exponent_width: exponent_width(),
            exponent_bias: bias(exponent_width()),
        },
        _ => Element::Log { width, exponent_bias: bias(width - 1) },
    };
    case.assert_floats("y", &upstream::elementwise(element, &case.input().floats()).unwrap());
}

pub(crate) fn binary(case: &Case<'_>) {
    let x = case.input();
    let y = upstream::binary(&x.floats(), &x.shape, case.flag("bipolar", false));
    if case.raises() {
        return case.assert_refused(y);
    }
    case.assert_floats("y", &y.unwrap());
}

pub(crate) fn ternary(case: &Case<'_>) {
    let x = case.input();
    let y = upstream::ternary(&x.floats(), &x.shape, case.flag("scaling_factor", false));
    if case.raises() {
        return case.assert_refused(y);
    }
    case.assert_floats("y", &y.unwrap());
}

pub(crate) fn residual_sign(case: &Case<'_>) {
    let means = case.param("means").as_array().unwrap();
    let means: Vec<f32> = means.iter().map(|mean| mean.as_f64().unwrap() as f32).collect();
    assert_eq!(means.len(), case.int::<usize>("levels"));
    let x = case.input().floats();
    let levels = upstream::residual_sign(&x, &means).unwrap();
    case.assert_floats("y", &levels);
    // The element is the sum of the levels, with just these means.
    let element = Element::ResidualSign { levels: case.int("levels") };
    for (i, &x_i) in x.iter().enumerate() {
        let sum: f32 = levels.chunks(x.len()).map(|level| level[i]).sum();
        assert_eq!(element.quantize(x_i, 0), sum, "{}: {x_i}", case.id());
    }
}

pub(crate) fn scale_integer(case: &Case<'_>) {
    let x = case.input();
    let y = upstream::scale_integer(&x.floats(), &x.shape, case.int("width"), true);
    case.assert_floats("y", &y.unwrap());
}
