//! What the latency protocol tells: statistics, a table, the texts.

use anybit::eval::MemoryReport;
use anybit::format::Spec;
use serde_json::{Value, json};

use super::super::columns::aligned;
use super::super::common;

/// One run over all prompts.
pub(super) struct Run {
    /// Seconds from the text of each prompt to the text after it.
    pub(super) seconds: Vec<f64>,
    pub(super) ids: Vec<Vec<u32>>,
    pub(super) texts: Vec<String>,
}

/// A format, measured.
pub(super) struct Measured {
    pub(super) spec: Spec,
    pub(super) memory: MemoryReport,
    pub(super) estimate: u64,
    /// Planning and shader compilation before the first run.
    pub(super) compile: f64,
    pub(super) uploaded: u64,
    pub(super) runs: Vec<Run>,
}

/// Mean, median and spread of a sample.
struct Summary {
    mean: f64,
    median: f64,
    min: f64,
    max: f64,
    /// Of the sample, with n - 1; none of a single run.
    deviation: Option<f64>,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n.max(1) as f64;
        let median = match n {
            0 => 0.0,
            _ if n % 2 == 1 => sorted[n / 2],
            _ => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        };
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        let (min, max) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        Self { mean, median, min, max, deviation }
    }

    fn json(&self) -> Value {
        json!({ "mean": self.mean, "median": self.median, "min": self.min, "max": self.max,
                "standard_deviation": self.deviation })
    }
}

impl Run {
    fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }

    fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

impl Measured {
    fn latency(&self) -> Summary {
        Summary::of(&self.runs.iter().map(Run::total).collect::<Vec<_>>())
    }

    fn speed(&self) -> Summary {
        Summary::of(&self.runs.iter().map(|run| run.tokens() as f64 / run.total()).collect::<Vec<_>>())
    }

    /// Tokens of each prompt before the first that `other` has not.
    fn agreement(&self, other: &Measured) -> Vec<usize> {
        let same = |(a, b): (&Vec<u32>, &Vec<u32>)| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        self.runs[0].ids.iter().zip(&other.runs[0].ids).map(same).collect()
    }

    pub(super) fn json(&self, first: &Measured) -> Value {
        let run = &self.runs[0];
        let agreement = self.agreement(first);
        let texts = (0..run.ids.len()).map(
            |i| json!({ "text": run.texts[i], "ids": run.ids[i], "tokens_as_first_format": agreement[i] }),
        );
        json!({
            "format": self.spec.to_string(),
            "seconds": self.latency().json(),
            "tokens_per_second": self.speed().json(),
            "tokens": run.tokens(),
            "runs": self.runs.iter().map(|run| json!(run.seconds)).collect::<Vec<_>>(),
            "compile_seconds": self.compile,
            "estimated_bytes": self.estimate,
            "bytes": self.memory.bytes,
            "uploaded_bytes": self.uploaded,
            "bits_per_weight": self.memory.bits_per_weight,
            "texts": texts.collect::<Vec<_>>(),
        })
    }
}

/// One row per format.
pub(super) fn table(measured: &[Measured]) -> String {
    let head = [
        "format",
        "mean s",
        "median s",
        "min s",
        "max s",
        "s.d.",
        "tokens/s",
        "median",
        "min",
        "max",
        "s.d.",
        "tokens",
        "compile s",
        "estimated",
        "packed",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for measured in measured {
        let (latency, speed) = (measured.latency(), measured.speed());
        let cells = |summary: &Summary, digits: usize| {
            let deviation = summary.deviation.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            let values = [summary.mean, summary.median, summary.min, summary.max];
            let mut cells = values.map(|value| format!("{value:.digits$}")).to_vec();
            cells.push(deviation);
            cells
        };
        let mut row = vec![measured.spec.to_string()];
        row.extend(cells(&latency, 4));
        row.extend(cells(&speed, 1));
        row.push(measured.runs[0].tokens().to_string());
        row.push(format!("{:.3}", measured.compile));
        row.push(common::bytes(measured.estimate));
        row.push(common::bytes(measured.memory.bytes));
        rows.push(row);
    }
    aligned(&rows, &[0])
}

/// Each prompt with its continuation in every format.
pub(super) fn texts(prompts: &[String], measured: &[Measured]) -> String {
    let mut text = String::new();
    for (i, prompt) in prompts.iter().enumerate() {
        text += &format!("\n--- {} of {} ---\n{prompt}\n", i + 1, prompts.len());
        for format in measured {
            let run = &format.runs[0];
            let same = match format.agreement(&measured[0])[i] {
                _ if std::ptr::eq(format, &measured[0]) => String::new(),
                same if same == run.ids[i].len() && run.ids[i] == measured[0].runs[0].ids[i] => {
                    format!(", as {}", measured[0].spec)
                }
                same => format!(", {same} tokens as {}", measured[0].spec),
            };
            text += &format!("[{}{same}] {}\n", format.spec, run.texts[i]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_those_of_the_textbook() {
        let summary = Summary::of(&[4.0, 2.0, 9.0, 5.0]);
        assert_eq!((summary.mean, summary.median, summary.min, summary.max), (5.0, 4.5, 2.0, 9.0));
        // Squares of the distances: 1 + 9 + 16 + 0, over 3.
        assert!((summary.deviation.unwrap() - (26.0f64 / 3.0).sqrt()).abs() < 1e-15);
        let one = Summary::of(&[3.0]);
        assert_eq!((one.median, one.deviation), (3.0, None));
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]).median, 2.0);
    }
}
