//! Network interfaces, addresses, routes and neighbours: the interfaces from files, the rest on the host itself by netlink, and
//! elsewhere, or where a sandbox has no netlink, from files too.
//!
//! Two things no file tells: routes of tables other than the main one, and IPv6 neighbours. Addresses of IPv4 are in a file without
//! their interface.

pub(crate) mod address;
pub(crate) mod configured;
mod kernel;
pub(crate) mod route;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::address::Address;
use self::configured::ConfiguredAddress;
use self::route::{Neighbour, Route};
use super::pci;
use super::reader::{Reader, number};
use super::{ReadError, Root};

const CLASS: &str = "/sys/class/net";

/// What a host says of its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetFacts {
    /// The interfaces of this network namespace. Absent without /sys/class/net.
    pub interfaces: Option<Vec<NetInterface>>,
    pub addresses: Vec<Address>,
    /// Addresses that files give to interfaces.
    #[serde(default)]
    pub configured_addresses: Vec<ConfiguredAddress>,
    /// Routes but those to the host itself: by netlink of all tables, from files of IPv4's main table and all of IPv6's.
    pub routes: Vec<Route>,
    /// Neighbours; from files those of IPv4 alone.
    pub neighbours: Vec<Neighbour>,
    /// Quality-of-service settings that drivers show as files, mostly those of NVIDIA's own driver packages.
    pub quality_of_service: Vec<Setting>,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

impl NetFacts {
    /// An interface by name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&NetInterface> {
        self.interfaces.iter().flatten().find(|interface| interface.name == name)
    }
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetInterface {
    pub name: String,
    pub index: Option<u32>,
    /// Number of the interface that it gets its signal from: the other end of a veth pair, the carrier of a VLAN. Its own where there is none.
    #[serde(default)]
    pub linked_index: Option<u32>,
    /// What it is: `bond`, `vlan`, `bridge` and others; absent for plain ones.
    pub kind: Option<String>,
    /// Kind of link: 1 Ethernet, 32 InfiniBand, 772 loopback (include/uapi/linux/if_arp.h).
    pub link_type: Option<u32>,
    /// Longest packet.
    pub mtu_bytes: Option<u32>,
    /// Whether it was set up by the administrator.
    pub is_up: Option<bool>,
    /// `up`, `down`, `dormant`, `lowerlayerdown`, `unknown` and others.
    pub operational_state: Option<String>,
    /// Whether there is a signal; absent while it is not set up.
    pub has_carrier: Option<bool>,
    /// How often the signal came or went.
    pub carrier_changes: Option<u64>,
    /// Speed; absent where there is no signal or the driver does not know.
    pub bits_per_second: Option<u64>,
    /// Its hardware address.
    pub address: Option<String>,
    /// The PCI function that it is on.
    pub pci_address: Option<String>,
    pub driver: Option<String>,
    /// Whether it is software, below /sys/devices/virtual.
    pub is_virtual: bool,
    /// The bond, bridge or the like that it belongs to.
    pub master: Option<String>,
    /// Interfaces below it: members of a bond, the carrier of a VLAN.
    pub lower: Vec<String>,
    /// How it bonds, where it is a bond.
    pub bond: Option<Bond>,
    /// Virtual functions of its PCI function.
    pub virtual_functions: Option<VirtualFunctions>,
    /// The PCI function that its own is a virtual one of.
    pub physical_function: Option<String>,
}

/// A bond (Documentation/networking/bonding.rst).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bond {
    /// Such as `802.3ad 4`.
    pub mode: Option<String>,
    /// Such as `layer3+4 1`.
    pub hash_policy: Option<String>,
    /// The member in use, in modes that use one.
    pub active_member: Option<String>,
    pub members: Vec<String>,
}

/// Virtual functions of SR-IOV.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualFunctions {
    /// How many are on.
    pub enabled: u32,
    /// How many there could be.
    pub possible: Option<u32>,
}

/// A file with its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// The file.
    pub path: String,
    /// The content.
    pub value: String,
}

/// Reads it. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> NetFacts {
    let mut reader = Reader::new(root);
    let listed = root.names(CLASS);
    // `bonding_masters` is a file beside the interfaces.
    let interfaces = reader.keep(listed).map(|names| {
        let names = names.iter().filter(|name| *name != "bonding_masters");
        names.map(|name| interface(&mut reader, name)).collect::<Vec<_>>()
    });
    let configured_addresses = configured::read(&mut reader);
    let numbered = interfaces.iter().flatten().filter_map(|interface| Some((interface.index?, interface.name.clone()))).collect();
    let answer = root.is_host().then(|| kernel::ask(&numbered).ok()).flatten();
    let kernel::Answer { addresses, routes, neighbours } = answer.unwrap_or_else(|| from_files(&mut reader, directory(root)));
    let quality_of_service = quality_of_service(&mut reader, interfaces.as_deref().unwrap_or_default());
    NetFacts { interfaces, addresses, configured_addresses, routes, neighbours, quality_of_service, problems: reader.problems }
}

fn from_files(reader: &mut Reader<'_>, proc: &Path) -> kernel::Answer {
    let routes = route::routes(reader, proc);
    kernel::Answer { addresses: address::read(reader, proc, &routes), neighbours: route::neighbours(reader, proc), routes }
}

