//! Memory that is tried: registered with a device, exported from a GPU.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::child::State;
use super::gpu::Gpus;
use super::question::{Notes, Question};
use super::{OpenDevice, OpenError, modelled};
use crate::gpu::{AllocKind, Buffer, Path};
use crate::host::rdma_objects::ObjectsFacts;
use crate::host::{self, Root};
use crate::request::Contents;
use crate::request::GpuMemory;
use crate::request::Registration;
use crate::sim::HostModel;
use crate::transfer::{self, PathTried, Refusal};

/// How much of a GPU's memory is tried: the size of its large pages.
const GPU_BYTES: usize = 2 << 20;

/// Registers that much host memory with a device, and gives it back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Register {
    pub device: String,
    /// How much.
    pub bytes: u64,
}

impl Question for Register {
    type Answer = Registration;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<Registration, OpenError> {
        // A size that no address space holds is refused like any other that is too large.
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        Ok(state.device(&self.device)?.domain().try_host_memory(bytes).into())
    }
}

/// Allocates memory of a GPU, exports it, registers it with a device where one is named, and gives it back.
#[derive(Debug, Serialize, Deserialize)]
pub struct TryGpuMemory {
    /// The GPU's address.
    pub gpu: String,
    /// How the memory is allocated.
    pub form: AllocKind,
    pub device: Option<String>,
}

impl Question for TryGpuMemory {
    type Answer = GpuMemory;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<GpuMemory, OpenError> {
        if let Some(model) = state.target.model() {
            return Ok(modelled::gpu_memory(model, &self.gpu, self.form, self.device.as_deref()));
        }
        // Taken out, since the device is held at the same time.
        let mut gpus = std::mem::take(&mut state.gpus);
        let device = self.device.as_deref().map(|name| state.device(name));
        let tried = try_gpu(&mut gpus, (&self.gpu, self.form), device, self.device.as_deref());
        state.gpus = gpus;
        Ok(tried)
    }
}

/// Who holds objects of the host's RDMA devices.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadObjects;

impl Question for ReadObjects {
    type Answer = ObjectsFacts;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<ObjectsFacts, OpenError> {
        Ok(state.target.model().map_or_else(|| host::rdma_objects::read(&Root::default()), HostModel::objects))
    }
}

/// Tries memory of a GPU.
fn try_gpu(
    gpus: &mut Gpus,
    (gpu, form): (&str, AllocKind),
    device: Option<Result<&mut OpenDevice, OpenError>>,
    name: Option<&str>,
) -> GpuMemory {
    let bytes = GPU_BYTES as u64;
    let mut tried = GpuMemory { gpu: gpu.to_owned(), form, device: name.map(str::to_owned), bytes, ..GpuMemory::default() };
    let started = Instant::now();
    let buffer = match gpus.context(gpu).and_then(|context| context.allocate_as(form, GPU_BYTES)) {
        Ok(buffer) => buffer,
        Err(error) => {
            tried.allocation_error = Some(error);
            return tried;
        }
    };
    tried.allocated_in_us = u64::try_from(started.elapsed().as_micros()).ok();
    match device {
        None => {
            tried.contents = Some(contents(&buffer));
            tried.export_error = buffer.export().err();
        }
        Some(Err(error)) => tried.device_error = Some(error.to_string()),
        Some(Ok(bench)) => {
            tried.paths = transfer::try_paths(bench.domain(), &buffer);
            let by = |path: Path| tried.paths.iter().find(|tried| tried.path == path);
            let registration = |tried: &PathTried| match &tried.refusal {
                None => Some(Registration { elapsed_us: tried.elapsed_us, error: None }),
                Some(Refusal::Verbs { error }) => Some(Registration { elapsed_us: None, error: Some(error.clone()) }),
                Some(_) => None,
            };
            (tried.by_address, tried.by_dma_buf) = (by(Path::Peermem).and_then(registration), by(Path::Dmabuf).and_then(registration));
            tried.export_error = by(Path::Dmabuf).and_then(|tried| match &tried.refusal {
                Some(Refusal::Gpu { error }) => Some(error.clone()),
                _ => None,
            });
        }
    }
    tried
}

/// Sets all bytes on the GPU, writes a pattern over the middle, and reads everything back.
fn contents(buffer: &Buffer) -> Contents {
    const SET: u8 = 0x5a;
    let quarter = buffer.length() / 4;
    let pattern: Vec<u8> = (0..2 * quarter).map(|index| (index % 251) as u8).collect();
    let mut found = vec![0; buffer.length()];
    let read = buffer.set(SET).and_then(|()| buffer.write(quarter, &pattern)).and_then(|()| buffer.read(0, &mut found));
    if let Err(error) = read {
        return Contents::Failed { error };
    }
    let expected = |index: usize| if (quarter..3 * quarter).contains(&index) { pattern[index - quarter] } else { SET };
    match found.iter().enumerate().filter(|(index, byte)| expected(*index) != **byte).count() {
        0 => Contents::Right,
        wrong => Contents::Wrong { wrong_bytes: wrong as u64 },
    }
}
