//! What rdmadoctor says of an engine and what the engine really does, on the same device.

use std::process::Command;

use serde_json::Value;

use super::Test;
use super::guest::{Guest, Ran};

/// rxe0 is plain Soft-RoCE, rxe1 has eRDMA's limits.
pub const DLSLIME: &[Test] = &[
    ("dlslime_aborts_where_its_completion_queue_is_refused", completion_queue),
    ("dlslime_moves_data_with_the_setting_that_was_named", with_setting),
    ("dlslime_crashes_where_its_inline_data_is_refused", inline_data),
    ("dlslime_works_from_the_inline_limit_that_was_named", inline_limit),
];

const RELEASE: &str = "0.0.2.post1";

/// Runs the real engine: two endpoints on `device`, 64 KiB from one to the other.
fn engine(guest: &mut Guest, device: &str, version: &str, settings: &str) -> Ran {
    let install =
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/engines/install")).args(["dlslime", version]).output().unwrap();
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    let path = String::from_utf8_lossy(&install.stdout).trim().to_owned();
    guest.sh(&format!("env PYTHONPATH={path} {settings} /usr/bin/python3 tests/lab/engines/dlslime_transfer.py {device}"))
}

/// What rdmadoctor says of the queue pair `queue`.
fn verdict(guest: &mut Guest, device: &str, queue: &str) -> Value {
    let (document, _) = guest.json(&format!("qp-matrix {device} --engine dlslime@{RELEASE}"));
    let asks = document["devices"][0]["asks"].as_array().unwrap();
    asks.iter().find(|ask| ask["queue"] == queue).unwrap_or_else(|| panic!("no {queue}: {document:#}")).clone()
}

fn completion_queue(guest: &mut Guest) {
    let ask = verdict(guest, "rxe0", "data");
    assert_eq!(ask["attempts"][0]["outcome"]["error"]["call"], "ibv_create_cq");
    assert!(ask["on_refusal"].as_str().unwrap().contains("create CQ failed"), "{ask:#}");
    let ran = engine(guest, "rxe0", RELEASE, "");
    // 128 and SIGABRT.
    assert_eq!(ran.code, 134, "{ran:?}");
    assert!(ran.err.contains("create CQ failed"), "{ran:?}");
}

fn with_setting(guest: &mut Guest) {
    let ask = verdict(guest, "rxe0", "data");
    let setting = ask["remedies"][0]["settings"][0].as_str().unwrap().to_owned();
    let ran = engine(guest, "rxe0", RELEASE, &setting);
    assert_eq!((ran.code, ran.out.trim()), (0, "arrived 65536"), "{ran:?}");
    // One more than named is too much: the bound is the engine's own.
    let (name, value) = setting.split_once('=').unwrap();
    let ran = engine(guest, "rxe0", RELEASE, &format!("{name}={}", value.parse::<u32>().unwrap() + 1));
    assert_eq!(ran.code, 134, "{ran:?}");
}

fn inline_data(guest: &mut Guest) {
    let ask = verdict(guest, "rxe1", "meta");
    let culprit = ask["culprits"].as_array().unwrap().iter().find(|culprit| culprit["parameter"] == "max_inline_data").unwrap();
    assert_eq!((culprit["asked"].as_u64(), culprit["accepted"].as_u64()), (Some(256), Some(96)));
    assert!(ask["on_refusal"].as_str().unwrap().contains("SIGSEGV"));
    // With the completion queue mended, as on a real eRDMA, the queue pair is what is left.
    let ran = engine(guest, "rxe1", RELEASE, "SLIME_MAX_CQ_DEPTH=32767");
    // 128 and SIGSEGV.
    assert_eq!(ran.code, 139, "{ran:?}");
    assert!(ran.err.contains("Failed to create QP"), "{ran:?}");
    let ran = engine(guest, "rxe1", "0.1.23", "");
    assert_eq!(ran.code, 139, "{ran:?}");
}

fn inline_limit(guest: &mut Guest) {
    let limit = "/sys/module/rdmadoctor_limited/parameters/max_inline_data";
    for (value, code) in [(255, 139), (256, 0)] {
        guest.sh(&format!("echo {value} > {limit}"));
        let refused =
            verdict(guest, "rxe1", "meta")["culprits"].as_array().unwrap().iter().any(|culprit| culprit["parameter"] == "max_inline_data");
        let ran = engine(guest, "rxe1", RELEASE, "SLIME_MAX_CQ_DEPTH=32767");
        guest.sh(&format!("echo 96 > {limit}"));
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(refused, code != 0, "rdmadoctor and the engine agree");
    }
}
