//! Two files of results: what changed, and what is noise.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Measurement, Rates, VERSION};
use crate::error::{Error, Result, invalid};
use crate::gpu::Clock;

/// Changes of medians below this part are noise, however narrow the samples lie: clocks and allocations differ from
/// run to run.
const LEAST: f64 = 0.02;

/// A file of results, as far as a comparison needs it.
#[derive(Clone, Debug, Deserialize)]
pub struct Results {
    anybit_bench: u32,
    /// `kernels`, `attention`, `model`, `startup`
    pub kind: String,
    /// Version of anybit.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it was measured.
    pub date: String,
    /// Where it was measured.
    pub device: Device,
    /// What was measured.
    pub rows: Vec<Entry>,
}

/// What tells devices apart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// Name of the adapter.
    pub name: String,
    /// Its interface.
    pub backend: String,
    /// Its driver.
    pub driver: String,
}

/// A row of results.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// What the row is about; the same in both files.
    pub name: String,
    /// Numbers by name.
    pub measurements: BTreeMap<String, Measurement>,
    /// What follows from them, of kernels.
    pub rates: Option<Rates>,
    /// What times were read from, of kernels.
    pub clock: Option<Clock>,
    /// The fused side, of kernels and attention.
    pub fused: Option<SideEntry>,
    /// The naive side.
    pub naive: Option<SideEntry>,
}

/// A side of a row, as far as its times need it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct SideEntry {
    /// See [`Side::exceeds_cache`](super::Side::exceeds_cache).
    pub exceeds_cache: bool,
}

/// What became of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Within the spread of the samples.
    Noise,
    /// Better by more than that.
    Faster,
    /// Worse by more than that.
    Slower,
}

impl Change {
    /// `noise`, `faster`, `slower`
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Faster => "faster",
            Self::Slower => "slower",
        }
    }

    /// Of two measurements in the same unit: medians that lie closer together than both distances between quartiles, or
    /// than 2 %, have not changed.
    pub fn of(a: &Measurement, b: &Measurement) -> Self {
        let range = |m: &Measurement| m.summary.high - m.summary.low;
        let difference = b.summary.median - a.summary.median;
        let noise = (range(a) + range(b)).max(LEAST * a.summary.median.min(b.summary.median));
        match difference.abs() <= noise {
            true => Self::Noise,
            false if (difference > 0.0) == a.unit.more_is_better() => Self::Faster,
            false => Self::Slower,
        }
    }
}

/// One number of both files.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Name of the row.
    pub row: String,
    /// Name of the number.
    pub measurement: String,
    /// In the first file.
    pub a: Measurement,
    /// In the second.
    pub b: Measurement,
    /// How many times as good the second median is: above 1 it is better.
    pub ratio: f64,
    /// Whether that means anything.
    pub change: Change,
}

/// All numbers of two files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// What both have, in the order of the first.
    pub lines: Vec<Line>,
    /// What only the first has.
    pub only_a: Vec<String>,
    /// What only the second has.
    pub only_b: Vec<String>,
}

impl Results {
    /// Reads a file that `anybit bench … --json` wrote.
    ///
    /// # Errors
    /// When it cannot be read, is something else, or was damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
        Self::parse(&bytes, &path.display().to_string())
    }

    fn parse(bytes: &[u8], label: &str) -> Result<Self> {
        let advice = "want a file that `anybit bench kernels --json FILE` or another of its verbs wrote";
        let results: Self = serde_json::from_slice(bytes).map_err(|e| {
            Error::invalid(format!("{label} holds no results of anybit bench ({e}); {advice}"))
        })?;
        if results.anybit_bench != VERSION {
            let got = results.anybit_bench;
            invalid!("{label} has results of layout {got}; this program reads {VERSION}: measure again");
        }
        for (i, row) in results.rows.iter().enumerate() {
            if results.rows[..i].iter().any(|other| other.name == row.name) {
                invalid!("{label} has two rows `{}`; {advice}", row.name);
            }
            for (name, Measurement { summary: s, .. }) in &row.measurements {
                let ordered = [s.min, s.low, s.median, s.high, s.max].is_sorted();
                if !ordered || s.min < 0.0 || s.median <= 0.0 || s.samples == 0 {
                    invalid!("{label}, row `{}`: {name} has no sound statistics ({s:?}); {advice}", row.name);
                }
            }
        }
        Ok(results)
    }
}

