//! Other addresses for addresses. Two that share their first bits share as many afterwards, so what was in one network still is, and the
//! ranges with a meaning keep it (the prefix-preserving scheme of Xu, Fan, Ammar and Moon, ICNP 2002, with some prefixes held).

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip128::{Hasher128, SipHasher24};

/// Ranges of IPv4 with a meaning (the special-purpose registry of RFC 6890): their first bits, and how many. Nothing gets in or out.
const HELD_FOUR: &[(u32, u32)] = &[
    (0x0000_0000, 8),
    (0x0a00_0000, 8),
    (0x6440_0000, 10),
    (0x7f00_0000, 8),
    (0xa9fe_0000, 16),
    (0xac10_0000, 12),
    (0xc0a8_0000, 16),
    (0xe000_0000, 3),
];

/// The same of IPv6, of which the upper half is looked at.
const HELD_SIX: &[(u64, u32)] = &[
    (0, 64),
    (0x2000_0000_0000_0000, 3),
    (0xfc00_0000_0000_0000, 8),
    (0xfd00_0000_0000_0000, 8),
    (0xfe80_0000_0000_0000, 64),
    (0xff00_0000_0000_0000, 8),
];

/// A random key and what is made with it.
pub(super) struct Mapper {
    key: [u8; 16],
}

impl Mapper {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// What stands for `bytes` among things of one kind. SipHash-2-4 is a keyed function: without the key, nothing can be tried out.
    pub(super) fn number(&self, kind: &str, bytes: &[u8]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(kind.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }

    /// Turns over bits, each by what stands before it; `held` says of which positions the bit stays.
    fn turned(&self, kind: &str, value: u64, width: u32, held: impl Fn(u32, u64) -> bool) -> u64 {
        let mut result = value;
        for position in 0..width {
            let before = if position == 0 { 0 } else { value >> (width - position) };
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&position.to_be_bytes());
            bytes[4..].copy_from_slice(&before.to_be_bytes());
            if !held(position, before) && self.number(kind, &bytes) & 1 == 1 {
                result ^= 1 << (width - 1 - position);
            }
        }
        result
    }

    pub(super) fn ip(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => self.four(address).into(),
            IpAddr::V6(address) => self.six(address).into(),
        }
    }

    /// A network: what is no part of it stays zero.
    pub(super) fn network(&self, network: IpAddr, length: u32) -> IpAddr {
        match self.ip(network) {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }

    pub(super) fn four(&self, address: Ipv4Addr) -> Ipv4Addr {
        // This host, loopback, multicast, broadcast and masks tell nothing.
        if matches!(address.octets()[0], 0 | 127 | 224..) {
            return address;
        }
        let held = |position: u32, before: u64| {
            position == 0 || HELD_FOUR.iter().any(|(prefix, length)| position < *length && u64::from(*prefix) >> (32 - position) == before)
        };
        let turned = self.turned("ipv4", address.to_bits().into(), 32, held);
        Ipv4Addr::from_bits(u32::try_from(turned).unwrap_or(u32::MAX))
    }

    pub(super) fn six(&self, address: Ipv6Addr) -> Ipv6Addr {
        if let Some(four) = address.to_ipv4_mapped() {
            return self.four(four).to_ipv6_mapped();
        }
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return address;
        }
        let bits = address.to_bits();
        let [upper, lower] = [(bits >> 64) as u64, bits as u64];
        let held = |position: u32, before: u64| {
            position == 0 || HELD_SIX.iter().any(|(prefix, length)| position < *length && prefix >> (64 - position) == before)
        };
        let upper = self.turned("ipv6", upper, 64, held);
        Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(self.guid(lower)))
    }

    /// A GUID, or the lower half of an IPv6 address or GID. One that is made of a hardware address still is.
    pub(super) fn guid(&self, guid: u64) -> u64 {
        let [a, b, c, d, e, f, g, h] = guid.to_be_bytes();
        match (guid, [d, e]) {
            (0 | u64::MAX, _) => guid,
            // RFC 4291, appendix A: with the bit turned over that says who gave it.
            (_, [0xff, 0xfe]) => {
                let [a, b, c, f, g, h] = self.hardware([a ^ 2, b, c, f, g, h]);
                u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, f, g, h])
            }
            // As mlx5 adapters have it: b83f:d203:00d1:1234 of b8:3f:d2:d1:12:34.
            (_, [0x03, 0x00]) => {
                let [a, b, c, f, g, h] = self.hardware([a, b, c, f, g, h]);
                u64::from_be_bytes([a, b, c, 0x03, 0x00, f, g, h])
            }
            _ => self.turned("guid", guid, 64, |_, _| false),
        }
    }

    /// A hardware address. Those that are none, and groups, stay; so do the bits that say who gave it.
    pub(super) fn hardware(&self, address: [u8; 6]) -> [u8; 6] {
        if address == [0; 6] || address[0] & 1 == 1 {
            return address;
        }
        let value = address.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let turned = self.turned("hardware", value, 48, |position, _| position == 6 || position == 7).to_be_bytes();
        [turned[2], turned[3], turned[4], turned[5], turned[6], turned[7]]
    }
}
