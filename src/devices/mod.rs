//! RDMA devices as two witnesses see them: the kernel through sysfs, and the verbs library. Where one lacks a device, it says why.

mod caps;
mod limits;

use rdmadoctor_types::{LinkLayer, NodeType, PortState, Transport, Word};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::part::unread_of;
use crate::host::rdma::{RdmaFacts, SysfsDevice, SysfsPort};
use crate::schema;
use crate::verbs::{self, GidPreference, PortAttributes};
use crate::worker::{Failure, Inventory, Lost, VerbsDevice};

pub(crate) use caps::{Caps, DeviceCaps};
pub use limits::HostLimits;
pub(crate) use limits::read as limits;

/// The document of `devices`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Devices {
    /// `rdmadoctor/devices/1`.
    pub schema: String,
    /// By name.
    pub devices: Vec<Device>,
    /// What stands in the way of seeing or using devices.
    pub problems: Vec<Problem>,
}

/// Something that is missing, with the step that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What, with its evidence.
    pub summary: String,
    /// What to do.
    pub next_step: Option<String>,
}

impl Problem {
    /// The same, where it is not clear of which device it is.
    pub(crate) fn of(&self, device: &str) -> Self {
        Self { summary: format!("{device}: {}", self.summary), next_step: self.next_step.clone() }
    }
}

impl Devices {
    /// Those that can be opened, as the verbs library sees them too.
    pub(crate) fn usable<'a>(&'a self, verbs: &'a [VerbsDevice]) -> impl Iterator<Item = (&'a Device, &'a VerbsDevice)> {
        let devices = self.devices.iter().filter(|device| device.problem.is_none());
        devices.filter_map(|device| Some((device, verbs.iter().find(|seen| seen.name == device.name)?)))
    }
}

/// An RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// Such as `mlx5_0`.
    pub name: String,
    /// Such as `mlx5`, `erdma`, `rxe`.
    pub family: Option<String>,
    /// Whether nothing but the name tells the family.
    pub family_is_guess: bool,
    /// Kernel driver of the function that it is on; for software devices the family's module.
    pub driver: Option<String>,
    /// `RoCE`, `InfiniBand`, `iWARP`, or `unspecified` (EFA).
    pub transport: Word<Transport>,
    /// `CA`, `RNIC` and so on, as the kernel names it.
    pub node_type: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// PCI address; absent for software devices.
    pub pci: Option<String>,
    /// NUMA node; absent where the platform does not say.
    pub numa_node: Option<u32>,
    /// Network interfaces that belong to it.
    pub netdevs: Vec<String>,
    /// The node that libibverbs opens.
    pub uverbs: Option<String>,
    /// Whether sysfs and libibverbs both show it.
    pub seen_by: Views,
    /// Why one of them does not, or why the device cannot be opened.
    pub problem: Option<Problem>,
    /// By number.
    pub ports: Vec<Port>,
}

/// Who shows a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Views {
    /// The kernel.
    pub sysfs: bool,
    /// libibverbs; absent where it was not asked (a host mounted elsewhere).
    pub verbs: Option<bool>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// From 1.
    pub port: u32,
    /// `down`, `init`, `armed`, `active`.
    pub state: Option<Word<PortState>>,
    /// Such as `LinkUp`, `Disabled`, `Polling`.
    pub physical_state: Option<String>,
    /// `Ethernet`, `InfiniBand` or `Unspecified`.
    pub link_layer: Option<Word<LinkLayer>>,
    /// Path MTU in force, in bytes; only libibverbs tells it.
    pub active_mtu_bytes: Option<u32>,
    /// Nominal rate.
    pub rate_bits_per_second: Option<u64>,
    /// Local identifier, on InfiniBand.
    pub lid: Option<u32>,
    /// Entries of the GID table that hold something.
    pub gids: Vec<Gid>,
}

/// An entry of a GID table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gid {
    /// Its index, which differs from host to host.
    pub index: u32,
    /// The identifier.
    pub gid: String,
    /// `RoCE v2`, `IB/RoCE v1`; absent where the driver keeps no types.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Network interface that it belongs to.
    pub netdev: Option<String>,
    /// `ipv4`, `global` or `link_local`.
    pub scope: String,
    /// The IPv4 address, where it is one.
    pub ipv4: Option<String>,
}

impl Gid {
    /// How good it is to use.
    #[must_use]
    pub fn preference(&self) -> GidPreference {
        GidPreference::of(self.kind.as_deref(), &self.scope, self.netdev.as_deref(), self.index)
    }
}

