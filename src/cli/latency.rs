//! `anybit eval --latency`: end-to-end latency of generation, size and text of a model in several formats.

use std::path::PathBuf;
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::{MemoryReport, TensorKind, TensorMemory};
use anybit::format::Spec;
use anybit::graph::Assignment;
use anybit::model::sampling::SamplingOptions;
use anybit::model::{Model, Task, Tokenizer};
use anybit::run::{GenerationOptions, Runner, generate};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::columns::aligned;
use super::common::{self, DeviceArgs, ModelArgs};
use super::eval;

/// Prompts of the embedded model without --prompts.
const SHAKESPEARE: [&str; 2] = ["ROMEO:", "First Citizen:\nBefore we proceed any further, hear me speak."];
/// Prompts of other models.
const GENERAL: [&str; 2] = ["Explain quantization in simple terms.", "Once upon a time"];
/// Most prompts of a file.
const PROMPTS: usize = 10_000;

/// The latency protocol.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LatencyArgs {
    /// Measure the latency of greedy generation in several formats instead of the loss
    #[arg(long, conflicts_with_all = ["text", "data", "examples", "windows", "context", "baseline", "format", "qconfig"])]
    latency: bool,
    /// UTF-8 file with a prompt per line, run one after another [default: two prompts]
    #[arg(long, value_name = "FILE", requires = "latency")]
    prompts: Option<PathBuf>,
    /// Formats of all block linears, with commas between them [default: f32,f16,int8,int4(group=32)]
    #[arg(long, value_name = "SPECS", requires = "latency")]
    formats: Option<String>,
    /// Runs over all prompts that are timed, after one that is not [default: 5]
    #[arg(long, value_name = "N", value_parser = common::positive, requires = "latency")]
    runs: Option<usize>,
    /// Tokens to add to each prompt at most [default: 40]
    #[arg(long, value_name = "N", value_parser = common::positive, requires = "latency")]
    max_tokens: Option<usize>,
}

/// What every format is measured on.
struct Trial<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    prompts: Vec<String>,
    ids: Vec<Vec<u32>>,
    options: GenerationOptions,
    runs: usize,
    fused: bool,
}

/// One run over all prompts.
struct Run {
    /// Seconds from the text of each prompt to the text after it.
    seconds: Vec<f64>,
    ids: Vec<Vec<u32>>,
    texts: Vec<String>,
}

/// A format, measured.
struct Measured {
    spec: Spec,
    memory: MemoryReport,
    estimate: u64,
    /// Planning and shader compilation before the first run.
    compile: f64,
    uploaded: u64,
    runs: Vec<Run>,
}

/// Mean, median and spread of a sample.
struct Summary {
    mean: f64,
    median: f64,
    min: f64,
    max: f64,
    /// Of the sample, with n - 1; none of a single run.
    deviation: Option<f64>,
}

impl LatencyArgs {
    /// Whether latency is asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.latency
    }
}

