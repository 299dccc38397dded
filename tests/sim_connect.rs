//! Connections made by the simulated rdma_cm: on one device, between two, between two processes, and all the ways in which they fail.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stdout,
    reason = "tests call a C interface; the peer talks over pipes"
)]

mod sim_support;

use std::ffi::c_void;
use std::io::{BufRead, BufReader, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use rdma_sys::*;
use rdmadoctor::sim::{LiveObjects, SimConfig, SimDevice, SimPort, Simulation};
use rdmadoctor::verbs::{ConnectionManager, Gid};
use sim_support::*;

const DIRECTORY: &str = "SIM_CONNECT_DIRECTORY";
const REFUSED: i32 = -libc::ECONNREFUSED;

/// A simulation with its connection manager and one event channel.
struct Manager {
    sim: Simulation,
    cm: ConnectionManager,
    channel: *mut rdma_event_channel,
}

/// An event, acknowledged.
#[derive(Debug)]
struct Told {
    kind: u32,
    id: *mut rdma_cm_id,
    listener: *mut rdma_cm_id,
    status: i32,
    data: Vec<u8>,
    resources: (u8, u8),
}

/// One side: an identifier with a queue pair and memory.
struct Side {
    host: Host,
    end: End,
    region: Region,
}

impl Manager {
    fn new(config: SimConfig) -> Self {
        let sim = Simulation::install(config).unwrap();
        let cm = sim.connection_manager();
        let channel = unsafe { (cm.rdma_create_event_channel)() };
        assert!(!channel.is_null());
        // A test that waits for an event that does not come fails instead.
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(unsafe { std::os::fd::BorrowedFd::borrow_raw((*channel).fd) }, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
        Self { sim, cm, channel }
    }

    fn id(&self) -> *mut rdma_cm_id {
        let mut id = ptr::null_mut();
        assert_eq!(unsafe { (self.cm.rdma_create_id)(self.channel, &raw mut id, ptr::null_mut(), rdma_port_space::RDMA_PS_TCP) }, 0);
        id
    }

    fn bind(&self, id: *mut rdma_cm_id, address: &str) -> Result<(), Errno> {
        let storage = SockaddrStorage::from(address.parse::<SocketAddr>().unwrap());
        check(unsafe { (self.cm.rdma_bind_addr)(id, storage.as_ptr().cast_mut().cast()) })
    }

    fn listener(&self, address: &str) -> *mut rdma_cm_id {
        let id = self.id();
        self.bind(id, address).unwrap();
        check(unsafe { (self.cm.rdma_listen)(id, 4) }).unwrap();
        id
    }

    fn resolve(&self, to: SocketAddr) -> (*mut rdma_cm_id, Told) {
        let id = self.id();
        let storage = SockaddrStorage::from(to);
        check(unsafe { (self.cm.rdma_resolve_addr)(id, ptr::null_mut(), storage.as_ptr().cast_mut().cast(), 1000) }).unwrap();
        (id, self.event())
    }

    /// An identifier on its way to an address, as far as the route.
    fn towards(&self, to: SocketAddr) -> *mut rdma_cm_id {
        let (id, told) = self.resolve(to);
        assert_eq!(told.kind, rdma_cm_event_type::RDMA_CM_EVENT_ADDR_RESOLVED, "{told:?}");
        check(unsafe { (self.cm.rdma_resolve_route)(id, 1000) }).unwrap();
        assert_eq!(self.event().kind, rdma_cm_event_type::RDMA_CM_EVENT_ROUTE_RESOLVED);
        id
    }

    fn side(&self, id: *mut rdma_cm_id) -> Side {
        unsafe {
            let verbs = self.sim.verbs();
            assert!(!(*id).verbs.is_null());
            let pd = (verbs.ibv_alloc_pd)((*id).verbs);
            let host = Host { sim: self.sim, verbs, context: (*id).verbs, pd };
            let cq = host.cq(64);
            let mut init: ibv_qp_init_attr = mem::zeroed();
            (init.send_cq, init.recv_cq, init.qp_type) = (cq, cq, ibv_qp_type::IBV_QPT_RC);
            init.cap = ibv_qp_cap { max_send_wr: 16, max_recv_wr: 16, max_send_sge: 1, max_recv_sge: 1, max_inline_data: 0 };
            check((self.cm.rdma_create_qp)(id, pd, &raw mut init)).unwrap();
            let region = host.region(4096, ALL_ACCESS);
            Side { host, end: End { qp: (*id).qp, cq }, region }
        }
    }

    fn connect(&self, id: *mut rdma_cm_id, data: &[u8]) {
        let mut parameters = parameters(data);
        check(unsafe { (self.cm.rdma_connect)(id, &raw mut parameters) }).unwrap();
    }

    fn accept(&self, id: *mut rdma_cm_id, data: &[u8]) {
        let mut parameters = parameters(data);
        check(unsafe { (self.cm.rdma_accept)(id, &raw mut parameters) }).unwrap();
    }

    fn try_event(&self) -> Option<Told> {
        let mut event = ptr::null_mut();
        if unsafe { (self.cm.rdma_get_cm_event)(self.channel, &raw mut event) } != 0 {
            assert_eq!(Errno::last(), Errno::EAGAIN);
            return None;
        }
        unsafe {
            let conn = &(*event).param.conn;
            let data = match conn.private_data.is_null() {
                true => Vec::new(),
                false => std::slice::from_raw_parts(conn.private_data.cast::<u8>(), conn.private_data_len.into()).to_vec(),
            };
            let told = Told {
                kind: (*event).event,
                id: (*event).id,
                listener: (*event).listen_id,
                status: (*event).status,
                data,
                resources: (conn.responder_resources, conn.initiator_depth),
            };
            assert_eq!((self.cm.rdma_ack_cm_event)(event), 0);
            Some(told)
        }
    }

    fn event(&self) -> Told {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if let Some(told) = self.try_event() {
                return told;
            }
            assert!(std::time::Instant::now() < deadline, "no event");
            std::thread::yield_now();
        }
    }

    fn expect(&self, kind: u32) -> Told {
        let told = self.event();
        assert_eq!(told.kind, kind, "{told:?}");
        told
    }

    fn destroy(&self, id: *mut rdma_cm_id, side: Option<Side>) {
        unsafe {
            if let Some(side) = side {
                (self.cm.rdma_destroy_qp)(id);
                assert_eq!((side.host.verbs.ibv_destroy_cq)(side.end.cq), 0);
                assert_eq!((side.host.verbs.ibv_dereg_mr)(side.region.mr), 0);
                assert_eq!((side.host.verbs.ibv_dealloc_pd)(side.host.pd), 0);
            }
            assert_eq!((self.cm.rdma_destroy_id)(id), 0);
        }
    }

    fn end(self) {
        unsafe { (self.cm.rdma_destroy_event_channel)(self.channel) };
        assert_eq!(self.sim.live_objects(), LiveObjects::default(), "nothing is left behind");
    }
}

fn parameters(data: &[u8]) -> rdma_conn_param {
    let mut parameters: rdma_conn_param = unsafe { mem::zeroed() };
    parameters.private_data = data.as_ptr().cast::<c_void>();
    parameters.private_data_len = data.len() as u8;
    (parameters.responder_resources, parameters.initiator_depth) = (3, 2);
    (parameters.retry_count, parameters.rnr_retry_count) = (1, 7);
    parameters
}

fn check(returned: i32) -> Result<(), Errno> {
    if returned == 0 { Ok(()) } else { Err(Errno::last()) }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A message and a write from one side to the other.
fn moves_data(one: &Side, other: &Side) {
    other.end.recv(1, vec![other.region.sge(0, 64)]).unwrap();
    one.region.fill(0, b"over rdma_cm");
    one.end.send(Wr::send(2, vec![one.region.sge(0, 12)])).unwrap();
    assert_eq!(one.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
    assert_eq!(other.end.wait(1)[0].byte_len, 12);
    assert_eq!(other.region.read(0, 12), b"over rdma_cm");
    one.end.send(Wr::new(3, ibv_wr_opcode::IBV_WR_RDMA_WRITE, vec![one.region.sge(0, 12)]).to(&other.region, 100)).unwrap();
    assert_eq!(one.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
    assert_eq!(other.region.read(100, 12), b"over rdma_cm");
    one.end.send(Wr::new(4, ibv_wr_opcode::IBV_WR_RDMA_READ, vec![one.region.sge(200, 12)]).to(&other.region, 100)).unwrap();
    assert_eq!(one.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
    assert_eq!(one.region.read(200, 12), b"over rdma_cm");
}

/// Connects, moves data both ways, disconnects.
fn round(models: &[&str], to: &str) {
    let manager = Manager::new(SimConfig::of_models(models.iter().copied()));
    let is_iwarp = matches!(models[0], "siw" | "erdma" | "cxgb4" | "irdma-x722");
    let listener = manager.listener(to);
    let active = manager.towards(at(to));
    let one = manager.side(active);
    manager.connect(active, b"hello");
    let request = manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST);
    assert_eq!((request.listener, &request.data[..5], request.resources), (listener, &b"hello"[..], (2, 3)));
    assert_eq!(request.data.len(), if is_iwarp { 5 } else { 56 });
    let other = manager.side(request.id);
    manager.accept(request.id, b"welcome");
    let mut established = [manager.event(), manager.event()];
    established.sort_by_key(|told| told.id != active);
    assert!(established.iter().all(|told| told.kind == rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED && told.status == 0));
    assert_eq!((&established[0].data[..7], established[1].id), (&b"welcome"[..], request.id));
    moves_data(&one, &other);
    moves_data(&other, &one);
    other.end.recv(9, vec![other.region.sge(0, 64)]).unwrap();
    check(unsafe { (manager.cm.rdma_disconnect)(request.id) }).unwrap();
    let ended = [manager.event(), manager.event()];
    assert!(ended.iter().all(|told| told.kind == rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED), "{ended:?}");
    assert_eq!(other.end.status(), ibv_wc_status::IBV_WC_WR_FLUSH_ERR);
    check(unsafe { (manager.cm.rdma_disconnect)(active) }).unwrap();
    manager.destroy(active, Some(one));
    manager.destroy(request.id, Some(other));
    manager.destroy(listener, None);
    assert!(manager.try_event().is_none());
    manager.end();
}

#[test]
fn devices_of_every_kind_connect_and_move_data() {
    for model in ["siw", "erdma", "cxgb4", "rxe-6.12", "mlx5-6.12", "erdma-compat"] {
        round(&[model], "10.77.0.1:7471");
        round(&[model, model], "10.77.0.2:7471");
    }
}

#[test]
fn a_listener_of_all_addresses_hears_requests_to_each() {
    let manager = Manager::new(SimConfig::of_models(["siw", "siw"]));
    let listener = manager.listener("0.0.0.0:9000");
    for to in ["10.77.0.1:9000", "10.77.0.2:9000"] {
        let active = manager.towards(at(to));
        let side = manager.side(active);
        manager.connect(active, b"");
        let request = manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST);
        assert_eq!(unsafe { ((*request.id).verbs, (*listener).verbs.is_null()) }, (side.host.context, true));
        // Destroyed without an answer, which is a refusal.
        manager.destroy(request.id, None);
        assert_eq!(manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_REJECTED).id, active);
        manager.destroy(active, Some(side));
    }
    manager.destroy(listener, None);
    manager.end();
}

#[test]
fn refusals_say_who_refused() {
    for (model, nobody, unwanted) in [("erdma", REFUSED, REFUSED), ("rxe-6.12", 8, 28)] {
        let manager = Manager::new(SimConfig::of_models([model]));
        let active = manager.towards(at("10.77.0.1:7471"));
        let side = manager.side(active);
        manager.connect(active, b"");
        assert_eq!(manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_REJECTED).status, nobody);
        assert_eq!(side.host.state(side.end), ibv_qp_state::IBV_QPS_ERR);
        manager.destroy(active, Some(side));
        let listener = manager.listener("10.77.0.1:7471");
        let active = manager.towards(at("10.77.0.1:7471"));
        let side = manager.side(active);
        manager.connect(active, b"");
        let request = manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST);
        check(unsafe { (manager.cm.rdma_reject)(request.id, b"no".as_ptr().cast(), 2) }).unwrap();
        let told = manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_REJECTED);
        assert_eq!((told.status, told.data.as_slice()), (unwanted, &b"no"[..]));
        for (id, side) in [(request.id, None), (active, Some(side)), (listener, None)] {
            manager.destroy(id, side);
        }
        manager.end();
    }
}

