//! One format of a listing: what is said about it as cells of a table and as JSON.

use anybit::eval::Sqnr;
use anybit::format::{ActivationFormat, Factor, Format, Spec, ValueGrid, short_number};
use anybit::shader::{FormatVariant, Kernel};
use serde_json::{Value, json};

/// What is known of a format.
pub(crate) struct Entry {
    pub(crate) spec: Spec,
    /// Text of the spec, with arguments by position where there are many.
    pub(crate) label: String,
    /// Bits per weight, or why the shape does not fit.
    pub(crate) bits: Result<f64, String>,
    pub(crate) grid: ValueGrid,
    kernels: Kernels,
    /// Whether it also is a format of activations.
    activation: bool,
    /// What it loses of a model, or why it cannot take it; `None` where there is no model.
    pub(crate) sqnr: Option<Result<Sqnr, String>>,
}

/// How linear layers run.
#[derive(Clone, Copy, PartialEq)]
enum Kernels {
    /// The shape does not fit.
    None,
    /// Kernels read f32.
    Dense,
    /// Kernels decode packed words.
    Packed,
    /// The same, and with quantized inputs they multiply integers.
    Integer,
    /// The same, as long as every weight has a code.
    IntegerWithoutExceptions,
}

impl Entry {
    pub(crate) fn new(spec: Spec, (rows, cols): (usize, usize)) -> Self {
        let format = spec.weight;
        Self {
            spec,
            label: label(spec),
            bits: format.bits_per_weight(rows, cols).map_err(|error| error.to_string()),
            grid: format.value_grid(),
            kernels: Kernels::of(format, rows, cols),
            activation: format.to_string().parse::<ActivationFormat>().is_ok(),
            sqnr: None,
        }
    }

    /// The cells of its row; `measured` adds those about a model.
    pub(crate) fn cells(&self, measured: bool) -> Vec<String> {
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), short_number);
        let mut cells = vec![
            self.label.clone(),
            self.bits.as_ref().map_or("-".to_owned(), |bits| format!("{bits:.4}")),
            self.values(),
            optional(self.grid.step),
            optional(self.grid.least),
            self.kernels.words().to_owned(),
            if self.activation { "yes" } else { "-" }.to_owned(),
        ];
        if measured {
            cells.extend(match &self.sqnr {
                Some(Ok(sqnr)) => {
                    [format!("{:.4}", sqnr.bits_per_weight()), decibels(sqnr), format!("{:.3e}", sqnr.mse())]
                }
                _ => ["-", "-", "-"].map(str::to_owned),
            });
        }
        cells.extend(self.error().map(str::to_owned));
        cells
    }

    /// Why something is missing.
    fn error(&self) -> Option<&str> {
        let of_model = self.sqnr.as_ref().and_then(|sqnr| sqnr.as_ref().err());
        of_model.or(self.bits.as_ref().err()).map(String::as_str)
    }

    /// `±7 × s`
    pub(crate) fn values(&self) -> String {
        let ValueGrid { low, high, factor, .. } = self.grid;
        let range = match -low == high {
            true => format!("±{}", short_number(high)),
            false => format!("{} … {}", short_number(low), short_number(high)),
        };
        match factor {
            Factor::One => range,
            Factor::Scale => format!("{range} × s"),
            Factor::PowerOfTwo => format!("{range} × 2^e"),
            Factor::ScaleAndOffset => format!("{range} × s + m"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let grid = &self.grid;
        let mut json = json!({
            "spec": self.spec.to_string(),
            "label": self.label,
            "bits_per_weight": self.bits.as_ref().ok(),
            "relative_to": match grid.factor {
                Factor::One => "nothing",
                Factor::Scale => "scale",
                Factor::PowerOfTwo => "power of two",
                Factor::ScaleAndOffset => "scale and offset",
            },
            "low": grid.low,
            "high": grid.high,
            "step": grid.step,
            "smallest": grid.least,
            "values": (!grid.values.is_empty()).then_some(grid.values.len()),
            "storage": if self.kernels == Kernels::Dense { "f32" } else { "packed" },
            "kernels": self.kernels.names(),
            "activation": self.activation,
        });
        if let Some(Ok(sqnr)) = &self.sqnr {
            json["model_bits_per_weight"] = json!(sqnr.bits_per_weight());
            // Infinity, where nothing is lost, and NaN become null; the error tells them apart.
            json["sqnr_db"] = json!(sqnr.decibels());
            json["mse"] = json!(sqnr.mse());
        }
        json["error"] = json!(self.error());
        json
    }
}

impl Kernels {
    fn of(format: Format, rows: usize, cols: usize) -> Self {
        match FormatVariant::of(format, rows, cols) {
            Err(_) => Self::None,
            Ok(_) if format.is_wide() => Self::Dense,
            Ok(variant) if !variant.has_chunk_codes() => Self::Packed,
            Ok(_) if format.may_have_exceptions() => Self::IntegerWithoutExceptions,
            Ok(_) => Self::Integer,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Dense => "f32 storage",
            Self::Packed => "GEMV, GEMM",
            Self::Integer => "GEMV, GEMM, integer",
            Self::IntegerWithoutExceptions => "GEMV, GEMM, integer*",
        }
    }

    fn names(self) -> Vec<&'static str> {
        let kernels: &[Kernel] = match self {
            Self::None => &[],
            Self::Dense | Self::Packed => &[Kernel::Gemv, Kernel::Gemm],
            _ => &[Kernel::Gemv, Kernel::Gemm, Kernel::GemvI8, Kernel::GemmI8],
        };
        kernels.iter().map(|kernel| kernel.row().name).collect()
    }
}

