//! `bw` and `ping` on real verbs: Soft-RoCE by exchanged addresses, Soft-iWARP by rdma_cm; every operation, verified.

use serde_json::Value;

use crate::Test;
use crate::guest::Guest;

pub const TRANSFERS: &[Test] = &[
    ("rxe_moves_and_verifies_every_operation", rxe_bandwidth),
    ("rxe_latencies_have_all_percentiles", rxe_latency),
    ("siw_connects_by_rdma_cm", siw),
    ("rxe_connects_by_rdma_cm_when_asked", rxe_by_manager),
    ("datagrams_and_unreliable_connections", unreliable),
    ("two_devices_at_once_wait_as_each_did_alone", at_once),
    ("an_interrupted_run_shows_what_it_has", interrupted),
    ("nothing_is_left_behind", nothing_left),
];

pub const PAIR: &[Test] =
    &[("two_guests_move_and_verify_every_operation", two_guests), ("two_guests_over_rxe_exchange_addresses", two_guests_over_rxe)];

/// Enough for every step, and no more: the guest is emulated.
const SHORT: &str = "--iterations 64 --repeats 2 --answer-within 60s";

/// Each result moved, and what arrived was what was sent.
fn all_verified(document: &Value, rows: usize) {
    let results = document["results"].as_array().unwrap();
    assert_eq!(results.len(), rows, "{document:#}");
    for result in results {
        assert!(result["failure"].is_null(), "{result:#}");
        assert!(result["verification"]["messages"].as_u64().unwrap() > 0, "{result:#}");
        assert!(result["verification"]["mismatch"].is_null(), "{result:#}");
    }
}

fn rxe_bandwidth(guest: &mut Guest) {
    for how in ["poll", "event"] {
        let (document, code) = guest.json(&format!("bw rxe0 --sizes 2,4097,64k --completion {how} {SHORT}"));
        assert_eq!(code, 0, "{document:#}");
        all_verified(&document, 18);
        assert_eq!(document["connection"]["connect"], "oob");
        assert!(document["connection"]["local"]["reason"].as_str().unwrap().contains("10.77.0.1"), "{document:#}");
        assert!(document["results"].as_array().unwrap().iter().all(|result| result["bytes_per_second"]["median"].as_f64().unwrap() > 0.0));
    }
    let (document, _) = guest.json(&format!("bw rxe0 --sizes 4k --bidirectional --queue-pairs 3 --immediate --buffer hot {SHORT}"));
    all_verified(&document, 3);
    for result in document["results"].as_array().unwrap() {
        assert_eq!(result["messages"], 2 * 2 * 3 * 64, "both ways, two repeats, three queue pairs: {result:#}");
    }
}

/// With its one processor a device may have slept alone; polling beside another would say that both share something.
fn at_once(guest: &mut Guest) {
    for how in ["", "--completion poll", "--completion event"] {
        let (document, code) = guest.json(&format!("bw --devices rxe0,siw0 --op write --sizes 64k --buffer hot {how} {SHORT}"));
        assert_eq!(code, 0, "{document:#}");
        let [alone, shares] = [&document["alone"], &document["together"][0]["devices"]].map(|part| part.as_array().unwrap());
        assert_eq!((alone.len(), shares.len()), (2, 2), "{document:#}");
        for (alone, share) in alone.iter().zip(shares) {
            assert_eq!(alone["results"][0]["completion"], share["completion"], "{document:#}");
            assert!(share["together_bytes_per_second"].as_f64().unwrap() > 0.0, "{document:#}");
            assert!(how.is_empty() || how.ends_with(share["completion"].as_str().unwrap()), "{document:#}");
        }
    }
}

fn rxe_latency(guest: &mut Guest) {
    for how in ["poll", "event"] {
        let (document, code) = guest.json(&format!("ping rxe0 --sizes 1,4k --completion {how} {SHORT}"));
        assert_eq!(code, 0, "{document:#}");
        all_verified(&document, 6);
        for result in document["results"].as_array().unwrap() {
            let figure = |name: &str| result["latencies"][name].as_f64().unwrap();
            assert_eq!(figure("samples"), 128.0);
            assert!(figure("min_us") > 0.0 && figure("min_us") <= figure("p50_us") && figure("p50_us") <= figure("max_us"), "{result:#}");
            // No event tells of a write.
            assert_eq!(result["completion"], if result["operation"] == "write" { "poll" } else { how }, "{result:#}");
        }
    }
}

