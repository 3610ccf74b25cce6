//! The text form of formats, and properties of all of them.

use anybit::format::{ActivationFormat, ActivationScope, Base11Layout, Format, Packed, Scope, Spec};

use super::{integer_codes, message, weights};

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
