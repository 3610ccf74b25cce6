//! Bars: importance of layers, and where the time went.

use super::svg::{Fill, Key, Shape, Side, Svg, keys, mono_width};
use super::text::{percent, seconds, shortened};

/// Bars of one row each in panels side by side, one panel per objective; shares of 1.
pub(super) fn importance(rows: &[String], panels: &[(String, Vec<f64>)]) -> Svg {
    const ROOM: f64 = 720.0;
    const TOP: f64 = 30.0;
    let tall = if rows.len() > 60 { 13.0 } else { 18.0 };
    let names: Vec<String> = rows.iter().map(|name| shortened(name, 36)).collect();
    let left = names.iter().map(|name| mono_width(name)).fold(60.0, f64::max) + 16.0;
    let wide = (ROOM / panels.len().max(1) as f64).min(400.0);
    let height = TOP + rows.len() as f64 * tall + 10.0;
    let mut svg =
        Svg::new(left + wide * panels.len().max(1) as f64 + 10.0, height, "Importance of each layer");
    for (row, name) in names.iter().enumerate() {
        svg.text("ink mono", (left - 8.0, TOP + (row as f64 + 0.5) * tall), Side::Right, name);
    }
    for (panel, (title, shares)) in panels.iter().enumerate() {
        let x = left + panel as f64 * wide;
        let most = shares.iter().copied().filter(|share| share.is_finite()).fold(0.0, f64::max).max(1e-9);
        // Room for the number behind the longest bar.
        let length = wide - 70.0;
        svg.text("ink small", (x, 12.0), Side::Left, &shortened(title, (wide / 7.0) as usize));
        svg.line("line", (x, TOP - 4.0), (x, height - 8.0));
        for (row, &share) in shares.iter().enumerate() {
            let y = TOP + row as f64 * tall;
            let size = (share / most * length, tall - 4.0);
            let about = format!("{}\n{title}: {}", rows.get(row).map_or("", String::as_str), percent(share));
            svg.rect(Fill::Class(&format!("f{}", panel % 7)), (x + 1.0, y + 2.0), size, &about);
            svg.text("faint small", (x + size.0.max(0.0) + 6.0, y + tall / 2.0), Side::Left, &percent(share));
        }
    }
    svg
}

/// One bar of all parts, with a key.
pub(super) fn times(parts: &[(&str, f64)]) -> Svg {
    const WIDTH: f64 = 1000.0;
    let total: f64 = parts.iter().map(|part| part.1).sum();
    let mut svg = Svg::new(WIDTH, 70.0, "Where the time went");
    if total <= 0.0 {
        svg.text("faint", (4.0, 14.0), Side::Left, "No times were taken.");
        svg.set_height(30.0);
        return svg;
    }
    let mut x = 4.0;
    let mut entries = Vec::new();
    for (i, &(name, value)) in parts.iter().enumerate().filter(|(_, part)| part.1 > 0.0) {
        let width = value / total * (WIDTH - 8.0);
        let text = format!("{name} {} ({})", seconds(value), percent(value / total));
        let class = format!("f{i}");
        svg.rect(Fill::Class(&class), (x, 4.0), (width - 1.0, 26.0), &text);
        if mono_width(name) < width - 10.0 {
            svg.text("ground small", (x + width / 2.0, 17.0), Side::Middle, name);
        }
        entries.push(Key { series: None, shape: Shape::Square, class, text });
        x += width;
    }
    let bottom = keys(&mut svg, &entries, (4.0, WIDTH), 40.0);
    svg.set_height(bottom);
    svg
}
