//! Does a device keep a kernel's promise? Runs a sample on the device and on the CPU twin and compares.

use super::{Access, Buffer, Call, Data, Device, Kernel, Parity, Sample};
use crate::Result;

/// A sample that lies ready on a device.
#[derive(Debug)]
pub struct Prepared {
    device: Device,
    kernel: &'static Kernel,
    sample: Sample,
    buffers: Vec<Buffer<u32>>,
}

impl Prepared {
    /// Uploads `sample` to `device`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device has no room.
    pub fn new(device: &Device, kernel: &'static Kernel, sample: Sample) -> Result<Self> {
        let buffers = sample.bindings.iter().map(|data| device.upload::<u32>(&data.words())).collect::<Result<_>>()?;
        Ok(Self { device: device.clone(), kernel, sample, buffers })
    }

    /// Dispatches the kernel once.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub fn dispatch(&self) -> Result<()> {
        let bindings: Vec<_> = self.buffers.iter().map(Buffer::all).collect();
        self.device.dispatch(
            self.kernel,
            &Call {
                constants: &self.sample.constants,
                params: &self.sample.params,
                bindings: &bindings,
                workgroups: self.sample.workgroups,
            },
        )
    }

    /// What the written bindings hold, as bits, with each one's index.
    fn written(&self) -> Result<Vec<(usize, Vec<u32>)>> {
        let writes = self.kernel.bindings.iter().enumerate().filter(|(_, access)| **access == Access::Write);
        writes.map(|(index, _)| Ok((index, self.device.download(&self.buffers[index])?))).collect()
    }
}

/// What `kernel` makes of `sample` on `device`: the bits of each written binding, with its index.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn run(device: &Device, kernel: &'static Kernel, sample: Sample) -> Result<Vec<(usize, Vec<u32>)>> {
    let prepared = Prepared::new(device, kernel, sample)?;
    prepared.dispatch()?;
    prepared.written()
}

/// What came of one sample.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The kernel's name.
    pub kernel: &'static str,
    /// What the sample is there to show.
    pub about: &'static str,
    /// The largest error as a share of what the promise allows; 0 where the bits are the same.
    pub worst: f64,
    /// Why the promise is broken, or `None` if it is kept.
    pub broken: Option<String>,
}

/// Runs `sample` on `device` and on the CPU and compares what they wrote.
///
/// A NaN never passes, and neither does an output of zeros only: such a sample proves nothing.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn check(device: &Device, kernel: &'static Kernel, sample: Sample) -> Result<Verdict> {
    let about = sample.about;
    let floats: Vec<bool> = sample.bindings.iter().map(|data| matches!(data, Data::F32(_))).collect();
    let twin = run(&Device::cpu(), kernel, sample.clone())?;
    let shader = run(device, kernel, sample)?;

    let mut verdict = Verdict { kernel: kernel.name, about, worst: 0.0, broken: None };
    let mut something = false;
    for ((index, right), (_, found)) in twin.into_iter().zip(shader) {
        for (element, (right, found)) in right.into_iter().zip(found).enumerate() {
            something |= right != 0;
            let share = share_of_promise(kernel.parity, floats[index], right, found);
            if share > verdict.worst {
                verdict.worst = share;
            }
            if (share.is_nan() || share > 1.0) && verdict.broken.is_none() {
                let (right, found) = if floats[index] {
                    (f32::from_bits(right).to_string(), f32::from_bits(found).to_string())
                } else {
                    (right.to_string(), found.to_string())
                };
                verdict.broken =
                    Some(format!("binding {index}, element {element}: {found} on the device, {right} on the CPU"));
            }
        }
    }
    if !something {
        verdict.broken = Some("the output is all zeros: the sample proves nothing".into());
    }
    Ok(verdict)
}

/// The error as a share of what `parity` allows; NaN if a value is NaN.
fn share_of_promise(parity: Parity, float: bool, right: u32, found: u32) -> f64 {
    if float && (f32::from_bits(right).is_nan() || f32::from_bits(found).is_nan()) {
        return f64::NAN;
    }
    match parity {
        _ if right == found => 0.0,
        Parity::Close { absolute, relative } if float => {
            let (right, found) = (f64::from(f32::from_bits(right)), f64::from(f32::from_bits(found)));
            (right - found).abs() / (f64::from(absolute) + f64::from(relative) * right.abs())
        }
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Args, Wgsl};

    static SPOILT: Kernel = Kernel {
        name: "test/spoilt",
        wgsl: Wgsl::core(""),
        constants: &[],
        params: 4,
        bindings: &[Access::Write],
        cpu: |args: &mut Args<'_>| {
            let code: u32 = args.params();
            args.write::<u32>(0).fill(code);
        },
        parity: Parity::Close { absolute: 1.0, relative: 1.0 },
        samples: Vec::new,
    };

    fn verdict(code: u32) -> Verdict {
        let sample = Sample {
            about: "",
            constants: vec![],
            params: code.to_ne_bytes().to_vec(),
            bindings: vec![Data::F32(vec![1.0; 3])],
            workgroups: 1,
            operations: 0,
            bytes: 0,
        };
        check(&Device::cpu(), &SPOILT, sample).expect("the CPU does not fail")
    }

    #[test]
    fn a_nan_never_passes_even_against_itself() {
        assert!(verdict(f32::NAN.to_bits()).broken.is_some(), "NaN on both sides is no agreement");
    }

    #[test]
    fn zeros_prove_nothing() {
        assert!(verdict(0).broken.is_some_and(|why| why.contains("proves nothing")), "zeros are refused");
        assert!(verdict(1.0_f32.to_bits()).broken.is_none(), "ones are fine");
    }

    #[test]
    fn promises_are_measured() {
        let close = Parity::Close { absolute: 0.5, relative: 0.0 };
        let bits = |value: f32| value.to_bits();
        assert_eq!(share_of_promise(close, true, bits(1.0), bits(1.25)), 0.5, "half of what is allowed");
        assert_eq!(share_of_promise(Parity::Exact, true, bits(1.0), bits(1.25)), f64::INFINITY, "exact is exact");
        assert_eq!(share_of_promise(close, false, 1, 2), f64::INFINITY, "integers are always exact");
    }
}
