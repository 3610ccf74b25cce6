//! What holds for every sampler.

use super::mock::{Mock, problem};
use super::*;
use crate::search::TrialState;

/// Every sampler with a name.
fn all() -> Vec<(&'static str, Box<dyn Sampler>)> {
    let joint = tpe::TpeOptions { multivariate: Some(true), startup: 5, ..Default::default() };
    let single = tpe::TpeOptions { multivariate: Some(false), hypervolume: true, ..joint };
    vec![
        ("auto", Box::new(Auto)),
        ("random", Box::new(Random)),
        ("grid", Box::new(Grid)),
        ("tpe", Box::new(Tpe::new(joint).unwrap())),
        ("tpe, single", Box::new(Tpe::new(single).unwrap())),
        ("nsga2", Box::new(Nsga2::new(Some(6)).unwrap())),
        ("sensitivity", Box::new(Sensitivity)),
    ]
}

/// Samplers that end only when every point was tried.
fn exhaustive() -> impl Iterator<Item = (&'static str, Box<dyn Sampler>)> {
    all().into_iter().filter(|(name, _)| *name != "sensitivity")
}

fn mock() -> Mock<'static> {
    let weight = |(d, &c): (usize, &usize)| (d + 1) as f64 * 0.3f64.powi(c as i32);
    Mock::new(move |point| point.iter().enumerate().map(weight).sum())
}

const OBJECTIVES: [&str; 5] = ["kl", "loss", "scalar(alpha=0.5)", "kl,bytes", "loss,bytes,latency"];

#[test]
fn every_point_that_fits_comes_once() {
    for (name, sampler) in exhaustive() {
        for objective in OBJECTIVES {
            let mut problem = problem(&[3, 2, 1, 4], objective, 1000);
            let all = (0..24).map(|i| vec![i / 8, i / 4 % 2, 0, i % 4]);
            for (most, count) in [(None, 24), (Some(178), 1), (Some(146), 1)] {
                // 100 + 10 + 11 + 12 + 13 bytes at least; each bit more adds its dimension's bytes.
                problem.max_bytes = most;
                let fitting = all.clone().filter(|point| problem.fits(point)).count();
                assert!(fitting >= count, "{most:?}: {fitting}");
                for batch in [1, 7] {
                    let tried = mock().study(sampler.as_ref(), &problem, batch);
                    assert_eq!(tried.len(), fitting, "{name}, {objective}, {most:?}, batches of {batch}");
                }
            }
        }
    }
}

#[test]
fn studies_resume_to_the_same_trials() {
    for (name, sampler) in all() {
        for objective in OBJECTIVES {
            let mut problem = problem(&[4; 9], objective, 48);
            problem.max_bytes = Some(100 + 126 * 3);
            for batch in [1, 4] {
                let whole = mock().study(sampler.as_ref(), &problem, batch);
                assert!(whole.len() > 12, "{name} stops after {} trials", whole.len());
                for cut in (0..whole.len()).step_by(batch * 3) {
                    let resumed = mock().resume(sampler.as_ref(), &problem, batch, whole[..cut].to_vec());
                    assert!(resumed == whole, "{name}, {objective}: not the same from trial {cut}");
                }
            }
            problem.seed = 1;
            let other = mock().study(sampler.as_ref(), &problem, 4);
            problem.seed = 0;
            let differs = mock().study(sampler.as_ref(), &problem, 4) != other;
            assert!(differs || name == "sensitivity", "{name}: the seed makes no difference");
        }
    }
}

