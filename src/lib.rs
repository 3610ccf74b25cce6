//! anybit runs, measures, searches and validates low-bit neural networks on any Vulkan, Metal or DX12 GPU.
//!
//! One idea holds it together: **the format that is chosen, the file that is written and the kernel that runs are
//! the same thing.** A weight is rounded once, on the host, to packed words ([`mod@format`]); the same words lie in
//! the file and on the device, where a WGSL fragment of the format decodes them inside the kernel. Nothing is
//! simulated in float, and a CPU reference checks every kernel, every node of a model and whole models.
//!
//! # From text to tokens
//!
//! ```no_run
//! use std::sync::Arc;
//! use anybit::engine::{Resident, SessionOptions};
//! use anybit::gpu::{Gpu, OpenOptions};
//! use anybit::graph::Assignment;
//! use anybit::model::Model;
//! use anybit::run::{GenerationOptions, Next, Runner, generate};
//!
//! # fn main() -> anybit::Result<()> {
//! let model = Model::embedded()?;
//! let graph = Arc::new(model.graph().clone());
//! let assignment = Assignment::uniform(&graph, &model.native_formats(), "int4(group=32)".parse()?);
//! let mut resident = Resident::new(Arc::new(Gpu::open(OpenOptions::default())?), None);
//! let options = SessionOptions { sequences: 1, context: graph.context, fused: true, keep: false };
//! let mut runner = Runner::gpu(&mut resident, graph.clone(), &model, &assignment, options)?;
//! let options = GenerationOptions {
//!     max_tokens: 40,
//!     context: graph.context,
//!     eos: model.eos(),
//!     ..GenerationOptions::default()
//! };
//! let report = generate(&mut runner, &[model.encode_prompt("ROMEO:\n")?], &options, |_| Ok(Next::Go))?;
//! println!("{:?}", report.tokens);
//! # Ok(())
//! # }
//! ```
//!
//! # Architecture
//!
//! | module | holds | may import |
//! |---|---|---|
//! | [`error`] | the one error type: *invalid* (the caller erred) or *unavailable* (this machine cannot) | |
//! | [`mod@format`] | numeric formats: text form, encode, decode, layouts, bits per weight, activations, what they can hold; the quantizers of the original programs; pure | `error` |
//! | [`graph`] | ops, shapes, the model as a list of nodes; which layer has which format; pure | `format` |
//! | [`mod@reference`] | CPU truth for every op, an executor, comparison | `format`, `graph` |
//! | [`shader`] | the table of kernels, format fragments and epilogues; the linker; partitions; text only | `format`, `graph` |
//! | [`gpu`] | adapters, buffers, textures of code words of W and x, pipelines, recordings, x in uniform windows, measured tiles: the only user of wgpu | `shader` |
//! | [`engine`] | resident weights, fusion, plans, sessions, trials, losses reduced on the device | `gpu`, `shader`, `graph`, `format` |
//! | [`model`] | checkpoints, packed files, the hub, model families, tokenizer, sampling, labelled texts | `graph`, `format` |
//! | [`run`] | one interface over engine and reference; the generation loop, examples as batches | `engine`, `reference`, `model`, `graph` |
//! | [`eval`] | loss, perplexity, accuracy, divergence, agreement, noise of weights, memory accounting | `run`, `model`, `graph`, `format` |
//! | [`cases`] | *the* case table: every kernel x formats x shapes x tolerance; model verification | all above |
//! | [`mod@bench`] | times of kernels, attention, models and pipelines on what the engine runs; ceilings; comparison of results | `cases`, `eval`, `run`, `model`, `engine`, `gpu`, `shader`, `reference`, `graph`, `format` |
//! | [`search`] | spaces of assignments, samplers, evaluators, the journal, reports | `eval`, `run`, `engine`, `gpu`, `model`, `graph`, `format` |
//! | `cli` (program) | the verbs; the only user of clap, anyhow and progress bars | all above |
//!
//! ## How a kernel comes to be
//! Formats, kernels and epilogues add up, they do not multiply: a shader module is a concatenation of
//! `constants + bindings + contract + format + epilogue + kernel + entry` ([`shader::link`]), and `shaders/README.md`
//! is the contract between the pieces. Many formats share few ways of storing codes and scales ([`format::Scheme`]); an
//! element-wise format of at most 8 bits is a table of values that the device reads, computed on the CPU by its
//! definition, and the rounding of activations is a table of steps. A format hands out *chunks* of 32 weights of one row,
//! as integer codes with a scale or as floats; kernels are written against that. Fused and naive are plans, not shaders: naive runs
//! `dequantize` into a scratch buffer and then the same GEMM on f32.
//!
//! ## How a model runs
//! A model family builds a [`graph::Graph`] once. The [`reference::Executor`] walks it on the CPU; an
//! [`engine::Session`] lowers it, per batch shape, to a recording of dispatches over weights that
//! [`engine::Resident`] keeps on the device, keyed by (tensor, format) and uploaded once. Every value is a matrix
//! with one row per token; sequences of a batch stand one after another (ragged), each token carries its KV-cache
//! slot and position, so prefill, decode and evaluation are the same code. Rows are padded with zeros to whole
//! chunks, so kernels load vectors without guards; matrices over the binding limit are split by rows, dispatches
//! over 65,535 workgroups are folded into two dimensions.
//!
//! ## How a search runs
//! A [`search::Space`] says which layers choose among which formats; a point of it is an assignment. Every variant is
//! packed once ([`search::Packer`], in parallel, kept on disk by content) and uploaded once. [`engine::Trials`] keeps the
//! value of every node of the graph in a buffer of its own and the dispatches of every (step, format) recorded, so a
//! trial is a list of recordings: it uploads nothing, steps whose format and inputs are those of the trial before are
//! not run again, values that end a block are kept aside for later trials that begin alike, and four sums per batch come
//! back. Samplers are pure functions of the problem, the trials before and
//! the number of the next one; [`search::Study`] has them propose batches and records every trial in a journal
//! ([`search::journal`]) before the next ones begin. So a study that was killed goes on as if it had not been, and what
//! an additive model or a knapsack proposes is always measured jointly before it counts.
//!
//! ## What is exact and what is not
//! Decoding and i32 accumulators are bit-exact between device and CPU. Single f32 ops stay within an NMSE of 1e-12
//! of an f64 reference. Activations in element formats are rounded exactly as on the CPU ([`format::steps`]); those with
//! real scales (`int`, `torch_dynamic`) may differ by one code where a value lies on a rounding tie, because WGSL allows
//! division an error of 2.5 ulp.

pub mod bench;
pub mod cases;
pub mod engine;
pub mod error;
pub mod eval;
pub mod format;
pub mod gpu;
pub mod graph;
pub mod model;
pub mod reference;
pub mod run;
pub mod search;
pub mod shader;

pub use error::{Error, Result};
