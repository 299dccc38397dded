//! The simulated control path through the objects of `rdmadoctor::verbs`, and faults in it.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "tests call a C interface")]

mod plain;
mod sim_support;

use std::ptr;
use std::sync::{Arc, LazyLock};

use nix::errno::Errno;
use proptest::prelude::*;
use rdma_sys::*;
use rdmadoctor::catalog::DeviceModel;
use rdmadoctor::catalog::device::{GidShape, StateMachine};
use rdmadoctor::sim::{GidType, InstallError, LiveObjects, ModelSource, SimConfig, SimDevice, SimGid, SimPort, Simulation};
use rdmadoctor::verbs::{CallError, Context, DeviceList, Gid, QueuePairCaps, QueuePairInit, StateChange, Verbs};
use rdmadoctor::worker::QpType;
use rdmadoctor_types::{LinkLayer, PortState, Word};
use sim_support::{ALL_ACCESS, End, Host, Options, Region, Wr};

const LIMITS: QueuePairCaps = QueuePairCaps { max_send_wr: 64, max_recv_wr: 64, max_send_sge: 6, max_recv_sge: 1, max_inline_data: 96 };

fn device(name: &str, model: DeviceModel) -> SimDevice {
    SimDevice { model: ModelSource::Given(Box::new(model)), ..SimDevice::new(name, "") }
}

fn config(devices: Vec<SimDevice>, faults: &[&str]) -> SimConfig {
    SimConfig { devices, faults: faults.iter().map(|text| text.parse().unwrap()).collect(), ..SimConfig::default() }
}

/// A plain device named `plain_0`, with faults.
fn plain(faults: &[&str]) -> Simulation {
    Simulation::install(config(vec![device("plain_0", plain::plain("plain", LIMITS))], faults)).unwrap()
}

fn open(sim: Simulation) -> Result<Context, CallError> {
    let verbs: Arc<Verbs> = Arc::new(sim.verbs());
    let list = DeviceList::new(&verbs)?;
    list.iter().next().unwrap().open()
}

fn caps(max_recv_sge: u32) -> QueuePairCaps {
    QueuePairCaps { max_send_wr: 16, max_recv_wr: 16, max_send_sge: 1, max_recv_sge, max_inline_data: 0 }
}

fn errno<T>(result: Result<T, CallError>) -> i32 {
    result.err().map_or(-1, |error| error.errno.0)
}

#[test]
fn every_model_is_listed_queried_and_used_through_the_same_objects() {
    let names = DeviceModel::names();
    let sim = Simulation::install(SimConfig::of_models(names.iter().copied())).unwrap();
    let verbs = Arc::new(sim.verbs());
    let list = DeviceList::new(&verbs).unwrap();
    assert_eq!(list.iter().map(|device| device.name()).collect::<Vec<_>>(), names);
    for handle in list.iter() {
        let model = DeviceModel::find(&handle.name()).unwrap();
        assert_eq!(handle.types(), (model.identity.node_type.value.code(), model.identity.transport.value.code()));
        let context = handle.open().unwrap();
        let attributes = context.query_device().unwrap();
        assert_ne!(attributes.node_guid, "0000:0000:0000:0000");
        let mut same = rdmadoctor::verbs::DeviceAttributes {
            node_guid: attributes.node_guid.clone(),
            sys_image_guid: attributes.sys_image_guid.clone(),
            ..model.attributes()
        };
        // Bits have an order of their own.
        same.flags.sort_by_key(|flag| attributes.flags.iter().position(|other| other == flag));
        assert_eq!(attributes, same, "{}", model.name);
        let port = context.query_port(1).unwrap();
        assert_eq!((port.state, port.max_mtu_bytes), (Word::Known(PortState::Active), model.port.max_mtu_bytes.value));
        assert!(!context.query_gid(1, 0).unwrap().is_empty());
        assert!(context.query_port(9).is_err() && context.query_gid(1, 100_000).is_err());
        let pd = context.alloc_pd().unwrap();
        pd.register(vec![0; 4096].into()).unwrap();
        context.create_cq(64).unwrap();
    }
    drop(list);
    assert_eq!(sim.live_objects(), LiveObjects::default(), "nothing is left behind");
}

