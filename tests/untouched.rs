//! A modelled host touches nothing of this machine: which files are opened, and which memory is mapped, as strace(1) sees it.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::path::Path;
use std::process::{Command, Output};

/// What stands for this machine's GPUs, huge pages and RDMA devices.
const OF_THIS_MACHINE: [&str; 6] = ["/dev/nvidia", "/dev/hugepages", "libcuda", "libnvidia-ml", "/sys/class/infiniband", "MAP_HUGETLB"];

/// Runs the program with all of its children watched. Without strace, or where it may not trace, there is nothing to see.
fn traced(log: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "256", "-e", "trace=open,openat,openat2,mmap,readlink,newfstatat", "-o"]).arg(log);
    command.arg(env!("CARGO_BIN_EXE_rdmadoctor")).args(["-q", "--answer-within", "60s", "--host-model", "h100x8-cx7"]).args(arguments);
    match command.output() {
        Ok(output) if std::fs::read_to_string(log).is_ok_and(|text| text.contains("openat(")) => Some(output),
        Ok(output) => {
            eprintln!("skipped: strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: no strace here: {error}");
            None
        }
    }
}

fn assert_untouched(arguments: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("trace");
    let Some(output) = traced(&log, arguments) else { return };
    assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&log).unwrap();
    let touched: Vec<&str> = text.lines().filter(|line| OF_THIS_MACHINE.iter().any(|what| line.contains(what))).collect();
    assert!(touched.is_empty(), "{arguments:?} touches this machine:\n{}", touched.join("\n"));
}

#[test]
fn probe_touches_nothing() {
    assert_untouched(&["probe", "--level", "deep"]);
}

#[test]
fn gpu_touches_nothing() {
    assert_untouched(&["gpu"]);
}

#[test]
fn huge_pages_are_the_models() {
    assert_untouched(&["bw", "mlx5_0", "--memory", "host:huge", "--op", "write", "--sizes", "64k", "--iterations", "4", "--repeats", "1"]);
}

#[test]
fn memory_of_a_modelled_gpu_is_refused_in_words() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    let output =
        command.env("COLUMNS", "200").args(["-q", "--host-model", "h100x8-cx7", "bw", "mlx5_0", "--memory", "cuda:0"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the modelled host's GPU memory cannot be allocated; `--gpus local` takes this machine's"), "{text}");
    assert_untouched(&["bw", "mlx5_0", "--memory", "cuda:0"]);
}

#[test]
fn a_model_without_free_huge_pages_gives_none() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("short.yaml");
    let pages = "huge_pages:\n  - {page_kib: 2048, total: 8192, free: 0}\n";
    std::fs::write(&model, format!("schema: rdmadoctor/host/1\nname: short\ntitle: short\nextends: h100x8-cx7\n{pages}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    let output = command.args(["-q", "--host-model"]).arg(&model).args(["bw", "mlx5_0", "--memory", "host:huge"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && text.contains("ENOMEM"), "{text}");
}

#[test]
fn preflight_touches_nothing() {
    assert_untouched(&["preflight", "--duration", "1ms", "--time-budget", "10m"]);
}

#[test]
fn whose_gpus_is_said_of_models_only() {
    let output = Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(["--gpus", "local", "topo"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
