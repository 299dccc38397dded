//! The counters of the other side: told to a client that asks, of the device that it has open, and not to an older one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rdmadoctor::bench::peer::{Client, ClientHandshake, Decoder, Keys, Reply, Request, ServerHandshake, Step};
use rdmadoctor::bench::{CounterKeeper, Endpoint, Flow, HostSide, Pair, PortOf, Route, Routes, Snapshot, Watched};
use rdmadoctor::host::{Node, Root};
use rdmadoctor::sim::{CounterFile, SimConfig};
use rdmadoctor::transfer::{Command, Connect, EndpointPlan, Operation, RunKind};
use rdmadoctor::worker::{Target, Worker, WorkerOptions};

use super::{Running, TOKEN, choice, link, plan};

/// Devices whose data is counted in a file of the directory.
pub fn options(directory: &Path, file: &str) -> WorkerOptions {
    let options = super::options(directory);
    let Target::Devices(config) = options.target else { panic!("not simulated") };
    WorkerOptions { target: Target::Devices(SimConfig { tallies: Some(directory.join(file)), ..config }), ..options }
}

/// A host with the one device, and another that nobody opens.
fn root() -> Root {
    let class = "/sys/class/infiniband";
    let counters = ["port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets"];
    let mut nodes = BTreeMap::new();
    for device in ["mlx5-6.1", "mlx5_secret"] {
        nodes.insert(PathBuf::from(format!("{class}/{device}/node_type")), Node::text("1: CA\n"));
        for counter in counters {
            nodes.insert(format!("{class}/{device}/ports/1/counters/{counter}").into(), Node::text("1000\n"));
        }
    }
    Root::tree(nodes)
}

fn tallies(file: PathBuf) -> CounterFile {
    CounterFile::of(&SimConfig { tallies: Some(file), ..SimConfig::of_models(["mlx5-6.1"]) }).unwrap()
}

/// What a server reads.
pub fn read(file: PathBuf) -> Box<dyn Fn(&str) -> Snapshot + Send + Sync> {
    let tallies = tallies(file);
    Box::new(move |device| {
        let root = root();
        Snapshot::read(&root, Some(&tallies), &Routes::of_host(&root), &[device.to_owned()], false)
    })
}

#[test]
fn both_sides_counters_show_what_was_moved() {
    let running = Running::start();
    let file = running.directory.path().join("counted-here");
    let mut worker = Worker::new(options(running.directory.path(), "counted-here"));
    let name = super::device(&mut worker);
    let mut ends = [choice(), choice()];
    ends.iter_mut().for_each(|end| end.stage.device.clone_from(&name));
    let mut client = running.client(TOKEN).unwrap();
    assert_eq!(client.counters().unwrap(), None, "nothing is open yet");
    let mut pair = Pair::new(&mut worker, Some(&mut client), ends, Connect::Oob, 1);
    pair.open().unwrap();
    pair.link(&link(), [true, true]).unwrap();
    let (root, tallies) = (root(), tallies(file));
    let port = PortOf { device: name.clone(), port: 1 };
    let watched = Watched::new(&root, Some(&tallies), [port.clone(), port], true);
    for (operation, sender) in [(Operation::Write, HostSide::Here), (Operation::Read, HostSide::There)] {
        let before = watched.read(&mut pair).unwrap();
        pair.run([Some(plan(operation, RunKind::Bandwidth)), None], &mut |_| {}).unwrap();
        let all = Flow::of(200 * 4096, 4096, 1024);
        let flows = if operation == Operation::Read { [Flow::default(), all] } else { [all, Flow::default()] };
        let (deltas, carried) = watched.since(&before, &mut pair, flows, &|| false).unwrap();
        assert!(deltas.iter().all(|delta| delta.device == name && delta.keeper == CounterKeeper::Rdma), "{deltas:?}");
        let grew = |side: HostSide, counter: &str| {
            deltas.iter().find(|delta| delta.side == side && delta.name == counter).map_or(0, |delta| delta.delta)
        };
        let other = if sender == HostSide::Here { HostSide::There } else { HostSide::Here };
        assert!(grew(sender, "port_xmit_data") >= 200 * 4096 / 4, "{operation}: {deltas:?}");
        assert!(grew(other, "port_rcv_data") >= 200 * 4096 / 4, "{operation}: {deltas:?}");
        assert!(grew(other, "port_xmit_data") < 4096, "{operation}: {deltas:?}");
        assert_eq!(carried.iter().map(|carried| carried.way).collect::<Vec<_>>(), [Route::ThisDevice; 2], "{carried:?}");
    }
    pair.close();
}

