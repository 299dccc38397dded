//! Registrations that are tried and given back at once: whether they are granted, and how long they take.
#![allow(unsafe_code, reason = "calls through the verbs table with addresses")]

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rdma_sys::*;

use super::{CallError, ErrorNumber, ProtectionDomain, direct};

/// How a device is told of memory.
#[derive(Clone, Copy)]
pub enum Route<'a> {
    /// By its address (ibv_reg_mr).
    Address,
    /// By a dma-buf, in which it begins at an offset (ibv_reg_dmabuf_mr).
    DmaBuf(BorrowedFd<'a>, u64),
    /// The same, for mlx5's data-direct device (mlx5dv_reg_dmabuf_mr).
    DataDirect(BorrowedFd<'a>, u64),
}

impl Route<'_> {
    #[must_use]
    pub fn call(self) -> &'static str {
        match self {
            Self::Address => "ibv_reg_mr",
            Self::DmaBuf(..) => "ibv_reg_dmabuf_mr",
            Self::DataDirect(..) => "mlx5dv_reg_dmabuf_mr",
        }
    }
}

/// What engines ask for memory that peers read and write.
pub(super) const ACCESS: c_int = (ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
    | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
    | ibv_access_flags::IBV_ACCESS_REMOTE_READ.0) as c_int;

/// `IBV_ACCESS_RELAXED_ORDERING` (verbs.h): one of the optional flags, which a kernel may ignore.
pub(super) const RELAXED: c_int = 1 << 20;

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
        self.try_route(address, bytes, Route::Address)
    }

    /// Registers memory by one of the ways that there are. Nobody gets the keys.
    ///
    /// # Errors
    /// The call of that way failed: EOPNOTSUPP says that the device's driver, or this library, has no such thing.
    pub fn try_route(&self, address: u64, bytes: usize, route: Route<'_>) -> Result<Duration, CallError> {
        let started = Instant::now();
        Errno::clear();
        let raw = self.register_raw(address, bytes, route, ACCESS)?;
        self.give_back(route.call(), raw, started)
    }

    /// Calls what registers by a way; null where that was refused, as C has it.
    pub(super) fn register_raw(&self, address: u64, bytes: usize, route: Route<'_>, access: c_int) -> Result<*mut ibv_mr, CallError> {
        let context = &self.0.context.0;
        let lacks = |object: String| CallError { call: route.call().to_owned(), object, errno: ErrorNumber(Errno::EOPNOTSUPP as i32) };
        // SAFETY: the domain lives, files are open, and the kernel checks addresses and ranges. Offset and address are aligned alike, which
        // ibv_reg_dmabuf_mr(3) asks for.
        Ok(unsafe {
            match route {
                Route::Address => {
                    (context.verbs.ibv_reg_mr)(self.0.raw, std::ptr::without_provenance_mut::<c_void>(address as usize), bytes, access)
                }
                Route::DmaBuf(file, offset) => {
                    let register = context.verbs.ibv_reg_dmabuf_mr;
                    let register = register.ok_or_else(|| lacks("a libibverbs before v34, which has no such call".to_owned()))?;
                    register(self.0.raw, offset, bytes, address, file.as_raw_fd(), access)
                }
                Route::DataDirect(file, offset) => {
                    let register = match context.verbs.mlx5dv_reg_dmabuf_mr {
                        Some(register) => register,
                        None => direct::register().map_err(lacks)?,
                    };
                    register(self.0.raw, offset, bytes, address, file.as_raw_fd(), access, direct::DATA_DIRECT)
                }
            }
        })
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
