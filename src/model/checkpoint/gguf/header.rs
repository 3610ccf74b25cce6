//! The header of a GGUF file, versions 2 and 3, little-endian: every count, length and offset is checked against the
//! file before anything is allocated for it.
//!
//! Layout (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>): magic, u32 version, u64 number of tensors, u64
//! number of metadata entries; the entries (key, u32 type, value); per tensor its name, u32 number of dimensions, u64
//! dimensions (innermost first), u32 type, u64 offset; then the data, from the next multiple of `general.alignment` on.

use crate::error::{Error, Result, invalid};
use crate::format::ggml::GgmlType;
use crate::model::checkpoint::{Dtype, Element, byte_len};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// First bytes of a GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Alignment of the data where the file states none.
pub(crate) const ALIGNMENT: usize = 32;
/// Most items of all arrays of a file; vocabularies have less than a million.
const MAX_ITEMS: usize = 1 << 24;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Array(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Array(items) => write!(f, "a list of {} items", items.len()),
        }
    }
}

/// A tensor as the header describes it; it fits the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) element: Element,
    /// Outermost first.
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file.
    pub(crate) range: Range<usize>,
}

/// A header whose claims have been checked.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: HashMap<String, Value>,
    /// In the order of the file.
    pub(crate) tensors: Vec<Tensor>,
}

/// Reads the header of a whole file.
pub(crate) fn read(bytes: &[u8], label: &str) -> Result<Header> {
    let mut reader = Reader { bytes, at: 0, items: 0, label };
    if reader.take(4)? != MAGIC {
        invalid!("{label} does not begin with GGUF");
    }
    match reader.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=9) => {
            invalid!("{label} is a big-endian GGUF file; want a little-endian one, convert the model again")
        }
        version => invalid!("{label} is GGUF version {version}; versions 2 and 3 can be read"),
    }
    // The shortest tensor and the shortest entry: an empty name or key.
    let tensor_count = reader.count("tensors", 24)?;
    let entry_count = reader.count("metadata entries", 13)?;
    let mut metadata = HashMap::with_capacity(entry_count);
    for _ in 0..entry_count {
        let key = reader.text()?;
        let kind = reader.u32()?;
        let value = reader.value(kind, &key, 0)?;
        if metadata.contains_key(&key) {
            invalid!("{label}: the metadata key `{key}` is there twice");
        }
        metadata.insert(key, value);
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Unsigned(value @ 1..=65536)) if value.is_power_of_two() => *value as usize,
        Some(value) => invalid!("{label}: `general.alignment` is {value}; want a power of two up to 65536"),
    };
    let mut tensors = Vec::with_capacity(tensor_count);
    let mut names = HashSet::with_capacity(tensor_count);
    for _ in 0..tensor_count {
        let tensor = reader.tensor(alignment)?;
        if !names.insert(tensor.name.clone()) {
            invalid!("{label}: two tensors are named `{}`", tensor.name);
        }
        tensors.push(tensor);
    }
    place(&mut tensors, reader.at.next_multiple_of(alignment), bytes.len(), label)?;
    Ok(Header { metadata, tensors })
}

