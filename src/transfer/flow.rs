//! As many messages as possible: the loop that bandwidth is measured in.
//!
//! A flow is one end's part. Posting a chain and polling an array are all that happens for a message; the clock is read once for some
//! turns, and nothing is allocated, locked or asked of the kernel while messages flow.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::credit;
use super::end::{DATAGRAM_HEADER, End, Link};
use super::layout::{places, start};
use super::watch::{Idle, Time, Watch};
use super::{Limit, Operation, Progress, RunPlan, RunResult, TransferError, Transport};
use crate::verbs::{Completions, Region, SendKind, SendRing, SendRingInit};

/// Completions taken at once.
const TAKEN: usize = 32;
/// Turns between two looks at the clock.
const TURNS: u32 = 64;
/// How long an event is slept for before the clock is looked at; and before credit is, which comes without an event.
const SLEEP_MS: u8 = 20;
const CREDIT_MS: u8 = 1;
/// Unreliable messages that have not arrived after so long will not.
const LATE: Duration = Duration::from_millis(20);

/// What is posted on one queue pair.
struct Sender {
    ring: SendRing,
    posted: u64,
    done: u64,
    /// Messages to send in all.
    most: u64,
}

/// One end's part of a run.
pub struct Flow<'a> {
    link: &'a mut Link,
    senders: Vec<Sender>,
    room: Completions,
    depth: u64,
    size: u64,
    receives: bool,
    /// Whether messages take receive requests of the other side, of which there must be some.
    needs_credit: bool,
    lacks_credit: bool,
    expected_bytes: u32,
    received: u64,
    first_received: Option<Instant>,
    last_received: Option<Instant>,
    last_done: Option<Instant>,
    armed: bool,
}

/// The requests that a run's plan asks for.
pub fn ring(link: &Link, region: &Region, plan: &RunPlan, index: usize, signal_chains: usize) -> SendRing {
    let reads = plan.operation == Operation::Read;
    let batch = plan.batch.clamp(1, plan.depth.max(1)) as usize;
    let unit = batch * signal_chains.max(1);
    let places = places(plan.size_bytes as usize, region.length(), plan.touch, plan.shift_bytes as usize, unit, unit);
    // A read brings the other side's outgoing data into the own incoming half; a write the reverse.
    let (local, remote) = (start(region.length(), reads), start(link.remote.2 as usize, !reads));
    let offsets: Vec<(usize, u64)> = places.iter().map(|place| (local + place, *place as u64)).collect();
    let kind = match (plan.operation, plan.immediate) {
        (Operation::Write, false) => SendKind::Write,
        (Operation::Write, true) => SendKind::WriteWithImmediate,
        (Operation::Read, _) => SendKind::Read,
        (Operation::Send, false) => SendKind::Send,
        (Operation::Send, true) => SendKind::SendWithImmediate,
    };
    SendRing::new(&SendRingInit {
        kind,
        local: region,
        remote: (link.remote.0 + remote as u64, link.remote.1),
        size: plan.size_bytes,
        offsets: &offsets,
        batch,
        signal_chains,
        inline: plan.inline && !reads,
        id: index as u64,
        datagrams: link.datagrams.get(index).cloned().flatten(),
    })
}

impl<'a> Flow<'a> {
    /// Makes everything ready.
    pub fn new(end: &'a mut End, plan: &RunPlan) -> Result<Self, TransferError> {
        let End { link, region, .. } = end;
        let link = link.as_mut().ok_or_else(|| TransferError::Unusable { why: "there are no queue pairs".to_owned() })?;
        let most = match plan.limit {
            Limit::Iterations(count) => count,
            Limit::TimeMs(_) | Limit::UntilTold => u64::MAX,
        };
        let senders = match plan.sends {
            true => (0..link.queue_pairs.len())
                .map(|index| Sender { ring: ring(link, region, plan, index, 1), posted: 0, done: 0, most })
                .collect(),
            false => Vec::new(),
        };
        let header = if link.plan.transport == Transport::Ud { DATAGRAM_HEADER as u32 } else { 0 };
        Ok(Self {
            senders,
            room: Completions::new(TAKEN),
            depth: plan.depth.into(),
            size: plan.size_bytes.into(),
            receives: plan.receives,
            needs_credit: plan.arrives() && credit::is_kept(link.plan.transport),
            lacks_credit: false,
            expected_bytes: plan.size_bytes + header,
            received: 0,
            first_received: None,
            last_received: None,
            last_done: None,
            armed: false,
            link,
        })
    }

