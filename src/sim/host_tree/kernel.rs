//! The kernel and the machine: release, command line, configuration, log, processors, memory.

use std::collections::BTreeMap;

use super::Tree;
use crate::host::Node;
use crate::sim::host::{HostModel, HugePages};

/// Options as distributions for servers set them.
const USUAL_CONFIG: &[(&str, &str)] = &[
    ("CONFIG_CGROUP_RDMA", "y"),
    ("CONFIG_DMABUF_MOVE_NOTIFY", "y"),
    ("CONFIG_DMA_SHARED_BUFFER", "y"),
    ("CONFIG_INFINIBAND", "m"),
    ("CONFIG_INFINIBAND_USER_ACCESS", "m"),
    ("CONFIG_INTEL_IOMMU", "y"),
    ("CONFIG_MLX5_CORE", "m"),
    ("CONFIG_MLX5_INFINIBAND", "m"),
    ("CONFIG_MODULES", "y"),
    ("CONFIG_PCIEAER", "y"),
    ("CONFIG_PCI_P2PDMA", "y"),
    ("CONFIG_RDMA_RXE", "m"),
    ("CONFIG_RDMA_SIW", "m"),
    ("CONFIG_ZONE_DEVICE", "y"),
];

const KIB_PER_GIB: u64 = 1 << 20;

pub(super) fn build(tree: &mut Tree, host: &HostModel) {
    tree.text("/proc/sys/kernel/osrelease", &host.kernel);
    tree.text("/proc/sys/kernel/tainted", "0");
    tree.text("/proc/version", &format!("Linux version {} (build@host) (gcc) #1 SMP", host.kernel));
    tree.text("/proc/cmdline", &host.command_line);
    let (id, version) = host.distribution.split_once(' ').unwrap_or((&host.distribution, ""));
    tree.text("/etc/os-release", &format!("ID={id}\nVERSION_ID=\"{version}\"\nPRETTY_NAME=\"{}\"", host.distribution));
    configuration(tree, host);
    let lines: String = host.kernel_log.iter().map(|line| format!("{line}\n")).collect();
    tree.file("/var/log/kern.log", Node::text(&lines));
    for (name, text) in [("sys_vendor", &host.machine.vendor), ("product_name", &host.machine.product)] {
        if let Some(text) = text {
            tree.text(format!("/sys/class/dmi/id/{name}"), text);
        }
    }
    let hypervisor = if host.machine.is_virtual { " hypervisor" } else { "" };
    tree.text("/proc/cpuinfo", &format!("processor\t: 0\nmodel name\t: a modelled processor\nflags\t\t: fpu msr sse2{hypervisor}"));
    memory(tree, host);
}

fn configuration(tree: &mut Tree, host: &HostModel) {
    let mut options: BTreeMap<&str, &str> = USUAL_CONFIG.iter().copied().collect();
    options.extend(host.kernel_config.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let line = |(name, value): (&&str, &&str)| if *value == "n" { format!("# {name} is not set") } else { format!("{name}={value}") };
    let lines: Vec<String> = options.iter().map(line).collect();
    // A container has no /boot of the host.
    if host.container.is_none() {
        tree.text(format!("/boot/config-{}", host.kernel), &lines.join("\n"));
    }
}

/// NUMA nodes with their processors, memory and huge pages.
fn memory(tree: &mut Tree, host: &HostModel) {
    let functions = host.bridges.iter().map(|bridge| bridge.numa_node).chain(host.gpus.iter().map(|gpu| gpu.numa_node));
    let highest = functions.chain(host.nics.iter().map(|nic| nic.numa_node)).flatten().max().unwrap_or(0);
    let nodes = host.machine.numa_nodes.unwrap_or(highest + 1).max(1);
    let cpus = host.machine.cpus_per_node.unwrap_or(32).max(1);
    let kib = host.machine.memory_gib_per_node.unwrap_or(256) * KIB_PER_GIB;
    let total = kib * u64::from(nodes);
    let meminfo = |total: u64, of: &str| {
        format!("{of}MemTotal:  {total} kB\n{of}MemFree:  {} kB\n{of}MemAvailable:  {} kB", total / 2, total / 4 * 3)
    };
    tree.text("/proc/meminfo", &meminfo(total, ""));
    for node in 0..nodes {
        let dir = format!("/sys/devices/system/node/node{node}");
        let distances: Vec<&str> = (0..nodes).map(|other| if other == node { "10" } else { "21" }).collect();
        tree.text(format!("{dir}/distance"), &distances.join(" "));
        tree.text(format!("{dir}/cpulist"), &format!("{}-{}", node * cpus, (node + 1) * cpus - 1));
        tree.text(format!("{dir}/meminfo"), &meminfo(kib, &format!("Node {node} ")));
        pages(tree, &format!("{dir}/hugepages"), host, Some(u64::from(nodes)));
    }
    pages(tree, "/sys/kernel/mm/hugepages", host, None);
    tree.text("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
    tree.text("/proc/sys/kernel/numa_balancing", "0");
}

/// Huge pages by size, of the whole host or of one of that many nodes.
fn pages(tree: &mut Tree, dir: &str, host: &HostModel, share: Option<u64>) {
    // The size that is always there, with none of them.
    let usual = HugePages { page_kib: 2048, total: 0, free: 0 };
    let sizes = host.huge_pages.iter().copied().chain((!host.huge_pages.iter().any(|pages| pages.page_kib == 2048)).then_some(usual));
    for pages in sizes {
        let dir = format!("{dir}/hugepages-{}kB", pages.page_kib);
        let counts = [("nr_hugepages", pages.total), ("free_hugepages", pages.free), ("surplus_hugepages", 0)];
        for (name, count) in counts {
            tree.text(format!("{dir}/{name}"), &(count / share.unwrap_or(1)).to_string());
        }
        if share.is_none() {
            tree.text(format!("{dir}/resv_hugepages"), "0");
        }
    }
}
