//! `anybit search compare`: one search, repeated over samplers or families of formats and over seeds.

use std::path::PathBuf;
use std::time::Instant;

use anybit::model::atomic;
use anybit::search::sampler::SamplerSpec;
use anybit::search::{
    FAMILIES, Problem, RunOptions, Space, Study, Trial, complete, report, settings, split_list,
};
use anyhow::{Context as _, Result, bail};

use super::super::columns::aligned;
use super::super::common;
use super::args::{ProblemArgs, RunArgs, Settings};
use super::setup::Setup;
use super::{ProgressLine, make_folder, outputs};

/// Repeat a search over samplers or families of formats, several seeds each, and plot medians with bands
#[derive(clap::Args)]
#[command(
    after_help = "All studies go to OUT/journal.log, named LABEL/SEED; --resume goes on with them. OUT/compare.html \
has the best value against trials, median and quartiles over seeds; the table tells the lowest divergence each \
contestant reached within the bytes of every uniform assignment.

Examples:
  anybit search compare --samplers auto,tpe,random --seeds 5 --out comparison
  anybit search compare --families integer,minifloat,block,binary,log --sampler random --objective loss
  anybit search compare --families 'int=int2..8(group=32)' --families 'mx=mxint4|6|8' --seeds 3"
)]
pub(crate) struct Args {
    #[command(flatten)]
    problem: ProblemArgs,
    /// Samplers to compare, separated by commas
    #[arg(long, value_name = "LIST", default_value = "auto,tpe,random")]
    samplers: String,
    /// Families of formats to compare in place of samplers: names, separated by commas, or LABEL=LIST; repeatable
    #[arg(long, value_name = "LIST", conflicts_with_all = ["samplers", "space"])]
    families: Vec<String>,
    /// The sampler of a comparison of families
    #[arg(long, value_name = "SAMPLER", default_value = "auto", requires = "families")]
    sampler: SamplerSpec,
    /// Seeds 0 to N - 1
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = common::positive)]
    seeds: usize,
    /// Trials of each study [default: 200]
    #[arg(long, value_name = "N", value_parser = common::positive)]
    trials: Option<usize>,
    /// Trials proposed together [default: 8; 1 for tpe]
    #[arg(long, value_name = "N", value_parser = common::positive)]
    batch: Option<usize>,
    /// Folder for the journal and the plots
    #[arg(long, value_name = "FOLDER", default_value = "comparison")]
    out: PathBuf,
    /// Go on with the studies in OUT
    #[arg(long)]
    resume: bool,
    /// Draw the comparison as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// One line of the plot.
struct Contestant {
    label: String,
    sampler: SamplerSpec,
    problem: ProblemArgs,
}

/// What a contestant did.
struct Group {
    label: String,
    studies: Vec<Vec<Trial>>,
    problem: Problem,
    space: Space,
    adapter: String,
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let contestants = contestants(args)?;
    let journal = args.out.join("journal.log");
    if !args.resume && journal.exists() {
        bail!(
            "{} has studies already; go on with them by --resume, or give another --out",
            args.out.display()
        );
    }
    make_folder(&args.out)?;
    let mut groups: Vec<Group> = Vec::new();
    for contestant in &contestants {
        groups.push(contest(args, contestant, &journal, groups.is_empty())?);
    }
    let comparison = comparison(args, &groups);
    atomic::write(&args.out.join("compare.html"), report::html_compare(&comparison).as_bytes())?;
    if let Some(path) = &args.svg {
        atomic::write(path, report::compare_svg(&comparison).as_bytes())?;
    }
    common::print(&last_values(&comparison, &groups))?;
    let table = at_uniform_bytes(&groups);
    if !table.is_empty() {
        common::print(&format!("\n{table}"))?;
    }
    common::note("written", &args.out.join("compare.html").display().to_string());
    Ok(true)
}