/// Compares row by row.
///
/// # Errors
/// When the two are of different kinds.
pub fn compare(a: &Results, b: &Results) -> Result<Comparison> {
    if a.kind != b.kind {
        invalid!("results of `bench {}` and of `bench {}`; want two of one verb", a.kind, b.kind);
    }
    let mut comparison = Comparison::default();
    let names = |row: &Entry| -> Vec<String> {
        row.measurements.keys().map(|name| format!("{}: {name}", row.name)).collect()
    };
    for row in &a.rows {
        let Some(other) = b.rows.iter().find(|other| other.name == row.name) else {
            comparison.only_a.extend(names(row));
            continue;
        };
        for (name, &x) in &row.measurements {
            let Some(&y) = other.measurements.get(name).filter(|y| y.unit == x.unit) else {
                comparison.only_a.push(format!("{}: {name}", row.name));
                continue;
            };
            let ratio = y.summary.median / x.summary.median;
            comparison.lines.push(Line {
                row: row.name.clone(),
                measurement: name.clone(),
                a: x,
                b: y,
                ratio: if x.unit.more_is_better() { ratio } else { 1.0 / ratio },
                change: Change::of(&x, &y),
            });
        }
    }
    for row in &b.rows {
        let known = |name: &String| {
            let line = |l: &Line| format!("{}: {}", l.row, l.measurement) == *name;
            comparison.lines.iter().any(line)
        };
        let new: Vec<String> = names(row).into_iter().filter(|name| !known(name)).collect();
        comparison.only_b.extend(new);
    }
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::super::{Summary, Unit};
    use super::*;

    fn measured(unit: Unit, low: f64, median: f64, high: f64) -> Measurement {
        Measurement { unit, summary: Summary { samples: 20, median, low, high, min: low, max: high } }
    }

    #[test]
    fn what_lies_within_the_spread_is_noise() {
        let s = |low, median, high| measured(Unit::Seconds, low, median, high);
        let t = |low, median, high| measured(Unit::TokensPerSecond, low, median, high);
        for (a, b, want) in [
            // Apart by 0.3, ranges of 0.2 each.
            (s(0.9, 1.0, 1.1), s(1.2, 1.3, 1.4), Change::Noise),
            // Apart by 0.5.
            (s(0.9, 1.0, 1.1), s(1.4, 1.5, 1.6), Change::Slower),
            (s(1.4, 1.5, 1.6), s(0.9, 1.0, 1.1), Change::Faster),
            // Narrow, and apart by 1 % or 3 %.
            (s(1.0, 1.0, 1.0), s(1.01, 1.01, 1.01), Change::Noise),
            (s(1.0, 1.0, 1.0), s(1.03, 1.03, 1.03), Change::Slower),
            (s(1.0, 1.0, 1.0), s(1.0, 1.0, 1.0), Change::Noise),
            // One narrow, one wide.
            (s(1.0, 1.0, 1.0), s(1.0, 1.9, 2.0), Change::Noise),
            // Of tokens more are better.
            (t(99.0, 100.0, 101.0), t(149.0, 150.0, 151.0), Change::Faster),
            (t(99.0, 100.0, 101.0), t(49.0, 50.0, 51.0), Change::Slower),
        ] {
            assert_eq!(Change::of(&a, &b), want, "{a:?} {b:?}");
        }
    }

    fn results(kind: &str, rows: &str) -> Result<Results> {
        let text = format!(
            r#"{{"anybit_bench": 1, "kind": "{kind}", "version": "0", "date": "d", "command": [],
            "device": {{"name": "n", "backend": "b", "driver": "d"}}, "rows": [{rows}]}}"#
        );
        Results::parse(text.as_bytes(), "x.json")
    }

    fn row(name: &str, measurement: &str, median: f64) -> String {
        format!(
            r#"{{"name": "{name}", "failure": null, "measurements": {{"{measurement}": {{"unit": "seconds",
            "samples": 5, "median": {median}, "low": {median}, "high": {median}, "min": {median}, "max": {median}}}}}}}"#
        )
    }

    #[test]
    fn rows_are_matched_by_name_and_what_is_missing_is_named() {
        let a = format!("{},{},{}", row("x", "fused", 2.0), row("y", "fused", 1.0), row("v", "naive", 1.0));
        let b = format!("{},{},{}", row("x", "fused", 1.0), row("z", "fused", 1.0), row("v", "fused", 1.0));
        let (a, b) = (results("kernels", &a).unwrap(), results("kernels", &b).unwrap());
        let c = compare(&a, &b).unwrap();
        assert_eq!(c.lines.len(), 1);
        assert_eq!(
            (c.lines[0].row.as_str(), c.lines[0].ratio, c.lines[0].change),
            ("x", 2.0, Change::Faster)
        );
        assert_eq!(c.only_a, ["y: fused", "v: naive"]);
        assert_eq!(c.only_b, ["z: fused", "v: fused"]);
        let other = results("model", "").unwrap();
        assert!(compare(&a, &other).unwrap_err().to_string().contains("two of one verb"));
    }

    #[test]
    fn foreign_and_damaged_files_are_refused() {
        for (text, says) in [
            ("", "holds no results"),
            ("[]", "holds no results"),
            ("{\"rows\": []}", "holds no results"),
            ("\u{0}", "holds no results"),
        ] {
            let error = Results::parse(text.as_bytes(), "x.json").unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("x.json"), "{text}: {error}");
        }
        let twice = format!("{},{}", row("x", "fused", 1.0), row("x", "fused", 1.0));
        assert!(results("kernels", &twice).unwrap_err().to_string().contains("two rows `x`"));
        for wrong in [0.0, -1.0] {
            let error = results("kernels", &row("x", "fused", wrong)).unwrap_err().to_string();
            assert!(error.contains("no sound statistics"), "{error}");
        }
        let newer = br#"{"anybit_bench": 2, "kind": "", "version": "", "date": "", "command": [], "rows": [],
            "device": {"name": "", "backend": "", "driver": ""}}"#;
        assert!(Results::parse(newer, "x").unwrap_err().to_string().contains("layout 2"));
    }
}
