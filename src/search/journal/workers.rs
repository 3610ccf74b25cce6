//! Who is alive: each writing process holds a lock on a file of its own, which the system drops when it dies.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// This process as a writer of a journal: a file `<journal>.workers/<id>` that is locked while it lives, and gone
/// after it closed the journal.
#[derive(Debug)]
pub(super) struct Worker {
    id: String,
    folder: PathBuf,
    /// `None` until the first record is written: readers leave no traces.
    lock: Option<File>,
}

impl Worker {
    /// A worker for `journal`, which exists. Links are resolved, so that all names of a file have the same workers.
    pub(super) fn new(journal: &Path) -> Self {
        let mut folder: OsString = fs::canonicalize(journal).unwrap_or_else(|_| journal.to_owned()).into();
        folder.push(".workers");
        Self { id: uuid::Uuid::new_v4().to_string(), folder: folder.into(), lock: None }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes this worker visible to the others; its caller holds the lock of the journal.
    ///
    /// # Errors
    /// When the system refuses to create or lock the file.
    pub(super) fn register(&mut self) -> Result<()> {
        let path = self.folder.join(&self.id);
        while self.lock.is_none() {
            match fs::create_dir(&self.folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io("cannot create", &self.folder, error));
                }
                _ => {}
            }
            match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
                // Another worker closed the journal just now and took the empty folder with it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("cannot create", &path, error)),
                Ok(file) => {
                    file.lock().map_err(|error| Error::io("cannot lock", &path, error))?;
                    self.lock = path.exists().then_some(file);
                }
            }
        }
        Ok(())
    }

    /// Whether the worker `id` died or closed the journal. A name that no worker has is not said to be dead.
    pub(super) fn is_dead(&self, id: &str) -> bool {
        // What stands in a file is not followed out of the folder.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if id.is_empty() || id == self.id || !id.chars().all(is_plain) {
            return false;
        }
        let path = self.folder.join(id);
        match is_unlocked(&path) {
            Ok(unlocked) => unlocked,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Removes the files of dead workers; its caller holds the lock of the journal, under which new ones appear.
    /// A dead worker without a file is as dead as before, so it does not matter when this happens.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for name in entries.flatten().map(|entry| entry.file_name()) {
            if name.to_str().is_some_and(|id| self.is_dead(id)) {
                let _ = fs::remove_file(self.folder.join(name));
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.lock.take().is_some() {
            let _ = fs::remove_file(self.folder.join(&self.id));
            let _ = fs::remove_dir(&self.folder); // works for the last one only
        }
    }
}

/// Whether no process holds a lock on the file.
fn is_unlocked(path: &Path) -> std::io::Result<bool> {
    // A worker of another user may be readable only, which is enough to ask.
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => File::open(path)?,
        other => other?,
    };
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_is_who_closed_or_left_an_unlocked_file() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        fs::write(&journal, "").unwrap();
        let mut one = Worker::new(&journal);
        let mut two = Worker::new(&journal);
        assert!(!folder.path().join("journal.workers").exists());
        one.register().unwrap();
        two.register().unwrap();
        two.register().unwrap();
        assert!(!one.is_dead(&two.id) && !two.is_dead(&one.id) && !one.is_dead(&one.id));
        fs::write(one.folder.join("left-behind"), "").unwrap();
        assert!(one.is_dead("left-behind") && one.is_dead("removed"));
        for id in ["", ".", "..", "../journal", "a/b"] {
            assert!(!one.is_dead(id), "{id:?}");
        }
        one.sweep();
        assert!(!one.folder.join("left-behind").exists() && one.folder.join(&two.id).exists());
        drop(two);
        assert_eq!(fs::read_dir(&one.folder).unwrap().count(), 1);
        drop(one);
        assert!(!folder.path().join("journal.workers").exists());
    }
}
