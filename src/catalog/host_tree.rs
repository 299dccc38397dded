//! The files of a modelled host, as its kernel and its packages would lay them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::DeviceModel;
use super::device::{GidShape, LinkLayer, NodeType};
use super::host::{Gpu, HostModel, Link, Nic, nic_address};
use crate::host::{Node, family};
use crate::sim::{GidType, PortState, SimGid};
use crate::verbs::Gid;

/// Builds the tree.
pub(super) fn build(host: &HostModel) -> BTreeMap<PathBuf, Node> {
    let mut tree = Tree { nodes: BTreeMap::new() };
    kernel(&mut tree, host);
    modules(&mut tree, host);
    limits(&mut tree, host);
    let mut places = BTreeMap::new();
    for bridge in &host.bridges {
        let place = tree.function(&places, &bridge.pci, bridge.parent.as_deref(), "8086:347a", "0x060400", bridge.numa_node, bridge.link);
        let kind = if bridge.parent.is_some() { 6 } else { 4 };
        tree.file(place.join("config"), Node::File(config_space(kind, bridge.redirects)));
        places.insert(bridge.pci.clone(), place);
    }
    for gpu in &host.gpus {
        let place = tree.function(&places, &gpu.pci, gpu.parent.as_deref(), &gpu.id, "0x030200", gpu.numa_node, gpu.link);
        graphics(&mut tree, &place, gpu, host);
    }
    for (index, nic) in host.nics.iter().enumerate() {
        if let Some(model) = DeviceModel::find(&nic.model) {
            let id = model.identity.pci.first().map_or("0000:0000".to_owned(), |id| id.replace('*', "1021"));
            let place = tree.function(&places, &nic.pci, nic.parent.as_deref(), &id, "0x020000", nic.numa_node, nic.link);
            device(&mut tree, &place, index, nic, model, host);
        }
    }
    user_space(&mut tree, host);
    for (path, text) in &host.files {
        tree.file(path, Node::text(text));
    }
    let mut nodes = tree.nodes;
    for path in &host.remove {
        nodes.retain(|other, _| !other.starts_with(path));
    }
    nodes
}

struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    fn file(&mut self, path: impl AsRef<Path>, node: Node) {
        self.nodes.insert(path.as_ref().to_owned(), node);
    }

    fn text(&mut self, path: impl AsRef<Path>, text: &str) {
        self.file(path, Node::text(&format!("{text}\n")));
    }

    fn link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        self.file(path, Node::Link(target.as_ref().to_owned()));
    }

    /// A PCI function with what every function has, and its place in the tree.
    #[allow(clippy::too_many_arguments, reason = "one line of the PCI tree; a struct of these would be used three times in this file")]
    fn function(
        &mut self,
        places: &BTreeMap<String, PathBuf>,
        address: &str,
        parent: Option<&str>,
        id: &str,
        class: &str,
        numa_node: Option<u32>,
        link: Option<Link>,
    ) -> PathBuf {
        let above = parent.and_then(|parent| places.get(parent)).cloned();
        let place = above.unwrap_or_else(|| PathBuf::from(format!("/sys/devices/pci{}", &address[..7]))).join(address);
        let (vendor, part) = id.split_once(':').unwrap_or((id, "0000"));
        self.text(place.join("vendor"), &format!("0x{vendor}"));
        self.text(place.join("device"), &format!("0x{part}"));
        self.text(place.join("class"), class);
        self.text(place.join("numa_node"), &numa_node.map_or("-1".to_owned(), |node| node.to_string()));
        if let Some(link) = link {
            self.text(place.join("max_link_speed"), speed(link.generation));
            self.text(place.join("max_link_width"), &link.lanes.to_string());
            self.text(place.join("current_link_speed"), speed(link.generation_now.unwrap_or(link.generation)));
            self.text(place.join("current_link_width"), &link.lanes_now.unwrap_or(link.lanes).to_string());
        }
        self.link(format!("/sys/bus/pci/devices/{address}"), &place);
        place
    }
}

fn speed(generation: u8) -> &'static str {
    match generation {
        1 => "2.5 GT/s PCIe",
        2 => "5.0 GT/s PCIe",
        3 => "8.0 GT/s PCIe",
        4 => "16.0 GT/s PCIe",
        5 => "32.0 GT/s PCIe",
        _ => "64.0 GT/s PCIe",
    }
}

