//! Trials over resident weights against sessions of their own, step by step the same kernels.

use std::sync::Arc;

use anybit::engine::{Prediction, Resident, Tally, TrialOptions, Trials};
use anybit::eval::{Batching, batches, evaluate};
use anybit::format::{Format, Spec};
use anybit::graph::{Assignment, Role};
use anybit::model::embedded::heldout_text;
use anybit::model::text::windows;
use anybit::model::{Example, Model};

use super::{gpu, runner, spec, uniform};

fn some_windows(model: &Model, context: usize, count: usize) -> Vec<Example> {
    let tokenizer = model.tokenizer().expect("a tokenizer");
    let all = windows(heldout_text().as_bytes(), tokenizer, model.bos(), context).expect("windows");
    all.into_iter().take(count).collect()
}

fn groups(windows: &[Example], batching: Batching) -> Vec<Vec<Prediction>> {
    let predictions = |group: &[Example]| {
        let pairs = batches(group, batching.tokens).into_iter();
        pairs.map(|(batch, targets)| Prediction { batch, targets }).collect()
    };
    windows.chunks(batching.sequences).map(predictions).collect()
}

/// `specs` in an order that depends on `seed`.
fn mixed(model: &Model, specs: &[&str], seed: usize) -> Assignment {
    let mut assignment = uniform(model, specs[0]);
    let linears = model.graph().weights.iter().enumerate().filter(|(_, w)| w.role == Role::Linear);
    for (n, (id, _)) in linears.enumerate() {
        assignment.specs[id] = spec(specs[(n * n + n / 3 + seed * (n + 1)) % specs.len()]);
    }
    assignment
}

fn trials(model: &Model, resident: Resident, windows: &[Example], batching: Batching, fused: bool) -> Trials {
    let options =
        TrialOptions { sequences: batching.sequences, context: model.graph().context, fused, in_flight: 3 };
    let graph = Arc::new(model.graph().clone());
    let mut trials =
        Trials::new(resident, graph, model, &groups(windows, batching), options).expect("trials");
    let tally = trials.set_baseline(model, &uniform(model, "f32"), &|_, _| false).expect("a baseline");
    assert_eq!((tally.kl, tally.agreeing), (0.0, tally.predictions as f64));
    trials
}

/// What a session of its own measures.
fn alone(
    model: &Model,
    assignment: &Assignment,
    windows: &[Example],
    batching: Batching,
    fused: bool,
) -> Tally {
    let mut resident = Resident::new(gpu(), None);
    let mut runner_of = |assignment| runner(&mut resident, model, assignment, batching.sequences, fused);
    let (mut runner, mut baseline) = (runner_of(assignment), runner_of(&uniform(model, "f32")));
    let report =
        evaluate(&mut runner, Some(&mut baseline), windows, batching, &mut |_| ()).expect("an evaluation");
    let n = report.predictions as f64;
    Tally {
        loss: report.loss * n,
        kl: report.kl.expect("a baseline") * n,
        correct: (report.accuracy * n).round(),
        agreeing: (report.top1_agreement.expect("a baseline") * n).round(),
        predictions: report.predictions,
    }
}

fn assert_same(got: Tally, want: Tally, name: &str) {
    assert_eq!(
        (got.correct, got.agreeing, got.predictions),
        (want.correct, want.agreeing, want.predictions),
        "{name}"
    );
    // The same rows, summed in f32 in place of f64.
    for (got, want) in [(got.loss, want.loss), (got.kl, want.kl)] {
        assert!((got - want).abs() <= want * 1e-6, "{name}: {got} not {want}");
    }
}

const SPECS: [&str; 6] = [
    "int4(group=32)",
    "qlinear(bits=4)",
    "mxint8",
    "qlinear(bits=8)",
    "base11@int8",
    "mxfp8_e4m3@mxfp8_e4m3",
];

