//! Files that are written whole or not at all.

use crate::error::{Error, Result, invalid};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file under construction: it lives beside its destination under a temporary name and takes its
/// place in [`AtomicFile::finish`]; dropped before that, it leaves nothing behind. A killed process leaves the
/// temporary file, `.anybit-` and six characters, and never a part of one under the destination's name.
#[derive(Debug)]
pub struct AtomicFile {
    buffer: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl AtomicFile {
    /// Starts a file that is to become `path`.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written, or `path` is something else than a file.
    pub fn create(path: &Path) -> Result<Self> {
        if path.file_name().is_none() {
            invalid!("{} names no file to write", path.display());
        }
        // Renaming over a folder fails late and over a device replaces the device.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            invalid!("cannot write {}: it exists and is not a regular file", path.display());
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".anybit-");
        // Temporary files are private by default; the finished one follows the umask as usual.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|error| match error.kind() {
            kind @ ErrorKind::NotFound if !folder.exists() => {
                let cause = format!("the folder {} does not exist", folder.display());
                Error::io("cannot write", path, std::io::Error::new(kind, cause))
            }
            _ => failure(path, error),
        })?;
        Ok(Self { buffer: BufWriter::with_capacity(1 << 20, file), path: path.to_owned() })
    }

    /// Writes `bytes` at `offset` from the beginning; what is skipped reads as zero.
    ///
    /// # Errors
    /// When the system refuses, e.g. because the disk is full.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let io = |error| failure(&self.path, error);
        // Seeking flushes the buffer, so sequential writers must not pay for it.
        if self.buffer.stream_position().map_err(io)? != offset {
            self.buffer.seek(SeekFrom::Start(offset)).map_err(io)?;
        }
        self.buffer.write_all(bytes).map_err(io)
    }

    /// Puts the file in place, replacing a previous one.
    ///
    /// # Errors
    /// When the system refuses; the destination is then as it was.
    pub fn finish(self) -> Result<()> {
        let Self { buffer, path } = self;
        let io = |error| failure(&path, error);
        let temporary = buffer.into_inner().map_err(|error| io(error.into_error()))?;
        // A file renamed before its data are on the disk can be empty after a power cut.
        File::sync_all(temporary.as_file()).map_err(io)?;
        temporary.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }
}

/// The error of a system call on the temporary file, without the name of that file, which tells nobody anything.
fn failure(path: &Path, error: std::io::Error) -> Error {
    let cause = if error.raw_os_error().is_some() { error } else { error.kind().into() };
    Error::io("cannot write", path, cause)
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_at(0, bytes)?;
    file.finish()
}
