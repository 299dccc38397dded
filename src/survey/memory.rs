//! Host memory that is registered in growing pieces to see how much goes.

use std::time::{Duration, Instant};

use super::{Say, share};
use crate::facts::host::HostFacts;
use crate::facts::{HostMemory, RefusedMemory};
use crate::host::system::memory::MemoryFacts;
use crate::verbs::CallError;
use crate::worker::{Failure, Register, Worker};

/// What the ramp begins with, and the unit of every size.
const PAGE_BYTES: u64 = 4096;

/// Each piece is that much larger than the one before.
const STEP: u64 = 8;

/// No piece is larger, however much memory there is.
const MOST_BYTES: u64 = 1 << 30;

/// How much memory may be registered without harm to this host: registered memory is real memory while it lasts. `group_bytes` is the limit
/// of the control group.
pub(crate) fn spare_bytes(memory: &MemoryFacts, group_bytes: Option<u64>) -> u64 {
    let free = memory.available_bytes.or(memory.total_bytes.map(|total| total / 2)).unwrap_or(0) / 2;
    // What a control group already uses is not known; a quarter of its limit is mostly free.
    free.min(group_bytes.map_or(u64::MAX, |limit| limit / 4))
}

/// The largest piece to try where nobody asks for more.
pub(crate) fn most_bytes(host: &HostFacts) -> u64 {
    let spare = spare_bytes(&host.system.memory, host.limits.own_cgroup.memory_bytes());
    (MOST_BYTES.min(spare) / PAGE_BYTES * PAGE_BYTES).max(PAGE_BYTES)
}

/// Registers growing pieces with a device until one is refused, then narrows the limit down. `try_one` tries a piece.
fn host(
    device: &str,
    most_bytes: u64,
    deadline: Instant,
    try_one: &mut dyn FnMut(u64) -> Result<Result<u64, CallError>, Failure>,
) -> HostMemory {
    let mut found = HostMemory { device: device.to_owned(), most_bytes, ..HostMemory::default() };
    let mut bytes = PAGE_BYTES;
    loop {
        if Instant::now() >= deadline {
            found.stopped = Some("the time for it was used up".to_owned());
            return found;
        }
        match try_one(bytes) {
            Ok(Ok(elapsed_us)) => {
                found.largest_bytes = Some(bytes);
                found.largest_us = Some(elapsed_us);
            }
            Ok(Err(error)) => found.refused = Some(RefusedMemory { bytes, error }),
            Err(failure @ Failure::Lost(_)) => {
                found.failure = Some(format!("{bytes} bytes: {failure}"));
                return found;
            }
            Err(failure) => {
                found.stopped = Some(failure.to_string());
                return found;
            }
        }
        let Some(next) = next(&found) else { return found };
        // Giving it back takes as long again. On a slow host a large piece would look like a hang.
        let each = found.largest_us.unwrap_or(0).saturating_mul(2) / found.largest_bytes.unwrap_or(bytes).div_ceil(PAGE_BYTES).max(1);
        let expected = Duration::from_micros(each.saturating_mul(next / PAGE_BYTES));
        if expected > deadline.saturating_duration_since(Instant::now()) {
            found.stopped = Some(format!("{next} bytes would take about {} s", expected.as_secs()));
            return found;
        }
        bytes = next;
    }
}

/// The next piece to try: a larger one, or one between what was granted and what was refused while that is worth it.
fn next(found: &HostMemory) -> Option<u64> {
    let (granted, refused) = (found.largest_bytes?, found.refused.as_ref().map(|refused| refused.bytes));
    match refused {
        None if granted < found.most_bytes => Some(granted.saturating_mul(STEP).min(found.most_bytes)),
        None => None,
        // A sixteenth is exact enough to tell which limit it is.
        Some(refused) if refused - granted > PAGE_BYTES.max(granted / 16) => {
            Some(granted + (refused - granted) / 2 / PAGE_BYTES * PAGE_BYTES).filter(|middle| *middle > granted)
        }
        Some(_) => None,
    }
}