/// What other programs and machines leave in a history.
#[test]
fn odd_histories() {
    for (name, sampler) in all() {
        for objective in OBJECTIVES {
            let mut problem = problem(&[4; 9], objective, 60);
            problem.max_bytes = Some(100 + 126 * 3);
            let mut history = mock().study(sampler.as_ref(), &problem, 4);
            let states = [TrialState::Failed, TrialState::Running, TrialState::Pruned, TrialState::Waiting];
            for (i, trial) in history.iter_mut().enumerate() {
                match i % 12 {
                    state @ 0..4 => {
                        trial.state = states[state];
                        trial.measurement = None;
                        trial.values.clear();
                    }
                    4 => trial.point = vec![3; 9],
                    5 => trial.point = vec![9; 9],
                    6 => trial.point = vec![0; 3],
                    7 => trial.values = vec![f64::NAN; trial.values.len()],
                    8 => trial.values = vec![1.0; 5],
                    9 => trial.values = vec![f64::INFINITY; trial.values.len()],
                    10 => trial.measurement = None,
                    _ => {}
                }
            }
            for end in [0, 1, 13, history.len()] {
                let proposals = sampler.ask(&problem, &history[..end], 60, 5).unwrap();
                let is_new = |p: &Proposal| history[..end].iter().all(|trial| trial.point != p.point);
                assert!(proposals.iter().all(|p| problem.fits(&p.point) && is_new(p)), "{name}");
                assert!(proposals.len() == 5 || name == "sensitivity", "{name}, {objective}");
            }
            // Nothing was ever measured.
            history.iter_mut().for_each(|trial| trial.state = TrialState::Failed);
            sampler.ask(&problem, &history, 60, 5).unwrap();
        }
    }
}

#[test]
fn impossible_problems_are_errors() {
    for (name, sampler) in all() {
        let mut tight = problem(&[2, 2], "kl", 10);
        tight.max_bytes = Some(120);
        let error = sampler.ask(&tight, &[], 0, 1).unwrap_err().to_string();
        assert!(error.contains("121"), "{name}: {error}");
        let mut torn = problem(&[2, 2], "kl", 10);
        torn.noise.pop();
        assert!(sampler.ask(&torn, &[], 0, 1).is_err(), "{name}");
        torn.bytes[1].clear();
        assert!(sampler.ask(&torn, &[], 0, 1).is_err(), "{name}");
        // No dimension: one point.
        let empty = problem(&[], "kl", 10);
        assert_eq!(sampler.ask(&empty, &[], 0, 5).unwrap().len(), 1, "{name}");
    }
    assert!(Nsga2::new(Some(1)).is_err());
    assert!(Tpe::new(tpe::TpeOptions { candidates: 0, ..Default::default() }).is_err());
    assert!(Tpe::new(tpe::TpeOptions { prior: 0.0, ..Default::default() }).is_err());
}

/// Repair leaves every point that fits within reach.
#[test]
fn random_search_is_not_confined() {
    let mut problem = problem(&[2; 6], "kl", 1000);
    problem.max_bytes = Some(100 + 75 + 20);
    let tried = mock().study(&Random, &problem, 10);
    let fitting = (0..64).filter(|i| problem.fits(&(0..6).map(|d| i >> d & 1).collect::<Vec<_>>())).count();
    assert_eq!(tried.len(), fitting);
}

#[test]
fn a_small_grid_is_in_mixed_radix_order() {
    let problem = problem(&[2, 3], "kl", 6);
    let points: Vec<Point> = mock().study(&Grid, &problem, 4).into_iter().map(|trial| trial.point).collect();
    assert_eq!(points, (0..6).map(|i| vec![i / 3, i % 3]).collect::<Vec<_>>());
}

/// One proposal costs little next to an evaluation.
#[test]
fn long_histories_are_fast() {
    for (name, sampler) in all() {
        for objective in ["kl", "kl,bytes", "kl,bytes,latency"] {
            let mut problem = problem(&[5; 42], objective, 2001);
            // Whatever a sampler begins with is behind it.
            let begun = sampler.ask(&problem, &[], 0, 250).unwrap().into_iter().enumerate();
            let begun = begun.map(|(number, proposal)| mock().trial(&problem, number, proposal)).collect();
            problem.trials = 2000;
            let history = mock().resume(&Random, &problem, 2000, begun);
            problem.trials = 2001;
            let start = std::time::Instant::now();
            let asked = sampler.ask(&problem, &history, 2000, 1).unwrap();
            let elapsed = start.elapsed();
            assert!(asked.len() == 1 || name == "sensitivity", "{name}");
            println!("{name}, {objective}: {elapsed:.1?}");
            // 50 ms on an idle machine; tests share theirs.
            assert!(elapsed.as_millis() < 500, "{name}, {objective}: {elapsed:?}");
        }
    }
}
