//! The gate on modelled hosts: verdict, files, comparison, interruption.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program on a modelled host, with short measurements.
fn preflight(host: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    // A loaded machine is not what is tested.
    let common = ["-q", "--format", "json", "--answer-within", "60s", "--host-model", host];
    command.args(common).args(["preflight", "--duration", "1ms", "--time-budget", "10m"]).args(arguments);
    command
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[test]
fn a_healthy_host_passes_with_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("new/profile.yaml").display().to_string();
    let output = preflight("h100x8-cx7", &["--engine", "dlslime@0.0.1.post7", "--profile-out", &profile, "--strict"]).output().unwrap();
    let found = document(&output);
    assert_eq!((output.status.code(), found["verdict"].as_str()), (Some(0), Some("pass")), "{:#}", found["steps"]);
    assert_eq!(found["measured"].as_array().unwrap().len(), 8);
    // No GPU stands for the model's here, and that is said.
    let is_of_gpus =
        |step: &&Value| step["subject"].as_str().is_some_and(|subject| subject == "GPU memory" || subject.starts_with("0000:"));
    let (of_gpus, others): (Vec<&Value>, Vec<&Value>) = found["steps"].as_array().unwrap().iter().partition(is_of_gpus);
    assert!(others.iter().all(|step| step["status"] == "pass" && step["is_missing"] == false), "{others:#?}");
    assert!(!of_gpus.is_empty() && of_gpus.iter().all(|step| step["status"] != "fail" && step["is_missing"] == false), "{of_gpus:#?}");
    let checked = Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(["profile", "validate", &profile]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[test]
fn a_good_run_becomes_the_baseline_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let last = dir.path().join("last-good.json").display().to_string();
    let first = document(&preflight("e810", &["--engine", "dlslime@0.0.1.post10", "--baseline", &last]).output().unwrap());
    assert_eq!(
        (first["verdict"].as_str(), first["comparison"]["is_replaced"].as_bool()),
        (Some("pass"), Some(true)),
        "{:#}",
        first["steps"]
    );
    assert_eq!(first["comparison"]["created"], Value::Null);

    // Another engine, on the same host: it is told as new, and the file stays as it is.
    let kept = std::fs::read(&last).unwrap();
    let second = document(&preflight("e810", &["--engine", "dlslime@0.1.23", "--compare", &last]).output().unwrap());
    assert_eq!((&second["comparison"]["created"], &second["comparison"]["is_replaced"]), (&first["created"], &Value::Bool(false)));
    let changed = texts(&second["comparison"]["changes"], "what");
    assert!(changed.iter().any(|what| what.starts_with("irdma0: dlslime 0.1.23")), "{changed:?}");
    assert_eq!(std::fs::read(&last).unwrap(), kept);

    // A run that fails does not take its place.
    let output = preflight("e810", &["--fault", "errno:ibv_create_qp:ENOMEM", "--baseline", &last]).output().unwrap();
    let third = document(&output);
    assert_eq!((output.status.code(), third["comparison"]["is_replaced"].as_bool()), (Some(1), Some(false)));
    assert_eq!(std::fs::read(&last).unwrap(), kept);
    assert_eq!(third["comparison"]["changes"][0]["kind"], "worse");

    // Nor is another host compared with it.
    let output = preflight("erdma-a10x8", &["--baseline", &last]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is of the modelled host e810"), "{output:?}");
}

#[test]
fn the_incident_fails_with_its_cause_first_in_every_format() {
    for (format, first) in [("github", "::error title=RD-0602"), ("junit", "<failure"), ("markdown", "## fail RD-0602")] {
        let mut command = preflight("erdma-a10x8", &["--engine", "dlslime@0.0.1.post7", "--format", format]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.find(first).unwrap() < text.find("RD-0210").unwrap(), "{text}");
        assert!(text.contains("max_recv_sge 4 where 1 is granted"), "{text}");
    }
}

#[test]
fn what_arrives_wrong_fails_the_gate() {
    let output = preflight("e810", &["--fault", "corrupt_payload:3"]).output().unwrap();
    let found = document(&output);
    assert_eq!((output.status.code(), found["verdict"].as_str()), (Some(1), Some("fail")));
    let failed: Vec<&Value> = found["probe"]["findings"].as_array().unwrap().iter().filter(|finding| finding["status"] == "fail").collect();
    assert!(failed.iter().any(|finding| finding["id"] == "RD-1202" && finding["subject"] == "irdma0"), "{failed:#?}");
}

#[test]
fn a_profile_that_cannot_be_written_is_a_failure_and_no_loss_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let output = preflight("e810", &["--profile-out", &dir.path().display().to_string()]).output().unwrap();
    let found = document(&output);
    assert_eq!((output.status.code(), found["verdict"].as_str()), (Some(1), Some("fail")));
    let step = found["steps"].as_array().unwrap().iter().find(|step| step["step"] == "profile").unwrap();
    assert!(step["summary"].as_str().unwrap().starts_with("cannot write"), "{step}");
    assert_eq!(found["measured"].as_array().unwrap().len(), 2);
}

#[test]
fn an_interrupted_run_prints_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("said");
    let mut command = preflight("h100x8-cx7", &["--fault", "hang:ibv_post_send"]);
    let child = command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    // By then it is somewhere between reading files and a device that never answers: any place must do.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let found = document(&output);
    assert_eq!(output.status.code(), Some(130), "{}", std::fs::read_to_string(Path::new(&log)).unwrap());
    assert!(found["stopped"].as_str().unwrap().starts_with("interrupted"), "{found:#}");
    let last = found["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((last["status"].as_str(), last["is_missing"].as_bool()), (Some("skip"), Some(true)), "{found:#}");
}
