//! An end: a device by its name or by what it can do, its active port, and the address by which the other end finds it.

use std::net::IpAddr;

use super::{Arguments, Obstacle};
use crate::bench::{self, Choice};
use crate::devices::{Device, Port, Problem};
use crate::host::net::address::Address;

/// A device, one of its ports, and that port's addresses.
pub(super) struct End<'a> {
    pub(super) device: &'a Device,
    pub(super) port: &'a Port,
}

impl End<'_> {
    pub(super) fn is_ethernet(&self) -> bool {
        self.port.link_layer.as_deref().is_none_or(|layer| !layer.eq_ignore_ascii_case("infiniband"))
    }

    pub(super) fn is_iwarp(&self) -> bool {
        self.device.transport == "iWARP"
    }
}

/// What is known of the hosts of both ends.
pub struct Hosts<'a> {
    pub ours: &'a [Device],
    pub our_addresses: &'a [Address],
    /// Of another host's.
    pub theirs: Option<(&'a [Device], &'a [Address])>,
}

/// The other end: the device that was named, or on another host the first that this end reaches, or this end itself.
pub(super) fn other_end<'a>(arguments: &Arguments, hosts: &Hosts<'a>, here: &End<'a>) -> Result<End<'a>, Obstacle> {
    match (&arguments.to, hosts.theirs) {
        (to, Some((devices, _))) => {
            let reaches = |device: &&Device| {
                let there = end(devices, Some(&device.name)).ok();
                there.is_some_and(|there| {
                    bench::choose([here.port, there.port], [arguments.gid_index, None]).is_ok_and(|[ours, _]| !ours.needs_router)
                })
            };
            let first = devices.iter().find(reaches).map(|device| device.name.as_str());
            end(devices, to.as_deref().or(first)).map_err(|obstacle| match obstacle {
                Obstacle::Problem(problem) => {
                    Obstacle::Problem(Problem { summary: format!("the other side: {}", problem.summary), ..problem })
                }
                usage => usage,
            })
        }
        (Some(name), None) => end(hosts.ours, Some(name)),
        (None, None) => Ok(End { device: here.device, port: here.port }),
    }
}

/// A device by name, or the first that can be used, and its first active port.
pub(super) fn end<'a>(devices: &'a [Device], wanted: Option<&str>) -> Result<End<'a>, Obstacle> {
    let active = |device: &'a Device| device.ports.iter().find(|port| port.state.as_deref() == Some("active"));
    let known: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    let device = match wanted {
        Some(name) => devices.iter().find(|device| device.name == name).ok_or_else(|| crate::cli::unknown_device(name, &known))?,
        None => devices.iter().find(|device| device.problem.is_none() && active(device).is_some()).or_else(|| devices.first()).ok_or_else(
            || {
                Obstacle::Problem(Problem {
                    summary: "there is no RDMA device to measure with".to_owned(),
                    next_step: Some("`rdmadoctor devices` says why".to_owned()),
                })
            },
        )?,
    };
    if let Some(problem) = &device.problem {
        return Err(Obstacle::Problem(Problem {
            summary: format!("{}: {}", device.name, problem.summary),
            next_step: problem.next_step.clone(),
        }));
    }
    match active(device) {
        Some(port) => Ok(End { device, port }),
        None => {
            let states: Vec<String> = device
                .ports
                .iter()
                .map(|port| format!("port {} is {}", port.port, port.state.as_deref().unwrap_or("in an unknown state")))
                .collect();
            Err(Obstacle::Problem(Problem {
                summary: format!("{} has no active port: {}", device.name, states.join(", ")),
                next_step: Some("`rdmadoctor probe` says why a port is not active".to_owned()),
            }))
        }
    }
}

/// The address by which rdma_cm finds an end: that of its GID, or one of its interface.
pub(super) fn address(end: &End<'_>, gid: &Choice, known: &[Address]) -> Option<IpAddr> {
    let of_gid = end.port.gids.iter().find(|entry| entry.gid == gid.gid).and_then(|entry| entry.ipv4.as_ref()?.parse().ok());
    let own = |address: &&Address| address.netdev.as_ref().is_some_and(|netdev| end.device.netdevs.contains(netdev));
    let is_plain = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        // A link-local address needs an interface beside it, which rdma_cm is not given here.
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 != 0xfe80,
    };
    of_gid.or_else(|| known.iter().filter(own).map(|address| address.address).filter(is_plain).min_by_key(|address| address.is_ipv6()))
}
