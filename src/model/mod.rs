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
use serde_json::Value;
use std::path::{Path, PathBuf};

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

/// The JSON files of a model folder.
#[derive(Debug, Default)]
struct Texts {
    config: String,
    generation: Option<String>,
    tokenizer: Option<String>,
    tokenizer_config: Option<String>,
    chat_template: Option<String>,
    /// The file that the tokenizer is from, where it is one of its own.
    tokenizer_file: Option<PathBuf>,
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
        let (task, build) = family(&config)?;
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

    /// Metadata that make a packed file a model.
    fn texts(&self) -> Vec<(String, String)> {
        let Texts { config, generation, tokenizer, tokenizer_config, chat_template, .. } = &self.texts;
        let mut texts = vec![("anybit.config".to_owned(), config.clone())];
        let optional = [
            ("anybit.generation_config", generation),
            ("anybit.tokenizer", tokenizer),
            ("anybit.tokenizer_config", tokenizer_config),
            ("anybit.chat_template", chat_template),
        ];
        for (key, text) in optional {
            texts.extend(text.iter().map(|text| (key.to_owned(), text.clone())));
        }
        texts
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

/// Builds the graph of a family.
type Build = fn(&Config, &Reader) -> Result<Graph>;

/// What `architectures` of a config.json may name, the `model_type` that stands for it where it is missing, what the
/// model is for, and what builds its graph.
const FAMILIES: [(&str, Option<&str>, Task, Build); 10] = [
    ("LlamaForCausalLM", Some("llama"), Task::Generation, llama::llama),
    ("MistralForCausalLM", Some("mistral"), Task::Generation, llama::mistral),
    ("Qwen2ForCausalLM", Some("qwen2"), Task::Generation, llama::qwen2),
    ("Qwen3ForCausalLM", Some("qwen3"), Task::Generation, llama::qwen3),
    ("SmolLM3ForCausalLM", Some("smollm3"), Task::Generation, llama::smollm3),
    ("GPT2LMHeadModel", Some("gpt2"), Task::Generation, gpt2::graph),
    ("BertForSequenceClassification", None, Task::Classification, |config, reader| {
        bert::graph(config, reader, Task::Classification, None)
    }),
    ("BertForMaskedLM", None, Task::MaskedText, |config, reader| {
        bert::graph(config, reader, Task::MaskedText, None)
    }),
    ("BertModel", Some("bert"), Task::Encoding, |config, reader| {
        bert::graph(config, reader, Task::Encoding, None)
    }),
    ("BigNet", None, Task::Rows, bignet::graph),
];

/// The class that a config names, or else its kind of model.
pub(crate) fn architecture_name(config: &Value) -> Option<String> {
    let stated = config["architectures"].as_array().and_then(|list| list.first()?.as_str());
    stated.or_else(|| config["model_type"].as_str()).map(str::to_owned)
}

fn family(config: &Config) -> Result<(Task, Build)> {
    let first = |value: &Value| value.as_array().and_then(|list| list.first()?.as_str().map(str::to_owned));
    let stated = config.get("architectures").and_then(first);
    let model_type = config.get("model_type").and_then(Value::as_str);
    let is_meant = |(architecture, of_type, ..): &&(&str, Option<&str>, Task, Build)| match &stated {
        Some(stated) => stated == architecture,
        None => model_type.is_some() && model_type == *of_type,
    };
    match FAMILIES.iter().find(is_meant) {
        Some((_, _, task, build)) => Ok((*task, *build)),
        None => invalid!(
            "{}: architecture {} is not supported; supported are {}",
            config.label(),
            stated.as_deref().or(model_type).unwrap_or("missing"),
            FAMILIES.map(|(architecture, ..)| architecture).join(", ")
        ),
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

/// Names of the weights of a folder, in the order in which they are looked for.
const WEIGHT_FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Endings of files that may hold weights under another name.
const WEIGHT_ENDINGS: [&str; 4] = ["safetensors", "bin", "pt", "pth"];

/// The file with the weights of a model folder, see [`Model::load`].
fn weights_of(folder: &Path) -> Result<PathBuf> {
    if let Some(path) = WEIGHT_FILES.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        return Ok(path);
    }
    let io = |source| Error::io("cannot read", folder, source);
    let mut others = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.file_name().is_some_and(|name| is_other_weights(&name.to_string_lossy())) {
            others.push(path);
        }
    }
    others.sort();
    match &others[..] {
        [only] => Ok(only.clone()),
        [] => invalid!(
            "{} has no weights; want one of {}, or one file that ends in .{}",
            folder.display(),
            WEIGHT_FILES.join(", "),
            WEIGHT_ENDINGS.join(", .")
        ),
        several => {
            let names = several.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
            invalid!(
                "{} has several files with weights ({}) and none is named {}; name the right one so",
                folder.display(),
                names.collect::<Vec<_>>().join(", "),
                WEIGHT_FILES[0]
            )
        }
    }
}

/// Whether a file name is one that weights may have beside [`WEIGHT_FILES`].
fn is_other_weights(name: &str) -> bool {
    // What training programs leave beside the weights.
    let is_state = ["training_args", "optimizer", "scheduler", "rng_state", "tokenizer"]
        .iter()
        .any(|state| name.starts_with(state));
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    WEIGHT_ENDINGS.contains(&ending) && !is_state && !name.contains('/')
}

/// The text of a file, `None` where there is none.
fn read_text(path: &Path) -> Result<Option<String>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("cannot read", path, error)),
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => invalid!("{} is not UTF-8 text: {}", path.display(), error.utf8_error()),
    }
}

/// The transpose of a row-major `[rows, cols]` matrix.
pub(crate) fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for col in 0..cols {
        out.extend((0..rows).map(|row| values[row * cols + col]));
    }
    out
}
