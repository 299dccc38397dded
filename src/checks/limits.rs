//! 05: limits and permissions.

use super::Source::{Limits, Rdma, System};
use super::{Action, Check, Facts, Finding, page};
use crate::host::limits::process::ProcessFacts;
use crate::host::limits::{Capabilities, LimitValue};
use crate::units::about_size;

/// RLIMIT_MEMLOCK where nobody has raised it: 8 MiB since Linux 5.16, 64 KiB before (include/uapi/linux/resource.h, MLOCK_LIMIT).
const KERNELS_OWN_BYTES: u64 = 8 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-0501"), needs: &[Limits, System], depends_on: &["RD-0505", "RD-0902"], run: own_memlock },
    Check { page: page("RD-0502"), needs: &[Limits, System], depends_on: &["RD-0503"], run: asked_memlock },
    Check { page: page("RD-0503"), needs: &[Limits], depends_on: &[], run: service_memlock },
    Check { page: page("RD-0504"), needs: &[Limits], depends_on: &[], run: login_memlock },
    Check { page: page("RD-0505"), needs: &[Limits], depends_on: &[], run: inert_capability },
    Check { page: page("RD-0506"), needs: &[Limits], depends_on: &[], run: group_limits },
    Check { page: page("RD-0507"), needs: &[Rdma, Limits], depends_on: &[], run: allowed_nodes },
    Check { page: page("RD-0508"), needs: &[Limits], depends_on: &["RD-0502"], run: near_the_limit },
];

fn limit_shown(limit: LimitValue) -> String {
    limit.value().map_or_else(|| "unlimited".to_owned(), about_size)
}

/// The bound on locked memory that counts. `None` where there is none or it is not known.
pub(super) fn bound(process: &ProcessFacts) -> Option<u64> {
    if process.has_ipc_lock() != Some(false) { None } else { process.memlock()?.soft.value() }
}

fn memlock(facts: &Facts, process: &ProcessFacts, subject: &str) -> Finding {
    let source = format!("{}/limits", process.source);
    let Some(limit) = process.memlock() else {
        return Finding::skip(subject, format!("{source} cannot be read"));
    };
    if process.has_ipc_lock() == Some(true) {
        return Finding::pass(subject, "CAP_IPC_LOCK is in force, which lifts the limit").saw(source, limit_shown(limit.soft));
    }
    let Some(soft) = limit.soft.value() else {
        return Finding::pass(subject, "locked memory is not limited").saw(source, "unlimited");
    };
    if process.has_ipc_lock().is_none() {
        return Finding::skip(subject, "whether CAP_IPC_LOCK is in force cannot be seen, so the limit may not count");
    }
    let total = facts.host.system.memory.total_bytes;
    let finding = match (facts.wanted.memlock_bytes, total) {
        (Some(least), _) if soft >= least => {
            return Finding::pass(subject, "as much memory may be locked as the policy requires").saw(source, about_size(soft));
        }
        (Some(least), _) => Finding::fail(subject, format!("only {} of memory may be locked", about_size(soft))).saw_not(
            source,
            about_size(soft),
            about_size(least),
        ),
        (None, _) if soft <= KERNELS_OWN_BYTES => Finding::fail(subject, format!("only {} of memory may be locked", about_size(soft)))
            .saw_not(source, about_size(soft), "unlimited"),
        (None, Some(total)) if soft < total => Finding::warn(
            subject,
            format!("{} of {} memory may be locked", about_size(soft), about_size(total)),
        )
        .saw_not(source, about_size(soft), "unlimited"),
        (None, _) => return Finding::pass(subject, format!("{} may be locked", about_size(soft))).saw(source, about_size(soft)),
    };
    finding.saw_not(format!("{}/status, CapEff", process.source), "without CAP_IPC_LOCK", "CAP_IPC_LOCK, or no limit")
}

/// What lifts the limit where the next process starts. pam_limits applies `*` to all users but root.
pub(super) fn unlimited(facts: &Facts) -> String {
    if facts.is_container() {
        return "docker run --ulimit memlock=-1 …".to_owned();
    }
    let who = if facts.host.limits.own.effective_uid == Some(0) { "root" } else { "*" };
    format!("printf '{who} soft memlock unlimited\\n{who} hard memlock unlimited\\n' > /etc/security/limits.d/rdma.conf")
}

/// The commands that lift a unit's limit: a drop-in counts above the unit's own file.
fn lift_for(unit: &str) -> [String; 2] {
    let directory = format!("/etc/systemd/system/{unit}.d");
    let file = format!("{directory}/memlock.conf");
    let write = command!("mkdir -p {} && printf '[Service]\\nLimitMEMLOCK=infinity\\n' > {}", directory, file);
    [write, command!("systemctl daemon-reload && systemctl restart {}", unit)]
}

