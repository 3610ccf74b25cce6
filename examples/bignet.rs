//! Base 11 from end to end: a BigNet checkpoint of random numbers, loaded and quantized to 9 digits in 32 bits, run in
//! f32 and in base 11 on the device and on the CPU. `cargo run --release --example bignet -- [DIM] [BLOCKS]`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use anybit::engine::{Resident, SessionOptions};
use anybit::eval::MemoryReport;
use anybit::format::Spec;
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Batch};
use anybit::model::{Dtype, Model, Planned, Writer};
use anybit::reference::nmse;
use anybit::run::Runner;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows of the batch.
const ROWS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sizes = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let dim = sizes.next().transpose()?.unwrap_or(1024);
    let blocks = sizes.next().transpose()?.unwrap_or(6);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let folder = tempfile::tempdir()?;
    checkpoint(folder.path(), dim, blocks, &mut rng)?;

    let model = Model::load(folder.path())?;
    let graph = Arc::new(model.graph().clone());
    let native = model.native_formats();
    let base11 = model.default_spec();
    let inputs: Vec<f32> = (0..ROWS * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
    let batch = Batch::of_inputs(inputs, dim)?;
    let mut resident = Resident::new(Arc::new(Gpu::open(OpenOptions::default())?), None);
    println!("{blocks} blocks of {dim}, {ROWS} rows, on {}", resident.gpu().adapter().name);

    let mut exact: Option<Vec<f32>> = None;
    for spec in ["f32".parse::<Spec>()?, base11] {
        let assignment = Assignment::uniform(&graph, &native, spec);
        let memory = MemoryReport::new(&graph, &assignment, 1, ROWS, ROWS)?;
        let options = SessionOptions { sequences: 1, context: ROWS, fused: true, keep: false };
        let mut device = Runner::gpu(&mut resident, graph.clone(), &model, &assignment, options)?;
        let mut reference = Runner::reference(&graph, &model, &assignment, 1)?;
        device.step(&batch)?;
        reference.step(&batch)?;
        let (got, want) = (device.logits()?, reference.logits()?);
        println!("{spec}");
        println!(
            "  weights         {} bytes, {:.2} % of f32, {:.4} bits per weight in the linears",
            memory.bytes,
            memory.bytes as f64 / memory.f32_bytes as f64 * 100.0,
            memory.bits_per_weight
        );
        println!("  device to CPU   NMSE {:.1e}", nmse(&got, &want));
        match &exact {
            Some(exact) => println!("  base 11 to f32  NMSE {:.1e}", nmse(&got, exact)),
            None => exact = Some(got),
        }
    }
    Ok(())
}

/// Writes `config.json` and `model.safetensors` with the tensors of a BigNet, as PyTorch initializes linears.
fn checkpoint(folder: &Path, dim: usize, blocks: usize, rng: &mut ChaCha8Rng) -> Result<(), Box<dyn Error>> {
    let config = serde_json::json!({ "architectures": ["BigNet"], "dim": dim, "blocks": blocks, "layer_norm_eps": 1e-5 });
    std::fs::write(folder.join("config.json"), config.to_string())?;
    // Name, shape, and what the values lie around; those of norms are not random.
    let mut tensors: Vec<(String, Vec<usize>, Option<f32>)> = Vec::new();
    for block in 0..blocks {
        for at in [0, 2, 4] {
            tensors.push((format!("model.{}.model.{at}.weight", 2 * block), vec![dim, dim], None));
            tensors.push((format!("model.{}.model.{at}.bias", 2 * block), vec![dim], None));
        }
        if block + 1 < blocks {
            tensors.push((format!("model.{}.weight", 2 * block + 1), vec![dim], Some(1.0)));
            tensors.push((format!("model.{}.bias", 2 * block + 1), vec![dim], Some(0.0)));
        }
    }
    let planned: Vec<Planned> = tensors
        .iter()
        .map(|(name, shape, _)| Planned { name: name.clone(), dtype: Dtype::F32, shape: shape.clone() })
        .collect();
    let mut writer = Writer::create(&folder.join("model.safetensors"), &planned, &[])?;
    let bound = 1.0 / (dim as f32).sqrt();
    for (index, (_, shape, value)) in tensors.iter().enumerate() {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|_| value.unwrap_or_else(|| rng.random_range(-bound..bound)));
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        writer.write(index, &bytes)?;
    }
    writer.finish()?;
    Ok(())
}
