//! The verbs generate, eval and devices of the built program; needs an adapter and fails without one.

mod options;

use std::ffi::OsStr;
use std::process::{Command, Output};

use serde_json::Value;

fn anybit<S: AsRef<OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anybit")).args(args).output().expect("the program starts")
}

/// Output of a run that has to succeed.
fn ok(args: &[&str]) -> Output {
    let output = anybit(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?}: {stderr}\nThese tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one"
    );
    output
}

fn stdout(args: &[&str]) -> String {
    String::from_utf8(ok(args).stdout).expect("text is UTF-8")
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).expect("--json prints JSON and nothing else")
}

/// The message of a run that has to fail with code 2.
#[track_caller]
fn refused<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S]) -> String {
    refusal(anybit(args), &format!("{args:?}"))
}

#[track_caller]
fn refusal(output: Output, what: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    assert!(stderr.contains("error: "), "{what}: {stderr}");
    stderr
}

fn ids(run: &Value) -> Vec<Value> {
    run["texts"].as_array().expect("texts").iter().map(|text| text["ids"].clone()).collect()
}

#[test]
fn text_follows_the_seed_and_goes_alone_to_stdout() {
    let args = |seed: &'static str| ["generate", "--prompt", "ROMEO:", "--max-tokens", "12", "--seed", seed];
    let first = ok(&args("1"));
    let text = String::from_utf8(first.stdout).unwrap();
    assert!(text.starts_with("ROMEO:") && text.len() > 20 && text.ends_with('\n'), "{text}");
    assert_eq!(text, stdout(&args("1")));
    assert_ne!(text, stdout(&args("2")));
    let stderr = String::from_utf8(first.stderr).unwrap();
    for said in [
        "adapter",
        "backend   gpu",
        "shakespeare",
        "42 × int4(group=32)",
        "packed",
        "tokens/s",
        "first token",
        "uploaded",
    ] {
        assert!(stderr.contains(said), "{said} is missing in {stderr}");
    }
}

#[test]
fn the_device_and_the_reference_say_the_same() {
    let args =
        ["generate", "--format", "f32", "--temperature", "0", "--prompt", "JULIET:\nO", "--max-tokens", "30"];
    let gpu = stdout(&[&args[..], &["--backend", "gpu"]].concat());
    assert_eq!(gpu, stdout(&[&args[..], &["--backend", "reference"]].concat()));
    assert_eq!(gpu, stdout(&[&args[..], &["--backend", "gpu", "--naive"]].concat()));
}

#[test]
fn a_batch_of_prompts_equals_single_runs() {
    let prompts = [
        "ROMEO:",
        "First Citizen:\nBefore we proceed any further, hear me speak.",
        "A",
        "KING RICHARD III:\nNow",
        "What, ho!",
        "JULIET:\nO Romeo, Romeo! wherefore art thou",
        "The",
        "\n\nDUKE VINCENTIO:",
    ];
    let options = ["generate", "--json", "--temperature", "0", "--max-tokens", "8"];
    let mut together = options.to_vec();
    prompts.iter().for_each(|prompt| together.extend(["--prompt", prompt]));
    let together = ids(&json(&together));
    for (prompt, got) in prompts.iter().zip(&together) {
        let alone = ids(&json(&[&options[..], &["--prompt", prompt]].concat()));
        assert_eq!(alone.iter().collect::<Vec<_>>(), [got], "{prompt}");
    }
}

#[test]
fn two_formats_side_by_side() {
    let args =
        ["generate", "--prompt", "ROMEO:", "--max-tokens", "6", "--compare", "int2", "--temperature", "0"];
    let text = stdout(&args);
    assert!(text.contains("int4(group=32)") && text.contains("42 × int2"), "{text}");
    assert!(text.lines().filter(|line| line.contains(" | ")).count() > 3, "{text}");
    let both = json(&[&args[..], &["--json"]].concat());
    assert_ne!(both["texts"][0]["ids"], both["compare"]["texts"][0]["ids"]);
    assert_eq!(both["texts"][0]["ids"].as_array().map(Vec::len), Some(6));
    assert_eq!(both["texts"][0]["stop"], "max_tokens");
    for key in [
        "bytes",
        "f32_bytes",
        "uploaded_bytes",
        "prompt_tokens",
        "first_token_seconds",
        "decode_tokens_per_second",
    ] {
        assert!(both[key].is_number() && both["compare"][key].is_number(), "{key} in {both}");
    }
    // What both formats share, the embedding and the vectors, is uploaded once.
    let uploaded = |run: &Value| run["uploaded_bytes"].as_u64().unwrap();
    assert_eq!(uploaded(&both), both["bytes"].as_u64().unwrap());
    assert!(uploaded(&both["compare"]) < both["compare"]["bytes"].as_u64().unwrap());
}

