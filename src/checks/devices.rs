//! 03: devices and ports.

use rdmadoctor_types::PortState;

use super::Source::{Limits, Modules, Net, Pcie, Rdma, Verbs};
use super::{Action, Check, Facts, Finding, modules, page};
use crate::facts::{family_of, is_active, is_infiniband, is_iwarp};
use crate::host::families;
use crate::host::modules::ModuleState;
use crate::host::net::NetInterface;
use crate::host::rdma::{DeviceNode, SysfsDevice, SysfsPort};
use crate::units::gigabits;

pub(super) const CHECKS: &[Check] = &[
    Check {
        page: page("RD-0301"),
        needs: &[Rdma, Pcie, Net, Limits, Modules],
        depends_on: &["RD-0201", "RD-0204", "RD-0205", "RD-0209", "RD-0211", "RD-0213", "RD-0903"],
        run: there_is_a_device,
    },
    Check {
        page: page("RD-0302"),
        needs: &[Rdma, Pcie],
        depends_on: &["RD-0204", "RD-0201", "RD-0211", "RD-0213", "RD-0809", "RD-1110"],
        run: functions_are_devices,
    },
    Check { page: page("RD-0303"), needs: &[Rdma, Verbs], depends_on: &["RD-0202"], run: uverbs_entries },
    Check { page: page("RD-0304"), needs: &[Rdma, Limits], depends_on: &["RD-0901", "RD-0303"], run: nodes_are_there },
    Check { page: page("RD-0305"), needs: &[Rdma, Limits], depends_on: &["RD-0304"], run: nodes_are_permitted },
    Check {
        page: page("RD-0306"),
        needs: &[Rdma, Limits, Verbs],
        depends_on: &[
            "RD-0101", "RD-0103", "RD-0104", "RD-0105", "RD-0106", "RD-0108", "RD-0109", "RD-0303", "RD-0304", "RD-0305", "RD-0213",
        ],
        run: verbs_sees_them,
    },
    Check { page: page("RD-0307"), needs: &[Rdma], depends_on: &["RD-0308", "RD-0309", "RD-0410", "RD-0302"], run: ports_are_active },
    Check { page: page("RD-0308"), needs: &[Rdma, Net], depends_on: &[], run: interfaces_are_up },
    Check { page: page("RD-0309"), needs: &[Rdma, Net], depends_on: &["RD-0308", "RD-1113"], run: interfaces_have_carrier },
    Check { page: page("RD-0310"), needs: &[Rdma], depends_on: &["RD-0203", "RD-0901"], run: connection_manager_node },
    Check { page: page("RD-0311"), needs: &[Rdma, Net], depends_on: &[], run: bonds_are_followed },
    Check { page: page("RD-0312"), needs: &[Rdma], depends_on: &[], run: virtual_functions },
    Check { page: page("RD-0313"), needs: &[Rdma], depends_on: &["RD-0301", "RD-0302", "RD-0307", "RD-0204"], run: required_devices },
    Check { page: page("RD-0314"), needs: &[Rdma], depends_on: &["RD-1101", "RD-1113"], run: rates_agree },
    Check { page: page("RD-0315"), needs: &[Rdma], depends_on: &[], run: firmware_agrees },
];

pub(super) fn port_name(device: &SysfsDevice, port: &SysfsPort) -> String {
    format!("{}/{}", device.name, port.port)
}

/// Whether some port works, so that one that does not is no total loss.
pub(super) fn some_port_is_active(facts: &Facts) -> bool {
    facts.ports().any(|(_, port)| is_active(port))
}

