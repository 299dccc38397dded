//! 11: what a crash leaves behind: GPUs that answer late or not at all, or that wait for a reset.

use super::Source::{Gpus, Limits, Modules, Objects, Pcie, Rdma};
use super::gpus::answers;
use super::health::{SLOW_READ_MS, within};
use super::{Action, Check, Facts, Finding, page};
use crate::gpu::{GpuError, GpuErrorKind, GpuFacts};
use crate::host::rdma_objects::{Holder, ObjectsFacts};

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-1118"), needs: &[Pcie, Modules, Gpus], depends_on: &["RD-1105", "RD-1106", "RD-1116"], run: no_reset_is_due },
    Check { page: page("RD-1119"), needs: &[Rdma, Limits, Objects], depends_on: &["RD-1107"], run: nothing_is_left },
];

pub(super) fn gpus_answer(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    let most_ms = facts.wanted.slow_read_ms.unwrap_or(SLOW_READ_MS);
    let most_us = most_ms.saturating_mul(1000);
    let reset = |pci: &str| command!("nvidia-smi --gpu-reset -i {}", pci);
    let judge = |gpu: &GpuFacts| match (&gpu.error, gpu.answered_in_us) {
        (Some(GpuError::NotAsked { why }), _) => Finding::skip(&gpu.pci, why),
        (Some(error), _) if matches!(error.kind(), GpuErrorKind::NoDevice | GpuErrorKind::NoPermission) && facts.is_container() => {
            Finding::skip(&gpu.pci, "it was not given to this container").saw("NVML", error.to_string())
        }
        (Some(error), _) => {
            let finding =
                Finding::fail(&gpu.pci, "the GPU driver gives no answer about it").saw_not("NVML", error.to_string(), "an answer");
            if error.kind() == GpuErrorKind::Lost {
                finding.remedy(Action::Reboot, "start the host anew with its power off", &["dmesg | grep -i nvrm"])
            } else {
                finding.remedy(
                    Action::Reset,
                    "reset it when nothing uses it, or start the host anew",
                    &[&reset(&gpu.pci), "dmesg | grep -i nvrm"],
                )
            }
        }
        (None, Some(elapsed)) if elapsed > most_us && gpu.is_persistent == Some(false) => Finding::skip(
            &gpu.pci,
            format!("it took {} ms to answer: persistence mode is off, so the driver brings it up for each question", elapsed / 1000),
        )
        .remedy(Action::Tune, "keep it ready", &["systemctl start nvidia-persistenced", "nvidia-smi -pm 1"]),
        (None, Some(elapsed)) if elapsed > most_us => Finding::warn(&gpu.pci, format!("it took {} ms to answer", elapsed / 1000))
            .saw_not("NVML", format!("{} ms", elapsed / 1000), within(facts, most_ms))
            .remedy(Action::Reset, "look at the kernel's log for Xid lines", &["dmesg | grep NVRM"]),
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
    let reset = command!("nvidia-smi --gpu-reset -i {}", gpu.pci);
    if gpu.error.is_some() {
        return Finding::skip(&gpu.pci, "NVML says nothing about it");
    }
    if gpu.has_remapping_failed == Some(true) {
        return Finding::fail(&gpu.pci, "a row of its memory failed, and there was no spare one for it")
            .saw_not("nvmlDeviceGetRemappedRows", "a failure occurred", "none")
            .remedy(Action::Replace, "have it exchanged", &["nvidia-smi -q -d ROW_REMAPPER"]);
    }
    if let Some(action) = gpu.recovery_action.as_deref().filter(|action| *action != "none") {
        let finding = Finding::fail(&gpu.pci, format!("the driver wants it recovered: {}", action.replace('_', " "))).saw_not(
            "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION",
            action,
            "none",
        );
        return if action == "node_reboot" {
            finding.remedy(Action::Reboot, "start the host anew", &["systemctl reboot"])
        } else {
            finding.remedy(Action::Reset, "drain it and reset it", &[&reset])
        };
    }
    if gpu.is_retirement_pending == Some(true) {
        return Finding::warn(&gpu.pci, "memory of it is to be retired, which its next reset does")
            .saw_not("nvmlDeviceGetRemappedRows", "pending", "none pending")
            .remedy(Action::Reset, "reset it when nothing uses it", &[&reset]);
    }
    match gpu.uncorrected_errors {
        Some(0) => Finding::pass(&gpu.pci, "the driver wants nothing done, and its memory had no uncorrected error"),
        Some(errors) => Finding::warn(&gpu.pci, format!("its memory had {errors} uncorrected errors since the driver was loaded"))
            .saw_not("nvmlDeviceGetTotalEccErrors, volatile, uncorrected", errors.to_string(), "0")
            .remedy(Action::Reset, "reset it when nothing uses it, and look for Xid lines", &[&reset, "dmesg | grep Xid"]),
        None => Finding::pass(&gpu.pci, "the driver wants nothing done"),
    }
}

fn nothing_is_left(facts: &Facts) -> Vec<Finding> {
    let Some(objects) = &facts.objects else {
        return vec![Finding::skip("host", "the kernel was not asked who holds objects")];
    };
    let mut findings: Vec<Finding> =
        objects.holders.iter().filter(|holder| !holder.is_kernel).map(|holder| left_by(facts, objects, holder)).collect();
    if let Some(why) = &objects.error {
        findings.push(Finding::skip("host", format!("who holds objects is not known: {why}")));
    } else if findings.is_empty() {
        findings.push(Finding::pass("host", "no process holds queue pairs, memory regions or connections"));
    }
    findings
}

fn left_by(facts: &Facts, objects: &ObjectsFacts, holder: &Holder) -> Finding {
    let counted = [(holder.queue_pairs, "queue pairs"), (holder.memory_regions, "memory regions"), (holder.connections, "connections")];
    let held: Vec<String> = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let held = held.join(", ");
    let source = "rdma resource show";
    let Some(pid) = holder.pid else {
        // Processes of other PID namespaces look just so.
        let container = &facts.host.limits.container;
        if !container.in_first_process_namespace.unwrap_or(!container.is_container) {
            return Finding::skip(&holder.device, format!("{held} are held by a process that this PID namespace does not show"));
        }
        let node = facts.rdma_devices().iter().find(|device| device.name == holder.device).and_then(|device| device.uverbs.as_ref());
        let open = objects.open_by.iter().filter(|open| node.is_none_or(|uverbs| uverbs.node.path == open.node));
        let open: Vec<String> = open.map(|open| format!("{} ({})", open.name.as_deref().unwrap_or("a process"), open.pid)).collect();
        let finding = Finding::fail(&holder.device, format!("{held} are held, and the process that made them has ended")).saw_not(
            source,
            "no pid",
            "a process, or nothing held",
        );
        return if open.is_empty() {
            finding.remedy(
                Action::Reboot,
                "nothing that this user can see has the device open: look as root, or start the host anew",
                &["fuser -v /dev/infiniband/uverbs*"],
            )
        } else {
            finding.saw("processes that have the device open", open.join(", ")).remedy(
                Action::Tune,
                "end the process that still has the device open",
                &["fuser -v /dev/infiniband/uverbs*"],
            )
        };
    };
    let name = holder.name.as_deref().unwrap_or("a process");
    let who = format!("{name} ({pid})");
    let state = holder.state.as_deref();
    match state.and_then(|state| state.chars().next()) {
        Some('Z' | 'X') => Finding::fail(&holder.device, format!("{who} has ended, is not waited for, and holds {held}"))
            .saw_not(format!("/proc/{pid}/status"), state.unwrap_or_default(), "gone")
            .remedy(Action::Tune, "end its parent, which should have waited for it", &[&format!("ps -o ppid= -p {pid}")]),
        Some('D') => Finding::warn(&holder.device, format!("{who} waits in the kernel, and holds {held}"))
            .saw_not(format!("/proc/{pid}/status"), state.unwrap_or_default(), "running or sleeping")
            .remedy(
                Action::Reboot,
                "see what it waits for; if that lasts, only a new start of the host frees them",
                &[&format!("cat /proc/{pid}/wchan /proc/{pid}/stack")],
            ),
        Some('T' | 't') => Finding::warn(&holder.device, format!("{who} is stopped, and holds {held}"))
            .saw_not(format!("/proc/{pid}/status"), state.unwrap_or_default(), "running or sleeping")
            .remedy(Action::Tune, "let it go on or end it", &[&format!("kill -CONT {pid}"), &format!("kill {pid}")]),
        _ if holder.queue_pairs > 0 && holder.broken_queue_pairs == holder.queue_pairs => {
            Finding::warn(&holder.device, format!("{who} holds {held}, and all its queue pairs are in the error state"))
                .saw_not(source, "ERR or SQE", "RTS")
                .remedy(
                    Action::Reload,
                    "its peers are gone or its transfers failed: see its log, and start it anew",
                    &[&command!("rdma resource show qp dev {}", holder.device)],
                )
        }
        _ => Finding::pass(&holder.device, format!("{who} holds {held}")).saw(source, format!("{} bytes registered", holder.memory_bytes)),
    }
}
