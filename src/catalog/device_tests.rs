//! Known answers, and what must hold for every model.

use std::path::Path;

use proptest::prelude::*;
use rdmadoctor_types::QpState;

use super::device::{RdmaCm, StateMachine};
use super::*;
use crate::request::{Parameter, QpRequest, QpType, SrqRequest};
use crate::verbs::QueuePairCaps;

fn model(name: &str) -> &'static DeviceModel {
    DeviceModel::find(name).unwrap_or_else(|| panic!("no model {name}"))
}

/// Work requests of both queues, entries of both, inline bytes.
fn caps(send_wr: u32, recv_wr: u32, send_sge: u32, recv_sge: u32, inline: u32) -> QueuePairCaps {
    QueuePairCaps { max_send_wr: send_wr, max_recv_wr: recv_wr, max_send_sge: send_sge, max_recv_sge: recv_sge, max_inline_data: inline }
}

fn rc(name: &str, caps: QueuePairCaps) -> Result<QueuePairCaps, (i32, &'static str)> {
    ask(name, QpType::RC, caps)
}

fn ask(name: &str, qp_type: QpType, caps: QueuePairCaps) -> Result<QueuePairCaps, (i32, &'static str)> {
    model(name)
        .create_qp(qp_type, caps, false)
        .map(|grant| grant.caps)
        .map_err(|refusal| (refusal.errno, refusal.parameter.map_or("", Aspect::name)))
}

/// The largest depth of the send queue with these entries and inline bytes.
fn deepest_send(model: &DeviceModel, sge: u32, inline: u32) -> u32 {
    deepest(|wr| model.create_qp(QpType::RC, caps(wr, 1, sge, 1, inline), false).is_ok())
}