fn contestants(args: &Args) -> Result<Vec<Contestant>> {
    let mut contestants = Vec::new();
    if args.families.is_empty() {
        for text in split_list(&args.samplers) {
            let sampler: SamplerSpec = text.parse()?;
            contestants.push(Contestant {
                label: sampler.to_string(),
                sampler,
                problem: args.problem.clone(),
            });
        }
    }
    for text in &args.families {
        let is_named = text.split_once('=').is_some_and(|(label, _)| !label.contains(['(', ',']));
        let families: Vec<(String, String)> = match text.split_once('=').filter(|_| is_named) {
            Some((label, list)) => vec![(label.trim().to_owned(), list.to_owned())],
            None => split_list(text).into_iter().map(|name| (name.to_owned(), name.to_owned())).collect(),
        };
        for (label, list) in families {
            if label == list && !FAMILIES.iter().any(|(name, _)| *name == label) {
                let names: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
                bail!("no family `{label}`; there are {}, or write LABEL=LIST", names.join(", "));
            }
            let problem = ProblemArgs { space: vec![list], ..args.problem.clone() };
            contestants.push(Contestant { label, sampler: args.sampler.clone(), problem });
        }
    }
    for (i, contestant) in contestants.iter().enumerate() {
        if contestants[..i].iter().any(|other| other.label == contestant.label) {
            bail!("`{}` is named twice", contestant.label);
        }
    }
    if contestants.is_empty() {
        bail!("nothing to compare; name samplers or families");
    }
    Ok(contestants)
}

fn contest(args: &Args, contestant: &Contestant, journal: &std::path::Path, is_first: bool) -> Result<Group> {
    let run = RunArgs { trials: args.trials, seed: None, batch: args.batch };
    let mut plan = Settings::new(&contestant.problem, &contestant.sampler, &run);
    let setup = Setup::new(&contestant.problem, &mut plan)?;
    if is_first {
        setup.announce(&plan);
        eprintln!();
    }
    let packer = contestant.problem.meter.packer(&setup.model)?;
    let costs = setup.pack(&packer)?;
    let problem = setup.problem(&plan, &costs)?;
    let mut meter = setup.meter(&packer, costs, &contestant.problem, &plan)?;
    let start = Instant::now();
    let mut studies = Vec::new();
    for seed in 0..args.seeds as u64 {
        let problem = Problem { seed, ..problem.clone() };
        let plan = Settings { seed, ..plan.clone() };
        let name = format!("{}/{seed}", contestant.label);
        let known = journal.exists().then(|| settings(journal, Some(&name)).ok()).flatten();
        let mut study = match known {
            Some((_, map)) => {
                let mut map = map;
                map.insert("trials".to_owned(), plan.trials.into());
                if map != plan.map() {
                    bail!(
                        "study `{name}` in {} was begun with other settings; give another --out",
                        journal.display()
                    );
                }
                Study::open(journal, &name, &setup.space, &problem)?
            }
            None => Study::create(journal, &name, &setup.space, &problem, plan.map())?,
        };
        let options = RunOptions { trials: plan.trials, batch: plan.batch, in_flight: plan.batch };
        let line = ProgressLine::new(plan.trials, &problem);
        let done = study.run(&mut meter, &*contestant.sampler.build()?, options, &mut |trials, times| {
            line.show(trials, times)
        });
        line.clear();
        done.with_context(|| {
            format!(
                "the comparison stopped in study `{name}`; go on with --resume --out {}",
                args.out.display()
            )
        })?;
        let trials = study.trials();
        outputs::say_study(&name, &problem, &trials);
        studies.push(trials);
    }
    let seconds = start.elapsed().as_secs_f64();
    let (space, label) = (setup.space.clone(), contestant.label.clone());
    let adapter = common::device_line(setup.gpu.as_deref());
    Ok(Group { label, studies, problem, space, adapter, seconds })
}

/// What is plotted: the objective, or the share of the objectives' box that no trial dominates yet.
fn comparison(args: &Args, groups: &[Group]) -> report::Comparison {
    let objectives = groups.first().map(|group| group.problem.objective.names()).unwrap_or_default();
    let all: Vec<Vec<f64>> = groups
        .iter()
        .flat_map(|group| group.studies.iter().flat_map(|trials| complete(&group.problem, trials)))
        .map(|trial| trial.values.clone())
        .collect();
    let scales: Vec<Scale> = (0..objectives.len()).map(|n| Scale::new(all.iter().map(|v| v[n]))).collect();
    let study = |group: &Group, trials: &Vec<Trial>| {
        let counted = complete(&group.problem, trials);
        let mut values = vec![f64::INFINITY; trials.len()];
        let mut points: Vec<Vec<f64>> = Vec::new();
        for trial in &counted {
            values[trial.number] = match scales.len() {
                1 => trial.values[0],
                _ => {
                    points.push(trial.values.iter().zip(&scales).map(|(v, scale)| scale.place(*v)).collect());
                    let worst = vec![BEYOND; scales.len()];
                    1.0 - report::hypervolume(&points, &worst) / BEYOND.powi(scales.len() as i32)
                }
            };
        }
        let quality = group.problem.objective.quality();
        let measured = counted.iter().filter_map(|trial| trial.measurement.as_ref());
        let mut front: Vec<(f64, f64)> = measured.map(|m| (m.bytes as f64, quality.value(m))).collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut least = f64::INFINITY;
        front.retain(|(_, value)| {
            let better = *value < least;
            least = least.min(*value);
            better
        });
        report::Study { best: report::best_so_far(&values), front }
    };
    let of = |group: &Group| report::Group {
        label: group.label.clone(),
        studies: group.studies.iter().map(|trials| study(group, trials)).collect(),
    };
    let quantity = match &objectives[..] {
        [one] => one.clone(),
        several => format!("share of {} not dominated", several.join(" x ")),
    };
    let trials = groups.first().map_or(0, |group| group.problem.trials);
    report::Comparison {
        title: format!("{} seeds, {trials} trials each", args.seeds),
        facts: vec![
            ("objective".to_owned(), objectives.join(", ")),
            ("adapter".to_owned(), groups.first().map(|group| group.adapter.clone()).unwrap_or_default()),
        ],
        command: std::env::args().map(|arg| shell_quoted(&arg)).collect::<Vec<_>>().join(" "),
        quantity,
        groups: groups.iter().map(of).collect(),
    }
}

