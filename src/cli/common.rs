//! What the verbs share: model and device arguments, the opening banner, progress bars.

use std::cmp::Reverse;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::format::{Format, Packed, Spec};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, WeightId, Weights};
use anybit::model::{Model, Task};
use anybit::run::Runner;
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::hub;

/// A count on the command line.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("got 0, want at least 1".to_string()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}, want a whole number from 1")),
    }
}

/// The words of the command line; the program without its folder, which belongs to one machine.
pub(crate) fn command_line() -> Vec<String> {
    let mut words = std::env::args_os();
    let program = words.next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).map(ToOwned::to_owned);
    name.into_iter().chain(words).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Which executor runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The GPU, or a software Vulkan driver.
    Gpu,
    /// The CPU reference: slow and plain.
    Reference,
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// Hugging Face folder (config.json, weights, tokenizer), GGUF file, file written by `quantize`, or a model of the
    /// Hugging Face hub as org/name[@revision][:FILE] [default: the embedded Shakespeare model]
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
}

impl ModelArgs {
    pub(crate) fn load(&self) -> Result<Model> {
        Ok(match &self.model {
            Some(path) => Model::load(&hub::local(path)?)?,
            None => Model::embedded()?,
        })
    }
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct FormatArgs {
    /// Format of all block linears, e.g. int4(group=32), mxint8, base11, int4(group=128)@int8, qlinear(bits=4)
    #[arg(long, value_name = "SPEC", conflicts_with = "qconfig")]
    pub(crate) format: Option<Spec>,
    /// JSON file from layer name (or a pattern with *) to spec; a plain integer N means qlinear(bits=N)
    #[arg(long, value_name = "FILE")]
    pub(crate) qconfig: Option<PathBuf>,
}

impl FormatArgs {
    /// The assignment asked for; without one, what a packed file holds, else `default` for the block linears.
    pub(crate) fn assignment(&self, model: &Model, default: Spec) -> Result<Assignment> {
        let native = model.native_formats();
        if let Some(path) = &self.qconfig {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the qconfig {}", path.display()))?;
            let json = serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is not JSON; want an object like {{\"*.mlp.*\": \"int4(group=32)\"}}",
                    path.display()
                )
            })?;
            let assignment = Assignment::from_qconfig(model.graph(), &native, &json)
                .with_context(|| format!("qconfig {}", path.display()))?;
            return Ok(assignment);
        }
        if let Some(spec) = self.format {
            return Ok(Assignment::uniform(model.graph(), &native, spec));
        }
        Ok(match model.stored_assignment() {
            Some(stored) => stored,
            None => Assignment::uniform(model.graph(), &native, default),
        })
    }
}

/// Says which verb runs a model that `verb` cannot run.
pub(crate) fn require(model: &Model, task: Task, verb: &str) -> Result<()> {
    let is = model.task();
    if is != task {
        bail!(
            "`anybit {verb}` wants {}, and model `{}` is {}; `anybit {}` runs it",
            task.name(),
            model.name(),
            is.name(),
            is.verb()
        );
    }
    Ok(())
}

/// Refuses models with a single output, whose number is no logit.
pub(crate) fn require_classes(model: &Model) -> Result<()> {
    if model.labels().len() < 2 {
        bail!(
            "model `{}` has one output: it tells a number (regression) and no classes, which is not supported",
            model.name()
        );
    }
    Ok(())
}

/// The assignment in which nothing is quantized further: block linears in f32 for a checkpoint.
pub(crate) fn f32_assignment(model: &Model) -> Assignment {
    Assignment::uniform(model.graph(), &model.native_formats(), Spec::from(Format::F32))
}

/// Whether a format loses nothing of what a checkpoint holds, so that the f32 model can be had from it.
pub(crate) fn is_natural(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::Bf16)
}

