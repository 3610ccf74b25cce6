//! Real checkpoints against figures computed with PyTorch.

use anybit::engine::Resident;
use anybit::eval::{Batching, evaluate};
use anybit::graph::{Batch, Token};
use anybit::model::text::windows;
use anybit::model::{Model, embedded};
use anybit::run::{GenerationOptions, Next, Overflow, Runner, StopReason, generate};
use serde_json::Value;
use std::path::Path;

use super::{gpu, runner, uniform};

fn greedy(max_tokens: usize, context: usize) -> GenerationOptions {
    GenerationOptions { max_tokens, context, eos: Vec::new(), ..GenerationOptions::default() }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|v| v.as_u64().expect("an id") as u32).collect()
}

fn prompt_batch(ids: &[u32]) -> Batch {
    let token = |(i, &id): (usize, &u32)| Token::new(id, 0, i as u32);
    Batch::new(ids.iter().enumerate().map(token).collect(), vec![ids.len() as u32 - 1])
}

fn check_golden(model: &Model, path: &str) {
    let golden: Value = serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("JSON");
    let cases = golden.as_array().cloned().unwrap_or_else(|| vec![golden.clone()]);
    for fused in [true, false] {
        let mut resident = Resident::new(gpu(), None);
        let mut runner = runner(&mut resident, model, &uniform(model, "f32"), 1, fused);
        for case in &cases {
            let prompt = ids(&case["prompt_ids"]);
            runner.step(&prompt_batch(&prompt)).expect("prefill");
            let logits = runner.logits().expect("logits");
            let want = case["last_prompt_logits"].as_array().expect("logits");
            for (i, (got, want)) in logits.iter().zip(want).enumerate() {
                let want = want.as_f64().expect("a logit");
                assert!((f64::from(*got) - want).abs() < 1e-3, "logit {i}: {got} not {want}");
            }
            let want = ids(&case["greedy_ids"]);
            // The file may list the prompt too.
            let new = if want.starts_with(&prompt) { want[prompt.len()..].to_vec() } else { want };
            let options = greedy(new.len(), model.graph().context);
            let report = generate(&mut runner, &[prompt], &options, |_| Ok(Next::Go)).expect("generation");
            assert_eq!(report.tokens[0], new, "fused {fused}");
        }
    }
}

#[test]
fn shakespeare_reproduces_the_golden_ids() {
    check_golden(&Model::embedded().expect("model"), "tests/data/shakespeare/golden.json");
}

#[test]
fn stories_reproduce_the_golden_ids() {
    let model = Model::load(Path::new("tests/data/stories260k")).expect("model");
    check_golden(&model, "tests/data/stories260k/golden.json");
}

#[test]
fn sort_gpt2_sorts_all_729_inputs_in_one_batch() {
    let model = Model::load(Path::new("tests/data/sort-gpt2")).expect("model");
    let prompts: Vec<Vec<u32>> = (0..729u32).map(|n| (0..6).map(|i| n / 3u32.pow(i) % 3).collect()).collect();
    for fused in [true, false] {
        let mut resident = Resident::new(gpu(), None);
        let mut runner = runner(&mut resident, &model, &uniform(&model, "f32"), prompts.len(), fused);
        // Six digits in, six out; the last one needs no position of its own.
        let options = greedy(6, model.graph().context);
        let report = generate(&mut runner, &prompts, &options, |_| Ok(Next::Go)).expect("generation");
        for (prompt, got) in prompts.iter().zip(&report.tokens) {
            let mut want = prompt.clone();
            want.sort_unstable();
            assert_eq!(got, &want, "{prompt:?} fused {fused}");
        }
        assert!(report.stops.iter().all(|s| *s == StopReason::Length));
    }
}

#[test]
fn a_batch_of_prompts_of_different_lengths_equals_single_runs() {
    let model = Model::embedded().expect("model");
    let tokenizer = model.tokenizer().expect("a tokenizer");
    let texts = [
        "ROMEO:\n",
        "First Citizen:\nBefore we proceed",
        "O",
        "To be, or not",
        "KING RICHARD III:\nNow is the winter",
        "the",
        "JULIET:\nWhat",
        "My lord, my lord, my gracious lord, I",
    ];
    let prompts: Vec<Vec<u32>> = texts.iter().map(|t| tokenizer.encode(t).expect("tokens")).collect();
    let options = greedy(16, model.graph().context);
    for spec in ["int4(group=32)", "qlinear(bits=8)"] {
        let mut resident = Resident::new(gpu(), None);
        let assignment = uniform(&model, spec);
        let mut together = runner(&mut resident, &model, &assignment, prompts.len(), true);
        let batch = generate(&mut together, &prompts, &options, |_| Ok(Next::Go)).expect("generation");
        let mut alone = runner(&mut resident, &model, &assignment, 1, true);
        for (prompt, want) in prompts.iter().zip(&batch.tokens) {
            let single = generate(&mut alone, std::slice::from_ref(prompt), &options, |_| Ok(Next::Go));
            assert_eq!(&single.expect("generation").tokens[0], want, "{spec} {prompt:?}");
        }
    }
}

/// Loss of the first `n` windows of the held-out text.
fn heldout(runner: &mut Runner<'_>, baseline: Option<&mut Runner<'_>>, n: usize) -> anybit::eval::EvalReport {
    let model = Model::embedded().expect("model");
    let tokenizer = model.tokenizer().expect("a tokenizer");
    let all = windows(embedded::heldout_text().as_bytes(), tokenizer, None, 128).expect("windows");
    let batching = Batching { sequences: 8, tokens: 1024 };
    evaluate(runner, baseline, &all[..n.min(all.len())], batching, &mut |_| {}).expect("an evaluation")
}

