//! What sysfs says of RDMA devices, without opening any.

mod port;

use std::path::Path;

use rdmadoctor_types::NodeType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::family::{self, FamilyGuess, Signs};
use super::part::Look;
use super::pci::{self, PciFunction};
use super::reader::{Reader, number};
use super::{Kind, Metadata, ReadError, Root};

#[cfg(test)]
#[cfg(test)]
pub(crate) use port::SysfsPkey;
pub(crate) use port::{NamedCode, SysfsGid, SysfsPort};

const CLASS: &str = "/sys/class/infiniband";
const VERBS_CLASS: &str = "/sys/class/infiniband_verbs";

/// What sysfs says of RDMA on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaFacts {
    /// The devices, in the order of their names. Absent where there is no /sys/class/infiniband, so no ib_core in the kernel; empty where
    /// ib_core is there and no device registered with it (or none is visible in this network namespace).
    pub devices: Option<Vec<SysfsDevice>>,
    /// Version of the kernel's interface to libibverbs; absent without ib_uverbs.
    pub uverbs_abi_version: Option<u32>,
    /// /dev/infiniband/rdma_cm, which rdma_ucm offers and librdmacm opens.
    pub connection_manager: DeviceNode,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

/// One RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SysfsDevice {
    /// Such as `mlx5_0`.
    pub name: String,
    /// Channel adapter (1), iWARP adapter (4), unspecified (7) and others.
    pub node_type: Option<NamedCode>,
    /// Free text, mostly the host's name.
    pub node_desc: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// The vendor's name of the part, such as `MT4129`.
    pub hca_type: Option<String>,
    /// The vendor's name of the board.
    pub board_id: Option<String>,
    /// GUID of the device.
    pub node_guid: Option<String>,
    /// GUID of the whole adapter.
    pub sys_image_guid: Option<String>,
    /// Driver of the device that it is a function of.
    pub driver: Option<String>,
    /// The family, as far as sysfs shows it.
    pub family: Option<FamilyGuess>,
    /// The PCI function that it is on.
    pub pci: Option<PciFunction>,
    /// Whether it is software, below /sys/devices/virtual.
    pub is_virtual: bool,
    /// Network interface that a software device sits on, where it names one.
    pub parent_netdev: Option<String>,
    /// PCI address of that interface, so where a software device's packets leave the host.
    #[serde(default)]
    pub parent_pci_address: Option<String>,
    /// Network interfaces that belong to it: its parent, those of its PCI function, those of its GIDs, or, where there are none of these, the one with
    /// the hardware address that its iWARP GID carries.
    pub netdevs: Vec<String>,
    /// What libibverbs opens.
    pub uverbs: Option<Uverbs>,
    /// Its ports, by number.
    pub ports: Vec<SysfsPort>,
}

/// The entry of a device in /sys/class/infiniband_verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uverbs {
    /// Such as `uverbs0`.
    pub name: String,
    /// Version of the driver's interface to its provider in rdma-core.
    pub abi_version: Option<u32>,
    /// Its node in /dev/infiniband.
    pub node: DeviceNode,
}

/// A device node that a program opens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceNode {
    /// Where it should be.
    pub path: String,
    /// What sysfs says its numbers are: `major:minor`.
    pub expected: Option<String>,
    /// What is there; absent where nothing is.
    pub found: Option<Metadata>,
    /// Whether what is there is the character device that sysfs means; false where nothing is, true where sysfs says nothing.
    pub is_right_device: bool,
}

/// Reads all of it. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> RdmaFacts {
    read_at(root, Look::Whole)
}

/// As [`read`], with as much of GID tables as `look` says.
#[must_use]
pub fn read_at(root: &Root, look: Look) -> RdmaFacts {
    let mut reader = Reader::new(root);
    let connection_manager = node(&mut reader, "/dev/infiniband/rdma_cm", "/sys/class/misc/rdma_cm/dev");
    let uverbs_abi_version = reader.parsed(format!("{VERBS_CLASS}/abi_version"), "a version", |text| text.parse().ok());
    let uverbs = read_uverbs(&mut reader);
    let listed = root.names(CLASS);
    let devices = reader.keep(listed).map(|names| names.iter().map(|name| device(&mut reader, name, &uverbs, look)).collect());
    RdmaFacts { devices, uverbs_abi_version, connection_manager, problems: reader.problems }
}

/// Each uverbs entry with the device that it is for.
fn read_uverbs(reader: &mut Reader<'_>) -> Vec<(String, Uverbs)> {
    let mut all = Vec::new();
    for name in reader.names(VERBS_CLASS) {
        let dir = Path::new(VERBS_CLASS).join(&name);
        // `abi_version` of the class itself is a file beside the entries, and has no ibdev.
        if !name.starts_with("uverbs") {
            continue;
        }
        let Some(device) = reader.attribute(dir.join("ibdev")) else { continue };
        let abi_version = reader.parsed(dir.join("abi_version"), "a version", |text| text.parse().ok());
        let node = node(reader, &format!("/dev/infiniband/{name}"), &format!("{VERBS_CLASS}/{name}/dev"));
        all.push((device, Uverbs { name, abi_version, node }));
    }
    all
}

