//! RDMA devices: /sys/class/infiniband, /sys/class/infiniband_verbs and the nodes of /dev.

use std::net::IpAddr;
use std::path::Path;

use rdmadoctor_types::{LinkLayer, NodeType, PortState};

use super::pci::Places;
use super::{Tree, net};
use crate::catalog::DeviceModel;
use crate::catalog::device::GidShape;
use crate::host::{Node, families};
use crate::sim::host::{HostModel, Nic, with_prefix_length};
use crate::sim::{GidType, SimGid};
use crate::verbs::Gid;

/// Counters that every port of a channel adapter has (drivers/infiniband/core/sysfs.c).
const STANDARD_COUNTERS: &[&str] = &[
    "excessive_buffer_overrun_errors",
    "link_downed",
    "link_error_recovery",
    "local_link_integrity_errors",
    "port_rcv_constraint_errors",
    "port_rcv_data",
    "port_rcv_errors",
    "port_rcv_packets",
    "port_rcv_remote_physical_errors",
    "port_rcv_switch_relay_errors",
    "port_xmit_constraint_errors",
    "port_xmit_data",
    "port_xmit_discards",
    "port_xmit_packets",
    "port_xmit_wait",
    "symbol_error",
];

pub(super) fn build(tree: &mut Tree, host: &HostModel, places: &Places) {
    if !host.has_module("ib_core") {
        return;
    }
    // There with the core, whether or not a device is.
    tree.dir("/sys/class/infiniband");
    if host.has_module("ib_uverbs") {
        tree.text("/sys/class/infiniband_verbs/abi_version", "6");
    }
    if host.has_module("rdma_ucm") {
        tree.text("/sys/class/misc/rdma_cm/dev", "10:59");
        tree.device_node("/dev/infiniband/rdma_cm", 10, 59, 0o666);
    }
    for (index, nic) in host.nics.iter().enumerate() {
        let (Some(model), Some(place)) = (DeviceModel::find(&nic.model), places.get(&nic.pci)) else { continue };
        // A device is there when its driver is.
        if families::modules_of(&model.family).iter().all(|name| host.has_module(name)) {
            device(tree, place, nic, model);
            if host.has_module("ib_uverbs") {
                uverbs(tree, place, index, nic, model);
            }
        }
    }
}

fn uverbs(tree: &mut Tree, place: &Path, index: usize, nic: &Nic, model: &DeviceModel) {
    let verbs = place.join(format!("infiniband_verbs/uverbs{index}"));
    tree.link(format!("/sys/class/infiniband_verbs/uverbs{index}"), &verbs);
    tree.link(verbs.join("device"), place);
    tree.text(verbs.join("ibdev"), &nic.name);
    tree.text(verbs.join("abi_version"), &nic.abi.unwrap_or(model.software.kernel_abi.value).to_string());
    // drivers/infiniband/core/uverbs_main.c: IB_UVERBS_MAJOR, IB_UVERBS_BASE_MINOR.
    let minor = 192 + index as u64;
    tree.text(verbs.join("dev"), &format!("231:{minor}"));
    tree.device_node(format!("/dev/infiniband/uverbs{index}"), 231, minor, nic.node_mode.unwrap_or(0o666) & 0o777);
}

fn device(tree: &mut Tree, place: &Path, nic: &Nic, model: &DeviceModel) {
    let rdma = place.join("infiniband").join(&nic.name);
    tree.link(format!("/sys/class/infiniband/{}", nic.name), &rdma);
    tree.link(rdma.join("device"), place);
    let node_type = model.identity.node_type.value;
    tree.text(rdma.join("node_type"), &format!("{}: {node_type}", node_type.code()));
    tree.text(rdma.join("node_desc"), "model");
    tree.text(rdma.join("fw_ver"), nic.firmware.as_ref().unwrap_or(&model.identity.firmware.value));
    let guid = guid(nic);
    let guid = format!("{:04x}:{:04x}:{:04x}:{:04x}", guid >> 48, guid >> 32 & 0xffff, guid >> 16 & 0xffff, guid & 0xffff);
    tree.text(rdma.join("node_guid"), &guid);
    tree.text(rdma.join("sys_image_guid"), &guid);
    port(tree, &rdma.join("ports/1"), nic, model);
}

