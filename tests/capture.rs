//! Captures of whole hosts: what is found on the host is found in its capture, damage is told, and old files stay readable.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn rdmadoctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Findings by id, status and what they follow from, with how often; subjects may be addresses.
fn verdicts(probe: &serde_json::Value) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for finding in probe["findings"].as_array().unwrap() {
        let because = finding["because"].as_str().and_then(|because| because.split_once('/')).map_or("", |(id, _)| id);
        *all.entry(format!("{} {} {because}", finding["id"], finding["status"])).or_default() += 1;
    }
    all
}

/// The options of `probe` that matter for a capture, and everything that comes before the command.
fn compare(name: &str, host: &[&str], engines: &[&str], directory: &Path) {
    let file = directory.join(format!("{name}.json.gz"));
    let captured = rdmadoctor(&[host, &["-q", "capture", "--force", "-o", text(&file)], engines].concat());
    assert_eq!(captured.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&captured.stderr));
    let there = rdmadoctor(&[host, &["--format", "json", "-q", "probe"], engines].concat());
    let here = rdmadoctor(&["--from", text(&file), "--format", "json", "-q", "probe"]);
    assert_eq!(verdicts(&json(&here)), verdicts(&json(&there)), "{name}");
    assert_eq!(here.status.code(), there.status.code(), "{name}");
    // With nothing replaced, what people see is the same to the letter.
    let captured = rdmadoctor(&[host, &["-q", "capture", "--force", "--no-redact", "-o", text(&file)], engines].concat());
    assert_eq!(captured.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&captured.stderr));
    for command in ["devices", "caps", "modules", "topo"] {
        let there = rdmadoctor(&[host, &[command]].concat());
        let here = rdmadoctor(&["--from", text(&file), command]);
        assert_eq!(here.status.code(), there.status.code(), "{name} {command}");
        // The first line says what it is of, the last ones what a device model leaves open.
        let lines = |output: &Output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().skip(1).take_while(|line| !line.starts_with("  model ")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&here), lines(&there), "{name} {command}: {}", String::from_utf8_lossy(&here.stderr));
    }
}

#[test]
fn a_capture_tells_what_the_host_tells() {
    let directory = tempfile::tempdir().unwrap();
    for model in ["erdma-a10x8", "h100x8-cx7", "aws-efa", "e810", "container-gaps", "bare"] {
        compare(model, &["--host-model", model], &["--engine", "dlslime@0.0.1.post7", "--engine", "nccl"], directory.path());
    }
}

