//! Listing and choosing adapters.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::shader::DeviceClass;

/// What a user wants to know about an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterSummary {
    /// Position in the list, usable as `--adapter`.
    pub index: usize,
    /// Name given by the driver.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12`.
    pub backend: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `CPU`, `other`.
    pub kind: String,
    /// Driver name and version.
    pub driver: String,
    /// Largest storage-buffer binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub workgroup_memory_bytes: u32,
    /// Largest workgroup, invocations.
    pub max_workgroup: u32,
    /// Smallest and largest subgroup, invocations; 0 where unknown.
    pub subgroup: (u32, u32),
    /// Optional features anybit can use, by name.
    pub features: Vec<String>,
    /// Why anybit cannot run on it, if so.
    pub unusable: Option<String>,
}

impl AdapterSummary {
    /// Part of the names of files for a device: another driver or version of the kernels has another.
    pub(super) fn key(&self) -> String {
        let key = [&self.name, &self.backend, &self.driver, env!("CARGO_PKG_VERSION")].join("\n");
        blake3::hash(key.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Limits that every pipeline relies on, with what it gets from the adapter.
fn missing_limit(limits: &wgpu::Limits) -> Option<String> {
    let need = wgpu::Limits::default();
    let table = [
        (
            "max_storage_buffers_per_shader_stage",
            limits.max_storage_buffers_per_shader_stage,
            need.max_storage_buffers_per_shader_stage,
        ),
        (
            "max_compute_workgroup_storage_size",
            limits.max_compute_workgroup_storage_size,
            need.max_compute_workgroup_storage_size,
        ),
        (
            "max_compute_invocations_per_workgroup",
            limits.max_compute_invocations_per_workgroup,
            need.max_compute_invocations_per_workgroup,
        ),
        (
            "max_compute_workgroups_per_dimension",
            limits.max_compute_workgroups_per_dimension,
            need.max_compute_workgroups_per_dimension,
        ),
        (
            "max_uniform_buffers_per_shader_stage",
            limits.max_uniform_buffers_per_shader_stage,
            need.max_uniform_buffers_per_shader_stage,
        ),
    ];
    table.iter().find(|(_, got, need)| got < need).map(|(name, got, need)| {
        format!("{name} is {got}, anybit needs {need} (the WebGPU default): choose another adapter")
    })
}

pub(super) fn class(info: &wgpu::AdapterInfo) -> DeviceClass {
    if info.device_type == wgpu::DeviceType::Cpu { DeviceClass::Cpu } else { DeviceClass::Gpu }
}

pub(super) fn summary(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let features = adapter.features();
    let mut names = Vec::new();
    for (feature, name) in [
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::SHADER_F16, "f16"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
        (wgpu::Features::PIPELINE_CACHE, "pipeline cache"),
    ] {
        if features.contains(feature) {
            names.push(name.to_string());
        }
    }
    AdapterSummary {
        index,
        name: info.name.clone(),
        backend: format!("{:?}", info.backend),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "integrated GPU",
            wgpu::DeviceType::VirtualGpu => "virtual GPU",
            wgpu::DeviceType::Cpu => "CPU",
            wgpu::DeviceType::Other => "other",
        }
        .to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        max_workgroup: limits.max_compute_invocations_per_workgroup,
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
        features: names,
        unusable: missing_limit(&limits),
    }
}

pub(super) fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    // The kind decides; the sort is stable, so the driver's own order decides among equals.
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// All adapters of this machine, the best one first.
pub fn adapters() -> Vec<AdapterSummary> {
    enumerate().iter().enumerate().map(|(index, adapter)| summary(index, adapter)).collect()
}

/// The adapter named by `choice`: an index into [`adapters`] or a part of the name (any case); the best usable
/// one without a choice.
pub(super) fn choose(choice: Option<&str>) -> Result<(wgpu::Adapter, AdapterSummary)> {
    let adapters = enumerate();
    if adapters.is_empty() {
        return Err(Error::unavailable(
            "no Vulkan, Metal or DX12 adapter found; install a GPU driver or Mesa's software Vulkan driver \
             (Debian: apt install mesa-vulkan-drivers); generate, eval and dequantize can also run on the CPU with \
             --backend reference",
        ));
    }
    let summaries: Vec<_> = adapters.iter().enumerate().map(|(i, a)| summary(i, a)).collect();
    let index = match choice {
        None => summaries.iter().position(|s| s.unusable.is_none()).unwrap_or(0),
        Some(text) => {
            let by_index = text.trim().parse::<usize>().ok().filter(|&i| i < summaries.len());
            let wanted = text.trim().to_lowercase();
            let by_name = || summaries.iter().position(|s| s.name.to_lowercase().contains(&wanted));
            by_index.or_else(by_name).ok_or_else(|| {
                let names: Vec<_> = summaries.iter().map(|s| format!("{}: {}", s.index, s.name)).collect();
                Error::invalid(format!(
                    "no adapter matches {text:?}; this machine has {}: give its number or a part of its name",
                    names.join(", ")
                ))
            })?
        }
    };
    let summary = summaries[index].clone();
    if let Some(reason) = &summary.unusable {
        return Err(Error::unavailable(format!("adapter {} cannot run anybit: {reason}", summary.name)));
    }
    Ok((adapters[index].clone(), summary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_limit_is_named_with_what_it_is_and_what_it_must_be() {
        assert_eq!(missing_limit(&wgpu::Limits::default()), None);
        let few = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() };
        let message = missing_limit(&few).expect("8 are needed");
        assert!(message.contains("max_storage_buffers_per_shader_stage is 4, anybit needs 8"), "{message}");
        let small = wgpu::Limits { max_compute_workgroup_storage_size: 8192, ..wgpu::Limits::default() };
        assert!(missing_limit(&small).is_some_and(|m| m.contains("16384")));
    }
}
