//! `probe` on sick guests: each wound is found with what follows from it and nothing else, and is gone after the commands that the finding
//! itself prints were run.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::Test;
use super::guest::Guest;

/// One Soft-RoCE device, rxe0 on va.
pub const RXE: &[Test] = &[
    ("a_healthy_guest_is_told_so", healthy),
    ("a_driver_that_is_not_loaded", no_driver),
    ("devices_of_another_network_namespace", namespaces),
    ("a_node_that_is_gone", no_node),
    ("a_node_that_a_user_may_not_open", closed_node),
    ("an_interface_that_is_down", interface_down),
    ("an_interface_without_a_signal", no_signal),
    ("an_address_that_is_configured_and_missing", no_address),
    ("locked_memory_of_a_shell", soft_limit),
    ("locked_memory_of_a_login", hard_limit),
    ("locked_memory_of_a_process", limit_of_process),
    ("a_provider_that_is_not_named", unnamed_provider),
    ("a_provider_that_is_gone", no_provider),
    ("a_verbs_library_that_is_gone", no_library),
];

/// One Soft-iWARP device, which stays when ib_uverbs and rdma_ucm go.
pub const SIW: &[Test] = &[("modules_that_a_device_needs", needed_modules)];

const USER: &str = "setpriv --reuid 1000 --regid 1000 --clear-groups";

/// What `probe` says when it is run by `prefix`.
pub fn probe(guest: &mut Guest, prefix: &str, arguments: &str) -> Value {
    let ran = guest.sh_for(&format!("{prefix} {} {arguments}", doctor(guest)), 300);
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{prefix} probe {arguments}: {error}: {ran:?}"))
}

/// The command, with patience for an emulated processor on a busy machine.
fn doctor(guest: &Guest) -> String {
    let policy = guest.write("policy.yaml", b"schema: rdmadoctor/policy/1\nthresholds: {slow_read_ms: 300000}\n");
    format!("{} --format json --answer-within 120s probe --time-budget 280s --policy {policy}", env!("CARGO_BIN_EXE_rdmadoctor"))
}

