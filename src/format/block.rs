//! What shares a power-of-two scale: MASE's block sizes, or runs of the flattened tensor.

use std::fmt;

use super::element::Element;
use crate::error::{Result, invalid};

/// Longest list of block dimensions.
const MAX_DIMENSIONS: usize = 3;

/// A block of weights or activations.
///
/// A list of dimensions is aligned to the right, as MASE does it: missing leading dimensions, and -1, mean the
/// whole dimension. So `[16]` on a weight `[out, in]` is `out x 16`, and 16 inputs of one row are `[1,16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// Nothing is shared.
    None,
    /// Dimensions, the last `len` of the array.
    Dims {
        /// Right-aligned; -1 is the whole dimension.
        dims: [i32; MAX_DIMENSIONS],
        /// How many are given, 1 to 3.
        len: u8,
    },
    /// So many elements of the flattened tensor.
    Flat(u32),
}

impl Block {
    /// Dimensions from outer to inner; more than three are cut to the last three.
    pub fn dims(list: &[i32]) -> Self {
        let list = &list[list.len().saturating_sub(MAX_DIMENSIONS)..];
        let mut dims = [-1; MAX_DIMENSIONS];
        dims[MAX_DIMENSIONS - list.len()..].copy_from_slice(list);
        Self::Dims { dims, len: list.len() as u8 }
    }

    /// The dimensions as they were given.
    pub fn list(&self) -> Vec<i32> {
        match self {
            Self::Dims { dims, len } => dims[MAX_DIMENSIONS - usize::from(*len)..].to_vec(),
            _ => Vec::new(),
        }
    }

    pub(super) fn flat(self) -> Option<usize> {
        match self {
            Self::Flat(group) => Some(group as usize),
            _ => None,
        }
    }

    /// Rows and columns of a tile on a matrix `[rows, cols]`; larger sizes are cut to the matrix.
    pub(super) fn tile(self, rows: usize, cols: usize) -> (usize, usize) {
        let fit = |dimension: i32, size: usize| match usize::try_from(dimension) {
            Ok(dimension @ 1..) => dimension.min(size),
            _ => size,
        };
        match self {
            Self::Dims { dims, .. } => (fit(dims[1], rows), fit(dims[2], cols)),
            _ => (rows, cols),
        }
    }

    pub(super) fn check(self, element: Element) -> Result<()> {
        match self {
            Self::Dims { dims, len } => {
                if !(1..=MAX_DIMENSIONS as u8).contains(&len) {
                    invalid!("block_size: want 1 to {MAX_DIMENSIONS} dimensions");
                }
                if let Some(bad) = dims.iter().find(|&&d| d == 0 || !(-1..=1 << 24).contains(&d)) {
                    invalid!(
                        "block_size: {bad}: want sizes from 1 to {}, or -1 for the whole dimension",
                        1 << 24
                    );
                }
            }
            Self::Flat(0) => invalid!("block = 0: want at least 1"),
            Self::Flat(_) => {}
            Self::None if element.scale_bits() > 0 => {
                invalid!("block_size is missing, e.g. block_size=[1,16]")
            }
            Self::None => {}
        }
        Ok(())
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Flat(group) => write!(f, "{group}"),
            Self::Dims { .. } => {
                let list: Vec<String> = self.list().iter().map(i32::to_string).collect();
                write!(f, "[{}]", list.join(","))
            }
        }
    }
}
