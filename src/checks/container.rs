//! 09: containers.

use rdmadoctor_types::LinkLayer;

use super::Source::{Limits, Net, Rdma, VerbsFiles};
use super::{Action, Check, Facts, Finding, page};
use crate::host::limits::Capabilities;
use crate::units::about_size;

/// What Docker gives /dev/shm where nothing is said.
const DOCKERS_SHM_BYTES: u64 = 64 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-0901"), needs: &[Rdma, Limits, VerbsFiles], depends_on: &["RD-0202"], run: nodes },
    Check { page: page("RD-0902"), needs: &[Limits], depends_on: &[], run: capability },
    Check { page: page("RD-0903"), needs: &[Rdma, Limits, VerbsFiles], depends_on: &["RD-0213"], run: sysfs },
    Check { page: page("RD-0904"), needs: &[Limits], depends_on: &[], run: shared_memory },
    Check { page: page("RD-0905"), needs: &[Rdma, Net, Limits], depends_on: &[], run: interfaces },
];

fn not_a_container() -> Vec<Finding> {
    vec![Finding::skip("host", "this is no container, as far as can be seen")]
}

fn kind(facts: &Facts) -> String {
    facts.host.limits.container.runtime.clone().unwrap_or_else(|| "a container".to_owned())
}

/// The snippet for the runtime that this is.
fn commands<'a>(facts: &Facts, docker: &'a str, kubernetes: &'a str) -> [&'a str; 1] {
    [if facts.host.limits.container.runtime.as_deref() == Some("kubernetes") { kubernetes } else { docker }]
}

fn nodes(facts: &Facts) -> Vec<Finding> {
    if !facts.is_container() {
        return not_a_container();
    }
    if facts.rdma_devices().is_empty() {
        return vec![Finding::skip("host", "sysfs shows no RDMA device")];
    }
    let has_node = facts.host.verbs_files.nodes.iter().flatten().any(|node| node.path.contains("uverbs"));
    vec![if has_node {
        Finding::pass("host", "the container has nodes of RDMA devices")
    } else {
        Finding::fail("host", format!("this is {}, and no RDMA device was passed in", kind(facts)))
            .saw_not("/dev/infiniband", "no uverbs node", "uverbs0")
            .remedy(
                Action::Tune,
                "pass the devices in",
                &commands(facts, "docker run --device=/dev/infiniband …", "resources: {limits: {rdma/hca: 1}}  # of an RDMA device plugin"),
            )
    }]
}

fn capability(facts: &Facts) -> Vec<Finding> {
    if !facts.is_container() {
        return not_a_container();
    }
    let own = &facts.host.limits.own;
    let (Some(sets), Some(limit)) = (own.capabilities, own.memlock()) else {
        return vec![Finding::skip("host", "limits and capabilities of this process cannot be read")];
    };
    if limit.soft.value().is_none() || own.has_ipc_lock() == Some(true) {
        return vec![Finding::pass("host", "the container may lock memory")];
    }
    if Capabilities::has_ipc_lock(sets.bounding) {
        return vec![Finding::skip("host", "the container was given CAP_IPC_LOCK")];
    }
    // Whether the limit is too small is judged elsewhere; here it is only about what a container was not given.
    if limit.soft.value().is_some_and(|soft| facts.wanted.memlock_bytes.is_some_and(|least| soft >= least)) {
        return vec![Finding::pass("host", "the container may lock what the policy requires")];
    }
    vec![
        Finding::fail("host", format!("this is {} without CAP_IPC_LOCK and with a limit on locked memory", kind(facts)))
            .saw_not(format!("{}/status, CapBnd", own.source), format!("{:016x}", sets.bounding), "bit 14 (CAP_IPC_LOCK)")
            .saw_not(format!("{}/limits", own.source), limit.soft.value().map_or_else(String::new, about_size), "unlimited")
            .remedy(
                Action::Tune,
                "lift the limit, or give the capability",
                &commands(
                    facts,
                    "docker run --ulimit memlock=-1 --cap-add=IPC_LOCK …",
                    "securityContext: {capabilities: {add: [IPC_LOCK]}}",
                ),
            ),
    ]
}

fn sysfs(facts: &Facts) -> Vec<Finding> {
    if !facts.is_container() {
        return not_a_container();
    }
    let has_node = facts.host.verbs_files.nodes.iter().flatten().any(|node| node.path.contains("uverbs"));
    if !facts.rdma_devices().is_empty() {
        return vec![Finding::pass("host", "sysfs shows RDMA devices")];
    }
    if !has_node {
        return vec![Finding::skip("host", "the container has neither nodes nor sysfs entries of RDMA devices")];
    }
    vec![
        Finding::fail("host", "the container has nodes of RDMA devices, and sysfs shows none")
            .saw_not("/sys/class/infiniband", "empty or absent", "a device")
            .remedy(
                Action::Tune,
                "share RDMA devices between network namespaces on the host, or use the host's network",
                &["rdma system set netns shared", "docker run --network=host …"],
            ),
    ]
}

fn shared_memory(facts: &Facts) -> Vec<Finding> {
    if !facts.is_container() {
        return not_a_container();
    }
    match facts.host.limits.container.dev_shm_bytes {
        None => vec![Finding::skip("host", "/dev/shm has no limit that can be seen")],
        Some(bytes) if bytes <= DOCKERS_SHM_BYTES => vec![
            Finding::warn("host", format!("/dev/shm has {} only, which is what Docker gives where nothing is said", about_size(bytes)))
                .saw_not("/proc/self/mountinfo", about_size(bytes), "more: what the engine asks for")
                .remedy(
                    Action::Tune,
                    "give the container more",
                    &commands(
                        facts,
                        "docker run --shm-size=16g …",
                        "volumes: [{name: shm, emptyDir: {medium: Memory}}]  # mounted on /dev/shm",
                    ),
                ),
        ],
        Some(bytes) => vec![Finding::pass("host", format!("/dev/shm has {}", about_size(bytes)))],
    }
}

fn interfaces(facts: &Facts) -> Vec<Finding> {
    if !facts.is_container() {
        return not_a_container();
    }
    let net = &facts.host.net;
    if net.interfaces.is_none() {
        return vec![Finding::skip("host", "no network interfaces can be seen")];
    }
    let judge = |device: &crate::host::rdma::SysfsDevice| {
        let is_ethernet = device.ports.iter().any(|port| port.link_layer.as_ref().is_some_and(|layer| *layer == LinkLayer::Ethernet));
        // The directory of the PCI function names an interface only where it is in this namespace.
        if !is_ethernet {
            return Finding::skip(&device.name, "it is no Ethernet device, so no interface is needed");
        }
        let is_here = device.netdevs.iter().any(|name| net.interface(name).is_some());
        if is_here {
            return Finding::pass(&device.name, "its interface is in this network namespace");
        }
        Finding::fail(&device.name, "its interface is not in this network namespace")
            .about(format!("{}/1", device.name))
            .saw_not(
                "/sys/class/net",
                "none of its interfaces",
                if device.netdevs.is_empty() { "one".to_owned() } else { device.netdevs.join(", ") },
            )
            .remedy(
                Action::Tune,
                "use the host's network, or move the interface into the container",
                &commands(facts, "docker run --network=host …", "hostNetwork: true  # or a CNI plugin that moves the interface"),
            )
    };
    facts.rdma_devices().iter().map(judge).collect()
}
