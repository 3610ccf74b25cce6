//! Weights on the device: each (tensor, format) is uploaded once and kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::rounding::{Rounding, RoundingKey};
use crate::error::{Error, Result};
use crate::format::{ActivationFormat, Format, Layout, Packed, Scale};
use crate::gpu::{Buffer, Gpu};
use crate::graph::{WeightId, Weights};
use crate::shader::FormatVariant;

/// Bytes past the end of a code stream that the decode of a last, partial chunk may read.
const SLACK: usize = 256;
/// Rounding tables kept, of up to half a megabyte each; those that sessions hold do not count.
const MAX_ROUNDINGS: usize = 64;

/// A horizontal slice of a matrix that fits one binding.
#[derive(Clone)]
pub struct Part {
    /// First row of the matrix.
    pub first_row: usize,
    /// Rows in this part.
    pub rows: usize,
    /// Code words; texels where the variant says so.
    pub codes: Buffer,
    /// Table of values (for codebooks), scale words, exceptions.
    pub scales: Buffer,
    /// How many exceptions there are, and the word where they begin.
    pub patches: (usize, usize),
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
    /// The pipelines that read it.
    pub variant: FormatVariant,
    /// Words per row of codes on the device.
    pub row_words: usize,
    /// Sizes of the packed matrix.
    pub layout: Layout,
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
        let variant = FormatVariant::new(&layout, packed.cols, !packed.exceptions.is_empty());
        let wide = packed.format.is_wide();
        let row_words = if wide { packed.cols.next_multiple_of(32) } else { layout.row_words };
        let align = packed.format.row_alignment(packed.rows, packed.cols).max(1);
        let code_bytes = (layout.code_words * 4).div_ceil(packed.rows);
        let row_bytes = code_bytes.max(packed.cols.next_multiple_of(32) * 4) as u64;
        let variant = if gpu.keeps_texels() { variant.with_texels() } else { variant };
        let texels = variant.has_texels();
        let most = if texels { gpu.max_binding().min(Gpu::MAX_TEXELS) } else { gpu.max_binding() };
        let room = most.saturating_sub(SLACK as u64);
        let fit = (room / row_bytes) as usize;
        let per_part = if fit >= packed.rows { packed.rows } else { fit / align * align };
        if per_part == 0 {
            return Err(Error::unavailable(format!(
                "{name}: {align} rows of {} weights need {} bytes in one binding, this device allows {}",
                packed.cols,
                row_bytes * align as u64,
                most
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
            let upload = |words: &[u32]| {
                let buffer = gpu.buffer(name, (size_of_val(words) + SLACK) as u64)?;
                gpu.upload(&buffer, bytemuck::cast_slice(words))?;
                Ok::<_, Error>(buffer)
            };
            let codes = |words: &[u32]| match texels {
                true => gpu.texels(name, words, (size_of_val(words) + SLACK) as u64),
                false => upload(words),
            };
            let (codes, scales, patches) = match wide {
                true => (codes(&dense_words(part))?, upload(&[])?, (0, 0)),
                false => {
                    let (words, patch_at) = scale_words(part);
                    (codes(&part.codes)?, upload(&words)?, (part.exceptions.len(), patch_at))
                }
            };
            parts.push(Part { first_row: first, rows, codes, scales, patches });
            first += rows;
        }
        Ok(Self {
            format: packed.format,
            rows: packed.rows,
            cols: packed.cols,
            parts,
            variant,
            row_words,
            layout,
            bytes: packed.bytes(),
        })
    }

    /// Parameters of kernels that read a part of the packed matrix; `y` and `x` aside.
    pub fn params(&self, part: &Part) -> Vec<(&'static str, u32)> {
        let (offset, fraction) = match self.layout.scheme.scale {
            Scale::Exponent { offset, fraction } => (i32::from(offset), i32::from(fraction)),
            _ => (0, 0),
        };
        let fixed = match self.layout.scheme.scale {
            // The scheme keeps the fraction in the range where this is a normal number.
            Scale::Fixed(fraction) => f32::to_bits(f32::powi(2.0, -i32::from(fraction))),
            _ => 0,
        };
        vec![
            ("rows", part.rows as u32),
            ("cols", self.cols as u32),
            ("row_words", self.row_words as u32),
            ("groups_per_row", self.layout.groups_per_row as u32),
            ("group", u32::try_from(self.layout.group.max(1)).unwrap_or(u32::MAX)),
            ("group_rows", u32::try_from(self.layout.group_rows.max(1)).unwrap_or(u32::MAX)),
            ("offset", offset as u32),
            ("fraction", fraction as u32),
            ("fixed", fixed),
            ("patches", part.patches.0 as u32),
            ("patch_at", part.patches.1 as u32),
        ]
    }

    /// Parameters of kernels that read an f32 copy of a part with `stride` words per row.
    pub fn dense_params(&self, part: &Part, stride: usize) -> Vec<(&'static str, u32)> {
        vec![
            ("rows", part.rows as u32),
            ("cols", self.cols as u32),
            ("row_words", stride as u32),
            ("groups_per_row", 0),
            ("group", 1),
            ("group_rows", 1),
            ("offset", 0),
            ("fraction", 0),
            ("fixed", 0),
            ("patches", 0),
            ("patch_at", 0),
        ]
    }
}

/// What the device reads as `scales`: table, scales, exceptions; and the word where the exceptions begin.
fn scale_words(part: &Packed) -> (Vec<u32>, usize) {
    let mut words: Vec<u32> = part.format.table().into_iter().map(f32::to_bits).collect();
    words.extend(&part.scales);
    let patch_at = words.len();
    if !part.exceptions.is_empty() {
        let coded = Packed { exceptions: Vec::new(), ..part.clone() };
        let mut row = vec![0.0; part.cols];
        let mut decoded = None;
        for e in &part.exceptions {
            if decoded != Some(e.row) {
                coded.decode_row(e.row as usize, &mut row);
                decoded = Some(e.row);
            }
            let difference = f32::from_bits(e.bits) - row[e.col as usize];
            words.extend([e.row, e.col, e.bits, difference.to_bits()]);
        }
    }
    (words, patch_at)
}

/// The values of a matrix that runs from f32 storage, rows padded with zeros to whole chunks.
fn dense_words(part: &Packed) -> Vec<u32> {
    let stride = part.cols.next_multiple_of(32);
    let mut words = vec![0; part.rows * stride];
    for (to, from) in words.chunks_mut(stride).zip(part.decode().chunks(part.cols)) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_bits());
    }
    words
}

