//! Whether the modules are there that this host needs.

use crate::catalog::DeviceModel;
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::facts::{family_of, is_iwarp, packages};
use crate::host::modules::{BlockKind, Module, ModuleState};
use crate::host::pcie::PcieFunction;
use crate::host::{families, family};

/// What RDMA devices need whichever they are.
const CORE: &[&str] = &["ib_core", "ib_uverbs"];

/// Whether a module is of those that RDMA devices here need.
pub(super) fn is_needed(facts: &Facts, name: &str) -> bool {
    CORE.contains(&name) || functions(facts).any(|(family, _)| families::modules_of(family).contains(&name))
}

/// What is missing, with the step that adds it.
pub(super) fn missing(facts: &Facts, subject: &str, module: &Module, is_severe: bool) -> Finding {
    let name = &module.name;
    let source = module.source.clone().unwrap_or_else(|| "/proc/modules, modules.dep, modules.builtin".to_owned());
    match module.state {
        // Neither lets it in before the next start.
        ModuleState::OnDisk if facts.modules.loading_disabled_by.is_some() || blocked_at_start(module) => {
            Finding::graded(is_severe, subject, format!("{name} is on disk and not loaded"))
                .saw_not(source, "on disk, not loaded", "loaded")
                .remedy(Action::Reboot, "start the host anew without what keeps it out", &[])
        }
        ModuleState::OnDisk => Finding::graded(is_severe, subject, format!("{name} is on disk and not loaded"))
            .saw_not(source, "on disk, not loaded", "loaded")
            .remedy(
                Action::Reload,
                "load it, and name it in /etc/modules-load.d to keep it",
                &[&command!("modprobe {}", name), &command!("mkdir -p /etc/modules-load.d && echo {} > /etc/modules-load.d/{}.conf", name, name)],
            ),
        ModuleState::Absent => Finding::graded(is_severe, subject, format!("{name} is neither in the kernel nor on disk"))
            .saw_not(source, "absent", "loaded or built in")
            .remedy(
                Action::Replace,
                "install the package of this kernel's further modules, or the vendor's driver; a kernel image that lacks it must be exchanged",
                &further_modules(facts),
            ),
        _ => Finding::graded(is_severe, subject, format!("{name} is not in the kernel"))
            .saw_not(source, "not loaded", "loaded or built in")
            .remedy(Action::Reload, "load it on the host (not in the container)", &[&command!("modprobe {}", name)]),
    }
    .about(name)
}

fn blocked_at_start(module: &Module) -> bool {
    module.blocked_by.iter().any(|block| block.kind == BlockKind::CommandLine)
}

/// What brings modules that a kernel's first package leaves out; Debian's kernel has all of them in one.
fn further_modules(facts: &Facts) -> Vec<&'static str> {
    if facts.host.system.os.as_ref().and_then(|os| os.id.as_deref()) == Some("debian") {
        return Vec::new();
    }
    packages(
        facts,
        "apt-get install -y linux-modules-extra-$(uname -r)",
        "dnf install -y kernel-modules-$(uname -r) kernel-modules-extra-$(uname -r)",
    )
}

pub(super) fn core_is_there(facts: &Facts) -> Vec<Finding> {
    let shown = facts.host.rdma.devices.is_some();
    let is_sysfs_there = facts.host.pcie.functions.is_some() || facts.host.net.interfaces.is_some();
    match (facts.in_kernel("ib_core"), facts.module("ib_core")) {
        (Some(true), _) => vec![Finding::pass("host", "the kernel has ib_core")],
        _ if shown => vec![Finding::pass("host", "the kernel has ib_core").saw("/sys/class/infiniband", "present")],
        (Some(false), Some(module)) => vec![missing(facts, "host", module, true)],
        (None, Some(_)) if is_sysfs_there => vec![
            Finding::fail("host", "the kernel has no ib_core")
                .saw_not("/sys/class/infiniband", "absent", "present")
                .about("ib_core")
                .remedy(Action::Reload, "load it", &["modprobe ib_core"]),
        ],
        _ => vec![Finding::skip("host", "neither the list of modules nor sysfs can be read")],
    }
}

