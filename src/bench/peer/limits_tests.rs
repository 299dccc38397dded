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

#[test]
fn each_field_of_each_command_has_its_bound() {
    let limits = Limits::default();
    let opening = |change: &dyn Fn(&mut EndpointPlan)| match open(1 << 20) {
        Command::Open(end, mut plan) => {
            change(&mut plan);
            Command::Open(end, plan)
        }
        other => other,
    };
    let linking = |change: &dyn Fn(&mut LinkPlan)| match link(1, 1, Some(1)) {
        Command::Link(end, mut plan) => {
            change(&mut plan);
            Command::Link(end, plan)
        }
        other => other,
    };
    let receiving = |transport: Transport, size: u32, shift: u32| {
        linking(&|plan| {
            plan.transport = transport;
            plan.receive = Some(ReceivePlan { size_bytes: size, shift_bytes: shift, touch: AccessPattern::Spread, depth: 1 });
        })
    };
    let joining = |change: &dyn Fn(&mut JoinPlan)| {
        let remote =
            RemoteEnd { queue_pairs: vec![1], gid: String::new(), lid: 0, address: 0, key: 0, memory_bytes: 0, receives: 0, credit: None };
        let mut plan = JoinPlan { remote, call: None, mark: 0 };
        change(&mut plan);
        Command::Join(vec![(1, plan)])
    };
    let running = |change: &dyn Fn(&mut RunPlan)| {
        let mut plan = run_plan(Limit::UntilTold, 0, 0);
        change(&mut plan);
        Command::Run(vec![(1, plan)])
    };
    let spanning = |shift_bytes: u32| Command::Check(1, PatternSpan { shift_bytes, ..span(1) });
    let counts = |address: u64| serde_json::from_value(serde_json::json!({"address": address, "key": 0})).unwrap();
    let at = |port: u16| Some(std::net::SocketAddr::from(([192, 0, 2, 1], port)));
    let giga = 1 << 30;
    for (border, beyond) in [
        (opening(&|plan| plan.device = "x".repeat(128)), opening(&|plan| plan.device = "x".repeat(129))),
        (opening(&|plan| plan.manager = at(0)), opening(&|plan| plan.manager = at(18515))),
        (opening(&|_| ()), opening(&|plan| plan.with_staged = true)),
        (link(1, 1, None), link(0, 1, None)),
        (link(1, 1, None), link(1, 0, None)),
        (linking(&|plan| plan.inline_bytes = 4096), linking(&|plan| plan.inline_bytes = 4097)),
        (linking(&|plan| plan.mtu_bytes = 4096), linking(&|plan| plan.mtu_bytes = u32::MAX)),
        (linking(&|plan| plan.reliability.timeout = 31), linking(&|plan| plan.reliability.timeout = 32)),
        (linking(&|plan| plan.reliability.retries = 7), linking(&|plan| plan.reliability.retries = 8)),
        (linking(&|plan| plan.reliability.receiver_retries = 7), linking(&|plan| plan.reliability.receiver_retries = 8)),
        (receiving(Transport::Rc, giga, 0), receiving(Transport::Rc, giga + 1, 0)),
        (receiving(Transport::Uc, 1, giga), receiving(Transport::Uc, 1, giga + 1)),
        (receiving(Transport::Rc, 1, 0), receiving(Transport::Rc, 0, 0)),
        (receiving(Transport::Ud, 65536, 0), receiving(Transport::Ud, 65537, 0)),
        (receiving(Transport::Ud, 1, 0), receiving(Transport::Ud, u32::MAX, 0)),
        (joining(&|plan| plan.remote.queue_pairs = vec![1; 1024]), joining(&|plan| plan.remote.queue_pairs = vec![1; 1025])),
        (joining(&|plan| plan.remote.queue_pairs = vec![(1 << 24) - 1]), joining(&|plan| plan.remote.queue_pairs = vec![1, 1 << 24])),
        (joining(&|plan| plan.remote.gid = "f".repeat(128)), joining(&|plan| plan.remote.gid = "f".repeat(129))),
        (
            joining(&|plan| (plan.remote.address, plan.remote.memory_bytes) = (u64::MAX - 2, 1)),
            joining(&|plan| (plan.remote.address, plan.remote.memory_bytes) = (u64::MAX - 2, 2)),
        ),
        (joining(&|plan| plan.remote.credit = counts(1 << 48)), joining(&|plan| plan.remote.credit = counts(u64::MAX - 4096))),
        (joining(&|plan| plan.remote.receives = 65536), joining(&|plan| plan.remote.receives = 65537)),
        (joining(&|_| ()), joining(&|plan| plan.call = at(4791))),
        (running(&|plan| plan.size_bytes = giga), running(&|plan| plan.size_bytes = giga + 1)),
        (running(&|plan| plan.size_bytes = 1), running(&|plan| plan.size_bytes = 0)),
        (running(&|plan| plan.shift_bytes = giga), running(&|plan| plan.shift_bytes = u32::MAX)),
        (running(&|plan| plan.depth = 65536), running(&|plan| plan.depth = 65537)),
        (running(&|plan| plan.batch = 65536), running(&|plan| plan.batch = 65537)),
        (running(&|plan| plan.staged.chunk_bytes = giga), running(&|plan| plan.staged.chunk_bytes = giga + 1)),
        (spanning(giga), spanning(giga + 1)),
    ] {
        assert_eq!(limits.refusal(&border), None, "{border:?}");
        assert!(limits.refusal(&beyond).is_some(), "{beyond:?}");
    }
}

#[test]
fn messages_lie_within_a_half_of_the_memory_that_is_open() {
    // A half of 64 KiB, less a lead of 4 KiB on both sides.
    let (memory, room) = (128 << 10, (64 << 10) - 8192);
    let link = |size_bytes: u32, shift_bytes: u32| match link(1, 1, Some(1)) {
        Command::Link(end, mut plan) => {
            plan.receive = Some(ReceivePlan { size_bytes, shift_bytes, touch: AccessPattern::One, depth: 1 });
            Command::Link(end, plan)
        }
        other => other,
    };
    let run = |size_bytes: u32, shift_bytes: u32| {
        Command::Run(vec![(1, RunPlan { size_bytes, shift_bytes, ..run_plan(Limit::UntilTold, 0, 0) })])
    };
    let span = |length_bytes: u32, shift_bytes: u32| PatternSpan { shift_bytes, ..span(length_bytes) };
    for (size, shift, fits) in [(room, 0, true), (room + 1, 0, false), (1, room - 1, true), (1, room, false), (u32::MAX, u32::MAX, false)] {
        let all = [
            link(size, shift),
            run(size, shift),
            Command::Fill(1, span(size, shift)),
            Command::Clear(1, span(size, shift)),
            Command::Check(1, span(size, shift)),
        ];
        for command in all {
            assert_eq!(beyond(&command, memory).is_none(), fits, "{command:?}");
        }
    }
    assert_eq!(beyond(&Command::Close, 0), None);
}
