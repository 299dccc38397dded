//! 02: kernel modules.

use super::facts::{family_of, is_iwarp};
use super::{Action, Category, Check, Facts, Finding, Level};
use crate::host::family;
use crate::host::log::Event;
use crate::host::modules::{BlockKind, Module, ModuleState, NvidiaFlavour, SymbolPresence};
use crate::host::pcie::PcieFunction;

/// What RDMA devices need whichever they are.
const CORE: &[&str] = &["ib_core", "ib_uverbs"];

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "RD-0201",
        title: "the kernel has ib_core",
        category: Category::Modules,
        level: Level::Quick,
        why: "ib_core is the kernel's RDMA core. Without it no driver can offer an RDMA device.",
        confirm: "ls /sys/class/infiniband; lsmod | grep ib_core; grep ib_core /lib/modules/$(uname -r)/modules.builtin",
        mend: "Load it (modprobe ib_core); where the kernel's package lacks it, install the package of further modules or the vendor's driver.",
        sources: &["Linux, drivers/infiniband/core/device.c"],
        depends_on: &["RD-0205", "RD-0211", "RD-0209"],
        run: core_is_there,
    },
    Check {
        id: "RD-0202",
        title: "the kernel has ib_uverbs",
        category: Category::Modules,
        level: Level::Quick,
        why: "ib_uverbs makes /dev/infiniband/uverbsN, which libibverbs opens. Without it devices are in sysfs and no program can use them.",
        confirm: "ls /sys/class/infiniband_verbs /dev/infiniband",
        mend: "modprobe ib_uverbs, and name it in /etc/modules-load.d so that it is there after the next start.",
        sources: &["Linux, drivers/infiniband/core/uverbs_main.c", "rdma-core, kernel-boot/modules/rdma.conf"],
        depends_on: &["RD-0201", "RD-0205", "RD-0211", "RD-0209"],
        run: uverbs_is_there,
    },
    Check {
        id: "RD-0203",
        title: "the kernel has rdma_ucm where devices need it",
        category: Category::Modules,
        level: Level::Quick,
        why: "rdma_ucm makes /dev/infiniband/rdma_cm. iWARP queue pairs can be connected in no other way.",
        confirm: "lsmod | grep rdma_ucm; ls -l /dev/infiniband/rdma_cm",
        mend: "modprobe rdma_ucm",
        sources: &["Linux, drivers/infiniband/core/ucma.c", "Linux, drivers/infiniband/core/iwcm.c"],
        depends_on: &["RD-0205", "RD-0211"],
        run: connection_manager_is_there,
    },
    Check {
        id: "RD-0204",
        title: "the drivers of all RDMA functions are in the kernel",
        category: Category::Modules,
        level: Level::Quick,
        why: "A NIC on the PCI bus becomes an RDMA device only when its driver's RDMA part is there (mlx5_ib beside mlx5_core, bnxt_re beside bnxt_en).",
        confirm: "lspci -nnk; lsmod; modinfo NAME",
        mend: "Load the module. If it is not on disk, install the kernel's package of further modules (Ubuntu: linux-modules-extra-$(uname -r)) or the vendor's driver.",
        sources: &["Linux, drivers/net/ethernet/mellanox/mlx5/core/dev.c", "Linux, drivers/infiniband/hw"],
        depends_on: &["RD-0201", "RD-0205", "RD-0211", "RD-0209"],
        run: drivers_are_there,
    },
    Check {
        id: "RD-0205",
        title: "no module that RDMA needs is blocked",
        category: Category::Modules,
        level: Level::Quick,
        why: "`install NAME /bin/false`, `blacklist NAME` and module_blacklist= keep a module out without any message at start.",
        confirm: "modprobe --showconfig | grep -E '^(blacklist|install) '; cat /proc/cmdline",
        mend: "Remove the line that the evidence names, then load the module.",
        sources: &["modprobe.d(5)", "Linux, Documentation/admin-guide/kernel-parameters.txt, module_blacklist"],
        depends_on: &[],
        run: nothing_is_blocked,
    },
    Check {
        id: "RD-0206",
        title: "loaded modules are those on disk",
        category: Category::Modules,
        level: Level::Quick,
        why: "After an upgrade the old module runs until it is loaded anew: what is installed is not what is in force, and modules loaded later may not fit it.",
        confirm: "cat /sys/module/NAME/srcversion; modinfo -F srcversion NAME",
        mend: "Load the module anew, or start the host anew.",
        sources: &["ROCm/mori, tools/env_check.sh, report_driver_version"],
        depends_on: &[],
        run: versions_agree,
    },
    Check {
        id: "RD-0207",
        title: "modules on disk were built for the running kernel",
        category: Category::Modules,
        level: Level::Quick,
        why: "A module built for another kernel is mostly refused when it is loaded (`disagrees about version of symbol`, `invalid module format`).",
        confirm: "modinfo -F vermagic NAME; uname -r",
        mend: "Build it anew for this kernel (dkms autoinstall), or install the package for this kernel.",
        sources: &["Linux, kernel/module/version.c"],
        depends_on: &[],
        run: built_for_this_kernel,
    },
    Check {
        id: "RD-0208",
        title: "nvidia_peermem has the interface that it needs",
        category: Category::Modules,
        level: Level::Quick,
        why: "nvidia_peermem registers with ib_register_peer_memory_client, which only the ib_core of MLNX_OFED and DOCA has. Beside the \
              kernel's own ib_core it does nothing or is refused with `Invalid argument`.",
        confirm: "grep ib_register_peer_memory_client /proc/kallsyms; modprobe nvidia_peermem",
        mend: "Install DOCA-OFED and reinstall the GPU driver after it, or use dma-buf with the open GPU kernel modules instead.",
        sources: &[
            "Mellanox/nv_peer_memory issues 79, 84, 116",
            "NVIDIA/gpu-operator issue 2868",
            "no file of Linux 6.1 and 6.12 has the symbol",
        ],
        depends_on: &["RD-0201", "RD-0209"],
        run: peer_memory_interface,
    },
    Check {
        id: "RD-0209",
        title: "the kernel refused no RDMA module",
        category: Category::Modules,
        level: Level::Quick,
        why: "`Unknown symbol` and signature errors in the kernel's log are the only trace of a module that could not be loaded, such as a \
              driver built against OFED's headers while the kernel's own ib_core runs.",
        confirm: "dmesg | grep -iE 'unknown symbol|disagrees about version|module verification|Loading of .* is rejected'",
        mend: "Build the module anew against the ib_core that runs, or load the ib_core that it was built for; sign it where secure boot is on.",
        sources: &["Linux, kernel/module/main.c", "eRDMA users: Unknown symbol ib_umem_get_peer"],
        depends_on: &[],
        run: nothing_was_refused,
    },
    Check {
        id: "RD-0210",
        title: "eRDMA devices connect as engines expect",
        category: Category::Modules,
        level: Level::Quick,
        why: "eRDMA is an iWARP device: only rdma_cm connects its queue pairs. Engines that walk the states themselves (DLSlime, Mooncake, \
              NCCL) need the vendor driver's compat_mode, at both ends; the kernel's own driver has no such mode.",
        confirm: "cat /sys/module/erdma/parameters/compat_mode; cat /sys/class/infiniband/erdma_0/node_type",
        mend: "Set compat_mode=Y in /etc/modprobe.d and load the module anew, on both ends.",
        sources: &["kvcache-ai/Mooncake issue 53", "Linux, drivers/infiniband/hw/erdma/erdma_qp.c"],
        depends_on: &[],
        run: erdma_mode,
    },
    Check {
        id: "RD-0211",
        title: "modules can be loaded",
        category: Category::Modules,
        level: Level::Quick,
        why: "With kernel.modules_disabled=1, nomodule, or a kernel without loadable modules, nothing that is missing can be added while it runs.",
        confirm: "sysctl kernel.modules_disabled; cat /proc/cmdline; zgrep CONFIG_MODULES= /proc/config.gz",
        mend: "Start the host anew without the setting, or with a kernel that has what is missing.",
        sources: &["Linux, Documentation/admin-guide/sysctl/kernel.rst, modules_disabled"],
        depends_on: &[],
        run: loading_is_possible,
    },
    Check {
        id: "RD-0212",
        title: "module parameters in force are the configured ones",
        category: Category::Modules,
        level: Level::Quick,
        why: "A line in /etc/modprobe.d takes effect only when the module is loaded: one that was changed since is not in force yet.",
        confirm: "grep . /sys/module/NAME/parameters/*; modprobe --showconfig | grep '^options NAME'",
        mend: "Load the module anew, or rebuild the initial RAM disk where the module is loaded from there, and start anew.",
        sources: &["modprobe.d(5)"],
        depends_on: &[],
        run: parameters_agree,
    },
    Check {
        id: "RD-0213",
        title: "RDMA devices are visible in all network namespaces",
        category: Category::Modules,
        level: Level::Quick,
        why: "With ib_core netns_mode=0 (exclusive) a device is seen only in the network namespace that it was moved to, so containers see none \
              unless a CNI plugin moves one there.",
        confirm: "rdma system show",
        mend: "`rdma system set netns shared` while no other namespace exists, or netns_mode=1 for ib_core in /etc/modprobe.d; or let the CNI \
               plugin move devices, and suppress this.",
        sources: &["Linux, drivers/infiniband/core/device.c, netns_mode", "Mellanox/k8s-rdma-shared-dev-plugin issues 84, 87"],
        depends_on: &[],
        run: namespaces_are_shared,
    },
    Check {
        id: "RD-0214",
        title: "the kernel has the modules that the policy requires",
        category: Category::Modules,
        level: Level::Quick,
        why: "The policy says that this host needs them.",
        confirm: "rdmadoctor modules NAME",
        mend: "Load or install the module.",
        sources: &["the policy file"],
        depends_on: &["RD-0201", "RD-0202", "RD-0204", "RD-0205", "RD-0211"],
        run: required_modules,
    },
    Check {
        id: "RD-0215",
        title: "no module hangs while it is loaded or removed",
        category: Category::Modules,
        level: Level::Quick,
        why: "A module that stays `coming` or `going` waits for a device or for its users; whatever needs it waits too.",
        confirm: "cat /sys/module/NAME/initstate; dmesg | tail",
        mend: "Mostly only a new start of the host helps; the kernel's log says what it waits for.",
        sources: &["Linux, kernel/module/main.c, module_state"],
        depends_on: &["RD-1110"],
        run: nothing_hangs,
    },
];

