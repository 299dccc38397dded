//! GPU memory in transfers, over the simulated provider: with a library that stands for CUDA, which runs everywhere, and with a real GPU where
//! there is one. `make test-gpu` runs these alone. What cannot run is ignored, and its name says why.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

const FAULTLESS: &[&str] = &[];

/// Tests take turns: one of them looks at how much GPU memory all processes use.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program: another one where the tests were carried to a machine with a GPU.
fn program() -> Command {
    let path = std::env::var_os("RDMADOCTOR_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_rdmadoctor").into());
    Command::new(path)
}

/// Where libraries are that stand for the driver's; compiled once.
fn fake() -> Option<&'static Path> {
    static FAKE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let made = FAKE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu_libraries/fake.c");
        for name in ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"] {
            let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(dir.path().join(name)).arg(&source).status();
            if !made.is_ok_and(|status| status.success()) {
                return None;
            }
        }
        Some(dir)
    });
    made.as_ref().map(tempfile::TempDir::path)
}

/// Whether there is a real GPU.
fn is_real() -> bool {
    Path::new("/dev/nvidiactl").exists() && Command::new("nvidia-smi").arg("-L").output().is_ok_and(|seen| seen.status.success())
}

/// Which GPU a test runs with.
#[derive(Clone, Copy)]
enum Gpu {
    Fake(&'static str),
    Real,
}

impl Gpu {
    /// Runs a command on the modelled host, and gives its exit code and its document.
    fn run(self, faults: &[&str], arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self.command(faults, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text} {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), document)
    }

    fn command(self, faults: &[&str], arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(["--host-model", "h100x8-cx7", "--gpus", "local", "--format", "json", "-q", "--answer-within", "60s"]);
        command.args(faults.iter().flat_map(|fault| ["--fault", fault])).args(arguments);
        if let Self::Fake(kind) = self {
            command.env("LD_LIBRARY_PATH", fake().unwrap()).env("FAKE_GPU", kind);
        }
        command
    }
}

/// Those that there are here.
fn gpus() -> Vec<Gpu> {
    let fake = fake().map(|_| Gpu::Fake("well"));
    fake.into_iter().chain(is_real().then_some(Gpu::Real)).collect()
}

fn brief<'a>(command: &'a str, memory: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own: &[&str] = if command == "bw" { &["--buffer", "hot"] } else { &[] };
    let all = [command, "mlx5_0", "--memory", memory, "--iterations", "4", "--repeats", "1"];
    [&all, own, more].concat()
}

fn each_kind_of_memory_is_verified_by_each_way() {
    let _turn = turn();
    for gpu in gpus() {
        for memory in [
            "host:pinned",
            "cuda:0",
            "cuda:0:peermem",
            "cuda:0:dmabuf",
            "cuda:0:staged",
            "cuda:0:vmm:peermem",
            "cuda:0:vmm:staged",
            "cuda:0:async:staged",
            "cuda:0:managed:staged",
        ] {
            let (code, document) = gpu.run(FAULTLESS, &brief("bw", memory, &["--sizes", "1000,64k"]));
            assert_eq!(code, Some(0), "{memory}: {document:#}");
            let results = document["results"].as_array().unwrap();
            let operations = if memory.ends_with("staged") { 2 } else { 3 };
            assert_eq!(results.len(), 2 * operations, "{memory}");
            for result in results {
                assert!(result["verification"]["messages"].as_u64().unwrap() >= 3, "{memory}: {result:#}");
                assert!(result["verification"]["mismatch"].is_null(), "{memory}: {result:#}");
                assert!(result["bytes_per_second"]["median"].as_f64().unwrap() > 0.0, "{memory}");
            }
        }
    }
}

fn ends_may_have_different_memory_and_a_message_several_chunks() {
    let _turn = turn();
    for gpu in gpus() {
        for (memory, other) in
            [("host", "cuda:0:staged"), ("cuda:0:staged", "host"), ("cuda:0:staged", "cuda:0:dmabuf"), ("cuda:0:dmabuf", "host")]
        {
            let more = ["--to-memory", other, "--op", "write,read", "--sizes", "3M"];
            let (code, document) = gpu.run(FAULTLESS, &brief("bw", memory, &more));
            assert_eq!(code, Some(0), "{memory} {other}: {document:#}");
            for result in document["results"].as_array().unwrap() {
                assert!(result["verification"]["mismatch"].is_null(), "{memory} {other}: {result:#}");
                assert_eq!(result["verification"]["messages"], 3, "{memory} {other}: {result:#}");
            }
        }
    }
}

