use std::collections::HashSet;

use super::super::sampler::{Grid, Random};
use super::super::{Dimension, Objective};
use super::*;
use crate::error::Error;
use crate::format::{Format, Spec};
use crate::graph::Assignment;

const SPECS: [&str; 3] = ["int2", "int4", "int8"];
const BYTES: [u64; 3] = [2, 4, 8];

fn space(dimensions: usize) -> Space {
    let candidates: Vec<Spec> = SPECS.iter().map(|text| text.parse().unwrap()).collect();
    let dimension = |id: usize| Dimension {
        name: format!("layer.{id}"),
        weights: vec![id],
        candidates: candidates.clone(),
    };
    Space {
        dimensions: (0..dimensions).map(dimension).collect(),
        base: Assignment { specs: vec![Spec::from(Format::F32); dimensions] },
        left_out: Vec::new(),
    }
}

fn problem(space: &Space, objective: &str, max_bytes: Option<u64>) -> Problem {
    let d = space.dimensions.len();
    Problem {
        bytes: vec![BYTES.to_vec(); d],
        noise: vec![vec![0.5, 0.1, 0.01]; d],
        fixed_bytes: 100,
        max_bytes,
        objective: objective.parse::<Objective>().unwrap(),
        uniform: space.uniform().into_iter().map(|(_, point)| point).collect(),
        seed: 3,
        trials: 40,
    }
}

/// Harm that depends on layer and width, and dies after so many measurements.
struct Mock {
    left: usize,
    nan_in: Option<usize>,
    asked: usize,
}

impl Mock {
    fn new(left: usize) -> Self {
        Self { left, nan_in: None, asked: 0 }
    }
}

impl Evaluator for Mock {
    fn evaluate(&mut self, assignments: &[Assignment]) -> Result<Vec<Outcome>> {
        if self.left < assignments.len() {
            return Err(Error::unavailable("device lost"));
        }
        self.left -= assignments.len();
        let of = |assignment: &Assignment| {
            let widths =
                assignment.specs.iter().map(|spec| SPECS.iter().position(|s| *s == spec.to_string()));
            let choices: Vec<usize> = widths.map(|choice| choice.expect("a spec of the space")).collect();
            if self.nan_in.is_some_and(|layer| choices[layer] == 0) {
                return Err("the loss is NaN".to_owned());
            }
            let kl: f64 =
                choices.iter().enumerate().map(|(i, &c)| [0.4, 0.03, 0.001][c] * (i + 1) as f64).sum();
            Ok(Measurement {
                loss: 3.0 + kl,
                kl,
                agreement: 1.0 / (1.0 + kl),
                accuracy: 0.3,
                bytes: 100 + choices.iter().map(|&c| BYTES[c]).sum::<u64>(),
                nominal_bytes: 100,
                bits_per_weight: 4.0,
                latency: None,
            })
        };
        self.asked += assignments.len();
        Ok(assignments.iter().map(of).collect())
    }
}

const OPTIONS: RunOptions = RunOptions { trials: 40, batch: 4, in_flight: 3 };

fn go(study: &mut Study, mock: &mut Mock, options: RunOptions) -> Result<RunTimes> {
    study.run(mock, &Random, options, &mut |_, _| true)
}

#[test]
fn a_study_that_died_anywhere_goes_on_as_if_it_had_not() {
    let space = space(4);
    let problem = problem(&space, "kl,bytes", None);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut study = Study::create(&whole, "s", &space, &problem, Map::new()).unwrap();
    go(&mut study, &mut Mock::new(40), OPTIONS).unwrap();
    let want = study.trials();
    assert_eq!(want.len(), 40);
    assert!(want.iter().all(|t| t.state == TrialState::Complete && t.measurement.is_some()));
    let distinct: HashSet<&Point> = want.iter().map(|t| &t.point).collect();
    assert_eq!(distinct.len(), 40, "no point twice");
    for dies_after in 0..40 {
        let path = folder.path().join(dies_after.to_string());
        let mut study = Study::create(&path, "s", &space, &problem, Map::new()).unwrap();
        assert!(go(&mut study, &mut Mock::new(dies_after), OPTIONS).is_err());
        let recorded = study.trials().iter().filter(|t| t.state == TrialState::Complete).count();
        drop(study);
        let mut again = Study::open(&path, "s", &space, &problem).unwrap();
        let mut mock = Mock::new(usize::MAX);
        go(&mut again, &mut mock, OPTIONS).unwrap();
        assert_eq!(again.trials(), want, "died after {dies_after}");
        assert_eq!(mock.asked, 40 - recorded, "nothing is done twice");
    }
}

