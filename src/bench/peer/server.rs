//! The side that serves: many clients, one after another or at once, each with a child process of its own.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::{Connection, Lost};
use super::frame::{HANDSHAKE_BYTES, REQUEST_BYTES};
use super::handshake::{Other, ServerHandshake, Step};
use super::limits::Limits;
use super::message::Reply;
use super::session::{Session, Turn};
use super::shares::Shares;
use super::strangers::{LATE, STRANGERS, Strangers};
use crate::bench::counters::Snapshot;
use crate::devices::Device;
use crate::host::net::address::Address;
use crate::transfer::{Answer, Command, Failure, TransferError};
use crate::worker::{Worker, WorkerOptions};

/// How long a client has to prove that it knows the token.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(900);
/// Clients at once, each with a child process.
const CLIENTS: usize = 16;
/// Threads at once: those of clients and strangers, and some of such as have just been put out. Until one of them ends, no connection is taken.
const THREADS: usize = STRANGERS + CLIENTS + 16;
/// How much longer than its bound a run may take before its client is let go.
const GRACE: Duration = Duration::from_secs(5);
const STACK: usize = 512 << 10;
/// How often it looks whether it is to end while nobody comes: seldom, as its host's processor may be the one that moves the data of a client.
const LOOK_MS: u8 = 100;
/// How long it waits where connections cannot be taken.
const PAUSE: Duration = Duration::from_millis(20);

/// What a server says of its work. It must not wait for anybody who reads.
pub type Talk = dyn Fn(&str) + Send + Sync;
/// Finds this host's devices and addresses anew.
pub type Describe = dyn Fn() -> (Vec<Device>, Vec<Address>) + Send + Sync;

/// Reads the counters of one of this host's devices, and of the interfaces below it.
pub type ReadCounters = dyn Fn(&str) -> Snapshot + Send + Sync;

/// How a server works.
pub struct ServerOptions {
    /// What clients must know.
    pub token: String,
    /// What they may ask.
    pub limits: Limits,
    /// How their child processes are run.
    pub worker: WorkerOptions,
    /// Finds this host's devices and addresses.
    pub describe: Box<Describe>,
    /// Reads the counters of a device that a client has open.
    pub counters: Box<ReadCounters>,
    /// Told of what happens.
    pub say: Box<Talk>,
    /// Ends after the first client.
    pub once: bool,
}

/// Listens.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    options: ServerOptions,
    strangers: Strangers,
    memory: Shares,
    clients: AtomicUsize,
    served: AtomicUsize,
}