/// All that is not well: status, check, subject, and what it follows from.
pub fn bad(document: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = document["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| matches!(finding["status"].as_str(), Some("warn" | "fail" | "error")))
        .map(|finding| {
            let line = format!("{} {} {}", text(&finding["status"]), text(&finding["id"]), text(&finding["subject"]));
            match finding["because"].as_str() {
                Some(because) => format!("{line} <- {because}"),
                None => line,
            }
        })
        .collect()
}

/// The commands that the findings which are no consequences print.
fn remedies(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap().iter();
    let roots = findings.filter(|finding| matches!(finding["status"].as_str(), Some("warn" | "fail")) && finding["because"].is_null());
    let mut commands: Vec<String> = Vec::new();
    for command in roots.flat_map(|finding| finding["remedy"]["commands"].as_array().unwrap()) {
        let command = command.as_str().unwrap().to_owned();
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// Runs these commands, each of which must work, and gives port and addresses a moment.
fn run(guest: &mut Guest, commands: &[String]) {
    assert!(!commands.is_empty(), "there is a remedy");
    for command in commands {
        let ran = guest.sh_for(command, 180);
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
    }
    guest.sh("sleep 1");
}

/// Wounds the guest, expects these findings and no others, runs their commands, and expects none.
pub fn mended(guest: &mut Guest, wound: &str, prefix: &str, arguments: &str, expected: &[&str]) {
    let ran = guest.sh(wound);
    assert_eq!(ran.code, 0, "{wound}: {ran:?}");
    let document = probe(guest, prefix, arguments);
    assert_eq!(bad(&document), expected, "{document:#}");
    run(guest, &remedies(&document));
    let document = probe(guest, prefix, arguments);
    assert_eq!(bad(&document), [""; 0], "{document:#}");
}

fn healthy(guest: &mut Guest) {
    for prefix in ["", &format!("prlimit --memlock=unlimited {USER}")] {
        for level in ["quick", "standard"] {
            let document = probe(guest, prefix, &format!("--level {level}"));
            assert_eq!((bad(&document), &document["verdict"]), (Vec::new(), &Value::from("pass")), "{prefix} {level}: {document:#}");
        }
    }
}

fn no_driver(guest: &mut Guest) {
    mended(guest, "rdma link delete rxe0 && modprobe -r rdma_rxe", "", "--level standard", &["fail RD-0301 host"]);
    assert!(guest.sh("rdma link show rxe0/1").out.contains("netdev va"));
}

fn needed_modules(guest: &mut Guest) {
    let wound = "modprobe -r rdma_ucm && modprobe -r ib_uverbs && rdma link show siw0/1";
    let expected = ["fail RD-0202 host", "fail RD-0203 host", "fail RD-0303 siw0 <- RD-0202/host", "fail RD-0310 siw0 <- RD-0203/host"];
    mended(guest, wound, "", "--level quick", &expected);
    // A libibverbs that asks for a device's node has the kernel load ib_uverbs, so only rdma_ucm is missed.
    mended(guest, wound, "", "--level standard --only 02xx --only 03xx", &["fail RD-0203 host", "fail RD-0310 siw0 <- RD-0203/host"]);
}

fn namespaces(guest: &mut Guest) {
    // Where the devices are, it is a warning: containers will see none.
    mended(guest, "rdma system set netns exclusive", "", "--level quick", &["warn RD-0213 host"]);
    guest.sh("rm /etc/modprobe.d/ib_core.conf");
    // In another namespace it is why there is none. Soft-RoCE cannot be moved there, and the kernel shares devices only while no
    // other namespace exists: the namespace has to end before the commands are run on the host.
    guest.sh("rdma system set netns exclusive; ip netns add other");
    let document = probe(guest, "ip netns exec other", "--level quick");
    assert_eq!(bad(&document), ["fail RD-0213 host", "fail RD-0301 host <- RD-0213/host"], "{document:#}");
    guest.sh("ip netns delete other; sleep 1");
    run(guest, &remedies(&document));
    guest.sh("ip netns add other");
    assert_eq!(bad(&probe(guest, "ip netns exec other", "--level quick --only 02xx --only 0301")), [""; 0]);
    guest.sh("ip netns delete other; rm /etc/modprobe.d/ib_core.conf");
}

fn no_node(guest: &mut Guest) {
    let expected = ["fail RD-0304 rxe0", "fail RD-0306 rxe0 <- RD-0304/rxe0"];
    mended(guest, "rm /dev/infiniband/uverbs0", "", "--level standard", &expected);
    // A node of something else at its place.
    mended(guest, "rm /dev/infiniband/uverbs0 && mknod /dev/infiniband/uverbs0 c 1 3", "", "--level standard", &expected);
}

fn closed_node(guest: &mut Guest) {
    let user = format!("prlimit --memlock=unlimited {USER}");
    let expected = ["fail RD-0305 rxe0", "fail RD-0306 rxe0 <- RD-0305/rxe0"];
    for mode in ["0600", "0660"] {
        mended(guest, &format!("chmod {mode} /dev/infiniband/uverbs0"), &user, "--level standard", &expected);
    }
    // To a member of its group it is open.
    guest.sh("chmod 0660 /dev/infiniband/uverbs0; chgrp 1000 /dev/infiniband/uverbs0");
    assert_eq!(bad(&probe(guest, &user, "--level standard")), [""; 0]);
    guest.sh("chmod 0666 /dev/infiniband/uverbs0; chgrp 0 /dev/infiniband/uverbs0");
}

fn interface_down(guest: &mut Guest) {
    let expected = ["fail RD-0307 rxe0/1 <- RD-0308/rxe0/1", "fail RD-0308 rxe0/1"];
    mended(guest, "ip link set va down", "", "--level quick", &expected);
}

fn no_signal(guest: &mut Guest) {
    let expected = ["fail RD-0307 rxe0/1 <- RD-0309/rxe0/1", "fail RD-0309 rxe0/1"];
    mended(guest, "ip link set vb down", "", "--level quick", &expected);
}

fn no_address(guest: &mut Guest) {
    guest.sh(
        "mkdir -p /etc/systemd/network; printf '[Match]\\nName=va\\n[Network]\\nAddress=10.77.0.1/24\\n' > /etc/systemd/network/va.network",
    );
    mended(guest, "ip address delete 10.77.0.1/24 dev va", "", "--level standard", &["fail RD-0403 rxe0/1"]);
    // Without a file nobody knows the address, and no command is made up.
    guest.sh("rm /etc/systemd/network/va.network; ip address delete 10.77.0.1/24 dev va");
    let document = probe(guest, "", "--level quick");
    assert_eq!((bad(&document), remedies(&document)), (vec!["fail RD-0403 rxe0/1".to_owned()], Vec::new()), "{document:#}");
    guest.sh("ip address add 10.77.0.1/24 dev va; sleep 1");
}

/// The limit of a shell can be raised there, so the remedy is for that shell.
fn soft_limit(guest: &mut Guest) {
    let doctor = doctor(guest) + " --level quick";
    let shell = |script: &str| format!("prlimit --memlock=65536:unlimited {USER} sh -c '{script}'");
    let ran = guest.sh_for(&shell(&doctor), 180);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(bad(&document), ["fail RD-0501 host"], "{document:#}");
    let script = format!("{}; {doctor}", remedies(&document).join("; "));
    let ran = guest.sh_for(&shell(&script), 180);
    assert_eq!(bad(&serde_json::from_str(&ran.out).unwrap()), [""; 0], "{script}: {ran:?}");
}

/// The limit of a session comes from where it begins.
fn hard_limit(guest: &mut Guest) {
    let doctor = doctor(guest) + " --level quick";
    let login = format!("prlimit --memlock=65536:65536 su nobody -s /bin/sh -c '{doctor}'");
    let ran = guest.sh_for(&login, 180);
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(bad(&document), ["fail RD-0501 host"], "{document:#}");
    run(guest, &remedies(&document));
    let ran = guest.sh_for(&login, 180);
    assert_eq!(bad(&serde_json::from_str(&ran.out).unwrap()), [""; 0], "{ran:?}");
    guest.sh("rm /etc/security/limits.d/rdma.conf");
}

fn limit_of_process(guest: &mut Guest) {
    let pid = guest.sh(&format!("prlimit --memlock=65536:65536 {USER} sleep 600 >&- 2>&- & echo $!")).out.trim().to_owned();
    let subject = format!("fail RD-0502 /proc/{pid}");
    mended(guest, "true", "", &format!("--level quick --pid {pid}"), &[&subject]);
    guest.sh(&format!("kill {pid}"));
}

fn unnamed_provider(guest: &mut Guest) {
    mended(guest, "rm /etc/libibverbs.d/rxe.driver", "", "--level standard", &["fail RD-0104 rxe0", "fail RD-0306 rxe0 <- RD-0104/rxe0"]);
    // Without asking the library it may have been built to look elsewhere.
    mended(guest, "rm /etc/libibverbs.d/rxe.driver", "", "--level quick", &["warn RD-0104 rxe0"]);
}

/// Lays packages where apt looks before it asks the network, which a guest has not.
fn lay_packages(guest: &mut Guest) {
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
    let folder = cache.join("rdmadoctor/lab/packages");
    std::fs::create_dir_all(&folder).unwrap();
    for package in ["libibverbs1", "ibverbs-providers"] {
        let version = Command::new("dpkg-query").args(["-W", "-f", "${Version}_${Architecture}", package]).output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        if !folder.join(format!("{package}_{version}.deb")).exists() {
            let asked = format!("{package}={}", version.split('_').next().unwrap());
            let fetched = Command::new("apt-get").args(["download", "-q", &asked]).current_dir(&folder).output().unwrap();
            assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        }
    }
    let laid = guest.sh(&format!("cp {}/*.deb /var/cache/apt/archives/", folder.display()));
    assert_eq!(laid.code, 0, "{laid:?}");
}

fn no_provider(guest: &mut Guest) {
    lay_packages(guest);
    let expected = ["fail RD-0103 rxe0", "fail RD-0306 rxe0 <- RD-0103/rxe0"];
    mended(guest, "rm /usr/lib/*/libibverbs/librxe-rdmav*.so", "", "--level standard", &expected);
}

fn no_library(guest: &mut Guest) {
    lay_packages(guest);
    let expected = ["fail RD-0101 host", "fail RD-0306 rxe0 <- RD-0101/host"];
    mended(guest, "rm /usr/lib/*/libibverbs.so.1*", "", "--level standard", &expected);
    // apt may have been told to keep no packages.
    lay_packages(guest);
    mended(guest, "rm /usr/lib/*/libibverbs.so.1*", "", "--level quick", &["fail RD-0101 host"]);
}