#[test]
fn several_processes_share_one_study() {
    let space = space(5);
    let problem = problem(&space, "kl", None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    drop(Study::create(&path, "s", &space, &problem, Map::new()).unwrap());
    let work = || {
        let mut study = Study::open(&path, "s", &space, &problem).unwrap();
        let mut mock = Mock::new(usize::MAX);
        go(&mut study, &mut mock, OPTIONS).unwrap();
        mock.asked
    };
    let asked: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let study = Study::open(&path, "s", &space, &problem).unwrap();
    let trials = study.trials();
    assert_eq!((trials.len(), asked), (40, 40));
    assert!(trials.iter().all(|t| t.state == TrialState::Complete));
    let distinct: HashSet<&Point> = trials.iter().map(|t| &t.point).collect();
    assert_eq!(distinct.len(), 40, "no point twice");
}

#[test]
fn a_loss_that_is_no_number_fails_its_trial_only() {
    let space = space(4);
    let problem = problem(&space, "scalar(alpha=0.5)", None);
    let folder = tempfile::tempdir().unwrap();
    let mut study = Study::create(&folder.path().join("j"), "s", &space, &problem, Map::new()).unwrap();
    let mut mock = Mock { nan_in: Some(1), ..Mock::new(usize::MAX) };
    go(&mut study, &mut mock, OPTIONS).unwrap();
    let trials = study.trials();
    for trial in &trials {
        let failed = trial.point[1] == 0;
        assert_eq!(trial.state == TrialState::Failed, failed);
        assert_eq!(trial.measurement.is_none() && trial.values.is_empty(), failed);
    }
    assert!(trials.iter().any(|t| t.state == TrialState::Failed));
    assert_eq!(trials.len(), 40);
    assert!(best(&problem, &trials).is_some());
}

#[test]
fn more_trials_later_and_an_exhausted_space() {
    let space = space(2);
    let problem = problem(&space, "kl,bytes", None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut study = Study::create(&path, "s", &space, &problem, Map::new()).unwrap();
    let mut mock = Mock::new(usize::MAX);
    let mut run = |study: &mut Study, trials| {
        let options = RunOptions { trials, ..OPTIONS };
        study.run(&mut mock, &Grid, options, &mut |_, _| true).unwrap();
        study.trials().len()
    };
    assert_eq!(run(&mut study, 6), 6);
    assert_eq!(run(&mut study, 6), 6);
    assert_eq!(run(&mut study, 40), 9, "there are 9 points");
    let trials = study.trials();
    let front: Vec<&Point> = front(&problem, &trials).iter().map(|t| &t.point).collect();
    assert_eq!(front[0], &vec![2, 2], "the front is in order of its first objective");
    assert!(front.contains(&&vec![0, 0]) && front.contains(&&vec![1, 2]));
    // More bits where they help less are no member.
    assert!(!front.contains(&&vec![2, 1]));
    let best = best(&problem, &trials).unwrap();
    assert!(front.contains(&&best.point));
}

#[test]
fn budgets_are_constraints_that_others_can_read() {
    let space = space(3);
    let problem = problem(&space, "kl", Some(100 + 12));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut study = Study::create(&path, "s", &space, &problem, Map::new()).unwrap();
    go(&mut study, &mut Mock::new(usize::MAX), RunOptions { trials: 10, ..OPTIONS }).unwrap();
    for trial in study.trials() {
        assert!(problem.fits(&trial.point));
        let record = &study.journal.study().trials[trial.number];
        let over = problem.bytes_of(&trial.point) as f64 - 112.0;
        assert_eq!(record.system_attrs[CONSTRAINTS], json!([over]));
    }
}

#[test]
fn foreign_studies_and_other_objectives_are_refused() {
    let space = space(2);
    let one = problem(&space, "kl", None);
    let two = problem(&space, "kl,bytes", None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    drop(Study::create(&path, "s", &space, &one, Map::new()).unwrap());
    let message = |error: Error| error.to_string();
    assert!(message(Study::open(&path, "s", &space, &two).err().unwrap()).contains("objectives"));
    assert!(message(Study::open(&path, "t", &space, &one).err().unwrap()).contains("`t`"));
    assert!(message(Study::create(&path, "s", &space, &one, Map::new()).err().unwrap()).contains("already"));
    drop(Journal::create(&path, "foreign", 1, &Map::new()).unwrap());
    assert!(message(settings(&path, Some("foreign")).err().unwrap()).contains("not begun by"));
    assert!(settings(&path, Some("s")).is_ok());
}
