//! Operands in uniform windows and long words, and code words in texels: bit for bit what storage gives.

use std::sync::Arc;

use anybit::engine::{DeviceMatrix, MatMul, Resident};
use anybit::format::Format;
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Batch, Token};
use anybit::model::Model;
use anybit::reference;
use anybit::shader::{DeviceClass, Epilogue};

use super::{first_difference, gpu, open, runner, uniform, values};

/// With windows from so many rows on, and code words in storage or in texels, there with pairs of vec4 as long words.
fn device(windows: Option<u32>, texels: bool) -> Arc<Gpu> {
    open(OpenOptions { windows, texels, long: texels, ..OpenOptions::default() })
}

/// Of x 3 windows and more, but for the GEMV; the last of each begins before its rows.
const PRODUCTS: [(usize, usize, usize); 4] = [(150, 300, 384), (97, 530, 512), (70, 90, 1000), (1, 90, 1024)];

#[test]
fn products_in_windows_and_texels_equal_products_in_storage() {
    let (storage, windows, texels) = (device(None, false), device(Some(1), false), device(Some(1), true));
    assert_eq!((storage.windows(), storage.keeps_texels()), (None, false));
    assert_eq!(texels.keeps_texels(), texels.class() == DeviceClass::Cpu);
    // A GPU reads storage anyway, and so does a driver without subgroups.
    assert_eq!(windows.windows().is_some(), windows.class() == DeviceClass::Cpu && windows.subgroups());
    for text in [
        "f32",
        "f16",
        "int8",
        "int4(group=32)",
        "int3(scale=row)",
        "mxint8",
        "nf4",
        "base11",
        "q6_k",
        "mxfp8_e4m3",
    ] {
        let format: Format = text.parse().expect("a format");
        for (m, rows, cols) in PRODUCTS {
            if format.layout(rows, cols).is_err() {
                continue; // blocks that the shape is no multiple of
            }
            let packed = format.encode(&values(rows * cols, 3), rows, cols).expect("weights");
            let x = values(m * cols, 4);
            let product = |gpu: &Gpu| {
                let matrix = DeviceMatrix::upload(gpu, "w", &packed).expect("resident");
                let product = MatMul { matrix: &matrix, m, epilogue: Epilogue::Store, naive: false };
                product.run(gpu, &x, None, None).expect("a product")
            };
            let (got, want) = (product(&texels), product(&storage));
            let what = format!("{text} {m}x{rows}x{cols}");
            assert_eq!(first_difference(&got, &want), None, "{what} from texels");
            assert_eq!(first_difference(&product(&windows), &want), None, "{what} from windows");
            let weights = packed.decode();
            let nmse = reference::nmse(&got, &reference::linear(&x, m, &weights, cols, None));
            assert!(nmse < 1e-10, "{what}: NMSE {nmse:e}");
        }
    }
}

#[test]
fn whole_models_in_windows_equal_models_in_storage() {
    let model = Model::embedded().expect("model");
    let token = |sequence: u32, i: u32| Token::new((31 * i + 7 * sequence) % 1000, sequence, i);
    let tokens: Vec<Token> = (0..3).flat_map(|s| (0..120).map(move |i| token(s, i))).collect();
    let batch = Batch::new(tokens, (0..360).step_by(9).collect());
    let logits = |gpu: &Arc<Gpu>, format: &str| {
        let mut resident = Resident::new(gpu.clone(), None);
        let mut runner = runner(&mut resident, &model, &uniform(&model, format), 3, true);
        runner.step(&batch).expect("a step");
        runner.logits().expect("logits")
    };
    let storage = device(None, false);
    for format in
        ["f16", "int4(group=32)", "qlinear(bits=8)", "qlinear(bits=4)", "qlinear(bits=2)", "mxint8@mxint8"]
    {
        let (got, want) = (logits(&gpu(), format), logits(&storage, format));
        assert_eq!(first_difference(&got, &want), None, "{format}");
    }
}
