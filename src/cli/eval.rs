//! `anybit eval`: how good a model is under a format.

use std::path::PathBuf;
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::{Batching, EvalReport, MemoryReport, evaluate, longest};
use anybit::gpu::Gpu;
use anybit::graph::{Assignment, Role};
use anybit::model::{Example, Model, Unit};
use anyhow::{Result, bail};
use serde_json::json;

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};
use super::examples::{Amount, ExampleArgs, ExampleSet};
use super::hub;
use super::latency::{self, LatencyArgs};

/// Bytes of logits per step on the CPU.
const REFERENCE_LOGITS: u64 = 64 << 20;

/// Measure a model on a text or on labelled texts: loss, accuracy, divergence from the f32 model, size
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit eval
  anybit eval --format \"base11(layout=9in32,group=256)\" --json
  anybit eval --model path/to/model --text sample.txt --format \"int4(group=128)@int8\"
  anybit eval --model packed.safetensors --baseline path/to/model --text sample.txt
  anybit eval --model path/to/classifier --data labelled.tsv --format int8
  anybit eval --latency --formats \"f32,int8,int4(group=32)\" --runs 5 --max-tokens 40

Without --format or --qconfig this measures what `anybit generate` would run: a packed file as it was packed, the \
block linears of any other model as int4(group=32), of a BigNet as base 11. `--format f32` measures the unquantized model. KL divergence \
and top-1 agreement compare with the f32 model, which runs beside it on the same executor; for a packed file that \
model is gone, so they need --baseline.

The text is cut into windows of the model's context (at most 2048 tokens, see --context), which predict every next \
token; what does not fill the last window is left out. Where the text holds <|endoftext|>, each document is a \
sequence of its own with a beginning-of-text token in front.

A classifier is measured on labelled texts (--data), lines of text<TAB>label or, for pairs, text<TAB>text<TAB>label; \
a label is the number or the name of a class. Quotes are plain text. A header of column names (sentence, label …) is \
recognized. Loss, KL and agreement are then those of the classes, per example. Texts longer than the model's context \
lose their end, which is said.

--latency runs greedy generation in several formats side by side and prints mean, median and spread of the end-to-end \
latency and of tokens per second, sizes estimated and as packed, and the texts.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    examples: ExampleArgs,
    /// Unquantized model to compare with [default: the model itself in f32]
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    latency: LatencyArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What the model is compared with.
enum Baseline {
    /// The model is the f32 model: nothing to run twice.
    Same,
    /// The model itself in other formats.
    Own(Assignment),
    /// Another model.
    Other(Box<Model>, Assignment),
    /// None, and why.
    Missing(String),
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if args.latency.is_asked() {
        return latency::run(&args.model, &args.device, &args.latency, args.json);
    }
    let model = args.model.load()?;
    let assignment = args.format.assignment(&model, model.default_spec())?;
    let baseline = baseline(args, &model, &assignment)?;
    let set = args.examples.read(&model, args.model.model.is_none(), Amount::All)?;
    let gpu = args.device.open()?;
    let (batching, longest) = batching(&model, &set.examples, gpu.as_deref());
    let graph = model.graph();
    let memory = MemoryReport::new(graph, &assignment, batching.sequences, longest, batching.tokens)?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("format", &common::mix_line(&model, &assignment));
    common::note("weights", &common::bytes_line(&memory));
    common::note("text", &set.line());
    if let Baseline::Missing(why) = &baseline {
        common::note("note", why);
    }
    eprintln!();

    let options = SessionOptions {
        sequences: batching.sequences,
        context: longest,
        fused: !args.device.naive,
        keep: false,
    };
    let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None).with_stacks());
    let mut runner = common::runner(&model, resident.as_mut(), &assignment, options)?;
    let uploaded = resident.as_ref().map_or(0, Resident::uploaded_bytes);
    let mut other_resident = gpu.clone().map(|gpu| Resident::new(gpu, None).with_stacks());
    let mut beside = match &baseline {
        Baseline::Same | Baseline::Missing(_) => None,
        Baseline::Own(assignment) => Some(common::runner(&model, resident.as_mut(), assignment, options)?),
        Baseline::Other(model, assignment) => {
            Some(common::runner(model, other_resident.as_mut(), assignment, options)?)
        }
    };
    let bar = common::progress(set.predictions() as u64, "evaluating");
    let start = Instant::now();
    let report =
        evaluate(&mut runner, beside.as_mut(), &set.examples, batching, &mut |n| bar.set_position(n as u64));
    bar.finish_and_clear();
    let mut report = report?;
    let seconds = start.elapsed().as_secs_f64();
    if matches!(baseline, Baseline::Same) {
        (report.kl, report.top1_agreement, report.baseline_loss) = (Some(0.0), Some(1.0), Some(report.loss));
    }
    let speed = report.predictions as f64 / seconds;
    if args.json {
        let mut json = json!({
            "loss": report.loss,
            "perplexity": report.perplexity,
            "kl": report.kl,
            "top1_agreement": report.top1_agreement,
            "baseline_loss": report.baseline_loss,
            "accuracy": report.accuracy,
            "bytes": memory.bytes,
            "f32_bytes": memory.f32_bytes,
            "bits_per_weight": memory.bits_per_weight,
            "model_bits_per_weight": memory.model_bits_per_weight,
            "uploaded_bytes": uploaded,
            "seconds": seconds,
            "adapter": gpu.as_ref().map(|gpu| gpu.adapter()),
            "backend": common::backend_name(gpu.as_deref()),
            "model": model.name(),
            "format": common::mix_json(&model, &assignment),
        });
        let counts = match set.unit {
            Unit::Token => json!({
                "tokens": report.predictions,
                "windows": report.examples,
                "windows_available": set.available(),
                "tokens_per_second": speed,
            }),
            Unit::Example => json!({
                "examples": report.examples,
                "examples_available": set.available(),
                "cut": set.cut,
                "examples_per_second": speed,
            }),
        };
        if let (Some(json), Some(counts)) = (json.as_object_mut(), counts.as_object()) {
            json.extend(counts.clone());
        }
        common::print(&format!("{json:#}\n"))?;
    } else {
        common::print(&table(&set, &report, &memory, uploaded))?;
        let both = if beside.is_some() { ", both models together" } else { "" };
        eprintln!();
        let unit = set.unit.name();
        common::note("time", &format!("{seconds:.2} s, {speed:.0} {unit}s/s{both}"));
    }
    if !report.loss.is_finite() {
        eprintln!("WARNING: the loss is not a number; the model's values overflowed in this format");
    }
    Ok(true)
}

