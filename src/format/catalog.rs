//! The formats that tables and tests run over.

use super::{Format, custom};

/// Every format with its usual parameters, and the registered ones.
pub(super) fn catalog() -> Vec<Format> {
    // A test checks that every text parses.
    catalog_texts().iter().filter_map(|text| text.parse().ok()).collect()
}

fn catalog_texts() -> Vec<String> {
    let mut texts: Vec<String> = ["f32", "f16", "bf16"].map(str::to_owned).to_vec();
    texts.extend((2..=8).rev().map(|bits| format!("int{bits}")));
    texts.extend([8, 4].map(|bits| format!("int{bits}(scale=row)")));
    texts.extend([8, 6, 4, 3, 2].map(|bits| format!("int{bits}(group=128)")));
    texts.push("int4(group=32)".to_owned());
    texts.extend([8, 4].map(|bits| format!("uint{bits}")));
    texts.extend([8, 6, 4].map(|bits| format!("mxint{bits}")));
    texts.extend(
        [
            "mxint_cuda",
            "base11(group=32)",
            "base11",
            "base11(layout=9in32)",
            "base11(layout=9in32,group=256)",
            "radix(base=3)",
            "radix(base=5)",
            "radix(base=9)",
            "radix(base=45)",
            "radix(base=11,digits=9,bits=32)",
            "nf4",
            "nvfp4",
            "mxfp8_e4m3",
            "mxfp8_e5m2",
            "mxfp6_e2m3",
            "mxfp6_e3m2",
            "mxfp4",
            "mxfp4(scale=ceil)",
            "mxint(8,16)",
            "mxint(4,32)",
            "mxint_hardware(8,4,[2,8])",
            "mase_mxfp",
            "integer(8,4)",
            "integer(4,2,floor)",
            "integer(16,8)",
            "minifloat_denorm(8,4)",
            "minifloat_ieee(8,4)",
            "minifloat_ieee(16,5)",
            "log(8)",
            "log(4,7)",
            "block_fp",
            "block_fp(8,8,none,[16])",
            "block_fp(4,8,none,[1,32])",
            "block_minifloat",
            "block_minifloat_corrected",
            "block_minifloat_corrected(6,3,8,[4,8])",
            "block_log",
            "binary",
            "binary_mean",
            "binary_mean(scale=row)",
            "binary_mean(group=128)",
            "ternary",
            "ternary_mean(scale=row)",
            "ternary_mean(group=128)",
            "residual_sign(2)",
            "torch_dynamic",
            "iq4_nl",
            "q4_0",
            "q8_0",
            "q4_k",
            "q5_k",
            "q6_k",
            "tq1_0",
            "tq2_0",
        ]
        .map(str::to_owned),
    );
    texts.extend(custom::names());
    texts
}

#[cfg(test)]
mod tests {
    use super::super::names::{NAMES, default_digits};
    use super::*;

    #[test]
    fn every_catalog_text_parses_and_every_name_is_in_it() {
        let texts = catalog_texts();
        for text in &texts {
            assert!(text.parse::<Format>().is_ok(), "{text}");
        }
        for name in NAMES {
            let has_name = |text: &String| text.split('(').next() == Some(name);
            assert!(texts.iter().any(has_name), "{name}");
        }
        assert_eq!(catalog().len(), texts.len());
    }

    /// The layouts that the documentation names.
    #[test]
    fn default_digits_are_the_documented_layouts() {
        for (base, want) in [(3, (5, 8)), (5, (3, 7)), (9, (5, 16)), (11, (2, 7)), (45, (2, 11))] {
            assert_eq!(default_digits(base), want, "base {base}");
        }
    }
}
