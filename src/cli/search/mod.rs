//! `anybit search`: the best mix of formats for a model, a budget and this device.

mod args;
mod compare;
mod outputs;
mod setup;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anybit::search::sampler::SamplerSpec;
use anybit::search::{Problem, RunOptions, RunTimes, Study, Trial, TrialState, best, front, settings};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::common;
use args::{ProblemArgs, RunArgs, Settings};
use setup::Setup;

/// Search for the best mix of formats per layer, over weights that stay on the device
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "A list of formats holds specs (int4(group=128), int4@int8, qlinear(bits=4)), ranges (int2..8, \
minifloat_denorm(8|16,3|4,7)) and families (integer, minifloat, log, block, binary, full, int, mxint, mxfp).

Every trial is a new assignment over resident weights: nothing is loaded, quantized or uploaded. Trials are recorded in \
OUT/journal.log, in Optuna's journal format, before the next ones begin: a search that was killed goes on with --resume, \
`optuna.load_study` reads it, optuna-dashboard shows it, and several processes may work on one journal at once. At the \
end the front is measured again on other windows of the text or other labelled texts, and OUT has best.json and front/*.json (qconfigs for \
generate, eval and quantize), trials.csv, report.html and costs.json.

Examples:
  anybit search --out study
  anybit search --space 'int2,int4(group=128),int8,mxint8,base11' --max-bytes 1.6MB --trials 300 --out study
  anybit search --space 'qlinear(bits=2|4|8)' --objective 'scalar(alpha=0.5,size=nominal_bytes)' --sampler tpe
  anybit search --space int4,int8 --space '*.mlp.*=int2..4(group=32)' --tie 'model.layers.{}.self_attn.*'
  anybit search --resume --out study --trials 400
  anybit search --model path/to/classifier --data labelled.tsv --objective accuracy,bytes --out study
  anybit search compare --samplers auto,tpe,random --seeds 5 --out comparison
  anybit generate --qconfig study/best.json --prompt \"ROMEO:\""
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    problem: ProblemArgs,
    /// auto, random, grid, tpe, nsga2 or sensitivity, with options in parentheses, e.g. tpe(multivariate=true)
    /// [default: auto]
    #[arg(long, value_name = "SAMPLER")]
    sampler: Option<SamplerSpec>,
    #[command(flatten)]
    run: RunArgs,
    /// Folder for the journal and what comes of it
    #[arg(long, value_name = "FOLDER", default_value = "study")]
    out: PathBuf,
    /// Go on with the study in OUT; what it was begun with need not be repeated, --trials may be another number
    #[arg(long)]
    resume: bool,
    /// Journal, perhaps of other studies too [default: journal.log in OUT]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Name of the study in its journal [default: anybit]
    #[arg(long, value_name = "NAME")]
    study: Option<String>,
    /// Members of the front that are measured again at the end
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = common::positive)]
    finals: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    Compare(compare::Args),
}

const NAME: &str = "anybit";

