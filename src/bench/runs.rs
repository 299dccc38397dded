//! The plans that a measurement consists of: links, and runs of both ends.

use super::pair::Pair;
use super::ramp::RAMP;
use super::settings::Settings;
use super::side::BenchError;
use crate::transfer::{
    AccessPattern, BouncePlan, CompletionMode, Limit, LinkPlan, Operation, Progress, ReceivePlan, RunKind, RunPlan, RunResult, StageFacts,
    Transport,
};
use crate::verbs::Reliability;

/// Receives for each send that may be under way: a receiver that is scheduled late is not seen as not ready.
const RECEIVES: u32 = 4;

/// The link that an operation and size take.
pub fn link_plan(
    settings: &Settings,
    facts: &[StageFacts; 2],
    kind: RunKind,
    operation: Operation,
    size: u64,
    touch: AccessPattern,
) -> LinkPlan {
    let arrives = operation == Operation::Send || (settings.immediate && operation == Operation::Write);
    let most = facts.iter().map(|facts| facts.max_qp_wr.min(facts.max_cqe / settings.queue_pairs.max(1))).min().unwrap_or(1).max(1);
    let deepest = RAMP.last().map_or(1, |(depth, _)| *depth);
    let send_depth = settings.depth.unwrap_or(if kind == RunKind::Latency { 32 } else { deepest });
    // One request is kept for telling the other side of receive requests.
    let send_depth = send_depth.min(most.saturating_sub(1).max(1));
    let reads = facts.iter().map(|facts| facts.max_reads).min().unwrap_or(1).max(1);
    let inline = facts.iter().map(|facts| facts.max_inline_bytes).min().unwrap_or(0);
    LinkPlan {
        transport: settings.transport,
        queue_pairs: if kind == RunKind::Latency { 1 } else { settings.queue_pairs },
        send_depth,
        inline_bytes: if size <= inline.into() && operation != Operation::Read { inline } else { 0 },
        // A write without immediate data makes no completion where it arrives: memory is looked at until its last byte is there.
        completing: match settings.completing {
            Some(completing) if kind == RunKind::Bandwidth || operation == Operation::Read || arrives => completing,
            _ => CompletionMode::Poll,
        },
        gid_index: 0,
        mtu_bytes: settings.mtu_bytes,
        is_global: true,
        // 67 ms for an acknowledgement, seven times: a lost peer is known within some seconds.
        reliability: Reliability { timeout: 14, retries: 7, receiver_retries: 7, reads },
        receive: arrives.then(|| ReceivePlan { size_bytes: size as u32, shift_bytes: 0, touch, depth: (send_depth * RECEIVES).min(most) }),
        tells_credit: arrives && settings.transport == Transport::Rc,
    }
}

/// A fifth of a run, for warming up.
pub fn part(limit: Limit) -> Limit {
    match limit {
        Limit::TimeMs(ms) => Limit::TimeMs((ms / 5).max(1)),
        Limit::Iterations(count) => Limit::Iterations((count / 5).max(1)),
        Limit::UntilTold => limit,
    }
}

/// The plan of the end that begins, but for what the ramp finds.
pub fn first_plan(settings: &Settings, kind: RunKind) -> RunPlan {
    RunPlan {
        kind,
        operation: Operation::Write,
        immediate: settings.immediate,
        size_bytes: 1,
        shift_bytes: 0,
        touch: AccessPattern::Hot,
        depth: 1,
        batch: 1,
        inline: false,
        sends: true,
        receives: false,
        limit: settings.limit,
        linger_ms: 0,
        patience_ms: settings.patience_ms,
        staged: BouncePlan::default(),
    }
}

