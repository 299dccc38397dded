//! Memory registered for a device's access from both sides: pages of this process, or somebody else's.
#![allow(unsafe_code, reason = "maps memory and gives it to a device")]

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rdma_sys::*;

use super::regions::{ACCESS, RELAXED, Route};
use super::{CallError, ProtectionDomain};

/// Size of a huge page that is asked for.
const HUGE_PAGE: usize = 2 << 20;

/// Memory that a device may be given: it stays where it is as long as it lives.
///
/// # Safety
/// [`Memory::address`] names `length` bytes that devices may write at any time, and [`Memory::pages`], where it gives an address, the same
/// bytes for this processor.
pub unsafe trait Memory: Send + Sync {
    /// Its address, as work requests name it.
    fn address(&self) -> u64;
    /// Its length in bytes.
    fn length(&self) -> usize;
    /// Where this processor reads and writes it, if it can.
    fn pages(&self) -> Option<NonNull<c_void>>;
    /// Copies bytes out of it, from an offset on. What lies beyond the end, or cannot be had, stays as it was.
    fn read(&self, offset: usize, bytes: &mut [u8]);
    /// Copies bytes into it, from an offset on, as far as they fit.
    fn write(&self, offset: usize, bytes: &[u8]);
}

// SAFETY: as for the memory itself, which all who share it keep alive.
unsafe impl<T: Memory + ?Sized> Memory for Arc<T> {
    fn address(&self) -> u64 {
        (**self).address()
    }

    fn length(&self) -> usize {
        (**self).length()
    }

    fn pages(&self) -> Option<NonNull<c_void>> {
        (**self).pages()
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        (**self).read(offset, bytes);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        (**self).write(offset, bytes);
    }
}

/// Registered memory. Clones share it; it is given back after the registration is gone.
///
/// A device writes into it at any time, so no reference into it is ever given out: bytes are copied in and out.
#[derive(Clone)]
pub struct Region(Arc<Inner>);

struct Inner {
    pd: ProtectionDomain,
    raw: *mut ibv_mr,
    /// Null where this processor does not reach it.
    pages: *mut c_void,
    address: u64,
    length: usize,
    memory: ManuallyDrop<Box<dyn Memory>>,
}

// SAFETY: the pointers are addresses of memory and of an object of a library that locks; bytes are only copied volatilely.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: deregistered once, and the memory dropped once. Where deregistering fails the device may still write, so it stays.
        unsafe {
            if (self.pd.0.context.0.verbs.ibv_dereg_mr)(self.raw) == 0 {
                ManuallyDrop::drop(&mut self.memory);
            }
        }
    }
}

/// Pages of this process, unmapped when dropped.
struct Pages {
    at: NonNull<c_void>,
    length: usize,
}

// SAFETY: an address of a mapping, whose bytes are only copied.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn map(length: usize, flags: MapFlags, object: &str) -> Result<Self, CallError> {
        let failed = |errno: i32| CallError { call: "mmap".to_owned(), object: object.to_owned(), errno: super::ErrorNumber(errno) };
        let size = NonZeroUsize::new(length).ok_or_else(|| failed(libc::EINVAL))?;
        // SAFETY: a new private mapping, at an address that the kernel chooses.
        let at = unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE | flags) }
            .map_err(|errno| failed(errno as i32))?;
        Ok(Self { at, length })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody else knows of.
        let _ = unsafe { munmap(self.at, self.length) };
    }
}

// SAFETY: a mapping of that length, at that address.
unsafe impl Memory for Pages {
    fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }

    fn length(&self) -> usize {
        self.length
    }

    fn pages(&self) -> Option<NonNull<c_void>> {
        Some(self.at)
    }

    // What has pages is copied by the region itself.
    fn read(&self, _: usize, _: &mut [u8]) {}

    fn write(&self, _: usize, _: &[u8]) {}
}

impl ProtectionDomain {
    /// Maps zeroed pages and registers them for local writing and remote reading and writing.
    ///
    /// # Errors
    /// The pages cannot be had, or `ibv_reg_mr` failed: ENOMEM says that they cannot be locked (RLIMIT_MEMLOCK), see ibv_reg_mr(3).
    pub fn register_pages(&self, length: usize) -> Result<Region, CallError> {
        let object = format!("{}, {length} bytes", self.0.context.0.name);
        self.register_memory(Box::new(Pages::map(length, MapFlags::empty(), &object)?), Route::Address)
    }

