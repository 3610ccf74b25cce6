//! State dicts that PyTorch's `torch.save` wrote: `.pt`, `.pth`, `pytorch_model.bin`.
//!
//! Since PyTorch 1.6 such a file is a zip archive with the pickle `data.pkl` and one uncompressed entry per storage
//! (`torch/serialization.py`); before, it was a few pickles one after another with the storages behind them. The pickle
//! is read by a machine of our own ([`super::pickle`]) that runs nothing: a class it does not know is a description, never
//! a call. (The readers of other crates either hold all tensors in memory or come with a whole tensor library.)

use super::pickle::{self, Id, Node, Pickle};
use super::{Dtype, Element, Order, Parts, Source, TensorInfo};
use crate::error::{Error, Result, invalid};
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

/// Keys under which training programs put a state dict, the likeliest first.
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "model", "module", "net", "params"];
/// Prefixes that wrappers of modules give to all names.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
const ADVICE: &str = "save a plain state dict: torch.save(model.state_dict(), …), or use safetensors";

/// Where the data of a storage are.
type Storages = HashMap<String, Range<usize>>;

/// Reads the archive of PyTorch 1.6 and later.
pub(super) fn zip(source: &Source) -> Result<Parts> {
    let (bytes, label) = (source.bytes(), source.label.as_str());
    let wrong = |error: zip::result::ZipError| {
        Error::Invalid(format!(
            "{label} is a zip archive, the container of PyTorch checkpoints, that cannot be read: {error}; it is truncated or damaged"
        ))
    };
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(wrong)?;
    let mut entries: HashMap<String, Range<usize>> = HashMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(wrong)?;
        let name = entry.name().map_err(wrong)?.into_owned();
        if entry.compression() != zip::CompressionMethod::Stored || entry.encrypted() {
            invalid!(
                "{label}: entry `{name}` of the archive is compressed; want what torch.save writes, which is not"
            );
        }
        let range = entry.data_start().and_then(|begin| {
            let begin = usize::try_from(begin).ok()?;
            let end = begin.checked_add(usize::try_from(entry.size()).ok()?)?;
            (end <= bytes.len()).then_some(begin..end)
        });
        let Some(range) = range else {
            invalid!("{label}: entry `{name}` reaches past the end of the file; it is truncated or damaged");
        };
        if entries.insert(name.clone(), range).is_some() {
            invalid!("{label}: two entries of the archive are named `{name}`; it is damaged");
        }
    }
    let pickles: Vec<&String> =
        entries.keys().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).collect();
    let [pickle] = pickles[..] else {
        invalid!("{label} is a zip archive without one `data.pkl`: no PyTorch checkpoint; {ADVICE}");
    };
    let prefix = pickle.strip_suffix("data.pkl").unwrap_or_default().to_owned();
    if let Some(range) = entries.get(&format!("{prefix}byteorder"))
        && &bytes[range.clone()] != b"little"
    {
        invalid!("{label} was written on a big-endian machine; convert it there to safetensors");
    }
    let (pickle, _) = pickle::read(&bytes[entries[pickle.as_str()].clone()], label)?;
    let data = format!("{prefix}data/");
    let of_storage =
        |(name, range): (String, Range<usize>)| Some((name.strip_prefix(&data)?.to_owned(), range));
    let storages = entries.into_iter().filter_map(of_storage).collect();
    parts(&pickle, &storages, label)
}

/// The first pickle of the older format: the number 0x1950a86a20f9469cfc6c, protocol 2.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Whether a file is a pickle.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    // The length of a safetensors header can begin like one, but then a JSON object follows.
    matches!(bytes, [0x80, 2..=5, ..]) && bytes.get(8) != Some(&b'{')
}

