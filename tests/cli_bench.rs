//! `anybit bench`: what is verified has a time, results can be read again, wrong input is said; no time is judged.

#[path = "support/program.rs"]
mod program;

use program::{Place, ROOT};
use serde_json::{Value, json};

/// Few samples: the tests look at what is said, not at how long it took.
const QUICK: [&str; 4] = ["--samples", "3", "--seconds", "0"];

fn read(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&place.read(name)).unwrap()
}

fn bench(place: &Place, line: &[&str]) -> String {
    place.ok(&[&["bench"], line].concat())
}

/// Order statistics in order.
fn assert_sound(measurement: &Value) {
    let numbers = ["min", "low", "median", "high", "max"].map(|name| measurement[name].as_f64().unwrap());
    assert!(numbers.is_sorted() && numbers[2] > 0.0, "{measurement}");
    assert!(measurement["samples"].as_u64().unwrap() >= 3);
}

#[test]
fn every_op_is_verified_timed_and_written() {
    let place = Place::new();
    let line = ["kernels", "--shape", "5x37x64", "--op", "gemm,gemm-int,dequant,attention,norm,quantize"];
    // Five queries over 37 positions in heads of 64; every other op takes the same three numbers.
    let more = ["--format", "int4(group=32)", "--json", "k.json", "--plot", "k.svg"];
    let table = bench(&place, &[&line[..], &more, &QUICK].concat());
    let document = read(&place, "k.json");
    assert_eq!((&document["anybit_bench"], &document["kind"]), (&json!(1), &json!("kernels")));
    for key in ["name", "driver", "backend"] {
        assert!(!document["device"][key].as_str().unwrap().is_empty(), "{key}");
    }
    assert!(document["date"].as_str().unwrap().ends_with('Z'));
    let command = document["command"].as_array().unwrap();
    assert!(command[0] == "anybit" || command[0] == "anybit.exe", "{command:?}");
    assert!(command.contains(&json!("5x37x64")));
    for key in ["copy", "f32", "dot4"] {
        assert!(document["ceilings"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let (op, failure) = (row["op"].as_str().unwrap(), &row["failure"]);
        assert_eq!(failure, &Value::Null, "{op}");
        let sides: &[&str] = if matches!(op, "norm" | "dequant") { &["fused"] } else { &["fused", "naive"] };
        assert_eq!(row["measurements"].as_object().unwrap().len(), sides.len(), "{op}");
        for &side in sides {
            assert_sound(&row["measurements"][side]);
            let verdict = &row[side]["verdict"];
            assert_eq!((&verdict["pass"], &verdict["at"]), (&json!(true), &Value::Null), "{op} {side}");
            assert!(verdict["nmse"].as_f64().unwrap() <= verdict["tolerance"].as_f64().unwrap());
            assert!(!row[side]["kernels"].as_array().unwrap().is_empty());
        }
        let fused = row["fused"]["kernels"][0].as_str().unwrap();
        assert!(table.contains(fused), "{fused} in\n{table}");
    }
    // The same as Markdown: a line per row, with the mark of what may have come from the cache and the ratio.
    let markdown = place.ok(&["bench", "table", "k.json"]);
    for row in rows {
        let start = format!("| `{}` | ", row["name"].as_str().unwrap());
        let line = markdown.lines().find(|line| line.starts_with(&start)).unwrap();
        let cached = row["fused"]["exceeds_cache"] == json!(false);
        assert_eq!(line.split(" | ").nth(2).unwrap().contains(" c "), cached, "{line}");
        if let Some(speed) = row["rates"]["speedup"].as_f64() {
            assert!(line.contains(&format!("| {speed:.2}x |")), "{line}");
        }
    }
    // 2 M N K of a product; the bytes of x, W and y.
    assert_eq!(rows[0]["operations"], 2 * 5 * 37 * 64);
    let packed = 37 * 64 / 2 + 37 * 64 / 32 * 2;
    assert_eq!(rows[0]["fused"]["bytes"], 4 * 5 * 64 + packed + 4 * 5 * 37);
    let svg = String::from_utf8(place.read("k.svg")).unwrap();
    let chart = roxmltree::Document::parse(&svg).unwrap();
    assert!(chart.descendants().any(|node| node.text().is_some_and(|text| text.contains("GOP/s"))));
}

#[test]
fn a_wall_clock_is_said_and_attention_has_four_times() {
    let place = Place::new();
    let line = ["attention", "--lengths", "9", "--head-dims", "8", "--heads", "2", "--clock", "wall"];
    let table = bench(&place, &[&line[..], &["--json", "a.json"], &QUICK].concat());
    let document = read(&place, "a.json");
    assert_eq!(document["clock"], "wall");
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| &row["causal"]).collect::<Vec<_>>(), [&json!(true), &json!(false)]);
    for row in rows {
        assert_eq!(row["failure"], Value::Null);
        for name in ["naive gpu", "fused gpu", "naive cpu", "fused cpu"] {
            assert_sound(&row["measurements"][name]);
        }
    }
    // Causal: 45 of 81 pairs.
    assert_eq!((&rows[0]["operations"], &rows[1]["operations"]), (&json!(4 * 16 * 45), &json!(4 * 16 * 81)));
    assert!(table.contains("9 tokens, 2 heads of 8, causal"), "{table}");
    let w = bench(
        &place,
        &[&["kernels", "--op", "norm", "--shape", "3x1x64", "--clock", "wall"][..], &QUICK].concat(),
    );
    assert!(w.contains(" w "), "{w}");
}

