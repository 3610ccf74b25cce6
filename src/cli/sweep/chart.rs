//! The chart of a sweep: what formats lose against their bits per weight.

use anybit::model::Unit;
use anybit::search::Measurement;
use anyhow::{Result, bail};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::chart_style::{COLORS, INK, LINES, failed};

use super::{Baseline, Plot, Row};

const SIZE: (u32, u32) = (960, 600);
/// Points are labelled up to this many.
const MAX_LABELS: usize = 40;
/// What the logarithmic axis shows for a divergence of 0.
const LEAST_KL: f64 = 1e-9;

/// Formats that differ in numbers only: one line of the chart.
struct Series {
    name: String,
    points: Vec<(f64, f64, String)>,
}

/// The chart as SVG. Formats of one family are joined by a line; `baseline` is what the f32 model has.
pub(super) fn svg(rows: &[Row], plot: Plot, unit: Unit, baseline: Baseline, model: &str) -> Result<String> {
    // The logarithmic axis is a linear one of exponents.
    let value = |m: &Measurement| match plot {
        Plot::Kl => m.kl.max(LEAST_KL).log10(),
        Plot::Loss => m.loss,
        Plot::Accuracy => m.accuracy * 100.0,
    };
    let mut series: Vec<Series> = Vec::new();
    for row in rows {
        let Ok(m) = &row.outcome else { continue };
        let name = family(&row.spec);
        let point = (m.bits_per_weight, value(m), row.spec.clone());
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    if series.is_empty() {
        bail!("nothing to draw: no format could be measured");
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let bits = ends(&mut points().map(|p| p.0));
    let bits = (bits.0 - 0.5).max(0.0)..bits.1 + (bits.1 - bits.0).max(1.0) * 0.12;
    let mut values = ends(&mut points().map(|p| p.1));
    let line = match plot {
        Plot::Kl => None,
        Plot::Loss => Some(baseline.loss),
        Plot::Accuracy => Some(baseline.accuracy * 100.0),
    };
    if let Some(line) = line {
        values = (values.0.min(line), values.1.max(line));
    }
    let room = (values.1 - values.0).max(values.1.abs() * 1e-3).max(1e-9) * 0.08;
    let title = match plot {
        Plot::Kl => format!("KL to the f32 model, nats per {}", unit.name()),
        Plot::Loss => format!("loss, nats per {}", unit.name()),
        Plot::Accuracy if unit == Unit::Example => "accuracy, %".to_owned(),
        Plot::Accuracy => "top-1 accuracy, %".to_owned(),
    };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let caption = format!("{model}: {title}");
        let mut chart = ChartBuilder::on(&root)
            .caption(caption, ("sans-serif", 20).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(bits.clone(), values.0 - room..values.1 + room)
            .map_err(failed)?;
        let number = |v: &f64| match plot {
            Plot::Kl => format!("{:.0e}", 10f64.powf(*v)),
            _ => format!("{v:.3}"),
        };
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(WHITE).bold_line_style(LINES).x_desc("bits per weight of the block linears");
        mesh.y_desc(&title).y_label_formatter(&number).draw().map_err(failed)?;
        if let Some(line) = line {
            let line = PathElement::new([(bits.start, line), (bits.end, line)], INK);
            let key = chart.draw_series([line]).map_err(failed)?.label("f32");
            key.legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], INK));
        }
        let labels = points().count() <= MAX_LABELS;
        for (n, series) in series.iter().enumerate() {
            let color = COLORS[n % COLORS.len()];
            let line: Vec<_> = series.points.iter().map(|p| (p.0, p.1)).collect();
            let line = PathElement::new(line, color.stroke_width(2));
            let key = chart.draw_series([line]).map_err(failed)?;
            key.label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            let dots = series.points.iter().map(|p| Circle::new((p.0, p.1), 4, color.filled()));
            chart.draw_series(dots).map_err(failed)?;
            let style = ("sans-serif", 12).into_font().color(&color).pos(Pos::new(HPos::Left, VPos::Bottom));
            let texts = series.points.iter().filter(|_| labels).map(|(x, y, spec)| {
                EmptyElement::at((*x, *y)) + Text::new(spec.clone(), (6, -3), style.clone())
            });
            chart.draw_series(texts).map_err(failed)?;
        }
        let mut legend = chart.configure_series_labels();
        legend
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(LINES);
        legend.draw().map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

/// A spec without its numbers: `int4(group=32)@int8` and `int8(group=64)@int8` are of one family.
fn family(spec: &str) -> String {
    let (weight, activation) = spec.split_once('@').map_or((spec, ""), |(w, a)| (w, a));
    let stem = |text: &str| {
        let name = text.split('(').next().unwrap_or_default();
        name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
    };
    match activation {
        "" => stem(weight),
        activation => format!("{}@{}", stem(weight), stem(activation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: Baseline = Baseline { loss: 3.005, accuracy: 0.4 };

    fn row(spec: &str, bits: f64, kl: f64) -> Row {
        let outcome = Ok(Measurement {
            loss: 3.0 + kl,
            kl,
            agreement: 1.0 - kl,
            accuracy: 0.4 - kl,
            bytes: 1000,
            nominal_bytes: 900,
            bits_per_weight: bits,
            latency: None,
        });
        Row { spec: spec.to_owned(), outcome }
    }

    #[test]
    fn charts_are_sound_svg_with_a_line_per_family() {
        let mut rows = vec![
            row("int4(group=32)", 4.5, 0.005),
            row("int8", 8.0, 5e-5),
            row("f32", 32.0, 0.0),
            row("mxint8@int8", 8.25, 1e-3),
        ];
        rows.push(Row { spec: "int2".to_owned(), outcome: Err("overflow".to_owned()) });
        for plot in [Plot::Kl, Plot::Loss, Plot::Accuracy] {
            let text = svg(&rows, plot, Unit::Token, BASELINE, "a & <b>").unwrap();
            let document = roxmltree::Document::parse(&text).unwrap();
            let texts: Vec<&str> =
                document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
            for want in ["int4(group=32)", "mxint@int", "f"] {
                assert!(texts.contains(&want), "{want} in {texts:?}");
            }
        }
        let one = svg(&rows[..1], Plot::Loss, Unit::Example, BASELINE, "one point").unwrap();
        assert!(one.contains("nats per example"));
        assert!(!one.contains("NaN"));
        assert!(svg(&rows[4..], Plot::Kl, Unit::Token, BASELINE, "none").is_err());
    }
}
