//! Node by node: models on the device against the reference, and proof that a wrong weight is found and named.
//! Needs an adapter and fails without one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anybit::cases::{ModelCheck, NodeResult, verify_model};
use anybit::format::{Format, Packed, Spec};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Function, Graph, Mask, NodeId, Op, Role, WeightId, Weights};
use anybit::model::Model;

fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    let open = || {
        Arc::new(Gpu::open(OpenOptions::default()).expect(
            "these tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one where it can",
        ))
    };
    GPU.get_or_init(open).clone()
}

fn check(graph: &Arc<Graph>, weights: &dyn Weights, assignment: &Assignment, fused: bool) -> Vec<NodeResult> {
    verify_model(&gpu(), &ModelCheck { graph, weights, assignment, fused }).unwrap()
}

fn assert_holds(what: &str, graph: &Arc<Graph>, weights: &dyn Weights, assignment: &Assignment) {
    for fused in [true, false] {
        let results = check(graph, weights, assignment, fused);
        let second = if graph.is_bidirectional() { "again" } else { "decode" };
        for step in ["prefill", second] {
            let logits = graph.nodes.last().unwrap().name.as_str();
            assert!(
                results.iter().any(|r| r.step == step && r.node == logits),
                "{what}: no logits in {step}"
            );
        }
        if let Some(first) = results.iter().find(|r| !r.pass) {
            panic!("{what}: {first:?}");
        }
    }
}

#[test]
fn the_default_model_in_several_formats() {
    let model = Model::embedded().unwrap();
    let graph = Arc::new(model.graph().clone());
    for spec in ["int4(group=32)", "qlinear(bits=4)", "mxint6@int8(scale=row)"] {
        let spec: Spec = spec.parse().unwrap();
        let assignment = Assignment::uniform(&graph, &model.native_formats(), spec);
        assert_holds(&spec.to_string(), &graph, &model, &assignment);
    }
}

/// Weights from a formula.
struct Made<'a> {
    graph: &'a Graph,
    /// The layer whose matrix is wrong where it is asked for first: on the device.
    wrong: Option<(WeightId, AtomicBool)>,
}

impl Weights for Made<'_> {
    fn packed(&self, weight: WeightId, format: Format) -> anybit::Result<Packed> {
        let w = &self.graph.weights[weight];
        let value = |i: usize| ((i * 7919 + weight * 104_729) % 2003) as f32 / 2003.0 - 0.5;
        let scale = 2.0 / (w.cols as f32).sqrt();
        let values: Vec<f32> = (0..w.rows * w.cols).map(|i| value(i) * scale).collect();
        let mut packed = format.encode(&values, w.rows, w.cols)?;
        let wrong = self.wrong.as_ref().filter(|(id, _)| *id == weight);
        if wrong.is_some_and(|(_, pending)| pending.swap(false, Ordering::Relaxed)) {
            packed.scales[0] ^= 1 << 8;
        }
        Ok(packed)
    }

    fn vector(&self, weight: WeightId) -> anybit::Result<Vec<f32>> {
        let cols = self.graph.weights[weight].cols;
        Ok((0..cols).map(|i| 1.0 + ((i + weight) % 5) as f32 * 0.1).collect())
    }
}

/// What the default model lacks: learned positions, LayerNorm, biases, a fused qkv projection that is sliced, heads
/// of 10 elements, GELU, and a head of its own after the choice of output rows.
fn gpt() -> Graph {
    let (width, heads, head_dim, vocabulary, context) = (30, 3, 10, 41, 20);
    let mut g = Graph { kv_widths: vec![width], context, ..Graph::default() };
    let norm = |g: &mut Graph, name: &str, x: NodeId| {
        let weight = g.weight(format!("{name}.weight"), 1, width, Role::Vector, false);
        let bias = g.weight(format!("{name}.bias"), 1, width, Role::Vector, false);
        g.push(name, Op::LayerNorm { weight, bias, eps: 1e-5 }, &[x], width)
    };
    let linear = |g: &mut Graph, name: &str, x: NodeId, cols: usize, rows: usize| {
        let weight = g.weight(format!("{name}.weight"), rows, cols, Role::Linear, false);
        let bias = g.weight(format!("{name}.bias"), 1, rows, Role::Vector, false);
        g.push(name, Op::Linear { weight, bias: Some(bias) }, &[x], rows)
    };
    let table = g.weight("wte.weight", vocabulary, width, Role::Embedding, false);
    let positions = g.weight("wpe.weight", context, width, Role::Embedding, false);
    let tokens = g.push("wte", Op::Embed { table }, &[], width);
    let places = g.push("wpe", Op::EmbedPosition { table: positions }, &[], width);
    let x = g.push("embedded", Op::Add, &[tokens, places], width);
    let n = norm(&mut g, "ln_1", x);
    let qkv = linear(&mut g, "attn", n, width, 3 * width);
    let parts = [0, 1, 2].map(|i| g.push(format!("part{i}"), Op::Slice { offset: i * width }, &[qkv], width));
    let scale = 1.0 / (head_dim as f32).sqrt();
    let attention = Op::Attention { layer: 0, heads, kv_heads: heads, head_dim, scale, mask: Mask::Causal };
    let y = g.push("attention", attention, &parts, width);
    let y = linear(&mut g, "proj", y, width, width);
    let x = g.push("residual", Op::Add, &[x, y], width);
    let n = norm(&mut g, "ln_2", x);
    let up = linear(&mut g, "up", n, width, 100);
    let act = g.push("gelu", Op::Activate(Function::GeluTanh), &[up], 100);
    let down = linear(&mut g, "down", act, 100, width);
    let x = g.push("residual_2", Op::Add, &[down, x], width);
    let x = norm(&mut g, "ln_f", x);
    let x = g.push("outputs", Op::OutputRows, &[x], width);
    let head = g.weight("lm_head.weight", vocabulary, width, Role::Head, false);
    g.push("lm_head", Op::Linear { weight: head, bias: None }, &[x], vocabulary);
    g
}

