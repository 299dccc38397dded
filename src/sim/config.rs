//! What is simulated: devices, their ports and addresses, and faults. All of it travels to child processes as JSON.

use std::path::PathBuf;

use rdmadoctor_types::{LinkLayer, PortState};
use serde::{Deserialize, Serialize};

use crate::catalog::DeviceModel;
use crate::catalog::Fault;
use crate::verbs::Gid;

/// A simulated host's RDMA devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimConfig {
    /// The devices, in the order of the device list.
    pub devices: Vec<SimDevice>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Release of the simulated kernel, such as `6.1`, for models that tell kernels apart; the newest if absent.
    #[serde(default)]
    pub kernel: Option<String>,
    /// How much memory can be registered in all, as RLIMIT_MEMLOCK of a process without CAP_IPC_LOCK; no limit if absent. Queues, which
    /// count on a real device too, do not count here.
    #[serde(default)]
    pub memlock_bytes: Option<u64>,
    /// Whether ibv_reg_mr takes addresses of GPU memory, as a kernel with a peer-memory client does. The memory is real, whose GPU has it.
    #[serde(default)]
    pub takes_gpu_addresses: bool,
    /// Addresses of other simulated hosts, besides those of the devices: a connection to any other address fails.
    #[serde(default, with = "gid_texts")]
    pub peers: Vec<Gid>,
    /// Whether libibverbs is not there at all: then nothing else of this counts.
    #[serde(default)]
    pub is_library_missing: bool,
    /// What libibverbs prints on standard error when it lists devices, a line each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Where processes meet: those that are given the same directory form one network, and share the counts of faults. Without one,
    /// queue pairs reach only others of the same installation. Its path must leave room in a socket address (108 bytes).
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Whether the counts of faults are this process's own all the same, as those of a host among others are.
    #[serde(default)]
    pub counts_own_faults: bool,
    /// The file in which the devices count what they send and what arrives, for all processes of this host ([`super::CounterFile`] reads it). Without
    /// one nothing is counted.
    #[serde(default)]
    pub tallies: Option<PathBuf>,
}

/// A simulated device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimDevice {
    /// Its name, such as `mlx5_0`.
    pub name: String,
    /// How it behaves.
    pub model: ModelSource,
    /// Its ports. Those that are absent, up to the model's number, are as [`SimPort::default`].
    #[serde(default)]
    pub ports: Vec<SimPort>,
    /// Its node GUID.
    #[serde(default)]
    pub node_guid: u64,
    /// Its firmware's version; absent leaves the model's.
    #[serde(default)]
    pub firmware: Option<String>,
    /// Whether it is mlx5's and has a data-direct device beside it (mlx5dv_get_data_direct_sysfs_path(3)).
    #[serde(default)]
    pub data_direct: bool,
}

/// A device model, by name or whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelSource {
    /// One of the catalog.
    Named(String),
    /// One of its own, boxed for its size.
    Given(Box<DeviceModel>),
}

/// A port of a simulated device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimPort {
    /// Its state.
    pub state: PortState,
    /// Link layer; the model's if absent.
    pub link_layer: Option<LinkLayer>,
    /// Path MTU in force; the largest of the model if absent.
    pub active_mtu_bytes: Option<u32>,
    /// Local identifier; 0 on Ethernet.
    pub lid: u16,
    /// The GID table from its beginning; the rest of the model's length is empty. If absent, the device gets addresses of its own.
    pub gids: Option<Vec<SimGid>>,
    /// Addresses of its network interface, by which rdma_cm finds it; if absent, those that stand in the GID table, or the one that goes
    /// with the device's own GIDs.
    pub addresses: Option<Vec<std::net::IpAddr>>,
    /// The P_Key table; the default key if empty.
    pub pkeys: Vec<u16>,
}

/// An entry of a GID table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimGid {
    /// The address.
    #[serde(with = "gid_text")]
    pub gid: Gid,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: GidType,
}

/// Type of a GID table's entry, as `ibv_gid_type` and sysfs tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GidType {
    /// InfiniBand; sysfs says the same of RoCE v1, which has the same form.
    #[serde(rename = "IB")]
    Infiniband,
    /// RoCE v1: Ethernet frames, not routed.
    #[serde(rename = "RoCE v1")]
    RoceV1,
    /// RoCE v2: UDP port 4791.
    #[serde(rename = "RoCE v2")]
    RoceV2,
}

impl SimConfig {
    /// One device of each model, named after it, with addresses 10.77.0.1, 10.77.0.2, … on one network.
    #[must_use]
    pub fn of_models<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { devices: names.into_iter().map(|name| SimDevice::new(name, name)).collect(), ..Self::default() }
    }

    /// The same with one more fault.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

impl SimDevice {
    /// A device of a model in the catalog, all else by default.
    #[must_use]
    pub fn new(name: &str, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: ModelSource::Named(model.to_owned()),
            ports: Vec::new(),
            node_guid: 0,
            firmware: None,
            data_direct: false,
        }
    }
}

/// An address as text.
mod gid_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::verbs::Gid;

    pub fn serialize<S: Serializer>(gid: &Gid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(gid)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Gid, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is no address in IPv6 notation")))
    }
}

/// Several addresses as texts.
mod gid_texts {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::verbs::Gid;

    pub fn serialize<S: Serializer>(gids: &[Gid], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(gids.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Gid>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let parse = |text: &String| text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is no address in IPv6 notation")));
        texts.iter().map(parse).collect()
    }
}