#[test]
fn a_request_gets_the_models_answer_and_everything_is_freed() {
    let sim = plain(&[]);
    let context = open(sim).unwrap();
    let (pd, cq) = (context.alloc_pd().unwrap(), context.create_cq(64).unwrap());
    let ask = |max_recv_sge| pd.create_qp(&QueuePairInit { qp_type: 2, caps: caps(max_recv_sge), cq: &cq, srq: None });
    let granted = ask(1).unwrap();
    assert_eq!(granted.caps(), caps(1));
    assert_eq!(errno(ask(4)), libc::EINVAL);
    assert_eq!(errno(pd.create_qp(&QueuePairInit { qp_type: 4, caps: caps(1), cq: &cq, srq: None })), libc::EOPNOTSUPP);
    assert_eq!(errno(pd.create_srq(16, 1)), libc::EOPNOTSUPP);
    assert_eq!(sim.live_objects(), LiveObjects { contexts: 1, pds: 1, cqs: 1, qps: 1, ..LiveObjects::default() });
    drop((granted, cq, pd, context));
    assert_eq!(sim.live_objects(), LiveObjects::default());
}

/// EFA's own type is made by libefa's call alone, on an EFA alone, and walks as a datagram does.
#[test]
fn srd_is_made_by_its_own_call() {
    let sim = Simulation::install(SimConfig::of_models(["efa", "erdma"])).unwrap();
    let list = DeviceList::new(&Arc::new(sim.verbs())).unwrap();
    let contexts: Vec<Context> = list.iter().map(|handle| handle.open().unwrap()).collect();
    let ask = |context: &Context, qp_type: QpType| {
        let (pd, cq) = (context.alloc_pd().unwrap(), context.create_cq(64).unwrap());
        pd.create_srd_qp(&QueuePairInit { qp_type: qp_type.code(), caps: caps(2), cq: &cq, srq: None })
    };
    assert_eq!(ask(&contexts[0], QpType::Srd).unwrap().caps().max_recv_sge, 2);
    assert_eq!(errno(ask(&contexts[0], QpType::UD)), libc::EINVAL);
    assert_eq!(errno(ask(&contexts[1], QpType::Srd)), libc::EOPNOTSUPP);
    let (pd, cq) = (contexts[0].alloc_pd().unwrap(), contexts[0].create_cq(64).unwrap());
    let standard = pd.create_qp(&QueuePairInit { qp_type: QpType::Srd.code(), caps: caps(2), cq: &cq, srq: None });
    assert_eq!(errno(standard), libc::EOPNOTSUPP);
    drop((pd, cq, contexts, list));
    assert_eq!(sim.live_objects(), LiveObjects::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked of whatever model, the answer through the structures of verbs.h is the model's own, and nothing is left.
    #[test]
    fn any_request_gets_the_models_own_answer(
        model in prop::sample::select(DeviceModel::embedded()),
        kind in prop::sample::select(&QpType::ALL[..]),
        wr in (magnitude(24), magnitude(24)),
        sge in (magnitude(7), magnitude(7)),
        max_inline_data in magnitude(11),
        cq_depth in magnitude(24),
        srq in prop::option::weighted(0.2, (magnitude(20), magnitude(7))),
    ) {
        static ALL: LazyLock<Simulation> =
            LazyLock::new(|| Simulation::install(SimConfig::of_models(DeviceModel::names())).unwrap());
        let caps = QueuePairCaps { max_send_wr: wr.0, max_recv_wr: wr.1, max_send_sge: sge.0, max_recv_sge: sge.1, max_inline_data };
        let expected = model.create_qp(kind, caps, srq.is_some());
        // Some providers die of some requests, and so would this process.
        prop_assume!(expected.as_ref().err().is_none_or(|refusal| refusal.signal.is_none()));
        let verbs = Arc::new(ALL.verbs());
        let context = DeviceList::new(&verbs).unwrap().iter().find(|device| device.name() == model.name).unwrap().open().unwrap();
        let cq = context.create_cq(cq_depth);
        prop_assert_eq!(
            cq.as_ref().map(|cq| cq.entries()).map_err(|error| error.errno.0),
            model.create_cq(i64::from(cq_depth)).map_err(|refusal| refusal.errno)
        );
        let pd = context.alloc_pd().unwrap();
        let srq = srq.map(|(max_wr, max_sge)| (pd.create_srq(max_wr, max_sge), model.create_srq(max_wr, max_sge)));
        let srq = match srq {
            Some((made, expected)) => {
                prop_assert_eq!(made.as_ref().err().map(|error| error.errno.0), expected.err().map(|refusal| refusal.errno));
                let Ok(made) = made else { return Ok(()) };
                Some(made)
            }
            None => None,
        };
        let Ok(cq) = context.create_cq(64) else { return Ok(()) };
        let init = QueuePairInit { qp_type: kind.code(), caps, cq: &cq, srq: srq.as_ref() };
        let qp = if kind == QpType::Srd { pd.create_srd_qp(&init) } else { pd.create_qp(&init) };
        let refused_by_call = model.standard_call_refuses(kind).map(|errno| errno.0).filter(|_| kind != QpType::Srd);
        let expected = match (expected, refused_by_call) {
            // libefa looks whose device it is before anything else.
            _ if kind == QpType::Srd && model.driver != "efa" => Err(libc::EOPNOTSUPP),
            (Ok(_), Some(errno)) => Err(errno),
            (expected, _) => expected.map(|grant| grant.caps).map_err(|refusal| refusal.errno),
        };
        prop_assert_eq!(qp.map(|qp| qp.caps()).map_err(|error| error.errno.0), expected);
    }
}

/// Numbers of any size up to so many bits, and their neighbours.
fn magnitude(bits: u32) -> impl Strategy<Value = u32> {
    (0..=bits, 0..3_u32).prop_map(|(bits, off)| (1_u32 << bits).saturating_add(off).saturating_sub(2))
}

#[test]
fn what_is_in_use_is_not_freed() {
    let host = Host::of_model("rxe-6.12");
    let v = &host.verbs;
    let end = host.qp(Options::default());
    let region = host.region(8, ALL_ACCESS);
    unsafe {
        assert_eq!((v.ibv_destroy_cq)(end.cq), libc::EBUSY);
        assert_eq!((v.ibv_dealloc_pd)(host.pd), libc::EBUSY);
        assert_eq!((v.ibv_destroy_qp)(end.qp), 0);
        assert_eq!((v.ibv_destroy_cq)(end.cq), 0);
        assert_eq!((v.ibv_dealloc_pd)(host.pd), libc::EBUSY);
        assert_eq!((v.ibv_dereg_mr)(region.mr), 0);
        assert_eq!((v.ibv_dealloc_pd)(host.pd), 0);
        assert_eq!((v.ibv_close_device)(host.context), 0);
    }
    assert_eq!(host.sim.live_objects(), LiveObjects::default());
}

#[test]
fn regions_need_sensible_access_and_memory_that_is_there() {
    let host = Host::of_model("rxe-6.12");
    let register = |addr: usize, length, access| unsafe {
        Errno::clear();
        let mr = (host.verbs.ibv_reg_mr)(host.pd, ptr::without_provenance_mut(addr), length, access);
        if mr.is_null() { Err(Errno::last_raw()) } else { Ok((host.verbs.ibv_dereg_mr)(mr)) }
    };
    let memory = Box::leak(vec![0_u8; 8192].into_boxed_slice());
    let addr = memory.as_ptr().expose_provenance();
    assert_eq!(register(addr, 8192, 1), Ok(0));
    assert_eq!(register(addr, 8192, 2), Err(libc::EINVAL), "remote write without local write");
    assert_eq!(register(0x1000, 8192, 1), Err(libc::EFAULT));
    assert_eq!(register(usize::MAX - 10, 8192, 1), Err(libc::EFAULT));
    for (memlock_bytes, errno) in [(0, libc::EPERM), (8192, libc::ENOMEM)] {
        let config = SimConfig { memlock_bytes: Some(memlock_bytes), ..SimConfig::of_models(["rxe-6.12"]) };
        let pd = open(Simulation::install(config).unwrap()).unwrap().alloc_pd().unwrap();
        let first = pd.register(vec![0; 4096].into());
        assert_eq!(self::errno(pd.register(vec![0; 8192].into())), errno);
        assert_eq!(first.is_ok(), memlock_bytes > 0);
    }
}

/// What the probe for dma-buf gets on a kernel.
fn with_kernel(model: &str, kernel: &str) -> Errno {
    let host = Host::new(SimConfig { kernel: Some(kernel.to_owned()), ..SimConfig::of_models([model]) });
    let reg = host.verbs.ibv_reg_dmabuf_mr.unwrap();
    assert!(unsafe { reg(host.pd, 0, 4096, 0, -1, ALL_ACCESS) }.is_null());
    Errno::last()
}

#[test]
fn a_dma_buf_region_works_where_the_model_has_them() {
    let Some(name) = DeviceModel::names().into_iter().find(|name| {
        let model = DeviceModel::find(name).unwrap();
        let types = |kind| model.create_qp(kind, caps(1), false).is_ok();
        model.takes_dma_buf("999") && types(rdmadoctor::worker::QpType::RC)
    }) else {
        return;
    };
    let host = Host::of_model(name);
    let reg = host.verbs.ibv_reg_dmabuf_mr.unwrap();
    unsafe {
        Errno::clear();
        assert!(reg(host.pd, 0, 4096, 0, -1, ALL_ACCESS).is_null());
        assert_eq!(Errno::last(), Errno::EBADF, "the probe of engines: the path is there");
        let fd = libc::memfd_create(c"buffer".as_ptr(), 0);
        assert_eq!(libc::ftruncate(fd, 8192), 0);
        let mr = reg(host.pd, 4096, 4096, 0x1000_0000, fd, ALL_ACCESS);
        assert!(!mr.is_null(), "{}", Errno::last());
        let (a, _) = host.pair(Options { inline: 0, ..Options::default() });
        let own = host.region(64, ALL_ACCESS);
        own.fill(0, b"device memory");
        let mut wr = Wr::new(1, ibv_wr_opcode::IBV_WR_RDMA_WRITE, vec![own.sge(0, 13)]);
        (wr.addr, wr.rkey) = (0x1000_0010, (*mr).rkey);
        a.send(wr).unwrap();
        assert_eq!(a.status(), ibv_wc_status::IBV_WC_SUCCESS);
        let mut bytes = [0_u8; 13];
        assert_eq!(libc::pread(fd, bytes.as_mut_ptr().cast(), 13, 4096 + 16), 13);
        assert_eq!(&bytes, b"device memory");
        assert_eq!((host.verbs.ibv_dereg_mr)(mr), 0);
    }
    assert_eq!(with_kernel(name, "0"), Errno::EOPNOTSUPP);
    let without = Host::new(config(vec![device("plain_0", plain::plain("plain", LIMITS))], &[]));
    unsafe {
        assert!(reg(without.pd, 0, 4096, 0, -1, ALL_ACCESS).is_null());
        assert_eq!(Errno::last(), Errno::EOPNOTSUPP);
    }
}

#[test]
fn ports_have_the_addresses_that_they_are_given() {
    let gids = vec![
        SimGid { gid: "fe80::1".parse().unwrap(), kind: GidType::RoceV1 },
        SimGid { gid: Gid([0; 16]), kind: GidType::RoceV1 },
        SimGid { gid: "::ffff:10.1.2.3".parse().unwrap(), kind: GidType::RoceV2 },
    ];
    let port = SimPort { gids: Some(gids), active_mtu_bytes: Some(1024), ..SimPort::default() };
    let config = SimConfig { devices: vec![SimDevice { ports: vec![port], ..SimDevice::new("rxe0", "rxe-6.12") }], ..SimConfig::default() };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<SimConfig>(&text).unwrap(), config);
    let host = Host::new(config);
    assert_eq!(host.gid(0)[..2], [0xfe, 0x80]);
    let query = host.verbs._ibv_query_gid_ex.unwrap();
    let mut entry: ibv_gid_entry = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of_val(&entry);
    unsafe {
        assert_eq!(query(host.context, 1, 1, &raw mut entry, 0, size), libc::ENODATA);
        assert_eq!(query(host.context, 1, 2, &raw mut entry, 0, size), 0);
    }
    assert_eq!((entry.gid_type, entry.gid_index, entry.port_num), (2, 2, 1));
    let mut pkey = 0;
    unsafe { assert_eq!((host.verbs.ibv_query_pkey)(host.context, 1, 0, &raw mut pkey), 0) };
    assert_eq!(pkey, 0xffff);
    // A path MTU above the port's.
    let end = host.qp(Options::default());
    assert_eq!(host.init(end, Options::default()), 0);
    let mut attr: ibv_qp_attr = unsafe { std::mem::zeroed() };
    (attr.qp_state, attr.path_mtu, attr.ah_attr.is_global, attr.ah_attr.grh.sgid_index) = (2, 4, 1, 2);
    attr.ah_attr.grh.dgid = ibv_gid { raw: host.gid(2) };
    let mask = 1 | 1 << 7 | 1 << 8 | 1 << 20 | 1 << 12 | 1 << 17 | 1 << 15;
    assert_eq!(host.modify(end, &mut attr, mask), libc::EINVAL);
    attr.path_mtu = 3;
    assert_eq!(host.modify(end, &mut attr, mask), 0);
}

