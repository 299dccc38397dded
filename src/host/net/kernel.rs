//! Addresses, routes and neighbours as the kernel itself tells them (rtnetlink(7)): with all tables, IPv6 neighbours and the state of
//! each address, which no file has.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use super::address::Address;
use super::route::{Neighbour, Route};

/// Where these facts are from, as evidence names it.
const SOURCE: &str = "rtnetlink";

/// Longest wait for a part of an answer, in seconds; the kernel needs microseconds.
const PATIENCE_S: i64 = 2;

/// Entries of one kind that are kept: a router's full table is of no interest here.
const MOST: usize = 16_384;

/// Size of a message of the kernel's at most (NLMSG_GOODSIZE, netlink(7) asks for 8 KiB; large dumps come in 32 KiB).
const BUFFER: usize = 64 << 10;

/// What the kernel said.
pub(super) struct Answer {
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
}

/// Asks for all of it. `names` are interfaces by their numbers.
///
/// # Errors
/// There is no such socket here (a sandbox may forbid it), or the kernel's answer is not understood.
pub(super) fn ask(names: &HashMap<u32, String>) -> io::Result<Answer> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket.as_fd(), ReceiveTimeout, &TimeVal::seconds(PATIENCE_S))?;
    let mut answer = Answer { addresses: Vec::new(), routes: Vec::new(), neighbours: Vec::new() };
    let mut buffer = vec![0; BUFFER];
    for request in [
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        RouteNetlinkMessage::GetRoute(RouteMessage::default()),
        RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
    ] {
        dump(&socket, &mut buffer, request, &mut |message| match message {
            RouteNetlinkMessage::NewAddress(message) => keep(&mut answer.addresses, address(&message, names)),
            RouteNetlinkMessage::NewRoute(message) => {
                for found in routes(&message, names) {
                    keep(&mut answer.routes, Some(found));
                }
            }
            RouteNetlinkMessage::NewNeighbour(message) => keep(&mut answer.neighbours, neighbour(&message, names)),
            _ => {}
        })?;
    }
    // IPv4 before IPv6, and otherwise as the kernel lists them.
    answer.addresses.sort_by_key(|address| address.address.is_ipv6());
    answer.routes.sort_by_key(|route| route.destination.is_ipv6());
    Ok(answer)
}

fn keep<T>(all: &mut Vec<T>, found: Option<T>) {
    if all.len() < MOST {
        all.extend(found);
    }
}

/// Sends a request for everything of a kind, and hands each answer to `each`.
fn dump(socket: &Socket, buffer: &mut [u8], request: RouteNetlinkMessage, each: &mut dyn FnMut(RouteNetlinkMessage)) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let size = socket.recv(&mut &mut *buffer, 0)?;
        let mut rest = buffer.get(..size).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4).max(16);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => each(inner),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn address(message: &AddressMessage, names: &HashMap<u32, String>) -> Option<Address> {
    let mut found = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            // On a link to one peer, IFA_ADDRESS is the peer's and IFA_LOCAL the own one (include/uapi/linux/if_addr.h).
            AddressAttribute::Local(local) => found = Some(*local),
            AddressAttribute::Address(address) => {
                found.get_or_insert(*address);
            }
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(Address {
        address: found?,
        netdev: names.get(&message.header.index).cloned(),
        prefix_length: Some(message.header.prefix_len),
        source: SOURCE.to_owned(),
        is_duplicate: flags.contains(AddressFlags::Dadfailed),
        is_tentative: flags.contains(AddressFlags::Tentative),
    })
}

