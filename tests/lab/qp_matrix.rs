//! `qp-matrix` against the kernel's own answers.

use serde_json::{Value, json};

use super::Test;
use super::guest::Guest;

/// On a Soft-RoCE device with eRDMA's limits (rxe0), and on Soft-iWARP (siw0).
pub const LIMITED: &[Test] = &[
    ("the_incident_names_its_culprit", incident),
    ("the_later_release_fails_by_inline_data", inline),
    ("bounds_equal_an_exhaustive_loop", limited_bounds),
    ("bounds_of_siw_equal_an_exhaustive_loop", siw_bounds),
    ("a_crash_and_a_hang_of_the_library_are_told", crash_and_hang),
    ("a_hang_in_the_kernel_is_told", kernel_hang),
    ("exhaustion_is_no_limit", exhaustion),
    ("locked_memory_is_blamed_for_a_plain_user", memlock),
    ("joint_limits_are_found", joint),
    ("counting_stops_at_the_refusal", count),
    ("siw_needs_the_connection_manager", siw_connection),
    ("an_interrupted_and_a_killed_run_leave_nothing", interrupted),
];

/// On plain Soft-RoCE.
pub const RXE: &[Test] = &[
    ("the_completion_queue_is_the_culprit_on_plain_rxe", completion_queue),
    ("bounds_equal_an_exhaustive_loop", rxe_bounds),
    ("connection_and_verdict_agree", granted),
];

fn asks<'a>(document: &'a Value, queue: &str) -> &'a Value {
    let all = document["devices"].as_array().unwrap();
    let device = all.iter().find(|device| device["device"] == "rxe0").unwrap_or_else(|| panic!("{document:#}"));
    device["asks"].as_array().unwrap().iter().find(|ask| ask["queue"] == queue).unwrap_or_else(|| panic!("no {queue}: {document:#}"))
}

fn incident(guest: &mut Guest) {
    let (document, code) = guest.json("qp-matrix rxe0 --engine dlslime@0.0.1.post7");
    assert_eq!(code, 1);
    let ask = asks(&document, "data");
    assert_eq!(ask["verdict"], "refused");
    assert_eq!(ask["culprits"], json!([{"parameter": "max_recv_sge", "asked": 4, "accepted": 1, "setting": null, "exact": true}]));
    assert_eq!(ask["cause"]["class"], "over_limit");
    assert_eq!(ask["attempts"][0]["outcome"]["error"]["errno"], 22);
    // The proof is a granted attempt that keeps the four send entries.
    assert_eq!(ask["attempts"][1]["outcome"]["result"], "granted");
    assert_eq!(ask["attempts"][1]["request"]["max_send_sge"], 4);
    let versions = ask["remedies"].as_array().unwrap().iter().find(|remedy| remedy["kind"] == "versions").unwrap();
    assert!(versions["versions"].as_array().unwrap().contains(&json!("0.0.1.post10")), "{versions}");
    let table = guest.doctor("qp-matrix rxe0 --engine dlslime@0.0.1.post7");
    assert!(table.out.contains("max_recv_sge: asked 4, the device accepts 1") && table.out.contains("SIGSEGV"), "{}", table.out);
    let (document, code) = guest.json("qp-matrix rxe0 --engine dlslime@0.0.1.post10");
    assert_eq!((asks(&document, "data")["verdict"].as_str(), code), (Some("granted"), 0));
}

fn inline(guest: &mut Guest) {
    let (document, code) = guest.json("qp-matrix rxe0 --engine dlslime@0.0.2.post1");
    assert_eq!(code, 1);
    let meta = asks(&document, "meta");
    let culprit = meta["culprits"].as_array().unwrap().iter().find(|culprit| culprit["parameter"] == "max_inline_data").unwrap();
    assert_eq!(*culprit, json!({"parameter": "max_inline_data", "asked": 256, "accepted": 96, "setting": null, "exact": true}));
    assert!(
        meta["remedies"]
            .as_array()
            .unwrap()
            .iter()
            .any(|remedy| *remedy == json!({"kind": "no_setting", "parameters": ["max_inline_data"]}))
    );
}

