//! The chart of `anybit formats plot`: the values of formats, and what they lose of a model against their bits.

mod scatter;
mod values;

use anybit::format::Factor;
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::chart_style::{INK, LINES, failed};
use super::entry::{Entry, decibels};

/// Pixels; what a page of text shows without scaling.
const WIDTH: u32 = 960;
const MARGIN: i32 = 14;
/// Height of a line of notes.
const LINE: i32 = 18;
/// Font sizes in pixels, and the width of a character of the monospaced one over its size.
const SMALL: f64 = 12.0;
const LARGE: f64 = 16.0;
const MONO: f64 = 0.602;
/// Longest label, in characters; the middle of a longer one is left out.
const LONGEST: usize = 46;

const FAINT: RGBColor = RGBColor(110, 110, 110);

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
    let points: Vec<scatter::Point> = entries.iter().filter_map(scatter::Point::of).collect();
    let values = values::height(entries);
    let below = values + if points.is_empty() { 0 } else { scatter::HEIGHT };
    let frame = scatter::frame(&points, values);
    let labels = scatter::place(&points, &frame);
    let mut notes = wrapped(&not_shown(entries));
    let keyed = points.iter().zip(&labels).filter(|(_, label)| label.keyed);
    notes.extend(keyed.map(|(point, label)| format!("{} {}", label.text, point.label)));
    let height = below + notes.len() as i32 * LINE + MARGIN;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        values::draw(&root, entries, axis)?;
        if !points.is_empty() {
            scatter::draw(&root, &points, &labels, &frame, source, values)?;
        }
        for (line, note) in notes.iter().enumerate() {
            let y = below + line as i32 * LINE;
            write(&root, note, (MARGIN, y), sans(SMALL, FAINT), HPos::Left)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
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
