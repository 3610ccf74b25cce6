//! The parts of a page that are numbers: key figures and tables.

use super::bars;
use super::html::figure;
use super::progress::objective_names;
use super::scatter::is_uniform;
use super::statistics::Span;
use super::text::{NONE, bytes, change, escape, number, optional, percent, seconds, significant};
use super::{Summary, Uniform};
use crate::model::Unit;
use crate::search::{Measurement, Quality, Trial, TrialState};

/// Rows of cells; the first row is the head. Columns of `left` are flush left, those of `wrapped` may be broken.
struct Table<'a> {
    head: Vec<&'a str>,
    left: &'a [usize],
    rows: Vec<(bool, Vec<String>)>,
}

impl Table<'_> {
    fn html(&self) -> String {
        let class = |column: usize| if self.left.contains(&column) { " class=\"l w\"" } else { "" };
        let row = |cells: &mut dyn Iterator<Item = &str>, tag: &str, best: bool| {
            let cells = cells.enumerate();
            let cells: String =
                cells.map(|(i, cell)| format!("<{tag}{}>{}</{tag}>", class(i), escape(cell))).collect();
            format!("<tr{}>{cells}</tr>\n", if best { " class=\"best\"" } else { "" })
        };
        let mut text = String::from("<div class=\"wide\"><table>\n");
        text += &row(&mut self.head.iter().copied(), "th", false);
        for (best, cells) in &self.rows {
            text += &row(&mut cells.iter().map(String::as_str), "td", *best);
        }
        text + "</table></div>\n"
    }
}

/// A table of a page; the columns of `left` are flush left.
pub(super) fn html_table(head: &[&str], left: &[usize], rows: Vec<Vec<String>>) -> String {
    Table { head: head.to_vec(), left, rows: rows.into_iter().map(|row| (false, row)).collect() }.html()
}

/// The trial that stands for the study: the best, else the one of the front that is nearest to the best value of every
/// objective, each scaled to the range of the front.
fn highlighted(summary: &Summary) -> Option<(&Trial, &Measurement)> {
    if let Some(best) = summary.best.and_then(|number| summary.measured_trial(number)) {
        return Some(best);
    }
    let chosen = summary.chosen();
    let count = summary.objective.count();
    let values = |trial: &Trial, i: usize| trial.values.get(i).copied().unwrap_or(f64::INFINITY);
    let spans: Vec<Span> = (0..count)
        .map(|i| Span::new(chosen.iter().map(|(trial, _)| values(trial, i)), 2.0))
        .collect::<Option<_>>()?;
    let distance =
        |trial: &Trial| -> f64 { (0..count).map(|i| spans[i].share(values(trial, i)).powi(2)).sum() };
    chosen.into_iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)))
}

/// The baseline of the best quality that is not larger than `limit`.
fn best_uniform(summary: &Summary, limit: u64) -> Option<(&Uniform, &Measurement)> {
    let (size, quality) = (summary.size(), summary.quality());
    let fitting = summary.baselines().into_iter().filter(|(_, m)| size.bytes(m) <= limit);
    fitting.min_by(|a, b| quality.value(a.1).total_cmp(&quality.value(b.1)))
}

/// How much better: divergences by their ratio, losses by their difference.
fn gain(quality: Quality, value: f64, reference: f64) -> String {
    match quality {
        Quality::Kl => change(value, reference),
        Quality::Loss | Quality::Error => format!("{:+.4}", value - reference).replace('-', "−"),
    }
}

