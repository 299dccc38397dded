//! A server that knows the token and says what no server says: the client notices, in time, and does not break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdmadoctor::bench::peer::Client;
use rdmadoctor::bench::{BenchError, Endpoint};
use rdmadoctor::transfer::{Answer, Command, Limit, Operation, RunKind, RunPlan};

use super::liar::serve;
use super::{TOKEN, choice, link, plan};

/// A server that answers each request with the first of these, and with the second for as long as somebody listens.
fn liar(first: &'static str, then: Option<&'static str>) -> SocketAddr {
    serve(TOKEN, move |mut session| {
        while session.is_asked() {
            session.say(first);
            while let Some(again) = then {
                if !session.say(again) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    })
}

fn called(address: SocketAddr) -> Client {
    Client::connect(&address.to_string(), TOKEN, Duration::from_millis(100), Arc::new(AtomicBool::new(false))).unwrap()
}

fn told(error: &BenchError) -> String {
    error.to_string()
}

const READY: &str = r#"{"answer":"ready"}"#;
const RUNNING: &str = r#"{"answer":{"running":{"messages":1,"bytes":1,"elapsed_ns":1}}}"#;

/// Whatever was told, it is over some time after it should be.
#[test]
fn who_says_running_for_ever_is_given_up() {
    let run = |limit| Command::Run(vec![(1, RunPlan { limit, patience_ms: 100, ..plan(Operation::Send, RunKind::Bandwidth) })]);
    let cases = [
        // It is never ready, goes on longer than its time, does not end, and is no run at all.
        ("never ready", RUNNING, vec![run(Limit::UntilTold)]),
        ("too long", READY, vec![run(Limit::TimeMs(100))]),
        ("not ended", READY, vec![run(Limit::UntilTold), Command::Finish]),
        ("no run", RUNNING, vec![Command::Link(1, link())]),
    ];
    std::thread::scope(|scope| {
        for (what, first, commands) in cases {
            scope.spawn(move || {
                let mut client = called(liar(first, Some(RUNNING)));
                let until = Instant::now() + Duration::from_secs(60);
                for command in &commands {
                    client.tell(command).unwrap();
                    assert!(matches!(client.hear().unwrap(), Answer::Ready | Answer::Running(_)), "{what}");
                }
                let error = loop {
                    assert!(Instant::now() < until, "{what}: it is still waited for");
                    if let Err(error) = client.hear() {
                        break error;
                    }
                };
                assert!(told(&error).contains("longer than was asked") || told(&error).contains("nothing came"), "{what}: {error}");
            });
        }
    });
}

#[test]
fn figures_beyond_all_bounds_are_no_figures() {
    let most = u64::MAX;
    let ran = |latencies: String| {
        let progress = r#"{"messages":1,"bytes":1,"elapsed_ns":1}"#;
        format!(r#"{{"answer":{{"ran":[{{"sent":{progress},"received":{progress},"cpu_ns":1,"latencies":{latencies}}}]}}}}"#)
    };
    let cases = [
        (format!(r#"{{"answer":{{"running":{{"messages":{most},"bytes":1,"elapsed_ns":1}}}}}}"#), "beyond all bounds"),
        (ran(format!("[[1,{most}],[2,{most}]]")), "beyond all bounds"),
        (r#"{"answer":{"linked":{"queue_pairs":[1],"gid":"","receives":4000000000,"credit":null}}}"#.to_owned(), "beyond all bounds"),
        (r#"{"answer":{"linked":{"queue_pairs":[-1],"gid":"","receives":1,"credit":null}}}"#.to_owned(), "not understood"),
        ("[".repeat(100_000), "not understood"),
        ("{\"answer\":\"no such\"}".to_owned(), "not understood"),
    ];
    for (reply, what) in cases {
        let reply: &'static str = Box::leak(reply.into_boxed_str());
        let mut client = called(liar(reply, None));
        client.tell(&Command::Open(1, choice().stage)).unwrap();
        let error = client.hear().unwrap_err();
        assert!(told(&error).contains(what), "{}: {error}", &reply[..reply.len().min(200)]);
    }
    // The same of sound figures is heard.
    let reply: &'static str = Box::leak(ran("[[1,2],[3,4]]".to_owned()).into_boxed_str());
    let mut client = called(liar(reply, None));
    client.tell(&Command::Close).unwrap();
    assert!(matches!(client.hear().unwrap(), Answer::Ran(_)));
}
