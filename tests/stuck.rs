//! Hosts whose files are no files, or do not answer: rdmadoctor says so and ends.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn rdmadoctor(arguments: &[&str]) -> Output {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(arguments).output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "{arguments:?}");
    output
}

/// The files of a host with one device, whose state is a pipe that nobody writes to.
fn host(root: &Path) {
    let port = root.join("sys/class/infiniband/mlx5_0/ports/1");
    std::fs::create_dir_all(&port).unwrap();
    std::fs::write(root.join("sys/class/infiniband/mlx5_0/node_type"), "1: CA\n").unwrap();
    nix::unistd::mkfifo(&port.join("state"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    nix::unistd::mkfifo(&root.join("sys/class/infiniband/mlx5_0/fw_ver"), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// As strace(1) sees it; where it cannot trace, there is nothing to see.
#[test]
fn files_are_read_by_a_copy_that_starts_no_program() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=execve,openat", "-o"]).arg(log.path());
    command.arg(env!("CARGO_BIN_EXE_rdmadoctor")).args(["-q", "probe", "--level", "quick"]);
    let Ok(output) = command.output() else { return eprintln!("skipped: no strace here") };
    let trace = std::fs::read_to_string(log.path()).unwrap();
    let of = |call: &str| trace.lines().filter(|line| line.contains(call)).map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>();
    let programs = of("execve(");
    if programs.is_empty() {
        return eprintln!("skipped: strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(programs.len(), 1, "{trace}");
    let readers = of("/proc/cmdline");
    assert!(!readers.is_empty() && !readers.contains(&programs[0]), "this process read it: {trace}");
}

/// There is neither /proc nor /etc below that root either.
#[test]
fn a_pipe_in_place_of_a_file_is_told_and_waited_for_by_nobody() {
    let root = tempfile::tempdir().unwrap();
    host(root.path());
    let root = root.path().to_str().unwrap();
    for command in ["devices", "topo", "modules", "probe"] {
        let output = rdmadoctor(&["--root", root, command]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = rdmadoctor(&["--root", root, "devices"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("mlx5_0") && shown.contains("ports/1/state: not a regular file"), "{shown}");
}

#[test]
fn what_hangs_is_given_up_part_by_part() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model.yaml");
    let all = [
        "/sys/class/infiniband/erdma_0/ports/1/state",
        "/sys/bus/pci/devices/0000:31:00.0/class",
        "/proc/net/route",
        "/proc/self/limits",
        "/proc/cmdline",
        "/etc/libibverbs.d/erdma.driver",
        "/proc/modules",
    ]
    .join(", ");
    let text = format!("schema: rdmadoctor/host/1\nname: stuck\ntitle: all hangs\nextends: erdma-a10x8\nhang: [{all}]\n");
    std::fs::write(&model, text).unwrap();
    let model = model.to_str().unwrap();
    let output = rdmadoctor(&["--host-model", model, "--answer-within", "2s", "--format", "json", "probe", "--level", "quick"]);
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = probe["findings"].as_array().unwrap();
    let bad: Vec<String> = findings
        .iter()
        .filter(|finding| ["fail", "warn", "error"].contains(&finding["status"].as_str().unwrap()))
        .map(|finding| {
            format!("{} {} {}", finding["status"].as_str().unwrap(), finding["id"].as_str().unwrap(), finding["subject"].as_str().unwrap())
        })
        .collect();
    // No alarm about anything else, and of none that it was merely too large for the time.
    assert_eq!(
        bad,
        ["rdma", "pcie", "net", "limits", "system", "verbs_files", "modules"].map(|part| format!("fail RD-1117 {part}")),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(1));
    // A capture of it says the same.
    let file = directory.path().join("capture.json.gz");
    let file = file.to_str().unwrap();
    assert!(rdmadoctor(&["--host-model", model, "--answer-within", "2s", "capture", "--level", "quick", "-o", file]).status.success());
    let captured = rdmadoctor(&["--from", file, "--format", "json", "probe", "--level", "quick"]);
    let captured: serde_json::Value = serde_json::from_slice(&captured.stdout).unwrap();
    let ids = |probe: &serde_json::Value| {
        let all = probe["findings"].as_array().unwrap().iter().filter(|finding| finding["status"] == "fail");
        all.map(|finding| finding["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&captured), ids(&probe));
}

/// A part that is large, or whose files answer slowly one by one, is read to its end: what counts is the wait for one path.
#[test]
fn what_goes_on_is_not_given_up() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..10_000 {
        let interface = root.path().join(format!("sys/class/net/e{number}"));
        std::fs::create_dir_all(&interface).unwrap();
        std::fs::write(interface.join("mtu"), "1500\n").unwrap();
    }
    let arguments = ["--root", root.path().to_str().unwrap(), "--answer-within", "2s", "--format", "json"];
    let output = rdmadoctor(&[&arguments[..], &["probe", "--only", "1117"]].concat());
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(probe["verdict"], "pass", "{probe:#}");
}

/// What was left out of the choice of checks is told all the same where it is why the others could not judge.
#[test]
fn a_part_that_hangs_is_no_pass_of_a_check_that_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model.yaml");
    let text =
        "schema: rdmadoctor/host/1\nname: stuck\ntitle: hangs\nextends: h100x8-cx7\nhang: [/sys/class/infiniband/mlx5_0/ports/1/state]\n";
    std::fs::write(&model, text).unwrap();
    let arguments = ["--host-model", model.to_str().unwrap(), "--answer-within", "1s", "--format", "json", "probe", "--level", "quick"];
    let output = rdmadoctor(&[&arguments[..], &["--only", "0804"]].concat());
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&probe["verdict"], output.status.code()), (&"fail".into(), Some(1)), "{probe:#}");
    // Unless that is what was asked for.
    let output = rdmadoctor(&[&arguments[..], &["--only", "0804", "--skip", "1117"]].concat());
    assert_eq!(output.status.code(), Some(0));
}

/// State and parent of a process (proc_pid_stat(5)).
fn stat(process: &str) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// A child of a process, as soon as there is one; none where the process ends before.
fn child_of(parent: u32) -> Option<Pid> {
    while stat(&parent.to_string()).is_some_and(|(state, _)| state != "Z") {
        for entry in std::fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if stat(&name).is_some_and(|(_, above)| above == parent) {
                return name.parse().ok().map(Pid::from_raw);
            }
        }
    }
    None
}

const QUICK: [&str; 5] = ["probe", "--level", "quick", "--time-budget", "60s"];

/// At level quick a copy of the process reads the files. It may have ended before it is met, but not each time.
#[test]
fn without_a_copy_that_hangs_or_dies_the_look_is_taken_all_the_same() {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        let mut met = 0;
        for _ in 0..5 {
            let started = Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(QUICK).stdout(Stdio::piped()).spawn().unwrap();
            let copy = child_of(started.id());
            let lives = copy.is_some_and(|copy| stat(&copy.to_string()).is_some_and(|(state, _)| state != "Z"));
            met += u32::from(lives && copy.is_some_and(|copy| kill(copy, signal).is_ok()));
            let output = started.wait_with_output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{signal} to {copy:?}: {shown}");
            assert_eq!(shown.lines().filter(|line| line.starts_with("verdict ")).count(), 1, "{signal} to {copy:?}: {shown}");
            assert!(copy.is_none_or(|copy| kill(copy, None).is_err()), "the copy is still there");
            if met > 0 {
                break;
            }
        }
        assert!(met > 0, "no copy was met with {signal}");
    }
}

/// The usual child reads what is below a root that is named, though it be this host's own.
#[test]
fn a_copy_and_a_child_find_the_same() {
    let findings = |arguments: &[&str]| {
        let output = rdmadoctor(&[&["--format", "json"], arguments].concat());
        let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut findings = probe["findings"].as_array().unwrap().clone();
        // Evidence may have figures of the moment.
        findings.iter_mut().for_each(|finding| drop(finding.as_object_mut().unwrap().remove("evidence").unwrap()));
        findings
    };
    let by_copy = findings(&QUICK);
    assert!(!by_copy.is_empty());
    assert_eq!(by_copy, findings(&[&["--root", "/"], &QUICK[..]].concat()));
}