/// The routes of a message: one for each of its next hops. Routes to the host itself, and of multicast, are left out.
fn routes(message: &RouteMessage, names: &HashMap<u32, String>) -> Vec<Route> {
    let header = &message.header;
    let is_reject = matches!(header.kind, RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit);
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Vec::new(),
    };
    if !is_reject && header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut route = Route {
        destination: any,
        prefix_length: header.destination_prefix_length,
        gateway: None,
        netdev: String::new(),
        metric: 0,
        is_reject,
        table: Some(header.table.into()),
    };
    let name = |index: &u32| names.get(index).cloned().unwrap_or_default();
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => route.destination = ip(destination).unwrap_or(any),
            RouteAttribute::Gateway(gateway) => route.gateway = ip(gateway),
            RouteAttribute::Oif(index) => route.netdev = name(index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = Some(*table),
            RouteAttribute::MultiPath(next) => {
                hops = next
                    .iter()
                    .map(|hop| {
                        let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
                            RouteAttribute::Gateway(gateway) => ip(gateway),
                            _ => None,
                        });
                        (name(&hop.interface_index), gateway)
                    })
                    .collect();
            }
            _ => {}
        }
    }
    if hops.is_empty() {
        return vec![route];
    }
    hops.into_iter().map(|(netdev, gateway)| Route { netdev, gateway, ..route.clone() }).collect()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage, names: &HashMap<u32, String>) -> Option<Neighbour> {
    let mut destination = None;
    let mut hardware_address = String::new();
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => destination = Some(IpAddr::from(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => destination = Some(IpAddr::from(*address)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                hardware_address = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
            }
            _ => {}
        }
    }
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    let state = message.header.state;
    // Entries of multicast and of loopback answer for nobody.
    let address = destination.filter(|address| !address.is_multicast() && !address.is_loopback() && state != Noarp)?;
    Some(Neighbour {
        address,
        hardware_address,
        netdev: names.get(&message.header.ifindex)?.clone(),
        is_complete: matches!(state, Reachable | Stale | Delay | Probe | Permanent),
        is_permanent: state == Permanent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> HashMap<u32, String> {
        [(1, "lo".to_owned()), (7, "eth7".to_owned()), (8, "eth8".to_owned())].into()
    }

    #[test]
    fn this_host_answers() {
        let answer = ask(&[(1, "lo".to_owned())].into()).unwrap();
        assert!(answer.addresses.iter().any(|address| address.address.is_loopback() && address.netdev.as_deref() == Some("lo")));
    }

    #[test]
    fn the_own_address_of_a_link_to_one_peer_is_taken() {
        let mut message = AddressMessage::default();
        message.header.index = 7;
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address("10.0.0.2".parse().unwrap()),
            AddressAttribute::Local("10.0.0.1".parse().unwrap()),
            AddressAttribute::Flags(AddressFlags::Dadfailed | AddressFlags::Permanent),
        ];
        let found = address(&message, &names()).unwrap();
        assert_eq!((found.address, found.netdev.as_deref()), ("10.0.0.1".parse().unwrap(), Some("eth7")));
        assert!(found.is_duplicate && !found.is_tentative);
    }

    #[test]
    fn each_next_hop_is_a_route_and_tables_are_told() {
        use netlink_packet_route::route::RouteNextHop;
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = 16;
        let hop = |index, gateway: &str| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway.parse().unwrap()))];
            hop
        };
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet("10.1.0.0".parse().unwrap())),
            RouteAttribute::Table(1007),
            RouteAttribute::MultiPath(vec![hop(7, "10.0.7.1"), hop(8, "10.0.8.1")]),
        ];
        let found = routes(&message, &names());
        let told: Vec<_> = found.iter().map(|route| (route.netdev.as_str(), route.gateway.unwrap().to_string(), route.table)).collect();
        assert_eq!(told, [("eth7", "10.0.7.1".to_owned(), Some(1007)), ("eth8", "10.0.8.1".to_owned(), Some(1007))]);
        message.header.kind = RouteType::Local;
        assert!(routes(&message, &names()).is_empty());
        message.header.kind = RouteType::Unreachable;
        assert!(routes(&message, &names())[0].is_reject);
    }

    #[test]
    fn neighbours_of_both_families_are_told_with_their_state() {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 8;
        message.header.state = NeighbourState::Failed;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6("fe80::1".parse().unwrap()))];
        let found = neighbour(&message, &names()).unwrap();
        assert!(!found.is_complete && found.address.is_ipv6() && found.netdev == "eth8");
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 0x1f]));
        let found = neighbour(&message, &names()).unwrap();
        assert!(found.is_permanent && found.is_complete && found.hardware_address == "02:00:00:00:00:1f");
        message.header.state = NeighbourState::Noarp;
        assert_eq!(neighbour(&message, &names()), None);
    }
}