fn there_is_a_device(facts: &Facts) -> Vec<Finding> {
    let devices = facts.rdma_devices();
    if devices.is_empty() {
        let state = if facts.host.rdma.devices.is_none() { "absent" } else { "empty" };
        let mut finding = Finding::fail("host", "there is no RDMA device").saw_not("/sys/class/infiniband", state, "a device");
        if facts.is_container() {
            return vec![finding.remedy(Action::Tune, "pass the host's devices in", &["docker run --device=/dev/infiniband …"])];
        }
        if modules::functions(facts).next().is_some() {
            return vec![finding.remedy(
                Action::Reload,
                "have the drivers offer the RDMA functions that are there: see what this follows from",
                &["rdmadoctor modules"],
            )];
        }
        if facts.host.pcie.functions.is_some() {
            finding = finding.saw("/sys/bus/pci/devices", "no function of a known RDMA family");
        }
        let command = software_device(facts);
        return vec![finding.remedy(
            Action::Replace,
            "put in an RDMA device; to try software without one, make a software device, which is slow",
            &command.iter().map(String::as_str).collect::<Vec<_>>(),
        )];
    }
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    vec![Finding::pass("host", format!("RDMA devices: {}", names.join(", "))).saw("/sys/class/infiniband", names.join(" "))]
}

/// The command that makes a Soft-RoCE device on an interface that is up, on one with hardware if there is one.
fn software_device(facts: &Facts) -> Option<String> {
    if facts.module("rdma_rxe").is_some_and(|module| module.state == ModuleState::Absent) {
        return None;
    }
    // Ethernet; a bridge or bond is told by its kind.
    let fits = |interface: &&NetInterface| {
        interface.link_type == Some(1) && interface.kind.is_none() && interface.is_up == Some(true) && interface.has_carrier == Some(true)
    };
    let interface = facts.host.net.interfaces.iter().flatten().filter(fits).min_by_key(|interface| interface.is_virtual)?;
    Some(command!("rdma link add rxe0 type rxe netdev {}", interface.name))
}

fn functions_are_devices(facts: &Facts) -> Vec<Finding> {
    let has_devices = !facts.rdma_devices().is_empty();
    let judge = |(family, function): (&'static str, &crate::host::pcie::PcieFunction)| {
        let address = function.address();
        let device = facts.rdma_devices().iter().find(|device| device.pci.as_ref().is_some_and(|pci| pci.address == address));
        match device {
            Some(device) => Finding::pass(address, format!("it is {}", device.name)),
            // mlx5 makes one RDMA device of the ports of a bond, and representors have none.
            None if facts.rdma_devices().iter().any(|device| family_of(device) == Some(family) && device.name.contains("bond")) => {
                Finding::skip(address, "a bonded device of this family is there, which may be this function's")
            }
            None => Finding::graded(!has_devices, address, format!("this {family} function is no RDMA device"))
                .saw("driver", function.function.driver.clone().unwrap_or_else(|| "none is bound".to_owned()))
                .saw_not(format!("/sys/bus/pci/devices/{address}/infiniband"), "absent", "a device")
                .about(family)
                .remedy(
                    Action::Reload,
                    "load the RDMA part of its driver; the kernel's log says why a driver gave up",
                    &["rdmadoctor modules", &command!("dmesg | grep {}", address)],
                ),
        }
    };
    modules::functions(facts).map(judge).collect()
}

fn uverbs_entries(facts: &Facts) -> Vec<Finding> {
    let judge = |device: &SysfsDevice| match &device.uverbs {
        Some(uverbs) => Finding::pass(&device.name, format!("it is {}", uverbs.name)),
        None if facts.verbs_device(&device.name).is_some() => Finding::pass(&device.name, "libibverbs lists it"),
        None => Finding::fail(&device.name, "it has no entry in /sys/class/infiniband_verbs")
            .saw_not("/sys/class/infiniband_verbs", "no entry for it", "uverbsN")
            .remedy(Action::Reload, "load ib_uverbs", &["modprobe ib_uverbs"]),
    };
    facts.rdma_devices().iter().map(judge).collect()
}

/// Whether a container was given some devices and not others, on purpose as it seems.
fn is_partial_container(facts: &Facts) -> bool {
    let has_node = |device: &SysfsDevice| device.uverbs.as_ref().is_some_and(|uverbs| uverbs.node.is_right_device);
    facts.is_container() && facts.rdma_devices().iter().any(has_node)
}