/// RTR on a fresh queue pair with changed attributes or mask.
fn rtr(host: &Host, change: impl Fn(&mut ibv_qp_attr, &mut u32)) -> i32 {
    let end: End = host.qp(Options { sge: 1, inline: 0, ..Options::default() });
    assert_eq!(host.init(end, Options::default()), 0);
    let mut attr: ibv_qp_attr = unsafe { std::mem::zeroed() };
    (attr.qp_state, attr.path_mtu, attr.ah_attr.is_global, attr.ah_attr.grh.sgid_index) = (2, 3, 1, 1);
    (attr.dest_qp_num, attr.max_dest_rd_atomic) = (end.number(), 1);
    attr.ah_attr.grh.dgid = ibv_gid { raw: host.gid(1) };
    let mut mask = 1 | 1 << 7 | 1 << 8 | 1 << 20 | 1 << 12 | 1 << 17 | 1 << 15;
    change(&mut attr, &mut mask);
    host.modify(end, &mut attr, mask)
}

#[test]
fn roce_needs_all_attributes_a_route_and_a_known_address() {
    let host = Host::new(SimConfig {
        peers: vec!["::ffff:10.9.9.9".parse().unwrap()],
        ..config(vec![device("plain_0", plain::plain("plain", LIMITS))], &[])
    });
    let to = |text: &str| ibv_gid { raw: text.parse::<Gid>().unwrap().0 };
    assert_eq!(rtr(&host, |_, _| {}), 0);
    assert_eq!(rtr(&host, |_, mask| *mask &= !(1 << 15)), libc::EINVAL, "min_rnr_timer is missing");
    assert_eq!(rtr(&host, |attr, _| attr.ah_attr.is_global = 0), libc::EINVAL);
    assert_eq!(rtr(&host, |attr, _| attr.ah_attr.grh.sgid_index = 12), libc::EINVAL);
    assert_eq!(rtr(&host, |attr, _| attr.ah_attr.grh.dgid = to("::ffff:10.9.9.8")), libc::ETIMEDOUT);
    assert_eq!(rtr(&host, |attr, _| attr.ah_attr.grh.dgid = to("::ffff:10.9.9.9")), 0);
    assert_eq!(rtr(&host, |attr, _| attr.ah_attr.grh.dgid = to("fe80::77")), 0, "nothing to resolve");
    assert_eq!(rtr(&host, |attr, _| attr.ah_attr.grh.dgid = to("::")), libc::EINVAL);
    let fresh = host.qp(Options { sge: 1, ..Options::default() });
    assert_eq!(host.rts(fresh, Options::default()), libc::EINVAL, "no step from RESET to RTS");
}

