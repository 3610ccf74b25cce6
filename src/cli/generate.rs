//! `anybit generate`: text from a model, streamed.

use anybit::Error;
use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::format::Spec;
use anybit::graph::Assignment;
use anybit::model::sampling::{Sampler, SamplingOptions};
use anybit::model::{Model, Task, Tokenizer};
use anybit::run::{GenerationOptions, GenerationReport, StopReason, generate};
use anyhow::{Result, bail};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};

/// Continue a text
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit generate --prompt \"ROMEO:\"
  anybit generate --prompt \"ROMEO:\" --format base11 --temperature 0
  anybit generate --prompt \"JULIET:\" --prompt \"First Citizen:\" --max-tokens 40 --json
  anybit generate --prompt \"KING:\" --format mxint8 --compare \"qlinear(bits=4)\"

Only the text goes to stdout, everything said about it to stderr, so `> FILE` keeps the text.

Without --format or --qconfig, a packed file runs as it was packed, and the block linears of any other model as \
int4(group=32). The same seed, options and format give the same text on the same device.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Text to continue; several are run together as one batch and printed one after another
    #[arg(long, value_name = "TEXT", required = true)]
    prompt: Vec<String>,
    /// Tokens to add at most; what the model's context has no room for is left out
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = common::positive)]
    max_tokens: usize,
    /// Randomness: logits are divided by it; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw only from the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw only from the likeliest tokens that together have probability P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Seed of the draws; prompt number i (from 0) uses seed + i
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Generate a second time with this format and print both side by side
    #[arg(long, value_name = "SPEC")]
    compare: Option<Spec>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One generation under one assignment.
struct Outcome {
    assignment: Assignment,
    memory: MemoryReport,
    uploaded: u64,
    report: GenerationReport,
    texts: Vec<String>,
}

/// What both generations of a comparison share.
struct Job<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    prompts: Vec<Vec<u32>>,
    options: GenerationOptions,
    fused: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let sampling = SamplingOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    };
    Sampler::new(sampling)?; // refuses bad options before anything is loaded
    let model = args.model.load()?;
    common::require(&model, Task::Generation, "generate")?;
    let assignment = args.format.assignment(&model, model.default_spec())?;
    let other = args.compare.map(|spec| Assignment::uniform(model.graph(), &model.native_formats(), spec));
    let job = job(args, &model, sampling)?;
    let gpu = args.device.open()?;
    let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None));
    let first = Outcome::new(&job, assignment)?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    let mut outcomes = vec![first];
    if let Some(assignment) = other {
        outcomes.push(Outcome::new(&job, assignment)?);
    }
    for outcome in &outcomes {
        common::note("format", &common::mix_line(&model, &outcome.assignment));
        common::note("weights", &common::bytes_line(&outcome.memory));
    }
    eprintln!();
    let streams = args.prompt.len() == 1 && outcomes.len() == 1 && !args.json;
    for outcome in &mut outcomes {
        let prompt = streams.then(|| args.prompt[0].as_str());
        outcome.generate(&job, resident.as_mut(), prompt)?;
    }
    match (&outcomes[..], args.json) {
        (outcomes, true) => {
            let mut json = json!({
                "adapter": gpu.as_ref().map(|gpu| gpu.adapter()),
                "backend": common::backend_name(gpu.as_deref()),
                "model": model.name(),
                "temperature": args.temperature,
                "top_k": args.top_k,
                "top_p": args.top_p,
                "seed": args.seed,
            });
            if let Value::Object(fields) = &mut json {
                let mut runs = outcomes.iter().map(|outcome| outcome.json(&job, &args.prompt));
                if let Some(Value::Object(first)) = runs.next() {
                    fields.extend(first);
                }
                if let Some(second) = runs.next() {
                    fields.insert("compare".to_string(), second);
                }
            }
            common::print(&format!("{json:#}\n"))?;
        }
        ([left, right], false) => common::print(&side_by_side(&job, left, right, &args.prompt))?,
        ([only], false) if !streams => common::print(&one_after_another(only, &args.prompt))?,
        _ => {}
    }
    for outcome in &outcomes {
        if outcomes.len() > 1 {
            eprintln!();
            common::note("format", &common::mix_line(&model, &outcome.assignment));
        }
        outcome.summary(&job, gpu.is_some());
    }
    Ok(true)
}

