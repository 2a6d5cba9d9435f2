//! The CPU executor: runs a kernel's twin at once, on host memory.

use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytemuck::Pod;

use super::buffer::{Binding, Raw};
use super::kernel::{Access, Args, Kernel, Slot};
use crate::{Error, Result};

/// Host memory for `bytes` bytes, zeroed.
pub(super) fn allocate(bytes: usize) -> Raw {
    Raw::Cpu(RwLock::new(vec![0; bytes.div_ceil(size_of::<u64>())]))
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

/// Runs `work` compiled for the widest vectors that this CPU has.
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
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);
    ARCH.dispatch(Work(work))
}
