//! `anybit verify`

use std::collections::BTreeMap;
use std::sync::Arc;

use anybit::cases::{self, CaseResult, Filter, Line, ModelCheck, NodeResult};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Graph};
use anybit::model::Model;
use anyhow::{Result, bail};
use serde_json::json;

use super::common::{self, FormatArgs, ModelArgs};

/// Compare the device with the CPU reference: every kernel, then every node of a model
///
/// Kernels run on odd shapes in every format; outputs are poisoned beforehand and guard words checked
/// afterwards. A model runs two prompts and one more token, fused and naive, and the first node that differs is
/// named. Exit code 0: all agree; 1: something differs; 2: an error, such as no adapter.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    anybit verify\n  \
    anybit verify --kernels-only --filter 'gemv<int4' --unchecked\n  \
    anybit verify --model-only --model models/stories260k --format 'int4(group=32)@int8'")]
pub(crate) struct Args {
    /// Only the kernels, no model
    #[arg(long, conflicts_with = "model_only")]
    kernels_only: bool,
    /// Only the model, no kernels
    #[arg(long)]
    model_only: bool,
    /// Only kernel cases whose name contains this, e.g. `gemm`, `<int4`, `[37, 172]`
    #[arg(long, value_name = "TEXT", conflicts_with = "model_only")]
    filter: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Adapter by number or part of its name, see `anybit devices` [default: the best one]
    #[arg(long, value_name = "N|NAME")]
    adapter: Option<String>,
    /// Only with bounds, division and loop checks in the shaders [default: with and without]
    #[arg(long, conflicts_with = "unchecked")]
    checked: bool,
    /// Only without such checks, as the other verbs run
    #[arg(long)]
    unchecked: bool,
    /// Print every result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Results in one of the two modes.
struct Mode {
    name: &'static str,
    cases: Vec<CaseResult>,
    nodes: Vec<NodeResult>,
}

impl Mode {
    fn failures(&self) -> usize {
        self.cases.iter().filter(|r| !r.pass).count() + self.nodes.iter().filter(|r| !r.pass).count()
    }
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let filter = Filter { text: args.filter.clone(), ..Filter::default() };
    if !args.model_only && !cases::all().iter().any(|case| filter.accepts(case)) {
        bail!(
            "no kernel case contains {:?}; a case is named like `gemv<int4 group> int4(group=32) [37, 172] x 1`",
            args.filter.as_deref().unwrap_or_default()
        );
    }
    // A model that cannot be read is said before minutes of kernels.
    let wanted = !args.kernels_only && args.filter.is_none();
    let subject = wanted.then(|| Subject::load(args)).transpose()?;
    let mut modes = Vec::new();
    for (name, checked, skip) in [("checked", true, args.unchecked), ("unchecked", false, args.checked)] {
        if skip {
            continue;
        }
        let mut options = OpenOptions { adapter: args.adapter.clone(), checked, ..OpenOptions::default() };
        if checked {
            // The cases have few rows; the other mode reads storage, but pairs of vec4 as long words.
            options.windows = Some(1);
            options.long = false;
        }
        let gpu = Arc::new(Gpu::open(options.clone())?);
        if modes.is_empty() && !args.json {
            println!("device  {}", common::device_line(Some(&gpu)));
            if let Some(Subject { model, assignment, .. }) = &subject {
                println!("model   {}: {}", model.name(), common::mix_line(model, assignment));
            }
        }
        let mut mode = Mode { name, cases: Vec::new(), nodes: Vec::new() };
        if !args.model_only {
            let bar = common::progress(0, &format!("kernels, shaders {name}"));
            mode.cases = cases::run_apart(&options, &filter, &|done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            })?;
            bar.finish_and_clear();
        }
        if let Some(subject) = &subject {
            mode.nodes = subject.nodes(&gpu)?;
        }
        if !args.json {
            print(&mode);
        }
        modes.push(mode);
    }
    let failures: usize = modes.iter().map(Mode::failures).sum();
    if args.json {
        let results: BTreeMap<_, _> =
            modes.iter().map(|m| (m.name, json!({ "kernels": m.cases, "nodes": m.nodes }))).collect();
        println!("{}", json!({ "pass": failures == 0, "results": results }));
    } else {
        let total: usize = modes.iter().map(|m| m.cases.len() + m.nodes.len()).sum();
        match failures {
            0 => println!("PASS: {total} of {total} results agree with the reference"),
            n => println!("FAIL: {n} of {total} results differ from the reference"),
        }
    }
    Ok(failures == 0)
}

