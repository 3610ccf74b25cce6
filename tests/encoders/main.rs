//! Encoders and networks on rows of numbers against PyTorch and transformers (`tests/data/encoders/generate.py`), and
//! the verbs that run them. Needs an adapter and fails without one.

#[path = "../support/program.rs"]
mod support;

mod bignet;
mod classify;
mod embed;
mod files;
mod measures;
mod outputs;
mod texts;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anybit::engine::{Resident, SessionOptions};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::Assignment;
use anybit::model::Model;
use anybit::run::Runner;
use serde_json::Value;

/// One device for all tests of this process.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    let open = || {
        Arc::new(Gpu::open(OpenOptions::default()).expect(
            "these tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one where it can",
        ))
    };
    GPU.get_or_init(open).clone()
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(support::ROOT).join("tests/data/encoders").join(name)
}

fn load(name: &str) -> Model {
    Model::load(&folder(name)).unwrap()
}

fn golden() -> &'static Value {
    static GOLDEN: OnceLock<Value> = OnceLock::new();
    GOLDEN.get_or_init(|| serde_json::from_slice(&std::fs::read(folder("golden.json")).unwrap()).unwrap())
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).expect("a list of numbers")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("a list of ids")
}

/// Largest absolute difference.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, |most, d| if d <= most { most } else { d })
}

/// `model` under `spec` on the reference, on the fused device and on the naive one, one after another.
fn on_every_executor(
    model: &Model,
    spec: &str,
    sequences: usize,
    run: &mut dyn FnMut(&str, &mut Runner<'_>),
) {
    let spec = spec.parse().expect("a format spec");
    let assignment = Assignment::uniform(model.graph(), &model.native_formats(), spec);
    run("reference", &mut Runner::reference(model.graph(), model, &assignment, sequences).unwrap());
    let graph = Arc::new(model.graph().clone());
    for fused in [true, false] {
        let options = SessionOptions { sequences, context: graph.context, fused, keep: false };
        let mut resident = Resident::new(gpu(), None);
        let mut runner = Runner::gpu(&mut resident, graph.clone(), model, &assignment, options).unwrap();
        run(if fused { "fused" } else { "naive" }, &mut runner);
    }
}
