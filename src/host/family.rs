//! Device families: how to tell one from sysfs, and which kernel modules it needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// One family of devices.
struct Family {
    name: &'static str,
    /// Drivers of its PCI functions.
    drivers: &'static [&'static str],
    /// Vendor, and first and last part number.
    pci: &'static [(u16, u16, u16)],
    /// Prefixes of device names where udev does not rename them.
    prefixes: &'static [&'static str],
    /// Kernel modules that make it an RDMA device.
    modules: &'static [&'static str],
}

/// PCI numbers stand here where they tell a part that carries RDMA from one that does not; a range may hold numbers that were never sold.
/// Where they do not, only a bound driver makes the family known.
const FAMILIES: &[Family] = &[
    Family { name: "erdma", drivers: &["erdma"], pci: &[(0x1ded, 0x107f, 0x107f)], prefixes: &["erdma_"], modules: &["erdma"] },
    Family {
        name: "mlx5",
        drivers: &["mlx5_core"],
        pci: &[(0x15b3, 0x1011, 0x1fff), (0x15b3, 0xa2d2, 0xa2df)],
        prefixes: &["mlx5_"],
        modules: &["mlx5_core", "mlx5_ib"],
    },
    Family {
        name: "mlx4",
        drivers: &["mlx4_core"],
        pci: &[(0x15b3, 0x1002, 0x1010), (0x15b3, 0x6340, 0x676e)],
        prefixes: &["mlx4_"],
        modules: &["mlx4_core", "mlx4_ib"],
    },
    Family {
        name: "bnxt_re",
        drivers: &["bnxt_en"],
        pci: &[(0x14e4, 0x16c0, 0x16f1), (0x14e4, 0x1750, 0x1809), (0x14e4, 0xd800, 0xd804)],
        prefixes: &["bnxt_re"],
        modules: &["bnxt_en", "bnxt_re"],
    },
    Family {
        name: "irdma",
        drivers: &["ice", "irdma", "i40e", "idpf"],
        pci: &[(0x8086, 0x1591, 0x159b), (0x8086, 0x188a, 0x188e), (0x8086, 0x37ce, 0x37d3)],
        prefixes: &["irdma"],
        modules: &["ice", "irdma"],
    },
    Family { name: "efa", drivers: &["efa"], pci: &[(0x1d0f, 0xefa0, 0xefaf)], prefixes: &["efa_"], modules: &["efa"] },
    Family { name: "mana", drivers: &["mana"], pci: &[(0x1414, 0x00b9, 0x00ba)], prefixes: &["mana_"], modules: &["mana", "mana_ib"] },
    Family {
        name: "hns",
        drivers: &["hns3", "hns_roce", "hns_roce_hw_v2"],
        pci: &[(0x19e5, 0xa222, 0xa228), (0x19e5, 0xa22f, 0xa22f)],
        prefixes: &["hns_"],
        modules: &["hns3", "hns_roce_hw_v2"],
    },
    Family { name: "qedr", drivers: &["qede"], pci: &[], prefixes: &["qedr"], modules: &["qede", "qedr"] },
    Family { name: "cxgb4", drivers: &["cxgb4"], pci: &[], prefixes: &["cxgb4_"], modules: &["cxgb4", "iw_cxgb4"] },
    Family {
        name: "ionic",
        drivers: &["ionic"],
        pci: &[(0x1dd8, 0x1002, 0x1003)],
        prefixes: &["ionic_"],
        modules: &["ionic", "ionic_rdma"],
    },
    Family {
        name: "vmw_pvrdma",
        drivers: &["vmw_pvrdma"],
        pci: &[(0x15ad, 0x0820, 0x0820)],
        prefixes: &["vmw_pvrdma"],
        modules: &["vmw_pvrdma"],
    },
    Family { name: "ocrdma", drivers: &["ocrdma", "be2net"], pci: &[], prefixes: &["ocrdma"], modules: &["be2net", "ocrdma"] },
    Family { name: "rxe", drivers: &[], pci: &[], prefixes: &["rxe"], modules: &["rdma_rxe"] },
    Family { name: "siw", drivers: &[], pci: &[], prefixes: &["siw"], modules: &["siw"] },
];

