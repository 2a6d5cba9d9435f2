//! The GPU executor: wgpu on Vulkan, Metal or DX12. Calls are recorded and submitted together; nothing here panics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;

use super::buffer::Raw;
use super::choice::{Adapter, AdapterKind};
use super::kernel::{Kernel, Variant};
use super::memory::Held;
use super::{Call, Limits};
use crate::{Error, Result};

/// Calls that are submitted together: about two transformer layers. Operating systems reset a GPU that is busy with one
/// submission for two seconds, so on a slow one they must be short; on a fast one a submission's cost does not show.
/// Each call has one slot of [`SLOT`] bytes in the buffer of uniforms.
const CALLS_PER_SUBMISSION: usize = 16;
/// Distance between uniforms: the largest alignment that WebGPU allows a device to ask for.
const SLOT: usize = 256;
/// Workgroups in one dimension that every device allows.
const GRID: u64 = 65_535;

/// Features that a kernel variant may use; anything else is not asked for.
const OPTIONAL: [(wgpu::Features, &str); 4] = [
    (wgpu::Features::SHADER_F16, "f16"),
    (wgpu::Features::SHADER_INT64, "int64"),
    (wgpu::Features::SUBGROUP, "subgroup"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp"),
];

/// An open adapter.
pub(super) struct Gpu {
    name: String,
    kind: AdapterKind,
    variant: Variant,
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    uniforms: wgpu::Buffer,
    pipelines: Mutex<HashMap<(&'static str, Vec<u32>), wgpu::ComputePipeline>>,
    recorded: Mutex<Recorded>,
    /// The first error that wgpu reported and nobody has been told of yet.
    failure: Arc<Mutex<Option<Failure>>>,
    /// Why the device was lost. From then on nothing it says can be trusted.
    lost: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gpu").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What wgpu reported.
struct Failure {
    /// Whether there was no memory, and all else is well.
    memory: bool,
    problem: String,
}

/// What is to be submitted.
#[derive(Default)]
struct Recorded {
    commands: Vec<Command>,
    uniforms: Vec<u8>,
}

enum Command {
    Dispatch { pipeline: wgpu::ComputePipeline, group: wgpu::BindGroup, grid: [u32; 2] },
    Copy { from: wgpu::Buffer, offset: u64, to: wgpu::Buffer, bytes: u64 },
}

/// A copy on its way to the host.
#[derive(Debug)]
pub(super) struct Request {
    staging: wgpu::Buffer,
    bytes: usize,
    /// The submission that the copy is in; later ones need not be waited for.
    submission: Option<wgpu::SubmissionIndex>,
    _held: Held,
}

/// All adapters, hardware and software, of the backends compiled in.
pub(super) fn enumerate() -> Vec<Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    // Refuse an allocation before the driver or the operating system's out-of-memory killer does.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(90);
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.enumerate_adapters(backends)).into_iter().map(describe).collect()
}

fn describe(handle: wgpu::Adapter) -> Adapter {
    let (info, limits, features) = (handle.get_info(), handle.limits(), handle.features());
    Adapter {
        name: info.name,
        backend: format!("{:?}", info.backend),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        id: format!("{:04x}:{:04x}", info.vendor, info.device),
        pci: info.device_pci_bus_id,
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        subgroups: [info.subgroup_min_size, info.subgroup_max_size],
        features: OPTIONAL
            .iter()
            .filter(|(feature, _)| features.contains(*feature))
            .map(|(_, name)| (*name).to_owned())
            .collect(),
        handle,
    }
}

impl Gpu {
    pub(super) fn open(adapter: &Adapter, variant: Variant) -> Result<Self> {
        let refuse = |problem: String| Error::Device {
            device: adapter.name.clone(),
            problem,
            remedy: "choose another adapter with --device, or --device cpu".into(),
        };
        let limits = adapter.handle.limits();
        if adapter.storage_buffers < 8 || adapter.workgroup_invocations < 256 || adapter.workgroup_bytes < 16_384 {
            return Err(refuse(
                "below the floor of 8 storage buffers, 256 invocations and 16 KiB of memory a workgroup".into(),
            ));
        }
        if !adapter.runs(variant) {
            return Err(refuse(format!("its driver has no {variant}")));
        }
        let request = adapter.handle.request_device(&wgpu::DeviceDescriptor {
            label: Some("tauscore"),
            required_features: match variant {
                Variant::Core => wgpu::Features::empty(),
                Variant::Int64 => wgpu::Features::SHADER_INT64,
            },
            required_limits: limits.clone(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        });
        let (device, queue) = pollster::block_on(request).map_err(|error| refuse(error.to_string()))?;

        let failure = Arc::new(Mutex::new(None));
        let reported = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let memory = matches!(error, wgpu::Error::OutOfMemory { .. });
            lock(&reported).get_or_insert_with(|| Failure { memory, problem: error.to_string() });
        }));
        let lost = Arc::new(Mutex::new(None));
        let told = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            lock(&told).get_or_insert_with(|| format!("the device was lost ({reason:?}): {message}"));
        });

        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uniforms"),
            size: (CALLS_PER_SUBMISSION * SLOT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let gpu = Self {
            name: adapter.name.clone(),
            kind: adapter.kind,
            variant,
            device,
            queue,
            limits,
            uniforms,
            pipelines: Mutex::default(),
            recorded: Mutex::default(),
            failure,
            lost,
        };
        gpu.check().map(|()| gpu)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_software(&self) -> bool {
        self.kind == AdapterKind::Software
    }

    pub(super) fn variant(&self) -> Variant {
        self.variant
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            binding_bytes: self.limits.max_storage_buffer_binding_size,
            // A card of its own needs many to be full; the others share the host's memory and take longer for each.
            batch_tokens: if self.kind == AdapterKind::Discrete { 16_384 } else { 4096 },
        }
    }

    /// A buffer of `size` bytes, see [`size`].
    pub(super) fn allocate(&self, size: u64) -> Result<wgpu::Buffer> {
        if size > self.limits.max_buffer_size {
            return Err(self.error(format!(
                "a buffer of {size} bytes is larger than the adapter's limit of {}",
                self.limits.max_buffer_size
            )));
        }
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.check().map(|()| buffer)
    }

    pub(super) fn write(&self, buffer: &wgpu::Buffer, offset: usize, bytes: &[u8]) -> Result<()> {
        // What is recorded must still see the old contents.
        self.submit(&mut lock(&self.recorded));
        self.queue.write_buffer(buffer, offset as u64, bytes);
        self.check()
    }

    pub(super) fn dispatch(&self, kernel: &'static Kernel, call: &Call<'_>) -> Result<()> {
        if call.workgroups == 0 {
            return Ok(());
        }
        let pipeline = self.pipeline(kernel, call.constants)?;
        let grid = fold(call.workgroups).ok_or_else(|| {
            self.error(format!("kernel {}: {} workgroups do not fit into a grid", kernel.name, call.workgroups))
        })?;
        let mut entries = Vec::with_capacity(call.bindings.len() + 1);
        for (index, binding) in call.bindings.iter().enumerate() {
            let Raw::Gpu(buffer, _) = &**binding.raw else {
                return Err(super::foreign());
            };
            if binding.size as u64 > self.limits.max_storage_buffer_binding_size {
                return Err(self.error(format!(
                    "kernel {}: a binding of {} bytes is larger than the adapter's limit of {}",
                    kernel.name, binding.size, self.limits.max_storage_buffer_binding_size
                )));
            }
            entries.push(entry(index as u32 + 1, buffer, binding.offset, binding.size));
        }

        // From here on nothing fails half way: the slot and the command are taken together.
        let mut recorded = lock(&self.recorded);
        if recorded.uniforms.len() == CALLS_PER_SUBMISSION * SLOT {
            self.submit(&mut recorded);
        }
        let slot = recorded.uniforms.len();
        recorded.uniforms.extend_from_slice(call.params);
        recorded.uniforms.resize(slot + SLOT, 0);
        entries.push(entry(0, &self.uniforms, slot, call.params.len()));
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        recorded.commands.push(Command::Dispatch { pipeline, group, grid });
        drop(recorded);
        self.check()
    }

    pub(super) fn request(&self, buffer: &wgpu::Buffer, offset: usize, bytes: usize, held: Held) -> Result<Request> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: size(bytes),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut recorded = lock(&self.recorded);
        if bytes > 0 {
            let copy =
                Command::Copy { from: buffer.clone(), offset: offset as u64, to: staging.clone(), bytes: bytes as u64 };
            recorded.commands.push(copy);
        }
        let submission = self.submit(&mut recorded);
        drop(recorded);
        self.check()?;

        let failure = self.failure.clone();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            if let Err(error) = result {
                lock(&failure).get_or_insert_with(|| Failure { memory: false, problem: error.to_string() });
            }
        });
        self.check()?;
        Ok(Request { staging, bytes, submission, _held: held })
    }

    pub(super) fn wait<T: Pod>(&self, request: Request) -> Result<Vec<T>> {
        let done = wgpu::PollType::Wait { submission_index: request.submission, timeout: None };
        self.device.poll(done).map_err(|error| self.error(error.to_string()))?;
        self.check()?;
        let view = request.staging.slice(..).get_mapped_range().map_err(|error| self.error(error.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&view[..request.bytes]))
    }

    pub(super) fn finish(&self) -> Result<()> {
        self.submit(&mut lock(&self.recorded));
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| self.error(error.to_string()))?;
        self.check()
    }

    /// Submits what is recorded, in order; nothing if nothing is.
    fn submit(&self, recorded: &mut Recorded) -> Option<wgpu::SubmissionIndex> {
        if recorded.commands.is_empty() {
            return None;
        }
        self.queue.write_buffer(&self.uniforms, 0, &recorded.uniforms);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut commands = recorded.commands.drain(..).peekable();
        while let Some(command) = commands.next() {
            match command {
                Command::Copy { from, offset, to, bytes } => {
                    encoder.copy_buffer_to_buffer(&from, offset, &to, 0, bytes)
                }
                Command::Dispatch { pipeline, group, grid } => {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    let mut next = Some((pipeline, group, grid));
                    while let Some((pipeline, group, [columns, rows])) = next.take() {
                        pass.set_pipeline(&pipeline);
                        pass.set_bind_group(0, &group, &[]);
                        pass.dispatch_workgroups(columns, rows, 1);
                        next = match commands.next_if(|command| matches!(command, Command::Dispatch { .. })) {
                            Some(Command::Dispatch { pipeline, group, grid }) => Some((pipeline, group, grid)),
                            _ => None,
                        };
                    }
                }
            }
        }
        drop(commands);
        recorded.uniforms.clear();
        Some(self.queue.submit([encoder.finish()]))
    }

    /// The pipeline of a kernel with its constants, compiled once.
    fn pipeline(&self, kernel: &'static Kernel, constants: &[u32]) -> Result<wgpu::ComputePipeline> {
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(&(kernel.name, constants.to_vec())) {
            return Ok(pipeline.clone());
        }
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.specialised(self.variant, constants).into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.check()?;
        pipelines.insert((kernel.name, constants.to_vec()), pipeline.clone());
        Ok(pipeline)
    }

    /// Fails if wgpu has reported an error since the last look, and for ever once the device is lost.
    fn check(&self) -> Result<()> {
        if let Some(problem) = lock(&self.lost).clone() {
            return Err(self.error(problem));
        }
        match lock(&self.failure).take() {
            None => Ok(()),
            Some(Failure { memory: true, problem }) => Err(super::no_room(&self.name, problem)),
            Some(Failure { memory: false, problem }) => Err(self.error(problem)),
        }
    }

    fn error(&self, problem: String) -> Error {
        Error::Device {
            device: self.name.clone(),
            problem,
            remedy: "free memory on the device, choose another with --device, or use --device cpu".into(),
        }
    }
}