#[test]
fn state_machines_differ_by_kind() {
    let of = |machine, gids| {
        let mut model = plain::plain("kind", LIMITS);
        model.connection.state_machine.value = machine;
        model.port.gids.value = gids;
        let sim = Simulation::install(config(vec![device("kind_0", model)], &[])).unwrap();
        let context = open(sim).unwrap();
        let (pd, cq) = (context.alloc_pd().unwrap(), context.create_cq(64).unwrap());
        let mut end = pd.create_qp(&QueuePairInit { qp_type: 2, caps: caps(1), cq: &cq, srq: None }).unwrap();
        let to = |gid_index: u8| StateChange::ReadyToReceive {
            port: 1,
            remote_qp_num: 99,
            remote_gid: context.query_gid(1, u32::from(gid_index)).unwrap(),
            gid_index,
            remote_lid: 0,
            is_global: true,
            mtu_bytes: 1024,
        };
        let steps = [StateChange::Init { port: 1 }, to(0), to(1), StateChange::ReadyToSend];
        steps.map(|step| errno(end.modify(step)))
    };
    // Index 0 is link local, 1 is IPv4-mapped; a second step to RTR finds it taken.
    assert_eq!(of(StateMachine::Infiniband, GidShape::RoceV2), [-1, -1, libc::EINVAL, -1]);
    assert_eq!(of(StateMachine::ErdmaCompat, GidShape::RoceV2), [-1, libc::EINVAL, -1, -1]);
    assert_eq!(of(StateMachine::Iwarp, GidShape::RoceV2), [-1, -1, -1, libc::EINVAL]);
}

