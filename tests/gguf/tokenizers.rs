//! Tokenizers without a `tokenizer.json`: the ids of the programs that they are from.

use std::path::Path;

use anybit::model::{Model, Tokenizer};
use tempfile::TempDir;

use super::{data, ids, json, load};

/// A model folder with the tokenizer files of `tests/data/tokenizers/NAME`.
fn folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &Path| std::fs::copy(from, folder.path().join(from.file_name().unwrap())).unwrap();
    for file in ["config.json", "model.safetensors"] {
        copy(&data("families/llama").join(file));
    }
    for entry in data(&format!("tokenizers/{name}")).read_dir().unwrap() {
        copy(&entry.unwrap().path());
    }
    folder
}

fn error(folder: &TempDir) -> String {
    Model::load(folder.path()).unwrap_err().to_string()
}

/// Compares the ids of all texts with those in `golden.json` under `name`.
fn check(what: &str, tokenizer: &Tokenizer, name: &str) {
    let golden = json("tokenizers/golden.json");
    let texts = golden[name].get("texts").unwrap_or(&golden["texts"]).clone();
    let texts: Vec<String> = serde_json::from_value(texts).unwrap();
    let mut wrong = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let got = tokenizer.encode(text).unwrap();
        let want = ids(&golden[name]["ids"][index]);
        if got != want {
            wrong.push(format!("{what}: {text:?}\n  got  {got:?}\n  want {want:?}"));
        }
        if let Some(special) = golden[name].get("special") {
            assert_eq!(tokenizer.encode_prompt(text).unwrap(), ids(&special[index]), "{what}: {text:?}");
        }
    }
    assert!(wrong.is_empty(), "{} of {} texts:\n{}", wrong.len(), texts.len(), wrong.join("\n"));
}

#[test]
fn folders_of_other_programs() {
    for name in ["gpt2", "qwen2", "bert", "sentencepiece"] {
        let folder = folder(name);
        let model = Model::load(folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(name, model.tokenizer().unwrap(), name);
    }
}

#[test]
fn a_cased_word_piece() {
    let folder = folder("bert");
    let config =
        r#"{"tokenizer_class": "BertTokenizer", "do_lower_case": false, "tokenize_chinese_chars": false}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    check("cased", Model::load(folder.path()).unwrap().tokenizer().unwrap(), "bert-cased");
}

#[test]
fn gguf_files() {
    let files = [("llama", "sentencepiece"), ("llama3", "llama3"), ("qwen2", "qwen2"), ("gpt2", "gpt2")];
    for (file, name) in files {
        check(&format!("{file}.gguf"), load(file).tokenizer().unwrap(), name);
    }
    // What begins and ends a text by the file's own words.
    let llama3 = load("llama3");
    let text = llama3.tokenizer().unwrap().encode_prompt("a").unwrap();
    assert_eq!(text[0], llama3.bos().unwrap());
}

/// `tok512.bin`, beside a checkpoint of llama2.c, against the `tokenizer.json` made from the same pieces.
#[test]
fn llama2c_pieces() {
    let folder = folder("llama2c");
    for name in ["config.json", "model.safetensors"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    // dim, hidden, layers, heads, KV heads, vocabulary, context; then the tensors of version 0.
    let sizes = [2i32, 2, 1, 1, 1, 512, 2];
    let floats = 512 * 2 + 2 + 4 * 4 + 2 + 3 * 4 + 2 + 2 * 2;
    let mut bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    bytes.resize(28 + floats * 4, 0);
    let path = folder.path().join("model.bin");
    std::fs::write(&path, bytes).unwrap();
    let model = Model::load(&path).unwrap();
    let want = Tokenizer::open(&data("stories260k/tokenizer.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(json("tokenizers/golden.json")["texts"].clone()).unwrap();
    let stories = std::fs::read_to_string(data("tinystories_sample.txt")).unwrap();
    for text in texts.iter().map(String::as_str).chain(stories.lines()) {
        let got = model.tokenizer().unwrap();
        assert_eq!(got.encode_prompt(text).unwrap(), want.encode_prompt(text).unwrap(), "{text:?}");
        let ids = want.encode(text).unwrap();
        assert_eq!(got.decode(&ids).unwrap(), want.decode(&ids).unwrap());
    }
}

#[test]
fn unknown_and_incomplete_files() {
    let gpt2 = folder("gpt2");
    std::fs::remove_file(gpt2.path().join("merges.txt")).unwrap();
    assert!(error(&gpt2).contains("merges.txt"));
    std::fs::write(gpt2.path().join("merges.txt"), "#version: 0.2\na b c\n").unwrap();
    assert!(error(&gpt2).contains("merges.txt: line 2"), "{}", error(&gpt2));
    std::fs::write(gpt2.path().join("merges.txt"), "no such\n").unwrap();
    assert!(error(&gpt2).contains("vocab.json is not a tokenizer"), "{}", error(&gpt2));
    for class in ["CLIPTokenizer", "RobertaTokenizerFast"] {
        let config = format!("{{\"tokenizer_class\": \"{class}\"}}");
        std::fs::write(gpt2.path().join("tokenizer_config.json"), config).unwrap();
        let error = error(&gpt2);
        assert!(
            error.contains(class.trim_end_matches("Fast")) && error.contains("save_pretrained"),
            "{error}"
        );
    }
    let bert = folder("bert");
    std::fs::write(bert.path().join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\na\n").unwrap();
    assert!(error(&bert).contains("[SEP]"), "{}", error(&bert));
    let sentencepiece = folder("sentencepiece");
    for bytes in [&b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"[..], b"", b"\x0a\x03\x0a\x01\xff", b"hello"] {
        std::fs::write(sentencepiece.path().join("tokenizer.model"), bytes).unwrap();
        assert!(error(&sentencepiece).contains("tokenizer.model"), "{}", error(&sentencepiece));
    }
}
