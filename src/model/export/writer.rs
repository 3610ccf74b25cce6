//! Writing GGUF files, version 3, little-endian, one tensor in memory at a time.

use crate::error::{Result, invalid};
use crate::model::atomic::AtomicFile;
use crate::model::checkpoint::Element;
use crate::model::checkpoint::gguf::header::{ALIGNMENT, MAGIC, length, plain_id};
use std::path::Path;

/// A metadata entry.
pub(super) struct Entry {
    key: String,
    item: Item,
}

impl Entry {
    pub(super) fn new(key: &str, item: Item) -> Self {
        Self { key: key.to_owned(), item }
    }
}

/// A value of the metadata.
pub(super) enum Item {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

/// A GGUF file under construction; it appears at its path in [`GgufWriter::finish`], complete. Tensors follow in the
/// order in which they were planned, and say what they are stored as only then: the header, whose length does not
/// depend on that, is written last.
pub(super) struct GgufWriter {
    file: AtomicFile,
    metadata: Vec<Entry>,
    /// Names and shapes, outermost dimension first.
    planned: Vec<(String, Vec<usize>)>,
    /// Number of the type and offset of every tensor that was written.
    written: Vec<(u32, u64)>,
    /// Where the data begin.
    start: u64,
    /// Bytes of data so far, padding included.
    bytes: u64,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn value(out: &mut Vec<u8>, item: &Item) {
    let array = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match item {
        Item::U32(value) => {
            out.extend(4u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Item::F32(value) => {
            out.extend(6u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Item::Bool(value) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*value));
        }
        Item::Text(value) => {
            out.extend(8u32.to_le_bytes());
            text(out, value);
        }
        Item::Texts(values) => {
            array(out, 8, values.len());
            values.iter().for_each(|value| text(out, value));
        }
        Item::I32s(values) => {
            array(out, 5, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Item::F32s(values) => {
            array(out, 6, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

impl GgufWriter {
    /// Starts the file `path`.
    pub(super) fn create(
        path: &Path,
        metadata: Vec<Entry>,
        planned: Vec<(String, Vec<usize>)>,
    ) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let mut writer = Self { file, metadata, planned, written: Vec::new(), start: 0, bytes: 0 };
        writer.start = writer.header().len() as u64;
        Ok(writer)
    }

    /// The header, with zeros for what is not known yet.
    fn header(&self) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((self.planned.len() as u64).to_le_bytes());
        header.extend((self.metadata.len() as u64).to_le_bytes());
        for entry in &self.metadata {
            text(&mut header, &entry.key);
            value(&mut header, &entry.item);
        }
        for (index, (name, shape)) in self.planned.iter().enumerate() {
            let (kind, offset) = self.written.get(index).copied().unwrap_or_default();
            text(&mut header, name);
            header.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|&size| header.extend((size as u64).to_le_bytes()));
            header.extend(kind.to_le_bytes());
            header.extend(offset.to_le_bytes());
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        header
    }

    /// Writes the tensor that is next in the plan.
    pub(super) fn write(&mut self, element: Element, bytes: &[u8]) -> Result<()> {
        let Some((name, shape)) = self.planned.get(self.written.len()) else {
            invalid!("{} tensors were planned and one more is written", self.planned.len());
        };
        let kind = match element {
            Element::Plain(dtype) => plain_id(dtype),
            Element::Ggml(kind) => Some(kind.ggml_id()),
        };
        let Some(kind) = kind.filter(|_| length(shape, element) == Some(bytes.len())) else {
            invalid!(
                "tensor `{name}` of type {element} and shape {shape:?} does not have {} bytes",
                bytes.len()
            );
        };
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.file.write_at(self.start + self.bytes, bytes)?;
        self.file.write_at(self.start + self.bytes + bytes.len() as u64, &[0; ALIGNMENT][..padding])?;
        self.written.push((kind, self.bytes));
        self.bytes += (bytes.len() + padding) as u64;
        Ok(())
    }

    /// Puts the file in place and returns its size in bytes.
    pub(super) fn finish(mut self) -> Result<u64> {
        if self.written.len() != self.planned.len() {
            invalid!("{} tensors were planned, {} written", self.planned.len(), self.written.len());
        }
        let header = self.header();
        self.file.write_at(0, &header)?;
        self.file.finish()?;
        Ok(self.start + self.bytes)
    }
}
