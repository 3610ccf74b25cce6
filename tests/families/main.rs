//! Small random checkpoints of every causal family against Hugging Face transformers, see `generate.py`: on the CPU
//! reference and on the device, fused and naive. Needs an adapter and fails without one.

mod configs;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anybit::engine::{Resident, SessionOptions};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::graph::{Assignment, Batch, Mask, Op, Token};
use anybit::model::{Model, TensorFile};
use anybit::run::{GenerationOptions, Next, Runner, generate};

/// Largest difference of a logit.
const TOLERANCE: f32 = 1e-4;

const FAMILIES: [&str; 14] = [
    "llama",
    "llama-sharded",
    "llama3",
    "llama-linear",
    "llama-dynamic",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3-bias",
    "smollm3",
    "gpt2",
    "gpt2-untied",
    "gpt2-plain",
];

fn folder(name: &str) -> PathBuf {
    Path::new("tests/data/families").join(name)
}

fn load(name: &str) -> Model {
    Model::load(&folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    let open = || {
        Arc::new(Gpu::open(OpenOptions::default()).expect(
            "these tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one where it can",
        ))
    };
    GPU.get_or_init(open).clone()
}

/// Token ids of the entry `key` of golden.json.
fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

struct Golden {
    prompts: Vec<Vec<u32>>,
    continuation: Option<Vec<u32>>,
    /// Per prompt `[tokens, vocabulary]`.
    logits: Vec<Vec<f32>>,
}

fn golden(name: &str) -> Golden {
    let text = std::fs::read_to_string(folder(name).join("golden.json")).expect("golden.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let prompts: Vec<Vec<u32>> = json["prompts"].as_array().expect("prompts").iter().map(ids).collect();
    let file = TensorFile::open(&folder(name).join("golden.safetensors")).expect("golden.safetensors");
    let logits = |index: usize| {
        let tensor = file.get(&format!("logits.{index}")).expect("logits");
        file.widen(tensor).expect("f32")
    };
    Golden {
        logits: (0..prompts.len()).map(logits).collect(),
        prompts,
        continuation: json.get("continuation").map(ids),
    }
}

/// Tokens `from ..` of every prompt that is that long, as sequences of their own; all rows are outputs.
fn batch(prompts: &[Vec<u32>], from: usize, to: usize) -> Batch {
    let of = |(sequence, ids): (usize, &Vec<u32>)| {
        let part = ids.iter().enumerate().take(to).skip(from);
        part.map(|(i, &id)| Token::new(id, sequence as u32, i as u32)).collect::<Vec<_>>()
    };
    let tokens: Vec<Token> = prompts.iter().enumerate().flat_map(of).collect();
    let outputs = (0..tokens.len() as u32).collect();
    Batch::new(tokens, outputs)
}

/// Compares the rows of `batch` with their golden logits.
fn assert_logits(what: &str, golden: &Golden, batch: &Batch, got: &[f32]) -> f32 {
    let width = got.len() / batch.tokens.len();
    let mut largest = 0.0f32;
    for (token, got) in batch.tokens.iter().zip(got.chunks(width)) {
        let want = &golden.logits[token.sequence as usize][token.position as usize * width..][..width];
        for (column, (got, want)) in got.iter().zip(want).enumerate() {
            let difference = (got - want).abs();
            let (sequence, position) = (token.sequence, token.position);
            assert!(
                difference <= TOLERANCE,
                "{what}, prompt {sequence}, position {position}, logit {column}: {got}, want {want}"
            );
            largest = largest.max(difference);
        }
    }
    largest
}

/// All prompts at once, then token by token behind the first three.
fn check(what: &str, golden: &Golden, runner: &mut Runner) {
    let mut step = |what: &str, from: usize, to: usize| {
        let batch = batch(&golden.prompts, from, to);
        runner.step(&batch).expect("a step");
        assert_logits(what, golden, &batch, &runner.logits().expect("logits"))
    };
    let longest = golden.prompts.iter().map(Vec::len).max().unwrap_or(0);
    let largest = step(&format!("{what}, at once"), 0, longest);
    step(&format!("{what}, start"), 0, 3);
    for position in 3..longest {
        step(&format!("{what}, token by token"), position, position + 1);
    }
    println!("{what}: {largest:e}");
}

#[test]
fn the_reference_gives_the_logits_of_transformers() {
    for name in FAMILIES {
        let (model, golden) = (load(name), golden(name));
        let assignment = Assignment::native(model.graph(), &model.native_formats());
        let sequences = golden.prompts.len();
        let mut runner = Runner::reference(model.graph(), &model, &assignment, sequences).expect("reference");
        check(&format!("{name} on the CPU"), &golden, &mut runner);
    }
}

#[test]
fn the_device_gives_the_logits_of_transformers() {
    for name in FAMILIES {
        let (model, golden) = (load(name), golden(name));
        let graph = Arc::new(model.graph().clone());
        let assignment = Assignment::native(&graph, &model.native_formats());
        for fused in [true, false] {
            let sequences = golden.prompts.len();
            let options = SessionOptions { sequences, context: graph.context, fused, keep: false };
            let mut resident = Resident::new(gpu(), None).with_stacks();
            let mut runner = Runner::gpu(&mut resident, graph.clone(), &model, &assignment, options)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            check(&format!("{name}, fused {fused}"), &golden, &mut runner);
        }
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    for name in ["llama", "mistral", "gpt2"] {
        let (model, golden) = (load(name), golden(name));
        let want = golden.continuation.expect("a continuation");
        let graph = Arc::new(model.graph().clone());
        let assignment = Assignment::native(&graph, &model.native_formats());
        let options = SessionOptions { sequences: 1, context: graph.context, fused: true, keep: false };
        let mut resident = Resident::new(gpu(), None).with_stacks();
        let mut runner =
            Runner::gpu(&mut resident, graph.clone(), &model, &assignment, options).expect("a session");
        let options = GenerationOptions {
            max_tokens: want.len(),
            context: graph.context,
            eos: Vec::new(),
            ..GenerationOptions::default()
        };
        let report =
            generate(&mut runner, &golden.prompts[..1], &options, |_| Ok(Next::Go)).expect("a generation");
        assert_eq!(report.tokens[0], want, "{name}");
    }
}

/// What a family adds must be in the graph, or the golden logits would hold by chance.
#[test]
fn graphs_have_what_their_configs_say() {
    let masks = |name: &str| -> Vec<Mask> {
        let mask = |op: &Op| if let Op::Attention { mask, .. } = op { Some(*mask) } else { None };
        load(name).graph().nodes.iter().filter_map(|node| mask(&node.op)).collect()
    };
    assert_eq!(masks("llama"), [Mask::Causal; 2]);
    assert_eq!(masks("mistral"), [Mask::Window(7); 2]);
    assert_eq!(masks("qwen2"), [Mask::Causal, Mask::Window(5), Mask::Window(5)]);
    let count = |name: &str, suffix: &str| {
        load(name).graph().weights.iter().filter(|weight| weight.tensor.ends_with(suffix)).count()
    };
    assert_eq!((count("qwen2", "q_proj.bias"), count("qwen2", "o_proj.bias")), (3, 0));
    assert_eq!((count("qwen3", "q_norm.weight"), count("qwen3", "k_norm.weight")), (2, 2));
    assert_eq!((count("qwen3-bias", "o_proj.bias"), count("llama-linear", "down_proj.bias")), (2, 2));
    for (name, head) in
        [("llama", 1), ("llama3", 0), ("qwen3", 0), ("smollm3", 0), ("gpt2", 0), ("gpt2-untied", 1)]
    {
        assert_eq!(count(name, "lm_head.weight"), head, "{name}");
    }
    let turned = |name: &str| {
        load(name).graph().nodes.iter().filter(|node| matches!(node.op, Op::Rope { .. })).count()
    };
    assert_eq!((turned("smollm3"), turned("llama")), (4, 4));
}
