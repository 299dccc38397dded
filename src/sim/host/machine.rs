//! The machine of a modelled host, and what bounds the process that looks at it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// Its maker, or the cloud.
    pub vendor: Option<String>,
    /// Its model.
    pub product: Option<String>,
    /// Whether it is a virtual machine.
    pub is_virtual: bool,
    /// NUMA nodes; as many as the functions name if absent.
    pub numa_nodes: Option<u32>,
    /// Processors of each node; 32 if absent.
    pub cpus_per_node: Option<u32>,
    /// Memory of each node in GiB; 256 if absent.
    pub memory_gib_per_node: Option<u64>,
}

/// How the IOMMU treats devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Iommu {
    /// There is none, or it is off.
    #[default]
    Off,
    /// Devices use memory's own addresses.
    Passthrough,
    /// Devices use addresses of their own.
    Translated,
}

/// Limits of processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// RLIMIT_MEMLOCK, soft, and hard where that is not told; unlimited if absent.
    pub memlock_bytes: Option<u64>,
    /// RLIMIT_MEMLOCK, hard, where it is another.
    pub memlock_hard_bytes: Option<u64>,
    /// Whether CAP_IPC_LOCK is effective.
    pub ipc_lock: bool,
    /// Whether CAP_IPC_LOCK is in the bounding set, where it alone gives nothing; as `ipc_lock` if absent.
    pub ipc_lock_in_bounding_set: Option<bool>,
    /// The user.
    pub uid: u32,
    /// Whether the process is in a user namespace of its own, as in rootless containers, where capabilities are inert.
    pub own_user_namespace: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memlock_bytes: None,
            memlock_hard_bytes: None,
            ipc_lock: true,
            ipc_lock_in_bounding_set: None,
            uid: 0,
            own_user_namespace: false,
        }
    }
}

/// The container that a host is seen from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What runs it.
    #[serde(default)]
    pub runtime: Runtime,
    /// Nodes of /dev that were not given to it: `infiniband/uverbs0`.
    #[serde(default)]
    pub missing_nodes: Vec<String>,
    /// Whether it sees the host's /lib/modules.
    #[serde(default)]
    pub has_lib_modules: bool,
    /// Size of /dev/shm.
    pub shm_kib: Option<u64>,
}

/// What runs a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    #[default]
    Docker,
    Podman,
    /// Kubernetes, over containerd.
    Kubernetes,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HugePages {
    /// Their size.
    pub page_kib: u64,
    /// How many there are.
    pub total: u64,
    /// How many are free.
    pub free: u64,
}
