//! The whole tree of facts that checks judge: one value that can be written down and read back.

use rdmadoctor_types::{LinkLayer, NodeType, PortState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bench::LoopbackReport;
use crate::devices::{Device, Devices};
use crate::facts::MemoryTried;
use crate::facts::host::HostFacts;
use crate::gpu::GpusFacts;
use crate::host::ReadError;
use crate::host::modules::{Module, ModuleState, ModulesFacts};
use crate::host::net::NetInterface;
use crate::host::part::{Part, unread_of};
use crate::host::pcie::PcieFunction;
use crate::host::rdma::{SysfsDevice, SysfsPort};
use crate::host::rdma_objects::ObjectsFacts;
use crate::qp::DeviceReport;
use crate::worker::{Inventory, VerbsDevice};

/// Everything that is known of a host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// What files say.
    pub host: HostFacts,
    /// Kernel modules.
    pub modules: ModulesFacts,
    /// RDMA devices as sysfs and the verbs library see them.
    pub devices: Devices,
    /// What the verbs library says; absent where it was not asked.
    pub verbs: Option<VerbsFacts>,
    /// What was tried on each device; absent where nothing was.
    pub queue_pairs: Option<Vec<DeviceReport>>,
    /// What the GPUs' driver says; absent where it was not asked.
    pub gpus: Option<GpusFacts>,
    /// Memory that was registered; absent where none was.
    pub memory: Option<MemoryTried>,
    /// Who holds objects of RDMA devices; absent where the kernel was not asked.
    pub objects: Option<ObjectsFacts>,
    /// What moved on each device; absent where nothing was measured. No part of a capture: figures are of their day.
    #[serde(skip)]
    pub measured: Option<Vec<LoopbackReport>>,
    /// What this host must have.
    pub wanted: Wanted,
    /// Why nothing is known of what only an open device tells; absent where it was asked, or could have been.
    #[serde(default)]
    pub not_asked: Option<String>,
}

/// What the verbs library says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerbsFacts {
    /// Its answer.
    pub inventory: Option<Inventory>,
    /// Why there is none: the child process crashed, hung or could not start.
    pub failure: Option<String>,
}

/// What a host must have, by the user's policy and the engines that were named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wanted {
    /// RDMA devices.
    pub devices: Vec<String>,
    /// Families of devices.
    pub families: Vec<String>,
    /// Kernel modules.
    pub modules: Vec<String>,
    /// Engines with their versions.
    pub engines: Vec<WantedEngine>,
    /// Least RLIMIT_MEMLOCK.
    pub memlock_bytes: Option<u64>,
    /// Least rate of a port.
    pub port_bits_per_second: Option<u64>,
    /// How often a link may have gone down in the kernel's log.
    pub link_downs: Option<u64>,
    /// How long devices may take to answer reads.
    pub slow_read_ms: Option<u64>,
    /// Least bandwidth, in percent of what this host's own path carries.
    #[serde(default)]
    pub bandwidth_percent_of_path: Option<u32>,
    /// Least bandwidth, in percent of what an earlier run had.
    #[serde(default)]
    pub bandwidth_percent_of_baseline: Option<u32>,
}

/// An engine that must work here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WantedEngine {
    pub name: String,
    pub version: String,
    /// Whether it connects queue pairs by itself, without rdma_cm.
    pub connects_itself: bool,
}

impl Facts {
    /// What files alone say.
    #[must_use]
    pub fn of_files(host: HostFacts, modules: ModulesFacts, devices: Devices, wanted: Wanted) -> Self {
        Self {
            host,
            modules,
            devices,
            verbs: None,
            queue_pairs: None,
            gpus: None,
            memory: None,
            objects: None,
            measured: None,
            wanted,
            not_asked: None,
        }
    }

    /// Parts of the host's files that were not read to their end, with why.
    pub fn unread(&self) -> impl Iterator<Item = (Part, &ReadError)> {
        self.host.unread().chain(unread_of(&self.modules.problems).map(|problem| (Part::Modules, problem)))
    }

    /// RDMA devices that sysfs shows.
    #[must_use]
    pub fn rdma_devices(&self) -> &[SysfsDevice] {
        self.host.rdma.devices.as_deref().unwrap_or_default()
    }

