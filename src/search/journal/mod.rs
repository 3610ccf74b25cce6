//! The journal of a study, in Optuna's journal-file format: a text file to which every program adds one JSON record a
//! line, read by `optuna.storages.JournalStorage`, its dashboard and its plots while anybit writes it, and the reverse.
//!
//! Nothing that is in the file is ever changed, so a process may die at any moment: what it had appended stands, and
//! half a record at the end is cut off before the next one. Several processes, on several machines that share the
//! folder, may work on one study. They take turns with the lock `<journal>.lock` ([`Lock`]), and each keeps a file in
//! `<journal>.workers/` locked as long as it lives: trials of a process that died are taken over by one that lives
//! ([`Journal::orphans`]).
//!
//! What is done is decided by the file alone: every method that appends reads it again afterwards.

mod distribution;
mod file;
mod lock;
mod record;
mod replay;
mod submission;
mod workers;

pub use distribution::{Distribution, Param};
pub use lock::{GRACE, Lock};
pub use replay::{Attrs, Direction, Study, TrialRecord};
pub use submission::{Axis, Finished, NewTrial, Outcome};

use super::TrialState;
use crate::error::{Error, Result, closest_names, invalid};
use file::{Found, LogFile};
use record::{Batch, Template, now, op};
use replay::Replay;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::Duration;
use submission::{check_points, distributions};
use workers::Worker;

/// The system attribute of a trial that names the worker evaluating it.
pub const WORKER: &str = "anybit:worker";

/// The system attribute of a study under which Optuna keeps the names of objectives.
const METRIC_NAMES: &str = "study:metric_names";

/// One study of a journal, for reading and writing.
#[derive(Debug)]
pub struct Journal {
    log: LogFile,
    replay: Replay,
    study: usize,
    worker: Worker,
    grace: Duration,
}

