//! 11: health: what counters and the kernel's log tell.

use super::devices::port_name;
use super::{Action, Category, Check, Facts, Finding, Level};
use crate::host::log::{AerSeverity, Event, LogEvent};
use crate::host::rdma::{SysfsDevice, SysfsPort};

/// Where the policy says nothing: a link may go down when it is plugged in and once more.
const LINK_DOWNS: u64 = 2;

/// Where the policy says nothing: half of the time that a quick look may take.
pub(super) const SLOW_READ_MS: u64 = 1000;

/// Parts of the facts whose files devices and their drivers answer; what else is slow tells of a busy host.
const FROM_DEVICES: &[&str] = &["rdma", "counters", "pcie", "net"];

/// `at most 2 times (the policy's link_downs)`, or that it is a default.
fn bound(bound: String, threshold: &str, from_policy: bool) -> String {
    let origin = if from_policy { "the policy's" } else { "the default of the policy's" };
    format!("{bound}, {origin} {threshold}")
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "RD-1101",
        title: "links do not flap",
        category: Category::Health,
        level: Level::Quick,
        why: "A link that goes down again and again kills all queue pairs each time; engines mostly do not recover.",
        confirm: "dmesg -T | grep -i 'link.*down'; cat /sys/class/net/DEV/carrier_changes",
        mend: "Exchange cable or module; look at the switch port's own log.",
        sources: &["leptonai/gpud, InfiniBand component", "the drivers' own lines"],
        depends_on: &["RD-1113"],
        run: flaps,
    },
    Check {
        id: "RD-1102",
        title: "no port alone counts link errors",
        category: Category::Health,
        level: Level::Quick,
        why: "Counters run since the start of the device, so a number alone says little; a port that counts errors where its siblings count none has a cable, module or switch port of its own to blame.",
        confirm: "grep . /sys/class/infiniband/*/ports/*/counters/{symbol_error,link_error_recovery,link_downed,port_rcv_errors}",
        mend: "Clean or exchange cable and module; look at the other end's counters.",
        sources: &[
            "InfiniBand Architecture Specification, volume 1, PortCounters",
            "Linux, Documentation/ABI/stable/sysfs-class-infiniband",
        ],
        depends_on: &["RD-1101"],
        run: link_errors,
    },
    Check {
        id: "RD-1103",
        title: "no port alone counts retransmissions",
        category: Category::Health,
        level: Level::Quick,
        why: "Retransmissions and sequence errors on one port alone tell of loss on its way: a bad cable, or quality of service that differs.",
        confirm: "grep . /sys/class/infiniband/*/ports/*/hw_counters/{local_ack_timeout_err,out_of_sequence,packet_seq_err,rnr_nak_retry_err}",
        mend: "Compare cable, switch port and quality of service with those of the siblings.",
        sources: &["NVIDIA, Understanding mlx5 counters"],
        depends_on: &["RD-1001", "RD-1101"],
        run: retransmissions,
    },
    Check {
        id: "RD-1104",
        title: "the PCI bus reports no errors of NICs and GPUs",
        category: Category::Health,
        level: Level::Quick,
        why: "Uncorrected errors mean lost requests; the device, the slot or the riser is failing. Corrected ones alone are no fault, many tell of a marginal link.",
        confirm: "grep . /sys/bus/pci/devices/*/aer_dev_{fatal,nonfatal,correctable}; dmesg | grep -i 'AER'",
        mend: "Seat the card anew; exchange riser or card when it comes again.",
        sources: &["Linux, Documentation/PCI/pcieaer-howto.rst"],
        depends_on: &[],
        run: bus_errors,
    },
    Check {
        id: "RD-1105",
        title: "the GPU driver logged no error (Xid)",
        category: Category::Health,
        level: Level::Quick,
        why: "After some errors a GPU is of no use until it is reset, and programs that touch it hang.",
        confirm: "dmesg -T | grep -E 'NVRM: (Xid|SXid)'",
        mend: "Look the number up in NVIDIA's table; reset the GPU (nvidia-smi --gpu-reset), start anew, or have it exchanged.",
        sources: &["docs.nvidia.com/deploy/xid-errors", "the incident: nvidia-smi hung after the crash"],
        depends_on: &["RD-1104"],
        run: xids,
    },
    Check {
        id: "RD-1106",
        title: "no GPU was lost",
        category: Category::Health,
        level: Level::Quick,
        why: "A GPU that its driver cannot bring up, or that has fallen off the bus, makes nvidia-smi and CUDA hang or fail.",
        confirm: "dmesg | grep -E 'RmInitAdapter|fallen off the bus'; nvidia-smi",
        mend: "Start the host anew with its power off; a GPU that is lost again has to be exchanged.",
        sources: &["NVIDIA/open-gpu-kernel-modules, src/nvidia/arch/nvalloc/unix/src/osinit.c"],
        depends_on: &["RD-0809"],
        run: lost_gpus,
    },
    Check {
        id: "RD-1107",
        title: "no process hangs in the kernel",
        category: Category::Health,
        level: Level::Quick,
        why: "A process that waits in the kernel for minutes cannot be killed and holds its devices, queue pairs and memory.",
        confirm: "dmesg | grep 'blocked for more than'; ps -eo pid,stat,wchan,comm | awk '$2 ~ /D/'",
        mend: "Find the device that it waits for in the kernel's log; mostly only a new start helps.",
        sources: &["Linux, kernel/hung_task.c", "the incident: nvidia-smi hung after the crash"],
        depends_on: &["RD-1105", "RD-1106", "RD-1110"],
        run: hung_tasks,
    },
    Check {
        id: "RD-1108",
        title: "what devices answer was read in good time",
        category: Category::Health,
        level: Level::Quick,
        why: "Files of sysfs come from the devices: one that takes a second to read has a driver or firmware that answers late.",
        confirm: "time cat /sys/class/infiniband/*/ports/*/counters/*",
        mend: "Look at the kernel's log for the device's driver.",
        sources: &["the times of this run"],
        depends_on: &["RD-1107", "RD-1110"],
        run: slow_parts,
    },
    Check {
        id: "RD-1109",
        title: "no process was killed for memory",
        category: Category::Health,
        level: Level::Quick,
        why: "Pinned memory counts for the control group: an engine that registers much is killed there, which looks like a crash.",
        confirm: "dmesg | grep 'Killed process'",
        mend: "Raise the container's memory limit, or lower the engine's caches.",
        sources: &["Linux, mm/oom_kill.c"],
        depends_on: &[],
        run: killed,
    },
    Check {
        id: "RD-1110",
        title: "mlx5 devices are healthy",
        category: Category::Health,
        level: Level::Quick,
        why: "After a failure of its firmware an mlx5 device answers no command until it has recovered or was reset.",
        confirm: "dmesg | grep -E 'mlx5_core.*(health|assert)'; devlink health",
        mend: "devlink health recover, or reset the device; upgrade its firmware.",
        sources: &["Linux, drivers/net/ethernet/mellanox/mlx5/core/health.c"],
        depends_on: &["RD-0809", "RD-1104"],
        run: mlx5_health,
    },
    Check {
        id: "RD-1111",
        title: "mlx5 firmware refused no command for lack of resources",
        category: Category::Health,
        level: Level::Quick,
        why: "`no resources` and `limits exceeded` mean that objects ran out, mostly memory keys that crashed programs left behind.",
        confirm: "dmesg | grep -E 'mlx5_core.*(no resources|limits exceeded)'; rdma resource show",
        mend: "End the programs that hold objects; where none does, start the host anew.",
        sources: &["Mooncake documentation, troubleshooting, item 5 (CREATE_MKEY)", "ofiwg/libfabric issue 7368"],
        depends_on: &["RD-1110"],
        run: mlx5_commands,
    },
    Check {
        id: "RD-1112",
        title: "the IOMMU stopped no access",
        category: Category::Health,
        level: Level::Quick,
        why: "A stopped access of a NIC or GPU is a transfer that failed: memory that was not mapped for that device.",
        confirm: "dmesg | grep -E 'DMAR|AMD-Vi|IO_PAGE_FAULT'",
        mend: "Pass devices through (iommu=pt), and look for the program that used memory after it was freed.",
        sources: &["Linux, drivers/iommu", "NVIDIA/nccl issue 1737"],
        depends_on: &["RD-0805"],
        run: iommu_faults,
    },
    Check {
        id: "RD-1113",
        title: "cables and modules are well",
        category: Category::Health,
        level: Level::Quick,
        why: "mlx5 writes what it sees of a port's module to the kernel's log: unplugged, too hot, not readable.",
        confirm: "dmesg | grep 'Port module event'; ethtool -m DEV",
        mend: "Plug it in again, clean or exchange it.",
        sources: &["Linux, drivers/net/ethernet/mellanox/mlx5/core/events.c"],
        depends_on: &[],
        run: port_modules,
    },
    Check {
        id: "RD-1114",
        title: "RDMA drivers logged no error",
        category: Category::Health,
        level: Level::Quick,
        why: "Drivers explain refusals in the kernel's log, where the programs that met them never look.",
        confirm: "dmesg | grep -E 'mlx|bnxt_re|irdma|erdma|efa|infiniband'",
        mend: "Read the line; the finding gives the last one of each kind.",
        sources: &["Linux, drivers/infiniband/core/device.c, ibdev_err"],
        depends_on: &["RD-1110", "RD-0209"],
        run: driver_errors,
    },
    Check {
        id: "RD-1115",
        title: "everything could be read",
        category: Category::Health,
        level: Level::Quick,
        why: "What could not be read is not judged. Some files are for root only; garbage in others tells of a driver's fault.",
        confirm: "run it as root",
        mend: "Run as root for the whole picture.",
        sources: &["this run"],
        depends_on: &[],
        run: unread,
    },
    super::leftovers::GPUS_ANSWER,
    Check {
        id: "RD-1117",
        title: "every part of the host could be read to its end",
        category: Category::Health,
        level: Level::Quick,
        why: "A file of sysfs or procfs whose reading never ends has a driver or firmware behind it that does not answer; every program that looks there hangs too.",
        confirm: "timeout 5 cat PATH; ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'",
        mend: "Look at the kernel's log for the driver; reset the device, or start the host anew.",
        sources: &["this run"],
        depends_on: &["RD-1107", "RD-1110", "RD-1104"],
        run: read_to_the_end,
    },
];