pub(crate) fn run(model: &ModelArgs, device: &DeviceArgs, args: &LatencyArgs, json: bool) -> Result<bool> {
    let specs = specs(args.formats.as_deref().unwrap_or("f32,f16,int8,int4(group=32)"))?;
    let is_embedded = model.model.is_none();
    let prompts = match &args.prompts {
        Some(path) => {
            let bytes =
                std::fs::read(path).map_err(|e| anybit::Error::io("cannot read the prompts", path, e))?;
            lines(&bytes, &path.display().to_string())?
        }
        None => (if is_embedded { SHAKESPEARE } else { GENERAL }).map(str::to_owned).to_vec(),
    };
    let model = model.load()?;
    common::require(&model, Task::Generation, "eval --latency")?;
    if !eval::is_unquantized(&model) {
        bail!("model `{}` is quantized already; give the original checkpoint", model.name());
    }
    let trial = trial(&model, prompts, args, !device.naive)?;
    let gpu = device.open()?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    let (runs, prompts) = (trial.runs, trial.prompts.len());
    common::note("runs", &format!("{runs} over {prompts} prompts, after one that is not timed"));
    eprintln!();
    let bar = common::progress((specs.len() * (runs + 1)) as u64, "measuring");
    let mut measured: Vec<Measured> = Vec::with_capacity(specs.len());
    for &spec in &specs {
        // Of its own, so that the uploads are those of this format and the one before leaves the device.
        let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None));
        let result = trial.measure(spec, resident.as_mut(), &mut || bar.inc(1));
        measured.push(result.with_context(|| format!("format {spec}"))?);
    }
    bar.finish_and_clear();
    if json {
        let json = json!({
            "adapter": gpu.as_ref().map(|gpu| gpu.adapter()),
            "backend": common::backend_name(gpu.as_deref()),
            "model": model.name(),
            "parameters": trial.parameters(),
            "runs": runs,
            "max_tokens": trial.options.max_tokens,
            "prompts": trial.prompts,
            "prompt_tokens": trial.ids.iter().map(Vec::len).collect::<Vec<_>>(),
            "formats": measured.iter().map(|m| m.json(&measured[0])).collect::<Vec<_>>(),
        });
        common::print(&format!("{json:#}\n"))?;
    } else {
        common::print(&table(&measured))?;
        common::print(&texts(&trial, &measured))?;
        eprintln!();
        common::note(
            "latency",
            "seconds of a run: all prompts one after another, from text to text; weights were on the device, shaders \
             compiled",
        );
        common::note(
            "sizes",
            "estimated: parameters x bits of a code; packed: as stored, with scales, embeddings and norms as they are",
        );
    }
    Ok(true)
}

/// Formats with commas between them; commas within parentheses are those of a format.
fn specs(text: &str) -> Result<Vec<Spec>> {
    let (mut parts, mut depth) = (vec![String::new()], 0usize);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (c, depth, parts.last_mut()) {
            (',', 0, _) => parts.push(String::new()),
            (_, _, Some(part)) => part.push(c),
            _ => {}
        }
    }
    let specs = parts.iter().map(|part| part.trim().parse::<Spec>().map_err(Into::into));
    let specs: Vec<Spec> = specs.collect::<Result<_>>()?;
    if let Some(twice) = specs.iter().enumerate().find(|(i, spec)| specs[..*i].contains(spec)) {
        bail!("--formats names {} twice; name it once", twice.1);
    }
    Ok(specs)
}

/// The lines of a file that are not blank.
fn lines(bytes: &[u8], label: &str) -> Result<Vec<String>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => bail!("{label} is not UTF-8 text: {error}"),
    };
    let prompts: Vec<String> =
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    match prompts.len() {
        0 => bail!("{label} has no prompts; want one per line"),
        1..=PROMPTS => Ok(prompts),
        n => bail!("{label} has {n} prompts; want at most {PROMPTS}"),
    }
}

fn trial<'a>(model: &'a Model, prompts: Vec<String>, args: &LatencyArgs, fused: bool) -> Result<Trial<'a>> {
    let Some(tokenizer) = model.tokenizer() else {
        bail!(
            "model `{}` has no tokenizer.json, so it cannot read a prompt; put the model's tokenizer.json beside its \
             config.json",
            model.name()
        );
    };
    let ids = prompts.iter().map(|text| model.encode_prompt(text)).collect::<Result<Vec<_>, _>>()?;
    let most = model.graph().context;
    if let Some((i, long)) = ids.iter().enumerate().find(|(_, ids)| ids.len() >= most || ids.is_empty()) {
        bail!(
            "prompt {} has {} tokens, the model's context has {most}; want at least one and room for one more",
            i + 1,
            long.len()
        );
    }
    let max_tokens = args.max_tokens.unwrap_or(40);
    let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
    let options = GenerationOptions {
        max_tokens,
        context: most.min(longest.saturating_add(max_tokens)),
        eos: model.eos(),
        sampling: SamplingOptions::default(),
    };
    Ok(Trial { model, tokenizer, prompts, ids, options, runs: args.runs.unwrap_or(5), fused })
}

