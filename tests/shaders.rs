//! Every linked shader variant, without a GPU: naga validates it with no optional capability beyond subgroups,
//! 64-bit integers and f16 where a variant says so, and translates it to SPIR-V, MSL and HLSL.

use std::collections::HashSet;

use anybit::shader::{Kernel, Probe, Variant, all_variants, link};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use rayon::prelude::*;

#[test]
fn all_variants_validate_and_translate() {
    let variants = all_variants();
    let mut seen = HashSet::new();
    for kernel in Kernel::ALL {
        assert!(variants.iter().any(|v| v.kernel == kernel), "{} has no variant", kernel.row().name);
    }
    let mut modules = Vec::new();
    for variant in &variants {
        let text = link(variant);
        if seen.insert(text.clone()) {
            modules.push((variant, text));
        }
    }
    assert!(modules.len() > 300, "only {} distinct modules were linked", modules.len());
    modules.par_iter().for_each(|(variant, text)| validate_and_translate(variant, text));
}

fn validate_and_translate(variant: &Variant, text: &str) {
    let name = format!("{} subgroup={} {:?}", variant.name(), variant.subgroup, variant.tile);
    let module =
        naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    let mut capabilities = if variant.subgroup { Capabilities::SUBGROUP } else { Capabilities::empty() };
    capabilities.set(Capabilities::SHADER_INT64, variant.long);
    capabilities.set(Capabilities::SHADER_FLOAT16, variant.kernel.row().half);
    capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, variant.kernel.row().direct);
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));

    let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    naga::back::spv::write_vec(&module, &info, &options, None)
        .unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}"));

    let mut resources = naga::back::msl::EntryPointResources::default();
    for (_, variable) in module.global_variables.iter() {
        if let Some(binding) = variable.binding {
            resources.resources.insert(
                binding,
                naga::back::msl::BindTarget {
                    buffer: Some(binding.binding as u8),
                    mutable: true,
                    ..Default::default()
                },
            );
        }
    }
    resources.sizes_buffer = Some(30);
    let mut options = naga::back::msl::Options { lang_version: (2, 4), ..Default::default() };
    options.per_entry_point_map.insert("main".into(), resources);
    naga::back::msl::write_string(&module, &info, &options, &Default::default())
        .unwrap_or_else(|e| panic!("{name}: MSL: {e}"));

    let mut hlsl = String::new();
    let options =
        naga::back::hlsl::Options { shader_model: naga::back::hlsl::ShaderModel::V6_4, ..Default::default() };
    let pipeline = naga::back::hlsl::PipelineOptions::default();
    naga::back::hlsl::Writer::new(&mut hlsl, &options, &pipeline)
        .write(&module, &info, None)
        .unwrap_or_else(|e| panic!("{name}: HLSL: {e}"));
}

#[test]
fn probes_validate() {
    for probe in Probe::ALL {
        let (name, text) = (probe.name(), probe.text());
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
        let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        naga::back::spv::write_vec(&module, &info, &options, None)
            .unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}"));
    }
}
