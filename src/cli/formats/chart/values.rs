//! The panel of values: one row per format, every value a tick.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::super::entry::Entry;
use super::{
    Area, Axis, FAINT, INK, LARGE, LINES, MARGIN, SMALL, WIDTH, binades, color, failed, line, mono,
    mono_width, sans, shortened, write,
};

/// Height of the row of a format.
const ROW: i32 = 26;
/// Above the first row, and below the last one.
const HEAD: i32 = 62;
const FOOT: i32 = 56;
/// Binades that a log axis shows at most.
const MOST_BINADES: f64 = 48.0;

/// Height of the panel, its axis included.
pub(super) fn height(entries: &[Entry]) -> i32 {
    HEAD + entries.len() as i32 * ROW + FOOT
}

/// Draws the panel at the top, values relative to the largest magnitude of their format.
pub(super) fn draw(root: &Area, entries: &[Entry], axis: Axis) -> Result<()> {
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
