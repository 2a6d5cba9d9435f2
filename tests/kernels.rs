//! Walks the table of kernels and names none: the contract between shader and host without any GPU, and shader = twin on
//! every adapter of this machine.

#![expect(clippy::panic, reason = "a shader that does not even parse must fail the test with what naga says")]

mod common;

use std::fmt::Write as _;

use common::variants;
use tauscore::KERNELS;
use tauscore::device::{Access, Kernel, Variant, parity};

/// Every source that a device may be given: each variant with each of the constants that samples use.
fn specialisations(kernel: &Kernel) -> Vec<(Variant, Vec<u32>)> {
    let mut all: Vec<Vec<u32>> = (kernel.samples)().into_iter().map(|sample| sample.constants).collect();
    all.sort();
    all.dedup();
    let with = |variant: Variant| all.iter().map(move |constants| (variant, constants.clone()));
    kernel.wgsl.variants().iter().flat_map(|&variant| with(variant)).collect()
}

fn validated(kernel: &Kernel, variant: Variant, constants: &[u32]) -> (naga::Module, naga::valid::ModuleInfo) {
    let source = kernel.specialised(variant, constants);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{} {variant} {constants:?}: {}", kernel.name, error.emit_to_string(&source)));
    // Nothing beyond what the variant is for: every device runs every kernel in its core form.
    let capabilities = match variant {
        Variant::Core => naga::valid::Capabilities::empty(),
        Variant::Int64 => naga::valid::Capabilities::SHADER_INT64,
    };
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    let info = validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{} {variant} {constants:?}: {}", kernel.name, error.emit_to_string(&source)));
    (module, info)
}

#[test]
fn every_shader_keeps_the_contract_with_its_host() {
    for kernel in KERNELS {
        for (variant, constants) in specialisations(kernel) {
            let (module, _) = validated(kernel, variant, &constants);
            let mut bindings = Vec::new();
            for (_, variable) in module.global_variables.iter() {
                let size = module.types[variable.ty].inner.size(module.to_ctx());
                match (variable.space, variable.binding) {
                    (naga::AddressSpace::Uniform, Some(at)) => {
                        assert_eq!((at.group, at.binding), (0, 0), "{}: the uniform is binding 0", kernel.name);
                        assert_eq!(size as usize, kernel.params, "{}: size of the uniform", kernel.name);
                    }
                    (naga::AddressSpace::Storage { access }, Some(at)) => {
                        assert_eq!(at.group, 0, "{}: group 0", kernel.name);
                        let written = access.contains(naga::StorageAccess::STORE);
                        bindings.push((at.binding, if written { Access::Write } else { Access::Read }));
                    }
                    _ => {}
                }
            }
            bindings.sort_by_key(|(at, _)| *at);
            let declared: Vec<_> = (1..).zip(kernel.bindings.iter().copied()).collect();
            assert_eq!(bindings, declared, "{}: bindings of the shader against those of the host", kernel.name);
            assert!(kernel.bindings.len() <= 8, "{}: the floor device binds 8 storage buffers", kernel.name);

            let entry = module.entry_points.first().unwrap_or_else(|| panic!("{}: no entry point", kernel.name));
            assert_eq!(entry.name, "main", "{}: name of the entry point", kernel.name);
            assert!(
                entry.workgroup_size.iter().product::<u32>() <= 256,
                "{}: the floor is 256 invocations",
                kernel.name
            );
            let shared: u32 = module
                .global_variables
                .iter()
                .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
                .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()))
                .sum();
            assert!(
                shared <= 16_384,
                "{} {constants:?}: {shared} bytes of workgroup memory, the floor is 16,384",
                kernel.name
            );
        }
        for name in kernel.constants {
            let declaration = format!("const {name}: u32 = ");
            let declared = |variant: &Variant| kernel.wgsl.of(*variant).contains(&declaration);
            assert!(kernel.wgsl.variants().iter().all(declared), "{}: no constant {name}", kernel.name);
        }
    }
}

#[test]
fn every_shader_translates_for_vulkan_metal_and_dx12() {
    use naga::back::{hlsl, msl, spv};
    for kernel in KERNELS {
        for (variant, constants) in specialisations(kernel) {
            let (module, info) = validated(kernel, variant, &constants);
            let name = format!("{} {variant}", kernel.name);
            spv::write_vec(&module, &info, &spv::Options::default(), None)
                .unwrap_or_else(|error| panic!("{name}: SPIR-V: {error}"));
            let (pipeline, fake) = (msl::PipelineOptions::default(), true);
            let options = msl::Options { fake_missing_bindings: fake, ..msl::Options::default() };
            msl::write_string(&module, &info, &options, &pipeline)
                .unwrap_or_else(|error| panic!("{name}: MSL: {error}"));
            let mut text = String::new();
            let options = hlsl::Options { fake_missing_bindings: fake, ..hlsl::Options::default() };
            hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
                .write(&module, &info, None)
                .unwrap_or_else(|error| panic!("{name}: HLSL: {error}"));
        }
    }
}

#[test]
fn every_shader_equals_its_twin_on_every_adapter() {
    let mut broken = String::new();
    for device in variants() {
        for kernel in KERNELS.iter().filter(|kernel| kernel.wgsl.variants().contains(&device.variant())) {
            for sample in (kernel.samples)() {
                let verdict = parity::check(&device, kernel, sample)
                    .unwrap_or_else(|error| panic!("{} on {}: {error}", kernel.name, device.name()));
                eprintln!(
                    "{} {}: {} ({}): {:.3} of what is allowed",
                    device.name(),
                    device.variant(),
                    verdict.kernel,
                    verdict.about,
                    verdict.worst
                );
                if let Some(why) = verdict.broken {
                    let _ = writeln!(
                        broken,
                        "{} {}: {} ({}): {why}",
                        device.name(),
                        device.variant(),
                        verdict.kernel,
                        verdict.about
                    );
                }
            }
        }
    }
    assert!(broken.is_empty(), "promises broken:\n{broken}");
}
