//! What the kernel's log tells.

use super::or_well;
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::host::log::{AerSeverity, Event, LogEvent};
use crate::host::rdma::SysfsDevice;

/// The events of the log, or why there are none.
pub(super) fn events(facts: &Facts) -> Result<(&str, &[LogEvent]), Vec<Finding>> {
    let log = &facts.host.log;
    match &log.source {
        Some(source) => Ok((source, &log.events)),
        None => Err(vec![Finding::skip("host", "the kernel's log cannot be read here")]),
    }
}

/// A finding for each event that gives one, or that there are none.
fn each(facts: &Facts, well: &str, judge: impl Fn(&str, &LogEvent) -> Option<Finding>) -> Vec<Finding> {
    match events(facts) {
        Ok((source, events)) => or_well(events.iter().filter_map(|logged| judge(source, logged)).collect(), well),
        Err(skipped) => skipped,
    }
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

pub(super) fn often(logged: &LogEvent) -> String {
    if logged.count == 1 { logged.line.clone() } else { format!("{} times, last: {}", logged.count, logged.line) }
}

pub(super) fn bus_errors(facts: &Facts) -> Vec<Finding> {
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
        findings.push(finding.remedy(Action::Replace, "seat the card anew; exchange riser or card when it comes again", &[]));
    }
    findings
}

/// Errors after which a GPU cannot be used until it is reset: off the bus, contained and uncontained memory errors, its own processor.
const GRAVE_XIDS: &[u32] = &[48, 62, 64, 74, 79, 95, 119, 120, 140];

/// Xids that programs cause: a fault of the graphics engine, of a page, a channel that was ended, one that was cleaned up.
const OF_PROGRAMS: &[u32] = &[13, 31, 43, 45];

/// The Xid after which no reset helps, as nothing gets to the GPU.
const OFF_THE_BUS: u32 = 79;

pub(super) fn xids(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no Xid", |source, logged| {
        let (number, pci, name) = match &logged.event {
            Event::NvidiaXid { xid, pci } => (*xid, pci, "Xid"),
            Event::NvidiaSxid { sxid, pci } => (*sxid, pci, "SXid"),
            _ => return None,
        };
        let subject = address(pci.as_ref());
        let finding =
            Finding::graded(name == "Xid" && GRAVE_XIDS.contains(&number), &subject, format!("the GPU driver logged {name} {number}"))
                .saw(source, often(logged));
        if name == "Xid" && number == OFF_THE_BUS {
            return Some(finding.remedy(
                Action::Reboot,
                "start the host anew with its power off: no reset gets to a GPU that has fallen off the bus; exchange one that does so again",
                &["nvidia-bug-report.sh"],
            ));
        }
        if name == "Xid" && OF_PROGRAMS.contains(&number) {
            return Some(finding.remedy(
                Action::None,
                "mostly the fault of the program that the line names, which ended by it: see its own log; the GPU needs no reset",
                &["dmesg -T | grep Xid"],
            ));
        }
        // NVSwitches, which log an SXid, are reset with all GPUs alone.
        let reset = if name == "Xid" && pci.is_some() {
            command!("nvidia-smi --gpu-reset -i {}", subject)
        } else {
            "nvidia-smi --gpu-reset".to_owned()
        };
        Some(finding.remedy(
            Action::Reset,
            format!("look {number} up in NVIDIA's table; reset what is concerned when nothing uses it"),
            &[&reset],
        ))
    })
}

pub(super) fn lost_gpus(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no lost GPU", |source, logged| {
        let Event::NvidiaDeviceLost { pci } = &logged.event else { return None };
        Some(Finding::fail(address(pci.as_ref()), "the GPU driver could not bring it up, or lost it").saw(source, often(logged)).remedy(
            Action::Reboot,
            "start the host anew with its power off; exchange a GPU that is lost again",
            &["nvidia-bug-report.sh"],
        ))
    })
}

pub(super) fn hung_tasks(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no process that hangs", |source, logged| {
        let Event::HungTask { process } = &logged.event else { return None };
        Some(Finding::warn("host", format!("{process} waited in the kernel for minutes")).saw(source, often(logged)).remedy(
            Action::Reboot,
            "find what it waits for; mostly only a new start helps",
            &["ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'"],
        ))
    })
}

pub(super) fn killed(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no killed process", |source, logged| {
        let Event::OutOfMemory { process, in_cgroup } = &logged.event else { return None };
        let who = process.as_deref().unwrap_or("a process");
        let whose = if *in_cgroup { "its control group's limit" } else { "the host's memory" };
        Some(Finding::warn("host", format!("{who} was killed, as {whose} was used up")).saw(source, often(logged)).remedy(
            Action::Tune,
            if *in_cgroup {
                "raise the container's memory limit: registered memory counts there"
            } else {
                "lower what engines cache and register"
            },
            &[],
        ))
    })
}

pub(super) fn mlx5_health(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no fault of mlx5 firmware", |source, logged| {
        let Event::Mlx5Health { pci } = &logged.event else { return None };
        let address = address(pci.as_ref());
        let finding = Finding::fail(&address, "its firmware reported a fault").saw(source, often(logged)).remedy(
            Action::Reset,
            "recover or reset the device, and upgrade its firmware",
            &[&command!("devlink health recover pci/{} reporter fw_fatal", address), &command!("mlxfwreset -d {} reset", address)],
        );
        Some(on_function(facts, &address, finding))
    })
}

pub(super) fn mlx5_commands(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no lack of mlx5 objects", |source, logged| {
        let Event::Mlx5CommandFailed { pci, command, status } = &logged.event else { return None };
        if !["no resources", "limits exceeded"].iter().any(|lack| status.contains(lack)) {
            return None;
        }
        let address = address(pci.as_ref());
        let finding = Finding::warn(&address, format!("its firmware refused {command}: {status}")).saw(source, often(logged)).remedy(
            Action::Reboot,
            "end what holds queue pairs and memory regions; where nothing does, start the host anew",
            &["rdma resource show", "rdma resource show mr"],
        );
        Some(on_function(facts, &address, finding))
    })
}

pub(super) fn iommu_faults(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no access of a NIC or GPU that the IOMMU stopped", |source, logged| {
        let Event::IommuFault { pci } = &logged.event else { return None };
        let address = address(pci.as_ref());
        let is_ours = devices_on(facts, &address).next().is_some() || facts.pci_gpus().any(|gpu| gpu.address() == address);
        is_ours.then(|| {
            let finding = Finding::warn(&address, "the IOMMU stopped an access of it").saw(source, often(logged)).remedy(
                Action::Reboot,
                "pass devices through (iommu=pt)",
                &[],
            );
            on_function(facts, &address, finding)
        })
    })
}

pub(super) fn port_modules(facts: &Facts) -> Vec<Finding> {
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
            let finding = Finding::warn(&address, format!("its module or cable: {status}")).saw(source, often(logged)).remedy(
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

pub(super) fn driver_errors(facts: &Facts) -> Vec<Finding> {
    each(facts, "the log tells of no error of an RDMA driver", |source, logged| {
        let Event::RdmaDriverError { driver, device } = &logged.event else { return None };
        let subject = device.clone().unwrap_or_else(|| driver.clone());
        Some(Finding::warn(subject, format!("{driver} logged an error")).saw(source, often(logged)).remedy(
            Action::None,
            "the line tells what the driver met; those before it tell why",
            &[&command!("dmesg | grep {}", driver)],
        ))
    })
}