/// Whether a module is of those that RDMA devices here need.
fn is_needed(facts: &Facts, name: &str) -> bool {
    CORE.contains(&name) || functions(facts).any(|(family, _)| family::modules_of(family).contains(&name))
}

/// PCI functions that can be RDMA devices, with their family; not those that were given to a virtual machine.
pub(super) fn functions(facts: &Facts) -> impl Iterator<Item = (&'static str, &PcieFunction)> {
    facts.host.pcie.functions.iter().flatten().filter_map(|function| {
        let is_given_away = matches!(function.function.driver.as_deref(), Some("vfio-pci" | "uio_pci_generic" | "igb_uio" | "pci-stub"));
        if is_given_away { None } else { Some((family::family_of_function(&function.function)?, function)) }
    })
}

/// What is missing, with the step that adds it.
fn missing(subject: &str, module: &Module, is_severe: bool) -> Finding {
    let name = &module.name;
    let source = module.source.clone().unwrap_or_else(|| "/proc/modules, modules.dep, modules.builtin".to_owned());
    match module.state {
        ModuleState::OnDisk => Finding::graded(is_severe, subject, format!("{name} is on disk and not loaded"))
            .saw_not(source, "on disk, not loaded", "loaded")
            .mend(Action::Reload, "load it, and name it in /etc/modules-load.d to keep it", &[&format!("modprobe {name}")]),
        ModuleState::Absent => Finding::graded(is_severe, subject, format!("{name} is neither in the kernel nor on disk"))
            .saw_not(source, "absent", "loaded or built in")
            .mend(
                Action::Replace,
                "install the package of this kernel's further modules, or the vendor's driver; a kernel image that lacks it must be exchanged",
                &["apt-get install linux-modules-extra-$(uname -r)"],
            ),
        _ => Finding::graded(is_severe, subject, format!("{name} is not in the kernel"))
            .saw_not(source, "not loaded", "loaded or built in")
            .mend(Action::Reload, "load it on the host (not in the container)", &[&format!("modprobe {name}")]),
    }
    .about(name)
}

