//! `anybit quantize`

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anybit::Error;
use anybit::error::closest_names;
use anybit::format::Spec;
use anybit::graph::matches_pattern;
use anybit::model::{Matrix, Progress, Reader, Report, matrices, quantize_file, quantize_model};
use anyhow::{Context as _, Result, bail};
use clap::ArgGroup;
use serde_json::{Value, json};

use super::common::{FormatArgs, ModelArgs, bytes, progress};
use super::hub;

/// Pack weights to a self-describing .safetensors file
///
/// A model folder (or the embedded model) becomes one file with its config and tokenizer that `generate` and
/// `eval` take as --model; its block linears are packed, everything else keeps its type. In any other
/// .safetensors file every float matrix is packed (leading dimensions are rows). Tensor names are kept; the scales
/// of tensor T are stored as `T.scales`.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["format", "qconfig"])), after_help = "\
Examples:
  anybit quantize --format \"int4(group=128)\" --output shakespeare-int4.safetensors
  anybit quantize --model weights.safetensors --format base11 --output packed.safetensors
  anybit quantize --model ./llama --qconfig mix.json --output mix.safetensors
where mix.json is, for instance, {\"*\": \"int4(group=64)\", \"*.down_proj\": \"mxint8\"}")]
pub(crate) struct Args {
    /// Model folder, or any .safetensors file with f32, f16 or bf16 matrices [default: the embedded model]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Format of all block linears of a model, of all matrices of a tensor file
    #[arg(long, value_name = "SPEC")]
    format: Option<Spec>,
    /// JSON file from layer or tensor name (or a pattern with *) to spec; an integer N means qlinear(bits=N)
    #[arg(long, value_name = "FILE")]
    qconfig: Option<PathBuf>,
    /// The packed file; appears complete or not at all
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Pack vectors of a tensor file too, as matrices of one row
    #[arg(long)]
    vectors: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(mut args: Args) -> Result<bool> {
    hub::localize(&mut args.model)?;
    let args = &args;
    let (input, report) = match &args.model {
        Some(path) if !path.is_dir() && !is_model(path)? => {
            (path.display().to_string(), tensors(args, path)?)
        }
        _ => model(args)?,
    };
    let formats = by_format(&report);
    let warnings = warnings(&report);
    for warning in &warnings {
        eprintln!("WARNING: {warning}");
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let tensors: Vec<Value> = report
            .tensors
            .iter()
            .map(|t| {
                json!({"name": t.name, "format": t.spec.map(|s| s.to_string()), "weights": t.elements,
                       "bytes_before": t.input_bytes, "bytes_after": t.output_bytes,
                       "scale_overflows": t.scale_overflows})
            })
            .collect();
        let json = json!({"input": input, "output": args.output.display().to_string(), "file_bytes": report.file_bytes,
                          "formats": formats.iter().map(Row::json).collect::<Vec<_>>(), "tensors": tensors,
                          "warnings": warnings});
        writeln!(out, "{json}")?;
        return Ok(true);
    }
    writeln!(out, "{input} -> {}", args.output.display())?;
    write_table(&mut out, &formats)?;
    writeln!(out, "file: {} with its header", bytes(report.file_bytes))?;
    Ok(true)
}

/// Whether a file that is not packed says by itself what model it is, as GGUF does.
fn is_model(path: &Path) -> Result<bool> {
    let reader = Reader::open(path)?;
    Ok(reader.file().metadata("anybit.config").is_some()
        && reader.file().metadata("anybit.tensors").is_none())
}

fn model(args: &Args) -> Result<(String, Report)> {
    if args.vectors {
        bail!("--vectors is for tensor files; in a model norm weights and biases stay as they are");
    }
    let model = ModelArgs { model: args.model.clone() }.load().map_err(|error| {
        let file = args.model.as_ref().map(|folder| folder.join("model.safetensors"));
        let is_unsupported = error.to_string().contains("architecture");
        match file.filter(|file| is_unsupported && file.is_file()) {
            Some(file) => error.context(format!(
                "not a model this program runs; its matrices alone can be packed with --model {}",
                file.display()
            )),
            None => error,
        }
    })?;
    if let Some(folder) = &args.model {
        refuse_same(folder, &args.output)?;
        for name in ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json"] {
            refuse_same(&folder.join(name), &args.output)?;
        }
    }
    let format = FormatArgs { format: args.format, qconfig: args.qconfig.clone() };
    let default = args.format.unwrap_or(Spec::from(anybit::format::Format::F32));
    let assignment = format.assignment(&model, default)?;
    let report = with_bar("Packing", |tick| quantize_model(&model, &assignment, &args.output, tick))?;
    Ok((format!("model {}", model.name()), report))
}

