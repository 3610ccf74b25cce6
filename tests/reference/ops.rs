//! Single ops in floating point.

use anybit::graph::{Function, Mask};
use anybit::reference::{
    Comparison, Heads, activate, add, argmax, attention, attention_scores, attention_values, cross_entropy,
    embed, kl_divergence, layer_norm, linear, mul, nmse, rms_norm, rope, slice, softmax,
};

use super::{assert_close, noise};

#[test]
fn linear_by_hand() {
    // [1 2 3; 4 5 6] times rows [1 0 -1], [2 1 0], plus [10, 20].
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let w = [1.0, 0.0, -1.0, 2.0, 1.0, 0.0];
    assert_eq!(linear(&x, 2, &w, 3, Some(&[10.0, 20.0])), [8.0, 24.0, 8.0, 33.0]);
    assert_eq!(linear(&x, 2, &w, 3, None), [-2.0, 4.0, -2.0, 13.0]);
    assert!(linear(&[], 0, &w, 3, None).is_empty());
}

#[test]
fn linear_of_odd_shapes_is_the_double_sum() {
    for (tokens, rows, cols) in [(1, 1, 1), (1, 17, 5), (4, 3, 7), (5, 33, 13), (9, 11, 64), (3, 16, 1031)] {
        let (x, w, bias) = (noise(1, tokens * cols), noise(2, rows * cols), noise(3, rows));
        let mut want = Vec::new();
        for t in 0..tokens {
            for r in 0..rows {
                let terms = (0..cols).map(|k| f64::from(x[t * cols + k]) * f64::from(w[r * cols + k]));
                want.push(terms.sum::<f64>() + f64::from(bias[r]));
            }
        }
        let got = linear(&x, tokens, &w, cols, Some(&bias));
        assert_close(&got, &want, 6e-8);
        // A row does not depend on the others, to the last bit.
        let last = linear(&x[(tokens - 1) * cols..], 1, &w, cols, Some(&bias));
        assert_eq!(last, got[(tokens - 1) * rows..]);
    }
}

#[test]
fn linear_sums_in_f64() {
    // In f32 the 1 would be lost in 1e8.
    assert_eq!(linear(&[1e8, 1.0, -1e8], 1, &[1.0, 1.0, 1.0], 3, None), [1.0]);
}

#[test]
fn rms_norm_by_hand() {
    // mean square of (3, 4) is 12.5
    let y = rms_norm(&[3.0, 4.0, 0.0, 0.0], &[1.0, 2.0], 0.0);
    assert_close(&y[..2], &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()], 1e-7);
    let y = rms_norm(&[0.0, 0.0], &[1.0, 2.0], 1e-5);
    assert_eq!(y, [0.0, 0.0]);
    // mean square 3, eps 1: factor 1/2
    assert_eq!(rms_norm(&[3f32.sqrt(), -(3f32.sqrt())], &[2.0, 2.0], 1.0)[0], 3f32.sqrt());
}

#[test]
fn layer_norm_by_hand() {
    // mean 5, variance ((-3)^2 + (-1)^2 + 1 + 9)/4 = 5
    let y = layer_norm(&[2.0, 4.0, 6.0, 8.0], &[1.0, 1.0, 2.0, 1.0], &[0.0, 1.0, 0.0, -1.0], 0.0);
    let s = 5f64.sqrt();
    assert_close(&y, &[-3.0 / s, -1.0 / s + 1.0, 2.0 / s, 3.0 / s - 1.0], 1e-7);
    // variance 3, eps 1: factor 1/2
    let v = 3f32.sqrt();
    assert_close(
        &layer_norm(&[v, -v], &[1.0, 1.0], &[0.0, 0.0], 1.0),
        &[0.8660254037844386, -0.8660254037844386],
        1e-7,
    );
}

