//! The PCI Express tree: functions, the bridges above them, their links, and what their configuration spaces say.

pub mod config;
mod path;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pci::{self, PciFunction};
use super::reader::{Reader, number};
use super::{ReadError, Root, family};

#[cfg(test)]
#[cfg(test)]
pub(crate) use config::Coverage;
pub(crate) use config::{Config, Express, PortType};
pub(crate) use path::{PciePath, Segment};

const DEVICES: &str = "/sys/bus/pci/devices";

/// The PCI Express tree of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieFacts {
    /// Its functions, in the order of their addresses. Absent where the host has no PCI bus.
    pub functions: Option<Vec<PcieFunction>>,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

/// One function of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieFunction {
    /// What it is.
    #[serde(flatten)]
    pub function: PciFunction,
    /// The bridge above it; absent directly on a root bus.
    pub parent: Option<String>,
    /// The root bus, so the host bridge, that it is below: `0000:00`.
    pub root_bus: Option<String>,
    /// Its group, where the IOMMU is on.
    pub iommu_group: Option<u32>,
    /// The function that it is a virtual one of.
    pub physical_function: Option<String>,
    /// Its link, of the same functions as `config`: towards the processor, except of root ports and of a switch's downstream ports, where it is the one to the device.
    pub link: Link,
    /// Its memory and port ranges, of the same functions as `config`.
    pub bars: Vec<Bar>,
    /// Its configuration space. Read of bridges, network controllers and accelerators only.
    pub config: Option<Config>,
    /// Errors that the kernel counted, of the same functions as `config`; absent where it does not.
    pub errors: Option<AerCounts>,
}

impl PcieFunction {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.function.address
    }

    /// The largest memory range that may be prefetched: of a GPU, the window onto its memory that NVIDIA calls BAR1.
    #[must_use]
    pub fn window(&self) -> Option<&Bar> {
        self.bars.iter().filter(|bar| bar.is_memory && bar.is_prefetchable).max_by_key(|bar| bar.size_bytes)
    }

    /// Whether it is a bridge between buses.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.function.class.is_some_and(|class| class >> 8 == 0x0604)
    }

    /// Whether it is a GPU or accelerator of NVIDIA or AMD.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        let Some(class) = self.function.class.map(|class| class >> 8) else { return false };
        // Display controllers, VGA or 3D; AMD's accelerators say processing accelerator.
        match self.function.vendor_id {
            Some(0x10de) => matches!(class, 0x0300 | 0x0302),
            Some(0x1002) => matches!(class, 0x0300 | 0x0302 | 0x0380 | 0x1200),
            _ => false,
        }
    }
}

/// Speed and width of a link, now and at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// Transfers a second on each lane, in millions: 16000 is 16 GT/s. Absent where there is no link or its speed is not known.
    pub current_megatransfers_per_second: Option<u32>,
    /// Lanes in use; absent where the link is down.
    pub current_lanes: Option<u32>,
    /// The most that this end can do. A virtual function has none.
    pub max_megatransfers_per_second: Option<u32>,
    /// Lanes of this end.
    pub max_lanes: Option<u32>,
}

impl Link {
    /// What the link carries now.
    #[must_use]
    pub fn current_bits_per_second(&self) -> Option<u64> {
        Some(bits_per_second(self.current_megatransfers_per_second?, self.current_lanes?))
    }

    /// What this end could carry.
    #[must_use]
    pub fn max_bits_per_second(&self) -> Option<u64> {
        Some(bits_per_second(self.max_megatransfers_per_second?, self.max_lanes?))
    }
}

/// What a link carries in each direction after its line coding, without packet headers; as drivers/pci/pci.h, `PCIE_SPEED2MBS_ENC`.
pub(super) fn bits_per_second(megatransfers_per_second: u32, lanes: u32) -> u64 {
    let raw = u64::from(megatransfers_per_second) * 1_000_000;
    let lane = match megatransfers_per_second {
        0..=5000 => raw / 10 * 8,
        5001..=32000 => raw / 130 * 128,
        _ => raw,
    };
    lane.saturating_mul(u64::from(lanes))
}

/// A range of a function in memory or among ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bar {
    /// 0 to 5.
    pub index: u32,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it is in memory, and not among ports.
    pub is_memory: bool,
    /// Whether reads may be ahead of need, so that it can lie above 4 GiB.
    pub is_prefetchable: bool,
    /// Whether an address was found for it.
    pub is_assigned: bool,
}

/// Errors of a function that Advanced Error Reporting counted since it was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AerCounts {
    /// Mended by the link itself.
    pub correctable: Option<u64>,
    /// A request was lost.
    pub nonfatal: Option<u64>,
    /// The link could not be relied on.
    pub fatal: Option<u64>,
}

impl PcieFacts {
    /// The function at an address.
    #[must_use]
    pub fn function(&self, address: &str) -> Option<&PcieFunction> {
        self.functions.iter().flatten().find(|function| function.address() == address)
    }
}

/// Reads the tree. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> PcieFacts {
    let mut reader = Reader::new(root);
    let listed = root.names(DEVICES);
    let functions = reader.keep(listed).map(|addresses| addresses.iter().map(|address| function(&mut reader, address)).collect());
    PcieFacts { functions, problems: reader.problems }
}

