//! Prints the table of formats that stands in README.md: sizes and losses of the embedded model on its held-out
//! text. `cargo run --release --example format_table -- [--windows N]`
//!
//! All models run on the device side by side, one batch after the other, so the f32 model that they are compared
//! with runs only once. The column "PyTorch" holds losses computed independently (`tests/data/README.md`); it is
//! left empty when only part of the text is read.

use std::error::Error;
use std::sync::Arc;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::format::Spec;
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Batch, Token};
use anybit::model::Model;
use anybit::model::embedded::heldout_text;
use anybit::model::text::{Window, windows};
use anybit::run::Runner;

/// The first one is what the others are compared with.
const FORMATS: [&str; 20] = [
    "f32",
    "f16",
    "int8",
    "int4",
    "int2",
    "int8(scale=row)",
    "int4(scale=row)",
    "int4(group=32)",
    "int4(group=64)",
    "int3(group=32)",
    "mxint8",
    "mxint6",
    "mxint4",
    "mxint_cuda(group=32)",
    "base11(layout=9in32,group=256)",
    "base11(layout=9in32,group=128)",
    "base11",
    "qlinear(bits=8)",
    "qlinear(bits=4)",
    "int4(group=128)@int8",
];

/// Windows per batch.
const SEQUENCES: usize = 8;

/// Sums over tokens.
#[derive(Default)]
struct Sums {
    loss: f64,
    kl: f64,
    agreeing: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let limit = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => usize::MAX,
        [flag, n] if flag == "--windows" => n.parse()?,
        _ => return Err("usage: format_table [--windows N]".into()),
    };
    let model = Model::embedded()?;
    let graph = Arc::new(model.graph().clone());
    let tokenizer = model.tokenizer().ok_or("the model has no tokenizer")?;
    let mut text = windows(heldout_text().as_bytes(), tokenizer, model.bos(), graph.context)?;
    let whole = text.len() <= limit;
    text.truncate(limit);

    let mut resident = Resident::new(Arc::new(Gpu::open(OpenOptions::default())?), None);
    let options = SessionOptions { sequences: SEQUENCES, context: graph.context, fused: true, keep: false };
    let mut runners = Vec::new();
    let mut reports = Vec::new();
    for spec in FORMATS {
        let assignment = Assignment::uniform(&graph, &model.native_formats(), spec.parse()?);
        runners.push(Runner::gpu(&mut resident, graph.clone(), &model, &assignment, options)?);
        reports.push(MemoryReport::new(&graph, &assignment, SEQUENCES, graph.context, 1)?);
    }

    let mut sums: Vec<Sums> = FORMATS.iter().map(|_| Sums::default()).collect();
    let mut tokens = 0;
    for (i, group) in text.chunks(SEQUENCES).enumerate() {
        let (batch, targets) = batch(group);
        for runner in &mut runners {
            runner.step(&batch)?;
        }
        let (baseline, others) = runners.split_first().ok_or("no formats")?;
        sums[0].loss += sum(&baseline.losses(None, &targets)?.cross_entropy);
        sums[0].agreeing += targets.len();
        for (runner, sums) in others.iter().zip(&mut sums[1..]) {
            let report = runner.losses(Some(baseline), &targets)?;
            sums.loss += sum(&report.cross_entropy);
            sums.kl += sum(&report.kl);
            let choices = report.argmax.iter().zip(&report.baseline_argmax);
            sums.agreeing += choices.filter(|(a, b)| a == b).count();
        }
        tokens += targets.len();
        eprint!("\r{} of {} windows", i * SEQUENCES + group.len(), text.len());
    }
    eprintln!("\n{tokens} tokens on {}", resident.gpu().adapter().name);

    let independent = independent_losses()?;
    println!("| format | bits per weight | MB | loss | PyTorch | perplexity | KL to f32 | top-1 agreement |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for ((name, report), sums) in FORMATS.iter().zip(&reports).zip(&sums) {
        let n = tokens as f64;
        let loss = sums.loss / n;
        let spec: Spec = name.parse()?;
        let same = independent.iter().find(|(other, _)| whole && *other == spec);
        println!(
            "| `{name}` | {:.3} | {:.2} | {loss:.4} | {} | {:.2} | {:.5} | {:.2} % |",
            report.bits_per_weight,
            report.bytes as f64 / 1e6,
            same.map_or_else(String::new, |(_, loss)| format!("{loss:.4}")),
            loss.exp(),
            sums.kl / n,
            sums.agreeing as f64 / n * 100.0,
        );
    }
    Ok(())
}

/// All windows as one batch, every token an output, and the tokens that follow.
fn batch(group: &[Window]) -> (Batch, Vec<u32>) {
    let mut batch = Batch::default();
    for (sequence, window) in group.iter().enumerate() {
        for (position, &id) in window.inputs.iter().enumerate() {
            batch.outputs.push(batch.tokens.len() as u32);
            batch.tokens.push(Token { id, sequence: sequence as u32, position: position as u32 });
        }
    }
    (batch, group.iter().flat_map(|window| window.targets.iter().copied()).collect())
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}

/// Losses over the whole held-out text by PyTorch.
fn independent_losses() -> Result<Vec<(Spec, f64)>, Box<dyn Error>> {
    let figures: serde_json::Value =
        serde_json::from_str(include_str!("../tests/data/shakespeare/figures.json"))?;
    let mut losses = Vec::new();
    for figure in figures.as_array().ok_or("figures.json is not an array")? {
        if let (Some(format), Some(loss)) = (figure["format"].as_str(), figure["loss"].as_f64()) {
            losses.push((format.parse()?, loss));
        }
    }
    Ok(losses)
}
