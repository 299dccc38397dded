//! Questions to the GPUs' driver, one at a time, so that a library that hangs on one GPU still tells of the others.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::OpenDevice;
use super::child::State;
use super::question::{Notes, Question};
use crate::gpu::{self, Context, Copies, CudaFacts, GpuError, GpuFacts, GpuId, Nvml, NvmlFacts};

/// What NVML says of the host.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadNvml;

impl Question for ReadNvml {
    type Answer = NvmlFacts;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<NvmlFacts, OpenDevice> {
        let started = Instant::now();
        Ok(Nvml::host(state.gpus.nvml(), started))
    }
}

/// What NVML says of one GPU.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadNvmlGpu(pub GpuId);

impl Question for ReadNvmlGpu {
    type Answer = GpuFacts;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<GpuFacts, OpenDevice> {
        Ok(match state.gpus.nvml() {
            Ok(nvml) => nvml.gpu(&self.0),
            Err(error) => GpuFacts { pci: self.0.to_string(), error: Some(error), ..GpuFacts::default() },
        })
    }
}

/// What CUDA says of the GPUs that it shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadCuda;

impl Question for ReadCuda {
    type Answer = CudaFacts;
    type Note = ();

    fn answer(self, _: &mut State, _: &mut Notes<'_, ()>) -> Result<CudaFacts, OpenDevice> {
        Ok(gpu::read_cuda())
    }
}

/// How fast the GPU of this address copies from and to locked host memory.
#[derive(Debug, Serialize, Deserialize)]
pub struct MeasureCopies(pub String);

impl Question for MeasureCopies {
    type Answer = Result<Copies, GpuError>;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<Self::Answer, OpenDevice> {
        Ok(state.gpus.context(&self.0).and_then(gpu::measure_copies))
    }
}

/// What the child keeps between questions.
#[derive(Default)]
pub(super) struct Gpus {
    nvml: Option<Nvml>,
    context: Option<Context>,
}

impl Gpus {
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
