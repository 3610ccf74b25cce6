//! Weights are uploaded once.

use anybit::engine::Resident;
use anybit::graph::{Assignment, Role};
use anybit::model::Model;
use anybit::run::{GenerationOptions, Next, generate};

use super::{gpu, runner, spec, uniform};

/// Linears take `specs` in turn.
fn alternating(model: &Model, specs: [&str; 2], shift: usize) -> Assignment {
    let mut assignment = uniform(model, specs[0]);
    let linears = model.graph().weights.iter().enumerate().filter(|(_, w)| w.role == Role::Linear);
    for (n, (id, _)) in linears.enumerate() {
        assignment.specs[id] = spec(specs[(n + shift) % 2]);
    }
    assignment
}

#[test]
fn another_mix_of_resident_variants_uploads_nothing() {
    let model = Model::embedded().expect("model");
    let mut resident = Resident::new(gpu(), None);
    let options =
        GenerationOptions { max_tokens: 4, context: 128, eos: Vec::new(), ..GenerationOptions::default() };
    let mut texts = Vec::new();
    for assignment in [uniform(&model, "int8"), uniform(&model, "int4(group=32)")] {
        let mut runner = runner(&mut resident, &model, &assignment, 1, true);
        texts.push(
            generate(&mut runner, &[vec![10, 20, 30]], &options, |_| Ok(Next::Go)).expect("text").tokens,
        );
    }
    let before = resident.uploaded_bytes();
    assert!(before > 0);
    for shift in 0..2 {
        let mixed = alternating(&model, ["int8", "int4(group=32)"], shift);
        let mut runner = runner(&mut resident, &model, &mixed, 1, true);
        generate(&mut runner, &[vec![10, 20, 30]], &options, |_| Ok(Next::Go)).expect("text");
    }
    assert_eq!(resident.uploaded_bytes(), before, "switching to resident variants uploads no weight bytes");

    let mut again = runner(&mut resident, &model, &uniform(&model, "int8"), 1, true);
    let text = generate(&mut again, &[vec![10, 20, 30]], &options, |_| Ok(Next::Go)).expect("text").tokens;
    assert_eq!(text, texts[0], "and the mix in between changed nothing");

    let mut new = runner(&mut resident, &model, &uniform(&model, "mxint8"), 1, true);
    generate(&mut new, &[vec![10, 20, 30]], &options, |_| Ok(Next::Go)).expect("text");
    assert!(resident.uploaded_bytes() > before, "a new variant is counted");
}

#[test]
fn upload_counter_is_the_packed_size() {
    let model = Model::embedded().expect("model");
    let assignment = uniform(&model, "base11");
    let mut resident = Resident::new(gpu(), None);
    drop(runner(&mut resident, &model, &assignment, 1, true));
    let memory = anybit::eval::MemoryReport::new(model.graph(), &assignment, 1, 128, 1).expect("accounting");
    assert_eq!(resident.uploaded_bytes(), memory.bytes);
}

#[test]
fn a_budget_evicts_what_no_session_holds() {
    let model = Model::embedded().expect("model");
    let one = anybit::eval::MemoryReport::new(model.graph(), &uniform(&model, "int8"), 1, 128, 1)
        .expect("bytes")
        .bytes;
    let mut resident = Resident::new(gpu(), Some(one * 3 / 2));
    for format in ["int8", "int6", "int8"] {
        drop(runner(&mut resident, &model, &uniform(&model, format), 1, true));
        assert!(resident.resident_bytes() <= one * 3 / 2);
    }
    assert!(resident.evictions() > 0);
    assert!(resident.uploaded_bytes() > 2 * one, "what was evicted is uploaded anew");
}
