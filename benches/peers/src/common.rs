//! What both binaries share: cases, operands, the check of results, sampling, and the line that is printed.

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use serde_json::json;

pub type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "--case OP:FORMAT:MxNxK [--case …] [--samples N] [--cache BYTES]";
/// Outputs that are compared with the host.
const CHECKED: usize = 256;
/// A sample is at least about this long: the wait for the device can cost milliseconds.
const SHORTEST: f64 = 40e-3;
/// Enough seconds to warm up for.
const WARM: f64 = 2.0;
/// Most products in one sample.
const MAX_BURST: usize = 256;
/// Most copies of the weights.
const MAX_COPIES: usize = 64;
/// Most bytes of all copies together.
const MAX_BYTES: usize = 2 << 30;
/// Where the system does not tell the size of its cache.
const CACHE: usize = 64 << 20;

/// `y = x W^T` with x of M x K and W of N x K.
#[derive(Clone)]
pub struct Case {
    pub op: String,
    pub format: String,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Operands, row by row.
pub struct Operands {
    pub x: Vec<f32>,
    pub w: Vec<f32>,
}

/// A product that is ready on the device.
pub trait Product {
    /// The weights as the engine rounded them, N x K.
    fn weights(&self) -> Result<Vec<f32>>;
    /// Starts the product with a copy of the weights.
    fn submit(&mut self, copy: usize) -> Result<()>;
    /// Waits until the device has done all that was started.
    fn wait(&mut self) -> Result<()>;
    /// What the last product gave, M x N.
    fn output(&self) -> Result<Vec<f32>>;
}

pub trait Engine {
    type Product: Product;
    /// Name and version.
    fn name(&self) -> String;
    /// The device it runs on.
    fn device(&self) -> String;
    /// Ways to keep the weights; the fastest is timed.
    fn layouts(&self) -> &'static [&'static str];
    /// Bytes of one copy of the weights.
    fn bytes(&self, case: &Case) -> Result<usize>;
    fn product(
        &self,
        case: &Case,
        operands: &Operands,
        layout: usize,
        copies: usize,
    ) -> Result<Self::Product>;
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("--case {text}: want OP:FORMAT:MxNxK, such as gemm:f32:512x1024x1024");
        let mut parts = text.split(':');
        let (Some(op), Some(format), Some(shape), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let sizes: Vec<usize> = shape.split('x').filter_map(|size| size.parse().ok()).collect();
        let [m, n, k] = sizes[..] else { return Err(wrong()) };
        if sizes.iter().any(|size| !(1..=1 << 20).contains(size)) || shape.split('x').count() != 3 {
            return Err(wrong());
        }
        if n.max(m) * k > 1 << 30 {
            return Err(format!("--case {text}: a matrix of more than 2^30 elements; want a smaller one"));
        }
        Ok(Self { op: op.to_owned(), format: format.to_owned(), m, n, k })
    }
}

impl Case {
    pub fn shape(&self) -> String {
        format!("{}x{}x{}", self.m, self.n, self.k)
    }

    /// Values that every engine gets, alike in every run.
    fn operands(&self) -> Operands {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        // Sums of uniform values: most are small and few large, as weights are.
        let mut values = |count: usize| {
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(|_| next() + next() + next()).collect()
        };
        Operands { x: values(self.m * self.k), w: values(self.n * self.k) }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.op, self.format, self.shape())
    }
}

/// The command line.
struct Args {
    cases: Vec<Case>,
    samples: usize,
    cache: usize,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self { cases: Vec::new(), samples: 10, cache: cache_bytes() };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} without a value; want {USAGE}"));
            let number = |text: String| {
                text.parse().map_err(|_| format!("{name} {text}: want a whole number that is not negative"))
            };
            match name.as_str() {
                "--case" => parsed.cases.push(value()?.parse()?),
                "--samples" => parsed.samples = number(value()?)?,
                "--cache" => parsed.cache = number(value()?)?,
                _ => return Err(format!("unknown argument {name}; want {USAGE}")),
            }
        }
        if parsed.cases.is_empty() {
            return Err(format!("no case; want {USAGE}"));
        }
        if parsed.samples == 0 {
            return Err("--samples 0: want at least 1".to_owned());
        }
        Ok(parsed)
    }
}

/// Bytes of the CPU's last-level cache.
fn cache_bytes() -> usize {
    let of = |index: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1024)
    };
    (0..8).filter_map(of).max().unwrap_or(CACHE)
}

/// Runs all cases of the command line and prints a line of JSON for each. One that is wrong has no line, and the exit
/// code tells.
pub fn main<E: Engine>(open: impl FnOnce() -> Result<E>) -> ExitCode {
    let run = || {
        let args = Args::parse(std::env::args().skip(1))?;
        let engine = open()?;
        let mut failed = false;
        for case in &args.cases {
            match measure(&engine, case, &args) {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    eprintln!("ERROR: {case}: {error}");
                    failed = true;
                }
            }
        }
        Ok(failed)
    };
    match run() {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(1),
        Err(error) => {
            let error: String = error;
            eprintln!("ERROR: {error}");
            ExitCode::from(2)
        }
    }
}

