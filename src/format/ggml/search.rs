//! Encoders for the types whose scales are themselves quantized, and for the table types: anybit's own.
//!
//! The aim is the least squared error over the weights of a block. Codes for given scales are the nearest grid
//! points; scales for given codes solve a linear least-squares problem. The search alternates between the two,
//! in three stages:
//!
//! 1. For each sub-block on its own, real scales: from several clipping ranges, a few alternations each; the
//!    best one wins.
//! 2. `d` (and `dmin`) in f16 such that the largest scale is the largest sub-scale; each sub-block then takes the
//!    best of the neighbouring integer pairs, its codes rounded anew for each.
//! 3. `d` and `dmin` solved for all codes of the block, and stage 2 again, as long as the error falls.
//!
//! Every stage works in units of a power of two near the largest magnitude, so that squares neither overflow
//! nor vanish. No step depends on other blocks or on the number of threads.

use half::f16;

use super::scale::{pack_iq4xs, pack_pairs, pack_q3k};
use super::{GgmlType, IQ4_TABLE, MAX_BLOCK, MAX_SUBS};

/// Clipping ranges that stage 1 starts from, as parts of the whole range.
const CLIPS: [f32; 4] = [1.0, 0.92, 0.84, 0.72];
/// Alternations from each of them.
const ALTERNATIONS: usize = 3;
/// Most weights in a sub-block of the types here.
const MAX_SUB_BLOCK: usize = 32;
/// Most repetitions of stage 3.
const ROUNDS: usize = 4;

/// The values that codes can have.
#[derive(Clone, Copy)]
enum Grid {
    /// The integers of a range.
    Integers(f32, f32),
    /// [`IQ4_TABLE`].
    Table,
}

impl Grid {
    fn of(ty: GgmlType) -> Self {
        let layout = ty.layout();
        match ty.table() {
            Some(_) => Self::Table,
            None => {
                let low = f32::from(layout.low);
                Self::Integers(low, low + ((1 << layout.bits) - 1) as f32)
            }
        }
    }

    fn ends(self) -> [f32; 2] {
        match self {
            Self::Integers(low, high) => [low, high],
            Self::Table => [f32::from(IQ4_TABLE[0]), f32::from(IQ4_TABLE[15])],
        }
    }

    /// The grid values nearest to `(w + min) / scale`.
    fn round(self, weights: &[f32], scale: f32, min: f32, values: &mut [f32]) {
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        match self {
            Self::Integers(low, high) => {
                for (value, &w) in values.iter_mut().zip(weights) {
                    *value = nearest_integer(((w + min) * inverse).max(low).min(high));
                }
            }
            Self::Table => {
                for (value, &w) in values.iter_mut().zip(weights) {
                    let target = (w + min) * inverse;
                    // Each midpoint below the target adds the step across it: no branches, no look-ups.
                    *value = f32::from(IQ4_TABLE[0]);
                    for pair in IQ4_TABLE.windows(2) {
                        let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
                        *value += if target * 2.0 >= low + high { high - low } else { 0.0 };
                    }
                }
            }
        }
    }

    /// The code of a grid value.
    fn code(self, value: f32) -> i8 {
        match self {
            Self::Integers(..) => value as i8,
            Self::Table => IQ4_TABLE.iter().position(|&entry| f32::from(entry) == value).unwrap_or(0) as i8,
        }
    }
}

/// Rounds half to even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves no bits for a fraction. Unlike a
/// call of `round_ties_even` it compiles to vector additions on every target.
fn nearest_integer(v: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (v + MAGIC) - MAGIC
}

/// Partial sums kept side by side: f32 additions may not be reordered, so that a single running sum would be a
/// chain the compiler cannot turn into vectors. Sub-blocks are multiples of this.
const LANES: usize = 8;

fn squared_error(weights: &[f32], values: &[f32], scale: f32, min: f32) -> f32 {
    let mut sums = [0.0; LANES];
    for (weights, values) in weights.chunks_exact(LANES).zip(values.chunks_exact(LANES)) {
        for ((sum, w), v) in sums.iter_mut().zip(weights).zip(values) {
            let error = scale * v - min - w;
            *sum += error * error;
        }
    }
    sums.iter().sum()
}

