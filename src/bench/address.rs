//! Which addresses both ends use, chosen by type, scope and whether one reaches the other; never by a fixed index.

use crate::devices::{Gid, Port};

/// An address that was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its index in the port's table.
    pub index: u8,
    /// The address.
    pub gid: String,
    pub reason: String,
    /// Whether the other side's address is of another network.
    pub needs_router: bool,
}

/// Chooses for both ends. `asked` is the index that the user gives for each.
///
/// # Errors
/// There is no pair of addresses that could reach each other, or the user's index holds none.
pub fn choose(ports: [&Port; 2], asked: [Option<u8>; 2]) -> Result<[Choice; 2], String> {
    let candidates: Vec<Vec<&Gid>> = ports
        .iter()
        .zip(asked)
        .map(|(port, asked)| {
            port.gids.iter().filter(|gid| gid.index <= 255 && asked.is_none_or(|asked| u32::from(asked) == gid.index)).collect()
        })
        .collect();
    for ((gids, asked), port) in candidates.iter().zip(asked).zip(ports) {
        if let (true, Some(asked)) = (gids.is_empty(), asked) {
            let known: Vec<String> = port.gids.iter().map(|gid| gid.index.to_string()).collect();
            return Err(format!("GID index {asked} of port {} is empty; those that hold an address: {}", port.port, known.join(", ")));
        }
    }
    let (ours, theirs) = (&candidates[0], &candidates[1]);
    let best = ours.iter().flat_map(|our| theirs.iter().map(move |their| (*our, *their))).min_by_key(|(our, their)| cost(our, their));
    match best {
        Some((our, their)) if kind(our) == kind(their) || asked != [None, None] => {
            Ok([choice(our, their, ports[0], asked[0]), choice(their, our, ports[1], asked[1])])
        }
        Some((our, their)) => Err(format!("no addresses of one kind on both sides: here {}, there {}", describe(our), describe(their))),
        // A port without a table, as that of an iWARP adapter may be.
        None if ports.iter().any(|port| port.gids.is_empty()) => Ok([none(), none()]),
        None => Err("no addresses".to_owned()),
    }
}

fn none() -> Choice {
    Choice { index: 0, gid: String::new(), reason: "the port has no GID table".to_owned(), needs_router: false }
}

/// Type and family: only equal ones reach each other.
fn kind(gid: &Gid) -> (Option<&str>, bool) {
    (gid.kind.as_deref(), gid.scope == "ipv4")
}

/// The smaller the better: kinds that differ, then the worse of both ends' types and scopes, but that near networks come before interfaces
/// and indices. A global address does not reach a link-local one, so the better of two ends makes up for nothing.
fn cost(our: &Gid, their: &Gid) -> (bool, (u8, u8), bool, bool, u32, u32) {
    let (ours, theirs) = (our.preference(), their.preference());
    let lacks_netdev = ours.lacks_netdev || theirs.lacks_netdev;
    (kind(our) != kind(their), ours.grade.max(theirs.grade), is_far(our, their), lacks_netdev, ours.index, theirs.index)
}

/// Whether addresses look like those of two networks. Where one tells no network, nothing is said.
fn is_far(our: &Gid, their: &Gid) -> bool {
    network(our).zip(network(their)).is_some_and(|(ours, theirs)| ours != theirs)
}

/// The network of an address: its first 24 bits of IPv4, or 64 of IPv6 and InfiniBand. The GID of an iWARP adapter is a hardware address with
/// zeros after it, which tells none (Linux erdma_verbs.c erdma_query_gid, siw_verbs.c siw_query_gid, irdma/verbs.c irdma_query_gid).
fn network(gid: &Gid) -> Option<&str> {
    match &gid.ipv4 {
        Some(ipv4) => ipv4.rsplit_once('.').map(|(network, _)| network),
        None if gid.gid.get(20..) == Some("0000:0000:0000:0000") => None,
        None => gid.gid.get(..19),
    }
}

fn describe(gid: &Gid) -> String {
    let address = gid.ipv4.clone().unwrap_or_else(|| gid.gid.clone());
    format!("{} {} {address}", gid.kind.as_deref().unwrap_or("untyped"), gid.scope.replace('_', "-"))
}