impl Journal {
    /// Begins a study that minimises `objectives` values, in a new file or beside other studies in a journal.
    ///
    /// # Errors
    /// When the file has a study of that name, is not a journal or is damaged; it is left as it is then. When the
    /// system refuses to write.
    pub fn create(path: &Path, study: &str, objectives: usize, attrs: &Attrs) -> Result<Self> {
        if objectives == 0 {
            invalid!("study `{study}` has no objective; want at least one");
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.file_name().is_none() || !folder.is_dir() {
            invalid!("cannot create {}: {} is not a folder", path.display(), folder.display());
        }
        let lock = Lock::acquire(path, GRACE)?;
        let is_new = !path.exists();
        if is_new {
            let io = |cause| Error::io("cannot create", path, cause);
            OpenOptions::new().append(true).create(true).open(path).map_err(io)?;
            // The name of a new file must be on the disk before its content counts as such; not all systems can.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        let created = Self::start(path, study, objectives, attrs, &lock);
        if created.is_err() && is_new && path.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(path);
        }
        created
    }

    fn start(path: &Path, study: &str, objectives: usize, attrs: &Attrs, lock: &Lock) -> Result<Self> {
        let mut log = LogFile::new(path);
        let mut replay = Replay::default();
        let torn = read(&mut log, &mut replay)?;
        if replay.find(study).is_some() {
            invalid!("{} has a study `{study}` already; resume it, or give another name", path.display());
        }
        let mut worker = Worker::new(path);
        worker.register()?;
        if torn > 0 {
            log.repair(lock, torn)?;
        }
        let id = replay.studies.len();
        let mut batch = Batch::new(worker.id());
        let directions = vec![Direction::Minimize as i64; objectives];
        batch.push(op::CREATE_STUDY, &json!({ "study_name": study, "directions": directions }))?;
        for (key, value) in attrs {
            batch.push(op::SET_STUDY_USER_ATTR, &json!({ "study_id": id, "user_attr": { key: value } }))?;
        }
        log.append(lock, batch.bytes())?;
        read(&mut log, &mut replay)?;
        let Some(study) = replay.find(study) else {
            invalid!("study `{study}` was removed from {} while it was created; try again", path.display());
        };
        Ok(Self { log, replay, study, worker, grace: GRACE })
    }

    /// Opens a study: the one with that name, or the only one. Nothing is written until a method that appends is
    /// called, so a journal can be read where it cannot be written.
    ///
    /// # Errors
    /// When the file is missing, is not a journal or is damaged, has no such study, or has several and none is named.
    pub fn open(path: &Path, study: Option<&str>) -> Result<Self> {
        let mut log = LogFile::new(path);
        let mut replay = Replay::default();
        read(&mut log, &mut replay)?;
        let names = replay.names();
        let found = match (study, &names[..]) {
            (Some(name), _) => replay.find(name),
            (None, [name]) => replay.find(name),
            (None, []) => None,
            (None, names) => {
                invalid!("{} has {} studies: {}; name one", path.display(), names.len(), names.join(", "))
            }
        };
        let Some(found) = found else {
            let Some(name) = study.filter(|_| !names.is_empty()) else {
                let what = if log.is_empty() { "is empty" } else { "has no study" };
                invalid!("{} {what}; begin one in it", path.display());
            };
            let closest = closest_names(name, names.iter().copied(), 5).join(", ");
            invalid!("{} has no study `{name}`, but {closest}", path.display());
        };
        Ok(Self { worker: Worker::new(path), log, replay, study: found, grace: GRACE })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// The name under which this journal writes; another one for every time a journal is opened.
    pub fn worker(&self) -> &str {
        self.worker.id()
    }

    /// The study as of the last reading.
    pub fn study(&self) -> &Study {
        &self.replay.studies[self.study]
    }

    /// All studies of the file as of the last reading, in the order they were created.
    pub fn studies(&self) -> impl Iterator<Item = &Study> {
        self.replay.studies.iter().filter(|study| !study.deleted)
    }

    /// How long a lock may stand while nothing is written before it is broken; [`GRACE`] unless set.
    pub fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Reads what was appended since the last reading.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged, or the study was deleted. What was read before stays.
    pub fn sync(&mut self) -> Result<()> {
        self.catch_up().map(drop)
    }

    /// Reads what is new; returns the bytes of a record without an end.
    fn catch_up(&mut self) -> Result<u64> {
        let torn = match self.log.read(|line| self.replay.apply(line))? {
            Found::Lines { torn } => torn,
            // Another process took back a failed append that was already read, or somebody put a copy in place.
            Found::Replaced => {
                let (mut log, mut replay) = (LogFile::new(self.log.path()), Replay::default());
                let torn = read(&mut log, &mut replay)?;
                let name = &self.study().name;
                let Some(study) = replay.find(name) else {
                    invalid!("{} was replaced, and has no study `{name}` now", self.path().display());
                };
                (self.log, self.replay, self.study) = (log, replay, study);
                torn
            }
        };
        if self.study().deleted {
            invalid!("study `{}` was deleted from {}", self.study().name, self.path().display());
        }
        Ok(torn)
    }

    /// Cuts off half a record at the end of the file, which a killed process or a full disk left, and returns its
    /// size in bytes. Every method that appends does this first.
    ///
    /// # Errors
    /// As [`Journal::sync`], and when the system refuses to lock or write.
    pub fn repair(&mut self) -> Result<u64> {
        let lock = Lock::acquire(self.path(), self.grace)?;
        self.repair_under(&lock)
    }

    fn repair_under(&mut self, lock: &Lock) -> Result<u64> {
        let torn = self.catch_up()?;
        if torn > 0 {
            self.log.repair(lock, torn)?;
        }
        Ok(torn)
    }

    /// Appends what `compose` makes of the newest state, in one piece, and reads it back.
    fn append(&mut self, compose: impl FnOnce(&Self, &mut Batch) -> Result<()>) -> Result<()> {
        let lock = Lock::acquire(self.path(), self.grace)?;
        self.worker.register()?;
        self.repair_under(&lock)?;
        let mut batch = Batch::new(self.worker.id());
        compose(self, &mut batch)?;
        if !batch.bytes().is_empty() {
            self.log.append(&lock, batch.bytes())?;
        }
        drop(lock);
        self.sync()
    }

    /// Sets a user attribute of the study.
    ///
    /// # Errors
    /// As [`Journal::repair`].
    pub fn set_study_attr(&mut self, key: &str, value: Value) -> Result<()> {
        self.append(|journal, batch| {
            let fields = json!({ "study_id": journal.study, "user_attr": { key: value } });
            batch.push(op::SET_STUDY_USER_ATTR, &fields)
        })
    }

    /// Names the objectives, where Optuna and its dashboard look for that.
    ///
    /// # Errors
    /// As [`Journal::repair`].
    pub fn set_metric_names(&mut self, names: &[String]) -> Result<()> {
        self.append(|journal, batch| {
            let fields = json!({ "study_id": journal.study, "system_attr": { METRIC_NAMES: names } });
            batch.push(op::SET_STUDY_SYSTEM_ATTR, &fields)
        })
    }

    /// Begins trials, running and claimed by this worker, and returns their numbers.
    ///
    /// # Errors
    /// When a point does not fit the axes, and as [`Journal::repair`].
    pub fn begin(&mut self, axes: &[Axis], trials: &[NewTrial]) -> Result<Vec<usize>> {
        match self.begin_if(axes, trials, None)? {
            Some(numbers) => Ok(numbers),
            None => Ok(Vec::new()),
        }
    }

    /// Begins trials as [`Journal::begin`] does, if the first of them gets the number `first`; `None` and nothing is
    /// written where others were begun in the meantime.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub fn begin_at(
        &mut self,
        axes: &[Axis],
        trials: &[NewTrial],
        first: usize,
    ) -> Result<Option<Vec<usize>>> {
        self.begin_if(axes, trials, Some(first))
    }

    fn begin_if(
        &mut self,
        axes: &[Axis],
        trials: &[NewTrial],
        first: Option<usize>,
    ) -> Result<Option<Vec<usize>>> {
        check_points(axes, trials)?;
        let distributions = distributions(axes)?;
        let mut before = 0;
        self.append(|journal, batch| {
            before = journal.study().trials.len();
            if first.is_some_and(|first| first != before) {
                return Ok(());
            }
            let datetime_start = now();
            for trial in trials {
                let mut system_attrs = trial.system_attrs.clone();
                system_attrs.insert(WORKER.to_owned(), Value::from(journal.worker()));
                let template = Template {
                    study_id: journal.study,
                    datetime_start: &datetime_start,
                    state: TrialState::Running as i64,
                    value: None,
                    values: None,
                    distributions: &distributions,
                    params: axes
                        .iter()
                        .zip(&trial.point)
                        .map(|(axis, &choice)| (axis.name.as_str(), choice))
                        .collect(),
                    user_attrs: &trial.user_attrs,
                    system_attrs: &system_attrs,
                    intermediate_values: Map::new(),
                };
                batch.push(op::CREATE_TRIAL, &template)?;
            }
            Ok(())
        })?;
        if first.is_some_and(|first| first != before) {
            return Ok(None);
        }
        // Read back instead of counted: if the lock was broken, others may have come between.
        let new = self.study().trials.iter().skip(before);
        let numbers: Vec<usize> =
            new.filter(|trial| self.is_mine(trial)).map(|trial| trial.number).take(trials.len()).collect();
        if numbers.len() != trials.len() {
            invalid!(
                "{} of {} new trials are missing from {} after they were written; was the file replaced?",
                trials.len() - numbers.len(),
                trials.len(),
                self.path().display()
            );
        }
        Ok(Some(numbers))
    }

    /// Records how trials ended. A trial that is finished in the file already stays as it is: the first result counts.
    ///
    /// # Errors
    /// When the study has no such trial, or the number of values is not that of the objectives; nothing is written
    /// then. As [`Journal::repair`].
    pub fn finish(&mut self, results: &[Finished]) -> Result<()> {
        self.append(|journal, batch| {
            let (study, datetime_complete) = (journal.study(), now());
            for result in results {
                let Some(trial) = study.trials.get(result.number) else {
                    let count = study.trials.len();
                    invalid!("study `{}` has no trial {}, it has {count}", study.name, result.number);
                };
                let values = match &result.outcome {
                    Outcome::Complete(values) if values.len() != study.directions.len() => {
                        let (got, want) = (values.len(), study.directions.len());
                        invalid!("trial {} ended with {got} values, want {want}", trial.number);
                    }
                    Outcome::Complete(values) => {
                        Some(values).filter(|values| values.iter().all(|v| v.is_finite()))
                    }
                    Outcome::Failed => None,
                };
                if trial.is_finished() {
                    continue;
                }
                for (key, value) in &result.user_attrs {
                    let fields = json!({ "trial_id": trial.id, "user_attr": { key: value } });
                    batch.push(op::SET_TRIAL_USER_ATTR, &fields)?;
                }
                for (key, value) in &result.system_attrs {
                    let fields = json!({ "trial_id": trial.id, "system_attr": { key: value } });
                    batch.push(op::SET_TRIAL_SYSTEM_ATTR, &fields)?;
                }
                let state = if values.is_some() { TrialState::Complete } else { TrialState::Failed };
                let fields = json!({
                    "trial_id": trial.id,
                    "state": state as i64,
                    "values": values,
                    "datetime_complete": datetime_complete,
                });
                batch.push(op::SET_TRIAL_STATE_VALUES, &fields)?;
            }
            Ok(())
        })
    }

    /// Takes over the running trials of workers that died or closed the journal, and returns their numbers: they are
    /// this worker's to evaluate and finish. No two workers get the same trial. Trials of live workers and of other
    /// programs are left alone.
    ///
    /// # Errors
    /// As [`Journal::repair`].
    pub fn orphans(&mut self) -> Result<Vec<usize>> {
        let mut claimed = Vec::new();
        self.append(|journal, batch| {
            let mut is_dead = HashMap::new();
            for trial in &journal.study().trials {
                let Some(worker) = running_worker(trial) else { continue };
                if *is_dead.entry(worker).or_insert_with(|| journal.worker.is_dead(worker)) {
                    let fields = json!({ "trial_id": trial.id, "system_attr": { WORKER: journal.worker() } });
                    batch.push(op::SET_TRIAL_SYSTEM_ATTR, &fields)?;
                    claimed.push(trial.number);
                }
            }
            journal.worker.sweep();
            Ok(())
        })?;
        let trials = &self.study().trials;
        claimed.retain(|&number| trials.get(number).is_some_and(|trial| self.is_mine(trial)));
        Ok(claimed)
    }

    /// Whether this worker is to finish the trial.
    fn is_mine(&self, trial: &TrialRecord) -> bool {
        running_worker(trial) == Some(self.worker())
    }
}

/// The worker that is at a trial.
fn running_worker(trial: &TrialRecord) -> Option<&str> {
    let worker = trial.system_attrs.get(WORKER).and_then(Value::as_str);
    worker.filter(|_| trial.state == TrialState::Running)
}

/// Reads a file from its beginning; returns the bytes of a record without an end.
fn read(log: &mut LogFile, replay: &mut Replay) -> Result<u64> {
    match log.read(|line| replay.apply(line))? {
        Found::Lines { torn } => Ok(torn),
        Found::Replaced => {
            let path = log.path().display();
            Err(Error::unavailable(format!("{path} was replaced while it was read; try again")))
        }
    }
}
