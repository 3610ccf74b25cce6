//! The case table: every kernel with its CPU reference, over shapes, formats and epilogues, each with a tolerance.
//!
//! `anybit verify`, the tests and the benchmarks read this one table. [`run`] executes cases on a device and
//! compares them with [`reference`](crate::reference), which sums in f64; [`verify_model`] does the same for the
//! nodes of a model. Outputs are poisoned before every run, guard words behind them are checked after it, and
//! inputs are surrounded by NaN, so that stray loads and stores show on devices that run shaders unchecked.
//!
//! | result | tolerance |
//! |---|---|
//! | decoded weights, codes, gathered rows, maxima, i32 accumulators | [`Tolerance::Exact`] |
//! | activations in element formats: values, codes, scales | [`Tolerance::Exact`] |
//! | f32 results of one operation | NMSE [`ONE_OP`] against f64 |
//! | products and sums of 32 in f16 | NMSE [`IN_F16`] against f64 |
//! | activation codes with real scales | half a step and a few units in the last place |

mod attention;
mod compare;
mod data;
mod elementwise;
mod launch;
mod linear;
mod loss;
mod matrix;
mod model;
mod product;
mod quantize;
mod rounding;
mod rows;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result, invalid};
use crate::format::Packed;
use crate::gpu::{Gpu, OpenOptions};
use crate::shader::Kernel;

pub use compare::Tolerance;
use compare::{Difference, Outcome, compare};
use launch::Device;
pub use model::{ModelCheck, NodeResult, verify_model};

/// NMSE allowed to one floating-point operation.
pub const ONE_OP: f64 = 1e-12;

/// NMSE allowed to products of random numbers in f16, whose factors, products and sums of up to 16 are rounded to 11 bits
/// each: relative variances of 2^-22 / 12 to 2^-22 / 3 apiece, some ten of which add up.
pub const IN_F16: f64 = 2e-6;

/// Devices that [`run_apart`] opens at the same time.
const MAX_DEVICES: usize = 4;

type Check = Box<dyn Fn(&Device) -> Result<Outcome> + Send + Sync>;

/// One run of one kernel.
pub struct Case {
    /// The kernel under test.
    pub kernel: Kernel,
    /// Format, function or part of the kernel; empty where there is only one.
    pub variant: String,
    /// Sizes and whatever else tells this case from its neighbours.
    pub shape: String,
    /// How far the result may be off.
    pub tolerance: Tolerance,
    /// Belongs to the smaller set that covers every kernel and format once.
    pub cover: bool,
    check: Check,
}

/// What came out of a [`Case`].
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// See [`Case::variant`].
    pub variant: String,
    /// See [`Case::shape`].
    pub shape: String,
    /// Largest `|got - want|`; infinite where one of them is not a number or nothing was stored.
    pub max_error: f64,
    /// Where the worst element is, what it is and what it should be; or the error that prevented the run.
    pub at: Option<String>,
    /// `sum (got - want)^2 / sum want^2`
    pub nmse: f64,
    /// How far the result might have been off.
    pub tolerance: Tolerance,
    /// Whether it was not.
    pub pass: bool,
}

impl Case {
    /// Runs it. A device error fails the case and says so in [`CaseResult::at`].
    pub fn run(&self, gpu: &Gpu) -> CaseResult {
        self.run_on(&Device::new(gpu, 0))
    }

    /// Runs it, then its dispatches `repeats` times more: the time of those, without uploads and read-back. The
    /// result comes first, because a wrong kernel has no time. `None` where the engine does the dispatching.
    pub fn time(&self, gpu: &Gpu, repeats: u32) -> (CaseResult, Option<Duration>) {
        let device = Device::new(gpu, repeats);
        let result = self.run_on(&device);
        let elapsed = device.elapsed().filter(|_| result.pass);
        (result, elapsed)
    }

