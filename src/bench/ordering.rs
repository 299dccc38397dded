//! The litmus of write order: data, then a flag, many times, for each size and each way of knowing that data is there.

use super::document::{Notice, OrderingResult};
use super::measure::Measurement;
use super::pair::Pair;
use super::runs::link_plan;
use crate::gpu::{MemoryKind, Path, WritesOrdering};
use crate::transfer::{AccessPattern, Operation, OrderPlan, ReceivePlan, RunKind, Signal, StageMemory, Transport};

/// Bytes of the number that follows the data.
const FLAG_BYTES: u32 = 8;
/// Receive requests, of which each completion takes one.
const RECEIVES: u32 = 16;

/// How a reader is told, what it does then, and what its memory is registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    signal: Signal,
    flush: bool,
    relaxed: bool,
}

/// What there is to look at for a kind of memory.
fn cases(memory: &StageMemory) -> Vec<Case> {
    let plain = |signal| Case { signal, flush: false, relaxed: false };
    let mut cases = vec![plain(Signal::Flag), plain(Signal::Completion)];
    if memory.path.is_some_and(|path| path != Path::Staged) {
        cases.push(Case { flush: true, ..plain(Signal::Completion) });
    }
    if memory.kind == MemoryKind::Host {
        cases.extend([Signal::Flag, Signal::Completion].map(|signal| Case { relaxed: true, ..plain(signal) }));
    }
    cases
}

/// Looks at the order of writes from the first end to the second, `iterations` times for each size and case.
pub fn order(pair: &mut Pair<'_>, measurement: &mut Measurement<'_>, iterations: u64, notices: &mut Vec<Notice>) -> Vec<OrderingResult> {
    let settings = measurement.settings;
    let why = if !pair.is_loopback() {
        Some("with both ends on this host only")
    } else if settings.transport != Transport::Rc {
        Some("on reliable connections only")
    } else {
        None
    };
    if let Some(why) = why {
        notices.push(Notice { summary: format!("the order of writes is looked at {why}"), causes: Vec::new() });
        return Vec::new();
    }
    let memory = measurement.facts[1].memory.clone();
    let mut results = Vec::new();
    for size in &settings.sizes {
        for case in cases(&memory) {
            if (measurement.stop)() || measurement.is_lost {
                return results;
            }
            (measurement.say)(&format!("order of writes, {size} bytes"));
            let result = one(pair, measurement, &memory, *size, case, iterations);
            notices.extend(result.notice());
            results.push(result);
        }
    }
    results
}

fn one(
    pair: &mut Pair<'_>,
    measurement: &mut Measurement<'_>,
    memory: &StageMemory,
    size: u64,
    case: Case,
    iterations: u64,
) -> OrderingResult {
    let mut result = OrderingResult {
        memory: memory.label(),
        size_bytes: size,
        signal: case.signal,
        flush: case.flush,
        relaxed_ordering: case.relaxed,
        reader: None,
        promised: None,
        iterations: 0,
        stale_iterations: 0,
        stale_words: 0,
        first_stale: None,
        elapsed_ms: 0.0,
        not_tried: None,
        failure: None,
    };
    let asked = (|| {
        let settings = measurement.settings;
        let mut link = link_plan(settings, &measurement.facts, RunKind::Latency, Operation::Write, size, AccessPattern::One);
        let receives = case.signal == Signal::Completion;
        let receive =
            ReceivePlan { size_bytes: FLAG_BYTES, shift_bytes: 0, touch: AccessPattern::One, depth: RECEIVES.min(link.send_depth) };
        link.receive = receives.then_some(receive);
        pair.link(&link, [false, receives])?;
        pair.order(OrderPlan {
            writer: 0,
            reader: 1,
            size_bytes: u32::try_from(size).unwrap_or(u32::MAX),
            iterations,
            signal: case.signal,
            flush: case.flush,
            relaxed: case.relaxed,
            patience_ms: settings.patience_ms,
        })
    })();
    match asked {
        Ok(facts) => OrderingResult {
            reader: Some(facts.reader),
            promised: facts.promised,
            iterations: facts.iterations,
            stale_iterations: facts.stale_iterations,
            stale_words: facts.stale_words,
            first_stale: facts.first_stale,
            elapsed_ms: facts.elapsed_ns as f64 / 1e6,
            not_tried: facts.not_tried,
            ..result
        },
        Err(error) => {
            result.failure = measurement.told(&error);
            result
        }
    }
}

impl OrderingResult {
    /// Whether what was seen is permitted by what is promised: with relaxed ordering a flag may overtake data, and a GPU that promises
    /// nothing sees data only after a flush.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        let by_flag = self.signal == Signal::Flag;
        let promises_nothing = self.promised == Some(WritesOrdering::None);
        self.stale_iterations == 0 || (self.relaxed_ordering && by_flag) || (promises_nothing && !self.flush)
    }

    /// Whether it failed, or showed what nothing permits.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.failure.is_some() || !self.is_permitted()
    }

    fn notice(&self) -> Option<Notice> {
        if self.stale_iterations == 0 {
            return None;
        }
        let how = if self.signal == Signal::Flag { "the flag" } else { "the completion" };
        let flushed = if self.flush { ", flushed" } else { "" };
        let relaxed = if self.relaxed_ordering { ", registered with relaxed ordering" } else { "" };
        let summary = format!(
            "{how} overtook data in {} of {} times: {} bytes to {}{flushed}{relaxed}",
            self.stale_iterations, self.iterations, self.size_bytes, self.memory
        );
        let cause = match () {
            () if self.is_permitted() && self.relaxed_ordering => {
                "relaxed ordering permits it: wait for the completion, or register memory with flags in it without IBV_ACCESS_RELAXED_ORDERING"
            }
            () if self.is_permitted() => {
                "this GPU promises no order (GPU_DIRECT_RDMA_WRITES_ORDERING): flush with cuFlushGPUDirectRDMAWrites, or read the memory once \
                 by RDMA, before the GPU looks at it"
            }
            () if self.flush => "a flush must be enough: do not use this way, and report it with the driver's and the firmware's version",
            () => {
                "writes of a queue pair must arrive in order: PCIe relaxed ordering forced by the firmware (mlxconfig PCI_WR_ORDERING), or a \
                 bridge that reorders; wait for the completion and flush, or do not use this way"
            }
        };
        Some(Notice { summary, causes: vec![cause.to_owned()] })
    }
}
