//! What one program writes, the other reads.

use super::*;
use anybit::search::TrialState;
use anybit::search::journal::{Direction, WORKER};

#[test]
fn optuna_reads_what_anybit_writes() {
    let (_folder, path) = folder();
    let study_attrs = attrs(json!({ "space": { "layers": [1, 2.5, null] }, "name": "é\u{1f600} \"" }));
    let start = std::time::SystemTime::now();
    let mut journal = Journal::create(&path, "first", 2, &study_attrs).unwrap();
    let mut axes = axes(3);
    axes[1].choices = vec!["int4(group=32)".into(), "odd \" \\ \n é".into()];
    let mut trials = new_trials(&axes, 5);
    trials[2].user_attrs = attrs(json!({ "origin": "tpe" }));
    trials[2].system_attrs = attrs(json!({ "anybit:cost": [1e-300, 0.1 + 0.2] }));
    assert_eq!(journal.begin(&axes, &trials).unwrap(), [0, 1, 2, 3, 4]);
    let third = f64::from(1) / 3.0;
    journal
        .finish(&[
            complete(0, &[third, 1e22]),
            complete(1, &[5e-324, f64::MAX]),
            Finished {
                number: 2,
                outcome: Outcome::Failed,
                user_attrs: attrs(json!({ "why": "lost device" })),
                system_attrs: attrs(json!({ "code": 3 })),
            },
            complete(3, &[f64::NAN, 1.0]),
        ])
        .unwrap();
    journal.set_study_attr("late", json!({ "front": [1, 4] })).unwrap();

    // The same file has room for other studies; the numbers of their trials begin at 0 again.
    let mut other = Journal::create(&path, "second", 1, &Attrs::new()).unwrap();
    assert_eq!(other.begin(&axes, &trials[..2]).unwrap(), [0, 1]);
    assert_eq!(journal.begin(&axes, &trials[..1]).unwrap(), [5]);
    other.finish(&[complete(0, &[2.0]), complete(1, &[1.5])]).unwrap();
    journal.sync().unwrap();

    let study = journal.study();
    assert_eq!(study.directions, [Direction::Minimize; 2]);
    let states: Vec<_> = study.trials.iter().map(|trial| trial.state).collect();
    use TrialState::{Complete, Failed, Running};
    assert_eq!(states, [Complete, Complete, Failed, Failed, Running, Running]);
    assert_eq!(study.trials[1].values.as_deref(), Some(&[5e-324, f64::MAX][..]));
    assert_eq!(study.trials[3].values, None);
    assert_eq!(study.user_attrs["late"], json!({ "front": [1, 4] }));
    for (trial, wanted) in study.trials.iter().zip(&trials) {
        let point: Vec<_> = trial.params.iter().map(|param| param.index().unwrap()).collect();
        assert_eq!(point, wanted.point);
        let (began, ended) = (trial.datetime_start.unwrap(), trial.datetime_complete);
        // In the file are whole microseconds.
        assert!(began + std::time::Duration::from_micros(1) > start && began <= std::time::SystemTime::now());
        assert!(ended.is_none_or(|ended| ended >= began) && ended.is_some() == trial.is_finished());
        assert_eq!(trial.system_attrs[WORKER], json!(journal.worker()));
        assert_eq!(trial.param("layer 1").unwrap().value(), json!(axes[1].choices[point[1]]));
    }
    assert_eq!(assert_as_optuna(&journal), [vec![0, 1], vec![1]]);
}

#[test]
fn anybit_reads_what_optuna_writes() {
    let (_folder, path) = folder();
    output(python("drive.py").arg(&path));
    let mut journal = Journal::open(&path, Some("mixed")).unwrap();
    assert_as_optuna(&journal);

    // The comparison is worth something only if the file has what it is meant to have.
    let text = std::fs::read_to_string(&path).unwrap();
    for special in ["NaN", "Infinity", "\\udcff", "\"op_code\":10", "UniformDistribution"] {
        assert!(text.contains(special), "{special}");
    }
    let names: Vec<_> = journal.studies().map(|study| study.name.clone()).collect();
    assert_eq!(names, ["mixed", "many", "constrained", "gone"]);
    for state in 0..5 {
        assert!(journal.study().trials.iter().any(|trial| trial.state as i64 == state), "state {state}");
    }
    let constrained = Journal::open(&path, Some("constrained")).unwrap();
    assert!(constrained.study().trials[0].system_attrs.contains_key("constraints"));

    // Both go on with it.
    let axes = axes(1);
    assert_eq!(journal.orphans().unwrap(), NONE, "running trials of Optuna are its own");
    let number = journal.begin(&axes, &new_trials(&axes, 1)).unwrap()[0];
    journal.finish(&[complete(number, &[-9.0])]).unwrap();
    let before = journal.study().trials.len();
    output(python("append.py").arg(&path).args(["mixed", "3", "python"]));
    journal.sync().unwrap();
    assert_eq!(journal.study().trials.len(), before + 2, "the first of the three was waiting");
    assert_eq!(assert_as_optuna(&journal)[0], [number as u64]);
}

#[test]
fn a_reader_that_follows_sees_what_a_late_one_sees() {
    let (_folder, path) = folder();
    let mut journal = with_trials(&path, 1);
    let mut follower = Journal::open(&path, None).unwrap();
    output(python("append.py").arg(&path).args(["s", "2", "python"]));
    follower.sync().unwrap();
    let axes = axes(2);
    assert_eq!(journal.begin(&axes, &new_trials(&axes, 2)).unwrap(), [3, 4]);
    follower.sync().unwrap();
    assert_eq!(studies_json(&follower), studies_json(&Journal::open(&path, None).unwrap()));
    assert_as_optuna(&follower);
}
