//! Every golden case is checked by someone.

use std::collections::BTreeMap;

use super::golden::{Case, Golden};
use super::{blocks, elementwise, layers, microscaling, programs};

/// The check of a format; `None` for cases that are checked in a test of their own.
fn check(format: &str) -> Option<fn(&Case<'_>)> {
    Some(match format {
        "integer" | "integer_floor" | "minifloat_denorm" | "minifloat_ieee" | "log" => elementwise::element,
        "binary" => elementwise::binary,
        "ternary" => elementwise::ternary,
        "residual_sign" => elementwise::residual_sign,
        "scale_integer" => elementwise::scale_integer,
        "block_fp" | "block_minifloat" | "block_log" => blocks::block,
        "mxint" => blocks::mxint,
        "mxfp" => blocks::mxfp,
        "mxint_hardware" => blocks::mxint_hardware,
        "mx_fp8_e5m2" | "mx_fp8_e4m3" | "mx_fp6_e3m2" | "mx_fp6_e2m3" | "mx_fp4_e2m1" | "mx_int8"
        | "mx_int4" => microscaling::microxcaling,
        "ocp_codes_fp8_e5m2" | "ocp_codes_fp8_e4m3" | "ocp_codes_fp6_e3m2" | "ocp_codes_fp6_e2m3"
        | "ocp_codes_fp4_e2m1" | "ocp_codes_int8" => microscaling::ocp_codes,
        "decode_table" => microscaling::decode_table,
        "nvfp4" => microscaling::nvfp4,
        "prune_l1" | "prune_global_l1" => programs::prune,
        "mase_cuda_mxint8" => programs::mase_cuda,
        "base11" => programs::base11,
        "qlinear_tensor" => programs::qlinear_tensor,
        "qlinear_layer" => programs::qlinear_layer,
        "torch_dynamic_int8" => programs::dynamic_int8,
        _ if format.starts_with("layer.") => layers::layer,
        // Counted elsewhere: the tests of the ggml blocks and of the digit codec.
        "pack" => return None,
        _ if format.starts_with("gguf_") => return None,
        _ => panic!("golden cases of {format} are checked by no one"),
    })
}

#[test]
fn every_case_is_checked_in_full() {
    let golden = Golden::load();
    let (mut here, mut elsewhere, mut raised) = (0, BTreeMap::<&str, usize>::new(), 0);
    for value in &golden.cases {
        let case = Case::new(&golden, value);
        let Some(check) = check(case.format()) else {
            *elsewhere.entry(value["format"].as_str().unwrap()).or_default() += 1;
            continue;
        };
        check(&case);
        raised += usize::from(case.raises());
        case.finish();
        here += 1;
    }
    let blocks: usize =
        elsewhere.iter().filter(|(format, _)| format.starts_with("gguf_")).map(|(_, n)| n).sum();
    assert_eq!((here, blocks, elsewhere["pack"], raised), (639, 15, 12, 16));
    assert_eq!(here + blocks + elsewhere["pack"], golden.cases.len());
}
