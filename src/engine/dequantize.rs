//! Whole-matrix dequantization on the device, bit for bit what the CPU decodes.

use std::sync::Arc;

use super::matmul;
use super::resident::DeviceMatrix;
use crate::error::Result;
use crate::format::Packed;
use crate::gpu::{Binder, Gpu};

/// Decodes packed matrices on a device.
pub struct Dequantizer {
    gpu: Arc<Gpu>,
}

impl Dequantizer {
    /// On `gpu`.
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self { gpu }
    }

    /// The f32 matrix `[rows, cols]` of `packed`.
    ///
    /// # Errors
    /// When the device is out of memory or lost.
    pub fn decode(&self, packed: &Packed) -> Result<Vec<f32>> {
        let matrix = DeviceMatrix::upload(&self.gpu, "packed matrix", packed)?;
        let stride = packed.cols.next_multiple_of(32);
        let mut values = Vec::with_capacity(packed.rows * packed.cols);
        for part in &matrix.parts {
            let scratch = self.gpu.buffer("dequantized weights", (part.rows * stride * 4) as u64)?;
            let mut binder = Binder::default();
            matmul::dequantize(&self.gpu, &mut binder, &matrix, part, &scratch)?;
            self.gpu.run(&[&binder.finish(&self.gpu)?])?;
            for row in self.gpu.read::<f32>(&scratch, part.rows * stride)?.chunks(stride) {
                values.extend_from_slice(&row[..packed.cols]);
            }
        }
        Ok(values)
    }
}
