//! Strangers at a server whose narration nobody reads: they cost little, and clients are served.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdmadoctor::bench::peer::Client;

const TOKEN: &str = "correct horse battery staple";
/// Threads of strangers, of those just put out, of clients, and some for all else.
const MOST_THREADS: usize = 64 + 16 + 16 + 8;

fn doctor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.stdin(Stdio::null()).env("RDMADOCTOR_TOKEN", TOKEN);
    command
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// A modelled host's, with this standard error.
    fn start(stderr: Stdio) -> Self {
        let mut command = doctor();
        command.args(["--format", "json", "--host-model", "h100x8-cx7", "peer", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut text = String::new();
        for line in lines {
            text += &line;
            if line == "}" {
                break;
            }
        }
        let listening: serde_json::Value = serde_json::from_str(&text).unwrap();
        let port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    fn is_serving(&self) {
        let client = Client::connect(&self.address.to_string(), TOKEN, Duration::from_secs(30), Arc::new(AtomicBool::new(false)));
        let (devices, _) = client.unwrap().describe().unwrap();
        assert!(!devices.is_empty());
    }

    /// Connections that go without a proof, in three ways; and such that stay.
    fn meets(&self, count: usize) -> Vec<TcpStream> {
        let mut stay = Vec::new();
        for number in 0..count {
            let Ok(mut stream) = TcpStream::connect(self.address) else { continue };
            // Half of them stay: more than there may be at once.
            match number % 6 {
                0 => drop(stream),
                2 => drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n")),
                4 => drop(stream.write_all(b"\0\0\0\x04\x1b[2J")),
                _ => stay.push(stream),
            }
        }
        stay
    }

    /// Ends it as Ctrl-C does; gives its exit code, if it ends.
    fn ends(&mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe into which nothing goes any more, and its reader, who does not read.
fn full() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn strangers_keep_no_client_out_while_nobody_reads_what_is_said() {
    let (reader, writer) = full();
    let (gone, closed) = std::io::pipe().unwrap();
    drop(gone);
    for stderr in [writer, closed] {
        let mut server = Server::start(stderr.into());
        let mut most = 0;
        let mut stay = Vec::new();
        for _ in 0..6 {
            stay.extend(server.meets(50));
            most = most.max(server.threads());
        }
        server.is_serving();
        most = most.max(server.threads());
        assert!(most <= MOST_THREADS, "{most} threads");
        // Its end waits for nobody either.
        assert_eq!(server.ends(), Some(130));
        drop(stay);
    }
    drop(reader);
}

#[test]
fn strangers_are_counted_and_nothing_that_they_say_is_printed() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::start(writer.into());
    drop(server.meets(100));
    server.is_serving();
    assert_eq!(server.ends(), Some(130));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("did not prove the token")).collect();
    assert!(!lines.is_empty() && lines.len() < 20, "{text}");
    let counted: usize = lines.iter().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert!((90..=100).contains(&counted), "{counted} of 100: {text}");
    assert!(!text.contains("GET") && !text.contains('\x1b') && text.contains("a client, rdmadoctor "), "{text}");
}

/// Without a word about where, only this host is listened to, and it is said how others would reach it.
#[test]
fn only_this_host_is_listened_to_unless_told_otherwise() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = doctor().arg("peer").stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    let mut told = String::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        told += &line;
        // Another server may have the port.
        if told.contains("cannot listen") || (told.contains("no other host") && told.contains("listening")) {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(told.contains("127.0.0.1"), "{told}");
    assert!(told.contains("cannot listen") || told.contains("--listen 0.0.0.0"), "{told}");
}

#[test]
fn tokens_that_can_be_guessed_are_refused() {
    for token in ["aaaaaaaaaaaa", "abcdefghijkl", "123456789012", "short"] {
        // One that is taken would be served with for ever.
        let mut command = Command::new("timeout");
        command.args(["60", env!("CARGO_BIN_EXE_rdmadoctor"), "--host-model", "h100x8-cx7", "peer", "--listen", "127.0.0.1:0"]);
        let output = command.args(["--token", token]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains("can be guessed") && text.contains("random one"), "{token}: {text}");
    }
}