/// Verifies, warms up, times, verifies again.
fn measure<E: Engine>(engine: &E, case: &Case, args: &Args) -> Result<String> {
    let operands = case.operands();
    let bytes = engine.bytes(case)?.max(1);
    // Twice: a cache keeps part of what is a little larger than itself.
    let copies = (2 * args.cache).div_ceil(bytes).min(MAX_COPIES).min(MAX_BYTES / bytes).max(1);
    let mut fastest: Option<(f64, usize)> = None;
    for layout in 0..engine.layouts().len() {
        let mut product = engine.product(case, &operands, layout, 1)?;
        Check::new(case, &operands, &product)?.run(&mut product)?;
        let seconds = (0..3).map(|_| time(&mut product, 0..1)).collect::<Result<Vec<_>>>()?;
        let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        eprintln!("NOTE: {case}: {best:.6} s warming up with {}", engine.layouts()[layout]);
        if fastest.is_none_or(|(least, _)| best < least) {
            fastest = Some((best, layout));
        }
    }
    let Some((_, layout)) = fastest else { return Err("no layout of the weights".to_owned()) };
    let mut product = engine.product(case, &operands, layout, copies)?;
    let check = Check::new(case, &operands, &product)?;
    let warm = Instant::now();
    for copy in 0..copies {
        time(&mut product, copy..copy + 1)?;
        if copy > 1 && warm.elapsed().as_secs_f64() > WARM {
            break;
        }
    }
    let once = time(&mut product, 0..1)?;
    let burst = ((SHORTEST / once.max(1e-7)).ceil() as usize).clamp(1, MAX_BURST);
    let mut samples = Vec::with_capacity(args.samples);
    let mut next = 0;
    for _ in 0..args.samples {
        samples.push(time(&mut product, (next..next + burst).map(|at| at % copies))? / burst as f64);
        next = (next + burst) % copies;
    }
    let nmse = check.run(&mut product)?;
    let mut sorted = samples.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    let line = json!({
        "peer": engine.name(), "op": case.op, "format": case.format, "shape": case.shape(),
        "device": engine.device(), "layout": engine.layouts()[layout], "copies": copies, "burst": burst,
        "nmse": nmse, "weights_nmse": check.weights, "median_s": median, "min_s": sorted[0], "samples": samples,
    });
    Ok(line.to_string())
}

/// Seconds of the products of these copies, one after the other, with the wait for the device.
fn time<P: Product>(product: &mut P, turn: impl Iterator<Item = usize>) -> Result<f64> {
    let start = Instant::now();
    for copy in turn {
        product.submit(copy)?;
    }
    product.wait()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Outputs as the host has them.
struct Check {
    /// Places in y and what stands there.
    want: Vec<(usize, f64)>,
    /// What the rounding of the weights costs.
    weights: f64,
    bound: f64,
}

impl Check {
    /// Multiplies the rounded weights, once they are seen to be those that were asked for.
    fn new<P: Product>(case: &Case, operands: &Operands, product: &P) -> Result<Self> {
        let rounded = product.weights()?;
        if rounded.len() != operands.w.len() {
            return Err(format!("{} weights came back; want {}", rounded.len(), operands.w.len()));
        }
        let pairs = |a: &[f32], b: &[f32]| -> Vec<(f64, f64)> {
            a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b))).collect()
        };
        let weights = nmse(&pairs(&rounded, &operands.w));
        // Codes of 4 bits cost about 1e-2, of 8 bits about 1e-5.
        let most = if case.format == "f32" { 0.0 } else { 3e-2 };
        if weights > most {
            return Err(format!(
                "the weights came back with an NMSE of {weights:.1e}; want at most {most:.1e}"
            ));
        }
        let outputs = case.m * case.n;
        let want = (0..CHECKED.min(outputs)).map(|i| {
            // A large prime spreads the places over rows and columns.
            let at = if outputs <= CHECKED { i } else { i * 15_485_863 % outputs };
            let (row, col) = (at / case.n, at % case.n);
            let x = &operands.x[row * case.k..][..case.k];
            let w = &rounded[col * case.k..][..case.k];
            (at, pairs(x, w).iter().map(|(x, w)| x * w).sum())
        });
        // Some engines round x as well where the weights are codes.
        let bound = if case.format == "f32" { 1e-6 } else { 1e-3 };
        Ok(Self { want: want.collect(), weights, bound })
    }

    /// Runs the product once; its NMSE over the checked outputs.
    fn run<P: Product>(&self, product: &mut P) -> Result<f64> {
        time(product, [0].into_iter())?;
        let got = product.output()?;
        let found = self.want.iter().map(|&(at, want)| got.get(at).map(|&got| (f64::from(got), want)));
        let Some(found) = found.collect::<Option<Vec<_>>>() else {
            return Err(format!("only {} outputs came back", got.len()));
        };
        let nmse = nmse(&found);
        if nmse > self.bound {
            let bound = self.bound;
            return Err(format!(
                "{} outputs differ from the product on the host by an NMSE of {nmse:.1e}, want at most {bound:.1e}; \
                 not timed",
                found.len()
            ));
        }
        Ok(nmse)
    }
}

/// Of pairs of what came and what was wanted; infinite where one is no number.
fn nmse(pairs: &[(f64, f64)]) -> f64 {
    let error: f64 = pairs.iter().map(|(got, want)| (got - want).powi(2)).sum();
    let power: f64 = pairs.iter().map(|(_, want)| want.powi(2)).sum();
    let nmse = error / power;
    if nmse.is_nan() { f64::INFINITY } else { nmse }
}

/// Name and version of a dependency.
pub fn version(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let package = format!("name = \"{name}\"\nversion = \"");
    let version = lock.split_once(&package).and_then(|(_, rest)| rest.split('"').next());
    format!("{name} {}", version.unwrap_or("of unknown version"))
}
