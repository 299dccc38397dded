//! GPU memory of each kind: allocated, filled, read, exported as a dma-buf, freed.
#![allow(unsafe_code, reason = "calls a C interface and owns what it returns")]

use std::ffi::c_void;
use std::ptr::NonNull;

use cudarc::driver::sys::{
    self, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationGranularity_flags, CUmemAllocationHandleType,
    CUmemAllocationProp, CUmemAllocationType, CUmemAttach_flags, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
};

use super::context::need;
use super::cuda::checked;
use super::{AllocKind, Context, GpuError, reach};
use crate::verbs::Memory;

/// Allocations are a multiple of it: the size of a GPU's large pages, so that each begins on a page of its own.
const LARGE_PAGE: usize = 2 << 20;

/// As much managed memory is allocated at most, whatever is free: more than is free can hang a GPU.
const MOST_MANAGED: usize = 64 << 20;

/// Memory of a GPU, freed when dropped.
pub struct Buffer {
    context: Context,
    address: CUdeviceptr,
    /// What was asked.
    bytes: usize,
    allocated: usize,
    form: AllocKind,
    handle: CUmemGenericAllocationHandle,
}

impl Context {
    /// Allocates memory as cudaMalloc does.
    ///
    /// # Errors
    /// `cuMemAlloc` failed: CUDA_ERROR_OUT_OF_MEMORY where others have it all.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer, GpuError> {
        self.allocate_as(AllocKind::Plain, bytes)
    }

    /// Allocates memory of a kind.
    ///
    /// # Errors
    /// The driver has no such kind, or there is no room.
    pub fn allocate_as(&self, form: AllocKind, bytes: usize) -> Result<Buffer, GpuError> {
        self.enter()?;
        let pci = self.pci();
        let mut allocated = bytes.max(1).next_multiple_of(LARGE_PAGE);
        let (mut address, mut handle): (CUdeviceptr, CUmemGenericAllocationHandle) = (0, 0);
        // SAFETY: numbers outlive their calls, and the context is current.
        unsafe {
            match form {
                AllocKind::Plain => checked("cuMemAlloc_v2", pci, sys::cuMemAlloc_v2(&raw mut address, allocated))?,
                AllocKind::Async => {
                    need("cuMemAllocAsync")?;
                    checked("cuMemAllocAsync", pci, sys::cuMemAllocAsync(&raw mut address, allocated, std::ptr::null_mut()))?;
                    self.settle()?;
                }
                AllocKind::Managed => {
                    let most = usize::try_from(self.free_bytes()? / 2).unwrap_or(0).min(MOST_MANAGED);
                    if allocated > most {
                        let why =
                            format!("{allocated} bytes of managed memory are not asked for: {most} at most here, half of what is free");
                        return Err(GpuError::NotAsked { why });
                    }
                    let global = CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL as u32;
                    checked("cuMemAllocManaged", pci, sys::cuMemAllocManaged(&raw mut address, allocated, global))?;
                }
                AllocKind::Vmm | AllocKind::VmmNoFlag => {
                    (address, handle) = self.map(form == AllocKind::Vmm, &mut allocated)?;
                }
            }
        }
        reach::add(address, allocated, self, form.is_for_peers());
        Ok(Buffer { context: self.clone(), address, bytes, allocated, form, handle })
    }

    /// Virtual memory management: a physical allocation, an address, both mapped together, access.
    fn map(&self, with_flag: bool, bytes: &mut usize) -> Result<(CUdeviceptr, CUmemGenericAllocationHandle), GpuError> {
        need("cuMemCreate")?;
        let pci = self.pci();
        // SAFETY: a plain structure, in which zero stands for no choice.
        let mut wanted: CUmemAllocationProp = unsafe { std::mem::zeroed() };
        let location = CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: self.device() };
        wanted.type_ = CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        wanted.requestedHandleTypes = CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE;
        wanted.location = location;
        wanted.allocFlags.gpuDirectRDMACapable = with_flag.into();
        let access = CUmemAccessDesc { location, flags: CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
        let (mut granularity, mut address, mut handle) = (0, 0, 0);
        // SAFETY: structures and numbers outlive their calls; what was made before a failure is given back in turn.
        unsafe {
            let least = CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
            let code = sys::cuMemGetAllocationGranularity(&raw mut granularity, &raw const wanted, least);
            checked("cuMemGetAllocationGranularity", pci, code)?;
            *bytes = bytes.next_multiple_of(granularity.max(1));
            checked("cuMemCreate", pci, sys::cuMemCreate(&raw mut handle, *bytes, &raw const wanted, 0))?;
            let mapped = (|| {
                checked("cuMemAddressReserve", pci, sys::cuMemAddressReserve(&raw mut address, *bytes, 0, 0, 0))?;
                let placed = checked("cuMemMap", pci, sys::cuMemMap(address, *bytes, 0, handle, 0)).and_then(|()| {
                    checked("cuMemSetAccess", pci, sys::cuMemSetAccess(address, *bytes, &raw const access, 1)).inspect_err(|_| {
                        sys::cuMemUnmap(address, *bytes);
                    })
                });
                placed.inspect_err(|_| {
                    sys::cuMemAddressFree(address, *bytes);
                })
            })();
            if let Err(error) = mapped {
                sys::cuMemRelease(handle);
                return Err(error);
            }
        }
        Ok((address, handle))
    }
}

