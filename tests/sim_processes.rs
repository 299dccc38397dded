//! Queue pairs of two processes: this test starts itself again as the other one.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stdout,
    reason = "tests call a C interface; the peer talks over pipes"
)]

mod sim_support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rdma_sys::*;
use rdmadoctor::sim::{GidType, SimConfig, SimDevice, SimGid, SimPort};
use rdmadoctor::verbs::Gid;
use sim_support::*;

const DIRECTORY: &str = "SIM_TEST_DIRECTORY";
const LENGTH: usize = 1 << 20;

/// A host with one device at 10.8.0.N, which knows the other one.
fn config(directory: &Path, own: u8, other: u8) -> SimConfig {
    let gid = |last: u8| Gid(std::net::Ipv4Addr::new(10, 8, 0, last).to_ipv6_mapped().octets());
    let gids = vec![SimGid { gid: "fe80::1".parse().unwrap(), kind: GidType::RoceV2 }, SimGid { gid: gid(own), kind: GidType::RoceV2 }];
    let port = SimPort { gids: Some(gids), ..SimPort::default() };
    SimConfig {
        devices: vec![SimDevice { ports: vec![port], ..SimDevice::new("rxe0", "rxe-6.12") }],
        peers: vec![gid(other)],
        directory: Some(directory.to_owned()),
        ..SimConfig::default()
    }
}

/// What both sides tell each other.
#[derive(serde::Serialize, serde::Deserialize)]
struct Card {
    qpn: u32,
    gid: [u8; 16],
    addr: u64,
    rkey: u32,
}

fn card(host: &Host, end: End, region: &Region) -> Card {
    Card { qpn: end.number(), gid: host.gid(1), addr: region.addr(), rkey: region.rkey() }
}

/// The other process: answers lines on its standard input until it is closed.
#[test]
#[ignore = "started by the other tests"]
fn peer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let host = Host::new(config(directory.as_ref(), 2, 1));
    let end = host.qp(Options::default());
    let region = host.region(LENGTH, ALL_ACCESS);
    // A line of its own, whatever the test harness has printed before.
    let say = |text: &str| {
        println!("\n>{text}");
        std::io::stdout().flush().unwrap();
    };
    say(&serde_json::to_string(&card(&host, end, &region)).unwrap());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "connect" => {
                let card: Card = serde_json::from_str(rest).unwrap();
                host.connect(end, Options::default(), card.qpn, card.gid);
                say("ok");
            }
            "recv" => {
                end.recv(1, vec![region.sge(0, rest.parse().unwrap())]).unwrap();
                say("ok");
            }
            "wait" => {
                let wc = end.wait(1)[0];
                say(&format!("{} {} {}", wc.status, wc.byte_len, wc.imm));
            }
            "sum" => say(&region.read(0, LENGTH).iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string()),
            "set" => {
                region.fill(0, &rest.parse::<u64>().unwrap().to_ne_bytes());
                say("ok");
            }
            _ => panic!("{line}"),
        }
    }
}

