//! Uniform windows: a dispatch over many rows split into dispatches whose operands lie in a uniform block each.
//!
//! A software driver reads storage by a loop over the invocations of a subgroup, a uniform block by a gather: several
//! times as fast, which is most of the time of a kernel there. A uniform block shows 64 KiB, so the rows of an operand
//! are divided among dispatches, each with the part of the buffer that its rows lie in.

use super::buffer::Buffer;
use crate::shader::{WINDOW_QUADS, Windowed};

/// Bytes that a window shows.
pub(super) const WINDOW: u64 = WINDOW_QUADS as u64 * 16;
/// Alignment of offsets of uniform blocks that every WebGPU device accepts.
pub(super) const ALIGNMENT: u64 = 256;
/// Bytes past a row that a kernel may read: a chunk of f32.
const SLACK: u64 = 128;
/// Rows go to windows in multiples of this, the most rows a tile has in either direction.
const ROWS: u64 = 32;
/// More windows than this in one dispatch cost more than they save.
const MOST: u64 = 64;

/// Rows `first..end` of an operand, in its buffer from byte `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) offset: u64,
}

/// How many rows of `row_bytes` a window shows, in multiples of 32, or of 16 or 8 where they are long.
fn rows_in_window(row_bytes: u64) -> u64 {
    // Rows that begin where a window can, and end where a chunk does, fill it.
    let loss = if row_bytes.is_multiple_of(ALIGNMENT) { 0 } else { ALIGNMENT + SLACK };
    let rows = (WINDOW - loss) / row_bytes.max(1);
    match rows {
        ROWS.. => rows / ROWS * ROWS,
        16.. => 16,
        8.. => 8,
        few => few,
    }
}

/// The windows over `rows` rows of words `stride` apart, at most `most` rows each; none where a window cannot show
/// enough of them or they are too many.
fn split(rows: u32, most: u64, stride: u32, buffer_bytes: u64) -> Option<Vec<Window>> {
    let row_bytes = u64::from(stride) * 4;
    // Windows of equal size, up to a multiple of the rows of a tile.
    let windows = u64::from(rows).div_ceil(most.max(1));
    let unit = most.min(ROWS);
    let share = u64::from(rows).div_ceil(windows.max(1)).next_multiple_of(unit.max(1));
    if most == 0 || windows > MOST || buffer_bytes < WINDOW {
        return None;
    }
    let last = (buffer_bytes - WINDOW) / ALIGNMENT * ALIGNMENT;
    let firsts = (0..u64::from(rows)).step_by(share as usize);
    Some(
        firsts
            .map(|first| Window {
                first: first as u32,
                end: (first + share).min(rows.into()) as u32,
                offset: (first * row_bytes / ALIGNMENT * ALIGNMENT).min(last),
            })
            .collect(),
    )
}

/// What a dispatch needs to be split.
pub(super) struct Operand<'a> {
    pub(super) windowed: &'a Windowed,
    pub(super) buffer: &'a Buffer,
    pub(super) rows: u32,
    pub(super) stride: u32,
}

/// One dispatch of several: rows of every axis, and the offset of every operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// `(parameter of the end, parameter of the first, first, end)`
    pub(super) ranges: Vec<(&'static str, &'static str, u32, u32)>,
    /// `(binding, parameter, offset)`, bytes
    pub(super) offsets: Vec<(&'static str, &'static str, u64)>,
}

/// Splits a dispatch by its operands; those that do not fit are left out, and nothing is left where none does.
/// `least` are the rows that a tile of a parameter has: windows of fewer would compute rows for nothing.
pub(super) fn pieces(operands: &[Operand], least: impl Fn(&str) -> u64) -> Vec<Piece> {
    let mut axes: Vec<(&'static str, Vec<&Operand>)> = Vec::new();
    for operand in operands {
        match axes.iter_mut().find(|(rows, _)| *rows == operand.windowed.rows) {
            Some((_, sharing)) => sharing.push(operand),
            None => axes.push((operand.windowed.rows, vec![operand])),
        }
    }
    let mut pieces = vec![Piece { ranges: Vec::new(), offsets: Vec::new() }];
    for (name, sharing) in axes {
        let of = |operand: &&Operand| rows_in_window(u64::from(operand.stride) * 4);
        let most = sharing.iter().map(of).min().unwrap_or(0);
        if most < least(name) {
            continue;
        }
        let splits: Option<Vec<_>> = sharing
            .iter()
            .map(|operand| {
                split(operand.rows, most, operand.stride, operand.buffer.raw().map_or(0, wgpu::Buffer::size))
            })
            .collect();
        let Some(splits) = splits else { continue };
        let mut next = Vec::new();
        for piece in &pieces {
            for at in 0..splits.first().map_or(0, Vec::len) {
                let mut piece = piece.clone();
                for (operand, windows) in sharing.iter().zip(&splits) {
                    let Window { first, end, offset } = windows[at];
                    if piece.ranges.iter().all(|(rows, ..)| *rows != name) {
                        piece.ranges.push((name, operand.windowed.first, first, end));
                    }
                    piece.offsets.push((operand.windowed.name, operand.windowed.base, offset));
                }
                next.push(piece);
            }
        }
        if next.len() as u64 <= MOST {
            pieces = next;
        }
    }
    pieces.retain(|piece| !piece.offsets.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_row_once_and_show_all_of_it() {
        for rows in [1u32, 7, 8, 31, 33, 768, 1000] {
            for stride in [4u32, 36, 100, 192, 512, 1024, 1500, 2000] {
                let row_bytes = u64::from(stride) * 4;
                let most = rows_in_window(row_bytes);
                let bytes = (u64::from(rows) * row_bytes).max(WINDOW).next_multiple_of(ALIGNMENT);
                let Some(windows) = split(rows, most, stride, bytes) else {
                    assert!(most == 0 || u64::from(rows).div_ceil(most) > MOST, "{rows} rows of {stride}");
                    continue;
                };
                let mut next = 0;
                for window in windows {
                    assert_eq!(window.first, next);
                    assert!(window.end > window.first && window.offset.is_multiple_of(ALIGNMENT));
                    assert!(window.offset <= u64::from(window.first) * row_bytes);
                    assert!(
                        u64::from(window.end) * row_bytes <= window.offset + WINDOW,
                        "{rows} rows of {stride}"
                    );
                    assert!(window.offset + WINDOW <= bytes);
                    next = window.end;
                }
                assert_eq!(next, rows);
            }
        }
        // A window may show a few long rows; one that is longer than a window it does not.
        assert_eq!(split(8, rows_in_window(4096 * 4), 4096, 1 << 20).map(|windows| windows.len()), Some(2));
        assert_eq!(split(8, rows_in_window(20_000 * 4), 20_000, 1 << 20), None);
        assert_eq!(split(8, 32, 64, WINDOW - 256), None);
    }
}
