//! Faults at work: what is counted, and what strikes when.
#![allow(unsafe_code, reason = "maps the counters that processes share")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{Signal, raise};

use super::link;
use crate::catalog::{Fault, FaultKind, ObjectKind, When};

/// The faults of an installation and how often each was met.
pub struct Faults {
    list: Vec<Fault>,
    met: &'static [AtomicU64],
    start: Instant,
}

impl Faults {
    /// Counts in this process, or in a file of `directory` that all processes with the same faults share: a crash or a hang takes its
    /// process with it, and the next one must go on counting.
    pub fn new(list: Vec<Fault>, directory: Option<&Path>) -> std::io::Result<Self> {
        let met = match directory {
            Some(directory) if !list.is_empty() => shared_counters(&list, directory)?,
            _ => Box::leak(list.iter().map(|_| AtomicU64::new(0)).collect()),
        };
        Ok(Self { list, met, start: Instant::now() })
    }

    /// When faults that wait for a time strike, from now.
    pub fn times(&self) -> impl Iterator<Item = Instant> {
        self.list.iter().filter_map(|fault| if let When::After(time) = fault.when { self.start.checked_add(time) } else { None })
    }

    /// What a call on a device does: goes on, fails with an errno, or does not return at all.
    pub fn at_call(&self, device: &str, call: &str, parameters: &[(&str, u64)]) -> Result<(), i32> {
        for (index, fault) in self.on(device) {
            let meets = |condition: &crate::catalog::Condition| {
                parameters.iter().any(|(name, value)| *name == condition.parameter && condition.holds(*value))
            };
            if fault.kind.call() != Some(call) || !fault.conditions.iter().all(meets) || !self.strikes(index) {
                continue;
            }
            match fault.kind {
                FaultKind::Errno { errno, .. } => return Err(errno),
                FaultKind::Crash { .. } => crash(),
                FaultKind::Hang { .. } => loop {
                    std::thread::sleep(Duration::from_secs(3600));
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts a call; says whether it finds the device gone.
    pub fn device_removed(&self, device: &str) -> bool {
        self.any(device, |kind| matches!(kind, FaultKind::DeviceRemoved))
    }

    /// Whether the device has gone by the clock.
    pub fn device_removed_by_now(&self, device: &str) -> bool {
        self.on(device).any(|(_, fault)| fault.kind == FaultKind::DeviceRemoved && self.is_due(fault))
    }

    /// Counts a message from a port; says whether it finds the port down.
    pub fn port_down_at_message(&self, device: &str, port: u8) -> bool {
        self.any(device, |kind| *kind == FaultKind::PortDown { port })
    }

    /// Whether a port has gone down by the clock.
    pub fn port_down_by_now(&self, device: &str, port: u8) -> bool {
        self.on(device).any(|(_, fault)| fault.kind == FaultKind::PortDown { port } && self.is_due(fault))
    }

    fn is_due(&self, fault: &Fault) -> bool {
        matches!(fault.when, When::After(time) if self.start.elapsed() >= time)
    }

    /// Counts a receive; by how many bytes it is too short.
    pub fn short_by(&self, device: &str) -> u32 {
        self.on(device).filter(|(_, fault)| matches!(fault.kind, FaultKind::ShortCompletion { .. })).fold(0, |sum, (index, fault)| {
            match fault.kind {
                FaultKind::ShortCompletion { bytes } if self.strikes(index) => sum.max(bytes),
                _ => sum,
            }
        })
    }

    /// Counts a payload, and changes it where a fault says so.
    pub fn corrupt(&self, device: &str, payload: &mut [u8]) {
        let Some(last) = payload.len().checked_sub(1) else { return };
        for (index, fault) in self.on(device) {
            if let FaultKind::CorruptPayload { offset } = fault.kind
                && self.strikes(index)
            {
                payload[usize::try_from(offset).unwrap_or(last).min(last)] ^= 0xff;
            }
        }
    }

    /// Counts a write that may come late; says whether it may, and whether it does.
    pub fn late(&self, device: &str, length: usize) -> Option<bool> {
        let is_counted = |fault: &Fault| matches!(fault.kind, FaultKind::LateWrites { above } if length > above as usize);
        self.on(device)
            .filter(|(_, fault)| is_counted(fault))
            .fold(None, |late, (index, _)| Some(self.strikes(index) | late.unwrap_or(false)))
    }

    /// Counts what crosses the wire; says which device carries it instead, if another one does.
    pub fn detour(&self, device: &str) -> Option<&str> {
        let to = |fault: &'_ Fault| matches!(fault.kind, FaultKind::Detour { .. });
        let struck = self.on(device).filter(|(_, fault)| to(fault)).filter(|(index, _)| self.strikes(*index)).last()?;
        if let FaultKind::Detour { to } = &self.list[struck.0].kind { Some(to) } else { None }
    }

    /// How many of an object there can be.
    pub fn limit(&self, device: &str, of: ObjectKind) -> Option<u32> {
        let limit =
            |fault: &Fault| if let FaultKind::Exhaust { object, limit } = fault.kind { (object == of).then_some(limit) } else { None };
        self.on(device).filter_map(|(_, fault)| limit(fault)).min()
    }

    fn on<'a>(&'a self, device: &'a str) -> impl Iterator<Item = (usize, &'a Fault)> {
        self.list.iter().enumerate().filter(move |(_, fault)| fault.device.as_deref().is_none_or(|only| only == device))
    }

    /// Counts for every fault of a kind, and says whether one strikes.
    fn any(&self, device: &str, of: impl Fn(&FaultKind) -> bool) -> bool {
        self.on(device).filter(|(_, fault)| of(&fault.kind)).fold(false, |struck, (index, _)| self.strikes(index) | struck)
    }

    fn strikes(&self, index: usize) -> bool {
        let count = self.met[index].fetch_add(1, Ordering::SeqCst) + 1;
        match self.list[index].when {
            When::Nth(at) => count == at,
            When::From(at) => count >= at,
            When::After(time) => self.start.elapsed() >= time,
        }
    }
}

/// Dies as a provider does that follows a wild pointer: by the signal, whatever handlers a runtime has installed.
fn crash() -> ! {
    // SAFETY: the default action needs no handler code.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGSEGV, nix::sys::signal::SigHandler::SigDfl) };
    let _ = raise(Signal::SIGSEGV);
    std::process::abort()
}

fn shared_counters(list: &[Fault], directory: &Path) -> std::io::Result<&'static [AtomicU64]> {
    // Two hosts with different faults may meet in one directory.
    let mut hasher = DefaultHasher::new();
    list.hash(&mut hasher);
    let path = directory.join(format!("faults-{:016x}", hasher.finish()));
    let file = link::own_file(&path, true)?;
    let bytes = NonZeroUsize::new(size_of_val(list).max(list.len() * size_of::<AtomicU64>())).unwrap_or(NonZeroUsize::MIN);
    if ![0, bytes.get() as u64].contains(&file.metadata()?.len()) {
        return Err(link::foreign(&path, "has something else in it"));
    }
    // All processes set the same length, and growing fills with zeros.
    file.set_len(bytes.get() as u64)?;
    // SAFETY: a new mapping, never unmapped, of a file that nothing shortens; any bit pattern is a counter, and only atomic operations
    // touch it. A mapping is aligned to a page.
    unsafe {
        let mapped = mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &file, 0)?;
        Ok(std::slice::from_raw_parts(mapped.as_ptr().cast::<AtomicU64>(), list.len()))
    }
}
