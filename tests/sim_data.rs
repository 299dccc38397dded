//! The simulated data path within one process: what reliable connections, unreliable ones and datagrams promise, and how they fail.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "tests call a C interface")]

mod plain;
mod sim_support;

use std::ptr;

use rdma_sys::*;
use rdmadoctor::catalog::device::StateMachine;
use rdmadoctor::sim::{ModelSource, SimConfig, SimDevice};
use rdmadoctor::{catalog::DeviceModel, verbs::QueuePairCaps};
use sim_support::*;

use ibv_wc_status as st;
use ibv_wr_opcode as op;

const MODEL: &str = "rxe-6.12";

#[test]
fn a_send_arrives_with_its_bytes_and_its_immediate_data() {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options::default());
    let (from, to) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
    from.fill(0, b"hello, world");
    // Two pieces on one side, two others on the other side.
    b.recv(7, vec![to.sge(0, 3), to.sge(16, 20)]).unwrap();
    a.send(Wr::new(8, op::IBV_WR_SEND_WITH_IMM, vec![from.sge(0, 5), from.sge(5, 7)]).imm(0x1234_5678_u32.to_be())).unwrap();
    let sent = a.wait(1)[0];
    assert_eq!((sent.id, sent.status, sent.opcode), (8, st::IBV_WC_SUCCESS, ibv_wc_opcode::IBV_WC_SEND));
    let got = b.wait(1)[0];
    assert_eq!((got.id, got.status, got.opcode, got.byte_len), (7, st::IBV_WC_SUCCESS, ibv_wc_opcode::IBV_WC_RECV, 12));
    assert_eq!((u32::from_be(got.imm), got.flags & 2, got.qp_num, got.src_qp), (0x1234_5678, 2, b.number(), a.number()));
    assert_eq!([to.read(0, 3), to.read(16, 9)].concat(), b"hello, world");
}

#[test]
fn writes_reads_and_atomics_touch_the_peers_memory() {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options::default());
    let (own, peer) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
    own.fill(0, b"written");
    a.send(Wr::new(1, op::IBV_WR_RDMA_WRITE, vec![own.sge(0, 7)]).to(&peer, 8)).unwrap();
    assert_eq!(a.status(), st::IBV_WC_SUCCESS);
    assert_eq!(peer.read(8, 7), b"written");
    assert!(b.poll().is_empty(), "a write is not seen by the peer");

    b.recv(2, vec![]).unwrap();
    a.send(Wr::new(3, op::IBV_WR_RDMA_WRITE_WITH_IMM, vec![own.sge(0, 4)]).to(&peer, 0).imm(9)).unwrap();
    assert_eq!(a.status(), st::IBV_WC_SUCCESS);
    let got = b.wait(1)[0];
    assert_eq!((got.opcode, got.byte_len, got.imm), (ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM, 4, 9));

    a.send(Wr::new(4, op::IBV_WR_RDMA_READ, vec![own.sge(32, 7)]).to(&peer, 8)).unwrap();
    let read = a.wait(1)[0];
    assert_eq!((read.status, read.opcode, read.byte_len), (st::IBV_WC_SUCCESS, ibv_wc_opcode::IBV_WC_RDMA_READ, 7));
    assert_eq!(own.read(32, 7), b"written");

    peer.fill(24, &40_u64.to_ne_bytes());
    let mut add = Wr::new(5, op::IBV_WR_ATOMIC_FETCH_AND_ADD, vec![own.sge(40, 8)]).to(&peer, 24);
    add.compare_add = 2;
    a.send(add).unwrap();
    assert_eq!(a.wait(1)[0].opcode, ibv_wc_opcode::IBV_WC_FETCH_ADD);
    assert_eq!((own.read(40, 8), peer.read(24, 8)), (40_u64.to_ne_bytes().to_vec(), 42_u64.to_ne_bytes().to_vec()));
    for (compare, after) in [(41, 42_u64), (42, 7)] {
        let mut swap = Wr::new(6, op::IBV_WR_ATOMIC_CMP_AND_SWP, vec![own.sge(40, 8)]).to(&peer, 24);
        (swap.compare_add, swap.swap) = (compare, 7);
        a.send(swap).unwrap();
        assert_eq!(a.wait(1)[0].opcode, ibv_wc_opcode::IBV_WC_COMP_SWAP);
        assert_eq!((own.read(40, 8), peer.read(24, 8)), (42_u64.to_ne_bytes().to_vec(), after.to_ne_bytes().to_vec()));
    }
}

