//! GPU memory by way of locked host memory: chunks are copied out, moved, and copied in, all three at once.
//!
//! A chunk has a slot in the locked memory of each staged end from its first copy to its last one. The GPU's copies run beside the
//! processor, which moves other chunks meanwhile, so the slowest of the three sets the pace. Both ends are of this process: a copy on
//! the far side begins when the near side knows that its chunk has arrived.

use std::collections::BTreeMap;
use std::time::Instant;

use super::clock::{Clock, Recorded};
use super::end::End;
use super::layout::start;
use super::pingpong::only;
use super::serve::{check, processor_ns};
use super::watch::{RunObserver, Time, Watch};
use super::{Limit, Operation, Progress, RunKind, RunPlan, RunResult, StagedPart, TransferError};
use crate::gpu::{Direction, Event, GpuError, Stream};
use crate::verbs::{Completions, SendKind, SendRing, SendRingInit};

/// A chunk is at most that long where nobody says how long: a copy of it takes several times as long as asking for it.
const CHUNK: usize = 512 << 10;
/// Slots at most.
const SLOTS: usize = 32;

/// The GPU's side of an end.
struct Copier<'a> {
    end: &'a End,
    stream: Stream,
    events: Vec<Event>,
    direction: Direction,
}

/// How a message is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    chunk: usize,
    chunks: usize,
    slots: usize,
    /// Chunks that one copy takes: to ask for one takes microseconds, of which a short chunk has few.
    group: usize,
    /// Chunks whose copies are asked for together and whose end one event tells, for the same reason.
    burst: usize,
}

/// Bursts of copies that the slots hold at least; of fewer, one could not run beside another and the provider.
const BURSTS: usize = 4;
/// Chunks that one copy takes at most.
const GROUP: usize = 4;

impl Cut {
    /// The event of the burst that a chunk belongs to.
    fn event(self, chunk: u64) -> usize {
        chunk as usize / self.burst % self.slots.div_ceil(self.burst)
    }
}

/// Cuts a message into equal chunks of `most` bytes at most; one that does not divide so is moved whole. `room` is what a half of the locked
/// memory has, `depth` what the queue takes.
fn cut(size: usize, most: usize, room: usize, depth: usize) -> Cut {
    let least = size.div_ceil(most.max(1));
    let chunks = (least..=least * 2).find(|count| size.is_multiple_of(*count)).unwrap_or(1);
    let chunk = size / chunks.max(1);
    let slots = (room / chunk.max(1)).clamp(1, SLOTS).min(depth.max(1));
    // A copy ends neither within a message nor within the slots.
    let fits = |count: &usize| slots.is_multiple_of(*count) && slots / count >= BURSTS;
    let group = (1..=GROUP).rev().find(|group| chunks.is_multiple_of(*group) && fits(group)).unwrap_or(1);
    let burst = (group..=slots).rev().find(|burst| burst.is_multiple_of(group) && fits(burst)).unwrap_or(group);
    Cut { chunk, chunks, slots, group, burst }
}

/// Runs the end that sends, with the other one.
pub fn run(ends: &mut BTreeMap<u8, End>, plans: &[(u8, RunPlan)], host: &mut dyn RunObserver) -> Result<Vec<RunResult>, TransferError> {
    let unusable = |why: &str| TransferError::Unusable { why: why.to_owned() };
    let (number, plan) = plans.iter().find(|(_, plan)| plan.sends).ok_or_else(|| unusable("no end is to run"))?;
    if plan.operation == Operation::Send || plan.immediate || plans.iter().filter(|(_, plan)| plan.sends).count() > 1 {
        return Err(unusable("staged memory is moved by write and read without immediate data, one way at a time"));
    }
    let far_number = *ends.keys().find(|other| *other != number).ok_or_else(|| unusable("staged memory needs both ends in one process"))?;
    let mut near = ends.remove(number).ok_or_else(|| unusable("the end is not open"))?;
    let result = match ends.get(&far_number) {
        Some(far) => check(&near, plan).and_then(|()| between(&mut near, far, plan, host)),
        None => Err(unusable("the other end is not open")),
    };
    ends.insert(*number, near);
    let result = result?;
    Ok(plans.iter().map(|(of, _)| if of == number { result.clone() } else { RunResult::default() }).collect())
}

fn copier(end: &End, direction: Direction, events: usize) -> Result<Option<Copier<'_>>, GpuError> {
    let Some(staging) = &end.staging else { return Ok(None) };
    let context = staging.buffer.context();
    let events = (0..events).map(|_| context.event()).collect::<Result<_, _>>()?;
    Ok(Some(Copier { end, stream: context.stream()?, events, direction }))
}

impl Copier<'_> {
    /// Asks for the copies of a burst of chunks, from `first` to before `end`, between their places in GPU memory and their slots.
    fn ask(&self, cut: Cut, (first, end): (u64, u64), places: &Where<'_>) -> Result<(), GpuError> {
        let Some(staging) = &self.end.staging else { return Ok(()) };
        for chunk in (first..end).step_by(cut.group) {
            let (place, slot) = places(chunk as usize);
            self.stream.copy(self.direction, (&staging.buffer, place), (&staging.pinned, slot), cut.chunk * cut.group)?;
        }
        self.events[cut.event(first)].record(&self.stream)
    }

    /// Whether the copy of a chunk, which was asked for, has ended.
    fn has_ended(&self, cut: Cut, chunk: u64) -> Result<bool, GpuError> {
        self.events[cut.event(chunk)].is_past()
    }
}

