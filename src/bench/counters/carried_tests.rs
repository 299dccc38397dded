use super::*;
use crate::host::rdma_counters::Counter;

/// A device of an adapter of its own, on its own interface.
fn ways(device: &str, slot: &str) -> Routes {
    Routes {
        device: device.to_owned(),
        netdevs: vec![format!("eth-{device}")],
        adapter: Some(slot.to_owned()),
        functions: vec![format!("0000:{slot}:00.0")],
        ..Routes::default()
    }
}

fn counted(keeper: CounterKeeper, owner: &str, counters: &[(&str, u64)]) -> Counted {
    let counters = counters.iter().map(|(name, value)| Counter { name: (*name).to_owned(), value: *value }).collect();
    Counted { owner: owner.to_owned(), port: (keeper == CounterKeeper::Rdma).then_some(1), keeper, counters }
}

/// Three NICs, of which the first two are ends; in units of 4 bytes.
fn host(first: [u64; 2], second: [u64; 2], third: [u64; 2]) -> Snapshot {
    let set = |device, [sent, received]: [u64; 2]| {
        counted(CounterKeeper::Rdma, device, &[("port_xmit_data", 1000 + sent), ("port_rcv_data", 2000 + received)])
    };
    Snapshot {
        devices: vec![ways("a", "18"), ways("b", "2a"), ways("c", "3a")],
        sets: vec![set("a", first), set("b", second), set("c", third)],
        left_out: 0,
    }
}

fn reading(here: Snapshot) -> Reading {
    Reading { here, there: None }
}

fn ends(first: &str, second: &str) -> [PortOf; 2] {
    [first, second].map(|device| PortOf { device: device.to_owned(), port: 1 })
}

const BYTES: u64 = 4 << 20;
const WORDS: u64 = BYTES / 4;

fn flows() -> [Flow; 2] {
    [Flow::of(BYTES, 4096, 1024), Flow::default()]
}

fn judged(before: Snapshot, after: Snapshot) -> Vec<Carried> {
    judge([&reading(before), &reading(after)], &ends("a", "b"), [HostSide::Here; 2], flows())
}

fn still() -> Snapshot {
    host([0; 2], [0; 2], [0; 2])
}

#[test]
fn data_that_was_counted_where_it_should_be_is_no_finding() {
    let all = judged(still(), host([WORDS * 21 / 20, 9], [9, WORDS * 21 / 20], [0; 2]));
    let shown: Vec<_> = all.iter().map(|carried| (carried.device.as_str(), carried.direction, carried.way)).collect();
    assert_eq!(shown, [("a", Direction::Sent, Route::ThisDevice), ("b", Direction::Received, Route::ThisDevice)]);
    assert!(all.iter().all(|carried| carried.summary.is_none() && carried.expected == BYTES));
    assert_eq!((all[0].evidence[0].before, all[0].evidence[0].counts_as), (1000, 4));
}

#[test]
fn counters_that_stand_still_are_a_note_and_less_than_half_a_warning() {
    let all = judged(still(), still());
    assert!(all.iter().all(|carried| carried.way == Route::Unknown && !carried.is_bad()), "{all:?}");
    assert!(all[0].summary.as_ref().unwrap().contains("does not count for this function"), "{all:?}");
    let all = judged(still(), host([WORDS / 3, 0], [0, WORDS], [0; 2]));
    assert_eq!((all[0].way, all[1].way), (Route::Less, Route::ThisDevice));
    assert!(all[0].is_bad() && all[0].summary.as_ref().unwrap().contains("port_xmit_data of a counted"), "{all:?}");
}

#[test]
fn another_device_that_counted_as_much_is_named() {
    let all = judged(still(), host([0; 2], [0; 2], [WORDS, WORDS]));
    assert!(all.iter().all(|carried| carried.way == Route::Elsewhere && carried.evidence[1].owner == "c"), "{all:?}");
    // Ten times as much is somebody else's traffic.
    let all = judged(still(), host([0; 2], [0; 2], [WORDS * 10, WORDS * 10]));
    assert!(all.iter().all(|carried| carried.way == Route::Unknown), "{all:?}");
    // A function beside it may count for the whole card.
    let beside = |mut snapshot: Snapshot| {
        snapshot.devices[2].adapter = Some("18".to_owned());
        snapshot
    };
    let all = judged(beside(still()), beside(host([0; 2], [0, WORDS], [WORDS, WORDS])));
    assert_eq!(all[0].way, Route::Unknown, "{all:?}");
}