pub(super) fn uverbs_is_there(facts: &Facts) -> Vec<Finding> {
    if facts.in_kernel("ib_uverbs") == Some(false) && facts.inventory().is_some_and(|inventory| !inventory.devices.is_empty()) {
        // drivers/infiniband/core/nldev.c, `ib_get_client_nl_info`: whoever asks for a device's node has the module loaded.
        return vec![Finding::pass("host", "ib_uverbs was not loaded, and the kernel loaded it when libibverbs listed devices")];
    }
    let is_shown = facts.host.rdma.uverbs_abi_version.is_some() || facts.rdma_devices().iter().any(|device| device.uverbs.is_some());
    match (facts.in_kernel("ib_uverbs"), facts.module("ib_uverbs")) {
        (Some(true), _) => vec![Finding::pass("host", "the kernel has ib_uverbs")],
        _ if is_shown => vec![Finding::pass("host", "the kernel has ib_uverbs").saw("/sys/class/infiniband_verbs", "present")],
        (Some(false), Some(_)) if facts.rdma_devices().is_empty() && functions(facts).next().is_none() => {
            vec![Finding::skip("host", "ib_uverbs is not there, and neither is a device that needs it")]
        }
        (Some(false), Some(module)) => vec![missing(facts, "host", module, true)],
        _ if !facts.rdma_devices().is_empty() => vec![
            Finding::fail("host", "no device has an entry in /sys/class/infiniband_verbs")
                .saw_not("/sys/class/infiniband_verbs", "absent", "uverbs0")
                .about("ib_uverbs")
                .remedy(Action::Reload, "load ib_uverbs", &["modprobe ib_uverbs"]),
        ],
        _ => vec![Finding::skip("host", "whether the kernel has ib_uverbs cannot be seen")],
    }
}

pub(super) fn connection_manager_is_there(facts: &Facts) -> Vec<Finding> {
    if facts.in_kernel("rdma_ucm") == Some(true) || facts.host.rdma.connection_manager.expected.is_some() {
        return vec![Finding::pass("host", "the kernel has rdma_ucm")];
    }
    let has_iwarp = facts.rdma_devices().iter().any(is_iwarp);
    match facts.module("rdma_ucm") {
        Some(module) if has_iwarp && facts.in_kernel("rdma_ucm") == Some(false) => vec![missing(facts, "host", module, true)],
        _ if has_iwarp => vec![Finding::skip("host", "whether the kernel has rdma_ucm cannot be seen")],
        _ => vec![Finding::skip("host", "rdma_ucm is not there, and no device here needs it")],
    }
}

pub(super) fn drivers_are_there(facts: &Facts) -> Vec<Finding> {
    let has_devices = !facts.rdma_devices().is_empty();
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (family, _) in functions(facts) {
        for name in families::modules_of(family) {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let of_family: Vec<&PcieFunction> =
                functions(facts).filter(|(other, _)| *other == family).map(|(_, function)| function).collect();
            let works = facts.rdma_devices().iter().any(|device| family_of(device) == Some(family));
            let mut finding = match (facts.in_kernel(name), facts.module(name)) {
                (Some(true), _) => Finding::pass(name, format!("the kernel has {name}")),
                // It drives a device, so the kernel has it in some shape.
                _ if works => Finding::pass(name, format!("{family} devices are there")),
                (Some(false), Some(module)) => dated(facts, family, module, missing(facts, name, module, !has_devices)),
                _ => Finding::skip(name, format!("whether the kernel has {name} cannot be seen")),
            };
            for function in of_family {
                finding = finding.about(function.address());
            }
            findings.push(finding);
        }
    }
    findings
}

/// A driver that this kernel is too old to have: then no package of the distribution brings it.
fn dated(facts: &Facts, family: &str, module: &Module, finding: Finding) -> Finding {
    let Some(first) = DeviceModel::first_kernel(family).filter(|_| module.state == ModuleState::Absent) else { return finding };
    let Some(release) = facts.host.system.kernel_release.as_deref().filter(|release| first.is_after(release)) else { return finding };
    finding
        .saw_not(
            "/proc/sys/kernel/osrelease",
            release,
            format!("{} or newer: the first kernel with a driver for {family} ({})", first.release, first.source),
        )
        .remedy(Action::Replace, "install the vendor's driver for this kernel, or a newer kernel", &[])
}

pub(super) fn required_modules(facts: &Facts) -> Vec<Finding> {
    let judge = |name: &String| match (facts.in_kernel(name), facts.module(name)) {
        (Some(true), _) => Finding::pass(name, format!("the kernel has {name}, as the policy requires")),
        (Some(false), Some(module)) => missing(facts, name, module, true).about(name),
        _ => Finding::skip(name, format!("the policy requires {name}, and whether the kernel has it cannot be seen")),
    };
    facts.wanted.modules.iter().map(judge).collect()
}

/// PCI functions that can be RDMA devices, with their family; not those that were given to a virtual machine.
pub(in crate::checks) fn functions(facts: &Facts) -> impl Iterator<Item = (&'static str, &PcieFunction)> {
    facts.host.pcie.functions.iter().flatten().filter_map(|function| {
        let is_given_away = matches!(function.function.driver.as_deref(), Some("vfio-pci" | "uio_pci_generic" | "igb_uio" | "pci-stub"));
        if is_given_away { None } else { Some((family::family_of_function(&function.function)?, function)) }
    })
}