/// Status on both sides of one request on a fresh pair; the peer has a receive of 16 bytes posted.
fn statuses(options: (Options, Options), request: impl Fn(&Host, &Region, &Region) -> Wr) -> (u32, Option<u32>) {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair_of(options.0, options.1);
    let (own, peer) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
    b.recv(1, vec![peer.sge(0, 16)]).unwrap();
    a.send(request(&host, &own, &peer)).unwrap();
    let status = a.status();
    assert_eq!(host.state(a), ibv_qp_state::IBV_QPS_ERR, "an error stops the queue pair");
    (status, b.poll().first().map(|wc| wc.status))
}

#[test]
fn what_is_not_permitted_fails_with_the_status_of_its_cause() {
    let plain = || (Options::default(), Options::default());
    let flush = Some(st::IBV_WC_WR_FLUSH_ERR);
    let write = |own: &Region| Wr::new(1, op::IBV_WR_RDMA_WRITE, vec![own.sge(0, 8)]);
    // This side: key, bounds, access, domain.
    let wrong_key = statuses(plain(), |_, own, _| Wr::send(1, vec![ibv_sge { lkey: own.lkey() + 1, ..own.sge(0, 8) }]));
    assert_eq!(wrong_key, (st::IBV_WC_LOC_PROT_ERR, None));
    assert_eq!(statuses(plain(), |_, own, _| Wr::send(1, vec![own.sge(60, 8)])), (st::IBV_WC_LOC_PROT_ERR, None));
    let read_only = statuses(plain(), |host, _, peer| Wr::new(1, op::IBV_WR_RDMA_READ, vec![host.region(8, 0).sge(0, 8)]).to(peer, 0));
    assert_eq!(read_only, (st::IBV_WC_LOC_PROT_ERR, None));
    let other_domain = statuses(plain(), |host, _, _| Wr::send(1, vec![Host::open(host.sim, 0).region(8, ALL_ACCESS).sge(0, 8)]));
    assert_eq!(other_domain, (st::IBV_WC_LOC_PROT_ERR, None));
    // The other side: key, bounds (also around the end of the address space), access, domain.
    assert_eq!(statuses(plain(), |_, own, peer| Wr { rkey: 1, ..write(own).to(peer, 0) }), (st::IBV_WC_REM_ACCESS_ERR, flush));
    assert_eq!(statuses(plain(), |_, own, peer| write(own).to(peer, 57)), (st::IBV_WC_REM_ACCESS_ERR, flush));
    assert_eq!(statuses(plain(), |_, own, peer| Wr { addr: u64::MAX - 3, ..write(own).to(peer, 0) }), (st::IBV_WC_REM_ACCESS_ERR, flush));
    assert_eq!(statuses(plain(), |host, own, _| write(own).to(&host.region(64, 1), 0)), (st::IBV_WC_REM_ACCESS_ERR, flush));
    let other_domain = statuses(plain(), |host, own, _| write(own).to(&Host::open(host.sim, 0).region(64, ALL_ACCESS), 0));
    assert_eq!(other_domain, (st::IBV_WC_REM_ACCESS_ERR, flush));
    // The other queue pair does not take it.
    let closed = (Options::default(), Options { access: 0, ..Options::default() });
    assert_eq!(statuses(closed, |_, own, peer| write(own).to(peer, 0)), (st::IBV_WC_REM_INV_REQ_ERR, flush));
    let no_reads = (Options::default(), Options { dest_rd_atomic: 0, ..Options::default() });
    let read = |own: &Region, peer: &Region| Wr::new(1, op::IBV_WR_RDMA_READ, vec![own.sge(0, 8)]).to(peer, 0);
    assert_eq!(statuses(no_reads, |_, own, peer| read(own, peer)), (st::IBV_WC_REM_INV_REQ_ERR, flush));
    let asks_none = (Options { rd_atomic: 0, ..Options::default() }, Options::default());
    assert_eq!(statuses(asks_none, |_, own, peer| read(own, peer)), (st::IBV_WC_LOC_QP_OP_ERR, None));
    let odd = statuses(plain(), |_, own, peer| Wr::new(1, op::IBV_WR_ATOMIC_FETCH_AND_ADD, vec![own.sge(0, 8)]).to(peer, 4));
    assert_eq!(odd, (st::IBV_WC_REM_INV_REQ_ERR, flush));
    // A receive that is too short, and one whose key is wrong.
    let long = statuses(plain(), |_, own, _| Wr::send(1, vec![own.sge(0, 17)]));
    assert_eq!(long, (st::IBV_WC_REM_INV_REQ_ERR, Some(st::IBV_WC_LOC_LEN_ERR)));
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options::default());
    let region = host.region(64, ALL_ACCESS);
    b.recv(1, vec![ibv_sge { lkey: 3, ..region.sge(0, 16) }]).unwrap();
    a.send(Wr::send(1, vec![region.sge(0, 8)])).unwrap();
    assert_eq!((a.status(), b.status()), (st::IBV_WC_REM_OP_ERR, st::IBV_WC_LOC_PROT_ERR));
}