/// The events of the log, or why there are none.
fn events(facts: &Facts) -> Result<(&str, &[LogEvent]), Vec<Finding>> {
    let log = &facts.host.log;
    match &log.source {
        Some(source) => Ok((source, &log.events)),
        None => Err(vec![Finding::skip("host", "the kernel's log cannot be read here")]),
    }
}

/// Findings of the log, or that there are none.
fn or_well(findings: Vec<Finding>, well: &str) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::pass("host", well)] } else { findings }
}

/// A function's address of the log as sysfs writes it: NVIDIA's driver leaves the function out.
fn address(pci: Option<&String>) -> String {
    match pci {
        None => "host".to_owned(),
        Some(pci) if pci.contains('.') => pci.clone(),
        Some(pci) => format!("{pci}.0"),
    }
}

/// RDMA devices on a PCI function.
fn devices_on<'a>(facts: &'a Facts, address: &'a str) -> impl Iterator<Item = &'a SysfsDevice> {
    facts.rdma_devices().iter().filter(move |device| device.pci.as_ref().is_some_and(|pci| pci.address == address))
}

/// A finding about a function, and about the RDMA devices on it.
fn on_function(facts: &Facts, address: &str, finding: Finding) -> Finding {
    devices_on(facts, address).fold(finding, |finding, device| finding.about(&device.name))
}

