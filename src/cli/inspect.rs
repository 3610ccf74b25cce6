//! `anybit inspect`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anybit::eval::{MemoryReport, TensorKind, TensorMemory, activation_bytes};
use anybit::format::{Format, Spec};
use anybit::model::{Model, Reader, Task, matrices};
use anyhow::{Result, bail};
use serde_json::json;

use super::columns::aligned;
use super::common::{FormatArgs, ModelArgs, bytes};
use super::explain::explain;
use super::hub;
use super::quantize::from_qconfig;
use super::unfit::{self, Finding};

/// Tensors a listing may have before equal layers are shown as one line.
const LONG: usize = 24;

/// Account for every byte of a model or tensor file
///
/// Lists what each tensor takes in codes, scales and padding, then the totals, the KV cache and the activations, and
/// says why the ratio to f32 is not simply bits/32.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  anybit inspect --format \"int4(group=128)\"
  anybit inspect --model packed.safetensors
  anybit inspect --model ./llama --format base11 --context 4096 --sequences 8 --json")]
pub(crate) struct Args {
    /// Model folder, file written by `quantize`, or any .safetensors file [default: the embedded model]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Account for it in this format (as `quantize` would pack it) [default: as it is stored]
    #[arg(long, value_name = "SPEC", conflicts_with = "qconfig")]
    format: Option<Spec>,
    /// JSON file from layer or tensor name (or a pattern with *) to spec
    #[arg(long, value_name = "FILE")]
    qconfig: Option<PathBuf>,
    /// Tokens per KV cache [default: the model's context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Sequences that run together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sequences: u32,
    /// Every tensor on a line of its own, however many there are
    #[arg(long)]
    all: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What is accounted for.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) memory: MemoryReport,
    /// Sequences and tokens per sequence; `None` where there is no model to run.
    pub(crate) run: Option<(usize, usize)>,
    /// Activation bytes of a step of one token per sequence.
    pub(crate) decode_bytes: u64,
    /// Whether it goes on with a text token by token; a pass over an encoder or over rows of numbers is all there is.
    pub(crate) decodes: bool,
    /// Formats that cannot hold what they are meant for.
    pub(crate) findings: Vec<Finding>,
}

pub(crate) fn run(mut args: Args) -> Result<bool> {
    hub::localize(&mut args.model)?;
    let args = &args;
    let subject = match &args.model {
        Some(path) if !path.is_dir() => {
            let reader = Reader::open(path)?;
            match reader.file().metadata("anybit.config") {
                Some(_) => model(args)?,
                _ => tensors(args, path, &reader)?,
            }
        }
        _ => model(args)?,
    };
    let text = explain(&subject);
    for warning in unfit::lines(&subject.findings, args.all) {
        eprintln!("WARNING: {warning}");
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut json = serde_json::to_value(&subject.memory)?;
        let sum = |f: fn(&TensorMemory) -> u64| subject.memory.tensors.iter().map(f).sum::<u64>();
        let (codes, scales, padding) = (sum(|t| t.code_bits), sum(|t| t.scale_bits), sum(|t| t.padding_bits));
        json["totals"] = json!({
            "weights": sum(TensorMemory::weights), "code_bits": codes, "scale_bits": scales,
            "padding_bits": padding, "unquantized_bytes": sum(|t| if t.quantized { 0 } else { t.bytes }),
        });
        json["model"] = json!(subject.name);
        json["ratio"] = json!(subject.memory.bytes as f64 / subject.memory.f32_bytes.max(1) as f64);
        json["sequences"] = json!(subject.run.map(|run| run.0));
        json["context"] = json!(subject.run.map(|run| run.1));
        json["decode_activation_bytes"] = json!(subject.decode_bytes);
        json["explanation"] = json!(text);
        json["warnings"] = unfit::json(&subject.findings);
        writeln!(out, "{json}")?;
        return Ok(true);
    }
    writeln!(out, "{}", subject.name)?;
    table(&mut out, &subject.memory, args.all)?;
    if let Some((sequences, context)) = subject.run {
        let many = if sequences == 1 { "1 sequence".to_owned() } else { format!("{sequences} sequences") };
        writeln!(
            out,
            "KV cache: {} (f32, {many} of {context} tokens)",
            bytes(subject.memory.kv_cache_bytes)
        )?;
        let activations = bytes(subject.memory.activation_bytes);
        match subject.decodes {
            true => writeln!(
                out,
                "activations: {activations} for a prefill of all of them, {} for a decode step (f32)",
                bytes(subject.decode_bytes)
            )?,
            false => writeln!(out, "activations: {activations} for a pass over all of them (f32)")?,
        }
    }
    writeln!(out, "\n{text}")?;
    Ok(true)
}

fn model(args: &Args) -> Result<Subject> {
    let model = ModelArgs { model: args.model.clone() }.load()?;
    let graph = model.graph();
    let context = args.context.map_or(graph.context, |context| context as usize);
    if context > graph.context {
        bail!(
            "--context {context}: model {} has positions for {} tokens at most",
            model.name(),
            graph.context
        );
    }
    let sequences = args.sequences as usize;
    let is_asked = args.format.is_some() || args.qconfig.is_some();
    let assignment = if !is_asked && model.stored_assignment().is_none() {
        anybit::graph::Assignment::native(graph, &model.native_formats())
    } else {
        refuse_repacking(&model, args)?;
        let format = FormatArgs { format: args.format, qconfig: args.qconfig.clone() };
        format.assignment(&model, Spec::from(Format::F32))?
    };
    let tokens = sequences.saturating_mul(context);
    Ok(Subject {
        name: format!("model {}", model.name()),
        memory: MemoryReport::new(graph, &assignment, sequences, context, tokens)?,
        run: Some((sequences, context)),
        decode_bytes: activation_bytes(graph, sequences, sequences),
        decodes: model.task() == Task::Generation,
        // What is packed already has lost what it was.
        findings: if is_asked { unfit::of_model(&model, &assignment)? } else { Vec::new() },
    })
}