fn siw(guest: &mut Guest) {
    let (document, code) = guest.json(&format!("bw siw0 --sizes 64,64k --buffer hot {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["connection"]["connect"], "cm");
    all_verified(&document, 6);
    let (document, code) = guest.json(&format!("ping siw0 --sizes 64 {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    all_verified(&document, 3);
}

fn rxe_by_manager(guest: &mut Guest) {
    let (document, code) = guest.json(&format!("bw rxe0 --connect cm --sizes 4k --buffer hot --queue-pairs 2 {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    all_verified(&document, 3);
}

fn unreliable(guest: &mut Guest) {
    let (document, _) = guest.json(&format!("bw rxe0 --transport ud --sizes 2,1024 --buffer hot {SHORT}"));
    all_verified(&document, 2);
    let (document, _) = guest.json(&format!("bw rxe0 --transport uc --sizes 4k --buffer hot {SHORT}"));
    all_verified(&document, 2);
}

fn interrupted(guest: &mut Guest) {
    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let ran = guest.sh(&format!(
        "{doctor} --format json bw rxe0 --sizes 4k --op write --buffer hot --duration 40s > /tmp/out & pid=$!\nsleep 6\nkill -INT $pid\nwait $pid\ncode=$?\ncat /tmp/out\nexit $code"
    ));
    assert_eq!(ran.code, 130, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["stopped"], "interrupted");
    assert!(document["results"][0]["failure"].is_null(), "{document:#}");
}

fn nothing_left(guest: &mut Guest) {
    assert_eq!(guest.queue_pairs(), Vec::<String>::new());
    assert_eq!(guest.sh("rdma resource show mr | grep -c rdmadoctor").out.trim(), "0");
    assert_eq!(guest.sh("pgrep -c rdmadoctor").out.trim(), "0");
}

const TOKEN: &str = "correct horse battery staple";

/// Two guests on one wire with a device each, and `peer` in the second; the folder is that of the wire.
fn pair_on(devices: &str) -> (Guest, Guest, tempfile::TempDir) {
    let directory = tempfile::Builder::new().prefix("rd-wire-").tempdir_in("/tmp").unwrap();
    let wires = ["a", "b"].map(|end| directory.path().join(end).display().to_string());
    let boot =
        |own: usize, address: &str| Guest::boot(&["--devices", devices, "--wire", &wires[own], &wires[1 - own], "--address", address]);
    let (here, mut there) = (boot(0, "10.79.0.1/24"), boot(1, "10.79.0.2/24"));
    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let ran = there.sh(&format!(
        "RDMADOCTOR_TOKEN='{TOKEN}' {doctor} --answer-within 60s peer --listen 10.79.0.2 > /tmp/peer.log 2>&1 &\nfor i in $(seq 300); do grep -q listening /tmp/peer.log && exit 0; sleep 0.1; done; cat /tmp/peer.log; exit 1"
    ));
    assert_eq!(ran.code, 0, "{}", ran.out);
    (here, there, directory)
}

/// A client that has gone leaves the server as it was.
fn only_the_server_is_left(there: &mut Guest) {
    for _ in 0..100 {
        if there.queue_pairs().is_empty() {
            break;
        }
    }
    assert_eq!(there.queue_pairs(), Vec::<String>::new(), "a client has gone");
    assert_eq!(there.sh("pgrep -c rdmadoctor").out.trim(), "1", "the server itself");
}

/// The packets that one side's device sent, the other's received, and nobody says that data took another way.
fn both_sides_counted(document: &Value) {
    for result in document["results"].as_array().unwrap() {
        let counters = result["counters"].as_array().unwrap();
        let grew = |side: &str, name: &str| {
            let found = counters.iter().find(|counter| counter["side"] == side && counter["device"] == "rxe0" && counter["name"] == name);
            found.and_then(|counter| counter["delta"].as_u64()).unwrap_or_else(|| panic!("{name} of {side}: {result:#}"))
        };
        // A read's data goes the other way than its requests.
        let (from, to) = if result["operation"] == "read" { ("there", "here") } else { ("here", "there") };
        let packets = result["messages"].as_u64().unwrap() * result["size_bytes"].as_u64().unwrap().div_ceil(1024);
        assert!(grew(from, "sent_pkts") >= packets && grew(to, "rcvd_pkts") >= packets, "{packets} packets: {result:#}");
        let carried = result["carried"].as_array().unwrap();
        assert!(carried.iter().all(|carried| carried["way"] == "this_device"), "{carried:#?}");
        if packets >= 64 {
            assert_eq!(carried.len(), 2, "{result:#}");
        }
    }
}

/// Two guests with Soft-RoCE: addresses are exchanged over the session, packets cross a real interface.
fn two_guests_over_rxe(_: &mut Guest) {
    let (mut here, mut there, _wire) = pair_on("rxe");
    let peer = format!("rxe0 --peer 10.79.0.2 --to rxe0 --token '{TOKEN}'");
    // The wire holds ten frames (net.unix.max_dgram_qlen). Longer bursts are lost while the other guest waits for a processor, and Soft-RoCE
    // sends all of a burst again.
    let (document, code) = here.json(&format!("bw {peer} --sizes 64,4k --depth 2 --buffer hot {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["connection"]["connect"], "oob");
    assert!(document["connection"]["local"]["reason"].as_str().unwrap().contains("10.79.0.1"), "{document:#}");
    all_verified(&document, 6);
    assert!(document["results"].as_array().unwrap().iter().all(|result| result["bytes_per_second"]["median"].as_f64().unwrap() > 0.0));
    both_sides_counted(&document);
    let (document, code) = here.json(&format!("ping {peer} --sizes 64 {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    all_verified(&document, 3);
    for result in document["results"].as_array().unwrap() {
        assert_eq!(result["latencies"]["samples"], 128, "{result:#}");
        assert!(result["latencies"]["min_us"].as_f64().unwrap() > 0.0, "{result:#}");
    }
    only_the_server_is_left(&mut there);
}

/// Two guests on one wire: Soft-iWARP, which only rdma_cm connects, and which ends a connection whose receiver is overrun.
fn two_guests(_: &mut Guest) {
    let (mut here, mut there, _wire) = pair_on("siw");
    let peer = format!("siw0 --peer 10.79.0.2 --to siw0 --token '{TOKEN}'");
    let (document, code) = here.json(&format!("bw {peer} --sizes 64,64k --buffer hot {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["connection"]["connect"], "cm");
    all_verified(&document, 6);
    // Many more sends than there are receive requests.
    let (document, code) =
        here.json(&format!("bw {peer} --op send --sizes 64 --buffer hot --iterations 3000 --repeats 1 --answer-within 60s"));
    assert_eq!(code, 0, "{document:#}");
    let (document, code) = here.json(&format!("ping {peer} --sizes 64 {SHORT}"));
    assert_eq!(code, 0, "{document:#}");
    all_verified(&document, 3);
    only_the_server_is_left(&mut there);
}