impl Trial<'_> {
    fn parameters(&self) -> u64 {
        self.model.graph().weights.iter().map(|weight| weight.rows as u64 * weight.cols as u64).sum()
    }

    fn measure(
        &self,
        spec: Spec,
        mut resident: Option<&mut Resident>,
        tick: &mut dyn FnMut(),
    ) -> Result<Measured> {
        let graph = self.model.graph();
        let assignment = Assignment::uniform(graph, &self.model.native_formats(), spec);
        let longest = self.ids.iter().map(Vec::len).max().unwrap_or(1);
        let memory = MemoryReport::new(graph, &assignment, 1, self.options.context, longest)?;
        let options =
            SessionOptions { sequences: 1, context: self.options.context, fused: self.fused, keep: false };
        let mut runner = common::runner(self.model, resident.as_deref_mut(), &assignment, options)?;
        let uploaded = resident.map_or(0, |resident| resident.uploaded_bytes());
        let start = Instant::now();
        // The largest first: buffers then need not grow.
        let mut lengths: Vec<usize> = self.ids.iter().map(Vec::len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        for length in lengths {
            runner.prepare(length, 1)?;
        }
        runner.prepare(1, 1)?;
        let compile = start.elapsed().as_secs_f64();
        self.run(&mut runner)?;
        tick();
        let mut runs = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            runs.push(self.run(&mut runner)?);
            tick();
        }
        let estimate = (self.parameters() as f64 * code_bits(&memory) / 8.0).round() as u64;
        Ok(Measured { spec, memory, estimate, compile, uploaded, runs })
    }

    /// All prompts, one after another, from text to text.
    fn run(&self, runner: &mut Runner<'_>) -> Result<Run> {
        let mut run = Run { seconds: Vec::new(), ids: Vec::new(), texts: Vec::new() };
        for prompt in &self.prompts {
            let start = Instant::now();
            let ids = self.model.encode_prompt(prompt)?;
            let mut stream = self.tokenizer.stream(&ids)?;
            let mut text = String::new();
            let report = generate(runner, &[ids], &self.options, |_, id| {
                text.push_str(&stream.push(id)?);
                Ok(())
            })?;
            text.push_str(&stream.finish()?);
            run.seconds.push(start.elapsed().as_secs_f64());
            run.ids.extend(report.tokens);
            run.texts.push(text);
        }
        Ok(run)
    }
}

/// Bits of a code of a block linear, without scales and padding.
fn code_bits(memory: &MemoryReport) -> f64 {
    let linears = || memory.tensors.iter().filter(|tensor| tensor.kind == TensorKind::Linear);
    let weights: u64 = linears().map(TensorMemory::weights).sum();
    linears().map(|tensor| tensor.code_bits).sum::<u64>() as f64 / weights.max(1) as f64
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n.max(1) as f64;
        let median = match n {
            0 => 0.0,
            _ if n % 2 == 1 => sorted[n / 2],
            _ => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        };
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        let (min, max) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        Self { mean, median, min, max, deviation }
    }

    fn json(&self) -> Value {
        json!({ "mean": self.mean, "median": self.median, "min": self.min, "max": self.max,
                "standard_deviation": self.deviation })
    }
}

impl Run {
    fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }

    fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

impl Measured {
    fn latency(&self) -> Summary {
        Summary::of(&self.runs.iter().map(Run::total).collect::<Vec<_>>())
    }

    fn speed(&self) -> Summary {
        Summary::of(&self.runs.iter().map(|run| run.tokens() as f64 / run.total()).collect::<Vec<_>>())
    }

    /// Tokens of each prompt before the first that `other` has not.
    fn agreement(&self, other: &Measured) -> Vec<usize> {
        let same = |(a, b): (&Vec<u32>, &Vec<u32>)| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        self.runs[0].ids.iter().zip(&other.runs[0].ids).map(same).collect()
    }