    /// The other end is in this process: it knows of this one's receive requests.
    fn grant(&self, other: &mut Self) {
        if other.needs_credit {
            for (index, receives) in self.link.receives.iter().enumerate() {
                other.link.credit.grant(index, receives.posted);
            }
        }
    }

    fn is_unreliable(&self) -> bool {
        self.link.plan.transport != Transport::Rc
    }

    /// One turn: posts what there is room for, takes what has completed. Tells whether anything happened.
    #[inline]
    fn turn(&mut self) -> Result<bool, TransferError> {
        let mut moved = false;
        let Link { queue_pairs, credit, send_cq, receives, .. } = &mut *self.link;
        self.lacks_credit = false;
        for (index, (sender, queue_pair)) in self.senders.iter_mut().zip(queue_pairs.iter()).enumerate() {
            let batch = (sender.ring.batch() as u64).min(sender.most - sender.posted);
            if batch > 0 && sender.posted - sender.done + batch <= self.depth {
                if self.needs_credit {
                    if !credit.allows(index, batch) {
                        self.lacks_credit = true;
                        continue;
                    }
                    credit.spend(index, batch);
                }
                sender.ring.post(queue_pair, batch as usize)?;
                sender.posted += batch;
                moved = true;
            }
        }
        if !self.senders.is_empty() || credit.is_on_wire() {
            for completion in send_cq.poll(&mut self.room)? {
                if completion.status() != 0 {
                    return Err(TransferError::of(completion, "send request", self.senders.iter().map(|sender| sender.done).sum()));
                }
                if let Some(index) = credit.told(completion.id()) {
                    let Some(receives) = receives.get(index) else { continue };
                    credit.announce(index, &queue_pairs[index], receives.posted, receives.step)?;
                    continue;
                }
                // One of an earlier run, which did not wait for it.
                let Some(sender) = self.senders.get_mut(completion.id() as usize) else { continue };
                sender.done += (sender.ring.batch() as u64).min(sender.posted - sender.done);
                moved = true;
            }
        }
        if self.receives {
            moved |= self.take_received()?;
        }
        Ok(moved)
    }

    #[inline]
    fn take_received(&mut self) -> Result<bool, TransferError> {
        let mut moved = false;
        for completion in self.link.recv_cq.poll(&mut self.room)? {
            if completion.status() != 0 {
                return Err(TransferError::of(completion, "receive request", self.received));
            }
            if completion.bytes() != self.expected_bytes {
                return Err(TransferError::ShortReceive {
                    expected_bytes: self.expected_bytes.into(),
                    got_bytes: completion.bytes().into(),
                });
            }
            let index = completion.id() as usize;
            let receives = &mut self.link.receives[index];
            receives.owed += 1;
            if receives.owed == receives.ring.batch() {
                receives.ring.post(&self.link.queue_pairs[index])?;
                receives.posted += receives.owed as u64;
                receives.owed = 0;
                self.link.credit.announce(index, &self.link.queue_pairs[index], receives.posted, receives.step)?;
            }
            self.received += 1;
            moved = true;
        }
        Ok(moved)
    }

    fn posted(&self) -> u64 {
        self.senders.iter().map(|sender| sender.posted).sum()
    }

    fn done(&self) -> u64 {
        self.senders.iter().map(|sender| sender.done).sum()
    }

    fn count(&self) -> u64 {
        self.done() + self.received
    }

    /// Begins nothing new.
    fn stop_posting(&mut self) {
        for sender in &mut self.senders {
            sender.most = sender.posted;
        }
    }

    fn has_sent_all(&self) -> bool {
        self.senders.iter().all(|sender| sender.posted == sender.most && sender.done == sender.posted)
    }

    /// Notes when things last moved, for the rate.
    fn note(&mut self, now: Instant, before: (u64, u64)) {
        if self.done() != before.0 {
            self.last_done = Some(now);
        }
        if self.received != before.1 {
            self.first_received.get_or_insert(now);
            self.last_received = Some(now);
        }
    }

    /// Asks for an event at the next completion.
    fn arm(&mut self) -> Result<(), TransferError> {
        if let Some(channel) = &self.link.channel {
            channel.drain();
        }
        if !self.senders.is_empty() || self.link.credit.is_on_wire() {
            self.link.send_cq.arm()?;
        }
        if self.receives {
            self.link.recv_cq.arm()?;
        }
        self.armed = true;
        Ok(())
    }

