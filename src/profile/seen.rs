//! What a profile needs to know of a host beside attempts, and the fingerprint that comes of it. Everything here is quick to read.

use std::path::Path;

use super::FingerprintField;
use crate::devices;
use crate::devices::{Device, Devices, HostLimits, Port};
use crate::facts::host::topology;
use crate::host::limits::process::{LimitValue, ProcessFacts};
use crate::host::rdma::RdmaFacts;
use crate::host::system::SystemFacts;
use crate::host::topo::Topology;
use crate::host::verbs_files::VerbsFilesFacts;
use crate::host::{self, Root};
use crate::worker::{Failure, Inventory, VerbsDevice};

/// Modules that every RDMA host depends on, beside the drivers of its devices.
const CORE: &[&str] = &["ib_core", "ib_uverbs", "iw_cm", "rdma_cm", "rdma_ucm"];

/// Modules that GPU memory depends on.
const GPU: &[&str] = &["nvidia", "nvidia_uvm", "nvidia_peermem", "nv_peer_mem", "gdrdrv"];

/// NVIDIA's number among vendors of PCI functions.
pub(super) const NVIDIA: u16 = 0x10de;

/// A host as a profile sees it.
#[derive(Debug, Clone)]
pub struct HostSnapshot {
    /// Its name.
    pub name: String,
    /// RDMA devices.
    pub devices: Devices,
    /// What the verbs library says of them.
    pub verbs: Vec<VerbsDevice>,
    /// GPUs and their distances.
    pub topology: Topology,
    /// Limits of this process on locked memory.
    pub limits: HostLimits,
    /// Versions, parameters, limits and identities.
    pub fingerprint: Vec<FingerprintField>,
    /// Traffic classes that the host sets, by device and port.
    traffic_classes: Vec<(String, u32, u32, String)>,
}

impl HostSnapshot {
    /// Reads it. `name` is the host's.
    #[must_use]
    pub fn look(name: String, root: &Root, inventory: &Result<Inventory, Failure>) -> Self {
        let rdma = host::rdma::read(root);
        let pcie = host::pcie::read(root);
        let system = host::system::read(root);
        let own = host::limits::read_own(root);
        let verbs_files = host::verbs_files::read(root);
        let devices = devices::collect(&rdma, Some(inventory));
        let topology = topology(&pcie, &rdma, &system);
        let fingerprint = fingerprint(root, &rdma, &devices, &topology, &system, &own, &verbs_files);
        let traffic_classes = devices.devices.iter().flat_map(|device| traffic_classes(root, device)).collect();
        let verbs = inventory.as_ref().map(|inventory| inventory.devices.clone()).unwrap_or_default();
        Self { name, devices, verbs, topology, limits: devices::limits(root), fingerprint, traffic_classes }
    }

    /// A device as the verbs library sees it.
    #[must_use]
    pub fn verbs(&self, device: &str) -> Option<&VerbsDevice> {
        self.verbs.iter().find(|verbs| verbs.name == device)
    }

    /// The devices that can be opened.
    pub(super) fn usable(&self) -> impl Iterator<Item = (&Device, &VerbsDevice)> {
        self.devices.usable(&self.verbs)
    }

    /// Addresses of NVIDIA's GPUs.
    pub fn nvidia_gpus(&self) -> impl Iterator<Item = &str> {
        self.topology.gpus.iter().filter(|gpu| gpu.vendor_id == Some(NVIDIA)).map(|gpu| gpu.address.as_str())
    }

    /// A port.
    #[must_use]
    pub fn port(&self, device: &str, port: u32) -> Option<(&Device, &Port)> {
        let device = self.devices.devices.iter().find(|known| known.name == device)?;
        Some((device, device.ports.iter().find(|known| known.port == port)?))
    }

    /// The traffic class that the host sets for a port, and the file that says so.
    #[must_use]
    pub fn traffic_class(&self, device: &str, port: u32) -> Option<(u32, &str)> {
        let found = self.traffic_classes.iter().find(|(name, number, _, _)| name == device && *number == port)?;
        Some((found.2, &found.3))
    }
}

/// Vendor drivers show a forced traffic class in sysfs (MLNX_OFED, `/sys/class/infiniband/DEV/tc/PORT/traffic_class`); rdma_cm's default
/// stands in configfs (Documentation/ABI/testing/configfs-rdma_cm).
fn traffic_classes(root: &Root, device: &Device) -> Vec<(String, u32, u32, String)> {
    let read = |port: &Port| {
        let number = port.port;
        let files = [
            format!("/sys/class/infiniband/{}/tc/{number}/traffic_class", device.name),
            format!("/sys/kernel/config/rdma_cm/{}/ports/{number}/default_roce_tos", device.name),
        ];
        files.into_iter().find_map(|file| {
            let text = root.text(Path::new(&file)).ok().flatten()?;
            let text = text.trim().rsplit(['=', ' ']).next().unwrap_or_default();
            let class: u32 = text.parse().ok().filter(|class| *class > 0)?;
            Some((device.name.clone(), number, class, file))
        })
    };
    device.ports.iter().filter_map(read).collect()
}

