//! `anybit bench tune`

use anybit::bench::kernels::{Case, Options};
use anybit::bench::{Document, Op, Shape, Summary, cache_bytes, tune};
use anybit::format::Spec;
use anybit::shader::DeviceClass;
use anyhow::{Context as _, Result, bail};

use super::super::columns::aligned;
use super::super::common::{self, ModelArgs};
use super::super::latency;
use super::{AdapterArgs, JsonArgs, SampleArgs, time};

/// What is tuned without --format.
const FORMATS: &str = "f32,int8,int4(group=32),mxint8,int4(group=32)@int8";

/// Find the fastest tiles of matrix kernels on this device, and keep them for all verbs
///
/// For every format, shape and number of rows all legal tiles are verified and timed. One that beats the default beyond the
/// spread of both is kept in ANYBIT_CACHE or the user's folder for caches, per adapter and driver; other verbs use it for
/// this shape and for shapes up to twice as large or small. Sums may be added in another order then, so the last digits of
/// results may differ.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Formats with commas between them
    #[arg(long, visible_alias = "formats", value_name = "SPECS", default_value = FORMATS)]
    format: String,
    /// Rows of x: 1 is decoding, more are prompts and batches [default: 1,4,16,128,512, up to 128 on a CPU]
    #[arg(long, value_name = "M", value_delimiter = ',', value_parser = common::positive)]
    rows: Vec<usize>,
    /// MxNxK: M rows of x, N rows and K columns of W, instead of --rows and the layers of the model. Several with commas
    #[arg(long, value_name = "MxNxK", value_delimiter = ',', conflicts_with = "rows")]
    shape: Vec<Shape>,
    /// Remove what was kept for this device, and measure nothing
    #[arg(long, conflicts_with_all = ["rows", "shape", "json", "dry_run"])]
    forget: bool,
    /// Measure, but keep nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    samples: SampleArgs,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let folder = common::tiles_folder();
    if folder.is_none() && !args.dry_run {
        bail!("ANYBIT_CACHE is empty, so nothing can be kept; name a folder in it, or give --dry-run");
    }
    let gpu = args.adapter.open()?;
    if let (true, Some(folder)) = (args.forget, &folder) {
        match gpu.forget_tuning(folder)? {
            Some(path) => common::note("removed", &path.display().to_string()),
            None => common::note("removed", "nothing, nothing was kept for this device"),
        }
        return Ok(true);
    }
    let clock = args.samples.clock(&gpu)?;
    let specs = latency::specs(&args.format)?;
    let cases = cases(args, &specs, gpu.class())?;
    if !args.shape.is_empty() {
        cases.iter().try_for_each(|case| case.check(&gpu))?;
    }
    let json = args.json.begin()?;
    super::banner(&gpu, clock);
    let options = Options { sampling: args.samples.sampling(), clock, cache: cache_bytes(&gpu) };
    common::note("cases", &format!("{}, every tile verified before it is timed", cases.len()));
    eprintln!();
    let bar = common::progress(cases.len() as u64, "tune");
    let mut rows = Vec::with_capacity(cases.len());
    for case in &cases {
        match case.check(&gpu) {
            Ok(()) => rows.extend(tune::run(&gpu, case, options).with_context(|| case.name())?),
            Err(error) => bar.suspend(|| eprintln!("NOTE: left out {error}")),
        }
        // Kept case by case: what was measured survives an end in between.
        if let (Some(folder), false) = (&folder, args.dry_run) {
            gpu.save_tuning(folder)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    common::print(&table(&rows))?;
    for failure in rows.iter().flat_map(|row| row.failures.iter().map(move |f| format!("{}: {f}", row.name)))
    {
        eprintln!("WARNING: left out {failure}");
    }
    if let (Some(folder), false) = (&folder, args.dry_run) {
        common::note("kept", &gpu.save_tuning(folder)?.display().to_string());
    }
    let pass = rows.iter().all(|row| row.failures.is_empty());
    let document = Document::new("tune", common::command_line(), &gpu, clock, rows);
    super::finish(json, || super::json(&document))?;
    Ok(pass)
}

fn cases(args: &Args, specs: &[Spec], class: DeviceClass) -> Result<Vec<Case>> {
    let shapes: Vec<Shape> = match args.shape.is_empty() {
        false => args.shape.clone(),
        true => {
            let rows = match (args.rows.is_empty(), class) {
                (false, _) => &args.rows[..],
                (true, DeviceClass::Gpu) => &[1, 4, 16, 128, 512],
                (true, DeviceClass::Cpu) => &[1, 4, 16, 128],
            };
            let layers = super::kernels::layers(&args.model.load()?);
            layers.iter().flat_map(|&(n, k)| rows.iter().map(move |&m| Shape { m, n, k })).collect()
        }
    };
    if shapes.is_empty() {
        bail!("the model has no linear layers; give --shape");
    }
    let case = |spec: &Spec, shape: Shape| match spec.activation {
        Some(_) => Case::new(Op::GemmInt, Some(*spec), shape),
        None => Case::new(Op::Gemm, Some(*spec), shape),
    };
    Ok(specs.iter().flat_map(|spec| shapes.iter().map(move |&shape| case(spec, shape))).collect())
}

fn table(rows: &[tune::Row]) -> String {
    let heads = ["product", "tiles", "default", "time", "best", "time", "speed"];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let same = row.best == row.default;
        let [before, after] = ["default", "best"].map(|name| row.measurements.get(name).map(|m| m.summary));
        let shown = |summary: Option<Summary>| {
            summary.map_or("-".to_owned(), |s| format!("{} ±{:.0}%", time(s.median), s.spread() * 50.0))
        };
        let ratio = before.zip(after).map_or(1.0, |(before, after)| before.median / after.median);
        cells.push(vec![
            row.name.clone(),
            row.candidates.to_string(),
            row.default.to_string(),
            shown(before),
            if same { "the default".to_owned() } else { row.best.to_string() },
            if same { "-".to_owned() } else { shown(after) },
            if same { "-".to_owned() } else { format!("{ratio:.2}x") },
        ]);
    }
    aligned(&cells, &[0, 2, 4])
}