fn nodes_are_there(facts: &Facts) -> Vec<Finding> {
    let is_partial = is_partial_container(facts);
    let judge = |device: &SysfsDevice| {
        let Some(uverbs) = &device.uverbs else {
            return Finding::skip(&device.name, "it has no uverbs entry, so no node");
        };
        let node = &uverbs.node;
        let expected = node.expected.clone().unwrap_or_else(|| "a character device".to_owned());
        match (node.is_right_device, &node.found) {
            (true, _) => Finding::pass(&device.name, format!("{} is there", node.path)),
            (false, None) if is_partial => {
                Finding::skip(&device.name, format!("{} was not given to this container, while others were", node.path))
            }
            (false, found) => {
                let state = if found.is_some() { "is another device" } else { "is missing" };
                let finding =
                    Finding::fail(&device.name, format!("{} {state}", node.path)).saw_not(&node.path, state, format!("device {expected}"));
                if facts.is_container() {
                    finding.remedy(Action::Tune, "pass the node to the container", &["docker run --device=/dev/infiniband …"])
                } else {
                    finding.remedy(
                        Action::Tune,
                        "make it: the kernel does so only when the device appears",
                        &remake(node).iter().map(String::as_str).collect::<Vec<_>>(),
                    )
                }
            }
        }
    };
    facts.rdma_devices().iter().map(judge).collect()
}

/// The command that makes a node anew, with the numbers that sysfs gives.
fn remake(node: &DeviceNode) -> Option<String> {
    let (major, minor) = node.expected.as_deref()?.split_once(':')?;
    let path = &node.path;
    Some(command!("mkdir -p /dev/infiniband && rm -f {} && mknod -m 0666 {} c {} {}", path, path, major, minor))
}

fn nodes_are_permitted(facts: &Facts) -> Vec<Finding> {
    let uid = facts.host.limits.own.effective_uid;
    let groups = facts.host.limits.own.groups.as_ref();
    let judge = |device: &SysfsDevice| {
        let node = device.uverbs.as_ref().map(|uverbs| &uverbs.node).filter(|node| node.is_right_device);
        let Some((node, found)) = node.and_then(|node| Some((node, node.found?))) else {
            return Finding::skip(&device.name, "its node is not there");
        };
        let mode = format!("mode {:04o}, owner {}, group {}", found.mode, found.uid, found.gid);
        if found.mode & 0o006 == 0o006 {
            return Finding::pass(&device.name, "everybody may open its node").saw(&node.path, mode);
        }
        match uid {
            Some(0) => Finding::pass(&device.name, "root may open its node").saw(&node.path, mode),
            Some(uid) if uid == found.uid && found.mode & 0o600 == 0o600 => {
                Finding::pass(&device.name, "its node is this user's").saw(&node.path, mode)
            }
            _ if found.mode & 0o060 == 0o060 && groups.is_none() => {
                Finding::skip(&device.name, "its node is for a group, and this user's groups are not known")
            }
            _ if found.mode & 0o060 == 0o060 && groups.is_some_and(|groups| groups.contains(&found.gid)) => {
                Finding::pass(&device.name, "this user's group may open its node").saw(&node.path, mode)
            }
            None => Finding::skip(&device.name, "which user this is cannot be seen"),
            Some(_) => Finding::fail(&device.name, "this user may not open its node").saw_not(&node.path, mode, "mode 0666").remedy(
                Action::Tune,
                "give everybody access, as the kernel does by default",
                &[&command!("chmod 0666 {}", node.path)],
            ),
        }
    };
    facts.rdma_devices().iter().map(judge).collect()
}

fn verbs_sees_them(facts: &Facts) -> Vec<Finding> {
    if facts.verbs.is_none() {
        return vec![Finding::skip("host", "the verbs library was not asked")];
    }
    let is_partial = is_partial_container(facts);
    let judge = |device: &crate::devices::Device| match (&device.problem, device.seen_by.verbs) {
        (None, Some(true)) => Finding::pass(&device.name, "libibverbs opens it"),
        (Some(_), Some(false)) if is_partial => Finding::skip(&device.name, "it was not given to this container"),
        (Some(problem), _) => Finding::fail(&device.name, "programs cannot use it").saw("libibverbs", &problem.summary).remedy(
            Action::Tune,
            problem.next_step.clone().unwrap_or_else(|| "mend what is missing: library, provider, node or permission".to_owned()),
            &[],
        ),
        (None, _) => Finding::skip(&device.name, "the verbs library gave no answer about it"),
    };
    facts.devices.devices.iter().map(judge).collect()
}

