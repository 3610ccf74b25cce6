//! `anybit formats` with its chart and its table, and the warnings of `inspect`.

#[path = "support/program.rs"]
mod program;

use anybit::format::{Format, Spec};
use anybit::graph::{Role, Weights as _};
use anybit::model::Model;
use program::{Place, assert_only, values};
use serde_json::{Value, json};

/// Rows of the embedded model's block linears with their weights.
fn linears() -> Vec<(usize, Vec<f32>)> {
    let model = Model::embedded().unwrap();
    let weights = model.graph().weights.iter().enumerate();
    let linears = weights.filter(|(_, weight)| weight.role == Role::Linear);
    linears.map(|(id, weight)| (weight.cols, model.packed(id, Format::F32).unwrap().decode())).collect()
}

/// SQNR in dB and mean squared error of symmetric integers with an f32 scale per row, by their formula.
fn int_per_row(matrices: &[(usize, Vec<f32>)], qmax: f32) -> (f64, f64) {
    let (mut signal, mut noise, mut count) = (0.0, 0.0, 0);
    for (cols, weights) in matrices {
        for row in weights.chunks(*cols) {
            let scale = row.iter().fold(0.0f32, |max, w| max.max(w.abs())) / qmax;
            for &w in row {
                let q = (w / scale).round_ties_even() * scale;
                signal += f64::from(w) * f64::from(w);
                noise += (f64::from(w) - f64::from(q)).powi(2);
                count += 1;
            }
        }
    }
    (10.0 * (signal / noise).log10(), noise / f64::from(count))
}

fn near(got: &Value, want: f64) {
    let got = got.as_f64().unwrap();
    assert!((got - want).abs() <= 1e-9 * want.abs(), "got {got}, want {want}");
}

#[test]
fn every_format_is_listed_with_its_bits() {
    let place = Place::new();
    let json = place.json(&["formats", "--json"]);
    assert_eq!((&json["shape"], &json["model"]), (&json!([4096, 4096]), &Value::Null));
    let text = place.ok(&["formats"]);
    let rows: Vec<&str> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let catalog = Format::catalog();
    assert_eq!((rows.len(), json["formats"].as_array().unwrap().len()), (catalog.len(), catalog.len()));
    for ((row, listed), format) in rows.iter().zip(json["formats"].as_array().unwrap()).zip(catalog) {
        let bits = format.bits_per_weight(4096, 4096).unwrap();
        let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells[0].parse::<Spec>().unwrap(), Spec::from(format));
        assert_eq!(cells[1], format!("{bits:.4}"));
        assert_eq!(listed["spec"].as_str().unwrap().parse::<Spec>().unwrap(), Spec::from(format));
        near(&listed["bits_per_weight"], bits);
        let grid = format.value_grid();
        near(&listed["low"], grid.low);
        near(&listed["high"], grid.high);
        assert_eq!(listed["storage"] == "f32", format.is_wide(), "{format}");
        assert_eq!(listed["activation"], cells[6] == "yes", "{format}");
        assert_eq!(listed["error"], Value::Null);
        assert_eq!(listed.get("sqnr_db"), None);
    }
    let row =
        |label: &str| rows.iter().find(|row| row.starts_with(&format!("{label} "))).unwrap().to_string();
    for (label, wanted) in [
        ("int4(group=128)", ["4.1250", "±7 × s", "GEMV, GEMM, integer"]),
        ("integer(8,4)", ["8.0000", "-8 … 7.9375  ", "0.0625"]),
        ("mxfp4", ["4.2500", "±6 × 2^e", "yes"]),
        ("integer(16,8)", ["16.0000", "-128 … 127.99609375", "f32 storage"]),
        ("uint4", ["4.2500", "0 … 15 × s + m", "integer"]),
    ] {
        assert!(wanted.iter().all(|wanted| row(label).contains(wanted)), "{}", row(label));
    }
}