    fn json(&self, first: &Measured) -> Value {
        let run = &self.runs[0];
        let agreement = self.agreement(first);
        let texts = (0..run.ids.len()).map(
            |i| json!({ "text": run.texts[i], "ids": run.ids[i], "tokens_as_first_format": agreement[i] }),
        );
        json!({
            "format": self.spec.to_string(),
            "seconds": self.latency().json(),
            "tokens_per_second": self.speed().json(),
            "tokens": run.tokens(),
            "runs": self.runs.iter().map(|run| json!(run.seconds)).collect::<Vec<_>>(),
            "compile_seconds": self.compile,
            "estimated_bytes": self.estimate,
            "bytes": self.memory.bytes,
            "uploaded_bytes": self.uploaded,
            "bits_per_weight": self.memory.bits_per_weight,
            "texts": texts.collect::<Vec<_>>(),
        })
    }
}

/// One row per format.
fn table(measured: &[Measured]) -> String {
    let head = [
        "format",
        "mean s",
        "median s",
        "min s",
        "max s",
        "s.d.",
        "tokens/s",
        "median",
        "min",
        "max",
        "s.d.",
        "tokens",
        "compile s",
        "estimated",
        "packed",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for measured in measured {
        let (latency, speed) = (measured.latency(), measured.speed());
        let cells = |summary: &Summary, digits: usize| {
            let deviation = summary.deviation.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            let values = [summary.mean, summary.median, summary.min, summary.max];
            let mut cells = values.map(|value| format!("{value:.digits$}")).to_vec();
            cells.push(deviation);
            cells
        };
        let mut row = vec![measured.spec.to_string()];
        row.extend(cells(&latency, 4));
        row.extend(cells(&speed, 1));
        row.push(measured.runs[0].tokens().to_string());
        row.push(format!("{:.3}", measured.compile));
        row.push(common::bytes(measured.estimate));
        row.push(common::bytes(measured.memory.bytes));
        rows.push(row);
    }
    aligned(&rows, &[0])
}

/// Each prompt with its continuation in every format.
fn texts(trial: &Trial<'_>, measured: &[Measured]) -> String {
    let mut text = String::new();
    for (i, prompt) in trial.prompts.iter().enumerate() {
        text += &format!("\n--- {} of {} ---\n{prompt}\n", i + 1, trial.prompts.len());
        for format in measured {
            let run = &format.runs[0];
            let same = match format.agreement(&measured[0])[i] {
                _ if std::ptr::eq(format, &measured[0]) => String::new(),
                same if same == run.ids[i].len() && run.ids[i] == measured[0].runs[0].ids[i] => {
                    format!(", as {}", measured[0].spec)
                }
                same => format!(", {same} tokens as {}", measured[0].spec),
            };
            text += &format!("[{}{same}] {}\n", format.spec, run.texts[i]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_those_of_the_textbook() {
        let summary = Summary::of(&[4.0, 2.0, 9.0, 5.0]);
        assert_eq!((summary.mean, summary.median, summary.min, summary.max), (5.0, 4.5, 2.0, 9.0));
        // Squares of the distances: 1 + 9 + 16 + 0, over 3.
        assert!((summary.deviation.unwrap() - (26.0f64 / 3.0).sqrt()).abs() < 1e-15);
        let one = Summary::of(&[3.0]);
        assert_eq!((one.median, one.deviation), (3.0, None));
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]).median, 2.0);
    }

    #[test]
    fn formats_are_split_at_commas_outside_parentheses() {
        let names =
            |text: &str| specs(text).map(|specs| specs.iter().map(Spec::to_string).collect::<Vec<_>>());
        assert_eq!(
            names("f32, int4(group=32),base11(layout=9in32,group=256)").unwrap(),
            ["f32", "int4(group=32)", "base11(layout=9in32,group=256)"]
        );
        for wrong in ["", "f32,", "f32,,f16", "int4(group=32", "f32,f32", "x"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prompts_are_lines_of_text() {
        assert_eq!(lines("\u{feff}a b\r\n\n \nc".as_bytes(), "p").unwrap(), ["a b", "c"]);
        for (bytes, wanted) in [(&b""[..], "no prompts"), (b"\n \n", "no prompts"), (b"a\xff", "UTF-8")] {
            assert!(lines(bytes, "p").unwrap_err().to_string().contains(wanted));
        }
        assert!(lines("a\n".repeat(PROMPTS + 1).as_bytes(), "p").is_err());
    }
}
