//! Typed buffers that live on a device, and ranges of them to bind.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use bytemuck::Pod;

use super::memory::Held;

/// Where the bytes are, with their entry in the ledger.
#[derive(Debug)]
pub(super) enum Raw {
    /// Host memory, in words so that every element type is aligned.
    Cpu(RwLock<Vec<u64>>, #[expect(dead_code, reason = "it counts for as long as it lives")] Held),
    /// Device memory.
    #[cfg(feature = "gpu")]
    Gpu(wgpu::Buffer, #[expect(dead_code, reason = "it counts for as long as it lives")] Held),
}

impl Raw {
    /// The host memory, if it is there.
    pub(super) fn words(&self) -> Option<&RwLock<Vec<u64>>> {
        match self {
            Self::Cpu(words, _) => Some(words),
            #[cfg(feature = "gpu")]
            Self::Gpu(..) => None,
        }
    }
}

/// `len` elements of `T` on one device. Cloning shares the memory.
#[derive(Debug)]
pub struct Buffer<T> {
    pub(super) raw: Arc<Raw>,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), len: self.len, element: PhantomData }
    }
}

impl<T: Pod> Buffer<T> {
    pub(super) fn new(raw: Raw, len: usize) -> Self {
        Self { raw: Arc::new(raw), len, element: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Binds all of it.
    pub fn all(&self) -> Binding<'_> {
        self.range(0..self.len)
    }

    /// Binds elements `range`. On a GPU its first byte must sit on a multiple of 256.
    pub fn range(&self, range: Range<usize>) -> Binding<'_> {
        let size = size_of::<T>();
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        Binding { raw: &self.raw, offset: start * size, size: (end - start) * size }
    }
}

/// A range of a buffer, given to a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub(super) raw: &'a Arc<Raw>,
    /// First byte.
    pub(super) offset: usize,
    /// Number of bytes.
    pub(super) size: usize,
}
