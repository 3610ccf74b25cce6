//! The text form of formats, and properties of all of them.

use anybit::format::element::{Element, OcpElement, OcpRounding, OcpScale};
use anybit::format::{
    ActivationFormat, ActivationScope, Block, Format, Packed, Scope, Spec, fake_quantize,
    quantize_activations,
};

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
        ("int4(128)", "int4(group=128)"),
        ("uint4(128)", "uint4"),
        ("radix(11, 2, 7, 64)", "base11(group=64)"),
        ("radix(3)", "radix(base=3)"),
        ("integer(8, 4)", "integer(width=8,frac_width=4)"),
        ("integer(8)", "integer(width=8,frac_width=4)"),
        ("integer(8,-2,floor)", "integer(width=8,frac_width=-2,floor)"),
        ("integer(width=4,floor=true)", "integer(width=4,frac_width=2,floor)"),
        ("minifloat_ieee(8,4,7)", "minifloat_ieee(width=8,exponent_width=4)"),
        ("minifloat_denorm(8,4,null)", "minifloat_denorm(width=8,exponent_width=4)"),
        ("log(8,3)", "log(width=8,exponent_bias=3)"),
        ("block_fp(8,8,none,[1, 16])", "block_fp(width=8,exponent_width=8,block_size=[1,16])"),
        ("block_fp(block_size=[-1,16])", "block_fp(width=8,exponent_width=8,block_size=[-1,16])"),
        ("block_fp(block_size=16)", "block_fp(width=8,exponent_width=8,block_size=[16])"),
        ("mxint(8, 32)", "mxint(width=8,block=32)"),
        ("mxfp4(scale=floor)", "mxfp4"),
        ("mxfp8_e4m3(scale=ceil,round=nearest,block=16)", "mxfp8_e4m3(scale=ceil,round=nearest,block=16)"),
        ("mxint8(block=16)", "mxint8(block=16)"),
        ("binary_scaling", "binary_scaling"),
        ("binary@binary@bias=binary", "binary_scaling"),
        ("binary_residual_sign", "binary@residual_sign(levels=2)"),
        ("torch_dynamic", "torch_dynamic"),
        ("torch_dynamic @ f32", "torch_dynamic@f32"),
        ("int8@torch_dynamic", "int8@torch_dynamic"),
        (
            "integer(8,4)@integer(8,4)@bias=integer(8,4)",
            "integer(width=8,frac_width=4)@integer(width=8,frac_width=4)@bias=integer(width=8,frac_width=4)",
        ),
        ("int8@bias=f16", "int8@bias=f16"),
        ("int8@f32@bias=f32", "int8"),
    ] {
        let spec: Spec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(spec.to_string(), canonical, "{text}");
        assert_eq!(canonical.parse::<Spec>().unwrap(), spec);
    }
    assert_eq!(format!("{:>6}|{:6}", Format::F16, Spec::from(Format::F32)), "   f16|f32   ");
    for format in Format::catalog() {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        assert_eq!(Spec::from(format).to_string().parse::<Spec>().unwrap(), Spec::from(format));
    }
}