#[test]
fn an_interface_that_no_device_has_is_named_and_the_own_one_is_right() {
    let way = |netdev: &str, bytes: u64| {
        let with = |sent: u64| {
            let mut snapshot = host([0; 2], [0, sent / 4], [0; 2]);
            snapshot.sets.push(counted(CounterKeeper::Kernel, netdev, &[("tx_bytes", sent), ("rx_bytes", 0)]));
            reading(snapshot)
        };
        let flows = [Flow::of(bytes, 4096, 1024), Flow::default()];
        let all = judge([&with(0), &with(bytes * 11 / 10)], &ends("a", "b"), [HostSide::Here; 2], flows);
        (all[0].way, all[0].evidence.last().unwrap().owner.clone())
    };
    assert_eq!(way("eth9", 128 << 20), (Route::Elsewhere, "eth9".to_owned()));
    assert_eq!(way("eth9", BYTES).0, Route::Unknown, "so little may be anybody's");
    assert_eq!(way("eth-a", BYTES).0, Route::ThisDevice, "some drivers count RDMA there");
}

#[test]
fn what_need_not_leave_an_adapter_and_what_is_little_is_not_judged() {
    let both = [&reading(still()), &reading(still())];
    assert_eq!(judge(both, &ends("a", "a"), [HostSide::Here; 2], flows()), []);
    let mut one = still();
    one.devices[1].adapter = Some("18".to_owned());
    assert_eq!(judged(one.clone(), one), []);
    let little = [Flow::of(4096, 64, 1024), Flow::default()];
    assert_eq!(judge(both, &ends("a", "b"), [HostSide::Here; 2], little), []);
    let mut full = still();
    full.sets[0].counters[0].value = u64::from(u32::MAX);
    assert_eq!(judged(full.clone(), full).len(), 1, "a counter of 32 bits that is full tells nothing");
    assert_eq!(judged(host([9; 2], [0; 2], [0; 2]), still()).len(), 1, "one that was set back neither");
}

#[test]
fn a_bond_may_send_by_another_member() {
    let bonded = |mut snapshot: Snapshot| {
        snapshot.devices[0].is_bonded = true;
        snapshot
    };
    let all = judged(bonded(still()), bonded(host([WORDS / 3, 0], [0, WORDS], [WORDS, 0])));
    assert_eq!(all[0].way, Route::Unknown);
    assert!(all[0].summary.as_ref().unwrap().contains("bond"), "{all:?}");
}

#[test]
fn packets_count_where_there_are_no_bytes_and_the_far_side_is_judged_too() {
    let host = |adapter: &str, sent: u64, received: u64| {
        let set = counted(CounterKeeper::Rdma, "rxe0", &[("sent_pkts", sent), ("rcvd_pkts", received)]);
        Snapshot { devices: vec![Routes { is_virtual: true, ..ways("rxe0", adapter) }], sets: vec![set], left_out: 0 }
    };
    let packets = BYTES / 1024;
    let both = |sent: u64, received: u64| Reading { here: host("02", sent, 7), there: Some(host("03", 7, received)) };
    let sides = [HostSide::Here, HostSide::There];
    let judge = |before: &Reading, after: &Reading, flows| judge([before, after], &ends("rxe0", "rxe0"), sides, flows);
    let all = judge(&both(0, 0), &both(packets, packets / 4), flows());
    let shown: Vec<_> = all.iter().map(|carried| (carried.side, carried.way, carried.expected, carried.unit)).collect();
    assert_eq!(
        shown,
        [(HostSide::Here, Route::ThisDevice, packets, CountUnit::Packets), (HostSide::There, Route::Less, packets, CountUnit::Packets)]
    );
    let lossy = flows().map(|flow| Flow { may_be_lost: true, ..flow });
    assert_eq!(judge(&both(0, 0), &both(packets, 0), lossy).len(), 1, "what arrives is not judged");
    let silent = Reading { there: None, ..both(0, 0) };
    assert_eq!(judge(&silent, &silent, flows()), [], "the other end may be of this adapter");
    let mut same = both(0, 0);
    same.there.as_mut().unwrap().devices[0].adapter = same.here.devices[0].adapter.clone();
    assert_eq!(judge(&same, &same, flows()), [], "it is");
}

#[test]
fn software_without_counters_is_judged_by_its_interface() {
    let host = |adapter: &str, sent: u64| Snapshot {
        devices: vec![Routes { is_virtual: true, ..ways("siw0", adapter) }],
        sets: vec![counted(CounterKeeper::Kernel, "eth-siw0", &[("tx_bytes", sent), ("rx_bytes", 0)])],
        left_out: 0,
    };
    let there = Snapshot { sets: Vec::new(), ..host("03", 0) };
    let [before, after] = [0, BYTES].map(|sent| Reading { here: host("02", sent), there: Some(there.clone()) });
    let all = judge([&before, &after], &ends("siw0", "siw0"), [HostSide::Here, HostSide::There], flows());
    assert_eq!(all.iter().map(|carried| carried.way).collect::<Vec<_>>(), [Route::ThisDevice]);
}
