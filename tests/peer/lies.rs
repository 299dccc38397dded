//! A server that knows the token and says what no server says: the client notices, in time, and does not break.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdmadoctor::bench::peer::{Client, Decoder, Keys, ServerHandshake, Step};
use rdmadoctor::bench::{BenchError, Endpoint};
use rdmadoctor::transfer::{Answer, Command, Limit, Operation, RunKind, RunPlan};

use super::{TOKEN, choice, link, plan};

/// The next frame of a connection, without its mark where there is one.
fn frame(stream: &mut TcpStream, decoder: &mut Decoder, keys: Option<&mut Keys>) -> Option<Vec<u8>> {
    let frame = loop {
        if let Some(frame) = decoder.next(1 << 20).unwrap() {
            break frame;
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(length) => decoder.push(&bytes[..length]),
        }
    };
    keys.map_or(Some(frame.clone()), |keys| keys.open(&frame))
}

fn say(stream: &mut TcpStream, payload: &[u8]) {
    stream.write_all(&[&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()).unwrap();
}

/// A server that answers each request with the first of these, and with the second for as long as somebody listens.
fn liar(first: &'static str, then: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut decoder = Decoder::default();
        let (mut handshake, hello) = ServerHandshake::begin(TOKEN).unwrap();
        say(&mut stream, &hello);
        let mut keys = loop {
            let frame = frame(&mut stream, &mut decoder, None).unwrap();
            if let Step::Done(proof, keys, _) = handshake.step(&frame).unwrap() {
                say(&mut stream, &proof);
                break keys;
            }
        };
        while frame(&mut stream, &mut decoder, Some(&mut keys)).is_some() {
            say(&mut stream, &keys.seal(first.as_bytes()));
            while let Some(again) = then {
                let sealed = keys.seal(again.as_bytes());
                let bytes = [&u32::try_from(sealed.len()).unwrap().to_be_bytes(), &sealed[..]].concat();
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    address
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