fn vector(g: &mut Graph, name: &str, len: usize) -> WeightId {
    g.weight(name, 1, len, Role::Vector, false)
}

fn linear(g: &mut Graph, name: &str, x: NodeId, rows: usize) -> NodeId {
    let cols = g.nodes[x].width;
    let weight = g.weight(format!("{name}.weight"), rows, cols, Role::Linear, false);
    let bias = vector(g, &format!("{name}.bias"), rows);
    g.push(name, Op::Linear { weight, bias: Some(bias) }, &[x], rows)
}

fn layer_norm(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let width = g.nodes[x].width;
    let (weight, bias) =
        (vector(g, &format!("{name}.weight"), width), vector(g, &format!("{name}.bias"), width));
    g.push(name, Op::LayerNorm { weight, bias, eps: 1e-12 }, &[x], width)
}

/// As in BERT: segments, every token sees its whole sequence, norms behind the sums, two layers on one KV cache, a
/// pooler with tanh, and classes in place of a vocabulary.
fn encoder() -> Graph {
    let (width, heads, head_dim, context) = (24, 3, 8, 17);
    let mut g = Graph { kv_widths: vec![width], context, ..Graph::default() };
    let mut tables = |name, rows| g.weight(name, rows, width, Role::Embedding, false);
    let (ids, places, segments) = (tables("ids", 29), tables("places", 20), tables("segments", 2));
    let x = g.push("id", Op::Embed { table: ids }, &[], width);
    let place = g.push("place", Op::EmbedPosition { table: places }, &[], width);
    let segment = g.push("segment", Op::EmbedSegment { table: segments }, &[], width);
    let x = g.push("sum", Op::Add, &[x, place], width);
    let x = g.push("embedded", Op::Add, &[x, segment], width);
    let mut x = layer_norm(&mut g, "norm", x);
    for layer in ["a", "b"] {
        let qkv = ["q", "k", "v"].map(|part| linear(&mut g, &format!("{layer}.{part}"), x, width));
        let scale = 1.0 / (head_dim as f32).sqrt();
        let op = Op::Attention { layer: 0, heads, kv_heads: heads, head_dim, scale, mask: Mask::Full };
        let y = g.push(format!("{layer}.attention"), op, &qkv, width);
        let y = linear(&mut g, &format!("{layer}.out"), y, width);
        let y = g.push(format!("{layer}.residual"), Op::Add, &[y, x], width);
        x = layer_norm(&mut g, &format!("{layer}.norm"), y);
    }
    let x = g.push("outputs", Op::OutputRows, &[x], width);
    let x = linear(&mut g, "pooler", x, width);
    let x = g.push("pooled", Op::Activate(Function::Tanh), &[x], width);
    let head = g.weight("classifier.weight", 3, width, Role::Head, false);
    g.push("classifier", Op::Linear { weight: head, bias: None }, &[x], 3);
    g
}

