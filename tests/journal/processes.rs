//! Several processes on one journal, and what they leave when they are killed.

use super::children::{Process, SHORT, append, command, numbers};
use super::*;
use anybit::search::TrialState;
use anybit::search::journal::{GRACE, Lock, WORKER};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

#[test]
fn processes_of_two_languages_share_a_study() {
    let (_folder, path) = folder();
    let mut journal = Journal::create(&path, "s", 1, &Attrs::new()).unwrap();
    let mut processes = BTreeMap::new();
    for who in ["rust 1", "rust 2"] {
        processes.insert(who, Process::task("append", &path, &["40", who]));
    }
    for who in ["python 1", "python 2"] {
        let mut command = python("append.py");
        processes.insert(who, Process::start(command.arg(&path).args(["s", "40", who]), "ready"));
    }
    // This process takes part too, in two threads.
    let threads: Vec<_> = ["thread 1", "thread 2"]
        .map(|who| {
            let mut journal = Journal::open(&path, None).unwrap();
            (who, std::thread::spawn(move || append(&mut journal, 40, who)))
        })
        .into();
    let mut wanted = BTreeMap::new();
    for (who, process) in processes {
        wanted.extend(numbers(&process.finish()).into_iter().map(|number| (number, who)));
    }
    for (who, thread) in threads {
        wanted.extend(thread.join().unwrap().into_iter().map(|number| (number, who)));
    }
    assert_eq!(wanted.len(), 240, "numbers are given once");
    journal.sync().unwrap();
    let trials = &journal.study().trials;
    assert_eq!(trials.len(), 240, "nothing was lost");
    for trial in trials {
        assert_eq!(trial.state, TrialState::Complete);
        assert_eq!(trial.user_attrs["who"], wanted[&trial.number]);
    }
    assert_as_optuna(&journal);
    assert!(!lock_of(&path).exists());
}

fn lock_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.lock", path.display()))
}

/// A lock that may be a link that leads nowhere.
fn is_locked(path: &Path) -> bool {
    lock_of(path).symlink_metadata().is_ok()
}

#[test]
fn the_lock_of_a_dead_process_is_broken_after_the_grace_period() {
    let (folder, path) = folder();
    let mut journal = with_trials(&path, 1);
    journal.set_grace(SHORT);
    let take = |journal: &mut Journal| {
        assert!(is_locked(&path));
        let start = Instant::now();
        journal.set_study_attr("a", json!(1)).unwrap();
        let waited = start.elapsed();
        assert!(waited > SHORT && waited < SHORT * 20, "{waited:?}");
        assert!(!is_locked(&path));
    };
    Process::task("hold lock", &path, &[]).kill();
    take(&mut journal);
    for kind in ["symlink", "open"] {
        let mut command = python("lock.py");
        let arguments = [path.to_str().unwrap(), kind, "30", "hold"];
        Process::start(command.args(arguments), "held").kill();
        take(&mut journal);
    }
    // Optuna's link leads nowhere if it was given a relative path.
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    let relative = format!("{name}/study.journal");
    let mut command = python("lock.py");
    command.current_dir(folder.path().parent().unwrap()).args([&relative, "symlink", "30", "hold"]);
    Process::start(&mut command, "held").kill();
    take(&mut journal);

    // And Optuna breaks ours.
    Process::task("hold lock", &path, &[]).kill();
    assert!(is_locked(&path));
    output(python("lock.py").arg(&path).args(["symlink", "3", "release"]));
    assert!(!is_locked(&path));
    let left: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the journal and the folder of workers: {left:?}");
}

#[test]
fn a_lock_is_waited_for_while_its_holder_lives() {
    let (_folder, path) = folder();
    let mut journal = with_trials(&path, 1);
    let waiter = |journal: &Journal, grace| {
        let mut journal = Journal::open(journal.path(), None).unwrap();
        journal.set_grace(grace);
        std::thread::spawn(move || journal.set_study_attr("a", json!(1)).unwrap())
    };
    // Within the grace period nothing has to happen.
    let mut command = python("lock.py");
    let holder = Process::start(command.arg(&path).args(["symlink", "30", "hold"]), "held");
    let waiting = waiter(&journal, GRACE);
    std::thread::sleep(SHORT);
    assert!(!waiting.is_finished());
    holder.kill();
    std::fs::remove_file(lock_of(&path)).unwrap();
    waiting.join().unwrap();
    // Beyond it, a journal that changes shows that somebody lives.
    let lock = Lock::acquire(&path, GRACE).unwrap();
    let waiting = waiter(&journal, SHORT * 6);
    for _ in 0..25 {
        std::fs::File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        std::thread::sleep(SHORT / 3);
        assert!(!waiting.is_finished() && lock.is_held());
    }
    drop(lock);
    waiting.join().unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.study().user_attrs["a"], 1);
}

#[test]
fn who_lost_the_lock_does_not_take_it_from_the_next() {
    let (_folder, path) = folder();
    std::fs::write(&path, "").unwrap();
    let slow = Lock::acquire(&path, GRACE).unwrap();
    assert!(slow.is_held());
    let next = Lock::acquire(&path, SHORT).unwrap();
    assert!(!slow.is_held() && next.is_held());
    drop(slow);
    assert!(next.is_held());
    drop(next);
    assert!(!is_locked(&path));
}

