use super::super::{Codes, Packed, Scale};
use super::*;

fn grid(spec: &str) -> ValueGrid {
    let format: Format = spec.parse().unwrap();
    format.value_grid()
}

#[test]
fn grids_that_are_known() {
    // Spec, factor, low, high, step, least, values.
    let known = [
        ("int4", Factor::Scale, -7.0, 7.0, 1.0, 1.0, 15),
        ("uint4", Factor::ScaleAndOffset, 0.0, 15.0, 1.0, 1.0, 16),
        ("torch_dynamic", Factor::Scale, -128.0, 127.0, 1.0, 1.0, 256),
        ("mxint8", Factor::PowerOfTwo, -127.0 / 64.0, 127.0 / 64.0, 1.0 / 64.0, 1.0 / 64.0, 255),
        ("mxint8(scale=ceil)", Factor::PowerOfTwo, -127.0 / 64.0, 127.0 / 64.0, 1.0 / 64.0, 1.0 / 64.0, 255),
        ("mxint_cuda", Factor::PowerOfTwo, -127.0 / 64.0, 127.0 / 64.0, 1.0 / 64.0, 1.0 / 64.0, 255),
        ("mxint(8,16)", Factor::PowerOfTwo, -1.0, 127.0 / 128.0, 1.0 / 128.0, 1.0 / 128.0, 256),
        ("base11", Factor::Scale, -5.0, 5.0, 1.0, 1.0, 11),
        ("radix(base=45)", Factor::Scale, -22.0, 22.0, 1.0, 1.0, 45),
        ("nvfp4", Factor::Scale, -6.0, 6.0, 0.5, 0.5, 15),
        ("mxfp4", Factor::PowerOfTwo, -6.0, 6.0, 0.5, 0.5, 15),
        ("mxfp6_e2m3", Factor::PowerOfTwo, -7.5, 7.5, 0.125, 0.125, 63),
        ("mxfp8_e4m3", Factor::PowerOfTwo, -448.0, 448.0, exp2(-9), exp2(-9), 253),
        ("mxfp8_e5m2", Factor::PowerOfTwo, -57344.0, 57344.0, exp2(-16), exp2(-16), 247),
        ("integer(8,4)", Factor::One, -8.0, 127.0 / 16.0, 1.0 / 16.0, 1.0 / 16.0, 256),
        ("integer(8,4,is_signed=false)", Factor::One, 0.0, 255.0 / 16.0, 1.0 / 16.0, 1.0 / 16.0, 256),
        ("minifloat_ieee(8,4)", Factor::One, -480.0, 480.0, exp2(-9), exp2(-9), 255),
        ("minifloat_denorm(8,4)", Factor::One, -224.0, 224.0, exp2(-10), exp2(-10), 135),
        ("log(4,7)", Factor::One, -1.0, 1.0, exp2(-7), exp2(-7), 16),
        ("binary", Factor::One, -1.0, 1.0, 2.0, 1.0, 2),
        ("residual_sign(1)", Factor::One, -1.0, 1.0, 1.0, 1.0, 3),
        ("f16", Factor::One, -65504.0, 65504.0, exp2(-24), exp2(-24), 63487),
        ("q4_0", Factor::Scale, -8.0, 7.0, 1.0, 1.0, 16),
        ("iq4_nl", Factor::Scale, -127.0, 113.0, 11.0, 1.0, 16),
    ];
    for (spec, factor, low, high, step, least, count) in known {
        let grid = grid(spec);
        assert_eq!((grid.factor, grid.low, grid.high), (factor, low, high), "{spec}");
        assert_eq!((grid.step, grid.least, grid.values.len()), (Some(step), Some(least), count), "{spec}");
    }
    let wide = grid("integer(32,16)");
    assert_eq!((wide.low, wide.high, wide.step), (-32768.0, 32768.0 - exp2(-16), Some(exp2(-16))));
    let wide = grid("minifloat_ieee(32,8)");
    // 23 - 1 mantissa bits more than none: 32 - 8 - 1 = 23; all exponents are finite.
    assert_eq!((wide.high, wide.least), (exp2(128) * (2.0 - exp2(-23)), Some(exp2(1 - 127 - 23))));
    assert_eq!(grid("minifloat_denorm(5,4)").least, None);
    assert_eq!(grid("minifloat_denorm(5,4)").step, None);
}

/// Everything the quantizer gives for numbers all over the range, of which those with a code are counted.
#[test]
fn listed_values_are_those_of_a_sweep() {
    for spec in [
        "integer(6,3,floor)",
        "minifloat_denorm(8,4)",
        "minifloat_denorm(6,3,2)",
        "minifloat_denorm(4,4)",
        "minifloat_ieee(8,4)",
        "minifloat_ieee(5,4)",
        "log(5)",
        "residual_sign(3)",
        "block_fp(5,8,none,[1,16])",
        "block_minifloat(6,3,8,[1,16])",
        "block_minifloat_corrected(6,3,8,[1,16])",
        "block_log(4,8,[1,16])",
        "mxint(6,16)",
        "mxint_hardware(6,4,[1,16])",
        "mase_mxfp(4,3)",
        "mase_mxfp(2,1)",
        "mxfp8_e5m2",
        "mxfp6_e3m2(round=floor)",
        "mxint4(scale=ceil)",
    ] {
        let format: Format = spec.parse().unwrap();
        let Format::Element { element, .. } = format else { panic!("{spec}") };
        let scale_code = element.exponent_offset() as u8;
        assert_eq!(element.exponent(scale_code), Some(0), "{spec}");
        // 2^-25 to 2^20 in steps of 2^-13 of a binade, and 0.
        let sweep = ((127 - 25) << 23..(127 + 20) << 23u32).step_by(1 << 10).map(f32::from_bits);
        let images = std::iter::once(0.0)
            .chain(sweep)
            .flat_map(|x| [x, -x])
            .map(|x| element.quantize(x, scale_code))
            .filter(|&y| element.code(y, scale_code).is_some());
        let mut values: Vec<f32> = images.map(|y| y + 0.0).collect();
        values.sort_by(f32::total_cmp);
        values.dedup();
        let mut listed = format.value_grid().values;
        // A sum of signs that ends early takes a number that is exactly a mean.
        if let Element::ResidualSign { .. } = element {
            listed.retain(|v| values.contains(&(*v as f32)));
        }
        let swept: Vec<f64> = values.into_iter().map(f64::from).collect();
        assert_eq!(listed, swept, "{spec}");
    }
}