fn latencies_of_gpu_memory() {
    let _turn = turn();
    for gpu in gpus() {
        for memory in ["cuda:0:dmabuf", "cuda:0:staged"] {
            let (code, document) = gpu.run(FAULTLESS, &brief("ping", memory, &["--op", "write,read"]));
            assert_eq!(code, Some(0), "{memory}: {document:#}");
            assert_eq!(document["results"].as_array().unwrap().len(), 4);
            assert!(document["results"].as_array().unwrap().iter().all(|result| result["p50_us"]["median"].as_f64().unwrap() > 0.0));
        }
    }
}

fn ways_that_are_refused_are_kept_as_evidence_and_the_next_one_is_taken() {
    let _turn = turn();
    for gpu in gpus() {
        let faults = ["errno:ibv_reg_dmabuf_mr:EOPNOTSUPP"];
        let (code, document) = gpu.run(&faults, &brief("bw", "cuda:0", &["--op", "write", "--sizes", "64k"]));
        assert_eq!(code, Some(0), "{document:#}");
        let memory = &document["connection"]["local"]["memory"];
        assert_eq!(memory["path"], "peermem");
        let tried = memory["tried"].as_array().unwrap();
        assert_eq!(tried.iter().map(|tried| tried["path"].as_str().unwrap()).collect::<Vec<_>>(), ["data_direct", "dmabuf", "peermem"]);
        assert!(tried[1]["refusal"]["error"]["call"].as_str().unwrap().contains("ibv_reg_dmabuf_mr"), "{document:#}");
        let notices = document["notices"].to_string();
        assert!(notices.contains("EOPNOTSUPP") && notices.contains("To tell:"), "{notices}");
    }
}

fn a_way_that_was_asked_for_and_refused_is_a_problem_with_causes() {
    let _turn = turn();
    for gpu in gpus() {
        let memory = "cuda:0:vmm-noflag:peermem";
        let (code, document) = gpu.run(FAULTLESS, &brief("bw", memory, &["--op", "write", "--sizes", "64k"]));
        assert_eq!(code, Some(1));
        assert!(document["problems"][0]["summary"].as_str().unwrap().contains("EFAULT"), "{document:#}");
        assert!(document["notices"].to_string().contains("gpuDirectRDMACapable"), "{document:#}");
        for (errno, part) in [("ENOMEM", "window"), ("EINVAL", "aligned"), ("EOPNOTSUPP", "driver")] {
            let fault = format!("errno:ibv_reg_dmabuf_mr:{errno}");
            let (code, document) = gpu.run(&[&fault], &brief("bw", "cuda:0:dmabuf", &["--op", "write", "--sizes", "64k"]));
            assert_eq!(code, Some(1), "{errno}");
            let notices = document["notices"].to_string();
            // A model's own window is large, and an IOMMU may be what is likelier.
            assert!(notices.contains(part) || notices.contains("IOMMU") || notices.contains("memory regions"), "{errno}: {notices}");
        }
    }
}

fn wrong_contents_and_missing_memory_are_told() {
    let _turn = turn();
    if fake().is_none() {
        return;
    }
    let (code, document) = Gpu::Fake("wrong").run(FAULTLESS, &brief("bw", "cuda:0:dmabuf", &["--op", "write", "--sizes", "4k"]));
    assert_eq!(code, Some(1));
    assert!(document["results"][0]["verification"]["mismatch"]["wrong_bytes"].as_u64().unwrap() > 0, "{document:#}");
    let (code, document) = Gpu::Fake("full").run(FAULTLESS, &brief("bw", "cuda:0", &["--sizes", "4k"]));
    assert_eq!(code, Some(1));
    assert!(document["problems"][0]["summary"].as_str().unwrap().contains("CUDA_ERROR_OUT_OF_MEMORY"), "{document:#}");
    let (code, document) = Gpu::Fake("well").run(FAULTLESS, &brief("bw", "cuda:5", &["--sizes", "4k"]));
    assert_eq!(code, Some(1));
    assert!(document["problems"][0]["next_step"].as_str().unwrap().contains("rdmadoctor gpu"), "{document:#}");
    // A GPU that is found by its UUID, and one of which there is none.
    let (code, _) = Gpu::Fake("well").run(FAULTLESS, &brief("bw", "cuda:GPU-1010", &["--op", "write", "--sizes", "4k"]));
    assert_eq!(code, Some(0));
    let (code, document) = Gpu::Fake("well").run(FAULTLESS, &brief("bw", "cuda:0000:07:00.0", &["--sizes", "4k"]));
    assert_eq!((code, document["problems"].to_string().contains("CUDA_ERROR_INVALID_DEVICE")), (Some(1), true), "{document:#}");
}