fn tensors(args: &Args, path: &Path) -> Result<Report> {
    let reader = Reader::open(path)?;
    if reader.is_packed() {
        bail!("{} is packed already; quantize from the original checkpoint", path.display());
    }
    refuse_same(path, &args.output)?;
    let count = |vectors| matrices(reader.file(), vectors).len();
    if !args.vectors && count(false) == 0 && count(true) > 0 {
        bail!("{} holds vectors but no matrices; vectors are packed with --vectors", path.display());
    }
    let specs = match (&args.qconfig, args.format) {
        (Some(qconfig), _) => Choice::ByName(from_qconfig(&reader, args.vectors, qconfig)?),
        (None, Some(spec)) => Choice::All(spec),
        (None, None) => bail!("give --format or --qconfig"),
    };
    let mut choose = |matrix: &Matrix<'_>| {
        Ok(match &specs {
            Choice::All(spec) => Some(*spec),
            Choice::ByName(specs) => specs.get(matrix.name).copied(),
        })
    };
    let report =
        with_bar("Packing", |tick| quantize_file(path, &args.output, args.vectors, &mut choose, tick));
    Ok(report?)
}

enum Choice {
    All(Spec),
    ByName(HashMap<String, Spec>),
}

/// Reads a qconfig for a plain tensor file: keys are tensor names, with or without `.weight`, or patterns.
pub(crate) fn from_qconfig(reader: &Reader, vectors: bool, path: &Path) -> Result<HashMap<String, Spec>> {
    let label = || format!("qconfig {}", path.display());
    let text = std::fs::read(path).with_context(|| format!("cannot read the {}", label()))?;
    let text = String::from_utf8(text).map_err(|_| Error::invalid("not UTF-8 text")).with_context(label)?;
    let json: Value = serde_json::from_str(&text).with_context(|| {
        format!("{} is not JSON; want an object like {{\"*\": \"int4(group=32)\"}}", label())
    })?;
    let Value::Object(entries) = json else {
        bail!("{} is not a JSON object; write {{\"tensor name or pattern\": \"spec\", …}}", label());
    };
    let names: Vec<&str> = matrices(reader.file(), vectors).iter().map(|matrix| matrix.name).collect();
    let mut specs = HashMap::new();
    // As for models: an exact name wins over patterns, and of several patterns the last one holds.
    let (patterns, exact): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| key.contains('*'));
    for (key, value) in patterns.into_iter().chain(exact) {
        let spec = match value {
            Value::String(text) => text.parse::<Spec>(),
            Value::Number(bits) => format!("qlinear(bits={bits})").parse(),
            other => {
                Err(Error::invalid(format!("got {other}, want a spec such as \"int4(group=64)\" or 2 to 8")))
            }
        };
        let spec = spec.with_context(|| format!("{}, `{key}`", label()))?;
        let layer = |name: &str| name.strip_suffix(".weight").is_some_and(|name| matches_pattern(key, name));
        let mut matched = names.iter().filter(|name| matches_pattern(key, name) || layer(name)).peekable();
        if matched.peek().is_none() {
            let near = closest_names(key, names.iter().copied(), 3).join(", ");
            bail!(
                "{}, `{key}` matches none of the {} matrices of {}; near names: {near}",
                label(),
                names.len(),
                reader.file().label()
            );
        }
        specs.extend(matched.map(|name| ((*name).to_owned(), spec)));
    }
    Ok(specs)
}

