//! `anybit generate`: text from a model, streamed.

mod columns;
mod outcome;
mod prompts;

use anybit::engine::Resident;
use anybit::format::Spec;
use anybit::graph::Assignment;
use anybit::model::sampling::{Sampler, SamplingOptions};
use anybit::model::{Model, StopText, Task, Tokenizer};
use anybit::run::{GenerationOptions, Overflow};
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};
use outcome::Outcome;
use prompts::{Prompt, PromptArgs};

/// Continue a text
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit generate --prompt \"ROMEO:\"
  anybit generate --prompt \"ROMEO:\" --format base11 --temperature 0
  anybit generate --prompt \"JULIET:\" --prompt \"First Citizen:\" --max-tokens 40 --json
  anybit generate --prompt \"KING:\" --format mxint8 --compare \"qlinear(bits=4)\"
  anybit generate --prompt-file letter.txt --overflow slide --keep 16 --max-tokens 500
  anybit generate --model path/to/folder --chat --system \"Be brief.\" --prompt \"Why is the sky blue?\"

Only the text goes to stdout, everything said about it to stderr, so `> FILE` keeps the text.

Tokens are drawn as Hugging Face draws them: repetition penalty, temperature, top-k, top-p, min-p, in this order. The \
values of a generation_config.json are not applied, but for its end-of-text tokens.

Without --format or --qconfig, a packed file runs as it was packed, and the block linears of any other model as \
int4(group=32). The same seed, options and format give the same text on the same device; with --temperature 0 also on \
others, as long as no two likeliest tokens are closer than rounding.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    /// Tokens to add at most; what the model's context has no room for is left out
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = common::positive)]
    max_tokens: usize,
    /// End the text before the first place where TEXT comes; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// What happens where the context is full: end the text, slide (leave out the oldest tokens and compute the rest
    /// again), or refuse at the beginning what could not fit
    #[arg(long, value_enum, default_value_t = OverflowChoice::Stop)]
    overflow: OverflowChoice,
    /// Tokens at the front that stay when the text slides
    #[arg(long, value_name = "N", default_value_t = 0, requires = "overflow")]
    keep: usize,
    /// Randomness: logits are divided by it; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw only from the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw only from the likeliest tokens that together have probability P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Draw only from tokens with at least P times the probability of the likeliest one; 0 for all
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Make tokens that came before less likely: positive logits are divided by R, negative ones multiplied; 1 for none
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Tokens back that the penalty looks; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    repeat_last_n: usize,
    /// Seed of the draws; prompt number i (from 0) uses seed + i
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Log-probabilities of the N likeliest tokens at every place, and of the one chosen, in the JSON
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Generate a second time with this format and print both side by side
    #[arg(long, value_name = "SPEC")]
    compare: Option<Spec>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OverflowChoice {
    Stop,
    Slide,
    Error,
}

/// What both generations of a comparison share.
struct Job<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    prompts: Vec<Prompt>,
    ids: Vec<Vec<u32>>,
    options: GenerationOptions,
    stop: StopText,
    fused: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let sampling = SamplingOptions {
        repetition_penalty: args.repetition_penalty,
        repeat_last_n: args.repeat_last_n,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        seed: args.seed,
    };
    Sampler::new(sampling)?; // refuses bad options before anything is loaded
    let stop = StopText::new(&args.stop)?;
    let texts = args.prompts.read()?;
    let model = args.model.load()?;
    common::require(&model, Task::Generation, "generate")?;
    let assignment = args.format.assignment(&model, model.default_spec())?;
    let other = args.compare.map(|spec| Assignment::uniform(model.graph(), &model.native_formats(), spec));
    let job = job(args, &model, texts, sampling, stop)?;
    let gpu = args.device.open()?;
    let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None).with_stacks());
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
    let streams = job.prompts.len() == 1 && outcomes.len() == 1 && !args.json;
    for outcome in &mut outcomes {
        outcome.generate(&job, resident.as_mut(), streams)?;
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
                "min_p": args.min_p,
                "repetition_penalty": args.repetition_penalty,
                "seed": args.seed,
            });
            if let Value::Object(fields) = &mut json {
                let mut runs = outcomes.iter().map(|outcome| outcome.json(&job));
                if let Some(Value::Object(first)) = runs.next() {
                    fields.extend(first);
                }
                if let Some(second) = runs.next() {
                    fields.insert("compare".to_string(), second);
                }
            }
            common::print(&format!("{json:#}\n"))?;
        }
        ([left, right], false) => common::print(&columns::side_by_side(&job, left, right))?,
        ([only], false) if !streams => common::print(&columns::one_after_another(only, &job.prompts))?,
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
fn job<'a>(
    args: &Args,
    model: &'a Model,
    texts: Vec<prompts::Text>,
    sampling: SamplingOptions,
    stop: StopText,
) -> Result<Job<'a>> {
    let Some(tokenizer) = model.tokenizer() else {
        bail!(
            "model `{}` has no tokenizer.json, so it cannot read a prompt; put the model's tokenizer.json beside \
             its config.json",
            model.name()
        );
    };
    let context = model.graph().context;
    let overflow = match args.overflow {
        OverflowChoice::Stop => Overflow::Stop,
        OverflowChoice::Slide => Overflow::Slide { keep: args.keep },
        OverflowChoice::Error => Overflow::Refuse,
    };
    let mut eos = model.eos();
    let (mut prompts, mut ids) = (Vec::new(), Vec::new());
    for (i, text) in texts.into_iter().enumerate() {
        let (prompt, own_ids, ends) = text.encode(model)?;
        if own_ids.len() >= context && overflow == Overflow::Stop {
            bail!(
                "prompt {} has {} tokens, the model's context has {context}; shorten it so that at least one token \
                 can follow, or use --overflow slide",
                i + 1,
                own_ids.len()
            );
        }
        eos.extend(ends);
        prompts.push(prompt);
        ids.push(own_ids);
    }
    let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
    let options = GenerationOptions {
        max_tokens: args.max_tokens,
        // No larger than needed, because the KV caches are as large.
        context: context.min(longest.saturating_add(args.max_tokens)),
        eos,
        sampling,
        overflow,
        log_probabilities: args.logprobs,
    };
    Ok(Job { model, tokenizer, prompts, ids, options, stop, fused: !args.device.naive })
}