/// Whether the f32 model can be had from `model`.
pub(crate) fn is_unquantized(model: &Model) -> bool {
    let pairs = model.graph().weights.iter().zip(model.native_formats());
    pairs.filter(|(w, _)| w.role != Role::Vector).all(|(_, format)| common::is_natural(format))
}

fn baseline(args: &Args, model: &Model, assignment: &Assignment) -> Result<Baseline> {
    if let Some(path) = &args.baseline {
        let other = Model::load(&hub::local(path)?)?;
        let (got, want) = (other.graph().output_width(), model.graph().output_width());
        if got != want {
            bail!(
                "the baseline {} has {got} tokens in its vocabulary, the model has {want}; give the checkpoint the \
                 model was made from",
                path.display()
            );
        }
        if !is_unquantized(&other) {
            bail!("the baseline {} is quantized itself; give the original checkpoint", path.display());
        }
        let assignment = common::f32_assignment(&other);
        return Ok(Baseline::Other(Box::new(other), assignment));
    }
    if !is_unquantized(model) && model.is_made_from_embedded() {
        let other = Model::embedded()?;
        let assignment = common::f32_assignment(&other);
        return Ok(Baseline::Other(Box::new(other), assignment));
    }
    if !is_unquantized(model) {
        return Ok(Baseline::Missing(
            "no KL and agreement: this file holds no f32 weights; name the original model with --baseline"
                .to_string(),
        ));
    }
    let f32 = common::f32_assignment(model);
    Ok(if f32 == *assignment { Baseline::Same } else { Baseline::Own(f32) })
}

/// How examples are batched, and the length of the longest one.
pub(crate) fn batching(model: &Model, examples: &[Example], gpu: Option<&Gpu>) -> (Batching, usize) {
    let room = gpu.map_or(REFERENCE_LOGITS, Gpu::max_binding);
    (Batching::new(model.graph(), examples, room), longest(examples))
}

fn table(set: &ExampleSet, report: &EvalReport, memory: &MemoryReport, uploaded: u64) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    let nats = |value: f64| format!("{value:.6} nats per {}", set.unit.name());
    let percent = |value: f64| format!("{:.2} %", value * 100.0);
    let mut rows = vec![
        ("loss", nats(report.loss)),
        ("loss in f32", or_dash(report.baseline_loss.map(nats))),
        ("perplexity", format!("{:.4}", report.perplexity)),
        ("KL to f32", or_dash(report.kl.map(nats))),
        ("top-1 agreement", or_dash(report.top1_agreement.map(percent))),
        ("top-1 accuracy", percent(report.accuracy)),
        ("tokens", format!("{} in {} windows", report.predictions, report.examples)),
        (
            "bits per weight",
            format!(
                "{:.4} in block linears, {:.4} in all",
                memory.bits_per_weight, memory.model_bits_per_weight
            ),
        ),
        ("bytes", common::bytes_line(memory)),
        ("uploaded", format!("{} of weights", common::bytes(uploaded))),
    ];
    if set.unit == Unit::Example {
        rows.retain(|(label, _)| *label != "perplexity");
        let correct = (report.accuracy * report.examples as f64).round();
        for row in &mut rows {
            match row.0 {
                "top-1 accuracy" => {
                    *row = ("accuracy", format!("{} ({correct} of {})", row.1, report.examples))
                }
                "tokens" => *row = ("examples", set.line()),
                "top-1 agreement" => row.0 = "agreement",
                _ => {}
            }
        }
    }
    rows.iter().map(|(label, value)| format!("{label:<16} {value}\n")).collect()
}
