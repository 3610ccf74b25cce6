//! Models that cost nothing to measure, and studies of them.

use super::space::Rng;
use super::{Proposal, Sampler};
use crate::search::{Measurement, Point, Problem, Trial, TrialState};

/// A number for each assignment.
type Value<'a> = Box<dyn Fn(&[usize]) -> f64 + 'a>;

/// A model of which everything but the divergence, and perhaps the latency, follows from the bytes.
pub(super) struct Mock<'a> {
    kl: Value<'a>,
    latency: Option<Value<'a>>,
}

impl<'a> Mock<'a> {
    /// With this divergence; the loss is 2 more, the latency half the bytes.
    pub(super) fn new(kl: impl Fn(&[usize]) -> f64 + 'a) -> Self {
        Self { kl: Box::new(kl), latency: None }
    }

    pub(super) fn with_latency(self, latency: impl Fn(&[usize]) -> f64 + 'a) -> Self {
        Self { latency: Some(Box::new(latency)), ..self }
    }

    pub(super) fn kl(&self, point: &[usize]) -> f64 {
        (self.kl)(point)
    }

    pub(super) fn trial(&self, problem: &Problem, number: usize, proposal: Proposal) -> Trial {
        let (kl, bytes) = (self.kl(&proposal.point), problem.bytes_of(&proposal.point));
        let latency = self.latency.as_ref().map_or(bytes as f64 / 2.0, |latency| latency(&proposal.point));
        let measurement = Measurement {
            loss: kl + 2.0,
            kl,
            agreement: 0.5,
            accuracy: 0.5,
            bytes,
            nominal_bytes: bytes,
            bits_per_weight: 4.0,
            latency: Some(latency),
        };
        Trial {
            number,
            point: proposal.point,
            state: TrialState::Complete,
            values: problem.objective.values(&measurement),
            measurement: Some(measurement),
            origin: proposal.origin.into(),
        }
    }

    /// The whole study, asked in batches; checks what holds for every proposal.
    pub(super) fn study(&self, sampler: &dyn Sampler, problem: &Problem, batch: usize) -> Vec<Trial> {
        self.resume(sampler, problem, batch, Vec::new())
    }

    /// The rest of a study.
    pub(super) fn resume(
        &self,
        sampler: &dyn Sampler,
        problem: &Problem,
        batch: usize,
        mut history: Vec<Trial>,
    ) -> Vec<Trial> {
        while history.len() < problem.trials {
            let (first, count) = (history.len(), batch.min(problem.trials - history.len()));
            let proposals = sampler.ask(problem, &history, first, count).unwrap();
            let is_over = proposals.len() < count;
            for (i, proposal) in proposals.into_iter().enumerate() {
                assert!(problem.fits(&proposal.point), "{proposal:?}");
                assert!(history.iter().all(|trial| trial.point != proposal.point), "{proposal:?} again");
                history.push(self.trial(problem, first + i, proposal));
            }
            if is_over {
                break;
            }
        }
        history
    }
}

/// A problem of `choices`, candidate `c` of dimension `d` with `10 + d` bytes for each of its `c + 1` bits.
pub(super) fn problem(choices: &[usize], objective: &str, trials: usize) -> Problem {
    let row = |(d, &n): (usize, &usize)| (1..=n as u64).map(|bits| bits * (10 + d as u64)).collect();
    let noise = |&n: &usize| (1..=n).map(|bits| 0.25f64.powi(bits as i32)).collect();
    let most = choices.iter().max().copied().unwrap_or(0);
    let uniform = (0..most).map(|c| choices.iter().map(|&n| c.min(n - 1)).collect());
    Problem {
        bytes: choices.iter().enumerate().map(row).collect(),
        noise: choices.iter().map(noise).collect(),
        fixed_bytes: 100,
        max_bytes: None,
        objective: objective.parse().unwrap(),
        uniform: uniform.collect(),
        seed: 0,
        trials,
    }
}

/// Widths of the candidates of [`transformer`].
const WIDTHS: [f64; 5] = [2.25, 3.25, 4.25, 5.25, 8.5];

/// Six blocks of seven layers with five candidates each, and a divergence like that of a language model: a layer is
/// `exp(N(0, 1.2))` times as sensitive as another, a candidate does harm in proportion to its squared error but for a
/// factor of `exp(N(0, 0.3))`, and great harm saturates like a logarithm. Errors are directions in a space of `4 /
/// pairs^2` dimensions, half of each common to the candidates of its layer, and their sum squared is the harm: so a
/// pair of layers adds its geometric mean times about `pairs * N(0, 1)`.
pub(super) fn transformer(model: u64, pairs: f64) -> (Problem, Mock<'static>) {
    let mut rng = Rng::new(model, 1 << 40);
    let weights = [[288 * 288; 4].as_slice(), &[288 * 768; 3]].concat().repeat(6);
    let bytes: Vec<Vec<u64>> =
        weights.iter().map(|&n: &u64| WIDTHS.iter().map(|w| (n as f64 * w / 8.0) as u64).collect()).collect();
    let space = (4.0 / (pairs * pairs)).round() as usize;
    let direction = |rng: &mut Rng| -> Vec<f64> {
        let scale = (0.5 / space as f64).sqrt();
        (0..space).map(|_| scale * rng.normal()).collect()
    };
    let (mut noise, mut errors): (Vec<Vec<f64>>, Vec<Vec<Vec<f64>>>) = (vec![], vec![]);
    for _ in &weights {
        let mut factor = |deviation: f64| (deviation * rng.normal()).exp();
        let (sensitivity, spread) = (0.25 * factor(1.2), factor(0.2));
        let squares = WIDTHS.map(|width| 0.8 * 4f64.powf(1.0 - width) * spread * factor(0.1));
        let harms = squares.map(|square| sensitivity * square * factor(0.3));
        noise.push(squares.to_vec());
        let common = direction(&mut rng);
        let error = |harm: f64| -> Vec<f64> {
            common.iter().zip(direction(&mut rng)).map(|(a, b)| harm.sqrt() * (a + b)).collect()
        };
        errors.push(harms.map(error).to_vec());
    }
    let kl = move |point: &[usize]| {
        let mut sum = vec![0.0; space];
        for (errors, &c) in errors.iter().zip(point) {
            sum.iter_mut().zip(&errors[c]).for_each(|(sum, error)| *sum += error);
        }
        let total: f64 = sum.iter().map(|x| x * x).sum();
        2.0 * (total / 2.0).ln_1p()
    };
    let problem = Problem {
        uniform: (0..WIDTHS.len()).map(|c| vec![c; 42]).collect(),
        bytes,
        noise,
        fixed_bytes: 1_000_000,
        max_bytes: None,
        objective: "kl".parse().unwrap(),
        seed: 0,
        trials: 200,
    };
    (problem, Mock::new(kl))
}

/// The best value of a study with one objective.
pub(super) fn best(history: &[Trial]) -> f64 {
    history.iter().map(|trial| trial.values[0]).fold(f64::INFINITY, f64::min)
}

/// Bytes of the whole model at `width` bits per weight.
pub(super) fn bytes_at(problem: &Problem, width: f64) -> u64 {
    let eight: Point = vec![4; problem.bytes.len()];
    let searched = problem.bytes_of(&eight) - problem.fixed_bytes;
    problem.fixed_bytes + (searched as f64 * width / 8.5) as u64
}
