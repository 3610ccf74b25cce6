//! `anybit search compare`: one search, repeated over samplers or families of formats and over seeds.

use std::path::PathBuf;
use std::time::Instant;

use anybit::model::atomic;
use anybit::search::sampler::SamplerSpec;
use anybit::search::{
    FAMILIES, Measurement, Problem, RunOptions, Space, Study, Trial, report, settings, split_list,
};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

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
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    /// One spec everywhere, measured beside the studies.
    uniform: Vec<(String, Measurement)>,
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
    if args.json {
        let study = |study: &report::Study| {
            let best: Vec<Option<f64>> =
                study.best.iter().map(|v| Some(*v).filter(|v| v.is_finite())).collect();
            json!({ "best": best, "front": study.front })
        };
        let group = |(group, of): (&report::Group, &Group)| {
            let studies: Vec<_> = group.studies.iter().map(study).collect();
            json!({ "label": group.label, "studies": studies, "seconds": of.seconds })
        };
        let all: Vec<_> = comparison.groups.iter().zip(&groups).map(group).collect();
        let json = json!({ "quantity": comparison.quantity, "groups": all });
        return Ok(common::print(&format!("{json:#}\n")).map(|()| true)?);
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
            contestants.push(Contestant { label, sampler: args.sampler, problem });
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
    let uniform = setup.uniform(&mut meter)?;
    let adapter = common::device_line(setup.gpu.as_deref());
    Ok(Group { label, studies, problem, space, uniform, adapter, seconds })
}

fn comparison(args: &Args, groups: &[Group]) -> report::Comparison {
    fn contestant(group: &Group) -> report::Contestant<'_> {
        let Group { label, problem, studies, .. } = group;
        report::Contestant { label, problem, studies }
    }
    let (quantity, compared) = report::groups(&groups.iter().map(contestant).collect::<Vec<_>>());
    let first = groups.first();
    let trials = first.map_or(0, |group| group.problem.trials);
    let objectives = first.map(|group| group.problem.objective.names().join(", "));
    let adapter = first.map(|group| group.adapter.clone());
    report::Comparison {
        title: format!("{} seeds, {trials} trials each", args.seeds),
        facts: vec![
            ("objective".to_owned(), objectives.unwrap_or_default()),
            ("adapter".to_owned(), adapter.unwrap_or_default()),
        ],
        command: common::command_line().iter().map(|word| shell_quoted(word)).collect::<Vec<_>>().join(" "),
        quantity,
        groups: compared,
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
/// seeds. Nothing where the contestants have different spaces.
fn at_uniform_bytes(groups: &[Group]) -> String {
    let one_space = |first: &&Group| groups.iter().all(|g| g.space.dimensions == first.space.dimensions);
    let Some(first) = groups.first().filter(one_space) else { return String::new() };
    let mut uniform: Vec<&(String, Measurement)> = first.uniform.iter().collect();
    uniform.retain(|(_, m)| first.problem.max_bytes.is_none_or(|most| m.bytes <= most));
    if uniform.is_empty() {
        return String::new();
    }
    uniform.sort_by_key(|(_, m)| m.bytes);
    let mut rows = vec![vec!["at the bytes of".to_owned(), "bytes".to_owned(), "its KL".to_owned()]];
    rows[0].extend(groups.iter().map(|group| group.label.clone()));
    for (spec, m) in uniform {
        let mut row = vec![spec.clone(), m.bytes.to_string(), format!("{:.6}", m.kl)];
        for group in groups {
            let lowest = |trials: &Vec<Trial>| {
                let measured = trials.iter().filter_map(|trial| trial.measurement.as_ref());
                measured
                    .filter(|other| other.bytes <= m.bytes)
                    .map(|other| other.kl)
                    .fold(f64::INFINITY, f64::min)
            };
            let kls: Vec<f64> = group.studies.iter().map(lowest).collect();
            let at = |q| match report::quantile(&kls, q) {
                kl if kl.is_finite() => format!("{kl:.6}"),
                _ => "none".to_owned(),
            };
            row.push(format!("{} [{}, {}]", at(0.5), at(0.0), at(1.0)));
        }
        rows.push(row);
    }
    let note = "lowest KL to f32 within those bytes, nats per prediction: median [least, largest] over seeds";
    format!("{}{note}\n", aligned(&rows, &[0]))
}
