//! What simulated devices count of the data that they move, as a port does: in a file that the processes of a host share, so that whoever
//! reads the host's counters sees them grow.
#![allow(unsafe_code, reason = "maps the counters that processes share")]

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap};

use super::SimConfig;

/// Numbers of a device: bytes and packets that it sent, and that arrived.
const NUMBERS: usize = 4;

/// The counts, for those who read them.
#[derive(Debug, Clone)]
pub struct CounterFile {
    path: PathBuf,
    devices: Vec<String>,
}

/// What a device has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub device: String,
    /// Bytes and packets that it sent, and that arrived.
    numbers: [u64; NUMBERS],
}

impl Tally {
    /// What a counter of the port grew by: of data in four bytes, as the kernel shows it.
    #[must_use]
    pub fn of(&self, counter: &str) -> u64 {
        let [sent_bytes, sent, received_bytes, received] = self.numbers;
        match counter {
            "port_xmit_data" => sent_bytes / 4,
            "port_xmit_packets" => sent,
            "port_rcv_data" => received_bytes / 4,
            "port_rcv_packets" => received,
            _ => 0,
        }
    }
}

impl CounterFile {
    /// Those of a configuration; none where it keeps none.
    #[must_use]
    pub fn of(config: &SimConfig) -> Option<Self> {
        let devices = config.devices.iter().map(|device| device.name.clone()).collect();
        Some(Self { path: config.tallies.clone()?, devices })
    }

    /// As they are now; nothing where nothing was counted.
    #[must_use]
    pub fn read(&self) -> Vec<Tally> {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let words: Vec<u64> = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?))).collect();
        let each = words.chunks_exact(NUMBERS).zip(&self.devices);
        each.map(|(words, device)| Tally { device: device.clone(), numbers: std::array::from_fn(|at| words[at]) }).collect()
    }
}

/// The counts, for the devices.
pub(super) struct Counting(&'static [AtomicU64]);

impl Counting {
    /// In a file, where one is given; nothing is counted otherwise.
    pub fn new(path: Option<&Path>, devices: usize) -> io::Result<Self> {
        let Some(path) = path.filter(|_| devices > 0) else { return Ok(Self(&[])) };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self(map(&file, devices * NUMBERS)?))
    }

    /// A device has sent something.
    pub fn sent(&self, device: usize, bytes: usize, mtu_bytes: u32) {
        self.add(device, 0, bytes, mtu_bytes);
    }

    /// Something has arrived at a device.
    pub fn received(&self, device: usize, bytes: usize, mtu_bytes: u32) {
        self.add(device, 2, bytes, mtu_bytes);
    }

    fn add(&self, device: usize, at: usize, bytes: usize, mtu_bytes: u32) {
        let packets = bytes.div_ceil(mtu_bytes.max(1) as usize).max(1);
        for (at, amount) in [(at, bytes), (at + 1, packets)] {
            if let Some(number) = self.0.get(device * NUMBERS + at) {
                number.fetch_add(amount as u64, Ordering::Relaxed);
            }
        }
    }
}

fn map(file: &File, numbers: usize) -> io::Result<&'static [AtomicU64]> {
    let bytes = NonZeroUsize::new(numbers * size_of::<AtomicU64>()).unwrap_or(NonZeroUsize::MIN);
    // All processes set the same length, and growing fills with zeros.
    file.set_len(bytes.get() as u64)?;
    // SAFETY: a new mapping, never unmapped, of a file that nothing shortens; any bit pattern is a counter, and only atomic operations
    // touch it. A mapping is aligned to a page.
    unsafe {
        let mapped = mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, 0)?;
        Ok(std::slice::from_raw_parts(mapped.as_ptr().cast::<AtomicU64>(), numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_read_as_ports_show_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = SimConfig { tallies: Some(file.path().to_owned()), ..SimConfig::of_models(["mlx5-6.1", "mlx5-6.12"]) };
        let tallies = CounterFile::of(&config).unwrap();
        assert_eq!(tallies.read(), []);
        let counting = Counting::new(Some(file.path()), 2).unwrap();
        counting.sent(1, 4096, 1024);
        counting.received(0, 0, 1024);
        let all = tallies.read();
        let shown = |tally: &Tally| {
            ["port_xmit_data", "port_xmit_packets", "port_rcv_data", "port_rcv_packets", "link_downed"].map(|name| tally.of(name))
        };
        assert_eq!((shown(&all[0]), shown(&all[1])), ([0, 0, 0, 1, 0], [1024, 4, 0, 0, 0]));
        Counting::new(None, 2).unwrap().sent(1, 1, 1);
    }
}
