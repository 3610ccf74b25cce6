//! Files that are cut short, corrupt or of something else.

use super::*;
use std::fs;

fn refusal(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let message = Journal::open(path, None).unwrap_err().to_string();
    let created = Journal::create(path, "new", 1, &Attrs::new()).unwrap_err().to_string();
    assert_eq!(fs::read(path).unwrap(), before, "a refused file is left as it is");
    assert!(!message.contains('\n') && message.len() < 600, "not one clear line: {message:?}");
    // For an empty file the two may differ, for a wrong one they must not.
    assert_eq!(message, created);
    message
}

#[test]
fn a_file_cut_anywhere_goes_on() {
    let (folder, path) = folder();
    drop(with_trials(&path, 3));
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = (1..=whole.len()).filter(|&end| whole[end - 1] == b'\n').collect();
    let (axes, from) = (axes(2), ends[ends.len() - 6]);
    // Cut at every byte of the last five records.
    for cut in from..=whole.len() {
        let path = folder.path().join("cut");
        fs::write(&path, &whole[..cut]).unwrap();
        let kept = *ends.iter().rfind(|&&end| end <= cut).unwrap();
        let mut journal = Journal::open(&path, Some("s")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole[..cut], "opening writes nothing");
        if cut % 2 == 0 {
            assert_eq!(journal.repair().unwrap(), (cut - kept) as u64);
            assert_eq!(fs::read(&path).unwrap(), whole[..kept]);
        }
        let before = journal.study().trials.len();
        assert_eq!(journal.begin(&axes, &new_trials(&axes, 1)).unwrap(), [before]);
        let now = fs::read(&path).unwrap();
        assert!(now.starts_with(&whole[..kept]), "complete records stay");
        let added = lines(&path).len() - ends.iter().filter(|&&end| end <= kept).count();
        assert_eq!(added, 1, "cut at {cut}");
        let again = Journal::open(&path, Some("s")).unwrap();
        assert_eq!(studies_json(&again), studies_json(&journal));
    }
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let mut journal = Journal::open(&path, None).unwrap();
    let orphans = journal.orphans().unwrap();
    assert_eq!(orphans, [2], "the one whose end was cut off");
    journal.finish(&[complete(2, &[0.125])]).unwrap();
    assert_eq!(assert_as_optuna(&journal), [[0]]);
}

#[test]
fn half_a_record_alone_is_no_study_yet() {
    let (_folder, path) = folder();
    for torn in ["{", "{\"op_co", "{\"op_code\":0,\"worker_id\":\"x\",\"study_na"] {
        fs::write(&path, torn).unwrap();
        let message = Journal::open(&path, None).unwrap_err().to_string();
        assert!(message.contains("is empty; begin one"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), torn);
        drop(Journal::create(&path, "s", 1, &Attrs::new()).unwrap());
        assert_eq!(lines(&path).len(), 1);
    }
    fs::write(&path, "").unwrap();
    assert!(Journal::open(&path, None).unwrap_err().to_string().contains("is empty"));
    drop(Journal::create(&path, "s", 1, &Attrs::new()).unwrap());
    Journal::open(&path, None).unwrap();
}

#[test]
fn damage_in_the_middle_is_named_and_left_alone() {
    let (_folder, path) = folder();
    drop(with_trials(&path, 3));
    let whole = lines(&path);
    let trial = whole.iter().position(|line| line.starts_with("{\"op_code\":4")).unwrap();
    for (bad, reason) in [
        ("", "not a JSON object"),
        ("{\"op_code\":", "EOF"),
        ("{\"op_code\":4,\"wor{\"op_code\":6,\"worker_id\":\"x\"}", "expected `:`"),
        ("[1,2]", "not a JSON object"),
        ("{\"worker_id\":\"x\"}", "missing field `op_code`"),
        ("{\"op_code\":11}", "operation 11 is unknown"),
        ("{\"op_code\":11,\"trial_id\":{}}", "operation 11 is unknown"),
        ("{\"op_code\":-1}", "operation -1 is unknown"),
        ("{\"op_code\":6,\"state\":1,\"values\":[1.0]}", "no `trial_id`"),
        ("{\"op_code\":6,\"trial_id\":0,\"state\":9,\"values\":null}", "state 9 is unknown"),
        ("{\"op_code\":0,\"study_name\":\"x\",\"directions\":[3]}", "direction 3 is unknown"),
        (
            "{\"op_code\":4,\"study_id\":0,\"params\":{\"x\":1},\"distributions\":{}}",
            "`x` has no distribution",
        ),
        ("{\"op_code\":4,\"study_id\":0,\"intermediate_values\":{\"x\":1}}", "step `x`"),
        ("\0\0\0\0", "not a JSON object"),
    ] {
        let mut broken = whole.clone();
        broken[trial] = bad.to_owned();
        fs::write(&path, broken.join("\n") + "\n").unwrap();
        let message = refusal(&path);
        let line = format!("line {} of", trial + 1);
        assert!(message.contains(&line) && message.contains(reason), "{bad}: {message}");
    }
}

