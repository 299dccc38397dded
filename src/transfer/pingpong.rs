//! One message at a time, to and fro: the loop that latency is measured in.
//!
//! A written message is seen to arrive by its last byte, which changes from message to message; a sent one by its completion.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock::{Clock, Recorded};
use super::end::{DATAGRAM_HEADER, End, Receives};
use super::flow::ring;
use super::layout::{places, start};
use super::watch::{Idle, Time, Watch};
use super::{CompletionMode, Limit, Operation, Progress, RunPlan, RunResult, TransferError, Transport};
use crate::verbs::{CompletionChannel, CompletionQueue, Completions, QueuePair, Region, SendRing};

/// Send completions are asked for once in so many messages, as far as the queue is that deep.
const SIGNAL: u32 = 16;
/// Turns of waiting between two looks at the clock.
const TURNS: u32 = 256;
/// Messages between two looks at whether time is up, unless one of them takes so many ticks: at any counter's rate less than a millisecond.
const SAMPLES: usize = 256;
const SLOW_TICKS: u64 = 1_000_000;
const SLEEP_MS: u8 = 20;

/// One end's part. What a message takes is always inlined: a call saves and restores more registers than it does work, and four of them
/// cost 100 instructions of the 500 that a read of 64 bytes takes in the process.
pub struct Pong<'a> {
    queue_pair: &'a QueuePair,
    send_cq: &'a CompletionQueue,
    recv_cq: &'a CompletionQueue,
    channel: Option<CompletionChannel>,
    /// Whether an event was asked for and has not been taken; and whether it is there.
    armed: bool,
    has_event: bool,
    receives: Option<&'a mut Receives>,
    region: &'a Region,
    ring: SendRing,
    room: Completions,
    is_read: bool,
    by_completion: bool,
    last_byte: Vec<usize>,
    signal: u64,
    /// Requests that may be under way beside those that earlier runs have left.
    places: u64,
    left: &'a mut u32,
    posted: u64,
    done: u64,
    arrived: u64,
    expected_bytes: u32,
    size: u64,
}

impl<'a> Pong<'a> {
    /// Makes everything ready: from then on messages of the other side are seen.
    pub fn new(end: &'a mut End, plan: &RunPlan) -> Result<Self, TransferError> {
        let End { link, region, .. } = end;
        let link = link.as_mut().ok_or_else(|| TransferError::Unusable { why: "there are no queue pairs".to_owned() })?;
        let plan = RunPlan { batch: 1, ..plan.clone() };
        let is_read = plan.operation == Operation::Read;
        let usual = SIGNAL.min(link.plan.send_depth / 2).max(1);
        let left = link.left_without_completion;
        let signal = if is_read || left >= usual { 1 } else { usual };
        let ring = ring(link, region, &plan, 0, signal as usize);
        let header = if link.plan.transport == Transport::Ud { DATAGRAM_HEADER as u32 } else { 0 };
        // Where each message's last byte lies, relative to the data of a half; the same on both sides.
        let size = plan.size_bytes as usize;
        let last_byte = places(size, region.length(), plan.touch, plan.shift_bytes as usize, signal as usize, signal as usize);
        for place in &last_byte {
            // What an earlier run has left may look like a message.
            region.store(start(region.length(), true) + place + size.max(1) - 1, 0);
        }
        let channel = (link.plan.completing == CompletionMode::Event).then(|| link.channel.clone()).flatten();
        if let Some(channel) = &channel {
            // What an earlier run has left.
            channel.drain();
        }
        Ok(Self {
            by_completion: plan.operation == Operation::Send || plan.immediate,
            last_byte: last_byte.into_iter().map(|place| place + size.max(1) - 1).collect(),
            places: link.plan.send_depth.saturating_sub(usual.max(left)).max(1).into(),
            left: &mut link.left_without_completion,
            channel,
            armed: false,
            has_event: false,
            queue_pair: only(&link.queue_pairs)?,
            send_cq: &link.send_cq,
            recv_cq: &link.recv_cq,
            receives: link.receives.first_mut(),
            region,
            ring,
            room: Completions::new(1),
            is_read,
            signal: signal.into(),
            posted: 0,
            done: 0,
            arrived: 0,
            expected_bytes: if plan.operation == Operation::Send { plan.size_bytes + header } else { plan.size_bytes },
            size: plan.size_bytes.into(),
        })
    }

