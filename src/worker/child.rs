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

use super::gpu::Gpus;
use super::protocol::{Reply, Request};
use super::watching::Watching;
use super::{Bench, GpuMemory, Inventory, OpenDevice, Provider, VerbsDevice, memory};
use crate::gpu::GpuForm;
use crate::host::{self, Root};
use crate::sim::Simulation;
use crate::transfer;
use crate::verbs::{ConnectionManager, Context, DeviceHandle, DeviceList, LIBIBVERBS, LoadError, Verbs};

/// Serves one parent over standard input, which is a socket, until the parent goes away.
///
/// # Errors
/// Standard input is no socket, or the parent sent what this program does not understand.
pub fn serve() -> anyhow::Result<()> {
    // The parent may be killed at any moment; what this process holds on the device must not outlive it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut lines = BufReader::new(socket.try_clone()?);
    let mut reply = Replies { socket, line: Vec::new() };
    let mut state = State::default();
    let mut watching = None;
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match serde_json::from_str(&line)? {
            Request::Read { files, part, asked } => {
                let watching = match &watching {
                    Some(watching) => watching,
                    None => watching.insert(Watching::start(&reply)?),
                };
                let facts = watching.during(|| part.read(&files.root(), &asked));
                // A large part takes its time to be written down too.
                reply.send(&Reply::Reading)?;
                reply.send(&Reply::Part(facts))?;
            }
            Request::List { provider } => {
                let inventory = state.list(&provider);
                reply.send(&Reply::Listed(inventory))?;
            }
            Request::Query { provider, device } => match state.query(&provider, &device) {
                Ok(device) => reply.send(&Reply::Queried(Box::new(device)))?,
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
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
                    let simulation = state.simulation;
                    let manager = || connection_manager(simulation);
                    let mut onlooker = Onlooker { lines: &mut lines, reply: &mut reply, told: Instant::now() };
                    let answer = state.ends.obey(&verbs, &manager, &command, &mut onlooker);
                    reply.send(&Reply::Transfer(answer))?;
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
            Request::Connect { provider, device, port, gid_index, request } => match state.device(&provider, &device) {
                Ok(open) => {
                    let connected = open.connect_to_itself(port, gid_index, &request);
                    reply.send(&Reply::Connected(connected))?;
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
            Request::Register { provider, device, bytes } => match state.device(&provider, &device) {
                Ok(open) => {
                    // A size that no address space holds is refused like any other that is too large.
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    let registration = open.domain().try_host_memory(bytes).into();
                    reply.send(&Reply::Registered(registration))?;
                }
                Err(error) => reply.send(&Reply::CannotStart(error))?,
            },
            Request::GpuMemory { provider, gpu, form, device } => {
                let tried = state.gpu_memory(&provider, (&gpu, form), device.as_deref());
                reply.send(&Reply::GpuMemory(Box::new(tried)))?;
            }
            Request::Objects => reply.send(&Reply::Objects(host::rdma_objects::read(&Root::default())))?,
            Request::Gpu(request) => reply.send(&Reply::Gpu(state.gpus.answer(&request)))?,
        }
    }
}

/// librdmacm, or the simulation's, or why there is none.
fn connection_manager(simulation: Option<Simulation>) -> Result<Arc<ConnectionManager>, String> {
    match simulation {
        // The real one knows nothing of simulated devices, and must not be touched.
        Some(simulation) => Ok(Arc::new(simulation.connection_manager())),
        None => ConnectionManager::load().map(Arc::new).map_err(|error| error.to_string()),
    }
}

/// How often the parent is told how far a run or a reading is. It runs then, and may take the processor from what is measured.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(250);

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

/// Where replies go.
pub(super) struct Replies {
    socket: UnixStream,
    line: Vec<u8>,
}

impl Replies {
    /// The same place, for another thread.
    pub(super) fn another(&self) -> std::io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, line: Vec::new() })
    }

    /// One write a reply, so that what was done before a crash is known.
    pub(super) fn send(&mut self, reply: &Reply) -> anyhow::Result<()> {
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
    /// What `verbs` is made of, where it is no library.
    simulation: Option<Simulation>,
    /// Made once: each list has the library read all of /sys/class/infiniband_verbs.
    list: Option<DeviceList>,
    open: Option<Bench>,
    gpus: Gpus,
    ends: transfer::Ends,
}

impl State {
    fn verbs(&mut self, provider: &Provider) -> Result<Arc<Verbs>, OpenDevice> {
        if let Some(verbs) = &self.verbs {
            return Ok(verbs.clone());
        }
        // A crash is an expected result from here on; a core file of it would only fill the disk.
        let _ = setrlimit(Resource::RLIMIT_CORE, 1, 1);
        let verbs = Arc::new(match provider {
            Provider::Library(path) => Verbs::load(path.as_deref()).map_err(OpenDevice::Library)?,
            Provider::Simulated(config) if config.is_library_missing => {
                return Err(OpenDevice::Library(LoadError::LibraryMissing { library: LIBIBVERBS.into() }));
            }
            Provider::Simulated(config) => {
                let simulation = Simulation::install(config.clone()).map_err(|error| {
                    OpenDevice::Library(LoadError::LibraryUnusable { library: "the simulated provider".into(), detail: error.to_string() })
                })?;
                self.simulation = Some(simulation);
                simulation.verbs()
            }
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

    fn gpu_memory(&mut self, provider: &Provider, gpu: (&str, GpuForm), name: Option<&str>) -> GpuMemory {
        // Taken out, since the device is held at the same time.
        let mut gpus = std::mem::take(&mut self.gpus);
        let device = name.map(|name| self.device(provider, name));
        let tried = memory::try_gpu(&mut gpus, gpu, device, name);
        self.gpus = gpus;
        tried
    }

    fn listed(&mut self, provider: &Provider) -> Result<&DeviceList, OpenDevice> {
        if self.list.is_none() {
            let verbs = self.verbs(provider)?;
            self.list = Some(DeviceList::new(&verbs).map_err(OpenDevice::Call)?);
        }
        self.list.as_ref().ok_or_else(|| OpenDevice::Unknown(String::new()))
    }

    fn list(&mut self, provider: &Provider) -> Inventory {
        if let Err(OpenDevice::Library(error)) = self.verbs(provider) {
            return Inventory { library_error: Some(error), ..Inventory::default() };
        }
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
        match self.listed(provider) {
            Ok(list) => Inventory {
                devices: list.iter().map(|handle| unopened(&handle)).collect(),
                connection_manager_error,
                ..Inventory::default()
            },
            Err(OpenDevice::Call(error)) => Inventory { list_error: Some(error), connection_manager_error, ..Inventory::default() },
            Err(_) => Inventory { connection_manager_error, ..Inventory::default() },
        }
    }

    fn query(&mut self, provider: &Provider, name: &str) -> Result<VerbsDevice, OpenDevice> {
        let list = self.listed(provider)?;
        let handle = list.iter().find(|handle| handle.name() == name).ok_or_else(|| OpenDevice::Unknown(name.to_owned()))?;
        let mut device = unopened(&handle);
        match handle.open() {
            Ok(context) => device.query(&context),
            Err(error) => device.error = Some(error),
        }
        Ok(device)
    }
}

/// What is known of a device that was not opened.
fn unopened(handle: &DeviceHandle<'_>) -> VerbsDevice {
    let (node_type, transport_type) = handle.types();
    VerbsDevice { name: handle.name(), node_type, transport_type, error: None, loss: None, attributes: None, ports: Vec::new() }
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