/// Sums of a least-squares problem `w = scale * a - min * b`.
#[derive(Clone, Copy, Default)]
struct Sums {
    aa: f32,
    ab: f32,
    bb: f32,
    aw: f32,
    bw: f32,
}

impl Sums {
    /// Adds a sub-block whose `a` is `factor` times its values and whose `b` is constant.
    fn add(&mut self, weights: &[f32], values: &[f32], factor: f32, b: f32) {
        let [mut vv, mut v1, mut vw, mut w1] = [[0.0; LANES]; 4];
        for (weights, values) in weights.chunks_exact(LANES).zip(values.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let (w, v) = (weights[lane], values[lane]);
                vv[lane] += v * v;
                v1[lane] += v;
                vw[lane] += v * w;
                w1[lane] += w;
            }
        }
        let [vv, v1, vw, w1] = [vv, v1, vw, w1].map(|lanes| lanes.iter().sum::<f32>());
        self.aa += factor * factor * vv;
        self.ab += factor * b * v1;
        self.bb += b * b * weights.len() as f32;
        self.aw += factor * vw;
        self.bw += b * w1;
    }

    /// Best scale without a minimum.
    fn scale(self) -> Option<f32> {
        (self.aa > 0.0).then(|| self.aw / self.aa)
    }

    /// Best scale and minimum, neither of them negative.
    fn scale_and_min(self) -> Option<(f32, f32)> {
        let determinant = self.aa * self.bb - self.ab * self.ab;
        // A determinant lost to rounding: all values equal.
        if determinant > 1e-6 * self.aa * self.bb {
            let scale = (self.aw * self.bb - self.ab * self.bw) / determinant;
            let min = (self.ab * self.aw - self.aa * self.bw) / determinant;
            if scale > 0.0 && min >= 0.0 {
                return Some((scale, min));
            }
        }
        self.scale().filter(|&scale| scale > 0.0).map(|scale| (scale, 0.0))
    }
}

/// Scale and minimum that solve the sums; the minimum is 0 for types without minima.
type Solve = fn(Sums) -> Option<(f32, f32)>;

/// The search for one block.
struct Search {
    grid: Grid,
    /// Weights per sub-block.
    sub: usize,
    /// Smallest and largest integer sub-scale; minima reach from 0 to the largest.
    range: [f32; 2],
    solve: Solve,
    /// Weights per block.
    len: usize,
    /// Weights in units of `unit`.
    weights: [f32; MAX_BLOCK],
    /// A power of two near the largest magnitude.
    unit: f32,
}

/// A block with integer sub-scales, and its squared error.
struct Candidate {
    d: f32,
    dmin: f32,
    /// Integer scale and minimum of each sub-block.
    pairs: [(f32, f32); MAX_SUBS],
    values: [f32; MAX_BLOCK],
    error: f32,
}

impl Search {
    fn new(ty: GgmlType, weights: &[f32], range: [f32; 2], solve: Solve) -> Self {
        let max = weights.iter().fold(0.0, |max, w| f32::max(max, w.abs()));
        // Both the unit and its reciprocal are normal. Scales of smaller weights round to 0 in f16 anyway.
        let unit = f32::from_bits(max.to_bits().clamp(1 << 23, 253 << 23) & 0x7f80_0000);
        let mut scaled = [0.0; MAX_BLOCK];
        for (to, from) in scaled.iter_mut().zip(weights) {
            *to = from / unit;
        }
        Self {
            grid: Grid::of(ty),
            sub: ty.sub_block(),
            range,
            solve,
            len: weights.len(),
            weights: scaled,
            unit,
        }
    }