/// A norm of every head of q and k, rotary positions and a window of 3 positions, on one KV head of two.
fn windowed() -> Graph {
    let (width, heads, kv_heads, head_dim) = (24, 4, 2, 6);
    let mut g = Graph { kv_widths: vec![kv_heads * head_dim], context: 16, ..Graph::default() };
    let table = g.weight("ids", 31, width, Role::Embedding, false);
    let x = g.push("id", Op::Embed { table }, &[], width);
    let mut part = |name: &str, heads: usize, turned: bool| {
        let y = linear(&mut g, name, x, heads * head_dim);
        if !turned {
            return y;
        }
        let weight = vector(&mut g, &format!("{name}_norm"), head_dim);
        let norm = Op::RmsNorm { weight, eps: 1e-6 };
        let y = g.push(format!("{name}_normed"), norm, &[y], heads * head_dim);
        let rope = Op::Rope { heads, head_dim, inverse_frequency: vec![1.0, 0.3, 0.1] };
        g.push(format!("{name}_turned"), rope, &[y], heads * head_dim)
    };
    let qkv = [part("q", heads, true), part("k", kv_heads, true), part("v", kv_heads, false)];
    let scale = 1.0 / (head_dim as f32).sqrt();
    let op = Op::Attention { layer: 0, heads, kv_heads, head_dim, scale, mask: Mask::Window(3) };
    let y = g.push("attention", op, &qkv, width);
    let y = linear(&mut g, "out", y, width);
    let x = g.push("residual", Op::Add, &[x, y], width);
    let x = g.push("outputs", Op::OutputRows, &[x], width);
    let head = g.weight("head.weight", 31, width, Role::Head, false);
    g.push("head", Op::Linear { weight: head, bias: None }, &[x], 31);
    g
}

/// A residual block on rows of numbers; no tokens at all.
fn perceptron() -> Graph {
    let mut g = Graph { context: 32, ..Graph::default() };
    let x = g.push("input", Op::Input, &[], 20);
    let y = linear(&mut g, "up", x, 37);
    let y = g.push("relu", Op::Activate(Function::Relu), &[y], 37);
    let y = linear(&mut g, "down", y, 20);
    let y = g.push("residual", Op::Add, &[y, x], 20);
    let y = layer_norm(&mut g, "norm", y);
    let y = g.push("outputs", Op::OutputRows, &[y], 20);
    let head = g.weight("last.weight", 5, 20, Role::Head, false);
    g.push("last", Op::Linear { weight: head, bias: None }, &[y], 5);
    g
}

#[test]
fn encoders_windows_and_rows_of_numbers() {
    for (name, graph) in [("encoder", encoder()), ("windowed", windowed()), ("perceptron", perceptron())] {
        let graph = Arc::new(graph);
        let weights = Made { graph: &graph, wrong: None };
        for spec in ["f32", "int8@int8", "torch_dynamic", "int4(group=32)", "mxint8@mxint8"] {
            assert_holds(&format!("{name} {spec}"), &graph, &weights, &mixed(&graph, spec));
        }
    }
}

fn mixed(graph: &Graph, spec: &str) -> Assignment {
    let native = vec![Format::F16; graph.weights.len()];
    let spec: Spec = spec.parse().unwrap();
    let mut assignment = Assignment::uniform(graph, &native, spec);
    // The head too: its activations are the output rows of each sequence.
    let head = graph.weights.iter().position(|w| w.role == Role::Head).unwrap();
    assignment.specs[head] = spec;
    assignment
}

#[test]
fn biases_slices_odd_heads_and_a_quantized_head() {
    let graph = Arc::new(gpt());
    let weights = Made { graph: &graph, wrong: None };
    for spec in [
        "f32",
        "int8@int8",
        "int4(group=32)@int4(scale=row)",
        "mxint_cuda(group=5)@int8",
        "base11@int6",
        "torch_dynamic",
        "int4(group=32)@mxint8",
        "mxint8@mxint(8,5)",
        "binary_residual_sign(levels=3)",
        "block_fp(8,8,none,[16])@block_fp(8,8,none,[16])",
        "block_log@block_log(8,8,[2,7])",
        "f16@minifloat_ieee(16,5)",
        "nvfp4@nvfp4",
    ] {
        assert_holds(spec, &graph, &weights, &mixed(&graph, spec));
    }
}

#[test]
fn the_first_node_with_a_wrong_weight_is_named() {
    let graph = Arc::new(gpt());
    for (layer, fused_node, naive_node) in [
        ("attn", "attn", "attn"),
        ("proj", "residual", "proj"),
        ("up", "gelu", "up"),
        ("lm_head", "lm_head", "lm_head"),
    ] {
        for (spec, fused, node) in [
            ("int5(group=32)", true, fused_node),
            ("int5(group=32)", false, naive_node),
            ("int5@int8", true, fused_node),
        ] {
            let assignment = mixed(&graph, spec);
            let id = graph.weights.iter().position(|w| w.layer() == layer).unwrap();
            let weights = Made { graph: &graph, wrong: Some((id, AtomicBool::new(true))) };
            let results = check(&graph, &weights, &assignment, fused);
            let first = results.iter().find(|r| !r.pass).expect("a wrong scale passes");
            assert_eq!((first.node.as_str(), first.step), (node, "prefill"), "{layer} in {spec}: {first:?}");
            assert!(first.at.is_some());
            // Alone, the nodes behind it hold: they are judged by what they were given.
            let alone = results.iter().filter(|r| r.nmse > r.tolerance).count();
            assert_eq!(alone, 2, "{layer} in {spec}: prefill and decode of one node");
        }
    }
}
