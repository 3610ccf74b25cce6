//! Drawings as SVG text.

use super::palette::style;
use super::text::escape;

/// Width of a character over the size of the font: about so for proportional, exactly for monospaced fonts.
const SANS: f64 = 0.58;
const MONO: f64 = 0.602;
/// Font sizes of the style rules, in pixels.
const SIZE: f64 = 12.0;
const SMALL: f64 = 11.0;

/// A drawing under way; y grows downwards, in pixels.
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
    /// What it shows, for those who cannot see it.
    label: String,
}

/// Which side of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Middle,
    Right,
}

/// Characters, those of East Asian scripts and pictures twice.
fn columns(text: &str) -> f64 {
    text.chars().map(|c| if c >= '\u{2e80}' { 2.0 } else { 1.0 }).sum()
}

/// About how wide a text of 12 pixels is.
pub(super) fn sans_width(text: &str) -> f64 {
    columns(text) * SIZE * SANS
}

/// How wide a monospaced text of 11 pixels is.
pub(super) fn mono_width(text: &str) -> f64 {
    columns(text) * SMALL * MONO
}

/// A coordinate with at most one decimal.
fn px(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    // Also turns -0 into 0.
    if rounded.is_finite() { (rounded + 0.0).to_string() } else { "0".to_owned() }
}

impl Svg {
    pub(super) fn new(width: f64, height: f64, label: &str) -> Self {
        Self { width, height, body: String::new(), label: label.to_owned() }
    }

    pub(super) fn set_height(&mut self, height: f64) {
        self.height = height;
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        self.body += &format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>\n");
    }

    /// A line through `points`; nothing for fewer than two.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() > 1 {
            self.body += &format!("<path class=\"{class}\" d=\"{}\"/>\n", trace(points));
        }
    }

    /// The area that `points` surround.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() > 2 {
            self.body += &format!("<path class=\"{class}\" d=\"{}Z\"/>\n", trace(points));
        }
    }

    pub(super) fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, tip: &str) {
        let head =
            format!("<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"", px(at.0), px(at.1), px(radius));
        self.close_with_tip(&head, "circle", tip);
    }

    /// A square on its corner.
    pub(super) fn diamond(&mut self, class: &str, at: (f64, f64), radius: f64, tip: &str) {
        let corners = [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)];
        let corners = corners.map(|(dx, dy)| (at.0 + dx * radius, at.1 + dy * radius));
        let head = format!("<path class=\"{class}\" d=\"{}Z\"", trace(&corners));
        self.close_with_tip(&head, "path", tip);
    }

    /// A rectangle with a class, or with a color of its own.
    pub(super) fn rect(&mut self, fill: Fill<'_>, at: (f64, f64), size: (f64, f64), tip: &str) {
        let fill = match fill {
            Fill::Class(class) => format!("class=\"{class}\""),
            Fill::Color(color) => format!("fill=\"{color}\""),
        };
        let (x, y, width, height) = (px(at.0), px(at.1), px(size.0.max(0.0)), px(size.1.max(0.0)));
        let head = format!("<rect {fill} x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
        self.close_with_tip(&head, "rect", tip);
    }

    fn close_with_tip(&mut self, head: &str, name: &str, tip: &str) {
        self.body += head;
        self.body += &match tip {
            "" => "/>\n".to_owned(),
            tip => format!("><title>{}</title></{name}>\n", escape(tip)),
        };
    }

    /// Text whose vertical middle is at the place.
    pub(super) fn text(&mut self, class: &str, at: (f64, f64), side: Side, text: &str) {
        self.turned(class, at, side, 0.0, text);
    }

    /// Text turned around its place, in degrees.
    pub(super) fn turned(&mut self, class: &str, at: (f64, f64), side: Side, degrees: f64, text: &str) {
        let anchor = match side {
            Side::Left => "",
            Side::Middle => " text-anchor=\"middle\"",
            Side::Right => " text-anchor=\"end\"",
        };
        // The middle of lowercase and capital letters; `dominant-baseline` differs between programs.
        let place = match degrees {
            0.0 => format!("x=\"{}\" y=\"{}\"", px(at.0), px(at.1 + 4.0)),
            degrees => format!(
                "transform=\"translate({} {}) rotate({}) translate(0 4)\"",
                px(at.0),
                px(at.1),
                px(degrees)
            ),
        };
        self.body += &format!("<text class=\"{class}\" {place}{anchor}>{}</text>\n", escape(text));
    }

    /// Dark or light letters in the middle of a colored cell.
    pub(super) fn cell_text(&mut self, dark: bool, at: (f64, f64), text: &str) {
        let color = if dark { "#111" } else { "#fff" };
        let (x, y) = (px(at.0), px(at.1 + 3.6));
        self.body += &format!(
            "<text fill=\"{color}\" class=\"small\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" pointer-events=\"none\">{}\
             </text>\n",
            escape(text)
        );
    }

    /// What follows until [`Svg::close`] belongs to a series that its key shows and hides.
    pub(super) fn open(&mut self, series: usize) {
        self.body += &format!("<g data-series=\"{series}\">\n");
    }

    /// What follows until [`Svg::close`] is the key of a series.
    pub(super) fn open_key(&mut self, series: usize) {
        self.body += &format!("<g class=\"key\" data-key=\"{series}\">\n");
    }

    pub(super) fn close(&mut self) {
        self.body += "</g>\n";
    }

    /// Part of a page, whose style rules it needs. It shrinks with the page but does not grow.
    pub(super) fn inline(&self) -> String {
        self.wrapped(&format!("style=\"width:100%;max-width:{}px\"", px(self.width)), "")
    }

    /// Part of a page, always at its own size.
    pub(super) fn inline_fixed(&self) -> String {
        self.wrapped(&format!("width=\"{}\" height=\"{}\"", px(self.width), px(self.height)), "")
    }

    /// A file of its own, on a ground of its own.
    pub(super) fn file(&self) -> String {
        let size = format!("width=\"{}\" height=\"{}\"", px(self.width), px(self.height));
        let ground = "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n";
        self.wrapped(&size, &format!("<style>\n{}</style>\n{ground}", style()))
    }

    fn wrapped(&self, size: &str, before: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" {size} role=\"img\" aria-label=\"{}\">\n{before}{}\
             </svg>\n",
            px(self.width),
            px(self.height),
            escape(&self.label),
            self.body
        )
    }
}

