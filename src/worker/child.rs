//! The child: is told its host, then answers one question after another. It keeps at most one attempt's objects alive.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::gpu::Gpus;
use super::question::{Line, Request};
use super::watching::Watching;
use super::{OpenDevice, OpenError, Target};
use crate::sim::Simulation;
use crate::transfer;
use crate::verbs::{DeviceList, LIBIBVERBS, LoadError, Verbs};

/// Serves one parent over standard input, which is a socket, until the parent goes away.
///
/// # Errors
/// Standard input is no socket, or the parent sent what this program does not understand.
pub fn serve() -> anyhow::Result<()> {
    // The parent may be killed at any moment; what this process holds on the device must not outlive it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    serve_on(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?))
}

pub(super) fn serve_on(socket: UnixStream) -> anyhow::Result<()> {
    let mut line = Line::new(socket)?;
    let Some(target) = line.hear()? else { return Ok(()) };
    let mut state = State::new(target);
    while let Some(request) = line.hear::<Request>()? {
        request.serve(&mut state, &mut line)?;
    }
    Ok(())
}

/// What the child keeps between questions.
pub struct State {
    /// What it works on.
    pub(super) target: Target,
    verbs: Option<Arc<Verbs>>,
    /// What `verbs` is made of, where it is no library.
    pub(super) simulation: Option<Simulation>,
    /// Made once: each list has the library read all of /sys/class/infiniband_verbs.
    list: Option<DeviceList>,
    open: Option<OpenDevice>,
    pub(super) gpus: Gpus,
    pub(super) ends: transfer::Ends,
    /// Watches the reading of files, once it has begun.
    pub(super) watching: Option<Watching>,
}

impl State {
    fn new(target: Target) -> Self {
        Self {
            ends: transfer::Ends::new(target.supply()),
            target,
            verbs: None,
            simulation: None,
            list: None,
            open: None,
            gpus: Gpus::default(),
            watching: None,
        }
    }

    /// The verbs library, loaded when it is first asked for.
    pub(super) fn verbs(&mut self) -> Result<Arc<Verbs>, OpenError> {
        if let Some(verbs) = &self.verbs {
            return Ok(verbs.clone());
        }
        // A crash is an expected result from here on; a core file of it would only fill the disk.
        let _ = setrlimit(Resource::RLIMIT_CORE, 1, 1);
        let verbs = Arc::new(match self.target.simulation() {
            None => Verbs::load(self.target.libibverbs()).map_err(OpenError::Library)?,
            Some(config) if config.is_library_missing => {
                return Err(OpenError::Library(LoadError::LibraryMissing { library: LIBIBVERBS.into() }));
            }
            Some(config) => {
                let simulation = Simulation::install(config).map_err(|error| {
                    OpenError::Library(LoadError::LibraryUnusable { library: "the simulated provider".into(), detail: error.to_string() })
                })?;
                self.simulation = Some(simulation);
                simulation.verbs()
            }
        });
        self.verbs = Some(verbs.clone());
        Ok(verbs)
    }

    /// A device, open. At most one is.
    pub(super) fn device(&mut self, name: &str) -> Result<&mut OpenDevice, OpenError> {
        if self.open.as_ref().is_none_or(|open| open.device() != name) {
            // Closed before the next one is opened.
            self.open = None;
            let verbs = self.verbs()?;
            self.open = Some(OpenDevice::open(&verbs, name)?);
        }
        self.open.as_mut().ok_or_else(|| OpenError::Unknown(name.to_owned()))
    }

    /// The list of devices.
    pub(super) fn listed(&mut self) -> Result<&DeviceList, OpenError> {
        if self.list.is_none() {
            let verbs = self.verbs()?;
            self.list = Some(DeviceList::new(&verbs).map_err(OpenError::Call)?);
        }
        self.list.as_ref().ok_or_else(|| OpenError::Unknown(String::new()))
    }
}
