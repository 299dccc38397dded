//! 05: what the limits come to when host memory is registered.

use nix::errno::Errno;

use super::Source;
use super::limits::{bound, unlimited};
use super::{Action, Check, Facts, Finding, page};
use crate::facts::HostMemory;
use crate::units::about_size;

pub(super) const CHECKS: &[Check] = &[Check {
    page: page("RD-0509"),
    needs: &[Source::Rdma, Source::Limits, Source::Verbs, Source::HostMemory],
    depends_on: &["RD-0501", "RD-0505", "RD-0506", "RD-0306", "RD-1110", "RD-1111"],
    run: host_memory,
}];

fn host_memory(facts: &Facts) -> Vec<Finding> {
    match &facts.memory {
        None => vec![Finding::skip("host", "no memory was registered")],
        Some(memory) if memory.host.is_empty() && !facts.rdma_devices().is_empty() => {
            vec![Finding::skip("host", "no device could be opened, so no memory was registered")]
        }
        Some(memory) => memory.host.iter().map(|tried| judge(facts, tried)).collect(),
    }
}

fn judge(facts: &Facts, tried: &HostMemory) -> Finding {
    let device = &tried.device;
    let granted = tried.largest_bytes.map_or_else(|| "nothing".to_owned(), about_size);
    if let Some(refused) = &tried.refused {
        let finding =
            Finding::fail(device, format!("{granted} of host memory can be registered in one piece, {} cannot", about_size(refused.bytes)))
                .saw_not(
                    "ibv_reg_mr",
                    format!("{} of {}", refused.error, about_size(refused.bytes)),
                    format!("{}, as was tried", about_size(tried.most_bytes)),
                );
        let published = facts.verbs_device(device).and_then(|verbs| Some(verbs.attributes.as_ref()?.max_mr_size_bytes));
        return match (Errno::from_raw(refused.error.errno.0), bound(&facts.host.limits.own)) {
            (Errno::ENOMEM | Errno::EPERM, Some(limit)) if refused.bytes > limit / 2 => finding
                .saw("/proc/self/limits, Max locked memory", about_size(limit))
                .remedy(Action::Tune, "lift the limit on locked memory of what starts the engine", &[&unlimited(facts)]),
            (Errno::EPERM, _) => {
                finding.remedy(Action::Tune, "give the process CAP_IPC_LOCK or a limit on locked memory above 0", &["ulimit -l unlimited"])
            }
            _ if published.is_some_and(|most| refused.bytes > most) => finding
                .saw("ibv_query_device, max_mr_size", about_size(published.unwrap_or(0)))
                .remedy(Action::Tune, "make the engine register smaller pieces", &[]),
            (Errno::ENOMEM, _) => finding.remedy(
                Action::Tune,
                "free memory, or what other processes hold of the device",
                &["rdma resource show", "free -m", "dmesg | tail"],
            ),
            _ => finding.remedy(Action::None, "the driver's own words in the kernel's log say more", &["dmesg | tail"]),
        };
    }
    if let Some(failure) = &tried.failure {
        return Finding::fail(device, "the verbs library did not come back from a registration")
            .saw_not("ibv_reg_mr", failure, "granted or refused")
            .remedy(Action::Replace, "upgrade the provider and the firmware; the kernel's log may say more", &["dmesg | tail"]);
    }
    match (&tried.stopped, tried.largest_bytes) {
        (Some(why), None) => Finding::skip(device, format!("no registration was seen through: {why}")),
        (Some(why), Some(_)) => {
            Finding::pass(device, format!("{granted} of host memory can be registered in one piece; no more was tried: {why}"))
        }
        (None, _) => Finding::pass(device, format!("{granted} of host memory can be registered in one piece"))
            .saw("ibv_reg_mr", format!("{} ms", tried.largest_us.unwrap_or(0) / 1000)),
    }
}
