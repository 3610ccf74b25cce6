//! From a problem on the command line to something that can be measured.

use std::sync::Arc;

use anybit::gpu::Gpu;
use anybit::model::{Example, Model, Unit};
use anybit::search::{
    Costs, DeviceOptions, Evaluator as _, Measurement, Objective, Packer, Problem, Quality, Space,
};
use anyhow::{Result, bail};

use super::super::examples::OF_A_TRIAL;
use super::super::meter::{self, Meter};
use super::super::{common, eval};
use super::args::{ProblemArgs, Settings};

/// Everything a search needs that does not change while it runs, apart from the weights.
pub(crate) struct Setup {
    pub(crate) model: Model,
    pub(crate) gpu: Option<Arc<Gpu>>,
    pub(crate) space: Space,
    pub(crate) objective: Objective,
    /// The windows or labelled texts that trials are measured on.
    pub(crate) examples: Vec<Example>,
    /// Others of the same file, for the final measurement; the same where it has no more.
    pub(crate) held_out: Vec<Example>,
    /// Whether those are others.
    pub(crate) has_held_out: bool,
    /// What one prediction is about.
    pub(crate) unit: Unit,
    /// `windows` or `examples`.
    pub(crate) noun: &'static str,
    pub(crate) text_label: String,
}

/// Windows of the final measurement.
const FINAL_WINDOWS: usize = 48;
/// Labelled texts of the final measurement.
const FINAL_EXAMPLES: usize = 2048;

impl Setup {
    pub(crate) fn new(problem: &ProblemArgs, settings: &mut Settings) -> Result<Self> {
        let model = problem.model.load()?;
        if !eval::is_unquantized(&model) {
            bail!("model `{}` is quantized already; give the original checkpoint", model.name());
        }
        let objective: Objective = settings.objective.parse()?;
        let space = Space::new(model.graph(), &model.native_formats(), &settings.space_text())?;
        let is_embedded = problem.model.model.is_none();
        let set = problem.examples.read(&model, is_embedded, OF_A_TRIAL)?;
        if objective.names_quality(Quality::Error) && set.unit == Unit::Token {
            bail!(
                "objective accuracy is that of a classifier on labelled texts (--data); on a text use kl or loss, which \
                 tell more than the share of tokens that are guessed"
            );
        }
        let (noun, cut, text_label) = (set.noun(), set.cut, set.label.clone());
        let (examples, mut rest, unit) = (set.examples, set.rest, set.unit);
        if cut > 0 {
            eprintln!("NOTE: {cut} of {} texts are longer than the context and were cut", examples.len());
        }
        match unit {
            Unit::Token => rest.truncate(FINAL_WINDOWS),
            Unit::Example => thin_out(&mut rest, FINAL_EXAMPLES),
        }
        let has_held_out = !rest.is_empty();
        let held_out = if has_held_out { rest } else { examples.clone() };
        let gpu = problem.device.open()?;
        if objective.wants_latency() && gpu.is_none() {
            bail!("objective latency is that of a device, and this is the CPU reference; leave latency out");
        }
        let model_hash = model.content_hash();
        let text_hash = Example::content_hash(&examples);
        for (what, got, want) in
            [("model", &model_hash, &settings.model_hash), ("text", &text_hash, &settings.text_hash)]
        {
            if !want.is_empty() && got != want {
                bail!(
                    "the {what} is not the one this study was begun with: its content has the hash {}…, the study's {}…; \
                     give the original {what}, or begin another study",
                    &got[..12],
                    &want[..12.min(want.len())]
                );
            }
        }
        (settings.model_hash, settings.text_hash) = (model_hash, text_hash);
        Ok(Self { model, gpu, space, objective, examples, held_out, has_held_out, unit, noun, text_label })
    }

    /// Says what is about to happen.
    pub(crate) fn announce(&self, settings: &Settings) {
        common::note("adapter", &common::device_line(self.gpu.as_deref()));
        common::note("model", &common::model_line(&self.model));
        let tokens: usize = self.examples.iter().map(|example| example.inputs.len()).sum();
        common::note(
            "text",
            &format!("{}: {} {}, {tokens} tokens a trial", self.text_label, self.examples.len(), self.noun),
        );
        let candidates: usize = self.space.dimensions.iter().map(|d| d.candidates.len()).sum();
        common::note(
            "space",
            &format!(
                "{} choices, {candidates} candidates in all, 10^{:.0} assignments",
                self.space.dimensions.len(),
                self.space.size().log10()
            ),
        );
        common::note("objective", &settings.objective);
        for why in self.space.left_out.iter().take(5) {
            common::note("left out", why);
        }
        if self.space.left_out.len() > 5 {
            common::note("left out", &format!("and {} more", self.space.left_out.len() - 5));
        }
    }