fn ports_are_active(facts: &Facts) -> Vec<Finding> {
    let some_work = some_port_is_active(facts);
    let judge =
        |(device, port): (&SysfsDevice, &SysfsPort)| {
            let name = port_name(device, port);
            let Some(state) = &port.state else {
                return Finding::skip(name, "its state cannot be read");
            };
            let path = format!("/sys/class/infiniband/{}/ports/{}/state", device.name, port.port);
            if is_active(port) {
                return Finding::pass(name, "it is active");
            }
            let physical = port.phys_state.as_ref().map_or_else(|| "unknown".to_owned(), |state| state.name.clone());
            let advice = if is_infiniband(port) && state.code == PortState::Init.code() {
                "a subnet manager must bring it up"
            } else {
                "bring its interface up; check cable, module and switch port"
            };
            Finding::graded(!some_work, name, format!("it is {} (link {physical})", state.name))
                .saw_not(path, &state.name, "ACTIVE")
                .remedy(Action::AskFabric, advice, &["rdma link", "ip -br link"])
        };
    facts.ports().map(judge).collect()
}

fn interfaces_are_up(facts: &Facts) -> Vec<Finding> {
    let some_work = some_port_is_active(facts);
    let mut findings = Vec::new();
    for (device, port) in facts.ports() {
        for interface in facts.interfaces(device, port) {
            let name = &interface.name;
            findings.push(match interface.is_up {
                // An interface with a signal and traffic need not say that it is up.
                None => Finding::skip(port_name(device, port), format!("whether {name} is up cannot be read")),
                Some(true) => Finding::pass(port_name(device, port), format!("{name} is up")),
                Some(false) => Finding::graded(!some_work, port_name(device, port), format!("{name} is down"))
                    .saw_not(format!("/sys/class/net/{name}/flags"), "not up", "up")
                    .remedy(Action::Tune, "set it up", &[&command!("ip link set {} up", name)]),
            });
        }
    }
    findings
}

fn interfaces_have_carrier(facts: &Facts) -> Vec<Finding> {
    let some_work = some_port_is_active(facts);
    let mut findings = Vec::new();
    for (device, port) in facts.ports() {
        for interface in facts.interfaces(device, port) {
            let (name, subject) = (&interface.name, port_name(device, port));
            findings.push(match (interface.is_up, interface.has_carrier) {
                (Some(false), _) => Finding::skip(subject, format!("{name} is down, so its signal is not known")),
                (_, None) => Finding::skip(subject, format!("whether {name} has a signal cannot be read")),
                (_, Some(true)) => Finding::pass(subject, format!("{name} has a signal")),
                (_, Some(false)) => without_signal(
                    facts,
                    interface,
                    Finding::graded(!some_work, subject, format!("{name} has no signal")).saw_not(
                        format!("/sys/class/net/{name}/carrier"),
                        "0",
                        "1",
                    ),
                ),
            });
        }
    }
    findings
}

/// An interface without a signal: of a virtual one the interface that it gets its signal from is to blame.
fn without_signal(facts: &Facts, interface: &NetInterface, finding: Finding) -> Finding {
    let others = facts.host.net.interfaces.iter().flatten().filter(|other| other.name != interface.name);
    let gives_signal = |other: &&NetInterface| {
        interface.lower.contains(&other.name) || interface.linked_index.is_some_and(|index| other.index == Some(index))
    };
    let down: Vec<String> =
        others.filter(gives_signal).filter(|other| other.is_up == Some(false)).map(|other| other.name.clone()).collect();
    let name = &interface.name;
    if down.is_empty() {
        return finding.remedy(
            Action::AskFabric,
            "check cable, module and switch port",
            &[&command!("ethtool {}", name), &command!("ethtool -m {}", name)],
        );
    }
    let finding = down.iter().fold(finding, |finding, other| finding.saw_not(format!("/sys/class/net/{other}/flags"), "not up", "up"));
    let commands: Vec<String> = down.iter().map(|other| command!("ip link set {} up", other)).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    finding.remedy(Action::Tune, format!("set up {}, which {name} gets its signal from", down.join(", ")), &commands)
}

