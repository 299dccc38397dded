//! What a client may ask, at both sides of each bound that a whole server has to keep.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use rdmadoctor::bench::peer::{Client, Limits};
use rdmadoctor::bench::{BenchError, Endpoint, Pair};
use rdmadoctor::transfer::{
    Answer, Command, Connect, EndpointPlan, LinkPlan, Operation, PatternSpan, ReceivePlan, RunKind, RunPlan, Transport,
};
use rdmadoctor::worker::{Failure, Worker, WorkerOptions};

use super::{Running, TOKEN, choice, device, link, options, plan};

/// A client with the server's device open.
fn opened(running: &Running, memory_bytes: u64) -> (Client, Result<Answer, BenchError>) {
    let device = device(&mut Worker::new(options(running.directory.path())));
    let mut client = running.client(TOKEN).unwrap();
    let stage = EndpointPlan { device, memory_bytes, least_bytes: memory_bytes, ..choice().stage };
    client.tell(&Command::Open(1, stage)).unwrap();
    let answer = client.hear();
    (client, answer)
}

fn is_open(answer: &Result<Answer, BenchError>) -> bool {
    matches!(answer, Ok(Answer::Opened(_)))
}

#[test]
fn memory_is_a_sum_over_all_clients() {
    let running = Running::within(Limits { memory_bytes: 64 << 20, ..Limits::default() });
    let (mut first, answer) = opened(&running, 40 << 20);
    assert!(is_open(&answer), "{answer:?}");
    let (mut second, answer) = opened(&running, 40 << 20);
    let refusal = answer.unwrap_err().to_string();
    for part in [40 << 20, 64 << 20] {
        assert!(refusal.contains(&part.to_string()) && refusal.contains("held by other clients"), "{refusal}");
    }
    // What is left is had, and what another one closes.
    let stage = |memory_bytes: u64| EndpointPlan {
        device: device(&mut Worker::new(options(running.directory.path()))),
        memory_bytes,
        least_bytes: memory_bytes,
        ..choice().stage
    };
    second.tell(&Command::Open(1, stage(24 << 20))).unwrap();
    assert!(is_open(&second.hear()));
    first.tell(&Command::Close).unwrap();
    first.hear().unwrap();
    second.tell(&Command::Open(1, stage(64 << 20))).unwrap();
    assert!(is_open(&second.hear()));
    // And what one that goes had.
    drop(second);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        first.tell(&Command::Open(1, stage(64 << 20))).unwrap();
        if is_open(&first.hear()) {
            break;
        }
        assert!(std::time::Instant::now() < until, "it is not given back");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Receive requests of sizes that no memory has, and such that wrap where a datagram's header of 40 bytes comes before them.
fn giants() -> Vec<LinkPlan> {
    let sizes = [1 << 20, (1 << 30) + 1, 1 << 31, u32::MAX - 40, u32::MAX - 39, u32::MAX];
    let transports = [Transport::Rc, Transport::Uc, Transport::Ud];
    let of = |transport, size_bytes, shift_bytes| LinkPlan {
        transport,
        tells_credit: false,
        receive: Some(ReceivePlan { size_bytes, shift_bytes, ..link().receive.unwrap() }),
        ..link()
    };
    let each = transports.into_iter().flat_map(|transport| sizes.map(|size| of(transport, size, 0)));
    each.chain([of(Transport::Rc, 64, u32::MAX), of(Transport::Rc, u32::MAX, u32::MAX)]).collect()
}

fn spans() -> Vec<PatternSpan> {
    let span = |shift_bytes, length_bytes| PatternSpan { receiving: true, iteration: u64::MAX, shift_bytes, length_bytes };
    vec![span(1 << 20, 64), span(u32::MAX, 64), span(64, 1 << 20), span(u32::MAX, 1 << 20)]
}

#[test]
fn sizes_that_no_memory_has_are_refused_and_the_child_lives() {
    let running = Running::start();
    let (mut client, answer) = opened(&running, 1 << 20);
    assert!(is_open(&answer), "{answer:?}");
    let mut commands: Vec<Command> = giants().into_iter().map(|plan| Command::Link(1, plan)).collect();
    for span in spans() {
        commands.extend([Command::Fill(1, span), Command::Clear(1, span), Command::Check(1, span)]);
    }
    commands.push(Command::Run(vec![(1, RunPlan { size_bytes: u32::MAX, ..plan(Operation::Write, RunKind::Bandwidth) })]));
    for command in commands {
        client.tell(&command).unwrap();
        let error = client.hear().expect_err(&format!("{command:?}")).to_string();
        assert!(error.contains("at most") || error.contains("do not fit"), "{command:?}: {error}");
    }
    // What is within the memory goes: the device is still open, so its child has not ended.
    for command in
        [Command::Link(1, link()), Command::Fill(1, PatternSpan { receiving: true, iteration: 1, shift_bytes: 0, length_bytes: 64 })]
    {
        client.tell(&command).unwrap();
        assert!(matches!(client.hear().unwrap(), Answer::Linked(_) | Answer::Done), "{command:?}");
    }
}

/// The child itself keeps to its memory, whoever tells it.
#[test]
fn a_child_refuses_what_its_memory_has_no_room_for() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let mut worker = Worker::new(options(directory.path()));
    let device = device(&mut worker);
    let mut ask = |command: Command| {
        worker.tell(&command).unwrap();
        worker.hear().unwrap_or_else(|failure| panic!("{command:?}: {failure}"))
    };
    // The least memory there is, and no end of it.
    let stage = EndpointPlan { device, memory_bytes: 0, least_bytes: 0, ..choice().stage };
    assert!(matches!(ask(Command::Open(1, stage)), Answer::Opened(_)));
    for plan in giants() {
        assert!(matches!(ask(Command::Link(1, plan)), Answer::Failed(_)));
    }
    let many = LinkPlan { queue_pairs: u32::MAX, send_depth: u32::MAX, ..link() };
    assert!(matches!(ask(Command::Link(1, many)), Answer::Failed(_)));
    for span in spans() {
        for command in [Command::Fill(1, span), Command::Clear(1, span), Command::Check(1, span)] {
            assert!(matches!(ask(command), Answer::Failed(_)), "{span:?}");
        }
    }
    let small = ReceivePlan { size_bytes: 64, ..link().receive.unwrap() };
    assert!(matches!(ask(Command::Link(1, LinkPlan { receive: Some(small), ..link() })), Answer::Linked(_)));
}