fn often(logged: &LogEvent) -> String {
    if logged.count == 1 { logged.line.clone() } else { format!("{} times, last: {}", logged.count, logged.line) }
}

fn flaps(facts: &Facts) -> Vec<Finding> {
    let (source, _) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let most = facts.wanted.link_downs.unwrap_or(LINK_DOWNS);
    let mut findings = Vec::new();
    for device in facts.rdma_devices() {
        for netdev in &device.netdevs {
            let downs = facts.host.log.link_downs(netdev);
            let subject = if device.ports.len() == 1 { format!("{}/1", device.name) } else { device.name.clone() };
            findings.push(if downs > most {
                Finding::warn(subject, format!("the link of {netdev} went down {}", super::counted(downs, "time")))
                    .saw_not(
                        source,
                        format!("down {}", super::counted(downs, "time")),
                        bound(format!("at most {}", super::counted(most, "time")), "link_downs", facts.wanted.link_downs.is_some()),
                    )
                    .mend(Action::Replace, "exchange cable or module; look at the switch port", &[&format!("ethtool -m {netdev}")])
            } else {
                Finding::pass(subject, format!("the log tells that the link of {netdev} went down {}", super::counted(downs, "time")))
            });
        }
    }
    findings
}

/// Ports that count something where all their siblings count nothing.
fn alone(facts: &Facts, counters: &[&str], what: &str, remedy: &str) -> Vec<Finding> {
    let counted = |device: &SysfsDevice, port: &SysfsPort| -> Option<Vec<(String, u64)>> {
        let values: Vec<(String, u64)> = counters
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), facts.host.counters.value(&device.name, port.port, name)?)))
            .collect();
        (!values.is_empty()).then_some(values)
    };
    let kind = |device: &SysfsDevice| device.pci.as_ref().and_then(|pci| Some((pci.vendor_id?, pci.device_id?)));
    let ports: Vec<_> = facts.ports().filter_map(|(device, port)| Some((device, port, counted(device, port)?))).collect();
    let total = |values: &[(String, u64)]| values.iter().map(|(_, value)| *value).fold(0u64, u64::saturating_add);
    ports
        .iter()
        .map(|(device, port, values)| {
            let name = port_name(device, port);
            let siblings: Vec<_> = ports
                .iter()
                .filter(|(other, other_port, _)| {
                    kind(device).is_some() && kind(other) == kind(device) && (&other.name, other_port.port) != (&device.name, port.port)
                })
                .collect();
            match total(values) {
                0 => Finding::pass(name, format!("it counts no {what}")),
                sum if siblings.len() < 2 => {
                    Finding::skip(name, format!("it counts {sum} {what}, and there are no siblings to compare with"))
                }
                sum if siblings.iter().any(|(_, _, theirs)| total(theirs) > 0) => {
                    Finding::skip(name, format!("it counts {sum} {what}, as do others: only a second reading could tell whether they grow"))
                }
                sum => {
                    let finding = Finding::warn(name, format!("it counts {sum} {what}, its siblings none"));
                    let shown = values.iter().filter(|(_, value)| *value > 0);
                    shown.fold(finding, |finding, (counter, value)| finding.saw_not(counter, value.to_string(), "0, as its siblings")).mend(
                        Action::Replace,
                        remedy,
                        &[],
                    )
                }
            }
        })
        .collect()
}

