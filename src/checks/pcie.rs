//! 08: PCI Express, NUMA and IOMMU.

use super::Source::{Pcie, Rdma, System};
use super::{Action, Check, Facts, Finding, page};
use crate::host::pcie::{Express, Link, PcieFunction, Segment};
use crate::host::system::iommu::IommuMode;
use crate::host::topo::{Affinity, TopologyNic, TopologyPair};
use crate::units::gigabits;

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-0801"), needs: &[Rdma, Pcie, System], depends_on: &[], run: nic_links },
    Check { page: page("RD-0802"), needs: &[Rdma, Pcie, System], depends_on: &[], run: gpu_links },
    Check { page: page("RD-0803"), needs: &[Rdma, Pcie, System], depends_on: &["RD-0801"], run: bottlenecks },
    Check { page: page("RD-0804"), needs: &[Rdma, Pcie, System], depends_on: &[], run: redirects },
    Check { page: page("RD-0805"), needs: &[Rdma, Pcie, System], depends_on: &[], run: iommu },
    Check { page: page("RD-0806"), needs: &[Rdma, Pcie, System], depends_on: &["RD-0302"], run: sockets },
    Check { page: page("RD-0807"), needs: &[Rdma, Pcie], depends_on: &[], run: one_setting },
    Check { page: page("RD-0808"), needs: &[Rdma, Pcie, System], depends_on: &[], run: numa_nodes },
    Check { page: page("RD-0809"), needs: &[Rdma, Pcie], depends_on: &[], run: functions_answer },
];

fn is_of_interest(facts: &Facts, function: &PcieFunction) -> bool {
    let is_nic = facts.rdma_devices().iter().any(|device| device.pci.as_ref().is_some_and(|pci| pci.address == function.address()));
    is_nic || function.is_gpu()
}

/// The PCI function of an RDMA device with the device's name.
fn nic_functions(facts: &Facts) -> impl Iterator<Item = (&str, &PcieFunction)> {
    facts.rdma_devices().iter().filter_map(|device| Some((device.name.as_str(), facts.host.pcie.function(&device.pci.as_ref()?.address)?)))
}

fn speed(link: &Link, is_max: bool) -> String {
    let (speed, lanes) = if is_max {
        (link.max_megatransfers_per_second, link.max_lanes)
    } else {
        (link.current_megatransfers_per_second, link.current_lanes)
    };
    match (speed, lanes) {
        (Some(speed), Some(lanes)) => format!("{}.{} GT/s, {lanes} lanes", speed / 1000, speed % 1000 / 100),
        (Some(speed), None) => format!("{}.{} GT/s", speed / 1000, speed % 1000 / 100),
        (None, Some(lanes)) => format!("{lanes} lanes"),
        (None, None) => "not known".to_owned(),
    }
}

fn degraded(name: &str, segment: &Segment) -> Finding {
    Finding::warn(name, format!("the link between {} and {} is below what both ends can", segment.upper, segment.lower))
        .saw_not(format!("/sys/bus/pci/devices/{}", segment.lower), speed(&segment.link, false), speed(&segment.link, true))
        .remedy(
            Action::Replace,
            "seat the card anew; check riser, slot and the firmware's set-up",
            &[&command!("lspci -vv -s {} | grep -E 'LnkCap|LnkSta'", segment.lower)],
        )
}

fn nic_links(facts: &Facts) -> Vec<Finding> {
    let judge = |nic: &TopologyNic| {
        let known = nic.path.segments.iter().any(|segment| segment.bits_per_second.is_some());
        match nic.path.segments.iter().find(|segment| segment.is_narrowed || segment.is_slowed) {
            Some(segment) => degraded(&nic.name, segment),
            None if known => Finding::pass(&nic.name, "every link on the way to it runs at what both ends can"),
            None => Finding::skip(&nic.name, "the platform shows no speed of its links"),
        }
    };
    facts.host.topology.nics.iter().map(judge).collect()
}

fn gpu_links(facts: &Facts) -> Vec<Finding> {
    let judge = |gpu: &crate::host::topo::TopologyGpu| {
        let known = gpu.path.segments.iter().any(|segment| segment.link.current_lanes.is_some());
        match gpu.path.segments.iter().find(|segment| segment.is_narrowed) {
            Some(segment) => degraded(&gpu.address, segment),
            None if known => Finding::pass(&gpu.address, "every link on the way to it has all its lanes"),
            None => Finding::skip(&gpu.address, "the platform shows no width of its links"),
        }
    };
    facts.host.topology.gpus.iter().map(judge).collect()
}

