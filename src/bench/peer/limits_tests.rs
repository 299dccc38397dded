//! Each bound at its border and one beyond.

use super::*;
use crate::gpu::MemoryKind;
use crate::transfer::{
    AccessPattern, BouncePlan, CompletionMode, EndpointPlan, JoinPlan, LinkPlan, Operation, PatternSpan, ReceivePlan, RemoteEnd, RunKind,
    Transport,
};
use crate::verbs::Reliability;

fn open(memory_bytes: u64) -> Command {
    let plan = EndpointPlan {
        device: "rxe0".to_owned(),
        port: 1,
        memory_bytes,
        least_bytes: 0,
        manager: None,
        memory: MemoryKind::Host,
        with_staged: false,
    };
    Command::Open(1, plan)
}

/// A link of queue pairs with a send depth, and a receive depth where messages arrive.
fn link(queue_pairs: u32, send_depth: u32, receive: Option<u32>) -> Command {
    let receive = receive.map(|depth| ReceivePlan { size_bytes: 64, shift_bytes: 0, touch: AccessPattern::One, depth });
    let plan = LinkPlan {
        transport: Transport::Rc,
        queue_pairs,
        send_depth,
        inline_bytes: 0,
        completing: CompletionMode::Poll,
        gid_index: 0,
        mtu_bytes: 1024,
        is_global: true,
        reliability: Reliability { timeout: 14, retries: 7, receiver_retries: 7, reads: 1 },
        receive,
        tells_credit: false,
    };
    Command::Link(1, plan)
}

fn span(length_bytes: u32) -> PatternSpan {
    PatternSpan { receiving: true, iteration: 0, shift_bytes: 0, length_bytes }
}

fn run_plan(limit: Limit, linger_ms: u64, patience_ms: u64) -> RunPlan {
    RunPlan {
        kind: RunKind::Bandwidth,
        operation: Operation::Write,
        immediate: false,
        size_bytes: 64,
        shift_bytes: 0,
        touch: AccessPattern::One,
        depth: 1,
        batch: 1,
        inline: false,
        sends: true,
        receives: false,
        limit,
        linger_ms,
        patience_ms,
        staged: BouncePlan::default(),
    }
}

fn run(limit: Limit, linger_ms: u64, patience_ms: u64) -> Command {
    Command::Run(vec![(1, run_plan(limit, linger_ms, patience_ms))])
}

#[test]
fn each_bound_is_taken_and_one_beyond_is_refused_by_name() {
    // What docs/peer-protocol.md says under Bounds, written down once more.
    let memory = (2_u64 << 30) + (1 << 20);
    let messages = Limit::Iterations(u64::MAX);
    let cases: Vec<(&str, Command, Command)> = vec![
        ("memory in bytes", open(memory), open(memory + 1)),
        ("queue pairs", link(1024, 1, None), link(1025, 1, None)),
        ("depth of the send queue", link(1, 65536, None), link(1, 65537, None)),
        ("depth of the receive queue", link(1, 1, Some(65536)), link(1, 1, Some(65537))),
        // 64 x 65536 and 1024 x 4096 are 2^22.
        ("entries of a completion queue", link(64, 65536, None), link(65, 65536, None)),
        ("entries of a completion queue", link(1024, 4096, None), link(1024, 4097, None)),
        ("entries of a completion queue", link(64, 1, Some(65536)), link(65, 1, Some(65536))),
        ("entries of a completion queue", link(1024, 4096, Some(4096)), link(1024, 4096, Some(4097))),
        ("bytes to compare", Command::Fill(1, span(64 << 20)), Command::Fill(1, span((64 << 20) + 1))),
        ("bytes to compare", Command::Clear(1, span(64 << 20)), Command::Clear(1, span((64 << 20) + 1))),
        ("bytes to compare", Command::Check(1, span(64 << 20)), Command::Check(1, span(u32::MAX))),
        ("a run's length", run(Limit::TimeMs(600_000), 0, 0), run(Limit::TimeMs(600_001), 0, 0)),
        ("patience", run(messages, 0, 600_000), run(messages, 0, 600_001)),
        ("lingering", run(messages, 600_000, 0), run(messages, 600_001, 0)),
        ("patience", run(Limit::UntilTold, 0, 600_000), run(Limit::UntilTold, 0, u64::MAX)),
        ("lingering", run(Limit::TimeMs(1), 600_000, 600_000), run(Limit::TimeMs(1), 600_001, 600_000)),
    ];
    let limits = Limits::default();
    for (what, border, beyond) in cases {
        assert_eq!(limits.refusal(&border), None, "{border:?}");
        let refusal = limits.refusal(&beyond).unwrap_or_else(|| panic!("{beyond:?}"));
        assert!(refusal.starts_with(&format!("{what}: ")) && refusal.ends_with("at most here"), "{refusal}");
    }
}

