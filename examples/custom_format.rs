//! A format that anybit does not have, defined outside the crate: seven levels at powers of two and zero,
//! 3 bits and a scale per 64 weights. `cargo run --release --example custom_format`
//!
//! Once it is registered, the format has a name like any other: it is encoded, written to files, decoded by the
//! same kernels on the device, and chosen in specs.

use std::error::Error;
use std::sync::Arc;

use anybit::engine::{DeviceMatrix, MatMul, Resident, SessionOptions};
use anybit::format::{CustomFormat, Format, Scope, Spec};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::Assignment;
use anybit::model::Model;
use anybit::model::sampling::SamplingOptions;
use anybit::reference;
use anybit::run::{GenerationOptions, Next, Runner, generate};
use anybit::shader::Epilogue;

fn main() -> Result<(), Box<dyn Error>> {
    // A weight becomes the nearest value, times the largest weight of its group.
    let values = vec![0.0, 0.25, 0.5, 1.0, -0.25, -0.5, -1.0];
    let format = CustomFormat { name: "pow2".to_owned(), values, scope: Scope::Group(64) }.register()?;
    assert_eq!("pow2".parse::<Format>()?, format);
    println!("{format}: {} bits per weight", format.bits_per_weight(4096, 4096)?);

    // One matrix, on the CPU and on the device.
    let gpu = Arc::new(Gpu::open(OpenOptions::default())?);
    let (rows, cols) = (96, 200);
    let weights: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin() * 0.05).collect();
    let x: Vec<f32> = (0..cols).map(|i| (i as f32 * 0.11).cos()).collect();
    let packed = format.encode(&weights, rows, cols)?;
    let matrix = DeviceMatrix::upload(&gpu, "custom", &packed)?;
    let product = MatMul { matrix: &matrix, m: 1, epilogue: Epilogue::Store, naive: false };
    let got = product.run(&gpu, &x, None, None)?;
    let want = reference::linear(&x, 1, &packed.decode(), cols, None);
    println!("fused product on the device: NMSE {:.1e} to f64", reference::nmse(&got, &want));

    // A whole model: every block linear in the new format.
    let model = Model::embedded()?;
    let spec: Spec = "pow2".parse()?;
    let assignment = Assignment::uniform(model.graph(), &model.native_formats(), spec);
    let mut resident = Resident::new(gpu, None);
    let context = model.graph().context;
    let options = SessionOptions { sequences: 1, context, fused: true, keep: false };
    let graph = Arc::new(model.graph().clone());
    let mut runner = Runner::gpu(&mut resident, graph, &model, &assignment, options)?;
    let sampling = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
    let options = GenerationOptions {
        max_tokens: 40,
        context,
        eos: model.eos(),
        sampling,
        ..GenerationOptions::default()
    };
    let report = generate(&mut runner, &[model.encode_prompt("ROMEO:\n")?], &options, |_| Ok(Next::Go))?;
    let tokenizer = model.tokenizer().ok_or("the model has no tokenizer")?;
    println!("{}", tokenizer.decode(&report.tokens[0])?);
    Ok(())
}
