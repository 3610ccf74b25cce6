//! Products of q, k and v, and of a gate and up, as one: what is joined, and that logits stay those of the reference.

use std::path::Path;
use std::sync::Arc;

use anybit::engine::{Resident, Session, SessionOptions};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Batch, Op, Token, WeightId};
use anybit::model::Model;
use anybit::run::Runner;
use anybit::shader::DeviceClass;

use super::{gpu, open, spec, uniform};

/// How many matrices the products of a step read, on the device.
fn products(session: &Session) -> usize {
    let kernels = session.recording().expect("a step has run").kernels();
    kernels.iter().filter(|name| name.starts_with("gemv") || name.starts_with("gemm")).count()
}

/// Runs a prefill of two sequences, a token of each and one of the first; returns the products of the last step.
fn run(model: &Model, assignment: &Assignment, fused: bool, keep: bool, what: &str) -> usize {
    run_on(gpu(), model, assignment, fused, keep, what)
}

fn run_on(
    gpu: Arc<Gpu>,
    model: &Model,
    assignment: &Assignment,
    fused: bool,
    keep: bool,
    what: &str,
) -> usize {
    let mut resident = Resident::new(gpu, None).with_stacks();
    let graph = Arc::new(model.graph().clone());
    let options = SessionOptions { sequences: 2, context: 16, fused, keep };
    let mut device =
        Session::new(&mut resident, graph, model, assignment.clone(), options).expect("a session");
    let mut cpu = Runner::reference(model.graph(), model, assignment, 2).expect("CPU");
    let token = |sequence: u32, position: u32| Token::new(position * 7 + sequence + 3, sequence, position);
    for batch in [
        Batch::new((0..5).map(|p| token(0, p)).chain((0..3).map(|p| token(1, p))).collect(), vec![4, 7]),
        Batch::new(vec![token(0, 5), token(1, 3)], vec![0, 1]),
        Batch::new(vec![token(0, 6)], vec![0]),
    ] {
        device.step(&batch).expect("a step");
        cpu.step(&batch).expect("a step");
        let (got, want) = (device.logits().expect("logits"), cpu.logits().expect("logits"));
        let nmse = anybit::reference::nmse(&got, &want);
        assert!(nmse <= 1e-9, "{what}, keep {keep}, fused {fused}: NMSE {nmse:e}");
    }
    products(&device)
}

/// Matrices of q, k and v of the first attention, and how many attentions there are.
fn attention(model: &Model) -> ([WeightId; 3], usize) {
    let weight = |name: &str| {
        let wanted = format!("layers.0.self_attn.{name}.weight");
        let found = model.graph().weights.iter().position(|w| w.tensor.ends_with(&wanted));
        found.unwrap_or_else(|| panic!("{name}"))
    };
    let blocks = model.graph().nodes.iter().filter(|n| matches!(n.op, Op::Attention { .. })).count();
    ([weight("q_proj"), weight("k_proj"), weight("v_proj")], blocks)
}

#[test]
fn q_k_and_v_and_gate_and_up_are_one_product_where_their_formats_are_one() {
    let stories = Model::load(Path::new("tests/data/stories260k")).expect("model");
    let ([q, k, v], blocks) = attention(&stories);
    let linears = stories.graph().nodes.iter().filter(|n| matches!(n.op, Op::Linear { .. })).count();
    for format in ["f32", "int4(group=32)", "mxint8", "base11", "int8(scale=row)"] {
        let mut assignment = uniform(&stories, format);
        for (fused, keep, joined) in [(true, false, blocks), (true, true, blocks), (false, false, 0)] {
            assert_eq!(run(&stories, &assignment, fused, keep, format), linears - 3 * joined, "{format}");
        }
        for odd in [q, k, v] {
            let before = std::mem::replace(&mut assignment.specs[odd], spec("int6(group=32)"));
            assert_eq!(run(&stories, &assignment, true, false, format), linears - 3 * blocks + 2);
            assignment.specs[odd] = before;
        }
    }
    // One scale for the whole matrix: theirs are three.
    let assignment = uniform(&stories, "int8");
    assert_eq!(run(&stories, &assignment, true, false, "int8"), linears);
}

#[test]
fn joined_products_add_the_biases_of_their_parts() {
    let qwen = Model::load(Path::new("tests/data/families/qwen2")).expect("model");
    let (_, blocks) = attention(&qwen);
    let linears = qwen.graph().nodes.iter().filter(|n| matches!(n.op, Op::Linear { .. })).count();
    // A quantized bias has a scale of its own, not one of the three together.
    for format in ["f32", "mxint8@bias=int4", "mxint6@bias=f16"] {
        let assignment = uniform(&qwen, format);
        assert_eq!(run(&qwen, &assignment, true, false, format), linears - 3 * blocks, "{format}");
    }
}

#[test]
fn the_partitions_of_a_gpu_join_products_too() {
    let stories = Model::load(Path::new("tests/data/stories260k")).expect("model");
    let (_, blocks) = attention(&stories);
    let linears = stories.graph().nodes.iter().filter(|n| matches!(n.op, Op::Linear { .. })).count();
    let gpu = open(OpenOptions { class: Some(DeviceClass::Gpu), ..OpenOptions::default() });
    for format in ["int4(group=32)", "nf4"] {
        let assignment = uniform(&stories, format);
        let products = run_on(gpu.clone(), &stories, &assignment, true, false, format);
        assert_eq!(products, linears - 3 * blocks, "{format}");
    }
}
