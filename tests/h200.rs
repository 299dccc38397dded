//! Captures of a real host with one H200 and no RDMA device (docs/gpu-validation.md), of its files alone and at level deep: what was
//! judged right there stays so.

use std::path::Path;
use std::process::{Command, Output};

fn from(arguments: &[&str]) -> Output {
    from_file("h200-files.json.gz", arguments)
}

fn from_file(name: &str, arguments: &[&str]) -> Output {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
    Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).arg("--from").arg(file).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let output = from(&[&["--format", "json", "-q"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_only_fault_is_that_there_is_no_rdma_device() {
    let probe = json(&["probe", "--level", "quick"]);
    let findings = probe["findings"].as_array().unwrap();
    let of = |wanted: &[&str]| -> Vec<String> {
        let has = |finding: &&serde_json::Value| wanted.contains(&finding["status"].as_str().unwrap());
        findings.iter().filter(has).map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of(&["fail", "warn", "error"]), ["RD-0301"]);
    let well = of(&["pass"]);
    // Built-in modules; the GPU bound to the open driver, with its nodes, on a kernel with dma-bufs, behind a window of 256 GiB.
    for id in ["RD-0201", "RD-0202", "RD-0203", "RD-0310", "RD-0701", "RD-0702", "RD-0704", "RD-0705", "RD-0709", "RD-0713", "RD-0809"] {
        assert!(well.contains(&id.to_owned()), "{id} is not among {well:?}");
    }
    let skipped = |id: &str| {
        let finding = findings.iter().find(|finding| finding["id"] == id).unwrap();
        assert_eq!(finding["status"], "skip", "{finding:#}");
        finding["title"].as_str().unwrap().to_owned()
    };
    assert!(skipped("RD-0708").contains("would be of no use"));
    assert!(skipped("RD-0703").contains("no RDMA device"));
}

#[test]
fn modules_that_are_built_in_are_told_from_those_that_are_not_there() {
    let modules = json(&["modules"]);
    let state = |name: &str| {
        let all = modules["facts"]["modules"].as_array().unwrap();
        all.iter().find(|module| module["name"] == name).unwrap_or_else(|| panic!("no {name}: {modules:#}"))["state"].clone()
    };
    for name in ["ib_core", "ib_uverbs", "rdma_cm"] {
        assert_eq!(state(name), "built_in", "{name}");
    }
    assert_eq!((state("nvidia"), state("nvidia_uvm"), state("nvidia_peermem")), ("loaded".into(), "loaded".into(), "not_loaded".into()));
    assert_eq!(modules["facts"]["nvidia"]["flavour"], "open");
}

#[test]
fn a_host_without_a_nic_has_no_distances() {
    let topo = String::from_utf8_lossy(&from(&["topo"]).stdout).into_owned();
    assert!(
        topo.contains("no RDMA device on PCI") && topo.contains("GPU 0000:00:06.0") && topo.contains("directly on a root bus"),
        "{topo}"
    );
    let devices = from(&["devices"]);
    assert_eq!(devices.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&devices.stdout).contains("/sys/class/infiniband is empty"));
}

#[test]
fn what_the_gpu_s_driver_said_is_judged_too() {
    let output = from_file("h200.json.gz", &["--format", "json", "-q", "probe", "--level", "deep"]);
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = probe["findings"].as_array().unwrap();
    let status = |id: &str| {
        let all: Vec<&str> =
            findings.iter().filter(|finding| finding["id"] == id).map(|finding| finding["status"].as_str().unwrap()).collect();
        assert!(!all.is_empty(), "{id}");
        all.join(" ")
    };
    let bad: Vec<&serde_json::Value> =
        findings.iter().filter(|finding| matches!(finding["status"].as_str(), Some("fail" | "warn" | "error"))).collect();
    assert!(bad.len() == 1 && bad[0]["id"] == "RD-0301", "{bad:#?}");
    // GPUDirect and dma-buf as CUDA says, one GPU undivided, library and module of one version, a dma-buf made, a GPU that answers.
    for id in
        ["RD-0108", "RD-0710", "RD-0711", "RD-0712", "RD-0714", "RD-0715", "RD-0716", "RD-0717", "RD-0718", "RD-0719", "RD-1116", "RD-1118"]
    {
        assert_eq!(status(id), "pass", "{id}");
    }
    assert_eq!(status("RD-0720"), "skip");
}

#[test]
fn a_capture_knows_what_it_was_told_of_the_gpu_and_says_what_it_was_not() {
    let gpu = |file: &str| -> (Option<i32>, serde_json::Value) {
        let output = from_file(file, &["--format", "json", "-q", "gpu"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    };
    let (code, deep) = gpu("h200.json.gz");
    assert_eq!(code, Some(0), "{deep:#}");
    let report = &deep["gpus"][0];
    assert!(report["facts"]["name"].as_str().unwrap().contains("H200"), "{deep:#}");
    assert_eq!(report["facts"]["cuda"]["dma_buf_supported"], true);
    assert!(!report["prerequisites"].as_array().unwrap().is_empty());
    // Level deep tried plain memory, and made a dma-buf of it.
    assert_eq!((report["kinds"].as_array().unwrap().len(), &report["kinds"][0]["form"]), (1, &"plain".into()), "{deep:#}");
    assert!(report["kinds"][0]["export_error"].is_null() && report["copies"].is_null());
    assert!(deep["unknown"].to_string().contains("how fast copies are"), "{deep:#}");
    let (code, files) = gpu("h200-files.json.gz");
    assert_eq!((code, files["gpus"].as_array().unwrap().len()), (Some(1), 0), "{files:#}");
    assert!(files["unknown"].to_string().contains("capture --level standard"), "{files:#}");
}

#[test]
fn a_model_says_which_kinds_would_be_granted() {
    let run = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"))
        .args(["--host-model", "h100x8-cx7", "--format", "json", "-q", "gpu", "0"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let kinds = document["gpus"][0]["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 5, "{document:#}");
    let way = |kind: usize, path: &str| {
        let ways = kinds[kind]["ways"].as_array().unwrap();
        ways.iter().find(|way| way["path"] == path).unwrap_or_else(|| panic!("{ways:#?}"))["refusal"].is_null()
    };
    // Plain memory by both; without the flag not by peer memory; managed memory by none.
    assert_eq!([way(0, "peermem"), way(0, "dmabuf"), way(2, "peermem"), way(2, "dmabuf")], [true, true, false, true]);
    assert_eq!([way(4, "peermem"), way(4, "dmabuf")], [false, false]);
    assert!(document["host_model"].is_object() || document["model"].is_object() || document["origin"].is_object(), "{document:#}");
}
