//! Scaled rotary positions of a GGUF file as Hugging Face's `rope_scaling`.

use super::config::Tensors;
use super::meta::Meta;
use crate::error::{Result, invalid};
use crate::model::checkpoint::{Dtype, Element};
use serde_json::{Value, json};
use std::f64::consts::PI;

/// The tensor with a divisor for every frequency.
pub(crate) const FACTORS: &str = "rope_freqs.weight";

/// What divides the frequencies of a Llama 3.1 model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Llama3 {
    pub(crate) factor: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) original: f64,
}

impl Llama3 {
    /// `head_dim / 2` divisors: 1 for waves shorter than `original / high` positions, `factor` for those longer than
    /// `original / low`, and a smooth passage between (Grattafiori et al. 2024).
    pub(crate) fn divisors(&self, theta: f64, head_dim: usize) -> Vec<f32> {
        let divisor = |i: usize| {
            let wave = 2.0 * PI * theta.powf((2 * i) as f64 / head_dim as f64);
            if wave < self.original / self.high {
                return 1.0;
            }
            if wave > self.original / self.low {
                return self.factor as f32;
            }
            let smooth = (self.original / wave - self.low) / (self.high - self.low);
            (1.0 / ((1.0 - smooth) / self.factor + smooth)) as f32
        };
        (0..head_dim / 2).map(divisor).collect()
    }
}

/// `rope_scaling`, or null where nothing is scaled.
pub(super) fn scaling(
    meta: &Meta<'_>,
    key: &dyn Fn(&str) -> String,
    tensors: &Tensors<'_>,
    head_dim: usize,
) -> Result<Value> {
    let label = meta.label();
    let kind = meta.text(&key("rope.scaling.type"))?;
    let factor = meta.float(&key("rope.scaling.factor"))?;
    let old_factor = meta.float(&key("rope.scale_linear"))?;
    let original = meta.number(&key("rope.scaling.original_context_length"))?;
    let attention = meta.float(&key("rope.scaling.attn_factor"))?.unwrap_or(1.0);
    let fast = meta.float(&key("rope.scaling.yarn_beta_fast"))?;
    let slow = meta.float(&key("rope.scaling.yarn_beta_slow"))?;
    // Says that the model was trained with it, which changes nothing.
    meta.flag(&key("rope.scaling.finetuned"))?;
    if let Some(tensor) = tensors.get(FACTORS) {
        if kind.is_some_and(|kind| kind != "none") {
            invalid!("{label}: `{FACTORS}` together with scaling of the type {kind:?} is not supported");
        }
        if tensor.element != Element::Plain(Dtype::F32) || tensor.shape != [head_dim / 2] {
            invalid!(
                "{label}: `{FACTORS}` is {} {:?}; want F32 [{}]",
                tensor.element,
                tensor.shape,
                head_dim / 2
            );
        }
        // The values are compared when the bytes are at hand.
        return Ok(Value::Null);
    }
    match (kind, factor.or(old_factor)) {
        (None | Some("none"), None) => Ok(Value::Null),
        (None | Some("none"), Some(1.0)) => Ok(Value::Null),
        (Some("linear"), Some(factor)) => Ok(json!({"rope_type": "linear", "factor": factor})),
        // Versions before there were types.
        (None, Some(factor)) if old_factor.is_some() => Ok(json!({"rope_type": "linear", "factor": factor})),
        (Some("yarn"), Some(factor)) => {
            let Some(original) = original else {
                invalid!("{label}: `{}` is missing", key("rope.scaling.original_context_length"));
            };
            let mut scaling = json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                "attention_factor": attention * (1.0 + 0.1 * factor.ln()),
            });
            for (name, value) in [("beta_fast", fast), ("beta_slow", slow)] {
                if let Some(value) = value {
                    scaling[name] = json!(value);
                }
            }
            Ok(scaling)
        }
        (kind, factor) => invalid!(
            "{label}: rotary positions are scaled by {} with factor {factor:?}, which is not supported; supported are \
             linear, yarn and the factors of Llama 3.1",
            kind.unwrap_or("no type")
        ),
    }
}

/// `rope_scaling` of the file's divisors: they must be those of Llama 3.1 for some original context.
pub(super) fn llama3(divisors: &[f32], theta: f64, head_dim: usize, label: &str) -> Result<Value> {
    if divisors.iter().all(|&divisor| divisor == 1.0) {
        return Ok(Value::Null);
    }
    let largest = divisors.iter().copied().fold(1.0f32, f32::max);
    for power in 4..=22 {
        let candidate =
            Llama3 { factor: largest.into(), low: 1.0, high: 4.0, original: f64::from(1u32 << power) };
        let own = candidate.divisors(theta, head_dim);
        if own.iter().zip(divisors).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()) {
            return Ok(json!({
                "rope_type": "llama3", "factor": candidate.factor, "low_freq_factor": candidate.low,
                "high_freq_factor": candidate.high, "original_max_position_embeddings": 1u32 << power,
            }));
        }
    }
    invalid!(
        "{label}: the divisors in `{FACTORS}` are not those of Llama 3.1 (low 1, high 4); others are not supported"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_of_llama_3_1_are_recognized() {
        let stated = Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let divisors = stated.divisors(500_000.0, 128);
        assert_eq!((divisors[0], divisors[63]), (1.0, 8.0));
        let found = llama3(&divisors, 500_000.0, 128, "x").unwrap();
        assert_eq!(found["original_max_position_embeddings"], 8192);
        assert_eq!(found["factor"], 8.0);
        let mut damaged = divisors;
        damaged[40] *= 1.01;
        assert!(llama3(&damaged, 500_000.0, 128, "x").is_err());
    }
}