impl Buffer {
    /// The GPU that has it.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Its address, in CUDA's own address space.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes
    }

    /// All that was allocated for it, from [`Self::address`] on.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Sets all bytes, on the GPU.
    ///
    /// # Errors
    /// `cuMemsetD8` failed.
    pub fn set(&self, value: u8) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: within the allocation.
        let code = unsafe { sys::cuMemsetD8_v2(self.address, value, self.bytes) };
        checked("cuMemsetD8_v2", self.context.pci(), code)?;
        self.context.settle()
    }

    /// Copies bytes into it; what does not fit is left out.
    ///
    /// # Errors
    /// `cuMemcpyHtoD` failed.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        let bytes = &bytes[..bytes.len().min(self.bytes.saturating_sub(offset))];
        self.context.enter()?;
        // SAFETY: both within what they are of.
        let code = unsafe { sys::cuMemcpyHtoD_v2(self.address + offset as u64, bytes.as_ptr().cast(), bytes.len()) };
        checked("cuMemcpyHtoD_v2", self.context.pci(), code)?;
        self.context.settle()
    }

    /// Copies bytes out of it; what lies beyond its end is left as it is.
    ///
    /// # Errors
    /// `cuMemcpyDtoH` failed.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        let length = bytes.len().min(self.bytes.saturating_sub(offset));
        self.context.enter()?;
        // SAFETY: both within what they are of.
        let code = unsafe { sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.address + offset as u64, length) };
        checked("cuMemcpyDtoH_v2", self.context.pci(), code)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        reach::remove(self.address);
        if self.context.enter().is_err() {
            return;
        }
        // SAFETY: allocated in the context that is current now, and freed once. cuMemFree takes memory of pools too.
        unsafe {
            match self.form {
                AllocKind::Plain | AllocKind::Async | AllocKind::Managed => {
                    sys::cuMemFree_v2(self.address);
                }
                AllocKind::Vmm | AllocKind::VmmNoFlag => {
                    sys::cuMemUnmap(self.address, self.allocated);
                    sys::cuMemRelease(self.handle);
                    sys::cuMemAddressFree(self.address, self.allocated);
                }
            }
        }
    }
}

// SAFETY: an allocation of that length at that address, which devices write as the driver permits. This processor has no pages of it.
unsafe impl Memory for Buffer {
    fn address(&self) -> u64 {
        self.address
    }

    fn length(&self) -> usize {
        self.bytes
    }

    fn pages(&self) -> Option<NonNull<c_void>> {
        None
    }

    // What cannot be copied shows as wrong contents.
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        let _ = Buffer::read(self, offset, bytes);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let _ = Buffer::write(self, offset, bytes);
    }
}