#[test]
fn generation_ends_where_the_context_does() {
    let run = json(&[
        "generate",
        "--json",
        "--prompt",
        "ROMEO:",
        "--max-tokens",
        "1000000",
        "--backend",
        "reference",
    ]);
    let text = &run["texts"][0];
    let used = text["prompt_ids"].as_array().unwrap().len() + text["ids"].as_array().unwrap().len();
    assert_eq!((&text["stop"], used), (&Value::from("context_full"), 129));
}

#[test]
fn eval_agrees_between_device_and_reference() {
    let args = ["eval", "--windows", "4", "--json", "--format", "int4(group=32)", "--backend"];
    let [gpu, cpu] = ["gpu", "reference"].map(|backend| json(&[&args[..], &[backend]].concat()));
    for key in ["loss", "perplexity", "kl", "top1_agreement", "tokens", "bytes", "bits_per_weight"] {
        assert!(gpu[key].is_number(), "{key} in {gpu}");
    }
    for key in ["loss", "baseline_loss", "kl"] {
        let (a, b) = (gpu[key].as_f64().unwrap(), cpu[key].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{key}: {a} on the device, {b} on the CPU");
    }
    assert_eq!((&gpu["tokens"], &gpu["bits_per_weight"]), (&Value::from(512), &Value::from(4.5)));
    assert_eq!(gpu["uploaded_bytes"], gpu["bytes"]);
    assert!(gpu["kl"].as_f64().unwrap() > 1e-3 && gpu["top1_agreement"].as_f64().unwrap() > 0.85);
}

#[test]
fn eval_reproduces_independent_figures() {
    // Loss of the first windows is not published; the whole TinyStories sample is short enough.
    let run = json(&[
        "eval",
        "--json",
        "--format",
        "f32",
        "--backend",
        "reference",
        "--model",
        "tests/data/stories260k",
        "--text",
        "tests/data/tinystories_sample.txt",
    ]);
    assert_eq!(run["tokens"], 1804);
    assert!((run["perplexity"].as_f64().unwrap() - 3.5482).abs() < 1e-4, "{run}");
    assert_eq!((&run["kl"], &run["top1_agreement"]), (&Value::from(0.0), &Value::from(1.0)));
}

#[test]
fn a_packed_file_needs_its_original_for_the_divergence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.safetensors");
    let model = anybit::model::Model::load("tests/data/stories260k".as_ref()).unwrap();
    let spec: anybit::format::Spec = "int4(scale=row)".parse().unwrap();
    let assignment = anybit::graph::Assignment::uniform(model.graph(), &model.native_formats(), spec);
    anybit::model::quantize_model(&model, &assignment, &path, &mut |_| {}).unwrap();
    let path = path.to_str().unwrap();
    let args = [
        "eval",
        "--json",
        "--backend",
        "reference",
        "--windows",
        "1",
        "--text",
        "tests/data/tinystories_sample.txt",
    ];
    let alone = json(&[&args[..], &["--model", path]].concat());
    assert!(alone["kl"].is_null() && alone["top1_agreement"].is_null(), "{alone}");
    let original = ["--baseline", "tests/data/stories260k"];
    let packed = json(&[&args[..], &["--model", path], &original].concat());
    let direct =
        json(&[&args[..], &["--model", "tests/data/stories260k", "--format", "int4(scale=row)"]].concat());
    assert!(packed["kl"].as_f64().unwrap() > 0.0);
    for key in ["loss", "kl", "top1_agreement", "bytes", "bits_per_weight", "format"] {
        assert_eq!(packed[key], direct[key], "{key}");
    }
    assert_eq!(packed["loss"], alone["loss"]);
    let other = refused(&[
        "generate",
        "--backend",
        "reference",
        "--prompt",
        "A",
        "--model",
        path,
        "--format",
        "int8",
    ]);
    assert!(other.contains("int4(scale=row)") && other.contains("original"), "{other}");
}

