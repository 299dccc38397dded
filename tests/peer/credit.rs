//! A fast sender waits for the receiver: nothing is ever sent that no receive request waits for.

use rdmadoctor::bench::Pair;
use rdmadoctor::transfer::{CompletionMode, Connect, Limit, LinkPlan, Operation, ReceivePlan, RunKind, RunPlan};
use rdmadoctor::verbs::Reliability;
use rdmadoctor::worker::Worker;

use super::{Running, TOKEN, choice, device, link, options, plan};

/// A link on which a message without a receive request is an error at once, as it is with iWARP.
fn strict(depth: u32, completing: CompletionMode) -> LinkPlan {
    let link = link();
    LinkPlan {
        completing,
        reliability: Reliability { receiver_retries: 0, ..link.reliability },
        receive: link.receive.map(|receive| ReceivePlan { depth, ..receive }),
        ..link
    }
}

/// Sends as many small messages as it can, one way and both ways, and in runs that follow each other.
fn send(pair: &mut Pair<'_>, depth: u32, completing: CompletionMode, both: bool) {
    pair.link(&strict(depth, completing), [both, true]).unwrap();
    for batch in [1, 16] {
        let first =
            RunPlan { size_bytes: 8, batch, receives: both, limit: Limit::Iterations(600), ..plan(Operation::Send, RunKind::Bandwidth) };
        let first = RunPlan { linger_ms: if both { 500 } else { 0 }, ..first };
        let second = RunPlan { sends: both, receives: true, limit: if both { first.limit } else { Limit::UntilTold }, ..first.clone() };
        let [sent, arrived] = pair.run([Some(first), Some(second)], &mut |_| {}).unwrap();
        assert_eq!(sent.sent.messages, 1200, "{depth} {completing:?} {both} {batch}");
        // Where both send, an end that has sent everything does not wait for ever for what still comes.
        assert!(both || arrived.received.messages == 1200, "{arrived:?}");
    }
}

#[test]
fn within_a_process() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path()));
    let mut ends = [choice(), choice()];
    let name = device(&mut worker);
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut pair = Pair::new(&mut worker, None, ends, Connect::Oob, 1);
    pair.open().unwrap();
    // As deep as the sender's queue, a little deeper, and as deep as it usually is.
    for depth in [16, 19, 64] {
        send(&mut pair, depth, CompletionMode::Poll, false);
    }
    send(&mut pair, 16, CompletionMode::Event, true);
}

#[test]
fn between_hosts() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path()));
    let mut ends = [choice(), choice()];
    let name = device(&mut worker);
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut client = running.client(TOKEN).unwrap();
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    pair.open().unwrap();
    for depth in [16, 19, 64] {
        send(&mut pair, depth, CompletionMode::Poll, false);
    }
    send(&mut pair, 64, CompletionMode::Event, false);
    send(&mut pair, 64, CompletionMode::Poll, true);
}
