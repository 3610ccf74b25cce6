//! Rows of a table that are already measured, in a file: a stopped run goes on where it was.
//!
//! One JSON object per line. Every line holds a key, a hash of what its figures depend on (model, text, device,
//! version), and lines with another key are passed over. A line cut short by a crash is none.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anybit::Error;
use anyhow::Result;
use serde_json::{Value, json};

/// An open journal.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    key: String,
    rows: Vec<Value>,
}

impl Journal {
    /// Opens or creates the file at `path`, for rows that depend on `key`.
    pub(crate) fn open(path: &Path, key: &Value) -> Result<Self> {
        let failure = |error| Error::io("cannot open the journal", path, error);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failure)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failure)?;
        let key = format!("{:016x}", fnv1a(key.to_string().bytes()));
        let lines = bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let rows = lines.filter(|line: &Value| line["key"] == json!(key)).map(|mut line| line["row"].take());
        let rows = rows.collect();
        if bytes.last().is_some_and(|&byte| byte != b'\n') {
            file.write_all(b"\n").map_err(failure)?;
        }
        Ok(Self { path: path.to_owned(), file, key, rows })
    }

    /// The row of a spec, if it is measured.
    pub(crate) fn row(&self, spec: &str) -> Option<&Value> {
        self.rows.iter().rev().find(|row| row["spec"] == json!(spec))
    }

    /// Writes a row, which then survives a crash.
    pub(crate) fn add(&mut self, row: Value) -> Result<()> {
        let line = format!("{}\n", json!({ "key": self.key, "row": row }));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|error| Error::io("cannot write the journal", &self.path, error))?;
        self.rows.push(row);
        Ok(())
    }
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo): the same in every version of the program.
pub(crate) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_under_their_key_and_cut_lines_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (one, two) = (json!({"text": 1}), json!({"text": 2}));
        let mut journal = Journal::open(&path, &one).unwrap();
        journal.add(json!({"spec": "int4", "loss": 3.25})).unwrap();
        journal.add(json!({"spec": "int8", "loss": 3.0})).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let mut journal = Journal::open(&path, &one).unwrap();
        assert_eq!(journal.row("int4").unwrap()["loss"], json!(3.25));
        assert!(journal.row("int8").is_none());
        journal.add(json!({"spec": "int8", "loss": 3.5})).unwrap();
        assert_eq!(Journal::open(&path, &one).unwrap().row("int8").unwrap()["loss"], json!(3.5));
        assert!(Journal::open(&path, &two).unwrap().row("int4").is_none());
        assert!(Journal::open(&folder.path().join("no/journal"), &one).is_err());
    }

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(fnv1a([].into_iter()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a".iter().copied()), 0xaf63_dc4c_8601_ec8c);
    }
}
