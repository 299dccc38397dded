//! 05: limits and permissions.

use super::{Action, Category, Check, Facts, Finding, Level};
use crate::host::limits::process::ProcessFacts;
use crate::host::limits::{Capabilities, LimitValue};

/// RLIMIT_MEMLOCK where nobody has raised it: 8 MiB since Linux 5.16, 64 KiB before (include/uapi/linux/resource.h, MLOCK_LIMIT).
const KERNELS_OWN_BYTES: u64 = 8 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "RD-0501",
        title: "this process may lock enough memory",
        category: Category::Limits,
        level: Level::Quick,
        why: "Queues and registered memory are locked, and count against RLIMIT_MEMLOCK unless CAP_IPC_LOCK is in force. Beyond it ibv_reg_mr, \
              ibv_create_cq and ibv_create_qp fail with ENOMEM.",
        confirm: "ulimit -l; grep -E 'CapEff' /proc/self/status",
        mend: "ulimit -l unlimited; LimitMEMLOCK=infinity for a service; --ulimit memlock=-1 for a container; limits.conf for logins.",
        sources: &["Linux, drivers/infiniband/core/umem.c, __ib_umem_get", "NVIDIA/nccl-tests issue 206", "openucx/ucx issue 8229"],
        depends_on: &["RD-0505", "RD-0902"],
        run: own_memlock,
    },
    Check {
        id: "RD-0502",
        title: "the process asked about may lock enough memory",
        category: Category::Limits,
        level: Level::Quick,
        why: "A service's limits are not those of the shell in which they are looked at: the engine's own process counts.",
        confirm: "grep 'locked memory' /proc/PID/limits; grep CapEff /proc/PID/status",
        mend: "LimitMEMLOCK=infinity in the service's unit, or prlimit --pid PID --memlock=unlimited for the running process.",
        sources: &["Linux, drivers/infiniband/core/umem.c, __ib_umem_get", "NVIDIA/nvidia-container-toolkit issue 2037"],
        depends_on: &["RD-0503"],
        run: asked_memlock,
    },
    Check {
        id: "RD-0503",
        title: "services that start engines do not limit locked memory",
        category: Category::Limits,
        level: Level::Quick,
        why: "Containers and jobs inherit the limit of containerd, dockerd, kubelet or slurmd.",
        confirm: "systemctl show -p LimitMEMLOCK containerd docker kubelet slurmd",
        mend: "A drop-in with LimitMEMLOCK=infinity, then restart the service.",
        sources: &["systemd.exec(5)", "ROCm/cvs pull request 452"],
        depends_on: &[],
        run: service_memlock,
    },
    Check {
        id: "RD-0504",
        title: "logins may lock enough memory",
        category: Category::Limits,
        level: Level::Quick,
        why: "limits.conf decides for logins, and for jobs that a scheduler starts through one.",
        confirm: "grep -r memlock /etc/security/limits.conf /etc/security/limits.d",
        mend: "Lines `* soft memlock unlimited` and `* hard memlock unlimited` in /etc/security/limits.d, then log in anew.",
        sources: &["limits.conf(5)", "open-mpi/ompi issue 6468"],
        depends_on: &[],
        run: login_memlock,
    },
    Check {
        id: "RD-0505",
        title: "CAP_IPC_LOCK is in force where it was given",
        category: Category::Limits,
        level: Level::Quick,
        why: "A capability that is only in the bounding set, or that is held in a user namespace of its own, lifts no limit: the kernel asks for it in the first user namespace.",
        confirm: "capsh --decode=$(awk '/CapEff/{print $2}' /proc/self/status); readlink /proc/self/ns/user",
        mend: "Run as root in the container, or give the program the file capability, or raise the limit itself (--ulimit memlock=-1).",
        sources: &["Linux, kernel/capability.c, capable", "NVIDIA/nvidia-container-toolkit issue 2037"],
        depends_on: &[],
        run: inert_capability,
    },
    Check {
        id: "RD-0506",
        title: "control groups leave room for RDMA objects",
        category: Category::Limits,
        level: Level::Quick,
        why: "The rdma controller bounds contexts and objects of a group; beyond it every create call fails with EAGAIN.",
        confirm: "cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/rdma.max",
        mend: "Raise the limit: echo 'DEV hca_handle=max hca_object=max' > rdma.max",
        sources: &["Linux, Documentation/admin-guide/cgroup-v2.rst, RDMA", "Linux, kernel/cgroup/rdma.c"],
        depends_on: &[],
        run: group_limits,
    },
    Check {
        id: "RD-0507",
        title: "memory may be taken from the NICs' NUMA nodes",
        category: Category::Limits,
        level: Level::Quick,
        why: "A process that is bound away from a NIC's node sends all its traffic across the sockets.",
        confirm: "grep Mems_allowed_list /proc/self/status; cat /sys/class/infiniband/*/device/numa_node",
        mend: "Bind the engine to the node of its NIC (numactl --membind), or widen the cpuset.",
        sources: &["Linux, Documentation/admin-guide/cgroup-v2.rst, cpuset"],
        depends_on: &[],
        run: allowed_nodes,
    },
    Check {
        id: "RD-0508",
        title: "the process asked about is not at its limit of locked memory",
        category: Category::Limits,
        level: Level::Quick,
        why: "An engine that has locked nearly all that it may fails at its next registration.",
        confirm: "grep -E 'VmLck|VmPin' /proc/PID/status; grep 'locked memory' /proc/PID/limits",
        mend: "Raise the limit (prlimit), or lower what the engine registers.",
        sources: &["Linux, drivers/infiniband/core/umem.c, __ib_umem_get"],
        depends_on: &["RD-0502"],
        run: near_the_limit,
    },
];

