//! A port of an RDMA device: its state, speed, addresses and partitions.

use std::path::Path;

use rdmadoctor_types::{LinkLayer, Word};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::part::Look;
use crate::host::reader::{Reader, number, shorten};
use crate::host::{ReadError, ReadFailure};
use crate::verbs::{ErrorNumber, Gid};

/// A number with the kernel's name for it: `4: ACTIVE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedCode {
    /// The number.
    pub code: u32,
    pub name: String,
}

/// What sysfs says of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SysfsPort {
    /// Its number, from 1.
    pub port: u32,
    /// Logical state: `DOWN` (1), `INIT` (2), `ARMED` (3), `ACTIVE` (4).
    pub state: Option<NamedCode>,
    /// Physical state: `Disabled` (3), `LinkUp` (5) and others.
    pub phys_state: Option<NamedCode>,
    /// `InfiniBand`, `Ethernet` or `Unspecified`.
    pub link_layer: Option<Word<LinkLayer>>,
    /// Speed as the kernel writes it, with lanes and generation.
    pub rate: Option<String>,
    /// Speed; nominal on virtual and software devices.
    pub rate_bits_per_second: Option<u64>,
    /// Local identifier; 0 on Ethernet.
    pub lid: Option<u32>,
    /// Local identifier of the subnet manager; 0 on Ethernet.
    pub sm_lid: Option<u32>,
    /// Entries of the GID table that hold something.
    pub gids: Vec<SysfsGid>,
    /// The entry from which on the GID table was not read, where a brief look left its rest out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gids_unread_from: Option<u32>,
    /// Entries of the partition table that hold something.
    pub pkeys: Vec<SysfsPkey>,
}

/// An entry of a GID table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SysfsGid {
    pub index: u32,
    /// Eight groups in hexadecimal.
    pub gid: String,
    /// `IB/RoCE v1` or `RoCE v2`; absent where the driver keeps no types.
    pub gid_type: Option<String>,
    /// Network interface that it belongs to.
    pub netdev: Option<String>,
}

/// An entry of a partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SysfsPkey {
    pub index: u32,
    /// The key; its highest bit says full member.
    pub pkey: u16,
}

impl NamedCode {
    /// Reads `4: ACTIVE`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (code, name) = text.split_once(':')?;
        Some(Self { code: code.trim().parse().ok()?, name: name.trim().to_owned() })
    }
}

/// The port at a directory of sysfs.
pub(super) fn read(reader: &mut Reader<'_>, dir: &Path, port: u32, look: Look) -> SysfsPort {
    let link_layer = reader.attribute(dir.join("link_layer")).map(|layer| Word::from(&*layer));
    let (gids, gids_unread_from) = gids(reader, dir, look, link_layer.as_ref());
    let rate = reader.attribute(dir.join("rate"));
    let rate_bits_per_second = rate.as_deref().and_then(bits_per_second);
    if let (Some(rate), None) = (&rate, rate_bits_per_second) {
        reader.problems.push(ReadError::malformed(&dir.join("rate"), "value", format!("{:?} is not a rate in Gb/sec", shorten(rate))));
    }
    let lid = |text: &str| number(text).and_then(|lid| u32::try_from(lid).ok());
    SysfsPort {
        port,
        state: reader.parsed(dir.join("state"), "a code and a name", NamedCode::parse),
        phys_state: reader.parsed(dir.join("phys_state"), "a code and a name", NamedCode::parse),
        link_layer,
        rate,
        rate_bits_per_second,
        lid: reader.parsed(dir.join("lid"), "a local identifier", lid),
        sm_lid: reader.parsed(dir.join("sm_lid"), "a local identifier", lid),
        gids,
        gids_unread_from,
        pkeys: pkeys(reader, dir),
    }
}

/// Empty entries in a row after which a brief look stops, if it has found one that can be routed. The kernel fills the lowest free entry
/// (drivers/infiniband/core/cache.c, `find_gid`), and what was removed leaves a gap.
const GAP: u32 = 16;

