//! `anybit formats table`: formats with size, noise, loss and divergence, as Markdown.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::{EvalReport, MemoryReport, evaluate_all};
use anybit::format::{Format, Spec};
use anybit::gpu::Gpu;
use anybit::graph::Assignment;
use anybit::model::Model;
use anybit::run::Runner;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::super::common::{self, DeviceArgs, print};
use super::super::eval::batching;
use super::super::examples::{Amount, ExampleArgs, ExampleSet};
use super::journal::{Journal, fnv1a};
use super::{EMBEDDED, Entry, Source};

/// The formats of the table in README.md.
const USUAL: [&str; 41] = [
    "f32",
    "f16",
    "bf16",
    "int8",
    "int4",
    "int2",
    "int8(scale=row)",
    "int4(scale=row)",
    "int4(group=128)",
    "int4(group=64)",
    "int4(group=32)",
    "int3(group=32)",
    "uint4",
    "mxint8",
    "mxint6",
    "mxint4",
    "mxint_cuda(group=32)",
    "mxfp8_e4m3",
    "mxfp6_e2m3",
    "mxfp4",
    "nvfp4",
    "nf4",
    "iq4_nl",
    "q4_0",
    "q8_0",
    "base11(layout=9in32,group=256)",
    "base11(layout=9in32,group=128)",
    "base11",
    "radix(base=5)",
    "radix(base=9)",
    "ternary_mean(group=128)",
    "binary_mean(group=128)",
    "integer(8,8)",
    "minifloat_ieee(8,4)",
    "log(8)",
    "block_fp(4,8,none,[1,32])",
    "block_minifloat_corrected(6,3,8,[1,16])",
    "qlinear(bits=8)",
    "qlinear(bits=4)",
    "int4(group=128)@int8",
    "mxint8@mxint8",
];

/// Formats that run side by side, so that the f32 model runs once for all of them.
const BESIDE: usize = 4;
/// Shape of the entries that carry the noise; it appears nowhere.
const SHAPE: (usize, usize) = (4096, 4096);

/// Measure formats on a model and a text, as a table in Markdown
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit formats table --journal table.jsonl
  anybit formats table int4 mxfp4 \"int4(group=128)@int8\" --windows 32
  anybit formats table --model path/to/folder --text sample.txt --all

Loss, KL and agreement are those of `anybit eval`, SQNR is that of `anybit formats --model`. Without SPECs these are \
the formats of the table in the README. A run with --journal can be stopped at any time: the next one with the same \
file, model, text and device measures only what is missing. Kernels are not part of that: remove the file when they \
have changed.")]
pub(crate) struct Args {
    /// Formats to measure
    #[arg(value_name = "SPEC")]
    specs: Vec<Spec>,
    /// Measure every format with its usual parameters
    #[arg(long, conflicts_with = "specs")]
    all: bool,
    /// Model folder; not a packed file
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_value = EMBEDDED, default_missing_value = EMBEDDED)]
    model: PathBuf,
    #[command(flatten)]
    examples: ExampleArgs,
    /// Keep finished rows in this file, and take them from it
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// JSON list of objects with `format` and `loss`: adds a column of losses computed elsewhere on the whole text
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What rows are measured on.
struct Setting<'a> {
    model: &'a Model,
    set: ExampleSet,
    gpu: Option<std::sync::Arc<Gpu>>,
    fused: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let reference = args.reference.as_deref().map(losses).transpose()?;
    let specs = specs(args)?;
    let source = Source::open(&args.model)?;
    let Source::Model(model) = &source else {
        bail!("{} holds tensors but no model; give a model folder", args.model.display());
    };
    let set = args.examples.read(model, args.model == Path::new(EMBEDDED), Amount::All)?;
    let (whole, available) = (set.rest.is_empty(), set.available());
    let gpu = args.device.open()?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(model));
    common::note("text", &set.line());
    let setting = Setting { model, set, gpu, fused: !args.device.naive };

    // f32 comes last: its signal says which weights these are.
    let mut entries: Vec<Entry> =
        specs.iter().copied().chain([Spec::from(Format::F32)]).map(|spec| Entry::new(spec, SHAPE)).collect();
    source.measure(&mut entries)?;
    let signal = entries.pop().and_then(|entry| entry.sqnr?.ok()).map(|sqnr| sqnr.signal);
    let mut journal = match &args.journal {
        Some(path) => Some(Journal::open(path, &setting.key(signal))?),
        None => None,
    };
    let rows = measure(&setting, &entries, &mut journal)?;
    if args.json {
        let json = json!({
            "model": model.name(), "windows": setting.set.examples.len(), "windows_available": available,
            "backend": common::backend_name(setting.gpu.as_deref()),
            "adapter": setting.gpu.as_ref().map(|gpu| gpu.adapter()), "formats": rows,
        });
        print(&format!("{json}\n"))?;
    } else {
        print(&markdown(&rows, reference.as_deref(), whole))?;
    }
    Ok(true)
}

