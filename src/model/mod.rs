//! Checkpoints: reading and writing them, their graphs, tokenizers, sampling and evaluation windows.
//!
//! [`Model::load`] turns a Hugging Face folder or a packed file into a [`Graph`] and a source of
//! [`Weights`]. A model family is one file (`llama.rs`, `gpt2.rs`) that builds the graph from the config;
//! nothing a file claims is believed before it has been checked against what the file holds.
//!
//! # The packed file
//! A standard safetensors file, so that other programs can read it. A packed tensor `T` of `[rows, cols]` is stored as
//! * `T`: its codes, type U32, shape `[rows, words per row]`, or `[words]` where rows do not begin at
//!   words; formats without scales (f32, f16, bf16) in their own type and `[rows, cols]`, without padding;
//! * `T.scales`: its scales, shape `[rows, groups per row]`, or `[groups]` where groups cross rows. Type F32 or F16;
//!   U8 for exponents of two (E8M0 and its like); F16 with a last dimension of 2, minimum and scale, for `9in32`;
//!   U32 for `uint` (f16 scale, zero point << 16), and with a last dimension of 4 for ggml's `q4_k` and `q5_k`; U8
//!   with a last dimension of 18 for `q6_k`; for `nvfp4` U8 `[4 + groups]`, the f32 scale of the tensor first;
//! * `T.exceptions`: weights that are not what their code says, if there are any, U32 `[count, 3]`: row, column,
//!   binary32 bits.
//!
//! Everything else keeps name, type and bytes. `__metadata__` holds `format` = `anybit`, `anybit.version` = `1`,
//! and `anybit.tensors`, a JSON object from name to `format` (spec text), `shape` and `dtype` in the
//! checkpoint, and `transposed` = true where the checkpoint has `[cols, rows]`. Files of models also hold the JSON
//! texts `anybit.config`, `anybit.tokenizer` and `anybit.generation_config`, so that the file alone suffices.
//!
//! What the words of codes and scales mean is in the documentation of [`format`](mod@crate::format) and its modules.

pub mod atomic;
mod bert;
mod bignet;
mod builder;
pub mod chat;
mod checkpoint;
mod config;
mod config_keys;
mod dequantize;
pub mod embedded;
mod example;
mod export;
mod family;
mod folder;
mod gpt2;
pub mod hub;
pub mod labelled;
mod llama;
mod matrix_file;
mod quantize;
mod reader;
pub mod sampling;
mod stop;
mod strips;
mod task;
pub mod text;
mod tokenizer;
mod writer;

pub use checkpoint::{Dtype, Element, TensorFile, TensorInfo};
pub use dequantize::dequantize_file;
pub use example::{Example, TextTokens, Unit};
pub use export::{Exported, Report as ExportReport, export_folder, export_gguf};
pub use matrix_file::MatrixFile;
pub use quantize::{Matrix, Progress, Report, TensorReport, matrices, quantize_file, quantize_model};
pub use reader::{Entry, Reader};
pub use stop::StopText;
pub use task::{Encoding, Task};
pub use tokenizer::{TextStream, Tokenizer};
pub use writer::{Planned, Writer};

use crate::error::{Error, Result, invalid};
use crate::format::{Format, Packed, Spec};
use crate::graph::{Assignment, Graph, Role, Weight, WeightId, Weights};
use config::Config;
use folder::{Texts, read_text, weights_of};
use std::path::Path;

/// A model: graph, weights and, where the checkpoint has one, tokenizer.
#[derive(Debug)]
pub struct Model {
    name: String,
    task: Task,
    labels: Vec<String>,
    graph: Graph,
    reader: Reader,
    tokenizer: Option<Tokenizer>,
    texts: Texts,
    eos: Vec<u32>,
    bos: Option<u32>,
}

