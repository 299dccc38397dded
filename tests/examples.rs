//! docs/examples: what stands there is parsed, and its commands run against modelled hosts in place of the runner's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize as _;
use serde_yaml::Value;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples")
}

fn documents(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(examples().join(name)).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value:?}"))
}

/// What an example says of its time is for a real runner: a loaded machine gets more, and measures briefly.
const SHIM: &str = r#"#!/bin/sh
case " $* " in *' report '*) exec PROGRAM "$@" ;; esac
previous=
for word do
    shift
    [ "$previous" = --time-budget ] && word=10m
    set -- "$@" "$word"
    previous=$word
done
case " $* " in *' preflight '*) set -- "$@" --duration 1ms ;; esac
exec PROGRAM --host-model HOST --answer-within 60s "$@"
"#;

/// A machine whose `rdmadoctor` sees a modelled host, and measures briefly.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new(host: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::create_dir_all(dir.path().join("docs")).unwrap();
        std::os::unix::fs::symlink(here.join("docs/examples"), dir.path().join("docs/examples")).unwrap();
        let script = SHIM.replace("PROGRAM", env!("CARGO_BIN_EXE_rdmadoctor")).replace("HOST", host);
        let bin = dir.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, text) in [("rdmadoctor", script.as_str()), ("logger", "#!/bin/sh\necho \"$*\" >> \"$LOGGED\"\n")] {
            let file = bin.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn run(&self, command: &mut Command) -> Output {
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        let command = command.current_dir(self.dir.path()).env("PATH", path).env("LOGGED", self.dir.path().join("logged"));
        command.env("RDMA_STATE", self.dir.path().join("state")).env("RDMADOCTOR_STATE", self.dir.path().join("state")).output().unwrap()
    }

    /// As GitHub's and GitLab's runners do: bash that stops at the first failure.
    fn script(&self, text: &str) -> Output {
        self.run(Command::new("bash").args(["-e", "-o", "pipefail", "-c", text]))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The host on which all is well that the policy wants, and the incident's.
const WELL: &str = "e810";
const SICK: &str = "erdma-a10x8";

#[test]
fn github_actions() {
    let workflow = &documents("github-actions.yml")[0];
    let steps = workflow["jobs"]["preflight"]["steps"].as_sequence().unwrap();
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step.get("run")).map(text).collect();
    assert_eq!(scripts.len(), 2);
    let machine = Machine::new(WELL);
    let ran = machine.script(scripts[0]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(machine.file("rdma/profile.yaml").exists() && machine.file("state/last-good.json").exists());
    let ran = machine.script(scripts[1]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(std::fs::read_to_string(machine.file("rdma/preflight.html")).unwrap().starts_with("<!DOCTYPE html>"));
    let ran = Machine::new(SICK).script(scripts[0]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("::error title="), "{ran:?}");
}

#[test]
fn gitlab_ci() {
    let job = &documents("gitlab-ci.yml")[0]["rdma-preflight"];
    let script: Vec<&str> = job["script"].as_sequence().unwrap().iter().map(text).collect();
    for (host, code, word) in [(WELL, 0, "failures=\"0\""), (SICK, 1, "<failure")] {
        let machine = Machine::new(host);
        let ran = machine.script(&script.join("\n"));
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        let report = std::fs::read_to_string(machine.file(text(&job["artifacts"]["reports"]["junit"]))).unwrap();
        assert!(report.starts_with("<?xml") && report.contains(word), "{report}");
    }
}

#[test]
fn kubernetes() {
    let documents = documents("kubernetes-job.yaml");
    let [config, job] = &documents[..] else { panic!("{documents:?}") };
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let words = |key: &str| container[key].as_sequence().unwrap().iter().map(text).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("command"), ["rdmadoctor"]);
    for (host, code) in [(WELL, 0), (SICK, 1)] {
        let machine = Machine::new(host);
        let policy = machine.file("policy.yaml");
        std::fs::write(&policy, text(&config["data"]["policy.yaml"])).unwrap();
        let mounted = text(&container["volumeMounts"][0]["mountPath"]).to_owned() + "/policy.yaml";
        let arguments = words("args").into_iter().map(|word| if word == mounted { policy.display().to_string() } else { word });
        let ran = machine.run(Command::new(machine.file("bin/rdmadoctor")).args(arguments));
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap();
    }
}

#[test]
fn slurm() {
    let run = |machine: &Machine, script: &str, policy: &Path| {
        let mut command = Command::new(examples().join("slurm").join(script));
        command.env("SLURM_JOB_ID", "42").env("RDMADOCTOR_POLICY", policy).env("RDMADOCTOR_PROFILE", machine.file("profile.yaml"));
        machine.run(&mut command).status.code()
    };
    let policy = examples().join("policy.yaml");
    let machine = Machine::new(WELL);
    assert_eq!(run(&machine, "prolog.sh", &policy), Some(0));
    assert!(machine.file("profile.yaml").exists() && machine.file("state/last-good.json").exists());
    assert_eq!(run(&machine, "epilog.sh", &policy), Some(0));
    // Nothing is left of what went well, and trouble of our own drains no node.
    assert!(!machine.file("state/preflight.42.json").exists() && !machine.file("logged").exists());
    assert_eq!(run(&machine, "prolog.sh", Path::new("/nowhere.yaml")), Some(0));
    assert!(std::fs::read_to_string(machine.file("logged")).unwrap().contains("could not be done (exit code 2)"));

    let machine = Machine::new(SICK);
    assert_eq!(run(&machine, "prolog.sh", &policy), Some(1));
    assert!(machine.file("state/preflight.42.json").exists());
    assert!(std::fs::read_to_string(machine.file("logged")).unwrap().contains("preflight failed before job 42"));
}
