//! Axes: from values to pixels, and where their marks stand.

use super::svg::{Side, Svg};
use super::text::{byte_unit, second_unit, significant};
use crate::model::Unit;
use crate::search::{Metric, Quality, Size};

/// A value range on a range of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    pixels: (f64, f64),
}

impl Axis {
    /// Over all finite `values`, with room at both ends. A logarithmic axis shows what is not positive at its end;
    /// `None` without values.
    pub(super) fn new(
        values: impl Iterator<Item = f64> + Clone,
        log: bool,
        pixels: (f64, f64),
    ) -> Option<Self> {
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            let ends = |(low, high): (f64, f64), v: f64| (low.min(v), high.max(v));
            values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), ends)
        };
        let mut positive = values.clone().filter(|v| *v > 0.0);
        let (mut low, mut high) = ends(&mut positive);
        if log && low <= high {
            if values.clone().any(|v| v <= 0.0) {
                low /= 4.0;
            }
            let room = (high / low).powf(0.06).max(1.08);
            return Some(Self { low: low / room, high: high * room, log, pixels });
        }
        (low, high) = ends(&mut values.clone());
        if low > high {
            return None;
        }
        let room = match (high - low) * 0.05 {
            room if room > low.abs().max(high.abs()) * 1e-9 => room,
            _ => low.abs().max(1e-3) * 0.1,
        };
        let least = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        Some(Self { low: least, high: high + room, log: false, pixels })
    }

    /// From 0 to the greatest of `values`.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let high = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        Self { low: 0.0, high: if high > 0.0 { high * 1.05 } else { 1.0 }, log: false, pixels }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.log {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.pixels.0 + share.clamp(0.0, 1.0) * (self.pixels.1 - self.pixels.0)
    }

    /// Values and texts of marks: about `wanted` of them, at round numbers.
    pub(super) fn marks(&self, wanted: usize) -> Vec<(f64, String)> {
        let wanted = wanted.max(2) as f64;
        if self.log && self.high / self.low > 8.0 {
            let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
            let step = (f64::from(last - first + 1) / wanted).ceil().max(1.0) as i32;
            let factors: &[f64] = match f64::from(last - first + 1) {
                decades if decades * 3.0 <= wanted + 1.0 => &[1.0, 2.0, 5.0],
                decades if decades * 2.0 <= wanted + 1.0 => &[1.0, 3.0],
                _ => &[1.0],
            };
            let decades = (first - 1..=last).filter(|decade| decade.rem_euclid(step) == 0);
            let all = decades.flat_map(|decade| factors.iter().map(move |f| f * 10f64.powi(decade)));
            let inside = all.filter(|value| (self.low..=self.high).contains(value));
            return inside.map(|value| (value, mark(value, 0.0))).collect();
        }
        let rough = (self.high - self.low) / wanted;
        let size = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * size).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(size * 10.0);
        let (first, last) =
            ((self.low / step).ceil() as i64, (self.high / step * (1.0 + 1e-12)).floor() as i64);
        let values = (first..=last.min(first.saturating_add(50))).map(|i| i as f64 * step);
        values.map(|value| (value, mark(value, step))).collect()
    }
}

/// What an axis measures: the title, and what values are divided by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantity {
    pub(super) title: String,
    pub(super) factor: f64,
    pub(super) log: bool,
}

impl Quantity {
    /// `greatest` decides the unit.
    pub(super) fn of(metric: Metric, unit: Unit, greatest: f64) -> Self {
        let (title, factor, log) = match metric {
            Metric::Quality(Quality::Kl) => (format!("KL to the f32 model, nats/{}", unit.name()), 1.0, true),
            Metric::Quality(Quality::Loss) => (format!("loss, nats/{}", unit.name()), 1.0, true),
            Metric::Quality(Quality::Error) => ("share of wrong labels".to_owned(), 1.0, false),
            Metric::Size(size) => {
                let (factor, unit) = byte_unit(greatest);
                let kind = if size == Size::Nominal { "nominal size" } else { "packed size" };
                (format!("{kind}, {unit}"), factor, false)
            }
            Metric::Latency => {
                let (factor, unit) = second_unit(greatest);
                (format!("latency, {unit}"), factor, false)
            }
        };
        Self { title, factor, log }
    }
}

/// Where a chart has its axes.
pub(super) struct Frame {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Frame {
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }

    /// Rules, marks and titles.
    pub(super) fn draw(&self, svg: &mut Svg, x_title: &str, y_title: &str) {
        for (value, text) in self.y.marks(6) {
            let y = self.y.at(value);
            svg.line("rule", (self.left, y), (self.right, y));
            svg.text("faint small", (self.left - 6.0, y), Side::Right, &text);
        }
        for (value, text) in self.x.marks(((self.right - self.left) / 75.0) as usize) {
            let x = self.x.at(value);
            svg.line("rule", (x, self.top), (x, self.bottom));
            svg.text("faint small", (x, self.bottom + 12.0), Side::Middle, &text);
        }
        let middle = (self.left + self.right) / 2.0;
        svg.text("ink small", (middle, self.bottom + 30.0), Side::Middle, x_title);
        let middle = (self.top + self.bottom) / 2.0;
        svg.turned("ink small", (self.left - 50.0, middle), Side::Middle, -90.0, y_title);
    }
}

/// As many decimals as `step` needs; all that count where it is 0.
fn mark(value: f64, step: f64) -> String {
    let magnitude = value.abs().max(step);
    if magnitude >= 1e7 || (magnitude > 0.0 && magnitude < 1e-3) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    if step > 0.0 {
        let decimals = (-(step * 1.001).log10().floor()).clamp(0.0, 12.0) as usize;
        return format!("{value:.decimals$}");
    }
    significant(value, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64], log: bool) -> Axis {
        Axis::new(values.iter().copied(), log, (0.0, 100.0)).unwrap()
    }

    #[test]
    fn values_are_within_the_pixels() {
        for values in
            [&[1.0, 2.0][..], &[0.0], &[3.0], &[-1.0, 1.0], &[1e-12, 1e12], &[0.0, 1e-9, 5.0], &[7e9]]
        {
            for log in [false, true] {
                let axis = axis(values, log);
                for &value in values.iter().chain(&[f64::INFINITY, -1e300]) {
                    assert!((0.0..=100.0).contains(&axis.at(value)), "{values:?} {log} {value}");
                }
                let marks = axis.marks(6);
                assert!((1..=20).contains(&marks.len()), "{values:?} {log}: {marks:?}");
                assert!(marks.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
            }
        }
        assert_eq!(Axis::new([f64::NAN].into_iter(), false, (0.0, 1.0)), None);
    }

    #[test]
    fn marks_are_round() {
        let texts = |values: &[f64], log: bool| -> Vec<String> {
            axis(values, log).marks(6).into_iter().map(|mark| mark.1).collect()
        };
        assert_eq!(texts(&[0.0, 10.0], false), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(texts(&[0.001, 10.0], true), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(texts(&[1.0, 60.0], true), ["1", "2", "5", "10", "20", "50"]);
        assert_eq!(texts(&[3.21421, 3.21423], false)[0].len(), "3.214210".len());
        assert_eq!([1e-4, 0.02, 5e8, 0.0].map(|value| mark(value, 0.0)), ["1e-4", "0.02", "5e8", "0"]);
    }
}
