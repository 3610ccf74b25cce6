//! Kernels one op at a time, fused and naive.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rotation::{self, Measured, Plan, Side};
use super::subject::Subject;
use super::{Ceilings, Measurement, Op, Sampling, Shape};
use crate::engine::Dequantizer;
use crate::error::{Error, Result, invalid};
use crate::format::{ActivationFormat, ActivationScope, Format, Spec};
use crate::gpu::{Clock, Gpu};
use crate::graph::Mask;
use crate::reference::Heads;
use crate::shader::{Contract, DeviceClass, Kernel};

/// Heads of the attention that `bench kernels` times.
const HEADS: usize = 8;
/// Rows of W behind the rounding that is timed; they are not.
const FEW: usize = 32;
/// Most weights of a matrix, 4 GiB in f32.
const MAX_WEIGHTS: usize = 1 << 30;

/// What is run: an op on a shape, in a format where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The op.
    pub op: Op,
    /// Weights and activations.
    pub spec: Option<Spec>,
    /// Sizes, as the op reads them.
    pub shape: Shape,
}

/// How cases are run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often.
    pub sampling: Sampling,
    /// By what.
    pub clock: Clock,
    /// Bytes of the last-level cache.
    pub cache: u64,
}

/// One case with its times.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `gemv int4(group=32) 1x4096x4096`
    pub name: String,
    /// The op.
    pub op: Op,
    /// Text of the spec.
    pub format: Option<String>,
    /// The sizes.
    #[serde(flatten)]
    pub shape: Shape,
    /// Arithmetic operations, two of each multiply-add; those that rounding and decoding take do not count.
    pub operations: u64,
    /// What times were read from.
    pub clock: Clock,
    /// Fused kernels, or the only ones.
    pub fused: Option<Side>,
    /// Dequantization into a buffer, then f32; each op by itself.
    pub naive: Option<Side>,
    /// Times under `fused` and `naive`; a side that fails verification has none.
    pub measurements: BTreeMap<&'static str, Measurement>,
    /// Rates of the fused side, and ratios.
    pub rates: Rates,
    /// Why there is no time.
    pub failure: Option<String>,
}

/// What follows from times, bytes and operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Operations per second of the fused side.
    pub operations: Option<f64>,
    /// Bytes per second of the fused side.
    pub bytes: Option<f64>,
    /// Naive time over fused time.
    pub speedup: Option<f64>,
    /// Naive bytes over fused bytes.
    pub traffic: Option<f64>,
    /// Part of the arithmetic ceiling: f32, or 8-bit products for integer kernels.
    pub of_arithmetic: Option<f64>,
    /// Part of the bandwidth of a copy.
    pub of_copy: Option<f64>,
}

impl Case {
    /// `gemv int4(group=32) 1x4096x4096`
    pub fn name(&self) -> String {
        let Self { op, spec, shape } = self;
        match spec {
            Some(spec) => format!("{op} {spec} {shape}"),
            None => format!("{op} {shape}"),
        }
    }

    /// `op` in `spec`; activations are rounded to int8 where the op is about integers and `spec` has none.
    pub fn new(op: Op, spec: Option<Spec>, shape: Shape) -> Self {
        let int8 = ActivationFormat::Int { bits: 8, scope: ActivationScope::Tensor };
        let rounds = matches!(op, Op::GemmInt | Op::Quantize);
        let spec = spec.filter(|_| op.has_format()).map(|spec| match spec.activation {
            None if rounds => Spec { activation: Some(int8), ..spec },
            Some(_) if op == Op::Dequant => Spec { activation: None, ..spec },
            _ => spec,
        });
        Self { op, spec, shape }
    }

