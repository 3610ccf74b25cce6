//! `anybit bench startup`

use anybit::bench::Document;
use anybit::bench::startup::{self, Options, Row, payback};
use anybit::format::Spec;
use anybit::gpu::{Clock, OpenOptions};
use anybit::model::Task;
use anyhow::{Result, bail};

use super::super::columns::aligned;
use super::super::common::{self, ModelArgs};
use super::{AdapterArgs, JsonArgs, time};

/// Totals are told for so many runs.
const RUNS: [u64; 4] = [1, 5, 50, 500];
/// Largest model, in weights, that runs on the CPU reference as well.
const MAX_REFERENCE: usize = 200_000_000;

/// Time the start: cold and warm pipelines, and after how many runs fusion and compilation have paid
///
/// A run is a prompt and some tokens after it. Cold is planning and compilation on a new device, warm the same with its
/// pipelines known, cached the same on another device that finds them in the pipeline cache (Vulkan; the other verbs keep
/// it in ANYBIT_CACHE or the user's folder for caches). Drivers keep caches of their own: for a start as after an installation set MESA_SHADER_CACHE_DISABLE=1
/// (Mesa) or __GL_SHADER_DISK_CACHE=0 (NVIDIA).
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Format of all block linears
    #[arg(long, value_name = "SPEC", default_value = "int4(group=32)")]
    format: Spec,
    /// Tokens of the prompt of a run
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 16)]
    pp: usize,
    /// Tokens that a run decodes
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 16)]
    tg: usize,
    /// Cold starts
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 3)]
    repeats: usize,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let model = args.model.load()?;
    common::require(&model, Task::Generation, "bench startup")?;
    let most = model.graph().context;
    if args.pp.saturating_add(args.tg) > most {
        bail!(
            "--pp {} and --tg {}; model `{}` has a context of {most} tokens: give less than that together",
            args.pp,
            args.tg,
            model.name()
        );
    }
    let gpu = args.adapter.open()?;
    let json = args.json.begin()?;
    common::note("adapter", &common::device_line(Some(&gpu)));
    common::note("model", &common::model_line(&model));
    common::note("run", &format!("a prompt of {} tokens and {} more, {}", args.pp, args.tg, args.format));
    common::note("note", "drivers keep shader caches of their own, see --help");
    eprintln!();
    let weights: usize = model.graph().weights.iter().map(|w| w.rows * w.cols).sum();
    let options = Options {
        prompt: args.pp,
        decode: args.tg,
        repeats: args.repeats,
        reference: weights <= MAX_REFERENCE,
    };
    let device = OpenOptions {
        adapter: args.adapter.adapter.clone(),
        tiles: common::tiles_folder(),
        ..OpenOptions::default()
    };
    let rows = startup::run(&device, &model, args.format, options)?;
    common::print(&table(&rows))?;
    common::print("\n")?;
    common::print(&totals(&rows))?;
    common::print("\n")?;
    if let [fused, others @ ..] = rows.as_slice() {
        for other in others {
            let line = match payback(fused, other).runs {
                Some(n) => format!("fused has caught up with {} after {n} runs", other.name),
                None => format!("fused never catches up with {}", other.name),
            };
            common::print(&format!("{line}\n"))?;
        }
    }
    let document = Document::new("startup", common::command_line(), &gpu, Clock::Wall, rows);
    super::finish(json, || super::json(&document))?;
    Ok(true)
}

fn table(rows: &[Row]) -> String {
    let names = ["open", "load", "cold", "cached", "warm", "run"];
    let heads = ["plan", "pipelines", "open", "load", "cold", "cached", "warm", "run"];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let shown = names.map(|name| {
            row.measurements.get(name).map_or("-".to_owned(), |m| {
                format!("{} ±{:.0}%", time(m.summary.median), m.summary.spread() * 50.0)
            })
        });
        let mut line = vec![row.name.clone(), row.pipelines.to_string()];
        line.extend(shown);
        cells.push(line);
    }
    aligned(&cells, &[0])
}

/// Seconds of load, cold start and n runs.
fn totals(rows: &[Row]) -> String {
    let mut head = vec!["start and runs".to_owned()];
    head.extend(RUNS.map(|n| format!("n = {n}")));
    let mut cells = vec![head];
    for row in rows {
        let mut line = vec![row.name.clone()];
        line.extend(RUNS.map(|n| time(row.total(n))));
        cells.push(line);
    }
    aligned(&cells, &[0])
}