fn port(tree: &mut Tree, port: &Path, nic: &Nic, model: &DeviceModel) {
    let layer = nic.link_layer.unwrap_or(model.identity.link_layer.value);
    tree.text(port.join("state"), &format!("{}: {}", nic.state.code(), nic.state.name().to_ascii_uppercase()));
    tree.text(port.join("phys_state"), if nic.state == PortState::Down { "3: Disabled" } else { "5: LinkUp" });
    tree.text(port.join("rate"), &nic.rate);
    tree.text(port.join("lid"), &format!("{:#x}", nic.lid));
    tree.text(port.join("sm_lid"), if layer == LinkLayer::Infiniband { "0x1" } else { "0x0" });
    tree.text(port.join("link_layer"), layer.name());
    for (index, pkey) in nic.pkeys.as_deref().unwrap_or(&[0xffff]).iter().enumerate() {
        // A device without a table has no such directory.
        if model.port.pkey_table_length.value > 0 {
            tree.text(port.join(format!("pkeys/{index}")), &format!("{pkey:#06x}"));
        }
    }
    for (index, gid) in gids(nic).iter().enumerate() {
        tree.text(port.join(format!("gids/{index}")), &gid.gid.to_string());
        let kind = if gid.kind == GidType::RoceV2 { "RoCE v2" } else { "IB/RoCE v1" };
        tree.text(port.join(format!("gid_attrs/types/{index}")), kind);
        // Only the entries of RoCE belong to an interface; others answer EINVAL (drivers/infiniband/core/sysfs.c, show_port_gid_attr_ndev).
        let netdev = nic.netdev.as_ref().filter(|_| is_roce(nic, model));
        let netdev = netdev.map_or(Node::Fails(libc::EINVAL), |netdev| Node::text(&format!("{netdev}\n")));
        tree.file(port.join(format!("gid_attrs/ndevs/{index}")), netdev);
    }
    let standard = if model.identity.node_type.value == NodeType::ChannelAdapter { STANDARD_COUNTERS } else { &[] };
    for name in standard {
        tree.text(port.join("counters").join(name), "0");
    }
    for (name, value) in &nic.counters {
        let directory = if STANDARD_COUNTERS.contains(&name.as_str()) { "counters" } else { "hw_counters" };
        tree.text(port.join(directory).join(name), &value.to_string());
    }
}

/// Whether a NIC's GIDs are made of the addresses of its interface.
fn is_roce(nic: &Nic, model: &DeviceModel) -> bool {
    nic.link_layer != Some(LinkLayer::Infiniband) && matches!(model.port.gids.value, GidShape::RoceBoth | GidShape::RoceV2)
}

/// GUID of a NIC, from its place unless it is given.
pub(crate) fn guid(nic: &Nic) -> u64 {
    nic.guid.unwrap_or_else(|| super::number_of(&format!("{}{}", nic.pci, nic.name)))
}

/// The GID table of a NIC, as the RDMA core fills it from the interface's addresses.
pub(crate) fn gids(nic: &Nic) -> Vec<SimGid> {
    let Some(model) = DeviceModel::find(&nic.model) else { return Vec::new() };
    let mac = net::mac_of(nic);
    let from_guid = || {
        let mut gid = [0; 16];
        gid[..2].copy_from_slice(&[0xfe, 0x80]);
        gid[8..].copy_from_slice(&guid(nic).to_be_bytes());
        vec![SimGid { gid: Gid(gid), kind: GidType::Infiniband }]
    };
    let types: &[GidType] = match model.port.gids.value {
        _ if nic.link_layer == Some(LinkLayer::Infiniband) => return from_guid(),
        GidShape::HardwareAddress => {
            let mut gid = [0; 16];
            gid[..6].copy_from_slice(&mac);
            return vec![SimGid { gid: Gid(gid), kind: GidType::Infiniband }];
        }
        GidShape::Guid | GidShape::Device => return from_guid(),
        GidShape::RoceBoth => &[GidType::RoceV1, GidType::RoceV2],
        GidShape::RoceV2 => &[GidType::RoceV2],
    };
    let addresses = nic.addresses.iter().filter_map(|address| match with_prefix_length(address)?.0 {
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => Some(v6.octets()),
    });
    // The link-local one is there even without the address (drivers/infiniband/core/roce_gid_mgmt.c, default GIDs).
    let all = std::iter::once(net::link_local(mac).octets()).chain(addresses);
    all.flat_map(|gid| types.iter().map(move |kind| SimGid { gid: Gid(gid), kind: *kind })).collect()
}
