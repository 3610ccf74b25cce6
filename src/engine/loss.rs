//! Loss, divergence and choices, reduced on the device: a few bytes per token come back.

use std::sync::Arc;

use super::matmul;
use super::session::Session;
use super::values::Value;
use crate::error::{Result, invalid};
use crate::gpu::{Binder, Buffer, Gpu, Recording};
use crate::shader::{Kernel, Tile, Variant};

/// Per-row results of one step.
#[derive(Clone, Debug, Default)]
pub struct LossReport {
    /// Cross-entropy against the targets, nats.
    pub cross_entropy: Vec<f32>,
    /// KL divergence of the baseline's distribution to this one, nats; empty without a baseline.
    pub kl: Vec<f32>,
    /// Most probable token.
    pub argmax: Vec<u32>,
    /// The baseline's most probable token; empty without a baseline.
    pub baseline_argmax: Vec<u32>,
}

struct Plan {
    recording: Recording,
    targets: Buffer,
    cross_entropy: Buffer,
    argmax: Buffer,
    baseline: Option<(Buffer, Buffer)>,
}

/// Reduces the logits of sessions. Binds anew each time, because the buffers belong to the sessions' current
/// plans: it is four dispatches.
pub struct Losses {
    gpu: Arc<Gpu>,
}

impl Losses {
    /// On `gpu`.
    pub fn new(gpu: Arc<Gpu>) -> Self {
        Self { gpu }
    }

    /// Reduces the last step of `session`, with `baseline`'s last step as p in KL(p || q) where given.
    ///
    /// # Errors
    /// When the shapes of targets and logits differ or the device fails.
    pub fn reduce(
        &self,
        session: &Session,
        baseline: Option<&Session>,
        targets: &[u32],
    ) -> Result<LossReport> {
        let logits = session.logits_value()?;
        let other = baseline.map(Session::logits_value).transpose()?;
        if logits.rows != targets.len()
            || other.is_some_and(|o| (o.rows, o.width) != (logits.rows, logits.width))
        {
            invalid!("{} targets for {} rows of logits", targets.len(), logits.rows);
        }
        if let Some(target) = targets.iter().find(|&&t| t as usize >= logits.width) {
            invalid!("target token {target}; the vocabulary has {}", logits.width);
        }
        let plan = plan(&self.gpu, logits, other)?;
        self.gpu.upload(&plan.targets, bytemuck::cast_slice(targets))?;
        self.gpu.run(&[&plan.recording])?;
        let rows = logits.rows;
        let mut report = LossReport {
            cross_entropy: self.gpu.read(&plan.cross_entropy, rows)?,
            argmax: self.gpu.read(&plan.argmax, rows)?,
            ..LossReport::default()
        };
        if let Some((kl, argmax)) = &plan.baseline {
            report.kl = self.gpu.read(kl, rows)?;
            report.baseline_argmax = self.gpu.read(argmax, rows)?;
        }
        Ok(report)
    }

    /// Most probable token of every output row of the last step; ties go to the lowest id.
    ///
    /// # Errors
    /// When no step has run or the device fails.
    pub fn argmax(&self, session: &Session) -> Result<Vec<u32>> {
        let logits = session.logits_value()?;
        let mut binder = Binder::default();
        let best = self.gpu.buffer("argmax", (logits.rows * 4) as u64)?;
        argmax(&self.gpu, &mut binder, logits, &best)?;
        self.gpu.run(&[&binder.finish(&self.gpu)?])?;
        self.gpu.read(&best, logits.rows)
    }
}

fn argmax(gpu: &Gpu, binder: &mut Binder, logits: &Value, best: &Buffer) -> Result<()> {
    let variant = Variant::plain(Kernel::Argmax, Tile::reduction(gpu.class()));
    binder.dispatch(
        gpu.pipeline(&variant)?,
        &[("x", &logits.buffer), ("y", best)],
        &[("m", logits.rows as u32), ("cols", logits.width as u32), ("x_stride", logits.stride as u32)],
        logits.rows as u64,
    )
}

fn entropy(gpu: &Gpu, binder: &mut Binder, logits: &Value, targets: &Buffer, y: &Buffer) -> Result<()> {
    binder.dispatch(
        gpu.pipeline(&Variant::plain(Kernel::CrossEntropy, Tile::reduction(gpu.class())))?,
        &[("x", &logits.buffer), ("targets", targets), ("y", y)],
        &[("m", logits.rows as u32), ("cols", logits.width as u32), ("x_stride", logits.stride as u32)],
        logits.rows as u64,
    )
}

/// What is measured on rows of logits: targets, and a number per row of everything else.
pub(super) struct Measures<'a> {
    pub(super) targets: &'a Buffer,
    pub(super) cross_entropy: &'a Buffer,
    pub(super) kl: &'a Buffer,
    pub(super) best: &'a Buffer,
}

/// Appends loss, divergence from the baseline (its logits, and how far apart its rows are) and choice of every row.
pub(super) fn measure(
    gpu: &Gpu,
    binder: &mut Binder,
    logits: &Value,
    (baseline, stride): (&Buffer, usize),
    to: &Measures,
) -> Result<()> {
    let rows = logits.rows as u64;
    let params = [
        ("m", logits.rows as u32),
        ("cols", logits.width as u32),
        ("x_stride", stride as u32),
        ("z_stride", logits.stride as u32),
    ];
    if matmul::row_per_invocation(gpu, Kernel::CompareDirect, &params, logits.rows) {
        let variant = Variant::plain(Kernel::CompareDirect, Tile::rows());
        let buffers = [
            ("x", baseline),
            ("z", &logits.buffer),
            ("targets", to.targets),
            ("cross_entropy", to.cross_entropy),
            ("kl", to.kl),
            ("best", to.best),
        ];
        return binder.dispatch(gpu.pipeline(&variant)?, &buffers, &params, rows.div_ceil(8));
    }
    entropy(gpu, binder, logits, to.targets, to.cross_entropy)?;
    let variant = Variant::plain(Kernel::Kl, Tile::reduction(gpu.class()));
    let buffers = [("x", baseline), ("z", &logits.buffer), ("y", to.kl)];
    binder.dispatch(gpu.pipeline(&variant)?, &buffers, &params, rows)?;
    argmax(gpu, binder, logits, to.best)
}

fn plan(gpu: &Gpu, logits: &Value, baseline: Option<&Value>) -> Result<Plan> {
    let rows = logits.rows;
    let words = |label: &str| gpu.buffer(label, (rows * 4) as u64);
    let (targets, cross_entropy, best) = (words("targets")?, words("cross-entropy")?, words("argmax")?);
    let mut binder = Binder::default();
    let baseline = match baseline {
        None => {
            entropy(gpu, &mut binder, logits, &targets, &cross_entropy)?;
            argmax(gpu, &mut binder, logits, &best)?;
            None
        }
        Some(other) => {
            let (kl, other_best) = (words("divergence")?, words("baseline argmax")?);
            let to = Measures { targets: &targets, cross_entropy: &cross_entropy, kl: &kl, best: &best };
            measure(gpu, &mut binder, logits, (&other.buffer, other.stride), &to)?;
            argmax(gpu, &mut binder, other, &other_best)?;
            Some((kl, other_best))
        }
    };
    Ok(Plan { recording: binder.finish(gpu)?, targets, cross_entropy, argmax: best, baseline })
}
