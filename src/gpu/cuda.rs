//! The CUDA driver library: what only it knows of a GPU. No context is made here.
#![allow(unsafe_code, reason = "calls a C interface")]

use std::ffi::{CStr, c_char, c_int};
use std::time::Instant;

use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute, CUresult};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::facts::plain_address;
use super::{CudaAttributes, CudaFacts, CudaGpu, GpuError, WritesOrdering};

/// The library's name as drivers install it.
pub const LIBCUDA: &str = "libcuda.so.1";

/// Loads the library, initialises it, and asks each GPU that it shows.
#[must_use]
pub fn read() -> CudaFacts {
    let visible_devices = std::env::var_os("CUDA_VISIBLE_DEVICES").map(|value| value.to_string_lossy().into_owned());
    let mut facts = CudaFacts { visible_devices, ..CudaFacts::default() };
    facts.error = fill(&mut facts).err();
    facts
}

/// Whether the library can be loaded: the crate that calls it panics where it cannot.
pub(super) fn load() -> Result<(), GpuError> {
    // SAFETY: initialisers of the driver's library run; only the sacrificial child process does this. The library stays loaded, as
    // the one that cudarc loads does.
    match unsafe { Library::open(Some(LIBCUDA), RTLD_NOW | RTLD_LOCAL) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(libloading::Error::DlOpen { source, .. }) => Err(GpuError::not_loaded(LIBCUDA, source.to_string())),
        Err(error) => Err(GpuError::not_loaded(LIBCUDA, error.to_string())),
    }
}

fn fill(facts: &mut CudaFacts) -> Result<(), GpuError> {
    load()?;
    let mut version = 0;
    // SAFETY: a number that outlives the call; this one works before cuInit.
    if checked("cuDriverGetVersion", "host", unsafe { sys::cuDriverGetVersion(&raw mut version) }).is_ok() {
        // 12040 is 12.4.
        facts.driver_version = Some(format!("{}.{}", version / 1000, version % 1000 / 10));
    }
    let started = Instant::now();
    // SAFETY: its only flag is 0.
    let initialised = checked("cuInit", "host", unsafe { sys::cuInit(0) });
    facts.answered_in_us = Some(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    initialised?;
    let mut count = 0;
    // SAFETY: a number that outlives the call.
    checked("cuDeviceGetCount", "host", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    for ordinal in 0..count {
        let mut device: CUdevice = 0;
        let object = format!("GPU {ordinal}");
        // SAFETY: as above; the ordinal is below the count.
        checked("cuDeviceGet", &object, unsafe { sys::cuDeviceGet(&raw mut device, ordinal) })?;
        let pci = address(device, &object)?;
        facts.gpus.push(CudaGpu { ordinal: ordinal.unsigned_abs(), pci, attributes: attributes(device) });
    }
    Ok(())
}

pub(super) fn address(device: CUdevice, object: &str) -> Result<String, GpuError> {
    let mut text: [c_char; 32] = [0; 32];
    // SAFETY: the buffer's length is told, and what is written ends with a zero.
    let code = unsafe { sys::cuDeviceGetPCIBusId(text.as_mut_ptr(), text.len() as c_int - 1, device) };
    checked("cuDeviceGetPCIBusId", object, code)?;
    // SAFETY: the last byte is still zero, whatever was written before it.
    Ok(plain_address(&unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy()))
}

pub(super) fn attributes(device: CUdevice) -> CudaAttributes {
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS,
        CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
        CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING,
    };
    let number = |attribute: CUdevice_attribute| {
        let mut value = 0;
        // SAFETY: a number that outlives the call. A driver that does not know the attribute answers CUDA_ERROR_INVALID_VALUE.
        let code = unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, device) };
        (code == CUresult::CUDA_SUCCESS).then_some(value)
    };
    let is_set = |attribute| number(attribute).map(|value| value != 0);
    let flush = number(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS);
    CudaAttributes {
        gpu_direct_rdma_supported: is_set(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED),
        flush_by_host: flush.map(|bits| bits & 1 != 0),
        flush_by_stream: flush.map(|bits| bits & 2 != 0),
        writes_ordering: number(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING).map(|value| match value {
            ..100 => WritesOrdering::None,
            100..200 => WritesOrdering::Owner,
            200.. => WritesOrdering::AllDevices,
        }),
        with_vmm_supported: is_set(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED),
        dma_buf_supported: is_set(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED),
    }
}

/// Turns a result into an error with its name.
pub(super) fn checked(call: &str, object: &str, code: CUresult) -> Result<(), GpuError> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        refused => {
            Err(GpuError::Refused { call: call.to_owned(), object: object.to_owned(), name: format!("{refused:?}"), code: refused as u32 })
        }
    }
}
