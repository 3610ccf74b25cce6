//! `anybit bench`: verified times of kernels, attention, models and pipelines, and their comparison.

mod attention;
mod chart;
mod compare;
mod kernels;
mod model;
mod startup;
mod table;
mod tune;

use std::path::PathBuf;
use std::sync::Arc;

use anybit::bench::{Ceilings, Document, Sampling, cache_bytes};
use anybit::gpu::{Clock, Gpu, OpenOptions};
use anybit::model::atomic::AtomicFile;
use anybit::shader::DeviceClass;
use anyhow::{Result, bail};
use clap::Subcommand;
use serde::Serialize;

use super::common;

/// Time what runs: kernels, attention, whole models, pipelines; compare results
///
/// Every result is compared with the CPU reference before and after it is timed, and what differs has no time. Fused and
/// naive plans take turns; times are medians with quartiles.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    anybit bench kernels --op gemv --format 'int4(group=32),int8' --shape 1x4096x4096\n  \
    anybit bench kernels --json kernels.json --plot kernels.svg\n  \
    anybit bench attention\n  \
    anybit bench model --formats 'f16,int8,int4(group=32)'\n  \
    anybit bench startup\n  \
    anybit bench tune --format 'int4(group=128)' --rows 1,128\n  \
    anybit bench compare before.json after.json\n  \
    anybit bench table kernels.json\n\n\
    Exit codes: 0 all verified; 1 a result is wrong or could not be had, so it has no time; 2 an error.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Kernels(kernels::Args),
    Attention(attention::Args),
    Model(model::Args),
    Startup(startup::Args),
    Tune(tune::Args),
    Compare(compare::Args),
    Table(table::Args),
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    match &args.verb {
        Verb::Kernels(args) => kernels::run(args),
        Verb::Attention(args) => attention::run(args),
        Verb::Model(args) => model::run(args),
        Verb::Startup(args) => startup::run(args),
        Verb::Tune(args) => tune::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Table(args) => table::run(args),
    }
}

/// What times are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ClockArg {
    /// The device's timestamps
    Timestamps,
    /// The host's clock around a submission and its fence
    Wall,
}

/// The device.
#[derive(clap::Args, Clone, Debug)]
struct AdapterArgs {
    /// Adapter by number or part of its name, see `anybit devices` [default: the best one]
    #[arg(long, value_name = "N|NAME")]
    adapter: Option<String>,
}

/// The device, and what it multiplies in.
#[derive(clap::Args, Clone, Debug)]
struct DeviceArgs {
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Multiply floats of more than 8 rows in f16
    #[arg(long)]
    f16: bool,
}

impl DeviceArgs {
    fn open(&self) -> Result<Arc<Gpu>> {
        self.adapter.open_with(self.f16)
    }
}

impl AdapterArgs {
    fn open(&self) -> Result<Arc<Gpu>> {
        self.open_with(false)
    }

    fn open_with(&self, half: bool) -> Result<Arc<Gpu>> {
        let options = OpenOptions {
            adapter: self.adapter.clone(),
            half,
            tiles: common::tiles_folder(),
            ..OpenOptions::default()
        };
        Ok(Arc::new(Gpu::open(options)?))
    }
}

/// The clock and the samples.
#[derive(clap::Args, Clone, Debug)]
struct SampleArgs {
    /// What times are read from [default: timestamps where the adapter has them]
    #[arg(long, value_enum)]
    clock: Option<ClockArg>,
    /// Enough samples; at least 3 are taken
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = common::positive)]
    samples: usize,
    /// Enough seconds of sampling per case
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
}

impl SampleArgs {
    fn clock(&self, gpu: &Gpu) -> Result<Clock> {
        match (self.clock, gpu.clock()) {
            (None, clock) => Ok(clock),
            (Some(ClockArg::Wall), _) => Ok(Clock::Wall),
            (Some(ClockArg::Timestamps), Clock::Timestamps) => Ok(Clock::Timestamps),
            (Some(ClockArg::Timestamps), Clock::Wall) => {
                bail!("adapter {} writes no timestamps; use --clock wall", gpu.adapter().name)
            }
        }
    }

    fn sampling(&self) -> Sampling {
        Sampling { samples: self.samples, seconds: self.seconds }
    }
}

/// A time on the command line.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        Ok(seconds) => Err(format!("got {seconds}, want 0 to 1000000 seconds")),
        Err(error) => Err(format!("{error}, want seconds such as 0.5")),
    }
}

/// The file of results. It is begun before anything is measured, so that a path that cannot be written is said at once.
#[derive(clap::Args, Clone, Debug)]
struct JsonArgs {
    /// Write device, ceilings and all rows as JSON, for `bench compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl JsonArgs {
    fn begin(&self) -> Result<Option<AtomicFile>> {
        Ok(self.json.as_deref().map(AtomicFile::create).transpose()?)
    }
}

/// Ends a file that was begun.
fn finish(file: Option<AtomicFile>, text: impl FnOnce() -> Result<String>) -> Result<()> {
    if let Some(mut file) = file {
        file.write_at(0, text()?.as_bytes())?;
        file.finish()?;
    }
    Ok(())
}

fn json<R: Serialize>(document: &Document<R>) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(document)?))
}

/// The banner; says where a CPU does the work of a GPU.
fn banner(gpu: &Gpu, clock: Clock) {
    common::note("adapter", &common::device_line(Some(gpu)));
    common::note("clock", clock.name());
    match gpu.tuning().len() {
        0 => {}
        n => common::note("tiles", &format!("measured for {n} products, see `anybit bench tune --help`")),
    }
    if gpu.class() == DeviceClass::Cpu {
        common::note("note", "a software driver: smaller default sizes, and times of this machine's CPU");
    }
}

fn ceilings(gpu: &Gpu, clock: Clock, samples: &SampleArgs) -> Result<Ceilings> {
    let sampling = Sampling { seconds: samples.seconds.min(1.0), ..samples.sampling() };
    let ceilings = Ceilings::measure(gpu, clock, sampling, cache_bytes(gpu))?;
    common::note(
        "ceilings",
        &format!(
            "copy {:.1} GB/s, f32 {:.1} GOP/s, dot4I8Packed {:.1} GOP/s, measured",
            ceilings.copy / 1e9,
            ceilings.f32 / 1e9,
            ceilings.dot4 / 1e9
        ),
    );
    Ok(ceilings)
}

/// Seconds in the unit that gives three digits or so.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_finite_and_not_negative() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for wrong in ["-1", "nan", "inf", "1e9", "x", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_the_unit_of_their_size() {
        assert_eq!([1e-6, 2.5e-3, 3.0].map(time), ["1.0 us", "2.50 ms", "3.00 s"]);
    }
}
