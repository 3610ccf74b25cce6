//! Frequencies of rotary positions, plain and scaled. Formed as Hugging Face forms them, rounded to f32 at the same
//! places, because a long text multiplies every difference by its positions.

use crate::error::{Error, Result, invalid};
use crate::model::config::{Config, positive};
use serde_json::{Map, Value};
use std::f64::consts::PI;

/// Rotary positions of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotation {
    theta: f64,
    scaling: Scaling,
    /// Largest position for which this holds, plus 1.
    pub(super) context: usize,
}

/// How positions beyond those of the training are brought within.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scaling {
    /// Not at all.
    None,
    /// Frequencies divided by a factor (Chen et al. 2023).
    Linear { factor: f64 },
    /// Llama 3.1: long waves divided by `factor`, short ones kept, those between interpolated.
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
    /// YaRN (Peng et al. 2023): as the above, by a ramp over the dimensions; cosines and sines times `attention`.
    Yarn { factor: f64, attention: f64, fast: f64, slow: f64, original: f64, truncate: bool },
}

impl Rotation {
    /// What `rope_theta` and `rope_scaling`, or `rope_parameters` in newer files, say.
    pub(super) fn new(config: &Config, default_theta: f64) -> Result<Self> {
        let context = config.size("max_position_embeddings")?;
        let theta = config.positive("rope_theta", default_theta)?;
        let mut rotation = Self { theta, scaling: Scaling::None, context };
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = config.get(key) else { continue };
            let label = config.label();
            let Value::Object(entries) = value else {
                invalid!("{label}: `{key}` is {value}; want an object or null");
            };
            let before = rotation.scaling;
            Parameters { label, key, entries }.read(&mut rotation)?;
            match (before, rotation.scaling) {
                (Scaling::None, _) => {}
                (_, Scaling::None) => rotation.scaling = before,
                (before, now) if before == now => {}
                _ => {
                    invalid!("{label}: `rope_scaling` and `rope_parameters` differ; keep the one that holds")
                }
            }
        }
        Ok(rotation)
    }

    /// `head_dim / 2` frequencies in radians per position.
    pub(super) fn inverse_frequency(&self, head_dim: usize) -> Vec<f32> {
        let power = |i: usize| self.theta.powf(f64::from((2 * i) as f32 / head_dim as f32)) as f32;
        let plain = (0..head_dim / 2).map(|i| 1.0 / power(i));
        match self.scaling {
            Scaling::None => plain.collect(),
            Scaling::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = |f: f32| {
                    let wave = (2.0 * PI) as f32 / f;
                    if wave < (original / high) as f32 {
                        f
                    } else if wave > (original / low) as f32 {
                        f / factor as f32
                    } else {
                        let smooth = (original as f32 / wave - low as f32) / (high - low) as f32;
                        (1.0 - smooth) * f / factor as f32 + smooth * f
                    }
                };
                plain.map(scaled).collect()
            }
            Scaling::Yarn { factor, fast, slow, original, truncate, .. } => {
                let (low, high) = self.ramp(head_dim, (fast, slow), original, truncate);
                let scaled = |i: usize| {
                    let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    let kept = 1.0 - ramp;
                    1.0 / (factor as f32 * power(i)) * (1.0 - kept) + 1.0 / power(i) * kept
                };
                (0..head_dim / 2).map(scaled).collect()
            }
        }
    }

    /// The dimensions between which YaRN interpolates: those that turn `fast` and `slow` times over the original
    /// context (eq. 23 of the paper solved for the dimension).
    fn ramp(&self, head_dim: usize, turns: (f64, f64), original: f64, truncate: bool) -> (f64, f64) {
        let dimension =
            |turns: f64| head_dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (dimension(turns.0), dimension(turns.1));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
        if low == high { (low, high + 0.001) } else { (low, high) }
    }

    /// Factor on attention scores: rotated q and k are both longer by the square root of it.
    pub(super) fn score_factor(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { attention, .. } => attention * attention,
            _ => 1.0,
        }
    }
}