#[test]
fn a_deregistered_region_is_gone_for_both_sides() {
    let host = Host::of_model(MODEL);
    let (a, _) = host.pair(Options::default());
    let (own, peer) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
    let wr = Wr::new(1, op::IBV_WR_RDMA_WRITE, vec![own.sge(0, 8)]).to(&peer, 0);
    a.send(wr.clone()).unwrap();
    assert_eq!(a.status(), st::IBV_WC_SUCCESS);
    unsafe { assert_eq!((host.verbs.ibv_dereg_mr)(peer.mr), 0) };
    a.send(wr).unwrap();
    assert_eq!(a.status(), st::IBV_WC_REM_ACCESS_ERR);
}

#[test]
fn a_receiver_that_is_not_ready_is_waited_for() {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options::default());
    let (from, to) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
    from.fill(0, b"first");
    a.send(Wr::send(1, vec![from.sge(0, 5)])).unwrap();
    // Inline data is taken when it is posted, other data when it is sent.
    from.fill(8, b"inline");
    a.send(Wr::send(2, vec![from.sge(8, 6)]).flags(SIGNALED | INLINE)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert!(a.poll().is_empty());
    from.fill(0, b"later");
    from.fill(8, b"gone!!");
    b.recv(1, vec![to.sge(0, 16)]).unwrap();
    b.recv(2, vec![to.sge(16, 16)]).unwrap();
    assert_eq!(a.wait(2).iter().map(|wc| (wc.id, wc.status)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
    assert_eq!((to.read(0, 5), to.read(16, 6)), (b"later".to_vec(), b"inline".to_vec()));
}

#[test]
fn rnr_retry_ends_and_the_rest_is_flushed_in_order() {
    let host = Host::of_model(MODEL);
    let options = Options { rnr_retry: 2, ..Options::default() };
    let (a, b) = host.pair(options);
    let region = host.region(64, ALL_ACCESS);
    for id in 0..4 {
        // Unsignalled requests are told of when they fail.
        a.send(Wr::send(id, vec![region.sge(0, 8)]).flags(0)).unwrap();
    }
    a.recv(9, vec![region.sge(0, 8)]).unwrap();
    let all = a.wait(5);
    let statuses: Vec<_> = all.iter().map(|wc| (wc.id, wc.status)).collect();
    let flush = st::IBV_WC_WR_FLUSH_ERR;
    assert_eq!(statuses, [(0, st::IBV_WC_RNR_RETRY_EXC_ERR), (1, flush), (2, flush), (3, flush), (9, flush)]);
    // What is posted now comes back too; the other side knows nothing.
    a.send(Wr::send(10, vec![])).unwrap();
    a.recv(11, vec![]).unwrap();
    assert_eq!(a.wait(2).iter().map(|wc| (wc.id, wc.status)).collect::<Vec<_>>(), [(10, flush), (11, flush)]);
    assert!(b.poll().is_empty() && host.state(b) == ibv_qp_state::IBV_QPS_RTS);
    // From the error state only reset leads out.
    assert_eq!(host.init(a, options), libc::EINVAL);
    assert_eq!(host.to_state(a, ibv_qp_state::IBV_QPS_RESET), 0);
    host.connect(a, options, b.number(), host.gid(1));
    b.recv(1, vec![region.sge(0, 8)]).unwrap();
    a.send(Wr::send(12, vec![region.sge(8, 8)])).unwrap();
    assert_eq!((a.status(), b.status()), (0, 0));
}

#[test]
fn a_peer_that_is_gone_exceeds_the_retries() {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options { retry_cnt: 2, ..Options::default() });
    unsafe { assert_eq!((host.verbs.ibv_destroy_qp)(b.qp), 0) };
    a.send(Wr::send(1, vec![])).unwrap();
    assert_eq!(a.status(), st::IBV_WC_RETRY_EXC_ERR);
}

#[test]
fn a_connection_takes_nothing_from_a_stranger() {
    let host = Host::of_model(MODEL);
    let (_, b) = host.pair(Options::default());
    let stranger = host.qp(Options::default());
    host.connect(stranger, Options::default(), b.number(), host.gid(1));
    let region = host.region(8, ALL_ACCESS);
    b.recv(1, vec![]).unwrap();
    stranger.send(Wr::new(1, op::IBV_WR_RDMA_WRITE, vec![region.sge(0, 8)]).to(&region, 0)).unwrap();
    assert_eq!(stranger.status(), st::IBV_WC_RETRY_EXC_ERR);
    assert!(b.poll().is_empty() && host.state(b) == ibv_qp_state::IBV_QPS_RTS);
}

#[test]
fn a_peer_that_comes_up_within_the_retries_is_reached() {
    let host = Host::of_model(MODEL);
    let options = Options { retry_cnt: 7, timeout: 14, ..Options::default() };
    let (a, b) = (host.qp(options), host.qp(options));
    host.connect(a, options, b.number(), host.gid(1));
    a.send(Wr::send(1, vec![])).unwrap();
    assert_eq!(host.init(b, options), 0);
    b.recv(1, vec![]).unwrap();
    assert_eq!(host.rtr(b, options, a.number(), host.gid(1)), 0);
    assert_eq!((a.status(), b.status()), (0, 0));
}

#[test]
fn places_in_the_send_queue_are_free_when_a_later_completion_is_polled() {
    let host = Host::of_model(MODEL);
    let (a, _) = host.pair(Options::default());
    let (own, peer) = (host.region(8, ALL_ACCESS), host.region(8, ALL_ACCESS));
    let mut cap: (ibv_qp_attr, ibv_qp_init_attr) = unsafe { std::mem::zeroed() };
    unsafe { assert_eq!((host.verbs.ibv_query_qp)(a.qp, &raw mut cap.0, 0, &raw mut cap.1), 0) };
    let places = u64::from(cap.1.cap.max_send_wr);
    let write = |id| Wr::new(id, op::IBV_WR_RDMA_WRITE, vec![own.sge(0, 8)]).to(&peer, 0);
    // All done at once, but nobody has said so.
    for id in 1..places {
        a.send(write(id).flags(0)).unwrap();
    }
    a.send(write(places)).unwrap();
    assert_eq!(a.send(write(0)), Err(libc::ENOMEM));
    assert_eq!(a.wait(1)[0].id, places);
    for id in 1..=places {
        a.send(write(id).flags(0)).unwrap();
    }
    assert_eq!(a.send(write(0)), Err(libc::ENOMEM), "a queue without any signalled request stays full");
}

#[test]
fn the_rest_of_a_chain_is_told_by_the_bad_request() {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options { signals_all: true, ..Options::default() });
    let region = host.region(64, ALL_ACCESS);
    for id in 0..3 {
        b.recv(id, vec![region.sge(0, 8)]).unwrap();
    }
    let send = |id, sges| Wr::send(id, sges).flags(0);
    let many = vec![region.sge(0, 1); 64];
    let mut chain = [send(0, vec![region.sge(0, 8)]), send(1, many), send(2, vec![region.sge(0, 8)])];
    assert_eq!(a.send_all(&mut chain), Err((libc::EINVAL, 1)));
    assert_eq!(a.wait(1)[0].id, 0);
    // More inline than granted.
    assert_eq!(a.send(Wr::send(4, vec![region.sge(0, 64), region.sge(0, 64), region.sge(0, 64)]).flags(INLINE)), Err(libc::EINVAL));
    assert_eq!(b.recv(5, vec![region.sge(0, 1); 64]), Err(libc::EINVAL));
    // Not yet connected.
    let fresh = host.qp(Options::default());
    assert_eq!((fresh.send(Wr::send(1, vec![])), fresh.recv(1, vec![])), (Err(libc::EINVAL), Err(libc::EINVAL)));
}