impl Server {
    /// Binds to an address.
    ///
    /// # Errors
    /// The address is not this host's, or in use.
    pub fn bind(address: SocketAddr, options: ServerOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let shared = Shared {
            strangers: Strangers::default(),
            memory: Shares::new(options.limits.memory_bytes),
            clients: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            options,
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `interrupted`, and gives the number of clients that were served.
    pub fn serve(&self, interrupted: &Arc<AtomicBool>) -> usize {
        let mut number = 0_u64;
        let mut threads = Vec::new();
        while !interrupted.load(Ordering::Relaxed) {
            let has_served = self.shared.served.load(Ordering::Relaxed) > 0 && self.shared.clients.load(Ordering::Relaxed) == 0;
            if self.shared.options.once && has_served {
                break;
            }
            threads.retain(|thread: &std::thread::JoinHandle<()>| !thread.is_finished());
            self.shared.tell(self.shared.strangers.news(Instant::now(), false));
            if threads.len() >= THREADS {
                std::thread::sleep(PAUSE);
                continue;
            }
            match self.listener.accept() {
                Ok((stream, from)) => {
                    number += 1;
                    threads.extend(self.receive(stream, from, number, interrupted.clone()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK_MS));
                }
                // Too many open files, which passes.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        // What is left sees that it is to end, closes its sockets, and so its child processes.
        for thread in threads {
            let _ = thread.join();
        }
        self.shared.tell(self.shared.strangers.news(Instant::now(), true));
        self.shared.served.load(Ordering::Relaxed)
    }

    fn receive(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        number: u64,
        interrupted: Arc<AtomicBool>,
    ) -> Option<std::thread::JoinHandle<()>> {
        let shared = self.shared.clone();
        shared.strangers.come(number, stream.try_clone().ok()?);
        let builder = std::thread::Builder::new().name(format!("client-{number}")).stack_size(STACK);
        let started = builder.spawn(move || shared.client(stream, from, number, &interrupted));
        if started.is_err() {
            self.shared.strangers.leave(number);
        }
        started.ok()
    }
}

impl Shared {
    fn tell(&self, line: Option<String>) {
        if let Some(line) = line {
            (self.options.say)(&line);
        }
    }

    fn client(&self, stream: TcpStream, from: SocketAddr, number: u64, interrupted: &Arc<AtomicBool>) {
        let goes_on = || !interrupted.load(Ordering::Relaxed);
        let _ = stream.set_nonblocking(false);
        let shaken = Connection::new(stream, HANDSHAKE_BYTES)
            .map_err(|error| Lost::Broken(error.to_string()))
            .and_then(|connection| self.shake(connection, number, &goes_on));
        self.strangers.leave(number);
        let (mut connection, client) = match shaken {
            Ok(shaken) => shaken,
            Err(Lost::Interrupted) => return,
            Err(lost) => return self.tell(self.strangers.refused(from, &lost.to_string(), Instant::now())),
        };
        if self.clients.fetch_add(1, Ordering::Relaxed) < CLIENTS {
            (self.options.say)(&format!("{from}: a client, rdmadoctor {}", client.release));
            let ended = self.converse(&mut connection, &goes_on);
            (self.options.say)(&format!("{from}: ended: {ended}"));
            self.served.fetch_add(1, Ordering::Relaxed);
        } else {
            let _ = connection.say(&Reply::Refused(format!("{CLIENTS} clients are being served already; try again later")));
        }
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    fn shake(&self, mut connection: Connection, number: u64, goes_on: &dyn Fn() -> bool) -> Result<(Connection, Other), Lost> {
        let deadline = Instant::now() + HANDSHAKE;
        let broken = |refusal: super::Refusal| Lost::Broken(refusal.to_string());
        let (mut handshake, hello) = ServerHandshake::begin(&self.options.token).map_err(broken)?;
        connection.send(&hello)?;
        loop {
            let frame = connection.receive(deadline, goes_on)?;
            let step = handshake.step(&frame);
            let is_late = self.strangers.are_guessing(Instant::now());
            match step {
                Ok(Step::Wait) => {}
                Ok(Step::Done(proof, keys, client)) => {
                    // Strangers do not put it out any more, however long this takes.
                    self.strangers.leave(number);
                    if is_late {
                        wait(&mut connection, goes_on)?;
                    }
                    connection.send(&proof)?;
                    connection.seal(keys, REQUEST_BYTES);
                    return Ok((connection, client));
                }
                Err(refusal) => {
                    if refusal == super::Refusal::Token {
                        self.strangers.guessed(Instant::now());
                        if is_late {
                            wait(&mut connection, goes_on)?;
                        }
                    }
                    return Err(broken(refusal));
                }
            }
        }
    }

    /// Does what a client asks until it goes. Its child process, and with it all that it holds on a device, ends with this.
    fn converse(&self, connection: &mut Connection, goes_on: &dyn Fn() -> bool) -> String {
        // Given back after the child process has ended, in which the memory is.
        let mut memory = self.memory.share();
        let mut worker = Worker::new(self.options.worker.clone());
        let mut session = Session::new(self.options.limits);
        loop {
            let heard = connection.receive(Instant::now() + IDLE, goes_on).and_then(|payload| session.take(&payload));
            let done = heard.and_then(|turn| match turn {
                Turn::Describe => {
                    let (devices, addresses) = (self.options.describe)();
                    connection.say(&Reply::Devices(devices, addresses))
                }
                Turn::Counters(device) => connection.say(&Reply::Counters(Box::new((self.options.counters)(&device).bounded()))),
                Turn::Tell(command) => {
                    if let Command::Open(_, plan) = &*command
                        && let Err(why) = memory.hold(plan.most_bytes())
                    {
                        session.refused();
                        return connection.say(&Reply::Refused(why));
                    }
                    self.command(&mut worker, connection, &mut session, &command)?;
                    if session.is_open() { Ok(()) } else { memory.hold(0).map_err(Lost::Broken) }
                }
                Turn::Refuse(why) => connection.say(&Reply::Refused(why)),
                Turn::Finish | Turn::Nothing => Ok(()),
            });
            if let Err(lost) = done {
                return lost.to_string();
            }
        }
    }

    fn command(&self, worker: &mut Worker, connection: &mut Connection, session: &mut Session, command: &Command) -> Result<(), Lost> {
        let started = Instant::now();
        let longest = Duration::from_millis(self.options.limits.run_ms) + GRACE;
        let mut answer = worker.tell(command).and_then(|()| worker.hear());
        loop {
            let reply = match answer {
                Ok(answer) => Reply::Answer(Box::new(answer)),
                Err(crate::worker::Failure::Interrupted) => return Err(Lost::Interrupted),
                Err(failure) => failed(&failure),
            };
            let is_last = !matches!(&reply, Reply::Answer(answer) if matches!(**answer, Answer::Ready | Answer::Running(_)));
            if let Reply::Answer(answer) = &reply
                && let Answer::Opened(facts) = &**answer
            {
                session.opened(facts.memory_bytes);
            }
            if is_last {
                session.answered();
            }
            connection.say(&reply)?;
            if is_last {
                return Ok(());
            }
            // A client that neither ends its run nor goes would keep its place for ever.
            if started.elapsed() > longest {
                return Err(Lost::Broken(format!("its run was not ended within {} ms", longest.as_millis())));
            }
            // While a run goes on, nothing but its end may be asked.
            if let Some(payload) = connection.receive_now()?
                && session.take(&payload)? == Turn::Finish
            {
                let _ = worker.tell(&Command::Finish);
            }
            answer = worker.hear();
        }
    }
}

/// Has somebody wait for the answer to a proof, so that tokens are not tried fast.
fn wait(connection: &mut Connection, goes_on: &dyn Fn() -> bool) -> Result<(), Lost> {
    match connection.receive(Instant::now() + LATE, goes_on) {
        Err(Lost::Silent(_)) => Ok(()),
        Err(lost) => Err(lost),
        Ok(_) => Err(Lost::Broken("it said more before it was answered".to_owned())),
    }
}

/// What became of a child process, as its end's failure.
fn failed(failure: &crate::worker::Failure) -> Reply {
    let failure = Failure { trouble: TransferError::Unusable { why: failure.to_string() }, evidence: Vec::new() };
    Reply::Answer(Box::new(Answer::Failed(Box::new(failure))))
}