#[test]
fn counters_are_told_of_no_device_but_the_open_one() {
    let running = Running::start();
    let mut worker = Worker::new(options(running.directory.path(), "counted-here"));
    let name = super::device(&mut worker);
    let mut client = running.client(TOKEN).unwrap();
    client.tell(&Command::Open(1, EndpointPlan { device: name.clone(), ..choice().stage })).unwrap();
    client.hear().unwrap();
    let told = client.counters().unwrap().unwrap();
    assert!(told.devices.iter().all(|ways| ways.device == name) && told.sets.iter().all(|set| set.owner == name), "{told:?}");
    assert_eq!(told.sets.len(), 1);
    client.tell(&Command::Close).unwrap();
    client.hear().unwrap();
    assert_eq!(client.counters().unwrap(), None, "it is closed");
}

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

#[test]
fn an_older_client_works_and_is_told_no_counters() {
    let running = Running::start();
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut decoder = Decoder::default();
    let mut handshake = ClientHandshake::speaking(TOKEN, (1, 1));
    let hello = frame(&mut stream, &mut decoder, None).unwrap();
    for said in handshake.answer(&hello).unwrap() {
        say(&mut stream, &said);
    }
    let (mut keys, server) = handshake.finish(&frame(&mut stream, &mut decoder, None).unwrap()).unwrap();
    assert_eq!(server.version, 1);
    let mut ask = |request: &Request| {
        say(&mut stream, &keys.seal(&serde_json::to_vec(request).unwrap()));
        let reply = frame(&mut stream, &mut decoder, Some(&mut keys)).unwrap();
        serde_json::from_slice::<Reply>(&reply).unwrap()
    };
    assert!(matches!(ask(&Request::Describe), Reply::Devices(..)));
    assert!(matches!(ask(&Request::Counters), Reply::Refused(why) if why.contains("version 2")));
    assert!(matches!(ask(&Request::Describe), Reply::Devices(..)), "the session goes on");
}

#[test]
fn an_older_server_is_not_asked_for_counters() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut decoder = Decoder::default();
        let (mut handshake, hello) = ServerHandshake::speaking(TOKEN, (1, 1)).unwrap();
        say(&mut stream, &hello);
        let mut keys = loop {
            let frame = frame(&mut stream, &mut decoder, None).unwrap();
            if let Step::Done(proof, keys, client) = handshake.step(&frame).unwrap() {
                assert_eq!(client.version, 1);
                say(&mut stream, &proof);
                break keys;
            }
        };
        let mut heard = Vec::new();
        while let Some(request) = frame(&mut stream, &mut decoder, Some(&mut keys)) {
            heard.push(String::from_utf8(request).unwrap());
            say(&mut stream, &keys.seal(&serde_json::to_vec(&Reply::Devices(Vec::new(), Vec::new())).unwrap()));
        }
        heard
    });
    let interrupted = Arc::new(AtomicBool::new(false));
    let mut client = Client::connect(&address.to_string(), TOKEN, Duration::from_secs(20), interrupted).unwrap();
    assert!(!client.tells_counters());
    client.describe().unwrap();
    assert_eq!(client.counters().unwrap(), None);
    drop(client);
    assert_eq!(server.join().unwrap(), ["\"describe\""]);
}
