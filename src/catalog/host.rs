//! Whole modelled hosts: `profiles/hosts/*.yaml`, from which a tree of files (for everything that reads files) and a simulation (for
//! everything that calls verbs) are made. Nothing of the real host is read or touched.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CatalogError, DeviceModel, HOSTS};
use crate::host::Root;
use crate::sim::{Fault, ModelSource, PortState, SimConfig, SimDevice, SimPort};

/// The schema that host files name.
pub const HOST_SCHEMA: &str = "rdmadoctor/host/1";

/// A modelled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostModel {
    /// [`HOST_SCHEMA`].
    pub schema: String,
    /// What `--host-model` takes.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Where the host's make-up is known from; an invented one says so.
    pub sources: Vec<String>,
    /// Release of the kernel.
    pub kernel: String,
    /// The kernel's command line.
    #[serde(default)]
    pub command_line: String,
    /// The distribution, as os-release names it.
    #[serde(default = "debian")]
    pub distribution: String,
    /// Bridges of the PCI tree: root ports and switch ports. What names no parent is on a root bus.
    #[serde(default)]
    pub bridges: Vec<Bridge>,
    /// RDMA devices.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// GPUs.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// Kernel modules.
    #[serde(default)]
    pub modules: Modules,
    /// Limits of processes.
    #[serde(default)]
    pub limits: Limits,
    /// User-space verbs.
    #[serde(default)]
    pub verbs: UserSpace,
    /// NVIDIA's driver.
    pub nvidia: Option<Nvidia>,
    /// More files, or other contents: path and text.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, String>,
    /// Paths that are not there after all, with what is below them.
    #[serde(default)]
    pub remove: Vec<PathBuf>,
    /// What goes wrong in verbs, as `--fault` writes it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub faults: Vec<Fault>,
}

fn debian() -> String {
    "debian 12".to_owned()
}

/// A bridge of the PCI tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// PCI address.
    pub pci: String,
    /// The bridge that it is behind.
    pub parent: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Its link: what is behind it may be slower.
    pub link: Option<Link>,
    /// Whether its access control services send packets between its children up to the processor.
    #[serde(default)]
    pub redirects: bool,
}

/// A PCIe link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Generation that it can.
    pub generation: u8,
    /// Lanes that it can.
    pub lanes: u8,
    /// Generation that it got, where less.
    pub generation_now: Option<u8>,
    /// Lanes that it got, where fewer.
    pub lanes_now: Option<u8>,
}

/// An RDMA device with its network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Name of the RDMA device.
    pub name: String,
    /// The device model, of `profiles/devices`.
    pub model: String,
    /// PCI address.
    pub pci: String,
    /// The bridge that it is behind.
    pub parent: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Its link.
    pub link: Option<Link>,
    /// Firmware version, where it is another than the model's.
    pub firmware: Option<String>,
    /// Network interface.
    pub netdev: Option<String>,
    /// Hardware address of the interface.
    pub mac: Option<String>,
    /// Addresses of the interface, with their prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// MTU of the interface.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    /// State of its port.
    #[serde(default)]
    pub state: PortState,
    /// Rate as the kernel writes it.
    #[serde(default = "rate")]
    pub rate: String,
}

fn ethernet_mtu() -> u32 {
    1500
}

fn rate() -> String {
    "100 Gb/sec (4X EDR)".to_owned()
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The product's name.
    pub product: String,
    /// PCI vendor and device, `10de:2236`.
    pub id: String,
    /// PCI address.
    pub pci: String,
    /// The bridge that it is behind.
    pub parent: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Its link.
    pub link: Option<Link>,
    /// Size of the window to its memory (BAR1).
    pub bar1_gib: u64,
}

/// Kernel modules by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Modules {
    /// Loaded, and on disk.
    pub loaded: Vec<Module>,
    /// Part of the kernel.
    pub built_in: Vec<String>,
    /// On disk only.
    pub on_disk: Vec<String>,
    /// Whether ib_core takes peer-memory clients, as NVIDIA's and other vendors' kernels of it do.
    pub peer_memory_api: bool,
}

/// A loaded module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its version, where it has one.
    pub version: Option<String>,
    /// Parameters that can be read.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// Limits of processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// RLIMIT_MEMLOCK, soft and hard; unlimited if absent.
    pub memlock_bytes: Option<u64>,
    /// Whether CAP_IPC_LOCK is effective.
    pub ipc_lock: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memlock_bytes: None, ipc_lock: true }
    }
}

/// User-space verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserSpace {
    /// Release of rdma-core.
    pub rdma_core: u32,
    /// Generation in the names of provider libraries (`libmlx5-rdmav34.so`).
    pub generation: u32,
    /// Providers that are installed; those of the NICs' families if absent.
    pub providers: Option<Vec<String>>,
}