fn link_errors(facts: &Facts) -> Vec<Finding> {
    let counters =
        ["symbol_error", "link_error_recovery", "port_rcv_errors", "local_link_integrity_errors", "excessive_buffer_overrun_errors"];
    alone(facts, &counters, "link errors", "clean or exchange cable and module")
}

fn retransmissions(facts: &Facts) -> Vec<Finding> {
    let counters = ["local_ack_timeout_err", "out_of_sequence", "packet_seq_err"];
    alone(facts, &counters, "retransmissions", "compare cable, switch port and quality of service with those of the siblings")
}

fn bus_errors(facts: &Facts) -> Vec<Finding> {
    let topology = &facts.host.topology;
    // The functions and the bridges above them, each with what is below.
    let mut places: Vec<(&str, &str)> = Vec::new();
    for nic in &topology.nics {
        places.push((&nic.address, &nic.name));
        places.extend(nic.path.bridges.iter().map(|bridge| (bridge.as_str(), nic.name.as_str())));
    }
    for gpu in &topology.gpus {
        places.push((&gpu.address, &gpu.address));
        places.extend(gpu.path.bridges.iter().map(|bridge| (bridge.as_str(), gpu.address.as_str())));
    }
    let mut findings: Vec<Finding> = Vec::new();
    for function in facts.host.pcie.functions.iter().flatten() {
        let below: Vec<&str> = places.iter().filter(|(place, _)| *place == function.address()).map(|(_, name)| *name).collect();
        if below.is_empty() {
            continue;
        }
        let logged: Vec<&LogEvent> = facts
            .host
            .log
            .events
            .iter()
            .filter(|logged| {
                matches!(&logged.event, Event::AerError { severity: AerSeverity::NonFatal | AerSeverity::Fatal, pci: Some(pci) } if pci == function.address())
            })
            .collect();
        let counts = function.errors.unwrap_or_default();
        let (fatal, nonfatal) = (counts.fatal.unwrap_or(0), counts.nonfatal.unwrap_or(0));
        if fatal == 0 && nonfatal == 0 && logged.is_empty() {
            if function.errors.is_some() {
                findings.push(Finding::pass(function.address(), "no uncorrected errors"));
            }
            continue;
        }
        let is_fatal =
            fatal > 0 || logged.iter().any(|logged| matches!(logged.event, Event::AerError { severity: AerSeverity::Fatal, .. }));
        let mut finding = Finding::graded(is_fatal, function.address(), "the PCI bus reports uncorrected errors");
        if function.errors.is_some() {
            finding = finding.saw_not(
                format!("/sys/bus/pci/devices/{}/aer_dev_*", function.address()),
                format!("{fatal} fatal, {nonfatal} non-fatal"),
                "none",
            );
        }
        for logged in logged {
            finding = finding.saw(facts.host.log.source.clone().unwrap_or_default(), often(logged));
        }
        for name in below {
            finding = finding.about(name);
        }
        findings.push(finding.mend(Action::Replace, "seat the card anew; exchange riser or card when it comes again", &[]));
    }
    findings
}