impl Model {
    /// Loads a Hugging Face folder (`config.json`, weights in f32, f16 or bf16, optionally a tokenizer and
    /// `generation_config.json`), or a file that says by itself what model it is: a packed file written by
    /// [`quantize_model`], GGUF, or llama2.c's `.bin`.
    ///
    /// The tokenizer of a folder is the first of `tokenizer.json`, `vocab.json` with `merges.txt` (GPT-2, Qwen2),
    /// `vocab.txt` (BERT) and `tokenizer.model` (SentencePiece BPE) that is there; that of a llama2.c file lies beside
    /// it as `tokenizer.json`, `tokenizer.bin` or the only `tok*.bin`.
    ///
    /// The weights of a folder are the first of `model.safetensors`, `model.safetensors.index.json`,
    /// `pytorch_model.bin` and `pytorch_model.bin.index.json` that is there, or else its only file that ends in
    /// `.safetensors`, `.bin`, `.pt` or `.pth`.
    ///
    /// All shapes and types are checked here; values when they are encoded.
    ///
    /// # Errors
    /// When a file is missing or corrupt, the architecture or one of its options is not supported, or
    /// tensors are missing or have other shapes than the config says.
    pub fn load(path: &Path) -> Result<Self> {
        let metadata = path.metadata().map_err(|source| Error::io("cannot read", path, source))?;
        if metadata.is_dir() {
            return Self::load_folder(path);
        }
        let reader = Reader::open(path)?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        if reader.file().metadata("anybit.config").is_some() {
            return Self::from_file(name, reader, path);
        }
        let label = reader.file().label();
        if let Some(reason) = reader.file().metadata(checkpoint::gguf::REFUSED) {
            return Err(Error::invalid(reason));
        }
        if reader.is_packed() {
            invalid!(
                "{label} holds packed tensors but no model: it was made from a file without config.json"
            );
        }
        invalid!("{label} is a plain tensor file; give the folder that also holds its config.json")
    }

    /// The model that is part of the program, see [`embedded`].
    ///
    /// # Errors
    /// When the build embedded damaged files.
    pub fn embedded() -> Result<Self> {
        let texts = Texts {
            config: embedded::CONFIG.to_owned(),
            generation: Some(embedded::GENERATION_CONFIG.to_owned()),
            tokenizer: Some(embedded::TOKENIZER.to_owned()),
            ..Texts::default()
        };
        let file = TensorFile::from_static(embedded::WEIGHTS, "embedded model")?;
        Self::new("shakespeare".to_owned(), Reader::new(file)?, texts, "embedded model")
    }

    fn load_folder(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let Some(config) = read_text(&path.join("config.json"))? else {
            invalid!("{label} has no config.json; want a Hugging Face model folder");
        };
        let weights = weights_of(path)?;
        let (tokenizer, tokenizer_file) = tokenizer::files::of_folder(path)?.unzip();
        let texts = Texts {
            config,
            generation: read_text(&path.join("generation_config.json"))?,
            tokenizer,
            tokenizer_config: read_text(&path.join("tokenizer_config.json"))?,
            chat_template: read_text(&path.join("chat_template.jinja"))?,
            tokenizer_file,
        };
        // `.` and `..` have no name of their own.
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = || resolved.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let name = hub::name_of_snapshot(&resolved).unwrap_or_else(folder);
        Self::new(name, Reader::open(&weights)?, texts, &label)
    }

    /// A file that holds its own config.
    fn from_file(name: String, reader: Reader, path: &Path) -> Result<Self> {
        let text = |key: &str| reader.file().metadata(key).map(str::to_owned);
        let (tokenizer, tokenizer_file) = match text("anybit.tokenizer") {
            Some(text) => (Some(text), None),
            None if reader.file().is_llama2c() => tokenizer::files::beside_llama2c(path)?.unzip(),
            None => (None, None),
        };
        let texts = Texts {
            config: text("anybit.config").unwrap_or_default(),
            generation: text("anybit.generation_config"),
            tokenizer,
            tokenizer_config: text("anybit.tokenizer_config"),
            chat_template: text("anybit.chat_template"),
            tokenizer_file,
        };
        let label = reader.file().label().to_owned();
        Self::new(name, reader, texts, &label)
    }

