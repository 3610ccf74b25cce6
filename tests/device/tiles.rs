//! Partitions that a search over tiles may choose: every one of them multiplies right, and plans take the chosen one.

use std::sync::Arc;

use anybit::bench::kernels::{Case, Options};
use anybit::bench::{Op, Sampling, Shape, tune};
use anybit::engine::{DeviceMatrix, MatMul, Resident, Session, SessionOptions};
use anybit::format::{Format, Packed};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Batch, Graph, Op as Node, Role, WeightId, Weights};
use anybit::reference;
use anybit::shader::{Choice, DeviceClass, Epilogue, FormatVariant, Product, Tuning};

use super::{open, spec, values};

const N: usize = 37;
const K: usize = 72;

fn product(format: Format, integer: bool, m: usize) -> Product {
    Product::new(FormatVariant::of(format, N, K).expect("a layout").name(), integer, m, N, K)
}

fn only(product: Product, choice: Choice) -> Tuning {
    let mut tuning = Tuning::default();
    tuning.set(product, choice);
    tuning
}

#[test]
fn every_candidate_multiplies_right() {
    let format: Format = "int4(group=32)".parse().expect("a format");
    let packed = format.encode(&values(N * K, 3), N, K).expect("weights");
    let weights = packed.decode();
    for class in [DeviceClass::Gpu, DeviceClass::Cpu] {
        let gpu = open(OpenOptions { class: Some(class), ..OpenOptions::default() });
        let matrix = DeviceMatrix::upload(&gpu, "w", &packed).expect("resident");
        for m in [3, 21] {
            let x = values(m * K, 4);
            let codes: Vec<i8> = x.iter().map(|x| (x * 100.0) as i8).collect();
            let exact: Vec<f32> = codes.iter().map(|&code| f32::from(code)).collect();
            for integer in [false, true] {
                let want = reference::linear(if integer { &exact } else { &x }, m, &weights, K, None);
                for choice in Choice::candidates(class, gpu.direct(), m, K, integer) {
                    gpu.set_tuning(only(product(format, integer, m), choice)).expect("a legal choice");
                    let product = MatMul { matrix: &matrix, m, epilogue: Epilogue::Store, naive: false };
                    let got = match integer {
                        false => product.run(&gpu, &x, None, None),
                        true => product.run_integer(&gpu, &codes, &vec![1.0; m], None, None),
                    };
                    let nmse = reference::nmse(&got.expect("a product"), &want);
                    assert!(nmse < 1e-12, "{class:?} {m} {integer} {choice}: NMSE {nmse:e}");
                }
            }
        }
    }
}

/// A linear layer of int4.
struct Layer(Packed);

impl Weights for Layer {
    fn packed(&self, _: WeightId, _: Format) -> anybit::Result<Packed> {
        Ok(self.0.clone())
    }

    fn vector(&self, _: WeightId) -> anybit::Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// Dispatches of a product of m rows and what they compute.
fn kernels(gpu: &Arc<Gpu>, packed: &Packed, m: usize) -> Vec<String> {
    let mut graph = Graph { context: m, ..Graph::default() };
    let weight = graph.weight("w", N, K, Role::Linear, false);
    let input = graph.push("x", Node::Input, &[], K);
    graph.push("y", Node::Linear { weight, bias: None }, &[input], N);
    let mut resident = Resident::new(gpu.clone(), None);
    let options = SessionOptions { sequences: 1, context: m, fused: true, keep: false };
    let assignment = Assignment { specs: vec![spec("int4(group=32)")] };
    let layer = Layer(packed.clone());
    let mut session =
        Session::new(&mut resident, Arc::new(graph), &layer, assignment, options).expect("a session");
    session.step(&Batch::of_inputs(values(m * K, 4), K).expect("a batch")).expect("a step");
    session.recording().expect("a plan").kernels().into_iter().map(str::to_owned).collect()
}

#[test]
fn plans_take_what_was_measured_and_fall_back_where_it_does_not_fit() {
    let gpu = open(OpenOptions::default());
    let format: Format = "int4(group=32)".parse().expect("a format");
    let packed = format.encode(&values(N * K, 3), N, K).expect("weights");
    let all = Choice::candidates(gpu.class(), gpu.direct(), 3, K, false);
    let before = kernels(&gpu, &packed, 3);
    let name = |choice: &Choice| choice.kernel(false).row().name;
    assert!(before[0].starts_with(name(&all[0])), "{before:?}");
    let other = all.iter().find(|choice| name(choice) != name(&all[0])).expect("another kernel");
    gpu.set_tuning(only(product(format, false, 3), *other)).expect("a legal choice");
    let after = kernels(&gpu, &packed, 3);
    assert!(after[0].starts_with(name(other)) && after != before, "{after:?}");
    // A GEMV of 4 rows at most for a product of 21.
    let gemv = all.iter().find(|choice| name(choice) == "gemv").expect("a GEMV");
    let plain = kernels(&gpu, &packed, 21);
    gpu.set_tuning(only(product(format, false, 21), *gemv)).expect("a legal choice");
    assert_eq!(kernels(&gpu, &packed, 21), plain);
}

#[test]
fn a_search_over_tiles_finds_a_legal_one_and_keeps_what_was_known() {
    // A device of its own: other tests plan on the shared one meanwhile.
    let gpu = open(OpenOptions::default());
    let sampling = Sampling { samples: 3, seconds: 0.0 };
    let options = Options { sampling, clock: gpu.clock(), cache: 1 };
    let case = |spec_text, m| Case::new(Op::Gemm, Some(spec(spec_text)), Shape { m, n: N, k: K });
    let row = tune::run(&gpu, &case("int4(group=32)", 2), options).expect("a search").expect("a choice");
    assert!(row.failures.is_empty() && row.candidates > 1, "{:?}", row.failures);
    assert_eq!(row.product, product("int4(group=32)".parse().expect("a format"), false, 2));
    assert_eq!(gpu.tuned(&row.product), Some(row.best));
    assert!(
        row.best == row.default
            || row.measurements["best"].summary.median < row.measurements["default"].summary.median
    );
    // Where only one kernel reads the codes there is nothing to choose; what was found stays.
    if gpu.direct() && gpu.class() == DeviceClass::Cpu {
        let none = tune::run(&gpu, &case("int4(scale=row)@int4", 32), options).expect("a search");
        assert!(none.is_none());
    }
    assert_eq!(gpu.tuned(&row.product), Some(row.best));
}
