//! Of which family a device is, by what sysfs tells of it.

use rdmadoctor_types::NodeType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::families::{self, Family, SoftwareSign};
use super::pci::PciFunction;

/// Which family a device is of, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FamilyGuess {
    /// Such as `mlx5`, `erdma`, `rxe`.
    pub family: String,
    /// What it rests on.
    pub basis: FamilyBasis,
}

/// What a guess of a family rests on, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FamilyBasis {
    /// The PCI function's driver.
    Driver,
    /// The PCI numbers, where no driver is known.
    PciId,
    /// A software device, told by its attributes in sysfs.
    SoftDevice,
    /// Nothing but the name, which anybody may change (`rdma dev set … name`).
    NameOnly,
}

/// What sysfs tells of a device that may show its family.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signs<'a> {
    /// The RDMA device's name.
    pub name: &'a str,
    /// Driver of its PCI function.
    pub driver: Option<&'a str>,
    /// The PCI function.
    pub pci: Option<&'a PciFunction>,
    /// Whether it lives below /sys/devices/virtual.
    pub is_virtual: bool,
    /// Whether it has the attribute `parent`, which rxe alone writes (drivers/infiniband/sw/rxe/rxe_verbs.c).
    pub has_parent: bool,
    /// Its node type.
    pub node_type: Option<NodeType>,
}

/// Which family a device is of; `None` where nothing tells.
#[must_use]
pub fn family(signs: Signs<'_>) -> Option<FamilyGuess> {
    let guess = |family: &Family, basis| FamilyGuess { family: family.name.clone().into_owned(), basis };
    if let Some(found) = signs.driver.and_then(|driver| by_driver(driver, |_| true)) {
        return Some(guess(found, FamilyBasis::Driver));
    }
    if let Some(found) = signs.pci.map(Numbers::of).and_then(by_numbers) {
        return Some(guess(found, FamilyBasis::PciId));
    }
    let by_sign = match () {
        () if !signs.is_virtual => None,
        () if signs.has_parent => Some(SoftwareSign::ParentAttribute),
        () if signs.node_type == Some(NodeType::Rnic) => Some(SoftwareSign::IwarpNodeType),
        () => None,
    };
    if let Some(found) = by_sign.and_then(|sign| families::all().find(|family| family.software == Some(sign))) {
        return Some(guess(found, FamilyBasis::SoftDevice));
    }
    let by_name = families::all().find(|family| family.device_prefixes.iter().any(|prefix| signs.name.starts_with(&**prefix)))?;
    Some(guess(by_name, FamilyBasis::NameOnly))
}

/// The family of a PCI function that need not be an RDMA device yet.
#[must_use]
pub fn family_of_function(function: &PciFunction) -> Option<&'static str> {
    family_of(function.driver.as_deref(), Numbers::of(function))
}

/// As [`family_of_function`].
pub(super) fn family_of(driver: Option<&str>, numbers: Numbers) -> Option<&'static str> {
    let driver = driver.and_then(|driver| by_driver(driver, |known| !known.mostly_without_rdma));
    driver.or_else(|| by_numbers(numbers)).map(|family| &*family.name)
}

/// Vendor, device and class of a PCI function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) vendor: Option<u16>,
    pub(super) device: Option<u16>,
    pub(super) class: Option<u32>,
}

impl Numbers {
    fn of(function: &PciFunction) -> Self {
        Self { vendor: function.vendor_id, device: function.device_id, class: function.class }
    }
}

fn by_driver(driver: &str, counts: fn(&families::Driver) -> bool) -> Option<&'static Family> {
    families::all().find(|family| family.drivers.iter().any(|known| known.name == driver && counts(known)))
}

fn by_numbers(Numbers { vendor, device, class }: Numbers) -> Option<&'static Family> {
    // The vendors make bridges and storage controllers too.
    let is_network = class.is_some_and(|class| class >> 16 == 0x02);
    let (vendor, device) = (vendor?, device?);
    families::all().find(|family| family.pci.iter().any(|range| (is_network || range.any_class) && range.has(vendor, device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(vendor: u16, device: u16, class: u32, driver: Option<&str>) -> PciFunction {
        PciFunction {
            address: "0000:03:00.0".to_owned(),
            vendor_id: Some(vendor),
            device_id: Some(device),
            class: Some(class),
            driver: driver.map(str::to_owned),
            numa_node: None,
            is_virtual_function: false,
        }
    }

    #[test]
    fn the_surest_sign_decides() {
        let told = |signs| family(signs).map(|guess| (guess.family, guess.basis));
        let renamed = Signs { name: "rocep3s0", driver: Some("mlx5_core"), ..Signs::default() };
        assert_eq!(told(renamed), Some(("mlx5".to_owned(), FamilyBasis::Driver)));
        let pci = function(0x1ded, 0x107f, 0x02_00_00, None);
        assert_eq!(told(Signs { name: "x", pci: Some(&pci), ..Signs::default() }), Some(("erdma".to_owned(), FamilyBasis::PciId)));
        let soft =
            Signs { name: "siw0", is_virtual: true, has_parent: true, node_type: Some(NodeType::ChannelAdapter), ..Signs::default() };
        assert_eq!(told(soft), Some(("rxe".to_owned(), FamilyBasis::SoftDevice)));
        assert_eq!(
            told(Signs { has_parent: false, node_type: Some(NodeType::Rnic), ..soft }),
            Some(("siw".to_owned(), FamilyBasis::SoftDevice))
        );
        assert_eq!(told(Signs { name: "rxe_eth0", ..Signs::default() }), Some(("rxe".to_owned(), FamilyBasis::NameOnly)));
        assert_eq!(told(Signs { name: "rocep3s0", ..Signs::default() }), None);
    }

    #[test]
    fn a_function_without_rdma_driver_is_known_by_its_numbers() {
        assert_eq!(family_of_function(&function(0x15b3, 0x101b, 0x02_07_00, None)), Some("mlx5"));
        assert_eq!(family_of_function(&function(0x15b3, 0x1979, 0x06_04_00, Some("pcieport"))), None);
        assert_eq!(family_of_function(&function(0x1d0f, 0xefa1, 0xff_00_00, None)), Some("efa"));
        assert_eq!(family_of_function(&function(0x8086, 0x1593, 0x02_00_00, Some("ice"))), Some("irdma"));
        assert_eq!(family_of_function(&function(0x8086, 0x1572, 0x02_00_00, Some("i40e"))), None);
        assert_eq!(family_of_function(&function(0x14e4, 0x1657, 0x02_00_00, Some("tg3"))), None);
    }
}