/// What a buffer of `bytes` bytes takes.
pub(super) fn size(bytes: usize) -> u64 {
    (bytes as u64).max(16).next_multiple_of(16)
}

/// Binds `size` bytes of `buffer` from byte `offset` on.
fn entry(binding: u32, buffer: &wgpu::Buffer, offset: usize, size: usize) -> wgpu::BindGroupEntry<'_> {
    let size = std::num::NonZeroU64::new(size as u64);
    let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: offset as u64, size });
    wgpu::BindGroupEntry { binding, resource }
}

/// A grid of at least `workgroups` workgroups, no side longer than [`GRID`]. The shader guards the surplus.
fn fold(workgroups: u64) -> Option<[u32; 2]> {
    let rows = workgroups.div_ceil(GRID);
    (rows <= GRID).then(|| [workgroups.div_ceil(rows) as u32, rows as u32])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn a_fold_covers_every_workgroup() {
        for count in [1, 7, 65_535, 65_536, 65_537, 131_071, 1 << 20, 65_535 * 65_535] {
            let [columns, rows] = fold(count).expect("it fits");
            assert!(u64::from(columns) <= 65_535 && u64::from(rows) <= 65_535, "{count} is folded below the limit");
            assert!(u64::from(columns) * u64::from(rows) >= count, "{count} is covered");
            assert!(u64::from(columns) * u64::from(rows) < count + u64::from(rows), "{count} has little surplus");
        }
        assert_eq!(fold(u64::MAX), None, "what cannot be folded is refused");
    }
}
