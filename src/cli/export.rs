//! `anybit export`

use std::io::Write as _;
use std::path::PathBuf;

use anybit::format::{Format, Spec};
use anybit::model::{Exported, export_folder, export_gguf};
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::json;

use super::common::{FormatArgs, ModelArgs, bytes};
use super::quantize::{refuse_same, with_bar};

/// Write a model as a file of another program
///
/// gguf: every matrix in the type of ggml that holds exactly what its format holds, with sizes and tokenizer, for
/// llama.cpp and what builds on it. safetensors-f16: a Hugging Face folder with decoded weights in f16, for any program.
/// Formats of activations are not part of either.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  anybit export --model ./llama --format q4_k --to gguf --output llama-q4_k.gguf
  anybit export --model packed.safetensors --to gguf --fallback q8_0 --output packed.gguf
  anybit export --model model.gguf --to safetensors-f16 --output ./model")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Kind of output
    #[arg(long, value_enum)]
    to: Target,
    /// The file, or the folder for safetensors-f16; appears complete or not at all
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// Format for matrices in formats that ggml does not have: they are rounded again, which is reported [default: an
    /// error]
    #[arg(long, value_name = "f16|q8_0|…")]
    fallback: Option<Format>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A GGUF file.
    Gguf,
    /// A Hugging Face folder in f16.
    SafetensorsF16,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if args.fallback.is_some() && args.to != Target::Gguf {
        bail!("--fallback is for --to gguf; safetensors-f16 holds every format");
    }
    let model = args.model.load()?;
    if let Some(path) = &args.model.model {
        refuse_same(path, &args.output)?;
    }
    let asked = args.format.format.is_some() || args.format.qconfig.is_some();
    let assignment = match model.stored_assignment() {
        // Without a format everything stays as it is stored.
        None if !asked => {
            let specs = model.native_formats().into_iter().map(Spec::from).collect();
            anybit::graph::Assignment { specs }
        }
        _ => args.format.assignment(&model, Spec::from(Format::F32))?,
    };
    let report = with_bar("Exporting", |tick| match args.to {
        Target::Gguf => export_gguf(&model, &assignment, args.fallback, &args.output, tick),
        Target::SafetensorsF16 => export_folder(&model, &assignment, &args.output, tick),
    })?;
    let mut rows: Vec<(String, String, usize, usize)> = Vec::new();
    for tensor in &report.tensors {
        let spec = tensor.spec.map_or("vectors".to_owned(), |spec| spec.to_string());
        let stored = tensor.stored.to_string().to_lowercase();
        match rows.iter_mut().find(|row| (&row.0, &row.1) == (&spec, &stored)) {
            Some(row) => (row.2, row.3) = (row.2 + 1, row.3 + tensor.bytes),
            None => rows.push((spec, stored, 1, tensor.bytes)),
        }
    }
    let rounded: Vec<&Exported> = report.tensors.iter().filter(|tensor| tensor.fell_back).collect();
    if let Some(first) = rounded.first() {
        eprintln!(
            "WARNING: {} matrices were rounded again, {} from {} to {} among them",
            rounded.len(),
            first.name,
            first.spec.map_or(String::new(), |spec| spec.to_string()),
            first.stored.to_string().to_lowercase()
        );
    }
    let has_activations = |tensor: &Exported| tensor.spec.is_some_and(|spec| spec.activation.is_some());
    if report.tensors.iter().any(has_activations) {
        eprintln!("WARNING: formats of activations are not part of the output, only weights are");
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let tensors: Vec<_> = report
            .tensors
            .iter()
            .map(|tensor| {
                json!({"name": tensor.name, "format": tensor.spec.map(|spec| spec.to_string()),
                       "stored": tensor.stored.to_string().to_lowercase(), "bytes": tensor.bytes,
                       "rounded_again": tensor.fell_back})
            })
            .collect();
        let json = json!({"model": model.name(), "output": args.output.display().to_string(),
                          "file_bytes": report.file_bytes, "tensors": tensors});
        writeln!(out, "{json}")?;
        return Ok(true);
    }
    writeln!(out, "model {} -> {}", model.name(), args.output.display())?;
    for (spec, stored, count, size) in rows {
        writeln!(out, "{count:>5} x {spec} as {stored}, {}", bytes(size as u64))?;
    }
    writeln!(out, "{} in all", bytes(report.file_bytes))?;
    Ok(true)
}
