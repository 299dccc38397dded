//! `bw` on modelled hosts with one processor, where it also tries to wait asleep.

use std::process::Command;

use serde_json::Value;

const CHANNEL: &str = "ibv_create_comp_channel";

/// The only result of a short run that may use one processor.
fn with_one_processor(arguments: &[&str]) -> Value {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &first_processor(), env!("CARGO_BIN_EXE_rdmadoctor"), "-q", "--format", "json", "--answer-within", "60s"]);
    command.args(["--host-model", "h100x8-cx7", "bw", "mlx5_0", "--op", "write", "--sizes", "64", "--buffer", "hot", "--iterations", "64"]);
    let output = command.args(arguments).output().unwrap();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(document["results"].as_array().map(Vec::len), Some(1), "{document:#}");
    document["results"][0].clone()
}

/// A processor that this process may run on, of which there may be few in a container.
fn first_processor() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    list.split([',', '-']).next().unwrap().to_owned()
}

fn moved(result: &Value) -> bool {
    result["failure"].is_null() && result["bytes_per_second"]["median"].as_f64().is_some_and(|rate| rate > 0.0)
}

#[test]
fn waiting_asleep_is_tried_unless_it_was_said_how_to_wait() {
    let crash = format!("crash:{CHANNEL}");
    let tried = with_one_processor(&["--fault", &crash]);
    assert!(tried["failure"].to_string().contains("SIGSEGV"), "{tried:#}");
    let told = with_one_processor(&["--fault", &crash, "--completion", "poll"]);
    assert!(moved(&told) && told["completion"] == "poll", "{told:#}");
}

#[test]
fn where_there_are_no_events_completions_are_asked_for() {
    let refused = format!("errno:{CHANNEL}:EMFILE");
    let result = with_one_processor(&["--fault", &refused]);
    assert!(moved(&result) && result["completion"] == "poll", "{result:#}");
    // Whoever asked for events is told why there are none.
    let asked = with_one_processor(&["--fault", &refused, "--completion", "event"]);
    assert!(asked["failure"].to_string().contains("EMFILE"), "{asked:#}");
}

/// What is verified before anything is measured: lengths of 64, 63, 33 and 3 bytes, some of them inline as well, one message each.
#[test]
fn each_message_that_arrives_changed_is_told_and_later_ones_do_not_hide_it() {
    for command in ["ping", "bw"] {
        let verification = |fault: &[&str]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
            program.args(["-q", "--format", "json", "--answer-within", "60s", "--host-model", "h100x8-cx7", command, "mlx5_0"]);
            program.args(["--op", "write", "--sizes", "64", "--iterations", "4", "--repeats", "1"]).args(fault);
            let output = program.output().unwrap();
            let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
            (output.status.code(), document["results"][0]["verification"].clone())
        };
        let (code, good) = verification(&[]);
        assert!(code == Some(0) && good["mismatch"].is_null(), "{command}: {good:#}");
        let messages = good["messages"].as_u64().unwrap();
        assert!(messages >= 5, "{good:#}");
        for message in 1..=messages {
            let (code, found) = verification(&["--fault", &format!("corrupt_payload:2@{message}")]);
            assert_eq!(code, Some(1), "{command}: {found:#}");
            assert_eq!(found["messages"], message, "{command}: {found:#}");
            let mismatch = &found["mismatch"];
            let told = (&mismatch["offset_bytes"], &mismatch["wrong_bytes"], &mismatch["is_guard"]);
            assert_eq!(told, (&2.into(), &1.into(), &false.into()), "{command}: {found:#}");
        }
    }
}

/// Payload travels in a request that has one to send: never in a read's.
#[test]
fn payload_is_inline_where_the_operation_sends_it() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    program.args(["-q", "--format", "json", "--answer-within", "60s", "--host-model", "h100x8-cx7", "bw", "mlx5_0", "--buffer", "hot"]);
    program.args(["--op", "read,write,send", "--sizes", "64", "--depth", "4", "--iterations", "8", "--repeats", "1"]);
    let output = program.output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let results = document["results"].as_array().unwrap();
    let told: Vec<_> = results.iter().map(|result| (result["operation"].as_str().unwrap(), result["inline"].as_bool().unwrap())).collect();
    assert_eq!(told, [("read", false), ("write", true), ("send", true)]);
}
