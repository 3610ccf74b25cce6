//! The executor on a small graph that has every kind of bookkeeping: two sequences, caches, output rows,
//! tied tables, quantized activations.

use anybit::error::Result;
use anybit::format::{Format, Packed, Spec};
use anybit::graph::{Assignment, Batch, Function, Graph, Mask, Node, Op, Role, Token, WeightId, Weights};
use anybit::reference::{Executor, linear, rms_norm};

use super::noise;

/// Weights made up from their ids.
struct Noise<'a>(&'a Graph);

impl Weights for Noise<'_> {
    fn packed(&self, weight: WeightId, format: Format) -> Result<Packed> {
        let w = &self.0.weights[weight];
        format.encode(&noise(weight as u64 + 50, w.rows * w.cols), w.rows, w.cols)
    }

    fn vector(&self, weight: WeightId) -> Result<Vec<f32>> {
        Ok(noise(weight as u64 + 50, self.0.weights[weight].cols))
    }
}

const EMBEDDING: WeightId = 0;
const QKV: WeightId = 3;

/// One layer, width 32, 4 heads on 2 KV heads, fused qkv, both kinds of position, a tied head.
fn graph() -> Graph {
    let mut g = Graph { context: 16, kv_widths: vec![16], ..Graph::default() };
    let table = g.weight("wte.weight", 11, 32, Role::Embedding, false);
    let positions = g.weight("wpe.weight", 16, 32, Role::Embedding, false);
    let norm = g.weight("norm.weight", 1, 32, Role::Vector, false);
    let qkv = g.weight("qkv.weight", 64, 32, Role::Linear, false);
    let qkv_bias = g.weight("qkv.bias", 1, 64, Role::Vector, false);
    let out = g.weight("out.weight", 32, 32, Role::Linear, false);
    assert_eq!((table, qkv), (EMBEDDING, QKV));
    let tokens = g.push("tokens", Op::Embed { table }, &[], 32);
    let places = g.push("places", Op::EmbedPosition { table: positions }, &[], 32);
    let x = g.push("x", Op::Add, &[tokens, places], 32);
    let normed = g.push("normed", Op::RmsNorm { weight: norm, eps: 1e-5 }, &[x], 32);
    let fused = g.push("qkv", Op::Linear { weight: qkv, bias: Some(qkv_bias) }, &[normed], 64);
    let q = g.push("q", Op::Slice { offset: 0 }, &[fused], 32);
    let k = g.push("k", Op::Slice { offset: 32 }, &[fused], 16);
    let v = g.push("v", Op::Slice { offset: 48 }, &[fused], 16);
    let inverse_frequency = vec![1.0, 0.5, 0.25, 0.125];
    let rope = |heads| Op::Rope { heads, head_dim: 8, inverse_frequency: inverse_frequency.clone() };
    let q = g.push("rope_q", rope(4), &[q], 32);
    let k = g.push("rope_k", rope(2), &[k], 16);
    let attention =
        Op::Attention { layer: 0, heads: 4, kv_heads: 2, head_dim: 8, scale: 0.35, mask: Mask::Causal };
    let y = g.push("attention", attention, &[q, k, v], 32);
    let y = g.push("out", Op::Linear { weight: out, bias: None }, &[y], 32);
    let gate = g.push("gate", Op::Activate(Function::Silu), &[y], 32);
    let y = g.push("gated", Op::Mul, &[gate, x], 32);
    let rows = g.push("rows", Op::OutputRows, &[y], 32);
    g.push("logits", Op::Linear { weight: table, bias: None }, &[rows], 11);
    g
}

fn assignment(graph: &Graph, spec: &str) -> Assignment {
    let spec: Spec = spec.parse().expect("spec");
    let of = |role| if role == Role::Linear { spec } else { Spec::from(Format::F32) };
    Assignment { specs: graph.weights.iter().map(|w| of(w.role)).collect() }
}

fn tokens(sequence: u32, first: u32, ids: &[u32]) -> Vec<Token> {
    ids.iter().zip(first..).map(|(&id, position)| Token::new(id, sequence, position)).collect()
}

/// A batch that wants every row.
fn all(tokens: Vec<Token>) -> Batch {
    Batch { outputs: (0..tokens.len() as u32).collect(), tokens, ..Batch::default() }
}

