//! Models by name: the cache of the Hugging Face hub, and downloads from a hub on this machine.

#[path = "../support/program.rs"]
mod program;
mod server;

use anybit::Error;
use anybit::model::hub::{Event, Hub, HubId};
use anybit::model::{Dtype, Planned, TensorFile, Writer};
use program::{Place, ROOT};
use server::{Answer, COMMIT, Request, Server, file_of, repository};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a small Llama.
fn stories() -> Files {
    let read = |name: &str| {
        (name.to_owned(), std::fs::read(format!("{ROOT}/tests/data/stories260k/{name}")).unwrap())
    };
    ["config.json", "model.safetensors", "tokenizer.json"].map(read).into()
}

/// The same with what other programs need.
fn crowded() -> Files {
    let mut files = stories();
    for name in ["README.md", "pytorch_model.bin", "tokenizer.model", "onnx/model.onnx", ".gitattributes"] {
        files.insert(name.to_owned(), name.as_bytes().to_vec());
    }
    files
}

fn id(text: &str) -> HubId {
    HubId::parse(text).unwrap().unwrap()
}

fn hub(cache: &TempDir, endpoint: &str) -> Hub {
    Hub {
        cache: cache.path().to_owned(),
        endpoint: endpoint.to_owned(),
        token: None,
        offline: false,
        certificates: None,
    }
}

fn locate(hub: &Hub, name: &str) -> Result<PathBuf, Error> {
    hub.locate(&id(name), &mut |_| ())
}

fn message(hub: &Hub, name: &str) -> String {
    let error = locate(hub, name).unwrap_err().to_string();
    assert!(!error.contains('\n') && error.len() < 800, "{error}");
    error
}

fn assert_all(message: &str, wanted: &[&str]) {
    assert!(wanted.iter().all(|wanted| message.contains(wanted)), "{message:?} lacks one of {wanted:?}");
}

/// Lays `files` out in a cache as other programs do.
fn lay_out(cache: &Path, files: &Files) -> PathBuf {
    let repo = cache.join("models--org--name");
    let snapshot = repo.join("snapshots").join(COMMIT);
    for folder in [&snapshot, &repo.join("blobs"), &repo.join("refs")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in files {
        let blob = blake3::hash(bytes).to_hex().to_string();
        std::fs::write(repo.join("blobs").join(&blob), bytes).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
        #[cfg(not(unix))]
        std::fs::write(snapshot.join(name), bytes).unwrap();
    }
    snapshot
}

fn assert_holds(snapshot: &Path, files: &Files, names: &[&str]) {
    let mut found: Vec<String> =
        snapshot.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, names);
    for name in names {
        assert!(std::fs::read(snapshot.join(name)).unwrap() == files[*name], "{name}");
    }
}

/// Nothing may be asked: the server panics in its thread and the request is on record.
fn silent() -> Server {
    Server::start(|_| Answer::of(500))
}

#[test]
fn what_the_cache_holds_is_not_asked_for() {
    let (cache, server) = (tempfile::tempdir().unwrap(), silent());
    let snapshot = lay_out(cache.path(), &stories());
    let hub = hub(&cache, &server.address);
    for name in ["org/name", "org/name@main", &format!("org/name@{COMMIT}")] {
        assert_eq!(locate(&hub, name).unwrap(), snapshot);
    }
    let file = locate(&hub, "org/name:model.safetensors").unwrap();
    assert_eq!(file, snapshot.join("model.safetensors"));
    assert!(server.requests().is_empty());
}

