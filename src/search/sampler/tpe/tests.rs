//! The estimator against Optuna's numbers (`testdata/tpe.py`), and whole studies against Optuna's studies.

use serde_json::Value;

use super::super::mock::{Mock, best};
use super::super::pareto::hypervolume;
use super::super::{Random, Sampler};
use super::*;
use crate::search::{Objective, TrialState};

/// A number, a list of numbers, and so on.
fn get<T: serde::de::DeserializeOwned>(value: &Value, key: &str) -> T {
    serde_json::from_value(value[key].clone()).unwrap_or_else(|e| panic!("{key}: {e}"))
}

fn cases(text: &str) -> Vec<Value> {
    get(&serde_json::from_str(text).unwrap(), "cases")
}

fn problem(case: &Value) -> Problem {
    let choices: Vec<usize> = get(case, "choices");
    let bytes: Option<Vec<Vec<u64>>> = get(case, "bytes");
    let names = ["kl", "loss", "latency", "bytes"];
    Problem {
        bytes: bytes.unwrap_or_else(|| choices.iter().map(|&c| vec![1; c]).collect()),
        noise: choices.iter().map(|&c| vec![0.1; c]).collect(),
        fixed_bytes: 0,
        max_bytes: get(case, "most"),
        objective: names[..get::<usize>(case, "objectives")].join(",").parse().unwrap(),
        uniform: vec![],
        seed: 0,
        trials: 100,
    }
}

fn trials(case: &Value) -> Vec<Trial> {
    let trial = |t: &Value| Trial {
        number: get(t, "number"),
        point: get(t, "point"),
        state: match t["state"].as_str().unwrap() {
            "running" => TrialState::Running,
            "failed" => TrialState::Failed,
            _ => TrialState::Complete,
        },
        values: get(t, "values"),
        measurement: None,
        origin: String::new(),
    };
    case["trials"].as_array().unwrap().iter().map(trial).collect()
}

fn options(case: &Value) -> TpeOptions {
    let gamma = if case["gamma"] == "hyperopt" { Gamma::Hyperopt } else { Gamma::Optuna };
    // As in Optuna 5.
    TpeOptions { gamma, hypervolume: false, ..TpeOptions::default() }
}

fn numbers(trials: &[&Trial]) -> Vec<usize> {
    trials.iter().map(|trial| trial.number).collect()
}

fn assert_close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{what}: {got} against {want}");
    }
}

#[test]
fn splits_and_probabilities_are_optunas() {
    for case in cases(include_str!("../testdata/tpe.json")) {
        let name: String = get(&case, "name");
        let (problem, history, options) = (problem(&case), trials(&case), options(&case));
        let space = Space::new(&problem, &history).unwrap();
        let classes = Classes::new(&space, &history);
        let good = options.good(classes.finished(), problem.objective.count());
        let Split { below, above } = classes.split(good);
        assert_eq!(numbers(&below), get::<Vec<usize>>(&case, "below"), "{name}");
        assert_eq!(numbers(&above), get::<Vec<usize>>(&case, "above"), "{name}");
        let choices = problem.choices();
        let asked: Vec<Point> = get(&case, "points");
        for (kind, part) in [("below", &below), ("above", &above)] {
            let weights = if kind == "below" { options.weights(&space, part) } else { ramp(part.len()) };
            let points = part.iter().map(|trial| trial.point.as_slice()).collect();
            let parzen = Parzen::new(&choices, points, weights, 1.0);
            let logs: Vec<f64> = get(&case, &format!("log_{kind}"));
            assert_close(&parzen.log_probabilities(&asked), &logs, &name);
            for (d, want) in get::<Vec<Vec<f64>>>(&case, &format!("single_{kind}")).iter().enumerate() {
                assert_close(&parzen.marginal(d), want, &name);
            }
        }
    }
}

