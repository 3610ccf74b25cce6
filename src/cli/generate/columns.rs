//! Printing texts: one after another, or two side by side.

use super::super::common;
use super::Job;
use super::outcome::{Outcome, per_second};
use super::prompts::Prompt;

/// The prompt with what continues it; of a conversation only the answer.
fn joined(prompt: &Prompt, text: &str) -> String {
    if prompt.continues { format!("{}{text}", prompt.text) } else { text.to_owned() }
}

/// Prompts with their continuations, with a heading each.
pub(super) fn one_after_another(outcome: &Outcome, prompts: &[Prompt]) -> String {
    let n = prompts.len();
    let block = |(i, (prompt, text)): (usize, (&Prompt, &String))| {
        let whole = joined(prompt, text);
        format!("{}--- {} of {n} ---\n{whole}\n", if i == 0 { "" } else { "\n" }, i + 1)
    };
    prompts.iter().zip(&outcome.texts).enumerate().map(block).collect()
}

/// Two columns, one per outcome, headed by what each is.
pub(super) fn side_by_side(job: &Job<'_>, left: &Outcome, right: &Outcome) -> String {
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
    for (i, prompt) in job.prompts.iter().enumerate() {
        text.push_str(&format!("{0}-+-{0}\n", "-".repeat(width)));
        let continued = |outcome: &Outcome| joined(prompt, &outcome.texts[i]);
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
