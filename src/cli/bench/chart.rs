//! The charts of `anybit bench kernels`: the roofline, and what fusion gains.

use anybit::bench::Ceilings;
use anybit::bench::kernels::Row;
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::chart_style::{COLORS, INK, LINES, failed};

/// Height of the roofline; below it stand the bars.
const ROOFLINE: u32 = 560;
const WIDTH: u32 = 1100;
/// Height of a bar with its gap.
const BAR: u32 = 22;
/// Most bars, the largest gains and losses among them.
const MAX_BARS: usize = 60;
/// Points are labelled up to this many.
const MAX_LABELS: usize = 24;

/// Width of a letter of a label and height of a line, pixels.
const LETTER: (i32, i32) = (7, 12);

/// Operations per byte and GOP/s as exponents of ten, and a label.
type Point = (f64, f64, String);
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Both charts as SVG.
pub(super) fn svg(rows: &[Row], ceilings: &Ceilings, device: &str) -> Result<String> {
    let gains: Vec<(&Row, f64)> = rows.iter().filter_map(|row| Some((row, row.rates.speedup?))).collect();
    let bars = gains.len().min(MAX_BARS);
    let height = ROOFLINE + if bars > 0 { 90 + bars as u32 * BAR } else { 0 };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (top, bottom) = root.split_vertically(ROOFLINE);
        roofline(&top, rows, ceilings, device)?;
        if bars > 0 {
            fusion(&bottom, gains)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

/// Operations per byte against operations per second, both logarithmic: axes of exponents.
fn roofline(area: &Area<'_>, rows: &[Row], ceilings: &Ceilings, device: &str) -> Result<()> {
    let mut series: Vec<(String, Vec<Point>)> = Vec::new();
    for row in rows {
        let Some((rate, side)) = row.rates.operations.zip(row.fused.as_ref()) else { continue };
        let intensity = row.operations as f64 / side.bytes.max(1) as f64;
        let label = format!("{} {}", row.format.as_deref().unwrap_or(row.op.name()), row.shape);
        let point = (intensity.max(1e-9).log10(), (rate / 1e9).max(1e-9).log10(), label);
        match series.iter_mut().find(|(name, _)| name == row.op.name()) {
            Some((_, points)) => points.push(point),
            None => series.push((row.op.name().to_owned(), vec![point])),
        }
    }
    let (copy, f32, dot4) = (ceilings.copy / 1e9, ceilings.f32 / 1e9, ceilings.dot4 / 1e9);
    let points = || series.iter().flat_map(|(_, points)| points);
    let ends = |of: fn(&Point) -> f64, low: f64, high: f64| {
        points().map(of).fold((low, high), |(a, b), v| (a.min(v), b.max(v)))
    };
    // The ridge of the higher ceiling is always in sight.
    let ridge = (f32.max(dot4) / copy).log10();
    let x = ends(|p| p.0, ridge - 1.0, ridge + 0.5);
    let top = f32.max(dot4).log10();
    let y = ends(|p| p.1, top - 1.5, top);
    let (x, y) = (x.0 - 0.2..x.1 + 0.6, y.0 - 0.2..y.1 + 0.3);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{device}: roofline, ceilings measured"), ("sans-serif", 20).into_font().color(&INK))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(x.clone(), y.clone())
        .map_err(failed)?;
    let power = |v: &f64| {
        let value = 10f64.powf(*v);
        if value >= 0.1 { format!("{value:.1}") } else { format!("{value:.0e}") }
    };
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(LINES).x_label_formatter(&power).y_label_formatter(&power);
    mesh.x_desc("operations per byte").y_desc("GOP/s").draw().map_err(failed)?;
    let style = |color: &RGBColor, h, v| ("sans-serif", 12).into_font().color(color).pos(Pos::new(h, v));
    let mut taken = Vec::new();
    // Where the bandwidth meets a ceiling the slope ends.
    let slope = |at: f64| at + copy.log10();
    for (name, rate) in [("f32", f32), ("dot4I8Packed", dot4)] {
        let ridge = (rate / copy).log10();
        let line = [(x.start, slope(x.start)), (ridge, rate.log10()), (x.end, rate.log10())];
        let inside = line.map(|(a, b)| (a, b.max(y.start)));
        chart.draw_series([PathElement::new(inside, INK)]).map_err(failed)?;
        let (at, text) = ((x.end, rate.log10()), format!("{name} {rate:.1} GOP/s"));
        let (right, bottom) = chart.backend_coord(&at);
        let width = LETTER.0 * text.len() as i32;
        taken.push(Label { left: right - width, middle: bottom - LETTER.1 / 2, width });
        let label = Text::new(text, at, style(&INK, HPos::Right, VPos::Bottom));
        chart.draw_series([label]).map_err(failed)?;
    }
    let low = (y.start - copy.log10()).max(x.start);
    let label = Text::new(
        format!("copy {copy:.1} GB/s"),
        (low, slope(low).max(y.start)),
        style(&INK, HPos::Left, VPos::Bottom),
    );
    chart.draw_series([label]).map_err(failed)?;
    let labels = points().count() <= MAX_LABELS;
    for (n, (name, points)) in series.iter().enumerate() {
        let color = COLORS[n % COLORS.len()];
        let dots = points.iter().map(|p| Circle::new((p.0, p.1), 4, color.filled()));
        let key = chart.draw_series(dots).map_err(failed)?;
        key.label(name).legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
        let style = style(&color, HPos::Left, VPos::Center);
        for (x, y, text) in points.iter().filter(|_| labels) {
            let (left, middle) = chart.backend_coord(&(*x, *y));
            let width = LETTER.0 * text.len() as i32;
            let lower = place(Label { left: left + 8, middle, width }, &mut taken);
            let text = EmptyElement::at((*x, *y)) + Text::new(text.clone(), (8, lower), style.clone());
            chart.draw_series([text]).map_err(failed)?;
        }
    }
    if !series.is_empty() {
        let mut legend = chart.configure_series_labels();
        legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.85)).border_style(LINES);
        legend.draw().map_err(failed)?;
    }
    Ok(())
}

