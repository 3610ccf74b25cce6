//! From text to weight formats; the way back is in `display.rs`.

use std::str::FromStr;

use super::call::Call;
use super::custom;
use super::digits::DigitLayout;
use super::element::{Element, OcpElement, OcpRounding, OcpScale, default_bias};
use super::ggml::GgmlType;
use super::spec::MACROS;
use super::{Block, Format, MX_BLOCK, Scope};
use crate::error::{Error, Result, closest_names, invalid};

/// Group of formats with a real scale per group when none is given.
pub(super) const GROUP: u32 = 128;
/// Group of `mxint_cuda` when none is given: the default of mase-cuda's QLinearPacked.
pub(super) const CUDA_GROUP: u32 = 16;
/// Group of `nf4` when none is given, as in QLoRA.
pub(super) const NF4_GROUP: u32 = 64;
/// Block of MASE's block formats when none is given: 16 inputs of a row.
const BLOCK: [i32; 2] = [1, 16];

/// How many near names an error lists.
const NEAR: usize = 7;

/// Names without a number in them, in the order of lists.
pub(super) const NAMES: [&str; 38] = [
    "f32",
    "f16",
    "bf16",
    "mxint",
    "mxint_cuda",
    "mxint_hardware",
    "base11",
    "radix",
    "nf4",
    "nvfp4",
    "mxfp4",
    "mxfp6_e2m3",
    "mxfp6_e3m2",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "mase_mxfp",
    "integer",
    "minifloat_denorm",
    "minifloat_ieee",
    "log",
    "block_fp",
    "block_minifloat",
    "block_minifloat_corrected",
    "block_log",
    "binary",
    "binary_mean",
    "ternary",
    "ternary_mean",
    "residual_sign",
    "torch_dynamic",
    "q4_0",
    "q8_0",
    "q4_k",
    "q5_k",
    "q6_k",
    "iq4_nl",
    "tq1_0",
    "tq2_0",
];

/// OCP elements with floating point, by name.
pub(super) const MXFP: [(&str, OcpElement); 5] = [
    ("mxfp4", OcpElement::Fp4E2m1),
    ("mxfp6_e2m3", OcpElement::Fp6E2m3),
    ("mxfp6_e3m2", OcpElement::Fp6E3m2),
    ("mxfp8_e4m3", OcpElement::Fp8E4m3),
    ("mxfp8_e5m2", OcpElement::Fp8E5m2),
];
/// OCP integers; as weights `mxint8`, `mxint6` and `mxint4` have a variant of their own.
pub(super) const MXINT: [(&str, OcpElement); 3] =
    [("mxint8", OcpElement::Int8), ("mxint6", OcpElement::Int6), ("mxint4", OcpElement::Int4)];
pub(super) const ROUNDINGS: [(&str, OcpRounding); 3] =
    [("even", OcpRounding::Even), ("nearest", OcpRounding::AwayFromZero), ("floor", OcpRounding::Floor)];
const SCALES: [(&str, OcpScale); 2] = [("floor", OcpScale::Floor), ("ceil", OcpScale::Ceil)];
/// Digits per field and bits per field when none are given: the densest layout whose digits are cheap to take apart.
pub(super) fn default_digits(base: u16) -> (u8, u8) {
    let densest = DigitLayout::densest(base.into());
    densest.map_or((1, bits_of(base, 1)), |layout| (layout.digits as u8, layout.bits as u8))
}

/// Bits that hold `digits` digits.
fn bits_of(base: u16, digits: u8) -> u8 {
    let states = u64::from(base).saturating_pow(digits.into());
    (64 - states.saturating_sub(1).leading_zeros()) as u8
}

/// `name`, without the number at its end if it is one of `int4`, `uint4`, `mxint8`.
fn numbered(name: &str) -> Option<(&str, u8)> {
    let digit = name.chars().last()?.to_digit(10)? as u8;
    let family = &name[..name.len() - 1];
    let known = match family {
        "int" | "uint" => (2..=8).contains(&digit),
        "mxint" => [4, 6, 8].contains(&digit),
        _ => false,
    };
    known.then_some((family, digit))
}

/// Whether a format or a word for a whole spec is called `name`.
pub(super) fn is_reserved(name: &str) -> bool {
    let mut all = NAMES.iter().chain(&MACROS);
    numbered(name).is_some() || all.any(|known| *known == name) || ["int", "uint"].contains(&name)
}

/// All names, for messages.
fn known_names(more: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = NAMES.iter().chain(more).map(|&name| name.to_owned()).collect();
    for (family, widths) in
        [("int", &[8, 7, 6, 5, 4, 3, 2][..]), ("uint", &[8, 7, 6, 5, 4, 3, 2]), ("mxint", &[8, 6, 4])]
    {
        names.extend(widths.iter().map(|width| format!("{family}{width}")));
    }
    names.extend(custom::names());
    names.dedup();
    names
}

