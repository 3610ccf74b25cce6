//! Tensors of a checkpoint or of a packed file, looked up by the names of the checkpoint.
//!
//! The layout of packed files is described in the documentation of [`model`](crate::model).

use super::checkpoint::{Dtype, Element, TensorFile, TensorInfo};
use super::strips::{self, Job};
use crate::error::{Error, Result, invalid};
use crate::format::element::{OcpElement, OcpScale};
use crate::format::ggml::GgmlType;
use crate::format::{Exception, Format, Layout, Packed, Scale, Scope, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// Value of `format` in the metadata of packed files.
pub(crate) const FORMAT: &str = "anybit";
/// Layout version this program writes and reads.
pub(crate) const VERSION: &str = "1";

/// A packed tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name of the tensor, as in the checkpoint.
    pub name: String,
    /// Weight format, and the activation format it is meant to run with.
    pub spec: Spec,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
    /// Type in the checkpoint.
    pub dtype: Dtype,
    /// The checkpoint has `[cols, rows]`.
    pub transposed: bool,
    /// Rows as packed.
    pub rows: usize,
    /// Columns as packed.
    pub cols: usize,
}

/// What `anybit.tensors` says about one tensor.
#[derive(Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) format: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) transposed: bool,
}

/// An open safetensors file, packed or not.
#[derive(Debug)]
pub struct Reader {
    file: TensorFile,
    packed: bool,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl Reader {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// As [`TensorFile::open`], and when the description of a packed file does not fit its tensors.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(TensorFile::open(path)?)
    }

    /// Looks for packed tensors in `file`.
    ///
    /// # Errors
    /// When the description of a packed file does not fit its tensors.
    pub fn new(file: TensorFile) -> Result<Self> {
        let (packed, entries) = match file.metadata("format") == Some(FORMAT) {
            true => (true, entries_of(&file)?),
            false => {
                let blocks = blocks_of(&file)?;
                (!blocks.is_empty(), blocks)
            }
        };
        let index = entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        Ok(Self { file, packed, entries, index })
    }

    /// The file itself.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// Whether the file holds packed tensors: it was written by `quantize`, or has tensors in ggml's blocks.
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// Packed tensors in the order of the description; none in a plain file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The packed tensor `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// Tensors that are neither packed nor scales of packed ones.
    pub fn unpacked(&self) -> impl Iterator<Item = &TensorInfo> {
        self.file.tensors().iter().filter(|tensor| {
            let name = tensor.name.as_str();
            let owner = name.strip_suffix(".scales").or_else(|| name.strip_suffix(".exceptions"));
            let owner = owner.and_then(|name| self.entry(name));
            self.entry(name).is_none() && owner.is_none_or(|entry| natural(entry.spec.weight).is_some())
        })
    }

    /// Shape and type of a tensor in the checkpoint, whether it is packed here or not.
    pub fn shape(&self, name: &str) -> Option<(&[usize], Element)> {
        match self.entry(name) {
            Some(entry) => Some((&entry.shape, Element::Plain(entry.dtype))),
            None => self.file.get(name).map(|tensor| (tensor.shape.as_slice(), tensor.element)),
        }
    }

    /// The packed matrix of an entry, as it was encoded.
    ///
    /// # Errors
    /// When the stored words are not a matrix of that format.
    pub fn packed(&self, entry: &Entry) -> Result<Packed> {
        let Entry { rows, cols, .. } = *entry;
        let format = entry.spec.weight;
        let tensor = self.tensor(&entry.name)?;
        let packed = if let Element::Ggml(kind) = tensor.element {
            let (codes, scales) = kind.to_streams(rows, cols, &self.file.bytes(tensor))?;
            Packed::from_parts(format, rows, cols, codes, scales, Vec::new())
        } else if natural(format).is_some() {
            let job = Job { spec: format.into(), rows, cols, transposed: false };
            return strips::pack(&self.file, tensor, &job).map(|(packed, _)| packed);
        } else {
            let codes = words(&self.file.bytes(tensor));
            self.file.release(tensor);
            let scales = match format.layout(rows, cols)?.scale_words {
                0 => Vec::new(),
                _ => words(&self.file.bytes(self.tensor(&scales_name(&entry.name))?)),
            };
            let exceptions = match self.file.get(&exceptions_name(&entry.name)) {
                None => Vec::new(),
                Some(tensor) => {
                    let words = words(&self.file.bytes(tensor));
                    words.chunks_exact(3).map(|e| Exception { row: e[0], col: e[1], bits: e[2] }).collect()
                }
            };
            Packed::from_parts(format, rows, cols, codes, scales, exceptions)
        };
        let packed = packed.map_err(|error| self.in_tensor(&entry.name, error))?;
        // Kernels with bit planes rely on its absence.
        let has_no_lowest = matches!(format, Format::Int { bits: 2, .. } | Format::TernaryMean { .. });
        if has_no_lowest && packed.codes.iter().any(|word| word & 0xaaaa_aaaa & !(word << 1) != 0) {
            let error = format!("a code is -2, which {format} does not have: the file is damaged");
            return Err(self.in_tensor(&entry.name, Error::Invalid(error)));
        }
        // Formats of other programs overflow as those do; the rest never hold such a scale.
        let may_overflow =
            matches!(format, Format::MxIntCuda { .. } | Format::Base11Nine32 { .. } | Format::Element { .. });
        if !may_overflow && packed.scale_overflows() > 0 {
            let error =
                format!("{} scales are NaN or infinite: the file is damaged", packed.scale_overflows());
            return Err(self.in_tensor(&entry.name, Error::Invalid(error)));
        }
        Ok(packed)
    }