#[test]
fn a_completion_queue_that_overruns_takes_its_queue_pairs_along() {
    let host = Host::of_model(MODEL);
    let small = host.cq(2);
    let places = unsafe { (*small).cqe } as u64;
    let options = Options { send_wr: 64, ..Options::default() };
    let (a, b) = (host.qp_on(small, options), host.qp(options));
    host.connect(a, options, b.number(), host.gid(1));
    host.connect(b, options, a.number(), host.gid(1));
    let (own, peer) = (host.region(8, ALL_ACCESS), host.region(8, ALL_ACCESS));
    for id in 0..=places {
        a.send(Wr::new(id, op::IBV_WR_RDMA_WRITE, vec![own.sge(0, 8)]).to(&peer, 0)).unwrap();
    }
    assert_eq!(host.state(a), ibv_qp_state::IBV_QPS_ERR);
    assert_eq!(a.wait(places as usize).last().unwrap().id, places - 1);
    assert!(a.poll().is_empty(), "nothing comes after an overrun");
    let mut event = unsafe { std::mem::zeroed() };
    unsafe { assert_eq!((host.verbs.ibv_get_async_event)(host.context, &raw mut event), 0) };
    assert_eq!(event.event_type, ibv_event_type::IBV_EVENT_CQ_ERR);
    assert_eq!(unsafe { event.element.cq }, small);
}

