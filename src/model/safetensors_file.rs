//! A defensive reader of safetensors files: every claim of the header is checked before it is used.
//!
//! Layout of the format: `u64` header length (little endian), a JSON header, then the data that the
//! header's offsets refer to (<https://huggingface.co/docs/safetensors>).

use crate::error::{Error, Result, invalid};
use memmap2::Mmap;
pub use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo as HeaderInfo};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Longest header the format allows, bytes.
pub(crate) const MAX_HEADER: usize = 100_000_000;

/// A tensor as the header describes it; the description fits the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name, unique in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of the file that hold it.
    bytes: std::ops::Range<usize>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size of the data in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

enum Source {
    Map(Mmap),
    Static(&'static [u8]),
}

/// An open safetensors file whose header has been checked against its length.
pub struct TensorFile {
    source: Source,
    label: String,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    metadata: Map<String, Value>,
}

impl std::fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorFile({}, {} tensors)", self.label, self.tensors.len())
    }
}

impl TensorFile {
    /// Maps the file at `path` into memory and checks its header.
    ///
    /// # Errors
    /// When the file cannot be read, is a git-lfs pointer or another format, is truncated, or when its
    /// header lies about lengths, offsets or types.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::io("cannot read", path, source);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            invalid!("{} is not a file; want a .safetensors file", path.display());
        }
        if metadata.len() == 0 {
            invalid!("{} is empty; want a .safetensors file", path.display());
        }
        // SAFETY: the map is read-only. Like every user of mapped files we rely on nobody truncating
        // the file while it is open; our own writers replace files by renaming, which leaves the map intact.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::parse(Source::Map(map), path.display().to_string())
    }

    /// Reads a file that is part of the program; `label` names it in errors.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn from_static(bytes: &'static [u8], label: &str) -> Result<Self> {
        Self::parse(Source::Static(bytes), label.to_owned())
    }

    fn parse(source: Source, label: String) -> Result<Self> {
        let bytes: &[u8] = match &source {
            Source::Map(map) => map,
            Source::Static(bytes) => bytes,
        };
        reject_other_formats(bytes, &label)?;
        let (header, data_start) = header_of(bytes, &label)?;
        let mut header: Map<String, Value> = serde_json::from_slice(header)
            .map_err(|error| Error::Invalid(format!("{label}: the header is not valid JSON: {error}")))?;
        let metadata = match header.shift_remove("__metadata__") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) if map.values().all(Value::is_string) => map,
            Some(_) => invalid!("{label}: __metadata__ in the header is not a map from strings to strings"),
        };
        let tensors = tensors_of(header, data_start, bytes.len(), &label)?;
        let index = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Ok(Self { source, label, tensors, index, metadata })
    }

    /// Path, or what else names the file in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Raw little-endian bytes of a tensor of this file.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let all: &[u8] = match &self.source {
            Source::Map(map) => map,
            Source::Static(bytes) => bytes,
        };
        &all[tensor.bytes.clone()]
    }

    /// Value of `key` in the file's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }

    /// All of `__metadata__`, in file order.
    pub fn metadata_entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    }

    /// The values of a float tensor in f32; f16 and bf16 are widened exactly.
    ///
    /// # Errors
    /// When the element type is none of the three.
    pub fn widen(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let bytes = self.bytes(tensor);
        let values = match tensor.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::BF16 => {
                bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => invalid!(
                "{}: tensor `{}` has type {other}; want F32, F16 or BF16, convert it first",
                self.label,
                tensor.name
            ),
        };
        Ok(values)
    }

    /// Like [`TensorFile::widen`], but the values must be finite.
    ///
    /// # Errors
    /// Also when a value is NaN or infinite; its index is named.
    pub fn widen_finite(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let values = self.widen(tensor)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let mut index = Vec::new();
            let mut rest = at;
            for &dimension in tensor.shape.iter().rev() {
                index.insert(0, rest % dimension);
                rest /= dimension;
            }
            invalid!(
                "{}: tensor `{}` holds {} at index {index:?}; weights must be finite numbers, repair or re-export \
                 the checkpoint",
                self.label,
                tensor.name,
                values[at]
            );
        }
        Ok(values)
    }
}

/// Gives files that are commonly mistaken for safetensors an error of their own.
pub(crate) fn reject_other_formats(bytes: &[u8], label: &str) -> Result<()> {
    if bytes.starts_with(b"version https://git-lfs") {
        invalid!("{label} is a git-lfs pointer, not the file itself; run `git lfs pull` in its repository");
    }
    if bytes.starts_with(b"GGUF") {
        invalid!("{label} is a GGUF file; want safetensors");
    }
    if bytes.starts_with(b"PK\x03\x04") {
        invalid!(
            "{label} is a zip archive, perhaps a PyTorch checkpoint; want safetensors, convert it first"
        );
    }
    Ok(())
}

/// The header's bytes and where the data begin.
fn header_of<'a>(bytes: &'a [u8], label: &str) -> Result<(&'a [u8], usize)> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        invalid!("{label} is truncated: it has {} bytes, a safetensors file has at least 8", bytes.len());
    };
    let length = u64::from_le_bytes(*length);
    let Some(header) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        invalid!(
            "{label}: the file claims a header of {length} bytes but only {} follow; it is truncated or not a \
             safetensors file",
            rest.len()
        );
    };
    if header.len() > MAX_HEADER {
        invalid!("{label}: the header has {length} bytes; safetensors allows at most {MAX_HEADER}");
    }
    Ok((header, 8 + header.len()))
}

/// Checks every entry of the header by itself, then (in the `safetensors` crate) that the entries
/// cover the data without gaps or overlaps, then that the data are all there.
fn tensors_of(
    header: Map<String, Value>,
    data_start: usize,
    file_len: usize,
    label: &str,
) -> Result<Vec<TensorInfo>> {
    let mut entries = Vec::with_capacity(header.len());
    for (name, value) in header {
        let info: HeaderInfo = serde_json::from_value(value)
            .map_err(|error| Error::Invalid(format!("{label}: header entry of tensor `{name}`: {error}")))?;
        let (begin, end) = info.data_offsets;
        let bits =
            info.shape.iter().try_fold(info.dtype.bitsize(), |size, &dimension| size.checked_mul(dimension));
        if bits.is_none_or(|bits| bits % 8 != 0 || end.checked_sub(begin) != Some(bits / 8)) {
            invalid!(
                "{label}: tensor `{name}`: type {} and shape {:?} do not fit the bytes {begin}..{end} the header \
                 gives it; the file is corrupt",
                info.dtype,
                info.shape
            );
        }
        entries.push((name, info));
    }
    entries.sort_by_key(|(_, info)| info.data_offsets);
    let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
    let infos: Vec<HeaderInfo> = entries.iter().map(|(_, info)| info.clone()).collect();
    let checked = Metadata::new(None, entries).map_err(|error| {
        Error::Invalid(format!("{label}: {error}: tensors must follow each other without gaps or overlaps"))
    })?;
    let (want, got) = (checked.data_len(), file_len - data_start);
    if got < want {
        invalid!(
            "{label} is truncated: its header describes {want} bytes of tensor data, the file has {got}"
        );
    }
    if got > want {
        invalid!("{label} is corrupt: {} bytes follow the last tensor of its header", got - want);
    }
    let tensors = names.into_iter().zip(infos).map(|(name, info)| TensorInfo {
        name,
        dtype: info.dtype,
        shape: info.shape,
        bytes: data_start + info.data_offsets.0..data_start + info.data_offsets.1,
    });
    Ok(tensors.collect())
}