    /// Adds file and tensor to an error.
    pub(crate) fn in_tensor(&self, name: &str, error: Error) -> Error {
        Error::Invalid(format!("{}: tensor `{name}`: {error}", self.file.label()))
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        let missing = || Error::Invalid(format!("{}: tensor `{name}` is missing", self.file.label()));
        self.file.get(name).ok_or_else(missing)
    }
}

/// Name of the tensor that holds the scales of `tensor`.
pub(crate) fn scales_name(tensor: &str) -> String {
    format!("{tensor}.scales")
}

/// Name of the tensor that holds the exceptions of `tensor`.
pub(crate) fn exceptions_name(tensor: &str) -> String {
    format!("{tensor}.exceptions")
}

/// The type of formats that are stored as they are.
pub(crate) fn natural(format: Format) -> Option<Dtype> {
    match format {
        Format::F32 => Some(Dtype::F32),
        Format::F16 => Some(Dtype::F16),
        Format::Bf16 => Some(Dtype::BF16),
        _ => None,
    }
}

/// Type and shape of a tensor in a packed file.
pub(crate) type Stored = (Dtype, Vec<usize>);

/// How the codes and the scales (if any) of a packed `[rows, cols]` matrix are stored.
pub(crate) fn stored_as(
    format: Format,
    layout: &Layout,
    rows: usize,
    cols: usize,
) -> (Stored, Option<Stored>) {
    if let Some(dtype) = natural(format) {
        return ((dtype, vec![rows, cols]), None);
    }
    let codes = match layout.row_words.checked_mul(rows) {
        Some(words) if words == layout.code_words => vec![rows, layout.row_words],
        _ => vec![layout.code_words],
    };
    let tile_rows = rows.div_ceil(layout.group_rows.max(1));
    let mut shape = match layout.groups_per_row.checked_mul(tile_rows) {
        Some(groups) if groups == layout.groups => vec![tile_rows, layout.groups_per_row],
        _ => vec![layout.groups],
    };
    let dtype = match layout.scheme.scale {
        Scale::Fixed(_) => return ((Dtype::U32, codes), None),
        Scale::Exponent { .. } => Dtype::U8,
        Scale::E4m3 => {
            shape = vec![4 + layout.groups];
            Dtype::U8
        }
        Scale::F16 => Dtype::F16,
        Scale::F32 => Dtype::F32,
        Scale::F16Zero => Dtype::U32,
        Scale::MinimumRange => {
            shape.push(2);
            Dtype::F16
        }
        Scale::K4 => {
            shape.push(4);
            Dtype::U32
        }
        Scale::K6 => {
            shape.push(18);
            Dtype::U8
        }
    };
    ((Dtype::U32, codes), Some((dtype, shape)))
}

/// Rows and columns of a tensor: the leading dimensions are rows; scalars and vectors are one row.
///
/// # Errors
/// When the sizes overflow.
pub(crate) fn flatten(shape: &[usize], transposed: bool) -> Option<(usize, usize)> {
    match (shape, transposed) {
        (&[cols, rows], true) => Some((rows, cols)),
        (_, true) => None,
        ([], _) => Some((1, 1)),
        (&[len], _) => Some((1, len)),
        ([leading @ .., cols], _) => {
            let rows = leading.iter().try_fold(1usize, |rows, &dimension| rows.checked_mul(dimension))?;
            rows.checked_mul(*cols)?;
            Some((rows, *cols))
        }
    }
}

