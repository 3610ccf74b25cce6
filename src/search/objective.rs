//! What a search minimises.

use std::fmt;
use std::str::FromStr;

use super::Measurement;
use crate::error::{Error, Result, invalid};

/// How good an assignment is, apart from its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Cross-entropy, nats per prediction.
    Loss,
    /// Divergence from the f32 model, nats per prediction.
    Kl,
    /// Share of wrong predictions, `1 - accuracy`; its text form is `error`, and `accuracy` is read too.
    Error,
}

/// How the size of a model is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Packed bytes: codes, scales and padding, as on the device and in files.
    Packed,
    /// Weights at the nominal width of their format and everything else at 32 bits, scales not counted.
    Nominal,
}

/// One thing to minimise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Loss, divergence or error.
    Quality(Quality),
    /// Bytes of the model.
    Size(Size),
    /// Seconds of a forward pass.
    Latency,
}

/// What a search minimises: a weighted sum, or one or several metrics side by side (a Pareto front).
#[derive(Clone, Debug, PartialEq)]
pub enum Objective {
    /// `alpha * quality + (1 - alpha) * size / 2^20`.
    Scalar {
        /// Weight of the quality, 0 to 1.
        alpha: f64,
        /// The quality.
        quality: Quality,
        /// The size.
        size: Size,
    },
    /// One or several metrics.
    Metrics(Vec<Metric>),
}

impl Metric {
    /// Its value in `m`; infinite where it was not measured.
    pub fn value(self, m: &Measurement) -> f64 {
        match self {
            Self::Quality(quality) => quality.value(m),
            Self::Size(size) => size.bytes(m) as f64,
            Self::Latency => m.latency.unwrap_or(f64::INFINITY),
        }
    }
}

impl Quality {
    /// Its value in `m`.
    pub fn value(self, m: &Measurement) -> f64 {
        match self {
            Self::Loss => m.loss,
            Self::Kl => m.kl,
            Self::Error => 1.0 - m.accuracy,
        }
    }
}

impl Size {
    /// Its value in `m`.
    pub fn bytes(self, m: &Measurement) -> u64 {
        match self {
            Self::Packed => m.bytes,
            Self::Nominal => m.nominal_bytes,
        }
    }
}

impl Objective {
    /// What is minimised, in the order of [`Objective::names`].
    pub fn values(&self, m: &Measurement) -> Vec<f64> {
        match self {
            Self::Scalar { alpha, quality, size } => {
                let mebibytes = size.bytes(m) as f64 / f64::from(1 << 20);
                vec![alpha * quality.value(m) + (1.0 - alpha) * mebibytes]
            }
            Self::Metrics(metrics) => metrics.iter().map(|metric| metric.value(m)).collect(),
        }
    }

    /// The names of the values.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Scalar { .. } => vec![self.to_string()],
            Self::Metrics(metrics) => metrics.iter().map(Metric::to_string).collect(),
        }
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Scalar { .. } => 1,
            Self::Metrics(metrics) => metrics.len(),
        }
    }

    /// The quality it is about: the first one named, divergence where none is.
    pub fn quality(&self) -> Quality {
        match self {
            Self::Scalar { quality, .. } => *quality,
            Self::Metrics(metrics) => {
                let quality = metrics.iter().find_map(|metric| match metric {
                    Metric::Quality(quality) => Some(*quality),
                    _ => None,
                });
                quality.unwrap_or(Quality::Kl)
            }
        }
    }

    /// Whether `quality` is among the values.
    pub fn names_quality(&self, quality: Quality) -> bool {
        match self {
            Self::Scalar { quality: mine, .. } => *mine == quality,
            Self::Metrics(metrics) => metrics.contains(&Metric::Quality(quality)),
        }
    }

    /// Whether latency is among the values.
    pub fn wants_latency(&self) -> bool {
        matches!(self, Self::Metrics(metrics) if metrics.contains(&Metric::Latency))
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quality(Quality::Loss) => "loss",
            Self::Quality(Quality::Kl) => "kl",
            Self::Quality(Quality::Error) => "error",
            Self::Size(Size::Packed) => "bytes",
            Self::Size(Size::Nominal) => "nominal_bytes",
            Self::Latency => "latency",
        })
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.trim() {
            "loss" => Self::Quality(Quality::Loss),
            "kl" => Self::Quality(Quality::Kl),
            "error" | "accuracy" => Self::Quality(Quality::Error),
            "bytes" => Self::Size(Size::Packed),
            "nominal_bytes" => Self::Size(Size::Nominal),
            "latency" => Self::Latency,
            other => invalid!(
                "unknown objective `{other}`; want loss, kl, accuracy, bytes, nominal_bytes, latency, several of them separated by \
                 commas, or scalar(alpha=0.5)"
            ),
        })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar { alpha, quality, size } => {
                let (quality, size) = (Metric::Quality(*quality), Metric::Size(*size));
                write!(f, "scalar(alpha={alpha},quality={quality},size={size})")
            }
            Self::Metrics(metrics) => {
                let names: Vec<String> = metrics.iter().map(Metric::to_string).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

impl FromStr for Objective {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some(arguments) = text.strip_prefix("scalar").map(str::trim_start) {
            return scalar(text, arguments);
        }
        let metrics = text.split(',').map(str::parse).collect::<Result<Vec<Metric>>>()?;
        for (i, metric) in metrics.iter().enumerate() {
            if metrics[..i].contains(metric) {
                invalid!("objective `{text}` names {metric} twice");
            }
        }
        Ok(Self::Metrics(metrics))
    }
}

