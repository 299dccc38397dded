//! A peer's server over the simulated provider: clients that know the token, and those that do not.

mod bounds;
mod counters;
mod credit;
mod liar;
mod lies;
mod stops;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdmadoctor::bench::peer::{Client, Decoder, Limits, Server, ServerOptions};
use rdmadoctor::bench::{BenchError, EndChoice, Endpoint, Pair, Who};
use rdmadoctor::sim::SimConfig;
use rdmadoctor::transfer::{
    AccessPattern, Answer, BouncePlan, Command, CompletionMode, Connect, EndpointPlan, Limit, LinkPlan, Operation, ReceivePlan, RunKind,
    RunPlan, Transport,
};
use rdmadoctor::verbs::Reliability;
use rdmadoctor::worker::{Target, Worker, WorkerOptions};

const TOKEN: &str = "correct horse battery staple";

struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
    directory: tempfile::TempDir,
}

/// Two simulated hosts of one network.
fn target(directory: &Path) -> Target {
    Target::Devices(SimConfig { directory: Some(directory.to_owned()), ..SimConfig::of_models(["mlx5-6.1"]) })
}

fn options(directory: &Path) -> WorkerOptions {
    WorkerOptions {
        program: PathBuf::from(env!("CARGO_BIN_EXE_rdmadoctor")),
        target: target(directory),
        deadline: Duration::from_secs(20),
        interrupted: Arc::new(AtomicBool::new(false)),
    }
}

impl Running {
    fn start() -> Self {
        Self::within(Limits { memory_bytes: 64 << 20, ..Limits::default() })
    }

    fn within(limits: Limits) -> Self {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let server = Server::bind(
            "127.0.0.1:0".parse().unwrap(),
            ServerOptions {
                token: TOKEN.to_owned(),
                limits,
                worker: counters::options(directory.path(), "counted-there"),
                describe: Box::new(|| (Vec::new(), Vec::new())),
                counters: counters::read(directory.path().join("counted-there")),
                say: Box::new(|_| {}),
                once: false,
            },
        )
        .unwrap();
        let address = server.address().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || server.serve(&stopped));
        Self { address, stop, thread: Some(thread), directory }
    }

    /// Waits until no child process of this server or its clients is there any more.
    fn is_left_alone(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.places() > 0 {
            assert!(Instant::now() < until, "{} child processes are left", self.places());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Child processes that hold a place in the simulated network: those that answer at their socket.
    fn places(&self) -> usize {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        entries.filter(|entry| entry.as_ref().is_ok_and(|entry| UnixStream::connect(entry.path()).is_ok())).count()
    }

    fn client(&self, token: &str) -> Result<Client, BenchError> {
        Client::connect(&self.address.to_string(), token, Duration::from_secs(20), Arc::new(AtomicBool::new(false)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn choice() -> EndChoice {
    let stage = EndpointPlan {
        device: "mlx5_0".to_owned(),
        port: 1,
        memory_bytes: 1 << 20,
        least_bytes: 1 << 20,
        manager: None,
        memory: rdmadoctor::gpu::MemoryKind::Host,
        with_staged: false,
    };
    EndChoice { stage, gid_index: 1, is_global: true, address: None }
}

fn link() -> LinkPlan {
    LinkPlan {
        transport: Transport::Rc,
        queue_pairs: 2,
        send_depth: 16,
        inline_bytes: 0,
        completing: CompletionMode::Poll,
        gid_index: 1,
        mtu_bytes: 1024,
        is_global: true,
        reliability: Reliability { timeout: 14, retries: 7, receiver_retries: 7, reads: 1 },
        receive: Some(ReceivePlan { size_bytes: 4096, shift_bytes: 0, touch: AccessPattern::Hot, depth: 64 }),
        tells_credit: true,
    }
}

fn plan(operation: Operation, kind: RunKind) -> RunPlan {
    RunPlan {
        kind,
        operation,
        immediate: false,
        size_bytes: 4096,
        shift_bytes: 0,
        touch: AccessPattern::Hot,
        depth: 16,
        batch: 4,
        inline: false,
        sends: true,
        receives: false,
        limit: Limit::Iterations(100),
        linger_ms: 0,
        patience_ms: 10_000,
        staged: BouncePlan::default(),
    }
}

/// Name of a device of the simulated host.
fn device(worker: &mut Worker) -> String {
    worker.inventory(None).unwrap().devices[0].name.clone()
}

#[test]
fn two_hosts_move_data_both_ways_of_every_operation() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path()));
    let mut ends = [choice(), choice()];
    let name = device(&mut worker);
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut client = running.client(TOKEN).unwrap();
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    pair.open().unwrap();
    for operation in [Operation::Write, Operation::Read, Operation::Send] {
        pair.link(&link(), [true, true]).unwrap();
        let first = plan(operation, RunKind::Bandwidth);
        let second = RunPlan { sends: false, receives: true, limit: Limit::UntilTold, ..first.clone() };
        let [sent, arrived] = pair.run([Some(first), (operation == Operation::Send).then_some(second)], &mut |_| {}).unwrap();
        assert_eq!(sent.sent.messages, 200, "{operation}: a hundred on each queue pair");
        assert_eq!(arrived.received.messages, if operation == Operation::Send { 200 } else { 0 });
    }
    pair.link(&link(), [true, true]).unwrap();
    let first = RunPlan { receives: true, ..plan(Operation::Send, RunKind::Latency) };
    let second = RunPlan { sends: false, limit: Limit::UntilTold, ..first.clone() };
    let [sent, _] = pair.run([Some(first), Some(second)], &mut |_| {}).unwrap();
    assert_eq!(sent.latencies.iter().map(|(_, count)| count).sum::<u64>(), 100);
    pair.close();
}

#[test]
fn without_the_token_nothing_is_told() {
    let running = Running::start();
    let error = running.client("wrong horse battery staple").err().unwrap();
    assert!(error.to_string().contains("token"), "{error}");
    // Whatever a stranger says, it hears versions and no more.
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0, 0, 0, 0], b"\0\0\0\x02{}"] {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(said);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        let mut decoder = Decoder::default();
        decoder.push(&heard);
        let hello = decoder.next(1024).unwrap().unwrap_or_default();
        assert!(decoder.next(1024).unwrap().is_none(), "nothing follows the hello");
        let text = String::from_utf8(hello).unwrap();
        assert!(!text.contains("mlx5") && !text.contains(TOKEN), "{text}");
    }
    running.client(TOKEN).unwrap();
}

