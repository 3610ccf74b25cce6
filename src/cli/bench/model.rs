//! `anybit bench model`

use anybit::bench::Document;
use anybit::bench::model::{self, Options, Row};
use anybit::gpu::Clock;
use anybit::model::Task;
use anyhow::{Context as _, Result, bail};

use super::super::columns::aligned;
use super::super::common::{self, ModelArgs};
use super::super::{eval, latency};
use super::{DeviceArgs, JsonArgs, time};

/// Time whole models in several formats: prefill, decoding, first token, loading, memory
///
/// ppN is a prompt of N tokens in one batch, tgN are N tokens one after another from an empty context, each chosen on the
/// device; both as llama-bench has them. The first token includes its choice. The logits are compared with the CPU
/// reference.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Formats of all block linears, with commas between them
    #[arg(long, value_name = "SPECS", default_value = "f32,f16,int8,int4(group=32),int4(group=32)@int8")]
    formats: String,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 128)]
    pp: usize,
    /// Tokens to decode
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 64)]
    tg: usize,
    /// Timed repetitions, after one that is not
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 5)]
    repeats: usize,
    /// Naive plans as well
    #[arg(long)]
    naive: bool,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let specs = latency::specs(&args.formats)?;
    let model = args.model.load()?;
    common::require(&model, Task::Generation, "bench model")?;
    if !eval::is_unquantized(&model) {
        bail!("model `{}` is quantized already; give the original checkpoint", model.name());
    }
    let most = model.graph().context;
    if args.pp.max(args.tg) > most {
        bail!(
            "--pp {} and --tg {}; model `{}` has a context of {most} tokens: give at most that",
            args.pp,
            args.tg,
            model.name()
        );
    }
    let gpu = args.device.open()?;
    let json = args.json.begin()?;
    common::note("adapter", &common::device_line(Some(&gpu)));
    common::note("model", &common::model_line(&model));
    eprintln!();
    let plans: &[bool] = if args.naive { &[true, false] } else { &[true] };
    let bar = common::progress((specs.len() * plans.len()) as u64, "benchmark");
    let mut rows = Vec::new();
    for &spec in &specs {
        for &fused in plans {
            let options = Options { prompt: args.pp, decode: args.tg, repeats: args.repeats, fused };
            let row = model::run(&gpu, &model, spec, options);
            rows.push(row.with_context(|| format!("format {spec}"))?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    common::print(&table(&rows, args))?;
    let pass = rows.iter().all(|row| row.failure.is_none());
    let document = Document::new("model", common::command_line(), &gpu, Clock::Wall, rows);
    super::finish(json, || super::json(&document))?;
    Ok(pass)
}

fn table(rows: &[Row], args: &Args) -> String {
    let (pp, tg) = (format!("pp{}", args.pp), format!("tg{}", args.tg));
    let heads = [
        "format",
        &format!("{pp} t/s"),
        &format!("{tg} t/s"),
        "first token",
        "load",
        "upload",
        "compile",
        "device",
        "host",
        "NMSE",
        "",
    ];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let rate = |name: &str| {
            row.measurements.get(name).map_or("-".to_owned(), |m| {
                format!("{:.1} ±{:.0}%", m.summary.median, m.summary.spread() * 50.0)
            })
        };
        let first = row.measurements.get("first token");
        let name = match row.name.ends_with("naive") {
            true => format!("{} naive", row.format),
            false => row.format.clone(),
        };
        cells.push(vec![
            name,
            rate(&pp),
            rate(&tg),
            first.map_or("-".to_owned(), |m| time(m.summary.median)),
            time(row.load_seconds),
            format!("{}/s", common::bytes((row.uploaded as f64 / row.load_seconds.max(1e-9)) as u64)),
            time(row.compile_seconds),
            common::bytes(row.device_bytes),
            row.host_bytes.map_or("-".to_owned(), common::bytes),
            row.nmse.map_or("-".to_owned(), |nmse| format!("{nmse:.0e}")),
            row.failure.as_ref().map_or(String::new(), |why| format!("FAIL {why}")),
        ]);
    }
    aligned(&cells, &[0, 10])
}
