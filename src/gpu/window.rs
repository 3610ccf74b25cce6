//! Uniform windows: a product over many rows of x split into dispatches whose rows lie in a uniform block each.
//!
//! A software driver reads storage by a loop over the invocations of a subgroup, a uniform block by a gather: two to
//! three times as fast. A uniform block shows 64 KiB, so the rows are divided among dispatches, each with the part of the
//! buffer that its rows lie in. A dispatch costs as much as thousands of loads, so that only what is read often, as wide
//! as f32, or in one window anyway, pays: x of float products of many rows, and of the GEMVs that have one.

use crate::shader::WINDOW_QUADS;

/// Bytes that a window shows.
pub(super) const WINDOW: u64 = WINDOW_QUADS as u64 * 16;
/// Alignment of offsets of uniform blocks that every WebGPU device accepts.
pub(super) const ALIGNMENT: u64 = 256;
/// Bytes past a row that a kernel may read: a chunk of f32.
const SLACK: u64 = 128;
/// Rows go to windows in multiples of this, twice the most rows a tile has.
const ROWS: u64 = 32;
/// More windows than this in one dispatch cost more than they save.
const MOST: u64 = 64;

/// Rows `first..end` of x, in its buffer from byte `offset` on.
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

/// The windows over `rows` rows of words `stride` apart; none where a window cannot show the `tile` rows of a tile, which
/// would be computed for nothing, or they are too many.
pub(super) fn split(rows: u32, tile: u32, stride: u32, buffer_bytes: u64) -> Option<Vec<Window>> {
    let row_bytes = u64::from(stride) * 4;
    let most = rows_in_window(row_bytes);
    // Windows of equal size, up to a multiple of the rows of a tile.
    let windows = u64::from(rows).div_ceil(most.max(1));
    let unit = most.min(ROWS);
    let share = u64::from(rows).div_ceil(windows.max(1)).next_multiple_of(unit.max(1));
    if most < u64::from(tile.max(1)) || windows > MOST || buffer_bytes < WINDOW {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_row_once_and_show_all_of_it() {
        for rows in [1u32, 7, 8, 31, 33, 768, 1000] {
            for stride in [4u32, 36, 100, 192, 512, 1024, 1500, 2000] {
                let row_bytes = u64::from(stride) * 4;
                let bytes = (u64::from(rows) * row_bytes).max(WINDOW).next_multiple_of(ALIGNMENT);
                let Some(windows) = split(rows, 8, stride, bytes) else {
                    let most = rows_in_window(row_bytes);
                    assert!(most < 8 || u64::from(rows).div_ceil(most) > MOST, "{rows} rows of {stride}");
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
        assert_eq!(split(8, 1, 4096, 1 << 20).map(|windows| windows.len()), Some(2));
        assert_eq!(split(8, 8, 4096, 1 << 20), None);
        assert_eq!(split(8, 1, 20_000, 1 << 20), None);
        assert_eq!(split(8, 8, 64, WINDOW - 256), None);
    }
}
