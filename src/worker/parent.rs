//! The parent: starts a child, asks, waits no longer than the deadline, and replaces the child when it is lost.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;

use super::protocol::{Reply, Request};
use super::{Connected, Counted, Files, Inventory, Loss, OpenDevice, Outcome, Provider, QpRequest, SUBCOMMAND, VerbsDevice};
use crate::host::part::{Asked, Part, PartFacts};
use crate::transfer;

/// How often a wait looks whether the user has interrupted it.
const SLICE: Duration = Duration::from_millis(100);
/// Requests that are sent in one message: the first answer must not wait for the reading of a large grid.
const CHUNK: usize = 1024;
/// From how many outstanding answers on they are collected in portions, and how long a portion gathers.
const BATCH: usize = 32;
const BATCH_PAUSE: Duration = Duration::from_millis(2);
/// How long a killed child may take to go away. One that the kernel holds uninterruptibly does not; it is left to init then.
const REAP: Duration = Duration::from_secs(2);
/// How many deadlines a part of the files may take that is read on and on.
const MOST_WAITS: u32 = 10;
/// After how many deadlines that passed no further device is asked.
const MOST_DEADLINES: u32 = 2;
/// Most that is taken of the child's answers at once: some are hundreds of KiB.
const READ_BYTES: usize = 64 << 10;
/// How much of what a child printed is kept.
const PRINTED_BYTES: u64 = 64 * 1024;

/// How children are started and waited for.
#[derive(Clone)]
pub struct WorkerOptions {
    /// The program that serves [`SUBCOMMAND`]; normally the running one.
    pub program: PathBuf,
    /// The implementation of verbs.
    pub provider: Provider,
    /// Longest wait for one answer.
    pub deadline: Duration,
    /// Set when the user wants to stop.
    pub interrupted: Arc<AtomicBool>,
}

/// Why a child gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The child said why it cannot begin.
    #[error("{0}")]
    CannotStart(OpenDevice),
    /// The child died.
    #[error("the verbs library or a provider crashed with {signal}")]
    Crashed {
        /// The signal's name.
        signal: String,
        /// The last lines that it had printed.
        printed: Vec<String>,
    },
    /// The child did not answer in time.
    #[error("no answer from the verbs library in {deadline_ms} ms")]
    Hung {
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
        /// Where the kernel held it.
        held_in: Option<String>,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The child cannot be started or talked to.
    #[error("rdmadoctor cannot run its own child process: {0}")]
    Broken(String),
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::CannotStart(OpenDevice::Call(error)) => Self::Refused { error },
            Failure::Crashed { signal, printed } => Self::Crashed { signal, printed },
            Failure::Hung { deadline_ms, held_in } => Self::Hung { deadline_ms, held_in },
            other => Self::NotRun { why: other.to_string() },
        }
    }
}

/// A child process that serves verbs, started when first needed and again after each loss.
pub struct Worker {
    options: WorkerOptions,
    running: Option<Running>,
}

struct Running {
    child: Child,
    socket: UnixStream,
    /// Where a read puts what came.
    chunk: Vec<u8>,
    received: Vec<u8>,
    /// How much of `received` was handed out already.
    consumed: usize,
    /// Takes standard output and error of the child: libraries print there.
    printed: File,
}

impl Worker {
    /// A worker that has started nothing yet.
    #[must_use]
    pub fn new(options: WorkerOptions) -> Self {
        Self { options, running: None }
    }

    /// Changes the longest wait for one answer.
    pub fn wait_at_most(&mut self, deadline: Duration) {
        self.options.deadline = deadline;
    }

    /// The implementation of verbs that children use.
    pub(super) fn provider(&self) -> &Provider {
        &self.options.provider
    }