/// The other side's memory and counts are wherever it says: never beyond all addresses.
#[test]
fn addresses_that_wrap_are_refused() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path()));
    let name = device(&mut worker);
    let mut ends = [choice(), choice()];
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut client = running.client(TOKEN).unwrap();
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    pair.open().unwrap();
    pair.link(&link(), [true, true]).unwrap();
    drop(pair);
    let join = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut remote = serde_json::json!({
            "queue_pairs": [1, 2], "gid": "", "lid": 0, "address": 0, "key": 0, "memory_bytes": 1 << 20, "receives": 1,
            "credit": {"address": 0, "key": 0},
        });
        change(&mut remote);
        let plan = serde_json::json!({"join": [[1, {"remote": remote, "call": null, "mark": 0}]]});
        serde_json::from_value::<Command>(plan).unwrap()
    };
    let sound = join(&|_| {});
    let wraps = [
        join(&|remote| remote["address"] = u64::MAX.into()),
        join(&|remote| remote["memory_bytes"] = u64::MAX.into()),
        join(&|remote| remote["credit"]["address"] = u64::MAX.into()),
    ];
    for command in wraps {
        client.tell(&command).unwrap();
        assert!(client.hear().is_err(), "{command:?}");
        let own = match command {
            Command::Join(ends) => Command::Join(ends.into_iter().map(|(_, plan)| (0, plan)).collect()),
            other => other,
        };
        worker.tell(&own).unwrap();
        assert!(matches!(worker.hear().unwrap(), Answer::Failed(_)), "{own:?}");
    }
    client.tell(&sound).unwrap();
    client.hear().unwrap();
}

/// Who tries many tokens is answered late; who knows it is served.
#[test]
fn after_many_wrong_tokens_the_right_one_is_still_served() {
    let running = Running::start();
    std::thread::scope(|scope| {
        for number in 0..30 {
            let running = &running;
            scope.spawn(move || assert!(running.client(&format!("a wrong token {number}")).is_err()));
        }
    });
    running.client(TOKEN).unwrap().describe().unwrap();
    assert!(!running.stop.load(Ordering::Relaxed));
}

/// A panic is a fault of this program's, and no library is blamed for it; any other end still is the library's.
#[test]
fn a_panic_of_the_child_is_told_as_such() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let script = directory.path().join("child");
    let failure = |text: &str| {
        std::fs::write(&script, format!("#!/bin/sh\nread target\nread question\n{text}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut worker = Worker::new(WorkerOptions { program: script.clone(), ..options(directory.path()) });
        worker.tell(&Command::Close).unwrap();
        worker.hear().unwrap_err()
    };
    let ours = failure("echo \"thread 'main' panicked at src/transfer/end.rs:1:2:\" >&2; exit 101");
    assert!(matches!(&ours, Failure::Broken(why) if why.contains("fault of rdmadoctor") && why.contains("src/transfer/end.rs")), "{ours}");
    let theirs = failure("kill -SEGV $$");
    assert!(matches!(&theirs, Failure::Lost(_)) && theirs.to_string().contains("crashed"), "{theirs}");
    assert!(matches!(failure("exit 101"), Failure::Lost(_)));
}
