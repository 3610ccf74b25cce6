//! Pipelines: linked once per variant, compiled once per device.

use std::sync::Arc;

use super::device::{Gpu, lock, translate};
use crate::error::Result;
use crate::shader::{self, Access, Binding, Probe, Tile, Variant};

/// A compiled variant.
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: Vec<Binding>,
    pub(super) params: &'static [&'static str],
    /// What it was linked from, but for microkernels.
    pub(super) variant: Option<Variant>,
    /// The partition it was compiled for.
    pub tile: Tile,
    /// Name for reports.
    pub name: String,
}

/// What a pipeline is besides its text.
struct Parts {
    name: String,
    bindings: Vec<Binding>,
    params: &'static [&'static str],
    tile: Tile,
    variant: Option<Variant>,
}

impl Gpu {
    /// The pipeline of `variant`, compiled at first use. The linked text is the key, so variants that link to the
    /// same text share a pipeline.
    ///
    /// # Errors
    /// When the tile does not fit the device or the driver rejects the shader.
    pub fn pipeline(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let mut variant = variant.clone();
        let row = variant.kernel.row();
        variant.subgroup = row.direct || (self.subgroups() && row.reduces);
        variant.long = self.loads_long() && variant.takes_long();
        variant.tile.check(256)?;
        let text = shader::link(&variant);
        if let Some(found) = lock(&self.pipelines).get(&text) {
            return Ok(found.clone());
        }
        let parts = Parts {
            name: variant.name(),
            bindings: variant.bindings(),
            params: row.params,
            tile: variant.tile,
            variant: Some(variant),
        };
        let pipeline = Arc::new(self.compile(parts, &text)?);
        Ok(lock(&self.pipelines).entry(text).or_insert(pipeline).clone())
    }

    /// The pipeline of a microkernel.
    ///
    /// # Errors
    /// When the driver rejects the shader.
    pub fn probe(&self, probe: Probe) -> Result<Arc<Pipeline>> {
        let parts = Parts {
            name: probe.name().to_owned(),
            bindings: Probe::bindings(),
            params: Probe::PARAMS,
            tile: Tile { workgroup: Probe::WORKGROUP, ..Tile::elementwise() },
            variant: None,
        };
        Ok(Arc::new(self.compile(parts, probe.text())?))
    }

    /// Number of pipelines compiled so far.
    pub fn pipeline_count(&self) -> usize {
        lock(&self.pipelines).len()
    }

    fn compile(&self, parts: Parts, text: &str) -> Result<Pipeline> {
        self.check()?;
        let Parts { name, bindings, params, tile, variant } = parts;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&name),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        let module = if self.options.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the text is linked from this crate's own kernels only; they guard every store, their loops
            // are bounded by uniforms, and uploads carry slack for the reads of a last partial chunk. The
            // verification cases run them with the checks as well.
            unsafe {
                self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            }
        };
        let entry = |binding: u32, ty: wgpu::BindingType| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        };
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let mut entries = vec![entry(0, buffer(wgpu::BufferBindingType::Uniform))];
        for (i, binding) in bindings.iter().enumerate() {
            let ty = match binding.access {
                Access::Window => buffer(wgpu::BufferBindingType::Uniform),
                Access::Read => buffer(wgpu::BufferBindingType::Storage { read_only: true }),
                Access::Write => buffer(wgpu::BufferBindingType::Storage { read_only: false }),
                Access::Texels | Access::TexelsOut => wgpu::BindingType::StorageTexture {
                    access: match binding.access {
                        Access::TexelsOut => wgpu::StorageTextureAccess::WriteOnly,
                        _ => wgpu::StorageTextureAccess::ReadOnly,
                    },
                    format: wgpu::TextureFormat::Rgba32Uint,
                    view_dimension: wgpu::TextureViewDimension::D2,
                },
            };
            entries.push(entry(i as u32 + 1, ty));
        }
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&name),
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.store.as_ref().map(|store| &store.raw),
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(translate(error, &format!("compiling {name}")));
        }
        Ok(Pipeline { raw, layout, bindings, params, variant, tile, name })
    }
}