/// Registers growing pieces of host memory with one device after another, up to what each is named with; each has its share of the time. Where
/// large pieces are asked for, an answer is waited for as long, and at least for `patience`.
pub(crate) fn on_devices(
    worker: &mut Worker,
    devices: &[(&str, u64)],
    deadline: Instant,
    patience: Option<Duration>,
    say: Say<'_>,
) -> Vec<HostMemory> {
    let mut tried = Vec::new();
    for (index, (device, most)) in devices.iter().enumerate() {
        if worker.interrupted() {
            break;
        }
        say(&format!("{device}: registering host memory"));
        let share = share(deadline, devices.len() - index);
        if let Some(least) = patience {
            worker.wait_at_most(share.max(least));
        }
        let mut try_one = |bytes| {
            worker.ask(Register { device: (*device).to_owned(), bytes }).map(|tried| match (tried.error, tried.elapsed_us) {
                (Some(error), _) => Err(error),
                (None, elapsed_us) => Ok(elapsed_us.unwrap_or(0)),
            })
        };
        tried.push(host(device, *most, Instant::now() + share, &mut try_one));
    }
    if let Some(usual) = patience {
        worker.wait_at_most(usual);
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::ErrorNumber;

    fn search(limit: u64, most: u64) -> (HostMemory, usize) {
        let mut tries = 0;
        let found = host("mlx5_0", most, Instant::now() + Duration::from_secs(60), &mut |bytes| {
            tries += 1;
            let error = CallError { call: "ibv_reg_mr".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(12) };
            Ok(if bytes > limit { Err(error) } else { Ok(1) })
        });
        (found, tries)
    }

    #[test]
    fn all_that_is_meant_to_be_tried_is_granted() {
        let (found, tries) = search(u64::MAX, 1 << 30);
        assert_eq!((found.largest_bytes, found.refused, tries), (Some(1 << 30), None, 7));
    }

    #[test]
    fn the_limit_is_narrowed_down() {
        let (found, tries) = search(65536, 1 << 30);
        assert_eq!((found.largest_bytes, found.refused.map(|refused| refused.bytes)), (Some(65536), Some(65536 + 4096)));
        assert!(tries < 12, "{tries}");
        let (found, _) = search(100 << 20, 1 << 30);
        let largest = found.largest_bytes.unwrap();
        assert!(largest <= 100 << 20 && largest > 90 << 20, "{largest}");
        let (found, tries) = search(0, 1 << 30);
        assert_eq!((found.largest_bytes, found.refused.map(|refused| refused.bytes), tries), (None, Some(4096), 1));
    }

    #[test]
    fn no_limit_makes_it_search_long() {
        for limit in (0..200_000).step_by(1777) {
            let (found, tries) = search(limit, 1 << 20);
            assert!(tries < 20, "{limit}: {tries}");
            assert!(found.largest_bytes.is_none_or(|largest| largest <= limit), "{limit}");
        }
    }

    #[test]
    fn what_would_take_too_long_is_not_tried() {
        // 100 us a page.
        let slow = host("d", 1 << 30, Instant::now() + Duration::from_secs(2), &mut |bytes| Ok(Ok(bytes / PAGE_BYTES * 100)));
        assert_eq!((slow.largest_bytes, slow.stopped.as_deref()), (Some(16 << 20), Some("134217728 bytes would take about 6 s")));
    }

    #[test]
    fn it_ends_when_the_time_is_used_up_or_the_child_is_lost() {
        let late = host("d", 1 << 30, Instant::now(), &mut |_| Ok(Ok(1)));
        assert_eq!((late.largest_bytes, late.stopped.is_some()), (None, true));
        let lost = host("d", 1 << 30, Instant::now() + Duration::from_secs(9), &mut |_| Err(Failure::Interrupted));
        assert_eq!(lost.stopped.as_deref(), Some("interrupted"));
    }
}