/// Columns of the order of writes: who looked, by what, with a flush, and how often older data was seen.
fn orders(document: &Value) -> Vec<(&str, &str, bool, bool, u64)> {
    let rows = document["ordering"].as_array().unwrap();
    let text = |value: &'_ Value| -> &'static str {
        ["processor", "gpu", "copies", "flag", "completion"].into_iter().find(|known| value == known).unwrap_or_default()
    };
    let row = |row: &Value| {
        assert!(row["failure"].is_null() && row["not_tried"].is_null(), "{row:#}");
        let flags = ["flush", "relaxed_ordering"].map(|name| row[name].as_bool().unwrap());
        (text(&row["reader"]), text(&row["signal"]), flags[0], flags[1], row["stale_iterations"].as_u64().unwrap())
    };
    rows.iter().map(row).collect()
}

/// Reads are what is measured before: they wait for no write.
fn litmus(memory: &str) -> [&str; 11] {
    ["ping", "mlx5_0", "--memory", memory, "--op", "read", "--sizes", "512", "--iterations=2", "--no-verify", "--litmus=40"]
}

fn writes_are_seen_in_order() {
    let _turn = turn();
    for gpu in gpus() {
        for (memory, reader, count) in [
            ("host", "processor", 4),
            ("host:pinned", "processor", 2),
            ("cuda:0:dmabuf", "gpu", 3),
            ("cuda:0:peermem", "gpu", 3),
            ("cuda:0:staged", "processor", 2),
        ] {
            let (code, document) = gpu.run(FAULTLESS, &litmus(memory));
            assert_eq!(code, Some(0), "{memory}: {document:#}");
            let rows = orders(&document);
            assert_eq!(rows.len(), count, "{memory}: {document:#}");
            assert!(rows.iter().all(|row| row.0 == reader && row.4 == 0), "{memory}: {document:#}");
        }
    }
}

fn writes_that_overtake_others_are_found() {
    let _turn = turn();
    let late = ["late_writes"];
    for gpu in gpus() {
        let (code, document) = gpu.run(&late, &litmus("host"));
        assert_eq!(code, Some(1), "{document:#}");
        let [first, second, ..] = orders(&document)[..] else { panic!("{document:#}") };
        assert_eq!([first, second], [("processor", "flag", false, false, 40), ("processor", "completion", false, false, 40)]);
        assert!(document["notices"].to_string().contains("overtook"), "{document:#}");
        let (code, document) = gpu.run(&late, &litmus("cuda:0:dmabuf"));
        assert_eq!(code, Some(1), "{document:#}");
        let expected = [
            ("gpu", "flag", false, false, 40),
            ("gpu", "completion", false, false, 40),
            // A flush brings what is under way.
            ("gpu", "completion", true, false, 0),
        ];
        assert_eq!(orders(&document), expected, "{document:#}");
        assert_eq!(document["ordering"][0]["first_stale"], 1);
        // A flag that is seen once too early.
        let (_, document) = gpu.run(&["late_writes@20"], &litmus("cuda:0:dmabuf"));
        assert_eq!(document["ordering"].as_array().unwrap().iter().map(|row| row["stale_iterations"].as_u64().unwrap()).sum::<u64>(), 1);
    }
    if fake().is_some() {
        // A GPU that promises no order breaks no promise.
        let (_, document) = Gpu::Fake("unordered").run(&late, &litmus("cuda:0:dmabuf"));
        assert_eq!(document["ordering"][1]["promised"], "none", "{document:#}");
        assert!(document["notices"].to_string().contains("promises no order"), "{document:#}");
    }
}

