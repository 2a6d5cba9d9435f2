//! The CPU executor: runs a kernel's twin at once, on host memory.

use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytemuck::Pod;

use super::buffer::{Binding, Raw};
use super::kernel::{Access, Args, Kernel, Slot};
use super::memory::Held;
use crate::{Error, Result};

/// What a buffer of `bytes` bytes takes.
pub(super) fn size(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(size_of::<u64>() as u64)
}

/// Host memory for `bytes` bytes, zeroed.
pub(super) fn allocate(bytes: usize, held: Held) -> Raw {
    Raw::Cpu(RwLock::new(vec![0; bytes.div_ceil(size_of::<u64>())]), held)
}

/// Runs `kernel`'s twin on `bindings`.
pub(super) fn dispatch(kernel: &'static Kernel, params: &[u8], bindings: &[Binding<'_>]) -> Result<()> {
    enum Guard<'a> {
        Read(RwLockReadGuard<'a, Vec<u64>>),
        Write(RwLockWriteGuard<'a, Vec<u64>>),
    }

    // A buffer bound twice, once for writing, would wait for itself here and is not allowed on a GPU either.
    for (index, binding) in bindings.iter().enumerate() {
        let written = kernel.bindings[index] == Access::Write;
        let shares = |(other, candidate): (usize, &Binding<'_>)| {
            other != index && std::sync::Arc::ptr_eq(candidate.raw, binding.raw)
        };
        if written && bindings.iter().enumerate().any(shares) {
            return Err(contract(kernel, format!("binding {index} is written and bound a second time")));
        }
    }

    let mut guards = Vec::with_capacity(bindings.len());
    for (binding, access) in bindings.iter().zip(kernel.bindings) {
        let foreign = || contract(kernel, "a buffer of another device is bound".into());
        let words = binding.raw.words().ok_or_else(foreign)?;
        guards.push(match access {
            Access::Read => Guard::Read(words.read().unwrap_or_else(PoisonError::into_inner)),
            Access::Write => Guard::Write(words.write().unwrap_or_else(PoisonError::into_inner)),
        });
    }
    let slots = guards
        .iter_mut()
        .zip(bindings)
        .map(|(guard, binding)| {
            let range = binding.offset..binding.offset + binding.size;
            match guard {
                Guard::Read(words) => Slot::Read(&bytemuck::cast_slice(words.as_slice())[range]),
                Guard::Write(words) => Slot::Write(&mut bytemuck::cast_slice_mut(words.as_mut_slice())[range]),
            }
        })
        .collect();
    (kernel.cpu)(&mut Args::new(params, slots));
    Ok(())
}

/// Copies `data` into `raw` from byte `offset` on.
pub(super) fn write<T: Pod>(words: &RwLock<Vec<u64>>, offset: usize, data: &[T]) {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    let mut words = words.write().unwrap_or_else(PoisonError::into_inner);
    bytemuck::cast_slice_mut(words.as_mut_slice())[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Copies `len` elements out of `raw`, from byte `offset` on.
pub(super) fn read<T: Pod>(words: &RwLock<Vec<u64>>, offset: usize, len: usize) -> Vec<T> {
    let words = words.read().unwrap_or_else(PoisonError::into_inner);
    let bytes: &[u8] = bytemuck::cast_slice(words.as_slice());
    bytemuck::cast_slice(&bytes[offset..offset + len * size_of::<T>()]).to_vec()
}

fn contract(kernel: &'static Kernel, problem: String) -> Error {
    Error::Kernel { kernel: kernel.name, problem }
}

/// Instructions that twins may be compiled for. Which ones changes no bit, only the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// x86 with AVX-512 (F, BW, VL, DQ, CD) and its VNNI extension.
    Avx512Vnni,
    /// x86 with AVX-512.
    Avx512,
    /// x86 with AVX2.
    Avx2,
    /// What every CPU of the platform has.
    Portable,
}

impl Instructions {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512Vnni, Self::Avx512, Self::Avx2, Self::Portable];

    /// Those that this CPU has, the fastest first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = {
            let avx512 = pulp::x86::V4::try_new().is_some();
            let vnni = avx512 && std::arch::is_x86_feature_detected!("avx512vnni");
            [(Self::Avx512Vnni, vnni), (Self::Avx512, avx512), (Self::Avx2, pulp::x86::V3::try_new().is_some())]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [];
        let wide = wide.into_iter().filter_map(|(instructions, here): (Self, bool)| here.then_some(instructions));
        wide.chain([Self::Portable]).collect()
    }

    /// The name that `TAUSCORE_CPU` knows them by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Those that the CPU path uses: what `TAUSCORE_CPU` names, to compare, else the fastest that this CPU has.
    ///
    /// # Errors
    /// [`Error::Usage`] if it names something else, or what this CPU has not.
    pub fn chosen() -> Result<Self> {
        let available = Self::available();
        let Some(named) = std::env::var_os("TAUSCORE_CPU").filter(|value| !value.is_empty()) else {
            return Ok(available[0]);
        };
        available.iter().copied().find(|instructions| named == instructions.name()).ok_or_else(|| {
            let names: Vec<&str> = available.iter().map(|instructions| instructions.name()).collect();
            Error::Usage {
                argument: "TAUSCORE_CPU".into(),
                problem: format!("{:?} is not something that this CPU has", named.display().to_string()),
                remedy: format!("leave it out, or choose one of: {}", names.join(", ")),
            }
        })
    }

    /// [`Instructions::chosen`], looked at once; where that is refused, what every CPU has.
    pub(crate) fn best() -> Self {
        static BEST: LazyLock<Instructions> =
            LazyLock::new(|| Instructions::chosen().unwrap_or(Instructions::Portable));
        *BEST
    }

    fn arch(self) -> pulp::Arch {
        #[cfg(target_arch = "x86_64")]
        let wide = match self {
            Self::Avx512Vnni | Self::Avx512 => pulp::x86::V4::try_new().map(pulp::Arch::V4),
            Self::Avx2 => pulp::x86::V3::try_new().map(pulp::Arch::V3),
            Self::Portable => None,
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide = Some(pulp::Arch::new());
        wide.unwrap_or(pulp::Arch::Scalar)
    }
}

fn arch() -> pulp::Arch {
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(|| Instructions::best().arch());
    *ARCH
}

/// Runs `work` with the vectors of its choice out of those that [`Instructions`] allow.
pub(crate) fn simd<W: pulp::WithSimd>(work: W) -> W::Output {
    arch().dispatch(work)
}

/// Runs `work` compiled for the widest vectors that [`Instructions`] allow.
///
/// Wider vectors change no bit: every sum in the twins names its own order, and products are never fused with sums.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    arch().dispatch(Work(work))
}