impl Port {
    /// Whether it can be used.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state.as_ref().is_some_and(|state| *state == PortState::Active)
    }

    /// The entry of its GID table to use, where nothing is known of another end.
    #[must_use]
    pub fn best_gid(&self) -> Option<&Gid> {
        // Verbs names entries by one byte.
        self.gids.iter().filter(|gid| gid.index <= 255).min_by_key(|gid| gid.preference())
    }

    /// The index of that entry, as verbs takes it.
    #[must_use]
    pub fn best_gid_index(&self) -> Option<u8> {
        self.best_gid().and_then(|gid| u8::try_from(gid.index).ok())
    }
}

impl Device {
    /// Whether data can move: it can be opened, and has an active port.
    pub(crate) fn is_up(&self) -> bool {
        self.problem.is_none() && self.ports.iter().any(|port| port.is_active())
    }

    /// The index of the GID to use on a port of it.
    #[must_use]
    pub fn best_gid_index(&self, port: u8) -> Option<u8> {
        self.ports.iter().find(|known| known.port == u32::from(port))?.best_gid_index()
    }
}

/// Brings both views together. `inventory` is absent where libibverbs was not asked.
#[must_use]
pub fn collect(sysfs: &RdmaFacts, inventory: Option<&Result<Inventory, Failure>>) -> Devices {
    let mut problems = Vec::new();
    let verbs = match inventory {
        Some(Ok(inventory)) => {
            if let Some(error) = &inventory.library_error {
                problems.push(Problem { summary: error.to_string(), next_step: Some(error.next_step().to_owned()) });
            }
            Some(inventory)
        }
        Some(Err(failure)) => {
            problems.push(Problem { summary: failure.to_string(), next_step: failure_step(failure) });
            None
        }
        None => None,
    };
    let listed = sysfs.devices.as_deref().unwrap_or_default();
    let was_asked = inventory.is_some();
    let mut devices: Vec<Device> = listed
        .iter()
        .map(|device| {
            let seen = verbs.and_then(|verbs| verbs.devices.iter().find(|other| other.name == device.name));
            let problem = match (seen, verbs) {
                (Some(seen), _) => lost(seen).or_else(|| seen.error.as_ref().map(|error| cannot_open(device, error))),
                (None, Some(verbs)) => Some(not_in_verbs(device, verbs)),
                (None, None) => None,
            };
            merged(device, seen, was_asked, problem)
        })
        .collect();
    if let Some(verbs) = verbs {
        let unknown = verbs.devices.iter().filter(|device| listed.iter().all(|other| other.name != device.name));
        devices.extend(unknown.map(only_in_verbs));
    }
    devices.sort_by(|left, right| left.name.cmp(&right.name));
    let unread = unread_of(&sysfs.problems);
    if unread.is_some() {
        // That sysfs shows nothing of them has another reason.
        devices
            .iter_mut()
            .filter(|device| !device.seen_by.sysfs && verbs.is_some())
            .for_each(|device| device.problem = verbs.and_then(|verbs| lost(verbs.devices.iter().find(|seen| seen.name == device.name)?)));
    } else if devices.is_empty() {
        problems.push(no_devices(sysfs, verbs));
    }
    problems.extend(sysfs.problems.iter().map(|error| Problem {
        summary: error.to_string(),
        next_step: unread.filter(|unread| *unread == error).map(|_| NOT_READ.to_owned()),
    }));
    Devices { schema: schema::DEVICES.to_owned(), devices, problems }
}

fn failure_step(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Lost(Lost::Crashed { .. }) => Some(
            "a provider library (/etc/libibverbs.d, libibverbs/) is broken or of another generation; reinstall rdma-core or the vendor's package"
                .to_owned(),
        ),
        Failure::Lost(Lost::Hung { .. }) => Some("a device may not answer: look at `dmesg`; --answer-within TIME waits longer".to_owned()),
        _ => None,
    }
}

/// What to do about files that come to no end.
const NOT_READ: &str = "the driver of the device does not answer: look at `dmesg`; --answer-within TIME waits longer";

/// What became of a process that opened and queried the device.
fn lost(seen: &VerbsDevice) -> Option<Problem> {
    let loss = seen.loss.as_ref()?;
    let next_step = match loss {
        Lost::Crashed { .. } => {
            "its provider is broken or of another generation than libibverbs or the kernel driver; reinstall rdma-core or the vendor's package"
        }
        Lost::Hung { .. } => "the device or its driver does not answer: look at `dmesg`; --answer-within TIME waits longer",
        Lost::NotAsked => "name the device to ask it alone",
    };
    Some(Problem { summary: loss.to_string(), next_step: Some(next_step.to_owned()) })
}

