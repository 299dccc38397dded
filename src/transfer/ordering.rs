//! Data, then a flag: whether whoever knows of the flag sees the data too.
//!
//! One end writes data and then a flag, as two RDMA writes on one queue pair, which have to arrive in that order (IBTA 1.5, C9-28, and PCIe
//! posted writes behind each other). The other end waits for the flag, or for its completion, and looks at the data at once: by the
//! processor, by a kernel of the GPU, or by copies. A number that is still that of the time before is one that the flag has overtaken.

use std::collections::BTreeMap;
use std::time::Instant;

use super::end::{End, Link};
use super::layout::{room, start};
use super::pingpong::only;
use super::watch::{RunObserver, Time, Watch};
use super::{Limit, OrderFacts, OrderPlan, OrderReader, Signal, TransferError};
use crate::gpu::{Context, GpuError, Kernels, Watched};
use crate::verbs::{Completions, Region, SendKind, SendRing, SendRingInit};

/// Bytes of the flag, and of a number of the data.
const WORD: usize = size_of::<u64>();
/// Data and flag are in different cache lines.
const LINE: usize = 64;
/// Turns of waiting between two looks at the clock.
const TURNS: u32 = 256;

/// Where both lie in a half of an end's memory.
#[derive(Clone, Copy)]
struct Places {
    data: usize,
    flag: usize,
}

impl Places {
    fn of(region: &Region, receiving: bool, bytes: usize) -> Self {
        let data = start(region.length(), receiving);
        Self { data, flag: data + bytes.next_multiple_of(LINE) }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Stale {
    iterations: u64,
    words: u64,
    first: Option<u64>,
}

impl Stale {
    fn add(&mut self, iteration: u64, words: u64) {
        if words > 0 {
            self.iterations += 1;
            self.words += words;
            self.first.get_or_insert(iteration);
        }
    }
}

/// Writes and looks, as often as the plan says.
pub fn run(ends: &mut BTreeMap<u8, End>, plan: &OrderPlan, host: &mut dyn RunObserver) -> Result<OrderFacts, TransferError> {
    let lacks = || TransferError::Unusable { why: "the order of writes is looked at with both ends in one process".to_owned() };
    if plan.writer == plan.reader {
        return Err(lacks());
    }
    let mut reader = ends.remove(&plan.reader).ok_or_else(lacks)?;
    let result = match ends.get_mut(&plan.writer) {
        Some(writer) => between(writer, &mut reader, plan, host),
        None => Err(lacks()),
    };
    ends.insert(plan.reader, reader);
    result
}

fn gpu(error: GpuError) -> TransferError {
    TransferError::Unusable { why: format!("looking at GPU memory: {error}") }
}

fn between(writer: &mut End, reader: &mut End, plan: &OrderPlan, host: &mut dyn RunObserver) -> Result<OrderFacts, TransferError> {
    let bytes = (plan.size_bytes as usize / WORD).max(1) * WORD;
    let least = room(reader.region.length()).min(room(writer.region.length()));
    if bytes.next_multiple_of(LINE) + WORD > least {
        return Err(TransferError::Unusable { why: format!("{bytes} bytes and a flag do not fit into {least} bytes of memory") });
    }
    let End { link, region, kernels, staging, context, pd, .. } = reader;
    let relaxed = if plan.relaxed { Some(pd.register_relaxed_pages(region.length())?) } else { None };
    let region = relaxed.as_ref().unwrap_or(region);
    let context = context.as_ref().filter(|_| staging.is_none());
    let attributes = context.map(Context::attributes);
    let who = match kernels {
        _ if region.is_of_host() => OrderReader::Processor,
        Some(_) => OrderReader::Gpu,
        None => OrderReader::Copies,
    };
    let mut facts = OrderFacts {
        reader: who,
        iterations: 0,
        stale_iterations: 0,
        stale_words: 0,
        first_stale: None,
        elapsed_ns: 0,
        promised: attributes.and_then(|attributes| attributes.writes_ordering),
        not_tried: None,
    };
    if plan.flush && attributes.and_then(|attributes| attributes.flush_by_host) != Some(true) {
        facts.not_tried = Some("this GPU's writes cannot be flushed by the host (GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS)".to_owned());
        return Ok(facts);
    }
    let unlinked = || TransferError::Unusable { why: "there are no queue pairs".to_owned() };
    let (near, far) = (writer.link.as_ref().ok_or_else(unlinked)?, link.as_mut().ok_or_else(unlinked)?);
    // What an earlier pass has left may look like a flag.
    let to = Places::of(region, true, bytes);
    region.write(to.data, &vec![0; to.flag + WORD - to.data]);
    let mut sender = Sender::new(&writer.region, near, (region, to), bytes, plan.signal);
    let mut eye = Eye { region, to, bytes, who, kernels: kernels.as_mut().filter(|_| who == OrderReader::Gpu) };
    host.ready();
    let mut watch = Watch::start(host, Limit::Iterations(plan.iterations), plan.patience_ms);
    let started = Instant::now();
    let stale = match plan.signal {
        Signal::Flag => by_flag(&mut sender, near, &mut eye, plan, &mut watch)?,
        Signal::Completion => by_completion(&mut sender, near, far, &mut eye, context.filter(|_| plan.flush), plan, &mut watch)?,
    };
    Ok(OrderFacts {
        iterations: plan.iterations,
        stale_iterations: stale.iterations,
        stale_words: stale.words,
        first_stale: stale.first,
        elapsed_ns: started.elapsed().as_nanos() as u64,
        ..facts
    })
}

/// The end that writes.
struct Sender<'a> {
    region: &'a Region,
    from: Places,
    bytes: usize,
    data: SendRing,
    flag: SendRing,
    room: Completions,
    /// Send requests that have not completed.
    open: u32,
}

impl<'a> Sender<'a> {
    fn new(region: &'a Region, link: &Link, (target, to): (&Region, Places), bytes: usize, signal: Signal) -> Self {
        let from = Places::of(region, false, bytes);
        let ring = |kind, size: usize, place, offset: usize| {
            SendRing::new(&SendRingInit {
                kind,
                local: region,
                remote: (target.address(), target.remote_key()),
                size: size as u32,
                offsets: &[(place, offset as u64)],
                batch: 1,
                signal_chains: 1,
                inline: false,
                id: 0,
                datagrams: link.datagrams.first().cloned().flatten(),
            })
        };
        let last = if signal == Signal::Flag { SendKind::Write } else { SendKind::WriteWithImmediate };
        let (data, flag) = (ring(SendKind::Write, bytes, from.data, to.data), ring(last, WORD, from.flag, to.flag));
        Self { region, from, bytes, data, flag, room: Completions::new(4), open: 0 }
    }

