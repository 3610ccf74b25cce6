//! Whole models: prefill and decoding, time to the first token, loading, memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{Measurement, Unit, peak_host_bytes, reset_host_peak};
use crate::engine::{Resident, SessionOptions};
use crate::error::{Result, invalid};
use crate::format::Spec;
use crate::gpu::Gpu;
use crate::graph::{Assignment, Batch, Token};
use crate::model::Model;
use crate::reference;
use crate::run::Runner;

/// Tokens that are compared with the CPU reference.
const CHECKED: usize = 8;
/// Largest model, in weights, whose reference is worth waiting for.
const MAX_CHECKED: usize = 200_000_000;
/// Largest NMSE of logits, and with rounded activations or products in f16: a value on a tie becomes another code, and so does what follows.
const TOLERANCE: (f64, f64) = (1e-6, 1e-2);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded one after another, from an empty context.
    pub decode: usize,
    /// How often, after once to warm up.
    pub repeats: usize,
    /// Fused kernels.
    pub fused: bool,
}

/// A model in one format with its times.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `shakespeare int4(group=32) fused`
    pub name: String,
    /// Name of the model.
    pub model: String,
    /// Text of the spec.
    pub format: String,
    /// Weights of the model.
    pub parameters: usize,
    /// Bytes uploaded to the device.
    pub uploaded: u64,
    /// Seconds to encode and upload them.
    pub load_seconds: f64,
    /// Seconds to plan and to compile.
    pub compile_seconds: f64,
    /// Most bytes on the device.
    pub device_bytes: u64,
    /// Most bytes of the process while this format ran; of the whole run where the system cannot count anew.
    pub host_bytes: Option<u64>,
    /// Weight bytes that decoding reads per second.
    pub decode_bandwidth: Option<f64>,
    /// NMSE of the logits against the CPU reference; `None` for models too large for it, or where they are no numbers.
    pub nmse: Option<f64>,
    /// Tokens per second as `pp128` and `tg64`, and seconds to the first token as `first token`.
    pub measurements: BTreeMap<String, Measurement>,
    /// Why there is no time.
    pub failure: Option<String>,
}

/// `count` tokens of sequence 0 from `first` on, with an output for the last.
fn batch(vocabulary: usize, first: usize, count: usize) -> Batch {
    let id = |at: usize| (at * 7919 + 13) % vocabulary.max(1);
    let tokens = (first..first + count).map(|at| Token::new(id(at) as u32, 0, at as u32)).collect();
    Batch::new(tokens, vec![count as u32 - 1])
}

/// Runs `model` with all block linears in `spec`.
///
/// # Errors
/// When the context is too short, weights do not take the format, or the device fails.
pub fn run(gpu: &Arc<Gpu>, model: &Model, spec: Spec, options: Options) -> Result<Row> {
    let Options { prompt, decode, repeats, fused } = options;
    let graph = Arc::new(model.graph().clone());
    // Few rows are multiplied in f32 in any case.
    let checked = if gpu.half() { 2 * CHECKED } else { CHECKED }.min(graph.context);
    let context = prompt.max(decode).max(checked);
    if context > graph.context {
        invalid!(
            "{context} tokens; model `{}` has a context of {}: give smaller --pp and --tg",
            model.name(),
            graph.context
        );
    }
    let parameters: usize = graph.weights.iter().map(|weight| weight.rows * weight.cols).sum();
    let assignment = Assignment::uniform(&graph, &model.native_formats(), spec);
    let vocabulary = graph.token_count();
    gpu.wait()?;
    gpu.reset_peak();
    reset_host_peak();
    let start = Instant::now();
    let mut resident = Resident::new(gpu.clone(), None).with_stacks();
    let session = SessionOptions { sequences: 1, context, fused, keep: false };
    let mut runner = Runner::gpu(&mut resident, graph.clone(), model, &assignment, session)?;
    gpu.wait()?;
    let load_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for tokens in [prompt, checked, 1] {
        runner.prepare(tokens, 1)?;
    }
    let compile_seconds = start.elapsed().as_secs_f64();
    let (name, plan) = (model.name(), if fused { "fused" } else { "naive" });
    let mut row = Row {
        name: format!("{name} {spec} {plan}"),
        model: name.to_owned(),
        format: spec.to_string(),
        parameters,
        uploaded: resident.uploaded_bytes(),
        load_seconds,
        compile_seconds,
        device_bytes: 0,
        host_bytes: None,
        decode_bandwidth: None,
        nmse: None,
        measurements: BTreeMap::new(),
        failure: None,
    };
    let prefill = |runner: &mut Runner<'_>, reads: bool| -> Result<f64> {
        let batch = batch(vocabulary, 0, prompt);
        let start = Instant::now();
        runner.step(&batch)?;
        if reads {
            drop(runner.argmax()?)
        } else {
            gpu.wait()?
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let decoding = |runner: &mut Runner<'_>| -> Result<f64> {
        let start = Instant::now();
        for at in 0..decode {
            runner.step(&batch(vocabulary, at, 1))?;
            runner.argmax()?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    prefill(&mut runner, true)?;
    let (mut pp, mut tg, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        pp.push(prompt as f64 / prefill(&mut runner, false)?);
        first.push(prefill(&mut runner, true)?);
        tg.push(decode as f64 / decoding(&mut runner)?);
    }
    // The reference holds all weights in f32, which is not what the format takes.
    row.device_bytes = gpu.peak_bytes();
    row.host_bytes = peak_host_bytes();
    row.check(&mut runner, model, &assignment, batch(vocabulary, 0, checked), gpu.half())?;
    if row.failure.is_none() {
        let rates = [(format!("pp{prompt}"), pp), (format!("tg{decode}"), tg)];
        for (name, values) in rates {
            let rate = Measurement::of(Unit::TokensPerSecond, &values);
            row.measurements.extend(rate.map(|rate| (name, rate)));
        }
        let first = Measurement::of(Unit::Seconds, &first);
        row.measurements.extend(first.map(|first| ("first token".to_owned(), first)));
        let rate = row.measurements.get(&format!("tg{decode}")).map(|m| m.summary.median);
        row.decode_bandwidth = rate.map(|rate| rate * row.uploaded as f64);
    }
    Ok(row)
}

impl Row {
    /// Compares logits with the reference where it takes seconds at most; that they are numbers in any case.
    fn check(
        &mut self,
        runner: &mut Runner<'_>,
        model: &Model,
        assignment: &Assignment,
        batch: Batch,
        half: bool,
    ) -> Result<()> {
        runner.step(&batch)?;
        let got = runner.logits()?;
        if let Some(at) = got.iter().position(|logit| !logit.is_finite()) {
            self.failure = Some(format!("logit {at} is {}", got[at]));
            return Ok(());
        }
        if self.parameters > MAX_CHECKED {
            return Ok(());
        }
        let mut truth = Runner::reference(model.graph(), model, assignment, 1)?;
        truth.step(&batch)?;
        let nmse = reference::nmse(&got, &truth.logits()?);
        let rounded = half || assignment.specs.iter().any(|spec| spec.activation.is_some());
        let limit = if rounded { TOLERANCE.1 } else { TOLERANCE.0 };
        self.nmse = Some(nmse).filter(|nmse| nmse.is_finite());
        if nmse.is_nan() || nmse > limit {
            self.failure = Some(format!("the logits have an NMSE of {nmse:.1e}; want {limit:.0e}"));
        }
        Ok(())
    }
}
