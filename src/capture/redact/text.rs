//! Finds what must not be told in a text.

use std::net::{IpAddr, Ipv6Addr};

use super::Redactor;

/// What is replaced for good reason where it stands by itself; else it is part of something longer.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

impl Redactor {
    /// The text with everything replaced that is recognised. Versions have four numbers now and then, so of those IPv4 addresses stay.
    pub(super) fn text(&self, text: &str, is_version: bool) -> String {
        let bytes = text.as_bytes();
        let mut result = String::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let is_start = at == 0 || !is_word(bytes[at - 1]);
            let found = self.host_name(rest, is_start).or_else(|| {
                let plain = || self.token(rest, is_version, at > 0 && bytes[at - 1] == b'.');
                if is_start { plain() } else { None }
            });
            let (length, replacement) = found.unwrap_or_else(|| {
                let first = rest.chars().next().map_or(1, char::len_utf8);
                (first, rest[..first].to_owned())
            });
            result += &replacement;
            at += length;
        }
        result
    }

    /// The name of a host at the start of `rest`.
    fn host_name(&self, rest: &str, is_start: bool) -> Option<(usize, String)> {
        self.hosts.iter().find_map(|(name, replacement)| {
            let is_there = rest.get(..name.len())?.eq_ignore_ascii_case(name);
            let ends = !rest.as_bytes().get(name.len()).is_some_and(|byte| is_word(*byte));
            // A short name is part of many words, a long one is not.
            (is_there && (name.len() >= 5 || is_start && ends)).then(|| (name.len(), replacement.clone()))
        })
    }

    /// Anything else, which starts where a word starts.
    fn token(&self, rest: &str, is_version: bool, follows_dot: bool) -> Option<(usize, String)> {
        self.secret(rest)
            .or_else(|| self.uuid(rest))
            .or_else(|| self.colons(rest))
            .or_else(|| self.dashes(rest))
            .or_else(|| if is_version || follows_dot { None } else { self.four(rest) })
            .or_else(|| self.digits(rest))
            .or_else(|| self.in_a_name(rest))
            .or_else(|| self.domain(rest))
            .or_else(|| self.serial_number(rest))
    }

    /// What stood in a field of serial numbers.
    fn secret(&self, rest: &str) -> Option<(usize, String)> {
        self.secrets.iter().find_map(|(secret, replacement)| {
            let ends = !rest.as_bytes().get(secret.len()).is_some_and(|byte| is_word(*byte));
            (ends && rest.starts_with(secret.as_str())).then(|| (secret.len(), replacement.clone()))
        })
    }

    /// `01234567-89ab-cdef-0123-456789abcdef`, as GPUs, file systems and machines have.
    fn uuid(&self, rest: &str) -> Option<(usize, String)> {
        const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
        let length = run(rest, |byte| byte.is_ascii_hexdigit() || byte == b'-');
        let text = rest.get(..36).filter(|_| length == 36 || length > 36 && rest.as_bytes()[36] == b'-')?;
        let parts: Vec<&str> = text.split('-').collect();
        if parts.len() != 5 || parts.iter().zip(LENGTHS).any(|(part, length)| part.len() != length) || ends_in_word(rest, 36) {
            return None;
        }
        let digits = format!("{:032x}", self.mapper.number("uuid", text.to_ascii_lowercase().as_bytes()));
        let (mut result, mut used) = (String::new(), 0);
        for length in LENGTHS {
            if used > 0 {
                result.push('-');
            }
            result += &digits[used..used + length];
            used += length;
        }
        Some((36, result))
    }

    /// Hardware addresses, GUIDs, GIDs and IPv6 addresses: hexadecimal groups between colons.
    fn colons(&self, rest: &str) -> Option<(usize, String)> {
        let longest = run(rest, |byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
        if ends_in_word(rest, longest) {
            return None;
        }
        let run = &rest[..longest];
        let trimmed = run.trim_end_matches(['.', ':']);
        // `fe80::` ends in colons of its own.
        [run, run.trim_end_matches('.'), trimmed].into_iter().find_map(|text| Some((text.len(), self.groups(text)?)))
    }

    fn groups(&self, text: &str) -> Option<String> {
        if text.bytes().filter(|byte| *byte == b':').count() < 2 {
            return None;
        }
        let groups: Vec<&str> = text.split(':').collect();
        let bytes: Option<Vec<u8>> =
            groups.iter().map(|group| if group.len() == 2 { u8::from_str_radix(group, 16).ok() } else { None }).collect();
        if let Some(bytes) = bytes.filter(|bytes| matches!(bytes.len(), 6 | 8 | 20)) {
            return Some(joined(&self.bytes(&bytes), ':'));
        }
        if groups.len() == 4 && groups.iter().all(|group| group.len() == 4) {
            let guid = u64::from_str_radix(&groups.concat(), 16).ok()?;
            return Some(grouped(u128::from(self.mapper.guid(guid)), 4));
        }
        let address: Ipv6Addr = text.parse().ok()?;
        // Sysfs writes all eight groups in full.
        let is_full = groups.len() == 8 && groups.iter().all(|group| group.len() == 4);
        let mapped = match address.octets() {
            // The GID of an iWARP port is its hardware address.
            [a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] if is_full => {
                let own = self.mapper.hardware([a, b, c, d, e, f]);
                own.iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte)) << 80
            }
            _ => self.mapper.six(address).to_bits(),
        };
        Some(if is_full { grouped(mapped, 8) } else { Ipv6Addr::from_bits(mapped).to_string() })
    }

    /// A hardware address of 6 bytes, of 8, or of 20, which IP over InfiniBand has: a queue pair's number, then a GID.
    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match bytes {
            [a, b, c, d, e, f] => self.mapper.hardware([*a, *b, *c, *d, *e, *f]).to_vec(),
            [number @ .., a, b, c, d, e, f, g, h] => {
                let own = self.mapper.guid(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]));
                let before = match <[u8; 8]>::try_from(number.get(4..).unwrap_or_default()) {
                    Ok(upper) => {
                        [&number[..4], &self.mapper.six(Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(upper)) << 64)).octets()[..8]]
                            .concat()
                    }
                    Err(_) => number.to_vec(),
                };
                [before, own.to_be_bytes().to_vec()].concat()
            }
            other => other.to_vec(),
        }
    }

    /// A hardware address with dashes, of 6, 8 or 20 bytes. A name may go on after it: `98-03-9b-12-34-56-port1`.
    fn dashes(&self, rest: &str) -> Option<(usize, String)> {
        let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        [59, 23, 17].into_iter().find_map(|length| {
            let text = rest.get(..length).filter(|text| !ends_in_word(rest, length) && text.split('-').all(is_byte))?;
            let bytes: Vec<u8> = text.split('-').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
            Some((length, joined(&self.bytes(&bytes), '-')))
        })
    }

    /// An IPv4 address, or a network of them.
    fn four(&self, rest: &str) -> Option<(usize, String)> {
        let longest = run(rest, |byte| byte.is_ascii_digit() || byte == b'.');
        let text = rest[..longest].trim_end_matches('.');
        let after = &rest.as_bytes()[text.len()..];
        // `1.2.3.4.el9` is a version.
        let goes_on = after.first().is_some_and(|byte| is_word(*byte))
            || after.first() == Some(&b'.') && after.get(1).is_some_and(|byte| is_word(*byte));
        let address: IpAddr = text.parse().ok().filter(|_| !goes_on && text.contains('.'))?;
        let digits = after.strip_prefix(b"/").map_or(0, |after| after.iter().take_while(|byte| byte.is_ascii_digit()).count());
        let network =
            rest.get(text.len() + 1..text.len() + 1 + digits).and_then(|digits| digits.parse().ok()).filter(|length| *length <= 32);
        let own = self.mapper.ip(address);
        // Only what had no bits beyond its prefix is a network.
        let is_network = |length: u32| match address {
            IpAddr::V4(address) => address.to_bits().checked_shl(length).unwrap_or(0) == 0,
            IpAddr::V6(_) => false,
        };
        Some((
            text.len(),
            network.filter(|length| is_network(*length)).map_or(own, |length| self.mapper.network(address, length)).to_string(),
        ))
    }

    /// Digits of a known address without colons, and names of containers, which are 32 or 64 hexadecimal digits.
    fn digits(&self, rest: &str) -> Option<(usize, String)> {
        let start = if rest.starts_with("0x") || rest.starts_with("0X") { 2 } else { 0 };
        let length = run(&rest[start..], |byte| byte.is_ascii_hexdigit());
        if ends_in_word(rest, start + length) {
            return None;
        }
        let text = &rest[start..start + length];
        let replacement = match length {
            12 | 16 => self.known.get(&text.to_ascii_lowercase())?.clone(),
            // Of IP over InfiniBand: its end tells it.
            40 => {
                let lower = text.to_ascii_lowercase();
                format!("{}{}", &lower[..24], self.known.get(&lower[24..])?)
            }
            32 | 64 => {
                let digits = format!("{:032x}", self.mapper.number("digits", text.to_ascii_lowercase().as_bytes()));
                if length == 32 { digits } else { digits.repeat(2) }
            }
            _ => return None,
        };
        Some((start + length, format!("{}{replacement}", &rest[..start])))
    }

    /// Names that systemd and rdma-core make of a hardware address or a GUID: `enx001122334455`, `rocexb83fd20300d11234` (their
    /// net_id and rdma_rename).
    fn in_a_name(&self, rest: &str) -> Option<(usize, String)> {
        let prefix = ["enx", "wlx", "rocex", "ibx", "iwx", "opax", "usnicx"].into_iter().find(|prefix| rest.starts_with(prefix))?;
        let length = run(&rest[prefix.len()..], |byte| byte.is_ascii_hexdigit());
        let digits = &rest[prefix.len()..prefix.len() + length];
        if ends_in_word(rest, prefix.len() + length) {
            return None;
        }
        Some((prefix.len() + length, format!("{prefix}{}", self.bare(digits)?)))
    }

    /// A hardware address or a GUID without colons.
    pub(super) fn bare(&self, digits: &str) -> Option<String> {
        let value = u64::from_str_radix(digits, 16).ok()?;
        match digits.len() {
            12 => {
                let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
                Some(self.mapper.hardware([a, b, c, d, e, f]).iter().map(|byte| format!("{byte:02x}")).collect())
            }
            16 => Some(format!("{:016x}", self.mapper.guid(value))),
            _ => None,
        }
    }

    /// Another host of this host's domain.
    fn domain(&self, rest: &str) -> Option<(usize, String)> {
        let length = run(rest, |byte| is_word(byte) || byte == b'-' || byte == b'.');
        let name = rest[..length].trim_end_matches('.');
        let lower = name.to_ascii_lowercase();
        self.domains
            .iter()
            .any(|domain| lower.strip_suffix(domain.as_str()).is_some_and(|before| before.ends_with('.')))
            .then(|| (name.len(), self.host(name)))
    }

    /// `Serial Number: 1650123456789`, as drivers log it.
    fn serial_number(&self, rest: &str) -> Option<(usize, String)> {
        let rest_bytes = rest.as_bytes();
        if !rest.get(..6)?.eq_ignore_ascii_case("serial") {
            return None;
        }
        let mut at = 6;
        if let Some(word) = ["number", "no", "num", "nr"].into_iter().find(|word| {
            let start = at + run(&rest[at..], |byte| matches!(byte, b' ' | b'_' | b'-'));
            rest.get(start..start + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
        }) {
            at += run(&rest[at..], |byte| matches!(byte, b' ' | b'_' | b'-')) + word.len();
        }
        let gap = run(&rest[at..], |byte| matches!(byte, b' ' | b':' | b'=' | b'#' | b'.' | b'"'));
        let start = at + gap;
        let length = run(&rest[start..], |byte| is_word(byte) || byte == b'-');
        let number = &rest[start..start + length];
        if gap == 0
            || length < 4
            || !number.bytes().any(|byte| byte.is_ascii_digit())
            || rest_bytes.get(at).is_some_and(|byte| is_word(*byte))
        {
            return None;
        }
        Some((start + length, format!("{}{}", &rest[..start], self.serial(number))))
    }
}

/// How many bytes at the start are such.
fn run(text: &str, is_such: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| is_such(*byte)).count()
}

fn ends_in_word(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(|byte| is_word(*byte))
}

fn joined(bytes: &[u8], between: char) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            text.push(between);
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// Groups of four digits with colons, `count` of them.
fn grouped(value: u128, count: u32) -> String {
    let groups: Vec<String> = (0..count).rev().map(|index| format!("{:04x}", value >> (16 * index) & 0xffff)).collect();
    groups.join(":")
}