    /// As [`Self::register_pages`], in huge pages of 2 MiB; the length is rounded up to them.
    ///
    /// # Errors
    /// As above; `mmap` answers ENOMEM where the host keeps no huge pages (vm.nr_hugepages).
    pub fn register_huge_pages(&self, length: usize) -> Result<Region, CallError> {
        let length = length.next_multiple_of(HUGE_PAGE);
        let object = format!("{length} bytes in huge pages of 2 MiB");
        self.register_memory(Box::new(Pages::map(length, MapFlags::MAP_HUGETLB | MapFlags::MAP_HUGE_2MB, &object)?), Route::Address)
    }

    /// As [`Self::register_pages`], and lets writes of the device overtake each other (IBV_ACCESS_RELAXED_ORDERING of ibv_reg_mr(3)).
    ///
    /// # Errors
    /// As above; EINVAL where the kernel knows no such flag.
    pub fn register_relaxed_pages(&self, length: usize) -> Result<Region, CallError> {
        let object = format!("{}, {length} bytes", self.0.context.0.name);
        self.register_with(Box::new(Pages::map(length, MapFlags::empty(), &object)?), Route::Address, ACCESS | RELAXED)
    }

    /// Registers memory for local writing and remote reading and writing, by one of the ways that there are.
    ///
    /// # Errors
    /// The call of that way failed.
    pub fn register_memory(&self, memory: Box<dyn Memory>, route: Route<'_>) -> Result<Region, CallError> {
        self.register_with(memory, route, ACCESS)
    }

    fn register_with(&self, memory: Box<dyn Memory>, route: Route<'_>, access: c_int) -> Result<Region, CallError> {
        let (address, length) = (memory.address(), memory.length());
        Errno::clear();
        let raw = self.register_raw(address, length, route, access)?;
        if raw.is_null() {
            let errno = super::ErrorNumber(Errno::last_raw());
            return Err(CallError { call: route.call().to_owned(), object: format!("{}, {length} bytes", self.0.context.0.name), errno });
        }
        let pages = memory.pages().map_or(std::ptr::null_mut(), NonNull::as_ptr);
        Ok(Region(Arc::new(Inner { pd: self.clone(), raw, pages, address, length, memory: ManuallyDrop::new(memory) })))
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
        self.0.address
    }

    /// Whether this processor reads and writes it directly.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        !self.0.pages.is_null()
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
        if self.0.pages.is_null() {
            return self.load_elsewhere(offset);
        }
        // SAFETY: within the memory; volatile, because a device may be writing it.
        unsafe { self.0.pages.cast::<u8>().add(offset).read_volatile() }
    }

    /// The number of eight bytes at an offset that is a multiple of eight, as it is in memory now, and before whatever is read after it; 0
    /// where this processor does not reach it.
    #[must_use]
    #[inline]
    pub fn load_word(&self, offset: usize) -> u64 {
        let at = self.0.pages.cast::<u8>().wrapping_add(offset).cast::<u64>();
        if self.0.pages.is_null() || offset + size_of::<u64>() > self.0.length || !at.is_aligned() {
            return 0;
        }
        // SAFETY: within the memory and aligned; atomic, because a device may be writing it.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }

    #[cold]
    fn load_elsewhere(&self, offset: usize) -> u8 {
        let mut byte = [0];
        self.0.memory.read(offset, &mut byte);
        byte[0]
    }

    /// Sets the byte at an offset; nothing happens beyond the end.
    #[inline]
    pub fn store(&self, offset: usize, value: u8) {
        if offset < self.0.length {
            if self.0.pages.is_null() {
                self.0.memory.write(offset, &[value]);
                return;
            }
            // SAFETY: within the memory.
            unsafe { self.0.pages.cast::<u8>().add(offset).write_volatile(value) }
        }
    }

    /// Copies bytes out of it, from an offset on; what lies beyond the end stays as it was.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        if self.0.pages.is_null() {
            self.0.memory.read(offset, bytes);
            return;
        }
        for (index, byte) in bytes.iter_mut().enumerate().take(self.0.length.saturating_sub(offset)) {
            *byte = self.load(offset + index);
        }
    }

    /// Copies bytes into it, from an offset on, as far as they fit.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if self.0.pages.is_null() {
            self.0.memory.write(offset, bytes);
            return;
        }
        for (index, byte) in bytes.iter().enumerate() {
            self.store(offset + index, *byte);
        }
    }
}
