//! Studies that never happened, for tests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::search::sampler::pareto;

/// Characters that break what does not escape them.
pub(super) const ODD: &str = "a<b>&\"c\"'d', \u{1}é\n=1+1\u{1f600}";

/// How a synthetic study looks.
pub(super) struct Shape {
    pub(super) blocks: usize,
    pub(super) trials: usize,
    pub(super) objective: &'static str,
    pub(super) failed: bool,
    pub(super) odd: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { blocks: 4, trials: 300, objective: "kl,bytes", failed: false, odd: false }
    }
}

const LAYERS: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 256, 256),
    ("self_attn.k_proj", 128, 256),
    ("self_attn.v_proj", 128, 256),
    ("self_attn.o_proj", 256, 256),
    ("mlp.gate_proj", 768, 256),
    ("mlp.up_proj", 768, 256),
    ("mlp.down_proj", 256, 768),
];

fn dimensions(shape: &Shape) -> Vec<Searched> {
    let candidates: Vec<String> = [2, 3, 4, 5, 6, 8]
        .iter()
        .map(|bits| format!("int{bits}(group=32)"))
        .chain(["f16".to_owned()])
        .collect();
    let dimension = |(block, (layer, rows, cols)): (usize, &(&str, usize, usize))| {
        let name = format!("model.layers.{block}.{layer}");
        let name = if shape.odd { format!("{name}{ODD}") } else { name };
        let layers = vec![Layer { tensor: format!("{name}.weight"), rows: *rows, cols: *cols }];
        Searched { name, layers, candidates: candidates.clone() }
    };
    (0..shape.blocks)
        .flat_map(|block| LAYERS.iter().map(move |layer| (block, layer)))
        .map(dimension)
        .collect()
}

/// A model whose divergence grows with the squared steps of the formats of all layers.
fn measure(dimensions: &[Searched], point: &[usize], rng: &mut ChaCha8Rng) -> Measurement {
    let mut kl = 1e-5;
    let mut bits = 0.0;
    let mut latency = 2e-4;
    for (d, (dimension, &choice)) in dimensions.iter().zip(point).enumerate() {
        let step = [0.4f64, 0.12, 0.05, 0.025, 0.012, 0.003, 0.0][choice];
        let weight =
            if dimension.name.contains("v_proj") { 8.0 } else { 1.0 } * if d < 7 { 3.0 } else { 1.0 };
        kl += weight * step * step * 3.0;
        let of_layer = dimension.bits(choice).unwrap() * dimension.weights() as f64;
        bits += of_layer;
        latency += of_layer * 3e-11;
    }
    kl *= 1.0 + 0.03 * (rng.random::<f64>() - 0.5);
    let weights: u64 = dimensions.iter().map(Searched::weights).sum();
    Measurement {
        loss: 3.2 + kl * 0.9,
        kl,
        agreement: (-2.0 * kl.sqrt()).exp(),
        accuracy: 0.41 * (-kl.sqrt()).exp(),
        bytes: (bits / 8.0) as u64 + 400_000,
        nominal_bytes: (bits / 9.0) as u64 + 400_000,
        bits_per_weight: bits / weights.max(1) as f64,
        latency: Some(latency),
    }
}

pub(super) fn study(shape: &Shape) -> Summary {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let dimensions = dimensions(shape);
    let objective: Objective = shape.objective.parse().unwrap();
    let choices = dimensions.first().map_or(1, |d| d.candidates.len());
    let mut trials: Vec<Trial> = Vec::new();
    for number in 0..shape.trials {
        let (point, origin): (Point, &str) = match number {
            n if n < choices => (vec![n; dimensions.len()], "uniform"),
            n if n < shape.trials / 3 => {
                (dimensions.iter().map(|_| rng.random_range(0..choices)).collect(), "random")
            }
            n => {
                // Neighbours of an earlier good trial, as a sampler makes them.
                let good = trials
                    .iter()
                    .filter(|t| t.state == TrialState::Complete)
                    .min_by(|a, b| {
                        let cost = |t: &Trial| {
                            let m = t.measurement.as_ref().unwrap();
                            m.kl.ln() + (1 + n % 7) as f64 * m.bytes as f64 / 1e6
                        };
                        cost(a).total_cmp(&cost(b))
                    })
                    .map_or_else(|| vec![0; dimensions.len()], |t| t.point.clone());
                let change = |choice: usize| match rng.random_range(0..10) {
                    0 => (choice + 1).min(choices - 1),
                    1 => choice.saturating_sub(1),
                    _ => choice,
                };
                let origin = if n % 5 == 0 { "sensitivity" } else { "tpe" };
                (good.into_iter().map(change).collect(), origin)
            }
        };
        let failed = shape.failed || (number >= choices && number % 37 == 0);
        let measurement = (!failed).then(|| measure(&dimensions, &point, &mut rng));
        let state = if failed { TrialState::Failed } else { TrialState::Complete };
        let values = measurement.as_ref().map_or_else(Vec::new, |m| objective.values(m));
        let origin = if shape.odd { format!("{origin}{ODD}") } else { origin.to_owned() };
        trials.push(Trial { number, point, state, values, measurement, origin });
    }
    summary(shape, objective, dimensions, trials)
}