#[test]
fn addresses_that_lead_nowhere_are_told() {
    let gid = |last: u8| Gid(Ipv4Addr::new(10, 8, 0, last).to_ipv6_mapped().octets());
    let mut config = SimConfig::of_models(["siw", "efa"]);
    config.peers = vec![gid(9)];
    let manager = Manager::new(config);
    let id = manager.id();
    assert_eq!(manager.bind(id, "192.0.2.1:1"), Err(Errno::ENODEV));
    assert_eq!(manager.bind(id, "10.77.0.2:1"), Err(Errno::ENODEV), "EFA takes no rdma_cm");
    manager.bind(id, "10.77.0.1:1").unwrap();
    let second = manager.id();
    assert_eq!(manager.bind(second, "10.77.0.1:1"), Err(Errno::EADDRINUSE));
    manager.bind(second, "10.77.0.1:0").unwrap();
    assert!(u16::from_be(unsafe { (manager.cm.rdma_get_src_port)(second) }) >= 32768);
    let (lost, told) = manager.resolve(at("192.0.2.7:1"));
    assert_eq!((told.kind, told.status), (rdma_cm_event_type::RDMA_CM_EVENT_ADDR_ERROR, -libc::ETIMEDOUT));
    // A host that is known and that nobody simulates.
    let silent = manager.towards(at("10.8.0.9:1"));
    let side = manager.side(silent);
    manager.connect(silent, b"");
    assert_eq!(manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_UNREACHABLE).status, -libc::ETIMEDOUT);
    // Steps out of turn.
    let mut none = parameters(b"");
    assert_eq!(check(unsafe { (manager.cm.rdma_connect)(id, &raw mut none) }), Err(Errno::EINVAL));
    assert_eq!(check(unsafe { (manager.cm.rdma_accept)(id, &raw mut none) }), Err(Errno::EINVAL));
    assert_eq!(check(unsafe { (manager.cm.rdma_resolve_route)(id, 1) }), Err(Errno::EINVAL));
    assert_eq!(check(unsafe { (manager.cm.rdma_disconnect)(id) }), Err(Errno::EINVAL));
    for (id, side) in [(id, None), (second, None), (lost, None), (silent, Some(side))] {
        manager.destroy(id, side);
    }
    manager.end();
}

