//! Continues a text with the embedded model in int4(group=32) on the GPU:
//! `cargo run --release --example generate -- "ROMEO:"`

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use anybit::engine::{Resident, SessionOptions};
use anybit::format::Spec;
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::Assignment;
use anybit::model::Model;
use anybit::model::sampling::SamplingOptions;
use anybit::run::{GenerationOptions, Next, Runner, generate};

fn main() -> Result<(), Box<dyn Error>> {
    let text = std::env::args().nth(1).unwrap_or_else(|| "ROMEO:".to_string());
    let model = Model::embedded()?; // or Model::load(path): a Hugging Face folder or a packed file
    let tokenizer = model.tokenizer().ok_or("the model has no tokenizer")?;
    let prompt = model.encode_prompt(&text)?;

    // Which format each weight has: this one for the linear layers of all blocks, the rest as stored.
    let spec: Spec = "int4(group=32)".parse()?;
    let assignment = Assignment::uniform(model.graph(), &model.native_formats(), spec);

    let gpu = Arc::new(Gpu::open(OpenOptions::default())?);
    let mut resident = Resident::new(gpu, None); // keeps weights on the device, each uploaded once
    let context = model.graph().context;
    let options = SessionOptions { sequences: 1, context, fused: true, keep: false };
    let graph = Arc::new(model.graph().clone());
    let mut runner = Runner::gpu(&mut resident, graph, &model, &assignment, options)?;

    let sampling = SamplingOptions { temperature: 0.8, seed: 1, ..SamplingOptions::default() };
    let options = GenerationOptions {
        max_tokens: 40,
        context,
        eos: model.eos(),
        sampling,
        ..GenerationOptions::default()
    };
    let mut stream = tokenizer.stream(&prompt)?;
    print!("{text}");
    let report = generate(&mut runner, &[prompt], &options, |token| {
        print!("{}", stream.push(token.id)?);
        let _ = std::io::stdout().flush(); // a closed pipe is no reason to stop
        Ok(Next::Go)
    })?;
    println!("{}", stream.finish()?);
    eprintln!("{} tokens, {} bytes of weights uploaded", report.tokens[0].len(), resident.uploaded_bytes());
    Ok(())
}