    /// Whether `gpu` can hold it and the format allows it, before anything is computed.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self, gpu: &Gpu) -> Result<()> {
        let Shape { m, n, k } = self.shape;
        let name = self.name();
        let fits = |what: &str, rows: usize, cols: usize| -> Result<()> {
            let bytes = rows as u64 * cols.next_multiple_of(32) as u64 * 4;
            match bytes <= gpu.max_binding() {
                true => Ok(()),
                false => Err(Error::unavailable(format!(
                    "{name}: {what} [{rows}, {cols}] takes {bytes} bytes in one binding, this device allows {}; give a \
                     smaller shape",
                    gpu.max_binding()
                ))),
            }
        };
        match self.op {
            Op::Attention => {
                if m > n {
                    invalid!("{name}: {m} queries (M) over {n} positions (N); want M up to N");
                }
                fits("q, k and v", n, 3 * HEADS * k)?;
                // The naive plan keeps a score for every query, head and position.
                return fits("scores", m * HEADS, n);
            }
            Op::Norm => return fits("x", m, k),
            _ => {}
        }
        let Some(spec) = self.spec else { invalid!("{name} needs a format") };
        let rows = if self.op == Op::Quantize { FEW } else { n };
        if self.op != Op::Dequant {
            fits("x", m, k)?;
            fits("y", m, rows)?;
        }
        fits("a row of W", 1, k)?;
        if rows.saturating_mul(k) > MAX_WEIGHTS {
            invalid!("{name}: W has {rows} x {k} weights; want at most {MAX_WEIGHTS}");
        }
        let wrong = |error: Error| Error::Invalid(format!("{name}: {error}"));
        spec.weight.layout(rows, k).map_err(wrong)?;
        spec.activation.map_or(Ok(()), |format| format.check_width(k)).map_err(wrong)
    }

    pub(super) fn subject(&self) -> Result<Subject> {
        let Shape { m, n, k } = self.shape;
        let spec = self.spec.unwrap_or(Spec::from(Format::F32));
        match self.op {
            Op::Norm => Subject::norm(self.shape),
            Op::Attention => Subject::attention(m, n, heads(k)),
            Op::Quantize => Subject::linear(spec, Shape { n: FEW, ..self.shape }),
            Op::Dequant => Subject::linear(Spec { activation: None, ..spec }, Shape { m: 1, ..self.shape }),
            _ => Subject::linear(spec, self.shape),
        }
    }

    /// Multiplications and additions.
    fn operations(&self) -> u64 {
        let (m, n, k) = (self.shape.m as u64, self.shape.n as u64, self.shape.k as u64);
        match self.op {
            Op::Gemv | Op::Gemm | Op::GemmInt => 2 * m * n * k,
            Op::Dequant => n * k,
            // Position p of n sees p + 1; two products and sums each for scores and values.
            Op::Attention => 4 * HEADS as u64 * k * (m * (n - m) + m * (m + 1) / 2),
            Op::Norm => 4 * m * k,
            Op::Quantize => 2 * m * k,
        }
    }

    /// Bytes of the fused and the naive side.
    fn bytes(&self, subject: &Subject) -> (u64, u64) {
        let (m, n, k) = (self.shape.m as u64, self.shape.n as u64, self.shape.k as u64);
        let packed = subject.packed_bytes();
        let (x, y, dense) = (4 * m * k, 4 * m * n, 4 * n * k);
        // Rounding reads x twice (its largest value, then all), and codes are written and read.
        let rounds = self.spec.is_some_and(|spec| spec.activation.is_some());
        let (codes, fake) = if rounds { (x + 2 * m * k, 3 * x + 2 * m * k) } else { (0, 0) };
        match self.op {
            Op::Gemv | Op::Gemm | Op::GemmInt => (x + codes + packed + y, x + fake + packed + 2 * dense + y),
            Op::Dequant => (packed + dense, packed + dense),
            Op::Attention => {
                let width = HEADS as u64 * k;
                let (rows, scores) = (m * width * 4, m * HEADS as u64 * n * 4);
                // q, k and v of the batch, keys and values written and read, the result; scores and weights.
                let fused = rows + 2 * rows + 2 * rows + 2 * n * width * 4 + rows;
                (fused, fused + 4 * scores)
            }
            Op::Norm => (2 * x + 4 * k, 2 * x + 4 * k),
            Op::Quantize => (2 * x + m * k, 2 * x + m * k + m * k + x),
        }
    }

    /// The sides that are timed.
    fn plans(&self, subject: &Subject) -> Vec<Plan> {
        fn all(_: &str) -> bool {
            true
        }
        fn rounding(kernel: &str) -> bool {
            !kernel.starts_with("gem") && !decoding(kernel)
        }
        fn decoding(kernel: &str) -> bool {
            kernel.starts_with("dequantize<")
        }
        let bytes = self.bytes(subject);
        let fused = |timed| Plan { name: "fused", fused: true, timed, bytes: bytes.0 };
        let naive = |timed| Plan { name: "naive", fused: false, timed, bytes: bytes.1 };
        match self.op {
            Op::Norm => vec![fused(all)],
            // Only naive plans do it, so there is one way.
            Op::Dequant => vec![Plan { fused: false, ..fused(decoding) }],
            Op::Quantize => vec![fused(rounding), naive(rounding)],
            _ => vec![fused(all), naive(all)],
        }
    }
}