impl Default for UserSpace {
    fn default() -> Self {
        Self { rdma_core: 44, generation: 34, providers: None }
    }
}

/// NVIDIA's driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nvidia {
    /// Version.
    pub version: String,
    /// Whether its kernel modules are the open ones.
    pub open: bool,
}

impl HostModel {
    /// Names of the embedded hosts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        HOSTS.iter().filter_map(|(path, _)| Path::new(*path).file_stem()?.to_str())
    }

    /// An embedded host by its name, or one of a file.
    ///
    /// # Errors
    /// There is no such name, or the file cannot be read or is damaged.
    pub fn find(name: &str) -> Result<Self, CatalogError> {
        let is_named = |path: &str| Path::new(path).file_stem().is_some_and(|stem| stem == name);
        if let Some((path, text)) = HOSTS.iter().find(|(path, _)| is_named(path)) {
            return Self::parse(Path::new(path), text);
        }
        let path = Path::new(name);
        if !path.exists() && !name.contains(['/', '.']) {
            return Err(CatalogError::UnknownHost { name: name.to_owned(), known: Self::names().map(str::to_owned).collect() });
        }
        let text = std::fs::read_to_string(path).map_err(|source| CatalogError::Unreadable { file: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads a file's text; `file` is for messages.
    ///
    /// # Errors
    /// The text is no valid host file; the message names file, line and column.
    pub fn parse(file: &Path, text: &str) -> Result<Self, CatalogError> {
        let invalid = |message: String| CatalogError::Invalid { file: file.to_owned(), message };
        let host: Self = serde_yaml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if host.schema != HOST_SCHEMA {
            return Err(invalid(format!("schema is `{}`, expected `{HOST_SCHEMA}`", host.schema)));
        }
        if host.sources.is_empty() {
            return Err(invalid("it names no source".to_owned()));
        }
        let functions = host.bridges.iter().map(|bridge| (&bridge.pci, &bridge.parent));
        let functions = functions.chain(host.nics.iter().map(|nic| (&nic.pci, &nic.parent)));
        for (address, parent) in functions.chain(host.gpus.iter().map(|gpu| (&gpu.pci, &gpu.parent))) {
            if !is_address(address) {
                return Err(invalid(format!("`{address}` is no PCI address such as 0000:3b:00.0")));
            }
            // A bridge stands before what is behind it, so the tree has no loops.
            if let Some(parent) = parent
                && !host.bridges.iter().take_while(|bridge| bridge.pci != *address).any(|bridge| bridge.pci == *parent)
            {
                return Err(invalid(format!("{address} is behind {parent}, which is no bridge listed before it")));
            }
        }
        for nic in &host.nics {
            if DeviceModel::find(&nic.model).is_none() {
                return Err(invalid(format!(
                    "{}: unknown device model `{}`; known are {}",
                    nic.name,
                    nic.model,
                    DeviceModel::names().join(", ")
                )));
            }
            for address in &nic.addresses {
                nic_address(address).ok_or_else(|| invalid(format!("{}: `{address}` is no address with a prefix length", nic.name)))?;
            }
        }
        Ok(host)
    }

    /// The host's files.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::tree(super::host_tree::build(self))
    }

    /// The host's verbs: the devices whose node and provider are there, as libibverbs would list them.
    #[must_use]
    pub fn simulation(&self) -> SimConfig {
        let root = self.root();
        let devices = self.nics.iter().enumerate().filter(|(index, nic)| {
            let family = DeviceModel::find(&nic.model).map_or("", |model| &model.family);
            root.exists(format!("/dev/infiniband/uverbs{index}"))
                && root.exists(format!("/sys/class/infiniband/{}", nic.name))
                && root.exists(format!("/etc/libibverbs.d/{family}.driver"))
        });
        SimConfig {
            devices: devices
                .map(|(_, nic)| SimDevice {
                    name: nic.name.clone(),
                    model: ModelSource::Named(nic.model.clone()),
                    ports: vec![SimPort { state: nic.state, gids: Some(super::host_tree::gids(nic)), ..SimPort::default() }],
                    node_guid: super::host_tree::guid(nic),
                })
                .collect(),
            faults: self.faults.clone(),
            kernel: Some(self.kernel.clone()),
            memlock_bytes: self.limits.memlock_bytes.filter(|_| !self.limits.ipc_lock),
            ..SimConfig::default()
        }
    }
}

/// An address and its prefix length.
pub(super) fn nic_address(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok().filter(|length| *length <= 128)?))
}

fn is_address(text: &str) -> bool {
    let is_hexadecimal = |part: &str, length: usize| part.len() == length && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    matches!(parts.as_slice(), [domain, bus, device, function]
        if is_hexadecimal(domain, 4) && is_hexadecimal(bus, 2) && is_hexadecimal(device, 2) && is_hexadecimal(function, 1))
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
