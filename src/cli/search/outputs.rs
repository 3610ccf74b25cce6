//! What a finished search writes, and its last words in the terminal.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anybit::graph::Assignment;
use anybit::model::{Unit, atomic};
use anybit::search::report::cost::Facts;
use anybit::search::report::{self, Effort, Final, Searched, Summary, Times, Uniform};
use anybit::search::{Evaluator, Measurement, Problem, RunTimes, Trial, TrialState, Usage, best, front};
use anyhow::Result;
use serde_json::{Value, json};

use super::super::meter::Meter;
use super::super::{common, evaluate};
use super::args::Settings;
use super::setup::Setup;
use super::{make_folder, seconds};

/// All there is to know when a search is over.
pub(crate) struct Context<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) plan: &'a Settings,
    pub(crate) problem: &'a Problem,
    pub(crate) trials: &'a [Trial],
    pub(crate) times: RunTimes,
    pub(crate) packing: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) begin: Instant,
    pub(crate) out: &'a Path,
    pub(crate) finals: usize,
}

/// Measures the front again and writes everything to the folder of the study.
pub(crate) fn write(c: &Context, meter: Meter<'_>, as_json: bool) -> Result<()> {
    let (usage, baseline) = (meter.usage(), (meter.baseline_loss(), meter.baseline_accuracy()));
    let mut meter = meter;
    let uniform = uniform(c, &mut meter)?;
    let front = front(c.problem, c.trials);
    let best = best(c.problem, c.trials);
    let chosen = chosen(c, &front, best);
    let mut meter = meter.on(&c.setup.model, &c.setup.held_out, c.plan.batch)?;
    let finals = finals(c, &mut meter, &chosen, best)?;
    let uniform_finals = uniform_finals(c, &mut meter)?;

    // A front of an earlier, shorter run must not stay beside the new one.
    let folder = c.out.join("front");
    if folder.is_dir() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("trial-") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    make_folder(&folder)?;
    let qconfig = |trial: &Trial| {
        let assignment = c.setup.space.assignment(&trial.point);
        format!("{:#}\n", assignment.to_qconfig(c.setup.model.graph()))
    };
    for trial in &chosen {
        atomic::write(&c.out.join(file_name(trial)), qconfig(trial).as_bytes())?;
    }
    if let Some(best) = best {
        atomic::write(&c.out.join("best.json"), qconfig(best).as_bytes())?;
        let costs = costs(c, &mut meter, &c.setup.space.assignment(&best.point))?;
        atomic::write(&c.out.join("costs.json"), format!("{costs:#}\n").as_bytes())?;
    }
    let summary = summary(c, &front, best, uniform, &finals, baseline, usage);
    atomic::write(&c.out.join("trials.csv"), report::csv(&summary).as_bytes())?;
    atomic::write(&c.out.join("report.html"), report::html(&summary).as_bytes())?;
    if as_json {
        let json = to_json(c, &summary, best, &front, &finals, &uniform_finals, usage);
        return Ok(common::print(&format!("{json:#}\n"))?);
    }
    common::print(&report::table(&summary))?;
    common::print(&final_table(c, &finals, &uniform_finals))?;
    last_words(c, usage, best);
    Ok(())
}

/// The uniform assignments; those that were not tried are measured beside the trials.
fn uniform(c: &Context, meter: &mut Meter) -> Result<Vec<Uniform>> {
    let mut uniform = Vec::new();
    for (spec, point) in c.setup.space.uniform() {
        let tried = c.trials.iter().find(|t| t.point == point && t.state == TrialState::Complete);
        let measurement = match tried {
            Some(_) => None,
            None => meter.evaluate(&[c.setup.space.assignment(&point)])?.swap_remove(0).ok(),
        };
        uniform.push(Uniform { spec, trial: tried.map(|trial| trial.number), measurement });
    }
    Ok(uniform)
}

/// The uniform assignments on the examples that the search has not seen: spec and measurement.
fn uniform_finals(c: &Context, meter: &mut Meter) -> Result<Vec<(String, Measurement)>> {
    let mut finals = Vec::new();
    for (spec, point) in c.setup.space.uniform() {
        let outcome = meter.evaluate(&[c.setup.space.assignment(&point)])?.swap_remove(0);
        finals.extend(outcome.ok().map(|m| (spec, m)));
    }
    Ok(finals)
}