/// Heads of `head_dim` elements under a causal mask.
fn heads(head_dim: usize) -> Heads {
    let scale = 1.0 / (head_dim as f32).sqrt();
    Heads { heads: HEADS, kv_heads: HEADS, head_dim, scale, mask: Mask::Causal }
}

/// Runs `case`: verifies both sides, times those that are right, verifies again. What the device cannot do is the
/// row's failure.
///
/// # Errors
/// When the device is lost or the case is none.
pub fn run(gpu: &Arc<Gpu>, case: &Case, options: Options, ceilings: Option<&Ceilings>) -> Result<Row> {
    case.check(gpu)?;
    let mut subject = case.subject()?;
    if gpu.half() && case.op == Op::Gemm {
        subject.expectation.allow_f16();
    }
    run_subject(gpu, case, &subject, options, ceilings)
}

fn run_subject(
    gpu: &Arc<Gpu>,
    case: &Case,
    subject: &Subject,
    options: Options,
    ceilings: Option<&Ceilings>,
) -> Result<Row> {
    let mut row = Row {
        name: case.name(),
        op: case.op,
        format: case.spec.map(|spec| spec.to_string()),
        shape: case.shape,
        operations: case.operations(),
        clock: options.clock,
        fused: None,
        naive: None,
        measurements: BTreeMap::new(),
        rates: Rates::default(),
        failure: None,
    };
    if case.op == Op::Dequant {
        row.failure = decodes(gpu, subject)?;
    }
    let plans = if row.failure.is_none() { case.plans(subject) } else { Vec::new() };
    for Measured { name, side, seconds } in rotation::measure(gpu, subject, &plans, options)? {
        if let (false, Some(at)) = (side.verdict.pass, &side.verdict.at) {
            row.failure.get_or_insert(format!("{name}: {at}"));
        }
        row.measurements.extend(seconds.map(|seconds| (name, seconds)));
        *(if name == "naive" { &mut row.naive } else { &mut row.fused }) = Some(side);
    }
    row.rate(ceilings);
    Ok(row)
}

/// What is wrong with the decoded weights, which are exact.
fn decodes(gpu: &Arc<Gpu>, subject: &Subject) -> Result<Option<String>> {
    let Some(packed) = subject.packed() else { return Ok(None) };
    let got = Dequantizer::new(gpu.clone()).decode(packed)?;
    let want = packed.decode();
    let wrong = got.iter().zip(&want).position(|(g, w)| g.to_bits() != w.to_bits() && g != w);
    Ok(wrong.map(|i| {
        let (row, col) = (i / packed.cols, i % packed.cols);
        format!("[{row}, {col}]: {:e}, want {:e}", got[i], want[i])
    }))
}

/// Whether a pipeline of this name multiplies integer codes.
pub(super) fn multiplies_integers(pipeline: &str) -> bool {
    let name = pipeline.split(['<', ' ']).next().unwrap_or_default();
    Kernel::ALL
        .iter()
        .map(|kernel| kernel.row())
        .any(|row| row.contract == Contract::Integer && row.name == name)
}

impl Row {
    fn rate(&mut self, ceilings: Option<&Ceilings>) {
        let median = |name| self.measurements.get(name).map(|m: &Measurement| m.summary.median.max(1e-12));
        let (fused, naive) = (median("fused"), median("naive"));
        let integer = |side: &Side| side.kernels.iter().any(|name| multiplies_integers(name));
        let arithmetic = ceilings.map(|c| match self.fused.as_ref().is_some_and(integer) {
            true => c.dot4,
            false => c.f32,
        });
        let bytes = |side: &Option<Side>| side.as_ref().map(|side| side.bytes as f64);
        let per = |of: Option<f64>, by: Option<f64>| of.zip(by).map(|(of, by)| of / by);
        let operations = per(Some(self.operations as f64), fused);
        let moved = per(bytes(&self.fused), fused);
        self.rates = Rates {
            operations,
            bytes: moved,
            speedup: per(naive, fused),
            traffic: per(bytes(&self.naive), bytes(&self.fused)),
            of_arithmetic: per(operations, arithmetic),
            of_copy: per(moved, ceilings.map(|c| c.copy)),
        };
    }

    /// Whether every side is right.
    pub fn passes(&self) -> bool {
        self.failure.is_none()
    }
}

