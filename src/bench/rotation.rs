//! One side of a case, fused or naive: copies that exceed the cache, their check and their dispatches.

use std::sync::Arc;

use serde::Serialize;

use super::check::Verdict;
use super::subject::Subject;
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Recording};

/// Most copies of the operands of a case.
const MAX_COPIES: u64 = 64;
/// Most bytes of all copies together.
const MAX_BYTES: u64 = 2 << 30;

/// One way to run a case.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The timed kernels by the names of their pipelines, each once, in order.
    pub kernels: Vec<String>,
    /// Timed dispatches.
    pub dispatches: usize,
    /// Bytes that must move: every operand and every intermediate once per pass over it.
    pub bytes: u64,
    /// Copies of the operands that took turns.
    pub copies: u64,
    /// Whether all copies together exceed the last-level cache; if not, the operands may have come from it.
    pub exceeds_cache: bool,
    /// The check of the results.
    pub verdict: Verdict,
}

/// Sessions that take turns.
pub(super) struct Rotation {
    sessions: Vec<Session>,
    /// What is timed of each.
    pub(super) recordings: Vec<Recording>,
    whole: bool,
}

fn output(session: &Session) -> Result<(&Buffer, usize)> {
    session.output().ok_or_else(|| Error::invalid("no step has run"))
}

fn recording(session: &Session) -> Result<&Recording> {
    session.recording().ok_or_else(|| Error::invalid("no step has run"))
}

impl Rotation {
    /// Copies of `subject` that exceed `cache` bytes together, as far as that is reasonable. Timed are the dispatches
    /// whose pipelines `timed` accepts.
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        subject: &Subject,
        fused: bool,
        cache: u64,
        timed: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let before = gpu.allocated_bytes();
        let mut sessions = vec![subject.session(gpu, fused)?];
        let each = (gpu.allocated_bytes() - before).max(1);
        // Twice: a cache keeps part of what is a little larger than itself.
        let copies = (2 * cache).div_ceil(each).min(MAX_COPIES).min((MAX_BYTES / each).max(1));
        for _ in 1..copies {
            sessions.push(subject.session(gpu, fused)?);
        }
        let all = sessions.iter().map(|session| Ok(recording(session)?.only(timed)));
        let recordings = all.collect::<Result<Vec<_>>>()?;
        let whole = recordings[0].len() == recording(&sessions[0])?.len();
        Ok(Self { sessions, recordings, whole })
    }

    /// What is timed, in words and numbers.
    pub(super) fn describe(&self, each: u64, bytes: u64, cache: u64, verdict: Verdict) -> Side {
        let mut kernels: Vec<String> = Vec::new();
        for name in self.recordings[0].kernels() {
            if !kernels.iter().any(|known| known == name) {
                kernels.push(name.to_owned());
            }
        }
        let copies = self.sessions.len() as u64;
        Side {
            kernels,
            dispatches: self.recordings[0].len(),
            bytes,
            copies,
            exceeds_cache: copies * each > cache,
            verdict,
        }
    }

    /// Poisons the results of all copies.
    pub(super) fn poison(&self, gpu: &Gpu, subject: &Subject) -> Result<()> {
        self.sessions.iter().try_for_each(|session| subject.expectation.poison(gpu, output(session)?))
    }

    /// Runs every copy on a poisoned result and checks the first.
    pub(super) fn verify(&self, gpu: &Gpu, subject: &Subject) -> Result<Verdict> {
        self.poison(gpu, subject)?;
        gpu.run(&[recording(&self.sessions[0])?])?;
        subject.expectation.check(gpu, output(&self.sessions[0])?)
    }

    /// Checks what the timed runs left in the first and the last copy.
    pub(super) fn verify_after(&self, gpu: &Gpu, subject: &Subject) -> Result<Verdict> {
        let ends = [self.sessions.first(), self.sessions.last().filter(|_| self.sessions.len() > 1)];
        let mut verdict = None;
        for session in ends.into_iter().flatten() {
            if !self.whole {
                // Only a part was timed; the rest makes of it what can be compared.
                gpu.run(&[recording(session)?])?;
            }
            let checked = subject.expectation.check(gpu, output(session)?)?;
            if !checked.pass || verdict.is_none() {
                verdict = Some(checked);
            }
        }
        verdict.ok_or_else(|| Error::invalid("nothing was run"))
    }
}
