//! Memory that is tried: registered with a device, exported from a GPU.

use std::os::fd::AsFd;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gpu::Gpus;
use super::protocol::{Reply, Request};
use super::{Bench, Failure, OpenDevice, Worker};
use crate::gpu::GpuError;
use crate::host::rdma_objects::ObjectsFacts;
use crate::verbs::CallError;

/// How much of a GPU's memory is tried: the size of its large pages.
const GPU_BYTES: usize = 2 << 20;

/// A registration that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registration {
    /// How long it took; absent where it was refused.
    pub elapsed_us: Option<u64>,
    /// The refusal.
    pub error: Option<CallError>,
}

impl From<Result<Duration, CallError>> for Registration {
    fn from(tried: Result<Duration, CallError>) -> Self {
        match tried {
            Ok(elapsed) => Self { elapsed_us: Some(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)), error: None },
            Err(error) => Self { elapsed_us: None, error: Some(error) },
        }
    }
}

/// GPU memory that was tried, alone or with a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuMemory {
    /// The GPU's address.
    pub gpu: String,
    /// The RDMA device; absent where only the export was tried.
    pub device: Option<String>,
    /// How much memory.
    pub bytes: u64,
    /// Why there was no memory to try.
    pub allocation_error: Option<GpuError>,
    /// Why there was no dma-buf of it.
    pub export_error: Option<GpuError>,
    /// Why the device could not be opened.
    pub device_error: Option<String>,
    /// By its address (ibv_reg_mr), which takes a peer-memory client.
    pub by_address: Option<Registration>,
    /// By its dma-buf (ibv_reg_dmabuf_mr).
    pub by_dma_buf: Option<Registration>,
}

impl Worker {
    /// Registers that much host memory with a device, and gives it back.
    ///
    /// # Errors
    /// The child gave no answer, or could not open the device.
    pub fn register(&mut self, device: &str, bytes: u64) -> Result<Registration, Failure> {
        let provider = self.provider().clone();
        self.send(&Request::Register { provider, device: device.to_owned(), bytes })?;
        match self.receive(false)? {
            Reply::Registered(registration) => Ok(registration),
            Reply::CannotStart(error) => Err(Failure::CannotStart(error)),
            _ => Err(super::parent::unexpected()),
        }
    }

    /// Allocates memory of a GPU, exports it, registers it with a device where one is named, and gives it back.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn gpu_memory(&mut self, gpu: &str, device: Option<&str>) -> Result<GpuMemory, Failure> {
        let provider = self.provider().clone();
        self.send(&Request::GpuMemory { provider, gpu: gpu.to_owned(), device: device.map(str::to_owned) })?;
        match self.receive(false)? {
            Reply::GpuMemory(tried) => Ok(*tried),
            _ => Err(super::parent::unexpected()),
        }
    }
}

impl Worker {
    /// Who holds objects of this host's RDMA devices.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn objects(&mut self) -> Result<ObjectsFacts, Failure> {
        self.send(&Request::Objects)?;
        match self.receive(false)? {
            Reply::Objects(facts) => Ok(facts),
            _ => Err(super::parent::unexpected()),
        }
    }
}

/// Tries memory of a GPU, in the child.
pub(super) fn try_gpu(gpus: &mut Gpus, gpu: &str, device: Option<Result<&mut Bench, OpenDevice>>, name: Option<&str>) -> GpuMemory {
    let mut tried = GpuMemory { gpu: gpu.to_owned(), device: name.map(str::to_owned), bytes: GPU_BYTES as u64, ..GpuMemory::default() };
    let buffer = match gpus.context(gpu).and_then(|context| context.allocate(GPU_BYTES)) {
        Ok(buffer) => buffer,
        Err(error) => {
            tried.allocation_error = Some(error);
            return tried;
        }
    };
    let exported = buffer.export();
    let domain = match device {
        None => None,
        Some(Ok(bench)) => Some(bench.domain()),
        Some(Err(error)) => {
            tried.device_error = Some(error.to_string());
            None
        }
    };
    if let Some(domain) = domain {
        tried.by_address = Some(domain.try_address(buffer.address(), GPU_BYTES).into());
        tried.by_dma_buf = exported.as_ref().ok().map(|file| domain.try_dma_buf(file.as_fd(), GPU_BYTES).into());
    }
    tried.export_error = exported.err();
    tried
}
