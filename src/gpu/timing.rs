//! How long recordings take on the device: timestamps around a pass, or a clock around a fence.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::device::{Gpu, lock};
use super::recording::Recording;
use crate::error::{Error, Result};

/// Two timestamps of 64 bits.
const BYTES: u64 = 16;

/// What a time was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Timestamps that the device writes before and after the dispatches.
    Timestamps,
    /// The clock of the host, from the submission to the fence.
    Wall,
}

impl Clock {
    /// `timestamps`, `wall clock`
    pub fn name(self) -> &'static str {
        match self {
            Self::Timestamps => "timestamps",
            Self::Wall => "wall clock",
        }
    }
}

/// What timing needs on the device, made at first use.
pub(super) struct Timer {
    /// Nothing is in it; it is for barriers.
    fence: wgpu::Buffer,
    stamps: Option<Stamps>,
}

/// What reads timestamps back.
struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timer {
    fn new(device: &wgpu::Device) -> Self {
        let fence = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("fence"),
            size: BYTES,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let has_stamps = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        Self { fence, stamps: has_stamps.then(|| Stamps::new(device)) }
    }
}

impl Stamps {
    fn new(device: &wgpu::Device) -> Self {
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        }
    }

    fn ticks(&self, gpu: &Gpu) -> Result<u64> {
        self.staging.map_async(wgpu::MapMode::Read, 0..BYTES, |_| {});
        gpu.wait()?;
        let failed = |e| Error::unavailable(format!("cannot read timestamps back: {e}; try --clock wall"));
        let view = self.staging.get_mapped_range(0..BYTES).map_err(failed)?;
        let mut ticks = [0u64; 2];
        bytemuck::cast_slice_mut(&mut ticks).copy_from_slice(&view[..]);
        drop(view);
        self.staging.unmap();
        Ok(ticks[1].saturating_sub(ticks[0]))
    }
}

impl Gpu {
    /// The most exact clock of this device.
    pub fn clock(&self) -> Clock {
        match self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            true => Clock::Timestamps,
            false => Clock::Wall,
        }
    }

    /// Runs `recordings` in one pass, each after the one before is done, and waits: seconds of all together by
    /// `clock`. A wall clock includes the submission and the fence.
    ///
    /// # Errors
    /// When the device failed or has no such clock.
    pub fn time(&self, recordings: &[&Recording], clock: Clock) -> Result<f64> {
        self.wait()?;
        let mut slot = lock(&self.timer);
        let timer = slot.get_or_insert_with(|| Timer::new(&self.device));
        let stamps = match (clock, &timer.stamps) {
            (Clock::Wall, _) => None,
            (Clock::Timestamps, Some(stamps)) => Some(stamps),
            (Clock::Timestamps, None) => {
                return Err(Error::unavailable("this device writes no timestamps; use --clock wall"));
            }
        };
        // The host records before the clock of the host starts.
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("timed"),
                timestamp_writes: stamps.map(|stamps| wgpu::ComputePassTimestampWrites {
                    query_set: &stamps.queries,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                }),
            });
            for (i, recording) in recordings.iter().enumerate() {
                if i > 0 {
                    // Layers of a model wait for each other. Recordings share no buffer that they write, so without a
                    // barrier the device would be free to overlap them; a barrier for any buffer holds all dispatches.
                    let buffer = &timer.fence;
                    let state = wgpu::BufferUses::STORAGE_READ_WRITE;
                    let fence = [wgpu::BufferTransition { buffer, state }];
                    pass.transition_resources(fence.into_iter(), std::iter::empty());
                }
                recording.encode(&mut pass);
            }
        }
        if let Some(stamps) = stamps {
            encoder.resolve_query_set(&stamps.queries, 0..2, &stamps.resolved, 0);
            encoder.copy_buffer_to_buffer(&stamps.resolved, 0, &stamps.staging, 0, BYTES);
        }
        let commands = encoder.finish();
        let start = Instant::now();
        self.queue.submit([commands]);
        self.wait()?;
        let wall = start.elapsed().as_secs_f64();
        match stamps {
            Some(stamps) => {
                let ticks = stamps.ticks(self)?;
                Ok(ticks as f64 * f64::from(self.queue.get_timestamp_period()) * 1e-9)
            }
            None => Ok(wall),
        }
    }
}
