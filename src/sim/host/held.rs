//! What processes of a modelled host hold of its RDMA devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HostModel;
use crate::host::rdma_objects::{Holder, ObjectCount, ObjectsFacts, OpenNode};

/// What one process holds on one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    pub device: String,
    /// The process that made the objects; absent where it has ended.
    pub pid: Option<u32>,
    pub name: Option<String>,
    /// Its state, as /proc tells it; sleeping if absent.
    pub state: Option<String>,
    /// A process that has the device open, where the one that made the objects has ended.
    pub open_by: Option<u32>,
    #[serde(default)]
    pub queue_pairs: u64,
    /// Memory regions, of 1 MiB each.
    #[serde(default)]
    pub memory_regions: u64,
}

impl HostModel {
    /// What RDMA netlink would tell.
    #[must_use]
    pub fn objects(&self) -> ObjectsFacts {
        let is_exclusive = self.modules.loaded.iter().any(|module| module.parameters.get("netns_mode").is_some_and(|mode| mode == "N"));
        let mut facts =
            ObjectsFacts { netns_mode: Some(if is_exclusive { "exclusive" } else { "shared" }.to_owned()), ..ObjectsFacts::default() };
        for nic in &self.nics {
            let own = || self.held.iter().filter(|held| held.device == nic.name);
            let kinds = [("qp", own().map(|held| held.queue_pairs).sum()), ("mr", own().map(|held| held.memory_regions).sum())];
            facts.counts.extend(kinds.map(|(kind, count)| ObjectCount { device: nic.name.clone(), kind: kind.to_owned(), count }));
        }
        for held in &self.held {
            let sleeping = || "S (sleeping)".to_owned();
            facts.holders.push(Holder {
                device: held.device.clone(),
                pid: held.pid,
                name: held.pid.and_then(|_| held.name.clone()),
                state: held.pid.map(|_| held.state.clone().unwrap_or_else(sleeping)),
                queue_pairs: held.queue_pairs,
                memory_regions: held.memory_regions,
                memory_bytes: held.memory_regions << 20,
                ..Holder::default()
            });
            let index = self.nics.iter().position(|nic| nic.name == held.device);
            if let Some((index, pid)) = index.zip(held.open_by.or(held.pid)) {
                let node = format!("/dev/infiniband/uverbs{index}");
                facts.open_by.push(OpenNode { node, pid, name: held.name.clone(), state: Some(sleeping()) });
            }
        }
        facts
    }
}
