//! What a search leaves behind.

use serde_json::Value;

use super::program::Place;
use super::{line, read_json};

#[test]
fn a_search_writes_what_other_verbs_read_and_uploads_nothing_while_it_runs() {
    let place = Place::new();
    let text =
        place.ok(&line(&["--trials", "40", "--out", "s", "--json", "--objective", "kl,bytes,latency"]));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["trials"], 40);
    assert_eq!(report["usage"]["reloaded_bytes"], 0);
    assert_eq!(report["usage"]["evictions"], 0);
    assert!(report["run"]["trials_per_second"].as_f64().unwrap() > 0.0);
    for trial in report["front"].as_array().unwrap() {
        assert!(trial["latency"].as_f64().unwrap() > 0.0);
    }

    // The best one, measured by `eval` on the same window: the same loss; and of the same size.
    let best = &report["best"];
    let eval = |more: &[&str]| -> Value {
        let line: Vec<&str> =
            ["eval", "--windows", "1", "--context", "32", "--json"].iter().chain(more).copied().collect();
        serde_json::from_str(&place.ok(&line)).unwrap()
    };
    let got = eval(&["--qconfig", "s/best.json"]);
    assert_eq!(got["bytes"], best["bytes"]);
    for key in ["loss", "kl"] {
        let (got, want) = (got[key].as_f64().unwrap(), best[key].as_f64().unwrap());
        assert!((got - want).abs() <= want * 1e-6, "{key}: {got} not {want}");
    }
    // And it can be packed: the file runs as it was measured.
    place.ok(&["quantize", "--qconfig", "s/best.json", "--output", "packed.safetensors"]);
    let packed = eval(&["--model", "packed.safetensors"]);
    assert_eq!((&packed["loss"], &packed["bytes"]), (&got["loss"], &got["bytes"]));
    let text = place.ok(&["generate", "--qconfig", "s/best.json", "--prompt", "ROMEO:", "--max-tokens", "5"]);
    assert!(!text.is_empty());

    // One file per member that was measured again.
    for last in report["finals"].as_array().unwrap() {
        let file = last["file"].as_str().unwrap();
        assert!(read_json(&place, &format!("s/{file}")).is_object(), "{file}");
        assert!(last["latency_whole"].as_f64().unwrap() > 0.0);
    }
    let csv = std::fs::read_to_string(place.path("s/trials.csv")).unwrap();
    assert_eq!(csv.lines().count(), 41);
    let html = std::fs::read_to_string(place.path("s/report.html")).unwrap();
    assert!(html.contains("<svg") && !html.contains("http://www.w3.org/1999/xlink"));
    for outside in ["src=\"http", "href=\"http", "@import", "url("] {
        assert!(!html.contains(outside), "the report refers to something outside: {outside}");
    }
    let costs = read_json(&place, "s/costs.json");
    assert!(costs["layers"].as_array().unwrap().len() >= 42);

    // A uniform baseline of as many bytes is never better than the front.
    let uniform = report["uniform"].as_array().unwrap();
    assert!(!uniform.is_empty());
}

#[test]
fn a_second_search_finds_weights_packed_and_a_resumed_one_adds_trials() {
    let place = Place::new();
    place.ok(&line(&["--trials", "6", "--out", "s", "--sampler", "grid"]));
    let packed = place.path("cache").read_dir().unwrap().count();
    assert!(packed >= 42 * 3, "{packed} packed weights");
    let text = place.ok(&["search", "--resume", "--out", "s", "--trials", "9", "--cache", "cache", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["trials"], &report["run"]["trials"]), (&9.into(), &3.into()));
    assert_eq!(place.path("cache").read_dir().unwrap().count(), packed);
}

#[test]
fn comparisons_tell_medians_and_draw_them() {
    let place = Place::new();
    let options = ["--windows", "1", "--context", "16", "--cache", "cache", "--trials", "10", "--seeds", "2"];
    let compare = |more: &[&str]| {
        let line: Vec<&str> = ["search", "compare"].iter().chain(more).chain(&options).copied().collect();
        place.ok(&line)
    };
    let text =
        compare(&["--samplers", "random,grid", "--space", "int4,int8", "--out", "c", "--svg", "c.svg"]);
    assert!(text.contains("random") && text.contains("grid"), "{text}");
    let html = std::fs::read_to_string(place.path("c/compare.html")).unwrap();
    assert!(html.contains("<svg"));
    assert!(roxmltree::Document::parse(&std::fs::read_to_string(place.path("c.svg")).unwrap()).is_ok());
    let text = compare(&[
        "--families",
        "log",
        "--families",
        "mx=mxint4|8",
        "--sampler",
        "random",
        "--out",
        "f",
        "--objective",
        "loss",
    ]);
    assert!(text.contains("log") && text.contains("mx"), "{text}");
}
