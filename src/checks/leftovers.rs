//! 11: what a crash leaves behind: GPUs that answer late or not at all, or that wait for a reset.

use super::gpus::answers;
use super::{Action, Category, Check, Facts, Finding, Level};
use crate::gpu::{GpuError, GpuErrorKind, GpuFacts};

/// Half of the time that a quick look may take.
const SLOW_ANSWER_US: u64 = 1_000_000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "RD-1116",
        title: "GPUs answer",
        category: Category::Health,
        level: Level::Standard,
        why: "A GPU that NVML cannot query, or that answers late, is what a crash leaves behind.",
        confirm: "time nvidia-smi",
        mend: "Reset the GPU, or start the host anew.",
        sources: &["the incident: nvidia-smi hung after the crash", "NVML API reference, nvmlDeviceGetHandleByPciBusId"],
        depends_on: &["RD-0701", "RD-0715", "RD-1105", "RD-1106"],
        run: gpus_answer,
    },
    Check {
        id: "RD-1117",
        title: "no GPU waits for a reset",
        category: Category::Health,
        level: Level::Standard,
        why: "After some errors the driver wants a GPU reset or the host started anew before it is used again. Memory rows that failed are retired only then, \
              and a row without a spare one means that the card has to go.",
        confirm: "nvidia-smi -q | grep -A4 -E 'Recovery Action|Remapped Rows'",
        mend: "Drain the GPU and reset it; have it exchanged where remapping failed.",
        sources: &["NVML API reference, nvmlDeviceGpuRecoveryAction_t and nvmlDeviceGetRemappedRows", "NVIDIA GPU memory error management"],
        depends_on: &["RD-1105", "RD-1106", "RD-1116"],
        run: no_reset_is_due,
    },
];

fn gpus_answer(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    let reset = |pci: &str| format!("nvidia-smi --gpu-reset -i {pci}");
    let judge = |gpu: &GpuFacts| match (&gpu.error, gpu.answered_in_us) {
        (Some(GpuError::NotAsked { why }), _) => Finding::skip(&gpu.pci, why),
        (Some(error), _) if matches!(error.kind(), GpuErrorKind::NoDevice | GpuErrorKind::NoPermission) && facts.is_container() => {
            Finding::skip(&gpu.pci, "it was not given to this container").saw("NVML", error.to_string())
        }
        (Some(error), _) => Finding::fail(&gpu.pci, "the GPU driver gives no answer about it")
            .saw_not("NVML", error.to_string(), "an answer")
            .mend(Action::Reset, "reset it when nothing uses it, or start the host anew", &[&reset(&gpu.pci), "dmesg | grep -i nvrm"]),
        (None, Some(elapsed)) if elapsed > SLOW_ANSWER_US && gpu.is_persistent == Some(false) => Finding::skip(
            &gpu.pci,
            format!("it took {} ms to answer: persistence mode is off, so the driver brings it up for each question", elapsed / 1000),
        )
        .mend(Action::Tune, "keep it ready", &["systemctl start nvidia-persistenced", "nvidia-smi -pm 1"]),
        (None, Some(elapsed)) if elapsed > SLOW_ANSWER_US => Finding::warn(&gpu.pci, format!("it took {} ms to answer", elapsed / 1000))
            .saw_not("NVML", format!("{} ms", elapsed / 1000), format!("below {} ms", SLOW_ANSWER_US / 1000))
            .mend(Action::Reset, "look at the kernel's log for Xid lines", &["dmesg | grep NVRM"]),
        (None, elapsed) => Finding::pass(&gpu.pci, format!("it answers in {} ms", elapsed.unwrap_or(0) / 1000)),
    };
    gpus.gpus.iter().map(judge).collect()
}

fn no_reset_is_due(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    gpus.gpus.iter().map(reset_of).collect()
}

fn reset_of(gpu: &GpuFacts) -> Finding {
    let reset = format!("nvidia-smi --gpu-reset -i {}", gpu.pci);
    if gpu.error.is_some() {
        return Finding::skip(&gpu.pci, "NVML says nothing about it");
    }
    if gpu.has_remapping_failed == Some(true) {
        return Finding::fail(&gpu.pci, "a row of its memory failed, and there was no spare one for it")
            .saw_not("nvmlDeviceGetRemappedRows", "a failure occurred", "none")
            .mend(Action::Replace, "have it exchanged", &["nvidia-smi -q -d ROW_REMAPPER"]);
    }
    if let Some(action) = gpu.recovery_action.as_deref().filter(|action| *action != "none") {
        let finding = Finding::fail(&gpu.pci, format!("the driver wants it recovered: {}", action.replace('_', " "))).saw_not(
            "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION",
            action,
            "none",
        );
        return if action == "node_reboot" {
            finding.mend(Action::Reboot, "start the host anew", &["systemctl reboot"])
        } else {
            finding.mend(Action::Reset, "drain it and reset it", &[&reset])
        };
    }
    if gpu.is_retirement_pending == Some(true) {
        return Finding::warn(&gpu.pci, "memory of it is to be retired, which its next reset does")
            .saw_not("nvmlDeviceGetRemappedRows", "pending", "none pending")
            .mend(Action::Reset, "reset it when nothing uses it", &[&reset]);
    }
    match gpu.uncorrected_errors {
        Some(0) => Finding::pass(&gpu.pci, "the driver wants nothing done, and its memory had no uncorrected error"),
        Some(errors) => Finding::warn(&gpu.pci, format!("its memory had {errors} uncorrected errors since the driver was loaded"))
            .saw_not("nvmlDeviceGetTotalEccErrors, volatile, uncorrected", errors.to_string(), "0")
            .mend(Action::Reset, "reset it when nothing uses it, and look for Xid lines", &[&reset, "dmesg | grep Xid"]),
        None => Finding::pass(&gpu.pci, "the driver wants nothing done"),
    }
}