#[test]
fn rope_is_a_complex_rotation() {
    let (heads, head_dim) = (3, 6);
    let frequencies = [1.0f32, 0.3, 0.01];
    let positions = [0u32, 1, 7, 100];
    let x = noise(4, positions.len() * heads * head_dim);
    let y = rope(&x, &positions, heads, &frequencies);
    let multiply = |a: (f64, f64), b: (f64, f64)| (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0);
    for (t, &position) in positions.iter().enumerate() {
        for (i, &frequency) in frequencies.iter().enumerate() {
            // exp(i f)^position, one multiplication at a time
            let step = (f64::from(frequency).cos(), f64::from(frequency).sin());
            let turn = (0..position).fold((1.0, 0.0), |z, _| multiply(z, step));
            for head in 0..heads {
                let low = (t * heads + head) * head_dim + i;
                let z = multiply((f64::from(x[low]), f64::from(x[low + 3])), turn);
                assert_close(&[y[low], y[low + 3]], &[z.0, z.1], 1e-7);
            }
        }
    }
    assert_eq!(y[..heads * head_dim], x[..heads * head_dim], "position 0 turns nothing");
}

#[test]
fn rope_makes_dot_products_depend_on_the_distance_only() {
    let frequencies = [0.7f32, 0.05];
    let (q, k) = (noise(5, 4), noise(6, 4));
    let dot = |m: u32, n: u32| -> f64 {
        let (q, k) = (rope(&q, &[m], 1, &frequencies), rope(&k, &[n], 1, &frequencies));
        q.iter().zip(&k).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    assert!((dot(5, 2) - dot(105, 102)).abs() < 1e-6);
    assert!((dot(5, 2) - dot(5, 4)).abs() > 1e-3);
}

#[test]
fn softmax_by_hand() {
    let ln2 = std::f32::consts::LN_2;
    let y = softmax(&[0.0, ln2, f32::NEG_INFINITY, 1000.0, 1000.0, 1000.0], 3);
    assert_close(&y, &[1.0 / 3.0, 2.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], 1e-7);
    assert_eq!(y[2], 0.0);
}

/// Attention as the formula says it, without shifts or shared code.
fn brute_force(q: &[f32], k: &[f32], v: &[f32], shape: Heads, first: usize) -> Vec<f64> {
    let Heads { heads, kv_heads, head_dim, scale, mask } = shape;
    let at = |m: &[f32], row: usize, head: usize, count: usize, i: usize| {
        f64::from(m[(row * count + head) * head_dim + i])
    };
    let mut y = Vec::new();
    for t in 0..q.len() / (heads * head_dim) {
        for h in 0..heads {
            let g = h * kv_heads / heads;
            let sees = |p: &usize| match mask {
                Mask::Causal => *p <= first + t,
                Mask::Window(w) => *p <= first + t && *p + w > first + t,
                Mask::Full => true,
            };
            let seen: Vec<usize> = (0..k.len() / (kv_heads * head_dim)).filter(sees).collect();
            let exps: Vec<f64> = seen
                .iter()
                .map(|&p| {
                    (0..head_dim).map(|i| at(q, t, h, heads, i) * at(k, p, g, kv_heads, i)).sum::<f64>()
                })
                .map(|dot| (dot * f64::from(scale)).exp())
                .collect();
            let sum: f64 = exps.iter().sum();
            for i in 0..head_dim {
                y.push(exps.iter().zip(&seen).map(|(e, &p)| e / sum * at(v, p, g, kv_heads, i)).sum());
            }
        }
    }
    y
}

#[test]
fn attention_is_brute_force_softmax() {
    for (heads, kv_heads, head_dim, first, rows, mask) in [
        (1, 1, 4, 0, 1, Mask::Causal),
        (4, 2, 8, 0, 5, Mask::Causal),
        (6, 3, 2, 11, 1, Mask::Causal),
        (6, 1, 5, 3, 7, Mask::Causal),
        (4, 2, 3, 0, 7, Mask::Window(3)),
        (2, 1, 5, 9, 4, Mask::Window(1)),
        (2, 2, 5, 2, 4, Mask::Window(50)),
        (3, 1, 5, 0, 7, Mask::Full),
        (1, 1, 2, 0, 1, Mask::Full),
    ] {
        let shape = Heads { heads, kv_heads, head_dim, scale: 1.7, mask };
        let q = noise(7, rows * shape.width());
        let k = noise(8, (first + rows) * shape.kv_width());
        let v = noise(9, (first + rows) * shape.kv_width());
        let want = brute_force(&q, &k, &v, shape, first);
        assert_close(&attention(&q, &k, &v, shape, first), &want, 1e-7);

        let positions = first + rows;
        let scores = attention_scores(&q, &k, shape, first);
        assert_eq!(scores.len(), rows * heads * positions);
        for (index, &score) in scores.iter().enumerate() {
            let (p, query) = (index % positions, first + index / positions / heads);
            let hidden = match mask {
                Mask::Causal => p > query,
                Mask::Window(w) => p > query || p + w <= query,
                Mask::Full => false,
            };
            assert_eq!(score == f32::NEG_INFINITY, hidden);
        }
        let naive = attention_values(&softmax(&scores, positions), &v, shape, positions);
        assert_close(&naive, &want, 1e-6);
    }
}

#[test]
fn gelu_takes_erf_from_the_tables() {
    // erf to 16 digits, Abramowitz & Stegun table 7.1 and beyond; gelu(x) = x/2 * (1 + erf(x/sqrt 2)).
    let table = [
        (0.5, 0.5204998778130465),
        (1.0, 0.8427007929497149),
        (1.5, 0.9661051464753108),
        (2.0, 0.9953222650189527),
        (3.0, 0.9999779095030014),
    ];
    for (t, erf) in table {
        let x = (t * std::f64::consts::SQRT_2) as f32;
        let y = activate(Function::Gelu, &[x, -x]);
        let x = f64::from(x);
        assert_close(&y, &[x / 2.0 * (1.0 + erf), -x / 2.0 * (1.0 - erf)], 2e-7);
        // The two sides differ by x; the tail itself keeps its relative accuracy.
        let tail = -x / 2.0 * (1.0 - erf);
        assert!((f64::from(y[1]) - tail).abs() <= 1e-6 * tail.abs(), "tail at {x}: {} {tail}", y[1]);
    }
    // Phi(-5) = 2.866515718791939e-7
    let y = activate(Function::Gelu, &[-5.0]);
    assert!((f64::from(y[0]) / (-5.0 * 2.866515718791939e-7) - 1.0).abs() < 1e-7);
}

#[test]
fn activations_by_hand() {
    let x = [-2.0, -0.0, 0.0, 1.0, 3.0];
    assert_eq!(activate(Function::Relu, &x), [0.0, 0.0, 0.0, 1.0, 3.0]);
    // x / (1 + e^-x) at 1 and -2
    let y = activate(Function::Silu, &[1.0, -2.0, 0.0, -1e4, 1e4]);
    assert_close(&y, &[0.7310585786300049, -0.2384058440442351, 0.0, 0.0, 1e4], 1e-7);
    // gelu_new(1) and gelu_new(-1) as PyTorch prints them, and x/2 (1 + tanh u) spelled out
    let y = activate(Function::GeluTanh, &[1.0, -1.0, 1e4, -1e4]);
    assert_close(&y, &[0.841192, -0.158808, 1e4, 0.0], 1e-6);
    for v in noise(10, 64).iter().map(|v| v * 6.0) {
        let x = f64::from(v);
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        assert_close(&activate(Function::GeluTanh, &[v]), &[x / 2.0 * (1.0 + u.tanh())], 1e-7);
    }
    // torch.tanh of 0.3 and -2 in f64
    let y = activate(Function::Tanh, &[0.3, -2.0, 0.0, -1e4, 1e4]);
    assert_close(&y, &[0.2913126201012273, -0.9640275800758169, 0.0, -1.0, 1.0], 1e-7);
    for function in Function::ALL {
        assert!(activate(function, &[f32::NAN])[0].is_nan(), "{function:?} hides NaN");
    }
}

#[test]
fn elementwise_and_rows() {
    assert_eq!(add(&[1.0, 2.0], &[0.5, -2.0]), [1.5, 0.0]);
    assert_eq!(mul(&[1.0, 2.0], &[0.5, -2.0]), [0.5, -4.0]);
    assert_eq!(embed(&[1.0, 2.0, 3.0, 4.0], 2, [1, 0, 1]), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 1, 2), [2.0, 3.0, 5.0, 6.0]);
}