/// Drivers whose functions are RDMA devices only on some parts, so that the driver alone does not make a host want the RDMA modules.
const MOSTLY_WITHOUT_RDMA: &[&str] = &["i40e", "ice", "idpf", "be2net", "cxgb4", "qede", "hns3", "ionic", "mana"];

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
    /// Code of its node type; 4 is an iWARP adapter.
    pub node_type: Option<u32>,
}

/// Which family a device is of; `None` where nothing tells.
#[must_use]
pub fn family(signs: Signs<'_>) -> Option<FamilyGuess> {
    let guess = |family: &Family, basis| FamilyGuess { family: family.name.to_owned(), basis };
    let named = |name: &str| FAMILIES.iter().find(|family| family.name == name);
    if let Some(found) = signs.driver.and_then(by_driver) {
        return Some(guess(found, FamilyBasis::Driver));
    }
    if let Some(found) = signs.pci.map(Numbers::of).and_then(by_numbers) {
        return Some(guess(found, FamilyBasis::PciId));
    }
    if signs.is_virtual && signs.has_parent {
        return named("rxe").map(|found| guess(found, FamilyBasis::SoftDevice));
    }
    if signs.is_virtual && signs.node_type == Some(4) {
        return named("siw").map(|found| guess(found, FamilyBasis::SoftDevice));
    }
    let by_name = FAMILIES.iter().find(|family| family.prefixes.iter().any(|prefix| signs.name.starts_with(prefix)))?;
    Some(guess(by_name, FamilyBasis::NameOnly))
}

/// The family of a PCI function that need not be an RDMA device yet.
#[must_use]
pub fn family_of_function(function: &PciFunction) -> Option<&'static str> {
    family_of(function.driver.as_deref(), Numbers::of(function))
}

/// As [`family_of_function`].
pub(super) fn family_of(driver: Option<&str>, numbers: Numbers) -> Option<&'static str> {
    let driver = driver.filter(|driver| !MOSTLY_WITHOUT_RDMA.contains(driver)).and_then(by_driver);
    driver.or_else(|| by_numbers(numbers)).map(|family| family.name)
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

/// The kernel modules that a family needs; none for a name that is no family.
#[must_use]
pub fn modules_of(family: &str) -> &'static [&'static str] {
    FAMILIES.iter().find(|known| known.name == family).map_or(&[], |known| known.modules)
}

/// Every family known here.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

fn by_driver(driver: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.drivers.contains(&driver))
}

fn by_numbers(Numbers { vendor, device, class }: Numbers) -> Option<&'static Family> {
    // The vendors make bridges and storage controllers too. EFA has no class of its own.
    let is_network = class.is_some_and(|class| class >> 16 == 0x02);
    if !(is_network || vendor == Some(0x1d0f)) {
        return None;
    }
    let (vendor, device) = (vendor?, device?);
    FAMILIES.iter().find(|family| family.pci.iter().any(|(of, first, last)| *of == vendor && (*first..=*last).contains(&device)))
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
        let soft = Signs { name: "siw0", is_virtual: true, has_parent: true, node_type: Some(1), ..Signs::default() };
        assert_eq!(told(soft), Some(("rxe".to_owned(), FamilyBasis::SoftDevice)));
        assert_eq!(told(Signs { has_parent: false, node_type: Some(4), ..soft }), Some(("siw".to_owned(), FamilyBasis::SoftDevice)));
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

    #[test]
    fn every_family_has_modules() {
        assert!(names().all(|family| !modules_of(family).is_empty()));
        assert!(modules_of("nothing").is_empty());
    }
}