/// Checks and tokenizes the prompts.
fn job<'a>(args: &Args, model: &'a Model, sampling: SamplingOptions) -> Result<Job<'a>> {
    let Some(tokenizer) = model.tokenizer() else {
        bail!(
            "model `{}` has no tokenizer.json, so it cannot read a prompt; put the model's tokenizer.json beside \
             its config.json",
            model.name()
        );
    };
    let mut prompts = Vec::new();
    for (i, text) in args.prompt.iter().enumerate() {
        if text.is_empty() {
            bail!("prompt {} is empty; give at least one character to continue", i + 1);
        }
        let ids = model.encode_prompt(text)?;
        let context = model.graph().context;
        if ids.len() >= context {
            bail!(
                "prompt {} has {} tokens, the model's context has {context}; shorten it so that at least one token \
                 can follow",
                i + 1,
                ids.len()
            );
        }
        prompts.push(ids);
    }
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let options = GenerationOptions {
        max_tokens: args.max_tokens,
        // No larger than needed, because the KV caches are as large.
        context: model.graph().context.min(longest.saturating_add(args.max_tokens)),
        eos: model.eos(),
        sampling,
    };
    Ok(Job { model, tokenizer, prompts, options, fused: !args.device.naive })
}

impl Outcome {
    fn new(job: &Job<'_>, assignment: Assignment) -> Result<Self> {
        let tokens = job.prompts.iter().map(Vec::len).sum();
        let (sequences, context) = (job.prompts.len(), job.options.context);
        let memory = MemoryReport::new(job.model.graph(), &assignment, sequences, context, tokens)?;
        let report = GenerationReport::default();
        Ok(Self { assignment, memory, uploaded: 0, report, texts: vec![String::new(); sequences] })
    }

    /// Generates; with `prompt` the text goes to stdout as it comes, after the prompt.
    fn generate(
        &mut self,
        job: &Job<'_>,
        mut resident: Option<&mut Resident>,
        prompt: Option<&str>,
    ) -> Result<()> {
        let most = |ids: &Vec<u32>| job.options.max_tokens.min(job.options.context + 1 - ids.len()) as u64;
        let uploaded = |resident: &Option<&mut Resident>| resident.as_ref().map_or(0, |r| r.uploaded_bytes());
        let before = uploaded(&resident);
        let options = SessionOptions {
            sequences: job.prompts.len(),
            context: job.options.context,
            fused: job.fused,
            keep: false,
        };
        let mut runner = common::runner(job.model, resident.as_deref_mut(), &self.assignment, options)?;
        self.uploaded = uploaded(&resident) - before;
        let bar = match prompt {
            Some(_) => ProgressBar::hidden(), // the text itself shows the progress
            None => common::progress(job.prompts.iter().map(most).sum(), "generating"),
        };
        if let Some(prompt) = prompt {
            common::print(prompt)?;
        }
        let texts = &mut self.texts;
        let mut write = |i: usize, piece: &str| -> Result<(), Error> {
            texts[i].push_str(piece);
            if prompt.is_some() { common::print(piece) } else { Ok(()) }
        };
        let streams = job.prompts.iter().map(|ids| job.tokenizer.stream(ids));
        let mut streams = streams.collect::<Result<Vec<_>, _>>()?;
        let result = generate(&mut runner, &job.prompts, &job.options, |i, id| {
            bar.inc(1);
            write(i, &streams[i].push(id)?)
        });
        bar.finish_and_clear();
        self.report = match result {
            Ok(report) => report,
            Err(error) => {
                if prompt.is_some() {
                    common::print("\n")?;
                }
                return Err(error.into());
            }
        };
        for (i, stream) in streams.into_iter().enumerate() {
            write(i, &stream.finish()?)?;
        }
        if prompt.is_some() {
            common::print("\n")?;
            eprintln!();
        }
        Ok(())
    }

    fn summary(&self, job: &Job<'_>, on_gpu: bool) {
        let report = &self.report;
        let first = report.first_token.as_secs_f64();
        let prepare = report.prepare.as_secs_f64();
        let rate = match per_second(report.prompt_tokens, first - prepare) {
            Some(rate) => format!("{rate:.1} tokens/s, "),
            None => String::new(),
        };
        let compiled =
            if on_gpu { format!(", {prepare:.3} s of it shader compilation") } else { String::new() };
        common::note(
            "prompt",
            &format!("{} tokens, {rate}first token after {first:.3} s{compiled}", report.prompt_tokens),
        );
        let decode = report.decode.as_secs_f64();
        let rate = match per_second(report.decode_tokens, decode) {
            Some(rate) => format!(", {rate:.1} tokens/s"),
            None => String::new(),
        };
        common::note("decode", &format!("{} tokens in {decode:.3} s{rate}", report.decode_tokens));
        common::note("stopped", &self.stopped(job));
        common::note("uploaded", &format!("{} of weights", common::bytes(self.uploaded)));
    }