    fn run_on(&self, device: &Device) -> CaseResult {
        let difference = match (self.check)(device) {
            Ok(outcome) => compare(&outcome, self.tolerance),
            Err(error) => Difference {
                max_error: f64::INFINITY,
                at: Some(error.to_string()),
                nmse: f64::INFINITY,
                pass: false,
            },
        };
        CaseResult {
            kernel: self.kernel.row().name,
            variant: self.variant.clone(),
            shape: self.shape.clone(),
            max_error: difference.max_error,
            at: difference.at,
            nmse: difference.nmse,
            tolerance: self.tolerance,
            pass: difference.pass,
        }
    }

    /// `gemv<int4 group> [37, 172] x 3`
    pub fn name(&self) -> String {
        let (kernel, Self { variant, shape, .. }) = (self.kernel.row().name, self);
        if variant.is_empty() { format!("{kernel} {shape}") } else { format!("{kernel}<{variant}> {shape}") }
    }
}

/// Which cases to run.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only cases whose [`Case::name`] contains this (any case).
    pub text: Option<String>,
    /// Only the smaller set, see [`Case::cover`].
    pub cover: bool,
    /// Only these kernels; all where empty.
    pub kernels: Vec<Kernel>,
}

impl Filter {
    /// Whether `case` is to run.
    pub fn accepts(&self, case: &Case) -> bool {
        let named = |text: &String| case.name().to_lowercase().contains(&text.to_lowercase());
        let wanted = self.kernels.is_empty() || self.kernels.contains(&case.kernel);
        wanted && (case.cover || !self.cover) && self.text.as_ref().is_none_or(named)
    }
}

/// Collects the cases of one kernel.
pub(crate) struct Table {
    kernel: Kernel,
    cases: Vec<Case>,
}

impl Table {
    /// Appends a case; the first one of every variant is part of the covering set.
    fn add(
        &mut self,
        variant: impl Into<String>,
        shape: impl Into<String>,
        tolerance: Tolerance,
        check: impl Fn(&Device) -> Result<Outcome> + Send + Sync + 'static,
    ) {
        let variant = variant.into();
        let cover = !self.cases.iter().any(|c| c.variant == variant);
        let (kernel, shape) = (self.kernel, shape.into());
        self.cases.push(Case { kernel, variant, shape, tolerance, cover, check: Box::new(check) });
    }

    /// Makes the case appended last part of the covering set.
    fn cover(&mut self) {
        if let Some(case) = self.cases.last_mut() {
            case.cover = true;
        }
    }
}

/// The reference of a kernel and the cases that compare them.
struct Row {
    /// Path below [`crate::reference`] or [`crate::format`].
    reference: &'static str,
    cases: fn(&mut Table),
}

