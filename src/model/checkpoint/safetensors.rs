//! A defensive reader of safetensors files: every claim of the header is checked before it is used.
//!
//! Layout of the format: `u64` header length (little endian), a JSON header, then the data that the
//! header's offsets refer to (<https://huggingface.co/docs/safetensors>).

use super::{Element, Order, Parts, Source, TensorInfo, byte_len};
use crate::error::{Error, Result, invalid};
use safetensors::tensor::{Metadata, TensorInfo as HeaderInfo};
use serde_json::{Map, Value};

/// Longest header the format allows, bytes.
pub(crate) const MAX_HEADER: usize = 100_000_000;

pub(super) fn parts(source: &Source) -> Result<Parts> {
    let (bytes, label) = (source.bytes(), source.label.as_str());
    let (header, data_start) = header_of(bytes, label)?;
    let mut header: Map<String, Value> = serde_json::from_slice(header)
        .map_err(|error| Error::Invalid(format!("{label}: the header is not valid JSON: {error}")))?;
    let metadata = match header.shift_remove("__metadata__") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) if map.values().all(Value::is_string) => map,
        Some(_) => invalid!("{label}: __metadata__ in the header is not a map from strings to strings"),
    };
    Ok(Parts { tensors: tensors_of(header, data_start, bytes.len(), label)?, metadata })
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
        let len = byte_len(&info.shape, info.dtype);
        if len.is_none() || end.checked_sub(begin) != len {
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
        element: Element::Plain(info.dtype),
        shape: info.shape,
        source: 0,
        range: data_start + info.data_offsets.0..data_start + info.data_offsets.1,
        order: Order::Whole,
    });
    Ok(tensors.collect())
}
