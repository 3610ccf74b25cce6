//! The best so far over the trials.

use super::axis::{Axis, Frame, Quantity};
use super::scatter::{WIDTH, is_uniform, message, origins, series_of, tip};
use super::statistics::{Span, best_so_far, relative_hypervolume, volumes_so_far};
use super::svg::{Key, Shape, Side, Svg, keys};
use super::text::shortened;
use super::{Summary, units};
use crate::search::{Objective, Trial};

const HEIGHT: f64 = 420.0;
/// Binades above which values have a logarithmic axis.
pub(super) const BINADES: f64 = 4.0;
/// Objectives up to which hypervolumes are computed; the effort grows with the power of it.
const MOST_OBJECTIVES: usize = 3;
/// Places at which a hypervolume is computed at most.
const MOST_PLACES: usize = 300;

/// The best so far over the trials as an SVG file: the objective, or the hypervolume where there are several.
pub fn progress_svg(summary: &Summary) -> String {
    progress(summary).file()
}

pub(super) fn progress(summary: &Summary) -> Svg {
    match summary.objective.count() {
        1 => single(summary),
        _ => several(summary),
    }
}

fn single(summary: &Summary) -> Svg {
    const TITLE: &str = "Best so far";
    let value = |trial: &Trial| trial.values.first().copied().filter(|value| value.is_finite());
    let trials: Vec<_> =
        summary.measured().filter_map(|(trial, m)| Some((trial, m, value(trial)?))).collect();
    let greatest = trials.iter().map(|t| t.2).fold(0.0, f64::max);
    let quantity = match &summary.objective {
        Objective::Metrics(metrics) if metrics.len() == 1 => Quantity::of(metrics[0], summary.unit, greatest),
        objective => Quantity { title: objective.to_string(), factor: 1.0, log: false },
    };
    let values = || trials.iter().map(|t| t.2 / quantity.factor);
    let Some(span) = Span::new(values(), BINADES) else {
        return message(TITLE, "Nothing has been measured.");
    };

    let mut svg = Svg::new(WIDTH, HEIGHT, TITLE);
    svg.text("ink title", (10.0, 16.0), Side::Left, TITLE);
    let origins = origins(summary);
    let dot = |(series, origin): (usize, &String)| Key {
        series: Some(series),
        shape: Shape::Dot,
        class: format!("f{series}"),
        text: shortened(if origin.is_empty() { "unnamed" } else { origin }, 24),
    };
    let mut entries: Vec<Key> = origins.iter().enumerate().map(dot).collect();
    let fixed =
        |shape, class: &str, text: &str| Key { series: None, shape, class: class.into(), text: text.into() };
    if trials.iter().any(|t| is_uniform(summary, t.0.number)) {
        entries.push(fixed(Shape::Diamond, "mark", "one spec everywhere"));
    }
    entries.push(fixed(Shape::Line, "curve inkline", "best so far"));
    let (left, right, bottom) = (64.0, WIDTH - 12.0, HEIGHT - 44.0);
    let top = keys(&mut svg, &entries, (left, right), 28.0) + 6.0;
    let last = trials.iter().map(|t| t.0.number).max().unwrap_or(0) as f64;
    let Some(y) = Axis::new(values(), span.log, (bottom, top)) else { return message(TITLE, "") };
    let frame =
        Frame { x: Axis::from_zero([last.max(1.0)].into_iter(), (left, right)), y, left, right, top, bottom };
    frame.draw(&mut svg, "trial", &shortened(&quantity.title, 52));
    let place = |trial: &Trial, value: f64| frame.at(trial.number as f64, value / quantity.factor);
    for series in 0..origins.len() {
        svg.open(series);
        let all = super::table::thin(&trials, 2500, |_| false);
        for (trial, m, value) in all {
            if !is_uniform(summary, trial.number) && series_of(&origins, trial) == series {
                svg.dot(&format!("dot f{series}"), place(trial, value), 2.6, &tip(trial, m));
            }
        }
        svg.close();
    }
    for (trial, m, value) in trials.iter().filter(|t| is_uniform(summary, t.0.number)) {
        svg.diamond("mark", place(trial, *value), 4.5, &tip(trial, m));
    }
    let best = best_so_far(&trials.iter().map(|t| t.2).collect::<Vec<_>>());
    let mut line: Vec<(f64, f64)> = Vec::new();
    for ((trial, ..), best) in trials.iter().zip(best) {
        let (x, y) = place(trial, best);
        // Corners only: a point where nothing changes adds nothing.
        match line.last() {
            Some(&(_, before)) if before == y => {}
            Some(&(_, before)) => line.extend([(x, before), (x, y)]),
            None => line.push((x, y)),
        }
    }
    line.extend(line.last().map(|&(_, y)| (frame.x.at(last), y)));
    svg.path("curve inkline", &line);
    svg
}

