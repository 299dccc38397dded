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
use nix::unistd::{ForkResult, Pid};

use super::process::{Process, serve_as_copy};
use super::question::{Message, Question, Request};
use super::{Lost, OpenError, Outcome, SUBCOMMAND, Target};
use crate::{sys, text};

/// How often a wait looks whether the user has interrupted it.
const SLICE: Duration = Duration::from_millis(100);
/// How long a portion of answers gathers.
const BATCH_PAUSE: Duration = Duration::from_millis(2);
/// How long a killed child may take to go away. One that the kernel holds uninterruptibly does not; it is left to init then.
const REAP: Duration = Duration::from_secs(2);
/// Most that is taken of the child's answers at once: some are hundreds of KiB.
const READ_BYTES: usize = 64 << 10;
/// How much of what a child printed is kept.
const PRINTED_BYTES: u64 = 64 * 1024;

/// The exit status of a Rust program that panicked.
const PANICKED: i32 = 101;

/// How children are started and waited for.
#[derive(Clone)]
pub struct WorkerOptions {
    /// The program that serves [`SUBCOMMAND`]; normally the running one.
    pub program: PathBuf,
    /// What it works on.
    pub target: Target,
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
    CannotStart(OpenError),
    /// The child died, or did not answer in time.
    #[error("{}", of_verbs(.0))]
    Lost(Lost),
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The child cannot be started or talked to.
    #[error("rdmadoctor cannot run its own child process: {0}")]
    Broken(String),
}

fn of_verbs(lost: &Lost) -> String {
    match lost {
        Lost::Crashed { signal, .. } => format!("the verbs library or a provider crashed with {signal}"),
        Lost::Hung { deadline_ms, .. } => format!("no answer from the verbs library in {deadline_ms} ms"),
        Lost::NotAsked => lost.to_string(),
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::CannotStart(OpenError::Call(error)) => Self::Refused { error },
            Failure::Lost(Lost::Crashed { signal, printed }) => Self::Crashed { signal, printed },
            Failure::Lost(Lost::Hung { deadline_ms, held_in }) => Self::Hung { deadline_ms, held_in },
            other => Self::NotRun { why: other.to_string() },
        }
    }
}

/// A child process that serves verbs, started when first needed and again after each loss.
pub struct Worker {
    options: WorkerOptions,
    /// Whether it loads no library, so that a copy of this process will do.
    only_files: bool,
    running: Option<Running>,
}