#[test]
fn trials_measure_what_sessions_of_their_own_do_in_any_order() {
    let model = Model::embedded().expect("model");
    let windows = some_windows(&model, 128, 3);
    for (batching, fused) in [
        (Batching { sequences: 3, tokens: 1024 }, true),
        // Two groups, of two windows and of one; windows in pieces over their KV caches.
        (Batching { sequences: 2, tokens: 100 }, true),
        (Batching { sequences: 3, tokens: 1024 }, false),
    ] {
        let assignments: Vec<Assignment> = (0..4).map(|seed| mixed(&model, &SPECS, seed)).collect();
        let mut trials = trials(&model, Resident::new(gpu(), None), &windows, batching, fused);
        let order = [0, 1, 2, 3, 0, 0, 3, 1];
        let asked: Vec<Assignment> = order.iter().map(|&i| assignments[i].clone()).collect();
        let got = trials.run(&model, &asked).expect("tallies");
        let want: Vec<Tally> =
            assignments.iter().map(|a| alone(&model, a, &windows, batching, fused)).collect();
        for (i, got) in order.into_iter().zip(&got) {
            assert_same(*got, want[i], &format!("{batching:?}, fused {fused}, assignment {i}"));
        }
        // The same assignment twice is the same number, to the last bit.
        assert_eq!((got[0], got[1]), (got[4], got[7]));
    }
}

#[test]
fn after_warm_up_trials_upload_nothing_and_reuse_what_they_share() {
    let model = Model::embedded().expect("model");
    let batching = Batching { sequences: 2, tokens: 1024 };
    let windows = some_windows(&model, 128, 2);
    let mut trials = trials(&model, Resident::new(gpu(), None), &windows, batching, true);
    let uniforms: Vec<Assignment> = SPECS.iter().map(|text| uniform(&model, text)).collect();
    trials.run(&model, &uniforms).expect("tallies");
    let (uploaded, counters) = (trials.resident().uploaded_bytes(), trials.counters());
    let mixes: Vec<Assignment> = (0..5).map(|seed| mixed(&model, &SPECS, seed)).collect();
    trials.run(&model, &mixes).expect("tallies");
    assert_eq!(trials.resident().uploaded_bytes(), uploaded, "trials upload no weight bytes");
    assert_eq!(trials.counters().trials, counters.trials + 5);

    // The last layer changed: all before it is reused.
    let base = mixes[4].clone();
    let last = model.graph().weights.iter().rposition(|w| w.role == Role::Linear).expect("a linear");
    let mut changed = base.clone();
    let other = SPECS.iter().map(|text| spec(text)).find(|other| *other != base.specs[last]);
    changed.specs[last] = other.expect("another spec");
    let before = trials.counters();
    let got = trials.run(&model, std::slice::from_ref(&changed)).expect("tallies")[0];
    let after = trials.counters();
    let (ran, reused) = (after.steps - before.steps, after.reused - before.reused);
    assert!(ran > 0 && ran < 8 && reused > 8 * ran, "{ran} steps ran, {reused} were reused");
    assert_same(got, alone(&model, &changed, &windows, batching, true), "the last layer changed");

    // After one that has nothing in common with it, it is begun again where its last block but one ended.
    trials.run(&model, &mixes[..1]).expect("tallies");
    let before = trials.counters();
    let again = trials.run(&model, &[base.clone(), changed]).expect("tallies");
    let after = trials.counters();
    assert_eq!(again[1], got, "the last layer changed, from what was kept");
    assert_same(again[0], alone(&model, &base, &windows, batching, true), "from what was kept");
    let (ran, restored) = (after.steps - before.steps, after.restored - before.restored);
    assert!(ran < 16 && restored > 0, "{ran} steps ran, {restored} values were restored");
}

#[test]
fn variants_over_the_budget_are_evicted_and_come_back() {
    let model = Model::embedded().expect("model");
    let batching = Batching { sequences: 1, tokens: 1024 };
    let windows = some_windows(&model, 128, 1);
    let bytes = |text: &str| {
        let memory = anybit::eval::MemoryReport::new(model.graph(), &uniform(&model, text), 1, 1, 1);
        memory.expect("accounting").bytes
    };
    // Room for one variant of everything, not for two.
    let budget = bytes("f32") + 1000;
    let mut trials = trials(&model, Resident::new(gpu(), Some(budget)), &windows, batching, true);
    let assignments = ["int8", "mxint8", "int8", "f32", "int8"].map(|text| uniform(&model, text));
    let got = trials.run(&model, &assignments).expect("tallies");
    assert!(trials.resident().evictions() > 0);
    assert!(trials.resident().resident_bytes() <= budget);
    assert_eq!((got[0], got[0]), (got[2], got[4]));
    assert_same(got[0], alone(&model, &assignments[0], &windows, batching, true), "int8");
    assert_eq!(got[3].kl, 0.0);
}

