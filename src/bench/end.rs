//! An end: a device by its name or by what it can do, its active port, and the address by which the other end finds it.

use std::net::IpAddr;
use std::time::Duration;

use rdmadoctor_types::{LinkLayer, Transport, Word};

use super::address::{Choice, choose};
use super::plan::Obstacle;
use super::request::Request;
use crate::devices::{Device, Port, Problem};
use crate::host::net::address::Address;

/// What is known of the hosts of both ends.
pub struct Hosts<'a> {
    /// Devices of this host.
    pub ours: &'a [Device],
    pub our_addresses: &'a [Address],
    /// Of another host's.
    pub theirs: Option<(&'a [Device], &'a [Address])>,
    /// Longest wait for one answer.
    pub answer_within: Duration,
}

/// A device and one of its ports.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) device: &'a Device,
    pub(super) port: &'a Port,
}

impl<'a> End<'a> {
    /// A device by name, or the first that can be used, and its port of that number, or its first active one.
    pub(super) fn find(devices: &'a [Device], wanted: Option<&str>, port: Option<u32>) -> Result<Self, Obstacle> {
        let active = |device: &'a Device| device.ports.iter().find(|known| known.is_active() && port.is_none_or(|port| port == known.port));
        let device = match wanted {
            Some(name) => devices.iter().find(|device| device.name == name).ok_or_else(|| Obstacle::unknown(name, devices))?,
            None => devices
                .iter()
                .find(|device| device.problem.is_none() && active(device).is_some())
                .or_else(|| devices.first())
                .ok_or_else(|| Obstacle::problem("there is no RDMA device to measure with", "`rdmadoctor devices` says why"))?,
        };
        if let Some(problem) = &device.problem {
            return Err(Obstacle::Unusable { device: device.name.clone(), problem: problem.clone() });
        }
        active(device).map(|port| Self { device, port }).ok_or_else(|| {
            let states = device.ports.iter().filter(|known| port.is_none_or(|port| port == known.port));
            let state = |port: &Port| format!("port {} is {}", port.port, port.state.as_ref().map_or("in an unknown state", Word::as_str));
            Obstacle::Inactive { device: device.name.clone(), states: states.map(state).collect() }
        })
    }

    /// The other end: the device that was named, or on another host the first that this end reaches, or this end itself.
    pub(super) fn other(request: &Request, hosts: &Hosts<'a>, here: Self) -> Result<Self, Obstacle> {
        match (&request.to, hosts.theirs) {
            (to, Some((devices, _))) => {
                let reaches = |device: &&Device| {
                    let there = Self::find(devices, Some(&device.name), None).ok();
                    there.is_some_and(|there| {
                        choose([here.port, there.port], [request.gid_index, None]).is_ok_and(|[ours, _]| !ours.needs_router)
                    })
                };
                let first = devices.iter().find(reaches).map(|device| device.name.as_str());
                Self::find(devices, to.as_deref().or(first), None).map_err(|obstacle| match obstacle {
                    usage @ Obstacle::Usage(_) => usage,
                    obstacle => {
                        let problem = obstacle.into_problem();
                        Obstacle::Problem(Problem { summary: format!("the other side: {}", problem.summary), ..problem })
                    }
                })
            }
            (Some(name), None) => Self::find(hosts.ours, Some(name), None),
            (None, None) => Ok(here),
        }
    }

    pub(super) fn is_ethernet(&self) -> bool {
        self.port.link_layer.as_ref().is_none_or(|layer| *layer != LinkLayer::Infiniband)
    }

    pub(super) fn is_iwarp(&self) -> bool {
        self.device.transport == Transport::Iwarp
    }

    /// EFA has datagrams and a type of its own only (rdma-core providers/efa/verbs.c, efa_create_qp).
    pub(super) fn is_efa(&self) -> bool {
        self.device.transport == Transport::Unspecified
    }

    /// Its port's number, as verbs takes it.
    pub(super) fn number(&self) -> u8 {
        u8::try_from(self.port.port).unwrap_or(1)
    }

