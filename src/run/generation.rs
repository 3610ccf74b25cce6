//! The generation loop: one ragged prefill, then one decode step per token for all prompts together.

use std::time::{Duration, Instant};

use super::Runner;
use crate::error::{Result, invalid};
use crate::graph::{Batch, Token};
use crate::model::sampling::{Sampler, SamplingOptions, log_probabilities};

/// What to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerationOptions {
    /// Tokens to add to each prompt at most.
    pub max_tokens: usize,
    /// Positions per sequence.
    pub context: usize,
    /// Token ids that end a text; they are not part of the result.
    pub eos: Vec<u32>,
    /// How tokens are drawn; sequence i uses `seed + i`.
    pub sampling: SamplingOptions,
    /// What happens where the context is full.
    pub overflow: Overflow,
    /// Log-probabilities of that many of the likeliest tokens come with every token; `None` for none at all.
    pub log_probabilities: Option<usize>,
}

/// What happens where a text needs more positions than the context has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The text ends there. A prompt that fills the context by itself is an error.
    #[default]
    Stop,
    /// It is an error, before anything is generated.
    Refuse,
    /// The oldest tokens but the first `keep` are left out, half of what is not kept at a time; the rest moves to the
    /// front and is computed again as a prompt, so that what follows is what the model says after exactly these tokens.
    Slide {
        /// Tokens at the front that always stay.
        keep: usize,
    },
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `max_tokens` were generated.
    Length,
    /// An end-of-text token was drawn.
    EndOfText,
    /// The context is full.
    ContextFull,
    /// The caller said so, e.g. at a stop string.
    Told,
}

/// A token as it is chosen.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Index of its prompt.
    pub sequence: usize,
    /// Vocabulary index.
    pub id: u32,
    /// The logarithm of its probability and the likeliest tokens with theirs, if asked for; see [`log_probabilities`].
    pub log_probabilities: Option<(f64, Vec<(u32, f64)>)>,
}

/// Whether a sequence goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With another token.
    Go,
    /// It ends with this one.
    Stop,
}

/// Tokens and times of one run.
#[derive(Clone, Debug, Default)]
pub struct GenerationReport {
    /// Generated ids per prompt.
    pub tokens: Vec<Vec<u32>>,
    /// Why each sequence ended.
    pub stops: Vec<StopReason>,
    /// Prompt tokens in all, as they were fed.
    pub prompt_tokens: usize,
    /// Tokens of the prompts that were left out because they did not fit the context.
    pub cut: usize,
    /// How often a sequence slid.
    pub slides: usize,
    /// Planning and shader compilation before the first batch.
    pub prepare: Duration,
    /// From the start, preparation included, until every prompt had its first token.
    pub first_token: Duration,
    /// Time of the decode steps after the first token.
    pub decode: Duration,
    /// Tokens generated in those steps.
    pub decode_tokens: usize,
}

/// One text.
struct Sequence {
    /// The tokens that are at positions 0 … of the context.
    window: Vec<u32>,
    /// How many of them have been run.
    run: usize,
    /// Prompt and all tokens after it.
    all: Vec<u32>,
    sampler: Sampler,
}