#[test]
fn orphans_are_claimed_once_and_only_from_the_dead() {
    let (folder, path) = folder();
    let mut live = with_trials(&path, 1);
    let axes = axes(2);
    let mine = live.begin(&axes, &new_trials(&axes, 3)).unwrap();
    output(python("append.py").arg(&path).args(["s", "1", "python"]));
    let holder = Process::task("hold trials", &path, &[]);
    live.sync().unwrap();
    let running = |journal: &Journal| {
        let trials = journal.study().trials.iter().filter(|trial| trial.state == TrialState::Running);
        trials.map(|trial| trial.number).collect::<Vec<_>>()
    };
    assert_eq!(running(&live).len(), 23);
    let mut claimer = Journal::open(&path, None).unwrap();
    assert_eq!(claimer.orphans().unwrap(), NONE, "all of them are alive");
    assert_eq!(live.orphans().unwrap(), NONE, "one's own are no orphans");
    holder.kill();

    // Whoever closes the journal leaves orphans as well, for the next round.
    let mut claimers = Vec::new();
    for _ in 0..8 {
        claimers.clear();
        claimers = claim_together(&path, 4);
        let claimed: Vec<usize> = claimers.iter().flat_map(|(_, claimed)| claimed.clone()).collect();
        let distinct: BTreeSet<_> = claimed.iter().copied().collect();
        live.sync().unwrap();
        let orphans = running(&live).into_iter().filter(|number| !mine.contains(number)).collect();
        assert_eq!((claimed.len(), distinct), (20, orphans), "each of them once");
        for (journal, claimed) in &claimers {
            let worker = |&number: &usize| &live.study().trials[number].system_attrs[WORKER];
            assert!(claimed.iter().all(|number| worker(number) == journal.worker()));
        }
    }
    assert_eq!(live.orphans().unwrap(), NONE);
    drop(claimers);
    assert_eq!(live.orphans().unwrap().len(), 20);
    drop(claimer);
    let workers: Vec<_> = folder.path().join("study.journal.workers").read_dir().unwrap().collect();
    let name = workers[0].as_ref().unwrap().file_name();
    assert_eq!((workers.len(), name.to_str().unwrap()), (1, live.worker()));
    let numbers = running(&live);
    live.finish(&numbers.iter().map(|&number| complete(number, &[1.0])).collect::<Vec<_>>()).unwrap();
    assert_as_optuna(&live);
}

/// Lets several workers claim orphans at the same time; each with what it got.
fn claim_together(path: &Path, count: usize) -> Vec<(Journal, Vec<usize>)> {
    let start = Arc::new(Barrier::new(count));
    let claim = |_| {
        let (start, mut journal) = (start.clone(), Journal::open(path, None).unwrap());
        std::thread::spawn(move || {
            start.wait();
            let claimed = journal.orphans().unwrap();
            (journal, claimed)
        })
    };
    let threads: Vec<_> = (0..count).map(claim).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn trials_of_other_programs_are_left_alone() {
    let (_folder, path) = folder();
    drop(with_trials(&path, 0));
    let mut text = std::fs::read_to_string(&path).unwrap();
    for worker in
        ["", ",\"system_attrs\":{\"anybit:worker\":\"../study\"}", ",\"system_attrs\":{\"anybit:worker\":7}"]
    {
        text += "{\"op_code\":4,\"worker_id\":\"x\",\"study_id\":0,\"datetime_start\":null";
        text += &format!("{worker}}}\n");
    }
    std::fs::write(&path, text).unwrap();
    let mut journal = Journal::open(&path, None).unwrap();
    assert_eq!(journal.study().trials.len(), 3);
    assert_eq!(journal.orphans().unwrap(), NONE);
}

#[test]
fn a_killed_writer_loses_nothing_it_had_appended() {
    let (_folder, path) = folder();
    drop(with_trials(&path, 1));
    for round in 0..8 {
        let writer = Process::task("append forever", &path, &[]);
        std::thread::sleep(Duration::from_millis(7 + 9 * round));
        let seen = studies_json(&Journal::open(&path, None).unwrap());
        writer.kill();

        let mut journal = Journal::open(&path, None).unwrap();
        journal.set_grace(SHORT);
        let orphans = journal.orphans().unwrap();
        lines(&path); // whole ones
        let before = seen[0]["trials"].as_array().unwrap();
        let trials = &journal.study().trials;
        assert!(trials.len() >= before.len());
        let finished = before.iter().zip(trials).filter(|(before, _)| before["state"] != 0);
        for (before, trial) in finished {
            assert_eq!(*before, trial_json(trial));
        }
        let running = trials.iter().filter(|trial| trial.state == TrialState::Running);
        assert!(running.map(|trial| trial.number).eq(orphans.iter().copied()), "all are claimed");
        let results: Vec<_> = orphans.iter().map(|&number| complete(number, &[3.0])).collect();
        journal.finish(&results).unwrap();
    }
    let journal = Journal::open(&path, None).unwrap();
    assert!(journal.study().trials.len() > 8, "writers wrote before they were killed");
    assert_as_optuna(&journal);
}

/// A limit on the size of files fails a write in the middle, as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_whole_records() {
    let (_folder, path) = folder();
    drop(with_trials(&path, 1));
    let mut limited = Command::new("sh");
    let child = command("fill the disk", &path, &[]);
    limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\""]).arg(child.get_program());
    limited.args(child.get_args());
    limited.envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let lines_printed = Process::start(&mut limited, "ready").finish();
    let message = lines_printed.iter().find(|line| line.contains("cannot append")).expect("an error");
    for part in ["study.journal", "File too large", "nothing of it was kept", "make room and resume"] {
        assert!(message.contains(part), "{message}");
    }
    let length = path.metadata().unwrap().len();
    assert!(length % 512 != 0 && length > 20_000, "the limit was not in the middle of a batch: {length}");
    lines(&path);

    let mut journal = Journal::open(&path, None).unwrap();
    assert_eq!(journal.repair().unwrap(), 0);
    let orphans = journal.orphans().unwrap();
    assert_eq!(orphans.len() + 1, journal.study().trials.len());
    journal.finish(&[complete(orphans[0], &[1.0])]).unwrap();
    assert_as_optuna(&journal);
}
