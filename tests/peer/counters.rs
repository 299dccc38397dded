//! The counters of the other side: told to a client that asks, of the device that it has open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
