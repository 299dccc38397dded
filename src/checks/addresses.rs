//! 04: addresses, partitions and MTU.

use std::net::IpAddr;

use rdmadoctor_types::PortState;

use super::Source::{Net, Rdma, Verbs};
use super::devices::port_name;
use super::{Action, Check, Facts, Finding, page};
use crate::facts::{is_active, is_infiniband, is_roce};
use crate::host::net::configured::ConfiguredAddress;
use crate::host::rdma::{SysfsDevice, SysfsGid, SysfsPort};
use crate::verbs::{Gid, GidPreference};

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-0401"), needs: &[Rdma, Net], depends_on: &["RD-0307", "RD-0308", "RD-0905"], run: gids_are_there },
    Check { page: page("RD-0402"), needs: &[Rdma], depends_on: &["RD-0401"], run: version_two },
    Check { page: page("RD-0403"), needs: &[Rdma, Net], depends_on: &["RD-0401", "RD-0402", "RD-0307"], run: routable },
    Check { page: page("RD-0404"), needs: &[Rdma, Net], depends_on: &["RD-0403", "RD-0402", "RD-0401"], run: ipv4 },
    Check { page: page("RD-0405"), needs: &[Rdma], depends_on: &["RD-0403"], run: one_index },
    Check { page: page("RD-0406"), needs: &[Rdma, Net], depends_on: &[], run: no_duplicates },
    Check { page: page("RD-0407"), needs: &[Rdma, Net, Verbs], depends_on: &["RD-0307"], run: path_mtu },
    Check { page: page("RD-0408"), needs: &[Rdma, Net], depends_on: &[], run: one_mtu },
    Check { page: page("RD-0409"), needs: &[Rdma], depends_on: &["RD-0307"], run: partitions },
    Check { page: page("RD-0410"), needs: &[Rdma], depends_on: &[], run: subnet_manager },
    Check { page: page("RD-0411"), needs: &[Rdma, Net], depends_on: &["RD-0308", "RD-0403"], run: routes },
    Check { page: page("RD-0412"), needs: &[Rdma, Net], depends_on: &["RD-0905"], run: gids_are_own },
];

/// A GID of the table.
fn parsed(gid: &SysfsGid) -> Option<Gid> {
    gid.gid.parse().ok()
}

fn is_version_two(gid: &SysfsGid) -> bool {
    gid.gid_type.as_deref() == Some("RoCE v2")
}

fn preference(gid: &SysfsGid) -> GidPreference {
    GidPreference::of(gid.gid_type.as_deref(), parsed(gid).map_or("", Gid::scope), gid.netdev.as_deref(), gid.index)
}

/// The GID to use, if it is routable.
fn best(port: &SysfsPort) -> Option<&SysfsGid> {
    port.gids.iter().min_by_key(|gid| preference(gid)).filter(|gid| preference(gid).is_routable())
}

/// Active RoCE ports whose driver keeps types of GIDs.
fn roce_ports(facts: &Facts) -> impl Iterator<Item = (&SysfsDevice, &SysfsPort)> {
    facts.ports().filter(|(device, port)| is_roce(device, port) && is_active(port) && port.gids.iter().any(|gid| gid.gid_type.is_some()))
}

fn table(device: &SysfsDevice, port: &SysfsPort) -> String {
    format!("/sys/class/infiniband/{}/ports/{}/gids", device.name, port.port)
}

fn shown(port: &SysfsPort) -> String {
    let gids =
        port.gids.iter().map(|gid| format!("{}: {} {}", gid.index, gid.gid, gid.gid_type.as_deref().unwrap_or("")).trim().to_owned());
    gids.collect::<Vec<_>>().join("; ")
}

fn interface_of(device: &SysfsDevice, port: &SysfsPort) -> String {
    port.gids.iter().find_map(|gid| gid.netdev.clone()).or_else(|| device.netdevs.first().cloned()).unwrap_or_else(|| "DEV".to_owned())
}

fn gids_are_there(facts: &Facts) -> Vec<Finding> {
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        if !port.gids.is_empty() {
            let rest = port.gids_unread_from.map(|index| format!("; from entry {index} on the table was not read at this level"));
            return Finding::pass(name, format!("{} GIDs{}", port.gids.len(), rest.unwrap_or_default()));
        }
        if !is_active(port) {
            return Finding::skip(name, "it is not active, so its GID table says nothing");
        }
        give_address(facts, device, port, Finding::fail(name, "its GID table is empty").saw_not(table(device, port), "empty", "a GID"))
    };
    facts.ports().map(judge).collect()
}

/// Whether some RoCE port is as wanted, so that one that is not is no total loss.
fn some(facts: &Facts, is_well: impl Fn(&SysfsPort) -> bool) -> bool {
    roce_ports(facts).any(|(_, port)| is_well(port))
}

