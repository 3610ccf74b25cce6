//! Groups of studies side by side: samplers, precisions, settings, each with several seeds.

use super::axis::{Axis, Frame, Quantity};
use super::html::{figure, footer, header, page};
use super::palette::SERIES_COLORS;
use super::progress::BINADES;
use super::scatter::{WIDTH, message};
use super::sections::html_table;
use super::statistics::{Span, best_so_far, quantile, relative_hypervolume, staircase, volumes_so_far};
use super::svg::{Key, Shape, Side, Svg, keys};
use super::text::{number, percent, shortened};
use crate::model::Unit;
use crate::search::{Metric, Problem, Size, Trial, complete};

const HEIGHT: f64 = 440.0;
/// Places of a curve at most.
const MOST_PLACES: usize = 400;

/// Studies to compare.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Heading.
    pub title: String,
    /// Label and value of what all studies have in common.
    pub facts: Vec<(String, String)>,
    /// The command line that makes it again.
    pub command: String,
    /// What the values are, with their unit, e.g. `KL, nats/token`.
    pub quantity: String,
    /// What is compared.
    pub groups: Vec<Group>,
}

/// Studies that differ in their seeds only.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Name, e.g. of the sampler.
    pub label: String,
    /// The studies.
    pub studies: Vec<Study>,
}

/// What a comparison takes from a study.
#[derive(Clone, Debug, Default)]
pub struct Study {
    /// Best value after each trial, see [`super::best_so_far`]; infinite as long as there is none.
    pub best: Vec<f64>,
    /// Packed bytes and value of the trials on the front; may be empty.
    pub front: Vec<(f64, f64)>,
}

/// Something to compare: its studies differ in their seeds only.
#[derive(Clone, Copy, Debug)]
pub struct Contestant<'a> {
    /// Name, e.g. of the sampler.
    pub label: &'a str,
    /// What was searched.
    pub problem: &'a Problem,
    /// All trials of each study.
    pub studies: &'a [Vec<Trial>],
}

/// The groups of a [`Comparison`] and what their values are: the objective, or with several of them the share of
/// their box that no trial so far dominates, so that less is better.
pub fn groups(contestants: &[Contestant<'_>]) -> (String, Vec<Group>) {
    let names = contestants.first().map_or_else(Vec::new, |c| c.problem.objective.names());
    let all = || {
        let of = |c: &Contestant<'_>| -> Vec<Vec<f64>> {
            let trials = c.studies.iter().flat_map(|trials| complete(c.problem, trials));
            trials.map(|trial| trial.values.clone()).collect()
        };
        contestants.iter().flat_map(of)
    };
    let span = |i: usize| Span::new(all().filter_map(|values| values.get(i).copied()), BINADES);
    let spans: Vec<Span> = (0..names.len()).filter_map(span).collect();
    let study = |c: &Contestant<'_>, trials: &Vec<Trial>| {
        let counted = complete(c.problem, trials);
        let value = |trial: &Trial| {
            let found = counted.iter().find(|other| other.number == trial.number);
            found.map(|trial| &trial.values)
        };
        let values: Vec<Option<&Vec<f64>>> = trials.iter().map(value).collect();
        let best = match spans.len() {
            0 | 1 => {
                let first = |value: &Option<&Vec<f64>>| value.map_or(f64::INFINITY, |value| value[0]);
                best_so_far(&values.iter().map(first).collect::<Vec<_>>())
            }
            _ => volumes_so_far(values.into_iter(), &spans).into_iter().map(|volume| 1.0 - volume).collect(),
        };
        let quality = c.problem.objective.quality();
        let measured = counted.iter().filter_map(|trial| trial.measurement.as_ref());
        let points: Vec<(f64, f64)> = measured.map(|m| (m.bytes as f64, quality.value(m))).collect();
        Study { best, front: staircase(&points) }
    };
    let group = |c: &Contestant<'_>| Group {
        label: c.label.to_owned(),
        studies: c.studies.iter().map(|trials| study(c, trials)).collect(),
    };
    let quantity = match &names[..] {
        [one] => one.clone(),
        several => format!("share of {} not dominated", several.join(" x ")),
    };
    (quantity, contestants.iter().map(group).collect())
}