#[test]
fn the_cache_equals_prefill_to_the_last_bit() {
    let graph = graph();
    // Row scope: what a token computes does not depend on its neighbours.
    for spec in ["f32", "int4", "mxint8", "int8(scale=row)@int8(scale=row)", "f16@int8(scale=row)"] {
        let assignment = assignment(&graph, spec);
        let mut executor = Executor::new(&graph, &Noise(&graph), &assignment, 1).expect("executor");
        let ids = [3, 1, 4, 1, 5, 9, 2, 6];
        let prefill = executor.run(&all(tokens(0, 0, &ids))).expect("prefill");
        executor.reset(0);
        let mut single = Vec::new();
        for (position, &id) in ids.iter().enumerate() {
            single.extend(executor.run(&all(tokens(0, position as u32, &[id]))).expect("step"));
            assert_eq!(executor.length(0), position + 1);
        }
        assert_eq!(single, prefill, "{spec}");
        // Rewind to position 3 and continue differently, as a fresh executor would.
        let rewound = executor.run(&all(tokens(0, 3, &[7, 7]))).expect("rewind");
        assert_eq!(executor.length(0), 5);
        let mut fresh = Executor::new(&graph, &Noise(&graph), &assignment, 1).expect("executor");
        let whole = fresh.run(&all(tokens(0, 0, &[3, 1, 4, 7, 7]))).expect("prefill");
        assert_eq!(rewound, whole[3 * 11..], "{spec}");
    }
}

#[test]
fn sequences_do_not_see_each_other() {
    let graph = graph();
    for spec in ["f32", "qlinear(bits=4)", "base11@int8"] {
        let assignment = assignment(&graph, spec);
        let executor = || Executor::new(&graph, &Noise(&graph), &assignment, 3).expect("executor");
        let (a, b) = (tokens(2, 0, &[1, 2, 3]), tokens(0, 0, &[10, 0, 4, 4, 5]));
        let together = executor().run(&all([a.clone(), b.clone()].concat())).expect("both");
        let alone = [executor().run(&all(a)).expect("a"), executor().run(&all(b)).expect("b")].concat();
        assert_eq!(together, alone, "{spec}");
    }
}

#[test]
fn outputs_select_rows() {
    let graph = graph();
    let assignment = assignment(&graph, "f32");
    let executor = || Executor::new(&graph, &Noise(&graph), &assignment, 2).expect("executor");
    let tokens = [tokens(0, 0, &[1, 2, 3]), tokens(1, 0, &[4, 5])].concat();
    let every = executor().run(&all(tokens.clone())).expect("all");
    let some = executor().run(&Batch::new(tokens.clone(), vec![2, 4])).expect("some");
    assert_eq!(some, [&every[22..33], &every[44..55]].concat());
    for batch in [Batch::new(tokens, vec![]), Batch::default()] {
        let error = executor().run(&batch).expect_err("nothing to do").to_string();
        assert!(error.contains("empty batch"), "{error}");
    }
}

#[test]
fn a_head_with_quantized_activations_takes_the_scale_of_its_own_sequence() {
    let mut graph = graph();
    let head = graph.weight("head.weight", 11, 32, Role::Head, false);
    graph.nodes.last_mut().expect("nodes").op = Op::Linear { weight: head, bias: None };
    let mut assignment = assignment(&graph, "f32");
    assignment.specs[head] = "int8@int4".parse().expect("spec");
    let executor = || Executor::new(&graph, &Noise(&graph), &assignment, 2).expect("executor");
    let (a, b) = (tokens(0, 0, &[1, 2, 3]), tokens(1, 0, &[4, 5]));
    let both = Batch::new([a.clone(), b.clone()].concat(), vec![1, 2, 4]);
    let got = executor().run(&both).expect("both");
    let a = executor().run(&Batch::new(a, vec![1, 2])).expect("a");
    let b = executor().run(&Batch::new(b, vec![1])).expect("b");
    assert_eq!(got, [a, b].concat());
}