/// Exhaustive: a kernel without its CPU reference does not compile.
fn row(kernel: Kernel) -> Row {
    let row = |reference, cases| Row { reference, cases };
    match kernel {
        Kernel::Dequantize => row("format::Packed::decode", matrix::dequantize),
        Kernel::Embed => row("reference::embed", matrix::embed),
        Kernel::Gemv | Kernel::GemvDirect | Kernel::Gemm | Kernel::GemmDirect => {
            row("reference::linear", linear::float)
        }
        Kernel::GemmF16 => row("reference::linear", linear::half),
        Kernel::GemvI8 | Kernel::GemmI8 | Kernel::GemmI8Direct => {
            row("reference::linear_integer", linear::integer)
        }
        Kernel::GemmPairedDirect | Kernel::GemmPlanesDirect => {
            row("reference::linear_integer", linear::narrow_integer)
        }
        Kernel::Absmax | Kernel::AbsmaxDirect => row("f32::abs, f32::max", quantize::absmax),
        Kernel::Quantize | Kernel::QuantizeDirect => row("format::quantize_activations", quantize::quantize),
        Kernel::RowRange => row("f32::min, f32::max", quantize::row_range),
        Kernel::QuantizeAffine => row("format::quantize_activations", quantize::quantize_affine),
        Kernel::BlockAbsmax => row("f32::abs, f32::max", rounding::block_absmax),
        Kernel::TileAbsmax => row("f32::max", rounding::tile_absmax),
        Kernel::QuantizeSteps => row("format::quantize_activations", rounding::codes),
        Kernel::RoundSteps | Kernel::RoundWide => row("format::fake_quantize", rounding::rounded_values),
        Kernel::RoundNvfp4 => row("format::fake_quantize", rounding::nvfp4),
        Kernel::DequantizeRows => row("reference::dequantize_activations", quantize::dequantize_rows),
        Kernel::RmsNorm | Kernel::RmsNormDirect => row("reference::rms_norm", rows::rms_norm),
        Kernel::RmsNormQuantize => {
            row("reference::rms_norm, format::quantize_activations", quantize::of_norm)
        }
        Kernel::LayerNorm => row("reference::layer_norm", rows::layer_norm),
        Kernel::Softmax => row("reference::softmax", rows::softmax),
        Kernel::Rope | Kernel::RopeWide => row("reference::rope", attention::rope),
        Kernel::KvWrite | Kernel::KvWriteQuads => row("copies", attention::kv_write),
        Kernel::RopeQkvWide => row("reference::rope", attention::rope_to_caches),
        Kernel::AttentionScores => row("reference::attention_scores", attention::scores),
        Kernel::AttentionValues => row("reference::attention_values", attention::values),
        Kernel::Attention | Kernel::AttentionDirect => row("reference::attention", attention::fused),
        Kernel::AttentionPart => row("reference::attention", attention::parts::in_parts),
        Kernel::AttentionJoin => row("sums in f64", attention::parts::join),
        Kernel::Activate => row("reference::activate", elementwise::activate),
        Kernel::Add => row("reference::add", elementwise::add),
        Kernel::Mul | Kernel::MulQuads => row("reference::mul", elementwise::mul),
        Kernel::GateQuads => row("reference::activate, mul", elementwise::gate),
        Kernel::AddBias => row("reference::add", elementwise::add_bias),
        Kernel::GatherRows => row("reference::embed", elementwise::gather_rows),
        Kernel::CrossEntropy => row("reference::cross_entropy", loss::cross_entropy),
        Kernel::Kl => row("reference::kl_divergence", loss::kl),
        Kernel::Argmax => row("reference::argmax", loss::argmax),
        Kernel::CompareDirect => row("reference::cross_entropy, kl_divergence, argmax", loss::compared),
        Kernel::Tally => row("sums in f64", loss::tally),
    }
}

/// The CPU function a kernel is compared with.
pub fn reference(kernel: Kernel) -> &'static str {
    row(kernel).reference
}

/// All cases, kernel by kernel.
pub fn all() -> Vec<Case> {
    let cases_of = |kernel: Kernel| {
        let mut table = Table { kernel, cases: Vec::new() };
        (row(kernel).cases)(&mut table);
        table.cases
    };
    Kernel::ALL.into_iter().flat_map(cases_of).collect()
}

/// Cases of one matrix: decoded, and multiplied by one and by nine tokens. The device gets `device`, the reference
/// `truth`: the same matrix, unless one wants to see the cases fail.
///
/// # Errors
/// When the two differ in format or shape.
pub fn of_matrix(device: &Packed, truth: &Packed) -> Result<Vec<Case>> {
    let shape = |w: &Packed| (w.format, w.rows, w.cols);
    if shape(device) != shape(truth) {
        invalid!("matrices of different kinds: {:?} and {:?}", shape(device), shape(truth));
    }
    let mut cases = Vec::new();
    for (kernel, m) in [(Kernel::Dequantize, 0), (Kernel::Gemv, 1), (Kernel::Gemm, 9)] {
        let mut table = Table { kernel, cases: Vec::new() };
        match kernel {
            Kernel::Dequantize => matrix::of_matrix(&mut table, device, truth),
            _ => linear::of_matrix(&mut table, m, device, truth),
        }
        cases.extend(table.cases);
    }
    Ok(cases)
}