pub(crate) fn run(args: &Args) -> Result<bool> {
    if let Some(Verb::Compare(args)) = &args.verb {
        return compare::run(args);
    }
    let begin = Instant::now();
    let journal = args.journal.clone().unwrap_or_else(|| args.out.join("journal.log"));
    let (mut problem_args, mut sampler, mut run) = (args.problem.clone(), args.sampler, args.run.clone());
    let (name, mut plan) = if args.resume {
        let (name, map) = settings(&journal, args.study.as_deref().or(default_name(args)))?;
        let stored: Settings = serde_json::from_value(serde_json::Value::Object(map))
            .with_context(|| format!("{}: the settings of study `{name}` are damaged", journal.display()))?;
        stored.restore(&mut problem_args, &mut sampler, &mut run)?;
        (name, Settings { trials: run.trials.unwrap_or(stored.trials), ..stored })
    } else {
        if journal.exists() && args.journal.is_none() && journal.metadata().is_ok_and(|m| m.len() > 0) {
            bail!(
                "{} has a study already; go on with it by --resume, or give another --out",
                args.out.display()
            );
        }
        let spec = sampler.map_or_else(|| "auto".parse(), Ok)?;
        (args.study.clone().unwrap_or_else(|| NAME.to_owned()), Settings::new(&problem_args, &spec, &run))
    };
    let spec: SamplerSpec = plan.sampler.parse()?;
    let setup = Setup::new(&problem_args, &mut plan)?;
    setup.announce(&plan);
    common::note(
        "sampler",
        &format!("{spec}, seed {}, {} trials in batches of {}", plan.seed, plan.trials, plan.batch),
    );
    let packer = problem_args.meter.packer(&setup.model)?;
    let start = Instant::now();
    let costs = setup.pack(&packer)?;
    let packing = start.elapsed();
    let problem = setup.problem(&plan, &costs)?;
    make_folder(&args.out)?;
    let mut study = match args.resume {
        true => Study::open(&journal, &name, &setup.space, &problem)?,
        false => Study::create(&journal, &name, &setup.space, &problem, plan.map())?,
    };
    let start = Instant::now();
    let mut meter = setup.meter(&packer, costs, &problem_args, &plan)?;
    let warm_up = start.elapsed();
    eprintln!();

    let options = RunOptions { trials: plan.trials, batch: plan.batch, in_flight: plan.batch };
    let line = ProgressLine::new(plan.trials, &problem);
    let times =
        study.run(&mut meter, &*spec.build()?, options, &mut |trials, times| line.show(trials, times));
    line.clear();
    let times = times.with_context(|| {
        format!(
            "the search stopped; every trial that was finished is in {}: go on with `anybit search --resume --out {}`",
            journal.display(),
            args.out.display()
        )
    })?;
    let trials = study.trials();
    drop(study);
    let context = outputs::Context {
        setup: &setup,
        plan: &plan,
        problem: &problem,
        trials: &trials,
        times,
        packing,
        warm_up,
        begin,
        out: &args.out,
        finals: args.finals,
    };
    outputs::write(&context, meter, args.json)?;
    Ok(true)
}

/// The study to resume without --study: `anybit` where the journal is shared, else the only one.
fn default_name(args: &Args) -> Option<&'static str> {
    args.journal.is_some().then_some(NAME)
}

pub(crate) fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| anybit::Error::io("cannot make the folder", path, error).into())
}

/// How far the search is, on stderr.
pub(crate) struct ProgressLine<'a> {
    bar: ProgressBar,
    problem: &'a Problem,
    start: Instant,
}

impl<'a> ProgressLine<'a> {
    pub(crate) fn new(trials: usize, problem: &'a Problem) -> Self {
        let bar = ProgressBar::with_draw_target(Some(trials as u64), ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("[{bar:24}] {pos}/{len} trials, {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_message("warming up");
        Self { bar, problem, start: Instant::now() }
    }

    /// Always true: a search is stopped by killing it.
    pub(crate) fn show(&self, trials: &[Trial], times: &RunTimes) -> bool {
        let done = trials.iter().filter(|t| !matches!(t.state, TrialState::Running | TrialState::Waiting));
        self.bar.set_position(done.count() as u64);
        let rate = times.trials as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
        let front = front(self.problem, trials);
        let best = match best(self.problem, trials) {
            Some(trial) => trial.values.iter().map(|v| short(*v)).collect::<Vec<_>>().join(" / "),
            None => "none".to_owned(),
        };
        let front = if self.problem.objective.count() > 1 {
            format!(", front {}", front.len())
        } else {
            String::new()
        };
        self.bar.set_message(format!("{rate:.1}/s, best {best}{front}"));
        true
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Four digits or so.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 1e5 => common::bytes(value.round() as u64),
        v if v >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

/// Seconds for a summary line.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
