//! What starting costs, and after how many runs fusion and compilation have paid for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{Measurement, Unit};
use crate::engine::{Resident, SessionOptions};
use crate::error::{Error, Result, invalid};
use crate::format::Spec;
use crate::gpu::{Gpu, OpenOptions};
use crate::graph::{Assignment, Batch, Graph, Token};
use crate::model::Model;
use crate::run::Runner;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded after it.
    pub decode: usize,
    /// Cold starts.
    pub repeats: usize,
    /// Whether the CPU reference runs as well.
    pub reference: bool,
}

/// A way to run the model.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `fused`, `naive`, `reference`
    pub name: String,
    /// Pipelines that it needs.
    pub pipelines: usize,
    /// Seconds: `open` a device, `load` weights, compile and plan `cold`, the same with the pipelines known to the device
    /// (`warm`), the same on a new device that finds them in the pipeline cache (`cached`), one `run`.
    pub measurements: BTreeMap<&'static str, Measurement>,
    /// Why there is no time.
    pub failure: Option<String>,
}

/// After how many runs one way has caught up with another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Payback {
    /// Costs more to start.
    pub of: String,
    /// Costs more to run.
    pub over: String,
    /// Runs, from 1; `None` where it never does.
    pub runs: Option<u64>,
}

impl Row {
    fn median(&self, name: &str) -> f64 {
        self.measurements.get(name).map_or(0.0, |m| m.summary.median)
    }

    /// Seconds of `n` runs on a device that is open, cold start included.
    pub fn total(&self, n: u64) -> f64 {
        self.median("load") + self.median("cold") + n as f64 * self.median("run")
    }
}

/// From how many runs on `of` takes no longer than `over`, compilation included.
pub fn payback(of: &Row, over: &Row) -> Payback {
    let (start, gain) = (of.total(0) - over.total(0), over.median("run") - of.median("run"));
    let runs = match (start <= 0.0, gain > 0.0) {
        (true, true) => Some(1),
        (false, true) => Some((start / gain).ceil().max(1.0) as u64),
        // Cheaper to start and dearer to run: ahead at first.
        (true, false) if start + gain.abs() <= 0.0 => Some(1),
        _ => None,
    };
    Payback { of: of.name.clone(), over: over.name.clone(), runs }
}

/// A whole generation: prompt and decoding.
fn generation(runner: &mut Runner<'_>, graph: &Graph, options: Options) -> Result<f64> {
    let vocabulary = graph.token_count().max(1);
    let token = |at: usize| Token::new(((at * 7919 + 13) % vocabulary) as u32, 0, at as u32);
    let start = Instant::now();
    let prompt = (0..options.prompt).map(token).collect();
    runner.step(&Batch::new(prompt, vec![options.prompt as u32 - 1]))?;
    runner.argmax()?;
    for at in options.prompt..options.prompt + options.decode {
        runner.step(&Batch::new(vec![token(at)], vec![0]))?;
        runner.argmax()?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Starts `model` in `spec` anew, on new devices, fused and naive, and on the CPU reference where that is asked for.
///
/// # Errors
/// When the context is too short or the device fails.
pub fn run(device: &OpenOptions, model: &Model, spec: Spec, options: Options) -> Result<Vec<Row>> {
    let graph = Arc::new(model.graph().clone());
    let context = options.prompt + options.decode;
    if options.prompt == 0 || context > graph.context {
        invalid!(
            "{} + {} tokens; model `{}` has a context of {}: give smaller --pp and --tg",
            options.prompt,
            options.decode,
            model.name(),
            graph.context
        );
    }
    let assignment = Assignment::uniform(&graph, &model.native_formats(), spec);
    let mut rows = Vec::new();
    for (name, fused) in [("fused", true), ("naive", false)] {
        let mut seconds: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let mut pipelines = 0;
        for _ in 0..options.repeats.max(1) {
            let mut note = |what, start: Instant| {
                seconds.entry(what).or_default().push(start.elapsed().as_secs_f64());
            };
            let folder = tempfile::tempdir()
                .map_err(|e| Error::io("cannot make a folder in", std::env::temp_dir(), e))?;
            let cache = Some(folder.path().to_owned());
            let device = OpenOptions { pipeline_cache: cache, ..device.clone() };
            let start = Instant::now();
            let gpu = Arc::new(Gpu::open(device.clone())?);
            note("open", start);
            let session = SessionOptions { sequences: 1, context, fused, keep: false };
            let start = Instant::now();
            let mut resident = Resident::new(gpu.clone(), None).with_stacks();
            let mut runner = Runner::gpu(&mut resident, graph.clone(), model, &assignment, session)?;
            gpu.wait()?;
            note("load", start);
            for what in ["cold", "warm"] {
                if what == "warm" {
                    runner = Runner::gpu(&mut resident, graph.clone(), model, &assignment, session)?;
                }
                let start = Instant::now();
                runner.prepare(options.prompt, 1)?;
                runner.prepare(1, 1)?;
                note(what, start);
            }
            // The first one compiles the reduction that picks tokens.
            generation(&mut runner, &graph, options)?;
            for _ in 0..2 {
                let time = generation(&mut runner, &graph, options)?;
                seconds.entry("run").or_default().push(time);
            }
            pipelines = gpu.pipeline_count();
            // The last one to hold the device writes the cache.
            drop((runner, resident, gpu));
            let mut resident = Resident::new(Arc::new(Gpu::open(device)?), None).with_stacks();
            let mut runner = Runner::gpu(&mut resident, graph.clone(), model, &assignment, session)?;
            let start = Instant::now();
            runner.prepare(options.prompt, 1)?;
            runner.prepare(1, 1)?;
            seconds.entry("cached").or_default().push(start.elapsed().as_secs_f64());
        }
        rows.push(Row { name: name.to_owned(), pipelines, measurements: measured(seconds), failure: None });
    }
    if options.reference {
        let mut seconds: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let start = Instant::now();
        let mut runner = Runner::reference(&graph, model, &assignment, 1)?;
        seconds.entry("load").or_default().push(start.elapsed().as_secs_f64());
        for _ in 0..2 {
            let time = generation(&mut runner, &graph, options)?;
            seconds.entry("run").or_default().push(time);
        }
        let measurements = measured(seconds);
        rows.push(Row { name: "reference".to_owned(), pipelines: 0, measurements, failure: None });
    }
    Ok(rows)
}

fn measured(seconds: BTreeMap<&'static str, Vec<f64>>) -> BTreeMap<&'static str, Measurement> {
    let of = |(name, values): (&'static str, Vec<f64>)| {
        Measurement::of(Unit::Seconds, &values).map(|time| (name, time))
    };
    seconds.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, load: f64, cold: f64, run: f64) -> Row {
        let seconds = BTreeMap::from([("load", vec![load]), ("cold", vec![cold]), ("run", vec![run])]);
        Row { name: name.to_owned(), pipelines: 1, measurements: measured(seconds), failure: None }
    }

    #[test]
    fn a_dearer_start_pays_when_its_runs_have_saved_as_much() {
        let (a, b) = (row("a", 1.0, 4.0, 1.0), row("b", 1.0, 1.0, 2.0));
        // 5 + n <= 2 + 2 n from n = 3 on.
        assert_eq!(payback(&a, &b), Payback { of: "a".into(), over: "b".into(), runs: Some(3) });
        assert!(a.total(3) <= b.total(3) && a.total(2) > b.total(2));
        assert_eq!(payback(&a, &row("c", 1.0, 1.0, 0.5)).runs, None);
        assert_eq!(payback(&a, &row("d", 1.0, 9.0, 2.0)).runs, Some(1));
    }
}
