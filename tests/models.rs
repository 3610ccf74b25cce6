//! The real checkpoints: graphs, weights, tokenizers, evaluation windows and packed copies.

use anybit::format::Format;
use anybit::graph::{Assignment, Graph, Op, Role, Weights};
use anybit::model::text::{Tail, windows, windows_with};
use anybit::model::{Model, dequantize_file, embedded, quantize_model};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn json_file(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// What must hold in every graph, whatever the family.
fn check_graph(graph: &Graph) {
    let mut names = std::collections::HashSet::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        assert!(names.insert(&node.name), "{} twice", node.name);
        assert!(node.inputs.iter().all(|&input| input < id), "{} is used before it is computed", node.name);
        let width = |i: usize| graph.nodes[node.inputs[i]].width;
        match &node.op {
            Op::Embed { table } | Op::EmbedPosition { table } | Op::EmbedSegment { table } => {
                assert_eq!(node.width, graph.weights[*table].cols)
            }
            Op::Linear { weight, bias } => {
                let weight = &graph.weights[*weight];
                assert_eq!((width(0), node.width), (weight.cols, weight.rows), "{}", node.name);
                assert!(bias.is_none_or(|bias| graph.weights[bias].cols == node.width));
            }
            Op::RmsNorm { weight, .. } => {
                assert_eq!((width(0), node.width % graph.weights[*weight].cols), (node.width, 0));
            }
            Op::LayerNorm { weight, .. } => {
                assert_eq!((width(0), node.width), (graph.weights[*weight].cols, node.width));
            }
            Op::Input => {}
            Op::Slice { offset } => assert!(offset + node.width <= width(0)),
            Op::Rope { heads, head_dim, inverse_frequency } => {
                assert_eq!((width(0), inverse_frequency.len()), (heads * head_dim, head_dim / 2));
            }
            Op::Attention { layer, heads, kv_heads, head_dim, .. } => {
                assert_eq!((width(0), node.width), (heads * head_dim, heads * head_dim));
                assert_eq!((width(1), width(2)), (kv_heads * head_dim, kv_heads * head_dim));
                assert_eq!(graph.kv_widths[*layer], kv_heads * head_dim);
            }
            Op::Add | Op::Mul => assert_eq!((width(0), width(1)), (node.width, node.width)),
            Op::Activate(_) | Op::OutputRows => assert_eq!(width(0), node.width),
        }
    }
    assert_eq!(graph.output_width(), graph.token_count());
}

fn count(graph: &Graph, role: Role) -> usize {
    graph.weights.iter().filter(|weight| weight.role == role).count()
}

#[test]
fn shakespeare_graph() {
    let model = Model::embedded().unwrap();
    let graph = model.graph();
    check_graph(graph);
    assert_eq!((graph.token_count(), graph.context, graph.kv_widths.as_slice()), (1024, 128, &[96; 6][..]));
    assert_eq!(
        (count(graph, Role::Linear), count(graph, Role::Head), count(graph, Role::Embedding)),
        (42, 0, 1)
    );
    // 2.63 M parameters, and all of them in the file.
    assert_eq!(graph.weights.iter().map(|weight| weight.rows * weight.cols).sum::<usize>(), 2_632_128);
    let Op::Linear { weight, .. } = graph.nodes.last().unwrap().op else { panic!("head is no linear") };
    assert_eq!(graph.weights[weight].role, Role::Embedding, "the head is tied");
    assert_eq!((model.bos(), model.eos()), (Some(0), vec![0]));
    assert_eq!(model.native_formats()[0], Format::F16);
    assert!(model.stored_assignment().is_none());
}

#[test]
fn stories_graph() {
    let model = Model::load(&data("stories260k")).unwrap();
    let graph = model.graph();
    check_graph(graph);
    assert_eq!(model.name(), "stories260k");
    assert_eq!((graph.token_count(), graph.context, graph.kv_widths.as_slice()), (512, 512, &[32; 5][..]));
    assert_eq!((model.bos(), model.eos()), (Some(1), vec![2]));
    let down = graph.weights.iter().find(|weight| weight.layer() == "model.layers.4.mlp.down_proj").unwrap();
    assert_eq!((down.rows, down.cols), (64, 172));
}