#[test]
fn weights_by_hypervolume_are_optunas() {
    for case in cases(include_str!("../testdata/tpe_hypervolume.json")) {
        let (problem, history, mut options) = (problem(&case), trials(&case), options(&case));
        options.hypervolume = true;
        let space = Space::new(&problem, &history).unwrap();
        let classes = Classes::new(&space, &history);
        let good = options.good(classes.finished(), problem.objective.count());
        let below = classes.split(good).below;
        assert_eq!(numbers(&below), get::<Vec<usize>>(&case, "below"));
        assert_close(&options.weights(&space, &below), &get::<Vec<f64>>(&case, "weights"), "weights");
    }
}

/// The frequencies of draws are the probabilities.
#[test]
fn draws_follow_the_estimate() {
    let choices = [3, 2];
    let observed: Vec<&[usize]> = vec![&[2, 0], &[1, 1], &[2, 1]];
    let parzen = Parzen::new(&choices, observed, vec![1.0, 0.5, 2.0], 1.0);
    let points: Vec<Point> = (0..6).map(|i| vec![i / 2, i % 2]).collect();
    let logs = parzen.log_probabilities(&points);
    let mut rng = Rng::new(7, 0);
    let draws: Vec<Point> = (0..100_000).map(|_| parzen.draw(&mut rng)).collect();
    for (point, log) in points.iter().zip(&logs) {
        let share = draws.iter().filter(|draw| *draw == point).count() as f64 / draws.len() as f64;
        assert!((share - log.exp()).abs() < 0.005, "{point:?}: {share} against {}", log.exp());
    }
    assert!((logs.iter().map(|log| log.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
}

/// Mean and standard deviation over 20 seeds, of the best value or the hypervolume.
#[test]
fn studies_are_as_good_as_optunas() {
    let data: Value = serde_json::from_str(include_str!("../testdata/tpe.json")).unwrap();
    let (table, reference): (Vec<Vec<f64>>, Vec<f64>) = (get(&data, "table"), get(&data, "reference"));
    for want in data["studies"].as_array().unwrap() {
        let kind: String = get(want, "kind");
        let two = kind.starts_with("two");
        let multivariate = Some(kind.ends_with("joint"));
        let options = TpeOptions { multivariate, hypervolume: false, ..TpeOptions::default() };
        let sampler: Box<dyn Sampler> =
            if kind == "random" { Box::new(Random) } else { Box::new(Tpe::new(options).unwrap()) };
        let trials = get(want, "trials");
        let run = |seed| {
            let mut problem = problem(&serde_json::json!({"choices": vec![4; 12], "objectives": 1}));
            problem.objective = if two { "kl,bytes" } else { "kl" }.parse::<Objective>().unwrap();
            problem.bytes.iter_mut().for_each(|bytes| *bytes = vec![1, 2, 3, 4]);
            (problem.seed, problem.trials) = (seed, trials);
            let agreeing = |p: &[usize]| p.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64;
            let kl = |p: &[usize]| table.iter().zip(p).map(|(t, &c)| t[c]).sum::<f64>() + 0.2 * agreeing(p);
            let history = Mock::new(kl).study(sampler.as_ref(), &problem, 1);
            if !two {
                return best(&history);
            }
            let values: Vec<Vec<f64>> = history.into_iter().map(|trial| trial.values).collect();
            hypervolume(&values, &reference)
        };
        let values: Vec<f64> = (0..20).map(run).collect();
        let mean = values.iter().sum::<f64>() / 20.0;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 19.0).sqrt();
        let (their_mean, theirs): (f64, f64) = (get(want, "mean"), get(want, "deviation"));
        println!("{kind} {trials}: {mean:.3} ± {deviation:.3}; Optuna {their_mean:.3} ± {theirs:.3}");
        // Four standard errors of the difference of two means; better is no error.
        let noise = 4.0 * ((deviation.powi(2) + theirs.powi(2)) / 20.0).sqrt();
        let worse = if two { their_mean - mean } else { mean - their_mean };
        assert!(worse <= noise, "{kind}, {trials} trials: {mean} against {their_mean}");
    }
}
