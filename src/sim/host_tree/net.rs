//! Network interfaces and what /proc/net says of their addresses and routes.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rdmadoctor_types::{LinkLayer, PortState};

use super::Tree;
use super::pci::Places;
use crate::catalog::DeviceModel;
use crate::host::{Node, families};
use crate::sim::host::{HostModel, Interface, Nic, hardware_address, with_prefix_length};

/// An interface, whichever part of the model it is from.
struct Card<'a> {
    name: &'a str,
    index: usize,
    mac: [u8; 6],
    addresses: Vec<(IpAddr, u8)>,
    gateway: Option<Ipv4Addr>,
    mtu: u32,
    is_up: bool,
    has_carrier: bool,
    /// In Mb/s.
    speed: Option<u64>,
    is_infiniband: bool,
    /// Its directory.
    place: PathBuf,
    /// The directory of what it is on.
    device: Option<PathBuf>,
}

pub(super) fn build(tree: &mut Tree, host: &HostModel, places: &Places) {
    let mut cards = Vec::new();
    for nic in &host.nics {
        cards.extend(of_nic(host, nic, places, cards.len() + 2));
    }
    for interface in &host.interfaces {
        cards.push(of_interface(interface, places, cards.len() + 2));
    }
    loopback(tree);
    for card in &cards {
        interface(tree, card);
    }
    proc(tree, &cards);
}

/// The interface of a NIC; none where there is none, or its driver is not there.
fn of_nic<'a>(host: &HostModel, nic: &'a Nic, places: &Places, index: usize) -> Option<Card<'a>> {
    let name = nic.netdev.as_deref()?;
    let model = DeviceModel::find(&nic.model)?;
    let has_driver = nic.netdev_pci.is_some() || host.has_module(families::modules_of(&model.family).first()?);
    let device = places.get(nic.netdev_pci.as_ref().unwrap_or(&nic.pci)).filter(|_| has_driver)?.clone();
    let is_virtio = nic.netdev_pci.is_some();
    let device = if is_virtio { device.join(format!("virtio{index}")) } else { device };
    Some(Card {
        name,
        index,
        mac: mac_of(nic),
        addresses: nic.addresses.iter().filter_map(|address| with_prefix_length(address)).collect(),
        gateway: None,
        mtu: nic.mtu,
        is_up: !nic.admin_down,
        has_carrier: !nic.admin_down && nic.state != PortState::Down,
        // virtio does not know its speed.
        speed: if is_virtio { None } else { megabits(&nic.rate) },
        is_infiniband: nic.link_layer == Some(LinkLayer::Infiniband),
        place: device.join("net").join(name),
        device: Some(device),
    })
}

fn of_interface<'a>(interface: &'a Interface, places: &Places, index: usize) -> Card<'a> {
    let name = interface.name.as_str();
    let device = interface.pci.as_ref().and_then(|address| places.get(address)).cloned();
    let place = device.clone().unwrap_or_else(|| "/sys/devices/virtual".into()).join("net").join(name);
    Card {
        name,
        index,
        mac: interface_mac(interface),
        addresses: interface.addresses.iter().filter_map(|address| with_prefix_length(address)).collect(),
        gateway: interface.gateway,
        mtu: interface.mtu,
        is_up: true,
        has_carrier: !interface.no_carrier,
        speed: None,
        is_infiniband: false,
        place,
        device,
    }
}

/// `100 Gb/sec (4X EDR)` in Mb/s, without a fraction.
fn megabits(rate: &str) -> Option<u64> {
    rate.split_once(" Gb/sec")?.0.split('.').next()?.parse::<u64>().ok()?.checked_mul(1000)
}

/// The hardware address of a NIC's interface.
pub(super) fn mac_of(nic: &Nic) -> [u8; 6] {
    nic.mac.as_deref().and_then(hardware_address).unwrap_or_else(|| made_up(super::guid(nic)))
}

/// The hardware address of another interface.
pub(crate) fn interface_mac(interface: &Interface) -> [u8; 6] {
    interface.mac.as_deref().and_then(hardware_address).unwrap_or_else(|| made_up(super::number_of(&interface.name)))
}

