use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const CHOICES: [usize; 7] = [3, 3, 4, 1, 5, 5, 5];
/// Harm per layer and candidate; most layers do not matter.
const TRUTH: [&[f64]; 7] =
    [&[0.0, 0.5, 2.0], &[1.0, 0.0, 0.25], &[0.0; 4], &[0.0], &[0.0; 5], &[0.0; 5], &[0.0; 5]];

fn points(count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| CHOICES.iter().map(|&n| rng.random_range(0..n)).collect()).collect()
}

fn additive(point: &[usize]) -> f64 {
    TRUTH.iter().zip(point).map(|(layer, &choice)| layer[choice]).sum()
}

fn fit(points: &[Vec<usize>], values: &[f64]) -> Result<Effects, String> {
    let points: Vec<&[usize]> = points.iter().map(Vec::as_slice).collect();
    effects(&points, values, &CHOICES)
}

fn assert_truth(fitted: &Effects, tolerance: f64) {
    for (layer, truth) in fitted.effects.iter().zip(TRUTH) {
        for (effect, want) in layer.iter().zip(truth) {
            let harm = effect.unwrap().harm;
            assert!((harm - want).abs() < tolerance, "{harm}, want {want}");
        }
    }
    let variances = TRUTH.map(|layer| squares(layer) / layer.len() as f64);
    for (share, want) in fitted.importance.iter().zip(variances) {
        let want = want / variances.iter().sum::<f64>();
        assert!((share - want).abs() < tolerance, "{share}, want {want}");
    }
}

#[test]
fn additive_values_are_taken_apart() {
    let points = points(60, 1);
    let values: Vec<f64> = points.iter().map(|p| 0.1 + additive(p)).collect();
    let fitted = fit(&points, &values).unwrap();
    assert_eq!(fitted.transform, Transform::Identity);
    assert!(fitted.explained > 0.99, "{}", fitted.explained);
    assert_truth(&fitted, 0.03);
}

#[test]
fn factors_are_taken_apart_on_the_log_scale() {
    let points = points(120, 2);
    let values: Vec<f64> = points.iter().map(|p| 1e-3 * additive(p).exp()).collect();
    let fitted = fit(&points, &values).unwrap();
    assert_eq!(fitted.transform, Transform::Log);
    assert_truth(&fitted, 0.03);
}

#[test]
fn noise_and_a_sampler_that_does_not_choose_at_random() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    // Bad choices in the first layer come along with bad ones in the second.
    let points: Vec<Vec<usize>> = points(400, 4)
        .into_iter()
        .map(|mut p| {
            if p[0] == 2 && rng.random_bool(0.7) {
                p[1] = 0;
            }
            p
        })
        .collect();
    let values: Vec<f64> = points.iter().map(|p| 5.0 + additive(p)).collect();
    let fitted = fit(&points, &values).unwrap();
    assert_truth(&fitted, 0.05);
    // Means over the trials that have a choice would be wrong.
    let mean = |choice: usize| {
        let having = points.iter().zip(&values).filter(|(p, _)| p[0] == choice);
        let values: Vec<f64> = having.map(|(_, v)| *v).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    assert!((mean(2) - mean(0) - TRUTH[0][2]).abs() > 0.2);
}

#[test]
fn the_fit_solves_the_normal_equations() {
    let points = points(50, 5);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let noisy: Vec<(&[usize], f64)> =
        points.iter().map(|p| (p.as_slice(), additive(p) + rng.random_range(-0.3..0.3))).collect();
    let data = Data::new(&noisy, &CHOICES, Transform::Identity, 0.0);
    let model = Model::new(&data).fitted(&data, 2.0, STEPS, GRADIENT);
    let predicted = model.predict(&data);
    let weighted = noisy.iter().zip(&predicted).zip(&data.weights);
    let residuals: Vec<f64> = weighted.map(|(((_, value), p), w)| w * w * (value - p)).collect();
    assert!(residuals.iter().sum::<f64>().abs() < 1e-5);
    for (dimension, &count) in CHOICES.iter().enumerate() {
        for choice in 0..count {
            let having = points.iter().zip(&residuals).filter(|(p, _)| p[dimension] == choice);
            let effect = model.0[data.begins[dimension] + choice];
            let gradient = having.map(|(_, residual)| residual).sum::<f64>() - 2.0 * effect;
            assert!(gradient.abs() < 1e-5, "{dimension} {choice}: {gradient}");
        }
    }
    assert!((data.weights.iter().map(|w| w * w).sum::<f64>() - 50.0).abs() < 1e-9);
}

#[test]
fn standard_errors_cover_the_noise() {
    let points = points(300, 10);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let values: Vec<f64> =
        points.iter().map(|p| (5.0 + additive(p)) * rng.random_range(0.97..1.03)).collect();
    let fitted = fit(&points, &values).unwrap();
    let (mut far, mut count) = (0, 0);
    for (layer, truth) in fitted.effects.iter().zip(TRUTH) {
        // Over the candidate that was found to be the best.
        let best = layer.iter().position(|effect| effect.unwrap().harm == 0.0).unwrap();
        for (effect, want) in layer.iter().zip(truth).filter(|(effect, _)| effect.unwrap().harm > 0.0) {
            let effect = effect.unwrap();
            assert!(effect.error > 0.002 && effect.error < 0.1, "{effect:?}");
            far += u32::from((effect.harm - (want - truth[best])).abs() > 3.0 * effect.error);
            count += 1;
        }
    }
    assert!(far <= 2, "{far} of {count}");
}

#[test]
fn nothing_is_said_where_nothing_can_be() {
    let some = points(100, 7);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let noise: Vec<f64> = some.iter().map(|_| rng.random()).collect();
    let say = |points: &[Vec<usize>], values: &[f64]| fit(points, values).unwrap_err();
    assert!(say(&[], &[]).contains("too few"));
    assert!(say(&some[..10], &noise[..10]).contains("too few"));
    assert!(say(&vec![some[0].clone(); 90], &noise[..90]).contains("too few"), "one point, many times");
    assert!(say(&some, &[3.0; 100]).contains("equally good"));
    assert!(say(&some, &noise).contains("do not tell"));
    assert!(say(&some, &[f64::NAN; 100]).contains("too few"));
    assert!(say(&vec![vec![9; 7]; 100], &noise).contains("too few"), "points of another space");
}

#[test]
fn what_no_trial_has_is_left_open() {
    let points: Vec<Vec<usize>> = points(80, 9)
        .into_iter()
        .map(|mut p| {
            p[2] = p[2].min(2);
            p
        })
        .collect();
    let values: Vec<f64> = points.iter().map(|p| additive(p)).collect();
    let fitted = fit(&points, &values).unwrap();
    assert!(fitted.effects[2][3].is_none());
    assert!(fitted.effects[2][2].is_some());
    assert!((fitted.importance.iter().sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn ranks_of_equal_values_are_shared() {
    assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
    assert_eq!(correlation(&[1.0, 2.0], &[5.0, 5.0]), 0.0);
}
