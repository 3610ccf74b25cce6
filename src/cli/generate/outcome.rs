//! One generation under one assignment: running it, and saying what came of it.

use anybit::Error;
use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::graph::Assignment;
use anybit::run::{Generated, GenerationReport, Next, StopReason, generate};
use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::super::common;
use super::Job;

/// One generation under one assignment.
pub(super) struct Outcome {
    pub(super) assignment: Assignment,
    pub(super) memory: MemoryReport,
    pub(super) report: GenerationReport,
    /// Text of every prompt, without the prompt.
    pub(super) texts: Vec<String>,
    uploaded: u64,
    /// What was said about every token, if asked for.
    tokens: Vec<Vec<Generated>>,
}

impl Outcome {
    pub(super) fn new(job: &Job<'_>, assignment: Assignment) -> Result<Self> {
        let tokens = job.ids.iter().map(Vec::len).sum();
        let (sequences, context) = (job.prompts.len(), job.options.context);
        let memory = MemoryReport::new(job.model.graph(), &assignment, sequences, context, tokens)?;
        let report = GenerationReport::default();
        let (texts, tokens) = (vec![String::new(); sequences], vec![Vec::new(); sequences]);
        Ok(Self { assignment, memory, report, texts, uploaded: 0, tokens })
    }

    /// Generates; if it `streams`, the text goes to stdout as it comes, after the prompt.
    pub(super) fn generate(
        &mut self,
        job: &Job<'_>,
        mut resident: Option<&mut Resident>,
        streams: bool,
    ) -> Result<()> {
        let room = |ids: &Vec<u32>| (job.options.context + 1).saturating_sub(ids.len());
        let most = |ids: &Vec<u32>| match job.options.overflow {
            anybit::run::Overflow::Stop => job.options.max_tokens.min(room(ids)) as u64,
            _ => job.options.max_tokens as u64,
        };
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
        let bar = match streams {
            true => ProgressBar::hidden(), // the text itself shows the progress
            false => common::progress(job.ids.iter().map(most).sum(), "generating"),
        };
        if let Some(prompt) = job.prompts.first().filter(|prompt| streams && prompt.continues) {
            common::print(&prompt.text)?;
        }
        let (texts, said) = (&mut self.texts, &mut self.tokens);
        let mut write = |i: usize, piece: &str| -> Result<(), Error> {
            texts[i].push_str(piece);
            if streams { common::print(piece) } else { Ok(()) }
        };
        let decoders = job.ids.iter().map(|ids| job.tokenizer.stream(ids));
        let mut decoders = decoders.collect::<Result<Vec<_>, _>>()?;
        let mut stops = vec![job.stop.clone(); job.prompts.len()];
        let result = generate(&mut runner, &job.ids, &job.options, |token| {
            bar.inc(1);
            let i = token.sequence;
            if token.log_probabilities.is_some() {
                said[i].push(token.clone());
            }
            let (shown, ends) = stops[i].push(&decoders[i].push(token.id)?);
            write(i, &shown)?;
            Ok(if ends { Next::Stop } else { Next::Go })
        });
        bar.finish_and_clear();
        self.report = match result {
            Ok(report) => report,
            Err(error) => {
                if streams {
                    common::print("\n")?;
                }
                return Err(error.into());
            }
        };
        for (i, (decoder, mut stop)) in decoders.into_iter().zip(stops).enumerate() {
            if self.report.stops[i] == StopReason::Told {
                continue;
            }
            let (shown, ends) = stop.push(&decoder.finish()?);
            write(i, &shown)?;
            if !ends {
                write(i, &stop.finish())?;
            }
        }
        if streams {
            common::print("\n")?;
            eprintln!();
        }
        Ok(())
    }

    pub(super) fn summary(&self, job: &Job<'_>, on_gpu: bool) {
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
        if report.cut > 0 || report.slides > 0 {
            let cut = match report.cut {
                0 => String::new(),
                cut => format!("{cut} tokens of the prompt left out, "),
            };
            common::note("context", &format!("{cut}slid {} times", report.slides));
        }
        common::note("uploaded", &format!("{} of weights", common::bytes(self.uploaded)));
    }

    /// Why the sequences ended, each reason with the number of prompts where they are several.
    fn stopped(&self, job: &Job<'_>) -> String {
        let mut parts = Vec::new();
        for reason in [StopReason::Length, StopReason::EndOfText, StopReason::ContextFull, StopReason::Told] {
            let count = self.report.stops.iter().filter(|&&stop| stop == reason).count();
            if count == 0 {
                continue;
            }
            let why = match reason {
                StopReason::Length => format!("after {} tokens (--max-tokens)", job.options.max_tokens),
                StopReason::EndOfText => "at an end-of-text token".to_string(),
                StopReason::Told => "at a stop string".to_string(),
                StopReason::ContextFull => format!(
                    "where the context of {} tokens was full, before --max-tokens {}",
                    job.options.context, job.options.max_tokens
                ),
            };
            parts.push(if job.prompts.len() == 1 { why } else { format!("{count} × {why}") });
        }
        parts.join(", ")
    }

    pub(super) fn json(&self, job: &Job<'_>) -> Value {
        let (report, memory) = (&self.report, &self.memory);
        let texts: Vec<Value> = (0..job.prompts.len())
            .map(|i| {
                let mut text = json!({
                    "prompt": job.prompts[i].text,
                    "text": self.texts[i],
                    "prompt_ids": job.ids[i],
                    "ids": report.tokens[i],
                    "stop": match report.stops[i] {
                        StopReason::Length => "max_tokens",
                        StopReason::EndOfText => "end_of_text",
                        StopReason::ContextFull => "context_full",
                        StopReason::Told => "stop_string",
                    },
                });
                if job.options.log_probabilities.is_some() {
                    text["logprobs"] =
                        self.tokens[i].iter().map(|token| log_probabilities(job, token)).collect();
                }
                text
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
            "prompt_tokens_cut": report.cut,
            "slides": report.slides,
            "first_token_seconds": first,
            "compile_seconds": prepare,
            "prompt_tokens_per_second": per_second(report.prompt_tokens, first - prepare),
            "decode_tokens": report.decode_tokens,
            "decode_seconds": decode,
            "decode_tokens_per_second": per_second(report.decode_tokens, decode),
        })
    }
}

/// The chosen token and the likeliest ones: id, text, natural logarithm of the probability.
fn log_probabilities(job: &Job<'_>, token: &Generated) -> Value {
    let Some((own, top)) = &token.log_probabilities else { return Value::Null };
    let entry = |id: u32, log: f64| {
        let text = job.tokenizer.decode(&[id]).unwrap_or_default();
        json!({ "id": id, "text": text, "logprob": log })
    };
    let mut chosen = entry(token.id, *own);
    chosen["top"] = top.iter().map(|(id, log)| entry(*id, *log)).collect();
    chosen
}

pub(super) fn per_second(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}
