//! One side of a case, fused or naive: copies that exceed the cache, their check and their dispatches.

use std::sync::Arc;

use serde::Serialize;

use super::kernels::Options;
use super::subject::Subject;
use super::{Measurement, Unit, Verdict};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Recording};

/// Most copies of the operands of a case.
const MAX_COPIES: u64 = 64;
/// Most bytes of all copies together.
const MAX_BYTES: u64 = 2 << 30;
/// Running every copy once may take so many seconds; what runs that long has little from a cache.
const MAX_SECONDS: f64 = 2.0;

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

/// A side that is to be measured.
pub(super) struct Plan {
    /// Name in results.
    pub(super) name: &'static str,
    /// Fused or naive plan.
    pub(super) fused: bool,
    /// Which kernels are timed.
    pub(super) timed: fn(&str) -> bool,
    /// See [`Side::bytes`].
    pub(super) bytes: u64,
}

/// A side that was measured.
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) side: Side,
    /// Seconds, unless a result is wrong.
    pub(super) seconds: Option<Measurement>,
}

/// Sessions that take turns.
struct Rotation {
    sessions: Vec<Session>,
    whole: bool,
    /// Bytes of a copy.
    each: u64,
}

/// Verifies every side, times those that are right, taking turns, and verifies those again. Nothing is timed of what
/// fails.
pub(super) fn measure(
    gpu: &Arc<Gpu>,
    subject: &Subject,
    plans: &[Plan],
    options: Options,
) -> Result<Vec<Measured>> {
    let Options { sampling, clock, cache } = options;
    let (mut rotations, mut timed, mut measured) = (Vec::new(), Vec::new(), Vec::new());
    for (i, plan) in plans.iter().enumerate() {
        let (rotation, recordings) = Rotation::new(gpu, subject, plan, options)?;
        let verdict = rotation.verify(gpu, subject)?;
        let pass = verdict.pass;
        let side = rotation.describe(&recordings, plan.bytes, cache, verdict);
        measured.push(Measured { name: plan.name, side, seconds: None });
        if pass {
            rotation.poison(gpu, subject)?;
            timed.push(recordings);
            rotations.push((i, rotation));
        }
    }
    let samples = sampling.time(gpu, &timed, clock)?;
    for ((i, rotation), samples) in rotations.iter().zip(samples) {
        let Measured { side, seconds, .. } = &mut measured[*i];
        side.verdict = rotation.verify_after(gpu, subject)?;
        *seconds = Measurement::of(Unit::Seconds, &samples).filter(|_| side.verdict.pass);
    }
    Ok(measured)
}

fn output(session: &Session) -> Result<(&Buffer, usize)> {
    session.output().ok_or_else(|| Error::invalid("no step has run"))
}

fn recording(session: &Session) -> Result<&Recording> {
    session.recording().ok_or_else(|| Error::invalid("no step has run"))
}

impl Rotation {
    /// Copies of `subject` that exceed the cache together, as far as that is reasonable, and what is timed of each.
    fn new(
        gpu: &Arc<Gpu>,
        subject: &Subject,
        plan: &Plan,
        options: Options,
    ) -> Result<(Self, Vec<Recording>)> {
        let Options { clock, cache, .. } = options;
        let before = gpu.allocated_bytes();
        let mut sessions = vec![subject.session(gpu, plan.fused)?];
        let each = (gpu.allocated_bytes() - before).max(1);
        let once = gpu.time(&[recording(&sessions[0])?], clock)?;
        let affordable = (MAX_SECONDS / once.max(1e-9)) as u64;
        let most = MAX_COPIES.min(MAX_BYTES / each).min(affordable).max(1);
        // Twice: a cache keeps part of what is a little larger than itself.
        let copies = (2 * cache).div_ceil(each).min(most);
        for _ in 1..copies {
            sessions.push(subject.session(gpu, plan.fused)?);
        }
        let all = sessions.iter().map(|session| Ok(recording(session)?.only(plan.timed)));
        let recordings = all.collect::<Result<Vec<_>>>()?;
        let whole = recordings[0].len() == recording(&sessions[0])?.len();
        Ok((Self { sessions, whole, each }, recordings))
    }

    /// What is timed, in words and numbers.
    fn describe(&self, recordings: &[Recording], bytes: u64, cache: u64, verdict: Verdict) -> Side {
        let mut kernels: Vec<String> = Vec::new();
        for name in recordings[0].kernels() {
            if !kernels.iter().any(|known| known == name) {
                kernels.push(name.to_owned());
            }
        }
        let copies = self.sessions.len() as u64;
        Side {
            kernels,
            dispatches: recordings[0].len(),
            bytes,
            copies,
            exceeds_cache: copies * self.each > cache,
            verdict,
        }
    }

    /// Poisons the results of all copies.
    fn poison(&self, gpu: &Gpu, subject: &Subject) -> Result<()> {
        self.sessions.iter().try_for_each(|session| subject.expectation.poison(gpu, output(session)?))
    }

    /// Runs every copy on a poisoned result and checks the first.
    fn verify(&self, gpu: &Gpu, subject: &Subject) -> Result<Verdict> {
        self.poison(gpu, subject)?;
        gpu.run(&[recording(&self.sessions[0])?])?;
        subject.expectation.check(gpu, output(&self.sessions[0])?)
    }

    /// Checks what the timed runs left in the first and the last copy.
    fn verify_after(&self, gpu: &Gpu, subject: &Subject) -> Result<Verdict> {
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