/// Refuses an output that would replace the input.
pub(crate) fn refuse_same(input: &Path, output: &Path) -> Result<()> {
    if let (Ok(a), Ok(b)) = (input.canonicalize(), output.canonicalize())
        && a == b
    {
        bail!("--output {} is the input; choose another name, the input is never replaced", output.display());
    }
    Ok(())
}

/// Runs a conversion under a progress bar in bytes of the input.
pub(crate) fn with_bar<T>(label: &str, work: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> T) -> T {
    let bar = progress(0, label);
    let result = work(&mut |p: Progress<'_>| {
        bar.set_length(p.total as u64);
        bar.set_position(p.done as u64);
        bar.set_message(format!("{label} {}", p.tensor));
    });
    bar.finish_and_clear();
    result
}

/// The tensors of one format, added up.
pub(crate) struct Row {
    /// `None` for tensors that are copied.
    spec: Option<Spec>,
    tensors: usize,
    weights: usize,
    before: usize,
    after: usize,
}

impl Row {
    fn bits(&self) -> f64 {
        self.after as f64 * 8.0 / self.weights.max(1) as f64
    }

    fn json(&self) -> Value {
        json!({"format": self.spec.map(|s| s.to_string()), "tensors": self.tensors, "weights": self.weights,
               "bytes_before": self.before, "bytes_after": self.after, "bits_per_weight": self.bits()})
    }
}

fn by_format(report: &Report) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for t in &report.tensors {
        let at = rows.iter().position(|row| row.spec == t.spec).unwrap_or_else(|| {
            rows.push(Row { spec: t.spec, tensors: 0, weights: 0, before: 0, after: 0 });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.tensors += 1;
        row.weights += t.elements;
        row.before += t.input_bytes;
        row.after += t.output_bytes;
    }
    // What is copied comes last.
    rows.sort_by_key(|row| row.spec.is_none());
    rows
}

fn write_table(out: &mut impl std::io::Write, rows: &[Row]) -> std::io::Result<()> {
    let name = |row: &Row| row.spec.map_or("unchanged".to_owned(), |spec| spec.to_string());
    let wide = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(0).max(9);
    writeln!(
        out,
        "{:wide$}  {:>7}  {:>12}  {:>10}  {:>10}  {:>11}",
        "format", "tensors", "weights", "before", "after", "bits/weight"
    )?;
    let line = |out: &mut dyn std::io::Write, name: &str, row: &Row| {
        writeln!(
            out,
            "{name:wide$}  {:>7}  {:>12}  {:>10}  {:>10}  {:>11.4}",
            row.tensors,
            row.weights,
            bytes(row.before as u64),
            bytes(row.after as u64),
            row.bits()
        )
    };
    for row in rows {
        line(out, &name(row), row)?;
    }
    if rows.len() > 1 {
        let sum = |f: fn(&Row) -> usize| rows.iter().map(f).sum();
        let total = Row {
            spec: None,
            tensors: sum(|r| r.tensors),
            weights: sum(|r| r.weights),
            before: sum(|r| r.before),
            after: sum(|r| r.after),
        };
        line(out, "all", &total)?;
    }
    Ok(())
}

/// One line per tensor whose scales do not fit.
fn warnings(report: &Report) -> Vec<String> {
    let bad = report.tensors.iter().filter(|t| t.scale_overflows > 0);
    bad.map(|t| {
        format!(
            "tensor `{}`: {} group(s) of {} have values too large for the format's scale and will not decode to \
             what was given; choose a format with f32 or power-of-two scales, e.g. int8(scale=row) or mxint8",
            t.name,
            t.scale_overflows,
            t.spec.map_or(String::new(), |spec| spec.to_string())
        )
    })
    .collect()
}