#[test]
fn completion_events_can_be_polled_for() {
    let host = Host::of_model(MODEL);
    let v = &host.verbs;
    unsafe {
        let channel = (v.ibv_create_comp_channel)(host.context);
        let cq = (v.ibv_create_cq)(host.context, 16, ptr::without_provenance_mut(77), channel, 0);
        let options = Options::default();
        let (a, b) = (host.qp(options), host.qp_on(cq, options));
        host.connect(a, options, b.number(), host.gid(1));
        host.connect(b, options, a.number(), host.gid(1));
        let ready = || {
            let mut fd = libc::pollfd { fd: (*channel).fd, events: libc::POLLIN, revents: 0 };
            libc::poll(&raw mut fd, 1, 0) == 1
        };
        let send = |flags| {
            b.recv(1, vec![]).unwrap();
            a.send(Wr::send(1, vec![]).flags(SIGNALED | flags)).unwrap();
            assert_eq!(a.status(), 0);
        };
        send(0);
        assert!(!ready(), "not armed");
        assert_eq!(ibv_req_notify_cq(cq, 1), 0);
        send(0);
        assert!(!ready(), "armed for solicited ones");
        send(SOLICITED);
        assert!(ready());
        send(SOLICITED);
        let (mut of, mut context) = (ptr::null_mut(), ptr::null_mut());
        assert_eq!((v.ibv_get_cq_event)(channel, &raw mut of, &raw mut context), 0);
        assert_eq!((of, context.addr()), (cq, 77));
        assert!(!ready(), "one event for one arming");
        assert_eq!(b.wait(4).len(), 4);
        // A queue is not freed while an event of it is not acknowledged.
        assert_eq!((v.ibv_destroy_qp)(b.qp), 0);
        std::thread::scope(|scope| {
            let (cq, destroy) = (cq as usize, v.ibv_destroy_cq);
            let waiting = scope.spawn(move || destroy(cq as *mut ibv_cq));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            (v.ibv_ack_cq_events)(of, 1);
            assert_eq!(waiting.join().unwrap(), 0);
        });
        assert_eq!((v.ibv_destroy_comp_channel)(channel), 0);
    }
}