/// Reads the pickles that PyTorch wrote before version 1.6, and still does if told so.
pub(super) fn legacy(source: &Source) -> Result<Parts> {
    let (bytes, label) = (source.bytes(), source.label.as_str());
    if !bytes.starts_with(LEGACY) {
        invalid!("{label} is a pickle, but not one of torch.save; {ADVICE}");
    }
    let mut at = LEGACY.len();
    let mut next = || -> Result<Pickle<'_>> {
        let (pickle, len) = pickle::read(&bytes[at..], label)?;
        at += len;
        Ok(pickle)
    };
    next()?; // version of the format
    let system = next()?;
    let little = match &system.nodes[system.root] {
        Node::Dict(items) => items.iter().any(|&(key, value)| {
            matches!(
                (&system.nodes[key], &system.nodes[value]),
                (Node::Text("little_endian"), Node::Bool(true))
            )
        }),
        _ => false,
    };
    if !little {
        invalid!(
            "{label} was written on a big-endian machine or is damaged; convert it there to safetensors"
        );
    }
    let pickle = next()?;
    let keys = next()?;
    let Node::Sequence(order) = &keys.nodes[keys.root] else {
        invalid!("{label}: the list of storages is missing; the file is damaged");
    };
    // What the pickle says of every storage: the data alone do not tell how wide their elements are.
    let mut widths = HashMap::new();
    for node in &pickle.nodes {
        if let Node::Persistent(id) = node
            && let Some(storage) = Storage::of(&pickle, *id)
        {
            widths.insert(storage.key, storage.dtype.bitsize() / 8);
        }
    }
    let mut storages = Storages::new();
    for &key in order {
        let Node::Text(key) = keys.nodes[key] else {
            invalid!("{label}: a storage has no name; the file is damaged");
        };
        let Some(width) = widths.get(key) else {
            invalid!("{label}: storage `{key}` is of a type that is not known; {ADVICE}");
        };
        let count =
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|count| u64::from_le_bytes(*count));
        let range = count.and_then(|count| {
            let begin = at + 8;
            let end = begin.checked_add(usize::try_from(count).ok()?.checked_mul(*width)?)?;
            (end <= bytes.len()).then_some(begin..end)
        });
        let Some(range) = range else {
            invalid!("{label} is truncated: storage `{key}` begins at byte {at} of {}", bytes.len());
        };
        at = range.end;
        storages.insert(key.to_owned(), range);
    }
    parts(&pickle, &storages, label)
}

/// A storage as the pickle refers to it.
struct Storage<'a> {
    key: &'a str,
    dtype: Dtype,
}

impl<'a> Storage<'a> {
    /// `('storage', torch.FloatStorage, key, location, number of elements)`; in the older format a sixth entry may name a
    /// part of another storage, which nothing has written for years.
    fn of(pickle: &Pickle<'a>, id: Id) -> Option<Self> {
        let Node::Sequence(items) = &pickle.nodes[id] else { return None };
        let &[tag, class, key, ..] = &items[..] else { return None };
        match (&pickle.nodes[tag], &pickle.nodes[class], &pickle.nodes[key]) {
            (Node::Text("storage"), Node::Global(_, class), Node::Text(key)) => {
                let is_part = items.get(5).is_some_and(|&view| !matches!(pickle.nodes[view], Node::Other));
                (!is_part).then_some(Self { key, dtype: storage_type(class)? })
            }
            _ => None,
        }
    }
}

fn storage_type(class: &str) -> Option<Dtype> {
    Some(match class {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}

/// The tensors of the state dict in `pickle`, in the order of their data.
fn parts(pickle: &Pickle<'_>, storages: &Storages, label: &str) -> Result<Parts> {
    let dict = state_dict(pickle, label)?;
    // Of a key that is set twice the last value counts.
    let mut found: HashMap<&str, Id> = HashMap::new();
    for &(key, value) in dict {
        if let Node::Text(name) = pickle.nodes[key]
            && tensor_arguments(pickle, value).is_some()
        {
            found.insert(name, value);
        }
    }
    let mut prefix = "";
    for candidate in PREFIXES {
        if found.keys().all(|name| name.starts_with(candidate)) {
            prefix = candidate;
        }
    }
    let mut tensors = Vec::with_capacity(found.len());
    for (name, value) in found {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        tensors.push(tensor(pickle, value, storages, name, label)?);
    }
    tensors.sort_by(|a, b| (a.range.start, &a.name).cmp(&(b.range.start, &b.name)));
    Ok(Parts { tensors, ..Parts::default() })
}

/// The dictionary from names to tensors: the whole pickle, or one within it that is named as usual or the only one.
fn state_dict<'a>(pickle: &'a Pickle<'_>, label: &str) -> Result<&'a Vec<(Id, Id)>> {
    let holds_tensors =
        |dict: &Vec<(Id, Id)>| dict.iter().any(|&(_, value)| tensor_arguments(pickle, value).is_some());
    let dict = match &pickle.nodes[pickle.root] {
        Node::Dict(dict) => dict,
        Node::Object { callable, .. } => match pickle.nodes[*callable] {
            Node::Global(module, class) => {
                invalid!("{label} holds an object of the class {module}.{class}; {ADVICE}")
            }
            _ => invalid!("{label} holds an object and no state dict; {ADVICE}"),
        },
        _ => invalid!("{label} holds no dictionary of tensors; {ADVICE}"),
    };
    if holds_tensors(dict) {
        return Ok(dict);
    }
    let mut nested: Vec<(&str, &Vec<(Id, Id)>)> = Vec::new();
    for &(key, value) in dict {
        if let (Node::Text(key), Node::Dict(inner)) = (&pickle.nodes[key], &pickle.nodes[value])
            && holds_tensors(inner)
        {
            nested.push((key, inner));
        }
    }
    let named = WRAPPERS.iter().find_map(|wrapper| nested.iter().find(|(key, _)| key == wrapper));
    match (named, &nested[..]) {
        (Some((_, inner)), _) | (None, [(_, inner)]) => Ok(inner),
        (None, []) => invalid!("{label} holds no tensors; {ADVICE}"),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|(key, _)| *key).collect();
            invalid!("{label} holds tensors under {}; save the one you mean by itself", names.join(", "))
        }
    }
}

