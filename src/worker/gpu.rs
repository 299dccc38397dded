//! Questions to the GPUs' driver, one at a time, so that a library that hangs on one GPU still tells of the others.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::child::State;
use super::question::{Notes, Question};
use super::{OpenError, modelled};
use crate::gpu::{self, Context, Copies, CudaFacts, GpuError, GpuFacts, GpuId, Nvml, NvmlFacts};

/// What NVML says of the host.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadNvml;

impl Question for ReadNvml {
    type Answer = NvmlFacts;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<NvmlFacts, OpenError> {
        if let Some(model) = state.target.model() {
            return Ok(modelled::nvml(model));
        }
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

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<GpuFacts, OpenError> {
        if let Some(model) = state.target.model() {
            return Ok(modelled::nvml_gpu(model, &self.0));
        }
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

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<CudaFacts, OpenError> {
        Ok(state.target.model().map_or_else(gpu::read_cuda, modelled::cuda))
    }
}

/// The GPUs from and to whose memory data can be moved.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadUsableGpus;

impl Question for ReadUsableGpus {
    type Answer = CudaFacts;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<CudaFacts, OpenError> {
        if state.target.has_local_gpus() {
            return Ok(gpu::read_cuda());
        }
        Ok(CudaFacts { error: Some(GpuError::NotAsked { why: modelled::NO_MEMORY.to_owned() }), ..CudaFacts::default() })
    }
}

/// How fast the GPU of this address copies from and to locked host memory; of a model nobody knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct MeasureCopies(pub String);

impl Question for MeasureCopies {
    type Answer = Result<Option<Copies>, GpuError>;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<Self::Answer, OpenError> {
        if state.target.model().is_some() {
            return Ok(Ok(None));
        }
        Ok(state.gpus.context(&self.0).and_then(gpu::measure_copies).map(Some))
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
