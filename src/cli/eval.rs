//! `anybit eval`: how good a model is under a format.

use std::path::PathBuf;
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::{Batching, EvalReport, MemoryReport, evaluate};
use anybit::gpu::Gpu;
use anybit::graph::{Assignment, Role};
use anybit::model::Model;
use anybit::model::embedded::heldout_text;
use anybit::model::text::{Window, windows};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};

/// Longest window without --context: loss changes little beyond it, and KV caches grow with it.
const WINDOW: usize = 2048;
/// Bytes of logits per step on the CPU.
const REFERENCE_LOGITS: u64 = 64 << 20;

/// Measure a model on a text: loss, perplexity, divergence from the f32 model, size
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit eval
  anybit eval --format \"base11(layout=9in32,group=256)\" --json
  anybit eval --model path/to/model --text sample.txt --format \"int4(group=128)@int8\"
  anybit eval --model packed.safetensors --baseline path/to/model --text sample.txt

Without --format or --qconfig this measures what `anybit generate` would run: a packed file as it was packed, the \
block linears of any other model as int4(group=32). `--format f32` measures the unquantized model. KL divergence \
and top-1 agreement compare with the f32 model, which runs beside it on the same executor; for a packed file that \
model is gone, so they need --baseline.

The text is cut into windows of the model's context (at most 2048 tokens, see --context), which predict every next \
token; what does not fill the last window is left out. Where the text holds <|endoftext|>, each document is a \
sequence of its own with a beginning-of-text token in front.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Unquantized model to compare with [default: the model itself in f32]
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What a model is to predict.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct TextArgs {
    /// UTF-8 text to predict [default: text that the embedded model was not trained on]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Evaluate only the first N windows of the text
    #[arg(long, value_name = "N", value_parser = common::positive)]
    windows: Option<usize>,
    /// Tokens per window [default: the model's context, at most 2048]
    #[arg(long, value_name = "N", value_parser = common::positive)]
    context: Option<usize>,
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
    let model = args.model.load()?;
    let assignment = args.format.assignment(&model, common::default_spec())?;
    let baseline = baseline(args, &model, &assignment)?;
    let (windows, available) = args.text.windows(&model, args.model.model.is_none())?;
    let gpu = args.device.open()?;
    let (batching, longest) = batching(&model, &windows, gpu.as_deref());
    let graph = model.graph();
    let memory = MemoryReport::new(graph, &assignment, batching.sequences, longest, batching.tokens)?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("format", &common::mix_line(&model, &assignment));
    common::note("weights", &common::bytes_line(&memory));
    let part = if windows.len() < available { " (--windows)" } else { "" };
    common::note("text", &format!("{} of {available} windows{part}", windows.len()));
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
    let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None));
    let mut runner = common::runner(&model, resident.as_mut(), &assignment, options)?;
    let uploaded = resident.as_ref().map_or(0, Resident::uploaded_bytes);
    let mut other_resident = gpu.clone().map(|gpu| Resident::new(gpu, None));
    let mut beside = match &baseline {
        Baseline::Same | Baseline::Missing(_) => None,
        Baseline::Own(assignment) => Some(common::runner(&model, resident.as_mut(), assignment, options)?),
        Baseline::Other(model, assignment) => {
            Some(common::runner(model, other_resident.as_mut(), assignment, options)?)
        }
    };
    let tokens: usize = windows.iter().map(|w| w.inputs.len()).sum();
    let bar = common::progress(tokens as u64, "evaluating");
    let start = Instant::now();
    let report =
        evaluate(&mut runner, beside.as_mut(), &windows, batching, &mut |n| bar.set_position(n as u64));
    bar.finish_and_clear();
    let mut report = report?;
    let seconds = start.elapsed().as_secs_f64();
    if matches!(baseline, Baseline::Same) {
        (report.kl, report.top1_agreement, report.baseline_loss) = (Some(0.0), Some(1.0), Some(report.loss));
    }
    let speed = report.tokens as f64 / seconds;
    if args.json {
        let json = json!({
            "loss": report.loss,
            "perplexity": report.perplexity,
            "kl": report.kl,
            "top1_agreement": report.top1_agreement,
            "baseline_loss": report.baseline_loss,
            "accuracy": report.accuracy,
            "tokens": report.tokens,
            "windows": report.windows,
            "windows_available": available,
            "bytes": memory.bytes,
            "f32_bytes": memory.f32_bytes,
            "bits_per_weight": memory.bits_per_weight,
            "model_bits_per_weight": memory.model_bits_per_weight,
            "uploaded_bytes": uploaded,
            "seconds": seconds,
            "tokens_per_second": speed,
            "adapter": gpu.as_ref().map(|gpu| gpu.adapter()),
            "backend": common::backend_name(gpu.as_deref()),
            "model": model.name(),
            "format": common::mix_json(&model, &assignment),
        });
        common::print(&format!("{json:#}\n"))?;
    } else {
        common::print(&table(&report, &memory, uploaded))?;
        let both = if beside.is_some() { ", both models together" } else { "" };
        eprintln!();
        common::note("time", &format!("{seconds:.2} s, {speed:.0} tokens/s{both}"));
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
        let other = Model::load(path)?;
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

/// Windows that run together, and the length of the longest one.
pub(crate) fn batching(model: &Model, windows: &[Window], gpu: Option<&Gpu>) -> (Batching, usize) {
    let longest = windows.iter().map(|w| w.inputs.len()).max().unwrap_or(1);
    let room = gpu.map_or(REFERENCE_LOGITS, Gpu::max_binding);
    let mut batching = Batching::new(longest, model.graph().output_width(), room);
    batching.sequences = batching.sequences.min(windows.len());
    (batching, longest)
}

impl TextArgs {
    /// The file asked for.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        self.text.as_ref()
    }

    /// The number of windows asked for.
    pub(crate) fn windows_asked(&self) -> Option<usize> {
        self.windows
    }

    /// The tokens per window asked for.
    pub(crate) fn context_asked(&self) -> Option<usize> {
        self.context
    }

    /// Asks for what another command line asked for; a file that is named stays.
    pub(crate) fn restore(&mut self, text: Option<PathBuf>, windows: Option<usize>, context: Option<usize>) {
        self.text = self.text.take().or(text);
        (self.windows, self.context) = (windows, context);
    }

    /// Tokens per window.
    fn context(&self, model: &Model) -> Result<usize> {
        let most = model.graph().context;
        match self.context {
            Some(n) if n > most => bail!("--context {n}, the model has {most}; give at most that"),
            Some(n) => Ok(n),
            None => Ok(most.min(WINDOW)),
        }
    }

    /// The windows to evaluate, and how many the text has. `is_embedded` says that the default text is the model's own.
    pub(crate) fn windows(&self, model: &Model, is_embedded: bool) -> Result<(Vec<Window>, usize)> {
        self.windows_of(model, is_embedded, None)
    }

    /// The same, with `most` windows where --windows is not given.
    pub(crate) fn windows_of(
        &self,
        model: &Model,
        is_embedded: bool,
        most: Option<usize>,
    ) -> Result<(Vec<Window>, usize)> {
        let Some(tokenizer) = model.tokenizer() else {
            bail!(
                "model `{}` has no tokenizer.json, so it cannot read a text; put the model's tokenizer.json beside its \
                 config.json",
                model.name()
            );
        };
        let (label, bytes) = match &self.text {
            Some(path) => {
                let bytes =
                    std::fs::read(path).map_err(|e| anybit::Error::io("cannot read the text", path, e))?;
                (path.display().to_string(), bytes)
            }
            None => {
                if !is_embedded {
                    eprintln!(
                        "NOTE: no --text given: this is the embedded model's held-out text, from Shakespeare"
                    );
                }
                ("held-out text".to_string(), heldout_text().as_bytes().to_vec())
            }
        };
        let context = self.context(model)?;
        let mut windows = windows(&bytes, tokenizer, model.bos(), context).context(label)?;
        let available = windows.len();
        windows.truncate(self.windows.or(most).unwrap_or(available));
        let vocabulary = model.graph().token_count();
        if let Some(id) = windows
            .iter()
            .flat_map(|w| w.inputs.iter().chain(&w.targets))
            .find(|&&id| id as usize >= vocabulary)
        {
            bail!(
                "model `{}`: the tokenizer gives token id {id}, the model knows {vocabulary} ids; tokenizer.json belongs to \
                 another model",
                model.name()
            );
        }
        Ok((windows, available))
    }
}

fn table(report: &EvalReport, memory: &MemoryReport, uploaded: u64) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    let rows = [
        ("loss", format!("{:.6} nats per token", report.loss)),
        ("loss in f32", or_dash(report.baseline_loss.map(|v| format!("{v:.6} nats per token")))),
        ("perplexity", format!("{:.4}", report.perplexity)),
        ("KL to f32", or_dash(report.kl.map(|v| format!("{v:.6} nats per token")))),
        ("top-1 agreement", or_dash(report.top1_agreement.map(|v| format!("{:.2} %", v * 100.0)))),
        ("top-1 accuracy", format!("{:.2} %", report.accuracy * 100.0)),
        ("tokens", format!("{} in {} windows", report.tokens, report.windows)),
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
    rows.iter().map(|(label, value)| format!("{label:<16} {value}\n")).collect()
}