/// The arguments of the call that rebuilds the tensor `id`, if it is one; a parameter is the tensor within it.
fn tensor_arguments<'a>(pickle: &'a Pickle<'_>, mut id: Id) -> Option<&'a [Id]> {
    for _ in 0..3 {
        let Node::Object { callable, arguments } = pickle.nodes[id] else { return None };
        let Node::Sequence(arguments) = &pickle.nodes[arguments] else { return None };
        match pickle.nodes[callable] {
            Node::Global("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => return Some(arguments),
            Node::Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | Node::Global("torch.nn.parameter", "Parameter") => id = *arguments.first()?,
            _ => return None,
        }
    }
    None
}

fn tensor(pickle: &Pickle<'_>, id: Id, storages: &Storages, name: &str, label: &str) -> Result<TensorInfo> {
    let damaged =
        |what: &str| Error::Invalid(format!("{label}: tensor `{name}`: {what}; the file is damaged"));
    let arguments = tensor_arguments(pickle, id).unwrap_or_default();
    let &[storage, offset, size, stride, ..] = arguments else {
        return Err(damaged("it is described by fewer than four values"));
    };
    let Node::Persistent(storage) = pickle.nodes[storage] else {
        return Err(damaged("it has no storage"));
    };
    let Some(storage) = Storage::of(pickle, storage) else {
        invalid!(
            "{label}: tensor `{name}` has a type that is not known or lies in a part of a storage; {ADVICE}"
        );
    };
    let Some(data) = storages.get(storage.key) else {
        return Err(damaged(&format!("storage `{}` is missing", storage.key)));
    };
    let number = |id: Id| match pickle.nodes[id] {
        Node::Int(number) => usize::try_from(number).ok(),
        _ => None,
    };
    let numbers = |id: Id| match &pickle.nodes[id] {
        Node::Sequence(items) => items.iter().map(|&item| number(item)).collect::<Option<Vec<usize>>>(),
        _ => None,
    };
    let (Some(offset), Some(shape), Some(strides)) = (number(offset), numbers(size), numbers(stride)) else {
        return Err(damaged("offset, size or stride is no number of 0 or more"));
    };
    if shape.len() != strides.len() {
        return Err(damaged(&format!("size {shape:?} and stride {strides:?} differ in length")));
    }
    let width = storage.dtype.bitsize() / 8;
    let stored = data.len() / width;
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    // One past the last element that is read.
    let end = match count {
        Some(0) => Some(offset),
        _ => shape.iter().zip(&strides).try_fold(offset, |end, (&size, &stride)| {
            end.checked_add((size.saturating_sub(1)).checked_mul(stride)?)
        }),
    };
    let end = end.and_then(|end| end.checked_add(usize::from(count != Some(0))));
    let (Some(count), Some(end)) = (count, end.filter(|&end| end <= stored)) else {
        return Err(damaged(&format!(
            "size {shape:?}, stride {strides:?} and offset {offset} reach past the {stored} elements of its storage"
        )));
    };
    if count > stored {
        invalid!(
            "{label}: tensor `{name}` of size {shape:?} is an expanded view of {stored} elements; save a copy of it \
             (tensor.contiguous())"
        );
    }
    let order = if is_contiguous(&shape, &strides) { Order::Whole } else { Order::Strided(strides) };
    let range = data.start + offset * width..data.start + end * width;
    Ok(TensorInfo {
        name: name.to_owned(),
        element: Element::Plain(storage.dtype),
        shape,
        source: 0,
        range,
        order,
    })
}

/// Whether elements lie in the order of the shape; dimensions of size 1 have any stride.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size <= 1 || stride == step;
        // Sizes of an empty tensor may be anything.
        step = size.max(1).saturating_mul(step);
        fits
    })
}
