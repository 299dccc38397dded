//! The published JSON Schemas are those of the program. `make schemas` writes them anew.

use std::path::Path;
use std::process::Command;

use schemars::{JsonSchema, Schema, schema_for};

fn check<T: JsonSchema>(name: &str) {
    check_schema(name, &schema_for!(T));
}

fn check_schema(name: &str, current: &Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("profiles/schema/{name}.json"));
    let current = serde_json::to_string_pretty(current).unwrap() + "\n";
    if std::env::var_os("RDMADOCTOR_WRITE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, current).unwrap();
        return;
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == current, "{} is not the program's schema; run `make schemas`", path.display());
}

#[test]
fn documents() {
    for (schema, current) in rdmadoctor::report::schemas() {
        check_schema(&schema.replace("rdmadoctor/", "").replace('/', "-"), &current);
    }
}

#[test]
fn captures() {
    check::<rdmadoctor::capture::Capture>("capture-1");
}

#[test]
fn policies() {
    check::<rdmadoctor::checks::Policy>("policy-1");
}

#[test]
fn catalog_files() {
    check::<rdmadoctor::catalog::Engine>("engine-1");
    check::<rdmadoctor::catalog::DeviceModel>("device-1");
    check::<rdmadoctor::sim::HostModel>("host-1");
    check::<rdmadoctor::host::families::Family>("family-1");
}

/// Runs a command and holds what it prints against the published schema that the document names.
fn holds(host: Option<&str>, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--format", "json", "-q"]).args(arguments);
    if let Some(host) = host {
        command.args(["--host-model", host]);
    }
    let output = command.output().unwrap();
    let what = format!("{arguments:?} on {host:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{what}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    let name = document["schema"].as_str().unwrap().strip_prefix("rdmadoctor/").unwrap().replace('/', "-");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("profiles/schema/{name}.json"));
    let mut schema: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(document["host_model"]["name"].as_str(), host, "{what}");
    closed(&mut schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&document).take(5).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

/// Programs may meet keys that a schema does not know; this program must print none.
fn closed(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(fields) => {
            // Parts that are put together know only their own keys.
            let is_whole = !["oneOf", "anyOf", "allOf"].iter().any(|part| fields.contains_key(*part));
            fields.values_mut().for_each(closed);
            if is_whole && fields.contains_key("properties") && fields.get("type").is_some_and(|kind| kind == "object") {
                fields.entry("additionalProperties").or_insert(false.into());
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(closed),
        _ => {}
    }
}

#[test]
fn what_commands_print_is_what_the_schemas_say() {
    for host in ["erdma-a10x8", "h100x8-cx7", "bare", "container-gaps"] {
        for arguments in [
            &["devices"][..],
            &["caps"],
            &["modules"],
            &["topo"],
            &["probe", "--engine", "dlslime@0.0.1.post7"],
            &["qp-matrix", "--engine", "dlslime@99", "--ask", "max_send_sge=64"],
            &["qp-matrix", "--count", "3", "--grid", "max_send_sge=1,64"],
            &["bw", "--iterations", "20", "--repeats", "1", "--sizes", "64"],
            &["ping", "--iterations", "20", "--repeats", "1", "--sizes", "64"],
            &["gpu", "--engine", "nccl"],
        ] {
            holds(Some(host), arguments);
        }
    }
    holds(
        Some("erdma-a10x8"),
        &["bw", "--devices", "erdma_0,erdma_1", "--op", "send", "--iterations", "20", "--repeats", "1", "--sizes", "64"],
    );
    holds(Some("erdma-a10x8"), &["--fault", "crash:ibv_create_qp@3", "qp-matrix"]);
    for host in ["erdma-a10x8", "e810", "bare"] {
        holds(Some(host), &["preflight", "--engine", "dlslime@0.0.1.post7", "--duration", "1ms"]);
    }
    for arguments in [&["show"][..], &["validate"], &["check"], &["diff"], &["export", "--for", "mooncake"]] {
        let file = "tests/profile/sample.yaml";
        let (host, files) = match arguments[0] {
            "validate" => (None, vec![file]),
            "diff" => (None, vec![file, file]),
            _ => (Some("e810"), vec!["--profile", file]),
        };
        holds(host, &[&["profile"], arguments, &files].concat());
    }
    holds(Some("h100x8-cx7"), &["--fault", "corrupt_payload:3", "bw", "--iterations", "20", "--sizes", "64,65k"]);
    holds(Some("h100x8-cx7"), &["--fault", "device_removed@200", "ping", "--iterations", "20"]);
    holds(Some("h100x8-cx7"), &["bw", "--all-pairs", "--iterations", "2", "--repeats", "1"]);
    holds(None, &["compat"]);
    holds(None, &["compat", "--engine", "dlslime@99", "--family", "erdma"]);
    holds(None, &["explain", "RD-0101"]);
    holds(None, &["catalog", "list"]);
    holds(None, &["catalog", "show", "erdma"]);
    holds(None, &["catalog", "new", "device"]);
    holds(None, &["catalog", "check", "profiles/hosts/bare.yaml", "tests/cli/damaged/mine.yaml", "/nowhere"]);
}

/// A document's name stands in src/schema.rs alone, but for texts in comments and tests.
#[test]
fn each_name_is_written_once() {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy();
        if name == "schema.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for line in code.lines().filter(|line| line.contains("\"rdmadoctor/")) {
            let is_profiles = line.contains("PROFILE_SCHEMA");
            assert!(is_profiles || !line.contains("/1\""), "{}: {line}", path.display());
        }
    }
}
