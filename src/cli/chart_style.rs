//! What the charts of several verbs share.

use plotters::style::RGBColor;

/// Text and axes.
pub(crate) const INK: RGBColor = RGBColor(32, 32, 32);
/// Lines of a grid.
pub(crate) const LINES: RGBColor = RGBColor(226, 226, 226);
/// Okabe and Ito's colors, which people with any color vision tell apart.
pub(crate) const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 140, 100),
    RGBColor(150, 80, 130),
    RGBColor(170, 130, 0),
    RGBColor(60, 160, 220),
    RGBColor(90, 90, 90),
];

/// An error of the drawing library.
pub(crate) fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("cannot draw the chart: {error}")
}