#[test]
fn sort_gpt2_graph() {
    let model = Model::load(&data("sort-gpt2")).unwrap();
    let graph = model.graph();
    check_graph(graph);
    assert_eq!((graph.token_count(), graph.context, graph.kv_widths.as_slice()), (3, 11, &[48; 3][..]));
    assert_eq!(
        (count(graph, Role::Linear), count(graph, Role::Head), count(graph, Role::Embedding)),
        (12, 1, 2)
    );
    assert!(model.tokenizer().is_none());
    assert!(model.encode_prompt("x").unwrap_err().to_string().contains("no tokenizer"));
}

/// Conv1D stores `[in, out]`; the graph's matrix is `[out, in]`.
#[test]
fn conv1d_weights_are_transposed() {
    let model = Model::load(&data("sort-gpt2")).unwrap();
    let id = model.graph().weights.iter().position(|weight| weight.transposed).unwrap();
    let weight = &model.graph().weights[id];
    assert_eq!(
        (weight.tensor.as_str(), weight.rows, weight.cols),
        ("transformer.h.0.attn.c_attn.weight", 144, 48)
    );
    let file = model.reader().file();
    let stored = file.widen(file.get(&weight.tensor).unwrap()).unwrap();
    let packed = model.packed(id, Format::F32).unwrap().decode();
    for row in 0..144 {
        for col in 0..48 {
            assert_eq!(packed[row * 48 + col], stored[col * 144 + row]);
        }
    }
}

#[test]
fn golden_prompt_ids_and_texts() {
    let model = Model::embedded().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let golden = json_file("shakespeare/golden.json");
    for case in golden.as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(model.encode_prompt(prompt).unwrap(), ids(&case["prompt_ids"]));
        assert_eq!(
            tokenizer.decode(&ids(&case["greedy_ids"])).unwrap(),
            case["greedy_text"].as_str().unwrap()
        );
    }
    let model = Model::load(&data("stories260k")).unwrap();
    let case = json_file("stories260k/golden.json");
    let prompt = case["prompt"].as_str().unwrap();
    assert_eq!(model.encode_prompt(prompt).unwrap(), ids(&case["prompt_ids"]));
    let text = model.tokenizer().unwrap().decode(&ids(&case["greedy_ids"])).unwrap();
    assert_eq!(text, case["greedy_text"].as_str().unwrap());
}

/// Pieces of a stream joined are the whole text, also where a character is split over tokens.
#[test]
fn streams_never_split_a_character() {
    let text = "Drachenfrüchte — “naïve” 🐉🐲 und 龍, ende";
    let shakespeare = Model::embedded().unwrap();
    let stories = Model::load(&data("stories260k")).unwrap();
    for model in [&shakespeare, &stories] {
        let tokenizer = model.tokenizer().unwrap();
        let all = model.encode_prompt(text).unwrap();
        let whole = tokenizer.decode(&all).unwrap();
        for prompt in [0, 3, 7] {
            let before = tokenizer.decode(&all[..prompt]).unwrap();
            if before.ends_with('\u{fffd}') {
                continue;
            }
            let mut stream = tokenizer.stream(&all[..prompt]).unwrap();
            let mut shown = before;
            for &id in &all[prompt..] {
                let piece = stream.push(id).unwrap();
                assert!(!piece.contains('\u{fffd}'), "{piece:?}");
                shown += &piece;
            }
            shown += &stream.finish().unwrap();
            assert_eq!(shown, whole);
        }
    }
    assert_eq!(
        shakespeare.tokenizer().unwrap().decode(&shakespeare.encode_prompt(text).unwrap()).unwrap(),
        text
    );
}

