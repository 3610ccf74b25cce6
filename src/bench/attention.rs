//! Attention, naive in three passes and fused, on the device and on the CPU reference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::kernels::Options;
use super::rotation::{self, Measured, Plan, Side};
use super::subject::Subject;
use super::{Measurement, Sampling, Unit, data};
use crate::error::{Error, Result, invalid};
use crate::gpu::Gpu;
use crate::graph::Mask;
use crate::reference::{self, Heads};

/// Attention of a whole sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Case {
    /// Tokens.
    pub length: usize,
    /// Heads of queries, keys and values.
    pub heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Whether a token sees only those before it.
    pub causal: bool,
}

/// One case with its times.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `512 tokens, 8 heads of 64, causal`
    pub name: String,
    /// The sizes.
    #[serde(flatten)]
    pub case: Case,
    /// Arithmetic operations.
    pub operations: u64,
    /// The fused kernel on the device.
    pub fused: Option<Side>,
    /// Scores, softmax, values on the device.
    pub naive: Option<Side>,
    /// Times under `naive gpu`, `fused gpu`, `naive cpu`, `fused cpu`.
    pub measurements: BTreeMap<&'static str, Measurement>,
    /// Why a time is missing.
    pub failure: Option<String>,
}

impl Case {
    /// `512 tokens, 8 heads of 64, causal`
    pub fn name(&self) -> String {
        let Self { length, heads, head_dim, causal } = self;
        format!("{length} tokens, {heads} heads of {head_dim}{}", if *causal { ", causal" } else { "" })
    }

    fn shape(&self) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            mask: if self.causal { Mask::Causal } else { Mask::Full },
        }
    }

    /// Whether `gpu` can hold q, k, v and the scores of the naive plan.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self, gpu: &Gpu) -> Result<()> {
        let Self { length, heads, head_dim, .. } = *self;
        if length == 0 || heads == 0 || head_dim == 0 {
            invalid!("attention of {}: want sizes from 1", self.name());
        }
        let product = |sizes: [usize; 3]| sizes.into_iter().try_fold(4usize, usize::checked_mul);
        for (what, bytes) in [
            ("scores", product([length, heads, length])),
            ("q, k and v", product([length, heads.saturating_mul(3), head_dim])),
        ] {
            if bytes.is_none_or(|bytes| bytes as u64 > gpu.max_binding()) {
                let bytes = bytes.map_or("more than can be counted".to_owned(), |bytes| bytes.to_string());
                return Err(Error::unavailable(format!(
                    "attention of {}: {what} take {bytes} bytes in one binding, this device allows {}; give fewer \
                     tokens or heads",
                    self.name(),
                    gpu.max_binding()
                )));
            }
        }
        Ok(())
    }

    /// Two products and sums of scores and of values each, for every pair that is seen.
    fn operations(&self) -> u64 {
        let (n, width) = (self.length as u64, (self.heads * self.head_dim) as u64);
        let pairs = if self.causal { n * (n + 1) / 2 } else { n * n };
        4 * width * pairs
    }

    /// Bytes of the fused and the naive plan.
    fn bytes(&self) -> (u64, u64) {
        let matrix = (self.length * self.heads * self.head_dim * 4) as u64;
        let scores = (self.length * self.length * self.heads * 4) as u64;
        // k and v to the cache and back; q and the result. Scores and weights are written and read.
        (8 * matrix, 8 * matrix + 4 * scores)
    }
}

/// Runs `case` on the device as [`kernels::run`](super::kernels::run) does, and the same on the CPU reference.
///
/// # Errors
/// As there.
pub fn run(gpu: &Arc<Gpu>, case: Case, options: Options) -> Result<Row> {
    case.check(gpu)?;
    let subject = Subject::attention(case.length, case.length, case.shape())?;
    let mut row = Row {
        name: case.name(),
        case,
        operations: case.operations(),
        fused: None,
        naive: None,
        measurements: BTreeMap::new(),
        failure: None,
    };
    let (fused, naive) = case.bytes();
    let plans = [
        Plan { name: "fused gpu", fused: true, timed: |_| true, bytes: fused },
        Plan { name: "naive gpu", fused: false, timed: |_| true, bytes: naive },
    ];
    for Measured { name, side, seconds } in rotation::measure(gpu, &subject, &plans, options)? {
        if let (false, Some(at)) = (side.verdict.pass, &side.verdict.at) {
            row.failure.get_or_insert(format!("{name}: {at}"));
        }
        row.measurements.extend(seconds.map(|seconds| (name, seconds)));
        *(if name == "naive gpu" { &mut row.naive } else { &mut row.fused }) = Some(side);
    }
    for (name, samples) in ["naive cpu", "fused cpu"].into_iter().zip(on_cpu(case, options.sampling)?) {
        if let Some(time) = Measurement::of(Unit::Seconds, &samples) {
            row.measurements.insert(name, time);
        }
    }
    Ok(row)
}

/// Seconds of the reference, in three passes and in one.
fn on_cpu(case: Case, sampling: Sampling) -> Result<Vec<Vec<f64>>> {
    let n = case.length * case.heads * case.head_dim;
    let (q, k, v) = (data::values(n, 2), data::values(n, 3), data::values(n, 4));
    let (shape, length) = (case.shape(), case.length);
    let naive = || {
        let scores = reference::attention_scores(&q, &k, shape, 0);
        let weights = reference::softmax(&scores, length);
        reference::attention_values(&weights, &v, shape, length)
    };
    let fused = || reference::attention(&q, &k, &v, shape, 0);
    sampling.take(2, |which| {
        let start = Instant::now();
        let y = if which == 0 { naive() } else { fused() };
        let seconds = start.elapsed().as_secs_f64();
        match y.iter().all(|y| y.is_finite()) {
            true => Ok(seconds),
            false => invalid!("the reference computes no numbers"),
        }
    })
}