#[test]
fn infiniband_reaches_by_local_identifier() {
    let mut model = plain::plain("ib", LIMITS);
    model.identity.link_layer.value = LinkLayer::Infiniband;
    model.port.gids.value = GidShape::Guid;
    let with_lid = |name: &str, lid| SimDevice { ports: vec![SimPort { lid, ..SimPort::default() }], ..device(name, model.clone()) };
    let sim = Simulation::install(config(vec![with_lid("ib_0", 4), with_lid("ib_1", 5)], &[])).unwrap();
    let hosts = [Host::open(sim, 0), Host::open(sim, 1)];
    let options = Options { sge: 1, inline: 0, ..Options::default() };
    let ends = [hosts[0].qp(options), hosts[1].qp(options)];
    for (index, lid) in [(0, 5), (1, 4)] {
        let (host, end) = (&hosts[index], ends[index]);
        assert_eq!(host.init(end, options), 0);
        let mut attr: ibv_qp_attr = unsafe { std::mem::zeroed() };
        (attr.qp_state, attr.path_mtu, attr.ah_attr.dlid, attr.dest_qp_num) = (2, 3, lid, ends[1 - index].number());
        assert_eq!(host.modify(end, &mut attr, 1 | 1 << 7 | 1 << 8 | 1 << 20 | 1 << 12 | 1 << 17 | 1 << 15), 0);
        assert_eq!(host.rts(end, options), 0);
    }
    ends[1].recv(1, vec![]).unwrap();
    ends[0].send(Wr::send(1, vec![])).unwrap();
    assert_eq!((ends[0].status(), ends[1].status()), (0, 0));
}

