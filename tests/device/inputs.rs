//! Graphs that read rows of numbers, or whole sequences, in sessions and trials.

use std::sync::Arc;

use anybit::engine::{Prediction, Resident, Session, SessionOptions, TrialOptions, Trials};
use anybit::format::{Format, Packed};
use anybit::graph::{Assignment, Batch, Function, Graph, Mask, Op, Role, Token, WeightId, Weights};
use anybit::reference::{Executor, argmax, cross_entropy, kl_divergence, nmse};

use super::{gpu, spec, values};

struct Made<'a>(&'a Graph);

impl Weights for Made<'_> {
    fn packed(&self, weight: WeightId, format: Format) -> anybit::Result<Packed> {
        let w = &self.0.weights[weight];
        format.encode(&values(w.rows * w.cols, weight as u64 + 1), w.rows, w.cols)
    }

    fn vector(&self, weight: WeightId) -> anybit::Result<Vec<f32>> {
        Ok(values(self.0.weights[weight].cols, weight as u64 + 1))
    }
}

/// Rows of 20 numbers, through two layers, to 5 classes. The rows are read at both ends of the graph.
fn rows() -> Graph {
    let mut g = Graph { context: 64, ..Graph::default() };
    let mut matrix = |name: &str, rows, cols| g.weight(name, rows, cols, Role::Linear, false);
    let (up, down, last) = (matrix("up", 37, 20), matrix("down", 20, 37), matrix("last", 5, 20));
    let x = g.push("input", Op::Input, &[], 20);
    let y = g.push("up", Op::Linear { weight: up, bias: None }, &[x], 37);
    let y = g.push("act", Op::Activate(Function::Tanh), &[y], 37);
    let y = g.push("down", Op::Linear { weight: down, bias: None }, &[y], 20);
    let y = g.push("squared", Op::Mul, &[y, y], 20);
    let y = g.push("residual", Op::Add, &[y, x], 20);
    let y = g.push("rows", Op::OutputRows, &[y], 20);
    g.push("last", Op::Linear { weight: last, bias: None }, &[y], 5);
    g
}

/// Tokens of two segments that see their whole sequence, to 5 classes; two layers on one cache.
fn sequences() -> Graph {
    let mut g = Graph { context: 16, kv_widths: vec![12], ..Graph::default() };
    let mut table = |name: &str, rows| g.weight(name, rows, 12, Role::Embedding, false);
    let (ids, segments) = (table("ids", 9), table("segments", 2));
    let x = g.push("id", Op::Embed { table: ids }, &[], 12);
    let segment = g.push("segment", Op::EmbedSegment { table: segments }, &[], 12);
    let mut x = g.push("sum", Op::Add, &[x, segment], 12);
    for layer in ["a", "b"] {
        let mut linear = |which: &str| {
            let weight = g.weight(format!("{layer}.{which}"), 12, 12, Role::Linear, false);
            g.push(format!("{layer}.{which}"), Op::Linear { weight, bias: None }, &[x], 12)
        };
        let qkv = ["q", "k", "v"].map(&mut linear);
        let mask = Mask::Full;
        let op = Op::Attention { layer: 0, heads: 2, kv_heads: 2, head_dim: 6, scale: 0.4, mask };
        let y = g.push(format!("{layer}.attention"), op, &qkv, 12);
        x = g.push(format!("{layer}.sum"), Op::Add, &[x, y], 12);
    }
    let x = g.push("rows", Op::OutputRows, &[x], 12);
    let last = g.weight("last", 5, 12, Role::Head, false);
    g.push("last", Op::Linear { weight: last, bias: None }, &[x], 5);
    g
}

fn row_batches() -> Vec<Batch> {
    let batch = |(seed, rows): (u64, usize)| {
        let batch = Batch::of_inputs(values(rows * 20, seed), 20).expect("rows");
        Batch { outputs: (0..rows as u32).step_by(2).collect(), ..batch }
    };
    // Growing and shrinking, so that buffers are made anew and used again.
    [(1, 3), (2, 1), (3, 11), (4, 3)].map(batch).to_vec()
}

