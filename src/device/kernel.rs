//! What a kernel is: one declaration that both executors, the tests, the benches and `doctor` walk.

use std::borrow::Cow;

use bytemuck::Pod;

/// Whether a kernel only reads a binding or also writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// What the shader promises against its CPU twin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parity {
    /// The same bits on every device: integers, comparisons and moves only.
    Exact,
    /// `|shader - twin| <= absolute + relative * |twin|` for every float written.
    Close {
        /// The absolute part.
        absolute: f32,
        /// The relative part.
        relative: f32,
    },
}

/// Which form of a kernel's shader a device runs. Both keep the same promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Core WGSL, on every device.
    #[default]
    Core,
    /// With 64-bit integers where the kernel has such a form, on adapters with the feature.
    Int64,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Core => "core",
            Self::Int64 => "int64",
        })
    }
}

/// A kernel's shader, shared parts included by concatenation.
#[derive(Clone, Copy, Debug)]
pub struct Wgsl {
    /// For every device.
    pub core: &'static str,
    /// For [`Variant::Int64`], where that is another.
    pub int64: Option<&'static str>,
}

impl Wgsl {
    /// A shader with one form.
    pub const fn core(core: &'static str) -> Self {
        Self { core, int64: None }
    }

    /// What a device of this variant runs.
    pub fn of(&self, variant: Variant) -> &'static str {
        match variant {
            Variant::Core => self.core,
            Variant::Int64 => self.int64.unwrap_or(self.core),
        }
    }

    /// The variants that differ.
    pub fn variants(&self) -> &'static [Variant] {
        if self.int64.is_some() { &[Variant::Core, Variant::Int64] } else { &[Variant::Core] }
    }
}

/// A compute kernel: the shader, its CPU twin, and the promise between them.
///
/// Binding 0 of the shader is the uniform `params`; binding `i + 1` is `bindings[i]`.
pub struct Kernel {
    /// The stem on every shelf: `shaders/NAME.wgsl`, `src/.../NAME.rs`.
    pub name: &'static str,
    /// The shader.
    pub wgsl: Wgsl,
    /// Names of `const NAME: u32 = ...u;` lines whose value a call replaces before compilation.
    pub constants: &'static [&'static str],
    /// Size of the uniform `params` in bytes.
    pub params: usize,
    /// How each storage binding is accessed.
    pub bindings: &'static [Access],
    /// The CPU twin: the same function on slices. Infallible on what the orchestration gives it.
    pub cpu: fn(&mut Args<'_>),
    /// What the shader promises against the twin.
    pub parity: Parity,
    /// Inputs for the parity tests, the benches and `doctor`. The last one is sized for timing.
    pub samples: fn() -> Vec<Sample>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kernel").field("name", &self.name).field("parity", &self.parity).finish_non_exhaustive()
    }
}

impl Kernel {
    /// The WGSL of `variant` with each of [`Kernel::constants`] set to its value in `values` (in the same order).
    ///
    /// The file is valid WGSL as it stands; only the number in `const NAME: u32 = 32u;` is replaced.
    pub fn specialised(&self, variant: Variant, values: &[u32]) -> String {
        let mut wgsl = self.wgsl.of(variant).to_owned();
        for (name, value) in self.constants.iter().zip(values) {
            let declaration = format!("const {name}: u32 = ");
            if let Some(start) = wgsl.find(&declaration).map(|at| at + declaration.len())
                && let Some(length) = wgsl[start..].find(';')
            {
                wgsl.replace_range(start..start + length, &format!("{value}u"));
            }
        }
        wgsl
    }
}

/// What a CPU twin is given: the uniform's bytes and the bindings in order.
pub struct Args<'a> {
    params: &'a [u8],
    slots: Vec<Slot<'a>>,
}

pub(super) enum Slot<'a> {
    Read(&'a [u8]),
    Write(&'a mut [u8]),
}

impl<'a> Args<'a> {
    pub(super) fn new(params: &'a [u8], slots: Vec<Slot<'a>>) -> Self {
        Self { params, slots }
    }

    /// The uniform, as the twin's own struct.
    pub fn params<P: Pod>(&self) -> P {
        bytemuck::pod_read_unaligned(self.params)
    }

    /// Binding `index` (from 0) for reading.
    pub fn read<T: Pod>(&self, index: usize) -> &'a [T] {
        match &self.slots[index] {
            Slot::Read(bytes) => bytemuck::cast_slice(bytes),
            Slot::Write(_) => &[],
        }
    }

    /// Binding `index` (from 0) for reading and writing; it can be taken once.
    pub fn write<T: Pod>(&mut self, index: usize) -> &'a mut [T] {
        match &mut self.slots[index] {
            Slot::Write(bytes) => bytemuck::cast_slice_mut(std::mem::take(bytes)),
            Slot::Read(_) => &mut [],
        }
    }
}

/// Contents of one storage binding of a [`Sample`].
#[derive(Clone, Debug)]
pub enum Data {
    /// Floats.
    F32(Vec<f32>),
    /// Unsigned integers.
    U32(Vec<u32>),
    /// So many unsigned integers, the given ones over and over: a large binding that costs nothing before it is used.
    Cycled(Vec<u32>, usize),
}

impl Data {
    /// The words as the device holds them.
    pub fn words(&self) -> Cow<'_, [u32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
            Self::U32(values) => Cow::Borrowed(values),
            Self::Cycled(values, len) => values.iter().copied().cycle().take(*len).collect(),
        }
    }

    /// How many bytes that is.
    pub fn size(&self) -> usize {
        4 * match self {
            Self::F32(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::Cycled(_, len) => *len,
        }
    }
}

/// One input of a kernel that is worth checking, and what for.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What this sample is there to show.
    pub about: &'static str,
    /// Values of [`Kernel::constants`].
    pub constants: Vec<u32>,
    /// The uniform's bytes.
    pub params: Vec<u8>,
    /// Contents of the bindings before the call, in order.
    pub bindings: Vec<Data>,
    /// How many workgroups the call needs.
    pub workgroups: u64,
    /// Floating-point (or integer) operations of the call.
    pub operations: u64,
    /// Bytes that the call must at least move.
    pub bytes: u64,
}

/// A small deterministic generator for samples: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next 32 bits (splitmix64's upper half).
    pub fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }

    /// A number below `bound` (which is not 0).
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(bound)) >> 32) as u32
    }

    /// A float in [-1, 1).
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 8_388_608.0 - 1.0
    }

    /// `count` floats in [-scale, scale).
    pub fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.float() * scale).collect()
    }
}
