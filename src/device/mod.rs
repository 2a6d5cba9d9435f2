//! Devices: the only folder that knows wgpu. Orchestration above is written once against [`Device`]; a kernel runs as
//! WGSL on an adapter or as its twin on the CPU.

mod buffer;
pub mod ceiling;
mod choice;
mod cpu;
mod kernel;
mod memory;
pub mod parity;

#[cfg(feature = "gpu")]
mod gpu;

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use bytesize::ByteSize;

pub use buffer::{Binding, Buffer};
pub use choice::{Adapter, AdapterKind, Choice, adapters};
pub use cpu::Instructions;
pub(crate) use cpu::{simd, vectorised};
pub use kernel::{Access, Args, Data, Kernel, Noise, Parity, Sample, Variant, Wgsl};
pub use memory::Memory;

use buffer::Raw;
use memory::{Held, Ledger};

use crate::{Error, Result};

/// Something that runs kernels: the CPU, or a GPU adapter. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Device {
    executor: Arc<Executor>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
enum Executor {
    Cpu,
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Gpu>),
}

/// One call of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Values of [`Kernel::constants`], in order.
    pub constants: &'a [u32],
    /// The uniform's bytes.
    pub params: &'a [u8],
    /// The storage bindings, in order.
    pub bindings: &'a [Binding<'a>],
    /// How many workgroups the shader needs; folded into a grid beyond 65,535. The twin does not look at it.
    pub workgroups: u64,
}

/// What a device allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that one binding may span.
    pub binding_bytes: u64,
    /// Tokens that one batch should hold: enough to fill the device, little enough to stay in its caches.
    pub batch_tokens: usize,
}

impl Device {
    /// The CPU.
    pub fn cpu() -> Self {
        Self::of(Executor::Cpu)
    }

    /// Opens what `choice` says.
    ///
    /// # Errors
    /// [`Error::Device`] if no adapter fits or the driver refuses to open it.
    pub fn open(choice: &Choice) -> Result<Self> {
        match choice.select()? {
            None => Ok(Self::cpu()),
            Some(adapter) => adapter.open(),
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(gpu: gpu::Gpu) -> Self {
        Self::of(Executor::Gpu(Box::new(gpu)))
    }

    fn of(executor: Executor) -> Self {
        Self { executor: Arc::new(executor), ledger: Arc::default() }
    }

    /// The same device with a ledger of its own, in which buffers may take `bytes` in all, or as much as there is. Those made before
    /// are not counted. It is enforced, and planned with: stages cut their batches to what is left, and give back what they do not
    /// need any more.
    pub fn with_budget(&self, bytes: Option<u64>) -> Self {
        Self { executor: self.executor.clone(), ledger: Ledger::new(bytes) }
    }

    /// As [`Device::with_budget`], but out of memory beyond `bytes` without anybody's knowing it before.
    #[cfg(test)]
    pub(crate) fn with_room(&self, bytes: u64) -> Self {
        Self { executor: self.executor.clone(), ledger: Ledger::with_room(bytes) }
    }

    /// What its buffers take, and the most that they took.
    pub fn memory(&self) -> Memory {
        self.ledger.memory()
    }

    /// The budget in bytes, where one is set.
    pub fn budget(&self) -> Option<u64> {
        self.ledger.budget()
    }

    /// What the budget leaves, in bytes, where one is set.
    pub fn left(&self) -> Option<u64> {
        Some(self.budget()?.saturating_sub(self.memory().now))
    }

    /// An entry in the ledger, unless it would go beyond the budget.
    fn hold(&self, bytes: u64) -> Result<Held> {
        self.ledger.hold(bytes).ok_or_else(|| {
            let problem = format!("there is no room for {} more", ByteSize(bytes));
            no_room(
                &self.name(),
                match self.budget() {
                    Some(budget) => {
                        format!("{problem}: {} are in use, {} may be", ByteSize(self.memory().now), ByteSize(budget))
                    }
                    None => problem,
                },
            )
        })
    }

    /// The name a person knows the device by.
    pub fn name(&self) -> String {
        match &*self.executor {
            Executor::Cpu => format!("CPU ({} threads)", rayon::current_num_threads()),
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.name().to_owned(),
        }
    }

    /// Whether kernels run as twins.
    pub fn is_cpu(&self) -> bool {
        matches!(*self.executor, Executor::Cpu)
    }

    /// Whether this is an adapter that computes on the CPU.
    pub fn is_software(&self) -> bool {
        match &*self.executor {
            Executor::Cpu => false,
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.is_software(),
        }
    }

    /// Which form of the kernels' shaders it runs.
    pub fn variant(&self) -> Variant {
        match &*self.executor {
            Executor::Cpu => Variant::Core,
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.variant(),
        }
    }

    /// What the device allows.
    pub fn limits(&self) -> Limits {
        match &*self.executor {
            Executor::Cpu => Limits { binding_bytes: u64::MAX, batch_tokens: 1024 },
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.limits(),
        }
    }

    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device or its budget has no room; [`Error::Device`] if the buffer is larger than the device allows.
    pub fn zeros<T: Pod>(&self, len: usize) -> Result<Buffer<T>> {
        let bytes = len * const { whole_words::<T>() };
        Ok(match &*self.executor {
            Executor::Cpu => Buffer::new(cpu::allocate(bytes, self.hold(cpu::size(bytes))?), len),
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => {
                let held = self.hold(gpu::size(bytes))?;
                Buffer::new(Raw::Gpu(gpu.allocate(gpu::size(bytes))?, held), len)
            }
        })
    }

    /// A buffer that holds `data`.
    ///
    /// # Errors
    /// As [`Device::zeros`].
    pub fn upload<T: Pod>(&self, data: &[T]) -> Result<Buffer<T>> {
        let buffer = self.zeros(data.len())?;
        self.write(&buffer, 0, data)?;
        Ok(buffer)
    }

    /// Writes `data` into `buffer` from element `start` on, after everything dispatched so far.
    ///
    /// # Errors
    /// [`Error::Usage`] if it does not fit; [`Error::Device`] if the device fails.
    pub fn write<T: Pod>(&self, buffer: &Buffer<T>, start: usize, data: &[T]) -> Result<()> {
        let offset = span(buffer, &(start..start + data.len()))?;
        match (&*self.executor, &*buffer.raw) {
            (Executor::Cpu, Raw::Cpu(words, _)) => cpu::write(words, offset, data),
            #[cfg(feature = "gpu")]
            (Executor::Gpu(gpu), Raw::Gpu(raw, _)) => gpu.write(raw, offset, bytemuck::cast_slice(data))?,
            #[cfg(feature = "gpu")]
            _ => return Err(foreign()),
        }
        Ok(())
    }

    /// Runs `kernel`. On a GPU it is recorded and runs, in order, when a result is asked for.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the call does not fit the kernel's declaration; [`Error::Device`] if the device fails.
    pub fn dispatch(&self, kernel: &'static Kernel, call: &Call<'_>) -> Result<()> {
        let mismatch = if call.bindings.len() != kernel.bindings.len() {
            Some(format!("{} bindings given, {} declared", call.bindings.len(), kernel.bindings.len()))
        } else if call.params.len() != kernel.params {
            Some(format!("{} bytes of params given, {} declared", call.params.len(), kernel.params))
        } else if call.constants.len() != kernel.constants.len() {
            Some(format!("{} constants given, {} declared", call.constants.len(), kernel.constants.len()))
        } else {
            None
        };
        if let Some(problem) = mismatch {
            return Err(Error::Kernel { kernel: kernel.name, problem });
        }
        match &*self.executor {
            Executor::Cpu => cpu::dispatch(kernel, call.params, call.bindings),
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.dispatch(kernel, call),
        }
    }

    /// Asks for elements `range` of `buffer` as they are after everything dispatched so far, without waiting.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails; [`Error::Usage`] if `range` lies outside.
    pub fn request<T: Pod>(&self, buffer: &Buffer<T>, range: Range<usize>) -> Result<Download<T>> {
        let offset = span(buffer, &range)?;
        Ok(match (&*self.executor, &*buffer.raw) {
            (Executor::Cpu, Raw::Cpu(words, _)) => Download(Pending::Ready(cpu::read(words, offset, range.len()))),
            #[cfg(feature = "gpu")]
            (Executor::Gpu(gpu), Raw::Gpu(raw, _)) => {
                let bytes = range.len() * size_of::<T>();
                Download(Pending::Gpu(self.clone(), gpu.request(raw, offset, bytes, self.hold(gpu::size(bytes))?)?))
            }
            #[cfg(feature = "gpu")]
            _ => return Err(foreign()),
        })
    }

    /// Reads all of `buffer` back, waiting for everything dispatched so far.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn download<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>> {
        self.request(buffer, 0..buffer.len())?.wait()
    }

    /// Waits until everything dispatched so far is done.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn finish(&self) -> Result<()> {
        match &*self.executor {
            Executor::Cpu => Ok(()),
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.finish(),
        }
    }
}