/// Members of the front spread over its bytes, and the best trial.
fn chosen<'t>(c: &Context, front: &[&'t Trial], best: Option<&'t Trial>) -> Vec<&'t Trial> {
    let mut by_bytes = front.to_vec();
    by_bytes.sort_by_key(|trial| c.problem.bytes_of(&trial.point));
    let count = by_bytes.len();
    let picked: HashSet<usize> = match count > c.finals {
        true if c.finals > 1 => (0..c.finals).map(|i| i * (count - 1) / (c.finals - 1)).collect(),
        true => HashSet::new(),
        false => (0..count).collect(),
    };
    let is_best = |trial: &Trial| best.is_some_and(|best| best.number == trial.number);
    let chosen = by_bytes.into_iter().enumerate().filter(|(i, trial)| picked.contains(i) || is_best(trial));
    chosen.map(|(_, trial)| trial).collect()
}

fn file_name(trial: &Trial) -> String {
    format!("front/trial-{:04}.json", trial.number)
}

/// Joint measurements of `trials` on the examples that the search has not seen.
fn finals(c: &Context, meter: &mut Meter, trials: &[&Trial], best: Option<&Trial>) -> Result<Vec<Final>> {
    let name = |trial: &Trial| match best.is_some_and(|best| best.number == trial.number) {
        true => "best.json".to_owned(),
        false => file_name(trial),
    };
    let bar = common::progress(trials.len() as u64, "measuring again");
    let mut finals = Vec::with_capacity(trials.len());
    for trial in trials {
        let assignment = c.setup.space.assignment(&trial.point);
        let outcome = meter.evaluate(std::slice::from_ref(&assignment))?.swap_remove(0);
        bar.inc(1);
        let Ok(m) = outcome else { continue };
        let latency = meter.latency(&assignment, c.plan.latency_tokens)?;
        finals.push(Final {
            trial: trial.number,
            file: name(trial),
            loss: m.loss,
            kl: m.kl,
            agreement: m.agreement,
            accuracy: m.accuracy,
            bytes: m.bytes,
            bits_per_weight: m.bits_per_weight,
            latency_sum: latency.map(|(_, sum)| sum),
            latency_whole: latency.map(|(whole, _)| whole),
        });
    }
    bar.finish_and_clear();
    Ok(finals)
}

fn costs(c: &Context, meter: &mut Meter, assignment: &Assignment) -> Result<Value> {
    let tokens = c.plan.latency_tokens;
    let timed = meter.layer_times(assignment, tokens)?;
    let whole = meter.latency(assignment, tokens)?.map(|(whole, _)| whole);
    let seconds: Vec<Option<f64>> = match &timed {
        Some((weights, _)) => weights.iter().map(|&s| Some(s).filter(|s| *s > 0.0)).collect(),
        None => Vec::new(),
    };
    let about = [
        ("model".to_owned(), c.setup.model.name().to_owned()),
        ("device".to_owned(), common::device_line(c.setup.gpu.as_deref())),
        ("tokens per pass".to_owned(), tokens.to_string()),
    ];
    let facts = Facts {
        about: &about,
        seconds: &seconds,
        rest_seconds: timed.map(|(_, rest)| rest),
        whole_seconds: whole,
        exceptions: &[],
    };
    Ok(report::cost_file(c.setup.model.graph(), assignment, facts)?)
}

fn summary(
    c: &Context,
    front: &[&Trial],
    best: Option<&Trial>,
    uniform: Vec<Uniform>,
    finals: &[Final],
    baseline: (f64, f64),
    usage: Usage,
) -> Summary {
    let plan = c.plan;
    let count = format!("{} {}", c.setup.examples.len(), c.setup.noun);
    let facts = vec![
        ("model".to_owned(), common::model_line(&c.setup.model)),
        ("text".to_owned(), format!("{}, {count}", c.setup.text_label)),
        ("measured again on".to_owned(), held_out(c)),
        ("adapter".to_owned(), common::device_line(c.setup.gpu.as_deref())),
        ("sampler".to_owned(), format!("{}, seed {}, batches of {}", plan.sampler, plan.seed, plan.batch)),
        ("space".to_owned(), plan.space.join("; ")),
        ("budget".to_owned(), c.problem.max_bytes.map_or("none".to_owned(), |b| format!("{b} bytes"))),
        ("anybit".to_owned(), plan.version.clone()),
    ];
    let times = c.times;
    let spent = times.sampler + times.journal + times.evaluator;
    let all = c.begin.elapsed();
    let device = usage.device_seconds.min(times.evaluator.as_secs_f64());
    Summary {
        title: c.setup.model.name().to_owned(),
        facts,
        command: command(plan),
        objective: c.setup.objective.clone(),
        dimensions: Searched::of(c.setup.model.graph(), &c.setup.space),
        trials: c.trials.to_vec(),
        unit: c.setup.unit,
        uniform,
        baseline_loss: Some(baseline.0),
        baseline_accuracy: Some(baseline.1),
        front: front.iter().map(|trial| trial.number).collect(),
        best: best.map(|trial| trial.number),
        finals: finals.to_vec(),
        times: Times {
            packing: c.packing.as_secs_f64(),
            warm_up: c.warm_up.as_secs_f64(),
            sampler: times.sampler.as_secs_f64(),
            journal: times.journal.as_secs_f64(),
            device,
            rest: (all.saturating_sub(spent + c.packing + c.warm_up)).as_secs_f64()
                + (times.evaluator.as_secs_f64() - device),
        },
        effort: Effort {
            trials_per_second: times.trials as f64 / spent.as_secs_f64().max(1e-9),
            uploaded_per_trial: usage.reloaded_bytes as f64 / times.trials.max(1) as f64,
            evictions: usage.evictions,
            reused: usage.reused,
        },
    }
}

