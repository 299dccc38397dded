//! GPU memory that was tried: exported, and registered with each NIC.

use super::answers;
use super::causes::{Cause, RefusedMemory, causes};
use super::ways::{dma_buf_matters, make_a_way};
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::gpu::{GpuError, GpuErrorKind, Path};
use crate::transfer::Refusal;
use crate::verbs::CallError;
use crate::worker::{GpuMemory, Registration};

fn tried(facts: &Facts) -> Result<&[GpuMemory], Vec<Finding>> {
    answers(facts)?;
    match &facts.memory {
        Some(memory) => Ok(&memory.gpu),
        None => Err(vec![Finding::skip("host", "no GPU memory was tried")]),
    }
}

fn is_out_of_memory(error: &GpuError) -> bool {
    matches!(error, GpuError::Refused { name, .. } if name == "CUDA_ERROR_OUT_OF_MEMORY")
}

pub(super) fn export(facts: &Facts) -> Vec<Finding> {
    let tried = match tried(facts) {
        Ok(tried) => tried,
        Err(skipped) => return skipped,
    };
    let judge = |memory: &GpuMemory| {
        let gpu = &memory.gpu;
        match (&memory.allocation_error, &memory.export_error) {
            (Some(error), _) if error.kind() == GpuErrorKind::NotAsked => Finding::skip(gpu, error.to_string()),
            // Engines that run take all of a GPU's memory, which is no fault of its own.
            (Some(error), _) => Finding::graded(!is_out_of_memory(error), gpu, "no memory of it can be allocated")
                .saw_not("CUDA", error.to_string(), "2 MiB")
                .remedy(Action::Tune, "end what holds its memory, or look at the kernel's log", &["nvidia-smi", "dmesg | grep -i nvrm"]),
            (None, None) => Finding::pass(gpu, "a dma-buf of its memory was made").saw("cuMemGetHandleForAddressRange", "a descriptor"),
            // Where peer memory works nobody needs the other way.
            (None, Some(error)) => match dma_buf_matters(facts) {
                Some(_) => Finding::skip(gpu, "no dma-buf of its memory can be made, and none is needed").saw("CUDA", error.to_string()),
                None => {
                    Finding::fail(gpu, "no dma-buf of its memory can be made").saw_not("CUDA", error.to_string(), "a descriptor").remedy(
                        Action::Replace,
                        "install the open kernel modules of a current driver, or make peer memory work",
                        &["cat /proc/driver/nvidia/version"],
                    )
                }
            },
        }
    };
    tried.iter().filter(|memory| memory.device.is_none()).map(judge).collect()
}

/// What a refusal means, the surest first.
fn cause(facts: &Facts, memory: &GpuMemory, path: Path, error: &CallError) -> Option<Cause> {
    let refusal = Refusal::Verbs { error: error.clone() };
    let device = memory.device.as_deref();
    let refused = RefusedMemory { form: memory.form, path, refusal: &refusal, gpu: &memory.gpu, device, bytes: memory.bytes };
    causes(facts, &refused).into_iter().next()
}

pub(super) fn registration(facts: &Facts) -> Vec<Finding> {
    let tried = match tried(facts) {
        Ok(tried) => tried,
        Err(skipped) => return skipped,
    };
    if facts.rdma_devices().is_empty() {
        return vec![Finding::skip("host", "there is no RDMA device that could register GPU memory")];
    }
    tried.iter().filter_map(|memory| Some(judge_pair(facts, memory, memory.device.as_deref()?))).collect()
}

fn judge_pair(facts: &Facts, memory: &GpuMemory, device: &str) -> Finding {
    let subject = format!("{}/{device}", memory.gpu);
    if let Some(why) = memory.allocation_error.as_ref().map(ToString::to_string).or_else(|| memory.device_error.clone()) {
        return Finding::skip(subject, format!("it could not be tried: {why}"));
    }
    let said = |registration: &Registration, path| match &registration.error {
        None => format!("granted in {} us", registration.elapsed_us.unwrap_or(0)),
        Some(error) => {
            let cause = cause(facts, memory, path, error).map(|cause| format!(": {}", cause.summary)).unwrap_or_default();
            format!("{error}{cause}")
        }
    };
    let by_address = memory.by_address.as_ref().map(|registration| said(registration, Path::Peermem));
    let by_dma_buf = match (&memory.by_dma_buf, &memory.export_error) {
        (Some(registration), _) => Some(said(registration, Path::Dmabuf)),
        (None, Some(error)) => Some(format!("not tried: {error}")),
        (None, None) => None,
    };
    let is_granted = |registration: &Option<Registration>| registration.as_ref().is_some_and(|registration| registration.error.is_none());
    let finding = match (is_granted(&memory.by_address), is_granted(&memory.by_dma_buf)) {
        (true, true) => Finding::pass(subject, "its memory is registered by peer memory and as a dma-buf"),
        (true, false) => Finding::pass(subject, "its memory is registered by peer memory, not as a dma-buf"),
        (false, true) => Finding::pass(subject, "its memory is registered as a dma-buf, not by peer memory"),
        (false, false) => make_a_way(facts, Finding::fail(subject, "its memory can be registered with this NIC in no way")),
    };
    let ways = [("ibv_reg_mr of the GPU's address", by_address), ("ibv_reg_dmabuf_mr", by_dma_buf)];
    let shown = ways.into_iter().filter_map(|(call, said)| Some((call, said?)));
    shown.fold(finding, |finding, (call, said)| finding.saw(call, said))
}
