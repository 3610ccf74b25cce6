//! Scatter charts: one metric of all trials against another.

use super::axis::{Axis, Frame, Quantity};
use super::palette::SERIES_COLORS;
use super::statistics::staircase;
use super::svg::{Key, Shape, Side, Svg, keys, mono_width};
use super::text::{bytes, number, optional, percent, seconds, shortened};
use super::{Summary, Uniform};
use crate::search::{Measurement, Metric, Quality, Trial};

pub(super) const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 420.0;
/// Trials that are drawn besides those nothing is better than; of more, so many spread evenly.
const MOST: usize = 2500;

/// Divergence (or the loss that is searched for) against size, as an SVG file.
pub fn scatter_svg(summary: &Summary) -> String {
    let y = Metric::Quality(summary.quality());
    scatter(summary, Metric::Size(summary.size()), y).file()
}

/// A chart that says why there is none.
pub(super) fn message(title: &str, text: &str) -> Svg {
    let mut svg = Svg::new(WIDTH, 90.0, title);
    svg.text("ink title", (10.0, 18.0), Side::Left, title);
    svg.text("faint", (10.0, 50.0), Side::Left, text);
    svg
}

/// What proposed the trials, by first appearance: the names with colors of their own, then `other` for the rest.
pub(super) fn origins(summary: &Summary) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (trial, _) in summary.measured() {
        if !is_uniform(summary, trial.number) && !names.contains(&trial.origin) {
            names.push(trial.origin.clone());
        }
    }
    if names.len() > SERIES_COLORS {
        names.truncate(SERIES_COLORS - 1);
        names.push("other".to_owned());
    }
    names
}

pub(super) fn series_of(origins: &[String], trial: &Trial) -> usize {
    let found = origins.iter().position(|origin| *origin == trial.origin);
    found.unwrap_or(origins.len().saturating_sub(1))
}

pub(super) fn is_uniform(summary: &Summary, number: usize) -> bool {
    summary.uniform.iter().any(|uniform| uniform.trial == Some(number))
}

/// What is known of a trial, in lines.
pub(super) fn tip(trial: &Trial, m: &Measurement) -> String {
    format!("trial {} ({})\n{}", trial.number, shortened(&trial.origin, 40), measured(m))
}

fn measured(m: &Measurement) -> String {
    let latency = match m.latency {
        Some(_) => format!("\nlatency {}", optional(m.latency, seconds)),
        None => String::new(),
    };
    format!(
        "KL {}, loss {:.4}\n{}, {:.2} bits/weight\nagreement {}{latency}",
        number(m.kl),
        m.loss,
        bytes(m.bytes as f64),
        m.bits_per_weight,
        percent(m.agreement),
    )
}

