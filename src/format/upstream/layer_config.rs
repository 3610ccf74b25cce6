//! Layers from the names and configurations of MASE.

use serde_json::Value;

use super::layer::{Layer, Quantizer};
use crate::error::{Error, Result, invalid};
use crate::format::element::{Element, default_bias};

/// A configuration with the name of its layer, for messages.
struct Config<'a> {
    layer: &'a str,
    values: &'a Value,
}

impl Config<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &str) -> Result<&Value> {
        let missing = || Error::Invalid(format!("{}: no `{key}` in its configuration; add it", self.layer));
        self.get(key).ok_or_else(missing)
    }

    fn wrong<T>(&self, key: &str, got: &Value, want: &str) -> Result<T> {
        invalid!("{}: `{key}` is {got}: want {want}", self.layer);
    }

    fn number<T: TryFrom<i64>>(&self, key: &str) -> Result<T> {
        let value = self.required(key)?;
        match value.as_i64().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => self.wrong(key, value, "a whole number in range"),
        }
    }

    fn flag(&self, key: &str, default: Option<bool>) -> Result<bool> {
        let value = match (self.get(key), default) {
            (None, Some(default)) => return Ok(default),
            (None, None) => self.required(key)?,
            (Some(value), _) => value,
        };
        value.as_bool().map_or_else(|| self.wrong(key, value, "true or false"), Ok)
    }

    /// The bias of an exponent; none, as null or as text, is the default one.
    fn bias(&self, key: &str, exponent_width: u8) -> Result<i32> {
        match self.get(key) {
            None => Ok(default_bias(exponent_width)),
            Some(Value::String(text)) if text == "none" || text == "None" => Ok(default_bias(exponent_width)),
            Some(_) => self.number(key),
        }
    }

    fn block_size(&self, key: &str) -> Result<Vec<i32>> {
        let value = self.required(key)?;
        let size = |value: &Value| value.as_i64().and_then(|size| i32::try_from(size).ok());
        let sizes: Option<Vec<i32>> = match value {
            Value::Array(sizes) => sizes.iter().map(size).collect(),
            other => size(other).map(|size| vec![size]),
        };
        sizes.map_or_else(|| self.wrong(key, value, "a list of sizes"), Ok)
    }

    /// `frac_width` defaults to half the width there.
    fn integer(&self, name: &str) -> Result<Quantizer> {
        let width: u8 = self.number(&format!("{name}_width"))?;
        let key = format!("{name}_frac_width");
        let frac_width = if self.get(&key).is_some() { self.number(&key)? } else { i16::from(width / 2) };
        let floor = self.flag("floor", Some(false))?;
        Ok(Quantizer::Element(Element::Integer { width, frac_width, signed: true, floor }))
    }

    fn minifloat(&self, name: &str, ieee: bool) -> Result<Quantizer> {
        let width = self.number(&format!("{name}_width"))?;
        let exponent_width = self.number(&format!("{name}_exponent_width"))?;
        let exponent_bias = self.bias(&format!("{name}_exponent_bias"), exponent_width)?;
        Ok(Quantizer::Element(if ieee {
            Element::MinifloatIeee { width, exponent_width, exponent_bias }
        } else {
            Element::MinifloatDenorm { width, exponent_width, exponent_bias }
        }))
    }

    fn log(&self, name: &str) -> Result<Quantizer> {
        let width: u8 = self.number(&format!("{name}_width"))?;
        let exponent_bias = self.bias(&format!("{name}_exponent_bias"), width.saturating_sub(1))?;
        Ok(Quantizer::Element(Element::Log { width, exponent_bias }))
    }

    fn block(&self, name: &str, element: impl Fn(&Self, &str) -> Result<Element>) -> Result<Quantizer> {
        Ok(Quantizer::Block {
            element: element(self, name)?,
            block_size: self.block_size(&format!("{name}_block_size"))?,
            // Activations skip the batch, weights and biases have none.
            skip_first_dim: name == "data_in" && self.flag("data_in_skip_first_dim", Some(true))?,
        })
    }

    fn block_fp(&self, name: &str) -> Result<Element> {
        let exponent_width = self.number(&format!("{name}_exponent_width"))?;
        Ok(Element::BlockFp {
            width: self.number(&format!("{name}_width"))?,
            exponent_width,
            exponent_bias: self.bias(&format!("{name}_exponent_bias"), exponent_width)?,
        })
    }

    fn block_minifloat(&self, name: &str) -> Result<Element> {
        Ok(Element::BlockMinifloat {
            width: self.number(&format!("{name}_width"))?,
            exponent_width: self.number(&format!("{name}_exponent_width"))?,
            exponent_bias_width: self.number(&format!("{name}_exponent_bias_width"))?,
        })
    }

    fn block_log(&self, name: &str) -> Result<Element> {
        Ok(Element::BlockLog {
            width: self.number(&format!("{name}_width"))?,
            exponent_bias_width: self.number(&format!("{name}_exponent_bias_width"))?,
        })
    }

    fn binary(&self, name: &str) -> Result<Quantizer> {
        let key = format!("{name}_stochastic");
        if self.flag(&key, None)? {
            return self.wrong(&key, &Value::Bool(true), "false: a random result cannot be compared");
        }
        Ok(Quantizer::Binary { bipolar: self.flag(&format!("{name}_bipolar"), None)? })
    }

    /// The MX layers quantize the weight always, the others where they are configured; `gptq` leaves weight
    /// and bias alone.
    fn mx(&self, name: &str, block_dim: i32, fp: bool) -> Result<Quantizer> {
        let weights = name != "data_in";
        let block_size = format!("{name}_block_size");
        let width = format!("{name}_{}", if fp { "exponent_width" } else { "width" });
        let absent = self.get(&block_size).is_none() || self.get(&width).is_none();
        if weights && self.flag("gptq", Some(false))? || name != "weight" && absent {
            return Ok(Quantizer::Pass);
        }
        let block_size = self.number(&block_size)?;
        if fp {
            let fraction_width = self.number(&format!("{name}_frac_width"))?;
            return Ok(Quantizer::MxFp {
                exponent_width: self.number(&width)?,
                fraction_width,
                block_size,
                block_dim,
            });
        }
        let quantile_search = weights && self.flag("clip_search", Some(false))?;
        Ok(Quantizer::MxInt { width: self.number(&width)?, block_size, block_dim, quantile_search })
    }
}

