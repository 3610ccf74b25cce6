//! What is benchmarked, and on which sizes.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result, closest_names, invalid};

/// Largest size of a shape; products of two still fit 64 bits with room.
const MAX_SIZE: usize = 1 << 24;

/// A kind of kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `y = x W^T` of few rows of x.
    Gemv,
    /// `y = x W^T` of many rows of x.
    Gemm,
    /// The same on integer codes of x and W, with the rounding of x.
    GemmInt,
    /// W to f32.
    Dequant,
    /// Attention of M queries over N positions in heads of K elements.
    Attention,
    /// RMSNorm of M rows of K elements.
    Norm,
    /// Rounding of M rows of K activations.
    Quantize,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 7] =
        [Op::Gemv, Op::Gemm, Op::GemmInt, Op::Dequant, Op::Attention, Op::Norm, Op::Quantize];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemv => "gemv",
            Self::Gemm => "gemm",
            Self::GemmInt => "gemm-int",
            Self::Dequant => "dequant",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::Quantize => "quantize",
        }
    }

    /// Whether it depends on a format.
    pub fn has_format(self) -> bool {
        !matches!(self, Self::Attention | Self::Norm)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Op {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|op| op.name() == text) {
            Some(op) => Ok(op),
            None => {
                let names = || Self::ALL.into_iter().map(Self::name);
                let near = closest_names(text, names(), 1).join("");
                let all = names().collect::<Vec<_>>().join(", ");
                invalid!("no op is called `{text}`; want one of {all} (nearest: {near})");
            }
        }
    }
}

/// M rows of x, N rows and K columns of W; [`Op`] says what they are elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Shape {
    /// Rows of x and y.
    pub m: usize,
    /// Columns of y.
    pub n: usize,
    /// Columns of x.
    pub k: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}x{}", self.m, self.n, self.k))
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('x').collect();
        let &[m, n, k] = parts.as_slice() else {
            invalid!("shape `{text}` has {} sizes; want three, MxNxK, such as 4x4096x4096", parts.len());
        };
        let size = |name: &str, part: &str| -> Result<usize> {
            match part.parse::<usize>() {
                Ok(size @ 1..=MAX_SIZE) => Ok(size),
                _ => invalid!("shape `{text}`: {name} is `{part}`; want a whole number from 1 to {MAX_SIZE}"),
            }
        };
        Ok(Self { m: size("M", m)?, n: size("N", n)?, k: size("K", k)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_three_sizes_from_one() {
        assert_eq!("1x4096x14336".parse::<Shape>().unwrap(), Shape { m: 1, n: 4096, k: 14336 });
        for (wrong, says) in [
            ("0x4x4", "M is `0`"),
            ("4x4", "has 2 sizes"),
            ("", "has 1 sizes"),
            ("4x4x4x4", "has 4 sizes"),
            ("4x-1x4", "N is `-1`"),
            ("4x4x", "K is ``"),
            ("4x4x99999999999999999999", "K is"),
            ("4x4x16777217", "1 to 16777216"),
        ] {
            let error = wrong.parse::<Shape>().unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn ops_are_parsed_by_name() {
        for op in Op::ALL {
            assert_eq!(op.name().parse::<Op>().unwrap(), op);
        }
        let error = "gem".parse::<Op>().unwrap_err().to_string();
        assert!(error.contains("`gem`") && error.contains("gemm-int") && error.contains("nearest: gem"));
    }
}
