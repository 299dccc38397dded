//! What a child works on: told once, when it starts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::Root;
use crate::sim::HostModel;
use crate::sim::SimConfig;
use crate::sim::host::HugePages;
use crate::transfer::{Simulated, Supply};

/// Size of the huge pages that memory is asked for in.
const HUGE_PAGE_KIB: u64 = 2048;

/// What a child works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This machine.
    Live {
        /// Where its files are: `/`, or where those of another one are mounted.
        root: PathBuf,
        /// The verbs library in place of the one that the dynamic linker finds.
        libibverbs: Option<PathBuf>,
    },
    /// Simulated devices; all else is this machine's.
    Devices(SimConfig),
    /// A modelled host.
    Modelled(Box<ModelledHost>),
}

/// A modelled host, and where it meets others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelledHost {
    /// The host.
    pub model: HostModel,
    /// Where its devices count what they carry, for whoever wants to know.
    pub tallies: Option<PathBuf>,
    /// The directory in which it meets others.
    pub network: Option<PathBuf>,
    /// Whether data is moved from and to GPUs of this machine.
    pub has_local_gpus: bool,
}

impl Target {
    /// This machine as it is.
    #[must_use]
    pub fn live() -> Self {
        Self::Live { root: PathBuf::from("/"), libibverbs: None }
    }

    /// The modelled host, where it is one.
    pub(super) fn model(&self) -> Option<&HostModel> {
        match self {
            Self::Live { .. } | Self::Devices(_) => None,
            Self::Modelled(host) => Some(&host.model),
        }
    }

    /// Whether GPUs of this machine may be used.
    pub(super) fn has_local_gpus(&self) -> bool {
        !matches!(self, Self::Modelled(host) if !host.has_local_gpus)
    }

    /// Whose memory data is moved from and to.
    pub(super) fn supply(&self) -> Supply {
        let free = |pages: &HugePages| if pages.page_kib == HUGE_PAGE_KIB { pages.free } else { 0 };
        self.model().map_or(Supply::Machine, |model| Supply::Modelled {
            huge_pages: model.huge_pages.iter().map(free).sum(),
            has_gpus: self.has_local_gpus(),
        })
    }

    /// Where its files are.
    pub(super) fn root(&self) -> Root {
        match self {
            Self::Live { root, .. } => Root::dir(root),
            Self::Devices(_) => Root::default(),
            Self::Modelled(host) => host.model.root(),
        }
    }

    /// The verbs library to load in place of the usual one.
    pub(super) fn libibverbs(&self) -> Option<&Path> {
        match self {
            Self::Live { libibverbs, .. } => libibverbs.as_deref(),
            Self::Devices(_) | Self::Modelled(_) => None,
        }
    }

    /// What simulates its devices.
    pub(super) fn simulated(&self) -> Option<Simulated> {
        let network = match self {
            Self::Live { .. } => return None,
            Self::Devices(config) => config.directory.as_ref(),
            Self::Modelled(host) => host.network.as_ref(),
        };
        // Another process may call it by another name.
        Some(Simulated { network: network.map(|directory| directory.canonicalize().unwrap_or_else(|_| directory.clone())) })
    }

    /// The devices that stand for real ones; absent where a library is loaded.
    pub(super) fn simulation(&self) -> Option<SimConfig> {
        match self {
            Self::Live { .. } => None,
            Self::Devices(config) => Some(config.clone()),
            Self::Modelled(host) => Some(host.simulation()),
        }
    }
}

impl ModelledHost {
    /// Its verbs.
    #[must_use]
    pub fn simulation(&self) -> SimConfig {
        SimConfig { tallies: self.tallies.clone(), directory: self.network.clone(), counts_own_faults: true, ..self.model.simulation() }
    }
}
