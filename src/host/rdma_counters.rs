//! Counters of RDMA devices and ports, as sysfs shows them.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::{Reader, shorten};
use super::{ReadError, Root};

const CLASS: &str = "/sys/class/infiniband";

/// Counters of all devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterFacts {
    /// The sets of counters.
    pub sets: Vec<CounterSet>,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

impl CounterFacts {
    /// A counter of a port, of whichever set has it.
    #[must_use]
    pub fn value(&self, device: &str, port: u32, name: &str) -> Option<u64> {
        let sets = self.sets.iter().filter(|set| set.device == device && set.port == Some(port));
        sets.flat_map(|set| &set.counters).find(|counter| counter.name == name).map(|counter| counter.value)
    }
}

/// Who keeps counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CounterGroup {
    /// `counters`: those that InfiniBand defines.
    Standard,
    /// `hw_counters`: the driver's own.
    Driver,
}

/// The counters of one directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterSet {
    /// RDMA device.
    pub device: String,
    /// Its port; absent for counters of the whole device.
    pub port: Option<u32>,
    /// Who keeps them.
    pub group: CounterGroup,
    /// The counters, by name.
    pub counters: Vec<Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counter {
    pub name: String,
    /// Its value; data counters of the standard set count four bytes.
    pub value: u64,
}

/// Reads all of them. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> CounterFacts {
    let mut reader = Reader::new(root);
    let mut sets = Vec::new();
    for device in reader.names(CLASS) {
        let dir = Path::new(CLASS).join(&device);
        let mut ports: Vec<u32> = reader.names(dir.join("ports")).iter().filter_map(|port| port.parse().ok()).collect();
        ports.sort_unstable();
        let places = ports.into_iter().flat_map(|port| {
            let dir = dir.join(format!("ports/{port}"));
            [(Some(port), CounterGroup::Standard, dir.join("counters")), (Some(port), CounterGroup::Driver, dir.join("hw_counters"))]
        });
        for (port, group, dir) in places.chain([(None, CounterGroup::Driver, dir.join("hw_counters"))]) {
            let counters = counters(&mut reader, &dir);
            if !counters.is_empty() {
                sets.push(CounterSet { device: device.clone(), port, group, counters });
            }
        }
    }
    CounterFacts { sets, problems: reader.problems }
}

fn counters(reader: &mut Reader<'_>, dir: &Path) -> Vec<Counter> {
    let mut counters = Vec::new();
    // `lifespan` is how long values are kept before the device is asked again (drivers/infiniband/core/sysfs.c).
    for name in reader.names(dir).into_iter().filter(|name| name != "lifespan") {
        let path = dir.join(&name);
        let Some(text) = reader.attribute(&path) else { continue };
        match text.parse() {
            Ok(value) => counters.push(Counter { name, value }),
            // What the kernel writes for a device without a performance agent.
            Err(_) if text.starts_with("N/A") => {}
            Err(_) => reader.problems.push(ReadError::malformed(&path, "value", format!("{:?} is not a count", shorten(&text)))),
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Node;

    #[test]
    fn counters_are_read_where_they_are() {
        let nodes = [
            ("mlx5_0/ports/1/counters/port_xmit_data", "18446744073709551615\n"),
            ("mlx5_0/ports/1/counters/symbol_error", "N/A (no PMA)\n"),
            ("mlx5_0/ports/1/hw_counters/out_of_sequence", "3\n"),
            ("mlx5_0/ports/1/hw_counters/lifespan", "10\n"),
            ("mlx5_0/ports/1/hw_counters/odd", "many\n"),
            ("mlx5_0/hw_counters/mr", "7\n"),
        ];
        let facts = read(&Root::tree(nodes.into_iter().map(|(path, text)| (format!("{CLASS}/{path}").into(), Node::text(text))).collect()));
        assert_eq!(facts.sets.len(), 3);
        assert_eq!(facts.value("mlx5_0", 1, "port_xmit_data"), Some(u64::MAX));
        assert_eq!(facts.value("mlx5_0", 1, "out_of_sequence"), Some(3));
        assert_eq!(facts.value("mlx5_0", 1, "lifespan"), None);
        assert_eq!((facts.sets[2].port, facts.sets[2].counters[0].value), (None, 7));
        assert_eq!(facts.problems.len(), 1);
        assert_eq!(read(&Root::tree(std::collections::BTreeMap::new())), CounterFacts::default());
    }
}
