//! Modelled hosts with one wound or several (tests/hosts/sick.yaml), and exactly what `probe` must find on each: roots, and what follows
//! from which, how grave each is, and what mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_yaml::Value;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hosts {
    /// What mends the findings of a check where the host says nothing else: the kind of step, then the commands. `{subject}` stands for the
    /// subject, `{first}` and `{last}` for what is before its first and after its last `/`.
    remedies: BTreeMap<String, Vec<String>>,
    hosts: Vec<Sick>,
}

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
    /// `STATUS ID subject` of what stands by itself.
    roots: Vec<String>,
    /// `STATUS ID subject < ID subject` of what follows.
    #[serde(default)]
    consequences: Vec<String>,
    /// By `ID` or by `ID subject`: what mends it here.
    #[serde(default)]
    remedies: BTreeMap<String, Vec<String>>,
}

/// What is found of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    status: String,
    /// `ID subject` of its root.
    because: Option<String>,
    action: String,
    commands: Vec<String>,
}

impl Found {
    /// As sick.yaml writes it.
    fn line(&self, name: &str) -> String {
        let root = self.because.as_ref().map(|root| format!(" < {root}")).unwrap_or_default();
        format!("{} {name}{root}", self.status)
    }

    fn remedy(&self) -> String {
        format!("{} {:?}", self.action, self.commands)
    }
}

/// Findings by `ID subject`.
type Findings = BTreeMap<String, Found>;

/// What is written of a host. Names of remedies that are used are added to `used`.
fn written(sick: &Sick, defaults: &BTreeMap<String, Vec<String>>, used: &mut BTreeSet<String>) -> Findings {
    let mut all = Findings::new();
    for line in sick.roots.iter().chain(&sick.consequences) {
        let (line, because) = line.split_once(" < ").map_or((line.as_str(), None), |(line, root)| (line, Some(root.to_owned())));
        let mut words = line.splitn(3, ' ');
        let (Some(status), Some(id), Some(subject)) = (words.next(), words.next(), words.next()) else {
            panic!("{}: `{line}` is no `STATUS ID subject`", sick.name);
        };
        let name = format!("{id} {subject}");
        let own = [name.as_str(), id].into_iter().find(|key| sick.remedies.contains_key(*key));
        used.insert(own.map_or_else(|| id.to_owned(), |key| format!("{}: {key}", sick.name)));
        let remedy = own.map_or_else(|| defaults.get(id), |key| sick.remedies.get(key));
        let remedy = remedy.unwrap_or_else(|| panic!("{}: nothing is written of what mends {name}", sick.name));
        let (first, last) = (subject.split('/').next().unwrap_or_default(), subject.rsplit('/').next().unwrap_or_default());
        let filled = |text: &String| text.replace("{subject}", subject).replace("{first}", first).replace("{last}", last);
        let mut remedy = remedy.iter().map(filled);
        let action = remedy.next().unwrap_or_else(|| panic!("{}: no kind of step mends {name}", sick.name));
        let found = Found { status: status.to_owned(), because, action, commands: remedy.collect() };
        assert!(all.insert(name, found).is_none(), "{}: `{line}` is there twice", sick.name);
    }
    all
}

/// What differs, a line each.
fn differences(expected: &Findings, got: &Findings) -> String {
    let mut text = String::new();
    for name in expected.keys().chain(got.keys()).collect::<BTreeSet<_>>() {
        match (expected.get(name), got.get(name)) {
            (Some(expected), None) => writeln!(text, "  not found: {}", expected.line(name)).unwrap(),
            (None, Some(got)) => writeln!(text, "  found besides: {}, mended by {}", got.line(name), got.remedy()).unwrap(),
            (Some(expected), Some(got)) => {
                if expected.line(name) != got.line(name) {
                    writeln!(text, "  expected {}\n       got {}", expected.line(name), got.line(name)).unwrap();
                }
                if expected.remedy() != got.remedy() {
                    writeln!(text, "  {name} is mended by\n  expected {}\n       got {}", expected.remedy(), got.remedy()).unwrap();
                }
            }
            (None, None) => {}
        }
    }
    text
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

/// What `probe` finds on the model.
fn found(sick: &Sick, model: &Path) -> Findings {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    findings(sick, command.arg("--host-model").arg(model).args(&sick.options))
}

/// What `probe` finds in a capture of the model, with all replaced that tells which host it is of.
fn found_in_capture(sick: &Sick, model: &Path) -> Findings {
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

fn findings(sick: &Sick, command: &mut Command) -> Findings {
    let output = command.args(["--format", "json", "-q", "probe", "--time-budget", "5m"]).args(&sick.arguments).output().unwrap();
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}: {}", sick.name, String::from_utf8_lossy(&output.stderr)));
    let mut all = Findings::new();
    for finding in probe["findings"].as_array().unwrap() {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let status = text(&finding["status"]);
        if !["warn", "fail", "error"].contains(&status.as_str()) {
            continue;
        }
        let name = format!("{} {}", text(&finding["id"]), text(&finding["subject"]));
        let remedy = &finding["remedy"];
        assert!(!text(&remedy["summary"]).is_empty(), "{}: {name} does not say what mends it", sick.name);
        let because = finding["because"].as_str().map(|because| because.replacen('/', " ", 1));
        let commands = remedy["commands"].as_array().unwrap().iter().map(text).collect();
        let found = Found { status, because, action: text(&remedy["action"]), commands };
        assert!(all.insert(name.clone(), found).is_none(), "{}: {name} is found twice", sick.name);
    }
    let gravest = ["fail", "warn"].into_iter().find(|status| all.values().any(|found| found.status == *status)).unwrap_or("pass");
    assert_eq!(probe["verdict"], gravest, "{}", sick.name);
    assert_eq!(output.status.code(), Some(i32::from(gravest == "fail")), "{}", sick.name);
    all
}

/// What differs on the host, and between it and a capture of it.
fn compare(sick: &Sick, expected: &Findings) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("model.yaml");
    std::fs::write(&file, model(sick)).unwrap();
    let (got, captured) = (found(sick, &file), found_in_capture(sick, &file));
    let mut wrong = Vec::new();
    if got != *expected {
        wrong.push(format!("{}\n{}", sick.name, differences(expected, &got)));
    }
    if captured != got {
        wrong.push(format!("{} in a capture, compared with the host\n{}", sick.name, differences(&got, &captured)));
    }
    wrong
}

#[test]
fn each_sick_host_has_exactly_its_findings() {
    let file: Hosts = serde_yaml::from_str(&std::fs::read_to_string(tests().join("sick.yaml")).unwrap()).unwrap();
    let mut used = BTreeSet::new();
    let expected: Vec<(&Sick, Findings)> = file.hosts.iter().map(|sick| (sick, written(sick, &file.remedies, &mut used))).collect();
    // Some wait for a GPU that hangs.
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((sick, expected)) = expected.get(next.fetch_add(1, Ordering::Relaxed)) {
                    wrong.lock().unwrap().extend(compare(sick, expected));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    // What stands for no finding says nothing.
    let own = file.hosts.iter().flat_map(|sick| sick.remedies.keys().map(|key| format!("{}: {key}", sick.name)));
    wrong.extend(
        own.chain(file.remedies.keys().cloned()).filter(|key| !used.contains(key)).map(|key| format!("the remedy of {key} is of no use")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let several = file.hosts.iter().filter(|sick| sick.name.starts_with("several-")).count();
    assert!(file.hosts.len() - several > 30 && several >= 10, "{} and {several}", file.hosts.len() - several);
}
