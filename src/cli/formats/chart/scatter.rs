//! The scatter chart: what formats lose of a model, against their bits.

use anybit::format::Factor;
use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::super::entry::Entry;
use super::super::labels::{LEADER, Placer, Rect};
use super::{
    Area, FAINT, INK, LARGE, LINES, MARGIN, SMALL, WIDTH, color, failed, line, mono, mono_width, sans,
    shortened, write,
};

/// Height of the chart.
pub(super) const HEIGHT: i32 = 600;
const KINDS: [(Factor, &str); 4] = [
    (Factor::Scale, "real scale"),
    (Factor::PowerOfTwo, "power of two per block"),
    (Factor::ScaleAndOffset, "scale and offset"),
    (Factor::One, "no scale"),
];

/// A format on the scatter chart.
pub(super) struct Point {
    pub(super) label: String,
    factor: Factor,
    bits: f64,
    decibels: f64,
}

impl Point {
    /// `None` where the ratio is not measured, infinite or below 0.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let sqnr = entry.sqnr.as_ref()?.as_ref().ok()?;
        let decibels = sqnr.decibels();
        let is_shown = decibels.is_finite() && decibels >= 0.0;
        let label = shortened(&entry.label);
        is_shown.then(|| Self { label, factor: entry.grid.factor, bits: sqnr.bits_per_weight(), decibels })
    }
}

/// Where the scatter chart has its axes, in pixels and in units.
pub(super) struct Frame {
    pixels: Rect,
    bits: (f64, f64),
    decibels: f64,
}

pub(super) fn frame(points: &[Point], top: i32) -> Frame {
    let most = |f: fn(&Point) -> f64| points.iter().map(f).fold(0.0, f64::max);
    let least = points.iter().map(|point| point.bits).fold(f64::INFINITY, f64::min);
    let pixels = Rect {
        left: f64::from(MARGIN) + 44.0,
        top: f64::from(top) + 66.0,
        right: f64::from(WIDTH as i32 - MARGIN) - 6.0,
        bottom: f64::from(top + HEIGHT) - 60.0,
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
pub(super) struct Label {
    pub(super) text: String,
    pub(super) keyed: bool,
    rect: Rect,
}

/// One label per point; where there is no room for it, its number within square brackets.
pub(super) fn place(points: &[Point], frame: &Frame) -> Vec<Label> {
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
pub(super) fn draw(
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