/// Weights of very different size, so that encoders reach all of their codes.
fn weights(count: usize) -> Vec<f32> {
    // Two Weyl sequences: positions within -1/2..1/2, and exponents from -9 to 4.
    let weyl = |i: usize, irrational: f64| (i as f64 * irrational).fract();
    let size = |i: usize| exp2((weyl(i, std::f64::consts::SQRT_2) * 14.0) as i32 - 9);
    (0..count).map(|i| ((weyl(i, std::f64::consts::E) - 0.5) * size(i)) as f32).collect()
}

/// What a decoded weight is relative to the factor of its grid.
fn relative(factor: Factor, packed: &Packed, row: usize, col: usize, value: f32) -> f64 {
    let layout = packed.layout();
    let unit = match (layout.scheme.codes, layout.scheme.scale) {
        // The scale of integers contains their fraction.
        (Codes::Signed(_) | Codes::Sign | Codes::Stream8, Scale::Exponent { fraction, .. }) => {
            exp2(-i32::from(fraction))
        }
        _ => 1.0,
    };
    match factor {
        Factor::One => value.into(),
        _ => f64::from(value) / f64::from(packed.scale(row, col)) * unit,
    }
}

#[test]
fn decoded_weights_of_every_format_are_on_its_grid() {
    let (rows, cols) = (8, 512);
    let weights = weights(rows * cols);
    for format in Format::catalog() {
        let grid = format.value_grid();
        if grid.values.is_empty() || grid.factor == Factor::ScaleAndOffset {
            continue;
        }
        let packed = format.encode(&weights, rows, cols).unwrap();
        let values = packed.decode();
        for (index, &value) in values.iter().enumerate() {
            let (row, col) = (index / cols, index % cols);
            if packed.exceptions.iter().any(|e| (e.row as usize, e.col as usize) == (row, col)) {
                continue;
            }
            let got = relative(grid.factor, &packed, row, col, value);
            let at = grid.values.partition_point(|&v| v < got);
            let near = grid.values[at.saturating_sub(1)..(at + 1).min(grid.values.len())].iter();
            let distance = near.map(|v| (v - got).abs()).fold(f64::INFINITY, f64::min);
            assert!(distance <= got.abs() * 1e-6, "{format}: {value} is {got} relative to its scale");
        }
    }
}

/// The largest and the smallest value occur: in a group with a maximum at every place of a binade.
#[test]
fn the_ends_of_the_grid_are_reached() {
    for format in Format::catalog() {
        let grid = format.value_grid();
        // The formula of MASE keeps blocks from the upper binades, and ggml's searched scales need not reach the ends.
        let searched = matches!(format, Format::Ggml(GgmlType::Iq4Nl | GgmlType::Q6K));
        let unreached = searched || format.to_string().starts_with("block_minifloat(");
        if grid.values.is_empty() || grid.factor == Factor::ScaleAndOffset || unreached {
            continue;
        }
        let (mut low, mut high) = (0.0f64, 0.0f64);
        for step in 0..=64 {
            for sign in [-1.0, 1.0] {
                let max = match grid.factor {
                    // Floats refuse what is beyond them.
                    Factor::One if matches!(format, Format::F16 | Format::Bf16) => sign * grid.largest(),
                    Factor::One => sign * grid.largest() * 2.0,
                    _ => sign * (1.0 + f64::from(step) / 64.0),
                };
                let mut weights = [0.0f32; 256];
                weights[0] = max as f32;
                weights[1] = -(max as f32);
                let packed = format.encode(&weights, 1, 256).unwrap();
                let values = packed.decode();
                for (col, &value) in values[..2].iter().enumerate() {
                    let got = relative(grid.factor, &packed, 0, col, value);
                    (low, high) = (low.min(got), high.max(got));
                }
            }
        }
        let tolerance = grid.largest() * 1e-6;
        assert!((low - grid.low).abs() <= tolerance, "{format}: reached {low}, want {}", grid.low);
        assert!((high - grid.high).abs() <= tolerance, "{format}: reached {high}, want {}", grid.high);
    }
}

#[test]
fn every_format_of_the_catalog_has_a_grid() {
    for format in Format::catalog() {
        let grid = format.value_grid();
        assert!(grid.low < grid.high && grid.step.is_some() && grid.least.is_some(), "{format}: {grid:?}");
        assert!(grid.values.is_sorted_by(|a, b| a < b), "{format}");
    }
}

#[test]
fn numbers_are_whole_or_short() {
    let numbers = [
        7.0,
        1.984375,
        0.0009765625,
        f64::from(f32::MAX),
        exp2(-149),
        -1.0 / 3.0,
        0.3 - 0.2,
        123456.789_012_3,
    ];
    let texts = numbers.map(short_number);
    assert_eq!(texts, ["7", "1.984375", "0.0009765625", "3.403e38", "1.401e-45", "-0.3333", "0.1", "123457"]);
}
