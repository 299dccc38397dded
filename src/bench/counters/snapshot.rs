//! All counters that bear on a measurement, at one moment; what a host tells another of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meaning::meaning;
use crate::host::Root;
use crate::host::net_counters;
use crate::host::part::Look;
use crate::host::rdma::{self, SysfsDevice};
use crate::host::rdma_counters::{self, Counter};
use crate::sim::CounterFile;

/// Most counters that a host takes from another: a device has some hundred.
const MOST_COUNTERS: usize = 4096;
/// Longest name of a counter, a device or an interface; the kernel's are shorter (`IB_DEVICE_NAME_MAX`, `ETH_GSTRING_LEN`).
const LONGEST_NAME: usize = 64;

/// Who keeps a counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CounterKeeper {
    /// The RDMA device: `counters` and `hw_counters` in /sys/class/infiniband.
    #[default]
    Rdma,
    /// The driver of a network interface: what `ethtool -S` shows.
    Driver,
    /// The kernel, for a network interface: `statistics` in /sys/class/net.
    Kernel,
}

/// Counters of one owner, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// RDMA device or network interface.
    pub owner: String,
    /// Port of an RDMA device; absent for counters of all of it.
    pub port: Option<u32>,
    /// Who keeps them.
    pub keeper: CounterKeeper,
    pub counters: Vec<Counter>,
}

/// A device and what its data may go over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// RDMA device.
    pub device: String,
    /// Network interfaces that belong to it, and those below them.
    pub netdevs: Vec<String>,
    /// GUID of the adapter that it is a part of; absent where it has none.
    pub adapter: Option<String>,
    /// PCI functions of it and of its interfaces.
    pub functions: Vec<String>,
    /// Whether data may leave by one of several ports: an interface of it is bonded.
    pub is_bonded: bool,
    /// Whether it is software, on a network interface.
    pub is_virtual: bool,
}

/// All counters that bear on a measurement, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The devices, and what their data may go over.
    pub devices: Vec<Routes>,
    /// The counters.
    pub sets: Vec<Counted>,
    /// How many counters were left out.
    pub left_out: u64,
}

impl Routes {
    /// Those of all devices of a host.
    #[must_use]
    pub fn of_host(root: &Root) -> Vec<Self> {
        let facts = rdma::read_at(root, Look::Brief);
        facts.devices.iter().flatten().map(|device| Self::of(root, device)).collect()
    }

    fn of(root: &Root, device: &SysfsDevice) -> Self {
        let mut netdevs: Vec<String> = device.netdevs.iter().flat_map(|netdev| net_counters::with_lower(root, netdev)).collect();
        netdevs.sort();
        netdevs.dedup();
        let functions = netdevs.iter().filter_map(|netdev| net_counters::pci_address(root, netdev));
        let functions = functions.chain(device.pci.iter().map(|pci| pci.address.clone())).collect();
        // A device without a GUID has zeros.
        let adapter = device.sys_image_guid.clone().filter(|guid| guid.bytes().any(|byte| !matches!(byte, b'0' | b':')));
        let is_bonded = netdevs.iter().any(|netdev| net_counters::is_bonded(root, netdev));
        Self { device: device.name.clone(), netdevs, adapter, functions, is_bonded, is_virtual: device.is_virtual }
    }

    /// Whether both are functions or ports of one adapter.
    #[must_use]
    pub fn is_one_with(&self, other: &Self) -> bool {
        let slot = |address: &String| address.rsplit_once('.').map(|(slot, _)| slot.to_owned());
        let shares_slot = self.functions.iter().filter_map(slot).any(|mine| other.functions.iter().filter_map(slot).any(|its| its == mine));
        self.device == other.device || shares_slot || (self.adapter.is_some() && self.adapter == other.adapter)
    }
}