#[test]
fn errno_faults_strike_when_they_are_told_to() {
    let sim = plain(&[
        "errno:ibv_create_qp:ENOSPC@2",
        "errno:ibv_create_qp:0,max_recv_sge=1,qp_type=RC,max_send_wr>16",
        "errno:ibv_alloc_pd:ENOMEM@2+",
    ]);
    let context = open(sim).unwrap();
    let (pd, cq) = (context.alloc_pd().unwrap(), context.create_cq(64).unwrap());
    let ask = |max_send_wr| pd.create_qp(&QueuePairInit { qp_type: 2, caps: QueuePairCaps { max_send_wr, ..caps(1) }, cq: &cq, srq: None });
    assert_eq!([errno(ask(16)), errno(ask(16)), errno(ask(16))], [-1, libc::ENOSPC, -1]);
    assert_eq!(errno(ask(17)), 0, "refused without errno");
    assert_eq!([errno(context.alloc_pd()), errno(context.alloc_pd())], [libc::ENOMEM; 2]);
    let sim = plain(&["errno:ibv_get_device_list:ENOSYS"]);
    assert_eq!(errno(DeviceList::new(&Arc::new(sim.verbs()))), libc::ENOSYS);
    let sim = plain(&["errno:ibv_create_cq:EIO,device=other_0"]);
    assert!(open(sim).unwrap().create_cq(64).is_ok());
    let sim = plain(&["errno:ibv_query_port:EIO@1", "errno:ibv_query_gid:EIO@1"]);
    let context = open(sim).unwrap();
    assert_eq!((errno(context.query_port(1)), errno(context.query_gid(1, 0))), (libc::EIO, libc::EIO));
    assert!(context.query_port(1).is_ok() && context.query_gid(1, 0).is_ok());
}

