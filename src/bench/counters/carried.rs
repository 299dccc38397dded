//! Whether the bytes went where they should: what was sent beside what the devices' own counters say. Work completions alone would not
//! show that data took another way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::snapshot::{Counted, CounterKeeper, Routes, Snapshot};
use super::{HostSide, Reading};

/// From how much payload on counters are looked at, in bytes or packets: less is lost among what else passes a port.
const LEAST_BYTES: u64 = 64 << 10;
const LEAST_PACKETS: u64 = 64;
/// Which part of the payload a device may have counted, for it to have carried all: counters are read while data is under way.
const SHARE: f64 = 0.5;
/// Between which parts of the payload another device's count counts as the same data: headers add to it, a quarter at the smallest path MTU.
const SAME: std::ops::RangeInclusive<f64> = 0.95..=1.25;
/// From how much payload on an interface without an RDMA device is suspected: less may be any other traffic of the host.
const LEAST_ELSEWHERE_BYTES: u64 = 64 << 20;

/// Where data went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Over this device, as its counters show.
    ThisDevice,
    /// Not known: this device's counters stood still, so it does not count for this function or the data took another way; or it is one of a
    /// bond, whose other members may have carried it.
    Unknown,
    /// Less than half of it over this device, as its counters show.
    Less,
    /// Over another device of the host, which counted as much.
    Elsewhere,
}

/// Which way data went through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Out of it.
    Sent,
    /// Into it.
    Received,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountUnit {
    Bytes,
    /// Packets, each of the path MTU or less.
    Packets,
}

/// A counter before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterEvidence {
    /// RDMA device or network interface.
    pub owner: String,
    /// Name of the counter.
    pub name: String,
    /// Its value before the measurement.
    pub before: u64,
    /// Its value after it.
    pub after: u64,
    /// Bytes or packets that it counts as one.
    pub counts_as: u32,
}

/// What a device has counted of the data that it should have carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Carried {
    /// Whose device.
    pub side: HostSide,
    /// RDMA device.
    pub device: String,
    pub port: u32,
    /// Which way.
    pub direction: Direction,
    /// Where the data went.
    pub way: Route,
    /// What is counted.
    pub unit: CountUnit,
    /// Payload that was sent: headers and repeats would come on top.
    pub expected: u64,
    /// What the device has counted.
    pub counted: u64,
    /// The counters, this device's first.
    pub evidence: Vec<CounterEvidence>,
    /// What that means; absent where all went over this device.
    pub summary: Option<String>,
}

impl Carried {
    /// Whether it deserves a warning.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self.way, Route::Less | Route::Elsewhere)
    }
}

/// An end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOf {
    /// RDMA device.
    pub device: String,
    /// Its port.
    pub port: u32,
}

/// Payload in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes in all.
    pub bytes: u64,
    /// Packets that they need at least.
    pub packets: u64,
    /// Whether they may be lost, so that what arrives tells nothing.
    pub may_be_lost: bool,
}

impl Flow {
    /// So many bytes, in messages of `size` bytes.
    #[must_use]
    pub fn of(bytes: u64, size: u64, mtu_bytes: u32) -> Self {
        let messages = bytes / size.max(1);
        let packets = messages.saturating_mul(size.div_ceil(u64::from(mtu_bytes.max(1))));
        Self { bytes, packets, may_be_lost: false }
    }
}

/// Counters of data: of what was sent, of what arrived, and what they count. Which each driver has:
/// * `port_xmit_data`, `port_rcv_data`: four bytes (Documentation/ABI/stable/sysfs-class-infiniband); those of mlx5 and mlx4.
/// * `tx_bytes`, `rx_bytes`: hw/bnxt_re/hw_counters.c, hw/efa/efa_verbs.c.
/// * `tx_bytes_cnt`, `rx_bytes_cnt`: hw/erdma/erdma_verbs.c; Alibaba's own driver has `hw_` before them.
/// * `ip4OutOctets` and so on: hw/irdma/verbs.c.
/// * `sent_pkts`, `rcvd_pkts`: packets, sw/rxe/rxe_hw_counters.c.
const COUNTERS: [(&[&str], &[&str], CountUnit, u32); 6] = [
    (&["port_xmit_data"], &["port_rcv_data"], CountUnit::Bytes, 4),
    (&["tx_bytes"], &["rx_bytes"], CountUnit::Bytes, 1),
    (&["tx_bytes_cnt"], &["rx_bytes_cnt"], CountUnit::Bytes, 1),
    (&["hw_tx_bytes_cnt"], &["hw_rx_bytes_cnt"], CountUnit::Bytes, 1),
    (&["ip4OutOctets", "ip6OutOctets"], &["ip4InOctets", "ip6InOctets"], CountUnit::Bytes, 1),
    (&["sent_pkts"], &["rcvd_pkts"], CountUnit::Packets, 1),
];

