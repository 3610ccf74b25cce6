//! What the verbs share: model and device arguments, the opening banner, progress bars.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anybit::eval::MemoryReport;
use anybit::format::{Format, Spec};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::Assignment;
use anybit::model::Model;
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    /// Hugging Face folder (config.json, model.safetensors, tokenizer.json) or a file written by `quantize`
    /// [default: the embedded Shakespeare model]
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
}

impl ModelArgs {
    pub(crate) fn load(&self) -> Result<Model> {
        Ok(match &self.model {
            Some(path) => Model::load(path)?,
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

/// The assignment in which nothing is quantized further: block linears in f32 for a checkpoint.
pub(crate) fn f32_assignment(model: &Model) -> Assignment {
    Assignment::uniform(model.graph(), &model.native_formats(), Spec::from(Format::F32))
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
}

impl DeviceArgs {
    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions { adapter: self.adapter.clone(), checked: self.checked, ..OpenOptions::default() }
    }

    /// The device, or `None` for the CPU reference. A missing adapter falls back to the reference only where
    /// neither a backend nor an adapter was asked for, and says so.
    pub(crate) fn open(&self) -> Result<Option<Arc<Gpu>>> {
        if self.backend == Some(Backend::Reference) {
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

    /// The device; an error where there is none.
    pub(crate) fn require(&self) -> Result<Arc<Gpu>> {
        Ok(Arc::new(Gpu::open(self.options())?))
    }
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
    let parts: Vec<_> =
        assignment.mix(model.graph()).iter().map(|(spec, n, _)| format!("{n} × {spec}")).collect();
    parts.join(", ")
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

/// A bar on stderr that appears only where work takes more than a moment and stderr is a terminal.
pub(crate) fn progress(length: u64, label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(label.to_string());
    bar.enable_steady_tick(Duration::from_millis(500));
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