    /// Each port with its device.
    pub fn ports(&self) -> impl Iterator<Item = (&SysfsDevice, &SysfsPort)> {
        self.rdma_devices().iter().flat_map(|device| device.ports.iter().map(move |port| (device, port)))
    }

    /// A device with both views.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.devices.iter().find(|device| device.name == name)
    }

    /// What the verbs library says, where it answered.
    #[must_use]
    pub fn inventory(&self) -> Option<&Inventory> {
        self.verbs.as_ref()?.inventory.as_ref()
    }

    /// A device as the verbs library sees it.
    #[must_use]
    pub fn verbs_device(&self, name: &str) -> Option<&VerbsDevice> {
        self.inventory()?.devices.iter().find(|device| device.name == name)
    }

    /// Devices that can be opened.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (&Device, &VerbsDevice)> {
        self.devices.usable(self.inventory().map(|inventory| inventory.devices.as_slice()).unwrap_or_default())
    }

    /// What is known of a module.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.modules.iter().find(|module| module.name == name)
    }

    /// Whether the kernel has a module. `None` where that is not known.
    #[must_use]
    pub fn in_kernel(&self, name: &str) -> Option<bool> {
        match self.module(name)?.state {
            ModuleState::Loaded | ModuleState::BuiltIn => Some(true),
            ModuleState::OnDisk | ModuleState::Absent | ModuleState::NotLoaded => Some(false),
            ModuleState::Unknown => None,
        }
    }

    /// GPUs on the PCI bus.
    pub fn pci_gpus(&self) -> impl Iterator<Item = &PcieFunction> {
        self.host.pcie.functions.iter().flatten().filter(|function| function.is_gpu())
    }

    pub fn nvidia_gpus(&self) -> impl Iterator<Item = &PcieFunction> {
        self.pci_gpus().filter(|function| function.function.vendor_id == Some(0x10de))
    }

    #[must_use]
    pub fn is_container(&self) -> bool {
        self.host.limits.container.is_container
    }

    /// Interfaces of a port that are in this network namespace.
    #[must_use]
    pub fn interfaces(&self, device: &SysfsDevice, port: &SysfsPort) -> Vec<&NetInterface> {
        let mut names: Vec<&str> = port.gids.iter().filter_map(|gid| gid.netdev.as_deref()).collect();
        if names.is_empty() && device.ports.len() == 1 {
            names = device.netdevs.iter().map(String::as_str).collect();
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| self.host.net.interface(name)).collect()
    }
}

/// How this host's distribution installs packages; both ways where it is not known.
#[must_use]
pub fn packages<'a>(facts: &Facts, debian: &'a str, red_hat: &'a str) -> Vec<&'a str> {
    let os = facts.host.system.os.as_ref();
    let names = os.map(|os| format!("{} {}", os.id.as_deref().unwrap_or_default(), os.id_like.as_deref().unwrap_or_default()));
    let is_like = |family: &[&str]| names.as_ref().is_some_and(|names| names.split_whitespace().any(|name| family.contains(&name)));
    match (is_like(&["debian", "ubuntu"]), is_like(&["rhel", "fedora", "centos"])) {
        (true, false) => vec![debian],
        (false, true) => vec![red_hat],
        _ => vec![debian, red_hat],
    }
}

/// The family of a device, where it is known.
#[must_use]
pub fn family_of(device: &SysfsDevice) -> Option<&str> {
    device.family.as_ref().map(|guess| guess.family.as_str())
}

/// Whether a device is an iWARP adapter, whose queue pairs rdma_cm connects.
#[must_use]
pub fn is_iwarp(device: &SysfsDevice) -> bool {
    device.node_type.as_ref().and_then(|node_type| NodeType::of(node_type.code)) == Some(NodeType::Rnic)
}

/// Whether a port speaks RoCE.
#[must_use]
pub fn is_roce(device: &SysfsDevice, port: &SysfsPort) -> bool {
    !is_iwarp(device) && port.link_layer.as_ref().is_some_and(|layer| *layer == LinkLayer::Ethernet)
}

/// Whether a port speaks InfiniBand.
#[must_use]
pub fn is_infiniband(port: &SysfsPort) -> bool {
    port.link_layer.as_ref().is_some_and(|layer| *layer == LinkLayer::Infiniband)
}

/// Whether a port is active.
#[must_use]
pub fn is_active(port: &SysfsPort) -> bool {
    port.state.as_ref().is_some_and(|state| state.code == PortState::Active.code())
}