/// Locally administered, so that it is nobody's.
fn made_up(number: u64) -> [u8; 6] {
    let bytes = number.to_be_bytes();
    [0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}

/// The link-local address that an interface makes of its hardware address (RFC 4291, appendix A).
pub(super) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn loopback(tree: &mut Tree) {
    let place = Path::new("/sys/devices/virtual/net/lo");
    tree.link("/sys/class/net/lo", place);
    // 772: loopback (include/uapi/linux/if_arp.h). 0x9: up, loopback.
    let attributes = [("address", "00:00:00:00:00:00"), ("carrier", "1"), ("flags", "0x9"), ("ifindex", "1"), ("mtu", "65536")];
    for (name, text) in attributes.into_iter().chain([("operstate", "unknown"), ("type", "772"), ("uevent", "INTERFACE=lo\nIFINDEX=1")]) {
        tree.text(place.join(name), text);
    }
}

fn interface(tree: &mut Tree, card: &Card<'_>) {
    let net = &card.place;
    tree.link(format!("/sys/class/net/{}", card.name), net);
    if let Some(device) = &card.device {
        tree.link(net.join("device"), device);
    }
    tree.text(net.join("address"), &card.mac.map(|byte| format!("{byte:02x}")).join(":"));
    tree.text(net.join("ifindex"), &card.index.to_string());
    tree.text(net.join("type"), if card.is_infiniband { "32" } else { "1" });
    tree.text(net.join("mtu"), &card.mtu.to_string());
    // IFF_BROADCAST, IFF_MULTICAST and perhaps IFF_UP.
    tree.text(net.join("flags"), if card.is_up { "0x1003" } else { "0x1002" });
    tree.text(net.join("operstate"), if card.has_carrier { "up" } else { "down" });
    tree.text(net.join("carrier_changes"), if card.has_carrier { "1" } else { "2" });
    tree.text(net.join("uevent"), &format!("INTERFACE={}\nIFINDEX={}", card.name, card.index));
    // Both answer EINVAL while the interface is set down (net/core/net-sysfs.c).
    if card.is_up {
        tree.text(net.join("carrier"), if card.has_carrier { "1" } else { "0" });
        let speed = card.speed.filter(|_| card.has_carrier).map_or("-1".to_owned(), |speed| speed.to_string());
        tree.text(net.join("speed"), &speed);
    } else {
        tree.file(net.join("carrier"), Node::Fails(libc::EINVAL));
        tree.file(net.join("speed"), Node::Fails(libc::EINVAL));
    }
}

/// Addresses and routes, which an interface has while it is up.
fn proc(tree: &mut Tree, cards: &[Card<'_>]) {
    let mut route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n".to_owned();
    let mut local = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n".to_owned();
    let mut six = format!("{:032x} 01 80 10 80       lo\n", 1);
    let mut route_six = String::new();
    let mut neighbours = "IP address       HW type     Flags       HW address            Mask     Device\n".to_owned();
    for card in cards.iter().filter(|card| card.is_up) {
        // Numbers as the processor keeps them: the last byte of an address first.
        let number = |address: Ipv4Addr| format!("{:08X}", u32::from_le_bytes(address.octets()));
        if let Some(gateway) = card.gateway {
            let _ = writeln!(route, "{}\t00000000\t{}\t0003\t0\t0\t100\t00000000\t0\t0\t0", card.name, number(gateway));
            let _ = writeln!(neighbours, "{gateway:<16} 0x1         0x2         02:00:00:00:00:01     *        {}", card.name);
        }
        for (address, length) in &card.addresses {
            match address {
                IpAddr::V4(address) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                    let network = Ipv4Addr::from_bits(address.to_bits() & mask);
                    let mask = Ipv4Addr::from_bits(mask);
                    let _ = writeln!(route, "{}\t{}\t00000000\t0001\t0\t0\t100\t{}\t0\t0\t0", card.name, number(network), number(mask));
                    let _ = writeln!(local, "     |-- {address}\n        /32 host LOCAL");
                }
                IpAddr::V6(address) => line_six(&mut six, &mut route_six, card, *address, *length),
            }
        }
        line_six(&mut six, &mut route_six, card, link_local(card.mac), 64);
    }
    for (name, text) in [("route", route), ("fib_trie", local), ("if_inet6", six), ("ipv6_route", route_six), ("arp", neighbours)] {
        tree.file(format!("/proc/net/{name}"), Node::text(&text));
    }
}

/// An address of IPv6 and the route to its network (net/ipv6/addrconf.c, net/ipv6/route.c).
fn line_six(addresses: &mut String, routes: &mut String, card: &Card<'_>, address: Ipv6Addr, length: u8) {
    let scope = if address.segments()[0] == 0xfe80 { 0x20 } else { 0 };
    let _ = writeln!(addresses, "{:032x} {:02x} {length:02x} {scope:02x} 80 {:>8}", address.to_bits(), card.index, card.name);
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    let network = address.to_bits() & mask;
    let _ = writeln!(routes, "{network:032x} {length:02x} {0:032x} 00 {0:032x} 00000100 00000001 00000000 00000001 {1:>8}", 0, card.name);
}
