//! Asks the GPUs' driver through the child process, GPU by GPU, so that one that hangs does not hide the others.

use std::time::{Duration, Instant};

use crate::gpu::{CudaFacts, GpuError, GpuFacts, GpuId, GpusFacts, LIBCUDA, LIBNVIDIA_ML, NvmlFacts};
use crate::worker::{Failure, ReadCuda, ReadNvml, ReadNvmlGpu, Worker};

/// Longest wait for one answer: bringing a GPU up takes its driver a second or two.
const ANSWER: Duration = Duration::from_secs(8);

/// Shortest wait: less tells nothing of a library that is being loaded on a busy host.
const LEAST: Duration = Duration::from_millis(500);

/// Asks NVML of each GPU at an address of `addresses`, of all that it knows where there are none, then CUDA. After `deadline` nothing more
/// is asked or waited for.
#[must_use]
pub fn collect(worker: &mut Worker, addresses: &[String], deadline: Instant) -> GpusFacts {
    // A part is kept for CUDA, which an NVML that hangs must not take.
    let wait = |worker: &mut Worker, share: u32| {
        worker.wait_at_most((deadline.saturating_duration_since(Instant::now()) / share).clamp(LEAST, ANSWER));
    };
    wait(worker, 2);
    let nvml =
        worker.ask(ReadNvml).unwrap_or_else(|failure| NvmlFacts { error: Some(error_of(LIBNVIDIA_ML, failure)), ..NvmlFacts::default() });
    let ids: Vec<GpuId> = match addresses {
        [] => (0..nvml.gpu_count.unwrap_or(0)).map(GpuId::Index).collect(),
        addresses => addresses.iter().cloned().map(GpuId::Pci).collect(),
    };
    let late = || GpuError::NotAsked { why: "the time for asking GPUs was used up".to_owned() };
    let mut facts = GpusFacts { nvml, ..GpusFacts::default() };
    for id in ids {
        let is_late = Instant::now() >= deadline || worker.interrupted();
        let answer = match &facts.nvml.error {
            Some(_) => Err(GpuError::NotAsked { why: "NVML cannot be used".to_owned() }),
            None if is_late => Err(late()),
            None => {
                wait(worker, 2);
                worker.ask(ReadNvmlGpu(id.clone())).map_err(|failure| error_of(LIBNVIDIA_ML, failure))
            }
        };
        facts.gpus.push(answer.unwrap_or_else(|error| GpuFacts { pci: id.to_string(), error: Some(error), ..GpuFacts::default() }));
    }
    let cuda = if Instant::now() >= deadline || worker.interrupted() {
        CudaFacts { error: Some(late()), ..CudaFacts::default() }
    } else {
        wait(worker, 1);
        worker.ask(ReadCuda).unwrap_or_else(|failure| CudaFacts { error: Some(error_of(LIBCUDA, failure)), ..CudaFacts::default() })
    };
    facts.join(cuda);
    facts
}

/// Why a library gave no answer, by what became of the child.
pub(super) fn error_of(library: &str, failure: Failure) -> GpuError {
    let library = library.to_owned();
    match failure {
        Failure::Crashed { signal, .. } => GpuError::Crashed { library, signal },
        Failure::Hung { deadline_ms, held_in } => GpuError::Hung { library, deadline_ms, held_in },
        other => GpuError::NotAsked { why: other.to_string() },
    }
}