impl Layer {
    /// The layer `LinearInteger`, `LinearMinifloatDenorm`, `LinearMinifloatIEEE`, `LinearLog`,
    /// `LinearBlockFP`, `LinearBlockMinifloat`, `LinearBlockLog`, `LinearBinary`, `LinearBinaryScaling`,
    /// `LinearBinaryResidualSign`, `LinearTernary`, `LinearMXInt` or `LinearMXFP` with the keys of its MASE
    /// configuration (`data_in_width`, …).
    ///
    /// Quirks: [`Quantizer::Binary`] of `LinearBinaryScaling` covers weight, x *and* bias without any scale;
    /// without `binary_training` the binary layers only clamp the weight. The MX layers of MASE quantize
    /// their weight when a state is loaded; here they always do.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown layer and for keys that are missing or out of range.
    pub fn from_config(name: &str, config: &Value) -> Result<Self> {
        let c = Config { layer: name, values: config };
        if c.flag("bypass", Some(false))? {
            return Self::all(|_| Ok(Quantizer::Pass));
        }
        match name {
            "LinearInteger" => {
                let output =
                    if c.get("data_out_width").is_some() { c.integer("data_out")? } else { Quantizer::Pass };
                Ok(Self { output, ..Self::all(|name| c.integer(name))? })
            }
            "LinearMinifloatDenorm" => Self::all(|name| c.minifloat(name, false)),
            "LinearMinifloatIEEE" => Self::all(|name| c.minifloat(name, true)),
            "LinearLog" => Self::all(|name| c.log(name)),
            "LinearBlockFP" => Self::all(|name| c.block(name, Config::block_fp)),
            "LinearBlockMinifloat" => Self::all(|name| c.block(name, Config::block_minifloat)),
            "LinearBlockLog" => Self::all(|name| c.block(name, Config::block_log)),
            "LinearBinary" => Ok(Self { weight: c.binary("weight")?, ..Self::all(|_| Ok(Quantizer::Pass))? }),
            "LinearBinaryScaling" if c.flag("binary_training", None)? => Self::all(|name| c.binary(name)),
            "LinearBinaryScaling" => {
                Ok(Self { weight: Quantizer::Clamp, ..Self::all(|_| Ok(Quantizer::Pass))? })
            }
            "LinearBinaryResidualSign" => {
                let levels = if c.get("data_in_levels").is_some() { c.number("data_in_levels")? } else { 2 };
                let x = match c.flag("data_in_residual_sign", Some(true))? {
                    true => Quantizer::ResidualSign { levels },
                    false => Quantizer::Pass,
                };
                let training = c.flag("binary_training", None)?;
                let weight = if training { c.binary("weight")? } else { Quantizer::Clamp };
                Ok(Self { x, weight, ..Self::all(|_| Ok(Quantizer::Pass))? })
            }
            "LinearTernary" => {
                let scaled = c.flag("weight_scaling_factor", None)?;
                Ok(Self { weight: Quantizer::Ternary { scaled }, ..Self::all(|_| Ok(Quantizer::Pass))? })
            }
            "LinearMXInt" | "LinearMXFP" => {
                let fp = name == "LinearMXFP";
                Ok(Self {
                    x: c.mx("data_in", -1, fp)?,
                    weight: c.mx("weight", 1, fp)?,
                    bias: c.mx("bias", 0, fp)?,
                    output: Quantizer::Pass,
                })
            }
            _ => invalid!(
                "unknown layer `{name}`; known: LinearInteger, LinearMinifloatDenorm, LinearMinifloatIEEE, LinearLog, \
                 LinearBlockFP, LinearBlockMinifloat, LinearBlockLog, LinearBinary, LinearBinaryScaling, \
                 LinearBinaryResidualSign, LinearTernary, LinearMXInt, LinearMXFP"
            ),
        }
    }

    /// Each operand by its name in a configuration.
    fn all(quantizer: impl Fn(&str) -> Result<Quantizer>) -> Result<Self> {
        Ok(Self {
            x: quantizer("data_in")?,
            weight: quantizer("weight")?,
            bias: quantizer("bias")?,
            output: Quantizer::Pass,
        })
    }
}