    fn subs(&self) -> std::slice::Chunks<'_, f32> {
        self.weights[..self.len].chunks(self.sub)
    }

    /// Stage 1: the best real (scale, minimum) of each sub-block among those found from its `starts`.
    fn fits<I: Iterator<Item = (f32, f32)>>(&self, starts: impl Fn(&[f32]) -> I) -> [(f32, f32); MAX_SUBS] {
        let mut fits = [(0.0, 0.0); MAX_SUBS];
        for (fit, weights) in fits.iter_mut().zip(self.subs()) {
            let mut least = f32::INFINITY;
            for start in starts(weights) {
                self.alternate(weights, start, fit, &mut least);
            }
        }
        fits
    }

    /// Alternates between codes and scales from `start` on; keeps what is better than `least` in `best`.
    fn alternate(&self, weights: &[f32], start: (f32, f32), best: &mut (f32, f32), least: &mut f32) {
        let mut buffer = [0.0; MAX_SUB_BLOCK];
        let values = &mut buffer[..weights.len()];
        let (mut scale, mut min) = start;
        let mut last = f32::INFINITY;
        for _ in 0..=ALTERNATIONS {
            self.grid.round(weights, scale, min, values);
            let error = squared_error(weights, values, scale, min);
            if error < *least {
                (*best, *least) = ((scale, min), error);
            }
            if error >= last {
                break;
            }
            last = error;
            let mut sums = Sums::default();
            sums.add(weights, values, 1.0, 1.0);
            match (self.solve)(sums) {
                Some(solution) => (scale, min) = solution,
                None => break,
            }
        }
    }

    /// Stages 2 and 3 from the real scales of stage 1; `top` is the integer that the largest scale becomes.
    fn run(&self, fits: &[(f32, f32); MAX_SUBS], top: f32) -> Candidate {
        let d = self.half(largest(fits.iter().map(|fit| fit.0)) / top);
        let dmin = self.half(largest(fits.iter().map(|fit| fit.1)) / top);
        // The bound keeps a quotient by a rounded-down subnormal within the reach of `nearest_integer`.
        let integer = |v: f32, d: f32| if d == 0.0 { 0.0 } else { nearest_integer((v / d).clamp(-1e3, 1e3)) };
        let mut best = self.candidate(d, dmin, &fits.map(|fit| (integer(fit.0, d), integer(fit.1, dmin))));
        for _ in 0..ROUNDS {
            let Some((d, dmin)) = (self.solve)(self.sums(&best)) else { break };
            let next = self.candidate(self.half(d), self.half(dmin), &best.pairs);
            // Not so either after an overflow of f16, when the error is NaN.
            if next.error < best.error {
                best = next;
            } else {
                break;
            }
        }
        best
    }

    /// A scale rounded to f16, in units of the block.
    fn half(&self, scale: f32) -> f32 {
        f16::from_f32(scale * self.unit).to_f32() / self.unit
    }

    /// Stage 2: the best integers within one of `near`.
    fn candidate(&self, d: f32, dmin: f32, near: &[(f32, f32); MAX_SUBS]) -> Candidate {
        let mut candidate =
            Candidate { d, dmin, pairs: [(0.0, 0.0); MAX_SUBS], values: [0.0; MAX_BLOCK], error: 0.0 };
        let mut buffer = [0.0; MAX_SUB_BLOCK];
        let trial = &mut buffer[..self.sub];
        let [low, high] = self.range;
        let around: &[f32] = &[0.0, -1.0, 1.0];
        let steps = if low == high { &around[..1] } else { around };
        let min_steps = if dmin == 0.0 { &around[..1] } else { around };
        let targets = candidate.pairs.iter_mut().zip(candidate.values.chunks_mut(self.sub));
        for ((weights, near), (pair, values)) in self.subs().zip(near).zip(targets) {
            let mut least = f32::INFINITY;
            for step in steps {
                for min_step in min_steps {
                    let integers = ((near.0 + step).clamp(low, high), (near.1 + min_step).clamp(0.0, high));
                    let (scale, min) = (d * integers.0, dmin * integers.1);
                    self.grid.round(weights, scale, min, trial);
                    let error = squared_error(weights, trial, scale, min);
                    if error < least {
                        (*pair, least) = (integers, error);
                        values.copy_from_slice(trial);
                    }
                }
            }
            candidate.error += least;
        }
        candidate
    }

    /// Sums for `d` and `dmin` over the whole block.
    fn sums(&self, candidate: &Candidate) -> Sums {
        let mut sums = Sums::default();
        let subs = self.subs().zip(candidate.values.chunks(self.sub)).zip(&candidate.pairs);
        for ((weights, values), &(scale, min)) in subs {
            sums.add(weights, values, scale, min);
        }
        sums
    }

    /// Codes of a candidate, and its `d` and `dmin` as f16 at the two places.
    fn store(&self, found: &Candidate, codes: &mut [i8], halves: &mut [u8]) {
        for (code, &value) in codes.iter_mut().zip(&found.values) {
            *code = self.grid.code(value);
        }
        for (half, value) in halves.chunks_mut(2).zip([found.d, found.dmin]) {
            half.copy_from_slice(&f16::from_f32(value * self.unit).to_le_bytes());
        }
    }
}

