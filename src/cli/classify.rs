//! `anybit classify`: labels and their probabilities.

use std::time::Instant;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::model::Task;
use anybit::run::{outputs, softmax};
use anyhow::Result;
use serde_json::{Map, Value, json};

use super::common::{self, DeviceArgs, FormatArgs, ModelArgs};
use super::eval::batching;
use super::texts::TextsArgs;

/// Tell the class of texts, with probabilities
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit classify --model path/to/classifier --text \"a fine film\" --text \"a waste of time\"
  anybit classify --model path/to/classifier --file reviews.txt --format int8 --tsv > labels.tsv
  cat reviews.txt | anybit classify --model packed.safetensors --json

A .tsv file has lines of text, text<TAB>label or text<TAB>text<TAB>label (a pair), perhaps with a header; where it has \
labels, the share of right ones is told. Texts longer than the model's context lose their end, which is said. Without \
--format or --qconfig a packed file runs as it was packed, any other model with block linears in int4(group=32).")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    texts: TextsArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Print a JSON object
    #[arg(long, conflicts_with = "tsv")]
    json: bool,
    /// Print a line of tab-separated fields per text: label, probability, text
    #[arg(long)]
    tsv: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What the model says of a text.
struct Answer {
    class: usize,
    probabilities: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let model = args.model.load()?;
    common::require(&model, Task::Classification, "classify")?;
    common::require_classes(&model)?;
    let assignment = args.format.assignment(&model, model.default_spec())?;
    let texts = args.texts.read(&model)?;
    let gpu = args.device.open()?;
    let (batching, longest) = batching(&model, &texts.examples, gpu.as_deref());
    let memory =
        MemoryReport::new(model.graph(), &assignment, batching.sequences, longest, batching.sequences)?;
    common::note("adapter", &common::device_line(gpu.as_deref()));
    common::note("backend", common::backend_name(gpu.as_deref()));
    common::note("model", &common::model_line(&model));
    common::note("format", &common::mix_line(&model, &assignment));
    common::note("weights", &common::bytes_line(&memory));
    eprintln!();
    let options = SessionOptions {
        sequences: batching.sequences,
        context: longest,
        fused: !args.device.naive,
        keep: false,
    };
    let mut resident = gpu.clone().map(|gpu| Resident::new(gpu, None).with_stacks());
    let mut runner = common::runner(&model, resident.as_mut(), &assignment, options)?;
    let bar = common::progress(texts.rows.len() as u64, "classifying");
    let start = Instant::now();
    let mut answers = Vec::with_capacity(texts.rows.len());
    outputs(&mut runner, &texts.examples, batching, &mut |_, logits| {
        let probabilities = softmax(logits);
        let class = anybit::reference::argmax(logits);
        answers.push(Answer { class, probabilities });
        bar.inc(1);
        Ok(())
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    if answers.iter().any(|answer| answer.probabilities.iter().any(|p| !p.is_finite())) {
        eprintln!("WARNING: some logits are not numbers; the model's values overflowed in this format");
    }
    let labels = model.labels();
    let labelled: Vec<bool> = texts
        .rows
        .iter()
        .zip(&answers)
        .filter_map(|(row, answer)| Some(row.class? as usize == answer.class))
        .collect();
    let right = labelled.iter().filter(|&&right| right).count();
    let accuracy = (!labelled.is_empty()).then(|| right as f64 / labelled.len() as f64);
    let answered = || texts.rows.iter().zip(&answers);
    if args.json {
        let entry = |(row, answer): (&anybit::model::labelled::LabelledText, &Answer)| {
            let mut entry = Map::new();
            entry.insert("text".to_owned(), json!(row.text));
            entry.extend(row.pair.as_ref().map(|pair| ("pair".to_owned(), json!(pair))));
            entry.insert("label".to_owned(), json!(labels[answer.class]));
            entry.insert("probability".to_owned(), json!(answer.probabilities[answer.class]));
            let all = labels.iter().zip(&answer.probabilities).map(|(label, p)| (label.clone(), json!(p)));
            entry.insert("probabilities".to_owned(), Value::Object(all.collect()));
            entry.extend(row.class.map(|class| ("expected".to_owned(), json!(labels[class as usize]))));
            Value::Object(entry)
        };
        let json = json!({
            "model": model.name(),
            "format": common::mix_json(&model, &assignment),
            "labels": labels,
            "results": answered().map(entry).collect::<Vec<_>>(),
            "accuracy": accuracy,
            "cut": texts.cut,
            "bytes": memory.bytes,
            "seconds": seconds,
            "adapter": gpu.as_ref().map(|gpu| gpu.adapter()),
            "backend": common::backend_name(gpu.as_deref()),
        });
        common::print(&format!("{json:#}\n"))?;
        return Ok(true);
    }
    let mut out = String::new();
    if args.tsv {
        for (row, answer) in answered() {
            let pair = row.pair.as_ref().map_or(String::new(), |pair| format!("\t{pair}"));
            let probability = answer.probabilities[answer.class];
            // A text from the command line may hold what separates fields and lines.
            let text = row.text.replace(['\t', '\n', '\r'], " ");
            out += &format!("{}\t{probability:.6}\t{text}{pair}\n", labels[answer.class]);
        }
    } else {
        let wide = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let room = common::terminal_width().saturating_sub(wide + 11).max(20);
        for (row, answer) in answered() {
            let text = match &row.pair {
                Some(pair) => format!("{} | {pair}", row.text),
                None => row.text.clone(),
            };
            let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if shown.chars().count() > room {
                shown = shown.chars().take(room - 1).chain(['…']).collect();
            }
            let probability = answer.probabilities[answer.class] * 100.0;
            out += &format!("{:<wide$}  {probability:>6.2} %  {shown}\n", labels[answer.class]);
        }
    }
    common::print(&out)?;
    eprintln!();
    if let Some(accuracy) = accuracy {
        common::note("accuracy", &format!("{:.2} % ({right} of {})", accuracy * 100.0, labelled.len()));
    }
    let speed = answers.len() as f64 / seconds;
    common::note("time", &format!("{seconds:.2} s, {speed:.0} texts/s"));
    Ok(true)
}
