//! Devices with their ports and addresses.

use maud::{Markup, html};
use rdmadoctor_types::Word;

use crate::devices::{Device, Devices, Port, Problem};
use crate::units::gigabits;

pub(super) fn devices(devices: &Devices) -> Markup {
    html! {
        h3 { "RDMA devices" }
        @if !devices.devices.is_empty() {
            div.scroll tabindex="0" { table {
                thead { tr {
                    th { "device" } th { "family" } th { "transport" } th { "driver" } th { "firmware" } th { "PCI" } th { "NUMA" } th { "netdev" }
                    th { "port" } th { "state" } th { "rate" } th { "path MTU" }
                } }
                tbody { @for device in &devices.devices { (rows(device)) } }
            } }
            @for device in &devices.devices {
                @if let Some(problem) = &device.problem { (self::problem(problem)) }
            }
            (addresses(&devices.devices))
        }
        (problems(&devices.problems))
    }
}

pub(super) fn problems(problems: &[Problem]) -> Markup {
    html! { @for problem in problems { (self::problem(problem)) } }
}

fn problem(problem: &Problem) -> Markup {
    html! {
        div.note {
            p { (problem.summary) }
            @if let Some(next) = &problem.next_step { p { strong { "Next: " } (next) } }
        }
    }
}

fn rows(device: &Device) -> Markup {
    let span = device.ports.len().max(1);
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    html! {
        tr {
            th scope="row" rowspan=(span) { (device.name) }
            td rowspan=(span) { (or_dash(device.family.as_deref())) @if device.family_is_guess { " (by its name only)" } }
            td rowspan=(span) { (device.transport) }
            td rowspan=(span) { (or_dash(device.driver.as_deref())) }
            td rowspan=(span) { (or_dash(device.firmware.as_deref())) }
            td.mono rowspan=(span) { (or_dash(device.pci.as_deref())) }
            td.number rowspan=(span) { (device.numa_node.map_or("-".to_owned(), |node| node.to_string())) }
            td rowspan=(span) { (device.netdevs.join(" ")) }
            @if let Some(first) = device.ports.first() { (port(first)) } @else { td colspan="4" { "no port" } }
        }
        @for later in device.ports.iter().skip(1) { tr { (port(later)) } }
    }
}

fn port(port: &Port) -> Markup {
    let state = port.state.as_ref().map_or("unknown", Word::as_str);
    html! {
        td.number { (port.port) }
        td class=(if port.is_active() { "pass" } else { "fail" }) { (state) }
        td.number { (port.rate_bits_per_second.map_or("-".to_owned(), gigabits)) }
        td.number { (port.active_mtu_bytes.map_or("-".to_owned(), |mtu| format!("{mtu} B"))) }
    }
}

fn addresses(devices: &[Device]) -> Markup {
    let gids =
        || devices.iter().flat_map(|device| device.ports.iter().flat_map(move |port| port.gids.iter().map(move |gid| (device, port, gid))));
    html! {
        @if gids().next().is_some() {
            details {
                summary { "Addresses (GIDs)" }
                div.scroll tabindex="0" { table {
                    thead { tr { th { "device" } th { "port" } th { "index" } th { "GID" } th { "type" } th { "netdev" } th { "scope" } th { "IPv4" } } }
                    tbody { @for (device, port, gid) in gids() {
                        tr {
                            th scope="row" { (device.name) } td.number { (port.port) } td.number { (gid.index) } td.mono { (gid.gid) }
                            td { (gid.kind.as_deref().unwrap_or("-")) } td { (gid.netdev.as_deref().unwrap_or("-")) }
                            td { (gid.scope.replace('_', "-")) } td.mono { (gid.ipv4.as_deref().unwrap_or("-")) }
                        }
                    } }
                } }
            }
        }
    }
}