    /// The address by which rdma_cm finds it: that of its GID, or one of its interface.
    pub(super) fn address(&self, gid: &Choice, known: &[Address]) -> Result<IpAddr, Obstacle> {
        let of_gid = self.port.gids.iter().find(|entry| entry.gid == gid.gid).and_then(|entry| entry.ipv4.as_ref()?.parse().ok());
        let own = |address: &&Address| address.netdev.as_ref().is_some_and(|netdev| self.device.netdevs.contains(netdev));
        let is_plain = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            // A link-local address needs an interface beside it, which rdma_cm is not given here.
            IpAddr::V6(six) => six.segments()[0] & 0xffc0 != 0xfe80,
        };
        let of_interface =
            || known.iter().filter(own).map(|address| address.address).filter(is_plain).min_by_key(|address| address.is_ipv6());
        of_gid.or_else(of_interface).ok_or_else(|| Obstacle::NoAddress { device: self.device.name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::rdma;
    use crate::sim::HostModel;

    fn devices() -> Vec<Device> {
        crate::devices::collect(&rdma::read(&HostModel::find("h100x8-cx7").unwrap().root()), None).devices
    }

    #[test]
    fn unless_one_is_named_the_first_device_that_works_and_has_an_active_port_is_taken() {
        let mut devices = devices();
        let found = |devices: &[Device], wanted| End::find(devices, wanted, None).map(|end| end.device.name.clone());
        assert_eq!(found(&devices, None).unwrap(), "mlx5_0");
        devices[0].problem = Some(Problem { summary: "it cannot be opened".to_owned(), next_step: None });
        devices[1].ports[0].state = Some(Word::Known(rdmadoctor_types::PortState::Down));
        assert_eq!(found(&devices, None).unwrap(), "mlx5_2");
        assert_eq!(found(&devices, Some("mlx5_3")).unwrap(), "mlx5_3");
        assert!(matches!(found(&devices, Some("mlx5_0")), Err(Obstacle::Unusable { .. })));
        assert!(matches!(found(&devices, Some("mlx5_1")), Err(Obstacle::Inactive { .. })));
        assert!(found(&devices, Some("mlx5_9")).is_err() && found(&[], None).is_err());
        assert!(End::find(&devices, Some("mlx5_3"), Some(1)).is_ok());
        assert!(matches!(End::find(&devices, Some("mlx5_3"), Some(2)), Err(Obstacle::Inactive { .. })));
    }

    #[test]
    fn the_address_for_rdma_cm_is_the_gids_or_one_of_the_interface_that_needs_nothing_beside_it() {
        let devices = devices();
        let end = End::find(&devices, Some("mlx5_0"), None).unwrap();
        let netdev = end.device.netdevs[0].clone();
        let address = |text: &str, netdev: &str| Address {
            address: text.parse().unwrap(),
            netdev: Some(netdev.to_owned()),
            prefix_length: None,
            source: String::new(),
            is_duplicate: false,
            is_tentative: false,
        };
        let of_interface = |texts: &[&str]| {
            let known: Vec<Address> = texts.iter().map(|text| address(text, &netdev)).chain([address("10.9.9.9", "other0")]).collect();
            let without = Choice { index: 0, gid: String::new(), reason: String::new(), needs_router: false };
            end.address(&without, &known).map(|address| address.to_string()).ok()
        };
        assert_eq!(of_interface(&["fe80::1", "2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of_interface(&["febf::1", "fec0::1"]).as_deref(), Some("fec0::1"), "fe80::/10 is link-local");
        assert_eq!(of_interface(&["2001:db8::1", "10.1.0.7"]).as_deref(), Some("10.1.0.7"));
        assert_eq!((of_interface(&["fe80::1"]), of_interface(&[])), (None, None));
        let gid = end.port.gids.iter().find(|gid| gid.ipv4.is_some()).unwrap();
        let chosen = Choice { index: 3, gid: gid.gid.clone(), reason: String::new(), needs_router: false };
        assert_eq!(end.address(&chosen, &[address("10.1.0.7", &netdev)]).map(|address| address.to_string()).ok(), gid.ipv4);
    }
}