fn no_devices(sysfs: &RdmaFacts, verbs: Option<&Inventory>) -> Problem {
    let mut summary = match &sysfs.devices {
        None => "no RDMA devices: there is no /sys/class/infiniband, so the kernel has no RDMA core (ib_core)".to_owned(),
        Some(_) => "no RDMA devices: /sys/class/infiniband is empty, so no driver has registered one that this network namespace may see"
            .to_owned(),
    };
    if let Some(error) = verbs.and_then(|verbs| verbs.list_error.as_ref()) {
        summary += &format!("; {error}");
    }
    let next = "see `rdmadoctor modules` for the drivers; a container needs the host's devices (--device=/dev/infiniband); without hardware, \
                `rdma link add rxe0 type rxe netdev eth0` makes a software one";
    Problem { summary, next_step: Some(next.to_owned()) }
}

fn cannot_open(device: &SysfsDevice, error: &verbs::CallError) -> Problem {
    let node = device.uverbs.as_ref().map_or("its device node", |uverbs| &uverbs.node.path);
    let next_step = match error.errno.0 {
        libc::EACCES => Some(format!("give this user access to {node} (udev's rdma rules make it 0666)")),
        libc::EPERM => Some(format!(
            "{node} is not permitted here: in a container pass --device={node}; with `rdma system` netns exclusive, move the device here"
        )),
        libc::ENOENT => Some(format!("{node} is missing: load ib_uverbs, or pass the node to the container (--device={node})")),
        libc::EIO | libc::ENXIO | libc::ENODEV => Some("the device was reset or removed: look at `dmesg`".to_owned()),
        libc::ENOMEM => Some("locked memory is short: raise RLIMIT_MEMLOCK (`ulimit -l unlimited`)".to_owned()),
        _ => None,
    };
    Problem { summary: error.to_string(), next_step }
}

/// Why libibverbs does not list a device that sysfs shows.
fn not_in_verbs(device: &SysfsDevice, verbs: &Inventory) -> Problem {
    let step = |text: &str| Some(text.to_owned());
    if let Some(error) = &verbs.library_error {
        return Problem { summary: error.to_string(), next_step: step(error.next_step()) };
    }
    if let Some(error) = &verbs.list_error {
        return Problem {
            summary: error.to_string(),
            next_step: step("look at `dmesg`, and at the permissions of /sys/class/infiniband_verbs"),
        };
    }
    let Some(uverbs) = &device.uverbs else {
        return Problem {
            summary: "libibverbs does not list it: it has no entry in /sys/class/infiniband_verbs, so ib_uverbs is not loaded".to_owned(),
            next_step: step("modprobe ib_uverbs"),
        };
    };
    if !uverbs.node.is_right_device {
        return Problem {
            summary: format!("libibverbs does not list it: {} is missing or is another device", uverbs.node.path),
            next_step: Some(format!("pass the node to the container (--device={}), or let udev make it", uverbs.node.path)),
        };
    }
    // libibverbs words its warnings so: "couldn't load driver 'libmlx5-rdmav34.so': …", "no userspace device-specific driver found for
    // /sys/class/infiniband_verbs/uverbs0", "Driver bnxt_re does not support the kernel ABI of 6 (supports 1 to 1) for device …".
    let said = |word: &str| verbs.printed.iter().find(|line| line.contains(word));
    if let Some(line) = said("does not support the kernel ABI") {
        return Problem {
            summary: format!("libibverbs does not list it: provider and kernel driver do not fit: {line}"),
            next_step: step("install the provider that belongs to the kernel driver: both from the vendor, or both from the distribution"),
        };
    }
    if let Some(line) = said("couldn't load driver") {
        return Problem {
            summary: format!("libibverbs does not list it: its provider cannot be loaded: {line}"),
            next_step: step("reinstall ibverbs-providers (rdma-core) in the generation of libibverbs, or the vendor's package"),
        };
    }
    let family = device.family.as_ref().map_or("this device", |guess| &guess.family);
    Problem {
        summary: said(&uverbs.name).map_or_else(
            || format!("libibverbs does not list it and gave no reason; {} is there", uverbs.node.path),
            |line| format!("libibverbs does not list it: no provider for {family}: {line}"),
        ),
        next_step: step("install the provider (Debian: ibverbs-providers; or the vendor's package) and look for it in /etc/libibverbs.d"),
    }
}

