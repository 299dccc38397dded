//! PCI functions: which devices a host has, whether or not a driver took them.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::{Reader, number};

/// One function of /sys/bus/pci/devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PciFunction {
    /// Such as `0000:03:00.0`.
    pub address: String,
    /// The vendor's number.
    pub vendor_id: Option<u16>,
    /// The vendor's number of this part.
    pub device_id: Option<u16>,
    /// Class, subclass and programming interface: 0x02xxxx is a network controller.
    pub class: Option<u32>,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// The NUMA node that it is attached to; absent where the firmware names none (sysfs says -1).
    pub numa_node: Option<u32>,
    /// Whether it is a virtual function of SR-IOV.
    pub is_virtual_function: bool,
}

impl PciFunction {
    /// Whether it is a network controller.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.class.is_some_and(|class| class >> 16 == 0x02)
    }
}

/// Where the functions are.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";

/// What a function is, by the vendor's numbers, and its driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) address: String,
    pub(super) vendor_id: Option<u16>,
    pub(super) device_id: Option<u16>,
    pub(super) class: Option<u32>,
    pub(super) driver: Option<String>,
}

/// Every function, in the order of their addresses.
pub(super) fn identities(reader: &mut Reader<'_>) -> Vec<Identity> {
    let dir = Path::new(DEVICES);
    reader.names(dir).iter().map(|address| identity(reader, &dir.join(address), address)).collect()
}

/// What the function at a directory of sysfs is. `uevent` tells all of it in one file, of which a server has hundreds; where that is not
/// readable the four others do.
fn identity(reader: &mut Reader<'_>, dir: &Path, address: &str) -> Identity {
    let told = reader.read(dir.join("uevent")).ok().flatten();
    if let Some(identity) = told.and_then(|text| of_event(&text, address)) {
        return identity;
    }
    let id = |text: &str| number(text).and_then(|id| u16::try_from(id).ok());
    Identity {
        address: address.to_owned(),
        vendor_id: reader.parsed(dir.join("vendor"), "a PCI number", id),
        device_id: reader.parsed(dir.join("device"), "a PCI number", id),
        class: reader.parsed(dir.join("class"), "a PCI class", |text| number(text).and_then(|class| u32::try_from(class).ok())),
        driver: reader.link_name(dir.join("driver")),
    }
}

/// Reads `PCI_CLASS=20000` and `PCI_ID=15B3:101B` (drivers/pci/pci-driver.c, `pci_uevent`), and `DRIVER=mlx5_core` where one is bound
/// (drivers/base/core.c, `dev_uevent`).
fn of_event(text: &str, address: &str) -> Option<Identity> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let (vendor, device) = field("PCI_ID")?.split_once(':')?;
    let id = |digits: &str| u16::from_str_radix(digits, 16).ok();
    Some(Identity {
        address: address.to_owned(),
        vendor_id: Some(id(vendor)?),
        device_id: Some(id(device)?),
        class: Some(u32::from_str_radix(field("PCI_CLASS")?, 16).ok()?),
        driver: field("DRIVER").map(str::to_owned),
    })
}

/// The function at a directory of sysfs.
pub(super) fn function(reader: &mut Reader<'_>, dir: &Path, address: &str) -> PciFunction {
    let Identity { address, vendor_id, device_id, class, driver } = identity(reader, dir, address);
    PciFunction {
        address,
        vendor_id,
        device_id,
        class,
        driver,
        numa_node: reader
            .parsed(dir.join("numa_node"), "a node number or -1", |text| text.parse::<i32>().ok())
            .and_then(|node| u32::try_from(node).ok()),
        is_virtual_function: reader.root.link(dir.join("physfn")).is_ok_and(|target| target.is_some()),
    }
}

/// The PCI function that a device's canonical path runs through: the last one, as the ones before are bridges.
pub(super) fn function_in(path: &Path) -> Option<(PathBuf, String)> {
    path.ancestors().find_map(|dir| {
        let name = dir.file_name()?.to_str()?;
        is_address(name).then(|| (dir.to_owned(), name.to_owned()))
    })
}

/// Whether a name is `domain:bus:device.function` in hexadecimal; domains of virtual machines have more than four digits.
pub(super) fn is_address(name: &str) -> bool {
    let hexadecimal = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let Some((bus, function)) = name.rsplit_once('.') else { return false };
    let parts: Vec<&str> = bus.split(':').collect();
    matches!(parts[..], [domain, bus, device]
        if hexadecimal(domain, 4..=8) && hexadecimal(bus, 2..=2) && hexadecimal(device, 2..=2) && hexadecimal(function, 1..=1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_what_a_function_is() {
        let text = "DRIVER=mlx5_core\nPCI_CLASS=20700\nPCI_ID=15B3:101B\nPCI_SUBSYS_ID=15B3:0007\nPCI_SLOT_NAME=0000:03:00.0\n";
        let identity = of_event(text, "0000:03:00.0").unwrap();
        assert_eq!((identity.vendor_id, identity.device_id, identity.class), (Some(0x15b3), Some(0x101b), Some(0x02_07_00)));
        assert_eq!(identity.driver.as_deref(), Some("mlx5_core"));
        assert_eq!(of_event("PCI_CLASS=20000\nPCI_ID=8086:29C0\n", "").unwrap().driver, None);
        for garbage in ["", "PCI_ID=15B3:101B", "PCI_CLASS=20000\nPCI_ID=15B3", "PCI_CLASS=x\nPCI_ID=15B3:101B"] {
            assert_eq!(of_event(garbage, ""), None, "{garbage}");
        }
    }

    #[test]
    fn the_last_address_of_a_path_is_the_function() {
        let found = |path: &str| function_in(Path::new(path)).map(|(_, address)| address);
        assert_eq!(found("/sys/devices/pci0000:00/0000:00:01.0/0000:03:00.1/infiniband/mlx5_1").unwrap(), "0000:03:00.1");
        assert_eq!(found("/sys/devices/LNXSYSTM:00/pci10e3f:00/10e3f:00:02.0").unwrap(), "10e3f:00:02.0");
        assert_eq!(found("/sys/devices/virtual/infiniband/rxe0"), None);
        for name in ["0000:03:00", "0000:03:00.10", "pci0000:00", "0000.03:00:1", "0000:g3:00.1", ""] {
            assert!(!is_address(name), "{name}");
        }
    }
}
