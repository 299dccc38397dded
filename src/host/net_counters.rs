//! Counters of network interfaces: the kernel's, which are files, and the driver's own, for which this host's kernel is asked. Of a host
//! that is mounted elsewhere, captured or modelled only the files are known.

use std::path::Path;

use nix::errno::Errno;

use super::rdma_counters::Counter;
use super::reader::Reader;
use super::{ReadError, ReadFailure, Root, ethtool};

const CLASS: &str = "/sys/class/net";

/// The names of all interfaces.
#[must_use]
pub fn netdevs(root: &Root) -> Vec<String> {
    // `bonding_masters` is a file beside the interfaces.
    Reader::new(root).names(CLASS).into_iter().filter(|name| name != "bonding_masters").collect()
}

/// What carries an interface's packets: itself, and what lies below it, such as the members of a bond and the carrier of a VLAN.
#[must_use]
pub fn with_lower(root: &Root, netdev: &str) -> Vec<String> {
    let mut reader = Reader::new(root);
    let mut all = vec![netdev.to_owned()];
    let mut at = 0;
    while let Some(name) = all.get(at).cloned() {
        at += 1;
        for entry in reader.names(Path::new(CLASS).join(&name)) {
            if let Some(lower) = entry.strip_prefix("lower_").filter(|lower| !all.iter().any(|known| known == lower)) {
                all.push(lower.to_owned());
            }
        }
    }
    all
}

/// Whether packets of an interface may take one of several ways: it is a bond, or a member of one.
#[must_use]
pub fn is_bonded(root: &Root, netdev: &str) -> bool {
    let dir = Path::new(CLASS).join(netdev);
    root.exists(dir.join("bonding")) || root.exists(dir.join("bonding_slave"))
}

/// The PCI function that an interface is on.
#[must_use]
pub fn pci_address(root: &Root, netdev: &str) -> Option<String> {
    let real = Reader::new(root).canonical(format!("{CLASS}/{netdev}/device"))?;
    super::pci::function_in(&real).map(|(_, address)| address)
}

/// The kernel's counters of an interface, for every one alike: the files in `statistics`
/// (Documentation/ABI/testing/sysfs-class-net-statistics).
#[must_use]
pub fn statistics(root: &Root, netdev: &str, is_wanted: &dyn Fn(&str) -> bool) -> Vec<Counter> {
    let mut reader = Reader::new(root);
    let dir = Path::new(CLASS).join(netdev).join("statistics");
    let names = reader.names(&dir).into_iter().filter(|name| is_wanted(name));
    names
        .filter_map(|name| {
            let value = reader.attribute(dir.join(&name))?.parse().ok()?;
            Some(Counter { name, value })
        })
        .collect()
}

/// The driver's counters of an interface of this host, by names of its own: what `ethtool -S` shows. A driver without any is no error.
///
/// # Errors
/// They are not known: the host is not this one, or its kernel does not tell.
pub fn of_driver(root: &Root, netdev: &str, is_wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Counter>, ReadError> {
    let place = Path::new(CLASS).join(netdev);
    let not_read = |why: String| ReadError::new(&place, ReadFailure::NotRead { why });
    if !root.is_host() {
        return Err(not_read("the counters of its driver are in no file, and only this host's kernel is asked".to_owned()));
    }
    let index = root.text(place.join("ifindex"))?.and_then(|index| index.parse().ok()).unwrap_or(0);
    match ethtool::counters(netdev, index, is_wanted) {
        Ok(counters) => Ok(counters),
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(not_read(format!("ethtool's ioctl: {errno:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Node;

    #[test]
    fn a_model_tells_files_and_never_asks_this_kernel() {
        let nodes = [
            ("lo/statistics/rx_dropped", "7\n"),
            ("lo/statistics/rx_bytes", "9\n"),
            ("lo/ifindex", "1\n"),
            ("bond0/lower_eth0/ifindex", "3\n"),
            ("bond0/bonding/mode", "802.3ad 4\n"),
            ("bond0.7/lower_bond0/ifindex", "4\n"),
        ];
        let root = Root::tree(nodes.into_iter().map(|(path, text)| (format!("{CLASS}/{path}").into(), Node::text(text))).collect());
        let counters = statistics(&root, "lo", &|name| name == "rx_dropped");
        assert_eq!(counters, [Counter { name: "rx_dropped".to_owned(), value: 7 }]);
        assert!(of_driver(&root, "lo", &|_| true).unwrap_err().to_string().contains("only this host's kernel"));
        assert_eq!(with_lower(&root, "bond0.7"), ["bond0.7", "bond0", "eth0"]);
        assert!(is_bonded(&root, "bond0") && !is_bonded(&root, "lo"));
        assert_eq!(netdevs(&root), ["bond0", "bond0.7", "lo"]);
    }

    #[test]
    fn this_host_answers() {
        let root = Root::default();
        assert!(of_driver(&root, "lo", &|_| true).is_ok_and(|counters| counters.is_empty()));
        assert!(!statistics(&root, "lo", &|_| true).is_empty());
    }
}
