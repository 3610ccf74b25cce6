//! `anybit bench compare`

use std::path::PathBuf;

use anybit::bench::compare::{Change, Comparison, Line, Results, compare};
use anybit::bench::{Measurement, Unit};
use anybit::model::atomic::AtomicFile;
use anyhow::{Result, bail};

use super::super::columns::aligned;
use super::super::common;
use super::time;

/// Compare two files of results: ratios of medians, and which of them are noise
///
/// A ratio above 1 means that B is better. Medians that lie closer together than the distances between the quartiles of
/// both, or than 2 %, are noise. How a machine drifts between two runs shows in neither: where it matters, measure A, B and
/// A again. Results of different devices are compared and said to be such.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results before
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// Results after
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// Only what is not noise
    #[arg(long)]
    changes: bool,
    /// Write the comparison as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let (a, b) = (Results::read(&args.a)?, Results::read(&args.b)?);
    let comparison = compare(&a, &b)?;
    if comparison.lines.is_empty() {
        bail!(
            "{} and {} have no row in common; run the same cases twice",
            args.a.display(),
            args.b.display()
        );
    }
    let json = args.json.as_deref().map(AtomicFile::create).transpose()?;
    for (label, results) in [("A", &a), ("B", &b)] {
        let device = &results.device;
        common::note(
            label,
            &format!("{}, anybit {}, {} ({})", results.date, results.version, device.name, device.driver),
        );
    }
    if a.device != b.device {
        common::note("WARNING", "the two were measured on different devices or drivers");
    }
    eprintln!();
    common::print(&table(&comparison, args.changes))?;
    let count = |change| comparison.lines.iter().filter(|line| line.change == change).count();
    common::print(&format!(
        "{} faster, {} slower, {} noise\n",
        count(Change::Faster),
        count(Change::Slower),
        count(Change::Noise)
    ))?;
    for (label, names) in [("only in A", &comparison.only_a), ("only in B", &comparison.only_b)] {
        for name in names {
            common::note(label, name);
        }
    }
    super::finish(json, || Ok(format!("{}\n", serde_json::to_string_pretty(&comparison)?)))?;
    Ok(true)
}

fn table(comparison: &Comparison, changes: bool) -> String {
    let head = ["row", "time", "A", "B", "B is", "verdict"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    let shown = |line: &&Line| !changes || line.change != Change::Noise;
    for line in comparison.lines.iter().filter(shown) {
        cells.push(vec![
            line.row.clone(),
            line.measurement.clone(),
            number(&line.a),
            number(&line.b),
            format!("{:.2}x", line.ratio),
            line.change.name().to_owned(),
        ]);
    }
    aligned(&cells, &[0, 1, 5])
}

/// `4.21 ms ±3%`
fn number(m: &Measurement) -> String {
    let value = match m.unit {
        Unit::Seconds => time(m.summary.median),
        Unit::TokensPerSecond => format!("{:.1} t/s", m.summary.median),
    };
    format!("{value} ±{:.0}%", m.summary.spread() * 50.0)
}