#[test]
fn run_nodes_gives_every_value_in_order() {
    let graph = graph();
    let mut assignment = assignment(&graph, "f32");
    assignment.specs[EMBEDDING] = "int4(group=32)".parse().expect("spec");
    let mut executor = Executor::new(&graph, &Noise(&graph), &assignment, 1).expect("executor");
    let values = executor.run_nodes(&all(tokens(0, 0, &[7, 2]))).expect("nodes");
    assert_eq!(values.len(), graph.nodes.len());
    for (value, node) in values.iter().zip(&graph.nodes) {
        assert_eq!(value.len(), 2 * node.width, "{}", node.name);
    }
    let table =
        Noise(&graph).packed(EMBEDDING, "int4(group=32)".parse().expect("format")).expect("table").decode();
    assert_eq!(values[0], [&table[7 * 32..8 * 32], &table[2 * 32..3 * 32]].concat());
    assert_eq!(values[3], rms_norm(&values[2], &noise(52, 32), 1e-5));
    assert_eq!(values[4], linear(&values[3], 2, &noise(53, 64 * 32), 32, Some(&noise(54, 64))));
    assert_eq!(
        values[15],
        linear(&values[14], 2, &table, 32, None),
        "the tied head reads the quantized table"
    );
}

#[test]
fn bad_batches_are_errors_that_change_nothing() {
    let graph = graph();
    let assignment = assignment(&graph, "f32");
    let mut executor = Executor::new(&graph, &Noise(&graph), &assignment, 2).expect("executor");
    executor.run(&all(tokens(0, 0, &[1, 2]))).expect("start");
    let split = [tokens(0, 2, &[1]), tokens(1, 0, &[1]), tokens(0, 3, &[1])].concat();
    let gap = vec![Token::new(1, 1, 0), Token::new(1, 1, 2)];
    let cases = [
        (all(tokens(0, 2, &[11])), "id 11; the vocabulary ends at 10"),
        (all(tokens(0, 0, &[1; 17])), "position 16; the context is 16"),
        (all(tokens(2, 0, &[1])), "sequence 2; there are 2 slots"),
        (all(tokens(0, 3, &[1])), "position 3, but sequence 0 holds only 2 tokens"),
        (all(tokens(1, 1, &[1])), "position 1, but sequence 1 holds only 0 tokens"),
        (all(split), "tokens of sequence 0 must stand together"),
        (all(gap), "position 2 after 0; want 1"),
        (Batch::new(tokens(0, 2, &[1]), vec![1]), "output row 1"),
        (Batch::new(tokens(0, 2, &[1, 1]), vec![1, 0]), "output row 0"),
        (Batch::new(tokens(0, 2, &[1, 1]), vec![0, 0]), "output row 0"),
    ];
    for (batch, want) in cases {
        let error = executor.run(&batch).expect_err(want).to_string();
        assert!(error.contains(want), "{error}\nwant {want}");
    }
    assert_eq!((executor.length(0), executor.length(1)), (2, 0));
    executor.run(&all(tokens(0, 2, &[1]))).expect("still in order");
}

/// Segments, rows of numbers and attention over whole sequences, on 2 tokens of width 4.
fn encoder() -> Graph {
    let mut g = Graph { context: 8, kv_widths: vec![4], ..Graph::default() };
    let table = g.weight("segments", 3, 4, Role::Embedding, false);
    let x = g.push("input", Op::Input, &[], 4);
    let segment = g.push("segment", Op::EmbedSegment { table }, &[], 4);
    let x = g.push("sum", Op::Add, &[x, segment], 4);
    let mask = Mask::Full;
    let op = Op::Attention { layer: 0, heads: 1, kv_heads: 1, head_dim: 4, scale: 0.5, mask };
    let x = g.push("attention", op, &[x, x, x], 4);
    g.push("rows", Op::OutputRows, &[x], 4);
    g
}