fn version_two(facts: &Facts) -> Vec<Finding> {
    let has = |port: &SysfsPort| port.gids.iter().any(is_version_two);
    let some_work = some(facts, has);
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        if has(port) {
            return Finding::pass(name, "it has RoCE v2 GIDs");
        }
        Finding::graded(!some_work, name, "none of its GIDs is of RoCE v2")
            .saw_not(table(device, port), shown(port), "a GID of type RoCE v2")
            .remedy(Action::Replace, "use a device, driver and mode of it that offer RoCE v2", &[])
    };
    roce_ports(facts).map(judge).collect()
}

fn routable(facts: &Facts) -> Vec<Finding> {
    let has = |port: &SysfsPort| best(port).is_some();
    let some_work = some(facts, has);
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        match best(port) {
            Some(gid) => Finding::pass(name, format!("GID {} is routable", gid.index)).saw(table(device, port), &gid.gid),
            None => {
                let finding = Finding::graded(!some_work, name, "none of its RoCE v2 GIDs is routable").saw_not(
                    table(device, port),
                    shown(port),
                    "an IPv4 or global IPv6 address of type RoCE v2",
                );
                give_address(facts, device, port, finding)
            }
        }
    };
    roce_ports(facts).map(judge).collect()
}

/// Which address the interface of a port should have is the network's plan; where a file of this host says it, that one.
fn give_address(facts: &Facts, device: &SysfsDevice, port: &SysfsPort, mut finding: Finding) -> Finding {
    let net = &facts.host.net;
    let netdev = interface_of(device, port);
    let is_missing = |own: &&ConfiguredAddress| own.netdev == netdev && net.addresses.iter().all(|address| address.address != own.address);
    let mut commands = Vec::new();
    for own in net.configured_addresses.iter().filter(is_missing) {
        let address = format!("{}/{}", own.address, own.prefix_length);
        commands.push(command!("ip address add {} dev {}", address, netdev));
        finding = finding.saw_not(format!("{}:{}", own.file, own.line), format!("{address}, which {netdev} lacks"), "in force");
    }
    if commands.is_empty() {
        let advice = format!("give its interface an address of its peers' network: ip address add ADDRESS/PREFIX dev {netdev}");
        return finding.remedy(Action::Tune, advice, &[]);
    }
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    finding.remedy(Action::Tune, "give its interface the address that is configured for it", &commands)
}

fn ipv4(facts: &Facts) -> Vec<Finding> {
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        match best(port).and_then(|gid| Some((gid, parsed(gid)?))) {
            None => Finding::skip(name, "it has no routable RoCE v2 GID at all"),
            Some((gid, parsed)) if parsed.ipv4().is_some() => Finding::pass(name, format!("GID {} is an IPv4 address", gid.index)),
            Some((gid, _)) => {
                let finding = Finding::warn(name, "its routable GIDs are IPv6 only, which several engines do not look for").saw_not(
                    table(device, port),
                    format!("{}: {}", gid.index, gid.gid),
                    "an IPv4 address",
                );
                give_address(facts, device, port, finding)
            }
        }
    };
    roce_ports(facts).map(judge).collect()
}

fn one_index(facts: &Facts) -> Vec<Finding> {
    let indices: Vec<(String, u32)> =
        roce_ports(facts).filter_map(|(device, port)| Some((port_name(device, port), best(port)?.index))).collect();
    let Some((_, first)) = indices.first() else { return Vec::new() };
    let all = indices.iter().map(|(name, index)| format!("{name}: {index}")).collect::<Vec<_>>().join(", ");
    if indices.iter().all(|(_, index)| index == first) {
        return vec![Finding::pass("host", format!("the GID to use has index {first} on all RoCE ports")).saw("GID tables", all)];
    }
    vec![
        Finding::warn("host", "the GID to use has different indices on the RoCE ports, so one setting for all is wrong")
            .saw_not("GID tables", all, "one index")
            .remedy(Action::Tune, "leave the index to the engine, or set it for each device", &[]),
    ]
}

