//! What is exported, read back: the same words, the same ids, the same results.

use anybit::format::{Format, Spec};
use anybit::graph::{Assignment, Role, Weights};
use anybit::model::chat::Message;
use anybit::model::{Dtype, Exported, Model, Planned, Writer, export_folder, export_gguf};

use super::{data, json, load, logits, native};

/// Exports to GGUF and loads the result.
fn through_gguf(model: &Model, assignment: &Assignment, fallback: Option<Format>) -> (Model, Vec<Exported>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let report = export_gguf(model, assignment, fallback, &path, &mut |_| {}).unwrap();
    assert_eq!(report.file_bytes, path.metadata().unwrap().len());
    (Model::load(&path).unwrap(), report.tensors)
}

/// Every weight of `assignment`, which the file must hold under the same name.
fn assert_equal(what: &str, model: &Model, assignment: &Assignment, back: &Model) {
    let formats = back.native_formats();
    assert_eq!(model.graph().weights.len(), back.graph().weights.len(), "{what}");
    for (id, weight) in model.graph().weights.iter().enumerate() {
        let same = |tensor: &str| tensor.ends_with(weight.tensor.as_str());
        let other = back.graph().weights.iter().position(|w| same(&w.tensor));
        let other = other.unwrap_or_else(|| panic!("{what}: no {}", weight.tensor));
        if weight.role == Role::Vector {
            assert_eq!(model.vector(id).unwrap(), back.vector(other).unwrap(), "{what}: {}", weight.tensor);
            continue;
        }
        let want = model.packed(id, assignment.specs[id].weight).unwrap();
        let got = back.packed(other, formats[other]).unwrap();
        if want.format == got.format {
            assert!(want == got, "{what}: words of {}", weight.tensor);
        }
        assert!(want.decode() == got.decode(), "{what}: values of {}", weight.tensor);
    }
}

#[test]
fn gguf_holds_the_chat_template_and_the_tokens_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(format!("tests/data/stories260k/{name}"), folder.path().join(name)).unwrap();
    }
    let template =
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}";
    let config =
        serde_json::json!({"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"}});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let model = Model::load(folder.path()).unwrap();
    let (back, _) = through_gguf(&model, &native(&model), None);
    let render = |model: &Model| {
        let template = model.chat_template().unwrap().expect("a template");
        template.render(&[Message::new("user", "Hello"), Message::new("assistant", "Hi")]).unwrap()
    };
    let want = "<s>[user] Hello</s>[assistant] Hi</s>";
    assert_eq!(render(&model), want);
    assert_eq!(render(&back), want);
}

#[test]
fn gguf_holds_the_words_of_every_format_it_has() {
    let model = Model::embedded().unwrap();
    // Rows of 192, 256 and 512: types with blocks of 256 are for the models below.
    for name in [
        "f32",
        "f16",
        "bf16",
        "q4_0",
        "q8_0",
        "iq4_nl",
        "int4(group=32)",
        "int5(group=32)",
        "mxfp4",
        "mxint8",
    ] {
        let spec: Spec = name.parse().unwrap();
        let assignment = Assignment::uniform(model.graph(), &model.native_formats(), spec);
        let (back, _) = through_gguf(&model, &assignment, None);
        assert_equal(name, &model, &assignment, &back);
    }
}

#[test]
fn gguf_through_gguf() {
    // The others know fewer ids than their tokenizers.
    for name in ["llama-mixed", "gpt2-q8_0", "stories260K", "llama-linear", "llama-yarn", "qwen3"] {
        let model = load(name);
        let (back, tensors) = through_gguf(&model, &native(&model), None);
        assert!(tensors.iter().all(|tensor| !tensor.fell_back));
        assert_equal(name, &model, &native(&model), &back);
        let ids = [7, 1, 60, 13, 2];
        assert_eq!(logits(&model, &ids), logits(&back, &ids), "{name}");
        assert_eq!((model.bos(), model.eos()), (back.bos(), back.eos()), "{name}");
    }
}

#[test]
fn checkpoints_through_gguf() {
    let names =
        ["llama", "llama3", "llama-linear", "llama-yarn", "qwen3", "qwen3-bias", "gpt2", "bert-classify"];
    for name in names {
        let model = Model::load(&data("families").join(name)).unwrap();
        let (back, _) = through_gguf(&model, &native(&model), None);
        assert_equal(name, &model, &native(&model), &back);
    }
}

