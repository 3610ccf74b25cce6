//! `anybit bench table`

use std::path::PathBuf;

use anybit::bench::compare::{Entry, Results};
use anybit::bench::{Measurement, Rates, Unit};
use anybit::gpu::Clock;
use anyhow::Result;

use super::super::common;
use super::time;

/// Print files of results as Markdown tables
///
/// Each file becomes a line that says what was measured where, when and by which command, and a table. Times are medians,
/// with half the distance of the quartiles; `c` says that operands may have come from the cache, `w` that a time is by the
/// wall clock.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results of `bench … --json`
    #[arg(value_name = "FILE.json", required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let all = args.files.iter().map(|path| Results::read(path)).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<String> = all.iter().map(markdown).collect();
    common::print(&texts.join("\n"))?;
    Ok(true)
}

fn markdown(results: &Results) -> String {
    let device = &results.device;
    // The program stands in the command with a folder of the machine.
    let command = results.command.get(1..).unwrap_or_default().iter().map(|word| quoted(word));
    let command = std::iter::once("anybit".to_owned()).chain(command).collect::<Vec<_>>().join(" ");
    let day = results.date.split('T').next().unwrap_or_default();
    let mut text = format!("{} ({}), {day}, `{command}`:\n\n", device.name, device.driver);
    let columns = columns(&results.rows);
    let rated = results.rows.iter().any(|row| row.rates.is_some());
    let mut head = vec![results.kind.clone()];
    head.extend(columns.iter().map(|name| (*name).to_owned()));
    let pair = pair(&columns);
    if pair.is_some() {
        head.push("speed".to_owned());
    }
    if rated {
        head.extend(["bytes", "GOP/s", "GB/s", "peak", "copy"].map(str::to_owned));
    }
    text += &line(&head);
    text += &format!("|---|{}\n", "--:|".repeat(head.len() - 1));
    for row in &results.rows {
        let median = |name: &str| row.measurements.get(name).map(|m| m.summary.median);
        let mut cells = vec![format!("`{}`", row.name)];
        let shown_number =
            |name: &&str| row.measurements.get(*name).map_or("-".to_owned(), |m| number(m, marks(row, name)));
        cells.extend(columns.iter().map(shown_number));
        if let Some((slow, fast)) = pair {
            cells.push(shown(median(slow).zip(median(fast)).map(|(slow, fast)| slow / fast), |x| {
                format!("{x:.2}x")
            }));
        }
        if rated {
            let rates = row.rates.unwrap_or_default();
            let Rates { traffic, operations, bytes, of_arithmetic, of_copy, .. } = rates;
            cells.push(shown(traffic, |x| format!("{x:.2}x")));
            cells.extend([operations, bytes].map(|rate| shown(rate, |x| format!("{:.2}", x / 1e9))));
            cells.extend([of_arithmetic, of_copy].map(|part| shown(part, |x| format!("{:.0} %", x * 100.0))));
        }
        text += &line(&cells);
    }
    text
}

/// Names of measurements, those of naive plans and default tiles first.
fn columns(rows: &[Entry]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.measurements.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| !(name.starts_with("naive") || *name == "default"));
    names
}

/// Which columns make a ratio, the slower one first.
fn pair(columns: &[&str]) -> Option<(&'static str, &'static str)> {
    let pairs = [("naive", "fused"), ("naive gpu", "fused gpu"), ("default", "best")];
    pairs.into_iter().find(|(slow, fast)| columns.contains(slow) && columns.contains(fast))
}

fn shown(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or("-".to_owned(), show)
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn number(m: &Measurement, marks: &str) -> String {
    let half = m.summary.spread() * 50.0;
    match m.unit {
        Unit::Seconds => format!("{}{marks} ±{half:.0} %", time(m.summary.median)),
        Unit::TokensPerSecond => format!("{:.1} t/s ±{half:.0} %", m.summary.median),
    }
}

/// What has to be said of a time of the device.
fn marks(row: &Entry, name: &str) -> &'static str {
    let side = match name {
        "fused" | "fused gpu" => row.fused,
        "naive" | "naive gpu" => row.naive,
        _ => return "",
    };
    let cached = side.is_some_and(|side| !side.exceeds_cache);
    match (cached, row.clock == Some(Clock::Wall)) {
        (false, false) => "",
        (true, false) => " c",
        (false, true) => " w",
        (true, true) => " c w",
    }
}

/// A word of a command line as a shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+@".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}