#[test]
fn encoders_want_whole_sequences_segments_and_inputs() {
    let graph = encoder();
    assert_eq!((graph.token_count(), graph.segment_count(), graph.input_width()), (0, Some(3), Some(4)));
    assert_eq!((graph.output_width(), graph.is_bidirectional()), (4, true));
    let assignment = assignment(&graph, "f32");
    let mut executor = Executor::new(&graph, &Noise(&graph), &assignment, 2).expect("executor");
    let good = Batch { inputs: noise(1, 8), ..all(tokens(0, 0, &[0, 0])) };
    let both = executor.run(&good).expect("a whole sequence");
    // The same tokens in the other order see the same set.
    let swapped = Batch { inputs: [&good.inputs[4..], &good.inputs[..4]].concat(), ..good.clone() };
    let swapped = executor.run(&swapped).expect("swapped");
    let difference = both.iter().zip(swapped[4..].iter().chain(&swapped[..4])).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) < 1e-6);
    let mut third = good.clone();
    third.tokens[1].segment = 2;
    assert_ne!(executor.run(&third).expect("segment 2"), both);
    let cases = [
        (Batch { inputs: vec![0.0; 7], ..good.clone() }, "7 input values; want 2 rows (tokens) of 4"),
        (Batch { inputs: vec![], ..good.clone() }, "0 input values"),
        (
            Batch { inputs: [vec![0.0; 6], vec![f32::NAN; 2]].concat(), ..good.clone() },
            "input row 1, column 2 is NaN",
        ),
        (Batch { inputs: noise(1, 4), ..all(tokens(0, 2, &[0])) }, "feed it in one batch, from position 0"),
    ];
    for (batch, want) in cases {
        let error = executor.run(&batch).expect_err(want).to_string();
        assert!(error.contains(want), "{error}\nwant {want}");
    }
    let mut wrong = good.clone();
    wrong.tokens[1].segment = 3;
    let error = executor.run(&wrong).expect_err("segment 3").to_string();
    assert!(error.contains("token 1 of the batch is of segment 3; the model has 3"), "{error}");
    assert_eq!(executor.run(&good).expect("still in order"), both);
    assert_eq!(Batch::of_inputs(noise(1, 8), 4).expect("two rows"), good);
    assert!(Batch::of_inputs(noise(1, 8), 3).is_err() && Batch::of_inputs(vec![], 0).is_err());
}

#[test]
fn inconsistent_graphs_are_errors() {
    let refused = |change: &dyn Fn(&mut Graph), want: &str| {
        let mut graph = graph();
        change(&mut graph);
        let assignment = assignment(&graph, "f32");
        let error = Executor::new(&graph, &Noise(&graph), &assignment, 1).err().expect(want).to_string();
        assert!(error.contains(want), "{error}\nwant {want}");
    };
    refused(&|g| g.nodes.clear(), "no nodes");
    refused(&|g| g.nodes[2].inputs = vec![0], "node x: add takes 2 inputs, got 1");
    refused(&|g| g.nodes[2].inputs = vec![0, 5], "node x: input 5 is not before node 2");
    refused(&|g| g.weights[QKV].rows = 60, "node qkv: rows of weight is 60, want 64");
    refused(&|g| g.weights[1].rows = 15, "15 positions, want 16");
    refused(&|g| g.kv_widths = vec![], "KV cache 0 of 0 does not exist");
    refused(&|g| g.kv_widths = vec![8], "width of the KV cache is 8, want 16");
    refused(&|g| g.nodes[7].op = Op::Slice { offset: usize::MAX }, "node v: columns");
    refused(
        &|g| g.nodes[3].op = Op::RmsNorm { weight: QKV, eps: 0.0 },
        "qkv.weight is a matrix, want a vector",
    );
    refused(&|g| g.nodes[0].op = Op::Embed { table: 2 }, "norm.weight is a vector, want a matrix");
    refused(&|g| g.nodes[0].op = Op::Embed { table: 99 }, "weight 99 of 6 does not exist");
    refused(&|g| g.nodes[12].op = Op::OutputRows, "some inputs hold all tokens");

    let attention = |layer: usize, mask: Mask| Op::Attention {
        layer,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        scale: 0.35,
        mask,
    };
    refused(&|g| g.nodes[10].op = attention(0, Mask::Window(0)), "a window of 0 positions");
    let twice = |g: &mut Graph, mask: Mask| {
        g.nodes[10].op = attention(0, mask);
        let again = g.nodes[10].clone();
        g.nodes[12] = Node { name: "again".into(), ..again };
    };
    refused(&|g| twice(g, Mask::Causal), "node again: KV cache 0 belongs to another layer");
    refused(&|g| twice(g, Mask::Window(2)), "node again: KV cache 0 belongs to another layer");
    refused(&|g| g.nodes[3].op = Op::RmsNorm { weight: 4, eps: 0.0 }, "32 is no multiple of the 64 weights");

    let graph = graph();
    let mut wrong = assignment(&graph, "f32");
    wrong.specs[EMBEDDING] = "qlinear(bits=8)".parse().expect("spec");
    let error = Executor::new(&graph, &Noise(&graph), &wrong, 1).err().expect("refused").to_string();
    assert!(error.contains("wte.weight: qlinear(bits=8) quantizes activations"), "{error}");
    wrong.specs.pop();
    let error = Executor::new(&graph, &Noise(&graph), &wrong, 1).err().expect("refused").to_string();
    assert!(error.contains("5 entries, want 6"), "{error}");
}