#[test]
fn faults_strike_calls_of_the_connection_manager() {
    let config = SimConfig::of_models(["siw"]).with_fault("errno:rdma_connect:ENOMEM@1".parse().unwrap());
    let manager = Manager::new(config);
    let active = manager.towards(at("10.77.0.1:1"));
    let mut none = parameters(b"");
    assert_eq!(check(unsafe { (manager.cm.rdma_connect)(active, &raw mut none) }), Err(Errno::ENOMEM));
    manager.destroy(active, None);
    manager.end();
}

/// A host with one iWARP device at 10.8.0.N.
fn config(directory: &Path, own: u8, model: &str) -> SimConfig {
    let port = SimPort { addresses: Some(vec![Ipv4Addr::new(10, 8, 0, own).into()]), ..SimPort::default() };
    SimConfig {
        devices: vec![SimDevice { ports: vec![port], ..SimDevice::new("dev0", model) }],
        directory: Some(directory.to_owned()),
        ..SimConfig::default()
    }
}

/// The other process: listens, takes a message into its memory, and says what it saw.
#[test]
#[ignore = "started by another test"]
fn peer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let manager = Manager::new(config(directory.as_ref(), 2, &std::env::var("SIM_CONNECT_MODEL").unwrap()));
    let listener = manager.listener("10.8.0.2:7471");
    println!("\n>listening");
    let request = manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST);
    let side = manager.side(request.id);
    side.end.recv(1, vec![side.region.sge(0, 64)]).unwrap();
    manager.accept(request.id, &[]);
    manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED);
    let wc = side.end.wait(1)[0];
    println!("\n>{} {}", wc.status, String::from_utf8(side.region.read(0, wc.byte_len as usize)).unwrap());
    std::io::stdout().flush().unwrap();
    manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED);
    manager.destroy(request.id, Some(side));
    manager.destroy(listener, None);
    manager.end();
}

