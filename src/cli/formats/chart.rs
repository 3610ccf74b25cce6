//! The chart of `anybit formats plot`: the values of formats, and what they lose of a model against their bits.

use anybit::format::Factor;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::entry::{Entry, decibels};
use super::labels::{LEADER, Placer, Rect};

/// Pixels; what a page of text shows without scaling.
const WIDTH: u32 = 960;
const MARGIN: i32 = 14;
/// Height of the row of a format.
const ROW: i32 = 26;
/// Above the first row, and below the last one.
const HEAD: i32 = 62;
const FOOT: i32 = 56;
/// Height of the scatter chart.
const SCATTER: i32 = 600;
/// Height of a line of notes.
const LINE: i32 = 18;
/// Font sizes in pixels, and the width of a character of the monospaced one over its size.
const SMALL: f64 = 12.0;
const LARGE: f64 = 16.0;
const MONO: f64 = 0.602;
/// Longest label, in characters; the middle of a longer one is left out.
const LONGEST: usize = 46;
/// Binades that a log axis shows at most.
const MOST_BINADES: f64 = 48.0;

const INK: RGBColor = RGBColor(32, 32, 32);
const FAINT: RGBColor = RGBColor(110, 110, 110);
const LINES: RGBColor = RGBColor(222, 222, 222);

/// How values are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Axis {
    /// Linear as long as the least positive value of every format is above 1/256 of its largest one.
    Auto,
    /// Values from the negative to the positive end.
    Linear,
    /// Positive values by their logarithm.
    Log,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The whole chart as SVG text. `source` names what SQNR was measured on.
pub(crate) fn svg(entries: &[Entry], source: &str, axis: Axis) -> Result<String> {
    let axis = match axis {
        Axis::Auto if entries.iter().all(|entry| binades(entry) < 8.0) => Axis::Linear,
        Axis::Auto => Axis::Log,
        other => other,
    };
    let points: Vec<Point> = entries.iter().filter_map(Point::of).collect();
    let scatter = if points.is_empty() { 0 } else { SCATTER };
    let values = HEAD + entries.len() as i32 * ROW + FOOT;
    let frame = frame(&points, values);
    let labels = place(&points, &frame);
    let mut notes = wrapped(&not_shown(entries));
    let keyed = points.iter().zip(&labels).filter(|(_, label)| label.keyed);
    notes.extend(keyed.map(|(point, label)| format!("{} {}", label.text, point.label)));
    let height = values + scatter + notes.len() as i32 * LINE + MARGIN;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        draw_values(&root, entries, axis)?;
        if !points.is_empty() {
            draw_scatter(&root, &points, &labels, &frame, source, values)?;
        }
        for (line, note) in notes.iter().enumerate() {
            let y = values + scatter + line as i32 * LINE;
            write(&root, note, (MARGIN, y), sans(SMALL, FAINT), HPos::Left)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the chart: {error}")
}

/// plotters divides the size of a font by 1.24 for SVG.
fn sans(size: f64, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size * 1.24).into_font().color(&color)
}

fn mono(color: RGBColor) -> TextStyle<'static> {
    ("monospace", SMALL * 1.24).into_font().color(&color)
}

fn mono_width(text: &str) -> f64 {
    text.chars().count() as f64 * SMALL * MONO
}

/// Text whose vertical middle is at `y`.
fn write(root: &Area, text: &str, at: (i32, i32), style: TextStyle, side: HPos) -> Result<()> {
    root.draw(&Text::new(text.to_owned(), at, style.pos(Pos::new(side, VPos::Center)))).map_err(failed)
}

fn line(root: &Area, from: (i32, i32), to: (i32, i32), color: RGBColor, width: u32) -> Result<()> {
    root.draw(&PathElement::new(vec![from, to], color.stroke_width(width))).map_err(failed)
}

/// Okabe and Ito's colors, which people with any color vision tell apart.
fn color(factor: Factor) -> RGBColor {
    match factor {
        Factor::Scale => RGBColor(0, 114, 178),
        Factor::PowerOfTwo => RGBColor(213, 94, 0),
        Factor::ScaleAndOffset => RGBColor(0, 140, 100),
        Factor::One => RGBColor(150, 80, 130),
    }
}

const KINDS: [(Factor, &str); 4] = [
    (Factor::Scale, "real scale"),
    (Factor::PowerOfTwo, "power of two per block"),
    (Factor::ScaleAndOffset, "scale and offset"),
    (Factor::One, "no scale"),
];