/// Trials by origin, what nothing is better than in these two metrics, uniform baselines with labels, and the best.
pub(super) fn scatter(summary: &Summary, x: Metric, y: Metric) -> Svg {
    let title = title(x, y);
    let of = |m: &Measurement| Some((x.value(m), y.value(m))).filter(|p| p.0.is_finite() && p.1.is_finite());
    let trials: Vec<(&Trial, &Measurement, (f64, f64))> =
        summary.measured().filter_map(|(trial, m)| Some((trial, m, of(m)?))).collect();
    if trials.is_empty() {
        return message(&title, "Nothing has been measured.");
    }
    let greatest = |f: fn(&(f64, f64)) -> f64| trials.iter().map(|t| f(&t.2)).fold(0.0, f64::max);
    let (x_is, y_is) =
        (Quantity::of(x, summary.unit, greatest(|p| p.0)), Quantity::of(y, summary.unit, greatest(|p| p.1)));
    let scaled = |p: (f64, f64)| (p.0 / x_is.factor, p.1 / y_is.factor);
    let baseline =
        summary.baseline_loss.filter(|loss| y == Metric::Quality(Quality::Loss) && loss.is_finite());

    let mut svg = Svg::new(WIDTH, HEIGHT, &title);
    svg.text("ink title", (10.0, 16.0), Side::Left, &title);
    let origins = origins(summary);
    let (left, right) = (64.0, WIDTH - 12.0);
    let top = keys(&mut svg, &legend(summary, &origins, baseline.is_some()), (left, right), 28.0) + 6.0;
    let bottom = HEIGHT - 44.0;
    let xs = trials.iter().map(|t| scaled(t.2).0);
    let ys = trials.iter().map(|t| scaled(t.2).1).chain(baseline.map(|loss| loss / y_is.factor));
    let axes = (Axis::new(xs, x_is.log, (left, right)), Axis::new(ys, y_is.log, (bottom, top)));
    let (Some(x_axis), Some(y_axis)) = axes else { return message(&title, "Nothing has been measured.") };
    let frame = Frame { x: x_axis, y: y_axis, left, right, top, bottom };
    frame.draw(&mut svg, &x_is.title, &y_is.title);
    let place = |p: (f64, f64)| {
        let (x, y) = scaled(p);
        frame.at(x, y)
    };

    if let Some(loss) = baseline {
        let y = frame.y.at(loss / y_is.factor);
        svg.line("line dash", (left, y), (right, y));
    }
    let all: Vec<(f64, f64)> = trials.iter().map(|t| t.2).collect();
    let front = staircase(&all);
    for series in 0..origins.len() {
        svg.open(series);
        for (trial, m, p) in shown(&trials, &front) {
            if !is_uniform(summary, trial.number) && series_of(&origins, trial) == series {
                svg.dot(&format!("dot f{series}"), place(p), 3.2, &tip(trial, m));
            }
        }
        svg.close();
    }
    svg.path("curve inkline", &steps(&front, &place, right));
    let uniform: Vec<(&Uniform, &Measurement, (f64, f64))> =
        summary.baselines().into_iter().filter_map(|(uniform, m)| Some((uniform, m, of(m)?))).collect();
    let points: Vec<(f64, f64)> = uniform.iter().map(|u| u.2).collect();
    svg.path("line dash", &steps(&staircase(&points), &place, right));
    for (uniform, m, p) in &uniform {
        let trial = uniform.trial.and_then(|trial| summary.trial(trial));
        let about = trial.map_or_else(|| measured(m), |trial| tip(trial, m));
        svg.diamond(
            "mark",
            place(*p),
            5.0,
            &format!(
                "all layers {}
{about}",
                uniform.spec
            ),
        );
    }
    if let Some((trial, m)) = summary.best.and_then(|best| summary.measured_trial(best))
        && let Some(p) = of(m)
    {
        svg.dot("ring accent", place(p), 8.0, &format!("best: {}", tip(trial, m)));
    }
    let labels: Vec<(String, (f64, f64))> =
        uniform.iter().map(|(uniform, _, p)| (shortened(&uniform.spec, 30), place(*p))).collect();
    let mut drawn: Vec<(f64, f64)> = shown(&trials, &front).iter().map(|t| place(t.2)).collect();
    drawn.extend(along(&steps(&front, &place, right)));
    for label in place_labels(&labels, &drawn, &frame) {
        if label.distance > 14.0 {
            svg.line(
                "line",
                label.point,
                (label.at.0.max(label.point.0.min(label.at.0 + label.width)), label.at.1),
            );
        }
        svg.text("ink mono halo", label.at, Side::Left, &label.text);
    }
    svg
}

/// Points a few pixels apart along a line.
fn along(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let between = |pair: &[(f64, f64)]| {
        let (a, b) = (pair[0], pair[1]);
        let count = ((b.0 - a.0).hypot(b.1 - a.1) / 6.0).ceil().clamp(1.0, 200.0) as usize;
        let at = move |i: usize| i as f64 / count as f64;
        (0..count).map(move |i| (a.0 + (b.0 - a.0) * at(i), a.1 + (b.1 - a.1) * at(i)))
    };
    line.windows(2).flat_map(between).collect()
}

fn title(x: Metric, y: Metric) -> String {
    let name = |metric| match metric {
        Metric::Quality(Quality::Kl) => "Divergence",
        Metric::Quality(Quality::Loss) => "Loss",
        Metric::Quality(Quality::Error) => "Error",
        Metric::Size(_) => "size",
        Metric::Latency => "latency",
    };
    format!("{} against {}", name(y), name(x))
}

fn legend(summary: &Summary, origins: &[String], baseline: bool) -> Vec<Key> {
    let dot = |(series, origin): (usize, &String)| Key {
        series: Some(series),
        shape: Shape::Dot,
        class: format!("f{series}"),
        text: shortened(if origin.is_empty() { "unnamed" } else { origin }, 24),
    };
    let mut keys: Vec<Key> = origins.iter().enumerate().map(dot).collect();
    let mut add = |shape: Shape, class: &str, text: &str| {
        keys.push(Key { series: None, shape, class: class.to_owned(), text: text.to_owned() });
    };
    if !summary.uniform.is_empty() {
        add(Shape::Diamond, "mark", "one spec everywhere");
    }
    add(Shape::Line, "curve inkline", "Pareto front");
    if baseline {
        add(Shape::Line, "line dash", "f32 model");
    }
    keys
}