/// What an owner has counted meanwhile.
struct Tally {
    unit: CountUnit,
    counted: u64,
    evidence: Vec<CounterEvidence>,
}

impl Tally {
    fn of(before: &Snapshot, after: &Snapshot, keeper: CounterKeeper, owner: &str, port: Option<u32>, kind: Kind) -> Option<Self> {
        let (names, unit, counts_as) = kind;
        let evidence: Option<Vec<CounterEvidence>> = names
            .iter()
            .map(|name| {
                let value = |snapshot: &Snapshot| snapshot.value(keeper, owner, port, name);
                let (before, after) = (value(before)?, value(after)?);
                Some(CounterEvidence { owner: owner.to_owned(), name: (*name).to_owned(), before, after, counts_as })
            })
            .collect();
        let evidence = evidence?;
        // Set back meanwhile; or one of 32 bits, which stays at its largest (IBTA 1.5, 16.1.3.5).
        let is_known = |counter: &CounterEvidence| counter.after >= counter.before && counter.before != u64::from(u32::MAX);
        let counted = evidence.iter().map(|counter| counter.after.saturating_sub(counter.before).saturating_mul(counts_as.into()));
        let counted = counted.fold(0, u64::saturating_add);
        evidence.iter().all(is_known).then_some(Self { unit, counted, evidence })
    }

    fn of_device(before: &Snapshot, after: &Snapshot, device: &str, port: Option<u32>, direction: Direction) -> Option<Self> {
        COUNTERS.iter().find_map(|(sent, received, unit, counts_as)| {
            let names = if direction == Direction::Sent { sent } else { received };
            Self::of(before, after, CounterKeeper::Rdma, device, port, (names, *unit, *counts_as))
        })
    }

    fn of_netdev(before: &Snapshot, after: &Snapshot, netdev: &str, direction: Direction) -> Option<Self> {
        let names: &[&str] = if direction == Direction::Sent { &["tx_bytes"] } else { &["rx_bytes"] };
        Self::of(before, after, CounterKeeper::Kernel, netdev, None, (names, CountUnit::Bytes, 1))
    }

    fn expected(&self, flow: Flow) -> u64 {
        if self.unit == CountUnit::Bytes { flow.bytes } else { flow.packets }
    }

    fn share(&self, flow: Flow) -> f64 {
        self.counted as f64 / self.expected(flow).max(1) as f64
    }
}

