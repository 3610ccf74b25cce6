//! Running the program in a folder of its own.

// Every test crate compiles this file for itself and needs a part of it.
#![allow(dead_code, unused_imports)]

#[path = "mod.rs"]
mod files;

use anybit::model::{Dtype, Planned, TensorFile, Writer};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

pub(crate) use files::{assert_only, safetensors, split};

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder in which the program runs.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anybit"));
        // No test finds what another left in the user's cache.
        command.current_dir(self.0.path()).args(line).env("ANYBIT_CACHE", "");
        command
    }

    pub(crate) fn run(&self, line: &[&str]) -> Output {
        self.command(line).output().unwrap()
    }

    /// Standard output of a run that succeeds.
    pub(crate) fn ok(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, line: &[&str]) -> Value {
        let text = self.ok(line);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The run fails with exit code 2 and an error that holds all of `wanted`, and leaves no file behind.
    pub(crate) fn fails(&self, line: &[&str], wanted: &[&str]) {
        let files = |place: &Self| {
            let entries = place.0.path().read_dir().unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = files(self);
        let output = self.run(line);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}: {error}");
        assert!(output.stdout.is_empty(), "{line:?}");
        assert!(error.starts_with("error: ") && !error.contains("panicked"), "{line:?}: {error}");
        assert!(
            wanted.iter().all(|wanted| error.contains(wanted)),
            "{line:?}: {error:?} lacks one of {wanted:?}"
        );
        assert_eq!(files(self), before, "{line:?}");
    }

    /// Writes f32 tensors.
    pub(crate) fn write(&self, name: &str, tensors: &[(&str, &[usize], &[f32])]) {
        let planned: Vec<_> = tensors
            .iter()
            .map(|(name, shape, _)| Planned {
                name: (*name).into(),
                dtype: Dtype::F32,
                shape: shape.to_vec(),
            })
            .collect();
        let mut writer = Writer::create(&self.path(name), &planned, &[]).unwrap();
        for (i, (_, _, values)) in tensors.iter().enumerate() {
            writer.write(i, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        }
        writer.finish().unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Packs `input` and decodes it on both backends, which must agree to the byte. The f32 file.
    pub(crate) fn round_trip(&self, input: &str, spec: &str, more: &[&str]) -> TensorFile {
        let line = ["quantize", "--model", input, "--format", spec, "--output", "packed"];
        self.ok(&[&line, more].concat());
        self.decode_both("packed", spec)
    }

    pub(crate) fn decode_both(&self, packed: &str, what: &str) -> TensorFile {
        for backend in ["gpu", "reference"] {
            self.ok(&["dequantize", packed, "--output", backend, "--backend", backend]);
        }
        assert!(self.read("gpu") == self.read("reference"), "{what}: the backends differ");
        TensorFile::open(&self.path("gpu")).unwrap()
    }
}

/// Bit-exact, with NaN == NaN and -0 == +0.
pub(crate) fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(g == w || (g.is_nan() && w.is_nan()), "{what}: element {i}: got {g:e}, want {w:e}");
    }
}

/// Pseudo-random values with tails like trained weights.
pub(crate) fn values(count: usize, scale: f32) -> Vec<f32> {
    // xorshift32 (Marsaglia 2003).
    let mut state = 0x9e37_79b9u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next().powi(3) * scale).collect()
}