#[test]
fn what_is_missing_is_said_with_where_it_was_looked_for() {
    let cache = tempfile::tempdir().unwrap();
    let offline = Hub { offline: true, ..hub(&cache, "http://127.0.0.1:9") };
    let nothing = message(&offline, "org/name");
    assert_all(&nothing, &["config.json", "org/name@main", "refs/main", "HF_HUB_OFFLINE", "local"]);
    let snapshot = lay_out(cache.path(), &stories());
    assert_all(&message(&offline, "org/name@v2"), &["org/name@v2", "refs/v2"]);
    assert_all(&message(&offline, "org/name:x.gguf"), &["x.gguf", COMMIT]);
    std::fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
    assert_eq!(locate(&offline, "org/name").unwrap(), snapshot);
    // A link whose blob is gone.
    let weights = snapshot.join("model.safetensors").canonicalize().unwrap();
    std::fs::remove_file(weights).unwrap();
    let no_weights = message(&offline, "org/name");
    assert_all(&no_weights, &["org/name@main", "config.json but no weights", "model.safetensors", COMMIT]);
    let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    std::fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
    std::fs::write(snapshot.join("m-1.safetensors"), "x").unwrap();
    assert_all(&message(&offline, "org/name"), &["incomplete", "m-2.safetensors is missing", COMMIT]);
    std::fs::write(cache.path().join("models--org--name/refs/main"), "../../../x").unwrap();
    assert_all(&message(&offline, "org/name"), &["refs/main"]);
}

#[test]
fn a_download_fetches_what_the_model_needs_and_nothing_else() {
    let files = crowded();
    let served = files.clone();
    let server = Server::start(move |request| repository(&served, request));
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&cache, &server.address);
    let (mut begun, mut received) = (None, 0);
    let snapshot = hub
        .locate(&id("org/name"), &mut |event| match event {
            Event::Begin { files, bytes, .. } => begun = Some((files, bytes)),
            Event::Bytes(count) => received += count,
            _ => {}
        })
        .unwrap();
    let needed = ["config.json", "model.safetensors", "tokenizer.json"];
    let bytes: usize = needed.iter().map(|name| files[*name].len()).sum();
    assert_eq!((begun, received), (Some((3, Some(bytes as u64))), bytes as i64));
    assert_holds(&snapshot, &files, &needed);
    let repo = cache.path().join("models--org--name");
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(repo.join("blobs").read_dir().unwrap().count(), 3, "no part of a file is left");
    assert_eq!(server.gets("README.md").len() + server.gets("pytorch_model.bin").len(), 0);
    let asked = server.requests().len();
    assert_eq!(locate(&Hub { offline: true, ..hub.clone() }, "org/name").unwrap(), snapshot);
    assert_eq!(locate(&hub, "org/name").unwrap(), snapshot);
    assert_eq!(server.requests().len(), asked);
    // One file more of the same commit.
    assert_eq!(locate(&hub, "org/name:onnx/model.onnx").unwrap(), snapshot.join("onnx/model.onnx"));
    assert_eq!(std::fs::read(snapshot.join("onnx/model.onnx")).unwrap(), files["onnx/model.onnx"]);
    assert_all(&message(&hub, "org/name:onnx/model"), &["onnx/model", "near names: onnx/model.onnx"]);
}

#[test]
fn shards_are_those_of_the_index() {
    let folder = format!("{ROOT}/tests/data/families/llama-sharded");
    let entries = Path::new(&folder).read_dir().unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Files = entries.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    let needed = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    let served = files.clone();
    let server = Server::start(move |request| repository(&served, request));
    let cache = tempfile::tempdir().unwrap();
    // What an interrupted download left: the next one brings the rest.
    let snapshot =
        lay_out(cache.path(), &files.iter().take(1).map(|(k, v)| (k.clone(), v.clone())).collect());
    let there = locate(&hub(&cache, &server.address), "org/name").unwrap();
    assert_eq!(there, snapshot);
    assert_holds(&snapshot, &files, &needed);
    assert_eq!(server.gets("config.json").len(), 0, "it was there");
    files.remove(needed[2]);
    let server = Server::start(move |request| repository(&files, request));
    let cache = tempfile::tempdir().unwrap();
    let message = message(&hub(&cache, &server.address), "org/name");
    assert_all(&message, &["incomplete", needed[2]]);
    assert!(!cache.path().join("models--org--name/refs/main").exists());
}

