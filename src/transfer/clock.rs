//! A clock that is read between messages, and what it measured.
//!
//! `Instant::now` goes through the C library and the kernel's vDSO: some 130 instructions, counted by single steps, where a whole read of
//! 64 bytes takes 300 in the process. So the processor's time stamp counter is read itself, as perftest does (its src/get_clock.h), where
//! the kernel keeps time by it too: it gives that up when the counter stops or differs between processors (Linux
//! kernel/time/clocksource.c, the watchdog). How fast it counts is not asked: both clocks are read at the beginning and at the end.

use std::fs;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::TransferError;
use crate::sys::ticks;

/// What the kernel keeps time by (Documentation/ABI/testing/sysfs-devices-system-clockevents_clocksource in Linux).
const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Readings of both clocks, of which those that lie closest together are taken.
const TRIES: usize = 5;
/// Digits that latencies are kept to, and the longest in ticks: more than a minute at 6 GHz.
const DIGITS: u8 = 4;
const LONGEST: u64 = 1 << 39;

/// The clock of a run.
pub struct Clock {
    is_counter: bool,
    began: (u64, Instant),
}

impl Clock {
    pub fn start() -> Self {
        let is_counter = cfg!(target_arch = "x86_64") && fs::read_to_string(SOURCE).is_ok_and(|name| name.trim() == "tsc");
        let mut clock = Self { is_counter, began: (0, Instant::now()) };
        clock.began = clock.both();
        clock
    }

    /// Ticks since some moment.
    #[inline]
    pub fn now(&self) -> u64 {
        if self.is_counter { ticks() } else { self.began.1.elapsed().as_nanos() as u64 }
    }

    /// Both clocks at one moment.
    fn both(&self) -> (u64, Instant) {
        let mut best: Option<(u64, (u64, Instant))> = None;
        for _ in 0..TRIES {
            let (before, at, after) = (self.now(), Instant::now(), self.now());
            let apart = after.saturating_sub(before);
            if best.is_none_or(|(least, _)| apart < least) {
                best = Some((apart, (before + apart / 2, at)));
            }
        }
        best.map_or((0, self.began.1), |(_, both)| both)
    }

    /// Nanoseconds of a tick, as this run has seen it.
    fn tick_ns(&self) -> f64 {
        if !self.is_counter {
            return 1.0;
        }
        let (ticks, at) = self.both();
        let counted = ticks.saturating_sub(self.began.0).max(1);
        at.duration_since(self.began.1).as_nanos() as f64 / counted as f64
    }
}

/// Latencies, sorted.
pub struct Recorded(Histogram<u64>);

impl Recorded {
    /// None yet.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new() -> Result<Self, TransferError> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        histogram.map(Self).map_err(|error| TransferError::Unusable { why: error.to_string() })
    }

    /// Adds one, in ticks.
    pub fn add(&mut self, ticks: u64) {
        self.0.saturating_record(ticks);
    }

    /// Nanoseconds and how often each was seen, each divided by `parts`.
    pub fn told(&self, clock: &Clock, parts: u64) -> Vec<(u64, u64)> {
        let scale = clock.tick_ns() / parts.max(1) as f64;
        let ns = |ticks: u64| (self.0.median_equivalent(ticks) as f64 * scale).round() as u64;
        self.0.iter_recorded().map(|step| (ns(step.value_iterated_to()), step.count_at_value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ticks_become_nanoseconds() {
        for is_counter in [false, cfg!(target_arch = "x86_64")] {
            let mut clock = Clock::start();
            clock.is_counter = is_counter;
            clock.began = clock.both();
            let (before, at) = clock.both();
            sleep(Duration::from_millis(2));
            let mut recorded = Recorded::new().unwrap();
            let (after, end) = clock.both();
            recorded.add(after - before);
            let [(ns, 1)] = recorded.told(&clock, 1)[..] else { panic!("one was added") };
            let slept = end.duration_since(at).as_nanos() as f64;
            assert!((ns as f64 / slept - 1.0).abs() < 0.2, "{ns} and {slept}: counter {is_counter}");
        }
    }

    #[test]
    fn latencies_keep_four_digits() {
        let clock = Clock { is_counter: false, began: (0, Instant::now()) };
        let mut recorded = Recorded::new().unwrap();
        recorded.add(278_111_111);
        let [(ns, 1)] = recorded.told(&clock, 1)[..] else { panic!("one was added") };
        assert!(ns.abs_diff(278_111_111) < 27_811, "{ns}");
    }
}
