//! Everything that files say of a host, read in one go: what checks are run on, and what a capture keeps.

use std::convert::Infallible;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::limits::LimitsFacts;
use crate::host::log::LogFacts;
use crate::host::net::NetFacts;
use crate::host::part::{OfPart, Part, PartFacts, ReadOptions, unread_of};
use crate::host::pcie::PcieFacts;
use crate::host::rdma::RdmaFacts;
use crate::host::rdma_counters::CounterFacts;
use crate::host::system::SystemFacts;
use crate::host::topo::{Surroundings, Topology};
use crate::host::verbs_files::VerbsFilesFacts;
use crate::host::vpd::VpdFacts;
use crate::host::{self, ReadError, Root};

/// What files say of a host. Each part has its own problems.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// RDMA devices.
    pub rdma: RdmaFacts,
    /// Their counters.
    pub counters: CounterFacts,
    /// The PCI Express tree.
    pub pcie: PcieFacts,
    /// Which NIC is near which GPU.
    pub topology: Topology,
    /// Network interfaces, addresses and routes.
    pub net: NetFacts,
    /// Limits of processes, services and containers.
    pub limits: LimitsFacts,
    /// The kernel and the machine.
    pub system: SystemFacts,
    /// The files of RDMA's user space.
    pub verbs_files: VerbsFilesFacts,
    /// The kernel's log.
    pub log: LogFacts,
    /// Vital product data.
    #[serde(default)]
    pub vpd: VpdFacts,
    /// How long each part took to read, in the order in which they were read. A slow one is a sign by itself.
    pub timings: Vec<PartTiming>,
}

/// How long a part took to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartTiming {
    /// The part, by its name among the facts.
    pub part: String,
    /// How long it took.
    pub elapsed_us: u64,
}

impl HostFacts {
    /// Parts that were not read to their end, with why.
    pub fn unread(&self) -> impl Iterator<Item = (Part, &ReadError)> {
        let parts: [(Part, &[ReadError]); 9] = [
            (Part::Rdma, &self.rdma.problems),
            (Part::Counters, &self.counters.problems),
            (Part::Pcie, &self.pcie.problems),
            (Part::Net, &self.net.problems),
            (Part::Limits, &self.limits.problems),
            (Part::System, &self.system.problems),
            (Part::VerbsFiles, &self.verbs_files.problems),
            (Part::Log, &self.log.problems),
            (Part::Vpd, &self.vpd.problems),
        ];
        parts.into_iter().filter_map(|(part, problems)| Some((part, unread_of(problems)?)))
    }