#[test]
fn shapes_and_specs_of_ones_own() {
    let place = Place::new();
    let specs =
        ["int4(group=32)@int8", "qlinear(bits=4)", "q4_k", "mxint_cuda(group=64)", "minifloat_denorm(4,4)"];
    let line = [&["formats", "--json", "--shape", "3x100"][..], &specs].concat();
    let json = place.json(&line);
    let listed = json["formats"].as_array().unwrap();
    let got: Vec<Spec> = listed.iter().map(|f| f["spec"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(got, specs.map(|spec| spec.parse().unwrap()));
    // 13 words of codes and 4 f16 scales in each of 3 rows.
    near(&listed[0]["bits_per_weight"], f64::from((3 * 13 + 6) * 32) / 300.0);
    assert_eq!(listed[0]["kernels"], json!(["gemv", "gemm", "gemv_i8", "gemm_i8"]));
    for (index, words) in [(2, "not a multiple of 256"), (3, "not a multiple of group = 64")] {
        assert_eq!(listed[index]["bits_per_weight"], Value::Null);
        assert_eq!(listed[index]["kernels"], json!([]));
        assert!(listed[index]["error"].as_str().unwrap().contains(words), "{}", listed[index]["error"]);
    }
    let text = place.ok(&[&["formats", "--shape", "3x100"][..], &specs].concat());
    assert!(text.contains("rows are not a multiple of 256 weights"), "{text}");
}

#[test]
fn noise_is_that_of_an_independent_sum() {
    let place = Place::new();
    let (decibels, mse) = int_per_row(&linears(), 127.0);
    let json = place.json(&["formats", "int8(scale=row)", "f16", "q4_k", "--model", "--json"]);
    assert_eq!(json["model"], "shakespeare");
    let listed = &json["formats"];
    near(&listed[0]["sqnr_db"], decibels);
    near(&listed[0]["mse"], mse);
    // The checkpoint is f16: nothing is lost, and infinity is no number of JSON.
    assert_eq!((&listed[1]["sqnr_db"], listed[1]["mse"].as_f64()), (&Value::Null, Some(0.0)));
    assert!(listed[2]["error"].as_str().unwrap().contains("`model.layers.0."), "{}", listed[2]["error"]);
    assert_eq!(listed[2].get("mse"), None);
    let text = place.ok(&["formats", "int8(scale=row)", "f16", "--model=shakespeare"]);
    assert!(text.contains(&format!("{decibels:.2}")) && text.contains("exact"), "{text}");
    assert!(text.contains("42 block linears of shakespeare, 2.43 M weights"), "{text}");

    // A plain file: all of its matrices, here of different size.
    let (a, b) = (values(8 * 40, 0.1), values(6 * 64, 3.0));
    place.write("in", &[("a", &[2, 4, 40], &a), ("b", &[6, 64], &b), ("v", &[64], &b[..64])]);
    let (decibels, mse) = int_per_row(&[(40, a), (64, b)], 7.0);
    let json = place.json(&["formats", "int4(scale=row)", "--model", "in", "--json"]);
    near(&json["formats"][0]["sqnr_db"], decibels);
    near(&json["formats"][0]["mse"], mse);
}

#[test]
fn bad_requests_are_refused() {
    let place = Place::new();
    place.write("in", &[("w", &[4, 64], &values(256, 1.0))]);
    place.write("vector", &[("v", &[64], &values(64, 1.0))]);
    place.ok(&["quantize", "--model", "in", "--format", "int4", "--output", "packed"]);
    place.fails(&["formats", "int9"], &["int9", "int8"]);
    place.fails(&["formats", "int4", "--model", "missing"], &["missing", "No such file"]);
    place.fails(&["formats", "--model", "int4"], &["int4", "write it before --model"]);
    place.fails(&["formats", "--model", "packed"], &["packed", "original checkpoint"]);
    place.fails(&["formats", "--model", "vector"], &["vector", "no matrices"]);
    for bad in ["0x4", "4096", "4xx", "-1x3"] {
        place.fails(&["formats", &format!("--shape={bad}")], &[bad, "4096x4096"]);
    }
    place.fails(&["formats", "plot"], &["SPEC"]);
    place.fails(&["formats", "plot", "nf5"], &["nf5", "nf4"]);
    place.fails(&["formats", "table", "--model", "in", "--windows", "1"], &["in", "model folder"]);
    place.fails(&["formats", "table", "int4", "--reference", "in"], &["in"]);
    std::fs::write(place.path("losses"), r#"[{"format": "int4"}]"#).unwrap();
    place.fails(&["formats", "table", "int4", "--reference", "losses"], &["losses", "\"loss\""]);
    let line = ["formats", "table", "int4", "--windows", "1", "--journal", "no/journal"];
    let output = place.run(&line);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/journal"));
    // Nothing is written where a chart cannot be.
    let plot = |out: &str, wanted: &[&str]| {
        place.fails(&["formats", "plot", "int4", "--model", "in", "--out", out], wanted);
    };
    plot("no/such.svg", &["no/such.svg", "does not exist"]);
    plot(".", &["names no file"]);
    std::fs::create_dir(place.path("folder")).unwrap();
    plot("folder", &["not a regular file"]);
    if cfg!(unix) {
        plot("/dev/full", &["not a regular file"]);
    }
    assert_only(place.0.path(), &["folder", "in", "losses", "packed", "vector"]);
}

/// Texts of a chart, which must be well-formed.
fn texts(place: &Place, name: &str) -> Vec<String> {
    let svg = String::from_utf8(place.read(name)).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{name}: {error}"));
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    let size = |name: &str| root.attribute(name).unwrap().parse::<u32>().unwrap();
    assert!(size("width") == 960 && (400..4000).contains(&size("height")));
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn charts_are_well_formed_and_name_every_format() {
    let place = Place::new();
    // Names that XML does not take as they are.
    place.write("a&b<c>.safetensors", &[("w", &[8, 256], &values(2048, 0.1))]);
    let specs = ["int4(group=32)", "mxfp4", "nf4", "integer(8,4)", "f32", "binary"];
    let line = ["formats", "plot", "--model", "a&b<c>.safetensors", "--out", "linear.svg"];
    let said = place.ok(&[&line[..], &specs].concat());
    assert!(said.starts_with("linear.svg: 6 formats"), "{said}");
    let found = texts(&place, "linear.svg");
    let count = |text: &str| found.iter().filter(|found| *found == text).count();
    // Once at its values, and once at its point.
    for spec in &specs[..4] {
        assert_eq!(count(spec), 2, "{spec}: {found:?}");
    }
    for text in ["±7 × s", "±6 × 2^e", "-8 … 7.9375", "SQNR in dB", "Not shown, exact: f32"] {
        assert_eq!(count(text), 1, "{text}: {found:?}");
    }
    assert!(found.iter().any(|text| text.contains("a&b<c>.safetensors")), "{found:?}");
    // f32 asks for logarithms, which can be declined.
    assert!(found.iter().any(|text| text.contains("log scale")));
    place.ok(&[&line[..], &specs, &["--axis", "linear"]].concat());
    assert!(!texts(&place, "linear.svg").iter().any(|text| text.contains("log scale")));
    // The same format twice: two points in one place.
    let line = ["formats", "plot", "int4", "int4", "--model", "a&b<c>.safetensors", "--out", "linear.svg"];
    let json = place.json(&[&line[..], &["--json"]].concat());
    assert_eq!((&json["output"], json["formats"].as_array().unwrap().len()), (&json!("linear.svg"), 2));
    assert_eq!(texts(&place, "linear.svg").iter().filter(|text| *text == "int4").count(), 4);
    assert_only(place.0.path(), &["a&b<c>.safetensors", "linear.svg"]);
}

#[test]
fn the_whole_catalog_fits_a_chart() {
    let place = Place::new();
    place.write("in", &[("w", &[8, 256], &values(2048, 0.1))]);
    let labels: Vec<String> = Format::catalog().iter().map(Format::to_string).collect();
    let mut line = vec!["formats", "plot", "--model", "in", "--out", "all.svg"];
    line.extend(labels.iter().map(String::as_str));
    place.ok(&line);
    let found = texts(&place, "all.svg");
    assert!(found.iter().filter(|text| text.contains(" × s") || text.contains(" × 2^e")).count() > 40);
}

#[test]
fn the_table_has_the_figures_of_eval_and_goes_on_where_it_was() {
    let place = Place::new();
    let eval = place.ok(&["eval", "--format", "nf4", "--windows", "2", "--json"]);
    let eval: Value = serde_json::from_str(&eval).unwrap();
    let table = ["formats", "table", "nf4", "q4_k", "int8(scale=row)", "--windows", "2", "--journal", "rows"];
    let json = place.json(&[&table[..], &["--json"]].concat());
    let rows = json["formats"].as_array().unwrap();
    for key in ["loss", "kl", "top1_agreement", "baseline_loss", "perplexity", "bits_per_weight"] {
        near(&rows[0][key], eval[key].as_f64().unwrap());
    }
    assert!(rows[1]["error"].as_str().unwrap().contains("q4_k"), "{}", rows[1]);
    near(&rows[2]["sqnr_db"], int_per_row(&linears(), 127.0).0);

    std::fs::write(place.path("losses"), r#"[{"format": "nf4", "loss": 3.25}]"#).unwrap();
    let output = place.run(&[&table[..], &["--reference", "losses"]].concat());
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && notes.contains("2 of 3 rows"), "{notes}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("| format | bits per weight | MB | SQNR in dB | loss | reference |"),
        "{text}"
    );
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines[..5].iter().map(|line| cells(line).len()).collect::<Vec<_>>(), [9; 5]);
    let nf4 = cells(lines[2]);
    assert_eq!((nf4[0].as_str(), nf4[1].as_str()), ("`nf4`", "4.250"));
    assert_eq!(nf4[4], format!("{:.4}", eval["loss"].as_f64().unwrap()));
    // Two windows are not the text that the reference is of.
    assert_eq!(nf4[5], "");
    assert!(lines[6].starts_with("`q4_k` cannot be measured: "), "{text}");
    // Other windows are another measurement.
    let line = ["formats", "table", "nf4", "--windows", "1", "--journal", "rows", "--json"];
    assert_ne!(place.json(&line)["formats"][0]["loss"], rows[0]["loss"]);
    assert_eq!(String::from_utf8(place.read("rows")).unwrap().lines().count(), 3);
}

#[test]
fn inspect_warns_of_formats_that_cannot_hold_the_weights() {
    let place = Place::new();
    // Magnitudes up to 0.1, half of them below 0.0125.
    place.write("in", &[("a", &[4, 64], &values(256, 0.1)), ("b", &[8, 64], &values(512, 0.1))]);
    let warnings = |spec: &str| {
        place.json(&["inspect", "--model", "in", "--format", spec, "--json"])["warnings"].clone()
    };
    let found = warnings("integer(8,2)");
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!((&found[0]["tensor"], &found[0]["reason"]), (&json!("a"), &json!("step_above_maximum")));
    assert_eq!(
        (&found[0]["format"], &found[0]["step"]),
        (&json!("integer(width=8,frac_width=2)"), &json!(0.25))
    );
    near(&found[0]["zeroed"], 1.0);
    assert!(
        found[0]["max"].as_f64().unwrap() <= 0.1 && found[0]["message"].as_str().unwrap().contains("0.25")
    );
    let found = warnings("minifloat_denorm(4,4)");
    assert_eq!((&found[0]["reason"], &found[0]["bits"]), (&json!("mantissa_bits"), &json!(-1)));
    assert_eq!(warnings("minifloat_denorm(8,2,15)")[1]["reason"], "range_below_median");
    for spec in ["int4", "mxint4", "nf4", "f16", "integer(16,14)", "base11", "minifloat_ieee(8,4)"] {
        assert_eq!(warnings(spec), json!([]), "{spec}");
    }
    // Tensors with the same warning are one line, unless all are asked for.
    let lines = |more: &[&str]| {
        let output = place.run(&[&["inspect", "--model", "in", "--format", "integer(8,2)"], more].concat());
        assert!(output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        text.lines().filter(|line| line.starts_with("WARNING: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]).len(), 1);
    assert!(
        lines(&[])[0].contains("2 tensors in integer(width=8,frac_width=2), such as `a`"),
        "{:?}",
        lines(&[])
    );
    assert_eq!(lines(&["--all"]).len(), 2);
    std::fs::write(place.path("q.json"), r#"{"b": "integer(8,2)", "a": "int4"}"#).unwrap();
    let json = place.json(&["inspect", "--model", "in", "--qconfig", "q.json", "--json"]);
    assert_eq!(
        (json["warnings"].as_array().unwrap().len(), &json["warnings"][0]["tensor"]),
        (1, &json!("b"))
    );
    // The model inside the program, without and with a format.
    assert_eq!(place.json(&["inspect", "--json"])["warnings"], json!([]));
    let json = place.json(&["inspect", "--format", "minifloat_denorm(5,4)", "--json"]);
    assert_eq!(json["warnings"].as_array().unwrap().len(), 42);
}
