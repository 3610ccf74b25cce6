//! Stop strings, overflow, log-probabilities, files of prompts and conversations.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ids, json, ok, refused, stdout};
use serde_json::{Value, json};

const GREEDY: [&str; 3] = ["generate", "--temperature", "0"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&GREEDY[..], more].concat()
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let whole = stdout(&with(&["--prompt", "ROMEO:", "--max-tokens", "40"]));
    let whole = whole.trim_end_matches('\n');
    // From within a word to within the next line, so that it spans tokens.
    let at = 6 + whole[6..].find('\n').expect("lines") + 4;
    let stop: String = whole[at..].chars().take(7).collect();
    let first = whole[6..].find(&stop).expect("it is there") + 6;
    let cut =
        stdout(&with(&["--prompt", "ROMEO:", "--max-tokens", "40", "--stop", "never so", "--stop", &stop]));
    assert_eq!(cut.strip_suffix('\n'), Some(&whole[..first]));
    let run = json(&with(&["--prompt", "ROMEO:", "--max-tokens", "40", "--stop", &stop, "--json"]));
    assert_eq!(
        (&run["texts"][0]["stop"], &run["texts"][0]["text"]),
        (&json!("stop_string"), &json!(whole[6..first]))
    );
    let none = stdout(&with(&["--prompt", "ROMEO:", "--max-tokens", "40", "--stop", "\u{1f600}"]));
    assert_eq!(none.trim_end_matches('\n'), whole);
}

#[test]
fn log_probabilities_come_with_every_token() {
    let args =
        with(&["--prompt", "KING:", "--max-tokens", "5", "--logprobs", "3", "--json", "--format", "f32"]);
    let run = json(&args);
    let reference = json(&[&args[..], &["--backend", "reference"]].concat());
    assert_eq!(ids(&run), ids(&reference), "greedy decoding is the same on both");
    let tokens = run["texts"][0]["logprobs"].as_array().expect("a list");
    assert_eq!(tokens.len(), 5);
    for (token, other) in tokens.iter().zip(reference["texts"][0]["logprobs"].as_array().unwrap()) {
        let top = token["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["id"], &top[0]["logprob"]), (3, &token["id"], &token["logprob"]));
        let log = token["logprob"].as_f64().unwrap();
        assert!(log < 0.0 && top[1]["logprob"].as_f64().unwrap() <= log);
        assert!((log - other["logprob"].as_f64().unwrap()).abs() < 1e-4);
    }
    assert!(refused(&with(&["--prompt", "x", "--logprobs", "3"])).contains("--json"));
}

#[test]
fn penalties_and_min_p_change_what_is_drawn() {
    let text =
        |more: &[&str]| stdout(&[&["generate", "--prompt", "ROMEO:", "--max-tokens", "30"], more].concat());
    let greedy = text(&["--temperature", "0"]);
    assert_ne!(text(&["--temperature", "0", "--repetition-penalty", "1.5"]), greedy);
    // Nothing but the likeliest is left, whatever the temperature.
    assert_eq!(text(&["--temperature", "0.5", "--min-p", "0.999999"]), greedy);
    let back = text(&["--temperature", "0", "--repetition-penalty", "1.5", "--repeat-last-n", "1"]);
    assert_ne!(back, text(&["--temperature", "0", "--repetition-penalty", "1.5"]));
}

#[test]
fn prompts_come_from_files_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write("one.txt", b"ROMEO:\nO,");
    write("list.txt", b"KING:\n\nJULIET:\r\n");
    write("list.jsonl", b"\"KING:\\nI\"\n{\"prompt\": \"JULIET:\"}\n");
    let short = ["--max-tokens", "3"];
    let plain = stdout(&with(&[&["--prompt", "ROMEO:\nO,"][..], &short].concat()));
    assert_eq!(stdout(&with(&[&["--prompt-file", &path("one.txt")][..], &short].concat())), plain);
    let mut child = Command::new(env!("CARGO_BIN_EXE_anybit"))
        .args(with(&[&["--prompt-file", "-"][..], &short].concat()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"ROMEO:\nO,").unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), plain);
    let prompts = |file: &str| -> Vec<Value> {
        let run = json(&with(&[&["--prompts", &path(file), "--json"][..], &short].concat()));
        run["texts"].as_array().unwrap().iter().map(|text| text["prompt"].clone()).collect()
    };
    assert_eq!(prompts("list.txt"), ["KING:", "JULIET:"]);
    assert_eq!(prompts("list.jsonl"), ["KING:\nI", "JULIET:"]);

    write("empty.txt", b"");
    write("latin.txt", b"caf\xe9");
    write("bad.jsonl", b"\"a\"\n{\"text\": 1}\n");
    assert!(refused(&with(&["--prompt-file", &path("empty.txt")])).contains("prompt 1 is empty"));
    assert!(refused(&with(&["--prompts", &path("empty.txt")])).contains("holds no prompts"));
    assert!(refused(&with(&["--prompt-file", &path("latin.txt")])).contains("not UTF-8"));
    assert!(refused(&with(&["--prompts", &path("bad.jsonl")])).contains("line 2"));
    assert!(refused(&with(&["--prompt-file", &path("none.txt")])).contains("none.txt"));
    assert!(refused(&with(&[])).contains("--prompt"));
}