fn deepest(accepts: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, 1 << 24);
    while low < high {
        let middle = u32::midpoint(low, high) + 1;
        if accepts(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

#[test]
fn every_embedded_file_parses_and_is_named_after_its_model() {
    for (path, text) in DEVICES {
        let model = DeviceModel::parse(Path::new(path), text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(*path, format!("profiles/devices/{}.yaml", model.name));
        let again = serde_yaml::to_string(&model).unwrap();
        assert_eq!(DeviceModel::parse(Path::new(path), &again).unwrap_or_else(|error| panic!("{error}\n{again}")), model);
    }
    assert_eq!(DeviceModel::embedded().len(), DEVICES.len());
    assert_eq!(model("rxe").name, "rxe-6.12");
    assert_eq!(model("mlx5").name, "mlx5-6.12");
}

#[test]
fn every_model_grants_the_base_request_that_its_types_allow() {
    for model in DeviceModel::embedded() {
        for rule in &model.queue_pairs.types {
            let answer = model.create_qp(rule.qp_type, caps(16, 16, 1, 1, 0), false);
            assert_eq!(answer.is_ok(), rule.errno.is_none(), "{} {} {answer:?}", model.name, rule.qp_type);
        }
    }
}

#[test]
fn published_figures_follow_from_the_limits_as_they_say() {
    for model in DeviceModel::embedded() {
        let rules = &model.queue_pairs;
        for (figure, send, recv) in [
            (&model.published.max_sge, &rules.max_send_sge, &rules.max_recv_sge),
            (&model.published.max_qp_wr, &rules.max_send_wr, &rules.max_recv_wr),
        ] {
            let published = u32::try_from(figure.value).unwrap();
            let limits = send.limit.as_ref().map(|f| f.value).zip(recv.limit.as_ref().map(|f| f.value));
            match (figure.derived, limits) {
                (Some(Derivation::SmallerOfSendAndReceive), Some((send, recv))) => assert_eq!(published, send.min(recv), "{}", model.name),
                (Some(Derivation::LargerOfSendAndReceive), Some((send, recv))) => assert_eq!(published, send.max(recv), "{}", model.name),
                (Some(Derivation::BestCase), _) => assert_eq!(published, deepest_send(model, 1, 0), "{}", model.name),
                (Some(Derivation::WorstCase), _) => {
                    let largest = rules.max_send_sge.limit.as_ref().unwrap().value;
                    assert!(published <= deepest_send(model, largest, 0), "{}", model.name);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn erdma_takes_six_entries_of_a_send_and_one_of_a_receive() {
    assert_eq!(rc("erdma", caps(128, 128, 6, 1, 96)), Ok(caps(128, 128, 6, 1, 96)));
    assert_eq!(rc("erdma", caps(128, 128, 4, 4, 64)), Err((22, "max_recv_sge")));
    assert_eq!(rc("erdma", caps(128, 128, 7, 1, 64)), Err((22, "max_send_sge")));
    assert_eq!(rc("erdma", caps(128, 128, 1, 1, 97)), Err((22, "max_inline_data")));
    assert_eq!(rc("erdma", caps(0, 128, 1, 1, 0)), Err((22, "max_send_wr")));
    assert_eq!(rc("erdma", caps(128, 0, 1, 1, 0)), Err((22, "max_recv_wr")));
    assert_eq!(rc("erdma", caps(1, 1, 0, 0, 0)), Ok(caps(1, 1, 0, 0, 0)));
    // Capacities before the type, and the shared receive queue last.
    assert_eq!(ask("erdma", QpType::UD, caps(128, 128, 4, 4, 0)), Err((22, "max_recv_sge")));
    assert_eq!(ask("erdma", QpType::UD, caps(128, 128, 1, 1, 0)), Err((95, "qp_type")));
    assert_eq!(model("erdma").create_qp(QpType::RC, caps(1, 1, 1, 1, 0), true).unwrap_err().errno, 95);
    assert_eq!(model("erdma").attributes().max_sge, 1);
}

#[test]
fn erdma_makes_every_failure_of_a_completion_queue_an_io_error() {
    let erdma = model("erdma");
    assert_eq!(erdma.create_cq(1), Ok(64));
    assert_eq!(erdma.create_cq(65), Ok(128));
    let refusal = erdma.create_cq(1 << 21).unwrap_err();
    assert_eq!((refusal.errno, refusal.certainty), (5, Certainty::Firmware));
}

#[test]
fn a_bound_set_by_firmware_is_told() {
    let refusal = model("erdma").create_qp(QpType::RC, caps(1, 1, 7, 1, 0), false).unwrap_err();
    assert_eq!((refusal.certainty, refusal.source.as_str()), (Certainty::Source, "[6.12] hw/erdma/erdma_verbs.h:22"));
    let refusal = model("erdma").create_qp(QpType::RC, caps(1, 8193, 1, 1, 0), false).unwrap_err();
    assert_eq!((refusal.errno, refusal.certainty), (22, Certainty::Inferred), "the depth of the receive queue may be more");
    // What DLSlime asks for: as deep as the device prints, which is no less than the receive limit.
    let grant = model("erdma").create_qp(QpType::RC, caps(8192, 8192, 1, 1, 0), false).unwrap();
    assert_eq!((grant.certainty, grant.unsure), (Certainty::Source, vec![]));
    let grant = model("mana").create_qp(QpType::RC, caps(17, 16, 1, 1, 0), false).unwrap();
    assert_eq!(
        (grant.certainty, grant.unsure),
        (Certainty::Inferred, vec![Aspect::Of(Parameter::QpType), Aspect::Of(Parameter::MaxSendWr)])
    );
    let (grant, entries) = model("erdma").answer(&QpRequest { cq_depth: 1 << 17, ..QpRequest::base(QpType::RC) }).unwrap();
    assert_eq!((grant.certainty, grant.unsure, entries), (Certainty::Firmware, vec![Aspect::Of(Parameter::CqDepth)], 1 << 17));
    let grant = model("rxe").create_qp(QpType::RC, caps(1, 1, 1, 1, 0), false).unwrap();
    assert_eq!((grant.certainty, grant.unsure), (Certainty::Source, vec![]));
}

#[test]
fn mlx5_depth_falls_with_entries_and_inline_bytes() {
    for kernel in ["mlx5-6.1", "mlx5-6.12"] {
        for (sge, inline, depth) in
            [(1, 0, 8192), (4, 0, 8192), (4, 64, 6553), (5, 0, 6553), (1, 220, 4681), (16, 0, 4681), (30, 0, 2978), (52, 0, 2048)]
        {
            assert_eq!(deepest_send(model(kernel), sge, inline), depth, "{kernel}: {sge} entries, {inline} bytes");
        }
        assert_eq!(rc(kernel, caps(1, 1, 53, 1, 0)), Err((22, "max_send_sge")));
        assert_eq!(rc(kernel, caps(1, 32769, 1, 1, 0)), Err((22, "max_recv_wr")));
        assert_eq!(rc(kernel, caps(1, 1, 1, 33, 0)), Err((22, "max_recv_sge")));
    }
    assert_eq!(model("mlx5-6.1").attributes().max_qp_wr, 32768);
    assert_eq!(model("mlx5-6.12").attributes().max_qp_wr, 8192);
    // 128 requests of 320 bytes round up to 64 KiB, which hold 204.
    assert_eq!(rc("mlx5", caps(128, 100, 5, 3, 0)), Ok(caps(204, 128, 5, 4, 124)));
    assert_eq!(rc("mlx5", caps(16, 16, 1, 1, 0)).unwrap().max_inline_data, 60);
    let srq = model("mlx5").create_qp(QpType::RC, caps(16, 32769, 1, 1, 0), true).unwrap_err();
    assert_eq!((srq.errno, srq.parameter), (22, Some(Aspect::Of(Parameter::MaxRecvWr))), "checked with a shared receive queue too");
    assert_eq!(model("mlx5").standard_call_refuses(QpType::Driver), Some(Errno(0)));
}

#[test]
fn mlx4_leaves_headroom_and_raises_an_empty_receive_queue() {
    assert_eq!(deepest_send(model("mlx4"), 1, 0), 16351);
    assert_eq!(rc("mlx4", caps(16, 0, 1, 0, 0)).map(|caps| (caps.max_recv_wr, caps.max_recv_sge)), Ok((1, 1)));
    let inline = deepest(|bytes| rc("mlx4", caps(1, 1, 1, 1, bytes)).is_ok());
    assert!((880..=944).contains(&inline), "{inline}");
    assert_eq!(rc("mlx4", caps(1, 1, 33, 1, 0)), Err((22, "max_send_sge")));
}

#[test]
fn e810_publishes_its_worst_case() {
    let e810 = model("irdma-e810");
    assert_eq!(e810.attributes().max_qp_wr, 4063);
    for (sge, inline, depth) in [(1, 0, 16255), (2, 0, 16255), (3, 0, 8127), (6, 0, 8127), (1, 101, 8127), (7, 0, 4063), (13, 0, 4063)] {
        assert_eq!(deepest_send(e810, sge, inline), depth, "{sge} entries, {inline} bytes");
    }
    for (sge, depth) in [(1, 32767), (2, 16383), (3, 16383), (4, 8191), (7, 8191), (8, 4095), (13, 4095)] {
        let found = deepest(|wr| e810.create_qp(QpType::RC, caps(1, wr, 1, sge, 0), false).is_ok());
        assert_eq!(found, depth, "{sge} receive entries");
    }
    assert_eq!(rc("irdma-e810", caps(1, 1, 1, 1, 102)), Err((22, "max_inline_data")));
    assert_eq!(rc("irdma-e810", caps(1, 1, 14, 1, 0)), Err((22, "max_send_sge")));
    assert_eq!(ask("irdma-e810", QpType::UC, caps(1, 1, 1, 1, 0)), Err((95, "qp_type")));
    // 2 x 128 quanta and 258 more round up to 1024, of which 766 are left.
    assert_eq!(rc("irdma-e810", caps(128, 128, 1, 1, 0)), Ok(caps(383, 255, 1, 1, 0)));
    assert_eq!(deepest_send(model("irdma-x722"), 3, 0), 895);
}

#[test]
fn bnxt_re_refuses_without_an_errno() {
    for (name, sge) in [("bnxt_re-thor", 6), ("bnxt_re-thor2", 13)] {
        assert!(rc(name, caps(16, 16, sge, sge, 16 * sge)).is_ok());
        assert_eq!(rc(name, caps(16, 16, sge + 1, 1, 0)), Err((0, "max_send_sge")));
        assert_eq!(rc(name, caps(16, 16, 1, 1, 16 * sge + 1)), Err((0, "max_inline_data")));
        assert_eq!(ask(name, QpType::UC, caps(16, 16, 1, 1, 0)), Err((0, "qp_type")));
    }
}

#[test]
fn cxgb4_tells_a_queue_that_is_too_deep_apart() {
    assert_eq!(rc("cxgb4", caps(70_000, 16, 1, 1, 0)), Err((7, "max_send_wr")));
    assert_eq!(rc("cxgb4", caps(16, 8190, 1, 1, 0)), Err((7, "max_recv_wr")));
    assert_eq!(rc("cxgb4", caps(16, 8190, 1, 1, 281)), Err((22, "max_inline_data")));
    assert_eq!(rc("cxgb4", caps(16, 0, 100, 100, 0)), Ok(caps(16, 7, 100, 100, 280)));
}

#[test]
fn efa_has_no_reliable_connection() {
    assert_eq!(rc("efa", caps(16, 16, 1, 1, 0)), Err((95, "qp_type")));
    assert!(ask("efa", QpType::UD, caps(16, 16, 2, 2, 32)).is_ok());
    assert!(ask("efa", QpType::Srd, caps(16, 16, 2, 2, 32)).is_ok());
    assert_eq!(model("efa").standard_call_refuses(QpType::Srd), Some(Errno::EOPNOTSUPP));
    assert_eq!(model("efa").standard_call_refuses(QpType::UD), None);
    let refusal = model("efa").create_qp(QpType::UD, caps(16, 16, 1, 0, 0), false).unwrap_err();
    assert_eq!(refusal.signal, Some(libc::SIGFPE));
    assert_eq!(model("efa").create_qp(QpType::UD, caps(16, 16, 1, 1, 0), true).unwrap_err().errno, 22);
    assert_eq!(ask("efa", QpType::UD, caps(16, 100, 1, 2, 0)).unwrap().max_recv_wr, 128);
    assert_eq!(model("efa").attributes().max_qp_rd_atom, 0);
}

#[test]
fn other_refusals_are_those_of_their_provider_or_kernel() {
    assert_eq!(ask("mana", QpType::UD, caps(16, 16, 1, 1, 0)), Err((95, "qp_type")));
    assert_eq!(rc("ionic", caps(16, 16, 0, 1, 0)), Err((22, "max_send_sge")));
    assert_eq!(rc("ionic", caps(16, 16, 1, 1, 0)).unwrap().max_send_wr, 31);
    assert_eq!(rc("hns", caps(0, 16, 1, 1, 0)), Err((22, "max_send_wr")));
    assert_eq!(rc("hns", caps(16, 16, 1, 0, 0)), Err((22, "max_recv_sge")));
    assert_eq!(rc("hns", caps(16, 0, 1, 0, 0)), Ok(caps(64, 0, 1, 0, 0)));
    assert_eq!(rc("hns", caps(16, 100, 1, 3, 2000)), Ok(caps(64, 128, 1, 4, 1024)));
    assert_eq!(model("hns").create_cq(64), Ok(63));
    assert_eq!(rc("qedr", caps(16, 16, 5, 1, 0)), Err((22, "max_send_sge")));
    assert_eq!(ask("qedr", QpType::UD, caps(16, 16, 1, 1, 0)), Err((95, "qp_type")));
    assert_eq!(rc("vmw_pvrdma", caps(17, 0, 3, 0, 0)), Ok(caps(32, 1, 4, 1, 0)));
    assert_eq!(ask("ocrdma", QpType::RawPacket, caps(16, 16, 1, 1, 0)), Err((95, "qp_type")));
}

#[test]
fn soft_roce_shares_space_between_entries_and_inline_bytes() {
    assert_eq!(rc("rxe-6.1", caps(100, 100, 2, 3, 0)), Ok(caps(100, 100, 2, 3, 32)));
    assert_eq!(rc("rxe-6.1", caps(100, 100, 1, 1, 200)), Ok(caps(100, 100, 12, 1, 200)));
    assert_eq!(rc("rxe-6.12", caps(100, 128, 1, 1, 0)), Ok(caps(127, 255, 1, 1, 16)));
    assert_eq!(rc("rxe", caps(1, 1, 33, 1, 0)), Err((22, "max_send_sge")));
    assert_eq!(rc("rxe", caps(1, 1, 1, 1, 513)), Err((22, "max_inline_data")));
    assert_eq!(ask("rxe", QpType::RawPacket, caps(1, 1, 99, 1, 0)), Err((95, "qp_type")));
    assert!(model("rxe").create_qp(QpType::RC, caps(1, 1 << 21, 1, 99, 0), true).is_ok(), "ignored with a shared receive queue");
    assert_eq!(model("rxe-6.1").create_srq(100, 0), Ok(SrqRequest { max_wr: 100, max_sge: 1 }));
    assert_eq!(model("rxe").create_srq(100, 28).unwrap_err().errno, 22);
    assert_eq!(model("rxe").create_cq(100), Ok(127));
    assert_eq!(model("rxe").create_cq(32767), Ok(32767));
    for refused in [-1, 0, 32768, 65536] {
        assert_eq!(model("rxe").create_cq(refused).unwrap_err().errno, 22);
    }
}

#[test]
fn soft_iwarp_needs_both_queues() {
    assert_eq!(rc("siw", caps(100, 100, 6, 6, 80)), Ok(caps(100, 100, 6, 6, 80)));
    assert_eq!(rc("siw", caps(100, 100, 6, 6, 81)), Err((22, "max_inline_data")));
    assert_eq!(rc("siw", caps(100, 0, 1, 1, 0)), Err((22, "max_recv_wr")));
    assert!(model("siw").create_qp(QpType::RC, caps(100, 0, 1, 1, 0), true).is_ok());
    assert_eq!(ask("siw", QpType::UD, caps(100, 100, 99, 1, 0)), Err((95, "qp_type")));
    assert_eq!(model("siw").create_cq(100), Ok(128));
}

#[test]
fn the_kernel_takes_no_shared_receive_queue_for_the_sending_half_of_an_xrc_connection() {
    for name in ["rxe-6.1", "siw"] {
        let errno = |srq| model(name).create_qp(QpType::XrcSend, caps(1, 1, 1, 1, 0), srq).unwrap_err().errno;
        assert_eq!((errno(false), errno(true)), (95, 22), "{name}");
    }
}

#[test]
fn the_lab_device_has_the_limits_of_erdma() {
    for request in [caps(1, 1, 6, 1, 96), caps(1, 1, 4, 4, 0), caps(1, 0, 1, 1, 0), caps(8193, 1, 1, 1, 0), caps(1, 1, 1, 1, 256)] {
        for qp_type in QpType::ALL {
            let verdict = |name| ask(name, qp_type, request).map(|_| ());
            assert_eq!(verdict("limited"), verdict("erdma"), "{request:?} {qp_type}");
        }
    }
    assert_eq!(rc("limited", caps(10, 10, 1, 1, 96)), Ok(caps(10, 10, 6, 1, 96)));
    // libibverbs takes the receive queue from the sending half of an XRC connection, and these devices want one.
    assert_eq!(ask("limited", QpType::XrcSend, caps(1, 1, 1, 1, 0)), Err((22, "max_recv_wr")));
    assert_eq!(model("limited").connection.rdma_cm.value, RdmaCm::Optional);
}

#[test]
fn memory_regions_are_checked_by_the_kernel_first_and_then_by_the_driver() {
    let errno = |name: &str, length, access| model(name).reg_mr(length, access).map_err(|refusal| refusal.errno);
    assert_eq!(errno("rxe", 4096, 0b111), Ok(()));
    assert_eq!(errno("rxe", 4096, 0b010), Err(22), "remote write without local write");
    assert_eq!(errno("rxe", 4096, 1 << 20 | 1), Ok(()), "an optional flag is dropped");
    assert_eq!(errno("rxe", 4096, 1 << 9), Err(22));
    assert_eq!(errno("rxe-6.12", 4096, 1 << 6), Err(95));
    assert_eq!(errno("rxe-6.1", 4096, 1 << 6), Err(22));
    assert_eq!(errno("mlx5", 4096, 1 << 6), Ok(()));
    assert_eq!(errno("rxe", 0, 1), Ok(()));
    assert_eq!(errno("erdma", 0, 1), Err(22));
    assert_eq!(errno("erdma", 1 << 37, 1), Err(22));
    assert_eq!(errno("efa", 4096, 0b1001), Err(95));
}

/// Which steps there are: the figure of IBTA 10.3.1, and the kernel's qp_state_table.
#[test]
fn there_are_the_steps_of_the_specification_and_no_others() {
    use QpState::{Error, Init, Reset, Rtr, Rts, Sqd, Sqe};
    for (from, reached) in [
        (Reset, &[Reset, Init][..]),
        (Init, &[Reset, Init, Rtr, Error]),
        (Rtr, &[Reset, Rts, Error]),
        (Rts, &[Reset, Rts, Sqd, Error]),
        (Sqd, &[Reset, Rts, Sqd, Error]),
        (Sqe, &[Reset, Rts, Error]),
        (Error, &[Reset, Error]),
    ] {
        for to in [Reset, Init, Rtr, Rts, Sqd, Sqe, Error] {
            for qp_type in [QpType::RC, QpType::UC, QpType::UD] {
                let made = model("mlx5").modify(&ModifyRequest::new(qp_type, from, to));
                let expected = if reached.contains(&to) { Ok(Effect::Moved(to)) } else { Err(22) };
                assert_eq!(made.map_err(|refusal| refusal.errno), expected, "{qp_type}: {from} to {to}");
            }
        }
    }
}

#[test]
fn with_a_shared_receive_queue_the_entries_of_an_own_one_do_not_count() {
    // hns wants entries of a queue that takes requests; with a shared one it writes an empty queue back (verify_qp_create_cap).
    let made = |recv_wr, recv_sge, srq| model("hns").create_qp(QpType::RC, caps(16, recv_wr, 1, recv_sge, 0), srq);
    assert_eq!(made(16, 0, false).unwrap_err().parameter, Some(Aspect::Of(Parameter::MaxRecvSge)));
    assert_eq!(made(16, 0, true).map(|grant| grant.caps), Ok(caps(64, 0, 1, 0, 0)));
    assert_eq!(made(0, 0, false).map(|grant| grant.caps), Ok(caps(64, 0, 1, 0, 0)));
}

#[test]
fn states_move_as_each_machine_has_it() {
    let step = |name: &str, from, to, cm| {
        let request = ModifyRequest { has_cm_connection: cm, ..ModifyRequest::new(QpType::RC, from, to) };
        model(name).modify(&request).map_err(|refusal| refusal.errno)
    };
    use QpState::{Error, Init, Reset, Rtr, Rts};
    for name in ["erdma", "siw"] {
        assert_eq!(step(name, Reset, Init, false), Ok(Effect::Nothing));
        assert_eq!(step(name, Reset, Rtr, false), Ok(Effect::Nothing));
        assert_eq!(step(name, Reset, Rts, false), Err(22));
        assert_eq!(step(name, Reset, Rts, true), Ok(Effect::Moved(Rts)));
        assert_eq!(model(name).connection.rdma_cm.value, RdmaCm::Mandatory);
    }
    for name in ["mlx5", "rxe", "limited", "erdma-compat"] {
        assert_eq!(step(name, Reset, Init, false), Ok(Effect::Moved(Init)));
        assert_eq!(step(name, Init, Rtr, false), Ok(Effect::Moved(Rtr)));
        assert_eq!(step(name, Rtr, Rts, false), Ok(Effect::Moved(Rts)));
        assert_eq!(step(name, Rts, Error, false), Ok(Effect::Moved(Error)));
    }
    assert_eq!(step("mlx5", Reset, Rts, false), Err(22));
    let rtr = ModifyRequest::new(QpType::RC, Init, Rtr);
    assert!(model("mlx5").modify(&ModifyRequest { has_global_route: false, ..rtr }).is_err(), "Ethernet needs a global route");
    assert!(model("mlx5").modify(&ModifyRequest { has_local_gid: false, ..rtr }).is_err());
    assert!(model("erdma-compat").modify(&ModifyRequest { is_remote_ipv4: false, ..rtr }).is_err());
    let with = |mask| model("rxe").modify(&ModifyRequest { attributes: Some(AttributeMask(mask)), ..rtr });
    let all = AttributeMask::STATE
        | AttributeMask::AV
        | AttributeMask::PATH_MTU
        | AttributeMask::DEST_QPN
        | AttributeMask::RQ_PSN
        | AttributeMask::MAX_DEST_RD_ATOMIC
        | AttributeMask::MIN_RNR_TIMER;
    assert!(with(all).is_ok());
    assert!(with(all & !AttributeMask::MIN_RNR_TIMER).is_err());
    assert!(with(all | AttributeMask::QKEY).is_err());
    assert_eq!(model("efa").connection.state_machine.value, StateMachine::Srd);
    let srd = ModifyRequest::new(QpType::Driver, Init, Rtr);
    assert!(model("efa").modify(&ModifyRequest { attributes: Some(AttributeMask(AttributeMask::STATE)), ..srd }).is_ok());
}

#[test]
fn objects_and_kernels_are_told() {
    assert_eq!(model("siw").most(ObjectKind::QueuePair), (102_400, Errno::ENOMEM));
    assert_eq!(model("rxe-6.1").most(ObjectKind::QueuePair), (1_048_560, Errno::EINVAL));
    let dma_buf = |name: &str, kernel| model(name).takes_dma_buf(kernel);
    assert!(dma_buf("mlx5", "6.1.0-21-amd64"));
    assert!(!dma_buf("mlx5", "5.10.0"));
    assert!(!dma_buf("irdma-e810", "6.1"));
    assert!(dma_buf("irdma-e810", "6.12.3"));
    assert!(!dma_buf("erdma", "6.12"));
    assert_eq!(model("bnxt_re").relaxed_ordering("6.12").map(|figure| figure.value), Some(true));
}

#[test]
fn an_unknown_key_is_named_with_line_and_column() {
    let &(path, text) = DEVICES.iter().find(|(path, _)| path.ends_with("/erdma.yaml")).unwrap();
    let broken = text.replacen("port:\n", "port:\n  gid_colour: 1\n", 1);
    let line = broken.lines().position(|line| line.contains("gid_colour")).unwrap() + 1;
    let error = DeviceModel::parse(Path::new(path), &broken).unwrap_err().to_string();
    assert!(error.contains(&format!("{path}:{line}:3: port: unknown key `gid_colour`")), "{error}");
}

#[test]
fn a_figure_without_source_is_refused_where_it_stands() {
    let &(path, text) = DEVICES.iter().find(|(path, _)| path.ends_with("/erdma.yaml")).unwrap();
    for (from, to) in [
        ("source: \"[6.12] hw/erdma/erdma_verbs.h:22\"", "source: \" \""),
        ("{value: 6, source", "{source"),
        ("{value: 6, source", "{value: 6, observed: 6, source"),
        ("{value: 6, source", "{value: 6, colour: red, source"),
    ] {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text);
        let line = broken.lines().zip(text.lines()).position(|(new, old)| new != old).unwrap() + 1;
        let error = DeviceModel::parse(Path::new(path), &broken).unwrap_err().to_string();
        assert!(error.contains(&format!("{path}:{line}:")), "{error}");
    }
    let order = text.replacen("qp_type, srq]", "qp_type]", 1);
    let error = DeviceModel::parse(Path::new(path), &order).unwrap_err().to_string();
    assert!(error.contains("queue_pairs.order has srq 0 times, not 1"), "{error}");
}

#[test]
fn a_json_schema_can_be_made() {
    let schema = serde_json::to_string(&schemars::schema_for!(DeviceModel)).unwrap();
    assert!(schema.contains("\"observed\""));
}

fn any_caps() -> impl Strategy<Value = QueuePairCaps> {
    let depth = || prop_oneof![0..40_000u32, 0..2_000_000u32];
    let sge = || 0..70u32;
    (depth(), depth(), sge(), sge(), 0..1200u32).prop_map(|(a, b, c, d, e)| caps(a, b, c, d, e))
}

proptest! {
    #[test]
    fn what_is_granted_is_granted_in_smaller_too(
        index in 0..DEVICES.len(), larger in any_caps(), part in prop::array::uniform5(0.0..1.0f64),
        kind in 0..QpType::ALL.len(), srq: bool,
    ) {
        let model = &DeviceModel::embedded()[index];
        let smaller = |value: u32, part: f64| if value == 0 { 0 } else { ((f64::from(value) * part) as u32).max(1) };
        let less = caps(
            smaller(larger.max_send_wr, part[0]), smaller(larger.max_recv_wr, part[1]), smaller(larger.max_send_sge, part[2]),
            smaller(larger.max_recv_sge, part[3]), smaller(larger.max_inline_data, part[4]),
        );
        if model.create_qp(QpType::ALL[kind], larger, srq).is_ok() {
            let answer = model.create_qp(QpType::ALL[kind], less, srq);
            prop_assert!(answer.is_ok(), "{}: {:?} granted, {:?}: {:?}", model.name, larger, less, answer);
        }
    }

    #[test]
    fn no_request_panics(
        index in 0..DEVICES.len(), numbers in prop::array::uniform5(any::<u32>()), kind in 0..QpType::ALL.len(), srq: bool,
        entries: i64, length: u64, access: u32, states in (0..7usize, 0..7usize), mask: u32,
    ) {
        let model = &DeviceModel::embedded()[index];
        let [a, b, c, d, e] = numbers;
        let _ = model.create_qp(QpType::ALL[kind], caps(a, b, c, d, e), srq);
        let _ = (model.create_cq(entries), model.create_srq(a, b), model.reg_mr(length, access));
        let change = ModifyRequest::new(QpType::ALL[kind], QpState::ALL[states.0], QpState::ALL[states.1]);
        let _ = model.modify(&ModifyRequest { attributes: Some(AttributeMask(mask)), ..change });
        let request = QpRequest { max_send_wr: a, cq_depth: b, srq: srq.then_some(SrqRequest { max_wr: c, max_sge: d }), ..QpRequest::base(QpType::ALL[kind]) };
        let _ = model.answer(&request);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in "\\PC*") {
        prop_assert!(DeviceModel::parse(Path::new("x.yaml"), &text).is_err());
    }

    #[test]
    fn a_damaged_file_does_not_panic(index in 0..DEVICES.len(), at in 0.0..1.0f64, length in 0..40usize, with in "[ -~\\n]{0,8}") {
        let text = DEVICES[index].1;
        let start = ((text.len() as f64) * at) as usize;
        let end = (start + length).min(text.len());
        let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
        let _ = DeviceModel::parse(Path::new("x.yaml"), &damaged);
    }
}

#[test]
fn erdma_tells_states_as_its_driver_does() {
    use QpState::{Init, Reset, Rts};
    let model = DeviceModel::find("erdma").unwrap();
    assert_eq!([Reset, Rts].map(|state| model.told("6.1.0-28-amd64", state, 0)), [(Reset, 96), (Reset, 96)]);
    assert_eq!([Reset, Rts].map(|state| model.told("6.12", state, 0)), [(Init, 96), (Rts, 96)]);
    let siw = DeviceModel::find("siw").unwrap();
    assert_eq!(siw.told("6.12", Rts, 7), (Rts, 7));
}

#[test]
fn the_first_kernel_with_a_driver_is_known_where_it_is_sure() {
    let first = DeviceModel::first_kernel("erdma").unwrap();
    assert!(first.is_after("5.10.134-16.3.al8.x86_64") && !first.is_after("6.1.0-28-amd64") && !first.is_after("6.12.1"));
    assert_eq!(DeviceModel::first_kernel("bnxt_re").unwrap().release, "4.11");
    // Only reasoned, or no family at all.
    assert!(DeviceModel::first_kernel("ionic").is_none() && DeviceModel::first_kernel("none").is_none());
}