pub(super) fn shown(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn limit_shown(limit: LimitValue) -> String {
    limit.value().map_or_else(|| "unlimited".to_owned(), shown)
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
            return Finding::pass(subject, "as much memory may be locked as the policy requires").saw(source, shown(soft));
        }
        (Some(least), _) => {
            Finding::fail(subject, format!("only {} of memory may be locked", shown(soft))).saw_not(source, shown(soft), shown(least))
        }
        (None, _) if soft <= KERNELS_OWN_BYTES => {
            Finding::fail(subject, format!("only {} of memory may be locked", shown(soft))).saw_not(source, shown(soft), "unlimited")
        }
        (None, Some(total)) if soft < total => Finding::warn(subject, format!("{} of {} memory may be locked", shown(soft), shown(total)))
            .saw_not(source, shown(soft), "unlimited"),
        (None, _) => return Finding::pass(subject, format!("{} may be locked", shown(soft))).saw(source, shown(soft)),
    };
    finding.saw_not(format!("{}/status, CapEff", process.source), "without CAP_IPC_LOCK", "CAP_IPC_LOCK, or no limit")
}

fn own_memlock(facts: &Facts) -> Vec<Finding> {
    let process = &facts.host.limits.own;
    let finding = memlock(facts, process, "host");
    if !finding.status.is_bad() {
        return vec![finding];
    }
    let can_raise = process.memlock().is_some_and(|limit| limit.hard > limit.soft);
    vec![if can_raise {
        finding.mend(Action::Tune, "raise it in the shell that starts the engine", &["ulimit -l unlimited"])
    } else {
        finding.mend(
            Action::Tune,
            if facts.is_container() {
                "start the container without the limit"
            } else {
                "lift it for logins, and log in anew; for a service set LimitMEMLOCK=infinity in its unit"
            },
            &[if facts.is_container() {
                "docker run --ulimit memlock=-1 …"
            } else {
                "printf '* soft memlock unlimited\\n* hard memlock unlimited\\n' > /etc/security/limits.d/rdma.conf"
            }],
        )
    }]
}

fn asked_memlock(facts: &Facts) -> Vec<Finding> {
    let limits = &facts.host.limits;
    let Some(process) = &limits.process else {
        return vec![Finding::skip("host", "no process was asked about; --pid N asks for one")];
    };
    if !process.exists {
        return vec![Finding::error(&process.source, "there is no such process")];
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
    let now = format!("prlimit --pid {pid} --memlock=unlimited");
    vec![match unit {
        Some(unit) => finding.mend(
            Action::Reload,
            "raise it for the running process, and in its unit for the next start",
            &[&now, &format!("systemctl edit {unit}  # [Service] LimitMEMLOCK=infinity"), &format!("systemctl restart {unit}")],
        ),
        None => finding.mend(Action::Tune, "raise it for the running process", &[&now]),
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
                Finding::pass(name, format!("{name} gives what the policy requires")).saw(place, shown(bytes))
            }
            Some(bytes) => Finding::warn(name, format!("{name} limits locked memory to {}", shown(bytes)))
                .saw_not(place, shown(bytes), "infinity")
                .mend(
                    Action::Reload,
                    "lift the limit and restart the service",
                    &[&format!("systemctl edit {name}  # [Service] LimitMEMLOCK=infinity"), &format!("systemctl restart {name}")],
                ),
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
                Finding::pass(subject, "logins may lock what the policy requires").saw(place, shown(bytes))
            }
            Some(bytes) => Finding::warn(subject, format!("logins may lock {} only", shown(bytes)))
                .saw_not(&place, shown(bytes), "unlimited")
                .mend(Action::Tune, format!("write `unlimited` in {place}, and log in anew"), &[]),
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
    let remedy = "raise the limit itself, or let the program have the capability in force";
    let commands: &[&str] = &["docker run --ulimit memlock=-1 …", "setcap cap_ipc_lock+ep PROGRAM"];
    if is_effective {
        return vec![
            Finding::fail("host", "CAP_IPC_LOCK is held in a user namespace of its own, where it lifts no limit")
                .saw_not(format!("{}/ns/user", own.source), "not the first user namespace", "the first user namespace")
                .mend(Action::Tune, remedy, commands),
        ];
    }
    // Every shell has all capabilities in its bounding set; only a container was given them one by one.
    if facts.is_container() && Capabilities::has_ipc_lock(sets.bounding) {
        return vec![
            Finding::fail("host", "the container was given CAP_IPC_LOCK, and it is not in force for this user")
                .saw_not(&source, format!("CapBnd {:016x}, CapEff {:016x}", sets.bounding, sets.effective), "CapEff with bit 14")
                .mend(Action::Tune, remedy, commands),
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
                        .mend(
                            Action::Tune,
                            "raise the limit",
                            &[&format!("echo '{} hca_handle=max hca_object=max' > {}", limit.device, limit.file)],
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
                .mend(Action::Tune, "widen the cpuset, or choose a NIC of an allowed node", &[])
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
        Finding::fail(&process.source, format!("it has locked {} of {}", shown(used), shown(most)))
            .saw_not(source, shown(used), format!("well below {}", shown(most)))
            .mend(
                Action::Tune,
                "raise its limit",
                &[&format!("prlimit --pid {} --memlock=unlimited", process.source.rsplit('/').next().unwrap_or_default())],
            )
    } else {
        Finding::pass(&process.source, format!("it has locked {} of {}", shown(used), shown(most)))
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
