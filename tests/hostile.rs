//! Files that are none, never end, or stand for more than they hold: read within bounds, and never replaced.

use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

fn doctor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.stdin(Stdio::null()).env_remove("RDMADOCTOR_TOKEN");
    command
}

fn ran(arguments: &[&str]) -> Output {
    doctor().args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An alias of an alias, and so on: a kilobyte that stands for gigabytes.
fn bomb(head: &str) -> String {
    let mut text = format!("{head}\na0: &a0 [xxxxxxxxxxxxxxxx, xxxxxxxxxxxxxxxx]\n");
    for step in 1..30 {
        text += &format!("a{step}: &a{step} [*a{0}, *a{0}]\n", step - 1);
    }
    text
}

#[test]
fn what_stands_for_too_much_is_refused_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bomb.yaml");
    let path = file.to_str().unwrap();
    for (head, arguments) in [
        ("schema: rdmadoctor/policy/1", vec!["--host-model", "h100x8-cx7", "probe", "--level", "quick", "--policy", path]),
        ("schema: rdmadoctor/engine/1", vec!["--host-model", "h100x8-cx7", "qp-matrix", "--engine", path]),
        ("schema: rdmadoctor/host/1", vec!["--host-model", path, "devices"]),
        ("schema: rdmadoctor/profile/1", vec!["profile", "validate", path]),
        ("schema: rdmadoctor/host/1", vec!["catalog", "check", path]),
    ] {
        std::fs::write(&file, bomb(head)).unwrap();
        // What it stands for would be more than this.
        let limited = "ulimit -v 2000000; exec \"$0\" \"$@\"";
        let output = Command::new("/bin/sh").args(["-c", limited, env!("CARGO_BIN_EXE_rdmadoctor")]).args(&arguments).output().unwrap();
        let text = told(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("aliases are followed") || text.contains("repetition limit"), "{arguments:?}: {text}");
        assert!(output.status.code().is_some_and(|code| code != 0), "{arguments:?}: {output:?}");
    }
}

#[test]
fn devices_are_not_read() {
    for arguments in [
        ["--host-model", "h100x8-cx7", "peer", "--token-file", "/dev/zero"].as_slice(),
        &["report", "/dev/zero"],
        &["--from", "/dev/zero", "probe"],
        &["--host-model", "/dev/zero", "devices"],
        &["--host-model", "h100x8-cx7", "probe", "--policy", "/dev/zero"],
        &["profile", "validate", "/dev/zero"],
        &["--host-model", "h100x8-cx7", "preflight", "--compare", "/dev/zero"],
    ] {
        let output = ran(arguments);
        let text = told(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("character device"), "{arguments:?}: {text}");
        assert!(output.status.code().is_some_and(|code| code != 0), "{arguments:?}");
    }
}

/// A pipe to which nobody writes is given up at the first signal, wherever it is named.
#[test]
fn a_wait_for_a_pipe_ends_at_the_first_signal() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let path = pipe.to_str().unwrap();
    for arguments in [
        ["report", path].as_slice(),
        &["--from", path, "probe"],
        &["--host-model", "h100x8-cx7", "probe", "--policy", path],
        &["--host-model", "h100x8-cx7", "preflight", "--compare", path],
        &["--host-model", "h100x8-cx7", "ping", "--peer", "127.0.0.1", "--token-file", path],
        &["profile", "check", "--profile", path],
        &["catalog", "check", path],
    ] {
        let child = doctor().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Signals before it listens end it as they end any process; it is met while it waits.
        let until = Instant::now() + Duration::from_secs(60);
        let waits = || std::fs::read_to_string(format!("/proc/{}/wchan", child.id())).is_ok_and(|place| place.contains("poll"));
        while !waits() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        let output = child.wait_with_output().unwrap();
        // A wait that nobody ends would take ten seconds; the bound only tells one from the other.
        assert!(begun.elapsed() < Duration::from_secs(8), "{arguments:?}: {}", told(&output));
        assert_ne!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
    }
}

