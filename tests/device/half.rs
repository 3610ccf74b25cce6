//! Products of many rows in f16, where the adapter has it.

use std::path::Path;
use std::sync::Arc;

use anybit::engine::{Resident, Session, SessionOptions};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Batch, Token};
use anybit::model::Model;
use anybit::run::Runner;

use super::{gpu, uniform};

#[test]
fn more_than_eight_rows_of_floats_are_multiplied_in_f16() {
    let stories = Model::load(Path::new("tests/data/stories260k")).expect("model");
    let options = OpenOptions { half: true, ..OpenOptions::default() };
    if !gpu().has_half() {
        let Err(error) = Gpu::open(options) else { panic!("opened without f16") };
        assert!(error.to_string().contains("f16"), "{error}");
        return;
    }
    let gpu = Arc::new(Gpu::open(options).expect("a device"));
    for format in ["int4(group=32)", "int8@int8(scale=row)"] {
        let assignment = uniform(&stories, format);
        let mut resident = Resident::new(gpu.clone(), None);
        let graph = Arc::new(stories.graph().clone());
        let options = SessionOptions { sequences: 1, context: 32, fused: true, keep: false };
        let mut device =
            Session::new(&mut resident, graph, &stories, assignment.clone(), options).expect("a session");
        let mut cpu = Runner::reference(stories.graph(), &stories, &assignment, 1).expect("CPU");
        let token = |position: u32| Token::new(position * 7 + 3, 0, position);
        for rows in [0..12, 12..20] {
            let count = rows.len();
            let batch = Batch::new(rows.map(token).collect(), vec![count as u32 - 1]);
            device.step(&batch).expect("a step");
            cpu.step(&batch).expect("a step");
            let (got, want) = (device.logits().expect("logits"), cpu.logits().expect("logits"));
            let nmse = anybit::reference::nmse(&got, &want);
            // A rounded activation may fall on another code.
            let most = if format.contains('@') { 1e-3 } else { 1e-5 };
            assert!(nmse < most, "{format}, {count} rows: NMSE {nmse:e}");
            let kernels = device.recording().expect("a recording").kernels();
            let half = kernels.iter().any(|name| name.starts_with("gemm_f16"));
            assert_eq!(half, count > 8 && !format.contains('@'), "{format}, {count} rows: {kernels:?}");
        }
    }
}
