//! The text form of samplers: `tpe`, `tpe(multivariate=true,startup=20)`, `nsga2(population=20)`.

use std::fmt;
use std::str::FromStr;

use super::tpe::{Gamma, TpeOptions};
use super::{Auto, Grid, Nsga2, Random, Sampler, Sensitivity, Tpe};
use crate::error::{Error, Result, closest_names, invalid};
use crate::format::call::Call;

/// A sampler with its options, as text and ready to build.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SamplerSpec {
    /// `auto`: [`Auto`].
    #[default]
    Auto,
    /// `random`: [`Random`].
    Random,
    /// `grid`: [`Grid`].
    Grid,
    /// `tpe(...)`: [`Tpe`].
    Tpe(TpeOptions),
    /// `nsga2(population=N)`: [`Nsga2`].
    Nsga2 {
        /// Trials of a generation; `None`: by the number of trials.
        population: Option<usize>,
    },
    /// `sensitivity`: [`Sensitivity`].
    Sensitivity,
}

/// Names of the samplers.
pub const NAMES: [&str; 6] = ["auto", "random", "grid", "tpe", "nsga2", "sensitivity"];

const TPE_KEYS: &[&str] = &["multivariate", "startup", "gamma", "candidates", "prior", "hypervolume"];
const GAMMAS: [(&str, Gamma); 2] = [("optuna", Gamma::Optuna), ("hyperopt", Gamma::Hyperopt)];

impl SamplerSpec {
    /// The sampler.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn build(&self) -> Result<Box<dyn Sampler>> {
        Ok(match *self {
            Self::Auto => Box::new(Auto),
            Self::Random => Box::new(Random),
            Self::Grid => Box::new(Grid),
            Self::Tpe(options) => Box::new(Tpe::new(options)?),
            Self::Nsga2 { population } => Box::new(Nsga2::new(population)?),
            Self::Sensitivity => Box::new(Sensitivity),
        })
    }
}

impl FromStr for SamplerSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let call = Call::parse(text)?;
        let spec = match call.name {
            "auto" => call.expect(&[]).map(|_| Self::Auto)?,
            "random" => call.expect(&[]).map(|_| Self::Random)?,
            "grid" => call.expect(&[]).map(|_| Self::Grid)?,
            "tpe" => Self::Tpe(tpe(&known_keys(call, TPE_KEYS)?)?),
            "nsga2" => {
                let call = known_keys(call, &["population"])?;
                let population = call.get("population").map(|_| call.number("population", 0)).transpose()?;
                Self::Nsga2 { population }
            }
            "sensitivity" => call.expect(&[]).map(|_| Self::Sensitivity)?,
            other => {
                let short: String = other.chars().take(32).collect();
                let near = closest_names(&short.to_lowercase(), NAMES.into_iter(), 3).join(", ");
                invalid!("unknown sampler `{other}`; near names: {near}; all: {}", NAMES.join(", "))
            }
        };
        // Options out of range are errors of the text too.
        spec.build()?;
        Ok(spec)
    }
}

/// The call with its parameters named; a key that is none gets near ones.
fn known_keys<'a>(call: Call<'a>, keys: &'static [&'static str]) -> Result<Call<'a>> {
    if let Some(key) = call.keys().find(|key| !keys.contains(key)) {
        let near = closest_names(key, keys.iter().copied(), 2).join(", ");
        invalid!("`{}` has no parameter `{key}`; near: {near}; all: {}", call.name, keys.join(", "));
    }
    call.expect(keys)
}

fn tpe(call: &Call) -> Result<TpeOptions> {
    let usual = TpeOptions::default();
    let multivariate = call.get("multivariate").map(|_| call.flag("multivariate", false)).transpose()?;
    Ok(TpeOptions {
        multivariate,
        startup: call.number("startup", usual.startup)?,
        gamma: call.choice("gamma", &GAMMAS, usual.gamma)?,
        candidates: call.number("candidates", usual.candidates)?,
        prior: match call.get("prior") {
            Some(text) => text.parse().map_err(|_| call.bad("prior", text, "a positive number"))?,
            None => usual.prior,
        },
        hypervolume: call.flag("hypervolume", usual.hypervolume)?,
    })
}

impl fmt::Display for SamplerSpec {
    /// Options that are as usual are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options: Vec<String> = Vec::new();
        let name = match self {
            Self::Auto => "auto",
            Self::Random => "random",
            Self::Grid => "grid",
            Self::Tpe(tpe) => {
                let usual = TpeOptions::default();
                options.extend(tpe.multivariate.map(|on| format!("multivariate={on}")));
                let mut differs = |key, value: String, usual: String| {
                    if value != usual {
                        options.push(format!("{key}={value}"));
                    }
                };
                differs("startup", tpe.startup.to_string(), usual.startup.to_string());
                differs("gamma", tpe.gamma.to_string(), usual.gamma.to_string());
                differs("candidates", tpe.candidates.to_string(), usual.candidates.to_string());
                differs("prior", tpe.prior.to_string(), usual.prior.to_string());
                differs("hypervolume", tpe.hypervolume.to_string(), usual.hypervolume.to_string());
                "tpe"
            }
            Self::Nsga2 { population } => {
                options.extend(population.map(|size| format!("population={size}")));
                "nsga2"
            }
            Self::Sensitivity => "sensitivity",
        };
        f.write_str(name)?;
        if options.is_empty() { Ok(()) } else { write!(f, "({})", options.join(",")) }
    }
}

impl fmt::Display for Gamma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = GAMMAS.iter().find(|(_, gamma)| gamma == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, short) in [
            ("auto", "auto"),
            ("random", "random"),
            (" grid() ", "grid"),
            ("sensitivity", "sensitivity"),
            ("tpe", "tpe"),
            ("tpe(startup=10)", "tpe"),
            (
                "tpe(multivariate,startup=20,gamma=hyperopt)",
                "tpe(multivariate=true,startup=20,gamma=hyperopt)",
            ),
            ("tpe(multivariate=false, candidates=48)", "tpe(multivariate=false,candidates=48)"),
            ("tpe(prior=0.5,hypervolume=true)", "tpe(prior=0.5)"),
            ("tpe(hypervolume=false)", "tpe(hypervolume=false)"),
            ("nsga2", "nsga2"),
            ("nsga2(population=20)", "nsga2(population=20)"),
            ("nsga2(20)", "nsga2(population=20)"),
        ] {
            let spec: SamplerSpec = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(spec.to_string(), short);
            assert_eq!(spec.to_string().parse::<SamplerSpec>().unwrap(), spec);
            spec.build().unwrap();
        }
    }

    #[test]
    fn wrong_texts() {
        for (text, hint) in [
            ("tpr", "tpe"),
            ("sensitiv", "sensitivity"),
            ("", "name"),
            ("tpe(multivariat=true)", "near: multivariate"),
            ("tpe(gamma=hyper)", "optuna or hyperopt"),
            ("tpe(candidates=0)", "at least 1"),
            ("tpe(prior=-1)", "positive"),
            ("tpe(startup=x)", "whole number"),
            ("nsga2(population=1)", "at least 2"),
            ("nsga2(size=3)", "population"),
            ("grid(3)", "takes none"),
            ("grid(", "unbalanced"),
        ] {
            let error = text.parse::<SamplerSpec>().map(|spec| spec.to_string()).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
        for name in NAMES {
            assert_eq!(name.parse::<SamplerSpec>().unwrap().to_string(), name);
        }
    }
}
