//! What a device's buffers take, byte by byte, and the most that they may.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a device's buffers take, copies on their way to the host included. What a driver needs for itself is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// As of now.
    pub now: u64,
    /// The most that it ever was.
    pub most: u64,
}

/// Counts what is held.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The most that may be held.
    budget: Option<u64>,
    /// What nobody plans with: the device is out of memory beyond it.
    #[cfg(test)]
    room: Option<u64>,
    memory: Mutex<Memory>,
}

/// Bytes in a [`Ledger`], until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Ledger {
    pub(super) fn new(budget: Option<u64>) -> Arc<Self> {
        Arc::new(Self { budget, ..Self::default() })
    }

    #[cfg(test)]
    pub(super) fn with_room(room: u64) -> Arc<Self> {
        Arc::new(Self { room: Some(room), ..Self::default() })
    }

    pub(super) fn budget(&self) -> Option<u64> {
        self.budget
    }

    pub(super) fn memory(&self) -> Memory {
        *self.lock()
    }

    /// Enters `bytes`; `None` if there is no room for them.
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let mut memory = self.lock();
        let now = memory.now.saturating_add(bytes);
        if self.budget.is_some_and(|budget| now > budget) {
            return None;
        }
        #[cfg(test)]
        if self.room.is_some_and(|room| now > room) {
            return None;
        }
        *memory = Memory { now, most: memory.most.max(now) };
        Some(Held { ledger: self.clone(), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.lock().now -= self.bytes;
    }
}
