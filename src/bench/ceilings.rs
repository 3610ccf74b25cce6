//! What a device reaches at most, measured: bytes of a copy, f32 multiply-adds, 8-bit products.

use std::time::Instant;

use serde::Serialize;

use super::{Sampling, data};
use crate::error::{Error, Result};
use crate::gpu::{Binder, Buffer, Clock, Gpu, Recording};
use crate::shader::Probe;

/// Shortest run of a probe, seconds: start-up must not count.
const SHORTEST: f64 = 4e-3;
/// Most turns of the loops.
const MAX_TURNS: u32 = 1 << 16;
/// Invocations of the arithmetic probes: enough to fill every device.
const INVOCATIONS: u32 = 1 << 16;
/// Bytes of the largest copy.
const MAX_COPY: u64 = 512 << 20;
/// Bytes that a workgroup copies.
const COPIED: u64 = 64 * 16;
/// Workgroups in one dimension, as recordings fold them.
const MAX_GROUPS: u64 = 65535;

/// Rates of microkernels that do nothing else, the best of several samples each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceilings {
    /// Bytes read and written per second by a copy, that of a shader or that of the driver, whichever is faster.
    pub copy: f64,
    /// f32 operations per second, two of each multiply-add.
    pub f32: f64,
    /// 8-bit operations per second of `dot4I8Packed`, eight of each.
    pub dot4: f64,
}

impl Ceilings {
    /// Measures them with `clock`; copies exceed a cache of `cache` bytes as far as bindings allow.
    ///
    /// # Errors
    /// When the device fails or a probe computes something wrong.
    pub fn measure(gpu: &Gpu, clock: Clock, sampling: Sampling, cache: u64) -> Result<Self> {
        let bytes = (2 * cache).min(gpu.max_binding()).min(MAX_COPY) / COPIED * COPIED;
        let copy = Bench::new(gpu, Probe::Copy, (bytes.max(COPIED) / 16) as u32)?;
        let best = |bench: &Bench<'_>, turns: u32| -> Result<f64> {
            let recording = vec![bench.recording(turns)?];
            let seconds = sampling.time(gpu, &[recording], clock)?.concat();
            bench.check(turns)?;
            Ok(seconds.into_iter().fold(f64::INFINITY, f64::min).max(1e-9))
        };
        let copied = 2.0 * copy.count as f64 * 16.0;
        // A software driver copies buffers faster than its shaders do.
        let by_driver = sampling.take(1, |_| {
            gpu.wait()?;
            let start = Instant::now();
            gpu.copy(&copy.x, &copy.y)?;
            gpu.wait()?;
            Ok(start.elapsed().as_secs_f64())
        })?;
        let by_driver = by_driver.concat().into_iter().fold(f64::INFINITY, f64::min);
        let mut rates = [copied / best(&copy, 1)?.min(by_driver), 0.0, 0.0];
        drop(copy);
        for (rate, probe) in rates[1..].iter_mut().zip([Probe::Fma, Probe::Dot4]) {
            let bench = Bench::new(gpu, probe, INVOCATIONS)?;
            let mut turns = 64;
            loop {
                let recording = bench.recording(turns)?;
                gpu.time(&[&recording], clock)?;
                if gpu.time(&[&recording], clock)? >= SHORTEST || turns >= MAX_TURNS {
                    break;
                }
                turns *= 4;
            }
            *rate = probe.operations(turns) as f64 * f64::from(bench.count) / best(&bench, turns)?;
        }
        Ok(Self { copy: rates[0], f32: rates[1], dot4: rates[2] })
    }
}

/// A probe with its buffers.
struct Bench<'a> {
    gpu: &'a Gpu,
    probe: Probe,
    count: u32,
    words: Vec<u32>,
    x: Buffer,
    y: Buffer,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu, probe: Probe, count: u32) -> Result<Self> {
        let n = count as usize * 4;
        let words: Vec<u32> = match probe {
            Probe::Fma => data::values(n, 3).into_iter().map(f32::to_bits).collect(),
            _ => data::values(n, 3).into_iter().map(|v| v.to_bits().wrapping_mul(0x9e37_79b9)).collect(),
        };
        let buffer = |name| gpu.buffer(name, (n * 4) as u64);
        let (x, y) = (buffer("probe input")?, buffer("probe output")?);
        gpu.upload(&x, bytemuck::cast_slice(&words))?;
        Ok(Self { gpu, probe, count, words, x, y })
    }

    fn recording(&self, turns: u32) -> Result<Recording> {
        let groups = u64::from(self.count).div_ceil(u64::from(Probe::WORKGROUP));
        let line = groups.div_ceil(groups.div_ceil(MAX_GROUPS).max(1));
        let stride = line as u32;
        let params = [("count", self.count), ("turns", turns), ("one", 1), ("stride", stride)];
        let mut binder = Binder::default();
        binder.dispatch(self.gpu.probe(self.probe)?, &[("x", &self.x), ("y", &self.y)], &params, groups)?;
        binder.finish(self.gpu)
    }

    /// That the probe did its work: a driver that skips it has no rate.
    fn check(&self, turns: u32) -> Result<()> {
        let got = self.gpu.read::<u32>(&self.y, self.words.len())?;
        let step = (self.count as usize / 61).max(1);
        for at in (0..self.count as usize).step_by(step) {
            let x: [u32; 4] = std::array::from_fn(|i| self.words[4 * at + i]);
            let y = &got[4 * at..4 * at + 4];
            let right = match self.probe {
                Probe::Copy => y == x,
                Probe::Dot4 => y == dot4(x, turns),
                Probe::Fma => y.iter().zip(x).all(|(y, x)| {
                    let (y, x) = (f32::from_bits(*y), f32::from_bits(x));
                    (y - 2.0 * x).abs() <= 1e-5 * x.abs().max(1.0)
                }),
            };
            if !right {
                let name = self.probe.name();
                return Err(Error::unavailable(format!(
                    "the probe `{name}` computes something wrong at {at} ({y:?}): this driver miscompiles it: update \
                     it or choose another adapter"
                )));
            }
        }
        Ok(())
    }
}

/// What `shaders/probe/dot4.wgsl` computes of one vector.
fn dot4(w: [u32; 4], turns: u32) -> [u32; 4] {
    let dot = |a: u32, b: u32| {
        let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        products.map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum::<i32>()
    };
    let mut sums = [0i32; 4];
    let mut v = w[0];
    for _ in 0..turns {
        for half in [w[1], w[2]] {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = sum.wrapping_add(dot(v, w));
            }
            v ^= half;
        }
    }
    sums.map(|sum| sum as u32)
}
