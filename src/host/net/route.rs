//! Routes and neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::ReadError;
use crate::host::reader::Reader;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Where to: a network.
    pub destination: IpAddr,
    /// How many of its bits count; 0 for the default route.
    pub prefix_length: u8,
    /// Through which router; absent for networks that are directly there.
    pub gateway: Option<IpAddr>,
    /// Through which interface.
    pub netdev: String,
    /// Smaller ones are preferred.
    pub metric: u32,
    /// Whether it refuses what it matches.
    pub is_reject: bool,
    /// The table that it is in: 254 is the main one. Absent where a file did not tell.
    #[serde(default)]
    pub table: Option<u32>,
}

impl Route {
    /// Whether an address is in its network.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        let (one, other, width) = match (self.destination, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let ignored = width - u32::from(self.prefix_length).min(width);
        one.checked_shr(ignored).unwrap_or(0) == other.checked_shr(ignored).unwrap_or(0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbour {
    pub address: IpAddr,
    /// Its hardware address; zeros while it is not known.
    pub hardware_address: String,
    /// The interface.
    pub netdev: String,
    /// Whether it answered.
    pub is_complete: bool,
    /// Whether it was entered by hand.
    pub is_permanent: bool,
}

/// RTF_UP, RTF_REJECT (include/uapi/linux/route.h); RTF_ANYCAST, RTF_LOCAL (include/uapi/linux/ipv6_route.h).
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;
const TO_SELF: u32 = 0x8010_0000;

/// /proc/net/route and /proc/net/ipv6_route (net/ipv4/fib_trie.c, net/ipv6/route.c).
pub(super) fn routes(reader: &mut Reader<'_>, proc: &Path) -> Vec<Route> {
    let mut routes = lines(reader, &proc.join("route"), 1, "a route", four);
    routes.extend(lines(reader, &proc.join("ipv6_route"), 0, "a route", six));
    routes
}

/// /proc/net/arp (net/ipv4/arp.c).
pub(super) fn neighbours(reader: &mut Reader<'_>, proc: &Path) -> Vec<Neighbour> {
    lines(reader, &proc.join("arp"), 1, "a neighbour", |line| Some(Some(neighbour(line)?)))
}

/// What each line says: `Some(None)` is understood and of no interest, `None` is a problem.
pub(super) fn lines<T>(
    reader: &mut Reader<'_>,
    path: &Path,
    skip: usize,
    expected: &str,
    parse: impl Fn(&str) -> Option<Option<T>>,
) -> Vec<T> {
    let text = reader.text(path).unwrap_or_default();
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate().skip(skip).filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line) {
            Some(found) => all.extend(found),
            None => {
                reader.problems.push(ReadError::malformed(path, &format!("line {}", number + 1), format!("not {expected}")));
                break;
            }
        }
    }
    all
}

/// Interface, destination, gateway, flags, counts, metric, mask. Addresses are written as numbers of this machine, which on all that
/// RDMA runs on puts the last byte first.
fn four(line: &str) -> Option<Option<Route>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |text: &str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_le_bytes()));
    let [netdev, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let gateway = address(gateway)?;
    Some((flags & UP != 0).then_some(Route {
        destination: address(destination)?.into(),
        prefix_length: u8::try_from(address(mask)?.to_bits().count_ones()).ok()?,
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        netdev: netdev.to_owned(),
        metric: metric.parse().ok()?,
        is_reject: flags & REJECT != 0,
        // RT_TABLE_MAIN (include/uapi/linux/rtnetlink.h), the only one in this file.
        table: Some(254),
    }))
}

/// Destination and its length, source and its length, gateway, metric, counts, flags, interface.
fn six(line: &str) -> Option<Option<Route>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, _, _, gateway, metric, _, _, flags, netdev] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let gateway = address_of_six(gateway)?;
    let route = Route {
        destination: address_of_six(destination)?.into(),
        prefix_length: u8::from_str_radix(length, 16).ok().filter(|length| *length <= 128)?,
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        netdev: netdev.to_owned(),
        metric: u32::from_str_radix(metric, 16).ok()?,
        is_reject: flags & REJECT != 0,
        table: None,
    };
    Some((flags & UP != 0 && flags & TO_SELF == 0).then_some(route))
}

/// 32 digits without colons.
pub(super) fn address_of_six(text: &str) -> Option<Ipv6Addr> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from_bits)).flatten()
}

/// Address, kind of hardware, flags, hardware address, mask, interface.
fn neighbour(line: &str) -> Option<Neighbour> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [address, _, flags, hardware_address, _, netdev] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
    Some(Neighbour {
        address: address.parse::<Ipv4Addr>().ok()?.into(),
        hardware_address: hardware_address.to_owned(),
        netdev: netdev.to_owned(),
        // ATF_COM, ATF_PERM (include/uapi/linux/if_arp.h).
        is_complete: flags & 2 != 0,
        is_permanent: flags & 4 != 0,
    })
}
