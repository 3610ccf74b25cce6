//! `anybit bench attention`

use anybit::bench::attention::{self, Case, Row};
use anybit::bench::kernels::Options;
use anybit::bench::{Document, cache_bytes};
use anybit::shader::DeviceClass;
use anyhow::{Context as _, Result, bail};

use super::super::columns::aligned;
use super::super::common;
use super::{AdapterArgs, JsonArgs, SampleArgs, time};

/// Time attention, naive in three passes and fused, on the device and on the CPU reference
///
/// Naive writes all scores, then their softmax, then the sums of values; fused keeps them in registers. The CPU reference
/// is plain code in f64 on all cores: a yardstick, no rival.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tokens of a sequence, several with commas [default: 512,2048; 64,256 on a CPU]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = common::positive)]
    lengths: Vec<usize>,
    /// Elements of a head, several with commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = common::positive, default_values_t = [64, 128])]
    head_dims: Vec<usize>,
    /// Heads
    #[arg(long, value_name = "N", value_parser = common::positive, default_value_t = 8)]
    heads: usize,
    /// Only with a causal mask [default: with and without]
    #[arg(long, conflicts_with = "full")]
    causal: bool,
    /// Only without a mask
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    samples: SampleArgs,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let gpu = args.adapter.open()?;
    let clock = args.samples.clock(&gpu)?;
    let lengths = match (args.lengths.is_empty(), gpu.class()) {
        (false, _) => args.lengths.clone(),
        (true, DeviceClass::Gpu) => vec![512, 2048],
        (true, DeviceClass::Cpu) => vec![64, 256],
    };
    let mut cases = Vec::new();
    for causal in [true, false] {
        if (args.causal && !causal) || (args.full && causal) {
            continue;
        }
        for &length in &lengths {
            for &head_dim in &args.head_dims {
                let case = Case { length, heads: args.heads, head_dim, causal };
                case.check(&gpu)?;
                if cases.contains(&case) {
                    bail!("{} twice; name every size once", case.name());
                }
                cases.push(case);
            }
        }
    }
    let json = args.json.begin()?;
    super::banner(&gpu, clock);
    eprintln!();
    let options = Options { sampling: args.samples.sampling(), clock, cache: cache_bytes(&gpu) };
    let bar = common::progress(cases.len() as u64, "benchmark");
    let mut rows = Vec::with_capacity(cases.len());
    for case in cases {
        rows.push(attention::run(&gpu, case, options).with_context(|| case.name())?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    common::print(&table(&rows))?;
    let pass = rows.iter().all(|row| row.failure.is_none());
    let document = Document::new("attention", common::command_line(), &gpu, clock, rows);
    super::finish(json, || super::json(&document))?;
    Ok(pass)
}

fn table(rows: &[Row]) -> String {
    let heads = [
        "attention",
        "naive CPU",
        "fused CPU",
        "naive GPU",
        "fused GPU",
        "fused/naive",
        "GOP/s",
        "NMSE",
        "kernels",
    ];
    let mut cells = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let median = |name| row.measurements.get(name).map(|m| m.summary.median);
        let shown = |name| {
            row.measurements.get(name).map_or("-".to_owned(), |m| {
                format!("{} ±{:.0}%", time(m.summary.median), m.summary.spread() * 50.0)
            })
        };
        let ratio = median("naive gpu").zip(median("fused gpu")).map(|(naive, fused)| naive / fused);
        let rate = median("fused gpu").map(|seconds| row.operations as f64 / seconds / 1e9);
        let nmse = row.fused.as_ref().and_then(|side| side.verdict.nmse);
        cells.push(vec![
            row.name.clone(),
            shown("naive cpu"),
            shown("fused cpu"),
            shown("naive gpu"),
            shown("fused gpu"),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x")),
            rate.map_or("-".to_owned(), |rate| format!("{rate:.2}")),
            nmse.map_or("-".to_owned(), |nmse| format!("{nmse:.0e}")),
            match &row.failure {
                Some(why) => format!("FAIL {why}"),
                None => row.fused.as_ref().map_or(String::new(), |side| side.kernels.join(" + ")),
            },
        ]);
    }
    aligned(&cells, &[0, 8])
}
