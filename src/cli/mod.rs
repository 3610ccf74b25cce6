//! The verbs, one file each. The only place that knows clap, anyhow and progress bars.

mod bench;
mod chart_style;
mod classify;
mod columns;
mod common;
mod dequantize;
mod devices;
mod embed;
mod eval;
mod evaluate;
mod examples;
mod explain;
mod export;
mod formats;
mod generate;
mod hub;
mod inspect;
mod latency;
mod meter;
mod quantize;
mod run;
mod search;
mod sweep;
mod texts;
mod unfit;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of a comparison that did not hold.
const MISMATCH: u8 = 1;
/// Exit code of an error.
const ERROR: u8 = 2;

#[derive(Parser)]
#[command(
    name = "anybit",
    version,
    about = "Run, measure and validate low-bit networks on any GPU",
    after_help = "Examples:
  anybit devices
  anybit generate --prompt \"ROMEO:\"
  anybit eval --format mxint8
  anybit classify --model path/to/classifier --text \"a fine film\"

Without --model the verbs use a small Shakespeare model that is part of the program. --model also takes models of the \
Hugging Face hub by name, as org/name[@revision][:FILE]: from its cache (HF_HUB_CACHE, HF_HOME), else downloaded into it \
(HF_ENDPOINT, HF_TOKEN; not with HF_HUB_OFFLINE=1).
Exit codes: 0 ok, 1 a comparison did not hold, 2 an error."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Devices(devices::Args),
    Generate(generate::Args),
    Classify(classify::Args),
    Embed(embed::Args),
    Run(run::Args),
    Eval(eval::Args),
    Evaluate(evaluate::Args),
    Search(Box<search::Args>),
    Sweep(sweep::Args),
    Quantize(quantize::Args),
    Dequantize(dequantize::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    Formats(formats::Args),
    Verify(verify::Args),
    Bench(Box<bench::Args>),
}

/// Runs the program; `Ok(false)` of a verb means a mismatch.
pub(crate) fn main() -> ExitCode {
    common::quiet_loader();
    let cli = Cli::parse(); // exits with code 2 on a wrong command line
    let result = match cli.verb {
        Verb::Devices(args) => devices::run(&args),
        Verb::Generate(args) => generate::run(&args),
        Verb::Classify(args) => classify::run(&args),
        Verb::Embed(args) => embed::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Eval(args) => eval::run(&args),
        Verb::Evaluate(args) => evaluate::run(&args),
        Verb::Search(args) => search::run(&args),
        Verb::Sweep(args) => sweep::run(&args),
        Verb::Quantize(args) => quantize::run(args),
        Verb::Dequantize(args) => dequantize::run(&args),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Export(args) => export::run(&args),
        Verb::Formats(args) => formats::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISMATCH),
        Err(error) if common::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", common::error_line(&error));
            ExitCode::from(ERROR)
        }
    }
}