/// What a rectangle is filled with.
#[derive(Clone, Copy)]
pub(super) enum Fill<'a> {
    Class(&'a str),
    Color(&'a str),
}

fn trace(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (i, point) in points.iter().enumerate() {
        text += &format!("{}{} {}", if i == 0 { "M" } else { "L" }, px(point.0), px(point.1));
    }
    text
}

/// Keys of series in rows from `top` on, between `left` and `right`; returns the bottom.
pub(super) fn keys(svg: &mut Svg, entries: &[Key], (left, right): (f64, f64), top: f64) -> f64 {
    let (mut x, mut y) = (left, top + 8.0);
    for entry in entries {
        let width = 20.0 + sans_width(&entry.text) + 14.0;
        if x > left && x + width > right {
            x = left;
            y += 18.0;
        }
        if let Some(series) = entry.series {
            svg.open_key(series);
        }
        match entry.shape {
            Shape::Dot => svg.dot(&format!("dot {}", entry.class), (x + 7.0, y), 4.5, ""),
            Shape::Diamond => svg.diamond(&entry.class, (x + 7.0, y), 5.0, ""),
            Shape::Line => svg.line(&entry.class, (x, y), (x + 15.0, y)),
            Shape::Square => svg.rect(Fill::Class(&entry.class), (x + 1.0, y - 5.0), (11.0, 11.0), ""),
        }
        svg.text("ink", (x + 20.0, y), Side::Left, &entry.text);
        if entry.series.is_some() {
            svg.close();
        }
        x += width;
    }
    y + 10.0
}

/// A key.
pub(super) struct Key {
    pub(super) series: Option<usize>,
    pub(super) shape: Shape,
    pub(super) class: String,
    pub(super) text: String,
}

/// What stands for a series.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Dot,
    Diamond,
    Line,
    Square,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_numbers() {
        assert_eq!(px(1.25), "1.3");
        assert_eq!(px(-0.01), "0");
        assert_eq!(px(f64::NAN), "0");
    }

    #[test]
    fn drawings_are_xml() {
        let mut svg = Svg::new(10.0, 20.0, "a < b");
        svg.path("curve", &[(0.0, 0.0), (1.0, 2.0)]);
        svg.path("curve", &[(0.0, 0.0)]);
        svg.dot("f0", (1.0, 1.0), 2.0, "<tip>");
        svg.turned("ink", (1.0, 1.0), Side::Right, -45.0, "\"&\u{0}");
        let text = svg.file();
        let document = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(
            document.descendants().filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "path"))).count(),
            1
        );
        assert!(document.descendants().any(|n| n.text() == Some("<tip>")));
    }
}
