use super::number::floor_log2;
use super::*;
use proptest::prelude::*;

const OCP: [OcpElement; 8] = [
    OcpElement::Fp8E5m2,
    OcpElement::Fp8E4m3,
    OcpElement::Fp6E3m2,
    OcpElement::Fp6E2m3,
    OcpElement::Fp4E2m1,
    OcpElement::Int8,
    OcpElement::Int6,
    OcpElement::Int4,
];

/// Every kind of parameters of every format.
pub(crate) fn elements() -> Vec<Element> {
    let mut all = vec![Element::Binary];
    for (width, frac_width) in
        [(1, 0), (2, 1), (4, 2), (8, 4), (8, -3), (8, 12), (16, 8), (25, 4), (32, 16), (32, -126), (31, 126)]
    {
        for (signed, floor) in [(true, false), (false, false), (true, true)] {
            all.push(Element::Integer { width, frac_width, signed, floor });
        }
    }
    for (width, exponent_width) in [
        (4, 2),
        (6, 3),
        (8, 4),
        (8, 2),
        (8, 8),
        (16, 5),
        (32, 2),
        (32, 8),
        (26, 1),
        (28, 3),
        (9, 8),
        (4, 3),
        (4, 4),
        (4, 5),
        (4, 6),
        (1, 8),
    ] {
        for exponent_bias in [default_bias(exponent_width), 0, -3, -118, 17, 140, 148 + (1 << exponent_width)]
        {
            all.push(Element::MinifloatDenorm { width, exponent_width, exponent_bias });
            all.push(Element::MinifloatIeee { width, exponent_width, exponent_bias });
            if width > 1 {
                all.push(Element::BlockFp { width, exponent_width, exponent_bias });
            }
        }
        for exponent_bias_width in [1, 2, 4, 8] {
            all.push(Element::BlockMinifloat { width, exponent_width, exponent_bias_width });
            if width > exponent_width {
                all.push(Element::BlockMinifloatCorrected { width, exponent_width, exponent_bias_width });
            }
        }
        if width > 1 {
            all.push(Element::MxIntHardware { width, exponent_width });
        }
    }
    for width in [2, 3, 4, 8, 9, 16] {
        for exponent_bias in [default_bias(width - 1), 0, 7, 15, -9, 200] {
            all.push(Element::Log { width, exponent_bias });
        }
        for exponent_bias_width in [1, 4, 8] {
            all.push(Element::BlockLog { width, exponent_bias_width });
        }
        all.push(Element::MxInt { width });
    }
    all.extend((1..=8).map(|levels| Element::ResidualSign { levels }));
    for (exponent_width, fraction_width) in [(4, 3), (5, 2), (3, 2), (2, 3), (2, 1), (1, 2), (1, 1), (6, 1)] {
        all.push(Element::MaseMxFp { exponent_width, fraction_width });
    }
    for element in OCP {
        for rounding in [OcpRounding::Even, OcpRounding::AwayFromZero, OcpRounding::Floor] {
            for scale in [OcpScale::Floor, OcpScale::Ceil] {
                all.push(Element::Ocp { element, rounding, scale });
            }
        }
    }
    all.retain(|element| element.check().is_ok());
    assert!(all.len() > 400, "{} elements", all.len());
    all
}

/// Zeros, subnormals, powers of two with their neighbours, halves of steps, thresholds, large values.
pub(crate) fn values() -> Vec<f32> {
    let mut all =
        vec![0.0, 1e-8, 1e-9, 1.1e-8, 3.0, 5.5, 1e30, f32::MAX, f32::from_bits(1), f32::from_bits(77)];
    for exponent in (-149..=127).step_by(3).chain(-12..12) {
        let power = exp2_f32(exponent);
        let mantissas = [1.25, 1.375, std::f32::consts::SQRT_2, 1.5, 1.6875, 1.96875];
        all.extend([power.next_down(), power, power.next_up()]);
        all.extend(mantissas.map(|mantissa| (power * mantissa).min(f32::MAX)));
    }
    all.extend(all.clone().iter().map(|x| -x));
    all
}