#[test]
fn spec_errors_say_what_got_and_want() {
    for (text, parts) in [
        ("int44", &["unknown format `int44`", "near names: int4"][..]),
        ("mxint5", &["unknown format", "mxint8, mxint6, mxint4"]),
        ("BF16", &["unknown format `BF16`", "near names: bf16"]),
        ("qlinaer(bits=4)", &["unknown format", "near names: qlinear"]),
        ("", &["no name"]),
        ("(group=32)", &["no name"]),
        ("int4(groups=32)", &["no parameter `groups`", "group, scale"]),
        ("f32(group=32)", &["no parameter `group`", "none"]),
        ("int4(group=32,group=64)", &["`group` is given twice"]),
        ("int4(group=)", &["`group` has no value"]),
        ("int4(group)", &["group = `true`"]),
        ("int4(32,64)", &["exclude"]),
        ("int4(32,row,5)", &["one argument too many"]),
        ("int4(scale=row,32)", &["`32` stands after"]),
        ("int4(32,group=32)", &["given twice"]),
        ("int4(group=+64)", &["without a sign"]),
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
        ("int4@base11", &["`base11` is not defined for activations"]),
        ("int4@bias=", &["no name"]),
        ("int4@bias=int8@int8", &["stands last"]),
        ("integer(33,4)", &["integer", "33"]),
        ("block_fp(block_size=[1,16)", &["unbalanced"]),
        ("block_fp(block_size=[0,16])", &["block_size"]),
        ("block_fp(block_size=[1,2,3,4])", &["a list such as [1,16]"]),
        ("radix(4)", &["base = 4", "odd"]),
        ("radix(11,9,31)", &["9 digits"]),
        ("radix", &["wants a base"]),
        ("mxint(8,0)", &["at least 1"]),
        ("int4@int8@int8", &["one `@` too many"]),
        ("int4@int8(group=32)", &["not defined for activations"]),
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
            (2u8..=8, any_group()).prop_map(|(bits, group)| Format::Uint { bits, group }),
            (any_layout(), any_group()).prop_map(|((base, digits, bits), group)| Format::Radix {
                base,
                digits,
                bits,
                group
            }),
            (1u32..=65536).prop_map(|group| Format::Base11Nine32 { group }),
            any_group().prop_map(|group| Format::Nf4 { group }),
            any_element().prop_map(|(element, block)| Format::Element { element, block }),
            proptest::sample::select(Format::catalog()),
        ]
    }

    fn any_layout() -> impl Strategy<Value = (u16, u8, u8)> {
        proptest::sample::select(vec![
            (3, 5, 8),
            (3, 20, 32),
            (5, 3, 7),
            (9, 5, 16),
            (11, 2, 7),
            (45, 2, 11),
            (255, 4, 32),
        ])
    }

    fn any_block() -> impl Strategy<Value = Block> {
        let size = prop_oneof![Just(-1), 1i32..70];
        proptest::collection::vec(size, 1..=3).prop_map(|list| Block::dims(&list))
    }

    /// Elements whose parameters are in range, with a block where they need one.
    fn any_element() -> impl Strategy<Value = (Element, Block)> {
        let ocp = proptest::sample::select(vec![
            OcpElement::Fp8E5m2,
            OcpElement::Fp8E4m3,
            OcpElement::Fp6E3m2,
            OcpElement::Fp6E2m3,
            OcpElement::Fp4E2m1,
            OcpElement::Int6,
        ]);
        let element = prop_oneof![
            (2u8..=32, -12i16..=40, any::<bool>(), any::<bool>()).prop_map(
                |(width, frac_width, signed, floor)| Element::Integer { width, frac_width, signed, floor }
            ),
            (2u8..=32, 1u8..=8, -20i32..=150).prop_map(|(width, exponent_width, exponent_bias)| {
                Element::MinifloatDenorm { width, exponent_width, exponent_bias }
            }),
            (2u8..=32, 1u8..=8, -20i32..=150).prop_map(|(width, exponent_width, exponent_bias)| {
                Element::MinifloatIeee { width, exponent_width, exponent_bias }
            }),
            (2u8..=16, -10i32..=150).prop_map(|(width, exponent_bias)| Element::Log { width, exponent_bias }),
            Just(Element::Binary),
            (1u8..=8).prop_map(|levels| Element::ResidualSign { levels }),
            (2u8..=16, 1u8..=8).prop_map(|(width, exponent_width)| Element::BlockFp {
                width,
                exponent_width,
                exponent_bias: (1 << (exponent_width - 1)) - 1
            }),
            (4u8..=16, 1u8..=8, 1u8..=8).prop_map(|(width, exponent_width, exponent_bias_width)| {
                Element::BlockMinifloat { width, exponent_width, exponent_bias_width }
            }),
            (4u8..=16, 1u8..=6, 1u8..=8).prop_map(|(width, exponent_width, exponent_bias_width)| {
                Element::BlockMinifloatCorrected { width, exponent_width, exponent_bias_width }
            }),
            (2u8..=8, 1u8..=8)
                .prop_map(|(width, exponent_bias_width)| Element::BlockLog { width, exponent_bias_width }),
            (2u8..=12).prop_map(|width| Element::MxInt { width }),
            (2u8..=12, 2u8..=8)
                .prop_map(|(width, exponent_width)| Element::MxIntHardware { width, exponent_width }),
            (1u8..=5, 1u8..=3).prop_map(|(exponent_width, fraction_width)| {
                Element::MaseMxFp { exponent_width, fraction_width }
            }),
            (ocp, any::<bool>()).prop_map(|(element, ceil)| Element::Ocp {
                element,
                rounding: OcpRounding::Even,
                scale: if ceil { OcpScale::Ceil } else { OcpScale::Floor },
            }),
        ];
        let fits = |(element, block): &(Element, Block)| {
            Format::Element { element: *element, block: *block }.check().is_ok()
        };
        (element, any_block())
            .prop_map(|(element, block)| {
                let block = match element {
                    Element::Ocp { .. } => Block::dims(&[1, *block.list().last().unwrap()]),
                    // Any matrix is a multiple of 1.
                    Element::MxInt { .. } | Element::MaseMxFp { .. } => Block::Flat(1),
                    _ if element.scale_bits() == 0 => Block::None,
                    _ => block,
                };
                (element, block)
            })
            .prop_filter("parameters in range", fits)
    }

    fn any_activation() -> impl Strategy<Value = ActivationFormat> {
        prop_oneof![
            (2u8..=8, prop_oneof![Just(ActivationScope::Tensor), Just(ActivationScope::Row)])
                .prop_map(|(bits, scope)| ActivationFormat::Int { bits, scope }),
            Just(ActivationFormat::TorchDynamic),
            any_element().prop_map(|(element, block)| ActivationFormat::Element { element, block }),
        ]
    }

    proptest! {
        #[test]
        fn display_parses_back(
            weight in any_format(),
            activation in proptest::option::of(any_activation()),
            bias in proptest::option::of(any_format()),
        ) {
            let bias = bias.filter(|format| *format != Format::F32);
            let spec = Spec { weight, activation, bias };
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
                "(int4|base11|qlinear|mxint_cuda|radix|integer|block_fp|log|x)?[ @(),=a-z0-9_\\[\\]-]{0,24}",
                "(integer|minifloat_ieee|block_log|mxint|radix|mxfp4)\\((-?[0-9]{1,12},){0,3}(-?[0-9]{1,6}|\\[-?[0-9]{1,9}\\])\\)",
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
            format in any_format(), rows in 1usize..6, cols in prop_oneof![1usize..300, Just(256)], seed in any::<u64>(),
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
            let packed = Packed::from_parts(format, rows, cols, codes, scales, vec![]).unwrap();
            let y = packed.decode();
            packed.scale_overflows();
            packed.slice_rows(0..rows);
            let is_unsigned_byte = matches!(format, Format::Uint { .. });
            if format.has_integer_codes() && !is_unsigned_byte {
                let codes = integer_codes(&packed);
                for (i, y) in y.iter().enumerate() {
                    let product = f32::from(codes[i]) * packed.scale(i / cols, i % cols);
                    prop_assert!(*y == product || (y.is_nan() && product.is_nan()), "{}: {} {}", format, y, product);
                }
            }
        }

        /// What an element-wise format makes of a matrix is what its quantizer makes of every weight.
        #[test]
        fn round_trips_equal_the_quantizer(
            (element, block) in any_element(), rows in 1usize..6, cols in 1usize..90, size in -9i32..3, seed in any::<u32>(),
        ) {
            let format = Format::Element { element, block };
            let mut state = seed;
            let w: Vec<f32> = (0..rows * cols).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 28 == 0 { 0.0 } else { ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 10f32.powi(size) }
            }).collect();
            let packed = format.encode(&w, rows, cols).unwrap();
            let layout = format.layout(rows, cols).unwrap();
            prop_assert_eq!(
                packed.bytes() - packed.exceptions.len() * 12,
                (format.bits_per_weight(rows, cols).unwrap() * (rows * cols) as f64 / 8.0).round() as usize
            );
            prop_assert!(packed.exceptions.is_empty() || format.may_have_exceptions(), "{}", format);
            let scale_codes = match element.scale_bits() {
                0 => Vec::new(),
                _ => {
                    let tile_cols = layout.group;
                    anybit::format::element::scale_codes(element, &w, rows, cols, layout.group_rows, tile_cols)
                }
            };
            for (i, y) in packed.decode().into_iter().enumerate() {
                let tile = i / cols / layout.group_rows * layout.groups_per_row + i % cols / layout.group;
                let want = element.quantize(w[i], scale_codes.get(tile).copied().unwrap_or(0));
                prop_assert!(y == want || y.is_nan() && want.is_nan(), "{} {}: {} want {}", format, w[i], y, want);
            }
        }

        /// Activations: integer codes times scales are the values, wherever there are integer codes.
        #[test]
        fn activation_codes_are_the_values(
            format in any_activation(), rows in 1usize..6, cols in 1usize..90, size in -3i32..3,
        ) {
            prop_assume!(format.check_width(cols).is_ok());
            let x: Vec<f32> = weights(rows, cols).iter().map(|v| v * 10f32.powi(size)).collect();
            let spans: Vec<_> = (0..rows as u32).map(|row| if row < 2 { (0, 2.min(rows as u32)) } else { (row, row + 1) }).collect();
            let values = fake_quantize(&x, cols, &spans, format);
            prop_assert_eq!(values.len(), x.len());
            match quantize_activations(&x, cols, &spans, format) {
                Some(q) => prop_assert_eq!(q.values(cols), values),
                None => prop_assert!(format.integer_group(cols).is_none()),
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