/// The value of largest magnitude.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |largest: f32, value| if value.abs() > largest.abs() { value } else { largest })
}

/// `q2_k`, `q4_k`, `q5_k`: unsigned codes, scales and minima.
pub(super) fn with_minima(ty: GgmlType, weights: &[f32], codes: &mut [i8], scales: &mut [u8]) {
    let high = if ty == GgmlType::Q2K { 15.0 } else { 63.0 };
    let search = Search::new(ty, weights, [0.0, high], Sums::scale_and_min);
    let [_, top] = search.grid.ends();
    let fits = search.fits(|weights| {
        let low = weights.iter().copied().fold(0.0, f32::min);
        let high = weights.iter().copied().fold(low, f32::max);
        // A constant sub-block has no range; its minimum alone is exact.
        CLIPS.into_iter().map(move |clip| ((high - low) * clip / top, -low * clip)).chain([(0.0, -low)])
    });
    let found = search.run(&fits, high);
    let pair = |j: usize| (found.pairs[j].0 as u8, found.pairs[j].1 as u8);
    let halves = if ty == GgmlType::Q2K {
        for (j, byte) in scales[..16].iter_mut().enumerate() {
            *byte = pair(j).0 | pair(j).1 << 4;
        }
        16..20
    } else {
        pack_pairs(&std::array::from_fn(pair), &mut scales[4..16]);
        0..4
    };
    search.store(&found, codes, &mut scales[halves]);
}

/// `q3_k`, `q6_k`, `iq4_nl`, `iq4_xs`: codes around zero, signed scales, no minima.
pub(super) fn without_minima(ty: GgmlType, weights: &[f32], codes: &mut [i8], scales: &mut [u8]) {
    let range = match ty {
        GgmlType::Q6K => [-128.0, 127.0],
        GgmlType::Iq4Nl => [1.0, 1.0],
        _ => [-32.0, 31.0],
    };
    let search = Search::new(ty, weights, range, |sums| sums.scale().map(|scale| (scale, 0.0)));
    let fits = search.fits(|weights| {
        // The extreme weight at either end of the grid: the ends differ, and so does what clipping costs.
        let extreme = largest(weights.iter().copied());
        let ends = search.grid.ends().into_iter();
        ends.flat_map(move |end| CLIPS.map(|clip| (extreme * clip / end, 0.0)))
    });
    // The largest scale at either end of the sub-scales: the lower one has a finer step for it, but a scale as
    // large of the other sign would not fit.
    let [low, high] = range.map(|end| search.run(&fits, end));
    let found = if high.error < low.error { high } else { low };
    let scale = |j: usize| found.pairs[j].0 as i8;
    let half = match ty {
        GgmlType::Q6K => {
            for (j, byte) in scales[..16].iter_mut().enumerate() {
                *byte = scale(j) as u8;
            }
            16..18
        }
        GgmlType::Q3K => {
            pack_q3k(&std::array::from_fn(scale), &mut scales[..12]);
            12..14
        }
        GgmlType::Iq4Xs => {
            pack_iq4xs(&std::array::from_fn(scale), &mut scales[2..8]);
            0..2
        }
        _ => 0..2,
    };
    search.store(&found, codes, &mut scales[half]);
}
