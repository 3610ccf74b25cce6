//! `anybit dequantize`

use std::io::Write as _;
use std::path::PathBuf;

use anybit::engine::Dequantizer;
use anybit::format::Packed;
use anybit::model::{Reader, dequantize_file};
use anyhow::{Result, bail};
use serde_json::json;

use super::common::{Backend, DeviceArgs, bytes, device_line};
use super::quantize::{refuse_same, with_bar};

/// Turn a packed file back into plain f32 .safetensors
///
/// Names, shapes and orientation are those the tensors had before `quantize`; f16 and bf16 tensors are widened.
/// The GPU and the CPU reference give identical bytes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  anybit dequantize packed.safetensors --output weights.safetensors
  anybit dequantize packed.safetensors --output weights.safetensors --backend reference")]
pub(crate) struct Args {
    /// A file written by `quantize`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The f32 file; appears complete or not at all
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What decodes [default: gpu, or reference, said aloud, where there is no adapter]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Adapter by number or part of its name, see `anybit devices` [default: the best one]
    #[arg(long, value_name = "N|NAME")]
    adapter: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    // A bad file is reported before a device is opened for it.
    let reader = Reader::open(&args.file)?;
    if !reader.is_packed() {
        bail!("{} was not written by `anybit quantize`: there is nothing to dequantize", args.file.display());
    }
    drop(reader);
    refuse_same(&args.file, &args.output)?;
    let device = DeviceArgs {
        backend: args.backend,
        adapter: args.adapter.clone(),
        naive: false,
        checked: false,
        f16: false,
    };
    let gpu = device.open()?;
    let on = device_line(gpu.as_deref());
    let dequantizer = gpu.clone().map(Dequantizer::new);
    let mut decode = |packed: &Packed| {
        let Some(device) = &dequantizer else { return Ok(packed.decode()) };
        device.decode(packed)
    };
    let report = with_bar("Decoding", |tick| dequantize_file(&args.file, &args.output, &mut decode, tick))?;
    let decoded = || report.tensors.iter().filter(|t| t.spec.is_some());
    let (count, weights) = (decoded().count(), decoded().map(|t| t.elements).sum::<usize>());
    let before: usize = report.tensors.iter().map(|t| t.input_bytes).sum();
    let mut out = std::io::stdout().lock();
    if args.json {
        let tensors: Vec<_> = report
            .tensors
            .iter()
            .map(|t| {
                json!({"name": t.name, "format": t.spec.map(|s| s.to_string()), "weights": t.elements,
                       "bytes_before": t.input_bytes, "bytes_after": t.output_bytes,
                       "scale_overflows": t.scale_overflows})
            })
            .collect();
        let json = json!({"input": args.file.display().to_string(), "output": args.output.display().to_string(), "device": on,
                          "backend": if gpu.is_some() { "gpu" } else { "reference" },
                          "bytes_before": before, "file_bytes": report.file_bytes, "tensors": tensors});
        writeln!(out, "{json}")?;
        return Ok(true);
    }
    writeln!(out, "device: {on}")?;
    writeln!(out, "{} -> {}", args.file.display(), args.output.display())?;
    writeln!(
        out,
        "{count} packed tensors of {weights} weights decoded, {} copied; {} -> {}",
        report.tensors.len() - count,
        bytes(before as u64),
        bytes(report.file_bytes)
    )?;
    Ok(true)
}
