//! Text form of formats: `name`, `name(key=value,...)`, `weight@activation`, `qlinear(bits=N)`.

use std::fmt;
use std::str::FromStr;

use super::{ActivationFormat, ActivationScope, Base11Layout, Format, Scope};
use crate::error::{Error, Result, invalid};

/// Group of `base11` when none is given.
const BASE11_GROUP: u32 = 128;
/// Group of `mxint_cuda` when none is given: the default of mase-cuda's QLinearPacked.
const CUDA_GROUP: u32 = 16;

/// Names of weight formats.
const NAMES: [&str; 15] = [
    "f32",
    "f16",
    "bf16",
    "int8",
    "int7",
    "int6",
    "int5",
    "int4",
    "int3",
    "int2",
    "mxint8",
    "mxint6",
    "mxint4",
    "mxint_cuda",
    "base11",
];
/// Names of activation formats.
const ACTIVATION_NAMES: [&str; 7] = ["int8", "int7", "int6", "int5", "int4", "int3", "int2"];
/// `W@A` in one word.
const QLINEAR: &str = "qlinear";

/// What a linear layer runs in: the format of its weight and, if its input is quantized too, that format.
///
/// Text: `W`, `W@A`; `qlinear(bits=N)` stands for `intN@intN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Format of the weight.
    pub weight: Format,
    /// Format of the input; `None` keeps it in f32.
    pub activation: Option<ActivationFormat>,
}

impl From<Format> for Spec {
    fn from(weight: Format) -> Self {
        Self { weight, activation: None }
    }
}

// `pad` rather than `write!`, so that tables can align names with `{:>16}`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::F32 => "f32".to_owned(),
            Self::F16 => "f16".to_owned(),
            Self::Bf16 => "bf16".to_owned(),
            Self::Int { bits, scope: Scope::Tensor } => format!("int{bits}"),
            Self::Int { bits, scope: Scope::Row } => format!("int{bits}(scale=row)"),
            Self::Int { bits, scope: Scope::Group(group) } => format!("int{bits}(group={group})"),
            Self::MxInt { bits } => format!("mxint{bits}"),
            Self::MxIntCuda { group: CUDA_GROUP } => "mxint_cuda".to_owned(),
            Self::MxIntCuda { group } => format!("mxint_cuda(group={group})"),
            Self::Base11 { layout: Base11Layout::Two7, group: BASE11_GROUP } => "base11".to_owned(),
            Self::Base11 { layout: Base11Layout::Two7, group } => format!("base11(group={group})"),
            Self::Base11 { layout: Base11Layout::Nine32, group: BASE11_GROUP } => {
                "base11(layout=9in32)".to_owned()
            }
            Self::Base11 { layout: Base11Layout::Nine32, group } => {
                format!("base11(layout=9in32,group={group})")
            }
        };
        f.pad(&text)
    }
}

impl fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.scope == ActivationScope::Row { "(scale=row)" } else { "" };
        f.pad(&format!("int{}{scope}", self.bits))
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.weight, self.activation) {
            (weight, None) => weight.to_string(),
            (
                Format::Int { bits, scope: Scope::Tensor },
                Some(ActivationFormat { bits: activation, scope: ActivationScope::Tensor }),
            ) if bits == activation => format!("{QLINEAR}(bits={bits})"),
            (weight, Some(activation)) => format!("{weight}@{activation}"),
        };
        f.pad(&text)
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_format(&Call::parse(text)?, &NAMES)
    }
}

impl FromStr for ActivationFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let call = Call::parse(text)?;
        if !ACTIVATION_NAMES.contains(&call.name) {
            invalid!(
                "unknown activation format `{}`; known: {}",
                call.name,
                closest(call.name, &ACTIVATION_NAMES)
            );
        }
        call.check_keys(&["scale"])?;
        let scope = match call.get("scale") {
            None | Some("tensor") => ActivationScope::Tensor,
            Some("row") => ActivationScope::Row,
            Some(other) => return Err(call.bad("scale", other, "tensor or row")),
        };
        Ok(Self { bits: width(call.name), scope })
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (weight, activation) = match text.split_once('@') {
            Some((weight, activation)) => (weight, Some(activation)),
            None => (text, None),
        };
        let call = Call::parse(weight)?;
        if call.name == QLINEAR {
            if activation.is_some() {
                invalid!("`{}`: {QLINEAR} quantizes the activations already; remove `@...`", text.trim());
            }
            call.check_keys(&["bits"])?;
            let Some(bits) = call.get("bits") else {
                invalid!("`{QLINEAR}` wants bits=2 to bits=8, e.g. {QLINEAR}(bits=4)");
            };
            let Some(bits) = bits.parse().ok().filter(|bits| (2..=8).contains(bits)) else {
                return Err(call.bad("bits", bits, "a number from 2 to 8"));
            };
            return Ok(Self {
                weight: Format::Int { bits, scope: Scope::Tensor },
                activation: Some(ActivationFormat { bits, scope: ActivationScope::Tensor }),
            });
        }
        let known: Vec<&str> = NAMES.into_iter().chain([QLINEAR]).collect();
        let weight = parse_format(&call, &known)?;
        Ok(Self { weight, activation: activation.map(str::parse).transpose()? })
    }
}