fn own_memlock(facts: &Facts) -> Vec<Finding> {
    let process = &facts.host.limits.own;
    let finding = memlock(facts, process, "host");
    if !finding.status.is_bad() {
        return vec![finding];
    }
    let can_raise = process.memlock().is_some_and(|limit| limit.hard == LimitValue::Unlimited);
    vec![if can_raise {
        finding.remedy(Action::Tune, "raise it in the shell that starts the engine", &["ulimit -l unlimited"])
    } else {
        finding.remedy(
            Action::Tune,
            if facts.is_container() {
                "start the container without the limit"
            } else {
                "lift it for logins, and log in anew; for a service set LimitMEMLOCK=infinity in its unit"
            },
            &[&unlimited(facts)],
        )
    }]
}

fn asked_memlock(facts: &Facts) -> Vec<Finding> {
    let limits = &facts.host.limits;
    let Some(process) = &limits.process else {
        return vec![Finding::skip("host", "no process was asked about; --pid N asks for one")];
    };
    if !process.exists {
        let finding = Finding::error(&process.source, "there is no such process");
        return vec![finding.remedy(Action::None, "ask about a process that runs", &["pgrep -a python"])];
    }
    let finding = memlock(facts, process, &process.source);
    if !finding.status.is_bad() {
        return vec![finding];
    }
    let pid = process.source.rsplit('/').next().unwrap_or_default().to_owned();
    let unit = limits.process_cgroup.as_ref().and_then(|group| group.unit.clone());
    let mut finding = finding;
    if let Some(unit) = &unit {
        finding = finding.saw(format!("{}/cgroup", process.source), unit).about(unit);
    }
    let now = command!("prlimit --pid {} --memlock=unlimited", pid);
    vec![match unit {
        Some(unit) => {
            let [write, restart] = lift_for(&unit);
            let summary = "raise it for the running process, and in its unit for the next start";
            finding.remedy(Action::Reload, summary, &[&now, &write, &restart])
        }
        None => finding.remedy(Action::Tune, "raise it for the running process", &[&now]),
    }]
}

fn service_memlock(facts: &Facts) -> Vec<Finding> {
    let services = &facts.host.limits.services;
    let judge = |unit: &crate::host::limits::service::UnitFacts| {
        let name = &unit.name;
        let set = unit.limit("LimitMEMLOCK").or_else(|| services.defaults.iter().find(|limit| limit.directive == "LimitMEMLOCK"));
        let Some(limit) = set else {
            return Finding::skip(name, format!("no file sets LimitMEMLOCK for {name}, so systemd's own default holds"));
        };
        let place = format!("{}:{}", limit.file, limit.line);
        match limit.soft.value() {
            None => Finding::pass(name, format!("{name} does not limit locked memory")).saw(place, "infinity"),
            Some(bytes) if facts.wanted.memlock_bytes.is_some_and(|least| bytes >= least) => {
                Finding::pass(name, format!("{name} gives what the policy requires")).saw(place, about_size(bytes))
            }
            Some(bytes) => {
                let [write, restart] = lift_for(name);
                Finding::warn(name, format!("{name} limits locked memory to {}", about_size(bytes)))
                    .saw_not(place, about_size(bytes), "infinity")
                    .remedy(Action::Reload, "lift the limit and restart the service", &[&write, &restart])
            }
        }
    };
    services.units.iter().map(judge).collect()
}

fn login_memlock(facts: &Facts) -> Vec<Finding> {
    let logins = &facts.host.limits.services.logins;
    let mut findings = Vec::new();
    for login in logins {
        // Later lines of limits.d override earlier ones for the same domain and kind.
        let is_last = |other: &&crate::host::limits::service::LoginLimit| other.domain == login.domain && other.kind == login.kind;
        if logins.iter().rfind(is_last) != Some(login) {
            continue;
        }
        let subject = format!("{} {}", login.domain, login.kind);
        let place = format!("{}:{}", login.file, login.line);
        findings.push(match login.limit.value() {
            None => Finding::pass(subject, "logins may lock all memory").saw(place, "unlimited"),
            Some(bytes) if facts.wanted.memlock_bytes.is_some_and(|least| bytes >= least) => {
                Finding::pass(subject, "logins may lock what the policy requires").saw(place, about_size(bytes))
            }
            Some(bytes) => Finding::warn(subject, format!("logins may lock {} only", about_size(bytes)))
                .saw_not(&place, about_size(bytes), "unlimited")
                .remedy(Action::Tune, format!("write `unlimited` in {place}, and log in anew"), &[]),
        });
    }
    findings
}

