//! The generation loop: one ragged prefill, then one decode step per token for all prompts together.

use std::time::{Duration, Instant};

use super::Runner;
use crate::error::{Result, invalid};
use crate::graph::{Batch, Token};
use crate::model::sampling::{Sampler, SamplingOptions};

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerationOptions {
    /// Tokens to add to each prompt at most.
    pub max_tokens: usize,
    /// Positions per sequence; generation stops when they are used up.
    pub context: usize,
    /// Token ids that end a text; they are not part of the result.
    pub eos: Vec<u32>,
    /// How tokens are drawn; sequence i uses `seed + i`.
    pub sampling: SamplingOptions,
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
}

/// Tokens and times of one run.
#[derive(Clone, Debug, Default)]
pub struct GenerationReport {
    /// Generated ids per prompt.
    pub tokens: Vec<Vec<u32>>,
    /// Why each sequence ended.
    pub stops: Vec<StopReason>,
    /// Prompt tokens in all.
    pub prompt_tokens: usize,
    /// Planning and shader compilation before the first batch.
    pub prepare: Duration,
    /// From the start, preparation included, until every prompt had its first token.
    pub first_token: Duration,
    /// Time of the decode steps after the first token.
    pub decode: Duration,
    /// Tokens generated in those steps.
    pub decode_tokens: usize,
}

/// Continues `prompts` (token ids; prompt i uses KV-cache slot i) until each has ended. `on_token` sees every
/// token as it is chosen, with the index of its prompt.
///
/// # Errors
/// When a prompt is empty or leaves no room in the context, sampling options are out of range, or the
/// executor fails.
pub fn generate(
    runner: &mut Runner<'_>,
    prompts: &[Vec<u32>],
    options: &GenerationOptions,
    mut on_token: impl FnMut(usize, u32) -> Result<()>,
) -> Result<GenerationReport> {
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            invalid!("prompt {} has no tokens; give some text", i + 1);
        }
        if prompt.len() >= options.context {
            invalid!(
                "prompt {} has {} tokens, the context has {}; shorten it so that at least one token can follow",
                i + 1,
                prompt.len(),
                options.context
            );
        }
    }
    let mut samplers = Vec::with_capacity(prompts.len());
    for i in 0..prompts.len() {
        let seed = options.sampling.seed.wrapping_add(i as u64);
        samplers.push(Sampler::new(SamplingOptions { seed, ..options.sampling })?);
    }
    let mut report = GenerationReport {
        tokens: vec![Vec::new(); prompts.len()],
        stops: vec![StopReason::Length; prompts.len()],
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        prepare: Duration::ZERO,
        first_token: Duration::ZERO,
        decode: Duration::ZERO,
        decode_tokens: 0,
    };
    if prompts.is_empty() || options.max_tokens == 0 {
        return Ok(report);
    }
    let mut batch = Batch::default();
    for (sequence, prompt) in prompts.iter().enumerate() {
        for (position, &id) in prompt.iter().enumerate() {
            batch.tokens.push(Token::new(id, sequence as u32, position as u32));
        }
        batch.outputs.push(batch.tokens.len() as u32 - 1);
    }
    let start = Instant::now();
    // The larger shape first: buffers then need not grow.
    runner.prepare(batch.tokens.len(), batch.outputs.len())?;
    runner.prepare(prompts.len(), prompts.len())?;
    report.prepare = start.elapsed();
    let greedy = options.sampling.temperature == 0.0;
    let mut active: Vec<usize> = (0..prompts.len()).collect();
    let mut decode_start = None;
    while !active.is_empty() {
        runner.step(&batch)?;
        // The device's argmax does not look for NaN: where the numbers overflow they do so from the start.
        let on_device = greedy && decode_start.is_some();
        let chosen = choose(runner, &active, &mut samplers, on_device)?;
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
        batch = Batch::default();
        let mut still = Vec::with_capacity(active.len());
        for (&sequence, id) in active.iter().zip(chosen) {
            if options.eos.contains(&id) {
                report.stops[sequence] = StopReason::EndOfText;
                continue;
            }
            on_token(sequence, id)?;
            report.tokens[sequence].push(id);
            let position = prompts[sequence].len() + report.tokens[sequence].len() - 1;
            if report.tokens[sequence].len() >= options.max_tokens {
                continue;
            }
            if position >= options.context {
                report.stops[sequence] = StopReason::ContextFull;
                continue;
            }
            batch.outputs.push(batch.tokens.len() as u32);
            batch.tokens.push(Token::new(id, sequence as u32, position as u32));
            still.push(sequence);
        }
        active = still;
    }
    Ok(report)
}

/// One token per active sequence, of the logits on the device (the likeliest) or read back.
fn choose(
    runner: &Runner<'_>,
    active: &[usize],
    samplers: &mut [Sampler],
    on_device: bool,
) -> Result<Vec<u32>> {
    if on_device {
        return runner.argmax();
    }
    let logits = runner.logits()?;
    let rows = logits.chunks(logits.len() / active.len().max(1));
    active.iter().zip(rows).map(|(&sequence, row)| samplers[sequence].sample(row)).collect()
}