fn choice(gid: &Gid, other: &Gid, port: &Port, asked: Option<u8>) -> Choice {
    let needs_router = is_far(gid, other);
    let mut reason = describe(gid);
    if asked.is_some() {
        reason += ", as asked";
    } else {
        let same = port.gids.iter().filter(|candidate| kind(candidate) == kind(gid)).count();
        if port.gids.len() > 1 {
            reason += if same == 1 { ", the only one of its kind" } else { ", the best match for the other side" };
            reason += &format!(" among {}", port.gids.len());
        }
        if needs_router {
            reason += "; the other side is in another network, so a router is needed";
        }
    }
    if kind(gid) != kind(other) {
        reason += &format!("; the other side uses {}, which it does not reach", describe(other));
    }
    Choice { index: u8::try_from(gid.index).unwrap_or(u8::MAX), gid: gid.gid.clone(), reason, needs_router }
}

/// Whether both ports are in one partition; the highest bit of a key tells full from limited members, of which two do not talk.
///
/// # Errors
/// They are not; the text says what each has.
pub fn common_pkey(ours: &[u16], theirs: &[u16]) -> Result<(), String> {
    let talk = |our: &u16| theirs.iter().any(|their| our & 0x7fff == their & 0x7fff && (our | their) & 0x8000 != 0);
    // An iWARP adapter has none.
    if ours.is_empty() || theirs.is_empty() || ours.iter().any(talk) {
        return Ok(());
    }
    let list = |keys: &[u16]| keys.iter().map(|key| format!("{key:#06x}")).collect::<Vec<_>>().join(", ");
    Err(format!("the ports have no common partition: P_Keys here {}, there {}", list(ours), list(theirs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(index: u32, kind: &str, text: &str) -> Gid {
        let ipv4 = text.contains('.').then(|| text.to_owned());
        let scope = if ipv4.is_some() {
            "ipv4"
        } else if text.starts_with("fe80") {
            "link_local"
        } else {
            "global"
        };
        Gid { index, gid: text.to_owned(), kind: Some(kind.to_owned()), netdev: Some("eth0".to_owned()), scope: scope.to_owned(), ipv4 }
    }

    fn port(gids: Vec<Gid>) -> Port {
        Port {
            port: 1,
            state: None,
            physical_state: None,
            link_layer: None,
            active_mtu_bytes: None,
            rate_bits_per_second: None,
            lid: None,
            gids,
        }
    }

    fn table() -> Vec<Gid> {
        vec![
            gid(0, "IB/RoCE v1", "fe80:0000:0000:0000:0000:0000:0000:0001"),
            gid(1, "RoCE v2", "fe80:0000:0000:0000:0000:0000:0000:0001"),
            gid(2, "IB/RoCE v1", "10.1.0.1"),
            gid(3, "RoCE v2", "10.1.0.1"),
            gid(4, "RoCE v2", "10.2.0.1"),
        ]
    }

    #[test]
    fn version_two_over_ipv4_of_one_network_is_chosen() {
        let (here, there) =
            (port(table()), port(vec![gid(7, "RoCE v2", "10.2.0.9"), gid(9, "RoCE v2", "fe80:0000:0000:0000:0000:0000:0000:0002")]));
        let [ours, theirs] = choose([&here, &there], [None, None]).unwrap();
        assert_eq!((ours.index, theirs.index), (4, 7), "{ours:?}");
        assert!(ours.reason.contains("RoCE v2") && ours.reason.contains("10.2.0.1"), "{ours:?}");
    }

    #[test]
    fn a_router_is_named_only_where_both_addresses_tell_their_networks() {
        let needs = |ours: &str, theirs: &str| {
            let (here, there) = (port(vec![gid(0, "RoCE v2", ours)]), port(vec![gid(0, "RoCE v2", theirs)]));
            let [choice, _] = choose([&here, &there], [None, None]).unwrap();
            assert_eq!(choice.needs_router, choice.reason.contains("router"), "{choice:?}");
            choice.needs_router
        };
        assert!(!needs("10.1.0.1", "10.1.0.9") && needs("10.1.0.1", "10.2.0.1"));
        let (one, other) = ("2001:0db8:0000:0001:0000:0000:0000:0001", "2001:0db8:0000:0002:0000:0000:0000:0001");
        assert!(!needs(one, one) && needs(one, other));
        // Hardware addresses, as iWARP adapters have.
        let (one, other) = ("0016:3e01:0001:0000:0000:0000:0000:0000", "0016:3e02:0002:0000:0000:0000:0000:0000");
        assert!(!needs(one, other));
    }

    /// Tables on which a profile, a measurement and a connection with itself used to take different entries.
    #[test]
    fn alone_a_port_uses_the_entry_that_is_best_for_anybody() {
        let bare = |index, kind: Option<&str>, text: &str, netdev: Option<&str>| Gid {
            kind: kind.map(str::to_owned),
            netdev: netdev.map(str::to_owned),
            ..gid(index, "", text)
        };
        let (v1, v2, eth) = (Some("IB/RoCE v1"), Some("RoCE v2"), Some("eth0"));
        let (local, global) = ("fe80:0000:0000:0000:0000:0000:0000:0001", "2001:0db8:0000:0000:0000:0000:0000:0001");
        let tables = [
            (3, table()),
            // An interface that has gone, and one that is there.
            (5, vec![bare(3, v2, "10.1.0.1", None), bare(5, v2, "10.1.0.2", eth)]),
            (3, vec![bare(3, v2, "10.1.0.1", None), bare(5, v2, global, eth)]),
            // A driver that keeps no types of some.
            (2, vec![bare(0, v1, "10.1.0.1", eth), bare(1, None, local, eth), bare(2, v2, local, eth)]),
            (1, vec![bare(0, v1, "10.1.0.1", eth), bare(1, None, "10.1.0.1", eth)]),
            // Several that are alike: the lowest index, however far the table goes.
            (6, vec![bare(9, v2, "10.1.0.3", eth), bare(6, v2, "10.1.0.2", eth), bare(7, v1, "10.1.0.2", eth)]),
            (0, vec![bare(0, None, local, None)]),
        ];
        for (expected, gids) in tables {
            let port = port(gids);
            let [ours, theirs] = choose([&port, &port], [None, None]).unwrap();
            assert_eq!((ours.index, theirs.index), (expected, expected), "{:?}", port.gids);
            assert_eq!(port.best_gid_index(), Some(expected), "{:?}", port.gids);
        }
    }

    /// Each rule alone, against all that come after it.
    #[test]
    fn kinds_come_before_types_scopes_nearness_interfaces_and_indices() {
        let bare = |gid: Gid| Gid { netdev: None, ..gid };
        let (v1, v2) = ("IB/RoCE v1", "RoCE v2");
        let local = |last: u32| format!("fe80:0000:0000:0000:0000:0000:0000:{last:04x}");
        let global = |net: u32, last: u32| format!("2001:0db8:0000:{net:04x}:0000:0000:0000:{last:04x}");
        let cases = [
            // The other side has version 1 alone: the same there, although version 2 is better.
            (vec![gid(0, v2, "10.1.0.1"), gid(5, v1, &local(1))], vec![gid(9, v1, &local(2))], (5, 9)),
            // Version 2 with a link-local address before version 1 with an IPv4 one.
            (vec![gid(0, v1, "10.1.0.1"), gid(5, v2, &local(1))], vec![gid(1, v1, "10.1.0.2"), gid(6, v2, &local(2))], (5, 6)),
            // An IPv4 address of another network before an IPv6 one of the same: engines take IPv4.
            (vec![gid(0, v2, &global(1, 1)), gid(5, v2, "10.1.0.1")], vec![gid(1, v2, &global(1, 2)), gid(6, v2, "10.2.0.1")], (5, 6)),
            // A global one of another network before a link-local one.
            (vec![gid(0, v2, &local(1)), gid(5, v2, &global(1, 1))], vec![gid(1, v2, &local(2)), gid(6, v2, &global(2, 2))], (5, 6)),
            // Link-local with link-local, where one end has nothing else.
            (vec![gid(5, v2, &local(1))], vec![gid(1, v2, &global(1, 2)), gid(6, v2, &local(2))], (5, 6)),
            // The near network before one with an interface, and before lower indices.
            (vec![gid(0, v2, "10.1.0.1"), bare(gid(5, v2, "10.2.0.1"))], vec![gid(6, v2, "10.2.0.9")], (5, 6)),
            (vec![gid(6, v2, "10.2.0.9")], vec![gid(0, v2, "10.1.0.1"), bare(gid(5, v2, "10.2.0.1"))], (6, 5)),
            // An interface before a lower index, on either side.
            (vec![bare(gid(0, v2, "10.1.0.1")), gid(5, v2, "10.1.0.2")], vec![gid(6, v2, "10.1.0.9")], (5, 6)),
            (vec![gid(6, v2, "10.1.0.9")], vec![bare(gid(0, v2, "10.1.0.1")), gid(5, v2, "10.1.0.2")], (6, 5)),
            // The lowest of each side.
            (vec![gid(7, v2, "10.1.0.1"), gid(3, v2, "10.1.0.2")], vec![gid(8, v2, "10.1.0.3"), gid(4, v2, "10.1.0.4")], (3, 4)),
            // Verbs names entries by one byte.
            (vec![gid(256, v2, "10.1.0.1"), gid(255, v2, &local(1))], vec![gid(300, v2, "10.1.0.2"), gid(2, v2, &local(2))], (255, 2)),
        ];
        for (ours, theirs, expected) in cases {
            let (here, there) = (port(ours), port(theirs));
            let [our, their] = choose([&here, &there], [None, None]).unwrap();
            assert_eq!((our.index, their.index), expected, "{:?} {:?}", here.gids, there.gids);
            // Seen from the other side it is the same pair.
            let [their, our] = choose([&there, &here], [None, None]).unwrap();
            assert_eq!((our.index, their.index), expected, "{:?} {:?}", there.gids, here.gids);
            assert_eq!([&our.gid, &their.gid].map(|gid| gid.is_empty()), [false, false]);
        }
    }

    #[test]
    fn each_end_gets_its_own_address_and_index() {
        let (here, there) = (port(table()), port(vec![gid(9, "RoCE v2", "10.1.0.7")]));
        let [ours, theirs] = choose([&here, &there], [None, None]).unwrap();
        assert_eq!((ours.index, ours.gid.as_str(), theirs.index, theirs.gid.as_str()), (3, "10.1.0.1", 9, "10.1.0.7"));
        let [ours, theirs] = choose([&here, &there], [Some(4), Some(9)]).unwrap();
        assert_eq!((ours.index, theirs.index, ours.needs_router, theirs.needs_router), (4, 9, true, true));
        // Kinds that differ are taken where the user wants it so, and it is told.
        let [ours, _] = choose([&here, &there], [Some(2), None]).unwrap();
        assert!(ours.index == 2 && ours.reason.contains("which it does not reach"), "{ours:?}");
        // An empty entry of the other side is told with the entries there.
        assert!(choose([&here, &there], [None, Some(3)]).unwrap_err().ends_with("those that hold an address: 9"));
    }

    #[test]
    fn an_index_that_was_asked_is_taken_if_it_holds_an_address() {
        let here = port(table());
        let [ours, theirs] = choose([&here, &here], [Some(1), None]).unwrap();
        assert_eq!((ours.index, theirs.index), (1, 1));
        assert!(ours.reason.contains("as asked"), "{ours:?}");
        assert!(choose([&here, &here], [Some(77), None]).unwrap_err().contains("0, 1, 2, 3, 4"));
    }

    #[test]
    fn limited_members_of_a_partition_do_not_talk() {
        assert!(common_pkey(&[0xffff], &[0x7fff]).is_ok());
        assert!(common_pkey(&[0x7fff], &[0x7fff]).unwrap_err().contains("0x7fff"));
        assert!(common_pkey(&[0x8001], &[0x8002, 0xffff]).is_err());
        assert!(common_pkey(&[], &[0xffff]).is_ok());
    }

    #[test]
    fn addresses_of_different_kinds_do_not_reach_each_other() {
        let (here, there) = (port(vec![gid(3, "RoCE v2", "10.1.0.1")]), port(vec![gid(0, "IB/RoCE v1", "10.1.0.2")]));
        let error = choose([&here, &there], [None, None]).unwrap_err();
        assert!(error.contains("RoCE v2") && error.contains("RoCE v1"), "{error}");
    }
}
