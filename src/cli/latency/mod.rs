//! `anybit eval --latency`: end-to-end latency of generation, size and text of a model in several formats.

mod report;

use std::path::PathBuf;
use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::{MemoryReport, TensorKind, TensorMemory};
use anybit::format::Spec;
use anybit::graph::Assignment;
use anybit::model::{Model, Task, Tokenizer};
use anybit::run::{GenerationOptions, Next, Runner, generate};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::common::{self, DeviceArgs, ModelArgs};
use super::eval;
use report::{Measured, Run, table, texts};

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
        let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None).with_stacks());
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
        common::print(&texts(&trial.prompts, &measured))?;
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
pub(crate) fn specs(text: &str) -> Result<Vec<Spec>> {
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
        bail!("the list of formats names {} twice; name it once", twice.1);
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
        ..GenerationOptions::default()
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
            let report = generate(runner, &[ids], &self.options, |token| {
                text.push_str(&stream.push(token.id)?);
                Ok(Next::Go)
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

#[cfg(test)]
mod tests {
    use super::*;

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