fn core_is_there(facts: &Facts) -> Vec<Finding> {
    let shown = facts.host.rdma.devices.is_some();
    let is_sysfs_there = facts.host.pcie.functions.is_some() || facts.host.net.interfaces.is_some();
    match (facts.in_kernel("ib_core"), facts.module("ib_core")) {
        (Some(true), _) => vec![Finding::pass("host", "the kernel has ib_core")],
        _ if shown => vec![Finding::pass("host", "the kernel has ib_core").saw("/sys/class/infiniband", "present")],
        (Some(false), Some(module)) => vec![missing("host", module, true)],
        (None, Some(_)) if is_sysfs_there => vec![
            Finding::fail("host", "the kernel has no ib_core").saw_not("/sys/class/infiniband", "absent", "present").about("ib_core").mend(
                Action::Reload,
                "load it",
                &["modprobe ib_core"],
            ),
        ],
        _ => vec![Finding::skip("host", "neither the list of modules nor sysfs can be read")],
    }
}

fn uverbs_is_there(facts: &Facts) -> Vec<Finding> {
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
        (Some(false), Some(module)) => vec![missing("host", module, true)],
        _ if !facts.rdma_devices().is_empty() => vec![
            Finding::fail("host", "no device has an entry in /sys/class/infiniband_verbs")
                .saw_not("/sys/class/infiniband_verbs", "absent", "uverbs0")
                .about("ib_uverbs")
                .mend(Action::Reload, "load ib_uverbs", &["modprobe ib_uverbs"]),
        ],
        _ => vec![Finding::skip("host", "whether the kernel has ib_uverbs cannot be seen")],
    }
}