/// A configuration space with the PCI Express capability at 0x40 and, in the extended part, access control services.
fn config_space(kind: u8, redirects: bool) -> Vec<u8> {
    let mut space = vec![0; 4096];
    // Status: there is a list of capabilities, which begins at 0x40 (PCI Local Bus Specification, section 6.7).
    space[0x06] = 0x10;
    space[0x34] = 0x40;
    space[0x40] = 0x10;
    space[0x42] = 0x02 | kind << 4;
    // Device control: relaxed ordering on, payload 256 B, read request 512 B.
    space[0x48] = 0x30;
    space[0x49] = 0x29;
    // Extended capability 0x000d version 1: ACS; capabilities, then control. Bits 2 and 3 redirect requests and completions.
    space[0x100..0x104].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
    space[0x104] = 0x1d;
    space[0x106] = if redirects { 0x1d } else { 0 };
    space
}

fn kernel(tree: &mut Tree, host: &HostModel) {
    tree.text("/proc/sys/kernel/osrelease", &host.kernel);
    tree.text("/proc/version", &format!("Linux version {} (build@host) (gcc) #1 SMP", host.kernel));
    tree.text("/proc/cmdline", &host.command_line);
    let (id, version) = host.distribution.split_once(' ').unwrap_or((&host.distribution, ""));
    tree.text("/etc/os-release", &format!("ID={id}\nVERSION_ID=\"{version}\"\nPRETTY_NAME=\"{}\"", host.distribution));
    let nodes = host.gpus.iter().map(|gpu| gpu.numa_node).chain(host.nics.iter().map(|nic| nic.numa_node)).flatten().max().unwrap_or(0);
    for node in 0..=nodes {
        let distances: Vec<String> = (0..=nodes).map(|other| if other == node { "10".to_owned() } else { "21".to_owned() }).collect();
        tree.text(format!("/sys/devices/system/node/node{node}/distance"), &distances.join(" "));
    }
}

fn modules(tree: &mut Tree, host: &HostModel) {
    let directory = PathBuf::from(format!("/lib/modules/{}", host.kernel));
    let mut listed = String::new();
    let mut index = String::new();
    for module in &host.modules.loaded {
        let _ = writeln!(listed, "{} 16384 0 - Live 0x0000000000000000", module.name);
        let _ = writeln!(index, "extra/{}.ko:", module.name);
        let place = PathBuf::from(format!("/sys/module/{}", module.name));
        tree.text(place.join("initstate"), "live");
        tree.text(place.join("coresize"), "16384");
        if let Some(version) = &module.version {
            tree.text(place.join("version"), version);
        }
        for (name, value) in &module.parameters {
            tree.text(place.join("parameters").join(name), value);
        }
    }
    for name in &host.modules.on_disk {
        let _ = writeln!(index, "extra/{name}.ko:");
    }
    let built_in: String = host.modules.built_in.iter().fold(String::new(), |all, name| all + "kernel/drivers/" + name + ".ko\n");
    tree.file("/proc/modules", Node::text(&listed));
    tree.file(directory.join("modules.dep"), Node::text(&index));
    tree.file(directory.join("modules.builtin"), Node::text(&built_in));
    // Enough of the kernel's symbols to tell whether peer-memory clients can register.
    let mut symbols = "ffffffff81000000 T _text\nffffffff81000010 T ib_register_device\t[ib_core]\n".to_owned();
    if host.modules.peer_memory_api {
        symbols += "ffffffffc0000010 T ib_register_peer_memory_client\t[ib_core]\n";
    }
    tree.file("/proc/kallsyms", Node::text(&symbols));
}

fn limits(tree: &mut Tree, host: &HostModel) {
    let memlock = host.limits.memlock_bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let text = format!(
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1048576              1048576              files     \n\
         Max locked memory         {memlock:<20} {memlock:<20} bytes     \n"
    );
    tree.file("/proc/self/limits", Node::text(&text));
    // CAP_IPC_LOCK is bit 14.
    let capabilities: u64 = if host.limits.ipc_lock { 0x1ff_ffff_ffff } else { 0x1ff_ffff_ffff & !(1 << 14) };
    let status: String = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|set| format!("{set}:\t{:016x}\n", if matches!(set, "CapInh" | "CapAmb") { 0 } else { capabilities }))
        .concat();
    tree.file("/proc/self/status", Node::text(&format!("Name:\trdmadoctor\nUid:\t0\t0\t0\t0\n{status}")));
}

