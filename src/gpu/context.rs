//! A GPU's primary context, opened by any of the GPU's names.
#![allow(unsafe_code, reason = "calls a C interface and owns what it returns")]

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUflushGPUDirectRDMAWritesScope, CUflushGPUDirectRDMAWritesTarget, CUuuid};

use super::cuda::{address, attributes, checked, load};
use super::{CudaAttributes, GpuError, GpuName, LIBCUDA};

/// A GPU's primary context. Clones share it; it is released when the last of them is dropped.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    device: CUdevice,
    raw: CUcontext,
    ordinal: u32,
    pci: String,
    uuid: String,
}

// SAFETY: a context may be current on any number of threads (CUDA driver API, cuCtxSetCurrent), and the handle is only passed on.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: retained once and released once; whatever was allocated in it holds it.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

impl Context {
    /// Opens the context of the GPU at a PCI address.
    ///
    /// # Errors
    /// CUDA cannot be used, does not show the GPU, or has no room for a context.
    pub fn open(pci: &str) -> Result<Self, GpuError> {
        Self::open_named(&GpuName::Pci(pci.to_owned()))
    }

    /// Opens the context of a GPU.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_named(name: &GpuName) -> Result<Self, GpuError> {
        load()?;
        let object = name.to_string();
        // SAFETY: its only flag is 0.
        checked("cuInit", "host", unsafe { sys::cuInit(0) })?;
        let (device, ordinal) = find(name, &object)?;
        let (pci, uuid) = (address(device, &object)?, uuid(device, &object)?);
        let mut raw: CUcontext = std::ptr::null_mut();
        // SAFETY: the handle outlives the call. The context is owned from the moment it is retained.
        checked("cuDevicePrimaryCtxRetain", &object, unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut raw, device) })?;
        let context = Self(Arc::new(Inner { device, raw, ordinal, pci, uuid }));
        context.enter()?;
        Ok(context)
    }

    /// Makes it current on this thread.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        // SAFETY: the context is retained.
        checked("cuCtxSetCurrent", self.pci(), unsafe { sys::cuCtxSetCurrent(self.0.raw) })
    }

    pub(super) fn device(&self) -> CUdevice {
        self.0.device
    }

    /// The GPU's PCI address.
    #[must_use]
    pub fn pci(&self) -> &str {
        &self.0.pci
    }

    /// Its UUID.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.0.uuid
    }

    /// Its number among those that CUDA shows.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.0.ordinal
    }

    /// Waits for what the default stream has been asked for. A copy from ordinary host memory may be under way when its call returns (CUDA
    /// driver API, "API synchronization behavior"), and a NIC or another stream does not wait for it.
    pub(super) fn settle(&self) -> Result<(), GpuError> {
        self.enter()?;
        // SAFETY: the null stream needs no handle.
        checked("cuStreamSynchronize", self.pci(), unsafe { sys::cuStreamSynchronize(std::ptr::null_mut()) })
    }

    /// Waits until what other devices wrote into this GPU's memory is seen by the GPU.
    ///
    /// # Errors
    /// The driver has no such call (before CUDA 11.3), or the GPU has no such thing: `CudaAttributes::flush_by_host` says so before.
    pub fn flush_writes(&self) -> Result<(), GpuError> {
        let call = "cuFlushGPUDirectRDMAWrites";
        need(call)?;
        self.enter()?;
        // SAFETY: takes numbers only; the context is current.
        let code = unsafe {
            sys::cuFlushGPUDirectRDMAWrites(
                CUflushGPUDirectRDMAWritesTarget::CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX,
                CUflushGPUDirectRDMAWritesScope::CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER,
            )
        };
        checked(call, self.pci(), code)?;
        super::reach::arrive();
        Ok(())
    }

    /// What CUDA says of this GPU.
    #[must_use]
    pub fn attributes(&self) -> CudaAttributes {
        attributes(self.0.device)
    }

    /// How much of its memory is free.
    ///
    /// # Errors
    /// `cuMemGetInfo` failed.
    pub fn free_bytes(&self) -> Result<u64, GpuError> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: numbers that outlive the call.
        checked("cuMemGetInfo_v2", self.pci(), unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }
}

/// Whether this driver's library has an entry point: the crate that calls them panics where one is missing.
pub(super) fn need(symbol: &str) -> Result<(), GpuError> {
    // SAFETY: the library is loaded, and only whether it has the entry point is looked at.
    let has_it = unsafe { sys::culib().get::<*const ()>(symbol.as_bytes()).is_ok() };
    if has_it { Ok(()) } else { Err(GpuError::SymbolMissing { library: LIBCUDA.to_owned(), symbol: symbol.to_owned() }) }
}

/// The device of that name, and its number.
fn find(name: &GpuName, object: &str) -> Result<(CUdevice, u32), GpuError> {
    let mut count = 0;
    // SAFETY: a number that outlives the call.
    checked("cuDeviceGetCount", "host", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    let at = |ordinal: i32| {
        let mut device: CUdevice = 0;
        // SAFETY: as above.
        checked("cuDeviceGet", object, unsafe { sys::cuDeviceGet(&raw mut device, ordinal) }).map(|()| device)
    };
    match name {
        GpuName::Ordinal(ordinal) => Ok((at(i32::try_from(*ordinal).unwrap_or(i32::MAX))?, *ordinal)),
        GpuName::Pci(pci) => {
            let mut device: CUdevice = 0;
            let text = CString::new(pci.as_str()).unwrap_or_default();
            // SAFETY: the string outlives the call.
            checked("cuDeviceGetByPCIBusId", object, unsafe { sys::cuDeviceGetByPCIBusId(&raw mut device, text.as_ptr()) })?;
            let same = |ordinal: &i32| at(*ordinal).is_ok_and(|other| other == device);
            Ok((device, (0..count).find(same).map_or(0, i32::unsigned_abs)))
        }
        GpuName::Uuid(wanted) => {
            let mut found = Vec::new();
            for ordinal in 0..count {
                let device = at(ordinal)?;
                if uuid(device, object)?.starts_with(wanted) {
                    found.push((device, ordinal.unsigned_abs()));
                }
            }
            match found[..] {
                [one] => Ok(one),
                [] => Err(GpuError::named("cuDeviceGetUuid_v2", object, "CUDA_ERROR_INVALID_DEVICE")),
                _ => Err(GpuError::NotAsked { why: format!("{object} is the beginning of {} GPUs' UUIDs; write more of it", found.len()) }),
            }
        }
    }
}

/// As nvidia-smi writes it.
fn uuid(device: CUdevice, object: &str) -> Result<String, GpuError> {
    need("cuDeviceGetUuid_v2")?;
    let mut raw = CUuuid { bytes: [0; 16] };
    // SAFETY: the structure outlives the call.
    checked("cuDeviceGetUuid_v2", object, unsafe { sys::cuDeviceGetUuid_v2(&raw mut raw, device) })?;
    let mut text = String::from("GPU-");
    for (index, byte) in raw.bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{:02x}", *byte as u8);
    }
    Ok(text)
}