/// Continues `prompts` (token ids; prompt i uses KV-cache slot i) until each has ended. `on_token` sees every
/// token as it is chosen and says whether its sequence goes on.
///
/// # Errors
/// When a prompt is empty or leaves no room in the context, options are out of range, or the executor fails.
pub fn generate(
    runner: &mut Runner<'_>,
    prompts: &[Vec<u32>],
    options: &GenerationOptions,
    mut on_token: impl FnMut(&Generated) -> Result<Next>,
) -> Result<GenerationReport> {
    check(prompts, options)?;
    let mut report = GenerationReport {
        tokens: vec![Vec::new(); prompts.len()],
        stops: vec![StopReason::Length; prompts.len()],
        ..GenerationReport::default()
    };
    let mut sequences = Vec::with_capacity(prompts.len());
    for (i, prompt) in prompts.iter().enumerate() {
        let seed = options.sampling.seed.wrapping_add(i as u64);
        let sampler = Sampler::new(SamplingOptions { seed, ..options.sampling })?;
        let mut sequence = Sequence { window: prompt.clone(), run: 0, all: prompt.clone(), sampler };
        if let Overflow::Slide { keep } = options.overflow {
            while sequence.window.len() >= options.context {
                sequence.slide(keep, options.context);
            }
        }
        report.prompt_tokens += sequence.window.len();
        report.cut += prompt.len() - sequence.window.len();
        sequences.push(sequence);
    }
    if prompts.is_empty() || options.max_tokens == 0 {
        return Ok(report);
    }
    let mut active: Vec<usize> = (0..prompts.len()).collect();
    let mut batch = next_batch(&mut sequences, &active);
    let start = Instant::now();
    // The larger shape first: buffers then need not grow.
    runner.prepare(batch.tokens.len(), batch.outputs.len())?;
    runner.prepare(prompts.len(), prompts.len())?;
    report.prepare = start.elapsed();
    let mut decode_start = None;
    while !active.is_empty() {
        runner.step(&batch)?;
        // The device's argmax does not look for NaN: where the numbers overflow they do so from the start.
        let on_device =
            options.sampling.is_argmax() && options.log_probabilities.is_none() && decode_start.is_some();
        let chosen = choose(runner, &active, &mut sequences, options, on_device)?;
        match decode_start {
            None => {
                report.first_token = start.elapsed();
                decode_start = Some(Instant::now());
            }
            Some(begin) => {
                report.decode_tokens += active.len();
                report.decode = Instant::elapsed(&begin);
            }
        }
        let mut still = Vec::with_capacity(active.len());
        for token in chosen {
            let i = token.sequence;
            if options.eos.contains(&token.id) {
                report.stops[i] = StopReason::EndOfText;
                continue;
            }
            let next = on_token(&token)?;
            report.tokens[i].push(token.id);
            let sequence = &mut sequences[i];
            sequence.all.push(token.id);
            if next == Next::Stop {
                report.stops[i] = StopReason::Told;
                continue;
            }
            if report.tokens[i].len() >= options.max_tokens {
                continue;
            }
            sequence.window.push(token.id);
            if sequence.window.len() > options.context {
                let Overflow::Slide { keep } = options.overflow else {
                    report.stops[i] = StopReason::ContextFull;
                    continue;
                };
                sequence.slide(keep, options.context);
                report.slides += 1;
            }
            still.push(i);
        }
        active = still;
        batch = next_batch(&mut sequences, &active);
    }
    Ok(report)
}

fn check(prompts: &[Vec<u32>], options: &GenerationOptions) -> Result<()> {
    let context = options.context;
    if let Overflow::Slide { keep } = options.overflow
        && keep.saturating_add(2) > context
    {
        invalid!(
            "{keep} tokens are to be kept in a context of {context}; keep at most {}",
            context.saturating_sub(2)
        );
    }
    for (i, prompt) in prompts.iter().enumerate() {
        let (number, len) = (i + 1, prompt.len());
        if prompt.is_empty() {
            invalid!("prompt {number} has no tokens; give some text");
        }
        match options.overflow {
            Overflow::Stop if len >= context => invalid!(
                "prompt {number} has {len} tokens, the context has {context}; shorten it so that at least one token \
                 can follow, or let the text slide"
            ),
            Overflow::Refuse if len.saturating_add(options.max_tokens) > context => invalid!(
                "prompt {number} has {len} tokens and {} more are to follow, the context has {context}; shorten one of \
                 the two",
                options.max_tokens
            ),
            _ => {}
        }
    }
    Ok(())
}

impl Sequence {
    /// Leaves out half of what is not kept, the oldest first.
    fn slide(&mut self, keep: usize, context: usize) {
        let keep = keep.min(self.window.len());
        let out = ((context - keep) / 2).clamp(1, self.window.len() - keep);
        self.window.drain(keep..keep + out);
        self.run = 0;
    }
}

/// What has not been run yet of every active sequence: a token each, or a whole prompt.
fn next_batch(sequences: &mut [Sequence], active: &[usize]) -> Batch {
    let mut batch = Batch::default();
    for &i in active {
        let sequence = &mut sequences[i];
        for position in sequence.run..sequence.window.len() {
            let id = sequence.window[position];
            batch.tokens.push(Token { id, sequence: i as u32, position: position as u32, segment: 0 });
        }
        sequence.run = sequence.window.len();
        batch.outputs.push(batch.tokens.len() as u32 - 1);
    }
    batch
}

/// One token per active sequence, of the logits on the device (the likeliest) or read back.
fn choose(
    runner: &Runner<'_>,
    active: &[usize],
    sequences: &mut [Sequence],
    options: &GenerationOptions,
    on_device: bool,
) -> Result<Vec<Generated>> {
    if on_device {
        let ids = runner.argmax()?;
        let token = |(&sequence, id)| Generated { sequence, id, log_probabilities: None };
        return Ok(active.iter().zip(ids).map(token).collect());
    }
    let logits = runner.logits()?;
    let rows = logits.chunks(logits.len() / active.len().max(1));
    let draw = |(&i, row): (&usize, &[f32])| {
        let Sequence { sampler, all, .. } = &mut sequences[i];
        let id = sampler.sample(row, all)?;
        let log_probabilities = options.log_probabilities.map(|top| log_probabilities(row, id, top));
        Ok(Generated { sequence: i, id, log_probabilities })
    };
    active.iter().zip(rows).map(draw).collect()
}