/// `(alpha=A,quality=loss|kl|accuracy,size=bytes|nominal_bytes)`, all of them optional.
fn scalar(text: &str, arguments: &str) -> Result<Objective> {
    let (mut alpha, mut quality, mut size) = (0.5, Quality::Loss, Size::Packed);
    let inner = match arguments.strip_prefix('(').map(|rest| rest.strip_suffix(')')) {
        Some(Some(inner)) => inner,
        None if arguments.is_empty() => "",
        _ => invalid!(
            "objective `{text}`; want scalar(alpha=A,quality=loss|kl|accuracy,size=bytes|nominal_bytes)"
        ),
    };
    for pair in inner.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or(("alpha", pair));
        match (key.trim(), value.trim()) {
            ("alpha", value) => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => alpha = number,
                _ => invalid!("objective `{text}`: alpha is `{value}`, want a number from 0 to 1"),
            },
            ("quality", "loss") => quality = Quality::Loss,
            ("quality", "kl") => quality = Quality::Kl,
            ("quality", "error" | "accuracy") => quality = Quality::Error,
            ("size", "bytes") => size = Size::Packed,
            ("size", "nominal_bytes") => size = Size::Nominal,
            (key, value) => {
                invalid!(
                    "objective `{text}`: got {key}={value}, want alpha=0…1, quality=loss|kl|accuracy, size=bytes|nominal_bytes"
                )
            }
        }
    }
    Ok(Objective::Scalar { alpha, quality, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement() -> Measurement {
        Measurement {
            loss: 3.5,
            kl: 0.25,
            agreement: 0.5,
            accuracy: 0.25,
            bytes: 3 << 20,
            nominal_bytes: 1 << 20,
            bits_per_weight: 4.0,
            latency: Some(0.5),
        }
    }

    #[test]
    fn text_and_values() {
        for (text, want) in [
            ("loss", vec![3.5]),
            ("kl,bytes", vec![0.25, f64::from(3 << 20)]),
            ("nominal_bytes, latency", vec![f64::from(1 << 20), 0.5]),
            ("scalar(alpha=0.25)", vec![0.25 * 3.5 + 0.75 * 3.0]),
            ("accuracy,bytes", vec![0.75, f64::from(3 << 20)]),
            ("error", vec![0.75]),
            ("scalar(alpha=0.25,quality=accuracy)", vec![0.25 * 0.75 + 0.75 * 3.0]),
            ("scalar", vec![0.5 * 3.5 + 0.5 * 3.0]),
            ("scalar(0.2,quality=kl,size=nominal_bytes)", vec![0.2 * 0.25 + 0.8]),
        ] {
            let objective: Objective = text.parse().unwrap();
            assert_eq!(objective.values(&measurement()), want, "{text}");
            assert_eq!(objective.to_string().parse::<Objective>().unwrap(), objective);
            assert_eq!(objective.names().len(), objective.count());
        }
    }

    #[test]
    fn wrong_texts() {
        for text in [
            "",
            "los",
            "loss,loss",
            "error,accuracy",
            "scalar(alpha=2)",
            "scalar(alpha=x)",
            "scalar(",
            "scalarx",
            "scalar(beta=1)",
        ] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