struct Running {
    child: Process,
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
        Self { options, only_files: false, running: None }
    }

    /// As [`Self::new`], for one that is asked for files alone.
    pub(crate) fn of_files(options: WorkerOptions) -> Self {
        Self { options, only_files: true, running: None }
    }

    /// Changes the longest wait for one answer.
    pub fn wait_at_most(&mut self, deadline: Duration) {
        self.options.deadline = deadline;
    }

    /// Whether the user has asked to stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    /// Asks the child, and waits for what comes of it.
    ///
    /// # Errors
    /// The child gave no answer, or could not begin.
    pub fn ask<Q: Question>(&mut self, question: Q) -> Result<Q::Answer, Failure> {
        self.follow(question, &mut |_| Ok(()))
    }

    /// As [`Self::ask`]. `each` hears what is told before the answer, and ends the child by an error.
    pub(super) fn follow<Q: Question>(
        &mut self,
        question: Q,
        each: &mut dyn FnMut(Q::Note) -> Result<(), Failure>,
    ) -> Result<Q::Answer, Failure> {
        self.send(question)?;
        loop {
            match self.receive::<Q>(false)? {
                Message::Note(note) => each(note).inspect_err(|_| self.stop())?,
                Message::Answer(answer) => return Ok(answer),
                Message::CannotStart(error) => return Err(Failure::CannotStart(error)),
            }
        }
    }

    /// Longest wait for one answer.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.options.deadline
    }

    /// What the child printed so far.
    pub(super) fn printed(&mut self) -> Vec<String> {
        self.running.as_mut().map(Running::printed).unwrap_or_default()
    }

    /// Sends a question; what comes of it is to be received.
    pub(super) fn send(&mut self, question: impl Into<Request>) -> Result<(), Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(error.to_string());
        let mut lines = Vec::new();
        if self.running.is_none() {
            // Its host is the first that a child is told.
            lines = serde_json::to_vec(&self.options.target).map_err(|error| broken(&error))?;
            lines.push(b'\n');
        }
        serde_json::to_writer(&mut lines, &question.into()).map_err(|error| broken(&error))?;
        lines.push(b'\n');
        let running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.options, self.only_files).map_err(|error| broken(&error))?,
        };
        self.running.insert(running).socket.write_all(&lines).map_err(|_| self.lost())
    }

    /// The next that the child says to a question.
    pub(super) fn receive<Q: Question>(&mut self, is_batch: bool) -> Result<Message<Q::Note, Q::Answer>, Failure> {
        let started = Instant::now();
        loop {
            let Some(running) = self.running.as_mut() else { return Err(none()) };
            if let Some(length) = running.received[running.consumed..].iter().position(|byte| *byte == b'\n') {
                let line = running.consumed..running.consumed + length;
                running.consumed = line.end + 1;
                return text::from_json(&running.received[line]).map_err(|error| Failure::Broken(error.to_string()));
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
                        return Err(Failure::Lost(Lost::Hung { deadline_ms: self.options.deadline.as_millis() as u64, held_in }));
                    }
                }
                Err(_) => return Err(self.lost()),
            }
        }
    }

    /// The child closed its end: it died, and its status says of what.
    fn lost(&mut self) -> Failure {
        let Some(mut running) = self.running.take() else { return none() };
        let status = running.reap();
        // All that it had to say is there once it has ended.
        let printed = running.printed();
        match status {
            // A fault of this program, which no library or provider is blamed for.
            Some(status) if status.code() == Some(PANICKED) && printed.iter().any(|line| line.contains("panicked at ")) => {
                Failure::Broken(format!("it panicked, which is a fault of rdmadoctor: {}", printed.join(" ")))
            }
            Some(status) => {
                let signal = match status.signal() {
                    Some(number) => Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string()),
                    // A library that calls exit() or abort handlers of its own.
                    None => format!("exit status {}", status.code().unwrap_or(-1)),
                };
                Failure::Lost(Lost::Crashed { signal, printed })
            }
            None => Failure::Broken("its child closed the connection without ending".to_owned()),
        }
    }

    pub(super) fn stop(&mut self) {
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
    fn start(options: &WorkerOptions, only_files: bool) -> std::io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(SLICE))?;
        let printed = File::from(memfd_create(c"rdmadoctor-child-output", MFdFlags::MFD_CLOEXEC)?);
        let parent = Pid::this();
        let child = match only_files.then(sys::fork).flatten() {
            Some(ForkResult::Child) => {
                drop(socket);
                serve_as_copy(theirs, &printed, parent)
            }
            Some(ForkResult::Parent { child }) => Process::Copy(child),
            None => Process::Program(Self::program(options, theirs, &printed)?),
        };
        Ok(Self { child, socket, chunk: vec![0; READ_BYTES], received: Vec::new(), consumed: 0, printed })
    }

    fn program(options: &WorkerOptions, theirs: UnixStream, printed: &File) -> std::io::Result<Child> {
        Command::new(&options.program)
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
            .spawn()
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
            self.child.kill();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn printed(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        // The child shares the offset, so it is put back to the end for what is still to be printed.
        let _ = self.printed.seek(SeekFrom::Start(0));
        let _ = (&self.printed).take(PRINTED_BYTES).read_to_end(&mut bytes);
        let _ = self.printed.seek(SeekFrom::End(0));
        String::from_utf8_lossy(&bytes).lines().map(|line| text::line(line).into_owned()).filter(|line| !line.trim().is_empty()).collect()
    }
}

fn none() -> Failure {
    Failure::Broken("there is no child that was asked".to_owned())
}

/// Where the kernel holds a process: the function that it sleeps in, as /proc tells without privileges.
fn held_in(pid: u32) -> Option<String> {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    (!place.is_empty() && place != "0").then_some(place)
}
