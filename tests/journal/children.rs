//! The other processes of the tests: copies of this program, and Python.

use super::*;
use anybit::search::journal::{GRACE, Lock};
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

/// Says to a copy of this program what it is to do: `TASK ARGUMENT…`, separated by newlines.
const TASK: &str = "ANYBIT_JOURNAL_TEST_TASK";
/// A grace period for tests that wait until it is over.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// What the other processes of these tests do; without a task, as in a run of all tests, nothing.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Vec<&str> = task.split('\n').collect();
    let path = Path::new(task[1]);
    let wait = || std::thread::sleep(Duration::from_secs(600));
    match task[0] {
        "hold lock" => {
            let _lock = Lock::acquire(path, GRACE).unwrap();
            println!("ready");
            wait();
        }
        "hold trials" => {
            let mut journal = Journal::open(path, None).unwrap();
            let axes = axes(2);
            journal.begin(&axes, &new_trials(&axes, 20)).unwrap();
            println!("ready");
            wait();
        }
        "append" => {
            let mut journal = Journal::open(path, None).unwrap();
            println!("ready");
            let numbers = append(&mut journal, task[2].parse().unwrap(), task[3]);
            println!("{numbers:?}");
        }
        "append forever" => {
            let mut journal = Journal::open(path, None).unwrap();
            journal.set_grace(SHORT);
            let axes = axes(30);
            println!("ready");
            loop {
                let numbers = journal.begin(&axes, &new_trials(&axes, 3)).unwrap();
                journal.finish(&[complete(numbers[0], &[1.0]), complete(numbers[2], &[2.0])]).unwrap();
            }
        }
        "fill the disk" => {
            let mut journal = Journal::open(path, None).unwrap();
            let axes = axes(30);
            let length = || path.metadata().unwrap().len();
            println!("ready");
            loop {
                let before = (length(), journal.study().trials.len());
                if let Err(error) = journal.begin(&axes, &new_trials(&axes, 2)) {
                    assert_eq!((length(), journal.study().trials.len()), before);
                    println!("{error}");
                    return;
                }
            }
        }
        other => panic!("unknown task {other}"),
    }
}

/// Adds finished trials one by one, and returns their numbers.
pub(crate) fn append(journal: &mut Journal, count: usize, who: &str) -> Vec<usize> {
    let axes = axes(1);
    let user_attrs = attrs(json!({ "who": who }));
    let add = |i| {
        let trial = NewTrial { point: vec![i % 3], user_attrs: user_attrs.clone(), ..NewTrial::default() };
        let number = journal.begin(&axes, &[trial]).unwrap()[0];
        journal.finish(&[complete(number, &[i as f64])]).unwrap();
        number
    };
    (0..count).map(add).collect()
}

/// A process that said `ready`; killed with SIGKILL, or what other systems have for it, when it is dropped.
pub(crate) struct Process {
    child: Child,
    output: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        // A test of this program that prints nothing else begins its line with its name.
        assert!(output.any(|line| line.unwrap().ends_with(ready)), "{command:?} did not begin");
        Self { child, output }
    }

    pub(crate) fn task(task: &str, path: &Path, arguments: &[&str]) -> Self {
        Self::start(&mut command(task, path, arguments), "ready")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, and returns the other lines it printed.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let lines = self.output.by_ref().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success());
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(task: &str, path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "children::child", "--nocapture", "--test-threads=1"]);
    command.env(TASK, [&[task, path.to_str().unwrap()], arguments].concat().join("\n"));
    command
}

/// The list of numbers among the lines of a process.
pub(crate) fn numbers(lines: &[String]) -> Vec<usize> {
    let line = lines.iter().find(|line| line.starts_with('[')).expect("a list of numbers");
    serde_json::from_str(line).unwrap()
}
