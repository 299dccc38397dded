//! Whether the IOMMU is on, and whether it translates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::reader::Reader;

const GROUPS: &str = "/sys/kernel/iommu_groups";

/// How the IOMMU treats devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IommuMode {
    /// There is none, or it is off.
    Off,
    /// Devices use memory's own addresses.
    Passthrough,
    /// Devices use addresses of their own, which costs speed and can stop them from reaching each other.
    Translated,
    /// Some groups are passed through and some translated.
    Mixed,
    /// There are groups, and the kernel does not say how they are treated.
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IommuFacts {
    /// How it treats devices, all together.
    pub mode: IommuMode,
    /// Its units: `dmar0`, `ivhd0`, `smmu3.0x…`.
    pub units: Vec<String>,
    pub groups: Vec<IommuGroup>,
}

impl IommuFacts {
    /// A group by number.
    #[must_use]
    pub fn group(&self, number: u32) -> Option<&IommuGroup> {
        self.groups.iter().find(|group| group.group == number)
    }
}

/// Functions that the IOMMU cannot tell apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IommuGroup {
    pub group: u32,
    /// `identity`, `DMA`, `DMA-FQ`, `unmanaged`, `blocked` or `unknown` (drivers/iommu/iommu.c, `iommu_group_show_type`).
    pub kind: Option<String>,
}

impl IommuGroup {
    /// Whether addresses of its functions are translated.
    #[must_use]
    pub fn is_translated(&self) -> Option<bool> {
        match self.kind.as_deref()? {
            "identity" => Some(false),
            // Unmanaged: somebody else, mostly a virtual machine's hypervisor, fills the tables.
            "DMA" | "DMA-FQ" | "DMA-SQ" | "unmanaged" | "blocked" => Some(true),
            _ => None,
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> IommuFacts {
    let mut groups: Vec<IommuGroup> = Vec::new();
    for name in reader.names(GROUPS) {
        let Ok(group) = name.parse() else { continue };
        groups.push(IommuGroup { group, kind: reader.attribute(format!("{GROUPS}/{name}/type")) });
    }
    groups.sort_by_key(|group| group.group);
    let units = reader.names("/sys/class/iommu");
    let translated = groups.iter().any(|group| group.is_translated() == Some(true));
    let passed = groups.iter().any(|group| group.is_translated() == Some(false));
    let mode = match (translated, passed) {
        // Without /sys nothing is known; with it, no groups means no translation.
        (false, false) if groups.is_empty() => {
            if reader.root.exists("/sys/kernel") {
                IommuMode::Off
            } else {
                IommuMode::Unknown
            }
        }
        (false, false) => IommuMode::Unknown,
        (true, false) => IommuMode::Translated,
        (false, true) => IommuMode::Passthrough,
        (true, true) => IommuMode::Mixed,
    };
    IommuFacts { mode, units, groups }
}
