//! What a modelled host answers in place of the GPUs' driver.

use super::{GpuMemory, Registration};
use crate::catalog::DeviceModel;
use crate::gpu::{AllocKind, CudaFacts, GpuError, GpuFacts, GpuId, LIBCUDA, LIBNVIDIA_ML, NvmlFacts};
use crate::sim::HostModel;
use crate::sim::host::{Gpu, Nic};
use crate::verbs::{CallError, ErrorNumber};

/// Why nothing can be moved from or to a modelled GPU.
pub(super) const NO_MEMORY: &str = "a model's GPUs have no memory; `--gpus local` takes this machine's";

/// What NVML says of the host.
pub(super) fn nvml(model: &HostModel) -> NvmlFacts {
    let missing = || NvmlFacts { error: Some(GpuError::LibraryMissing { library: LIBNVIDIA_ML.to_owned() }), ..NvmlFacts::default() };
    model.gpus().map_or_else(missing, |gpus| gpus.nvml)
}

/// What NVML says of one GPU.
pub(super) fn nvml_gpu(model: &HostModel, id: &GpuId) -> GpuFacts {
    let all = model.gpus().map(|gpus| gpus.gpus).unwrap_or_default();
    let found = match id {
        GpuId::Index(index) => all.into_iter().nth(usize::try_from(*index).unwrap_or(usize::MAX)),
        GpuId::Pci(pci) => all.into_iter().find(|gpu| gpu.pci == *pci),
    };
    let unknown = || {
        let error = GpuError::named("nvmlDeviceGetHandleByPciBusId_v2", &id.to_string(), "NVML_ERROR_NOT_FOUND");
        GpuFacts { pci: id.to_string(), error: Some(error), ..GpuFacts::default() }
    };
    // What CUDA says is another question.
    found.map_or_else(unknown, |gpu| GpuFacts { cuda: None, ..gpu })
}

/// What CUDA says of the GPUs that it shows.
pub(super) fn cuda(model: &HostModel) -> CudaFacts {
    let missing = || CudaFacts { error: Some(GpuError::LibraryMissing { library: LIBCUDA.to_owned() }), ..CudaFacts::default() };
    model.gpus().map_or_else(missing, |gpus| gpus.cuda)
}

/// What trying memory of a GPU would give: alone, or with a device.
pub(super) fn gpu_memory(model: &HostModel, address: &str, form: AllocKind, device: Option<&str>) -> GpuMemory {
    let tried = GpuMemory { gpu: address.to_owned(), form, device: device.map(str::to_owned), bytes: 2 << 20, ..GpuMemory::default() };
    let is_shown = cuda(model).gpus.iter().any(|gpu| gpu.pci == address);
    let Some(gpu) = model.gpus.iter().find(|gpu| gpu.pci == address).filter(|_| is_shown) else {
        let error = GpuError::named("cuDeviceGetByPCIBusId", address, "CUDA_ERROR_INVALID_DEVICE");
        return GpuMemory { allocation_error: Some(error), ..tried };
    };
    let tried = GpuMemory { export_error: export_error(model, gpu, form), ..tried };
    match device.map(|name| model.nics.iter().find(|nic| nic.name == name).ok_or(name)) {
        None => tried,
        Some(Ok(nic)) => registered(model, gpu, nic, tried),
        Some(Err(name)) => GpuMemory { device_error: Some(super::OpenError::Unknown(name.to_owned()).to_string()), ..tried },
    }
}

/// Why there is no dma-buf of a GPU's memory. Which kinds have one is what a driver 580.159.04 answered (docs/gpu-validation.md).
fn export_error(model: &HostModel, gpu: &Gpu, form: AllocKind) -> Option<GpuError> {
    let name = match form {
        _ if !model.gives_dma_buf(gpu) => "CUDA_ERROR_NOT_SUPPORTED",
        AllocKind::Managed => "CUDA_ERROR_INVALID_VALUE",
        AllocKind::Plain | AllocKind::Vmm | AllocKind::VmmNoFlag | AllocKind::Async => return None,
    };
    Some(GpuError::named("cuMemGetHandleForAddressRange", &gpu.pci, name))
}

/// The same memory, tried with a NIC.
fn registered(model: &HostModel, gpu: &Gpu, nic: &Nic, alone: GpuMemory) -> GpuMemory {
    let takes_dma_buf = DeviceModel::find(&nic.model).is_some_and(|device| device.takes_dma_buf(&model.kernel));
    let registered = |is_granted: bool, call: &str, errno| Registration {
        elapsed_us: is_granted.then_some(0),
        error: (!is_granted).then(|| CallError { call: call.to_owned(), object: nic.name.clone(), errno: ErrorNumber(errno) }),
    };
    let has_client = model.modules.peer_memory_api && model.has_module("nvidia_peermem") && gpu.gpudirect_rdma;
    let by_dma_buf = alone.export_error.is_none().then(|| registered(takes_dma_buf, "ibv_reg_dmabuf_mr", libc::EOPNOTSUPP));
    let by_address = Some(registered(has_client && alone.form.is_for_peers(), "ibv_reg_mr", libc::EFAULT));
    GpuMemory { by_address, by_dma_buf, ..alone }
}