fn graphics(tree: &mut Tree, place: &Path, gpu: &Gpu, host: &HostModel) {
    tree.file(place.join("config"), Node::File(config_space(0, false)));
    let end = 0x3800_0000_0000_u64 + (gpu.bar1_gib << 30) - 1;
    let resource = format!(
        "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n0x0000380000000000 {end:#018x} 0x000000000014220c\n{}",
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(4)
    );
    tree.file(place.join("resource"), Node::text(&resource));
    if let Some(nvidia) = &host.nvidia {
        tree.link(place.join("driver"), "/sys/bus/pci/drivers/nvidia");
        tree.file("/sys/bus/pci/drivers/nvidia", Node::Dir);
        let flavour = if nvidia.open { "NVIDIA UNIX Open Kernel Module for x86_64" } else { "NVIDIA UNIX x86_64 Kernel Module" };
        tree.text("/proc/driver/nvidia/version", &format!("NVRM version: {flavour}  {}  Release Build", nvidia.version));
        tree.text(
            format!("/proc/driver/nvidia/gpus/{}/information", gpu.pci),
            &format!("Model: \t\t {}\nBus Location: \t {}", gpu.product, gpu.pci),
        );
        for (minor, name) in [(255, "nvidiactl"), (0, "nvidia-uvm")] {
            tree.file(format!("/dev/{name}"), Node::CharDevice { major: 195, minor, mode: 0o666 });
        }
    }
}

