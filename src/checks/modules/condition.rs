//! Whether modules fit this kernel and each other, and can be loaded.

use super::presence::is_needed;
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::facts::family_of;
use crate::host::log::Event;
use crate::host::modules::{BlockKind, Module, ModuleState, NvidiaFlavour, SymbolPresence};

pub(super) fn nothing_is_blocked(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for module in facts.modules.modules.iter().filter(|module| is_needed(facts, &module.name)) {
        let in_kernel = facts.in_kernel(&module.name);
        let Some(block) = module.blocked_by.iter().max_by_key(|block| block.kind as u8) else {
            findings.push(Finding::pass(&module.name, format!("nothing blocks {}", module.name)));
            continue;
        };
        let name = &module.name;
        let place = format!("{}:{}", block.file, block.line);
        let comment_out = command!("sed -i '{}s/^/# /' {}", block.line, block.file);
        let load = command!("modprobe {}", name);
        let by_file: &[&str] = if block.kind == BlockKind::CommandLine { &[] } else { &[&comment_out] };
        let finding = match (in_kernel, block.kind, module.state) {
            (_, _, ModuleState::BuiltIn) => Finding::pass(name, format!("{name} is part of the kernel, so a block has no effect")),
            (Some(true), BlockKind::Blacklist, _) => Finding::pass(name, format!("{name} is loaded in spite of `blacklist`")),
            (Some(true), _, _) => Finding::warn(name, format!("{name} is loaded now and will not be after the next start")).remedy(
                Action::Tune,
                format!("take {place} out"),
                by_file,
            ),
            (_, BlockKind::CommandLine, _) => Finding::fail(name, format!("{name} is kept from being loaded")).remedy(
                Action::Reboot,
                "take it off the kernel's command line, and start the host anew",
                &[],
            ),
            _ => Finding::fail(name, format!("{name} is kept from being loaded")).remedy(
                Action::Tune,
                format!("take {place} out, then load the module"),
                &[&comment_out, &load],
            ),
        };
        findings.push(finding.saw(place, &block.text));
    }
    findings
}

pub(super) fn versions_agree(facts: &Facts) -> Vec<Finding> {
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
                    .remedy(
                        Action::Reload,
                        "stop what uses it and load it anew, or start the host anew",
                        &[&command!("modprobe -r {} && modprobe {}", name, name)],
                    ),
            ),
        }
    };
    facts.modules.modules.iter().filter_map(judge).collect()
}

pub(super) fn built_for_this_kernel(facts: &Facts) -> Vec<Finding> {
    let judge = |module: &Module| {
        let name = &module.name;
        let Some(note) = module.notes.iter().find(|note| note.contains("was built for kernel")) else {
            return module.disk_path.as_ref().map(|_| Finding::pass(name, format!("{name} was built for this kernel")));
        };
        let finding = if facts.in_kernel(name) == Some(true) {
            Finding::pass(name, format!("{name} is loaded, though it was built for another kernel")).saw("modinfo -F vermagic", note)
        } else {
            Finding::warn(name, format!("{name} was built for another kernel")).saw("modinfo -F vermagic", note).remedy(
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
pub(in crate::checks) fn peer_memory_module(facts: &Facts) -> Option<&'static str> {
    ["nvidia_peermem", "nv_peer_mem"].into_iter().find(|name| facts.in_kernel(name) == Some(true))
}

pub(super) fn peer_memory_interface(facts: &Facts) -> Vec<Finding> {
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
                    .remedy(
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

pub(super) fn nothing_was_refused(facts: &Facts) -> Vec<Finding> {
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
        let command = command!("modprobe {}", name);
        findings.push(Finding::fail(&name, what).saw(source, &logged.line).remedy(
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

pub(super) fn erdma_mode(facts: &Facts) -> Vec<Finding> {
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
            Some(value) => finding.saw_not(path, value, "Y").remedy(
                Action::Reload,
                "turn compat_mode on, on both ends; this stops whatever uses the device",
                &["echo 'options erdma compat_mode=Y' > /etc/modprobe.d/erdma.conf", "rmmod erdma && modprobe erdma compat_mode=Y"],
            ),
            None => finding.saw_not(path, "absent", "Y").remedy(
                Action::Replace,
                "the kernel's own driver has no compat mode: install the vendor's driver, on both ends, or use engines that connect through rdma_cm",
                &[],
            ),
        }
    };
    devices.map(judge).collect()
}

pub(super) fn loading_is_possible(facts: &Facts) -> Vec<Finding> {
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
        .remedy(Action::Reboot, "start the host with a kernel that has these modules, or without the setting that forbids loading", &[]);
    finding.about = missing.into_iter().map(str::to_owned).collect();
    vec![finding]
}

pub(super) fn parameters_agree(facts: &Facts) -> Vec<Finding> {
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
                    .remedy(Action::Reload, "load the module anew", &[&command!("modprobe -r {} && modprobe {}", name, name)])
            });
        }
    }
    findings
}

pub(super) fn namespaces_are_shared(facts: &Facts) -> Vec<Finding> {
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
            vec![Finding::graded(is_hidden && (is_elsewhere || facts.is_container()), "host", title).saw_not(path, "N", "Y").remedy(
                Action::Tune,
                "on the host, while no other network namespace exists, share them; or let a CNI plugin move a device to each container",
                &["rdma system set netns shared", "echo 'options ib_core netns_mode=1' > /etc/modprobe.d/ib_core.conf"],
            )]
        }
    }
}

pub(super) fn nothing_hangs(facts: &Facts) -> Vec<Finding> {
    let is_stuck = |module: &&Module| module.notes.iter().any(|note| note.contains("still being loaded or removed"));
    let stuck: Vec<Finding> = facts
        .modules
        .modules
        .iter()
        .filter(is_stuck)
        .map(|module| {
            Finding::fail(&module.name, format!("{} is neither loaded nor removed for good", module.name))
                .saw_not(format!("/sys/module/{}/initstate", module.name), "not live", "live")
                .remedy(Action::Reboot, "the kernel's log says what it waits for; mostly only a new start helps", &["dmesg | tail -50"])
        })
        .collect();
    if stuck.is_empty() { vec![Finding::pass("host", "no module hangs")] } else { stuck }
}
