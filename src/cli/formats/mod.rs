//! `anybit formats`: every format, what it can hold and how it runs; charts and tables of them.

mod chart;
mod entry;
mod journal;
mod labels;
mod plot;
mod table;

use std::path::{Path, PathBuf};

use anybit::eval::{Sqnr, sqnr_of_file, sqnr_of_linears};
use anybit::format::{Format, Spec};
use anybit::model::{Model, Reader};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::columns::aligned;
use super::common::{print, progress};
use super::hub;
use entry::Entry;

/// What `--model` without a value, and the name of the model inside the program, stand for.
const EMBEDDED: &str = "shakespeare";

/// List the formats: bits, values, kernels, and what they lose of a model's weights
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  anybit formats
  anybit formats int4 \"int4(group=32)\" mxint4 nf4 --model
  anybit formats --model path/to/folder --json
  anybit formats plot int4 mxfp4 nf4 \"minifloat_ieee(4,2)\" --out formats.svg
  anybit formats table --journal table.jsonl

With --model every format rounds the block linears of that model (all matrices of a plain tensor file); SQNR is \
10 log10(sum of w^2 / sum of (w - q)^2) over all of them. `--model` alone means the model inside the program, and so \
does `--model shakespeare`; give SPECs before it, or write --model=PATH."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(clap::Subcommand)]
enum Action {
    Plot(plot::Args),
    Table(table::Args),
}

#[derive(clap::Args)]
struct List {
    /// Formats to list, see "Format specs" in the README [default: all, with their usual parameters]
    #[arg(value_name = "SPEC")]
    specs: Vec<Spec>,
    /// Model whose weights are rounded: a folder, or a .safetensors file that is not packed
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = EMBEDDED)]
    model: Option<PathBuf>,
    /// Matrix that bits per weight and kernels are given for
    #[arg(long, value_name = "ROWSxCOLS", default_value = "4096x4096", value_parser = shape)]
    shape: (usize, usize),
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let size = |text: &str| text.trim().parse().ok().filter(|&size: &usize| size > 0);
    let sizes = text.split_once(['x', 'X']).and_then(|(rows, cols)| Some((size(rows)?, size(cols)?)));
    sizes.ok_or_else(|| "want rows and columns, each at least 1, e.g. 4096x4096".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    match &args.action {
        Some(Action::Plot(args)) => plot::run(args),
        Some(Action::Table(args)) => table::run(args),
        None => list(&args.list),
    }
}

fn list(args: &List) -> Result<bool> {
    let mut entries = entries(&args.specs, args.shape);
    let source = args.model.as_deref().map(Source::open).transpose()?;
    if let Some(source) = &source {
        source.measure(&mut entries)?;
    }
    if args.json {
        print(&format!("{}\n", json_of(&entries, args.shape, source.as_ref())))?;
    } else {
        print(&text(&entries, args.shape, source.as_ref()))?;
    }
    Ok(true)
}

/// The formats asked for, or all.
fn entries(specs: &[Spec], shape: (usize, usize)) -> Vec<Entry> {
    let all = || Format::catalog().into_iter().map(Spec::from).collect();
    let specs = if specs.is_empty() { all() } else { specs.to_vec() };
    specs.into_iter().map(|spec| Entry::new(spec, shape)).collect()
}

fn json_of(entries: &[Entry], shape: (usize, usize), source: Option<&Source>) -> serde_json::Value {
    let formats: Vec<_> = entries.iter().map(Entry::json).collect();
    json!({ "shape": [shape.0, shape.1], "model": source.map(Source::name), "formats": formats })
}

fn text(entries: &[Entry], shape: (usize, usize), source: Option<&Source>) -> String {
    let mut head = vec!["format", "bits/weight", "values", "step", "smallest", "kernels", "activation"];
    if source.is_some() {
        head.extend(["model bits", "SQNR dB", "MSE"]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
    rows.extend(entries.iter().map(|entry| entry.cells(source.is_some())));
    let mut text = aligned(&rows, &[0, 2, 5, 6, 10]);
    let (height, width) = shape;
    text += &format!(
        "\nbits/weight: of a matrix [{height}, {width}] as stored, scales and padding included
values: what codes stand for; s a real scale, 2^e a power of two per block, m an offset of the group
step: least difference between two values; smallest: least value above 0
kernels: GEMV and GEMM decode packed words; integer: W@A multiplies integers (* unless near-zero weights passed
  unquantized); f32 storage: codes wider than 8 bits are unpacked to f32 on the device\n"
    );
    if let Some(source) = source {
        text += &format!("model bits, SQNR, MSE: over {}\n", source.describe());
    }
    text
}

/// Where weights come from.
enum Source {
    Model(Box<Model>),
    File(String, Box<Reader>),
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if path == Path::new(EMBEDDED) && !path.exists() {
            return Ok(Self::Model(Box::new(Model::embedded()?)));
        }
        let text = path.to_string_lossy();
        if !path.exists() && text.parse::<Spec>().is_ok() {
            bail!("--model {text}: there is no such file; `{text}` is a format: write it before --model");
        }
        let path = &*hub::local(path)?;
        if path.is_file() {
            let reader = Reader::open(path)?;
            if reader.is_packed() {
                bail!("{text} is packed already; give the original checkpoint");
            }
            return Ok(Self::File(text.into_owned(), Box::new(reader)));
        }
        Ok(Self::Model(Box::new(Model::load(path)?)))
    }

    fn name(&self) -> &str {
        match self {
            Self::Model(model) => model.name(),
            Self::File(path, _) => path,
        }
    }

    /// `the 42 block linears of shakespeare, 2.43 M weights`
    fn describe(&self) -> String {
        let shapes = self.shapes();
        let weights: usize = shapes.iter().map(|(rows, cols)| rows * cols).sum();
        let what = match self {
            Self::Model(_) => "block linears of",
            Self::File(..) => "matrices of",
        };
        format!("the {} {what} {}, {:.2} M weights", shapes.len(), self.name(), weights as f64 / 1e6)
    }

    fn shapes(&self) -> Vec<(usize, usize)> {
        match self {
            Self::Model(model) => {
                let linears = |w: &&anybit::graph::Weight| w.role == anybit::graph::Role::Linear;
                model.graph().weights.iter().filter(linears).map(|w| (w.rows, w.cols)).collect()
            }
            Self::File(_, reader) => {
                anybit::model::matrices(reader.file(), false).iter().map(|m| (m.rows, m.cols)).collect()
            }
        }
    }

    /// Rounds all weights to the format of every entry.
    fn measure(&self, entries: &mut [Entry]) -> Result<()> {
        let formats: Vec<Format> = entries.iter().map(|entry| entry.spec.weight).collect();
        let weights: usize = self.shapes().iter().map(|(rows, cols)| rows * cols).sum();
        if weights == 0 {
            bail!("{} has no matrices to round", self.name());
        }
        let bar = progress((weights * formats.len()) as u64, "rounding");
        let mut tick = |done| bar.set_position(done);
        let measured = match self {
            Self::Model(model) => sqnr_of_linears(model, &formats, &mut tick),
            Self::File(_, reader) => sqnr_of_file(reader.file(), &formats, &mut tick),
        };
        bar.finish_and_clear();
        let measured: Vec<anybit::Result<Sqnr>> = measured.context("cannot measure SQNR")?;
        for (entry, sqnr) in entries.iter_mut().zip(measured) {
            entry.sqnr = Some(sqnr.map_err(|error| error.to_string()));
        }
        Ok(())
    }
}