fn near_zero_passes(element: Element) -> bool {
    use Element::*;
    matches!(element, MinifloatDenorm { .. } | MinifloatIeee { .. } | BlockFp { .. } | BlockMinifloat { .. })
}

/// What `code` owes: a code of the value, or a stated reason why there is none.
fn check_round_trip(element: Element, x: f32, scale: u8) {
    let y = element.quantize(x, scale);
    let what = || format!("{element:?} scale {scale}: {x:e} -> {y:e}");
    match element.code(y, scale) {
        Some(code) => {
            assert!(u64::from(code) < 1 << element.bits(), "{}: code {code:#x}", what());
            assert_eq!(element.value(code, scale), y, "{}: code {code:#x}", what());
            assert_eq!(element.value(element.encode(x, scale), scale), y, "{}: encode", what());
        }
        None => {
            let passed = near_zero_passes(element) && x.abs() <= 1e-8 && y == x && x != 0.0;
            let no_zero = matches!(element, Element::Log { .. } | Element::BlockLog { .. }) && y == 0.0;
            assert!(passed || no_zero || y.is_nan(), "{}: no code", what());
            // Powers beyond f32 are infinite there; nothing else gives NaN.
            assert!(!y.is_nan() || element.exponent(scale).is_none() || x.abs() > 1.7e38, "{}", what());
        }
    }
}

#[test]
fn every_quantized_value_has_a_code_of_that_value() {
    let values = values();
    for element in elements() {
        let maxima: &[f32] = if element.scale_bits() == 0 {
            &[1.0]
        } else {
            &[0.0, 1e-45, 1e-39, 1e-20, 3e-5, 0.02, 0.75, 1.0, 1.99, 2.0, 6.5, 100.0, 3e7, 1e30, f32::MAX]
        };
        for &max in maxima {
            let scale = element.scale_code(max);
            for &x in &values {
                check_round_trip(element, x, scale);
            }
        }
    }
}

#[test]
fn every_code_of_a_narrow_format_has_a_value_that_encodes_back() {
    for element in elements().into_iter().filter(|element| element.bits() <= 12) {
        let (max, min) = element.range();
        for code in 0..1u32 << element.bits() {
            let unit = element.unit(code);
            assert_eq!(
                unit.to_bits(),
                element.unit(code | 0xffff_f000 & !((1 << element.bits()) - 1)).to_bits()
            );
            if unit.is_finite() && unit != 0.0 {
                assert!((min..=max).contains(&unit.abs()), "{element:?} {code:#x}: {unit}");
            }
            for scale in [0, 1, 100, 127, 200, 255] {
                let y = element.value(code, scale);
                if let (true, Some(exponent)) = (y.is_finite(), element.exponent(scale)) {
                    let again = element.code(y, scale).map(|code| element.value(code, scale));
                    // A value that f32 cannot hold is not its own code's.
                    let exact = f64::from(y) == unit * exp2(exponent);
                    assert!(again == Some(y) || !exact, "{element:?} {code:#x} scale {scale}: {y:e}");
                }
            }
        }
    }
}

#[test]
fn scale_codes_follow_the_maximum_and_exponents_the_codes() {
    let mut maxima: Vec<f32> = values().into_iter().map(f32::abs).collect();
    maxima.sort_by(f32::total_cmp);
    maxima.push(f32::INFINITY);
    for element in elements() {
        let codes: Vec<u8> = maxima.iter().map(|&max| element.scale_code(max)).collect();
        let falling = matches!(element, Element::BlockMinifloat { .. });
        assert!(codes.is_sorted_by(|a, b| if falling { a >= b } else { a <= b }), "{element:?}");
        assert!(element.scale_bits() == 8 || codes.iter().all(|&code| code == 0), "{element:?}");
        for code in 0..=255 {
            let exponent = i32::from(code) - element.exponent_offset();
            let want = if element.scale_bits() == 0 { Some(0) } else { (exponent < 128).then_some(exponent) };
            assert_eq!(element.exponent(code), want, "{element:?}");
        }
    }
}

