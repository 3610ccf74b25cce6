//! Pruning masks of MASE.

use super::statistics::quantile;
use crate::error::{Result, invalid};

/// `l1`: keeps what is larger in magnitude than the quantile `sparsity` of the magnitudes, strictly; a
/// sparsity of 0 therefore still prunes the minimum, and a constant tensor is pruned altogether.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a sparsity outside 0..=1 and an empty tensor.
pub fn prune_l1(x: &[f32], sparsity: f32) -> Result<Vec<bool>> {
    prune_global_l1(x, &[x], sparsity)
}

/// `global_weight_l1`: as [`prune_l1`], with the quantile taken over the magnitudes of `all` tensors
/// together.
///
/// # Errors
/// As [`prune_l1`].
pub fn prune_global_l1(x: &[f32], all: &[&[f32]], sparsity: f32) -> Result<Vec<bool>> {
    if !(0.0..=1.0).contains(&sparsity) {
        invalid!("sparsity = {sparsity}: want 0 to 1");
    }
    let mut magnitudes: Vec<f32> = all.iter().copied().flatten().map(|x| x.abs()).collect();
    if magnitudes.is_empty() {
        invalid!("sparsity of a tensor without values: want at least one");
    }
    let threshold = quantile(&mut magnitudes, sparsity);
    Ok(x.iter().map(|x| x.abs() > threshold).collect())
}
