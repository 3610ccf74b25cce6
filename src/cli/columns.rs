//! Tables of text.

/// Rows with their cells in aligned columns, two spaces apart; those of `left` are flush left, all others, numbers
/// mostly, flush right.
pub(crate) fn aligned(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let wide: Vec<usize> = (0..columns)
        .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(wide[column] - cell.chars().count());
            line += &if left.contains(&column) { format!("{cell}{gap}  ") } else { format!("{gap}{cell}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