fn held_out(c: &Context) -> String {
    match c.setup.has_held_out {
        true => format!("{} further {} of {}", c.setup.held_out.len(), c.setup.noun, source(c)),
        false => format!("the same {}: {} has no more", c.setup.noun, source(c)),
    }
}

fn source(c: &Context) -> &'static str {
    match c.setup.unit {
        Unit::Token => "the text",
        Unit::Example => "the file",
    }
}

/// A command line that makes the study again.
fn command(plan: &Settings) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut line = "anybit search".to_owned();
    let mut add = |option: &str, value: &str| line.push_str(&format!(" {option} {}", quote(value)));
    plan.model.iter().for_each(|path| add("--model", &path.display().to_string()));
    let asked = &plan.asked;
    asked.text.iter().for_each(|path| add("--text", &path.display().to_string()));
    asked.data.iter().for_each(|path| add("--data", &path.display().to_string()));
    asked.windows.iter().for_each(|n| add("--windows", &n.to_string()));
    asked.examples.iter().for_each(|n| add("--examples", &n.to_string()));
    asked.context.iter().for_each(|n| add("--context", &n.to_string()));
    plan.space.iter().for_each(|text| add("--space", text));
    plan.activation.iter().for_each(|text| add("--activation", text));
    plan.tie.iter().for_each(|text| add("--tie", text));
    plan.keep_f32.iter().for_each(|text| add("--keep-f32", text));
    add("--objective", &plan.objective);
    plan.max_bytes.iter().for_each(|n| add("--max-bytes", &n.to_string()));
    plan.max_bits_per_weight.iter().for_each(|n| add("--max-bits-per-weight", &n.to_string()));
    add("--sampler", &plan.sampler);
    add("--seed", &plan.seed.to_string());
    add("--batch", &plan.batch.to_string());
    add("--trials", &plan.trials.to_string());
    line
}

/// The joint measurements beside the uniform assignments on the same examples.
fn final_table(c: &Context, finals: &[Final], uniform: &[(String, Measurement)]) -> String {
    let shares = |agreement: f64, accuracy: f64| match c.setup.unit {
        Unit::Token => vec![agreement],
        Unit::Example => vec![agreement, accuracy],
    };
    let of = |f: &Final| {
        let shares = shares(f.agreement, f.accuracy);
        (f.file.clone(), f.bytes, f.bits_per_weight, f.loss, f.kl, shares, f.latency_whole)
    };
    let mut rows: Vec<_> = finals.iter().map(of).collect();
    rows.extend(uniform.iter().map(|(spec, m)| {
        let shares = shares(m.agreement, m.accuracy);
        (format!("all {spec}"), m.bytes, m.bits_per_weight, m.loss, m.kl, shares, None)
    }));
    rows.sort_by_key(|row| row.1);
    let latency = rows.iter().any(|row| row.6.is_some());
    let mut head = vec!["", "bytes", "bits/weight", "loss", "KL", "agreement"];
    if c.setup.unit == Unit::Example {
        head.push("accuracy");
    }
    if latency {
        head.push("ms");
    }
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (name, bytes, bits, loss, kl, shares, seconds) in rows {
        let mut line =
            vec![name, bytes.to_string(), format!("{bits:.4}"), format!("{loss:.5}"), format!("{kl:.6}")];
        line.extend(shares.iter().map(|share| format!("{:.2} %", share * 100.0)));
        if latency {
            line.push(seconds.map_or("-".to_owned(), |s| format!("{:.3}", s * 1e3)));
        }
        lines.push(line);
    }
    let mut text = format!("\nmeasured again, jointly, on {}:\n", held_out(c));
    text.push_str(&super::super::columns::aligned(&lines, &[0]));
    if latency {
        text.push_str(&format!("ms: one pass of {} tokens as a whole\n", c.plan.latency_tokens));
    }
    text
}