    /// Writes an iteration's data and flag.
    fn send(&mut self, link: &Link, iteration: u64) -> Result<(), TransferError> {
        let number = iteration.to_ne_bytes();
        self.region.write(self.from.data, &number.repeat(self.bytes / WORD));
        self.region.write(self.from.flag, &number);
        let queue_pair = only(&link.queue_pairs)?;
        self.data.post(queue_pair, 1)?;
        self.flag.post(queue_pair, 1)?;
        self.open += 2;
        Ok(())
    }

    /// Takes completions; tells whether there is nothing under way.
    fn is_done(&mut self, link: &Link, iteration: u64) -> Result<bool, TransferError> {
        for completion in link.send_cq.poll(&mut self.room)? {
            if completion.status() != 0 {
                return Err(TransferError::of(completion, "send request", iteration - 1));
            }
            self.open = self.open.saturating_sub(1);
        }
        Ok(self.open == 0)
    }
}

/// Whoever looks at the data.
struct Eye<'a> {
    region: &'a Region,
    to: Places,
    bytes: usize,
    who: OrderReader,
    kernels: Option<&'a mut Kernels>,
}

impl Eye<'_> {
    fn words(&self) -> usize {
        self.bytes / WORD
    }

    /// The flag, for who has no kernel that waits for it.
    fn flag(&self) -> u64 {
        if self.who == OrderReader::Processor {
            return self.region.load_word(self.to.flag);
        }
        let mut number = [0; WORD];
        self.region.read(self.to.flag, &mut number);
        u64::from_ne_bytes(number)
    }

    /// How many numbers are not an iteration's.
    fn stale(&mut self, iteration: u64) -> Result<u64, TransferError> {
        let words = self.words();
        if let Some(kernels) = &mut self.kernels {
            return kernels.stale(self.region.address() + self.to.data as u64, words as u64, iteration).map_err(gpu);
        }
        if self.who == OrderReader::Processor {
            let is_stale = |index: &usize| self.region.load_word(self.to.data + index * WORD) != iteration;
            return Ok((0..words).filter(is_stale).count() as u64);
        }
        let mut bytes = vec![0; self.bytes];
        self.region.read(self.to.data, &mut bytes);
        Ok(bytes.chunks_exact(WORD).filter(|word| **word != iteration.to_ne_bytes()).count() as u64)
    }
}

