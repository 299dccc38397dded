//! Whole modelled hosts: `profiles/hosts/*.yaml`, from which a tree of files (for everything that reads files) and a simulation (for
//! everything that calls verbs) are made. Nothing of the real host is read or touched.

//!
//! A file can extend another: it then says only what differs. Every key has a default for that reason; what a whole host cannot do without
//! is asked for once the files are merged (`load`).

mod check;
mod gpus;
mod held;
mod load;
mod machine;
mod number;
mod overlay;
mod simulate;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use rdmadoctor_types::{LinkLayer, PortState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host_tree;
use crate::catalog::Fault;
use crate::host::Root;

pub(crate) use held::Held;
pub use machine::Limits;
pub(crate) use machine::{Container, HugePages, Iommu, Machine, Runtime};
pub(super) use number::NoAddress;

/// A modelled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostModel {
    /// `rdmadoctor/host/1`.
    pub schema: String,
    /// What `--host-model` takes.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// The host that this one is but for what stands here: an embedded one's name, or a file, seen from this file's directory.
    ///
    /// Maps are merged key by key. Members of `nics`, `interfaces` and `modules.loaded` are merged by name, those of `gpus` and `bridges`
    /// by PCI address, and a name or address of `*` means all members of the host that is extended and all that follow. `sources`,
    /// `kernel_log`, `remove`, `deny`, `hang`, `faults`, `modules.on_disk` and `modules.built_in` add up; other lists are replaced. A module that is named
    /// under another state leaves the one that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// What of the host that is extended is not there: names of NICs, interfaces or modules, PCI addresses of bridges, GPUs or NICs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Where the host's make-up is known from; an invented one says so.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Release of the kernel.
    #[serde(default)]
    pub kernel: String,
    /// The kernel's command line.
    #[serde(default)]
    pub command_line: String,
    /// The distribution, as os-release names it.
    #[serde(default = "debian")]
    pub distribution: String,
    /// The machine.
    #[serde(default)]
    pub machine: Machine,
    /// How the IOMMU treats devices.
    #[serde(default)]
    pub iommu: Iommu,
    /// Bridges of the PCI tree: root ports and switch ports. What names no parent is on a root bus.
    #[serde(default)]
    pub bridges: Vec<Bridge>,
    /// RDMA devices.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Network interfaces beside those of the RDMA devices.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// GPUs.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// Kernel modules.
    #[serde(default)]
    pub modules: Modules,
    /// Files of /etc/modprobe.d, by name.
    #[serde(default)]
    pub modprobe: BTreeMap<String, String>,
    /// Options of the kernel's configuration that differ from a distribution's usual ones: `CONFIG_PCI_P2PDMA: n`.
    #[serde(default)]
    pub kernel_config: BTreeMap<String, String>,
    /// Lines of the kernel's log.
    #[serde(default)]
    pub kernel_log: Vec<String>,
    /// Huge pages.
    #[serde(default)]
    pub huge_pages: Vec<HugePages>,
    /// Limits of processes.
    #[serde(default)]
    pub limits: Limits,
    /// The container that the host is seen from.
    pub container: Option<Container>,
    /// User-space verbs.
    #[serde(default)]
    pub verbs: UserSpace,
    /// NVIDIA's driver.
    pub nvidia: Option<Nvidia>,
    /// What processes hold of RDMA devices.
    #[serde(default)]
    pub held: Vec<Held>,
    /// More files, or other contents: path and text. As in the paths below, links on the way are followed, so that
    /// `/sys/class/net/eth0/mtu` is the interface's.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, String>,
    /// More symbolic links: path and target.
    #[serde(default)]
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Paths that are not there after all, with what is below them.
    #[serde(default)]
    pub remove: Vec<PathBuf>,
    /// Files that may not be read.
    #[serde(default)]
    pub deny: Vec<PathBuf>,
    /// Files whose reading never ends, as those of a device that is stuck.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hang: Vec<PathBuf>,
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
    #[serde(default)]
    pub generation: u8,
    /// Lanes that it can.
    #[serde(default)]
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
    /// The device model, by its name or its family's, or a device file, seen from this file's directory: `./mine.yaml`.
    #[serde(default)]
    pub model: String,
    /// PCI address.
    #[serde(default)]
    pub pci: String,
    /// PCI vendor and device, where they are others than the model's first.
    pub id: Option<String>,
    /// The bridge that it is behind.
    pub parent: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Its link.
    pub link: Option<Link>,
    /// Firmware version, where it is another than the model's.
    pub firmware: Option<String>,
    /// Largest piece that it asks memory for at once (MaxReadRequest); 512 if absent.
    pub read_request_bytes: Option<u32>,
    /// Version of the driver's interface to its provider, where it is another than the kernel's own driver has. libibverbs leaves a device
    /// out whose version its provider does not take (`software.abi` of the model), and prints a warning.
    pub abi: Option<u32>,
    /// Permission bits of its uverbs node; 0666 if absent, as rdma-core's rules give it.
    pub node_mode: Option<u32>,
    /// Network interface.
    pub netdev: Option<String>,
    /// The function of the interface, where it is not the RDMA device's own: eRDMA's are beside an interface of virtio.
    pub netdev_pci: Option<String>,
    /// Whether the administrator has set the interface down.
    #[serde(default)]
    pub admin_down: bool,
    /// Its node GUID; made of its name and place if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<u64>,
    /// Hardware address of the interface; made of the GUID if absent.
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
    /// Link layer, where it is another than the model's.
    pub link_layer: Option<LinkLayer>,
    /// Local identifier, on InfiniBand.
    #[serde(default)]
    pub lid: u16,
    /// The partition table; the default key if absent.
    pub pkeys: Option<Vec<u16>>,
    /// Whether it has a data-direct device beside it, by which mlx5 reaches GPU memory on another way.
    #[serde(default)]
    pub data_direct: bool,
    /// Counters of its port that are not 0, by name.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

fn ethernet_mtu() -> u32 {
    1500
}

fn rate() -> String {
    "100 Gb/sec (4X EDR)".to_owned()
}

/// A network interface that no RDMA device is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The function that it is on; software if absent.
    pub pci: Option<String>,
    /// Its driver.
    pub driver: Option<String>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Addresses, with their prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The router of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// MTU.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    /// Whether there is no signal.
    #[serde(default)]
    pub no_carrier: bool,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The product's name.
    #[serde(default)]
    pub product: String,
    /// PCI vendor and device, `10de:2236`.
    #[serde(default)]
    pub id: String,
    /// Its UUID, as NVML writes it; made of its index if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// PCI address.
    pub pci: String,
    /// The bridge that it is behind.
    pub parent: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Its link.
    pub link: Option<Link>,
    /// Size of the window to its memory (BAR1).
    #[serde(default)]
    pub bar1_gib: u64,
    /// Whether CUDA says that other devices can reach its memory (GPUDirect RDMA).
    #[serde(default = "yes")]
    pub gpudirect_rdma: bool,
    /// Whether CUDA makes dma-bufs of its memory; as the driver's flavour if absent.
    pub dma_buf: Option<bool>,
    /// Size of its memory; not known if absent.
    pub memory_gib: Option<u64>,
    /// What of its window is used.
    #[serde(default)]
    pub bar1_used_gib: u64,
    /// Whether it is divided (MIG).
    #[serde(default)]
    pub divided: bool,
    /// Why NVML does not answer for it: an error's name such as `NVML_ERROR_GPU_IS_LOST`, `hang` or `crash`.
    pub error: Option<String>,
    /// How long NVML takes to answer for it.
    #[serde(default)]
    pub answers_in_ms: u64,
    /// Whether persistence mode is off.
    #[serde(default)]
    pub not_persistent: bool,
    /// What NVML asks for: `gpu_reset`, `node_reboot`, `drain_p2p` or `drain_and_reset`.
    pub recovery_action: Option<String>,
    /// Uncorrected memory errors.
    #[serde(default)]
    pub uncorrected_errors: u64,
    /// Whether what NICs write becomes visible in no order, and CUDA cannot flush it.
    #[serde(default)]
    pub unordered_writes: bool,
}

