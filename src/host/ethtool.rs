//! What `ethtool -S` shows: the counters that a network driver keeps by names of its own. No file has them, and ethtool's netlink family
//! has only those that all drivers share (Documentation/networking/ethtool-netlink.rst), without the pauses of single priorities.

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::rdma_counters::Counter;
use crate::sys::ask_ethtool;
use crate::text;

/// Commands of include/uapi/linux/ethtool.h.
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
/// The set of strings that names counters (`ETH_SS_STATS`).
const STATS: u32 = 1;
/// Bytes of a name (`ETH_GSTRING_LEN`).
const NAME_BYTES: usize = 32;
/// Counters that a driver may have: mlx5 and bnxt_en have some for each of their rings, thousands in all.
const MOST: usize = 1 << 16;
/// Room for counters that a driver gets between two questions, when rings are added: the kernel writes as many as there are then, whatever
/// was asked (net/ethtool/ioctl.c, ethtool_get_stats).
const ROOM: usize = 1 << 13;

/// The counters of this host's interface whose names are wanted. `index` is the number that sysfs gives it: where the process is in another
/// network namespace than sysfs shows, the name may be another interface's.
///
/// # Errors
/// The kernel's: EOPNOTSUPP where the driver has none, ENODEV where the process has no such interface.
pub(super) fn counters(netdev: &str, index: u32, is_wanted: &dyn Fn(&str) -> bool) -> nix::Result<Vec<Counter>> {
    if if_nametoindex(netdev)? != index {
        return Err(Errno::ENODEV);
    }
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // struct ethtool_sset_info: command, a reserved word, a mask of 64 bits, and a length for each bit.
    let mut info = [joined(GSSET_INFO, 0), 1 << STATS, 0];
    ask_ethtool(&socket, netdev, &mut info)?;
    let (count, _) = parted(info[2]);
    if info[1] == 0 || count == 0 {
        return Ok(Vec::new());
    }
    let count = count as usize;
    if count > MOST {
        return Err(Errno::EOVERFLOW);
    }
    // struct ethtool_gstrings: command, set, length, and the names.
    let mut names = vec![0_u32; 3 + (count + ROOM) * NAME_BYTES / 4];
    names[..3].copy_from_slice(&[GSTRINGS, STATS, count as u32]);
    ask_ethtool(&socket, netdev, &mut names)?;
    // struct ethtool_stats: command, length, and the values.
    let mut values = vec![0_u64; 1 + count + ROOM];
    values[0] = joined(GSTATS, count as u32);
    ask_ethtool(&socket, netdev, &mut values)?;
    // Where they are not as many, a value is no longer that of the name in its place.
    if names[2] as usize != count || parted(values[0]).1 as usize != count {
        return Err(Errno::EAGAIN);
    }
    let bytes: Vec<u8> = names[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let all = bytes.chunks_exact(NAME_BYTES).take(count).map(name).zip(&values[1..]);
    Ok(all.filter(|(name, _)| is_wanted(name)).map(|(name, value)| Counter { name, value: *value }).collect())
}

/// Two words one behind the other, as C has them.
fn joined(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The words of which one was made.
fn parted(both: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = both.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

fn name(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    text::line(String::from_utf8_lossy(text).trim()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_no_such_counters_and_strange_names_no_interface() {
        let index = if_nametoindex("lo").unwrap();
        assert_eq!(counters("lo", index, &|_| true).unwrap_or_default(), []);
        assert_eq!(counters("lo", index + 1, &|_| true), Err(Errno::ENODEV));
        assert!(counters("no such interface", 1, &|_| true).is_err());
    }

    #[test]
    fn names_end_at_their_zero() {
        let mut bytes = [0; NAME_BYTES];
        bytes[..10].copy_from_slice(b"  tx_pause");
        assert_eq!(name(&bytes), "tx_pause");
        assert_eq!(parted(joined(7, 9)), (7, 9));
    }
}