#[test]
fn hundreds_of_half_open_connections_do_not_keep_a_client_out() {
    let running = Running::start();
    let strangers: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    let started = Instant::now();
    running.client(TOKEN).unwrap().describe().unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    drop(strangers);
}

#[test]
fn what_is_beyond_the_bounds_is_refused_and_the_session_goes_on() {
    let running = Running::start();
    let mut client = running.client(TOKEN).unwrap();
    let mut stage = choice().stage;
    stage.memory_bytes = 1 << 40;
    client.tell(&Command::Open(1, stage)).unwrap();
    let error = client.hear().unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    client.tell(&Command::Open(0, choice().stage)).unwrap();
    assert!(client.hear().unwrap_err().to_string().contains("number 1"));
    client.describe().unwrap();
}

#[test]
fn a_client_that_vanishes_leaves_nothing_and_others_are_served() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path()));
    let name = device(&mut worker);
    for stops_after in 0..3 {
        let mut client = running.client(TOKEN).unwrap();
        let mut commands = vec![Command::Open(1, EndpointPlan { device: name.clone(), ..choice().stage }), Command::Link(1, link())];
        commands.truncate(stops_after);
        for command in commands {
            client.tell(&command).unwrap();
            assert!(!matches!(client.hear().unwrap(), Answer::Failed(_)));
        }
        // In the middle of the session, the connection goes.
    }
    // All of them were clients of this server, so it has room for another only if they are gone or few; and it still works.
    running.client(TOKEN).unwrap().describe().unwrap();
    drop(worker);
    running.is_left_alone();
}

#[test]
fn a_failure_there_is_told_as_one_there() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path()));
    let mut ends = [choice(), choice()];
    ends[0].stage.device = device(&mut worker);
    ends[1].stage.device = "nowhere_0".to_owned();
    let mut client = running.client(TOKEN).unwrap();
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    match pair.open().unwrap_err() {
        BenchError::End { who: Who::There, failure, .. } => assert!(failure.to_string().contains("nowhere_0"), "{failure}"),
        other => panic!("{other}"),
    }
}
