//! `anybit evaluate`: other programs drive the engine, an assignment a line.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use anybit::graph::Assignment;
use anybit::search::{Costs, DeviceOptions, Evaluator, Measurement};
use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::common::{self, DeviceArgs, ModelArgs};
use super::eval;
use super::examples::{ExampleArgs, OF_A_TRIAL};
use super::meter::{Meter, MeterArgs};

/// Measure assignments read from standard input, keeping everything resident: for hyperopt, Optuna, Ray Tune …
#[derive(clap::Args)]
#[command(
    after_help = "Each line of standard input is a qconfig, a JSON object from layer name or pattern to spec:
  {\"*\": \"int4(group=32)\", \"model.layers.0.self_attn.q_proj\": \"int8\"}
or {\"id\": anything, \"qconfig\": {…}}. Each is answered by one line, in order:
  {\"id\": …, \"loss\": 3.1, \"kl\": 0.004, \"top1_agreement\": 0.95, \"accuracy\": 0.3, \"bytes\": 1760000,
   \"nominal_bytes\": 2000000, \"bits_per_weight\": 4.5, \"latency\": null, \"seconds\": 0.06}
or {\"id\": …, \"error\": \"what is wrong\"}, and the next line is read. Loss and KL are in nats per token (per example with --data), latency (with \
--latency) in seconds, seconds is how long the answer took. Layers that a qconfig does not name keep the format of the \
checkpoint. Weights are packed and uploaded at first use; an assignment of variants seen before only rebinds them.

Examples:
  echo '{\"*\": \"mxint8\"}' | anybit evaluate --stdin
  python examples/optuna_search.py"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Read assignments from standard input
    #[arg(long, required = true)]
    stdin: bool,
    #[command(flatten)]
    examples: ExampleArgs,
    /// Add the latency of a pass of N tokens, summed over layers that are timed once (1: a step of decoding)
    #[arg(long, value_name = "N", value_parser = common::positive, num_args = 0..=1, default_missing_value = "1")]
    latency: Option<usize>,
    #[command(flatten)]
    meter: MeterArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let model = args.model.load()?;
    if !eval::is_unquantized(&model) {
        bail!("model `{}` is quantized already; give the original checkpoint", model.name());
    }
    let set = args.examples.read(&model, args.model.model.is_none(), OF_A_TRIAL)?;
    let gpu = args.device.open()?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("text", &set.line());
    let packer = args.meter.packer(&model)?;
    let options = DeviceOptions {
        memory: args.meter.device_memory,
        in_flight: 1,
        fused: !args.device.naive,
        latency_tokens: args.latency,
    };
    let mut meter = Meter::new(gpu, &model, &packer, Costs::new(model.graph()), &set.examples, options)?;
    common::note("loss", &format!("{:.6} in f32", meter.baseline_loss()));
    let native = model.native_formats();
    let mut lines = 0u64;
    let begin = Instant::now();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read standard input; want UTF-8 text, one JSON object a line")?;
        if line.trim().is_empty() {
            continue;
        }
        let start = Instant::now();
        let (id, qconfig) = request(&line);
        let assignment = qconfig.and_then(|q| {
            Assignment::from_qconfig(model.graph(), &native, &q).map_err(|error| error.to_string())
        });
        let outcome = match assignment {
            Ok(assignment) => meter.evaluate(std::slice::from_ref(&assignment))?.swap_remove(0),
            Err(why) => Err(why),
        };
        let mut answer = Map::new();
        answer.extend(id.map(|id| ("id".to_owned(), id)));
        match outcome {
            Ok(measurement) => {
                answer.extend(numbers(&measurement));
                answer.insert("seconds".to_owned(), json!(start.elapsed().as_secs_f64()));
            }
            Err(why) => drop(answer.insert("error".to_owned(), json!(why))),
        }
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{}", Value::Object(answer)).and_then(|()| out.flush());
        written.map_err(|source| anybit::Error::io("cannot write to", "standard output", source))?;
        lines += 1;
    }
    let (seconds, usage) = (begin.elapsed().as_secs_f64(), meter.usage());
    common::note(
        "time",
        &format!(
            "{lines} assignments in {seconds:.1} s, {} of weights uploaded, {} evictions",
            common::bytes(usage.uploaded_bytes),
            usage.evictions
        ),
    );
    Ok(true)
}

/// The id and the qconfig of a line.
fn request(line: &str) -> (Option<Value>, Result<Value, String>) {
    let mut object = match serde_json::from_str(line) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            return (None, Err("the line is no JSON object; want {\"*\": \"int4(group=32)\"}".to_owned()));
        }
        Err(error) => return (None, Err(format!("the line is not JSON: {error}"))),
    };
    if !object.contains_key("qconfig") {
        return (None, Ok(Value::Object(object)));
    }
    let (id, qconfig) = (object.remove("id"), object.remove("qconfig").unwrap_or_default());
    match object.keys().next() {
        Some(key) => (id, Err(format!("unknown key `{key}` beside id and qconfig"))),
        None => (id, Ok(qconfig)),
    }
}

/// A measurement as JSON.
pub(crate) fn numbers(m: &Measurement) -> Map<String, Value> {
    let json = json!({
        "loss": m.loss,
        "kl": m.kl,
        "top1_agreement": m.agreement,
        "accuracy": m.accuracy,
        "bytes": m.bytes,
        "nominal_bytes": m.nominal_bytes,
        "bits_per_weight": m.bits_per_weight,
        "latency": m.latency,
    });
    match json {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