#[test]
fn unfit_requests_are_errors_and_leave_the_trials_usable() {
    let model = Model::embedded().expect("model");
    let batching = Batching { sequences: 1, tokens: 1024 };
    let windows = some_windows(&model, 128, 1);
    let graph = Arc::new(model.graph().clone());
    let options = TrialOptions { sequences: 1, context: 128, fused: true, in_flight: 2 };
    let new = |options| {
        Trials::new(Resident::new(gpu(), None), graph.clone(), &model, &groups(&windows, batching), options)
    };
    assert!(new(TrialOptions { context: 129, ..options }).is_err());
    assert!(new(TrialOptions { in_flight: 0, ..options }).is_err());
    let mut bare = new(options).expect("trials");
    assert!(bare.run(&model, &[uniform(&model, "int8")]).is_err(), "no baseline yet");

    let mut trials = trials(&model, Resident::new(gpu(), None), &windows, batching, true);
    let good = uniform(&model, "int8");
    let want = trials.run(&model, std::slice::from_ref(&good)).expect("tallies")[0];
    let mut bad = good.clone();
    bad.specs.pop();
    assert!(trials.run(&model, &[good.clone(), bad]).is_err());
    let mut unfit = good.clone();
    let linear = model.graph().weights.iter().position(|w| w.role == Role::Linear).expect("a linear");
    unfit.specs[linear] = Spec::from("q4_k".parse::<Format>().expect("a format"));
    assert!(trials.run(&model, &[unfit]).is_err(), "rows of 192 are no multiple of 256");
    assert_eq!(trials.run(&model, &[good]).expect("tallies")[0], want);
}

#[test]
fn passes_are_timed_by_step_and_as_a_whole_and_change_no_result() {
    let model = Model::embedded().expect("model");
    let batching = Batching { sequences: 1, tokens: 1024 };
    let windows = some_windows(&model, 128, 1);
    let mut trials = trials(&model, Resident::new(gpu(), None), &windows, batching, true);
    let assignments = [uniform(&model, "int8"), uniform(&model, "qlinear(bits=4)")];
    let before = trials.run(&model, &assignments).expect("tallies");
    for tokens in [1, 5, 128] {
        for assignment in &assignments {
            let time = trials.time_steps(&model, assignment, tokens).expect("times");
            let whole = trials.time_whole(&model, assignment, tokens).expect("a time");
            assert!(time.rest > 0.0 && whole > 0.0 && time.total().is_finite());
            for (id, weight) in model.graph().weights.iter().enumerate() {
                let is_read = weight.role != Role::Vector && weight.layer() != "lm_head";
                assert_eq!(time.weights[id] > 0.0, is_read, "{}", weight.tensor);
            }
            // The same again is remembered.
            let again = trials.time_steps(&model, assignment, tokens).expect("times");
            assert_eq!((again.weights, again.rest), (time.weights, time.rest));
        }
    }
    assert!(trials.time_steps(&model, &assignments[0], 0).is_err());
    assert!(trials.time_steps(&model, &assignments[0], 129).is_err());
    assert_eq!(trials.run(&model, &assignments).expect("tallies"), before);
}

#[test]
fn a_lost_device_is_an_error_that_says_so() {
    let model = Model::embedded().expect("model");
    let batching = Batching { sequences: 1, tokens: 1024 };
    let windows = some_windows(&model, 16, 1);
    let own = super::open(anybit::gpu::OpenOptions::default());
    let mut trials = trials(&model, Resident::new(own.clone(), None), &windows, batching, true);
    own.destroy();
    let error = trials.run(&model, &[uniform(&model, "int8")]).expect_err("the device is gone");
    assert!(matches!(error, anybit::Error::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("device lost"), "{error}");
}