fn last_words(c: &Context, usage: Usage, best: Option<&Trial>) {
    let times = c.times;
    let spent = times.sampler + times.journal + times.evaluator;
    let done = c.trials.iter().filter(|t| t.state == TrialState::Complete).count();
    let failed = c.trials.iter().filter(|t| t.state == TrialState::Failed).count();
    eprintln!();
    common::note("trials", &format!("{done} complete, {failed} failed; {} in this run", times.trials));
    if times.trials > 0 {
        let rate = times.trials as f64 / spent.as_secs_f64().max(1e-9);
        let share = |d: Duration| format!("{:.1} %", d.as_secs_f64() / spent.as_secs_f64().max(1e-9) * 100.0);
        common::note(
            "speed",
            &format!(
                "{rate:.1} trials/s: sampler {}, journal {}, evaluation {} ({:.0} % of steps reused)",
                share(times.sampler),
                share(times.journal),
                share(times.evaluator),
                usage.reused * 100.0
            ),
        );
    }
    common::note(
        "uploaded",
        &format!(
            "{} of weights before the first trial, {} B per trial after that, {} evictions",
            common::bytes(usage.uploaded_bytes - usage.reloaded_bytes),
            usage.reloaded_bytes / times.trials.max(1) as u64,
            usage.evictions
        ),
    );
    common::note(
        "time",
        &format!(
            "packing {}, warm-up {}, trials {}, all {}",
            seconds(c.packing),
            seconds(c.warm_up),
            seconds(spent),
            seconds(c.begin.elapsed())
        ),
    );
    let out = c.out.display();
    common::note(
        "written",
        &format!("{out}/best.json, front/, trials.csv, report.html, costs.json, journal.log"),
    );
    match best {
        Some(_) => {
            let model =
                c.plan.model.as_ref().map_or(String::new(), |path| format!(" --model {}", path.display()));
            let verb = match c.setup.unit {
                Unit::Token => "generate --prompt \"ROMEO:\"",
                Unit::Example => "classify --text \"...\"",
            };
            common::note("next", &format!("anybit {verb}{model} --qconfig {out}/best.json"))
        }
        None => eprintln!("WARNING: no trial could be measured; there is no best.json"),
    }
}

/// A line per study of a comparison.
pub(crate) fn say_study(name: &str, problem: &Problem, trials: &[Trial]) {
    let values = best(problem, trials)
        .map(|trial| trial.values.iter().map(|value| super::short(*value)).collect::<Vec<_>>().join(" / "));
    common::note(
        name,
        &format!("{} trials, best {}", trials.len(), values.unwrap_or_else(|| "none".to_owned())),
    );
}

fn to_json(
    c: &Context,
    summary: &Summary,
    best: Option<&Trial>,
    front: &[&Trial],
    finals: &[Final],
    uniform: &[(String, Measurement)],
    usage: Usage,
) -> Value {
    let trial = |trial: &Trial| {
        let mut map = trial.measurement.as_ref().map(evaluate::numbers).unwrap_or_default();
        map.insert("trial".to_owned(), json!(trial.number));
        map.insert("values".to_owned(), json!(trial.values));
        map.insert("origin".to_owned(), json!(trial.origin));
        Value::Object(map)
    };
    let last = |f: &Final| {
        json!({
            "trial": f.trial, "file": f.file, "loss": f.loss, "kl": f.kl, "top1_agreement": f.agreement,
            "accuracy": f.accuracy, "bytes": f.bytes, "bits_per_weight": f.bits_per_weight,
            "latency_sum": f.latency_sum, "latency_whole": f.latency_whole,
        })
    };
    json!({
        "model": c.setup.model.name(),
        "objective": summary.objective.names(),
        "trials": c.trials.len(),
        "failed": c.trials.iter().filter(|t| t.state == TrialState::Failed).count(),
        "best": best.map(trial),
        "front": front.iter().map(|t| trial(t)).collect::<Vec<_>>(),
        "finals": finals.iter().map(last).collect::<Vec<_>>(),
        "uniform": uniform.iter().map(|(spec, m)| {
            let mut map = evaluate::numbers(m);
            map.insert("format".to_owned(), json!(spec));
            Value::Object(map)
        }).collect::<Vec<_>>(),
        "baseline_loss": summary.baseline_loss,
        "baseline_accuracy": summary.baseline_accuracy,
        "run": {
            "trials": c.times.trials,
            "trials_per_second": summary.effort.trials_per_second,
            "sampler_seconds": c.times.sampler.as_secs_f64(),
            "journal_seconds": c.times.journal.as_secs_f64(),
            "evaluator_seconds": c.times.evaluator.as_secs_f64(),
            "packing_seconds": c.packing.as_secs_f64(),
            "warm_up_seconds": c.warm_up.as_secs_f64(),
        },
        "usage": usage,
        "backend": common::backend_name(c.setup.gpu.as_deref()),
        "adapter": c.setup.gpu.as_ref().map(|gpu| gpu.adapter()),
    })
}
