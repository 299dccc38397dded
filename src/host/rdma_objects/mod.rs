//! Who holds queue pairs and memory regions: what `rdma resource show` reads, with the processes behind it.

mod netlink;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Root;
use super::reader::Reader;

/// What exists on the RDMA devices, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectsFacts {
    /// Why the kernel did not tell (RDMA netlink): then the rest is empty or incomplete.
    pub error: Option<String>,
    /// `shared`: every network namespace sees all devices; or `exclusive`.
    pub netns_mode: Option<String>,
    /// How many objects of a kind there are, the kernel's own among them.
    pub counts: Vec<ObjectCount>,
    /// Who holds queue pairs, memory regions and connections.
    pub holders: Vec<Holder>,
    /// Processes that have a device's node open. Without privileges only the user's own are seen.
    pub open_by: Vec<OpenNode>,
}

/// How many objects of a kind a device has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectCount {
    pub device: String,
    /// As the kernel names it: `qp`, `mr`, `cq`, `pd`, `cm_id`, `ctx`, `srq`.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// What one process, or one part of the kernel, holds on one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    pub device: String,
    /// The process that made the objects. Absent for the kernel's own, and for a process that has ended (or that another PID namespace hides).
    pub pid: Option<u32>,
    /// The process's name, or the module's where the kernel holds them.
    pub name: Option<String>,
    /// Whether the kernel itself holds them.
    pub is_kernel: bool,
    /// State of the process as /proc tells it: `S (sleeping)`; absent where there is none.
    pub state: Option<String>,
    pub queue_pairs: u64,
    /// Those of them in the state ERR or SQE.
    pub broken_queue_pairs: u64,
    pub memory_regions: u64,
    pub memory_bytes: u64,
    /// Connection identifiers of rdma_cm.
    pub connections: u64,
}

/// A process that has a node open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenNode {
    /// The node, such as `/dev/infiniband/uverbs0`.
    pub node: String,
    /// The process.
    pub pid: u32,
    pub name: Option<String>,
    pub state: Option<String>,
}

/// Asks the kernel, and /proc for the processes. Drivers answer this one, so a sick one can hold it up: only the child process asks.
#[must_use]
pub fn read(root: &Root) -> ObjectsFacts {
    let mut facts = netlink::ask();
    let mut reader = Reader::new(root);
    for holder in &mut facts.holders {
        if let Some(pid) = holder.pid {
            (holder.name, holder.state) = process(&mut reader, pid);
        }
    }
    if !facts.counts.is_empty() {
        facts.open_by = open_nodes(&mut reader);
    }
    facts
}

/// Name and state of a process.
fn process(reader: &mut Reader<'_>, pid: u32) -> (Option<String>, Option<String>) {
    let status = reader.text(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    (field("Name:"), field("State:"))
}

/// Processes come and go while they are listed, and others' may not be looked at: neither is a problem.
fn open_nodes(reader: &mut Reader<'_>) -> Vec<OpenNode> {
    let own = std::process::id();
    let pids = reader.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok()).filter(|pid| *pid != own);
    let mut found = Vec::new();
    for pid in pids.collect::<Vec<_>>() {
        let dir = format!("/proc/{pid}/fd");
        let files = reader.root.names(&dir).ok().flatten().unwrap_or_default();
        let targets = files.into_iter().filter_map(|file| reader.root.link(format!("{dir}/{file}")).ok().flatten());
        let mut nodes: Vec<String> = targets
            .filter_map(|target| Some(target.to_str()?.strip_suffix(" (deleted)").unwrap_or(target.to_str()?).to_owned()))
            .filter(|target| target.starts_with("/dev/infiniband/uverbs"))
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let (name, state) = process(reader, pid);
            found.push(OpenNode { node, pid, name, state });
        }
    }
    found
}

/// One object as the kernel lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Object {
    device: String,
    kind: ObjectKind,
    pid: Option<u32>,
    kernel_name: Option<String>,
    state: Option<u8>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ObjectKind {
    #[default]
    QueuePair,
    MemoryRegion,
    Connection,
}

/// Puts objects of one holder together.
fn holders(objects: &[Object]) -> Vec<Holder> {
    let mut all: BTreeMap<(&str, Option<u32>, Option<&str>), Holder> = BTreeMap::new();
    for object in objects {
        let holder = all.entry((&object.device, object.pid, object.kernel_name.as_deref())).or_insert_with(|| Holder {
            device: object.device.clone(),
            pid: object.pid,
            name: object.kernel_name.clone(),
            is_kernel: object.kernel_name.is_some(),
            ..Holder::default()
        });
        match object.kind {
            ObjectKind::QueuePair => {
                holder.queue_pairs += 1;
                // `enum ib_qp_state`: SQE is 5, ERR is 6.
                holder.broken_queue_pairs += u64::from(matches!(object.state, Some(5 | 6)));
            }
            ObjectKind::MemoryRegion => {
                holder.memory_regions += 1;
                holder.memory_bytes = holder.memory_bytes.saturating_add(object.bytes);
            }
            ObjectKind::Connection => holder.connections += 1,
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Node;

    #[test]
    fn objects_are_put_together_by_holder() {
        let object = |kind, pid, state, bytes| Object { device: "rxe0".to_owned(), kind, pid, state, bytes, ..Object::default() };
        let mut objects = vec![
            object(ObjectKind::QueuePair, Some(42), Some(3), 0),
            object(ObjectKind::QueuePair, Some(42), Some(6), 0),
            object(ObjectKind::MemoryRegion, Some(42), None, 4096),
            object(ObjectKind::MemoryRegion, None, None, 8192),
        ];
        objects.push(Object { kernel_name: Some("ib_core".to_owned()), ..object(ObjectKind::QueuePair, None, Some(3), 0) });
        let holders = holders(&objects);
        let shown: Vec<_> = holders
            .iter()
            .map(|holder| (holder.pid, holder.is_kernel, holder.queue_pairs, holder.broken_queue_pairs, holder.memory_bytes))
            .collect();
        assert_eq!(shown, [(None, false, 0, 0, 8192), (None, true, 1, 0, 0), (Some(42), false, 2, 1, 4096)]);
    }

    #[test]
    fn open_nodes_name_their_processes() {
        let root = Root::tree(BTreeMap::from([
            ("/proc/4242/status".into(), Node::text("Name:\tpython3\nState:\tS (sleeping)\n")),
            ("/proc/4242/fd/3".into(), Node::Link("/dev/infiniband/uverbs0".into())),
            ("/proc/4242/fd/4".into(), Node::Link("/dev/infiniband/uverbs0".into())),
            ("/proc/17/status".into(), Node::text("Name:\tsh\n")),
        ]));
        let open = open_nodes(&mut Reader::new(&root));
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].pid, open[0].name.as_deref(), open[0].state.as_deref()), (4242, Some("python3"), Some("S (sleeping)")));
    }

    #[test]
    fn this_host_is_asked() {
        let facts = read(&Root::default());
        assert!(facts.error.is_some() || facts.netns_mode.is_some() || facts.counts.is_empty());
    }
}
