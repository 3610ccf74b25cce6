//! From weight formats to text; the way back is in `names.rs`.

use std::fmt;

use super::element::{Element, OcpScale, default_bias};
use super::names::{CUDA_GROUP, GROUP, MXFP, MXINT, NF4_GROUP, ROUNDINGS, default_digits};
use super::{Block, Format, MX_BLOCK, Scope, custom};

fn scope_text(scope: Scope) -> String {
    match scope {
        Scope::Tensor => String::new(),
        Scope::Row => "(scale=row)".to_owned(),
        Scope::Group(group) => format!("(group={group})"),
    }
}

// `pad` rather than `write!`, so that tables can align names with `{:>16}`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grouped = |name: &str, group: u32, usual: u32| match group == usual {
            true => name.to_owned(),
            false => format!("{name}(group={group})"),
        };
        let text = match *self {
            Self::F32 => "f32".to_owned(),
            Self::F16 => "f16".to_owned(),
            Self::Bf16 => "bf16".to_owned(),
            Self::Int { bits, scope } => format!("int{bits}{}", scope_text(scope)),
            Self::Uint { bits, group } => grouped(&format!("uint{bits}"), group, GROUP),
            Self::BinaryMean { scope } => format!("binary_mean{}", scope_text(scope)),
            Self::TernaryMean { scope } => format!("ternary_mean{}", scope_text(scope)),
            Self::Ternary => "ternary".to_owned(),
            Self::TorchDynamic => "torch_dynamic".to_owned(),
            Self::MxInt { bits } => format!("mxint{bits}"),
            Self::MxIntCuda { group } => grouped("mxint_cuda", group, CUDA_GROUP),
            Self::Radix { base: 11, digits: 2, bits: 7, group } => grouped("base11", group, GROUP),
            Self::Radix { base, digits, bits, group } => {
                let layout = match (digits, bits) == default_digits(base) {
                    true => String::new(),
                    false => format!(",digits={digits},bits={bits}"),
                };
                let group = if group == GROUP { String::new() } else { format!(",group={group}") };
                format!("radix(base={base}{layout}{group})")
            }
            Self::Base11Nine32 { group: GROUP } => "base11(layout=9in32)".to_owned(),
            Self::Base11Nine32 { group } => format!("base11(layout=9in32,group={group})"),
            Self::Nf4 { group } => grouped("nf4", group, NF4_GROUP),
            Self::NvFp4 => "nvfp4".to_owned(),
            Self::Element { element, block } => element_text(element, block),
            Self::Ggml(kind) => kind.name().to_owned(),
            Self::Custom(id) => custom::get(id).name.clone(),
        };
        f.pad(&text)
    }
}

pub(super) fn element_text(element: Element, block: Block) -> String {
    let bias = |bias: i32, usual: i32| match bias == usual {
        true => String::new(),
        false => format!(",exponent_bias={bias}"),
    };
    let minifloat = |name: &str, width: u8, exponent_width: u8, exponent_bias: i32| {
        let bias = bias(exponent_bias, default_bias(exponent_width));
        format!("{name}(width={width},exponent_width={exponent_width}{bias})")
    };
    match element {
        Element::Integer { width, frac_width, signed, floor } => {
            let floor = if floor { ",floor" } else { "" };
            let signed = if signed { "" } else { ",is_signed=false" };
            format!("integer(width={width},frac_width={frac_width}{floor}{signed})")
        }
        Element::MinifloatDenorm { width, exponent_width, exponent_bias } => {
            minifloat("minifloat_denorm", width, exponent_width, exponent_bias)
        }
        Element::MinifloatIeee { width, exponent_width, exponent_bias } => {
            minifloat("minifloat_ieee", width, exponent_width, exponent_bias)
        }
        Element::Log { width, exponent_bias } => {
            format!("log(width={width}{})", bias(exponent_bias, default_bias(width.saturating_sub(1))))
        }
        Element::Binary => "binary".to_owned(),
        Element::ResidualSign { levels } => format!("residual_sign(levels={levels})"),
        Element::BlockFp { width, exponent_width, exponent_bias } => {
            let bias = bias(exponent_bias, default_bias(exponent_width));
            format!("block_fp(width={width},exponent_width={exponent_width}{bias},block_size={block})")
        }
        Element::BlockMinifloat { width, exponent_width, exponent_bias_width } => format!(
            "block_minifloat(width={width},exponent_width={exponent_width},\
             exponent_bias_width={exponent_bias_width},block_size={block})"
        ),
        Element::BlockMinifloatCorrected { width, exponent_width, exponent_bias_width } => format!(
            "block_minifloat_corrected(width={width},exponent_width={exponent_width},\
             exponent_bias_width={exponent_bias_width},block_size={block})"
        ),
        Element::BlockLog { width, exponent_bias_width } => {
            format!("block_log(width={width},exponent_bias_width={exponent_bias_width},block_size={block})")
        }
        Element::MxInt { width } => format!("mxint(width={width},block={block})"),
        Element::MxIntHardware { width, exponent_width } => {
            format!("mxint_hardware(width={width},exponent_width={exponent_width},parallelism={block})")
        }
        Element::MaseMxFp { exponent_width, fraction_width } => format!(
            "mase_mxfp(exponent_width={exponent_width},fraction_width={fraction_width},block={block})"
        ),
        Element::Ocp { element, rounding, scale } => {
            let mut names = MXFP.iter().chain(&MXINT);
            let name = names.find(|(_, known)| *known == element).map_or("mx", |(name, _)| name);
            let mut parameters = Vec::new();
            if scale != OcpScale::Floor {
                parameters.push("scale=ceil".to_owned());
            }
            if let Some((rounding, _)) = ROUNDINGS.iter().skip(1).find(|(_, known)| *known == rounding) {
                parameters.push(format!("round={rounding}"));
            }
            match block.list().last() {
                Some(&size) if size != MX_BLOCK as i32 => parameters.push(format!("block={size}")),
                _ => {}
            }
            if parameters.is_empty() { name.to_owned() } else { format!("{name}({})", parameters.join(",")) }
        }
    }
}