fn bottlenecks(facts: &Facts) -> Vec<Finding> {
    let judge = |nic: &TopologyNic| {
        let device = facts.rdma_devices().iter().find(|device| device.name == nic.name)?;
        let rate = device.ports.iter().filter_map(|port| port.rate_bits_per_second).max()?;
        let (Some(carried), Some(narrowest)) = (nic.path.bits_per_second, nic.path.narrowest()) else {
            return Some(Finding::skip(&nic.name, "what the way to it carries is not known"));
        };
        Some(if carried >= rate {
            Finding::pass(&nic.name, format!("the way to it carries {}, its port {}", gigabits(carried), gigabits(rate)))
        } else {
            Finding::warn(&nic.name, format!("the way to it carries {} only, its port {}", gigabits(carried), gigabits(rate)))
                .saw_not(format!("{} to {}", narrowest.upper, narrowest.lower), speed(&narrowest.link, false), gigabits(rate))
                .remedy(Action::Replace, "move the card to a wider or faster slot", &[])
        })
    };
    facts.host.topology.nics.iter().filter_map(judge).collect()
}

/// For each GPU the NICs that are as near as its nearest.
fn best_pairs(facts: &Facts) -> Vec<&TopologyPair> {
    let topology = &facts.host.topology;
    let mut best = Vec::new();
    for gpu in &topology.gpus {
        let own = || topology.pairs.iter().filter(|pair| pair.gpu == gpu.address);
        if let Some(nearest) = own().map(|pair| pair.affinity).min() {
            best.extend(own().filter(|pair| pair.affinity == nearest));
        }
    }
    best
}

fn redirects(facts: &Facts) -> Vec<Finding> {
    let judge = |pair: &&TopologyPair| {
        let subject = format!("{}/{}", pair.gpu, pair.nic);
        if !matches!(pair.affinity, Affinity::Pix | Affinity::Pxb) {
            return None;
        }
        Some(if !pair.redirecting.is_empty() {
            let commands: Vec<String> =
                pair.redirecting.iter().map(|bridge| command!("setpci -s {} ECAP_ACS+0x6.w=0000", bridge)).collect();
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            Finding::warn(subject, format!("packets between GPU {} and {} are sent up to the processor", pair.gpu, pair.nic))
                .saw_not("ACS control of bridges between them", format!("redirect at {}", pair.redirecting.join(", ")), "no redirect")
                .remedy(
                    Action::Tune,
                    "turn ACS off in the firmware's set-up, or on these bridges until the next start; not where devices are given to virtual machines",
                    &commands,
                )
        } else if pair.redirection_known {
            Finding::pass(subject, "no bridge between them redirects")
        } else {
            Finding::skip(subject, "ACS of the bridges between them can be read by root only")
        })
    };
    best_pairs(facts).iter().filter_map(judge).collect()
}

fn iommu(facts: &Facts) -> Vec<Finding> {
    let iommu = &facts.host.system.iommu;
    // Groups of the functions that matter; others may be translated as they like.
    let mut translated: Vec<(&str, &str)> = Vec::new();
    let mut is_known = false;
    let functions = facts.host.pcie.functions.iter().flatten().filter(|function| is_of_interest(facts, function));
    for function in functions {
        let Some(group) = function.iommu_group.and_then(|number| iommu.group(number)) else { continue };
        is_known |= group.is_translated().is_some();
        // Functions with ATS ask for translations themselves, as on machines where CPU and GPU share an address space.
        let has_ats = function.config.as_ref().and_then(|config| config.ats).is_some_and(|ats| ats.enabled);
        if group.is_translated() == Some(true) && !has_ats {
            translated.push((function.address(), group.kind.as_deref().unwrap_or_default()));
        }
    }
    if facts.pci_gpus().next().is_none() {
        return vec![Finding::skip("host", "there is no GPU that a NIC could have to reach")];
    }
    match iommu.mode {
        IommuMode::Off => vec![Finding::pass("host", "the IOMMU is off")],
        _ if !translated.is_empty() => {
            let shown: Vec<String> = translated.iter().map(|(address, kind)| format!("{address}: {kind}")).collect();
            vec![
                Finding::warn("host", "the IOMMU translates addresses of NICs or GPUs")
                    .saw_not("/sys/kernel/iommu_groups/*/type", shown.join(", "), "identity")
                    .remedy(
                        Action::Reboot,
                        "add iommu=pt to the kernel's command line and start anew",
                        &["sed -i 's/GRUB_CMDLINE_LINUX=\"/&iommu=pt /' /etc/default/grub && update-grub"],
                    ),
            ]
        }
        IommuMode::Passthrough | IommuMode::Mixed | IommuMode::Translated if is_known => {
            vec![Finding::pass("host", "the IOMMU passes NICs and GPUs through")]
        }
        _ => vec![Finding::skip("host", "how the IOMMU treats NICs and GPUs cannot be seen")],
    }
}