/// The spec texts that stand for `op` without `--format`.
pub fn default_formats(op: Op) -> &'static [&'static str] {
    match op {
        Op::Gemv | Op::Gemm => &["f32", "int8", "int4(group=32)", "mxint8", "base11"],
        Op::GemmInt => &["int8@int8", "int4(group=32)@int8"],
        Op::Dequant => &["int8", "int4(group=32)", "mxint8", "base11"],
        Op::Quantize => &["int8@int8", "int8@mxint8"],
        Op::Attention | Op::Norm => &[],
    }
}

/// The shapes that stand for `op` without `--shape`: `layers` (N, K) of the model and those of a network of 7 to 8
/// billion weights; smaller ones where a CPU does the work.
pub fn default_shapes(op: Op, class: DeviceClass, layers: &[(usize, usize)]) -> Vec<Shape> {
    let cpu = class == DeviceClass::Cpu;
    let large: &[(usize, usize)] = if cpu { &[(1024, 1024)] } else { &[(4096, 4096), (4096, 14336)] };
    let rows: &[usize] = match op {
        Op::Gemv => &[1, 4],
        Op::Gemm | Op::GemmInt if cpu => &[16, 128],
        Op::Gemm => &[16, 128, 512],
        Op::GemmInt => &[1, 16, 128, 512],
        _ if cpu => &[1, 128],
        _ => &[1, 512],
    };
    let shape = |m, n, k| Shape { m, n, k };
    if op == Op::Attention {
        let sizes: &[(usize, usize)] = if cpu { &[(1, 128), (128, 128)] } else { &[(1, 2048), (512, 512)] };
        return sizes.iter().flat_map(|&(m, n)| [64, 128].map(|k| shape(m, n, k))).collect();
    }
    let mut shapes: Vec<Shape> = Vec::new();
    for &(n, k) in layers.iter().chain(large) {
        for &m in rows {
            let next = match op {
                Op::Dequant => shape(1, n, k),
                Op::Norm | Op::Quantize => shape(m, 1, k),
                _ => shape(m, n, k),
            };
            if !shapes.contains(&next) {
                shapes.push(next);
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::OpenOptions;

    #[test]
    fn integer_kernels_are_told_by_their_contract() {
        for name in [
            "gemv_i8<int4 group> store",
            "gemm_paired_direct<int4 row> store",
            "gemm_planes_direct<int2 row>",
        ] {
            assert!(multiplies_integers(name), "{name}");
        }
        for name in ["gemv<int4 group> store", "quantize_direct", "absmax", ""] {
            assert!(!multiplies_integers(name), "{name}");
        }
    }

    #[test]
    fn what_fails_verification_has_no_time() {
        let gpu = Arc::new(Gpu::open(OpenOptions::default()).unwrap());
        let sampling = Sampling { samples: 3, seconds: 0.0 };
        let options = Options { sampling, clock: gpu.clock(), cache: 1 };
        let spec: Spec = "int4(group=32)".parse().unwrap();
        let case = Case::new(Op::Gemv, Some(spec), Shape { m: 2, n: 37, k: 64 });
        let mut subject = case.subject().unwrap();
        let right = run_subject(&gpu, &case, &subject, options, None).unwrap();
        assert!(right.passes() && right.measurements.len() == 2 && right.rates.speedup.is_some());
        // A kernel that differs from the truth, seen from the other side.
        subject.expectation.want[5] += 1.0;
        let wrong = run_subject(&gpu, &case, &subject, options, None).unwrap();
        assert!(!wrong.passes() && wrong.measurements.is_empty());
        assert_eq!(wrong.rates.speedup, None);
        assert!(wrong.failure.unwrap().starts_with("fused: [0, 5]: "));
        let sides = [wrong.fused.unwrap(), wrong.naive.unwrap()];
        assert!(sides.iter().all(|side| !side.verdict.pass && !side.kernels.is_empty()));
    }

    #[test]
    fn default_cases_fit_their_formats() {
        for op in Op::ALL {
            for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
                let shapes = default_shapes(op, class, &[(192, 192), (512, 192)]);
                assert!(!shapes.is_empty() && shapes.iter().all(|s| s.m > 0 && s.n > 0 && s.k > 0), "{op}");
            }
            assert_eq!(default_formats(op).is_empty(), !op.has_format(), "{op}");
            for text in default_formats(op) {
                text.parse::<Spec>().unwrap();
            }
        }
    }
}
