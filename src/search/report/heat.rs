//! Heat maps: a colored cell per row and column.

use super::palette::heat;
use super::svg::{Fill, Side, Svg, mono_width};
use super::text::shortened;

/// Longest labels of rows and columns, in characters.
const LONGEST_ROW: usize = 36;
const LONGEST_COLUMN: usize = 30;
/// Columns' labels lean by so many degrees.
const LEAN: f64 = 55.0;
/// Room for all cells of a row, in pixels, unless they would become too narrow.
const ROOM: f64 = 720.0;

/// What a heat map shows.
pub(super) struct HeatMap {
    pub(super) label: String,
    /// Short names of the rows, with what is said about them.
    pub(super) rows: Vec<(String, String)>,
    /// The same of the columns.
    pub(super) columns: Vec<(String, String)>,
    /// `[row][column]`; `None` is blank.
    pub(super) cells: Vec<Vec<Option<Cell>>>,
    pub(super) bar: Bar,
}

/// A cell.
pub(super) struct Cell {
    /// Place on the color map, 0 to 1.
    pub(super) share: f64,
    /// Written into the cell where there is room.
    pub(super) text: String,
    pub(super) tip: String,
}

/// The key of the colors.
pub(super) struct Bar {
    pub(super) title: String,
    /// Places from 0 to 1 and their texts.
    pub(super) marks: Vec<(f64, String)>,
}

impl HeatMap {
    /// The drawing, and whether it is too wide to be shrunk to a page.
    pub(super) fn draw(&self) -> (Svg, bool) {
        let (rows, columns) = (self.rows.len(), self.columns.len().max(1));
        let tall: f64 = match rows {
            0..=40 => 20.0,
            41..=90 => 15.0,
            _ => 12.0,
        };
        let wide = (ROOM / columns as f64).clamp(14.0, 64.0);
        let short = |names: &[(String, String)], longest: usize| -> Vec<String> {
            names.iter().map(|name| shortened(&name.0, longest)).collect()
        };
        let (row_names, column_names) =
            (short(&self.rows, LONGEST_ROW), short(&self.columns, LONGEST_COLUMN));
        let widest = |names: &[String]| names.iter().map(|name| mono_width(name)).fold(0.0, f64::max);
        let lean = LEAN.to_radians();
        let left = widest(&row_names).max(60.0) + 16.0;
        // Labels that fit above their cells stand upright.
        let upright = widest(&column_names) <= wide - 4.0;
        let head = if upright { 16.0 } else { widest(&column_names) * lean.sin() + 14.0 };
        let top = 40.0 + head;
        let over = if upright { 0.0 } else { widest(&column_names) * lean.cos() };
        let width = (left + columns as f64 * wide + over.max(12.0) + 8.0).max(left + 330.0);
        let height = top + rows as f64 * tall + 10.0;
        let mut svg = Svg::new(width, height, &self.label);
        self.draw_bar(&mut svg, left);
        for (column, name) in column_names.iter().enumerate() {
            let x = left + (column as f64 + 0.5) * wide;
            match upright {
                true => svg.text("ink mono", (x, top - 8.0), Side::Middle, name),
                false => svg.turned("ink mono", (x, top - 6.0), Side::Left, -LEAN, name),
            }
        }
        for (row, name) in row_names.iter().enumerate() {
            let y = top + row as f64 * tall;
            svg.text("ink mono", (left - 8.0, y + tall / 2.0), Side::Right, name);
            for column in 0..self.columns.len() {
                let x = left + column as f64 * wide;
                let (at, size) = ((x + 0.5, y + 0.5), (wide - 1.0, tall - 1.0));
                let cell = self.cells.get(row).and_then(|cells| cells.get(column)).and_then(Option::as_ref);
                let about = format!("{}\n{}", self.rows[row].1, self.columns[column].1);
                match cell {
                    None => svg.rect(Fill::Class("missing"), at, size, &format!("{about}\nno trial")),
                    Some(cell) => {
                        let (color, dark) = heat(cell.share);
                        svg.rect(Fill::Color(&color), at, size, &format!("{about}\n{}", cell.tip));
                        let fits = mono_width(&cell.text) <= wide - 4.0 && tall >= 14.0;
                        if fits && !cell.text.is_empty() {
                            svg.cell_text(dark, (x + wide / 2.0, y + tall / 2.0), &cell.text);
                        }
                    }
                }
            }
        }
        (svg, width > 1120.0)
    }

    fn draw_bar(&self, svg: &mut Svg, left: f64) {
        const STEPS: usize = 60;
        const LENGTH: f64 = 300.0;
        svg.text("faint small", (left, 8.0), Side::Left, &self.bar.title);
        for step in 0..STEPS {
            let (color, _) = heat((step as f64 + 0.5) / STEPS as f64);
            let x = left + step as f64 / STEPS as f64 * LENGTH;
            svg.rect(Fill::Color(&color), (x, 17.0), (LENGTH / STEPS as f64 + 0.3, 9.0), "");
        }
        let mut free = f64::NEG_INFINITY;
        for (share, text) in &self.bar.marks {
            let (x, half) = (left + share.clamp(0.0, 1.0) * LENGTH, mono_width(text) / 2.0);
            if x - half > free {
                let side = if *share <= 0.0 { Side::Left } else { Side::Middle };
                svg.text("faint small", (x, 34.0), side, text);
                free = x + if side == Side::Left { 2.0 * half } else { half } + 4.0;
            }
        }
    }
}
