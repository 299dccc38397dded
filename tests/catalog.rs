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

#[test]
fn every_template_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["family", "device", "engine", "host", "policy"] {
        let output = program().args(["catalog", "new", kind]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let file = directory.path().join(kind);
        std::fs::write(&file, &output.stdout).unwrap();
        let checked = program().args(["catalog", "check"]).arg(&file).output().unwrap();
        assert_eq!(checked.status.code(), Some(0), "{kind}: {}", text(&checked));
    }
}

#[test]
fn what_is_shown_of_a_file_is_the_file() {
    let output = program().args(["catalog", "show", "erdma", "--kind", "device"]).output().unwrap();
    let expected = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/devices/erdma.yaml")).unwrap();
    assert_eq!(text(&output), format!("# profiles/devices/erdma.yaml\n{expected}"));
    let output = program().args(["catalog", "show", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("the catalog has no `nothing`"));
}

/// A catalog with a family, a device model, an engine and a host that the program does not have.
fn own_catalog() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let read = |path: &str| std::fs::read_to_string(profiles.join(path)).unwrap();
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("families/mynic.yaml", &read("templates/family.yaml").replace("name: mine\n", "name: mynic\n"));
    let device =
        read("devices/mlx5-6.12.yaml").replacen("name: mlx5-6.12", "name: mynic-1", 1).replacen("family: mlx5", "family: mynic", 1);
    write("devices/mynic-1.yaml", &device.replace("driver: mlx5_core", "driver: mine_core").replace("15b3:*", "fffe:0001"));
    write("engines/myengine.yaml", &read("engines/dlslime.yaml").replacen("name: dlslime", "name: myengine", 1).replace("[slime]", "[]"));
    let nics = "nics: [{name: mine_0, model: mynic, pci: \"0000:17:00.0\", netdev: ens1, addresses: [192.0.2.1/24]}]";
    let modules = "modules: {loaded: [{name: ib_core}, {name: ib_uverbs}, {name: mine_core}, {name: mine_rdma}]}";
    let head = "schema: rdmadoctor/host/1\ntitle: Mine\nsources: [invented]\nkernel: 6.12.0\nverbs: {providers: [mynic]}";
    write("hosts/myhost.yaml", &format!("{head}\nname: myhost\n{nics}\n{modules}\n"));
    // The same host, which names its device's file.
    write("elsewhere/host.yaml", &format!("{head}\nname: elsewhere\n{}\n{modules}\n", nics.replace("model: mynic", "model: ./mynic.yaml")));
    write("elsewhere/mynic.yaml", &device);
    directory
}

#[test]
fn a_directory_adds_a_family_a_device_model_an_engine_and_a_host() {
    let own = own_catalog();
    let run = |arguments: &[&str]| {
        let output = program().arg("--catalog").arg(own.path()).args(arguments).output().unwrap();
        (output.status.code(), text(&output))
    };
    let (code, list) = run(&["catalog", "list"]);
    assert_eq!(code, Some(0), "{list}");
    for name in ["mynic ", "mynic-1 ", "myengine ", "myhost "] {
        assert!(list.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {list}");
    }
    // The family by the PCI numbers and the driver of its file, in the child process that reads the host's files.
    let (code, devices) = run(&["--host-model", "myhost", "devices"]);
    assert_eq!(code, Some(0), "{devices}");
    assert!(devices.contains("mine_0") && devices.contains("mynic"), "{devices}");
    let (_, modules) = run(&["--host-model", "myhost", "--format", "json", "modules"]);
    assert!(modules.contains("mine_rdma") && modules.contains("makes a function of it an RDMA device"), "{modules}");
    let (_, compat) = run(&["compat", "--engine", "myengine@0.0.1.post7", "--family", "mynic"]);
    assert!(compat.contains("granted") && compat.contains("mynic-1"), "{compat}");
    let (_, compat) = run(&["compat", "--engine", "myengine@0.0.1.post7"]);
    assert!(compat.contains("mynic-1") && compat.contains("erdma"), "{compat}");
    let (_, matrix) = run(&["--host-model", "myhost", "qp-matrix", "--engine", "myengine@0.0.1.post7"]);
    assert!(matrix.contains("granted") && matrix.contains("myengine"), "{matrix}");
    let (code, gpu) = run(&["--host-model", "h100x8-cx7", "gpu", "--no-try", "--engine", "myengine"]);
    assert!(code != Some(2) && gpu.contains("myengine"), "{gpu}");
}

#[test]
fn a_host_file_names_a_device_file() {
    let own = own_catalog();
    let host = own.path().join("elsewhere/host.yaml");
    let output = program().arg("--host-model").arg(&host).args(["qp-matrix", "--ask", "max_send_sge=4"]).output().unwrap();
    let matrix = text(&output);
    assert!(matrix.contains("mine_0") && matrix.contains("granted"), "{matrix}");
    std::fs::write(own.path().join("elsewhere/mynic.yaml"), "schema: 5").unwrap();
    let output = program().args(["catalog", "check"]).arg(&host).output().unwrap();
    let text = text(&output);
    assert!(text.contains("host.yaml:") && text.contains("mynic.yaml:1:"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}