fn no_duplicates(facts: &Facts) -> Vec<Finding> {
    let net = &facts.host.net;
    let mut findings = Vec::new();
    let is_rdma = |netdev: &str| facts.rdma_devices().iter().any(|device| device.netdevs.iter().any(|own| own == netdev));
    for address in net.addresses.iter().filter(|address| address.is_duplicate) {
        let netdev = address.netdev.clone().unwrap_or_default();
        if is_rdma(&netdev) {
            findings.push(
                Finding::fail(&netdev, format!("another host has the address {} too, so it is not used", address.address))
                    .saw_not(&address.source, "duplicate", "unique")
                    .remedy(Action::Tune, "give one of the two another address", &[]),
            );
        }
    }
    let ports: Vec<(&SysfsDevice, &SysfsPort)> = roce_ports(facts).collect();
    for (index, (device, port)) in ports.iter().enumerate() {
        for gid in port.gids.iter().filter(|gid| is_version_two(gid)) {
            let same = |other: &&(&SysfsDevice, &SysfsPort)| {
                // Two devices on one interface share its addresses as they should.
                other.1.gids.iter().any(|theirs| theirs.gid == gid.gid && is_version_two(theirs) && theirs.netdev != gid.netdev)
            };
            if let Some((other, their_port)) = ports[..index].iter().find(same) {
                findings.push(
                    Finding::fail(port_name(device, port), format!("it has the same GID as {}", port_name(other, their_port)))
                        .about(port_name(other, their_port))
                        .saw_not(table(device, port), &gid.gid, "an address of its own")
                        .remedy(Action::Tune, "give each interface an address of its own", &[]),
                );
            }
        }
    }
    if findings.is_empty() && !ports.is_empty() {
        findings.push(Finding::pass("host", "no address of an RDMA interface is there twice"));
    }
    findings
}

/// The path MTU that fits into an interface's MTU.
fn fitting_mtu(mtu: u32) -> u32 {
    // Headers of GRH, UDP, BTH, the longest extensions and the checksum: 40 + 8 + 12 + 4 + 28 + 4.
    let room = mtu.saturating_sub(96);
    [4096, 2048, 1024, 512, 256].into_iter().find(|size| *size <= room).unwrap_or(0)
}

fn path_mtu(facts: &Facts) -> Vec<Finding> {
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        let seen = facts.verbs_device(&device.name).and_then(|seen| seen.ports.iter().find(|seen| u32::from(seen.port) == port.port));
        let interface = facts.interfaces(device, port).into_iter().next();
        let Some((seen, interface, mtu)) = seen.and_then(|seen| Some((seen, interface?, interface?.mtu_bytes?))) else {
            return Finding::skip(name, "its path MTU, or its interface's MTU, is not known");
        };
        let fitting = fitting_mtu(mtu).min(seen.max_mtu_bytes);
        if seen.active_mtu_bytes >= fitting {
            return Finding::pass(name, format!("path MTU {}, interface's MTU {mtu}", seen.active_mtu_bytes));
        }
        Finding::warn(name, format!("the path MTU is {}, and {fitting} would fit", seen.active_mtu_bytes))
            .saw_not("ibv_query_port, active_mtu", seen.active_mtu_bytes.to_string(), fitting.to_string())
            .saw(format!("/sys/class/net/{}/mtu", interface.name), mtu.to_string())
            .remedy(
                Action::Tune,
                "set the interface down and up again",
                &[&command!("ip link set {0} down; ip link set {0} up", interface.name)],
            )
    };
    roce_ports(facts).map(judge).collect()
}

fn one_mtu(facts: &Facts) -> Vec<Finding> {
    let mut mtus: Vec<(String, u32)> = Vec::new();
    for (device, port) in facts.ports().filter(|(device, port)| is_roce(device, port) && is_active(port)) {
        for interface in facts.interfaces(device, port).into_iter().filter(|interface| !interface.is_virtual) {
            mtus.extend(interface.mtu_bytes.map(|mtu| (interface.name.clone(), mtu)));
        }
    }
    let Some((_, first)) = mtus.first() else { return Vec::new() };
    let all = mtus.iter().map(|(name, mtu)| format!("{name}: {mtu}")).collect::<Vec<_>>().join(", ");
    if mtus.iter().all(|(_, mtu)| mtu == first) {
        return vec![Finding::pass("host", format!("all RDMA interfaces have MTU {first}"))];
    }
    let largest = mtus.iter().map(|(_, mtu)| *mtu).max().unwrap_or(*first);
    let lesser = mtus.iter().filter(|(_, mtu)| *mtu < largest);
    let commands: Vec<String> = lesser.map(|(name, _)| command!("ip link set {} mtu {}", name, largest)).collect();
    vec![Finding::warn("host", "RDMA interfaces have different MTUs").saw_not("/sys/class/net/*/mtu", all, "one MTU").remedy(
        Action::Tune,
        "set one MTU on all of them; their switch ports must carry it",
        &commands.iter().map(String::as_str).collect::<Vec<_>>(),
    )]
}