#[test]
fn damage_that_appears_later_stops_a_live_study() {
    let (_folder, path) = folder();
    let mut journal = with_trials(&path, 2);
    let good = fs::read_to_string(&path).unwrap();
    let count = good.lines().count();
    fs::write(&path, format!("{good}nonsense\n")).unwrap();
    let before = studies_json(&journal);
    for _ in 0..2 {
        let message = journal.finish(&[complete(0, &[1.0])]).unwrap_err().to_string();
        assert!(message.contains(&format!("line {} of", count + 1)), "{message}");
    }
    assert_eq!(studies_json(&journal), before, "what was read before stays");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{good}nonsense\n"));

    // The advice of the message works.
    fs::write(&path, &good).unwrap();
    let axes = axes(2);
    assert_eq!(journal.begin(&axes, &new_trials(&axes, 1)).unwrap(), [2]);
}

#[test]
fn a_file_that_was_replaced_is_read_anew() {
    let (_folder, path) = folder();
    let mut journal = with_trials(&path, 2);
    let early = fs::read(&path).unwrap();
    let axes = axes(2);
    let mut other = Journal::open(&path, None).unwrap();
    other.begin(&axes, &new_trials(&axes, 3)).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.study().trials.len(), 5);
    // Another process takes back an append that failed after a part of it had been seen.
    fs::write(&path, &early).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.study().trials.len(), 2);
    assert_eq!(journal.begin(&axes, &new_trials(&axes, 1)).unwrap(), [2]);
    assert_eq!(other.begin(&axes, &new_trials(&axes, 1)).unwrap(), [3]);

    let (_folder, another) = folder();
    drop(Journal::create(&another, "t", 1, &Attrs::new()).unwrap());
    fs::copy(&another, &path).unwrap();
    let message = journal.sync().unwrap_err().to_string();
    assert!(message.contains("was replaced, and has no study `s` now"), "{message}");
    assert_eq!(journal.study().trials.len(), 3);
    let message = journal.begin(&axes, &new_trials(&axes, 1)).unwrap_err().to_string();
    assert!(message.contains("no study `s`"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), fs::read(&another).unwrap());
}

#[test]
fn foreign_files_are_refused() {
    let (folder, path) = folder();
    for (bytes, reason) in [
        (&b"{\n  \"model_type\": \"llama\"\n}\n"[..], "first line"),
        (b"{\"model_type\": \"llama\"}\n", "missing field `op_code`"),
        (b"{\"model_type\": \"llama\"}", "is no record"),
        (b"GGUF\x03\0\0\0\n\n", "does not begin with `{`"),
        (b"\x7fELF\n", "does not begin with `{`"),
        (b"[1]\n", "does not begin with `{`"),
        (b"\n", "does not begin with `{`"),
        (b"{\"op_code\":77}\n{\"op_code\":0}\n", "operation 77 is unknown"),
    ] {
        fs::write(&path, bytes).unwrap();
        let message = refusal(&path);
        assert!(message.contains("is not an Optuna journal") && message.contains(reason), "{message}");
    }
    assert!(Journal::open(folder.path(), None).unwrap_err().to_string().contains("is a folder"));
    let message = Journal::open(&folder.path().join("missing"), None).unwrap_err().to_string();
    assert!(message.contains("cannot read the journal") && message.contains("missing"), "{message}");
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn a_deleted_study_is_over() {
    let (_folder, path) = folder();
    let mut journal = with_trials(&path, 2);
    let record = "{\"op_code\":1,\"worker_id\":\"x\",\"study_id\":0}\n";
    fs::write(&path, fs::read_to_string(&path).unwrap() + record).unwrap();
    let message = journal.set_study_attr("a", json!(1)).unwrap_err().to_string();
    assert!(message.contains("study `s` was deleted"), "{message}");
    assert_eq!(journal.study().trials.len(), 2);
    assert!(Journal::open(&path, None).unwrap_err().to_string().contains("has no study"));
    let again = with_trials(&path, 1);
    assert_eq!(again.study().trials.len(), 1);
}