/// Where the network namespace's files are. /proc/net is that of the reading process; of a host mounted elsewhere, process 1's is meant.
fn directory(root: &Root) -> &'static Path {
    Path::new(if !root.is_host() && root.exists("/proc/1/net/route") { "/proc/1/net" } else { "/proc/net" })
}

fn interface(reader: &mut Reader<'_>, name: &str) -> NetInterface {
    let dir = Path::new(CLASS).join(name);
    let real = reader.canonical(&dir);
    let device = reader.canonical(dir.join("device"));
    let function = device.as_deref().and_then(pci::function_in).map(|(_, address)| address);
    let mut small =
        |attribute: &str| reader.parsed(dir.join(attribute), "a number", |text| number(text).and_then(|value| u32::try_from(value).ok()));
    let (index, link_type, mtu_bytes, flags) = (small("ifindex"), small("type"), small("mtu"), small("flags"));
    let linked_index = small("iflink");
    let carrier_changes = small("carrier_changes").map(u64::from);
    let mut of_device = |attribute: &str| device.as_ref().and_then(|_| small(attribute));
    let (enabled, possible) = (of_device("device/sriov_numvfs"), of_device("device/sriov_totalvfs"));
    let has_carrier = reader.parsed(dir.join("carrier"), "0 or 1", |text| text.parse::<u8>().ok()).map(|carrier| carrier == 1);
    // In Mb/s; -1 where it is not known.
    let speed = reader.parsed(dir.join("speed"), "a speed in Mb/s", |text| text.parse::<i64>().ok());
    let entries = reader.names(&dir);
    let uevent = reader.attribute(dir.join("uevent")).unwrap_or_default();
    NetInterface {
        name: name.to_owned(),
        index,
        linked_index,
        kind: uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).map(str::to_owned),
        link_type,
        mtu_bytes,
        // IFF_UP.
        is_up: flags.map(|flags| flags & 1 == 1),
        operational_state: reader.attribute(dir.join("operstate")),
        has_carrier,
        carrier_changes,
        // Old drivers that do not know say 65535 or the largest number.
        bits_per_second: speed
            .and_then(|speed| u64::try_from(speed).ok())
            .filter(|speed| !matches!(speed, 0 | 0xffff | 0xffff_ffff))
            .and_then(|speed| speed.checked_mul(1_000_000)),
        address: reader.attribute(dir.join("address")).filter(|address| !address.is_empty()),
        driver: device.as_ref().and_then(|_| reader.link_name(dir.join("device/driver"))),
        is_virtual: real.is_some_and(|real| real.starts_with("/sys/devices/virtual")),
        master: reader.link_name(dir.join("master")),
        lower: entries.iter().filter_map(|entry| entry.strip_prefix("lower_")).map(str::to_owned).collect(),
        bond: entries.iter().any(|entry| entry == "bonding").then(|| bond(reader, &dir.join("bonding"))),
        virtual_functions: enabled.map(|enabled| VirtualFunctions { enabled, possible }),
        physical_function: function.as_ref().and_then(|_| reader.link_name(dir.join("device/physfn"))),
        pci_address: function,
    }
}

fn bond(reader: &mut Reader<'_>, dir: &Path) -> Bond {
    let mut text = |name: &str| reader.attribute(dir.join(name)).filter(|text| !text.is_empty());
    Bond {
        mode: text("mode"),
        hash_policy: text("xmit_hash_policy"),
        active_member: text("active_slave"),
        members: text("slaves").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
    }
}

/// Files of MLNX_OFED and DOCA drivers (`ecn`, `qos`, `tc`), and the traffic class of connections that rdma_cm makes
/// (drivers/infiniband/core/cma_configfs.c), which the kernel's own have too.
fn quality_of_service(reader: &mut Reader<'_>, interfaces: &[NetInterface]) -> Vec<Setting> {
    let mut settings = Vec::new();
    for interface in interfaces.iter().filter(|interface| !interface.is_virtual) {
        let dir = format!("{CLASS}/{}", interface.name);
        for folder in ["qos", "ecn/roce_np", "ecn/roce_rp", "ecn/roce_np/enable", "ecn/roce_rp/enable"] {
            files(reader, &format!("{dir}/{folder}"), &mut settings);
        }
    }
    for device in reader.names("/sys/class/infiniband") {
        for port in reader.names(format!("/sys/class/infiniband/{device}/tc")) {
            files(reader, &format!("/sys/class/infiniband/{device}/tc/{port}"), &mut settings);
        }
    }
    // A directory is made there for each device by who sets something.
    for device in reader.names("/sys/kernel/config/rdma_cm") {
        for port in reader.names(format!("/sys/kernel/config/rdma_cm/{device}/ports")) {
            files(reader, &format!("/sys/kernel/config/rdma_cm/{device}/ports/{port}"), &mut settings);
        }
    }
    settings
}

/// The short files of a directory.
fn files(reader: &mut Reader<'_>, dir: &str, settings: &mut Vec<Setting>) {
    for name in reader.names(dir) {
        let path = format!("{dir}/{name}");
        let is_file = reader
            .root
            .metadata(&path)
            .ok()
            .flatten()
            .is_some_and(|metadata| metadata.kind == super::Kind::File && metadata.mode & 0o444 != 0);
        if let Some(value) = is_file.then(|| reader.attribute(&path)).flatten().filter(|value| value.len() <= 4096) {
            settings.push(Setting { path, value });
        }
    }
}

#[cfg(test)]
#[path = "../net_tests.rs"]
mod tests;