/// How far beyond the worst value the box of the hypervolume reaches.
const BEYOND: f64 = 1.1;

/// Values to 0 … 1; by their logarithm where they span more than two decades.
struct Scale {
    log: bool,
    low: f64,
    high: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let log = low > 0.0 && high > 100.0 * low;
        if log { Self { log, low: low.ln(), high: high.ln() } } else { Self { log, low, high } }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.ln() } else { value };
        if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.0 }
    }
}

fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Median and quartiles at the end.
fn last_values(comparison: &report::Comparison, groups: &[Group]) -> String {
    let head = ["", "median", "25 %", "75 %", "trials", "seconds a study"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for (group, of) in comparison.groups.iter().zip(groups) {
        let last: Vec<f64> = group.studies.iter().filter_map(|study| study.best.last().copied()).collect();
        let quantile = |q| super::short(report::quantile(&last, q));
        let trials: usize = of.studies.iter().map(Vec::len).sum();
        rows.push(vec![
            group.label.clone(),
            quantile(0.5),
            quantile(0.25),
            quantile(0.75),
            (trials / of.studies.len().max(1)).to_string(),
            format!("{:.1}", of.seconds / of.studies.len().max(1) as f64),
        ]);
    }
    format!("best {} at the end, over seeds:\n{}", comparison.quantity, aligned(&rows, &[0]))
}

/// The lowest divergence of each contestant within the bytes of every uniform assignment: median, least and largest over
/// seeds.
fn at_uniform_bytes(groups: &[Group]) -> String {
    let Some(first) =
        groups.first().filter(|first| groups.iter().all(|g| g.space.dimensions == first.space.dimensions))
    else {
        return String::new();
    };
    let mut uniform: Vec<(String, u64, f64)> = Vec::new();
    for (spec, point) in first.space.uniform() {
        let trials = groups.iter().flat_map(|group| group.studies.iter().flatten());
        let measured =
            trials.filter(|trial| trial.point == point).find_map(|trial| trial.measurement.as_ref());
        uniform.extend(measured.map(|m| (spec, m.bytes, m.kl)));
    }
    if uniform.is_empty() {
        return String::new();
    }
    uniform.sort_by_key(|(_, bytes, _)| *bytes);
    let mut rows = vec![vec!["at the bytes of".to_owned(), "bytes".to_owned(), "its KL".to_owned()]];
    rows[0].extend(groups.iter().map(|group| group.label.clone()));
    for (spec, bytes, kl) in uniform {
        let mut row = vec![spec, bytes.to_string(), format!("{kl:.6}")];
        for group in groups {
            let best = |trials: &Vec<Trial>| {
                let within =
                    trials.iter().filter_map(|trial| trial.measurement.as_ref()).filter(|m| m.bytes <= bytes);
                within.map(|m| m.kl).fold(f64::INFINITY, f64::min)
            };
            let mut kls: Vec<f64> = group.studies.iter().map(best).collect();
            kls.sort_by(f64::total_cmp);
            let show = |kl: f64| if kl.is_finite() { format!("{kl:.6}") } else { "none".to_owned() };
            let (least, median, most) = (kls[0], kls[kls.len() / 2], kls[kls.len() - 1]);
            row.push(format!("{} [{}, {}]", show(median), show(least), show(most)));
        }
        rows.push(row);
    }
    let note = "lowest KL to f32 within those bytes, nats per token: median [least, largest] over seeds";
    format!("{}{note}\n", aligned(&rows, &[0]))
}