fn the_gpu_compares_or_it_is_said_why_not() {
    let _turn = turn();
    for gpu in gpus() {
        let (_, document) = gpu.run(FAULTLESS, &brief("bw", "cuda:0:dmabuf", &["--op", "write", "--sizes", "64k"]));
        assert_eq!(document["connection"]["local"]["memory"]["comparing"]["by"], "gpu", "{document:#}");
        let faults = ["corrupt_payload:77"];
        let (code, document) = gpu.run(&faults, &brief("bw", "cuda:0:dmabuf", &["--op", "write", "--sizes", "64k"]));
        assert_eq!(code, Some(1));
        let mismatch = &document["results"][0]["verification"]["mismatch"];
        assert_eq!((mismatch["offset_bytes"].as_i64(), mismatch["wrong_bytes"].as_u64()), (Some(77), Some(1)), "{document:#}");
    }
    if fake().is_some() {
        for memory in ["cuda:0:dmabuf", "cuda:0:staged"] {
            let (code, document) = Gpu::Fake("no-jit").run(FAULTLESS, &brief("bw", memory, &["--op", "write", "--sizes", "64k"]));
            assert_eq!(code, Some(0), "{document:#}");
            let comparing = &document["connection"]["local"]["memory"]["comparing"];
            assert_eq!(comparing["by"], "copies");
            assert_eq!(comparing["why"]["name"], "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "{document:#}");
            assert!(document["results"][0]["verification"]["mismatch"].is_null());
        }
        let (_, document) = Gpu::Fake("no-jit").run(&["late_writes"], &litmus("cuda:0:dmabuf"));
        let rows = orders(&document);
        assert_eq!(rows[0], ("copies", "flag", false, false, 40), "{document:#}");
    }
}

fn staged_is_told_beside_its_ceilings() {
    let _turn = turn();
    for gpu in gpus() {
        let (code, document) = gpu.run(FAULTLESS, &brief("bw", "cuda:0:staged", &["--op", "write,read", "--sizes", "3M"]));
        assert_eq!(code, Some(0), "{document:#}");
        for result in document["results"].as_array().unwrap() {
            let staged = &result["staged"];
            assert!(staged["chunk_bytes"].as_u64().unwrap() > 0, "{result:#}");
            for part in ["copies_bytes_per_second", "provider_bytes_per_second"] {
                assert!(staged[part]["median"].as_f64().unwrap() > 0.0, "{result:#}");
            }
            assert!(staged["share_percent"].as_f64().unwrap() > 0.0, "{result:#}");
        }
    }
}

/// An interruption while both ends are opened once led to talk of an end that is not open.
fn an_interruption_while_ends_are_opened_is_one() {
    let _turn = turn();
    if fake().is_none() {
        return;
    }
    let mut codes = Vec::new();
    for after_ms in [500, 1000, 1500, 2500, 4000] {
        let command = ["bw", "mlx5_0", "--memory", "cuda:0", "--sizes", "4k", "--duration", "20s"];
        let mut command = Gpu::Fake("slow").command(FAULTLESS, &command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after_ms));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // On a busy machine the signal may come before anybody has asked for it, and ends the program as it does any.
        assert!(matches!(output.status.code(), Some(130) | None), "after {after_ms} ms: {text}");
        assert!(!text.contains("not open"), "after {after_ms} ms: {text}");
        codes.push(output.status.code());
    }
    // Not all of them came too early to be handled.
    assert!(codes.contains(&Some(130)), "{codes:?}");
}

fn data_direct_is_taken_where_it_is_and_refused_with_its_reason_where_not() {
    let _turn = turn();
    let Some(libraries) = fake() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("direct.yaml");
    let text = "schema: rdmadoctor/host/1\nname: direct\ntitle: data-direct\nextends: h100x8-cx7\nnics:\n  - name: mlx5_0\n    data_direct: true\n";
    std::fs::write(&model, text).unwrap();
    let run = |device: &str, memory: &str| {
        let mut command = program();
        command.args(["--format", "json", "-q", "--answer-within", "60s", "--gpus", "local", "--host-model"]).arg(&model);
        command.args(["bw", device, "--memory", memory, "--op", "write", "--sizes", "64k", "--iterations", "4", "--repeats", "1"]);
        let output = command.env("LD_LIBRARY_PATH", libraries).env("FAKE_GPU", "direct").output().unwrap();
        let document: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), document)
    };
    for memory in ["cuda:0", "cuda:0:data-direct"] {
        let (code, document) = run("mlx5_0", memory);
        assert_eq!(code, Some(0), "{document:#}");
        assert_eq!(document["connection"]["local"]["memory"]["path"], "data_direct", "{document:#}");
        assert!(document["results"][0]["verification"]["mismatch"].is_null(), "{document:#}");
    }
    let (code, document) = run("mlx5_1", "cuda:0:data-direct");
    assert_eq!(code, Some(1), "{document:#}");
    assert!(document["problems"][0]["summary"].as_str().unwrap().contains("mlx5dv_reg_dmabuf_mr"), "{document:#}");
    assert!(document["notices"].to_string().contains("no data-direct device"), "{document:#}");
}