fn completion_queue(guest: &mut Guest) {
    let (document, code) = guest.json("qp-matrix rxe0 --engine dlslime@0.0.2.post1");
    assert_eq!(code, 1);
    for queue in ["data", "meta"] {
        let ask = asks(&document, queue);
        assert_eq!(
            ask["culprits"],
            json!([{"parameter": "cq_depth", "asked": 65536, "accepted": 32767, "setting": "SLIME_MAX_CQ_DEPTH", "exact": true}])
        );
        assert_eq!(ask["remedies"][0], json!({"kind": "settings", "settings": ["SLIME_MAX_CQ_DEPTH=32767"]}));
    }
}

/// The largest value up to which the loop found everything accepted that it tried, zero apart.
fn exhaustive(guest: &mut Guest, device: &str, spans: &str) -> Value {
    let ran = guest.sh_for(&format!("/usr/bin/python3 tests/lab/exhaustive.py {device} {spans}"), 240);
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Compares bounds with a loop over `spans`; each span must reach past the bound.
fn compare(guest: &mut Guest, device: &str, options: &str, spans: &str) {
    let loops = exhaustive(guest, device, spans);
    let (document, _) = guest.json(&format!("qp-matrix {device} {options}"));
    for (parameter, ranges) in loops.as_object().unwrap() {
        let bound = document["devices"][0]["bounds"].as_array().unwrap().iter().find(|bound| bound["parameter"] == *parameter).unwrap();
        let last = ranges.as_array().unwrap().last().unwrap()[1].as_u64().unwrap();
        assert_eq!(bound["accepted"].as_u64(), Some(last), "{device} {parameter}: {bound} {ranges}");
        assert_eq!(bound["exact"], true, "{device} {parameter}: {bound}");
        let zero_accepted = ranges[0][0] == 0;
        if let Some(zero) = bound["zero"].as_object() {
            assert_eq!(zero["result"] == "granted", zero_accepted, "{device} {parameter}: {bound} {ranges}");
        }
        // As the README states: no more than twice the logarithm, and four.
        let most = 2 * last.max(1).next_power_of_two().ilog2() + 4;
        assert!(bound["attempts"].as_u64().unwrap() <= u64::from(most), "{device} {parameter}: {bound}");
    }
}

fn limited_bounds(guest: &mut Guest) {
    // Small depths, so that really every value can be tried.
    set(guest, "max_send_wr", 700);
    set(guest, "max_recv_wr", 333);
    compare(
        guest,
        "rxe0",
        "",
        "max_send_sge=0-40 max_recv_sge=0-40 max_inline_data=0-600 max_send_wr=0-800 max_recv_wr=0-400 cq_depth=0-70,32700-32800,65536",
    );
    set(guest, "max_send_wr", 8192);
    set(guest, "max_recv_wr", 8192);
}

fn siw_bounds(guest: &mut Guest) {
    compare(
        guest,
        "siw0",
        "--max-memory 1G",
        "max_send_sge=0-20 max_recv_sge=0-20 max_inline_data=0-300 max_send_wr=0-40,4095-4097,32760-32780,65536 max_recv_wr=0-40,4095-4097,32760-32780,65536",
    );
}

fn rxe_bounds(guest: &mut Guest) {
    compare(guest, "rxe0", "", "max_send_sge=0-70 max_recv_sge=0-70 max_inline_data=0-1100 cq_depth=0-70,32700-32800,65536");
    // A million work requests would take more memory than a doctor may: said, not tried.
    let (document, _) = guest.json("qp-matrix rxe0 --max-memory 16M");
    let bound = document["devices"][0]["bounds"].as_array().unwrap().iter().find(|bound| bound["parameter"] == "max_send_wr").unwrap();
    assert_eq!((bound["ending"]["kind"].as_str(), bound["exact"].as_bool()), (Some("beyond_memory"), Some(false)), "{bound}");
}

fn granted(guest: &mut Guest) {
    let (document, code) = guest.json("qp-matrix rxe0 --ask max_send_sge=4,max_recv_sge=4,max_send_wr=8192,max_recv_wr=8192");
    assert_eq!(code, 0);
    let device = &document["devices"][0];
    assert_eq!(device["asks"][0]["verdict"], "granted");
    assert_eq!(device["connection"]["reached"], "RTS", "{device:#}");
}

/// Sets a parameter of the limited device.
fn set(guest: &mut Guest, parameter: &str, value: u32) {
    let ran = guest.sh(&format!("echo {value} > /sys/module/rdmadoctor_limited/parameters/{parameter}"));
    assert_eq!(ran.code, 0, "{ran:?}");
}

fn crash_and_hang(guest: &mut Guest) {
    let made = guest.sh("gcc -shared -fPIC -Wl,--no-as-needed -o /tmp/shims.so tests/lab/shims.c -libverbs");
    assert_eq!(made.code, 0, "{made:?}");
    let before = guest.queue_pairs();
    let (document, code) =
        guest.json("--libibverbs /tmp/shims.so --answer-within 3s qp-matrix rxe0 --ask max_recv_sge=4 --ask max_recv_sge=5 --grid max_recv_sge=1,4,5,2,1");
    assert_eq!(code, 1);
    let device = &document["devices"][0];
    assert_eq!(device["asks"][0]["verdict"], "crashed");
    assert_eq!(device["asks"][0]["attempts"][0]["outcome"]["signal"], "SIGSEGV");
    assert_eq!(device["asks"][0]["cause"]["class"], "driver");
    assert_eq!(device["asks"][1]["verdict"], "hung");
    let cells: Vec<_> =
        device["grid"]["cells"].as_array().unwrap().iter().map(|cell| cell["outcome"]["result"].as_str().unwrap()).collect();
    assert_eq!(cells, ["granted", "crashed", "hung", "refused", "granted"]);
    assert_eq!(guest.queue_pairs(), before);
    assert_eq!(guest.sh("ps -eo stat,comm | grep -c '^Z.*rdmadoctor'").out.trim(), "0");
}

fn kernel_hang(guest: &mut Guest) {
    set(guest, "hang_on_recv_sge", 1);
    let (document, code) = guest.json("--answer-within 3s qp-matrix rxe0");
    set(guest, "hang_on_recv_sge", 0);
    assert_eq!(code, 1);
    let device = &document["devices"][0];
    assert_eq!(device["base"]["outcome"]["result"], "hung", "{device:#}");
    // The limited device refuses every other type, so there is nothing to search from.
    assert_eq!(device["bounds"], json!([]));
    assert_eq!(guest.queue_pairs(), Vec::<String>::new());
    let (_, code) = guest.json("qp-matrix rxe0 --ask max_send_sge=4");
    assert_eq!(code, 0, "the device works again");
}

fn exhaustion(guest: &mut Guest) {
    // Somebody else holds the only queue pair that there may be.
    let holder = "import time\nfrom pyverbs.device import Context\nfrom pyverbs.pd import PD\nfrom pyverbs.cq import CQ\nfrom pyverbs.qp import *\n\
                  from pyverbs.enums import *\nc=Context(name='rxe0')\np=PD(c)\nq=CQ(c,64,None,None,0)\n\
                  k=QP(p,QPInitAttr(qp_type=IBV_QPT_RC,scq=q,rcq=q,cap=QPCap(16,16,1,1,0)))\nprint('held',flush=True)\ntime.sleep(60)";
    set(guest, "budget", 1);
    let ran = guest.sh(&format!(
        "cat > /tmp/holder.py <<'PY'\n{holder}\nPY\n/usr/bin/python3 /tmp/holder.py > /tmp/held & pid=$!\n\
         for i in $(seq 100); do grep -q held /tmp/held && break; sleep 0.1; done\n\
         {} --format json qp-matrix rxe0 --ask max_send_wr=64\ncode=$?\nkill $pid\nwait $pid 2>/dev/null\nexit $code",
        env!("CARGO_BIN_EXE_rdmadoctor")
    ));
    set(guest, "budget", 0);
    assert_eq!(ran.code, 1, "{ran:?}");
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let device = &document["devices"][0];
    assert_eq!(device["asks"][0]["cause"]["class"], "resources", "{device:#}");
    assert!(device["asks"][0]["cause"]["summary"].as_str().unwrap().contains("run out"), "{device:#}");
}

fn memlock(guest: &mut Guest) {
    // rxe allocates its queues in the kernel and never pins them, so the limit is set up by errno: what matters is whether it is blamed.
    set(guest, "fail_errno", 12);
    let ran = guest.sh(&format!(
        "cp {} /tmp/rdmadoctor && ulimit -l 64 && setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all \
         /tmp/rdmadoctor --format json qp-matrix rxe0 --ask max_send_wr=8192",
        env!("CARGO_BIN_EXE_rdmadoctor")
    ));
    set(guest, "fail_errno", 0);
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let cause = &document["devices"][0]["asks"][0]["cause"];
    assert_eq!(cause["class"], "resources");
    assert!(cause["summary"].as_str().unwrap().contains("lock enough memory"), "{cause}");
    assert!(cause["next_step"].as_str().unwrap().contains("memlock"), "{cause}");
}

fn joint(guest: &mut Guest) {
    // mlx5's arithmetic: 2048 units of 64 bytes.
    set(guest, "joint_send_units", 2048);
    let (document, _) = guest.json("qp-matrix rxe0");
    set(guest, "joint_send_units", 0);
    let device = &document["devices"][0];
    let frontier = device["joint"].as_array().unwrap().iter().find(|joint| joint["over"] == "max_send_sge").unwrap();
    assert_eq!(frontier["independent"], false, "{frontier:#}");
    // An entry is 192 + 16 a scatter-gather entry, in units of 64 bytes: 4 units up to 4 entries, 5 up to 6. The first step ends at the
    // bound itself.
    assert_eq!(
        frontier["points"],
        json!([{"up_to": 4, "accepted": 512, "refused_above": false}, {"up_to": 6, "accepted": 409, "refused_above": true}])
    );
}

fn count(guest: &mut Guest) {
    set(guest, "budget", 7);
    let (document, _) = guest.json("qp-matrix rxe0 --count 100");
    set(guest, "budget", 0);
    let counted = &document["devices"][0]["count"]["counted"];
    assert_eq!((counted["granted"].as_u64(), counted["refused"]["errno"].as_i64()), (Some(7), Some(12)), "{counted}");
    assert_eq!(guest.queue_pairs(), Vec::<String>::new());
    let (document, _) = guest.json("qp-matrix rxe0 --count 5");
    assert_eq!(document["devices"][0]["count"]["counted"], json!({"granted": 5, "refused": null}));
}

fn siw_connection(guest: &mut Guest) {
    let (document, code) = guest.json("qp-matrix siw0 --engine dlslime@0.0.1.post10");
    assert_eq!(code, 1);
    let connection = &document["devices"][0]["connection"];
    assert_eq!(connection["cause"]["class"], "network", "{connection:#}");
    assert!(connection["cause"]["summary"].as_str().unwrap().contains("rdma_cm"), "{connection:#}");
}

fn interrupted(guest: &mut Guest) {
    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let before = guest.queue_pairs();
    // Begun after three seconds even on a busy machine, and by far not done then on an emulated one.
    let grid = "--grid max_send_wr=$(seq -s, 1 200) max_recv_wr=$(seq -s, 1 100)";
    let ran = guest.sh(&format!("{doctor} --format json qp-matrix rxe0 {grid} --budget 100000 > /tmp/out & pid=$!\nsleep 3\nkill -INT $pid\nwait $pid\ncode=$?\ncat /tmp/out\nexit $code"));
    assert_eq!(ran.code, 130, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(document["devices"][0]["stopped"].as_str().unwrap().contains("interrupted"), "{}", document["devices"][0]["stopped"]);
    let cells = document["devices"][0]["grid"]["cells"].as_array().unwrap();
    assert!(cells.iter().any(|cell| cell["outcome"]["result"] == "granted"), "what was known is printed");
    assert!(cells.iter().any(|cell| cell["outcome"]["result"] == "not_run"));
    assert_eq!(guest.queue_pairs(), before);
    let ran = guest.sh(&format!(
        "{doctor} qp-matrix rxe0 --count 2000 > /dev/null 2>&1 & pid=$!\nsleep 0.7\nkill -KILL $pid\nwait $pid\n\
         for i in $(seq 50); do pgrep rdmadoctor > /dev/null || break; sleep 0.1; done\npgrep -c rdmadoctor"
    ));
    assert_eq!(ran.out.trim(), "0", "the child dies with its parent: {ran:?}");
    assert_eq!(guest.queue_pairs(), before);
}
