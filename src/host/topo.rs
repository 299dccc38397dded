//! Which NIC is near which GPU, from the PCI Express tree and NUMA nodes alone. Pure: nothing is read here.
//!
//! The words are those of `nvidia-smi topo -m`, which counts the bridges between two functions.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pcie::{PcieFacts, PcieFunction, PciePath};
use super::rdma::RdmaFacts;

rdmadoctor_types::words! {
    /// How near two functions are, nearest first.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Affinity {
        /// At most one switch between them.
        Pix = "pix",
        /// Several switches, and not the processor.
        Pxb = "pxb",
        /// The processor's host bridge.
        Phb = "phb",
        /// Two host bridges of one NUMA node.
        Node = "node",
        /// Two NUMA nodes.
        Sys = "sys",
        /// Two host bridges, of which one's NUMA node is not known.
        Unknown = "unknown",
    }
}

/// GPUs and NICs of a host, and how near they are to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// The GPUs, in the order of their addresses.
    pub gpus: Vec<TopologyGpu>,
    /// The RDMA devices that are PCI functions, and software devices whose interface is one.
    pub nics: Vec<TopologyNic>,
    /// Each GPU with each NIC.
    pub pairs: Vec<TopologyPair>,
    /// Whether functions are directly on a root bus, as in virtual machines that hide the tree. Distances then mean little.
    pub is_hidden: bool,
    /// What to know before trusting this.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyGpu {
    /// Its PCI address.
    pub address: String,
    /// The vendor's number.
    pub vendor_id: Option<u16>,
    /// The vendor's number of this part.
    pub device_id: Option<u16>,
    pub numa_node: Option<u32>,
    /// The way to it.
    pub path: PciePath,
    /// Names of RDMA devices, best first.
    pub nics: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyNic {
    /// Name of the RDMA device.
    pub name: String,
    /// Its PCI address.
    pub address: String,
    pub numa_node: Option<u32>,
    /// The way to it.
    pub path: PciePath,
}

/// A GPU with a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyPair {
    /// The GPU's PCI address.
    pub gpu: String,
    /// Name of the RDMA device.
    pub nic: String,
    /// How near they are.
    pub affinity: Affinity,
    /// The lowest bridge above both; absent where the way leads through the processor.
    pub meeting_bridge: Option<String>,
    /// Bridges between the two, from the GPU to the NIC.
    pub between: Vec<String>,
    /// Bridges between the two that send packets up to the processor (ACS); empty where configuration spaces could not be read.
    pub redirecting: Vec<String>,
    /// Whether the ACS bits of every bridge between them could be read.
    pub redirection_known: bool,
    /// The least that the links between them carry now in each direction.
    pub bits_per_second: Option<u64>,
}

/// What the tree alone does not tell.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// How many NUMA nodes the host has, where that is known.
    pub numa_nodes: Option<usize>,
    /// Why this is known to be a virtual machine.
    pub virtual_machine: Option<&'a str>,
}