/// Sequences of different lengths, one output each.
fn sequence_batches() -> Vec<Batch> {
    let batch = |lengths: &[u32]| {
        let of = |(sequence, &length): (usize, &u32)| {
            (0..length).map(move |position| Token {
                segment: u32::from(position > 2),
                ..Token::new((position * 5 + length) % 9, sequence as u32, position)
            })
        };
        let tokens: Vec<Token> = lengths.iter().enumerate().flat_map(of).collect();
        let first = (0..lengths.len()).map(|i| lengths[..i].iter().sum()).collect();
        Batch::new(tokens, first)
    };
    [&[5, 1, 9][..], &[16], &[3, 3], &[5, 1, 9]].map(batch).to_vec()
}

fn assignment(graph: &Graph, text: &str) -> Assignment {
    Assignment::uniform(graph, &vec![Format::F32; graph.weights.len()], spec(text))
}

#[test]
fn sessions_agree_with_the_reference() {
    for (graph, batches) in [(rows(), row_batches()), (sequences(), sequence_batches())] {
        let graph = Arc::new(graph);
        for (text, fused) in [("f32", true), ("f32", false), ("int8@int8", true)] {
            let assignment = assignment(&graph, text);
            let options = SessionOptions { sequences: 3, context: 16, fused, keep: false };
            let mut resident = Resident::new(gpu(), None);
            let mut session =
                Session::new(&mut resident, graph.clone(), &Made(&graph), assignment.clone(), options)
                    .expect("a session");
            let mut executor = Executor::new(&graph, &Made(&graph), &assignment, 3).expect("executor");
            for (index, batch) in batches.iter().enumerate() {
                session.step(batch).expect("a step");
                let (got, want) =
                    (session.logits().expect("logits"), executor.run(batch).expect("reference"));
                let nmse = nmse(&got, &want);
                let tolerance = if text == "f32" { 1e-10 } else { 1e-4 };
                assert!(nmse <= tolerance, "{text}, fused {fused}, batch {index}: NMSE {nmse:e}");
            }
        }
    }
}

#[test]
fn trials_measure_what_the_reference_measures() {
    for (graph, batches) in [(rows(), row_batches()), (sequences(), sequence_batches())] {
        let graph = Arc::new(graph);
        let weights = Made(&graph);
        let target = |row: u32| (row * 3 + 1) % 5;
        let predictions: Vec<Prediction> = batches
            .iter()
            .map(|batch| Prediction {
                batch: batch.clone(),
                targets: batch.outputs.iter().map(|&r| target(r)).collect(),
            })
            .collect();
        for fused in [true, false] {
            let options = TrialOptions { sequences: 3, context: 16, fused, in_flight: 2 };
            let resident = Resident::new(gpu(), None);
            let mut trials =
                Trials::new(resident, graph.clone(), &weights, std::slice::from_ref(&predictions), options)
                    .expect("trials");
            let baseline = assignment(&graph, "f32");
            trials.set_baseline(&weights, &baseline, &|_, _| true).expect("a baseline");
            let tried =
                ["int4(group=32)", "f32", "int8", "int4(group=32)"].map(|text| assignment(&graph, text));
            for (assignment, got) in tried.iter().zip(trials.run(&weights, &tried).expect("trials")) {
                let mut executor = Executor::new(&graph, &weights, assignment, 3).expect("executor");
                let mut exact = Executor::new(&graph, &weights, &baseline, 3).expect("executor");
                let (mut loss, mut kl, mut correct) = (0.0, 0.0, 0.0);
                for Prediction { batch, targets } in &predictions {
                    let (q, p) = (executor.run(batch).expect("q"), exact.run(batch).expect("p"));
                    loss += cross_entropy(&q, 5, targets).iter().map(|&l| f64::from(l)).sum::<f64>();
                    kl += kl_divergence(&p, &q, 5).iter().map(|&l| f64::from(l)).sum::<f64>();
                    let right = |pair: &(&[f32], &u32)| argmax(pair.0) == *pair.1 as usize;
                    correct += q.chunks(5).zip(targets).filter(right).count() as f64;
                }
                assert!((got.loss - loss).abs() <= 1e-5 * loss, "loss {} not {loss}", got.loss);
                assert!((got.kl - kl).abs() <= 1e-5 * (1.0 + kl), "KL {} not {kl}", got.kl);
                assert_eq!(got.correct, correct);
            }
            let time = trials.time_whole(&weights, &baseline, 7).expect("a time");
            assert!(time > 0.0);
        }
    }
}
