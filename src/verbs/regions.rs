//! Registrations that are tried and given back at once: whether they are granted, and how long they take.
#![allow(unsafe_code, reason = "calls through the verbs table with addresses")]

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rdma_sys::*;

use super::{CallError, ErrorNumber, ProtectionDomain};

/// What engines ask for memory that peers read and write.
const ACCESS: c_int = (ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
    | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
    | ibv_access_flags::IBV_ACCESS_REMOTE_READ.0) as c_int;

impl ProtectionDomain {
    /// Registers that much new host memory. The kernel brings its pages in and locks them meanwhile.
    ///
    /// # Errors
    /// `mmap` or `ibv_reg_mr` failed.
    pub fn try_host_memory(&self, bytes: usize) -> Result<Duration, CallError> {
        let mapping =
            |errno: Errno| CallError { call: "mmap".to_owned(), object: format!("{bytes} bytes"), errno: ErrorNumber(errno as i32) };
        let length = NonZeroUsize::new(bytes).ok_or_else(|| mapping(Errno::EINVAL))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, which nothing else knows of.
        let at = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }.map_err(mapping)?;
        let tried = self.try_address(at.as_ptr() as u64, bytes);
        // SAFETY: the whole mapping of above, whose registration is gone.
        let _ = unsafe { munmap(at, bytes) };
        tried
    }

    /// Registers memory by its address: of this process, or of a GPU where a peer-memory client tells the kernel of it. Nobody gets the keys.
    ///
    /// # Errors
    /// `ibv_reg_mr` failed: EFAULT says that the kernel finds no memory there.
    pub fn try_address(&self, address: u64, bytes: usize) -> Result<Duration, CallError> {
        let started = Instant::now();
        Errno::clear();
        // SAFETY: the domain lives. The kernel checks the address; nothing is written there.
        let raw = unsafe {
            (self.0.context.0.verbs.ibv_reg_mr)(self.0.raw, std::ptr::without_provenance_mut::<c_void>(address as usize), bytes, ACCESS)
        };
        self.give_back("ibv_reg_mr", raw, started)
    }

    /// Registers the start of a dma-buf.
    ///
    /// # Errors
    /// `ibv_reg_dmabuf_mr` failed: EOPNOTSUPP says that the device's driver, or this libibverbs, has no such thing.
    pub fn try_dma_buf(&self, file: BorrowedFd<'_>, bytes: usize) -> Result<Duration, CallError> {
        let Some(register) = self.0.context.0.verbs.ibv_reg_dmabuf_mr else {
            let errno = ErrorNumber(Errno::EOPNOTSUPP as i32);
            return Err(CallError {
                call: "ibv_reg_dmabuf_mr".to_owned(),
                object: "a libibverbs before v34, which has no such call".to_owned(),
                errno,
            });
        };
        let started = Instant::now();
        Errno::clear();
        // SAFETY: the domain lives and the file is open; offset and address are aligned alike.
        let raw = unsafe { register(self.0.raw, 0, bytes, 0, file.as_raw_fd(), ACCESS) };
        self.give_back("ibv_reg_dmabuf_mr", raw, started)
    }

    fn give_back(&self, call: &str, raw: *mut ibv_mr, started: Instant) -> Result<Duration, CallError> {
        let context = &self.0.context.0;
        if raw.is_null() {
            return Err(CallError::last(call, &context.name));
        }
        let elapsed = started.elapsed();
        // SAFETY: registered just now, and deregistered once.
        let returned = unsafe { (context.verbs.ibv_dereg_mr)(raw) };
        CallError::check("ibv_dereg_mr", &context.name, returned)?;
        Ok(elapsed)
    }
}