#[must_use]
pub fn derive(pcie: &PcieFacts, rdma: &RdmaFacts, surroundings: &Surroundings<'_>) -> Topology {
    let mut gpus: Vec<TopologyGpu> =
        pcie.functions.iter().flatten().filter(|function| function.is_gpu()).filter_map(|function| gpu(pcie, function)).collect();
    let nics: Vec<TopologyNic> = rdma
        .devices
        .iter()
        .flatten()
        .filter_map(|device| {
            // A software device is where the interface is that it sends by.
            let address = device.pci.as_ref().map(|pci| &pci.address).or(device.parent_pci_address.as_ref())?;
            let numa_node = pcie.function(address)?.function.numa_node;
            Some(TopologyNic { name: device.name.clone(), address: address.clone(), numa_node, path: pcie.path(address)? })
        })
        .collect();
    let mut pairs = Vec::new();
    for gpu in &mut gpus {
        let mut own: Vec<TopologyPair> = nics.iter().map(|nic| pair(pcie, gpu, nic, surroundings.numa_nodes)).collect();
        gpu.nics = ranked(&own);
        pairs.append(&mut own);
    }
    let hidden: Vec<&str> = gpus
        .iter()
        .map(|gpu| &gpu.path)
        .chain(nics.iter().map(|nic| &nic.path))
        .filter(|path| path.bridges.is_empty())
        .map(|path| path.address.as_str())
        .collect();
    let is_hidden = !hidden.is_empty();
    let mut notes = Vec::new();
    if is_hidden {
        notes.push(format!(
            "{}: directly on a root bus, without a bridge, as in a virtual machine that hides the real tree; distances to them mean little",
            hidden.join(", ")
        ));
    } else if let Some(why) = surroundings.virtual_machine.filter(|_| !pairs.is_empty()) {
        notes.push(format!("a virtual machine ({why}): this is the tree that the hypervisor shows, which need not be the real one"));
    }
    if pairs.iter().any(|pair| pair.affinity == Affinity::Unknown) {
        notes.push("the firmware names no NUMA node for some functions, so whether they share one is not known".to_owned());
    }
    Topology { gpus, nics, pairs, is_hidden, notes }
}

impl Topology {
    /// A GPU with a NIC.
    #[must_use]
    pub fn pair(&self, gpu: &str, nic: &str) -> Option<&TopologyPair> {
        self.pairs.iter().find(|pair| pair.gpu == gpu && pair.nic == nic)
    }

    /// For each GPU the nearest of these NICs. Where several are as near, GPUs take turns; one whose distances are not known takes any.
    #[must_use]
    pub fn nearest<'a>(&self, gpus: &[String], nics: &[&'a str]) -> Vec<Option<&'a str>> {
        let mut used = vec![0_usize; nics.len()];
        let mut choose = |gpu: &String| {
            let rank = |at: &usize| {
                let affinity = self.pair(gpu, nics[*at]).map(|pair| pair.affinity);
                (affinity.is_none(), affinity, used[*at])
            };
            let at = (0..nics.len()).min_by_key(rank)?;
            used[at] += 1;
            Some(nics[at])
        };
        gpus.iter().map(&mut choose).collect()
    }
}

fn gpu(pcie: &PcieFacts, function: &PcieFunction) -> Option<TopologyGpu> {
    Some(TopologyGpu {
        address: function.address().to_owned(),
        vendor_id: function.function.vendor_id,
        device_id: function.function.device_id,
        numa_node: function.function.numa_node,
        path: pcie.path(function.address())?,
        nics: Vec::new(),
    })
}

/// The NICs of one GPU, best first: nearest, then by what the way carries, then by the number of bridges, then in their own order.
fn ranked(pairs: &[TopologyPair]) -> Vec<String> {
    let mut pairs: Vec<&TopologyPair> = pairs.iter().collect();
    pairs.sort_by_key(|pair| (pair.affinity, Reverse(pair.bits_per_second), pair.between.len()));
    pairs.into_iter().map(|pair| pair.nic.clone()).collect()
}