#[test]
fn a_shared_receive_queue_feeds_several_queue_pairs() {
    let host = Host::of_model(MODEL);
    let mut init = ibv_srq_init_attr { srq_context: ptr::null_mut(), attr: ibv_srq_attr { max_wr: 8, max_sge: 1, srq_limit: 0 } };
    let srq = unsafe { (host.verbs.ibv_create_srq)(host.pd, &raw mut init) };
    assert!(!srq.is_null());
    let region = host.region(64, ALL_ACCESS);
    for id in 0..2 {
        let mut sge = region.sge(id * 8, 8);
        let mut wr = ibv_recv_wr { wr_id: id as u64, next: ptr::null_mut(), sg_list: &raw mut sge, num_sge: 1 };
        unsafe { assert_eq!(ibv_post_srq_recv(srq, &raw mut wr, &mut ptr::null_mut()), 0) };
    }
    let with_srq = Options { srq, ..Options::default() };
    let pairs = [host.pair_of(Options::default(), with_srq), host.pair_of(Options::default(), with_srq)];
    let source = host.region(8, ALL_ACCESS);
    for (index, (a, b)) in pairs.into_iter().enumerate() {
        source.fill(0, &[index as u8 + 1; 8]);
        a.send(Wr::send(0, vec![source.sge(0, 8)])).unwrap();
        assert_eq!((a.status(), b.wait(1)[0].id), (0, index as u64));
        assert_eq!(region.read(index * 8, 8), [index as u8 + 1; 8]);
        assert_eq!(b.recv(0, vec![]), Err(libc::EINVAL), "receives go to the shared queue");
    }
    unsafe { assert_eq!((host.verbs.ibv_destroy_srq)(srq), libc::EBUSY) };
}

#[test]
fn unreliable_connections_lose_what_nobody_waits_for() {
    let host = Host::of_model(MODEL);
    let (a, b) = host.pair(Options { qp_type: ibv_qp_type::IBV_QPT_UC, ..Options::default() });
    let (own, peer) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
    own.fill(0, b"unreliable");
    a.send(Wr::send(1, vec![own.sge(0, 10)])).unwrap();
    assert_eq!(a.status(), 0, "lost, and nobody knows");
    b.recv(2, vec![peer.sge(0, 16)]).unwrap();
    a.send(Wr::send(3, vec![own.sge(0, 10)])).unwrap();
    assert_eq!((a.status(), b.wait(1)[0].byte_len), (0, 10));
    a.send(Wr::new(4, op::IBV_WR_RDMA_WRITE, vec![own.sge(0, 10)]).to(&peer, 32)).unwrap();
    assert_eq!((a.status(), peer.read(32, 10)), (0, b"unreliable".to_vec()));
    assert_eq!(a.send(Wr::new(5, op::IBV_WR_RDMA_READ, vec![own.sge(0, 10)]).to(&peer, 0)), Err(libc::EINVAL));
    // An error of this side stops the sending side only.
    a.send(Wr::send(6, vec![own.sge(60, 10)])).unwrap();
    assert_eq!(a.status(), st::IBV_WC_LOC_PROT_ERR);
    assert_eq!(host.state(a), ibv_qp_state::IBV_QPS_SQE);
}

