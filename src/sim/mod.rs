//! The simulated provider: the table of verbs entry points over device models.
//!
//! [`install`] takes a [`SimConfig`] and gives a [`crate::verbs::Verbs`] like the one that a loaded library gives: its functions make
//! real `ibv_context`, `ibv_pd`, `ibv_qp`, … structures, so whatever works on a library works on it unchanged, the inline verbs of
//! verbs.h included. What a device grants, refuses and writes back is its model's word (`crate::catalog`); moving data, counting
//! objects and failing on demand is done here.
//!
//! **Data path.** A send runs when it is posted, as far as it can: the requester checks and gathers, makes a message of it, the
//! responder checks and answers, and the requester completes. One message of a queue pair is on its way at a time, so order is kept.
//! What must wait (a receiver that is not ready, a peer that does not answer) waits by a clock thread. Between processes, messages go
//! over Unix sockets in [`SimConfig::directory`]: each process listens on one, and serves its own queue pairs and memory, so keys,
//! bounds and access are checked where they are known and no process reads another's memory.
//!
//! **Connections.** [`Simulation::connection_manager`] gives the entry points of librdmacm over the same devices and the same links:
//! listeners are found by the addresses of the devices' interfaces, and a queue pair is up when ESTABLISHED is told. rdma_cm's own
//! queue pairs and domains, datagrams and synchronous identifiers are left out, and the death of a process raises no event.
//!
//! **Not simulated.** Memory windows, XRC, raw packets, multicast, timing of a real network, extended work-request and completion
//! interfaces, and what EFA's SRD sends: its queue pairs are made, by libefa's call, and walk through their states. A peer that stops without dying is given up after `ANSWER_TIMEOUT`.
//!
//! One lock guards each installation. C objects carry only a number, by which its state is found; what code outside gives as a pointer
//! is followed at the entry and nowhere else.

mod config;
mod connect;
mod control;
mod device;
mod events;
pub mod host;
pub(crate) mod host_tree;
mod inject;
mod link;
mod manager;
mod memory;
mod modify;
mod poll;
mod post;
mod provider;
mod queues;
mod requester;
mod responder;
mod seat;
mod table;
mod tally;
mod world;

pub use config::{GidType, ModelSource, SimConfig, SimDevice, SimGid, SimPort};
pub use host::HostModel;
pub(crate) use seat::Seat;
pub use tally::CounterFile;

use crate::verbs::{ConnectionManager, Verbs};

/// Why a simulation cannot be installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The catalog has no such model.
    #[error("there is no device model `{0}`; valid are {names}", names = crate::catalog::DeviceModel::names().join(", "))]
    UnknownModel(String),
    /// The directory where processes meet cannot be used.
    #[error("the simulation's directory cannot be used: {0}")]
    Directory(String),
    /// The file of what devices count cannot be used.
    #[error("the simulation's file of counters cannot be used: {0}")]
    CounterFile(String),
    /// A process has room for so many.
    #[error("{0} simulations are installed already, and none can be taken out")]
    TooMany(usize),
}

/// How many objects exist, for tests of what an application leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "verbs names each so")]
pub struct LiveObjects {
    pub contexts: usize,
    pub pds: usize,
    pub mrs: usize,
    pub channels: usize,
    pub cqs: usize,
    pub srqs: usize,
    pub qps: usize,
    pub ahs: usize,
    pub event_channels: usize,
    pub ids: usize,
}

/// An installed simulation: independent of any other one in the process, except through a common [`SimConfig::directory`].
#[derive(Clone, Copy)]
pub struct Simulation {
    slot: usize,
}

impl Simulation {
    /// Installs one. It stays until the process ends.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn install(config: SimConfig) -> Result<Self, InstallError> {
        provider::install(config).map(|slot| Self { slot })
    }

    /// Its entry points.
    #[must_use]
    pub fn verbs(self) -> Verbs {
        table::verbs(self.slot)
    }

    /// Its entry points of librdmacm.
    #[must_use]
    pub fn connection_manager(self) -> ConnectionManager {
        table::connection_manager(self.slot)
    }

    /// What applications hold of it now.
    #[must_use]
    pub fn live_objects(self) -> LiveObjects {
        provider::of_slot(self.slot).map_or_else(LiveObjects::default, |provider| {
            let world = provider.lock();
            LiveObjects {
                contexts: world.contexts.len(),
                pds: world.pds.len(),
                mrs: world.mrs.len(),
                channels: world.channels.len(),
                cqs: world.cqs.len(),
                srqs: world.srqs.len(),
                qps: world.qps.len(),
                ahs: world.ahs.len(),
                event_channels: world.event_queues.len(),
                ids: world.ids.len(),
            }
        })
    }
}

/// Installs a simulation and gives its entry points.
///
/// # Errors
/// [`InstallError`].
pub fn install(config: SimConfig) -> Result<Verbs, InstallError> {
    Simulation::install(config).map(Simulation::verbs)
}