/// A label that is not too long.
fn shortened(label: &str) -> String {
    let count = label.chars().count();
    if count <= LONGEST {
        return label.to_owned();
    }
    let head: String = label.chars().take(LONGEST / 2).collect();
    let tail: String = label.chars().skip(count - (LONGEST - LONGEST / 2 - 1)).collect();
    format!("{head}…{tail}")
}

/// Between the least positive value and the largest magnitude.
fn binades(entry: &Entry) -> f64 {
    entry.grid.least.map_or(0.0, |least| (entry.grid.largest() / least).log2())
}

/// The panel of values: one row per format, every value a tick, relative to its largest magnitude.
fn draw_values(root: &Area, entries: &[Entry], axis: Axis) -> Result<()> {
    write(root, "Values of each format", (MARGIN, 18), sans(LARGE, INK), HPos::Left)?;
    let relative = "relative to the largest magnitude of the format; at the right what they are";
    let subtitle = match axis {
        Axis::Log if entries.iter().any(|entry| binades(entry) > MOST_BINADES) => {
            format!("values from 0 up, {relative}; cut at 2^-{MOST_BINADES}")
        }
        Axis::Log => format!("values from 0 up, {relative}"),
        _ => relative.to_owned(),
    };
    write(root, &subtitle, (MARGIN, 38), sans(SMALL, FAINT), HPos::Left)?;
    let labels: Vec<String> = entries.iter().map(|entry| shortened(&entry.label)).collect();
    let ranges: Vec<String> = entries.iter().map(Entry::values).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| mono_width(text)).fold(0.0, f64::max) as i32;
    let left = MARGIN + widest(&labels) + 18;
    let right = WIDTH as i32 - MARGIN - widest(&ranges) - 18;
    let bottom = HEAD + entries.len() as i32 * ROW;
    let scale = ValueScale::new(entries, axis, left, right);
    for (x, text) in scale.marks() {
        line(root, (x, HEAD - 4), (x, bottom + 4), LINES, 1)?;
        write(root, &text, (x, bottom + 14), sans(SMALL, INK), HPos::Center)?;
    }
    let title = match axis {
        Axis::Log => "value / largest magnitude (log scale)",
        _ => "value / largest magnitude",
    };
    write(root, title, ((left + right) / 2, bottom + 34), sans(SMALL, INK), HPos::Center)?;
    for (row, entry) in entries.iter().enumerate() {
        let y = HEAD + row as i32 * ROW + ROW / 2;
        let color = color(entry.grid.factor);
        write(root, &labels[row], (left - 14, y), mono(INK), HPos::Right)?;
        write(root, &ranges[row], (right + 14, y), mono(FAINT), HPos::Left)?;
        line(root, (left, y), (right, y), LINES, 1)?;
        for (from, to) in scale.ticks(entry) {
            root.draw(&Rectangle::new([(from, y - 7), (to, y + 7)], color.filled())).map_err(failed)?;
        }
    }
    Ok(())
}

/// From relative values to pixels.
struct ValueScale {
    /// Pixel of the left end, of the right end.
    ends: (i32, i32),
    /// Binades of a log axis; `None` for a linear one.
    binades: Option<f64>,
}

/// Between the zeros of a log axis and its left end.
const ZERO: i32 = 36;

impl ValueScale {
    fn new(entries: &[Entry], axis: Axis, left: i32, right: i32) -> Self {
        let most = entries.iter().map(binades).fold(1.0, f64::max);
        match axis {
            Axis::Log => {
                Self { ends: (left + ZERO, right), binades: Some(most.ceil().clamp(2.0, MOST_BINADES)) }
            }
            _ => Self { ends: (left, right), binades: None },
        }
    }

    /// The pixel of a relative value; `None` where it is off the axis.
    fn pixel(&self, value: f64) -> Option<i32> {
        let (left, right) = self.ends;
        let share = match self.binades {
            None => (value + 1.0) / 2.0,
            Some(_) if value == 0.0 => return Some(left - ZERO),
            Some(_) if value < 0.0 => return None,
            Some(binades) => 1.0 + value.log2() / binades,
        };
        (0.0..=1.0).contains(&share).then(|| left + (share * f64::from(right - left)).round() as i32)
    }

    /// Grid lines with their texts.
    fn marks(&self) -> Vec<(i32, String)> {
        let Some(binades) = self.binades else {
            let quarters = (-4..=4).map(|q| f64::from(q) / 4.0);
            return quarters.filter_map(|v| Some((self.pixel(v)?, v.to_string()))).collect();
        };
        let step = (binades / 8.0).ceil().max(1.0) as i32;
        let exponents = (0..=binades as i32).step_by(step as usize);
        let mark =
            |e: i32| Some((self.pixel(2f64.powi(-e))?, if e == 0 { "1".into() } else { format!("2^-{e}") }));
        self.pixel(0.0).map(|x| (x, "0".to_owned())).into_iter().chain(exponents.filter_map(mark)).collect()
    }

