//! Recordings: a list of dispatches with their bindings, run in one compute pass as often as wanted.

use std::sync::Arc;

use super::buffer::{Buffer, Memory};
use super::device::{Gpu, translate};
use super::pipeline::Pipeline;
use super::window::{WINDOW, split};
use crate::error::{Error, Result};
use crate::shader::{Access, Kernel, Variant};

/// Workgroups per dimension every WebGPU device runs.
const MAX_GROUPS: u64 = 65535;
/// Offset alignment of uniform blocks every WebGPU device accepts.
const UNIFORM_SLOT: usize = 256;

/// Dispatches of a long list that are submitted before the others are encoded.
const AHEAD: usize = 8;

/// Parameters that are 0 where a caller does not give them: the first row and vector of x of a window, an ending that the
/// pipeline does not leave open.
const OPTIONAL: [&str; 4] = ["zero", "m_first", "x_base", "ending"];

/// One dispatch before its uniform block has a place.
#[derive(Clone)]
struct Draft {
    pipeline: Arc<Pipeline>,
    /// What is bound, from which byte on.
    buffers: Vec<(Buffer, u64)>,
    params: Vec<u32>,
    /// Workgroups.
    groups: u64,
}

/// Collects dispatches; [`Binder::finish`] places their parameters in one uniform buffer.
#[derive(Default)]
pub struct Binder {
    drafts: Vec<Draft>,
}

/// Dispatches ready to run.
pub struct Recording {
    dispatches: Vec<Dispatch>,
    uniforms: Option<Buffer>,
}

#[derive(Clone)]
struct Dispatch {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: (u32, u32),
}

/// Folds `groups` workgroups into two dimensions of at most 65,535 each.
fn fold(groups: u64) -> Result<(u32, u32)> {
    let y = groups.div_ceil(MAX_GROUPS).max(1);
    if y > MAX_GROUPS {
        return Err(Error::unavailable(format!(
            "a dispatch of {groups} workgroups exceeds {MAX_GROUPS} x {MAX_GROUPS}: use fewer tokens at a time"
        )));
    }
    Ok((groups.div_ceil(y) as u32, y as u32))
}

impl Binder {
    /// Appends a dispatch of `groups` workgroups. `buffers` and `params` are matched to the kernel's row by name;
    /// every name of the row must be given.
    ///
    /// # Errors
    /// When a name is missing or the grid is too large.
    pub fn dispatch(
        &mut self,
        pipeline: Arc<Pipeline>,
        buffers: &[(&str, &Buffer)],
        params: &[(&str, u32)],
        groups: u64,
    ) -> Result<()> {
        let missing =
            |what: &str, name: &str| Error::invalid(format!("{} lacks the {what} {name}", pipeline.name));
        let mut bound = Vec::with_capacity(pipeline.bindings.len());
        for binding in &pipeline.bindings {
            let found = buffers.iter().find(|(name, _)| *name == binding.name);
            bound.push((found.ok_or_else(|| missing("buffer", binding.name))?.1.clone(), 0));
        }
        let mut values = Vec::with_capacity(pipeline.params.len());
        for param in pipeline.params {
            let found = params.iter().find(|(name, _)| name == param);
            values.push(match found {
                Some((_, value)) => *value,
                None if OPTIONAL.contains(param) => 0,
                None => return Err(missing("parameter", param)),
            });
        }
        if groups > 0 {
            fold(groups)?;
            self.drafts.push(Draft { pipeline, buffers: bound, params: values, groups });
        }
        Ok(())
    }

