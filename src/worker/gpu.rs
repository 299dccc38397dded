//! Questions to the GPUs' driver, one at a time, so that a library that hangs on one GPU still tells of the others.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::protocol::{Reply, Request};
use super::{Failure, Worker};
use crate::gpu::{self, Context, Copies, CudaFacts, GpuError, GpuFacts, GpuId, Nvml, NvmlFacts};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GpuRequest {
    /// Load NVML and ask it of the host.
    Nvml,
    /// Ask NVML of one GPU.
    NvmlGpu(GpuId),
    /// Load CUDA and ask it of all GPUs.
    Cuda,
    /// Measure copies from and to a GPU.
    Copies(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GpuReply {
    Nvml(NvmlFacts),
    NvmlGpu(Box<GpuFacts>),
    Cuda(CudaFacts),
    Copies(Result<Copies, GpuError>),
}

/// What the child keeps between questions.
#[derive(Default)]
pub(super) struct Gpus {
    nvml: Option<Nvml>,
    context: Option<Context>,
}

impl Gpus {
    pub(super) fn answer(&mut self, request: &GpuRequest) -> GpuReply {
        match request {
            GpuRequest::Nvml => {
                let started = Instant::now();
                GpuReply::Nvml(Nvml::host(self.nvml(), started))
            }
            GpuRequest::NvmlGpu(id) => GpuReply::NvmlGpu(Box::new(match self.nvml() {
                Ok(nvml) => nvml.gpu(id),
                Err(error) => GpuFacts { pci: id.to_string(), error: Some(error), ..GpuFacts::default() },
            })),
            GpuRequest::Cuda => GpuReply::Cuda(gpu::read_cuda()),
            GpuRequest::Copies(pci) => GpuReply::Copies(self.context(pci).and_then(gpu::measure_copies)),
        }
    }

    /// The context of a GPU; that of another one is released first.
    pub(super) fn context(&mut self, pci: &str) -> Result<&Context, GpuError> {
        let open = match self.context.take().filter(|context| context.pci() == pci) {
            Some(context) => context,
            None => Context::open(pci)?,
        };
        Ok(self.context.insert(open))
    }

    fn nvml(&mut self) -> Result<&Nvml, GpuError> {
        let loaded = match self.nvml.take() {
            Some(nvml) => nvml,
            None => Nvml::load()?,
        };
        Ok(self.nvml.insert(loaded))
    }
}

impl Worker {
    /// What NVML says of the host.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn nvml(&mut self) -> Result<NvmlFacts, Failure> {
        match self.ask_gpus(GpuRequest::Nvml)? {
            GpuReply::Nvml(facts) => Ok(facts),
            _ => Err(super::parent::unexpected()),
        }
    }

    /// What NVML says of one GPU.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn nvml_gpu(&mut self, id: &GpuId) -> Result<GpuFacts, Failure> {
        match self.ask_gpus(GpuRequest::NvmlGpu(id.clone()))? {
            GpuReply::NvmlGpu(facts) => Ok(*facts),
            _ => Err(super::parent::unexpected()),
        }
    }

    /// What CUDA says of the GPUs that it shows.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn cuda(&mut self) -> Result<CudaFacts, Failure> {
        match self.ask_gpus(GpuRequest::Cuda)? {
            GpuReply::Cuda(facts) => Ok(facts),
            _ => Err(super::parent::unexpected()),
        }
    }

    /// How fast a GPU copies from and to locked host memory.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn copies(&mut self, gpu: &str) -> Result<Result<Copies, GpuError>, Failure> {
        match self.ask_gpus(GpuRequest::Copies(gpu.to_owned()))? {
            GpuReply::Copies(copies) => Ok(copies),
            _ => Err(super::parent::unexpected()),
        }
    }

    fn ask_gpus(&mut self, request: GpuRequest) -> Result<GpuReply, Failure> {
        self.send(&Request::Gpu(request))?;
        match self.receive(false)? {
            Reply::Gpu(reply) => Ok(reply),
            _ => Err(super::parent::unexpected()),
        }
    }
}