#[test]
fn datagrams_carry_a_header_and_need_the_key() {
    let host = Host::of_model(MODEL);
    let options = Options { qp_type: ibv_qp_type::IBV_QPT_UD, ..Options::default() };
    let (a, b) = (host.qp(options), host.qp(options));
    for end in [a, b] {
        host.connect(end, options, 0, [0; 16]);
    }
    let mut attr: ibv_ah_attr = unsafe { std::mem::zeroed() };
    (attr.port_num, attr.is_global, attr.grh.sgid_index, attr.grh.hop_limit) = (1, 1, 1, 64);
    attr.grh.dgid = ibv_gid { raw: host.gid(1) };
    let ah = unsafe { (host.verbs.ibv_create_ah)(host.pd, &raw mut attr) };
    assert!(!ah.is_null());
    let region = host.region(128, ALL_ACCESS);
    region.fill(0, b"datagram");
    let datagram = |id, qkey| Wr { ah, remote_qpn: b.number(), qkey, ..Wr::send(id, vec![region.sge(0, 8)]) };
    b.recv(1, vec![region.sge(64, 48)]).unwrap();
    a.send(datagram(1, 0x2222)).unwrap();
    assert_eq!(a.status(), 0);
    assert!(b.poll().is_empty(), "another key");
    a.send(datagram(2, 0x1111)).unwrap();
    assert_eq!(a.status(), 0);
    let got = b.wait(1)[0];
    assert_eq!((got.byte_len, got.flags & 1, got.src_qp), (48, 1, a.number()));
    assert_eq!((region.read(64 + 24, 16), region.read(104, 8)), (host.gid(1).to_vec(), b"datagram".to_vec()));
    // Longer than a packet.
    let large = host.region(8192, ALL_ACCESS);
    a.send(Wr { ah, remote_qpn: b.number(), qkey: 0x1111, ..Wr::send(3, vec![large.sge(0, 8192)]) }).unwrap();
    assert_eq!(a.status(), st::IBV_WC_LOC_LEN_ERR);
}

#[test]
fn every_model_that_needs_no_connection_manager_moves_data() {
    let mut moved = Vec::new();
    for model in DeviceModel::embedded() {
        let caps = QueuePairCaps { max_send_wr: 16, max_recv_wr: 16, max_send_sge: 1, max_recv_sge: 1, max_inline_data: 0 };
        let takes_rc = model.create_qp(rdmadoctor::worker::QpType::RC, caps, false).is_ok();
        if !takes_rc || model.connection.state_machine.value == StateMachine::Iwarp {
            continue;
        }
        let host = Host::of_model(&model.name);
        // Where there are addresses of both kinds, the last one is an IPv4 address.
        let last = (0..16).rev().find(|index| unsafe {
            let mut gid = ibv_gid { raw: [0; 16] };
            (host.verbs.ibv_query_gid)(host.context, 1, *index, &raw mut gid) == 0 && gid.raw != [0; 16]
        });
        let gid_index = last.unwrap() as u8;
        let options = Options { sge: 1, inline: 0, rd_atomic: 1, dest_rd_atomic: 1, gid_index, ..Options::default() };
        let (a, b) = host.pair(options);
        let (own, peer) = (host.region(64, ALL_ACCESS), host.region(64, ALL_ACCESS));
        own.fill(0, b"moved");
        b.recv(1, vec![peer.sge(0, 64)]).unwrap();
        a.send(Wr::send(1, vec![own.sge(0, 5)])).unwrap();
        assert_eq!((a.status(), b.status(), peer.read(0, 5)), (0, 0, b"moved".to_vec()), "{}", model.name);
        moved.push(model.name.as_str());
    }
    assert!(moved.contains(&"erdma-compat") && moved.contains(&"mlx5-6.12") && !moved.contains(&"erdma"), "{moved:?}");
}