/// Errors after which a GPU cannot be used until it is reset: off the bus, contained and uncontained memory errors, its own processor.
const GRAVE_XIDS: &[u32] = &[48, 62, 64, 74, 79, 95, 119, 120, 140];

fn xids(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let mut findings = Vec::new();
    for logged in events {
        let (number, pci, name) = match &logged.event {
            Event::NvidiaXid { xid, pci } => (*xid, pci, "Xid"),
            Event::NvidiaSxid { sxid, pci } => (*sxid, pci, "SXid"),
            _ => continue,
        };
        let subject = address(pci.as_ref());
        findings.push(
            Finding::graded(name == "Xid" && GRAVE_XIDS.contains(&number), &subject, format!("the GPU driver logged {name} {number}"))
                .saw(source, often(logged))
                .mend(
                    Action::Reset,
                    format!("look {number} up in NVIDIA's table; reset what is concerned when nothing uses it"),
                    &[&format!("nvidia-smi --gpu-reset -i {subject}")],
                ),
        );
    }
    or_well(findings, "the log tells of no Xid")
}

fn lost_gpus(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let findings = events
        .iter()
        .filter_map(|logged| {
            let Event::NvidiaDeviceLost { pci } = &logged.event else { return None };
            Some(Finding::fail(address(pci.as_ref()), "the GPU driver could not bring it up, or lost it").saw(source, often(logged)).mend(
                Action::Reboot,
                "start the host anew with its power off; exchange a GPU that is lost again",
                &["nvidia-bug-report.sh"],
            ))
        })
        .collect();
    or_well(findings, "the log tells of no lost GPU")
}