/// The format that `text` means; `more` are further words for the message about an unknown one.
pub(super) fn parse(text: &str, more: &[&str]) -> Result<Format> {
    let call = Call::parse(text)?;
    let name = call.name;
    let format = build(call, more)?;
    format.check().map_err(|error| Error::Invalid(format!("`{name}`: {error}")))?;
    Ok(format)
}

fn scope(call: &Call<'_>) -> Result<Scope> {
    match (call.get("scale"), call.get("group")) {
        (Some(_), Some(_)) => {
            invalid!("`{}`: scale= and group= exclude each other; give one of them", call.name)
        }
        (None, Some(_)) => Ok(Scope::Group(call.number("group", 0)?)),
        (None | Some("tensor"), None) => Ok(Scope::Tensor),
        (Some("row"), None) => Ok(Scope::Row),
        (Some(other), None) => Err(call.bad("scale", other, "tensor or row (or give group=N instead)")),
    }
}

fn block(call: &Call<'_>) -> Result<Block> {
    Ok(Block::dims(&call.list("block_size")?.unwrap_or(BLOCK.to_vec())))
}

fn build(call: Call<'_>, more: &[&str]) -> Result<Format> {
    if let Some((family, bits)) = numbered(call.name) {
        return match family {
            "int" => {
                let call = call.expect(&["group", "scale"])?;
                Ok(Format::Int { bits, scope: scope(&call)? })
            }
            "uint" => Ok(Format::Uint { bits, group: call.expect(&["group"])?.number("group", GROUP)? }),
            _ => mxint(call, bits),
        };
    }
    let element = |element, block| Ok(Format::Element { element, block });
    match call.name {
        "f32" => call.expect(&[]).map(|_| Format::F32),
        "f16" => call.expect(&[]).map(|_| Format::F16),
        "bf16" => call.expect(&[]).map(|_| Format::Bf16),
        "nvfp4" => call.expect(&[]).map(|_| Format::NvFp4),
        "ternary" => call.expect(&[]).map(|_| Format::Ternary),
        "torch_dynamic" => call.expect(&[]).map(|_| Format::TorchDynamic),
        "binary" => {
            call.expect(&[])?;
            element(Element::Binary, Block::None)
        }
        "binary_mean" => Ok(Format::BinaryMean { scope: scope(&call.expect(&["group", "scale"])?)? }),
        "ternary_mean" => Ok(Format::TernaryMean { scope: scope(&call.expect(&["group", "scale"])?)? }),
        "mxint_cuda" => {
            Ok(Format::MxIntCuda { group: call.expect(&["group"])?.number("group", CUDA_GROUP)? })
        }
        "nf4" => Ok(Format::Nf4 { group: call.expect(&["group"])?.number("group", NF4_GROUP)? }),
        "base11" => {
            let call = call.expect(&["layout", "group"])?;
            let group = call.number("group", GROUP)?;
            Ok(match call.choice("layout", &[("2in7", true), ("9in32", false)], true)? {
                true => Format::Radix { base: 11, digits: 2, bits: 7, group },
                false => Format::Base11Nine32 { group },
            })
        }
        "radix" => {
            let call = call.expect(&["base", "digits", "bits", "group"])?;
            if call.get("base").is_none() {
                invalid!("`radix` wants a base, e.g. radix(base=5,group=128)");
            }
            let base = call.number("base", 0)?;
            let usual = default_digits(base);
            let digits = call.number("digits", usual.0)?;
            let fitting = if digits == usual.0 { usual.1 } else { bits_of(base, digits) };
            let (bits, group) = (call.number("bits", fitting)?, call.number("group", GROUP)?);
            Ok(Format::Radix { base, digits, bits, group })
        }
        "mxint" => {
            let call = call.expect(&["width", "block"])?;
            let width = call.number("width", 8)?;
            element(Element::MxInt { width }, Block::Flat(call.number("block", MX_BLOCK as u32)?))
        }
        "mase_mxfp" => {
            let call = call.expect(&["exponent_width", "fraction_width", "block"])?;
            let exponent_width = call.number("exponent_width", 4)?;
            let fraction_width = call.number("fraction_width", 3)?;
            let block = Block::Flat(call.number("block", MX_BLOCK as u32)?);
            element(Element::MaseMxFp { exponent_width, fraction_width }, block)
        }
        "mxint_hardware" => {
            let call = call.expect(&["width", "exponent_width", "parallelism"])?;
            let (width, exponent_width) = (call.number("width", 9)?, call.number("exponent_width", 4)?);
            let block = Block::dims(&call.list("parallelism")?.unwrap_or(vec![1, MX_BLOCK as i32]));
            element(Element::MxIntHardware { width, exponent_width }, block)
        }
        "integer" => {
            let call = call.expect(&["width", "frac_width", "floor", "is_signed"])?;
            let width: u8 = call.number("width", 8)?;
            let frac_width = call.number("frac_width", i16::from(width / 2))?;
            let (floor, signed) = (call.flag("floor", false)?, call.flag("is_signed", true)?);
            element(Element::Integer { width, frac_width, signed, floor }, Block::None)
        }
        "minifloat_denorm" | "minifloat_ieee" => {
            let ieee = call.name == "minifloat_ieee";
            let call = call.expect(&["width", "exponent_width", "exponent_bias"])?;
            let (width, exponent_width) = (call.number("width", 8)?, call.number("exponent_width", 4)?);
            let exponent_bias = call.number("exponent_bias", default_bias(exponent_width))?;
            let minifloat = match ieee {
                true => Element::MinifloatIeee { width, exponent_width, exponent_bias },
                false => Element::MinifloatDenorm { width, exponent_width, exponent_bias },
            };
            element(minifloat, Block::None)
        }
        "log" => {
            let call = call.expect(&["width", "exponent_bias"])?;
            let width: u8 = call.number("width", 8)?;
            let exponent_bias = call.number("exponent_bias", default_bias(width.saturating_sub(1)))?;
            element(Element::Log { width, exponent_bias }, Block::None)
        }
        "block_fp" => {
            let call = call.expect(&["width", "exponent_width", "exponent_bias", "block_size"])?;
            let (width, exponent_width) = (call.number("width", 8)?, call.number("exponent_width", 8)?);
            let exponent_bias = call.number("exponent_bias", default_bias(exponent_width))?;
            element(Element::BlockFp { width, exponent_width, exponent_bias }, block(&call)?)
        }
        "block_minifloat" | "block_minifloat_corrected" => {
            let upstream = call.name == "block_minifloat";
            let call = call.expect(&["width", "exponent_width", "exponent_bias_width", "block_size"])?;
            let (width, exponent_width) = (call.number("width", 8)?, call.number("exponent_width", 4)?);
            let exponent_bias_width = call.number("exponent_bias_width", 8)?;
            let minifloat = match upstream {
                true => Element::BlockMinifloat { width, exponent_width, exponent_bias_width },
                false => Element::BlockMinifloatCorrected { width, exponent_width, exponent_bias_width },
            };
            element(minifloat, block(&call)?)
        }
        "block_log" => {
            let call = call.expect(&["width", "exponent_bias_width", "block_size"])?;
            let (width, exponent_bias_width) =
                (call.number("width", 8)?, call.number("exponent_bias_width", 8)?);
            element(Element::BlockLog { width, exponent_bias_width }, block(&call)?)
        }
        "residual_sign" => {
            let levels = call.expect(&["levels"])?.number("levels", 2)?;
            element(Element::ResidualSign { levels }, Block::None)
        }
        name => {
            if let Some(&(_, ocp)) = MXFP.iter().find(|(known, _)| *known == name) {
                return mxfp(call, ocp);
            }
            // ggml has more types; those that are not listed are decoded only.
            if let Some(kind) = GgmlType::from_name(name).filter(|_| NAMES.contains(&name)) {
                return call.expect(&[]).map(|_| Format::Ggml(kind));
            }
            if let Some(format) = custom::find(name) {
                return call.expect(&[]).map(|_| format);
            }
            // Nobody misspells at length; the bound keeps hostile text cheap.
            let short: String = name.chars().take(32).collect::<String>().to_lowercase();
            let known = known_names(more);
            let near = closest_names(&short, known.iter().map(String::as_str), NEAR);
            invalid!("unknown format `{name}`; near names: {} (`anybit formats` lists all)", near.join(", "))
        }
    }
}

fn mxfp(call: Call<'_>, element: OcpElement) -> Result<Format> {
    let call = call.expect(&["scale", "round", "block"])?;
    let scale = call.choice("scale", &SCALES, OcpScale::Floor)?;
    let rounding = call.choice("round", &ROUNDINGS, OcpRounding::Even)?;
    let block = call.number("block", MX_BLOCK as i32)?;
    let block = Block::dims(&[1, block]);
    Ok(Format::Element { element: Element::Ocp { element, rounding, scale }, block })
}

/// `mxint8` and its like: a variant of their own unless a parameter differs from OCP's.
fn mxint(call: Call<'_>, bits: u8) -> Result<Format> {
    let ocp = MXINT.iter().find(|(name, _)| *name == call.name).map(|&(_, element)| element);
    let format = mxfp(call, ocp.unwrap_or(OcpElement::Int8))?;
    match ocp.map(|element| Format::mx(element, OcpScale::Floor)) {
        Some(usual) if usual == format => Ok(Format::MxInt { bits }),
        _ => Ok(format),
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text, &[])
    }
}