    /// Whether the user has asked to stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    /// The devices that the verbs library knows, each opened and queried; only `wanted`, where one is named. A device whose provider
    /// crashes or hangs is named with what became of it, and the others go on in a new child.
    ///
    /// # Errors
    /// The library crashed or hung before it listed anything; a library that is missing is part of the answer instead.
    pub fn inventory(&mut self, wanted: Option<&str>) -> Result<Inventory, Failure> {
        self.send(&Request::List { provider: self.options.provider.clone() })?;
        let Reply::Listed(mut inventory) = self.receive(false)? else { return Err(unexpected()) };
        let mut printed = self.running.as_mut().map(Running::printed).unwrap_or_default();
        let started = Instant::now();
        let mut gone = Vec::new();
        for device in inventory.devices.iter_mut().filter(|device| wanted.is_none_or(|wanted| wanted == device.name)) {
            if started.elapsed() > self.options.deadline * MOST_DEADLINES {
                device.loss = Some(Loss::NotAsked);
                continue;
            }
            match self.query(&device.name) {
                Ok(queried) => *device = queried,
                Err(Failure::Crashed { signal, printed }) => device.loss = Some(Loss::Crashed { signal, printed }),
                Err(Failure::Hung { deadline_ms, held_in }) => device.loss = Some(Loss::Hung { deadline_ms, held_in }),
                Err(Failure::CannotStart(OpenDevice::Call(error))) => device.error = Some(error),
                Err(Failure::CannotStart(_)) => gone.push(device.name.clone()),
                Err(failure) => return Err(failure),
            }
        }
        // It went away between the list and the question.
        inventory.devices.retain(|device| !gone.contains(&device.name));
        for line in self.running.as_mut().map(Running::printed).unwrap_or_default() {
            if !printed.contains(&line) {
                printed.push(line);
            }
        }
        inventory.printed = printed;
        Ok(inventory)
    }

    fn query(&mut self, device: &str) -> Result<VerbsDevice, Failure> {
        self.send(&Request::Query { provider: self.options.provider.clone(), device: device.to_owned() })?;
        match self.receive(false)? {
            Reply::Queried(device) => Ok(*device),
            Reply::CannotStart(error) => Err(Failure::CannotStart(error)),
            _ => Err(unexpected()),
        }
    }

    /// Reads a part of a host's files. One that comes to no end, or whose reader dies, has that as its problem.
    /// `deadline` is the longest wait for one path from here on: a part that takes long because it is large is read to its end.
    ///
    /// # Errors
    /// The user interrupted, or there is no child to be had.
    pub fn read(&mut self, files: &Files, part: Part, asked: &Asked, deadline: Duration) -> Result<PartFacts, Failure> {
        self.options.deadline = deadline;
        let started = Instant::now();
        let mut moved = started;
        let mut answer = self.send(&Request::Read { files: files.clone(), part, asked: asked.clone() });
        let mut slow = None;
        while answer.is_ok() {
            match self.receive(false) {
                Ok(Reply::Part(facts)) => return Ok(facts),
                Ok(reply @ (Reply::Slow(_) | Reply::Reading)) => {
                    (slow, moved) = match reply {
                        Reply::Slow(path) => (path, moved),
                        _ => (None, Instant::now()),
                    };
                    if moved.elapsed() >= deadline || started.elapsed() >= deadline * MOST_WAITS {
                        self.stop();
                        answer = Err(Failure::Hung { deadline_ms: self.options.deadline.as_millis() as u64, held_in: None });
                    }
                }
                Ok(_) => answer = Err(unexpected()),
                Err(failure) => answer = Err(failure),
            }
        }
        match answer {
            Err(Failure::Hung { deadline_ms, held_in }) => {
                let place = held_in.map(|place| format!("; the kernel held it in {place}")).unwrap_or_default();
                Ok(part.unread(slow, format!("no answer in {deadline_ms} ms{place}")))
            }
            Err(Failure::Crashed { signal, .. }) => Ok(part.unread(slow, format!("the process that read it died of {signal}"))),
            Err(failure) => Err(failure),
            Ok(()) => Err(unexpected()),
        }
    }

    /// Tries requests one after another and hands each outcome to `each`, which says whether to go on.
    pub fn attempts(&mut self, device: &str, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        for (index, chunk) in requests.chunks(CHUNK).enumerate() {
            let mut goes_on = true;
            self.chunk(device, chunk, &mut |at, outcome| {
                goes_on = each(index * CHUNK + at, outcome);
                goes_on
            });
            if !goes_on {
                return;
            }
        }
    }