/// Where a label stands, pixels.
#[derive(Clone, Copy, Debug)]
struct Label {
    left: i32,
    middle: i32,
    width: i32,
}

impl Label {
    fn overlaps(&self, other: &Self) -> bool {
        (self.middle - other.middle).abs() < LETTER.1
            && self.left < other.left + other.width
            && other.left < self.left + self.width
    }
}

/// By how many pixels `label` is to stand lower than its point, so that it hides none that is `taken`; the nearest such
/// place, within a few lines.
fn place(label: Label, taken: &mut Vec<Label>) -> i32 {
    let moved = |lower: i32| Label { middle: label.middle + lower, ..label };
    let lower = (0..=6 * LETTER.1)
        .flat_map(|step| [step, -step])
        .find(|&lower| !taken.iter().any(|other| other.overlaps(&moved(lower))));
    let lower = lower.unwrap_or(0);
    taken.push(moved(lower));
    lower
}

/// A bar per case: naive time over fused time; the line is where both are equal.
fn fusion(area: &Area<'_>, mut gains: Vec<(&Row, f64)>) -> Result<()> {
    gains.sort_by(|a, b| b.1.total_cmp(&a.1));
    if gains.len() > MAX_BARS {
        // The middle says least.
        let losses = gains.split_off(gains.len() - MAX_BARS / 2);
        gains.truncate(MAX_BARS / 2);
        gains.extend(losses);
    }
    let most = gains.iter().map(|(_, gain)| *gain).fold(1.0, f64::max);
    let n = gains.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("naive time / fused time", ("sans-serif", 18).into_font().color(&INK))
        .margin(14)
        .x_label_area_size(30)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..most * 1.1, 0.0..n)
        .map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(LINES).disable_y_mesh().y_labels(0);
    mesh.x_label_formatter(&|v| format!("{v:.1}x")).draw().map_err(failed)?;
    let style = |h| ("sans-serif", 12).into_font().color(&INK).pos(Pos::new(h, VPos::Center));
    for (i, (row, gain)) in gains.iter().enumerate() {
        let (low, high) = (n - i as f64 - 0.85, n - i as f64 - 0.15);
        let color = COLORS[usize::from(*gain < 1.0)];
        let bar = Rectangle::new([(0.0, low), (*gain, high)], color.filled());
        chart.draw_series([bar]).map_err(failed)?;
        let middle = (low + high) / 2.0;
        let name = EmptyElement::at((0.0, middle)) + Text::new(row.name.clone(), (-6, 0), style(HPos::Right));
        chart.draw_series([name]).map_err(failed)?;
        let value =
            EmptyElement::at((*gain, middle)) + Text::new(format!("{gain:.2}"), (4, 0), style(HPos::Left));
        chart.draw_series([value]).map_err(failed)?;
    }
    let line = PathElement::new([(1.0, 0.0), (1.0, n)], INK);
    chart.draw_series([line]).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anybit::bench::kernels::{Case, Rates};
    use anybit::bench::{Op, Shape, Verdict};
    use anybit::gpu::Clock;

    fn row(op: Op, speedup: Option<f64>) -> Row {
        let shape = Shape { m: 1, n: 64, k: 64 };
        let verdict = Verdict { pass: true, checked: 1, of: 1, nmse: Some(0.0), tolerance: 1e-12, at: None };
        let side = anybit::bench::Side {
            kernels: vec!["gemv<a & b>".to_owned()],
            dispatches: 1,
            bytes: 4096,
            copies: 1,
            exceeds_cache: false,
            verdict,
        };
        let rates = Rates { operations: Some(2e9), speedup, ..Rates::default() };
        Row {
            name: format!("{}<&>", Case::new(op, None, shape).name()),
            op,
            format: None,
            shape,
            operations: 8192,
            clock: Clock::Wall,
            fused: Some(side),
            naive: None,
            measurements: Default::default(),
            rates,
            failure: None,
        }
    }

    #[test]
    fn labels_of_near_points_do_not_hide_each_other() {
        let mut taken = vec![Label { left: 100, middle: 50, width: 60 }];
        for (left, middle) in [(90, 50), (120, 53), (100, 47), (300, 50), (159, 50), (160, 50)] {
            let before = taken.clone();
            let lower = place(Label { left, middle, width: 40 }, &mut taken);
            let placed = taken.last().copied().expect("it was placed");
            assert_eq!((placed.left, placed.middle), (left, middle + lower));
            assert!(before.iter().all(|other| !other.overlaps(&placed)), "{placed:?} {before:?}");
        }
        // Away from the others nothing moves.
        assert_eq!(place(Label { left: 500, middle: 50, width: 40 }, &mut taken), 0);
    }

    #[test]
    fn charts_are_sound_svg_with_ceilings_points_and_bars() {
        let ceilings = Ceilings { copy: 1e10, f32: 2e10, dot4: 3e10 };
        let rows = [row(Op::Gemv, Some(2.5)), row(Op::Gemm, Some(0.5)), row(Op::Norm, None)];
        let text = svg(&rows, &ceilings, "a & <b>").unwrap();
        assert!(!text.contains("NaN"));
        let document = roxmltree::Document::parse(&text).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for want in ["f32 20.0 GOP/s", "dot4I8Packed 30.0 GOP/s", "copy 10.0 GB/s", "2.50", "0.50", "gemv"] {
            assert!(texts.contains(&want), "{want} in {texts:?}");
        }
        // Without times there are only the ceilings.
        let none = svg(&[], &ceilings, "none").unwrap();
        assert!(roxmltree::Document::parse(&none).is_ok() && !none.contains("naive time"));
        let many: Vec<Row> = (0..200).map(|i| row(Op::Gemv, Some(1.0 + f64::from(i)))).collect();
        assert!(svg(&many, &ceilings, "many").unwrap().len() < 200_000);
    }
}