/// A file that stays as it is for ever: made of a host model by the first release that had captures.
#[test]
fn the_first_version_is_readable() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/1-erdma-a10x8.json.gz");
    let probe = rdmadoctor(&["--from", text(&file), "--format", "json", "-q", "probe"]);
    let document = json(&probe);
    assert_eq!(probe.status.code(), Some(1));
    assert_eq!(document["from_capture"]["host_model"], "erdma-a10x8");
    let is_there =
        |id: &str| document["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == id && finding["status"] == "fail");
    assert!(is_there("RD-0602") && is_there("RD-0210"));
    for command in ["devices", "caps", "modules", "topo", "qp-matrix"] {
        let output = rdmadoctor(&["--from", text(&file), command]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn packed(bytes: &[u8], compression: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(compression));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Most memory that a reading process had, in KiB.
fn peak_kib(path: &Path) -> (i32, u64) {
    let script = format!("{} --from {} devices >/dev/null 2>&1; code=$?; exit $code", env!("CARGO_BIN_EXE_rdmadoctor"), text(path));
    let before = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    let status = Command::new("sh").args(["-c", &script]).status().unwrap();
    let after = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    (status.code().unwrap(), u64::try_from(after.max(before)).unwrap())
}

#[test]
fn a_hostile_file_takes_neither_memory_nor_time() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| {
        let path: PathBuf = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let head = b"{\"schema\": \"rdmadoctor/capture/1\", \"x\": ";
    let bomb = write("bomb.gz", packed(&vec![0; 128 << 20], 9));
    let deep = write("deep.gz", packed(&[&head[..], &vec![b'['; 8 << 20]].concat(), 9));
    let wide = write("wide.gz", packed(&[&head[..], b"[", &b"{},".repeat(4 << 20), b"1]}"].concat(), 9));
    // As many interfaces as a document may have, each of no more than it must have; and more than that.
    let document = {
        let file = directory.path().join("bare.gz");
        assert!(rdmadoctor(&["--host-model", "h100x8-cx7", "-q", "capture", "--level", "quick", "-o", text(&file)]).status.success());
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()), &mut plain).unwrap();
        serde_json::from_slice::<serde_json::Value>(&plain).unwrap()
    };
    let with = |interfaces: serde_json::Value| {
        let mut document = document.clone();
        document["facts"]["host"]["net"]["interfaces"] = interfaces;
        document.to_string()
    };
    let mut least = document["facts"]["host"]["net"]["interfaces"][0].as_object().unwrap().clone();
    for key in least.keys().cloned().collect::<Vec<_>>() {
        let mut less = least.clone();
        less.remove(&key);
        if rdmadoctor::capture::parse_document(with(serde_json::json!([less])).as_bytes()).is_ok() {
            least = less;
        }
    }
    let least = serde_json::to_string(&least).unwrap();
    let values = least.matches([',', '{', '[']).count() + 1;
    let heavy =
        |number: usize| with(serde_json::json!("HERE")).replace("\"HERE\"", &format!("[{}]", vec![least.as_str(); number].join(",")));
    let heaviest = write("heaviest.gz", packed(heavy(1_450_000 / values).as_bytes(), 9));
    let (code, peak) = peak_kib(&heaviest);
    assert!(code <= 1 && peak < 512 << 10, "{code} {peak} KiB");
    let heavier = write("heavier.gz", packed(heavy(1_600_000 / values).as_bytes(), 9));
    for path in [bomb, deep, wide, heavier] {
        let started = Instant::now();
        let (code, peak) = peak_kib(&path);
        assert_eq!(code, 2, "{}", path.display());
        assert!(peak < 512 << 10, "{}: {peak} KiB", path.display());
        assert!(started.elapsed() < Duration::from_secs(120));
    }
}

#[test]
fn a_pipe_is_read_and_a_silent_one_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bare.json.gz");
    let pipe = directory.path().join("pipe");
    assert!(rdmadoctor(&["--host-model", "bare", "capture", "-o", text(&file)]).status.success());
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Nobody writes: it ends by itself, and names the file.
    let silent = rdmadoctor(&["--from", text(&pipe), "devices"]);
    let said = String::from_utf8_lossy(&silent.stderr).into_owned();
    assert_eq!(silent.status.code(), Some(2));
    assert!(said.contains("nothing came from it") && said.contains(text(&pipe)), "{said}");
    // Somebody writes.
    let reader =
        Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(["--from", text(&pipe), "topo"]).stdout(Stdio::piped()).spawn().unwrap();
    std::fs::write(&pipe, std::fs::read(&file).unwrap()).unwrap();
    assert!(reader.wait_with_output().unwrap().status.success());
    // And from standard input.
    let made = Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(["--host-model", "bare", "capture", "-o", "-"]).output().unwrap();
    let mut reader = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"))
        .args(["--from", "-", "topo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(&made.stdout).unwrap();
    assert!(reader.wait_with_output().unwrap().status.success());
}

#[test]
fn a_silent_pipe_is_left_on_interrupt() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(["--from", text(&pipe), "devices"]).stderr(Stdio::piped()).spawn().unwrap();
    // Ctrl-C is heard once its handler is there; the pipe is opened after that, so a writer is let in only then.
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    drop(writer);
    assert_eq!(status.code(), Some(130));
}
