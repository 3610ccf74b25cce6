//! Weights on the device: each (tensor, format) is uploaded once and kept.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Format, Packed};
use crate::gpu::{Buffer, Gpu};
use crate::graph::{WeightId, Weights};

/// Bytes past the end of a code stream that the decode of a last, partial chunk may read.
const SLACK: usize = 256;

/// A horizontal slice of a matrix that fits one binding.
#[derive(Clone)]
pub struct Part {
    /// First row of the matrix.
    pub first_row: usize,
    /// Rows in this part.
    pub rows: usize,
    /// Code words.
    pub codes: Buffer,
    /// Scale words.
    pub scales: Buffer,
}

/// A packed matrix on the device.
#[derive(Clone)]
pub struct DeviceMatrix {
    /// How it is packed.
    pub format: Format,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Slices in row order.
    pub parts: Vec<Part>,
    /// Words per row of codes.
    pub row_words: usize,
    /// Scales per row; 0 where one scale serves the whole matrix.
    pub groups_per_row: usize,
    /// Elements per scale.
    pub group: usize,
    /// Packed bytes, as in a file.
    pub bytes: usize,
}

impl DeviceMatrix {
    /// Uploads `packed`, split so that every part, and its f32 expansion, fits one binding.
    ///
    /// # Errors
    /// When a few rows alone exceed the binding limit, or the device is out of memory.
    pub fn upload(gpu: &Gpu, name: &str, packed: &Packed) -> Result<Self> {
        let layout = packed.format.layout(packed.rows, packed.cols)?;
        let align = packed.format.row_alignment(packed.cols).max(1);
        let code_bytes = (layout.code_words * 4).div_ceil(packed.rows);
        let row_bytes = code_bytes.max(packed.cols.next_multiple_of(32) * 4) as u64;
        let room = gpu.max_binding().saturating_sub(SLACK as u64);
        let fit = (room / row_bytes) as usize;
        let per_part = if fit >= packed.rows { packed.rows } else { fit / align * align };
        if per_part == 0 {
            return Err(Error::unavailable(format!(
                "{name}: {align} rows of {} weights need {} bytes in one binding, this device allows {}",
                packed.cols,
                row_bytes * align as u64,
                gpu.max_binding()
            )));
        }
        let mut parts = Vec::new();
        let mut first = 0;
        while first < packed.rows {
            let rows = per_part.min(packed.rows - first);
            let slice;
            let part = if rows == packed.rows {
                packed
            } else {
                slice = packed.slice_rows(first..first + rows);
                &slice
            };
            let codes = gpu.buffer(name, (part.codes.len() * 4 + SLACK) as u64)?;
            gpu.upload(&codes, bytemuck::cast_slice(&part.codes))?;
            let scales = gpu.buffer(name, (part.scales.len() * 4 + SLACK) as u64)?;
            gpu.upload(&scales, bytemuck::cast_slice(&part.scales))?;
            parts.push(Part { first_row: first, rows, codes, scales });
            first += rows;
        }
        Ok(Self {
            format: packed.format,
            rows: packed.rows,
            cols: packed.cols,
            parts,
            row_words: layout.row_words,
            groups_per_row: layout.groups_per_row,
            group: layout.group.max(1),
            bytes: packed.bytes(),
        })
    }
}

struct Entry {
    matrix: Arc<DeviceMatrix>,
    used: u64,
}

/// The weights of one model on one device.
pub struct Resident {
    gpu: Arc<Gpu>,
    budget: Option<u64>,
    matrices: HashMap<(WeightId, Format), Entry>,
    vectors: HashMap<WeightId, Buffer>,
    clock: u64,
    uploaded: u64,
    evictions: u64,
}

impl Resident {
    /// Nothing resident yet. `budget` bounds the packed bytes kept; `None` keeps everything.
    pub fn new(gpu: Arc<Gpu>, budget: Option<u64>) -> Self {
        Self {
            gpu,
            budget,
            matrices: HashMap::new(),
            vectors: HashMap::new(),
            clock: 0,
            uploaded: 0,
            evictions: 0,
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Weight bytes uploaded since creation.
    pub fn uploaded_bytes(&self) -> u64 {
        self.uploaded
    }

    /// Matrices dropped to stay within the budget.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Packed bytes resident.
    pub fn resident_bytes(&self) -> u64 {
        self.matrices.values().map(|e| e.matrix.bytes as u64).sum()
    }

    /// `weight` in `format`, uploaded from `source` at first use.
    ///
    /// # Errors
    /// When the source has no such data or the device is out of memory.
    pub fn matrix(
        &mut self,
        source: &dyn Weights,
        name: &str,
        weight: WeightId,
        format: Format,
    ) -> Result<Arc<DeviceMatrix>> {
        self.clock += 1;
        if let Some(entry) = self.matrices.get_mut(&(weight, format)) {
            entry.used = self.clock;
            return Ok(entry.matrix.clone());
        }
        let packed = source.packed(weight, format)?;
        self.make_room(packed.bytes() as u64);
        let matrix = Arc::new(DeviceMatrix::upload(&self.gpu, name, &packed)?);
        self.uploaded += matrix.bytes as u64;
        self.matrices.insert((weight, format), Entry { matrix: matrix.clone(), used: self.clock });
        Ok(matrix)
    }

    /// The vector `weight` in f32, padded with zeros to a multiple of four elements.
    ///
    /// # Errors
    /// As [`Resident::matrix`].
    pub fn vector(&mut self, source: &dyn Weights, name: &str, weight: WeightId) -> Result<Buffer> {
        if let Some(buffer) = self.vectors.get(&weight) {
            return Ok(buffer.clone());
        }
        let values = source.vector(weight)?;
        let buffer = self.gpu.buffer(name, (values.len() * 4) as u64)?;
        self.gpu.upload(&buffer, bytemuck::cast_slice(&values))?;
        self.uploaded += (values.len() * 4) as u64;
        self.vectors.insert(weight, buffer.clone());
        Ok(buffer)
    }

    /// Drops the least recently used matrices that no session holds until `incoming` bytes fit the budget.
    fn make_room(&mut self, incoming: u64) {
        let Some(budget) = self.budget else { return };
        let mut resident = self.resident_bytes();
        while resident + incoming > budget {
            let idle = self.matrices.iter().filter(|(_, e)| Arc::strong_count(&e.matrix) == 1);
            let Some(key) = idle.min_by_key(|(_, e)| e.used).map(|(key, _)| *key) else { return };
            if let Some(entry) = self.matrices.remove(&key) {
                resident -= entry.matrix.bytes as u64;
                self.evictions += 1;
            }
        }
    }
}