fn specs(args: &Args) -> Result<Vec<Spec>> {
    if args.all {
        return Ok(Format::catalog().into_iter().map(Spec::from).collect());
    }
    match args.specs.as_slice() {
        [] => Ok(USUAL.iter().map(|text| text.parse()).collect::<anybit::Result<_>>()?),
        specs => Ok(specs.to_vec()),
    }
}

/// Losses by spec.
fn losses(path: &Path) -> Result<Vec<(Spec, f64)>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anybit::Error::io("cannot read the reference", path, error))?;
    let want =
        || format!("{}: want a JSON list like [{{\"format\": \"int4\", \"loss\": 3.3}}]", path.display());
    let figures: Value = serde_json::from_str(&text).with_context(want)?;
    let mut losses = Vec::new();
    for figure in figures.as_array().with_context(want)? {
        let (format, loss) = (figure["format"].as_str(), figure["loss"].as_f64());
        let (format, loss) = format.zip(loss).with_context(want)?;
        losses.push((format.parse::<Spec>().with_context(want)?, loss));
    }
    Ok(losses)
}

impl Setting<'_> {
    /// What the figures of a row depend on besides its spec.
    fn key(&self, signal: Option<f64>) -> Value {
        let ids = self.set.examples.iter().flat_map(|example| example.inputs.iter().chain(&example.targets));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.model.name(),
            "signal": signal,
            "text": fnv1a(ids.flat_map(|id| id.to_le_bytes())),
            "windows": self.set.examples.len(),
            "device": common::device_line(self.gpu.as_deref()),
            "fused": self.fused,
        })
    }
}

/// One row per entry, from the journal where it has it.
fn measure(setting: &Setting<'_>, entries: &[Entry], journal: &mut Option<Journal>) -> Result<Vec<Value>> {
    let known = |entry: &Entry| journal.as_ref()?.row(&entry.spec.to_string()).cloned();
    let mut rows: Vec<Option<Value>> = entries.iter().map(known).collect();
    let pending: Vec<usize> = (0..rows.len()).filter(|&index| rows[index].is_none()).collect();
    if pending.len() < rows.len() {
        common::note("journal", &format!("{} of {} rows", rows.len() - pending.len(), rows.len()));
    }
    let model = setting.model;
    let (batching, longest) = batching(model, &setting.set.examples, setting.gpu.as_deref());
    let options =
        SessionOptions { sequences: batching.sequences, context: longest, fused: setting.fused, keep: false };
    // What has been measured is not needed again, apart from f32.
    let f32_bytes: usize = model.graph().weights.iter().map(|w| w.rows * w.cols * 4).sum();
    let budget = f32_bytes as u64 * (BESIDE as u64 + 1);
    let mut resident = setting.gpu.clone().map(|gpu| Resident::new(gpu, Some(budget)));
    let mut baseline: Option<Runner<'_>> = None;
    let start = Instant::now();
    let mut done = rows.len() - pending.len();
    for part in pending.chunks(BESIDE) {
        let mut runners = Vec::new();
        let mut running = Vec::new();
        for &index in part {
            let entry = &entries[index];
            let assignment = Assignment::uniform(model.graph(), &model.native_formats(), entry.spec);
            let runner = MemoryReport::new(model.graph(), &assignment, 1, longest, 1)
                .map_err(anyhow::Error::from)
                .and_then(|memory| {
                    Ok((memory, common::runner(model, resident.as_mut(), &assignment, options)?))
                });
            match runner {
                Ok((memory, runner)) => {
                    runners.push(runner);
                    running.push((index, memory));
                }
                // A device that fails fails for all formats.
                Err(error) if is_unavailable(&error) => return Err(error),
                Err(error) => {
                    let error = common::error_line(&error);
                    rows[index] = Some(json!({ "spec": entry.spec.to_string(), "error": error }));
                }
            }
        }
        if baseline.is_none() && !runners.is_empty() {
            let f32 = common::f32_assignment(model);
            baseline = Some(common::runner(model, resident.as_mut(), &f32, options)?);
        }
        let bar = common::progress(setting.set.predictions() as u64, "evaluating");
        let mut tick = |n: usize| bar.set_position(n as u64);
        let reports = match runners.is_empty() {
            true => Vec::new(),
            false => {
                evaluate_all(&mut runners, baseline.as_mut(), &setting.set.examples, batching, &mut tick)?
            }
        };
        bar.finish_and_clear();
        for ((index, memory), report) in running.into_iter().zip(reports) {
            let row = row(&entries[index], &memory, &report);
            if let Some(journal) = journal {
                journal.add(row.clone())?;
            }
            rows[index] = Some(row);
        }
        done += part.len();
        let names: Vec<&str> = part.iter().map(|&index| entries[index].label.as_str()).collect();
        let seconds = start.elapsed().as_secs_f64();
        common::note("done", &format!("{done} of {} rows, {seconds:.0} s: {}", rows.len(), names.join(", ")));
    }
    Ok(rows.into_iter().flatten().collect())
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(anybit::Error::Unavailable(_))))
}

