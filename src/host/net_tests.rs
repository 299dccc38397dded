//! Tests of the network reader on a modelled host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::host::Node;

type Tree = BTreeMap<PathBuf, Node>;

const PCI: &str = "/sys/devices/pci0000:00/0000:00:02.0/0000:05:00.0";

/// Two ports in a bond, of which one is down; a port in a network of its own.
fn host() -> Tree {
    let mut nodes: Tree = [
        ("/proc/net/route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
          bond0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\nbond0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
          ens1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nens2\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"),
        ("/proc/net/ipv6_route", "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     ens1\n\
          00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n"),
        ("/proc/net/if_inet6", "fe80000000000000ba3fd2fffeaabbcc 02 40 20 80   ens1\n20010db8000000000000000000000005 02 40 00 48   ens1\n"),
        ("/proc/net/fib_trie", "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\nLocal:\n     |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.168.2.9\n        /32 host LOCAL\n"),
        ("/proc/net/arp", "IP address       HW type     Flags       HW address            Mask     Device\n10.0.0.1         0x1         0x2         02:fc:00:00:00:05     *        bond0\n192.168.2.8      0x1         0x0         00:00:00:00:00:00     *        ens1\n"),
        ("/sys/class/net/bonding_masters", "bond0\n"),
        ("/sys/devices/virtual/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n"),
        ("/sys/devices/virtual/net/bond0/bonding/mode", "802.3ad 4\n"),
        ("/sys/devices/virtual/net/bond0/bonding/slaves", "ens1 ens2\n"),
        ("/sys/devices/virtual/net/bond0/lower_ens1", ""),
        ("/sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_tos", "106\n"),
    ]
    .into_iter()
    .map(|(path, text)| (PathBuf::from(path), Node::text(text)))
    .collect();
    for (name, text) in [
        ("ifindex", "2"),
        ("type", "1"),
        ("mtu", "9000"),
        ("flags", "0x1003"),
        ("operstate", "up"),
        ("carrier", "1"),
        ("carrier_changes", "7"),
        ("speed", "400000"),
        ("address", "b8:3f:d2:aa:bb:cc"),
        ("ecn/roce_np/enable/3", "1"),
        ("uevent", "INTERFACE=ens1"),
    ] {
        nodes.insert(format!("{PCI}/net/ens1/{name}").into(), Node::text(&format!("{text}\n")));
    }
    nodes.insert(format!("{PCI}/sriov_numvfs").into(), Node::text("4\n"));
    nodes.insert(format!("{PCI}/sriov_totalvfs").into(), Node::text("16\n"));
    nodes.insert(format!("{PCI}/net/ens1/device").into(), Node::Link("../../../0000:05:00.0".into()));
    nodes.insert(format!("{PCI}/net/ens1/master").into(), Node::Link("../../../../../virtual/net/bond0".into()));
    nodes.insert(format!("{PCI}/driver").into(), Node::Link("../../../../bus/pci/drivers/mlx5_core".into()));
    nodes.insert("/sys/class/net/ens1".into(), Node::Link(format!("../../..{PCI}/net/ens1").into()));
    nodes.insert("/sys/class/net/bond0".into(), Node::Link("../../devices/virtual/net/bond0".into()));
    for attribute in ["carrier", "speed"] {
        nodes.insert(format!("/sys/devices/virtual/net/bond0/{attribute}").into(), Node::Fails(libc::EINVAL));
    }
    nodes
}

#[test]
fn interfaces_are_read() {
    let facts = read(&Root::tree(host()));
    assert_eq!(facts.problems, []);
    assert_eq!(facts.interfaces.as_ref().unwrap().len(), 2);
    let port = facts.interface("ens1").unwrap();
    assert_eq!((port.mtu_bytes, port.is_up, port.has_carrier, port.carrier_changes), (Some(9000), Some(true), Some(true), Some(7)));
    assert_eq!(
        (port.bits_per_second, port.pci_address.as_deref(), port.driver.as_deref()),
        (Some(400_000_000_000), Some("0000:05:00.0"), Some("mlx5_core"))
    );
    assert_eq!((port.master.as_deref(), port.is_virtual), (Some("bond0"), false));
    assert_eq!(port.virtual_functions, Some(VirtualFunctions { enabled: 4, possible: Some(16) }));
    let bond = facts.interface("bond0").unwrap();
    assert_eq!((bond.kind.as_deref(), bond.is_virtual, bond.has_carrier), (Some("bond"), true, None));
    assert_eq!((bond.bond.as_ref().unwrap().members.len(), &bond.lower[..]), (2, &["ens1".to_owned()][..]));
    let settings: Vec<_> = facts.quality_of_service.iter().map(|setting| (setting.path.as_str(), setting.value.as_str())).collect();
    assert_eq!(
        settings,
        [("/sys/class/net/ens1/ecn/roce_np/enable/3", "1"), ("/sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_tos", "106")]
    );
}

#[test]
fn addresses_routes_and_neighbours_are_read() {
    let facts = read(&Root::tree(host()));
    let addresses: Vec<_> =
        facts.addresses.iter().map(|address| (address.address.to_string(), address.netdev.as_deref(), address.prefix_length)).collect();
    assert_eq!(addresses[0], ("10.0.0.5".to_owned(), Some("bond0"), Some(24)));
    // Two interfaces are in that network: which has it is not known.
    assert_eq!(addresses[2], ("192.168.2.9".to_owned(), None, Some(24)));
    assert_eq!(addresses[3], ("fe80::ba3f:d2ff:feaa:bbcc".to_owned(), Some("ens1"), Some(64)));
    assert!(facts.addresses[4].is_duplicate && facts.addresses[4].is_tentative && !facts.addresses[3].is_duplicate);
    assert_eq!(facts.routes[0].gateway, Some("10.0.0.1".parse().unwrap()));
    assert!(facts.routes[0].matches("8.8.8.8".parse().unwrap()) && !facts.routes[1].matches("8.8.8.8".parse().unwrap()));
    assert!(facts.routes[1].matches("10.0.0.77".parse().unwrap()));
    assert_eq!((facts.routes.len(), facts.routes[4].metric), (5, 256));
    assert_eq!((facts.neighbours[0].is_complete, facts.neighbours[1].is_complete), (true, false));
}

#[test]
fn a_mounted_host_answers_for_itself() {
    let mut nodes = host();
    nodes.insert("/proc/1/net/route".into(), Node::text("Iface\neth9\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"));
    let facts = read(&Root::tree(nodes));
    assert_eq!((facts.routes.len(), facts.routes[0].netdev.as_str()), (1, "eth9"));
}

#[test]
fn this_host_has_a_loopback() {
    let facts = read(&Root::default());
    assert!(facts.addresses.iter().any(|address| address.address.is_loopback()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn garbage_is_a_problem_and_not_a_panic(garbage in proptest::collection::vec((any::<prop::sample::Index>(), "(\\PC{0,20}\n)?([0-9a-fA-F]{1,34}[ \t]){0,11}\\PC{0,9}"), 1..8)) {
        let mut nodes = host();
        let paths: Vec<PathBuf> = nodes.keys().cloned().collect();
        for (index, text) in garbage {
            nodes.insert(index.get(&paths).clone(), Node::text(&text));
        }
        prop_assert!(serde_json::to_string(&read(&Root::tree(nodes))).is_ok());
    }
}