/// A node of /dev beside what sysfs says of it.
fn node(reader: &mut Reader<'_>, path: &str, dev: &str) -> DeviceNode {
    let numbers = reader.parsed(dev, "major:minor", |text| {
        let (major, minor) = text.split_once(':')?;
        Some((major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?))
    });
    let found = reader.metadata(path);
    let is_right_device = match (found.map(|found| found.kind), numbers) {
        (Some(Kind::CharDevice { major, minor }), Some(numbers)) => (major, minor) == numbers,
        (Some(Kind::CharDevice { .. }), None) => true,
        _ => false,
    };
    DeviceNode { path: path.to_owned(), expected: numbers.map(|(major, minor)| format!("{major}:{minor}")), found, is_right_device }
}

/// What a device is, before its ports are looked at.
struct Identity {
    node_type: Option<NamedCode>,
    driver: Option<String>,
    pci: Option<PciFunction>,
    is_virtual: bool,
    parent_netdev: Option<String>,
    family: Option<FamilyGuess>,
}

/// The families of the devices that are here.
pub(super) fn families(reader: &mut Reader<'_>) -> Vec<String> {
    let names = reader.names(CLASS);
    names.iter().filter_map(|name| identity(reader, name).family).map(|guess| guess.family).collect()
}

fn identity(reader: &mut Reader<'_>, name: &str) -> Identity {
    let dir = Path::new(CLASS).join(name);
    let real = reader.canonical(&dir);
    let is_virtual = real.as_ref().is_some_and(|real| real.starts_with("/sys/devices/virtual"));
    let parent = reader.canonical(dir.join("device"));
    let place = parent.as_deref().or(real.as_deref()).and_then(pci::function_in);
    let pci = place.map(|(dir, address)| pci::function(reader, &dir, &address));
    // A device on a bus other than PCI has its driver on its parent.
    let driver = pci.as_ref().and_then(|pci| pci.driver.clone()).or_else(|| reader.link_name(dir.join("device/driver")));
    let node_type = reader.parsed(dir.join("node_type"), "a code and a name", NamedCode::parse);
    let parent_netdev = reader.attribute(dir.join("parent")).filter(|netdev| !netdev.is_empty());
    let family = family::family(Signs {
        name,
        driver: driver.as_deref(),
        pci: pci.as_ref(),
        is_virtual,
        has_parent: parent_netdev.is_some(),
        node_type: node_type.as_ref().and_then(|node_type| NodeType::of(node_type.code)),
    });
    Identity { node_type, driver, pci, is_virtual, parent_netdev, family }
}

/// One device of the class.
fn device(reader: &mut Reader<'_>, name: &str, uverbs: &[(String, Uverbs)], look: Look) -> SysfsDevice {
    let dir = Path::new(CLASS).join(name);
    let Identity { node_type, driver, pci, is_virtual, parent_netdev, family } = identity(reader, name);
    let parent_device = parent_netdev.as_ref().map(|netdev| format!("/sys/class/net/{netdev}/device"));
    let parent_pci_address =
        parent_device.and_then(|device| reader.canonical(device)).as_deref().and_then(pci::function_in).map(|(_, address)| address);
    let ports = ports(reader, &dir.join("ports"), look);
    let mut netdevs: Vec<String> = parent_netdev.iter().cloned().chain(reader.names(dir.join("device/net"))).collect();
    netdevs.extend(ports.iter().flat_map(|port| &port.gids).filter_map(|gid| gid.netdev.clone()));
    if netdevs.is_empty() && node_type.as_ref().and_then(|node_type| NodeType::of(node_type.code)) == Some(NodeType::Rnic) {
        netdevs.extend(netdev_by_address(reader, &ports));
    }
    netdevs.sort();
    netdevs.dedup();
    let mut text = |attribute: &str| reader.attribute(dir.join(attribute)).filter(|text| !text.is_empty());
    SysfsDevice {
        name: name.to_owned(),
        node_desc: text("node_desc"),
        firmware: text("fw_ver"),
        hca_type: text("hca_type"),
        board_id: text("board_id"),
        node_guid: text("node_guid"),
        sys_image_guid: text("sys_image_guid"),
        node_type,
        driver,
        family,
        pci,
        is_virtual,
        parent_netdev,
        parent_pci_address,
        netdevs,
        uverbs: uverbs.iter().find(|(device, _)| device == name).map(|(_, uverbs)| uverbs.clone()),
        ports,
    }
}

/// The ports of a device, by number.
fn ports(reader: &mut Reader<'_>, dir: &Path, look: Look) -> Vec<SysfsPort> {
    let mut numbers = Vec::new();
    for name in reader.names(dir) {
        match number(&name).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => numbers.push((number, name)),
            None => reader.problems.push(ReadError::malformed(dir, "port", format!("{name:?} is no number"))),
        }
    }
    numbers.sort();
    numbers.into_iter().map(|(number, name)| port::read(reader, &dir.join(name), number, look)).collect()
}

/// The one interface whose hardware address an iWARP GID begins with; siw and others put it there (drivers/infiniband/sw/siw/siw_verbs.c).
fn netdev_by_address(reader: &mut Reader<'_>, ports: &[SysfsPort]) -> Option<String> {
    let gid = ports.iter().flat_map(|port| &port.gids).next()?.gid.replace(':', "");
    let address = gid.get(..12)?.to_owned();
    let mut with_it = Vec::new();
    for netdev in reader.names("/sys/class/net") {
        if reader.attribute(format!("/sys/class/net/{netdev}/address")).is_some_and(|found| found.replace(':', "") == address) {
            with_it.push(netdev);
        }
    }
    // Several interfaces may share an address (a bridge and its first port): then nothing is known.
    if with_it.len() == 1 { with_it.pop() } else { None }
}

#[cfg(test)]
#[path = "rdma_tests.rs"]
mod tests;
