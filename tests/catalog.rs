//! Files of the catalog as the command line takes them: pipes, and models with faults of their own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn pipe(directory: &Path) -> PathBuf {
    let pipe = directory.join("pipe.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    pipe
}

#[test]
fn a_signal_ends_the_wait_for_a_pipe_and_what_is_known_is_printed() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let pipe = pipe(directory.path());
        let child = program()
            .args(["catalog", "check", "profiles/hosts/bare.yaml"])
            .arg(&pipe)
            .arg("profiles/hosts/e810.yaml")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It has the pipe open when a writer can be had without waiting.
        let deadline = Instant::now() + Duration::from_secs(60);
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        let writer = loop {
            match nix::fcntl::open(&pipe, flags, nix::sys::stat::Mode::empty()) {
                Ok(writer) => break writer,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        };
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(writer);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(text.contains("valid   profiles/hosts/bare.yaml") && text.contains("e810.yaml: not checked: interrupted"), "{text}");
    }
}

#[test]
fn a_pipe_is_a_file_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = pipe(directory.path());
    let child = program().args(["catalog", "check"]).arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/engines/nccl.yaml"), &pipe).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// A copy of the model of eRDMA with faults.
fn faulty(faults: &str) -> tempfile::NamedTempFile {
    let model = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/devices/erdma.yaml")).unwrap();
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    write!(file, "{}\nfaults: {faults}\n", model.replacen("name: erdma", "name: mine", 1)).unwrap();
    file
}

#[test]
fn a_model_has_its_faults_wherever_it_is_used() {
    for (fault, expected) in [
        ("errno:ibv_create_qp:EIO,max_send_wr>100", "EIO"),
        ("crash:ibv_create_qp,max_send_wr>100", "crashed with SIGSEGV"),
        ("hang:ibv_create_qp,max_send_wr>100", "no answer in 500 ms"),
    ] {
        let file = faulty(&format!("[\"{fault}\"]"));
        let output = program()
            .args(["--answer-within", "500ms", "compat", "--engine", "dlslime@0.0.1.post10", "--family"])
            .arg(file.path())
            .output()
            .unwrap();
        let text = text(&output);
        assert!(
            text.contains("REFUSED") && text.contains(expected) && text.contains(&format!("the model has the fault {fault}")),
            "{text}"
        );
    }
}

#[test]
fn faults_of_models_are_checked() {
    for (faults, expected) in [
        ("[\"crash:ibv_frobnicate\"]", "no call of the simulated provider"),
        ("[\"crash:ibv_create_qp,device=a\"]", "names a device; a model's faults are on every device"),
        ("crash", "faults: `crash` is not a list"),
    ] {
        let file = faulty(faults);
        let line = std::fs::read_to_string(file.path()).unwrap().lines().count();
        let output = program().args(["catalog", "check"]).arg(file.path()).output().unwrap();
        let text = text(&output);
        assert!(text.contains(expected) && text.contains(&format!("{}:{line}:", file.path().display())), "{text}");
        assert_eq!(output.status.code(), Some(1), "{text}");
    }
}