/// The entries of a port's GID table that hold something, and the one from which on it was not read.
fn gids(reader: &mut Reader<'_>, dir: &Path, look: Look, link_layer: Option<&Word<LinkLayer>>) -> (Vec<SysfsGid>, Option<u32>) {
    let mut gids = Vec::new();
    let (mut gap, mut is_answered) = (0, false);
    let table = dir.join("gids");
    // The kernel takes longer to list a thousand entries than to show those that are filled.
    let entries: Box<dyn Iterator<Item = u32>> = match look {
        Look::Whole => Box::new(indices(reader, &table).into_iter()),
        Look::Brief => Box::new(0..),
    };
    for index in entries {
        let path = table.join(index.to_string());
        if look == Look::Brief && is_answered && gap >= GAP {
            return (gids, reader.root.exists(&path).then_some(index));
        }
        let gid = reader.parsed(&path, "a GID", |text| text.parse::<Gid>().ok());
        if gid.is_none() && look == Look::Brief && !reader.root.exists(&path) {
            break;
        }
        let Some(gid) = gid.filter(|gid| !gid.is_empty()) else {
            gap += 1;
            continue;
        };
        gap = 0;
        let gid_type = reader.attribute(dir.join(format!("gid_attrs/types/{index}")));
        let is_routable = gid_type.as_deref() == Some("RoCE v2") && matches!(gid.scope(), "ipv4" | "global");
        is_answered |= is_routable || link_layer.is_some_and(|layer| *layer == LinkLayer::Infiniband);
        gids.push(SysfsGid {
            index,
            gid: gid.to_string(),
            gid_type,
            netdev: netdev(reader, &dir.join(format!("gid_attrs/ndevs/{index}"))),
        });
    }
    (gids, None)
}

/// The interface of a GID; an entry without one answers ENODEV, or EINVAL as all of these do.
fn netdev(reader: &mut Reader<'_>, path: &Path) -> Option<String> {
    match reader.read(path) {
        Err(ReadError { failure: ReadFailure::Io { errno: ErrorNumber(libc::ENODEV | libc::EINVAL) }, .. }) => None,
        read => reader.keep(read).map(|netdev| netdev.trim().to_owned()).filter(|netdev| !netdev.is_empty()),
    }
}

/// The entries of a port's partition table that hold something.
fn pkeys(reader: &mut Reader<'_>, dir: &Path) -> Vec<SysfsPkey> {
    let mut pkeys = Vec::new();
    for index in indices(reader, &dir.join("pkeys")) {
        let path = dir.join(format!("pkeys/{index}"));
        let key = |text: &str| number(text).and_then(|pkey| u16::try_from(pkey).ok());
        if let Some(pkey) = reader.parsed(path, "a partition key", key).filter(|pkey| *pkey != 0) {
            pkeys.push(SysfsPkey { index, pkey });
        }
    }
    pkeys
}

/// The entries of a table, in the order of their numbers and not of their names.
fn indices(reader: &mut Reader<'_>, dir: &Path) -> Vec<u32> {
    let mut indices: Vec<u32> = reader.names(dir).iter().filter_map(|name| name.parse().ok()).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// Reads `2.5 Gb/sec (1X SDR)` exactly, without passing through floating point.
fn bits_per_second(rate: &str) -> Option<u64> {
    let (value, unit) = rate.split_once(' ')?;
    if !unit.trim_start().starts_with("Gb/sec") {
        return None;
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact() {
        assert_eq!(bits_per_second("2.5 Gb/sec (1X SDR)"), Some(2_500_000_000));
        assert_eq!(bits_per_second("400 Gb/sec (4X NDR)"), Some(400_000_000_000));
        assert_eq!(bits_per_second("103.125 Gb/sec"), Some(103_125_000_000));
        for garbage in ["", "fast", "1 Mb/sec", "1.-2 Gb/sec", "99999999999999999999 Gb/sec", "-1 Gb/sec", "1.0000000000 Gb/sec"] {
            assert_eq!(bits_per_second(garbage), None, "{garbage}");
        }
    }
}
