//! Making and checking files in tests.

use serde_json::Value;
use std::path::Path;

/// A safetensors file from a header and data.
pub(crate) fn safetensors(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Header and data of a safetensors file.
pub(crate) fn split(bytes: &[u8]) -> (Value, Vec<u8>) {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + n]).unwrap(), bytes[8 + n..].to_vec())
}

/// The message is one clear line with all of these in it.
pub(crate) fn assert_contains(message: &str, wanted: &[&str]) {
    assert!(wanted.iter().all(|wanted| message.contains(wanted)), "{message:?} lacks one of {wanted:?}");
    assert!(!message.contains('\n') && message.len() < 600, "not one clear line: {message:?}");
}

/// The folder holds exactly these files, so no temporary one was left behind.
pub(crate) fn assert_only(folder: &Path, names: &[&str]) {
    let mut found: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, names);
}