/// `model` under `assignment` on the device of `resident`, or on the CPU reference where there is none.
pub(crate) fn runner<'a>(
    model: &'a Model,
    resident: Option<&mut Resident>,
    assignment: &Assignment,
    options: SessionOptions,
) -> Result<Runner<'a>> {
    let weights = Counted { model, bar: progress(model.graph().weights.len() as u64, "loading") };
    let runner = match resident {
        Some(resident) => {
            Runner::gpu(resident, Arc::new(model.graph().clone()), &weights, assignment, options)
        }
        None => Runner::reference(model.graph(), &weights, assignment, options.sequences),
    };
    weights.bar.finish_and_clear();
    Ok(runner?)
}

/// Weights of a model that move a progress bar as they are asked for.
struct Counted<'a> {
    model: &'a Model,
    bar: ProgressBar,
}

impl Weights for Counted<'_> {
    fn packed(&self, weight: WeightId, format: Format) -> anybit::Result<Packed> {
        self.bar.inc(1);
        self.model.packed(weight, format)
    }

    fn vector(&self, weight: WeightId) -> anybit::Result<Vec<f32>> {
        self.bar.inc(1);
        self.model.vector(weight)
    }
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DeviceArgs {
    /// Executor [default: gpu, or reference, said aloud, where there is no adapter]
    #[arg(long, value_enum)]
    pub(crate) backend: Option<Backend>,
    /// Adapter by number or part of its name, see `anybit devices` [default: the best one]
    #[arg(long, value_name = "N|NAME")]
    pub(crate) adapter: Option<String>,
    /// Dequantize first and run every operation by itself, instead of fused kernels
    #[arg(long)]
    pub(crate) naive: bool,
    /// Run shaders with bounds, division and loop checks
    #[arg(long)]
    pub(crate) checked: bool,
    /// Multiply floats of more than 8 rows (prompts, evaluations) in f16: for GPUs that do so faster; three digits
    #[arg(long)]
    pub(crate) f16: bool,
}