#[test]
fn what_gguf_cannot_say_is_refused() {
    let refused = [
        ("gpt2-plain", "`scale_attn_weights` is false"),
        ("gpt2-untied", "`activation_function` is relu"),
        ("bert-embed", "`hidden_act` is gelu_new"),
        ("bert-mlm", "BertForMaskedLM"),
        ("qwen2", "windows of some layers"),
        ("smollm3", "SmolLM3ForCausalLM"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, wanted) in refused {
        let model = Model::load(&data("families").join(name)).unwrap();
        let path = folder.path().join("x.gguf");
        let error = export_gguf(&model, &native(&model), None, &path, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{name} left a file");
    }
}

/// A model of 6,144 ids and width 2, with the tokenizer of `tests/data/tokenizers/NAME`.
fn with_tokenizer(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in data(&format!("tokenizers/{name}")).read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 6144, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let names = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ];
    let planned = |name: String, shape: &[usize]| Planned { name, dtype: Dtype::F32, shape: shape.to_vec() };
    let mut tensors = vec![
        planned("model.embed_tokens.weight".into(), &[6144, 2]),
        planned("model.norm.weight".into(), &[2]),
        planned("model.layers.0.input_layernorm.weight".into(), &[2]),
        planned("model.layers.0.post_attention_layernorm.weight".into(), &[2]),
    ];
    tensors.extend(names.map(|name| planned(format!("model.layers.0.{name}.weight"), &[2, 2])));
    let mut writer = Writer::create(&folder.path().join("model.safetensors"), &tensors, &[]).unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        let bytes = vec![0; tensor.shape.iter().product::<usize>() * 4];
        writer.write(index, &bytes).unwrap();
    }
    writer.finish().unwrap();
    folder
}

#[test]
fn tokenizers_give_the_same_ids() {
    let mut models = vec![Model::embedded().unwrap(), Model::load(&data("stories260k")).unwrap()];
    models.push(load("stories260K"));
    // A model that knows enough ids, with the tokenizers of other programs.
    let folders: Vec<_> = ["gpt2", "qwen2", "bert", "sentencepiece", "llama3"].map(with_tokenizer).into();
    models.extend(folders.iter().map(|folder| Model::load(folder.path()).unwrap()));
    let texts: Vec<String> = serde_json::from_value(json("tokenizers/golden.json")["texts"].clone()).unwrap();
    for model in models {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        export_gguf(&model, &native(&model), None, &path, &mut |_| {})
            .unwrap_or_else(|error| panic!("{}: {error}", model.name()));
        let back = Model::load(&path).unwrap();
        for text in &texts {
            let ids = |model: &Model| model.tokenizer().unwrap().encode_prompt(text).unwrap();
            assert_eq!(ids(&model), ids(&back), "{}: {text:?}", model.name());
            let ids = ids(&model);
            let decode = |model: &Model| model.tokenizer().unwrap().decode(&ids).unwrap();
            assert_eq!(decode(&model), decode(&back), "{}: {text:?}", model.name());
        }
    }
}

#[test]
fn formats_without_an_equal_need_a_fallback() {
    let model = Model::embedded().unwrap();
    let spec: Spec = "base11(layout=9in32,group=256)".parse().unwrap();
    let assignment = Assignment::uniform(model.graph(), &model.native_formats(), spec);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let error = export_gguf(&model, &assignment, None, &path, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("q_proj") && error.contains("base11") && error.contains("--fallback"), "{error}");
    assert!(!path.exists(), "half an output");
    let (back, tensors) = through_gguf(&model, &assignment, Some(Format::F16));
    assert_eq!(tensors.iter().filter(|tensor| tensor.fell_back).count(), 42);
    assert_eq!(back.native_formats().iter().filter(|format| **format == Format::F16).count(), 43);
}

#[test]
fn a_folder_in_f16() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in [
        ("mixed", load("llama-mixed")),
        ("gpt2", Model::load(&data("families/gpt2")).unwrap()),
        ("stories", Model::load(&data("stories260k")).unwrap()),
    ] {
        let path = folder.path().join(name);
        export_folder(&model, &native(&model), &path, &mut |_| {}).unwrap();
        let back = Model::load(&path).unwrap();
        assert_eq!(back.tokenizer().is_some(), model.tokenizer().is_some());
        for (id, weight) in model.graph().weights.iter().enumerate() {
            assert_eq!(weight.tensor, back.graph().weights[id].tensor);
            if weight.role == Role::Vector {
                assert_eq!(model.vector(id).unwrap(), back.vector(id).unwrap());
                continue;
            }
            let want = model.packed(id, native(&model).specs[id].weight).unwrap().decode();
            let got = back.packed(id, Format::F16).unwrap().decode();
            let rounded: Vec<f32> = want.iter().map(|&w| half::f16::from_f32(w).to_f32()).collect();
            assert!(got == rounded, "{name}: {}", weight.tensor);
        }
        let again = export_folder(&model, &native(&model), &path, &mut |_| {}).unwrap_err().to_string();
        assert!(again.contains("exists"), "{again}");
    }
}
