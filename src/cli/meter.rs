//! What the verbs that measure many assignments share: the text, the device memory, the cache of packed weights.

use std::path::PathBuf;
use std::sync::Arc;

use anybit::gpu::Gpu;
use anybit::graph::Assignment;
use anybit::model::{Example, Model};
use anybit::search::{
    Costs, DeviceEvaluator, DeviceOptions, Evaluator, Outcome, Packer, ReferenceEvaluator, Usage, Variant,
};
use anyhow::{Context as _, Result, bail};

use super::common;

/// Where packed weights stay and how much of the device they may have.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MeterArgs {
    /// Most bytes of packed weights kept on the device, e.g. 4e9, 500MB, 2GiB; beyond it variants are evicted
    /// [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    pub(crate) device_memory: Option<u64>,
    /// Folder in which packed weights are kept by content [default: anybit in the user's cache folder]
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_cache")]
    pub(crate) cache: Option<PathBuf>,
    /// Pack weights anew
    #[arg(long)]
    pub(crate) no_cache: bool,
}

impl MeterArgs {
    /// Where packed weights are kept.
    pub(crate) fn packer<'a>(&self, model: &'a Model) -> Result<Packer<'a>> {
        if self.no_cache {
            return Ok(Packer::new(model, None)?);
        }
        if let Some(folder) = &self.cache {
            return Ok(Packer::new(model, Some(folder.clone()))?);
        }
        // Without a home there is no cache; one that cannot be made is no reason to stop either.
        let folder = common::cache_folder().map(|folder| folder.join("packed"));
        Ok(Packer::new(model, folder).or_else(|_| Packer::new(model, None))?)
    }
}

/// A number of bytes, with a unit of powers of 1000 or 1024.
pub(crate) fn byte_count(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number of bytes; want e.g. 1500000, 1.5e6, 1.5MB or 1.5MiB");
    let text = text.trim();
    let at = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1048576.0,
        "gib" => 1073741824.0,
        _ => return Err(wrong()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * factor <= 2f64.powi(63) => {
            Ok((number * factor).round() as u64)
        }
        _ => Err(wrong()),
    }
}

/// Packs `variants` with a progress bar.
pub(crate) fn pack(packer: &Packer, costs: &mut Costs, variants: &[Variant]) -> Result<()> {
    let bar = common::progress(variants.len() as u64, "packing");
    let facts = packer.prepare(variants, &|| bar.inc(1));
    bar.finish_and_clear();
    costs.extend(
        facts.context("a format of the space cannot hold a layer; remove it, or give the layer others")?,
    );
    Ok(())
}

/// Either evaluator.
pub(crate) enum Meter<'a> {
    Device(Box<DeviceEvaluator<'a>>),
    Reference(Box<ReferenceEvaluator<'a>>),
}

impl<'a> Meter<'a> {
    pub(crate) fn new(
        gpu: Option<Arc<Gpu>>,
        model: &'a Model,
        packer: &'a Packer<'a>,
        costs: Costs,
        examples: &[Example],
        options: DeviceOptions,
    ) -> Result<Self> {
        Ok(match gpu {
            Some(gpu) => {
                Self::Device(Box::new(DeviceEvaluator::new(gpu, model, packer, costs, examples, options)?))
            }
            None if options.latency_tokens.is_some() => {
                bail!("latency is that of a device, and this is the CPU reference; leave latency out")
            }
            None => Self::Reference(Box::new(ReferenceEvaluator::new(model, packer, costs, examples)?)),
        })
    }

    pub(crate) fn baseline_loss(&self) -> f64 {
        match self {
            Self::Device(device) => device.baseline_loss(),
            Self::Reference(reference) => reference.baseline_loss(),
        }
    }

    pub(crate) fn baseline_accuracy(&self) -> f64 {
        match self {
            Self::Device(device) => device.baseline_accuracy(),
            Self::Reference(reference) => reference.baseline_accuracy(),
        }
    }

    /// The same weights on other examples.
    pub(crate) fn on(self, model: &'a Model, examples: &[Example], in_flight: usize) -> Result<Self> {
        Ok(match self {
            Self::Device(device) => Self::Device(Box::new(device.on(model, examples, in_flight)?)),
            Self::Reference(reference) => Self::Reference(Box::new(reference.on(examples)?)),
        })
    }

    /// Seconds of a pass of `tokens` tokens as a whole and as the sum of its steps; `None` on the reference.
    pub(crate) fn latency(&mut self, assignment: &Assignment, tokens: usize) -> Result<Option<(f64, f64)>> {
        match self {
            Self::Device(device) => Ok(Some(device.latency(assignment, tokens)?)),
            Self::Reference(_) => Ok(None),
        }
    }

    /// Seconds of every weight in such a pass, and of all other steps.
    pub(crate) fn layer_times(
        &mut self,
        assignment: &Assignment,
        tokens: usize,
    ) -> Result<Option<(Vec<f64>, f64)>> {
        match self {
            Self::Device(device) => {
                let time = device.layer_times(assignment, tokens)?;
                Ok(Some((time.weights, time.rest)))
            }
            Self::Reference(_) => Ok(None),
        }
    }

    /// Has the device ready for `assignments`.
    pub(crate) fn warm_up(&mut self, assignments: &[Assignment]) -> Result<()> {
        match self {
            Self::Device(device) => Ok(device.warm_up(assignments)?),
            Self::Reference(_) => Ok(()),
        }
    }
}

impl Evaluator for Meter<'_> {
    fn evaluate(&mut self, assignments: &[Assignment]) -> anybit::Result<Vec<Outcome>> {
        match self {
            Self::Device(device) => device.evaluate(assignments),
            Self::Reference(reference) => reference.evaluate(assignments),
        }
    }

    fn usage(&self) -> Usage {
        match self {
            Self::Device(device) => device.usage(),
            Self::Reference(reference) => reference.usage(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::byte_count;

    #[test]
    fn byte_counts() {
        for (text, want) in
            [("12", 12), ("1.5e6", 1_500_000), ("2 MB", 2_000_000), ("1KiB", 1024), ("1.5GiB", 1_610_612_736)]
        {
            assert_eq!(byte_count(text), Ok(want), "{text}");
        }
        for text in ["", "0", "-1", "MB", "1TB", "1e400", "nan", "1.5.2"] {
            assert!(byte_count(text).is_err(), "{text}");
        }
    }
}
