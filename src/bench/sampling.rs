//! How often a thing is timed.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::gpu::{Clock, Gpu, Recording};

/// Fewest samples, however long they take: of fewer there are no quartiles.
const LEAST: usize = 3;
/// Most recordings in one sample.
const MAX_BURST: usize = 256;

/// When enough samples have been taken: after so many, or after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Enough samples.
    pub samples: usize,
    /// Enough seconds, of all variants of a case together.
    pub seconds: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { samples: 20, seconds: 1.0 }
    }
}

impl Sampling {
    /// Seconds of each of `variants`, whose samples take turns, so that all see the same drift of the machine. `time`
    /// gets the index of a variant. At least 3 samples each.
    ///
    /// # Errors
    /// The first of `time`.
    pub fn take(&self, variants: usize, mut time: impl FnMut(usize) -> Result<f64>) -> Result<Vec<Vec<f64>>> {
        let mut samples = vec![Vec::new(); variants];
        let start = Instant::now();
        let mut done = 0;
        while done < LEAST || (done < self.samples && start.elapsed().as_secs_f64() < self.seconds) {
            for (i, samples) in samples.iter_mut().enumerate() {
                samples.push(time(i)?);
            }
            done += 1;
        }
        Ok(samples)
    }

    /// Seconds of one recording of each variant; the copies of a variant take turns. Runs every copy once to warm up,
    /// and puts as many recordings into one sample as the resolution of the clock asks for.
    ///
    /// # Errors
    /// When the device fails.
    pub fn time(&self, gpu: &Gpu, variants: &[Vec<Recording>], clock: Clock) -> Result<Vec<Vec<f64>>> {
        let shortest = match clock {
            Clock::Timestamps => Duration::from_micros(200),
            // A submission and its fence cost tens of microseconds.
            Clock::Wall => Duration::from_millis(4),
        };
        let mut bursts = Vec::with_capacity(variants.len());
        for copies in variants {
            for copy in copies {
                gpu.time(&[copy], clock)?;
            }
            let once = copies.first().map_or(Ok(0.0), |copy| gpu.time(&[copy], clock))?;
            let burst = (shortest.as_secs_f64() / once.max(1e-7)).ceil() as usize;
            bursts.push(burst.clamp(1, MAX_BURST));
        }
        let mut next = vec![0; variants.len()];
        self.take(variants.len(), |i| {
            let copies = &variants[i];
            let turn = (next[i]..next[i] + bursts[i]).map(|at| &copies[at % copies.len()]);
            let burst: Vec<&Recording> = turn.collect();
            next[i] = (next[i] + bursts[i]) % copies.len();
            Ok(gpu.time(&burst, clock)? / bursts[i] as f64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_end_with_their_number_or_their_time_but_never_before_three() {
        let count = |samples, seconds| {
            let all = Sampling { samples, seconds }.take(2, |i| Ok(i as f64)).unwrap();
            assert!(all[0].iter().all(|&s| s == 0.0) && all[1].iter().all(|&s| s == 1.0));
            assert_eq!(all[0].len(), all[1].len());
            all[0].len()
        };
        assert_eq!(count(20, 60.0), 20);
        assert_eq!(count(20, 0.0), LEAST);
        assert_eq!(count(1, 60.0), LEAST);
    }
}
