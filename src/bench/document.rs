//! The file of results: what ran where and when, and the rows.

use serde::Serialize;

use super::Ceilings;
use crate::gpu::{AdapterSummary, Clock, Gpu};

/// Version of the layout of result files.
pub const VERSION: u32 = 1;

/// Results with all that one must know to compare them with others.
#[derive(Clone, Debug, Serialize)]
pub struct Document<R> {
    /// [`VERSION`]
    pub anybit_bench: u32,
    /// `kernels`, `attention`, `model`, `startup`
    pub kind: &'static str,
    /// Version of the crate.
    pub version: &'static str,
    /// The command line.
    pub command: Vec<String>,
    /// Seconds precision, UTC.
    pub date: String,
    /// The device, its driver and backend.
    pub device: AdapterSummary,
    /// What times were read from.
    pub clock: Clock,
    /// Products whose tiles were measured before on this device; see `bench tune`.
    pub tuned: usize,
    /// What the device reaches at most, where that was measured.
    pub ceilings: Option<Ceilings>,
    /// Each has a `name` and `measurements`.
    pub rows: Vec<R>,
}

impl<R> Document<R> {
    /// Results of `kind` from `gpu`, as of now.
    pub fn new(kind: &'static str, command: Vec<String>, gpu: &Gpu, clock: Clock, rows: Vec<R>) -> Self {
        Self {
            anybit_bench: VERSION,
            kind,
            version: env!("CARGO_PKG_VERSION"),
            command,
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            device: gpu.adapter().clone(),
            clock,
            tuned: gpu.tuning().len(),
            ceilings: None,
            rows,
        }
    }
}
