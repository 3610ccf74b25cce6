//! `anybit embed`: texts as vectors.

use std::path::PathBuf;
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::model::{Encoding, MatrixFile};
use anybit::run::{mean_row, normalize, outputs};
use anyhow::{Result, bail};
use serde_json::json;

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};
use super::eval::batching;
use super::texts::TextsArgs;

/// Turn texts into vectors
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit embed --model path/to/encoder --text \"a fine film\" --normalize
  anybit embed --model path/to/encoder --file sentences.txt --output embeddings.npy
  anybit embed --model path/to/encoder --file pairs.tsv --pooling cls --format mxint8 --output embeddings.safetensors

The mean is over all tokens of the text, its special tokens among them, as sentence-transformers pools. A line of JSON \
per text is printed: {\"text\": …, \"embedding\": […]}. Any BERT will do, whatever its head. Texts longer than the \
model's context lose their end, which is said.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    texts: TextsArgs,
    /// How the vectors of the tokens become one
    #[arg(long, value_enum, default_value = "mean")]
    pooling: Pooling,
    /// Scale every vector to length 1
    #[arg(long)]
    normalize: bool,
    #[command(flatten)]
    format: FormatArgs,
    /// Write a matrix with a row per text, as .npy or .safetensors (tensor `embeddings`), instead of printing
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pooling {
    /// Mean of the last hidden states
    Mean,
    /// Last hidden state of the first token
    Cls,
    /// What the model's pooler makes of it
    Pooler,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if let Some(path) = &args.output {
        MatrixFile::check_name(path)?;
    }
    let encoding = if args.pooling == Pooling::Pooler { Encoding::Pooler } else { Encoding::Hidden };
    let model = args.model.load()?.with_encoding(encoding)?;
    let assignment = args.format.assignment(&model, model.default_spec())?;
    let mut texts = args.texts.read(&model)?;
    if args.pooling == Pooling::Mean {
        for example in &mut texts.examples {
            example.outputs = (0..example.inputs.len() as u32).collect();
            example.targets = vec![0; example.outputs.len()];
        }
    }
    let gpu = args.device.open()?;
    let (batching, longest) = batching(&model, &texts.examples, gpu.as_deref());
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("format", &common::mix_line(&model, &assignment));
    eprintln!();
    let options = SessionOptions {
        sequences: batching.sequences,
        context: longest,
        fused: !args.device.naive,
        keep: false,
    };
    let mut resident = gpu.map(|gpu| Resident::new(gpu, None).with_stacks());
    let mut runner = common::runner(&model, resident.as_mut(), &assignment, options)?;
    let bar = common::progress(texts.rows.len() as u64, "embedding");
    let start = Instant::now();
    let width = model.graph().output_width();
    let mut vectors = Vec::with_capacity(texts.rows.len() * width);
    outputs(&mut runner, &texts.examples, batching, &mut |_, rows| {
        let mut vector = mean_row(rows, width);
        if args.normalize {
            normalize(&mut vector);
        }
        vectors.extend(vector);
        bar.inc(1);
        Ok(())
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    if vectors.iter().any(|value| !value.is_finite()) {
        bail!("the model's values overflowed in this format; choose one with more bits or another scale");
    }
    match &args.output {
        Some(path) => {
            let rows = texts.rows.len();
            MatrixFile { rows, cols: width, values: vectors }.write(path, "embeddings")?;
            common::note("written", &format!("{}, {rows} x {width} values", path.display()));
        }
        None => {
            let mut out = String::new();
            for (row, vector) in texts.rows.iter().zip(vectors.chunks(width)) {
                let mut line = json!({ "text": row.text });
                if let Some(pair) = &row.pair {
                    line["pair"] = json!(pair);
                }
                // As f32, whose shortest text is half as long as that of the same f64.
                let numbers = serde_json::to_string(vector)?;
                out += &format!(
                    "{},\"embedding\":{numbers}}}\n",
                    line.to_string().strip_suffix('}').unwrap_or_default()
                );
            }
            common::print(&out)?;
        }
    }
    let speed = texts.rows.len() as f64 / seconds;
    common::note("time", &format!("{seconds:.2} s, {speed:.0} texts/s"));
    Ok(true)
}