/// Moves the ranges, which are relative to `start`, to where they are in the file.
fn place(tensors: &mut [Tensor], start: usize, file: usize, label: &str) -> Result<()> {
    for tensor in tensors.iter_mut() {
        let moved = |at: usize| at.checked_add(start);
        match (moved(tensor.range.start), moved(tensor.range.end)) {
            (Some(begin), Some(end)) if end <= file => tensor.range = begin..end,
            _ => invalid!(
                "{label} is truncated or damaged: tensor `{}` is said to end {} bytes behind byte {start} of {file}",
                tensor.name,
                tensor.range.end
            ),
        }
    }
    let mut order: Vec<&Tensor> = tensors.iter().filter(|tensor| !tensor.range.is_empty()).collect();
    order.sort_by_key(|tensor| tensor.range.start);
    for pair in order.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            invalid!("{label}: the data of tensors `{}` and `{}` overlap", pair[0].name, pair[1].name);
        }
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Items of arrays so far.
    items: usize,
    label: &'a str,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes;
        let end = self.at.checked_add(length).filter(|&end| end <= bytes.len());
        let Some(end) = end else {
            invalid!(
                "{}: the GGUF header is truncated or damaged: {length} bytes wanted at byte {}, {} left",
                self.label,
                self.at,
                self.left()
            );
        };
        let taken = &bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of things of at least `least` bytes each, which the rest of the file must be able to hold.
    fn count(&mut self, what: &str, least: usize) -> Result<usize> {
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.left() / least => Ok(count),
            _ => invalid!(
                "{}: the GGUF header claims {count} {what} at byte {}, but only {} bytes follow; it is truncated or damaged",
                self.label,
                self.at - 8,
                self.left()
            ),
        }
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count("bytes of text", 1)?;
        let at = self.at;
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => invalid!("{}: the text at byte {at} is not UTF-8; the file is damaged", self.label),
        }
    }

    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => invalid!("{}: `{key}` is a truth value and {other}; want 0 or 1", self.label),
            },
            8 => Value::Text(self.text()?),
            9 if depth < 2 => {
                let item = self.u32()?;
                let least = match item {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    _ => 8,
                };
                let count = self.count("items of a list", least)?;
                self.items += count;
                if self.items > MAX_ITEMS {
                    invalid!("{}: the lists of the metadata have more than {MAX_ITEMS} items", self.label);
                }
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.value(item, key, depth + 1)?);
                }
                Value::Array(items)
            }
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            9 => invalid!("{}: `{key}` holds lists of lists of lists; want at most two levels", self.label),
            _ => invalid!("{}: `{key}` has the unknown type {kind}; want 0 to 12", self.label),
        })
    }

    /// A tensor with its range relative to the data.
    fn tensor(&mut self, alignment: usize) -> Result<Tensor> {
        let name = self.text()?;
        let label = self.label;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            invalid!("{label}: tensor `{name}` has {dimensions} dimensions; want at most {MAX_DIMENSIONS}");
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            let size = self.u64()?;
            match usize::try_from(size) {
                Ok(size) if size > 0 => shape.insert(0, size),
                _ => invalid!("{label}: tensor `{name}` has a dimension of {size}"),
            }
        }
        let element = element(self.u32()?, &name, label)?;
        let offset = self.u64()?;
        let length = length(&shape, element);
        let begin = usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(alignment));
        let (Some(length), Some(begin)) = (length, begin) else {
            invalid!(
                "{label}: tensor `{name}` of type {element} and shape {shape:?} cannot lie at offset {offset}: rows must \
                 be whole blocks, offsets multiples of {alignment}"
            );
        };
        let Some(end) = begin.checked_add(length) else {
            invalid!("{label}: tensor `{name}` at offset {offset} overflows");
        };
        Ok(Tensor { name, element, shape, range: begin..end })
    }
}

/// Bytes of a tensor; `None` where rows are not whole blocks or the size overflows.
pub(crate) fn length(shape: &[usize], element: Element) -> Option<usize> {
    match element {
        Element::Plain(dtype) => byte_len(shape, dtype),
        Element::Ggml(kind) => {
            let cols = *shape.last()?;
            let rows =
                shape[..shape.len() - 1].iter().try_fold(1usize, |rows, &size| rows.checked_mul(size))?;
            let row = (cols / kind.block()).checked_mul(kind.bytes())?;
            cols.is_multiple_of(kind.block()).then_some(())?;
            row.checked_mul(rows)
        }
    }
}

fn element(id: u32, tensor: &str, label: &str) -> Result<Element> {
    if let Some(kind) = GgmlType::from_ggml_id(id) {
        return Ok(Element::Ggml(kind));
    }
    let (plain, name) = match id {
        0 => (Dtype::F32, ""),
        1 => (Dtype::F16, ""),
        30 => (Dtype::BF16, ""),
        24 => (Dtype::I8, ""),
        25 => (Dtype::I16, ""),
        26 => (Dtype::I32, ""),
        27 => (Dtype::I64, ""),
        28 => (Dtype::F64, ""),
        9 => (Dtype::U8, "q8_1"),
        15 => (Dtype::U8, "q8_k"),
        16 => (Dtype::U8, "iq2_xxs"),
        17 => (Dtype::U8, "iq2_xs"),
        18 => (Dtype::U8, "iq3_xxs"),
        19 => (Dtype::U8, "iq1_s"),
        21 => (Dtype::U8, "iq3_s"),
        22 => (Dtype::U8, "iq2_s"),
        29 => (Dtype::U8, "iq1_m"),
        _ => (Dtype::U8, "unknown to this program"),
    };
    if name.is_empty() {
        return Ok(Element::Plain(plain));
    }
    let message = format!(
        "{label}: tensor `{tensor}` has the ggml type {id} ({name}), which cannot be run; quantize the model to f32, f16, \
         bf16, q4_0, q5_0, q8_0, q4_k, q5_k, q6_k, iq4_nl, tq1_0, tq2_0 or mxfp4"
    );
    Err(Error::Invalid(message))
}

/// Number of a plain type in GGUF.
pub(crate) fn plain_id(dtype: Dtype) -> Option<u32> {
    match dtype {
        Dtype::F32 => Some(0),
        Dtype::F16 => Some(1),
        Dtype::BF16 => Some(30),
        _ => None,
    }
}
