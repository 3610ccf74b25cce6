//! The file of a journal: one record a line, only ever added to.

use super::lock::{Lock, lock_path};
use super::record::Checked;
use crate::error::{Error, Result, invalid};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What every record begins with, in every program that writes this format.
const START: &[u8] = b"{\"op_code\":";

/// A journal file and how far it was read.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// Bytes of the complete lines that were read.
    offset: u64,
    /// How many lines that is.
    lines: usize,
    /// The last of them, newline included, to notice when the file is no longer the one that was read.
    last: Vec<u8>,
}

/// What a reading found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The new lines, and after them this many bytes of a line that has no end.
    Lines {
        /// Bytes after the last newline: a record that is being written, or that a dead process left half-written.
        torn: u64,
    },
    /// What was read earlier is no longer there; everything has to be read again.
    Replaced,
}

impl LogFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0, lines: 0, last: Vec::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no complete line was read.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Hands every complete line that was not read yet to `each`, which says what is wrong with it. Needs no lock:
    /// whoever is writing meanwhile ends its line later. The file is opened each time, because that is when a
    /// network file system asks its server for news.
    ///
    /// # Errors
    /// When the file cannot be read, is not a journal, or `each` refuses a line; that line counts as not read.
    pub(super) fn read(&mut self, mut each: impl FnMut(&[u8]) -> Checked) -> Result<Found> {
        let path = self.path.clone();
        let io = |cause| Error::io("cannot read the journal", &path, cause);
        if self.lines == 0 && path.is_dir() {
            invalid!("{} is a folder; want the file of a journal", path.display());
        }
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).map_err(io)?);
        reader.seek(SeekFrom::Start(self.offset - self.last.len() as u64)).map_err(io)?;
        let mut line = vec![0; self.last.len()];
        match reader.read_exact(&mut line) {
            Ok(()) if line == self.last => {}
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(io(error)),
            _ => return Ok(Found::Replaced),
        }
        // A model given by mistake is refused by its first byte instead of being searched for an end of line.
        if self.lines == 0 && reader.fill_buf().map_err(io)?.first().is_some_and(|&byte| byte != START[0]) {
            return Err(self.foreign("it does not begin with `{`"));
        }
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(io)?;
            if line.last() != Some(&b'\n') {
                if self.lines == 0 && !line.iter().zip(START).all(|(a, b)| a == b) {
                    return Err(self.foreign("its only line has no end and is no record"));
                }
                return Ok(Found::Lines { torn: line.len() as u64 });
            }
            if let Err(reason) = each(&line) {
                if self.lines == 0 {
                    return Err(self.foreign(&format!("its first line is no record: {reason}")));
                }
                invalid!(
                    "line {} of {} is damaged: {reason}; the file is left as it is: restore it from a copy, or keep \
                     the lines before that one only",
                    self.lines + 1,
                    path.display()
                );
            }
            self.offset += line.len() as u64;
            self.lines += 1;
            std::mem::swap(&mut self.last, &mut line);
        }
    }

    fn foreign(&self, reason: &str) -> Error {
        Error::invalid(format!("{} is not an Optuna journal: {reason}", self.path.display()))
    }

    /// Cuts off the `torn` bytes after the last complete line, which must have been read to the end under this
    /// lock: no live process is still writing them then.
    ///
    /// # Errors
    /// When the lock was lost, the file grew all the same, or the system refuses.
    pub(super) fn repair(&mut self, lock: &Lock, torn: u64) -> Result<()> {
        let io = |cause| Error::io("cannot repair the journal", &self.path, cause);
        let file = OpenOptions::new().write(true).open(&self.path).map_err(io)?;
        if !lock.is_held() || file.metadata().map_err(io)?.len() != self.offset + torn {
            return Err(self.contended());
        }
        file.set_len(self.offset).and_then(|()| file.sync_data()).map_err(io)
    }

    /// Adds `bytes`, which are whole lines, in one piece, and returns when the disk has them. All of them are added
    /// or none. They are not yet read.
    ///
    /// # Errors
    /// When the system refuses, or the file does not end with a line.
    pub(super) fn append(&mut self, _lock: &Lock, bytes: &[u8]) -> Result<()> {
        let io = |cause| Error::io("cannot append to the journal", &self.path, cause);
        let mut file = OpenOptions::new().read(true).append(true).open(&self.path).map_err(io)?;
        let before = file.metadata().map_err(io)?.len();
        if before > 0 {
            let mut end = [0];
            file.seek(SeekFrom::Start(before - 1)).and_then(|_| file.read_exact(&mut end)).map_err(io)?;
            if end != *b"\n" {
                return Err(self.contended()); // glued to a half-written record, these would be lost with it
            }
        }
        let Err(cause) = file.write_all(bytes).and_then(|()| file.sync_data()) else { return Ok(()) };
        drop(file);
        let after = match take_back(&self.path, before, bytes) {
            Ok(()) => "nothing of it was kept",
            Err(_) => "what was written of it is cut off at the next start",
        };
        let kind = cause.kind();
        let advice = match kind {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "make room and resume"
            }
            _ => "resume when that is mended",
        };
        let cause = io::Error::new(kind, format!("{cause}; {after}, earlier records are whole; {advice}"));
        Err(Error::io("cannot append to the journal", &self.path, cause))
    }

    fn contended(&self) -> Error {
        Error::unavailable(format!(
            "another program is writing {} without holding {}, or took that lock away; nothing was written: wait until \
             no other program uses the journal, then resume",
            self.path.display(),
            lock_path(&self.path).display()
        ))
    }
}