#[test]
fn the_bounds_are_those_that_a_server_was_given() {
    let limits = Limits { memory_bytes: 10, queue_pairs: 3, depth: 5, run_ms: 7, compared_bytes: 9 };
    for (border, beyond) in [
        (open(10), open(11)),
        (link(3, 1, None), link(4, 1, None)),
        (link(1, 5, Some(5)), link(1, 6, Some(5))),
        (link(1, 5, Some(5)), link(1, 5, Some(6))),
        (Command::Check(1, span(9)), Command::Check(1, span(10))),
        (run(Limit::TimeMs(7), 7, 7), run(Limit::TimeMs(8), 7, 7)),
    ] {
        assert_eq!((limits.refusal(&border), limits.refusal(&beyond).is_some()), (None, true), "{border:?} {beyond:?}");
    }
}

#[test]
fn only_the_end_of_number_1_is_served_and_one_at_a_time() {
    let limits = Limits::default();
    let remote =
        RemoteEnd { queue_pairs: vec![1], gid: String::new(), lid: 0, address: 0, key: 0, memory_bytes: 0, receives: 0, credit: None };
    let join = || JoinPlan { remote: remote.clone(), call: None, mark: 0 };
    let going = || run_plan(Limit::Iterations(1), 0, 0);
    for command in [Command::Join(vec![(1, join())]), Command::Unlink(1), Command::Finish, Command::Close, run(Limit::Iterations(1), 0, 0)]
    {
        assert_eq!(limits.refusal(&command), None, "{command:?}");
    }
    let of = |end: u8, command: &Command| match command.clone() {
        Command::Open(_, plan) => Command::Open(end, plan),
        Command::Link(_, plan) => Command::Link(end, plan),
        Command::Fill(_, what) => Command::Fill(end, what),
        Command::Clear(_, what) => Command::Clear(end, what),
        Command::Check(_, what) => Command::Check(end, what),
        Command::Unlink(_) => Command::Unlink(end),
        Command::Join(ends) => Command::Join(ends.into_iter().map(|(_, plan)| (end, plan)).collect()),
        Command::Run(ends) => Command::Run(ends.into_iter().map(|(_, plan)| (end, plan)).collect()),
        other => other,
    };
    let all = [
        open(1),
        link(1, 1, None),
        Command::Fill(1, span(1)),
        Command::Clear(1, span(1)),
        Command::Check(1, span(1)),
        Command::Unlink(1),
        Command::Join(vec![(1, join())]),
        run(Limit::Iterations(1), 0, 0),
    ];
    for command in &all {
        for end in [0, 2, u8::MAX] {
            assert!(limits.refusal(&of(end, command)).is_some_and(|refusal| refusal.contains("number 1")), "{end} {command:?}");
        }
    }
    for command in [
        Command::Join(Vec::new()),
        Command::Run(Vec::new()),
        Command::Join(vec![(1, join()), (1, join())]),
        Command::Run(vec![(1, going()), (1, going())]),
        Command::Run(vec![(1, going()), (0, going())]),
    ] {
        assert!(limits.refusal(&command).is_some(), "{command:?}");
    }
}
