//! Pages registered for a device's access from both sides.
#![allow(unsafe_code, reason = "maps memory and gives it to a device")]

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rdma_sys::*;

use super::{CallError, ProtectionDomain};

/// Registered pages. Clones share them; they are unmapped after the registration is gone.
///
/// A device writes into them at any time, so no reference into them is ever given out: bytes are copied in and out.
#[derive(Clone)]
pub struct Region(Arc<Inner>);

struct Inner {
    pd: ProtectionDomain,
    raw: *mut ibv_mr,
    pages: NonNull<c_void>,
    length: usize,
}

// SAFETY: the pointers are addresses of a mapping and of an object of a library that locks; bytes are only copied volatilely.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: deregistered once. Where that fails the device may still write, so the pages stay mapped.
        unsafe {
            if (self.pd.0.context.0.verbs.ibv_dereg_mr)(self.raw) == 0 {
                let _ = munmap(self.pages, self.length);
            }
        }
    }
}

impl ProtectionDomain {
    /// Maps zeroed pages and registers them for local writing and remote reading and writing.
    ///
    /// # Errors
    /// The pages cannot be had, or `ibv_reg_mr` failed: ENOMEM says that they cannot be locked (RLIMIT_MEMLOCK), see ibv_reg_mr(3).
    pub fn register_pages(&self, length: usize) -> Result<Region, CallError> {
        let context = &self.0.context.0;
        let failed = |call: &str, errno: i32| CallError {
            call: call.to_owned(),
            object: format!("{}, {length} bytes", context.name),
            errno: super::ErrorNumber(errno),
        };
        let size = NonZeroUsize::new(length).ok_or_else(|| failed("mmap", libc::EINVAL))?;
        // SAFETY: a new private mapping, at an address that the kernel chooses.
        let pages = unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE) }
            .map_err(|errno| failed("mmap", errno as i32))?;
        let access =
            ibv_access_flags::IBV_ACCESS_LOCAL_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_READ;
        Errno::clear();
        // SAFETY: the mapping is `length` bytes long and outlives the registration.
        let raw = unsafe { (context.verbs.ibv_reg_mr)(self.0.raw, pages.as_ptr(), length, access.0 as c_int) };
        if raw.is_null() {
            let errno = Errno::last_raw();
            // SAFETY: mapped above and given to nobody.
            let _ = unsafe { munmap(pages, length) };
            return Err(failed("ibv_reg_mr", errno));
        }
        Ok(Region(Arc::new(Inner { pd: self.clone(), raw, pages, length })))
    }
}

impl Region {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }

    /// Its address, as work requests of both sides name it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.pages.as_ptr() as u64
    }

    /// Its key for own work requests.
    #[must_use]
    pub fn local_key(&self) -> u32 {
        // SAFETY: the registration lives.
        unsafe { (*self.0.raw).lkey }
    }

    /// Its key for the other side's work requests.
    #[must_use]
    pub fn remote_key(&self) -> u32 {
        // SAFETY: the registration lives.
        unsafe { (*self.0.raw).rkey }
    }

    /// The byte at an offset, as it is in memory now; 0 beyond the end.
    #[must_use]
    #[inline]
    pub fn load(&self, offset: usize) -> u8 {
        if offset >= self.0.length {
            return 0;
        }
        // SAFETY: within the mapping; volatile, because a device may be writing it.
        unsafe { self.0.pages.as_ptr().cast::<u8>().add(offset).read_volatile() }
    }

    /// Sets the byte at an offset; nothing happens beyond the end.
    #[inline]
    pub fn store(&self, offset: usize, value: u8) {
        if offset < self.0.length {
            // SAFETY: within the mapping.
            unsafe { self.0.pages.as_ptr().cast::<u8>().add(offset).write_volatile(value) }
        }
    }
}
