//! The search over tiles: every candidate of a product is verified, and the fastest is taken if that is no noise.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::kernels::{Case, Options, multiplies_integers};
use super::subject::Subject;
use super::{Measurement, Sampling, Summary, Unit};
use crate::engine::{Resident, Session};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recording};
use crate::shader::{Choice, Kernel, Product, Tuning};

/// Candidates that took longer than this times the best in a first look are out.
const OUT: f64 = 1.3;
/// Most candidates of the second look, the default apart.
const FEW: usize = 4;
/// A candidate must be this much faster than the default to take its place.
const GAIN: f64 = 0.03;
/// Copies of the operands that take turns; the tiles are compared among themselves, so few will do.
const COPIES: u64 = 4;

/// What was found for a product.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `gemm int4(group=32) 16x1024x1024`
    pub name: String,
    /// What the partition is for.
    pub product: Product,
    /// Legal candidates that were measured.
    pub candidates: usize,
    /// What plans use without a measurement.
    pub default: Choice,
    /// What they use from now on.
    pub best: Choice,
    /// Seconds under `default` and `best`.
    pub measurements: BTreeMap<&'static str, Measurement>,
    /// Candidates whose result was wrong or that the driver refused, and how.
    pub failures: Vec<String>,
}

/// Measures every candidate for `case` and has `gpu` use the best. `None` where there is no choice: naive plans, and
/// kernels with one tile.
///
/// # Errors
/// When the device is lost, or the default partition is wrong.
pub fn run(gpu: &Arc<Gpu>, case: &Case, options: Options) -> Result<Option<Row>> {
    case.check(gpu)?;
    let subject = case.subject()?;
    let known = gpu.tuning();
    let found = search(gpu, case, &subject, options);
    // Whatever happened, plans go on with what was known.
    gpu.set_tuning(known.clone())?;
    let Some(row) = found? else { return Ok(None) };
    let mut tuning = known;
    tuning.set(row.product.clone(), row.best);
    gpu.set_tuning(tuning)?;
    Ok(Some(row))
}

/// A candidate on all copies of the operands.
struct Entry {
    choice: Choice,
    sessions: Vec<Session>,
}

impl Entry {
    fn new(
        gpu: &Arc<Gpu>,
        subject: &Subject,
        copies: &mut [Resident],
        product: &Product,
        choice: Choice,
    ) -> Result<Self> {
        let mut tuning = Tuning::default();
        tuning.set(product.clone(), choice);
        gpu.set_tuning(tuning)?;
        let sessions =
            copies.iter_mut().map(|copy| subject.session_on(copy, true)).collect::<Result<Vec<_>>>()?;
        Ok(Self { choice, sessions })
    }

    /// The products of all copies.
    fn recordings(&self) -> Result<Vec<Recording>> {
        let all = self.sessions.iter().map(|session| {
            let recording = session.recording().ok_or_else(|| Error::invalid("no step has run"))?;
            Ok(recording.only(|name| name.starts_with("gem")))
        });
        all.collect()
    }

    /// Runs on a poisoned result; what is wrong with it.
    fn verify(&self, gpu: &Gpu, subject: &Subject) -> Result<Option<String>> {
        let Some(session) = self.sessions.first() else { return Ok(None) };
        let (Some(output), Some(recording)) = (session.output(), session.recording()) else {
            return Err(Error::invalid("no step has run"));
        };
        subject.expectation.poison(gpu, output)?;
        gpu.run(&[recording])?;
        let verdict = subject.expectation.check(gpu, output)?;
        Ok((!verdict.pass)
            .then(|| format!("{}: {}", self.choice, verdict.at.unwrap_or_else(|| "wrong".into()))))
    }
}