fn connection_manager_node(facts: &Facts) -> Vec<Finding> {
    let node = &facts.host.rdma.connection_manager;
    if node.is_right_device {
        return vec![Finding::pass("host", "/dev/infiniband/rdma_cm is there")];
    }
    let iwarp: Vec<&SysfsDevice> = facts.rdma_devices().iter().filter(|device| is_iwarp(device)).collect();
    if iwarp.is_empty() {
        return vec![Finding::skip("host", "/dev/infiniband/rdma_cm is not there, and no device here needs it")];
    }
    let judge = |device: &SysfsDevice| {
        Finding::fail(&device.name, "it is an iWARP device, and /dev/infiniband/rdma_cm, which connects such, is not there")
            .saw_not(&node.path, "missing", "a character device")
            .remedy(
                Action::Reload,
                "load rdma_ucm; pass the node to a container",
                if facts.is_container() { &["docker run --device=/dev/infiniband/rdma_cm …"] } else { &["modprobe rdma_ucm"] },
            )
    };
    iwarp.into_iter().map(judge).collect()
}

/// Modes of bonds as the kernel names and counts them (Documentation/networking/bonding.rst).
fn bond_modes(modes: &[u8]) -> String {
    const NAMES: [&str; 7] = ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
    let shown: Vec<String> = modes.iter().map(|mode| format!("{} {mode}", NAMES.get(usize::from(*mode)).unwrap_or(&"mode"))).collect();
    match shown.as_slice() {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => shown.concat(),
    }
}

fn bonds_are_followed(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in facts.rdma_devices() {
        for netdev in device.netdevs.iter().filter_map(|name| facts.host.net.interface(name)) {
            let master = netdev.master.as_ref().and_then(|name| facts.host.net.interface(name));
            let bond = std::iter::once(netdev).chain(master).find_map(|interface| Some((interface, interface.bond.as_ref()?)));
            let Some((interface, mode)) = bond.and_then(|(interface, bond)| Some((interface, bond.mode.as_ref()?))) else { continue };
            let number = mode.split_whitespace().nth(1).unwrap_or_default();
            let known = family_of(device).and_then(families::find).and_then(|family| family.bonds.as_ref());
            findings.push(match known {
                Some(bonds) if bonds.modes.iter().any(|mode| mode.to_string() == number) => {
                    Finding::pass(&device.name, format!("RoCE follows the bond {}", interface.name))
                }
                Some(bonds) => Finding::warn(&device.name, format!("RoCE does not follow the bond {} in this mode", interface.name))
                    .saw_not(format!("/sys/class/net/{}/bonding/mode", interface.name), mode, bond_modes(&bonds.modes))
                    .remedy(Action::Tune, "use one of these modes, or keep RDMA ports out of the bond", &[]),
                None => Finding::skip(&device.name, format!("how its family treats the bond {} is not known here", interface.name)),
            });
        }
    }
    findings
}

fn virtual_functions(facts: &Facts) -> Vec<Finding> {
    let judge = |device: &SysfsDevice| {
        let is_virtual = device.pci.as_ref()?.is_virtual_function;
        Some(if is_virtual {
            Finding::skip(&device.name, "a virtual function: its limits are set by its host; `rdmadoctor qp-matrix` finds them")
        } else {
            Finding::pass(&device.name, "a physical function, as this host sees it")
        })
    };
    facts.rdma_devices().iter().filter_map(judge).collect()
}

const REQUIRED: &str = "put it in or load its driver, or take it out of what the policy requires";