/// The format that has the codes and scales of `kind`, in the same words; `None` where nothing runs it.
pub(crate) fn format_of(kind: GgmlType) -> Option<Format> {
    use GgmlType::{Iq4Nl, Mxfp4, Q4_0, Q4K, Q5_0, Q5K, Q6K, Q8_0, Tq1_0, Tq2_0};
    match kind {
        Q4_0 | Q8_0 | Q4K | Q5K | Q6K | Iq4Nl | Tq1_0 | Tq2_0 => Some(Format::Ggml(kind)),
        Q5_0 => Some(Format::Int { bits: 5, scope: Scope::Group(32) }),
        Mxfp4 => Some(Format::mx(OcpElement::Fp4E2m1, OcpScale::Floor)),
        _ => None,
    }
}

/// The tensors of a GGUF file that are stored in blocks.
fn blocks_of(file: &TensorFile) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for tensor in file.tensors() {
        let Element::Ggml(kind) = tensor.element else { continue };
        let Some(format) = format_of(kind) else { continue };
        let transposed = tensor.is_transposed();
        let Some((rows, cols)) = flatten(&tensor.shape, transposed) else {
            invalid!("{}: tensor `{}` has the shape {:?}", file.label(), tensor.name, tensor.shape);
        };
        let spec = Spec::from(format);
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        entries.push(Entry { name, spec, shape, dtype: Dtype::F32, transposed, rows, cols });
    }
    Ok(entries)
}

fn entries_of(file: &TensorFile) -> Result<Vec<Entry>> {
    let label = file.label();
    match file.metadata("anybit.version") {
        Some(VERSION) => {}
        other => invalid!(
            "{label}: packed-file version {}; this program reads version {VERSION}",
            other.unwrap_or("missing")
        ),
    }
    let Some(text) = file.metadata("anybit.tensors") else {
        invalid!("{label}: `anybit.tensors` is missing in the metadata of this packed file");
    };
    let descriptions: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Error::Invalid(format!("{label}: `anybit.tensors` in the metadata: {error}")))?;
    descriptions.into_iter().map(|(name, value)| entry_of(file, name, value)).collect()
}

fn entry_of(file: &TensorFile, name: String, value: Value) -> Result<Entry> {
    let label = file.label();
    let wrong = |error: &dyn std::fmt::Display| {
        Error::Invalid(format!("{label}: `anybit.tensors`, tensor `{name}`: {error}"))
    };
    let description: Description = serde_json::from_value(value).map_err(|error| wrong(&error))?;
    let spec: Spec = description.format.parse().map_err(|error| wrong(&error))?;
    let Description { shape, dtype, transposed, .. } = description;
    let Some((rows, cols)) = flatten(&shape, transposed) else {
        return Err(wrong(&format!("shape {shape:?} is no matrix (transposed: {transposed})")));
    };
    let layout = spec.weight.layout(rows, cols).map_err(|error| wrong(&error))?;
    let ((codes_dtype, codes_shape), scales) = stored_as(spec.weight, &layout, rows, cols);
    let check = |tensor: &str, dtype: Dtype, shape: &[usize]| match file.get(tensor) {
        None => Err(wrong(&format!("`{tensor}` is missing"))),
        Some(info) if info.element != Element::Plain(dtype) || info.shape != shape => Err(wrong(&format!(
            "`{tensor}` is {} {:?}, {spec} of {rows} x {cols} wants {dtype} {shape:?}",
            info.element, info.shape
        ))),
        Some(_) => Ok(()),
    };
    check(&name, codes_dtype, &codes_shape)?;
    if let Some((dtype, shape)) = scales {
        check(&scales_name(&name), dtype, &shape)?;
    }
    if let Some(exceptions) = file.get(&exceptions_name(&name)).filter(|_| natural(spec.weight).is_none()) {
        let count = exceptions.shape.first().copied().unwrap_or(0);
        check(&exceptions.name, Dtype::U32, &[count, 3])?;
    }
    Ok(Entry { name, spec, shape, dtype, transposed, rows, cols })
}

/// Little-endian words of a byte stream, the last one filled up with zeros.
fn words(bytes: &[u8]) -> Vec<u32> {
    let (whole, tail) = bytes.as_chunks::<4>();
    let mut words: Vec<u32> = whole.iter().map(|word| u32::from_le_bytes(*word)).collect();
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        words.push(u32::from_le_bytes(last));
    }
    words
}
