//! What a linear layer runs in, as text: `W`, `W@A`, `W@A@bias=B`.

use std::fmt;
use std::str::FromStr;

use super::call::Call;
use super::element::Element;
use super::{ActivationFormat, ActivationScope, Block, Format, Scope, names};
use crate::error::{Error, Result, invalid};

/// What a linear layer runs in: the format of its weight and, if its input and its bias are quantized too, theirs.
///
/// Text: `W`, `W@A`, `W@bias=B`, `W@A@bias=B`. Some words stand for all of it:
///
/// | text | means |
/// |---|---|
/// | `qlinear(bits=N)` | `intN@intN` |
/// | `torch_dynamic` | `torch_dynamic@torch_dynamic`; `torch_dynamic@f32` quantizes the weight only |
/// | `binary_scaling` | `binary@binary@bias=binary` |
/// | `binary_residual_sign(levels=L)` | `binary@residual_sign(levels=L)` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Format of the weight.
    pub weight: Format,
    /// Format of the input; `None` keeps it in f32.
    pub activation: Option<ActivationFormat>,
    /// Format of the bias; `None` keeps it in f32.
    pub bias: Option<Format>,
}

/// Words for weight and activations together.
pub(super) const MACROS: [&str; 4] = ["qlinear", "torch_dynamic", "binary_scaling", "binary_residual_sign"];

impl From<Format> for Spec {
    fn from(weight: Format) -> Self {
        Self { weight, activation: None, bias: None }
    }
}

const BINARY: Format = Format::Element { element: Element::Binary, block: Block::None };

fn residual_sign(levels: u8) -> Result<ActivationFormat> {
    let element = Element::ResidualSign { levels };
    element.check()?;
    Ok(ActivationFormat::Element { element, block: Block::None })
}

// `pad` rather than `write!`, so that tables can align names with `{:>16}`.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = ActivationFormat::Element { element: Element::Binary, block: Block::None };
        let mut text = match (self.weight, self.activation) {
            (weight @ Format::TorchDynamic, None) => format!("{weight}@f32"),
            (weight, None) => weight.to_string(),
            (Format::TorchDynamic, Some(ActivationFormat::TorchDynamic)) => "torch_dynamic".to_owned(),
            (BINARY, Some(activation)) if activation == binary && self.bias == Some(BINARY) => {
                return f.pad("binary_scaling");
            }
            (
                Format::Int { bits, scope: Scope::Tensor },
                Some(ActivationFormat::Int { bits: activation, scope: ActivationScope::Tensor }),
            ) if bits == activation => format!("qlinear(bits={bits})"),
            (weight, Some(activation)) => format!("{weight}@{activation}"),
        };
        if let Some(bias) = self.bias {
            text = format!("{text}@bias={bias}");
        }
        f.pad(&text)
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('@').map(str::trim);
        let weight = parts.next().unwrap_or_default();
        let (mut activation, mut bias) = (None, None);
        for part in parts {
            match part.strip_prefix("bias") {
                Some(rest) if rest.trim_start().starts_with('=') => {
                    let format = rest.trim_start()[1..].trim();
                    if bias.replace(format).is_some() {
                        invalid!("`{}`: the bias is given twice", text.trim());
                    }
                }
                _ if bias.is_some() => invalid!("`{}`: bias= stands last", text.trim()),
                _ => {
                    if activation.replace(part).is_some() {
                        invalid!("`{}`: one `@` too many; want W@A@bias=B", text.trim());
                    }
                }
            }
        }
        let call = Call::parse(weight)?;
        let mut spec = match call.name {
            "qlinear" => qlinear(call, text, activation)?,
            "binary_scaling" => {
                call.expect(&[])?;
                let activation = ActivationFormat::Element { element: Element::Binary, block: Block::None };
                Self { weight: BINARY, activation: Some(activation), bias: Some(BINARY) }
            }
            "binary_residual_sign" => {
                let levels = call.expect(&["levels"])?.number("levels", 2)?;
                let activation = residual_sign(levels)
                    .map_err(|error| Error::Invalid(format!("`binary_residual_sign`: {error}")))?;
                Self { weight: BINARY, activation: Some(activation), bias: None }
            }
            "torch_dynamic" => {
                let weight = names::parse(weight, &MACROS)?;
                Self { weight, activation: Some(ActivationFormat::TorchDynamic), bias: None }
            }
            _ => Self::from(names::parse(weight, &MACROS)?),
        };
        match activation {
            None => {}
            Some(_) if matches!(spec.activation, Some(activation) if activation != ActivationFormat::TorchDynamic) =>
            {
                invalid!("`{}`: {weight} quantizes the activations already; remove `@...`", text.trim());
            }
            Some("f32") => spec.activation = None,
            Some(text) => spec.activation = Some(text.parse()?),
        }
        if let Some(bias) = bias {
            spec.bias = Some(bias.parse()?).filter(|format| *format != Format::F32);
        }
        Ok(spec)
    }
}

fn qlinear(call: Call<'_>, text: &str, activation: Option<&str>) -> Result<Spec> {
    if activation.is_some() {
        invalid!("`{}`: qlinear quantizes the activations already; remove `@...`", text.trim());
    }
    let call = call.expect(&["bits"])?;
    let Some(bits) = call.get("bits") else {
        invalid!("`qlinear` wants bits=2 to bits=8, e.g. qlinear(bits=4)");
    };
    let Some(bits) = bits.parse().ok().filter(|bits| (2..=8).contains(bits)) else {
        return Err(call.bad("bits", bits, "a number from 2 to 8"));
    };
    let activation = ActivationFormat::Int { bits, scope: ActivationScope::Tensor };
    let weight = Format::Int { bits, scope: Scope::Tensor };
    Ok(Spec { weight, activation: Some(activation), bias: None })
}
