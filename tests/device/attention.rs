//! Attention over a long context on devices that want many workgroups.

use std::sync::Arc;

use anybit::engine::{Resident, Session, SessionOptions};
use anybit::gpu::OpenOptions;
use anybit::graph::{Batch, Token};
use anybit::model::Model;
use anybit::reference;
use anybit::run::Runner;
use anybit::shader::DeviceClass;

use super::{open, uniform};

#[test]
fn one_token_after_many_divides_their_positions() {
    let gpu = open(OpenOptions { class: Some(DeviceClass::Gpu), ..OpenOptions::default() });
    let model = Model::embedded().expect("model");
    // Nothing but the length of its training keeps this model from more positions.
    let mut graph = model.graph().clone();
    graph.context = 1024;
    let graph = Arc::new(graph);
    let assignment = uniform(&model, "int8");
    let mut resident = Resident::new(gpu, None);
    let options = SessionOptions { sequences: 1, context: 1024, fused: true, keep: false };
    let mut session =
        Session::new(&mut resident, graph.clone(), &model, assignment.clone(), options).expect("a session");
    let mut truth = Runner::reference(&graph, &model, &assignment, 1).expect("the reference");
    let token = |i: u32| Token::new((31 * i + 7) % 1000, 0, i);
    for (positions, in_parts) in [(0..300, false), (300..301, true), (301..302, true)] {
        let last = positions.len() as u32 - 1;
        let batch = Batch::new(positions.map(token).collect(), vec![last]);
        session.step(&batch).expect("a step");
        truth.step(&batch).expect("a step");
        let kernels = session.recording().expect("it ran").kernels();
        assert_eq!(kernels.iter().any(|name| name.starts_with("attention_part")), in_parts, "{kernels:?}");
        assert_eq!(kernels.contains(&"attention_join"), in_parts);
        let nmse = reference::nmse(&session.logits().expect("logits"), &truth.logits().expect("logits"));
        assert!(nmse < 1e-9, "NMSE {nmse:e}");
    }
}