fn pair(pcie: &PcieFacts, gpu: &TopologyGpu, nic: &TopologyNic, numa_nodes: Option<usize>) -> TopologyPair {
    let (down, up) = (&gpu.path.bridges, &nic.path.bridges);
    let shared = down.iter().zip(up).take_while(|(one, other)| one == other).count();
    let meeting_bridge = shared.checked_sub(1).map(|index| down[index].clone());
    let (below_gpu, below_nic) = (&down[shared..], &up[shared..]);
    let affinity = if meeting_bridge.is_some() {
        // Below the bridge that both share, one port each is one switch; more is a further switch.
        if below_gpu.len() <= 1 && below_nic.len() <= 1 { Affinity::Pix } else { Affinity::Pxb }
    } else {
        through_processor(pcie, gpu, nic, numa_nodes)
    };
    let between: Vec<String> = below_gpu.iter().rev().chain(&meeting_bridge).chain(below_nic).cloned().collect();
    let mut redirecting = Vec::new();
    let mut redirection_known = true;
    for address in &between {
        let config = pcie.function(address).and_then(|bridge| bridge.config.as_ref());
        match config.and_then(|config| config.acs) {
            Some(acs) if acs.redirects() => redirecting.push(address.clone()),
            Some(_) => {}
            None => redirection_known &= config.is_some_and(super::pcie::Config::extended_known),
        }
    }
    // Links above the meeting point are not on the way.
    let is_between = |upper: &str| meeting_bridge.is_none() || between.iter().any(|bridge| bridge == upper);
    let above_meeting = |lower: &str| meeting_bridge.as_deref() == Some(lower);
    let bits_per_second = gpu
        .path
        .segments
        .iter()
        .chain(&nic.path.segments)
        .filter(|segment| is_between(&segment.upper) && !above_meeting(&segment.lower))
        .filter_map(|segment| segment.bits_per_second)
        .min();
    TopologyPair {
        gpu: gpu.address.clone(),
        nic: nic.name.clone(),
        affinity,
        meeting_bridge,
        between,
        redirecting,
        redirection_known,
        bits_per_second,
    }
}