type Kind<'a> = (&'a [&'a str], CountUnit, u32);

/// Compares what was sent with what was counted: `flows` from the first end to the second, and back. Nothing is said of a port with itself
/// and of two functions of one adapter, whose data need not leave it (that of another host's where that host tells nothing), of little data,
/// and of devices without such counters.
pub(super) fn judge(readings: [&Reading; 2], ends: &[PortOf; 2], sides: [HostSide; 2], flows: [Flow; 2]) -> Vec<Carried> {
    let far = if sides[1] == HostSide::Here { Some(&readings[1].here) } else { readings[1].there.as_ref() };
    let ways = far.and_then(|far| Some((readings[1].here.ways(&ends[0].device)?, far.ways(&ends[1].device)?)));
    let Some((first, second)) = ways else { return Vec::new() };
    // Names and places say nothing between hosts, but the GUID of an adapter is its own: the other host may be a guest of this one, or this one.
    let is_one = if sides[0] == sides[1] { first.is_one_with(second) } else { first.adapter.is_some() && first.adapter == second.adapter };
    if is_one {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (at, end) in ends.iter().enumerate() {
        let of = |reading: &Reading| if sides[at] == HostSide::Here { Some(reading.here.clone()) } else { reading.there.clone() };
        let (Some(before), Some(after)) = (of(readings[0]), of(readings[1])) else { continue };
        let other = if sides[0] == sides[1] { Some(ends[1 - at].device.as_str()) } else { None };
        let both = [(Direction::Sent, flows[at]), (Direction::Received, flows[1 - at])];
        for (direction, flow) in both.into_iter().filter(|(direction, flow)| *direction == Direction::Sent || !flow.may_be_lost) {
            all.extend(one(&before, &after, end, other, sides[at], direction, flow));
        }
    }
    all
}

fn one(
    before: &Snapshot,
    after: &Snapshot,
    end: &PortOf,
    other: Option<&str>,
    side: HostSide,
    direction: Direction,
    flow: Flow,
) -> Option<Carried> {
    let ways = after.ways(&end.device)?;
    let of_device = Tally::of_device(before, after, &end.device, Some(end.port), direction);
    // Software that has no counters of its own sends by its interface; siw is such (drivers/infiniband/sw/siw).
    let own = of_device.or_else(|| {
        let netdev = ways.netdevs.first().filter(|_| ways.is_virtual && ways.netdevs.len() == 1)?;
        Tally::of_netdev(before, after, netdev, direction)
    })?;
    let expected = own.expected(flow);
    if expected < if own.unit == CountUnit::Bytes { LEAST_BYTES } else { LEAST_PACKETS } {
        return None;
    }
    let mut found = Carried {
        side,
        device: end.device.clone(),
        port: end.port,
        direction,
        way: Route::ThisDevice,
        unit: own.unit,
        expected,
        counted: own.counted,
        evidence: own.evidence.clone(),
        summary: None,
    };
    if own.share(flow) >= SHARE || by_interface(before, after, ways, direction, flow) {
        return Some(found);
    }
    let word = if direction == Direction::Sent { "sent" } else { "received" };
    let names = own.evidence.iter().map(|counter| counter.name.as_str()).collect::<Vec<_>>().join(", ");
    let counted = format!("{names} of {} counted {} of {expected} {} that were {word}", end.device, own.counted, unit(own.unit));
    let elsewhere = elsewhere(before, after, ways, other, direction, flow);
    if let Some((name, tally, is_sure)) = elsewhere {
        let beside = format!("{name} counted {} {} meanwhile", tally.counted, unit(tally.unit));
        found.evidence.extend(tally.evidence);
        if is_sure {
            found.way = Route::Elsewhere;
            found.summary = Some(format!("{counted}; {beside}: the data seems to have gone over it"));
            return Some(found);
        }
    }
    // A bond sends by any of its members, whose counters need not be this device's.
    let (way, summary) = if own.counted == 0 || ways.is_bonded {
        let why = if ways.is_bonded { "the other members of its bond may have carried it" } else { "it does not count for this function" };
        (Route::Unknown, format!("{counted}: {why}, or the data took another way"))
    } else {
        (Route::Less, format!("{counted}: the rest took another way, or was counted elsewhere"))
    };
    (found.way, found.summary) = (way, Some(summary));
    Some(found)
}

/// Whether an interface of the device has counted it: some drivers count RDMA there.
fn by_interface(before: &Snapshot, after: &Snapshot, ways: &Routes, direction: Direction, flow: Flow) -> bool {
    ways.netdevs.iter().filter_map(|netdev| Tally::of_netdev(before, after, netdev, direction)).any(|tally| tally.share(flow) >= SHARE)
}

/// Another device or interface of the host that has counted as much, and whether it is no part of the same adapter.
fn elsewhere(
    before: &Snapshot,
    after: &Snapshot,
    ways: &Routes,
    other: Option<&str>,
    direction: Direction,
    flow: Flow,
) -> Option<(String, Tally, bool)> {
    let is_same = |tally: &Tally| SAME.contains(&tally.share(flow));
    let devices = after.devices.iter().filter(|its| its.device != ways.device && Some(its.device.as_str()) != other);
    let by_device = devices.filter_map(|its| {
        let tally = Tally::of_device(before, after, &its.device, None, direction).filter(is_same)?;
        Some((its.device.clone(), tally, !ways.is_bonded && !its.is_one_with(ways)))
    });
    let of_devices: Vec<&String> = after.devices.iter().flat_map(|its| &its.netdevs).collect();
    let is_other = |set: &&Counted| set.keeper == CounterKeeper::Kernel && !of_devices.contains(&&set.owner);
    let netdevs = after.sets.iter().filter(|set| flow.bytes >= LEAST_ELSEWHERE_BYTES && is_other(set));
    let by_netdev = netdevs.filter_map(|set| {
        let tally = Tally::of_netdev(before, after, &set.owner, direction).filter(is_same)?;
        Some((set.owner.clone(), tally, !ways.is_bonded))
    });
    by_device.chain(by_netdev).max_by_key(|(_, _, is_sure)| *is_sure)
}

fn unit(unit: CountUnit) -> &'static str {
    match unit {
        CountUnit::Bytes => "bytes",
        CountUnit::Packets => "packets",
    }
}

#[cfg(test)]
#[path = "carried_tests.rs"]
mod tests;
