//! Tests of the RDMA reader on modelled hosts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::host::family::FamilyBasis;
use crate::host::{Node, ReadFailure};

const PCI: &str = "/sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0";

fn tree(files: &[(&str, &str)]) -> BTreeMap<PathBuf, Node> {
    files.iter().map(|(path, text)| (PathBuf::from(path), Node::text(&format!("{text}\n")))).collect()
}

/// A ConnectX device with one port, as sysfs of Linux 6.x shows it.
fn hardware() -> BTreeMap<PathBuf, Node> {
    let device = format!("{PCI}/infiniband/rocep3s0");
    let mut nodes = BTreeMap::new();
    let mut text = |path: String, text: &str| nodes.insert(PathBuf::from(path), Node::text(&format!("{text}\n")));
    for (name, value) in [
        ("node_type", "1: CA"),
        ("node_desc", "node1 HCA-1"),
        ("fw_ver", "28.39.1002"),
        ("hca_type", "MT4129"),
        ("board_id", "MT_0000000838"),
        ("node_guid", "b83f:d203:00aa:bbcc"),
        ("sys_image_guid", "b83f:d203:00aa:bbcc"),
        ("ports/1/state", "4: ACTIVE"),
        ("ports/1/phys_state", "5: LinkUp"),
        ("ports/1/link_layer", "Ethernet"),
        ("ports/1/rate", "400 Gb/sec (4X NDR)"),
        ("ports/1/lid", "0x0"),
        ("ports/1/sm_lid", "0x0"),
        ("ports/1/gids/0", "fe80:0000:0000:0000:ba3f:d2ff:feaa:bbcc"),
        ("ports/1/gids/1", "0000:0000:0000:0000:0000:0000:0000:0000"),
        ("ports/1/gids/10", "0000:0000:0000:0000:0000:ffff:0a4d:0001"),
        ("ports/1/gids/2", "0000:0000:0000:0000:0000:ffff:0a4d:0001"),
        ("ports/1/gid_attrs/types/0", "IB/RoCE v1"),
        ("ports/1/gid_attrs/types/2", "IB/RoCE v1"),
        ("ports/1/gid_attrs/types/10", "RoCE v2"),
        ("ports/1/gid_attrs/ndevs/0", "ens3np0"),
        ("ports/1/gid_attrs/ndevs/2", "ens3np0"),
        ("ports/1/pkeys/0", "0xffff"),
        ("ports/1/pkeys/1", "0x0000"),
    ] {
        text(format!("{device}/{name}"), value);
    }
    for (name, value) in [
        ("vendor", "0x15b3"),
        ("device", "0x1021"),
        ("class", "0x020000"),
        ("numa_node", "1"),
        ("net/ens3np0/address", "b8:3f:d2:aa:bb:cc"),
    ] {
        text(format!("{PCI}/{name}"), value);
    }
    text(format!("{PCI}/infiniband_verbs/uverbs0/ibdev"), "rocep3s0");
    text(format!("{PCI}/infiniband_verbs/uverbs0/abi_version"), "1");
    text(format!("{PCI}/infiniband_verbs/uverbs0/dev"), "231:192");
    text("/sys/class/infiniband_verbs/abi_version".to_owned(), "6");
    for (link, target) in [
        (format!("{device}/device"), "../../../0000:03:00.0"),
        (format!("{PCI}/driver"), "../../../../bus/pci/drivers/mlx5_core"),
        ("/sys/class/infiniband/rocep3s0".to_owned(), "../../devices/pci0000:00/0000:00:01.0/0000:03:00.0/infiniband/rocep3s0"),
        ("/sys/class/infiniband_verbs/uverbs0".to_owned(), "../../devices/pci0000:00/0000:00:01.0/0000:03:00.0/infiniband_verbs/uverbs0"),
    ] {
        nodes.insert(PathBuf::from(link), Node::Link(target.into()));
    }
    let types_of_empty = format!("{device}/ports/1/gid_attrs/types/1");
    nodes.insert(PathBuf::from(types_of_empty), Node::Fails(libc::EINVAL));
    nodes.insert(PathBuf::from(format!("{device}/ports/1/gid_attrs/ndevs/10")), Node::Fails(libc::EINVAL));
    nodes.insert(PathBuf::from("/dev/infiniband/uverbs0"), Node::CharDevice { major: 231, minor: 192, mode: 0o666 });
    nodes
}

