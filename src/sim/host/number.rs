//! Several hosts of one model: what says who a host is depends on its number. Number 0 is the model as its file has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HostModel, hardware_address, with_prefix_length};
use crate::sim::host_tree;

/// Local identifiers between one host and the next, for those of its own.
const LIDS: u16 = 48;

/// Why there is no host of a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{model} has no host {number}: the subnet of {address} has no address left for it; give its interface a shorter prefix")]
pub struct NoAddress {
    model: String,
    number: u16,
    address: String,
}

impl HostModel {
    /// The host of that number: another address of each of the same subnets, other GUIDs, hardware addresses and UUIDs.
    ///
    /// # Errors
    /// A subnet has no address left.
    pub(in crate::sim) fn numbered(mut self, number: u16) -> Result<Self, NoAddress> {
        if number == 0 {
            return Ok(self);
        }
        let gateways: Vec<IpAddr> = self.interfaces.iter().filter_map(|interface| interface.gateway.map(IpAddr::V4)).collect();
        let nics = self.nics.iter_mut().map(|nic| &mut nic.addresses);
        for text in nics.chain(self.interfaces.iter_mut().map(|interface| &mut interface.addresses)).flatten() {
            let Some((own, prefix_length)) = with_prefix_length(text) else { continue };
            let other = neighbour(own, prefix_length, number, &gateways);
            let other = other.ok_or_else(|| NoAddress { model: self.name.clone(), number, address: text.clone() })?;
            *text = format!("{other}/{prefix_length}");
        }
        for nic in &mut self.nics {
            nic.guid = Some(host_tree::number_of(&format!("{:x}/{number}", host_tree::guid(nic))));
            nic.mac = nic.mac.as_deref().and_then(hardware_address).map(|mac| other_mac(mac, number));
            nic.lid = if nic.lid == 0 { 0 } else { nic.lid.wrapping_add(number.wrapping_mul(LIDS)) };
        }
        for interface in &mut self.interfaces {
            let mac = host_tree::interface_mac(interface);
            interface.mac = Some(other_mac(mac, number));
        }
        for (index, gpu) in self.gpus.iter_mut().enumerate() {
            gpu.uuid = Some(format!("GPU-00000000-0000-0000-{number:04x}-{index:012}"));
        }
        Ok(self)
    }
}

/// The address that is `number` after this one in its subnet, whose end the beginning follows. Nobody gets a gateway's.
fn neighbour(own: IpAddr, prefix_length: u8, number: u16, gateways: &[IpAddr]) -> Option<IpAddr> {
    // Neither the subnet's own address, nor the one that all of it has on IPv4.
    let (bits, hosts) = match own {
        IpAddr::V4(own) => {
            (u128::from(own.to_bits()), u128::from(u32::MAX.checked_shr(prefix_length.into()).unwrap_or(0)).saturating_sub(1))
        }
        IpAddr::V6(own) => (own.to_bits(), u128::MAX.checked_shr(prefix_length.into()).unwrap_or(0)),
    };
    let all = if own.is_ipv4() { hosts + 1 } else { hosts };
    let (network, place) = (bits & !all, bits & all);
    let at = |number: u128| {
        let bits = network | (place.saturating_sub(1).wrapping_add(number) % hosts + 1);
        if own.is_ipv4() { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(bits)) }
    };
    (0..hosts).map(at).filter(|address| *address == own || !gateways.contains(address)).nth(number.into())
}

/// A hardware address that differs by the number in its fourth and fifth bytes.
fn other_mac(mut bytes: [u8; 6], number: u16) -> String {
    let moved = u16::from_be_bytes([bytes[3], bytes[4]]).wrapping_add(number);
    [bytes[3], bytes[4]] = moved.to_be_bytes();
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All that says who a host is.
    fn names(host: &HostModel) -> Vec<String> {
        let nics = host.nics.iter().flat_map(|nic| {
            let gids = host_tree::gids(nic).into_iter().map(|entry| entry.gid.to_string()).collect::<BTreeSet<_>>();
            gids.into_iter().chain(nic.addresses.clone()).chain([format!("{:x}", host_tree::guid(nic))])
        });
        let interfaces = host.interfaces.iter().flat_map(|interface| interface.addresses.clone());
        nics.chain(interfaces).collect()
    }

    #[test]
    fn hosts_of_one_model_have_nothing_in_common() {
        for model in HostModel::names() {
            let model = HostModel::find(model).unwrap();
            assert_eq!(model.clone().numbered(0).unwrap(), model);
            let mut seen = BTreeSet::new();
            for number in 0..250 {
                let host = model.clone().numbered(number).unwrap();
                for name in names(&host) {
                    assert!(seen.insert(name.clone()), "{}: {name} of host {number} is another's too", model.name);
                }
                let uuids = host.gpus().into_iter().flat_map(|gpus| gpus.gpus).filter_map(|gpu| gpu.uuid);
                uuids.for_each(|uuid| assert!(seen.insert(uuid.clone()), "{uuid} of host {number}"));
            }
        }
    }

    #[test]
    fn addresses_stay_in_their_subnet_and_leave_out_its_gateway() {
        let gateway: IpAddr = "10.1.0.1".parse().unwrap();
        let at = |own: &str, length, number| neighbour(own.parse().unwrap(), length, number, &[gateway]).map(|address| address.to_string());
        assert_eq!(at("10.1.0.11", 24, 1).as_deref(), Some("10.1.0.12"));
        assert_eq!(at("10.1.0.11", 24, 243).as_deref(), Some("10.1.0.254"));
        assert_eq!(at("10.1.0.11", 24, 244).as_deref(), Some("10.1.0.2"));
        assert_eq!(at("10.1.0.11", 24, 252).as_deref(), Some("10.1.0.10"));
        assert_eq!(at("10.1.0.11", 24, 253), None);
        assert_eq!(at("10.1.0.11", 32, 1), None);
        assert_eq!(at("10.1.0.254", 16, 2).as_deref(), Some("10.1.1.0"));
        assert_eq!(at("2001:db8::11", 64, 700).as_deref(), Some("2001:db8::2cd"));
        let error = HostModel::find("h100x8-cx7").unwrap().numbered(900).unwrap_err().to_string();
        assert!(error.contains("h100x8-cx7 has no host 900: the subnet of 10.1.0.11/24"), "{error}");
    }
}