    fn result(&self, started: Instant) -> RunResult {
        let since = |at: Option<Instant>| at.map_or(0, |at| at.duration_since(started).as_nanos() as u64);
        RunResult {
            sent: Progress { messages: self.done(), bytes: self.done() * self.size, elapsed_ns: since(self.last_done) },
            received: Progress { messages: self.received, bytes: self.received * self.size, elapsed_ns: since(self.last_received) },
            ..RunResult::default()
        }
    }
}

/// Runs flows of one process until all of them have done their part.
pub fn drive(flows: &mut [Flow<'_>], watch: &mut Watch<'_>, linger: Duration) -> Result<Vec<RunResult>, TransferError> {
    let started = Instant::now();
    let heavy = flows.iter().any(|flow| flow.size * flow.senders.first().map_or(1, |sender| sender.ring.batch() as u64) >= 1 << 15);
    let turns = if heavy { 1 } else { TURNS };
    let sends = flows.iter().any(|flow| !flow.senders.is_empty());
    let sleeps = flows.iter().all(|flow| flow.link.channel.is_some());
    let mut is_up = false;
    let (mut sent_at, mut idle) = (None, Idle::default());
    loop {
        let mut moved = false;
        grant(flows);
        for flow in flows.iter_mut() {
            let counts = (flow.done(), flow.received);
            let mut has_moved = false;
            for _ in 0..turns {
                match flow.turn()? {
                    true => has_moved = true,
                    // Who only receives, and sleeps next, asks once and not again and again. Who sends gets more done for each time that it wakes by
                    // asking for a while.
                    false if sleeps && flow.senders.is_empty() => break,
                    false => {}
                }
            }
            if has_moved {
                flow.note(Instant::now(), counts);
                moved = true;
            }
        }
        let count = flows.iter().map(Flow::count).sum::<u64>();
        let done: u64 = flows.iter().map(Flow::done).sum();
        match watch.look(count, done * flows[0].size, !sends)? {
            Time::Left => {}
            Time::Up => {
                is_up = true;
                flows.iter_mut().for_each(Flow::stop_posting);
            }
            Time::Stalled => {
                return Err(TransferError::Stalled {
                    waited_ms: watch.still_ms(),
                    posted: flows.iter().map(Flow::posted).sum(),
                    completed: done,
                    received: flows.iter().map(|flow| flow.received).sum(),
                    lacks_credit: flows.iter().any(|flow| flow.lacks_credit),
                });
            }
        }
        let all_sent = flows.iter().all(Flow::has_sent_all);
        if sends && all_sent && sent_at.is_none() {
            sent_at = Some(Instant::now());
        }
        let has_lingered = sent_at.is_some_and(|at| at.elapsed() >= linger);
        if if sends { has_lingered && all_arrived(flows) } else { is_up } {
            return Ok(flows.iter().map(|flow| flow.result(started)).collect());
        }
        if moved {
            idle.ends();
        } else if !wait(flows)? {
            idle.rest();
        }
    }
}

/// Lets both ends in this process know of each other's receive requests.
fn grant(flows: &mut [Flow<'_>]) {
    let [first, second] = flows else { return };
    first.grant(second);
    second.grant(first);
}

/// Whether nothing is under way any more between flows of one process.
fn all_arrived(flows: &[Flow<'_>]) -> bool {
    let receivers = flows.iter().filter(|flow| flow.receives);
    let (mut arrived, mut latest) = (0, None);
    for flow in receivers {
        arrived += flow.received;
        latest = latest.max(flow.last_received);
    }
    let [_, _] = flows else { return true };
    let none_receives = flows.iter().all(|flow| !flow.receives);
    none_receives || arrived == flows.iter().map(Flow::done).sum::<u64>() || {
        let last = latest.max(flows.iter().filter_map(|flow| flow.last_done).max());
        flows.iter().any(Flow::is_unreliable) && last.is_some_and(|last| last.elapsed() > LATE)
    }
}

/// Sleeps until an event, if these flows use events; after arming, what came in between is looked for first. Tells whether they do.
fn wait(flows: &mut [Flow<'_>]) -> Result<bool, TransferError> {
    if flows.iter().any(|flow| flow.link.channel.is_none()) {
        return Ok(false);
    }
    if flows.iter().any(|flow| !flow.armed) {
        return flows.iter_mut().try_for_each(Flow::arm).map(|()| true);
    }
    let mut files: Vec<PollFd<'_>> =
        flows.iter().filter_map(|flow| flow.link.channel.as_ref()).map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN)).collect();
    let sleep = if flows.iter().any(|flow| flow.lacks_credit) { CREDIT_MS } else { SLEEP_MS };
    let _ = poll(&mut files, PollTimeout::from(sleep));
    for flow in flows {
        flow.armed = false;
    }
    Ok(true)
}