/// The front, and so many of the others.
fn shown<'a>(
    trials: &[(&'a Trial, &'a Measurement, (f64, f64))],
    front: &[(f64, f64)],
) -> Vec<(&'a Trial, &'a Measurement, (f64, f64))> {
    super::table::thin(trials, MOST, |trial| trials.len() > MOST && front.contains(&trial.2))
}

/// Points of the line below which nothing was found, to the right border.
fn steps(front: &[(f64, f64)], place: &dyn Fn((f64, f64)) -> (f64, f64), right: f64) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for point in front.iter().map(|&point| place(point)) {
        if let Some(&(_, y)) = line.last() {
            line.push((point.0, y));
        }
        line.push(point);
    }
    line.extend(line.last().map(|&(_, y)| (right, y)));
    line
}

/// Where a label stands.
struct Label {
    text: String,
    /// What it is about.
    point: (f64, f64),
    /// Its left end, at half its height.
    at: (f64, f64),
    width: f64,
    distance: f64,
}

/// Those labels that fit near their points without covering one another or a labelled point, each where it covers least
/// of what else is `drawn`.
fn place_labels(labels: &[(String, (f64, f64))], drawn: &[(f64, f64)], frame: &Frame) -> Vec<Label> {
    const HALF: f64 = 7.0;
    let mut placed: Vec<Label> = Vec::new();
    for (text, point) in labels {
        let (&(x, y), width) = (point, mono_width(text));
        let places = |distance: f64| {
            let (right, left, middle) = (x + distance, x - distance - width, x - width / 2.0);
            let (up, down) = (y - distance, y + distance);
            let around = [(right, y), (right, up), (right, down), (middle, up), (left, y), (left, up)];
            around.into_iter().chain([(left, down), (middle, down)]).map(move |at| (at, distance))
        };
        let is_free = |&((left, middle), _): &((f64, f64), f64)| {
            let covers = |from: f64, to: f64, y: f64, half: f64| {
                left < to && from < left + width && (middle - y).abs() < half + HALF
            };
            left >= frame.left
                && left + width <= frame.right
                && middle - HALF >= frame.top
                && middle + HALF <= frame.bottom
                && !placed.iter().any(|l| covers(l.at.0, l.at.0 + l.width, l.at.1, HALF))
                && !labels.iter().any(|(_, (px, py))| covers(px - 5.0, px + 5.0, *py, 3.0))
        };
        let cost = |&((left, middle), distance): &((f64, f64), f64)| {
            let is_covered = |p: &&(f64, f64)| {
                (left - 2.0..left + width + 2.0).contains(&p.0) && (p.1 - middle).abs() < HALF + 2.0
            };
            drawn.iter().filter(is_covered).count() as f64 + distance * 0.15
        };
        let free = [9.0, 14.0, 20.0, 28.0, 38.0, 50.0].into_iter().flat_map(places).filter(is_free);
        let best = free.map(|place| (cost(&place), place)).min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, (at, distance))) = best {
            placed.push(Label { text: text.clone(), point: *point, at, width, distance });
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_cover_one_another() {
        let axis = Axis::new([0.0, 1.0].into_iter(), false, (0.0, 1.0)).unwrap();
        let frame = Frame { x: axis, y: axis, left: 50.0, right: 550.0, top: 20.0, bottom: 380.0 };
        let labels: Vec<(String, (f64, f64))> = (0..30)
            .map(|i| {
                (format!("int{i}(group=32)"), (60.0 + f64::from(i % 3) * 20.0, 30.0 + f64::from(i / 3) * 9.0))
            })
            .collect();
        let placed = place_labels(&labels, &[], &frame);
        assert!(placed.len() >= 6, "{}", placed.len());
        for (i, label) in placed.iter().enumerate() {
            assert!(label.at.0 >= 50.0 && label.at.0 + label.width <= 550.0);
            for other in &placed[..i] {
                let apart = label.at.0 >= other.at.0 + other.width || other.at.0 >= label.at.0 + label.width;
                assert!(apart || (label.at.1 - other.at.1).abs() >= 14.0);
            }
        }
        let drawn: Vec<(f64, f64)> = along(&[(100.0, 200.0), (500.0, 200.0)]);
        let beside = place_labels(&[("int4".to_owned(), (100.0, 200.0))], &drawn, &frame);
        assert!((beside[0].at.1 - 200.0).abs() >= 9.0 || beside[0].at.0 < 100.0, "not on the line");
    }

    #[test]
    fn steps_go_right_then_down() {
        let line = steps(&[(1.0, 5.0), (2.0, 3.0)], &|p| p, 9.0);
        assert_eq!(line, [(1.0, 5.0), (2.0, 5.0), (2.0, 3.0), (9.0, 3.0)]);
        assert!(steps(&[], &|p| p, 9.0).is_empty());
    }
}