#[test]
fn a_hardware_device_is_read_whole() {
    let facts = read(&Root::tree(hardware()));
    assert_eq!(facts.problems, []);
    assert_eq!(facts.uverbs_abi_version, Some(6));
    let devices = facts.devices.unwrap();
    let [device] = &devices[..] else { panic!("one device") };
    assert_eq!(device.node_type, Some(NamedCode { code: 1, name: "CA".to_owned() }));
    assert_eq!(device.firmware.as_deref(), Some("28.39.1002"));
    assert_eq!(device.driver.as_deref(), Some("mlx5_core"));
    assert_eq!(device.family, Some(FamilyGuess { family: "mlx5".to_owned(), basis: FamilyBasis::Driver }));
    let pci = device.pci.as_ref().unwrap();
    assert_eq!((pci.address.as_str(), pci.vendor_id, pci.device_id, pci.numa_node), ("0000:03:00.0", Some(0x15b3), Some(0x1021), Some(1)));
    assert!(!device.is_virtual && !pci.is_virtual_function);
    assert_eq!(device.netdevs, ["ens3np0"]);
    let uverbs = device.uverbs.as_ref().unwrap();
    assert_eq!((uverbs.name.as_str(), uverbs.abi_version, uverbs.node.is_right_device), ("uverbs0", Some(1), true));
    assert_eq!(uverbs.node.found.unwrap().mode, 0o666);
    let port = &device.ports[0];
    assert_eq!((port.port, port.state.as_ref().unwrap().code, port.lid), (1, 4, Some(0)));
    assert_eq!((port.rate.as_deref(), port.rate_bits_per_second), (Some("400 Gb/sec (4X NDR)"), Some(400_000_000_000)));
    let gids: Vec<_> = port.gids.iter().map(|gid| (gid.index, gid.gid_type.as_deref(), gid.netdev.as_deref())).collect();
    assert_eq!(gids, [(0, Some("IB/RoCE v1"), Some("ens3np0")), (2, Some("IB/RoCE v1"), Some("ens3np0")), (10, Some("RoCE v2"), None)]);
    assert_eq!(port.pkeys, [SysfsPkey { index: 0, pkey: 0xffff }]);
}

/// Every file says something of its own, so that none can stand for its neighbour.
#[test]
fn each_file_of_a_device_and_its_ports_goes_into_its_field() {
    let mut nodes = hardware();
    let device = format!("{PCI}/infiniband/rocep3s0");
    for (name, value) in [
        ("node_type", "4: RNIC"),
        ("node_desc", "description"),
        ("fw_ver", "1.2.3"),
        ("hca_type", "type"),
        ("board_id", "board"),
        ("node_guid", "0001:0002:0003:0004"),
        ("sys_image_guid", "0005:0006:0007:0008"),
        ("ports/1/state", "2: INIT"),
        ("ports/1/phys_state", "3: Disabled"),
        ("ports/1/link_layer", "InfiniBand"),
        ("ports/1/rate", "56 Gb/sec (4X FDR)"),
        ("ports/1/lid", "0x11"),
        ("ports/1/sm_lid", "0x12"),
        ("ports/1/cap_mask", "0x13"),
        ("ports/1/lid_mask_count", "7"),
        ("ports/2/state", "4: ACTIVE"),
        ("ports/2/phys_state", "5: LinkUp"),
        ("ports/2/link_layer", "Ethernet"),
        ("ports/2/rate", "100 Gb/sec (4X EDR)"),
        ("ports/2/lid", "0x21"),
        ("ports/2/sm_lid", "0x22"),
        ("ports/2/gids/3", "fe80:0000:0000:0000:0000:0000:0000:0022"),
        ("ports/2/gid_attrs/types/3", "RoCE v2"),
        ("ports/2/gid_attrs/ndevs/3", "second0"),
        ("ports/2/gid_attrs/types/2", "IB/RoCE v1"),
        ("ports/2/gid_attrs/ndevs/2", "other0"),
        ("ports/2/pkeys/0", "0x7fff"),
        ("ports/2/pkeys/5", "0x8005"),
    ] {
        nodes.insert(format!("{device}/{name}").into(), Node::text(&format!("{value}\n")));
    }
    let facts = read(&Root::tree(nodes));
    assert_eq!(facts.problems, []);
    let device = facts.devices.unwrap().remove(0);
    let word = |code: u32, name: &str| Some(NamedCode { code, name: name.to_owned() });
    assert_eq!(device.node_type, word(4, "RNIC"));
    let texts = [&device.node_desc, &device.firmware, &device.hca_type, &device.board_id, &device.node_guid, &device.sys_image_guid];
    assert_eq!(
        texts.map(|text| text.as_deref().unwrap_or_default()),
        ["description", "1.2.3", "type", "board", "0001:0002:0003:0004", "0005:0006:0007:0008"]
    );
    let [first, second] = &device.ports[..] else { panic!("{:?}", device.ports) };
    assert_eq!((first.port, &first.state, &first.phys_state), (1, &word(2, "INIT"), &word(3, "Disabled")));
    assert_eq!((second.port, &second.state, &second.phys_state), (2, &word(4, "ACTIVE"), &word(5, "LinkUp")));
    let layers = [first, second].map(|port| port.link_layer.as_ref().map(|layer| layer.as_str().to_owned()).unwrap());
    assert_eq!(layers, ["InfiniBand", "Ethernet"]);
    assert_eq!([first, second].map(|port| port.rate_bits_per_second), [Some(56_000_000_000), Some(100_000_000_000)]);
    assert_eq!([first, second].map(|port| (port.lid, port.sm_lid)), [(Some(0x11), Some(0x12)), (Some(0x21), Some(0x22))]);
    let gid = SysfsGid {
        index: 3,
        gid: "fe80:0000:0000:0000:0000:0000:0000:0022".to_owned(),
        gid_type: Some("RoCE v2".to_owned()),
        netdev: Some("second0".to_owned()),
    };
    assert_eq!(second.gids, [gid]);
    assert_eq!(second.pkeys, [SysfsPkey { index: 0, pkey: 0x7fff }, SysfsPkey { index: 5, pkey: 0x8005 }]);
}