#[test]
fn a_full_context_ends_slides_or_is_refused_as_told() {
    let long = "And then the king did speak unto the queen of it. ".repeat(8);
    let prompt = ["--prompt", &long[..], "--json", "--max-tokens", "60"];
    let stopped = json(&with(&prompt));
    assert_eq!(stopped["texts"][0]["stop"], "context_full");
    let fed = stopped["prompt_tokens"].as_u64().unwrap();
    assert!((80..128).contains(&fed), "{fed} tokens: choose another prompt");
    let slid = json(&with(&[&prompt[..], &["--overflow", "slide", "--keep", "4"]].concat()));
    let (before, after) = (&ids(&stopped)[0], &ids(&slid)[0]);
    let (before, after) = (before.as_array().unwrap(), after.as_array().unwrap());
    assert_eq!((after.len(), &slid["texts"][0]["stop"]), (60, &json!("max_tokens")));
    assert_eq!(after[..before.len()], before[..]);
    assert!(slid["slides"].as_u64().unwrap() >= 1);
    let refusal = refused(&with(&[&prompt[..], &["--overflow", "error"]].concat()));
    assert!(refusal.contains("60 more are to follow") && refusal.contains("128"), "{refusal}");
    // A prompt that does not fit at all.
    let longer = long.repeat(3);
    assert!(refused(&with(&["--prompt", &longer])).contains("--overflow slide"));
    let cut = json(&with(&["--prompt", &longer, "--overflow", "slide", "--json", "--max-tokens", "3"]));
    assert_eq!(ids(&cut)[0].as_array().unwrap().len(), 3);
    assert!(cut["prompt_tokens_cut"].as_u64().unwrap() > 100);
    assert!(
        refused(&with(&["--prompt", "x", "--overflow", "slide", "--keep", "200"])).contains("keep at most")
    );
}

/// A model folder that has a chat template, or what is put in its place.
fn chat_model(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stories260k");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn conversations_are_answered_in_the_chat_template() {
    let template =
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";
    let config = json!({"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"});
    let folder = chat_model(&config);
    let model = folder.path().to_str().unwrap();
    let short = ["--model", model, "--max-tokens", "4", "--json", "--format", "f32"];
    let chat = ["--chat", "--system", "Be brief.", "--prompt", "Who was Lily?"];
    let run = json(&with(&[&short[..], &chat].concat()));
    // The tokenizer puts the beginning of the text before a plain prompt; the template writes it itself.
    let text = "system: Be brief.\nuser: Who was Lily?\nassistant:";
    let plain = json(&with(&[&short[..], &["--prompt", text]].concat()));
    assert_eq!(run["texts"][0]["prompt_ids"], plain["texts"][0]["prompt_ids"]);
    assert_eq!(ids(&run), ids(&plain));
    assert_eq!(run["texts"][0]["prompt"], "Who was Lily?");
    let messages = folder.path().join("messages.json");
    std::fs::write(
        &messages,
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who was Lily?"}])
            .to_string(),
    )
    .unwrap();
    let file = messages.to_str().unwrap();
    assert_eq!(ids(&json(&with(&[&short[..], &["--messages", file]].concat()))), ids(&run));
    // Only the answer is printed.
    let printed = stdout(&with(&["--model", model, "--max-tokens", "4", "--chat", "--prompt", "Hello"]));
    assert!(!printed.contains("Hello"), "{printed}");
    // A packed file knows the template too.
    let packed = folder.path().join("packed.safetensors");
    ok(&["quantize", "--model", model, "--format", "int8", "--output", packed.to_str().unwrap()]);
    let run = json(&with(&[
        "--model",
        packed.to_str().unwrap(),
        "--chat",
        "--prompt",
        "Hi",
        "--json",
        "--max-tokens",
        "2",
    ]));
    assert!(run["texts"][0]["prompt_ids"].as_array().unwrap().len() > 5);

    std::fs::write(&messages, "[]").unwrap();
    assert!(refused(&["generate", "--model", model, "--messages", file]).contains("no messages"));
    std::fs::write(&messages, "[{\"role\": \"user\"}]").unwrap();
    assert!(refused(&["generate", "--model", model, "--messages", file]).contains("content"));
    assert!(refused(&["generate", "--chat", "--prompt", "x"]).contains("no chat template"));
    let broken = chat_model(&json!({"chat_template": "{% for %}"}));
    let error = refused(&["generate", "--model", broken.path().to_str().unwrap(), "--chat", "--prompt", "x"]);
    assert!(error.contains("template is not valid"), "{error}");
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_loaded() {
    for (option, value, wanted) in [
        ("--stop", "", "stop string is empty"),
        ("--repetition-penalty", "0", "above 0"),
        ("--repetition-penalty", "-1", "above 0"),
        ("--min-p", "1", "below 1"),
        ("--min-p", "-0.5", "below 1"),
        ("--overflow", "maybe", "possible values"),
    ] {
        let error = refused(&["generate", "--prompt", "x", option, value]);
        assert!(error.contains(wanted), "{option} {value}: {error}");
    }
}
