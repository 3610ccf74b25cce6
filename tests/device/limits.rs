//! Small bindings, other partitions, failures of the device.

use std::sync::Arc;

use anybit::Error;
use anybit::engine::{Dequantizer, Resident, Session, SessionOptions};
use anybit::format::Format;
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Batch, Token};
use anybit::model::Model;
use anybit::shader::DeviceClass;

use super::{first_difference, gpu, open, runner, uniform, values};

fn batch() -> Batch {
    let token = |i: u32| Token::new(7 * i + 1, 0, i);
    Batch::new((0..11).map(token).collect(), vec![4, 10])
}

fn logits(gpu: &Arc<Gpu>, model: &Model, format: &str, fused: bool) -> Vec<f32> {
    let mut resident = Resident::new(gpu.clone(), None);
    let mut runner = runner(&mut resident, model, &uniform(model, format), 1, fused);
    runner.step(&batch()).expect("a step");
    runner.logits().expect("logits")
}

fn close(got: &[f32], want: &[f32], what: &str) {
    let nmse = anybit::reference::nmse(got, want);
    assert!(nmse < 1e-9, "{what}: NMSE {nmse:e}");
}

#[test]
fn tensors_over_the_binding_limit_are_split() {
    let model = Model::embedded().expect("model");
    // The embedding table alone is 786 kB in f32; activations of this batch fit.
    let small = open(OpenOptions { max_binding: Some(100_000), ..OpenOptions::default() });
    for format in ["f32", "int4(group=32)", "base11", "qlinear(bits=8)"] {
        for fused in [true, false] {
            let want = logits(&gpu(), &model, format, fused);
            close(&logits(&small, &model, format, fused), &want, format);
        }
    }
    let dequantizer = Dequantizer::new(small.clone());
    for format in Format::catalog() {
        let (rows, cols) = (300, 256);
        let mut w = values(rows * cols, 5);
        // Some formats let such weights pass.
        w.iter_mut().step_by(1000).for_each(|w| *w *= 1e-9);
        let packed = format.encode(&w, rows, cols).expect("encode");
        let got = dequantizer.decode(&packed).expect("decode");
        assert_eq!(first_difference(&got, &packed.decode()), None, "{format}");
    }
    let tiny = open(OpenOptions { max_binding: Some(4_000), ..OpenOptions::default() });
    let wide = Format::F32.encode(&values(2 * 2000, 1), 2, 2000).expect("encode");
    let error = Dequantizer::new(tiny).decode(&wide).expect_err("a row does not fit");
    assert!(matches!(error, Error::Unavailable(_)) && error.to_string().contains("allows 4000"), "{error}");
}

#[test]
fn partitions_checks_and_subgroups_do_not_change_results() {
    let model = Model::embedded().expect("model");
    for (name, options) in [
        ("GPU partitions", OpenOptions { class: Some(DeviceClass::Gpu), ..OpenOptions::default() }),
        ("checked shaders", OpenOptions { checked: true, ..OpenOptions::default() }),
        ("no subgroups", OpenOptions { subgroups: false, ..OpenOptions::default() }),
    ] {
        let other = open(options);
        for format in ["int4(group=32)", "int3(scale=row)@int8(scale=row)"] {
            close(&logits(&other, &model, format, true), &logits(&gpu(), &model, format, true), name);
        }
    }
}

#[test]
fn a_lost_device_is_an_error_and_stays_one() {
    let device = open(OpenOptions::default());
    let model = Model::embedded().expect("model");
    let mut resident = Resident::new(device.clone(), None);
    let mut runner = runner(&mut resident, &model, &uniform(&model, "int8"), 1, true);
    runner.step(&batch()).expect("a step");
    device.destroy();
    for _ in 0..2 {
        let error = runner.step(&batch()).and_then(|()| runner.logits()).expect_err("the device is gone");
        assert!(
            matches!(error, Error::Unavailable(_)) && error.to_string().contains("device lost"),
            "{error}"
        );
    }
}

#[test]
fn impossible_requests_are_typed_errors() {
    let gpu = gpu();
    let error = gpu.buffer("a test", u64::MAX / 2).err().expect("no device has this much");
    assert!(matches!(error, Error::Unavailable(_)) && error.to_string().contains("a test"), "{error}");
    let error = Gpu::open(OpenOptions { adapter: Some("no such adapter".into()), ..OpenOptions::default() });
    assert!(matches!(error, Err(Error::Invalid(ref m)) if m.contains("no such adapter")));

    let model = Model::embedded().expect("model");
    let graph = Arc::new(model.graph().clone());
    let mut resident = Resident::new(gpu, None);
    let open = |resident: &mut Resident, sequences, context| {
        let options = SessionOptions { sequences, context, fused: true, keep: false };
        Session::new(resident, graph.clone(), &model, uniform(&model, "int8"), options)
    };
    assert!(matches!(open(&mut resident, 1, 129), Err(Error::Invalid(_))));
    assert!(matches!(open(&mut resident, 0, 8), Err(Error::Invalid(_))));
    // A KV cache larger than a binding.
    assert!(matches!(open(&mut resident, 1 << 30, 128), Err(Error::Unavailable(_))));
    let mut session = open(&mut resident, 1, 8).expect("a session");
    let token = |id, sequence, position| Batch::new(vec![Token::new(id, sequence, position)], vec![0]);
    for (batch, what) in [
        (Batch::default(), "empty"),
        (token(1024, 0, 0), "vocabulary"),
        (token(0, 1, 0), "sequence"),
        (token(0, 0, 8), "context"),
        (token(0, 0, 3), "holds only"),
        (Batch { outputs: vec![1], ..token(0, 0, 0) }, "output row"),
    ] {
        let error = session.step(&batch).expect_err(what);
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(what), "{error}");
    }
    session.step(&token(0, 0, 0)).expect("and the session still works");
}
