//! Against the other samplers, on models that behave like language models.

use super::super::mock::{Mock, best, bytes_at, problem, transformer};
use super::super::{Nsga2, Random, Sensitivity, Tpe, pareto, tpe::TpeOptions};
use super::*;
use crate::search::TrialState;

fn others() -> Vec<(&'static str, Box<dyn Sampler>)> {
    let tpe = |on| Tpe::new(TpeOptions { multivariate: Some(on), ..TpeOptions::default() }).unwrap();
    vec![
        ("tpe, joint", Box::new(tpe(true))),
        ("tpe, single", Box::new(tpe(false))),
        ("nsga2", Box::<Nsga2>::default()),
        ("random", Box::new(Random)),
        ("sensitivity", Box::new(Sensitivity)),
    ]
}

/// The mean over the seeds, of `auto` and of each of the others.
fn compare(
    seeds: u64,
    objective: &str,
    score: impl Fn(&dyn Sampler, Problem, &Mock) -> f64,
) -> (f64, Vec<(&'static str, f64)>) {
    let mean = |sampler: &dyn Sampler| {
        let of_seed = |seed| {
            let (mut problem, mock) = transformer(seed, 0.1);
            problem.objective = objective.parse().unwrap();
            problem.seed = 10 + seed;
            score(sampler, problem, &mock)
        };
        (0..seeds).map(of_seed).sum::<f64>() / seeds as f64
    };
    let auto = mean(&Auto);
    let others: Vec<_> = others().into_iter().map(|(name, sampler)| (name, mean(sampler.as_ref()))).collect();
    println!("{objective}: auto {auto:.4}, {others:.4?}");
    (auto, others)
}

/// The best divergence in 200 trials, as a share of that of the uniform assignment with as many bytes as allowed.
#[test]
fn at_a_budget() {
    for (uniform, tpe, sensitivity) in [(1, 0.7, 0.9), (2, 0.5, 0.95)] {
        let score = |sampler: &dyn Sampler, mut problem: Problem, mock: &Mock| {
            problem.max_bytes = Some(problem.bytes_of(&problem.uniform[uniform]));
            let history = mock.study(sampler, &problem, 4);
            best(&history) / mock.kl(&problem.uniform[uniform])
        };
        let (auto, others) = compare(if uniform == 1 { 5 } else { 2 }, "kl", score);
        assert!(auto < 0.75, "uniform");
        for (name, other) in others {
            let share = if name == "sensitivity" { sensitivity } else { tpe };
            assert!(auto < share * other, "{name}: {auto} against {other}");
        }
    }
}

/// A loss that does not begin at 0, at a budget between the uniform assignments.
#[test]
fn losses() {
    let score = |sampler: &dyn Sampler, mut problem: Problem, mock: &Mock| {
        problem.max_bytes = Some(bytes_at(&problem, 3.7));
        best(&mock.study(sampler, &problem, 8)) - 2.0
    };
    let (auto, others) = compare(3, "loss", score);
    others.iter().for_each(|(name, other)| assert!(auto < 0.9 * other, "{name}: {auto} against {other}"));
}

/// A weighted sum has its optimum inside; every sampler is compared with a base that none gets below.
#[test]
fn weighted_sums() {
    let score =
        |sampler: &dyn Sampler, problem: Problem, mock: &Mock| best(&mock.study(sampler, &problem, 4));
    let (auto, others) = compare(3, "scalar(alpha=0.9,quality=kl)", score);
    others.iter().for_each(|(name, other)| {
        assert!(auto < 0.99 * other || *name == "sensitivity", "{name}: {auto} {other}")
    });
    assert!(others.iter().all(|(_, other)| auto < other * 1.001));
}

/// Volumes in units of the uniform assignments of fewest and most bytes, by divergence and by its logarithm.
fn volumes(history: &[Trial], problem: &Problem, mock: &Mock, values: usize) -> (f64, f64) {
    let (first, last) = (&problem.uniform[0], &problem.uniform[4]);
    let (worst, least) = (mock.kl(first), mock.kl(last) / 2.0);
    let (fewest, most) = (problem.bytes_of(first) as f64, problem.bytes_of(last) as f64);
    let corner = vec![1.0; values];
    let volume = |scale: &dyn Fn(f64) -> f64| {
        let scaled = |trial: &Trial| -> Vec<f64> {
            let sizes = trial.values[1..].iter().map(|v| (v - fewest) / (most - fewest));
            std::iter::once(scale(trial.values[0])).chain(sizes).collect()
        };
        pareto::hypervolume(&history.iter().map(scaled).collect::<Vec<_>>(), &corner)
    };
    (volume(&|kl| kl / worst), volume(&|kl| (kl / least).ln() / (worst / least).ln()))
}

#[test]
fn fronts() {
    let logarithmic = std::cell::RefCell::new(Vec::new());
    let score = |sampler: &dyn Sampler, problem: Problem, mock: &Mock| {
        let both = volumes(&mock.study(sampler, &problem, 4), &problem, mock, 2);
        logarithmic.borrow_mut().push(both.1);
        both.0
    };
    let (auto, others) = compare(5, "kl,bytes", score);
    let logarithmic = logarithmic.into_inner();
    let logarithmic: Vec<f64> = logarithmic.chunks(5).map(|seeds| seeds.iter().sum::<f64>() / 5.0).collect();
    println!("by the logarithm: {logarithmic:.4?}");
    for ((name, other), log) in others.into_iter().zip(&logarithmic[1..]) {
        let more = if name == "sensitivity" { 0.0 } else { 0.15 };
        assert!(auto > other + more, "{name}: {auto} against {other}");
        assert!(logarithmic[0] > log + more, "{name}: {} against {log}", logarithmic[0]);
    }
}

/// A third objective that follows no table the sampler knows.
#[test]
fn latency() {
    let score = |sampler: &dyn Sampler, problem: Problem, mock: &Mock| {
        let latencies = |point: &[usize]| {
            let per_byte = |d: usize, c: usize| [0.6, 1.6, 0.7, 1.5, 0.8][(d * 3 + c * 7) % 5];
            let of = |(d, &c): (usize, &usize)| per_byte(d, c) * problem.bytes[d][c] as f64;
            point.iter().enumerate().map(of).sum::<f64>()
        };
        let mock = Mock::new(|point| mock.kl(point)).with_latency(latencies);
        let mut history = mock.study(sampler, &problem, 4);
        history.iter_mut().for_each(|trial| trial.values[2] += 1e6);
        volumes(&history, &problem, &mock, 3).0
    };
    let (auto, others) = compare(3, "kl,bytes,latency", score);
    others.iter().for_each(|(name, other)| assert!(auto > 1.04 * other, "{name}: {auto} against {other}"));
}

/// Few trials, and few points.
#[test]
fn small_searches() {
    for trials in [3, 10, 30] {
        let (mut problem, mock) = transformer(0, 0.1);
        problem.trials = trials;
        problem.max_bytes = Some(bytes_at(&problem, 4.25));
        let history = mock.study(&Auto, &problem, 4);
        assert_eq!(history.len(), trials);
        if trials == 30 {
            assert!(best(&history) < 0.9 * mock.kl(&problem.uniform[2]), "{}", best(&history));
        }
    }
}

/// A candidate that the device refuses is given up soon.
#[test]
fn failing_candidates_are_avoided() {
    for objective in ["kl", "kl,bytes"] {
        let mut problem = problem(&[4; 10], objective, 120);
        problem.max_bytes = Some(bytes(&problem, 3));
        let weight = |(d, &c): (usize, &usize)| (d + 1) as f64 * 0.3f64.powi(c as i32);
        let mock = Mock::new(|point| point.iter().enumerate().map(weight).sum());
        let mut history: Vec<Trial> = Vec::new();
        while history.len() < problem.trials {
            let proposals = Auto.ask(&problem, &history, history.len(), 4).unwrap();
            for proposal in proposals {
                let fails = proposal.point[9] == 3;
                let mut trial = mock.trial(&problem, history.len(), proposal);
                if fails {
                    (trial.state, trial.measurement) = (TrialState::Failed, None);
                    trial.values.clear();
                }
                history.push(trial);
            }
        }
        let failed = history.iter().filter(|trial| trial.state == TrialState::Failed).count();
        assert!(failed < 12, "{objective}: {failed} failed");
    }
}

/// Bytes of `problem` with so many bits everywhere.
fn bytes(problem: &Problem, bits: usize) -> u64 {
    problem.bytes_of(&vec![bits - 1; problem.bytes.len()])
}
