//! What a user can get wrong: one clear error each, and nothing is changed.

use std::fs;

use super::program::Place;
use super::{line, refused};

#[test]
fn wrong_searches_are_refused_before_anything_is_written() {
    let place = Place::new();
    let fails = |more: &[&str], wanted: &[&str]| {
        let line: Vec<&str> =
            ["search", "--windows", "1", "--no-cache"].iter().chain(more).copied().collect();
        refused(&place, &line, wanted);
    };
    fails(&["--space", ""], &["empty entry"]);
    fails(&["--space", "int99"], &["int99"]);
    fails(&["--space", "*.nothing=int4"], &["*.nothing", "matches none"]);
    fails(&["--space", "q4_k"], &["q4_k", "illegal for layer", "256"]);
    fails(&["--keep-f32", "*"], &["nothing is left"]);
    fails(&["--tie", "*.nothing"], &["--tie"]);
    fails(&["--objective", "speed"], &["speed"]);
    fails(&["--objective", "scalar(alpha=3)"], &["alpha"]);
    fails(&["--sampler", "tpee"], &["tpe"]);
    fails(&["--sampler", "tpe(gama=1)"], &["gama"]);
    fails(&["--max-bytes", "lots"], &["lots"]);
    fails(&["--max-bits-per-weight=-1"], &["bits-per-weight"]);
    fails(&["--space", "int4,int8", "--max-bytes", "1kB"], &["smallest", "16", "bits per weight"]);
    fails(&["--space", "int4,int8", "--max-bits-per-weight", "2"], &["smallest", "4.0"]);
    fails(&["--text", "missing.txt"], &["missing.txt"]);
    fails(&["--trials", "0"], &["--trials"]);
    fails(&["--resume", "--out", "nothing"], &["nothing"]);
    fails(&["--backend", "reference", "--objective", "kl,latency"], &["latency"]);
}

#[test]
fn studies_that_do_not_fit_are_refused_and_stay_as_they_are() {
    let place = Place::new();
    place.ok(&line(&["--trials", "4", "--out", "s", "--sampler", "random"]));
    let journal = place.path("s/journal.log");
    let bytes = fs::read(&journal).unwrap();
    let same = || assert!(fs::read(&journal).unwrap() == bytes, "the journal was changed");
    // Begun again without --resume.
    refused(&place, &line(&["--trials", "4", "--out", "s"]), &["--resume"]);
    // Another space, another objective, another text.
    let resume = |more: &[&str], wanted: &[&str]| {
        let line: Vec<&str> =
            ["search", "--resume", "--out", "s", "--cache", "cache"].iter().chain(more).copied().collect();
        refused(&place, &line, wanted);
        same();
    };
    resume(&["--space", "int3"], &["--space", "int2,int4,int8"]);
    resume(&["--objective", "loss"], &["--objective", "kl,bytes"]);
    resume(&["--seed", "3"], &["--seed"]);
    resume(&["--f16"], &["--f16 is true", "false"]);
    resume(&["--naive"], &["--naive is true", "false"]);
    fs::write(place.path("other.txt"), "To be, or not to be, that is the question.\n".repeat(40)).unwrap();
    resume(&["--text", "other.txt"], &["text", "hash"]);
    // A foreign and a damaged journal.
    for (name, content, wanted) in [
        ("foreign", "this is no journal\n".to_owned(), "journal"),
        ("json", "{\"a\": 1}\n".to_owned(), "journal"),
        (
            "damaged",
            String::from_utf8(bytes.clone()).unwrap().replacen("op_code\":4", "op_code\":", 1),
            "line",
        ),
    ] {
        fs::create_dir(place.path(name)).unwrap();
        let path = place.path(name).join("journal.log");
        fs::write(&path, &content).unwrap();
        refused(&place, &["search", "--resume", "--out", name, "--cache", "cache"], &[wanted]);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn another_model_under_a_study_is_refused() {
    let place = Place::new();
    let copy = |name: &str| {
        fs::create_dir(place.path(name)).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
            let from = std::path::Path::new(super::program::ROOT).join("assets/shakespeare").join(file);
            if from.exists() {
                fs::copy(from, place.path(name).join(file)).unwrap();
            }
        }
    };
    copy("model");
    place.ok(&line(&["--trials", "4", "--out", "s", "--sampler", "random", "--model", "model"]));
    let path = place.path("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1000;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let journal = fs::read(place.path("s/journal.log")).unwrap();
    refused(
        &place,
        &["search", "--resume", "--out", "s", "--cache", "cache", "--trials", "8"],
        &["model", "hash"],
    );
    assert!(fs::read(place.path("s/journal.log")).unwrap() == journal);
}

#[test]
fn a_full_disk_stops_a_search_and_leaves_a_journal_to_go_on_with() {
    // A limit on the size of files stands for a full disk.
    let place = Place::new();
    place.ok(&line(&["--trials", "4", "--out", "s", "--sampler", "random"]));
    let size = place.path("s/journal.log").metadata().unwrap().len();
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$@\"",
        size / 1024 + 3 // blocks of 1024 bytes
    );
    let program = env!("CARGO_BIN_EXE_anybit");
    let output = std::process::Command::new("bash")
        .current_dir(place.0.path())
        .args([
            "-c", &script, "bash", program, "search", "--resume", "--out", "s", "--cache", "cache",
            "--trials", "40",
        ])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("error: ") && error.contains("--resume"), "{error}");
    let before = super::state(&place.path("s/journal.log"), "anybit");
    assert!(before.len() >= 4 && before.len() < 40);
    place.ok(&["search", "--resume", "--out", "s", "--cache", "cache", "--trials", "40"]);
    assert_eq!(super::state(&place.path("s/journal.log"), "anybit").len(), 40);
}