    /// Places all parameters in one uniform buffer and creates the bind groups.
    ///
    /// # Errors
    /// When the device is out of memory or refuses a binding.
    pub fn finish(self, gpu: &Gpu) -> Result<Recording> {
        if self.drafts.is_empty() {
            return Ok(Recording { dispatches: Vec::new(), uniforms: None });
        }
        let mut drafts = Vec::with_capacity(self.drafts.len());
        for draft in self.drafts {
            draft.split(gpu, &mut drafts)?;
        }
        let mut data = vec![0u8; drafts.len() * UNIFORM_SLOT];
        for (slot, draft) in data.chunks_mut(UNIFORM_SLOT).zip(&drafts) {
            slot[..draft.params.len() * 4].copy_from_slice(bytemuck::cast_slice(&draft.params));
        }
        let uniforms = gpu.uniform("parameters", data.len() as u64)?;
        gpu.upload(&uniforms, &data)?;
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let dispatches = drafts
            .into_iter()
            .enumerate()
            .map(|(i, draft)| {
                let groups = fold(draft.groups)?;
                let size = (draft.params.len().next_multiple_of(4) * 4) as u64;
                let mut entries = vec![wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: uniforms.raw()?,
                        offset: (i * UNIFORM_SLOT) as u64,
                        size: std::num::NonZeroU64::new(size),
                    }),
                }];
                let bindings = draft.buffers.iter().zip(&draft.pipeline.bindings);
                for (j, ((buffer, offset), binding)) in bindings.enumerate() {
                    let resource = match binding.access {
                        Access::Window => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer: buffer.raw()?,
                            offset: *offset,
                            size: std::num::NonZeroU64::new(WINDOW),
                        }),
                        Access::Texels | Access::TexelsOut => match &buffer.memory {
                            Memory::Texels(view) => wgpu::BindingResource::TextureView(view),
                            Memory::Buffer(_) => {
                                let name = &draft.pipeline.name;
                                return Err(Error::invalid(format!(
                                    "{name} wants texels; {} are none",
                                    binding.name
                                )));
                            }
                        },
                        Access::Read | Access::Write => buffer.raw()?.as_entire_binding(),
                    };
                    entries.push(wgpu::BindGroupEntry { binding: j as u32 + 1, resource });
                }
                let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&draft.pipeline.name),
                    layout: &draft.pipeline.layout,
                    entries: &entries,
                });
                Ok(Dispatch { pipeline: draft.pipeline, bind_group, groups })
            })
            .collect::<Result<Vec<_>>>();
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(translate(error, "binding buffers"));
        }
        Ok(Recording { dispatches: dispatches?, uniforms: Some(uniforms) })
    }
}

impl Draft {
    fn param(&self, name: &str) -> Option<u32> {
        let at = self.pipeline.params.iter().position(|param| *param == name)?;
        self.params.get(at).copied()
    }

    fn set(&mut self, name: &str, value: u32) {
        if let Some(at) = self.pipeline.params.iter().position(|param| *param == name) {
            self.params[at] = value;
        }
    }

    /// Appends this dispatch, on devices that read uniform blocks faster split into windows of x.
    fn split(self, gpu: &Gpu, to: &mut Vec<Self>) -> Result<()> {
        let Some(variant) = self.pipeline.variant.as_ref().filter(|variant| variant.takes_window()) else {
            to.push(self);
            return Ok(());
        };
        let (rows, stride) = (self.param("m").unwrap_or(0), self.param("x_stride").unwrap_or(0));
        // All of x of a GEMV lies in one window, which takes no dispatch more.
        let one = matches!(variant.kernel, Kernel::Gemv | Kernel::GemvI8);
        let pays = gpu.windows().is_some_and(|least| one || rows >= least.max(1));
        let x = self.pipeline.bindings.iter().position(|binding| binding.name == "x").filter(|_| pays);
        let tile_m = variant.tile.tile_m;
        let least = if one { rows } else { tile_m };
        let windows = x.and_then(|at| {
            let bytes = self.buffers[at].0.raw().map_or(0, wgpu::Buffer::size);
            Some((at, split(rows, least, stride, bytes)?))
        });
        let Some((x, windows)) = windows else {
            to.push(self);
            return Ok(());
        };
        let pipeline = gpu.pipeline(&Variant { window: true, ..variant.clone() })?;
        let groups_per_tile = self.groups / u64::from(rows.div_ceil(tile_m).max(1));
        for window in windows {
            let mut draft = Self { pipeline: pipeline.clone(), ..self.clone() };
            draft.set("m_first", window.first);
            draft.set("m", window.end);
            draft.set("x_base", (window.offset / 16) as u32);
            draft.buffers[x].1 = window.offset;
            draft.groups = u64::from((window.end - window.first).div_ceil(tile_m)) * groups_per_tile;
            to.push(draft);
        }
        Ok(())
    }
}