#[test]
fn two_processes_connect() {
    for model in ["erdma", "siw"] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env("SIM_CONNECT_MODEL", model)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut hear = || lines.find_map(|line| line.strip_prefix('>').map(str::to_owned)).unwrap();
        assert_eq!(hear(), "listening");
        let manager = Manager::new(config(directory.path(), 1, model));
        // There, but nobody at this port.
        let id = manager.towards(at("10.8.0.2:1"));
        let side = manager.side(id);
        manager.connect(id, b"");
        assert_eq!(manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_REJECTED).status, REFUSED);
        manager.destroy(id, Some(side));
        let id = manager.towards(at("10.8.0.2:7471"));
        let side = manager.side(id);
        manager.connect(id, b"");
        manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED);
        side.region.fill(0, b"between processes");
        side.end.send(Wr::send(1, vec![side.region.sge(0, 17)])).unwrap();
        assert_eq!(side.end.status(), ibv_wc_status::IBV_WC_SUCCESS);
        assert_eq!(hear(), "0 between processes");
        check(unsafe { (manager.cm.rdma_disconnect)(id) }).unwrap();
        manager.expect(rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED);
        manager.destroy(id, Some(side));
        assert!(child.wait().unwrap().success());
        manager.end();
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok()).collect();
        assert!(!left.iter().any(|name| name.starts_with("listener")), "{left:?}");
    }
}
