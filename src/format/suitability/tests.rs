use super::*;

const DEVIATION: f64 = 0.02;

/// The share of a normal distribution within `z` standard deviations.
fn within(z: f64) -> f64 {
    libm::erf(z / std::f64::consts::SQRT_2)
}

/// Weights with the quantiles of N(0, 0.02), alternating in sign; the largest is 4.21 deviations, 0.084.
fn normal() -> Vec<f32> {
    let count = 20_000;
    let magnitude = |share: f64| {
        let (mut low, mut high) = (0.0, 10.0);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if within(middle) < share { low = middle } else { high = middle }
        }
        low * DEVIATION
    };
    let sign = |i: i32| if i % 2 == 0 { 1.0 } else { -1.0 };
    (0..count).map(|i| (sign(i) * magnitude((f64::from(i) + 0.5) / f64::from(count))) as f32).collect()
}

fn reasons(spec: &str, weights: &[f32]) -> Vec<Reason> {
    let format: Format = spec.parse().unwrap();
    let warnings = check(format, &TensorStatistics::new(weights));
    assert!(warnings.iter().all(|warning| warning.format == format));
    warnings.into_iter().map(|warning| warning.reason).collect()
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "got {got}, want {want}");
}

#[test]
fn statistics_of_few_weights() {
    let statistics = TensorStatistics::new(&[-4.0, 1.0, 0.0, f32::NAN, 2.0]);
    assert_eq!((statistics.count, statistics.max, statistics.median, statistics.mean), (4, 4.0, 1.5, 1.75));
    assert_eq!(TensorStatistics::new(&[3.0, -1.0, 2.0]).median, 2.0);
    // Bounds at powers of two cut no bin.
    near(statistics.share(0.5, 3.0), 0.5, 1e-6);
    near(statistics.share(-1.0, f32::INFINITY), 1.0, 1e-6);
    near(statistics.share(2.5, f32::INFINITY), 0.25, 1e-6);
    near(statistics.share(4.0, f32::INFINITY), 0.0, 0.0);
    near(statistics.share(3.9, f32::INFINITY), 0.25, 0.0);
    let none = TensorStatistics::new(&[]);
    assert_eq!((none.count, none.max, none.share(0.0, 1.0)), (0, 0.0, 0.0));
    let zeros = TensorStatistics::new(&[0.0, -0.0]);
    assert_eq!((zeros.max, zeros.median), (0.0, 0.0));
}

#[test]
fn shares_are_those_of_the_distribution() {
    let statistics = TensorStatistics::new(&normal());
    near(statistics.median.into(), 0.674_49 * DEVIATION, 1e-5);
    near(statistics.mean.into(), (2.0 / std::f64::consts::PI).sqrt() * DEVIATION, 1e-5);
    for z in [0.01, 0.3, 1.0, 2.7] {
        near(statistics.share(0.0, (z * DEVIATION) as f32), within(z), 2e-3);
    }
}

#[test]
fn minifloats_without_mantissa() {
    // 4 - 4 - 1 = -1: the mantissa is (1/2 - 1) / (1/2) = -1, the sign is gone.
    let expected = Reason::MantissaBits { bits: -1, effect: MantissaEffect::SignFlips };
    assert_eq!(reasons("minifloat_denorm(4,4)", &normal())[0], expected);
    assert_eq!(
        expected.to_string(),
        "width - exponent_width - 1 leaves -1 mantissa bits: weights become 0 or change their sign"
    );
    let all_zero = Reason::MantissaBits { bits: 0, effect: MantissaEffect::AllZero };
    assert_eq!(reasons("minifloat_denorm(5,4)", &normal()), [all_zero]);
    let powers = Reason::MantissaBits { bits: 0, effect: MantissaEffect::PowersOfTwo };
    assert_eq!(reasons("minifloat_ieee(5,4,15)", &normal()), [powers]);
    assert_eq!(reasons("block_minifloat_corrected(5,4,8,[1,16])", &normal()), [powers]);
    assert_eq!(reasons("minifloat_ieee(8,4)", &normal()), []);
    // Without weights to compare, the width alone tells.
    assert_eq!(reasons("minifloat_denorm(4,4)", &[0.0; 8]), [expected]);
}