impl DeviceArgs {
    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions {
            adapter: self.adapter.clone(),
            checked: self.checked,
            half: self.f16,
            pipeline_cache: cache_folder().map(|folder| folder.join("pipelines")),
            tiles: tiles_folder(),
            ..OpenOptions::default()
        }
    }

    /// The device, or `None` for the CPU reference. A missing adapter falls back to the reference only where
    /// neither a backend nor an adapter was asked for, and says so.
    pub(crate) fn open(&self) -> Result<Option<Arc<Gpu>>> {
        if self.backend == Some(Backend::Reference) {
            if self.f16 {
                bail!("--f16 with --backend reference, which computes in f64; drop one of them");
            }
            if let Some(adapter) = &self.adapter {
                bail!(
                    "--adapter {adapter} with --backend reference, which uses no adapter; drop one of them"
                );
            }
            return Ok(None);
        }
        match Gpu::open(self.options()) {
            Ok(gpu) => Ok(Some(Arc::new(gpu))),
            Err(error @ anybit::Error::Unavailable(_))
                if self.backend.is_none() && self.adapter.is_none() && anybit::gpu::adapters().is_empty() =>
            {
                eprintln!("WARNING: {error}");
                eprintln!("WARNING: RUNNING ON THE CPU REFERENCE: correct, but slow, and no GPU is involved");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Where packed weights, compiled pipelines and measured tiles are kept: ANYBIT_CACHE, nowhere if that is empty, else `anybit` in the
/// user's folder for caches.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if std::env::var_os("ANYBIT_CACHE").is_some() {
        return of("ANYBIT_CACHE");
    }
    let base = of("XDG_CACHE_HOME").or_else(|| match std::env::consts::OS {
        "windows" => of("LOCALAPPDATA"),
        "macos" => of("HOME").map(|home| home.join("Library/Caches")),
        _ => of("HOME").map(|home| home.join(".cache")),
    });
    base.map(|base| base.join("anybit"))
}

/// Where measured tiles are kept, in the same place.
pub(crate) fn tiles_folder() -> Option<PathBuf> {
    cache_folder().map(|folder| folder.join("tiles"))
}

/// One line naming what runs the model.
pub(crate) fn device_line(gpu: Option<&Gpu>) -> String {
    match gpu {
        Some(gpu) => {
            let a = gpu.adapter();
            format!("{} ({}, {}, {})", a.name, a.backend, a.kind, a.driver)
        }
        None => "CPU REFERENCE (no GPU)".to_string(),
    }
}

/// `42 × int4(group=32), 1 × f16`
pub(crate) fn mix_line(model: &Model, assignment: &Assignment) -> String {
    let mut mix = assignment.mix(model.graph());
    mix.sort_by_key(|&(_, _, weights)| Reverse(weights));
    mix.iter().map(|(spec, n, _)| format!("{n} × {spec}")).collect::<Vec<_>>().join(", ")
}

/// The same for machines: `[{"spec": …, "tensors": 42, "weights": …}, …]`
pub(crate) fn mix_json(model: &Model, assignment: &Assignment) -> serde_json::Value {
    let entry = |(spec, tensors, weights): &(Spec, usize, usize)| serde_json::json!({ "spec": spec.to_string(), "tensors": tensors, "weights": weights });
    assignment.mix(model.graph()).iter().map(entry).collect()
}

/// `shakespeare, 2.63 M weights, context of 128 tokens`
pub(crate) fn model_line(model: &Model) -> String {
    let graph = model.graph();
    let weights: usize = graph.weights.iter().map(|w| w.rows * w.cols).sum();
    let weights = match weights {
        0..1_000_000 => format!("{:.1} k", weights as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", weights as f64 / 1e6),
        _ => format!("{:.2} G", weights as f64 / 1e9),
    };
    format!("{}, {weights} weights, context of {} tokens", model.name(), graph.context)
}

/// `1.23 MB packed, 10.5 MB in f32 (11.7 %)`
pub(crate) fn bytes_line(memory: &MemoryReport) -> String {
    format!(
        "{} packed, {} in f32 ({:.1} %)",
        bytes(memory.bytes),
        bytes(memory.f32_bytes),
        memory.bytes as f64 / memory.f32_bytes as f64 * 100.0
    )
}

/// Bytes in the unit that gives three digits or so (decimal units).
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// `gpu` or `reference`, as `--backend` has it.
pub(crate) fn backend_name(gpu: Option<&Gpu>) -> &'static str {
    if gpu.is_some() { "gpu" } else { "reference" }
}

/// Writes to stdout and flushes, so that what goes to stderr next comes after it.
pub(crate) fn print(text: &str) -> anybit::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| anybit::Error::io("cannot write to", "standard output", source))
}

/// A line of a banner or a summary, on stderr.
pub(crate) fn note(label: &str, value: &str) {
    eprintln!("{label:<9} {value}");
}

/// Columns of the terminal that stdout is, 100 where it is none.
pub(crate) fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal =
        || terminal_size::terminal_size_of(std::io::stdout()).map_or(100, |(w, _)| usize::from(w.0));
    columns.unwrap_or_else(terminal)
}

/// An error with its causes, each said once: some messages already hold the one below them.
pub(crate) fn error_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// How long work runs before its bar appears.
const PATIENCE: Duration = Duration::from_millis(700);

/// A bar on stderr that appears only where work takes more than a moment and stderr is a terminal.
pub(crate) fn progress(length: u64, label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(label.to_string());
    let weak = bar.downgrade();
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        // The work may be over by now, or between the check and the drawing.
        if let Some(bar) = weak.upgrade().filter(|bar| !bar.is_finished()) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(500));
            if bar.is_finished() {
                bar.finish_and_clear();
            }
        }
    });
    bar
}

/// Whether an error is only the reader of our output having gone (`anybit … | head`).
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Mesa's device-select layer complains on stderr where no desktop session runs; anybit ranks adapters itself
/// and needs no such layer.
pub(crate) fn quiet_loader() {
    if std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: called first in main, before any other thread exists.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
