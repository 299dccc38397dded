//! What each arithmetic writes back, reckoned by hand: queues without requests above all.

use super::*;

fn figure(value: u32) -> Figure<u32> {
    Figure::new(value, "a test")
}

/// Work requests of both queues, entries of both, inline bytes.
fn caps(send_wr: u32, recv_wr: u32, send_sge: u32, recv_sge: u32, inline: u32) -> QueuePairCaps {
    QueuePairCaps { max_send_wr: send_wr, max_recv_wr: recv_wr, max_send_sge: send_sge, max_recv_sge: recv_sge, max_inline_data: inline }
}

fn mlx5() -> Mlx5 {
    Mlx5 {
        max_send_entry_bytes: figure(1024),
        max_recv_entry_bytes: figure(512),
        max_send_blocks: figure(32768),
        max_recv_wr: figure(32768),
    }
}

#[test]
fn mlx5_looks_at_nothing_of_a_queue_without_requests() {
    let pack = |caps, srq| mlx5().pack(QpType::RC, caps, srq);
    // Neither queue is looked at. The receive queue is written back as empty, the send queue as it was asked.
    assert_eq!(pack(caps(0, 0, 1000, 1000, 5000), false), Ok(caps(0, 0, 1000, 0, 5000)));
    // One of each alone. 192 + 16 bytes are 4 blocks of 64, of which 60 bytes are left for inline data.
    assert_eq!(pack(caps(16, 0, 1, 5, 0), false), Ok(caps(16, 0, 1, 0, 60)));
    // A queue has a block of 64 bytes at least, which are four entries of 16.
    assert_eq!(pack(caps(0, 1, 7, 1, 9), false), Ok(caps(0, 4, 7, 1, 9)));
    assert_eq!(pack(caps(0, 1, 0, 0, 0), false), Ok(caps(0, 4, 0, 1, 0)), "a request has an entry at least");
    assert_eq!(pack(caps(0, 5, 0, 3, 0), false), Ok(caps(0, 8, 0, 4, 0)), "three entries take the room of four");
    // With a shared receive queue only the depth is looked at.
    assert_eq!(pack(caps(0, 0, 0, 9, 0), true), Ok(caps(0, 0, 0, 0, 0)));
    assert_eq!(pack(caps(0, 5, 0, 1000, 0), true), Ok(caps(0, 5, 0, 1000, 0)));
    assert_eq!(pack(caps(0, 32769, 0, 1, 0), true), Err(Aspect::Of(Parameter::MaxRecvWr)));
}

#[test]
fn mlx5_limits_hold_at_the_border_and_not_beyond() {
    let pack = |caps| mlx5().pack(QpType::RC, caps, false);
    let refused = |parameter| Err(Aspect::Of(parameter));
    // 192 + 16 x 52 = 1024.
    assert!(pack(caps(1, 0, 52, 0, 0)).is_ok());
    assert_eq!(pack(caps(1, 0, 53, 0, 0)), refused(Parameter::MaxSendSge));
    // 192 + 4 + 828 = 1024.
    assert!(pack(caps(1, 0, 1, 0, 828)).is_ok());
    assert_eq!(pack(caps(1, 0, 1, 0, 829)), refused(Parameter::MaxInlineData));
    // 8192 x 256 bytes are 32768 blocks.
    assert!(pack(caps(8192, 0, 1, 0, 0)).is_ok());
    assert_eq!(pack(caps(8193, 0, 1, 0, 0)), refused(Parameter::MaxSendWr));
    assert!(pack(caps(0, 32768, 0, 32, 0)).is_ok());
    assert_eq!(pack(caps(0, 32769, 0, 1, 0)), refused(Parameter::MaxRecvWr));
    assert_eq!(pack(caps(0, 1, 0, 33, 0)), refused(Parameter::MaxRecvSge));
}

#[test]
fn mlx5_overheads_are_those_of_the_types() {
    // What a type puts before its data: 1024 bytes less that hold so many entries of 16.
    for (qp_type, overhead) in [
        (QpType::RC, 192),
        (QpType::UC, 192),
        (QpType::UD, 64),
        (QpType::RawPacket, 32),
        (QpType::XrcSend, 208),
        (QpType::Driver, 240),
        (QpType::Srd, 240),
    ] {
        let most = (1024 - overhead) / 16;
        assert!(mlx5().pack(qp_type, caps(1, 0, most, 0, 0), false).is_ok(), "{qp_type}");
        assert!(mlx5().pack(qp_type, caps(1, 0, most + 1, 0, 0), false).is_err(), "{qp_type}");
    }
}

#[test]
fn mlx4_keeps_headroom_even_without_requests() {
    let rule = Mlx4 { max_send_entry_bytes: figure(1024), max_entries: figure(16384) };
    // An entry of 64 bytes: 16 control, 48 for an atomic. 2048 / 64 + 1 = 33 are kept free, so 64 places leave 31.
    assert_eq!(rule.pack(QpType::RC, caps(0, 0, 1, 1, 0), false), Ok(caps(31, 1, 2, 1, 28)));
    assert_eq!(rule.pack(QpType::RC, caps(31, 1, 0, 0, 0), false), Ok(caps(31, 1, 2, 1, 28)));
    assert_eq!(rule.pack(QpType::RC, caps(32, 3, 1, 3, 0), false), Ok(caps(95, 4, 2, 4, 28)));
    // With a shared receive queue nothing of an own one is reckoned.
    assert_eq!(rule.pack(QpType::RC, caps(0, 0, 1, 0, 0), true), Ok(caps(31, 0, 2, 0, 28)));
    // A datagram's address takes 48 bytes: entries of 128, 2048 / 128 + 1 = 17 kept free of 32.
    assert_eq!(rule.pack(QpType::UD, caps(0, 0, 1, 0, 0), false), Ok(caps(15, 1, 4, 1, 60)));
    assert!(rule.pack(QpType::RC, caps(16384 - 33, 1, 1, 1, 0), false).is_ok());
    assert_eq!(rule.pack(QpType::RC, caps(16384 - 32, 1, 1, 1, 0), false), Err(Aspect::Of(Parameter::MaxSendWr)));
}

