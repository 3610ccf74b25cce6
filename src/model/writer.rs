//! Writing safetensors files tensor by tensor, in any order.
//!
//! The `safetensors` crate wants all tensors at hand and writes metadata in random order; here the
//! header is known before the first tensor is encoded, one tensor is in memory at a time, and the same
//! input gives the same bytes.

use super::atomic::AtomicFile;
use super::checkpoint::{Dtype, MAX_HEADER};
use crate::error::{Result, invalid};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Name, unique in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl Planned {
    fn byte_len(&self) -> Option<usize> {
        let bits = self.shape.iter().try_fold(self.dtype.bitsize(), |bits, &size| bits.checked_mul(size))?;
        Some(bits / 8)
    }
}

/// Where a planned tensor goes.
#[derive(Clone, Debug, Default)]
struct Slot {
    name: String,
    /// Position in the file.
    offset: u64,
    /// Bytes, and how many of them have been written.
    len: usize,
    written: usize,
}

/// A safetensors file under construction; it appears at its path in [`Writer::finish`], complete.
#[derive(Debug)]
pub struct Writer {
    file: AtomicFile,
    slots: Vec<Slot>,
    bytes: u64,
}

impl Writer {
    /// Starts the file `path` with the header for `tensors` and `metadata`.
    ///
    /// # Errors
    /// When two tensors have one name, sizes overflow, or the path cannot be written.
    pub fn create(path: &Path, tensors: &[Planned], metadata: &[(String, String)]) -> Result<Self> {
        // Wide types first, so that every tensor is aligned to its element.
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(tensors[i].dtype.bitsize()));

        let mut header = Map::new();
        let pairs = metadata.iter().map(|(key, value)| (key.clone(), Value::String(value.clone())));
        header.insert("__metadata__".to_owned(), Value::Object(pairs.collect()));
        let mut slots = vec![Slot::default(); tensors.len()];
        let mut end = 0usize;
        for i in order {
            let Planned { name, dtype, shape } = &tensors[i];
            let Some((len, next)) = tensors[i].byte_len().and_then(|len| Some((len, end.checked_add(len)?)))
            else {
                invalid!("tensor `{name}` of shape {shape:?} is too large");
            };
            let entry = json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [end, next]});
            if header.insert(name.clone(), entry).is_some() {
                invalid!("the output would hold two tensors named `{name}`; rename one in the input");
            }
            slots[i] = Slot { name: name.clone(), offset: end as u64, len, written: 0 };
            end = next;
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() > MAX_HEADER {
            invalid!("the header would have {} bytes; safetensors allows at most {MAX_HEADER}", text.len());
        }
        let data_start = 8 + text.len() as u64;
        slots.iter_mut().for_each(|slot| slot.offset += data_start);

        let mut file = AtomicFile::create(path)?;
        file.write_at(0, &(text.len() as u64).to_le_bytes())?;
        file.write_at(8, &text)?;
        Ok(Self { file, slots, bytes: data_start + end as u64 })
    }

    /// Writes the data of planned tensor number `index`, little-endian.
    ///
    /// # Errors
    /// When the length is not the planned one or the system refuses.
    pub fn write(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        match self.slots.get(index) {
            Some(Slot { name, len, .. }) if bytes.len() != *len => {
                invalid!("tensor `{name}`: got {} bytes, planned {len}", bytes.len())
            }
            _ => self.write_part(index, 0, bytes),
        }
    }

    /// Writes the bytes of planned tensor number `index` from byte `offset` on. Every byte is to be written once.
    ///
    /// # Errors
    /// When the bytes reach past the planned end or the system refuses.
    pub fn write_part(&mut self, index: usize, offset: usize, bytes: &[u8]) -> Result<()> {
        let planned = self.slots.len();
        let Some(slot) = self.slots.get_mut(index) else {
            invalid!("tensor number {index} was not planned; {planned} were");
        };
        if offset.checked_add(bytes.len()).is_none_or(|end| end > slot.len) {
            invalid!(
                "tensor `{}`: {} bytes from byte {offset} on, planned {}",
                slot.name,
                bytes.len(),
                slot.len
            );
        }
        slot.written += bytes.len();
        self.file.write_at(slot.offset + offset as u64, bytes)
    }

    /// Puts the complete file in place and returns its size in bytes.
    ///
    /// # Errors
    /// When a planned tensor was not written or the system refuses.
    pub fn finish(self) -> Result<u64> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.written != slot.len) {
            invalid!(
                "tensor `{}` was planned with {} bytes but not written in full: {} bytes were",
                slot.name,
                slot.len,
                slot.written
            );
        }
        self.file.finish()?;
        Ok(self.bytes)
    }
}

/// Values as little-endian bytes.
pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Words as little-endian bytes.
pub(crate) fn word_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
