//! Engines that take their configuration from a profile and nothing else, on a real kernel's verbs.

use std::path::Path;
use std::process::Command;

use rdmadoctor::profile::Profile;
use serde_json::Value;

use super::Test;
use super::guest::{Guest, Ran};

/// rxe0 is plain Soft-RoCE, rxe1 has eRDMA's limits.
pub const PROFILE: &[Test] = &[
    ("dlslime_runs_with_its_profile", dlslime),
    ("libfabric_runs_with_its_profile", libfabric),
    ("ucx_reads_its_ucx_conf", ucx_conf),
    ("what_was_attempted_and_measured_is_validated", validated),
    ("a_stale_profile_names_what_is_stale", stale),
    ("a_full_disk_leaves_the_old_profile", full_disk),
];

/// rxe0 has eRDMA's limits, and there is no other device.
pub const LIMITED: &[Test] = &[("an_engine_that_no_setting_mends_is_not_exported", limited)];

/// The guests of a pair are booted by the test itself.
pub const PAIR: &[Test] = &[("two_hosts_connect_with_their_profiles", pair)];

const RELEASE: &str = "0.0.2.post1";

/// Where an engine's released wheel is.
fn installed(version: &str) -> String {
    let install =
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/engines/install")).args(["dlslime", version]).output().unwrap();
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    String::from_utf8_lossy(&install.stdout).trim().to_owned()
}

/// Writes the profile where engines look for it, without what an emulated processor is slow at and these engines do not look at.
fn write(guest: &mut Guest) {
    write_with(guest, "--no-transfers");
}