#[test]
fn f32_loss_on_the_whole_heldout_text_is_pytorchs() {
    let model = Model::embedded().expect("model");
    let mut resident = Resident::new(gpu(), None);
    let mut runner = runner(&mut resident, &model, &uniform(&model, "f32"), 8, true);
    let report = heldout(&mut runner, None, usize::MAX);
    assert_eq!((report.examples, report.predictions), (386, 49_408));
    assert!((report.loss - 3.331327).abs() < 1e-4, "loss {}", report.loss);
    assert!((report.perplexity - 27.9754).abs() < 5e-3, "perplexity {}", report.perplexity);
}

#[test]
fn quantized_loss_and_divergence_agree_with_the_cpu_reference() {
    let model = Model::embedded().expect("model");
    let baseline_assignment = uniform(&model, "f32");
    let mut resident = Resident::new(gpu(), None);
    let mut baseline = runner(&mut resident, &model, &baseline_assignment, 8, true);
    let mut cpu_baseline = Runner::reference(model.graph(), &model, &baseline_assignment, 8).expect("CPU");
    for (spec, tolerance) in [
        ("int4(group=32)", 1e-5),
        ("base11(layout=9in32,group=256)", 1e-5),
        ("mxint6", 1e-5),
        ("int2(group=64)", 1e-4),
        // A code may flip at a tie, and spreads from there.
        ("int4(group=32)@int8(scale=row)", 1e-3),
        ("base11@int8", 1e-3),
        ("qlinear(bits=4)", 2e-2),
    ] {
        let assignment = uniform(&model, spec);
        let mut device = runner(&mut resident, &model, &assignment, 8, true);
        let mut cpu = Runner::reference(model.graph(), &model, &assignment, 8).expect("CPU");
        let got = heldout(&mut device, Some(&mut baseline), 8);
        let want = heldout(&mut cpu, Some(&mut cpu_baseline), 8);
        assert!((got.loss - want.loss).abs() < tolerance, "{spec}: loss {} not {}", got.loss, want.loss);
        let (got_kl, want_kl) = (got.kl.expect("KL"), want.kl.expect("KL"));
        assert!(
            (got_kl - want_kl).abs() < tolerance.min(0.05 * want_kl + 1e-7),
            "{spec}: KL {got_kl} not {want_kl}"
        );
    }
}

#[test]
fn a_quantized_head_scales_over_the_output_rows_of_its_own_sequence() {
    let model = Model::load(Path::new("tests/data/sort-gpt2")).expect("model");
    let mut assignment = uniform(&model, "int8(scale=row)");
    for (weight, spec) in model.graph().weights.iter().zip(&mut assignment.specs) {
        if weight.role == anybit::graph::Role::Head {
            *spec = super::spec("int8(scale=row)@int8");
        }
    }
    let token = |id, sequence, position| Token::new(id, sequence, position);
    let tokens =
        vec![token(0, 0, 0), token(2, 0, 1), token(1, 0, 2), token(1, 1, 0), token(1, 1, 1), token(2, 2, 0)];
    let batch = Batch::new(tokens, vec![1, 2, 4, 5]);
    let mut resident = Resident::new(gpu(), None);
    let mut device = runner(&mut resident, &model, &assignment, 3, true);
    let mut cpu = Runner::reference(model.graph(), &model, &assignment, 3).expect("CPU");
    device.step(&batch).expect("a step");
    cpu.step(&batch).expect("a step");
    let (got, want) = (device.logits().expect("logits"), cpu.logits().expect("logits"));
    let nmse = anybit::reference::nmse(&got, &want);
    assert!(nmse < 1e-9, "NMSE {nmse:e}: {got:?} not {want:?}");
}

#[test]
fn a_text_that_slides_goes_on_as_after_its_window() {
    let model = Model::embedded().expect("model");
    let mut resident = Resident::new(gpu(), None);
    let assignment = uniform(&model, "int8");
    let (context, keep) = (20, 3);
    let prompts: Vec<Vec<u32>> = vec![(10..22).collect(), (40..90).collect(), vec![7]];
    let options = GenerationOptions { overflow: Overflow::Slide { keep }, ..greedy(30, context) };
    let mut sliding = runner(&mut resident, &model, &assignment, 3, true);
    let report = generate(&mut sliding, &prompts, &options, |_| Ok(Next::Go)).expect("generation");
    assert!(report.slides >= 3 && report.cut > 0);
    let mut fresh = runner(&mut resident, &model, &assignment, 1, true);
    for (prompt, tokens) in prompts.iter().zip(&report.tokens) {
        assert_eq!(tokens.len(), 30);
        let mut window = prompt.clone();
        let slide = |window: &mut Vec<u32>| drop(window.drain(keep..keep + (context - keep) / 2));
        while window.len() >= context {
            slide(&mut window);
        }
        for token in tokens {
            let one = generate(&mut fresh, std::slice::from_ref(&window), &greedy(1, context + 1), |_| {
                Ok(Next::Go)
            });
            assert_eq!(one.expect("generation").tokens[0], [*token]);
            window.push(*token);
            if window.len() > context {
                slide(&mut window);
            }
        }
    }
}
