//! Time of a run: its end, its progress, and when nothing moves any more.

use std::sync::LazyLock;
use std::thread::{available_parallelism, yield_now};
use std::time::{Duration, Instant};

use super::{Limit, Progress, TransferError};

/// How often somebody is told how far a run is; and where the run waits for being told to end.
const TELL_EVERY: Duration = Duration::from_millis(100);
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What the one who is told answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    GoOn,
    /// Come to an end.
    Finish,
    /// Nobody is interested any more.
    Abandon,
}

/// Who is told how far a run is.
pub trait RunObserver {
    /// Messages may arrive now.
    fn ready(&mut self);
    /// So far it is.
    fn told(&mut self, progress: Progress) -> Control;
}

/// The clock of a run.
pub struct Watch<'a> {
    host: &'a mut dyn RunObserver,
    started: Instant,
    ends: Option<Instant>,
    tell: Instant,
    tell_every: Duration,
    moved: Instant,
    count: u64,
    patience: Duration,
}

/// Waiting without an event: asks again and again, but leaves the processor to others once that has lasted.
///
/// Who moves data may need the very processor that asks: Soft-RoCE and Soft-iWARP do all their work in threads of the kernel, and a host
/// may have fewer processors than threads. Below a millisecond nothing is given up, so no message that is sooner pays a system call; but with
/// one processor it is left at once, for whoever else may move data can only do so on that one.
#[derive(Default)]
pub struct Idle {
    since: Option<Instant>,
}

/// How long is asked without leaving the processor.
static PATIENCE: LazyLock<Duration> =
    LazyLock::new(|| if available_parallelism().is_ok_and(|count| count.get() == 1) { Duration::ZERO } else { Duration::from_millis(1) });

impl Idle {
    /// Something has come.
    #[inline]
    pub fn ends(&mut self) {
        self.since = None;
    }

    /// Nothing has come yet.
    pub fn rest(&mut self) {
        match self.since {
            Some(since) if since.elapsed() >= *PATIENCE => yield_now(),
            Some(_) => {}
            None => self.since = Some(Instant::now()),
        }
    }
}

/// What the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// There is time.
    Left,
    /// Begin nothing new.
    Up,
    /// Nothing has moved for too long.
    Stalled,
}

impl<'a> Watch<'a> {
    /// Starts the clock.
    pub fn start(host: &'a mut dyn RunObserver, limit: Limit, patience_ms: u64) -> Self {
        let started = Instant::now();
        let ends = match limit {
            Limit::TimeMs(ms) => started.checked_add(Duration::from_millis(ms)),
            Limit::Iterations(_) | Limit::UntilTold => None,
        };
        let patience = Duration::from_millis(patience_ms);
        let tell_every = if limit == Limit::UntilTold { ASK_EVERY } else { TELL_EVERY };
        Self { host, started, ends, tell: started + tell_every, tell_every, moved: started, count: 0, patience }
    }

    /// Nanoseconds since the start.
    pub fn elapsed_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Looks at the clock. `count` is whatever grows as long as things move.
    ///
    /// # Errors
    /// Told to abandon the run.
    pub fn look(&mut self, count: u64, bytes: u64, waits_long: bool) -> Result<Time, TransferError> {
        let now = Instant::now();
        if count != self.count {
            (self.count, self.moved) = (count, now);
        }
        let mut time = if self.ends.is_some_and(|ends| now >= ends) { Time::Up } else { Time::Left };
        if now >= self.tell {
            self.tell = now + self.tell_every;
            match self.host.told(Progress { messages: count, bytes, elapsed_ns: self.elapsed_ns() }) {
                Control::GoOn => {}
                Control::Finish => {
                    self.ends = Some(now);
                    time = Time::Up;
                }
                Control::Abandon => return Err(TransferError::Stopped),
            }
        }
        if !waits_long && now - self.moved >= self.patience {
            return Ok(Time::Stalled);
        }
        Ok(time)
    }

    /// How long nothing has moved.
    pub fn still_ms(&self) -> u64 {
        self.moved.elapsed().as_millis() as u64
    }
}
