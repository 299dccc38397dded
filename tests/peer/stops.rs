//! A side that stops in the middle of each step of a session: the other one says so, in time, and nothing is left behind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdmadoctor::bench::peer::{Client, Decoder, Limits};
use rdmadoctor::bench::{BenchError, Endpoint, Pair};
use rdmadoctor::transfer::{Answer, Command, Connect, Limit, Operation, PatternSpan, RunKind, RunPlan};
use rdmadoctor::worker::Worker;

use super::{Running, TOKEN, choice, device, link, options, plan};

/// How a peer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Its connection ends.
    Gone,
    /// It says nothing more.
    Silent,
}

/// Stands between a client and a server, and passes so many of the server's frames on.
fn between(server: SocketAddr, frames: usize, stop: Stop) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let far = TcpStream::connect(server).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), far.try_clone().unwrap());
        let forth = std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
        });
        let (mut to_client, mut from_server) = (client, far);
        let (mut decoder, mut chunk, mut passed) = (Decoder::default(), [0; 4096], 0);
        while passed < frames {
            let Ok(length @ 1..) = from_server.read(&mut chunk) else { break };
            decoder.push(&chunk[..length]);
            while passed < frames
                && let Ok(Some(frame)) = decoder.next(4 << 20)
            {
                let said = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
                let _ = to_client.write_all(&said);
                passed += 1;
            }
        }
        if stop == Stop::Gone {
            let _ = to_client.shutdown(Shutdown::Both);
            let _ = from_server.shutdown(Shutdown::Both);
        }
        // One that is silent takes what is said until the client has gone.
        let _ = forth.join();
    });
    address
}

/// A whole session, each step of it with an answer of the server's.
fn session(address: SocketAddr, directory: &std::path::Path) -> Result<(), BenchError> {
    let mut worker = Worker::new(options(directory));
    let name = device(&mut worker);
    let mut ends = [choice(), choice()];
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut client = Client::connect(&address.to_string(), TOKEN, Duration::from_secs(2), Arc::new(AtomicBool::new(false)))?;
    client.describe()?;
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    pair.open()?;
    pair.link(&link(), [false, true])?;
    let filled = PatternSpan { receiving: true, iteration: 1, shift_bytes: 0, length_bytes: 64 };
    pair.prepare(1, filled, false)?;
    let first = RunPlan { limit: Limit::TimeMs(400), ..plan(Operation::Send, RunKind::Bandwidth) };
    let second = RunPlan { sends: false, receives: true, limit: Limit::UntilTold, ..first.clone() };
    pair.run([Some(first), Some(second)], &mut |_| {})?;
    pair.check(1, filled)?;
    pair.close();
    Ok(())
}

/// Frames of the server's until the client has heard everything but the answer to its goodbye: hello, proof, devices, opened, linked,
/// joined, prepared, ready, ran, checked.
const LEAST: usize = 10;

fn server_stops(stop: Stop) -> Vec<(usize, String)> {
    let running = Running::start();
    let told: Vec<(usize, String)> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..LEAST)
            .map(|frames| {
                let (address, directory) = (between(running.address, frames, stop), running.directory.path());
                scope.spawn(move || (frames, session(address, directory)))
            })
            .collect();
        sessions
            .into_iter()
            .map(|session| {
                let (frames, ended) = session.join().unwrap();
                (frames, ended.expect_err(&format!("{stop:?} after {frames} frames")).to_string())
            })
            .collect()
    });
    running.is_left_alone();
    running.client(TOKEN).unwrap().describe().unwrap();
    told
}

/// What was being waited for when a server stops after so many frames; messages of a run that come in between do not count.
const STEPS: [&str; 8] = [
    "waiting for its hello",
    "",
    "asking for its devices",
    "opening the device and registering memory",
    "making queue pairs",
    "connecting queue pairs",
    "preparing memory",
    "moving data",
];

#[test]
fn a_server_that_goes_is_noticed_at_each_step() {
    for (frames, told) in server_stops(Stop::Gone) {
        let step = STEPS.get(frames).copied().unwrap_or("");
        assert!(told.contains(step), "after {frames} frames: {told}");
        // One that goes when it sees the client's proof does not know the token; it may go while that is being said.
        let is_told = told.contains("closed the connection") || (frames == 1 && told.contains("token"));
        assert!(is_told, "after {frames} frames: {told}");
    }
}

#[test]
fn a_server_that_says_nothing_more_is_not_waited_for_for_ever() {
    for (frames, told) in server_stops(Stop::Silent) {
        let step = STEPS.get(frames).copied().unwrap_or("");
        assert!(told.contains(step) && told.contains("nothing came for"), "after {frames} frames: {told}");
    }
}

/// A client with queue pairs that are connected.
fn connected(running: &Running) -> (Worker, Client) {
    let mut worker = Worker::new(options(running.directory.path()));
    let name = device(&mut worker);
    let mut ends = [choice(), choice()];
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut client = running.client(TOKEN).unwrap();
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    pair.open().unwrap();
    pair.link(&link(), [false, true]).unwrap();
    (worker, client)
}

/// Waits for messages that never come.
fn waiting() -> Command {
    let plan = plan(Operation::Send, RunKind::Bandwidth);
    Command::Run(vec![(1, RunPlan { sends: false, receives: true, limit: Limit::UntilTold, patience_ms: 200, ..plan })])
}

#[test]
fn a_client_that_vanishes_during_a_run_leaves_nothing() {
    let running = Running::start();
    let (worker, mut client) = connected(&running);
    client.tell(&waiting()).unwrap();
    assert_eq!(client.hear().unwrap(), Answer::Ready);
    drop((worker, client));
    running.is_left_alone();
}

#[test]
fn a_client_that_never_ends_its_run_is_let_go() {
    let running = Running::within(Limits { run_ms: 300, memory_bytes: 64 << 20, ..Limits::default() });
    let (worker, mut client) = connected(&running);
    client.tell(&waiting()).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while client.hear().is_ok() {
        assert!(Instant::now() < until, "its run goes on");
    }
    drop(worker);
    running.is_left_alone();
}

#[test]
fn a_client_that_asks_for_more_during_a_run_is_let_go() {
    let running = Running::start();
    let (worker, mut client) = connected(&running);
    client.tell(&waiting()).unwrap();
    client.tell(&Command::Close).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while client.hear().is_ok() {
        assert!(Instant::now() < until, "it is still served");
    }
    drop(worker);
    running.is_left_alone();
}