#[test]
fn cross_entropy_of_equal_logits_is_log_vocabulary() {
    for vocabulary in [2, 3, 1024] {
        let logits = vec![7.5; 2 * vocabulary];
        let want = (vocabulary as f64).ln();
        assert_close(&cross_entropy(&logits, vocabulary, &[0, 1]), &[want, want], 1e-7);
    }
    // softmax(0, ln 3) = (1/4, 3/4)
    let logits = [0.0, 3f32.ln(), 0.0, 3f32.ln()];
    assert_close(&cross_entropy(&logits, 2, &[0, 1]), &[4f64.ln(), (4.0f64 / 3.0).ln()], 1e-7);
    assert_eq!(cross_entropy(&[0.0, 0.0], 2, &[2]), [f32::INFINITY]);
    assert_close(&cross_entropy(&[-1000.0, 1000.0], 2, &[0]), &[2000.0], 1e-7);
    assert!(cross_entropy(&[f32::NAN, 0.0], 2, &[1])[0].is_nan());
}

#[test]
fn kl_divergence_is_zero_for_equal_and_positive_for_different_logits() {
    let p = noise(11, 40);
    assert_eq!(kl_divergence(&p, &p, 10), [0.0; 4]);
    let shifted: Vec<f32> = p.iter().map(|v| v + 0.5).collect();
    assert_close(&kl_divergence(&p, &shifted, 10), &[0.0; 4], 1e-7);
    assert!(kl_divergence(&p, &noise(12, 40), 10).iter().all(|&kl| kl > 0.0));
    // (1/4, 3/4) against (1/2, 1/2): ln 2 - H(1/4)
    let kl = kl_divergence(&[0.0, 3f32.ln()], &[0.0, 0.0], 2);
    assert_close(&kl, &[0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln()], 1e-7);
    // A probability of 0 on the left contributes nothing.
    assert_close(&kl_divergence(&[0.0, f32::NEG_INFINITY], &[0.0, 0.0], 2), &[2f64.ln()], 1e-7);
    assert!(kl_divergence(&[f32::NAN, 0.0], &[0.0, 0.0], 2)[0].is_nan());
}