fn row(entry: &Entry, memory: &MemoryReport, report: &EvalReport) -> Value {
    let sqnr = entry.sqnr.as_ref().and_then(|sqnr| sqnr.as_ref().ok());
    json!({
        "spec": entry.spec.to_string(),
        "bits_per_weight": memory.bits_per_weight,
        "bytes": memory.bytes,
        "sqnr_db": sqnr.map(|sqnr| sqnr.decibels()),
        "mse": sqnr.map(|sqnr| sqnr.mse()),
        "loss": report.loss,
        "baseline_loss": report.baseline_loss,
        "perplexity": report.perplexity,
        "kl": report.kl,
        "top1_agreement": report.top1_agreement,
        "tokens": report.predictions,
        "windows": report.examples,
        "error": Value::Null,
    })
}

/// The table; with `reference` its column, which is empty unless the whole text was evaluated.
fn markdown(rows: &[Value], reference: Option<&[(Spec, f64)]>, whole: bool) -> String {
    let (header, rule) = if reference.is_some() { (" reference |", "--:|") } else { ("", "") };
    let mut text = format!(
        "| format | bits per weight | MB | SQNR in dB | loss |{header} perplexity | KL to f32 | top-1 agreement |\n\
         |---|--:|--:|--:|--:|{rule}--:|--:|--:|\n"
    );
    let mut notes = String::new();
    for row in rows {
        let spec = row["spec"].as_str().unwrap_or_default();
        let label = spec.parse().map_or_else(|_| spec.to_owned(), super::entry::label);
        if let Some(error) = row["error"].as_str() {
            notes += &format!("\n`{label}` cannot be measured: {error}\n");
        }
        let number = |key: &str, decimals: usize| {
            row[key].as_f64().map_or_else(String::new, |value| format!("{value:.decimals$}"))
        };
        let megabytes = row["bytes"].as_f64().map_or_else(String::new, |bytes| format!("{:.2}", bytes / 1e6));
        let decibels = match (row["mse"].as_f64(), row["sqnr_db"].as_f64()) {
            (Some(0.0), _) => "exact".to_owned(),
            (_, Some(decibels)) => format!("{decibels:.2}"),
            _ => String::new(),
        };
        let agreement = row["top1_agreement"]
            .as_f64()
            .map_or_else(String::new, |share| format!("{:.2} %", share * 100.0));
        let elsewhere = reference.map(|losses| {
            let same = losses.iter().find(|(other, _)| whole && other.to_string() == spec);
            same.map_or_else(|| "  |".to_owned(), |(_, loss)| format!(" {loss:.4} |"))
        });
        text += &format!(
            "| `{label}` | {} | {megabytes} | {decibels} | {} |{} {} | {} | {agreement} |\n",
            number("bits_per_weight", 3),
            number("loss", 4),
            elsewhere.unwrap_or_default(),
            number("perplexity", 2),
            number("kl", 5),
        );
    }
    text + &notes
}