    fn new(name: String, reader: Reader, texts: Texts, label: &str) -> Result<Self> {
        let config = Config::parse(texts.config.as_bytes(), &format!("{label}: config.json"))?;
        let (task, build) = family::family(&config)?;
        let graph = build(&config, &reader)?;
        let labels = match task {
            Task::Classification => task::labels(&config, graph.output_width())?,
            _ => Vec::new(),
        };
        for weight in &graph.weights {
            check_packed(&reader, weight)?;
        }
        let tokenizer = match &texts.tokenizer {
            Some(text) => {
                let file = texts.tokenizer_file.as_ref().map(|file| file.display().to_string());
                let label = file.unwrap_or_else(|| format!("{label}: tokenizer.json"));
                Some(Tokenizer::parse(text.as_bytes(), &label)?)
            }
            None => None,
        };
        let mut eos = config.token_ids("eos_token_id")?;
        if let Some(text) = &texts.generation {
            let generation = Config::parse(text.as_bytes(), &format!("{label}: generation_config.json"))?;
            let ids = generation.token_ids("eos_token_id")?;
            eos = if ids.is_empty() { eos } else { ids };
        }
        // An id outside the vocabulary can be neither fed nor generated.
        let in_vocabulary = |id: &u32| (*id as usize) < graph.token_count();
        eos.retain(in_vocabulary);
        let bos = config.token_ids("bos_token_id")?.first().copied().filter(in_vocabulary);
        config.refuse_unread()?;
        Ok(Self { name, task, labels, graph, reader, tokenizer, texts, eos, bos })
    }

    /// Name of the folder or file, for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is computed.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The tokenizer, if the checkpoint has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The file with the weights.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Identifies config, tokenizer and weights: a hash (BLAKE3) of their bytes, in hexadecimal digits.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.texts.config.as_bytes());
        hasher.update(self.texts.tokenizer.as_deref().unwrap_or_default().as_bytes());
        let file = self.reader.file();
        for tensor in file.tensors() {
            hasher.update(tensor.name.as_bytes()).update(&(tensor.byte_len() as u64).to_le_bytes());
            let hashed = file.for_each_piece(tensor, &mut |_, piece| {
                hasher.update(piece);
                Ok(())
            });
            debug_assert!(hashed.is_ok(), "hashing does not fail");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Token ids that end a text.
    pub fn eos(&self) -> Vec<u32> {
        self.eos.clone()
    }

    /// Token id that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The ids of a prompt, with the special tokens the tokenizer puts before a text.
    ///
    /// # Errors
    /// When there is no tokenizer, or it yields ids the model does not know.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        self.encode_with(&|tokenizer| tokenizer.encode_prompt(prompt))
    }

    fn encode_with(&self, encode: &dyn Fn(&Tokenizer) -> Result<Vec<u32>>) -> Result<Vec<u32>> {
        let Some(tokenizer) = &self.tokenizer else {
            invalid!("model `{}` has no tokenizer.json, so it cannot read text", self.name);
        };
        let ids = encode(tokenizer)?;
        self.check_ids(&ids)?;
        Ok(ids)
    }

    /// How the model wants a conversation written; `None` where the checkpoint does not say.
    ///
    /// # Errors
    /// When the template is not valid.
    pub fn chat_template(&self) -> Result<Option<chat::ChatTemplate>> {
        let Texts { tokenizer_config, chat_template, .. } = &self.texts;
        chat::ChatTemplate::of(tokenizer_config.as_deref(), chat_template.as_deref(), &self.name)
    }

    /// The ids of a conversation that `template` wrote, with the special tokens that it wrote and no others, and the
    /// ids that end a reply.
    ///
    /// # Errors
    /// As [`Model::encode_prompt`].
    pub fn encode_chat(
        &self,
        template: &chat::ChatTemplate,
        messages: &[chat::Message],
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let text = template.render(messages)?;
        let ids = self.encode_with(&|tokenizer| tokenizer.encode(&text))?;
        let mut ends = self.eos();
        let tokenizer = self.tokenizer.as_ref();
        ends.extend(template.turn_ends().iter().filter_map(|end| tokenizer?.token_id(end)));
        ends.sort_unstable();
        ends.dedup();
        Ok((ids, ends))
    }

    /// Format of every weight in the file: the checkpoint's type for matrices, f32 for vectors; in packed
    /// files the stored format.
    pub fn native_formats(&self) -> Vec<Format> {
        self.graph.weights.iter().map(|weight| self.stored_spec(weight).weight).collect()
    }

    /// Whether config and tokenizer are those of the embedded model: a packed file made from it.
    pub fn is_made_from_embedded(&self) -> bool {
        self.texts.config == embedded::CONFIG && self.texts.tokenizer.as_deref() == Some(embedded::TOKENIZER)
    }