#[test]
fn a_broken_connection_is_resumed() {
    let files = stories();
    let (served, times) = (files.clone(), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        let mut answer = repository(&served, request);
        if request.method == "GET" && request.path.ends_with("model.safetensors") {
            match times.fetch_add(1, Ordering::Relaxed) {
                0 => answer.cut = Some(700_000),
                // One that knows no ranges begins anew.
                1 => answer = Answer { cut: Some(10_000), ..repository(&served, &whole(request)) },
                _ => {}
            }
        }
        answer
    });
    let cache = tempfile::tempdir().unwrap();
    let mut received = 0;
    let snapshot = hub(&cache, &server.address).locate(&id("org/name"), &mut |event| {
        if let Event::Bytes(count) = event {
            received += count;
        }
    });
    assert_holds(&snapshot.unwrap(), &files, &["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(received, files.values().map(Vec::len).sum::<usize>() as i64);
    let ranges: Vec<_> = server
        .gets("model.safetensors")
        .iter()
        .map(|request| request.headers.get("range").cloned().unwrap_or_default())
        .collect();
    assert_eq!(ranges, ["", "bytes=700000-", "bytes=10000-"]);
}

/// The same request for all bytes.
fn whole(request: &Request) -> Request {
    let mut request = request.clone();
    request.headers.remove("range");
    request
}

#[test]
fn a_file_that_never_comes_whole_stays_out_of_the_snapshot() {
    let files = stories();
    let served = files.clone();
    let server = Server::start(move |request| {
        let mut answer = repository(&served, request);
        if file_of(&request.path) == Some("tokenizer.json") {
            answer.cut = Some(0);
        }
        answer
    });
    let cache = tempfile::tempdir().unwrap();
    let broken = message(&hub(&cache, &server.address), "org/name");
    assert_all(&broken, &["tokenizer.json of org/name@main", "broke off after 0 of 19572 bytes"]);
    let repo = cache.path().join("models--org--name");
    assert!(!repo.join("refs/main").exists());
    assert!(!repo.join("snapshots").join(COMMIT).join("tokenizer.json").exists());
    // The next call, with a better hub, fetches only what is missing.
    let served = files.clone();
    let server = Server::start(move |request| repository(&served, request));
    let snapshot = locate(&hub(&cache, &server.address), "org/name").unwrap();
    assert_holds(&snapshot, &files, &["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(server.gets("config.json").len(), 0);
}

#[test]
fn a_file_of_another_length_than_described_is_refused() {
    for (length, wanted) in
        [("1044993", "broke off after 1044992 of 1044993 bytes"), ("1044991", "longer than")]
    {
        let files = stories();
        let server = Server::start(move |request| {
            let answer = repository(&files, request);
            let is_weights = file_of(&request.path) == Some("model.safetensors");
            let answer = if is_weights { answer.with("x-linked-etag", "abc") } else { answer };
            if is_weights { answer.with("x-linked-size", length) } else { answer }
        });
        let cache = tempfile::tempdir().unwrap();
        let message = message(&hub(&cache, &server.address), "org/name");
        assert_all(&message, &["model.safetensors of org/name@main", wanted]);
        let repo = cache.path().join("models--org--name");
        assert!(!repo.join("blobs/abc").exists() && !repo.join("refs/main").exists());
    }
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let files = stories();
    let weights = files["model.safetensors"].clone();
    let elsewhere = Server::start(move |request| match request.path.as_str() {
        "/blob?sig=1" => Answer { body: weights.clone(), ..Answer::of(200) },
        _ => Answer::of(404),
    });
    let blob = format!("{}/blob?sig=1", elsewhere.address);
    let served = files.clone();
    let server = Server::start(move |request| {
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer hf_x") {
            return Answer::of(401);
        }
        match file_of(&request.path) {
            // Large files lie elsewhere; the first answer describes them.
            Some("model.safetensors") => Answer { body: b"moved".to_vec(), ..Answer::of(302) }
                .with("location", blob.clone())
                .with("x-linked-etag", "\"abc\"")
                .with("x-linked-size", served["model.safetensors"].len().to_string()),
            // Repositories may have been renamed.
            Some("config.json") => Answer::of(307).with("location", "/moved/config.json"),
            _ if request.path == "/moved/config.json" => {
                let path = format!("/org/name/resolve/{COMMIT}/config.json");
                repository(&served, &Request { path, ..request.clone() })
            }
            _ => repository(&served, request),
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { token: Some("hf_x".to_owned()), ..hub(&cache, &server.address) };
    let snapshot = locate(&hub, "org/name").unwrap();
    assert_holds(&snapshot, &files, &["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(cache.path().join("models--org--name/blobs/abc").is_file());
    assert_eq!(elsewhere.requests().len(), 1);
    assert!(!elsewhere.requests()[0].headers.contains_key("authorization"));
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { token: None, cache: cache.path().to_owned(), ..hub };
    assert_all(&message(&hub, "org/name"), &["401", "gated", "HF_TOKEN", "org/name"]);
}

#[test]
fn hubs_that_answer_nonsense_are_refused() {
    let says = |answer: Answer, wanted: &[&str]| {
        let server = Server::start(move |_| answer.clone());
        let cache = tempfile::tempdir().unwrap();
        assert_all(&message(&hub(&cache, &server.address), "org/name"), wanted);
        assert!(!cache.path().join("models--org--name/snapshots").exists());
    };
    let body = |text: &str| Answer { body: text.as_bytes().to_vec(), ..Answer::of(200) };
    says(Answer::of(404), &["has no org/name@main", "revision"]);
    says(Answer::of(503), &["503", "later", "config.json of org/name@main", "refs/main"]);
    says(Answer::of(302), &["302", "leads nowhere"]);
    says(Answer::of(304), &["304", "leads nowhere"]);
    says(Answer::of(302).with("location", "/again"), &["without end"]);
    says(Answer::of(302).with("location", "file:///etc/passwd"), &["leads nowhere"]);
    says(Answer::of(302).with("location", "//other/x"), &["leads nowhere"]);
    for text in ["", "<html>", "[]", "{}", r#"{"sha": "../..", "siblings": []}"#, r#"{"sha": "ab"}"#] {
        says(body(text), &["HF_ENDPOINT"]);
    }
    says(body(r#"{"sha": "ab", "siblings": [{"rfilename": "../config.json"}, 1]}"#), &["no config.json"]);
    says(body(r#"{"sha": "ab", "siblings": []}"#).with("content-length", "9999999999"), &["broke off"]);
    // Nobody listens.
    let cache = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = message(&hub(&cache, &format!("http://{closed}")), "org/name");
    assert_all(
        &refused,
        &["cannot download org/name@main", "neither a local path nor in the cache", "network"],
    );
}

#[test]
fn files_without_certificates_are_named() {
    let (cache, server) = (tempfile::tempdir().unwrap(), silent());
    let path = cache.path().join("ca.pem");
    let hub = Hub { certificates: Some(path.clone()), ..hub(&cache, &server.address) };
    assert_all(&message(&hub, "org/name"), &["cannot read the certificates", "ca.pem"]);
    std::fs::write(path, "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n").unwrap();
    assert_all(&message(&hub, "org/name"), &["ca.pem has no certificates", "PEM", "SSL_CERT_FILE"]);
    assert!(server.requests().is_empty());
}

#[test]
fn names_of_blobs_stay_in_their_folder() {
    let files = stories();
    let served = files.clone();
    let server = Server::start(move |request| {
        let mut answer = repository(&served, request);
        if file_of(&request.path).is_some() {
            answer.headers.retain(|(name, _)| *name != "etag");
            answer = answer.with("etag", "W/\"../../../../x\"");
        }
        answer
    });
    let cache = tempfile::tempdir().unwrap();
    let snapshot = locate(&hub(&cache, &server.address), "org/name").unwrap();
    assert_holds(&snapshot, &files, &["config.json", "model.safetensors", "tokenizer.json"]);
    let names =
        cache.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| [".locks", "models--org--name"].contains(&name.as_str())));
}

#[test]
fn a_tokenizer_that_is_missing_is_asked_for_and_no_reason_to_stop() {
    let mut files = stories();
    let tokenizer = files.remove("tokenizer.json").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let snapshot = lay_out(cache.path(), &files);
    let mut notes = Vec::new();
    let down = silent();
    let located = hub(&cache, &down.address).locate(&id("org/name"), &mut |event| {
        if let Event::Note(note) = event {
            notes.push(note.to_owned());
        }
    });
    assert_eq!(located.unwrap(), snapshot);
    assert_eq!(notes.len(), 1);
    assert_all(&notes[0], &["org/name has no tokenizer here", "500"]);
    files.insert("tokenizer.json".to_owned(), tokenizer);
    let served = files.clone();
    let server = Server::start(move |request| repository(&served, request));
    assert_eq!(locate(&hub(&cache, &server.address), "org/name").unwrap(), snapshot);
    assert_holds(&snapshot, &files, &["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(server.gets("model.safetensors").len(), 0);
}

/// Runs the program with a cache of its own.
fn run(place: &Place, cache: &TempDir, endpoint: &str, line: &[&str]) -> std::process::Output {
    let mut command = place.command(line);
    for name in ["HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HUB_CACHE", cache.path()).env("HF_ENDPOINT", endpoint).output().unwrap()
}

#[test]
fn verbs_take_names_of_models() {
    let files = stories();
    let served = files.clone();
    let server = Server::start(move |request| repository(&served, request));
    let (place, cache) = (Place::new(), tempfile::tempdir().unwrap());
    let line = ["inspect", "--model", "org/name", "--format", "int4(group=32)", "--json"];
    let output = run(&place, &cache, &server.address, &line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_all(&stderr, &["NOTE: org/name: downloading 3 files, 1.07 MB from http://127.0.0.1"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["model"], "model name");
    let line = ["quantize", "--model", "org/name", "--format", "int4(group=32)", "--output", "packed"];
    let output = run(&place, &cache, "http://127.0.0.1:9", &line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("model name -> packed"));
    // The same bytes as from a folder.
    let folder = format!("{ROOT}/tests/data/stories260k");
    place.ok(&["quantize", "--model", &folder, "--format", "int4(group=32)", "--output", "local"]);
    assert!(place.read("packed") == place.read("local"));
    // What exists here wins.
    std::fs::create_dir(place.path("org")).unwrap();
    std::fs::write(place.path("org/name"), "no model").unwrap();
    let output = run(&place, &cache, "http://127.0.0.1:9", &["inspect", "--model", "org/name"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("127.0.0.1"));
}

#[test]
fn one_file_of_a_repository_is_a_model() {
    let place = Place::new();
    let values = [1.0f32, -2.0, 3.0, 4.0];
    let plan = [Planned { name: "w".into(), dtype: Dtype::F32, shape: vec![2, 2] }];
    let mut writer = Writer::create(&place.path("w.safetensors"), &plan, &[]).unwrap();
    writer.write(0, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    writer.finish().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let bytes = place.read("w.safetensors");
    lay_out(cache.path(), &[("w.safetensors".to_owned(), bytes)].into());
    let line = ["quantize", "--model", "org/name:w.safetensors", "--format", "f32", "--output", "packed"];
    let output = run(&place, &cache, "http://127.0.0.1:9", &line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packed = TensorFile::open(&place.path("packed")).unwrap();
    assert_eq!(packed.widen(packed.get("w").unwrap()).unwrap(), values);
    for (wrong, wanted) in [("org/name@..:x", "revision"), ("org/name:../x", "no file of a repository")] {
        let output = run(&place, &cache, "http://127.0.0.1:9", &["inspect", "--model", wrong]);
        assert_eq!(output.status.code(), Some(2));
        assert_all(&String::from_utf8(output.stderr).unwrap(), &[wanted]);
    }
}