#[test]
fn an_unfinished_character_is_shown_at_the_end() {
    let model = Model::embedded().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let dragon = tokenizer.encode("🐉").unwrap();
    assert!(dragon.len() > 1, "the test wants a character of several tokens");
    let mut stream = tokenizer.stream(&[]).unwrap();
    assert_eq!(stream.push(dragon[0]).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
    // Bytes that never become a character do not hold back the text for ever.
    let mut stream = tokenizer.stream(&[]).unwrap();
    let pieces: Vec<String> = (0..20).map(|_| stream.push(dragon[0]).unwrap()).collect();
    assert!(pieces.concat().len() > 10);
}

#[test]
fn heldout_windows() {
    let model = Model::embedded().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let text = embedded::heldout_text().as_bytes();
    let windows = windows(text, tokenizer, model.bos(), 128).unwrap();
    assert_eq!(windows.len(), 386);
    assert_eq!(windows.iter().map(|window| window.targets.len()).sum::<usize>(), 49_408);
    assert_eq!(windows[0].inputs[1..], windows[0].targets[..127]);
    assert_eq!(windows[0].targets[127], windows[1].inputs[0]);
    let kept = windows_with(text, tokenizer, model.bos(), 128, Tail::Keep).unwrap();
    assert_eq!(kept.len(), 387);
    assert_eq!(kept[..386], windows);
}

#[test]
fn document_windows() {
    let model = Model::load(&data("stories260k")).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let text = std::fs::read(data("tinystories_sample.txt")).unwrap();
    let sum = |context| {
        let windows = windows(&text, tokenizer, model.bos(), context).unwrap();
        assert!(windows.iter().all(|w| w.inputs.len() == w.targets.len() && w.inputs.len() <= context));
        windows.iter().map(|window| window.targets.len()).sum::<usize>()
    };
    assert_eq!(sum(512), 1804);
    // Documents longer than the context go on in further windows.
    assert_eq!(sum(50), 1804);
    assert!(windows(&text, tokenizer, model.bos(), 512).unwrap().iter().all(|window| window.inputs[0] == 1));
}

#[test]
fn texts_that_cannot_be_evaluated() {
    let model = Model::embedded().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let error = |text: &[u8], context| windows(text, tokenizer, None, context).unwrap_err().to_string();
    assert!(error(b"", 128).contains("0 bytes"));
    assert!(error(b"a", 128).contains("fewer than two tokens"));
    assert!(error(b"<|endoftext|>  <|endoftext|>", 128).contains("fewer than two tokens"));
    assert!(error(b"good \xff bad", 128).contains("byte 5"));
    assert!(error(b"some text", 0).contains("at least 1"));
    // Shorter than one window: the tail is all there is.
    assert_eq!(windows(b"To be, or not", tokenizer, None, 128).unwrap().len(), 1);
}

/// Packed by a mix of formats, loaded again: same graph, same words, same texts.
#[test]
fn packed_models_load_like_their_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"*.mlp.*": "int4(group=32)@int8", "*.q_proj": 4, "*.k_proj": "base11", "*.v_proj": "mxint6",
        "*.0.self_attn.o_proj": "base11(layout=9in32,group=100)", "*.1.self_attn.o_proj": "mxint_cuda",
        "*.2.self_attn.o_proj": "f16", "*.3.self_attn.o_proj": "int5(scale=row)", "model.embed_tokens": "int8(group=64)"});
    for name in ["stories260k", "shakespeare"] {
        let model = if name == "shakespeare" { Model::embedded() } else { Model::load(&data(name)) }.unwrap();
        let assignment = Assignment::from_qconfig(model.graph(), &model.native_formats(), &config).unwrap();
        let path = folder.path().join("packed.safetensors");
        let mut steps = 0;
        let report = quantize_model(&model, &assignment, &path, &mut |_| steps += 1).unwrap();
        assert_eq!(steps, report.tensors.len() + 1);
        assert_eq!(report.file_bytes, path.metadata().unwrap().len());

        let packed = Model::load(&path).unwrap();
        assert_eq!(packed.stored_assignment().unwrap(), assignment);
        assert_eq!((packed.bos(), packed.eos(), packed.name()), (model.bos(), model.eos(), "packed"));
        assert_eq!(packed.encode_prompt("Once ").unwrap(), model.encode_prompt("Once ").unwrap());
        for (id, weight) in model.graph().weights.iter().enumerate() {
            if weight.role == Role::Vector {
                assert_eq!(packed.vector(id).unwrap(), model.vector(id).unwrap());
                continue;
            }
            let format = assignment.specs[id].weight;
            let (a, b) = (packed.packed(id, format).unwrap(), model.packed(id, format).unwrap());
            assert_eq!((a.codes, a.scales), (b.codes, b.scales), "{} as {format}", weight.tensor);
        }
        let up = packed.graph().weights.iter().position(|w| w.layer().ends_with("up_proj")).unwrap();
        let message = packed.packed(up, Format::F32).unwrap_err().to_string();
        assert!(message.contains("packed as int4(group=32)") && message.contains("original"), "{message}");
        let message = quantize_model(&packed, &assignment, &path, &mut |_| ()).unwrap_err().to_string();
        assert!(message.contains("packed already"), "{message}");
    }
}

