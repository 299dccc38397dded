//! `topo` for people: a plane of distances, then the best NICs of each GPU.

use super::{Style, Table};
use crate::facts::Topo;
use crate::host::topo::{Affinity, Topology, TopologyPair};

impl Table for Topo {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let topology = &self.topology;
        let mut out = String::new();
        if topology.gpus.is_empty() || topology.nics.is_empty() {
            let what = match (topology.gpus.is_empty(), topology.nics.is_empty()) {
                (true, true) => "neither a GPU nor an RDMA device on PCI",
                (true, false) => "no GPU",
                _ => "no RDMA device on PCI",
            };
            out += &format!("This host has {what}, so there are no distances to show.\n");
        } else {
            out += &plane(topology, style);
        }
        for gpu in &topology.gpus {
            let node = gpu.numa_node.map_or("NUMA node not given".to_owned(), |node| format!("NUMA node {node}"));
            let nics =
                if gpu.nics.is_empty() { "no NIC".to_owned() } else { format!("best NICs {}", best(topology, &gpu.address, &gpu.nics)) };
            out += &format!("  GPU {}  {node}, {nics}\n", gpu.address);
        }
        // With GPUs the plane has the NICs already.
        for nic in topology.nics.iter().filter(|_| style.verbose || topology.gpus.is_empty()) {
            let node = nic.numa_node.map_or("NUMA node not given".to_owned(), |node| format!("NUMA node {node}"));
            let above = if nic.path.bridges.is_empty() {
                "directly on a root bus".to_owned()
            } else {
                format!("behind {}", nic.path.bridges.join(" > "))
            };
            out += &format!("  NIC {} {}  {node}, {above}\n", nic.name, nic.address);
        }
        let redirected: Vec<String> = topology
            .pairs
            .iter()
            .filter(|pair| !pair.redirecting.is_empty())
            .map(|pair| format!("{} to {} at {}", pair.gpu, pair.nic, pair.redirecting.join(" ")))
            .collect();
        if !redirected.is_empty() {
            out += &style.entry("ACS", &format!("packets take the way through the processor: {}", redirected.join(", ")));
        }
        for note in &topology.notes {
            out += &style.entry("note", note);
        }
        if !topology.pairs.is_empty() {
            out += &style.entry(
                "legend",
                "PIX one PCIe switch, PXB several, PHB the processor's host bridge, NODE two bridges of one NUMA node, SYS two NUMA nodes",
            );
        }
        out + &super::devices::problems(&self.problems, style)
    }
}

pub(in crate::report) fn word(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Pix => "PIX",
        Affinity::Pxb => "PXB",
        Affinity::Phb => "PHB",
        Affinity::Node => "NODE",
        Affinity::Sys => "SYS",
        Affinity::Unknown => "?",
    }
}

pub(in crate::report) fn pair<'a>(topology: &'a Topology, gpu: &str, nic: &str) -> Option<&'a TopologyPair> {
    topology.pairs.iter().find(|pair| pair.gpu == gpu && pair.nic == nic)
}

fn plane(topology: &Topology, style: Style) -> String {
    let header: Vec<&str> = std::iter::once("GPU").chain(topology.nics.iter().map(|nic| nic.name.as_str())).collect();
    let rows: Vec<Vec<String>> = topology
        .gpus
        .iter()
        .map(|gpu| {
            let cells =
                topology.nics.iter().map(|nic| pair(topology, &gpu.address, &nic.name).map_or("-", |pair| word(pair.affinity)).to_owned());
            std::iter::once(gpu.address.clone()).chain(cells).collect()
        })
        .collect();
    style.columns(&header, &rows) + "\n"
}

/// The NICs that are as near as the best one.
pub(in crate::report) fn best(topology: &Topology, gpu: &str, nics: &[String]) -> String {
    let distance = |nic: &String| pair(topology, gpu, nic).map(|pair| pair.affinity);
    let nearest = nics.first().and_then(distance);
    let names: Vec<&str> = nics.iter().filter(|nic| distance(nic) == nearest).map(String::as_str).collect();
    format!("{} ({})", names.join(" "), nearest.map_or("?", word))
}
