//! `anybit run`: rows of numbers through a network.

use std::path::PathBuf;
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::graph::Batch;
use anybit::model::{MatrixFile, Task};
use anyhow::{Result, bail};

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};

/// Rows of a step.
const ROWS: usize = 1024;

/// Run rows of numbers through a network such as BigNet
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit run --model path/to/bignet --inputs x.npy --output y.npy
  anybit run --model path/to/bignet --inputs x.safetensors --tensor x --format f32

BigNet is a folder with model.safetensors and a config.json such as {\"architectures\": [\"BigNet\"], \"dim\": 1024, \
\"blocks\": 6}: residual blocks of three linears with ReLU, LayerNorm between the blocks. Without --format or --qconfig \
its linears are quantized to base11(layout=9in32) as they are loaded, in the largest groups of at most 256 that divide \
a row; `--format f32` runs the checkpoint as it is. A row is printed as a JSON list.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Matrix with a row per input, .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// The tensor of the .safetensors file, where it has several
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    /// Write the results as .npy or .safetensors (tensor `outputs`) instead of printing
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if let Some(path) = &args.output {
        MatrixFile::check_name(path)?;
    }
    let model = args.model.load()?;
    common::require(&model, Task::Rows, "run")?;
    let assignment = args.format.assignment(&model, model.default_spec())?;
    let inputs = MatrixFile::read(&args.inputs, args.tensor.as_deref())?;
    let Some(width) = model.graph().input_width() else { bail!("a model without inputs") };
    if inputs.cols != width || inputs.rows == 0 {
        bail!(
            "{} holds {} rows of {} numbers; model `{}` wants rows of {width}, at least one",
            args.inputs.display(),
            inputs.rows,
            inputs.cols,
            model.name()
        );
    }
    if let Some(at) = inputs.values.iter().position(|value| !value.is_finite()) {
        let (row, column, value) = (at / width, at % width, inputs.values[at]);
        bail!("{}: row {row}, column {column} is {value}; want finite numbers", args.inputs.display());
    }
    let gpu = args.device.open()?;
    let memory =
        MemoryReport::new(model.graph(), &assignment, 1, ROWS.min(inputs.rows), ROWS.min(inputs.rows))?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("format", &common::mix_line(&model, &assignment));
    common::note("weights", &common::bytes_line(&memory));
    eprintln!();
    let options = SessionOptions {
        sequences: 1,
        context: model.graph().context,
        fused: !args.device.naive,
        keep: false,
    };
    let mut resident = gpu.map(|gpu| Resident::new(gpu, None).with_stacks());
    let mut runner = common::runner(&model, resident.as_mut(), &assignment, options)?;
    let bar = common::progress(inputs.rows as u64, "running");
    let start = Instant::now();
    let mut values = Vec::with_capacity(inputs.rows * width);
    for rows in inputs.values.chunks(ROWS * width) {
        runner.step(&Batch::of_inputs(rows.to_vec(), width)?)?;
        values.extend(runner.logits()?);
        bar.inc((rows.len() / width) as u64);
    }
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let outputs = MatrixFile { rows: inputs.rows, cols: model.graph().output_width(), values };
    match &args.output {
        Some(path) => {
            outputs.write(path, "outputs")?;
            let line = format!("{}, {} x {} values", path.display(), outputs.rows, outputs.cols);
            common::note("written", &line);
        }
        None => {
            let mut out = String::new();
            for row in outputs.values.chunks(outputs.cols) {
                out += &serde_json::to_string(row)?;
                out.push('\n');
            }
            common::print(&out)?;
        }
    }
    common::note("time", &format!("{seconds:.2} s, {:.0} rows/s", outputs.rows as f64 / seconds));
    Ok(true)
}