/// Packing turns Conv1D weights around; dequantize turns them back.
#[test]
fn dequantize_restores_gpt2() {
    let folder = tempfile::tempdir().unwrap();
    let (packed, plain) = (folder.path().join("a.safetensors"), folder.path().join("model.safetensors"));
    let model = Model::load(&data("sort-gpt2")).unwrap();
    let assignment =
        Assignment::uniform(model.graph(), &model.native_formats(), "int8(scale=row)".parse().unwrap());
    quantize_model(&model, &assignment, &packed, &mut |_| ()).unwrap();
    dequantize_file(&packed, &plain, &mut |packed| Ok(packed.decode()), &mut |_| ()).unwrap();
    std::fs::copy(data("sort-gpt2/config.json"), folder.path().join("config.json")).unwrap();
    let back = Model::load(folder.path()).unwrap();
    for (id, weight) in model.graph().weights.iter().enumerate() {
        let (a, b) = (back.reader().file(), model.reader().file());
        assert_eq!(a.get(&weight.tensor).unwrap().shape, b.get(&weight.tensor).unwrap().shape);
        if weight.role == Role::Linear {
            let int8 = model.packed(id, assignment.specs[id].weight).unwrap().decode();
            assert_eq!(back.packed(id, Format::F32).unwrap().decode(), int8);
        } else if weight.role == Role::Vector {
            assert_eq!(back.vector(id).unwrap(), model.vector(id).unwrap());
        }
    }
}

/// A checkpoint without the `transformer.` prefix is the same model.
#[test]
fn gpt2_names_without_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(data("sort-gpt2/model.safetensors")).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + n]).unwrap().replace("\"transformer.", "\"");
    let mut renamed = (header.len() as u64).to_le_bytes().to_vec();
    renamed.extend(header.as_bytes());
    renamed.extend(&bytes[8 + n..]);
    std::fs::write(folder.path().join("model.safetensors"), renamed).unwrap();
    std::fs::copy(data("sort-gpt2/config.json"), folder.path().join("config.json")).unwrap();
    let (a, b) = (Model::load(folder.path()).unwrap(), Model::load(&data("sort-gpt2")).unwrap());
    assert_eq!(a.graph().nodes.len(), b.graph().nodes.len());
    let linear = a.graph().weights.iter().position(|weight| weight.role == Role::Linear).unwrap();
    let decode = |model: &Model| model.packed(linear, Format::F32).unwrap().decode();
    assert_eq!(decode(&a), decode(&b));
    assert!(a.graph().weights.iter().all(|weight| !weight.tensor.starts_with("transformer.")));
}