/// The model to verify.
struct Subject {
    model: Model,
    graph: Arc<Graph>,
    assignment: Assignment,
}

impl Subject {
    fn load(args: &Args) -> Result<Self> {
        let model = args.model.load()?;
        let assignment = args.format.assignment(&model, model.default_spec())?;
        let graph = Arc::new(model.graph().clone());
        Ok(Self { model, graph, assignment })
    }

    fn nodes(&self, gpu: &Arc<Gpu>) -> Result<Vec<NodeResult>> {
        let Self { model, graph, assignment } = self;
        let bar = common::progress(2, "model");
        let mut nodes = Vec::new();
        for fused in [true, false] {
            nodes.extend(cases::verify_model(gpu, &ModelCheck { graph, weights: model, assignment, fused })?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(nodes)
    }
}

fn print(mode: &Mode) {
    if !mode.cases.is_empty() {
        let lines = cases::summary(&mode.cases);
        println!("\nkernels, shaders {}", mode.name);
        let width = lines.iter().map(|l| label(l).chars().count()).max().unwrap_or(0);
        println!(
            "{:width$} {:>5} {:>9} {:>6}  result  {:<24}  where",
            "kernel<format>", "cases", "max error", "NMSE", "tolerance"
        );
        for line in &lines {
            let verdict = if line.failed == 0 { "pass" } else { "FAIL" };
            let place = line.at.as_deref().unwrap_or("-");
            println!(
                "{:width$} {:>5} {:>9.1e} {:>6.0e}  {verdict:<6}  {:<24}  {place}",
                label(line),
                line.cases,
                line.max_error,
                line.nmse,
                line.tolerance
            );
        }
    }
    if !mode.nodes.is_empty() {
        println!("\nmodel, shaders {}", mode.name);
        for plan in ["fused", "naive"] {
            for step in ["prefill", "decode", "again"] {
                let of = || mode.nodes.iter().filter(move |r| (r.plan, r.step) == (plan, step));
                print_nodes(&format!("{plan} {step}"), &of().collect::<Vec<_>>());
            }
        }
    }
}

fn print_nodes(name: &str, nodes: &[&NodeResult]) {
    let Some(worst) = nodes.iter().max_by(|a, b| a.nmse.total_cmp(&b.nmse)) else { return };
    let chained = nodes.iter().map(|r| r.chained_nmse).fold(0.0, f64::max);
    println!(
        "{name:14} {:>4} nodes  alone: NMSE {:.1e} (limit {:.0e}), worst {}  chained: NMSE {chained:.1e} (limit \
         {:.0e})  {}",
        nodes.len(),
        worst.nmse,
        worst.tolerance,
        worst.node,
        worst.chained_tolerance,
        if nodes.iter().all(|r| r.pass) { "pass" } else { "FAIL" }
    );
    if let Some(first) = nodes.iter().find(|r| !r.pass) {
        println!(
            "               first difference: {} {}",
            first.node,
            first.at.as_deref().unwrap_or("(chained)")
        );
    }
}

/// `gemv<int4 group>`
fn label(line: &Line) -> String {
    if line.variant.is_empty() {
        line.kernel.to_string()
    } else {
        format!("{}<{}>", line.kernel, line.variant)
    }
}