fn merged(device: &SysfsDevice, seen: Option<&VerbsDevice>, was_asked: bool, problem: Option<Problem>) -> Device {
    Device {
        name: device.name.clone(),
        family: device.family.as_ref().map(|guess| guess.family.clone()),
        family_is_guess: device.family.as_ref().is_some_and(|guess| guess.basis == crate::host::family::FamilyBasis::NameOnly),
        driver: device.driver.clone().or_else(|| {
            let soft = device.family.as_ref().filter(|_| device.is_virtual);
            soft.map(|guess| {
                let family = crate::host::families::find(&guess.family).filter(|family| family.software.is_some());
                family.and_then(|family| family.modules.last()).map_or(&*guess.family, |module| &*module.name).to_owned()
            })
        }),
        transport: transport(
            device.node_type.as_ref().and_then(|node| NodeType::of(node.code)),
            device.ports.first().and_then(|port| port.link_layer.as_ref()),
        ),
        node_type: device.node_type.as_ref().map(|node| node.name.clone()),
        firmware: device.firmware.clone().filter(|version| !version.is_empty()),
        pci: device.pci.as_ref().map(|pci| pci.address.clone()),
        numa_node: device.pci.as_ref().and_then(|pci| pci.numa_node),
        netdevs: device.netdevs.clone(),
        uverbs: device.uverbs.as_ref().map(|uverbs| uverbs.node.path.clone()),
        seen_by: Views { sysfs: true, verbs: was_asked.then_some(seen.is_some()) },
        problem,
        ports: device
            .ports
            .iter()
            .map(|port| port_of(port, seen.and_then(|seen| seen.ports.iter().find(|other| u32::from(other.port) == port.port))))
            .collect(),
    }
}

fn only_in_verbs(device: &VerbsDevice) -> Device {
    Device {
        name: device.name.clone(),
        family: None,
        family_is_guess: false,
        driver: None,
        transport: transport(NodeType::of(device.node_type), device.ports.first().map(|port| &port.link_layer)),
        node_type: None,
        firmware: device.attributes.as_ref().map(|attributes| attributes.firmware.clone()).filter(|version| !version.is_empty()),
        pci: None,
        numa_node: None,
        netdevs: Vec::new(),
        uverbs: None,
        seen_by: Views { sysfs: false, verbs: Some(true) },
        problem: lost(device).or_else(|| {
            Some(Problem {
                summary:
                    "libibverbs lists it, /sys/class/infiniband does not: another sysfs is mounted here, or the library is not the host's"
                        .to_owned(),
                next_step: None,
            })
        }),
        ports: device.ports.iter().map(verbs_port).collect(),
    }
}

/// What the device speaks.
fn transport(node_type: Option<NodeType>, link_layer: Option<&Word<LinkLayer>>) -> Word<Transport> {
    Word::Known(match (node_type, link_layer.and_then(Word::known)) {
        (Some(NodeType::Rnic), _) => Transport::Iwarp,
        (Some(NodeType::ChannelAdapter), Some(LinkLayer::Ethernet)) => Transport::Roce,
        (Some(NodeType::ChannelAdapter), Some(LinkLayer::Infiniband)) => Transport::Infiniband,
        _ => Transport::Unspecified,
    })
}

fn port_of(port: &SysfsPort, seen: Option<&PortAttributes>) -> Port {
    Port {
        port: port.port,
        state: port.state.as_ref().map(|state| Word::from(&*state.name.to_ascii_lowercase())),
        physical_state: port.phys_state.as_ref().map(|state| state.name.clone()),
        link_layer: port.link_layer.clone(),
        active_mtu_bytes: seen.map(|seen| seen.active_mtu_bytes).filter(|mtu| *mtu > 0),
        rate_bits_per_second: port.rate_bits_per_second,
        lid: port.lid.filter(|lid| *lid > 0),
        gids: port
            .gids
            .iter()
            .map(|entry| {
                let gid: Option<verbs::Gid> = entry.gid.parse().ok();
                Gid {
                    index: entry.index,
                    gid: entry.gid.clone(),
                    kind: entry.gid_type.clone(),
                    netdev: entry.netdev.clone(),
                    scope: gid.map_or("unknown", verbs::Gid::scope).to_owned(),
                    ipv4: gid.and_then(verbs::Gid::ipv4).map(|address| address.to_string()),
                }
            })
            .collect(),
    }
}