fn connection_manager_is_there(facts: &Facts) -> Vec<Finding> {
    if facts.in_kernel("rdma_ucm") == Some(true) || facts.host.rdma.connection_manager.expected.is_some() {
        return vec![Finding::pass("host", "the kernel has rdma_ucm")];
    }
    let has_iwarp = facts.rdma_devices().iter().any(is_iwarp);
    match facts.module("rdma_ucm") {
        Some(module) if has_iwarp && facts.in_kernel("rdma_ucm") == Some(false) => vec![missing("host", module, true)],
        _ if has_iwarp => vec![Finding::skip("host", "whether the kernel has rdma_ucm cannot be seen")],
        _ => vec![Finding::skip("host", "rdma_ucm is not there, and no device here needs it")],
    }
}

fn drivers_are_there(facts: &Facts) -> Vec<Finding> {
    let has_devices = !facts.rdma_devices().is_empty();
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (family, _) in functions(facts) {
        for name in family::modules_of(family) {
            if seen.contains(name) {
                continue;
            }
            seen.push(name);
            let of_family: Vec<&PcieFunction> =
                functions(facts).filter(|(other, _)| *other == family).map(|(_, function)| function).collect();
            let works = facts.rdma_devices().iter().any(|device| family_of(device) == Some(family));
            let mut finding = match (facts.in_kernel(name), facts.module(name)) {
                (Some(true), _) => Finding::pass(*name, format!("the kernel has {name}")),
                // It drives a device, so the kernel has it in some shape.
                _ if works => Finding::pass(*name, format!("{family} devices are there")),
                (Some(false), Some(module)) => missing(name, module, !has_devices),
                _ => Finding::skip(*name, format!("whether the kernel has {name} cannot be seen")),
            };
            for function in of_family {
                finding = finding.about(function.address());
            }
            findings.push(finding);
        }
    }
    findings
}

fn nothing_is_blocked(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for module in facts.modules.modules.iter().filter(|module| is_needed(facts, &module.name)) {
        let in_kernel = facts.in_kernel(&module.name);
        let Some(block) = module.blocked_by.iter().max_by_key(|block| block.kind as u8) else {
            findings.push(Finding::pass(&module.name, format!("nothing blocks {}", module.name)));
            continue;
        };
        let name = &module.name;
        let place = format!("{}:{}", block.file, block.line);
        let command = format!("modprobe {name}");
        let finding = match (in_kernel, block.kind, module.state) {
            (_, _, ModuleState::BuiltIn) => Finding::pass(name, format!("{name} is part of the kernel, so a block has no effect")),
            (Some(true), BlockKind::NotByDevice, _) => Finding::pass(name, format!("{name} is loaded in spite of `blacklist`")),
            (Some(true), _, _) => Finding::warn(name, format!("{name} is loaded now and will not be after the next start")).mend(
                Action::Tune,
                format!("remove {place}"),
                &[],
            ),
            _ => Finding::fail(name, format!("{name} is kept from being loaded")).mend(
                Action::Tune,
                format!("remove {place}, then load the module"),
                &[&command],
            ),
        };
        findings.push(finding.saw(place, &block.text));
    }
    findings
}