fn fingerprint(
    root: &Root,
    rdma: &RdmaFacts,
    devices: &Devices,
    topology: &Topology,
    system: &SystemFacts,
    own: &ProcessFacts,
    verbs_files: &VerbsFilesFacts,
) -> Vec<FingerprintField> {
    let mut fields = Vec::new();
    let mut add = |field: String, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            fields.push(FingerprintField { field, value });
        }
    };
    add("kernel.release".to_owned(), system.kernel_release.clone());
    add("iommu.mode".to_owned(), serde_json::to_value(system.iommu.mode).ok().and_then(|mode| mode.as_str().map(str::to_owned)));
    for name in modules_of(devices) {
        let read = |file: &str| root.text(format!("/sys/module/{name}/{file}")).ok().flatten().map(|text| text.trim().to_owned());
        let version: Vec<String> = [read("version"), read("srcversion")].into_iter().flatten().collect();
        add(format!("module.{name}.version"), Some(version.join(" ")));
        for parameter in root.names(format!("/sys/module/{name}/parameters")).ok().flatten().unwrap_or_default() {
            add(format!("module.{name}.parameter.{parameter}"), read(&format!("parameters/{parameter}")));
        }
    }
    for library in verbs_files.libraries.iter().chain(&verbs_files.connection_libraries) {
        add(format!("library.{}", library.path), Some(library.file.clone()));
    }
    for device in &rdma.devices.iter().flatten().collect::<Vec<_>>() {
        let own = |what: &str| format!("device.{}.{what}", device.name);
        add(own("node_guid"), device.node_guid.clone());
        add(own("firmware"), device.firmware.clone());
        add(own("board"), device.board_id.clone());
        add(own("pci"), device.pci.as_ref().map(|pci| pci.address.clone()));
        if let Some(family) = &device.family {
            let providers: Vec<&str> = verbs_files.providers_of(&family.family).map(|provider| provider.path.as_str()).collect();
            add(own("provider"), Some(providers.join(" ")));
        }
    }
    for device in &devices.devices {
        for port in &device.ports {
            let own = |what: &str| format!("port.{}.{}.{what}", device.name, port.port);
            add(own("state"), port.state.as_ref().map(ToString::to_string));
            add(own("mtu_bytes"), port.active_mtu_bytes.map(|mtu| mtu.to_string()));
            add(own("rate_bits_per_second"), port.rate_bits_per_second.map(|rate| rate.to_string()));
            let gids: Vec<String> =
                port.gids.iter().map(|gid| format!("{} {}", gid.gid, gid.kind.as_deref().unwrap_or_default()).trim().to_owned()).collect();
            add(own("gids"), Some(gids.join(", ")));
        }
    }
    for (kind, path) in topology.gpus.iter().map(|gpu| ("gpu", &gpu.path)).chain(topology.nics.iter().map(|nic| ("nic", &nic.path))) {
        add(
            format!("pci.{kind}.{}", path.address),
            Some(path.bridges.iter().chain([&path.address]).cloned().collect::<Vec<_>>().join(" > ")),
        );
    }
    let memlock = own.memlock().map(|limit| match limit.soft {
        LimitValue::Unlimited => "unlimited".to_owned(),
        limit => limit.value().map_or_else(String::new, |bytes| bytes.to_string()),
    });
    add("limits.memlock_bytes".to_owned(), memlock);
    add("limits.ipc_lock".to_owned(), own.has_ipc_lock().map(|has| has.to_string()));
    fields
}

/// Kernel modules that the devices depend on.
fn modules_of(devices: &Devices) -> Vec<String> {
    let mut names: Vec<String> = CORE.iter().chain(GPU).map(|name| (*name).to_owned()).collect();
    names.extend(devices.devices.iter().flat_map(own_modules));
    names.sort();
    names.dedup();
    names
}

/// Kernel modules of a device: its driver, and what belongs to its family (drivers/infiniband/hw, sw).
fn own_modules(device: &Device) -> Vec<String> {
    let family = device.family.iter().flat_map(|family| [family.clone(), format!("{family}_ib"), format!("rdma_{family}")]);
    device.driver.iter().cloned().chain(family).collect()
}

/// Which parts of the fingerprint a queue pair of a device depends on, by how their names begin.
pub(super) fn depends_on(device: &Device) -> Vec<String> {
    let modules = CORE.iter().map(|name| (*name).to_owned()).chain(own_modules(device)).map(|name| format!("module.{name}."));
    let whole = ["kernel.", "library.", "iommu."].map(str::to_owned);
    whole.into_iter().chain(modules).chain([format!("device.{}.", device.name)]).collect()
}