fn search(gpu: &Arc<Gpu>, case: &Case, subject: &Subject, options: Options) -> Result<Option<Row>> {
    let Options { sampling, clock, cache } = options;
    gpu.set_tuning(Tuning::default())?;
    let before = gpu.allocated_bytes();
    let mut copies = vec![Resident::new(gpu.clone(), None)];
    let first = subject.session_on(&mut copies[0], true)?;
    let Some(product) = product(&first, case) else { return Ok(None) };
    let each = (gpu.allocated_bytes() - before).max(1);
    drop(first);
    for _ in 1..(2 * cache).div_ceil(each).min(COPIES) {
        copies.push(Resident::new(gpu.clone(), None));
    }
    let choices = Choice::candidates(gpu.class(), gpu.direct(), case.shape.m, case.shape.k, product.integer);
    let default = choices[0];
    let (mut entries, mut failures) = (Vec::new(), Vec::new());
    for choice in choices {
        let entry = match Entry::new(gpu, subject, &mut copies, &product, choice) {
            Ok(entry) => entry,
            // What the driver does not compile is no candidate; a lost device fails at the default as well.
            Err(error) if choice != default => {
                failures.push(format!("{choice}: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        match entry.verify(gpu, subject)? {
            Some(failure) if choice == default => {
                return Err(Error::Invalid(format!("{}: {failure}", case.name())));
            }
            Some(failure) => failures.push(failure),
            None => entries.push(entry),
        }
    }
    let candidates = entries.len();
    let time = |entries: &[Entry], sampling: Sampling| -> Result<Vec<Summary>> {
        let timed = entries.iter().map(Entry::recordings).collect::<Result<Vec<_>>>()?;
        let samples = sampling.time(gpu, &timed, clock)?;
        let all = samples.iter().map(|samples| Summary::of(samples));
        all.collect::<Option<Vec<_>>>().ok_or_else(|| Error::invalid("nothing was timed"))
    };
    // A first look at all of them, then a closer one at those that may be the best.
    let look = time(&entries, Sampling { samples: 3, seconds: 0.0 })?;
    let least = look.iter().map(|s| s.min).fold(f64::INFINITY, f64::min);
    let mut order: Vec<usize> = (1..entries.len()).filter(|&i| look[i].min <= OUT * least).collect();
    order.sort_by(|&a, &b| look[a].min.total_cmp(&look[b].min));
    order.truncate(FEW);
    let mut at = 0;
    entries.retain(|_| {
        at += 1;
        at == 1 || order.contains(&(at - 1))
    });
    let seconds = time(&entries, sampling)?;
    let of = |i: usize| Measurement { unit: Unit::Seconds, summary: seconds[i] };
    let fastest = (1..entries.len()).min_by(|&a, &b| seconds[a].median.total_cmp(&seconds[b].median));
    // Beyond the quartiles of both, and by a margin.
    let better =
        |&i: &usize| seconds[i].high < seconds[0].low && seconds[i].median < seconds[0].median * (1.0 - GAIN);
    let best = fastest.filter(better).unwrap_or(0);
    let chosen = &entries[best];
    if let Some(failure) = chosen.verify(gpu, subject)? {
        return Err(Error::Invalid(format!(
            "{}: right before it was timed, wrong after: {failure}",
            case.name()
        )));
    }
    Ok(Some(Row {
        name: case.name(),
        product,
        candidates,
        default,
        best: chosen.choice,
        measurements: BTreeMap::from([("default", of(0)), ("best", of(best))]),
        failures,
    }))
}

/// The product that a session of one linear layer lowers to, from the name of its pipeline; none of kernels with one tile.
fn product(session: &Session, case: &Case) -> Option<Product> {
    let recording = session.recording()?;
    let kernels = recording.kernels();
    let name = kernels.iter().rev().find(|name| name.starts_with("gem"))?;
    let (kernel, rest) = name.split_once('<')?;
    let (format, _) = rest.split_once('>')?;
    let integer = multiplies_integers(name);
    let one_tile = [Kernel::GemmF16, Kernel::GemmPairedDirect, Kernel::GemmPlanesDirect];
    let one_tile = one_tile.iter().any(|one| one.row().name == kernel);
    let product = Product::new(format.to_owned(), integer, case.shape.m, case.shape.n, case.shape.k);
    (!one_tile).then_some(product)
}
