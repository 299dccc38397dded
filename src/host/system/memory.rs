//! Memory: NUMA nodes, huge pages, and what the kernel does with pages by itself.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chosen;
use crate::host::reader::Reader;

const NODES: &str = "/sys/devices/system/node";

/// Memory of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryFacts {
    pub total_bytes: Option<u64>,
    /// What programs could still get.
    pub available_bytes: Option<u64>,
    /// NUMA nodes. Absent where the kernel has no NUMA.
    pub nodes: Option<Vec<NumaNode>>,
    /// Huge pages of the whole host, by size.
    pub huge_pages: Vec<HugePages>,
    /// `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Whether the kernel moves pages between nodes by itself, which takes them from registered memory's neighbours for a while: 0 is off.
    pub numa_balancing: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumaNode {
    pub node: u32,
    /// Its processors, as the kernel lists them: `0-31,64-95`. Empty for memory without processors, as some GPUs offer.
    pub cpus: Option<String>,
    /// Its memory.
    pub total_bytes: Option<u64>,
    pub free_bytes: Option<u64>,
    /// Distances to all nodes, in their order; 10 is near.
    pub distances: Vec<u32>,
    pub huge_pages: Vec<HugePages>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HugePages {
    /// Their size.
    pub page_bytes: u64,
    /// How many there are.
    pub total: u64,
    /// How many are free.
    pub free: u64,
    /// How many were promised and not yet taken; only for the whole host.
    pub reserved: Option<u64>,
    /// How many there are above the configured number.
    pub surplus: Option<u64>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> MemoryFacts {
    let text = reader.text("/proc/meminfo").unwrap_or_default();
    let listed = reader.root.names(NODES);
    let nodes = reader.keep(listed).map(|names| {
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| node(reader, number)).collect()
    });
    MemoryFacts {
        total_bytes: kibibytes(&text, "MemTotal:"),
        available_bytes: kibibytes(&text, "MemAvailable:"),
        nodes,
        huge_pages: huge_pages(reader, Path::new("/sys/kernel/mm/hugepages")),
        transparent_huge_pages: reader.attribute("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
        numa_balancing: reader.parsed("/proc/sys/kernel/numa_balancing", "a number", |text| text.parse().ok()),
    }
}

fn node(reader: &mut Reader<'_>, node: u32) -> NumaNode {
    let dir = Path::new(NODES).join(format!("node{node}"));
    let text = reader.text(dir.join("meminfo")).unwrap_or_default();
    let distances = |text: &str| text.split_whitespace().map(|distance| distance.parse().ok()).collect::<Option<Vec<u32>>>();
    NumaNode {
        node,
        cpus: reader.attribute(dir.join("cpulist")),
        total_bytes: kibibytes(&text, "MemTotal:"),
        free_bytes: kibibytes(&text, "MemFree:"),
        distances: reader.parsed(dir.join("distance"), "a list of distances", distances).unwrap_or_default(),
        huge_pages: huge_pages(reader, &dir.join("hugepages")),
    }
}

/// A line of meminfo: `MemTotal:  1056 kB`, and for a node `Node 0 MemTotal:  1056 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.split_once(name).map(|(_, value)| value))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Directories `hugepages-2048kB`.
fn huge_pages(reader: &mut Reader<'_>, dir: &Path) -> Vec<HugePages> {
    let mut all = Vec::new();
    for name in reader.names(dir) {
        let size = name
            .strip_prefix("hugepages-")
            .and_then(|rest| rest.strip_suffix("kB"))
            .and_then(|size| size.parse::<u64>().ok()?.checked_mul(1024));
        let Some(page_bytes) = size else { continue };
        let mut count = |file: &str| reader.parsed(dir.join(&name).join(file), "a number of pages", |text| text.parse::<u64>().ok());
        all.push(HugePages {
            page_bytes,
            total: count("nr_hugepages").unwrap_or(0),
            free: count("free_hugepages").unwrap_or(0),
            reserved: count("resv_hugepages"),
            surplus: count("surplus_hugepages"),
        });
    }
    all.sort_by_key(|pages| pages.page_bytes);
    all
}
