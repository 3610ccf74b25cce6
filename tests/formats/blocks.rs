//! Quantizers with a scale per block, against MASE.

use anybit::format::element::{Element, default_bias, scale_codes};
use anybit::format::upstream;

use super::golden::Case;

pub(crate) fn block(case: &Case<'_>) {
    let width = case.int("width");
    let element = match case.format() {
        "block_fp" => {
            let exponent_width = case.int("exponent_width");
            let exponent_bias = match case.param("exponent_bias") {
                value if value.is_null() => default_bias(exponent_width),
                _ => case.int("exponent_bias"),
            };
            Element::BlockFp { width, exponent_width, exponent_bias }
        }
        "block_minifloat" => Element::BlockMinifloat {
            width,
            exponent_width: case.int("exponent_width"),
            exponent_bias_width: case.int("exponent_bias_width"),
        },
        _ => Element::BlockLog { width, exponent_bias_width: case.int("exponent_bias_width") },
    };
    let tensor = case.input();
    let factor = case.param("multiply_input_by").as_f64().unwrap_or(1.0) as f32;
    let x: Vec<f32> = tensor.floats().iter().map(|x| x * factor).collect();
    let sizes = case.param("block_size").as_array().unwrap();
    let sizes: Vec<i32> = sizes.iter().map(|size| size.as_i64().unwrap() as i32).collect();
    let skip_first_dim = case.flag("skip_first_dim", false);
    let y = upstream::block(element, &x, &tensor.shape, &sizes, skip_first_dim);
    if case.raises() {
        return case.assert_refused(y);
    }
    let y = y.unwrap();
    case.assert_floats("y", &y);

    // The path of packed weights: scale codes of a matrix, then element by element.
    if let (&[rows, cols], &[tile_rows, tile_cols], false) = (&*tensor.shape, &*sizes, skip_first_dim)
        && x.iter().all(|x| x.is_finite())
    {
        let size = |size: i32, dim: usize| usize::try_from(size).map_or(dim, |size| size.min(dim));
        let (tile_rows, tile_cols) = (size(tile_rows, rows), size(tile_cols, cols));
        let scales = scale_codes(element, &x, rows, cols, tile_rows, tile_cols);
        for (i, &x) in x.iter().enumerate() {
            let tile = i / cols / tile_rows * cols.div_ceil(tile_cols) + i % cols / tile_cols;
            let again = element.quantize(x, scales[tile]);
            assert!(again == y[i] || (again.is_nan() && y[i].is_nan()), "{}: element {i}", case.id());
        }
    }
}

pub(crate) fn mxint(case: &Case<'_>) {
    let x = case.input();
    let search = case.flag("quantile_search", false);
    assert_eq!(case.int::<u32>("scale_bits"), 8);
    let (width, size, dim) = (case.int("element_bits"), case.int("block_size"), case.int("block_dim"));
    let result = upstream::mxint(&x.floats(), &x.shape, width, size, dim, search);
    if case.raises() {
        return case.assert_refused(result);
    }
    let result = result.unwrap();
    case.assert_floats("y", &result.y);
    if case.has("mantissa") {
        case.assert_integers("mantissa", &result.mantissas);
        case.assert_integers("scale_biased", &result.scales);
    }
}

pub(crate) fn mxfp(case: &Case<'_>) {
    let x = case.input();
    let (exponent_width, fraction_width) = (case.int("element_exp_bits"), case.int("element_frac_bits"));
    let (size, dim) = (case.int("block_size"), case.int("block_dim"));
    let result = upstream::mxfp(&x.floats(), &x.shape, exponent_width, fraction_width, size, dim).unwrap();
    case.assert_integers("scale_u8", &result.scales);
    case.assert_integers("elements_u8", &result.elements);
    case.assert_floats("y", &result.y);
}

pub(crate) fn mxint_hardware(case: &Case<'_>) {
    let x = case.input();
    let tile = case.param("parallelism").as_array().unwrap();
    let tile = [0, 1].map(|dim: usize| tile[dim].as_u64().unwrap() as usize);
    let (width, exponent_width) = (case.int("width"), case.int("exponent_width"));
    let y = upstream::mxint_hardware(&x.floats(), &x.shape, width, exponent_width, tile);
    case.assert_floats("y", &y.unwrap());
}