fn inert_capability(facts: &Facts) -> Vec<Finding> {
    let own = &facts.host.limits.own;
    let Some(sets) = own.capabilities else {
        return vec![Finding::skip("host", "this process's capabilities cannot be read")];
    };
    let is_limited = own.memlock().is_some_and(|limit| limit.soft.value().is_some());
    let is_effective = Capabilities::has_ipc_lock(sets.effective);
    if own.has_ipc_lock() == Some(true) || !is_limited {
        return vec![Finding::pass("host", "CAP_IPC_LOCK is in force, or not needed")];
    }
    let source = format!("{}/status", own.source);
    let remedy = "raise the limit itself, or give the program's file the capability: setcap cap_ipc_lock+ep PROGRAM";
    let commands: &[&str] = &[&unlimited(facts)];
    if is_effective {
        return vec![
            Finding::fail("host", "CAP_IPC_LOCK is held in a user namespace of its own, where it lifts no limit")
                .saw_not(format!("{}/ns/user", own.source), "not the first user namespace", "the first user namespace")
                .remedy(Action::Tune, remedy, commands),
        ];
    }
    // Every shell has all capabilities in its bounding set; only a container was given them one by one.
    if facts.is_container() && Capabilities::has_ipc_lock(sets.bounding) {
        return vec![
            Finding::fail("host", "the container was given CAP_IPC_LOCK, and it is not in force for this user")
                .saw_not(&source, format!("CapBnd {:016x}, CapEff {:016x}", sets.bounding, sets.effective), "CapEff with bit 14")
                .remedy(Action::Tune, remedy, commands),
        ];
    }
    vec![Finding::skip("host", "CAP_IPC_LOCK was not given here")]
}

fn group_limits(facts: &Facts) -> Vec<Finding> {
    let limits = &facts.host.limits;
    let groups = std::iter::once(&limits.own_cgroup).chain(limits.process_cgroup.as_ref());
    let mut findings: Vec<Finding> = Vec::new();
    for group in groups {
        for limit in &group.rdma_limits {
            let used = group.rdma_usage.iter().find(|used| used.device == limit.device);
            let pairs = [
                ("hca_handle", limit.handles, used.and_then(|used| used.handles)),
                ("hca_object", limit.objects, used.and_then(|used| used.objects)),
            ];
            for (name, most, used) in pairs {
                let Some(most) = most.and_then(LimitValue::value) else { continue };
                let used = used.and_then(LimitValue::value).unwrap_or(0);
                let is_full = used >= most;
                let finding = if is_full {
                    Finding::fail(&limit.device, format!("its control group has no {name} left"))
                        .saw_not(&limit.file, format!("{name}={most}, {used} in use"), "more than are in use")
                        .remedy(
                            Action::Tune,
                            "raise the limit",
                            &[&command!("echo {} > {}", format!("{} hca_handle=max hca_object=max", limit.device), limit.file)],
                        )
                } else {
                    Finding::pass(&limit.device, format!("{used} of {most} {name} of its control group are in use"))
                        .saw(&limit.file, most.to_string())
                };
                findings.push(finding);
            }
        }
    }
    findings
}

/// Whether a number is in a list such as `0-3,7`.
fn is_listed(list: &str, number: u32) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if (first..=last).contains(&number))
    })
}

fn allowed_nodes(facts: &Facts) -> Vec<Finding> {
    let limits = &facts.host.limits;
    let process = limits.process.as_ref().unwrap_or(&limits.own);
    let Some(allowed) = &process.allowed_memory_nodes else {
        return vec![Finding::skip("host", "which NUMA nodes may be used cannot be read")];
    };
    let judge = |device: &crate::host::rdma::SysfsDevice| {
        let node = device.pci.as_ref()?.numa_node?;
        Some(if is_listed(allowed, node) {
            Finding::pass(&device.name, format!("memory of its node {node} may be used"))
        } else {
            Finding::warn(&device.name, format!("memory of its node {node} may not be used"))
                .saw_not(format!("{}/status, Mems_allowed_list", process.source), allowed, format!("a list with {node}"))
                .remedy(Action::Tune, "widen the cpuset, or choose a NIC of an allowed node", &[])
        })
    };
    facts.rdma_devices().iter().filter_map(judge).collect()
}

fn near_the_limit(facts: &Facts) -> Vec<Finding> {
    let Some(process) = facts.host.limits.process.as_ref().filter(|process| process.exists) else {
        return vec![Finding::skip("host", "no process was asked about")];
    };
    let Some(most) = bound(process) else {
        return vec![Finding::pass(&process.source, "its locked memory is not bounded")];
    };
    let used = process.locked_bytes.unwrap_or(0).max(process.pinned_bytes.unwrap_or(0));
    let source = format!("{}/status", process.source);
    // Nine tenths: what is left takes no further buffer of the size that it has.
    vec![if used >= most / 10 * 9 && used > 0 {
        Finding::fail(&process.source, format!("it has locked {} of {}", about_size(used), about_size(most)))
            .saw_not(source, about_size(used), format!("well below {}", about_size(most)))
            .remedy(
                Action::Tune,
                "raise its limit",
                &[&command!("prlimit --pid {} --memlock=unlimited", process.source.rsplit('/').next().unwrap_or_default())],
            )
    } else {
        Finding::pass(&process.source, format!("it has locked {} of {}", about_size(used), about_size(most)))
    }]
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn lists_of_nodes_are_read() {
        assert!(is_listed("0-1,3", 1) && is_listed("0-1,3", 3) && !is_listed("0-1,3", 2) && !is_listed("", 0));
    }
}