#[test]
fn models_are_timed_in_several_formats_and_compared() {
    let place = Place::new();
    let model = format!("{ROOT}/tests/data/stories260k");
    let line = ["model", "--model", &model, "--formats", "f32,int8@int8", "--pp", "9", "--tg", "4"];
    for name in ["a.json", "b.json"] {
        let table = bench(&place, &[&line[..], &["--repeats", "3", "--json", name]].concat());
        assert!(
            table.contains("pp9 t/s") && table.contains("int8@int8") || table.contains("qlinear"),
            "{table}"
        );
    }
    let a = read(&place, "a.json");
    for row in a["rows"].as_array().unwrap() {
        assert_eq!(row["failure"], Value::Null);
        for name in ["pp9", "tg4", "first token"] {
            assert_sound(&row["measurements"][name]);
        }
        assert!(row["device_bytes"].as_u64().unwrap() >= row["uploaded"].as_u64().unwrap());
        assert!(row["nmse"].as_f64().unwrap() < 1e-2);
    }
    let table = bench(&place, &["compare", "a.json", "b.json", "--json", "c.json"]);
    let lines = read(&place, "c.json")["lines"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 6);
    let same = bench(&place, &["compare", "a.json", "a.json"]);
    assert!(same.contains("0 faster, 0 slower, 6 noise"), "{same}\n{table}");
    // A steady run that is five times as fast is no noise.
    let (mut steady, mut faster) = (a.clone(), a.clone());
    for (name, factor) in [("median", 1.0), ("low", 0.99), ("high", 1.01), ("min", 0.98), ("max", 1.02)] {
        let rate = a["rows"][0]["measurements"]["tg4"]["median"].as_f64().unwrap() * factor;
        steady["rows"][0]["measurements"]["tg4"][name] = json!(rate);
        faster["rows"][0]["measurements"]["tg4"][name] = json!(rate * 5.0);
    }
    std::fs::write(place.path("c.json"), steady.to_string()).unwrap();
    std::fs::write(place.path("d.json"), faster.to_string()).unwrap();
    let changed = bench(&place, &["compare", "c.json", "d.json", "--changes"]);
    assert!(changed.contains("5.00x  faster") && changed.contains("1 faster"), "{changed}");
}

#[test]
fn startup_tells_when_it_has_paid() {
    let place = Place::new();
    let model = format!("{ROOT}/tests/data/stories260k");
    let line = ["startup", "--model", &model, "--pp", "4", "--tg", "2", "--repeats", "1", "--json", "s.json"];
    let table = bench(&place, &line);
    for want in ["cold", "warm", "n = 1", "n = 50", "reference", "naive"] {
        assert!(table.contains(want), "{want} in\n{table}");
    }
    let rows = read(&place, "s.json")["rows"].as_array().unwrap().clone();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fused", "naive", "reference"]);
    assert!(rows[0]["pipelines"].as_u64().unwrap() > 0);
}