struct Peer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Peer {
    fn start(directory: &Path) -> (Self, Card) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Self { child, lines };
        let card = serde_json::from_str(&peer.hear()).unwrap();
        (peer, card)
    }

    fn hear(&mut self) -> String {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(text) = line.strip_prefix('>') {
                return text.to_owned();
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.hear()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Session {
    _directory: tempfile::TempDir,
    host: Host,
    end: End,
    own: Region,
    peer: Peer,
    card: Card,
}

fn connect(options: Options) -> Session {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::new(config(directory.path(), 1, 2));
    let end = host.qp(options);
    let own = host.region(LENGTH, ALL_ACCESS);
    let (mut peer, card) = Peer::start(directory.path());
    assert_eq!(peer.ask(&format!("connect {}", serde_json::to_string(&self::card(&host, end, &own)).unwrap())), "ok");
    host.connect(end, options, card.qpn, card.gid);
    Session { _directory: directory, host, end, own, peer, card }
}

impl Session {
    fn remote(&self, id: u64, opcode: u32, length: usize) -> Wr {
        Wr { addr: self.card.addr, rkey: self.card.rkey, ..Wr::new(id, opcode, vec![self.own.sge(0, length)]) }
    }
}

#[test]
fn data_moves_between_two_processes() {
    let mut s = connect(Options::default());
    // More than a socket holds at once.
    s.own.fill(0, &vec![3; LENGTH]);
    s.end.send(s.remote(1, ibv_wr_opcode::IBV_WR_RDMA_WRITE, LENGTH)).unwrap();
    assert_eq!(s.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
    assert_eq!(s.peer.ask("sum"), (3 * LENGTH).to_string());

    s.peer.ask("recv 100");
    s.end.send(s.remote(2, ibv_wr_opcode::IBV_WR_SEND_WITH_IMM, 100).imm(77)).unwrap();
    assert_eq!(s.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
    assert_eq!(s.peer.ask("wait"), "0 100 77");

    s.peer.ask("set 40");
    let mut add = s.remote(3, ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD, 8);
    add.compare_add = 2;
    s.end.send(add).unwrap();
    s.end.send(Wr { sges: vec![s.own.sge(8, 8)], ..s.remote(4, ibv_wr_opcode::IBV_WR_RDMA_READ, 8) }).unwrap();
    assert_eq!(s.end.wait(2).iter().map(|wc| (wc.id, wc.status)).collect::<Vec<_>>(), [(3, 0), (4, 0)]);
    assert_eq!([s.own.read(0, 8), s.own.read(8, 8)], [40_u64.to_ne_bytes().to_vec(), 42_u64.to_ne_bytes().to_vec()]);

    // Keys are those of the process that made them.
    s.end.send(Wr { rkey: s.card.rkey ^ 0xff00, ..s.remote(5, ibv_wr_opcode::IBV_WR_RDMA_WRITE, 8) }).unwrap();
    s.end.send(s.remote(6, ibv_wr_opcode::IBV_WR_RDMA_WRITE, 8)).unwrap();
    let statuses: Vec<_> = s.end.wait(2).iter().map(|wc| wc.status).collect();
    assert_eq!(statuses, [ibv_wc_status::IBV_WC_REM_ACCESS_ERR, ibv_wc_status::IBV_WC_WR_FLUSH_ERR]);
}

#[test]
fn a_receiver_in_another_process_is_waited_for_and_its_death_is_noticed() {
    let mut s = connect(Options::default());
    s.end.send(s.remote(1, ibv_wr_opcode::IBV_WR_SEND, 8)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(10));
    assert!(s.end.poll().is_empty());
    s.peer.ask("recv 8");
    assert_eq!(s.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
    assert_eq!(s.peer.ask("wait"), "0 8 0");
    // One waits for the receiver, and then it dies.
    s.end.send(s.remote(2, ibv_wr_opcode::IBV_WR_SEND, 8)).unwrap();
    s.peer.child.kill().unwrap();
    s.peer.child.wait().unwrap();
    assert_eq!(s.end.status(), ibv_wc_status::IBV_WC_RETRY_EXC_ERR);
    assert_eq!(s.host.state(s.end), ibv_qp_state::IBV_QPS_ERR);
    // Its place is free again.
    let (peer, card) = Peer::start(s._directory.path());
    assert_eq!(card.qpn >> 16, s.card.qpn >> 16);
    drop(peer);
}

#[test]
fn a_receiver_that_never_gets_ready_exceeds_the_retries() {
    let s = connect(Options { rnr_retry: 3, ..Options::default() });
    s.end.send(s.remote(1, ibv_wr_opcode::IBV_WR_SEND, 8)).unwrap();
    assert_eq!(s.end.status(), ibv_wc_status::IBV_WC_RNR_RETRY_EXC_ERR);
}

#[test]
fn two_hosts_in_one_process_meet_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = [Host::new(config(directory.path(), 1, 2)), Host::new(config(directory.path(), 2, 1))];
    let ends = [hosts[0].qp(Options::default()), hosts[1].qp(Options::default())];
    for (index, host) in hosts.iter().enumerate() {
        host.connect(ends[index], Options::default(), ends[1 - index].number(), hosts[1 - index].gid(1));
    }
    let regions = [hosts[0].region(64, ALL_ACCESS), hosts[1].region(64, ALL_ACCESS)];
    for round in 0..50_u8 {
        for (index, end) in ends.iter().enumerate() {
            let (own, other) = (&regions[index], &regions[1 - index]);
            own.fill(0, &[round; 8]);
            end.send(Wr::new(1, ibv_wr_opcode::IBV_WR_RDMA_WRITE, vec![own.sge(0, 8)]).to(other, 32)).unwrap();
            assert_eq!(end.status(), 0);
            assert_eq!(other.read(32, 8), [round; 8]);
        }
    }
}