fn versions_agree(facts: &Facts) -> Vec<Finding> {
    let text = |version: &Option<crate::host::modules::ModuleVersion>| {
        let version = version.clone().unwrap_or_default();
        [version.version, version.srcversion.map(|sum| format!("srcversion {sum}"))].into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let judge = |module: &Module| {
        let name = &module.name;
        match module.version_differs? {
            false => Some(Finding::pass(name, format!("{name} is the one on disk"))),
            true => Some(
                Finding::warn(name, format!("another version of {name} is on disk than is loaded"))
                    .saw_not(format!("/sys/module/{name}"), text(&module.loaded_version), text(&module.disk_version))
                    .saw(module.disk_path.clone().unwrap_or_default(), text(&module.disk_version))
                    .mend(
                        Action::Reload,
                        "stop what uses it and load it anew, or start the host anew",
                        &[&format!("modprobe -r {name} && modprobe {name}")],
                    ),
            ),
        }
    };
    facts.modules.modules.iter().filter_map(judge).collect()
}

fn built_for_this_kernel(facts: &Facts) -> Vec<Finding> {
    let judge = |module: &Module| {
        let name = &module.name;
        let Some(note) = module.notes.iter().find(|note| note.contains("was built for kernel")) else {
            return module.disk_path.as_ref().map(|_| Finding::pass(name, format!("{name} was built for this kernel")));
        };
        let finding = if facts.in_kernel(name) == Some(true) {
            Finding::pass(name, format!("{name} is loaded, though it was built for another kernel")).saw("modinfo -F vermagic", note)
        } else {
            Finding::warn(name, format!("{name} was built for another kernel")).saw("modinfo -F vermagic", note).mend(
                Action::Replace,
                "build or install it for this kernel",
                &["dkms autoinstall"],
            )
        };
        Some(finding)
    };
    facts.modules.modules.iter().filter_map(judge).collect()
}

/// The peer-memory module that is loaded.
pub(super) fn peer_memory_module(facts: &Facts) -> Option<&'static str> {
    ["nvidia_peermem", "nv_peer_mem"].into_iter().find(|name| facts.in_kernel(name) == Some(true))
}

fn peer_memory_interface(facts: &Facts) -> Vec<Finding> {
    let Some(name) = peer_memory_module(facts) else {
        return vec![Finding::skip("host", "neither nvidia_peermem nor nv_peer_mem is loaded")];
    };
    match &facts.modules.peer_memory_api {
        SymbolPresence::Present { .. } => vec![Finding::pass(name, "ib_core takes peer-memory clients")],
        SymbolPresence::Unreadable { why } => {
            vec![Finding::skip(name, format!("whether ib_core takes peer-memory clients cannot be seen: {why}"))]
        }
        SymbolPresence::Absent => {
            let is_open = facts.modules.nvidia.as_ref().is_some_and(|nvidia| nvidia.flavour == Some(NvidiaFlavour::Open));
            vec![
                Finding::graded(!is_open, name, format!("{name} is loaded, and ib_core takes no peer-memory clients"))
                    .saw_not("/proc/kallsyms", "no ib_register_peer_memory_client", "ib_register_peer_memory_client")
                    .mend(
                        Action::Replace,
                        "install DOCA-OFED (or MLNX_OFED), whose ib_core has the interface, or let engines use dma-buf",
                        &[],
                    ),
            ]
        }
    }
}