/// A result on its way back.
#[derive(Debug)]
#[must_use = "a download is worth nothing unless it is waited for"]
pub struct Download<T>(Pending<T>);

#[derive(Debug)]
enum Pending<T> {
    Ready(Vec<T>),
    #[cfg(feature = "gpu")]
    Gpu(Device, gpu::Request),
}

impl<T: Pod> Download<T> {
    /// Waits for the elements.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn wait(self) -> Result<Vec<T>> {
        match self.0 {
            Pending::Ready(elements) => Ok(elements),
            #[cfg(feature = "gpu")]
            Pending::Gpu(device, request) => match &*device.executor {
                Executor::Gpu(gpu) => gpu.wait(request),
                Executor::Cpu => Err(foreign()),
            },
        }
    }
}

/// Size of `T`, which WGSL holds in whole words.
const fn whole_words<T: Pod>() -> usize {
    assert!(size_of::<T>().is_multiple_of(4), "device elements are whole 32-bit words");
    size_of::<T>()
}

/// The first byte of `range`, if it lies in `buffer`.
fn span<T: Pod>(buffer: &Buffer<T>, range: &Range<usize>) -> Result<usize> {
    if range.start <= range.end && range.end <= buffer.len() {
        return Ok(range.start * size_of::<T>());
    }
    Err(Error::Usage {
        argument: "range".into(),
        problem: format!("{range:?} lies outside a buffer of {} elements", buffer.len()),
        remedy: String::new(),
    })
}

/// The device called `name` is out of memory.
fn no_room(name: &str, problem: String) -> Error {
    Error::Memory {
        device: name.to_owned(),
        problem,
        remedy: "allow more with --memory-budget, free memory on the device, choose another with --device, or use --device cpu".into(),
    }
}

#[cfg(feature = "gpu")]
fn foreign() -> Error {
    Error::Usage {
        argument: "buffer".into(),
        problem: "it belongs to another device".into(),
        remedy: "use a buffer on the device that made it".into(),
    }
}
