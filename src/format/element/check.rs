//! Ranges of the parameters.

use super::Element;
use crate::error::{Result, invalid};

impl Element {
    /// Checks the parameters. The other functions expect parameters that pass; with others they return
    /// arbitrary values.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) names the parameter, its value and its range.
    pub fn check(self) -> Result<()> {
        let within = |what: &str, got: i32, low: i32, high: i32| {
            if !(low..=high).contains(&got) {
                invalid!("{what} = {got}: want {low} to {high}");
            }
            Ok(())
        };
        let width = |got: u8, low: u8, high: u8| within("width", got.into(), low.into(), high.into());
        let exponent_width = |got: u8| within("exponent_width", got.into(), 1, 8);
        // The smallest magnitude is within f32, also times 2 * 255 as crossed clamp bounds have it, and the
        // largest power of two is: beyond, the originals make 0 NaN.
        let bias = |got: i32, bits: u32| within("exponent_bias", got, -118, (1 << bits) + 148);
        let bias_width = |got: u8| within("exponent_bias_width", got.into(), 1, 8);
        match self {
            Self::Integer { width: w, frac_width, .. } => {
                width(w, 1, 32)?;
                within("frac_width", frac_width.into(), -126, 126)
            }
            Self::MinifloatDenorm { width: w, exponent_width: ew, exponent_bias }
            | Self::MinifloatIeee { width: w, exponent_width: ew, exponent_bias } => {
                width(w, 1, 32)?;
                exponent_width(ew)?;
                bias(exponent_bias, ew.into())
            }
            Self::Log { width: w, exponent_bias } => {
                width(w, 2, 16)?;
                bias(exponent_bias, u32::from(w) - 1)
            }
            Self::Binary | Self::Ocp { .. } => Ok(()),
            Self::ResidualSign { levels } => within("levels", levels.into(), 1, 8),
            Self::BlockFp { width: w, exponent_width: ew, exponent_bias } => {
                width(w, 2, 32)?;
                exponent_width(ew)?;
                bias(exponent_bias, ew.into())
            }
            Self::BlockMinifloat { width: w, exponent_width: ew, exponent_bias_width } => {
                width(w, 1, 32)?;
                exponent_width(ew)?;
                bias_width(exponent_bias_width)
            }
            Self::BlockMinifloatCorrected { width: w, exponent_width: ew, exponent_bias_width } => {
                exponent_width(ew)?;
                width(w, ew + 1, 32)?;
                bias_width(exponent_bias_width)
            }
            Self::BlockLog { width: w, exponent_bias_width } => {
                width(w, 2, 16)?;
                bias_width(exponent_bias_width)
            }
            Self::MxInt { width: w } => width(w, 2, 16),
            Self::MxIntHardware { width: w, exponent_width: ew } => {
                width(w, 2, 32)?;
                exponent_width(ew)
            }
            Self::MaseMxFp { exponent_width: ew, fraction_width } => {
                within("exponent_width", ew.into(), 1, 6)?;
                within("fraction_width", fraction_width.into(), 1, 7 - i32::from(ew))
            }
        }
    }
}