fn write_with(guest: &mut Guest, options: &str) {
    let engines = ["dlslime@0.0.1.post10", "dlslime@0.0.2.post1", "dlslime@0.1.23", "libfabric", "ucx", "mooncake"];
    let engines: String = engines.iter().map(|engine| format!(" --engine {engine}")).collect();
    let ran = guest.doctor(&format!("-q --answer-within 30s profile write --budget 120s {options}{engines}"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = guest.doctor("profile validate /etc/rdmadoctor/profile.yaml");
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Runs a command by `profile exec`.
fn exec(guest: &mut Guest, arguments: &str, command: &str) -> Ran {
    guest.sh_for(
        &format!("{} --answer-within 60s profile exec --within 100ms {arguments} -- {command}", env!("CARGO_BIN_EXE_rdmadoctor")),
        120,
    )
}

fn dlslime(guest: &mut Guest) {
    write(guest);
    for version in [RELEASE, "0.1.23"] {
        let python = format!("env PYTHONPATH={} /usr/bin/python3 tests/lab/engines/dlslime_transfer.py", installed(version));
        if version == RELEASE {
            // Left alone it dies of a completion queue that the device does not have.
            let ran = guest.sh(&format!("{python} rxe0"));
            assert_eq!(ran.code, 134, "{ran:?}");
        }
        let ran = exec(guest, &format!("--for dlslime --version {version}"), &format!("{python} rxe0"));
        assert_eq!((ran.code, ran.out.trim()), (0, "arrived 65536"), "{ran:?}");
        // The device on which it would crash is not among those that it sees.
        let ran = exec(guest, &format!("--for dlslime --version {version}"), &format!("{python} rxe1"));
        assert!(ran.code == 1 && ran.err.contains("DLSlime sees no device rxe1"), "{ran:?}");
    }
}

fn libfabric(guest: &mut Guest) {
    write(guest);
    // Two devices and a variable that takes one name only: the plain one is chosen by its interface, as an operator would.
    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let script = format!(
        "set -e; {doctor} -q profile export --for libfabric > /tmp/libfabric.env; set -a; . /tmp/libfabric.env; set +a
         test \"$FI_PROVIDER\" = verbs
         timeout 60 fi_pingpong -e msg -I 5 > /tmp/server 2>&1 & sleep 3; timeout 50 fi_pingpong -e msg -I 5 10.77.0.1; wait"
    );
    let ran = guest.sh_for(&script, 120);
    assert!(ran.code == 0 && ran.out.lines().any(|line| line.starts_with("64k")), "{ran:?}");
}

fn ucx_conf(guest: &mut Guest) {
    write(guest);
    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let ran = guest.sh(&format!("mkdir -p /tmp/ucx && cd /tmp/ucx && {doctor} -q profile export --for ucx > ucx.conf && ucx_info -c"));
    let said = |name: &str| ran.out.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned);
    assert_eq!(said("UCX_NET_DEVICES").as_deref(), Some("rxe0:1"), "{ran:?}");
    assert_eq!(said("UCX_IB_GID_INDEX").as_deref(), Some("1"), "{ran:?}");
    assert!(!ran.err.contains("ucx.conf"), "{ran:?}");
}

/// Writes a small profile and gives it.
fn small(guest: &mut Guest, options: &str) -> Profile {
    let ran = guest.doctor(&format!("-q --answer-within 30s profile write --budget 120s --engine mooncake -o /tmp/small.yaml {options}"));
    assert_eq!(ran.code, 0, "{ran:?}");
    rdmadoctor::profile::parse(Path::new("/tmp/small.yaml"), &guest.sh("cat /tmp/small.yaml").out).unwrap()
}

fn validated(guest: &mut Guest) {
    let profile = small(guest, "--kv-bytes 80M");
    assert!(profile.validated, "{:#?}", profile.unvalidated);
    assert_eq!(profile.devices.len(), 2);
    for port in &profile.devices {
        for op in ["write", "read"] {
            let of_op: Vec<_> = port.measurements.iter().filter(|one| one.op == op).collect();
            assert!(of_op.iter().all(|one| one.verified && profile.evidence(&one.evidence).is_some()), "{of_op:#?}");
            assert!(of_op.iter().any(|one| one.bytes_per_second.is_some_and(|rate| rate > 0.0)), "{of_op:#?}");
            assert!(of_op.iter().any(|one| one.p50_us.is_some_and(|latency| latency > 0.0)), "{of_op:#?}");
        }
        assert!(port.queue_pairs_per_connection.is_some());
        assert_eq!(port.memory.as_ref().unwrap().registered_bytes, Some(80 << 20));
        // By the address that the profile names.
        let how = &profile.evidence(&port.measurements[0].evidence).unwrap().summary;
        assert!(how.contains(&port.gid.as_ref().unwrap().value), "{how}");
    }
    let ran = guest.doctor("profile check --profile /tmp/small.yaml --within 60s");
    assert_eq!(ran.code, 0, "{ran:?}");

    // What is more than the guest has room for is not tried, and told.
    let profile = small(guest, "--kv-bytes 8G --no-transfers");
    assert!(!profile.validated);
    let why = |entry: &str| profile.unvalidated.iter().find(|one| one.entry == entry).map(|one| one.why.as_str()).unwrap_or_default();
    assert!(why("devices/rxe0/1/memory").contains("half of the free memory"), "{:#?}", profile.unvalidated);
    assert!(why("devices/rxe0/1/measurements").contains("--no-transfers"), "{:#?}", profile.unvalidated);
}

/// The entries that `profile check` calls stale, after the whole of it was tried again.
fn stale_entries(guest: &mut Guest, prefix: &str) -> Vec<String> {
    let ran = guest.sh_for(
        &format!("{prefix} {} --format json --answer-within 30s profile check --within 60s", env!("CARGO_BIN_EXE_rdmadoctor")),
        180,
    );
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let stale: Vec<String> =
        document["stale"].as_array().unwrap().iter().map(|stale| stale["entry"].as_str().unwrap().to_owned()).collect();
    assert_eq!((document["is_fresh"].as_bool(), ran.code), (Some(stale.is_empty()), i32::from(!stale.is_empty())), "{document:#}");
    stale
}

fn stale(guest: &mut Guest) {
    write_with(guest, "");
    let nothing: [&str; 0] = [];
    assert_eq!(stale_entries(guest, ""), nothing);

    guest.sh("ip address del 10.77.0.1/24 dev va; ip address add 10.77.0.9/24 dev va; sleep 1");
    assert_eq!(stale_entries(guest, ""), ["devices/rxe0/1/gid"]);
    // An engine is not started with it, unless that is asked for.
    let ran = exec(guest, "--for ucx", "true");
    assert!(ran.code != 0 && ran.err.contains("10.77.0.1") | ran.err.contains("0a4d:0001"), "{ran:?}");
    guest.sh("ip address del 10.77.0.9/24 dev va; ip address add 10.77.0.1/24 dev va; sleep 1");

    guest.sh("ip link set vb mtu 4500; ip link set va mtu 4500; sleep 1");
    // What was measured was measured with the other one.
    assert_eq!(stale_entries(guest, ""), ["devices/rxe0/1/mtu_bytes", "devices/rxe0/1/measurements"]);
    let ran = exec(guest, "--for dlslime --version 0.1.23", "true");
    assert!(ran.code == 1 && ran.err.contains("--allow-stale"), "{ran:?}");
    assert_eq!(exec(guest, "--for dlslime --version 0.1.23 --allow-stale", "true").code, 0);
    guest.sh("ip link set va mtu 1500; ip link set vb mtu 1500; sleep 1");

    let reload = |guest: &mut Guest, parameters: &str| {
        let ran = guest.sh(&format!("modprobe -r rdmadoctor_limited && modprobe rdmadoctor_limited device=rxe1 {parameters}"));
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    reload(guest, "max_inline_data=80");
    // libfabric found 96 by trying, so that its request is not granted any more either.
    assert_eq!(stale_entries(guest, ""), ["devices/rxe1/1/qp/max_inline_data", "engines/libfabric/2.6.0"]);
    // What an engine was refused for is granted now.
    reload(guest, "max_inline_data=256");
    // 0.0.2.post1 asks for a completion queue besides that the device does not have.
    assert_eq!(stale_entries(guest, ""), ["devices/rxe1/1/qp/max_inline_data", "engines/dlslime/0.1.23"]);
    reload(guest, "");

    let lowered = "ulimit -l 64; setpriv --inh-caps=-ipc_lock --bounding-set=-ipc_lock";
    assert_eq!(stale_entries(guest, lowered), ["devices/rxe0/1/memory", "devices/rxe1/1/memory"]);
    assert_eq!(stale_entries(guest, ""), nothing);
}

fn full_disk(guest: &mut Guest) {
    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let write = format!("{doctor} -q --answer-within 30s profile write --no-transfers --engine uccl -o profile.yaml");
    // The one on a small file system is the old one afterwards, and the new one is printed.
    let script = format!(
        "mkdir -p /tmp/small && mount -t tmpfs -o size=64k tmpfs /tmp/small && cd /tmp/small
         {write} > /dev/null || exit 9
         cp profile.yaml /tmp/old.yaml; head -c 60000 /dev/zero > filler
         {write} --stdout > /tmp/new.yaml; code=$?
         cmp profile.yaml /tmp/old.yaml || exit 8
         ls -A; {doctor} profile validate /tmp/new.yaml; mount -o remount,ro /tmp/small
         {write} > /dev/null; echo \"read-only $?\"
         cd /; umount /tmp/small; exit $code"
    );
    let ran = guest.sh_for(&script, 300);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("the disk is full") && ran.err.contains("the file system is read-only"), "{ran:?}");
    assert!(ran.out.contains("valid") && ran.out.contains("read-only 3") && !ran.out.contains(".tmp"), "{ran:?}");
}

fn limited(guest: &mut Guest) {
    write(guest);
    let ran = guest.doctor(&format!("profile export --for dlslime --version {RELEASE}"));
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.err.contains("max_inline_data: asked 256, the device accepts 96, no setting changes it"), "{ran:?}");
    assert!(ran.err.contains("remedy") && ran.err.contains("0.0.1.post10"), "{ran:?}");
    let ran = guest.doctor("-q profile export --for dlslime --version 0.0.1.post10");
    assert!(ran.code == 0 && ran.out.contains("\nSLIME_VISIBLE_DEVICES=rxe0\n"), "{ran:?}");
    let ran = exec(guest, &format!("--for dlslime --version {RELEASE}"), "true");
    assert!(ran.code == 1 && ran.err.contains("--allow-failing"), "{ran:?}");
    assert_eq!(exec(guest, &format!("--for dlslime --version {RELEASE} --allow-failing"), "true").code, 0);
}

/// Starts a script in a guest and leaves it there; its output goes to `/tmp/NAME`.
fn start(guest: &mut Guest, name: &str, script: &str) {
    guest.sh(&format!("nohup bash -c '{script}' > /tmp/{name} 2>&1 < /dev/null &"));
}

/// Waits until a file has something in it.
fn wait_for(guest: &mut Guest, file: &str) -> String {
    let ran = guest.sh_for(&format!("for _ in $(seq 300); do [ -s {file} ] && break; sleep 0.2; done; cat {file}"), 90);
    assert!(!ran.out.is_empty(), "{file} stays empty: {ran:?}");
    ran.out
}

fn pair(_: &mut Guest) {
    let directory = tempfile::Builder::new().prefix("rd-wire-").tempdir_in("/tmp").unwrap();
    let wires = ["a", "b"].map(|end| directory.path().join(end).display().to_string());
    let boot = |own: usize, address: &str| Guest::boot(&["--devices", "rxe", "--wire", &wires[own], &wires[1 - own], "--address", address]);
    let (mut one, mut other) = (boot(0, "10.79.0.1/24"), boot(1, "10.79.0.2/24"));
    write(&mut one);
    write(&mut other);

    let doctor = env!("CARGO_BIN_EXE_rdmadoctor");
    let python = format!("env PYTHONPATH={} /usr/bin/python3", installed(RELEASE));
    let side = |role: &str| {
        format!(
            "cd {} && {doctor} --answer-within 60s profile exec --for dlslime --version {RELEASE} --within 100ms -- {python} tests/lab/engines/dlslime_side.py rxe0 {role} /tmp/mine.json /tmp/theirs.json",
            env!("CARGO_MANIFEST_DIR")
        )
    };
    start(&mut one, "log", &side("source"));
    start(&mut other, "log", &side("target"));
    let (from_one, from_other) = (wait_for(&mut one, "/tmp/mine.json"), wait_for(&mut other, "/tmp/mine.json"));
    let hand_over = |guest: &mut Guest, text: &str| {
        let path = guest.write("theirs.json", text.as_bytes());
        guest.sh(&format!("cp {path} /tmp/theirs.part && mv /tmp/theirs.part /tmp/theirs.json"));
    };
    hand_over(&mut one, &from_other);
    hand_over(&mut other, &from_one);
    let ran = other.sh_for("for _ in $(seq 200); do grep -q arrived /tmp/log && break; sleep 0.2; done; cat /tmp/log", 60);
    let sent = one.sh("cat /tmp/log").out;
    assert!(ran.out.contains("arrived 65536"), "target: {ran:?}; source: {sent}");

    // UCX's transports by themselves, then a whole UCP connection, which UCX makes by datagrams.
    for guest in [&mut one, &mut other] {
        guest.sh(&format!("mkdir -p /tmp/ucx && {doctor} -q profile export --for ucx > /tmp/ucx/ucx.conf"));
    }
    let transport = "-t put_bw -D zcopy -d rxe0:1 -x rc_verbs";
    for (name, test) in [("transport", transport), ("whole", "-t ucp_put_bw")] {
        let perf = format!("cd /tmp/ucx && UCX_TLS=rc timeout 60 ucx_perftest -p 13337 {test} -s 65536 -n 100 -w 10");
        start(&mut one, name, &perf);
        let ran = other.sh_for(&format!("sleep 4; {perf} 10.79.0.1 2>&1"), 90);
        assert!(ran.code == 0 && ran.out.contains("Final:"), "{name}: {ran:?}; {}", one.sh(&format!("cat /tmp/{name}")).out);
    }
}