fn sockets(facts: &Facts) -> Vec<Finding> {
    let topology = &facts.host.topology;
    let judge = |gpu: &crate::host::topo::TopologyGpu| {
        let best = topology.pairs.iter().filter(|pair| pair.gpu == gpu.address).min_by_key(|pair| pair.affinity)?;
        Some(match best.affinity {
            Affinity::Sys => Finding::warn(&gpu.address, "every NIC is on another socket than this GPU")
                .saw_not(
                    format!("/sys/bus/pci/devices/{}/numa_node", gpu.address),
                    gpu.numa_node.map_or_else(|| "not known".to_owned(), |node| node.to_string()),
                    "the node of a NIC",
                )
                .remedy(Action::Replace, "put a NIC into a slot of its socket, or leave this GPU out of transfers", &["rdmadoctor topo"]),
            Affinity::Unknown => Finding::skip(&gpu.address, "the firmware names no NUMA node, so which NIC is near is not known"),
            _ => Finding::pass(&gpu.address, format!("{} is near", best.nic)),
        })
    };
    topology.gpus.iter().filter_map(judge).collect()
}

fn one_setting(facts: &Facts) -> Vec<Finding> {
    type Setting = (&'static str, fn(&Express) -> Option<u32>);
    const SETTINGS: [Setting; 3] = [
        ("MaxReadRequest", |express| express.read_request_bytes),
        ("MaxPayload", |express| express.payload_bytes),
        ("relaxed ordering", |express| Some(u32::from(express.relaxed_ordering))),
    ];
    let kind = |function: &PcieFunction| (function.function.vendor_id, function.function.device_id);
    let mut findings = Vec::new();
    for (name, function) in nic_functions(facts) {
        let Some(express) = function.config.as_ref().and_then(|config| config.express.as_ref()) else {
            findings.push(Finding::skip(name, "its configuration space can be read by root only"));
            continue;
        };
        let siblings = || nic_functions(facts).filter(|(_, other)| kind(other) == kind(function));
        let mut finding = None;
        for (setting, get) in SETTINGS {
            let own = get(express);
            let best = siblings().filter_map(|(_, other)| get(other.config.as_ref()?.express.as_ref()?)).max();
            if let (Some(own), Some(best)) = (own, best)
                && own < best
            {
                finding = Some(
                    finding.unwrap_or_else(|| Finding::warn(name, "its PCI Express settings are below those of its siblings")).saw_not(
                        setting,
                        own.to_string(),
                        best.to_string(),
                    ),
                );
            }
        }
        findings.push(match finding {
            Some(finding) => finding.remedy(
                Action::Tune,
                "set it like its siblings",
                &[&command!("lspci -vv -s {} | grep -A4 DevCtl", function.address())],
            ),
            None => Finding::pass(name, "its PCI Express settings are those of its siblings"),
        });
    }
    findings
}

fn numa_nodes(facts: &Facts) -> Vec<Finding> {
    let nodes = facts.host.system.memory.nodes.as_ref().map_or(0, Vec::len);
    if nodes < 2 {
        return vec![Finding::skip("host", "the host has one NUMA node, or does not say how many")];
    }
    let functions = facts.host.pcie.functions.iter().flatten().filter(|function| is_of_interest(facts, function));
    let judge = |function: &PcieFunction| match function.function.numa_node {
        Some(node) => Finding::pass(function.address(), format!("it is at node {node}")),
        None => Finding::warn(function.address(), "the firmware does not say at which NUMA node it is")
            .saw_not(format!("/sys/bus/pci/devices/{}/numa_node", function.address()), "-1", format!("0 to {}", nodes - 1))
            .remedy(Action::Replace, "update the firmware, or bind processes by hand", &[]),
    };
    functions.map(judge).collect()
}

fn functions_answer(facts: &Facts) -> Vec<Finding> {
    let functions = facts.host.pcie.functions.iter().flatten();
    let judge = |function: &PcieFunction| {
        let is_wanted = is_of_interest(facts, function) || crate::host::family::family_of_function(&function.function).is_some();
        let config = function.config.as_ref().filter(|_| is_wanted)?;
        Some(if config.is_answering {
            Finding::pass(function.address(), "it answers")
        } else {
            Finding::fail(function.address(), "it does not answer: it has fallen off the bus")
                .saw_not(format!("/sys/bus/pci/devices/{}/config", function.address()), "all ones", "its vendor's number")
                .remedy(Action::Reboot, "start the host anew with its power off; replace a device that does so again", &[])
        })
    };
    functions.filter_map(judge).collect()
}
