//! The lock beside a journal that every program writing it takes: a link or file that only one process can create.

use crate::error::{Error, Result};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long a lock may stand while nothing is written before its holder is taken for dead; Optuna's default.
pub const GRACE: Duration = Duration::from_secs(30);

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The right to write a journal, until dropped: `<journal>.lock`, as Optuna's `JournalFileSymlinkLock` makes it, and
/// as its `JournalFileOpenLock` does on Windows and on file systems without symbolic links. The two exclude each
/// other, because both create the same name. Neither needs more of a network file system than atomic creation.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Ours, as opposed to one that another process made after breaking ours.
    identity: Option<Identity>,
}

impl Lock {
    /// Waits for the lock of `journal`. One whose journal does not change for `grace` belongs to a dead process and
    /// is removed.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written.
    pub fn acquire(journal: &Path, grace: Duration) -> Result<Self> {
        let path = lock_path(journal);
        let mut pause = SHORTEST_PAUSE;
        let (mut seen, mut since) = (None, Instant::now());
        loop {
            match place(journal, &path) {
                Ok(()) => return Ok(Self { identity: Identity::of(&path), path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("cannot lock the journal by creating", path, error)),
            }
            let now = Sighting::of(&path);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if let Some(stale) = seen.as_ref().filter(|_| since.elapsed() > grace) {
                remove(&path, Some(&stale.lock));
                (seen, since, pause) = (None, Instant::now(), SHORTEST_PAUSE);
                continue;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether nobody broke this lock meanwhile, as others may after the grace period.
    pub fn is_held(&self) -> bool {
        Identity::of(&self.path) == self.identity
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        remove(&self.path, self.identity.as_ref());
    }
}

/// `<journal>.lock`; like Optuna's it is made of the path as given, so that both find the same one through a link.
pub(super) fn lock_path(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Creates the lock. `AlreadyExists` means that somebody holds it.
fn place(journal: &Path, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(name) = journal.file_name() {
        // The bare name leads from the lock to its neighbour, whatever the working folder or the mount point: whoever
        // waits looks through the link at the time the journal was last written.
        match std::os::unix::fs::symlink(name, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {} // no links here, or no folder
            done => return done,
        }
    }
    #[cfg(not(unix))]
    let _ = journal;
    fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

/// Removes the lock if it still is the one that is `expected`. First it moves out of the way: on some systems a name
/// that is being deleted can be neither created nor opened for a while.
fn remove(path: &Path, expected: Option<&Identity>) {
    if expected.is_some() && Identity::of(path).as_ref() != expected {
        return;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!("{}.rename", uuid::Uuid::new_v4()));
    let aside = PathBuf::from(aside);
    if fs::rename(path, &aside).is_err() {
        return; // somebody else was faster
    }
    if expected.is_some() && Identity::of(&aside).as_ref() != expected {
        // Between look and move the old lock went and a new one came: give that back to its holder.
        let _ = fs::hard_link(&aside, path);
    }
    let _ = fs::remove_file(&aside);
}

/// Tells one lock from another with the same name.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    modified: Option<SystemTime>,
    /// Device and node; zero where the system has none.
    node: (u64, u64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        #[cfg(unix)]
        let node = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let node = (0, 0);
        Some(Self { modified: metadata.modified().ok(), node })
    }
}

/// What a waiting process sees; as long as it changes, somebody is alive.
#[derive(Debug, PartialEq, Eq)]
struct Sighting {
    lock: Identity,
    /// Through the link: when the journal was last written. `None` where the link leads nowhere, as it does when
    /// Optuna was given a relative path with a folder.
    written: Option<SystemTime>,
}

impl Sighting {
    fn of(path: &Path) -> Option<Self> {
        let lock = Identity::of(path)?;
        let written = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        Some(Self { lock, written })
    }
}