#[test]
fn integer_codes_are_fields_times_a_power_of_two() {
    for element in elements() {
        let Some(fraction) = element.integer_codes() else { continue };
        let bits = element.bits();
        for code in 0..1u32 << bits {
            let q = if element == Element::Binary {
                code as i32 * 2 - 1
            } else {
                (code << (32 - bits)) as i32 >> (32 - bits)
            };
            assert!(i8::try_from(q).is_ok());
            assert_eq!(element.unit(code), f64::from(q) * exp2(-fraction), "{element:?} {code}");
        }
    }
}

/// Brute force: the nearest value of the format, the even code at a tie.
#[test]
fn ocp_even_is_the_nearest_value_and_floor_scales_keep_the_top_binade() {
    for element in OCP {
        let format = Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Floor };
        let mut grid: Vec<(f64, u32)> = (0..1 << (format.bits() - 1))
            .map(|code| (format.unit(code), code))
            .filter(|(unit, _)| unit.is_finite() && *unit <= element.max())
            .collect();
        grid.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(grid.last().unwrap().0, element.max(), "{element:?}");
        for i in 0..20_000 {
            let x =
                (i as f32 * 0.618_034).fract() * [1e-3, 0.1, 1.0, 9.0, 500.0][i % 5] + [0.0, 0.125][i % 2];
            let distance = |unit: f64| (f64::from(x) - unit).abs();
            let best = grid
                .iter()
                .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)).then((a.1 & 1).cmp(&(b.1 & 1))));
            let want = best.unwrap().0 as f32;
            assert_eq!(format.quantize(x, 127), want, "{element:?} {x}");
            assert_eq!(format.quantize(-x, 127), -want, "{element:?} {x}");
        }
        let ceil = Element::Ocp { element, rounding: OcpRounding::Even, scale: OcpScale::Ceil };
        for max in values().into_iter().map(f32::abs).filter(|max| (1e-30..1e38).contains(max)) {
            let exponent = format.exponent(format.scale_code(max)).unwrap();
            let top = f64::from(max) * exp2(-exponent);
            assert!((1.0..2.0).contains(&(top / exp2(floor_log2(element.max())))), "{element:?} {max}");
            let exponent = ceil.exponent(ceil.scale_code(max)).unwrap();
            let ratio = f64::from(max) * exp2(-exponent) / element.max();
            assert!(ratio <= 1.0 && ratio > 0.5, "{element:?} {max}: {ratio}");
        }
    }
}

#[test]
fn the_corrected_block_minifloat_is_the_nearest_value_at_every_scale() {
    for (width, exponent_width) in [(4, 1), (4, 2), (6, 3), (8, 4), (8, 7), (3, 2)] {
        let element = Element::BlockMinifloatCorrected { width, exponent_width, exponent_bias_width: 8 };
        for max in [1e-30f32, 0.013, 1.0, 3.999, 1e30] {
            let scale = element.scale_code(max);
            let mut grid: Vec<f64> = (0..1 << (width - 1))
                .map(|code| element.unit(code) * exp2(element.exponent(scale).unwrap()))
                .collect();
            grid.sort_by(f64::total_cmp);
            let top = *grid.last().unwrap();
            assert!(top <= 2.0 * f64::from(max) && top * 2.0 > f64::from(max), "{element:?} {max} {top}");
            for i in 0..3000 {
                let x = max * (i as f32 / 3000.0);
                let y = f64::from(element.quantize(x, scale));
                let distance = |y: f64| (f64::from(x) - y).abs();
                let best = grid.iter().copied().map(distance).fold(f64::MAX, f64::min);
                assert!(grid.contains(&y) && distance(y) <= best, "{element:?} {x} -> {y}");
            }
            assert_eq!(element.quantize(0.0, scale), 0.0);
        }
    }
}