#[test]
fn a_queue_pair_connected_with_itself_sends_to_itself() {
    let host = Host::of_model(MODEL);
    let a = host.qp(Options::default());
    host.connect(a, Options::default(), a.number(), host.gid(1));
    let region = host.region(64, ALL_ACCESS);
    region.fill(0, b"mirror");
    a.recv(1, vec![region.sge(32, 16)]).unwrap();
    a.send(Wr::send(2, vec![region.sge(0, 6)])).unwrap();
    assert_eq!(a.wait(2).iter().map(|wc| wc.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(region.read(32, 6), b"mirror");
}

#[test]
fn providers_that_negate_the_errno_of_a_post_do_so_here() {
    let limits = QueuePairCaps { max_send_wr: 16, max_recv_wr: 16, max_send_sge: 4, max_recv_sge: 4, max_inline_data: 64 };
    let mut model = plain::plain("negating", limits);
    model.connection.failed_post_returns.value = rdmadoctor::catalog::device::PostReturns::NegatedErrno;
    let device = SimDevice { model: ModelSource::Given(Box::new(model)), ..SimDevice::new("negating_0", "") };
    let host = Host::new(SimConfig { devices: vec![device], ..SimConfig::default() });
    let (a, _) = host.pair(Options::default());
    let region = host.region(8, ALL_ACCESS);
    assert_eq!(a.send(Wr::send(1, vec![region.sge(0, 1); 5])), Err(-libc::EINVAL));
    assert_eq!(a.recv(1, vec![region.sge(0, 1); 5]), Err(-libc::EINVAL));
}

#[test]
fn threads_share_a_device_without_losing_a_completion() {
    const ROUNDS: u64 = 300;
    let host = Host::of_model(MODEL);
    let shared = host.cq(4096);
    let options = Options::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (a, b) = (host.qp(options), host.qp_on(shared, options));
            host.connect(a, options, b.number(), host.gid(1));
            host.connect(b, options, a.number(), host.gid(1));
            let (from, to) = (host.region(8, ALL_ACCESS), host.region(8, ALL_ACCESS));
            // Numbers, so that they can go to another thread; all of it lives until the end of the test.
            let (a, b) = ((a.qp as usize, a.cq as usize), (b.qp as usize, b.cq as usize));
            let end = |(qp, cq): (usize, usize)| End { qp: qp as *mut ibv_qp, cq: cq as *mut ibv_cq };
            let (to, from) = (to.sge(0, 8), from.sge(0, 8));
            scope.spawn(move || {
                // Places come free when anyone polls the shared queue; if there is none, there is something to poll.
                let receive = |id| {
                    while let Err(error) = end(b).recv(id, vec![to]) {
                        assert_eq!(error, libc::ENOMEM);
                        poll(end(b).cq, 64);
                    }
                };
                for id in 0..ROUNDS {
                    // The receiver is ready late every other time.
                    if id % 2 == 0 {
                        receive(id);
                    }
                    end(a).send(Wr::send(id, vec![from])).unwrap();
                    if id % 2 == 1 {
                        receive(id);
                    }
                    let wc = end(a).wait(1)[0];
                    assert_eq!((wc.id, wc.status), (id, st::IBV_WC_SUCCESS));
                }
            });
        }
    });
}
