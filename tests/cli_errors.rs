//! The verbs that write and read files, on bad input and on bad luck: one clear error, exit code 2, no file.

#[path = "support/program.rs"]
mod program;

use program::{Place, assert_only, safetensors, split, values};
use serde_json::{Value, json};

#[test]
fn values_that_do_not_fit_are_said_aloud() {
    let place = Place::new();
    place.write("in", &[("w", &[2, 64], &values(128, 1e30))]);
    for (spec, groups) in
        [("int4(group=32)", 4), ("base11(group=32)", 4), ("base11(layout=9in32,group=64)", 2)]
    {
        let line = ["quantize", "--model", "in", "--format", spec, "--output", "p", "--json"];
        let output = place.run(&line);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("WARNING: tensor `w`"), "{spec}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["tensors"][0]["scale_overflows"], groups, "{spec}");
        assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    }
    for spec in ["int4", "int4(scale=row)", "mxint4", "mxint_cuda"] {
        let line = ["quantize", "--model", "in", "--format", spec, "--output", "p", "--json"];
        assert_eq!(place.json(&line)["warnings"], json!([]), "{spec}");
    }
    place.fails(&["quantize", "--model", "in", "--format", "f16", "--output", "q"], &["`w`", "f16"]);
}

#[test]
fn bad_files_are_refused() {
    let place = Place::new();
    let mut weights = values(4 * 64, 1.0);
    place.write("good", &[("ok", &[4, 64], &weights)]);
    place.ok(&["quantize", "--model", "good", "--format", "int4", "--output", "packed"]);
    let good = place.read("good");
    let (header, data) = split(&good);
    let mut lying = header.clone();
    lying["ok"]["shape"] = json!([400, 64]);
    std::fs::write(place.path("lying"), safetensors(&lying, &data)).unwrap();
    std::fs::write(place.path("short"), &good[..good.len() - 5]).unwrap();
    std::fs::write(place.path("stub"), &good[..5]).unwrap();
    std::fs::write(place.path("nothing"), "").unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1024\n";
    std::fs::write(place.path("pointer"), pointer).unwrap();
    let packed = place.read("packed");
    std::fs::write(place.path("short packed"), &packed[..packed.len() - 1]).unwrap();
    for (bad, wanted) in [
        ("lying", ["lying", "`ok`"]),
        ("short", ["short", "truncated"]),
        ("stub", ["stub", "truncated"]),
        ("nothing", ["nothing", "empty"]),
        ("pointer", ["git-lfs", "git lfs pull"]),
        ("missing", ["missing", "No such file"]),
        ("short packed", ["short packed", "truncated"]),
    ] {
        place.fails(&["quantize", "--model", bad, "--format", "int4", "--output", "x"], &wanted);
        place.fails(&["inspect", "--model", bad], &wanted);
        place.fails(&["dequantize", bad, "--output", "x"], &wanted);
    }
    weights[130] = f32::NAN;
    place.write("nan", &[("fine", &[4, 64], &values(256, 1.0)), ("broken", &[4, 64], &weights)]);
    place.fails(
        &["quantize", "--model", "nan", "--format", "int4", "--output", "x"],
        &["`broken`", "[2, 2]", "NaN"],
    );
    weights[130] = f32::NEG_INFINITY;
    place.write("inf", &[("broken", &[2, 2, 64], &weights)]);
    place.fails(
        &["quantize", "--model", "inf", "--format", "f32", "--output", "x"],
        &["`broken`", "[1, 0, 2]", "-inf"],
    );

    std::fs::create_dir(place.path("folder")).unwrap();
    place.fails(&["quantize", "--model", "folder", "--format", "int4", "--output", "x"], &["config.json"]);
    place.fails(&["inspect", "--model", "folder"], &["config.json"]);
    place.fails(&["dequantize", "folder", "--output", "x"], &["not a file"]);
    std::fs::write(place.path("folder/config.json"), r#"{"architectures": ["T5Model"]}"#).unwrap();
    std::fs::copy(place.path("good"), place.path("folder/model.safetensors")).unwrap();
    place.fails(
        &["quantize", "--model", "folder", "--format", "int4", "--output", "x"],
        &["T5Model", "supported", "--model folder/model.safetensors"],
    );
    place.ok(&["quantize", "--model", "folder/model.safetensors", "--format", "int4", "--output", "y"]);

    place.fails(&["dequantize", "good", "--output", "x"], &["not written by `anybit quantize`"]);
    place.fails(&["quantize", "--model", "packed", "--format", "int4", "--output", "x"], &["packed already"]);
    place.write("vector", &[("v", &[64], &values(64, 1.0))]);
    place.fails(&["quantize", "--model", "vector", "--format", "int4", "--output", "x"], &["--vectors"]);
    place.write("odd", &[("w", &[3, 7], &values(21, 1.0))]);
    place.fails(
        &["quantize", "--model", "odd", "--format", "mxint_cuda", "--output", "x"],
        &["`w`", "21", "16"],
    );
}

#[test]
fn bad_requests_are_refused() {
    let place = Place::new();
    place.write(
        "in",
        &[("block.up", &[4, 64], &values(256, 1.0)), ("block.down.weight", &[2, 8], &values(16, 1.0))],
    );
    let quantize = |spec: &str, wanted: &[&str]| {
        place.fails(&["quantize", "--model", "in", "--format", spec, "--output", "x"], wanted);
    };
    quantize("int9", &["int9", "int8", "anybit formats"]);
    quantize("int4(group=33)", &["33", "multiple of 32"]);
    quantize("int4(size=32)", &["size", "group"]);
    quantize("base11(layout=9in32,group=0)", &["0", "65536"]);
    quantize("qlinear(bits=9)", &["9", "2 to 8"]);
    quantize("int4@base11", &["base11", "not defined for activations"]);
    quantize("", &["--format"]);
    let qconfig = |text: &[u8], wanted: &[&str]| {
        std::fs::write(place.path("q.json"), text).unwrap();
        place.fails(&["quantize", "--model", "in", "--qconfig", "q.json", "--output", "x"], wanted);
    };
    qconfig(br#"{"block.upp": "int4"}"#, &["block.upp", "near names: block.up"]);
    qconfig(br#"{"*.left": "int4"}"#, &["*.left", "none of the 2"]);
    qconfig(br#"{"block.up": "int44"}"#, &["block.up", "int44"]);
    qconfig(br#"{"block.up": 1}"#, &["block.up", "2 to 8"]);
    qconfig(br#"{"block.up": [1]}"#, &["block.up", "[1]"]);
    qconfig(br#"{}"#, &["nothing to quantize"]);
    qconfig(br#"["int4"]"#, &["not a JSON object"]);
    qconfig(br#"{"block.up": "#, &["not JSON"]);
    qconfig(b"{\"\xff\": 4}", &["UTF-8"]);
    place.fails(
        &["quantize", "--model", "in", "--qconfig", "no.json", "--output", "x"],
        &["no.json", "No such file"],
    );
    place.fails(&["quantize", "--model", "in", "--output", "x"], &["--format", "--qconfig"]);
    let both = ["quantize", "--model", "in", "--format", "int4", "--qconfig", "q.json", "--output", "x"];
    place.fails(&both, &["cannot be used with"]);

    let output = |output: &str, wanted: &[&str]| {
        place.fails(&["quantize", "--model", "in", "--format", "int4", "--output", output], wanted);
        place.fails(&["dequantize", "packed", "--output", output], wanted);
    };
    place.ok(&["quantize", "--model", "in", "--format", "int4", "--output", "packed"]);
    output("no/such/x", &["no/such/x", "no/such does not exist"]);
    output(".", &["names no file"]);
    std::fs::create_dir(place.path("folder")).unwrap();
    output("folder", &["not a regular file"]);
    if cfg!(unix) {
        output("/dev/null", &["not a regular file"]);
        output("/proc/x", &["cannot write /proc/x"]);
    }
    place.fails(&["quantize", "--model", "in", "--format", "int4", "--output", "./in"], &["is the input"]);
    place.fails(&["dequantize", "packed", "--output", "./packed"], &["is the input"]);
    place.fails(&["dequantize", "packed", "--output", "x", "--adapter", "no such GPU"], &["no such GPU"]);
    place.fails(
        &["dequantize", "packed", "--output", "x", "--backend", "cuda"],
        &["cuda", "gpu", "reference"],
    );
    assert_only(place.0.path(), &["folder", "in", "packed", "q.json"]);
}

/// A limit on the size of files acts like a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let place = Place::new();
    place.write("in", &[("w", &[400, 1000], &values(400_000, 1.0))]);
    place.ok(&["quantize", "--model", "in", "--format", "int4", "--output", "packed"]);
    let packed = place.read("packed");
    for line in [
        "quantize --model in --format f32 --output packed",
        "dequantize packed --backend reference --output in",
    ] {
        let before = (place.read("in"), place.read("packed"));
        let script = format!("trap '' XFSZ; ulimit -f 64; exec {} {line}", env!("CARGO_BIN_EXE_anybit"));
        let output = std::process::Command::new("sh")
            .current_dir(place.0.path())
            .args(["-c", &script])
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("cannot write") && !error.contains(".anybit-"), "{error}");
        assert!((place.read("in"), place.read("packed")) == before, "{line}");
        assert_only(place.0.path(), &["in", "packed"]);
    }
    assert!(place.read("packed") == packed);
}

/// Killed at any moment, the program leaves the old file or the complete new one.
#[test]
fn a_killed_run_leaves_the_old_file() {
    let place = Place::new();
    place.write("in", &[("w", &[3000, 1000], &values(3_000_000, 1.0))]);
    let line = ["quantize", "--model", "in", "--format", "int8(group=32)", "--output", "out"];
    place.ok(&line);
    let new = place.read("out");
    for delay in 0..8 {
        std::fs::write(place.path("out"), "old").unwrap();
        let mut child = place.command(&line).stdout(std::process::Stdio::null()).spawn().unwrap();
        let is_started = || {
            let mut entries = place.0.path().read_dir().unwrap();
            entries.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".anybit-"))
        };
        while !is_started() && child.try_wait().unwrap().is_none() {}
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = place.read("out");
        assert!(found == b"old" || found == new, "{} bytes", found.len());
        for entry in place.0.path().read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(".anybit-") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}