    /// Filled runs of pixels, end exclusive: single ticks, and stretches where values are denser than pixels.
    fn ticks(&self, entry: &Entry) -> Vec<(i32, i32)> {
        let grid = &entry.grid;
        let largest = grid.largest().max(f64::MIN_POSITIVE);
        if grid.values.is_empty() {
            let least = grid.least.unwrap_or(largest) / largest;
            let left = if grid.low < 0.0 { self.pixel(grid.low / largest) } else { None };
            let left = left.or(self.pixel(least)).unwrap_or(self.ends.0);
            let zero = if self.binades.is_some() { self.pixel(0.0).map(|x| (x, x + 1)) } else { None };
            return zero.into_iter().chain([(left, self.ends.1 + 1)]).collect();
        }
        let mut pixels: Vec<i32> =
            grid.values.iter().filter_map(|value| self.pixel(value / largest)).collect();
        pixels.sort_unstable();
        pixels.dedup();
        let mut runs: Vec<(i32, i32)> = Vec::new();
        for x in pixels {
            match runs.last_mut() {
                Some((_, end)) if *end == x => *end += 1,
                _ => runs.push((x, x + 1)),
            }
        }
        // A lone value is two pixels wide where there is room.
        let starts: Vec<i32> = runs.iter().skip(1).map(|run| run.0).chain([i32::MAX]).collect();
        for ((from, to), next) in runs.iter_mut().zip(starts) {
            if *to - *from == 1 && next - *to > 3 {
                *to += 1;
            }
        }
        runs
    }
}

/// A format on the scatter chart.
struct Point {
    label: String,
    factor: Factor,
    bits: f64,
    decibels: f64,
}

impl Point {
    /// `None` where the ratio is not measured, infinite or below 0.
    fn of(entry: &Entry) -> Option<Self> {
        let sqnr = entry.sqnr.as_ref()?.as_ref().ok()?;
        let decibels = sqnr.decibels();
        let is_shown = decibels.is_finite() && decibels >= 0.0;
        let label = shortened(&entry.label);
        is_shown.then(|| Self { label, factor: entry.grid.factor, bits: sqnr.bits_per_weight(), decibels })
    }
}

/// Where the scatter chart has its axes, in pixels and in units.
struct Frame {
    pixels: Rect,
    bits: (f64, f64),
    decibels: f64,
}

fn frame(points: &[Point], top: i32) -> Frame {
    let most = |f: fn(&Point) -> f64| points.iter().map(f).fold(0.0, f64::max);
    let least = points.iter().map(|point| point.bits).fold(f64::INFINITY, f64::min);
    let pixels = Rect {
        left: f64::from(MARGIN) + 44.0,
        top: f64::from(top) + 66.0,
        right: f64::from(WIDTH as i32 - MARGIN) - 6.0,
        bottom: f64::from(top + SCATTER) - 60.0,
    };
    let bits = ((least - 0.5).floor().max(0.0), (most(|point| point.bits) + 0.5).ceil());
    Frame { pixels, bits, decibels: (most(|point| point.decibels) / 5.0 + 0.4).ceil() * 5.0 }
}

impl Frame {
    fn at(&self, bits: f64, decibels: f64) -> (f64, f64) {
        let Rect { left, top, right, bottom } = self.pixels;
        let x = (bits - self.bits.0) / (self.bits.1 - self.bits.0);
        (left + x * (right - left), bottom - decibels / self.decibels * (bottom - top))
    }
}

/// A label, or the number that stands for it.
struct Label {
    text: String,
    keyed: bool,
    rect: Rect,
}

/// One label per point; where there is no room for it, its number within square brackets.
fn place(points: &[Point], frame: &Frame) -> Vec<Label> {
    let at: Vec<(f64, f64)> = points.iter().map(|point| frame.at(point.bits, point.decibels)).collect();
    let mut placer = Placer::new(frame.pixels, &at, 8.0);
    let mut keys = 0;
    let of_point = |(point, &at): (&Point, &(f64, f64))| {
        if let Some(rect) = placer.place(at, mono_width(&point.label), SMALL + 1.0) {
            return Label { text: point.label.clone(), keyed: false, rect };
        }
        keys += 1;
        let text = format!("[{keys}]");
        let width = mono_width(&text);
        let rect = placer.place(at, width, SMALL + 1.0);
        Label { keyed: true, rect: rect.unwrap_or(Rect::around(at, width, SMALL + 1.0)), text }
    };
    points.iter().zip(&at).map(of_point).collect()
}