/// GUID of a NIC, from its place.
pub(super) fn guid(nic: &Nic) -> u64 {
    nic.pci.bytes().chain(nic.name.bytes()).fold(0x0002_c903, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn mac(nic: &Nic) -> [u8; 6] {
    let given = nic.mac.as_ref().map(|mac| mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Vec<_>>());
    given.and_then(|bytes| bytes.try_into().ok()).unwrap_or_else(|| {
        let bytes = guid(nic).to_be_bytes();
        // Locally administered, so that it is nobody's.
        [0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
    })
}

/// The link-local address that an interface makes of its hardware address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..11].copy_from_slice(&[mac[0] ^ 2, mac[1], mac[2]]);
    address[11..13].copy_from_slice(&[0xff, 0xfe]);
    address[13..].copy_from_slice(&mac[3..]);
    address
}

/// The GID table of a NIC, as the RDMA core fills it from the interface's addresses.
pub(super) fn gids(nic: &Nic) -> Vec<SimGid> {
    let Some(model) = DeviceModel::find(&nic.model) else { return Vec::new() };
    let mac = mac(nic);
    let from_guid = |prefix: [u8; 8]| {
        let mut gid = [0; 16];
        gid[..8].copy_from_slice(&prefix);
        gid[8..].copy_from_slice(&guid(nic).to_be_bytes());
        vec![SimGid { gid: Gid(gid), kind: GidType::Infiniband }]
    };
    let types: &[GidType] = match model.port.gids.value {
        GidShape::HardwareAddress => {
            let mut gid = [0; 16];
            gid[..6].copy_from_slice(&mac);
            return vec![SimGid { gid: Gid(gid), kind: GidType::Infiniband }];
        }
        GidShape::Guid | GidShape::Device => return from_guid([0xfe, 0x80, 0, 0, 0, 0, 0, 0]),
        GidShape::RoceBoth => &[GidType::RoceV1, GidType::RoceV2],
        GidShape::RoceV2 => &[GidType::RoceV2],
    };
    let addresses = nic.addresses.iter().filter_map(|address| match nic_address(address)?.0 {
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => Some(v6.octets()),
    });
    let all = std::iter::once(link_local(mac)).chain(addresses);
    all.flat_map(|gid| types.iter().map(move |kind| SimGid { gid: Gid(gid), kind: *kind })).collect()
}

fn device(tree: &mut Tree, place: &Path, index: usize, nic: &Nic, model: &DeviceModel, host: &HostModel) {
    tree.file(place.join("config"), Node::File(config_space(0, false)));
    // A device is there when its driver is.
    let needed = family::modules_of(&model.family);
    let is_there =
        |name: &str| host.modules.built_in.iter().any(|other| other == name) || host.modules.loaded.iter().any(|other| other.name == name);
    tree.link(place.join("driver"), format!("/sys/bus/pci/drivers/{}", model.driver));
    tree.file(format!("/sys/bus/pci/drivers/{}", model.driver), Node::Dir);
    interface(tree, place, nic);
    if !needed.iter().all(|name| is_there(name)) || !is_there("ib_core") {
        return;
    }
    let rdma = place.join("infiniband").join(&nic.name);
    tree.link(format!("/sys/class/infiniband/{}", nic.name), &rdma);
    tree.link(rdma.join("device"), place);
    let (code, name) = match model.identity.node_type.value {
        NodeType::ChannelAdapter => (1, "CA"),
        NodeType::Rnic => (4, "RNIC"),
        NodeType::Unspecified => (7, "unspecified"),
    };
    tree.text(rdma.join("node_type"), &format!("{code}: {name}"));
    tree.text(rdma.join("fw_ver"), nic.firmware.as_ref().unwrap_or(&model.identity.firmware.value));
    let guid = guid(nic);
    let guid = format!("{:04x}:{:04x}:{:04x}:{:04x}", guid >> 48, guid >> 32 & 0xffff, guid >> 16 & 0xffff, guid & 0xffff);
    tree.text(rdma.join("node_guid"), &guid);
    tree.text(rdma.join("sys_image_guid"), &guid);
    let port = rdma.join("ports/1");
    let (state, physical) = match nic.state {
        PortState::Down => ("1: DOWN", "3: Disabled"),
        PortState::Init => ("2: INIT", "5: LinkUp"),
        PortState::Armed => ("3: ARMED", "5: LinkUp"),
        PortState::Active => ("4: ACTIVE", "5: LinkUp"),
    };
    tree.text(port.join("state"), state);
    tree.text(port.join("phys_state"), physical);
    tree.text(port.join("rate"), &nic.rate);
    tree.text(port.join("lid"), "0x0");
    tree.text(port.join("sm_lid"), "0x0");
    tree.text(port.join("pkeys/0"), "0xffff");
    let layer = match model.identity.link_layer.value {
        LinkLayer::Infiniband => "InfiniBand",
        LinkLayer::Ethernet => "Ethernet",
        LinkLayer::Unspecified => "Unspecified",
    };
    tree.text(port.join("link_layer"), layer);
    for (entry, gid) in gids(nic).iter().enumerate() {
        tree.text(port.join(format!("gids/{entry}")), &gid.gid.to_string());
        let kind = if gid.kind == GidType::RoceV2 { "RoCE v2" } else { "IB/RoCE v1" };
        tree.text(port.join(format!("gid_attrs/types/{entry}")), kind);
        if let Some(netdev) = &nic.netdev {
            tree.text(port.join(format!("gid_attrs/ndevs/{entry}")), netdev);
        }
    }
    if is_there("ib_uverbs") {
        let verbs = format!("/sys/class/infiniband_verbs/uverbs{index}");
        tree.text("/sys/class/infiniband_verbs/abi_version", "6");
        tree.text(format!("{verbs}/ibdev"), &nic.name);
        tree.text(format!("{verbs}/abi_version"), &model.software.kernel_abi.value.to_string());
        let minor = 192 + index as u64;
        tree.text(format!("{verbs}/dev"), &format!("231:{minor}"));
        tree.file(format!("/dev/infiniband/uverbs{index}"), Node::CharDevice { major: 231, minor, mode: 0o666 });
    }
    if is_there("rdma_ucm") {
        tree.text("/sys/class/misc/rdma_cm/dev", "10:59");
        tree.file("/dev/infiniband/rdma_cm", Node::CharDevice { major: 10, minor: 59, mode: 0o666 });
    }
}

fn interface(tree: &mut Tree, place: &Path, nic: &Nic) {
    let Some(netdev) = &nic.netdev else { return };
    let net = place.join("net").join(netdev);
    let is_up = nic.state == PortState::Active;
    let mac = mac(nic).map(|byte| format!("{byte:02x}")).join(":");
    tree.link(format!("/sys/class/net/{netdev}"), &net);
    tree.link(net.join("device"), place);
    tree.text(net.join("address"), &mac);
    tree.text(net.join("mtu"), &nic.mtu.to_string());
    tree.text(net.join("operstate"), if is_up { "up" } else { "down" });
    tree.text(net.join("carrier"), if is_up { "1" } else { "0" });
}

fn user_space(tree: &mut Tree, host: &HostModel) {
    let directory = "/usr/lib/x86_64-linux-gnu";
    if host.verbs.rdma_core == 0 {
        return;
    }
    let real = format!("libibverbs.so.1.14.{}.0", host.verbs.rdma_core);
    tree.link(format!("{directory}/libibverbs.so.1"), &real);
    tree.file(format!("{directory}/{real}"), Node::text(""));
    let connections = format!("librdmacm.so.1.3.{}.0", host.verbs.rdma_core);
    tree.link(format!("{directory}/librdmacm.so.1"), &connections);
    tree.file(format!("{directory}/{connections}"), Node::text(""));
    let of_nics = || host.nics.iter().filter_map(|nic| DeviceModel::find(&nic.model)).map(|model| model.family.clone()).collect();
    let families: Vec<String> = host.verbs.providers.clone().unwrap_or_else(of_nics);
    for family in families {
        let library = format!("{directory}/libibverbs/lib{family}-rdmav{}.so", host.verbs.generation);
        tree.file(library, Node::text(""));
        tree.text(format!("/etc/libibverbs.d/{family}.driver"), &format!("driver {family}"));
    }
}