fn function(reader: &mut Reader<'_>, address: &str) -> PcieFunction {
    let dir = Path::new(DEVICES).join(address);
    let function = pci::function(reader, &dir, address);
    let (parent, root_bus) = reader.canonical(&dir).map(|real| above(&real)).unwrap_or_default();
    let is_of_interest = is_of_interest(&function);
    let config = if is_of_interest { read_config(reader, &dir.join("config")) } else { None };
    PcieFunction {
        parent,
        root_bus,
        iommu_group: reader.link_name(dir.join("iommu_group")).and_then(|group| group.parse().ok()),
        physical_function: reader.link_name(dir.join("physfn")),
        link: if is_of_interest { link(reader, &dir) } else { Link::default() },
        bars: if is_of_interest { bars(reader, &dir.join("resource")) } else { Vec::new() },
        config,
        errors: if is_of_interest { errors(reader, &dir) } else { None },
        function,
    }
}

/// The bridge above a function and its root bus, from its path: `/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0`. A host bridge can
/// itself be below a function (Intel VMD), which is not in the path of packets' addresses.
fn above(real: &Path) -> (Option<String>, Option<String>) {
    let mut parent = None;
    for dir in real.ancestors().skip(1) {
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { break };
        if let Some(bus) = name.strip_prefix("pci").filter(|bus| bus.contains(':')) {
            return (parent, Some(bus.to_owned()));
        }
        if parent.is_none() && pci::is_address(name) {
            parent = Some(name.to_owned());
        }
    }
    (parent, None)
}

/// Bridges, network and InfiniBand controllers, displays, accelerators: what the rest of a server's hundreds of functions say, with reads of the
/// hardware, nobody asks for.
fn is_of_interest(function: &PciFunction) -> bool {
    let is_by_class = |class: u32| matches!(class >> 16, 0x02 | 0x03 | 0x12) || matches!(class >> 8, 0x0604 | 0x0c06);
    // EFA has no class of its own.
    function.class.is_some_and(is_by_class) || family::family_of_function(function).is_some()
}

fn read_config(reader: &mut Reader<'_>, path: &Path) -> Option<Config> {
    let opened = reader.root.open(path);
    let mut source = reader.keep(opened)?;
    let (config, faults) = config::parse(&mut source);
    reader.problems.extend(faults.into_iter().map(|fault| ReadError::malformed(path, "capability", fault)));
    Some(config)
}

fn link(reader: &mut Reader<'_>, dir: &Path) -> Link {
    let mut speed = |name: &str| reader.parsed(dir.join(name), "a speed in GT/s", speed).flatten();
    let (current, max) = (speed("current_link_speed"), speed("max_link_speed"));
    let mut lanes = |name: &str| reader.parsed(dir.join(name), "a number of lanes", |text| text.parse::<u32>().ok());
    Link {
        current_megatransfers_per_second: current,
        // 0 lanes: the link is down, or the function is a virtual one; 255: not known (include/linux/pci.h, PCIE_LNK_WIDTH_UNKNOWN).
        current_lanes: lanes("current_link_width").filter(|lanes| (1..=32).contains(lanes)),
        max_megatransfers_per_second: max,
        max_lanes: lanes("max_link_width").filter(|lanes| (1..=32).contains(lanes)),
    }
}

/// Reads `16.0 GT/s PCIe`, in older kernels `8 GT/s`. `Some(None)` for what has no such speed: `Unknown`, `33 MHz PCI`.
fn speed(text: &str) -> Option<Option<u32>> {
    let (value, unit) = text.split_once(' ').unwrap_or((text, ""));
    if text.starts_with("Unknown") || unit.starts_with("MHz") {
        return Some(None);
    }
    if !unit.starts_with("GT/s") {
        return None;
    }
    let (whole, tenths) = value.split_once('.').unwrap_or((value, "0"));
    let tenths: u32 = tenths.parse().ok().filter(|tenths| *tenths < 10)?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(tenths * 100).map(Some)
}

/// The first six lines of `resource`: start, end and flags (include/linux/ioport.h).
fn bars(reader: &mut Reader<'_>, path: &Path) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (index, line) in (0..6).zip(reader.text(path).unwrap_or_default().lines()) {
        let fields: Vec<Option<u64>> = line.split_whitespace().map(number).collect();
        let [Some(start), Some(end), Some(flags)] = fields[..] else {
            reader.problems.push(ReadError::malformed(path, &format!("line {}", index + 1), "not a start, an end and flags"));
            break;
        };
        // IORESOURCE_IO or IORESOURCE_MEM; neither where the function has no such range.
        if flags & 0x300 == 0 || end < start {
            continue;
        }
        bars.push(Bar {
            index,
            size_bytes: (end - start).saturating_add(1),
            is_memory: flags & 0x200 != 0,
            is_prefetchable: flags & 0x2000 != 0,
            is_assigned: flags & 0x2000_0000 == 0,
        });
    }
    bars
}

/// The totals of drivers/pci/pcie/aer.c.
fn errors(reader: &mut Reader<'_>, dir: &Path) -> Option<AerCounts> {
    let mut total = |name: &str, total: &str| {
        let text = reader.attribute(dir.join(name))?;
        text.lines().find_map(|line| line.strip_prefix(total)?.trim().parse().ok())
    };
    let counts = AerCounts {
        correctable: total("aer_dev_correctable", "TOTAL_ERR_COR"),
        nonfatal: total("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL"),
        fatal: total("aer_dev_fatal", "TOTAL_ERR_FATAL"),
    };
    (counts != AerCounts::default()).then_some(counts)
}

#[cfg(test)]
#[path = "../pcie_tests.rs"]
pub(crate) mod tests;