/// The scatter chart below `top`.
fn draw_scatter(
    root: &Area,
    points: &[Point],
    labels: &[Label],
    frame: &Frame,
    source: &str,
    top: i32,
) -> Result<()> {
    write(
        root,
        "Signal-to-quantization-noise ratio and size",
        (MARGIN, top + 18),
        sans(LARGE, INK),
        HPos::Left,
    )?;
    let subtitle = format!("of {source}");
    write(root, &subtitle, (MARGIN, top + 38), sans(SMALL, FAINT), HPos::Left)?;
    let corner = |(x, y): (f64, f64)| (x.round() as i32, y.round() as i32);
    let (least, most) = frame.bits;
    let step = if most - least > 18.0 { 2 } else { 1 };
    for bits in (least as i32..=most as i32).step_by(step) {
        let (x, y) = corner(frame.at(bits.into(), 0.0));
        line(root, (x, frame.pixels.top as i32), (x, y), LINES, 1)?;
        write(root, &bits.to_string(), (x, y + 14), sans(SMALL, INK), HPos::Center)?;
    }
    for decibels in (0..=frame.decibels as i32).step_by(5) {
        let (x, y) = corner(frame.at(least, decibels.into()));
        line(root, (x, y), (frame.pixels.right as i32, y), LINES, 1)?;
        write(root, &decibels.to_string(), (x - 8, y), sans(SMALL, INK), HPos::Right)?;
    }
    let middle = ((frame.pixels.left + frame.pixels.right) / 2.0) as i32;
    let below = frame.pixels.bottom as i32 + 34;
    write(root, "stored bits per weight, scales included", (middle, below), sans(SMALL, INK), HPos::Center)?;
    let upright = sans(SMALL, INK).transform(FontTransform::Rotate270);
    let height = ((frame.pixels.top + frame.pixels.bottom) / 2.0) as i32;
    write(root, "SQNR in dB", (MARGIN + 6, height), upright, HPos::Center)?;
    legend(root, points, top)?;
    for (point, label) in points.iter().zip(labels) {
        let at = frame.at(point.bits, point.decibels);
        let end = label.rect.nearest(at);
        if (end.0 - at.0).hypot(end.1 - at.1) >= LEADER {
            line(root, corner(at), corner(end), FAINT, 1)?;
        }
    }
    for (point, label) in points.iter().zip(labels) {
        let at = corner(frame.at(point.bits, point.decibels));
        root.draw(&Circle::new(at, 4, color(point.factor).filled())).map_err(failed)?;
        let middle = ((label.rect.top + label.rect.bottom) / 2.0).round() as i32;
        write(root, &label.text, (label.rect.left.round() as i32, middle), mono(INK), HPos::Left)?;
    }
    Ok(())
}

/// What the colors mean, at the right above the scatter chart.
fn legend(root: &Area, points: &[Point], top: i32) -> Result<()> {
    let mut x = WIDTH as i32 - MARGIN;
    for (factor, text) in KINDS.into_iter().rev().filter(|kind| points.iter().any(|p| p.factor == kind.0)) {
        write(root, text, (x, top + 38), sans(SMALL, INK), HPos::Right)?;
        x -= (text.len() as f64 * SMALL * 0.53) as i32 + 12;
        root.draw(&Circle::new((x, top + 38), 4, color(factor).filled())).map_err(failed)?;
        x -= 20;
    }
    Ok(())
}

/// Formats that the scatter chart leaves out, and why.
fn not_shown(entries: &[Entry]) -> Vec<String> {
    let (mut exact, mut worse, mut unfit) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let label = entry.label.as_str();
        match &entry.sqnr {
            None => {}
            Some(Err(_)) => unfit.push(label.to_owned()),
            Some(Ok(sqnr)) => match sqnr.decibels() {
                f64::INFINITY => exact.push(label.to_owned()),
                value if value.is_nan() || value < 0.0 => {
                    worse.push(format!("{label} ({} dB)", decibels(sqnr)))
                }
                _ => {}
            },
        }
    }
    [("exact", exact), ("below 0 dB, worse than all zeros", worse), ("cannot take the shapes", unfit)]
        .into_iter()
        .filter(|(_, labels)| !labels.is_empty())
        .map(|(why, labels)| format!("Not shown, {why}: {}", labels.join(", ")))
        .collect()
}

/// Lines that fit the width, broken at spaces.
fn wrapped(notes: &[String]) -> Vec<String> {
    let room = (f64::from(WIDTH as i32 - 2 * MARGIN) / (SMALL * 0.56)) as usize;
    let mut lines = Vec::new();
    for note in notes {
        let mut line = String::new();
        for word in note.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines
}