    fn chunk(&mut self, device: &str, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        let mut next = 0;
        while next < requests.len() {
            let ask = Request::Attempts {
                provider: self.options.provider.clone(),
                device: device.to_owned(),
                requests: requests[next..].to_vec(),
            };
            let mut failure = self.send(&ask).err();
            while failure.is_none() && next < requests.len() {
                // Answers may come without a pause in which a wait would notice.
                if self.interrupted() {
                    self.stop();
                    failure = Some(Failure::Interrupted);
                    break;
                }
                match self.receive(requests.len() - next >= BATCH) {
                    Ok(Reply::Attempt(outcome)) => {
                        next += 1;
                        if !each(next - 1, outcome) {
                            // The child would go on with the rest.
                            self.stop();
                            return;
                        }
                    }
                    Ok(Reply::CannotStart(error)) => failure = Some(Failure::CannotStart(error)),
                    Ok(_) => failure = Some(unexpected()),
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(failure) = failure {
                // A crash or a hang belongs to the request that was being tried; the others have a new child.
                let lost_one = matches!(failure, Failure::Crashed { .. } | Failure::Hung { .. });
                let outcome = Outcome::from(failure);
                loop {
                    next += 1;
                    if !each(next - 1, outcome.clone()) {
                        return;
                    }
                    if lost_one || next == requests.len() {
                        break;
                    }
                }
            }
        }
    }

    /// Makes up to `ceiling` queue pairs at once.
    ///
    /// # Errors
    /// The child gave no answer; what it held is freed with it.
    pub fn count(&mut self, device: &str, request: &QpRequest, ceiling: u32) -> Result<Counted, Failure> {
        let ask = Request::Count { provider: self.options.provider.clone(), device: device.to_owned(), request: request.clone(), ceiling };
        self.send(&ask)?;
        loop {
            match self.receive(false)? {
                Reply::Counting => {}
                Reply::Counted(counted) => return Ok(counted),
                Reply::CannotStart(error) => return Err(Failure::CannotStart(error)),
                _ => return Err(unexpected()),
            }
        }
    }

    /// Makes a queue pair and connects it with itself, by this entry of the GID table where its caller knows which is best.
    ///
    /// # Errors
    /// The child gave no answer.
    pub fn connect(&mut self, device: &str, port: u8, gid_index: Option<u8>, request: &QpRequest) -> Result<Connected, Failure> {
        let provider = self.options.provider.clone();
        let ask = Request::Connect { provider, device: device.to_owned(), port, gid_index, request: request.clone() };
        self.send(&ask)?;
        match self.receive(false)? {
            Reply::Connected(connected) => Ok(connected),
            Reply::CannotStart(error) => Err(Failure::CannotStart(error)),
            _ => Err(unexpected()),
        }
    }

    /// Tells the child to do something with its ends of connections. [`Worker::hear`] gives the answer.
    ///
    /// # Errors
    /// The child is lost, and with it all ends.
    pub fn tell(&mut self, command: &transfer::Command) -> Result<(), Failure> {
        self.send(&Request::Transfer { provider: self.options.provider.clone(), command: command.clone() })
    }

    /// The next answer to what the child was told.
    ///
    /// # Errors
    /// The child gave none in time, or died.
    pub fn hear(&mut self) -> Result<transfer::Answer, Failure> {
        match self.receive(false)? {
            Reply::Transfer(answer) => Ok(answer),
            Reply::CannotStart(error) => Err(Failure::CannotStart(error)),
            _ => Err(unexpected()),
        }
    }

    /// Longest wait for one answer.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.options.deadline
    }

    fn running(&mut self) -> Result<&mut Running, Failure> {
        if self.running.is_none() {
            self.running = Some(Running::start(&self.options).map_err(|error| Failure::Broken(error.to_string()))?);
        }
        self.running.as_mut().ok_or_else(unexpected)
    }

    pub(super) fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(request).map_err(|error| Failure::Broken(error.to_string()))?;
        line.push(b'\n');
        let sent = self.running()?.socket.write_all(&line);
        match sent {
            Ok(()) => Ok(()),
            Err(_) => Err(self.lost()),
        }
    }