fn parse_format(call: &Call<'_>, known: &[&str]) -> Result<Format> {
    let name = call.name;
    if !NAMES.contains(&name) {
        invalid!("unknown format `{name}`; known: {}", closest(name, known));
    }
    let keys: &[&str] = match name {
        "mxint_cuda" => &["group"],
        "base11" => &["layout", "group"],
        _ if name.starts_with("int") => &["scale", "group"],
        _ => &[],
    };
    call.check_keys(keys)?;
    let group = |default| match call.get("group") {
        None => Ok(default),
        Some(text) => text.parse::<u32>().map_err(|_| call.bad("group", text, "a whole number")),
    };
    let format = match name {
        "f32" => Format::F32,
        "f16" => Format::F16,
        "bf16" => Format::Bf16,
        "mxint_cuda" => Format::MxIntCuda { group: group(CUDA_GROUP)? },
        "base11" => {
            let layout = match call.get("layout") {
                None | Some("2in7") => Base11Layout::Two7,
                Some("9in32") => Base11Layout::Nine32,
                Some(other) => return Err(call.bad("layout", other, "2in7 or 9in32")),
            };
            Format::Base11 { layout, group: group(BASE11_GROUP)? }
        }
        _ if name.starts_with("mxint") => Format::MxInt { bits: width(name) },
        _ => {
            let scope = match (call.get("scale"), call.get("group")) {
                (Some(_), Some(_)) => {
                    invalid!("`{name}`: scale= and group= exclude each other; give one of them")
                }
                (None, Some(_)) => Scope::Group(group(0)?),
                (None | Some("tensor"), None) => Scope::Tensor,
                (Some("row"), None) => Scope::Row,
                (Some(other), None) => {
                    return Err(call.bad("scale", other, "tensor or row (or give group=N instead)"));
                }
            };
            Format::Int { bits: width(name), scope }
        }
    };
    format.check().map_err(|error| Error::Invalid(format!("`{name}`: {error}")))?;
    Ok(format)
}

/// The number at the end of a known name (`int4`, `mxint8`).
fn width(name: &str) -> u8 {
    name.bytes().last().map_or(0, |digit| digit.wrapping_sub(b'0'))
}

/// `name(key=value,...)` taken apart.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<(&'a str, &'a str)>,
}

impl<'a> Call<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let text = text.trim();
        let unbalanced =
            || Error::Invalid(format!("`{text}`: unbalanced parentheses; want name(key=value,...)"));
        let (name, inside) = match text.split_once('(') {
            None if text.contains(')') => return Err(unbalanced()),
            None => (text, None),
            Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')').ok_or_else(unbalanced)?)),
        };
        if name.is_empty() {
            invalid!("`{text}`: the format has no name; want e.g. int4 or int4(group=128)");
        }
        let inside = inside.map_or("", str::trim);
        if inside.contains(['(', ')']) {
            return Err(unbalanced());
        }
        let mut arguments: Vec<(&str, &str)> = Vec::new();
        // `name()` is `name`.
        for argument in inside.split(',').filter(|_| !inside.is_empty()) {
            let (key, value) = argument
                .split_once('=')
                .map_or((argument.trim(), ""), |(key, value)| (key.trim(), value.trim()));
            if key.is_empty() {
                invalid!("`{text}`: an argument has no key; want key=value");
            }
            if value.is_empty() {
                invalid!("`{text}`: `{key}` has no value; want {key}=value");
            }
            if arguments.iter().any(|(known, _)| *known == key) {
                invalid!("`{text}`: `{key}` is given twice; give it once");
            }
            arguments.push((key, value));
        }
        Ok(Self { name, arguments })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.arguments.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn check_keys(&self, known: &[&str]) -> Result<()> {
        for (key, _) in &self.arguments {
            if !known.contains(key) {
                let want = if known.is_empty() { "it takes none".to_owned() } else { known.join(", ") };
                invalid!("`{}` has no parameter `{key}`; known: {want}", self.name);
            }
        }
        Ok(())
    }

    fn bad(&self, key: &str, got: &str, want: &str) -> Error {
        Error::Invalid(format!("`{}`: {key} = `{got}`: want {want}", self.name))
    }
}

/// The known names, closest first.
fn closest(name: &str, known: &[&str]) -> String {
    // Nobody misspells at length; the bound keeps hostile text cheap.
    let name: String = name.chars().take(32).collect::<String>().to_lowercase();
    let mut known = known.to_vec();
    known.sort_by_key(|candidate| distance(&name, candidate));
    known.join(", ")
}

/// Edit distance (Levenshtein), in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = previous[j] + usize::from(x != *y);
            current.push(replaced.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()]
}