    /// The assignment a packed file was written with; `None` for a checkpoint.
    pub fn stored_assignment(&self) -> Option<Assignment> {
        let specs = || self.graph.weights.iter().map(|weight| self.stored_spec(weight)).collect();
        self.reader.is_packed().then(|| Assignment { specs: specs() })
    }

    fn stored_spec(&self, weight: &Weight) -> Spec {
        if weight.role == Role::Vector {
            return Spec::from(Format::F32);
        }
        match self.reader.entry(&weight.tensor) {
            Some(entry) => entry.spec,
            None => Spec::from(match self.reader.shape(&weight.tensor) {
                Some((_, Element::Plain(Dtype::F16))) => Format::F16,
                Some((_, Element::Plain(Dtype::BF16))) => Format::Bf16,
                _ => Format::F32,
            }),
        }
    }

    /// The text of its `config.json`.
    pub(crate) fn config_text(&self) -> &str {
        &self.texts.config
    }

    /// The text of its `tokenizer.json`.
    pub(crate) fn tokenizer_text(&self) -> Option<&str> {
        self.texts.tokenizer.as_deref()
    }

    /// The text of its `generation_config.json`.
    pub(crate) fn generation_text(&self) -> Option<&str> {
        self.texts.generation.as_deref()
    }

    fn tensor(&self, weight: WeightId) -> Result<(&Weight, &TensorInfo)> {
        let Some(weight) = self.graph.weights.get(weight) else {
            invalid!(
                "model `{}` has {} weights, asked for number {weight}",
                self.name,
                self.graph.weights.len()
            );
        };
        match self.reader.file().get(&weight.tensor) {
            Some(tensor) => Ok((weight, tensor)),
            None => invalid!("{}: tensor `{}` is missing", self.reader.file().label(), weight.tensor),
        }
    }
}

impl Weights for Model {
    fn packed(&self, weight: WeightId, format: Format) -> Result<Packed> {
        let (weight, tensor) = self.tensor(weight)?;
        let mut stored_transposed = weight.transposed;
        if let Some(entry) = self.reader.entry(&weight.tensor) {
            let stored = entry.spec.weight;
            if stored == format {
                return self.reader.packed(entry);
            }
            if reader::natural(stored).is_none() {
                let label = self.reader.file().label();
                return Err(strips::packed_already(label, &weight.tensor, &stored.to_string(), format));
            }
            stored_transposed = false;
        }
        let job = strips::Job {
            spec: format.into(),
            rows: weight.rows,
            cols: weight.cols,
            transposed: stored_transposed,
        };
        let (packed, overflows) = strips::pack(self.reader.file(), tensor, &job)?;
        if overflows > 0 {
            invalid!(
                "{}: tensor `{}`: {overflows} groups have values too large for a scale of {format}; use a format \
                 with f32 or power-of-two scales for it, such as int8(scale=row) or mxint8",
                self.reader.file().label(),
                weight.tensor
            );
        }
        Ok(packed)
    }

    fn vector(&self, weight: WeightId) -> Result<Vec<f32>> {
        let (_, tensor) = self.tensor(weight)?;
        self.reader.file().widen_finite(tensor)
    }
}

/// A packed entry must have the orientation and, as vectors stay f32, the kind its weight has.
fn check_packed(reader: &Reader, weight: &Weight) -> Result<()> {
    let Some(entry) = reader.entry(&weight.tensor) else { return Ok(()) };
    if weight.role == Role::Vector || (entry.rows, entry.cols) != (weight.rows, weight.cols) {
        invalid!(
            "{}: tensor `{}` is packed as {} x {}, the model wants {} x {}{}",
            reader.file().label(),
            weight.tensor,
            entry.rows,
            entry.cols,
            weight.rows,
            weight.cols,
            if weight.role == Role::Vector { " unpacked" } else { "" }
        );
    }
    if weight.role == Role::Embedding && entry.spec.activation.is_some() {
        invalid!(
            "{}: embedding `{}` has the spec {}; a lookup has no activations to quantize",
            reader.file().label(),
            weight.tensor,
            entry.spec
        );
    }
    Ok(())
}

/// The transpose of a row-major `[rows, cols]` matrix.
pub(crate) fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for col in 0..cols {
        out.extend((0..rows).map(|row| values[row * cols + col]));
    }
    out
}