fn verbs_port(port: &PortAttributes) -> Port {
    Port {
        port: port.port.into(),
        state: Some(port.state.clone()),
        physical_state: None,
        link_layer: Some(port.link_layer.clone()),
        active_mtu_bytes: Some(port.active_mtu_bytes).filter(|mtu| *mtu > 0),
        rate_bits_per_second: None,
        lid: Some(u32::from(port.lid)).filter(|lid| *lid > 0),
        gids: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::host::{Node, Root};
    use crate::verbs::LoadError;

    /// sysfs of one rxe device, without its node in /dev.
    fn host() -> RdmaFacts {
        let class = "/sys/class/infiniband/rxe0";
        let files = [
            (format!("{class}/node_type"), "1: CA"),
            (format!("{class}/parent"), "eth0"),
            (format!("{class}/ports/1/state"), "4: ACTIVE"),
            (format!("{class}/ports/1/link_layer"), "Ethernet"),
            (format!("{class}/ports/1/gids/0"), "0000:0000:0000:0000:0000:ffff:0a4d:0001"),
            (format!("{class}/ports/1/gid_attrs/types/0"), "RoCE v2"),
            ("/sys/class/infiniband_verbs/uverbs0/ibdev".to_owned(), "rxe0"),
            ("/sys/class/infiniband_verbs/uverbs0/dev".to_owned(), "231:192"),
        ];
        let tree: BTreeMap<PathBuf, Node> =
            files.into_iter().map(|(path, text)| (PathBuf::from(path), Node::File(text.as_bytes().to_vec()))).collect();
        crate::host::rdma::read(&Root::tree(tree))
    }

    #[test]
    fn a_missing_node_is_the_reason() {
        let found = collect(&host(), Some(&Ok(Inventory::default())));
        let problem = found.devices[0].problem.as_ref().unwrap();
        assert!(problem.summary.contains("/dev/infiniband/uverbs0"), "{problem:?}");
        assert_eq!(found.devices[0].transport, Transport::Roce);
        assert_eq!(found.devices[0].ports[0].gids[0].ipv4.as_deref(), Some("10.77.0.1"));
    }

    #[test]
    fn a_missing_library_is_the_reason() {
        let error = LoadError::LibraryMissing { library: "libibverbs.so.1".into() };
        let found = collect(&host(), Some(&Ok(Inventory { library_error: Some(error), ..Inventory::default() })));
        assert!(found.problems[0].next_step.as_ref().unwrap().contains("apt-get install"));
        assert!(found.devices[0].problem.as_ref().unwrap().summary.contains("libibverbs.so.1"));
    }

    #[test]
    fn a_device_that_only_libibverbs_lists_is_listed() {
        let device = VerbsDevice {
            name: "mlx5_0".to_owned(),
            node_type: 1,
            transport_type: 0,
            error: None,
            loss: None,
            attributes: None,
            ports: vec![],
        };
        let found = collect(&host(), Some(&Ok(Inventory { devices: vec![device], ..Inventory::default() })));
        let names: Vec<_> = found.devices.iter().map(|device| (device.name.as_str(), device.seen_by.sysfs)).collect();
        assert_eq!(names, [("mlx5_0", false), ("rxe0", true)]);
    }

    #[test]
    fn a_host_without_devices_says_what_to_do() {
        let found = collect(&RdmaFacts::default(), Some(&Ok(Inventory::default())));
        assert!(found.problems[0].summary.contains("ib_core") && found.problems[0].next_step.is_some());
        assert!(collect(&RdmaFacts::default(), None).devices.is_empty());
    }

    #[test]
    fn a_device_that_does_not_answer_is_named() {
        let mut device = VerbsDevice {
            name: "rxe0".to_owned(),
            node_type: 1,
            transport_type: 0,
            error: None,
            loss: Some(Lost::Hung { deadline_ms: 5000, held_in: Some("mlx5_cmd_exec".to_owned()) }),
            attributes: None,
            ports: vec![],
        };
        let said = |device: &VerbsDevice| {
            let found = collect(&host(), Some(&Ok(Inventory { devices: vec![device.clone()], ..Inventory::default() })));
            found.devices[0].problem.clone().unwrap().summary
        };
        assert_eq!(said(&device), "no answer in 5000 ms when the device was opened and queried; the kernel held it in mlx5_cmd_exec");
        device.loss = Some(Lost::Crashed { signal: "SIGSEGV".to_owned(), printed: vec!["free(): invalid pointer".to_owned()] });
        assert!(said(&device).contains("SIGSEGV") && said(&device).contains("invalid pointer"));
    }

    #[test]
    fn a_crash_of_the_library_loses_nothing_that_sysfs_tells() {
        let failure = Failure::Lost(Lost::Crashed { signal: "SIGSEGV".to_owned(), printed: vec![] });
        let found = collect(&host(), Some(&Err(failure)));
        assert_eq!(found.devices.len(), 1);
        assert!(found.problems[0].summary.contains("SIGSEGV"));
    }
}