    /// What the last byte of a message is; never twice the same in a row, and never what memory has at first.
    fn mark(count: u64) -> u8 {
        (count % 255) as u8 + 1
    }

    #[inline(always)]
    fn post(&mut self) -> Result<(), TransferError> {
        if !self.by_completion {
            let place = self.last_byte[(self.posted % self.last_byte.len() as u64) as usize];
            self.region.store(start(self.region.length(), false) + place, Self::mark(self.posted));
        }
        self.ring.post_next(self.queue_pair)?;
        self.posted += 1;
        Ok(())
    }

    /// Asks for the next message of the other side's memory, and looks once whether it is here.
    #[inline(always)]
    fn read(&mut self) -> Result<bool, TransferError> {
        self.ring.post_next(self.queue_pair)?;
        self.posted += 1;
        self.take_sent()?;
        Ok(self.done == self.posted)
    }

    /// Whether the next message (or, for a read, what was asked for) is here.
    #[inline(always)]
    fn has_arrived(&mut self) -> Result<bool, TransferError> {
        if self.is_read {
            self.take_sent()?;
            self.arrived = self.done;
            return Ok(self.done == self.posted);
        }
        if !self.by_completion {
            let place = self.last_byte[(self.arrived % self.last_byte.len() as u64) as usize];
            if self.region.load(start(self.region.length(), true) + place) != Self::mark(self.arrived) {
                return Ok(false);
            }
            self.arrived += 1;
            return Ok(true);
        }
        let Some(completion) = self.recv_cq.poll_one(&mut self.room)? else { return Ok(false) };
        if completion.status() != 0 {
            return Err(TransferError::of(completion, "receive request", self.arrived));
        }
        if completion.bytes() != self.expected_bytes {
            return Err(TransferError::ShortReceive { expected_bytes: self.expected_bytes.into(), got_bytes: completion.bytes().into() });
        }
        if let Some(receives) = &mut self.receives {
            receives.owed += 1;
            if receives.owed == receives.ring.batch() {
                receives.ring.post(self.queue_pair)?;
                receives.owed = 0;
            }
        }
        self.arrived += 1;
        Ok(true)
    }

    /// Takes a completion of what was sent, once there may be some, or while waiting: an error is seen there.
    #[inline(always)]
    fn take_sent(&mut self) -> Result<(), TransferError> {
        if let Some(completion) = self.send_cq.poll_one(&mut self.room)? {
            if completion.status() != 0 {
                return Err(TransferError::of(completion, "send request", self.done));
            }
            self.done += self.signal;
        }
        Ok(())
    }

    /// Whether another message may be posted without filling the queue.
    #[inline]
    fn has_place(&self) -> bool {
        // What an earlier run has left may complete now, so more may be done than posted.
        self.posted < self.done + self.places
    }

    /// Whether all completions are taken that will ever come.
    fn has_all(&self) -> bool {
        self.done >= self.posted - self.posted % self.signal
    }

    /// Takes the completions that are still to come, and notes how many requests make none.
    fn finish(&mut self, watch: &mut Watch<'_>) -> Result<(), TransferError> {
        wait_for_completions(self, watch, |pong| pong.has_all())?;
        let own = (self.posted - self.done) as u32;
        *self.left = if self.done > 0 { own } else { *self.left + own };
        Ok(())
    }