#[test]
fn documented_values() {
    let denorm = |width, exponent_width| Element::MinifloatDenorm {
        width,
        exponent_width,
        exponent_bias: default_bias(exponent_width),
    };
    assert_eq!(denorm(8, 4).quantize(1.0, 0), 0.875);
    assert_eq!(denorm(8, 4).quantize(4.0, 0), 3.5);
    assert_eq!(denorm(4, 4).quantize(0.3, 0), -0.5);
    assert_eq!((denorm(4, 4).bits(), denorm(8, 4).bits()), (6, 8));
    assert_eq!(denorm(8, 4).range(), (224.0, exp2(-7) / 8.0));
    let ieee = Element::MinifloatIeee { width: 5, exponent_width: 2, exponent_bias: 1 };
    assert_eq!(ieee.quantize(1.97, 0), 1.75);
    assert_eq!(ieee.range(), (7.0, 0.25));
    let log = Element::Log { width: 4, exponent_bias: 3 };
    assert_eq!((log.quantize(0.0, 0), log.quantize(-1e-3, 0), log.quantize(-0.6, 0)), (0.125, 0.125, -0.5));
    assert_eq!(log.code(0.0, 0), None);
    assert_eq!(log.encode(-0.0125, 0), 0);
    let sign = Element::ResidualSign { levels: 2 };
    assert_eq!(sign.quantize(0.9, 0), 1.0);
    assert_eq!((sign.bits(), sign.code(0.0, 0), sign.quantize(2.0 / 3.0, 0)), (3, Some(1), 2.0 / 3.0));
    let wide = Element::Integer { width: 32, frac_width: 0, signed: true, floor: false };
    assert_eq!(wide.quantize(1e30, 0), 2f32.powi(31));
    assert_eq!(wide.code(2f32.powi(31), 0), Some(0x7fff_ffff));
    assert_eq!(wide.quantize(f32::NEG_INFINITY, 0), -2f32.powi(31));
    let minifloat = Element::MaseMxFp { exponent_width: 4, fraction_width: 3 };
    assert_eq!((minifloat.quantize(255.0, minifloat.scale_code(255.0)), minifloat.range().0), (128.0, 480.0));
}

#[test]
fn parameters_out_of_range_are_named() {
    for (element, parts) in [
        (Element::Integer { width: 0, frac_width: 0, signed: true, floor: false }, ["width = 0", "1 to 32"]),
        (
            Element::Integer { width: 8, frac_width: 127, signed: true, floor: false },
            ["frac_width = 127", "-126 to 126"],
        ),
        (
            Element::MinifloatIeee { width: 8, exponent_width: 9, exponent_bias: 0 },
            ["exponent_width = 9", "1 to 8"],
        ),
        (
            Element::BlockFp { width: 8, exponent_width: 8, exponent_bias: 405 },
            ["exponent_bias = 405", "-118 to 404"],
        ),
        (
            Element::BlockMinifloatCorrected { width: 4, exponent_width: 4, exponent_bias_width: 8 },
            ["width = 4", "5 to 32"],
        ),
        (Element::BlockLog { width: 8, exponent_bias_width: 0 }, ["exponent_bias_width = 0", "1 to 8"]),
        (Element::ResidualSign { levels: 9 }, ["levels = 9", "1 to 8"]),
        (Element::MaseMxFp { exponent_width: 4, fraction_width: 4 }, ["fraction_width = 4", "1 to 3"]),
        (Element::MxInt { width: 17 }, ["width = 17", "2 to 16"]),
    ] {
        let error = element.check().unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{element:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_value_has_a_code_of_that_value(bits in any::<u32>(), max in any::<u32>(), pick in any::<prop::sample::Index>()) {
        let (x, max) = (f32::from_bits(bits), f32::from_bits(max & 0x7fff_ffff));
        let elements = elements();
        let element = elements[pick.index(elements.len())];
        if x.is_finite() {
            check_round_trip(element, x, element.scale_code(max));
        }
    }
}