struct Entry {
    matrix: Arc<DeviceMatrix>,
    used: u64,
}

/// The weights of one model on one device.
pub struct Resident {
    gpu: Arc<Gpu>,
    budget: Option<u64>,
    stacks: bool,
    /// By what is stacked in them: one weight, or several of one format.
    matrices: HashMap<(Vec<WeightId>, Format), Entry>,
    /// Vectors, as they are or (biases) in the format of a spec, one or several joined.
    vectors: HashMap<(Vec<WeightId>, Option<Format>), Buffer>,
    /// Tables of activation formats.
    roundings: HashMap<RoundingKey, Arc<Rounding>>,
    /// Every variant that was ever resident.
    seen: HashSet<(Vec<WeightId>, Format)>,
    clock: u64,
    uploaded: u64,
    reloaded: u64,
    evictions: u64,
}

impl Resident {
    /// Nothing resident yet. `budget` bounds the packed bytes kept; `None` keeps everything.
    pub fn new(gpu: Arc<Gpu>, budget: Option<u64>) -> Self {
        Self {
            gpu,
            budget,
            stacks: false,
            matrices: HashMap::new(),
            vectors: HashMap::new(),
            roundings: HashMap::new(),
            seen: HashSet::new(),
            clock: 0,
            uploaded: 0,
            reloaded: 0,
            evictions: 0,
        }
    }

    /// Lets sessions keep matrices that they multiply together, q, k and v of an attention, as one: for programs that run
    /// one assignment. A session of another mix then uploads again what it needs by itself.
    #[must_use]
    pub fn with_stacks(self) -> Self {
        Self { stacks: true, ..self }
    }