fn all_pairs_have_a_figure_or_a_reason() {
    let _turn = turn();
    for gpu in gpus() {
        let faults = ["errno:ibv_reg_dmabuf_mr:EOPNOTSUPP,device=mlx5_1"];
        let (code, document) =
            gpu.run(&faults, &["bw", "--all-pairs", "--sizes", "4k", "--op", "write", "--iterations", "2", "--repeats", "1"]);
        assert_eq!(code, Some(0), "{document:#}");
        let cells = document["cells"].as_array().unwrap();
        let gpus: std::collections::BTreeSet<&str> = cells.iter().map(|cell| cell["gpu"].as_str().unwrap()).collect();
        assert_eq!(cells.len(), gpus.len() * 8 * 4);
        for cell in cells {
            assert!(cell["bytes_per_second"].is_object() != cell["reason"].is_string(), "{cell:#}");
        }
        let empty = cells.iter().find(|cell| cell["device"] == "mlx5_1" && cell["path"] == "dmabuf").unwrap();
        assert!(empty["reason"].as_str().unwrap().contains("EOPNOTSUPP"), "{empty:#}");
    }
}

/// The gate, with the memory that there is.
fn gate(gpu: Gpu, host: &str) -> Value {
    let mut command = program();
    command.args(["--host-model", host, "--gpus", "local", "--format", "json", "-q", "--answer-within", "60s"]);
    command.args(["preflight", "--duration", "1ms", "--time-budget", "10m"]);
    if let Gpu::Fake(kind) = gpu {
        command.env("LD_LIBRARY_PATH", fake().unwrap()).env("FAKE_GPU", kind);
    }
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What a check found in a GPU's memory.
fn found<'a>(document: &'a Value, id: &str) -> &'a Value {
    let findings = document["probe"]["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| finding["id"] == id && finding["subject"].as_str().unwrap().contains('/');
    findings.iter().find(is_it).unwrap_or_else(|| panic!("{id}: {document:#}"))
}

fn the_gate_measures_the_memory_of_each_gpu() {
    let _turn = turn();
    for gpu in gpus() {
        let document = gate(gpu, "e810");
        let measured: Vec<&Value> = document["measured"].as_array().unwrap().iter().filter(|one| one["gpu"].is_string()).collect();
        assert!(!measured.is_empty(), "{document:#}");
        for one in measured {
            assert_eq!(one["bw"]["results"].as_array().unwrap().len(), 2, "{one:#}");
            assert!(one["ping"]["results"][0]["latencies"].is_object(), "{one:#}");
            assert!(one["bw"]["connection"]["local"]["memory"]["gpu"]["pci"] == one["gpu"], "{one:#}");
            assert!(one["bw"]["connection"]["remote"]["memory"]["kind"] == "host", "{one:#}");
        }
        for id in ["RD-1201", "RD-1202"] {
            assert_eq!(found(&document, id)["status"], "pass", "{id}: {document:#}");
        }
        // The model's NICs take no dma-buf, and it has no peer memory: copies are left.
        let copied = found(&document, "RD-1206");
        assert_eq!((&copied["status"], &document["verdict"]), (&"warn".into(), &"warn".into()), "{document:#}");
        assert!(copied["evidence"].to_string().contains("ibv_reg_dmabuf_mr"), "{copied:#}");
    }
    if fake().is_some() {
        let document = gate(Gpu::Fake("full"), "e810");
        let refused = found(&document, "RD-1201");
        assert!(refused["status"] == "fail" && refused["evidence"].to_string().contains("CUDA_ERROR_OUT_OF_MEMORY"), "{refused:#}");
        let document = gate(Gpu::Fake("wrong"), "e810");
        assert_eq!(found(&document, "RD-1202")["status"], "fail", "{document:#}");
    }
}