/// Modules whose refusal matters here.
fn is_rdma_module(facts: &Facts, name: &str) -> bool {
    let prefixes = ["ib_", "rdma_", "iw_", "mlx4_", "mlx5_", "nvidia", "nv_peer_mem"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || facts.module(name).is_some()
}

fn nothing_was_refused(facts: &Facts) -> Vec<Finding> {
    let log = &facts.host.log;
    let Some(source) = &log.source else {
        return vec![Finding::skip("host", "the kernel's log cannot be read here")];
    };
    let mut findings = Vec::new();
    for logged in &log.events {
        let (name, symbol) = match &logged.event {
            Event::UnknownSymbol { module, symbol, .. } => (module.replace('-', "_"), Some(symbol)),
            Event::ModuleRefused { module: Some(module) } => (module.replace('-', "_"), None),
            _ => continue,
        };
        // What is loaded by now was refused earlier only.
        if !is_rdma_module(facts, &name)
            || facts.in_kernel(&name) == Some(true)
            || findings.iter().any(|finding: &Finding| finding.subject == name)
        {
            continue;
        }
        let what = symbol.map_or_else(
            || format!("the kernel refused {name} for its signature"),
            |symbol| format!("{name} could not be loaded: it needs {symbol}, which the running modules lack or have in another version"),
        );
        let command = format!("modprobe {name}");
        findings.push(Finding::fail(&name, what).saw(source, &logged.line).mend(
            Action::Replace,
            if symbol.is_some() {
                "build or install it anew for the ib_core that runs"
            } else {
                "sign it with a key that this machine trusts, or turn secure boot off"
            },
            &["dkms autoinstall", &command],
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::pass("host", "the log tells of no refused module").saw(source, format!("{} lines", log.lines)));
    }
    findings
}

fn erdma_mode(facts: &Facts) -> Vec<Finding> {
    let devices = facts.rdma_devices().iter().filter(|device| family_of(device) == Some("erdma"));
    let parameter = facts.module("erdma").and_then(|module| module.parameters.iter().find(|parameter| parameter.name == "compat_mode"));
    let value = parameter.and_then(|parameter| parameter.value.as_deref());
    let wanting: Vec<String> = facts
        .wanted
        .engines
        .iter()
        .filter(|engine| engine.connects_itself)
        .map(|engine| format!("{}@{}", engine.name, engine.version))
        .collect();
    let path = "/sys/module/erdma/parameters/compat_mode";
    let judge = |device: &crate::host::rdma::SysfsDevice| {
        let name = &device.name;
        if matches!(value, Some("Y" | "y" | "1")) {
            return Finding::pass(name, "compat mode is on: engines can connect queue pairs by themselves").saw(path, "Y");
        }
        if facts.in_kernel("erdma") != Some(true) && value.is_none() {
            return Finding::skip(name, "the erdma module's parameters cannot be seen");
        }
        let who = if wanting.is_empty() { "engines that connect by themselves".to_owned() } else { wanting.join(", ") };
        let finding = Finding::graded(
            !wanting.is_empty(),
            name,
            format!("it is in standard (iWARP) mode: only rdma_cm connects its queue pairs, {who} cannot"),
        );
        match value {
            Some(value) => finding.saw_not(path, value, "Y").mend(
                Action::Reload,
                "turn compat_mode on, on both ends; this stops whatever uses the device",
                &["echo 'options erdma compat_mode=Y' > /etc/modprobe.d/erdma.conf", "rmmod erdma && modprobe erdma compat_mode=Y"],
            ),
            None => finding.saw_not(path, "absent", "Y").mend(
                Action::Replace,
                "the kernel's own driver has no compat mode: install the vendor's driver, on both ends, or use engines that connect through rdma_cm",
                &[],
            ),
        }
    };
    devices.map(judge).collect()
}

fn loading_is_possible(facts: &Facts) -> Vec<Finding> {
    let Some(why) = &facts.modules.loading_disabled_by else {
        return vec![Finding::pass("host", "nothing forbids loading modules")];
    };
    let missing: Vec<&str> = facts
        .modules
        .modules
        .iter()
        .filter(|module| is_needed(facts, &module.name) && facts.in_kernel(&module.name) == Some(false))
        .map(|module| module.name.as_str())
        .collect();
    if missing.is_empty() {
        return vec![Finding::pass("host", "no module can be loaded, and none that is needed is missing").saw("kernel", why)];
    }
    let mut finding = Finding::fail("host", format!("no module can be loaded, and these are missing: {}", missing.join(", ")))
        .saw("kernel", why)
        .mend(Action::Reboot, "start the host with a kernel that has these modules, or without the setting that forbids loading", &[]);
    finding.about = missing.into_iter().map(str::to_owned).collect();
    vec![finding]
}

fn parameters_agree(facts: &Facts) -> Vec<Finding> {
    let normal = |value: &str| match value {
        "1" | "y" => "Y".to_owned(),
        "0" | "n" => "N".to_owned(),
        other => other.to_owned(),
    };
    let mut findings = Vec::new();
    for module in &facts.modules.modules {
        for parameter in &module.parameters {
            let (Some(now), Some(next)) = (&parameter.value, parameter.configured.last()) else { continue };
            // A flag without a value means yes.
            let configured = next.value.clone().unwrap_or_else(|| "Y".to_owned());
            let subject = format!("{}/{}", module.name, parameter.name);
            findings.push(if normal(now) == normal(&configured) {
                Finding::pass(subject, format!("{} of {} is as configured", parameter.name, module.name))
            } else {
                let name = &module.name;
                Finding::warn(subject, format!("{} of {name} is configured as {configured} and is {now}", parameter.name))
                    .saw_not(format!("/sys/module/{name}/parameters/{}", parameter.name), now, configured)
                    .saw(format!("{}:{}", next.file, next.line), next.value.clone().unwrap_or_default())
                    .mend(Action::Reload, "load the module anew", &[&format!("modprobe -r {name} && modprobe {name}")])
            });
        }
    }
    findings
}

fn namespaces_are_shared(facts: &Facts) -> Vec<Finding> {
    let path = "/sys/module/ib_core/parameters/netns_mode";
    match facts.host.verbs_files.devices_shared_between_namespaces {
        None => vec![Finding::skip("host", "ib_core does not say how it treats network namespaces")],
        Some(true) => vec![Finding::pass("host", "all network namespaces see all RDMA devices").saw(path, "Y")],
        Some(false) => {
            let is_hidden = facts.rdma_devices().is_empty();
            // Nodes are the same in all network namespaces: one without a device here is one of another namespace.
            let is_elsewhere = facts.host.verbs_files.nodes.iter().flatten().any(|node| node.path.contains("uverbs"));
            let title = if is_hidden {
                "RDMA devices are exclusive to network namespaces, and none is in this one"
            } else {
                "RDMA devices are exclusive to network namespaces: containers see none that is not moved to them"
            };
            vec![Finding::graded(is_hidden && (is_elsewhere || facts.is_container()), "host", title).saw_not(path, "N", "Y").mend(
                Action::Tune,
                "on the host, while no other network namespace exists, share them; or let a CNI plugin move a device to each container",
                &["rdma system set netns shared", "echo 'options ib_core netns_mode=1' > /etc/modprobe.d/ib_core.conf"],
            )]
        }
    }
}

fn required_modules(facts: &Facts) -> Vec<Finding> {
    let judge = |name: &String| match (facts.in_kernel(name), facts.module(name)) {
        (Some(true), _) => Finding::pass(name, format!("the kernel has {name}, as the policy requires")),
        (Some(false), Some(module)) => missing(name, module, true).about(name),
        _ => Finding::skip(name, format!("the policy requires {name}, and whether the kernel has it cannot be seen")),
    };
    facts.wanted.modules.iter().map(judge).collect()
}

fn nothing_hangs(facts: &Facts) -> Vec<Finding> {
    let is_stuck = |module: &&Module| module.notes.iter().any(|note| note.contains("still being loaded or removed"));
    let stuck: Vec<Finding> = facts
        .modules
        .modules
        .iter()
        .filter(is_stuck)
        .map(|module| {
            Finding::fail(&module.name, format!("{} is neither loaded nor removed for good", module.name))
                .saw_not(format!("/sys/module/{}/initstate", module.name), "not live", "live")
                .mend(Action::Reboot, "the kernel's log says what it waits for; mostly only a new start helps", &["dmesg | tail -50"])
        })
        .collect();
    if stuck.is_empty() { vec![Finding::pass("host", "no module hangs")] } else { stuck }
}