fn required_devices(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let devices = facts.rdma_devices();
    for name in &facts.wanted.devices {
        findings.push(match devices.iter().find(|device| device.name == *name) {
            None => Finding::fail(name, format!("the policy requires {name}, and there is no such device"))
                .saw_not("/sys/class/infiniband", devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" "), name)
                .remedy(Action::Replace, REQUIRED, &["rdmadoctor devices"]),
            Some(device) if device.ports.iter().any(is_active) => Finding::pass(name, format!("{name} is there, as the policy requires")),
            Some(_) => Finding::fail(name, format!("the policy requires {name}, and none of its ports is active"))
                .about(format!("{name}/1"))
                .saw_not(format!("/sys/class/infiniband/{name}/ports"), "none active", "an active one")
                .remedy(Action::AskFabric, "bring a port of it up", &[&command!("rdmadoctor devices {}", name)]),
        });
    }
    for family in &facts.wanted.families {
        findings.push(match devices.iter().find(|device| family_of(device) == Some(family)) {
            Some(device) => Finding::pass(family, format!("{} is of the family {family}, as the policy requires", device.name)),
            None => Finding::fail(family, format!("the policy requires a device of the family {family}, and there is none"))
                .saw_not("/sys/class/infiniband", "none of this family", family)
                .remedy(Action::Replace, REQUIRED, &["rdmadoctor devices"]),
        });
    }
    findings
}

const SLOW_PORT: &str = "check cable, module, switch port and forward error correction";

fn rates_agree(facts: &Facts) -> Vec<Finding> {
    // Devices of one kind: the same part on the same PCI numbers.
    let kind = |device: &SysfsDevice| device.pci.as_ref().and_then(|pci| Some((pci.vendor_id?, pci.device_id?, device.hca_type.clone())));
    type Kind = Option<(u16, u16, Option<String>)>;
    let rates: Vec<(&SysfsDevice, &SysfsPort, Kind, u64)> = facts
        .ports()
        .filter(|(_, port)| is_active(port))
        .filter_map(|(device, port)| Some((device, port, kind(device), port.rate_bits_per_second?)))
        .collect();
    let judge = |(device, port, own, rate): &(&SysfsDevice, &SysfsPort, Kind, u64)| {
        let name = port_name(device, port);
        if let Some(least) = facts.wanted.port_bits_per_second.filter(|least| rate < least) {
            return Finding::fail(name, "it is slower than the policy requires").saw_not("rate", gigabits(*rate), gigabits(least)).remedy(
                Action::AskFabric,
                SLOW_PORT,
                &[],
            );
        }
        let best = rates.iter().filter(|(_, _, kind, _)| own.is_some() && kind == own).map(|(_, _, _, rate)| *rate).max().unwrap_or(*rate);
        if *rate >= best {
            return Finding::pass(name, format!("it runs at {}", gigabits(*rate)));
        }
        Finding::warn(name, format!("it runs at {}, others of its kind here at {}", gigabits(*rate), gigabits(best)))
            .saw_not(format!("/sys/class/infiniband/{}/ports/{}/rate", device.name, port.port), gigabits(*rate), gigabits(best))
            .remedy(Action::AskFabric, SLOW_PORT, &[])
    };
    rates.iter().map(judge).collect()
}

fn firmware_agrees(facts: &Facts) -> Vec<Finding> {
    let board = |device: &SysfsDevice| {
        let pci = device.pci.as_ref()?;
        Some((pci.vendor_id?, pci.device_id?, device.board_id.clone()?))
    };
    let judge = |device: &SysfsDevice| {
        let (own, firmware) = (board(device)?, device.firmware.as_ref()?);
        let others = facts.rdma_devices().iter().filter(|other| board(other).as_ref() == Some(&own));
        let mut versions: Vec<&String> = others.filter_map(|other| other.firmware.as_ref()).collect();
        versions.sort();
        versions.dedup();
        // Only devices of the version that fewer have need to be named; with two alike, all are.
        Some(if versions.len() == 1 {
            Finding::pass(&device.name, format!("firmware {firmware}, as all of its board"))
        } else {
            let all = versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ");
            Finding::warn(&device.name, "devices of its board have different firmware")
                .saw_not(format!("/sys/class/infiniband/{}/fw_ver", device.name), firmware, format!("one of {all} for all"))
                .remedy(Action::Replace, "bring all to one version with the vendor's tool", &["mlxfwmanager --online -u"])
        })
    };
    facts.rdma_devices().iter().filter_map(judge).collect()
}