/// The entries of `rope_scaling` or `rope_parameters`.
struct Parameters<'a> {
    label: &'a str,
    key: &'a str,
    entries: &'a Map<String, Value>,
}

impl Parameters<'_> {
    fn read(&self, rotation: &mut Rotation) -> Result<()> {
        let kind = match self.get("rope_type").or_else(|| self.get("type")) {
            None => "default",
            Some(Value::String(kind)) => kind.as_str(),
            Some(kind) => invalid!("{}: the type in `{}` is {kind}; want a name", self.label, self.key),
        };
        let own: &[&str] = match kind {
            "default" => &[],
            "linear" => &["factor"],
            "dynamic" => &["factor", "original_max_position_embeddings"],
            "llama3" => {
                &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
            }
            "yarn" => &[
                "factor",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "original_max_position_embeddings",
                "truncate",
            ],
            _ => invalid!(
                "{}: `{}` asks for rotary positions of the type `{kind}`; supported are default, linear, dynamic, \
                 llama3 and yarn",
                self.label,
                self.key
            ),
        };
        let general = ["type", "rope_type", "rope_theta", "partial_rotary_factor"];
        for (name, value) in self.entries {
            let known = own.contains(&name.as_str()) || general.contains(&name.as_str());
            if !known && !value.is_null() {
                invalid!(
                    "{}: `{}.{name}` is not understood for the type `{kind}` (its value is {value}); it might change \
                     the results",
                    self.label,
                    self.key
                );
            }
        }
        if self.optional("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
            invalid!("{}: `{}.partial_rotary_factor` is not 1; heads are turned whole", self.label, self.key);
        }
        if let Some(theta) = self.optional("rope_theta")? {
            rotation.theta = theta;
        }
        let context = rotation.context;
        let original = self.optional("original_max_position_embeddings")?;
        rotation.scaling = match kind {
            "linear" => Scaling::Linear { factor: self.number("factor")? },
            "dynamic" => {
                self.number("factor")?;
                // Scales only behind the context it was trained for, where this model ends.
                rotation.context = original.map_or(context, |original| context.min(original as usize)).max(1);
                Scaling::None
            }
            "llama3" => self.llama3(original)?,
            "yarn" => {
                let scaling = self.yarn(original.unwrap_or(context as f64))?;
                if let (Scaling::Yarn { factor, .. }, Some(original)) = (scaling, original) {
                    // Files state either the old context or the new one.
                    rotation.context = context.max((original * factor).min(f64::from(1 << 24)) as usize);
                }
                scaling
            }
            _ => Scaling::None,
        };
        Ok(())
    }

    fn llama3(&self, original: Option<f64>) -> Result<Scaling> {
        let (low, high) = (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
        if low >= high {
            invalid!(
                "{}: `{}`: low_freq_factor {low} is not below high_freq_factor {high}",
                self.label,
                self.key
            );
        }
        let Some(original) = original else { return self.missing("original_max_position_embeddings") };
        Ok(Scaling::Llama3 { factor: self.number("factor")?, low, high, original })
    }

    fn yarn(&self, original: f64) -> Result<Scaling> {
        let factor = self.number("factor")?;
        let length = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        // 0 counts as nothing here, as it does in the program the files are made for.
        let some = |name: &str| match self.get(name) {
            Some(zero) if zero.as_f64() == Some(0.0) => Ok(None),
            _ => self.optional(name),
        };
        let attention = match (self.optional("attention_factor")?, some("mscale")?, some("mscale_all_dim")?) {
            (Some(attention), ..) => attention,
            (None, Some(scale), Some(all)) => length(scale) / length(all),
            _ => length(1.0),
        };
        let truncate = match self.get("truncate") {
            None => true,
            Some(Value::Bool(truncate)) => *truncate,
            Some(value) => {
                invalid!("{}: `{}.truncate` is {value}; want true or false", self.label, self.key)
            }
        };
        let (fast, slow) = (some("beta_fast")?.unwrap_or(32.0), some("beta_slow")?.unwrap_or(1.0));
        Ok(Scaling::Yarn { factor, attention, fast, slow, original, truncate })
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.entries.get(name).filter(|value| !value.is_null())
    }

    fn optional(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || {
            Error::Invalid(format!(
                "{}: `{}.{name}` is {value}; want a positive number",
                self.label, self.key
            ))
        };
        positive(value).map(Some).ok_or_else(wrong)
    }

    fn number(&self, name: &str) -> Result<f64> {
        match self.optional(name)? {
            Some(number) => Ok(number),
            None => self.missing(name),
        }
    }

    fn missing<T>(&self, name: &str) -> Result<T> {
        invalid!("{}: `{}.{name}` is missing; want a positive number", self.label, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rotation(text: Value) -> Result<Rotation> {
        Rotation::new(&Config::parse(text.to_string().as_bytes(), "config.json").unwrap(), 10000.0)
    }

    #[test]
    fn inverse_frequencies_of_torch() {
        // torch: 1.0 / (10000.0 ** (torch.arange(0, 8, 2).float() / 8))
        let plain = rotation(json!({"max_position_embeddings": 32})).unwrap();
        assert_eq!(plain.inverse_frequency(8), [1.0, 0.1, 0.01, 0.001]);
    }

    #[test]
    fn both_spellings_say_the_same() {
        let scaling = json!({"rope_type": "linear", "factor": 4.0});
        let old = json!({"max_position_embeddings": 32, "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}});
        let new = json!({"max_position_embeddings": 32, "rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 500}});
        let both = json!({"max_position_embeddings": 32, "rope_theta": 500.0, "rope_scaling": scaling, "rope_parameters": scaling});
        assert_eq!(rotation(old.clone()).unwrap(), rotation(new).unwrap());
        assert_eq!(rotation(old).unwrap(), rotation(both).unwrap());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let of = |scaling: Value| {
            rotation(json!({"max_position_embeddings": 32, "rope_scaling": scaling})).unwrap_err().to_string()
        };
        for (scaling, want) in [
            (json!({"type": "longrope", "factor": 2.0}), "type `longrope`; supported are default, linear"),
            (json!({"rope_type": "linear"}), "`rope_scaling.factor` is missing"),
            (json!({"rope_type": "linear", "factor": -1}), "`rope_scaling.factor` is -1; want a positive"),
            (
                json!({"rope_type": "linear", "factor": 2, "beta_fast": 3}),
                "`rope_scaling.beta_fast` is not understood",
            ),
            (
                json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 1, "high_freq_factor": 4}),
                "original_max",
            ),
            (
                json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}),
                "not below",
            ),
            (json!({"rope_type": 3}), "the type in `rope_scaling` is 3"),
            (json!("linear"), "want an object or null"),
            (
                json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
                "partial_rotary_factor` is not 1",
            ),
            (json!({"rope_type": "yarn", "factor": 2, "truncate": 1}), "truncate` is 1"),
        ] {
            let error = of(scaling);
            assert!(error.contains(want), "{error}\nwant {want}");
        }
    }

    #[test]
    fn two_spellings_that_differ_are_refused() {
        let of = |new: Value| {
            rotation(json!({"max_position_embeddings": 32, "rope_scaling": {"type": "linear", "factor": 4.0},
                "rope_parameters": new}))
        };
        assert!(
            of(json!({"rope_type": "linear", "factor": 2.0})).unwrap_err().to_string().contains("differ")
        );
        assert_eq!(of(json!({"rope_type": "default"})).unwrap(), of(json!(null)).unwrap());
    }

    #[test]
    fn contexts_follow_the_scaling() {
        let of =
            |scaling: Value| rotation(json!({"max_position_embeddings": 32768, "rope_scaling": scaling}));
        let context = |scaling: Value| of(scaling).unwrap().context;
        let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768});
        assert_eq!(context(yarn), 131_072);
        let stated = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192});
        assert_eq!(context(stated), 32768);
        assert_eq!(context(json!({"type": "dynamic", "factor": 4.0})), 32768);
        assert_eq!(context(json!(null)), 32768);
    }
}
