use roxmltree::{Document, ParsingOptions};

use super::synthetic::{ODD, Shape, comparison, shapes, study};
use super::*;

fn parse(text: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// No number is NaN or infinite, and nothing outside the file is referred to.
fn assert_sound(text: &str, what: &str) {
    let document = parse(text);
    for node in document.descendants() {
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(!matches!(name, "href" | "src" | "onclick"), "{what}: {name}={value}");
            if matches!(
                name,
                "d" | "x" | "y" | "cx" | "cy" | "r" | "width" | "height" | "viewBox" | "transform"
            ) {
                assert!(!value.contains("NaN") && !value.contains("inf"), "{what}: {name}={value}");
            }
        }
        let own = node.text().filter(|_| node.is_element()).unwrap_or_default();
        assert!(!own.contains("NaN") && !own.split(' ').any(|word| word == "inf"), "{what}: {own}");
    }
    assert!(!style_and_script(text).contains("http"), "{what}");
}

fn style_and_script(text: &str) -> String {
    text.replace("http://www.w3.org/", "")
}

#[test]
fn pages_and_charts_are_sound_xml_whatever_the_study() {
    for shape in shapes() {
        let summary = study(&shape);
        let what = format!("{} blocks, {} trials, {}", shape.blocks, shape.trials, shape.objective);
        assert_sound(&html(&summary), &what);
        assert_sound(&progress_svg(&summary), &what);
        assert_sound(&scatter_svg(&summary), &what);
    }
}

#[test]
fn pages_say_what_they_must() {
    let multi = html(&study(&Shape::default()));
    for want in [
        "Hypervolume",
        "Divergence against size",
        "Loss against size",
        "latency",
        "Sensitivity",
        "Pareto front",
    ] {
        assert!(multi.contains(want), "{want}");
    }
    assert!(multi.contains(">int4(group=32)</text>"), "labels of baselines");
    assert!(
        multi.contains("int5(group=32)\n5.5 bits/weight".replace('\n', "&#10;").as_str()),
        "tips of choices"
    );
    let single = html(&study(&Shape { objective: "kl", ..Shape::default() }));
    assert!(single.contains("Best so far") && single.contains("best kl (nats/token)"));
    let none = html(&study(&Shape { trials: 0, ..Shape::default() }));
    assert!(none.contains("No trial is complete") && none.contains("too few trials"));
    let failed = html(&study(&Shape { failed: true, trials: 9, ..Shape::default() }));
    assert!(failed.contains("9 failed"));
    let odd = study(&Shape { odd: true, trials: 120, ..Shape::default() });
    let page = html(&odd);
    let document = parse(&page);
    let heading =
        document.descendants().find(|node| node.has_tag_name(("http://www.w3.org/1999/xhtml", "h1")));
    assert_eq!(heading.and_then(|node| node.text()), Some(ODD.replace('\u{1}', "\u{fffd}").as_str()));
}

#[test]
fn baselines_measured_beside_the_trials_are_on_the_page() {
    let mut summary = study(&Shape::default());
    let beside = summary.trials[3].measurement.clone();
    // As if nothing uniform had been tried.
    summary.uniform = vec![Uniform { spec: "beside(x)".to_owned(), trial: None, measurement: beside }];
    summary.trials.retain(|trial| trial.number > 9);
    summary.front.retain(|number| *number > 9);
    let page = html(&summary);
    assert_sound(&page, "beside");
    assert!(page.contains("all layers beside(x)") && page.contains(">beside(x)</text>"));
    assert!(page.contains("<td class=\"l w\">beside(x)</td>"));
    let volume = progress_svg(&summary);
    assert!(volume.contains("one spec everywhere"), "{volume}");
    assert!(table(&summary).contains("all beside(x)"));
}

/// A reader of RFC 4180.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !quoted);
    rows
}

#[test]
fn csv_is_read_back() {
    for shape in shapes() {
        let summary = study(&shape);
        let rows = read_csv(&csv(&summary));
        assert_eq!(rows.len(), summary.trials.len() + 1);
        let head = &rows[0];
        let column = |name: &str| head.iter().position(|cell| cell == name).unwrap();
        for (row, trial) in rows[1..].iter().zip(&summary.trials) {
            assert_eq!(row.len(), head.len());
            assert_eq!(row[column("number")], trial.number.to_string());
            assert_eq!(row[column("origin")], trial.origin);
            assert_eq!(row[column("kl")].parse().ok(), trial.measurement.as_ref().map(|m| m.kl));
            for (name, value) in summary.objective.names().iter().zip(&trial.values) {
                assert_eq!(row[column(&format!("objective_{name}"))].parse(), Ok(*value));
            }
            for (dimension, &choice) in summary.dimensions.iter().zip(&trial.point) {
                assert_eq!(row[column(&dimension.name)], dimension.candidates[choice]);
            }
        }
    }
}