fn hung_tasks(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let findings = events
        .iter()
        .filter_map(|logged| {
            let Event::HungTask { process } = &logged.event else { return None };
            Some(Finding::warn("host", format!("{process} waited in the kernel for minutes")).saw(source, often(logged)).mend(
                Action::Reboot,
                "find what it waits for; mostly only a new start helps",
                &["ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'"],
            ))
        })
        .collect();
    or_well(findings, "the log tells of no process that hangs")
}

fn slow_parts(facts: &Facts) -> Vec<Finding> {
    let most = facts.wanted.slow_read_ms.unwrap_or(SLOW_READ_MS);
    let slow: Vec<Finding> = facts
        .host
        .timings
        .iter()
        .filter(|timing| FROM_DEVICES.contains(&timing.part.as_str()) && timing.elapsed_us / 1000 > most)
        .filter(|timing| facts.unread().all(|(part, _)| part.name() != timing.part))
        .map(|timing| {
            let milliseconds = timing.elapsed_us / 1000;
            Finding::warn("host", format!("reading {} took {milliseconds} ms", timing.part))
                .saw_not(&timing.part, format!("{milliseconds} ms"), within(facts, most))
                .mend(Action::None, "look at the kernel's log for a device that answers late", &["dmesg | tail -50"])
        })
        .collect();
    or_well(slow, "what devices answer was read in good time")
}

/// The bound on a wait, and who set it.
pub(super) fn within(facts: &Facts, most_ms: u64) -> String {
    bound(format!("at most {most_ms} ms"), "slow_read_ms", facts.wanted.slow_read_ms.is_some())
}

fn killed(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let findings = events
        .iter()
        .filter_map(|logged| {
            let Event::OutOfMemory { process, in_cgroup } = &logged.event else { return None };
            let who = process.as_deref().unwrap_or("a process");
            let whose = if *in_cgroup { "its control group's limit" } else { "the host's memory" };
            Some(Finding::warn("host", format!("{who} was killed, as {whose} was used up")).saw(source, often(logged)).mend(
                Action::Tune,
                if *in_cgroup {
                    "raise the container's memory limit: registered memory counts there"
                } else {
                    "lower what engines cache and register"
                },
                &[],
            ))
        })
        .collect();
    or_well(findings, "the log tells of no killed process")
}

fn mlx5_health(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let mut findings: Vec<Finding> = Vec::new();
    for logged in events {
        let Event::Mlx5Health { pci } = &logged.event else { continue };
        let address = address(pci.as_ref());
        let finding = Finding::fail(&address, "its firmware reported a fault").saw(source, often(logged)).mend(
            Action::Reset,
            "recover or reset the device, and upgrade its firmware",
            &[&format!("devlink health recover pci/{address} reporter fw_fatal"), &format!("mlxfwreset -d {address} reset")],
        );
        findings.push(on_function(facts, &address, finding));
    }
    or_well(findings, "the log tells of no fault of mlx5 firmware")
}

fn mlx5_commands(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let mut findings = Vec::new();
    for logged in events {
        let Event::Mlx5CommandFailed { pci, command, status } = &logged.event else { continue };
        if !["no resources", "limits exceeded"].iter().any(|lack| status.contains(lack)) {
            continue;
        }
        let address = address(pci.as_ref());
        let finding = Finding::warn(&address, format!("its firmware refused {command}: {status}")).saw(source, often(logged)).mend(
            Action::Reboot,
            "end what holds queue pairs and memory regions; where nothing does, start the host anew",
            &["rdma resource show", "rdma resource show mr"],
        );
        findings.push(on_function(facts, &address, finding));
    }
    or_well(findings, "the log tells of no lack of mlx5 objects")
}