    /// Why the sequences ended, each reason with the number of prompts where they are several.
    fn stopped(&self, job: &Job<'_>) -> String {
        let mut parts = Vec::new();
        for reason in [StopReason::Length, StopReason::EndOfText, StopReason::ContextFull] {
            let count = self.report.stops.iter().filter(|&&stop| stop == reason).count();
            if count == 0 {
                continue;
            }
            let why = match reason {
                StopReason::Length => format!("after {} tokens (--max-tokens)", job.options.max_tokens),
                StopReason::EndOfText => "at an end-of-text token".to_string(),
                StopReason::ContextFull => format!(
                    "where the context of {} tokens was full, before --max-tokens {}",
                    job.options.context, job.options.max_tokens
                ),
            };
            parts.push(if job.prompts.len() == 1 { why } else { format!("{count} × {why}") });
        }
        parts.join(", ")
    }

    fn json(&self, job: &Job<'_>, prompts: &[String]) -> Value {
        let (report, memory) = (&self.report, &self.memory);
        let texts: Vec<Value> = (0..prompts.len())
            .map(|i| {
                json!({
                    "prompt": prompts[i],
                    "text": self.texts[i],
                    "prompt_ids": job.prompts[i],
                    "ids": report.tokens[i],
                    "stop": match report.stops[i] {
                        StopReason::Length => "max_tokens",
                        StopReason::EndOfText => "end_of_text",
                        StopReason::ContextFull => "context_full",
                    },
                })
            })
            .collect();
        let (first, decode) = (report.first_token.as_secs_f64(), report.decode.as_secs_f64());
        let prepare = report.prepare.as_secs_f64();
        json!({
            "format": common::mix_json(job.model, &self.assignment),
            "bytes": memory.bytes,
            "f32_bytes": memory.f32_bytes,
            "bits_per_weight": memory.bits_per_weight,
            "uploaded_bytes": self.uploaded,
            "texts": texts,
            "prompt_tokens": report.prompt_tokens,
            "first_token_seconds": first,
            "compile_seconds": prepare,
            "prompt_tokens_per_second": per_second(report.prompt_tokens, first - prepare),
            "decode_tokens": report.decode_tokens,
            "decode_seconds": decode,
            "decode_tokens_per_second": per_second(report.decode_tokens, decode),
        })
    }
}

fn per_second(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// Prompts with their continuations, with a heading each.
fn one_after_another(outcome: &Outcome, prompts: &[String]) -> String {
    let n = prompts.len();
    let block = |(i, (prompt, text)): (usize, (&String, &String))| {
        format!("{}--- {} of {n} ---\n{prompt}{text}\n", if i == 0 { "" } else { "\n" }, i + 1)
    };
    prompts.iter().zip(&outcome.texts).enumerate().map(block).collect()
}

/// Two columns, one per outcome, headed by what each is.
fn side_by_side(job: &Job<'_>, left: &Outcome, right: &Outcome, prompts: &[String]) -> String {
    let width = (common::terminal_width().saturating_sub(3) / 2).max(10);
    let head = |outcome: &Outcome| {
        let report = &outcome.report;
        let speed = match per_second(report.decode_tokens, report.decode.as_secs_f64()) {
            Some(rate) => format!("decode {rate:.1} tokens/s"),
            None => "no token decoded".to_string(),
        };
        let mix = common::mix_line(job.model, &outcome.assignment);
        format!("{mix}\n{}\n{speed}", common::bytes_line(&outcome.memory))
    };
    let mut text = columns(&head(left), &head(right), width);
    for (i, prompt) in prompts.iter().enumerate() {
        text.push_str(&format!("{0}-+-{0}\n", "-".repeat(width)));
        let continued = |outcome: &Outcome| format!("{prompt}{}", outcome.texts[i]);
        text.push_str(&columns(&continued(left), &continued(right), width));
    }
    text
}

fn columns(left: &str, right: &str, width: usize) -> String {
    let (left, right) = (wrap(left, width), wrap(right, width));
    let mut text = String::new();
    for i in 0..left.len().max(right.len()) {
        let cell = |lines: &[String]| lines.get(i).cloned().unwrap_or_default();
        let line = format!("{:<width$} | {}", cell(&left), cell(&right));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut rest: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        while rest.len() > width {
            let space = rest[..=width].iter().rposition(|&c| c == ' ').filter(|&at| at > 0);
            let end = space.unwrap_or(width);
            lines.push(rest[..end].iter().collect());
            rest.drain(..end + usize::from(space.is_some()));
        }
        lines.push(rest.into_iter().collect());
    }
    lines
}
