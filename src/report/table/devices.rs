//! `devices` for people.

use std::fmt::Write as _;

use rdmadoctor_types::Word;

use super::{Style, Table};
use crate::devices::{Device, Devices, Port, Problem};
use crate::units::gigabits;

impl Table for Devices {
    fn shown_figures(&self) -> &'static [&'static str] {
        &["identity.firmware", "port."]
    }

    fn table(&self, style: &Style) -> String {
        let mut out = String::new();
        for device in &self.devices {
            out += &draw_device(device, *style);
        }
        out + &problems(&self.problems, *style)
    }
}

/// Problems with their next steps.
pub(super) fn problems(problems: &[Problem], style: Style) -> String {
    problems.iter().map(|problem| draw_problem(problem, style)).collect()
}

fn draw_problem(problem: &Problem, style: Style) -> String {
    let mut out = style.entry("problem", &problem.summary);
    if let Some(next) = &problem.next_step {
        out += &style.entry("next", next);
    }
    out
}

fn draw_device(device: &Device, style: Style) -> String {
    let mut out = String::new();
    let mut words: Vec<String> = Vec::new();
    words.push(device.transport.to_string());
    if let Some(family) = &device.family {
        let doubt = if device.family_is_guess { " (by its name only)" } else { "" };
        words.push(format!("family {family}{doubt}"));
    }
    words.extend(device.driver.as_ref().map(|driver| format!("driver {driver}")));
    words.extend(device.node_type.as_ref().map(|node| format!("node type {node}")));
    words.push(device.firmware.as_ref().map_or("no firmware version".to_owned(), |firmware| format!("firmware {firmware}")));
    words.push(device.pci.as_ref().map_or("no PCI function".to_owned(), |pci| format!("PCI {pci}")));
    words.push(device.numa_node.map_or("NUMA node not given".to_owned(), |node| format!("NUMA node {node}")));
    if !device.netdevs.is_empty() {
        words.push(format!("netdev {}", device.netdevs.join(" ")));
    }
    let _ = writeln!(out, "{}", style.bold(&device.name));
    out += &style.entry("device", &words.join(", "));
    for port in &device.ports {
        out += &draw_port(port, style);
    }
    if let Some(problem) = &device.problem {
        out += &draw_problem(problem, style);
    }
    out
}

fn draw_port(port: &Port, style: Style) -> String {
    let state = port.state.as_ref().map_or("state unknown", Word::as_str);
    let state = if port.is_active() { style.good(state) } else { style.bad(state) };
    let mut words = vec![state];
    words.extend(port.physical_state.clone());
    words.extend(port.link_layer.as_ref().map(ToString::to_string));
    words.extend(port.rate_bits_per_second.map(gigabits));
    words.extend(port.active_mtu_bytes.map(|mtu| format!("path MTU {mtu} B")));
    words.extend(port.lid.map(|lid| format!("LID {lid}")));
    let mut out = format!("  {}     {}\n", style.dim(format!("port {}", port.port)), words.join(", "));
    if port.gids.is_empty() {
        out += &style.entry("", "no GID: the interface has no address, or is not in this network namespace");
        return out;
    }
    let rows: Vec<Vec<String>> = port
        .gids
        .iter()
        .map(|gid| {
            let scope = match gid.scope.as_str() {
                "ipv4" => format!("IPv4 {}", gid.ipv4.as_deref().unwrap_or_default()),
                "link_local" => "link-local".to_owned(),
                other => other.to_owned(),
            };
            // As ibv_devinfo writes it (rdma-core, libibverbs/examples/devinfo.c, print_formated_gid), and as the kernel does.
            let short = gid.gid.parse::<std::net::Ipv6Addr>().ok().filter(|_| !style.verbose);
            let text = short.map_or_else(|| gid.gid.clone(), |short| short.to_string());
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            vec![format!("GID {}", gid.index), text, or_dash(&gid.kind), or_dash(&gid.netdev), scope]
        })
        .collect();
    out + &style.columns_plain(&rows, 13)
}
