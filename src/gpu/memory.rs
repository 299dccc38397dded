//! GPU memory that is allocated to be tried: exported as a dma-buf, registered, freed.
#![allow(unsafe_code, reason = "calls a C interface and owns what it returns")]

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdeviceptr, CUmemRangeHandleType};

use super::cuda::{checked, load};
use super::{GpuError, LIBCUDA};

/// A GPU's primary context, current on the thread that opened it. It is released when dropped.
pub struct Context {
    device: CUdevice,
    /// The GPU's address.
    pci: String,
}

impl Context {
    /// Opens the context of the GPU at an address.
    ///
    /// # Errors
    /// CUDA cannot be used, does not show the GPU, or has no room for a context.
    pub fn open(pci: &str) -> Result<Self, GpuError> {
        load()?;
        let mut device: CUdevice = 0;
        let mut raw: CUcontext = std::ptr::null_mut();
        let address = CString::new(pci).unwrap_or_default();
        // SAFETY: strings and numbers outlive their calls. The context is owned from the moment it is retained.
        unsafe {
            checked("cuInit", "host", sys::cuInit(0))?;
            checked("cuDeviceGetByPCIBusId", pci, sys::cuDeviceGetByPCIBusId(&raw mut device, address.as_ptr()))?;
            checked("cuDevicePrimaryCtxRetain", pci, sys::cuDevicePrimaryCtxRetain(&raw mut raw, device))?;
            let context = Self { device, pci: pci.to_owned() };
            checked("cuCtxSetCurrent", pci, sys::cuCtxSetCurrent(raw))?;
            Ok(context)
        }
    }

    /// The GPU's address.
    #[must_use]
    pub fn pci(&self) -> &str {
        &self.pci
    }

    /// Allocates memory as cudaMalloc does.
    ///
    /// # Errors
    /// `cuMemAlloc` failed: CUDA_ERROR_OUT_OF_MEMORY where others have it all.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer<'_>, GpuError> {
        let mut address: CUdeviceptr = 0;
        // SAFETY: the context is current, and the number outlives the call.
        checked("cuMemAlloc_v2", &self.pci, unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes) })?;
        Ok(Buffer { context: self, address, bytes })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once and released once; buffers of it borrow it and are gone.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// Memory of a GPU, freed when dropped.
pub struct Buffer<'a> {
    context: &'a Context,
    address: CUdeviceptr,
    bytes: usize,
}

impl Buffer<'_> {
    /// Its address, in CUDA's own address space.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// A dma-buf of all of it.
    ///
    /// # Errors
    /// `cuMemGetHandleForAddressRange` is not there (before CUDA 11.7) or refused.
    pub fn export(&self) -> Result<DmaBuf, GpuError> {
        let call = "cuMemGetHandleForAddressRange";
        // SAFETY: the library is loaded, and only whether it has the entry point is looked at.
        let has_it = unsafe { sys::culib().get::<*const ()>(call.as_bytes()).is_ok() };
        if !has_it {
            return Err(GpuError::SymbolMissing { library: LIBCUDA.to_owned(), symbol: call.to_owned() });
        }
        let mut file = -1;
        let kind = CUmemRangeHandleType::CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD;
        // SAFETY: for this kind of handle an int is written; the range is the whole allocation.
        let code = unsafe { sys::cuMemGetHandleForAddressRange((&raw mut file).cast(), self.address, self.bytes, kind, 0) };
        checked(call, &self.context.pci, code)?;
        // SAFETY: a new descriptor, which nobody else closes.
        Ok(DmaBuf(unsafe { OwnedFd::from_raw_fd(file) }))
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: allocated in the context that is still current, and freed once.
        unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// A descriptor of GPU memory.
pub struct DmaBuf(OwnedFd);

impl AsFd for DmaBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