fn iommu_faults(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let mut findings = Vec::new();
    for logged in events {
        let Event::IommuFault { pci } = &logged.event else { continue };
        let address = address(pci.as_ref());
        let is_ours = devices_on(facts, &address).next().is_some() || facts.pci_gpus().any(|gpu| gpu.address() == address);
        if is_ours {
            let finding = Finding::warn(&address, "the IOMMU stopped an access of it").saw(source, often(logged)).mend(
                Action::Reboot,
                "pass devices through (iommu=pt)",
                &[],
            );
            findings.push(on_function(facts, &address, finding));
        }
    }
    or_well(findings, "the log tells of no access of a NIC or GPU that the IOMMU stopped")
}

fn port_modules(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    // The last word on each function counts: a module that was plugged in again is well.
    let mut last: Vec<(String, &LogEvent, &str)> = Vec::new();
    for logged in events {
        let Event::PortModule { pci, status } = &logged.event else { continue };
        let address = address(pci.as_ref());
        match last.iter_mut().find(|(known, _, _)| *known == address) {
            Some(entry) if entry.1.last_us <= logged.last_us => (entry.1, entry.2) = (logged, status),
            Some(_) => {}
            None => last.push((address, logged, status)),
        }
    }
    let is_well = |status: &str| {
        let status = status.to_ascii_lowercase();
        status.contains("plugged") && !status.contains("unplugged")
    };
    let findings = last
        .into_iter()
        .filter(|(_, _, status)| !is_well(status))
        .map(|(address, logged, status)| {
            let finding = Finding::warn(&address, format!("its module or cable: {status}")).saw(source, often(logged)).mend(
                Action::Replace,
                "plug it in again, clean or exchange it",
                &[],
            );
            devices_on(facts, &address)
                .fold(on_function(facts, &address, finding), |finding, device| finding.about(format!("{}/1", device.name)))
        })
        .collect();
    or_well(findings, "the log tells of no trouble with modules")
}

fn driver_errors(facts: &Facts) -> Vec<Finding> {
    let (source, events) = match events(facts) {
        Ok(found) => found,
        Err(skipped) => return skipped,
    };
    let findings = events
        .iter()
        .filter_map(|logged| {
            let Event::RdmaDriverError { driver, device } = &logged.event else { return None };
            let subject = device.clone().unwrap_or_else(|| driver.clone());
            Some(Finding::warn(subject, format!("{driver} logged an error")).saw(source, often(logged)))
        })
        .collect();
    or_well(findings, "the log tells of no error of an RDMA driver")
}

fn read_to_the_end(facts: &Facts) -> Vec<Finding> {
    let unread: Vec<Finding> = facts
        .unread()
        .map(|(part, problem)| {
            Finding::fail(part.name(), format!("{} could not be read to its end", part.name()))
                .saw_not(&problem.path, problem.failure.to_string(), "an answer")
                .mend(
                    Action::Reset,
                    "find out with the kernel's log what does not answer, and reset it or start the host anew; what depends on it is not judged",
                    &["dmesg | tail -50", "ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'"],
                )
        })
        .collect();
    or_well(unread, "every part was read to its end")
}

fn unread(facts: &Facts) -> Vec<Finding> {
    let problems: Vec<_> = facts.host.problems().map(|(_, problem)| problem).chain(&facts.modules.problems).collect();
    if problems.is_empty() {
        return vec![Finding::pass("host", "everything could be read")];
    }
    let finding =
        Finding::skip("host", format!("{} could not be read or understood, so not judged", super::counted(problems.len() as u64, "path")));
    vec![problems.into_iter().fold(finding, |finding, problem| finding.saw(&problem.path, problem.failure.to_string()))]
}