/// The key figures.
pub(super) fn figures(summary: &Summary) -> String {
    let mut cards: Vec<(String, String, String)> = Vec::new();
    let (size, quality) = (summary.size(), summary.quality());
    let name = super::Metric::Quality(quality);
    if let Some((trial, m)) = highlighted(summary) {
        let origin = format!("trial {} ({})", trial.number, trial.origin);
        if summary.best.is_some() && trial.values.len() == 1 {
            let what = objective_names(summary).join(", ");
            cards.push((number(trial.values[0]), format!("best {what}"), origin));
        } else {
            let values: Vec<String> = vec![number(quality.value(m)), bytes(size.bytes(m) as f64)];
            cards.push((values.join(" · "), format!("{name} and size of the compromise"), origin));
        }
        let (value, label) = match best_uniform(summary, size.bytes(m)) {
            Some((uniform, reference)) => (
                gain(quality, quality.value(m), quality.value(reference)),
                format!("{name} against all {} at {}", uniform.spec, bytes(size.bytes(reference) as f64)),
            ),
            None => (NONE.to_owned(), "no uniform baseline is as small".to_owned()),
        };
        cards.push((value, label, "the best uniform at no more bytes".to_owned()));
        let bits = format!("{} bits/weight of the block linears", significant(m.bits_per_weight, 3));
        cards.push((bytes(m.bytes as f64), "packed".to_owned(), bits));
        let loss = match summary.baseline_loss.filter(|loss| loss.is_finite()) {
            Some(loss) => format!("{:.4} with f32 weights", loss),
            None => String::new(),
        };
        cards.push((format!("{:.4}", m.loss), format!("loss, nats/{}", summary.unit.name()), loss));
        let agreement = format!("{}s predicted as by the f32 model", summary.unit.name());
        if summary.unit == Unit::Example {
            cards.push((percent(m.accuracy), "accuracy".to_owned(), "share of right labels".to_owned()));
        }
        cards.push((percent(m.agreement), agreement, format!("KL {}", number(m.kl))));
    }
    let complete = summary.count(TrialState::Complete);
    let others = [TrialState::Failed, TrialState::Pruned, TrialState::Running, TrialState::Waiting];
    let others: Vec<String> = others
        .into_iter()
        .map(|state| (summary.count(state), super::state_name(state)))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let mut notes = others;
    if summary.front.len() > 1 {
        notes.push(format!("{} on the front", summary.front.len()));
    }
    if summary.effort.trials_per_second > 0.0 {
        notes.push(format!("{} per second", significant(summary.effort.trials_per_second, 3)));
    }
    cards.push((complete.to_string(), "complete trials".to_owned(), notes.join(", ")));
    let card = |(value, label, note): &(String, String, String)| {
        let span = |text: &str| {
            if text.is_empty() { String::new() } else { format!("<span>{}</span>", escape(text)) }
        };
        format!("<div class=\"card\"><b>{}</b>{}{}</div>\n", escape(value), span(label), span(note))
    };
    let mut text = format!("<div class=\"cards\">\n{}</div>\n", cards.iter().map(card).collect::<String>());
    if complete == 0 {
        text += "<p>No trial is complete.</p>\n";
    }
    text
}

/// For each uniform baseline what the search found at no more bytes, and how small it gets at no less quality.
pub(super) fn against_uniform(summary: &Summary) -> String {
    let (size, quality) = (summary.size(), summary.quality());
    let mut baselines = summary.baselines();
    if baselines.is_empty() {
        return String::new();
    }
    baselines.sort_by_key(|(_, m)| size.bytes(m));
    let found: Vec<_> = summary.measured().filter(|(trial, _)| !is_uniform(summary, trial.number)).collect();
    let of = |m: &Measurement| quality.value(m);
    let row = |(uniform, m): &(&Uniform, &Measurement)| {
        let smaller = found.iter().filter(|(_, other)| size.bytes(other) <= size.bytes(m));
        let better = smaller.min_by(|a, b| of(a.1).total_cmp(&of(b.1)));
        let good = found.iter().filter(|(_, other)| of(other) <= of(m));
        let least = good.min_by_key(|(_, other)| size.bytes(other));
        let mut cells = vec![
            uniform.spec.clone(),
            bytes(size.bytes(m) as f64),
            significant(m.bits_per_weight, 3),
            number(of(m)),
        ];
        cells.extend(match better {
            Some((trial, other)) => {
                [trial.number.to_string(), number(of(other)), gain(quality, of(other), of(m))]
            }
            None => [NONE.to_owned(), NONE.to_owned(), NONE.to_owned()],
        });
        cells.extend(match least {
            Some((trial, other)) => {
                let saved = change(size.bytes(other) as f64, size.bytes(m) as f64);
                [trial.number.to_string(), bytes(size.bytes(other) as f64), saved]
            }
            None => [NONE.to_owned(), NONE.to_owned(), NONE.to_owned()],
        });
        cells
    };
    let name = super::Metric::Quality(quality).to_string();
    let at_size = format!("{name} at no more bytes");
    let head = ["one spec everywhere", "size", "bits/weight", &name, "trial", &at_size, "change"];
    let head: Vec<&str> = head.into_iter().chain(["trial", "size at no worse quality", "change"]).collect();
    let rows = baselines.iter().map(row).collect();
    format!("<h2>Against one spec everywhere</h2>\n{}", html_table(&head, &[0], rows))
}

