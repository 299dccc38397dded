//! A guest of the lab: booted once, then asked to run scripts. The protocol is in README.md.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a guest to boot, on a busy machine without hardware virtualisation.
const BOOT: Duration = Duration::from_secs(180);

/// What a script printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct Guest {
    boot: Child,
    control: UnixStream,
    lines: BufReader<UnixStream>,
    share: tempfile::TempDir,
    next: u32,
}

/// Makes what guests boot from, or says why it cannot be made.
pub fn build() -> Result<(), String> {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/build");
    let made = Command::new(&lab).stdout(Stdio::null()).output().map_err(|error| format!("{}: {error}", lab.display()))?;
    if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).trim().to_owned()) }
}

impl Guest {
    pub fn boot(options: &[&str]) -> Self {
        // A short path: a unix socket's has to fit into 108 bytes.
        let share = tempfile::Builder::new().prefix("rdmadoctor-lab-").tempdir_in("/tmp").unwrap();
        let socket = share.path().join("control");
        let mut boot = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/boot"))
            .arg("--share")
            .arg(share.path())
            .arg("--control")
            .arg(&socket)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("tests/lab/boot starts");
        let until = Instant::now() + BOOT;
        let control = loop {
            match UnixStream::connect(&socket) {
                Ok(control) => break control,
                Err(error) if Instant::now() > until => panic!("no control socket: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            if let Some(status) = boot.try_wait().unwrap() {
                panic!("tests/lab/boot ended with {status}: {}", console(share.path()));
            }
        };
        let lines = BufReader::new(control.try_clone().unwrap());
        let mut guest = Self { boot, control, lines, share, next: 0 };
        assert_eq!(guest.line(BOOT), "READY", "{}", console(guest.share.path()));
        guest
    }

    fn line(&mut self, patience: Duration) -> String {
        self.control.set_read_timeout(Some(patience)).unwrap();
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap_or_else(|error| panic!("the guest is silent: {error}; {}", console(self.share.path())));
        line.trim().to_owned()
    }

    /// Runs a script with bash, for a minute at most.
    pub fn sh(&mut self, script: &str) -> Ran {
        self.sh_for(script, 60)
    }

    pub fn sh_for(&mut self, script: &str, seconds: u64) -> Ran {
        self.next += 1;
        let id = format!("t{}", self.next);
        let file = |end: &str| -> PathBuf { self.share.path().join(format!("{id}.{end}")) };
        let (script_file, out, err) = (file("sh"), file("out"), file("err"));
        std::fs::write(script_file, format!("cd {}\n{script}\n", env!("CARGO_MANIFEST_DIR"))).unwrap();
        self.control.write_all(format!("RUN {id} {seconds}\n").as_bytes()).unwrap();
        let line = self.line(Duration::from_secs(seconds + 30));
        let code = line.strip_prefix(&format!("DONE {id} ")).unwrap_or_else(|| panic!("unexpected answer {line:?}")).parse().unwrap();
        let read = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Ran { code, out: read(out), err: read(err) }
    }

    /// Writes a file for the guest, and gives its path there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.share.path().join(name), bytes).unwrap();
        format!("/lab/{name}")
    }

    /// Runs rdmadoctor, with patience for an emulated processor on a busy machine where a test does not name its own.
    pub fn doctor(&mut self, arguments: &str) -> Ran {
        let patience = if arguments.contains("--answer-within") { "" } else { "--answer-within 60s" };
        self.sh_for(&format!("{} {patience} {arguments}", env!("CARGO_BIN_EXE_rdmadoctor")), 600)
    }

    /// Runs rdmadoctor and reads its document.
    pub fn json(&mut self, arguments: &str) -> (serde_json::Value, i32) {
        let ran = self.doctor(&format!("--format json {arguments}"));
        let document = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{arguments}: {error}: {ran:?}"));
        (document, ran.code)
    }

    /// Queue pairs that exist in the guest, without the one that every device has for management.
    pub fn queue_pairs(&mut self) -> Vec<String> {
        let ran = self.sh("rdma resource show qp");
        ran.out.lines().filter(|line| !line.contains("type GSI") && !line.contains("type SMI")).map(str::to_owned).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.control.write_all(b"OFF\n");
        let until = Instant::now() + Duration::from_secs(5);
        while self.boot.try_wait().ok().flatten().is_none() {
            if Instant::now() > until {
                let _ = self.boot.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The end of what a guest printed, for a message.
fn console(share: &Path) -> String {
    let read = |name: &str| std::fs::read(share.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let text = read("console.log") + &read("failed");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
