//! Linear layers with quantized inputs: logits of the device against those of the reference executor.

use std::path::Path;
use std::sync::Arc;

use anybit::engine::{Resident, Session, SessionOptions};
use anybit::graph::{Batch, Op, Role, Token};
use anybit::model::Model;
use anybit::run::Runner;

use super::{gpu, runner, spec, uniform};

/// Prefill of two sequences, then a token of each; logits of several rows.
fn batches(vocabulary: u32) -> [Batch; 2] {
    let token = |sequence: u32, position: u32| {
        Token::new((position * 37 + sequence * 11 + 5) % vocabulary, sequence, position)
    };
    let part = |sequence: u32, first: u32, n: u32| (first..first + n).map(move |p| token(sequence, p));
    [
        Batch::new(part(0, 0, 7).chain(part(1, 0, 3)).collect(), vec![2, 6, 9]),
        Batch::new(part(0, 7, 1).chain(part(1, 3, 1)).collect(), vec![0, 1]),
    ]
}

fn assert_agrees(model: &Model, text: &str, tolerance: f64) {
    let mut assignment = uniform(model, text);
    for (weight, slot) in model.graph().weights.iter().zip(&mut assignment.specs) {
        if weight.role == Role::Head {
            *slot = spec(text);
        }
    }
    for fused in [true, false] {
        let mut resident = Resident::new(gpu(), None);
        let mut device = runner(&mut resident, model, &assignment, 2, fused);
        let mut cpu = Runner::reference(model.graph(), model, &assignment, 2).expect("CPU");
        for batch in batches(model.graph().token_count() as u32) {
            device.step(&batch).expect("a step");
            cpu.step(&batch).expect("a step");
            let (got, want) = (device.logits().expect("logits"), cpu.logits().expect("logits"));
            let nmse = anybit::reference::nmse(&got, &want);
            assert!(nmse <= tolerance, "{text} fused {fused}: NMSE {nmse:e}");
        }
    }
}

// Rounding is exact, but a sum that differs in its last place may fall on the other side of a step, and spreads from
// there: by a part of the step in formats of 8 bits and more.
const CLOSE: f64 = 1e-3;

#[test]
fn activations_in_integer_codes_agree_with_the_reference() {
    // 64 and 172 columns: two chunks, and six of which the last is short.
    let stories = Model::load(Path::new("tests/data/stories260k")).expect("model");
    for text in ["int4(group=32)@mxint8", "mxint8@mxint8", "int8(scale=row)@mxint8", "mxint6@integer(8,4)"] {
        assert_agrees(&stories, text, CLOSE);
    }
    assert_agrees(&stories, "integer(8,6)@integer(8,4)", CLOSE);
    assert_agrees(&stories, "torch_dynamic", CLOSE);
}

#[test]
fn activations_in_values_agree_with_the_reference() {
    let shakespeare = Model::embedded().expect("model");
    for text in [
        "minifloat_ieee(8,4)@minifloat_ieee(8,4)",
        "block_fp@block_fp",
        "mxfp8_e4m3@mxfp8_e4m3",
        "f16@log(8)",
        "integer(16,8)@integer(16,8)",
        "minifloat_denorm(16,6)@minifloat_denorm(16,6)",
        "f32@torch_dynamic",
    ] {
        assert_agrees(&shakespeare, text, CLOSE);
    }
}

#[test]
fn blocks_of_several_tokens_stay_within_the_output_rows_of_a_sequence() {
    let sort = Model::load(Path::new("tests/data/sort-gpt2")).expect("model");
    for text in [
        "f32@block_fp(8,8,none,[16])",
        "f32@block_log(8,8,[2,16])",
        "f32@block_minifloat_corrected(12,5,8,[-1])",
    ] {
        assert_agrees(&sort, text, CLOSE);
    }
}

#[test]
fn norms_give_codes_at_once_where_those_are_all_that_is_read() {
    let stories = Model::load(Path::new("tests/data/stories260k")).expect("model");
    let blocks = stories.graph().nodes.iter().filter(|n| matches!(n.op, Op::Attention { .. })).count();
    let of_row = "int8@int8(scale=row)";
    // One step of decoding. A scale per tensor takes the largest of all rows first; an f32 reader wants the values.
    for (text, odd, keep, fused, norms) in [
        (of_row, None, false, true, 2 * blocks),
        (of_row, Some("int8"), false, true, 2 * blocks - 1),
        (of_row, Some("int8@int4(scale=row)"), false, true, 2 * blocks - 1),
        (of_row, None, true, true, 0),
        (of_row, None, false, false, 0),
        ("int8@int8(scale=tensor)", None, false, true, 0),
    ] {
        let mut assignment = uniform(&stories, text);
        let graph = Arc::new(stories.graph().clone());
        let first = graph.weights.iter().position(|w| w.role == Role::Linear).expect("a linear");
        if let Some(odd) = odd {
            assignment.specs[first] = spec(odd);
        }
        let mut resident = Resident::new(gpu(), None);
        let options = SessionOptions { sequences: 2, context: graph.context, fused, keep };
        let mut device =
            Session::new(&mut resident, graph, &stories, assignment.clone(), options).expect("a session");
        let mut cpu = Runner::reference(stories.graph(), &stories, &assignment, 2).expect("CPU");
        for batch in batches(stories.graph().token_count() as u32) {
            device.step(&batch).expect("a step");
            cpu.step(&batch).expect("a step");
            let nmse =
                anybit::reference::nmse(&device.logits().expect("logits"), &cpu.logits().expect("logits"));
            assert!(nmse <= CLOSE, "{text}, one {odd:?}: NMSE {nmse:e}");
        }
        let kernels = device.recording().expect("a recording").kernels();
        let of = |name: &str| kernels.iter().filter(|kernel| **kernel == name).count();
        assert_eq!(
            of("rms_norm_quantize"),
            norms,
            "{text}, one {odd:?}, keep {keep}, fused {fused}: {kernels:?}"
        );
        assert_eq!(of("rms_norm") + of("rms_norm_quantize"), 2 * blocks + 1);
    }
}
