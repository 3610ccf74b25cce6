//! A search that is killed at any moment goes on as if it had not been.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anybit::search::TrialState;

use super::program::Place;
use super::{line, state};

fn start(place: &Place, more: &[&str]) -> Child {
    place.command(&line(more)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_twenty_times_at_random_moments_and_resumed_is_the_same_study() {
    const TRIALS: &str = "64";
    let place = Place::new();
    place.ok(&line(&["--trials", TRIALS, "--out", "whole", "--sampler", "tpe", "--seed", "5"]));
    let want = state(&place.path("whole/journal.log"), "anybit");
    assert_eq!(want.len(), 64);
    assert!(want.iter().all(|trial| trial.1 == TrialState::Complete));

    // Begun, then killed while trials are running: at moments that a generator draws, after there is a journal.
    let journal = place.path("killed/journal.log");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut kills = 0;
    let mut first = true;
    let deadline = Instant::now() + Duration::from_secs(240);
    while kills < 20 && Instant::now() < deadline {
        let before = if journal.exists() { journal.metadata().unwrap().len() } else { 0 };
        let begun = ["--trials", TRIALS, "--out", "killed", "--sampler", "tpe", "--seed", "5"];
        let resumed = ["search", "--resume", "--out", "killed", "--cache", "cache"];
        let mut child = match first {
            true => start(&place, &begun),
            false => place.command(&resumed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
        };
        // Until it writes, or ends.
        while journal.metadata().map_or(0, |m| m.len()) == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((random >> 33) % 40_000));
        if child.try_wait().unwrap().is_some() {
            break; // it was done before it could be killed
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        kills += 1;
        first = !journal.exists();
    }
    assert!(kills >= 10, "{kills} kills before the study was complete");
    place.ok(&["search", "--resume", "--out", "killed", "--cache", "cache"]);
    assert_eq!(state(&journal, "anybit"), want);
    assert!(!place.path("killed/journal.log.lock").exists());
}

#[test]
fn two_processes_share_a_study_and_do_nothing_twice() {
    let place = Place::new();
    place.ok(&line(&["--trials", "4", "--out", "s", "--sampler", "random"]));
    let resume = ["search", "--resume", "--out", "s", "--cache", "cache", "--trials", "60"];
    let run = || place.command(&resume).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut one, mut two) = (run(), run());
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
    let trials = state(&place.path("s/journal.log"), "anybit");
    assert_eq!(trials.len(), 60);
    assert!(trials.iter().all(|trial| trial.1 == TrialState::Complete));
    let points: std::collections::HashSet<_> = trials.iter().map(|trial| &trial.2).collect();
    assert_eq!(points.len(), 60);
}