/// Both ends' parts of a run, as the operation takes them.
pub fn run_plans(settings: &Settings, is_loopback: bool, plan: &RunPlan) -> [Option<RunPlan>; 2] {
    let arrives = plan.arrives();
    let is_bandwidth = plan.kind == RunKind::Bandwidth;
    let is_both = settings.bidirectional && is_bandwidth;
    let mut first = plan.clone();
    first.receives = arrives && (is_both || !is_bandwidth);
    first.linger_ms = if is_both && !is_loopback { 200 } else { 0 };
    let mut second = RunPlan { receives: arrives, sends: is_both, ..first.clone() };
    if !is_both {
        second.limit = Limit::UntilTold;
    }
    let has_part = arrives || is_both || (!is_bandwidth && first.operation != Operation::Read);
    [Some(first), has_part.then_some(second)]
}

/// Runs once.
pub fn run(settings: &Settings, pair: &mut Pair<'_>, plan: &RunPlan, each: &mut dyn FnMut(Progress)) -> Result<[RunResult; 2], BenchError> {
    pair.run(run_plans(settings, pair.is_loopback(), plan), each)
}

/// Bytes a second of both directions. Of unreliable messages only those count that arrived.
pub fn rate(settings: &Settings, arrives: bool, results: &[RunResult; 2]) -> f64 {
    let one = |from: &RunResult, to: &RunResult| {
        let bytes = if arrives && settings.transport != Transport::Rc { to.received.bytes } else { from.sent.bytes };
        if from.sent.elapsed_ns == 0 { 0.0 } else { bytes as f64 / (from.sent.elapsed_ns as f64 / 1e9) }
    };
    let [first, second] = results;
    one(first, second) + one(second, first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{Operation, Transport};

    fn settings(bidirectional: bool) -> Settings {
        Settings {
            operations: Vec::new(),
            transport: Transport::Rc,
            immediate: false,
            sizes: Vec::new(),
            queue_pairs: 1,
            completing: None,
            hot: false,
            spread: false,
            bidirectional,
            limit: Limit::Iterations(9),
            repeats: 1,
            verify: false,
            depth: None,
            batch: None,
            mtu_bytes: 1024,
            staged: false,
            patience_ms: 1000,
        }
    }

    /// What each end does: whether it sends, whether it receives, how long it lingers, and whether it ends by itself.
    fn parts(bidirectional: bool, is_loopback: bool, kind: RunKind, operation: Operation) -> [Option<(bool, bool, u64, bool)>; 2] {
        let settings = settings(bidirectional);
        run_plans(&settings, is_loopback, &RunPlan { operation, ..first_plan(&settings, kind) })
            .map(|end| end.map(|end| (end.sends, end.receives, end.linger_ms, end.limit == Limit::Iterations(9))))
    }

    #[test]
    fn each_end_has_the_part_that_the_operation_asks_of_it() {
        let sender = Some((true, false, 0, true));
        for (operation, other) in [(Operation::Write, None), (Operation::Read, None), (Operation::Send, Some((false, true, 0, false)))] {
            assert_eq!(parts(false, false, RunKind::Bandwidth, operation), [sender, other], "{operation}");
        }
        // Both at once; between hosts each waits a little for what the other still sends.
        for (is_loopback, linger_ms) in [(true, 0), (false, 200)] {
            let both = Some((true, false, linger_ms, true));
            assert_eq!(parts(true, is_loopback, RunKind::Bandwidth, Operation::Write), [both; 2]);
            let both = Some((true, true, linger_ms, true));
            assert_eq!(parts(true, is_loopback, RunKind::Bandwidth, Operation::Send), [both; 2]);
        }
    }

    #[test]
    fn a_ping_has_an_end_that_answers_but_for_a_read() {
        for is_both in [false, true] {
            let [first, second] = parts(is_both, false, RunKind::Latency, Operation::Write);
            assert_eq!((first, second), (Some((true, false, 0, true)), Some((false, false, 0, false))));
            let [_, second] = parts(is_both, false, RunKind::Latency, Operation::Send);
            assert_eq!(second, Some((false, true, 0, false)));
            assert_eq!(parts(is_both, false, RunKind::Latency, Operation::Read)[1], None);
        }
    }
}