/// Whether the device has the features that `kernel` is written for.
pub fn available(gpu: &Gpu, kernel: Kernel) -> bool {
    (!kernel.row().direct || gpu.direct()) && (!kernel.row().half || gpu.has_half())
}

/// Runs the cases that `filter` accepts and the device has the features for; none stops the others. `progress` gets
/// (done, total) after each.
pub fn run(gpu: &Gpu, filter: &Filter, progress: &dyn Fn(usize, usize)) -> Vec<CaseResult> {
    let runs = |case: &Case| filter.accepts(case) && available(gpu, case.kernel);
    let cases: Vec<Case> = all().into_iter().filter(runs).collect();
    let run = |(i, case): (usize, &Case)| {
        let result = case.run(gpu);
        progress(i + 1, cases.len());
        result
    };
    cases.iter().enumerate().map(run).collect()
}

/// As [`run`], with a device of its own for every kernel, some of them at the same time: a software driver takes up
/// to seconds to compile a pipeline and keeps some megabytes of each, and all cases need hundreds of them.
///
/// # Errors
/// When a device cannot be opened.
pub fn run_apart(
    options: &OpenOptions,
    filter: &Filter,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<CaseResult>> {
    let cases: Vec<Case> = all().into_iter().filter(|case| filter.accepts(case)).collect();
    let kernels: Vec<Kernel> =
        Kernel::ALL.into_iter().filter(|&kernel| cases.iter().any(|c| c.kernel == kernel)).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let of_kernel = |kernel: Kernel| -> Result<Vec<CaseResult>> {
        let gpu = Gpu::open(options.clone())?;
        let run = |case: &Case| {
            let result = available(&gpu, kernel).then(|| case.run(&gpu));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, cases.len());
            result
        };
        Ok(cases.iter().filter(|case| case.kernel == kernel).filter_map(run).collect())
    };
    let work = || -> Result<Vec<(usize, Vec<CaseResult>)>> {
        let mut mine = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&kernel) = kernels.get(at) else { return Ok(mine) };
            mine.push((at, of_kernel(kernel)?));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_DEVICES));
    let mut results = Vec::with_capacity(kernels.len());
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let mine = worker.join().map_err(|_| Error::unavailable("a case panicked; please report it"))?;
            results.extend(mine?);
        }
        Ok(())
    })?;
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().flat_map(|(_, results)| results).collect())
}

/// All results of one kernel and variant in one line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// See [`Case::variant`].
    pub variant: String,
    /// How many cases.
    pub cases: usize,
    /// How many of them failed.
    pub failed: usize,
    /// Largest error of all cases.
    pub max_error: f64,
    /// Shape and place of the first failure, else of the largest error.
    pub at: Option<String>,
    /// Largest NMSE.
    pub nmse: f64,
    /// Every tolerance that occurs.
    pub tolerance: String,
}

/// One [`Line`] per kernel and variant, in the order of the results.
pub fn summary(results: &[CaseResult]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for r in results {
        let at = r.at.as_ref().map(|at| format!("{} {at}", r.shape));
        let known = lines.iter_mut().find(|l| (l.kernel, l.variant.as_str()) == (r.kernel, &r.variant));
        let Some(line) = known else {
            lines.push(Line {
                kernel: r.kernel,
                variant: r.variant.clone(),
                cases: 1,
                failed: usize::from(!r.pass),
                max_error: r.max_error,
                at,
                nmse: r.nmse,
                tolerance: r.tolerance.to_string(),
            });
            continue;
        };
        let first_failure = !r.pass && line.failed == 0;
        if first_failure || (line.failed == 0 && r.max_error > line.max_error) {
            line.at = at;
        }
        let tolerance = r.tolerance.to_string();
        if !line.tolerance.split(", ").any(|known| known == tolerance) {
            line.tolerance = format!("{}, {tolerance}", line.tolerance);
        }
        line.cases += 1;
        line.failed += usize::from(!r.pass);
        line.max_error = line.max_error.max(r.max_error);
        line.nmse = line.nmse.max(r.nmse);
    }
    lines
}