    /// Whether sessions keep matrices that they multiply together as one.
    pub fn has_stacks(&self) -> bool {
        self.stacks
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Weight bytes uploaded since creation.
    pub fn uploaded_bytes(&self) -> u64 {
        self.uploaded
    }

    /// Weight bytes uploaded again after an eviction.
    pub fn reloaded_bytes(&self) -> u64 {
        self.reloaded
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
        self.stack(source, name, &[weight], format)
    }

    /// The rows of `weights` as one matrix in `format`, uploaded from `source` at first use. It is resident besides those of
    /// its weights.
    ///
    /// # Errors
    /// As [`Resident::matrix`], and when several weights do not stack ([`Packed::stack`]).
    pub fn stack(
        &mut self,
        source: &dyn Weights,
        name: &str,
        weights: &[WeightId],
        format: Format,
    ) -> Result<Arc<DeviceMatrix>> {
        self.clock += 1;
        let key = (weights.to_vec(), format);
        if let Some(entry) = self.matrices.get_mut(&key) {
            entry.used = self.clock;
            return Ok(entry.matrix.clone());
        }
        let packed = match weights {
            &[weight] => source.packed(weight, format)?,
            _ => {
                let parts = weights.iter().map(|&weight| source.packed(weight, format));
                Packed::stack(&parts.collect::<Result<Vec<_>>>()?)?
            }
        };
        self.make_room(packed.bytes() as u64);
        let matrix = Arc::new(DeviceMatrix::upload(&self.gpu, name, &packed)?);
        self.uploaded += matrix.bytes as u64;
        if !self.seen.insert(key.clone()) {
            self.reloaded += matrix.bytes as u64;
        }
        self.matrices.insert(key, Entry { matrix: matrix.clone(), used: self.clock });
        Ok(matrix)
    }

    /// The vector `weight` in f32, holding what `format` makes of it where one is given.
    ///
    /// # Errors
    /// As [`Resident::matrix`], and when the format cannot hold the values.
    pub fn vector(
        &mut self,
        source: &dyn Weights,
        name: &str,
        weight: WeightId,
        format: Option<Format>,
    ) -> Result<Buffer> {
        self.vectors(source, name, &[weight], format)
    }

    /// The vectors `weights` one after another, as [`Resident::vector`] has each.
    ///
    /// # Errors
    /// As [`Resident::vector`].
    pub fn vectors(
        &mut self,
        source: &dyn Weights,
        name: &str,
        weights: &[WeightId],
        format: Option<Format>,
    ) -> Result<Buffer> {
        let key = (weights.to_vec(), format);
        if let Some(buffer) = self.vectors.get(&key) {
            return Ok(buffer.clone());
        }
        let mut values = Vec::new();
        for &weight in weights {
            let vector = source.vector(weight)?;
            let Some(format) = format else {
                values.extend(vector);
                continue;
            };
            let packed = format.encode(&vector, 1, vector.len());
            values.extend(packed.map_err(|error| Error::Invalid(format!("{name}: {error}")))?.decode());
        }
        let buffer = self.gpu.buffer(name, (values.len() * 4) as u64)?;
        self.gpu.upload(&buffer, bytemuck::cast_slice(&values))?;
        self.uploaded += (values.len() * 4) as u64;
        self.vectors.insert(key, buffer.clone());
        Ok(buffer)
    }

    /// The table that rounds activations to values or codes of `format`, computed at first use; `None` for formats that
    /// need none.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn rounding(&mut self, format: ActivationFormat, codes: bool) -> Result<Option<Arc<Rounding>>> {
        let Some(key) = RoundingKey::new(format, codes) else { return Ok(None) };
        if let Some(rounding) = self.roundings.get(&key) {
            return Ok(Some(rounding.clone()));
        }
        if self.roundings.len() >= MAX_ROUNDINGS {
            self.roundings.retain(|_, rounding| Arc::strong_count(rounding) > 1);
        }
        let rounding = Arc::new(key.upload(&self.gpu)?);
        self.roundings.insert(key, rounding.clone());
        Ok(Some(rounding))
    }

    /// Whether `weight` is resident in `format`.
    pub fn has(&self, weight: WeightId, format: Format) -> bool {
        self.matrices.contains_key(&(vec![weight], format))
    }

    /// Most packed bytes kept.
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// Drops `weight` in `format`; its memory is free once no session holds it.
    pub fn evict(&mut self, weight: WeightId, format: Format) {
        if self.matrices.remove(&(vec![weight], format)).is_some() {
            self.evictions += 1;
        }
    }

    /// Drops `weight` in `format` as something that is not wanted again; no eviction.
    pub fn release(&mut self, weight: WeightId, format: Format) {
        let key = (vec![weight], format);
        self.matrices.remove(&key);
        self.seen.remove(&key);
    }

    /// Drops the least recently used matrices that no session holds until `incoming` bytes fit the budget.
    fn make_room(&mut self, incoming: u64) {
        let Some(budget) = self.budget else { return };
        let mut resident = self.resident_bytes();
        while resident + incoming > budget {
            let idle = self.matrices.iter().filter(|(_, e)| Arc::strong_count(&e.matrix) == 1);
            let Some(key) = idle.min_by_key(|(_, e)| e.used).map(|(key, _)| key.clone()) else { return };
            if let Some(entry) = self.matrices.remove(&key) {
                resident -= entry.matrix.bytes as u64;
                self.evictions += 1;
            }
        }
    }
}