/// How near two functions are that share no bridge.
fn through_processor(pcie: &PcieFacts, gpu: &TopologyGpu, nic: &TopologyNic, numa_nodes: Option<usize>) -> Affinity {
    let root_bus = |address: &str| pcie.function(address).and_then(|function| function.root_bus.as_deref());
    if root_bus(&gpu.address).is_some() && root_bus(&gpu.address) == root_bus(&nic.address) {
        return Affinity::Phb;
    }
    match (gpu.numa_node, nic.numa_node) {
        _ if numa_nodes == Some(1) => Affinity::Node,
        (Some(one), Some(other)) if one == other => Affinity::Node,
        (Some(_), Some(_)) => Affinity::Sys,
        _ => Affinity::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::host::pcie::tests::server;
    use crate::host::{Node, Root, pcie, rdma};

    /// The modelled server with an RDMA device on each of these functions.
    fn topology(mut nodes: BTreeMap<PathBuf, Node>, devices: &[(&str, &str)], surroundings: &Surroundings<'_>) -> Topology {
        for (name, function) in devices {
            nodes.insert(format!("/sys/devices/{function}/infiniband/{name}/node_type").into(), Node::text("1: CA"));
            nodes.insert(
                format!("/sys/class/infiniband/{name}").into(),
                Node::Link(format!("../../devices/{function}/infiniband/{name}").into()),
            );
            let up = "../".repeat(2) + function.rsplit('/').next().unwrap();
            nodes.insert(format!("/sys/devices/{function}/infiniband/{name}/device").into(), Node::Link(format!("../{up}").into()));
        }
        let root = Root::tree(nodes);
        derive(&pcie::read(&root), &rdma::read(&root), surroundings)
    }

    const NICS: &[(&str, &str)] =
        &[("mlx5_0", "pci0000:00/0000:00:02.0/0000:05:00.0"), ("mlx5_1", "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0")];

    #[test]
    fn the_nearest_nic_comes_first() {
        let topology = topology(server(4096), NICS, &Surroundings { numa_nodes: Some(2), virtual_machine: None });
        let affinity = |gpu, nic| topology.pair(gpu, nic).unwrap().affinity;
        assert_eq!(affinity("0000:03:00.0", "mlx5_1"), Affinity::Pix);
        assert_eq!(affinity("0000:03:00.0", "mlx5_0"), Affinity::Phb);
        assert_eq!(affinity("0000:81:00.0", "mlx5_1"), Affinity::Sys);
        assert_eq!(topology.gpus[0].nics, ["mlx5_1", "mlx5_0"]);
        // As far from both, it takes the one with the wider way.
        assert_eq!(topology.gpus[1].nics, ["mlx5_1", "mlx5_0"]);
        let near = topology.pair("0000:03:00.0", "mlx5_1").unwrap();
        assert_eq!(near.meeting_bridge.as_deref(), Some("0000:01:00.0"));
        assert_eq!(near.between, ["0000:02:00.0", "0000:01:00.0", "0000:02:01.0"]);
        assert_eq!((&near.redirecting[..], near.redirection_known), (&["0000:02:01.0".to_owned()][..], true));
        assert_eq!(near.bits_per_second.unwrap() / 1_000_000_000, 252);
        assert!(!topology.is_hidden && topology.notes.is_empty());
    }

    #[test]
    fn each_gpu_has_its_nearest_nic_and_they_take_turns() {
        let topology = topology(server(64), NICS, &Surroundings::default());
        let near = ["0000:03:00.0".to_owned()];
        assert_eq!(topology.nearest(&near, &["mlx5_0", "mlx5_1"]), [Some("mlx5_1")]);
        assert_eq!(topology.nearest(&near, &["mlx5_0"]), [Some("mlx5_0")]);
        assert_eq!(topology.nearest(&near, &[]), [None]);
        let unknown = ["0001:00:00.0".to_owned(), "0002:00:00.0".to_owned()];
        assert_eq!(topology.nearest(&unknown, &["mlx5_0", "mlx5_1"]), [Some("mlx5_0"), Some("mlx5_1")]);
    }

    #[test]
    fn without_root_redirection_is_not_known() {
        let topology = topology(server(64), NICS, &Surroundings::default());
        let near = topology.pair("0000:03:00.0", "mlx5_1").unwrap();
        assert_eq!((near.affinity, near.redirecting.len(), near.redirection_known), (Affinity::Pix, 0, false));
    }

    #[test]
    fn several_switches_are_more_than_one() {
        let mut nodes = server(64);
        let deep = "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:06:00.0/0000:07:00.0/0000:08:00.0";
        nodes.insert(format!("/sys/devices/{deep}/class").into(), Node::text("0x020700"));
        for (address, depth) in [("0000:06:00.0", 5), ("0000:07:00.0", 6), ("0000:08:00.0", 7)] {
            let path: Vec<&str> = deep.split('/').take(depth).collect();
            nodes.insert(
                format!("/sys/bus/pci/devices/{address}").into(),
                Node::Link(format!("../../../devices/{}", path.join("/")).into()),
            );
        }
        let topology = topology(nodes, &[("mlx5_2", deep)], &Surroundings::default());
        assert_eq!(topology.pair("0000:03:00.0", "mlx5_2").unwrap().affinity, Affinity::Pxb);
        assert_eq!(topology.pair("0000:81:00.0", "mlx5_2").unwrap().affinity, Affinity::Unknown);
    }

    #[test]
    fn a_hidden_tree_is_told() {
        let mut nodes = BTreeMap::new();
        for (address, class, vendor) in [("0000:00:05.0", "0x030200", "0x10de"), ("0000:00:06.0", "0x020000", "0x1ded")] {
            let dir = format!("/sys/devices/pci0000:00/{address}");
            nodes.insert(format!("{dir}/class").into(), Node::text(class));
            nodes.insert(format!("{dir}/vendor").into(), Node::text(vendor));
            nodes.insert(format!("{dir}/numa_node").into(), Node::text("-1"));
            nodes.insert(
                format!("/sys/bus/pci/devices/{address}").into(),
                Node::Link(format!("../../../devices/pci0000:00/{address}").into()),
            );
        }
        let topology = topology(
            nodes,
            &[("erdma_0", "pci0000:00/0000:00:06.0")],
            &Surroundings { numa_nodes: None, virtual_machine: Some("Alibaba Cloud ECS") },
        );
        assert!(topology.is_hidden);
        assert!(topology.notes[0].contains("0000:00:05.0, 0000:00:06.0: directly on a root bus"), "{:?}", topology.notes);
        assert_eq!(topology.pairs[0].affinity, Affinity::Phb);
    }

    #[test]
    fn nothing_makes_nothing() {
        assert_eq!(derive(&PcieFacts::default(), &RdmaFacts::default(), &Surroundings::default()), Topology::default());
    }
}