#[test]
fn a_step_above_the_maximum() {
    // Half of 2^-2 is above 0.084 too, so that nothing is left.
    let found = reasons("integer(8,2)", &normal());
    let [Reason::StepAboveMaximum { step, max, zeroed }] = found[..] else { panic!("{found:?}") };
    assert_eq!(step, 0.25);
    near(max.into(), 4.2149 * DEVIATION, 1e-4);
    near(zeroed, 1.0, 1e-6);
    assert_eq!(
        found[0].to_string(),
        "the smallest positive value 0.25 is above the largest magnitude 0.0843; 100.0 % of the weights become 0"
    );
    // Half of 2^-3 is 3.1 deviations.
    let found = reasons("integer(8,3)", &normal());
    let [Reason::StepAboveMaximum { step: 0.125, zeroed, .. }] = found[..] else { panic!("{found:?}") };
    near(zeroed, within(0.0625 / DEVIATION), 1e-3);
    // The formula of MASE: exponent bias 0 for all blocks below 2, three mantissa bits.
    let found = reasons("block_minifloat(8,4,8,[1,16])", &normal());
    assert!(matches!(found[..], [Reason::StepAboveMaximum { step: 0.25, .. }]), "{found:?}");
    // The shared exponent is at least -2.
    let found = reasons("mxint_hardware(8,2,[1,32])", &normal());
    assert!(matches!(found[..], [Reason::StepAboveMaximum { step: 0.25, .. }]), "{found:?}");
    // Values that do not follow the data.
    for (spec, zeroed_share) in [("binary", 0.0), ("ternary", within(0.75 * 0.797_88))] {
        let found = reasons(spec, &normal());
        let [Reason::StepAboveMaximum { step: 1.0, zeroed, .. }] = found[..] else { panic!("{found:?}") };
        near(zeroed, zeroed_share, 3e-3);
    }
}

#[test]
fn a_range_below_the_median() {
    // Five mantissa bits, exponents -15 to -12: 2^-12 * 31/32.
    let found = reasons("minifloat_denorm(8,2,15)", &normal());
    let [Reason::RangeBelowMedian { largest, median, saturated }] = found[..] else { panic!("{found:?}") };
    assert_eq!(largest, 31.0 / 32.0 / 4096.0);
    near(median.into(), 0.674_49 * DEVIATION, 1e-5);
    near(saturated, 1.0 - within(largest / DEVIATION), 1e-3);
    assert_eq!(
        found[0].to_string(),
        "the largest value 0.0002365 is below the median magnitude 0.01349; 99.1 % of the weights saturate"
    );
}

#[test]
fn many_zeros_and_many_saturated() {
    // Half of 2^-4 is 1.56 deviations.
    let found = reasons("integer(8,4)", &normal());
    let [Reason::Zeroes { step: 0.0625, zeroed }] = found[..] else { panic!("{found:?}") };
    near(zeroed, within(0.031_25 / DEVIATION), 2e-3);
    // The largest value is 127 / 4096 = 0.031; -128 is not that much larger.
    let found = reasons("integer(8,12)", &normal());
    let [Reason::Saturates { largest, saturated }] = found[..] else { panic!("{found:?}") };
    assert_eq!(largest, 128.0 / 4096.0);
    near(saturated, 1.0 - within(largest / DEVIATION), 2e-3);
    // Unsigned: the negative half, and the positive weights below half of 2^-8.
    let found = reasons("integer(8,8,is_signed=false)", &normal());
    let [Reason::Zeroes { zeroed, .. }] = found[..] else { panic!("{found:?}") };
    near(zeroed, 0.5 + 0.5 * within(1.0 / 512.0 / DEVIATION), 2e-3);
    assert_eq!(reasons("integer(8,8)", &normal()), []);
    assert_eq!(reasons("integer(16,12)", &normal()), []);
}

#[test]
fn formats_that_scale_have_no_warnings() {
    for format in
        Format::catalog().into_iter().filter(|format| format.value_grid().factor != super::super::Factor::One)
    {
        // Exponents of these two are clamped where blocks are below 1.
        let name = format.to_string();
        if name.starts_with("block_minifloat(") || name.starts_with("mxint_hardware(") {
            continue;
        }
        for size in [1e-3, 0.02, 1.0, 300.0] {
            let weights: Vec<f32> =
                normal().iter().step_by(10).map(|w| w * (size / DEVIATION) as f32).collect();
            assert_eq!(check(format, &TensorStatistics::new(&weights)), [], "{format} at {size}");
        }
    }
}