    pub(super) fn receive(&mut self, is_batch: bool) -> Result<Reply, Failure> {
        let started = Instant::now();
        loop {
            let Some(running) = self.running.as_mut() else { return Err(unexpected()) };
            if let Some(length) = running.received[running.consumed..].iter().position(|byte| *byte == b'\n') {
                let line = running.consumed..running.consumed + length;
                running.consumed = line.end + 1;
                return serde_json::from_slice(&running.received[line]).map_err(|error| Failure::Broken(error.to_string()));
            }
            running.received.drain(..running.consumed);
            running.consumed = 0;
            if is_batch {
                // Nobody waits on the socket meanwhile, so the child goes on without a switch to this process after each answer.
                std::thread::sleep(BATCH_PAUSE);
            }
            match running.socket.read(&mut running.chunk) {
                Ok(0) => return Err(self.lost()),
                Ok(length) => running.received.extend_from_slice(&running.chunk[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    if self.options.interrupted.load(Ordering::Relaxed) {
                        self.stop();
                        return Err(Failure::Interrupted);
                    }
                    if started.elapsed() >= self.options.deadline {
                        let held_in = held_in(running.child.id());
                        self.stop();
                        return Err(Failure::Hung { deadline_ms: self.options.deadline.as_millis() as u64, held_in });
                    }
                }
                Err(_) => return Err(self.lost()),
            }
        }
    }

    /// The child closed its end: it died, and its status says of what.
    fn lost(&mut self) -> Failure {
        let Some(mut running) = self.running.take() else { return unexpected() };
        let printed = running.printed();
        match running.reap() {
            Some(status) => match status.signal() {
                Some(number) => {
                    let signal = Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string());
                    Failure::Crashed { signal, printed }
                }
                // A library that calls exit() or abort handlers of its own.
                None => Failure::Crashed { signal: format!("exit status {}", status.code().unwrap_or(-1)), printed },
            },
            None => Failure::Broken("its child closed the connection without ending".to_owned()),
        }
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.reap();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(options: &WorkerOptions) -> std::io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(SLICE))?;
        let printed = File::from(memfd_create(c"rdmadoctor-child-output", MFdFlags::MFD_CLOEXEC)?);
        let child = Command::new(&options.program)
            .arg(SUBCOMMAND)
            .args(crate::catalog::added::directory())
            // libibverbs then says on standard error which provider it could not load.
            .env("IBV_SHOW_WARNINGS", "1")
            // The driver would keep what it assembles in the user's home directory.
            .env("CUDA_CACHE_DISABLE", "1")
            // A kernel that is loaded when it is first started may wait for one that runs, and that one for what comes after it.
            .env("CUDA_MODULE_LOADING", "EAGER")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(printed.try_clone()?))
            .stderr(Stdio::from(printed.try_clone()?))
            // Ctrl-C is for the parent, which then ends the child in an orderly way.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket, chunk: vec![0; READ_BYTES], received: Vec::new(), consumed: 0, printed })
    }

    /// Kills the child and waits for it, but not for ever.
    fn reap(&mut self) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + REAP;
        // The socket is closed first, so a child that lives and listens ends by itself; kill makes sure.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            let _ = self.child.kill();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn printed(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        // The child shares the offset, so it is put back to the end for what is still to be printed.
        let _ = self.printed.seek(SeekFrom::Start(0));
        let _ = (&self.printed).take(PRINTED_BYTES).read_to_end(&mut bytes);
        let _ = self.printed.seek(SeekFrom::End(0));
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect()
    }
}

pub(super) fn unexpected() -> Failure {
    Failure::Broken("its child sent an answer to another question".to_owned())
}

/// Where the kernel holds a process: the function that it sleeps in, as /proc tells without privileges.
fn held_in(pid: u32) -> Option<String> {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    (!place.is_empty() && place != "0").then_some(place)
}
