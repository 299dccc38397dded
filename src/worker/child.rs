//! The child: loads verbs, does what it is told, keeps at most one attempt's objects alive.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::protocol::{Reply, Request};
use super::{Bench, Inventory, OpenDevice, Provider, VerbsDevice};
use crate::sim;
use crate::transfer;
use crate::verbs::{ConnectionManager, Context, DeviceList, LIBIBVERBS, LoadError, Verbs};

/// Serves one parent over standard input, which is a socket, until the parent goes away.
///
/// # Errors
/// Standard input is no socket, or the parent sent what this program does not understand.
pub fn serve() -> anyhow::Result<()> {
    // The parent may be killed at any moment; what this process holds on the device must not outlive it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // A crash here is an expected result; a core file of it would only fill the disk.
    setrlimit(Resource::RLIMIT_CORE, 1, 1)?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut lines = BufReader::new(socket.try_clone()?);
    let mut reply = Replies { socket, line: Vec::new() };
    let mut state = State::default();
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match serde_json::from_str(&line)? {
            Request::Inventory { provider } => {
                let inventory = state.inventory(&provider);
                reply.send(&Reply::Inventory(inventory))?;
            }
            Request::Attempts { provider, device, requests } => match state.device(&provider, &device) {
                Ok(open) => {
                    for request in &requests {
                        reply.send(&Reply::Attempt(open.attempt(request)))?;
                    }
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
            Request::Count { provider, device, request, ceiling } => match state.device(&provider, &device) {
                Ok(open) => {
                    let counted = open.count(&request, ceiling, &mut || reply.send(&Reply::Counting).is_ok());
                    reply.send(&Reply::Counted(counted))?;
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
            // Came too late for the run that it was to end.
            Request::Transfer { command: transfer::Command::Finish, .. } => {}
            Request::Transfer { provider, command } => match state.verbs(&provider) {
                Ok(verbs) => {
                    let manager = || connection_manager(&provider);
                    let mut onlooker = Onlooker { lines: &mut lines, reply: &mut reply, told: Instant::now() };
                    let answer = state.ends.obey(&verbs, &manager, &command, &mut onlooker);
                    reply.send(&Reply::Transfer(answer))?;
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
            Request::Connect { provider, device, port, request } => match state.device(&provider, &device) {
                Ok(open) => {
                    let connected = open.connect_to_itself(port, &request);
                    reply.send(&Reply::Connected(connected))?;
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
        }
    }
}

/// librdmacm, or why there is none.
fn connection_manager(provider: &Provider) -> Result<Arc<ConnectionManager>, String> {
    match provider {
        Provider::Library(_) => ConnectionManager::load().map(Arc::new).map_err(|error| error.to_string()),
        // The real one knows nothing of simulated devices, and must not be touched.
        Provider::Simulated(_) => Err("modelled hosts have no connection manager".to_owned()),
    }
}

/// How often the parent is told how far a run is.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Tells the parent how far a run is, and listens whether it is to end.
struct Onlooker<'a> {
    lines: &'a mut BufReader<UnixStream>,
    reply: &'a mut Replies,
    told: Instant,
}

impl transfer::Host for Onlooker<'_> {
    fn ready(&mut self) {
        // A parent that is gone is noticed soon.
        let _ = self.reply.send(&Reply::Transfer(transfer::Answer::Ready));
    }

    fn told(&mut self, progress: transfer::Progress) -> transfer::Order {
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            if self.reply.send(&Reply::Transfer(transfer::Answer::Running(progress))).is_err() {
                return transfer::Order::Abandon;
            }
        }
        let mut files = [PollFd::new(self.lines.get_ref().as_fd(), PollFlags::POLLIN)];
        if self.lines.buffer().is_empty() && poll(&mut files, PollTimeout::ZERO) != Ok(1) {
            return transfer::Order::GoOn;
        }
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(length) if length > 0 => match serde_json::from_str(&line) {
                Ok(Request::Transfer { command: transfer::Command::Finish, .. }) => transfer::Order::Finish,
                _ => transfer::Order::Abandon,
            },
            _ => transfer::Order::Abandon,
        }
    }
}

struct Replies {
    socket: UnixStream,
    line: Vec<u8>,
}

impl Replies {
    /// One write a reply, so that what was done before a crash is known.
    fn send(&mut self, reply: &Reply) -> anyhow::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, reply)?;
        self.line.push(b'\n');
        self.socket.write_all(&self.line)?;
        Ok(())
    }
}

#[derive(Default)]
struct State {
    verbs: Option<Arc<Verbs>>,
    open: Option<Bench>,
    ends: transfer::Ends,
}

impl State {
    fn verbs(&mut self, provider: &Provider) -> Result<Arc<Verbs>, OpenDevice> {
        if let Some(verbs) = &self.verbs {
            return Ok(verbs.clone());
        }
        let verbs = Arc::new(match provider {
            Provider::Library(path) => Verbs::load(path.as_deref()).map_err(OpenDevice::Library)?,
            Provider::Simulated(config) if config.is_library_missing => {
                return Err(OpenDevice::Library(LoadError::LibraryMissing { library: LIBIBVERBS.into() }));
            }
            Provider::Simulated(config) => sim::install(config.clone()).map_err(|error| {
                OpenDevice::Library(LoadError::LibraryUnusable { library: "the simulated provider".into(), detail: error.to_string() })
            })?,
        });
        self.verbs = Some(verbs.clone());
        Ok(verbs)
    }

    fn device(&mut self, provider: &Provider, name: &str) -> Result<&mut Bench, OpenDevice> {
        if self.open.as_ref().is_none_or(|open| open.device() != name) {
            // Closed before the next one is opened.
            self.open = None;
            let verbs = self.verbs(provider)?;
            self.open = Some(Bench::open(&verbs, name)?);
        }
        self.open.as_mut().ok_or_else(|| OpenDevice::Unknown(name.to_owned()))
    }

    fn inventory(&mut self, provider: &Provider) -> Inventory {
        let verbs = match self.verbs(provider) {
            Ok(verbs) => verbs,
            Err(OpenDevice::Library(error)) => return Inventory { library_error: Some(error), ..Inventory::default() },
            Err(_) => return Inventory::default(),
        };
        let connection_manager_error = match provider {
            // The real one knows nothing of simulated devices, and must not be touched.
            Provider::Simulated(_) => None,
            Provider::Library(_) => match ConnectionManager::load() {
                Ok(manager) => {
                    manager.probe().err().map(|errno| format!("rdma_create_event_channel: {}", crate::verbs::ErrorNumber(errno)))
                }
                Err(error) => Some(error.to_string()),
            },
        };
        let list = match DeviceList::new(&verbs) {
            Ok(list) => list,
            Err(error) => return Inventory { list_error: Some(error), connection_manager_error, ..Inventory::default() },
        };
        let devices = list
            .iter()
            .map(|handle| {
                let (node_type, transport_type) = handle.types();
                let mut device =
                    VerbsDevice { name: handle.name(), node_type, transport_type, error: None, attributes: None, ports: Vec::new() };
                match handle.open() {
                    Ok(context) => device.query(&context),
                    Err(error) => device.error = Some(error),
                }
                device
            })
            .collect();
        Inventory { devices, connection_manager_error, ..Inventory::default() }
    }
}

impl VerbsDevice {
    fn query(&mut self, context: &Context) {
        match context.query_device() {
            Ok(attributes) => {
                // Port numbers are a byte in verbs; a device that claims more is asked for what can be addressed.
                let ports = u8::try_from(attributes.ports).unwrap_or(u8::MAX);
                for port in 1..=ports {
                    match context.query_port(port) {
                        Ok(attributes) => self.ports.push(attributes),
                        Err(error) => self.error = Some(error),
                    }
                }
                self.attributes = Some(attributes);
            }
            Err(error) => self.error = Some(error),
        }
    }
}