/// A page that compares groups of studies: median and quartiles of the best so far over trials, fronts, a table.
pub fn html_compare(comparison: &Comparison) -> String {
    let mut body = header(&comparison.title, &comparison.facts);
    body += "<main>\n<h2>Best so far</h2>\n<p class=\"note\">Lines: median of the studies of a group; bands: from the lower \
             to the upper quartile. A study that has ended keeps its last value.</p>\n<div class=\"grid\">\n";
    body += &figure(&curves(comparison), "");
    if comparison.groups.iter().any(|group| group.studies.iter().any(|study| !study.front.is_empty())) {
        body += &figure(&fronts(comparison), "");
    }
    body += "</div>\n<h2>At the end</h2>\n";
    body += &table(comparison);
    body += "<p class=\"note\">Hypervolume: share of the box of size and value (its logarithm where values span more than \
             four binades) that a front dominates, from the least to a tenth beyond the greatest of all fronts.</p>\n";
    body += "</main>\n";
    body += &footer(&comparison.command);
    page(&comparison.title, &body)
}

/// Median and quartiles of the best so far over trials, as an SVG file.
pub fn compare_svg(comparison: &Comparison) -> String {
    curves(comparison).file()
}

impl Group {
    fn trials(&self) -> usize {
        self.studies.iter().map(|study| study.best.len()).max().unwrap_or(0)
    }

    /// A quantile over the studies after each of `places` trials; only where it is a number.
    fn quantile(&self, places: &[usize], q: f64) -> Vec<(f64, f64)> {
        let value = |&trial: &usize| {
            let after = |study: &Study| study.best.get(trial).or(study.best.last()).copied();
            let values: Vec<f64> = self.studies.iter().filter_map(after).collect();
            ((trial + 1) as f64, quantile(&values, q))
        };
        places.iter().map(value).filter(|(_, value)| value.is_finite()).collect()
    }

    fn finals(&self) -> Vec<f64> {
        self.studies.iter().filter_map(|study| study.best.last().copied()).collect()
    }
}

fn color(group: usize) -> usize {
    group % SERIES_COLORS
}

/// Beyond the colors there are, lines are dashed.
fn dashed(group: usize) -> &'static str {
    if group >= SERIES_COLORS { " dash" } else { "" }
}

fn legend(comparison: &Comparison) -> Vec<Key> {
    let key = |(i, group): (usize, &Group)| Key {
        series: Some(i),
        shape: Shape::Line,
        class: format!("curve s{}{}", color(i), dashed(i)),
        text: shortened(if group.label.is_empty() { "unnamed" } else { &group.label }, 36),
    };
    comparison.groups.iter().enumerate().map(key).collect()
}

fn curves(comparison: &Comparison) -> Svg {
    let title = "Best so far: median and quartiles";
    let most = comparison.groups.iter().map(Group::trials).max().unwrap_or(0);
    let step = most.div_ceil(MOST_PLACES).max(1);
    // Early trials, where most happens, are all there.
    let places = |group: &Group| -> Vec<usize> {
        let last = group.trials();
        (0..last).filter(|i| i % step == 0 || *i < 50 || i + 1 == last).collect()
    };
    let quartiles: Vec<[Vec<(f64, f64)>; 3]> = comparison
        .groups
        .iter()
        .map(|group| [0.25, 0.5, 0.75].map(|q| group.quantile(&places(group), q)))
        .collect();
    let values = || quartiles.iter().flatten().flatten().map(|place| place.1);
    let Some(span) = Span::new(values(), BINADES) else {
        return message(title, "Nothing has been measured.");
    };
    let mut svg = Svg::new(WIDTH, HEIGHT, title);
    svg.text("ink title", (10.0, 16.0), Side::Left, title);
    let (left, right, bottom) = (64.0, WIDTH - 12.0, HEIGHT - 44.0);
    let top = keys(&mut svg, &legend(comparison), (left, right), 28.0) + 6.0;
    let Some(y) = Axis::new(values(), span.log, (bottom, top)) else { return message(title, "") };
    let frame =
        Frame { x: Axis::from_zero([most as f64].into_iter(), (left, right)), y, left, right, top, bottom };
    frame.draw(&mut svg, "trials", &shortened(&comparison.quantity, 52));
    for (i, [low, median, high]) in quartiles.iter().enumerate() {
        let on = |line: &[(f64, f64)]| -> Vec<(f64, f64)> {
            stepped(&line.iter().map(|&(x, y)| frame.at(x, y)).collect::<Vec<_>>())
        };
        svg.open(i);
        // The upper quartile may begin later, while some studies have nothing yet.
        let begin = high.first().map_or(f64::INFINITY, |place| place.0);
        let low: Vec<(f64, f64)> = low.iter().copied().filter(|place| place.0 >= begin).collect();
        let mut band = on(&low);
        band.extend(on(high).into_iter().rev());
        svg.area(&format!("band f{}", color(i)), &band);
        svg.path(&format!("curve s{}{}", color(i), dashed(i)), &on(median));
        svg.close();
    }
    svg
}

