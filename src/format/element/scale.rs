//! Scale codes of blocks.

use super::number::{ceil_log2, floor_log2};
use super::{Element, fixed, mxfp};

impl Element {
    /// Bits of a block's scale code: 8, or 0 for formats without one, whose scale code is 0 everywhere.
    pub fn scale_bits(self) -> u32 {
        match self {
            Self::Integer { .. }
            | Self::MinifloatDenorm { .. }
            | Self::MinifloatIeee { .. }
            | Self::Log { .. }
            | Self::Binary
            | Self::ResidualSign { .. } => 0,
            _ => 8,
        }
    }

    /// The scale code of a block whose largest magnitude is `max`. It does not decrease as `max` grows,
    /// except for [`Element::BlockMinifloat`], where it does not increase. Infinity and NaN give the code of
    /// a NaN block in the MX formats and the largest exponent elsewhere.
    ///
    /// The MASE block formats never see a `max` of 0: they put the smallest non-zero maximum of the tensor in
    /// its place, which is the caller's part. Here 0 gives the smallest exponent.
    pub fn scale_code(self, max: f32) -> u8 {
        match self {
            Self::BlockFp { exponent_width, exponent_bias, .. } => {
                fixed::block_fp_scale(max, exponent_width, exponent_bias)
            }
            Self::MxInt { .. } => fixed::mxint_scale(max),
            Self::MxIntHardware { exponent_width, .. } => fixed::hardware_scale(max, exponent_width),
            Self::BlockMinifloat { exponent_bias_width, .. } => {
                (255 - floor_log2(max).clamp(0, (1 << exponent_bias_width) - 1)) as u8
            }
            Self::BlockMinifloatCorrected { exponent_bias_width, .. } => {
                let half = 1 << (exponent_bias_width - 1);
                (floor_log2(max).clamp(-half, half - 1) + half) as u8
            }
            Self::BlockLog { width, exponent_bias_width } => {
                let bias = (1 << (width - 1)) - 1 - ceil_log2(max);
                (255 - bias.clamp(0, (1 << exponent_bias_width) - 1)) as u8
            }
            Self::MaseMxFp { exponent_width, .. } => mxfp::scale(max, exponent_width),
            Self::Ocp { element, scale, .. } => element.scale_code(max, scale),
            _ => 0,
        }
    }

    /// What [`Element::exponent`] subtracts from a scale code: `exponent = code - offset`, and 128 or more
    /// means NaN.
    pub fn exponent_offset(self) -> i32 {
        match self {
            Self::BlockFp { exponent_bias, .. } => exponent_bias,
            Self::MxInt { .. } | Self::MaseMxFp { .. } | Self::Ocp { .. } => 127,
            Self::MxIntHardware { exponent_width, .. } => 1 << (exponent_width - 1),
            // The exponent is minus the bias of the block, and that is stored as 255 - bias.
            Self::BlockMinifloat { .. } | Self::BlockLog { .. } => 255,
            Self::BlockMinifloatCorrected { exponent_width, exponent_bias_width, .. } => {
                (1 << (exponent_bias_width - 1)) + (1 << exponent_width) - 1
            }
            _ => 0,
        }
    }

    /// Decode exponent of a scale code; `None` for a NaN block. 0 for formats without a scale.
    pub fn exponent(self, scale_code: u8) -> Option<i32> {
        if self.scale_bits() == 0 {
            return Some(0);
        }
        let exponent = i32::from(scale_code) - self.exponent_offset();
        (exponent < 128).then_some(exponent)
    }
}