impl Recording {
    /// Number of dispatches.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// Names of the pipelines, in the order of the dispatches.
    pub fn kernels(&self) -> Vec<&str> {
        self.dispatches.iter().map(|dispatch| dispatch.pipeline.name.as_str()).collect()
    }

    /// The dispatches of the pipelines whose name `keep` accepts, over the same buffers.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.dispatches.iter().filter(|dispatch| keep(&dispatch.pipeline.name));
        Self { dispatches: kept.cloned().collect(), uniforms: self.uniforms.clone() }
    }

    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        for dispatch in &self.dispatches {
            dispatch.encode(pass);
        }
    }
}

impl Dispatch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.raw);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.groups.0, self.groups.1, 1);
    }
}

impl Gpu {
    /// Runs one workgroup of every distinct pipeline of `recording` and waits, so that drivers which compile at the
    /// first dispatch do it now. What the recording writes is undefined until it runs in full.
    ///
    /// # Errors
    /// When the device failed.
    pub fn warm(&self, recording: &Recording) -> Result<()> {
        self.check()?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut seen: Vec<&Arc<Pipeline>> = Vec::new();
            for dispatch in &recording.dispatches {
                if !seen.iter().any(|pipeline| Arc::ptr_eq(pipeline, &dispatch.pipeline)) {
                    seen.push(&dispatch.pipeline);
                    pass.set_pipeline(&dispatch.pipeline.raw);
                    pass.set_bind_group(0, &dispatch.bind_group, &[]);
                    pass.dispatch_workgroups(1, 1, 1);
                }
            }
        }
        self.queue.submit([encoder.finish()]);
        self.wait()
    }

    /// Runs every dispatch of `recording` alone and in order, waiting each time; names and seconds, submission included.
    ///
    /// # Errors
    /// When the device failed.
    pub fn time_dispatches(&self, recording: &Recording) -> Result<Vec<(String, f64)>> {
        let mut times = Vec::with_capacity(recording.dispatches.len());
        for dispatch in &recording.dispatches {
            self.wait()?;
            let start = std::time::Instant::now();
            self.submit(std::slice::from_ref(dispatch).iter());
            self.wait()?;
            times.push((dispatch.pipeline.name.clone(), start.elapsed().as_secs_f64()));
        }
        Ok(times)
    }

    fn submit<'a>(&self, dispatches: impl Iterator<Item = &'a Dispatch>) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in dispatches {
                dispatch.encode(&mut pass);
            }
        }
        self.queue.submit([encoder.finish()]);
    }

    /// Submits `recordings` one after another; does not wait. Of many dispatches the first ones go ahead, so that the
    /// device is at work while the rest is encoded.
    ///
    /// # Errors
    /// When the device failed.
    pub fn run(&self, recordings: &[&Recording]) -> Result<()> {
        self.check()?;
        let dispatches = || recordings.iter().flat_map(|r| &r.dispatches);
        let ahead = if dispatches().count() > 2 * AHEAD { AHEAD } else { 0 };
        if ahead > 0 {
            self.submit(dispatches().take(ahead));
        }
        self.submit(dispatches().skip(ahead));
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_fold_into_two_dimensions_that_cover_them() {
        for groups in [1, 2, 65_535, 65_536, 65_537, 131_071, 10_000_019, 65_535 * 65_535] {
            let (x, y) = fold(groups).expect("it fits");
            assert!(u64::from(x) <= MAX_GROUPS && u64::from(y) <= MAX_GROUPS, "{groups}: {x} x {y}");
            assert!(u64::from(x) * u64::from(y) >= groups, "{groups}: {x} x {y}");
            // No more than one line of idle workgroups.
            assert!(u64::from(x) * u64::from(y) - groups < u64::from(y), "{groups}: {x} x {y}");
        }
        assert!(matches!(fold(65_535 * 65_535 + 1), Err(Error::Unavailable(_))));
    }
}