fn partitions(facts: &Facts) -> Vec<Finding> {
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        let path = format!("/sys/class/infiniband/{}/ports/{}/pkeys", device.name, port.port);
        let keys = port.pkeys.iter().map(|key| format!("{:#06x}", key.pkey)).collect::<Vec<_>>().join(", ");
        let is_full = |pkey: u16| pkey & 0x8000 != 0;
        if port.pkeys.is_empty() {
            return Finding::graded(is_active(port), name, "it is in no partition").saw_not(path, "empty", "a P_Key").remedy(
                Action::AskFabric,
                "ask the subnet manager's administrator for membership",
                &[],
            );
        }
        if port.pkeys.iter().any(|key| is_full(key.pkey)) {
            return Finding::pass(name, "it is a full member of a partition").saw(path, keys);
        }
        Finding::warn(name, "it is a limited member only: it cannot talk to other limited members")
            .saw_not(path, keys, "a P_Key with its highest bit set, such as 0xffff")
            .remedy(Action::AskFabric, "ask the subnet manager's administrator for full membership", &[])
    };
    facts.ports().filter(|(_, port)| is_infiniband(port)).map(judge).collect()
}

fn subnet_manager(facts: &Facts) -> Vec<Finding> {
    let some_work = super::devices::some_port_is_active(facts);
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let name = port_name(device, port);
        // Physical state 5 is LinkUp.
        let has_signal = port.phys_state.as_ref().is_some_and(|state| state.code == 5);
        let waits = port.state.as_ref().is_some_and(|state| state.code == PortState::Init.code());
        if has_signal && waits {
            return Finding::graded(!some_work, name, "it has a signal, and no subnet manager has brought it up")
                .saw_not(format!("/sys/class/infiniband/{}/ports/{}/state", device.name, port.port), "INIT", "ACTIVE")
                .remedy(Action::AskFabric, "start a subnet manager, or ask who runs the fabric", &["systemctl start opensm"]);
        }
        match port.sm_lid {
            Some(lid) if lid != 0 => Finding::pass(name, format!("its subnet manager is at {lid}")),
            _ if is_active(port) => Finding::pass(name, "it is active, so a subnet manager has brought it up"),
            _ => Finding::skip(name, "it has no signal, so nothing can be said of a subnet manager"),
        }
    };
    facts.ports().filter(|(_, port)| is_infiniband(port)).map(judge).collect()
}

fn routes(facts: &Facts) -> Vec<Finding> {
    let net = &facts.host.net;
    if net.routes.is_empty() {
        return vec![Finding::skip("host", "no routes can be read here")];
    }
    let judge = |(device, port): (&SysfsDevice, &SysfsPort)| {
        let gid = best(port)?;
        let address: IpAddr = parsed(gid)?.ipv4()?.into();
        let netdev = gid.netdev.as_deref()?;
        let name = port_name(device, port);
        Some(if net.routes.iter().any(|route| route.netdev == netdev && !route.is_reject) {
            Finding::pass(name, format!("there is a route by {netdev}"))
        } else {
            Finding::warn(name, format!("no route leads out of {netdev}"))
                .saw_not("ip route show table all", format!("none by {netdev}, which has {address}"), format!("a route by {netdev}"))
                .remedy(Action::Tune, format!("add one to the peers' network: ip route add NETWORK dev {netdev}"), &[])
        })
    };
    roce_ports(facts).filter_map(judge).collect()
}

fn gids_are_own(facts: &Facts) -> Vec<Finding> {
    let net = &facts.host.net;
    if !net.addresses.iter().any(|address| address.address.is_ipv4()) {
        return vec![Finding::skip("host", "no IPv4 addresses can be read here")];
    }
    let mut findings = Vec::new();
    for (device, port) in roce_ports(facts) {
        let name = port_name(device, port);
        let addresses = port.gids.iter().filter(|gid| is_version_two(gid)).filter_map(|gid| Some((gid, parsed(gid)?.ipv4()?)));
        for (gid, address) in addresses {
            let netdev = gid.netdev.as_deref().unwrap_or_default();
            findings.push(if net.addresses.iter().any(|own| own.address == IpAddr::from(address)) {
                Finding::pass(&name, format!("GID {} is an address of this host", gid.index))
            } else if net.interface(netdev).is_none() {
                Finding::skip(&name, format!("GID {} is of {netdev}, which is not in this network namespace", gid.index))
            } else {
                Finding::warn(&name, format!("GID {} is {address}, which no interface here has", gid.index))
                    .saw_not(table(device, port), address.to_string(), format!("an address of {netdev}"))
                    .remedy(Action::Tune, "set the address again, or the interface down and up", &[&command!("ip address show {}", netdev)])
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::fitting_mtu;

    #[test]
    fn path_mtus_are_those_of_the_kernel() {
        assert_eq!([1500, 2200, 4200, 4191, 9000, 100].map(fitting_mtu), [1024, 2048, 4096, 2048, 4096, 0]);
    }
}