    /// Everything that could not be read or understood, part by part.
    pub fn problems(&self) -> impl Iterator<Item = (&'static str, &ReadError)> {
        let parts: [(&'static str, &[ReadError]); 9] = [
            ("rdma", &self.rdma.problems),
            ("counters", &self.counters.problems),
            ("pcie", &self.pcie.problems),
            ("net", &self.net.problems),
            ("limits", &self.limits.problems),
            ("system", &self.system.problems),
            ("verbs_files", &self.verbs_files.problems),
            ("log", &self.log.problems),
            ("vpd", &self.vpd.problems),
        ];
        parts.into_iter().flat_map(|(part, problems)| problems.iter().map(move |problem| (part, problem)))
    }
}

/// Reads all of it in this process, with the limits of one more process where one is asked for. Opens no device of RDMA or of a GPU.
#[must_use]
pub fn collect(root: &Root, pid: Option<u32>) -> HostFacts {
    let asked = ReadOptions { pid, ..ReadOptions::default() };
    match collect_by(&mut |part| Ok::<_, Infallible>(part.read(root, &asked))) {
        Ok(facts) => facts,
        Err(never) => match never {},
    }
}

/// Has each part read by `read`.
///
/// # Errors
/// As `read` gives them.
pub fn collect_by<E>(read: &mut dyn FnMut(Part) -> Result<PartFacts, E>) -> Result<HostFacts, E> {
    let mut timings = Vec::new();
    let rdma = timed(&mut timings, read)?;
    let counters = timed(&mut timings, read)?;
    let pcie = timed(&mut timings, read)?;
    let net = timed(&mut timings, read)?;
    let limits = timed(&mut timings, read)?;
    let system = timed(&mut timings, read)?;
    let verbs_files = timed(&mut timings, read)?;
    let log = timed(&mut timings, read)?;
    let vpd = timed(&mut timings, read)?;
    let topology = topology(&pcie, &rdma, &system);
    Ok(HostFacts { rdma, counters, pcie, topology, net, limits, system, verbs_files, log, vpd, timings })
}

/// Which NIC is near which GPU.
#[must_use]
pub fn topology(pcie: &PcieFacts, rdma: &RdmaFacts, system: &SystemFacts) -> Topology {
    let virtual_machine = system.machine.virtual_machine();
    let numa_nodes = system.memory.nodes.as_ref().map(Vec::len);
    host::topo::derive(pcie, rdma, &Surroundings { numa_nodes, virtual_machine: virtual_machine.as_deref() })
}

fn timed<T: OfPart, E>(timings: &mut Vec<PartTiming>, read: &mut dyn FnMut(Part) -> Result<PartFacts, E>) -> Result<T, E> {
    let start = Instant::now();
    let facts = read(T::PART)?;
    let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    timings.push(PartTiming { part: T::PART.name().to_owned(), elapsed_us });
    // A reader gives what it was asked for.
    Ok(T::of(facts).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::Node;
    use crate::host::topo::Affinity;

    #[test]
    fn the_parts_come_together() {
        let mut nodes = crate::host::pcie::tests::server(4096);
        let nic = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0";
        for (path, text) in [
            (format!("{nic}/infiniband/mlx5_0/node_type"), "1: CA"),
            (format!("{nic}/infiniband/mlx5_0/ports/1/counters/link_downed"), "2"),
            (format!("{nic}/infiniband/mlx5_0/ports/1/state"), "broken"),
            ("/sys/devices/system/node/node0/distance".to_owned(), "10"),
            (
                "/proc/4242/limits".to_owned(),
                "Limit  Soft  Hard  Units\nMax locked memory         65536                65536            bytes",
            ),
            ("/var/log/kern.log".to_owned(), "NVRM: Xid (PCI:0000:03:00): 79, pid=1"),
        ] {
            nodes.insert(path.into(), Node::text(text));
        }
        nodes.insert(format!("{nic}/infiniband/mlx5_0/device").into(), Node::Link("../../../0000:04:00.0".into()));
        nodes.insert("/sys/class/infiniband/mlx5_0".into(), Node::Link(format!("../../..{nic}/infiniband/mlx5_0").into()));
        let facts = collect(&Root::tree(nodes), Some(4242));
        assert_eq!(facts.topology.pair("0000:03:00.0", "mlx5_0").unwrap().affinity, Affinity::Pix);
        // One node only: two host bridges are in it whatever they say.
        assert_eq!(facts.topology.pair("0000:81:00.0", "mlx5_0").unwrap().affinity, Affinity::Node);
        assert_eq!(facts.counters.value("mlx5_0", 1, "link_downed"), Some(2));
        assert_eq!(facts.limits.process.as_ref().unwrap().memlock().unwrap().hard.value(), Some(65536));
        assert_eq!(facts.log.events.len(), 1);
        assert_eq!(facts.problems().map(|(part, _)| part).collect::<Vec<_>>(), ["rdma"]);
        assert_eq!(facts.timings.len(), 9);
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<HostFacts>(&json).unwrap(), facts);
    }

    #[test]
    fn nothing_at_all_is_read_too() {
        let facts = collect(&Root::tree(BTreeMap::new()), None);
        assert_eq!(facts.problems().count(), 0);
        assert_eq!((&facts.rdma.devices, &facts.pcie.functions, &facts.log.source), (&None, &None, &None));
    }

    #[test]
    fn this_host_is_read() {
        let facts = collect(&Root::default(), Some(std::process::id()));
        assert!(facts.limits.process.as_ref().unwrap().exists);
        assert!(facts.limits.own.memlock().is_some());
    }

    #[test]
    fn the_facts_have_a_schema() {
        let schema = schemars::schema_for!(HostFacts);
        assert!(serde_json::to_string(&schema).unwrap().contains("bits_per_second"));
    }
}