#[test]
fn software_devices_are_told_apart() {
    let mut nodes = tree(&[
        ("/sys/devices/virtual/infiniband/rxe0/node_type", "1: CA"),
        ("/sys/devices/virtual/infiniband/rxe0/parent", "va"),
        ("/sys/devices/virtual/infiniband/soft/node_type", "4: RNIC"),
        ("/sys/devices/virtual/infiniband/soft/ports/1/gids/0", "0202:03ff:0506:0000:0000:0000:0000:0000"),
        ("/sys/class/net/vb/address", "02:02:03:ff:05:06"),
        ("/sys/class/net/va/address", "02:02:03:ff:05:07"),
    ]);
    for name in ["rxe0", "soft"] {
        nodes.insert(format!("/sys/class/infiniband/{name}").into(), Node::Link(format!("../../devices/virtual/infiniband/{name}").into()));
    }
    let devices = read(&Root::tree(nodes)).devices.unwrap();
    let told: Vec<_> = devices
        .iter()
        .map(|device| {
            (device.is_virtual, device.family.as_ref().unwrap().family.as_str(), device.parent_netdev.as_deref(), &device.netdevs[..])
        })
        .collect();
    assert_eq!(told[0], (true, "rxe", Some("va"), &["va".to_owned()][..]));
    assert_eq!(told[1], (true, "siw", None, &["vb".to_owned()][..]));
    assert!(devices.iter().all(|device| device.pci.is_none() && device.driver.is_none() && device.uverbs.is_none()));
}

#[test]
fn no_rdma_core_and_no_device_differ() {
    assert_eq!(read(&Root::tree(BTreeMap::new())).devices, None);
    let mut nodes = tree(&[("/sys/class/infiniband_verbs/abi_version", "6"), ("/sys/class/misc/rdma_cm/dev", "10:122")]);
    nodes.insert("/sys/class/infiniband".into(), Node::Dir);
    nodes.insert("/dev/infiniband/rdma_cm".into(), Node::CharDevice { major: 10, minor: 122, mode: 0o666 });
    let facts = read(&Root::tree(nodes));
    assert_eq!(facts.devices, Some(Vec::new()));
    assert_eq!((facts.uverbs_abi_version, facts.connection_manager.is_right_device), (Some(6), true));
    assert_eq!(facts.connection_manager.expected.as_deref(), Some("10:122"));
}

