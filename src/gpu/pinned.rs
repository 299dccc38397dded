//! Host memory that CUDA allocated and locked, so that GPUs copy from and to it at full speed.
#![allow(unsafe_code, reason = "calls a C interface and owns what it returns")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::sys;

use super::cuda::checked;
use super::{Context, GpuError};
use crate::verbs::Memory;

/// CU_MEMHOSTALLOC_PORTABLE of cuda.h: locked for all GPUs.
const PORTABLE: u32 = 1;

/// Locked pages, freed when dropped. Devices and GPUs write into them at any time, so no reference into them is ever given out.
pub struct Pinned {
    context: Context,
    pages: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: an address of memory that is only copied from and to.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Context {
    /// Allocates locked host memory.
    ///
    /// # Errors
    /// `cuMemHostAlloc` failed.
    pub fn allocate_pinned(&self, bytes: usize) -> Result<Pinned, GpuError> {
        self.enter()?;
        let mut raw: *mut c_void = std::ptr::null_mut();
        // SAFETY: a pointer that outlives the call.
        checked("cuMemHostAlloc", self.pci(), unsafe { sys::cuMemHostAlloc(&raw mut raw, bytes, PORTABLE) })?;
        let pages = NonNull::new(raw).ok_or_else(|| GpuError::NotAsked { why: "cuMemHostAlloc gave no address".to_owned() })?;
        Ok(Pinned { context: self.clone(), pages, bytes })
    }
}

impl Pinned {
    /// Where it begins.
    #[must_use]
    pub fn pages(&self) -> NonNull<c_void> {
        self.pages
    }

    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes
    }
}

impl Pinned {
    /// Sets the number at a place, counted in numbers; nothing happens beyond the end.
    pub(super) fn store(&self, index: usize, value: u64) {
        if let Some(at) = self.at(index) {
            at.store(value, Ordering::Release);
        }
    }

    /// The number at a place, as it is in memory now; 0 beyond the end.
    pub(super) fn load(&self, index: usize) -> u64 {
        self.at(index).map_or(0, |at| at.load(Ordering::Acquire))
    }

    fn at(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: within the memory and aligned, which begins on a page; others may be writing it, so it is atomic.
        ((index + 1) * size_of::<u64>() <= self.bytes).then(|| unsafe { AtomicU64::from_ptr(self.pages.as_ptr().cast::<u64>().add(index)) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once and freed once.
            unsafe { sys::cuMemFreeHost(self.pages.as_ptr()) };
        }
    }
}

// SAFETY: locked pages of that length at that address.
unsafe impl Memory for Pinned {
    fn address(&self) -> u64 {
        self.pages.as_ptr() as u64
    }

    fn length(&self) -> usize {
        self.bytes
    }

    fn pages(&self) -> Option<NonNull<c_void>> {
        Some(self.pages)
    }

    // What has pages is copied by the region itself.
    fn read(&self, _: usize, _: &mut [u8]) {}

    fn write(&self, _: usize, _: &[u8]) {}
}
