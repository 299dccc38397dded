//! Addresses of interfaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::route::{self, Route};
use crate::host::reader::Reader;

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    pub address: IpAddr,
    /// Its interface. Absent where only files were read and several interfaces are in its network.
    pub netdev: Option<String>,
    /// How many of its bits are the network's.
    pub prefix_length: Option<u8>,
    /// Where it is from: a file, or `rtnetlink`.
    pub source: String,
    /// Whether another host has it too, so that it is not used (IPv6 only).
    pub is_duplicate: bool,
    /// Whether it is not yet known to be free (IPv6 only).
    pub is_tentative: bool,
}

/// Reads them: IPv6 from if_inet6, IPv4 from fib_trie.
pub(super) fn read(reader: &mut Reader<'_>, proc: &Path, routes: &[Route]) -> Vec<Address> {
    let mut addresses = from_trie(reader, &proc.join("fib_trie"), routes);
    let path = proc.join("if_inet6");
    let source = path.to_string_lossy().into_owned();
    addresses.extend(route::lines(reader, &path, 0, "an address", |line| six(line, &source).map(Some)));
    addresses
}

/// Addresses that fib_trie lists as the host's own: a leaf `|-- 10.0.0.5`, then `/32 host LOCAL`. The interface is the one whose network
/// it is in, if there is just one.
fn from_trie(reader: &mut Reader<'_>, path: &Path, routes: &[Route]) -> Vec<Address> {
    let text = reader.text(path).unwrap_or_default();
    let mut found: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|--") {
            leaf = address.trim().parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        }
    }
    let placed = |address: Ipv4Addr| {
        if address.is_loopback() {
            return (Some("lo".to_owned()), None);
        }
        let near = routes
            .iter()
            .filter(|route| route.gateway.is_none() && !route.is_reject && route.prefix_length > 0 && route.matches(address.into()));
        let longest = near.clone().map(|route| route.prefix_length).max();
        let netdevs: BTreeSet<&str> =
            near.filter(|route| Some(route.prefix_length) == longest).map(|route| route.netdev.as_str()).collect();
        (if netdevs.len() == 1 { netdevs.first().map(|name| (*name).to_owned()) } else { None }, longest)
    };
    let source = path.to_string_lossy().into_owned();
    found
        .into_iter()
        .map(|address| {
            let (netdev, prefix_length) = placed(address);
            Address { address: address.into(), netdev, prefix_length, source: source.clone(), is_duplicate: false, is_tentative: false }
        })
        .collect()
}

/// Address, interface's number, prefix, scope, flags, interface; all but the last in hexadecimal (net/ipv6/addrconf.c).
fn six(line: &str, source: &str) -> Option<Address> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [address, _, length, _, flags, netdev] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    Some(Address {
        address: route::address_of_six(address)?.into(),
        netdev: Some(netdev.to_owned()),
        prefix_length: Some(u8::from_str_radix(length, 16).ok().filter(|length| *length <= 128)?),
        source: source.to_owned(),
        // IFA_F_DADFAILED, IFA_F_TENTATIVE (include/uapi/linux/if_addr.h).
        is_duplicate: flags & 0x08 != 0,
        is_tentative: flags & 0x40 != 0,
    })
}
