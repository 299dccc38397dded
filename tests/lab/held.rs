//! Objects that processes hold, and registrations against limits, on a real kernel.

use serde_json::Value;

use super::Test;
use super::guest::Guest;

/// On plain Soft-RoCE.
pub const HELD: &[Test] = &[
    ("a_server_that_holds_objects_is_named", server),
    ("objects_of_a_process_that_has_ended_are_found", ended),
    ("registrations_meet_the_limit", limits),
];

/// The findings of a check.
fn findings(guest: &mut Guest, id: &str) -> Vec<Value> {
    // An emulated guest on a busy machine answers late.
    let (document, _) = guest.json(&format!("-q --answer-within 60s probe --only {id}"));
    document["findings"].as_array().unwrap_or_else(|| panic!("{document:#}")).clone()
}

fn status(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["status"].as_str().unwrap()).collect()
}

fn server(guest: &mut Guest) {
    assert_eq!(status(&findings(guest, "RD-1119")), ["pass"]);
    guest.sh("ibv_rc_pingpong -d rxe0 -g 1 > /dev/null 2>&1 & echo $! > /tmp/server; until rdma resource show qp | grep -q pingpong; do sleep 0.1; done");
    let pid = guest.sh("cat /tmp/server").out.trim().to_owned();
    let held = findings(guest, "RD-1119");
    assert_eq!(status(&held), ["pass"], "{held:#?}");
    let title = held[0]["title"].as_str().unwrap();
    // The kernel cuts names at 15 characters.
    assert!(title.starts_with(&format!("ibv_rc_pingpong ({pid}) holds 1 queue pairs, 1 memory regions")), "{title}");
    guest.sh("kill -STOP $(cat /tmp/server)");
    let stopped = findings(guest, "RD-1119");
    assert_eq!(status(&stopped), ["warn"], "{stopped:#?}");
    assert!(stopped[0]["title"].as_str().unwrap().contains("is stopped"), "{stopped:#?}");
    // As the finding says.
    let command = stopped[0]["remedy"]["commands"][1].as_str().unwrap().to_owned();
    guest.sh(&format!("{command}; kill -CONT $(cat /tmp/server); while kill -0 {pid} 2> /dev/null; do sleep 0.1; done"));
    assert_eq!(status(&findings(guest, "RD-1119")), ["pass"]);
}

/// Registers memory, leaves a child that has the device open, and ends.
const PARENT: &str = r"
import ctypes, os, time
verbs = ctypes.CDLL('libibverbs.so.1')
for call in ('ibv_get_device_list', 'ibv_open_device', 'ibv_alloc_pd', 'ibv_reg_mr'):
    getattr(verbs, call).restype = ctypes.c_void_p
devices = ctypes.cast(verbs.ibv_get_device_list(None), ctypes.POINTER(ctypes.c_void_p))
domain = verbs.ibv_alloc_pd(ctypes.c_void_p(verbs.ibv_open_device(ctypes.c_void_p(devices[0]))))
buffer = ctypes.create_string_buffer(65536)
assert verbs.ibv_reg_mr(ctypes.c_void_p(domain), buffer, ctypes.c_size_t(65536), 1)
if os.fork() == 0:
    os.setsid()
    open('/tmp/child', 'w').write(str(os.getpid()))
    time.sleep(300)
";

fn ended(guest: &mut Guest) {
    let script = guest.write("parent.py", PARENT.as_bytes());
    let ran = guest.sh(&format!("python3 {script} < /dev/null > /dev/null 2>&1 && until [ -s /tmp/child ]; do sleep 0.1; done"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let child = guest.sh("cat /tmp/child").out;
    let held = findings(guest, "RD-1119");
    assert_eq!(status(&held), ["fail"], "{held:#?}");
    assert_eq!(held[0]["subject"], "rxe0");
    assert!(held[0]["title"].as_str().unwrap().starts_with("1 memory regions are held"), "{held:#?}");
    let evidence = held[0]["evidence"].to_string();
    assert!(evidence.contains(&format!("({})", child.trim())), "{evidence}");
    guest.sh(&format!("kill {child}; sleep 0.5"));
    assert_eq!(status(&findings(guest, "RD-1119")), ["pass"]);
}

fn limits(guest: &mut Guest) {
    let free = findings(guest, "RD-0509");
    assert_eq!(status(&free), ["pass"], "{free:#?}");
    let ran = guest.sh(&format!(
        "cp {} /tmp/rdmadoctor && ulimit -l 256 && setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all \
         /tmp/rdmadoctor --format json -q --answer-within 60s probe --only RD-0501 --only RD-0509",
        env!("CARGO_BIN_EXE_rdmadoctor")
    ));
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let refused = document["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "RD-0509").unwrap();
    assert_eq!((refused["status"].as_str(), refused["because"].as_str()), (Some("fail"), Some("RD-0501/host")), "{refused:#}");
    // The kernel counts whole pages up to the limit.
    assert!(refused["title"].as_str().unwrap().starts_with("256 KiB of host memory can be registered"), "{refused:#}");
    assert!(refused["evidence"][0]["value"].as_str().unwrap().contains("ENOMEM"), "{refused:#}");
}