    /// Sleeps until an event, or for so long that an error of the other queue is looked for. Only the queue is armed that tells of a message. The event
    /// is taken before the next sleep: here a message would wait for that, and is answered first.
    fn sleep(&mut self) -> Result<bool, TransferError> {
        let Some(channel) = self.channel.clone() else { return Ok(false) };
        if self.has_event {
            (self.has_event, self.armed) = (false, !channel.take());
        }
        if !self.armed {
            let queue = if self.is_read { self.send_cq } else { self.recv_cq };
            queue.arm()?;
            self.armed = true;
            if self.has_arrived()? {
                return Ok(true);
            }
        }
        self.has_event = poll(&mut [PollFd::new(channel.as_fd(), PollFlags::POLLIN)], PollTimeout::from(SLEEP_MS)) == Ok(1);
        self.has_arrived()
    }
}

/// What waiting ended with.
#[derive(PartialEq, Eq)]
enum Waited {
    Arrived,
    Up,
}

/// Waits until a message is here, or the clock says that none will be waited for any more.
#[inline(always)]
fn wait(pong: &mut Pong<'_>, watch: &mut Watch<'_>, told: bool) -> Result<Waited, TransferError> {
    if pong.has_arrived()? { Ok(Waited::Arrived) } else { wait_longer(pong, watch, told) }
}

fn wait_longer(pong: &mut Pong<'_>, watch: &mut Watch<'_>, told: bool) -> Result<Waited, TransferError> {
    let mut idle = Idle::default();
    loop {
        for _ in 0..TURNS {
            if pong.has_arrived()? {
                return Ok(Waited::Arrived);
            }
            if pong.channel.is_some() {
                if pong.sleep()? {
                    return Ok(Waited::Arrived);
                }
                break;
            }
        }
        if !pong.is_read {
            pong.take_sent()?;
        }
        idle.rest();
        match watch.look(pong.arrived, pong.arrived * pong.size, told)? {
            Time::Up if told => return Ok(Waited::Up),
            Time::Left | Time::Up => {}
            Time::Stalled => {
                let (posted, completed, received) = (pong.posted, pong.done, pong.arrived);
                return Err(TransferError::Stalled { waited_ms: watch.still_ms(), posted, completed, received, lacks_credit: false });
            }
        }
    }
}

/// Makes room in the send queue.
#[inline(always)]
fn make_place(pong: &mut Pong<'_>, watch: &mut Watch<'_>) -> Result<(), TransferError> {
    if pong.posted.is_multiple_of(pong.signal) {
        pong.take_sent()?;
    }
    if pong.has_place() { Ok(()) } else { wait_for_completions(pong, watch, |pong| pong.has_place()) }
}