fn irdma(first_generation: bool, min_entries: u32) -> Irdma {
    Irdma {
        first_generation,
        max_send_quanta: figure(32768),
        max_recv_quanta: figure(32768),
        min_entries: figure(min_entries),
        reserved_send_quanta: figure(258),
        reserved_recv_quanta: figure(1),
    }
}

#[test]
fn irdma_has_its_fewest_entries_without_requests() {
    // Of 512 quanta 254 are left, two of which an entry with immediate data takes; of 8 receive quanta 7.
    assert_eq!(irdma(false, 8).pack(caps(0, 0, 1, 1, 0), false), Ok(caps(127, 7, 1, 1, 0)));
    // The first generation has no immediate data in an entry, and receives of four quanta: 16 of them, less one.
    assert_eq!(irdma(true, 4).pack(caps(0, 0, 1, 1, 0), false), Ok(caps(254, 3, 1, 1, 0)));
    // A shared receive queue leaves an own one of a single request.
    assert_eq!(irdma(false, 8).pack(caps(0, 5000, 1, 1, 0), true), Ok(caps(127, 7, 1, 1, 0)));
    assert_eq!(irdma(false, 8).pack(caps(0, 8, 1, 1, 0), false), Ok(caps(127, 15, 1, 1, 0)));
}

#[test]
fn irdma_entries_take_as_many_quanta_as_they_hold() {
    // Entries and inline bytes with 1, 2, 4 and 8 quanta, at the border and one beyond.
    let newer = [(1, 8, 0), (2, 8, 1), (1, 9, 1), (3, 39, 1), (4, 39, 2), (3, 40, 2), (7, 101, 2), (8, 101, 3), (7, 102, 3)];
    let first = [(1, 16, 0), (2, 16, 1), (1, 17, 1), (3, 48, 1), (4, 48, 2), (3, 49, 2), (100, 500, 2)];
    for (sge, inline, shift) in newer {
        assert_eq!(irdma(false, 8).shift(sge, inline), shift, "{sge} {inline}");
    }
    for (sge, inline, shift) in first {
        assert_eq!(irdma(true, 8).shift(sge, inline), shift, "{sge} {inline}");
    }
}

#[test]
fn efa_has_a_request_at_least_and_counts_buffers() {
    let efa = |min_send_wr| Efa {
        send_memory_bytes: figure(262_144),
        entry_bytes: figure(64),
        wide_entry_bytes: figure(128),
        small_inline_bytes: figure(32),
        min_send_wr: figure(min_send_wr),
        max_recv_buffers: figure(32768),
    };
    assert_eq!(efa(1).pack(caps(0, 0, 1, 1, 0)), Ok(caps(1, 1, 1, 1, 0)));
    assert_eq!(efa(8).pack(caps(0, 0, 1, 1, 0)), Ok(caps(8, 1, 1, 1, 0)));
    // One buffer is no request of two.
    assert_eq!(efa(1).pack(caps(3, 0, 1, 2, 0)), Ok(caps(4, 0, 1, 2, 0)));
    assert_eq!(efa(1).pack(caps(3, 5, 1, 3, 0)), Ok(caps(4, 5, 1, 3, 0)), "15 buffers round up to 16, which are 5 of 3");
    // 262144 / 64 and / 128.
    assert!(efa(1).pack(caps(4096, 1, 1, 1, 32)).is_ok() && efa(1).pack(caps(2048, 1, 1, 1, 33)).is_ok());
    assert_eq!(efa(1).pack(caps(4097, 1, 1, 1, 32)), Err(Aspect::Of(Parameter::MaxSendWr)));
    assert_eq!(efa(1).pack(caps(2049, 1, 1, 1, 33)), Err(Aspect::Of(Parameter::MaxSendWr)));
    assert!(efa(1).pack(caps(1, 16384, 1, 2, 0)).is_ok());
    assert_eq!(efa(1).pack(caps(1, 16385, 1, 2, 0)), Err(Aspect::Of(Parameter::MaxRecvWr)));
}

#[test]
fn hns_has_no_entries_where_it_has_no_receive_requests() {
    let hns =
        |reserved| Hns { min_wr: figure(64), max_wr: figure(32768), reserved_recv_sge: figure(reserved), max_inline_bytes: figure(1024) };
    assert_eq!(hns(0).pack(caps(1, 0, 1, 5, 0)), caps(64, 0, 1, 0, 0));
    assert_eq!(hns(0).pack(caps(0, 0, 0, 0, 0)), caps(64, 0, 0, 0, 0));
    assert_eq!(hns(0).pack(caps(65, 1, 1, 3, 0)), caps(128, 64, 1, 4, 0));
    // Hip08 keeps one entry of a receive for itself.
    assert_eq!(hns(1).pack(caps(1, 1, 1, 4, 0)), caps(64, 64, 1, 8, 0));
    assert_eq!(hns(1).pack(caps(1, 0, 1, 4, 0)), caps(64, 0, 1, 0, 0));
    assert_eq!(hns(0).pack(caps(1, 1, 1, 1, 600)).max_inline_data, 1024);
    assert_eq!(hns(0).pack(caps(1, 1, 1, 1, 33)).max_inline_data, 64);
    assert_eq!(hns(0).pack(caps(1, 1, 1, 1, 5000)).max_inline_data, 1024);
}