fn gpu(error: GpuError) -> TransferError {
    TransferError::Unusable { why: format!("copying between GPU and host: {error}") }
}

fn between(near: &mut End, far: &End, plan: &RunPlan, host: &mut dyn RunObserver) -> Result<RunResult, TransferError> {
    let depth = near.link.as_ref().map_or(1, |link| link.plan.send_depth as usize);
    let length = near.region.length().min(far.region.length());
    let most = if plan.staged.chunk_bytes == 0 { CHUNK } else { plan.staged.chunk_bytes as usize };
    let mut cut = cut(plan.size_bytes as usize, most, super::layout::room(length), depth);
    if plan.kind == RunKind::Latency {
        // One message at a time; its chunks may still overlap.
        cut = Cut { slots: cut.slots.min(cut.chunks), group: 1, burst: 1, ..cut };
    }
    let reads = plan.operation == Operation::Read;
    // A message's place, and a slot's, in a half of an end's memory.
    let place =
        |end: &End, receiving: bool, chunk: usize| start(end.region.length(), receiving) + plan.shift_bytes as usize + chunk * cut.chunk;
    let slot = |end: &End, receiving: bool, slot: usize| start(end.region.length(), receiving) + slot * cut.chunk;
    let offset = |end: &End, receiving: bool, index: usize| match end.staging {
        Some(_) => slot(end, receiving, index % cut.slots),
        None => place(end, receiving, index % cut.chunks),
    };
    // After so many chunks, slots and places come together again.
    let round = cut.slots * cut.chunks;
    let offsets: Vec<(usize, u64)> = (0..round).map(|index| (offset(near, reads, index), offset(far, !reads, index) as u64)).collect();
    let mut ring = SendRing::new(&SendRingInit {
        kind: if reads { SendKind::Read } else { SendKind::Write },
        local: &near.region,
        remote: (far.region.address(), far.region.remote_key()),
        size: cut.chunk as u32,
        offsets: &offsets,
        batch: 1,
        signal_chains: 1,
        inline: false,
        id: 0,
        datagrams: None,
    });
    let End { link, .. } = near;
    let link = link.take().ok_or_else(|| TransferError::Unusable { why: "there are no queue pairs".to_owned() })?;
    let moved = (|| {
        let near = &*near;
        let (source, target) = if reads { (far, near) } else { (near, far) };
        let (copies, moves) = (plan.staged.part != StagedPart::Provider, plan.staged.part != StagedPart::Copies);
        let side = |end, direction| if copies { copier(end, direction, cut.slots.div_ceil(cut.burst)).map_err(gpu) } else { Ok(None) };
        let (out, back) = (side(source, Direction::ToHost)?, side(target, Direction::ToGpu)?);
        let mut pipe = Pipe { cut, counts: Counts::default(), out, back, moves };
        let (from, to) = (
            |index: usize| (place(source, false, index % cut.chunks), slot(source, false, index % cut.slots)),
            |index: usize| (place(target, true, index % cut.chunks), slot(target, true, index % cut.slots)),
        );
        pipe.drive(&link, &mut ring, plan, host, &from, &to)
    })();
    near.link = Some(link);
    moved
}

/// Chunks that have come so far.
#[derive(Default)]
struct Counts {
    asked_out: u64,
    posted: u64,
    moved: u64,
    asked_back: u64,
    done: u64,
}

struct Pipe<'a> {
    cut: Cut,
    counts: Counts,
    out: Option<Copier<'a>>,
    back: Option<Copier<'a>>,
    /// Whether the provider moves chunks; they count as moved otherwise.
    moves: bool,
}

/// A chunk's place in GPU memory, and its slot's.
type Where<'a> = dyn Fn(usize) -> (usize, usize) + 'a;

