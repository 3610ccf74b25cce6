//! The tensors of a checkpoint, whatever files hold them.
//!
//! A [`TensorFile`] is a set of mapped files and a list of tensors that lie in them. There is one opener per container:
//! safetensors, an index of several files, PyTorch state dicts, llama2.c, GGUF. An opener checks everything its file claims
//! against what the file holds, so that reading a tensor cannot fail for a lie in a header.

pub(crate) mod gguf;
mod llama2c;
mod pickle;
mod pytorch;
mod safetensors;
mod shards;
mod values;

use crate::error::{Error, Result, invalid};
use crate::format::ggml::GgmlType;
use ::safetensors::Dtype as PlainType;
pub(crate) use llama2c::half_rotated;
use memmap2::Mmap;
pub(crate) use safetensors::MAX_HEADER;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Type of elements that lie one after another.
pub type Dtype = PlainType;

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// One after another, little-endian.
    Plain(Dtype),
    /// In ggml's blocks, row by row.
    Ggml(GgmlType),
}

impl Element {
    /// The type of plain elements.
    pub fn plain(self) -> Option<Dtype> {
        match self {
            Self::Plain(dtype) => Some(dtype),
            Self::Ggml(_) => None,
        }
    }

    /// Whether values can be read as f32 exactly: F32, F16 and BF16.
    pub fn is_readable_float(self) -> bool {
        matches!(self, Self::Plain(Dtype::F32 | Dtype::F16 | Dtype::BF16))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => write!(f, "{dtype}"),
            Self::Ggml(kind) => write!(f, "{}", kind.name()),
        }
    }
}

/// How the bytes of a tensor lie in their file.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    /// As the shape says.
    Whole,
    /// Row `r` of the tensor is row `rows[r]` of the bytes; all rows have one length.
    Rows(Vec<u32>),
    /// Element `i` is at element offset `sum i[d] * strides[d]` from the first one.
    Strided(Vec<usize>),
    /// Of blocks of the transposed matrix, which cannot be taken apart: `[cols, rows]` for a shape `[rows, cols]`.
    Transposed,
}

/// A tensor of a checkpoint; the description fits the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name, unique in the checkpoint.
    pub name: String,
    /// How its elements are stored.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    source: usize,
    /// Bytes of the source that hold it.
    range: Range<usize>,
    order: Order,
}

impl TensorInfo {
    /// Whether the stored blocks are those of the transposed matrix.
    pub(crate) fn is_transposed(&self) -> bool {
        self.order == Order::Transposed
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size of the data in bytes.
    pub fn byte_len(&self) -> usize {
        match (&self.order, self.element) {
            (Order::Strided(_), Element::Plain(dtype)) => self.elements() * dtype.bitsize() / 8,
            _ => self.range.len(),
        }
    }
}

enum Data {
    Map(Mmap),
    Static(&'static [u8]),
}

/// One file of a checkpoint.
struct Source {
    data: Data,
    label: String,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::io("cannot read", path, source);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            invalid!("{} is not a file; want a checkpoint file", path.display());
        }
        if metadata.len() == 0 {
            invalid!("{} is empty; want a checkpoint file", path.display());
        }
        // SAFETY: the map is read-only. Like every user of mapped files we rely on nobody truncating
        // the file while it is open; our own writers replace files by renaming, which leaves the map intact.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { data: Data::Map(map), label: path.display().to_string() })
    }

    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Map(map) => map,
            Data::Static(bytes) => bytes,
        }
    }

    /// Gives mapped pages back to the system, which reads them again when they are wanted.
    fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let Data::Map(map) = &self.data {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is shared, read-only and backed by a file: dropped pages come back with the same content.
            // Where the system refuses, the pages just stay.
            let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// What an opener found in its file or files.
#[derive(Default)]
struct Parts {
    tensors: Vec<TensorInfo>,
    metadata: Map<String, Value>,
}

/// An open checkpoint whose description has been checked against the length of its files.
pub struct TensorFile {
    sources: Vec<Source>,
    label: String,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    metadata: Map<String, Value>,
}

impl fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorFile({}, {} tensors)", self.label, self.tensors.len())
    }
}

impl TensorFile {
    /// Maps the file at `path` into memory and reads its description: safetensors, a PyTorch state dict (`.pt`, `.pth`,
    /// `.bin`), llama2.c's `.bin`, GGUF, or an index (`*.index.json`) of several safetensors or PyTorch files. The content
    /// decides, not the name, but for an index.
    ///
    /// # Errors
    /// When a file cannot be read, is a git-lfs pointer or another format, is truncated, or when its
    /// description lies about lengths, offsets or types.
    pub fn open(path: &Path) -> Result<Self> {
        if path.to_string_lossy().ends_with(".index.json") {
            return shards::open(path);
        }
        let source = Source::open(path)?;
        let parts = parts(&source)?;
        let label = source.label.clone();
        Ok(Self::assemble(vec![source], label, parts))
    }

    /// Reads a file that is part of the program; `label` names it in errors.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn from_static(bytes: &'static [u8], label: &str) -> Result<Self> {
        let source = Source { data: Data::Static(bytes), label: label.to_owned() };
        let parts = parts(&source)?;
        Ok(Self::assemble(vec![source], label.to_owned(), parts))
    }

    /// Names of `parts` are unique.
    fn assemble(sources: Vec<Source>, label: String, parts: Parts) -> Self {
        let Parts { tensors, metadata } = parts;
        let index = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Self { sources, label, tensors, index, metadata }
    }

    /// Path, or what else names the checkpoint in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Path of the file that holds `tensor`.
    pub fn label_of(&self, tensor: &TensorInfo) -> &str {
        &self.sources[tensor.source].label
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Whether it is a file of llama2.c, whose tokenizer lies beside it.
    pub(crate) fn is_llama2c(&self) -> bool {
        self.sources.iter().any(|source| llama2c::header(source.bytes()).is_some())
    }

    /// Value of `key` in the metadata of the file.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }

    /// All metadata, in file order.
    pub fn metadata_entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    }
}

/// Reads the description of a file by what it begins with.
fn parts(source: &Source) -> Result<Parts> {
    let bytes = source.bytes();
    reject_other_formats(bytes, &source.label)?;
    if bytes.starts_with(b"PK\x03\x04") {
        return pytorch::zip(source).map_err(Error::on_one_line);
    }
    if bytes.starts_with(gguf::header::MAGIC) {
        return gguf::parts(source);
    }
    if pytorch::is_legacy(bytes) {
        return pytorch::legacy(source).map_err(Error::on_one_line);
    }
    match llama2c::header(bytes) {
        Some(header) => llama2c::parts(source, &header),
        None => safetensors::parts(source),
    }
}

/// Gives files that are commonly mistaken for checkpoints an error of their own.
pub(crate) fn reject_other_formats(bytes: &[u8], label: &str) -> Result<()> {
    if bytes.starts_with(b"version https://git-lfs") {
        invalid!("{label} is a git-lfs pointer, not the file itself; run `git lfs pull` in its repository");
    }
    Ok(())
}

/// Number of bytes of `shape` in `dtype`; `None` where that is not whole or overflows.
fn byte_len(shape: &[usize], dtype: Dtype) -> Option<usize> {
    let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &size| bits.checked_mul(size))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