fn several(summary: &Summary) -> Svg {
    const TITLE: &str = "Hypervolume of the front so far";
    let count = summary.objective.count();
    if count > MOST_OBJECTIVES {
        return message(
            TITLE,
            &format!("Computed for up to {MOST_OBJECTIVES} objectives; this study has {count}."),
        );
    }
    let is_whole = |trial: &&Trial| trial.values.len() == count && trial.values.iter().all(|v| v.is_finite());
    let trials: Vec<&Trial> = summary.measured().map(|(trial, _)| trial).filter(is_whole).collect();
    let uniform: Vec<Vec<f64>> = summary
        .baselines()
        .into_iter()
        .map(|(_, m)| summary.objective.values(m))
        .filter(|values| values.iter().all(|value| value.is_finite()))
        .collect();
    let all = || trials.iter().map(|trial| &trial.values).chain(&uniform);
    let span = |i: usize| Span::new(all().map(|values| values[i]), BINADES);
    let Some(spans) = (0..count).map(span).collect::<Option<Vec<Span>>>().filter(|_| !trials.is_empty())
    else {
        return message(TITLE, "Nothing has been measured.");
    };
    let step = trials.len().div_ceil(MOST_PLACES);
    let volumes = volumes_so_far(trials.iter().map(|trial| Some(&trial.values)), &spans);
    let is_shown = |i: usize| i.is_multiple_of(step) || i + 1 == trials.len();
    let shown = (0..trials.len()).filter(|&i| is_shown(i));
    let places: Vec<(f64, f64)> = shown.map(|i| (trials[i].number as f64, volumes[i])).collect();
    let reference = relative_hypervolume(&uniform, &spans);

    let mut svg = Svg::new(WIDTH, HEIGHT, TITLE);
    svg.text("ink title", (10.0, 16.0), Side::Left, TITLE);
    let key = |class: &str, text: &str| Key {
        series: None,
        shape: Shape::Line,
        class: class.into(),
        text: text.into(),
    };
    let mut entries = vec![key("curve inkline", "all trials")];
    if !uniform.is_empty() {
        entries.push(key("line dash", "one spec everywhere"));
    }
    let (left, right, bottom) = (64.0, WIDTH - 12.0, HEIGHT - 44.0);
    let top = keys(&mut svg, &entries, (left, right), 28.0) + 6.0;
    let last = places.last().map_or(1.0, |place| place.0.max(1.0));
    let volumes = || places.iter().map(|place| place.1).chain((!uniform.is_empty()).then_some(reference));
    let Some(y) = Axis::new(volumes(), false, (bottom, top)) else { return message(TITLE, "") };
    let frame = Frame { x: Axis::from_zero([last].into_iter(), (left, right)), y, left, right, top, bottom };
    let names: Vec<String> = summary.objective.names();
    let on = names
        .iter()
        .zip(&spans)
        .map(|(name, span)| if span.log { format!("log {name}") } else { name.clone() });
    let title = format!("share of the box of {}", on.collect::<Vec<_>>().join(" × "));
    frame.draw(&mut svg, "trial", &shortened(&title, 52));
    if !uniform.is_empty() {
        let y = frame.y.at(reference);
        svg.line("line dash", (left, y), (right, y));
    }
    let mut line: Vec<(f64, f64)> = Vec::new();
    for &(number, volume) in &places {
        let (x, y) = frame.at(number, volume);
        line.extend(line.last().map(|&(_, before)| (x, before)));
        line.push((x, y));
    }
    svg.path("curve inkline", &line);
    svg
}

/// Names of the objectives with their units.
pub(super) fn objective_names(summary: &Summary) -> Vec<String> {
    let with_unit =
        |(name, unit): (String, &str)| if unit.is_empty() { name } else { format!("{name} ({unit})") };
    summary
        .objective
        .names()
        .into_iter()
        .zip(units(&summary.objective, summary.unit))
        .map(with_unit)
        .collect()
}
