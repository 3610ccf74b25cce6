//! `anybit bench kernels`

use std::path::PathBuf;

use anybit::bench::kernels::{self, Case, Options, Row};
use anybit::bench::{Document, Op, Shape, Summary, cache_bytes};
use anybit::format::Spec;
use anybit::gpu::Gpu;
use anybit::graph::Role;
use anybit::model::Model;
use anybit::model::atomic::AtomicFile;
use anyhow::{Context as _, Result, bail};

use super::super::columns::aligned;
use super::super::common::{self, ModelArgs};
use super::super::latency;
use super::{DeviceArgs, JsonArgs, SampleArgs, chart, time};

/// Time kernels one op at a time, fused and naive, beside the ceilings of the device
///
/// A row is one op as the engine lowers it for that number of rows: the kernel it picks is named. Naive decodes the matrix
/// to f32 first and runs every step by itself. GOP/s and GB/s are those of the fused side; bytes count every operand and
/// intermediate once. A time with `c` is of operands that may have come from the cache; one with `w` is by the wall clock.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// gemv, gemm, gemm-int, dequant, attention, norm or quantize; several with commas [default: all]
    #[arg(long, value_name = "OP", value_delimiter = ',')]
    op: Vec<Op>,
    /// Formats with commas between them, such as int4(group=32),int8@int8 [default: some for each op]
    #[arg(long, value_name = "SPECS")]
    format: Option<String>,
    /// MxNxK: M rows of x, N rows and K columns of W; M queries, N positions, heads of K for attention. Several with
    /// commas [default: the layers of the model and of a model of 7 to 8 billion weights; smaller ones on a CPU]
    #[arg(long, value_name = "MxNxK", value_delimiter = ',')]
    shape: Vec<Shape>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    samples: SampleArgs,
    #[command(flatten)]
    json: JsonArgs,
    /// Draw the roofline and the ratios as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let gpu = args.device.open()?;
    let clock = args.samples.clock(&gpu)?;
    let cases = cases(args, &gpu)?;
    let json = args.json.begin()?;
    let plot = args.plot.as_deref().map(AtomicFile::create).transpose()?;
    super::banner(&gpu, clock);
    let ceilings = super::ceilings(&gpu, clock, &args.samples)?;
    let options = Options { sampling: args.samples.sampling(), clock, cache: cache_bytes(&gpu) };
    common::note("cases", &format!("{}, each verified before and after it is timed", cases.len()));
    eprintln!();
    let bar = common::progress(cases.len() as u64, "benchmark");
    let mut rows: Vec<Row> = Vec::with_capacity(cases.len());
    for case in &cases {
        let row = kernels::run(&gpu, case, options, Some(&ceilings));
        rows.push(row.with_context(|| case.name())?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    common::print(&table(&rows))?;
    let pass = rows.iter().all(Row::passes);
    let svg = plot.is_some().then(|| chart::svg(&rows, &ceilings, &gpu.adapter().name)).transpose()?;
    let mut document = Document::new("kernels", common::command_line(), &gpu, clock, rows);
    document.ceilings = Some(ceilings);
    super::finish(json, || super::json(&document))?;
    super::finish(plot, || Ok(svg.unwrap_or_default()))?;
    Ok(pass)
}

/// What to run; everything that was asked for is possible, of the defaults what is.
fn cases(args: &Args, gpu: &Gpu) -> Result<Vec<Case>> {
    let formats = args.format.as_deref().map(latency::specs).transpose()?;
    let ops: Vec<Op> = if args.op.is_empty() { Op::ALL.to_vec() } else { args.op.clone() };
    if formats.is_some() && !ops.iter().any(|op| op.has_format()) {
        bail!("--format with --op {}, which has none; leave it out", ops[0]);
    }
    let layers = match args.shape.is_empty() {
        true => layers(&args.model.load()?),
        false => Vec::new(),
    };
    let mut cases: Vec<Case> = Vec::new();
    for op in ops {
        let specs: Vec<Option<Spec>> = match (&formats, op.has_format()) {
            (_, false) => vec![None],
            (Some(specs), true) => specs.iter().copied().map(Some).collect(),
            (None, true) => {
                let texts = kernels::default_formats(op).iter();
                texts.map(|text| text.parse().map(Some)).collect::<Result<_, _>>()?
            }
        };
        let shapes = match args.shape.is_empty() {
            true => kernels::default_shapes(op, gpu.class(), &layers),
            false => args.shape.clone(),
        };
        for &shape in &shapes {
            for &spec in &specs {
                let case = Case::new(op, spec, shape);
                let asked = !args.shape.is_empty();
                match case.check(gpu) {
                    Err(error) if asked => return Err(error.into()),
                    Err(error) => eprintln!("NOTE: left out {error}"),
                    Ok(()) if cases.contains(&case) => {}
                    Ok(()) => cases.push(case),
                }
            }
        }
    }
    if cases.is_empty() {
        bail!("no case is left to run; give another --shape or --format");
    }
    Ok(cases)
}

/// Rows and columns of the block linears, each once.
pub(super) fn layers(model: &Model) -> Vec<(usize, usize)> {
    let mut layers: Vec<(usize, usize)> = Vec::new();
    for weight in model.graph().weights.iter().filter(|weight| weight.role == Role::Linear) {
        if !layers.contains(&(weight.rows, weight.cols)) {
            layers.push((weight.rows, weight.cols));
        }
    }
    layers
}

/// `4.21 ms ±3%`, with the marks of the cache and the clock.
fn timing(summary: Option<&Summary>, marks: &str) -> String {
    summary.map_or("-".to_owned(), |s| {
        format!("{}{marks} ±{:.0}%", time(s.median), (s.spread() * 50.0).max(0.0))
    })
}

fn table(rows: &[Row]) -> String {
    let heads = [
        "op", "format", "MxNxK", "naive", "fused", "speed", "bytes", "GOP/s", "GB/s", "peak", "copy", "NMSE",
        "checked", "kernels",
    ];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let side = |name: &str| match name {
            "naive" => row.naive.as_ref(),
            _ => row.fused.as_ref(),
        };
        let marked = |name: &str| {
            let cached = side(name).is_some_and(|side| !side.exceeds_cache);
            let wall = row.clock == anybit::gpu::Clock::Wall;
            let marks = format!("{}{}", if cached { " c" } else { "" }, if wall { " w" } else { "" });
            timing(row.measurements.get(name).map(|m| &m.summary), &marks)
        };
        let or_dash = |value: Option<f64>, show: &dyn Fn(f64) -> String| value.map_or("-".to_owned(), show);
        let ratio = |value| or_dash(value, &|v| format!("{v:.2}x"));
        let giga = |value| or_dash(value, &|v| format!("{:.2}", v / 1e9));
        let percent = |value| or_dash(value, &|v| format!("{:.0}%", v * 100.0));
        let verdict = row.fused.as_ref().map(|side| &side.verdict);
        cells.push(vec![
            row.op.to_string(),
            row.format.clone().unwrap_or_else(|| "-".to_owned()),
            row.shape.to_string(),
            marked("naive"),
            marked("fused"),
            ratio(row.rates.speedup),
            ratio(row.rates.traffic),
            giga(row.rates.operations),
            giga(row.rates.bytes),
            percent(row.rates.of_arithmetic),
            percent(row.rates.of_copy),
            or_dash(verdict.and_then(|v| v.nmse), &|v| format!("{v:.0e}")),
            verdict.map_or("-".to_owned(), |v| format!("{}/{}", v.checked, v.of)),
            match &row.failure {
                Some(why) => format!("FAIL {why}"),
                None => row.fused.as_ref().map_or(String::new(), |side| side.kernels.join(" + ")),
            },
        ]);
    }
    aligned(&cells, &[0, 1, 2, 13])
}