/// Front and best measured again.
pub(super) fn finals(summary: &Summary) -> String {
    if summary.finals.is_empty() {
        return String::new();
    }
    let latency = summary.finals.iter().any(|f| f.latency_sum.is_some() || f.latency_whole.is_some());
    let mut head =
        vec!["trial", "what", "file", "loss", "KL", "agreement", "accuracy", "size", "bits/weight"];
    if latency {
        head.extend(["latency, sum of layers", "whole pass"]);
    }
    let mut finals: Vec<_> = summary.finals.iter().collect();
    finals.sort_by_key(|f| (f.bytes, f.trial));
    let row = |f: &&super::Final| {
        let best = summary.best == Some(f.trial);
        let uniform = summary.uniform.iter().find(|uniform| uniform.trial == Some(f.trial));
        let mut what: Vec<String> = Vec::new();
        if best {
            what.push("best".to_owned());
        }
        if summary.front.contains(&f.trial) {
            what.push("front".to_owned());
        }
        what.extend(uniform.map(|uniform| format!("all {}", uniform.spec)));
        let mut cells = vec![
            f.trial.to_string(),
            what.join(", "),
            f.file.clone(),
            optional(Some(f.loss), |loss| format!("{loss:.4}")),
            number(f.kl),
            percent(f.agreement),
            percent(f.accuracy),
            bytes(f.bytes as f64),
            significant(f.bits_per_weight, 4),
        ];
        if latency {
            cells.extend([optional(f.latency_sum, seconds), optional(f.latency_whole, seconds)]);
        }
        (best, cells)
    };
    let table = Table { head, left: &[1, 2], rows: finals.iter().map(row).collect() };
    format!(
        "<h2>Measured again</h2>\n<p class=\"note\">Front and best on other examples.</p>\n{}",
        table.html()
    )
}

/// The spec of every layer in the best trial.
pub(super) fn configuration(summary: &Summary) -> String {
    let Some((trial, _)) = highlighted(summary) else { return String::new() };
    let row = |d: usize| {
        let dimension = &summary.dimensions[d];
        let bits = trial.point.get(d).and_then(|&choice| dimension.bits(choice));
        let shape = match dimension.layers.as_slice() {
            [layer] => format!("{} × {}", layer.rows, layer.cols),
            layers => format!("{} layers", layers.len()),
        };
        let size = bits.map(|bits| bits * dimension.weights() as f64 / 8.0);
        vec![
            dimension.name.clone(),
            shape,
            summary.spec(trial, d).to_owned(),
            optional(bits, |bits| significant(bits, 4)),
            optional(size, bytes),
        ]
    };
    let rows = (0..summary.dimensions.len()).map(row).collect();
    let what = if summary.best.is_some() { "best trial" } else { "compromise" };
    format!(
        "<h2>Trial {}, the {what}, layer by layer</h2>\n{}",
        trial.number,
        html_table(&["layer", "shape", "spec", "bits/weight", "size"], &[0, 2], rows)
    )
}

/// Where time and uploads went.
pub(super) fn effort(summary: &Summary) -> String {
    let effort = &summary.effort;
    let rows = vec![
        vec!["wall-clock time".to_owned(), seconds(summary.times.total())],
        vec!["trials per second".to_owned(), significant(effort.trials_per_second, 3)],
        vec!["uploads per trial, after the warm-up".to_owned(), bytes(effort.uploaded_per_trial)],
        vec!["variants dropped for lack of memory".to_owned(), effort.evictions.to_string()],
        vec!["steps whose values were there from earlier trials".to_owned(), percent(effort.reused)],
    ];
    format!(
        "<h2>Where the time went</h2>\n{}{}",
        figure(&bars::times(&summary.times.parts()), ""),
        html_table(&["", ""], &[0], rows).replacen("<tr><th class=\"l w\"></th><th></th></tr>\n", "", 1)
    )
}
