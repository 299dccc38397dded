//! Modelled hosts with one wound or several (tests/hosts/sick.yaml), and exactly what `probe` must find on each: roots, and what follows
//! from which.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_yaml::Value;

/// A sick host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sick {
    name: String,
    /// The model that it is made from: `base` of tests/hosts, or an embedded one.
    #[serde(default)]
    of: Option<String>,
    /// Changes: a path such as `nics.0.state`, and the value that it gets.
    #[serde(default)]
    set: serde_yaml::Mapping,
    /// More arguments of `probe`.
    #[serde(default)]
    arguments: Vec<String>,
    /// Options before the command, such as `--fault`.
    #[serde(default)]
    options: Vec<String>,
    /// `ID subject` of what stands by itself.
    roots: Vec<String>,
    /// `ID subject < ID subject` of what follows.
    #[serde(default)]
    consequences: Vec<String>,
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

/// Puts a value at a path.
fn put(model: &mut Value, path: &str, value: Value) {
    let mut place = model;
    // Names of files have dots of their own, so `files` takes the rest of the path as it is.
    let steps: Vec<&str> = if let Some(file) = path.strip_prefix("files.") { vec!["files", file] } else { path.split('.').collect() };
    for step in steps {
        place = match step.parse::<usize>() {
            Ok(index) => place.as_sequence_mut().and_then(|all| all.get_mut(index)).unwrap_or_else(|| panic!("{path}: no item {index}")),
            Err(_) => {
                if place.is_null() {
                    *place = Value::Mapping(Default::default());
                }
                place.as_mapping_mut().unwrap().entry(step.into()).or_insert(Value::Null)
            }
        };
    }
    *place = value;
}

fn model(sick: &Sick) -> String {
    let of = sick.of.as_deref().unwrap_or("base");
    let own = tests().join(format!("{of}.yaml"));
    let path = if own.exists() { own } else { Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("profiles/hosts/{of}.yaml")) };
    let mut model: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (path, value) in &sick.set {
        put(&mut model, path.as_str().unwrap(), value.clone());
    }
    serde_yaml::to_string(&model).unwrap()
}

/// What `probe` finds on the model: roots and consequences.
fn found(sick: &Sick, model: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    findings(sick, command.arg("--host-model").arg(model).args(&sick.options))
}

/// What `probe` finds in a capture of the model, with all replaced that tells which host it is of.
fn found_in_capture(sick: &Sick, model: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let file = model.with_extension("json.gz");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.arg("-q").arg("--host-model").arg(model).args(&sick.options).args(["capture", "--force", "-o"]).arg(&file);
    for pair in sick.arguments.windows(2).filter(|pair| ["--engine", "--pid", "--level"].contains(&pair[0].as_str())) {
        command.args(pair);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}: {}", sick.name, String::from_utf8_lossy(&output.stderr));
    findings(sick, Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).arg("--from").arg(&file))
}

fn findings(sick: &Sick, command: &mut Command) -> (BTreeSet<String>, BTreeSet<String>) {
    let output = command.args(["--format", "json", "-q", "probe"]).args(&sick.arguments).output().unwrap();
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}: {}", sick.name, String::from_utf8_lossy(&output.stderr)));
    let (mut roots, mut consequences) = (BTreeSet::new(), BTreeSet::new());
    for finding in probe["findings"].as_array().unwrap() {
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        if !["warn", "fail", "error"].contains(&text("status").as_str()) {
            continue;
        }
        let name = format!("{} {}", text("id"), text("subject"));
        match finding["because"].as_str().and_then(|because| because.split_once('/')) {
            None => drop(roots.insert(name)),
            Some((id, subject)) => drop(consequences.insert(format!("{name} < {id} {subject}"))),
        }
    }
    let is_bad = !roots.is_empty();
    let verdict = probe["verdict"].as_str().unwrap();
    assert_eq!(is_bad, verdict != "pass", "{}: {verdict}", sick.name);
    let code = output.status.code();
    assert_eq!(code, Some(i32::from(verdict == "fail")), "{}", sick.name);
    (roots, consequences)
}

#[test]
fn each_sick_host_has_exactly_its_findings() {
    let hosts: Vec<Sick> = serde_yaml::from_str(&std::fs::read_to_string(tests().join("sick.yaml")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for sick in &hosts {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.yaml");
        std::fs::write(&file, model(sick)).unwrap();
        let (roots, consequences) = found(sick, &file);
        let expected = (sick.roots.iter().cloned().collect::<BTreeSet<_>>(), sick.consequences.iter().cloned().collect::<BTreeSet<_>>());
        if (&roots, &consequences) != (&expected.0, &expected.1) {
            wrong.push(format!("{}\n  roots {roots:#?}\n  consequences {consequences:#?}", sick.name));
        }
        let captured = found_in_capture(sick, &file);
        if (&roots, &consequences) != (&captured.0, &captured.1) {
            wrong.push(format!("{} in a capture: {captured:#?}, on the host {:#?}", sick.name, (&roots, &consequences)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let several = hosts.iter().filter(|sick| sick.name.starts_with("several-")).count();
    assert!(hosts.len() - several > 30 && several >= 10, "{} and {several}", hosts.len() - several);
}