/// Takes completions of what was sent until `is_enough`.
fn wait_for_completions(pong: &mut Pong<'_>, watch: &mut Watch<'_>, is_enough: impl Fn(&Pong<'_>) -> bool) -> Result<(), TransferError> {
    while !is_enough(pong) {
        pong.take_sent()?;
        if watch.look(pong.arrived, pong.arrived * pong.size, false)? == Time::Stalled {
            let (posted, completed, received) = (pong.posted, pong.done, pong.arrived);
            return Err(TransferError::Stalled { waited_ms: watch.still_ms(), posted, completed, received, lacks_credit: false });
        }
    }
    Ok(())
}

/// Latencies, each from the end of one message to the end of the next, as perftest takes it.
struct Timed {
    clock: Clock,
    before: u64,
    /// Kept as they are while messages move, and sorted in when there are many: not within what is measured.
    samples: Vec<u64>,
    recorded: Recorded,
}

impl Timed {
    fn start() -> Result<Self, TransferError> {
        let recorded = Recorded::new()?;
        let clock = Clock::start();
        Ok(Self { before: clock.now(), clock, samples: Vec::with_capacity(SAMPLES), recorded })
    }

    /// A message has ended. Whether it is time to look at the clock of the run.
    #[inline(always)]
    fn take(&mut self) -> bool {
        let now = self.clock.now();
        let taken = now - self.before;
        self.samples.push(taken);
        self.before = now;
        self.samples.len() == SAMPLES || taken > SLOW_TICKS
    }

    fn sort_in(&mut self) {
        self.samples.drain(..).for_each(|sample| self.recorded.add(sample));
    }
}

/// The queue pair of a link that has only one.
pub fn only(queue_pairs: &[QueuePair]) -> Result<&QueuePair, TransferError> {
    queue_pairs.first().ok_or_else(|| TransferError::Unusable { why: "there are no queue pairs".to_owned() })
}

/// The side that begins, with the other one in the same process where it is there.
pub fn ping(a: &mut Pong<'_>, other: Option<&mut Pong<'_>>, plan: &RunPlan, watch: &mut Watch<'_>) -> Result<RunResult, TransferError> {
    let is_read = plan.operation == Operation::Read;
    let mut b = other.filter(|_| !is_read);
    let most = match plan.limit {
        Limit::Iterations(count) => count,
        Limit::TimeMs(_) | Limit::UntilTold => u64::MAX,
    };
    let mut timed = Timed::start()?;
    let started = Instant::now();
    let mut time = Time::Left;
    while a.posted < most && time == Time::Left {
        if is_read {
            reads(a, most, &mut timed, watch)?
        } else {
            to_and_fro(a, b.as_deref_mut(), most, &mut timed, watch)?
        }
        timed.sort_in();
        time = watch.look(a.posted, a.posted * a.size, false)?;
        timed.before = timed.clock.now();
    }
    let elapsed_ns = started.elapsed().as_nanos() as u64;
    a.finish(watch)?;
    b.map_or(Ok(()), |b| b.finish(watch))?;
    let moved = Progress { messages: a.posted, bytes: a.posted * a.size, elapsed_ns };
    // To and fro; a read is both in one.
    let halves = if is_read { 1 } else { 2 };
    let latencies = timed.recorded.told(&timed.clock, halves);
    Ok(RunResult { sent: moved, received: if is_read { Progress::default() } else { moved }, cpu_ns: 0, latencies })
}

/// Messages to and fro until it is time to look at the clock.
fn to_and_fro(
    a: &mut Pong<'_>,
    mut b: Option<&mut Pong<'_>>,
    most: u64,
    timed: &mut Timed,
    watch: &mut Watch<'_>,
) -> Result<(), TransferError> {
    loop {
        make_place(a, watch)?;
        a.post()?;
        if let Some(b) = &mut b {
            wait(b, watch, false)?;
            make_place(b, watch)?;
            b.post()?;
        }
        wait(a, watch, false)?;
        if timed.take() || a.posted == most {
            return Ok(());
        }
    }
}

/// Reads until it is time to look at the clock: a loop of its own, since what else is asked of other operations is 0.1 % of the shortest one.
fn reads(a: &mut Pong<'_>, most: u64, timed: &mut Timed, watch: &mut Watch<'_>) -> Result<(), TransferError> {
    loop {
        if !a.read()? {
            wait_longer(a, watch, false)?;
        }
        if timed.take() || a.posted == most {
            a.arrived = a.done;
            return Ok(());
        }
    }
}

/// The side that answers, until it is told to end.
pub fn pong(b: &mut Pong<'_>, plan: &RunPlan, watch: &mut Watch<'_>) -> Result<RunResult, TransferError> {
    let started = Instant::now();
    if plan.operation == Operation::Read {
        while watch.look(0, 0, true)? != Time::Up {
            std::thread::sleep(Duration::from_millis(2));
        }
        return Ok(RunResult::default());
    }
    while wait(b, watch, true)? == Waited::Arrived {
        make_place(b, watch)?;
        b.post()?;
    }
    b.finish(watch)?;
    let moved = |messages: u64| Progress { messages, bytes: messages * b.size, elapsed_ns: started.elapsed().as_nanos() as u64 };
    Ok(RunResult { sent: moved(b.posted), received: moved(b.arrived), ..RunResult::default() })
}