impl Pipe<'_> {
    fn drive(
        &mut self,
        link: &super::end::Link,
        ring: &mut SendRing,
        plan: &RunPlan,
        host: &mut dyn RunObserver,
        from: &Where<'_>,
        to: &Where<'_>,
    ) -> Result<RunResult, TransferError> {
        let cpu_before = processor_ns();
        let chunks = self.cut.chunks as u64;
        let mut most = match plan.limit {
            Limit::Iterations(count) => count.saturating_mul(chunks),
            Limit::TimeMs(_) | Limit::UntilTold => u64::MAX,
        };
        let mut room = Completions::new(SLOTS);
        let (clock, mut latencies) = (Clock::start(), Recorded::new()?);
        host.ready();
        let mut watch = Watch::start(host, plan.limit, plan.patience_ms);
        let started = Instant::now();
        let (mut begun, mut last) = (clock.now(), 0_u64);
        loop {
            // For latency a message begins when the last one has ended.
            let is_between = self.counts.done.is_multiple_of(chunks) && self.counts.asked_out == self.counts.done;
            if plan.kind == RunKind::Latency && is_between && self.counts.asked_out < most {
                begun = clock.now();
            }
            let before = self.counts.done;
            self.turn(link, ring, &mut room, most, from, to)?;
            if self.counts.done != before {
                last = started.elapsed().as_nanos() as u64;
                if plan.kind == RunKind::Latency && self.counts.done.is_multiple_of(chunks) {
                    latencies.add(clock.now() - begun);
                }
            }
            if self.counts.done >= most {
                break;
            }
            match watch.look(self.counts.done / chunks, self.counts.done * self.cut.chunk as u64, false)? {
                Time::Left => {}
                // A message that was begun is brought to its end.
                Time::Up => most = most.min(self.counts.asked_out.div_ceil(chunks) * chunks),
                Time::Stalled => {
                    let Counts { posted, moved, done, .. } = self.counts;
                    return Err(TransferError::Stalled {
                        waited_ms: watch.still_ms(),
                        posted,
                        completed: moved,
                        received: done,
                        lacks_credit: false,
                    });
                }
            }
        }
        let messages = self.counts.done / chunks;
        Ok(RunResult {
            sent: Progress { messages, bytes: self.counts.done * self.cut.chunk as u64, elapsed_ns: last },
            received: Progress::default(),
            cpu_ns: processor_ns().saturating_sub(cpu_before),
            latencies: latencies.told(&clock, 1),
        })
    }

    /// Begins what can be begun, and takes note of what has ended.
    fn turn(
        &mut self,
        link: &super::end::Link,
        ring: &mut SendRing,
        room: &mut Completions,
        most: u64,
        from: &Where<'_>,
        to: &Where<'_>,
    ) -> Result<(), TransferError> {
        let Self { cut, counts, out, back, moves } = self;
        let cut = *cut;
        let (slots, burst) = (cut.slots as u64, cut.burst as u64);
        // The end of the burst that begins there; the last one may be shorter.
        let end = |first: u64| (first + burst).min(most);
        while counts.asked_out < most && end(counts.asked_out) - counts.done <= slots {
            let asked = (counts.asked_out, end(counts.asked_out));
            if let Some(out) = out {
                out.ask(cut, asked, from).map_err(gpu)?;
            }
            counts.asked_out = asked.1;
        }
        // One at a time: a provider that moves data while it is asked must not keep the copies waiting.
        if counts.posted < counts.asked_out {
            let is_out = match out {
                Some(out) if counts.posted.is_multiple_of(burst) => out.has_ended(cut, counts.posted).map_err(gpu)?,
                _ => true,
            };
            if is_out {
                if *moves {
                    ring.post(only(&link.queue_pairs)?, 1)?;
                } else {
                    counts.moved += 1;
                }
                counts.posted += 1;
            }
        }
        for completion in link.send_cq.poll(room)? {
            if completion.status() != 0 {
                return Err(TransferError::of(completion, "send request", counts.moved));
            }
            counts.moved += 1;
        }
        let Some(back) = back else {
            counts.done = counts.moved;
            return Ok(());
        };
        while counts.asked_back < most && end(counts.asked_back) <= counts.moved {
            let asked = (counts.asked_back, end(counts.asked_back));
            back.ask(cut, asked, to).map_err(gpu)?;
            counts.asked_back = asked.1;
        }
        // To look at an event costs as much as a short copy: it is done when nothing goes on without its slots.
        let waits = |counts: &Counts| counts.asked_out >= most || end(counts.asked_out) - counts.done > slots;
        while waits(counts) && counts.done < counts.asked_back && back.has_ended(cut, counts.done).map_err(gpu)? {
            counts.done = end(counts.done);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_into_equal_chunks() {
        assert_eq!(cut(64 << 20, CHUNK, 100 << 20, 256), Cut { chunk: CHUNK, chunks: 128, slots: 32, group: 4, burst: 8 });
        assert_eq!(cut(64 << 20, 4 << 20, 32 << 20, 256), Cut { chunk: 4 << 20, chunks: 16, slots: 8, group: 2, burst: 2 });
        assert_eq!(cut(64, CHUNK, 1 << 20, 256), Cut { chunk: 64, chunks: 1, slots: 32, group: 1, burst: 8 });
        let odd = cut(CHUNK + 1, CHUNK, 4 << 20, 256);
        assert_eq!(odd.chunks * odd.chunk, CHUNK + 1);
        assert_eq!(cut(1 << 20, CHUNK, 1 << 20, 256), Cut { chunk: CHUNK, chunks: 2, slots: 2, group: 1, burst: 1 });
        assert_eq!(cut(1 << 20, CHUNK, 64 << 20, 256), Cut { chunk: CHUNK, chunks: 2, slots: 32, group: 2, burst: 8 });
        assert_eq!(cut(1 << 20, CHUNK, 64 << 20, 4).slots, 4);
        for size in 1..5000_usize {
            let cut = cut(size * 977, CHUNK, 1 << 30, 64);
            assert_eq!(cut.chunk * cut.chunks, size * 977);
        }
    }
}