#[test]
fn devices_lists_the_adapter_in_use() {
    let devices = json(&["devices", "--json"]);
    let default = devices["default"].as_u64().expect("a usable adapter") as usize;
    let name = devices["adapters"][default]["name"].as_str().unwrap();
    assert!(stdout(&["devices"]).contains(name));
}

#[test]
fn without_an_adapter_it_says_so() {
    let without = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_anybit"))
            .args(args)
            .envs([("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")])
            .output()
            .unwrap()
    };
    if !cfg!(target_os = "linux") {
        return; // only the Vulkan loader can be told to find nothing
    }
    assert!(refusal(without(&["devices"]), "devices").contains("install"));
    let generate = ["generate", "--prompt", "ROMEO:", "--max-tokens", "3"];
    assert!(refusal(without(&[&generate[..], &["--backend", "gpu"]].concat()), "gpu").contains("no Vulkan"));
    let fallback = without(&generate);
    let stderr = String::from_utf8_lossy(&fallback.stderr);
    assert!(fallback.status.success() && stderr.contains("CPU REFERENCE"), "{stderr}");
    assert!(fallback.stdout.starts_with(b"ROMEO:"));
}

#[test]
fn bad_requests_are_refused_with_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let long = "word ".repeat(500);
    let qconfig = file("near.json", br#"{"model.layers.0.mlp.up_porj": 4}"#);
    let (broken, list) = (file("broken.json", b"{"), file("list.json", b"[1]"));
    let (binary, empty) = (file("binary.txt", b"ab\xff"), file("empty.txt", b""));
    let nowhere = folder.path().join("nowhere").to_str().unwrap().to_owned();
    let here = folder.path().to_str().unwrap().to_owned();
    let cases: &[(&[&str], &str)] = &[
        (&["generate"], "--prompt"),
        (&["generate", "--prompt", ""], "empty"),
        (&["generate", "--prompt", &long], "context"),
        (&["generate", "--prompt", "A", "--model", &nowhere], "No such file"),
        (&["generate", "--prompt", "A", "--model", &here], "config.json"),
        (&["generate", "--prompt", "012", "--model", "tests/data/sort-gpt2"], "tokenizer.json"),
        (&["generate", "--prompt", "A", "--format", "int99"], "int8"),
        (&["generate", "--prompt", "A", "--format", "int4(group=33)"], "32"),
        (&["generate", "--prompt", "A", "--format", "int4@float"], "activation"),
        (&["generate", "--prompt", "A", "--format", "int4", "--qconfig", &qconfig], "--qconfig"),
        (&["generate", "--prompt", "A", "--qconfig", &qconfig], "model.layers.0.mlp.up_proj"),
        (&["generate", "--prompt", "A", "--qconfig", &broken], "JSON"),
        (&["generate", "--prompt", "A", "--qconfig", &list], "object"),
        (&["generate", "--prompt", "A", "--qconfig", &nowhere], "No such file"),
        (&["generate", "--prompt", "A", "--temperature", "-1"], "temperature"),
        (&["generate", "--prompt", "A", "--temperature", "nan"], "temperature"),
        (&["generate", "--prompt", "A", "--top-p", "1.5"], "top-p"),
        (&["generate", "--prompt", "A", "--max-tokens", "0"], "at least 1"),
        (&["generate", "--prompt", "A", "--adapter", "no such"], "no adapter matches"),
        (&["generate", "--prompt", "A", "--adapter", "0", "--backend", "reference"], "--adapter"),
        (&["eval", "--text", &binary], "UTF-8"),
        (&["eval", "--text", &empty], "0 bytes"),
        (&["eval", "--text", &here], "cannot read the text"),
        (&["eval", "--text", &nowhere], "No such file"),
        (&["eval", "--windows", "0"], "at least 1"),
        (&["eval", "--context", "129"], "128"),
        (&["eval", "--baseline", "tests/data/stories260k"], "vocabulary"),
        (&["eval", "--model", "tests/data/sort-gpt2"], "tokenizer.json"),
    ];
    for (args, expected) in cases {
        let message = refused(args);
        assert!(message.contains(expected), "{args:?} should name {expected}: {message}");
        let cause = "(os error";
        assert!(message.matches(cause).count() <= 1, "said twice: {message}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        refused(&[OsStr::new("generate"), OsStr::new("--prompt"), OsStr::from_bytes(b"\xff")]);
    }
}
