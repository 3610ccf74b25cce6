//! The layers of the crate: who may import whom, and that no shader file is orphaned or missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the crate with the modules it may import; `error` is open to all. Rows only import rows
/// above them.
const LAYERS: [(&str, &[&str]); 13] = [
    ("error", &[]),
    ("format", &[]),
    ("graph", &["format"]),
    ("reference", &["format", "graph"]),
    ("shader", &["format", "graph"]), // of graph only `Function`
    ("gpu", &["shader"]),
    ("engine", &["gpu", "shader", "graph", "format"]),
    ("model", &["graph", "format"]),
    ("run", &["engine", "graph", "model", "reference"]),
    ("eval", &["run", "graph", "model", "format"]),
    ("cases", &["format", "graph", "reference", "shader", "gpu", "engine", "model", "run", "eval"]),
    ("bench", &["cases", "eval", "run", "model", "engine", "gpu", "shader", "reference", "graph", "format"]),
    ("search", &["eval", "run", "engine", "gpu", "model", "graph", "format"]),
];

/// Crates that one place only may know.
const CONFINED: [(&str, &str); 9] = [
    ("wgpu", "src/gpu/"),
    ("clap", "src/cli/"),
    ("anyhow", "src/cli/"),
    ("indicatif", "src/cli/"),
    ("plotters", "src/cli/"),
    ("uuid", "src/search/journal/"),
    ("ureq", "src/model/hub/"),
    ("minijinja", "src/model/chat.rs"),
    ("zip", "src/model/checkpoint/pytorch.rs"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` that end in `extension`: path from the root with `/`, and text.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|e| e == extension) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), extension, &mut found);
    assert!(!found.is_empty(), "no {extension} files in {folder}");
    found.sort();
    found
}

/// Lines of code, numbered from 1: comments (and the links in them) import nothing.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.enumerate().map(|(i, line)| (i + 1, line))
}

/// Modules named in paths that begin at the root of the crate: `crate::a`, `crate::{a, b::C}`.
fn imports(line: &str) -> Vec<&str> {
    let word = |text: &'static str| line.match_indices(text).map(move |(at, _)| &line[at + text.len()..]);
    let mut found = Vec::new();
    for rest in word("crate::").chain(word("anybit::")) {
        let (list, is_list) = match rest.strip_prefix('{') {
            Some(list) => (list.split('}').next().unwrap_or_default(), true),
            None => (rest, false),
        };
        for path in list.split(',').take(if is_list { usize::MAX } else { 1 }) {
            let path = path.trim();
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
            found.push(&path[..end]);
        }
    }
    found
}

/// Whether `name` stands in `line` as a path root: `name::…`, `use name;`, `use name as …`.
fn uses_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        starts && (after.starts_with("::") || line.trim_start().starts_with(&format!("use {name}")))
    })
}

#[test]
fn layers_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", "rs") {
        let layer = path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs");
        if matches!(layer, "cli" | "main" | "lib") {
            continue; // on top: may import everything
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            panic!("{path}: no layer `{layer}` in the table; add a row that says what it may import");
        };
        for (number, line) in code(&text) {
            for module in imports(line) {
                if module != "error" && module != layer && !allowed.contains(&module) {
                    wrong.push(format!("{path}:{number}: {layer} must not import {module}: {}", line.trim()));
                }
            }
            if layer == "shader" && line.contains("crate::graph") && !line.contains("crate::graph::Function")
            {
                wrong.push(format!("{path}:{number}: shader may know graph::Function only: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn rows_of_the_table_have_no_cycle() {
    for (i, (layer, allowed)) in LAYERS.iter().enumerate() {
        for module in *allowed {
            let below = LAYERS[..i].iter().any(|(name, _)| name == module);
            assert!(below, "{layer} may import {module}, which is not in a row above it");
        }
    }
}

/// The architecture page has the same table for people: ``| [`engine`] | … | `gpu`, `shader` |``.
#[test]
fn the_crate_documentation_has_the_same_table() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (i, (layer, allowed)) in LAYERS.iter().enumerate() {
        let link = format!("{layer}`] |");
        let row = text.lines().find(|line| line.starts_with("//! | [") && line.contains(&link));
        let row = row.unwrap_or_else(|| panic!("no row for `{layer}` in the table of src/lib.rs"));
        let cell = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let mut documented: Vec<&str> = match cell.trim() {
            "all above" => LAYERS[..i].iter().map(|(name, _)| *name).collect(),
            list => list.split('`').skip(1).step_by(2).collect(),
        };
        documented.retain(|&name| name != "error");
        documented.sort_unstable();
        let mut tested = allowed.to_vec();
        tested.sort_unstable();
        assert_eq!(documented, tested, "{layer}: src/lib.rs (left) against the table of this test (right)");
    }
}

#[test]
fn foreign_crates_stay_in_their_place() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", "rs") {
        for (number, line) in code(&text) {
            for (name, place) in CONFINED {
                let at_home = path.starts_with(place) || (place == "src/cli/" && path == "src/main.rs");
                if !at_home && uses_crate(line, name) {
                    wrong.push(format!("{path}:{number}: {name} belongs in {place}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `row!("gemv", …)` and the like: the first string of each call of a macro that includes a shader file.
fn macro_arguments(source: &str, name: &str) -> Vec<String> {
    let call = format!("{name}!(");
    let calls = source.match_indices(&call).map(|(at, _)| source[at + call.len()..].trim_start());
    calls.filter_map(|rest| rest.strip_prefix('"')?.split('"').next()).map(String::from).collect()
}

#[test]
fn every_shader_file_is_included_and_every_included_file_exists() {
    let sources: String = files("src/shader", "rs").into_iter().map(|(_, text)| text).collect();
    let mut named = BTreeSet::new();
    for (name, folder) in [("row", "kernel"), ("source", "kernel"), ("fragment", "format"), ("lib", "lib")] {
        let files = macro_arguments(&sources, name);
        named.extend(files.into_iter().map(|file| format!("shaders/{folder}/{file}.wgsl")));
    }
    for path in macro_arguments(&sources, "include_str") {
        named.insert(path.trim_start_matches("../").to_string());
    }
    let present: BTreeSet<String> = files("shaders", "wgsl").into_iter().map(|(path, _)| path).collect();
    let orphans: Vec<_> = present.difference(&named).collect();
    assert!(orphans.is_empty(), "files that no source includes: {orphans:?}");
    let missing: Vec<_> = named.difference(&present).collect();
    assert!(missing.is_empty(), "files that a source includes and that are not there: {missing:?}");
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert_eq!(imports("use crate::graph::{Batch, Graph};"), ["graph"]);
    assert_eq!(imports("use crate::{format::Spec, gpu};"), ["format", "gpu"]);
    assert_eq!(imports("    a: crate::graph::Function, b: crate::gpu::Gpu,"), ["graph", "gpu"]);
    assert!(code("/// [`x`](crate::gpu)").all(|(_, line)| imports(line).is_empty()));
    assert!(uses_crate("use wgpu;", "wgpu") && uses_crate("let x: wgpu::Buffer;", "wgpu"));
    assert!(!uses_crate("let naga_wgpu = 1;", "wgpu") && !uses_crate("f(\"wgpu::Buffer\")", "wgpu"));
    assert_eq!(macro_arguments("row!(\"gemv\", [X]); row!(\n  \"gemm\")", "row"), ["gemv", "gemm"]);
}
