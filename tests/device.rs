//! The device's doors: what does not fit is an error that says so, on the CPU and on every adapter, and never a panic.

mod common;

use common::devices;
use tauscore::KERNELS;
use tauscore::device::{AdapterKind, Call, Choice, Device, Variant, adapters};

fn all() -> impl Iterator<Item = Device> {
    std::iter::once(Device::cpu()).chain(devices())
}

#[test]
fn what_is_written_is_read_back() {
    for device in all() {
        let name = device.name();
        let buffer = device.upload(&(0..1000_u32).collect::<Vec<_>>()).unwrap();
        device.write(&buffer, 990, &[1_u32, 2, 3]).unwrap();
        let back = device.download(&buffer).unwrap();
        assert_eq!((back[0], back[989], &back[990..994]), (0, 989, &[1, 2, 3, 993][..]), "{name}");
        let part = device.request(&buffer, 64..66).unwrap().wait().unwrap();
        assert_eq!(part, [64, 65], "{name}: a part");
        assert_eq!(device.download(&device.zeros::<u64>(3).unwrap()).unwrap(), [0; 3], "{name}: zeros");
        assert!(device.download(&device.upload::<f32>(&[]).unwrap()).unwrap().is_empty(), "{name}: nothing");
    }
}

#[test]
fn several_results_may_be_on_their_way() {
    for device in all() {
        let buffers: Vec<_> = (0..5_u32).map(|value| device.upload(&[value; 100]).unwrap()).collect();
        let flying: Vec<_> = buffers.iter().map(|buffer| device.request(buffer, 0..100).unwrap()).collect();
        for (value, download) in (0..).zip(flying) {
            assert_eq!(download.wait().unwrap(), [value; 100], "{}", device.name());
        }
    }
}

#[test]
fn ranges_beyond_a_buffer_are_refused() {
    for device in all() {
        let buffer = device.upload(&[0_u32; 8]).unwrap();
        let write = device.write(&buffer, 7, &[1_u32, 2]).unwrap_err().to_string();
        let read = device.request(&buffer, 0..9).unwrap_err().to_string();
        assert!(write.contains("7..9") && read.contains("0..9"), "{write}; {read}");
    }
}

#[test]
fn a_call_that_does_not_fit_the_declaration_is_refused() {
    let kernel = KERNELS[0];
    for device in all() {
        let buffer = device.upload(&[0_u32; 64]).unwrap();
        let params = vec![0; kernel.params];
        let call = Call { constants: &[], params: &params, bindings: &[buffer.all()], workgroups: 1 };
        let error = device.dispatch(kernel, &call).unwrap_err().to_string();
        assert!(error.contains(kernel.name) && error.contains("1 bindings given"), "{error}");
        let call = Call { constants: &[], params: &[], bindings: &[buffer.all(), buffer.all()], workgroups: 1 };
        let error = device.dispatch(kernel, &call).unwrap_err().to_string();
        assert!(error.contains("0 bytes of params"), "{error}");
    }
}

#[test]
fn a_buffer_of_another_device_is_refused() {
    for device in devices() {
        let here = Device::cpu().upload(&[1_u32]).unwrap();
        let there = device.upload(&[1_u32]).unwrap();
        assert!(device.download(&here).is_err(), "host memory is not the adapter's");
        assert!(Device::cpu().download(&there).is_err(), "the adapter's memory is not the host's");
    }
}

#[test]
fn a_buffer_that_is_too_large_is_an_error_and_the_device_goes_on() {
    for device in devices() {
        let error = device.zeros::<u32>(1 << 40).unwrap_err().to_string();
        assert!(error.contains(&device.name()), "{error} names the device");
        let buffer = device.upload(&[7_u32]).unwrap();
        assert_eq!(device.download(&buffer).unwrap(), [7], "it still works");
    }
}

#[test]
fn a_variant_runs_where_the_adapter_has_what_it_needs() {
    for adapter in adapters() {
        let name = &adapter.name;
        let opened = adapter.open_as(Variant::Int64).map(|device| device.variant());
        match opened {
            Ok(variant) => assert!(adapter.runs(variant) && variant == Variant::Int64, "{name} runs {variant}"),
            Err(error) => assert!(!adapter.runs(Variant::Int64) && error.to_string().contains("int64"), "{error}"),
        }
        assert_eq!(adapter.open_as(Variant::Core).unwrap().variant(), Variant::Core, "{name}: the limbs can be forced");
        let chosen = adapter.open().unwrap().variant();
        let faster = adapter.kind == AdapterKind::Software && adapter.runs(Variant::Int64);
        assert_eq!(chosen == Variant::Int64, faster, "{name}: 64-bit integers only where they are faster");
    }
}

#[test]
fn choices_are_read_and_refused() {
    for (text, choice) in [("", Choice::Auto), ("AUTO", Choice::Auto), ("cpu", Choice::Cpu), ("Gpu", Choice::Gpu)] {
        assert_eq!(text.parse::<Choice>(), Ok(choice), "{text:?}");
    }
    let error = Device::open(&Choice::Named("no such card".into())).unwrap_err();
    assert!(error.to_string().contains("no such card") && error.remedy().is_some(), "{error}");
    assert!(Device::open(&Choice::Cpu).unwrap().is_cpu(), "the CPU is always there");
    let automatic = Device::open(&Choice::Auto).unwrap();
    assert!(!automatic.is_software(), "auto never takes a software adapter");
    for device in devices() {
        let word = device.name().split(' ').next().unwrap_or_default().to_uppercase();
        let named = Device::open(&Choice::Named(word.to_lowercase())).unwrap();
        assert!(named.name().to_uppercase().contains(&word), "{word} finds {}", named.name());
    }
}
