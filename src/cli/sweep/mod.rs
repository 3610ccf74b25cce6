//! `anybit sweep`: one format everywhere, one after another.

mod chart;

use std::path::PathBuf;

use anybit::model::{Unit, atomic};
use anybit::search::report::csv_field;
use anybit::search::{Costs, DeviceOptions, Evaluator, Measurement, Outcome, Space, SpaceText};
use anyhow::{Result, bail};
use serde_json::json;

use super::columns::aligned;
use super::common::{self, DeviceArgs, ModelArgs};
use super::eval;
use super::evaluate;
use super::examples::{Amount, ExampleArgs};
use super::meter::{self, Meter, MeterArgs};

/// Measure one format everywhere, for a list of formats: loss, KL and accuracy against bits per weight
#[derive(clap::Args)]
#[command(
    after_help = "A list holds specs, ranges and families, as in `anybit search --space`: int2..8(group=32), \
mxint4|6|8, minifloat. The default is fixed point from 4 to 32 bits, half of them behind the point.

Examples:
  anybit sweep --formats 'int2..8(group=32),mxint4|6|8,base11,nf4' --csv sweep.csv --svg sweep.svg
  anybit sweep --activation same
  anybit sweep --formats int2..8 --activation none,int8 --plot loss --svg sweep.svg
  anybit sweep --model path/to/classifier --data labelled.tsv --formats int2..8 --svg sweep.svg"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Specs, ranges and families, separated by commas
    #[arg(long, value_name = "LIST", default_value = FIXED_POINT)]
    formats: String,
    /// Activation formats to combine with: specs, none, or same (as the weights)
    #[arg(long, value_name = "LIST")]
    activation: Vec<String>,
    #[command(flatten)]
    examples: ExampleArgs,
    /// What the chart draws [default: kl; accuracy with --data]
    #[arg(long, value_enum)]
    plot: Option<Plot>,
    /// Write the table as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw the chart as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    meter: MeterArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The widths of the fixed-point sweeps that the tutorials of MASE draw.
const FIXED_POINT: &str = "integer(4,2),integer(6,3),integer(8,4),integer(10,5),integer(12,6),integer(14,7),\
integer(16,8),integer(18,9),integer(20,10),integer(22,11),integer(24,12),integer(26,13),integer(28,14),integer(30,15),\
integer(32,16)";

/// The vertical axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Plot {
    /// Divergence from the f32 model, logarithmic
    Kl,
    /// Cross-entropy
    Loss,
    /// Share of tokens or labels that are the most probable prediction
    Accuracy,
}

/// What the f32 model has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) spec: String,
    pub(crate) outcome: Outcome,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let model = args.model.load()?;
    if !eval::is_unquantized(&model) {
        bail!("model `{}` is quantized already; give the original checkpoint", model.name());
    }
    let text = SpaceText {
        entries: vec![args.formats.clone()],
        activations: args.activation.clone(),
        ..SpaceText::default()
    };
    let space = Space::new(model.graph(), &model.native_formats(), &text)?;
    for why in &space.left_out {
        eprintln!("NOTE: left out {why}");
    }
    let uniform = space.uniform();
    if let Some(path) = args.csv.iter().chain(&args.svg).find(|path| path.is_dir()) {
        bail!("{} is a folder; name a file", path.display());
    }
    let set = args.examples.read(&model, args.model.model.is_none(), Amount::All)?;
    let gpu = args.device.open()?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("text", &set.line());
    let packer = args.meter.packer(&model)?;
    let mut costs = Costs::new(model.graph());
    meter::pack(&packer, &mut costs, &space.variants())?;
    let options = DeviceOptions {
        memory: args.meter.device_memory,
        in_flight: 1,
        fused: !args.device.naive,
        latency_tokens: None,
    };
    let mut meter = Meter::new(gpu, &model, &packer, costs, &set.examples, options)?;
    let baseline = Baseline { loss: meter.baseline_loss(), accuracy: meter.baseline_accuracy() };
    let bar = common::progress(uniform.len() as u64, "measuring");
    let mut rows = Vec::with_capacity(uniform.len());
    for (spec, point) in uniform {
        let outcome = meter.evaluate(&[space.assignment(&point)])?.swap_remove(0);
        rows.push(Row { spec, outcome });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let plot = args.plot.unwrap_or(match set.unit {
        Unit::Token => Plot::Kl,
        Unit::Example => Plot::Accuracy,
    });
    if let Some(path) = &args.csv {
        atomic::write(path, csv(&rows).as_bytes())?;
    }
    if let Some(path) = &args.svg {
        atomic::write(path, chart::svg(&rows, plot, set.unit, baseline, model.name())?.as_bytes())?;
    }
    if args.json {
        let entry = |row: &Row| match &row.outcome {
            Ok(m) => {
                let mut map = evaluate::numbers(m);
                map.remove("latency");
                map.insert("format".to_owned(), json!(row.spec));
                serde_json::Value::Object(map)
            }
            Err(why) => json!({ "format": row.spec, "error": why }),
        };
        let rows: Vec<_> = rows.iter().map(entry).collect();
        common::print(&format!(
            "{:#}\n",
            json!({ "baseline_loss": baseline.loss, "baseline_accuracy": baseline.accuracy, "formats": rows })
        ))?;
        return Ok(true);
    }
    eprintln!();
    common::print(&table(&rows, set.unit, baseline))?;
    Ok(true)
}

fn table(rows: &[Row], unit: Unit, baseline: Baseline) -> String {
    let mut lines = vec![
        ["format", "bits/weight", "bytes", "loss", "KL", "agreement", "accuracy"].map(str::to_owned).to_vec(),
    ];
    for row in rows {
        let line = match &row.outcome {
            Ok(m) => [
                row.spec.clone(),
                format!("{:.4}", m.bits_per_weight),
                common::bytes(m.bytes),
                format!("{:.5}", m.loss),
                format!("{:.6}", m.kl),
                format!("{:.2} %", m.agreement * 100.0),
                format!("{:.2} %", m.accuracy * 100.0),
            ],
            Err(_) => [&row.spec, "-", "-", "-", "-", "-", "-"].map(str::to_owned),
        };
        lines.push(line.to_vec());
    }
    let mut text = aligned(&lines, &[0]);
    for row in rows {
        if let Err(why) = &row.outcome {
            text.push_str(&format!("{}: {why}\n", row.spec));
        }
    }
    let unit = unit.name();
    text.push_str(&format!(
        "\nloss in f32: {:.5} nats per {unit}, accuracy {:.2} %; KL to it in nats per {unit}\n",
        baseline.loss,
        baseline.accuracy * 100.0,
    ));
    text
}

fn csv(rows: &[Row]) -> String {
    let mut text =
        "format,bits_per_weight,bytes,nominal_bytes,loss,kl,top1_agreement,accuracy,error\n".to_owned();
    for row in rows {
        let spec = csv_field(&row.spec);
        match &row.outcome {
            Ok(Measurement {
                loss, kl, agreement, accuracy, bytes, nominal_bytes, bits_per_weight, ..
            }) => {
                text.push_str(&format!(
                    "{spec},{bits_per_weight},{bytes},{nominal_bytes},{loss},{kl},{agreement},{accuracy},\n"
                ));
            }
            Err(why) => text.push_str(&format!("{spec},,,,,,,,{}\n", csv_field(why))),
        }
    }
    text
}
