//! Addresses that files of configuration give to interfaces, whether they are in force or not: those of ifupdown, systemd-networkd (which
//! netplan writes too) and NetworkManager.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::reader::Reader;

/// An address that a file gives to an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfiguredAddress {
    /// The interface.
    pub netdev: String,
    pub address: IpAddr,
    /// How many of its bits are the network's.
    pub prefix_length: u8,
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// Directories of `.network` files, systemd.network(5).
const NETWORKD: [&str; 2] = ["/etc/systemd/network", "/run/systemd/network"];

/// Directories of connections, nm-settings-keyfile(5).
const NETWORK_MANAGER: [&str; 2] = ["/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections"];

pub(super) fn read(reader: &mut Reader<'_>) -> Vec<ConfiguredAddress> {
    let mut found = Vec::new();
    let mut files = vec!["/etc/network/interfaces".to_owned()];
    files.extend(below(reader, "/etc/network/interfaces.d", ""));
    for file in files {
        found.extend(ifupdown(&quiet(reader, &file), &file));
    }
    for file in NETWORKD.into_iter().flat_map(|dir| below(reader, dir, ".network")).collect::<Vec<_>>() {
        found.extend(sections(&quiet(reader, &file), &file, &NETWORKD_KEYS));
    }
    for file in NETWORK_MANAGER.into_iter().flat_map(|dir| below(reader, dir, ".nmconnection")).collect::<Vec<_>>() {
        found.extend(sections(&quiet(reader, &file), &file, &NETWORK_MANAGER_KEYS));
    }
    found
}

/// These files may be root's alone; what a user may not read is no fault of the host.
fn quiet(reader: &Reader<'_>, file: &str) -> String {
    reader.root.text(file).ok().flatten().unwrap_or_default()
}

fn below(reader: &Reader<'_>, dir: &str, end: &str) -> Vec<String> {
    let names = reader.root.names(dir).ok().flatten().unwrap_or_default();
    names.into_iter().filter(|name| name.ends_with(end)).map(|name| format!("{dir}/{name}")).collect()
}

/// Stanzas `iface NAME inet static` with `address` and `netmask`, interfaces(5).
fn ifupdown(text: &str, file: &str) -> Vec<ConfiguredAddress> {
    let mut found: Vec<ConfiguredAddress> = Vec::new();
    let mut netdev = None;
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["iface", name, ..] => netdev = Some(name),
            ["auto" | "mapping" | "source" | "source-directory", ..] => netdev = None,
            ["address", value] => {
                let Some(netdev) = netdev else { continue };
                // Until a mask follows, the address stands alone.
                if let Some((address, prefix_length)) = with_prefix(value).or_else(|| alone(value)) {
                    found.push(ConfiguredAddress {
                        netdev: netdev.to_owned(),
                        address,
                        prefix_length,
                        file: file.to_owned(),
                        line: number + 1,
                    });
                }
            }
            ["netmask", value] => {
                let mask = value.parse::<Ipv4Addr>().ok().and_then(|mask| u8::try_from(mask.to_bits().count_ones()).ok());
                if let (Some(last), Some(length)) =
                    (found.last_mut().filter(|last| Some(last.netdev.as_str()) == netdev), mask.or_else(|| value.parse().ok()))
                {
                    last.prefix_length = length;
                }
            }
            _ => {}
        }
    }
    found
}

/// Where files of sections name the interface and its addresses.
struct Keys {
    netdev: (&'static str, &'static str),
    address: fn(section: &str, key: &str) -> bool,
}

const NETWORKD_KEYS: Keys =
    Keys { netdev: ("Match", "Name"), address: |section, key| matches!(section, "Network" | "Address") && key == "Address" };

const NETWORK_MANAGER_KEYS: Keys = Keys {
    netdev: ("connection", "interface-name"),
    address: |section, key| {
        let number = key.strip_prefix("address").unwrap_or("none");
        matches!(section, "ipv4" | "ipv6") && number.bytes().all(|byte| byte.is_ascii_digit())
    },
};

fn sections(text: &str, file: &str, keys: &Keys) -> Vec<ConfiguredAddress> {
    let (mut section, mut netdev, mut found) = ("", None, Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        if (section, key) == keys.netdev {
            netdev = Some(value.to_owned());
        } else if (keys.address)(section, key)
            // NetworkManager lets a gateway follow.
            && let Some((address, prefix_length)) = value.split(',').next().and_then(with_prefix)
        {
            found.push((address, prefix_length, number + 1));
        }
    }
    let Some(netdev) = netdev else { return Vec::new() };
    found
        .into_iter()
        .map(|(address, prefix_length, line)| ConfiguredAddress {
            netdev: netdev.clone(),
            address,
            prefix_length,
            file: file.to_owned(),
            line,
        })
        .collect()
}

fn with_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

fn alone(text: &str) -> Option<(IpAddr, u8)> {
    let address: IpAddr = text.parse().ok()?;
    Some((address, if address.is_ipv4() { 32 } else { 128 }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::{Node, Root};

    #[test]
    fn addresses_are_found_where_they_are_configured() {
        let files = [
            (
                "/etc/network/interfaces",
                "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n  address 10.0.0.7\n  netmask 255.255.255.0\n",
            ),
            ("/etc/network/interfaces.d/eth1", "iface eth1 inet static\n  address 10.0.1.7/16\niface eth1 inet6 auto\n"),
            (
                "/run/systemd/network/10-netplan-eth2.network",
                "[Match]\nName=eth2\n\n[Network]\nDHCP=no\nAddress=10.0.2.7/24\nAddress=fd00::7/64\n",
            ),
            (
                "/etc/NetworkManager/system-connections/x.nmconnection",
                "[connection]\nid=x\ninterface-name=eth3\n[ipv4]\naddress1=10.0.3.7/24,10.0.3.1\nmethod=manual\n",
            ),
            ("/etc/systemd/network/odd.network", "[Match]\nName=eth4\n[Network]\nAddress=nonsense\nAddress=10.0.0.1/99\n=\n[\n"),
        ];
        let nodes: BTreeMap<_, _> = files.into_iter().map(|(path, text)| (path.into(), Node::text(text))).collect();
        let root = Root::tree(nodes);
        let found = read(&mut Reader::new(&root));
        let shown: Vec<String> =
            found.iter().map(|entry| format!("{} {}/{} {}", entry.netdev, entry.address, entry.prefix_length, entry.line)).collect();
        assert_eq!(shown, ["eth0 10.0.0.7/24 5", "eth1 10.0.1.7/16 2", "eth2 10.0.2.7/24 6", "eth2 fd00::7/64 7", "eth3 10.0.3.7/24 5"]);
    }
}