    /// Packs every variant of the space.
    pub(crate) fn pack(&self, packer: &Packer) -> Result<Costs> {
        let mut costs = Costs::new(self.model.graph());
        meter::pack(packer, &mut costs, &self.space.variants())?;
        Ok(costs)
    }

    /// The problem as samplers see it.
    pub(crate) fn problem(&self, settings: &Settings, costs: &Costs) -> Result<Problem> {
        let dimensions = || self.space.dimensions.iter().enumerate();
        let of = |f: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
            dimensions()
                .map(|(d, dimension)| (0..dimension.candidates.len()).map(|c| f(d, c)).collect())
                .collect()
        };
        let bytes = dimensions()
            .map(|(d, dimension)| {
                (0..dimension.candidates.len()).map(|c| costs.bytes(&self.space, d, c)).collect()
            })
            .collect();
        let fixed_bytes = costs.fixed_bytes(&self.space)?;
        let weights = self.space.dimensions.iter().flat_map(|dimension| &dimension.weights);
        let weights: usize = weights
            .map(|&id| self.model.graph().weights[id].rows * self.model.graph().weights[id].cols)
            .sum();
        let by_bits =
            settings.max_bits_per_weight.map(|bits| fixed_bytes + (bits * weights as f64 / 8.0) as u64);
        let problem = Problem {
            bytes,
            noise: of(&|d, c| costs.noise(&self.space, d, c)),
            fixed_bytes,
            max_bytes: settings.max_bytes.or(by_bits),
            objective: self.objective.clone(),
            uniform: self.space.uniform().into_iter().map(|(_, point)| point).collect(),
            seed: settings.seed,
            trials: settings.trials,
        };
        let least = problem.least_bytes();
        if let Some(most) = problem.max_bytes.filter(|&most| most < least) {
            bail!(
                "a budget of {most} bytes is smaller than the smallest assignment of this space, {least} bytes ({:.4} \
                 bits per weight in the searched layers); raise it to that, or add formats with fewer bits",
                (least - fixed_bytes) as f64 * 8.0 / weights.max(1) as f64
            );
        }
        Ok(problem)
    }

    /// Something that measures on the examples of trials.
    pub(crate) fn meter<'a>(
        &'a self,
        packer: &'a Packer<'a>,
        costs: Costs,
        problem: &ProblemArgs,
        settings: &Settings,
    ) -> Result<Meter<'a>> {
        let options = DeviceOptions {
            memory: problem.meter.device_memory,
            in_flight: settings.batch,
            fused: !settings.naive,
            latency_tokens: self.objective.wants_latency().then_some(settings.latency_tokens),
        };
        let mut meter = Meter::new(self.gpu.clone(), &self.model, packer, costs, &self.examples, options)?;
        // Every variant, so that trials upload nothing.
        let most = self.space.dimensions.iter().map(|d| d.candidates.len()).max().unwrap_or(0);
        let nth = |n: usize| -> Vec<usize> {
            self.space.dimensions.iter().map(|d| n.min(d.candidates.len() - 1)).collect()
        };
        let bar = common::progress(most as u64, "uploading");
        for n in 0..most {
            meter.warm_up(&[self.space.assignment(&nth(n))])?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(meter)
    }

    /// One spec everywhere, where it can be measured, with its text.
    pub(crate) fn uniform(&self, meter: &mut Meter) -> Result<Vec<(String, Measurement)>> {
        let mut uniform = Vec::new();
        for (spec, point) in self.space.uniform() {
            let outcome = meter.evaluate(&[self.space.assignment(&point)])?.swap_remove(0);
            uniform.extend(outcome.ok().map(|measurement| (spec, measurement)));
        }
        Ok(uniform)
    }
}

/// Keeps `most` of `examples`, taken evenly.
fn thin_out(examples: &mut Vec<Example>, most: usize) {
    let total = examples.len();
    if total <= most {
        return;
    }
    let mut i = 0;
    examples.retain(|_| {
        i += 1;
        i * most / total > (i - 1) * most / total
    });
}