/// A packed file can only be shown as it is: other formats need the original weights.
fn refuse_repacking(model: &Model, args: &Args) -> Result<()> {
    if model.stored_assignment().is_some() && (args.format.is_some() || args.qconfig.is_some()) {
        bail!(
            "{} is packed already; leave out --format and --qconfig, or give the original checkpoint",
            model.reader().file().label()
        );
    }
    Ok(())
}

fn tensors(args: &Args, path: &Path, reader: &Reader) -> Result<Subject> {
    if args.context.is_some() {
        bail!("--context: {} holds tensors but no model that could run", path.display());
    }
    if reader.is_packed() && (args.format.is_some() || args.qconfig.is_some()) {
        bail!("{} is packed already; leave out --format and --qconfig", path.display());
    }
    let mut specs = match &args.qconfig {
        Some(qconfig) => from_qconfig(reader, false, qconfig)?,
        None => Default::default(),
    };
    if let Some(spec) = args.format {
        specs.extend(matrices(reader.file(), false).iter().map(|matrix| (matrix.name.to_owned(), spec)));
    }
    let mut all = Vec::new();
    for entry in reader.entries() {
        let (spec, format) = (entry.spec.to_string(), entry.spec.weight);
        all.push(TensorMemory::new(&entry.name, TensorKind::Other, spec, format, entry.rows, entry.cols)?);
    }
    for tensor in reader.unpacked() {
        let (rows, cols) = match tensor.shape.split_last() {
            Some((&cols, leading)) => (leading.iter().product(), cols),
            None => (1, 1),
        };
        let spec = specs.get(&tensor.name).filter(|_| tensor.element.is_readable_float());
        all.push(match spec {
            Some(spec) => {
                let in_tensor =
                    |error| anyhow::anyhow!("{}: tensor `{}`: {error}", path.display(), tensor.name);
                let (text, format) = (spec.to_string(), spec.weight);
                TensorMemory::new(&tensor.name, TensorKind::Other, text, format, rows, cols)
                    .map_err(in_tensor)?
            }
            None => {
                let dtype = tensor.element.to_string().to_lowercase();
                TensorMemory::raw(&tensor.name, dtype, rows, cols, tensor.byte_len() as u64)
            }
        });
    }
    Ok(Subject {
        name: format!("tensor file {}", path.display()),
        memory: MemoryReport::of_file(all),
        run: None,
        decode_bytes: 0,
        decodes: false,
        findings: unfit::of_file(reader, &specs)?,
    })
}

/// Tensors that differ only in the numbers within their names.
struct Line<'a> {
    name: String,
    first: &'a TensorMemory,
    count: u64,
}

fn lines(memory: &MemoryReport, all: bool) -> Vec<Line<'_>> {
    let mut lines: Vec<Line> = Vec::new();
    for tensor in &memory.tensors {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<_> =
            tensor.name.split('.').map(|part| if digits(part) { "*" } else { part }).collect();
        let name = if all || memory.tensors.len() <= LONG { tensor.name.clone() } else { parts.join(".") };
        let same = lines.iter_mut().find(|line| {
            let t = line.first;
            line.name == name && (t.rows, t.cols, &t.spec) == (tensor.rows, tensor.cols, &tensor.spec)
        });
        match same {
            Some(line) => line.count += 1,
            None => lines.push(Line { name, first: tensor, count: 1 }),
        }
    }
    for line in &mut lines {
        // A pattern of one is that tensor.
        if line.count == 1 {
            line.name = line.first.name.clone();
        }
    }
    lines
}

fn table(out: &mut impl std::io::Write, memory: &MemoryReport, all: bool) -> std::io::Result<()> {
    let head = ["tensor", "count", "shape", "format", "codes", "scales", "padding", "bytes", "bits/weight"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let size = |bits: u64| if bits.is_multiple_of(8) { bytes(bits / 8) } else { format!("{bits} bit") };
    for Line { name, first: t, count } in lines(memory, all) {
        rows.push(vec![
            name,
            count.to_string(),
            format!("{} x {}", t.rows, t.cols),
            t.spec.clone(),
            size(t.code_bits * count),
            size(t.scale_bits * count),
            size(t.padding_bits * count),
            bytes(t.bytes * count),
            format!("{:.4}", t.bits_per_weight()),
        ]);
    }
    let sum = |f: &dyn Fn(&TensorMemory) -> u64| memory.tensors.iter().map(f).sum::<u64>();
    rows.push(vec![
        "all".to_owned(),
        memory.tensors.len().to_string(),
        format!("{} weights", sum(&|t| t.weights())),
        format!("{} in f32", bytes(memory.f32_bytes)),
        size(sum(&|t| t.code_bits)),
        size(sum(&|t| t.scale_bits)),
        size(sum(&|t| t.padding_bits)),
        bytes(memory.bytes),
        format!("{:.4}", memory.model_bits_per_weight),
    ]);
    // Names and formats to the left, numbers to the right.
    out.write_all(aligned(&rows, &[0, 3]).as_bytes())
}