#[test]
fn an_output_is_never_put_in_the_place_of_a_device_or_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    symlink("/dev/null", at("null")).unwrap();
    mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
    let null = at("null");
    let null = null.to_str().unwrap();
    let bw =
        ["--host-model", "h100x8-cx7", "bw", "mlx5_0", "--op", "write", "--sizes", "64", "--iterations", "4", "--repeats", "1", "--plot"];
    for arguments in [
        [bw.as_slice(), &[null]].concat(),
        vec!["--host-model", "h100x8-cx7", "capture", "--level", "quick", "--force", "-o", null],
        vec!["--host-model", "h100x8-cx7", "capture", "--level", "quick", "-o", null],
    ] {
        let output = ran(&arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
        assert!(at("null").is_symlink() && std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
    // Nobody reads the pipe.
    let pipe = at("pipe");
    let output = ran(&["--host-model", "h100x8-cx7", "capture", "--level", "quick", "--force", "-o", pipe.to_str().unwrap()]);
    assert!(output.status.code() != Some(0) && told(&output).contains("writing into"), "{}", told(&output));
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn standard_output_by_its_path_is_written_into() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let script = "echo before > \"$1\"; \"$0\" -q --host-model h100x8-cx7 capture --level quick -o /dev/stdout >> \"$1\" || exit; echo after >> \"$1\"";
    let output = Command::new("/bin/sh").args(["-c", script, env!("CARGO_BIN_EXE_rdmadoctor")]).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let bytes = std::fs::read(&out).unwrap();
    assert!(bytes.starts_with(b"before\n\x1f\x8b") && bytes.ends_with(b"after\n"), "{} bytes", bytes.len());
}

/// What tells which host it is of is its owner's alone; the umask may take more.
#[test]
fn captures_with_serial_numbers_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    for (name, extra, mode) in [("redacted", [].as_slice(), 0o644), ("whole", ["--no-redact"].as_slice(), 0o600)] {
        let file = directory.path().join(name);
        let script = "umask 022; exec \"$0\" \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_rdmadoctor"), "-q", "--host-model", "h100x8-cx7", "capture", "--level", "quick"]);
        assert!(command.args(extra).arg("-o").arg(&file).output().unwrap().status.success());
        assert_eq!(std::fs::metadata(Path::new(&file)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

/// A profile of the model, with what is wrong with it.
fn profile(directory: &Path, setting: &str) -> std::path::PathBuf {
    let file = directory.join("profile.yaml");
    let path = file.to_str().unwrap();
    let output = ran(&["-q", "--host-model", "h100x8-cx7", "profile", "write", "--no-transfers", "--engine", "dlslime", "-o", path]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("  settings: []"), "{text}");
    let evidence = text.split("evidence: ").nth(1).unwrap().lines().next().unwrap();
    let lines = format!("  settings:\n  - {{{setting}, evidence: {evidence}}}");
    std::fs::write(&file, text.replacen("  settings: []", &lines, 1)).unwrap();
    file
}

#[test]
fn a_profile_sets_only_what_its_engine_has() {
    let directory = tempfile::tempdir().unwrap();
    for (setting, what) in [
        ("name: LD_PRELOAD, value: /tmp/x.so, kind: env", "its entry in the catalog does not have"),
        ("name: PATH, value: /tmp, kind: env", "its entry in the catalog does not have"),
        ("name: BASH_ENV, value: /tmp/x, kind: env", "its entry in the catalog does not have"),
        // Another engine's.
        ("name: MC_MAX_WR, value: '1', kind: env", "its entry in the catalog does not have"),
        ("name: SLIME_MAX_SEND_WR, value: '$(id)', kind: env", "no attempt can have proved"),
        ("name: SLIME_MAX_SEND_WR, value: \"1\\nLD_PRELOAD=x\", kind: env", "no attempt can have proved"),
    ] {
        let file = profile(directory.path(), setting);
        let output = ran(&["--host-model", "h100x8-cx7", "profile", "export", "--for", "dlslime", "--profile", file.to_str().unwrap()]);
        let text = told(&output);
        assert!(output.status.code() == Some(2) && text.contains(what), "{setting}: {output:?}");
        assert!(output.stdout.is_empty(), "{setting}");
    }
}

#[test]
fn an_engine_file_names_no_variable_of_loaders() {
    let directory = tempfile::tempdir().unwrap();
    let engine = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/engines/dlslime.yaml")).unwrap();
    let file = directory.path().join("mine.yaml");
    std::fs::write(&file, engine.replace("name: dlslime\n", "name: mine\n").replace("SLIME_MAX_SEND_WR", "LD_PRELOAD")).unwrap();
    let output = ran(&["catalog", "check", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() != Some(0) && text.contains("LD_PRELOAD tells a loader"), "{text}{}", told(&output));
}

#[test]
fn a_profile_that_others_may_write_starts_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.yaml");
    std::fs::write(&file, "schema: rdmadoctor/profile/1\n").unwrap();
    let run = |extra: &[&str]| {
        ran(&[&["profile", "exec", "--for", "nixl", "--profile", file.to_str().unwrap()], extra, &["--", "true"]].concat())
    };
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
    assert!(told(&run(&[])).contains("lets others write it"), "{:?}", run(&[]));
    // Past that, it is no whole profile.
    assert!(!told(&run(&["--any-owner"])).contains("lets others write it"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!told(&run(&[])).contains("not started with"));
    if nix::unistd::geteuid().is_root() {
        nix::unistd::chown(&file, Some(nix::unistd::Uid::from_raw(12345)), None).unwrap();
        assert!(told(&run(&[])).contains("owned by user 12345"));
    }
}

fn rename(value: &mut serde_yaml::Value, from: &str, to: &str) {
    match value {
        serde_yaml::Value::String(text) if text == from => to.clone_into(text),
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(|item| rename(item, from, to)),
        serde_yaml::Value::Mapping(entries) => entries.values_mut().for_each(|item| rename(item, from, to)),
        _ => {}
    }
}

/// What a profile says of its evidence adds nothing to a ConfigMap, and a YAML reader finds each value as it was.
#[test]
fn a_config_map_has_the_keys_of_the_export_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = profile(directory.path(), "name: SLIME_MAX_SEND_WR, value: '1024', kind: env");
    let path = file.to_str().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let id = text.split("evidence: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let mut value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    // The same id everywhere, so that the profile stays sound.
    rename(&mut value, &id, &format!("{id}\n  LD_PRELOAD: x\u{7f}\u{85}"));
    std::fs::write(&file, serde_yaml::to_string(&value).unwrap()).unwrap();
    let export = |extra: &[&str]| {
        ran(&[&["-q", "--host-model", "h100x8-cx7", "profile", "export", "--for", "env", "--profile", path], extra].concat())
    };
    let output = export(&["--config-map", "x"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let map: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let keys: Vec<&str> = map["data"].as_mapping().unwrap().keys().map(|key| key.as_str().unwrap()).collect();
    assert!(!keys.is_empty() && !keys.contains(&"LD_PRELOAD"), "{text}");
}

/// The terminal's end asks for what is known, as Ctrl-C does; a run under nohup outlives it.
#[test]
fn a_hangup_ends_what_does_not_ignore_it() {
    use std::io::BufRead as _;
    // These tests may themselves run under nohup.
    for (handles, ends) in [("default", true), ("ignore", false)] {
        let script = format!("exec env --{handles}-signal=HUP \"$0\" --host-model h100x8-cx7 peer --listen 127.0.0.1:0 2>&1");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_rdmadoctor")]).env("RDMADOCTOR_TOKEN", "0123456789abcdef").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening")));
        kill(pid, Signal::SIGHUP).unwrap();
        if !ends {
            std::thread::sleep(Duration::from_millis(500));
            assert!(child.try_wait().unwrap().is_none());
            kill(pid, Signal::SIGTERM).unwrap();
        }
        assert!(child.wait().unwrap().code().is_some(), "it ended by itself, with a code");
    }
}

#[test]
fn what_cannot_be_printed_is_told() {
    for arguments in
        [["--help"].as_slice(), &["--version"], &["probe", "--help"], &["--host-model", "bare", "devices"], &["explain", "RD-0101"]]
    {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = doctor().args(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(told(&output).contains("cannot write to standard output"), "{arguments:?}: {}", told(&output));
        // A reader that has gone away is no failure.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = doctor().args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", told(&output));
    }
}

#[test]
fn many_keys_and_deep_lists_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large.yaml");
    let keys: String = (0..60_000).map(|key| format!("k{key}: 1\n")).collect();
    for (text, what) in [
        (format!("schema: rdmadoctor/host/1\nname: x\ntitle: x\n{keys}"), "unknown key"),
        (format!("schema: rdmadoctor/host/1\nname: {}", "[".repeat(100_000)), "more than 1000 deep"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = ran(&["catalog", "check", file.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(what) && text.lines().count() < 110, "{}", text.lines().take(5).collect::<String>());
    }
}

#[test]
fn a_host_file_extends_no_file_of_another_folder() {
    let directory = tempfile::tempdir().unwrap();
    let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(&outside, "a secret of somebody\n").unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    std::fs::write(inside.join("base.yaml"), "schema: rdmadoctor/host/1\nname: base\ntitle: base\nextends: bare\n").unwrap();
    let file = inside.join("host.yaml");
    let load = |base: &str| {
        std::fs::write(&file, format!("schema: rdmadoctor/host/1\nname: x\ntitle: x\nextends: {base}\n")).unwrap();
        ran(&["--host-model", file.to_str().unwrap(), "devices"])
    };
    for base in [outside.to_str().unwrap(), "../out", "link", "/proc/kmsg"] {
        let text = told(&load(base));
        assert!(text.contains("not in the folder") && !text.contains("secret of"), "{base}: {text}");
    }
    assert!(!told(&load("base.yaml")).contains("extends"), "{}", told(&load("base.yaml")));
}

/// Wherever a command is when the user has had enough, it ends by itself, with the exit code that says so, and long before what it was about to do.
#[test]
fn a_signal_ends_each_command_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (capture, profile) = (at("capture.gz"), at("profile.yaml"));
    let commands: [&[&str]; 8] = [
        &["probe", "--level", "deep", "--engine", "all"],
        &["qp-matrix"],
        &["bw", "mlx5_0", "--duration", "60s", "--repeats", "9"],
        &["ping", "mlx5_0", "--duration", "60s"],
        &["preflight", "--engine", "nccl", "--time-budget", "600s"],
        &["profile", "write", "-o", &profile],
        &["capture", "--level", "deep", "-o", &capture],
        &["gpu"],
    ];
    for after_ms in [150, 700] {
        let started: Vec<_> = commands
            .iter()
            .map(|command| {
                let child =
                    doctor().args(["--host-model", "h100x8-cx7"]).args(*command).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                (command, child.unwrap())
            })
            .collect();
        std::thread::sleep(Duration::from_millis(after_ms));
        for (command, mut child) in started {
            let is_done = child.try_wait().unwrap().is_some();
            if !is_done {
                kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            }
            let until = Instant::now() + Duration::from_secs(60);
            let code = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                assert!(Instant::now() < until, "{command:?} goes on after {after_ms} ms");
                std::thread::sleep(Duration::from_millis(10));
            };
            // A signal that comes before any is listened for ends it as it ends any process; what is done was not interrupted.
            let is_expected = is_done || code.code().is_none_or(|code| code == 130 || code == 0);
            assert!(is_expected, "{command:?} after {after_ms} ms: {code:?}");
        }
    }
}