/// Removes what a failed write left after the first `before` bytes, as long as that is the beginning of `bytes` and
/// nothing that somebody else wrote.
fn take_back(path: &Path, before: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let left = file.metadata()?.len().saturating_sub(before);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(before))?;
    Read::by_ref(&mut file).take(left).read_to_end(&mut tail)?;
    if !bytes.starts_with(&tail) {
        return Err(ErrorKind::Other.into());
    }
    file.set_len(before)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::journal::lock::GRACE;

    fn file_with(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn read(log: &mut LogFile) -> (Vec<String>, Found) {
        let mut lines = Vec::new();
        let found = log.read(|line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        });
        (lines, found.unwrap())
    }

    #[test]
    fn only_ones_own_bytes_are_taken_back() {
        let (_folder, path) = file_with(b"{1}\n{2}\n{3");
        take_back(&path, 8, b"{3}\n{4}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{2}\n");
        take_back(&path, 4, b"{9}\n").unwrap_err();
        take_back(&path, 4, b"{2").unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{2}\n");
    }

    #[test]
    fn lines_are_read_once_and_a_changed_past_is_noticed() {
        let (_folder, path) = file_with(b"{1}\n{2}\n{\"op");
        let mut log = LogFile::new(&path);
        assert_eq!(read(&mut log), (vec!["{1}\n".into(), "{2}\n".into()], Found::Lines { torn: 4 }));
        std::fs::write(&path, b"{1}\n{2}\n{\"op_code\":4}\n").unwrap();
        assert_eq!(read(&mut log), (vec!["{\"op_code\":4}\n".into()], Found::Lines { torn: 0 }));
        assert_eq!(read(&mut log), (vec![], Found::Lines { torn: 0 }));
        std::fs::write(&path, b"{1}\n{2}\n{\"op_code\":5}\n{4}\n").unwrap();
        assert_eq!(read(&mut log), (vec![], Found::Replaced));
        std::fs::write(&path, b"{1}\n").unwrap();
        assert_eq!(read(&mut log), (vec![], Found::Replaced));
    }

    #[test]
    fn nothing_is_glued_to_half_a_record() {
        let (_folder, path) = file_with(b"{1}\n{\"op");
        let mut log = LogFile::new(&path);
        assert_eq!(read(&mut log).1, Found::Lines { torn: 4 });
        let lock = Lock::acquire(&path, GRACE).unwrap();
        log.append(&lock, b"{2}\n").unwrap_err();
        // Somebody writes although we hold the lock: not ours to cut.
        std::fs::write(&path, b"{1}\n{\"op_c").unwrap();
        log.repair(&lock, 4).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{\"op_c");
        log.repair(&lock, 6).unwrap();
        log.append(&lock, b"{2}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{1}\n{2}\n");
        assert_eq!(read(&mut log).0, ["{2}\n"]);
    }
}