#[test]
fn objects_run_out_by_model_and_by_fault() {
    let sim = plain(&["exhaust:qp=3"]);
    let context = open(sim).unwrap();
    let (pd, cq) = (context.alloc_pd().unwrap(), context.create_cq(64).unwrap());
    let ask = || pd.create_qp(&QueuePairInit { qp_type: 2, caps: caps(1), cq: &cq, srq: None });
    let mut alive: Vec<_> = (0..3).map(|_| ask().unwrap()).collect();
    assert_eq!(errno(ask()), libc::ENOMEM);
    alive.pop();
    assert!(ask().is_ok());
    let mut model = plain::plain("plain", LIMITS);
    model.published.max_pd.value = 2;
    let context = open(Simulation::install(config(vec![device("plain_0", model)], &[])).unwrap()).unwrap();
    let alive = [context.alloc_pd().unwrap(), context.alloc_pd().unwrap()];
    assert_eq!(errno(context.alloc_pd()), libc::ENOMEM);
    drop(alive);
}

fn two_regions(host: &Host) -> (Region, Region) {
    (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS))
}

#[test]
fn payloads_are_corrupted_and_completions_cut_short() {
    let faults = ["corrupt_payload:2@2", "corrupt_payload@4", "short_completion:3@2"];
    let host = Host::new(config(vec![SimDevice::new("rxe0", "rxe-6.12")], &faults));
    let (a, b) = host.pair(Options::default());
    let (own, peer) = two_regions(&host);
    own.fill(0, b"payload!");
    let mut seen = Vec::new();
    for id in 0..3 {
        b.recv(id, vec![peer.sge(0, 8)]).unwrap();
        a.send(Wr::send(id, vec![own.sge(0, 8)])).unwrap();
        assert_eq!(a.status(), 0);
        seen.push((b.wait(1)[0].byte_len, peer.read(0, 8)[..5].to_vec()));
    }
    assert_eq!(seen, [(8, b"paylo".to_vec()), (5, vec![b'p', b'a', !b'y', b'l', b'o']), (8, b"paylo".to_vec())]);
    // The fourth payload is one that is read.
    a.send(Wr::new(9, ibv_wr_opcode::IBV_WR_RDMA_READ, vec![own.sge(8, 8)]).to(&peer, 0)).unwrap();
    assert_eq!((a.status(), own.read(8, 8)), (0, [&[!b'p'], &b"ayload!"[..]].concat()));
}