/// `20.61`, `exact` where nothing is lost.
pub(crate) fn decibels(sqnr: &Sqnr) -> String {
    match sqnr.decibels() {
        f64::INFINITY => "exact".to_owned(),
        value => format!("{value:.2}"),
    }
}

/// The text of a spec, shorter where that means the same: `integer(8,4)` for `integer(width=8,frac_width=4)`. Only the
/// families with many parameters lose their keys, the others say what a number is.
pub(crate) fn label(spec: Spec) -> String {
    let long = spec.to_string();
    let short: Vec<String> = long.split('@').map(by_position).collect();
    let short = short.join("@");
    if short.parse::<Spec>().is_ok_and(|same| same == spec) { short } else { long }
}

/// `name(a=1,b=2)` with keys dropped from the front as long as it means the same.
fn by_position(text: &str) -> String {
    let mut short = text.to_owned();
    let Ok(format @ Format::Element { .. }) = text.parse::<Format>() else { return short };
    let Some((name, inside)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
        return short;
    };
    let arguments: Vec<&str> = split_outside_brackets(inside);
    if arguments.len() < 2 {
        return short;
    }
    for count in 1..=arguments.len() {
        let plain = |(i, argument): (usize, &&str)| match argument.split_once('=') {
            Some((_, value)) if i < count => value.to_owned(),
            _ => (*argument).to_owned(),
        };
        let arguments: Vec<String> = arguments.iter().enumerate().map(plain).collect();
        let candidate = format!("{name}({})", arguments.join(","));
        match candidate.parse::<Format>() {
            Ok(same) if same == format => short = candidate,
            _ => break,
        }
    }
    short
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = |c: char| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == ',' && depth == 0
    };
    text.split(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_mean_the_same() {
        for (text, want) in [
            ("integer", "integer(8,4)"),
            ("base11(layout=9in32,group=256)", "base11(layout=9in32,group=256)"),
            ("torch_dynamic@f32", "torch_dynamic@f32"),
            ("torch_dynamic", "torch_dynamic"),
            ("int4(group=128)@int8", "int4(group=128)@int8"),
            ("block_fp(8,8,none,[16])", "block_fp(8,8,block_size=[16])"),
            ("mxint(8,16)@mxint(8,32)", "mxint(8,16)@mxint(8,32)"),
            ("mxfp4(scale=ceil)", "mxfp4(scale=ceil)"),
            ("binary_scaling", "binary_scaling"),
            ("integer(8,4)@bias=integer(8,4)", "integer(8,4)@bias=integer(width=8,frac_width=4)"),
        ] {
            let spec: Spec = text.parse().unwrap();
            assert_eq!(label(spec), want);
        }
        for format in Format::catalog() {
            assert_eq!(label(format.into()).parse::<Spec>().unwrap(), Spec::from(format));
        }
    }
}