fn the_gpu_itself_is_surveyed() {
    let _turn = turn();
    let output = program().args(["--format", "json", "-q", "gpu"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let gpu = &document["gpus"][0];
    assert!(gpu["copies"]["to_gpu"]["bytes_per_second"].as_f64().unwrap() > 1e8, "{document:#}");
    assert!(gpu["kinds"].as_array().unwrap().len() == 5, "{document:#}");
    for kind in gpu["kinds"].as_array().unwrap() {
        assert_eq!(kind["contents"]["result"], "right", "{kind:#}");
    }
}

/// Megabytes of GPU memory that all processes use.
fn used() -> u64 {
    let seen = Command::new("nvidia-smi").args(["--query-gpu=memory.used", "--format=csv,noheader,nounits"]).output().unwrap();
    String::from_utf8_lossy(&seen.stdout).lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum()
}

fn nothing_is_left_in_gpu_memory_however_it_ends() {
    let _turn = turn();
    let before = used();
    for signal in ["-INT", "-KILL"] {
        let mut command =
            Gpu::Real.command(FAULTLESS, &["bw", "mlx5_0", "--memory", "cuda:0:dmabuf", "--duration", "60s", "--sizes", "1M"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while used() <= before {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it never took GPU memory");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while used() != before {
            assert!(Instant::now() < deadline, "{signal}: {} MiB before, {} after", before, used());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Run with each GPU that there is, real or not.
const WITH_ANY: &[(&str, fn())] = &[
    ("each_kind_of_memory_is_verified_by_each_way", each_kind_of_memory_is_verified_by_each_way),
    ("ends_may_have_different_memory_and_a_message_several_chunks", ends_may_have_different_memory_and_a_message_several_chunks),
    ("latencies_of_gpu_memory", latencies_of_gpu_memory),
    (
        "ways_that_are_refused_are_kept_as_evidence_and_the_next_one_is_taken",
        ways_that_are_refused_are_kept_as_evidence_and_the_next_one_is_taken,
    ),
    ("a_way_that_was_asked_for_and_refused_is_a_problem_with_causes", a_way_that_was_asked_for_and_refused_is_a_problem_with_causes),
    ("wrong_contents_and_missing_memory_are_told", wrong_contents_and_missing_memory_are_told),
    ("writes_are_seen_in_order", writes_are_seen_in_order),
    ("writes_that_overtake_others_are_found", writes_that_overtake_others_are_found),
    ("the_gpu_compares_or_it_is_said_why_not", the_gpu_compares_or_it_is_said_why_not),
    (
        "data_direct_is_taken_where_it_is_and_refused_with_its_reason_where_not",
        data_direct_is_taken_where_it_is_and_refused_with_its_reason_where_not,
    ),
    ("staged_is_told_beside_its_ceilings", staged_is_told_beside_its_ceilings),
    ("an_interruption_while_ends_are_opened_is_one", an_interruption_while_ends_are_opened_is_one),
    ("all_pairs_have_a_figure_or_a_reason", all_pairs_have_a_figure_or_a_reason),
    ("the_gate_measures_the_memory_of_each_gpu", the_gate_measures_the_memory_of_each_gpu),
];

/// Run with a real one only.
const WITH_REAL: &[(&str, fn())] = &[
    ("the_gpu_itself_is_surveyed", the_gpu_itself_is_surveyed),
    ("nothing_is_left_in_gpu_memory_however_it_ends", nothing_is_left_in_gpu_memory_however_it_ends),
];

fn main() -> std::process::ExitCode {
    let trials = |tests: &[(&'static str, fn())], lack: Option<&'static str>| -> Vec<Trial> {
        let trial = |(name, test): &(&'static str, fn())| {
            let test = *test;
            let run = move || {
                test();
                Ok(())
            };
            Trial::test(*name, run).with_kind(lack.unwrap_or_default()).with_ignored_flag(lack.is_some())
        };
        tests.iter().map(trial).collect()
    };
    let any = gpus().is_empty().then_some("skipped: no C compiler and no NVIDIA GPU");
    let real = (!is_real()).then_some("skipped: no NVIDIA GPU");
    libtest_mimic::run(&Arguments::from_args(), trials(WITH_ANY, any).into_iter().chain(trials(WITH_REAL, real)).collect()).exit_code()
}