#[test]
fn csv_of_points_that_are_not_of_this_space() {
    let mut summary = study(&Shape { trials: 20, ..Shape::default() });
    summary.trials[3].point = vec![99; 28];
    summary.trials[4].point.clear();
    summary.trials[5].measurement.as_mut().unwrap().loss = f64::NAN;
    summary.trials[6].number = 1000;
    summary.uniform.push(Uniform { spec: "int4".to_owned(), trial: Some(5000), measurement: None });
    summary.front.push(4000);
    summary.baseline_loss = Some(f64::NAN);
    summary.times.device = f64::NAN;
    let rows = read_csv(&csv(&summary));
    assert_eq!(rows[4].last().map(String::as_str), Some(""));
    assert_eq!(rows[6][5], "", "a loss that is no number");
    assert_sound(&html(&summary), "damaged");
    assert!(!table(&summary).contains("NaN"));
}

#[test]
fn tables_are_aligned_and_thin() {
    let text = table(&study(&Shape { trials: 600, ..Shape::default() }));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("600 trials"), "{text}");
    assert!(lines[1].contains("bits/weight") && lines[1].contains("latency"));
    assert!(lines.iter().any(|line| line.contains("all int4(group=32)")), "{text}");
    assert!(lines.len() < 12 + 7 + 5, "{text}");
    let ends =
        |line: &str| line.find("bits/weight").map(|at| line[..at].chars().count() + "bits/weight".len());
    let end = ends(lines[1]).unwrap();
    for line in lines.iter().skip(2).filter(|line| line.starts_with("front")) {
        assert!(line.chars().nth(end - 1).is_some_and(|c| c.is_ascii_digit()), "{text}");
    }
    let odd = table(&study(&Shape { odd: true, trials: 60, ..Shape::default() }));
    assert!(!odd.contains('\u{1}'));
    assert!(table(&study(&Shape { trials: 0, ..Shape::default() })).contains("nothing was measured"));
    let best = table(&study(&Shape { objective: "kl", ..Shape::default() }));
    assert!(best.lines().any(|line| line.starts_with("best")), "{best}");
}

#[test]
fn comparisons() {
    let mut some = comparison(3);
    let page = html_compare(&some);
    assert_sound(&page, "comparison");
    assert_sound(&compare_svg(&some), "comparison");
    assert!(page.contains("tpe 1") && page.contains("IQR"));
    some.groups.push(Group::default());
    some.groups.push(Group { label: ODD.to_owned(), studies: vec![Study::default()] });
    some.groups[0].studies[0].best = vec![f64::INFINITY; 3];
    some.groups[0].studies[1].front = vec![(f64::NAN, 1.0)];
    assert_sound(&html_compare(&some), "odd comparison");
    for groups in [0, 12] {
        assert_sound(&html_compare(&comparison(groups)), "number of groups");
    }
}

#[test]
fn charts_of_many_trials_stay_small() {
    let mut summary = study(&Shape { objective: "kl", ..Shape::default() });
    let some: Vec<Trial> = summary.trials.clone();
    summary.trials = (0..9000).map(|number| Trial { number, ..some[number % some.len()].clone() }).collect();
    assert!(html(&summary).len() < 4 << 20);
}

/// Pages to look at: `cargo test --release --lib search::report -- --ignored`, then open `target/report/*.html`.
#[test]
#[ignore = "writes pages to look at"]
fn write_pages() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, shape) in
        ["multi", "single", "scalar", "three", "four", "none", "one", "failed", "empty", "odd"]
            .iter()
            .zip(shapes())
    {
        let summary = study(&shape);
        std::fs::write(folder.join(format!("{name}.html")), html(&summary)).unwrap();
        std::fs::write(folder.join(format!("{name}.csv")), csv(&summary)).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), table(&summary)).unwrap();
        std::fs::write(folder.join(format!("{name}.svg")), scatter_svg(&summary)).unwrap();
    }
    let deep = Shape { blocks: 30, trials: 1500, ..Shape::default() };
    std::fs::write(folder.join("deep.html"), html(&study(&deep))).unwrap();
    std::fs::write(folder.join("compare.html"), html_compare(&comparison(3))).unwrap();
    std::fs::write(folder.join("compare.svg"), compare_svg(&comparison(3))).unwrap();
}
