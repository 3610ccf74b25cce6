//! The table for the terminal.

use super::text::{NONE, bytes, number, optional, percent, seconds, shortened};
use super::{Summary, Uniform, state_name};
use crate::model::Unit;
use crate::search::{Measurement, TrialState};

/// Rows of the front that are shown; of a longer one, so many spread evenly.
const MOST: usize = 12;

/// Best, front and uniform baselines of a study as plain text, aligned, by size.
pub fn table(summary: &Summary) -> String {
    let mut rows: Vec<(Option<usize>, &Measurement, String)> = Vec::new();
    let front: Vec<_> = summary.chosen();
    let thinned = thin(&front, MOST, |(trial, _)| Some(trial.number) == summary.best);
    let left_out = front.len() - thinned.len();
    for (trial, m) in thinned {
        let best = Some(trial.number) == summary.best;
        let on_front = summary.front.contains(&trial.number);
        let what = match (best, on_front) {
            (true, true) if summary.front.len() > 1 => "best, front",
            (true, _) => "best",
            _ => "front",
        };
        rows.push((Some(trial.number), m, what.to_owned()));
    }
    for (Uniform { spec, trial, .. }, m) in summary.baselines() {
        // A baseline on the front has one row that says both.
        match rows.iter_mut().find(|row| trial.is_some() && row.0 == *trial) {
            Some(row) => row.2 = format!("{}, all {}", row.2, plain(spec)),
            None => rows.push((*trial, m, format!("all {}", plain(spec)))),
        }
    }
    rows.sort_by_key(|(trial, m, _)| (summary.size().bytes(m), *trial));
    let mut text = heading(summary);
    if rows.is_empty() {
        return text + "nothing was measured\n";
    }
    let latency = rows.iter().any(|row| row.1.latency.is_some());
    let mut cells =
        vec![["", "trial", "bytes", "bits/weight", "loss", "KL", "agreement"].map(str::to_owned).to_vec()];
    let accuracy = summary.unit == Unit::Example;
    if accuracy {
        cells[0].push("accuracy".to_owned());
    }
    if latency {
        cells[0].push("latency".to_owned());
    }
    for (trial, m, what) in &rows {
        let mut row = vec![
            shortened(what, 48),
            trial.map_or(NONE.to_owned(), |trial| trial.to_string()),
            bytes(summary.size().bytes(m) as f64),
            format!("{:.2}", m.bits_per_weight),
            format!("{:.4}", m.loss),
            number(m.kl),
            percent(m.agreement),
        ];
        if accuracy {
            row.push(percent(m.accuracy));
        }
        if latency {
            row.push(optional(m.latency, seconds));
        }
        cells.push(row);
    }
    if let Some(loss) = summary.baseline_loss.filter(|loss| loss.is_finite()) {
        let mut row = ["f32 model", "", "", "32.00", "", "0", "100.0 %"].map(str::to_owned).to_vec();
        row[4] = format!("{loss:.4}");
        row[1] = NONE.to_owned();
        row[2] = NONE.to_owned();
        if accuracy {
            row.push(optional(summary.baseline_accuracy, percent));
        }
        cells.push(row);
    }
    text += &aligned(&cells);
    if left_out > 0 {
        text += &format!("{left_out} more on the front\n");
    }
    text
}

fn heading(summary: &Summary) -> String {
    const STATES: [TrialState; 5] = [
        TrialState::Complete,
        TrialState::Failed,
        TrialState::Pruned,
        TrialState::Running,
        TrialState::Waiting,
    ];
    let counts = STATES.into_iter().map(|state| (summary.count(state), state));
    let states: Vec<String> = counts
        .filter(|(count, state)| *count > 0 || *state == TrialState::Complete)
        .map(|(count, state)| format!("{count} {}", state_name(state)))
        .collect();
    format!("{}: {} trials, {}\n", plain(&summary.title), summary.trials.len(), states.join(", "))
}

/// `most` of `items`, spread evenly, first and last among them, and those that `keep` names.
pub(super) fn thin<T: Copy>(items: &[T], most: usize, keep: impl Fn(&T) -> bool) -> Vec<T> {
    if items.len() <= most {
        return items.to_vec();
    }
    let mut wanted = vec![false; items.len()];
    for i in 0..most {
        wanted[i * (items.len() - 1) / (most - 1).max(1)] = true;
    }
    items.iter().zip(wanted).filter(|(item, wanted)| *wanted || keep(item)).map(|(item, _)| *item).collect()
}

/// Text without what would move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The first column flush left, all others flush right, two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let wide: Vec<usize> = (0..columns).map(wide).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(wide[column] - cell.chars().count());
            line += &if column == 0 { format!("{cell}{gap}") } else { format!("  {gap}{cell}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