#[test]
fn argmax_takes_the_first_maximum() {
    assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
    assert_eq!(argmax(&[f32::NAN, -1.0, -0.5]), 2);
    assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), 0);
    assert_eq!(argmax(&[f32::NAN]), 0);
}

#[test]
fn comparison_by_hand() {
    let same = Comparison::new(&[0.0, f32::NAN, 1.0, f32::INFINITY], &[-0.0, f32::NAN, 1.0, f32::INFINITY]);
    assert_eq!(same, Comparison { exact: true, max_abs: 0.0, index: 0, nmse: 0.0 });
    // errors 0.5 and -1; 1.25 / (9 + 16)
    let c = Comparison::new(&[3.5, 3.0], &[3.0, 4.0]);
    assert_eq!(c, Comparison { exact: false, max_abs: 1.0, index: 1, nmse: 0.05 });
    let c = Comparison::new(&[1.0, f32::NAN, 0.0], &[1.0, 2.0, 5.0]);
    assert_eq!(c, Comparison { exact: false, max_abs: f64::INFINITY, index: 1, nmse: f64::INFINITY });
    assert_eq!(nmse(&[f32::INFINITY], &[f32::NEG_INFINITY]), f64::INFINITY);
    assert_eq!(nmse(&[1.0], &[0.0]), f64::INFINITY);
    assert_eq!(nmse(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    assert_eq!(nmse(&[], &[]), 0.0);
}