/// A best so far changes at trials only.
fn stepped(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in points {
        if let Some(&(_, before)) = line.last() {
            line.push((x, before));
        }
        line.push((x, y));
    }
    line
}

fn front_points(comparison: &Comparison) -> impl Iterator<Item = (f64, f64)> + Clone {
    let studies = comparison.groups.iter().flat_map(|group| &group.studies);
    studies.flat_map(|study| study.front.iter().copied()).filter(|p| p.0.is_finite() && p.1.is_finite())
}

fn fronts(comparison: &Comparison) -> Svg {
    let title = "Fronts of all studies";
    let points = front_points(comparison);
    let size = Quantity::of(
        Metric::Size(Size::Packed),
        Unit::Token,
        points.clone().map(|p| p.0).fold(0.0, f64::max),
    );
    let Some(span) = Span::new(points.clone().map(|p| p.1), BINADES) else {
        return message(title, "Nothing has been measured.");
    };
    let mut svg = Svg::new(WIDTH, HEIGHT, title);
    svg.text("ink title", (10.0, 16.0), Side::Left, title);
    let (left, right, bottom) = (64.0, WIDTH - 12.0, HEIGHT - 44.0);
    let top = keys(&mut svg, &legend(comparison), (left, right), 28.0) + 6.0;
    let x = Axis::new(points.clone().map(|p| p.0 / size.factor), false, (left, right));
    let y = Axis::new(points.map(|p| p.1), span.log, (bottom, top));
    let (Some(x), Some(y)) = (x, y) else { return message(title, "") };
    let frame = Frame { x, y, left, right, top, bottom };
    frame.draw(&mut svg, &size.title, &shortened(&comparison.quantity, 52));
    for (i, group) in comparison.groups.iter().enumerate() {
        svg.open(i);
        for study in &group.studies {
            let sound: Vec<(f64, f64)> =
                study.front.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
            let line: Vec<(f64, f64)> =
                staircase(&sound).iter().map(|p| frame.at(p.0 / size.factor, p.1)).collect();
            svg.path(&format!("thin s{}{}", color(i), dashed(i)), &stepped(&line));
            for at in line {
                svg.dot(&format!("dot f{}", color(i)), at, 2.0, "");
            }
        }
        svg.close();
    }
    svg
}

fn table(comparison: &Comparison) -> String {
    let points = || front_points(comparison);
    let spans =
        Span::new(points().map(|p| p.0), f64::INFINITY).zip(Span::new(points().map(|p| p.1), BINADES));
    let row = |group: &Group| {
        let finals = group.finals();
        let of = |q: f64| number(quantile(&finals, q));
        let volumes: Vec<f64> = match &spans {
            None => Vec::new(),
            Some((size, value)) => {
                let volume = |study: &Study| {
                    let front: Vec<Vec<f64>> = study.front.iter().map(|p| vec![p.0, p.1]).collect();
                    relative_hypervolume(&front, &[*size, *value])
                };
                group.studies.iter().filter(|study| !study.front.is_empty()).map(volume).collect()
            }
        };
        let volume = |q: f64| percent(quantile(&volumes, q));
        let iqr = quantile(&finals, 0.75) - quantile(&finals, 0.25);
        vec![
            group.label.clone(),
            group.studies.len().to_string(),
            group.trials().to_string(),
            of(0.5),
            format!("{} to {}", of(0.25), of(0.75)),
            number(iqr),
            of(0.0),
            volume(0.5),
            format!("{} to {}", volume(0.25), volume(0.75)),
        ]
    };
    let head = [
        "group",
        "studies",
        "trials",
        "median of the best",
        "quartiles",
        "IQR",
        "least",
        "median hypervolume",
        "quartiles",
    ];
    html_table(&head, &[0], comparison.groups.iter().map(row).collect())
}