impl Snapshot {
    /// Counters of some devices of this host and of the interfaces below them, as they are now. Those of all other devices and interfaces, as
    /// far as they tell of amounts of data, come `with_others`.
    #[must_use]
    pub fn read(root: &Root, tallies: Option<&CounterFile>, ways: &[Routes], devices: &[String], with_others: bool) -> Self {
        let is_own = |device: &String| devices.contains(device);
        let mut sets = Vec::new();
        let tallied = tallies.map(CounterFile::read).unwrap_or_default();
        for set in rdma_counters::read(root).sets {
            if !with_others && !is_own(&set.device) {
                continue;
            }
            let mut counters = set.counters;
            for counter in &mut counters {
                counter.value = counter
                    .value
                    .saturating_add(tallied.iter().find(|tally| tally.device == set.device).map_or(0, |tally| tally.of(&counter.name)));
            }
            sets.push(Counted { owner: set.device, port: set.port, keeper: CounterKeeper::Rdma, counters });
        }
        let own: Vec<&String> = ways.iter().filter(|way| is_own(&way.device)).flat_map(|way| &way.netdevs).collect();
        let all = if with_others { net_counters::netdevs(root) } else { own.iter().map(|netdev| (*netdev).clone()).collect() };
        for netdev in &all {
            let tells_data = |name: &str| matches!(name, "rx_bytes" | "tx_bytes");
            let is_own = own.contains(&netdev);
            let wanted = |name: &str| tells_data(name) || (is_own && meaning(CounterKeeper::Kernel, name).is_some());
            let mut keep = |keeper, counters| sets.push(Counted { owner: netdev.clone(), port: None, keeper, counters });
            keep(CounterKeeper::Kernel, net_counters::statistics(root, netdev, &wanted));
            if !is_own {
                continue;
            }
            // Of a modelled host, and where the driver does not answer, there are none.
            let of_driver = net_counters::of_driver(root, netdev, &|name| meaning(CounterKeeper::Driver, name).is_some());
            keep(CounterKeeper::Driver, of_driver.unwrap_or_default());
        }
        sets.retain(|set| !set.counters.is_empty());
        let devices = ways.iter().filter(|way| with_others || is_own(&way.device)).cloned().collect();
        Self { devices, sets, left_out: 0 }
    }

    /// The same, with no more than a host takes from another, whatever that one says.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let is_name = |name: &String| {
            !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        };
        let before = self.count();
        self.devices.truncate(LONGEST_NAME);
        self.devices.retain(|way| is_name(&way.device));
        for way in &mut self.devices {
            way.netdevs.retain(is_name);
            way.netdevs.truncate(LONGEST_NAME);
            way.functions.retain(is_name);
            way.functions.truncate(LONGEST_NAME);
            way.adapter = way.adapter.take().filter(is_name);
        }
        let mut room = MOST_COUNTERS;
        self.sets.truncate(MOST_COUNTERS);
        self.sets.retain(|set| is_name(&set.owner));
        for set in &mut self.sets {
            set.counters.retain(|counter| is_name(&counter.name));
            set.counters.truncate(room);
            room -= set.counters.len();
        }
        self.left_out = self.left_out.saturating_add(before - self.count());
        self
    }

    fn count(&self) -> u64 {
        self.sets.iter().map(|set| set.counters.len() as u64).sum()
    }

    /// The ways of a device.
    pub(super) fn ways(&self, device: &str) -> Option<&Routes> {
        self.devices.iter().find(|ways| ways.device == device)
    }

    /// A counter of an owner. `port` is that of an RDMA device; counters of all of it count too.
    pub(super) fn value(&self, keeper: CounterKeeper, owner: &str, port: Option<u32>, name: &str) -> Option<u64> {
        let is_it =
            |set: &&Counted| set.keeper == keeper && set.owner == owner && (set.port.is_none() || port.is_none() || set.port == port);
        self.sets.iter().filter(is_it).flat_map(|set| &set.counters).find(|counter| counter.name == name).map(|counter| counter.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(owner: &str, names: &[&str]) -> Counted {
        let counters = names.iter().map(|name| Counter { name: (*name).to_owned(), value: 1 }).collect();
        Counted { owner: owner.to_owned(), port: Some(1), keeper: CounterKeeper::Rdma, counters }
    }

    #[test]
    fn what_another_host_tells_is_kept_within_bounds() {
        let long = "x".repeat(1000);
        let many: Vec<String> = (0..10_000).map(|number| format!("c{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = Snapshot {
            sets: vec![set("rxe0", &["sent_pkts", &long, "a\u{1b}[2J"]), set(&long, &["b"]), set("rxe1", &many)],
            ..Snapshot::default()
        };
        let kept = told.bounded();
        assert_eq!(kept.sets[0].counters.len(), 1);
        assert_eq!(kept.count(), MOST_COUNTERS as u64);
        assert_eq!(kept.left_out, 10_004 - MOST_COUNTERS as u64);
    }

    #[test]
    fn functions_of_one_card_are_one_adapter() {
        let ways = |device: &str, function: &str, adapter: Option<&str>| Routes {
            device: device.to_owned(),
            functions: vec![function.to_owned()],
            adapter: adapter.map(str::to_owned),
            ..Routes::default()
        };
        let first = ways("mlx5_0", "0000:18:00.0", Some("a"));
        assert!(first.is_one_with(&ways("mlx5_1", "0000:18:00.1", None)));
        assert!(first.is_one_with(&ways("mlx5_2", "0000:3a:00.0", Some("a"))));
        assert!(!first.is_one_with(&ways("mlx5_3", "0000:3a:00.0", Some("b"))));
    }
}