fn yes() -> bool {
    true
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
    /// The version of its file, where it is another than the loaded one.
    pub disk_version: Option<String>,
    /// The kernel that its file was built for, where it is another than the one that runs.
    pub built_for: Option<String>,
    /// Parameters that can be read.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// User-space verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserSpace {
    /// Release of rdma-core; 0 where neither libibverbs nor librdmacm is installed.
    pub rdma_core: u32,
    /// The generation of providers that libibverbs loads (`libmlx5-rdmav34.so`).
    pub generation: u32,
    /// The generation that the provider libraries are of, where it is another: then none is loaded.
    pub provider_generation: Option<u32>,
    /// Providers that are installed; those of the NICs' families, as far as the release has them, if absent.
    pub providers: Option<Vec<String>>,
}

impl Default for UserSpace {
    fn default() -> Self {
        Self { rdma_core: 44, generation: 34, provider_generation: None, providers: None }
    }
}

/// NVIDIA's driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nvidia {
    /// Version.
    #[serde(default)]
    pub version: String,
    /// Whether its kernel modules are the open ones.
    #[serde(default)]
    pub open: bool,
    /// Parameters as /proc names them: `RegistryDwords`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Why NVML cannot be used: an error's name such as `NVML_ERROR_LIB_RM_VERSION_MISMATCH`, `missing`, `hang` or `crash`.
    pub nvml_error: Option<String>,
    /// Why CUDA cannot be used: an error's name such as `CUDA_ERROR_SYSTEM_NOT_READY`, `missing`, `hang` or `crash`.
    pub cuda_error: Option<String>,
    /// The version of CUDA that the driver takes; 12.4 if absent.
    pub cuda_version: Option<String>,
}

impl HostModel {
    /// The host's files.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::tree(host_tree::build(self))
    }

    /// Whether the running kernel has a module, loaded or built in.
    #[must_use]
    pub fn has_module(&self, name: &str) -> bool {
        self.modules.built_in.iter().any(|other| other == name) || self.modules.loaded.iter().any(|other| other.name == name)
    }

    /// The name of a device, where the host has none of that name.
    #[must_use]
    pub fn lacks<'a>(&self, device: &'a str) -> Option<&'a str> {
        (!self.nics.iter().any(|nic| nic.name == device)).then_some(device)
    }

    /// Whether CUDA would make dma-bufs of a GPU's memory.
    #[must_use]
    pub fn gives_dma_buf(&self, gpu: &Gpu) -> bool {
        gpu.dma_buf.unwrap_or_else(|| self.nvidia.as_ref().is_some_and(|nvidia| nvidia.open))
    }
}

/// An address and its prefix length.
pub(super) fn with_prefix_length(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    Some((address, length.parse().ok().filter(|length| *length <= longest)?))
}

pub(super) fn hardware_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