#[test]
fn what_cannot_be_read_does_not_hide_the_rest() {
    let mut nodes = hardware();
    let device = format!("{PCI}/infiniband/rocep3s0");
    nodes.insert(format!("{device}/fw_ver").into(), Node::Denied);
    nodes.insert(format!("{device}/ports/1/state").into(), Node::text("up and running"));
    nodes.insert(format!("{device}/ports/1/gids/2").into(), Node::text("not a gid"));
    nodes.insert(format!("{device}/ports/x/state").into(), Node::text("4: ACTIVE"));
    nodes.remove(Path::new("/dev/infiniband/uverbs0"));
    let facts = read(&Root::tree(nodes));
    let device = &facts.devices.unwrap()[0];
    assert_eq!((device.firmware.as_deref(), device.hca_type.as_deref()), (None, Some("MT4129")));
    assert_eq!(device.ports[0].state, None);
    assert_eq!(device.ports[0].gids.iter().map(|gid| gid.index).collect::<Vec<_>>(), [0, 10]);
    assert_eq!(device.uverbs.as_ref().unwrap().node.found, None);
    let said: Vec<String> = facts.problems.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(facts.problems.iter().any(|problem| problem.failure == ReadFailure::PermissionDenied && problem.path.ends_with("fw_ver")));
    assert!(
        said.iter().any(|said| said.ends_with("ports/1/state: malformed value: \"up and running\" is not a code and a name")),
        "{said:?}"
    );
}

#[test]
fn facts_survive_json() {
    let facts = read(&Root::tree(hardware()));
    let json = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<RdmaFacts>(&json).unwrap(), facts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever stands in the files, they are read to the end.
    #[test]
    fn garbage_is_a_problem_and_not_a_panic(garbage in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..12)) {
        let mut nodes = hardware();
        let paths: Vec<PathBuf> = nodes.keys().cloned().collect();
        for (index, bytes) in garbage {
            nodes.insert(index.get(&paths).clone(), Node::File(bytes));
        }
        let facts = read(&Root::tree(nodes));
        prop_assert!(serde_json::to_string(&facts).is_ok());
    }
}

/// A port of a table of 128 entries, of which these hold something.
fn table(entries: &[(u32, &str)]) -> Root {
    let port = "/sys/class/infiniband/mlx5_0/ports/1";
    let text = |path: String, text: &str| (path.into(), Node::text(text));
    let mut nodes: BTreeMap<PathBuf, Node> =
        (0..128).map(|index| text(format!("{port}/gids/{index}"), "0000:0000:0000:0000:0000:0000:0000:0000")).collect();
    nodes.insert("/sys/class/infiniband/mlx5_0/node_type".into(), Node::text("1: CA"));
    nodes.insert(format!("{port}/link_layer").into(), Node::text("Ethernet"));
    for (index, gid) in entries {
        nodes.extend([text(format!("{port}/gids/{index}"), gid), text(format!("{port}/gid_attrs/types/{index}"), "RoCE v2")]);
    }
    Root::tree(nodes)
}

#[test]
fn a_brief_look_leaves_out_only_an_empty_end() {
    const LOCAL: &str = "fe80:0000:0000:0000:0000:0000:0000:0001";
    const ROUTABLE: &str = "0000:0000:0000:0000:0000:ffff:0a00:0001";
    let brief = |entries: &[(u32, &str)]| {
        let facts = read_at(&table(entries), Look::Brief);
        let port = facts.devices.unwrap().remove(0).ports.remove(0);
        (port.gids.iter().map(|gid| gid.index).collect::<Vec<_>>(), port.gids_unread_from)
    };
    assert_eq!(brief(&[(0, LOCAL), (1, ROUTABLE)]), (vec![0, 1], Some(18)));
    // A gap is no end.
    assert_eq!(brief(&[(1, ROUTABLE), (17, ROUTABLE)]), (vec![1, 17], Some(34)));
    // Without a GID to route with, the whole table is looked through: it may be anywhere.
    assert_eq!(brief(&[(0, LOCAL), (100, ROUTABLE)]), (vec![0, 100], Some(117)));
    assert_eq!(brief(&[(0, LOCAL)]), (vec![0], None));
    let facts = read(&table(&[(1, ROUTABLE), (100, ROUTABLE)]));
    let port = &facts.devices.unwrap()[0].ports[0];
    assert_eq!((port.gids.len(), port.gids_unread_from), (2, None));
}