/// Waits until something is so. Gives an error where it is not for too long, or where nobody is interested any more.
fn wait(
    watch: &mut Watch<'_>,
    iteration: u64,
    bytes: usize,
    mut is_so: impl FnMut() -> Result<bool, TransferError>,
) -> Result<(), TransferError> {
    loop {
        for _ in 0..TURNS {
            if is_so()? {
                return Ok(());
            }
        }
        if watch.look(iteration, iteration * bytes as u64, false)? == Time::Stalled {
            let done = iteration - 1;
            return Err(TransferError::Stalled {
                waited_ms: watch.still_ms(),
                posted: iteration * 2,
                completed: done * 2,
                received: done,
                lacks_credit: false,
            });
        }
    }
}

fn by_flag(
    sender: &mut Sender<'_>,
    near: &Link,
    eye: &mut Eye<'_>,
    plan: &OrderPlan,
    watch: &mut Watch<'_>,
) -> Result<Stale, TransferError> {
    let (bytes, words) = (eye.bytes, eye.words() as u64);
    let address = eye.region.address();
    if let Some(kernels) = &mut eye.kernels {
        let what = Watched {
            flag: address + eye.to.flag as u64,
            data: address + eye.to.data as u64,
            words,
            first: 1,
            count: plan.iterations,
            patience_ns: plan.patience_ms * 1_000_000,
        };
        let watching = kernels.watch(what).map_err(gpu)?;
        for iteration in 1..=plan.iterations {
            sender.send(near, iteration)?;
            wait(watch, iteration, bytes, || Ok(sender.is_done(near, iteration)? && watching.seen().done >= iteration))?;
        }
        let seen = watching.finish().map_err(gpu)?;
        let first = (seen.stale_iterations > 0).then_some(seen.first);
        return Ok(Stale { iterations: seen.stale_iterations, words: seen.stale_words, first });
    }
    let mut stale = Stale::default();
    for iteration in 1..=plan.iterations {
        sender.send(near, iteration)?;
        wait(watch, iteration, bytes, || Ok(eye.flag() == iteration))?;
        stale.add(iteration, eye.stale(iteration)?);
        wait(watch, iteration, bytes, || sender.is_done(near, iteration))?;
    }
    Ok(stale)
}

fn by_completion(
    sender: &mut Sender<'_>,
    near: &Link,
    far: &mut Link,
    eye: &mut Eye<'_>,
    flushed: Option<&Context>,
    plan: &OrderPlan,
    watch: &mut Watch<'_>,
) -> Result<Stale, TransferError> {
    let mut stale = Stale::default();
    let mut room = Completions::new(4);
    for iteration in 1..=plan.iterations {
        sender.send(near, iteration)?;
        wait(watch, iteration, eye.bytes, || receive(far, &mut room, iteration))?;
        if let Some(context) = flushed {
            context.flush_writes().map_err(gpu)?;
        }
        stale.add(iteration, eye.stale(iteration)?);
        wait(watch, iteration, eye.bytes, || sender.is_done(near, iteration))?;
    }
    Ok(stale)
}

/// Whether the completion of a write with immediate data is there. The receive request that it took is posted again.
fn receive(link: &mut Link, room: &mut Completions, iteration: u64) -> Result<bool, TransferError> {
    let Link { recv_cq, receives, queue_pairs, .. } = link;
    let mut is_here = false;
    for completion in recv_cq.poll(room)? {
        if completion.status() != 0 {
            return Err(TransferError::of(completion, "receive request", iteration - 1));
        }
        is_here = true;
        if let (Some(receives), Some(queue_pair)) = (receives.first_mut(), queue_pairs.first()) {
            receives.owed += 1;
            if receives.owed == receives.ring.batch() {
                receives.ring.post(queue_pair)?;
                receives.owed = 0;
            }
        }
    }
    Ok(is_here)
}