fn next_event(host: &Host) -> ibv_event_type {
    unsafe {
        let mut event = std::mem::zeroed();
        assert_eq!((host.verbs.ibv_get_async_event)(host.context, &raw mut event), 0);
        (host.verbs.ibv_ack_async_event)(&raw mut event);
        event.event_type
    }
}

#[test]
fn a_port_goes_down_by_count_and_by_the_clock() {
    let host = Host::new(config(vec![SimDevice::new("rxe0", "rxe-6.12")], &["port_down@2"]));
    let (a, b) = host.pair(Options::default());
    for expected in [ibv_wc_status::IBV_WC_SUCCESS, ibv_wc_status::IBV_WC_RETRY_EXC_ERR] {
        b.recv(1, vec![]).unwrap();
        a.send(Wr::send(1, vec![])).unwrap();
        assert_eq!(a.status(), expected);
    }
    assert_eq!(next_event(&host), ibv_event_type::IBV_EVENT_PORT_ERR);
    let timed = plain(&["port_down@50ms"]);
    let host = Host::open(timed, 0);
    // Nothing else is called: the clock tells.
    assert_eq!(next_event(&host), ibv_event_type::IBV_EVENT_PORT_ERR);
    assert_eq!(open(timed).unwrap().query_port(1).unwrap().state, PortState::Down);
}

#[test]
fn a_device_that_is_removed_fails_calls_and_flushes() {
    let host = Host::new(config(vec![SimDevice::new("rxe0", "rxe-6.12")], &["device_removed@200ms"]));
    let (a, b) = host.pair(Options::default());
    b.recv(1, vec![]).unwrap();
    assert_eq!(next_event(&host), ibv_event_type::IBV_EVENT_DEVICE_FATAL);
    assert_eq!(b.status(), ibv_wc_status::IBV_WC_WR_FLUSH_ERR);
    assert_eq!(a.send(Wr::send(1, vec![])), Err(libc::EIO));
    unsafe {
        assert!((host.verbs.ibv_alloc_pd)(host.context).is_null());
        assert_eq!(Errno::last(), Errno::EIO);
        // What was made can be freed all the same.
        assert_eq!((host.verbs.ibv_destroy_qp)(a.qp), 0);
        assert_eq!((host.verbs.ibv_destroy_cq)(a.cq), 0);
    }
    assert_eq!(errno(open(host.sim)), libc::ENXIO);
    assert_eq!(errno(open(plain(&["device_removed@1"]))), libc::ENXIO);
}

#[test]
fn simulations_do_not_see_one_another_and_unknown_models_are_told() {
    let (one, other) = (plain(&["errno:ibv_alloc_pd:ENOMEM"]), plain(&[]));
    assert!(open(one).unwrap().alloc_pd().is_err());
    assert!(open(other).unwrap().alloc_pd().is_ok());
    let error = Simulation::install(SimConfig::of_models(["nothing"])).err().unwrap();
    assert_eq!(error, InstallError::UnknownModel("nothing".to_owned()));
    assert!(error.to_string().contains("rxe-6.12"), "{error}");
}
