//! The child process over libraries that stand for NVML and CUDA: missing, of another version, hanging, crashing, and well.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdmadoctor::gpu::{GpuErrorKind, GpuId, GpusFacts, WritesOrdering};
use rdmadoctor::sim::SimConfig;
use rdmadoctor::survey;
use rdmadoctor::worker::{ReadCuda, ReadNvml, ReadNvmlGpu, Target, Worker, WorkerOptions};

/// Where the libraries are; removed at the end.
struct Fake(tempfile::TempDir);

impl Fake {
    /// Compiles them, or says why that cannot be done here.
    fn make() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu_libraries/fake.c");
        for name in ["libnvidia-ml.so.1", "libcuda.so.1"] {
            let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(dir.path().join(name)).arg(&source).status();
            if !made.is_ok_and(|status| status.success()) {
                eprintln!("skipped: no C compiler here");
                return None;
            }
        }
        Some(Self(dir))
    }

    /// A worker whose children find the libraries.
    fn worker(&self, fake: &str) -> Worker {
        worker(self.0.path(), fake)
    }
}

/// How long one answer may take: where all answer, longer than the slowest machine needs; where one never does, what a slow machine needs for the others.
fn deadline(fake: &str) -> Duration {
    Duration::from_secs(if fake == "hang" { 8 } else { 120 })
}

fn worker(libraries: &Path, fake: &str) -> Worker {
    // A directory of its own, since the file must not be open for writing when it is run.
    let program = libraries.join(format!("program-{fake}"));
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' FAKE_GPU={fake} exec '{}' \"$@\"\n",
        libraries.display(),
        env!("CARGO_BIN_EXE_rdmadoctor")
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Worker::new(WorkerOptions {
        program,
        target: Target::Devices(SimConfig::default()),
        deadline: deadline(fake),
        interrupted: Arc::new(AtomicBool::new(false)),
    })
}

fn asked(fake: &Fake, kind: &str) -> GpusFacts {
    let addresses = ["0000:01:00.0".to_owned(), "0000:02:00.0".to_owned()];
    survey::gpus(&mut fake.worker(kind), &addresses, Instant::now() + Duration::from_secs(240))
}

fn kinds(facts: &GpusFacts) -> Vec<Option<GpuErrorKind>> {
    facts.gpus.iter().map(|gpu| gpu.error.as_ref().map(|error| error.kind())).collect()
}

#[test]
fn gpus_that_are_well_answer() {
    let Some(fake) = Fake::make() else { return };
    let facts = asked(&fake, "well");
    assert_eq!((kinds(&facts), facts.nvml.gpu_count), (vec![None, None], Some(2)));
    assert_eq!(facts.nvml.driver_version.as_deref(), Some("580.159.04"));
    let gpu = facts.gpu("0000:01:00.0").unwrap();
    // What the library has no entry point for is not known.
    assert_eq!((gpu.memory_bytes, gpu.memory_used_bytes, gpu.bar1_bytes), (Some(80 << 30), Some(1 << 30), None));
    let attributes = gpu.cuda.unwrap();
    assert_eq!((attributes.gpu_direct_rdma_supported, attributes.dma_buf_supported), (Some(true), None));
    assert_eq!((attributes.writes_ordering, attributes.flush_by_host), (Some(WritesOrdering::AllDevices), Some(true)));
    assert_eq!(facts.cuda.driver_version.as_deref(), Some("12.4"));
    // CUDA shows one of them only.
    assert_eq!(facts.gpu("0000:02:00.0").unwrap().cuda, None);
    let unknown = fake.worker("well").ask(ReadNvmlGpu(GpuId::Pci("0000:7f:00.0".to_owned()))).unwrap();
    assert_eq!(unknown.error.unwrap().to_string(), "nvmlDeviceGetHandleByPciBusId_v2 on 0000:7f:00.0: NVML_ERROR_NOT_FOUND (6)");
}

#[test]
fn one_sick_gpu_does_not_hide_the_other() {
    let Some(fake) = Fake::make() else { return };
    for (kind, expected) in [("hang", GpuErrorKind::NoAnswer), ("crash", GpuErrorKind::NoAnswer), ("lost", GpuErrorKind::Lost)] {
        let facts = asked(&fake, kind);
        assert_eq!(kinds(&facts), [None, Some(expected)], "{kind}");
        let cuda = facts.cuda.error.unwrap().to_string();
        match kind {
            "hang" => assert!(cuda.starts_with("libcuda.so.1 gave no answer in "), "{cuda}"),
            "crash" => assert_eq!(cuda, "libcuda.so.1 crashed with SIGSEGV"),
            _ => {}
        }
    }
}

#[test]
fn each_refusal_has_its_own_kind() {
    let Some(fake) = Fake::make() else { return };
    for (kind, expected) in
        [("mismatch", GpuErrorKind::VersionMismatch), ("no-driver", GpuErrorKind::NoDriver), ("no-permission", GpuErrorKind::NoPermission)]
    {
        let facts = asked(&fake, kind);
        assert_eq!(facts.nvml.error.as_ref().map(|error| error.kind()), Some(expected), "{kind}");
        assert_eq!(kinds(&facts), [Some(GpuErrorKind::NotAsked); 2], "{kind}");
    }
    assert_eq!(asked(&fake, "mismatch").cuda.error.unwrap().to_string(), "cuInit on host: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)");
}

#[test]
fn libraries_that_cannot_be_loaded_are_told_from_missing_ones() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("libnvidia-ml.so.1"), "no library").unwrap();
    let mut worker = worker(dir.path(), "well");
    let nvml = worker.ask(ReadNvml).unwrap().error.unwrap();
    assert!(nvml.to_string().contains("libnvidia-ml.so.1 cannot be loaded"), "{nvml}");
    if Path::new("/proc/driver/nvidia").exists() {
        eprintln!("skipped in part: this host has the driver's libraries");
        return;
    }
    assert_eq!(worker.ask(ReadCuda).unwrap().error.unwrap().to_string(), "libcuda.so.1 was not found");
}