#[test]
fn wrong_input_is_said_and_nothing_is_written() {
    let place = Place::new();
    let kernels = |more: &[&'static str]| -> Vec<&'static str> { [&["bench", "kernels"], more].concat() };
    for (line, wanted) in [
        (kernels(&["--shape", "0x4x4"]), "M is `0`"),
        (kernels(&["--shape", "4x4"]), "has 2 sizes"),
        (kernels(&["--shape", "ax4x4"]), "M is `a`"),
        (kernels(&["--op", "gemq"]), "no op is called `gemq`"),
        (kernels(&["--seconds", "nan"]), "want 0 to"),
        (kernels(&["--samples", "0"]), "at least 1"),
    ] {
        let output = place.run(&line);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}: {error}");
        assert!(error.contains(wanted) && !error.contains("panicked"), "{line:?}: {error}");
    }
    let fails = |more: &[&'static str], wanted: &[&str]| place.fails(&kernels(more), wanted);
    fails(&["--op", "gemv", "--format", "int99", "--shape", "1x8x8"], &["int99"]);
    fails(&["--op", "gemv", "--format", "int4,int4", "--shape", "1x8x8"], &["twice"]);
    fails(&["--op", "norm", "--format", "int4"], &["--format", "norm"]);
    fails(&["--op", "gemv", "--format", "q4_k", "--shape", "1x8x40"], &["1x8x40"]);
    fails(&["--op", "gemv", "--format", "f32", "--shape", "16777216x4x4096"], &["bytes in one binding"]);
    fails(&["--op", "gemv", "--format", "f32", "--shape", "1x16777216x4096"], &["weights; want at most"]);
    fails(&["--op", "attention", "--shape", "9x8x8"], &["9 queries", "M up to N"]);
    fails(&["--op", "norm", "--shape", "1x1x8", "--json", "no/such/folder.json"], &["cannot write"]);
    fails(&["--op", "norm", "--shape", "1x1x8", "--plot", "."], &["names no file"]);
    fails(&["--op", "norm", "--shape", "1x1x8", "--adapter", "no such"], &["no adapter matches"]);
    place.fails(&["bench", "attention", "--lengths", "4000000000"], &["in one binding"]);
    place.fails(&["bench", "model", "--pp", "100000"], &["context of"]);
    place.fails(&["bench", "startup", "--pp", "100000"], &["context of"]);
    std::fs::write(place.path("foreign.json"), "{\"rows\": 3}").unwrap();
    place.fails(&["bench", "compare", "foreign.json", "foreign.json"], &["no results of anybit bench"]);
    place.fails(&["bench", "compare", "gone.json", "foreign.json"], &["cannot read", "gone.json"]);
    place.fails(&["bench", "compare", ".", "foreign.json"], &["cannot read"]);
}

#[test]
fn tiles_are_kept_used_and_forgotten() {
    let place = Place::new();
    let cache = place.path("cache");
    let anybit = |line: &[&str]| {
        let mut command = place.command(line);
        command.env("ANYBIT_CACHE", &cache);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let tune = ["bench", "tune", "--shape", "2x37x64", "--format", "int4(group=32),f32"];
    let (code, table, notes) = anybit(&[&tune[..], &["--json", "t.json"], &QUICK].concat());
    assert_eq!(code, Some(0), "{notes}");
    assert!(table.contains("gemm int4(group=32) 2x37x64") && notes.contains("kept"), "{table}{notes}");
    let document = read(&place, "t.json");
    assert_eq!(document["kind"], "tune");
    for row in document["rows"].as_array().unwrap() {
        assert!(row["candidates"].as_u64().unwrap() > 1);
        assert_sound(&row["measurements"]["default"]);
        assert_sound(&row["measurements"]["best"]);
    }
    let (code, markdown, _) = anybit(&["bench", "table", "t.json"]);
    assert_eq!(code, Some(0));
    assert!(markdown.contains(
        "| tune | default | best | speed |\n|---|--:|--:|--:|\n| `gemm int4(group=32) 2x37x64` | "
    ));
    let kernels = ["bench", "kernels", "--op", "gemv", "--shape", "2x37x64", "--format", "f32"];
    let (code, _, notes) = anybit(&[&kernels[..], &QUICK].concat());
    assert!(code == Some(0) && notes.contains("measured for 2 products"), "{notes}");
    let (code, _, notes) = anybit(&["bench", "tune", "--forget"]);
    assert!(code == Some(0) && notes.contains("tiles-"), "{notes}");
    let (code, _, notes) = anybit(&["bench", "tune", "--forget"]);
    assert!(code == Some(0) && notes.contains("nothing was kept"), "{notes}");
    let (_, _, notes) = anybit(&[&kernels[..], &QUICK].concat());
    assert!(!notes.contains("measured for"), "{notes}");
    for wrong in [
        &["bench", "tune", "--rows", "0"][..],
        &["bench", "tune", "--format", "int99"],
        &["bench", "tune", "--shape", "1x0x4"],
        &["bench", "tune", "--forget", "--shape", "1x2x3"],
    ] {
        let (code, _, notes) = anybit(wrong);
        assert!(code == Some(2) && !notes.contains("panicked"), "{wrong:?}: {notes}");
    }
}

/// Tables of the README are what `bench table` makes of the files they name.
#[test]
fn the_readme_has_the_committed_results() {
    let place = Place::new();
    let readme = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    let mut tables = 0;
    for part in readme.split("<!-- anybit bench table ").skip(1) {
        let (files, rest) = part.split_once(" -->\n").unwrap();
        let (text, _) = rest.split_once("<!-- end -->").unwrap();
        let files: Vec<String> = files.split(' ').map(|file| format!("{ROOT}/{file}")).collect();
        let line: Vec<&str> =
            ["bench", "table"].into_iter().chain(files.iter().map(String::as_str)).collect();
        assert_eq!(text.trim(), place.ok(&line).trim(), "run `anybit bench table` again");
        tables += 1;
    }
    assert!(tables > 0);
}