type Point = Vec<usize>;

fn summary(shape: &Shape, objective: Objective, dimensions: Vec<Searched>, trials: Vec<Trial>) -> Summary {
    let choices = dimensions.first().map_or(1, |d| d.candidates.len()).min(trials.len());
    let complete: Vec<&Trial> = trials.iter().filter(|t| t.state == TrialState::Complete).collect();
    let beats = |a: &Trial, b: &Trial| pareto::dominates(&a.values, &b.values);
    let front: Vec<usize> =
        complete.iter().filter(|t| !complete.iter().any(|o| beats(o, t))).map(|t| t.number).collect();
    let best = complete.iter().min_by(|a, b| a.values[0].total_cmp(&b.values[0])).map(|t| t.number);
    let again = |number: &usize| {
        let m = trials[*number].measurement.as_ref().unwrap();
        Final {
            trial: *number,
            file: format!("trial-{number}{}.json", if shape.odd { ODD } else { "" }),
            loss: m.loss + 0.01,
            kl: m.kl * 1.02,
            agreement: m.agreement,
            accuracy: m.accuracy,
            bytes: m.bytes,
            bits_per_weight: m.bits_per_weight,
            latency_sum: m.latency,
            latency_whole: m.latency.map(|l| l * 1.07),
        }
    };
    let finals: Vec<Final> = front.iter().step_by(4).map(again).collect();
    let title = if shape.odd { ODD.to_owned() } else { "SmolLM2-135M: kl,bytes".to_owned() };
    let facts = [
        ("model", "HuggingFaceTB/SmolLM2-135M"),
        ("text", "wikitext-2 test, 16 windows of 512 tokens"),
        ("adapter", "NVIDIA H100 80GB HBM3 (Vulkan)"),
        ("sampler", "tpe, seed 7"),
        ("space", "int2..6|8(group=32),f16"),
        ("memory", "no limit"),
    ];
    let mut facts: Vec<(String, String)> = facts.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    if shape.odd {
        facts.push((ODD.to_owned(), ODD.to_owned()));
    }
    Summary {
        title,
        facts,
        command: format!(
            "anybit search model --space 'int2..6|8(group=32),f16' --trials 300 {}",
            if shape.odd { ODD } else { "" }
        ),
        uniform: (0..choices)
            .map(|trial| Uniform {
                spec: dimensions.first().map_or("", |d| d.candidates[trial].as_str()).to_owned(),
                trial: Some(trial),
                measurement: None,
            })
            .collect(),
        unit: Unit::Token,
        baseline_loss: Some(3.2),
        baseline_accuracy: Some(0.4),
        best: if objective.count() == 1 { best } else { None },
        front,
        finals,
        times: Times { packing: 3.1, warm_up: 1.2, sampler: 2.5, journal: 0.4, device: 21.0, rest: 1.1 },
        effort: Effort { trials_per_second: 11.9, uploaded_per_trial: 0.0, evictions: 0, reused: 0.42 },
        objective,
        dimensions,
        trials,
    }
}

pub(super) fn shapes() -> Vec<Shape> {
    let shape = Shape::default;
    vec![
        shape(),
        Shape { objective: "kl", ..shape() },
        Shape { objective: "scalar(alpha=0.25)", trials: 60, ..shape() },
        Shape { objective: "loss,nominal_bytes,latency", trials: 80, ..shape() },
        Shape { objective: "loss,kl,bytes,latency", trials: 40, ..shape() },
        Shape { trials: 0, ..shape() },
        Shape { trials: 1, ..shape() },
        Shape { trials: 9, failed: true, ..shape() },
        Shape { blocks: 0, trials: 30, ..shape() },
        Shape { odd: true, trials: 120, ..shape() },
    ]
}

pub(super) fn comparison(groups: usize) -> Comparison {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let group = |i: usize| {
        let study = |_| {
            let values: Vec<f64> = (0..200)
                .map(|t| {
                    let rate = 1.0 + i as f64 * 0.7;
                    let value =
                        0.8 * (-rate * f64::from(t) / 120.0).exp() * rng.random_range(0.7..1.4) + 0.01;
                    if t < 2 { f64::INFINITY } else { value }
                })
                .collect();
            let end = values.iter().copied().fold(f64::INFINITY, f64::min);
            let front = (0..8).map(|k| (1e6 + f64::from(k) * 3e5, end * f64::from(9 - k))).collect();
            Study { best: best_so_far(&values), front }
        };
        Group {
            label: format!("{} {i}", ["random", "tpe", "nsga2"][i % 3]),
            studies: (0..8).map(study).collect(),
        }
    };
    Comparison {
        title: "Samplers".to_owned(),
        facts: vec![("model".to_owned(), ODD.to_owned())],
        command: "anybit search …".to_owned(),
        quantity: "KL, nats/token".to_owned(),
        groups: (0..groups).map(group).collect(),
    }
}
